//! What is done with images while no machine has them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use platform::BlockBackend;
use platform::block::SECTOR_BYTES;
use serde::Serialize;

use crate::bytes::damaged;
use crate::open::{Access, Below, Content, Medium, Opener, Request, look};
use crate::qcow2::{Backing, InternalSnapshot};
use crate::{Error, Format, Qcow2, qcow2};

/// How much is copied at a time, in sectors.
const PIECE: u64 = 4096;

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// What it is.
    pub format: Format,
    /// Bytes on the disk.
    pub virtual_bytes: u64,
    /// Bytes that its file takes of the host's disk.
    pub file_bytes: u64,
    /// What it lies over.
    pub backing: Option<Backing>,
    /// Bytes in a cluster, where it has such.
    pub cluster_bytes: Option<u64>,
    /// Snapshots within it.
    pub snapshots: Vec<InternalSnapshot>,
}

/// Looks at the image at `path`.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn info(path: &Path) -> Result<Info, Error> {
    let Content { format, len, .. } = look(path)?;
    let unreadable = |reason| Error::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let mut info = Info {
        format,
        virtual_bytes: len,
        file_bytes: host::files::taken_bytes(&metadata),
        backing: None,
        cluster_bytes: None,
        snapshots: Vec::new(),
    };
    let damaged = |reason| Error::Damaged {
        path: path.to_owned(),
        format,
        reason,
    };
    let file = File::open(path).map_err(unreadable)?;
    match format {
        Format::Vdi => info.virtual_bytes = crate::vdi::size(&file).map_err(damaged)?,
        Format::Vhd => info.virtual_bytes = crate::vhd::size(&file).map_err(damaged)?,
        Format::Vmdk => info.virtual_bytes = crate::vmdk::size(&file).map_err(damaged)?,
        Format::VmdkDescriptor => {
            let extents = crate::vmdk::descriptor(&file).map_err(damaged)?;
            let sectors: u64 = extents.iter().map(|extent| extent.sectors).sum();
            info.virtual_bytes = sectors * SECTOR_BYTES as u64;
        }
        _ => {}
    }
    if format == Format::Qcow2 {
        let seen = qcow2::look(&file).map_err(|reason| Error::Damaged {
            path: path.to_owned(),
            format,
            reason,
        })?;
        info.virtual_bytes = seen.size;
        info.backing = seen.backing;
        info.cluster_bytes = Some(seen.cluster_bytes);
        info.snapshots = seen.snapshots;
    }
    Ok(info)
}

/// Opens an image with all that it lies over, for who names it.
fn open(path: &Path, access: Access) -> Result<Box<dyn BlockBackend>, Error> {
    let request = Request {
        option: "the image",
        medium: Medium::Disk,
        access,
        format: None,
        backing: true,
    };
    Ok(Opener::with_below(Below::Allowed)
        .open(path, &request)?
        .backend)
}

/// Copies the image `from`, with all that it lies over, into a new image `to` in one of the formats
/// raw, qcow2, VDI, VMDK (sparse) and VHD (dynamic). `to` is there once it is whole; `watch` is
/// told how many bytes are done, of how many.
///
/// # Errors
/// `from` cannot be read or is in use, or the host refuses: nothing is left at `to` then.
pub fn convert(
    from: &Path,
    to: &Path,
    format: Format,
    watch: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let failed = |reason: io::Error| Error::Unwritten {
        path: to.to_owned(),
        reason,
    };
    let mut source = open(from, Access::ReadOnly)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)
        .map_err(failed)?;
    let sectors = source.sectors();
    let bytes = sectors * SECTOR_BYTES as u64;
    let mut copy = || -> io::Result<()> {
        let handle = file.reopen()?;
        let mut target: Box<dyn BlockBackend> = match format {
            Format::Qcow2 => {
                let options = qcow2::Options {
                    size: bytes,
                    backing: None,
                    cluster_bits: 16,
                };
                qcow2::write_new(&handle, &options)?;
                Box::new(Qcow2::open(handle, to.to_owned(), true, None)?)
            }
            Format::Raw => {
                handle.set_len(bytes)?;
                Box::new(crate::Raw::new(handle, to.to_owned(), bytes, bytes, true))
            }
            other => {
                write_empty(&handle, to, bytes, other)?;
                open_new(handle, to, other)?
            }
        };
        let mut piece = vec![0; (PIECE as usize) * SECTOR_BYTES];
        let mut lba = 0;
        while lba < sectors {
            let count = PIECE.min(sectors - lba);
            let piece = &mut piece[..count as usize * SECTOR_BYTES];
            source.read(lba, piece)?;
            write_sparse(&mut *target, lba, piece)?;
            lba += count;
            watch(lba * SECTOR_BYTES as u64, bytes);
        }
        target.flush()
    };
    copy().map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(to)
        .map_err(|error| failed(error.error))?;
    host::files::sync_folder(folder);
    Ok(())
}

/// Writes an empty image of a format that lies over nothing.
fn write_empty(file: &File, path: &Path, bytes: u64, format: Format) -> io::Result<()> {
    let bytes = bytes.next_multiple_of(SECTOR_BYTES as u64);
    match format {
        Format::Vdi => crate::vdi::write_new(file, bytes),
        Format::Vhd => crate::vhd::write_new(file, bytes),
        Format::Vmdk => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            crate::vmdk::write_new(file, bytes, &name)
        }
        format => Err(damaged(format!("{} cannot be made", format.name()))),
    }
}

/// Opens what [`write_empty`] made.
fn open_new(file: File, path: &Path, format: Format) -> io::Result<Box<dyn BlockBackend>> {
    let path = path.to_owned();
    Ok(match format {
        Format::Vdi => Box::new(crate::vdi::open(file, path, true)?),
        Format::Vhd => Box::new(crate::vhd::open(file, path, true)?),
        _ => Box::new(crate::vmdk::open(file, path, true)?),
    })
}

/// Writes what is not zero of a piece, which so far is all zeros on the target.
fn write_sparse(target: &mut dyn BlockBackend, lba: u64, piece: &[u8]) -> io::Result<()> {
    const RUN: usize = 128 * SECTOR_BYTES;
    for (number, run) in piece.chunks(RUN).enumerate() {
        if run.iter().any(|&byte| byte != 0) {
            target.write(lba + (number * RUN / SECTOR_BYTES) as u64, run)?;
        }
    }
    Ok(())
}

/// Writes what the image `path` has itself into the image that it lies over. Whoever looks through it sees the same
/// before, meanwhile and after, whenever it ends; nobody else may look through the lower one.
///
/// # Errors
/// It lies over none, one of the two is in use, or the host refuses.
pub fn commit(path: &Path) -> Result<(), Error> {
    let info = info(path)?;
    let failed = |reason: io::Error| Error::Unwritten {
        path: path.to_owned(),
        reason,
    };
    let Some(backing) = info.backing else {
        return Err(failed(damaged("it lies over no other image")));
    };
    let lower = path.parent().unwrap_or(Path::new("")).join(&backing.path);
    let unreadable = |reason| Error::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(unreadable)?;
    // Without what it lies over: only what it has itself is looked at.
    let mut upper =
        Qcow2::open(file, path.to_owned(), false, None).map_err(|reason| Error::Damaged {
            path: path.to_owned(),
            format: Format::Qcow2,
            reason,
        })?;
    grow(&lower, info.virtual_bytes)?;
    let mut target = open(&lower, Access::Write)?;
    let mut copy = || -> io::Result<()> {
        let mut lba = 0;
        let mut piece = vec![0; PIECE as usize * SECTOR_BYTES];
        while let Some((first, count)) = upper.next_own(lba)? {
            let count = count.min(PIECE);
            let piece = &mut piece[..count as usize * SECTOR_BYTES];
            upper.read(first, piece)?;
            target.write(first, piece)?;
            lba = first + count;
        }
        target.flush()
    };
    copy().map_err(failed)
}

/// Makes the image at `path` as large as `bytes`, if it is smaller.
fn grow(path: &Path, bytes: u64) -> Result<(), Error> {
    match info(path)?.virtual_bytes < bytes {
        true => resize(path, bytes),
        false => Ok(()),
    }
}

/// Makes the disk in the image `path` as large as `bytes`: what is new reads as zeros, what is cut off is lost.
///
/// # Errors
/// It is in use, of a format that has no other size, or the host refuses.
pub fn resize(path: &Path, bytes: u64) -> Result<(), Error> {
    let info = info(path)?;
    let failed = |reason: io::Error| Error::Unwritten {
        path: path.to_owned(),
        reason,
    };
    // The door locks it.
    let _held = open(path, Access::Write)?;
    drop(_held);
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed)?;
    file.try_lock().map_err(|_| Error::InUse {
        path: path.to_owned(),
        writes: true,
    })?;
    match info.format {
        Format::Qcow2 => {
            let mut image = Qcow2::open(file, path.to_owned(), true, None).map_err(failed)?;
            image.resize(bytes).map_err(failed)
        }
        format if format.is_sectors() => file
            .set_len(bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed),
        format => Err(failed(damaged(format!("{} keeps its size", format.name())))),
    }
}

/// Makes an empty image.
///
/// # Errors
/// It is there already, or the host refuses.
pub fn create(
    path: &Path,
    bytes: u64,
    format: Format,
    backing: Option<Backing>,
) -> Result<(), Error> {
    let failed = |reason: io::Error| Error::Unwritten {
        path: path.to_owned(),
        reason,
    };
    match format {
        Format::Qcow2 => qcow2::create(
            path,
            &qcow2::Options {
                size: bytes,
                backing,
                cluster_bits: 16,
            },
        ),
        Format::Raw if backing.is_none() => {
            let mut file = fs::OpenOptions::new();
            let file = file
                .write(true)
                .create_new(true)
                .open(path)
                .map_err(failed)?;
            file.set_len(bytes)
                .and_then(|()| file.sync_all())
                .map_err(failed)
        }
        Format::Vdi | Format::Vhd | Format::Vmdk if backing.is_none() => {
            let mut file = fs::OpenOptions::new();
            file.read(true).write(true).create_new(true);
            let file = file.open(path).map_err(failed)?;
            let made = write_empty(&file, path, bytes, format);
            if made.is_err() {
                let _ = fs::remove_file(path);
            }
            made.map_err(failed)
        }
        format => Err(failed(damaged(format!(
            "{} cannot be made like that",
            format.name()
        )))),
    }
}

/// A folder's image by the name that another image in it has for it.
pub fn below(path: &Path, backing: &Backing) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(&backing.path)
}
