//! Descriptors and segment loads (SDM vol. 3A chapters 3 and 5).

use crate::cpu::{Mode, Segment, SegmentRegister};
use crate::exception::Exception;
use crate::vcpu::{Vcpu, is_canonical};
use crate::width::{B, D, Q};

/// Types of system descriptors (SDM vol. 3A table 3-2), 32-bit or 64-bit where the mode decides.
#[allow(missing_docs)]
pub mod system_type {
    pub const TSS16_AVAILABLE: u8 = 1;
    pub const LDT: u8 = 2;
    pub const TSS16_BUSY: u8 = 3;
    pub const CALL_GATE16: u8 = 4;
    pub const TASK_GATE: u8 = 5;
    pub const INTERRUPT_GATE16: u8 = 6;
    pub const TRAP_GATE16: u8 = 7;
    pub const TSS_AVAILABLE: u8 = 9;
    pub const TSS_BUSY: u8 = 11;
    pub const CALL_GATE: u8 = 12;
    pub const INTERRUPT_GATE: u8 = 14;
    pub const TRAP_GATE: u8 = 15;
}

/// The TI bit of a selector: the local descriptor table.
pub const TI: u16 = 1 << 2;
/// The RPL of a selector.
pub const RPL: u16 = 3;

/// Whether a selector is null, whatever its RPL.
pub fn is_null(selector: u16) -> bool {
    selector & !RPL == 0
}

/// The selector's part of an error code: index and TI.
pub fn error_of(selector: u16) -> u16 {
    selector & !RPL
}

/// A raw descriptor, segment or gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its first 8 bytes.
    pub low: u64,
    /// The 8 bytes that system descriptors have behind them in long mode, else 0.
    pub high: u64,
    /// Linear address it came from.
    pub address: u64,
}

impl Descriptor {
    /// As [`Segment::attributes`] has them.
    pub fn attributes(&self) -> u16 {
        (self.low >> 40) as u16 & 0xF0FF
    }
    /// The four type bits.
    pub fn kind(&self) -> u8 {
        (self.low >> 40) as u8 & 0xF
    }
    /// Code or data, not a system descriptor.
    pub fn is_segment(&self) -> bool {
        self.low >> 44 & 1 != 0
    }
    /// A system descriptor (gate, TSS, LDT) of `kind`.
    pub fn is_system(&self, kind: u8) -> bool {
        !self.is_segment() && self.kind() == kind
    }
    /// A code segment.
    pub fn is_code(&self) -> bool {
        self.is_segment() && self.kind() & 8 != 0
    }
    /// A conforming code segment.
    pub fn is_conforming(&self) -> bool {
        self.is_segment() && self.kind() & 0xC == 0xC
    }
    /// A writable data segment.
    pub fn is_writable_data(&self) -> bool {
        self.is_segment() && self.kind() & 0xA == 2
    }
    /// A data segment or a readable code segment.
    pub fn is_readable(&self) -> bool {
        self.is_segment() && self.kind() & 0xA != 8
    }
    /// The descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.low >> 45) as u8 & 3
    }
    /// The present bit.
    pub fn present(&self) -> bool {
        self.low >> 47 & 1 != 0
    }
    /// The L bit: 64-bit code.
    pub fn is_long(&self) -> bool {
        self.low >> 53 & 1 != 0
    }
    /// The D/B bit.
    pub fn big(&self) -> bool {
        self.low >> 54 & 1 != 0
    }
    /// The base address, 64 bits for a 16-byte descriptor.
    pub fn base(&self) -> u64 {
        (self.low >> 16 & 0xFF_FFFF) | (self.low >> 56) << 24 | self.high << 32
    }
    /// The limit in bytes.
    pub fn limit(&self) -> u32 {
        let raw = (self.low & 0xFFFF) as u32 | ((self.low >> 32) as u32 & 0xF_0000);
        if self.low >> 55 & 1 != 0 {
            raw << 12 | 0xFFF
        } else {
            raw
        }
    }
    /// The hidden part of a segment register that is loaded with `selector`.
    pub fn segment(&self, selector: u16) -> Segment {
        Segment {
            selector,
            base: self.base(),
            limit: self.limit(),
            attributes: self.attributes(),
        }
    }
    /// A gate's target selector.
    pub fn gate_selector(&self) -> u16 {
        (self.low >> 16) as u16
    }
    /// A gate's target offset: 16 bits for a 16-bit gate, 64 for a 16-byte one.
    pub fn gate_offset(&self) -> u64 {
        let low = self.low & 0xFFFF;
        if self.kind() & 8 == 0 {
            low
        } else {
            low | (self.low >> 48) << 16 | self.high << 32
        }
    }
    /// A call gate's parameter count.
    pub fn gate_count(&self) -> u8 {
        (self.low >> 32) as u8 & 0x1F
    }
    /// A long-mode interrupt gate's stack-table index.
    pub fn gate_ist(&self) -> u8 {
        (self.low >> 32) as u8 & 7
    }
}

/// A segment register that a null selector was loaded into.
pub fn null_segment(selector: u16) -> Segment {
    Segment {
        selector,
        ..Segment::default()
    }
}

/// A segment register as virtual-8086 mode loads it (SDM vol. 3A §20.2.1).
pub fn virtual8086_segment(selector: u16) -> Segment {
    Segment {
        selector,
        base: u64::from(selector) << 4,
        limit: 0xFFFF,
        attributes: Segment::P
            | Segment::S
            | Segment::TYPE_WRITABLE
            | Segment::TYPE_ACCESSED
            | 3 << 5,
    }
}

impl Vcpu {
    /// The linear address of the descriptor that `selector` names, if all `size` bytes of it lie
    /// within its table.
    fn descriptor_address(&self, selector: u16, size: u64) -> Option<u64> {
        let (base, limit) = if selector & TI != 0 {
            let ldtr = &self.cpu.segs[SegmentRegister::LDTR];
            if !ldtr.present() {
                return None;
            }
            (ldtr.base, u64::from(ldtr.limit))
        } else {
            (self.cpu.gdtr.base, u64::from(self.cpu.gdtr.limit))
        };
        let offset = u64::from(selector & !7);
        (offset + size - 1 <= limit).then(|| base.wrapping_add(offset))
    }

    /// Reads the 8-byte descriptor that `selector` names; `None` when it lies outside its table.
    ///
    /// # Errors
    /// #PF.
    pub(crate) fn find_descriptor(
        &mut self,
        selector: u16,
    ) -> Result<Option<Descriptor>, Exception> {
        let Some(address) = self.descriptor_address(selector, 8) else {
            return Ok(None);
        };
        let low = self.sys_load::<Q>(address)?;
        Ok(Some(Descriptor {
            low,
            high: 0,
            address,
        }))
    }

    /// Reads the 8-byte descriptor that `selector` names.
    ///
    /// # Errors
    /// `fault` with the selector when it lies outside its table; #PF.
    pub(crate) fn read_descriptor(
        &mut self,
        selector: u16,
        fault: fn(u16) -> Exception,
    ) -> Result<Descriptor, Exception> {
        self.find_descriptor(selector)?
            .ok_or(fault(error_of(selector)))
    }

    /// Reads the second half of a system descriptor, which has 16 bytes in long mode (SDM vol. 3A
    /// §3.5.2, §5.8.3.1); does nothing otherwise.
    ///
    /// # Errors
    /// `fault` with the selector when the half lies outside its table or its type field is not 0; #PF.
    pub(crate) fn widen_descriptor(
        &mut self,
        selector: u16,
        descriptor: &mut Descriptor,
        fault: fn(u16) -> Exception,
    ) -> Result<(), Exception> {
        if !self.cpu.long_mode() {
            return Ok(());
        }
        let address = self
            .descriptor_address(selector, 16)
            .ok_or(fault(error_of(selector)))?;
        let high = self.sys_load::<Q>(address.wrapping_add(8))?;
        if high >> 40 & 0x1F != 0 {
            return Err(fault(error_of(selector)));
        }
        descriptor.high = high & 0xFFFF_FFFF;
        Ok(())
    }

    /// Sets the accessed bit of a segment descriptor, in memory and in the copy.
    ///
    /// # Errors
    /// #PF.
    pub(crate) fn mark_accessed(&mut self, descriptor: &mut Descriptor) -> Result<(), Exception> {
        if descriptor.kind() & 1 == 0 {
            descriptor.low |= 1 << 40;
            self.sys_store::<B>(
                descriptor.address.wrapping_add(5),
                descriptor.low >> 40 & 0xFF,
            )?;
        }
        Ok(())
    }

    /// Sets or clears the busy bit of a TSS descriptor at a linear address.
    ///
    /// # Errors
    /// #PF.
    pub(crate) fn mark_busy(&mut self, address: u64, busy: bool) -> Result<(), Exception> {
        let high = self.sys_load::<D>(address.wrapping_add(4))?;
        let value = if busy {
            high | 1 << 9
        } else {
            high & !(1 << 9)
        };
        self.sys_store::<D>(address.wrapping_add(4), value)
    }

    /// Loads ES, SS, DS, FS or GS from a selector, as MOV, POP and LDS do.
    ///
    /// SDM vol. 2B, MOV; vol. 3A §5.6, §5.7. The block must end behind the instruction.
    ///
    /// # Errors
    /// #GP, #NP, #SS, #PF; nothing is changed then.
    pub fn load_segment(&mut self, seg: usize, selector: u16) -> Result<(), Exception> {
        let value = match self.cpu.mode() {
            Mode::Real => self.real_segment(seg, selector),
            Mode::Virtual8086 => virtual8086_segment(selector),
            _ if seg == SegmentRegister::SS => self.stack_segment(selector)?,
            _ => self.data_segment(selector)?,
        };
        self.set_segment(seg, value);
        if seg == SegmentRegister::SS {
            self.update_mode();
        } else {
            self.update_segments();
        }
        Ok(())
    }

    /// A segment register as real mode loads it: limit and attributes stay, so that a limit set in
    /// protected mode survives (SDM vol. 3A §9.9.2).
    pub(crate) fn real_segment(&self, seg: usize, selector: u16) -> Segment {
        let old = &self.cpu.segs[seg];
        let mut value = *old;
        if !old.present() {
            value.limit = 0xFFFF;
            value.attributes =
                Segment::P | Segment::S | Segment::TYPE_WRITABLE | Segment::TYPE_ACCESSED;
        }
        value.selector = selector;
        value.base = u64::from(selector) << 4;
        value
    }

    fn data_segment(&mut self, selector: u16) -> Result<Segment, Exception> {
        if is_null(selector) {
            return Ok(null_segment(selector));
        }
        let error = error_of(selector);
        let mut descriptor = self.read_descriptor(selector, Exception::gp)?;
        if !descriptor.is_readable() {
            return Err(Exception::gp(error));
        }
        let dpl = descriptor.dpl();
        let rpl = (selector & RPL) as u8;
        if !descriptor.is_conforming() && (rpl > dpl || self.cpu.cpl > dpl) {
            return Err(Exception::gp(error));
        }
        if !descriptor.present() {
            return Err(Exception::not_present(error));
        }
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    fn stack_segment(&mut self, selector: u16) -> Result<Segment, Exception> {
        let cpl = self.cpu.cpl;
        if is_null(selector) {
            // SDM vol. 2B, MOV: allowed in 64-bit mode below CPL 3 with an RPL equal to the CPL.
            if self.cpu.mode() == Mode::Long && cpl != 3 && (selector & RPL) as u8 == cpl {
                return Ok(null_segment(selector));
            }
            return Err(Exception::gp(0));
        }
        let mut descriptor = self.check_stack(selector, cpl, Exception::gp)?;
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// Checks a stack segment, not null, for use at privilege level `cpl`.
    ///
    /// # Errors
    /// `fault` with the selector: limit, RPL, type, DPL; #SS with the selector when not present; #PF.
    pub(crate) fn check_stack(
        &mut self,
        selector: u16,
        cpl: u8,
        fault: fn(u16) -> Exception,
    ) -> Result<Descriptor, Exception> {
        let error = error_of(selector);
        let descriptor = self.read_descriptor(selector, fault)?;
        if (selector & RPL) as u8 != cpl
            || !descriptor.is_writable_data()
            || descriptor.dpl() != cpl
        {
            return Err(fault(error));
        }
        if !descriptor.present() {
            return Err(Exception::stack(error));
        }
        Ok(descriptor)
    }

    /// Makes ES, DS, FS and GS null where an outer level may not use them (SDM vol. 2A, IRET).
    pub(crate) fn drop_inner_segments(&mut self) {
        for seg in [
            SegmentRegister::ES,
            SegmentRegister::DS,
            SegmentRegister::FS,
            SegmentRegister::GS,
        ] {
            let value = &self.cpu.segs[seg];
            let conforming = value.is_code() && value.attributes & Segment::TYPE_CONFORMING != 0;
            let inner = value.dpl() < self.cpu.cpl && !conforming && value.present();
            // A null selector loses its RPL.
            if inner || is_null(value.selector) {
                // The base stays, as FS and GS have it whatever their selector in 64-bit mode.
                let base = value.base;
                self.set_segment(
                    seg,
                    Segment {
                        base,
                        ..null_segment(0)
                    },
                );
            }
        }
    }

    /// Loads LDTR (SDM vol. 2A, LLDT), without the privilege check.
    ///
    /// # Errors
    /// #GP, #NP, #PF.
    pub(crate) fn load_ldtr(&mut self, selector: u16) -> Result<(), Exception> {
        if is_null(selector) {
            self.set_segment(SegmentRegister::LDTR, null_segment(selector));
            return Ok(());
        }
        let error = error_of(selector);
        if selector & TI != 0 {
            return Err(Exception::gp(error));
        }
        let mut descriptor = self.read_descriptor(selector, Exception::gp)?;
        if !descriptor.is_system(system_type::LDT) {
            return Err(Exception::gp(error));
        }
        self.widen_descriptor(selector, &mut descriptor, Exception::gp)?;
        if !descriptor.present() {
            return Err(Exception::not_present(error));
        }
        if !is_canonical(descriptor.base()) {
            return Err(Exception::gp(error));
        }
        self.set_segment(SegmentRegister::LDTR, descriptor.segment(selector));
        Ok(())
    }

    /// Loads TR and makes its TSS busy (SDM vol. 2A, LTR), without the privilege check.
    ///
    /// # Errors
    /// #GP, #NP, #PF.
    pub(crate) fn load_tr(&mut self, selector: u16) -> Result<(), Exception> {
        if is_null(selector) {
            return Err(Exception::gp(0));
        }
        let error = error_of(selector);
        if selector & TI != 0 {
            return Err(Exception::gp(error));
        }
        let mut descriptor = self.read_descriptor(selector, Exception::gp)?;
        let available = descriptor.is_system(system_type::TSS_AVAILABLE)
            || descriptor.is_system(system_type::TSS16_AVAILABLE) && !self.cpu.long_mode();
        if !available {
            return Err(Exception::gp(error));
        }
        self.widen_descriptor(selector, &mut descriptor, Exception::gp)?;
        if !descriptor.present() {
            return Err(Exception::not_present(error));
        }
        if !is_canonical(descriptor.base()) {
            return Err(Exception::gp(error));
        }
        self.mark_busy(descriptor.address, true)?;
        descriptor.low |= 2 << 40;
        self.set_segment(SegmentRegister::TR, descriptor.segment(selector));
        Ok(())
    }
}
