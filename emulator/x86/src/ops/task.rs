//! Hardware task switches (SDM vol. 3A chapter 7).
//!
//! A switch has two halves. Until the old task's state is saved every fault belongs to the old task
//! and leaves all as it was; once the new task's registers are loaded, faults belong to the new task
//! and are raised before its first instruction ([`TaskFault`]).

use crate::cpu::{Reg, Segment, SegmentRegister, control};
use crate::exception::Exception;
use crate::flags::bits;
use crate::frame::Frame;
use crate::segment::{
    Descriptor, RPL, TI, error_of, is_null, null_segment, system_type, virtual8086_segment,
};
use crate::vcpu::Vcpu;
use crate::width::{D, W16};

/// What switches tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// JMP: the old task is no longer busy.
    Jump,
    /// CALL: the new task is nested.
    Call,
    /// IRET with NT set.
    Return,
    /// An interrupt or exception through a task gate: nested, with the flags to save in the old task
    /// and the error code to push in the new one.
    Event { flags: u64, error_code: Option<u16> },
}

/// A fault of a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskFault {
    /// In the old task: nothing has changed.
    Before(Exception),
    /// In the new task.
    After(Exception),
}

/// Offsets in a TSS (SDM vol. 3A figures 7-2 and 7-10).
struct Layout {
    wide: bool,
    ip: u64,
    flags: u64,
    regs: u64,
    segs: u64,
    /// ES CS SS DS, and FS GS in the 32-bit one.
    seg_count: u64,
    ldt: u64,
    /// The smallest limit.
    limit: u32,
}

const LAYOUT16: Layout = Layout {
    wide: false,
    ip: 0x0E,
    flags: 0x10,
    regs: 0x12,
    segs: 0x22,
    seg_count: 4,
    ldt: 0x2A,
    limit: 0x2B,
};
const LAYOUT32: Layout = Layout {
    wide: true,
    ip: 0x20,
    flags: 0x24,
    regs: 0x28,
    segs: 0x48,
    seg_count: 6,
    ldt: 0x60,
    limit: 0x67,
};
const CR3: u64 = 0x1C;
const TRAP: u64 = 0x64;

/// A task's registers as its TSS holds them.
struct Image {
    cr3: u64,
    ip: u64,
    flags: u64,
    regs: [u64; 8],
    segs: [u16; 6],
    ldt: u16,
    trap: bool,
}

fn layout_of(attributes: u16) -> &'static Layout {
    if attributes & 8 != 0 {
        &LAYOUT32
    } else {
        &LAYOUT16
    }
}

impl Vcpu {
    /// The TSS that a task gate points to, checked to be one that can be switched to.
    ///
    /// # Errors
    /// #GP, #NP, #PF.
    pub(crate) fn task_gate_target(
        &mut self,
        gate: &Descriptor,
    ) -> Result<(u16, Descriptor), Exception> {
        let selector = gate.gate_selector();
        let error = error_of(selector);
        if is_null(selector) || selector & TI != 0 {
            return Err(Exception::gp(error));
        }
        let tss = self.read_descriptor(selector, Exception::gp)?;
        if !tss.is_system(system_type::TSS_AVAILABLE)
            && !tss.is_system(system_type::TSS16_AVAILABLE)
        {
            return Err(Exception::gp(error));
        }
        if !tss.present() {
            return Err(Exception::not_present(error));
        }
        Ok((selector, tss))
    }

    /// Switches tasks on behalf of an instruction. A fault of the new task is delivered here.
    ///
    /// # Errors
    /// Faults of the old task.
    pub(crate) fn switch_task_from_code(
        &mut self,
        selector: u16,
        tss: Descriptor,
        source: Source,
        next_ip: u64,
    ) -> Result<(), Exception> {
        match self.switch_task(selector, tss, source, next_ip) {
            Ok(()) => Ok(()),
            Err(TaskFault::Before(exception)) => Err(exception),
            Err(TaskFault::After(exception)) => {
                self.raise(exception);
                Ok(())
            }
        }
    }

    /// Switches to the task of `tss`, whose descriptor has been checked but for its limit; the old
    /// task will go on at `next_ip`. SDM vol. 3A §7.3.
    ///
    /// # Errors
    /// See [`TaskFault`].
    pub(crate) fn switch_task(
        &mut self,
        selector: u16,
        tss: Descriptor,
        source: Source,
        next_ip: u64,
    ) -> Result<(), TaskFault> {
        let layout = layout_of(tss.attributes());
        let image = self
            .leave_task(selector, &tss, layout, source, next_ip)
            .map_err(TaskFault::Before)?;
        self.enter_image(selector, tss, layout, source, &image)
            .map_err(TaskFault::After)
    }

    /// Checks all that can fault in the old task, saves it, and reads the new one's image.
    fn leave_task(
        &mut self,
        selector: u16,
        tss: &Descriptor,
        layout: &Layout,
        source: Source,
        next_ip: u64,
    ) -> Result<Image, Exception> {
        let error = error_of(selector);
        if tss.limit() < layout.limit {
            return Err(Exception::invalid_tss(error));
        }
        let old = self.cpu.segs[SegmentRegister::TR];
        let old_layout = layout_of(old.attributes);
        if old.limit < old_layout.limit {
            return Err(Exception::invalid_tss(error_of(old.selector)));
        }
        let nested = matches!(source, Source::Call | Source::Event { .. });
        // Faults on the way into the descriptor tables and both TSSs come before anything is written.
        let old_descriptor = self
            .cpu
            .gdtr
            .base
            .wrapping_add(u64::from(old.selector & !7));
        self.sys_touch(old.base, u64::from(old_layout.limit) + 1, true)?;
        self.sys_touch(tss.base(), u64::from(layout.limit) + 1, nested)?;
        if source != Source::Return {
            self.sys_touch(tss.address, 8, true)?;
        }
        if !nested {
            self.sys_touch(old_descriptor, 8, true)?;
            self.mark_busy(old_descriptor, false)?;
        }
        let mut flags = match source {
            Source::Event { flags, .. } => flags,
            _ => self.cpu.rflags(),
        };
        if source == Source::Return {
            flags &= !bits::NT;
        }
        self.write_image(old.base, old_layout, next_ip, flags)?;
        if nested {
            self.sys_store::<W16>(tss.base(), old.selector.into())?;
        }
        if source != Source::Return {
            self.mark_busy(tss.address, true)?;
        }
        // A task that returns to itself gets what has just been saved (SDM vol. 3A §7.3).
        self.read_image(tss.base(), layout)
    }

    fn read_image(&mut self, base: u64, layout: &Layout) -> Result<Image, Exception> {
        let mut image = Image {
            cr3: 0,
            ip: self.load_field(base, layout, layout.ip)?,
            flags: self.load_field(base, layout, layout.flags)?,
            regs: [0; 8],
            segs: [0; 6],
            ldt: self.sys_load::<W16>(base + layout.ldt)? as u16,
            trap: false,
        };
        let step = if layout.wide { 4 } else { 2 };
        for n in 0..8 {
            let value = self.load_field(base, layout, layout.regs + step * n)?;
            // SDM vol. 3A §7.6 leaves a 16-bit task's upper halves open; the 386 fills them with ones.
            let upper = if layout.wide { 0 } else { 0xFFFF_0000 };
            image.regs[n as usize] = value | upper;
        }
        for n in 0..layout.seg_count {
            image.segs[n as usize] = self.sys_load::<W16>(base + layout.segs + step * n)? as u16;
        }
        if layout.wide {
            image.cr3 = self.sys_load::<D>(base + CR3)?;
            image.trap = self.sys_load::<W16>(base + TRAP)? & 1 != 0;
        }
        Ok(image)
    }

    fn write_image(
        &mut self,
        base: u64,
        layout: &Layout,
        ip: u64,
        flags: u64,
    ) -> Result<(), Exception> {
        self.store_field(base, layout, layout.ip, ip)?;
        self.store_field(base, layout, layout.flags, flags)?;
        let step = if layout.wide { 4 } else { 2 };
        for n in 0..8 {
            let value = self.cpu.regs[n as usize];
            self.store_field(base, layout, layout.regs + step * n, value)?;
        }
        for n in 0..layout.seg_count {
            let selector = self.cpu.segs[n as usize].selector;
            self.sys_store::<W16>(base + layout.segs + step * n, selector.into())?;
        }
        Ok(())
    }

    fn load_field(&mut self, base: u64, layout: &Layout, at: u64) -> Result<u64, Exception> {
        if layout.wide {
            self.sys_load::<D>(base + at)
        } else {
            self.sys_load::<W16>(base + at)
        }
    }

    fn store_field(
        &mut self,
        base: u64,
        layout: &Layout,
        at: u64,
        value: u64,
    ) -> Result<(), Exception> {
        if layout.wide {
            self.sys_store::<D>(base + at, value & 0xFFFF_FFFF)
        } else {
            self.sys_store::<W16>(base + at, value & 0xFFFF)
        }
    }

    /// Loads the new task's state and checks its segments, as the new task.
    fn enter_image(
        &mut self,
        selector: u16,
        mut tss: Descriptor,
        layout: &Layout,
        source: Source,
        image: &Image,
    ) -> Result<(), Exception> {
        tss.low |= 2 << 40;
        self.set_segment(SegmentRegister::TR, tss.segment(selector));
        self.cpu.cr0 |= control::CR0_TS;
        // The local enables are the old task's own (SDM vol. 3B §17.2.4).
        self.cpu.dr[7] &= !0x155;
        self.cpu.shadow = 0;
        self.cpu.pending_debug = 0;

        let mut flags = image.flags;
        if !layout.wide {
            flags &= 0xFFFF;
        }
        if matches!(source, Source::Call | Source::Event { .. }) {
            flags |= bits::NT;
        }
        self.cpu.materialize_flags();
        self.cpu.rflags = (flags & (self.writable_flags() | bits::VM)) | bits::FIXED;
        self.cpu.regs[..8].copy_from_slice(&image.regs);
        self.cpu.regs[Reg::RIP] = image.ip;
        // Until a segment has been checked, its register holds the selector only.
        for seg in 0..6 {
            self.set_segment(seg, null_segment(image.segs[seg]));
        }
        self.set_segment(SegmentRegister::LDTR, null_segment(image.ldt));
        let virtual8086 = self.cpu.rflags & bits::VM != 0;
        let cpl = if virtual8086 {
            3
        } else {
            (image.segs[SegmentRegister::CS] & RPL) as u8
        };
        self.set_cpl(cpl);
        self.update_mode();

        if layout.wide && self.cpu.cr0 & control::CR0_PG != 0 {
            if self.cpu.cr4 & control::CR4_PAE != 0 {
                self.load_pdptes(image.cr3)?;
            }
            self.cpu.cr3 = image.cr3;
            self.change_address_space(0, false);
        }
        // A fault here does not keep the other segments from being loaded: its handler may need the
        // stack (SDM vol. 3A §6.15, Interrupt 10).
        let ldt = self.load_task_ldt(image.ldt);
        let segments = if virtual8086 {
            for seg in 0..6 {
                self.set_segment(seg, virtual8086_segment(image.segs[seg]));
            }
            Ok(())
        } else {
            self.load_task_segments(&image.segs, cpl)
        };
        self.update_mode();
        ldt.and(segments)?;
        if image.ip > self.cpu.segs[SegmentRegister::CS].limit.into() {
            return Err(Exception::gp(0));
        }
        if let Source::Event {
            error_code: Some(error),
            ..
        } = source
        {
            let mut frame = Frame::on_current(self, Exception::stack(0));
            frame.push(if layout.wide { 4 } else { 2 }, error.into())?;
            frame.check(self)?;
            frame.store(self)?;
            frame.commit_sp(self);
        }
        if image.trap {
            self.cpu.pending_debug = crate::run::dr6::BT;
        }
        Ok(())
    }

    fn load_task_ldt(&mut self, selector: u16) -> Result<(), Exception> {
        if is_null(selector) {
            return Ok(());
        }
        let error = error_of(selector);
        if selector & TI != 0 {
            return Err(Exception::invalid_tss(error));
        }
        let ldt = self.read_descriptor(selector, Exception::invalid_tss)?;
        if !ldt.is_system(system_type::LDT) || !ldt.present() {
            return Err(Exception::invalid_tss(error));
        }
        self.set_segment(SegmentRegister::LDTR, ldt.segment(selector));
        Ok(())
    }

    /// CS, SS and the data segments of a new task: loads all that can be loaded, and returns the first
    /// fault in the order of SDM vol. 3A table 7-1.
    fn load_task_segments(&mut self, segs: &[u16; 6], cpl: u8) -> Result<(), Exception> {
        let (cs, ss) = (segs[SegmentRegister::CS], segs[SegmentRegister::SS]);
        let code = self.task_code(cs);
        let level = match &code {
            Ok(code) if code.is_conforming() => code.dpl() <= cpl,
            Ok(code) => code.dpl() == cpl,
            Err(_) => true,
        };
        let mut result = invalid_unless(level, cs);

        let stack = self.task_stack(ss, cpl);
        result = result.and(stack.as_ref().map(|_| ()).map_err(|&fault| fault));
        result = result.and(code.and_then(|mut code| {
            if !code.present() {
                return Err(Exception::not_present(error_of(cs)));
            }
            if level {
                self.mark_accessed(&mut code)?;
                self.set_segment(SegmentRegister::CS, code.segment(cs));
            }
            Ok(())
        }));
        let matching = (ss & RPL) as u8 == cpl;
        result = result.and(invalid_unless(matching, ss));
        if let Ok(mut stack) = stack
            && matching
        {
            self.mark_accessed(&mut stack)?;
            self.set_segment(SegmentRegister::SS, stack.segment(ss));
        }
        for seg in [
            SegmentRegister::DS,
            SegmentRegister::ES,
            SegmentRegister::FS,
            SegmentRegister::GS,
        ] {
            let data = self.task_data_segment(segs[seg], cpl);
            result = result.and(data.map(|value| self.set_segment(seg, value)));
        }
        result
    }

    /// A code segment's descriptor, whatever its level.
    fn task_code(&mut self, selector: u16) -> Result<Descriptor, Exception> {
        if is_null(selector) {
            return Err(Exception::invalid_tss(0));
        }
        let code = self.read_descriptor(selector, Exception::invalid_tss)?;
        invalid_unless(code.is_code(), selector)?;
        Ok(code)
    }

    /// A stack segment's descriptor, whatever the selector's RPL.
    fn task_stack(&mut self, selector: u16, cpl: u8) -> Result<Descriptor, Exception> {
        if is_null(selector) {
            return Err(Exception::invalid_tss(0));
        }
        let stack = self.read_descriptor(selector, Exception::invalid_tss)?;
        invalid_unless(stack.is_writable_data(), selector)?;
        if !stack.present() {
            return Err(Exception::stack(error_of(selector)));
        }
        invalid_unless(stack.dpl() == cpl, selector)?;
        Ok(stack)
    }

    fn task_data_segment(&mut self, selector: u16, cpl: u8) -> Result<Segment, Exception> {
        if is_null(selector) {
            return Ok(null_segment(selector));
        }
        let mut data = self.read_descriptor(selector, Exception::invalid_tss)?;
        let outside = data.dpl() < cpl || data.dpl() < (selector & RPL) as u8;
        let allowed = data.is_readable() && (data.is_conforming() || !outside);
        invalid_unless(allowed, selector)?;
        if !data.present() {
            return Err(Exception::not_present(error_of(selector)));
        }
        self.mark_accessed(&mut data)?;
        Ok(data.segment(selector))
    }
}

fn invalid_unless(condition: bool, selector: u16) -> Result<(), Exception> {
    if condition {
        Ok(())
    } else {
        Err(Exception::invalid_tss(error_of(selector)))
    }
}
