//! Disks whose images are blocks found by a table: what VDI, VHD and VMDK have in common.
//!
//! They lie over nothing, so a block that is new replaces zeros: its content goes behind the file's end first, then the
//! table's entry. Whatever ends the process in between, the block reads as zeros, and its room is lost at worst.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use platform::BlockBackend;
use platform::block::SECTOR_BYTES;

use crate::bytes::{read_at, write_at};
use crate::raw::start_of;

/// Where a block's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It reads as zeros.
    Zeros,
    /// At this offset of the file.
    At(u64),
    /// Packed, at this offset of the file: only read.
    Packed(u64),
}

/// A format's table.
pub(crate) trait Table: Send {
    /// Bytes in a block.
    fn block_bytes(&self) -> u64;

    /// Where the block `number` is.
    fn find(&mut self, file: &File, number: u64) -> io::Result<Found>;

    /// Whether a sector of a block that is somewhere has been written; where formats do not say, it has.
    fn has_sector(&mut self, _file: &File, _number: u64, _sector: u64) -> io::Result<bool> {
        Ok(true)
    }

    /// Says that sectors of a block were written.
    fn wrote(&mut self, _file: &File, _number: u64, _first: u64, _count: u64) -> io::Result<()> {
        Ok(())
    }

    /// Gives the block `number` a place, with this content.
    fn place(&mut self, file: &File, number: u64, content: &[u8]) -> io::Result<()>;

    /// The content of a packed block.
    fn unpack(&mut self, _file: &File, _offset: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A disk in a file with a table.
pub(crate) struct Blocks<T> {
    pub file: File,
    pub path: PathBuf,
    pub table: T,
    /// Bytes on the disk.
    pub size: u64,
    pub writable: bool,
    pub unpacked: Option<(u64, Vec<u8>)>,
}

impl<T: Table> Blocks<T> {
    fn pieces(
        &self,
        start: u64,
        len: usize,
    ) -> impl Iterator<Item = (u64, u64, std::ops::Range<usize>)> + use<T> {
        let block = self.table.block_bytes();
        let mut done = 0;
        std::iter::from_fn(move || {
            if done == len {
                return None;
            }
            let at = start + done as u64;
            let piece = (len - done).min((block - at % block) as usize);
            done += piece;
            Some((at / block, at % block, done - piece..done))
        })
    }

    fn read_part(&mut self, number: u64, from: u64, buf: &mut [u8]) -> io::Result<()> {
        match self.table.find(&self.file, number)? {
            Found::Zeros => buf.fill(0),
            Found::At(offset) => {
                read_at(&self.file, offset + from, buf)?;
                let first = from / SECTOR_BYTES as u64;
                for (sector, bytes) in (first..).zip(buf.chunks_mut(SECTOR_BYTES)) {
                    if !self.table.has_sector(&self.file, number, sector)? {
                        bytes.fill(0);
                    }
                }
            }
            Found::Packed(offset) => {
                if self
                    .unpacked
                    .as_ref()
                    .is_none_or(|(known, _)| *known != offset)
                {
                    let mut content = self.table.unpack(&self.file, offset)?;
                    content.resize(self.table.block_bytes() as usize, 0);
                    self.unpacked = Some((offset, content));
                }
                if let Some((_, content)) = &self.unpacked {
                    buf.copy_from_slice(&content[from as usize..from as usize + buf.len()]);
                }
            }
        }
        Ok(())
    }
}

impl<T: Table> BlockBackend for Blocks<T> {
    fn sectors(&self) -> u64 {
        self.size / SECTOR_BYTES as u64
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = start_of(self.sectors(), lba, buf.len())?;
        for (number, from, range) in self.pieces(start, buf.len()) {
            self.read_part(number, from, &mut buf[range])?;
        }
        Ok(())
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let start = start_of(self.sectors(), lba, buf.len())?;
        for (number, from, range) in self.pieces(start, buf.len()) {
            let buf = &buf[range];
            match self.table.find(&self.file, number)? {
                Found::At(offset) => {
                    write_at(&self.file, offset + from, buf)?;
                    let sector = SECTOR_BYTES as u64;
                    self.table.wrote(
                        &self.file,
                        number,
                        from / sector,
                        buf.len() as u64 / sector,
                    )?;
                }
                Found::Zeros => {
                    // Zeros over zeros take no room.
                    if buf.iter().any(|&byte| byte != 0) {
                        let mut content = vec![0; self.table.block_bytes() as usize];
                        content[from as usize..from as usize + buf.len()].copy_from_slice(buf);
                        self.table.place(&self.file, number, &content)?;
                    }
                }
                Found::Packed(_) => return Err(io::ErrorKind::PermissionDenied.into()),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.writable {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }

    fn read_only(&self) -> bool {
        !self.writable
    }

    /// Length and time of the last change.
    fn generation(&mut self) -> io::Result<String> {
        let metadata = self.file.metadata()?;
        let changed = metadata.modified().ok();
        let since = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(format!(
            "{} bytes, {} ns",
            metadata.len(),
            since.unwrap_or_default().as_nanos()
        ))
    }
}

impl<T> Drop for Blocks<T> {
    fn drop(&mut self) {
        if self.writable
            && let Err(error) = self.file.sync_data()
        {
            log::error!(target: "disk", "{}: cannot be flushed: {error}", self.path.display());
        }
    }
}
