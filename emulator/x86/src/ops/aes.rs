//! AES-NI. SDM vol. 2A; the cipher is FIPS 197's.

use iced_x86::Mnemonic;

use super::packed::{build, lane};
use super::vector::read_xmm;
use crate::cpuid::Feature;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::insn::Insn;
use crate::table::Row;
use crate::vcpu::Vcpu;

type Done = Result<(), Exception>;

pub(crate) const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Aesenc, |v, insn| {
        round(v, insn, |s| {
            mix(substitute(shift_rows(s, 1), &SBOX), &[2, 3, 1, 1])
        })
    })
    .needs(Feature::Aes),
    Row::plain(Mnemonic::Aesenclast, |v, insn| {
        round(v, insn, |s| substitute(shift_rows(s, 1), &SBOX))
    })
    .needs(Feature::Aes),
    Row::plain(Mnemonic::Aesdec, |v, insn| {
        round(v, insn, |s| {
            mix(substitute(shift_rows(s, 3), &INVERSE), &[14, 11, 13, 9])
        })
    })
    .needs(Feature::Aes),
    Row::plain(Mnemonic::Aesdeclast, |v, insn| {
        round(v, insn, |s| substitute(shift_rows(s, 3), &INVERSE))
    })
    .needs(Feature::Aes),
    Row::plain(Mnemonic::Aesimc, inverse_mix_columns).needs(Feature::Aes),
    Row::plain(Mnemonic::Aeskeygenassist, key_generation_assist).needs(Feature::Aes),
];

/// Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a, b, 0);
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = a << 1 ^ if a & 0x80 != 0 { 0x1B } else { 0 };
        b >>= 1;
    }
    product
}

/// The S-box: the inverse in GF(2^8), then an affine map.
const SBOX: [u8; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        // The inverse is the 254th power.
        let x = n as u8;
        let mut inverse = 1;
        let mut i = 0;
        while i < 254 {
            inverse = multiply(inverse, x);
            i += 1;
        }
        let s = inverse;
        table[n] =
            s ^ s.rotate_left(1) ^ s.rotate_left(2) ^ s.rotate_left(3) ^ s.rotate_left(4) ^ 0x63;
        n += 1;
    }
    table
};

const INVERSE: [u8; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        table[SBOX[n] as usize] = n as u8;
        n += 1;
    }
    table
};

/// Byte `row + 4 * column` moves `by * row` columns to the left.
fn shift_rows(state: u128, by: usize) -> u128 {
    build(16, 8, |i| {
        let (row, column) = (i % 4, i / 4);
        lane(state, row + 4 * ((column + by * row) % 4), 8)
    })
}

fn substitute(state: u128, table: &[u8; 256]) -> u128 {
    build(16, 8, |i| table[lane(state, i, 8) as usize].into())
}

/// Multiplies each column by the circulant matrix whose first row is `row`.
fn mix(state: u128, row: &[u8; 4]) -> u128 {
    build(16, 8, |i| {
        let (r, column) = (i % 4, i / 4);
        (0..4)
            .fold(0, |sum, k| {
                sum ^ multiply(lane(state, 4 * column + k, 8) as u8, row[(4 + k - r) % 4])
            })
            .into()
    })
}

fn round(v: &mut Vcpu, insn: &Insn, f: fn(u128) -> u128) -> Done {
    v.check_sse()?;
    let key = read_xmm(v, insn, 1, true)?;
    let state = v.xmm(insn.r[0]);
    v.set_xmm(insn.r[0], f(state) ^ key);
    Ok(())
}

fn inverse_mix_columns(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let state = read_xmm(v, insn, 1, true)?;
    v.set_xmm(insn.r[0], mix(state, &[14, 11, 13, 9]));
    Ok(())
}

fn key_generation_assist(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let source = read_xmm(v, insn, 1, true)?;
    let word = |i: usize| {
        (0..4).fold(0u32, |w, k| {
            w | u32::from(SBOX[lane(source, 4 * i + k, 8) as usize]) << (8 * k)
        })
    };
    let round_constant = insn.imm as u8;
    let with_constant = |w: u32| w.rotate_right(8) ^ u32::from(round_constant);
    let (one, three) = (word(1), word(3));
    let words = [one, with_constant(one), three, with_constant(three)];
    v.set_xmm(insn.r[0], build(4, 32, |i| words[i].into()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_s_box_is_that_of_fips_197() {
        assert_eq!(
            (SBOX[0], SBOX[1], SBOX[0x53], SBOX[0xFF]),
            (0x63, 0x7C, 0xED, 0x16)
        );
        assert_eq!(INVERSE[0x63], 0);
    }

    #[test]
    fn mixing_columns_and_back_is_the_identity() {
        let state = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210;
        assert_eq!(mix(mix(state, &[2, 3, 1, 1]), &[14, 11, 13, 9]), state);
    }
}
