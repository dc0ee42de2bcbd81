//! Decimal arithmetic: AAA, AAS, AAM, AAD, DAA, DAS; and SALC. SDM vol. 2A.

use iced_x86::Mnemonic;

use crate::cpu::Reg;
use crate::exception::Exception;
use crate::flags::bits::{AF, ARITH, CF, PF, SF, ZF};
use crate::insn::Insn;
use crate::table::{Native, Row};
use crate::undefined;
use crate::vcpu::Vcpu;
use crate::width::{B, W16};

type Done = Result<(), Exception>;

const AL: u8 = Reg::RAX as u8;
const AH: u8 = 0x20;

pub(crate) const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Aaa, |v, _| ascii_adjust(v, false))
        .leaves(undefined::ascii_adjust)
        .native(Native::Call),
    Row::plain(Mnemonic::Aas, |v, _| ascii_adjust(v, true))
        .leaves(undefined::ascii_adjust)
        .native(Native::Call),
    Row::plain(Mnemonic::Aam, aam)
        .leaves(undefined::ascii_convert)
        .native(Native::Call),
    Row::plain(Mnemonic::Aad, aad)
        .leaves(undefined::ascii_convert)
        .native(Native::Call),
    Row::plain(Mnemonic::Daa, |v, _| decimal_adjust(v, false))
        .leaves(undefined::decimal_adjust)
        .native(Native::Call),
    Row::plain(Mnemonic::Das, |v, _| decimal_adjust(v, true))
        .leaves(undefined::decimal_adjust)
        .native(Native::Call),
    Row::plain(Mnemonic::Salc, salc),
];

/// SF, ZF and PF of a byte.
fn byte_flags(value: u64) -> u64 {
    let value = value & 0xFF;
    (if value & 0x80 != 0 { SF } else { 0 })
        | (if value == 0 { ZF } else { 0 })
        | (if value.count_ones() & 1 == 0 { PF } else { 0 })
}

fn set_flags(v: &mut Vcpu, flags: u64) {
    v.cpu.rflags = (v.cpu.rflags & !ARITH) | flags;
}

/// AAA and AAS: AX changes as a word since the 80286.
fn ascii_adjust(v: &mut Vcpu, subtract: bool) -> Done {
    v.cpu.materialize_flags();
    let ax = v.get::<W16>(AL);
    let adjust = ax & 0xF > 9 || v.cpu.rflags & AF != 0;
    let adjusted = match (adjust, subtract) {
        (false, _) => ax,
        (true, false) => ax.wrapping_add(0x106),
        (true, true) => ax.wrapping_sub(0x106),
    };
    let result = adjusted & 0xFF0F;
    v.set::<W16>(AL, result);
    set_flags(v, byte_flags(result) | if adjust { AF | CF } else { 0 });
    Ok(())
}

/// AAM: #DE when the base is 0.
fn aam(v: &mut Vcpu, insn: &Insn) -> Done {
    let base = insn.imm & 0xFF;
    if base == 0 {
        return Err(Exception::DivideError);
    }
    let al = v.get::<B>(AL);
    v.set::<B>(AH, al / base);
    v.set::<B>(AL, al % base);
    v.cpu.materialize_flags();
    set_flags(v, byte_flags(al % base));
    Ok(())
}

/// AAD.
fn aad(v: &mut Vcpu, insn: &Insn) -> Done {
    let result = (v.get::<B>(AL) + v.get::<B>(AH) * (insn.imm & 0xFF)) & 0xFF;
    v.set::<W16>(AL, result);
    v.cpu.materialize_flags();
    set_flags(v, byte_flags(result));
    Ok(())
}

/// DAA and DAS.
fn decimal_adjust(v: &mut Vcpu, subtract: bool) -> Done {
    v.cpu.materialize_flags();
    let old = v.get::<B>(AL);
    let (carry, half) = (v.cpu.rflags & CF != 0, v.cpu.rflags & AF != 0);
    let low = old & 0xF > 9 || half;
    let high = old > 0x99 || carry;
    let amount = (if low { 6 } else { 0 }) + (if high { 0x60 } else { 0 });
    let result = if subtract {
        old.wrapping_sub(amount)
    } else {
        old + amount
    } & 0xFF;
    // DAS sets CF as well when the low adjustment borrows.
    let borrow = subtract && low && old < 6;
    v.set::<B>(AL, result);
    let flags = byte_flags(result) | if low { AF } else { 0 } | if high || borrow { CF } else { 0 };
    set_flags(v, flags);
    Ok(())
}

/// SALC: AL becomes 0 or FFh by CF; undocumented, in every processor without 64-bit mode's decoder.
fn salc(v: &mut Vcpu, _: &Insn) -> Done {
    let carry = v.cpu.lazy.cf(v.cpu.rflags);
    v.set::<B>(AL, if carry { 0xFF } else { 0 });
    Ok(())
}
