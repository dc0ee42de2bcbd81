//! All blocks of a machine.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use platform::{GuestMemory, PhysAddr, granules};

use super::arena::{Arena, InsnArena, Insns};
use super::page::CodePage;
use super::{Block, NO_LINK, granule_numbers};
use crate::cpu::Monitor;
use crate::insn::{ExecFn, Insn};
use crate::recompiler::{HOT, Recompiler};
use crate::{chain, decode};

/// Blocks take at most this much of the host's memory, in bytes; then the oldest quarter goes.
const MAX_BYTES: usize = 96 << 20;
/// Decoded for each of its bytes in each mode, 64 bytes of code have about so many blocks; more is abuse.
const MAX_BLOCKS_IN_GRANULE: usize = 256;
/// A processor that was away for longer than so many new code pages starts with an empty TLB.
const MAX_PROTECTED: usize = 64;

/// A multiplicative hash: the keys are addresses, and nobody hostile chooses them to slow us down more
/// than by running slow code.
#[derive(Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
}

pub(crate) type AddressMap<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// Owns every block, live and dropped, by the raw pointers that the rest of this module uses. A dropped
/// block is reused and not freed, so that a stale pointer in a jump table can be followed to its changed serial.
#[derive(Default)]
struct Pool {
    arena: Arena<Block>,
    blocks: Vec<*mut Block>,
}

impl Pool {
    fn add(&mut self, block: Block) -> *mut Block {
        let pointer = self.arena.take(1);
        // SAFETY: the arena has room for a block there.
        unsafe { pointer.write(block) };
        self.blocks.push(pointer);
        pointer
    }

    /// Frees every block: nothing may point at one any more.
    fn clear(&mut self) {
        for pointer in self.blocks.drain(..) {
            // SAFETY: `add` wrote it, and only this loop, which forgets it, drops it.
            unsafe { pointer.drop_in_place() };
        }
        self.arena.clear();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The instruction at which the running block was cut, with its handlers.
struct Cut {
    block: *mut Block,
    index: usize,
    fast: ExecFn,
    exec: ExecFn,
}

/// All blocks of a machine, and the lines that its processors monitor.
pub struct CodeCache {
    map: AddressMap<(u64, u32), *mut Block>,
    pages: AddressMap<u64, CodePage>,
    pool: Pool,
    free: Vec<*mut Block>,
    graveyard: Vec<*mut Block>,
    insns: InsnArena,
    /// Where the next block's instructions are put together.
    scratch: Vec<Insn>,
    /// Blocks by age, with their serials: a dropped one has another.
    ages: VecDeque<(*mut Block, u64)>,
    serial: u64,
    bytes: usize,
    max_bytes: usize,
    cut: Option<Cut>,
    pub(crate) recompiler: Option<Box<dyn Recompiler>>,
    /// A block is offered to it when it has been entered so often.
    pub(crate) hot: u32,
    /// Code is compiled however often it is rewritten.
    pub(crate) patient: bool,
    /// How often code that was compiled has been rewritten, by its address.
    pub(crate) rewritten: AddressMap<u64, u8>,
    /// The recompiler has no room left.
    pub(crate) host_full: bool,
    /// Counts how often all host code was dropped.
    pub(crate) host_epoch: u64,
    /// The monitored line of each processor that has one.
    monitors: Vec<(u8, u64)>,
    /// Processors whose line was written, a bit each.
    woken: u64,
    /// Pages that have become code pages: the last ones of `protected_count`.
    protected: VecDeque<u64>,
    protected_count: u64,
    /// Blocks decoded so far.
    pub decoded: u64,
    /// Blocks dropped because their bytes were written.
    pub dropped: u64,
    /// Blocks dropped for want of room.
    pub evicted: u64,
}

// SAFETY: the raw pointers point at the blocks of `pool`, which moves with the cache; whoever else holds such a pointer
// (a jump table) looks at it only while it has the cache.
unsafe impl Send for CodeCache {}

impl Default for CodeCache {
    fn default() -> Self {
        Self::new()
    }
}

impl CodeCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self {
            map: AddressMap::default(),
            pages: AddressMap::default(),
            pool: Pool::default(),
            free: Vec::new(),
            graveyard: Vec::new(),
            insns: InsnArena::default(),
            scratch: Vec::new(),
            ages: VecDeque::new(),
            serial: 0,
            bytes: 0,
            max_bytes: MAX_BYTES,
            cut: None,
            recompiler: None,
            hot: HOT,
            patient: false,
            rewritten: AddressMap::default(),
            host_full: false,
            host_epoch: 0,
            monitors: Vec::new(),
            woken: 0,
            protected: VecDeque::new(),
            protected_count: 0,
            decoded: 0,
            dropped: 0,
            evicted: 0,
        }
    }

    /// Limits what blocks take of the host's memory, in bytes.
    pub fn set_max_bytes(&mut self, bytes: usize) {
        self.max_bytes = bytes;
    }

    /// What the blocks take of the host's memory, about, in bytes; and what is kept for their instructions.
    pub fn bytes(&self) -> (usize, usize) {
        (self.bytes, self.insns.bytes())
    }

    /// Drops every block and every monitored line. Not while one runs, and the jump tables of all processors are to
    /// be cleared with it.
    pub fn clear(&mut self, memory: &mut GuestMemory) {
        for &page in self.pages.keys() {
            memory.set_code_mask(PhysAddr(page << 12), 0);
        }
        for &(_, line) in &self.monitors {
            memory.set_code_mask(PhysAddr(line), 0);
        }
        self.forget();
    }

    /// The same where guest memory has gone or starts anew.
    pub(crate) fn forget(&mut self) {
        self.map.clear();
        self.pages.clear();
        self.free.clear();
        self.graveyard.clear();
        self.ages.clear();
        self.cut = None;
        self.monitors.clear();
        self.woken = 0;
        self.drop_host_code();
        self.pool.clear();
        self.insns.clear();
        self.bytes = 0;
    }

    // ---- blocks --------------------------------------------------------------------------------

    /// The block at `phys` decoded for the mode `key`.
    #[inline]
    pub(super) fn get(&self, phys: u64, key: u32) -> Option<*mut Block> {
        self.map.get(&(phys, key)).copied()
    }

    /// An empty list for the instructions of the next block; [`insert`](Self::insert) takes it back.
    pub(super) fn take_scratch(&mut self) -> Vec<Insn> {
        std::mem::take(&mut self.scratch)
    }

    /// Adds a block of `insns`. The pages of its bytes are code pages from now on; the caller has
    /// taken away the right to write them directly ([`protect`](Self::protect)).
    pub(super) fn insert(
        &mut self,
        mut block: Block,
        mut insns: Vec<Insn>,
        memory: &mut GuestMemory,
    ) -> *mut Block {
        for (start, len) in block.spans() {
            self.make_room(start >> 12, start & 0xFFF, len, memory);
        }
        block.insns = self.insns.keep(&insns);
        insns.clear();
        self.scratch = insns;
        self.serial += 1;
        block.serial = self.serial;
        self.decoded += 1;
        self.bytes += block.footprint();
        self.watch_heat(&mut block);
        let (phys, key) = (block.phys, block.key);
        let pointer = match self.free.pop() {
            Some(slot) => {
                // SAFETY: a free block is in the pool, and nothing else refers to its content.
                unsafe { *slot = block };
                slot
            }
            None => self.pool.add(block),
        };
        self.map.insert((phys, key), pointer);
        self.ages.push_back((pointer, self.serial));
        // SAFETY: `pointer` was put into the pool just now.
        for (start, len) in unsafe { &*pointer }.spans() {
            let number = start >> 12;
            let page = self.pages.entry(number).or_insert_with(|| {
                self.bytes += size_of::<CodePage>();
                CodePage::default()
            });
            page.add(pointer, start & 0xFFF, len);
            let mask = memory.code_mask(PhysAddr(start)) | granules(start & 0xFFF, len.max(1));
            memory.set_code_mask(PhysAddr(start), mask);
        }
        pointer
    }

    /// Drops the blocks of a granule in which there are too many: what a write looks at is bounded.
    fn make_room(&mut self, page: u64, first: u64, len: u64, memory: &mut GuestMemory) {
        for granule in granule_numbers(first, len) {
            let crowded = self
                .pages
                .get(&page)
                .map(|page| page.blocks(granule))
                .filter(|blocks| blocks.len() >= MAX_BLOCKS_IN_GRANULE)
                .map(<[*mut Block]>::to_vec);
            for block in crowded.into_iter().flatten() {
                self.evicted += 1;
                self.drop_block(block, memory);
            }
        }
    }

    /// Whether blocks were dropped and wait to be freed, or there are too many.
    pub(super) fn wants_tidying(&self) -> bool {
        !self.graveyard.is_empty()
            || self.bytes > self.max_bytes
            || self.insns.bytes() > 2 * self.max_bytes
    }

    /// Frees dropped blocks, and drops the oldest quarter where there are too many. Not while a block runs.
    pub(super) fn tidy(&mut self, memory: &mut GuestMemory) {
        self.bury();
        if self.host_full {
            self.drop_host_code();
        }
        // Room that was given back is of use for as many instructions only; a guest could want ever other numbers.
        let scattered = self.insns.bytes() > 2 * self.max_bytes;
        if self.bytes > self.max_bytes || scattered {
            let enough = if scattered { 0 } else { self.max_bytes / 4 * 3 };
            while self.bytes > enough
                && let Some((block, serial)) = self.ages.pop_front()
            {
                // SAFETY: blocks of the pool are not freed.
                if unsafe { (*block).serial } == serial {
                    self.evicted += 1;
                    self.drop_block(block, memory);
                    self.bury();
                }
            }
            if scattered {
                self.insns.clear();
            }
            log::debug!(target: "code", "{} blocks in all given up for want of room", self.evicted);
        }
        self.bury();
        // Of what is dropped soon after it was made, the ages would pile up.
        if self.ages.len() > 2 * self.map.len() + 1024 {
            // SAFETY: as above.
            self.ages
                .retain(|&(block, serial)| unsafe { (*block).serial } == serial);
        }
    }

    /// Drops all host code; the blocks stay. Not while a block runs.
    fn drop_host_code(&mut self) {
        self.host_full = false;
        self.host_epoch += 1;
        if let Some(recompiler) = &mut self.recompiler {
            recompiler.drop_all();
            for &block in &self.pool.blocks {
                // SAFETY: blocks of the pool are not freed, and none runs.
                let block = unsafe { &mut *block };
                if block.serial != 0 {
                    block.cool_down();
                }
            }
        }
    }

    fn bury(&mut self) {
        for &block in &self.graveyard {
            // SAFETY: a dropped block of the pool, which does not run.
            let block = unsafe { &mut *block };
            self.bytes -= block.footprint();
            self.insns
                .give_back(std::mem::replace(&mut block.insns, Insns::NONE));
            block.incoming = Vec::new();
        }
        self.free.append(&mut self.graveyard);
    }

    /// `from` is followed by `to`, `distance` bytes from its first one, in the same page.
    pub(crate) fn link(&mut self, from: *mut Block, distance: u64, to: *mut Block) {
        // SAFETY: both are live blocks of the pool; a block may link to itself, so no two references exist at once.
        unsafe {
            Self::unlink(from, 1);
            // The latest comes first.
            let older = (&(*from).links)[0];
            if !older.block.is_null() {
                let incoming = &mut (*older.block).incoming;
                if let Some(entry) = incoming.iter_mut().find(|entry| **entry == (from, 0)) {
                    entry.1 = 1;
                }
            }
            (*from).links = [Block::link_to(to, distance), older];
            (*to).incoming.push((from, 0));
        }
    }

    /// Forgets link `number` of `block`.
    ///
    /// # Safety
    /// `block` is live, and so is what it links to.
    unsafe fn unlink(block: *mut Block, number: u8) {
        // SAFETY: by the caller.
        unsafe {
            let link = std::mem::replace(&mut (&mut (*block).links)[usize::from(number)], NO_LINK);
            if !link.block.is_null() {
                let incoming = &mut (*link.block).incoming;
                if let Some(at) = incoming.iter().position(|&other| other == (block, number)) {
                    incoming.swap_remove(at);
                }
            }
        }
    }

    // ---- writes --------------------------------------------------------------------------------

    /// `len` bytes at `phys`, in one page and in granules with code, were written by anybody: drops the blocks
    /// that they overlap, and notes the processors that monitor them. `running` is the block that runs, with
    /// the number of the instruction that wrote.
    ///
    /// Returns whether a block was dropped.
    pub(crate) fn written(
        &mut self,
        phys: u64,
        len: u64,
        running: Option<(*mut Block, u16)>,
        memory: &mut GuestMemory,
    ) -> bool {
        self.wake(phys, len);
        let number = phys >> 12;
        let Some(page) = self.pages.get(&number) else {
            self.refresh_mask(number, memory);
            return false;
        };
        let within = phys & 0xFFF;
        if !page.is_code(within, len) {
            return false;
        }
        let mut hit: Vec<*mut Block> = Vec::new();
        for granule in granule_numbers(within, len) {
            for &block in page.blocks(granule) {
                // SAFETY: a page lists only live blocks of the pool.
                if unsafe { &*block }.overlaps(phys, len) && !hit.contains(&block) {
                    hit.push(block);
                }
            }
        }
        for &block in &hit {
            if let Some((current, number)) = running
                && current == block
            {
                self.stop(block, number);
            }
            // SAFETY: as above.
            let (compiled, at) = unsafe { ((*block).heat.is_compiled(), (*block).phys) };
            if compiled {
                self.note_rewritten(at);
            }
            self.drop_block(block, memory);
            self.dropped += 1;
        }
        !hit.is_empty()
    }

    /// The addresses in `range` lead elsewhere than before: drops all that was decoded there. No
    /// block runs. Returns whether one was dropped.
    pub(crate) fn remapped(&mut self, range: &Range<u64>, memory: &mut GuestMemory) -> bool {
        let pages = range.start >> 12..range.end.div_ceil(4096);
        let mut hit: Vec<u64> = self.pages.keys().copied().collect();
        hit.retain(|number| pages.contains(number));
        // What is dropped in which order makes no difference to a run; the order of a hash map must
        // not show all the same.
        hit.sort_unstable();
        let dropped = self.dropped;
        for number in hit {
            self.written(number << 12, 4096, None, memory);
        }
        self.dropped != dropped
    }

    /// Whether one of `len` bytes at `phys`, in one page, is code or in a monitored line.
    pub(crate) fn is_watched(&self, phys: u64, len: u64) -> bool {
        let monitored =
            |&(_, line): &(u8, u64)| phys < line + Monitor::LINE_BYTES && line < phys + len;
        let is_code = |page: &CodePage| page.is_code(phys & 0xFFF, len);
        self.pages.get(&(phys >> 12)).is_some_and(is_code) || self.monitors.iter().any(monitored)
    }

    /// Drops a block. One that runs is to be cut, and is freed when it has ended.
    fn drop_block(&mut self, pointer: *mut Block, memory: &mut GuestMemory) {
        if self.cut.as_ref().is_some_and(|cut| cut.block == pointer) {
            self.cut = None;
        }
        // SAFETY: `pointer` is a live block of the pool, and so are those that it links to and that link to it.
        unsafe {
            Self::unlink(pointer, 0);
            Self::unlink(pointer, 1);
            for (from, number) in std::mem::take(&mut (*pointer).incoming) {
                (&mut (*from).links)[usize::from(number)] = NO_LINK;
            }
            (*pointer).serial = 0;
            if let (Some(entry), Some(recompiler)) =
                ((*pointer).heat.take_code(), &mut self.recompiler)
            {
                recompiler.drop_block(entry);
            }
            self.map.remove(&((*pointer).phys, (*pointer).key));
            for (start, len) in (*pointer).spans() {
                let number = start >> 12;
                let Some(page) = self.pages.get_mut(&number) else {
                    continue;
                };
                page.remove(number << 12, pointer, start & 0xFFF, len);
                if page.mask() == 0 {
                    self.pages.remove(&number);
                    self.bytes -= size_of::<CodePage>();
                }
                self.refresh_mask(number, memory);
            }
        }
        self.graveyard.push(pointer);
    }

    /// Writes into guest memory in which granules of page `number` code or a monitored line is.
    fn refresh_mask(&self, number: u64, memory: &mut GuestMemory) {
        let mut mask = self.pages.get(&number).map_or(0, CodePage::mask);
        for &(_, line) in &self.monitors {
            if line >> 12 == number {
                mask |= granules(line & 0xFFF, Monitor::LINE_BYTES);
            }
        }
        memory.set_code_mask(PhysAddr(number << 12), mask);
    }

    // ---- cutting -------------------------------------------------------------------------------

    /// Ends `block`, which runs and is about to be dropped, behind its instruction `number` or a later one that runs.
    fn stop(&mut self, block: *mut Block, number: u16) {
        // SAFETY: the block that runs is live. The instruction that runs may be among those that change, so they
        // change through a raw pointer.
        unsafe {
            let insns = (*block).insns.as_mut_ptr();
            for index in usize::from(number) + 1..(*block).count as usize {
                (*insns.add(index)).fast = chain::retry;
                (*insns.add(index)).exec = decode::retry;
            }
        }
    }

    /// Ends `block`, which runs, behind its instruction `number`, and keeps it.
    pub(crate) fn cut(&mut self, block: *mut Block, number: u16) {
        if self.cut.is_some() {
            return;
        }
        let index = usize::from(number) + 1;
        // SAFETY: the block that runs is live. The instruction that runs is not touched: only the one behind it is,
        // through a raw pointer.
        unsafe {
            // What stands behind the last instruction only sets the instruction pointer.
            if index >= (*block).count as usize {
                return;
            }
            let next = (*block).insns.as_mut_ptr().add(index);
            self.cut = Some(Cut {
                block,
                index,
                fast: (*next).fast,
                exec: (*next).exec,
            });
            (*next).fast = chain::retry;
            (*next).exec = decode::retry;
        }
    }

    /// The block has ended: mends what [`cut`](Self::cut) did.
    #[inline(always)]
    pub(crate) fn mend(&mut self) {
        if self.cut.is_some() {
            self.mend_cut();
        }
    }

    #[cold]
    fn mend_cut(&mut self) {
        if let Some(cut) = self.cut.take() {
            // SAFETY: a block that ran a moment ago is not freed yet, and nothing looks at its instructions now.
            unsafe {
                let insn = (*cut.block).insns.as_mut_ptr().add(cut.index);
                (*insn).fast = cut.fast;
                (*insn).exec = cut.exec;
            }
        }
    }

    // ---- code pages and TLBs -------------------------------------------------------------------

    /// The page of `phys` is about to hold code or a monitored line. Returns whether that is new, so that the
    /// processor that runs takes the right to write it directly away; the others hear of it by
    /// [`protected_since`](Self::protected_since).
    pub(crate) fn protect(&mut self, phys: u64, memory: &GuestMemory) -> bool {
        let ram = memory.is_ram(PhysAddr(phys));
        if !ram || memory.code_mask(PhysAddr(phys)) != 0 {
            return false;
        }
        self.protected.push_back(phys & !0xFFF);
        self.protected_count += 1;
        if self.protected.len() > MAX_PROTECTED {
            self.protected.pop_front();
        }
        true
    }

    /// How many pages have become code pages so far.
    #[inline]
    pub(crate) fn protected_count(&self) -> u64 {
        self.protected_count
    }

    /// The pages that have become code pages since there were `count`; `None` when they are too many to remember.
    pub(crate) fn protected_since(&self, count: u64) -> Option<impl Iterator<Item = u64>> {
        let new = (self.protected_count - count) as usize;
        let known = self.protected.len().checked_sub(new)?;
        Some(self.protected.range(known..).copied())
    }

    // ---- monitored lines -----------------------------------------------------------------------

    /// Processor `number` monitors the line at `line`, in RAM, from now on; `None`: nothing. The page is protected.
    pub(crate) fn monitor(&mut self, number: u8, line: Option<u64>, memory: &mut GuestMemory) {
        if let Some(at) = self.monitors.iter().position(|&(who, _)| who == number) {
            let (_, old) = self.monitors.swap_remove(at);
            self.refresh_mask(old >> 12, memory);
        }
        if let Some(line) = line {
            self.monitors.push((number, line));
            self.refresh_mask(line >> 12, memory);
        }
    }

    /// Notes the processors that monitor one of `len` bytes at `phys`.
    pub(crate) fn wake(&mut self, phys: u64, len: u64) {
        for &(number, line) in &self.monitors {
            if phys < line + Monitor::LINE_BYTES && line < phys + len {
                self.woken |= 1 << (number & 63);
            }
        }
    }

    /// Whether a line that processor `number` monitors was written since it was last asked.
    #[inline]
    pub(crate) fn take_woken(&mut self, number: u8) -> bool {
        let bit = 1 << (number & 63);
        let woken = self.woken & bit != 0;
        self.woken &= !bit;
        woken
    }

    /// Whether a processor whose line was written has not been told yet.
    #[inline]
    pub fn wakes_anybody(&self) -> bool {
        self.woken != 0
    }

    /// Whether processor `number` monitors a line.
    #[inline]
    pub(crate) fn monitors(&self, number: u8) -> bool {
        self.monitors.iter().any(|&(who, _)| who == number)
    }
}
