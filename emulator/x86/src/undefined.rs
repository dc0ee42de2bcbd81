//! What the manual leaves open: flags and results that an instruction leaves undefined.
//!
//! The source of each is "Flags Affected" in the instruction's page of Intel SDM vol. 2, where nothing else is said.
//! `count` is the shift count as the processor masks it.

use iced_x86::{Instruction, OpKind};

use crate::flags::bits::{AF, ARITH, CF, OF, PF, SF, ZF};

/// What one execution of an instruction leaves undefined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undefined {
    /// Bits of RFLAGS.
    pub flags: u64,
    /// The destination.
    pub result: bool,
}

/// What an instruction leaves undefined, by its form and masked count.
pub type Leaves = fn(&Instruction, u32) -> Undefined;

/// Width of the destination in bits.
pub fn operand_bits(iced: &Instruction) -> u32 {
    let size = if iced.op_kind(0) == OpKind::Register {
        iced.op0_register().size()
    } else {
        iced.memory_size().size()
    };
    size as u32 * 8
}

const fn flags(flags: u64) -> Undefined {
    Undefined {
        flags,
        result: false,
    }
}

macro_rules! always {
    ($($(#[$doc:meta])* $name:ident $flags:expr;)*) => {
        $(
            $(#[$doc])*
            pub(crate) fn $name(_: &Instruction, _: u32) -> Undefined {
                flags($flags)
            }
        )*
    };
}

always! {
    /// Nothing.
    nothing 0;
    /// AND, OR, XOR, TEST.
    logic AF;
    /// ANDN, BLSI, BLSMSK, BLSR, BZHI.
    lowest_bit AF | PF;
    /// BEXTR.
    extract AF | SF | PF;
    /// MUL, IMUL.
    multiply SF | ZF | AF | PF;
    /// DIV, IDIV.
    divide ARITH;
    /// BSF, BSR.
    scan CF | OF | SF | AF | PF;
    /// BT and its kin.
    bit OF | SF | AF | PF;
    /// LZCNT, TZCNT.
    count_zeros OF | SF | PF | AF;
    /// AAA, AAS.
    ascii_adjust OF | SF | ZF | PF;
    /// AAD, AAM.
    ascii_convert OF | AF | CF;
    /// DAA, DAS.
    decimal_adjust OF;
}

/// SHL, SHR.
pub(crate) fn shift(iced: &Instruction, count: u32) -> Undefined {
    flags(match count {
        0 => 0,
        _ if count >= operand_bits(iced) => AF | CF | if count == 1 { 0 } else { OF },
        1 => AF,
        _ => AF | OF,
    })
}

/// SAR, which leaves CF defined.
pub(crate) fn shift_signed(_: &Instruction, count: u32) -> Undefined {
    flags(match count {
        0 => 0,
        1 => AF,
        _ => AF | OF,
    })
}

/// ROL, ROR, RCL, RCR.
pub(crate) fn rotate(_: &Instruction, count: u32) -> Undefined {
    flags(if count > 1 { OF } else { 0 })
}

/// SHLD, SHRD: everything by more than the operand's width.
pub(crate) fn double_shift(iced: &Instruction, count: u32) -> Undefined {
    if count > operand_bits(iced) {
        return Undefined {
            flags: ARITH,
            result: true,
        };
    }
    flags(match count {
        0 => 0,
        1 => AF,
        _ => AF | OF,
    })
}
