//! x87 arithmetic: FADD, FSUB, FMUL, FDIV and their reversed, popping and integer forms, FSQRT, FSCALE, FPREM,
//! FPREM1, FRNDINT, FXTRACT, FABS, FCHS. SDM vol. 2A.

use iced_x86::{Instruction, MemorySize, Mnemonic};

use super::x87::{context, note, settle, signal, stack_fault, status, wait};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn, NO_OPERAND};
use crate::softfloat::{Context, F32, F64, F80, Operand, Quotient, Remainder};
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::{D, Q, W16, Width};

/// A memory operand that x87 arithmetic takes.
pub(super) trait Source: Operand {
    type Width: Width;
    fn from_bits(bits: u64) -> Self;
}

macro_rules! source {
    ($ty:ty, $width:ty, $bits:ident => $value:expr) => {
        impl Source for $ty {
            type Width = $width;
            #[inline(always)]
            fn from_bits($bits: u64) -> Self {
                $value
            }
        }
    };
}

source!(F32, D, bits => F32(bits as u32));
source!(F64, Q, bits => F64(bits));
source!(i16, W16, bits => bits as i16);
source!(i32, D, bits => bits as i32);

/// Loads the memory operand.
#[inline(always)]
pub(super) fn load_source<S: Source>(v: &mut Vcpu, insn: &Insn) -> Result<S, Exception> {
    let offset = v.effective_address(insn);
    Ok(S::from_bits(v.load_operand::<S::Width>(insn, offset)?))
}

/// A two-operand operation, as `destination op source`.
trait Operation {
    fn apply(destination: impl Operand, source: impl Operand, ctx: &mut Context) -> F80;
}

macro_rules! operation {
    ($name:ident, |$a:ident, $b:ident, $ctx:ident| $value:expr) => {
        struct $name;
        impl Operation for $name {
            #[inline(always)]
            fn apply($a: impl Operand, $b: impl Operand, $ctx: &mut Context) -> F80 {
                $value
            }
        }
    };
}

operation!(Add, |a, b, ctx| F80::add(a, b, ctx));
operation!(Sub, |a, b, ctx| F80::sub(a, b, ctx));
operation!(SubReversed, |a, b, ctx| F80::sub(b, a, ctx));
operation!(Mul, |a, b, ctx| F80::mul(a, b, ctx));
operation!(Div, |a, b, ctx| F80::div(a, b, ctx));
operation!(DivReversed, |a, b, ctx| F80::div(b, a, ctx));

/// Writes ST(i) unless an unmasked exception forbids it; says whether it did.
#[inline(always)]
fn deliver(v: &mut Vcpu, insn: &Insn, i: u8, value: F80, ctx: &Context) -> bool {
    settle(v, insn, ctx);
    let done = !ctx.aborts();
    if done {
        v.cpu.x87.set(i, value);
    }
    done
}

/// The forms with two registers: operand 0 is the destination.
fn register<O: Operation, const POP: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    let [destination, source, ..] = insn.r;
    let done = if v.cpu.x87.is_empty(destination) || v.cpu.x87.is_empty(source) {
        underflow(v, insn, destination)
    } else {
        let mut ctx = context(v);
        let value = O::apply(v.cpu.x87.get(destination), v.cpu.x87.get(source), &mut ctx);
        deliver(v, insn, destination, value, &ctx)
    };
    if POP && done {
        v.cpu.x87.pop();
    }
    Ok(())
}

/// The forms with a memory operand: ST(0) is the destination.
fn memory<O: Operation, S: Source>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    let source: S = load_source(v, insn)?;
    note(v, insn);
    if v.cpu.x87.is_empty(0) {
        underflow(v, insn, 0);
        return Ok(());
    }
    let mut ctx = context(v);
    let value = O::apply(v.cpu.x87.get(0), source, &mut ctx);
    deliver(v, insn, 0, value, &ctx);
    Ok(())
}

/// Stack underflow; ST(i) becomes the default NaN when that is masked.
#[cold]
fn underflow(v: &mut Vcpu, insn: &Insn, i: u8) -> bool {
    let masked = stack_fault(v, insn, false);
    if masked {
        v.cpu.x87.set(i, F80::DEFAULT_NAN);
    }
    masked
}

fn choose<O: Operation>(insn: &Instruction) -> Option<ExecFn> {
    Some(match insn.memory_size() {
        MemorySize::Float32 => memory::<O, F32>,
        MemorySize::Float64 => memory::<O, F64>,
        MemorySize::Int16 => memory::<O, i16>,
        MemorySize::Int32 => memory::<O, i32>,
        _ => register::<O, false>,
    })
}

/// A function of ST(0) alone.
trait Function {
    fn apply(value: F80, ctx: &mut Context) -> F80;
}

macro_rules! function {
    ($name:ident, |$a:ident, $ctx:ident| $value:expr) => {
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn apply($a: F80, $ctx: &mut Context) -> F80 {
                $value
            }
        }
    };
}

function!(Sqrt, |a, ctx| a.sqrt(ctx));
function!(RoundToInteger, |a, ctx| a.round_to_integral(ctx));
function!(Abs, |a, _ctx| a.abs());
function!(ChangeSign, |a, _ctx| a.negate());

fn unary<F: Function>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    if v.cpu.x87.is_empty(0) {
        underflow(v, insn, 0);
        return Ok(());
    }
    let mut ctx = context(v);
    let value = F::apply(v.cpu.x87.get(0), &mut ctx);
    deliver(v, insn, 0, value, &ctx);
    Ok(())
}

/// FSCALE.
fn fscale(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    if v.cpu.x87.is_empty(0) || v.cpu.x87.is_empty(1) {
        underflow(v, insn, 0);
        return Ok(());
    }
    let mut ctx = context(v);
    let value = v.cpu.x87.get(0).scale(v.cpu.x87.get(1), &mut ctx);
    deliver(v, insn, 0, value, &ctx);
    Ok(())
}

/// FPREM, and FPREM1 when `NEAREST`. C0, C3 and C1 are the quotient's low bits; C2 says that it is partial.
fn fprem<const NEAREST: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    v.cpu.x87.status &= !status::C2;
    if v.cpu.x87.is_empty(0) || v.cpu.x87.is_empty(1) {
        underflow(v, insn, 0);
        return Ok(());
    }
    let mut ctx = context(v);
    let (dividend, divisor) = (v.cpu.x87.get(0), v.cpu.x87.get(1));
    let Remainder { value, quotient } = if NEAREST {
        dividend.remainder_nearest(divisor, &mut ctx)
    } else {
        dividend.remainder_truncated(divisor, &mut ctx)
    };
    ctx.c1 = matches!(quotient, Quotient::Bits(q) if q & 1 != 0);
    if deliver(v, insn, 0, value, &ctx) {
        let status = v.cpu.x87.status;
        v.cpu.x87.status = match quotient {
            Quotient::Undefined => status,
            Quotient::Partial => status & !status::CONDITION | status::C2,
            Quotient::Bits(q) => {
                let bit = |n: u64, condition| if q >> n & 1 != 0 { condition } else { 0 };
                status & !status::CONDITION | bit(2, status::C0) | bit(1, status::C3)
            }
        };
    }
    Ok(())
}

/// FXTRACT: ST(0) becomes the exponent, and the significand is pushed.
fn fxtract(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    if !pushable(v, insn) {
        return Ok(());
    }
    let mut ctx = context(v);
    let (exponent, significand) = v.cpu.x87.get(0).extract(&mut ctx);
    if deliver(v, insn, 0, exponent, &ctx) {
        v.cpu.x87.push(significand);
    }
    Ok(())
}

/// Whether ST(0) has a value and there is room for one more. If not, raises the stack fault and, when that is masked,
/// delivers two default NaNs.
#[inline(always)]
pub(super) fn pushable(v: &mut Vcpu, insn: &Insn) -> bool {
    let (empty, room) = (v.cpu.x87.is_empty(0), v.cpu.x87.is_empty(7));
    let ok = !empty && room;
    if !ok && stack_fault(v, insn, !empty) {
        v.cpu.x87.set(0, F80::DEFAULT_NAN);
        v.cpu.x87.push(F80::DEFAULT_NAN);
    }
    ok
}

/// FNOP.
fn fnop(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    debug_assert_eq!(insn.mem_op, NO_OPERAND);
    wait(v)?;
    note(v, insn);
    Ok(())
}

/// FINCSTP and FDECSTP: TOP moves, the tags stay.
fn rotate<const BY: u16>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    v.cpu.x87.rotate(BY);
    signal(v, insn, 0, false);
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
    forms(Mnemonic::Fadd, choose::<Add>),
    forms(Mnemonic::Fsub, choose::<Sub>),
    forms(Mnemonic::Fsubr, choose::<SubReversed>),
    forms(Mnemonic::Fmul, choose::<Mul>),
    forms(Mnemonic::Fdiv, choose::<Div>),
    forms(Mnemonic::Fdivr, choose::<DivReversed>),
    forms(Mnemonic::Fiadd, choose::<Add>),
    forms(Mnemonic::Fisub, choose::<Sub>),
    forms(Mnemonic::Fisubr, choose::<SubReversed>),
    forms(Mnemonic::Fimul, choose::<Mul>),
    forms(Mnemonic::Fidiv, choose::<Div>),
    forms(Mnemonic::Fidivr, choose::<DivReversed>),
    plain(Mnemonic::Faddp, register::<Add, true>),
    plain(Mnemonic::Fsubp, register::<Sub, true>),
    plain(Mnemonic::Fsubrp, register::<SubReversed, true>),
    plain(Mnemonic::Fmulp, register::<Mul, true>),
    plain(Mnemonic::Fdivp, register::<Div, true>),
    plain(Mnemonic::Fdivrp, register::<DivReversed, true>),
    plain(Mnemonic::Fsqrt, unary::<Sqrt>),
    plain(Mnemonic::Frndint, unary::<RoundToInteger>),
    plain(Mnemonic::Fabs, unary::<Abs>),
    plain(Mnemonic::Fchs, unary::<ChangeSign>),
    plain(Mnemonic::Fscale, fscale),
    plain(Mnemonic::Fprem, fprem::<false>),
    plain(Mnemonic::Fprem1, fprem::<true>),
    plain(Mnemonic::Fxtract, fxtract),
    plain(Mnemonic::Fnop, fnop),
    plain(Mnemonic::Fincstp, rotate::<1>),
    plain(Mnemonic::Fdecstp, rotate::<7>),
];
