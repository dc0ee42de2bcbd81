//! The rest of the integer instructions: flags, CMPXCHG, XADD, NOPs, fences. SDM vol. 2A and 2B.

use iced_x86::Mnemonic;

use super::form::Target;
use crate::choice::{fixed, generic};
use crate::cpu::Reg;
use crate::cpuid::Feature;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::{FlagOp, bits};
use crate::insn::Insn;
use crate::table::{Native, Row};
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, Width};

type Done = Result<(), Exception>;

const A: u8 = Reg::RAX as u8;

pub(crate) const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Clc, |v, _| carry(v, false)),
    Row::plain(Mnemonic::Stc, |v, _| carry(v, true)),
    Row::plain(Mnemonic::Cmc, |v, _| {
        let old = v.cpu.lazy.cf(v.cpu.rflags);
        carry(v, !old)
    }),
    Row::plain(Mnemonic::Cld, |v, _| direction(v, false)).native(Native::Call),
    Row::plain(Mnemonic::Std, |v, _| direction(v, true)).native(Native::Call),
    Row::plain(Mnemonic::Lahf, lahf),
    Row::plain(Mnemonic::Sahf, sahf),
    Row::new(Mnemonic::Cmpxchg, generic!(Bare cmpxchg)).needs(Feature::I486),
    Row::new(Mnemonic::Xadd, generic!(Changes xadd)).needs(Feature::I486),
    Row::plain(Mnemonic::Cmpxchg8b, cmpxchg8b)
        .native(Native::Call)
        .needs(Feature::Cx8),
    Row::plain(Mnemonic::Cmpxchg16b, cmpxchg16b)
        .native(Native::Call)
        .needs(Feature::Cx16),
    Row::new(Mnemonic::Nop, generic!(Bare no_operation { fixed!(32); })),
    Row::plain(Mnemonic::Pause, pause)
        .ends_block()
        .native(Native::Call),
    // ENDBR, RDSSP, PREFETCH and the like are hints or belong to features that no model has, in the opcodes that the P6
    // made NOPs: the decoder is told to see nothing else in them.
    Row::new(
        Mnemonic::Reservednop,
        generic!(Bare no_operation { fixed!(32); }),
    )
    .needs(Feature::HintNop),
    Row::plain(Mnemonic::Lfence, nop).needs(Feature::Sse2),
    Row::plain(Mnemonic::Mfence, nop).needs(Feature::Sse2),
    Row::plain(Mnemonic::Sfence, nop).needs(Feature::Sse),
    Row::plain(Mnemonic::Clflush, clflush)
        .native(Native::Call)
        .needs(Feature::Clflush),
    Row::plain(Mnemonic::Clflushopt, clflush)
        .native(Native::Call)
        .needs(Feature::Clflushopt),
];

/// PAUSE: this processor spins, so another one has its turn.
fn pause(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    v.give_up_turn();
    Ok(())
}

/// NOP.
#[allow(clippy::extra_unused_type_parameters)] // as every function that `generic!` names
fn no_operation<E: Emit, W: Width>(_: &mut E, _: &Insn) -> Done {
    Ok(())
}

fn nop(_: &mut Vcpu, _: &Insn) -> Done {
    Ok(())
}

/// CLFLUSH: there is no cache to flush, but the address is checked like a load.
fn clflush(v: &mut Vcpu, insn: &Insn) -> Done {
    let offset = v.effective_address(insn);
    v.load_operand::<B>(insn, offset).map(|_| ())
}

fn carry(v: &mut Vcpu, on: bool) -> Done {
    v.set_carry(on);
    Ok(())
}

fn direction(v: &mut Vcpu, down: bool) -> Done {
    if down {
        v.cpu.rflags |= bits::DF;
    } else {
        v.cpu.rflags &= !bits::DF;
    }
    Ok(())
}

fn lahf(v: &mut Vcpu, insn: &Insn) -> Done {
    if insn.has(crate::insn::flag::LONG) && !v.model.has(Feature::LahfLm) {
        return Err(Exception::InvalidOpcode);
    }
    let flags = v.cpu.rflags() & 0xFF | bits::FIXED;
    v.set::<B>(0x20, flags);
    Ok(())
}

fn sahf(v: &mut Vcpu, insn: &Insn) -> Done {
    if insn.has(crate::insn::flag::LONG) && !v.model.has(Feature::LahfLm) {
        return Err(Exception::InvalidOpcode);
    }
    let mask = bits::SF | bits::ZF | bits::AF | bits::PF | bits::CF;
    let flags = v.get::<B>(0x20);
    v.cpu.materialize_flags();
    v.cpu.rflags = (v.cpu.rflags & !mask) | (flags & mask);
    Ok(())
}

/// CMPXCHG: memory is written in either case, so the right to write is checked in either case.
fn cmpxchg<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    let a = e.reg::<W>(A);
    let source = e.reg::<W>(insn.r[1]);
    let old = if insn.is_mem(0) {
        let address = e.address(insn);
        let (old, place) = e.load_for_update::<W>(insn, address)?;
        let other = e.differ(a, old);
        let new = e.select(other, old, source);
        e.store_update::<W>(insn, place, new);
        old
    } else {
        let old = e.reg::<W>(insn.r[0]);
        let difference = e.xor(a, old);
        let equal = e.is_zero(difference);
        e.set_reg_if::<W>(equal, insn.r[0], source);
        old
    };
    let difference = e.sub::<W>(a, old);
    e.set_flags::<W>(FlagOp::Sub, a, old, difference);
    let other = e.differ(a, old);
    e.set_reg_if::<W>(other, A, old);
    Ok(())
}

/// XADD. The source is written first: of one register twice, the sum stays.
fn xadd<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let b = e.reg::<W>(insn.r[1]);
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let sum = e.add::<W>(a, b);
    e.set_reg::<W>(insn.r[1], a);
    T::finish::<E, W>(e, insn, hold, sum);
    e.set_flags::<W>(FlagOp::Add, a, b, sum);
    Ok(())
}

fn set_zero_flag(v: &mut Vcpu, zero: bool) {
    v.cpu.materialize_flags();
    v.cpu.rflags = (v.cpu.rflags & !bits::ZF) | if zero { bits::ZF } else { 0 };
}

/// CMPXCHG8B.
fn cmpxchg8b(v: &mut Vcpu, insn: &Insn) -> Done {
    let pair =
        |v: &Vcpu, high: usize, low: usize| v.get::<D>(high as u8) << 32 | v.get::<D>(low as u8);
    let expected = pair(v, Reg::RDX, Reg::RAX);
    let new = pair(v, Reg::RCX, Reg::RBX);
    let offset = v.effective_address(insn);
    let (old, place) = v.load_for_update::<Q>(insn, offset)?;
    let equal = old == expected;
    v.store_update::<Q>(insn, place, if equal { new } else { old });
    if !equal {
        v.set::<D>(A, old);
        v.set::<D>(Reg::RDX as u8, old >> 32);
    }
    set_zero_flag(v, equal);
    Ok(())
}

/// CMPXCHG16B: the operand must be aligned.
fn cmpxchg16b(v: &mut Vcpu, insn: &Insn) -> Done {
    let offset = v.effective_address(insn);
    let lin = v.operand_linear(insn, offset, 16, true)?;
    if lin & 15 != 0 {
        return Err(Exception::gp(0));
    }
    v.touch(insn.seg_written, lin, 16, true)?;
    let old = v.load_xmm(insn, offset, false)?;
    let pair = |v: &Vcpu, high: usize, low: usize| {
        u128::from(v.cpu.regs[high]) << 64 | u128::from(v.cpu.regs[low])
    };
    let equal = old == pair(v, Reg::RDX, Reg::RAX);
    let new = if equal {
        pair(v, Reg::RCX, Reg::RBX)
    } else {
        old
    };
    v.store_xmm(insn, offset, new, false)?;
    if !equal {
        v.cpu.regs[Reg::RAX] = old as u64;
        v.cpu.regs[Reg::RDX] = (old >> 64) as u64;
    }
    set_zero_flag(v, equal);
    Ok(())
}
