//! Shifts and rotates. SDM vol. 2B: RCL/RCR/ROL/ROR, SAL/SAR/SHL/SHR, SHLD, SHRD.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::form::{self, Memory, Register, Target, by_width};
use crate::cpu::Reg;
use crate::cpuid::Feature;
use crate::emit::{Emit, ShiftOp};
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::{ExecFn, Insn};
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

pub(crate) const ROWS: &[Row] = &[
    Row::choose(Mnemonic::Rol, choose::<0>),
    Row::choose(Mnemonic::Ror, choose::<1>),
    Row::choose(Mnemonic::Rcl, choose::<2>),
    Row::choose(Mnemonic::Rcr, choose::<3>),
    Row::choose(Mnemonic::Shl, choose::<4>),
    Row::choose(Mnemonic::Shr, choose::<5>),
    Row::choose(Mnemonic::Sal, choose::<4>),
    Row::choose(Mnemonic::Sar, choose::<7>),
    Row::choose(Mnemonic::Shld, by_width!(shld, 0)),
    Row::choose(Mnemonic::Shrd, by_width!(shrd, 0)),
];

const OPS: [ShiftOp; 8] = [
    ShiftOp::Rol,
    ShiftOp::Ror,
    ShiftOp::Rcl,
    ShiftOp::Rcr,
    ShiftOp::Shl,
    ShiftOp::Shr,
    ShiftOp::Shl,
    ShiftOp::Sar,
];

/// Shifts by 1, an immediate, or CL. The count is masked to 5 bits, 6 for 64-bit operands.
pub(crate) fn shift<E: Emit, W: Width, T: Target, const OP: usize, const BY_CL: bool>(
    e: &mut E,
    insn: &Insn,
) -> Done {
    let mask = if W::BITS == 64 { 0x3F } else { 0x1F };
    let count = if BY_CL {
        let count = e.reg::<B>(Reg::RCX as u8);
        let mask = e.constant(mask);
        e.and(count, mask)
    } else {
        e.constant(insn.imm & mask)
    };
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let result = e.shift::<W>(OPS[OP], a, count);
    T::finish::<E, W>(e, insn, hold, result);
    Ok(())
}

fn choose<const OP: usize>(iced: &Instruction) -> Option<ExecFn> {
    macro_rules! forms {
        ($w:ty) => {
            match (
                iced.op_kind(0) == OpKind::Memory,
                iced.op_kind(1) == OpKind::Register,
            ) {
                (false, false) => shift::<Vcpu, $w, Register<0>, OP, false> as ExecFn,
                (false, true) => shift::<Vcpu, $w, Register<0>, OP, true>,
                (true, false) => shift::<Vcpu, $w, Memory, OP, false>,
                (true, true) => shift::<Vcpu, $w, Memory, OP, true>,
            }
        };
    }
    Some(match form::width(iced, 0) {
        8 => forms!(B),
        16 => forms!(W16),
        32 => forms!(D),
        _ => forms!(Q),
    })
}

/// SHLD.
fn shld<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    double::<W, true>(v, insn)
}

/// SHRD.
fn shrd<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    double::<W, false>(v, insn)
}

/// The count is operand 2: an immediate or CL. With 16-bit operands a count above 16 is undefined by
/// the manual; the bits then come from the first operand again, as on P6 and later, but from the
/// second one on the i386 (hardware).
fn double<W: Width, const LEFT: bool>(v: &mut Vcpu, insn: &Insn) -> Done {
    let count = if insn.r[2] == crate::insn::NO_OPERAND {
        insn.imm
    } else {
        v.get::<B>(insn.r[2])
    };
    let count = count & if W::BITS == 64 { 0x3F } else { 0x1F };
    let filler = v.get::<W>(insn.r[1]);
    let width = W::BITS;
    let old = width == 16 && !v.model.has(Feature::I486);
    let apply = |a: u64| -> (u64, bool) {
        let (a, filler, n) = (u128::from(a), u128::from(filler), count as u32);
        let again = if old { filler } else { a };
        if LEFT {
            // a : filler : a, shifted left; the carry is the last bit out.
            let (wide, total) = if width == 16 {
                (a << 32 | filler << 16 | again, 48)
            } else {
                (a << width | filler, 2 * width)
            };
            (
                W::zext((wide << n >> (total - width)) as u64),
                wide >> (total - n) & 1 != 0,
            )
        } else {
            let wide = if width == 16 {
                again << 32 | filler << 16 | a
            } else {
                filler << width | a
            };
            (W::zext((wide >> n) as u64), wide >> (n - 1) & 1 != 0)
        }
    };
    if insn.is_mem(0) {
        let offset = v.effective_address(insn);
        let (a, place) = v.load_for_update::<W>(insn, offset)?;
        if count != 0 {
            let (result, carry) = apply(a);
            v.store_update::<W>(insn, place, result);
            double_flags::<W>(v, a, result, carry);
        }
    } else {
        let a = v.get::<W>(insn.r[0]);
        if count != 0 {
            let (result, carry) = apply(a);
            v.set::<W>(insn.r[0], result);
            double_flags::<W>(v, a, result, carry);
        } else if W::BITS == 32 {
            v.set::<W>(insn.r[0], a);
        }
    }
    Ok(())
}

fn double_flags<W: Width>(v: &mut Vcpu, a: u64, result: u64, carry: bool) {
    let overflow = (a ^ result) & W::SIGN != 0;
    let flags = if carry { bits::CF } else { 0 } | if overflow { bits::OF } else { 0 };
    v.set_flag_bits::<W>(flags, result);
}
