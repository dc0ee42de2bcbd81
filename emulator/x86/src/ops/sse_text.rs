//! SSE4.2 text processing: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM. SDM vol. 1 §4.1 of vol. 2B
//! ("Imm8 control byte").

use iced_x86::Mnemonic;

use super::packed::lane;
use super::vector::read_xmm;
use crate::cpu::Reg;
use crate::cpuid::Feature;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::bits::{ARITH, CF, OF, SF, ZF};
use crate::insn::Insn;
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::{D, Q};

type Done = Result<(), Exception>;

pub(crate) const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Pcmpestri, |v, insn| compare(v, insn, true, true)).needs(Feature::Sse42),
    Row::plain(Mnemonic::Pcmpestrm, |v, insn| compare(v, insn, true, false)).needs(Feature::Sse42),
    Row::plain(Mnemonic::Pcmpistri, |v, insn| compare(v, insn, false, true)).needs(Feature::Sse42),
    Row::plain(Mnemonic::Pcmpistrm, |v, insn| {
        compare(v, insn, false, false)
    })
    .needs(Feature::Sse42),
    Row::plain(Mnemonic::Pcmpestri64, |v, insn| {
        compare(v, insn, true, true)
    })
    .needs(Feature::Sse42),
    Row::plain(Mnemonic::Pcmpestrm64, |v, insn| {
        compare(v, insn, true, false)
    })
    .needs(Feature::Sse42),
];

/// A string in a register: its elements, sign- or zero-extended, and how many are valid.
struct Text {
    elements: [i32; 16],
    valid: usize,
}

impl Text {
    fn new(value: u128, imm: u8, explicit: Option<i64>) -> Self {
        let (count, size) = if imm & 1 != 0 { (8, 16) } else { (16, 8) };
        let mut elements = [0; 16];
        for (i, element) in elements.iter_mut().enumerate().take(count) {
            let raw = lane(value, i, size) as i32;
            *element = match (imm & 2 != 0, size) {
                (true, 8) => i32::from(raw as i8),
                (true, _) => i32::from(raw as i16),
                _ => raw,
            };
        }
        let valid = match explicit {
            Some(length) => length.unsigned_abs().min(count as u64) as usize,
            None => (0..count).position(|i| elements[i] == 0).unwrap_or(count),
        };
        Self { elements, valid }
    }
}

fn compare(v: &mut Vcpu, insn: &Insn, explicit: bool, index: bool) -> Done {
    v.check_sse()?;
    let b = read_xmm(v, insn, 1, false)?;
    let a = v.xmm(insn.r[0]);
    let imm = insn.imm as u8;
    let wide = insn.attr_size == 8;
    let length = |v: &Vcpu, reg: usize| {
        explicit.then(|| {
            if wide {
                v.get::<Q>(reg as u8) as i64
            } else {
                i64::from(v.get::<D>(reg as u8) as i32)
            }
        })
    };
    let count = if imm & 1 != 0 { 8 } else { 16 };
    let first = Text::new(a, imm, length(v, Reg::RAX));
    let second = Text::new(b, imm, length(v, Reg::RDX));
    let raw = aggregate(&first, &second, count, imm >> 2 & 3);
    let all = ((1u32 << count) - 1) as u16;
    let result = match imm >> 4 & 3 {
        1 => raw ^ all,
        // Negate only where the second string is valid.
        3 => raw ^ ((1u32 << second.valid) - 1) as u16,
        _ => raw,
    };
    if index {
        let found = match (result, imm & 0x40 != 0) {
            (0, _) => count as u32,
            (_, true) => 15 - result.leading_zeros(),
            (_, false) => result.trailing_zeros(),
        };
        v.set::<D>(Reg::RCX as u8, found.into());
    } else {
        let mask = if imm & 0x40 != 0 {
            let size = 128 / count;
            (0..count)
                .filter(|i| result >> i & 1 != 0)
                .fold(0, |m, i| m | ((1u128 << size) - 1) << (i * size))
        } else {
            result.into()
        };
        v.set_xmm(0, mask);
    }
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    let flags = bit(result != 0, CF)
        | bit(second.valid < count, ZF)
        | bit(first.valid < count, SF)
        | bit(result & 1 != 0, OF);
    v.cpu.materialize_flags();
    v.cpu.rflags = (v.cpu.rflags & !ARITH) | flags;
    Ok(())
}

/// The four aggregations, with the treatment of invalid elements of table 4-7 of vol. 2B.
fn aggregate(a: &Text, b: &Text, count: usize, kind: u8) -> u16 {
    let mut result = 0;
    for j in 0..count {
        let b_valid = j < b.valid;
        let set = match kind {
            // Equal any: the element is one of the set.
            0 => b_valid && (0..a.valid).any(|i| a.elements[i] == b.elements[j]),
            // Ranges: pairs of bounds.
            1 => {
                b_valid
                    && (0..a.valid / 2).any(|i| {
                        (a.elements[2 * i]..=a.elements[2 * i + 1]).contains(&b.elements[j])
                    })
            }
            // Equal each: both invalid is equal, one invalid is not.
            2 => match (j < a.valid, b_valid) {
                (true, true) => a.elements[j] == b.elements[j],
                (valid, other) => valid == other,
            },
            // Equal ordered: the first string occurs at j.
            _ => (0..count - j)
                .all(|i| i >= a.valid || j + i < b.valid && a.elements[i] == b.elements[j + i]),
        };
        if set {
            result |= 1 << j;
        }
    }
    result
}
