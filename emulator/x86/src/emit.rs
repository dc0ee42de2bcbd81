//! The primitives in which the frequent instructions are written.
//!
//! The tiers of the interpreter implement [`Emit`] on plain integers (see `tier`), and the compiler turns each semantic
//! function into direct handlers. Values are opaque to it: it does not look at one with Rust's own `if`, but uses
//! [`Emit::select`] or a primitive that decides. So it can be run by whoever wants to know what it does, and not to do
//! it: the tests print it.

use crate::exception::Exception;
use crate::flags::{Condition, FlagOp};
use crate::insn::Insn;
use crate::softfloat::Context;
use crate::width::Width;

/// A shift or rotate, with the count already masked as the instruction masks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ShiftOp {
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
}

/// An operation on two 128-bit vectors: a type, so that each use compiles to its own code.
pub trait VectorOp {
    /// Its name, for those who print.
    const NAME: &str;
    /// Computes the result.
    fn apply(a: u128, b: u128) -> u128;
}

/// An operation on vectors of floats, with MXCSR's rules and flags in the context.
pub trait FloatOp {
    /// Its name, for those who print.
    const NAME: &str;
    /// Computes the result.
    fn apply(a: u128, b: u128, ctx: &mut Context) -> u128;
}

/// The primitives. Values are zero-extended to 64 bits unless said otherwise.
pub trait Emit {
    /// An integer value.
    type Val: Copy;
    /// A truth value.
    type Cond: Copy;
    /// A 128-bit vector.
    type Vector: Copy;
    /// A memory place that has been translated for reading and writing.
    type Place: Copy;

    /// A constant.
    fn constant(&mut self, value: u64) -> Self::Val;
    /// Reads general register `n` (numbered as in [`Insn::r`]).
    fn reg<W: Width>(&mut self, n: u8) -> Self::Val;
    /// Writes general register `n`: 32-bit writes clear the upper half, narrower ones keep the rest.
    fn set_reg<W: Width>(&mut self, n: u8, value: Self::Val);

    /// Writes general register `n` if `cond`, else leaves all of it.
    fn set_reg_if<W: Width>(&mut self, cond: Self::Cond, n: u8, value: Self::Val);

    /// The offset of the memory operand within its segment.
    fn address(&mut self, insn: &Insn) -> Self::Val;
    /// Loads from `offset` in the memory operand's segment.
    fn load<W: Width>(&mut self, insn: &Insn, offset: Self::Val) -> Result<Self::Val, Exception>;
    /// Stores to `offset` in the memory operand's segment.
    fn store<W: Width>(
        &mut self,
        insn: &Insn,
        offset: Self::Val,
        value: Self::Val,
    ) -> Result<(), Exception>;
    /// Loads for read-modify-write: checks the right to write first.
    fn load_for_update<W: Width>(
        &mut self,
        insn: &Insn,
        offset: Self::Val,
    ) -> Result<(Self::Val, Self::Place), Exception>;
    /// Stores to a place that [`load_for_update`](Self::load_for_update) gave. Cannot fault.
    fn store_update<W: Width>(&mut self, insn: &Insn, place: Self::Place, value: Self::Val);
    /// Pushes a value.
    fn push<W: Width>(&mut self, insn: &Insn, value: Self::Val) -> Result<(), Exception>;
    /// Loads from the top of the stack, `depth` bytes above the stack pointer.
    fn peek<W: Width>(&mut self, insn: &Insn, depth: u64) -> Result<Self::Val, Exception>;
    /// Adds `bytes` to the stack pointer, by the stack's width.
    fn drop_stack(&mut self, bytes: u64);

    /// `a + b`.
    fn add<W: Width>(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// `a - b`.
    fn sub<W: Width>(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// `a & b`.
    fn and(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// `a | b`.
    fn or(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// `a ^ b`.
    fn xor(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// `!a`.
    fn not<W: Width>(&mut self, a: Self::Val) -> Self::Val;
    /// Sign-extends the low `W` bits to 64.
    fn sext<W: Width>(&mut self, a: Self::Val) -> Self::Val;
    /// Keeps the low `W` bits.
    fn zext<W: Width>(&mut self, a: Self::Val) -> Self::Val;
    /// Reverses the bytes of the low `W` bits.
    fn byte_swap<W: Width>(&mut self, a: Self::Val) -> Self::Val;
    /// The low half of the product.
    fn mul<W: Width>(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// The high half of the unsigned product.
    fn mul_high<W: Width>(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// The high half of the signed product.
    fn mul_high_signed<W: Width>(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// Quotient and remainder of `high`:`low` by `divisor`, unsigned.
    ///
    /// # Errors
    /// #DE when the divisor is 0 or the quotient does not fit.
    fn divide<W: Width>(
        &mut self,
        high: Self::Val,
        low: Self::Val,
        divisor: Self::Val,
    ) -> Result<(Self::Val, Self::Val), Exception>;
    /// The same of signed numbers: truncates towards zero; the remainder has the dividend's sign.
    ///
    /// # Errors
    /// As for [`divide`](Self::divide).
    fn divide_signed<W: Width>(
        &mut self,
        high: Self::Val,
        low: Self::Val,
        divisor: Self::Val,
    ) -> Result<(Self::Val, Self::Val), Exception>;
    /// 1 shifted left by `index`, modulo `W` bits.
    fn bit_mask<W: Width>(&mut self, index: Self::Val) -> Self::Val;
    /// The address of the operand that holds bit `index`, a signed number, of the bits from `address` on.
    fn bit_address<W: Width>(
        &mut self,
        insn: &Insn,
        address: Self::Val,
        index: Self::Val,
    ) -> Self::Val;
    /// The number of the lowest set bit; anything for 0.
    fn lowest_bit(&mut self, a: Self::Val) -> Self::Val;
    /// The number of the highest set bit; anything for 0.
    fn highest_bit(&mut self, a: Self::Val) -> Self::Val;
    /// Shifts or rotates `a` by `count` with flags as SDM vol. 2B says; a count of 0 changes no flag.
    fn shift<W: Width>(&mut self, op: ShiftOp, a: Self::Val, count: Self::Val) -> Self::Val;
    /// `cond ? a : b`.
    fn select(&mut self, cond: Self::Cond, a: Self::Val, b: Self::Val) -> Self::Val;
    /// 1 or 0.
    #[allow(clippy::wrong_self_convention)] // `self` emits; the value is made from the condition
    fn from_cond(&mut self, cond: Self::Cond) -> Self::Val;
    /// `a == 0`, of all 64 bits.
    fn is_zero(&mut self, a: Self::Val) -> Self::Cond;
    /// `a != b`, of all 64 bits.
    fn differ(&mut self, a: Self::Val, b: Self::Val) -> Self::Cond;
    /// The sign of the low `W` bits in each of them: all ones or 0.
    fn spread_sign<W: Width>(&mut self, a: Self::Val) -> Self::Val;

    /// Sets all six arithmetic flags by operation, operands and result.
    fn set_flags<W: Width>(&mut self, op: FlagOp, a: Self::Val, b: Self::Val, result: Self::Val);
    /// Sets them as INC (`a + 1`) and DEC (`a - 1`) do: CF stays.
    fn set_flags_keep_carry<W: Width>(&mut self, op: FlagOp, a: Self::Val, result: Self::Val);
    /// Sets CF and OF to `overflow`, the others by the result: the multiplications.
    fn set_flags_mul<W: Width>(&mut self, result: Self::Val, overflow: Self::Cond);
    /// Sets CF and leaves the others.
    fn set_carry(&mut self, carry: Self::Cond);
    /// CF as 0 or 1.
    fn carry(&mut self) -> Self::Val;
    /// Whether a condition holds.
    fn condition(&mut self, condition: Condition) -> Self::Cond;

    /// The address of the instruction that follows.
    fn next_ip(&mut self, insn: &Insn) -> Self::Val;
    /// The instruction's own near target, truncated to `W`, the operand size.
    fn near_target<W: Width>(&mut self, insn: &Insn) -> Self::Val;
    /// Checks a near branch's target.
    ///
    /// # Errors
    /// #GP(0) when it lies outside the code segment or is not canonical.
    fn check_target(&mut self, target: Self::Val) -> Result<(), Exception>;
    /// Ends the block at `target`, which has been checked.
    fn set_ip(&mut self, target: Self::Val);
    /// Ends the block at the near target if `cond`, else at the instruction that follows.
    ///
    /// # Errors
    /// As for [`check_target`](Self::check_target), if `cond`.
    fn branch<W: Width>(&mut self, insn: &Insn, cond: Self::Cond) -> Result<(), Exception>;

    /// Ends the block at the instruction that follows.
    #[inline(always)]
    fn fall_through(&mut self, insn: &Insn) {
        let next = self.next_ip(insn);
        self.set_ip(next);
    }

    /// Ends the block at `target` by an indirect branch; `W` is the operand size.
    ///
    /// # Errors
    /// As for [`check_target`](Self::check_target).
    #[inline(always)]
    fn jump<W: Width>(&mut self, target: Self::Val) -> Result<(), Exception> {
        let target = self.zext::<W>(target);
        self.check_target(target)?;
        self.set_ip(target);
        Ok(())
    }

    /// Raises #UD, #NM as SSE instructions do with CR0.EM, CR4.OSFXSR and CR0.TS.
    ///
    /// # Errors
    /// Those.
    fn check_sse(&mut self) -> Result<(), Exception>;
    /// Reads XMM register `n`.
    fn xmm(&mut self, n: u8) -> Self::Vector;
    /// Writes XMM register `n`.
    fn set_xmm(&mut self, n: u8, value: Self::Vector);
    /// Loads 128 bits; `aligned` raises #GP(0) off a 16-byte boundary.
    ///
    /// # Errors
    /// As for any memory access.
    fn load_vector(
        &mut self,
        insn: &Insn,
        offset: Self::Val,
        aligned: bool,
    ) -> Result<Self::Vector, Exception>;
    /// Stores 128 bits, likewise.
    ///
    /// # Errors
    /// As for any memory access.
    fn store_vector(
        &mut self,
        insn: &Insn,
        offset: Self::Val,
        value: Self::Vector,
        aligned: bool,
    ) -> Result<(), Exception>;
    /// Combines two vectors.
    fn vector<O: VectorOp>(&mut self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Computes with floats.
    ///
    /// # Errors
    /// #XM for an unmasked exception, #UD where CR4.OSXMMEXCPT is 0. MXCSR has the flags in any case.
    fn float<O: FloatOp>(
        &mut self,
        a: Self::Vector,
        b: Self::Vector,
    ) -> Result<Self::Vector, Exception>;
    /// The low `W` bits of a vector.
    fn vector_low<W: Width>(&mut self, a: Self::Vector) -> Self::Val;
    /// A vector of `value` in the low 64 bits and zeros above.
    fn vector_from(&mut self, value: Self::Val) -> Self::Vector;
    /// `a` with its low `W` bits replaced.
    fn vector_insert<W: Width>(&mut self, a: Self::Vector, low: Self::Val) -> Self::Vector;
    /// The high 64 bits of a vector.
    fn vector_high(&mut self, a: Self::Vector) -> Self::Val;
    /// `a` with its high 64 bits replaced.
    fn vector_insert_high(&mut self, a: Self::Vector, high: Self::Val) -> Self::Vector;
}
