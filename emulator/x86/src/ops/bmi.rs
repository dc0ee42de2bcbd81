//! Bit manipulation on general registers: BMI1 and BMI2, which are encoded with VEX, and ADX. SDM vol. 2A to 2D.
//! TZCNT, the one of BMI1 without VEX, is among the [bits](super::bits).

use iced_x86::Mnemonic;

use super::form::by_width;
use crate::cpu::{Reg, control};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::flags::bits::{ARITH, CF, OF, VM};
use crate::insn::Insn;
use crate::table::Row;
use crate::undefined;
use crate::vcpu::Vcpu;
use crate::width::Width;

type Done = Result<(), Exception>;

pub(crate) const ROWS: &[Row] = &[
    Row::choose(Mnemonic::Andn, by_width!(andn, 0))
        .leaves(undefined::lowest_bit)
        .needs(Feature::Bmi1),
    Row::choose(Mnemonic::Bextr, by_width!(bextr, 0))
        .leaves(undefined::extract)
        .needs(Feature::Bmi1),
    Row::choose(Mnemonic::Blsi, by_width!(blsi, 0))
        .leaves(undefined::lowest_bit)
        .needs(Feature::Bmi1),
    Row::choose(Mnemonic::Blsmsk, by_width!(blsmsk, 0))
        .leaves(undefined::lowest_bit)
        .needs(Feature::Bmi1),
    Row::choose(Mnemonic::Blsr, by_width!(blsr, 0))
        .leaves(undefined::lowest_bit)
        .needs(Feature::Bmi1),
    Row::choose(Mnemonic::Bzhi, by_width!(bzhi, 0))
        .leaves(undefined::lowest_bit)
        .needs(Feature::Bmi2),
    Row::choose(Mnemonic::Mulx, by_width!(mulx, 0)).needs(Feature::Bmi2),
    Row::choose(Mnemonic::Pdep, by_width!(pdep, 0)).needs(Feature::Bmi2),
    Row::choose(Mnemonic::Pext, by_width!(pext, 0)).needs(Feature::Bmi2),
    Row::choose(Mnemonic::Rorx, by_width!(rorx, 0)).needs(Feature::Bmi2),
    Row::choose(Mnemonic::Sarx, by_width!(sarx, 0)).needs(Feature::Bmi2),
    Row::choose(Mnemonic::Shlx, by_width!(shlx, 0)).needs(Feature::Bmi2),
    Row::choose(Mnemonic::Shrx, by_width!(shrx, 0)).needs(Feature::Bmi2),
    Row::choose(Mnemonic::Adcx, by_width!(adcx, 0)).needs(Feature::Adx),
    Row::choose(Mnemonic::Adox, by_width!(adox, 0)).needs(Feature::Adx),
];

/// #UD in real and virtual-8086 mode, as every VEX encoding there (SDM vol. 2A §2.3.1).
#[inline(always)]
fn vex(v: &Vcpu) -> Done {
    if v.cpu.cr0 & control::CR0_PE == 0 || v.cpu.rflags & VM != 0 {
        return Err(Exception::InvalidOpcode);
    }
    Ok(())
}

/// Writes a result with its SF, ZF and PF; AF and OF are 0.
#[inline(always)]
fn finish<W: Width>(v: &mut Vcpu, insn: &Insn, result: u64, carry: bool) {
    let result = W::zext(result);
    v.set::<W>(insn.r[0], result);
    v.set_flag_bits::<W>(if carry { CF } else { 0 }, result);
}

fn andn<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let b = v.read::<W>(insn, 2)?;
    let a = v.get::<W>(insn.r[1]);
    finish::<W>(v, insn, !a & b, false);
    Ok(())
}

/// Bits 7:0 of operand 2 are the first bit, 15:8 the number of bits. All flags but ZF are 0.
fn bextr<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let a = v.read::<W>(insn, 1)?;
    let control = v.get::<W>(insn.r[2]);
    let (first, count) = (control as u32 & 0xFF, control as u32 >> 8 & 0xFF);
    let shifted = a.checked_shr(first).unwrap_or(0);
    let result = shifted & low_bits(count);
    v.set::<W>(insn.r[0], result);
    v.cpu.materialize_flags();
    v.cpu.rflags &= !ARITH;
    if result == 0 {
        v.cpu.rflags |= crate::flags::bits::ZF;
    }
    Ok(())
}

/// A value of `count` ones, at most 64.
fn low_bits(count: u32) -> u64 {
    1u64.checked_shl(count).map_or(!0, |bit| bit - 1)
}

fn blsi<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let a = v.read::<W>(insn, 1)?;
    finish::<W>(v, insn, a & a.wrapping_neg(), a != 0);
    Ok(())
}

fn blsmsk<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let a = v.read::<W>(insn, 1)?;
    finish::<W>(v, insn, a ^ a.wrapping_sub(1), a == 0);
    Ok(())
}

fn blsr<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let a = v.read::<W>(insn, 1)?;
    finish::<W>(v, insn, a & a.wrapping_sub(1), a == 0);
    Ok(())
}

/// Only bits 7:0 of operand 2 count.
fn bzhi<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let a = v.read::<W>(insn, 1)?;
    let index = v.get::<W>(insn.r[2]) as u32 & 0xFF;
    finish::<W>(v, insn, a & low_bits(index), index >= W::BITS);
    Ok(())
}

/// RDX times operand 2. Where both halves go to one register, it holds the high one.
fn mulx<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let a = v.get::<W>(Reg::RDX as u8);
    let b = v.read::<W>(insn, 2)?;
    let product = u128::from(a) * u128::from(b);
    v.set::<W>(insn.r[1], W::zext(product as u64));
    v.set::<W>(insn.r[0], (product >> W::BITS) as u64);
    Ok(())
}

fn pdep<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let mut mask = v.read::<W>(insn, 2)?;
    let mut source = v.get::<W>(insn.r[1]);
    let mut result = 0;
    while mask != 0 {
        let lowest = mask & mask.wrapping_neg();
        result |= if source & 1 != 0 { lowest } else { 0 };
        source >>= 1;
        mask ^= lowest;
    }
    v.set::<W>(insn.r[0], result);
    Ok(())
}

fn pext<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let mut mask = v.read::<W>(insn, 2)?;
    let source = v.get::<W>(insn.r[1]);
    let (mut result, mut place) = (0, 1u64);
    while mask != 0 {
        let lowest = mask & mask.wrapping_neg();
        result |= if source & lowest != 0 { place } else { 0 };
        place = place.wrapping_shl(1);
        mask ^= lowest;
    }
    v.set::<W>(insn.r[0], result);
    Ok(())
}

fn rorx<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    vex(v)?;
    let a = v.read::<W>(insn, 1)?;
    let count = insn.imm as u32 & (W::BITS - 1);
    let result = if count == 0 {
        a
    } else {
        W::zext(a >> count | a << (W::BITS - count))
    };
    v.set::<W>(insn.r[0], result);
    Ok(())
}

/// Operand 1 shifted by operand 2, without flags.
#[inline(always)]
fn shift<W: Width>(v: &mut Vcpu, insn: &Insn, apply: fn(u64, u32) -> u64) -> Done {
    vex(v)?;
    let a = v.read::<W>(insn, 1)?;
    let count = v.get::<W>(insn.r[2]) as u32 & (W::BITS - 1);
    v.set::<W>(insn.r[0], W::zext(apply(a, count)));
    Ok(())
}

fn sarx<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    shift::<W>(v, insn, |a, count| ((W::sext(a) as i64) >> count) as u64)
}

fn shlx<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    shift::<W>(v, insn, |a, count| a << count)
}

fn shrx<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    shift::<W>(v, insn, |a, count| a >> count)
}

fn adcx<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    add_with::<W>(v, insn, CF)
}

fn adox<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    add_with::<W>(v, insn, OF)
}

/// Adds with `flag` as carry in and out; the other flags stay.
#[inline(always)]
fn add_with<W: Width>(v: &mut Vcpu, insn: &Insn, flag: u64) -> Done {
    let b = v.read::<W>(insn, 1)?;
    let a = v.get::<W>(insn.r[0]);
    v.cpu.materialize_flags();
    let carry = u128::from(v.cpu.rflags & flag != 0);
    let sum = u128::from(a) + u128::from(b) + carry;
    v.set::<W>(insn.r[0], W::zext(sum as u64));
    v.cpu.rflags &= !flag;
    if sum >> W::BITS != 0 {
        v.cpu.rflags |= flag;
    }
    Ok(())
}
