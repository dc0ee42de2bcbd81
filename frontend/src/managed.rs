//! A machine of the manager's: `glassbox run --machine FOLDER`, which `glassbox start` runs.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use emulator::Machine;
use host::sandbox::Files;
use manager::machine::Running;
use manager::process::Ready;
use manager::snapshots::Freeze;
use manager::tree::Resume;
use spec::{Drives, MachineSpec};
use storage::Below;

use crate::cli::{ClockChoice, DisplayChoice, RunArgs};
use crate::control::Events;

/// Beyond so many bytes the log of the serial port begins anew; the old one stays beside it.
const MOST_SERIAL_LOG: u64 = 1 << 20;

/// A machine that this process has.
pub struct Managed {
    machine: manager::Machine,
    running: Option<Running>,
    /// What it is made of; disks by the layers that they are now.
    pub spec: MachineSpec,
    /// The memory that it goes on with.
    pub resume: Option<PathBuf>,
    /// The most that it takes of a core, in per cent.
    pub cpu_limit: Option<u32>,
}

impl Managed {
    /// Takes the machine in `folder`.
    ///
    /// # Errors
    /// It is none, runs already, or its description cannot be used.
    pub fn take(folder: &Path) -> Result<Self> {
        host::processes::leave_session();
        let machine = manager::Machine::of_folder(folder)?;
        let running = machine.take()?;
        let config = machine.config()?;
        let tree = machine.tree()?;
        let resume = match &tree.resume {
            None => None,
            Some(Resume::Saved) => Some(machine.saved_folder()),
            Some(Resume::Snapshot(name)) => Some(machine.snapshot_folder(name).join("memory")),
        };
        let spec = with_layers(&machine, &tree, config.machine)?;
        Ok(Self {
            machine,
            running: Some(running),
            spec,
            resume,
            cpu_limit: config.cpu_limit,
        })
    }

    /// What its disks may lie over: images in the home.
    pub fn below(&self) -> Below {
        Below::Within(self.machine.home().root().to_owned())
    }

    /// Gives up all files of the host but the machine's own.
    pub fn keep_files(&self) {
        let spec = &self.spec;
        let own = self.machine.folder().to_owned();
        let mut files = Files {
            write: vec![own, "/dev/null".into()],
            // Name servers, and what the host says of this process and of its memory.
            read: [
                "/etc/resolv.conf",
                "/proc/self",
                "/proc/meminfo",
                "/dev/urandom",
            ]
            .map(PathBuf::from)
            .to_vec(),
        };
        let images = self.machine.home().images_folder();
        files.read.push(images);
        for disk in &spec.disk {
            match disk.read_only {
                true => files.read.push(disk.path.clone()),
                false => files.write.push(disk.path.clone()),
            }
        }
        files
            .write
            .extend(spec.floppy.iter().chain(&spec.uefi_vars).cloned());
        files.read.extend(
            spec.cdrom
                .iter()
                .chain(&spec.kernel)
                .chain(&spec.vga_rom)
                .cloned(),
        );
        let initrd = spec.initrd.iter().flat_map(|list| list.split(','));
        files.read.extend(
            initrd
                .filter_map(|module| module.split(' ').next())
                .map(PathBuf::from),
        );
        if spec.firmware != "builtin" {
            files.read.push(PathBuf::from(&spec.firmware));
        }
        if let Some(net) = &spec.net {
            files.read.extend(net.tftp.iter().chain(&net.rom).cloned());
        }
        let held = host::sandbox::keep_files(&files);
        log::info!(target: "sandbox", "files: {}", if held { "the machine's own" } else { "all of the user's" });
    }

    /// Gives up programs, other processes, and sockets unless the machine has a network.
    pub fn keep_calls(&self) {
        let held = host::sandbox::keep_calls(self.spec.net.is_some());
        log::info!(target: "sandbox", "calls: {}", if held { "those that it needs" } else { "all" });
    }

    /// The options of its run.
    pub fn options(&self, args: RunArgs) -> RunArgs {
        let socket = |path: PathBuf| {
            let mut text = std::ffi::OsString::from("unix:");
            text.push(path);
            text
        };
        RunArgs {
            display: Some(DisplayChoice::None),
            clock: Some(ClockChoice::Realtime),
            control: Some(socket(self.machine.control_path())),
            vnc: Some(socket(self.machine.screen_path())),
            ..args
        }
    }

    /// Writes what the guest says to its first serial port into `serial.log`, and begins that anew when it is large.
    ///
    /// # Errors
    /// The host has no thread.
    pub fn log_serial(&self, events: &Events) -> Result<()> {
        let folder = self.machine.folder().to_owned();
        let (sender, said) = crossbeam_channel::bounded::<Vec<u8>>(1024);
        std::thread::Builder::new().name("serial log".into()).spawn(move || {
            let path = folder.join("serial.log");
            for bytes in said {
                if std::fs::metadata(&path).is_ok_and(|file| file.len() > MOST_SERIAL_LOG) {
                    let _ = std::fs::rename(&path, folder.join("serial.1.log"));
                }
                let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
                let written = file.and_then(|mut file| file.write_all(&bytes));
                if let Err(error) = written {
                    log::warn!(target: "serial", "{}: cannot be written: {error}", path.display());
                }
            }
        })?;
        events.log_to(sender);
        Ok(())
    }

    /// Says to who started it that it runs.
    pub fn say_ready(&self) {
        if let Ok(line) = serde_json::to_string(&Ready::Ready) {
            let mut out = std::io::stdout();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }

    /// What it started with is used up, before its first instruction.
    ///
    /// # Errors
    /// The host refuses.
    pub fn used_up(&self) -> Result<()> {
        Ok(self.machine.used_up()?)
    }

    /// The run has come to an end of its own.
    pub fn ended(&mut self) {
        if let Some(running) = self.running.take() {
            running.ended();
        }
    }

    /// Makes a snapshot of the machine between two instructions: `picture` is its screen.
    ///
    /// # Errors
    /// The name is in use or the host refuses: the machine goes on as before.
    pub fn snapshot(
        &self,
        machine: &mut Machine,
        drives: &mut Drives,
        name: &str,
        note: &str,
        picture: Option<&[u8]>,
    ) -> Result<()> {
        let freeze = Freeze::prepare(&self.machine)?;
        let moves = moves(&freeze);
        move_disks(drives, &moves)?;
        let mut save = |to: &Path| {
            let (spec, disks) = (&drives.spec, &mut drives.handles);
            spec::saved::save(to, machine, spec, disks, picture, "snapshot")
                .map_err(|error| manager::Error::new(manager::Code::Host, format!("{error:#}"), ""))
        };
        let made = freeze.snapshot(name, note, Some(&mut save));
        if let Err(error) = made {
            move_disks(drives, &backwards(&moves))?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Freezes the disks as they are between two instructions, for who copies them.
    ///
    /// # Errors
    /// The host refuses: the machine goes on as before.
    pub fn freeze(&self, drives: &mut Drives) -> Result<()> {
        let freeze = Freeze::prepare(&self.machine)?;
        let moves = moves(&freeze);
        move_disks(drives, &moves)?;
        if let Err(error) = freeze.commit() {
            move_disks(drives, &backwards(&moves))?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Saves the machine, which is to end then.
    ///
    /// # Errors
    /// The host refuses: the machine goes on as before.
    pub fn suspend(
        &self,
        machine: &mut Machine,
        drives: &mut Drives,
        picture: Option<&[u8]>,
    ) -> Result<()> {
        let folder = self.machine.saved_folder();
        let (spec, disks) = (&drives.spec, &mut drives.handles);
        spec::saved::save(&folder, machine, spec, disks, picture, "suspended")?;
        let mut tree = self.machine.tree()?;
        tree.resume = Some(Resume::Saved);
        Ok(tree.write(&self.machine.tree_path())?)
    }
}

/// From which image to which each disk moves.
type Moves = Vec<(PathBuf, PathBuf)>;

fn moves(freeze: &Freeze) -> Moves {
    let disks = freeze.disks().iter();
    disks
        .map(|disk| (freeze.path(&disk.below), freeze.path(&disk.layer)))
        .collect()
}

fn backwards(moves: &Moves) -> Moves {
    moves
        .iter()
        .rev()
        .map(|(from, to)| (to.clone(), from.clone()))
        .collect()
}

/// Moves all disks, or none.
fn move_disks(drives: &mut Drives, moves: &Moves) -> Result<()> {
    for (done, (from, to)) in moves.iter().enumerate() {
        if let Err(error) = drives.replace_disk(from, to) {
            for (from, to) in moves[..done].iter().rev() {
                drives.replace_disk(to, from)?;
            }
            return Err(error);
        }
    }
    Ok(())
}

/// The description with the files that its names stand for now.
fn with_layers(
    machine: &manager::Machine,
    tree: &manager::tree::Tree,
    mut spec: MachineSpec,
) -> Result<MachineSpec> {
    let place = |path: &mut PathBuf| -> Result<()> {
        if let Some(name) = manager::config::own_disk(path) {
            *path = manager::layers::top(machine, tree, &name).with_context(|| {
                format!(
                    "{}: expected the disk {name} among the machine's own, found none; detach it",
                    machine.description().display()
                )
            })?;
        } else if path.is_relative() {
            *path = machine.folder().join(&*path);
        }
        Ok(())
    };
    for disk in &mut spec.disk {
        place(&mut disk.path)?;
    }
    if let Some(path) = &mut spec.uefi_vars {
        place(path)?;
    }
    let removable = spec.cdrom.iter_mut().chain(&mut spec.floppy);
    for path in removable.filter(|path| path.is_relative() && path.as_os_str() != "none") {
        *path = machine.folder().join(&*path);
    }
    Ok(spec)
}
