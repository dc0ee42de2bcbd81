//! The transcendentals against the host: within one unit in the last place, with the same flags.

use super::native::x87;
use super::rng::Rng;
use super::x87_cases;
use crate::softfloat::{Context, F80, flag};

const EXCEPTIONS: u16 = 0x3F;
const C2: u16 = 0x0400;

/// Random rounding; one time in four random masks.
fn fcw(rng: &mut Rng) -> u16 {
    let masks = if rng.below(4) == 0 {
        rng.below(64) as u16
    } else {
        0x3F
    };
    0x0340 | masks | (rng.below(4) as u16) << 10
}

/// Units in the last place between two values of one sign; NaNs and infinities must be the same.
fn distance(a: F80, b: F80) -> u64 {
    let key = |v: F80| i128::from(v.sign_exp & 0x7FFF) << 63 | i128::from(v.sig & !(1 << 63));
    let special = |v: F80| v.sign_exp & 0x7FFF == 0x7FFF;
    if a == b {
        0
    } else if a.sign() != b.sign() || special(a) || special(b) {
        u64::MAX
    } else {
        (key(a) - key(b)).unsigned_abs().min(1 << 60) as u64
    }
}

macro_rules! transcendental {
    ($name:ident, $op:literal, $operands:expr, $ours:expr) => {
        #[test]
        fn $name() {
            let mut rng = Rng::new(40);
            let mut differing = 0u64;
            let count = x87_cases(20_000);
            for _ in 0..count {
                let operands: fn(&mut Rng) -> (F80, F80) = $operands;
                let ((a, b), fcw) = (operands(&mut rng), fcw(&mut rng));
                let mut ctx = Context::from_x87_control(fcw);
                let compute: fn(F80, F80, &mut Context) -> Option<[F80; 2]> = $ours;
                let ours = compute(a, b, &mut ctx);
                let native = x87!($op, a, b, fcw);
                let [top, below] = if ctx.aborts() { [a, b] } else { ours.unwrap_or([a, b]) };
                let far = distance(top, native.st[0]).max(distance(below, native.st[1]));
                let fsw = u16::from(ctx.flags) | if ours.is_none() { C2 } else { 0 };
                // An infinity or a zero may stand for the neighbouring number when a directed rounding differs.
                assert!(
                    far <= 1 && fsw == native.fsw & (EXCEPTIONS | C2),
                    "{} {a:x?} {b:x?} fcw {fcw:04x}: ours {top:x?} {below:x?} {fsw:04x}, native {:x?} {:04x}",
                    $op, native.st, native.fsw
                );
                differing += u64::from(far != 0);
            }
            println!("{}: {differing} of {count} differ by one unit", $op);
        }
    };
}

fn angles(rng: &mut Rng) -> (F80, F80) {
    (rng.f80_within(-40, 66), F80::ONE)
}

fn pair(rng: &mut Rng) -> (F80, F80) {
    (rng.f80_within(-3, 3), rng.f80_within(-6, 6))
}

transcendental!(fsin, "fsin", angles, |a, b, c| Some([a.sin(c)?, b]));
transcendental!(fcos, "fcos", angles, |a, b, c| Some([a.cos(c)?, b]));
transcendental!(fsincos, "fsincos", angles, |a, _, c| a
    .sin_cos(c)
    .map(|(s, c)| [c, s]));
transcendental!(fptan, "fptan", angles, |a, _, c| a
    .tan(c)
    .map(|(t, one)| [one, t]));
transcendental!(
    f2xm1,
    "f2xm1",
    |r| (r.f80_within(-70, 2), F80::ONE),
    |a, b, c| Some([a.exp2_minus_1(c), b])
);
transcendental!(
    fpatan,
    "fld st(1)\nfld st(1)\nfpatan",
    pair,
    |a, b, c| Some([b.atan2(a, c), a])
);
transcendental!(fyl2x, "fld st(1)\nfld st(1)\nfyl2x", pair, |a, b, c| Some(
    [a.log2_times(b, c), a]
));
transcendental!(
    fyl2xp1,
    "fld st(1)\nfld st(1)\nfyl2xp1",
    |r| (r.f80_within(-70, 2), r.f80_within(-6, 6)),
    |a, b, c| Some([a.log2_plus_1_times(b, c), a])
);

#[test]
fn sine_of_pi_shows_the_66_bit_pi() {
    let mut ctx = Context::default();
    let pi = F80::new(0x4000, 0xC90F_DAA2_2168_C235);
    assert_eq!(pi.sin(&mut ctx), Some(F80::new(0xBFBF, 1 << 63)));
    assert_eq!(ctx.flags, flag::PE);
}
