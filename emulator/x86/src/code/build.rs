//! Blocks from bytes: how a processor finds the next block, decodes it, and hears of writes to it.

use iced_x86::Instruction;
use platform::{Page, PhysAddr};

use super::{Block, MAX_INSNS};
use crate::chain;
use crate::cpu::{Monitor, Reg, SegmentRegister};
use crate::decode::{self, Decoded, MAX_LEN};
use crate::exception::Exception;
use crate::insn::Insn;
use crate::table::Ends;
use crate::vcpu::{Vcpu, attention};

/// The most bytes that a block's instructions can have.
const MAX_BYTES: usize = MAX_INSNS * MAX_LEN;

impl Vcpu {
    /// The block at the instruction pointer, decoding it if need be.
    ///
    /// # Errors
    /// #PF of the fetch, or #GP(0) when the code segment's limit or the canonical form forbids it.
    #[inline(always)]
    pub(crate) fn find_block(&mut self) -> Result<*mut Block, Exception> {
        let lin = self.fetch_linear();
        if let Some(block) = self.jumps.find(lin, self.fetch_tags) {
            return Ok(block);
        }
        self.find_block_slow(lin)
    }

    /// The linear address of the next instruction.
    #[inline(always)]
    pub(crate) fn fetch_linear(&self) -> u64 {
        let ip = self.cpu.regs[Reg::RIP];
        if self.mode_key & 3 == 2 {
            ip
        } else {
            ip.wrapping_add(self.cpu.seg_base[SegmentRegister::CS]) & 0xFFFF_FFFF
        }
    }

    #[cold]
    fn find_block_slow(&mut self, lin: u64) -> Result<*mut Block, Exception> {
        // The block before has ended: what the page walk writes does not stop it.
        self.current = std::ptr::null_mut();
        self.check_fetch_limit(0)?;
        let (phys, global) = self.translate_fetch(lin)?;
        // Most often the page tables have been looked at anew, and say what they said before.
        let stale = self.jumps.find_stale(lin).filter(|&block| {
            // SAFETY: a block whose serial is that of the jump table's entry is live.
            let block = unsafe { &*block };
            block.phys == phys && block.key == self.mode_key
        });
        let mut block = stale.or_else(|| self.code.get(phys, self.mode_key));
        if let Some(found) = block {
            // SAFETY: the cache holds only live blocks.
            if let (true, Some(second)) = unsafe { ((*found).crosses, (*found).second_page) } {
                let next = (lin & !0xFFF).wrapping_add(4096) & self.linear_mask();
                if self.translate_fetch(next)?.0 != second {
                    self.code_written(phys, 1, false, None);
                    block = None;
                }
            }
        }
        let block = match block {
            Some(block) => block,
            None => self.decode_block(lin, phys)?,
        };
        // SAFETY: as above.
        let (serial, crosses) = unsafe { ((*block).serial, (*block).crosses) };
        // A block of a device's memory is dropped already, and must not be found again.
        if serial != 0 {
            // Of a block in two pages either may be given up by itself.
            let tag = self.fetch_tags[usize::from(global && !crosses)];
            self.jumps.note(lin, tag, block, serial);
        }
        Ok(block)
    }

    /// The code segment's limit comes before the page tables.
    ///
    /// # Errors
    /// #GP(0) when the byte `distance` behind the instruction pointer lies beyond the limit.
    fn check_fetch_limit(&self, distance: u64) -> Result<(), Exception> {
        let last = self.cpu.regs[Reg::RIP].wrapping_add(distance);
        let limit = self.cpu.segs[SegmentRegister::CS].limit;
        if self.mode_key & 3 != 2 && last > limit.into() {
            return Err(Exception::gp(0));
        }
        Ok(())
    }

    fn decode_block(&mut self, lin: u64, phys: u64) -> Result<*mut Block, Exception> {
        let mut bytes = [0u8; MAX_BYTES + MAX_LEN];
        let room = ((4096 - (phys & 0xFFF)) as usize).min(MAX_BYTES);
        self.fetch_bytes(phys, &mut bytes[..room]);
        let mut block = Block::new(phys, self.mode_key);
        let mut insns = self.code.take_scratch();
        let mut offset = 0usize;
        let mut ends = Ends::No;
        let mut previous = Instruction::default();
        while ends == Ends::No && insns.len() < MAX_INSNS && offset < room {
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
                        && let Some(before) = insns.last_mut()
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
                    let second = self.translate_fetch(next)?.0;
                    self.fetch_bytes(second, &mut bytes[room..room + MAX_LEN]);
                    // That walk may have set a bit in the very bytes of the instruction.
                    self.fetch_bytes(phys, &mut bytes[..room]);
                    block.second_page = Some(second);
                    block.crosses = true;
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
            insn.number = insns.len() as u16;
            offset = usize::from(insn.end);
            insns.push(insn);
            ends = how;
        }
        block.count = insns.len() as u32;
        block.bytes = offset as u16;
        if ends != Ends::Branch {
            insns.push(Insn {
                end: offset as u16,
                number: block.count as u16,
                ..decode::blank()
            });
        }
        // An indirect jump would only drive out what another one remembered.
        block.linkable = ends == Ends::No || ends == Ends::Branch && chain::is_direct(&previous);
        let from_device = self.bus().memory.page_of_processor(PhysAddr(phys)) == Page::None;
        self.protect_page(phys);
        if let Some(second) = block.second_page {
            self.protect_page(second);
        }
        let (code, memory) = self.code_and_memory();
        let block = code.insert(block, insns, memory);
        if code.wants_tidying() {
            // At the next look around, when no block runs and none is remembered.
            self.attention |= attention::GRAVEYARD;
        }
        if from_device {
            // Nobody tells us when a device's memory changes, so such code is decoded each time.
            self.code_written(phys, 1, false, None);
        }
        Ok(block)
    }

    /// Frees dropped blocks, and some more when there are too many. Not while a block runs.
    pub(crate) fn tidy_blocks(&mut self) {
        let (code, memory) = self.code_and_memory();
        code.tidy(memory);
    }

    /// Reads code bytes; what nothing backs reads as FFh, a device's memory as the device says.
    fn fetch_bytes(&mut self, phys: u64, buf: &mut [u8]) {
        let len = buf.len().min((4096 - (phys & 0xFFF)) as usize);
        if self.bus().memory.page_of_processor(PhysAddr(phys)) == Page::None {
            for (i, byte) in buf[..len.min(4 * MAX_LEN)].iter_mut().enumerate() {
                *byte = self.bus().mmio_read(PhysAddr(phys + i as u64), 1) as u8;
            }
            return;
        }
        let memory = &self.bus().memory;
        memory.read_as_processor(PhysAddr(phys), &mut buf[..len]);
    }

    /// Copies the bytes of a block, which are there unchanged for as long as it is live.
    pub(crate) fn copy_code<'a>(
        &mut self,
        phys: u64,
        second_page: Option<u64>,
        buf: &'a mut [u8],
    ) -> &'a [u8] {
        let first = buf.len().min((4096 - (phys & 0xFFF)) as usize);
        self.fetch_bytes(phys, &mut buf[..first]);
        if let Some(second) = second_page {
            self.fetch_bytes(second, &mut buf[first..]);
        }
        buf
    }

    /// The page of `phys` is about to hold code or a monitored line: from now on each store to it is looked at.
    fn protect_page(&mut self, phys: u64) {
        let (code, memory) = self.code_and_memory();
        if code.protect(phys, memory) {
            self.protected_seen = code.protected_count();
            self.tlb.protect(phys & !0xFFF);
        }
    }

    /// Another processor ran: takes the right to write directly away from the pages that became code pages meanwhile.
    pub(crate) fn catch_up_with_protection(&mut self) {
        let count = self.code.protected_count();
        if count == self.protected_seen {
            return;
        }
        match self.code.protected_since(self.protected_seen) {
            Some(pages) => pages.for_each(|page| self.tlb.protect(page)),
            None => self.tlb.protect_all(),
        }
        self.protected_seen = count;
    }

    /// Monitors the line at physical address `line` (MONITOR), or nothing.
    pub(crate) fn set_monitor(&mut self, line: Option<u64>) {
        if let Some(line) = line {
            self.protect_page(line);
        }
        let number = self.number;
        let (code, memory) = self.code_and_memory();
        code.monitor(number, line, memory);
        self.cpu.monitor = Monitor {
            line,
            ..Monitor::default()
        };
    }

    /// Ends a wait of HLT or MWAIT, and disarms the monitor.
    pub(crate) fn wake(&mut self) {
        self.cpu.halted = false;
        if self.cpu.monitor.line.is_some() {
            self.set_monitor(None);
        }
        self.cpu.monitor = Monitor::default();
    }

    /// The monitored line was written: ends the wait of MWAIT, and disarms the monitor.
    fn monitor_hit(&mut self) {
        let waited = self.cpu.monitor.waits;
        self.set_monitor(None);
        self.cpu.halted &= !waited;
    }

    /// `len` bytes at `phys`, within one page and in granules with code or a monitored line, were written by
    /// instruction `running` of the current block, or by a bus master. `same`: with the values that were there, as by a
    /// trampoline that is set up for the same call again.
    pub(crate) fn code_written(&mut self, phys: u64, len: u64, same: bool, running: Option<u16>) {
        if same {
            self.code.wake(phys, len);
            self.heed_monitors();
            return;
        }
        let current = self.current;
        let running = running
            .filter(|_| !current.is_null())
            .map(|number| (current, number));
        let (code, memory) = self.code_and_memory();
        if code.written(phys, len, running, memory) {
            self.attention |= attention::GRAVEYARD;
        }
        self.heed_monitors();
    }

    /// Follows changes of the map of guest memory, and of which pages are clean. No block runs.
    pub(crate) fn catch_up_with_map(&mut self) {
        let memory = &mut self.bus().memory;
        let (map, clean) = (memory.map_revision(), memory.clean_revision());
        let remapped = memory.take_remapped();
        for range in &remapped {
            let (code, memory) = self.code_and_memory();
            if code.remapped(range, memory) {
                self.attention |= attention::GRAVEYARD;
            }
        }
        if std::mem::replace(&mut self.map_seen, map) != map {
            self.look_at_smram();
            self.flush_tlb();
        }
        if std::mem::replace(&mut self.clean_seen, clean) != clean {
            self.tlb.protect_all();
        }
    }

    /// Wakes this processor if its monitored line was written; the others hear of it when they are attached.
    #[inline]
    pub(crate) fn heed_monitors(&mut self) {
        if self.code.take_woken(self.number) && self.cpu.monitor.line.is_some() {
            self.monitor_hit();
        }
    }

    /// Ends the running block behind its instruction `number`.
    pub(crate) fn cut_block(&mut self, number: u16) {
        if !self.current.is_null() {
            self.code.cut(self.current, number);
        }
    }

    /// Ends the running block behind its instruction `number`, which may have brought the end of the slice forward,
    /// if the rest would run past that.
    pub(crate) fn cut_block_at_slice_end(&mut self, number: u16) {
        if !self.current.is_null() {
            // SAFETY: the block that runs is live.
            let count = unsafe { (*self.current).count };
            if u64::from(count) > self.slice_end.saturating_sub(self.retired) {
                self.cut_block(number);
            }
        }
    }

    /// Drops the blocks that bus masters wrote to, and wakes who monitors what they wrote.
    pub fn drain_code_writes(&mut self) {
        for (addr, len) in self.bus().memory.take_code_writes() {
            self.code_written(addr.0, len, false, None);
        }
    }
}
