//! Operands that sit on the edges of the formats more often than chance would have it.

use platform::testkit;

use crate::softfloat::{F32, F64, F80};

/// Numbers that are the same in every run.
pub struct Rng(testkit::Rng);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(testkit::Rng::new(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    /// A significand field of `bits` bits: random, sparse, dense, or a run of ones or zeros.
    fn significand(&mut self, bits: u32) -> u64 {
        let mask = !0 >> (64 - bits);
        let value = match self.below(8) {
            0 => 0,
            1 => self.below(3),
            2 => !self.below(3),
            3 => 1 << self.below(u64::from(bits)),
            4 => !(1 << self.below(u64::from(bits))),
            5 => !0 << self.below(u64::from(bits)) ^ self.below(2),
            _ => self.next(),
        };
        value & mask
    }

    /// A biased exponent of a format whose largest is `max`.
    fn exponent(&mut self, max: u64) -> u64 {
        match self.below(10) {
            0 => 0,
            1 => self.below(3),
            2 => max - self.below(3),
            3..=5 => max / 2 + self.below(140) - 70,
            6 => max / 2 + self.below(5) - 2,
            _ => self.below(max + 1),
        }
        .min(max)
    }

    pub fn f32(&mut self) -> F32 {
        let exp = if self.below(3) == 0 {
            self.exponent(255).clamp(100, 160)
        } else {
            self.exponent(255)
        };
        F32((self.below(2) << 31 | exp << 23 | self.significand(23)) as u32)
    }

    pub fn f64(&mut self) -> F64 {
        F64(self.below(2) << 63 | self.exponent(2047) << 52 | self.significand(52))
    }

    /// Mostly valid encodings, now and then an unnormal or a pseudo-denormal.
    pub fn f80(&mut self) -> F80 {
        let exp = self.exponent(0x7FFF);
        let integer = if self.below(16) == 0 {
            self.below(2)
        } else {
            u64::from(exp != 0)
        };
        F80::new(
            (self.below(2) << 15 | exp) as u16,
            integer << 63 | self.significand(63),
        )
    }

    /// Mostly `2^low <= |a| < 2^high`.
    pub fn f80_within(&mut self, low: i64, high: i64) -> F80 {
        let mut a = self.f80();
        if self.below(4) != 0 && a.sig >> 63 != 0 {
            let exponent = 0x3FFF + low + self.below((high - low) as u64) as i64;
            a.sign_exp = a.sign_exp & 0x8000 | exponent as u16;
        }
        a
    }

    /// A value near another one, so that sums cancel and comparisons tie.
    pub fn f80_near(&mut self, a: F80) -> F80 {
        let mut b = a;
        b.sig = match self.below(4) {
            0 => b.sig,
            1 => b.sig.wrapping_add(self.below(5)).wrapping_sub(2),
            2 => b.sig ^ 1 << self.below(63),
            _ => b.sig & 1 << 63 | self.significand(63),
        };
        b.sign_exp = b
            .sign_exp
            .wrapping_add((self.below(132) as u16 >> self.below(7)).wrapping_sub(1));
        b.sign_exp ^= (self.below(2) as u16) << 15;
        b
    }

    pub fn f80_pair(&mut self) -> (F80, F80) {
        let a = self.f80();
        let b = if self.below(3) == 0 {
            self.f80_near(a)
        } else {
            self.f80()
        };
        if self.below(2) == 0 { (a, b) } else { (b, a) }
    }

    pub fn f32_pair(&mut self) -> (F32, F32) {
        let a = self.f32();
        match self.below(4) {
            0 => (
                a,
                F32(a.0.wrapping_add(self.below(5) as u32).wrapping_sub(2)
                    ^ (self.below(2) as u32) << 31),
            ),
            1 => (
                a,
                F32(a
                    .0
                    .wrapping_add((self.below(60) as u32) << 23 | self.below(4) as u32)),
            ),
            _ => (a, self.f32()),
        }
    }

    pub fn f64_pair(&mut self) -> (F64, F64) {
        let a = self.f64();
        match self.below(4) {
            0 => (
                a,
                F64(a.0.wrapping_add(self.below(5)).wrapping_sub(2) ^ self.below(2) << 63),
            ),
            1 => (
                a,
                F64(a.0.wrapping_add(self.below(110) << 52 | self.below(4))),
            ),
            _ => (a, self.f64()),
        }
    }

    /// An integer of any magnitude.
    pub fn int(&mut self) -> i64 {
        let value = (self.next() as i64) >> self.below(64);
        value.wrapping_add(self.below(3) as i64 - 1)
    }
}
