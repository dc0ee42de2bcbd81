//! One machine: its folder, what state it is in, and who works on it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Config, Forward, replace};
use crate::error::{Code, Error, OfFile, Result};
use crate::home::Home;
use crate::tree::{Resume, Tree};

/// How long an operation waits for another one on the same machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a running machine has for an answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// Beyond so many bytes the log of what was done starts anew; the old one stays beside it.
const MOST_LOG: u64 = 1 << 20;

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is off.
    Stopped,
    /// It runs.
    Running,
    /// It stands still, in memory.
    Paused,
    /// It stands still, on the disk: the next start goes on from there.
    Saved,
    /// Its process ended without saying so: killed, or with the host. It starts as after a power failure.
    Crashed,
}

impl State {
    /// As lists have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Saved => "saved",
            Self::Crashed => "crashed",
        }
    }

    /// Whether there is a process.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// `run.json`: the process that runs a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The process.
    pub pid: u32,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// Which start of the host.
    pub boot: Option<String>,
}

/// A line of a list.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: State,
    /// Its process.
    pub pid: Option<u32>,
    /// Processors.
    pub cpus: usize,
    /// RAM, in bytes.
    pub memory_bytes: u64,
    /// What its folder takes of the host's disk, in bytes.
    pub disk_bytes: u64,
    /// Since when it runs, in Unix seconds.
    pub since: Option<u64>,
    /// Ports of the host that lead into it.
    pub ports: Vec<Forward>,
    /// What it is for.
    pub note: String,
    /// What is wrong with its description, if it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A machine's folder, which may have gone since.
#[derive(Clone, Debug)]
pub struct Machine {
    home: Home,
    name: String,
    folder: PathBuf,
}

/// Held by who works on a machine.
#[derive(Debug)]
pub struct Working {
    _lock: File,
}

impl Machine {
    pub(crate) fn new(home: Home, name: String) -> Self {
        let folder = home.machines_folder().join(&name);
        Self { home, name, folder }
    }

    /// The machine whose folder this is.
    ///
    /// # Errors
    /// It is no machine's.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let refuse = || {
            Error::invalid(
                format!("{}: expected a machine's folder", folder.display()),
                "start machines by their names: `glassbox start NAME`",
            )
        };
        let folder = std::path::absolute(folder).of(folder, "cannot be found")?;
        let name = folder.file_name().and_then(|name| name.to_str());
        let root = folder.parent().and_then(Path::parent);
        let (name, root) = name.zip(root).ok_or_else(refuse)?;
        let machine = Self::new(Home::at(root), name.into());
        match machine.exists() && machine.folder == folder {
            true => Ok(machine),
            false => Err(refuse()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The home that it is in.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Whether it is there. A link is none: it may lead anywhere.
    pub fn exists(&self) -> bool {
        let is_folder = fs::symlink_metadata(&self.folder).is_ok_and(|folder| folder.is_dir());
        let description = fs::symlink_metadata(self.description());
        is_folder && description.is_ok_and(|file| file.is_file())
    }

    /// The file with what the user decided.
    pub fn description(&self) -> PathBuf {
        self.folder.join("machine.toml")
    }

    /// The file with its tree.
    pub fn tree_path(&self) -> PathBuf {
        self.folder.join("tree.json")
    }

    /// The folder with its layers.
    pub fn disks(&self) -> PathBuf {
        self.folder.join("disks")
    }

    /// The folder of a snapshot.
    pub fn snapshot_folder(&self, snapshot: &str) -> PathBuf {
        self.folder.join("snapshots").join(snapshot)
    }

    /// Where `glassbox suspend` saves it.
    pub fn saved_folder(&self) -> PathBuf {
        self.folder.join("saved")
    }

    /// Its control socket.
    pub fn control_path(&self) -> PathBuf {
        self.folder.join("control")
    }

    /// Its screen's socket.
    pub fn screen_path(&self) -> PathBuf {
        self.folder.join("vnc")
    }

    fn run_path(&self) -> PathBuf {
        self.folder.join("run.json")
    }

    /// What the user decided.
    ///
    /// # Errors
    /// The file cannot be read or used.
    pub fn config(&self) -> Result<Config> {
        Config::read(&self.description())
    }

    /// Its snapshots and layers.
    ///
    /// # Errors
    /// The file cannot be read or used.
    pub fn tree(&self) -> Result<Tree> {
        Tree::read(&self.tree_path())
    }

    /// Whether a process has it.
    pub fn is_live(&self) -> bool {
        let Ok(file) = File::open(self.folder.join("running")) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// The process that has it, or had it when it crashed.
    pub fn run(&self) -> Option<Run> {
        let text = fs::read_to_string(self.run_path()).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// What it does.
    pub fn state(&self) -> State {
        if self.is_live() {
            let status = self.call("status", json!({}));
            let paused = status.is_ok_and(|status| status["state"] == "paused");
            return if paused {
                State::Paused
            } else {
                State::Running
            };
        }
        if self.tree().is_ok_and(|tree| tree.resume.is_some()) {
            return State::Saved;
        }
        match self.run_path().exists() {
            true => State::Crashed,
            false => State::Stopped,
        }
    }

    /// A line of a list; what is wrong with its description stands in there.
    pub fn summary(&self) -> Summary {
        let state = self.state();
        let (config, error) = match self.config() {
            Ok(config) => (config, None),
            Err(error) => (Config::default(), Some(error.to_string())),
        };
        let run = self.run().filter(|_| state.is_live());
        Summary {
            name: self.name.clone(),
            state,
            pid: run.as_ref().map(|run| run.pid),
            cpus: config.machine.cpus,
            memory_bytes: config.machine.memory,
            disk_bytes: folder_bytes(&self.folder),
            since: run.map(|run| run.since),
            ports: config.forwards(),
            note: config.note,
            error,
        }
    }

    /// Asks the process that runs it.
    ///
    /// # Errors
    /// It does not run, does not answer, or refuses.
    pub fn call(&self, verb: &str, arguments: Value) -> Result<Value> {
        self.call_for(verb, arguments, ANSWER)
    }

    /// Asks the process that runs it, which has so long for an answer.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub fn call_for(&self, verb: &str, arguments: Value, patience: Duration) -> Result<Value> {
        let mut client = self.connect()?;
        client
            .set_timeout(patience)
            .of(&self.control_path(), "cannot be used")?;
        client.call(verb, arguments).map_err(|error| match error {
            control::Error::Refused { code, message } => Error::new(
                match code.as_str() {
                    "wrong-state" => Code::WrongState,
                    "not-found" => Code::NotFound,
                    "no-room" => Code::NoRoom,
                    "invalid" | "bad-request" => Code::Invalid,
                    _ => Code::Host,
                },
                format!("{}: {message}", self.name),
                "",
            ),
            other => Error::new(
                Code::Busy,
                format!("{}: the machine does not answer: {other}", self.name),
                format!("try again, or `glassbox stop {} --force`", self.name),
            ),
        })
    }

    /// A connection to the process that runs it.
    ///
    /// # Errors
    /// It does not run, or cannot be reached.
    pub fn connect(&self) -> Result<control::Client> {
        if !self.is_live() {
            return Err(self.not_running());
        }
        control::Client::connect(&self.control_path(), ANSWER).map_err(|error| {
            Error::new(
                Code::Busy,
                format!("{}: the machine cannot be reached: {error}", self.name),
                format!("try again, or `glassbox stop {} --force`", self.name),
            )
        })
    }

    pub(crate) fn not_running(&self) -> Error {
        Error::new(
            Code::WrongState,
            format!(
                "{}: expected a machine that runs, found it {}",
                self.name,
                {
                    match self.run_path().exists() {
                        true => "crashed",
                        false => "stopped",
                    }
                }
            ),
            format!("start it: `glassbox start {}`", self.name),
        )
    }

    /// Waits until nobody else works on it, and keeps others away until the end of what this returns.
    ///
    /// # Errors
    /// Somebody works on it for long, or it has gone.
    pub fn work(&self, what: &str) -> Result<Working> {
        let path = self.folder.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .of(&path, "cannot be opened")?;
        let until = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    let mut who = String::new();
                    let _ = file.take(200).read_to_string(&mut who);
                    return Err(Error::new(
                        Code::Busy,
                        format!("{}: somebody else works on it: {}", self.name, who.trim()),
                        "wait until that is done",
                    ));
                }
                // A host without locks goes on without.
                Err(TryLockError::Error(error))
                    if error.kind() == std::io::ErrorKind::Unsupported =>
                {
                    break;
                }
                Err(TryLockError::Error(error)) => {
                    return Err(Error::host(&path, "cannot be locked", error));
                }
            }
        }
        if !self.exists() {
            return Err(Error::new(
                Code::MachineNotFound,
                format!("{}: the machine has been deleted", self.name),
                "",
            ));
        }
        let _ = file.set_len(0);
        let _ = file.seek(SeekFrom::Start(0));
        let _ = write!(file, "{what} (process {})", std::process::id());
        Ok(Working { _lock: file })
    }

    /// The process that runs it takes it: only one can.
    ///
    /// # Errors
    /// Another process has it.
    pub fn take(&self) -> Result<Running> {
        let path = self.folder.join("running");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .of(&path, "cannot be opened")?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    Code::WrongState,
                    format!("{}: the machine runs already", self.name),
                    "",
                ));
            }
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(Error::host(&path, "cannot be locked", error));
            }
        }
        let run = Run {
            pid: std::process::id(),
            since: now(),
            boot: host::processes::boot_id(),
        };
        let text = serde_json::to_string(&run)
            .map_err(|error| Error::host(&self.run_path(), "cannot be written", error))?;
        replace(&self.run_path(), &text)?;
        Ok(Running {
            run: self.run_path(),
            _lock: file,
        })
    }

    /// Notes what was done to it, by whom.
    pub fn note(&self, did: &str, detail: &str) {
        let line = json!({
            "time": now(),
            "did": did,
            "detail": detail,
            "by": std::env::args().next().map_or_else(String::new, |program| {
                let name = Path::new(&program).file_name().unwrap_or_default();
                let words = std::env::args().skip(1).take(2);
                let words = words.collect::<Vec<_>>().join(" ");
                format!("{} {words}", name.display())
            }),
        });
        let path = self.folder.join("log.jsonl");
        if fs::metadata(&path).is_ok_and(|file| file.len() > MOST_LOG) {
            let _ = fs::rename(&path, self.folder.join("log.1.jsonl"));
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        // One call, so that lines of two processes do not mix.
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = written {
            log::warn!(target: "manager", "{}: cannot be written: {error}", path.display());
        }
    }

    /// What was done to it: time in Unix seconds, what, detail, by which command; oldest first.
    pub fn notes(&self) -> Vec<Value> {
        let texts = ["log.1.jsonl", "log.jsonl"].map(|name| fs::read(self.folder.join(name)));
        let texts = texts.into_iter().flatten();
        let lines = texts.flat_map(|text| {
            let text = String::from_utf8_lossy(&text).into_owned();
            text.lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect::<Vec<Value>>()
        });
        lines.collect()
    }

    /// The last bytes that the guest wrote to its first serial port, at most `most` of them.
    pub fn serial_tail(&self, most: u64) -> Vec<u8> {
        tail(&self.folder.join("serial.log"), most)
    }

    /// The last bytes that its process said of itself.
    pub(crate) fn last_words(&self) -> String {
        let words = tail(&self.folder.join("run.log"), 2000);
        let words = String::from_utf8_lossy(&words).into_owned();
        let last = words.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or_default().to_owned()
    }

    /// What it starts with next.
    pub(crate) fn resume_folder(&self, tree: &Tree) -> Option<PathBuf> {
        match tree.resume.as_ref()? {
            Resume::Saved => Some(self.saved_folder()),
            Resume::Snapshot(name) => Some(self.snapshot_folder(name).join("memory")),
        }
    }
}

/// A process has the machine.
#[derive(Debug)]
pub struct Running {
    run: PathBuf,
    _lock: File,
}

impl Running {
    /// The machine has ended, and not by a crash.
    pub fn ended(self) {
        let _ = fs::remove_file(&self.run);
    }
}

/// Now, in Unix seconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn tail(path: &Path, most: u64) -> Vec<u8> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(len.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().unwrap_or_default()
}

/// What the files in a folder take of the host's disk, in bytes.
fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => host::files::taken_bytes(&metadata),
        Err(_) => 0,
    });
    bytes.sum()
}
