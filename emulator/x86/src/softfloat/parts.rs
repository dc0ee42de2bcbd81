//! Unpacking, NaN selection and rounding, shared by every operation.

use super::{Context, F32, F64, F80, Rounding, flag};

/// What an operand is. The order matters: everything from `Quiet` on takes the NaN path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Signed zero, also a denormal under DAZ.
    Zero,
    /// A nonzero number, normalised.
    Finite,
    /// Infinity.
    Infinity,
    /// Quiet NaN.
    Quiet,
    /// Signalling NaN.
    Signalling,
    /// An F80 encoding that is no number: unnormal, pseudo-NaN or pseudo-infinity (SDM vol. 1 table 8-3).
    Unsupported,
}

/// An operand taken apart. For `Finite` the value is `sig * 2^(exp - 63)` with bit 63 of `sig` set;
/// for NaNs `sig` is the F80 significand.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    pub(super) kind: Kind,
    pub(super) sign: bool,
    /// The operand was denormal (or pseudo-denormal) in its own format.
    pub(super) denormal: bool,
    pub(super) exp: i32,
    pub(super) sig: u64,
}

/// An unrounded nonzero result: `sig * 2^(exp - 127)`, bit 127 set, lost bits jammed into bit 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
    pub sign: bool,
    pub exp: i32,
    pub sig: u128,
}

/// Anything that an x87 arithmetic instruction accepts as an operand: F80, m32fp, m64fp, m16int, m32int.
pub trait Operand: Copy {
    #[doc(hidden)]
    fn parts(self, ctx: &Context) -> Parts;
}

/// A format that results can be delivered in.
pub trait Format: Operand {
    /// Bits of the significand, with the integer bit.
    const PRECISION: u32;
    /// The largest exponent, which is also the bias.
    const EMAX: i32;
    /// Whether the destination is an x87 register: selects the NaN rule and the response to unmasked OE and UE.
    const EXTENDED: bool;
    /// The default NaN.
    const DEFAULT_NAN: Self;

    /// Builds a value from a biased exponent and a significand whose integer bit is bit 63.
    #[doc(hidden)]
    fn assemble(sign: bool, biased: u32, sig: u64) -> Self;
}

/// Shifts right, keeping in bit 0 whether anything but zeros was lost.
#[inline]
pub(super) fn shift_right_jam(value: u128, count: u32) -> u128 {
    match count {
        0 => value,
        1..=127 => (value >> count) | u128::from(value << (128 - count) != 0),
        _ => u128::from(value != 0),
    }
}

#[inline]
fn narrow_parts(sign: bool, biased: u32, frac: u64, emax: i32, daz: bool) -> Parts {
    // `frac` is left-aligned below bit 63.
    let parts = |kind, denormal, exp, sig| Parts {
        kind,
        sign,
        denormal,
        exp,
        sig,
    };
    if biased == 0 {
        if frac == 0 || daz {
            return parts(Kind::Zero, false, 0, 0);
        }
        let shift = frac.leading_zeros();
        return parts(Kind::Finite, true, 1 - emax - shift as i32, frac << shift);
    }
    let sig = frac | 1 << 63;
    if biased as i32 > 2 * emax {
        let kind = match frac {
            0 => Kind::Infinity,
            _ if frac & 1 << 62 != 0 => Kind::Quiet,
            _ => Kind::Signalling,
        };
        return parts(kind, false, 0, sig);
    }
    parts(Kind::Finite, false, biased as i32 - emax, sig)
}

impl Operand for F32 {
    #[inline]
    fn parts(self, ctx: &Context) -> Parts {
        let (biased, frac) = (self.0 >> 23 & 0xFF, u64::from(self.0 & 0x7F_FFFF) << 40);
        narrow_parts(self.0 >> 31 != 0, biased, frac, Self::EMAX, ctx.daz)
    }
}

impl Operand for F64 {
    #[inline]
    fn parts(self, ctx: &Context) -> Parts {
        let (biased, frac) = (
            (self.0 >> 52) as u32 & 0x7FF,
            (self.0 & ((1 << 52) - 1)) << 11,
        );
        narrow_parts(self.0 >> 63 != 0, biased, frac, Self::EMAX, ctx.daz)
    }
}

impl Operand for F80 {
    #[inline]
    fn parts(self, _: &Context) -> Parts {
        let (biased, sig) = (i32::from(self.sign_exp & 0x7FFF), self.sig);
        let sign = self.sign();
        let parts = |kind, denormal, exp, sig| Parts {
            kind,
            sign,
            denormal,
            exp,
            sig,
        };
        if biased == 0 {
            if sig == 0 {
                return parts(Kind::Zero, false, 0, 0);
            }
            // A pseudo-denormal (integer bit set) has the same weight as a normal with biased exponent 1.
            let shift = sig.leading_zeros();
            return parts(
                Kind::Finite,
                true,
                1 - Self::EMAX - shift as i32,
                sig << shift,
            );
        }
        if sig >> 63 == 0 {
            return parts(Kind::Unsupported, false, 0, sig);
        }
        if biased == 0x7FFF {
            let kind = match sig << 1 {
                0 => Kind::Infinity,
                frac if frac >> 63 != 0 => Kind::Quiet,
                _ => Kind::Signalling,
            };
            return parts(kind, false, 0, sig);
        }
        parts(Kind::Finite, false, biased - Self::EMAX, sig)
    }
}

impl Operand for i64 {
    #[inline]
    fn parts(self, _: &Context) -> Parts {
        let (sign, magnitude) = (self < 0, self.unsigned_abs());
        if magnitude == 0 {
            return Parts {
                kind: Kind::Zero,
                sign: false,
                denormal: false,
                exp: 0,
                sig: 0,
            };
        }
        let shift = magnitude.leading_zeros();
        Parts {
            kind: Kind::Finite,
            sign,
            denormal: false,
            exp: 63 - shift as i32,
            sig: magnitude << shift,
        }
    }
}

impl Operand for i32 {
    #[inline]
    fn parts(self, ctx: &Context) -> Parts {
        i64::from(self).parts(ctx)
    }
}

impl Operand for i16 {
    #[inline]
    fn parts(self, ctx: &Context) -> Parts {
        i64::from(self).parts(ctx)
    }
}

impl Format for F32 {
    const PRECISION: u32 = 24;
    const EMAX: i32 = 127;
    const EXTENDED: bool = false;
    const DEFAULT_NAN: Self = F32::DEFAULT_NAN;

    #[inline]
    fn assemble(sign: bool, biased: u32, sig: u64) -> Self {
        Self(u32::from(sign) << 31 | biased << 23 | ((sig << 1) >> 41) as u32)
    }
}

impl Format for F64 {
    const PRECISION: u32 = 53;
    const EMAX: i32 = 1023;
    const EXTENDED: bool = false;
    const DEFAULT_NAN: Self = F64::DEFAULT_NAN;

    #[inline]
    fn assemble(sign: bool, biased: u32, sig: u64) -> Self {
        Self(u64::from(sign) << 63 | u64::from(biased) << 52 | (sig << 1) >> 12)
    }
}

impl Format for F80 {
    const PRECISION: u32 = 64;
    const EMAX: i32 = 16383;
    const EXTENDED: bool = true;
    const DEFAULT_NAN: Self = F80::DEFAULT_NAN;

    #[inline]
    fn assemble(sign: bool, biased: u32, sig: u64) -> Self {
        Self::new(u16::from(sign) << 15 | biased as u16, sig)
    }
}

pub(super) fn zero<F: Format>(sign: bool) -> F {
    F::assemble(sign, 0, 0)
}

pub(super) fn infinity<F: Format>(sign: bool) -> F {
    F::assemble(sign, 2 * F::EMAX as u32 + 1, 1 << 63)
}

fn quieted<F: Format>(nan: Parts) -> F {
    F::assemble(nan.sign, 2 * F::EMAX as u32 + 1, nan.sig | 3 << 62)
}

/// Raises IE and gives the default NaN.
#[cold]
pub(super) fn invalid<F: Format>(ctx: &mut Context) -> F {
    ctx.raise(flag::IE);
    F::DEFAULT_NAN
}

/// The result of a one-operand instruction whose operand is a NaN or unsupported.
#[cold]
pub(super) fn propagate_one<F: Format>(a: Parts, ctx: &mut Context) -> F {
    match a.kind {
        Kind::Unsupported => return invalid(ctx),
        Kind::Signalling => ctx.raise(flag::IE),
        _ => {}
    }
    quieted(a)
}

/// The result of a two-operand instruction, an operand of which is a NaN or unsupported.
///
/// SDM vol. 1 table 4-7. SSE takes the first operand that is a NaN. The x87 prefers a quiet NaN over a signalling
/// one, then the larger significand, then the positive sign.
#[cold]
pub(super) fn propagate<F: Format>(a: Parts, b: Parts, ctx: &mut Context) -> F {
    if a.kind == Kind::Unsupported || b.kind == Kind::Unsupported {
        return invalid(ctx);
    }
    if a.kind == Kind::Signalling || b.kind == Kind::Signalling {
        ctx.raise(flag::IE);
    }
    if b.kind < Kind::Quiet {
        return quieted(a);
    }
    if a.kind < Kind::Quiet {
        return quieted(b);
    }
    if !F::EXTENDED {
        return quieted(a);
    }
    let take_a = match (a.kind, b.kind) {
        (Kind::Signalling, Kind::Quiet) => false,
        (Kind::Quiet, Kind::Signalling) => true,
        _ => (a.sig, b.sign) > (b.sig, a.sign),
    };
    quieted(if take_a { a } else { b })
}

/// Rounds `hi:lo` to the upper `precision` bits of `hi`.
///
/// Returns the significand (without renormalising a carry), whether it carried out of bit 63, whether it was inexact
/// and whether the magnitude went up.
#[inline]
fn round_bits(
    sign: bool,
    sig: u128,
    precision: u32,
    rounding: Rounding,
) -> (u64, bool, bool, bool) {
    let dropped = 128 - precision;
    let frac = sig << precision;
    let kept = (sig >> 64) as u64 >> (dropped - 64) << (dropped - 64);
    let inexact = frac != 0;
    let up = match rounding {
        Rounding::Nearest => {
            const HALF: u128 = 1 << 127;
            frac > HALF || frac == HALF && kept >> (dropped - 64) & 1 != 0
        }
        Rounding::Down => inexact && sign,
        Rounding::Up => inexact && !sign,
        Rounding::Zero => false,
    };
    let (sum, carry) = kept.overflowing_add(u64::from(up) << (dropped - 64));
    (sum, carry, inexact, up)
}

/// Rounds to the format's own precision. See [`round_to`].
#[inline]
pub(super) fn round<F: Format>(value: Exact, ctx: &mut Context) -> F {
    round_to(value, F::PRECISION, ctx)
}

/// Rounds to `precision` bits, detects overflow and underflow, and packs.
///
/// SDM vol. 1 §4.9.1.4 to §4.9.1.6. Tininess is detected after rounding.
#[inline]
pub(super) fn round_to<F: Format>(value: Exact, precision: u32, ctx: &mut Context) -> F {
    let Exact { sign, mut exp, sig } = value;
    let (mut rounded, carry, inexact, up) = round_bits(sign, sig, precision, ctx.rounding);
    if carry {
        rounded = 1 << 63;
        exp += 1;
    }
    if exp < 1 - F::EMAX {
        return underflow(value, rounded, exp, (inexact, up), precision, ctx);
    }
    if exp > F::EMAX {
        return overflow(sign, rounded, exp, (inexact, up), precision, ctx);
    }
    normal(sign, exp, rounded, (inexact, up), ctx)
}

/// A result whose exponent fits.
#[inline(always)]
fn normal<F: Format>(
    sign: bool,
    exp: i32,
    rounded: u64,
    (inexact, up): (bool, bool),
    ctx: &mut Context,
) -> F {
    if inexact {
        ctx.raise(flag::PE);
    }
    ctx.c1 = up;
    F::assemble(sign, (exp + F::EMAX) as u32, rounded)
}

/// What unmasked overflow and underflow add to or take from the exponent of an x87 register result.
const WRAP: i32 = 24576;

#[cold]
fn underflow<F: Format>(
    value: Exact,
    rounded: u64,
    exp: i32,
    (inexact, up): (bool, bool),
    precision: u32,
    ctx: &mut Context,
) -> F {
    let sign = value.sign;
    let emin = 1 - F::EMAX;
    if ctx.masks & flag::UE == 0 {
        ctx.raise(flag::UE);
        if F::EXTENDED {
            // FSCALE can go below what the adjustment brings back: then the result is a zero.
            if exp + WRAP < emin {
                ctx.raise(flag::PE);
                return zero(sign);
            }
            return normal(sign, exp + WRAP, rounded, (inexact, up), ctx);
        }
        if inexact {
            ctx.raise(flag::PE);
        }
        return zero(sign);
    }
    if ctx.ftz && !F::EXTENDED {
        ctx.raise(flag::UE | flag::PE);
        return zero(sign);
    }
    let sig = shift_right_jam(value.sig, (emin - value.exp) as u32);
    let (rounded, _, inexact, up) = round_bits(sign, sig, precision, ctx.rounding);
    if inexact {
        ctx.raise(flag::UE | flag::PE);
    }
    ctx.c1 = up;
    // Rounding may have reached the smallest normal number.
    F::assemble(sign, (rounded >> 63) as u32, rounded)
}

#[cold]
fn overflow<F: Format>(
    sign: bool,
    rounded: u64,
    exp: i32,
    (inexact, up): (bool, bool),
    precision: u32,
    ctx: &mut Context,
) -> F {
    ctx.raise(flag::OE);
    if ctx.masks & flag::OE == 0 {
        if F::EXTENDED && exp - WRAP > F::EMAX {
            ctx.raise(flag::PE);
            ctx.c1 = true;
            return infinity(sign);
        }
        if F::EXTENDED {
            return normal(sign, exp - WRAP, rounded, (inexact, up), ctx);
        }
        if inexact {
            ctx.raise(flag::PE);
        }
        ctx.c1 = up;
        return infinity(sign);
    }
    ctx.raise(flag::PE);
    let to_infinity = match ctx.rounding {
        Rounding::Nearest => true,
        Rounding::Down => sign,
        Rounding::Up => !sign,
        Rounding::Zero => false,
    };
    ctx.c1 = to_infinity;
    if to_infinity {
        infinity(sign)
    } else {
        F::assemble(sign, 2 * F::EMAX as u32, !0 << (64 - precision))
    }
}
