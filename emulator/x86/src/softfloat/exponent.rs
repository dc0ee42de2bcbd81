//! Partial remainder, scaling and extraction: FPREM, FPREM1, FSCALE, FXTRACT (SDM vol. 2A).

use super::parts::{
    Exact, Kind, Operand, Parts, infinity, invalid, propagate, propagate_one, round, zero,
};
use super::{Context, F80, Format, flag};

/// What FPREM and FPREM1 deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// The remainder, or after a partial reduction the reduced dividend.
    pub value: F80,
    /// What the condition codes tell of the quotient.
    pub quotient: Quotient,
}

/// The quotient of a remainder operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotient {
    /// Its low bits, for C0 (bit 2), C3 (bit 1) and C1 (bit 0).
    Bits(u64),
    /// The reduction is partial: C2 is set.
    Partial,
    /// There is none, because the result is a NaN: C0 and C3 stay.
    Undefined,
}

fn remainder(a: F80, b: F80, nearest: bool, ctx: &mut Context) -> Remainder {
    let value = a;
    let (a, b) = (a.parts(ctx), b.parts(ctx));
    let complete = |value| Remainder {
        value,
        quotient: Quotient::Bits(0),
    };
    let nan = |value| Remainder {
        value,
        quotient: Quotient::Undefined,
    };
    if a.kind.max(b.kind) >= Kind::Quiet {
        return nan(propagate(a, b, ctx));
    }
    if a.kind == Kind::Infinity || b.kind == Kind::Zero {
        return nan(invalid(ctx));
    }
    if (a.denormal || b.denormal) && ctx.denormal_aborts() {
        return nan(F80::DEFAULT_NAN);
    }
    if a.kind == Kind::Zero {
        return complete(value);
    }
    let distance = a.exp - b.exp;
    if b.kind == Kind::Infinity || distance < -1 || distance < 0 && (!nearest || a.sig <= b.sig) {
        return complete(round(a.exact(), ctx));
    }
    if distance < 0 {
        // Between a half and one: nearest takes one divisor away. Both in units of a's last place.
        let rest = 2 * u128::from(b.sig) - u128::from(a.sig);
        return Remainder {
            value: exact_result(!a.sign, a.exp, rest, ctx),
            quotient: Quotient::Bits(1),
        };
    }
    if distance >= 64 {
        // The processor takes 32 to 63 bits off the exponent difference in one step.
        let step = (distance & 31 | 32) as u32;
        let rest = (u128::from(a.sig) << step) % u128::from(b.sig);
        let exp = a.exp - step as i32;
        return Remainder {
            value: exact_result(a.sign, exp, rest, ctx),
            quotient: Quotient::Partial,
        };
    }
    let divisor = u128::from(b.sig);
    let dividend = u128::from(a.sig) << distance;
    let (mut quotient, mut rest, mut sign) = (dividend / divisor, dividend % divisor, a.sign);
    if nearest && (2 * rest > divisor || 2 * rest == divisor && quotient & 1 != 0) {
        rest = divisor - rest;
        quotient += 1;
        sign = !sign;
    }
    // A zero keeps the dividend's sign.
    let sign = if rest == 0 { a.sign } else { sign };
    Remainder {
        value: exact_result(sign, b.exp, rest, ctx),
        quotient: Quotient::Bits(quotient as u64),
    }
}

/// `sig * 2^(exp - 63)`, which fits the format.
fn exact_result(sign: bool, exp: i32, sig: u128, ctx: &mut Context) -> F80 {
    if sig == 0 {
        return zero(sign);
    }
    let shift = sig.leading_zeros();
    round(
        Exact {
            sign,
            exp: exp + 64 - shift as i32,
            sig: sig << shift,
        },
        ctx,
    )
}

/// Truncates towards zero and clamps to what certainly overflows or underflows.
fn scale_count(b: Parts) -> i32 {
    const CLAMP: i32 = 0x1_0000;
    let magnitude = match b.exp {
        ..0 => 0,
        0..16 => (b.sig >> (63 - b.exp)) as i32,
        _ => CLAMP,
    };
    if b.sign { -magnitude } else { magnitude }
}

impl F80 {
    /// FPREM: the remainder of the truncating division.
    #[must_use]
    pub fn remainder_truncated(self, divisor: Self, ctx: &mut Context) -> Remainder {
        remainder(self, divisor, false, ctx)
    }

    /// FPREM1: the IEEE remainder.
    #[must_use]
    pub fn remainder_nearest(self, divisor: Self, ctx: &mut Context) -> Remainder {
        remainder(self, divisor, true, ctx)
    }

    /// FSCALE: `self * 2^trunc(by)`.
    #[must_use]
    pub fn scale(self, by: Self, ctx: &mut Context) -> Self {
        let (a, b) = (self.parts(ctx), by.parts(ctx));
        if a.kind.max(b.kind) >= Kind::Quiet {
            return propagate(a, b, ctx);
        }
        if b.kind == Kind::Infinity && a.kind == if b.sign { Kind::Infinity } else { Kind::Zero } {
            return invalid(ctx);
        }
        if (a.denormal || b.denormal) && ctx.denormal_aborts() {
            return Self::DEFAULT_NAN;
        }
        if a.kind != Kind::Finite {
            return self;
        }
        match b.kind {
            Kind::Infinity if b.sign => zero(a.sign),
            Kind::Infinity => infinity(a.sign),
            Kind::Zero => round(a.exact(), ctx),
            _ => {
                let value = a.exact();
                round(
                    Exact {
                        exp: value.exp + scale_count(b),
                        ..value
                    },
                    ctx,
                )
            }
        }
    }

    /// FXTRACT: the unbiased exponent and the significand.
    #[must_use]
    pub fn extract(self, ctx: &mut Context) -> (Self, Self) {
        let a = self.parts(ctx);
        match a.kind {
            Kind::Zero => {
                ctx.raise(flag::ZE);
                (infinity(true), self)
            }
            Kind::Infinity => (infinity(false), self),
            Kind::Finite => {
                if a.denormal && ctx.denormal_aborts() {
                    return (Self::DEFAULT_NAN, Self::DEFAULT_NAN);
                }
                (
                    Self::from_i64(i64::from(a.exp)),
                    Self::assemble(a.sign, Self::EMAX as u32, a.sig),
                )
            }
            _ => {
                let nan = propagate_one(a, ctx);
                (nan, nan)
            }
        }
    }
}
