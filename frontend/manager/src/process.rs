//! Starting and ending the processes that run machines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Code, Error, OfFile, Result};
use crate::layers;
use crate::machine::{Machine, State};
use crate::tree::Resume;

/// How long a process has to come up: it may have to bring gigabytes of memory back.
const COMES_UP: Duration = Duration::from_secs(120);
/// What a process needs beside the guest's memory, in bytes.
const OVERHEAD: u64 = 48 << 20;
/// How long the guest has to shut down where nobody says.
pub const SHUTS_DOWN: Duration = Duration::from_secs(90);
/// How long a process has to end once it is told to.
const ENDS: Duration = Duration::from_secs(10);

/// The line that a process says once its machine runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// It runs.
    Ready,
}

/// How [`Machine::start`] starts.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The guest is to stand still until it is told to go on.
    pub paused: bool,
    /// It is to start though the host says that it has no memory for it.
    pub force: bool,
    /// The program, if it is not this one.
    pub program: Option<PathBuf>,
}

/// What [`Machine::stop`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was off already.
    Already,
    /// The guest shut down.
    ShutDown,
    /// It was cut off.
    CutOff,
}

impl Machine {
    /// Starts it, or goes on with it where it was saved. One that runs is left as it is.
    ///
    /// # Errors
    /// It cannot be started; the reason is its process's.
    pub fn start(&self, how: &Start) -> Result<State> {
        let working = self.work("start")?;
        let state = self.start_holding(how)?;
        drop(working);
        Ok(state)
    }

    /// As [`start`](Self::start), for who works on it already.
    pub(crate) fn start_holding(&self, how: &Start) -> Result<State> {
        if self.is_live() {
            return Ok(self.state());
        }
        let config = self.config()?;
        crate::config::check(&config)?;
        let tree = self.tree()?;
        if let Err(error) = layers::sweep(self, &tree) {
            // What is named must be there; the process says which disk cannot be opened.
            log::warn!(target: "manager", "{error}");
        }
        self.check_ports(&config)?;
        if !how.force {
            self.check_memory(&config)?;
        }
        let was = self.state();
        self.spawn(how)?;
        self.note(
            match was {
                State::Saved => "resumed",
                _ => "started",
            },
            match was {
                State::Crashed => "it had crashed before",
                _ => "",
            },
        );
        Ok(if how.paused {
            State::Paused
        } else {
            State::Running
        })
    }

    /// Starts its process and waits until that says that the machine runs.
    fn spawn(&self, how: &Start) -> Result<()> {
        let program = match &how.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().of(Path::new("glassbox"), "cannot be found")?,
        };
        let log_path = self.folder().join("run.log");
        let log = File::create(&log_path).of(&log_path, "cannot be written")?;
        let mut command = Command::new(&program);
        command.arg("run").arg("--machine").arg(self.folder());
        if how.paused {
            command.arg("--paused");
        }
        // It may write to its own folder alone.
        let temporary = self.folder().join("tmp");
        host::files::private_folder(&temporary).of(&temporary, "cannot be made")?;
        let mut child = command
            .env("TMPDIR", &temporary)
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .spawn()
            .of(&program, "cannot be started")?;
        let (sender, said) = std::sync::mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut line = String::new();
                let _ = BufReader::new(stdout).read_line(&mut line);
                let _ = sender.send(line);
            });
        }
        let line = said.recv_timeout(COMES_UP).unwrap_or_default();
        let failed = match serde_json::from_str(&line) {
            Ok(Ready::Ready) => {
                // Its end is nobody's to wait for, but a parent that lives on must not keep it as a zombie.
                std::thread::spawn(move || drop(child.wait()));
                return Ok(());
            }
            Err(_) => {
                let _ = child.kill();
                let words = self.last_words();
                match words.is_empty() {
                    true => "its process ended without a word".into(),
                    false => words,
                }
            }
        };
        let _ = child.wait();
        let failed = failed.trim_start_matches("error: ");
        Err(Error::new(
            Code::StartFailed,
            format!("{}: the machine does not start: {failed}", self.name()),
            "",
        ))
    }

    /// Refuses a start for which a port of the host is not free, and says who has it.
    fn check_ports(&self, config: &Config) -> Result<()> {
        for forward in config.forwards() {
            if forward.host == 0 {
                continue;
            }
            let address = (Ipv4Addr::LOCALHOST, forward.host);
            let tried = match forward.is_tcp {
                true => TcpListener::bind(address).map(drop),
                false => UdpSocket::bind(address).map(drop),
            };
            let Err(error) = tried else { continue };
            let others = self.home().machines()?;
            let other = others.iter().find(|other| {
                let has = |config: &Config| {
                    config.forwards().iter().any(|theirs| {
                        theirs.host == forward.host && theirs.is_tcp == forward.is_tcp
                    })
                };
                other.name() != self.name()
                    && other.is_live()
                    && other.config().is_ok_and(|config| has(&config))
            });
            let who = match other {
                Some(other) => Some(format!("the machine {}", other.name())),
                None => host::sockets::holder(forward.is_tcp, forward.host),
            };
            let found = who.map_or_else(|| error.to_string(), |who| format!("{who} has it"));
            return Err(Error::new(
                Code::PortInUse,
                format!(
                    "{}: port {} ({}) of this host, which leads to the guest's port {}, is not free: {found}",
                    self.name(),
                    forward.host,
                    forward.protocol,
                    forward.guest
                ),
                format!(
                    "choose another: `glassbox set {} net=user,hostfwd=tcp:PORT-{}`",
                    self.name(),
                    forward.guest
                ),
            ));
        }
        Ok(())
    }

    /// Refuses a start that the host's memory cannot carry: what running machines were promised counts whole.
    fn check_memory(&self, config: &Config) -> Result<()> {
        let Some(available) = host::memory::available_bytes() else {
            return Ok(());
        };
        let mut promised = 0;
        for other in self.home().machines()? {
            let run = other.run().filter(|_| other.is_live());
            if let (Some(run), Ok(config)) = (run, other.config()) {
                let resident = host::processes::resident_bytes(run.pid).unwrap_or(0);
                promised += (config.machine.memory + OVERHEAD).saturating_sub(resident);
            }
        }
        let wanted = config.machine.memory + OVERHEAD;
        let left = available.saturating_sub(promised);
        if wanted <= left {
            return Ok(());
        }
        let mib = |bytes: u64| bytes >> 20;
        Err(Error::new(
            Code::NoRoom,
            format!(
                "{}: expected {} MiB of free memory on this host, found {} MiB, as machines that run may still take {} \
                 MiB of the {} MiB that are free",
                self.name(),
                mib(wanted),
                mib(left),
                mib(promised),
                mib(available)
            ),
            format!(
                "stop another, give it less (`glassbox set {} memory=…`), or start it all the same with --force",
                self.name()
            ),
        ))
    }

    /// Turns it off: by the power button, and where `force` says so by the plug. Waits until it is off.
    ///
    /// # Errors
    /// The guest does not shut down in time.
    pub fn stop(&self, force: bool, wait: Duration) -> Result<Stopped> {
        let working = self.work("stop")?;
        if !self.is_live() {
            // A crashed or saved machine is off from now on.
            if self.state() == State::Crashed {
                let _ = std::fs::remove_file(self.folder().join("run.json"));
            }
            return Ok(Stopped::Already);
        }
        if force {
            self.cut_off()?;
            self.note("stopped", "cut off");
            return Ok(Stopped::CutOff);
        }
        if self.state() == State::Paused {
            self.call("resume", json!({}))?;
        }
        self.call("power-button", json!({}))?;
        // Others may look at it, or cut it off, while it shuts down.
        drop(working);
        if self.wait_for_end(wait) {
            self.note("stopped", "the guest shut down");
            return Ok(Stopped::ShutDown);
        }
        Err(Error::new(
            Code::WrongState,
            format!(
                "{}: the guest did not shut down within {} s of the power button",
                self.name(),
                wait.as_secs()
            ),
            format!(
                "wait, or cut it off: `glassbox stop {} --force`",
                self.name()
            ),
        ))
    }

    /// Ends its process.
    pub(crate) fn cut_off(&self) -> Result<()> {
        // Whatever it answers: it is killed only where it does not end by itself, with its disks closed.
        let _ = self.call("quit", json!({}));
        if self.wait_for_end(ENDS) {
            return Ok(());
        }
        if let Some(run) = self.run().filter(|_| self.is_live()) {
            host::processes::kill(run.pid).of(self.folder(), "its process cannot be ended")?;
        }
        if !self.wait_for_end(ENDS) {
            return Err(Error::new(
                Code::Host,
                format!("{}: its process does not end", self.name()),
                "look for it in the host's list of processes",
            ));
        }
        let _ = std::fs::remove_file(self.folder().join("run.json"));
        Ok(())
    }

    /// Waits until its process has ended; `false` when it has not after `wait`.
    pub fn wait_for_end(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while self.is_live() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Presses its reset button.
    ///
    /// # Errors
    /// It does not run.
    pub fn reset(&self) -> Result<()> {
        self.call("reset", json!({}))?;
        self.note("reset", "");
        Ok(())
    }

    /// Has it stand still, in memory.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<()> {
        self.call("pause", json!({}))?;
        self.note("paused", "");
        Ok(())
    }

    /// Has it go on: where it stands still, or was saved.
    ///
    /// # Errors
    /// It is off.
    pub fn resume(&self, how: &Start) -> Result<()> {
        if self.state() == State::Saved {
            return self.start(how).map(drop);
        }
        self.call("resume", json!({}))?;
        self.note("resumed", "");
        Ok(())
    }

    /// Saves it to the host's disk and ends its process: the next start goes on from there.
    ///
    /// # Errors
    /// It does not run, or cannot be saved: it runs on then.
    pub fn suspend(&self) -> Result<()> {
        let _working = self.work("suspend")?;
        if !self.is_live() {
            return match self.state() {
                State::Saved => Ok(()),
                _ => Err(self.not_running()),
            };
        }
        let patience = Duration::from_secs(600);
        self.call_for("suspend", json!({}), patience)?;
        if !self.wait_for_end(ENDS) {
            self.cut_off()?;
        }
        self.note("suspended", "");
        Ok(())
    }

    /// What it started with is used up: from now on it starts with power-on. Its process says so before the first
    /// instruction, as the disks are not what they were from then on.
    ///
    /// # Errors
    /// The host refuses.
    pub fn used_up(&self) -> Result<()> {
        let mut tree = self.tree()?;
        let was = tree.resume.take();
        if was.is_some() {
            tree.write(&self.tree_path())?;
        }
        if was == Some(Resume::Saved) {
            let _ = std::fs::remove_dir_all(self.saved_folder());
        }
        Ok(())
    }

    /// Types text, written as `--send`'s, on its keyboard.
    ///
    /// # Errors
    /// It does not run, or the text names no key.
    pub fn type_text(&self, text: &str) -> Result<()> {
        self.call("type", json!({ "text": text })).map(drop)
    }

    /// Its screen as PNG, into the file at `path`.
    ///
    /// # Errors
    /// It does not run, or the file cannot be written.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        let png = self.picture()?;
        crate::config::replace_bytes(path, &png)
    }

    /// Its screen as PNG.
    ///
    /// # Errors
    /// It does not run.
    pub fn picture(&self) -> Result<Vec<u8>> {
        let answer = self.call("screenshot", json!({}))?;
        answer["base64"]
            .as_str()
            .and_then(control::base64::decode)
            .ok_or_else(|| {
                Error::new(
                    Code::Host,
                    format!("{}: expected a picture, found none", self.name()),
                    "",
                )
            })
    }

    /// All that is known about it.
    ///
    /// # Errors
    /// Its description cannot be read.
    pub fn show(&self) -> Result<Value> {
        let config = self.config()?;
        let tree = self.tree()?;
        let summary = self.summary();
        let mut all = serde_json::to_value(&summary)
            .map_err(|error| Error::host(self.folder(), "cannot be described", error))?;
        all["folder"] = json!(self.folder());
        all["machine"] = serde_json::to_value(&config.machine).unwrap_or_default();
        all["cpu_limit"] = json!(config.cpu_limit);
        all["autostart"] = json!(config.autostart);
        all["ssh"] = json!(self.ssh_command(&config));
        all["snapshot"] = json!(tree.parent);
        all["snapshots"] = serde_json::to_value(&tree.snapshots).unwrap_or_default();
        let disks = config.own_disks().into_iter().map(|name| {
            let path = layers::top(self, &tree, &name);
            let bytes = path
                .as_deref()
                .and_then(|path| layers::virtual_bytes(path).ok());
            json!({ "name": name, "bytes": bytes, "layer": tree.layers.get(&name) })
        });
        all["disks"] = disks.collect();
        if summary.state.is_live() {
            if let Ok(text) = self.call("screen-text", json!({})) {
                all["screen"] = text;
            }
            if let Ok(stats) = self.call("stats", json!({})) {
                all["stats"] = stats;
            }
        }
        let serial = self.serial_tail(4096);
        let serial = String::from_utf8_lossy(&serial).into_owned();
        let lines: Vec<&str> = serial.lines().collect();
        all["serial"] = json!(lines[lines.len().saturating_sub(10)..]);
        Ok(all)
    }

    /// How to log in, where a port leads to the guest's SSH server.
    pub fn ssh_command(&self, config: &Config) -> Option<Vec<String>> {
        let port = config.ssh_port()?;
        let user = config.user.clone().unwrap_or_else(|| "root".into());
        let mut words: Vec<String> = vec!["ssh".into()];
        let known = self.folder().join("known_hosts");
        for option in [
            // A machine's key is the machine's own: not the one that the port had before.
            format!("UserKnownHostsFile={}", known.display()),
            "StrictHostKeyChecking=accept-new".into(),
            format!("HostKeyAlias={}", self.name()),
        ] {
            words.extend(["-o".into(), option]);
        }
        let key = self.home().root().join("ssh_key");
        if key.exists() {
            words.extend(["-i".into(), key.display().to_string()]);
        }
        words.extend(["-p".into(), port.to_string(), format!("{user}@127.0.0.1")]);
        Some(words)
    }
}
