//! The page walk: from a linear address and the paging registers to what the tables say, with no effect on anything.
//!
//! Intel SDM vol. 3A §4.3 (32-bit paging), §4.4 (PAE), §4.5 (4-level). [`walk`] reads entries by a function of the
//! caller's, and names those that it used, so that the caller sets accessed and dirty bits, or does not.

use super::tlb::{Leaf, PAGE_MASK};
use crate::cpu::{Cpu, control};
use crate::cpuid::CpuModel;

/// Page-table entry bits.
pub(crate) mod pte {
    pub const P: u64 = 1 << 0;
    pub const W: u64 = 1 << 1;
    pub const U: u64 = 1 << 2;
    pub const A: u64 = 1 << 5;
    pub const D: u64 = 1 << 6;
    pub const PS: u64 = 1 << 7;
    pub const G: u64 = 1 << 8;
    pub const NX: u64 = 1 << 63;
}

const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// The registers and properties of the model that a walk depends on, while CR0.PG is set.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    /// CR3.
    pub cr3: u64,
    /// The PAE page-directory pointers.
    pub pdpte: [u64; 4],
    /// CR4.PAE.
    pub pae: bool,
    /// CR4.PSE.
    pub pse: bool,
    /// CR4.PGE.
    pub pge: bool,
    /// EFER.LMA.
    pub long: bool,
    /// EFER.NXE.
    pub nxe: bool,
    /// The model's physical addresses: MAXPHYADDR bits set.
    pub physical_mask: u64,
    /// The model has pages of 1 GiB.
    pub pages_1g: bool,
}

/// An entry that a walk used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Its physical address.
    pub addr: u64,
    /// What it held.
    pub entry: u64,
}

/// What the tables say of a linear address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The page and its rights; [`Leaf::DIRTY`] as the entry has it.
    pub leaf: Leaf,
    /// Bytes in the page that was found.
    pub size: u64,
    /// The entries used, the root's first.
    pub steps: [Step; 4],
    /// How many of them.
    pub depth: usize,
    /// Bytes in an entry: 4 or 8.
    pub entry_size: u8,
}

/// Why a walk ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPage {
    /// An entry is not present.
    NotPresent,
    /// An entry has a reserved bit set.
    Reserved,
}

impl Paging {
    /// As `cpu`, a processor of `model`, has it now.
    #[inline]
    pub fn of(cpu: &Cpu, model: &CpuModel) -> Self {
        Self {
            cr3: cpu.cr3,
            pdpte: cpu.pdpte,
            pae: cpu.cr4 & control::CR4_PAE != 0,
            pse: cpu.cr4 & control::CR4_PSE != 0,
            pge: cpu.cr4 & control::CR4_PGE != 0,
            long: cpu.long_mode(),
            nxe: cpu.efer & control::EFER_NXE != 0,
            physical_mask: (1 << model.physical_address_bits()) - 1,
            pages_1g: model.has_1g_pages(),
        }
    }
}

/// Walks the tables for `lin`; `load(addr, size)` reads an entry of 4 or 8 bytes at a physical address.
///
/// # Errors
/// No page: the walk ended at an entry that is not present or not valid.
pub fn walk(
    paging: &Paging,
    lin: u64,
    load: &mut impl FnMut(u64, u8) -> u64,
) -> Result<Walk, NoPage> {
    if paging.pae {
        walk_8_byte_entries(paging, lin, load)
    } else {
        walk_32(paging, lin, load)
    }
}

fn rights(paging: &Paging, entry: u64, write: bool, user: bool, no_execute: bool) -> u64 {
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    bit(write, Leaf::WRITE)
        | bit(user, Leaf::USER)
        | bit(no_execute, Leaf::NO_EXECUTE)
        | bit(entry & pte::D != 0, Leaf::DIRTY)
        | bit(paging.pge && entry & pte::G != 0, Leaf::GLOBAL)
}

/// 32-bit paging, with pages of 4 MiB and PSE-36 (§4.3).
fn walk_32(
    paging: &Paging,
    lin: u64,
    load: &mut impl FnMut(u64, u8) -> u64,
) -> Result<Walk, NoPage> {
    let addr = (paging.cr3 & 0xFFFF_F000) | (lin >> 22 & 0x3FF) << 2;
    let pde = load(addr, 4);
    if pde & pte::P == 0 {
        return Err(NoPage::NotPresent);
    }
    let mut steps = [
        Step { addr, entry: pde },
        Step::default(),
        Step::default(),
        Step::default(),
    ];
    if pde & pte::PS != 0 && paging.pse {
        // PSE-36: bits 20-13 give physical address bits 39-32, bit 21 is reserved.
        let high = (pde >> 13 & 0xFF) << 32;
        if pde & 1 << 21 != 0 || high & !paging.physical_mask != 0 {
            return Err(NoPage::Reserved);
        }
        let phys = (pde & 0xFFC0_0000) | high | (lin & 0x3F_F000);
        let rights = rights(paging, pde, pde & pte::W != 0, pde & pte::U != 0, false);
        return Ok(Walk {
            leaf: Leaf(phys | rights | Leaf::LARGE),
            size: 4 << 20,
            steps,
            depth: 1,
            entry_size: 4,
        });
    }
    let addr = (pde & 0xFFFF_F000) | (lin >> 12 & 0x3FF) << 2;
    let entry = load(addr, 4);
    if entry & pte::P == 0 {
        return Err(NoPage::NotPresent);
    }
    steps[1] = Step { addr, entry };
    let both = pde & entry;
    let rights = rights(paging, entry, both & pte::W != 0, both & pte::U != 0, false);
    Ok(Walk {
        leaf: Leaf(entry & 0xFFFF_F000 | rights),
        size: 4096,
        steps,
        depth: 2,
        entry_size: 4,
    })
}

/// PAE and 4-level paging (§4.4, §4.5).
fn walk_8_byte_entries(
    paging: &Paging,
    lin: u64,
    load: &mut impl FnMut(u64, u8) -> u64,
) -> Result<Walk, NoPage> {
    let mut reserved = !paging.physical_mask & ADDRESS;
    if !paging.nxe {
        reserved |= pte::NX;
    }
    if !paging.long {
        // Legacy PAE entries have no software-available high bits.
        reserved |= 0x7FF0_0000_0000_0000;
    }
    let (mut table, mut level) = if paging.long {
        (paging.cr3 & ADDRESS, 4)
    } else {
        let pdpte = paging.pdpte[(lin >> 30 & 3) as usize];
        if pdpte & pte::P == 0 {
            return Err(NoPage::NotPresent);
        }
        (pdpte & ADDRESS, 2)
    };
    let (mut write, mut user, mut no_execute) = (true, true, false);
    let mut steps = [Step::default(); 4];
    let mut depth = 0;
    loop {
        let shift = 12 + 9 * (level - 1);
        let addr = table | (lin >> shift & 0x1FF) << 3;
        let entry = load(addr, 8);
        if entry & pte::P == 0 {
            return Err(NoPage::NotPresent);
        }
        let low_bits = (1u64 << shift) - 1;
        let large = level > 1 && entry & pte::PS != 0;
        let mut bad = entry & reserved;
        if large {
            // Address bits below the page's size are reserved, but for PAT at bit 12.
            bad |= entry & low_bits & 0x000F_FFFF_FFFF_E000;
            if level == 4 || level == 3 && !paging.pages_1g {
                bad |= pte::PS;
            }
        }
        if bad != 0 {
            return Err(NoPage::Reserved);
        }
        steps[depth] = Step { addr, entry };
        depth += 1;
        write &= entry & pte::W != 0;
        user &= entry & pte::U != 0;
        no_execute |= paging.nxe && entry & pte::NX != 0;
        if level == 1 || large {
            let phys = entry & ADDRESS & !low_bits | lin & low_bits & PAGE_MASK;
            let rights = rights(paging, entry, write, user, no_execute);
            return Ok(Walk {
                leaf: Leaf(phys | rights | if large { Leaf::LARGE } else { 0 }),
                size: low_bits + 1,
                steps,
                depth,
                entry_size: 8,
            });
        }
        table = entry & ADDRESS;
        level -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGING: Paging = Paging {
        cr3: 0x1000,
        pdpte: [0; 4],
        pae: false,
        pse: true,
        pge: true,
        long: false,
        nxe: false,
        physical_mask: (1 << 40) - 1,
        pages_1g: true,
    };

    /// Tables as a list of addresses and entries; what is not listed is not present.
    fn tables(entries: &[(u64, u64)]) -> impl FnMut(u64, u8) -> u64 {
        let entries = entries.to_vec();
        move |addr, _| {
            let found = entries.iter().find(|&&(at, _)| at == addr);
            found.map_or(0, |&(_, entry)| entry)
        }
    }

    #[test]
    fn rights_are_those_that_all_levels_give() {
        let mut load = tables(&[(0x1004, 0x2007), (0x2008, 0x5005)]);
        let walk = walk(&PAGING, 0x40_2123, &mut load).unwrap();
        assert_eq!(walk.leaf, Leaf(0x5000 | Leaf::USER));
        assert_eq!((walk.size, walk.depth, walk.entry_size), (4096, 2, 4));
        assert_eq!(
            walk.steps[1],
            Step {
                addr: 0x2008,
                entry: 0x5005
            }
        );
    }

    #[test]
    fn a_large_page_gives_its_piece() {
        let mut load = tables(&[(0x1000, 0x40_0000 | 0x1C7)]);
        let walk = walk(&PAGING, 0x12_3456, &mut load).unwrap();
        assert_eq!(walk.leaf.phys(), 0x52_3000);
        for bit in [
            Leaf::LARGE,
            Leaf::GLOBAL,
            Leaf::DIRTY,
            Leaf::WRITE,
            Leaf::USER,
        ] {
            assert!(walk.leaf.has(bit), "{bit}");
        }
    }

    #[test]
    fn four_levels_end_at_a_reserved_bit_or_a_missing_entry() {
        let long = Paging {
            pae: true,
            long: true,
            ..PAGING
        };
        let entries = [
            (0x1000, 0x2003),
            (0x2000, 0x3003),
            (0x3000, 0x4003),
            (0x4008, 1 << 63 | 0x7003),
        ];
        let mut load = tables(&entries);
        assert_eq!(walk(&long, 0x1000, &mut load), Err(NoPage::Reserved));
        assert_eq!(walk(&long, 0x2000, &mut load), Err(NoPage::NotPresent));
        let nxe = Paging { nxe: true, ..long };
        let found = walk(&nxe, 0x1FFF, &mut load).unwrap();
        assert_eq!(found.leaf, Leaf(0x7000 | Leaf::WRITE | Leaf::NO_EXECUTE));
        assert_eq!(found.depth, 4);
    }
}
