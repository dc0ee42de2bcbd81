//! Blocks of decoded instructions, found by physical address.
//!
//! A block is keyed by the physical address of its first byte and the part of the mode that decoding
//! depends on. It ends at a branch, at a page's end, at an instruction that can change the mode, or
//! at [`MAX_INSNS`]. An instruction that crosses a page makes a block of its own, which remembers
//! both pages.
//!
//! A page that holds decoded code is marked in guest memory, which takes the TLB's right to write it
//! directly; each write to it then comes to [`Vcpu::code_written`], which looks at the blocks of the
//! 64 bytes around and drops only those that the write touches. So data and a stack may share a page
//! with code, and a page full of code that rewrites itself costs no more than a little of it.
//!
//! A block that is dropped while it runs stays in memory until it has ended; its instructions behind
//! the one that wrote are replaced by one that re-fetches.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::RangeInclusive;

use iced_x86::Instruction;
use platform::PhysAddr;

use crate::chain;
use crate::cpu::Monitor;
use crate::decode::{self, Decoded, MAX_LEN};
use crate::exception::Exception;
use crate::insn::Insn;
use crate::table::Ends;
use crate::vcpu::{Vcpu, attention};

/// The most instructions in a block.
pub const MAX_INSNS: usize = 48;

const JUMP_ENTRIES: usize = 4096;
const GRANULE: u64 = 64;
const GRANULES: usize = 4096 / GRANULE as usize;
/// A code page without blocks is given back after so many writes that met no code.
const COLD_WRITES: u32 = 64;
/// Blocks beyond this number are all dropped at once.
const MAX_BLOCKS: usize = 1 << 16;

/// A decoded block.
pub(crate) struct Block {
    /// The instructions, and behind them a `fall_through` where the last one does not set the
    /// instruction pointer.
    pub insns: Vec<Insn>,
    /// Instructions without the `fall_through`.
    pub count: u32,
    /// Code bytes.
    pub bytes: u16,
    /// Whether the block that follows may be remembered in `links`.
    pub linkable: bool,
    /// Changes when the block is dropped.
    pub serial: u32,
    /// Successors within the same page.
    pub links: [Link; 2],
    pub phys: u64,
    /// The second page, for an instruction that crosses.
    second_page: Option<u64>,
    key: u32,
}

/// A remembered successor.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// How far the successor lies from the block's first byte. The block's place in its page decides
    /// with it whether the successor lies in the same page, whatever linear address that page has.
    pub distance: u64,
    pub block: *mut Block,
    pub serial: u32,
}

const NO_LINK: Link = Link {
    // No two canonical addresses are so far apart.
    distance: 1 << 63,
    block: std::ptr::null_mut(),
    serial: 0,
};

/// Half a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct JumpEntry {
    lin: u64,
    /// The TLB's generation above the mode: see `Vcpu::fetch_tag`.
    tag: u64,
    block: *mut Block,
    serial: u32,
}

const NO_JUMP: JumpEntry = JumpEntry {
    lin: !0,
    tag: 0,
    block: std::ptr::null_mut(),
    serial: 0,
};

/// The blocks of a page, by the granules that their bytes touch.
struct CodePage {
    granules: [Vec<*mut Block>; GRANULES],
    cold_writes: u32,
}

impl Default for CodePage {
    fn default() -> Self {
        Self {
            granules: [const { Vec::new() }; GRANULES],
            cold_writes: 0,
        }
    }
}

impl CodePage {
    fn is_empty(&self) -> bool {
        self.granules.iter().all(Vec::is_empty)
    }

    /// Forgets `block`, which is in `granules`.
    fn remove(&mut self, block: *mut Block, granules: RangeInclusive<usize>) {
        for granule in &mut self.granules[granules] {
            if let Some(at) = granule.iter().position(|&other| other == block) {
                granule.swap_remove(at);
            }
        }
    }
}

/// The granules that `len` bytes at offset `first` of a page touch.
fn granules(first: u64, len: u64) -> RangeInclusive<usize> {
    let last = first + len.max(1) - 1;
    (first / GRANULE) as usize..=(last / GRANULE) as usize
}

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

type AddressMap<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// Owns every block, live and dropped, by the raw pointers that the rest of this module uses. A dropped
/// block is reused and not freed, so that a stale pointer in a link or jump entry can be followed to its
/// changed serial.
#[derive(Default)]
struct Pool(Vec<*mut Block>);

impl Pool {
    fn add(&mut self, block: Block) -> *mut Block {
        let pointer = Box::into_raw(Box::new(block));
        self.0.push(pointer);
        pointer
    }

    /// Frees every block: nothing may point at one any more.
    fn clear(&mut self) {
        for pointer in self.0.drain(..) {
            // SAFETY: `add` made it from a box, and only this loop, which forgets it, frees it.
            drop(unsafe { Box::from_raw(pointer) });
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.clear();
    }
}

/// All blocks of a processor.
pub struct BlockCache {
    map: AddressMap<(u64, u32), *mut Block>,
    pages: AddressMap<u64, CodePage>,
    jumps: Box<[JumpEntry; JUMP_ENTRIES]>,
    pool: Pool,
    free: Vec<*mut Block>,
    graveyard: Vec<*mut Block>,
    serial: u32,
    /// The block that runs.
    pub(crate) current: *mut Block,
    /// The instruction at which a chain of handlers stopped.
    pub(crate) stopped: *const Insn,
    /// Blocks decoded so far.
    pub decoded: u64,
    /// Blocks dropped because their bytes were written.
    pub dropped: u64,
}

// SAFETY: the raw pointers point at the blocks of `pool`, which moves with the cache and shares them with nobody.
unsafe impl Send for BlockCache {}

impl BlockCache {
    pub(crate) fn new() -> Self {
        Self {
            map: AddressMap::default(),
            pages: AddressMap::default(),
            jumps: Box::new([NO_JUMP; JUMP_ENTRIES]),
            pool: Pool::default(),
            free: Vec::new(),
            graveyard: Vec::new(),
            serial: 1,
            current: std::ptr::null_mut(),
            stopped: std::ptr::null(),
            decoded: 0,
            dropped: 0,
        }
    }

    /// Drops every block. Not while one runs.
    pub(crate) fn clear(&mut self) {
        self.map.clear();
        self.pages.clear();
        self.jumps.fill(NO_JUMP);
        self.free.clear();
        self.graveyard.clear();
        self.pool.clear();
        self.current = std::ptr::null_mut();
    }

    #[inline(always)]
    fn jump_slot(lin: u64) -> usize {
        ((lin ^ lin >> 12) as usize) & (JUMP_ENTRIES - 1)
    }

    #[inline(always)]
    fn jump(&self, lin: u64, tag: u64) -> Option<*mut Block> {
        let entry = &self.jumps[Self::jump_slot(lin)];
        if entry.lin == lin && entry.tag == tag {
            // SAFETY: blocks of the pool are never freed while a jump entry points at them.
            let serial = unsafe { (*entry.block).serial };
            return (serial == entry.serial).then_some(entry.block);
        }
        None
    }

    /// Frees what was dropped while a block ran.
    pub(crate) fn bury(&mut self) {
        self.current = std::ptr::null_mut();
        self.free.append(&mut self.graveyard);
    }

    fn insert(&mut self, mut block: Block) -> *mut Block {
        self.serial = self.serial.wrapping_add(1).max(1);
        block.serial = self.serial;
        self.decoded += 1;
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
        // SAFETY: `pointer` was put into the pool just now.
        for (number, granules) in unsafe { &*pointer }.places() {
            let page = self.pages.entry(number).or_default();
            page.cold_writes = 0;
            for granule in &mut page.granules[granules] {
                granule.push(pointer);
            }
        }
        pointer
    }

    /// Drops the blocks that `len` bytes at `phys`, within one page, overlap. Returns whether the
    /// page should be given back as a plain one.
    fn written(&mut self, phys: u64, len: u64, running: Option<u16>) -> Written {
        let number = phys >> 12;
        let Some(page) = self.pages.get_mut(&number) else {
            return Written {
                give_back: true,
                buried: false,
            };
        };
        let within = phys & 0xFFF;
        let near = granules(within, len);
        if page.granules[near.clone()].iter().all(Vec::is_empty) {
            page.cold_writes += 1;
            let give_back = page.cold_writes > COLD_WRITES && page.is_empty();
            if give_back {
                self.pages.remove(&number);
            }
            return Written {
                give_back,
                buried: false,
            };
        }
        let mut buried = false;
        for granule in near {
            let mut at = 0;
            while let Some(&block) = self
                .pages
                .get(&number)
                .and_then(|page| page.granules[granule].get(at))
            {
                // SAFETY: a page lists only blocks of the pool.
                if unsafe { &*block }.overlaps(phys, len) {
                    // Which takes it off this list.
                    self.drop_block(block, running);
                    self.dropped += 1;
                    buried = true;
                } else {
                    at += 1;
                }
            }
        }
        Written {
            give_back: false,
            buried,
        }
    }

    fn drop_block(&mut self, pointer: *mut Block, running: Option<u16>) {
        // SAFETY: `pointer` is a block of the pool. The instruction that runs is not touched: only
        // those behind it are, through a raw pointer.
        unsafe {
            (*pointer).serial = 0;
            self.map.remove(&((*pointer).phys, (*pointer).key));
            for (page, granules) in (*pointer).places() {
                if let Some(record) = self.pages.get_mut(&page) {
                    record.remove(pointer, granules);
                }
            }
            if pointer == self.current
                && let Some(number) = running
            {
                let insns = (*pointer).insns.as_mut_ptr();
                for i in usize::from(number) + 1..(*pointer).insns.len() {
                    (*insns.add(i)).exec = decode::retry;
                    (*insns.add(i)).fast = chain::retry;
                }
            }
        }
        self.graveyard.push(pointer);
    }
}

struct Written {
    give_back: bool,
    buried: bool,
}

impl Block {
    /// The remembered successor at `distance` from the block's first byte.
    #[inline(always)]
    pub(crate) fn linked(&self, distance: u64) -> Option<*mut Block> {
        self.links
            .iter()
            // SAFETY: a link points into the pool, whose blocks are reused but not freed while one runs;
            // one that points nowhere has a distance that does not occur.
            .find(|link| {
                link.distance == distance && unsafe { (*link.block).serial } == link.serial
            })
            .map(|link| link.block)
    }

    fn overlaps(&self, phys: u64, len: u64) -> bool {
        let first_len = u64::from(self.bytes).min(4096 - (self.phys & 0xFFF));
        let meets = |start: u64, size: u64| phys < start + size && start < phys + len;
        meets(self.phys, first_len)
            || self
                .second_page
                .is_some_and(|second| meets(second, u64::from(self.bytes) - first_len))
    }

    /// Where its bytes are: page numbers with granules. Both may name the same page.
    fn places(&self) -> impl Iterator<Item = (u64, RangeInclusive<usize>)> + use<> {
        let bytes = u64::from(self.bytes);
        let first_len = bytes.min(4096 - (self.phys & 0xFFF));
        let first = (self.phys >> 12, granules(self.phys & 0xFFF, first_len));
        let second = self
            .second_page
            .map(|page| (page >> 12, granules(0, bytes - first_len)));
        std::iter::once(first).chain(second)
    }
}

impl Vcpu {
    /// The block at the instruction pointer, decoding it if need be.
    ///
    /// # Errors
    /// #PF of the fetch, or #GP(0) when the code segment's limit or the canonical form forbids it.
    #[inline(always)]
    pub(crate) fn find_block(&mut self) -> Result<*mut Block, Exception> {
        let lin = self.fetch_linear();
        if let Some(block) = self.blocks.jump(lin, self.fetch_tag()) {
            return Ok(block);
        }
        self.find_block_slow(lin)
    }

    /// What a remembered block must agree in, beside the linear address.
    #[inline(always)]
    fn fetch_tag(&self) -> u64 {
        u64::from(self.tlb.generation) << 32 | u64::from(self.fetch_key)
    }

    /// The linear address of the next instruction.
    #[inline(always)]
    pub(crate) fn fetch_linear(&self) -> u64 {
        let ip = self.cpu.regs[crate::cpu::Reg::RIP];
        if self.mode_key & 3 == 2 {
            ip
        } else {
            ip.wrapping_add(self.cpu.seg_base[crate::cpu::SegmentRegister::CS]) & 0xFFFF_FFFF
        }
    }

    #[cold]
    fn find_block_slow(&mut self, lin: u64) -> Result<*mut Block, Exception> {
        self.check_fetch_limit(0)?;
        let phys = self.translate_fetch(lin)?;
        let mut block = self.blocks.map.get(&(phys, self.mode_key)).copied();
        if let Some(found) = block {
            // SAFETY: the map holds only live blocks of the pool.
            if let Some(second) = unsafe { (*found).second_page } {
                let next = (lin & !0xFFF).wrapping_add(4096) & self.linear_mask();
                if self.translate_fetch(next)? != second {
                    let len = 1;
                    self.code_written(phys, len, None);
                    block = None;
                }
            }
        }
        let block = match block {
            Some(block) => block,
            None => self.decode_block(lin, phys)?,
        };
        // SAFETY: as above.
        let serial = unsafe { (*block).serial };
        // A block of a device's memory is dropped already, and must not be found again.
        if serial != 0 {
            self.blocks.jumps[BlockCache::jump_slot(lin)] = JumpEntry {
                lin,
                tag: self.fetch_tag(),
                block,
                serial,
            };
        }
        Ok(block)
    }

    /// The code segment's limit comes before the page tables.
    ///
    /// # Errors
    /// #GP(0) when the byte `distance` behind the instruction pointer lies beyond the limit.
    fn check_fetch_limit(&self, distance: u64) -> Result<(), Exception> {
        let last = self.cpu.regs[crate::cpu::Reg::RIP].wrapping_add(distance);
        let limit = self.cpu.segs[crate::cpu::SegmentRegister::CS].limit;
        if self.mode_key & 3 != 2 && last > limit.into() {
            return Err(Exception::gp(0));
        }
        Ok(())
    }

    fn decode_block(&mut self, lin: u64, phys: u64) -> Result<*mut Block, Exception> {
        if self.blocks.map.len() >= MAX_BLOCKS {
            // Emptied at the next look around, when no block runs and none is remembered.
            self.attention |= attention::GRAVEYARD;
        }
        let mut bytes = [0u8; 4096 + MAX_LEN];
        let room = (4096 - (phys & 0xFFF)) as usize;
        self.fetch_bytes(phys, &mut bytes[..room]);
        let mut block = Block {
            insns: Vec::with_capacity(8),
            count: 0,
            bytes: 0,
            linkable: true,
            serial: 0,
            links: [NO_LINK; 2],
            phys,
            second_page: None,
            key: self.mode_key,
        };
        let mut offset = 0usize;
        let mut ends = Ends::No;
        let mut previous = Instruction::default();
        while ends == Ends::No && block.insns.len() < MAX_INSNS && offset < room {
            let mut iced = Instruction::default();
            let decoded = decode::decode_into(
                &mut iced,
                &bytes[offset..room],
                offset as u16,
                self.mode_key,
                &self.model,
            );
            let (mut insn, how) = match decoded {
                Decoded::Insn(insn, how) => {
                    if how == Ends::Branch
                        && let Some(before) = block.insns.last_mut()
                        && let Some(pair) =
                            chain::choose_pair(&previous, before, &iced, self.mode_key)
                    {
                        before.fast = pair;
                    }
                    previous = iced;
                    (insn, how)
                }
                Decoded::Incomplete if offset > 0 => break,
                Decoded::Incomplete => {
                    // The instruction crosses into the next page.
                    self.check_fetch_limit(room as u64)?;
                    let next = (lin & !0xFFF).wrapping_add(4096) & self.linear_mask();
                    let second = self.translate_fetch(next)?;
                    self.fetch_bytes(second, &mut bytes[room..room + MAX_LEN]);
                    block.second_page = Some(second);
                    let decoded = decode::decode_into(
                        &mut iced,
                        &bytes[..room + MAX_LEN],
                        0,
                        self.mode_key,
                        &self.model,
                    );
                    match decoded {
                        Decoded::Insn(insn, how) => {
                            (insn, if how == Ends::No { Ends::After } else { how })
                        }
                        Decoded::Incomplete => unreachable!("{MAX_LEN} bytes hold any instruction"),
                    }
                }
            };
            insn.number = block.insns.len() as u16;
            offset = usize::from(insn.end);
            block.insns.push(insn);
            ends = how;
        }
        block.count = block.insns.len() as u32;
        block.bytes = offset as u16;
        if ends != Ends::Branch {
            block.insns.push(Insn {
                end: offset as u16,
                number: block.count as u16,
                ..decode::blank()
            });
        }
        // An indirect jump would only drive out what another one remembered.
        block.linkable = ends == Ends::No || ends == Ends::Branch && chain::is_direct(&previous);
        self.mark_code_page(phys);
        if let Some(second) = block.second_page {
            self.mark_code_page(second);
        }
        let from_device = self.bus().memory.page(PhysAddr(phys)) == platform::Page::None;
        let block = self.blocks.insert(block);
        if from_device {
            // Nobody tells us when a device's memory changes, so such code is decoded each time.
            self.code_written(phys, 1, None);
        }
        Ok(block)
    }

    /// Frees dropped blocks; drops all when there are too many. Not while a block runs.
    pub(crate) fn tidy_blocks(&mut self) {
        self.blocks.bury();
        if self.blocks.map.len() >= MAX_BLOCKS {
            self.drop_all_blocks();
        }
    }

    fn drop_all_blocks(&mut self) {
        let pages: Vec<u64> = {
            let mut pages: Vec<u64> = self.blocks.pages.keys().copied().collect();
            pages.sort_unstable();
            pages
        };
        for page in pages {
            self.release_page(page << 12);
        }
        self.blocks.clear();
    }

    /// Reads code bytes; what nothing backs reads as FFh, a device's memory as the device says.
    fn fetch_bytes(&mut self, phys: u64, buf: &mut [u8]) {
        let len = buf.len().min((4096 - (phys & 0xFFF)) as usize);
        if self.bus().memory.page(PhysAddr(phys)) == platform::Page::None {
            for (i, byte) in buf[..len.min(4 * MAX_LEN)].iter_mut().enumerate() {
                *byte = self.bus().mmio_read(PhysAddr(phys + i as u64), 1) as u8;
            }
            return;
        }
        self.bus().memory.read(PhysAddr(phys), &mut buf[..len]);
    }

    /// From now on `code_written` hears of every store to the page of `phys`, if it is RAM.
    pub(crate) fn mark_code_page(&mut self, phys: u64) {
        let memory = &mut self.bus().memory;
        if !memory.is_code_page(PhysAddr(phys)) {
            memory.set_code_page(PhysAddr(phys), true);
            // Only RAM is noted; what else holds code is never written directly.
            if memory.is_code_page(PhysAddr(phys)) {
                self.tlb.protect(phys & !0xFFF);
            }
        }
    }

    /// The page of `phys` holds no code any more.
    fn release_page(&mut self, phys: u64) {
        let monitored = self.cpu.monitor.line.map(|line| line >> 12);
        if monitored != Some(phys >> 12) {
            self.bus().memory.set_code_page(PhysAddr(phys), false);
        }
    }

    /// `len` bytes at `phys`, within one page that holds code or the monitored line, were written by
    /// instruction `running` of the current block, or by a bus master.
    pub(crate) fn code_written(&mut self, phys: u64, len: u64, running: Option<u16>) {
        let written = self.blocks.written(phys, len, running);
        if let Some(line) = self.cpu.monitor.line
            && phys < line + Monitor::LINE_BYTES
            && line < phys + len
        {
            let waited = self.cpu.monitor.waits;
            self.cpu.monitor = Monitor::default();
            self.cpu.halted &= !waited;
        }
        if written.give_back {
            self.release_page(phys);
        }
        if written.buried {
            self.attention |= attention::GRAVEYARD;
        }
    }

    /// Ends the running block behind its instruction `number`, by dropping it.
    pub(crate) fn cut_block(&mut self, number: u16) {
        let current = self.blocks.current;
        if !current.is_null() {
            // SAFETY: the block that runs is live.
            let (phys, bytes) = unsafe { ((*current).phys, (*current).bytes) };
            let len = u64::from(bytes).min(4096 - (phys & 0xFFF));
            self.code_written(phys, len, Some(number));
        }
    }

    /// Ends the running block behind its instruction `number`, which may have brought the end of the slice forward,
    /// if the rest would run past that.
    pub(crate) fn cut_block_at_slice_end(&mut self, number: u16) {
        let current = self.blocks.current;
        if !current.is_null() {
            // SAFETY: the block that runs is live.
            let count = unsafe { (*current).count };
            if u64::from(count) > self.slice_end.saturating_sub(self.retired) {
                self.cut_block(number);
            }
        }
    }

    /// Drops the blocks that bus masters wrote to.
    pub(crate) fn drain_code_writes(&mut self) {
        for (addr, len) in self.bus().memory.take_code_writes() {
            self.code_written(addr.0, len, None);
        }
    }

    /// For the fetch of a string of bytes at a linear address by a debugger: reads what it can.
    pub fn peek_linear(&mut self, lin: u64, buf: &mut [u8]) -> usize {
        for (i, byte) in buf.iter_mut().enumerate() {
            let Some(phys) = self.probe(lin.wrapping_add(i as u64)) else {
                return i;
            };
            self.bus().memory.read(phys, std::slice::from_mut(byte));
        }
        buf.len()
    }
}
