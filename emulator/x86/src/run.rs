//! The run loop: blocks, and what comes between them.

use crate::block::Block;
use crate::cpu::{Reg, SegmentRegister};
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::Insn;
use crate::ops::interrupt::Event;
use crate::vcpu::{Vcpu, attention};

/// Why a run slice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The instruction budget is used up, or a timer is due.
    Budget,
    /// HLT waits for an interrupt.
    Halted,
    /// Triple fault: the processor has shut down.
    Shutdown,
    /// A device asks the machine for something: see `Bus::request`.
    Request,
}

/// DR6 bits (SDM vol. 3B §17.2.3).
pub(crate) mod dr6 {
    pub const BD: u64 = 1 << 13;
    pub const BS: u64 = 1 << 14;
    pub const BT: u64 = 1 << 15;
}

impl Vcpu {
    /// Runs until `until` instructions have been retired in all, or something else ends the slice.
    ///
    /// Afterwards the bus's clock stands at the count of retired instructions, to the instruction.
    pub fn run(&mut self, until: u64) -> Exit {
        self.slice_end = until;
        self.attention |= attention::DEVICE | attention::INTERRUPT;
        let exit = self.run_blocks();
        self.blocks.current = std::ptr::null_mut();
        let retired = self.retired;
        let bus = self.bus();
        bus.clock.set_retired(retired.max(bus.clock.retired()));
        exit
    }

    fn run_blocks(&mut self) -> Exit {
        let mut previous: *mut Block = std::ptr::null_mut();
        loop {
            if self.attention != 0 {
                previous = std::ptr::null_mut();
                if let Some(exit) = self.look_around() {
                    return exit;
                }
            }
            if self.retired >= self.slice_end {
                return Exit::Budget;
            }
            let block = match self.next_block(previous) {
                Ok(block) => block,
                Err(exception) => {
                    self.raise(exception);
                    previous = std::ptr::null_mut();
                    continue;
                }
            };
            // SAFETY: `block` is live: it was found just now, and blocks are freed only in `look_around`.
            let count = unsafe { (*block).count };
            let left = self.slice_end - self.retired;
            if self.attention & attention::STEP != 0 {
                self.step(block);
                previous = std::ptr::null_mut();
            } else if !self.fits_code_segment(block) {
                if self.first_fits_code_segment(block) {
                    self.run_block(block, 1);
                } else {
                    self.raise(Exception::gp(0));
                }
                previous = std::ptr::null_mut();
            } else if u64::from(count) > left {
                self.run_block(block, left as u32);
                previous = std::ptr::null_mut();
            } else {
                let ok = self.run_block(block, count);
                previous = if ok { block } else { std::ptr::null_mut() };
            }
        }
    }

    /// The block at the instruction pointer, by the previous block's links where it has them.
    #[inline(always)]
    fn next_block(&mut self, previous: *mut Block) -> Result<*mut Block, Exception> {
        if previous.is_null() {
            return self.find_block();
        }
        let ip = self.cpu.regs[Reg::RIP];
        // SAFETY: `previous` ran just now and `look_around` has not freed anything since.
        let previous = unsafe { &mut *previous };
        for link in &previous.links {
            // SAFETY: a link points into the pool, whose blocks are reused but not freed.
            if link.ip == ip && unsafe { (*link.block).serial } == link.serial {
                return Ok(link.block);
            }
        }
        let start = self.block_start_of_link(previous, ip);
        let block = self.find_block()?;
        if let Some(within_page) = start
            && within_page
        {
            // SAFETY: as above.
            let serial = unsafe { (*block).serial };
            // A block that is dropped already must not be found again.
            if serial != 0 {
                previous.links.swap(0, 1);
                previous.links[0] = crate::block::Link { ip, block, serial };
            }
        }
        Ok(block)
    }

    /// Whether a jump from `previous` to `ip` may be remembered: it stays within the block's page, so
    /// that no change of the page tables can send it elsewhere.
    fn block_start_of_link(&self, previous: &Block, ip: u64) -> Option<bool> {
        previous
            .linkable
            .then(|| (self.link_page ^ self.linear_of(ip)) & !0xFFF == 0)
    }

    fn linear_of(&self, ip: u64) -> u64 {
        if self.mode_key & 3 == 2 {
            ip
        } else {
            ip.wrapping_add(self.cpu.seg_base[SegmentRegister::CS]) & 0xFFFF_FFFF
        }
    }

    /// Runs the first `limit` instructions of a block. Returns whether it ran to its end without an
    /// exception.
    #[inline(always)]
    fn run_block(&mut self, block: *mut Block, limit: u32) -> bool {
        self.blocks.current = block;
        self.link_page = self.fetch_linear();
        // SAFETY: the block is live while it runs: dropping it only replaces handlers behind the
        // running instruction, and freeing waits for `look_around`.
        let (mut insn, end, whole) = unsafe {
            let insns: *const Insn = (*block).insns.as_ptr();
            let whole = limit == (*block).count;
            let len = if whole {
                (*block).insns.len()
            } else {
                limit as usize
            };
            (insns, insns.add(len), whole)
        };
        loop {
            // SAFETY: `insn` is before `end`, inside the block's instructions.
            let current = unsafe { &*insn };
            if let Err(exception) = (current.exec)(self, current) {
                self.leave_block(insn, exception);
                return false;
            }
            // SAFETY: at most `end`.
            insn = unsafe { insn.add(1) };
            if insn == end {
                break;
            }
        }
        self.retired += u64::from(limit) + self.extra_retired;
        self.extra_retired = 0;
        if !whole {
            // SAFETY: `limit` is at least 1.
            let last = unsafe { &*insn.sub(1) };
            let ip = self.next_ip(last);
            self.set_ip(ip);
        }
        true
    }

    /// An instruction raised an exception: puts the instruction pointer on it and delivers.
    #[cold]
    fn leave_block(&mut self, insn: *const Insn, exception: Exception) {
        // SAFETY: `insn` is the instruction that ran.
        let insn = unsafe { &*insn };
        self.retired += u64::from(insn.number) + self.extra_retired;
        self.extra_retired = 0;
        if exception.is_trap() {
            self.retired += 1;
        }
        let ip = if exception.is_trap() {
            self.next_ip(insn)
        } else {
            self.insn_ip(insn)
        };
        self.set_ip(ip);
        if exception != Exception::Retry {
            self.raise(exception);
        }
    }

    /// Whether the whole block lies within the code segment's limit; where it does not, it runs one
    /// instruction at a time until the one that does not fit raises #GP.
    #[inline(always)]
    fn fits_code_segment(&mut self, block: *mut Block) -> bool {
        if self.mode_key & 6 != 0 {
            // 64-bit mode, or flat segments.
            return true;
        }
        // SAFETY: the block is live.
        let bytes = unsafe { (*block).bytes };
        let ip = self.cpu.regs[Reg::RIP];
        ip + u64::from(bytes) - 1 <= u64::from(self.cpu.segs[SegmentRegister::CS].limit)
    }

    /// Whether the block's first instruction lies within the code segment's limit (SDM vol. 3A §5.3).
    #[cold]
    fn first_fits_code_segment(&self, block: *mut Block) -> bool {
        if self.mode_key & 6 != 0 {
            return true;
        }
        // SAFETY: the block is live, and no block is empty.
        let bytes = unsafe { (&(*block).insns)[0].end };
        let ip = self.cpu.regs[Reg::RIP];
        ip + u64::from(bytes) - 1 <= u64::from(self.cpu.segs[SegmentRegister::CS].limit)
    }

    /// Delivers an exception, with double and triple faults (SDM vol. 3A §6.15). Not while a block runs.
    pub(crate) fn raise(&mut self, exception: Exception) {
        let mut exception = exception;
        log::trace!(target: "x86", "{exception:?} at {:x}", self.cpu.regs[Reg::RIP]);
        if !exception.is_trap() {
            // A fault takes an instruction's time. Else a handler that faults at its own first
            // instruction, on a stack that wraps around, would never use up the slice.
            self.retired += 1;
        }
        loop {
            let event = Event::Exception(exception);
            let Err(second) = self.enter_handler(event) else {
                return;
            };
            if exception.vector() == 8 {
                log::warn!(target: "x86", "triple fault at {:x}", self.cpu.regs[Reg::RIP]);
                self.shutdown = true;
                self.attention |= attention::STOP;
                return;
            }
            let contributory = |vector: u8| matches!(vector, 0 | 10..=13);
            let (first, then) = (exception.vector(), second.vector());
            exception = if contributory(first) && contributory(then)
                || first == 14 && (contributory(then) || then == 14)
            {
                Exception::DoubleFault
            } else {
                second
            };
        }
    }

    /// Looks at everything that may have happened beside the instructions.
    fn look_around(&mut self) -> Option<Exit> {
        if self.attention & attention::GRAVEYARD != 0 {
            self.attention &= !attention::GRAVEYARD;
            self.tidy_blocks();
        }
        if self.shutdown {
            return Some(Exit::Shutdown);
        }
        if self.attention & attention::DEVICE != 0 {
            self.attention &= !attention::DEVICE;
            if self.sample_a20() {
                self.flush_tlb(true);
            }
            if self.bus().memory.has_code_writes() {
                self.drain_code_writes();
            }
            if self.bus().request.is_some() {
                self.attention |= attention::DEVICE;
                return Some(Exit::Request);
            }
            // A timer may have been armed within this slice.
            self.look_at_timers();
        }
        if self.cpu.pending_debug & dr6::BT != 0 {
            // The task that was switched to has its T bit set: #DB before its first instruction.
            self.cpu.pending_debug = 0;
            self.cpu.dr[6] |= dr6::BT;
            self.raise(Exception::debug(true));
        }
        if self.attention & attention::INTERRUPT != 0 {
            self.look_at_pins();
            if self.cpu.shadow == 0 && !self.cpu.wait_for_startup {
                self.take_interrupt();
            }
        }
        if self.cpu.halted || self.cpu.wait_for_startup {
            return Some(Exit::Halted);
        }
        self.attention &= !attention::STOP;
        None
    }

    /// Delivers an NMI or a maskable interrupt, if one is there and may be (SDM vol. 3A §6.8).
    fn take_interrupt(&mut self) {
        if self.cpu.nmi_pending && !self.cpu.nmi_blocked {
            self.cpu.nmi_pending = false;
            self.cpu.nmi_blocked = true;
            self.cpu.halted = false;
            self.deliver(Event::Nmi);
            return;
        }
        if !self.interrupt_waits() {
            self.attention &= !attention::INTERRUPT;
            return;
        }
        if self.cpu.rflags & bits::IF == 0 {
            // Whoever sets IF asks for attention again.
            self.attention &= !attention::INTERRUPT;
            return;
        }
        let retired = self.retired;
        let bus = self.bus();
        bus.clock.set_retired(retired.max(bus.clock.retired()));
        let vector = self.acknowledge_interrupt();
        self.cpu.halted = false;
        // A timer whose request was waiting may make another one now.
        self.look_at_timers();
        self.deliver(Event::External(vector));
    }

    /// Delivers an event, turning a fault on the way into its own delivery.
    pub(crate) fn deliver(&mut self, event: Event) {
        if let Err(exception) = self.enter_handler(event) {
            self.raise(exception);
        }
    }

    /// Runs one instruction with all that TF, shadows and debug registers ask for.
    fn step(&mut self, block: *mut Block) {
        if self.cpu.shadow & 2 == 0 && self.instruction_breakpoint() {
            self.raise(Exception::debug(false));
            return;
        }
        if !self.first_fits_code_segment(block) {
            self.raise(Exception::gp(0));
            return;
        }
        let shadow = std::mem::take(&mut self.cpu.shadow);
        // RF covers one instruction; IRET may set it anew for the next.
        self.cpu.rflags &= !bits::RF;
        if shadow & 2 == 0 {
            self.cpu.pending_debug = 0;
        }
        if self.cpu.rflags & bits::TF != 0 {
            // Entering a handler, by INT n or a fault, takes it back.
            self.cpu.pending_debug |= dr6::BS;
        }
        let completed = self.run_block(block, 1);
        self.attention |= attention::INTERRUPT;
        // After MOV SS the traps wait for the instruction that follows.
        if completed && self.cpu.shadow & 2 == 0 && self.cpu.pending_debug & dr6::BT == 0 {
            let met = std::mem::take(&mut self.cpu.pending_debug);
            let enabled = |n: u64| met >> n & 1 != 0 && self.cpu.dr[7] >> (2 * n) & 3 != 0;
            if met & !0xF != 0 || (0..4).any(enabled) {
                self.cpu.dr[6] = (self.cpu.dr[6] & !0xF) | met;
                self.raise(Exception::debug(true));
            }
        }
        if self.cpu.rflags & (bits::TF | bits::RF) == 0
            && self.cpu.shadow == 0
            && self.cpu.dr[7] & 0xFF == 0
        {
            self.attention &= !attention::STEP;
        }
    }

    /// Whether an armed instruction breakpoint stands at the instruction pointer. Sets DR6.
    fn instruction_breakpoint(&mut self) -> bool {
        if self.cpu.dr[7] & 0xFF == 0 || self.cpu.rflags & bits::RF != 0 {
            return false;
        }
        let lin = self.fetch_linear();
        let mut met = 0;
        let mut enabled = false;
        for n in 0..4 {
            if self.cpu.dr[7] >> (16 + 4 * n) & 3 == 0 && self.cpu.dr[n] == lin {
                met |= 1 << n;
                enabled |= self.cpu.dr[7] >> (2 * n) & 3 != 0;
            }
        }
        if enabled {
            self.cpu.dr[6] = (self.cpu.dr[6] & !0xF) | met;
        }
        enabled
    }
}
