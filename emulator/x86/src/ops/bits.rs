//! Bits: BT, BTS, BTR, BTC, BSF, BSR, POPCNT, LZCNT, TZCNT, CRC32. SDM vol. 2A and 2B.

use iced_x86::{Instruction, Mnemonic};

use super::form::{self, Any, Source, by_width};
use crate::choice::{generic, width};
use crate::cpuid::Feature;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::FlagOp;
use crate::flags::bits::{CF, ZF};
use crate::insn::{ExecFn, Insn, NO_OPERAND};
use crate::table::Row;
use crate::undefined;
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

pub(crate) const ROWS: &[Row] = &[
    Row::new(
        Mnemonic::Bt,
        generic!(Bare test_bit::<TEST> { const WIDTHS: u8 = width::WORDS; }),
    )
    .leaves(undefined::bit),
    Row::new(
        Mnemonic::Bts,
        generic!(Bare test_bit::<SET> { const WIDTHS: u8 = width::WORDS; }),
    )
    .leaves(undefined::bit),
    Row::new(
        Mnemonic::Btr,
        generic!(Bare test_bit::<RESET> { const WIDTHS: u8 = width::WORDS; }),
    )
    .leaves(undefined::bit),
    Row::new(
        Mnemonic::Btc,
        generic!(Bare test_bit::<COMPLEMENT> { const WIDTHS: u8 = width::WORDS; }),
    )
    .leaves(undefined::bit),
    Row::new(
        Mnemonic::Bsf,
        generic!(Reads<1> scan::<true> { const WIDTHS: u8 = width::WORDS; }),
    )
    .leaves(undefined::scan),
    Row::new(
        Mnemonic::Bsr,
        generic!(Reads<1> scan::<false> { const WIDTHS: u8 = width::WORDS; }),
    )
    .leaves(undefined::scan),
    Row::choose(Mnemonic::Popcnt, by_width!(popcnt, 0)).needs(Feature::Popcnt),
    Row::choose(Mnemonic::Lzcnt, by_width!(lzcnt, 0)).leaves(undefined::count_zeros),
    Row::choose(Mnemonic::Tzcnt, by_width!(tzcnt, 0)).leaves(undefined::count_zeros),
    Row::choose(Mnemonic::Crc32, choose_crc32).needs(Feature::Sse42),
];

const TEST: u8 = 0;
const SET: u8 = 1;
const RESET: u8 = 2;
const COMPLEMENT: u8 = 3;

/// BT, BTS, BTR, BTC: the bit goes to CF and is changed then. A register index into memory reaches beyond the operand;
/// an immediate one does not.
fn test_bit<E: Emit, W: Width, const OP: u8>(e: &mut E, insn: &Insn) -> Done {
    let by_register = insn.r[1] != NO_OPERAND;
    let index = if by_register {
        e.reg::<W>(insn.r[1])
    } else {
        e.constant(insn.imm)
    };
    let bit = e.bit_mask::<W>(index);
    let a = if insn.is_mem(0) {
        let mut address = e.address(insn);
        if by_register {
            address = e.bit_address::<W>(insn, address, index);
        }
        if OP == TEST {
            e.load::<W>(insn, address)?
        } else {
            let (a, place) = e.load_for_update::<W>(insn, address)?;
            let changed = change_bit::<E, W, OP>(e, a, bit);
            e.store_update::<W>(insn, place, changed);
            a
        }
    } else {
        let a = e.reg::<W>(insn.r[0]);
        if OP != TEST {
            let changed = change_bit::<E, W, OP>(e, a, bit);
            e.set_reg::<W>(insn.r[0], changed);
        }
        a
    };
    // OF, SF, AF and PF are undefined, ZF unchanged; all but CF stay.
    let a = e.and(a, bit);
    let zero = e.constant(0);
    let carry = e.differ(a, zero);
    e.set_carry(carry);
    Ok(())
}

#[inline(always)]
fn change_bit<E: Emit, W: Width, const OP: u8>(e: &mut E, a: E::Val, bit: E::Val) -> E::Val {
    match OP {
        SET => e.or(a, bit),
        RESET => {
            let others = e.not::<W>(bit);
            e.and(a, others)
        }
        _ => e.xor(a, bit),
    }
}

/// BSF, BSR. With a zero source ZF is set and the target stays, as processors do.
fn scan<E: Emit, W: Width, S: Source, const UP: bool>(e: &mut E, insn: &Insn) -> Done {
    let a = S::read::<E, W>(e, insn)?;
    let found = if UP {
        e.lowest_bit(a)
    } else {
        e.highest_bit(a)
    };
    let zero = e.constant(0);
    let any = e.differ(a, zero);
    e.set_reg_if::<W>(any, insn.r[0], found);
    // CF, OF, SF, AF and PF are undefined: as if the source had been tested.
    e.set_flags::<W>(FlagOp::Logic, a, a, a);
    Ok(())
}

/// POPCNT: all flags but ZF are cleared.
fn popcnt<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let a = v.read::<W>(insn, 1)?;
    v.set::<W>(insn.r[0], a.count_ones().into());
    count_flags(v, if a == 0 { ZF } else { 0 });
    Ok(())
}

fn count_flags(v: &mut Vcpu, flags: u64) {
    v.cpu.materialize_flags();
    v.cpu.rflags = (v.cpu.rflags & !crate::flags::bits::ARITH) | flags;
}

/// LZCNT; BSR on models without it, where the F3 prefix is ignored.
fn lzcnt<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    if !v.model.has(Feature::Lzcnt) {
        return scan::<Vcpu, W, Any<1>, false>(v, insn);
    }
    let a = v.read::<W>(insn, 1)?;
    let count = u64::from(a.leading_zeros()) - u64::from(64 - W::BITS);
    finish_count::<W>(v, insn, a, count);
    Ok(())
}

/// TZCNT; BSF on models without it.
fn tzcnt<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    if !v.model.has(Feature::Bmi1) {
        return scan::<Vcpu, W, Any<1>, true>(v, insn);
    }
    let a = v.read::<W>(insn, 1)?;
    let count = u64::from(a.trailing_zeros().min(W::BITS));
    finish_count::<W>(v, insn, a, count);
    Ok(())
}

fn finish_count<W: Width>(v: &mut Vcpu, insn: &Insn, a: u64, count: u64) {
    v.set::<W>(insn.r[0], count);
    // CF: the source was zero. ZF: the count is. The others are undefined and stay.
    v.cpu.materialize_flags();
    let flags = if a == 0 { CF } else { 0 } | if count == 0 { ZF } else { 0 };
    v.cpu.rflags = (v.cpu.rflags & !(CF | ZF)) | flags;
}

/// CRC32: the Castagnoli polynomial, bits reflected, a byte at a time.
fn crc32<W: Width, T: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let data = v.read::<W>(insn, 1)?;
    let mut crc = v.get::<D>(insn.r[0]) as u32;
    for byte in &data.to_le_bytes()[..W::BYTES as usize] {
        crc = CRC32C[usize::from(crc as u8 ^ byte)] ^ crc >> 8;
    }
    v.set::<T>(insn.r[0], crc.into());
    Ok(())
}

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut value = n as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 {
                value >> 1 ^ 0x82F6_3B78
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
};

fn choose_crc32(iced: &Instruction) -> Option<ExecFn> {
    Some(match (form::width(iced, 1), form::width(iced, 0)) {
        (8, 32) => crc32::<B, D> as ExecFn,
        (8, _) => crc32::<B, Q>,
        (16, _) => crc32::<W16, D>,
        (32, _) => crc32::<D, D>,
        _ => crc32::<Q, Q>,
    })
}
