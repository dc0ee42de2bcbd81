//! Where a disk's sectors come from.

use std::io;

/// Bytes in a sector of every block backend.
pub const SECTOR_BYTES: usize = 512;

/// A store of 512-byte sectors behind a disk device.
pub trait BlockBackend: Send {
    /// How many whole sectors there are.
    fn sectors(&self) -> u64;

    /// Reads whole sectors from `lba` on; `buf` is a multiple of [`SECTOR_BYTES`].
    ///
    /// # Errors
    /// A host failure, or a range past the end. The device reports it to the guest as a media error.
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes whole sectors from `lba` on; each sector reaches the store whole or not at all.
    ///
    /// # Errors
    /// As for [`read`](Self::read), and when the store is read-only.
    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// A host failure.
    fn flush(&mut self) -> io::Result<()>;

    /// Nothing has been asked of the store for a moment: what it keeps back for a while may be written.
    ///
    /// # Errors
    /// A host failure.
    fn idle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether writes are refused.
    fn read_only(&self) -> bool {
        false
    }

    /// The medium's user does not need these sectors any more: what they read as from now on is open, and the host
    /// may have its room back.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    fn discard(&mut self, _lba: u64, _sectors: u64) -> io::Result<()> {
        Ok(())
    }

    /// Cylinders, heads and sectors in a track, where a disk has others than its size would give it.
    fn geometry(&self) -> Option<[u16; 3]> {
        None
    }

    /// Writes down what of the disk is nowhere but in this process: for a saved machine.
    ///
    /// # Errors
    /// A host failure.
    fn save_kept(&mut self, _out: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }

    /// Takes over what [`save_kept`](Self::save_kept) of a disk that was opened alike wrote down.
    ///
    /// # Errors
    /// It is damaged or of another disk.
    fn load_kept(&mut self, _input: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }

    /// A text that changes when the store is changed by anybody: for a saved machine, whose disks
    /// must be as it left them.
    ///
    /// # Errors
    /// A host failure.
    fn generation(&mut self) -> io::Result<String> {
        Ok(String::new())
    }
}

/// A disk in memory: for tests, and for the images that the binary carries.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    bytes: Vec<u8>,
}

impl MemoryDisk {
    /// A disk that holds `bytes`, padded with zeros to a whole sector.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
        Self { bytes }
    }

    /// The disk's content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn range(&self, lba: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
        usize::try_from(lba)
            .ok()
            .and_then(|lba| lba.checked_mul(SECTOR_BYTES))
            .and_then(|start| Some(start..start.checked_add(len)?))
            .filter(|range| range.end <= self.bytes.len())
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "sector past the end of the disk",
                )
            })
    }
}

impl BlockBackend for MemoryDisk {
    fn sectors(&self) -> u64 {
        (self.bytes.len() / SECTOR_BYTES) as u64
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = self.range(lba, buf.len())?;
        buf.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        let range = self.range(lba, buf.len())?;
        self.bytes[range].copy_from_slice(buf);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn save_kept(&mut self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(&self.bytes)
    }

    fn load_kept(&mut self, input: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = vec![0; self.bytes.len()];
        input.read_exact(&mut bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}
