//! `tree.json`: the snapshots of a machine, and which files are its disks now.
//!
//! A disk is a chain of layers, image files in the machine's folder `disks`, each of which lies over the next. Only the
//! top one is ever written to. A snapshot is a set of layers that were frozen in one instant: new ones lie over them
//! from then on. Putting a new `tree.json` in its place is the one step that makes an operation done; what it does not
//! name is swept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::replace;
use crate::error::{Code, Error, OfFile, Result};

/// The file's version.
const VERSION: u32 = 1;

/// Layers by the disk that they are the top of.
pub type Layers = BTreeMap<String, String>;

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    /// The snapshot that the machine was at before.
    pub parent: Option<String>,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// What it is for.
    #[serde(default)]
    pub note: String,
    /// Whether the machine ran, and its memory is there.
    pub memory: bool,
    /// Its disks.
    pub layers: Layers,
}

/// With what the machine starts next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resume {
    /// What `glassbox suspend` saved.
    Saved,
    /// The memory of this snapshot.
    Snapshot(String),
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tree {
    version: u32,
    /// Counts layers: no name comes twice.
    next: u64,
    /// The disks as they are now.
    pub layers: Layers,
    /// The snapshot that they lie over.
    pub parent: Option<String>,
    /// With what the machine starts next; none: with power-on.
    pub resume: Option<Resume>,
    /// A description of the machine that is to take the place of what `machine.toml` says of the hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All snapshots.
    pub snapshots: BTreeMap<String, Snapshot>,
}

impl Tree {
    /// Reads the file at `path`; without one the machine has no disks and no snapshots.
    ///
    /// # Errors
    /// It cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    version: VERSION,
                    ..Self::default()
                });
            }
            Err(error) => return Err(error).of(path, "cannot be read"),
        };
        let tree: Self = serde_json::from_str(&text)
            .map_err(|error| Error::host(path, "expected a tree of snapshots", error))?;
        if tree.version != VERSION {
            return Err(Error::new(
                Code::Host,
                format!(
                    "{}: expected version {VERSION}, found {}",
                    path.display(),
                    tree.version
                ),
                "use the Glassbox that wrote it, or a newer one",
            ));
        }
        Ok(tree)
    }

    /// Puts it into the file at `path`, in one step.
    ///
    /// # Errors
    /// The host refuses; the file is as before then.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&Self {
            version: VERSION,
            ..self.clone()
        })
        .map_err(|error| Error::host(path, "cannot be written", error))?;
        replace(path, &(text + "\n"))
    }

    /// A name for a new layer of `disk`.
    pub fn new_layer(&mut self, disk: &str) -> String {
        self.next += 1;
        format!("{disk}-{:06}.qcow2", self.next)
    }

    /// The snapshot `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn snapshot(&self, name: &str) -> Result<&Snapshot> {
        self.snapshots.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.snapshots.keys().map(String::as_str).collect();
            let hint = match names.is_empty() {
                true => "the machine has none".to_owned(),
                false => format!("it has {}", names.join(", ")),
            };
            Error::new(
                Code::SnapshotNotFound,
                format!("{name}: there is no snapshot of that name"),
                hint,
            )
        })
    }

    /// Freezes the disks as they are: new layers, whose names this returns with those that they lie over, are the
    /// disks from now on.
    pub fn freeze(&mut self) -> Vec<Frozen> {
        let frozen = std::mem::take(&mut self.layers);
        let mut made = Vec::new();
        for (disk, below) in frozen {
            let layer = self.new_layer(&disk);
            self.layers.insert(disk.clone(), layer.clone());
            made.push(Frozen { disk, below, layer });
        }
        made
    }

    /// Takes a snapshot out; its children lie over its parent then.
    pub fn remove(&mut self, name: &str) -> Option<Snapshot> {
        let gone = self.snapshots.remove(name)?;
        for child in self.snapshots.values_mut() {
            if child.parent.as_deref() == Some(name) {
                child.parent.clone_from(&gone.parent);
            }
        }
        if self.parent.as_deref() == Some(name) {
            self.parent.clone_from(&gone.parent);
        }
        if self.resume == Some(Resume::Snapshot(name.into())) {
            self.resume = None;
        }
        Some(gone)
    }

    /// The layers that snapshots or the machine itself name as a disk's top.
    pub fn named_layers(&self) -> BTreeSet<&str> {
        let snapshots = self.snapshots.values().map(|snapshot| &snapshot.layers);
        let all = snapshots.chain([&self.layers]);
        all.flat_map(|layers| layers.values().map(String::as_str))
            .collect()
    }
}

/// A disk that was frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Its name.
    pub disk: String,
    /// The layer that is not written to any more.
    pub below: String,
    /// The new one that is to lie over it.
    pub layer: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_form_a_tree_and_deleting_one_in_the_middle_keeps_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree.json");
        let mut tree = Tree::read(&path).unwrap();
        let base = tree.new_layer("disk0");
        tree.layers.insert("disk0".into(), base);
        for name in ["a", "b", "c"] {
            let layers = tree.layers.clone();
            let frozen = tree.freeze();
            assert_eq!(frozen[0].below, layers["disk0"]);
            let snapshot = Snapshot {
                parent: tree.parent.clone(),
                created: 1,
                note: String::new(),
                memory: false,
                layers,
            };
            tree.snapshots.insert(name.into(), snapshot);
            tree.parent = Some(name.into());
        }
        assert_eq!(tree.named_layers().len(), 4);
        tree.write(&path).unwrap();
        assert_eq!(Tree::read(&path).unwrap(), tree);
        tree.remove("b").unwrap();
        assert_eq!(tree.snapshots["c"].parent.as_deref(), Some("a"));
        tree.remove("c").unwrap();
        assert_eq!(tree.parent.as_deref(), Some("a"));
        assert!(tree.snapshot("b").unwrap_err().hint.contains('a'));
        assert_eq!(tree.named_layers().len(), 2);
        std::fs::write(&path, "{").unwrap();
        assert!(Tree::read(&path).is_err());
    }
}
