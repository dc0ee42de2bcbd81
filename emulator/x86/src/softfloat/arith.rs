//! Addition, subtraction, multiplication, division and square root.
//!
//! SDM vol. 2A/2B: ADDSS, SUBSS, MULSS, DIVSS, SQRTSS, FADD, FSUB, FMUL, FDIV, FSQRT and their tables of results.

use super::parts::{
    Exact, Format, Kind, Operand, Parts, infinity, invalid, propagate, propagate_one, round_to,
    shift_right_jam, zero,
};
use super::{Context, F32, F64, F80, Precision, Rounding, flag, host};

/// `a + b`, or `a - b` when `negate_b`. A NaN's sign is not touched by the negation.
#[inline(always)]
fn add<F: Format>(a: Parts, b: Parts, negate_b: bool, precision: u32, ctx: &mut Context) -> F {
    if a.kind.max(b.kind) >= Kind::Quiet {
        return propagate(a, b, ctx);
    }
    let b = Parts {
        sign: b.sign ^ negate_b,
        ..b
    };
    if a.kind == Kind::Infinity && b.kind == Kind::Infinity && a.sign != b.sign {
        return invalid(ctx);
    }
    if (a.denormal || b.denormal) && ctx.denormal_aborts() {
        return F::DEFAULT_NAN;
    }
    if a.kind == Kind::Infinity || b.kind == Kind::Infinity {
        return infinity(if a.kind == Kind::Infinity {
            a.sign
        } else {
            b.sign
        });
    }
    let value = match (a.kind, b.kind) {
        (Kind::Zero, Kind::Zero) => {
            return zero(if a.sign == b.sign {
                a.sign
            } else {
                ctx.rounding == Rounding::Down
            });
        }
        (Kind::Zero, _) => b.exact(),
        (_, Kind::Zero) => a.exact(),
        _ => match sum(a, b) {
            Some(value) => value,
            None => return zero(ctx.rounding == Rounding::Down),
        },
    };
    round_to(value, precision, ctx)
}

/// The sum of two finite numbers, `None` when they cancel.
#[inline]
fn sum(a: Parts, b: Parts) -> Option<Exact> {
    let (big, small) = if (a.exp, a.sig) >= (b.exp, b.sig) {
        (a, b)
    } else {
        (b, a)
    };
    let high = u128::from(big.sig) << 64;
    let low = shift_right_jam(u128::from(small.sig) << 64, (big.exp - small.exp) as u32);
    if a.sign == b.sign {
        let (sig, carry) = high.overflowing_add(low);
        return Some(if carry {
            Exact {
                sign: big.sign,
                exp: big.exp + 1,
                sig: sig >> 1 | sig & 1 | 1 << 127,
            }
        } else {
            Exact {
                sign: big.sign,
                exp: big.exp,
                sig,
            }
        });
    }
    let difference = high - low;
    if difference == 0 {
        return None;
    }
    let shift = difference.leading_zeros();
    Some(Exact {
        sign: big.sign,
        exp: big.exp - shift as i32,
        sig: difference << shift,
    })
}

#[inline(always)]
fn mul<F: Format>(a: Parts, b: Parts, precision: u32, ctx: &mut Context) -> F {
    let high = a.kind.max(b.kind);
    if high >= Kind::Quiet {
        return propagate(a, b, ctx);
    }
    let any_zero = a.kind == Kind::Zero || b.kind == Kind::Zero;
    if any_zero && high == Kind::Infinity {
        return invalid(ctx);
    }
    if (a.denormal || b.denormal) && ctx.denormal_aborts() {
        return F::DEFAULT_NAN;
    }
    let sign = a.sign ^ b.sign;
    if high == Kind::Infinity {
        return infinity(sign);
    }
    if any_zero {
        return zero(sign);
    }
    let product = u128::from(a.sig) * u128::from(b.sig);
    // The product of two normalised significands lacks at most one bit.
    let shift = u32::from(product >> 127 == 0);
    let exp = a.exp + b.exp + 1 - shift as i32;
    round_to(
        Exact {
            sign,
            exp,
            sig: product << shift,
        },
        precision,
        ctx,
    )
}

#[inline(always)]
fn div<F: Format>(a: Parts, b: Parts, precision: u32, ctx: &mut Context) -> F {
    if a.kind.max(b.kind) >= Kind::Quiet {
        return propagate(a, b, ctx);
    }
    let sign = a.sign ^ b.sign;
    if a.kind == b.kind && a.kind != Kind::Finite {
        return invalid(ctx);
    }
    if b.kind == Kind::Zero && a.kind == Kind::Finite {
        ctx.raise(flag::ZE);
        return infinity(sign);
    }
    if (a.denormal || b.denormal) && ctx.denormal_aborts() {
        return F::DEFAULT_NAN;
    }
    if a.kind == Kind::Infinity || b.kind == Kind::Zero {
        return infinity(sign);
    }
    if a.kind == Kind::Zero || b.kind == Kind::Infinity {
        return zero(sign);
    }
    round_to(quotient(sign, a, b), precision, ctx)
}

/// The quotient of two finite numbers: 64 bits, a half bit and a sticky bit.
#[inline]
fn quotient(sign: bool, a: Parts, b: Parts) -> Exact {
    let below = a.sig < b.sig;
    let dividend = u128::from(a.sig) << (63 + u32::from(below));
    let divisor = u128::from(b.sig);
    let (high, rest) = (dividend / divisor, dividend % divisor);
    let low = match (2 * rest).cmp(&divisor) {
        _ if rest == 0 => 0,
        std::cmp::Ordering::Less => 1,
        std::cmp::Ordering::Equal => 1 << 63,
        std::cmp::Ordering::Greater => 1 << 63 | 1,
    };
    Exact {
        sign,
        exp: a.exp - b.exp - i32::from(below),
        sig: high << 64 | low,
    }
}

#[inline]
fn sqrt<F: Format>(a: Parts, precision: u32, ctx: &mut Context) -> F {
    match a.kind {
        Kind::Zero => return zero(a.sign),
        Kind::Infinity if !a.sign => return infinity(false),
        Kind::Finite if !a.sign => {}
        Kind::Finite | Kind::Infinity => return invalid(ctx),
        _ => return propagate_one(a, ctx),
    }
    if a.denormal && ctx.denormal_aborts() {
        return F::DEFAULT_NAN;
    }
    // A square root cannot lie halfway between two representable numbers.
    let radicand = u128::from(a.sig) << (63 + (a.exp & 1));
    let root = radicand.isqrt();
    let rest = radicand - root * root;
    let low = match rest {
        0 => 0,
        _ if rest <= root => 1,
        _ => 1 << 63 | 1,
    };
    round_to(
        Exact {
            sign: false,
            exp: a.exp >> 1,
            sig: root << 64 | low,
        },
        precision,
        ctx,
    )
}

impl Parts {
    /// A finite number as an unrounded result.
    #[inline]
    pub(super) fn exact(self) -> Exact {
        Exact {
            sign: self.sign,
            exp: self.exp,
            sig: u128::from(self.sig) << 64,
        }
    }
}

macro_rules! narrow_arithmetic {
    ($ty:ty, $host:ident) => {
        impl $ty {
            /// `self + rhs`.
            #[inline]
            #[must_use]
            pub fn add(self, rhs: Self, ctx: &mut Context) -> Self {
                host::$host::add(self, rhs, ctx).unwrap_or_else(|| self.add_soft(rhs, ctx))
            }

            /// `self - rhs`.
            #[inline]
            #[must_use]
            pub fn sub(self, rhs: Self, ctx: &mut Context) -> Self {
                host::$host::sub(self, rhs, ctx).unwrap_or_else(|| self.sub_soft(rhs, ctx))
            }

            /// `self * rhs`.
            #[inline]
            #[must_use]
            pub fn mul(self, rhs: Self, ctx: &mut Context) -> Self {
                host::$host::mul(self, rhs, ctx).unwrap_or_else(|| self.mul_soft(rhs, ctx))
            }

            /// `self / rhs`.
            #[inline]
            #[must_use]
            pub fn div(self, rhs: Self, ctx: &mut Context) -> Self {
                host::$host::div(self, rhs, ctx).unwrap_or_else(|| self.div_soft(rhs, ctx))
            }

            /// The square root.
            #[inline]
            #[must_use]
            pub fn sqrt(self, ctx: &mut Context) -> Self {
                host::$host::sqrt(self, ctx).unwrap_or_else(|| self.sqrt_soft(ctx))
            }

            #[inline(never)]
            pub(super) fn add_soft(self, rhs: Self, ctx: &mut Context) -> Self {
                add(self.parts(ctx), rhs.parts(ctx), false, Self::PRECISION, ctx)
            }

            #[inline(never)]
            pub(super) fn sub_soft(self, rhs: Self, ctx: &mut Context) -> Self {
                add(self.parts(ctx), rhs.parts(ctx), true, Self::PRECISION, ctx)
            }

            #[inline(never)]
            pub(super) fn mul_soft(self, rhs: Self, ctx: &mut Context) -> Self {
                mul(self.parts(ctx), rhs.parts(ctx), Self::PRECISION, ctx)
            }

            #[inline(never)]
            pub(super) fn div_soft(self, rhs: Self, ctx: &mut Context) -> Self {
                div(self.parts(ctx), rhs.parts(ctx), Self::PRECISION, ctx)
            }

            #[inline(never)]
            pub(super) fn sqrt_soft(self, ctx: &mut Context) -> Self {
                sqrt(self.parts(ctx), Self::PRECISION, ctx)
            }
        }
    };
}

narrow_arithmetic!(F32, single);
narrow_arithmetic!(F64, double);

/// Runs an operation with the precision as a constant in the two usual cases, so that it compiles to its own code.
#[inline(always)]
fn by_precision(ctx: &mut Context, operation: impl Fn(u32, &mut Context) -> F80) -> F80 {
    match ctx.precision {
        Precision::Extended => operation(64, ctx),
        Precision::Double => operation(53, ctx),
        Precision::Single => operation(24, ctx),
    }
}

/// The x87 takes either operand from memory in a narrower format or as an integer, so these are not methods.
/// Precision control applies. A narrower denormal raises DE although its F80 value is normal.
impl F80 {
    /// FADD: `a + b`.
    #[must_use]
    pub fn add(a: impl Operand, b: impl Operand, ctx: &mut Context) -> Self {
        by_precision(ctx, |precision, ctx| {
            add(a.parts(ctx), b.parts(ctx), false, precision, ctx)
        })
    }

    /// FSUB, FSUBR: `a - b`.
    #[must_use]
    pub fn sub(a: impl Operand, b: impl Operand, ctx: &mut Context) -> Self {
        by_precision(ctx, |precision, ctx| {
            add(a.parts(ctx), b.parts(ctx), true, precision, ctx)
        })
    }

    /// FMUL: `a * b`.
    #[must_use]
    pub fn mul(a: impl Operand, b: impl Operand, ctx: &mut Context) -> Self {
        by_precision(ctx, |precision, ctx| {
            mul(a.parts(ctx), b.parts(ctx), precision, ctx)
        })
    }

    /// FDIV, FDIVR: `a / b`.
    #[must_use]
    pub fn div(a: impl Operand, b: impl Operand, ctx: &mut Context) -> Self {
        by_precision(ctx, |precision, ctx| {
            div(a.parts(ctx), b.parts(ctx), precision, ctx)
        })
    }

    /// FSQRT.
    #[must_use]
    pub fn sqrt(self, ctx: &mut Context) -> Self {
        sqrt(self.parts(ctx), ctx.precision as u32, ctx)
    }
}
