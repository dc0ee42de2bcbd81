//! Stack frames that far transfers and events push, possibly on a stack that is not current yet.

use crate::cpu::{Mode, Reg, Segment, SegmentRegister, control};
use crate::exception::Exception;
use crate::flags::bits;
use crate::mmu::Access;
use crate::vcpu::{Vcpu, is_canonical, merge_sp};

/// SS, ESP, EFLAGS, CS, EIP, an error code, four segments and the 31 parameters of a call gate.
const MAX_ENTRIES: usize = 48;

#[derive(Clone, Copy)]
struct Entry {
    lin: u64,
    value: u64,
    size: u8,
}

/// Values to be pushed: first all are checked, then all are stored, so that a fault leaves no trace.
pub(crate) struct Frame {
    segment: Segment,
    /// 64-bit mode: no limit, but canonical addresses.
    long: bool,
    cpl: u8,
    sp: u64,
    mask: u64,
    fault: Exception,
    entries: [Entry; MAX_ENTRIES],
    len: usize,
}

impl Frame {
    /// A frame on the current stack; `fault` is raised when it does not fit.
    pub fn on_current(v: &Vcpu, fault: Exception) -> Self {
        let mask = v.sp_mask;
        Self {
            segment: v.cpu.segs[SegmentRegister::SS],
            long: v.cpu.mode() == Mode::Long,
            cpl: v.cpu.cpl,
            sp: v.cpu.regs[Reg::RSP] & mask,
            mask,
            fault,
            entries: [Entry {
                lin: 0,
                value: 0,
                size: 0,
            }; MAX_ENTRIES],
            len: 0,
        }
    }

    /// A frame on another stack of protected mode, to be used at privilege level `cpl`.
    pub fn on_segment(v: &Vcpu, segment: Segment, sp: u64, cpl: u8, fault: Exception) -> Self {
        let mask = if segment.big() { 0xFFFF_FFFF } else { 0xFFFF };
        Self {
            segment,
            long: false,
            cpl,
            sp: sp & mask,
            mask,
            ..Self::on_current(v, fault)
        }
    }

    /// A frame on a stack of 64-bit mode.
    pub fn on_long(v: &Vcpu, sp: u64, cpl: u8, fault: Exception) -> Self {
        Self {
            long: true,
            cpl,
            sp,
            mask: !0,
            ..Self::on_current(v, fault)
        }
    }

    /// Adds a value of `size` bytes.
    ///
    /// # Errors
    /// The frame's own fault when it does not fit.
    pub fn push(&mut self, size: u8, value: u64) -> Result<(), Exception> {
        let sp = self.sp.wrapping_sub(size.into()) & self.mask;
        let lin = if self.long {
            if !is_canonical(sp) || !is_canonical(sp.wrapping_add(u64::from(size) - 1)) {
                return Err(self.fault);
            }
            sp
        } else {
            if !self.segment.contains(sp, size.into()) {
                return Err(self.fault);
            }
            self.segment.base.wrapping_add(sp) & 0xFFFF_FFFF
        };
        self.sp = sp;
        self.entries[self.len] = Entry { lin, value, size };
        self.len += 1;
        Ok(())
    }

    /// Checks that everything can be stored.
    ///
    /// # Errors
    /// #PF or #AC.
    pub fn check(&self, v: &mut Vcpu) -> Result<(), Exception> {
        let aligned_only =
            self.cpl == 3 && v.cpu.cr0 & control::CR0_AM != 0 && v.cpu.rflags & bits::AC != 0;
        let bank = v.bank_of(self.cpl);
        for entry in &self.entries[..self.len] {
            if aligned_only && entry.lin & u64::from(entry.size - 1) != 0 {
                return Err(Exception::AlignmentCheck);
            }
            v.translate(bank, entry.lin, Access::Write)?;
            let last = entry.lin.wrapping_add(u64::from(entry.size) - 1);
            if (last ^ entry.lin) & !0xFFF != 0 {
                // CR2 gets the first byte that faults: the second page's.
                v.translate(bank, last & !0xFFF, Access::Write)?;
            }
        }
        Ok(())
    }

    /// Stores everything, after [`check`](Self::check).
    ///
    /// # Errors
    /// None after `check`.
    pub fn store(&self, v: &mut Vcpu) -> Result<(), Exception> {
        let bank = v.bank_of(self.cpl);
        for entry in &self.entries[..self.len] {
            let number = v.running_number();
            v.store_banked(bank, number, entry.lin, entry.size, entry.value)?;
        }
        Ok(())
    }

    /// Writes the stack pointer register, in the width of the frame's stack.
    pub fn commit_sp(&self, v: &mut Vcpu) {
        let rsp = &mut v.cpu.regs[Reg::RSP];
        *rsp = merge_sp(*rsp, self.sp, self.mask);
    }
}
