//! EFLAGS, and the lazy form of its arithmetic bits.

use serde::{Deserialize, Serialize};

/// Bits of RFLAGS (SDM vol. 1 §3.4.3).
#[allow(missing_docs)]
pub mod bits {
    pub const CF: u64 = 1 << 0;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
    /// The six bits that arithmetic sets.
    pub const ARITH: u64 = CF | PF | AF | ZF | SF | OF;
    /// Bit 1 always reads 1.
    pub const FIXED: u64 = 1 << 1;
}

use bits::{AF, ARITH, CF, OF, PF, SF, ZF};

/// How the arithmetic flags follow from the last operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u32)]
pub enum FlagOp {
    /// They stand in `rflags`.
    Explicit,
    /// ADD, ADC, XADD: from both operands and the sum.
    Add,
    /// SUB, SBB, CMP, NEG, CMPXCHG, SCAS, CMPS: from both operands and the difference.
    Sub,
    /// AND, OR, XOR, TEST: CF, OF and AF are 0.
    Logic,
    /// CF, OF and AF are the bits of `a`; SF, ZF and PF follow from the result.
    Bits,
}

/// The arithmetic flags as the operation that sets them: evaluated only when read.
///
/// Operands and result are sign-extended to 64 bits, so that no evaluation depends on the width.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[repr(C)]
pub struct LazyFlags {
    /// Which operation.
    pub op: FlagOp,
    /// The first operand, or the flag bits of [`FlagOp::Bits`].
    pub a: u64,
    /// The second operand.
    pub b: u64,
    /// The result.
    pub result: u64,
}

impl LazyFlags {
    /// Flags that stand in `rflags`.
    pub const EXPLICIT: Self = Self {
        op: FlagOp::Explicit,
        a: 0,
        b: 0,
        result: 0,
    };

    /// The carry flag. `rflags` is used when the flags are explicit.
    #[inline(always)]
    pub fn cf(&self, rflags: u64) -> bool {
        match self.op {
            FlagOp::Explicit => rflags & CF != 0,
            FlagOp::Sub => self.sub_carry(),
            FlagOp::Add => self.add_carry(),
            FlagOp::Logic => false,
            FlagOp::Bits => self.a & CF != 0,
        }
    }

    /// The zero flag.
    #[inline(always)]
    pub fn zf(&self, rflags: u64) -> bool {
        if self.op == FlagOp::Explicit {
            rflags & ZF != 0
        } else {
            self.result == 0
        }
    }

    /// The sign flag.
    #[inline(always)]
    pub fn sf(&self, rflags: u64) -> bool {
        if self.op == FlagOp::Explicit {
            rflags & SF != 0
        } else {
            (self.result as i64) < 0
        }
    }

    /// The overflow flag.
    #[inline(always)]
    pub fn of(&self, rflags: u64) -> bool {
        match self.op {
            FlagOp::Explicit => rflags & OF != 0,
            FlagOp::Sub => (((self.a ^ self.b) & (self.a ^ self.result)) as i64) < 0,
            FlagOp::Add => ((!(self.a ^ self.b) & (self.a ^ self.result)) as i64) < 0,
            FlagOp::Logic => false,
            FlagOp::Bits => self.a & OF != 0,
        }
    }

    /// The parity flag.
    #[inline(always)]
    pub fn pf(&self, rflags: u64) -> bool {
        if self.op == FlagOp::Explicit {
            rflags & PF != 0
        } else {
            (self.result as u8).count_ones() & 1 == 0
        }
    }

    /// The auxiliary carry flag.
    #[inline(always)]
    pub fn af(&self, rflags: u64) -> bool {
        match self.op {
            FlagOp::Explicit => rflags & AF != 0,
            FlagOp::Add | FlagOp::Sub => (self.a ^ self.b ^ self.result) & AF != 0,
            FlagOp::Logic => false,
            FlagOp::Bits => self.a & AF != 0,
        }
    }

    /// All six arithmetic flags as bits of RFLAGS.
    pub fn evaluate(&self, rflags: u64) -> u64 {
        if self.op == FlagOp::Explicit {
            return rflags & ARITH;
        }
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        bit(self.cf(rflags), CF)
            | bit(self.pf(rflags), PF)
            | bit(self.af(rflags), AF)
            | bit(self.zf(rflags), ZF)
            | bit(self.sf(rflags), SF)
            | bit(self.of(rflags), OF)
    }

    /// Carry out of an addition, also with carry in.
    #[inline(always)]
    fn add_carry(&self) -> bool {
        (((self.a & self.b) | ((self.a | self.b) & !self.result)) as i64) < 0
    }

    /// Borrow out of a subtraction, also with borrow in.
    #[inline(always)]
    fn sub_carry(&self) -> bool {
        (((!self.a & self.b) | ((!self.a | self.b) & self.result)) as i64) < 0
    }
}

/// A condition of Jcc, SETcc and CMOVcc, by the low four bits of its opcode (SDM vol. 1 appendix B).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
#[rustfmt::skip]
pub enum Condition { O, No, B, Ae, E, Ne, Be, A, S, Ns, P, Np, L, Ge, Le, G }

impl Condition {
    /// The conditions in the order of their opcodes.
    #[rustfmt::skip]
    pub const ALL: [Self; 16] = {
        use Condition::*;
        [O, No, B, Ae, E, Ne, Be, A, S, Ns, P, Np, L, Ge, Le, G]
    };

    /// Whether the condition holds.
    #[inline(always)]
    pub fn holds(self, lazy: &LazyFlags, rflags: u64) -> bool {
        use Condition::*;
        let positive = match self {
            O | No => lazy.of(rflags),
            B | Ae => {
                // Sign extension keeps the unsigned order of operands of one width.
                lazy.cf(rflags)
            }
            E | Ne => lazy.zf(rflags),
            Be | A => lazy.cf(rflags) || lazy.zf(rflags),
            S | Ns => lazy.sf(rflags),
            P | Np => lazy.pf(rflags),
            L | Ge => lazy.sf(rflags) != lazy.of(rflags),
            Le | G => lazy.zf(rflags) || lazy.sf(rflags) != lazy.of(rflags),
        };
        positive == (self as u8 & 1 == 0)
    }
}
