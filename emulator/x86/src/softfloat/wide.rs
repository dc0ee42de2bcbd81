//! Arithmetic on 128-bit significands, below the transcendentals.
//!
//! A wide number is an [`Exact`]: nonzero, normalised, with a relative error of a few 2^-127 after each operation.
//! Polynomials are evaluated in Q128: a `u128` that stands for a fraction of 2^128, so always below one.

use super::parts::{Exact, Parts, shift_right_jam};

/// `1/n!` in Q128, for `n` from 2 (index 0) to 35.
pub(super) const INVERSE_FACTORIALS: [u128; 34] = {
    let mut table = [1 << 127; 34];
    let mut i = 1;
    while i < table.len() {
        table[i] = table[i - 1] / (i as u128 + 2);
        i += 1;
    }
    table
};

/// `1/(2n+1)` in Q128, for `n` from 1 (index 0).
pub(super) const ODD_RECIPROCALS: [u128; 28] = {
    let mut table = [0; 28];
    let mut i = 0;
    while i < table.len() {
        table[i] = u128::MAX / (2 * i as u128 + 3);
        i += 1;
    }
    table
};

/// The upper half of the 256-bit product: the product of two Q128 fractions.
#[inline]
pub(super) fn mul_high(a: u128, b: u128) -> u128 {
    let low = |v: u128| v & u128::from(u64::MAX);
    let (ah, al, bh, bl) = (a >> 64, low(a), b >> 64, low(b));
    let middle = ah * bl + ((al * bl) >> 64);
    let cross = al * bh + low(middle);
    ah * bh + (middle >> 64) + (cross >> 64)
}

/// `n / d` in Q128, truncated, for `n < d` and bit 127 of `d` set.
pub(super) fn div_fraction(n: u128, d: u128) -> u128 {
    let (high, rest) = div_digit(n, d);
    let (low, _) = div_digit(rest, d);
    u128::from(high) << 64 | u128::from(low)
}

/// One 64-bit digit of a long division: `n * 2^64 / d` and the remainder.
fn div_digit(n: u128, d: u128) -> (u64, u128) {
    let (dh, dl) = (d >> 64, d & u128::from(u64::MAX));
    // At most two too large, because `d` is normalised.
    let mut digit = (n / dh).min(u128::from(u64::MAX));
    let mut high = n - digit * dh;
    let mut low = digit * dl;
    while high >> 64 == 0 && high << 64 < low {
        digit -= 1;
        high += dh;
        low -= dl;
    }
    (digit as u64, (high << 64).wrapping_sub(low))
}

/// Horner's scheme for `c0 + z (c1 + z (c2 + ...))`, all in Q128.
#[inline]
pub(super) fn series(z: u128, coefficients: impl DoubleEndedIterator<Item = u128>) -> u128 {
    coefficients.rev().fold(0, |sum, c| c + mul_high(sum, z))
}

/// Horner's scheme for `c0 - z (c1 - z (c2 - ...))`, all in Q128, for falling coefficients.
#[inline]
pub(super) fn alternating(z: u128, coefficients: impl DoubleEndedIterator<Item = u128>) -> u128 {
    coefficients.rev().fold(0, |sum, c| c - mul_high(sum, z))
}

impl Exact {
    /// `sig * 2^exp` from any nonzero integer.
    pub(super) fn from_integer(sign: bool, exp: i32, sig: u128) -> Self {
        let shift = sig.leading_zeros();
        Self {
            sign,
            exp: exp + 127 - shift as i32,
            sig: sig << shift,
        }
    }

    /// A positive number from a nonzero Q128 fraction.
    pub(super) fn from_fraction(fraction: u128) -> Self {
        Self::from_integer(false, -128, fraction)
    }

    /// The magnitude in Q128; it must be below one.
    pub(super) fn fraction(self) -> u128 {
        self.sig.checked_shr((-1 - self.exp) as u32).unwrap_or(0)
    }

    pub(super) fn with_sign(self, sign: bool) -> Self {
        Self { sign, ..self }
    }

    pub(super) fn negated(self) -> Self {
        Self {
            sign: !self.sign,
            ..self
        }
    }

    pub(super) fn times(self, other: Self) -> Self {
        let sig = mul_high(self.sig, other.sig);
        let shift = sig.leading_zeros();
        Self {
            sign: self.sign ^ other.sign,
            exp: self.exp + other.exp + 1 - shift as i32,
            sig: sig << shift,
        }
    }

    pub(super) fn over(self, other: Self) -> Self {
        let sign = self.sign ^ other.sign;
        let exp = self.exp - other.exp;
        if self.sig < other.sig {
            let sig = div_fraction(self.sig, other.sig);
            Self {
                sign,
                exp: exp - 1,
                sig,
            }
        } else {
            let sig = div_fraction(self.sig >> 1, other.sig);
            let shift = sig.leading_zeros();
            Self {
                sign,
                exp: exp - shift as i32,
                sig: sig << shift,
            }
        }
    }

    /// The sum, `None` when the operands cancel.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let (big, small) = if (self.exp, self.sig) >= (other.exp, other.sig) {
            (self, other)
        } else {
            (other, self)
        };
        let low = shift_right_jam(small.sig, (big.exp - small.exp) as u32);
        if big.sign == small.sign {
            let (sig, carry) = big.sig.overflowing_add(low);
            return Some(if carry {
                Self {
                    sign: big.sign,
                    exp: big.exp + 1,
                    sig: sig >> 1 | sig & 1 | 1 << 127,
                }
            } else {
                Self { sig, ..big }
            });
        }
        match big.sig - low {
            0 => None,
            rest => Some(Self::from_integer(big.sign, big.exp - 127, rest)),
        }
    }

    /// `self * (1 + fraction)`; a fraction that vanished still counts as above zero for directed rounding.
    pub(super) fn grown_by(self, fraction: u128) -> Self {
        self.plus(self.times(Self::from_fraction(fraction.max(1))))
            .expect("terms of one sign")
    }

    /// `self * (1 - fraction)`; a fraction that vanished still counts as above zero for directed rounding.
    pub(super) fn shrunk_by(self, fraction: u128) -> Self {
        self.plus(self.times(Self::from_fraction(fraction.max(1))).negated())
            .expect("a fraction is less than one")
    }
}

impl Parts {
    /// The magnitude of a finite number.
    pub(super) fn magnitude(self) -> Exact {
        self.exact().with_sign(false)
    }
}
