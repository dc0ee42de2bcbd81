//! Creative's ADPCM: samples of 2, 2.6 or 4 bits, as the difference to the one before, in steps of
//! a size that follows how large the differences are.
//!
//! The Hardware Programming Guide names the formats only (chapter 3); how they decode is known from
//! what cards play.

use serde::{Deserialize, Serialize};

/// How many bits a sample has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Format {
    /// Four samples a byte.
    Bits2,
    /// Three samples a byte, the last of which has 2 bits.
    Bits2and6,
    /// Two samples a byte.
    Bits4,
}

impl Format {
    /// Samples a byte.
    pub(super) fn per_byte(self) -> u64 {
        match self {
            Self::Bits2 => 4,
            Self::Bits2and6 => 3,
            Self::Bits4 => 2,
        }
    }
}

/// A decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Adpcm {
    format: Format,
    /// The last sample, around 0.
    sample: i32,
    step: u32,
    /// The first byte of a block is a sample as it stands.
    reference: bool,
}

impl Adpcm {
    pub(super) fn new(format: Format, reference: bool) -> Self {
        Self {
            format,
            sample: 0,
            step: 0,
            reference,
        }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Gives the samples of a byte to `play`, of 8 bits around 0.
    pub(super) fn decode(&mut self, byte: u8, mut play: impl FnMut(i32)) {
        if std::mem::take(&mut self.reference) {
            self.sample = i32::from(byte) - 128;
            self.step = 0;
            // It takes the time of any byte.
            (0..self.format.per_byte()).for_each(|_| play(self.sample));
            return;
        }
        match self.format {
            Format::Bits2 => (0..4).for_each(|n| play(self.next(byte >> (6 - 2 * n), 2, 2))),
            Format::Bits2and6 => {
                play(self.next(byte >> 5, 3, 0));
                play(self.next(byte >> 2, 3, 0));
                // The third has its lowest bit missing.
                play(self.next(byte << 1, 3, 0));
            }
            Format::Bits4 => {
                play(self.next(byte >> 4, 4, 0));
                play(self.next(byte, 4, 0));
            }
        }
    }

    /// The sample that a code of `bits` bits stands for, the highest of which is the sign.
    fn next(&mut self, code: u8, bits: u32, shift: u32) -> i32 {
        let size = u32::from(code) & ((1 << (bits - 1)) - 1);
        let change = (size << (self.step + shift)) as i32;
        let falls = code >> (bits - 1) & 1 != 0;
        let sample = self.sample + if falls { -change } else { change };
        self.sample = sample.clamp(-128, 127);
        if size == 0 {
            self.step = self.step.saturating_sub(1);
        } else if size >= 2 * bits - 3 && self.step < 3 {
            self.step += 1;
        }
        self.sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(format: Format, reference: bool, bytes: &[u8]) -> Vec<i32> {
        let mut adpcm = Adpcm::new(format, reference);
        let mut samples = Vec::new();
        for &byte in bytes {
            adpcm.decode(byte, |sample| samples.push(sample));
        }
        samples
    }

    #[test]
    fn steps_grow_with_large_differences_and_shrink_with_none() {
        // 7, then steps of 2: +14, then 4: -12, 0, and 2 again: +2.
        assert_eq!(
            decode(Format::Bits4, false, &[0x77, 0xB0, 0x10]),
            [7, 21, 9, 9, 11, 11]
        );
        assert_eq!(
            decode(Format::Bits2, true, &[0x90, 0b01_11_00_01])[4..],
            [20, 12, 12, 20]
        );
        assert_eq!(decode(Format::Bits2and6, false, &[0b0111_1101]), [3, -3, 5]);
    }

    #[test]
    fn samples_stay_in_their_range() {
        for format in [Format::Bits2, Format::Bits2and6, Format::Bits4] {
            for byte in 0..=255 {
                let samples = decode(format, false, &[byte; 200]);
                assert!(samples.iter().all(|sample| (-128..=127).contains(sample)));
                assert_eq!(samples.len() as u64, 200 * format.per_byte());
            }
        }
    }
}
