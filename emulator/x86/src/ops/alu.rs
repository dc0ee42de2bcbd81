//! Integer arithmetic and logic: ADD to XOR, CMP, TEST, INC, DEC, NEG, NOT. SDM vol. 2A and 2B.

use iced_x86::Mnemonic;

use super::form::{Source, Target, one_operand, two_operands};
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::FlagOp;
use crate::insn::Insn;
use crate::table::Row;
use crate::width::Width;

pub(crate) const ROWS: &[Row] = &[
    Row::choose(Mnemonic::Add, two_operands!(add)),
    Row::choose(Mnemonic::Adc, two_operands!(adc)),
    Row::choose(Mnemonic::Sub, two_operands!(sub)),
    Row::choose(Mnemonic::Sbb, two_operands!(sbb)),
    Row::choose(Mnemonic::And, two_operands!(and)),
    Row::choose(Mnemonic::Or, two_operands!(or)),
    Row::choose(Mnemonic::Xor, two_operands!(xor)),
    Row::choose(Mnemonic::Cmp, two_operands!(cmp)),
    Row::choose(Mnemonic::Test, two_operands!(test)),
    Row::choose(Mnemonic::Inc, one_operand!(inc)),
    Row::choose(Mnemonic::Dec, one_operand!(dec)),
    Row::choose(Mnemonic::Neg, one_operand!(neg)),
    Row::choose(Mnemonic::Not, one_operand!(not)),
];

type Done = Result<(), Exception>;

/// ADD.
pub(crate) fn add<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let sum = e.add::<W>(a, b);
    T::finish::<E, W>(e, insn, hold, sum);
    e.set_flags::<W>(FlagOp::Add, a, b, sum);
    Ok(())
}

/// ADC.
pub(crate) fn adc<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let carry = e.carry();
    let sum = e.add::<W>(a, b);
    let sum = e.add::<W>(sum, carry);
    T::finish::<E, W>(e, insn, hold, sum);
    e.set_flags::<W>(FlagOp::Add, a, b, sum);
    Ok(())
}

/// SUB.
pub(crate) fn sub<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let difference = e.sub::<W>(a, b);
    T::finish::<E, W>(e, insn, hold, difference);
    e.set_flags::<W>(FlagOp::Sub, a, b, difference);
    Ok(())
}

/// SBB.
pub(crate) fn sbb<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let borrow = e.carry();
    let difference = e.sub::<W>(a, b);
    let difference = e.sub::<W>(difference, borrow);
    T::finish::<E, W>(e, insn, hold, difference);
    e.set_flags::<W>(FlagOp::Sub, a, b, difference);
    Ok(())
}

/// CMP.
pub(crate) fn cmp<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let a = T::read::<E, W>(e, insn)?;
    let difference = e.sub::<W>(a, b);
    e.set_flags::<W>(FlagOp::Sub, a, b, difference);
    Ok(())
}

/// TEST.
pub(crate) fn test<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let a = T::read::<E, W>(e, insn)?;
    let result = e.and(a, b);
    e.set_flags::<W>(FlagOp::Logic, a, b, result);
    Ok(())
}

macro_rules! logic {
    ($name:ident, $mnemonic:literal) => {
        #[doc = $mnemonic]
        pub(crate) fn $name<E: Emit, W: Width, T: Target, S: Source>(
            e: &mut E,
            insn: &Insn,
        ) -> Done {
            let b = S::read::<E, W>(e, insn)?;
            let (a, hold) = T::begin::<E, W>(e, insn)?;
            let result = e.$name(a, b);
            T::finish::<E, W>(e, insn, hold, result);
            e.set_flags::<W>(FlagOp::Logic, a, b, result);
            Ok(())
        }
    };
}

logic!(and, "AND.");
logic!(or, "OR.");
logic!(xor, "XOR.");

/// INC: CF stays.
pub(crate) fn inc<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let one = e.constant(1);
    let result = e.add::<W>(a, one);
    T::finish::<E, W>(e, insn, hold, result);
    e.set_flags_keep_carry::<W>(FlagOp::Add, a, result);
    Ok(())
}

/// DEC: CF stays.
pub(crate) fn dec<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let one = e.constant(1);
    let result = e.sub::<W>(a, one);
    T::finish::<E, W>(e, insn, hold, result);
    e.set_flags_keep_carry::<W>(FlagOp::Sub, a, result);
    Ok(())
}

/// NEG: 0 minus the operand.
pub(crate) fn neg<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let zero = e.constant(0);
    let result = e.sub::<W>(zero, a);
    T::finish::<E, W>(e, insn, hold, result);
    e.set_flags::<W>(FlagOp::Sub, zero, a, result);
    Ok(())
}

/// NOT: no flags.
pub(crate) fn not<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let result = e.not::<W>(a);
    T::finish::<E, W>(e, insn, hold, result);
    Ok(())
}
