//! Multiplication and division: MUL, IMUL, DIV, IDIV. SDM vol. 2A and 2B.

use iced_x86::{Instruction, Mnemonic};

use super::form::Source;
use crate::choice::{generic, width};
use crate::cpu::Reg;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::insn::Insn;
use crate::table::{Handler, Row};
use crate::undefined;
use crate::width::Width;

type Done = Result<(), Exception>;

const A: u8 = Reg::RAX as u8;
const D_REG: u8 = Reg::RDX as u8;
/// AH.
const HIGH: u8 = 0x20;

/// What `Semantics` asks of those that are frequent with a register.
macro_rules! by_register {
    () => {
        const FREQUENT: u8 = width::D | width::Q;
        const MEMORY: bool = false;
    };
}

pub(crate) const ROWS: &[Row] = &[
    Row::new(Mnemonic::Mul, generic!(Reads<0> mul { by_register!(); })).leaves(undefined::multiply),
    Row::by_form(Mnemonic::Imul, choose_imul).leaves(undefined::multiply),
    Row::new(Mnemonic::Div, generic!(Reads<0> div { by_register!(); })).leaves(undefined::divide),
    Row::new(Mnemonic::Idiv, generic!(Reads<0> idiv)).leaves(undefined::divide),
];

/// Writes a double-width product or a (remainder, quotient) pair to AH:AL, DX:AX and so on.
#[inline(always)]
fn set_pair<E: Emit, W: Width>(e: &mut E, high: E::Val, low: E::Val) {
    e.set_reg::<W>(A, low);
    e.set_reg::<W>(if W::BITS == 8 { HIGH } else { D_REG }, high);
}

/// MUL: CF and OF tell whether the high half is zero.
fn mul<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let a = e.reg::<W>(A);
    let high = e.mul_high::<W>(a, b);
    let low = e.mul::<W>(a, b);
    set_pair::<E, W>(e, high, low);
    let zero = e.constant(0);
    let overflow = e.differ(high, zero);
    e.set_flags_mul::<W>(low, overflow);
    Ok(())
}

/// IMUL with one operand: CF and OF tell whether the high half is more than the sign.
fn imul_one<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let a = e.reg::<W>(A);
    let high = e.mul_high_signed::<W>(a, b);
    let low = e.mul::<W>(a, b);
    set_pair::<E, W>(e, high, low);
    let sign = e.spread_sign::<W>(low);
    let overflow = e.differ(high, sign);
    e.set_flags_mul::<W>(low, overflow);
    Ok(())
}

/// IMUL r, r/m and IMUL r, r/m, imm: the product is truncated.
fn imul_truncated<E: Emit, W: Width, S: Source, const IMMEDIATE: bool>(
    e: &mut E,
    insn: &Insn,
) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let a = if IMMEDIATE {
        e.constant(W::zext(insn.imm))
    } else {
        e.reg::<W>(insn.r[0])
    };
    let low = e.mul::<W>(a, b);
    let high = e.mul_high_signed::<W>(a, b);
    e.set_reg::<W>(insn.r[0], low);
    let sign = e.spread_sign::<W>(low);
    let overflow = e.differ(high, sign);
    e.set_flags_mul::<W>(low, overflow);
    Ok(())
}

/// What `Semantics` asks of those.
macro_rules! truncating {
    () => {
        const FREQUENT: u8 = width::D | width::Q;
        const WIDTHS: u8 = width::WORDS;
    };
}

fn choose_imul(iced: &Instruction) -> Option<Handler> {
    Some(match iced.op_count() {
        1 => generic!(Reads<0> imul_one),
        2 => generic!(Reads<1> imul_truncated::<false> { truncating!(); }),
        _ => generic!(Reads<1> imul_truncated::<true> { truncating!(); }),
    })
}

/// DIV. The flags are undefined; they stay.
fn div<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let divisor = S::read::<E, W>(e, insn)?;
    let high = e.reg::<W>(if W::BITS == 8 { HIGH } else { D_REG });
    let low = e.reg::<W>(A);
    let (quotient, remainder) = e.divide::<W>(high, low, divisor)?;
    set_pair::<E, W>(e, remainder, quotient);
    Ok(())
}

/// IDIV, likewise.
fn idiv<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let divisor = S::read::<E, W>(e, insn)?;
    let high = e.reg::<W>(if W::BITS == 8 { HIGH } else { D_REG });
    let low = e.reg::<W>(A);
    let (quotient, remainder) = e.divide_signed::<W>(high, low, divisor)?;
    set_pair::<E, W>(e, remainder, quotient);
    Ok(())
}
