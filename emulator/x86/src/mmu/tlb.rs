//! The translation look-aside buffer: what of the page tables is remembered, and what each event drops of it.
//!
//! Two levels. [`Direct`] entries serve the fast path: direct-mapped, a bank for each kind of access right, an entry
//! with a tag for reading and one for writing, so that one comparison decides presence, right, page crossing and
//! "this page is RAM, and no code is in it". Behind them stands a larger, set-associative level of [`Known`]
//! translations with all their rights, for every privilege and for fetches alike.
//!
//! **Flushes cost what was filled.** The direct level holds the present address space only, and notes which of its
//! entries are not global, so that a flush drops those and looks at no other. The second level has a context in each
//! entry, a number that the address space (PCID) has until it is flushed: there a flush is one new number, and the
//! translations of other address spaces wait for their return (SDM vol. 3A §4.10.1).
//!
//! A large page is remembered as 4 KiB pieces. Which regions have such pieces is known exactly, so INVLPG looks for
//! more than one page only where it must.

use std::collections::HashSet;

use crate::width::Width;

/// Supervisor accesses, SMAP enforced.
pub const BANK_SUPERVISOR: usize = 0;
/// User accesses.
pub const BANK_USER: usize = 1;
/// Supervisor accesses with RFLAGS.AC set under CR4.SMAP.
pub const BANK_SUPERVISOR_AC: usize = 2;
/// Never filled: all accesses take the slow path (alignment checks, data breakpoints).
pub const BANK_SLOW: usize = 3;

/// Direct entries in a bank.
pub const ENTRIES: usize = 1024;
const BANKS: usize = 4;
const SETS: usize = 1024;
const WAYS: usize = 4;
const PCIDS: usize = 4096;

/// Clears the offset in a page.
pub const PAGE_MASK: u64 = !0xFFF;
/// The low bit of [`Direct::addend`] where the page is no memory; the other bits are then its linear address.
pub const DEVICE: u64 = 1;
/// The tag of no page. In the direct level it becomes another one, by slot: see [`no_tag`].
pub const NO_TAG: u64 = !0;

/// A data translation that the fast path can use. Fixed layout, for a recompiler's inline look-up.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub struct Direct {
    /// The page's linear address if it may be read directly, else a [`no_tag`].
    pub read: u64,
    /// The page's linear address if it may be written directly, else a [`no_tag`].
    pub write: u64,
    /// Host address minus linear address; or, with [`DEVICE`], the linear address.
    pub addend: u64,
    /// The physical page, and bits of [`frame`].
    pub frame: u64,
}

/// Low bits of [`Direct::frame`].
pub mod frame {
    /// The translation is global.
    pub const GLOBAL: u64 = 1 << 0;
    /// The page may be written, but for code in it.
    pub const WRITABLE: u64 = 1 << 1;
}

/// The tag of no page in direct entry `slot`: of no page's address, as it is not aligned; and half a bank away from
/// all addresses that are looked for in this slot, so that a comparison need not be of pages exactly: none of the
/// 4096 bytes from it on, nor of those before, is looked for here.
const fn no_tag(slot: usize) -> u64 {
    let other = (slot % ENTRIES) ^ (ENTRIES / 2);
    (!0 << 22) | (other as u64) << 12 | 0x800
}

const fn empty(slot: usize) -> Direct {
    Direct {
        read: no_tag(slot),
        write: no_tag(slot),
        addend: 0,
        frame: NO_TAG,
    }
}

/// All entries of no page.
fn all_empty() -> [Direct; ENTRIES * BANKS] {
    std::array::from_fn(empty)
}

/// What a page walk found: the physical page, and rights in the low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf(pub u64);

#[allow(missing_docs)]
impl Leaf {
    /// All levels allow writing.
    pub const WRITE: u64 = 1 << 0;
    /// All levels allow user accesses.
    pub const USER: u64 = 1 << 1;
    /// Some level forbids fetches.
    pub const NO_EXECUTE: u64 = 1 << 2;
    /// The dirty bit is set, so a write need not walk again.
    pub const DIRTY: u64 = 1 << 3;
    /// CR3 writes spare it.
    pub const GLOBAL: u64 = 1 << 4;
    /// A piece of a larger page.
    pub const LARGE: u64 = 1 << 5;
    /// Instructions were fetched by it.
    pub const FETCHED: u64 = 1 << 6;

    pub fn phys(self) -> u64 {
        self.0 & PAGE_MASK
    }
    #[inline]
    pub fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }
}

#[derive(Clone, Copy)]
struct Known {
    page: u64,
    context: u64,
    leaf: u64,
}

const UNKNOWN: Known = Known {
    page: NO_TAG,
    context: 0,
    leaf: 0,
};

/// The translation look-aside buffer of a processor.
pub struct Tlb {
    direct: [Direct; ENTRIES * BANKS],
    /// Direct entries that were filled with translations that are not global, since those were last dropped.
    /// When it is full, all entries are looked at.
    filled: Vec<u16>,
    filled_over: bool,
    known: [[Known; WAYS]; SETS],
    /// The way of each set that goes next.
    victims: [u8; SETS],
    /// The context of each PCID; below `first_context` it has none.
    contexts: Box<[u64; PCIDS]>,
    first_context: u64,
    last_context: u64,
    /// The context of global translations.
    global_context: u64,
    /// The context of the present PCID.
    context: u64,
    pcid: u16,
    /// Regions of 2 MiB, by number, in which pieces of large pages may be known; of 1 GiB with the top bit set.
    large: HashSet<u64>,
    /// Pages whose translation instructions were fetched by and which was driven out, so that a flush of the page would
    /// not find it: by translations that are not global, and by global ones.
    lost: [PageSet; 2],
    /// Count changes of what linear addresses lead to, without and with global translations.
    generations: [u64; 2],
    /// Page walks so far.
    pub walks: u64,
}

/// A set of pages that may say yes too often.
#[derive(Clone, Copy)]
struct PageSet([u64; 16]);

impl PageSet {
    const EMPTY: Self = Self([0; 16]);

    fn place(page: u64) -> (usize, u64) {
        let hash = (page >> 12).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    fn add(&mut self, page: u64) {
        let (word, bit) = Self::place(page);
        self.0[word] |= bit;
    }

    fn may_have(&self, page: u64) -> bool {
        let (word, bit) = Self::place(page);
        self.0[word] & bit != 0
    }
}

/// Large regions beyond this number are given up, with all translations.
const MAX_LARGE: usize = 4096;
const GIGANTIC: u64 = 1 << 63;

impl Tlb {
    /// An empty TLB, of PCID 0.
    pub fn new() -> Box<Self> {
        Box::new(Self {
            direct: all_empty(),
            filled: Vec::with_capacity(ENTRIES * BANKS),
            filled_over: false,
            known: [[UNKNOWN; WAYS]; SETS],
            victims: [0; SETS],
            contexts: Box::new([0; PCIDS]),
            first_context: 1,
            last_context: 2,
            global_context: 1,
            context: 2,
            pcid: 0,
            large: HashSet::new(),
            lost: [PageSet::EMPTY; 2],
            generations: [1, 1],
            walks: 0,
        })
    }

    // ---- the direct level ----------------------------------------------------------------------

    #[inline(always)]
    fn slot(bank: usize, lin: u64) -> usize {
        (bank % BANKS) * ENTRIES + ((lin >> 12) as usize & (ENTRIES - 1))
    }

    /// Where `W::BYTES` bytes at `lin` can be read directly with the rights of `bank`.
    #[inline(always)]
    pub fn read_pointer<W: Width>(&self, bank: usize, lin: u64) -> Option<*const u8> {
        self.read_pointer_sized(bank, lin, W::BYTES)
    }

    /// Where `size` (at most 4096) bytes at `lin` can be read directly.
    #[inline(always)]
    pub fn read_pointer_sized(&self, bank: usize, lin: u64, size: u64) -> Option<*const u8> {
        self.direct[Self::slot(bank, lin)].read_pointer(lin, size)
    }

    /// Where `size` (at most 4096) bytes at `lin` can be written directly.
    #[inline(always)]
    pub fn write_pointer_sized(&self, bank: usize, lin: u64, size: u64) -> Option<*mut u8> {
        self.direct[Self::slot(bank, lin)].write_pointer(lin, size)
    }

    /// The direct entry for `lin`, whatever it holds.
    #[inline(always)]
    pub fn direct(&mut self, bank: usize, lin: u64) -> &mut Direct {
        &mut self.direct[Self::slot(bank, lin)]
    }

    /// The host address of a bank's direct entries.
    pub fn entries_of(&self, bank: usize) -> usize {
        self.direct[(bank % BANKS) * ENTRIES..]
            .as_ptr()
            .expose_provenance()
    }

    /// Makes the page of `lin` directly accessible with the rights of `bank`.
    #[inline]
    pub fn fill(&mut self, bank: usize, lin: u64, mut entry: Direct) {
        let slot = Self::slot(bank, lin);
        for tag in [&mut entry.read, &mut entry.write] {
            if *tag == NO_TAG {
                *tag = no_tag(slot);
            }
        }
        if entry.frame & frame::GLOBAL == 0 {
            if self.filled.len() < ENTRIES * BANKS {
                self.filled.push(slot as u16);
            } else {
                self.filled_over = true;
            }
        }
        self.direct[slot] = entry;
    }

    /// Takes the direct right to write away from every linear page that maps physical page `phys`.
    pub fn protect(&mut self, phys: u64) {
        for (slot, entry) in self.direct.iter_mut().enumerate() {
            if entry.frame & PAGE_MASK == phys {
                entry.write = no_tag(slot);
            }
        }
    }

    /// Takes the direct right to write away from every page.
    pub fn protect_all(&mut self) {
        for (slot, entry) in self.direct.iter_mut().enumerate() {
            entry.write = no_tag(slot);
        }
    }

    fn drop_direct_locals(&mut self) {
        if self.filled_over {
            for (slot, entry) in self.direct.iter_mut().enumerate() {
                if entry.frame & frame::GLOBAL == 0 {
                    *entry = empty(slot);
                }
            }
        } else {
            for &slot in &self.filled {
                let entry = &mut self.direct[usize::from(slot)];
                if entry.frame & frame::GLOBAL == 0 {
                    *entry = empty(slot.into());
                }
            }
        }
        self.filled.clear();
        self.filled_over = false;
    }

    // ---- the second level ----------------------------------------------------------------------

    #[inline(always)]
    fn set(page: u64) -> usize {
        let number = page >> 12;
        ((number ^ number >> 10) as usize) & (SETS - 1)
    }

    /// What is known of the page of `lin` in the present address space.
    #[inline]
    pub fn lookup(&self, lin: u64) -> Option<Leaf> {
        let page = lin & PAGE_MASK;
        self.known[Self::set(page)]
            .iter()
            .find(|known| {
                known.page == page
                    && (known.context == self.context || known.context == self.global_context)
            })
            .map(|known| Leaf(known.leaf))
    }

    /// Remembers that the page of `lin`, a piece of one of `size` bytes, leads to `leaf`.
    pub fn insert(&mut self, lin: u64, leaf: Leaf, size: u64) {
        let page = lin & PAGE_MASK;
        if size > 4096 {
            self.note_large(page, size);
        }
        let context = if leaf.has(Leaf::GLOBAL) {
            self.global_context
        } else {
            self.context
        };
        let set = Self::set(page);
        let ways = &mut self.known[set];
        let live = |known: &Known| {
            known.context == self.context
                || known.context == self.global_context
                || known.context >= self.first_context
        };
        let way = ways
            .iter()
            .position(|known| known.page == page && live(known) && known.context == context)
            .or_else(|| {
                ways.iter()
                    .position(|known| known.page == NO_TAG || !live(known))
            })
            .unwrap_or_else(|| {
                let victim = &mut self.victims[set];
                *victim = (*victim + 1) % WAYS as u8;
                usize::from(*victim)
            });
        let old = ways[way];
        if old.leaf & Leaf::FETCHED != 0 && old.page != NO_TAG {
            self.lost[usize::from(old.leaf & Leaf::GLOBAL != 0)].add(old.page);
        }
        ways[way] = Known {
            page,
            context,
            leaf: leaf.0,
        };
    }

    /// Notes that instructions are fetched by the translation of `lin`.
    pub fn note_fetch(&mut self, lin: u64) {
        let page = lin & PAGE_MASK;
        for known in &mut self.known[Self::set(page)] {
            if known.page == page
                && (known.context == self.context || known.context == self.global_context)
            {
                known.leaf |= Leaf::FETCHED;
            }
        }
    }

    fn note_large(&mut self, page: u64, size: u64) {
        if self.large.len() >= MAX_LARGE {
            self.flush_all();
        }
        if size > 4 << 20 {
            self.large.insert(page >> 30 | GIGANTIC);
        } else {
            // A page of 4 MiB is two regions.
            let base = page & !(size - 1);
            for at in (base..base + size).step_by(2 << 20) {
                self.large.insert(at >> 21);
            }
        }
    }

    fn new_context(&mut self) -> u64 {
        self.last_context += 1;
        self.last_context
    }

    fn context_of(&mut self, pcid: u16) -> u64 {
        let pcid = usize::from(pcid) % PCIDS;
        if self.contexts[pcid] < self.first_context {
            self.contexts[pcid] = self.new_context();
        }
        self.contexts[pcid]
    }

    fn leads_elsewhere(&mut self, globals: bool) {
        self.lost[0] = PageSet::EMPTY;
        self.generations[0] += 1;
        if globals {
            self.lost[1] = PageSet::EMPTY;
            self.generations[1] += 1;
        }
    }

    /// Numbers that change when linear addresses may lead elsewhere: by translations that are not global, and by global
    /// ones. Whoever remembers by linear address compares them.
    #[inline]
    pub fn generations(&self) -> [u64; 2] {
        self.generations
    }

    // ---- events --------------------------------------------------------------------------------

    /// Drops all translations, of all address spaces, global ones too.
    pub fn flush_all(&mut self) {
        self.direct = all_empty();
        self.filled.clear();
        self.filled_over = false;
        self.large.clear();
        self.global_context = self.new_context();
        self.first_context = self.new_context();
        let pcid = self.pcid;
        self.context = self.context_of(pcid);
        self.leads_elsewhere(true);
    }

    /// Drops the translations of the present address space but for the global ones.
    pub fn flush_locals(&mut self) {
        self.flush_pcid(self.pcid);
    }

    /// Drops the translations of one address space but for the global ones.
    pub fn flush_pcid(&mut self, pcid: u16) {
        let context = self.new_context();
        self.contexts[usize::from(pcid) % PCIDS] = context;
        if pcid == self.pcid {
            self.context = context;
            self.drop_direct_locals();
            self.leads_elsewhere(false);
        }
    }

    /// Drops the translations of all address spaces but for the global ones.
    pub fn flush_all_locals(&mut self) {
        self.first_context = self.new_context();
        let pcid = self.pcid;
        self.context = self.context_of(pcid);
        self.drop_direct_locals();
        self.leads_elsewhere(false);
    }

    /// Changes to the address space `pcid`, whose translations are as they were when it was left.
    pub fn switch_to(&mut self, pcid: u16) {
        if pcid == self.pcid {
            return;
        }
        self.pcid = pcid;
        self.context = self.context_of(pcid);
        self.drop_direct_locals();
        self.leads_elsewhere(false);
    }

    /// Drops what is known of the page of `lin` in the present address space, and by global translations: INVLPG.
    pub fn flush_page(&mut self, lin: u64) {
        self.flush_page_of(self.context, lin, true);
    }

    /// Drops what is known of the page of `lin` in address space `pcid`; global translations stay.
    pub fn flush_page_of_pcid(&mut self, pcid: u16, lin: u64) {
        let context = self.context_of(pcid);
        self.flush_page_of(context, lin, false);
    }

    fn flush_page_of(&mut self, context: u64, lin: u64, globals: bool) {
        let page = lin & PAGE_MASK;
        if self.large.contains(&(page >> 21)) {
            self.flush_region(context, page & !0x1F_FFFF, 2 << 20, globals);
        }
        if self.large.contains(&(page >> 30 | GIGANTIC)) {
            self.flush_region(context, page & !0x3FFF_FFFF, 1 << 30, globals);
        }
        if context == self.context {
            for bank in 0..BANKS {
                let slot = Self::slot(bank, page);
                let entry = &mut self.direct[slot];
                if globals || entry.frame & frame::GLOBAL == 0 {
                    *entry = empty(slot);
                }
            }
        }
        let global_context = self.global_context;
        let mut fetched_global = globals && self.lost[1].may_have(page);
        let mut fetched = fetched_global || self.lost[0].may_have(page);
        for known in &mut self.known[Self::set(page)] {
            let global = globals && known.context == global_context;
            if known.page == page && (known.context == context || global) {
                let by_it = known.leaf & Leaf::FETCHED != 0;
                fetched |= by_it;
                fetched_global |= by_it && global;
                *known = UNKNOWN;
            }
        }
        if fetched {
            self.leads_elsewhere(fetched_global);
        }
    }

    /// Drops the pieces of large pages in a region. A page of 4 MiB reaches into the region beside it.
    fn flush_region(&mut self, context: u64, base: u64, size: u64, globals: bool) {
        let (base, size) = if size == 2 << 20 {
            (base & !0x3F_FFFF, 4 << 20)
        } else {
            (base, size)
        };
        let global_context = self.global_context;
        for known in self.known.iter_mut().flatten() {
            if known.leaf & Leaf::LARGE != 0
                && known.page.wrapping_sub(base) < size
                && (known.context == context || globals && known.context == global_context)
            {
                *known = UNKNOWN;
            }
        }
        if context == self.context {
            for (slot, entry) in self.direct.iter_mut().enumerate() {
                let page = if entry.read & !PAGE_MASK == 0 {
                    entry.read
                } else if entry.addend & DEVICE != 0 {
                    entry.addend & PAGE_MASK
                } else {
                    continue;
                };
                if page.wrapping_sub(base) < size && (globals || entry.frame & frame::GLOBAL == 0) {
                    *entry = empty(slot);
                }
            }
        }
        self.leads_elsewhere(globals);
    }
}

impl Direct {
    #[inline(always)]
    pub(crate) fn read_pointer(&self, lin: u64, size: u64) -> Option<*const u8> {
        // An access that crosses into the next page ends in a page that this entry is not for.
        (lin.wrapping_add(size - 1) & PAGE_MASK == self.read)
            .then(|| lin.wrapping_add(self.addend) as *const u8)
    }

    #[inline(always)]
    pub(crate) fn write_pointer(&self, lin: u64, size: u64) -> Option<*mut u8> {
        (lin.wrapping_add(size - 1) & PAGE_MASK == self.write)
            .then(|| lin.wrapping_add(self.addend) as *mut u8)
    }

    /// The physical address of `size` bytes at `lin`, where no memory is and so a device may be, if the entry says so.
    #[inline(always)]
    pub(crate) fn device_address(&self, lin: u64, size: u64, write: bool) -> Option<u64> {
        let here = self.addend == lin & PAGE_MASK | DEVICE
            && (lin & !PAGE_MASK) + size <= 4096
            && (!write || self.frame & frame::WRITABLE != 0);
        here.then_some(self.frame & PAGE_MASK | lin & !PAGE_MASK)
    }
}
