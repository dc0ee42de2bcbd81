//! x87 operations against the host.

use super::native::{X87, x87};
use super::rng::Rng;
use super::x87_cases;
use crate::softfloat::{
    Context, F32, F64, F80, F80Class, Quotient, Relation, Remainder, Rounding, flag,
};

/// A random control word: rounding, precision, and one time in four random masks.
fn fcw(rng: &mut Rng) -> u16 {
    let masks = if rng.below(4) == 0 {
        rng.below(64) as u16
    } else {
        0x3F
    };
    let pc = [3, 3, 3, 2, 0, 1][rng.below(6) as usize];
    0x40 | masks | pc << 8 | (rng.below(4) as u16) << 10
}

const C1: u16 = 1 << 9;

/// The status bits that an arithmetic instruction with these effects leaves: exceptions, SF excluded, and C1.
fn status(ctx: &Context) -> u16 {
    u16::from(ctx.flags) | if ctx.c1 { C1 } else { 0 }
}

#[track_caller]
fn check(
    what: &str,
    fcw: u16,
    operands: &dyn std::fmt::Debug,
    ours: (F80, u16),
    native: (F80, u16),
) {
    assert!(
        ours == native,
        "{what} {operands:x?} fcw {fcw:04x}: ours {:x?} status {:04x}, native {:x?} status {:04x}",
        ours.0,
        ours.1,
        native.0,
        native.1
    );
}

/// What the destination holds afterwards: an unmasked pre-computation exception leaves the register as it was.
fn delivered(ctx: &Context, before: F80, result: F80) -> F80 {
    if ctx.aborts() { before } else { result }
}

macro_rules! binary {
    ($name:ident, $op:literal, $ours:expr) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(10);
            for _ in 0..x87_cases(100_000) {
                let ((a, b), fcw) = (rng.f80_pair(), fcw(&mut rng));
                let mut ctx = Context::from_x87_control(fcw);
                let compute: fn(F80, F80, &mut Context) -> F80 = $ours;
                let ours = compute(a, b, &mut ctx);
                let native = x87!($op, a, b, fcw);
                let ours = (delivered(&ctx, a, ours), status(&ctx));
                check(
                    $op,
                    fcw,
                    &(a, b),
                    ours,
                    (native.st[0], native.fsw & (0x3F | C1)),
                );
            }
        }
    };
}

binary!(fadd, "fadd st, st(1)", |a, b, c| F80::add(a, b, c));
binary!(fsub, "fsub st, st(1)", |a, b, c| F80::sub(a, b, c));
binary!(fsubr, "fsubr st, st(1)", |a, b, c| F80::sub(b, a, c));
binary!(fmul, "fmul st, st(1)", |a, b, c| F80::mul(a, b, c));
binary!(fdiv, "fdiv st, st(1)", |a, b, c| F80::div(a, b, c));
binary!(fdivr, "fdivr st, st(1)", |a, b, c| F80::div(b, a, c));
binary!(fsqrt, "fsqrt", |a, _, c| a.sqrt(c));
binary!(fscale, "fscale", |a, b, c| a.scale(b, c));
binary!(frndint, "frndint", |a, _, c| a.round_to_integral(c));

/// With a memory operand: `$op` reads `{m}`.
macro_rules! memory {
    ($name:ident, $ty:ty, $source:expr, $op:literal, $ours:expr) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(11);
            for _ in 0..x87_cases(40_000) {
                let (a, fcw) = (rng.f80(), fcw(&mut rng));
                let source: fn(&mut Rng) -> $ty = $source;
                let b = source(&mut rng);
                let mut ctx = Context::from_x87_control(fcw);
                let compute: fn(F80, $ty, &mut Context) -> F80 = $ours;
                let ours = compute(a, b, &mut ctx);
                let native = x87!($op, a, F80::ONE, fcw, m = &b);
                let ours = (delivered(&ctx, a, ours), status(&ctx));
                check(
                    $op,
                    fcw,
                    &(a, b),
                    ours,
                    (native.st[0], native.fsw & (0x3F | C1)),
                );
            }
        }
    };
}

memory!(
    fadd_m32,
    F32,
    Rng::f32,
    "fadd dword ptr [{m}]",
    |a, b, c| F80::add(a, b, c)
);
memory!(
    fsubr_m32,
    F32,
    Rng::f32,
    "fsubr dword ptr [{m}]",
    |a, b, c| F80::sub(b, a, c)
);
memory!(
    fmul_m64,
    F64,
    Rng::f64,
    "fmul qword ptr [{m}]",
    |a, b, c| F80::mul(a, b, c)
);
memory!(
    fdiv_m64,
    F64,
    Rng::f64,
    "fdiv qword ptr [{m}]",
    |a, b, c| F80::div(a, b, c)
);
memory!(
    fdivr_m32,
    F32,
    Rng::f32,
    "fdivr dword ptr [{m}]",
    |a, b, c| F80::div(b, a, c)
);
memory!(
    fiadd_m32,
    i32,
    |r| r.int() as i32,
    "fiadd dword ptr [{m}]",
    |a, b, c| F80::add(a, b, c)
);
memory!(
    fidivr_m16,
    i16,
    |r| r.int() as i16,
    "fidivr word ptr [{m}]",
    |a, b, c| F80::div(b, a, c)
);
memory!(
    fisub_m16,
    i16,
    |r| r.int() as i16,
    "fisub word ptr [{m}]",
    |a, b, c| F80::sub(a, b, c)
);

/// Loads push; an aborted one pushes nothing, so that ST(0) is still `a`.
macro_rules! load {
    ($name:ident, $ty:ty, $source:expr, $op:literal, $ours:expr) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(12);
            for _ in 0..x87_cases(40_000) {
                let (a, fcw) = (F80::ONE, fcw(&mut rng));
                let source: fn(&mut Rng) -> $ty = $source;
                let b = source(&mut rng);
                let mut ctx = Context::from_x87_control(fcw);
                let compute: fn($ty, &mut Context) -> F80 = $ours;
                let ours = compute(b, &mut ctx);
                let native = x87!($op, a, F80::ONE, fcw, m = &b);
                // Unlike arithmetic, a load is not stopped by an unmasked denormal exception.
                let ours = if ctx.unmasked() & flag::IE != 0 {
                    a
                } else {
                    ours
                };
                let ours = (ours, status(&ctx));
                check($op, fcw, &b, ours, (native.st[0], native.fsw & (0x3F | C1)));
            }
        }
    };
}

load!(fld_m32, F32, Rng::f32, "fld dword ptr [{m}]", |b, c| b
    .to_f80(c));
load!(fld_m64, F64, Rng::f64, "fld qword ptr [{m}]", |b, c| b
    .to_f80(c));
load!(fild_m64, i64, Rng::int, "fild qword ptr [{m}]", |b, _| {
    F80::from_i64(b)
});
load!(fbld, [u8; 16], bcd, "fbld tbyte ptr [{m}]", |b, _| {
    F80::from_bcd(b[..10].try_into().unwrap())
});

/// Packed decimals, one in eight with digits above nine.
fn bcd(rng: &mut Rng) -> [u8; 16] {
    let mut bytes = [0; 16];
    let wild = rng.below(8) == 0;
    for byte in &mut bytes[..9] {
        *byte = (rng.below(10) << 4 | rng.below(10)) as u8;
        if wild {
            *byte = rng.next() as u8;
        }
    }
    bytes[9] = rng.next() as u8;
    bytes
}

/// Stores: `$op` writes `{m}`; compared are the bytes, the flags and C1. An aborted store leaves the memory.
macro_rules! store {
    ($name:ident, $op:literal, $bytes:expr, $abort:expr, $ours:expr) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(13);
            for _ in 0..x87_cases(60_000) {
                let (a, fcw) = (rng.f80(), fcw(&mut rng));
                let mut ctx = Context::from_x87_control(fcw);
                let compute: fn(F80, &mut Context) -> [u8; $bytes] = $ours;
                let mut ours = compute(a, &mut ctx);
                if ctx.unmasked() & $abort != 0 {
                    ours = [0xAA; $bytes];
                }
                let mut memory = [0xAA; $bytes];
                let native = x87!($op, a, F80::ONE, fcw, m = &mut memory);
                let fsw = native.fsw & (0x3F | C1);
                assert!(
                    (ours, status(&ctx)) == (memory, fsw),
                    "{} {a:x?} fcw {fcw:04x}: ours {ours:x?} status {:04x}, native {memory:x?} status {fsw:04x}",
                    $op, status(&ctx)
                );
            }
        }
    };
}

const NARROW: u8 = flag::PRE_COMPUTATION | flag::OE | flag::UE;
store!(fst_m32, "fst dword ptr [{m}]", 4, NARROW, |a, c| a
    .to_f32(c)
    .0
    .to_le_bytes());
store!(fst_m64, "fst qword ptr [{m}]", 8, NARROW, |a, c| a
    .to_f64(c)
    .0
    .to_le_bytes());
store!(fist_m16, "fist word ptr [{m}]", 2, flag::IE, |a, c| a
    .to_i16(c.rounding, c)
    .to_le_bytes());
store!(fist_m32, "fist dword ptr [{m}]", 4, flag::IE, |a, c| a
    .to_i32(c.rounding, c)
    .to_le_bytes());
store!(
    fistp_m64,
    "fld st\nfistp qword ptr [{m}]",
    8,
    flag::IE,
    |a, c| a.to_i64(c.rounding, c).to_le_bytes()
);
store!(
    fbstp,
    "fld st\nfbstp tbyte ptr [{m}]",
    10,
    flag::IE,
    |a, c| a.to_bcd(c)
);

#[test]
fn fisttp_m64() {
    let mut rng = Rng::new(14);
    for _ in 0..x87_cases(20_000) {
        let (a, fcw) = (rng.f80(), fcw(&mut rng) | 0x3F);
        let mut ctx = Context::from_x87_control(fcw);
        let ours = a.to_i64(Rounding::Zero, &mut ctx);
        let mut memory = 0i64;
        let native = x87!(
            "fld st\nfisttp qword ptr [{m}]",
            a,
            F80::ONE,
            fcw,
            m = &mut memory
        );
        assert_eq!(
            (ours, status(&ctx)),
            (memory, native.fsw & (0x3F | C1)),
            "{a:x?} fcw {fcw:04x}"
        );
    }
}

/// C3, C2 and C0 of a comparison.
fn condition(relation: Relation) -> u16 {
    match relation {
        Relation::Greater => 0,
        Relation::Less => 0x0100,
        Relation::Equal => 0x4000,
        Relation::Unordered => 0x4500,
    }
}

macro_rules! comparison {
    ($name:ident, $op:literal, $ours:expr) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(15);
            for _ in 0..x87_cases(60_000) {
                let ((a, b), fcw) = (rng.f80_pair(), fcw(&mut rng) | 0x3F);
                let mut ctx = Context::from_x87_control(fcw);
                let compute: fn(F80, F80, &mut Context) -> Relation = $ours;
                let ours = condition(compute(a, b, &mut ctx)) | status(&ctx);
                let native = x87!($op, a, b, fcw).fsw & 0x473F;
                assert_eq!(
                    ours, native,
                    "{} {a:x?} {b:x?}: {ours:04x} {native:04x}",
                    $op
                );
            }
        }
    };
}

comparison!(fcom, "fcom st(1)", |a, b, c| F80::compare_signalling(
    a, b, c
));
comparison!(fucom, "fucom st(1)", |a, b, c| F80::compare_quiet(a, b, c));
comparison!(ftst, "ftst", |a, _, c| F80::compare_signalling(
    a,
    F80::ZERO,
    c
));

#[test]
fn fcom_m64() {
    let mut rng = Rng::new(16);
    for _ in 0..x87_cases(40_000) {
        let (b, fcw) = (rng.f64(), 0x37F);
        let near = b.to_f80(&mut Context::default());
        let a = if rng.below(2) == 0 {
            rng.f80_near(near)
        } else {
            rng.f80()
        };
        let mut ctx = Context::from_x87_control(fcw);
        let ours = condition(F80::compare_signalling(a, b, &mut ctx)) | status(&ctx);
        let native = x87!("fcom qword ptr [{m}]", a, F80::ONE, fcw, m = &b).fsw & 0x473F;
        assert_eq!(ours, native, "{a:x?} {b:x?}: {ours:04x} {native:04x}");
    }
}

#[test]
fn fxam() {
    let mut rng = Rng::new(17);
    for _ in 0..x87_cases(40_000) {
        let a = rng.f80();
        let class = match a.classify() {
            F80Class::Unsupported => 0,
            F80Class::Nan => 0x0100,
            F80Class::Normal => 0x0400,
            F80Class::Infinity => 0x0500,
            F80Class::Zero => 0x4000,
            F80Class::Denormal => 0x4400,
        };
        let ours = class | if a.sign() { C1 } else { 0 };
        assert_eq!(
            ours,
            x87!("fxam", a, F80::ONE, 0x37F).fsw & 0x4700,
            "{a:x?}"
        );
    }
}

fn remainder_case(name: &str, rng: &mut Rng, native: impl Fn(F80, F80, u16) -> X87, nearest: bool) {
    let ((a, b), fcw) = (rng.f80_pair(), fcw(rng));
    let mut ctx = Context::from_x87_control(fcw);
    let Remainder { value, quotient } = if nearest {
        a.remainder_nearest(b, &mut ctx)
    } else {
        a.remainder_truncated(b, &mut ctx)
    };
    let bits = match quotient {
        Quotient::Undefined => 0,
        Quotient::Partial => 0x0400,
        Quotient::Bits(q) => {
            (if q & 4 != 0 { 0x0100 } else { 0 })
                | (if q & 2 != 0 { 0x4000 } else { 0 })
                | (if q & 1 != 0 { C1 } else { 0 })
        }
    };
    let native = native(a, b, fcw);
    let ours = (delivered(&ctx, a, value), bits | u16::from(ctx.flags));
    check(
        name,
        fcw,
        &(a, b),
        ours,
        (native.st[0], native.fsw & 0x473F),
    );
}

#[test]
fn fprem() {
    let mut rng = Rng::new(18);
    for _ in 0..x87_cases(60_000) {
        remainder_case(
            "fprem",
            &mut rng,
            |a, b, fcw| x87!("fprem", a, b, fcw),
            false,
        );
    }
}

#[test]
fn fprem1() {
    let mut rng = Rng::new(19);
    for _ in 0..x87_cases(60_000) {
        remainder_case(
            "fprem1",
            &mut rng,
            |a, b, fcw| x87!("fprem1", a, b, fcw),
            true,
        );
    }
}

#[test]
fn fxtract() {
    let mut rng = Rng::new(20);
    for _ in 0..x87_cases(40_000) {
        let (a, fcw) = (rng.f80(), fcw(&mut rng));
        let mut ctx = Context::from_x87_control(fcw);
        let (exponent, significand) = a.extract(&mut ctx);
        let native = x87!("fxtract", a, F80::ONE, fcw);
        let ours = if ctx.aborts() {
            [a, F80::ONE]
        } else {
            [significand, exponent]
        };
        assert_eq!(
            (ours, status(&ctx)),
            (native.st, native.fsw & (0x3F | C1)),
            "{a:x?} fcw {fcw:04x}"
        );
    }
}
