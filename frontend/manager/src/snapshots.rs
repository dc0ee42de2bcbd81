//! Snapshots: making, restoring, deleting, and bringing layers together that nobody needs apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::config::{own_disk, replace};
use crate::error::{Code, Error, OfFile, Result};
use crate::home::check_name;
use crate::layers;
use crate::machine::{Machine, State, now};
use crate::process::Start;
use crate::tree::{Frozen, Layers, Resume, Snapshot, Tree};

/// How long a machine has to save its memory.
const SAVES: Duration = Duration::from_secs(600);

/// Puts a machine's memory into the folder that it is given.
pub type Save<'a> = &'a mut dyn FnMut(&Path) -> Result<()>;

/// Disks that are being frozen in one instant: new layers are there, but nothing names them yet.
///
/// Without [`commit`](Self::commit) all is as before.
#[derive(Debug)]
pub struct Freeze {
    machine: Machine,
    tree: Tree,
    frozen: Vec<Frozen>,
    before: Layers,
    committed: bool,
}

impl Freeze {
    /// Makes the new layers of all of a machine's own disks.
    ///
    /// # Errors
    /// The host refuses, or a disk is a file that is used in place.
    pub fn prepare(machine: &Machine) -> Result<Self> {
        let config = machine.config()?;
        let spec = &config.machine;
        let others = spec
            .disk
            .iter()
            .filter(|disk| own_disk(&disk.path).is_none());
        let mut written = others.filter(|disk| !disk.read_only).map(|disk| &disk.path);
        if let Some(path) = written.next().or(spec.image.as_ref()) {
            return Err(Error::new(
                Code::WrongState,
                format!(
                    "{}: expected disks of the machine's own, which can be frozen, found {}, which is used in place",
                    machine.name(),
                    path.display()
                ),
                format!(
                    "detach it first: `glassbox detach {} {}`",
                    machine.name(),
                    path.display()
                ),
            ));
        }
        let mut tree = machine.tree()?;
        let before = tree.layers.clone();
        let frozen = tree.freeze();
        layers::create_frozen(&machine.disks(), &frozen)?;
        Ok(Self {
            machine: machine.clone(),
            tree,
            frozen,
            before,
            committed: false,
        })
    }

    /// The disks, and which layers there are to be from now on.
    pub fn disks(&self) -> &[Frozen] {
        &self.frozen
    }

    /// The path of a layer.
    pub fn path(&self, layer: &str) -> PathBuf {
        self.machine.disks().join(layer)
    }

    /// Makes a snapshot of it: what `save` puts into the folder that it is given is its memory.
    ///
    /// # Errors
    /// The name is in use, or the host or `save` refuses.
    pub fn snapshot(mut self, name: &str, note: &str, save: Option<Save<'_>>) -> Result<()> {
        free_name(&self.tree, name)?;
        let folder = self.machine.snapshot_folder(name);
        // Of one that did not come to its end.
        let _ = fs::remove_dir_all(&folder);
        host::files::private_folder(&folder).of(&folder, "cannot be made")?;
        let description = self.machine.description();
        let text = fs::read_to_string(&description).of(&description, "cannot be read")?;
        let memory = save.is_some();
        let made = match save {
            Some(save) => save(&folder.join("memory")),
            None => Ok(()),
        };
        let made = made.and_then(|()| replace(&folder.join("machine.toml"), &text));
        if let Err(error) = made {
            let _ = fs::remove_dir_all(&folder);
            return Err(error);
        }
        let snapshot = Snapshot {
            parent: self.tree.parent.take(),
            created: now(),
            note: note.into(),
            memory,
            layers: self.before.clone(),
        };
        self.tree.snapshots.insert(name.into(), snapshot);
        self.tree.parent = Some(name.into());
        self.commit()
    }

    /// The new layers are the disks from now on.
    ///
    /// # Errors
    /// The host refuses: all is as before then.
    pub fn commit(mut self) -> Result<()> {
        self.tree.write(&self.machine.tree_path())?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        for disk in &self.frozen {
            let _ = fs::remove_file(self.path(&disk.layer));
        }
    }
}

fn free_name(tree: &Tree, name: &str) -> Result<()> {
    check_name("a snapshot", name)?;
    match tree.snapshots.contains_key(name) {
        true => Err(Error::new(
            Code::NameInUse,
            format!("{name}: there is a snapshot of that name"),
            "choose another",
        )),
        false => Ok(()),
    }
}

impl Machine {
    /// Makes a snapshot, with memory where it runs; without a name it gets one. Returns the name.
    ///
    /// # Errors
    /// The name is in use, or the host refuses: all is as before then.
    pub fn snapshot(&self, name: Option<&str>, note: &str) -> Result<String> {
        let _working = self.work("snapshot create")?;
        self.finish_restore()?;
        let tree = self.tree()?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => (1..)
                .map(|number| format!("snapshot-{number}"))
                .find(|name| !tree.snapshots.contains_key(name))
                .unwrap_or_default(),
        };
        free_name(&tree, &name)?;
        if self.is_live() {
            self.call_for("snapshot", json!({ "name": name, "note": note }), SAVES)?;
        } else {
            // A saved machine's memory belongs to it.
            let saved = self.resume_folder(&tree);
            let mut copy = |to: &Path| match &saved {
                Some(from) => copy_folder(from, to),
                None => Ok(()),
            };
            let save: Option<Save<'_>> = match saved {
                Some(_) => Some(&mut copy),
                None => None,
            };
            Freeze::prepare(self)?.snapshot(&name, note, save)?;
        }
        self.note("snapshot", &name);
        Ok(name)
    }

    /// Puts the machine back to a snapshot. One that runs is cut off. With memory it runs then as it did, or stands
    /// still where `paused`; without it is off.
    ///
    /// # Errors
    /// There is no such snapshot, or the host refuses: all is as before then, but that the machine is off.
    pub fn restore(&self, name: &str, how: &Start) -> Result<State> {
        let _working = self.work("snapshot restore")?;
        self.finish_restore()?;
        let mut tree = self.tree()?;
        let snapshot = tree.snapshot(name)?.clone();
        if self.is_live() {
            self.cut_off()?;
        }
        let folder = self.snapshot_folder(name);
        let description = folder.join("machine.toml");
        let text = fs::read_to_string(&description).of(&description, "cannot be read")?;
        tree.layers = snapshot.layers;
        let frozen = tree.freeze();
        layers::create_frozen(&self.disks(), &frozen)?;
        tree.parent = Some(name.into());
        tree.resume = snapshot.memory.then(|| Resume::Snapshot(name.into()));
        tree.description = Some(text);
        tree.write(&self.tree_path())?;
        let _ = fs::remove_file(self.folder().join("run.json"));
        self.finish_restore()?;
        layers::sweep(self, &tree)?;
        self.note("restored", name);
        match snapshot.memory {
            true => self.start_holding(how),
            false => Ok(State::Stopped),
        }
    }

    /// Deletes a snapshot; those that came after it stay.
    ///
    /// # Errors
    /// There is none, or the host refuses.
    pub fn delete_snapshot(&self, name: &str) -> Result<()> {
        let _working = self.work("snapshot delete")?;
        self.finish_restore()?;
        let mut tree = self.tree()?;
        tree.snapshot(name)?;
        if tree.resume == Some(Resume::Snapshot(name.into())) {
            return Err(Error::new(
                Code::WrongState,
                format!("{}: the machine starts from {name} next", self.name()),
                format!(
                    "start it first, or restore another snapshot of `glassbox snapshot list {}`",
                    self.name()
                ),
            ));
        }
        tree.remove(name);
        tree.write(&self.tree_path())?;
        let _ = self.home().discard(&self.snapshot_folder(name));
        layers::sweep(self, &tree)?;
        if !self.is_live() {
            self.merge_layers()?;
        }
        self.note("snapshot deleted", name);
        Ok(())
    }

    /// Puts the description that belongs to a restored snapshot in its place, where that was left undone.
    pub(crate) fn finish_restore(&self) -> Result<()> {
        let mut tree = self.tree()?;
        let Some(text) = tree.description.take() else {
            return Ok(());
        };
        let config = crate::config::Config::parse(&text, &self.description())?;
        // What is the user's, and no hardware, stays as it is now.
        self.replace_machine(&config)?;
        tree.write(&self.tree_path())
    }

    /// Brings layers together that no snapshot tells apart any more. The machine is off.
    ///
    /// A layer that nothing names, and that one other lies over, takes in what that one holds: for who looks through
    /// the upper one nothing changes meanwhile, whenever it ends. Then the upper one's place is the lower one's.
    pub(crate) fn merge_layers(&self) -> Result<()> {
        let folder = self.disks();
        loop {
            let mut tree = self.tree()?;
            let mut below_of = std::collections::BTreeMap::new();
            for top in tree.named_layers() {
                for pair in layers::chain(&folder, top)?.windows(2) {
                    below_of.insert(pair[0].clone(), pair[1].clone());
                }
            }
            let named = tree.named_layers();
            let lower_has_one =
                |lower: &String| below_of.values().filter(|other| *other == lower).count() == 1;
            let pair = below_of.iter().find(|(_, lower)| {
                !named.contains(lower.as_str())
                    && lower_has_one(lower)
                    && is_ours_alone(&folder.join(lower.as_str()))
            });
            let Some((upper, lower)) = pair else {
                return Ok(());
            };
            let upper_path = folder.join(upper);
            storage::disk::commit(&upper_path)
                .map_err(|error| Error::host(&upper_path, "cannot be merged", error))?;
            let lower_format = layers::format(&folder.join(lower))?;
            for (child, _) in below_of.iter().filter(|(_, below)| *below == upper) {
                let backing = storage::qcow2::Backing {
                    path: lower.clone(),
                    format: lower_format,
                };
                let path = folder.join(child);
                storage::qcow2::rebase(&path, Some(backing))
                    .map_err(|error| Error::host(&path, "cannot be rebased", error))?;
            }
            let (upper, lower) = (upper.clone(), lower.clone());
            let rename = |layers: &mut Layers| {
                for layer in layers.values_mut().filter(|layer| **layer == upper) {
                    layer.clone_from(&lower);
                }
            };
            rename(&mut tree.layers);
            tree.snapshots
                .values_mut()
                .for_each(|snapshot| rename(&mut snapshot.layers));
            tree.write(&self.tree_path())?;
            let _ = fs::remove_file(folder.join(&upper));
        }
    }
}

/// Whether no other machine has a name for the file at `path`.
fn is_ours_alone(path: &Path) -> bool {
    let is_image = path
        .extension()
        .is_some_and(|extension| extension == "qcow2");
    is_image && fs::metadata(path).is_ok_and(|metadata| host::files::names(&metadata) == Some(1))
}

/// Copies a folder of files.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    host::files::private_folder(to).of(to, "cannot be made")?;
    for entry in fs::read_dir(from).of(from, "cannot be read")? {
        let entry = entry.of(from, "cannot be read")?;
        let target = to.join(entry.file_name());
        fs::copy(entry.path(), &target).of(&target, "cannot be written")?;
    }
    Ok(())
}
