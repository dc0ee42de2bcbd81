//! x87 comparisons: FCOM, FUCOM, FICOM, FCOMI, FUCOMI, FTST, FXAM. SDM vol. 2A.

use iced_x86::{Instruction, MemorySize, Mnemonic};

use super::x87::{context, note, settle, stack_fault, status, wait};
use super::x87_arith::{Source, load_source};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::flags::{FlagOp, bits};
use crate::insn::{ExecFn, Insn};
use crate::softfloat::{Context, F32, F64, F80, F80Class, Operand, Relation};
use crate::table::{Native, Row};
use crate::vcpu::Vcpu;

use status::{C0, C1, C2, C3, CONDITION};

#[inline(always)]
fn compare<const QUIET: bool>(a: F80, b: impl Operand, ctx: &mut Context) -> Relation {
    if QUIET {
        F80::compare_quiet(a, b, ctx)
    } else {
        F80::compare_signalling(a, b, ctx)
    }
}

fn set_condition(v: &mut Vcpu, relation: Relation) {
    let condition = match relation {
        Relation::Greater => 0,
        Relation::Less => C0,
        Relation::Equal => C3,
        Relation::Unordered => CONDITION,
    };
    v.cpu.x87.status = v.cpu.x87.status & !CONDITION | condition;
}

fn set_flags(v: &mut Vcpu, relation: Relation) {
    let flags = match relation {
        Relation::Greater => 0,
        Relation::Less => bits::CF,
        Relation::Equal => bits::ZF,
        Relation::Unordered => bits::ZF | bits::PF | bits::CF,
    };
    v.cpu.lazy.op = FlagOp::Explicit;
    v.cpu.rflags = v.cpu.rflags & !bits::ARITH | flags;
}

/// Compares ST(0) with `other` (`None`: an empty register), delivers by `set` and pops `pops` times. An unmasked
/// exception prevents the pops only: hardware delivers the relation all the same.
#[inline(always)]
fn run<const QUIET: bool>(
    v: &mut Vcpu,
    insn: &Insn,
    other: Option<impl Operand>,
    pops: u8,
    set: fn(&mut Vcpu, Relation),
) {
    let done = match other {
        Some(other) if !v.cpu.x87.is_empty(0) => {
            let mut ctx = context(v);
            let relation = compare::<QUIET>(v.cpu.x87.get(0), other, &mut ctx);
            settle(v, insn, &ctx);
            set(v, relation);
            !ctx.aborts()
        }
        _ => {
            set(v, Relation::Unordered);
            stack_fault(v, insn, false)
        }
    };
    if done {
        for _ in 0..pops {
            v.cpu.x87.pop();
        }
    }
}

/// FCOM, FUCOM with ST(i), which pop `POPS` times.
fn register<const QUIET: bool, const POPS: u8>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    // FCOMPP and FUCOMPP have no operands: they compare with ST(1).
    let i = if POPS == 2 { 1 } else { insn.r[1] };
    let other = (!v.cpu.x87.is_empty(i)).then(|| v.cpu.x87.get(i));
    run::<QUIET>(v, insn, other, POPS, set_condition);
    Ok(())
}

/// FCOMI, FUCOMI.
fn to_flags<const QUIET: bool, const POPS: u8>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    let i = insn.r[1];
    let other = (!v.cpu.x87.is_empty(i)).then(|| v.cpu.x87.get(i));
    run::<QUIET>(v, insn, other, POPS, set_flags);
    Ok(())
}

/// FCOM, FICOM with memory.
fn memory<S: Source, const POPS: u8>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    let source: S = load_source(v, insn)?;
    note(v, insn);
    run::<false>(v, insn, Some(source), POPS, set_condition);
    Ok(())
}

fn choose<const POPS: u8>(insn: &Instruction) -> Option<ExecFn> {
    Some(match insn.memory_size() {
        MemorySize::Float32 => memory::<F32, POPS>,
        MemorySize::Float64 => memory::<F64, POPS>,
        MemorySize::Int16 => memory::<i16, POPS>,
        MemorySize::Int32 => memory::<i32, POPS>,
        _ => register::<false, POPS>,
    })
}

/// FTST.
fn ftst(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    run::<false>(v, insn, Some(F80::ZERO), 0, set_condition);
    Ok(())
}

/// FXAM: C1 is the sign, also of an empty register.
fn fxam(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    let value = v.cpu.x87.get(0);
    let class = match value.classify() {
        _ if v.cpu.x87.is_empty(0) => C3 | C0,
        F80Class::Unsupported => 0,
        F80Class::Nan => C0,
        F80Class::Normal => C2,
        F80Class::Infinity => C2 | C0,
        F80Class::Zero => C3,
        F80Class::Denormal => C3 | C2,
    };
    let sign = if value.sign() { C1 } else { 0 };
    v.cpu.x87.status = v.cpu.x87.status & !(CONDITION | C1) | class | sign;
    Ok(())
}

const fn plain(mnemonic: Mnemonic, exec: ExecFn) -> Row {
    Row::plain(mnemonic, exec).needs(Feature::X87)
}

const fn forms(mnemonic: Mnemonic, choose: fn(&Instruction) -> Option<ExecFn>) -> Row {
    Row::choose(mnemonic, choose).needs(Feature::X87)
}

/// Rows.
pub const ROWS: &[Row] = &[
    forms(Mnemonic::Fcom, choose::<0>),
    forms(Mnemonic::Fcomp, choose::<1>),
    forms(Mnemonic::Ficom, choose::<0>),
    forms(Mnemonic::Ficomp, choose::<1>),
    plain(Mnemonic::Fcompp, register::<false, 2>),
    plain(Mnemonic::Fucom, register::<true, 0>),
    plain(Mnemonic::Fucomp, register::<true, 1>),
    plain(Mnemonic::Fucompp, register::<true, 2>),
    // AMD leaves C1 alone, Intel clears it (SDM vol. 2A; AMD64 APM vol. 5).
    plain(Mnemonic::Fcomi, to_flags::<false, 0>)
        .needs(Feature::Cmov)
        .native(Native::Call),
    plain(Mnemonic::Fcomip, to_flags::<false, 1>)
        .needs(Feature::Cmov)
        .native(Native::Call),
    plain(Mnemonic::Fucomi, to_flags::<true, 0>)
        .needs(Feature::Cmov)
        .native(Native::Call),
    plain(Mnemonic::Fucomip, to_flags::<true, 1>)
        .needs(Feature::Cmov)
        .native(Native::Call),
    plain(Mnemonic::Ftst, ftst),
    plain(Mnemonic::Fxam, fxam),
];
