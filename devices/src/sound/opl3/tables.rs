//! The chip's two ROMs, and what its envelopes do at each rate.
//!
//! Where the data sheet is silent this is what has been read from pictures of the chip and measured
//! at its output: a quarter of a sine as logarithms, powers of two, and the order in which an
//! envelope's steps come.

use std::sync::LazyLock;

/// Minus the binary logarithm of a quarter of a sine, in 256ths.
pub(super) static LOG_SINE: LazyLock<[u16; 256]> = LazyLock::new(|| {
    std::array::from_fn(|n| {
        let angle = (n as f64 + 0.5) * std::f64::consts::FRAC_PI_2 / 256.0;
        (-angle.sin().log2() * 256.0).round() as u16
    })
});

/// Two to the power of a negative number in 256ths, of 2048.
static POWERS: LazyLock<[u16; 256]> = LazyLock::new(|| {
    std::array::from_fn(|n| {
        let fraction = ((1.0 - (n as f64 + 1.0) / 256.0).exp2() - 1.0) * 1024.0;
        (fraction.round() as u16 + 1024) << 1
    })
});

/// The amplitude of an attenuation in 256ths of an octave: 4084 at most.
pub(super) fn amplitude(attenuation: u32) -> i32 {
    let shift = (attenuation >> 8).min(15);
    i32::from(POWERS[attenuation as usize & 0xFF] >> shift)
}

/// What key scaling takes off at each ninth of an octave, from 48 on, in 0.1875 dB.
pub(super) const KEY_SCALE: [i32; 16] = [
    0, 32, 40, 45, 48, 51, 53, 55, 56, 58, 59, 60, 61, 62, 63, 64,
];

/// Twice the multiple of a note's frequency that an operator has.
pub(super) const MULTIPLES: [u32; 16] = [1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 20, 24, 24, 30, 30];

/// By how much an envelope of this rate (0 to 63) moves at `sample`.
pub(super) fn steps(rate: u32, sample: u64) -> i32 {
    /// Which of eight steps are the larger ones, from the lowest bit on, by the rate's two lowest
    /// bits.
    const SLOW: [u8; 4] = [0xAA, 0xBA, 0xEE, 0xFE];
    const FAST: [u8; 4] = [0x00, 0x88, 0xAA, 0xEE];
    let (octave, quarter) = (rate >> 2, rate as usize & 3);
    let larger = |pattern: [u8; 4], at: u64| i32::from(pattern[quarter] >> (at & 7) & 1);
    match octave {
        _ if rate < 4 => 0,
        1..=12 => {
            let shift = 12 - octave;
            let due = sample & ((1 << shift) - 1) == 0;
            i32::from(due) * larger(SLOW, sample >> shift)
        }
        13 => 1 + larger(FAST, sample),
        14 => 2 << larger(FAST, sample),
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roms_are_as_they_were_read() {
        // First and last entries, which are published.
        assert_eq!(LOG_SINE[..4], [2137, 1731, 1543, 1419]);
        assert_eq!(LOG_SINE[254..], [0, 0]);
        assert_eq!(POWERS[0], 2 * (1018 + 1024));
        assert_eq!(POWERS[255], 2 * 1024);
        assert_eq!(amplitude(0), 4084);
        assert_eq!(amplitude(256), 2042);
        assert_eq!(amplitude(u32::MAX), 0);
    }

    #[test]
    fn an_octave_of_rate_is_twice_as_fast() {
        let sum = |rate| (0..1u64 << 15).map(|n| steps(rate, n)).sum::<i32>();
        for rate in 4..56 {
            assert_eq!(sum(rate) * 2, sum(rate + 4), "{rate}");
        }
        assert_eq!(sum(48) * 2, 1 << 15);
        assert_eq!((sum(0), sum(63)), (0, 4 << 15));
    }
}
