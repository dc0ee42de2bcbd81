//! IRET (SDM vol. 2A).

use iced_x86::{Code, Mnemonic};

use crate::cpu::{Mode, Reg, SegmentRegister, control};
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::Insn;
use crate::ops::far::{peek, return_code, return_with_stack};
use crate::ops::task::Source;
use crate::segment::{RPL, TI, error_of, system_type, virtual8086_segment};
use crate::table::Row;
use crate::vcpu::{Vcpu, attention};
use crate::width::W16;

/// The rows.
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Iret, iret).branches(),
    Row::plain(Mnemonic::Iretd, iret).branches(),
    Row::plain(Mnemonic::Iretq, iret).branches(),
];

/// The flags that any IRET loads.
const ALWAYS: u64 = bits::ARITH | bits::TF | bits::DF | bits::NT;
/// Those that only 32-bit and 64-bit operands load.
const WIDE: u64 = bits::RF | bits::AC | bits::ID;

struct Popped {
    ip: u64,
    selector: u16,
    flags: u64,
    size: u8,
    /// The stack pointer behind them.
    sp: u64,
}

fn iret(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let size = match insn.iced_code() {
        Code::Iretw => 2,
        Code::Iretd => 4,
        _ => 8,
    };
    // NMIs are let in again even when IRET faults (SDM vol. 3A §6.7.1).
    if v.cpu.nmi_blocked {
        v.cpu.nmi_blocked = false;
        v.attention |= attention::INTERRUPT;
    }
    match v.cpu.mode() {
        Mode::Real => iret_real(v, size),
        Mode::Virtual8086 => iret_virtual8086(v, size),
        Mode::Protected if v.cpu.rflags & bits::NT != 0 => iret_task(v, insn),
        Mode::Protected => iret_protected(v, size),
        Mode::Compatibility | Mode::Long if v.cpu.rflags & bits::NT != 0 => Err(Exception::gp(0)),
        Mode::Compatibility => iret_protected(v, size),
        Mode::Long => iret_long(v, size),
    }
}

fn pop_frame(v: &mut Vcpu, size: u8) -> Result<Popped, Exception> {
    let (sp, step) = (v.cpu.regs[Reg::RSP], u64::from(size));
    Ok(Popped {
        ip: peek(v, sp, size)?,
        selector: peek(v, sp.wrapping_add(step), size)? as u16,
        flags: peek(v, sp.wrapping_add(2 * step), size)?,
        size,
        sp: sp.wrapping_add(3 * step),
    })
}

fn iret_real(v: &mut Vcpu, size: u8) -> Result<(), Exception> {
    let frame = pop_frame(v, size)?;
    if frame.ip > v.cpu.segs[SegmentRegister::CS].limit.into() {
        return Err(Exception::gp(0));
    }
    v.set_sp(frame.sp);
    v.enter_real_code(frame.selector, frame.ip);
    let mut mask = ALWAYS | bits::IF | bits::IOPL;
    if size > 2 {
        mask |= WIDE;
    }
    v.write_rflags(frame.flags, mask & v.writable_flags());
    Ok(())
}

fn iret_virtual8086(v: &mut Vcpu, size: u8) -> Result<(), Exception> {
    let iopl3 = v.cpu.iopl() == 3;
    if !iopl3 && (size != 2 || v.cpu.cr4 & control::CR4_VME == 0) {
        return Err(Exception::gp(0));
    }
    let frame = pop_frame(v, size)?;
    if frame.ip > 0xFFFF {
        return Err(Exception::gp(0));
    }
    let (mut flags, mut mask) = (frame.flags, ALWAYS);
    if iopl3 {
        mask |= bits::IF;
        if size > 2 {
            mask |= WIDE;
        }
    } else {
        // IF stands for VIF: SDM vol. 3A §20.3.3.4.
        if flags & bits::TF != 0 || flags & bits::IF != 0 && v.cpu.rflags & bits::VIP != 0 {
            return Err(Exception::gp(0));
        }
        flags &= !bits::VIF;
        if flags & bits::IF != 0 {
            flags |= bits::VIF;
        }
        mask |= bits::VIF;
    }
    v.set_sp(frame.sp);
    v.enter_real_code(frame.selector, frame.ip);
    v.write_rflags(flags, mask & v.writable_flags());
    Ok(())
}

/// The return from a nested task: SDM vol. 3A §7.4.
fn iret_task(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let tr = v.cpu.segs[SegmentRegister::TR];
    let selector = v.sys_load::<W16>(tr.base)? as u16;
    let error = error_of(selector);
    if selector & TI != 0 {
        return Err(Exception::invalid_tss(error));
    }
    let tss = v.read_descriptor(selector, Exception::invalid_tss)?;
    if !tss.is_system(system_type::TSS_BUSY) && !tss.is_system(system_type::TSS16_BUSY) {
        return Err(Exception::invalid_tss(error));
    }
    if !tss.present() {
        return Err(Exception::not_present(error));
    }
    let next_ip = v.next_ip(insn);
    v.switch_task_from_code(selector, tss, Source::Return, next_ip)
}

/// What of RFLAGS the popped image may change at the present CPL and IOPL.
fn flags_mask(v: &Vcpu, size: u8) -> u64 {
    let mut mask = ALWAYS;
    if size > 2 {
        mask |= WIDE;
    }
    if v.cpu.cpl <= v.cpu.iopl() {
        mask |= bits::IF;
    }
    if v.cpu.cpl == 0 {
        mask |= bits::IOPL;
        if size > 2 {
            mask |= bits::VIF | bits::VIP;
        }
    }
    mask & v.writable_flags()
}

fn iret_protected(v: &mut Vcpu, size: u8) -> Result<(), Exception> {
    let frame = pop_frame(v, size)?;
    if size == 4 && frame.flags & bits::VM != 0 && v.cpu.cpl == 0 && !v.cpu.long_mode() {
        return to_virtual8086(v, &frame);
    }
    let mut code = return_code(v, frame.selector)?;
    let mask = flags_mask(v, size);
    let cpl = (frame.selector & RPL) as u8;
    if cpl != v.cpu.cpl {
        return with_stack(v, &frame, mask);
    }
    let ip = v.check_far_target(&code, frame.ip)?;
    v.mark_accessed(&mut code)?;
    v.set_sp(frame.sp);
    v.enter_code(code.segment(frame.selector), cpl, ip);
    v.write_rflags(frame.flags, mask);
    Ok(())
}

/// From 64-bit mode IRET always pops SS and RSP.
fn iret_long(v: &mut Vcpu, size: u8) -> Result<(), Exception> {
    let frame = pop_frame(v, size)?;
    let mask = flags_mask(v, size);
    with_stack(v, &frame, mask)
}

fn with_stack(v: &mut Vcpu, frame: &Popped, mask: u64) -> Result<(), Exception> {
    let new_sp = peek(v, frame.sp, frame.size)?;
    let ss_selector = peek(v, frame.sp.wrapping_add(frame.size.into()), frame.size)? as u16;
    let code = return_code(v, frame.selector)?;
    return_with_stack(v, frame.selector, code, frame.ip, ss_selector)?;
    v.set_sp(new_sp);
    v.write_rflags(frame.flags, mask);
    Ok(())
}

/// The way into virtual-8086 mode: SDM vol. 3A §20.2.5.
fn to_virtual8086(v: &mut Vcpu, frame: &Popped) -> Result<(), Exception> {
    let mut rest = [0; 6];
    for (n, slot) in rest.iter_mut().enumerate() {
        *slot = peek(v, frame.sp.wrapping_add(4 * n as u64), 4)?;
    }
    if frame.ip > 0xFFFF {
        return Err(Exception::gp(0));
    }
    let [sp, ss, es, ds, fs, gs] = rest;
    for (seg, selector) in [
        (SegmentRegister::SS, ss),
        (SegmentRegister::ES, es),
        (SegmentRegister::DS, ds),
        (SegmentRegister::FS, fs),
        (SegmentRegister::GS, gs),
        (SegmentRegister::CS, frame.selector.into()),
    ] {
        v.set_segment(seg, virtual8086_segment(selector as u16));
    }
    v.cpu.regs[Reg::RSP] = sp & 0xFFFF_FFFF;
    v.set_cpl(3);
    v.set_ip(frame.ip);
    let mask = ALWAYS | WIDE | bits::IF | bits::IOPL | bits::VIF | bits::VIP;
    v.write_rflags(frame.flags, (mask & v.writable_flags()) | bits::VM);
    Ok(())
}
