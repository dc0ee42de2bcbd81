//! Where serial ports and the debug console lead on the host.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use crossbeam_channel::Sender;

use crate::runner::{Control, Stop};

/// Where a stream of bytes leads, as an option says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere; the report keeps it all the same.
    None,
    /// Standard input and output.
    Stdio,
    /// A file.
    File(PathBuf),
}

impl Place {
    /// Reads an option's value.
    ///
    /// # Errors
    /// It is none of the forms.
    pub fn parse(option: &str, text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "stdio" => Ok(Self::Stdio),
            _ => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() => {
                    let path = PathBuf::from(path);
                    check_output(option, &path)?;
                    Ok(Self::File(path))
                }
                _ => bail!("{option} {text}: expected stdio, none or file:PATH"),
            },
        }
    }
}

/// Checks that a file could be written at `path`, without writing.
///
/// # Errors
/// Its folder is not there, or it is a directory or read-only.
pub fn check_output(option: &str, path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        bail!(
            "{option} {}: expected a file in a folder that exists; make the folder first",
            path.display()
        );
    }
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => bail!(
            "{option} {}: expected a file, found a directory; name a file in it",
            path.display()
        ),
        Ok(metadata) if metadata.permissions().readonly() => bail!(
            "{option} {}: expected a file that can be written, found it read-only; \
             choose another name",
            path.display()
        ),
        _ => Ok(()),
    }
}

enum Sink {
    None,
    Stdout,
    File(BufWriter<File>),
}

impl Sink {
    fn open(option: &str, place: &Place) -> Result<Self> {
        Ok(match place {
            Place::None => Self::None,
            Place::Stdio => Self::Stdout,
            Place::File(path) => {
                let file = File::create(path).with_context(|| {
                    format!(
                        "{option} {}: expected a file that can be written",
                        path.display()
                    )
                })?;
                Self::File(BufWriter::new(file))
            }
        })
    }

    /// A reader that has gone away must not end the guest: failures are dropped.
    fn write(&mut self, bytes: &[u8]) {
        let _ = match self {
            Self::None => Ok(()),
            Self::Stdout => io::stdout().write_all(bytes),
            Self::File(file) => file.write_all(bytes),
        };
    }

    fn flush(&mut self) {
        let _ = match self {
            Self::None => Ok(()),
            Self::Stdout => io::stdout().flush(),
            Self::File(file) => file.flush(),
        };
    }
}

/// The host's ends of the serial ports and the debug console.
pub struct Wires {
    serial: Vec<Sink>,
    debugcon: Sink,
}

impl Wires {
    /// Opens them; files are emptied.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn open(serial: &[Place], debugcon: &Place) -> Result<Self> {
        let sinks = serial.iter().map(|place| Sink::open("--serial", place));
        Ok(Self {
            serial: sinks.collect::<Result<_>>()?,
            debugcon: Sink::open("--debugcon", debugcon)?,
        })
    }

    /// A byte left serial port `port`.
    pub fn serial(&mut self, port: u8, byte: u8) {
        if let Some(sink) = self.serial.get_mut(usize::from(port)) {
            sink.write(&[byte]);
        }
    }

    /// A byte was written to the debug console.
    pub fn debugcon(&mut self, byte: u8) {
        self.debugcon.write(&[byte]);
    }

    /// Hands on what is buffered: at slice borders.
    pub fn flush(&mut self) {
        self.serial.iter_mut().for_each(Sink::flush);
        self.debugcon.flush();
    }
}

static RAW: AtomicBool = AtomicBool::new(false);
static ALTERNATE: AtomicBool = AtomicBool::new(false);

/// The terminal in raw mode, for as long as this lives.
pub struct RawTerminal;

impl RawTerminal {
    /// Switches to raw mode; `alternate`: on a screen of its own.
    ///
    /// # Errors
    /// A host failure.
    pub fn enter(alternate: bool) -> io::Result<Self> {
        crossterm::terminal::enable_raw_mode()?;
        RAW.store(true, Ordering::SeqCst);
        let raw = Self;
        if alternate {
            crossterm::execute!(
                io::stdout(),
                crossterm::terminal::EnterAlternateScreen,
                crossterm::cursor::Hide
            )?;
            ALTERNATE.store(true, Ordering::SeqCst);
        }
        Ok(raw)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore_terminal();
    }
}

/// Puts the terminal back as it was: on every way out, panics and signals among them.
pub fn restore_terminal() {
    if ALTERNATE.swap(false, Ordering::SeqCst) {
        let _ = crossterm::execute!(
            io::stdout(),
            crossterm::style::ResetColor,
            crossterm::terminal::LeaveAlternateScreen,
            crossterm::cursor::Show
        );
    }
    if RAW.swap(false, Ordering::SeqCst) {
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

const CTRL_A: u8 = 0x01;
const CTRL_RIGHT_BRACKET: u8 = 0x1D;

/// Hands standard input to serial port `port`, raw where it is a terminal. Ctrl-] or Ctrl-A X leaves;
/// Ctrl-A Ctrl-A sends one Ctrl-A.
///
/// # Errors
/// The terminal cannot be set up.
pub fn read_stdin(port: u8, to: Sender<Control>) -> Result<Option<RawTerminal>> {
    let terminal = io::stdin().is_terminal();
    let raw = match terminal {
        true => {
            let raw = RawTerminal::enter(false).context("--serial stdio: the terminal refused")?;
            eprint!(
                "glassbox: COM{} is this terminal; Ctrl-] leaves\r\n",
                port + 1
            );
            Some(raw)
        }
        false => None,
    };
    // The thread ends with the process: a blocked read cannot be called back.
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buf = [0; 256];
        let mut prefix = false;
        loop {
            let count = match stdin.read(&mut buf) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let (bytes, leave) = match terminal {
                true => filter_keys(&buf[..count], &mut prefix),
                false => (buf[..count].to_vec(), false),
            };
            let sent = to.send(Control::Serial(port, bytes));
            if leave {
                let _ = to.send(Control::Stop(Stop::Closed));
            }
            if sent.is_err() || leave {
                return;
            }
        }
    });
    Ok(raw)
}

/// Takes out the keys that are for us; returns what is for the guest, and whether to leave.
fn filter_keys(bytes: &[u8], prefix: &mut bool) -> (Vec<u8>, bool) {
    let mut guest = Vec::new();
    for &byte in bytes {
        match (std::mem::take(prefix), byte) {
            (true, b'x' | b'X') | (false, CTRL_RIGHT_BRACKET) => return (guest, true),
            (false, CTRL_A) => *prefix = true,
            (true, CTRL_A) | (false, _) => guest.push(byte),
            (true, other) => guest.extend([CTRL_A, other]),
        }
    }
    (guest, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_parsed() {
        assert_eq!(Place::parse("--serial", "none").unwrap(), Place::None);
        assert_eq!(Place::parse("--serial", "stdio").unwrap(), Place::Stdio);
        assert!(Place::parse("--serial", "file:").is_err());
        assert!(Place::parse("--serial", "tcp:1").is_err());
        let error = Place::parse("--serial", "file:/nowhere/at/all").unwrap_err();
        assert!(error.to_string().contains("make the folder first"));
    }

    #[test]
    fn ctrl_bracket_and_ctrl_a_x_leave() {
        let mut prefix = false;
        assert_eq!(filter_keys(b"ab\x1Dc", &mut prefix), (b"ab".to_vec(), true));
        assert_eq!(filter_keys(b"a\x01", &mut prefix), (b"a".to_vec(), false));
        assert_eq!(filter_keys(b"x", &mut prefix), (Vec::new(), true));
        prefix = false;
        assert_eq!(
            filter_keys(b"\x01\x01\x01b", &mut prefix),
            (b"\x01\x01b".to_vec(), false)
        );
    }
}
