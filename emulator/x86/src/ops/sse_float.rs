//! SSE, SSE2, SSE3 and SSE4.1 floating point. SDM vol. 2A and 2B; exceptions: vol. 1 §11.5.

use iced_x86::{Code, Instruction, Mnemonic};

use super::form::VectorSource;
use super::packed::{build, lane};
use super::vector::{mm, read_mm, read_scalar, read_xmm, set_mm, set_scalar};
use super::x87::{check_mmx, enter_mmx};
use crate::choice::{self, Bare, IsBare, IsReadsVector, ReadsVector, Semantics, fixed};
use crate::cpu::control;
use crate::cpuid::Feature;
use crate::emit::{Emit, FloatOp};
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn};
use crate::softfloat::{Context, F32, F64, Relation, Rounding};
use crate::table::{Native, Row};
use crate::vcpu::Vcpu;
use crate::width::{D, Q, Width};

type Done = Result<(), Exception>;

/// A lane's format.
pub(crate) trait Float: Copy {
    /// Its width.
    type W: Width;
    /// From the low bits.
    fn from_bits(bits: u64) -> Self;
    /// To the low bits.
    fn bits(self) -> u64;
    fn add(self, b: Self, ctx: &mut Context) -> Self;
    fn sub(self, b: Self, ctx: &mut Context) -> Self;
    fn mul(self, b: Self, ctx: &mut Context) -> Self;
    fn div(self, b: Self, ctx: &mut Context) -> Self;
    fn sqrt(self, ctx: &mut Context) -> Self;
    fn compare(self, b: Self, signalling: bool, ctx: &mut Context) -> Relation;
    fn round(self, rounding: Rounding, inexact: bool, ctx: &mut Context) -> Self;
    fn to_i32(self, rounding: Rounding, ctx: &mut Context) -> i32;
    fn to_i64(self, rounding: Rounding, ctx: &mut Context) -> i64;
    fn from_i32(value: i32, ctx: &mut Context) -> Self;
    fn from_i64(value: i64, ctx: &mut Context) -> Self;
    fn is_denormal(self) -> bool;
}

macro_rules! float {
    ($name:ident, $w:ty, $int:ty) => {
        impl Float for $name {
            type W = $w;
            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                $name(bits as $int)
            }
            #[inline(always)]
            fn bits(self) -> u64 {
                self.0.into()
            }
            #[inline(always)]
            fn add(self, b: Self, ctx: &mut Context) -> Self {
                $name::add(self, b, ctx)
            }
            #[inline(always)]
            fn sub(self, b: Self, ctx: &mut Context) -> Self {
                $name::sub(self, b, ctx)
            }
            #[inline(always)]
            fn mul(self, b: Self, ctx: &mut Context) -> Self {
                $name::mul(self, b, ctx)
            }
            #[inline(always)]
            fn div(self, b: Self, ctx: &mut Context) -> Self {
                $name::div(self, b, ctx)
            }
            #[inline(always)]
            fn sqrt(self, ctx: &mut Context) -> Self {
                $name::sqrt(self, ctx)
            }
            fn compare(self, b: Self, signalling: bool, ctx: &mut Context) -> Relation {
                if signalling {
                    self.compare_signalling(b, ctx)
                } else {
                    self.compare_quiet(b, ctx)
                }
            }
            fn round(self, rounding: Rounding, inexact: bool, ctx: &mut Context) -> Self {
                self.round_to_integral(rounding, !inexact, ctx)
            }
            fn to_i32(self, rounding: Rounding, ctx: &mut Context) -> i32 {
                $name::to_i32(self, rounding, ctx)
            }
            fn to_i64(self, rounding: Rounding, ctx: &mut Context) -> i64 {
                $name::to_i64(self, rounding, ctx)
            }
            fn from_i32(value: i32, ctx: &mut Context) -> Self {
                $name::from_i32(value, ctx)
            }
            fn from_i64(value: i64, ctx: &mut Context) -> Self {
                $name::from_i64(value, ctx)
            }
            fn is_denormal(self) -> bool {
                $name::is_denormal(self)
            }
        }
    };
}

float!(F32, D, u32);
float!(F64, Q, u64);

fn context(v: &Vcpu) -> Context {
    Context::from_mxcsr(v.cpu.mxcsr)
}

/// Takes an operation's flags into MXCSR.
///
/// # Errors
/// #XM for an unmasked one, #UD where CR4.OSXMMEXCPT is 0. The result must not be written then.
pub(crate) fn commit(v: &mut Vcpu, ctx: &mut Context) -> Done {
    ctx.settle_packed();
    v.cpu.mxcsr |= u32::from(ctx.flags);
    if ctx.unmasked() == 0 {
        return Ok(());
    }
    Err(if v.cpu.cr4 & control::CR4_OSXMMEXCPT != 0 {
        Exception::Simd
    } else {
        Exception::InvalidOpcode
    })
}

/// An operation on two floats.
trait LaneOp {
    /// Its name.
    const NAME: &str;
    fn apply<F: Float>(a: F, b: F, ctx: &mut Context) -> F;
}

macro_rules! float_operations {
    ($($name:ident |$a:ident, $b:ident, $ctx:ident| $body:expr;)*) => {
        $(
            struct $name;
            impl LaneOp for $name {
                const NAME: &str = stringify!($name);
                #[inline(always)]
                fn apply<F: Float>($a: F, $b: F, $ctx: &mut Context) -> F {
                    $body
                }
            }
        )*
    };
}

float_operations! {
    Add |a, b, ctx| a.add(b, ctx);
    Sub |a, b, ctx| a.sub(b, ctx);
    Mul |a, b, ctx| a.mul(b, ctx);
    Div |a, b, ctx| a.div(b, ctx);
    Sqrt |_a, b, ctx| b.sqrt(ctx);
    Min |a, b, ctx| select_extreme(a, b, Relation::Less, ctx);
    Max |a, b, ctx| select_extreme(a, b, Relation::Greater, ctx);
}

/// MIN and MAX return the second operand when either is a NaN or both are zero (SDM vol. 2A, MINPS).
fn select_extreme<F: Float>(a: F, b: F, wanted: Relation, ctx: &mut Context) -> F {
    let relation = a.compare(b, true, ctx);
    let value = if relation == wanted { a } else { b };
    if ctx.daz && value.is_denormal() {
        return F::from_bits(value.bits() & F::W::SIGN);
    }
    value
}

/// The vector of what `f` makes of each pair of lanes, with their number, from the lowest on.
#[inline(always)]
fn each_lane<F: Float>(a: u128, b: u128, mut f: impl FnMut(F, F, usize) -> F) -> u128 {
    let size = F::W::BITS as usize;
    build(128 / size, size, |i| {
        let (x, y) = (lane(a, i, size), lane(b, i, size));
        f(F::from_bits(x), F::from_bits(y), i).bits()
    })
}

/// An operation on each lane of two vectors.
struct Packed<F, O>(std::marker::PhantomData<(F, O)>);
impl<F: Float, O: LaneOp> FloatOp for Packed<F, O> {
    const NAME: &str = O::NAME;
    // Its own function: all tiers share it, and beside it a call is nothing.
    #[inline(never)]
    fn apply(a: u128, b: u128, ctx: &mut Context) -> u128 {
        each_lane::<F>(a, b, |x, y, _| O::apply(x, y, ctx))
    }
}

/// An operation on the lowest lane; the others of the first vector stay.
struct Scalar<F, O>(std::marker::PhantomData<(F, O)>);
impl<F: Float, O: LaneOp> FloatOp for Scalar<F, O> {
    const NAME: &str = O::NAME;
    #[inline(never)]
    fn apply(a: u128, b: u128, ctx: &mut Context) -> u128 {
        let (x, y) = (F::W::zext(a as u64), F::W::zext(b as u64));
        let value = O::apply(F::from_bits(x), F::from_bits(y), ctx);
        a & !u128::from(F::W::MASK) | u128::from(value.bits())
    }
}

/// ADDPS and its like.
impl<F: Float, O: LaneOp> Semantics for Packed<F, O> {}
impl<F: Float, O: LaneOp> ReadsVector for Packed<F, O> {
    #[inline(always)]
    fn call<E: Emit, S: VectorSource>(e: &mut E, insn: &Insn) -> Done {
        e.check_sse()?;
        let b = S::read_vector(e, insn, true)?;
        let a = e.xmm(insn.r[0]);
        let result = e.float::<Self>(a, b)?;
        e.set_xmm(insn.r[0], result);
        Ok(())
    }
}

/// ADDSS and its like.
impl<F: Float, O: LaneOp> Semantics for Scalar<F, O> {
    fixed!(32);
}
impl<F: Float, O: LaneOp> Bare for Scalar<F, O> {
    #[inline(always)]
    fn call<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
        e.check_sse()?;
        let b = if insn.is_mem(1) {
            let address = e.address(insn);
            let b = e.load::<F::W>(insn, address)?;
            e.vector_from(b)
        } else {
            e.xmm(insn.r[1])
        };
        let a = e.xmm(insn.r[0]);
        let result = e.float::<Self>(a, b)?;
        e.set_xmm(insn.r[0], result);
        Ok(())
    }
}

macro_rules! arithmetic {
    ($($op:ident $ps:ident $pd:ident $ss:ident $sd:ident)*) => {
        &[$(
            Row::new(Mnemonic::$ps, choice::handler::<IsReadsVector<Packed<F32, $op>>>()).needs(Feature::Sse),
            Row::new(Mnemonic::$pd, choice::handler::<IsReadsVector<Packed<F64, $op>>>()).needs(Feature::Sse2),
            Row::new(Mnemonic::$ss, choice::handler::<IsBare<Scalar<F32, $op>>>()).needs(Feature::Sse),
            Row::new(Mnemonic::$sd, choice::handler::<IsBare<Scalar<F64, $op>>>()).needs(Feature::Sse2),
        )*]
    };
}

pub(crate) const ARITHMETIC_ROWS: &[Row] = arithmetic! {
    Add Addps Addpd Addss Addsd
    Sub Subps Subpd Subss Subsd
    Mul Mulps Mulpd Mulss Mulsd
    Div Divps Divpd Divss Divsd
    Min Minps Minpd Minss Minsd
    Max Maxps Maxpd Maxss Maxsd
    Sqrt Sqrtps Sqrtpd Sqrtss Sqrtsd
};

pub(crate) const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Addsubps, alternate::<F32>).needs(Feature::Sse3),
    Row::plain(Mnemonic::Addsubpd, alternate::<F64>).needs(Feature::Sse3),
    Row::plain(Mnemonic::Haddps, horizontal::<F32, Add>).needs(Feature::Sse3),
    Row::plain(Mnemonic::Haddpd, horizontal::<F64, Add>).needs(Feature::Sse3),
    Row::plain(Mnemonic::Hsubps, horizontal::<F32, Sub>).needs(Feature::Sse3),
    Row::plain(Mnemonic::Hsubpd, horizontal::<F64, Sub>).needs(Feature::Sse3),
    Row::plain(Mnemonic::Cmpps, compare_packed::<F32>).needs(Feature::Sse),
    Row::plain(Mnemonic::Cmppd, compare_packed::<F64>).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cmpss, compare_scalar::<F32>).needs(Feature::Sse),
    Row::plain(Mnemonic::Comiss, |v, insn| {
        compare_flags::<F32>(v, insn, true)
    })
    .needs(Feature::Sse),
    Row::plain(Mnemonic::Comisd, |v, insn| {
        compare_flags::<F64>(v, insn, true)
    })
    .needs(Feature::Sse2),
    Row::plain(Mnemonic::Ucomiss, |v, insn| {
        compare_flags::<F32>(v, insn, false)
    })
    .needs(Feature::Sse),
    Row::plain(Mnemonic::Ucomisd, |v, insn| {
        compare_flags::<F64>(v, insn, false)
    })
    .needs(Feature::Sse2),
    Row::plain(Mnemonic::Rcpps, |v, insn| {
        approximate_packed(v, insn, reciprocal)
    })
    .native(Native::Call)
    .needs(Feature::Sse),
    Row::plain(Mnemonic::Rcpss, |v, insn| {
        approximate_scalar(v, insn, reciprocal)
    })
    .native(Native::Call)
    .needs(Feature::Sse),
    Row::plain(Mnemonic::Rsqrtps, |v, insn| {
        approximate_packed(v, insn, reciprocal_root)
    })
    .native(Native::Call)
    .needs(Feature::Sse),
    Row::plain(Mnemonic::Rsqrtss, |v, insn| {
        approximate_scalar(v, insn, reciprocal_root)
    })
    .native(Native::Call)
    .needs(Feature::Sse),
    Row::plain(Mnemonic::Roundps, round_packed::<F32>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Roundpd, round_packed::<F64>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Roundss, round_scalar::<F32>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Roundsd, round_scalar::<F64>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Dpps, dot_product::<F32>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Dppd, dot_product::<F64>).needs(Feature::Sse41),
    Row::choose(Mnemonic::Cvtsi2ss, choose_from_integer).needs(Feature::Sse),
    Row::choose(Mnemonic::Cvtsi2sd, choose_from_integer).needs(Feature::Sse2),
    Row::choose(Mnemonic::Cvtss2si, choose_to_integer).needs(Feature::Sse),
    Row::choose(Mnemonic::Cvttss2si, choose_to_integer).needs(Feature::Sse),
    Row::choose(Mnemonic::Cvtsd2si, choose_to_integer).needs(Feature::Sse2),
    Row::choose(Mnemonic::Cvttsd2si, choose_to_integer).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtss2sd, cvtss2sd).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtsd2ss, cvtsd2ss).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtps2pd, cvtps2pd).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtpd2ps, cvtpd2ps).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtdq2ps, cvtdq2ps).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtdq2pd, cvtdq2pd).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtps2dq, |v, insn| {
        to_dwords::<F32>(v, insn, None)
    })
    .needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvttps2dq, |v, insn| {
        to_dwords::<F32>(v, insn, Some(Rounding::Zero))
    })
    .needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtpd2dq, |v, insn| {
        to_dwords::<F64>(v, insn, None)
    })
    .needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvttpd2dq, |v, insn| {
        to_dwords::<F64>(v, insn, Some(Rounding::Zero))
    })
    .needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtpi2ps, cvtpi2ps).needs(Feature::Sse),
    Row::plain(Mnemonic::Cvtpi2pd, cvtpi2pd).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvtps2pi, |v, insn| cvtps2pi(v, insn, None)).needs(Feature::Sse),
    Row::plain(Mnemonic::Cvttps2pi, |v, insn| {
        cvtps2pi(v, insn, Some(Rounding::Zero))
    })
    .needs(Feature::Sse),
    Row::plain(Mnemonic::Cvtpd2pi, |v, insn| cvtpd2pi(v, insn, None)).needs(Feature::Sse2),
    Row::plain(Mnemonic::Cvttpd2pi, |v, insn| {
        cvtpd2pi(v, insn, Some(Rounding::Zero))
    })
    .needs(Feature::Sse2),
];

/// ADDSUBPS, ADDSUBPD: even lanes subtract, odd ones add.
fn alternate<F: Float>(v: &mut Vcpu, insn: &Insn) -> Done {
    lanes::<F>(v, insn, |a, b, i, ctx| {
        if i & 1 == 0 {
            a.sub(b, ctx)
        } else {
            a.add(b, ctx)
        }
    })
}

/// A packed operation that looks at the lane's number.
fn lanes<F: Float>(v: &mut Vcpu, insn: &Insn, f: impl Fn(F, F, usize, &mut Context) -> F) -> Done {
    v.check_sse()?;
    let b = read_xmm(v, insn, 1, true)?;
    let a = v.xmm(insn.r[0]);
    let mut ctx = context(v);
    let result = each_lane::<F>(a, b, |x, y, i| f(x, y, i, &mut ctx));
    commit(v, &mut ctx)?;
    v.set_xmm(insn.r[0], result);
    Ok(())
}

fn horizontal<F: Float, O: LaneOp>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let b = read_xmm(v, insn, 1, true)?;
    let a = v.xmm(insn.r[0]);
    let mut ctx = context(v);
    let size = F::W::BITS as usize;
    let half = 64 / size;
    let result = build(2 * half, size, |i| {
        let source = if i < half { a } else { b };
        let pair = 2 * (i % half);
        let (x, y) = (lane(source, pair, size), lane(source, pair + 1, size));
        O::apply(F::from_bits(x), F::from_bits(y), &mut ctx).bits()
    });
    commit(v, &mut ctx)?;
    v.set_xmm(insn.r[0], result);
    Ok(())
}

/// The predicates of CMPPS: bit 2 negates; 1 and 2 are signalling (SDM vol. 2A, CMPPS).
fn predicate<F: Float>(a: F, b: F, imm: u8, ctx: &mut Context) -> bool {
    let relation = a.compare(b, matches!(imm & 3, 1 | 2), ctx);
    let holds = match imm & 3 {
        0 => relation == Relation::Equal,
        1 => relation == Relation::Less,
        2 => matches!(relation, Relation::Less | Relation::Equal),
        _ => relation == Relation::Unordered,
    };
    holds != (imm & 4 != 0)
}

fn compare_packed<F: Float>(v: &mut Vcpu, insn: &Insn) -> Done {
    let imm = insn.imm as u8;
    lanes::<F>(v, insn, |a, b, _, ctx| {
        F::from_bits(if predicate(a, b, imm, ctx) {
            F::W::MASK
        } else {
            0
        })
    })
}

pub(crate) fn compare_scalar<F: Float>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let b = F::from_bits(read_scalar::<F::W>(v, insn, 1)?);
    let a = F::from_bits(F::W::zext(v.xmm(insn.r[0]) as u64));
    let mut ctx = context(v);
    let holds = predicate(a, b, insn.imm as u8, &mut ctx);
    commit(v, &mut ctx)?;
    set_scalar::<F::W>(v, insn.r[0], if holds { F::W::MASK } else { 0 });
    Ok(())
}

/// COMISS and UCOMISS: ZF, PF, CF; the others are cleared.
fn compare_flags<F: Float>(v: &mut Vcpu, insn: &Insn, signalling: bool) -> Done {
    use crate::flags::bits::{ARITH, CF, PF, ZF};
    v.check_sse()?;
    let b = F::from_bits(read_scalar::<F::W>(v, insn, 1)?);
    let a = F::from_bits(F::W::zext(v.xmm(insn.r[0]) as u64));
    let mut ctx = context(v);
    let relation = a.compare(b, signalling, &mut ctx);
    commit(v, &mut ctx)?;
    let flags = match relation {
        Relation::Greater => 0,
        Relation::Less => CF,
        Relation::Equal => ZF,
        Relation::Unordered => ZF | PF | CF,
    };
    v.cpu.materialize_flags();
    v.cpu.rflags = (v.cpu.rflags & !ARITH) | flags;
    Ok(())
}

/// RCPPS and RSQRTPS raise nothing and treat denormals as zeros; the manual asks for a relative error
/// of at most 1.5 * 2^-12, which the exact value rounded to 12 bits has.
fn approximate_packed(v: &mut Vcpu, insn: &Insn, f: fn(u32) -> u32) -> Done {
    v.check_sse()?;
    let b = read_xmm(v, insn, 1, true)?;
    v.set_xmm(insn.r[0], build(4, 32, |i| f(lane(b, i, 32) as u32).into()));
    Ok(())
}

fn approximate_scalar(v: &mut Vcpu, insn: &Insn, f: fn(u32) -> u32) -> Done {
    v.check_sse()?;
    let b = read_scalar::<D>(v, insn, 1)?;
    set_scalar::<D>(v, insn.r[0], f(b as u32).into());
    Ok(())
}

const QUIET: u32 = 0x0040_0000;
const INFINITY: u32 = 0x7F80_0000;
const DEFAULT_NAN: u32 = 0xFFC0_0000;

fn round_to_12_bits(value: f64) -> u32 {
    let bits = (value as f32).to_bits();
    (bits + 0x400) & !0x7FF
}

fn reciprocal(bits: u32) -> u32 {
    let (sign, magnitude) = (bits & 0x8000_0000, bits & 0x7FFF_FFFF);
    match magnitude {
        m if m > INFINITY => bits | QUIET,
        INFINITY => sign,
        m if m < 0x0080_0000 => sign | INFINITY,
        m => {
            let result = round_to_12_bits(1.0 / f64::from(f32::from_bits(m)));
            // A tiny result is flushed to zero.
            sign | if result < 0x0080_0000 { 0 } else { result }
        }
    }
}

fn reciprocal_root(bits: u32) -> u32 {
    let (sign, magnitude) = (bits & 0x8000_0000, bits & 0x7FFF_FFFF);
    match magnitude {
        m if m > INFINITY => bits | QUIET,
        m if m < 0x0080_0000 => sign | INFINITY,
        _ if sign != 0 => DEFAULT_NAN,
        INFINITY => 0,
        m => round_to_12_bits(1.0 / f64::from(f32::from_bits(m)).sqrt()),
    }
}

/// ROUNDxx: imm bits 1-0 are the mode unless bit 2 takes MXCSR's; bit 3 hides the inexact exception.
fn rounding_of(ctx: &Context, imm: u8) -> (Rounding, bool) {
    let rounding = if imm & 4 != 0 {
        ctx.rounding
    } else {
        Rounding::from_bits(imm.into())
    };
    (rounding, imm & 8 == 0)
}

fn round_packed<F: Float>(v: &mut Vcpu, insn: &Insn) -> Done {
    let imm = insn.imm as u8;
    lanes::<F>(v, insn, |_, b, _, ctx| {
        let (rounding, inexact) = rounding_of(ctx, imm);
        b.round(rounding, inexact, ctx)
    })
}

fn round_scalar<F: Float>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let b = F::from_bits(read_scalar::<F::W>(v, insn, 1)?);
    let mut ctx = context(v);
    let (rounding, inexact) = rounding_of(&ctx, insn.imm as u8);
    let value = b.round(rounding, inexact, &mut ctx);
    commit(v, &mut ctx)?;
    set_scalar::<F::W>(v, insn.r[0], value.bits());
    Ok(())
}

/// DPPS, DPPD: the products that imm bits 7-4 select, summed pairwise, to the lanes of bits 3-0.
/// Exceptions are looked at after the multiplications and after each addition.
fn dot_product<F: Float>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let b = read_xmm(v, insn, 1, true)?;
    let a = v.xmm(insn.r[0]);
    let imm = insn.imm as u8;
    let size = F::W::BITS as usize;
    let count = 128 / size;
    let mut ctx = context(v);
    let mut sums: Vec<F> = (0..count)
        .map(|i| {
            if imm >> (4 + i) & 1 != 0 {
                F::from_bits(lane(a, i, size)).mul(F::from_bits(lane(b, i, size)), &mut ctx)
            } else {
                F::from_bits(0)
            }
        })
        .collect();
    commit(v, &mut ctx)?;
    while sums.len() > 1 {
        sums = sums
            .chunks(2)
            .map(|pair| pair[0].add(pair[1], &mut ctx))
            .collect();
        commit(v, &mut ctx)?;
    }
    let sum = sums[0].bits();
    v.set_xmm(
        insn.r[0],
        build(count, size, |i| if imm >> i & 1 != 0 { sum } else { 0 }),
    );
    Ok(())
}

/// CVTSI2SS, CVTSI2SD.
fn from_integer<F: Float, W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let value = W::sext(v.read::<W>(insn, 1)?) as i64;
    let mut ctx = context(v);
    let result = if W::BITS == 32 {
        F::from_i32(value as i32, &mut ctx)
    } else {
        F::from_i64(value, &mut ctx)
    };
    commit(v, &mut ctx)?;
    set_scalar::<F::W>(v, insn.r[0], result.bits());
    Ok(())
}

fn choose_from_integer(iced: &Instruction) -> Option<ExecFn> {
    Some(match iced.code() {
        Code::Cvtsi2ss_xmm_rm32 => from_integer::<F32, D> as ExecFn,
        Code::Cvtsi2ss_xmm_rm64 => from_integer::<F32, Q>,
        Code::Cvtsi2sd_xmm_rm32 => from_integer::<F64, D>,
        Code::Cvtsi2sd_xmm_rm64 => from_integer::<F64, Q>,
        _ => return None,
    })
}

/// CVTSS2SI and its kin.
fn to_integer<F: Float, W: Width, const TRUNCATE: bool>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let value = F::from_bits(read_scalar::<F::W>(v, insn, 1)?);
    let mut ctx = context(v);
    let rounding = if TRUNCATE {
        Rounding::Zero
    } else {
        ctx.rounding
    };
    let result = if W::BITS == 32 {
        i64::from(value.to_i32(rounding, &mut ctx))
    } else {
        value.to_i64(rounding, &mut ctx)
    };
    commit(v, &mut ctx)?;
    v.set::<W>(insn.r[0], W::zext(result as u64));
    Ok(())
}

fn choose_to_integer(iced: &Instruction) -> Option<ExecFn> {
    Some(match iced.code() {
        Code::Cvtss2si_r32_xmmm32 => to_integer::<F32, D, false> as ExecFn,
        Code::Cvtss2si_r64_xmmm32 => to_integer::<F32, Q, false>,
        Code::Cvttss2si_r32_xmmm32 => to_integer::<F32, D, true>,
        Code::Cvttss2si_r64_xmmm32 => to_integer::<F32, Q, true>,
        Code::Cvtsd2si_r32_xmmm64 => to_integer::<F64, D, false>,
        Code::Cvtsd2si_r64_xmmm64 => to_integer::<F64, Q, false>,
        Code::Cvttsd2si_r32_xmmm64 => to_integer::<F64, D, true>,
        Code::Cvttsd2si_r64_xmmm64 => to_integer::<F64, Q, true>,
        _ => return None,
    })
}

fn cvtss2sd(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let value = F32(read_scalar::<D>(v, insn, 1)? as u32);
    let mut ctx = context(v);
    let result = value.to_f64(&mut ctx);
    commit(v, &mut ctx)?;
    set_scalar::<Q>(v, insn.r[0], result.0);
    Ok(())
}

fn cvtsd2ss(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let value = F64(read_scalar::<Q>(v, insn, 1)?);
    let mut ctx = context(v);
    let result = value.to_f32(&mut ctx);
    commit(v, &mut ctx)?;
    set_scalar::<D>(v, insn.r[0], result.0.into());
    Ok(())
}

fn cvtps2pd(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let source = u128::from(read_scalar::<Q>(v, insn, 1)?);
    let mut ctx = context(v);
    let low = F32(lane(source, 0, 32) as u32).to_f64(&mut ctx);
    let high = F32(lane(source, 1, 32) as u32).to_f64(&mut ctx);
    commit(v, &mut ctx)?;
    v.set_xmm(insn.r[0], u128::from(high.0) << 64 | u128::from(low.0));
    Ok(())
}

fn cvtpd2ps(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let source = read_xmm(v, insn, 1, true)?;
    let mut ctx = context(v);
    let low = F64(lane(source, 0, 64)).to_f32(&mut ctx);
    let high = F64(lane(source, 1, 64)).to_f32(&mut ctx);
    commit(v, &mut ctx)?;
    v.set_xmm(insn.r[0], u128::from(high.0) << 32 | u128::from(low.0));
    Ok(())
}

fn cvtdq2ps(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let source = read_xmm(v, insn, 1, true)?;
    let mut ctx = context(v);
    let result = build(4, 32, |i| {
        F32::from_i32(lane(source, i, 32) as i32, &mut ctx).bits()
    });
    commit(v, &mut ctx)?;
    v.set_xmm(insn.r[0], result);
    Ok(())
}

fn cvtdq2pd(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let source = read_scalar::<Q>(v, insn, 1)?;
    let mut ctx = context(v);
    let low = F64::from_i32(source as i32, &mut ctx);
    let high = F64::from_i32((source >> 32) as i32, &mut ctx);
    v.set_xmm(insn.r[0], u128::from(high.0) << 64 | u128::from(low.0));
    Ok(())
}

/// CVTPS2DQ, CVTPD2DQ and the truncating ones; the upper half is cleared for two lanes.
fn to_dwords<F: Float>(v: &mut Vcpu, insn: &Insn, rounding: Option<Rounding>) -> Done {
    v.check_sse()?;
    let source = read_xmm(v, insn, 1, true)?;
    let mut ctx = context(v);
    let rounding = rounding.unwrap_or(ctx.rounding);
    let size = F::W::BITS as usize;
    let result = build(128 / size, 32, |i| {
        F::from_bits(lane(source, i, size)).to_i32(rounding, &mut ctx) as u64
    });
    commit(v, &mut ctx)?;
    v.set_xmm(insn.r[0], result);
    Ok(())
}

fn cvtpi2ps(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    check_mmx(v)?;
    let source = read_mm(v, insn, 1)?;
    let mut ctx = context(v);
    let low = F32::from_i32(source as i32, &mut ctx);
    let high = F32::from_i32((source >> 32) as i32, &mut ctx);
    commit(v, &mut ctx)?;
    enter_mmx(v);
    set_scalar::<Q>(v, insn.r[0], u64::from(high.0) << 32 | u64::from(low.0));
    Ok(())
}

/// CVTPI2PD: from memory it touches no MMX state.
fn cvtpi2pd(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let source = if insn.is_mem(1) {
        read_mm(v, insn, 1)?
    } else {
        check_mmx(v)?;
        enter_mmx(v);
        mm(v, insn.r[1])
    };
    let mut ctx = context(v);
    let low = F64::from_i32(source as i32, &mut ctx);
    let high = F64::from_i32((source >> 32) as i32, &mut ctx);
    v.set_xmm(insn.r[0], u128::from(high.0) << 64 | u128::from(low.0));
    Ok(())
}

fn cvtps2pi(v: &mut Vcpu, insn: &Insn, rounding: Option<Rounding>) -> Done {
    v.check_sse()?;
    check_mmx(v)?;
    let source = read_scalar::<Q>(v, insn, 1)?;
    let mut ctx = context(v);
    let rounding = rounding.unwrap_or(ctx.rounding);
    let low = F32(source as u32).to_i32(rounding, &mut ctx) as u32;
    let high = F32((source >> 32) as u32).to_i32(rounding, &mut ctx) as u32;
    commit(v, &mut ctx)?;
    enter_mmx(v);
    set_mm(v, insn.r[0], u64::from(high) << 32 | u64::from(low));
    Ok(())
}

fn cvtpd2pi(v: &mut Vcpu, insn: &Insn, rounding: Option<Rounding>) -> Done {
    v.check_sse()?;
    check_mmx(v)?;
    let source = read_xmm(v, insn, 1, true)?;
    let mut ctx = context(v);
    let rounding = rounding.unwrap_or(ctx.rounding);
    let low = F64(lane(source, 0, 64)).to_i32(rounding, &mut ctx) as u32;
    let high = F64(lane(source, 1, 64)).to_i32(rounding, &mut ctx) as u32;
    commit(v, &mut ctx)?;
    enter_mmx(v);
    set_mm(v, insn.r[0], u64::from(high) << 32 | u64::from(low));
    Ok(())
}
