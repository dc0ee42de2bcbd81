//! Far jumps, calls and returns (SDM vol. 2A CALL, JMP; vol. 2B RET; vol. 3A §5.8).

use iced_x86::{Code, Instruction, Mnemonic};

use crate::cpu::{Mode, Reg, Segment, SegmentRegister};
use crate::exception::Exception;
use crate::frame::Frame;
use crate::insn::{ExecFn, Insn};
use crate::ops::task::Source;
use crate::segment::{Descriptor, RPL, TI, error_of, is_null, null_segment, system_type};
use crate::table::Row;
use crate::vcpu::{Vcpu, is_canonical};
use crate::width::{D, Q, W16};

/// The rows; far forms of JMP and CALL are chosen by [`choose`].
pub const ROWS: &[Row] = &[Row::plain(Mnemonic::Retf, retf).branches()];

/// The far forms of JMP and CALL.
pub fn choose(iced: &Instruction) -> Option<ExecFn> {
    match iced.code() {
        Code::Jmp_ptr1616 | Code::Jmp_ptr1632 => Some(jmp_pointer),
        Code::Jmp_m1616 | Code::Jmp_m1632 | Code::Jmp_m1664 => Some(jmp_memory),
        Code::Call_ptr1616 | Code::Call_ptr1632 => Some(call_pointer),
        Code::Call_m1616 | Code::Call_m1632 | Code::Call_m1664 => Some(call_memory),
        _ => None,
    }
}

/// Operand size in bytes of a far transfer, by its form.
fn operand_size(insn: &Insn) -> u8 {
    match insn.iced_code() {
        Code::Jmp_ptr1616 | Code::Jmp_m1616 | Code::Call_ptr1616 | Code::Call_m1616 => 2,
        Code::Retfw | Code::Retfw_imm16 => 2,
        Code::Jmp_m1664 | Code::Call_m1664 | Code::Retfq | Code::Retfq_imm16 => 8,
        _ => 4,
    }
}

fn jmp_pointer(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    jump_far(v, insn, insn.imm2, insn.imm)
}

fn call_pointer(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    call_far(v, insn, insn.imm2, insn.imm)
}

fn jmp_memory(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let (selector, offset) = load_pointer(v, insn, operand_size(insn))?;
    jump_far(v, insn, selector, offset)
}

fn call_memory(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let (selector, offset) = load_pointer(v, insn, operand_size(insn))?;
    call_far(v, insn, selector, offset)
}

/// Loads a far pointer from the memory operand: an offset of `size` bytes, then a selector.
///
/// # Errors
/// As for any load.
pub(crate) fn load_pointer(v: &mut Vcpu, insn: &Insn, size: u8) -> Result<(u16, u64), Exception> {
    let at = v.effective_address(insn);
    let offset = match size {
        2 => v.load_operand::<W16>(insn, at)?,
        4 => v.load_operand::<D>(insn, at)?,
        _ => v.load_operand::<Q>(insn, at)?,
    };
    let behind = at.wrapping_add(size.into()) & insn.addr_mask;
    let selector = v.load_operand::<W16>(insn, behind)? as u16;
    Ok((selector, offset))
}

impl Vcpu {
    /// Loads CS, the CPL and the instruction pointer.
    pub(crate) fn enter_code(&mut self, mut cs: Segment, cpl: u8, ip: u64) {
        cs.selector = (cs.selector & !RPL) | u16::from(cpl);
        self.set_segment(SegmentRegister::CS, cs);
        self.set_cpl(cpl);
        self.set_ip(ip);
        self.update_mode();
    }

    /// Loads CS and IP in real or virtual-8086 mode. The offset has been checked.
    pub(crate) fn enter_real_code(&mut self, selector: u16, ip: u64) {
        let cs = if self.cpu.mode() == Mode::Real {
            self.real_segment(SegmentRegister::CS, selector)
        } else {
            crate::segment::virtual8086_segment(selector)
        };
        self.set_segment(SegmentRegister::CS, cs);
        self.set_ip(ip);
        self.update_mode();
    }

    /// Checks an instruction pointer against the code segment it is for, and truncates it.
    ///
    /// # Errors
    /// #GP(0).
    pub(crate) fn check_far_target(&self, code: &Descriptor, ip: u64) -> Result<u64, Exception> {
        if self.cpu.long_mode() && code.is_long() {
            return if is_canonical(ip) {
                Ok(ip)
            } else {
                Err(Exception::gp(0))
            };
        }
        // All 64 bits that a RETFQ or IRETQ has popped count.
        if ip > code.limit().into() {
            return Err(Exception::gp(0));
        }
        Ok(ip)
    }

    /// L and D set together are reserved in long mode.
    pub(crate) fn check_code_size(
        &self,
        code: &Descriptor,
        selector: u16,
    ) -> Result<(), Exception> {
        if self.cpu.long_mode() && code.is_long() && code.big() {
            return Err(Exception::gp(error_of(selector)));
        }
        Ok(())
    }
}

fn jump_far(v: &mut Vcpu, insn: &Insn, selector: u16, offset: u64) -> Result<(), Exception> {
    if !v.cpu.uses_descriptors() {
        check_real_target(v, selector, offset)?;
        v.enter_real_code(selector, offset);
        return Ok(());
    }
    if is_null(selector) {
        return Err(Exception::gp(0));
    }
    let mut target = v.read_descriptor(selector, Exception::gp)?;
    if target.is_segment() {
        check_direct(v, &target, selector)?;
        let ip = v.check_far_target(&target, offset)?;
        v.mark_accessed(&mut target)?;
        let cpl = v.cpu.cpl;
        v.enter_code(target.segment(selector), cpl, ip);
        return Ok(());
    }
    match system_target(v, selector, &mut target)? {
        SystemTarget::Task(tss_selector, tss) => {
            let next_ip = v.next_ip(insn);
            v.switch_task_from_code(tss_selector, tss, Source::Jump, next_ip)
        }
        SystemTarget::Gate => {
            let (code_selector, mut code) = gate_code(v, &target)?;
            // JMP goes through a call gate without a change of privilege only.
            let allowed = if code.is_conforming() {
                code.dpl() <= v.cpu.cpl
            } else {
                code.dpl() == v.cpu.cpl
            };
            if !allowed {
                return Err(Exception::gp(error_of(code_selector)));
            }
            check_present(&code, code_selector)?;
            let ip = v.check_far_target(&code, target.gate_offset())?;
            v.mark_accessed(&mut code)?;
            let cpl = v.cpu.cpl;
            v.enter_code(code.segment(code_selector), cpl, ip);
            Ok(())
        }
    }
}

fn call_far(v: &mut Vcpu, insn: &Insn, selector: u16, offset: u64) -> Result<(), Exception> {
    let size = operand_size(insn);
    let next_ip = v.next_ip(insn);
    let old_cs = v.cpu.segs[SegmentRegister::CS].selector;
    let mut frame = Frame::on_current(v, Exception::stack(0));
    if !v.cpu.uses_descriptors() {
        frame.push(size, old_cs.into())?;
        frame.push(size, next_ip)?;
        check_real_target(v, selector, offset)?;
        frame.check(v)?;
        frame.store(v)?;
        frame.commit_sp(v);
        v.enter_real_code(selector, offset);
        return Ok(());
    }
    if is_null(selector) {
        return Err(Exception::gp(0));
    }
    let mut target = v.read_descriptor(selector, Exception::gp)?;
    if target.is_segment() {
        check_direct(v, &target, selector)?;
        frame.push(size, old_cs.into())?;
        frame.push(size, next_ip)?;
        let ip = v.check_far_target(&target, offset)?;
        frame.check(v)?;
        v.mark_accessed(&mut target)?;
        frame.store(v)?;
        frame.commit_sp(v);
        let cpl = v.cpu.cpl;
        v.enter_code(target.segment(selector), cpl, ip);
        return Ok(());
    }
    match system_target(v, selector, &mut target)? {
        SystemTarget::Task(tss_selector, tss) => {
            v.switch_task_from_code(tss_selector, tss, Source::Call, next_ip)
        }
        SystemTarget::Gate => call_gate(v, &target, next_ip),
    }
}

fn check_real_target(v: &Vcpu, _selector: u16, offset: u64) -> Result<(), Exception> {
    let limit = if v.cpu.mode() == Mode::Real {
        v.cpu.segs[SegmentRegister::CS].limit
    } else {
        0xFFFF
    };
    if offset > limit.into() {
        return Err(Exception::gp(0));
    }
    Ok(())
}

fn check_present(code: &Descriptor, selector: u16) -> Result<(), Exception> {
    if code.present() {
        Ok(())
    } else {
        Err(Exception::not_present(error_of(selector)))
    }
}

/// The checks of a transfer straight to a code segment: the privilege level stays.
fn check_direct(v: &Vcpu, code: &Descriptor, selector: u16) -> Result<(), Exception> {
    let error = error_of(selector);
    if !code.is_code() {
        return Err(Exception::gp(error));
    }
    v.check_code_size(code, selector)?;
    let cpl = v.cpu.cpl;
    let allowed = if code.is_conforming() {
        code.dpl() <= cpl
    } else {
        (selector & RPL) as u8 <= cpl && code.dpl() == cpl
    };
    if !allowed {
        return Err(Exception::gp(error));
    }
    check_present(code, selector)
}

enum SystemTarget {
    Task(u16, Descriptor),
    Gate,
}

/// What a system descriptor as a far target means, with the checks of the descriptor itself.
fn system_target(
    v: &mut Vcpu,
    selector: u16,
    target: &mut Descriptor,
) -> Result<SystemTarget, Exception> {
    use system_type::{CALL_GATE, CALL_GATE16, TASK_GATE, TSS_AVAILABLE, TSS16_AVAILABLE};
    let error = error_of(selector);
    let allowed = target.dpl() >= v.cpu.cpl && target.dpl() >= (selector & RPL) as u8;
    let long = v.cpu.long_mode();
    match target.kind() {
        CALL_GATE => {
            if long {
                v.widen_descriptor(selector, target, Exception::gp)?;
            }
        }
        CALL_GATE16 | TASK_GATE | TSS_AVAILABLE | TSS16_AVAILABLE if !long => {}
        _ => return Err(Exception::gp(error)),
    }
    if !allowed {
        return Err(Exception::gp(error));
    }
    match target.kind() {
        TSS_AVAILABLE | TSS16_AVAILABLE => {
            if selector & TI != 0 {
                return Err(Exception::gp(error));
            }
            check_present(target, selector)?;
            Ok(SystemTarget::Task(selector, *target))
        }
        TASK_GATE => {
            check_present(target, selector)?;
            let (tss_selector, tss) = v.task_gate_target(target)?;
            Ok(SystemTarget::Task(tss_selector, tss))
        }
        _ => {
            check_present(target, selector)?;
            Ok(SystemTarget::Gate)
        }
    }
}

/// The code segment of a call gate, checked but for privilege and presence.
fn gate_code(v: &mut Vcpu, gate: &Descriptor) -> Result<(u16, Descriptor), Exception> {
    let selector = gate.gate_selector();
    if is_null(selector) {
        return Err(Exception::gp(0));
    }
    let code = v.read_descriptor(selector, Exception::gp)?;
    let error = error_of(selector);
    if !code.is_code() || code.dpl() > v.cpu.cpl {
        return Err(Exception::gp(error));
    }
    if v.cpu.long_mode() && (!code.is_long() || code.big()) {
        return Err(Exception::gp(error));
    }
    Ok((selector, code))
}

fn call_gate(v: &mut Vcpu, gate: &Descriptor, next_ip: u64) -> Result<(), Exception> {
    let long = v.cpu.long_mode();
    let (code_selector, mut code) = gate_code(v, gate)?;
    check_present(&code, code_selector)?;
    let size = match (long, gate.kind()) {
        (true, _) => 8,
        (false, system_type::CALL_GATE16) => 2,
        _ => 4,
    };
    let old_cs = v.cpu.segs[SegmentRegister::CS].selector;
    let inner = !code.is_conforming() && code.dpl() < v.cpu.cpl;
    if !inner {
        let mut frame = if long {
            Frame::on_long(
                v,
                v.cpu.regs[Reg::RSP] & v.sp_mask,
                v.cpu.cpl,
                Exception::stack(0),
            )
        } else {
            Frame::on_current(v, Exception::stack(0))
        };
        frame.push(size, old_cs.into())?;
        frame.push(size, next_ip)?;
        let ip = v.check_far_target(&code, gate.gate_offset())?;
        frame.check(v)?;
        v.mark_accessed(&mut code)?;
        frame.store(v)?;
        frame.commit_sp(v);
        let cpl = v.cpu.cpl;
        v.enter_code(code.segment(code_selector), cpl, ip);
        return Ok(());
    }
    let cpl = code.dpl();
    let old_ss = v.cpu.segs[SegmentRegister::SS].selector;
    let old_sp = v.cpu.regs[Reg::RSP];
    let stack = v.inner_stack(cpl)?;
    let mut frame = stack.frame(v, cpl);
    frame.push(size, old_ss.into())?;
    frame.push(size, old_sp)?;
    if !long {
        // The parameters keep their order: the last pushed goes on the new stack last.
        for n in (0..u64::from(gate.gate_count())).rev() {
            let at = old_sp.wrapping_add(n * u64::from(size)) & v.sp_mask;
            let value = if size == 2 {
                v.load_seg::<W16>(SegmentRegister::SS, at)?
            } else {
                v.load_seg::<D>(SegmentRegister::SS, at)?
            };
            frame.push(size, value)?;
        }
    }
    frame.push(size, old_cs.into())?;
    frame.push(size, next_ip)?;
    let ip = v.check_far_target(&code, gate.gate_offset())?;
    frame.check(v)?;
    v.mark_accessed(&mut code)?;
    let ss = stack.accessed_segment(v)?;
    frame.store(v)?;
    v.set_segment(SegmentRegister::SS, ss);
    frame.commit_sp(v);
    v.enter_code(code.segment(code_selector), cpl, ip);
    Ok(())
}

/// RET far. SDM vol. 2B.
fn retf(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let size = operand_size(insn);
    let step = u64::from(size);
    let extra = insn.imm & 0xFFFF;
    let sp = v.cpu.regs[Reg::RSP];
    let ip = peek(v, sp, size)?;
    let selector = peek(v, sp.wrapping_add(step), size)? as u16;
    let after = sp.wrapping_add(2 * step).wrapping_add(extra);
    if !v.cpu.uses_descriptors() {
        check_real_target(v, selector, ip)?;
        v.set_sp(after);
        v.enter_real_code(selector, ip);
        return Ok(());
    }
    let mut code = return_code(v, selector)?;
    let cpl = (selector & RPL) as u8;
    if cpl == v.cpu.cpl {
        let ip = v.check_far_target(&code, ip)?;
        v.mark_accessed(&mut code)?;
        v.set_sp(after);
        v.enter_code(code.segment(selector), cpl, ip);
        return Ok(());
    }
    let new_sp = peek(v, after, size)?;
    let ss_selector = peek(v, after.wrapping_add(step), size)? as u16;
    return_with_stack(v, selector, code, ip, ss_selector)?;
    v.set_sp(new_sp.wrapping_add(extra));
    Ok(())
}

/// Reads from the current stack at `sp`, in the stack's width, without popping.
///
/// # Errors
/// As for any load through SS.
pub(crate) fn peek(v: &mut Vcpu, sp: u64, size: u8) -> Result<u64, Exception> {
    let at = sp & v.sp_mask;
    match size {
        2 => v.load_seg::<W16>(SegmentRegister::SS, at),
        4 => v.load_seg::<D>(SegmentRegister::SS, at),
        _ => v.load_seg::<Q>(SegmentRegister::SS, at),
    }
}

/// The code segment that a far return or IRET goes to, with all checks of its descriptor.
///
/// # Errors
/// #GP, #NP, #PF.
pub(crate) fn return_code(v: &mut Vcpu, selector: u16) -> Result<Descriptor, Exception> {
    if is_null(selector) {
        return Err(Exception::gp(0));
    }
    let error = error_of(selector);
    let code = v.read_descriptor(selector, Exception::gp)?;
    let rpl = (selector & RPL) as u8;
    if !code.is_code() || rpl < v.cpu.cpl {
        return Err(Exception::gp(error));
    }
    v.check_code_size(&code, selector)?;
    let allowed = if code.is_conforming() {
        code.dpl() <= rpl
    } else {
        code.dpl() == rpl
    };
    if !allowed {
        return Err(Exception::gp(error));
    }
    check_present(&code, selector)?;
    Ok(code)
}

/// Goes back to code that gets its own stack: checks the stack segment and the target, loads SS, CS,
/// the CPL and the instruction pointer, and drops the segments that an outer level may not use. The
/// stack pointer is left to the caller.
///
/// # Errors
/// #GP, #SS, #PF; nothing is changed then.
pub(crate) fn return_with_stack(
    v: &mut Vcpu,
    selector: u16,
    mut code: Descriptor,
    ip: u64,
    ss_selector: u16,
) -> Result<(), Exception> {
    let cpl = (selector & RPL) as u8;
    let outer = cpl > v.cpu.cpl;
    let stack = if is_null(ss_selector) {
        // SDM vol. 2B, RET: a null SS is for 64-bit code below CPL 3.
        let allowed =
            v.cpu.long_mode() && code.is_long() && cpl != 3 && (ss_selector & RPL) as u8 == cpl;
        if !allowed {
            return Err(Exception::gp(0));
        }
        None
    } else {
        Some(v.check_stack(ss_selector, cpl, Exception::gp)?)
    };
    let ip = v.check_far_target(&code, ip)?;
    v.mark_accessed(&mut code)?;
    let ss = match stack {
        Some(mut descriptor) => {
            v.mark_accessed(&mut descriptor)?;
            descriptor.segment(ss_selector)
        }
        None => null_segment(ss_selector),
    };
    v.set_segment(SegmentRegister::SS, ss);
    v.enter_code(code.segment(selector), cpl, ip);
    if outer {
        v.drop_inner_segments();
        v.update_mode();
    }
    Ok(())
}
