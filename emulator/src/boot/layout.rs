//! Finds room in guest memory for what a loader places.

use super::error::LoadError;
use super::memory_map::{EBDA, MemoryKind, memory_map};
use crate::machine::Preload;

/// The firmware's own memory ends here: vectors, BIOS data, its stack and the boot sector's place.
const LOW_START: u64 = 0x1_0000;

/// Guest memory as a loader fills it.
pub(super) struct Layout {
    /// RAM that may be filled, by start and end.
    ram: Vec<(u64, u64)>,
    taken: Vec<(u64, u64)>,
    preloads: Vec<Preload>,
}

impl Layout {
    pub fn new(ram_bytes: u64) -> Self {
        let ram = memory_map(ram_bytes)
            .into_iter()
            .filter(|range| range.kind == MemoryKind::Ram && range.len > 0)
            .map(|range| (range.start.max(LOW_START), range.end()))
            .collect();
        Self {
            ram,
            taken: Vec::new(),
            preloads: Vec::new(),
        }
    }

    pub fn into_preloads(self) -> Vec<Preload> {
        self.preloads
    }

    /// Places `bytes` and `zeros` after them at an address that the image fixes.
    pub fn place_at(&mut self, addr: u64, bytes: Vec<u8>, zeros: u64) -> Result<(), LoadError> {
        let len = (bytes.len() as u64).saturating_add(zeros);
        if len == 0 {
            return Ok(());
        }
        self.reserve(addr, len)?;
        self.preloads.push(Preload { addr, bytes, zeros });
        Ok(())
    }

    /// Keeps a range free for the kernel's own use.
    pub fn reserve(&mut self, addr: u64, len: u64) -> Result<(), LoadError> {
        let end = addr.saturating_add(len);
        let fits = |&(from, to): &(u64, u64)| addr >= from && end <= to;
        if !self.ram.iter().any(fits) {
            return Err(LoadError::NoRam {
                start: addr,
                end: end.saturating_sub(1),
            });
        }
        self.taken.push((addr, end));
        Ok(())
    }

    /// Places `bytes` as high as possible in conventional memory.
    pub fn place_low(&mut self, what: &'static str, bytes: Vec<u8>) -> Result<u64, LoadError> {
        self.place_below(what, bytes, EBDA, 16)
    }

    /// Places `bytes` as high as possible, from a multiple of `align` on and ending at `end` at the latest.
    pub fn place_below(
        &mut self,
        what: &'static str,
        bytes: Vec<u8>,
        end: u64,
        align: u64,
    ) -> Result<u64, LoadError> {
        let len = bytes.len() as u64;
        let addr = self
            .find_below(len.max(1), end, align)
            .ok_or(LoadError::TooLarge { what, bytes: len })?;
        self.taken.push((addr, addr + len.max(1)));
        self.preloads.push(Preload {
            addr,
            bytes,
            zeros: 0,
        });
        Ok(addr)
    }

    fn find_below(&self, len: u64, limit: u64, align: u64) -> Option<u64> {
        for &(from, to) in self.ram.iter().rev() {
            let mut end = to.min(limit);
            while let Some(start) = end.checked_sub(len).map(|start| start / align * align) {
                if start < from {
                    break;
                }
                let clash = |&&(a, b): &&(u64, u64)| a < start + len && b > start;
                match self.taken.iter().filter(clash).map(|&(a, _)| a).min() {
                    None => return Some(start),
                    Some(below) => end = below,
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_placed_downwards_around_what_is_taken() {
        let mut layout = Layout::new(16 << 20);
        layout.reserve(15 << 20, 1 << 20).unwrap();
        let first = layout.place_below("x", vec![1; 5000], !0, 4096).unwrap();
        assert_eq!(first, (15 << 20) - 8192);
        let low = layout.place_low("y", vec![2; 32]).unwrap();
        assert_eq!(low, EBDA - 32);
        assert!(layout.place_below("z", vec![0; 15 << 20], !0, 1).is_err());
        assert!(layout.reserve(16 << 20, 1).is_err());
        assert!(layout.reserve(0x500, 1).is_err());
        assert!(layout.reserve(u64::MAX - 1, 9).is_err());
    }
}
