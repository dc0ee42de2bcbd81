//! Writes that leave what they lie over alone, and are gone at the end.
//!
//! Sectors are kept in chunks of 64 KiB with a bit for each sector, so that the bookkeeping is a
//! thousandth of what was written. The first chunks stay in memory; a guest that writes more gets the rest in a
//! temporary file without a name, so that one that writes its whole disk does not fill the host's memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use platform::BlockBackend;
use platform::block::SECTOR_BYTES;

use crate::raw::start_of;

/// Bytes in a chunk.
pub const CHUNK_BYTES: usize = CHUNK_SECTORS as usize * SECTOR_BYTES;

/// As many as the map of a chunk has bits.
const CHUNK_SECTORS: u64 = u128::BITS as u64;

/// What stays in memory, in bytes; beyond it the temporary file grows.
pub const MEMORY_BYTES: usize = 64 << 20;

/// What was written over a backend that is only read.
#[derive(Debug)]
pub struct Overlay<B> {
    base: B,
    /// The chunks that were written to, by number.
    chunks: BTreeMap<u64, Chunk>,
    memory: Vec<Box<[u8]>>,
    /// How many chunks memory may hold.
    memory_chunks: usize,
    spill: Option<File>,
}

#[derive(Debug)]
struct Chunk {
    /// Its place in memory, or behind all those in the file.
    slot: usize,
    /// Its sectors that were written.
    written: u128,
}

impl<B: BlockBackend> Overlay<B> {
    /// Lies over `base`, and keeps at most [`MEMORY_BYTES`] in memory.
    pub fn new(base: B) -> Self {
        Self::with_memory(base, MEMORY_BYTES)
    }

    /// Lies over `base`, and keeps at most `bytes` in memory.
    pub fn with_memory(base: B, bytes: usize) -> Self {
        Self {
            base,
            chunks: BTreeMap::new(),
            memory: Vec::new(),
            memory_chunks: bytes / CHUNK_BYTES,
            spill: None,
        }
    }

    /// The chunk `number`, which is made if there is none.
    fn chunk(&mut self, number: u64) -> io::Result<&mut Chunk> {
        let slot = self.chunks.len();
        if !self.chunks.contains_key(&number) {
            if slot < self.memory_chunks {
                self.memory.push(vec![0; CHUNK_BYTES].into_boxed_slice());
            } else if self.spill.is_none() {
                self.spill = Some(spill_file()?);
            }
        }
        Ok(self
            .chunks
            .entry(number)
            .or_insert(Chunk { slot, written: 0 }))
    }

    /// The file, at `offset` of the chunk in `slot`.
    fn spilled(&mut self, slot: usize, offset: usize) -> io::Result<&mut File> {
        let at = (slot - self.memory_chunks) as u64 * CHUNK_BYTES as u64 + offset as u64;
        let file = self.spill.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.seek(SeekFrom::Start(at))?;
        Ok(file)
    }
}

/// Bits `first` to `first + count` of a chunk's map.
fn mask(first: u64, count: u64) -> u128 {
    (!0 >> (CHUNK_SECTORS - count)) << first
}

/// Splits `len` bytes from `lba` on at chunks: chunk, first sector in it, and the bytes' range.
fn pieces(lba: u64, len: usize) -> impl Iterator<Item = (u64, u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = lba + (done / SECTOR_BYTES) as u64;
        let first = at % CHUNK_SECTORS;
        let room = (CHUNK_SECTORS - first) as usize * SECTOR_BYTES;
        let range = done..len.min(done + room);
        done = range.end;
        Some((at / CHUNK_SECTORS, first, range))
    })
}

/// A file without a name: nothing of it is left, however the process ends.
///
/// As QEMU has it: where TMPDIR says, else in /var/tmp, as /tmp may be memory.
fn spill_file() -> io::Result<File> {
    let large = PathBuf::from("/var/tmp");
    let folder = match std::env::var_os("TMPDIR") {
        None if cfg!(unix) && large.is_dir() => large,
        _ => std::env::temp_dir(),
    };
    tempfile::tempfile_in(&folder).inspect_err(|error| {
        log::error!(
            target: "disk",
            "{}: no temporary file for what the guest writes: {error}; set TMPDIR to a folder with room",
            folder.display()
        );
    })
}

impl<B: BlockBackend> BlockBackend for Overlay<B> {
    fn sectors(&self) -> u64 {
        self.base.sectors()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        start_of(self.sectors(), lba, buf.len())?;
        for (number, first, range) in pieces(lba, buf.len()) {
            let buf = &mut buf[range];
            let count = (buf.len() / SECTOR_BYTES) as u64;
            let chunk = self.chunks.get(&number);
            let (slot, written) = chunk.map_or((0, 0), |chunk| (chunk.slot, chunk.written));
            let wanted = mask(first, count);
            if written & wanted != wanted {
                self.base.read(number * CHUNK_SECTORS + first, buf)?;
            }
            let (sectors, _) = buf.as_chunks_mut::<SECTOR_BYTES>();
            for (at, sector) in (first..).zip(sectors) {
                if written >> at & 1 == 0 {
                    continue;
                }
                let offset = at as usize * SECTOR_BYTES;
                match self.memory.get(slot) {
                    Some(chunk) => sector.copy_from_slice(&chunk[offset..offset + SECTOR_BYTES]),
                    None => self.spilled(slot, offset)?.read_exact(sector)?,
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        start_of(self.sectors(), lba, buf.len())?;
        for (number, first, range) in pieces(lba, buf.len()) {
            let buf = &buf[range];
            let count = (buf.len() / SECTOR_BYTES) as u64;
            let slot = self.chunk(number)?.slot;
            let offset = first as usize * SECTOR_BYTES;
            match self.memory.get_mut(slot) {
                Some(chunk) => chunk[offset..offset + buf.len()].copy_from_slice(buf),
                None => self.spilled(slot, offset)?.write_all(buf)?,
            }
            self.chunk(number)?.written |= mask(first, count);
        }
        Ok(())
    }

    /// Nothing of it lasts.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Each chunk that was written to: its number, the map of its sectors, and those sectors.
    fn save_kept(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let numbers: Vec<u64> = self.chunks.keys().copied().collect();
        let mut sector = [0; SECTOR_BYTES];
        for number in numbers {
            let written = self.chunks[&number].written;
            out.write_all(&number.to_le_bytes())?;
            out.write_all(&written.to_le_bytes())?;
            for at in (0..CHUNK_SECTORS).filter(|at| written >> at & 1 != 0) {
                self.read(number * CHUNK_SECTORS + at, &mut sector)?;
                out.write_all(&sector)?;
            }
        }
        Ok(())
    }

    fn load_kept(&mut self, input: &mut dyn Read) -> io::Result<()> {
        let mut number = [0; 8];
        let mut sector = [0; SECTOR_BYTES];
        // The end of the input is where a chunk would begin.
        while input.read(&mut number[..1])? != 0 {
            input.read_exact(&mut number[1..])?;
            let mut written = [0; 16];
            input.read_exact(&mut written)?;
            let written = u128::from_le_bytes(written);
            let first = u64::from_le_bytes(number)
                .checked_mul(CHUNK_SECTORS)
                .ok_or(io::ErrorKind::InvalidData)?;
            for at in (0..CHUNK_SECTORS).filter(|at| written >> at & 1 != 0) {
                input.read_exact(&mut sector)?;
                self.write(first + at, &sector)?;
            }
        }
        Ok(())
    }

    fn generation(&mut self) -> io::Result<String> {
        self.base.generation()
    }
}

#[cfg(test)]
mod tests {
    use platform::MemoryDisk;

    use super::*;

    #[test]
    fn what_was_kept_comes_back_over_the_same_base() {
        let base = || MemoryDisk::new(vec![0x11; 300 * SECTOR_BYTES]);
        let mut overlay = Overlay::with_memory(base(), CHUNK_BYTES);
        for lba in [0, 5, 127, 128, 299] {
            overlay.write(lba, &[lba as u8; SECTOR_BYTES]).unwrap();
        }
        let mut kept = Vec::new();
        overlay.save_kept(&mut kept).unwrap();
        assert_eq!(kept.len(), 3 * 24 + 5 * SECTOR_BYTES);
        let mut other = Overlay::new(base());
        other.load_kept(&mut &kept[..]).unwrap();
        let (mut one, mut two) = (vec![0; 300 * SECTOR_BYTES], vec![0; 300 * SECTOR_BYTES]);
        overlay.read(0, &mut one).unwrap();
        other.read(0, &mut two).unwrap();
        assert!(one == two);
        let cut = &kept[..kept.len() - 1];
        assert!(Overlay::new(base()).load_kept(&mut &cut[..]).is_err());
        let small = MemoryDisk::new(vec![0; SECTOR_BYTES]);
        assert!(Overlay::new(small).load_kept(&mut &kept[..]).is_err());
    }

    /// Against a plain copy: random reads and writes across chunks, in memory and in the file.
    #[test]
    fn an_overlay_reads_as_a_copy_that_was_written() {
        const SECTORS: u64 = 1000;
        let base: Vec<u8> = (0..SECTORS as usize * SECTOR_BYTES)
            .map(|at| (at / SECTOR_BYTES) as u8)
            .collect();
        let mut copy = MemoryDisk::new(base.clone());
        let mut overlay = Overlay::with_memory(MemoryDisk::new(base.clone()), 2 * CHUNK_BYTES);
        let mut seed = 1u64;
        let mut next = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..2000 {
            let lba = next(SECTORS);
            let len = next(200.min(SECTORS - lba) + 1) as usize * SECTOR_BYTES;
            let mut bytes = vec![next(256) as u8; len];
            if next(2) == 0 {
                overlay.write(lba, &bytes).unwrap();
                copy.write(lba, &bytes).unwrap();
            } else {
                overlay.read(lba, &mut bytes).unwrap();
                assert!(bytes == copy.bytes()[lba as usize * SECTOR_BYTES..][..len]);
            }
        }
        assert!(overlay.spill.is_some() && overlay.memory.len() == 2);
        assert!(overlay.base.bytes() == base);
        assert!(overlay.write(SECTORS, &[0; 512]).is_err());
        assert!(overlay.read(0, &mut [0; 100]).is_err());
        assert!(overlay.read(u64::MAX, &mut [0; 512]).is_err());
    }

    #[test]
    fn a_disk_that_is_written_whole_takes_bounded_memory() {
        /// A terabyte of zeros.
        struct Huge;
        impl BlockBackend for Huge {
            fn sectors(&self) -> u64 {
                1 << 31
            }
            fn read(&mut self, _: u64, buf: &mut [u8]) -> io::Result<()> {
                buf.fill(0);
                Ok(())
            }
            fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
                unreachable!("an overlay leaves its base alone")
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut overlay = Overlay::with_memory(Huge, 4 * CHUNK_BYTES);
        for chunk in 0..2000 {
            overlay
                .write(chunk * 1_000_003, &[chunk as u8; 512])
                .unwrap();
        }
        assert_eq!(overlay.memory.len(), 4);
        let mut sector = [0; 512];
        for chunk in 0..2000 {
            overlay.read(chunk * 1_000_003, &mut sector).unwrap();
            assert_eq!(sector, [chunk as u8; 512]);
        }
    }
}
