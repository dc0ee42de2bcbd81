//! The interpreter: [`Emit`] on plain integers.
//!
//! Every primitive is inlined into the semantic function that uses it, with the width and the
//! operation known, so that each (function, width, operand form) becomes one direct handler.

use crate::cpu::{Reg, SegmentRegister, control};
use crate::emit::{Emit, ShiftOp, VectorOp};
use crate::exception::Exception;
use crate::flags::{Condition, FlagOp, LazyFlags, bits};
use crate::insn::{Insn, flag};
use crate::vcpu::{Vcpu, is_canonical};
use crate::width::Width;

/// A place translated for read-modify-write.
#[derive(Clone, Copy)]
pub enum Place {
    /// RAM, and no decoded code: written directly.
    Direct(*mut u8),
    /// Anything else, by linear address; translated, so that storing cannot fault.
    Linear(u64),
}

fn bit(on: bool, bit: u64) -> u64 {
    if on { bit } else { 0 }
}

impl Vcpu {
    /// Sets CF, OF and AF as `bits` has them, and SF, ZF and PF by `result`.
    #[inline(always)]
    pub(crate) fn set_flag_bits<W: Width>(&mut self, bits: u64, result: u64) {
        self.cpu.lazy = LazyFlags {
            op: FlagOp::Bits,
            a: bits,
            b: 0,
            result: W::sext(result),
        };
    }

    /// Sets CF and OF and leaves the other flags: the rotates.
    #[inline(always)]
    pub(crate) fn set_carry_overflow(&mut self, carry: bool, overflow: bool) {
        let new = bit(carry, bits::CF) | bit(overflow, bits::OF);
        let cpu = &mut self.cpu;
        if cpu.lazy.op == FlagOp::Explicit {
            cpu.rflags = (cpu.rflags & !(bits::CF | bits::OF)) | new;
        } else {
            cpu.lazy.a = new | bit(cpu.lazy.af(cpu.rflags), bits::AF);
            cpu.lazy.op = FlagOp::Bits;
        }
    }

    /// Sets or clears CF and leaves the other flags.
    #[inline(always)]
    pub(crate) fn set_carry(&mut self, carry: bool) {
        let overflow = self.cpu.lazy.of(self.cpu.rflags);
        self.set_carry_overflow(carry, overflow);
    }

    #[inline(always)]
    fn stack_linear(
        &mut self,
        insn: &Insn,
        sp: u64,
        size: u64,
        write: bool,
    ) -> Result<u64, Exception> {
        if insn.has(flag::STACK_CHECK) {
            self.checked_linear(SegmentRegister::SS, sp, size, write)
        } else {
            Ok(sp)
        }
    }

    /// Checks a near branch's target: within the code segment's limit, or canonical.
    #[inline(always)]
    pub(crate) fn check_target(&self, target: u64) -> Result<(), Exception> {
        let ok = if self.mode_key & 3 == 2 {
            is_canonical(target)
        } else {
            target <= u64::from(self.cpu.segs[SegmentRegister::CS].limit)
        };
        if ok { Ok(()) } else { Err(Exception::gp(0)) }
    }

    /// The near target of a branch, before any check.
    #[inline(always)]
    pub(crate) fn near_target<W: Width>(&self, insn: &Insn) -> u64 {
        W::zext(self.cpu.regs[Reg::RIP].wrapping_add(insn.imm))
    }
}

impl Emit for Vcpu {
    type Val = u64;
    type Cond = bool;
    type Vector = u128;
    type Place = Place;

    #[inline(always)]
    fn constant(&mut self, value: u64) -> u64 {
        value
    }

    #[inline(always)]
    fn reg<W: Width>(&mut self, n: u8) -> u64 {
        self.get::<W>(n)
    }

    #[inline(always)]
    fn set_reg<W: Width>(&mut self, n: u8, value: u64) {
        self.set::<W>(n, value);
    }

    #[inline(always)]
    fn address(&mut self, insn: &Insn) -> u64 {
        self.effective_address(insn)
    }

    #[inline(always)]
    fn load<W: Width>(&mut self, insn: &Insn, offset: u64) -> Result<u64, Exception> {
        self.load_operand::<W>(insn, offset)
    }

    #[inline(always)]
    fn store<W: Width>(&mut self, insn: &Insn, offset: u64, value: u64) -> Result<(), Exception> {
        self.store_operand::<W>(insn, offset, value)
    }

    #[inline(always)]
    fn load_for_update<W: Width>(
        &mut self,
        insn: &Insn,
        offset: u64,
    ) -> Result<(u64, Place), Exception> {
        let lin = self.operand_linear(insn, offset, W::BYTES, true)?;
        let place = match self.direct_write::<W>(lin) {
            None => self.write_beside_code(lin, W::BYTES),
            place => place,
        };
        match place {
            // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM.
            Some(ptr) => Ok((unsafe { W::load(ptr) }, Place::Direct(ptr))),
            None => {
                self.touch_for_update(insn.seg_written, lin, W::BYTES)?;
                let value = self.load_slow(insn.number, insn.seg_written, lin, W::BYTES as u8)?;
                Ok((value, Place::Linear(lin)))
            }
        }
    }

    #[inline(always)]
    fn store_update<W: Width>(&mut self, insn: &Insn, place: Place, value: u64) {
        match place {
            // SAFETY: the pointer was taken from the TLB in this instruction; nothing has changed a mapping since.
            Place::Direct(ptr) => unsafe { W::store(ptr, value) },
            Place::Linear(lin) => {
                let stored =
                    self.store_slow(insn.number, insn.seg_written, lin, W::BYTES as u8, value);
                debug_assert!(stored.is_ok(), "the place was translated for writing");
            }
        }
    }

    #[inline(always)]
    fn push<W: Width>(&mut self, insn: &Insn, value: u64) -> Result<(), Exception> {
        let sp = self.cpu.regs[Reg::RSP].wrapping_sub(W::BYTES) & self.sp_mask;
        let lin = self.stack_linear(insn, sp, W::BYTES, true)?;
        self.store_at::<W>(insn.number, SegmentRegister::SS as u8, lin, value)?;
        self.set_sp(sp);
        Ok(())
    }

    #[inline(always)]
    fn peek<W: Width>(&mut self, insn: &Insn, depth: u64) -> Result<u64, Exception> {
        let sp = self.cpu.regs[Reg::RSP].wrapping_add(depth) & self.sp_mask;
        let lin = self.stack_linear(insn, sp, W::BYTES, false)?;
        self.load_at::<W>(insn.number, SegmentRegister::SS as u8, lin)
    }

    #[inline(always)]
    fn drop_stack(&mut self, bytes: u64) {
        let sp = self.cpu.regs[Reg::RSP].wrapping_add(bytes);
        self.set_sp(sp);
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
                self.set_flag_bits::<W>(bit(carry, bits::CF) | bit(overflow, bits::OF), result);
                result
            }
            ShiftOp::Shr => {
                let result = if count >= bits_in { 0 } else { a >> count };
                let carry = count <= bits_in && a >> (count - 1) & 1 != 0;
                let overflow = top(result) != second(result);
                self.set_flag_bits::<W>(bit(carry, bits::CF) | bit(overflow, bits::OF), result);
                result
            }
            ShiftOp::Sar => {
                let wide = W::sext(a) as i64;
                let result = W::zext((wide >> count.min(63)) as u64);
                let carry = wide >> (count - 1).min(63) & 1 != 0;
                self.set_flag_bits::<W>(bit(carry, bits::CF), result);
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
                self.set_carry_overflow(carry, top(result) != carry);
                result
            }
            ShiftOp::Ror => {
                let n = count % bits_in;
                let result = if n == 0 {
                    a
                } else {
                    W::zext(a >> n | a << (bits_in - n))
                };
                self.set_carry_overflow(top(result), top(result) != second(result));
                result
            }
            ShiftOp::Rcl | ShiftOp::Rcr => {
                let n = count % (bits_in + 1);
                if n == 0 {
                    // The hardware still writes OF.
                    let carry = self.cpu.lazy.cf(self.cpu.rflags);
                    let overflow = if op == ShiftOp::Rcl {
                        top(a) != carry
                    } else {
                        top(a) != second(a)
                    };
                    self.set_carry_overflow(carry, overflow);
                    return a;
                }
                // The operand with CF above it, rotated as one number of BITS + 1 bits.
                let wide = u128::from(a) | u128::from(self.cpu.lazy.cf(self.cpu.rflags)) << bits_in;
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
                self.set_carry_overflow(carry, overflow);
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
    fn set_flags<W: Width>(&mut self, op: FlagOp, a: u64, b: u64, result: u64) {
        let lazy = &mut self.cpu.lazy;
        lazy.op = op;
        lazy.result = W::sext(result);
        if op != FlagOp::Logic {
            lazy.a = W::sext(a);
            lazy.b = W::sext(b);
        }
    }

    #[inline(always)]
    fn set_flags_keep_carry<W: Width>(&mut self, op: FlagOp, a: u64, result: u64) {
        let carry = self.cpu.lazy.cf(self.cpu.rflags);
        // INC overflows to the smallest number, DEC from it; AF: the low digit wrapped.
        let (overflow, adjust) = match op {
            FlagOp::Add => (result == W::SIGN, result & 0xF == 0),
            _ => (a == W::SIGN, result & 0xF == 0xF),
        };
        self.set_flag_bits::<W>(
            bit(carry, bits::CF) | bit(overflow, bits::OF) | bit(adjust, bits::AF),
            result,
        );
    }

    #[inline(always)]
    fn set_flags_mul<W: Width>(&mut self, result: u64, overflow: bool) {
        self.set_flag_bits::<W>(bit(overflow, bits::CF | bits::OF), result);
    }

    #[inline(always)]
    fn carry(&mut self) -> u64 {
        self.cpu.lazy.cf(self.cpu.rflags).into()
    }

    #[inline(always)]
    fn condition(&mut self, condition: Condition) -> bool {
        condition.holds(&self.cpu.lazy, self.cpu.rflags)
    }

    #[inline(always)]
    fn fall_through(&mut self, insn: &Insn) {
        let ip = self.next_ip(insn);
        self.set_ip(ip);
    }

    #[inline(always)]
    fn jump<W: Width>(&mut self, _insn: &Insn, target: u64) -> Result<(), Exception> {
        let target = W::zext(target);
        self.check_target(target)?;
        self.set_ip(target);
        Ok(())
    }

    #[inline(always)]
    fn jump_near<W: Width>(&mut self, insn: &Insn) -> Result<(), Exception> {
        let target = self.near_target::<W>(insn);
        self.jump::<W>(insn, target)
    }

    #[inline(always)]
    fn branch<W: Width>(&mut self, insn: &Insn, cond: bool) -> Result<(), Exception> {
        if cond {
            self.jump_near::<W>(insn)
        } else {
            self.fall_through(insn);
            Ok(())
        }
    }

    #[inline(always)]
    fn return_address<W: Width>(&mut self, insn: &Insn) -> u64 {
        W::zext(self.next_ip(insn))
    }

    #[inline(always)]
    fn check_sse(&mut self) -> Result<(), Exception> {
        if self.cpu.cr0 & (control::CR0_EM | control::CR0_TS) == 0
            && self.cpu.cr4 & control::CR4_OSFXSR != 0
        {
            return Ok(());
        }
        if self.cpu.cr0 & control::CR0_EM != 0 || self.cpu.cr4 & control::CR4_OSFXSR == 0 {
            return Err(Exception::InvalidOpcode);
        }
        Err(Exception::DeviceNotAvailable)
    }

    #[inline(always)]
    fn xmm(&mut self, n: u8) -> u128 {
        self.cpu.xmm(usize::from(n & 31))
    }

    #[inline(always)]
    fn set_xmm(&mut self, n: u8, value: u128) {
        self.cpu.set_xmm(usize::from(n & 31), value);
    }

    #[inline(always)]
    fn load_vector(&mut self, insn: &Insn, offset: u64, aligned: bool) -> Result<u128, Exception> {
        self.load_xmm(insn, offset, aligned)
    }

    #[inline(always)]
    fn store_vector(
        &mut self,
        insn: &Insn,
        offset: u64,
        value: u128,
        aligned: bool,
    ) -> Result<(), Exception> {
        self.store_xmm(insn, offset, value, aligned)
    }

    #[inline(always)]
    fn vector<O: VectorOp>(&mut self, a: u128, b: u128) -> u128 {
        O::apply(a, b)
    }

    #[inline(always)]
    fn vector_low<W: Width>(&mut self, a: u128) -> u64 {
        W::zext(a as u64)
    }

    #[inline(always)]
    fn vector_from(&mut self, value: u64) -> u128 {
        value.into()
    }
}
