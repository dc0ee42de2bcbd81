//! FBLD and FBSTP's packed decimal: eighteen digits and a sign (SDM vol. 1 §4.7, vol. 2A FBLD, FBSTP).

use super::{Context, F80, flag};

/// The packed decimal indefinite (SDM vol. 1 table 4-4).
const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xC0, 0xFF, 0xFF];

impl F80 {
    /// FBLD. The manuals leave digits above nine undefined; here each counts with its value, as in hardware.
    #[must_use]
    pub fn from_bcd(bytes: [u8; 10]) -> Self {
        let magnitude = bytes[..9].iter().rev().fold(0, |sum: i64, byte| {
            sum * 100 + i64::from(byte >> 4) * 10 + i64::from(byte & 15)
        });
        let value = Self::from_i64(magnitude);
        if bytes[9] & 0x80 != 0 {
            value.negate()
        } else {
            value
        }
    }

    /// FBSTP, rounding by the context. What has more than eighteen digits raises IE and gives the indefinite.
    #[must_use]
    pub fn to_bcd(self, ctx: &mut Context) -> [u8; 10] {
        const LIMIT: u64 = 1_000_000_000_000_000_000;
        let mut trial = Context {
            flags: 0,
            c1: false,
            ..ctx.clone()
        };
        let value = self.to_i64(ctx.rounding, &mut trial);
        if trial.flags & flag::IE != 0 || value.unsigned_abs() >= LIMIT {
            ctx.raise(flag::IE);
            return INDEFINITE;
        }
        ctx.raise(trial.flags);
        ctx.c1 = trial.c1;
        let mut rest = value.unsigned_abs();
        let mut bytes = [0; 10];
        for byte in &mut bytes[..9] {
            let pair = (rest % 100) as u8;
            *byte = ((pair / 10) << 4) | (pair % 10);
            rest /= 100;
        }
        bytes[9] = u8::from(self.sign()) << 7;
        bytes
    }
}
