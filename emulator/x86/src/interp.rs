//! The full handlers' way to memory, in any mode: every check, every slow path.

use crate::cpu::{Reg, SegmentRegister};
use crate::exception::Exception;
use crate::flags::{FlagOp, LazyFlags, bits};
use crate::insn::{Insn, flag};
use crate::tier::Tier;
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

    /// CF.
    #[inline(always)]
    pub(crate) fn carry_flag(&self) -> bool {
        self.cpu.lazy.cf(self.cpu.rflags)
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

impl Tier for Vcpu {
    type Place = Place;

    #[inline(always)]
    fn of(v: &mut Vcpu) -> &mut Self {
        v
    }

    #[inline(always)]
    fn vcpu(&mut self) -> &mut Vcpu {
        self
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
    fn next_ip(&mut self, insn: &Insn) -> u64 {
        Vcpu::next_ip(self, insn)
    }

    #[inline(always)]
    fn check_target(&mut self, target: u64) -> Result<(), Exception> {
        Vcpu::check_target(self, target)
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
}
