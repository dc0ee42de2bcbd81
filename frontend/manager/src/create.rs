//! Making, copying and deleting machines.

use std::fs;
use std::path::{Path, PathBuf};

use spec::{DiskBus, DiskSpec, NetSpec};

use crate::config::{Config, replace};
use crate::error::{Code, Error, OfFile, Result};
use crate::home::Home;
use crate::layers;
use crate::machine::{Machine, State};
use crate::snapshots::Freeze;
use crate::tree::Tree;

/// The first port that is tried for a guest's SSH server.
const FIRST_SSH_PORT: u16 = 2201;

/// What a new machine's first disk starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An image that nobody changes any more: in `images`, under a name that tells its content.
    Stored(PathBuf),
    /// Nothing.
    Empty,
}

/// A disk of a new machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDisk {
    /// What it starts with.
    pub content: Content,
    /// How large it is, in bytes; 0: as its content.
    pub bytes: u64,
    /// How the guest reaches it.
    pub bus: DiskBus,
}

/// What a machine is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Create {
    /// What it is made of, but for its own disks.
    pub config: Config,
    /// Its own disks.
    pub disks: Vec<NewDisk>,
    /// Whether a port of the host is to lead to its SSH server.
    pub ssh: bool,
    /// Files that belong to it, such as the disc with its first settings: names in its folder, and content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Home {
    /// Makes a machine; it is there as a whole or not at all.
    ///
    /// # Errors
    /// The name is in use, the description is wrong, or the host refuses.
    pub fn create(&self, name: &str, create: &Create) -> Result<Machine> {
        self.prepare()?;
        self.sweep_trash();
        let machine = self.free_name(name)?;
        let mut config = create.config.clone();
        crate::config::check(&config)?;
        if let Some(net) = &mut config.machine.net {
            new_identity(net);
            if create.ssh && config.ssh_port().is_none() {
                self.forward_ssh(&mut config)?;
            }
        }
        let (folder, made) = self.new_folder(name)?;
        let disks = made.disks();
        host::files::private_folder(&disks).of(&disks, "cannot be made")?;
        let mut tree = Tree::default();
        let mut own = Vec::new();
        for disk in &create.disks {
            let disk_name = config.new_disk_name();
            own.push(disk_name.clone());
            let layer = tree.new_layer(&disk_name);
            match &disk.content {
                Content::Empty => layers::create(&disks.join(&layer), disk.bytes)?,
                Content::Stored(image) => {
                    let base = image.file_name().and_then(|name| name.to_str());
                    let base = format!("base-{}", base.unwrap_or("image"));
                    layers::link(image, &disks.join(&base))?;
                    layers::create_over(&disks, &layer, &base, Some(disk.bytes))?;
                }
            }
            tree.layers.insert(disk_name.clone(), layer);
            config.machine.disk.push(DiskSpec {
                path: disk_name.into(),
                bus: disk.bus,
                format: None,
                backing: false,
                read_only: false,
                chs: None,
            });
        }
        for (name, bytes) in &create.files {
            crate::config::replace_bytes(&folder.path().join(name), bytes)?;
        }
        tree.write(&made.tree_path())?;
        replace(&made.description(), &config.to_text()?)?;
        self.publish(folder, &machine)?;
        machine.note("created", "");
        Ok(machine)
    }

    /// A folder for a machine that is being made, which is gone again unless it is [published](Self::publish).
    pub(crate) fn new_folder(&self, name: &str) -> Result<(tempfile::TempDir, Machine)> {
        let machines = self.machines_folder();
        let folder = tempfile::Builder::new()
            .prefix(&format!(".new-{name}-"))
            .tempdir_in(&machines)
            .of(&machines, "cannot be written")?;
        let file_name = folder.path().file_name().unwrap_or_default();
        let made = Machine::new(self.clone(), file_name.to_string_lossy().into_owned());
        Ok((folder, made))
    }

    /// Gives a new machine's folder its name.
    pub(crate) fn publish(&self, folder: tempfile::TempDir, machine: &Machine) -> Result<()> {
        host::files::sync_folder(folder.path());
        match fs::rename(folder.path(), machine.folder()) {
            Ok(()) => {
                let _ = folder.keep();
                host::files::sync_folder(&self.machines_folder());
                Ok(())
            }
            Err(_) if machine.folder().exists() => Err(Error::new(
                Code::NameInUse,
                format!("{}: there is a machine of that name", machine.name()),
                "choose another",
            )),
            Err(error) => Err(Error::host(machine.folder(), "cannot be made", error)),
        }
    }

    /// Chooses a port that no machine has and nobody listens on.
    fn forward_ssh(&self, config: &mut Config) -> Result<()> {
        let machines = self.machines()?;
        let taken: Vec<u16> = machines
            .iter()
            .filter_map(|machine| machine.config().ok())
            .flat_map(|config| config.forwards())
            .map(|forward| forward.host)
            .collect();
        let free = |port: &u16| {
            !taken.contains(port) && std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()
        };
        let port = (FIRST_SSH_PORT..u16::MAX).find(free);
        if let (Some(port), Some(net)) = (port, &mut config.machine.net) {
            net.hostfwd.push(format!("tcp:{port}-22"));
        }
        Ok(())
    }
}

impl Machine {
    /// Makes a copy of it under the name `new`, with an identity of its own. Linked, it shares with it what both had in
    /// the beginning; else it is whole. A machine that runs goes on; the copy has its disks of one instant, as after a
    /// power failure, and no memory.
    ///
    /// # Errors
    /// The name is in use, or the host refuses.
    pub fn clone_to(&self, new: &str, linked: bool) -> Result<Machine> {
        let home = self.home();
        home.prepare()?;
        let target = home.free_name(new)?;
        let _working = self.work("clone")?;
        self.finish_restore()?;
        let mut config = self.config()?;
        let before = self.tree()?.layers;
        if self.is_live() {
            self.call("freeze", serde_json::json!({}))?;
        } else if linked {
            Freeze::prepare(self)?.commit()?;
        }
        let had_ssh = config.ssh_port().is_some();
        if let Some(net) = &mut config.machine.net {
            new_identity(net);
            // Two machines cannot have one port.
            net.hostfwd.clear();
        }
        config.autostart = false;
        if had_ssh {
            home.forward_ssh(&mut config)?;
        }
        let (folder, made) = home.new_folder(new)?;
        let (from, to) = (self.disks(), made.disks());
        host::files::private_folder(&to).of(&to, "cannot be made")?;
        let mut tree = Tree::default();
        for (disk, top) in &before {
            let mut layer = tree.new_layer(disk);
            if linked {
                for name in layers::chain(&from, top)? {
                    let there = to.join(&name);
                    if !there.exists() {
                        layers::link(&from.join(&name), &there)?;
                    }
                }
                // Its own layers must not be called as one that it shares.
                while to.join(&layer).exists() {
                    layer = tree.new_layer(disk);
                }
                layers::create_over(&to, &layer, top, None)?;
            } else {
                let (from, to) = (from.join(top), to.join(&layer));
                layers::copy(&from, &to)?;
            }
            tree.layers.insert(disk.clone(), layer);
        }
        crate::seed::renew(self, &folder, new)?;
        tree.write(&made.tree_path())?;
        replace(&made.description(), &config.to_text()?)?;
        home.publish(folder, &target)?;
        self.note("cloned", new);
        target.note("created", &format!("a copy of {}", self.name()));
        Ok(target)
    }

    /// Deletes it, with its disks and snapshots. One that runs is cut off first, where `force` says so.
    ///
    /// # Errors
    /// It runs, or the host refuses.
    pub fn delete(&self, force: bool) -> Result<()> {
        let working = self.work("delete")?;
        if self.is_live() {
            if !force {
                return Err(Error::new(
                    Code::WrongState,
                    format!(
                        "{}: expected a machine that is off, found it {}",
                        self.name(),
                        self.state().name()
                    ),
                    format!(
                        "stop it: `glassbox stop {0}`, or `glassbox delete {0} --yes --force`",
                        self.name()
                    ),
                ));
            }
            self.cut_off()?;
        }
        self.home().discard(self.folder())?;
        drop(working);
        Ok(())
    }

    /// Sets what its description says; `Change::at_once` says what of it a running machine has already.
    ///
    /// # Errors
    /// An unknown key, or a value that it cannot have: nothing is changed then.
    pub fn set(&self, settings: &[(String, String)]) -> Result<Vec<crate::config::Change>> {
        let _working = self.work("set")?;
        self.finish_restore()?;
        let path = self.description();
        let text = fs::read_to_string(&path).of(&path, "cannot be read")?;
        let (text, mut changes) = crate::config::set(&text, &path, settings)?;
        if self.state() == State::Saved
            && let Some(change) = changes.iter().find(|change| !change.at_once)
        {
            return Err(Error::new(
                Code::WrongState,
                format!(
                    "{}: expected a machine that is off for {}=, found it saved, with the hardware that it has",
                    self.name(),
                    change.key
                ),
                format!(
                    "start it and shut it down, or `glassbox stop {} --force`",
                    self.name()
                ),
            ));
        }
        replace(&path, &text)?;
        let live = self.is_live();
        for change in &mut changes {
            if change.key == "cpu-limit" && live {
                let limit: Option<u32> = change.value.parse().ok();
                self.call("set", serde_json::json!({ "cpu-limit": limit }))?;
            }
            change.at_once |= !live;
        }
        let all = settings.iter().map(|(key, value)| format!("{key}={value}"));
        self.note("set", &all.collect::<Vec<_>>().join(" "));
        Ok(changes)
    }

    /// Gives it one more disk: a new one of its own, or a file that is used in place.
    ///
    /// # Errors
    /// It is not off, or the host refuses.
    pub fn attach(&self, disk: &Attach) -> Result<String> {
        let _working = self.work("attach")?;
        self.finish_restore()?;
        self.expect_off("attach a disk")?;
        let mut config = self.config()?;
        let mut tree = self.tree()?;
        let name = match disk {
            Attach::New { bytes, bus } => {
                let name = config.new_disk_name();
                let layer = tree.new_layer(&name);
                layers::create(&self.disks().join(&layer), *bytes)?;
                tree.layers.insert(name.clone(), layer);
                config.machine.disk.push(DiskSpec {
                    path: name.clone().into(),
                    bus: *bus,
                    format: None,
                    backing: false,
                    read_only: false,
                    chs: None,
                });
                name
            }
            Attach::File(spec) => {
                let mut spec = spec.clone();
                spec.path = crate::config::whole(&spec.path);
                layers::format(&spec.path)?;
                let name = spec.path.display().to_string();
                config.machine.disk.push(spec);
                name
            }
        };
        tree.write(&self.tree_path())?;
        self.replace_machine(&config)?;
        self.note("attached", &name);
        Ok(name)
    }

    /// Takes a disk out. One of its own is deleted, unless a snapshot has it.
    ///
    /// # Errors
    /// It has no such disk, or is not off.
    pub fn detach(&self, name: &str) -> Result<()> {
        let _working = self.work("detach")?;
        self.finish_restore()?;
        self.expect_off("detach a disk")?;
        let mut config = self.config()?;
        let mut tree = self.tree()?;
        let before = config.machine.disk.len();
        let whole = crate::config::whole(Path::new(name));
        config
            .machine
            .disk
            .retain(|disk| disk.path != Path::new(name) && disk.path != whole);
        if config.machine.disk.len() == before {
            let has = config
                .machine
                .disk
                .iter()
                .map(|disk| disk.path.display().to_string());
            let has = has.collect::<Vec<_>>().join(", ");
            return Err(Error::new(
                Code::NotFound,
                format!("{name}: {} has no such disk", self.name()),
                format!("it has {}", if has.is_empty() { "none" } else { &has }),
            ));
        }
        self.replace_machine(&config)?;
        tree.layers.remove(name);
        tree.write(&self.tree_path())?;
        layers::sweep(self, &tree)?;
        self.note("detached", name);
        Ok(())
    }

    pub(crate) fn expect_off(&self, what: &str) -> Result<()> {
        match self.state() {
            State::Stopped | State::Crashed => Ok(()),
            state => Err(Error::new(
                Code::WrongState,
                format!(
                    "{}: expected a machine that is off to {what}, found it {}",
                    self.name(),
                    state.name()
                ),
                format!("shut it down: `glassbox stop {}`", self.name()),
            )),
        }
    }

    /// Puts `config`'s hardware into the description, and leaves the rest with its comments as it is.
    pub(crate) fn replace_machine(&self, config: &Config) -> Result<()> {
        let path = self.description();
        let old = fs::read_to_string(&path).of(&path, "cannot be read")?;
        replace(&path, &crate::config::with_machine(&old, &path, config)?)
    }
}

/// A disk that is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A new one of the machine's own.
    New {
        /// How large it is.
        bytes: u64,
        /// How the guest reaches it.
        bus: DiskBus,
    },
    /// A file that is used in place.
    File(DiskSpec),
}

/// Gives a network card an address that no other has.
fn new_identity(net: &mut NetSpec) {
    let bytes = crate::random::bytes::<3>();
    // As QEMU's: a prefix for machines such as this one.
    net.mac = Some(format!(
        "52:54:00:{:02x}:{:02x}:{:02x}",
        bytes[0], bytes[1], bytes[2]
    ));
}
