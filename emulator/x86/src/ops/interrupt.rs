//! Interrupts and exceptions: entering a handler (SDM vol. 3A chapter 6; vol. 2A, INT n).
//!
//! The way back is in [`iret`](crate::ops::iret).

use iced_x86::{Code, Mnemonic};

use crate::cpu::{Mode, Reg, Segment, SegmentRegister, control};
use crate::exception::Exception;
use crate::flags::bits;
use crate::frame::Frame;
use crate::insn::Insn;
use crate::ops::task::{Source, TaskFault};
use crate::segment::{Descriptor, error_of, is_null, null_segment, system_type};
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, W16, Width};

/// The rows.
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Int, int_n).branches(),
    Row::plain(Mnemonic::Int3, int3).branches(),
    Row::plain(Mnemonic::Int1, int1).branches(),
    Row::plain(Mnemonic::Into, into).branches(),
    Row::plain(Mnemonic::Bound, bound),
];

/// DR7.GD: access to debug registers raises #DB.
pub(crate) const DR7_GD: u64 = 1 << 13;

/// What makes the processor enter a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The interrupt controller's vector.
    External(u8),
    /// NMI, vector 2.
    Nmi,
    /// INT n: the return address is the next instruction's; the gate's DPL is checked.
    Software(u8),
    /// INT3 and INTO, which behave as INT n but for IOPL in virtual-8086 mode.
    SoftwareException(u8),
    /// A fault, trap or abort; INT1 too.
    Exception(Exception),
}

impl Event {
    pub(crate) fn vector(self) -> u8 {
        match self {
            Self::External(vector) | Self::Software(vector) | Self::SoftwareException(vector) => {
                vector
            }
            Self::Nmi => 2,
            Self::Exception(exception) => exception.vector(),
        }
    }

    fn is_software(self) -> bool {
        matches!(self, Self::Software(_) | Self::SoftwareException(_))
    }

    /// The error code to be pushed; #DF's is 0.
    pub(crate) fn error_code(self) -> Option<u16> {
        match self {
            Self::Exception(exception) => exception.error_code(),
            _ => None,
        }
    }

    /// Faults push RF set, so that their instruction does not meet its breakpoint again (SDM vol. 3B
    /// §17.3.1.1); traps, aborts and interrupts push it as it is, but between two iterations of a
    /// string instruction; and so do #DB faults: those of instruction breakpoints, and those of
    /// DR7.GD, for which MOV DR has set RF itself.
    fn sets_resume_flag(self) -> bool {
        matches!(self, Self::Exception(e) if !e.is_trap() && !matches!(e.vector(), 1 | 8 | 18))
    }
}

/// The stack of an inner privilege level, as the TSS names it.
pub(crate) enum InnerStack {
    /// Protected mode: SS and its descriptor, ESP.
    Segment(u16, Descriptor, u64),
    /// Long mode: RSP, and the null SS that goes with it.
    Long(u64, u16),
}

impl InnerStack {
    /// An empty frame on this stack.
    pub fn frame(&self, v: &Vcpu, cpl: u8) -> Frame {
        match *self {
            Self::Segment(selector, descriptor, sp) => Frame::on_segment(
                v,
                descriptor.segment(selector),
                sp,
                cpl,
                Exception::stack(error_of(selector)),
            ),
            Self::Long(sp, _) => Frame::on_long(v, sp, cpl, Exception::stack(0)),
        }
    }

    /// The segment to load into SS, its descriptor marked as accessed.
    pub fn accessed_segment(&self, v: &mut Vcpu) -> Result<Segment, Exception> {
        match *self {
            Self::Segment(selector, mut descriptor, _) => {
                v.mark_accessed(&mut descriptor)?;
                Ok(descriptor.segment(selector))
            }
            Self::Long(_, selector) => Ok(null_segment(selector)),
        }
    }
}

impl Vcpu {
    /// Enters the handler of `event`; the instruction pointer is the one to return to.
    ///
    /// # Errors
    /// The exception met on the way; state is as before, unless a task switch had gone too far to be
    /// undone: then the exception belongs to the new task.
    pub(crate) fn enter_handler(&mut self, event: Event) -> Result<(), Exception> {
        let entered = match self.cpu.mode() {
            Mode::Real => self.enter_real(event),
            Mode::Long | Mode::Compatibility => self.enter_long(event),
            Mode::Protected | Mode::Virtual8086 => self.enter_protected(event),
        };
        entered.map_err(|exception| {
            // EXT: the exception came up in the delivery of something outside the program.
            match exception.error_code() {
                Some(error) if !event.is_software() && (10..=13).contains(&exception.vector()) => {
                    Exception::with_error(exception.vector(), error | 1)
                }
                _ => exception,
            }
        })?;
        if event.vector() == 1 && matches!(event, Event::Exception(_)) {
            self.cpu.dr[7] &= !DR7_GD;
        }
        // Traps of the interrupted instruction are lost with its context (SDM vol. 3A §6.9). INT n is
        // the instruction itself: data breakpoints that MOV SS met before it are raised behind it, in
        // the handler (SDM vol. 3A §6.8.3).
        self.cpu.pending_debug &= if event.is_software() {
            crate::run::dr6::BT | crate::run::dr6::B0_TO_B3
        } else {
            crate::run::dr6::BT
        };
        self.cpu.shadow = 0;
        self.repeat_stop = !0;
        self.wake();
        self.update_mode();
        Ok(())
    }

    /// RFLAGS as an event pushes them.
    fn flags_image(&self, event: Event) -> u64 {
        let mut image = self.cpu.rflags();
        if event.sets_resume_flag() || self.within_repeat() {
            image |= bits::RF;
        }
        image
    }

    /// Clears flags on the way into a handler.
    fn clear_flags(&mut self, mask: u64) {
        self.cpu.rflags &= !mask;
    }

    /// Real mode: SDM vol. 3A §20.1.4.
    fn enter_real(&mut self, event: Event) -> Result<(), Exception> {
        let vector = event.vector();
        let at = u64::from(vector) * 4;
        if at + 3 > self.cpu.idtr.limit.into() {
            return Err(Exception::gp(u16::from(vector) * 8 + 2));
        }
        let entry = self.sys_load::<D>(self.cpu.idtr.base.wrapping_add(at))?;
        self.enter_vector_table(entry, self.flags_image(event))?;
        self.clear_flags(bits::IF | bits::TF | bits::AC | bits::RF);
        Ok(())
    }

    /// Pushes a real-mode frame and goes where the 4-byte `entry` of the vector table says.
    fn enter_vector_table(&mut self, entry: u64, flags: u64) -> Result<(), Exception> {
        let mut frame = Frame::on_current(self, Exception::stack(0));
        frame.push(2, flags)?;
        frame.push(2, self.cpu.segs[SegmentRegister::CS].selector.into())?;
        frame.push(2, self.cpu.regs[Reg::RIP])?;
        let ip = entry & 0xFFFF;
        if ip > u64::from(self.cpu.segs[SegmentRegister::CS].limit) {
            return Err(Exception::gp(0));
        }
        frame.check(self)?;
        frame.store(self)?;
        frame.commit_sp(self);
        self.enter_real_code((entry >> 16) as u16, ip);
        Ok(())
    }

    /// INT n in virtual-8086 mode (SDM vol. 3A §20.3): whether the vector table took it.
    ///
    /// # Errors
    /// #GP(0) where only the monitor may decide.
    fn redirect_virtual8086(&mut self, vector: u8) -> Result<bool, Exception> {
        let iopl = self.cpu.iopl();
        if self.cpu.cr4 & control::CR4_VME != 0 && !self.redirection_bit(vector)? {
            let entry = self.load_banked(
                self.bank_of(3),
                self.running_number(),
                u64::from(vector) * 4,
                4,
            )?;
            let mut flags = self.cpu.rflags();
            let mut clear = bits::TF | bits::RF;
            if iopl == 3 {
                clear |= bits::IF;
            } else {
                flags &= !bits::IF;
                if flags & bits::VIF != 0 {
                    flags |= bits::IF;
                }
                flags |= bits::IOPL;
                clear |= bits::VIF;
            }
            self.enter_vector_table(entry, flags)?;
            self.clear_flags(clear);
            return Ok(true);
        }
        if iopl < 3 {
            return Err(Exception::gp(0));
        }
        Ok(false)
    }

    /// The bit of the TSS's interrupt redirection bitmap, in the 32 bytes below the I/O bitmap.
    fn redirection_bit(&mut self, vector: u8) -> Result<bool, Exception> {
        let tr = self.cpu.segs[SegmentRegister::TR];
        if tr.limit < 103 {
            return Err(Exception::gp(0));
        }
        let map = self.sys_load::<W16>(tr.base.wrapping_add(102))?;
        let at = map.wrapping_sub(32).wrapping_add(u64::from(vector / 8));
        if at > tr.limit.into() {
            return Err(Exception::gp(0));
        }
        let byte = self.sys_load::<B>(tr.base.wrapping_add(at))?;
        Ok(byte >> (vector & 7) & 1 != 0)
    }

    /// Reads an entry of the interrupt descriptor table and checks what all modes check.
    fn read_gate(&mut self, event: Event, types: &[u8]) -> Result<Descriptor, Exception> {
        let vector = event.vector();
        let error = u16::from(vector) * 8 + 2;
        let size = if self.cpu.long_mode() { 16 } else { 8 };
        let at = u64::from(vector) * size;
        if at + size - 1 > self.cpu.idtr.limit.into() {
            return Err(Exception::gp(error));
        }
        let address = self.cpu.idtr.base.wrapping_add(at);
        let mut gate = Descriptor {
            low: self.sys_load::<Q>(address)?,
            high: 0,
            address,
        };
        if size == 16 {
            gate.high = self.sys_load::<Q>(address.wrapping_add(8))? & 0xFFFF_FFFF;
        }
        if gate.is_segment() || !types.contains(&gate.kind()) {
            return Err(Exception::gp(error));
        }
        if event.is_software() && gate.dpl() < self.cpu.cpl {
            return Err(Exception::gp(error));
        }
        if !gate.present() {
            return Err(Exception::not_present(error));
        }
        Ok(gate)
    }

    /// The code segment of an interrupt or trap gate.
    fn handler_code(&mut self, gate: &Descriptor) -> Result<(u16, Descriptor), Exception> {
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(Exception::gp(0));
        }
        let code = self.read_descriptor(selector, Exception::gp)?;
        let error = error_of(selector);
        if !code.is_code() || code.dpl() > self.cpu.cpl {
            return Err(Exception::gp(error));
        }
        if self.cpu.long_mode() && (!code.is_long() || code.big()) {
            return Err(Exception::gp(error));
        }
        if !code.present() {
            return Err(Exception::not_present(error));
        }
        Ok((selector, code))
    }

    /// Protected mode, and virtual-8086 mode's way out: SDM vol. 3A §6.12, §20.3.1.
    fn enter_protected(&mut self, event: Event) -> Result<(), Exception> {
        use system_type::{INTERRUPT_GATE, INTERRUPT_GATE16, TASK_GATE, TRAP_GATE, TRAP_GATE16};
        let virtual8086 = self.cpu.mode() == Mode::Virtual8086;
        if let Event::Software(vector) = event
            && virtual8086
            && self.redirect_virtual8086(vector)?
        {
            return Ok(());
        }
        let gate = self.read_gate(
            event,
            &[
                TASK_GATE,
                INTERRUPT_GATE16,
                TRAP_GATE16,
                INTERRUPT_GATE,
                TRAP_GATE,
            ],
        )?;
        if gate.kind() == TASK_GATE {
            return self.enter_task(event, &gate);
        }
        let (selector, mut code) = self.handler_code(&gate)?;
        let size = if gate.kind() & 8 == 0 { 2 } else { 4 };
        let inner = !code.is_conforming() && code.dpl() < self.cpu.cpl;
        if virtual8086 && (!inner || code.dpl() != 0) {
            return Err(Exception::gp(error_of(selector)));
        }
        let cpl = if inner { code.dpl() } else { self.cpu.cpl };
        let stack = if inner {
            Some(self.inner_stack(cpl)?)
        } else {
            None
        };
        let mut frame = match &stack {
            Some(stack) => stack.frame(self, cpl),
            None => Frame::on_current(self, Exception::stack(0)),
        };
        if virtual8086 {
            for seg in [
                SegmentRegister::GS,
                SegmentRegister::FS,
                SegmentRegister::DS,
                SegmentRegister::ES,
            ] {
                frame.push(size, self.cpu.segs[seg].selector.into())?;
            }
        }
        if inner {
            frame.push(size, self.cpu.segs[SegmentRegister::SS].selector.into())?;
            frame.push(size, self.cpu.regs[Reg::RSP])?;
        }
        frame.push(size, self.flags_image(event))?;
        frame.push(size, self.cpu.segs[SegmentRegister::CS].selector.into())?;
        frame.push(size, self.cpu.regs[Reg::RIP])?;
        if let Some(error) = event.error_code() {
            frame.push(size, error.into())?;
        }
        let ip = self.check_far_target(&code, gate.gate_offset())?;
        frame.check(self)?;
        self.mark_accessed(&mut code)?;
        let ss = match &stack {
            Some(stack) => Some(stack.accessed_segment(self)?),
            None => None,
        };
        frame.store(self)?;
        if virtual8086 {
            for seg in [
                SegmentRegister::GS,
                SegmentRegister::FS,
                SegmentRegister::DS,
                SegmentRegister::ES,
            ] {
                self.set_segment(seg, null_segment(0));
            }
        }
        self.enter_gate(&gate, frame, ss, code.segment(selector), cpl, ip);
        Ok(())
    }

    /// Long mode: SDM vol. 3A §6.14.
    fn enter_long(&mut self, event: Event) -> Result<(), Exception> {
        let gate = self.read_gate(
            event,
            &[system_type::INTERRUPT_GATE, system_type::TRAP_GATE],
        )?;
        let (selector, mut code) = self.handler_code(&gate)?;
        let inner = !code.is_conforming() && code.dpl() < self.cpu.cpl;
        let cpl = if inner { code.dpl() } else { self.cpu.cpl };
        let ist = gate.gate_ist();
        let rsp = self.cpu.regs[Reg::RSP];
        let sp = if ist != 0 {
            self.load_long_stack(28 + 8 * u64::from(ist))?
        } else if inner {
            self.load_long_stack(4 + 8 * u64::from(cpl))?
        } else {
            rsp & self.sp_mask
        };
        let mut frame = Frame::on_long(self, sp & !0xF, cpl, Exception::stack(0));
        frame.push(8, self.cpu.segs[SegmentRegister::SS].selector.into())?;
        frame.push(8, rsp)?;
        frame.push(8, self.flags_image(event))?;
        frame.push(8, self.cpu.segs[SegmentRegister::CS].selector.into())?;
        frame.push(8, self.cpu.regs[Reg::RIP])?;
        if let Some(error) = event.error_code() {
            frame.push(8, error.into())?;
        }
        let ip = self.check_far_target(&code, gate.gate_offset())?;
        frame.check(self)?;
        self.mark_accessed(&mut code)?;
        frame.store(self)?;
        let ss = inner.then(|| null_segment(cpl.into()));
        self.enter_gate(&gate, frame, ss, code.segment(selector), cpl, ip);
        Ok(())
    }

    /// Commits the entry through an interrupt or trap gate.
    fn enter_gate(
        &mut self,
        gate: &Descriptor,
        frame: Frame,
        ss: Option<Segment>,
        cs: Segment,
        cpl: u8,
        ip: u64,
    ) {
        let mut clear = bits::TF | bits::NT | bits::VM | bits::RF;
        if gate.kind() & 1 == 0 {
            clear |= bits::IF;
        }
        self.clear_flags(clear);
        if let Some(ss) = ss {
            self.set_segment(SegmentRegister::SS, ss);
        }
        frame.commit_sp(self);
        self.enter_code(cs, cpl, ip);
    }

    /// A task gate: SDM vol. 3A §7.2.5, §6.12.2.
    fn enter_task(&mut self, event: Event, gate: &Descriptor) -> Result<(), Exception> {
        let (selector, tss) = self.task_gate_target(gate)?;
        let next_ip = self.cpu.regs[Reg::RIP];
        let source = Source::Event {
            flags: self.flags_image(event),
            error_code: event.error_code(),
        };
        match self.switch_task(selector, tss, source, next_ip) {
            Ok(()) => Ok(()),
            Err(TaskFault::Before(exception)) => Err(exception),
            Err(TaskFault::After(exception)) if event.is_software() => {
                // The instruction is done; the exception is the new task's.
                self.raise(exception);
                Ok(())
            }
            Err(TaskFault::After(exception)) => Err(exception),
        }
    }

    /// A stack pointer of the 64-bit TSS (SDM vol. 3A §7.7).
    fn load_long_stack(&mut self, offset: u64) -> Result<u64, Exception> {
        let tr = self.cpu.segs[SegmentRegister::TR];
        if offset + 7 > tr.limit.into() {
            return Err(Exception::invalid_tss(error_of(tr.selector)));
        }
        self.sys_load::<Q>(tr.base.wrapping_add(offset))
    }

    /// The stack that the TSS holds for privilege level `cpl`, checked (SDM vol. 3A §5.8.5).
    ///
    /// # Errors
    /// #TS, #SS, #PF.
    pub(crate) fn inner_stack(&mut self, cpl: u8) -> Result<InnerStack, Exception> {
        if self.cpu.long_mode() {
            let sp = self.load_long_stack(4 + 8 * u64::from(cpl))?;
            return Ok(InnerStack::Long(sp, cpl.into()));
        }
        let tr = self.cpu.segs[SegmentRegister::TR];
        let wide = tr.attributes & 8 != 0;
        let (offset, size) = if wide {
            (4 + 8 * u64::from(cpl), 8)
        } else {
            (2 + 4 * u64::from(cpl), 4)
        };
        // Of the last doubleword only the selector counts.
        let last = offset + if wide { 5 } else { size - 1 };
        if last > tr.limit.into() {
            return Err(Exception::invalid_tss(error_of(tr.selector)));
        }
        let at = tr.base.wrapping_add(offset);
        let (sp, selector) = if wide {
            (
                self.sys_load::<D>(at)?,
                self.sys_load::<W16>(at.wrapping_add(4))? as u16,
            )
        } else {
            (
                self.sys_load::<W16>(at)?,
                self.sys_load::<W16>(at.wrapping_add(2))? as u16,
            )
        };
        if is_null(selector) {
            return Err(Exception::invalid_tss(0));
        }
        let descriptor = self.check_stack(selector, cpl, Exception::invalid_tss)?;
        Ok(InnerStack::Segment(selector, descriptor, sp))
    }

    /// Runs a software interrupt instruction.
    fn software_interrupt(&mut self, insn: &Insn, event: Event) -> Result<(), Exception> {
        let block = self.cpu.regs[Reg::RIP];
        let next = self.next_ip(insn);
        self.set_ip(next);
        self.enter_handler(event)
            .inspect_err(|_| self.cpu.regs[Reg::RIP] = block)
    }
}

/// INT n. SDM vol. 2A.
fn int_n(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    v.software_interrupt(insn, Event::Software(insn.imm as u8))
}

/// INT3.
fn int3(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    v.software_interrupt(insn, Event::SoftwareException(3))
}

/// INT1 (ICEBP): a debug trap as if by hardware, without a bit in DR6.
fn int1(_: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    Err(Exception::debug(true))
}

/// INTO: INT 4 if OF.
fn into(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    if v.cpu.rflags() & bits::OF != 0 {
        return v.software_interrupt(insn, Event::SoftwareException(4));
    }
    let next = v.next_ip(insn);
    v.set_ip(next);
    Ok(())
}

/// BOUND: #BR unless lower <= index <= upper, all signed.
fn bound(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    if insn.iced_code() == Code::Bound_r16_m1616 {
        check_bounds::<W16>(v, insn)
    } else {
        check_bounds::<D>(v, insn)
    }
}

fn check_bounds<W: Width>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let at = v.effective_address(insn);
    let lower = v.load_operand::<W>(insn, at)?;
    let upper = v.load_operand::<W>(insn, at.wrapping_add(W::BYTES) & insn.addr_mask)?;
    let index = W::sext(v.get::<W>(insn.r[0])) as i64;
    if index < W::sext(lower) as i64 || index > W::sext(upper) as i64 {
        return Err(Exception::BoundRange);
    }
    Ok(())
}
