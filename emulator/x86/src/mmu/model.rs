//! The TLB beside simple models, over random events.

use std::collections::{HashMap, HashSet};

use platform::testkit::Rng;
use platform::{Bus, Clock, GuestMemory, PhysAddr};

use super::tlb::{Direct, Leaf, NO_TAG, PAGE_MASK, frame};
use super::{BANK_SUPERVISOR, BANK_USER, Tlb};
use crate::cpu::{Segment, SegmentRegister, control};
use crate::cpuid::CpuModel;
use crate::vcpu::Vcpu;
use crate::width::{Q, Width};

/// What must be known, and nothing else: translations by address space and page; `None` for the global ones.
type Known = HashMap<(Option<u16>, u64), Leaf>;

#[test]
fn the_tlb_knows_what_it_was_told_until_an_event_drops_it() {
    let mut rng = Rng::new(0x71B);
    let mut tlb = Tlb::new();
    let mut known = Known::new();
    // Pages in sets of their own, so that none drives another one out. Four of the eight regions hold large pages.
    let mut large = HashSet::new();
    let page = |rng: &mut Rng| {
        let region = rng.below(8);
        (region << 21 | region << 14 | rng.below(3) << 12) + 0x4000_0000
    };
    let is_large = |page: u64| page >> 22 & 1 != 0;
    let mut pcid = 0u16;
    let mut hits = 0;
    for _ in 0..200_000 {
        let lin = page(&mut rng);
        match rng.below(16) {
            0..=6 => {
                // As the page tables say, a page is global in every address space or in none.
                let global = lin >> 12 & 1 != 0;
                let mut bits = rng.below(16) | if global { Leaf::GLOBAL } else { 0 };
                let mut size = 4096;
                if is_large(lin) {
                    bits |= Leaf::LARGE;
                    size = 2 << 20;
                    large.insert(lin >> 21);
                }
                let leaf = Leaf(rng.below(1 << 20) << 12 | bits);
                tlb.insert(lin, leaf, size);
                known.insert(((!global).then_some(pcid), lin), leaf);
                tlb.fill(BANK_SUPERVISOR, lin, direct(lin, leaf));
                tlb.fill(BANK_USER, lin, direct(lin, leaf));
            }
            7 => {
                pcid = rng.below(3) as u16;
                tlb.switch_to(pcid);
            }
            8 => {
                tlb.flush_pcid(pcid);
                known.retain(|(of, _), _| *of != Some(pcid));
            }
            9 => {
                let other = rng.below(3) as u16;
                tlb.flush_pcid(other);
                known.retain(|(of, _), _| *of != Some(other));
            }
            10 if rng.below(8) == 0 => {
                tlb.flush_all();
                known.clear();
                large.clear();
            }
            11 if rng.below(4) == 0 => {
                tlb.flush_all_locals();
                known.retain(|(of, _), _| of.is_none());
            }
            12 | 13 => {
                tlb.flush_page(lin);
                drop_page(&mut known, &large, lin, |of| {
                    of.is_none() || of == Some(pcid)
                });
            }
            14 => {
                let other = rng.below(3) as u16;
                tlb.flush_page_of_pcid(other, lin);
                drop_page(&mut known, &large, lin, |of| of == Some(other));
            }
            _ => {
                let expected = known
                    .get(&(None, lin))
                    .or_else(|| known.get(&(Some(pcid), lin)));
                let found = tlb.lookup(lin);
                assert_eq!(found, expected.copied(), "{lin:x} in {pcid}");
                hits += u32::from(found.is_some());
                for bank in [BANK_SUPERVISOR, BANK_USER] {
                    if let Some(at) = tlb.read_pointer_sized(bank, lin, 8) {
                        let leaf = expected.expect("a direct entry is of a known translation");
                        assert_eq!(at as u64, leaf.phys() << 8, "{lin:x} in {pcid}");
                    }
                }
            }
        }
    }
    assert!(hits > 2000, "{hits}: the test finds something");
}

/// An entry whose host address tells its physical page.
fn direct(lin: u64, leaf: Leaf) -> Direct {
    let page = lin & PAGE_MASK;
    Direct {
        read: page,
        write: NO_TAG,
        addend: (leaf.phys() << 8).wrapping_sub(page),
        frame: leaf.phys()
            | if leaf.has(Leaf::GLOBAL) {
                frame::GLOBAL
            } else {
                0
            },
    }
}

/// INVLPG and its like: of a large page all pieces go, and those of its neighbour, with which it could be one of 4 MiB.
fn drop_page(known: &mut Known, large: &HashSet<u64>, lin: u64, of: impl Fn(Option<u16>) -> bool) {
    let region = large.contains(&(lin >> 21));
    known.retain(|&(owner, at), _| {
        let hit = at == lin || region && at >> 22 == lin >> 22;
        !(hit && of(owner))
    });
}

#[test]
fn a_region_without_large_pages_gives_up_one_page_only() {
    let mut tlb = Tlb::new();
    for n in 0..512 {
        tlb.insert(n << 12, Leaf(n << 12), 4096);
    }
    tlb.insert(0x80_0000, Leaf(0x80_0000 | Leaf::LARGE), 2 << 20);
    tlb.flush_page(0x5000);
    let kept = (0..512).filter(|n| tlb.lookup(n << 12).is_some()).count();
    assert_eq!((kept, tlb.lookup(0x80_0000).is_some()), (511, true));
    tlb.flush_page(0x80_0000 + 0x1F_F000);
    assert_eq!(tlb.lookup(0x80_0000), None);
}

// ---- a whole processor -------------------------------------------------------------------------

const TABLES: u64 = 0x10_0000;
const PAGES: u64 = 8;
const SPACES: u64 = 3;
/// The pages' linear addresses begin here; what they map, at `FRAMES`.
const WINDOW: u64 = 0x40_0000;
const FRAMES: u64 = 0x20_0000;

/// A processor in 64-bit mode with three address spaces, in each of which the window's pages map frames that hold their
/// own number. Odd pages are global, and shared.
struct Spaces {
    vcpu: Vcpu,
    /// What a page may still lead to, since it was last invalidated: by space, or of all.
    allowed: HashMap<(Option<u64>, u64), Vec<u64>>,
    space: u64,
}

fn owner(space: u64, page: u64) -> Option<u64> {
    (page & 1 == 0).then_some(space)
}

impl Spaces {
    fn new() -> Self {
        let mut memory = GuestMemory::new(16 << 20).unwrap();
        for number in 0..64u64 {
            memory.write(PhysAddr(FRAMES + number * 4096), &number.to_le_bytes());
        }
        for space in 0..SPACES {
            let root = TABLES + space * 0x4000;
            for level in 0..3 {
                let index = if level == 2 { WINDOW >> 21 } else { 0 };
                let entry = (root + (level + 1) * 4096) | 0x27;
                memory.write(
                    PhysAddr(root + level * 4096 + index * 8),
                    &entry.to_le_bytes(),
                );
            }
        }
        let mut vcpu = Vcpu::new(CpuModel::by_name("max").unwrap());
        vcpu.attach(Box::new(Bus::new(memory, Clock::new(1, 1))));
        vcpu.cpu.cr0 |= control::CR0_PE | control::CR0_PG | control::CR0_WP;
        vcpu.cpu.cr4 |= control::CR4_PAE | control::CR4_PGE | control::CR4_PCIDE;
        vcpu.cpu.efer |= control::EFER_LME | control::EFER_LMA;
        let code = Segment::P | Segment::S | Segment::TYPE_CODE | Segment::L;
        vcpu.cpu.segs[SegmentRegister::CS].attributes = code;
        vcpu.cpu.cr3 = TABLES;
        vcpu.a20_mask = !0;
        vcpu.flush_tlb();
        vcpu.update_mode();
        let mut spaces = Self {
            vcpu,
            allowed: HashMap::new(),
            space: 0,
        };
        for space in 0..SPACES {
            for page in 0..PAGES {
                spaces.map(space, page, page);
            }
        }
        spaces.allowed.values_mut().for_each(|frames| {
            frames.drain(..frames.len() - 1);
        });
        spaces
    }

    /// Writes the page's entry, of all spaces if it is global, and invalidates nothing.
    fn map(&mut self, space: u64, page: u64, number: u64) {
        let owner = owner(space, page);
        let global = if owner.is_none() { 1 << 8 } else { 0 };
        let entry = (FRAMES + number * 4096) | 0x67 | global;
        for table in 0..SPACES {
            if owner.is_none() || table == space {
                let at = TABLES + table * 0x4000 + 3 * 4096 + page * 8;
                let memory = &mut self.vcpu.bus().memory;
                memory.write(PhysAddr(at), &entry.to_le_bytes());
            }
        }
        self.allowed.entry((owner, page)).or_default().push(number);
    }

    /// From now on only what the tables say is allowed, where `of` says so.
    fn invalidate(&mut self, of: impl Fn(Option<u64>, u64) -> bool) {
        for (&(owner, page), frames) in &mut self.allowed {
            if of(owner, page) {
                frames.drain(..frames.len() - 1);
            }
        }
    }

    fn check(&mut self, page: u64) {
        let lin = WINDOW + page * 4096;
        let number = self.vcpu.load_at::<Q>(0, 3, lin).unwrap();
        let allowed = &self.allowed[&(owner(self.space, page), page)];
        assert!(
            allowed.contains(&number),
            "page {page} of {}: {number}, not {allowed:?}",
            self.space
        );
        // An onlooker sees the tables.
        let latest = allowed[allowed.len() - 1];
        assert_eq!(self.vcpu.probe(lin), Some(PhysAddr(FRAMES + latest * 4096)));
        // Instructions and data may differ in age, but not in what is allowed.
        let (phys, _) = self.vcpu.translate_fetch(lin).unwrap();
        assert!(allowed.contains(&((phys - FRAMES) >> 12)));
    }

    fn write_cr3(&mut self, space: u64, keep: bool) {
        let value = (TABLES + space * 0x4000) | space | u64::from(keep) << 63;
        self.vcpu.write_cr3(value).unwrap();
        self.space = space;
    }
}

#[test]
fn a_processor_sees_no_translation_that_an_event_has_dropped() {
    assert_eq!(Q::BYTES, 8);
    let mut rng = Rng::new(0xAD5);
    let mut spaces = Spaces::new();
    for _ in 0..60_000 {
        let (space, page) = (rng.below(SPACES), rng.below(PAGES));
        let lin = WINDOW + page * 4096;
        match rng.below(12) {
            0 | 1 => {
                let number = rng.below(64);
                spaces.map(space, page, number);
            }
            2 => {
                spaces.write_cr3(space, false);
                spaces.invalidate(|owner, _| owner == Some(space));
            }
            3 => spaces.write_cr3(space, true),
            4 => {
                spaces.vcpu.flush_tlb_page(lin);
                let current = spaces.space;
                spaces.invalidate(|owner, at| at == page && owner.is_none_or(|s| s == current));
            }
            5 => {
                spaces
                    .vcpu
                    .with_tlb(|tlb| tlb.flush_page_of_pcid(space as u16, lin));
                spaces.invalidate(|owner, at| at == page && owner == Some(space));
            }
            6 if rng.below(4) == 0 => {
                spaces.vcpu.with_tlb(Tlb::flush_all_locals);
                spaces.invalidate(|owner, _| owner.is_some());
            }
            7 if rng.below(4) == 0 => {
                // CR4.PGE off and on again.
                let cr4 = spaces.vcpu.cpu.cr4;
                spaces.vcpu.write_cr4(cr4 & !control::CR4_PGE).unwrap();
                spaces.vcpu.write_cr4(cr4).unwrap();
                spaces.invalidate(|_, _| true);
            }
            _ => spaces.check(page),
        }
    }
}

#[test]
fn translations_wait_for_their_address_space() {
    let mut spaces = Spaces::new();
    for space in [0, 1, 0, 1] {
        spaces.write_cr3(space, true);
        for page in 0..PAGES {
            spaces.check(page);
        }
    }
    // Four pages of each space, and four global ones.
    assert_eq!(spaces.vcpu.tlb.walks, 4 + 4 + 4);
    spaces.write_cr3(0, false);
    for page in 0..PAGES {
        spaces.check(page);
    }
    assert_eq!(spaces.vcpu.tlb.walks, 12 + 4);
}
