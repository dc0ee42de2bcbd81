//! Conversions between the float formats and to and from integers, and rounding to an integral value.
//!
//! SDM vol. 2: CVTSS2SD, CVTSD2SS, CVTSI2SD, CVTSD2SI, CVTTSD2SI, ROUNDSD, FLD, FST, FILD, FIST, FISTTP, FRNDINT.

use super::parts::{
    Exact, Format, Kind, Operand, Parts, infinity, propagate_one, round, shift_right_jam, zero,
};
use super::{Context, F32, F64, F80, Rounding, flag};

#[inline]
fn convert<F: Format>(a: Parts, signal_denormal: bool, ctx: &mut Context) -> F {
    match a.kind {
        Kind::Zero => return zero(a.sign),
        Kind::Infinity => return infinity(a.sign),
        Kind::Finite => {}
        _ => return propagate_one(a, ctx),
    }
    if signal_denormal && a.denormal && ctx.denormal_aborts() {
        return F::DEFAULT_NAN;
    }
    round(a.exact(), ctx)
}

/// A finite number's magnitude rounded to an integer: the integer, whether that was inexact and whether it went up.
/// `None` when it needs more than 64 bits.
fn integer(a: Parts, rounding: Rounding) -> Option<(u64, bool, bool)> {
    if a.exp > 63 {
        return None;
    }
    let fixed = shift_right_jam(u128::from(a.sig) << 64, (63 - a.exp) as u32);
    let (whole, frac) = ((fixed >> 64) as u64, fixed as u64);
    let up = match rounding {
        Rounding::Nearest => frac > 1 << 63 || frac == 1 << 63 && whole & 1 != 0,
        Rounding::Down => a.sign && frac != 0,
        Rounding::Up => !a.sign && frac != 0,
        Rounding::Zero => false,
    };
    Some((whole.checked_add(u64::from(up))?, frac != 0, up))
}

/// Converts to a signed integer of `bits` bits. What does not fit raises IE and gives the integer indefinite.
#[inline]
fn to_integer(a: Parts, bits: u32, rounding: Rounding, ctx: &mut Context) -> i64 {
    let rounded = match a.kind {
        Kind::Zero => return 0,
        Kind::Finite => integer(a, rounding),
        _ => None,
    };
    let limit = (1 << (bits - 1)) - u64::from(!a.sign);
    match rounded {
        Some((whole, inexact, up)) if whole <= limit => {
            if inexact {
                ctx.raise(flag::PE);
                ctx.c1 = up;
            }
            if a.sign {
                (whole as i64).wrapping_neg()
            } else {
                whole as i64
            }
        }
        _ => {
            ctx.raise(flag::IE);
            i64::MIN >> (64 - bits)
        }
    }
}

fn round_to_integral<F: Format>(
    value: F,
    a: Parts,
    rounding: Rounding,
    signal_denormal: bool,
    suppress_inexact: bool,
    ctx: &mut Context,
) -> F {
    match a.kind {
        // Not the operand itself: under DAZ it may be a denormal.
        Kind::Zero => return zero(a.sign),
        Kind::Infinity => return value,
        Kind::Finite => {}
        _ => return propagate_one(a, ctx),
    }
    if signal_denormal && a.denormal && ctx.denormal_aborts() {
        return F::DEFAULT_NAN;
    }
    if a.exp >= F::PRECISION as i32 - 1 {
        return value;
    }
    let (whole, inexact, up) = integer(a, rounding).expect("a fraction is left, so that it fits");
    if inexact && !suppress_inexact {
        ctx.raise(flag::PE);
    }
    let result = if whole == 0 {
        zero(a.sign)
    } else {
        let shift = whole.leading_zeros();
        let sig = u128::from(whole << shift) << 64;
        round(
            Exact {
                sign: a.sign,
                exp: 63 - shift as i32,
                sig,
            },
            ctx,
        )
    };
    ctx.c1 = up;
    result
}

macro_rules! narrow_conversions {
    ($ty:ty) => {
        impl $ty {
            /// CVT*2SI to 32 bits with `rounding`; CVTT*2SI passes [`Rounding::Zero`].
            #[must_use]
            pub fn to_i32(self, rounding: Rounding, ctx: &mut Context) -> i32 {
                to_integer(self.parts(ctx), 32, rounding, ctx) as i32
            }

            /// CVT*2SI to 64 bits with `rounding`; CVTT*2SI passes [`Rounding::Zero`].
            #[must_use]
            pub fn to_i64(self, rounding: Rounding, ctx: &mut Context) -> i64 {
                to_integer(self.parts(ctx), 64, rounding, ctx)
            }

            /// CVTSI2*.
            #[must_use]
            pub fn from_i32(value: i32, ctx: &mut Context) -> Self {
                convert(value.parts(ctx), false, ctx)
            }

            /// CVTSI2*.
            #[must_use]
            pub fn from_i64(value: i64, ctx: &mut Context) -> Self {
                convert(value.parts(ctx), false, ctx)
            }

            /// ROUNDS*, ROUNDP*. A denormal operand raises no DE.
            #[must_use]
            pub fn round_to_integral(
                self,
                rounding: Rounding,
                suppress_inexact: bool,
                ctx: &mut Context,
            ) -> Self {
                round_to_integral(
                    self,
                    self.parts(ctx),
                    rounding,
                    false,
                    suppress_inexact,
                    ctx,
                )
            }

            /// FLD: to the x87 format. Exact; raises IE for a signalling NaN and DE for a denormal.
            ///
            /// Only unmasked IE keeps the value from being pushed: hardware pushes it in spite of unmasked DE.
            #[must_use]
            pub fn to_f80(self, ctx: &mut Context) -> F80 {
                let parts = self.parts(ctx);
                if parts.denormal {
                    ctx.raise(flag::DE);
                }
                convert(parts, false, ctx)
            }
        }
    };
}

narrow_conversions!(F32);
narrow_conversions!(F64);

impl F32 {
    /// CVTSS2SD.
    #[must_use]
    pub fn to_f64(self, ctx: &mut Context) -> F64 {
        convert(self.parts(ctx), true, ctx)
    }
}

impl F64 {
    /// CVTSD2SS.
    #[must_use]
    pub fn to_f32(self, ctx: &mut Context) -> F32 {
        convert(self.parts(ctx), true, ctx)
    }
}

/// A store that unmasked overflow or underflow cancels reports neither PE nor the direction of rounding.
fn cancel_store(ctx: &mut Context) {
    if ctx.unmasked() & (flag::OE | flag::UE) != 0 {
        ctx.flags &= !flag::PE;
        ctx.c1 = false;
    }
}

impl F80 {
    /// FST m32fp. With overflow or underflow raised and unmasked nothing may be stored.
    #[must_use]
    pub fn to_f32(self, ctx: &mut Context) -> F32 {
        let value = convert(self.parts(ctx), false, ctx);
        cancel_store(ctx);
        value
    }

    /// FST m64fp. With overflow or underflow raised and unmasked nothing may be stored.
    #[must_use]
    pub fn to_f64(self, ctx: &mut Context) -> F64 {
        let value = convert(self.parts(ctx), false, ctx);
        cancel_store(ctx);
        value
    }

    /// FIST m16int with `rounding`; FISTTP passes [`Rounding::Zero`].
    #[must_use]
    pub fn to_i16(self, rounding: Rounding, ctx: &mut Context) -> i16 {
        to_integer(self.parts(ctx), 16, rounding, ctx) as i16
    }

    /// FIST m32int with `rounding`; FISTTP passes [`Rounding::Zero`].
    #[must_use]
    pub fn to_i32(self, rounding: Rounding, ctx: &mut Context) -> i32 {
        to_integer(self.parts(ctx), 32, rounding, ctx) as i32
    }

    /// FISTP m64int with `rounding`; FISTTP passes [`Rounding::Zero`].
    #[must_use]
    pub fn to_i64(self, rounding: Rounding, ctx: &mut Context) -> i64 {
        to_integer(self.parts(ctx), 64, rounding, ctx)
    }

    /// FILD: exact.
    #[must_use]
    pub fn from_i64(value: i64) -> Self {
        convert(
            value.parts(&Context::default()),
            false,
            &mut Context::default(),
        )
    }

    /// FRNDINT.
    #[must_use]
    pub fn round_to_integral(self, ctx: &mut Context) -> Self {
        round_to_integral(self, self.parts(ctx), ctx.rounding, true, false, ctx)
    }
}
