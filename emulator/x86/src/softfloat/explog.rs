//! F2XM1, FYL2X and FYL2XP1 (SDM vol. 2A, with their tables of special cases).
//!
//! Results differ from the true ones by less than 0.5001 units in the last place. Outside the domain that the manual
//! defines, F2XM1 returns its operand, FYL2XP1 works down to -1 and returns ST(0) below, as AMD processors do.
//! Precision control has no effect; rounding control has.

use super::parts::{
    Exact, Kind, Operand, Parts, infinity, invalid, propagate, propagate_one, zero,
};
use super::trig::deliver;
use super::wide::{INVERSE_FACTORIALS, ODD_RECIPROCALS, alternating, mul_high, series};
use super::{Context, F80, flag};

/// The natural logarithm of two.
const LN_2: Exact = Exact {
    sign: false,
    exp: -1,
    sig: 0xB172_17F7_D1CF_79AB_C9E3_B398_03F2_F6AF,
};

/// Two over the natural logarithm of two.
const TWO_OVER_LN_2: Exact = Exact {
    sign: false,
    exp: 1,
    sig: 0xB8AA_3B29_5C17_F0BB_BE87_FED0_691D_3E89,
};

/// The significand of the square root of two.
const SQRT_2: u128 = 0xB504_F333_F9DE_6484_597D_89B3_754A_BE9F;

const ONE: Exact = Exact {
    sign: false,
    exp: 0,
    sig: 1 << 127,
};

/// The base-two logarithm, by `2/ln 2 * atanh((m - 1) / (m + 1))` for a significand `m` from sqrt(1/2) to sqrt(2).
/// `None` is zero.
fn log2(a: Exact) -> Option<Exact> {
    let high = a.sig >= SQRT_2;
    let exponent = a.exp + i32::from(high);
    // (m - 1) / (m + 1) with m = a.sig / 2^127, or half of that.
    let (sign, numerator, denominator) = if high {
        let denominator = Exact {
            sign: false,
            exp: 0,
            sig: a.sig,
        }
        .plus(Exact { exp: 1, ..ONE });
        (true, a.sig.wrapping_neg(), denominator)
    } else {
        (
            false,
            a.sig - (1 << 127),
            Exact {
                sign: false,
                exp: 0,
                sig: a.sig,
            }
            .plus(ONE),
        )
    };
    let whole = (exponent != 0)
        .then(|| Exact::from_integer(exponent < 0, 0, u128::from(exponent.unsigned_abs())));
    if numerator == 0 {
        return whole;
    }
    let denominator = denominator.expect("terms of one sign");
    let fraction = log2_of_ratio(Exact::from_integer(sign, -127, numerator).over(denominator));
    match whole {
        Some(whole) => whole.plus(fraction),
        None => Some(fraction),
    }
}

/// `2/ln 2 * atanh(s)` for a magnitude of at most 0.172.
fn log2_of_ratio(s: Exact) -> Exact {
    let z = mul_high(s.sig, s.sig)
        .checked_shr((-2 - 2 * s.exp) as u32)
        .unwrap_or(0);
    let cubic = series(z, ODD_RECIPROCALS.into_iter().take(26));
    s.times(TWO_OVER_LN_2).grown_by(mul_high(z, cubic))
}

/// `2^a - 1` for a magnitude below one.
fn exp2_minus_1(a: Parts) -> Exact {
    let z = a.exact().times(LN_2);
    let fraction = z.fraction();
    if a.sign {
        z.shrunk_by(mul_high(
            fraction,
            alternating(fraction, INVERSE_FACTORIALS.into_iter()),
        ))
    } else {
        z.grown_by(mul_high(
            fraction,
            series(fraction, INVERSE_FACTORIALS.into_iter()),
        ))
    }
}

impl F80 {
    /// F2XM1: `2^self - 1`.
    #[must_use]
    pub fn exp2_minus_1(self, ctx: &mut Context) -> Self {
        let a = self.parts(ctx);
        match a.kind {
            Kind::Zero => return self,
            Kind::Infinity if a.sign => return Self::ONE.negate(),
            Kind::Infinity => return self,
            Kind::Finite => {}
            _ => return propagate_one(a, ctx),
        }
        if a.denormal && ctx.denormal_aborts() {
            return Self::DEFAULT_NAN;
        }
        match (a.exp, a.sig) {
            (0, 0x8000_0000_0000_0000) if a.sign => deliver(
                Exact {
                    sign: true,
                    exp: -1,
                    ..ONE
                },
                ctx,
            ),
            (0.., _) => deliver(a.exact(), ctx),
            _ => deliver(exp2_minus_1(a), ctx),
        }
    }

    /// FYL2X: `y * log2(self)`, that is ST(1) times the logarithm of ST(0).
    #[must_use]
    pub fn log2_times(self, y: Self, ctx: &mut Context) -> Self {
        let (a, b) = (self.parts(ctx), y.parts(ctx));
        if a.kind.max(b.kind) >= Kind::Quiet {
            return propagate(a, b, ctx);
        }
        if a.sign && a.kind != Kind::Zero {
            return invalid(ctx);
        }
        let is_one = a.kind == Kind::Finite && a.exp == 0 && a.sig == 1 << 63;
        let infinite = match (a.kind, b.kind) {
            (Kind::Zero | Kind::Infinity, Kind::Zero) => return invalid(ctx),
            (Kind::Zero, Kind::Finite) => {
                ctx.raise(flag::ZE);
                return infinity(!b.sign);
            }
            (Kind::Finite, Kind::Infinity) if is_one => return invalid(ctx),
            (Kind::Zero | Kind::Infinity, _) | (_, Kind::Infinity) => true,
            _ => false,
        };
        if (a.denormal || b.denormal) && ctx.denormal_aborts() {
            return Self::DEFAULT_NAN;
        }
        let below_one = a.kind == Kind::Zero || a.kind == Kind::Finite && a.exp < 0;
        if infinite {
            return infinity(b.sign ^ below_one);
        }
        if b.kind == Kind::Zero || is_one {
            return zero(b.sign ^ below_one);
        }
        deliver(log2(a.exact()).expect("not one").times(b.exact()), ctx)
    }

    /// FYL2XP1: `y * log2(self + 1)`, that is ST(1) times the logarithm of one more than ST(0).
    #[must_use]
    pub fn log2_plus_1_times(self, y: Self, ctx: &mut Context) -> Self {
        let (a, b) = (self.parts(ctx), y.parts(ctx));
        if a.kind.max(b.kind) >= Kind::Quiet {
            return propagate(a, b, ctx);
        }
        match (a.kind, b.kind) {
            (Kind::Infinity, _) if a.sign => return invalid(ctx),
            (Kind::Infinity, Kind::Zero) | (Kind::Zero, Kind::Infinity) => return invalid(ctx),
            _ => {}
        }
        if (a.denormal || b.denormal) && ctx.denormal_aborts() {
            return Self::DEFAULT_NAN;
        }
        let sign = a.sign ^ b.sign;
        if a.kind == Kind::Infinity || b.kind == Kind::Infinity {
            return infinity(sign);
        }
        if a.kind == Kind::Zero || b.kind == Kind::Zero {
            return zero(sign);
        }
        if a.sign && a.exp >= 0 {
            return deliver(a.exact(), ctx);
        }
        let log = if a.exp < -2 {
            // Adding one would lose bits of the operand: atanh(a / (2 + a)) does not.
            let two = Exact { exp: 1, ..ONE };
            log2_of_ratio(a.exact().over(two.plus(a.exact()).expect("two is larger")))
        } else {
            log2(ONE.plus(a.exact()).expect("above -1")).expect("not one")
        };
        deliver(log.times(b.exact()), ctx)
    }
}
