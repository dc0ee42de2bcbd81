//! System management mode: the way in by an SMI, the two state save maps, and RSM.
//!
//! Intel SDM vol. 3C chapter 32 (32.2 to 32.5 for entry and exit, table 32-1 for the map of 32-bit processors, table
//! 32-3 for that of processors with Intel 64), AMD64 APM vol. 2 chapter 10 for what Intel leaves open of the latter.
//!
//! | map | where, from SMBASE + 8000h | of models |
//! |---|---|---|
//! | 32-bit, revision 30000h | 7E00-7FFF | without long mode |
//! | 64-bit, revision 30064h | 7E00-7FFF | with it |
//!
//! Both have the extensions that the revision announces: SMBASE can be moved (bit 17), and an I/O instruction can be
//! started anew (bit 16). An SMI comes by the wire SMI, to the first processor, or by a message to the local APIC. It
//! is taken between two instructions, before an NMI, and not in the shadow of STI or MOV SS. While in the mode, a
//! processor holds back SMIs, INITs, and NMIs until an IRET; leaving it, NMIs are as they were before. A20 is the
//! board's, as elsewhere.
//!
//! Memory of its own: [`platform::Smram`]. Not modelled: an SMI out of the shutdown state, dual-monitor treatment.

use iced_x86::Mnemonic;
use platform::{IrqLine, Smram};
use serde::{Deserialize, Serialize};

use crate::cpu::{Cpu, Reg, Segment, SegmentRegister, control};
use crate::cpuid::{Feature, Generation};
use crate::exception::Exception;
use crate::flags::{LazyFlags, bits};
use crate::insn::{Insn, flag};
use crate::table::Row;
use crate::vcpu::{Vcpu, attention};

/// The row of RSM.
pub const ROWS: &[Row] = &[Row::plain(Mnemonic::Rsm, rsm)
    .needs(Feature::Cpuid)
    .branches()];

/// SMBASE out of reset.
const SMBASE: u32 = 0x3_0000;
/// Where the handler starts, and where offsets into the maps count from.
const ENTRY: u32 = 0x8000;
/// SMBASE can be moved, an I/O instruction can be started anew.
const REVISION: u32 = 0x3_0000;
/// The map is that of processors with Intel 64.
const REVISION_64: u32 = 0x64;

/// What a processor keeps of system management mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smm {
    /// The processor is in it.
    pub active: bool,
    /// SMBASE.
    pub base: u32,
    /// A message brought an SMI.
    pub pending: bool,
    /// An INIT waits for the end of the mode.
    pub init_pending: bool,
    /// NMIs were blocked on the way in.
    pub within_nmi: bool,
    /// The I/O instruction that has just been executed. While a processor runs, `Vcpu` knows better.
    pub io: Option<IoInstruction>,
    /// The one behind which the SMI came.
    pub interrupted_io: Option<IoInstruction>,
}

impl Default for Smm {
    fn default() -> Self {
        Self {
            active: false,
            base: SMBASE,
            pending: false,
            init_pending: false,
            within_nmi: false,
            io: None,
            interrupted_io: None,
        }
    }
}

/// An I/O instruction, for a handler that starts it anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoInstruction {
    /// Where it is.
    pub ip: u64,
    /// What it accesses, as the 64-bit map has it (AMD64 APM vol. 2 §10.2.4, SMM I/O trap).
    pub access: u32,
    /// RCX, RSI and RDI before it.
    pub counters: [u64; 3],
}

/// Bits of [`IoInstruction::access`].
pub(crate) mod io {
    pub const INPUT: u32 = 1 << 0;
    pub const VALID: u32 = 1 << 1;
    pub const STRING: u32 = 1 << 2;
    pub const REPEATED: u32 = 1 << 3;
    /// Times the size.
    pub const BYTE: u32 = 1 << 4;
}

/// The registers that string instructions move.
const COUNTERS: [usize; 3] = [Reg::RCX, Reg::RSI, Reg::RDI];

/// Offsets in the 32-bit map.
mod map32 {
    pub const SMBASE: u32 = 0x7EF8;
    pub const REVISION: u32 = 0x7EFC;
    pub const IO_RESTART: u32 = 0x7F00;
    pub const HALT_RESTART: u32 = 0x7F02;
    pub const CR4: u32 = 0x7F14;
    /// Limit; the base follows.
    pub const IDTR: u32 = 0x7F54;
    pub const GDTR: u32 = 0x7F70;
    /// Of ES on: the selectors, LDTR and TR too.
    pub const SELECTORS: u32 = 0x7FA8;
    /// Of ES on: attributes, limit and base.
    pub const HIDDEN: [u32; 8] = [
        0x7F84, 0x7F90, 0x7F9C, 0x7F2C, 0x7F38, 0x7F44, 0x7F78, 0x7F5C,
    ];
    pub const DR7: u32 = 0x7FC8;
    pub const DR6: u32 = 0x7FCC;
    /// EAX; the others follow in the order of their numbers.
    pub const REGISTERS: u32 = 0x7FD0;
    pub const EIP: u32 = 0x7FF0;
    pub const EFLAGS: u32 = 0x7FF4;
    pub const CR3: u32 = 0x7FF8;
    pub const CR0: u32 = 0x7FFC;
}

/// Offsets in the 64-bit map.
mod map64 {
    /// Of ES on: selector, attributes, limit and base, 16 bytes each.
    pub const SEGMENTS: [u32; 8] = [
        0x7E00, 0x7E10, 0x7E20, 0x7E30, 0x7E40, 0x7E50, 0x7E70, 0x7E90,
    ];
    /// Limit at +4, base at +8.
    pub const GDTR: u32 = 0x7E60;
    pub const IDTR: u32 = 0x7E80;
    pub const IO_TRAP: u32 = 0x7EC0;
    pub const IO_RESTART: u32 = 0x7EC8;
    pub const HALT_RESTART: u32 = 0x7EC9;
    pub const EFER: u32 = 0x7ED0;
    pub const REVISION: u32 = 0x7EFC;
    pub const SMBASE: u32 = 0x7F00;
    pub const CR4: u32 = 0x7F48;
    pub const CR3: u32 = 0x7F50;
    pub const CR0: u32 = 0x7F58;
    pub const DR7: u32 = 0x7F60;
    pub const DR6: u32 = 0x7F68;
    pub const RFLAGS: u32 = 0x7F70;
    pub const RIP: u32 = 0x7F78;
    /// RAX; the others lie below in the order of their numbers.
    pub const RAX: u32 = 0x7FF8;
}

/// The bits of RFLAGS that a processor keeps.
const RFLAGS_KNOWN: u64 = 0x003F_7FD5;
/// The attributes of a segment that stand in the maps.
const ATTRIBUTES: u16 = 0xF0FF;

/// What RSM found beside the registers.
struct Resume {
    cpu: Cpu,
    base: u32,
    halted: bool,
    io_restart: bool,
}

impl Vcpu {
    // ---- I/O instructions ----------------------------------------------------------------------

    /// Notes that `insn` is about to access `size` bytes at `port`; `number` is its place in the block, iterations
    /// counted, and `kind` has [`io::INPUT`] and [`io::STRING`].
    pub(crate) fn note_io(&mut self, insn: &Insn, number: u16, port: u16, size: u8, kind: u32) {
        let repeated = kind & io::STRING != 0 && insn.has(flag::REP | flag::REPNE);
        let mut more = io::VALID | (io::BYTE * u32::from(size));
        if repeated {
            more |= io::REPEATED;
        }
        self.io = IoInstruction {
            ip: self.insn_ip(insn),
            access: u32::from(port) << 16 | kind | more,
            counters: COUNTERS.map(|reg| self.cpu.regs[reg]),
        };
        self.io_done = self.retired + u64::from(number) + 1;
    }

    /// The I/O instruction that was the last one executed.
    pub(crate) fn io_just_done(&self) -> Option<IoInstruction> {
        (self.io_done == self.retired).then_some(self.io)
    }

    // ---- memory --------------------------------------------------------------------------------

    /// Looks anew at who finds RAM at A0000-BFFFF. Where that may have changed, the TLB is to be flushed.
    pub(crate) fn look_at_smram(&mut self) {
        let active = self.cpu.smm.active;
        (self.smram_data, self.smram_code) = self.bus().memory.smram().shown(active);
    }

    /// Physical address `phys` (with whatever below the page's number) as memory knows it, which has two things at
    /// A0000-BFFFF: see [`Smram::VIEW`]. `shown` is whether this access finds the RAM.
    #[inline]
    pub(crate) fn viewed(phys: u64, shown: bool) -> u64 {
        if shown && Smram::RANGE.contains(&phys) {
            phys | Smram::VIEW
        } else {
            phys
        }
    }

    fn map_address(&self, offset: u32) -> u64 {
        let at = self.cpu.smm.base.wrapping_add(ENTRY).wrapping_add(offset);
        u64::from(at) & self.a20_mask
    }

    fn save_value(&mut self, offset: u32, size: u8, value: u64) {
        // Fields are aligned, but SMBASE of later processors need not be.
        for n in 0..u32::from(size) {
            let at = self.map_address(offset.wrapping_add(n));
            self.store_phys(0, at, 1, value >> (8 * n) & 0xFF);
        }
    }

    fn saved_value(&mut self, offset: u32, size: u8) -> u64 {
        (0..u32::from(size)).fold(0, |value, n| {
            let at = self.map_address(offset.wrapping_add(n));
            value | self.load_phys(0, at, 1) << (8 * n)
        })
    }

    // ---- entry ---------------------------------------------------------------------------------

    /// Whether an SMI waits and may be taken.
    pub(crate) fn smi_waits(&mut self) -> bool {
        let smm = &self.cpu.smm;
        if smm.active || !self.model.has(Feature::Cpuid) {
            return false;
        }
        smm.pending || self.number == 0 && self.bus().lines.level(IrqLine::SMI)
    }

    /// Takes an SMI (SDM vol. 3C §32.3, §32.4, table 32-4). No block runs, and the bus's clock is right.
    #[cold]
    pub(crate) fn enter_smm(&mut self) {
        // MWAIT is not gone on with.
        let halted = self.cpu.halted && !self.cpu.monitor.waits;
        self.wake();
        self.cpu.materialize_flags();
        let interrupted_io = self.io_just_done();
        self.cpu.smm = Smm {
            active: true,
            pending: false,
            within_nmi: self.cpu.nmi_blocked,
            interrupted_io,
            ..self.cpu.smm
        };
        self.look_at_smram();
        self.flush_tlb();
        if self.model.has(Feature::LongMode) {
            self.save_64(halted);
        } else {
            self.save_32(halted);
        }
        log::debug!(
            target: "smm",
            "SMI at {:04x}:{:x}, SMBASE {:x}",
            self.cpu.segs[SegmentRegister::CS].selector,
            self.cpu.regs[Reg::RIP],
            self.cpu.smm.base,
        );
        self.start_handler();
        self.tell_board();
    }

    /// Tells the board whether the first processor is in the mode.
    fn tell_board(&mut self) {
        if self.number == 0 {
            let active = self.cpu.smm.active;
            self.bus().drive(IrqLine::SMIACT, active);
            self.look_at_devices();
        }
    }

    fn start_handler(&mut self) {
        use control::*;
        let base = self.cpu.smm.base;
        let data = Segment::P | Segment::S | Segment::TYPE_WRITABLE | Segment::TYPE_ACCESSED;
        let flat = Segment {
            selector: 0,
            base: 0,
            limit: !0,
            attributes: data | Segment::G,
        };
        use SegmentRegister as Seg;
        for seg in [Seg::ES, Seg::SS, Seg::DS, Seg::FS, Seg::GS] {
            self.set_segment(seg, flat);
        }
        let code = Segment {
            selector: (base >> 4) as u16,
            base: base.into(),
            attributes: flat.attributes | Segment::TYPE_CODE,
            ..flat
        };
        self.set_segment(Seg::CS, code);
        self.set_cpl(0);
        let cpu = &mut self.cpu;
        cpu.rflags = bits::FIXED;
        cpu.regs[Reg::RIP] = ENTRY.into();
        cpu.cr0 &= !(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
        cpu.cr4 = 0;
        cpu.efer = 0;
        cpu.dr[7] = 0x400;
        cpu.nmi_blocked = true;
        cpu.shadow = 0;
        cpu.pending_debug = 0;
        self.repeat_stop = !0;
        self.tlb.switch_to(0);
        self.flush_tlb();
        self.update_mode();
    }

    /// A segment's attributes as they are saved. Those of SS have the CPL, whatever it was loaded from.
    fn saved_attributes(&self, seg: usize) -> u16 {
        let attributes = self.cpu.segs[seg].attributes & ATTRIBUTES;
        if seg == SegmentRegister::SS {
            (attributes & !0x60) | u16::from(self.cpu.cpl) << 5
        } else {
            attributes
        }
    }

    fn save_32(&mut self, halted: bool) {
        use map32::*;
        let (cpu, smm) = (self.cpu.clone(), self.cpu.smm);
        for (n, seg) in (0u32..).zip(&cpu.segs) {
            let hidden = HIDDEN[n as usize];
            let attributes = self.saved_attributes(n as usize);
            self.save_value(SELECTORS + 4 * n, 4, seg.selector.into());
            self.save_value(hidden, 4, attributes.into());
            self.save_value(hidden + 4, 4, seg.limit.into());
            self.save_value(hidden + 8, 4, seg.base);
        }
        for n in 0..8 {
            self.save_value(REGISTERS + 4 * n, 4, cpu.regs[n as usize]);
        }
        for (offset, size, value) in [
            (SMBASE, 4, smm.base.into()),
            (REVISION, 4, self::REVISION.into()),
            (IO_RESTART, 2, 0),
            (HALT_RESTART, 2, halted.into()),
            (CR4, 4, cpu.cr4),
            (IDTR, 4, cpu.idtr.limit.into()),
            (IDTR + 4, 4, cpu.idtr.base),
            (GDTR, 4, cpu.gdtr.limit.into()),
            (GDTR + 4, 4, cpu.gdtr.base),
            (DR7, 4, cpu.dr[7]),
            (DR6, 4, cpu.dr[6]),
            (EIP, 4, cpu.regs[Reg::RIP]),
            (EFLAGS, 4, cpu.rflags),
            (CR3, 4, cpu.cr3),
            (CR0, 4, cpu.cr0),
        ] {
            self.save_value(offset, size, value);
        }
    }

    fn save_64(&mut self, halted: bool) {
        use map64::*;
        let (cpu, smm) = (self.cpu.clone(), self.cpu.smm);
        for (n, seg) in cpu.segs.iter().enumerate() {
            let at = SEGMENTS[n];
            let attributes = self.saved_attributes(n);
            self.save_value(at, 2, seg.selector.into());
            self.save_value(at + 2, 2, attributes.into());
            self.save_value(at + 4, 4, seg.limit.into());
            self.save_value(at + 8, 8, seg.base);
        }
        for n in 0..16 {
            self.save_value(RAX - 8 * n, 8, cpu.regs[n as usize]);
        }
        let access = smm.interrupted_io.map_or(0, |io| io.access);
        for (offset, size, value) in [
            (SMBASE, 4, smm.base.into()),
            (REVISION, 4, (self::REVISION | REVISION_64).into()),
            (IO_TRAP, 4, access.into()),
            (IO_RESTART, 1, 0),
            (HALT_RESTART, 1, halted.into()),
            (GDTR + 4, 4, cpu.gdtr.limit.into()),
            (GDTR + 8, 8, cpu.gdtr.base),
            (IDTR + 4, 4, cpu.idtr.limit.into()),
            (IDTR + 8, 8, cpu.idtr.base),
            (EFER, 8, cpu.efer),
            (CR4, 8, cpu.cr4),
            (CR3, 8, cpu.cr3),
            (CR0, 8, cpu.cr0),
            (DR7, 8, cpu.dr[7]),
            (DR6, 8, cpu.dr[6]),
            (RFLAGS, 8, cpu.rflags),
            (RIP, 8, cpu.regs[Reg::RIP]),
        ] {
            self.save_value(offset, size, value);
        }
    }

    // ---- exit ----------------------------------------------------------------------------------

    fn saved_32(&mut self) -> Resume {
        use map32::*;
        let mut cpu = self.cpu.clone();
        for n in 0..8 {
            let hidden = HIDDEN[n as usize];
            cpu.segs[n as usize] = Segment {
                selector: self.saved_value(SELECTORS + 4 * n, 2) as u16,
                attributes: self.saved_value(hidden, 2) as u16 & ATTRIBUTES,
                limit: self.saved_value(hidden + 4, 4) as u32,
                base: self.saved_value(hidden + 8, 4),
            };
            cpu.regs[n as usize] = self.saved_value(REGISTERS + 4 * n, 4);
        }
        cpu.cr4 = self.saved_value(CR4, 4);
        cpu.idtr.limit = self.saved_value(IDTR, 2) as u16;
        cpu.idtr.base = self.saved_value(IDTR + 4, 4);
        cpu.gdtr.limit = self.saved_value(GDTR, 2) as u16;
        cpu.gdtr.base = self.saved_value(GDTR + 4, 4);
        cpu.dr[7] = self.saved_value(DR7, 4);
        cpu.dr[6] = self.saved_value(DR6, 4);
        cpu.regs[Reg::RIP] = self.saved_value(EIP, 4);
        cpu.rflags = self.saved_value(EFLAGS, 4);
        cpu.cr3 = self.saved_value(CR3, 4);
        cpu.cr0 = self.saved_value(CR0, 4);
        Resume {
            cpu,
            base: self.saved_value(SMBASE, 4) as u32,
            halted: self.saved_value(HALT_RESTART, 1) & 1 != 0,
            io_restart: self.saved_value(IO_RESTART, 1) == 0xFF,
        }
    }

    fn saved_64(&mut self) -> Resume {
        use map64::*;
        // Bases are canonical whatever the handler wrote.
        let canonical = |value: u64| ((value << 16) as i64 >> 16) as u64;
        let mut cpu = self.cpu.clone();
        for (n, at) in SEGMENTS.into_iter().enumerate() {
            cpu.segs[n] = Segment {
                selector: self.saved_value(at, 2) as u16,
                attributes: self.saved_value(at + 2, 2) as u16 & ATTRIBUTES,
                limit: self.saved_value(at + 4, 4) as u32,
                base: canonical(self.saved_value(at + 8, 8)),
            };
        }
        for n in 0..16 {
            cpu.regs[n as usize] = self.saved_value(RAX - 8 * n, 8);
        }
        cpu.gdtr.limit = self.saved_value(GDTR + 4, 2) as u16;
        cpu.gdtr.base = canonical(self.saved_value(GDTR + 8, 8));
        cpu.idtr.limit = self.saved_value(IDTR + 4, 2) as u16;
        cpu.idtr.base = canonical(self.saved_value(IDTR + 8, 8));
        cpu.efer = self.saved_value(EFER, 8);
        cpu.cr4 = self.saved_value(CR4, 8);
        cpu.cr3 = self.saved_value(CR3, 8);
        cpu.cr0 = self.saved_value(CR0, 8);
        cpu.dr[7] = self.saved_value(DR7, 4);
        cpu.dr[6] = self.saved_value(DR6, 4);
        cpu.rflags = self.saved_value(RFLAGS, 8);
        cpu.regs[Reg::RIP] = self.saved_value(RIP, 8);
        Resume {
            cpu,
            base: self.saved_value(SMBASE, 4) as u32,
            halted: self.saved_value(HALT_RESTART, 1) & 1 != 0,
            io_restart: self.saved_value(IO_RESTART, 1) == 0xFF,
        }
    }

    /// Makes a processor's state of what was saved, as far as hardware corrects it.
    ///
    /// # Errors
    /// What of it no processor can be in (SDM vol. 3C §32.5; AMD64 APM vol. 2 §10.3.6).
    fn check_resume(&self, resume: &mut Resume) -> Result<(), &'static str> {
        use control::*;
        let cpu = &mut resume.cpu;
        if self.model.generation() == Generation::P5 && resume.base & 0x7FFF != 0 {
            return Err("SMBASE is no multiple of 32 KiB");
        }
        if cpu.cr0 & (CR0_PG | CR0_PE) == CR0_PG || cpu.cr0 & (CR0_NW | CR0_CD) == CR0_NW {
            return Err("CR0 has bits that exclude each other");
        }
        if cpu.cr0 >> 32 != 0 {
            return Err("CR0 has reserved bits");
        }
        if cpu.cr4 & !self.known_cr4() != 0 {
            return Err("CR4 has reserved bits");
        }
        if cpu.efer & !self.known_efer() != 0 {
            return Err("EFER has reserved bits");
        }
        let long = cpu.efer & EFER_LME != 0 && cpu.cr0 & CR0_PG != 0;
        if long && cpu.cr4 & CR4_PAE == 0 {
            return Err("long mode without CR4.PAE");
        }
        if !long && cpu.cr4 & CR4_PCIDE != 0 {
            return Err("CR4.PCIDE outside of long mode");
        }
        let cs = cpu.segs[SegmentRegister::CS].attributes;
        if long && cs & Segment::L != 0 && cs & Segment::DB != 0 {
            return Err("a code segment of 64 and of 32 bits");
        }
        if long && cpu.cr3 & !self.physical_mask() != 0 {
            return Err("CR3 has reserved bits");
        }
        cpu.efer = (cpu.efer & !EFER_LMA) | if long { EFER_LMA } else { 0 };
        cpu.cr0 = self.known_cr0(cpu.cr0);
        cpu.dr[6] = (cpu.dr[6] & 0xE00F) | 0xFFFF_0FF0;
        cpu.dr[7] = (cpu.dr[7] & 0xFFFF_23FF) | 0x400;
        cpu.lazy = LazyFlags::EXPLICIT;
        cpu.rflags = (cpu.rflags & RFLAGS_KNOWN) | bits::FIXED;
        if long || cpu.cr0 & CR0_PE == 0 {
            cpu.rflags &= !bits::VM;
        }
        let wide = long && cs & Segment::L != 0;
        if !wide {
            cpu.regs[Reg::RIP] &= 0xFFFF_FFFF;
        }
        let ss = &mut cpu.segs[SegmentRegister::SS];
        cpu.cpl = match ss.dpl() {
            _ if cpu.cr0 & CR0_PE == 0 => 0,
            _ if cpu.rflags & bits::VM != 0 => 3,
            dpl => dpl,
        };
        if !ss.present() {
            // The CPL stood there, not in the descriptor.
            ss.attributes &= !0x60;
        }
        for (base, seg) in cpu.seg_base.iter_mut().zip(&cpu.segs) {
            *base = seg.base;
        }
        cpu.check()
    }

    /// RSM: back to where the SMI came, or to where the handler says. A state that cannot be shuts the processor down.
    fn leave_smm(&mut self) {
        let mut resume = if self.model.has(Feature::LongMode) {
            self.saved_64()
        } else {
            self.saved_32()
        };
        if let Err(why) = self.check_resume(&mut resume) {
            self.shut_down_in_resume(why);
            return;
        }
        let Resume {
            mut cpu,
            base,
            halted,
            io_restart,
        } = resume;
        cpu.nmi_blocked = std::mem::take(&mut cpu.smm.within_nmi);
        cpu.smm.active = false;
        cpu.smm.base = base;
        if let Some(io) = cpu.smm.interrupted_io.take()
            && io_restart
        {
            cpu.regs[Reg::RIP] = io.ip;
            if io.access & io::STRING != 0 {
                for (reg, value) in COUNTERS.into_iter().zip(io.counters) {
                    cpu.regs[reg] = value;
                }
            }
        }
        cpu.halted = halted;
        self.cpu = cpu;
        self.look_at_smram();
        let tagged = self.cpu.cr4 & control::CR4_PCIDE != 0;
        let pcid = if tagged { self.cpu.cr3 & 0xFFF } else { 0 };
        self.tlb.switch_to(pcid as u16);
        self.flush_tlb();
        if self.cpu.cr0 & control::CR0_PG != 0
            && self.cpu.cr4 & control::CR4_PAE != 0
            && !self.cpu.long_mode()
            && self.load_pdptes(self.cpu.cr3).is_err()
        {
            self.shut_down_in_resume("the page-directory pointers have reserved bits");
            return;
        }
        if halted {
            self.attention |= attention::STOP;
        }
        self.update_mode();
        self.tell_board();
        log::debug!(
            target: "smm",
            "resumes at {:04x}:{:x}, SMBASE {:x}",
            self.cpu.segs[SegmentRegister::CS].selector,
            self.cpu.regs[Reg::RIP],
            self.cpu.smm.base,
        );
    }

    fn shut_down_in_resume(&mut self, why: &'static str) {
        log::warn!(target: "smm", "RSM: {why}");
        self.note_failed_resume(why);
        self.cpu.shutdown = true;
        self.attention |= attention::STOP;
    }
}

/// RSM: #UD outside of system management mode, at any privilege (SDM vol. 2B).
fn rsm(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    if !v.cpu.smm.active {
        return Err(Exception::InvalidOpcode);
    }
    let ip = v.insn_ip(insn);
    v.set_ip(ip);
    v.leave_smm();
    Ok(())
}
