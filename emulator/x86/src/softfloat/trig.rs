//! FSIN, FCOS, FSINCOS, FPTAN and FPATAN.
//!
//! SDM vol. 2A gives the tables of special cases, SDM vol. 1 §8.3.8 the value of pi: FSIN and its kin reduce their
//! argument with a pi of 66 bits. Current AMD processors do so as well, so that sin(pi as an F80) is -2^-64 on either.
//! The reduction here is exact for that pi; results then differ from the true ones by less than 0.5001 units in the
//! last place. FPATAN uses pi to full precision. Precision control has no effect; rounding control has.

use super::parts::{Exact, Kind, Operand, Parts, invalid, propagate, propagate_one, round, zero};
use super::wide::{INVERSE_FACTORIALS, ODD_RECIPROCALS, alternating, mul_high};
use super::{Context, F80, flag};

/// Half of the 66-bit pi, in units of 2^-65.
const HALF_PI_66: u128 = 0x3_243F_6A88_85A3_08D3;

/// Pi to 128 bits.
const PI: Exact = Exact {
    sign: false,
    exp: 1,
    sig: 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1,
};

const HALF_PI: Exact = Exact { exp: 0, ..PI };

/// The arc tangents of `i/16` for `i` from 1 (index 0) to 16, in Q128.
pub(super) const ARC_TANGENTS: [u128; 16] = [
    0x0FFA_ADDB_967E_F4E3_6CB2_792D_C0E2_E0D5,
    0x1FD5_BA9A_AC2F_6DC6_5912_F313_E7D1_11DF,
    0x2F72_F697_9CB6_044D_1EC2_D3E2_0727_1D22,
    0x3EB6_EBF2_5901_BAC5_5B71_E7BD_7DE8_85F9,
    0x4D89_DCDC_1FAF_2F34_E2D5_DA4C_693D_7994,
    0x5BD8_6507_937B_C239_C551_9091_6E7F_2242,
    0x6993_BB0F_308F_F2DB_213E_4AF4_800F_389B,
    0x76B1_9C15_86ED_3DA2_B7F2_22F6_5E1D_4682,
    0x832B_F4A6_D986_7E2A_4B6A_09CB_61A5_15C1,
    0x8F00_5D5E_F7F5_9F9B_5C83_5E16_65C4_3748,
    0x9A2F_80E6_71BD_DA20_4226_F8E2_204F_F3BD,
    0xA4BC_7D19_34F7_0924_19A8_7F2A_457D_AC9F,
    0xAEAC_4C38_B4D8_C080_1472_5E2F_3E52_070A,
    0xB805_3E2B_C231_9E73_CB2D_A552_10A4_443D,
    0xC0CE_85B8_AC52_6640_89DD_62C4_6E92_FA25,
    0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1,
];

/// An argument's magnitude less the nearest multiple of pi/2: at most pi/4.
struct Reduced {
    rest: Exact,
    quadrant: u8,
}

fn reduce(a: Parts) -> Reduced {
    if a.exp < -1 {
        return Reduced {
            rest: a.magnitude(),
            quadrant: 0,
        };
    }
    // Below 2^63 the argument is an integer of at most 128 bits in units of 2^-65, and so is pi/2.
    let argument = u128::from(a.sig) << (a.exp + 2);
    let (mut quotient, mut rest) = (argument / HALF_PI_66, argument % HALF_PI_66);
    let above = rest > HALF_PI_66 / 2;
    if above {
        rest = HALF_PI_66 - rest;
        quotient += 1;
    }
    // The rest is not zero: the argument has 64 significant bits, and half the 66-bit pi is odd.
    Reduced {
        rest: Exact::from_integer(above, -65, rest),
        quadrant: quotient as u8 & 3,
    }
}

/// `sin(rest)` for a rest of at most pi/4.
fn sine(rest: Exact) -> Exact {
    let z = square(rest);
    let cubic = alternating(z, INVERSE_FACTORIALS.into_iter().skip(1).step_by(2));
    rest.shrunk_by(mul_high(z, cubic))
}

/// `cos(rest)` for a rest of at most pi/4.
fn cosine(rest: Exact) -> Exact {
    let z = square(rest);
    let quadratic = alternating(z, INVERSE_FACTORIALS.into_iter().step_by(2));
    Exact::from_fraction(mul_high(z, quadratic).max(1).wrapping_neg())
}

/// The square in Q128 of a number below one.
fn square(a: Exact) -> u128 {
    mul_high(a.sig, a.sig)
        .checked_shr((-2 - 2 * a.exp) as u32)
        .unwrap_or(0)
}

impl Reduced {
    fn sin(&self) -> Exact {
        let value = if self.quadrant & 1 == 0 {
            sine(self.rest)
        } else {
            cosine(self.rest)
        };
        value.with_sign(value.sign ^ (self.quadrant & 2 != 0))
    }

    fn cos(&self) -> Exact {
        let value = if self.quadrant & 1 == 0 {
            cosine(self.rest)
        } else {
            sine(self.rest)
        };
        value.with_sign(value.sign ^ matches!(self.quadrant, 1 | 2))
    }
}

/// Rounds a transcendental's result. Hardware calls even the exact ones inexact.
pub(super) fn deliver(value: Exact, ctx: &mut Context) -> F80 {
    let result: F80 = round(value, ctx);
    ctx.raise(flag::PE);
    if result.sign_exp & 0x7FFF == 0 {
        ctx.raise(flag::UE);
    }
    result
}

/// What the four trigonometric instructions have in common: either a finite argument in range, or the outcome.
enum Argument {
    Finite(Parts),
    Zero,
    Special(F80),
    OutOfRange,
}

fn argument(value: F80, ctx: &mut Context) -> Argument {
    let a = value.parts(ctx);
    match a.kind {
        Kind::Zero => Argument::Zero,
        Kind::Finite if a.exp >= 63 => Argument::OutOfRange,
        Kind::Finite if a.denormal && ctx.denormal_aborts() => Argument::Special(value),
        Kind::Finite => Argument::Finite(a),
        Kind::Infinity => Argument::Special(invalid(ctx)),
        _ => Argument::Special(propagate_one(a, ctx)),
    }
}

impl F80 {
    /// FSIN. `None` is C2: the magnitude is 2^63 or more and the operand stays.
    #[must_use]
    pub fn sin(self, ctx: &mut Context) -> Option<Self> {
        match argument(self, ctx) {
            Argument::OutOfRange => None,
            Argument::Zero => Some(self),
            Argument::Special(value) => Some(value),
            Argument::Finite(a) => {
                let sin = reduce(a).sin();
                Some(deliver(sin.with_sign(sin.sign ^ a.sign), ctx))
            }
        }
    }

    /// FCOS. `None` is C2.
    #[must_use]
    pub fn cos(self, ctx: &mut Context) -> Option<Self> {
        match argument(self, ctx) {
            Argument::OutOfRange => None,
            Argument::Zero => Some(Self::ONE),
            Argument::Special(value) => Some(value),
            Argument::Finite(a) => Some(deliver(reduce(a).cos(), ctx)),
        }
    }

    /// FSINCOS: sine and cosine. `None` is C2.
    #[must_use]
    pub fn sin_cos(self, ctx: &mut Context) -> Option<(Self, Self)> {
        match argument(self, ctx) {
            Argument::OutOfRange => None,
            Argument::Zero => Some((self, Self::ONE)),
            Argument::Special(value) => Some((value, value)),
            Argument::Finite(a) => {
                let reduced = reduce(a);
                let sin = reduced.sin();
                let sin = deliver(sin.with_sign(sin.sign ^ a.sign), ctx);
                Some((sin, deliver(reduced.cos(), ctx)))
            }
        }
    }

    /// FPTAN: the tangent and what is pushed above it, which is 1 but for NaNs. `None` is C2.
    #[must_use]
    pub fn tan(self, ctx: &mut Context) -> Option<(Self, Self)> {
        match argument(self, ctx) {
            Argument::OutOfRange => None,
            Argument::Zero => Some((self, Self::ONE)),
            Argument::Special(value) => Some((value, value)),
            Argument::Finite(a) => {
                let reduced = reduce(a);
                let tan = if reduced.rest.exp < -40 {
                    // The quotient could round the excess over the argument away.
                    reduced
                        .rest
                        .grown_by(mul_high(square(reduced.rest), ODD_RECIPROCALS[0]))
                } else {
                    reduced.sin().over(reduced.cos())
                };
                Some((deliver(tan.with_sign(tan.sign ^ a.sign), ctx), Self::ONE))
            }
        }
    }

    /// FPATAN: the angle of the point (`x`, `self`), that is ST(0) and ST(1).
    #[must_use]
    pub fn atan2(self, x: Self, ctx: &mut Context) -> Self {
        let (a, b) = (self.parts(ctx), x.parts(ctx));
        if a.kind.max(b.kind) >= Kind::Quiet {
            return propagate(b, a, ctx);
        }
        if (a.denormal || b.denormal) && ctx.denormal_aborts() {
            return Self::DEFAULT_NAN;
        }
        let right = !b.sign;
        let angle = match (a.kind, b.kind) {
            (Kind::Zero, _) if right => return zero(a.sign),
            (Kind::Zero, _) => PI,
            (Kind::Infinity, Kind::Infinity) if right => Exact { exp: -1, ..PI },
            (Kind::Infinity, Kind::Infinity) => HALF_PI
                .plus(Exact { exp: -1, ..PI })
                .expect("terms of one sign"),
            (Kind::Infinity, _) | (_, Kind::Zero) => HALF_PI,
            (_, Kind::Infinity) if right => return zero(a.sign),
            (_, Kind::Infinity) => PI,
            _ => angle(a, b),
        };
        deliver(angle.with_sign(a.sign), ctx)
    }
}

/// The angle, from zero to pi, of a point with finite coordinates.
fn angle(y: Parts, x: Parts) -> Exact {
    let steep = (y.exp, y.sig) > (x.exp, x.sig);
    let octant = if steep {
        slope_angle(x, y)
    } else {
        slope_angle(y, x)
    };
    let from = |base: Exact, sign| {
        base.plus(octant.with_sign(sign))
            .expect("the octant's angle is at most pi/4")
    };
    match (steep, x.sign) {
        (false, false) => octant,
        (false, true) => from(PI, true),
        (true, sign) => from(HALF_PI, !sign),
    }
}

/// `atan(y / x)` of magnitudes with `y <= x`.
fn slope_angle(y: Parts, x: Parts) -> Exact {
    let distance = x.exp - y.exp;
    if distance > 5 {
        return small_arc_tangent(y.magnitude().over(x.magnitude()));
    }
    // With i/16 the nearest step, atan(y/x) = atan(i/16) + atan((16y - ix) / (16x + iy)), all exact integers.
    let (x, y) = (u128::from(x.sig) << distance, u128::from(y.sig));
    let step = (32 * y / x).div_ceil(2);
    let denominator = Exact::from_integer(false, 0, 16 * x + step * y);
    let (above, below) = (16 * y, step * x);
    let Some(index) = (step as usize).checked_sub(1) else {
        return small_arc_tangent(Exact::from_integer(false, 0, above).over(denominator));
    };
    let base = Exact::from_fraction(ARC_TANGENTS[index]);
    if above == below {
        return base;
    }
    let rest = Exact::from_integer(above < below, 0, above.abs_diff(below)).over(denominator);
    base.plus(small_arc_tangent(rest))
        .expect("the step is larger than the rest")
}

/// `atan(a)` for a magnitude of at most 1/31.
fn small_arc_tangent(a: Exact) -> Exact {
    let z = square(a);
    let cubic = alternating(z, ODD_RECIPROCALS.into_iter().take(14));
    a.shrunk_by(mul_high(z, cubic))
}
