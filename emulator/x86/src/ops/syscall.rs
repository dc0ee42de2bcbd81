//! SYSENTER, SYSEXIT, SYSCALL, SYSRET, with Intel's mode rules (SDM vol. 2B).

use iced_x86::{Code, Mnemonic};

use crate::cpu::{Mode, Reg, Segment, SegmentRegister, control};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::Insn;
use crate::run::dr6;
use crate::table::Row;
use crate::vcpu::{Vcpu, is_canonical};

/// The rows.
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Sysenter, sysenter)
        .needs(Feature::Sep)
        .branches(),
    Row::plain(Mnemonic::Sysexit, sysexit)
        .needs(Feature::Sep)
        .branches(),
    Row::plain(Mnemonic::Sysexitq, sysexit)
        .needs(Feature::Sep)
        .branches(),
    Row::plain(Mnemonic::Syscall, syscall)
        .needs(Feature::Syscall)
        .branches(),
    Row::plain(Mnemonic::Sysret, sysret)
        .needs(Feature::Syscall)
        .branches(),
    Row::plain(Mnemonic::Sysretq, sysret)
        .needs(Feature::Syscall)
        .branches(),
];

/// A flat code segment; `long` makes it a 64-bit one.
fn flat_code(selector: u16, dpl: u8, long: bool) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: !0,
        attributes: Segment::P
            | Segment::S
            | Segment::TYPE_CODE
            | Segment::TYPE_READABLE
            | Segment::TYPE_ACCESSED
            | Segment::G
            | u16::from(dpl) << 5
            | if long { Segment::L } else { Segment::DB },
    }
}

fn flat_stack(selector: u16, dpl: u8) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: !0,
        attributes: Segment::P
            | Segment::S
            | Segment::TYPE_WRITABLE
            | Segment::TYPE_ACCESSED
            | Segment::G
            | Segment::DB
            | u16::from(dpl) << 5,
    }
}

fn enter(v: &mut Vcpu, cs: u16, ss: u16, cpl: u8, long: bool, ip: u64) {
    v.set_segment(SegmentRegister::SS, flat_stack(ss, cpl));
    v.enter_code(flat_code(cs, cpl, long), cpl, ip);
}

fn sysenter(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    let cs = v.cpu.msr.sysenter_cs as u16 & !3;
    if v.cpu.cr0 & control::CR0_PE == 0 || cs == 0 {
        return Err(Exception::gp(0));
    }
    let long = v.cpu.long_mode();
    let width = if long { !0 } else { 0xFFFF_FFFF };
    v.cpu.rflags &= !(bits::VM | bits::IF | bits::RF);
    v.cpu.regs[Reg::RSP] = v.cpu.msr.sysenter_esp & width;
    let ip = v.cpu.msr.sysenter_eip & width;
    enter(v, cs, cs.wrapping_add(8), 0, long, ip);
    Ok(())
}

fn sysexit(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let cs = v.cpu.msr.sysenter_cs as u16 & !3;
    if v.cpu.cr0 & control::CR0_PE == 0 || v.cpu.cpl != 0 || cs == 0 {
        return Err(Exception::gp(0));
    }
    let (mut sp, mut ip) = (v.cpu.regs[Reg::RCX], v.cpu.regs[Reg::RDX]);
    let long = insn.iced_code() == Code::Sysexitq;
    let (code, stack) = if long {
        if !is_canonical(sp) || !is_canonical(ip) {
            return Err(Exception::gp(0));
        }
        (cs.wrapping_add(32), cs.wrapping_add(40))
    } else {
        sp &= 0xFFFF_FFFF;
        ip &= 0xFFFF_FFFF;
        (cs.wrapping_add(16), cs.wrapping_add(24))
    };
    v.cpu.regs[Reg::RSP] = sp;
    enter(v, code | 3, stack | 3, 3, long, ip);
    Ok(())
}

fn check_syscall(v: &Vcpu) -> Result<(), Exception> {
    if v.cpu.mode() != Mode::Long || v.cpu.efer & control::EFER_SCE == 0 {
        return Err(Exception::InvalidOpcode);
    }
    Ok(())
}

fn syscall(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    check_syscall(v)?;
    v.cpu.materialize_flags();
    v.cpu.regs[Reg::RCX] = v.next_ip(insn);
    v.cpu.regs[11] = v.cpu.rflags & !bits::RF;
    let keep = !(v.cpu.msr.sfmask | bits::RF);
    v.cpu.rflags = (v.cpu.rflags & keep) | bits::FIXED;
    if v.cpu.rflags & bits::TF == 0 {
        // The kernel's mask takes the single-step trap of SYSCALL itself away too.
        v.cpu.pending_debug &= !dr6::BS;
    }
    let cs = (v.cpu.msr.star >> 32) as u16 & !3;
    let ip = v.cpu.msr.lstar;
    enter(v, cs, cs.wrapping_add(8), 0, true, ip);
    Ok(())
}

/// SYSRET. SDM vol. 2B. That it traps by the TF of R11 the manual leaves open: processors do it as if the SYSCALL
/// had only then completed, which debuggers that step over a SYSCALL rely on.
fn sysret(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    check_syscall(v)?;
    let mut ip = v.cpu.regs[Reg::RCX];
    let long = insn.iced_code() == Code::Sysretq;
    if v.cpu.cpl != 0 || long && !is_canonical(ip) {
        return Err(Exception::gp(0));
    }
    if !long {
        ip &= 0xFFFF_FFFF;
    }
    let base = (v.cpu.msr.star >> 48) as u16;
    let cs = base.wrapping_add(if long { 16 } else { 0 }) | 3;
    let ss = base.wrapping_add(8) | 3;
    enter(v, cs, ss, 3, long, ip);
    let flags = v.cpu.regs[11] & !(bits::RF | bits::VM);
    let mask = v.writable_flags() | bits::VM;
    v.write_rflags(flags, mask);
    // The trap follows the TF that SYSRET loads, at once, and not, as after POPF and IRET, an instruction later.
    if v.cpu.rflags & bits::TF != 0 {
        v.cpu.pending_debug |= dr6::BS;
    } else {
        v.cpu.pending_debug &= !dr6::BS;
    }
    Ok(())
}
