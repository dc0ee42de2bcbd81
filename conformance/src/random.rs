//! Random numbers with a liking for the edges of the formats.

use platform::testkit;

/// Numbers that are good enough for choosing.
#[derive(Clone, Debug)]
pub struct Rng(testkit::Rng);

impl Rng {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(testkit::Rng::new(seed))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// An integer that is likely to be at an edge.
    pub fn integer(&mut self) -> u64 {
        let random = self.bits();
        let small = random >> 58;
        match random & 15 {
            0 => 0,
            1 => 1,
            2 => !0,
            3 => 1 << small,
            4 => (1 << small) - 1,
            5 => !(1 << small),
            6 => small,
            7 => small.wrapping_neg(),
            8 => self.pick(&[0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF]),
            9 => self.pick(&[0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000]),
            10 => self.pick(&[i64::MAX as u64, i64::MIN as u64, 0x8080_8080_8080_8080]),
            11 => u64::from(self.bits() as u32),
            12 => self.bits() as i16 as i64 as u64,
            _ => self.bits(),
        }
    }

    /// A number at the border of an integer format, or half-way between two integers.
    pub(crate) fn beside_integer(&mut self) -> f64 {
        let border = self.pick(&[7, 8, 15, 16, 31, 32, 52, 53, 63, 64]);
        let base = match self.below(4) {
            0 => self.below(1000) as f64,
            1 => 1e18,
            _ => (border as f64).exp2(),
        };
        let step = self.pick(&[-1024.0, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]);
        base + step
    }

    /// A number that has to do with `a`, in a format of `exponent` and `fraction` bits: such that a sum cancels or
    /// rounds half-way, or a product or quotient is about the smallest or largest number.
    pub(crate) fn relate(&mut self, a: u64, exponent: u32, fraction: u32) -> u64 {
        let largest = (1 << exponent) - 1;
        let bias = largest >> 1;
        let mask = (1 << fraction) - 1;
        let own = (a >> fraction) as i64 & largest;
        let sign = self.bits() & 1 << (exponent + fraction);
        let near = self.below(8) as i64 - 4;
        let target = match self.below(4) {
            0 => largest - 3 + self.below(5) as i64,
            1 => -(i64::from(fraction)) - 2 + self.below(4) as i64,
            _ => -(self.below(u64::from(fraction) + 2) as i64),
        };
        let other = match self.below(6) {
            0 => return a ^ sign,
            1 => return a.wrapping_add(near as u64) ^ sign,
            2 => own + self.below(2 * u64::from(fraction) + 6) as i64 - i64::from(fraction) - 3,
            3 => target + bias - own,
            4 => own + bias - target,
            _ => own,
        };
        let significand = match self.below(5) {
            0 => 0,
            1 => mask,
            2 => a & mask,
            3 => self.bits() & mask & !(mask >> 3),
            _ => self.bits() & mask,
        };
        sign | (other.clamp(0, largest) as u64) << fraction | significand
    }

    /// The same in extended precision.
    pub(crate) fn relate80(&mut self, (significand, exponent): (u64, u16)) -> (u64, u16) {
        let own = i64::from(exponent & 0x7FFF);
        let sign = self.bits() as u16 & 0x8000;
        let target = match self.below(3) {
            0 => 0x7FFF - 3 + self.below(5) as i64,
            _ => -(self.below(70) as i64),
        };
        let other = match self.below(6) {
            0 => return (significand, exponent ^ sign),
            1 => {
                let near = significand.wrapping_add(self.below(8)).wrapping_sub(4);
                return (near | significand & 1 << 63, exponent ^ sign);
            }
            2 => own + self.below(140) as i64 - 70,
            3 => target + 0x3FFF - own,
            4 => own + 0x3FFF - target,
            _ => own,
        };
        let fraction = match self.below(5) {
            0 => 0,
            1 => !0,
            2 => significand,
            3 => self.bits() << 60,
            _ => self.bits(),
        };
        let other = other.clamp(0, 0x7FFF) as u16;
        let integer = u64::from(other != 0) << 63;
        (fraction & !(1 << 63) | integer, sign | other)
    }

    /// A single-precision number.
    pub fn float32(&mut self) -> u32 {
        let random = self.bits();
        let sign = (random >> 32) as u32 & 1 << 31;
        sign | match random & 15 {
            0 => 0,
            1 => 1 + (random >> 40) as u32 % 3,
            2 => (random >> 40) as u32 & 0x7F_FFFF,
            3 => 0x7F80_0000,
            4 => 0x7FC0_0000 | (random >> 42) as u32,
            5 => 0x7F80_0001 + ((random >> 42) as u32 & 0x3F_FFFE),
            6 => 0x7F7F_FFFF - ((random >> 40) as u32 & 3),
            7 => 0x0080_0000 + ((random >> 40) as u32 & 3),
            8 | 9 => ((random >> 40 & 0xFF) as f32).to_bits(),
            10 => 0x4E80_0000 + ((random >> 40) as u32 & 0x01FF_FFFF),
            11 => 0x3F80_0000 + ((random >> 40) as u32 & 7),
            12 => 0x3F00_0000 | (random >> 40) as u32 & 0x00FF_FFFF,
            13 => (self.beside_integer() as f32).to_bits() & !(1 << 31),
            _ => (random >> 33) as u32 & 0x7FFF_FFFF,
        }
    }

    /// A double-precision number.
    pub fn float64(&mut self) -> u64 {
        let random = self.bits();
        let sign = self.bits() & 1 << 63;
        sign | match random & 15 {
            0 => 0,
            1 => 1 + (random >> 40) % 3,
            2 => random >> 12,
            3 => 0x7FF << 52,
            4 => 0x7FF8 << 48 | random >> 13,
            5 => (0x7FF << 52) + 1 + (random >> 14),
            6 => 0x7FEF_FFFF_FFFF_FFFF - (random >> 62),
            7 => (1 << 52) + (random >> 62),
            8 => ((random >> 40 & 0xFF) as f64).to_bits(),
            9 => f64::from(f32::from_bits(self.float32() & 0x7FFF_FFFF)).to_bits() & !(1 << 63),
            // About the edges of 32-bit and 64-bit integers, and of single precision.
            10 => 0x41D0_0000_0000_0000 + (random >> 10 & 0x003F_FFFF_FFFF_FFFF),
            11 => 0x43C0_0000_0000_0000 + (random >> 10 & 0x003F_FFFF_FFFF_FFFF),
            12 => self.pick(&[0x47E, 0x47F, 0x380, 0x36A, 0x369]) << 52 | random >> 12,
            13 => 0x3FE << 52 | random >> 11,
            14 => self.beside_integer().to_bits() & !(1 << 63),
            _ => random >> 1,
        }
    }

    /// An extended-precision number.
    pub fn float80(&mut self) -> (u64, u16) {
        let random = self.bits();
        let sign = (random >> 48) as u16 & 0x8000;
        let normal = 1 << 63;
        let fraction = match random >> 4 & 3 {
            0 => 0,
            1 => self.bits() & 0xFFFF_FF00_0000_0000,
            2 => self.bits() & 0xFFFF_FFFF_FFFF_F800,
            _ => self.bits(),
        };
        let (significand, exponent) = match random & 15 {
            0 => (0, 0),
            1 => (fraction & !normal, 0),
            2 => (fraction | normal, 0),
            3 => (normal, 0x7FFF),
            4 => (fraction | 3 << 62, 0x7FFF),
            5 => ((fraction | normal) & !(1 << 62) | 1, 0x7FFF),
            6 => (fraction | normal, 0x7FFE - (random >> 40 & 3) as u16),
            7 => (fraction | normal, 1 + (random >> 40 & 3) as u16),
            8 => (fraction & !normal, (random >> 40 & 0x7FFF) as u16),
            9 => (normal, 0x3FFF + (random >> 40 & 7) as u16),
            10 | 11 => (fraction | normal, 0x3FFF - 3 + (random >> 40 & 7) as u16),
            12 => (fraction | normal, 0x3FFF + (random >> 40 & 0x3F) as u16),
            13 => (
                fraction | normal,
                self.pick(&[
                    0x3FFF - 127,
                    0x3FFF + 127,
                    0x3FFF - 1023,
                    0x3FFF + 1023,
                    0x3FFF - 149,
                ]) + (random >> 40 & 3) as u16,
            ),
            _ => (fraction | normal, (random >> 40 & 0x7FFF) as u16),
        };
        (significand, sign | exponent)
    }

    pub(crate) fn float80_bytes(&mut self) -> [u8; 10] {
        let (significand, exponent) = self.float80();
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&significand.to_le_bytes());
        bytes[8..].copy_from_slice(&exponent.to_le_bytes());
        bytes
    }

    /// 128 bits of something.
    pub(crate) fn vector(&mut self) -> u128 {
        let wide = |low: u64, high: u64| u128::from(low) | u128::from(high) << 64;
        match self.below(5) {
            0 => wide(self.integer(), self.integer()),
            1 => wide(self.bits(), self.bits()),
            2 | 3 => {
                let mut lanes = [0u32; 4];
                lanes.fill_with(|| self.float32());
                lanes
                    .iter()
                    .rev()
                    .fold(0, |all, &lane| all << 32 | u128::from(lane))
            }
            _ => wide(self.float64(), self.float64()),
        }
    }
}
