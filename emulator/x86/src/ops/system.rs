//! Control and debug registers, and the small privileged instructions (SDM vol. 2; vol. 3A chapter 2).

use iced_x86::{Code, Instruction, Mnemonic};
use platform::PhysAddr;

use crate::cpu::{MISC_ENABLE_MONITOR, Mode, Monitor, Segment, SegmentRegister, control};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::{ExecFn, Insn, flag};
use crate::mmu::{Access, Tlb};
use crate::ops::interrupt::DR7_GD;
use crate::run::dr6;
use crate::table::Row;
use crate::vcpu::{Vcpu, attention, is_canonical};
use crate::width::{D, Q, W16};

/// The rows; MOV to and from control and debug registers is chosen by [`choose_mov`].
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Clts, clts).privileged().ends_block(),
    Row::plain(Mnemonic::Lmsw, lmsw).privileged().ends_block(),
    Row::plain(Mnemonic::Smsw, smsw),
    Row::plain(Mnemonic::Hlt, hlt).privileged().ends_block(),
    Row::plain(Mnemonic::Invlpg, invlpg)
        .needs(Feature::I486)
        .privileged()
        .ends_block(),
    Row::plain(Mnemonic::Invpcid, invpcid)
        .needs(Feature::Invpcid)
        .privileged()
        .ends_block(),
    Row::plain(Mnemonic::Invd, nothing)
        .needs(Feature::I486)
        .privileged(),
    Row::plain(Mnemonic::Wbinvd, nothing)
        .needs(Feature::I486)
        .privileged(),
    // WBINVD with an F3 prefix, which models that do not know WBNOINVD ignore (SDM vol. 2D).
    Row::plain(Mnemonic::Wbnoinvd, nothing)
        .needs(Feature::I486)
        .privileged(),
    Row::plain(Mnemonic::Monitor, monitor).needs(Feature::Monitor),
    Row::plain(Mnemonic::Mwait, mwait)
        .needs(Feature::Monitor)
        .ends_block(),
    Row::plain(Mnemonic::Xsetbv, xsetbv)
        .needs(Feature::Xsave)
        .ends_block(),
];

/// The forms of MOV with a control or debug register. Those that write one end their block.
pub fn choose_mov(iced: &Instruction) -> Option<ExecFn> {
    // LOCK MOV CR0 is another maker's way to CR8.
    if iced.has_lock_prefix() {
        return None;
    }
    match iced.code() {
        Code::Mov_r32_cr | Code::Mov_r64_cr => Some(mov_from_cr),
        Code::Mov_cr_r32 | Code::Mov_cr_r64 => Some(mov_to_cr),
        Code::Mov_r32_dr | Code::Mov_r64_dr => Some(mov_from_dr),
        Code::Mov_dr_r32 | Code::Mov_dr_r64 => Some(mov_to_dr),
        _ => None,
    }
}

fn nothing(_: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    Ok(())
}

/// Writes a general register as wide as control and debug registers are in this mode.
fn set_wide(v: &mut Vcpu, insn: &Insn, n: u8, value: u64) {
    if insn.has(flag::LONG) {
        v.set::<Q>(n, value);
    } else {
        v.set::<D>(n, value);
    }
}

fn get_wide(v: &Vcpu, insn: &Insn, n: u8) -> u64 {
    if insn.has(flag::LONG) {
        v.get::<Q>(n)
    } else {
        v.get::<D>(n)
    }
}

// ---- control registers -------------------------------------------------------------------------

/// #UD for control registers that are not there, then #GP(0) above CPL 0.
fn check_control(v: &Vcpu, insn: &Insn, number: u8) -> Result<(), Exception> {
    let exists = match number {
        0 | 2 | 3 => true,
        4 => v.model.has(Feature::Cpuid),
        8 => insn.has(flag::LONG),
        _ => false,
    };
    if !exists {
        return Err(Exception::InvalidOpcode);
    }
    if v.cpu.cpl != 0 {
        return Err(Exception::gp(0));
    }
    Ok(())
}

fn mov_from_cr(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let number = insn.r[1];
    check_control(v, insn, number)?;
    let value = match number {
        0 => v.cpu.cr0,
        2 => v.cpu.cr2,
        3 => v.cpu.cr3,
        4 => v.cpu.cr4,
        _ => u64::from(v.cpu.apic.tpr() >> 4),
    };
    set_wide(v, insn, insn.r[0], value);
    Ok(())
}

fn mov_to_cr(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let number = insn.r[0];
    check_control(v, insn, number)?;
    let value = get_wide(v, insn, insn.r[1]);
    match number {
        0 => v.write_cr0(value),
        2 => {
            v.cpu.cr2 = value;
            Ok(())
        }
        3 => v.write_cr3(value),
        4 => v.write_cr4(value),
        _ => {
            if value > 0xF {
                return Err(Exception::gp(0));
            }
            v.cpu.apic.set_tpr((value << 4) as u8);
            v.attention |= attention::INTERRUPT;
            Ok(())
        }
    }
}

impl Vcpu {
    /// Writes CR0 as MOV does (SDM vol. 3A §2.5, §4.1, §9.8.5 for long mode).
    ///
    /// # Errors
    /// #GP(0) for combinations that are not allowed; nothing is changed then.
    pub fn write_cr0(&mut self, value: u64) -> Result<(), Exception> {
        use control::*;
        if value >> 32 != 0 {
            return Err(Exception::gp(0));
        }
        let new = self.known_cr0(value);
        let old = self.cpu.cr0;
        let illegal = new & (CR0_PG | CR0_PE) == CR0_PG || new & (CR0_NW | CR0_CD) == CR0_NW;
        if illegal {
            return Err(Exception::gp(0));
        }
        let mut efer = self.cpu.efer;
        let long_code = self.cpu.segs[SegmentRegister::CS].attributes & Segment::L != 0;
        let paging_starts = !old & new & CR0_PG != 0;
        if paging_starts && efer & EFER_LME != 0 {
            let tss16 = self.cpu.segs[SegmentRegister::TR].attributes & 8 == 0;
            if self.cpu.cr4 & CR4_PAE == 0 || long_code || tss16 {
                return Err(Exception::gp(0));
            }
            efer |= EFER_LMA;
        }
        if old & !new & CR0_PG != 0 {
            if self.cpu.cr4 & CR4_PCIDE != 0 || self.cpu.mode() == Mode::Long {
                return Err(Exception::gp(0));
            }
            efer &= !EFER_LMA;
        }
        let caches_change = (old ^ new) & (CR0_NW | CR0_CD) != 0;
        if new & CR0_PG != 0
            && self.cpu.cr4 & CR4_PAE != 0
            && efer & EFER_LMA == 0
            && (paging_starts || caches_change)
        {
            self.load_pdptes(self.cpu.cr3)?;
        }
        self.cpu.cr0 = new;
        self.cpu.efer = efer;
        // PE changes only while nothing is translated, whatever its value.
        if (old ^ new) & (CR0_PG | CR0_WP) != 0 {
            self.flush_tlb();
        }
        self.update_mode();
        if (old ^ new) & (CR0_PE | CR0_PG) != 0 {
            log::debug!(
                target: "mode",
                "{:?} mode, paging {}: CR0 {old:08x} becomes {new:08x} in the block at {:04x}:{:016x}",
                self.cpu.mode(),
                if new & CR0_PG != 0 { "on" } else { "off" },
                self.cpu.segs[SegmentRegister::CS].selector,
                self.cpu.regs[crate::cpu::Reg::RIP],
            );
        }
        Ok(())
    }

    /// Writes CR3 as MOV does (SDM vol. 3A §4.4.1, §4.5, §4.10.4.1).
    ///
    /// # Errors
    /// #GP(0) for reserved bits or bad page-directory pointers; nothing is changed then.
    pub fn write_cr3(&mut self, value: u64) -> Result<(), Exception> {
        let tagged = self.cpu.cr4 & control::CR4_PCIDE != 0;
        let new = if tagged { value & !(1 << 63) } else { value };
        if self.cpu.long_mode() {
            if new & !self.physical_mask() != 0 {
                return Err(Exception::gp(0));
            }
        } else if self.cpu.cr0 & control::CR0_PG != 0 && self.cpu.cr4 & control::CR4_PAE != 0 {
            self.load_pdptes(new)?;
        }
        self.cpu.cr3 = new;
        let pcid = if tagged { (new & 0xFFF) as u16 } else { 0 };
        self.change_address_space(pcid, tagged && value >> 63 != 0);
        Ok(())
    }

    /// What CR0 is after a write of `value`: it has the bits that the model has.
    pub(crate) fn known_cr0(&self, value: u64) -> u64 {
        use control::*;
        let mut known = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_PG;
        if self.model.has(Feature::I486) {
            known |= CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD;
        }
        (value & known) | CR0_ET
    }

    /// The bits of CR4 that the model has.
    pub(crate) fn known_cr4(&self) -> u64 {
        use control::*;
        [
            (Feature::Vme, CR4_VME | CR4_PVI),
            (Feature::Tsc, CR4_TSD),
            (Feature::De, CR4_DE),
            (Feature::Pse, CR4_PSE),
            (Feature::Pae, CR4_PAE),
            (Feature::Mce, CR4_MCE),
            (Feature::Pge, CR4_PGE),
            (Feature::Pmc, CR4_PCE),
            (Feature::Fxsr, CR4_OSFXSR),
            (Feature::Sse, CR4_OSXMMEXCPT),
            (Feature::Umip, CR4_UMIP),
            (Feature::FsGsBase, CR4_FSGSBASE),
            (Feature::Pcid, CR4_PCIDE),
            (Feature::Xsave, CR4_OSXSAVE),
            (Feature::Smep, CR4_SMEP),
            (Feature::Smap, CR4_SMAP),
        ]
        .iter()
        .filter(|(feature, _)| self.model.has(*feature))
        .fold(0, |known, (_, bit)| known | bit)
    }

    /// Writes CR4 as MOV does (SDM vol. 3A §2.5).
    ///
    /// # Errors
    /// #GP(0) for reserved bits and combinations that are not allowed; nothing is changed then.
    pub fn write_cr4(&mut self, new: u64) -> Result<(), Exception> {
        use control::*;
        let old = self.cpu.cr4;
        if new & !self.known_cr4() != 0 {
            return Err(Exception::gp(0));
        }
        let long = self.cpu.long_mode();
        if long && new & CR4_PAE == 0 {
            return Err(Exception::gp(0));
        }
        if !old & new & CR4_PCIDE != 0 && (!long || self.cpu.cr3 & 0xFFF != 0) {
            return Err(Exception::gp(0));
        }
        let changed = old ^ new;
        if self.cpu.cr0 & CR0_PG != 0
            && new & CR4_PAE != 0
            && !long
            && changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) != 0
        {
            self.load_pdptes(self.cpu.cr3)?;
        }
        self.cpu.cr4 = new;
        if changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_PCIDE | CR4_SMEP | CR4_SMAP) != 0 {
            if changed & CR4_PCIDE != 0 {
                // Off, or on, which takes a CR3 of PCID 0.
                self.with_tlb(|tlb| tlb.switch_to(0));
            }
            self.flush_tlb();
        }
        self.update_mode();
        Ok(())
    }

    /// #GP(0) for the instructions that UMIP forbids above CPL 0.
    pub(crate) fn check_umip(&self) -> Result<(), Exception> {
        if self.cpu.cpl != 0 && self.cpu.cr4 & control::CR4_UMIP != 0 {
            return Err(Exception::gp(0));
        }
        Ok(())
    }
}

fn clts(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    v.cpu.cr0 &= !control::CR0_TS;
    Ok(())
}

/// LMSW: PE, MP, EM and TS; PE cannot be cleared.
fn lmsw(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let value = v.read::<W16>(insn, 0)?;
    let new = (v.cpu.cr0 & !0xE) | (value & 0xF);
    v.write_cr0(new)
}

fn smsw(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    v.check_umip()?;
    let value = v.cpu.cr0;
    v.store_system_word(insn, value)
}

impl Vcpu {
    /// Stores as SMSW, SLDT and STR do: 16 bits to memory, `value` to a wider register.
    pub(crate) fn store_system_word(&mut self, insn: &Insn, value: u64) -> Result<(), Exception> {
        if insn.is_mem(0) {
            return self.write::<W16>(insn, 0, value & 0xFFFF);
        }
        match insn.op_size {
            2 => self.set::<W16>(insn.r[0], value),
            4 => self.set::<D>(insn.r[0], value),
            _ => self.set::<Q>(insn.r[0], value),
        }
        Ok(())
    }
}

// ---- debug registers ---------------------------------------------------------------------------

/// The debug register meant, after #UD, #GP(0) and the general-detect #DB (SDM vol. 3B §17.2).
fn debug_register(v: &mut Vcpu, number: u8) -> Result<usize, Exception> {
    let number = match number {
        4 | 5 if v.cpu.cr4 & control::CR4_DE != 0 => return Err(Exception::InvalidOpcode),
        4 | 5 => number + 2,
        0..=7 => number,
        _ => return Err(Exception::InvalidOpcode),
    };
    if v.cpu.cpl != 0 {
        return Err(Exception::gp(0));
    }
    if v.cpu.dr[7] & DR7_GD != 0 {
        v.cpu.dr[6] |= dr6::BD;
        // A fault other than an instruction breakpoint: its frame has RF set.
        v.cpu.rflags |= bits::RF;
        return Err(Exception::debug(false));
    }
    Ok(number.into())
}

fn mov_from_dr(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let number = debug_register(v, insn.r[1])?;
    let value = v.cpu.dr[number];
    set_wide(v, insn, insn.r[0], value);
    Ok(())
}

fn mov_to_dr(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let number = debug_register(v, insn.r[0])?;
    let value = get_wide(v, insn, insn.r[1]);
    if number >= 6 && value >> 32 != 0 {
        return Err(Exception::gp(0));
    }
    v.cpu.dr[number] = match number {
        6 => (value & 0xE00F) | 0xFFFF_0FF0,
        7 => (value & 0xFFFF_23FF) | 0x400,
        _ => value,
    };
    v.update_mode();
    Ok(())
}

// ---- the rest ----------------------------------------------------------------------------------

fn hlt(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    v.cpu.halted = true;
    v.attention |= attention::STOP | attention::INTERRUPT;
    Ok(())
}

fn invlpg(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let base = v.cpu.seg_base[usize::from(insn.seg)];
    let lin = base.wrapping_add(v.effective_address(insn)) & v.linear_mask();
    if is_canonical(lin) {
        v.flush_tlb_page(lin);
    }
    Ok(())
}

/// INVPCID. SDM vol. 2A.
fn invpcid(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let kind = get_wide(v, insn, insn.r[0]);
    let mut descriptor = [0; 16];
    let at = v.effective_address(insn);
    v.load_bytes(insn, at, &mut descriptor)?;
    let word = u128::from_le_bytes(descriptor);
    let (pcid, lin) = (word as u64, (word >> 64) as u64);
    let no_tags = v.cpu.cr4 & control::CR4_PCIDE == 0;
    if kind > 3
        || pcid > 0xFFF
        || kind < 2 && no_tags && pcid != 0
        || kind == 0 && !is_canonical(lin)
    {
        return Err(Exception::gp(0));
    }
    match kind {
        0 => v.with_tlb(|tlb| tlb.flush_page_of_pcid(pcid as u16, lin)),
        1 => v.with_tlb(|tlb| tlb.flush_pcid(pcid as u16)),
        2 => v.flush_tlb(),
        _ => v.with_tlb(Tlb::flush_all_locals),
    }
    Ok(())
}

/// MONITOR: arms the line of the operand, if that is RAM; a store to it, or any event, disarms it.
fn monitor(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    if !monitor_is_there(v) {
        return Err(Exception::InvalidOpcode);
    }
    if mwait_extensions(v) != 0 {
        return Err(Exception::gp(0));
    }
    let offset = v.get::<Q>(0) & insn.addr_mask;
    let lin = v.operand_linear(insn, offset, 1, false)?;
    v.load_linear::<crate::width::B>(insn, lin)?;
    let phys = v.translate(v.data_bank(), lin, Access::Read)?;
    let is_ram = v.bus().memory.is_ram(PhysAddr(phys));
    v.set_monitor(is_ram.then_some(phys & !(Monitor::LINE_BYTES - 1)));
    Ok(())
}

/// MWAIT: waits while the monitor is armed. The hint in EAX is no more than that: all states are C1.
fn mwait(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    if !monitor_is_there(v) {
        return Err(Exception::InvalidOpcode);
    }
    let extensions = mwait_extensions(v);
    if extensions > 1 {
        return Err(Exception::gp(0));
    }
    if v.cpu.monitor.line.is_some() {
        v.cpu.monitor.waits = true;
        v.cpu.monitor.masked_interrupts = extensions == 1;
        v.cpu.halted = true;
        v.attention |= attention::STOP | attention::INTERRUPT;
    }
    Ok(())
}

/// IA32_MISC_ENABLE can hide both, and above CPL 0 they are not there anyway.
fn monitor_is_there(v: &Vcpu) -> bool {
    v.cpu.cpl == 0 && v.cpu.msr.misc_enable & MISC_ENABLE_MONITOR != 0
}

/// RCX in 64-bit mode, else ECX.
fn mwait_extensions(v: &Vcpu) -> u64 {
    if v.cpu.mode() == Mode::Long {
        v.get::<Q>(1)
    } else {
        v.get::<D>(1)
    }
}

/// The components of XCR0 that exist: x87 and SSE.
pub(crate) const XCR0_KNOWN: u64 = 3;

fn xsetbv(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    if v.cpu.cr4 & control::CR4_OSXSAVE == 0 {
        return Err(Exception::InvalidOpcode);
    }
    let value = v.get::<D>(2) << 32 | v.get::<D>(0);
    let legal = v.get::<D>(1) == 0 && value & 1 != 0 && value & !XCR0_KNOWN == 0;
    if v.cpu.cpl != 0 || !legal {
        return Err(Exception::gp(0));
    }
    v.cpu.xcr0 = value;
    Ok(())
}
