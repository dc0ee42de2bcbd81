//! The memory of system management mode, as [`GuestMemory`](crate::GuestMemory) shows it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{GuestMemory, Page, PhysAddr};

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
}
