//! The tier that any mode can use: 16-bit code, segments with a base or a limit, and in the flat modes whatever is not
//! worth handlers of its own there.
//!
//! [`Segmented`] looks for an instruction's operands when it runs, checks a plain data segment's limit, and reaches
//! memory by the TLB's direct pointers. In all other cases it declines, as `flat` does.

use crate::chain::{Addressing, Bared, Changing, Extending, Reading, ReadingVector};
use crate::chain::{Combining, Filled, OnTier, chained, next, stop};
use crate::choice::{
    Addresses, Bare, Changes, Combines, Extends, Reads, ReadsVector, Visitor, by_bits,
};
use crate::cpu::{Reg, Segment, SegmentRegister};
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn, flag};
use crate::ops::branch::{self, InInsn};
use crate::ops::form::{Any, Memory};
use crate::tier::Tier;
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

/// The processor in any mode.
#[repr(transparent)]
pub(crate) struct Segmented(Vcpu);

/// Attributes that make a segment plain data: present, not code, expand-up.
const PLAIN: u16 = Segment::P | Segment::S;
const PLAIN_OF: u16 = PLAIN | Segment::TYPE_CODE | Segment::TYPE_EXPAND_DOWN;

impl Segmented {
    /// The linear address of `size` bytes in a segment with something to check.
    #[inline(always)]
    fn checked(&self, seg: u8, offset: u64, size: u64, write: bool) -> Result<u64, Exception> {
        let segment = &self.0.cpu.segs[usize::from(seg & 7)];
        let (mask, wanted) = if write {
            (
                PLAIN_OF | Segment::TYPE_WRITABLE,
                PLAIN | Segment::TYPE_WRITABLE,
            )
        } else {
            (PLAIN_OF, PLAIN)
        };
        // Offsets have at most 32 bits here, so that the sum cannot wrap around.
        if segment.attributes & mask != wanted || offset + (size - 1) > u64::from(segment.limit) {
            return Err(Exception::Declined);
        }
        Ok(segment.base.wrapping_add(offset) & 0xFFFF_FFFF)
    }

    #[inline(always)]
    fn linear(&self, insn: &Insn, offset: u64, size: u64, write: bool) -> Result<u64, Exception> {
        if insn.has(flag::SEG_CHECK) {
            self.checked(insn.seg, offset, size, write)
        } else {
            Ok(self.0.cpu.seg_base[usize::from(insn.seg)].wrapping_add(offset))
        }
    }

    #[inline(always)]
    fn stack(&self, insn: &Insn, sp: u64, size: u64, write: bool) -> Result<u64, Exception> {
        if insn.has(flag::STACK_CHECK) {
            self.checked(SegmentRegister::SS as u8, sp, size, write)
        } else {
            Ok(sp)
        }
    }

    #[inline(always)]
    fn readable<W: Width>(&self, lin: u64) -> Result<*const u8, Exception> {
        self.0
            .direct_read::<W>(lin)
            .ok_or(const { Exception::Declined })
    }

    /// Such code often shares its page with its data and its stack.
    #[inline(always)]
    fn writable<W: Width>(&mut self, lin: u64) -> Result<*mut u8, Exception> {
        match self.0.direct_write::<W>(lin) {
            Some(ptr) => Ok(ptr),
            None => self
                .0
                .write_beside_code(lin, W::BYTES)
                .ok_or(const { Exception::Declined }),
        }
    }
}

impl Tier for Segmented {
    type Place = *mut u8;

    #[inline(always)]
    fn of(v: &mut Vcpu) -> &mut Self {
        // SAFETY: `Segmented` is a transparent wrapper.
        unsafe { &mut *std::ptr::from_mut(v).cast::<Self>() }
    }

    #[inline(always)]
    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.0
    }

    #[inline(always)]
    fn address(&mut self, insn: &Insn) -> u64 {
        self.0.effective_address(insn)
    }

    #[inline(always)]
    fn load<W: Width>(&mut self, insn: &Insn, offset: u64) -> Result<u64, Exception> {
        let lin = self.linear(insn, offset, W::BYTES, false)?;
        let ptr = self.readable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM or ROM.
        Ok(unsafe { W::load(ptr) })
    }

    #[inline(always)]
    fn store<W: Width>(&mut self, insn: &Insn, offset: u64, value: u64) -> Result<(), Exception> {
        let lin = self.linear(insn, offset, W::BYTES, true)?;
        let ptr = self.writable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM.
        unsafe { W::store(ptr, value) };
        Ok(())
    }

    #[inline(always)]
    fn load_for_update<W: Width>(
        &mut self,
        insn: &Insn,
        offset: u64,
    ) -> Result<(u64, *mut u8), Exception> {
        let lin = self.linear(insn, offset, W::BYTES, true)?;
        let ptr = self.writable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM.
        Ok((unsafe { W::load(ptr) }, ptr))
    }

    #[inline(always)]
    fn store_update<W: Width>(&mut self, _insn: &Insn, place: *mut u8, value: u64) {
        // SAFETY: the pointer was taken from the TLB in this instruction; nothing has changed a mapping since.
        unsafe { W::store(place, value) };
    }

    #[inline(always)]
    fn push<W: Width>(&mut self, insn: &Insn, value: u64) -> Result<(), Exception> {
        let sp = self.0.cpu.regs[Reg::RSP].wrapping_sub(W::BYTES) & self.0.sp_mask;
        let lin = self.stack(insn, sp, W::BYTES, true)?;
        let ptr = self.writable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM.
        unsafe { W::store(ptr, value) };
        self.0.set_sp(sp);
        Ok(())
    }

    #[inline(always)]
    fn peek<W: Width>(&mut self, insn: &Insn, depth: u64) -> Result<u64, Exception> {
        let sp = self.0.cpu.regs[Reg::RSP].wrapping_add(depth) & self.0.sp_mask;
        let lin = self.stack(insn, sp, W::BYTES, false)?;
        let ptr = self.readable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM or ROM.
        Ok(unsafe { W::load(ptr) })
    }

    #[inline(always)]
    fn drop_stack(&mut self, bytes: u64) {
        let sp = self.0.cpu.regs[Reg::RSP].wrapping_add(bytes);
        self.0.set_sp(sp);
    }

    #[inline(always)]
    fn next_ip(&mut self, insn: &Insn) -> u64 {
        Vcpu::next_ip(&self.0, insn)
    }

    #[inline(always)]
    fn check_target(&mut self, target: u64) -> Result<(), Exception> {
        Vcpu::check_target(&self.0, target)
    }

    #[inline(always)]
    fn load_vector(&mut self, insn: &Insn, offset: u64, aligned: bool) -> Result<u128, Exception> {
        let lin = self.linear(insn, offset, 16, false)?;
        check_vector(lin, aligned)?;
        let ptr = self.readable::<B>(lin)?;
        // SAFETY: the TLB gives a pointer into a page of guest RAM or ROM, which has 16 bytes from there on.
        Ok(unsafe { ptr.cast::<u128>().read_unaligned() })
    }

    #[inline(always)]
    fn store_vector(
        &mut self,
        insn: &Insn,
        offset: u64,
        value: u128,
        aligned: bool,
    ) -> Result<(), Exception> {
        let lin = self.linear(insn, offset, 16, true)?;
        check_vector(lin, aligned)?;
        let ptr = self.writable::<B>(lin)?;
        // SAFETY: the TLB gives a pointer into a page of guest RAM, which has 16 bytes from there on.
        unsafe { ptr.cast::<u128>().write_unaligned(value) };
        Ok(())
    }
}

/// Declines 16 bytes that cross into the next page or, if they must be, are not aligned: aligned ones cross none.
#[inline(always)]
pub(crate) fn check_vector(lin: u64, aligned: bool) -> Done {
    let good = if aligned {
        lin & 15 == 0
    } else {
        lin & 0xFFF <= 0xFF0
    };
    if good {
        Ok(())
    } else {
        Err(Exception::Declined)
    }
}

// ---- the choice --------------------------------------------------------------------------------

/// Makes the chained handlers on [`Segmented`]: one a function and width.
pub(crate) struct SegmentedForms;

/// `None` for an instruction that would always decline: one that reads through a code segment.
pub(crate) fn of(insn: &Insn) -> Option<SegmentedForms> {
    let through_code = insn.has(flag::SEG_CHECK) && usize::from(insn.seg) == SegmentRegister::CS;
    (!through_code).then_some(SegmentedForms)
}

fn take<F: Filled>() -> Option<ExecFn> {
    Some(chained::<OnTier<F, Segmented>>)
}

impl Visitor for SegmentedForms {
    type Out = ExecFn;

    fn bare<F: Bare>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => take::<Bared<F, W>>())
    }

    fn reads<F: Reads<N>, const N: usize>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => take::<Reading<F, W, Any<N>, N>>())
    }

    fn changes<F: Changes>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => take::<Changing<F, W, Any<0>>>())
    }

    fn combines<F: Combines>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => take::<Combining<F, W, Any<0>, Any<1>>>())
    }

    fn extends<F: Extends>(&self, to: usize, from: usize) -> Option<ExecFn> {
        match from {
            8 => by_bits!(F, to, W => take::<Extending<F, W, B, Any<1>>>()),
            16 => by_bits!(F, to, W => take::<Extending<F, W, W16, Any<1>>>()),
            32 => by_bits!(F, to, W => take::<Extending<F, W, D, Any<1>>>()),
            _ => None,
        }
    }

    fn addresses<F: Addresses>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => take::<Addressing<F, W, Memory>>())
    }

    fn reads_vector<F: ReadsVector>(&self) -> Option<ExecFn> {
        take::<ReadingVector<F, Any<1>>>()
    }
}

/// A comparison and the conditional jump of 16-bit code behind it, as in `flat`.
fn pair<F: Filled>(v: &mut Vcpu, insn: &Insn) -> Done {
    if let Err(exception) = F::call(Segmented::of(v), insn) {
        return stop(v, insn, exception);
    }
    // SAFETY: a pair is chosen only where the jump follows.
    let jump = unsafe { next(insn) };
    match branch::jump_if::<_, W16, InInsn>(Segmented::of(v), jump) {
        Ok(()) => Ok(()),
        Err(exception) => stop(v, jump, exception),
    }
}

/// Makes the handlers of such pairs.
pub(crate) struct SegmentedPair;

impl Visitor for SegmentedPair {
    type Out = ExecFn;

    fn combines<F: Combines>(&self, bits: usize) -> Option<ExecFn> {
        match bits {
            8 if const { F::PAIRS != 0 } => Some(pair::<Combining<F, B, Any<0>, Any<1>>>),
            16 if const { F::PAIRS != 0 } => Some(pair::<Combining<F, W16, Any<0>, Any<1>>>),
            32 if const { F::PAIRS != 0 } => Some(pair::<Combining<F, D, Any<0>, Any<1>>>),
            _ => None,
        }
    }
}
