//! Finds room in guest memory for what a loader places.
//!
//! What an image fixes goes where it says, unless that is in use. What a loader may place itself
//! goes into conventional memory from its end down (boot information), or above the kernel from its
//! end up (modules): kernels map what lies close to them before they know how much memory there is.

use platform::memory::LOW_RAM_END;

use super::LowPart;
use super::error::LoadError;
use super::memory_map::{EBDA, MemoryKind, memory_map};
use crate::machine::Preload;

/// Below lie the interrupt vectors and the BIOS's data.
const VECTORS_END: u64 = 0x500;
/// The firmware's POST writes below this: its stack, sector buffer, and the boot sector's place. A
/// kernel's part there is kept elsewhere until the kernel ROM copies it.
const POST_END: u64 = 0x8000;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// No machine is larger.
const MOST_RAM: u64 = 512 * GIB;

/// What is in use at a kernel's entry, by start and end.
const IN_USE: [(u64, u64, &str); 5] = [
    (
        0,
        VECTORS_END,
        "the interrupt vectors and the BIOS data area are (0-0x4ff)",
    ),
    (
        EBDA,
        0xA_0000,
        "the extended BIOS data area is (0x9fc00-0x9ffff)",
    ),
    (
        0xA_0000,
        0xC_0000,
        "the display's memory is (0xa0000-0xbffff)",
    ),
    (0xC_0000, MIB, "the ROMs are (0xc0000-0xfffff)"),
    (LOW_RAM_END, 4 * GIB, "devices are (0xc0000000-0xffffffff)"),
];

/// Guest memory as a loader fills it.
pub(super) struct Layout {
    ram_bytes: u64,
    /// RAM that may be filled, by start and end.
    ram: Vec<(u64, u64)>,
    taken: Vec<(u64, u64)>,
    preloads: Vec<Preload>,
    /// Pieces of the kernel below [`POST_END`].
    low: Vec<(u64, Vec<u8>)>,
    /// Where the image that fixes its addresses ends.
    kernel_end: u64,
}

impl Layout {
    pub fn new(ram_bytes: u64) -> Self {
        let ram = memory_map(ram_bytes)
            .into_iter()
            .filter(|range| range.kind == MemoryKind::Ram && range.len > 0)
            .map(|range| (range.start.max(VECTORS_END), range.end()))
            .collect();
        Self {
            ram_bytes,
            ram,
            taken: Vec::new(),
            preloads: Vec::new(),
            low: Vec::new(),
            kernel_end: MIB,
        }
    }

    /// What RAM is to hold, and what the kernel ROM copies to where POST has been.
    pub fn finish(mut self) -> Result<(Vec<Preload>, Option<LowPart>), LoadError> {
        let Some(to) = self.low.iter().map(|&(addr, _)| addr).min() else {
            return Ok((self.preloads, None));
        };
        let mut bytes = Vec::new();
        for (addr, piece) in std::mem::take(&mut self.low) {
            let at = (addr - to) as usize;
            bytes.resize(bytes.len().max(at + piece.len()), 0);
            bytes[at..at + piece.len()].copy_from_slice(&piece);
        }
        let len = bytes.len() as u32;
        let from = self.place_above("the kernel", bytes, 16)?;
        let part = LowPart {
            from: from as u32,
            to: to as u32,
            len,
        };
        Ok((self.preloads, Some(part)))
    }

    /// Places `bytes` and `zeros` after them at an address that the image fixes.
    pub fn place_at(&mut self, addr: u64, mut bytes: Vec<u8>, zeros: u64) -> Result<(), LoadError> {
        let len = (bytes.len() as u64).saturating_add(zeros);
        if len == 0 {
            return Ok(());
        }
        self.reserve(addr, len)?;
        let (mut addr, mut zeros) = (addr, zeros);
        if addr < POST_END {
            let low = len.min(POST_END - addr) as usize;
            let filled = low.min(bytes.len());
            let mut piece: Vec<u8> = bytes.drain(..filled).collect();
            piece.resize(low, 0);
            zeros -= (low - filled) as u64;
            self.low.push((addr, piece));
            addr = POST_END;
        }
        if !bytes.is_empty() || zeros > 0 {
            self.preloads.push(Preload { addr, bytes, zeros });
        }
        Ok(())
    }

    /// Places a segment of an ELF file, whose first `headers` bytes are the file's own headers.
    ///
    /// A linker that is told only where the code begins puts the headers on the page below, with
    /// padding behind them. Nobody reads those in memory, so they need not lie in RAM.
    pub fn place_segment(
        &mut self,
        mut addr: u64,
        mut bytes: Vec<u8>,
        zeros: u64,
        mut headers: usize,
    ) -> Result<(), LoadError> {
        let has_headers = headers > 0;
        while let Some(&(_, end, _)) = in_use(addr, 1).filter(|_| has_headers) {
            let len = (end - addr).min(bytes.len() as u64) as usize;
            let padding = &bytes[headers.min(len)..len];
            if len == 0 || padding.iter().any(|&byte| byte != 0) {
                break;
            }
            bytes.drain(..len);
            addr += len as u64;
            headers = headers.saturating_sub(len);
        }
        self.place_at(addr, bytes, zeros)
    }

    /// Keeps a range free for the kernel's own use.
    pub fn reserve(&mut self, addr: u64, len: u64) -> Result<(), LoadError> {
        let end = addr.saturating_add(len);
        let fits = |&(from, to): &(u64, u64)| addr >= from && end <= to;
        if !self.ram.iter().any(fits) {
            return Err(self.no_ram(addr, len));
        }
        self.taken.push((addr, end));
        if end <= 4 * GIB {
            self.kernel_end = self.kernel_end.max(end);
        }
        Ok(())
    }

    fn no_ram(&self, addr: u64, len: u64) -> LoadError {
        let end = addr.saturating_add(len);
        let overlaps = |what| LoadError::Overlaps {
            start: addr,
            end: end.saturating_sub(1),
            what,
        };
        if let Some(&(_, _, what)) = in_use(addr, len) {
            return overlaps(what);
        }
        // RAM above 4 GiB continues where it stopped below.
        let hole = if end > 4 * GIB {
            4 * GIB - LOW_RAM_END
        } else {
            0
        };
        match end - hole {
            needed if needed <= MOST_RAM => LoadError::TooLittleRam {
                what: "this kernel",
                needed: needed.next_multiple_of(MIB),
                ram: self.ram_bytes,
            },
            _ => overlaps("no PC has RAM"),
        }
    }

    /// Places `bytes` as high as possible in conventional memory, or above the kernel where that
    /// takes it all up.
    pub fn place_low(&mut self, what: &'static str, bytes: Vec<u8>) -> Result<u64, LoadError> {
        match self.find_below(bytes.len() as u64, EBDA, 16) {
            Some(addr) => Ok(self.take(addr, bytes)),
            None => self.place_above(what, bytes, 16),
        }
    }

    /// Places `bytes` from a multiple of `align` on, as close above the kernel as possible, and
    /// below 4 GiB.
    pub fn place_above(
        &mut self,
        what: &'static str,
        bytes: Vec<u8>,
        align: u64,
    ) -> Result<u64, LoadError> {
        let len = bytes.len() as u64;
        // Below the kernel is better than nowhere.
        let found = self.find_above(len, align);
        match found.or_else(|| self.find_below(len, 4 * GIB, align)) {
            Some(addr) => Ok(self.take(addr, bytes)),
            None => {
                let top = self.taken.iter().map(|&(_, end)| end).max().unwrap_or(0);
                let needed = (top.max(self.kernel_end) + len + align).next_multiple_of(MIB);
                Err(match needed {
                    needed if needed <= LOW_RAM_END => LoadError::TooLittleRam {
                        what: "this kernel, with what is handed to it,",
                        needed,
                        ram: self.ram_bytes,
                    },
                    _ => LoadError::TooLarge { what, bytes: len },
                })
            }
        }
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
        match self.find_below(len, end, align) {
            Some(addr) => Ok(self.take(addr, bytes)),
            None => Err(LoadError::TooLarge { what, bytes: len }),
        }
    }

    fn take(&mut self, addr: u64, bytes: Vec<u8>) -> u64 {
        self.taken.push((addr, addr + (bytes.len() as u64).max(1)));
        self.preloads.push(Preload {
            addr,
            bytes,
            zeros: 0,
        });
        addr
    }

    fn find_below(&self, len: u64, limit: u64, align: u64) -> Option<u64> {
        let len = len.max(1);
        for &(from, to) in self.ram.iter().rev() {
            let from = from.max(POST_END);
            let mut end = to.min(limit);
            while let Some(start) = end.checked_sub(len).map(|start| start / align * align) {
                if start < from {
                    break;
                }
                match self.clashes(start, len).map(|&(a, _)| a).min() {
                    None => return Some(start),
                    Some(below) => end = below,
                }
            }
        }
        None
    }

    fn find_above(&self, len: u64, align: u64) -> Option<u64> {
        let len = len.max(1);
        for &(from, to) in self.ram.iter().filter(|&&(from, _)| from < 4 * GIB) {
            let mut start = from.max(self.kernel_end).next_multiple_of(align);
            while start + len <= to {
                match self.clashes(start, len).map(|&(_, b)| b).max() {
                    None => return Some(start),
                    Some(above) => start = above.next_multiple_of(align),
                }
            }
        }
        None
    }

    fn clashes(&self, start: u64, len: u64) -> impl Iterator<Item = &(u64, u64)> {
        let clash = move |&&(a, b): &&(u64, u64)| a < start + len && b > start;
        self.taken.iter().filter(clash)
    }
}

/// What a range meets that is in use.
fn in_use(addr: u64, len: u64) -> Option<&'static (u64, u64, &'static str)> {
    IN_USE
        .iter()
        .find(|&&(from, to, _)| addr < to && addr.saturating_add(len) > from)
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
        assert!(layout.reserve(0x4FF, 1).is_err());
        assert!(layout.reserve(u64::MAX - 1, 9).is_err());
    }

    #[test]
    fn things_are_placed_above_the_kernel_and_around_what_is_taken() {
        let mut layout = Layout::new(16 << 20);
        layout.place_at(2 << 20, vec![1; 100], 5000).unwrap();
        let first = layout.place_above("x", vec![1; 5000], 4096).unwrap();
        assert_eq!(first, (2 << 20) + 8192);
        let second = layout.place_above("y", vec![1; 1], 4096).unwrap();
        assert_eq!(second, first + 8192);
        // Above a kernel's last part is no room left, but below it is.
        layout.reserve((16 << 20) - 4096, 4096).unwrap();
        let third = layout.place_above("z", vec![0; 4096], 4096).unwrap();
        assert_eq!(third, (16 << 20) - 8192);
        assert_eq!(
            layout.place_above("z", vec![0; 20 << 20], 4096),
            Err(LoadError::TooLittleRam {
                what: "this kernel, with what is handed to it,",
                needed: 37 << 20,
                ram: 16 << 20
            })
        );
    }

    #[test]
    fn what_is_in_use_is_named() {
        for (addr, word) in [
            (0, "vectors"),
            (0x9_F000, "extended BIOS data"),
            (0xA_0000, "display"),
            (0xF_0000, "ROMs"),
            (0xFEC0_0000, "devices"),
        ] {
            let mut layout = Layout::new(4 << 30);
            let error = layout.place_at(addr, vec![1; 0x1000], 0).unwrap_err();
            assert!(error.to_string().contains(word), "{addr:#x}: {error}");
        }
        let mut layout = Layout::new(16 << 20);
        let error = layout.place_at(32 << 20, vec![1; 100], 0).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("33 MiB of RAM") && said.contains("-m 33M"),
            "{said}"
        );
    }

    #[test]
    fn a_part_where_post_works_is_kept_elsewhere() {
        let mut layout = Layout::new(16 << 20);
        layout.place_at(0x1000, vec![1; 0x100], 0x10).unwrap();
        layout.place_at(0x7F00, vec![2; 0x180], 0x10).unwrap();
        let (preloads, part) = layout.finish().unwrap();
        let part = part.unwrap();
        assert_eq!((part.to, part.len), (0x1000, 0x7000));
        let kept = preloads.iter().find(|p| p.addr == u64::from(part.from));
        let kept = &kept.unwrap().bytes;
        assert_eq!(kept.len(), 0x7000);
        assert_eq!((kept[0], kept[0x100], kept[0x6F00]), (1, 0, 2));
        assert_eq!(preloads[0].addr, 0x8000);
        assert_eq!((preloads[0].bytes.len(), preloads[0].zeros), (0x80, 0x10));
    }

    #[test]
    fn headers_of_the_file_need_no_ram() {
        let mut layout = Layout::new(16 << 20);
        let mut bytes = vec![0; 0x1100];
        bytes[..0x54].fill(1);
        bytes[0x1000..].fill(2);
        layout
            .place_segment(0xF_F000, bytes.clone(), 16, 0x54)
            .unwrap();
        let (preloads, _) = layout.finish().unwrap();
        assert_eq!(preloads[0].addr, 0x10_0000);
        assert_eq!(preloads[0].bytes, [2; 0x100]);
        bytes[0x60] = 1;
        let refused = Layout::new(16 << 20).place_segment(0xF_F000, bytes, 16, 0x54);
        assert!(matches!(refused, Err(LoadError::Overlaps { .. })));
        let mut layout = Layout::new(16 << 20);
        layout
            .place_segment(0xF_F000, vec![1; 0xD4], 0, 0xD4)
            .unwrap();
        assert!(layout.finish().unwrap().0.is_empty());
    }
}
