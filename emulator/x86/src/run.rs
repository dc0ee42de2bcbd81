//! The run loop: blocks, and what comes between them.

use crate::code::{Block, Link};
use crate::cpu::{Reg, SegmentRegister};
use crate::death::Note;
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
    /// The processor waits for another one, which should have its turn: it spins, or has sent a message.
    Yield,
    /// Triple fault: the processor has shut down.
    Shutdown,
    /// A device asks the machine for something: see `Bus::request`.
    Request,
}

/// DR6 bits (SDM vol. 3B §17.2.3).
pub(crate) mod dr6 {
    pub const B0_TO_B3: u64 = 0xF;
    pub const BD: u64 = 1 << 13;
    pub const BS: u64 = 1 << 14;
    pub const BT: u64 = 1 << 15;
}

impl Vcpu {
    /// Runs until `until` instructions have been retired in all, or something else ends the slice.
    ///
    /// Afterwards the bus's clock stands at the count of retired instructions, to the instruction.
    pub fn run(&mut self, until: u64) -> Exit {
        self.run_until(until, u64::MAX)
    }

    /// The same, but virtual time `until_ns` ends the slice too.
    pub fn run_until(&mut self, until: u64, until_ns: u64) -> Exit {
        self.slice_end = until;
        self.until_ns = until_ns;
        self.attention |= attention::DEVICE | attention::INTERRUPT;
        let exit = self.run_blocks();
        self.current = std::ptr::null_mut();
        let retired = self.retired;
        let bus = self.bus();
        bus.clock.set_retired(retired.max(bus.clock.retired()));
        exit
    }

    fn run_blocks(&mut self) -> Exit {
        loop {
            self.current = std::ptr::null_mut();
            if self.attention != 0
                && let Some(exit) = self.look_around()
            {
                return exit;
            }
            if self.retired >= self.slice_end {
                return Exit::Budget;
            }
            let block = match self.find_block() {
                Ok(block) => block,
                Err(exception) => {
                    self.raise(exception);
                    continue;
                }
            };
            // SAFETY: `block` is live: it was found just now, and blocks are freed only in `look_around`.
            let count = unsafe { (*block).count };
            let left = self.slice_end - self.retired;
            if self.attention & attention::STEP != 0 {
                self.step(block);
            } else if !self.fits_code_segment(block) {
                if self.first_fits_code_segment(block) {
                    self.run_block(block, 1);
                } else {
                    self.raise(Exception::gp(0));
                }
            } else if u64::from(count) > left {
                self.run_block(block, left as u32);
            } else {
                self.run_whole_blocks(block);
            }
        }
    }

    /// Runs `block` and those that follow it, each as a whole, until one raises an exception or asks
    /// for attention, or the next one may not run as a whole.
    fn run_whole_blocks(&mut self, block: *mut Block) {
        // The mode changes only with a call for attention.
        let flat = self.mode_key & 6 != 0;
        // SAFETY: the block is live while it runs, and its instructions stay where they are: dropping it only
        // replaces handlers behind the running instruction, and freeing waits for `look_around`.
        let mut next = unsafe { Block::link_to(block, 0) };
        loop {
            let (block, start) = (next.block, self.cpu.regs[Reg::RIP]);
            self.current = block;
            // SAFETY: as above.
            let first = unsafe { &*next.first };
            if let Err(exception) = (first.fast)(self, first)
                && !self.resume(block, exception)
            {
                return;
            }
            self.retired += u64::from(next.count);
            if self.extra_retired != 0 {
                self.retired += std::mem::take(&mut self.extra_retired);
            }
            if self.attention != 0 {
                return;
            }
            // SAFETY: as above.
            let ended = unsafe { &*block };
            let distance = self.cpu.regs[Reg::RIP].wrapping_sub(start);
            next = match ended.linked(distance) {
                Some(&link) => link,
                None => match self.find_successor(block, distance) {
                    Some(link) => link,
                    None => return,
                },
            };
            if u64::from(next.count) > self.slice_end.saturating_sub(self.retired)
                || !flat && !self.fits_code_segment(next.block)
            {
                return;
            }
        }
    }

    /// Finds the block at the instruction pointer, which `block` does not link to yet. `None` when it
    /// cannot be fetched: the caller tries again and raises the exception.
    #[inline(always)]
    fn find_successor(&mut self, block: *mut Block, distance: u64) -> Option<Link> {
        let next = self.find_block().ok()?;
        // SAFETY: both are live: finding a block frees none.
        unsafe {
            if (*block).linkable {
                self.note_successor(block, distance, next);
            }
            Some(Block::link_to(next, 0))
        }
    }

    #[cold]
    fn note_successor(&mut self, block: *mut Block, distance: u64, next: *mut Block) {
        // SAFETY: both are live.
        let (live, phys) = unsafe {
            let live = (*block).serial != 0 && (*next).serial != 0 && !(*next).crosses;
            (live, (*block).phys)
        };
        // Within the block's page no change of the page tables can send the jump elsewhere; a block that crosses into
        // another one has to be looked at. A block that is dropped already must not be found again.
        if live && (phys & 0xFFF).wrapping_add(distance) < 4096 {
            self.code.link(block, distance, next);
        }
    }

    /// A chain of handlers stopped in `block`: with an exception, or because one left its instruction to
    /// the full handler. Returns whether the block ran to its end.
    #[cold]
    fn resume(&mut self, block: *mut Block, mut exception: Exception) -> bool {
        if exception == Exception::Left {
            return false;
        }
        // SAFETY: the block is live, and `stopped` is one of its instructions.
        let last = unsafe { (*block).insns.as_ptr().add((*block).insns.len() - 1) };
        loop {
            let insn = self.stopped;
            if exception != Exception::Declined {
                self.leave_block(insn, exception);
                return false;
            }
            // SAFETY: as above.
            let current = unsafe { &*insn };
            if let Err(exception) = self.execute(current) {
                self.leave_block(insn, exception);
                return false;
            }
            if insn == last {
                return true;
            }
            // SAFETY: there is an instruction behind one that is not the last.
            let next = unsafe { &*insn.add(1) };
            match (next.fast)(self, next) {
                Ok(()) => return true,
                Err(stopped) => exception = stopped,
            }
        }
    }

    /// Runs the first `limit` instructions of a block. Returns whether it ran to its end without an
    /// exception.
    fn run_block(&mut self, block: *mut Block, limit: u32) -> bool {
        self.current = block;
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
            if let Err(exception) = self.execute(current) {
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
        // A cut behind the last instruction that was to run cuts nothing.
        self.code.mend();
        self.current = std::ptr::null_mut();
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
    pub(crate) fn leave_block(&mut self, insn: *const Insn, exception: Exception) {
        self.code.mend();
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
            self.current = std::ptr::null_mut();
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
        let bytes = unsafe { (*(*block).insns.as_ptr()).end };
        let ip = self.cpu.regs[Reg::RIP];
        ip + u64::from(bytes) - 1 <= u64::from(self.cpu.segs[SegmentRegister::CS].limit)
    }

    /// Delivers an exception, with double and triple faults (SDM vol. 3A §6.15). Not while a block runs.
    pub(crate) fn raise(&mut self, exception: Exception) {
        self.raise_after(exception, Vec::new());
    }

    /// As [`raise`](Self::raise); `chain` is what could not be delivered before it.
    fn raise_after(&mut self, exception: Exception, mut chain: Vec<Note>) {
        let mut exception = exception;
        self.log_exception(exception);
        if !exception.is_trap() {
            // A fault takes an instruction's time. Else a handler that faults at its own first
            // instruction, on a stack that wraps around, would never use up the slice.
            self.retired += 1;
        }
        loop {
            let event = Event::Exception(exception);
            let note = self.note(event);
            let Err(second) = self.enter_handler(event) else {
                self.note_delivery(note);
                return;
            };
            chain.push(note);
            if exception.vector() == 8 {
                log::warn!(target: "x86", "triple fault at {:x}", self.cpu.regs[Reg::RIP]);
                chain.push(self.note(Event::Exception(second)));
                self.note_shutdown(&chain);
                self.cpu.shutdown = true;
                self.attention |= attention::STOP;
                return;
            }
            let contributory = |vector: u8| matches!(vector, 0 | 10..=13);
            let (first, then) = (exception.vector(), second.vector());
            exception = if contributory(first) && contributory(then)
                || first == 14 && (contributory(then) || then == 14)
            {
                chain.push(self.note(Event::Exception(second)));
                Exception::DoubleFault
            } else {
                second
            };
            self.log_exception(exception);
        }
    }

    /// What a guest's developer asks first: which exception, where, and of a page fault about what address.
    fn log_exception(&self, exception: Exception) {
        if !log::log_enabled!(target: "exception", log::Level::Debug) {
            return;
        }
        let (cs, rip) = (
            self.cpu.segs[SegmentRegister::CS].selector,
            self.cpu.regs[Reg::RIP],
        );
        let error = match exception.error_code() {
            Some(error) => format!(" error {error:04x}"),
            None => String::new(),
        };
        let address = match exception.vector() {
            14 => format!(" CR2 {:016x}", self.cpu.cr2),
            _ => String::new(),
        };
        let name = crate::death::name(exception.vector());
        log::debug!(target: "exception", "{name}{error}{address} at {cs:04x}:{rip:016x}");
    }

    /// Looks at everything that may have happened beside the instructions.
    fn look_around(&mut self) -> Option<Exit> {
        if self.attention & attention::GRAVEYARD != 0 {
            self.attention &= !attention::GRAVEYARD;
            self.tidy_blocks();
        }
        if self.cpu.shutdown {
            return Some(Exit::Shutdown);
        }
        if self.attention & attention::DEVICE != 0 {
            self.attention &= !attention::DEVICE;
            if self.sample_a20() {
                self.flush_tlb();
            }
            self.catch_up_with_map();
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
        } else if self.cpu.pending_debug & dr6::BS != 0 && self.cpu.shadow & 2 == 0 {
            // SYSRET loaded TF.
            self.cpu.pending_debug = 0;
            self.cpu.dr[6] |= dr6::BS;
            self.raise(Exception::debug(true));
        }
        if self.attention & attention::INTERRUPT != 0 {
            self.look_at_pins();
            if self.cpu.shadow == 0 && !self.cpu.wait_for_startup {
                self.take_interrupt();
            }
        }
        if self.cpu.monitor.masked_interrupts && self.interrupt_waits() {
            self.wake();
        }
        if self.cpu.halted || self.cpu.wait_for_startup {
            return Some(Exit::Halted);
        }
        self.attention &= !attention::STOP;
        if self.attention & attention::YIELD != 0 {
            self.attention &= !attention::YIELD;
            return Some(Exit::Yield);
        }
        None
    }

    /// Takes an SMI, or delivers an NMI or a maskable interrupt, if one is there and may be (SDM vol. 3A §6.8).
    fn take_interrupt(&mut self) {
        if self.smi_waits() {
            let retired = self.retired;
            let bus = self.bus();
            bus.clock.set_retired(retired.max(bus.clock.retired()));
            self.enter_smm();
            return;
        }
        if self.cpu.nmi_pending && !self.cpu.nmi_blocked {
            self.cpu.nmi_pending = false;
            self.cpu.nmi_blocked = true;
            self.wake();
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
        self.wake();
        // A timer whose request was waiting may make another one now.
        self.look_at_timers();
        self.deliver(Event::External(vector));
    }

    /// Delivers an event, turning a fault on the way into its own delivery.
    pub(crate) fn deliver(&mut self, event: Event) {
        if let Err(exception) = self.enter_handler(event) {
            let chain = vec![self.note(event)];
            self.raise_after(exception, chain);
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
        // Of loads of SS in a row the second holds nothing off: SDM vol. 3A §6.8.3 warrants it of the first only
        // (AMD's Zen holds off after each).
        self.cpu.shadow &= !(shadow & 2);
        self.attention |= attention::INTERRUPT;
        if !completed {
            // An instruction that is tried again steps when it has completed.
            self.cpu.pending_debug &= !dr6::BS;
        }
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
        // An instruction breakpoint is met before the first iteration of a string instruction only.
        if self.cpu.dr[7] & 0xFF == 0 || self.cpu.rflags & bits::RF != 0 || self.within_repeat() {
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
