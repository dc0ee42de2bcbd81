//! Bits: BT, BTS, BTR, BTC, BSF, BSR, POPCNT, LZCNT, TZCNT, CRC32. SDM vol. 2A and 2B.

use iced_x86::{Instruction, Mnemonic};

use super::form::{self, by_width};
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
    Row::choose(Mnemonic::Bt, by_width!(bt, 0)).leaves(undefined::bit),
    Row::choose(Mnemonic::Bts, by_width!(bts, 0)).leaves(undefined::bit),
    Row::choose(Mnemonic::Btr, by_width!(btr, 0)).leaves(undefined::bit),
    Row::choose(Mnemonic::Btc, by_width!(btc, 0)).leaves(undefined::bit),
    Row::choose(Mnemonic::Bsf, by_width!(bsf, 0)).leaves(undefined::scan),
    Row::choose(Mnemonic::Bsr, by_width!(bsr, 0)).leaves(undefined::scan),
    Row::choose(Mnemonic::Popcnt, by_width!(popcnt, 0)).needs(Feature::Popcnt),
    Row::choose(Mnemonic::Lzcnt, by_width!(lzcnt, 0)).leaves(undefined::count_zeros),
    Row::choose(Mnemonic::Tzcnt, by_width!(tzcnt, 0)).leaves(undefined::count_zeros),
    Row::choose(Mnemonic::Crc32, choose_crc32).needs(Feature::Sse42),
];

fn bt<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    test_bit::<W>(v, insn, None)
}

fn bts<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    test_bit::<W>(v, insn, Some(|a, bit| a | bit))
}

fn btr<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    test_bit::<W>(v, insn, Some(|a, bit| a & !bit))
}

fn btc<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    test_bit::<W>(v, insn, Some(|a, bit| a ^ bit))
}

/// The bit goes to CF and is changed then. A register index into memory reaches beyond the operand;
/// an immediate one does not.
#[inline(always)]
fn test_bit<W: Width>(v: &mut Vcpu, insn: &Insn, change: Option<fn(u64, u64) -> u64>) -> Done {
    let by_register = insn.r[1] != NO_OPERAND;
    let index = if by_register {
        v.get::<W>(insn.r[1])
    } else {
        insn.imm
    };
    let bit = 1u64 << (index & u64::from(W::BITS - 1));
    let carry = if insn.is_mem(0) {
        let mut offset = v.effective_address(insn);
        if by_register {
            let words = W::sext(index) as i64 >> W::BITS.trailing_zeros();
            offset = offset.wrapping_add((words as u64).wrapping_mul(W::BYTES)) & insn.addr_mask;
        }
        match change {
            None => v.load_operand::<W>(insn, offset)? & bit != 0,
            Some(change) => {
                let (a, place) = v.load_for_update::<W>(insn, offset)?;
                v.store_update::<W>(insn, place, change(a, bit));
                a & bit != 0
            }
        }
    } else {
        let a = v.get::<W>(insn.r[0]);
        if let Some(change) = change {
            v.set::<W>(insn.r[0], change(a, bit));
        }
        a & bit != 0
    };
    // OF, SF, AF and PF are undefined, ZF unchanged; all but CF stay.
    v.set_carry(carry);
    Ok(())
}

/// BSF. With a zero source ZF is set and the target stays, as processors do.
fn bsf<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    scan::<W>(v, insn, |a| u64::from(a.trailing_zeros()))
}

/// BSR.
fn bsr<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    scan::<W>(v, insn, |a| u64::from(63 - a.leading_zeros()))
}

#[inline(always)]
fn scan<W: Width>(v: &mut Vcpu, insn: &Insn, find: fn(u64) -> u64) -> Done {
    let a = v.read::<W>(insn, 1)?;
    if a != 0 {
        v.set::<W>(insn.r[0], find(a));
    }
    // CF, OF, SF, AF and PF are undefined: as if the source had been tested.
    v.set_flags::<W>(FlagOp::Logic, a, a, a);
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
        return bsr::<W>(v, insn);
    }
    let a = v.read::<W>(insn, 1)?;
    let count = u64::from(a.leading_zeros()) - u64::from(64 - W::BITS);
    finish_count::<W>(v, insn, a, count);
    Ok(())
}

/// TZCNT; BSF on models without it.
fn tzcnt<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    if !v.model.has(Feature::Bmi1) {
        return bsf::<W>(v, insn);
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
