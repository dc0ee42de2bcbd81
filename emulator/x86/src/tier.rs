//! What the tiers of the interpreter have in common: [`Emit`] on plain integers.
//!
//! They differ in how they reach memory and where a branch may go, which [`Tier`] says; all else is written here once.
//! Every primitive is inlined into the semantic function that uses it, with the width and the operation known.

use crate::cpu::control;
use crate::emit::{Emit, FloatOp, ShiftOp, VectorOp};
use crate::exception::Exception;
use crate::flags::{Condition, FlagOp, bits};
use crate::insn::Insn;
use crate::ops::sse_float::commit;
use crate::softfloat::Context;
use crate::vcpu::Vcpu;
use crate::width::Width;

/// A tier of the interpreter. The methods are those of [`Emit`] by the same names.
#[allow(missing_docs)]
pub trait Tier {
    /// A memory place that has been translated for reading and writing.
    type Place: Copy;
    /// The tier's view of a processor.
    fn of(v: &mut Vcpu) -> &mut Self;
    /// The processor.
    fn vcpu(&mut self) -> &mut Vcpu;
    fn address(&mut self, insn: &Insn) -> u64;
    fn load<W: Width>(&mut self, insn: &Insn, offset: u64) -> Result<u64, Exception>;
    fn store<W: Width>(&mut self, insn: &Insn, offset: u64, value: u64) -> Result<(), Exception>;
    fn load_for_update<W: Width>(
        &mut self,
        insn: &Insn,
        offset: u64,
    ) -> Result<(u64, Self::Place), Exception>;
    fn store_update<W: Width>(&mut self, insn: &Insn, place: Self::Place, value: u64);
    fn push<W: Width>(&mut self, insn: &Insn, value: u64) -> Result<(), Exception>;
    fn peek<W: Width>(&mut self, insn: &Insn, depth: u64) -> Result<u64, Exception>;
    fn drop_stack(&mut self, bytes: u64);
    fn next_ip(&mut self, insn: &Insn) -> u64;
    fn check_target(&mut self, target: u64) -> Result<(), Exception>;
    fn load_vector(&mut self, insn: &Insn, offset: u64, aligned: bool) -> Result<u128, Exception>;
    fn store_vector(
        &mut self,
        insn: &Insn,
        offset: u64,
        value: u128,
        aligned: bool,
    ) -> Result<(), Exception>;
}

#[inline(always)]
fn bit(on: bool, bit: u64) -> u64 {
    if on { bit } else { 0 }
}

impl<T: Tier> Emit for T {
    type Val = u64;
    type Cond = bool;
    type Vector = u128;
    type Place = T::Place;

    #[inline(always)]
    fn constant(&mut self, value: u64) -> u64 {
        value
    }

    #[inline(always)]
    fn reg<W: Width>(&mut self, n: u8) -> u64 {
        self.vcpu().get::<W>(n)
    }

    #[inline(always)]
    fn set_reg<W: Width>(&mut self, n: u8, value: u64) {
        self.vcpu().set::<W>(n, value);
    }

    #[inline(always)]
    fn set_reg_if<W: Width>(&mut self, cond: bool, n: u8, value: u64) {
        if cond {
            self.vcpu().set::<W>(n, value);
        }
    }

    #[inline(always)]
    fn address(&mut self, insn: &Insn) -> u64 {
        Tier::address(self, insn)
    }

    #[inline(always)]
    fn load<W: Width>(&mut self, insn: &Insn, offset: u64) -> Result<u64, Exception> {
        Tier::load::<W>(self, insn, offset)
    }

    #[inline(always)]
    fn store<W: Width>(&mut self, insn: &Insn, offset: u64, value: u64) -> Result<(), Exception> {
        Tier::store::<W>(self, insn, offset, value)
    }

    #[inline(always)]
    fn load_for_update<W: Width>(
        &mut self,
        insn: &Insn,
        offset: u64,
    ) -> Result<(u64, T::Place), Exception> {
        Tier::load_for_update::<W>(self, insn, offset)
    }

    #[inline(always)]
    fn store_update<W: Width>(&mut self, insn: &Insn, place: T::Place, value: u64) {
        Tier::store_update::<W>(self, insn, place, value);
    }

    #[inline(always)]
    fn push<W: Width>(&mut self, insn: &Insn, value: u64) -> Result<(), Exception> {
        Tier::push::<W>(self, insn, value)
    }

    #[inline(always)]
    fn peek<W: Width>(&mut self, insn: &Insn, depth: u64) -> Result<u64, Exception> {
        Tier::peek::<W>(self, insn, depth)
    }

    #[inline(always)]
    fn drop_stack(&mut self, bytes: u64) {
        Tier::drop_stack(self, bytes);
    }

    #[inline(always)]
    fn add<W: Width>(&mut self, a: u64, b: u64) -> u64 {
        W::zext(a.wrapping_add(b))
    }

    #[inline(always)]
    fn sub<W: Width>(&mut self, a: u64, b: u64) -> u64 {
        W::zext(a.wrapping_sub(b))
    }

    #[inline(always)]
    fn and(&mut self, a: u64, b: u64) -> u64 {
        a & b
    }

    #[inline(always)]
    fn or(&mut self, a: u64, b: u64) -> u64 {
        a | b
    }

    #[inline(always)]
    fn xor(&mut self, a: u64, b: u64) -> u64 {
        a ^ b
    }

    #[inline(always)]
    fn not<W: Width>(&mut self, a: u64) -> u64 {
        W::zext(!a)
    }

    #[inline(always)]
    fn sext<W: Width>(&mut self, a: u64) -> u64 {
        W::sext(a)
    }

    #[inline(always)]
    fn zext<W: Width>(&mut self, a: u64) -> u64 {
        W::zext(a)
    }

    #[inline(always)]
    fn byte_swap<W: Width>(&mut self, a: u64) -> u64 {
        a.swap_bytes() >> (64 - W::BITS)
    }

    #[inline(always)]
    fn mul<W: Width>(&mut self, a: u64, b: u64) -> u64 {
        W::zext(a.wrapping_mul(b))
    }

    #[inline(always)]
    fn mul_high<W: Width>(&mut self, a: u64, b: u64) -> u64 {
        if W::BITS == 64 {
            ((u128::from(a) * u128::from(b)) >> 64) as u64
        } else {
            W::zext(a.wrapping_mul(b) >> W::BITS)
        }
    }

    #[inline(always)]
    fn mul_high_signed<W: Width>(&mut self, a: u64, b: u64) -> u64 {
        let (a, b) = (W::sext(a) as i64, W::sext(b) as i64);
        if W::BITS == 64 {
            ((i128::from(a) * i128::from(b)) >> 64) as u64
        } else {
            W::zext((a.wrapping_mul(b) >> W::BITS) as u64)
        }
    }

    #[inline(always)]
    fn divide<W: Width>(
        &mut self,
        high: u64,
        low: u64,
        divisor: u64,
    ) -> Result<(u64, u64), Exception> {
        // The quotient fits exactly when the high half is less than the divisor, which is then not 0.
        if high >= divisor {
            return Err(Exception::DivideError);
        }
        if W::BITS < 64 {
            let dividend = high << (W::BITS % 64) | low;
            return Ok((dividend / divisor, dividend % divisor));
        }
        if high == 0 {
            return Ok((low / divisor, low % divisor));
        }
        let dividend = u128::from(high) << 64 | u128::from(low);
        let divisor = u128::from(divisor);
        Ok(((dividend / divisor) as u64, (dividend % divisor) as u64))
    }

    #[inline(always)]
    fn divide_signed<W: Width>(
        &mut self,
        high: u64,
        low: u64,
        divisor: u64,
    ) -> Result<(u64, u64), Exception> {
        let divisor = i128::from(W::sext(divisor) as i64);
        if divisor == 0 {
            return Err(Exception::DivideError);
        }
        let unused = 128 - 2 * W::BITS;
        let dividend = u128::from(high) << W::BITS | u128::from(low);
        let dividend = (dividend << unused) as i128 >> unused;
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
        Ok((quotient as u64, remainder))
    }

    #[inline(always)]
    fn bit_mask<W: Width>(&mut self, index: u64) -> u64 {
        1 << (index & u64::from(W::BITS - 1))
    }

    #[inline(always)]
    fn bit_address<W: Width>(&mut self, insn: &Insn, address: u64, index: u64) -> u64 {
        let operands = W::sext(index) as i64 >> W::BITS.trailing_zeros();
        address.wrapping_add((operands as u64).wrapping_mul(W::BYTES)) & insn.addr_mask
    }

    #[inline(always)]
    fn lowest_bit(&mut self, a: u64) -> u64 {
        a.trailing_zeros().into()
    }

    #[inline(always)]
    fn highest_bit(&mut self, a: u64) -> u64 {
        (a | 1).ilog2().into()
    }

    #[inline(always)]
    fn shift<W: Width>(&mut self, op: ShiftOp, a: u64, count: u64) -> u64 {
        if count == 0 {
            return a;
        }
        let bits_in = u64::from(W::BITS);
        let top = |value: u64| value & W::SIGN != 0;
        let second = |value: u64| value & (W::SIGN >> 1) != 0;
        match op {
            ShiftOp::Shl => {
                let result = if count >= bits_in {
                    0
                } else {
                    W::zext(a << count)
                };
                let carry = count <= bits_in && a >> (bits_in - count) & 1 != 0;
                let overflow = top(result) != carry;
                self.vcpu()
                    .set_flag_bits::<W>(bit(carry, bits::CF) | bit(overflow, bits::OF), result);
                result
            }
            ShiftOp::Shr => {
                let result = if count >= bits_in { 0 } else { a >> count };
                let carry = count <= bits_in && a >> (count - 1) & 1 != 0;
                let overflow = top(result) != second(result);
                self.vcpu()
                    .set_flag_bits::<W>(bit(carry, bits::CF) | bit(overflow, bits::OF), result);
                result
            }
            ShiftOp::Sar => {
                let wide = W::sext(a) as i64;
                let result = W::zext((wide >> count.min(63)) as u64);
                let carry = wide >> (count - 1).min(63) & 1 != 0;
                self.vcpu().set_flag_bits::<W>(bit(carry, bits::CF), result);
                result
            }
            ShiftOp::Rol => {
                let n = count % bits_in;
                let result = if n == 0 {
                    a
                } else {
                    W::zext(a << n | a >> (bits_in - n))
                };
                let carry = result & 1 != 0;
                self.vcpu().set_carry_overflow(carry, top(result) != carry);
                result
            }
            ShiftOp::Ror => {
                let n = count % bits_in;
                let result = if n == 0 {
                    a
                } else {
                    W::zext(a >> n | a << (bits_in - n))
                };
                self.vcpu()
                    .set_carry_overflow(top(result), top(result) != second(result));
                result
            }
            ShiftOp::Rcl | ShiftOp::Rcr => {
                let n = count % (bits_in + 1);
                if n == 0 {
                    // The hardware still writes OF.
                    let carry = self.vcpu().carry_flag();
                    let overflow = if op == ShiftOp::Rcl {
                        top(a) != carry
                    } else {
                        top(a) != second(a)
                    };
                    self.vcpu().set_carry_overflow(carry, overflow);
                    return a;
                }
                // The operand with CF above it, rotated as one number of BITS + 1 bits.
                let wide = u128::from(a) | u128::from(self.vcpu().carry_flag()) << bits_in;
                let left = if op == ShiftOp::Rcl {
                    n
                } else {
                    bits_in + 1 - n
                };
                let rotated = wide << left | wide >> (bits_in + 1 - left);
                let result = W::zext(rotated as u64);
                let carry = rotated >> bits_in & 1 != 0;
                let overflow = if op == ShiftOp::Rcl {
                    top(result) != carry
                } else {
                    top(result) != second(result)
                };
                self.vcpu().set_carry_overflow(carry, overflow);
                result
            }
        }
    }

    #[inline(always)]
    fn select(&mut self, cond: bool, a: u64, b: u64) -> u64 {
        if cond { a } else { b }
    }

    #[inline(always)]
    fn from_cond(&mut self, cond: bool) -> u64 {
        cond.into()
    }

    #[inline(always)]
    fn is_zero(&mut self, a: u64) -> bool {
        a == 0
    }

    #[inline(always)]
    fn differ(&mut self, a: u64, b: u64) -> bool {
        a != b
    }

    #[inline(always)]
    fn spread_sign<W: Width>(&mut self, a: u64) -> u64 {
        if a & W::SIGN != 0 { W::MASK } else { 0 }
    }

    #[inline(always)]
    fn set_flags<W: Width>(&mut self, op: FlagOp, a: u64, b: u64, result: u64) {
        let lazy = &mut self.vcpu().cpu.lazy;
        lazy.op = op;
        lazy.result = W::sext(result);
        if op != FlagOp::Logic {
            lazy.a = W::sext(a);
            lazy.b = W::sext(b);
        }
    }

    #[inline(always)]
    fn set_flags_keep_carry<W: Width>(&mut self, op: FlagOp, a: u64, result: u64) {
        let carry = self.vcpu().carry_flag();
        // INC overflows to the smallest number, DEC from it; AF: the low digit wrapped.
        let (overflow, adjust) = match op {
            FlagOp::Add => (result == W::SIGN, result & 0xF == 0),
            _ => (a == W::SIGN, result & 0xF == 0xF),
        };
        self.vcpu().set_flag_bits::<W>(
            bit(carry, bits::CF) | bit(overflow, bits::OF) | bit(adjust, bits::AF),
            result,
        );
    }

    #[inline(always)]
    fn set_flags_mul<W: Width>(&mut self, result: u64, overflow: bool) {
        self.vcpu()
            .set_flag_bits::<W>(bit(overflow, bits::CF | bits::OF), result);
    }

    #[inline(always)]
    fn set_carry(&mut self, carry: bool) {
        Vcpu::set_carry(self.vcpu(), carry);
    }

    #[inline(always)]
    fn carry(&mut self) -> u64 {
        u64::from(self.vcpu().carry_flag())
    }

    #[inline(always)]
    fn condition(&mut self, condition: Condition) -> bool {
        let cpu = &self.vcpu().cpu;
        condition.holds(&cpu.lazy, cpu.rflags)
    }

    #[inline(always)]
    fn next_ip(&mut self, insn: &Insn) -> u64 {
        Tier::next_ip(self, insn)
    }

    #[inline(always)]
    fn near_target<W: Width>(&mut self, insn: &Insn) -> u64 {
        Vcpu::near_target::<W>(self.vcpu(), insn)
    }

    #[inline(always)]
    fn check_target(&mut self, target: u64) -> Result<(), Exception> {
        Tier::check_target(self, target)
    }

    #[inline(always)]
    fn set_ip(&mut self, target: u64) {
        self.vcpu().set_ip(target);
    }

    #[inline(always)]
    fn branch<W: Width>(&mut self, insn: &Insn, cond: bool) -> Result<(), Exception> {
        if cond {
            let target = self.near_target::<W>(insn);
            self.jump::<W>(target)
        } else {
            self.fall_through(insn);
            Ok(())
        }
    }

    #[inline(always)]
    fn check_sse(&mut self) -> Result<(), Exception> {
        let cpu = &self.vcpu().cpu;
        if cpu.cr0 & (control::CR0_EM | control::CR0_TS) == 0 && cpu.cr4 & control::CR4_OSFXSR != 0
        {
            return Ok(());
        }
        if cpu.cr0 & control::CR0_EM != 0 || cpu.cr4 & control::CR4_OSFXSR == 0 {
            return Err(Exception::InvalidOpcode);
        }
        Err(Exception::DeviceNotAvailable)
    }

    #[inline(always)]
    fn xmm(&mut self, n: u8) -> u128 {
        self.vcpu().cpu.xmm(usize::from(n & 31))
    }

    #[inline(always)]
    fn set_xmm(&mut self, n: u8, value: u128) {
        self.vcpu().cpu.set_xmm(usize::from(n & 31), value);
    }

    #[inline(always)]
    fn load_vector(&mut self, insn: &Insn, offset: u64, aligned: bool) -> Result<u128, Exception> {
        Tier::load_vector(self, insn, offset, aligned)
    }

    #[inline(always)]
    fn store_vector(
        &mut self,
        insn: &Insn,
        offset: u64,
        value: u128,
        aligned: bool,
    ) -> Result<(), Exception> {
        Tier::store_vector(self, insn, offset, value, aligned)
    }

    #[inline(always)]
    fn vector<O: VectorOp>(&mut self, a: u128, b: u128) -> u128 {
        O::apply(a, b)
    }

    #[inline(always)]
    fn float<O: FloatOp>(&mut self, a: u128, b: u128) -> Result<u128, Exception> {
        let v = self.vcpu();
        let mut ctx = Context::from_mxcsr(v.cpu.mxcsr);
        let result = O::apply(a, b, &mut ctx);
        commit(v, &mut ctx)?;
        Ok(result)
    }

    #[inline(always)]
    fn vector_low<W: Width>(&mut self, a: u128) -> u64 {
        W::zext(a as u64)
    }

    #[inline(always)]
    fn vector_from(&mut self, value: u64) -> u128 {
        value.into()
    }

    #[inline(always)]
    fn vector_insert<W: Width>(&mut self, a: u128, low: u64) -> u128 {
        a & !u128::from(W::MASK) | u128::from(W::zext(low))
    }

    #[inline(always)]
    fn vector_high(&mut self, a: u128) -> u64 {
        (a >> 64) as u64
    }

    #[inline(always)]
    fn vector_insert_high(&mut self, a: u128, high: u64) -> u128 {
        u128::from(high) << 64 | u128::from(a as u64)
    }
}
