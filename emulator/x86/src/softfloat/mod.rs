//! Software floating point with the exact semantics of the x86: SSE single and double, x87 extended.
//!
//! Sources: Intel SDM vol. 1 chapter 4 (formats, rounding, NaNs: tables 4-3 and 4-7; exceptions: §4.9),
//! chapter 8 (x87) and §11.5 (SSE exceptions); IEEE 754-1985 where the SDM defers to it. Where the manuals leave a
//! result open, the choice is what current AMD processors do, which the tests compare against on an x86-64 host.
//!
//! An instruction makes one [`Context`] from its control register (MXCSR or the x87 control word), runs its
//! operations and then looks at [`Context::flags`], which hold just what *this* instruction raised:
//!
//! | file | what |
//! |---|---|
//! | `parts.rs` | unpacking, NaN selection, the one rounding routine |
//! | `arith.rs` | add, subtract, multiply, divide, square root |
//! | `compare.rs` | ordered and unordered comparison, FXAM classes |
//! | `convert.rs` | float to float, integer to float and back, round to integer |
//! | `decimal.rs` | FBLD and FBSTP's packed decimal |
//! | `exponent.rs` | FPREM, FPREM1, FSCALE, FXTRACT |
//! | `wide.rs` | 128-bit significand arithmetic below the transcendentals |
//! | `trig.rs`, `explog.rs` | the x87 transcendentals |
//! | `host.rs` | the fast path through host floats |
//!
//! # Exceptions
//!
//! Flags have the bit positions that MXCSR and the x87 status word share. An unmasked pre-computation exception
//! (IE, DE, ZE) ends the operation before any post-computation flag (OE, UE, PE) can be raised; the value returned is
//! then meaningless and the instruction must not write it ([`Context::aborts`]). Packed SSE instructions call
//! [`Context::settle_packed`] after the last lane, because the rule holds across lanes.
//!
//! Unmasked overflow and underflow deliver a result with an adjusted exponent when the destination is an x87
//! register (SDM vol. 1 §8.5.4, §8.5.5); for memory and SSE destinations the instruction writes nothing.

mod arith;
mod compare;
mod convert;
mod decimal;
mod explog;
mod exponent;
mod host;
mod parts;
mod trig;
mod wide;

#[cfg(test)]
pub(crate) mod tests;

pub use compare::{F80Class, Relation};
pub use exponent::{Quotient, Remainder};
pub use parts::{Format, Operand};

/// Exception flags: bits 0-5 as in MXCSR and the x87 status word.
pub mod flag {
    /// Invalid operation.
    pub const IE: u8 = 0x01;
    /// Denormal operand.
    pub const DE: u8 = 0x02;
    /// Division by zero.
    pub const ZE: u8 = 0x04;
    /// Overflow.
    pub const OE: u8 = 0x08;
    /// Underflow.
    pub const UE: u8 = 0x10;
    /// Precision (inexact result).
    pub const PE: u8 = 0x20;
    /// All six.
    pub const ALL: u8 = 0x3F;
    /// The exceptions found before an operation is computed.
    pub const PRE_COMPUTATION: u8 = IE | DE | ZE;
}

/// Rounding control, in the encoding of MXCSR.RC and the x87 control word's RC (SDM vol. 1 table 4-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rounding {
    /// To nearest, ties to even.
    #[default]
    Nearest = 0,
    /// Toward minus infinity.
    Down = 1,
    /// Toward plus infinity.
    Up = 2,
    /// Toward zero.
    Zero = 3,
}

impl Rounding {
    /// Decodes a two-bit RC field; higher bits are ignored.
    pub fn from_bits(rc: u32) -> Self {
        match rc & 3 {
            0 => Self::Nearest,
            1 => Self::Down,
            2 => Self::Up,
            _ => Self::Zero,
        }
    }
}

/// x87 precision control (SDM vol. 1 §8.1.5.2). It governs FADD, FSUB, FMUL, FDIV and FSQRT only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// 24-bit significand.
    Single = 24,
    /// 53-bit significand.
    Double = 53,
    /// 64-bit significand.
    #[default]
    Extended = 64,
}

impl Precision {
    /// Decodes a two-bit PC field. The reserved value 1 acts as extended precision.
    pub fn from_bits(pc: u32) -> Self {
        match pc & 3 {
            0 => Self::Single,
            2 => Self::Double,
            _ => Self::Extended,
        }
    }
}

/// The control bits that an operation obeys and the flags that it raises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Rounding control.
    pub rounding: Rounding,
    /// x87 precision control.
    pub precision: Precision,
    /// MXCSR.DAZ: denormal F32 and F64 operands count as zero and raise no DE.
    pub daz: bool,
    /// MXCSR.FTZ: masked underflow delivers a signed zero.
    pub ftz: bool,
    /// A set bit masks that exception (bits as in [`flag`]).
    pub masks: u8,
    /// The flags raised since this context was made.
    pub flags: u8,
    /// Flags that the status register held before. They change no result: they tell the fast path
    /// which exceptions need not be detected any more.
    pub sticky: u8,
    /// x87 C1: the last rounding increased the magnitude.
    pub c1: bool,
}

impl Default for Context {
    /// Nearest, extended, everything masked: the state after FNINIT.
    fn default() -> Self {
        Self {
            rounding: Rounding::Nearest,
            precision: Precision::Extended,
            daz: false,
            ftz: false,
            masks: flag::ALL,
            flags: 0,
            sticky: 0,
            c1: false,
        }
    }
}

impl Context {
    /// Decodes MXCSR (SDM vol. 1 figure 10-3).
    pub fn from_mxcsr(mxcsr: u32) -> Self {
        Self {
            rounding: Rounding::from_bits(mxcsr >> 13),
            precision: Precision::Extended,
            daz: mxcsr & (1 << 6) != 0,
            ftz: mxcsr & (1 << 15) != 0,
            masks: (mxcsr >> 7) as u8 & flag::ALL,
            flags: 0,
            sticky: mxcsr as u8 & flag::ALL,
            c1: false,
        }
    }

    /// Decodes the x87 control word (SDM vol. 1 figure 8-6).
    pub fn from_x87_control(fcw: u16) -> Self {
        Self {
            rounding: Rounding::from_bits(u32::from(fcw) >> 10),
            precision: Precision::from_bits(u32::from(fcw) >> 8),
            masks: fcw as u8 & flag::ALL,
            ..Self::default()
        }
    }

    /// The raised flags that are not masked: for SSE, not zero means #XM.
    pub fn unmasked(&self) -> u8 {
        self.flags & !self.masks
    }

    /// Whether an unmasked pre-computation exception ended the operation, so that no result may be written.
    pub fn aborts(&self) -> bool {
        self.unmasked() & flag::PRE_COMPUTATION != 0
    }

    /// Drops the post-computation flags of all lanes when any lane had an unmasked pre-computation exception.
    ///
    /// SDM vol. 1 §11.5.2.
    pub fn settle_packed(&mut self) {
        if self.aborts() {
            self.flags &= flag::PRE_COMPUTATION;
        }
    }

    pub(self) fn raise(&mut self, flags: u8) {
        self.flags |= flags;
    }

    /// Raises DE and says whether the operation must end because DE is unmasked.
    pub(self) fn denormal_aborts(&mut self) -> bool {
        self.flags |= flag::DE;
        self.masks & flag::DE == 0
    }
}

/// A single-precision value, as its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct F32(pub u32);

/// A double-precision value, as its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct F64(pub u64);

/// A double-extended value as an x87 register holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct F80 {
    /// The significand with its explicit integer bit; an MMX register is this field.
    pub sig: u64,
    /// Sign (bit 15) and biased exponent.
    pub sign_exp: u16,
}

impl F32 {
    /// The default NaN, "real indefinite" (SDM vol. 1 table 4-3).
    pub const DEFAULT_NAN: Self = Self(0xFFC0_0000);
}

impl F64 {
    /// The default NaN, "real indefinite" (SDM vol. 1 table 4-3).
    pub const DEFAULT_NAN: Self = Self(0xFFF8_0000_0000_0000);
}

impl F80 {
    /// The default NaN, "real indefinite" (SDM vol. 1 table 4-3).
    pub const DEFAULT_NAN: Self = Self::new(0xFFFF, 0xC000_0000_0000_0000);
    /// +0.
    pub const ZERO: Self = Self::new(0, 0);
    /// +1, as FLD1 loads it.
    pub const ONE: Self = Self::new(0x3FFF, 1 << 63);
    /// +infinity.
    pub const INFINITY: Self = Self::new(0x7FFF, 1 << 63);

    /// A value from its sign-and-exponent word and its significand.
    pub const fn new(sign_exp: u16, sig: u64) -> Self {
        Self { sig, sign_exp }
    }

    /// From the ten bytes of the memory format.
    pub fn from_bytes(bytes: [u8; 10]) -> Self {
        let (sig, se) = bytes.split_at(8);
        Self {
            sig: u64::from_le_bytes(sig.try_into().expect("eight bytes")),
            sign_exp: u16::from_le_bytes(se.try_into().expect("two bytes")),
        }
    }

    /// The ten bytes of the memory format.
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.sig.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sign_exp.to_le_bytes());
        bytes
    }

    /// The sign bit.
    pub fn sign(self) -> bool {
        self.sign_exp & 0x8000 != 0
    }

    /// FCHS: the value with its sign complemented, whatever it is.
    #[must_use]
    pub fn negate(self) -> Self {
        Self::new(self.sign_exp ^ 0x8000, self.sig)
    }

    /// FABS: the value with its sign cleared, whatever it is.
    #[must_use]
    pub fn abs(self) -> Self {
        Self::new(self.sign_exp & 0x7FFF, self.sig)
    }
}
