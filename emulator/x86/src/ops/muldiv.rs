//! Multiplication and division: MUL, IMUL, DIV, IDIV. SDM vol. 2A and 2B.

use iced_x86::{Instruction, Mnemonic};

use super::form::{Source, by_width};
use crate::choice::{generic, width};
use crate::cpu::Reg;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn};
use crate::table::{Handler, Row};
use crate::undefined;
use crate::vcpu::Vcpu;
use crate::width::Width;

type Done = Result<(), Exception>;

const A: u8 = Reg::RAX as u8;
const D_REG: u8 = Reg::RDX as u8;
/// AH.
const HIGH: u8 = 0x20;

pub(crate) const ROWS: &[Row] = &[
    Row::choose(Mnemonic::Mul, by_width!(mul, 0)).leaves(undefined::multiply),
    Row::by_form(Mnemonic::Imul, choose_imul).leaves(undefined::multiply),
    Row::choose(Mnemonic::Div, by_width!(div, 0)).leaves(undefined::divide),
    Row::choose(Mnemonic::Idiv, by_width!(idiv, 0)).leaves(undefined::divide),
];

/// Writes a double-width product or a (remainder, quotient) pair to AH:AL, DX:AX and so on.
fn set_pair<W: Width>(v: &mut Vcpu, high: u64, low: u64) {
    v.set::<W>(A, low);
    v.set::<W>(if W::BITS == 8 { HIGH } else { D_REG }, high);
}

/// MUL: CF and OF tell whether the high half is zero.
fn mul<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let b = v.read::<W>(insn, 0)?;
    let a = v.get::<W>(A);
    let (high, low) = (v.mul_high::<W>(a, b), Emit::mul::<W>(v, a, b));
    set_pair::<W>(v, high, low);
    v.set_flags_mul::<W>(low, high != 0);
    Ok(())
}

/// IMUL with one operand: CF and OF tell whether the high half is more than the sign.
fn imul_one<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let b = v.read::<W>(insn, 0)?;
    let a = v.get::<W>(A);
    let (high, low) = (v.mul_high_signed::<W>(a, b), Emit::mul::<W>(v, a, b));
    set_pair::<W>(v, high, low);
    let sign = if low & W::SIGN != 0 { W::MASK } else { 0 };
    v.set_flags_mul::<W>(low, high != sign);
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
        1 => {
            let choose: fn(&Instruction) -> Option<ExecFn> = by_width!(imul_one, 0);
            Handler::Plain(choose(iced)?)
        }
        2 => generic!(Reads<1> imul_truncated::<false> { truncating!(); }),
        _ => generic!(Reads<1> imul_truncated::<true> { truncating!(); }),
    })
}

fn dividend<W: Width>(v: &Vcpu) -> u128 {
    let high = v.get::<W>(if W::BITS == 8 { HIGH } else { D_REG });
    u128::from(high) << W::BITS | u128::from(v.get::<W>(A))
}

/// DIV: #DE when the divisor is 0 or the quotient does not fit. The flags are undefined; they stay.
fn div<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let divisor = v.read::<W>(insn, 0)?;
    if divisor == 0 {
        return Err(Exception::DivideError);
    }
    let dividend = dividend::<W>(v);
    let (quotient, remainder) = if W::BITS < 64 || dividend >> 64 == 0 {
        let dividend = dividend as u64;
        (u128::from(dividend / divisor), dividend % divisor)
    } else {
        (
            dividend / u128::from(divisor),
            (dividend % u128::from(divisor)) as u64,
        )
    };
    if quotient > u128::from(W::MASK) {
        return Err(Exception::DivideError);
    }
    set_pair::<W>(v, remainder, quotient as u64);
    Ok(())
}

/// IDIV: truncates towards zero; the remainder has the dividend's sign.
fn idiv<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let divisor = i128::from(W::sext(v.read::<W>(insn, 0)?) as i64);
    if divisor == 0 {
        return Err(Exception::DivideError);
    }
    let unused = 128 - 2 * W::BITS;
    let dividend = (dividend::<W>(v) << unused) as i128 >> unused;
    let (quotient, remainder) = match (i64::try_from(dividend), i64::try_from(divisor)) {
        (Ok(a), Ok(b)) if b != -1 => (i128::from(a / b), (a % b) as u64),
        _ => match dividend.checked_div(divisor) {
            Some(quotient) => (quotient, (dividend % divisor) as u64),
            None => return Err(Exception::DivideError),
        },
    };
    let limit = i128::from(W::SIGN);
    if quotient < -limit || quotient >= limit {
        return Err(Exception::DivideError);
    }
    set_pair::<W>(v, remainder, quotient as u64);
    Ok(())
}
