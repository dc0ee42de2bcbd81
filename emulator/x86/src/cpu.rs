//! The architectural state of one processor.

use std::collections::BTreeMap;

use platform::{SavedState, StateError};
use serde::{Deserialize, Serialize};

use crate::apic::LocalApic;
use crate::flags::{FlagOp, LazyFlags, bits};
use crate::smm::Smm;

/// Numbers of the general registers in [`Cpu::regs`].
#[allow(non_snake_case, missing_docs)]
pub mod Reg {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    /// Always zero: what an address without a base or index adds.
    pub const ZERO: usize = 16;
    /// The instruction pointer. While a block runs, that of the block's first instruction.
    pub const RIP: usize = 17;
}

/// Numbers of the segment registers in [`Cpu::segs`], in the order of their encodings.
#[allow(non_snake_case, missing_docs)]
pub mod SegmentRegister {
    pub const ES: usize = 0;
    pub const CS: usize = 1;
    pub const SS: usize = 2;
    pub const DS: usize = 3;
    pub const FS: usize = 4;
    pub const GS: usize = 5;
    pub const LDTR: usize = 6;
    pub const TR: usize = 7;
    /// No segment: base 0, no limit. [`Cpu::seg_base`] of it is 0 for ever.
    pub const FLAT: usize = 8;
}

/// Bits of CR0, CR4 and EFER (SDM vol. 3A §2.5, §2.2.1).
#[allow(missing_docs)]
pub mod control {
    pub const CR0_PE: u64 = 1 << 0;
    pub const CR0_MP: u64 = 1 << 1;
    pub const CR0_EM: u64 = 1 << 2;
    pub const CR0_TS: u64 = 1 << 3;
    pub const CR0_ET: u64 = 1 << 4;
    pub const CR0_NE: u64 = 1 << 5;
    pub const CR0_WP: u64 = 1 << 16;
    pub const CR0_AM: u64 = 1 << 18;
    pub const CR0_NW: u64 = 1 << 29;
    pub const CR0_CD: u64 = 1 << 30;
    pub const CR0_PG: u64 = 1 << 31;

    pub const CR4_VME: u64 = 1 << 0;
    pub const CR4_PVI: u64 = 1 << 1;
    pub const CR4_TSD: u64 = 1 << 2;
    pub const CR4_DE: u64 = 1 << 3;
    pub const CR4_PSE: u64 = 1 << 4;
    pub const CR4_PAE: u64 = 1 << 5;
    pub const CR4_MCE: u64 = 1 << 6;
    pub const CR4_PGE: u64 = 1 << 7;
    pub const CR4_PCE: u64 = 1 << 8;
    pub const CR4_OSFXSR: u64 = 1 << 9;
    pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
    pub const CR4_UMIP: u64 = 1 << 11;
    pub const CR4_FSGSBASE: u64 = 1 << 16;
    pub const CR4_PCIDE: u64 = 1 << 17;
    pub const CR4_OSXSAVE: u64 = 1 << 18;
    pub const CR4_SMEP: u64 = 1 << 20;
    pub const CR4_SMAP: u64 = 1 << 21;

    pub const EFER_SCE: u64 = 1 << 0;
    pub const EFER_LME: u64 = 1 << 8;
    pub const EFER_LMA: u64 = 1 << 10;
    pub const EFER_NXE: u64 = 1 << 11;
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The visible selector.
    pub selector: u16,
    /// Base address.
    pub base: u64,
    /// Limit in bytes, the granularity applied.
    pub limit: u32,
    /// Bits 8 to 23 of the descriptor's second doubleword, shifted down by 8: type (0-3), S (4),
    /// DPL (5-6), P (7), AVL (12), L (13), D/B (14), G (15). 0 in bit 7 means unusable (null).
    pub attributes: u16,
}

#[allow(missing_docs)]
impl Segment {
    pub const TYPE_ACCESSED: u16 = 1 << 0;
    pub const TYPE_WRITABLE: u16 = 1 << 1;
    pub const TYPE_READABLE: u16 = 1 << 1;
    pub const TYPE_EXPAND_DOWN: u16 = 1 << 2;
    pub const TYPE_CONFORMING: u16 = 1 << 2;
    pub const TYPE_CODE: u16 = 1 << 3;
    pub const S: u16 = 1 << 4;
    pub const P: u16 = 1 << 7;
    pub const AVL: u16 = 1 << 12;
    pub const L: u16 = 1 << 13;
    pub const DB: u16 = 1 << 14;
    pub const G: u16 = 1 << 15;

    pub fn dpl(&self) -> u8 {
        (self.attributes >> 5 & 3) as u8
    }
    pub fn present(&self) -> bool {
        self.attributes & Self::P != 0
    }
    pub fn is_code(&self) -> bool {
        self.attributes & (Self::S | Self::TYPE_CODE) == Self::S | Self::TYPE_CODE
    }
    /// Whether data may be read through it.
    pub fn readable(&self) -> bool {
        self.present()
            && self.attributes & Self::S != 0
            && (self.attributes & Self::TYPE_CODE == 0
                || self.attributes & Self::TYPE_READABLE != 0)
    }
    /// Whether data may be written through it.
    pub fn writable(&self) -> bool {
        self.present()
            && self.attributes & (Self::S | Self::TYPE_CODE | Self::TYPE_WRITABLE)
                == Self::S | Self::TYPE_WRITABLE
    }
    /// The big (32-bit) flag.
    pub fn big(&self) -> bool {
        self.attributes & Self::DB != 0
    }
    /// Whether `[offset, offset + size)` lies within the limit (SDM vol. 3A §5.3).
    #[inline]
    pub fn contains(&self, offset: u64, size: u64) -> bool {
        let last = offset.wrapping_add(size - 1);
        if self.attributes & (Self::TYPE_CODE | Self::TYPE_EXPAND_DOWN) == Self::TYPE_EXPAND_DOWN {
            let top = if self.big() { 0xFFFF_FFFF } else { 0xFFFF };
            offset > u64::from(self.limit) && last <= top && last >= offset
        } else {
            last <= u64::from(self.limit) && last >= offset
        }
    }
    /// Base 0, limit 4 GiB - 1, and code or expand-up writable data: accesses need no checks.
    pub fn is_flat(&self, code: bool) -> bool {
        self.base == 0 && self.is_wide(code)
    }
    /// The same with any base.
    pub fn is_wide(&self, code: bool) -> bool {
        self.limit == !0
            && self.present()
            && if code {
                self.is_code()
            } else {
                self.writable() && self.attributes & Self::TYPE_EXPAND_DOWN == 0
            }
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRegister {
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u16,
}

/// The x87 state; MMX registers are the mantissas of `st`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct X87 {
    /// Physical registers R0 to R7: mantissa, then sign and exponent.
    pub st: [(u64, u16); 8],
    /// Control word.
    pub control: u16,
    /// Status word with TOP in bits 11 to 13.
    pub status: u16,
    /// Tags, two bits a physical register: 3 is empty, everything else is in use. Which of valid, zero
    /// and special a used one is, [`tag_word`](Self::tag_word) tells.
    pub tag: u16,
    /// Opcode of the last non-control instruction, 11 bits.
    pub opcode: u16,
    /// Its address and code segment.
    pub instruction: (u64, u16),
    /// The address and segment of its memory operand.
    pub operand: (u64, u16),
}

impl X87 {
    /// The state after FNINIT; the registers are zero.
    pub const INIT: Self = Self {
        st: [(0, 0); 8],
        control: 0x037F,
        status: 0,
        tag: 0xFFFF,
        opcode: 0,
        instruction: (0, 0),
        operand: (0, 0),
    };
}

/// A vector register of 512 bits, the lowest quarter first (SDM vol. 1 §15.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[repr(C, align(64))]
pub struct Vector(pub [u128; 4]);

/// For a reader the quarters are text, as few formats have numbers of 128 bits.
impl Serialize for Vector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0
                .map(|part| format!("{part:#034x}"))
                .serialize(serializer)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl Vector {
    /// All bits clear.
    pub const ZERO: Self = Self([0; 4]);
}

/// Model-specific registers that are plain storage or have no better place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    /// What RDTSC adds to the virtual time.
    pub tsc_offset: u64,
    pub tsc_aux: u64,
    pub pat: u64,
    pub apic_base: u64,
    pub misc_enable: u64,
    pub mtrr_def_type: u64,
    /// Variable ranges: base and mask.
    pub mtrr_var: [(u64, u64); 8],
    /// Fixed ranges: 64K, 16K (2), 4K (8).
    pub mtrr_fixed: [u64; 11],
    pub mcg_status: u64,
    pub bios_sign_id: u64,
    pub debug_ctl: u64,
    pub spec_ctrl: u64,
    /// Registers of the announced model that have been written since the reset.
    pub of_model: BTreeMap<u32, u64>,
    /// State of the generator behind RDRAND and RDSEED, which is deterministic: the same run gives
    /// the same numbers. Not a register; it stands here to be saved with them.
    pub random: u64,
}

/// IA32_MISC_ENABLE: MONITOR and MWAIT are there (SDM vol. 4 table 2-2).
pub(crate) const MISC_ENABLE_MONITOR: u64 = 1 << 18;

/// The operating mode (SDM vol. 3A §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real-address mode.
    Real,
    /// Virtual-8086 mode.
    Virtual8086,
    /// Protected mode (without long mode).
    Protected,
    /// Long mode, compatibility sub-mode.
    Compatibility,
    /// Long mode, 64-bit sub-mode.
    Long,
}

/// The architectural state of one processor.
///
/// Fixed layout: a recompiler addresses it from emitted code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[repr(C)]
pub struct Cpu {
    /// General registers 0 to 15, then [`Reg::ZERO`] and [`Reg::RIP`].
    pub regs: [u64; 32],
    /// The arithmetic flags.
    pub lazy: LazyFlags,
    /// RFLAGS; its arithmetic bits count only while `lazy.op` is `Explicit`.
    pub rflags: u64,
    /// Bases by segment register, for address computation; 0 for `FLAT`.
    pub seg_base: [u64; 9],
    /// ES CS SS DS FS GS LDTR TR. Change through `Vcpu::set_segment`.
    pub segs: [Segment; 8],
    /// Current privilege level.
    pub cpl: u8,
    /// Global descriptor table.
    pub gdtr: TableRegister,
    /// Interrupt descriptor table.
    pub idtr: TableRegister,
    /// Control registers. Change CR0, CR3, CR4 and EFER through `Vcpu`.
    pub cr0: u64,
    /// Page-fault linear address.
    pub cr2: u64,
    /// Page-table base.
    pub cr3: u64,
    /// Extensions.
    pub cr4: u64,
    /// Extended feature enables.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// PAE page-directory pointers, loaded with CR3 (SDM vol. 3A §4.4.1).
    pub pdpte: [u64; 4],
    /// Debug registers.
    pub dr: [u64; 8],
    /// SSE control and status.
    pub mxcsr: u32,
    /// The vector registers: XMM, YMM and ZMM are the low 128, 256 and all 512 bits.
    pub vectors: [Vector; 32],
    /// The opmask registers, K0 to K7.
    pub opmask: [u64; 8],
    /// Rights of the protection keys (SDM vol. 3A §4.6.2).
    pub pkru: u32,
    /// x87 and MMX.
    pub x87: X87,
    /// Model-specific registers.
    pub msr: Msrs,
    /// HLT waits for an interrupt, or MWAIT for that or a store.
    pub halted: bool,
    /// What MONITOR armed and MWAIT waits for.
    pub monitor: Monitor,
    /// Interrupts and debug traps are held off for one instruction after STI (bit 0) or MOV SS (bit 1).
    pub shadow: u8,
    /// Between an NMI and the next IRET.
    pub nmi_blocked: bool,
    /// An NMI arrived.
    pub nmi_pending: bool,
    /// #DB conditions (DR6 bits) that were met and not yet reported.
    pub pending_debug: u64,
    /// A repeated string instruction stands between two iterations. While a processor runs, `Vcpu` knows better.
    pub within_repeat: bool,
    /// The processor has shut down (triple fault).
    pub shutdown: bool,
    /// After INIT, a processor that is not the bootstrap one waits for a start-up message.
    pub wait_for_startup: bool,
    /// The local APIC; its task priority is CR8.
    pub apic: LocalApic,
    /// System management mode.
    pub smm: Smm,
}

/// The monitor of MONITOR and MWAIT (SDM vol. 3A §9.10.3 and vol. 2B, MWAIT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// The physical address of the armed line.
    pub line: Option<u64>,
    /// MWAIT waits.
    pub waits: bool,
    /// An interrupt ends the wait of MWAIT even while IF holds it off.
    pub masked_interrupts: bool,
}

impl Monitor {
    /// Bytes of a line, as CPUID leaf 5 says.
    pub const LINE_BYTES: u64 = 64;
}

impl Cpu {
    /// The state after RESET (SDM vol. 3A §9.1.1, table 9-1).
    pub fn new() -> Self {
        let real = |selector: u16, base: u64, attributes: u16| Segment {
            selector,
            base,
            limit: 0xFFFF,
            attributes,
        };
        let data = Segment::P | Segment::S | Segment::TYPE_WRITABLE | Segment::TYPE_ACCESSED;
        let mut segs = [real(0, 0, data); 8];
        segs[SegmentRegister::CS] = real(0xF000, 0xFFFF_0000, data | Segment::TYPE_CODE);
        segs[SegmentRegister::LDTR] = real(0, 0, Segment::P | 2);
        segs[SegmentRegister::TR] = real(0, 0, Segment::P | 11);
        let mut cpu = Self {
            regs: [0; 32],
            lazy: LazyFlags::EXPLICIT,
            rflags: bits::FIXED,
            seg_base: [0; 9],
            segs,
            cpl: 0,
            gdtr: TableRegister {
                base: 0,
                limit: 0xFFFF,
            },
            idtr: TableRegister {
                base: 0,
                limit: 0xFFFF,
            },
            cr0: control::CR0_ET | control::CR0_NW | control::CR0_CD,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            xcr0: 1,
            pdpte: [0; 4],
            dr: [0, 0, 0, 0, 0, 0, 0xFFFF_0FF0, 0x400],
            mxcsr: 0x1F80,
            vectors: [Vector::ZERO; 32],
            opmask: [0; 8],
            pkru: 0,
            x87: X87 {
                control: 0x0040,
                tag: 0x5555,
                ..X87::INIT
            },
            msr: Msrs {
                pat: 0x0007_0406_0007_0406,
                apic_base: 0xFEE0_0900,
                // Fast strings; no branch trace store, no precise event-based sampling.
                misc_enable: 0x1801 | MISC_ENABLE_MONITOR,
                ..Msrs::default()
            },
            halted: false,
            monitor: Monitor::default(),
            shadow: 0,
            nmi_blocked: false,
            nmi_pending: false,
            pending_debug: 0,
            within_repeat: false,
            shutdown: false,
            wait_for_startup: false,
            apic: LocalApic::new(0, true),
            smm: Smm::default(),
        };
        cpu.regs[Reg::RIP] = 0xFFF0;
        cpu.regs[Reg::RDX] = 0x0000_0600;
        for (base, seg) in cpu.seg_base.iter_mut().zip(&cpu.segs) {
            *base = seg.base;
        }
        cpu
    }

    /// Version of the layout in which it is saved.
    pub const STATE_VERSION: u32 = 2;

    /// Reads a state of this version or of an older one.
    ///
    /// # Errors
    /// A version that nobody reads, or damaged bytes.
    pub fn read(state: &SavedState) -> Result<Self, StateError> {
        state.decode_or_migrate(Self::STATE_VERSION, &[(1, Self::from_1)])
    }

    /// Version 1 ended where `smm` stands, and what is written down is one field behind the other.
    fn from_1(state: &SavedState) -> Result<Self, StateError> {
        let smm = SavedState::encode(Self::STATE_VERSION, &Smm::default());
        let bytes = [&state.bytes[..], &smm.bytes].concat();
        let version = Self::STATE_VERSION;
        SavedState { version, bytes }.decode(version)
    }

    /// Whether a processor can be in this state, as far as the processor's own code relies on it. What a guest could
    /// load into a register is not looked at: it does no harm.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.regs[Reg::ZERO] != 0 || self.seg_base[8] != 0 {
            return Err("a register that is always zero is not");
        }
        let mut bases = self.seg_base.iter().zip(&self.segs);
        if !bases.all(|(&base, seg)| base == seg.base) {
            return Err("a segment has two bases");
        }
        if self.cpl > 3 {
            return Err("a privilege level above 3");
        }
        if !matches!(self.lazy.op, FlagOp::Explicit) || self.rflags & bits::FIXED == 0 {
            return Err("flags that no processor has");
        }
        let paging = self.cr0 & control::CR0_PG != 0;
        let long = self.efer & control::EFER_LMA != 0;
        let long_enabled =
            paging && self.cr4 & control::CR4_PAE != 0 && self.efer & control::EFER_LME != 0;
        if long && !long_enabled || paging && self.cr0 & control::CR0_PE == 0 {
            return Err("control registers that exclude each other");
        }
        Ok(())
    }

    /// The operating mode.
    pub fn mode(&self) -> Mode {
        if self.cr0 & control::CR0_PE == 0 {
            Mode::Real
        } else if self.efer & control::EFER_LMA != 0 {
            if self.segs[SegmentRegister::CS].attributes & Segment::L != 0 {
                Mode::Long
            } else {
                Mode::Compatibility
            }
        } else if self.rflags & bits::VM != 0 {
            Mode::Virtual8086
        } else {
            Mode::Protected
        }
    }

    /// Protected mode in the wide sense: segments come from descriptors.
    pub fn uses_descriptors(&self) -> bool {
        self.cr0 & control::CR0_PE != 0 && self.rflags & bits::VM == 0
    }

    /// Long mode is active (64-bit or compatibility sub-mode).
    pub fn long_mode(&self) -> bool {
        self.efer & control::EFER_LMA != 0
    }

    /// RFLAGS with the arithmetic flags evaluated.
    pub fn rflags(&self) -> u64 {
        (self.rflags & !bits::ARITH) | self.lazy.evaluate(self.rflags)
    }

    /// XMM register `n`, 0 to 31.
    #[inline(always)]
    pub fn xmm(&self, n: usize) -> u128 {
        self.vectors[n].0[0]
    }

    /// Writes XMM register `n` as the instructions of legacy SSE do: the bits above stay (SDM vol. 1 §14.8).
    #[inline(always)]
    pub fn set_xmm(&mut self, n: usize, value: u128) {
        self.vectors[n].0[0] = value;
    }

    /// Evaluates the arithmetic flags into `rflags` for good.
    pub fn materialize_flags(&mut self) {
        self.rflags = self.rflags();
        self.lazy = LazyFlags::EXPLICIT;
    }

    /// IOPL.
    pub fn iopl(&self) -> u8 {
        (self.rflags >> 12 & 3) as u8
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}
