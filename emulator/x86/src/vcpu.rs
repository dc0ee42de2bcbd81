//! One processor at work: its state, its TLB, its way to memory.

use platform::{Bus, GuestMemory, IrqLine};

use crate::code::{Block, CodeCache, JumpTable};
use crate::cpu::{Cpu, Mode, Reg, Segment, SegmentRegister, control};
use crate::cpuid::CpuModel;
use crate::death::Faults;
use crate::exception::Exception;
use crate::flags::{LazyFlags, bits};
use crate::insn::{Insn, flag};
use crate::mmu::{BANK_SLOW, BANK_SUPERVISOR, BANK_SUPERVISOR_AC, BANK_USER, Tlb};
use crate::recompiler::HostState;
use crate::smm::IoInstruction;
use crate::width::Width;

/// Why the run loop must look around before the next block: bits of `Vcpu::attention`.
pub mod attention {
    /// An interrupt may have become deliverable: a line, IF, or the end of a shadow.
    pub const INTERRUPT: u32 = 1 << 0;
    /// A device did something: requests, A20, DMA writes and timers must be looked at.
    pub const DEVICE: u32 = 1 << 1;
    /// One instruction at a time: TF, a shadow, or armed debug registers.
    pub const STEP: u32 = 1 << 2;
    /// Blocks were dropped and wait to be freed.
    pub const GRAVEYARD: u32 = 1 << 3;
    /// The processor halted or died, or the slice must end.
    pub const STOP: u32 = 1 << 4;
    /// Another processor should have its turn.
    pub const YIELD: u32 = 1 << 5;
}

/// One processor.
///
/// The bus is handed in for a slice ([`attach`](Self::attach)) and taken back afterwards, so that
/// several processors can share it without locks.
///
/// Fixed layout at its head, for a recompiler: see [`layout`](crate::recompiler::layout).
#[repr(C)]
pub struct Vcpu {
    /// The architectural state. First, so that handlers reach a general register without a displacement.
    pub cpu: Cpu,
    /// Host address of the TLB entries of `tlb_bank`.
    pub(crate) tlb_entries: usize,
    /// Retired instructions, and faults, at the start of the running block.
    pub(crate) retired: u64,
    /// The count at which the slice ends.
    pub(crate) slice_end: u64,
    /// Iterations of REP beyond the first, to be added at the block's end.
    pub(crate) extra_retired: u64,
    /// The block that runs.
    pub(crate) current: *mut Block,
    /// The instruction at which a chain of handlers stopped.
    pub(crate) stopped: *const Insn,
    /// The instruction whose full handler runs: those that have a slow path.
    pub(crate) executing: *const Insn,
    /// Why the run loop must look around before the next block.
    pub(crate) attention: u32,
    /// What of the mode decoding and meaning depend on; part of a block's key.
    pub(crate) mode_key: u32,
    /// Mask of the stack pointer: 16, 32 or 64 bits.
    pub(crate) sp_mask: u64,
    /// Mask of the instruction pointer.
    pub(crate) ip_mask: u64,
    /// What a remembered jump must agree in: see [`update_fetch_tags`](Self::update_fetch_tags).
    pub(crate) fetch_tags: [u64; 2],
    /// What CPUID says and which instructions exist.
    pub model: CpuModel,
    pub(crate) tlb: Box<Tlb>,
    pub(crate) tlb_bank: usize,
    /// `mode_key`, and whether instructions are fetched with user rights.
    pub(crate) fetch_key: u32,
    /// The count of retired instructions at which a repeated string instruction stopped between two
    /// iterations: whoever comes while the count is the same interrupts it in its midst.
    pub(crate) repeat_stop: u64,
    /// A20 as the TLB was filled with.
    pub(crate) a20_mask: u64,
    /// This processor's number in its machine.
    pub(crate) number: u8,
    pub(crate) jumps: JumpTable,
    /// The machine's code while this processor runs; an empty cache else.
    pub(crate) code: Box<CodeCache>,
    /// How many of the code pages the TLB knows of: see `CodeCache::protected_count`.
    pub(crate) protected_seen: u64,
    /// The revisions of the memory's map, and of its clean pages, that the TLB was filled by.
    pub(crate) map_seen: u64,
    /// The virtual time at which the slice ends at the latest.
    pub(crate) until_ns: u64,
    /// The virtual time of what is due next: a timer, or the end of the slice; and the count of retired instructions at
    /// which that is reached.
    pub(crate) due_ns: u64,
    pub(crate) due: u64,
    pub(crate) clean_seen: u64,
    /// Whether data accesses and fetches find RAM at A0000-BFFFF.
    pub(crate) smram_data: bool,
    pub(crate) smram_code: bool,
    /// The last I/O instruction, and the count of retired instructions behind it.
    pub(crate) io: IoInstruction,
    pub(crate) io_done: u64,
    pub(crate) bus: Option<Box<Bus>>,
    /// What host code has, once some has run.
    pub(crate) host: Option<Box<HostState>>,
    /// For whoever asks why the processor died.
    pub(crate) faults: Faults,
}

// SAFETY: the raw pointers point at blocks of `code`, and are looked at only while this processor runs, when it has the
// machine's code cache in hand.
unsafe impl Send for Vcpu {}

impl Vcpu {
    /// A processor after RESET.
    pub fn new(model: CpuModel) -> Self {
        let mut vcpu = Self {
            cpu: Cpu::new(),
            model,
            tlb: Tlb::new(),
            tlb_bank: 0,
            tlb_entries: 0,
            sp_mask: 0xFFFF,
            ip_mask: 0xFFFF_FFFF,
            mode_key: 0,
            fetch_key: 0,
            attention: 0,
            retired: 0,
            slice_end: 0,
            extra_retired: 0,
            repeat_stop: !0,
            a20_mask: !0,
            number: 0,
            fetch_tags: [0; 2],
            current: std::ptr::null_mut(),
            stopped: std::ptr::null(),
            executing: std::ptr::null(),
            jumps: JumpTable::new(),
            code: Box::new(CodeCache::new()),
            protected_seen: 0,
            map_seen: 0,
            until_ns: !0,
            due_ns: !0,
            due: !0,
            clean_seen: 0,
            smram_data: false,
            smram_code: false,
            io: IoInstruction::default(),
            io_done: !0,
            bus: None,
            host: None,
            faults: Faults::default(),
        };
        vcpu.reset();
        vcpu
    }

    /// The RESET pin. The count of retired instructions goes on. Decoded code stays as it is.
    pub fn reset(&mut self) {
        self.cpu = Cpu::new();
        Self::reset_apic(&mut self.cpu, self.number);
        self.cpu.regs[Reg::RDX] = u64::from(self.model.signature());
        self.repeat_stop = !0;
        self.io_done = !0;
        self.faults = Faults::default();
        self.attention = attention::INTERRUPT | attention::DEVICE;
        self.tlb.switch_to(0);
        self.flush_tlb();
        self.jumps.clear();
        self.current = std::ptr::null_mut();
        self.update_mode();
    }

    /// The architectural state as it is saved: flags are evaluated, so that only architecture counts, not how far the
    /// processor has put off to compute them.
    pub fn state(&self) -> Cpu {
        let mut cpu = self.cpu.clone();
        cpu.materialize_flags();
        cpu
    }

    /// Takes over what [`state`](Self::state) gave. All that was derived from the old one is
    /// forgotten; decoded code stays.
    ///
    /// # Errors
    /// Why no processor of this model and number can be in that state; nothing is changed then.
    pub fn set_state(&mut self, cpu: Cpu) -> Result<(), &'static str> {
        cpu.check()?;
        self.cpu = cpu;
        self.cpu.lazy = LazyFlags::EXPLICIT;
        self.faults = Faults::default();
        self.attention = attention::INTERRUPT | attention::DEVICE;
        self.repeat_stop = !0;
        self.current = std::ptr::null_mut();
        let paged_by_pcid = self.cpu.cr4 & control::CR4_PCIDE != 0;
        let pcid = if paged_by_pcid {
            self.cpu.cr3 & 0xFFF
        } else {
            0
        };
        self.tlb.switch_to(pcid as u16);
        self.flush_tlb();
        self.jumps.clear();
        self.update_mode();
        Ok(())
    }

    /// Hands the bus in.
    pub fn attach(&mut self, bus: Box<Bus>) {
        self.retired = bus.clock.retired();
        self.repeat_stop = if self.cpu.within_repeat {
            self.retired
        } else {
            !0
        };
        self.attention |= attention::INTERRUPT | attention::DEVICE;
        let memory = &bus.memory;
        let behind =
            (memory.map_revision(), memory.clean_revision()) != (self.map_seen, self.clean_seen);
        self.bus = Some(bus);
        self.io_done = !0;
        if let Some(io) = self.cpu.smm.io {
            (self.io, self.io_done) = (io, self.retired);
        }
        self.look_at_smram();
        if behind {
            self.catch_up_with_map();
        }
        if self.cpu.monitor.line.is_some() {
            if self.code.monitors(self.number) {
                self.heed_monitors();
            } else {
                // The state was put here, by restoring.
                let monitor = self.cpu.monitor;
                self.set_monitor(monitor.line);
                self.cpu.monitor = monitor;
            }
        }
    }

    /// Hands in the bus and the machine's code, which all its processors share.
    pub fn attach_shared(&mut self, bus: Box<Bus>, code: &mut Box<CodeCache>) {
        std::mem::swap(&mut self.code, code);
        self.catch_up_with_protection();
        self.attach(bus);
    }

    /// Takes both back.
    pub fn detach_shared(&mut self, code: &mut Box<CodeCache>) -> Box<Bus> {
        std::mem::swap(&mut self.code, code);
        self.detach()
    }

    /// The code that this processor has in hand.
    pub fn code_mut(&mut self) -> &mut CodeCache {
        &mut self.code
    }

    pub(crate) fn code_and_memory(&mut self) -> (&mut CodeCache, &mut GuestMemory) {
        let bus = self
            .bus
            .as_mut()
            .expect("instructions run only while the bus is attached");
        (&mut self.code, &mut bus.memory)
    }

    /// Takes the bus back.
    pub fn detach(&mut self) -> Box<Bus> {
        self.cpu.within_repeat = self.within_repeat();
        self.cpu.smm.io = self.io_just_done();
        self.bus
            .take()
            .expect("a slice ended on a processor that has the bus")
    }

    /// The bus.
    #[inline]
    pub fn bus(&mut self) -> &mut Bus {
        self.bus
            .as_mut()
            .expect("instructions run only while the bus is attached")
    }

    /// Brings virtual time up to instruction `number` of the running block and returns the bus.
    pub(crate) fn bus_at(&mut self, number: u16) -> &mut Bus {
        let now = self.retired + u64::from(number);
        let bus = self.bus();
        bus.clock.set_retired(now.max(bus.clock.retired()));
        bus
    }

    /// Lets instruction `number` of the running block access devices. Returns what that gave, and whether something
    /// happened that must be looked at: wires, requests, DMA and timers are, when the block ends.
    #[inline]
    pub(crate) fn access_bus<R>(
        &mut self,
        number: u16,
        access: impl FnOnce(&mut Bus) -> R,
    ) -> (R, bool) {
        let bus = self.bus_at(number);
        let result = access(bus);
        let active = bus.take_activity();
        let cost_ns = bus.take_cost_ns();
        if active {
            self.look_at_devices();
        }
        if cost_ns != 0 {
            self.pass(cost_ns);
        }
        (result, active)
    }

    /// Lets virtual time pass: what is due comes so much sooner.
    fn pass(&mut self, ns: u64) {
        let clock = &mut self.bus().clock;
        clock.pass(ns);
        let (ns_num, ns_den) = clock.ratio();
        // As a rule the time is that of a whole number of instructions.
        match ns.checked_mul(ns_den) {
            Some(parts) if parts.is_multiple_of(ns_num) => {
                if self.due != u64::MAX {
                    self.due = self.due.saturating_sub(parts / ns_num);
                }
            }
            _ => self.find_due(),
        }
        self.slice_end = self.slice_end.min(self.due.max(self.retired));
    }

    /// Works out at which count of retired instructions the time of what is due next is reached.
    pub(crate) fn find_due(&mut self) {
        let due_ns = self.due_ns;
        let clock = &self.bus().clock;
        self.due = match due_ns {
            u64::MAX => u64::MAX,
            _ => clock
                .retired()
                .saturating_add(clock.instructions_until(due_ns)),
        };
    }

    /// Wires, requests, DMA and timers are to be looked at when the block ends.
    pub(crate) fn look_at_devices(&mut self) {
        self.attention |= attention::DEVICE | attention::INTERRUPT;
    }

    /// The number in its block of the instruction that runs; 0 between blocks.
    pub(crate) fn running_number(&self) -> u16 {
        if self.current.is_null() {
            return 0;
        }
        // SAFETY: while a block runs, only full handlers come here, and whoever calls one has noted its instruction.
        unsafe { (*self.executing).number }
    }

    /// Executes an instruction by its full handler.
    #[inline(always)]
    pub(crate) fn execute(&mut self, insn: &Insn) -> Result<(), Exception> {
        self.executing = insn;
        (insn.exec)(self, insn)
    }

    /// Stops a repeated string instruction, of which `done` iterations have been made in this run of
    /// the block, with the instruction pointer on itself.
    #[cold]
    pub(crate) fn stop_repeat(&mut self, insn: &Insn, done: u64) {
        let ip = self.insn_ip(insn);
        self.set_ip(ip);
        self.repeat_stop = self.retired + u64::from(insn.number) + done;
    }

    /// Whether the processor stands between two iterations of a repeated string instruction.
    pub(crate) fn within_repeat(&self) -> bool {
        self.repeat_stop == self.retired
    }

    /// Ends the turn of this processor behind the instruction that runs, where there are others.
    pub(crate) fn give_up_turn(&mut self) {
        if self.bus().messages.processors() > 1 {
            self.attention |= attention::YIELD;
        }
    }

    /// Whether the processor has shut down after a triple fault.
    pub fn is_shut_down(&self) -> bool {
        self.cpu.shutdown
    }

    // ---- mode ----------------------------------------------------------------------------------

    /// Recomputes what is derived from CR0, CR4, EFER, RFLAGS, CPL and the segments. Whoever
    /// changes one of those calls it; the instruction must be one that ends its block.
    pub fn update_mode(&mut self) {
        self.update_segments();
        let cpu = &self.cpu;
        let check_alignment =
            cpu.cpl == 3 && cpu.cr0 & control::CR0_AM != 0 && cpu.rflags & bits::AC != 0;
        let data_breakpoints = cpu.dr[7] & 0xFF != 0;
        self.tlb_bank = if check_alignment || data_breakpoints {
            BANK_SLOW
        } else {
            self.data_bank()
        };
        self.tlb_entries = self.tlb.entries_of(self.tlb_bank);
        let cpu = &self.cpu;
        if cpu.rflags & (bits::TF | bits::RF) != 0 || cpu.shadow != 0 || data_breakpoints {
            self.attention |= attention::STEP;
        }
        self.attention |= attention::INTERRUPT;
    }

    /// Recomputes what is derived from the segments alone. Where that changes the mode's key, the block must end.
    pub(crate) fn update_segments(&mut self) {
        let cpu = &self.cpu;
        let mode = cpu.mode();
        let cs = &cpu.segs[SegmentRegister::CS];
        let ss = &cpu.segs[SegmentRegister::SS];
        let code_bits = match mode {
            Mode::Long => 2,
            _ if cs.big() => 1,
            _ => 0,
        };
        // 16-bit code does not wrap either: only its branches cut the target to 16 bits. What runs
        // past the limit meets it at the next fetch (SDM vol. 3A §5.3; the 80386 has EIP whole in
        // every mode).
        self.ip_mask = if code_bits == 2 { !0 } else { 0xFFFF_FFFF };
        self.sp_mask = match mode {
            Mode::Long => !0,
            _ if ss.big() => 0xFFFF_FFFF,
            _ => 0xFFFF,
        };
        // A flat mode has a stack of 4 GiB too.
        let flat = mode != Mode::Long
            && ss.big()
            && [
                SegmentRegister::ES,
                SegmentRegister::CS,
                SegmentRegister::SS,
                SegmentRegister::DS,
            ]
            .iter()
            .all(|&seg| cpu.segs[seg].is_flat(seg == SegmentRegister::CS));
        self.mode_key = code_bits as u32 | u32::from(flat) << 2;
        self.fetch_key = self.mode_key | u32::from(cpu.cpl == 3) << 8;
        self.update_fetch_tags();
    }

    /// The TLB bank of explicit data accesses at the current privilege.
    pub(crate) fn data_bank(&self) -> usize {
        self.bank_of(self.cpu.cpl)
    }

    /// The TLB bank of explicit data accesses at privilege level `cpl`.
    pub(crate) fn bank_of(&self, cpl: u8) -> usize {
        if cpl == 3 {
            BANK_USER
        } else if self.cpu.cr4 & control::CR4_SMAP != 0 && self.cpu.rflags & bits::AC != 0 {
            BANK_SUPERVISOR_AC
        } else {
            BANK_SUPERVISOR
        }
    }

    /// Loads a segment register with its hidden part, as is: no checks, and the CPL stays
    /// what it is, whatever `seg` is (see [`set_cpl`](Self::set_cpl)). Call
    /// [`update_mode`](Self::update_mode) after it.
    pub fn set_segment(&mut self, seg: usize, value: Segment) {
        self.cpu.segs[seg] = value;
        self.cpu.seg_base[seg] = value.base;
    }

    /// Changes the current privilege level. Call [`update_mode`](Self::update_mode) after it.
    pub fn set_cpl(&mut self, cpl: u8) {
        self.cpu.cpl = cpl;
    }

    /// Writes RFLAGS bits in `mask`, evaluating the arithmetic flags first, and reacts to TF, IF, VM and AC.
    pub fn write_rflags(&mut self, value: u64, mask: u64) {
        self.cpu.materialize_flags();
        self.cpu.rflags = (self.cpu.rflags & !mask) | (value & mask) | bits::FIXED;
        self.update_mode();
    }

    // ---- registers -----------------------------------------------------------------------------

    /// Reads general register `n` as numbered in [`Insn::r`].
    #[inline(always)]
    pub fn get<W: Width>(&self, n: u8) -> u64 {
        let value = self.cpu.regs[usize::from(n & 0x1F)];
        if W::BITS == 8 {
            value >> ((n >> 5) * 8) & 0xFF
        } else {
            W::zext(value)
        }
    }

    /// Writes general register `n`: 32-bit writes clear the upper half, narrower ones keep the rest.
    #[inline(always)]
    pub fn set<W: Width>(&mut self, n: u8, value: u64) {
        let reg = &mut self.cpu.regs[usize::from(n & 0x1F)];
        match W::BITS {
            8 => {
                let shift = (n >> 5) * 8;
                *reg = (*reg & !(0xFF << shift)) | (value & 0xFF) << shift;
            }
            16 => *reg = (*reg & !0xFFFF) | (value & 0xFFFF),
            32 => *reg = value & 0xFFFF_FFFF,
            _ => *reg = value,
        }
    }

    /// The instruction pointer of the instruction that executes.
    #[inline(always)]
    pub fn insn_ip(&self, insn: &Insn) -> u64 {
        self.cpu.regs[Reg::RIP].wrapping_add(u64::from(insn.start())) & self.ip_mask
    }

    /// The instruction pointer after the instruction that executes.
    #[inline(always)]
    pub fn next_ip(&self, insn: &Insn) -> u64 {
        self.cpu.regs[Reg::RIP].wrapping_add(u64::from(insn.end)) & self.ip_mask
    }

    /// Sets the instruction pointer at the end of a block; only a block-ending instruction may.
    #[inline(always)]
    pub fn set_ip(&mut self, ip: u64) {
        self.cpu.regs[Reg::RIP] = ip;
    }

    // ---- operands ------------------------------------------------------------------------------

    /// The offset of the memory operand within its segment.
    #[inline(always)]
    pub fn effective_address(&self, insn: &Insn) -> u64 {
        let base = self.cpu.regs[usize::from(insn.base & 0x1F)];
        let index = self.cpu.regs[usize::from(insn.index & 0x1F)];
        base.wrapping_add(index << (insn.scale & 3))
            .wrapping_add(insn.disp)
            & insn.addr_mask
    }

    /// Reads operand `n`: register, memory or immediate. For instructions that are not frequent.
    ///
    /// # Errors
    /// As for any memory access.
    pub fn read<W: Width>(&mut self, insn: &Insn, n: u8) -> Result<u64, Exception> {
        if insn.is_mem(n) {
            let offset = self.effective_address(insn);
            self.load_operand::<W>(insn, offset)
        } else if insn.r[usize::from(n & 3)] != crate::insn::NO_OPERAND {
            Ok(self.get::<W>(insn.r[usize::from(n & 3)]))
        } else {
            Ok(W::zext(insn.imm))
        }
    }

    /// Writes operand `n`: register or memory.
    ///
    /// # Errors
    /// As for any memory access.
    pub fn write<W: Width>(&mut self, insn: &Insn, n: u8, value: u64) -> Result<(), Exception> {
        if insn.is_mem(n) {
            let offset = self.effective_address(insn);
            self.store_operand::<W>(insn, offset, value)
        } else {
            self.set::<W>(insn.r[usize::from(n & 3)], value);
            Ok(())
        }
    }

    /// The linear address of `size` bytes at `offset` in the memory operand's segment, checked.
    ///
    /// # Errors
    /// #GP or #SS.
    #[inline(always)]
    pub(crate) fn operand_linear(
        &mut self,
        insn: &Insn,
        offset: u64,
        size: u64,
        write: bool,
    ) -> Result<u64, Exception> {
        if insn.has(flag::SEG_CHECK) {
            self.checked_linear(usize::from(insn.seg), offset, size, write)
        } else {
            Ok(self.cpu.seg_base[usize::from(insn.seg)].wrapping_add(offset))
        }
    }

    /// Loads from `offset` in the memory operand's segment.
    ///
    /// # Errors
    /// #GP, #SS, #PF, #AC.
    #[inline(always)]
    pub fn load_operand<W: Width>(&mut self, insn: &Insn, offset: u64) -> Result<u64, Exception> {
        let lin = self.operand_linear(insn, offset, W::BYTES, false)?;
        self.load_linear::<W>(insn, lin)
    }

    /// Stores to `offset` in the memory operand's segment.
    ///
    /// # Errors
    /// #GP, #SS, #PF, #AC.
    #[inline(always)]
    pub fn store_operand<W: Width>(
        &mut self,
        insn: &Insn,
        offset: u64,
        value: u64,
    ) -> Result<(), Exception> {
        let lin = self.operand_linear(insn, offset, W::BYTES, true)?;
        self.store_linear::<W>(insn, lin, value)
    }

    /// Loads from a linear address at the current privilege.
    ///
    /// # Errors
    /// #PF, #AC, #GP(0) when not canonical.
    #[inline(always)]
    pub fn load_linear<W: Width>(&mut self, insn: &Insn, lin: u64) -> Result<u64, Exception> {
        self.load_at::<W>(insn.number, insn.seg_written, lin)
    }

    /// Stores to a linear address at the current privilege.
    ///
    /// # Errors
    /// #PF, #AC, #GP(0) when not canonical.
    #[inline(always)]
    pub fn store_linear<W: Width>(
        &mut self,
        insn: &Insn,
        lin: u64,
        value: u64,
    ) -> Result<(), Exception> {
        self.store_at::<W>(insn.number, insn.seg_written, lin, value)
    }

    /// Loads `buf.len()` bytes from `offset` in the memory operand's segment; all or nothing.
    ///
    /// # Errors
    /// #GP, #SS, #PF, #AC.
    pub fn load_bytes(
        &mut self,
        insn: &Insn,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), Exception> {
        let size = buf.len() as u64;
        let lin = self.operand_linear(insn, offset, size, false)?;
        if let Some(ptr) = self.direct_read_sized(lin, size) {
            // SAFETY: the TLB gives a pointer to `size` bytes of guest RAM or ROM.
            unsafe { ptr.copy_to_nonoverlapping(buf.as_mut_ptr(), buf.len()) };
            return Ok(());
        }
        let lin_mask = self.linear_mask();
        self.touch(insn.seg_written, lin, buf.len() as u64, false)?;
        // That has filled the TLB. A byte at a time is for what it does not hold, and for operands in two pages.
        if let Some(ptr) = self.direct_read_sized(lin, size) {
            // SAFETY: as above.
            unsafe { ptr.copy_to_nonoverlapping(buf.as_mut_ptr(), buf.len()) };
            return Ok(());
        }
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = self.load_slow(
                insn.number,
                insn.seg_written,
                lin.wrapping_add(i as u64) & lin_mask,
                1,
            )? as u8;
        }
        Ok(())
    }

    /// Stores bytes at `offset` in the memory operand's segment; all or nothing.
    ///
    /// # Errors
    /// #GP, #SS, #PF, #AC.
    pub fn store_bytes(&mut self, insn: &Insn, offset: u64, buf: &[u8]) -> Result<(), Exception> {
        let size = buf.len() as u64;
        let lin = self.operand_linear(insn, offset, size, true)?;
        if let Some(ptr) = self.direct_write_sized(lin, size) {
            // SAFETY: the TLB gives a pointer to `size` bytes of guest RAM.
            unsafe { ptr.copy_from_nonoverlapping(buf.as_ptr(), buf.len()) };
            return Ok(());
        }
        if let Some(ptr) = self.write_beside_code(lin, size) {
            // SAFETY: as above.
            unsafe { ptr.copy_from_nonoverlapping(buf.as_ptr(), buf.len()) };
            return Ok(());
        }
        let lin_mask = self.linear_mask();
        self.touch(insn.seg_written, lin, buf.len() as u64, true)?;
        if let Some(ptr) = self.direct_write_sized(lin, size) {
            // SAFETY: as above.
            unsafe { ptr.copy_from_nonoverlapping(buf.as_ptr(), buf.len()) };
            return Ok(());
        }
        for (i, byte) in buf.iter().enumerate() {
            self.store_slow(
                insn.number,
                insn.seg_written,
                lin.wrapping_add(i as u64) & lin_mask,
                1,
                (*byte).into(),
            )?;
        }
        Ok(())
    }

    /// Loads 128 bits from `offset` in the memory operand's segment.
    ///
    /// # Errors
    /// As for any load; #GP(0) when `aligned` and off a 16-byte boundary.
    #[inline(always)]
    pub fn load_xmm(&mut self, insn: &Insn, offset: u64, aligned: bool) -> Result<u128, Exception> {
        let lin = self.operand_linear(insn, offset, 16, false)?;
        if aligned && lin & 15 != 0 {
            return Err(Exception::gp(0));
        }
        match self.direct_read_sized(lin, 16) {
            // SAFETY: the TLB gives a pointer to 16 bytes of guest RAM or ROM.
            Some(ptr) => Ok(unsafe { ptr.cast::<u128>().read_unaligned() }),
            None => {
                let mut buf = [0; 16];
                self.load_bytes(insn, offset, &mut buf)?;
                Ok(u128::from_le_bytes(buf))
            }
        }
    }

    /// Stores 128 bits at `offset` in the memory operand's segment.
    ///
    /// # Errors
    /// As for any store; #GP(0) when `aligned` and off a 16-byte boundary.
    #[inline(always)]
    pub fn store_xmm(
        &mut self,
        insn: &Insn,
        offset: u64,
        value: u128,
        aligned: bool,
    ) -> Result<(), Exception> {
        let lin = self.operand_linear(insn, offset, 16, true)?;
        if aligned && lin & 15 != 0 {
            return Err(Exception::gp(0));
        }
        match self.direct_write_sized(lin, 16) {
            Some(ptr) => {
                // SAFETY: the TLB gives a pointer to 16 bytes of guest RAM.
                unsafe { ptr.cast::<u128>().write_unaligned(value) };
                Ok(())
            }
            None => self.store_bytes(insn, offset, &value.to_le_bytes()),
        }
    }

    // ---- any segment ---------------------------------------------------------------------------

    /// Loads from `offset` in segment register `seg`, with every check.
    ///
    /// # Errors
    /// #GP, #SS, #PF, #AC.
    pub fn load_seg<W: Width>(&mut self, seg: usize, offset: u64) -> Result<u64, Exception> {
        let lin = self.checked_linear(seg, offset, W::BYTES, false)?;
        let number = self.running_number();
        self.load_slow(number, seg as u8, lin, W::BYTES as u8)
    }

    /// Stores to `offset` in segment register `seg`, with every check.
    ///
    /// # Errors
    /// #GP, #SS, #PF, #AC.
    pub fn store_seg<W: Width>(
        &mut self,
        seg: usize,
        offset: u64,
        value: u64,
    ) -> Result<(), Exception> {
        let lin = self.checked_linear(seg, offset, W::BYTES, true)?;
        let number = self.running_number();
        self.store_slow(number, seg as u8, lin, W::BYTES as u8, value)
    }

    /// Pushes a value on the current stack, with every check. The stack pointer moves only on success.
    ///
    /// # Errors
    /// #SS, #PF, #AC.
    pub fn push_value<W: Width>(&mut self, value: u64) -> Result<(), Exception> {
        let rsp = self.cpu.regs[Reg::RSP];
        let sp = rsp.wrapping_sub(W::BYTES) & self.sp_mask;
        self.store_seg::<W>(SegmentRegister::SS, sp, value)?;
        self.set_sp(sp);
        Ok(())
    }

    /// Pops a value off the current stack, with every check. The stack pointer moves only on success.
    ///
    /// # Errors
    /// #SS, #PF, #AC.
    pub fn pop_value<W: Width>(&mut self) -> Result<u64, Exception> {
        let sp = self.cpu.regs[Reg::RSP] & self.sp_mask;
        let value = self.load_seg::<W>(SegmentRegister::SS, sp)?;
        self.set_sp(sp.wrapping_add(W::BYTES));
        Ok(value)
    }

    /// Writes as much of the stack pointer as the stack is wide. As with any register, ESP is
    /// zero-extended (SDM vol. 1 §3.4.1.1): code that a 64-bit kernel returns to sees nothing of its stack.
    #[inline(always)]
    pub fn set_sp(&mut self, sp: u64) {
        let rsp = &mut self.cpu.regs[Reg::RSP];
        *rsp = merge_sp(*rsp, sp, self.sp_mask);
    }

    /// The linear address of `size` bytes at `offset` in segment `seg`.
    ///
    /// # Errors
    /// #GP(0), or #SS(0) for the stack segment (SDM vol. 3A §5.3; vol. 1 §3.3.7.1 in 64-bit mode).
    pub fn checked_linear(
        &mut self,
        seg: usize,
        offset: u64,
        size: u64,
        write: bool,
    ) -> Result<u64, Exception> {
        if self.mode_key & 3 == 2 {
            let base = if seg == SegmentRegister::FS || seg == SegmentRegister::GS {
                self.cpu.seg_base[seg]
            } else {
                0
            };
            let lin = base.wrapping_add(offset);
            let last = lin.wrapping_add(size - 1);
            if !is_canonical(lin) || !is_canonical(last) {
                return Err(segment_fault(seg));
            }
            return Ok(lin);
        }
        let segment = &self.cpu.segs[seg];
        let allowed = if write {
            // In real and virtual-8086 mode a write through CS is allowed.
            segment.writable() || !self.cpu.uses_descriptors() && segment.present()
        } else {
            segment.readable()
        };
        if !allowed || !segment.contains(offset, size) {
            return Err(segment_fault(seg));
        }
        Ok(segment.base.wrapping_add(offset) & 0xFFFF_FFFF)
    }

    pub(crate) fn linear_mask(&self) -> u64 {
        if self.mode_key & 3 == 2 {
            !0
        } else {
            0xFFFF_FFFF
        }
    }

    /// A20 as the board's wire has it.
    pub(crate) fn sample_a20(&mut self) -> bool {
        let mask = if self.bus().lines.level(IrqLine::A20) {
            !0
        } else {
            !(1 << 20)
        };
        let changed = mask != self.a20_mask;
        self.a20_mask = mask;
        changed
    }
}

/// `rsp` after a write of `sp` as the pointer of a stack with the mask `mask`.
#[inline(always)]
pub(crate) fn merge_sp(rsp: u64, sp: u64, mask: u64) -> u64 {
    let kept = if mask == 0xFFFF { !mask } else { 0 };
    rsp & kept | sp & mask
}

/// Whether bits 63 to 47 of a linear address are equal (48-bit linear addresses).
#[inline]
pub fn is_canonical(lin: u64) -> bool {
    ((lin << 16) as i64 >> 16) as u64 == lin
}

/// The exception for a failed segment check: #SS(0) for SS, else #GP(0).
pub fn segment_fault(seg: usize) -> Exception {
    if seg == SegmentRegister::SS {
        Exception::stack(0)
    } else {
        Exception::gp(0)
    }
}
