//! Shifts and rotates. SDM vol. 2B: RCL/RCR/ROL/ROR, SAL/SAR/SHL/SHR, SHLD, SHRD.

use iced_x86::Mnemonic;

use super::form::{Source, Target, by_width};
use crate::choice::{generic, width};
use crate::cpuid::Feature;
use crate::emit::{Emit, ShiftOp};
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::Insn;
use crate::table::Row;
use crate::undefined;
use crate::vcpu::Vcpu;
use crate::width::{B, Width};

type Done = Result<(), Exception>;

/// What `Semantics` asks of the frequent ones.
macro_rules! frequent {
    () => {
        const FREQUENT: u8 = width::D | width::Q;
        const MEMORY: bool = false;
    };
}

pub(crate) const ROWS: &[Row] = &[
    Row::new(
        Mnemonic::Rol,
        generic!(Combines shift::<0> { frequent!(); }),
    )
    .leaves(undefined::rotate),
    Row::new(
        Mnemonic::Ror,
        generic!(Combines shift::<1> { frequent!(); }),
    )
    .leaves(undefined::rotate),
    Row::new(Mnemonic::Rcl, generic!(Combines shift::<2>)).leaves(undefined::rotate),
    Row::new(Mnemonic::Rcr, generic!(Combines shift::<3>)).leaves(undefined::rotate),
    Row::new(
        Mnemonic::Shl,
        generic!(Combines shift::<4> { frequent!(); }),
    )
    .leaves(undefined::shift),
    Row::new(
        Mnemonic::Shr,
        generic!(Combines shift::<5> { frequent!(); }),
    )
    .leaves(undefined::shift),
    Row::new(
        Mnemonic::Sal,
        generic!(Combines shift::<4> { frequent!(); }),
    )
    .leaves(undefined::shift),
    Row::new(
        Mnemonic::Sar,
        generic!(Combines shift::<7> { frequent!(); }),
    )
    .leaves(undefined::shift_signed),
    Row::choose(Mnemonic::Shld, by_width!(shld, 0)).leaves(undefined::double_shift),
    Row::choose(Mnemonic::Shrd, by_width!(shrd, 0)).leaves(undefined::double_shift),
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
fn shift<E: Emit, W: Width, T: Target, S: Source, const OP: usize>(e: &mut E, insn: &Insn) -> Done {
    let count = S::read::<E, B>(e, insn)?;
    let mask = e.constant(if W::BITS == 64 { 0x3F } else { 0x1F });
    let count = e.and(count, mask);
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let result = e.shift::<W>(OPS[OP], a, count);
    T::finish::<E, W>(e, insn, hold, result);
    Ok(())
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
