//! SSE scalar operations against the host.

use super::cases;
use super::native::{DEFAULT_MXCSR, sse};
use super::rng::Rng;
use crate::softfloat::{Context, F32, F64, Relation, Rounding};

/// An MXCSR with everything masked, random rounding, DAZ and FTZ, and sometimes PE already set.
fn mxcsr(rng: &mut Rng) -> u32 {
    let rc = rng.below(4) as u32;
    let (daz, ftz) = (rng.below(4) == 0, rng.below(4) == 0);
    0x1F80 | rc << 13 | u32::from(daz) << 6 | u32::from(ftz) << 15 | (rng.below(2) as u32) << 5
}

/// Checks one result; flags are compared as MXCSR accumulates them.
#[track_caller]
fn check(
    what: &str,
    mxcsr: u32,
    operands: (u64, u64),
    ctx: &Context,
    ours: u64,
    native: (u64, u8),
) {
    let flags = ctx.flags | ctx.sticky;
    assert!(
        (ours, flags) == native,
        "{what} {:x?} mxcsr {mxcsr:04x}: ours {ours:x} flags {flags:02x}, native {:x} flags {:02x}",
        operands,
        native.0,
        native.1
    );
}

macro_rules! binary {
    ($name:ident, $method:ident, $pair:ident, $ty:ident, $mask:expr, $op:literal) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(1);
            for _ in 0..cases(100_000) {
                let (a, b) = rng.$pair();
                let mxcsr = mxcsr(&mut rng);
                let mut ctx = Context::from_mxcsr(mxcsr);
                let ours = $ty::$method(a, b, &mut ctx).0.into();
                let (a, b): (u64, u64) = (a.0.into(), b.0.into());
                let (value, flags) = sse!($op, a, b, mxcsr);
                check($op, mxcsr, (a, b), &ctx, ours, (value & $mask, flags));
            }
        }
    };
}

const LOW: u64 = 0xFFFF_FFFF;
binary!(addss, add, f32_pair, F32, LOW, "addss xmm0, xmm1");
binary!(subss, sub, f32_pair, F32, LOW, "subss xmm0, xmm1");
binary!(mulss, mul, f32_pair, F32, LOW, "mulss xmm0, xmm1");
binary!(divss, div, f32_pair, F32, LOW, "divss xmm0, xmm1");
binary!(addsd, add, f64_pair, F64, !0, "addsd xmm0, xmm1");
binary!(subsd, sub, f64_pair, F64, !0, "subsd xmm0, xmm1");
binary!(mulsd, mul, f64_pair, F64, !0, "mulsd xmm0, xmm1");
binary!(divsd, div, f64_pair, F64, !0, "divsd xmm0, xmm1");

macro_rules! unary {
    ($name:ident, $source:ident, $mask:expr, $op:literal, $ours:expr) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(2);
            for _ in 0..cases(60_000) {
                let a = rng.$source();
                let mxcsr = mxcsr(&mut rng);
                let mut ctx = Context::from_mxcsr(mxcsr);
                let compute: fn(_, &mut Context) -> u64 = $ours;
                let ours = compute(a, &mut ctx);
                let bits = u64::from(a.0);
                let (value, flags) = sse!($op, 0, bits, mxcsr);
                check($op, mxcsr, (bits, 0), &ctx, ours, (value & $mask, flags));
            }
        }
    };
}

unary!(sqrtss, f32, LOW, "sqrtss xmm0, xmm1", |a: F32, c| a
    .sqrt(c)
    .0
    .into());
unary!(sqrtsd, f64, !0, "sqrtsd xmm0, xmm1", |a: F64, c| a
    .sqrt(c)
    .0);
unary!(cvtss2sd, f32, !0, "cvtss2sd xmm0, xmm1", |a: F32, c| a
    .to_f64(c)
    .0);
unary!(cvtsd2ss, f64, LOW, "cvtsd2ss xmm0, xmm1", |a: F64, c| a
    .to_f32(c)
    .0
    .into());
unary!(
    cvtss2si_32,
    f32,
    LOW,
    "cvtss2si eax, xmm1\nmovq xmm0, rax",
    |a: F32, c| a.to_i32(c.rounding, c) as u32 as u64
);
unary!(
    cvtss2si_64,
    f32,
    !0,
    "cvtss2si rax, xmm1\nmovq xmm0, rax",
    |a: F32, c| a.to_i64(c.rounding, c) as u64
);
unary!(
    cvtsd2si_32,
    f64,
    LOW,
    "cvtsd2si eax, xmm1\nmovq xmm0, rax",
    |a: F64, c| a.to_i32(c.rounding, c) as u32 as u64
);
unary!(
    cvtsd2si_64,
    f64,
    !0,
    "cvtsd2si rax, xmm1\nmovq xmm0, rax",
    |a: F64, c| a.to_i64(c.rounding, c) as u64
);
unary!(
    cvttss2si_32,
    f32,
    LOW,
    "cvttss2si eax, xmm1\nmovq xmm0, rax",
    |a: F32, c| a.to_i32(Rounding::Zero, c) as u32 as u64
);
unary!(
    cvttsd2si_32,
    f64,
    LOW,
    "cvttsd2si eax, xmm1\nmovq xmm0, rax",
    |a: F64, c| a.to_i32(Rounding::Zero, c) as u32 as u64
);
unary!(
    cvttsd2si_64,
    f64,
    !0,
    "cvttsd2si rax, xmm1\nmovq xmm0, rax",
    |a: F64, c| a.to_i64(Rounding::Zero, c) as u64
);

macro_rules! from_integer {
    ($name:ident, $mask:expr, $op:literal, $ours:expr) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(3);
            for _ in 0..cases(30_000) {
                let value = rng.int();
                let mxcsr = mxcsr(&mut rng);
                let mut ctx = Context::from_mxcsr(mxcsr);
                let compute: fn(i64, &mut Context) -> u64 = $ours;
                let ours = compute(value, &mut ctx);
                let (native, flags) = sse!($op, 0, value as u64, mxcsr);
                check(
                    $op,
                    mxcsr,
                    (value as u64, 0),
                    &ctx,
                    ours,
                    (native & $mask, flags),
                );
            }
        }
    };
}

from_integer!(
    cvtsi2ss_32,
    LOW,
    "movq rax, xmm1\ncvtsi2ss xmm0, eax",
    |v, c| F32::from_i32(v as i32, c).0.into()
);
from_integer!(
    cvtsi2ss_64,
    LOW,
    "movq rax, xmm1\ncvtsi2ss xmm0, rax",
    |v, c| F32::from_i64(v, c).0.into()
);
from_integer!(
    cvtsi2sd_32,
    !0,
    "movq rax, xmm1\ncvtsi2sd xmm0, eax",
    |v, c| F64::from_i32(v as i32, c).0
);
from_integer!(
    cvtsi2sd_64,
    !0,
    "movq rax, xmm1\ncvtsi2sd xmm0, rax",
    |v, c| F64::from_i64(v, c).0
);

/// Flags as COMISS sets them: ZF bit 6, PF bit 2, CF bit 0.
fn eflags(relation: Relation) -> u64 {
    match relation {
        Relation::Greater => 0,
        Relation::Less => 1,
        Relation::Equal => 0x40,
        Relation::Unordered => 0x45,
    }
}

macro_rules! comparison {
    ($name:ident, $pair:ident, $method:ident, $op:literal) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(4);
            for _ in 0..cases(60_000) {
                let (a, b) = rng.$pair();
                let mxcsr = mxcsr(&mut rng);
                let mut ctx = Context::from_mxcsr(mxcsr);
                let ours = eflags(a.$method(b, &mut ctx));
                let (a, b) = (u64::from(a.0), u64::from(b.0));
                let (value, flags) = sse!($op, a, b, mxcsr);
                check($op, mxcsr, (a, b), &ctx, ours, (value & 0x45, flags));
            }
        }
    };
}

comparison!(
    comiss,
    f32_pair,
    compare_signalling,
    "comiss xmm0, xmm1\npushfq\npop rax\nmovq xmm0, rax"
);
comparison!(
    ucomiss,
    f32_pair,
    compare_quiet,
    "ucomiss xmm0, xmm1\npushfq\npop rax\nmovq xmm0, rax"
);
comparison!(
    comisd,
    f64_pair,
    compare_signalling,
    "comisd xmm0, xmm1\npushfq\npop rax\nmovq xmm0, rax"
);
comparison!(
    ucomisd,
    f64_pair,
    compare_quiet,
    "ucomisd xmm0, xmm1\npushfq\npop rax\nmovq xmm0, rax"
);

macro_rules! integral {
    ($name:ident, $source:ident, $mask:expr, $op:literal, $rounding:expr, $suppress:expr) => {
        #[test]
        fn $name() {
            if !std::is_x86_feature_detected!("sse4.1") {
                println!("skipped: the host has no SSE4.1");
                return;
            }
            let mut rng = Rng::new(5);
            for _ in 0..cases(20_000) {
                let a = rng.$source();
                let mxcsr = mxcsr(&mut rng);
                let mut ctx = Context::from_mxcsr(mxcsr);
                let rounding = Option::unwrap_or($rounding, ctx.rounding);
                let ours = u64::from(a.round_to_integral(rounding, $suppress, &mut ctx).0);
                let bits = u64::from(a.0);
                let (value, flags) = sse!($op, 0, bits, mxcsr);
                check($op, mxcsr, (bits, 0), &ctx, ours, (value & $mask, flags));
            }
        }
    };
}

integral!(
    roundss_current,
    f32,
    LOW,
    "roundss xmm0, xmm1, 4",
    None,
    false
);
integral!(
    roundss_down,
    f32,
    LOW,
    "roundss xmm0, xmm1, 9",
    Some(Rounding::Down),
    true
);
integral!(
    roundsd_current,
    f64,
    !0,
    "roundsd xmm0, xmm1, 4",
    None,
    false
);
integral!(
    roundsd_up,
    f64,
    !0,
    "roundsd xmm0, xmm1, 10",
    Some(Rounding::Up),
    true
);

#[test]
fn the_default_mxcsr_masks_everything() {
    let ctx = Context::from_mxcsr(DEFAULT_MXCSR);
    assert_eq!(ctx, Context::default());
}
