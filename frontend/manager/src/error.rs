//! What went wrong, as the command line and the API both say it.

use std::fmt;
use std::path::Path;

/// What kind of refusal an [`Error`] is. Its name is the API's `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// There is no machine of that name.
    MachineNotFound,
    /// There is no snapshot of that name.
    SnapshotNotFound,
    /// There is no such source, drive or file.
    NotFound,
    /// The name is in use.
    NameInUse,
    /// It is no name, number or option that can be meant.
    Invalid,
    /// The machine is in a state in which that cannot be done.
    WrongState,
    /// Somebody else works on the machine.
    Busy,
    /// The host lacks room or memory for it.
    NoRoom,
    /// A port is in use.
    PortInUse,
    /// A machine that was started did not come up.
    StartFailed,
    /// A download does not have the checksum that its publisher gives.
    Checksum,
    /// The host refused.
    Host,
}

impl Code {
    /// As the API has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MachineNotFound => "machine-not-found",
            Self::SnapshotNotFound => "snapshot-not-found",
            Self::NotFound => "not-found",
            Self::NameInUse => "name-in-use",
            Self::Invalid => "invalid",
            Self::WrongState => "wrong-state",
            Self::Busy => "busy",
            Self::NoRoom => "no-room",
            Self::PortInUse => "port-in-use",
            Self::StartFailed => "start-failed",
            Self::Checksum => "checksum",
            Self::Host => "host",
        }
    }

    /// The exit status of a command that it ends: 2 where another command line would do.
    pub fn status(self) -> u8 {
        match self {
            Self::MachineNotFound
            | Self::SnapshotNotFound
            | Self::NotFound
            | Self::NameInUse
            | Self::Invalid => 2,
            _ => 1,
        }
    }
}

/// A refusal: one line, and what to do. Nothing is half done then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind.
    pub code: Code,
    /// What was expected and what was found.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What can be refused.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let one_line = |text: String| -> String {
            let lines = text.lines().map(str::trim);
            lines.collect::<Vec<_>>().join(" ")
        };
        Self {
            code,
            message: one_line(message.into()),
            hint: one_line(hint.into()),
        }
    }

    /// The host's refusal of something about a file.
    pub fn host(path: &Path, what: &str, error: impl fmt::Display) -> Self {
        let message = format!("{}: {what}: {error}", path.display());
        Self::new(Code::Host, message, "")
    }

    /// What is refused because of what the user wrote.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message, hint)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.hint.is_empty() {
            true => Ok(()),
            false => write!(f, "; {}", self.hint),
        }
    }
}

impl std::error::Error for Error {}

/// Gives the host's refusals the file's name.
pub(crate) trait OfFile<T> {
    /// `what` says what failed, such as `cannot be written`.
    fn of(self, path: &Path, what: &str) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> OfFile<T> for std::result::Result<T, E> {
    fn of(self, path: &Path, what: &str) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            let mut made = Error::host(path, what, &error);
            if matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ) {
                made.code = Code::NoRoom;
                made.hint = "make room on that disk, and try again".into();
            }
            made
        })
    }
}
