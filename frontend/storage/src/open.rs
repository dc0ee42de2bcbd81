//! Opens images: looks at what they are, locks them, and notices a file that is named twice.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use host::files::other_than_file;
use platform::BlockBackend;
use same_file::Handle;

use crate::{Error, Format, HEAD_BYTES, Kind, Overlay, Raw, TAIL_BYTES, floppy, recognise};

/// What may be written to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes go to the file.
    Write,
    /// Writes are kept apart, and are gone at the end.
    Ephemeral,
    /// Writes are refused.
    ReadOnly,
}

/// What kind of medium an image is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A hard disk: as long as the file.
    Disk,
    /// A floppy disk: see [`floppy::medium_bytes`].
    Floppy,
    /// A CD-ROM.
    CdRom,
    /// Flash memory: as long as the file.
    Flash,
}

impl Medium {
    /// Whether an image with a structure of its own may be in such a drive.
    fn is_disk(self) -> bool {
        matches!(self, Self::Disk | Self::Flash)
    }

    /// What belongs into such a drive.
    fn wanted(self) -> &'static str {
        match self {
            Self::Disk => "a raw disk image",
            Self::Floppy => "a raw floppy image",
            Self::CdRom => "an ISO 9660 image",
            Self::Flash => "UEFI variables, such as a copy of OVMF_VARS.fd",
        }
    }
}

/// How an image is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Which option names it, for messages.
    pub option: &'a str,
    /// What it is to be.
    pub medium: Medium,
    /// What may be written.
    pub access: Access,
    /// What the user says it is, whatever its content says.
    pub format: Option<Format>,
    /// Whether the user says that what it lies over may be opened.
    pub backing: bool,
}

/// An open image.
pub struct Image {
    /// Its sectors.
    pub backend: Box<dyn BlockBackend>,
    /// Its first bytes, [`HEAD_BYTES`] at most.
    pub head: Vec<u8>,
    /// Bytes in its file.
    pub len: u64,
}

/// Which images may be opened because others lie over them: what is in an image may be anybody's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Below {
    /// None.
    #[default]
    Refused,
    /// Any: the user says so.
    Allowed,
    /// Those in a folder and its folders.
    Within(PathBuf),
}

/// The most images that lie over each other.
pub const MOST_BELOW: usize = 250;

/// Opens the images of one machine.
#[derive(Debug, Default)]
pub struct Opener {
    opened: Vec<Opened>,
    below: Below,
}

/// A file that a machine has as an image, by whatever name.
#[derive(Debug)]
pub struct Opened {
    handle: Handle,
    path: PathBuf,
    option: String,
    writes: bool,
}

impl Opener {
    /// One that opens what images lie over.
    pub fn with_below(below: Below) -> Self {
        Self {
            opened: Vec::new(),
            below,
        }
    }

    /// Opens the image at `path`. For as long as it is open no other machine can write to it.
    ///
    /// # Errors
    /// It is not there, no file, empty, in use, may not be written, or is of a format that this build
    /// cannot use. No byte of it was changed.
    pub fn open(&mut self, path: &Path, request: &Request) -> Result<Image, Error> {
        let writes = request.access == Access::Write;
        let mut file = open_file(path, writes)?;
        let content = Content::of(&mut file, path)?;
        if content.len == 0 {
            return Err(Error::Empty {
                path: path.to_owned(),
                option: request.option.to_owned(),
                wanted: request.medium.wanted(),
            });
        }
        let format = request.format.unwrap_or(content.format);
        // A CD-ROM's image that boots as a disk too is no disk to be written to.
        let written_over = format == Format::Iso9660
            && request.medium == Medium::Disk
            && request.access == Access::Write;
        let fits = format.is_sectors() || format.is_disk() && request.medium.is_disk();
        if !fits || written_over {
            return Err(Error::Foreign {
                path: path.to_owned(),
                option: request.option.to_owned(),
                wanted: request.medium.wanted(),
                found: format,
                is_disk: request.medium == Medium::Disk,
            });
        }
        let medium_bytes = match request.medium {
            Medium::Floppy if content.len > floppy::MOST_BYTES => {
                return Err(Error::TooLarge {
                    path: path.to_owned(),
                    option: request.option.to_owned(),
                    wanted: request.medium.wanted(),
                    most: floppy::MOST_BYTES,
                    found: content.len,
                    advice: "attach it with --disk",
                });
            }
            Medium::Floppy => floppy::medium_bytes(&content.head, content.len),
            Medium::Disk | Medium::CdRom | Medium::Flash => content.len,
        };
        self.claim(&file, path, request)?;
        lock(&file, path, writes)?;
        if !format.is_sectors() {
            let below = match request.backing {
                true => &Below::Allowed,
                false => &self.below,
            };
            let backend = container(file, path, format, writes, below)?;
            let len = backend.sectors() * platform::block::SECTOR_BYTES as u64;
            return Ok(Image {
                backend: match request.access {
                    Access::Ephemeral => Box::new(Overlay::new(crate::Shared::new(backend))),
                    Access::Write | Access::ReadOnly => backend,
                },
                head: Vec::new(),
                len,
            });
        }
        let raw = Raw::new(file, path.to_owned(), content.len, medium_bytes, writes);
        Ok(Image {
            backend: match request.access {
                Access::Ephemeral => Box::new(Overlay::new(raw)),
                Access::Write | Access::ReadOnly => Box::new(raw),
            },
            head: content.head,
            len: content.len,
        })
    }

    /// Which option names the file at `path` as an image, by whatever name: a report there would destroy it.
    pub fn option_of(&self, path: &Path) -> Option<&str> {
        // Opening anything but a file may wait.
        let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        let handle = is_file.then(|| Handle::from_path(path).ok()).flatten()?;
        let same = self.opened.iter().find(|other| other.handle == handle);
        same.map(|other| other.option.as_str())
    }

    /// The machine gives up the image that was opened at `path`: another one of this machine may take it. The file
    /// stays locked for as long as the image, or what this returns, is there.
    pub fn release(&mut self, path: &Path) -> Option<Opened> {
        let at = self.opened.iter().position(|other| other.path == path)?;
        Some(self.opened.remove(at))
    }

    /// The machine has kept the image after all.
    pub fn take_back(&mut self, opened: Opened) {
        self.opened.push(opened);
    }

    /// Notes a file, whatever it is called; where one of two users writes there can be only one.
    fn claim(&mut self, file: &File, path: &Path, request: &Request) -> Result<(), Error> {
        let unreadable = |reason| Error::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let writes = request.access == Access::Write;
        let handle = file
            .try_clone()
            .and_then(Handle::from_file)
            .map_err(unreadable)?;
        let mut same = self.opened.iter().filter(|other| other.handle == handle);
        if let Some(first) = same.find(|other| other.writes || writes) {
            return Err(Error::Twice {
                path: path.to_owned(),
                option: request.option.to_owned(),
                first: first.option.clone(),
                first_path: first.path.clone(),
            });
        }
        self.opened.push(Opened {
            handle,
            path: path.to_owned(),
            option: request.option.to_owned(),
            writes,
        });
        Ok(())
    }
}

/// The image in `file`, which has a structure of its own.
fn container(
    file: File,
    path: &Path,
    format: Format,
    writes: bool,
    below: &Below,
) -> Result<Box<dyn BlockBackend>, Error> {
    let damaged = |reason| Error::Damaged {
        path: path.to_owned(),
        format,
        reason,
    };
    let name = path.to_owned();
    Ok(match format {
        Format::Qcow2 => Box::new(chain(file, path, writes, below, 0)?),
        Format::Vdi => Box::new(crate::vdi::open(file, name, writes).map_err(damaged)?),
        Format::Vhd if crate::vhd::is_fixed(&file).map_err(damaged)? => {
            // Its footer is not the disk's.
            let bytes = crate::vhd::size(&file).map_err(damaged)?;
            Box::new(Raw::new(file, name, bytes, bytes, writes))
        }
        Format::Vhd => Box::new(crate::vhd::open(file, name, writes).map_err(damaged)?),
        Format::Vmdk => Box::new(crate::vmdk::open(file, name, writes).map_err(damaged)?),
        _ => {
            let mut parts: Vec<(u64, Option<Box<dyn BlockBackend>>)> = Vec::new();
            for extent in crate::vmdk::descriptor(&file).map_err(damaged)? {
                let Some(name) = &extent.name else {
                    parts.push((extent.sectors, None));
                    continue;
                };
                let path = path.parent().unwrap_or(Path::new("")).join(name);
                // A link may lead anywhere.
                if std::fs::symlink_metadata(&path).is_ok_and(|file| file.is_symlink()) {
                    let reason = std::io::Error::other(format!("{name} is a link"));
                    return Err(damaged(reason));
                }
                let file = open_file(&path, writes)?;
                lock(&file, &path, writes)?;
                let part: Box<dyn BlockBackend> = match extent.sparse {
                    true => Box::new(crate::vmdk::open(file, path, writes).map_err(damaged)?),
                    false => {
                        let start = extent.at * 512;
                        let len = file.metadata().map_err(damaged)?.len();
                        if start != 0 || len < extent.sectors * 512 {
                            let reason = std::io::Error::other(format!(
                                "{name} has {len} bytes from {start} on, not {} sectors",
                                extent.sectors
                            ));
                            return Err(damaged(reason));
                        }
                        Box::new(Raw::new(file, path, len, len, writes))
                    }
                };
                parts.push((extent.sectors, Some(part)));
            }
            Box::new(crate::vmdk::Joined {
                parts,
                writable: writes,
            })
        }
    })
}

/// The qcow2 image in `file`, with all that it lies over.
fn chain(
    file: File,
    path: &Path,
    writes: bool,
    below: &Below,
    depth: usize,
) -> Result<crate::Qcow2, Error> {
    let damaged = |reason| Error::Damaged {
        path: path.to_owned(),
        format: Format::Qcow2,
        reason,
    };
    let seen = crate::qcow2::look(&file).map_err(damaged)?;
    let backing = match seen.backing {
        None => None,
        Some(_) if depth >= MOST_BELOW => {
            return Err(Error::Chain {
                path: path.to_owned(),
                most: MOST_BELOW,
            });
        }
        Some(backing) => {
            let folder = path.parent().unwrap_or(Path::new(""));
            let lower = folder.join(&backing.path);
            let allowed = match below {
                Below::Refused => false,
                Below::Allowed => true,
                Below::Within(folder) => is_within(&lower, folder),
            };
            if !allowed {
                return Err(Error::Backing {
                    path: path.to_owned(),
                    backing: backing.path,
                });
            }
            let mut file = open_file(&lower, false)?;
            lock(&file, &lower, false)?;
            let content = Content::of(&mut file, &lower)?;
            Some(match backing.format {
                Format::Qcow2 => {
                    Box::new(chain(file, &lower, false, below, depth + 1)?) as Box<dyn BlockBackend>
                }
                _ => Box::new(Raw::new(file, lower, content.len, content.len, false)),
            })
        }
    };
    crate::Qcow2::open(file, path.to_owned(), writes, backing).map_err(damaged)
}

/// Whether the file at `path` is in `folder`, wherever links lead.
fn is_within(path: &Path, folder: &Path) -> bool {
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(folder),
        _ => false,
    }
}

/// What a file is and how it starts.
pub struct Content {
    /// What it is.
    pub format: Format,
    /// Its first bytes, [`HEAD_BYTES`] at most.
    pub head: Vec<u8>,
    /// Bytes in it.
    pub len: u64,
}

impl Content {
    fn of(file: &mut File, path: &Path) -> Result<Self, Error> {
        let mut read = || -> io::Result<Self> {
            // A block device has no length of its own in its metadata; its end has.
            let len = file.seek(SeekFrom::End(0))?;
            let mut part = |from: u64, bytes: usize| -> io::Result<Vec<u8>> {
                let mut part = Vec::new();
                file.seek(SeekFrom::Start(from))?;
                file.take(bytes as u64).read_to_end(&mut part)?;
                Ok(part)
            };
            let tail = part(len.saturating_sub(TAIL_BYTES as u64), TAIL_BYTES)?;
            let head = part(0, HEAD_BYTES)?;
            Ok(Self {
                format: recognise(&head, &tail, len),
                head,
                len,
            })
        };
        read().map_err(|reason| Error::Unreadable {
            path: path.to_owned(),
            reason,
        })
    }
}

/// What a file that is read whole is for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// Which option names it, for messages.
    pub option: &'a str,
    /// What belongs there.
    pub wanted: &'static str,
    /// How large it may be, in bytes.
    pub most: u64,
    /// Whether bytes of that kind can be meant. A module for a kernel may be anything.
    pub takes: fn(Kind) -> bool,
}

/// Reads a whole file.
///
/// # Errors
/// It cannot be read, is no file, is too large, or is of a kind that is of no use there.
pub fn read_whole(path: &Path, purpose: &Purpose) -> Result<Vec<u8>, Error> {
    let mut file = open_file(path, false)?;
    let content = Content::of(&mut file, path)?;
    let (path, option) = (path.to_owned(), purpose.option.to_owned());
    if !(purpose.takes)(content.format.kind()) {
        return Err(Error::Foreign {
            path,
            option,
            wanted: purpose.wanted,
            found: content.format,
            is_disk: false,
        });
    }
    if content.len > purpose.most {
        return Err(Error::TooLarge {
            path,
            option,
            wanted: purpose.wanted,
            most: purpose.most,
            found: content.len,
            advice: "check that it is the right file",
        });
    }
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.take(purpose.most).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(reason) => Err(Error::Unreadable { path, reason }),
    }
}

/// Looks at the file at `path`.
///
/// # Errors
/// It cannot be read, or is no file.
pub fn look(path: &Path) -> Result<Content, Error> {
    Content::of(&mut open_file(path, false)?, path)
}

/// Opens a file or block device: opening a FIFO would wait for a writer.
fn open_file(path: &Path, writes: bool) -> Result<File, Error> {
    let unreadable = |reason| Error::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Error::Directory {
            path: path.to_owned(),
        });
    }
    if let Some(found) = other_than_file(metadata.file_type()) {
        return Err(Error::NoFile {
            path: path.to_owned(),
            found,
        });
    }
    let read_only = || Error::ReadOnly {
        path: path.to_owned(),
    };
    match OpenOptions::new().read(true).write(writes).open(path) {
        Err(error)
            if writes
                && matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                )
                && File::open(path).is_ok() =>
        {
            Err(read_only())
        }
        // Root may write it all the same, which its owner did not mean.
        Ok(_) if writes && metadata.permissions().readonly() => Err(read_only()),
        file => file.map_err(unreadable),
    }
}

/// One writer, or any number of readers. A host without locks runs on without.
fn lock(file: &File, path: &Path, writes: bool) -> Result<(), Error> {
    let locked = if writes {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: path.to_owned(),
            writes,
        }),
        Err(TryLockError::Error(error)) => {
            log::warn!(target: "disk", "{}: cannot be locked: {error}", path.display());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: usize) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        std::fs::write(&path, vec![0x11; bytes]).unwrap();
        (folder, path)
    }

    fn request(medium: Medium, access: Access) -> Request<'static> {
        Request {
            option: "--disk",
            medium,
            access,
            format: None,
            backing: false,
        }
    }

    /// Opens it as a machine of its own.
    fn open(path: &Path, access: Access) -> Result<Box<dyn BlockBackend>, Error> {
        let image = Opener::default().open(path, &request(Medium::Disk, access));
        image.map(|image| image.backend)
    }

    fn said(result: Result<Box<dyn BlockBackend>, Error>) -> String {
        match result {
            Ok(_) => panic!("expected a refusal"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn sectors_are_written_whole_and_read_back() {
        let (_folder, path) = image(2048);
        let mut disk = open(&path, Access::Write).unwrap();
        disk.write(1, &[0x22; 1024]).unwrap();
        let mut buf = [0; 2048];
        disk.read(0, &mut buf).unwrap();
        assert_eq!((buf[511], buf[512], buf[1536]), (0x11, 0x22, 0x11));
        assert!(disk.write(3, &[0; 1024]).is_err());
        assert!(disk.write(0, &[0; 100]).is_err());
        assert!(disk.read(u64::MAX, &mut buf).is_err());
        drop(disk);
        assert_eq!(std::fs::read(&path).unwrap(), buf);
    }

    #[test]
    fn ephemeral_writes_leave_the_file_alone() {
        let (_folder, path) = image(1024);
        let mut disk = open(&path, Access::Ephemeral).unwrap();
        disk.write(1, &[0x22; 512]).unwrap();
        let mut buf = [0; 1024];
        disk.read(0, &mut buf).unwrap();
        assert_eq!((buf[511], buf[512]), (0x11, 0x22));
        drop(disk);
        assert_eq!(std::fs::read(&path).unwrap(), vec![0x11; 1024]);
    }

    #[test]
    fn a_partial_last_sector_reads_as_zeros_and_is_made_whole_by_a_write() {
        let (_folder, path) = image(600);
        let mut disk = open(&path, Access::Write).unwrap();
        assert_eq!(disk.sectors(), 2);
        let mut buf = [0xFF; 512];
        disk.read(1, &mut buf).unwrap();
        assert_eq!((buf[87], buf[88], buf[511]), (0x11, 0, 0));
        disk.write(0, &[0x22; 512]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 600);
        disk.write(1, &[0x22; 512]).unwrap();
        drop(disk);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1024);
    }

    #[test]
    fn a_short_floppy_image_is_on_a_whole_medium() {
        let (_folder, path) = image(2500);
        let floppy = |access| {
            let image = Opener::default().open(&path, &request(Medium::Floppy, access));
            image.unwrap().backend
        };
        let mut disk = floppy(Access::Ephemeral);
        disk.write(2879, &[0x22; 512]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2500);
        drop(disk);

        let mut disk = floppy(Access::Write);
        assert_eq!(disk.sectors(), 2880);
        let mut buf = [0xFF; 1024];
        disk.read(4, &mut buf).unwrap();
        assert_eq!((buf[451], buf[452], buf[1023]), (0x11, 0, 0));
        disk.read(2878, &mut buf).unwrap();
        assert_eq!(buf, [0; 1024]);
        assert!(disk.read(2880, &mut buf[..512]).is_err());
        // Within the file nothing grows; behind it the file becomes the medium, whatever was written.
        disk.write(1, &[0x22; 512]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2500);
        disk.write(100, &[0x33; 512]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1_474_560);
        drop(disk);
        assert_eq!(floppy(Access::Write).sectors(), 2880);
    }

    #[test]
    fn two_writers_are_refused() {
        let (_folder, path) = image(512);
        let first = open(&path, Access::Write).unwrap();
        assert!(said(open(&path, Access::Write)).contains("in use by another machine"));
        assert!(open(&path, Access::Ephemeral).is_err());
        assert!(open(&path, Access::ReadOnly).is_err());
        drop(first);
        let _one = open(&path, Access::Ephemeral).unwrap();
        let _two = open(&path, Access::ReadOnly).unwrap();
    }

    #[test]
    fn one_machine_notices_that_it_names_a_file_twice() {
        let (folder, path) = image(512);
        let link = folder.path().join("link.img");
        std::fs::hard_link(&path, &link).unwrap();
        for other in [&path, &link] {
            let mut opener = Opener::default();
            let write = request(Medium::Disk, Access::Write);
            let _first = opener.open(&path, &write).unwrap();
            for access in [Access::Write, Access::ReadOnly] {
                let second = opener.open(other, &request(Medium::Disk, access));
                let said = said(second.map(|image| image.backend));
                assert!(said.contains("--disk names already"), "{said}");
            }
        }
        // Two that leave it alone do no harm.
        let mut opener = Opener::default();
        let shared = request(Medium::Disk, Access::Ephemeral);
        let _one = opener.open(&path, &shared).unwrap();
        let _two = opener.open(&path, &shared).unwrap();
    }

    #[test]
    fn what_is_no_image_is_named() {
        let (folder, path) = image(0);
        let error = |path: &Path| said(open(path, Access::Write));
        assert!(error(&path).contains("empty file"));
        assert!(error(folder.path()).contains("directory"));
        assert!(error(&folder.path().join("none")).contains("check its name"));
        if cfg!(unix) {
            assert!(error(Path::new("/dev/full")).contains("character device"));
        }
    }

    #[test]
    fn another_format_is_refused_unless_the_user_says_that_it_is_raw() {
        let (_folder, path) = image(1024);
        let mut bytes = vec![0; 1024];
        bytes[..8].copy_from_slice(b"QFI\xFB\0\0\0\x01");
        std::fs::write(&path, &bytes).unwrap();
        let said = said(open(&path, Access::Write));
        assert!(
            said.contains("a qcow image") && said.contains("qemu-img convert"),
            "{said}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let raw = Request {
            format: Some(Format::Raw),
            ..request(Medium::Disk, Access::Write)
        };
        assert!(Opener::default().open(&path, &raw).is_ok());
    }
}
