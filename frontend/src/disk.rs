//! Disk images in files.
//!
//! Sectors go to the file whole, one write call for a run of them at a sector's offset, so that even a
//! killed process leaves each sector old or new. An image whose size is no multiple of 512 has a last
//! sector that reads as if padded with zeros; writing that sector makes the file whole.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use platform::BlockBackend;
use platform::block::SECTOR_BYTES;

/// What may be written to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes go to the file.
    Write,
    /// Writes stay in memory, and are gone at the end.
    Ephemeral,
    /// Writes are refused: a CD-ROM.
    ReadOnly,
}

/// A disk image in a file.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    path: PathBuf,
    bytes: u64,
    access: Access,
    /// What was written to an ephemeral disk.
    overlay: BTreeMap<u64, Box<[u8; SECTOR_BYTES]>>,
}

impl FileDisk {
    /// Opens the image at `path`. For as long as it is open no other machine can write to it.
    ///
    /// # Errors
    /// It is not there, no file, empty, in use, or may not be written; the message says what to do.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let name = path.display();
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if metadata.is_dir() {
            bail!("{name}: expected an image file, found a directory; name the file in it");
        }
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(path);
        let file = match file {
            Err(error)
                if access == Access::Write
                    && matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    )
                    && File::open(path).is_ok() =>
            {
                bail!(
                    "{name}: expected a disk image that may be written, found it read-only; \
                     make it writable, or add --ephemeral to keep writes in memory"
                )
            }
            file => file.map_err(|error| unreadable(path, &error))?,
        };
        if access == Access::Write && metadata.permissions().readonly() {
            bail!(
                "{name}: expected a disk image that may be written, found it read-only; \
                 make it writable, or add --ephemeral to keep writes in memory"
            );
        }
        lock(&file, path, access)?;
        let mut disk = Self {
            file,
            path: path.to_owned(),
            bytes: 0,
            access,
            overlay: BTreeMap::new(),
        };
        // A block device has no length of its own in its metadata; its end has.
        disk.bytes = disk
            .file
            .seek(SeekFrom::End(0))
            .map_err(|error| unreadable(path, &error))?;
        if disk.bytes == 0 {
            bail!("{name}: expected a disk image, found an empty file; check how it was made");
        }
        Ok(disk)
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// The first bytes of the file, `limit` of them at most.
    ///
    /// # Errors
    /// A host failure.
    pub fn head(&mut self, limit: u64) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| (&mut self.file).take(limit).read_to_end(&mut head))
            .map_err(|error| unreadable(&self.path, &error))?;
        Ok(head)
    }

    fn check_range(&self, lba: u64, bytes: usize) -> io::Result<()> {
        let end = lba.checked_add((bytes / SECTOR_BYTES) as u64);
        if !bytes.is_multiple_of(SECTOR_BYTES) || end.is_none_or(|end| end > self.sectors()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "sectors past the end of the disk",
            ));
        }
        Ok(())
    }
}

impl BlockBackend for FileDisk {
    fn sectors(&self) -> u64 {
        self.bytes.div_ceil(SECTOR_BYTES as u64)
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        self.check_range(lba, buf.len())?;
        let start = lba * SECTOR_BYTES as u64;
        let in_file = ((self.bytes - start) as usize).min(buf.len());
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut buf[..in_file])?;
        buf[in_file..].fill(0);
        let end = lba + (buf.len() / SECTOR_BYTES) as u64;
        for (&at, sector) in self.overlay.range(lba..end) {
            let offset = (at - lba) as usize * SECTOR_BYTES;
            buf[offset..offset + SECTOR_BYTES].copy_from_slice(&sector[..]);
        }
        Ok(())
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        self.check_range(lba, buf.len())?;
        match self.access {
            Access::Write => {
                let start = lba * SECTOR_BYTES as u64;
                self.file.seek(SeekFrom::Start(start))?;
                self.file.write_all(buf)?;
                self.bytes = self.bytes.max(start + buf.len() as u64);
            }
            Access::Ephemeral => {
                let (sectors, _) = buf.as_chunks::<SECTOR_BYTES>();
                for (at, sector) in (lba..).zip(sectors) {
                    self.overlay.insert(at, Box::new(*sector));
                }
            }
            Access::ReadOnly => return Err(io::ErrorKind::PermissionDenied.into()),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.access {
            Access::Write => self.file.sync_data(),
            Access::Ephemeral | Access::ReadOnly => Ok(()),
        }
    }

    fn read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }
}

impl Drop for FileDisk {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            log::error!(target: "disk", "{}: cannot be flushed: {error}", self.path.display());
        }
    }
}

/// The error for a file that cannot be read.
pub fn unreadable(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow!(
        "{}: expected a readable file, found: {error}; check its name and permissions",
        path.display()
    )
}

/// One writer, or any number of readers. A host without locks runs on without.
fn lock(file: &File, path: &Path, access: Access) -> Result<()> {
    let locked = match access {
        Access::Write => file.try_lock(),
        Access::Ephemeral | Access::ReadOnly => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) if access == Access::Write => bail!(
            "{}: expected a disk image that nobody else uses, found it in use by another machine; \
             end that one, or add --ephemeral to both",
            path.display()
        ),
        Err(TryLockError::WouldBlock) => bail!(
            "{}: expected a disk image that nobody writes to, found it in use by another machine; \
             end that one first",
            path.display()
        ),
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

    #[test]
    fn sectors_are_written_whole_and_read_back() {
        let (_folder, path) = image(2048);
        let mut disk = FileDisk::open(&path, Access::Write).unwrap();
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
        let mut disk = FileDisk::open(&path, Access::Ephemeral).unwrap();
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
        let mut disk = FileDisk::open(&path, Access::Write).unwrap();
        assert_eq!(disk.sectors(), 2);
        let mut buf = [0xFF; 512];
        disk.read(1, &mut buf).unwrap();
        assert_eq!((buf[87], buf[88], buf[511]), (0x11, 0, 0));
        disk.write(1, &[0x22; 512]).unwrap();
        drop(disk);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1024);
    }

    #[test]
    fn two_writers_are_refused() {
        let (_folder, path) = image(512);
        let first = FileDisk::open(&path, Access::Write).unwrap();
        let second = FileDisk::open(&path, Access::Write).unwrap_err();
        assert!(second.to_string().contains("in use by another machine"));
        assert!(FileDisk::open(&path, Access::Ephemeral).is_err());
        drop(first);
        let _one = FileDisk::open(&path, Access::Ephemeral).unwrap();
        let _two = FileDisk::open(&path, Access::Ephemeral).unwrap();
    }

    #[test]
    fn what_is_no_image_is_named() {
        let (folder, path) = image(0);
        let error = |path: &Path| FileDisk::open(path, Access::Write).unwrap_err().to_string();
        assert!(error(&path).contains("empty file"));
        assert!(error(folder.path()).contains("directory"));
        assert!(error(&folder.path().join("none")).contains("check its name"));
    }
}
