//! Output that nobody has to wait for.
//!
//! A reader may be slow, stop, or go away: a pipe into `less`, a FIFO that nobody opened, a disk that is full. So each
//! stream of the guest's has a thread that alone opens and writes, and a queue in front of it. The queue takes whatever
//! comes; who fills it looks at [`Outlet::is_full`] before it makes more, and waits where limits
//! and signals still count.
//!
//! Here is also what the program itself says ([`print`], [`say`]): without a panic where nobody reads it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use host::files::is_fifo;
use host::output::{is_stdout_on_disk, unlocked_stdout};
use host::threads::unless;

/// A queue above this is full.
const FULL_BYTES: usize = 1 << 20;
/// What is written at once: as much as a pipe takes whole, so that every bit of progress is seen.
const PIECE_BYTES: usize = 4096;
/// How long a line on standard error may take: the last one must not keep the process.
const LINE: Duration = Duration::from_secs(1);
/// How often output that would block is tried again.
const LOOK: Duration = Duration::from_millis(10);

/// Output that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// Whoever read it has closed the pipe: nothing is to be said about that.
    #[error("standard output: nobody reads it any more")]
    Closed,
    /// The host refuses it.
    #[error("{name}: expected room for the output, found: {error}; {hint}")]
    Failed {
        /// The option or file.
        name: String,
        /// What the host said.
        error: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Nobody has read it, and the time to wait for that is over.
    #[error("{name}: expected a reader, found none that takes the output; it is given up")]
    Unread {
        /// The option or file.
        name: String,
    },
}

impl Unwritten {
    fn new(name: &str, error: io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space, or choose another place"
            }
            _ => "choose another place",
        };
        Self::Failed {
            name: name.to_owned(),
            error,
            hint,
        }
    }

    /// The exit status: 141 is what a shell says of a program that a closed pipe ended (128 + SIGPIPE).
    pub fn status(&self) -> u8 {
        match self {
            Self::Closed => 141,
            Self::Failed { .. } | Self::Unread { .. } => 1,
        }
    }
}

/// Where an outlet leads.
#[derive(Debug)]
pub enum To {
    /// Standard output.
    Stdout,
    /// A file that is open.
    File(File),
    /// A FIFO, which is opened once somebody reads it.
    Fifo(PathBuf),
}

impl To {
    /// Opens a file for output and empties it; a FIFO is left to the thread that writes.
    ///
    /// # Errors
    /// A host failure.
    pub fn create(path: &Path) -> io::Result<Self> {
        if is_fifo(path) {
            return Ok(Self::Fifo(path.to_owned()));
        }
        File::create(path).map(Self::File)
    }

    /// The same, but a file keeps what is in it: output goes on behind that.
    ///
    /// # Errors
    /// A host failure.
    pub fn append(path: &Path) -> io::Result<Self> {
        if is_fifo(path) {
            return Ok(Self::Fifo(path.to_owned()));
        }
        let file = File::options().append(true).create(true).open(path);
        file.map(Self::File)
    }

    fn open(self) -> io::Result<Box<dyn Write>> {
        Ok(match self {
            Self::Stdout => unlocked_stdout()?,
            Self::File(file) => Box::new(file),
            Self::Fifo(path) => Box::new(File::create(path)?),
        })
    }

    /// Whether somebody must read what goes there, who may leave it: it is no file on a disk.
    fn has_reader(&self) -> bool {
        match self {
            Self::Stdout => !is_stdout_on_disk(),
            Self::File(file) => !file.metadata().is_ok_and(|metadata| metadata.is_file()),
            Self::Fifo(_) => true,
        }
    }
}

/// What the two ends of an outlet share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    /// There is an error to be taken.
    failed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<u8>,
    /// Bytes that the thread has taken and not yet written.
    writing: usize,
    /// When the reader last took something.
    progress: Option<Instant>,
    /// Nothing more will be written: whoever pushes drops it.
    ended: bool,
    error: Option<Unwritten>,
}

impl State {
    fn waiting(&self) -> usize {
        self.queue.len() + self.writing
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream of bytes that leaves by a thread of its own, which ends with the process.
#[derive(Debug)]
pub struct Outlet {
    name: String,
    shared: Arc<Shared>,
    /// What came since the last flush: handed over at once, for the sake of the lock.
    pending: Vec<u8>,
    has_reader: bool,
}

impl Outlet {
    /// An outlet to `to`, which the option `name` asked for. Each time it has written, or failed, it puts a note into
    /// `progress`, if there is room for one.
    ///
    /// # Errors
    /// The host has no thread for it.
    pub fn new(name: String, to: To, progress: Sender<()>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let has_reader = to.has_reader();
        let (theirs, their_name) = (Arc::clone(&shared), name.clone());
        std::thread::Builder::new()
            .name("outlet".into())
            .spawn(move || write_all(&their_name, to, &theirs, &progress))?;
        Ok(Self {
            name,
            shared,
            pending: Vec::new(),
            has_reader,
        })
    }

    /// Whether somebody reads it, who may stop: it is no file on a disk.
    pub fn has_reader(&self) -> bool {
        self.has_reader
    }

    /// Adds bytes, which [`flush`](Self::flush) hands over.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Hands over what was added.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        if !state.ended {
            if state.waiting() == 0 {
                state.progress = Some(Instant::now());
            }
            state.queue.extend_from_slice(&self.pending);
            self.shared.filled.notify_one();
        }
        self.pending.clear();
    }

    /// So much waits that whoever fills it should wait as well.
    pub fn is_full(&self) -> bool {
        self.shared.lock().waiting() > FULL_BYTES
    }

    /// Everything that was handed over is written, or never will be.
    pub fn is_drained(&self) -> bool {
        self.shared.lock().waiting() == 0
    }

    /// For how long the reader has taken nothing, though something waits.
    pub fn stalled(&self) -> Duration {
        let state = self.shared.lock();
        match state.progress {
            Some(since) if state.waiting() > 0 => since.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Drops what waits, and what comes: with the error for that, where anything is lost.
    pub fn give_up(&mut self) -> Option<Unwritten> {
        let mut state = self.shared.lock();
        let lost = !state.ended && state.waiting() > 0;
        state.ended = true;
        state.queue = Vec::new();
        state.writing = 0;
        lost.then(|| Unwritten::Unread {
            name: self.name.clone(),
        })
    }

    /// Why the output ended, once.
    pub fn take_error(&self) -> Option<Unwritten> {
        if !self.shared.failed.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.shared.lock().error.take()
    }
}

/// The thread of an outlet.
fn write_all(name: &str, to: To, shared: &Shared, progress: &Sender<()>) {
    let is_stdout = matches!(to, To::Stdout);
    let end = |error: io::Error| {
        let error = match error.kind() {
            io::ErrorKind::BrokenPipe if is_stdout => Unwritten::Closed,
            _ => Unwritten::new(name, error),
        };
        let mut state = shared.lock();
        state.queue = Vec::new();
        state.writing = 0;
        if !std::mem::replace(&mut state.ended, true) {
            state.error = Some(error);
            shared.failed.store(true, Ordering::Release);
        }
        drop(state);
        let _ = progress.try_send(());
    };
    let mut file = match to.open() {
        Ok(file) => file,
        Err(error) => return end(error),
    };
    loop {
        let taken = {
            let mut state = shared.lock();
            while state.queue.is_empty() && !state.ended {
                let waited = shared.filled.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
            if state.ended {
                return;
            }
            state.writing = state.queue.len();
            std::mem::take(&mut state.queue)
        };
        for piece in taken.chunks(PIECE_BYTES) {
            if let Err(error) = write_piece(&mut file, piece) {
                return end(error);
            }
            let mut state = shared.lock();
            if state.ended {
                return;
            }
            state.writing -= piece.len();
            state.progress = Some(Instant::now());
            drop(state);
            let _ = progress.try_send(());
        }
    }
}

/// Writes all of `piece`, also to what somebody else has made non-blocking.
fn write_piece(file: &mut dyn Write, mut piece: &[u8]) -> io::Result<()> {
    while !piece.is_empty() {
        match file.write(piece) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => piece = &piece[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            Err(error) => return Err(error),
        }
    }
    file.flush()
}

/// Writes `bytes` to a file in place of what it had. A FIFO, or a device, is waited for until `give_up`; a file on a
/// disk is written in any case.
///
/// # Errors
/// The host refuses, or nobody reads it.
pub fn write_file(
    name: &str,
    path: &Path,
    bytes: Vec<u8>,
    mut give_up: impl FnMut() -> bool,
) -> Result<(), Unwritten> {
    let blocks = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let to = path.to_owned();
    let written = unless(move || std::fs::write(to, bytes), || blocks && give_up());
    match written {
        Some(result) => result.map_err(|error| Unwritten::new(name, error)),
        None => Err(Unwritten::Unread {
            name: name.to_owned(),
        }),
    }
}

/// Prints to standard output, at once.
///
/// # Errors
/// The pipe is closed, or the host refuses.
pub fn print(text: &str) -> Result<(), Unwritten> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    check_stdout(written)
}

/// Reads the result of a write to standard output.
///
/// # Errors
/// The pipe is closed, or the host refuses.
pub fn check_stdout(written: io::Result<()>) -> Result<(), Unwritten> {
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Unwritten::Closed,
        _ => Unwritten::new("standard output", error),
    })
}

/// Says a line on standard error. Where that cannot be written nothing can be said about it, and where nobody reads it
/// the line is left behind.
pub fn say(line: &str) {
    let text = format!("{line}\n");
    let begun = Instant::now();
    unless(
        move || {
            let _ = io::stderr().write_all(text.as_bytes());
        },
        || begun.elapsed() > LINE,
    );
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, bounded};

    use super::*;

    fn wait_for(what: impl Fn() -> bool) {
        let limit = Instant::now() + Duration::from_secs(30);
        while !what() {
            assert!(Instant::now() < limit, "waited in vain");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn outlet(to: To) -> (Outlet, Receiver<()>) {
        let (sender, receiver) = bounded(1);
        (Outlet::new("--x".into(), to, sender).unwrap(), receiver)
    }

    #[test]
    fn what_goes_on_stands_behind_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, "before ").unwrap();
        let (mut outlet, progress) = outlet(To::append(&path).unwrap());
        outlet.push(b"behind");
        outlet.flush();
        wait_for(|| {
            let _ = progress.try_recv();
            outlet.is_drained()
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before behind");
    }

    #[test]
    fn everything_arrives_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let (mut outlet, progress) = outlet(To::create(&path).unwrap());
        for byte in 0..100_000u32 {
            outlet.push(&[byte as u8]);
            if byte % 777 == 0 {
                outlet.flush();
            }
        }
        outlet.flush();
        wait_for(|| outlet.is_drained());
        assert!(progress.recv().is_ok());
        assert!(outlet.take_error().is_none());
        let expected: Vec<u8> = (0..100_000u32).map(|byte| byte as u8).collect();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn a_full_disk_is_told_once_and_ends_the_output() {
        if !Path::new("/dev/full").exists() {
            eprintln!("skipped: no /dev/full on this host");
            return;
        }
        let (mut outlet, _progress) = outlet(To::create(Path::new("/dev/full")).unwrap());
        outlet.push(&[1]);
        outlet.flush();
        wait_for(|| outlet.is_drained());
        let error = outlet.take_error().unwrap();
        assert_eq!(error.status(), 1);
        let said = error.to_string();
        assert!(
            said.starts_with("--x: ") && said.contains("free some space"),
            "{said}"
        );
        outlet.push(&[1]);
        outlet.flush();
        assert!(outlet.is_drained());
        assert!(outlet.take_error().is_none() && outlet.give_up().is_none());
    }

    #[test]
    fn a_fifo_that_nobody_opens_fills_up_and_can_be_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no `mkfifo` program");
            return;
        }
        let (mut outlet, _progress) = outlet(To::create(&path).unwrap());
        assert!(!outlet.is_full());
        outlet.push(&vec![0; FULL_BYTES + 1]);
        outlet.flush();
        assert!(outlet.is_full() && !outlet.is_drained());
        wait_for(|| outlet.stalled() > Duration::from_millis(5));
        assert!(outlet.give_up().is_some());
        assert!(outlet.is_drained() && outlet.stalled().is_zero());
        let given_up = write_file("--y", &path, vec![1], || true).unwrap_err();
        assert!(given_up.to_string().starts_with("--y: expected a reader"));
    }
}
