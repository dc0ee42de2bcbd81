//! Sectors of mode 1 with all of their 2352 bytes, for READ CD.
//!
//! ECMA-130 §14 and §20 and its annexes A and B: synchronization, address and mode; 2048 bytes of data; EDC, a cyclic
//! redundancy check; eight zeros; ECC, a product code of two Reed-Solomon codes over GF(2^8), P down the columns and Q
//! along the diagonals.

use serde::{Deserialize, Serialize};

use super::BLOCK_BYTES;
use super::commands::msf;

const RAW_BYTES: usize = 2352;
const SYNC_BYTES: usize = 12;
const DATA: usize = 16;
const EDC: usize = DATA + BLOCK_BYTES;
const P_PARITY: usize = EDC + 12;
const Q_PARITY: usize = P_PARITY + 172;

/// Which parts of a sector are wanted, as READ CD has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Form(u8);

impl Form {
    /// The user's data alone.
    pub(super) const USER_DATA: Self = Self(0x10);
    const SYNC: u8 = 0x80;
    const HEADER: u8 = 0x20;
    const CODES: u8 = 0x08;
    const ALL: u8 = Self::SYNC | Self::HEADER | Self::USER_DATA.0 | Self::CODES;

    /// Of byte 9 of READ CD. Sectors of mode 1 have no sub-header.
    pub(super) fn of_flags(flags: u8) -> Self {
        Self(flags & Self::ALL)
    }

    pub(super) fn is_sound(self) -> bool {
        self.0 & !Self::ALL == 0
    }

    /// The parts of a sector.
    fn parts(self) -> impl Iterator<Item = std::ops::Range<usize>> {
        [
            (Self::SYNC, 0..SYNC_BYTES),
            (Self::HEADER, SYNC_BYTES..DATA),
            (Self::USER_DATA.0, DATA..EDC),
            (Self::CODES, EDC..RAW_BYTES),
        ]
        .into_iter()
        .filter(move |(flag, _)| self.0 & flag != 0)
        .map(|(_, part)| part)
    }

    /// Bytes of a sector.
    pub(super) fn bytes(self) -> usize {
        self.parts().map(|part| part.len()).sum()
    }

    /// Sector `lba` with this data.
    pub(super) fn of(self, lba: u32, data: &[u8]) -> Vec<u8> {
        let sector = sector(lba, data);
        self.parts()
            .flat_map(|part| sector[part].to_vec())
            .collect()
    }
}

/// The whole of sector `lba`.
fn sector(lba: u32, data: &[u8]) -> [u8; RAW_BYTES] {
    let mut sector = [0; RAW_BYTES];
    sector[1..SYNC_BYTES - 1].fill(0xFF);
    for (byte, number) in sector[SYNC_BYTES..].iter_mut().zip(msf(lba)) {
        *byte = ((number / 10) << 4) | (number % 10);
    }
    sector[DATA - 1] = 1;
    sector[DATA..EDC].copy_from_slice(data);
    let edc = edc(&sector[..EDC]);
    sector[EDC..EDC + 4].copy_from_slice(&edc.to_le_bytes());
    // P: 86 columns of 24 bytes, two of which words lie beside each other.
    parity(&mut sector, P_PARITY, 86, 24, |column, row| {
        column + 86 * row
    });
    // Q: 52 diagonals of 43 bytes over those and P's parity.
    parity(&mut sector, Q_PARITY, 52, 43, |diagonal, step| {
        let word = (diagonal / 2 * 43 + step * 44) % 1118;
        2 * word + diagonal % 2
    });
    sector
}

/// The check of ECMA-130 §14.3: (x^16 + x^15 + x^2 + 1)(x^16 + x^2 + x + 1), the lowest bit first.
fn edc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |edc, &byte| {
        (0..8).fold(edc ^ u32::from(byte), |edc, _| {
            edc >> 1 ^ if edc & 1 != 0 { 0xD801_8001 } else { 0 }
        })
    })
}

/// Writes two bytes of parity for each of `vectors` code vectors with `len` bytes, which lie `at` their places behind
/// the synchronization: the sum of all is 0, and so is that of each times its power of alpha.
fn parity(
    sector: &mut [u8; RAW_BYTES],
    parity: usize,
    vectors: usize,
    len: usize,
    at: impl Fn(usize, usize) -> usize,
) {
    for vector in 0..vectors {
        let (mut sum, mut weighted) = (0u8, 0u8);
        for step in 0..len {
            let byte = sector[SYNC_BYTES + at(vector, step)];
            sum ^= byte;
            // By Horner's rule: the first byte has the highest power.
            weighted = times_alpha(weighted ^ byte);
        }
        // With a = alpha^1 * first + second and first + second = sum.
        let weighted = times_alpha(weighted);
        let first = divided_by_alpha_and_one(weighted ^ sum);
        sector[parity + vector] = first;
        sector[parity + vectors + vector] = first ^ sum;
    }
}

/// In GF(2^8) by x^8 + x^4 + x^3 + x^2 + 1.
fn times_alpha(value: u8) -> u8 {
    value << 1 ^ if value & 0x80 != 0 { 0x1D } else { 0 }
}

/// The value whose product with alpha + 1 is this one.
fn divided_by_alpha_and_one(value: u8) -> u8 {
    // alpha + 1 is alpha^25, so it is the product with alpha^230.
    (0..230).fold(value, |value, _| times_alpha(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The syndromes of a code vector with its parity.
    fn syndromes(bytes: impl Iterator<Item = u8>) -> (u8, u8) {
        bytes.fold((0, 0), |(sum, weighted), byte| {
            (sum ^ byte, times_alpha(weighted) ^ byte)
        })
    }

    #[test]
    fn codes_fit_the_data() {
        let data: Vec<u8> = (0..BLOCK_BYTES).map(|n| (n * 7 + n / 256) as u8).collect();
        let sector = sector(166, &data);
        assert_eq!(sector[..DATA], {
            let mut head = [0xFF; DATA];
            (head[0], head[11]) = (0, 0);
            head[12..].copy_from_slice(&[0x00, 0x04, 0x16, 0x01]);
            head
        });
        assert_eq!(edc(&sector[..EDC + 4]), 0, "the remainder is nothing");
        for column in 0..86 {
            let bytes = (0..26).map(|row| sector[SYNC_BYTES + column + 86 * row]);
            assert_eq!(syndromes(bytes), (0, 0), "P {column}");
        }
        for diagonal in 0..52 {
            let data = (0..43).map(|step| {
                let word = (diagonal / 2 * 43 + step * 44) % 1118;
                sector[SYNC_BYTES + 2 * word + diagonal % 2]
            });
            let parity = [0, 52].map(|at| sector[Q_PARITY + at + diagonal]);
            assert_eq!(syndromes(data.chain(parity)), (0, 0), "Q {diagonal}");
        }
    }

    #[test]
    fn a_form_has_the_parts_that_are_asked_for() {
        assert_eq!(Form::of_flags(0xF8).bytes(), RAW_BYTES);
        assert_eq!(Form::of_flags(0x10).bytes(), BLOCK_BYTES);
        assert_eq!(Form::of_flags(0x20).bytes(), 4);
        assert_eq!(Form::of_flags(0x00).bytes(), 0);
    }
}
