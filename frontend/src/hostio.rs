//! Where serial ports and the debug console lead on the host.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender, bounded};
pub use host::terminal::RawTerminal;

use crate::outlet::{self, Outlet, To, Unwritten};
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
    /// Whoever connects to this socket.
    Socket(PathBuf),
    /// Whoever connects to this port.
    Port(std::net::SocketAddr),
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
                _ if option == "--serial" => Self::parse_socket(option, text),
                _ => bail!("{option} {text}: expected stdio, none or file:PATH"),
            },
        }
    }
}

impl Place {
    /// Whether clients connect to it.
    pub fn is_socket(&self) -> bool {
        matches!(self, Self::Socket(_) | Self::Port(_))
    }

    /// Reads `unix:PATH` or `tcp:[HOST:]PORT`.
    fn parse_socket(option: &str, text: &str) -> Result<Self> {
        let refuse = || {
            anyhow::anyhow!(
                "{option} {text}: expected stdio, none, file:PATH, unix:PATH or tcp:[HOST:]PORT"
            )
        };
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Socket(path.into()));
        }
        let place = text.strip_prefix("tcp:").ok_or_else(refuse)?;
        let (host, port) = place.rsplit_once(':').unwrap_or(("127.0.0.1", place));
        let host = match host.trim_matches(['[', ']']) {
            "localhost" => "127.0.0.1",
            "" => "0.0.0.0",
            host => host,
        };
        let host = host.parse().map_err(|_| refuse())?;
        let port = port.parse().map_err(|_| refuse())?;
        Ok(Self::Port(std::net::SocketAddr::new(host, port)))
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

/// A place at which text leaves a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Serial port of this number, 0 = COM1.
    Serial(u8),
    /// The debug console.
    DebugConsole,
}

impl Port {
    /// The port that the device with this instance name is, if it is one.
    pub fn of(device: &str) -> Option<Self> {
        Some(match device {
            "com1" => Self::Serial(0),
            "com2" => Self::Serial(1),
            "com3" => Self::Serial(2),
            "com4" => Self::Serial(3),
            "debug_port" => Self::DebugConsole,
            _ => return None,
        })
    }
}

/// How long a disk may take for a write: it may be in another house.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// What became of output that could not be written.
#[derive(Debug)]
pub struct Loss {
    /// Why.
    pub error: Unwritten,
    /// It went to standard output, which is what the run was for.
    pub stdout: bool,
}

/// A stream's end on the host.
struct Sink {
    outlet: Outlet,
    stdout: bool,
}

impl Sink {
    fn open(
        option: &str,
        place: &Place,
        goes_on: bool,
        progress: &Sender<()>,
    ) -> Result<Option<Self>> {
        match place {
            // Sockets hear of it from the events.
            Place::None | Place::Socket(_) | Place::Port(_) => Ok(None),
            Place::Stdio => Self::new("standard output".to_owned(), To::Stdout, progress),
            Place::File(path) => {
                let name = format!("{option} file:{}", path.display());
                Self::to_file(name, path, goes_on, progress)
            }
        }
    }

    fn to_file(
        name: String,
        path: &Path,
        goes_on: bool,
        progress: &Sender<()>,
    ) -> Result<Option<Self>> {
        let open = if goes_on { To::append } else { To::create };
        let to =
            open(path).with_context(|| format!("{name}: expected a file that can be written"))?;
        Self::new(name, to, progress)
    }

    fn new(name: String, to: To, progress: &Sender<()>) -> Result<Option<Self>> {
        let stdout = matches!(to, To::Stdout);
        let outlet = Outlet::new(name, to, progress.clone());
        Ok(Some(Self {
            outlet: outlet.context("expected a thread for the guest's output")?,
            stdout,
        }))
    }
}

/// The host's ends of the serial ports, the debug console, and sound that goes to a file.
pub struct Wires {
    serial: Vec<Option<Sink>>,
    debugcon: Option<Sink>,
    sound: Option<Sink>,
    progress: Receiver<()>,
    sender: Sender<()>,
}

impl Wires {
    /// Opens them; files are emptied, unless the output `goes_on` where a saved machine's stopped.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn open(serial: &[Place], debugcon: &Place, goes_on: bool) -> Result<Self> {
        let (sender, progress) = bounded(1);
        let sinks = serial
            .iter()
            .map(|place| Sink::open("--serial", place, goes_on, &sender));
        Ok(Self {
            serial: sinks.collect::<Result<_>>()?,
            debugcon: Sink::open("--debugcon", debugcon, goes_on, &sender)?,
            sound: None,
            progress,
            sender,
        })
    }

    /// Opens a file for sound. It is emptied, unless the sound `goes_on` behind what is in it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open_sound(&mut self, path: &Path, goes_on: bool) -> Result<()> {
        let name = format!("--sound wav:{}", path.display());
        self.sound = Sink::to_file(name, path, goes_on, &self.sender)?;
        Ok(())
    }

    /// Sound for the file.
    pub fn send_sound(&mut self, bytes: &[u8]) {
        if let Some(sink) = &mut self.sound {
            sink.outlet.push(bytes);
        }
    }

    /// Bytes left the machine at `port`.
    pub fn send(&mut self, port: Port, bytes: &[u8]) {
        let sink = match port {
            Port::Serial(number) => self.serial.get_mut(usize::from(number)),
            Port::DebugConsole => Some(&mut self.debugcon),
        };
        if let Some(Some(sink)) = sink {
            sink.outlet.push(bytes);
        }
    }

    /// Hands on what is buffered: at slice borders.
    pub fn flush(&mut self) {
        self.sinks_mut().for_each(|sink| sink.outlet.flush());
    }

    /// More waits for a reader than should: the guest had better wait as well.
    pub fn are_full(&self) -> bool {
        self.sinks().any(|sink| sink.outlet.is_full())
    }

    /// All that was handed on has been written, or is lost.
    pub fn are_drained(&self) -> bool {
        self.sinks().all(|sink| sink.outlet.is_drained())
    }

    /// Gets a note when something was written or lost.
    pub fn progress(&self) -> &Receiver<()> {
        &self.progress
    }

    /// Output that was lost since this was last asked.
    pub fn take_loss(&self) -> Option<Loss> {
        self.sinks().find_map(|sink| {
            let error = sink.outlet.take_error()?;
            let stdout = sink.stdout;
            Some(Loss { error, stdout })
        })
    }

    /// Gives up what nobody has taken for `patience`; a file on a disk gets more of that.
    pub fn give_up(&mut self, patience: Duration) -> Vec<Unwritten> {
        let stalled = |sink: &&mut Sink| {
            let patience = match sink.outlet.has_reader() {
                true => patience,
                false => patience.max(DISK_PATIENCE),
            };
            sink.outlet.stalled() >= patience
        };
        let sinks = self.sinks_mut().filter(stalled);
        sinks.filter_map(|sink| sink.outlet.give_up()).collect()
    }

    fn sinks(&self) -> impl Iterator<Item = &Sink> {
        let serial = self.serial.iter();
        serial.chain([&self.debugcon, &self.sound]).flatten()
    }

    fn sinks_mut(&mut self) -> impl Iterator<Item = &mut Sink> {
        let serial = self.serial.iter_mut();
        let others = [&mut self.debugcon, &mut self.sound];
        serial.chain(others).flatten()
    }
}

const CTRL_A: u8 = 0x01;
const CTRL_RIGHT_BRACKET: u8 = 0x1D;

/// How many reads of standard input wait for the guest at most.
const STDIN_READS: usize = 16;

/// Where standard input goes to, and comes from: what the guest does not take waits in the host's pipe.
pub fn stdin_queue() -> (Sender<Vec<u8>>, Receiver<Vec<u8>>) {
    bounded(STDIN_READS)
}

/// Hands standard input to serial port `port`, raw where it is a terminal. Ctrl-] or Ctrl-A X leaves;
/// Ctrl-A Ctrl-A sends one Ctrl-A.
///
/// # Errors
/// The terminal cannot be set up.
pub fn read_stdin(
    port: u8,
    to: Sender<Vec<u8>>,
    control: Sender<Control>,
) -> Result<Option<RawTerminal>> {
    let terminal = io::stdin().is_terminal();
    let raw = match terminal {
        true => {
            let raw = RawTerminal::enter(false).context("--serial stdio: the terminal refused")?;
            outlet::say(&format!(
                "glassbox: COM{} is this terminal; Ctrl-] leaves\r",
                port + 1
            ));
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
            if !terminal {
                if to.send(buf[..count].to_vec()).is_err() {
                    return;
                }
                continue;
            }
            let (bytes, leave) = filter_keys(&buf[..count], &mut prefix);
            // A guest that reads nothing loses what is typed: the key that leaves must come through.
            let _ = to.try_send(bytes);
            if leave {
                let _ = control.send(Control::Stop(Stop::Closed));
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
        assert!(Place::parse("--serial", "tcp:1").is_ok_and(|place| place.is_socket()));
        assert!(Place::parse("--serial", "tcp:x").is_err());
        assert!(Place::parse("--serial", "unix:").is_err());
        assert!(Place::parse("--debugcon", "tcp:1").is_err());
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
