//! The files that are a machine's disks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use storage::Format;
use storage::disk::info;
use storage::qcow2::{self, Backing, Options};

use crate::error::{Code, Error, OfFile, Result};
use crate::machine::Machine;
use crate::tree::{Frozen, Tree};

/// The most layers that lie over each other.
const MOST_LAYERS: usize = 200;

fn of_image(path: &Path, error: impl std::fmt::Display) -> Error {
    let text = error.to_string();
    let text = text
        .strip_prefix(&format!("{}: ", path.display()))
        .unwrap_or(&text)
        .to_owned();
    let code = if text.contains("No space left") {
        Code::NoRoom
    } else {
        Code::Host
    };
    Error::new(code, format!("{}: {text}", path.display()), "")
}

/// Makes an empty disk of so many bytes.
///
/// # Errors
/// The host refuses.
pub fn create(path: &Path, bytes: u64) -> Result<()> {
    let options = Options {
        size: bytes,
        backing: None,
        cluster_bits: 16,
    };
    make(path, &options)
}

/// Makes a layer whose name no tree has: what is there was left by an operation that did not come to its end.
fn make(path: &Path, options: &Options) -> Result<()> {
    let _ = fs::remove_file(path);
    qcow2::create(path, options).map_err(|error| of_image(path, error))
}

/// Makes a layer of the same size, or of `bytes` where that is more, over the image `below` in the same folder.
///
/// # Errors
/// The host refuses, or `below` is no image.
pub fn create_over(folder: &Path, layer: &str, below: &str, bytes: Option<u64>) -> Result<()> {
    let path = folder.join(below);
    let info = info(&path).map_err(|error| of_image(&path, error))?;
    let options = Options {
        size: info.virtual_bytes.max(bytes.unwrap_or(0)),
        backing: Some(Backing {
            path: below.into(),
            format: info.format,
        }),
        cluster_bits: 16,
    };
    make(&folder.join(layer), &options)
}

/// Makes the new layers of frozen disks; where one fails none is left.
///
/// # Errors
/// The host refuses.
pub fn create_frozen(folder: &Path, frozen: &[Frozen]) -> Result<()> {
    for (done, disk) in frozen.iter().enumerate() {
        if let Err(error) = create_over(folder, &disk.layer, &disk.below, None) {
            for disk in &frozen[..done] {
                let _ = fs::remove_file(folder.join(&disk.layer));
            }
            return Err(error);
        }
    }
    Ok(())
}

/// The names of the files that `top` lies over, it included, top first; all in one folder.
///
/// # Errors
/// One cannot be read, or lies over a file elsewhere.
pub fn chain(folder: &Path, top: &str) -> Result<Vec<String>> {
    let mut names = vec![top.to_owned()];
    loop {
        let path = folder.join(&names[names.len() - 1]);
        let info = info(&path).map_err(|error| of_image(&path, error))?;
        let Some(below) = info.backing else {
            return Ok(names);
        };
        let is_name = Path::new(&below.path)
            .file_name()
            .is_some_and(|name| name == below.path.as_str());
        if !is_name || names.len() > MOST_LAYERS || names.contains(&below.path) {
            return Err(Error::new(
                Code::Host,
                format!(
                    "{}: expected a layer over an image in its own folder, found {}",
                    path.display(),
                    below.path
                ),
                "attach such an image with `glassbox attach` instead",
            ));
        }
        names.push(below.path);
    }
}

/// What a disk says it has, in bytes.
///
/// # Errors
/// It cannot be read.
pub fn virtual_bytes(path: &Path) -> Result<u64> {
    Ok(info(path)
        .map_err(|error| of_image(path, error))?
        .virtual_bytes)
}

/// The format of the image at `path`.
///
/// # Errors
/// It cannot be read.
pub fn format(path: &Path) -> Result<Format> {
    Ok(info(path).map_err(|error| of_image(path, error))?.format)
}

/// Gives a machine another name for the file at `from`, or a copy of it where the host has no second names.
///
/// # Errors
/// The host refuses.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let copy = || -> std::io::Result<()> {
        let partial = to.with_extension("partial");
        fs::copy(from, &partial)?;
        fs::File::open(&partial)?.sync_all()?;
        fs::rename(&partial, to)
    };
    copy().of(to, "cannot be written")
}

/// Deletes the files that a machine's tree does not name: of operations that did not come to their end.
///
/// # Errors
/// A layer cannot be read: then nothing is deleted.
pub fn sweep(machine: &Machine, tree: &Tree) -> Result<()> {
    let folder = machine.disks();
    let mut named = BTreeSet::new();
    for top in tree.named_layers() {
        named.extend(chain(&folder, top)?);
    }
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let known = entry
            .file_name()
            .to_str()
            .is_some_and(|name| named.contains(name));
        if !known {
            let _ = fs::remove_file(entry.path());
        }
    }
    let snapshots = machine.folder().join("snapshots");
    for entry in fs::read_dir(snapshots).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let known = name
            .to_str()
            .is_some_and(|name| tree.snapshots.contains_key(name));
        if !known {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    if tree.resume != Some(crate::tree::Resume::Saved) {
        let _ = fs::remove_dir_all(machine.saved_folder());
    }
    Ok(())
}

/// The path of the image that the machine's own disk `name` is now.
pub fn top(machine: &Machine, tree: &Tree, name: &str) -> Option<PathBuf> {
    tree.layers
        .get(name)
        .map(|layer| machine.disks().join(layer))
}

/// Copies an image with all that it lies over into one new image.
///
/// # Errors
/// The host refuses, or it cannot be read.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    storage::disk::convert(from, to, Format::Qcow2, &mut |_, _| {})
        .map_err(|error| of_image(to, error))
}

/// The format of the image at `path`, which lies over no other.
///
/// # Errors
/// It does, is none, or cannot be read.
pub fn standalone(path: &Path) -> Result<Format> {
    let info = info(path).map_err(|error| of_image(path, error))?;
    match info.backing {
        None => Ok(info.format),
        Some(backing) => Err(Error::invalid(
            format!(
                "{}: expected an image that stands alone, found one that lies over {}",
                path.display(),
                backing.path
            ),
            format!(
                "make one of both: `glassbox disk convert {} new.qcow2`",
                path.display()
            ),
        )),
    }
}

/// What files of a format end in.
pub fn extension(format: Format) -> &'static str {
    match format {
        Format::Qcow2 => "qcow2",
        Format::Iso9660 => "iso",
        _ => "img",
    }
}
