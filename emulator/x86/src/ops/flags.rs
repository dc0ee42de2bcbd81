//! PUSHF, POPF, CLI, STI (SDM vol. 2; vol. 3A §20.3 for VME, §20.4 for PVI).

use iced_x86::{Code, Mnemonic};

use crate::cpu::{Mode, Reg, control};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::Insn;
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::{D, Q, W16};

/// The rows.
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Pushf, pushf),
    Row::plain(Mnemonic::Pushfd, pushf),
    Row::plain(Mnemonic::Pushfq, pushf),
    Row::plain(Mnemonic::Popf, popf).ends_block(),
    Row::plain(Mnemonic::Popfd, popf).ends_block(),
    Row::plain(Mnemonic::Popfq, popf).ends_block(),
    Row::plain(Mnemonic::Cli, cli).ends_block(),
    Row::plain(Mnemonic::Sti, sti).ends_block(),
    Row::plain(Mnemonic::Stac, stac)
        .needs(Feature::Smap)
        .ends_block(),
    Row::plain(Mnemonic::Clac, clac)
        .needs(Feature::Smap)
        .ends_block(),
];

impl Vcpu {
    /// The bits of RFLAGS, without VM, that the model has: AC came with the i486, ID with CPUID, VIF
    /// and VIP with VME.
    pub(crate) fn writable_flags(&self) -> u64 {
        let mut mask =
            bits::ARITH | bits::TF | bits::IF | bits::DF | bits::IOPL | bits::NT | bits::RF;
        for (feature, flags) in [
            (Feature::I486, bits::AC),
            (Feature::Cpuid, bits::ID),
            (Feature::Vme, bits::VIF | bits::VIP),
        ] {
            if self.model.has(feature) {
                mask |= flags;
            }
        }
        mask
    }
}

fn size_of(insn: &Insn) -> u8 {
    match insn.iced_code() {
        Code::Pushfw | Code::Popfw => 2,
        Code::Pushfq | Code::Popfq => 8,
        _ => 4,
    }
}

fn pushf(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let size = size_of(insn);
    let mut flags = v.cpu.rflags() & !(bits::RF | bits::VM);
    if v.cpu.mode() == Mode::Virtual8086 && v.cpu.iopl() < 3 {
        if size != 2 || v.cpu.cr4 & control::CR4_VME == 0 {
            return Err(Exception::gp(0));
        }
        let on = flags & bits::VIF != 0;
        flags = (flags & !bits::IF) | bits::IOPL | if on { bits::IF } else { 0 };
    }
    match size {
        2 => v.push_value::<W16>(flags & 0xFFFF),
        4 => v.push_value::<D>(flags),
        _ => v.push_value::<Q>(flags),
    }
}

fn popf(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let size = size_of(insn);
    let sp = v.cpu.regs[Reg::RSP];
    let virtual8086 = v.cpu.mode() == Mode::Virtual8086;
    let emulated = virtual8086 && v.cpu.iopl() < 3;
    if emulated && (size != 2 || v.cpu.cr4 & control::CR4_VME == 0) {
        return Err(Exception::gp(0));
    }
    let mut flags = crate::ops::far::peek(v, sp, size)?;
    let mut mask = bits::ARITH | bits::TF | bits::DF | bits::NT;
    if emulated {
        if flags & bits::TF != 0 || flags & bits::IF != 0 && v.cpu.rflags & bits::VIP != 0 {
            return Err(Exception::gp(0));
        }
        flags &= !bits::VIF;
        if flags & bits::IF != 0 {
            flags |= bits::VIF;
        }
        mask |= bits::VIF;
    } else {
        if v.cpu.cpl <= v.cpu.iopl() {
            mask |= bits::IF;
        }
        if v.cpu.cpl == 0 {
            mask |= bits::IOPL;
        }
        if size > 2 {
            mask |= bits::AC | bits::ID;
        }
    }
    v.set_sp(sp.wrapping_add(size.into()));
    v.write_rflags(flags & !bits::RF, (mask & v.writable_flags()) | bits::RF);
    Ok(())
}

/// Which flag CLI and STI change: IF, or VIF where the monitor keeps the real one.
///
/// # Errors
/// #GP(0) where neither may be changed.
fn interrupt_flag(v: &Vcpu) -> Result<u64, Exception> {
    let cpu = &v.cpu;
    if cpu.cpl <= cpu.iopl() {
        return Ok(bits::IF);
    }
    let extension = match cpu.mode() {
        Mode::Virtual8086 => control::CR4_VME,
        _ => control::CR4_PVI,
    };
    if cpu.cpl == 3 && cpu.cr4 & extension != 0 {
        Ok(bits::VIF)
    } else {
        Err(Exception::gp(0))
    }
}

fn cli(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    let flag = interrupt_flag(v)?;
    v.cpu.rflags &= !flag;
    Ok(())
}

fn sti(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    let flag = interrupt_flag(v)?;
    if flag == bits::VIF {
        if v.cpu.rflags & bits::VIP != 0 {
            return Err(Exception::gp(0));
        }
    } else if v.cpu.rflags & bits::IF == 0 {
        // Interrupts wait for one more instruction.
        v.cpu.shadow |= 1;
    }
    v.cpu.rflags |= flag;
    v.update_mode();
    Ok(())
}

/// STAC and CLAC: CPL 0 only, #UD otherwise.
fn stac(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    if v.cpu.cpl != 0 {
        return Err(Exception::InvalidOpcode);
    }
    v.cpu.rflags |= bits::AC;
    v.update_mode();
    Ok(())
}

fn clac(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    if v.cpu.cpl != 0 {
        return Err(Exception::InvalidOpcode);
    }
    v.cpu.rflags &= !bits::AC;
    v.update_mode();
    Ok(())
}
