//! Sectors in a file, as they are.
//!
//! Sectors go to the file whole, one write call for a run of them at a sector's offset, so that even a
//! killed process leaves each sector old or new. A file may be shorter than its medium: what lies behind
//! its end reads as zeros, the rest of a last sector too. The first write there makes the file as long as the
//! medium, by a hole where the host has such, so that the next run finds the same medium.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use platform::BlockBackend;
use platform::block::SECTOR_BYTES;

/// A raw image in a file.
#[derive(Debug)]
pub struct Raw {
    file: File,
    path: PathBuf,
    /// Bytes in the file.
    file_bytes: u64,
    /// Sectors on the medium.
    sectors: u64,
    writable: bool,
}

impl Raw {
    /// The image in `file`, which has `file_bytes`, on a medium of `medium_bytes`, or of as many as the file has.
    pub fn new(
        file: File,
        path: PathBuf,
        file_bytes: u64,
        medium_bytes: u64,
        writable: bool,
    ) -> Self {
        Self {
            file,
            path,
            file_bytes,
            sectors: medium_bytes.max(file_bytes).div_ceil(SECTOR_BYTES as u64),
            writable,
        }
    }
}

/// Where `len` bytes from `lba` on start, in bytes.
///
/// # Errors
/// They are no whole sectors, or pass the end of `sectors`.
pub(crate) fn start_of(sectors: u64, lba: u64, len: usize) -> io::Result<u64> {
    let end = lba.checked_add((len / SECTOR_BYTES) as u64);
    if !len.is_multiple_of(SECTOR_BYTES) || end.is_none_or(|end| end > sectors) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "sectors past the end of the disk",
        ));
    }
    Ok(lba * SECTOR_BYTES as u64)
}

impl BlockBackend for Raw {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = start_of(self.sectors, lba, buf.len())?;
        let in_file = self.file_bytes.saturating_sub(start).min(buf.len() as u64) as usize;
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut buf[..in_file])?;
        buf[in_file..].fill(0);
        Ok(())
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let start = start_of(self.sectors, lba, buf.len())?;
        if start + buf.len() as u64 > self.file_bytes {
            let medium_bytes = self.sectors * SECTOR_BYTES as u64;
            self.file.set_len(medium_bytes)?;
            self.file_bytes = medium_bytes;
        }
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.writable {
            self.file.sync_data()
        } else {
            Ok(())
        }
    }

    /// Makes a hole in the file, which reads as zeros.
    fn discard(&mut self, lba: u64, sectors: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let (start, end) = match lba.checked_add(sectors) {
            Some(end) if end <= self.sectors => (lba, end),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let [start, end] = [start, end].map(|lba| lba * SECTOR_BYTES as u64);
        let end = end.min(self.file_bytes);
        if start < end {
            host::files::make_hole(&self.file, start, end - start);
        }
        Ok(())
    }

    /// Length and time of the last change.
    fn generation(&mut self) -> io::Result<String> {
        let metadata = self.file.metadata()?;
        let changed = metadata.modified().ok();
        let since = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let since = since.unwrap_or_default();
        Ok(format!("{} bytes, {} ns", metadata.len(), since.as_nanos()))
    }

    fn read_only(&self) -> bool {
        !self.writable
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            log::error!(target: "disk", "{}: cannot be flushed: {error}", self.path.display());
        }
    }
}
