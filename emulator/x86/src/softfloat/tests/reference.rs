//! The transcendentals against a slow computation with 320-bit significands that shares nothing with them: plain
//! Taylor series over schoolbook integers, its own constants, no tables.

use super::cases;
use super::rng::Rng;
use crate::softfloat::{Context, F80, Rounding, parts};

/// Significand bits kept by every operation.
const BITS: i64 = 320;

/// A natural number, least significant digit first, without leading zeros.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Nat(Vec<u32>);

impl Nat {
    fn new(value: u128) -> Self {
        Self((0..4).map(|i| (value >> (32 * i)) as u32).collect()).trimmed()
    }

    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn bits(&self) -> i64 {
        match self.0.last() {
            None => 0,
            Some(top) => 32 * self.0.len() as i64 - i64::from(top.leading_zeros()),
        }
    }

    fn digit(&self, i: usize) -> u64 {
        u64::from(self.0.get(i).copied().unwrap_or(0))
    }

    fn shl(&self, count: i64) -> Self {
        let (digits, bits) = ((count / 32) as usize, (count % 32) as u32);
        let mut out = vec![0; digits];
        let mut carry = 0;
        for &d in &self.0 {
            out.push((u64::from(d) << bits) as u32 | carry);
            carry = (u64::from(d) << bits >> 32) as u32;
        }
        out.push(carry);
        Self(out).trimmed()
    }

    fn shr(&self, count: i64) -> Self {
        let (digits, bits) = ((count / 32) as usize, (count % 32) as u32);
        let out = (digits..self.0.len())
            .map(|i| ((self.digit(i + 1) << 32 | self.digit(i)) >> bits) as u32);
        Self(out.collect()).trimmed()
    }

    fn add(&self, other: &Self) -> Self {
        let mut carry = 0;
        let mut out = Vec::new();
        for i in 0..=self.0.len().max(other.0.len()) {
            carry += self.digit(i) + other.digit(i);
            out.push(carry as u32);
            carry >>= 32;
        }
        Self(out).trimmed()
    }

    /// `self - other`, which must not be negative.
    fn sub(&self, other: &Self) -> Self {
        let mut borrow = 0i64;
        let mut out = Vec::new();
        for i in 0..self.0.len() {
            let d = self.digit(i) as i64 - other.digit(i) as i64 + borrow;
            out.push(d as u32);
            borrow = d >> 32;
        }
        assert_eq!(borrow, 0, "the difference is negative");
        Self(out).trimmed()
    }

    fn at_least(&self, other: &Self) -> bool {
        (self.0.len(), self.0.iter().rev().collect::<Vec<_>>())
            >= (other.0.len(), other.0.iter().rev().collect::<Vec<_>>())
    }

    fn mul(&self, other: &Self) -> Self {
        let mut out = vec![0u32; self.0.len() + other.0.len() + 1];
        for i in 0..self.0.len() {
            let mut carry = 0;
            for j in 0..=other.0.len() {
                carry += self.digit(i) * other.digit(j) + u64::from(out[i + j]);
                out[i + j] = carry as u32;
                carry >>= 32;
            }
        }
        Self(out).trimmed()
    }

    fn div_small(&self, divisor: u32) -> Self {
        let mut rest = 0u64;
        let mut out = vec![0; self.0.len()];
        for i in (0..self.0.len()).rev() {
            rest = rest << 32 | self.digit(i);
            out[i] = (rest / u64::from(divisor)) as u32;
            rest %= u64::from(divisor);
        }
        Self(out).trimmed()
    }

    /// Quotient and remainder, a bit at a time.
    fn div_rem(&self, divisor: &Self) -> (Self, Self) {
        let (mut quotient, mut rest) = (Self(vec![]), Self(vec![]));
        for i in (0..self.bits()).rev() {
            let bit = self.digit((i / 32) as usize) >> (i % 32) & 1;
            rest = rest.shl(1).add(&Self::new(bit.into()));
            quotient = quotient.shl(1);
            if rest.at_least(divisor) {
                rest = rest.sub(divisor);
                quotient = quotient.add(&Self::new(1));
            }
        }
        (quotient, rest)
    }
}

/// `±mant * 2^exp`, truncated to [`BITS`].
#[derive(Clone, Debug)]
struct Slow {
    negative: bool,
    exp: i64,
    mant: Nat,
}

impl Slow {
    fn new(negative: bool, exp: i64, mant: Nat) -> Self {
        let excess = mant.bits() - BITS;
        if excess > 0 {
            Self {
                negative,
                exp: exp + excess,
                mant: mant.shr(excess),
            }
        } else {
            Self {
                negative,
                exp,
                mant,
            }
        }
    }

    fn int(value: i64) -> Self {
        Self::new(value < 0, 0, Nat::new(value.unsigned_abs().into()))
    }

    fn of(a: F80) -> Self {
        Self::new(
            a.sign(),
            i64::from(a.sign_exp & 0x7FFF).max(1) - 16383 - 63,
            Nat::new(a.sig.into()),
        )
    }

    fn neg(&self) -> Self {
        Self {
            negative: !self.negative,
            ..self.clone()
        }
    }

    fn abs(&self) -> Self {
        Self {
            negative: false,
            ..self.clone()
        }
    }

    fn is_zero(&self) -> bool {
        self.mant.0.is_empty()
    }

    /// The binary exponent: the value lies from `2^scale` up to twice that.
    fn scale(&self) -> i64 {
        self.exp + self.mant.bits() - 1
    }

    fn add(&self, other: &Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return if self.is_zero() {
                other.clone()
            } else {
                self.clone()
            };
        }
        let (high, low) = if self.scale() >= other.scale() {
            (self, other)
        } else {
            (other, self)
        };
        if high.scale() - low.scale() > BITS + 8 {
            return high.clone();
        }
        let exp = high.exp.min(low.exp);
        let (a, b) = (high.mant.shl(high.exp - exp), low.mant.shl(low.exp - exp));
        if high.negative == low.negative {
            Self::new(high.negative, exp, a.add(&b))
        } else if a.at_least(&b) {
            Self::new(high.negative, exp, a.sub(&b))
        } else {
            Self::new(low.negative, exp, b.sub(&a))
        }
    }

    fn sub(&self, other: &Self) -> Self {
        self.add(&other.neg())
    }

    fn mul(&self, other: &Self) -> Self {
        Self::new(
            self.negative ^ other.negative,
            self.exp + other.exp,
            self.mant.mul(&other.mant),
        )
    }

    fn div(&self, other: &Self) -> Self {
        let shift = (BITS + 32 + other.mant.bits() - self.mant.bits()).max(0);
        let (quotient, _) = self.mant.shl(shift).div_rem(&other.mant);
        Self::new(
            self.negative ^ other.negative,
            self.exp - shift - other.exp,
            quotient,
        )
    }

    fn div_small(&self, divisor: u32) -> Self {
        Self::new(
            self.negative,
            self.exp - 32,
            self.mant.shl(32).div_small(divisor),
        )
    }

    fn less(&self, other: &Self) -> bool {
        let difference = self.sub(other);
        difference.negative && !difference.is_zero()
    }

    /// Rounds to an F80. What lies below the significand is never zero here.
    fn round(&self, rounding: Rounding) -> F80 {
        let bits = self.mant.bits();
        let wide = if bits > 128 {
            self.mant.shr(bits - 128)
        } else {
            self.mant.shl(128 - bits)
        };
        let sig = (0..4).fold(0u128, |sum, i| sum | u128::from(wide.digit(i)) << (32 * i));
        let exact = parts::Exact {
            sign: self.negative,
            exp: self.scale() as i32,
            sig: sig | 1,
        };
        parts::round(
            exact,
            &mut Context {
                rounding,
                ..Context::default()
            },
        )
    }
}

/// Sums terms until they vanish; `next` makes a term's successor and its contribution.
fn sum(first: Slow, mut next: impl FnMut(&Slow, u32) -> (Slow, Slow)) -> Slow {
    let (mut total, mut power) = (first.clone(), first);
    for n in 1.. {
        let (grown, term) = next(&power, n);
        if term.is_zero() || term.scale() < total.scale() - BITS {
            break;
        }
        total = total.add(&term);
        power = grown;
    }
    total
}

/// `first - first z/(n1) + ...` with each term the one before times `-z` over two consecutive integers.
fn factorial_series(first: Slow, z: &Slow, offset: u32) -> Slow {
    sum(first, |term, n| {
        let k = 2 * n + offset;
        let term = term.mul(z).neg().div_small(k * (k - 1));
        (term.clone(), term)
    })
}

fn sin(r: &Slow) -> Slow {
    factorial_series(r.clone(), &r.mul(r), 1)
}

fn cos(r: &Slow) -> Slow {
    factorial_series(Slow::int(1), &r.mul(r), 0)
}

fn atan_series(a: &Slow) -> Slow {
    let z = a.mul(a).neg();
    sum(a.clone(), |power, n| {
        let power = power.mul(&z);
        (power.clone(), power.div_small(2 * n + 1))
    })
}

fn atanh_series(a: &Slow) -> Slow {
    let z = a.mul(a);
    sum(a.clone(), |power, n| {
        let power = power.mul(&z);
        (power.clone(), power.div_small(2 * n + 1))
    })
}

/// Machin: pi = 16 atan(1/5) - 4 atan(1/239).
fn pi() -> Slow {
    let inverse = |n| Slow::int(1).div(&Slow::int(n));
    Slow::int(16)
        .mul(&atan_series(&inverse(5)))
        .sub(&Slow::int(4).mul(&atan_series(&inverse(239))))
}

/// ln 2 = 2 atanh(1/3).
fn ln_2() -> Slow {
    Slow::int(2).mul(&atanh_series(&Slow::int(1).div(&Slow::int(3))))
}

/// `atan(a)` for `0 <= a <= 1`.
fn atan(a: &Slow, pi: &Slow) -> Slow {
    let one = Slow::int(1);
    if a.add(a).less(&one) {
        return atan_series(a);
    }
    pi.div_small(4)
        .sub(&atan_series(&one.sub(a).div(&one.add(a))))
}

fn atan2(y: &Slow, x: &Slow, pi: &Slow) -> Slow {
    let (ay, ax) = (y.abs(), x.abs());
    let mut angle = if ax.less(&ay) {
        pi.div_small(2).sub(&atan(&ax.div(&ay), pi))
    } else {
        atan(&ay.div(&ax), pi)
    };
    if x.negative {
        angle = pi.sub(&angle);
    }
    if y.negative { angle.neg() } else { angle }
}

/// `log2(a)` for a positive `a`, given `a - 1` separately so that nothing cancels.
fn log2(a: &Slow, less_one: &Slow, ln_2: &Slow) -> Slow {
    let near_one = less_one.scale() < -2;
    let exponent = if near_one { 0 } else { a.scale() };
    let m = Slow {
        exp: a.exp - exponent,
        ..a.clone()
    };
    let numerator = if near_one {
        less_one.clone()
    } else {
        m.sub(&Slow::int(1))
    };
    let s = numerator.div(&m.add(&Slow::int(1)));
    let log = if s.is_zero() {
        s
    } else {
        atanh_series(&s).mul(&Slow::int(2)).div(ln_2)
    };
    Slow::int(exponent).add(&log)
}

/// `2^a - 1`.
fn exp2_minus_1(a: &Slow, ln_2: &Slow) -> Slow {
    let z = a.mul(ln_2);
    sum(z.clone(), |term, n| {
        let term = term.mul(&z).div_small(n + 1);
        (term.clone(), term)
    })
}

/// Reduces by half the 66-bit pi: the rest, at most a quarter of that pi, and the quadrant.
fn reduce(a: &Slow) -> (Slow, u64) {
    let half_pi = Slow::new(false, -65, Nat::new(0x3_243F_6A88_85A3_08D3));
    if a.scale() < -1 {
        return (a.clone(), 0);
    }
    let argument = if a.exp > -65 {
        a.mant.shl(a.exp + 65)
    } else {
        a.mant.shr(-65 - a.exp)
    };
    let (quotient, rest) = argument.div_rem(&half_pi.mant);
    let rest = Slow::new(false, -65, rest);
    if half_pi.less(&rest.add(&rest)) {
        (rest.sub(&half_pi), quotient.digit(0) + 1)
    } else {
        (rest, quotient.digit(0))
    }
}

fn rounding(rng: &mut Rng) -> Rounding {
    Rounding::from_bits(rng.below(4) as u32)
}

/// A finite nonzero operand with `2^low <= |a| < 2^high`, or rarely outside.
fn finite(rng: &mut Rng, low: i64, high: i64) -> F80 {
    loop {
        let a = rng.f80_within(low, high);
        if a.sig >> 63 != 0 && (1..0x7FFF).contains(&(a.sign_exp & 0x7FFF)) {
            return a;
        }
    }
}

#[track_caller]
fn check(what: &str, operands: (F80, F80), rounding: Rounding, ours: F80, exact: &Slow) {
    let expected = exact.round(rounding);
    assert!(
        ours == expected,
        "{what} {operands:x?} {rounding:?}: {ours:x?}, exactly {expected:x?}"
    );
}

#[test]
fn trigonometric_functions_round_correctly() {
    let mut rng = Rng::new(50);
    for _ in 0..cases(4_000).min(100_000) {
        let a = finite(&mut rng, -40, 63);
        let mut ctx = Context {
            rounding: rounding(&mut rng),
            ..Context::default()
        };
        let Some((sine, cosine)) = a.sin_cos(&mut ctx) else {
            continue;
        };
        let x = Slow::of(a);
        let (rest, quadrant) = reduce(&x.abs());
        let (s, c) = (sin(&rest), cos(&rest));
        let (mut s, c) = match quadrant & 3 {
            0 => (s, c),
            1 => (c, s.neg()),
            2 => (s.neg(), c.neg()),
            _ => (c.neg(), s),
        };
        s.negative ^= x.negative;
        // Where the 320 bits cannot hold the correction, rounding is by the rule the series' sign gives.
        if x.scale() > -100 {
            check("sin", (a, a), ctx.rounding, sine, &s);
            check("cos", (a, a), ctx.rounding, cosine, &c);
            let (tangent, _) = a.tan(&mut ctx).expect("in range");
            check("tan", (a, a), ctx.rounding, tangent, &s.div(&c));
        }
    }
}

#[test]
fn arc_tangent_rounds_correctly() {
    let mut rng = Rng::new(51);
    let pi = pi();
    for _ in 0..cases(2_000).min(100_000) {
        let (y, x) = (finite(&mut rng, -20, 20), finite(&mut rng, -20, 20));
        let mut ctx = Context {
            rounding: rounding(&mut rng),
            ..Context::default()
        };
        let (sy, sx) = (Slow::of(y), Slow::of(x));
        if (sy.scale() - sx.scale()).abs() < 60 {
            check(
                "atan2",
                (y, x),
                ctx.rounding,
                y.atan2(x, &mut ctx),
                &atan2(&sy, &sx, &pi),
            );
        }
    }
}

#[test]
fn logarithms_round_correctly() {
    let mut rng = Rng::new(52);
    let ln_2 = ln_2();
    let one = Slow::int(1);
    for _ in 0..cases(2_000).min(100_000) {
        let rounding = rounding(&mut rng);
        let mut ctx = Context {
            rounding,
            ..Context::default()
        };
        let y = finite(&mut rng, -2, 2);
        let sy = Slow::of(y);
        let x = finite(&mut rng, -1, 1).abs();
        let sx = Slow::of(x);
        // Logarithms of powers of two are exact, which `Slow::round` cannot express.
        if x.sig << 1 != 0 {
            let exact = log2(&sx, &sx.sub(&one), &ln_2).mul(&sy);
            check("fyl2x", (x, y), rounding, x.log2_times(y, &mut ctx), &exact);
        }
        let x = finite(&mut rng, -64, -2);
        let sx = Slow::of(x);
        if (-200..-2).contains(&sx.scale()) {
            let exact = log2(&sx.add(&one), &sx, &ln_2).mul(&sy);
            check(
                "fyl2xp1",
                (x, y),
                rounding,
                x.log2_plus_1_times(y, &mut ctx),
                &exact,
            );
        }
    }
}

#[test]
fn exponential_rounds_correctly() {
    let mut rng = Rng::new(53);
    let ln_2 = ln_2();
    for _ in 0..cases(2_000).min(100_000) {
        let rounding = rounding(&mut rng);
        let mut ctx = Context {
            rounding,
            ..Context::default()
        };
        let x = finite(&mut rng, -64, 0);
        let sx = Slow::of(x);
        if (-16300..0).contains(&sx.scale()) {
            check(
                "f2xm1",
                (x, x),
                rounding,
                x.exp2_minus_1(&mut ctx),
                &exp2_minus_1(&sx, &ln_2),
            );
        }
    }
}

#[test]
fn the_arc_tangent_table_is_right() {
    let pi = pi();
    for (i, &entry) in crate::softfloat::trig::ARC_TANGENTS.iter().enumerate() {
        let exact = atan(&Slow::int(i as i64 + 1).div_small(16), &pi);
        let error = exact.sub(&Slow::new(false, -128, Nat::new(entry)));
        assert!(
            error.is_zero() || error.scale() < -128,
            "atan({}/16)",
            i + 1
        );
    }
}
