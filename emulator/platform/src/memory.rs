//! Guest-physical memory: RAM, ROM, shadow RAM and the devices' own memory, and where each of it
//! lies.
//!
//! | addresses | what is there |
//! |---|---|
//! | 0-9FFFF, 100000 up to 3 GiB, 4 GiB on | RAM |
//! | A0000-BFFFF | nothing, or a device; to a processor that may see it, the RAM behind that: [`Smram`] |
//! | C0000-FFFFF | ROM, or the RAM behind it, page by page: [`Shadow`] |
//! | where a device has put it | its own memory: [`DeviceRam`] |
//!
//! A change of this map is followed by each processor before its next instruction
//! ([`map_revision`](GuestMemory::map_revision)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::ops::{ControlFlow, Range};

use memmap2::{MmapOptions, MmapRaw};
use serde::{Deserialize, Serialize};

use crate::state::StateError;

/// A guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PhysAddr(pub u64);

/// Bytes in the smallest page, the grain of every map here.
pub const PAGE_BYTES: u64 = 4096;

/// Bytes in a granule, the grain in which guest memory knows where decoded code is: 64 in a page, a
/// bit each.
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
    /// Memory that ignores writes, at this host address.
    Rom(*const u8),
    /// RAM that can be written and not be read: reads find the ROM, which may be null for none.
    Split {
        /// Where reads go.
        rom: *const u8,
        /// Where writes go.
        ram: *mut u8,
    },
    /// Nothing, or a device.
    None,
}

/// Where accesses to a page of C0000-FFFFF go, as the PAM registers of a host bridge say (82441FX,
/// 290549).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shadow {
    /// To ROM, or to the bus.
    #[default]
    Off,
    /// Reads to ROM, writes to RAM.
    Write,
    /// Reads to RAM; writes are ignored.
    Read,
    /// To RAM.
    Ram,
}

/// Who finds RAM at A0000-BFFFF, the memory of system management mode, as the SMRAM register of a host
/// bridge says (82441FX, 290549, §3.2.19). Bus masters never do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smram {
    /// Every processor does.
    pub open: bool,
    /// A processor in system management mode does.
    pub enabled: bool,
    /// But only where it fetches instructions.
    pub closed_to_data: bool,
}

impl Smram {
    /// Where it is.
    pub const RANGE: Range<u64> = 0xA_0000..0xC_0000;

    /// The bit by which the address of such RAM differs from that of what lies over it, for
    /// [`GuestMemory::page_of_processor`]. No bus has so wide an address, and no page table can name it.
    pub const VIEW: u64 = 1 << 62;

    /// Whether a processor finds it: its data accesses, its fetches.
    pub fn shown(self, in_smm: bool) -> (bool, bool) {
        let shown = self.open || self.enabled && in_smm;
        (shown && !self.closed_to_data, shown)
    }
}

/// Memory of a device's own that the processors reach as they reach RAM: a frame buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRam(pub u8);

/// What of the map changes while a machine runs. Part of its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryMap {
    /// The pages of C0000-FFFFF whose shadow is not off, by number.
    shadows: Vec<(u16, Shadow)>,
    /// Where the devices' own memories are.
    device_ram: Vec<Option<u64>>,
    smram: Smram,
}

/// The map as it was saved before there was [`Smram`]: a tuple reads what the struct wrote.
pub(crate) type MapWithoutSmram = (Vec<(u16, Shadow)>, Vec<Option<u64>>);

impl From<MapWithoutSmram> for MemoryMap {
    fn from((shadows, device_ram): MapWithoutSmram) -> Self {
        Self {
            shadows,
            device_ram,
            smram: Smram::default(),
        }
    }
}

/// A device's own memory: a part of the mapping behind the RAM.
#[derive(Clone, Copy, Debug)]
struct Placed {
    offset: u64,
    len: u64,
    base: Option<u64>,
}

/// RAM, ROM and device memory of a machine, with a bitmap of the granules that hold decoded code.
///
/// RAM and device memory are one private mapping. All access is by copying through raw pointers
/// into it, so that the processor's TLB may hold such pointers too: but for
/// [`device_ram`](Self::device_ram), which needs the whole of `self` to itself, no Rust reference
/// into guest memory ever exists.
pub struct GuestMemory {
    ram: MmapRaw,
    ram_bytes: u64,
    low_bytes: u64,
    hole: Range<u64>,
    /// The pages of ROM by number.
    roms: BTreeMap<u64, MmapRaw>,
    /// What is below 1 MiB.
    low: [Page; LOW_PAGES],
    /// Page numbers above 1 MiB among which there may be ROM.
    high_roms: Range<u64>,
    shadows: [Shadow; SHADOW_PAGES],
    smram: Smram,
    device_ram: Vec<Placed>,
    /// Counts changes of the map.
    map_revision: u64,
    /// Addresses that lead elsewhere since this was last taken.
    remapped: Vec<Range<u64>>,
    /// For each page of the mapping the granules with decoded code.
    code: Vec<u64>,
    code_writes: Vec<(PhysAddr, u64)>,
    /// A bit for each page of the mapping that is watched and was not written since.
    clean: Vec<u64>,
    /// Counts how often pages became clean.
    clean_revision: u64,
}

const LOW_PAGES: usize = 256;
const SHADOW_START: u64 = 0xC_0000;
const SHADOW_PAGES: usize = 64;

// SAFETY: the raw pointers in it point into mappings that it owns itself.
unsafe impl Send for GuestMemory {}

/// Asks the host to back `memory` by large pages, where it has them on request; a guest's accesses
/// are all over its RAM.
fn prefer_large_pages(memory: &memmap2::MmapMut) {
    #[cfg(target_os = "linux")]
    if let Err(error) = memory.advise(memmap2::Advice::HugePage) {
        log::debug!(target: "memory", "no large pages: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// A private mapping of the host's memory, zeroed, in large pages where it is large and the host
/// has them.
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
        Self::with_device_ram(bytes, &[])
    }

    /// `bytes` of zeroed RAM, and memory of these sizes (whole pages) for devices, which is nowhere
    /// yet: number 0 first.
    ///
    /// # Errors
    /// A size out of range, or the host's refusal.
    pub fn with_device_ram(bytes: u64, devices: &[u64]) -> Result<Self, MemoryError> {
        if !(1 << 20..=512 << 30).contains(&bytes) || !bytes.is_multiple_of(PAGE_BYTES) {
            return Err(MemoryError::Size(bytes));
        }
        let mut total = bytes;
        let mut device_ram = Vec::new();
        for &len in devices {
            assert!(
                len.is_multiple_of(PAGE_BYTES) && len <= 1 << 30,
                "a device's memory is whole pages, 1 GiB at most"
            );
            device_ram.push(Placed {
                offset: total,
                len,
                base: None,
            });
            total += len;
        }
        let host = |source| MemoryError::Host { bytes, source };
        let len = usize::try_from(total).map_err(|_| MemoryError::Size(bytes))?;
        let ram = MmapOptions::new().len(len).map_anon().map_err(host)?;
        prefer_large_pages(&ram);
        let pages = (total / PAGE_BYTES) as usize;
        let mut memory = Self {
            ram: MmapRaw::from(ram),
            ram_bytes: bytes,
            low_bytes: bytes.min(LOW_RAM_END),
            hole: LEGACY_HOLE,
            roms: BTreeMap::new(),
            low: [Page::None; LOW_PAGES],
            high_roms: 0..0,
            shadows: [Shadow::Off; SHADOW_PAGES],
            smram: Smram::default(),
            device_ram,
            map_revision: 0,
            remapped: Vec::new(),
            code: vec![0; pages],
            code_writes: Vec::new(),
            clean: vec![0; pages.div_ceil(64)],
            clean_revision: 0,
        };
        memory.map_low(0..LOW_PAGES);
        Ok(memory)
    }

    /// Makes the addresses from A0000h to FFFFFh RAM like the rest: the memory of a bare processor
    /// test, not of a PC.
    #[must_use]
    pub fn without_hole(mut self) -> Self {
        self.hole = 0..0;
        self.map_low(0..LOW_PAGES);
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

    /// RAM and the devices' own memory, in bytes: what [`visit_ram`](Self::visit_ram) visits.
    pub fn mapped_bytes(&self) -> u64 {
        self.ram.len() as u64
    }

    // ---- the map -------------------------------------------------------------------------------

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
            self.roms.insert(number, page);
            if (number as usize) < LOW_PAGES {
                self.map_low(number as usize..number as usize + 1);
            } else if self.high_roms.is_empty() {
                self.high_roms = number..number + 1;
            } else {
                self.high_roms =
                    self.high_roms.start.min(number)..self.high_roms.end.max(number + 1);
            }
        }
        Ok(())
    }

    /// The ROMs as they were added: runs of pages, by address.
    pub fn roms(&self) -> Vec<(PhysAddr, Vec<u8>)> {
        let mut runs: Vec<(PhysAddr, Vec<u8>)> = Vec::new();
        for &number in self.roms.keys() {
            let at = PhysAddr(number * PAGE_BYTES);
            let mut bytes = [0; PAGE_BYTES as usize];
            // SAFETY: a page of ROM is a mapping of `PAGE_BYTES` bytes.
            unsafe {
                self.roms[&number]
                    .as_ptr()
                    .copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len())
            };
            match runs.last_mut() {
                Some((base, run)) if base.0 + run.len() as u64 == at.0 => run.extend(bytes),
                _ => runs.push((at, bytes.to_vec())),
            }
        }
        runs
    }

    /// Puts these ROMs in place of all others: what [`roms`](Self::roms) gave.
    ///
    /// # Errors
    /// One that is not whole pages, or the host's refusal of memory.
    pub fn set_roms(&mut self, roms: &[(PhysAddr, Vec<u8>)]) -> Result<(), MemoryError> {
        let odd = |&&(base, ref rom): &&(PhysAddr, Vec<u8>)| {
            let end = base.0.checked_add(rom.len() as u64);
            !base.0.is_multiple_of(PAGE_BYTES)
                || !(rom.len() as u64).is_multiple_of(PAGE_BYTES)
                || end.is_none()
        };
        if let Some((_, rom)) = roms.iter().find(odd) {
            return Err(MemoryError::Size(rom.len() as u64));
        }
        self.roms.clear();
        self.high_roms = 0..0;
        self.map_low(0..LOW_PAGES);
        for (base, rom) in roms {
            self.add_rom(*base, rom)?;
        }
        self.leads_elsewhere(0..u64::MAX);
        Ok(())
    }

    /// Says what accesses to the page of `addr` meet, one of C0000-FFFFF; others are left alone.
    /// Returns whether that is a change.
    pub fn shadow(&mut self, addr: PhysAddr, shadow: Shadow) -> bool {
        let number = (addr.0 / PAGE_BYTES) as usize;
        let first = (SHADOW_START / PAGE_BYTES) as usize;
        let Some(known) = number
            .checked_sub(first)
            .and_then(|n| self.shadows.get_mut(n))
        else {
            return false;
        };
        if std::mem::replace(known, shadow) == shadow {
            return false;
        }
        self.map_low(number..number + 1);
        self.code[number] = 0;
        let base = number as u64 * PAGE_BYTES;
        self.leads_elsewhere(base..base + PAGE_BYTES);
        true
    }

    /// Says who finds RAM at A0000-BFFFF. Returns whether that is a change.
    pub fn set_smram(&mut self, smram: Smram) -> bool {
        if std::mem::replace(&mut self.smram, smram) == smram {
            return false;
        }
        // What was decoded there has an address of its own and stays good.
        self.map_revision += 1;
        true
    }

    /// Who finds RAM at A0000-BFFFF.
    #[inline]
    pub fn smram(&self) -> Smram {
        self.smram
    }

    /// Puts a device's own memory at `base`, a multiple of the page size, or nowhere. RAM and ROM
    /// lie over it, and of two the one with the lower number. Returns whether that is a change.
    pub fn place(&mut self, ram: DeviceRam, base: Option<u64>) -> bool {
        let base = base.map(|base| base & !(PAGE_BYTES - 1));
        let Some(&placed) = self.device_ram.get(usize::from(ram.0)) else {
            return false;
        };
        if placed.base == base {
            return false;
        }
        self.device_ram[usize::from(ram.0)].base = base;
        let first = (placed.offset / PAGE_BYTES) as usize;
        let pages = (placed.len / PAGE_BYTES) as usize;
        self.code[first..first + pages].fill(0);
        for at in [placed.base, base].into_iter().flatten() {
            self.leads_elsewhere(at..at.saturating_add(placed.len));
        }
        true
    }

    /// What of the map changes while a machine runs.
    pub fn map(&self) -> MemoryMap {
        let first = (SHADOW_START / PAGE_BYTES) as u16;
        let shadows = (first..).zip(self.shadows);
        MemoryMap {
            shadows: shadows
                .filter(|&(_, shadow)| shadow != Shadow::Off)
                .collect(),
            device_ram: self.device_ram.iter().map(|placed| placed.base).collect(),
            smram: self.smram,
        }
    }

    /// Takes over what [`map`](Self::map) gave.
    ///
    /// # Errors
    /// It is of another board; nothing is changed then.
    pub fn set_map(&mut self, map: &MemoryMap) -> Result<(), StateError> {
        // A board to which a device was added reads an older map too: the new one's memory is
        // nowhere.
        if map.device_ram.len() > self.device_ram.len() {
            return Err(StateError::Unsound("other memory of devices"));
        }
        for number in 0..SHADOW_PAGES as u64 {
            let addr = SHADOW_START + number * PAGE_BYTES;
            let known = map
                .shadows
                .iter()
                .find(|(page, _)| u64::from(*page) == addr / PAGE_BYTES);
            let shadow = known.map_or(Shadow::Off, |&(_, shadow)| shadow);
            self.shadow(PhysAddr(addr), shadow);
        }
        for number in 0..self.device_ram.len() {
            let base = map.device_ram.get(number).copied().flatten();
            self.place(DeviceRam(number as u8), base);
        }
        self.set_smram(map.smram);
        Ok(())
    }

    /// Changes whenever a page leads elsewhere than before. A processor that has seen another
    /// number forgets what it knows of all pages.
    #[inline]
    pub fn map_revision(&self) -> u64 {
        self.map_revision
    }

    /// Takes the addresses that lead elsewhere since this was last taken: code decoded there is no
    /// more.
    pub fn take_remapped(&mut self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.remapped)
    }

    fn leads_elsewhere(&mut self, range: Range<u64>) {
        self.map_revision += 1;
        self.remapped.push(range);
    }

    /// Looks anew at what is below 1 MiB.
    fn map_low(&mut self, pages: Range<usize>) {
        for number in pages {
            let at = number as u64 * PAGE_BYTES;
            let rom = self.roms.get(&(number as u64)).map(MmapRaw::as_ptr);
            let ram = self.host(at);
            let shadow = number.checked_sub((SHADOW_START / PAGE_BYTES) as usize);
            let shadow = shadow.map_or(Shadow::Off, |n| self.shadows[n]);
            self.low[number] = match (shadow, rom) {
                (Shadow::Ram, _) => Page::Ram(ram),
                (Shadow::Read, _) => Page::Rom(ram),
                (Shadow::Write, rom) => Page::Split {
                    rom: rom.unwrap_or(std::ptr::null()),
                    ram,
                },
                (Shadow::Off, Some(rom)) => Page::Rom(rom),
                (Shadow::Off, None) if self.hole.contains(&at) => Page::None,
                (Shadow::Off, None) => Page::Ram(ram),
            };
        }
    }

    /// The host address of an offset into the mapping.
    #[inline]
    fn host(&self, offset: u64) -> *mut u8 {
        debug_assert!(offset < self.mapped_bytes());
        self.ram.as_mut_ptr().wrapping_add(offset as usize)
    }

    /// What backs the page that holds `addr`; the pointer is to the page's first byte.
    #[inline]
    pub fn page(&self, addr: PhysAddr) -> Page {
        let base = addr.0 & !(PAGE_BYTES - 1);
        let number = base / PAGE_BYTES;
        if let Some(&page) = self.low.get(number as usize) {
            return page;
        }
        if self.high_roms.contains(&number)
            && let Some(rom) = self.roms.get(&number)
        {
            return Page::Rom(rom.as_ptr());
        }
        if base < self.low_bytes {
            return Page::Ram(self.host(base));
        }
        if base >= HIGH_RAM_START && self.ram_bytes > LOW_RAM_END {
            let offset = base - HIGH_RAM_START + LOW_RAM_END;
            if offset < self.ram_bytes {
                return Page::Ram(self.host(offset));
            }
        }
        for placed in &self.device_ram {
            if let Some(start) = placed.base
                && base.wrapping_sub(start) < placed.len
            {
                return Page::Ram(self.host(placed.offset + (base - start)));
            }
        }
        Page::None
    }

    /// The same for an address as processors form it, which may have [`Smram::VIEW`].
    #[inline]
    pub fn page_of_processor(&self, addr: PhysAddr) -> Page {
        if addr.0 & Smram::VIEW != 0 {
            return Page::Ram(self.host(addr.0 & !Smram::VIEW & !(PAGE_BYTES - 1)));
        }
        self.page(addr)
    }

    /// The offset into the mapping of the page at `addr`, if reads find RAM there.
    #[inline]
    fn page_offset(&self, addr: PhysAddr) -> Option<usize> {
        let host = match self.page_of_processor(addr) {
            Page::Ram(host) => host.cast_const(),
            Page::Rom(host) => host,
            Page::Split { .. } | Page::None => return None,
        };
        let offset = (host as usize).wrapping_sub(self.ram.as_ptr() as usize);
        (offset < self.ram.len()).then_some(offset)
    }

    /// Whether reads at `addr` find RAM, or a device's own memory.
    #[inline]
    pub fn is_ram(&self, addr: PhysAddr) -> bool {
        self.page_offset(addr).is_some()
    }

    // ---- access --------------------------------------------------------------------------------

    /// Copies guest memory out, as a bus master does. Bytes that nothing backs read as FFh.
    pub fn read(&self, addr: PhysAddr, buf: &mut [u8]) {
        self.copy_out(addr, buf, Self::page);
    }

    /// The same for an address as processors form it, which may have [`Smram::VIEW`].
    pub fn read_as_processor(&self, addr: PhysAddr, buf: &mut [u8]) {
        self.copy_out(addr, buf, Self::page_of_processor);
    }

    #[inline]
    fn copy_out(&self, addr: PhysAddr, buf: &mut [u8], page_at: impl Fn(&Self, PhysAddr) -> Page) {
        let mut done = 0;
        while done < buf.len() {
            let at = addr.0.wrapping_add(done as u64);
            let within = (at % PAGE_BYTES) as usize;
            let len = (buf.len() - done).min(PAGE_BYTES as usize - within);
            let chunk = &mut buf[done..done + len];
            match page_at(self, PhysAddr(at)) {
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
                Page::Split { rom, .. } if rom.is_null() => chunk.fill(0xFF),
                // SAFETY: as above.
                Page::Split { rom, .. } => unsafe {
                    rom.add(within)
                        .copy_to_nonoverlapping(chunk.as_mut_ptr(), len)
                },
                Page::None => chunk.fill(0xFF),
            }
            done += len;
        }
    }

    /// Copies bytes into RAM, as a bus master does. ROM and unbacked addresses ignore them.
    ///
    /// Writes to granules that hold decoded code are recorded for
    /// [`take_code_writes`](Self::take_code_writes).
    pub fn write(&mut self, addr: PhysAddr, buf: &[u8]) {
        let mut done = 0;
        while done < buf.len() {
            let at = PhysAddr(addr.0.wrapping_add(done as u64));
            let within = (at.0 % PAGE_BYTES) as usize;
            let len = (buf.len() - done).min(PAGE_BYTES as usize - within);
            let page = self.page(at);
            if let Page::Ram(ram) | Page::Split { ram, .. } = page {
                // SAFETY: the page is `PAGE_BYTES` long and `within + len` does not pass its end.
                unsafe {
                    ram.add(within)
                        .copy_from_nonoverlapping(buf[done..].as_ptr(), len)
                };
                self.note_write(ram);
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

    /// The granules of the page that holds `addr` in which decoded code is: see [`granules`]. Only
    /// RAM has any.
    #[inline]
    pub fn code_mask(&self, addr: PhysAddr) -> u64 {
        match self.page_offset(addr) {
            Some(offset) => self.code[offset / PAGE_BYTES as usize],
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
        if let Some(offset) = self.page_offset(addr) {
            self.code[offset / PAGE_BYTES as usize] = mask;
        }
    }

    // ---- writes that are watched ---------------------------------------------------------------

    /// Whether a write to the page at this host address, in RAM, would make a clean page dirty.
    #[inline]
    pub fn is_clean(&self, host: *const u8) -> bool {
        let number = (host as usize).wrapping_sub(self.ram.as_ptr() as usize) / PAGE_BYTES as usize;
        self.clean[number / 64] >> (number % 64) & 1 != 0
    }

    /// The page at this host address, in RAM, is written.
    #[inline]
    pub fn note_write(&mut self, host: *const u8) {
        let number = (host as usize).wrapping_sub(self.ram.as_ptr() as usize) / PAGE_BYTES as usize;
        self.clean[number / 64] &= !(1 << (number % 64));
    }

    /// Changes whenever pages became clean: a processor that has seen another number gives up its
    /// direct right to write.
    #[inline]
    pub fn clean_revision(&self) -> u64 {
        self.clean_revision
    }

    /// The pages of a device's own memory, counted from its start, that were written since this was
    /// last asked: all of them the first time. They are clean from now on.
    pub fn take_dirty(&mut self, ram: DeviceRam) -> Vec<u64> {
        let Some(&placed) = self.device_ram.get(usize::from(ram.0)) else {
            return Vec::new();
        };
        let first = placed.offset / PAGE_BYTES;
        let mut dirty = Vec::new();
        for number in 0..placed.len / PAGE_BYTES {
            let at = (first + number) as usize;
            let bit = 1 << (at % 64);
            if self.clean[at / 64] & bit == 0 {
                self.clean[at / 64] |= bit;
                dirty.push(number);
            }
        }
        if !dirty.is_empty() {
            self.clean_revision += 1;
        }
        dirty
    }

    /// The device itself wrote these bytes of its own memory: pages become dirty, and decoded code
    /// is recorded as for [`write`](Self::write).
    pub fn note_device_write(&mut self, ram: DeviceRam, bytes: Range<usize>) {
        let Some(&placed) = self.device_ram.get(usize::from(ram.0)) else {
            return;
        };
        let end = (bytes.end as u64).min(placed.len);
        let mut at = bytes.start as u64;
        while at < end {
            let len = (PAGE_BYTES - at % PAGE_BYTES).min(end - at);
            let host = self.host(placed.offset + at);
            self.note_write(host);
            if self.code_mask_at(host) & granules(at % PAGE_BYTES, len) != 0
                && let Some(base) = placed.base
            {
                self.code_writes.push((PhysAddr(base + at), len));
            }
            at += len;
        }
    }

    /// The content of a device's own memory.
    ///
    /// A write to it by the device is to be followed by
    /// [`note_device_write`](Self::note_device_write).
    pub fn device_ram(&mut self, ram: DeviceRam) -> &mut [u8] {
        let placed = self.device_ram[usize::from(ram.0)];
        // SAFETY: the part lies within the mapping. While the reference lives nobody else has the
        // memory, so that no processor uses its pointers into it.
        unsafe { std::slice::from_raw_parts_mut(self.host(placed.offset), placed.len as usize) }
    }

    // ---- code ----------------------------------------------------------------------------------

    /// Whether a bus master wrote to granules that hold decoded code.
    #[inline]
    pub fn has_code_writes(&self) -> bool {
        !self.code_writes.is_empty()
    }

    /// Takes the list of (address, length) that bus masters wrote in granules with decoded code.
    pub fn take_code_writes(&mut self) -> Vec<(PhysAddr, u64)> {
        std::mem::take(&mut self.code_writes)
    }

    // ---- as a whole ----------------------------------------------------------------------------

    /// Calls `visit` with all of RAM and the devices' own memory, a megabyte or less at a time, in
    /// order.
    pub fn visit_ram(&self, mut visit: impl FnMut(&[u8])) {
        let _ = self.visit_ram_while(|part| {
            visit(part);
            ControlFlow::Continue(())
        });
    }

    /// The same, for as long as `visit` wants to go on.
    pub fn visit_ram_while(
        &self,
        mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut buf = vec![0u8; 1 << 20];
        let (mut offset, end) = (0, self.mapped_bytes());
        while offset < end {
            let len = (end - offset).min(1 << 20) as usize;
            // SAFETY: `offset + len` is at most the length of the mapping.
            unsafe {
                self.host(offset)
                    .cast_const()
                    .copy_to_nonoverlapping(buf.as_mut_ptr(), len)
            };
            visit(&buf[..len])?;
            offset += len as u64;
        }
        ControlFlow::Continue(())
    }

    /// Writes bytes of RAM and the devices' own memory, by their place in what
    /// [`visit_ram`](Self::visit_ram) visits; what lies beyond is left out. For whoever restores a
    /// machine whose processors have forgotten what they knew.
    pub fn set_ram(&mut self, offset: u64, bytes: &[u8]) {
        let room = self.mapped_bytes().saturating_sub(offset);
        let len = room.min(bytes.len() as u64) as usize;
        if len > 0 {
            // SAFETY: `offset + len` is at most the length of the mapping.
            unsafe {
                self.host(offset)
                    .copy_from_nonoverlapping(bytes.as_ptr(), len)
            };
        }
    }

    /// Puts the content of `file` in place of RAM and the devices' own memory: mapped
    /// copy-on-write, so that it costs the same whatever its size. The file must not change as long
    /// as the memory lives. A file of a board whose last devices had no memory yet is read instead.
    ///
    /// # Errors
    /// A file of another size, or the host's refusal; nothing is changed then.
    pub fn map_ram(&mut self, file: &File) -> Result<(), MemoryError> {
        let bytes = self.mapped_bytes();
        let host = |source| MemoryError::Host { bytes, source };
        let found = file.metadata().map_err(host)?.len();
        if found != bytes {
            let mut older = self.device_ram.iter().map(|placed| placed.offset);
            if !older.any(|end| end == found) {
                return Err(MemoryError::Size(bytes));
            }
            let mut map = MmapOptions::new()
                .len(bytes as usize)
                .map_anon()
                .map_err(host)?;
            let mut source = file;
            source.rewind().map_err(host)?;
            source
                .read_exact(&mut map[..found as usize])
                .map_err(host)?;
            self.replace_ram(MmapRaw::from(map));
            return Ok(());
        }
        // SAFETY: only copies go in and out of the mapping, so that even a file that changes does
        // no more than change what the guest reads; one that is cut short would end the process,
        // and the caller keeps it from that.
        let map = unsafe { MmapOptions::new().len(bytes as usize).map_copy(file) }.map_err(host)?;
        self.replace_ram(MmapRaw::from(map));
        Ok(())
    }

    fn replace_ram(&mut self, map: MmapRaw) {
        self.ram = map;
        self.code.fill(0);
        self.clean.fill(0);
        self.code_writes.clear();
        self.map_low(0..LOW_PAGES);
        self.leads_elsewhere(0..u64::MAX);
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
    fn a_shadowed_page_reads_and_writes_as_its_registers_say() {
        let mut memory = GuestMemory::new(2 << 20).unwrap();
        memory.add_rom(PhysAddr(0xF_0000), &[0x55; 4096]).unwrap();
        let at = PhysAddr(0xF_0010);
        let read = |memory: &GuestMemory| memory.read_array::<1>(at)[0];
        let revision = memory.map_revision();
        assert!(memory.shadow(at, Shadow::Write));
        memory.write(at, &[0x77]);
        assert_eq!(read(&memory), 0x55, "reads find the ROM still");
        memory.shadow(at, Shadow::Read);
        assert_eq!(read(&memory), 0x77);
        memory.write(at, &[0x88]);
        assert_eq!(read(&memory), 0x77, "writes are ignored");
        memory.shadow(at, Shadow::Ram);
        memory.write(at, &[0x99]);
        assert_eq!(read(&memory), 0x99);
        assert!(!memory.shadow(at, Shadow::Ram), "no change");
        memory.shadow(at, Shadow::Off);
        assert_eq!(read(&memory), 0x55);
        assert_eq!(memory.map_revision(), revision + 4);
        assert_eq!(memory.take_remapped().len(), 4);
        let empty = PhysAddr(0xD_0000);
        memory.shadow(empty, Shadow::Write);
        memory.write(empty, &[1]);
        assert_eq!(memory.read_array::<1>(empty), [0xFF], "no ROM there");
        assert!(!memory.shadow(PhysAddr(0x5000), Shadow::Ram), "never RAM's");
        assert!(!memory.shadow(PhysAddr(0x10_0000), Shadow::Ram));
    }

    #[test]
    fn smram_is_there_for_processors_only() {
        let mut memory = GuestMemory::new(1 << 20).unwrap();
        let revision = memory.map_revision();
        let smram = Smram {
            enabled: true,
            ..Smram::default()
        };
        assert!(memory.set_smram(smram) && !memory.set_smram(smram));
        assert_eq!(memory.map_revision(), revision + 1);
        assert_eq!(smram.shown(false), (false, false));
        assert_eq!(smram.shown(true), (true, true));
        let closed = Smram {
            closed_to_data: true,
            ..smram
        };
        assert_eq!(closed.shown(true), (false, true));
        let view = PhysAddr(0xB_F000 | Smram::VIEW);
        let Page::Ram(host) = memory.page_of_processor(view) else {
            panic!("no RAM there");
        };
        // SAFETY: a page of RAM.
        unsafe { host.write(0x5A) };
        memory.write(PhysAddr(0xB_F000), &[1]);
        memory.write(view, &[1]);
        assert_eq!(memory.read_array::<1>(PhysAddr(0xB_F000)), [0xFF]);
        assert_eq!(memory.read_array::<1>(view), [0xFF]);
        let mut byte = [0];
        memory.read_as_processor(view, &mut byte);
        assert_eq!(byte, [0x5A]);
    }

    #[test]
    fn a_devices_memory_is_where_it_was_put_and_tells_what_was_written() {
        let mut memory = GuestMemory::with_device_ram(1 << 20, &[8192, 4096]).unwrap();
        let (frames, other) = (DeviceRam(0), DeviceRam(1));
        assert_eq!(memory.page(PhysAddr(0xE000_0000)), Page::None);
        memory.place(frames, Some(0xE000_0000));
        memory.place(other, Some(0xE000_1000));
        memory.write(PhysAddr(0xE000_1FFF), &[7, 8]);
        assert_eq!(memory.device_ram(frames)[0x1FFF], 7);
        assert_eq!(
            memory.device_ram(other)[0],
            0,
            "the lower number lies over it"
        );
        assert_eq!(memory.take_dirty(frames), [0, 1], "all, the first time");
        assert_eq!(memory.take_dirty(frames), []);
        memory.write(PhysAddr(0xE000_1000), &[1]);
        assert_eq!(memory.take_dirty(frames), [1]);
        memory.place(frames, Some(0x10_0000_0000));
        assert_eq!(memory.read_array::<1>(PhysAddr(0x10_0000_1FFF)), [7]);
        assert_eq!(memory.read_array::<1>(PhysAddr(0xE000_1000)), [0]);
        memory.place(frames, None);
        assert!(!memory.is_ram(PhysAddr(0x10_0000_1FFF)));

        let map = memory.map();
        let mut same = GuestMemory::with_device_ram(1 << 20, &[8192, 4096]).unwrap();
        same.set_map(&map).unwrap();
        assert_eq!(same.map(), map);
        assert!(same.is_ram(PhysAddr(0xE000_1000)));
        assert!(GuestMemory::new(1 << 20).unwrap().set_map(&map).is_err());
    }

    #[test]
    fn a_file_takes_the_place_of_ram_and_keeps_its_bytes() {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        let mut bytes = vec![0x11; 1 << 20];
        bytes[0x5000] = 0x22;
        file.write_all(&bytes).unwrap();
        let mut memory = GuestMemory::new(1 << 20).unwrap();
        memory.write(PhysAddr(0x5000), &[0x33]);
        memory.map_ram(&file).unwrap();
        assert_eq!(memory.read_array::<2>(PhysAddr(0x5000)), [0x22, 0x11]);
        memory.write(PhysAddr(0x5000), &[0x44]);
        let mut again = GuestMemory::new(1 << 20).unwrap();
        again.map_ram(&file).unwrap();
        assert_eq!(again.read_array::<1>(PhysAddr(0x5000)), [0x22]);
        assert!(GuestMemory::new(2 << 20).unwrap().map_ram(&file).is_err());
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(GuestMemory::new(0).is_err());
        assert!(GuestMemory::new(u64::MAX).is_err());
        assert!(GuestMemory::new((1 << 20) + 1).is_err());
    }
}
