//! The memory map that kernels are told, the same as the firmware's INT 15h E820.

use platform::memory::LOW_RAM_END;

/// What a range of addresses is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// RAM for the guest's use: type 1.
    Ram,
    /// Taken: type 2.
    Reserved,
}

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// What it is.
    pub kind: MemoryKind,
}

impl MemoryRange {
    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// The type number that E820, multiboot and PVH all use.
    pub fn kind_number(&self) -> u32 {
        match self.kind {
            MemoryKind::Ram => 1,
            MemoryKind::Reserved => 2,
        }
    }
}

/// Where the EBDA starts: conventional memory ends here.
pub(super) const EBDA: u64 = 0x9_FC00;

const MIB: u64 = 1 << 20;
const GIB4: u64 = 1 << 32;

/// The board's memory map with `ram_bytes` of RAM.
///
/// It must say the same as `build_memory_map` in the firmware, entry by entry: a kernel started directly
/// and the same kernel started from a disk then see one machine.
pub fn memory_map(ram_bytes: u64) -> Vec<MemoryRange> {
    let range = |start, end, kind| MemoryRange {
        start,
        len: end - start,
        kind,
    };
    let mut map = vec![
        range(0, EBDA, MemoryKind::Ram),
        range(EBDA, 0xA_0000, MemoryKind::Reserved),
        range(0xE_0000, MIB, MemoryKind::Reserved),
        range(MIB, ram_bytes.clamp(MIB, LOW_RAM_END), MemoryKind::Ram),
        range(0xFEC0_0000, 0xFEC0_1000, MemoryKind::Reserved),
        range(0xFEE0_0000, 0xFEE0_1000, MemoryKind::Reserved),
        range(0xFFFC_0000, GIB4, MemoryKind::Reserved),
    ];
    if ram_bytes > LOW_RAM_END {
        map.push(range(GIB4, GIB4 + ram_bytes - LOW_RAM_END, MemoryKind::Ram));
    }
    map
}
