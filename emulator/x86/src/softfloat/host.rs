//! The fast path of SSE arithmetic: let the host's floats compute when that provably gives the same bits and flags.
//!
//! The method is known as "hardfloat". It applies when
//!
//! - rounding is to nearest, which is what Rust guarantees for host arithmetic;
//! - PE is masked and already set in MXCSR, so that nobody needs to know whether the result is exact. Programs get
//!   there with their first inexact operation and hardly ever clear MXCSR;
//! - each operand is a zero or a normal number: no NaN rule, no DE, no DAZ;
//! - the result is an exact zero or lies strictly between the smallest normal number and infinity: no OE, no UE, no
//!   FTZ. (The smallest normal number itself may have been rounded up from a tiny value.)
//!
//! Everything else is `None`, and the soft path decides. Hosts whose floats have excess precision (32-bit x86
//! without SSE2) always take the soft path.

use super::{Context, F32, F64, Rounding, flag};

/// Whether host arithmetic is IEEE single and double.
const EXACT_HOST: bool = !cfg!(all(target_arch = "x86", not(target_feature = "sse2")));

#[inline]
fn applies(ctx: &Context) -> bool {
    EXACT_HOST && ctx.rounding == Rounding::Nearest && ctx.masks & ctx.sticky & flag::PE != 0
}

macro_rules! host_arithmetic {
    ($module:ident, $ty:ident, $float:ty, $bits:ty, $frac_bits:expr, $exp_max:expr) => {
        pub(super) mod $module {
            use super::{Context, applies, $ty};

            const MAGNITUDE: $bits = <$bits>::MAX >> 1;
            const MIN_NORMAL: $bits = 1 << $frac_bits;
            const INFINITY: $bits = $exp_max << $frac_bits;

            #[inline]
            fn is_zero(a: $ty) -> bool {
                a.0 & MAGNITUDE == 0
            }

            #[inline]
            fn is_normal(a: $ty) -> bool {
                (a.0 & MAGNITUDE).wrapping_sub(MIN_NORMAL) < INFINITY - MIN_NORMAL
            }

            #[inline]
            fn is_safe_result(a: $ty) -> bool {
                (a.0 & MAGNITUDE).wrapping_sub(MIN_NORMAL + 1) < INFINITY - MIN_NORMAL - 1
            }

            #[inline]
            fn host(a: $ty) -> $float {
                <$float>::from_bits(a.0)
            }

            /// `a + b`, when the host may compute it.
            #[inline]
            pub fn add(a: $ty, b: $ty, ctx: &Context) -> Option<$ty> {
                if !applies(ctx) || !(is_normal(a) || is_zero(a)) || !(is_normal(b) || is_zero(b)) {
                    return None;
                }
                let sum = $ty((host(a) + host(b)).to_bits());
                // A zero sum is exact: differences of floats do not vanish.
                (is_safe_result(sum) || is_zero(sum)).then_some(sum)
            }

            /// `a - b`, when the host may compute it.
            #[inline]
            pub fn sub(a: $ty, b: $ty, ctx: &Context) -> Option<$ty> {
                add(a, $ty(b.0 ^ !MAGNITUDE), ctx)
            }

            /// `a * b`, when the host may compute it.
            #[inline]
            pub fn mul(a: $ty, b: $ty, ctx: &Context) -> Option<$ty> {
                if !applies(ctx) || !(is_normal(a) || is_zero(a)) || !(is_normal(b) || is_zero(b)) {
                    return None;
                }
                let product = $ty((host(a) * host(b)).to_bits());
                (is_safe_result(product) || is_zero(a) || is_zero(b)).then_some(product)
            }

            /// `a / b`, when the host may compute it.
            #[inline]
            pub fn div(a: $ty, b: $ty, ctx: &Context) -> Option<$ty> {
                if !applies(ctx) || !(is_normal(a) || is_zero(a)) || !is_normal(b) {
                    return None;
                }
                let quotient = $ty((host(a) / host(b)).to_bits());
                (is_safe_result(quotient) || is_zero(a)).then_some(quotient)
            }

            /// The square root of `a`, when the host may compute it.
            #[inline]
            pub fn sqrt(a: $ty, ctx: &Context) -> Option<$ty> {
                if !applies(ctx) || !(is_normal(a) && a.0 <= MAGNITUDE || is_zero(a)) {
                    return None;
                }
                Some($ty(host(a).sqrt().to_bits()))
            }
        }
    };
}

host_arithmetic!(single, F32, f32, u32, 23, 0xFF);
host_arithmetic!(double, F64, f64, u64, 52, 0x7FF);
