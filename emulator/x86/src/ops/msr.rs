//! RDMSR, WRMSR, CPUID, time stamps and random numbers (SDM vol. 2; vol. 4 for the registers).
//!
//! A register that is listed neither here nor in `msr_model.rs` raises #GP(0), as on the processors. Of memory
//! types (MTRR, PAT) and microcode updates only the registers exist.

use iced_x86::Mnemonic;

use crate::apic::adapter::base as apic;
use crate::cpu::{Reg, SegmentRegister, control};
use crate::cpuid::{self, Feature, Generation};
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::Insn;
use crate::table::Row;
use crate::vcpu::{Vcpu, is_canonical};
use crate::width::{D, Q, W16};

/// The rows.
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Cpuid, cpuid).needs(Feature::Cpuid),
    Row::plain(Mnemonic::Rdmsr, rdmsr)
        .needs(Feature::Msr)
        .privileged()
        .ends_block(),
    Row::plain(Mnemonic::Wrmsr, wrmsr)
        .needs(Feature::Msr)
        .privileged()
        .ends_block(),
    Row::plain(Mnemonic::Rdtsc, rdtsc)
        .needs(Feature::Tsc)
        .ends_block(),
    Row::plain(Mnemonic::Rdtscp, rdtscp)
        .needs(Feature::Rdtscp)
        .ends_block(),
    Row::plain(Mnemonic::Rdpid, rdpid).needs(Feature::Rdpid),
    Row::plain(Mnemonic::Rdpmc, rdpmc).needs(Feature::Pmc),
    Row::plain(Mnemonic::Rdrand, random).needs(Feature::Rdrand),
    Row::plain(Mnemonic::Rdseed, random).needs(Feature::Rdseed),
];

/// Numbers of model-specific registers (SDM vol. 4).
mod number {
    pub const P5_MC_ADDR: u32 = 0x0;
    pub const P5_MC_TYPE: u32 = 0x1;
    pub const TSC: u32 = 0x10;
    pub const APIC_BASE: u32 = 0x1B;
    pub const SPEC_CTRL: u32 = 0x48;
    pub const PRED_CMD: u32 = 0x49;
    pub const BIOS_UPDT_TRIG: u32 = 0x79;
    pub const BIOS_SIGN_ID: u32 = 0x8B;
    pub const SMBASE: u32 = 0x9E;
    pub const MTRRCAP: u32 = 0xFE;
    pub const ARCH_CAPABILITIES: u32 = 0x10A;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17A;
    pub const MISC_ENABLE: u32 = 0x1A0;
    pub const DEBUG_CTL: u32 = 0x1D9;
    pub const MTRR_VAR_FIRST: u32 = 0x200;
    pub const MTRR_VAR_LAST: u32 = 0x20F;
    pub const MTRR_FIX64K: u32 = 0x250;
    pub const MTRR_FIX16K_FIRST: u32 = 0x258;
    pub const MTRR_FIX16K_LAST: u32 = 0x259;
    pub const MTRR_FIX4K_FIRST: u32 = 0x268;
    pub const MTRR_FIX4K_LAST: u32 = 0x26F;
    pub const PAT: u32 = 0x277;
    pub const TSC_DEADLINE: u32 = 0x6E0;
    pub const X2APIC_FIRST: u32 = 0x800;
    pub const X2APIC_LAST: u32 = 0x8FF;
    pub const XSS: u32 = 0xDA0;
    pub const MTRR_DEF_TYPE: u32 = 0x2FF;
    pub const EFER: u32 = 0xC000_0080;
    pub const STAR: u32 = 0xC000_0081;
    pub const LSTAR: u32 = 0xC000_0082;
    pub const CSTAR: u32 = 0xC000_0083;
    pub const FMASK: u32 = 0xC000_0084;
    pub const FS_BASE: u32 = 0xC000_0100;
    pub const GS_BASE: u32 = 0xC000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xC000_0102;
    pub const TSC_AUX: u32 = 0xC000_0103;
}

/// 8 variable ranges, fixed ranges, write combining.
const MTRRCAP_VALUE: u64 = 0x508;

/// IA32_SPEC_CTRL: IBRS, STIBP, SSBD and BHI_DIS_S. They are kept, and change nothing.
const SPEC_CTRL_KNOWN: u64 = 1 << 10 | 7;

fn bad() -> Exception {
    Exception::gp(0)
}

impl Vcpu {
    /// The feature that a register comes with.
    fn msr_feature(register: u32) -> Feature {
        use number::*;
        match register {
            P5_MC_ADDR | P5_MC_TYPE => Feature::Mce,
            TSC => Feature::Tsc,
            SYSENTER_CS..=SYSENTER_EIP => Feature::Sep,
            MTRRCAP | MTRR_VAR_FIRST..=MTRR_FIX4K_LAST | MTRR_DEF_TYPE => Feature::Mtrr,
            MCG_CAP | MCG_STATUS => Feature::Mca,
            PAT => Feature::Pat,
            EFER => Feature::Nx,
            STAR | LSTAR | CSTAR | FMASK | FS_BASE | GS_BASE | KERNEL_GS_BASE => Feature::LongMode,
            TSC_AUX => Feature::Rdtscp,
            TSC_DEADLINE => Feature::TscDeadline,
            X2APIC_FIRST..=X2APIC_LAST => Feature::X2Apic,
            XSS => Feature::Xsaves,
            MISC_ENABLE => Feature::Sse2,
            // STIBP, SSBD and BHI_DIS_S come with it in every model.
            SPEC_CTRL | PRED_CMD => Feature::Ibrs,
            ARCH_CAPABILITIES => Feature::ArchCapabilities,
            // These came with the P6 family.
            APIC_BASE | BIOS_UPDT_TRIG | BIOS_SIGN_ID | DEBUG_CTL => Feature::Cmov,
            SMBASE => Feature::LongMode,
            // The rest belongs to the announced model.
            _ => Feature::Msr,
        }
    }

    /// Where a fixed-range MTRR is stored.
    fn fixed_mtrr(register: u32) -> Option<usize> {
        use number::*;
        match register {
            MTRR_FIX64K => Some(0),
            MTRR_FIX16K_FIRST..=MTRR_FIX16K_LAST => {
                Some(1 + (register - MTRR_FIX16K_FIRST) as usize)
            }
            MTRR_FIX4K_FIRST..=MTRR_FIX4K_LAST => Some(3 + (register - MTRR_FIX4K_FIRST) as usize),
            _ => None,
        }
    }

    /// The time-stamp counter at instruction `number` of the running block: virtual nanoseconds, so
    /// 1 GHz, plus what has been written.
    fn time_stamp(&mut self, number: u16) -> u64 {
        let now_ns = self.bus_at(number).clock.now_ns();
        now_ns.wrapping_add(self.cpu.msr.tsc_offset)
    }

    /// Reads a model-specific register; the privilege has been checked.
    ///
    /// # Errors
    /// #GP(0) for one that does not exist.
    pub(crate) fn read_msr(&mut self, insn: &Insn, register: u32) -> Result<u64, Exception> {
        use number::*;
        if !self.model.has(Self::msr_feature(register)) {
            return Err(bad());
        }
        let msr = &self.cpu.msr;
        Ok(match register {
            P5_MC_ADDR | P5_MC_TYPE | MCG_CAP | XSS => 0,
            TSC => self.time_stamp(insn.number),
            APIC_BASE if self.model.has(Feature::Apic) => msr.apic_base,
            APIC_BASE => msr.apic_base & !apic::ENABLE,
            TSC_DEADLINE => self.read_tsc_deadline(insn.number),
            X2APIC_FIRST..=X2APIC_LAST => {
                let value = self.read_x2apic(insn.number, register);
                return value.ok_or_else(bad);
            }
            BIOS_SIGN_ID => msr.bios_sign_id,
            // To be read in system management mode only.
            SMBASE if self.cpu.smm.active => self.cpu.smm.base.into(),
            SMBASE => return Err(bad()),
            MTRRCAP => MTRRCAP_VALUE,
            SYSENTER_CS => msr.sysenter_cs,
            SYSENTER_ESP => msr.sysenter_esp,
            SYSENTER_EIP => msr.sysenter_eip,
            MCG_STATUS => msr.mcg_status,
            MISC_ENABLE => msr.misc_enable,
            DEBUG_CTL => msr.debug_ctl,
            SPEC_CTRL => msr.spec_ctrl,
            ARCH_CAPABILITIES => cpuid::ARCH_CAPABILITIES,
            MTRR_VAR_FIRST..=MTRR_VAR_LAST => {
                let (base, mask) = msr.mtrr_var[((register - MTRR_VAR_FIRST) / 2) as usize];
                if register & 1 == 0 { base } else { mask }
            }
            PAT => msr.pat,
            MTRR_DEF_TYPE => msr.mtrr_def_type,
            EFER => self.cpu.efer,
            STAR => msr.star,
            LSTAR => msr.lstar,
            CSTAR => msr.cstar,
            FMASK => msr.sfmask,
            FS_BASE => self.cpu.segs[SegmentRegister::FS].base,
            GS_BASE => self.cpu.segs[SegmentRegister::GS].base,
            KERNEL_GS_BASE => msr.kernel_gs_base,
            TSC_AUX => msr.tsc_aux,
            _ => match Self::fixed_mtrr(register) {
                Some(n) => msr.mtrr_fixed[n],
                None => return self.read_model_register(register),
            },
        })
    }

    /// Writes a model-specific register; the privilege has been checked.
    ///
    /// # Errors
    /// #GP(0) for one that does not exist or is read-only, for reserved bits and for addresses that
    /// are not canonical.
    pub(crate) fn write_msr(
        &mut self,
        insn: &Insn,
        register: u32,
        value: u64,
    ) -> Result<(), Exception> {
        use number::*;
        if !self.model.has(Self::msr_feature(register)) {
            return Err(bad());
        }
        let addresses = [
            SYSENTER_ESP,
            SYSENTER_EIP,
            LSTAR,
            CSTAR,
            FS_BASE,
            GS_BASE,
            KERNEL_GS_BASE,
        ];
        if addresses.contains(&register) && !is_canonical(value) {
            return Err(bad());
        }
        let physical = self.physical_mask();
        let now_ns = self.bus_at(insn.number).clock.now_ns();
        let msr = &mut self.cpu.msr;
        match register {
            P5_MC_ADDR | P5_MC_TYPE | BIOS_UPDT_TRIG => {}
            TSC => {
                msr.tsc_offset = value.wrapping_sub(now_ns);
                // The APIC's deadline may count by it.
                self.look_at_devices();
            }
            APIC_BASE => {
                let extended = if self.model.has(Feature::X2Apic) {
                    apic::EXTD
                } else {
                    0
                };
                let known = physical & !0xFFF | apic::BSP | apic::ENABLE | extended;
                let before = msr.apic_base;
                if value & !known != 0 || !Self::is_legal_apic_base(before, value) {
                    return Err(bad());
                }
                msr.apic_base = (value & !apic::BSP) | (before & apic::BSP);
                self.apic_base_changed(before);
                self.look_at_devices();
            }
            TSC_DEADLINE => self.write_tsc_deadline(insn.number, value),
            X2APIC_FIRST..=X2APIC_LAST => {
                let written = self.write_x2apic(insn.number, register, value);
                return written.ok_or_else(bad);
            }
            BIOS_SIGN_ID => msr.bios_sign_id = value,
            SYSENTER_CS => msr.sysenter_cs = value & 0xFFFF_FFFF,
            SYSENTER_ESP => msr.sysenter_esp = value,
            SYSENTER_EIP => msr.sysenter_eip = value,
            MCG_STATUS => msr.mcg_status = value & 7,
            MISC_ENABLE => msr.misc_enable = value,
            // No supervisor state component exists.
            XSS if value != 0 => return Err(bad()),
            XSS => {}
            DEBUG_CTL => {
                if value & !0x1FC3 != 0 {
                    return Err(bad());
                }
                msr.debug_ctl = value;
            }
            SPEC_CTRL => {
                if value & !SPEC_CTRL_KNOWN != 0 {
                    return Err(bad());
                }
                msr.spec_ctrl = value;
            }
            // IBPB: no predictor holds anything.
            PRED_CMD if value & !1 != 0 => return Err(bad()),
            PRED_CMD => {}
            MTRR_VAR_FIRST..=MTRR_VAR_LAST => {
                let range = &mut msr.mtrr_var[((register - MTRR_VAR_FIRST) / 2) as usize];
                if register & 1 == 0 {
                    if value & !(physical & !0xFFF | 0xFF) != 0 || !is_mtrr_type(value as u8) {
                        return Err(bad());
                    }
                    range.0 = value;
                } else {
                    if value & !(physical & !0xFFF | 1 << 11) != 0 {
                        return Err(bad());
                    }
                    range.1 = value;
                }
            }
            PAT => {
                let legal = |ty: u8| is_mtrr_type(ty) || ty == 7;
                if !value.to_le_bytes().into_iter().all(legal) {
                    return Err(bad());
                }
                msr.pat = value;
            }
            MTRR_DEF_TYPE => {
                if value & !0xCFF != 0 || !is_mtrr_type(value as u8) {
                    return Err(bad());
                }
                msr.mtrr_def_type = value;
            }
            EFER => return self.write_efer(value),
            STAR => msr.star = value,
            LSTAR => msr.lstar = value,
            CSTAR => msr.cstar = value,
            FMASK => msr.sfmask = value & 0xFFFF_FFFF,
            FS_BASE => self.set_segment_base(SegmentRegister::FS, value),
            GS_BASE => self.set_segment_base(SegmentRegister::GS, value),
            KERNEL_GS_BASE => msr.kernel_gs_base = value,
            TSC_AUX => {
                if value >> 32 != 0 {
                    return Err(bad());
                }
                msr.tsc_aux = value;
            }
            _ => match Self::fixed_mtrr(register) {
                Some(n) => {
                    if !value.to_le_bytes().into_iter().all(is_mtrr_type) {
                        return Err(bad());
                    }
                    msr.mtrr_fixed[n] = value;
                }
                None => return self.write_model_register(register, value),
            },
        }
        Ok(())
    }

    /// The bits of EFER that the model has.
    pub(crate) fn known_efer(&self) -> u64 {
        use control::*;
        [
            (Feature::Syscall, EFER_SCE),
            (Feature::LongMode, EFER_LME | EFER_LMA),
            (Feature::Nx, EFER_NXE),
        ]
        .iter()
        .filter(|(feature, _)| self.model.has(*feature))
        .fold(0, |known, (_, bit)| known | bit)
    }

    /// Writes EFER (SDM vol. 3A §2.2.1): LMA is the processor's, LME is fixed while paging is on.
    fn write_efer(&mut self, value: u64) -> Result<(), Exception> {
        use control::*;
        let old = self.cpu.efer;
        if value & !self.known_efer() != 0
            || (value ^ old) & EFER_LME != 0 && self.cpu.cr0 & CR0_PG != 0
        {
            return Err(bad());
        }
        self.cpu.efer = (value & !EFER_LMA) | (old & EFER_LMA);
        if (value ^ old) & EFER_NXE != 0 {
            self.flush_tlb();
        }
        self.update_mode();
        Ok(())
    }
}

/// UC, WC, WT, WP, WB.
fn is_mtrr_type(ty: u8) -> bool {
    matches!(ty, 0 | 1 | 4 | 5 | 6)
}

fn set_pair(v: &mut Vcpu, value: u64) {
    v.set::<D>(Reg::RAX as u8, value & 0xFFFF_FFFF);
    v.set::<D>(Reg::RDX as u8, value >> 32);
}

fn rdmsr(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let register = v.get::<D>(Reg::RCX as u8) as u32;
    let value = v.read_msr(insn, register)?;
    set_pair(v, value);
    Ok(())
}

fn wrmsr(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let register = v.get::<D>(Reg::RCX as u8) as u32;
    let value = v.get::<D>(Reg::RDX as u8) << 32 | v.get::<D>(Reg::RAX as u8);
    v.write_msr(insn, register, value)
}

fn cpuid(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    let leaf = v.get::<D>(Reg::RAX as u8) as u32;
    let subleaf = v.get::<D>(Reg::RCX as u8) as u32;
    if leaf == 1 && v.model.microcode_revision() != 0 {
        // SDM vol. 3A §10.11.7: CPUID loads the revision of the update.
        v.cpu.msr.bios_sign_id = u64::from(v.model.microcode_revision()) << 32;
    }
    let result = v.model.cpuid(leaf, subleaf, &v.cpu);
    for (reg, value) in [Reg::RAX, Reg::RBX, Reg::RCX, Reg::RDX]
        .into_iter()
        .zip(result)
    {
        v.set::<D>(reg as u8, value.into());
    }
    Ok(())
}

fn check_tsd(v: &Vcpu) -> Result<(), Exception> {
    if v.cpu.cr4 & control::CR4_TSD != 0 && v.cpu.cpl != 0 {
        return Err(bad());
    }
    Ok(())
}

fn rdtsc(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    check_tsd(v)?;
    let now = v.time_stamp(insn.number);
    set_pair(v, now);
    Ok(())
}

fn rdtscp(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    check_tsd(v)?;
    let now = v.time_stamp(insn.number);
    set_pair(v, now);
    let aux = v.cpu.msr.tsc_aux;
    v.set::<D>(Reg::RCX as u8, aux);
    Ok(())
}

/// RDPID: TSC_AUX into a register as wide as the mode's.
fn rdpid(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let aux = v.cpu.msr.tsc_aux;
    if insn.op_size == 8 {
        v.set::<Q>(insn.r[0], aux);
    } else {
        v.set::<D>(insn.r[0], aux);
    }
    Ok(())
}

/// RDPMC: the counters, two or four, stand at 0.
fn rdpmc(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    let forbidden = v.cpu.cr4 & control::CR4_PCE == 0 && v.cpu.cpl != 0;
    let last = if v.model.generation() >= Generation::Nehalem {
        3
    } else {
        1
    };
    if forbidden || v.get::<D>(Reg::RCX as u8) > last {
        return Err(bad());
    }
    set_pair(v, 0);
    Ok(())
}

/// RDRAND, RDSEED: SplitMix64 over a state that is part of the processor's. CF is 1, the other
/// arithmetic flags are 0.
fn random(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let state = v.cpu.msr.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
    v.cpu.msr.random = state;
    let mut value = state;
    value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^= value >> 31;
    match insn.op_size {
        2 => v.set::<W16>(insn.r[0], value),
        4 => v.set::<D>(insn.r[0], value),
        _ => v.set::<Q>(insn.r[0], value),
    }
    v.cpu.materialize_flags();
    v.cpu.rflags = (v.cpu.rflags & !bits::ARITH) | bits::CF;
    Ok(())
}
