//! Guest-physical memory: RAM and ROM.

use std::collections::BTreeMap;

use memmap2::{MmapOptions, MmapRaw};
use serde::{Deserialize, Serialize};

/// A guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PhysAddr(pub u64);

/// Bytes in the smallest page, the grain of every map here.
pub const PAGE_BYTES: u64 = 4096;

/// Bytes in a granule, the grain in which guest memory knows where decoded code is: 64 in a page, a bit each.
pub const GRANULE_BYTES: u64 = 64;

/// RAM below 4 GiB ends here at the latest; the rest of it continues at 4 GiB.
pub const LOW_RAM_END: u64 = 0xC000_0000;

const LEGACY_HOLE: std::ops::Range<u64> = 0xA_0000..0x10_0000;
const HIGH_RAM_START: u64 = 0x1_0000_0000;

/// Why guest memory cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A size that no machine can have.
    #[error("guest memory of {0} bytes: expected 1M to 512G, a multiple of 4K")]
    Size(u64),
    /// The host refused.
    #[error(
        "the host cannot provide {bytes} bytes of guest memory: {source}; try a smaller --memory"
    )]
    Host {
        /// How much was asked for.
        bytes: u64,
        /// What the host said.
        source: std::io::Error,
    },
}

/// What backs a page of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// RAM, at this host address.
    Ram(*mut u8),
    /// ROM, at this host address: writes are ignored.
    Rom(*const u8),
    /// Nothing, or a device.
    None,
}

/// RAM and ROM of a machine, with a bitmap of the granules that hold decoded code.
///
/// RAM is one private mapping. All access is by copying through raw pointers into it, so that the
/// processor's TLB may hold such pointers too: no Rust reference into guest memory ever exists.
pub struct GuestMemory {
    ram: MmapRaw,
    ram_bytes: u64,
    low_bytes: u64,
    hole: std::ops::Range<u64>,
    /// The pages of ROM by number.
    roms: BTreeMap<u64, MmapRaw>,
    /// The same below 1 MiB, where most look-ups of ROM go; null where there is none.
    low_roms: [*const u8; LOW_PAGES],
    /// Page numbers above 1 MiB among which there may be ROM.
    high_roms: std::ops::Range<u64>,
    /// For each page of RAM the granules with decoded code.
    code: Vec<u64>,
    code_writes: Vec<(PhysAddr, u64)>,
}

const LOW_PAGES: usize = 256;

// SAFETY: the raw pointers in it point into mappings that it owns itself.
unsafe impl Send for GuestMemory {}

/// Asks the host to back `memory` by large pages, where it has them on request; a guest's accesses are all over its RAM.
fn prefer_large_pages(memory: &memmap2::MmapMut) {
    #[cfg(target_os = "linux")]
    if let Err(error) = memory.advise(memmap2::Advice::HugePage) {
        log::debug!(target: "memory", "no large pages: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// A private mapping of the host's memory, zeroed, in large pages where it is large and the host has them.
pub struct HostMemory(MmapRaw);

impl HostMemory {
    /// `bytes` of it.
    ///
    /// Where the host has none left, the process ends as it does when any allocation fails.
    pub fn new(bytes: usize) -> Self {
        let Ok(map) = MmapOptions::new().len(bytes).map_anon() else {
            let layout = std::alloc::Layout::from_size_align(bytes, PAGE_BYTES as usize);
            std::alloc::handle_alloc_error(layout.expect("a size that fits the host"));
        };
        prefer_large_pages(&map);
        Self(MmapRaw::from(map))
    }

    /// The first byte.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.0.as_mut_ptr()
    }
}

/// The granules, a bit each, that `len` (1 to 4096) bytes from offset `first` of a page on touch.
#[inline]
pub fn granules(first: u64, len: u64) -> u64 {
    let from = first / GRANULE_BYTES;
    let to = (first + len - 1) / GRANULE_BYTES;
    (!0 << from) & (!0 >> (63 - to.min(63)))
}

impl GuestMemory {
    /// `bytes` of zeroed RAM.
    ///
    /// # Errors
    /// A size out of range, or the host's refusal.
    pub fn new(bytes: u64) -> Result<Self, MemoryError> {
        if !(1 << 20..=512 << 30).contains(&bytes) || !bytes.is_multiple_of(PAGE_BYTES) {
            return Err(MemoryError::Size(bytes));
        }
        let host = |source| MemoryError::Host { bytes, source };
        let len = usize::try_from(bytes).map_err(|_| MemoryError::Size(bytes))?;
        let ram = MmapOptions::new().len(len).map_anon().map_err(host)?;
        prefer_large_pages(&ram);
        Ok(Self {
            ram: MmapRaw::from(ram),
            ram_bytes: bytes,
            low_bytes: bytes.min(LOW_RAM_END),
            hole: LEGACY_HOLE,
            roms: BTreeMap::new(),
            low_roms: [std::ptr::null(); LOW_PAGES],
            high_roms: 0..0,
            code: vec![0; (bytes / PAGE_BYTES) as usize],
            code_writes: Vec::new(),
        })
    }

    /// Makes the addresses from A0000h to FFFFFh RAM like the rest: the memory of a bare processor
    /// test, not of a PC.
    #[must_use]
    pub fn without_hole(mut self) -> Self {
        self.hole = 0..0;
        self
    }

    /// Installed RAM, in bytes.
    pub fn ram_bytes(&self) -> u64 {
        self.ram_bytes
    }

    /// RAM below 4 GiB, in bytes, the hole below 1 MiB included.
    pub fn low_ram_bytes(&self) -> u64 {
        self.low_bytes
    }

    /// Places a ROM, padded with FFh to whole pages. A ROM lies over RAM and over an earlier ROM.
    ///
    /// # Errors
    /// The host's refusal of memory for it.
    pub fn add_rom(&mut self, base: PhysAddr, image: &[u8]) -> Result<(), MemoryError> {
        assert!(base.0.is_multiple_of(PAGE_BYTES), "a ROM starts at a page");
        for (index, chunk) in image.chunks(PAGE_BYTES as usize).enumerate() {
            let mut page = MmapOptions::new()
                .len(PAGE_BYTES as usize)
                .map_anon()
                .map_err(|source| MemoryError::Host {
                    bytes: PAGE_BYTES,
                    source,
                })?;
            page.fill(0xFF);
            page[..chunk.len()].copy_from_slice(chunk);
            let page = MmapRaw::from(page);
            let number = base.0 / PAGE_BYTES + index as u64;
            if let Some(low) = self.low_roms.get_mut(number as usize) {
                *low = page.as_ptr();
            } else if self.high_roms.is_empty() {
                self.high_roms = number..number + 1;
            } else {
                self.high_roms =
                    self.high_roms.start.min(number)..self.high_roms.end.max(number + 1);
            }
            self.roms.insert(number, page);
        }
        Ok(())
    }

    /// The offset into RAM of a guest-physical address, if RAM is there.
    #[inline]
    pub fn ram_offset(&self, addr: PhysAddr) -> Option<u64> {
        let a = addr.0;
        if a < self.low_bytes {
            (!self.hole.contains(&a)).then_some(a)
        } else if a >= HIGH_RAM_START {
            let offset = a - HIGH_RAM_START + LOW_RAM_END;
            (self.ram_bytes > LOW_RAM_END && offset < self.ram_bytes).then_some(offset)
        } else {
            None
        }
    }

    /// What backs the page that holds `addr`; the pointer is to the page's first byte.
    #[inline]
    pub fn page(&self, addr: PhysAddr) -> Page {
        let base = addr.0 & !(PAGE_BYTES - 1);
        let number = base / PAGE_BYTES;
        if let Some(&rom) = self.low_roms.get(number as usize) {
            if !rom.is_null() {
                return Page::Rom(rom);
            }
        } else if self.high_roms.contains(&number)
            && let Some(rom) = self.roms.get(&number)
        {
            return Page::Rom(rom.as_ptr());
        }
        match self.ram_offset(PhysAddr(base)) {
            // SAFETY: `ram_offset` returns an offset below `ram_bytes`, the length of the mapping.
            Some(offset) => Page::Ram(unsafe { self.ram.as_mut_ptr().add(offset as usize) }),
            None => Page::None,
        }
    }

    /// Copies guest memory out. Bytes that nothing backs read as FFh.
    pub fn read(&self, addr: PhysAddr, buf: &mut [u8]) {
        let mut done = 0;
        while done < buf.len() {
            let at = addr.0.wrapping_add(done as u64);
            let within = (at % PAGE_BYTES) as usize;
            let len = (buf.len() - done).min(PAGE_BYTES as usize - within);
            let chunk = &mut buf[done..done + len];
            match self.page(PhysAddr(at)) {
                // SAFETY: the page is `PAGE_BYTES` long and `within + len` does not pass its end.
                Page::Ram(page) => unsafe {
                    page.add(within)
                        .copy_to_nonoverlapping(chunk.as_mut_ptr(), len)
                },
                // SAFETY: as above.
                Page::Rom(page) => unsafe {
                    page.add(within)
                        .copy_to_nonoverlapping(chunk.as_mut_ptr(), len)
                },
                Page::None => chunk.fill(0xFF),
            }
            done += len;
        }
    }

    /// Copies bytes into RAM, as a bus master does. ROM and unbacked addresses ignore them.
    ///
    /// Writes to granules that hold decoded code are recorded for [`take_code_writes`](Self::take_code_writes).
    pub fn write(&mut self, addr: PhysAddr, buf: &[u8]) {
        let mut done = 0;
        while done < buf.len() {
            let at = PhysAddr(addr.0.wrapping_add(done as u64));
            let within = (at.0 % PAGE_BYTES) as usize;
            let len = (buf.len() - done).min(PAGE_BYTES as usize - within);
            if let Page::Ram(page) = self.page(at) {
                // SAFETY: the page is `PAGE_BYTES` long and `within + len` does not pass its end.
                unsafe {
                    page.add(within)
                        .copy_from_nonoverlapping(buf[done..].as_ptr(), len)
                };
                if self.code_mask(at) & granules(within as u64, len as u64) != 0 {
                    self.code_writes.push((at, len as u64));
                }
            }
            done += len;
        }
    }

    /// Reads a little-endian value of `N` bytes.
    pub fn read_array<const N: usize>(&self, addr: PhysAddr) -> [u8; N] {
        let mut buf = [0; N];
        self.read(addr, &mut buf);
        buf
    }

    /// The granules of the page that holds `addr` in which decoded code is: see [`granules`]. Only RAM has any.
    #[inline]
    pub fn code_mask(&self, addr: PhysAddr) -> u64 {
        match self.ram_offset(addr) {
            Some(offset) => self.code[(offset / PAGE_BYTES) as usize],
            None => 0,
        }
    }

    /// The same for a host address that lies in RAM, as [`page`](Self::page) gives it.
    #[inline]
    pub fn code_mask_at(&self, host: *const u8) -> u64 {
        let offset = (host as usize).wrapping_sub(self.ram.as_ptr() as usize);
        self.code[offset / PAGE_BYTES as usize]
    }

    /// Notes in which granules of the page that holds `addr` decoded code is. Only RAM is noted.
    pub fn set_code_mask(&mut self, addr: PhysAddr, mask: u64) {
        if let Some(offset) = self.ram_offset(addr) {
            self.code[(offset / PAGE_BYTES) as usize] = mask;
        }
    }

    /// Whether a bus master wrote to granules that hold decoded code.
    #[inline]
    pub fn has_code_writes(&self) -> bool {
        !self.code_writes.is_empty()
    }

    /// Takes the list of (address, length) that bus masters wrote in granules with decoded code.
    pub fn take_code_writes(&mut self) -> Vec<(PhysAddr, u64)> {
        std::mem::take(&mut self.code_writes)
    }

    /// Calls `visit` with all of RAM, a megabyte or less at a time, in order.
    pub fn visit_ram(&self, mut visit: impl FnMut(&[u8])) {
        let mut buf = vec![0u8; 1 << 20];
        let mut offset = 0;
        while offset < self.ram_bytes {
            let len = (self.ram_bytes - offset).min(1 << 20) as usize;
            // SAFETY: `offset + len` is at most `ram_bytes`, the length of the mapping.
            unsafe {
                self.ram
                    .as_ptr()
                    .add(offset as usize)
                    .copy_to_nonoverlapping(buf.as_mut_ptr(), len)
            };
            visit(&buf[..len]);
            offset += len as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_legacy_hole_is_not_ram_and_roms_ignore_writes() {
        let mut memory = GuestMemory::new(2 << 20).unwrap();
        memory.write(PhysAddr(0x9_FFFE), &[1, 2, 3, 4]);
        assert_eq!(
            memory.read_array::<4>(PhysAddr(0x9_FFFE)),
            [1, 2, 0xFF, 0xFF]
        );
        memory.add_rom(PhysAddr(0xF_0000), &[0x55; 100]).unwrap();
        memory.write(PhysAddr(0xF_0000), &[9]);
        assert_eq!(memory.read_array::<1>(PhysAddr(0xF_0000)), [0x55]);
        assert_eq!(memory.read_array::<1>(PhysAddr(0xF_0064)), [0xFF]);
        assert_eq!(memory.page(PhysAddr(2 << 20)), Page::None);
    }

    #[test]
    fn granules_are_those_that_bytes_touch() {
        assert_eq!(granules(0, 1), 1);
        assert_eq!(granules(63, 2), 3);
        assert_eq!(granules(64, 64), 2);
        assert_eq!(granules(4095, 1), 1 << 63);
        assert_eq!(granules(0, 4096), !0);
    }

    #[test]
    fn a_bus_masters_write_to_code_is_recorded() {
        let mut memory = GuestMemory::new(1 << 20).unwrap();
        memory.set_code_mask(PhysAddr(0x5123), granules(0, 64));
        memory.write(PhysAddr(0x5040), &[1, 2]);
        memory.write(PhysAddr(0x4FFF), &[1, 2]);
        assert_eq!(memory.take_code_writes(), vec![(PhysAddr(0x5000), 1)]);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(GuestMemory::new(0).is_err());
        assert!(GuestMemory::new(u64::MAX).is_err());
        assert!(GuestMemory::new((1 << 20) + 1).is_err());
    }
}
