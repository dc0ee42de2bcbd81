//! CPU models: which features a processor has, and what CPUID says of them (SDM vol. 2A, CPUID).
//!
//! | model | like | adds |
//! |---|---|---|
//! | `i386` | i386DX with i387 | |
//! | `i486` | i486DX4 | CPUID, VME, the 486's instructions |
//! | `pentium` | Pentium with MMX | RDTSC, MSRs, CMPXCHG8B, large pages |
//! | `pentium3` | Pentium III | CMOV, SYSENTER, PAE, SSE, MTRR, PAT |
//! | `x86-64` | first 64-bit Core | long mode, NX, SSE2 |
//! | `x86-64-v2` | Nehalem | up to SSE4.2, POPCNT, CMPXCHG16B |
//! | `max` | everything that is implemented | AES, XSAVE, BMI, ADX, SMEP, SMAP … |
//!
//! What no instruction implements is not advertised. The local APIC comes with the Pentium III; the
//! Pentium is one with its APIC strapped off.
//!
//! Nothing here speculates, so no model has Meltdown or its kin. Those from `x86-64-v2` on say so, in
//! IA32_ARCH_CAPABILITIES ([`ARCH_CAPABILITIES`]); it is a register that microcode brought to processors
//! which have leaf 7, so older models cannot have it, and systems take them for what they look like.

use crate::cpu::{Cpu, MISC_ENABLE_MONITOR, control};

/// A CPUID feature that makes instructions exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[rustfmt::skip]
#[repr(u8)]
pub enum Feature {
    /// Every model has it.
    Base,
    I486, Cpuid, X87, Tsc, Msr, Cx8, Sep, Cmov, Mmx, Fxsr, Sse, Sse2, Clflush, Sse3, Pclmulqdq, Monitor,
    Ssse3, Cx16, Sse41, Sse42, Movbe, Popcnt, Aes, Xsave, Xsaveopt, Xsavec, Xsaves, Rdrand, Rdseed, LahfLm, Lzcnt, Bmi1, Bmi2, Prefetchw,
    Syscall, LongMode, Rdtscp, FsGsBase, Smap, Invpcid, Pse, Pae, Pge, Pse36, Vme, De, Nx, Page1g, Smep,
    Umip, Pcid, Mce, Mtrr, Pat, Apic, Adx, Clflushopt, Erms, Mca,
    /// RDPMC: not a CPUID bit of its own.
    Pmc,
    /// 0F 0D and 0F 18 to 0F 1F do nothing: no CPUID bit either.
    HintNop,
    Rdpid,
    TscDeadline,
    /// The local APIC's registers are MSRs, and its IDs have 32 bits, in a mode of its own; leaf Bh comes with it.
    X2Apic,
    /// The APIC's timer runs in every power state.
    Arat,
    /// IBRS and IBPB, STIBP, SSBD, BHI_DIS_S: bits of IA32_SPEC_CTRL and IA32_PRED_CMD.
    Ibrs, Stibp, Ssbd, BhiCtrl,
    ArchCapabilities,
}

use Feature::*;

const I386: &[Feature] = &[Base, X87];
const I486_ADDS: &[Feature] = &[I486, Cpuid, Vme];
const PENTIUM_ADDS: &[Feature] = &[De, Pse, Tsc, Msr, Mce, Cx8, Mmx, Pmc];
const PENTIUM3_ADDS: &[Feature] = &[
    HintNop, Apic, Pae, Sep, Mtrr, Pge, Mca, Cmov, Pat, Pse36, Fxsr, Sse,
];
const X86_64_ADDS: &[Feature] = &[Clflush, Sse2, Syscall, LongMode, Nx];
const X86_64_V2_ADDS: &[Feature] = &[
    Sse3,
    Ssse3,
    Cx16,
    Sse41,
    Sse42,
    Popcnt,
    LahfLm,
    Ibrs,
    Stibp,
    Ssbd,
    BhiCtrl,
    ArchCapabilities,
];
const MAX_ADDS: &[Feature] = &[
    Pclmulqdq,
    Monitor,
    Movbe,
    Aes,
    Xsave,
    Xsaveopt,
    Xsavec,
    Xsaves,
    Rdrand,
    Rdseed,
    Lzcnt,
    Bmi1,
    Bmi2,
    Adx,
    Prefetchw,
    Rdtscp,
    FsGsBase,
    Smap,
    Smep,
    Invpcid,
    Pcid,
    Umip,
    Page1g,
    Erms,
    Clflushopt,
    Rdpid,
    TscDeadline,
    X2Apic,
    Arat,
];

/// The models in order; each has what the ones before it have.
const LINE: [(&str, &[Feature], u32); 7] = [
    ("i386", I386, 0x0000_0308),
    ("i486", I486_ADDS, 0x0000_0480),
    ("pentium", PENTIUM_ADDS, 0x0000_0543),
    ("pentium3", PENTIUM3_ADDS, 0x0000_0686),
    ("x86-64", X86_64_ADDS, 0x0000_06F6),
    ("x86-64-v2", X86_64_V2_ADDS, 0x0001_06A5),
    ("max", MAX_ADDS, 0x0002_06C2),
];

/// The processors that the models announce, as far as registers that belong to one kind of them go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Generation {
    /// Pentium, and what came before it without such registers.
    P5,
    P6,
    /// 06_0F.
    Core,
    /// 06_1A.
    Nehalem,
    /// 06_2C.
    Westmere,
}

/// Registers of a CPUID leaf that hold feature bits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Leaf 1.
    C1,
    D1,
    /// Leaf 6.
    A6,
    /// Leaf 7, subleaf 0.
    B7,
    C7,
    D7,
    /// Leaf 7, subleaf 2.
    D7_2,
    /// Leaf Dh, subleaf 1.
    AD,
    /// Leaf 80000001h.
    C8,
    D8,
}

/// Where CPUID shows each feature.
const BITS: &[(Feature, Word, u8)] = &[
    (X87, Word::D1, 0),
    (Vme, Word::D1, 1),
    (De, Word::D1, 2),
    (Pse, Word::D1, 3),
    (Tsc, Word::D1, 4),
    (Msr, Word::D1, 5),
    (Pae, Word::D1, 6),
    (Mce, Word::D1, 7),
    (Cx8, Word::D1, 8),
    (Apic, Word::D1, 9),
    (Sep, Word::D1, 11),
    (Mtrr, Word::D1, 12),
    (Pge, Word::D1, 13),
    (Mca, Word::D1, 14),
    (Cmov, Word::D1, 15),
    (Pat, Word::D1, 16),
    (Pse36, Word::D1, 17),
    (Clflush, Word::D1, 19),
    (Mmx, Word::D1, 23),
    (Fxsr, Word::D1, 24),
    (Sse, Word::D1, 25),
    (Sse2, Word::D1, 26),
    (Sse3, Word::C1, 0),
    (Pclmulqdq, Word::C1, 1),
    (Monitor, Word::C1, 3),
    (Ssse3, Word::C1, 9),
    (Cx16, Word::C1, 13),
    (Pcid, Word::C1, 17),
    (Sse41, Word::C1, 19),
    (Sse42, Word::C1, 20),
    (X2Apic, Word::C1, 21),
    (Movbe, Word::C1, 22),
    (Popcnt, Word::C1, 23),
    (TscDeadline, Word::C1, 24),
    (Aes, Word::C1, 25),
    (Xsave, Word::C1, 26),
    (Rdrand, Word::C1, 30),
    (Arat, Word::A6, 2),
    (FsGsBase, Word::B7, 0),
    (Bmi1, Word::B7, 3),
    (Smep, Word::B7, 7),
    (Bmi2, Word::B7, 8),
    (Erms, Word::B7, 9),
    (Invpcid, Word::B7, 10),
    (Rdseed, Word::B7, 18),
    (Adx, Word::B7, 19),
    (Smap, Word::B7, 20),
    (Clflushopt, Word::B7, 23),
    (Umip, Word::C7, 2),
    (Rdpid, Word::C7, 22),
    (Ibrs, Word::D7, 26),
    (Stibp, Word::D7, 27),
    (ArchCapabilities, Word::D7, 29),
    (Ssbd, Word::D7, 31),
    (BhiCtrl, Word::D7_2, 4),
    (Xsaveopt, Word::AD, 0),
    (Xsavec, Word::AD, 1),
    (Xsaves, Word::AD, 3),
    (LahfLm, Word::C8, 0),
    (Lzcnt, Word::C8, 5),
    (Prefetchw, Word::C8, 8),
    (Syscall, Word::D8, 11),
    (Nx, Word::D8, 20),
    (Page1g, Word::D8, 26),
    (Rdtscp, Word::D8, 27),
    (LongMode, Word::D8, 29),
];

/// IA32_ARCH_CAPABILITIES (SDM vol. 4 table 2-2): attacks that this processor is not open to. Each holds for
/// a machine whose instructions leave no trace before they retire, and whose caches, buffers and predictors
/// are none that a guest can reach or time. What says that a processor *may* behave badly (RSBA, RRSBA) and
/// what comes with more registers (TSX_CTRL, FB_CLEAR_CTRL, DOITM, XAPIC_DISABLE_STATUS …) stays 0.
pub(crate) const ARCH_CAPABILITIES: u64 = arch_capabilities::RDCL_NO
    | arch_capabilities::IBRS_ALL
    | arch_capabilities::SKIP_L1DFL_VMENTRY
    | arch_capabilities::SSB_NO
    | arch_capabilities::MDS_NO
    | arch_capabilities::IF_PSCHANGE_MC_NO
    | arch_capabilities::TAA_NO
    | arch_capabilities::SBDR_SSDP_NO
    | arch_capabilities::FBSDP_NO
    | arch_capabilities::PSDP_NO
    | arch_capabilities::BHI_NO
    | arch_capabilities::PBRSB_NO
    | arch_capabilities::GDS_NO
    | arch_capabilities::RFDS_NO
    | arch_capabilities::ITS_NO;

/// Bits of IA32_ARCH_CAPABILITIES.
mod arch_capabilities {
    /// Rogue data cache load (Meltdown), and the L1 terminal fault with it.
    pub const RDCL_NO: u64 = 1 << 0;
    /// Enhanced IBRS: set once, it holds in every mode.
    pub const IBRS_ALL: u64 = 1 << 1;
    /// A hypervisor need not flush the L1 data cache on VM entry.
    pub const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
    /// Speculative store bypass.
    pub const SSB_NO: u64 = 1 << 4;
    /// Microarchitectural data sampling.
    pub const MDS_NO: u64 = 1 << 5;
    /// A page's size may change while code runs from it.
    pub const IF_PSCHANGE_MC_NO: u64 = 1 << 6;
    /// TSX asynchronous abort; there is no TSX.
    pub const TAA_NO: u64 = 1 << 8;
    /// The three kinds of stale data from MMIO.
    pub const SBDR_SSDP_NO: u64 = 1 << 13;
    pub const FBSDP_NO: u64 = 1 << 14;
    pub const PSDP_NO: u64 = 1 << 15;
    /// Branch history injection. Systems that see IBRS_ALL also want BHI_DIS_S, against a program that
    /// trains itself; without it Linux clears the history with a loop in each system call.
    pub const BHI_NO: u64 = 1 << 20;
    /// Post-barrier return stack buffer.
    pub const PBRSB_NO: u64 = 1 << 24;
    /// Gather data sampling; there is no gather.
    pub const GDS_NO: u64 = 1 << 26;
    /// Register file data sampling.
    pub const RFDS_NO: u64 = 1 << 27;
    /// Indirect target selection (Intel's guidance on INTEL-SA-01153; not in the manual's table).
    pub const ITS_NO: u64 = 1 << 62;
}

/// Bytes of an XSAVE area with x87 and SSE state: legacy region and header.
const XSAVE_BYTES: u32 = 512 + 64;

/// A processor model.
#[derive(Clone, Debug)]
pub struct CpuModel {
    /// Its name on the command line.
    pub name: &'static str,
    features: u128,
    signature: u32,
}

impl CpuModel {
    /// The names of all models, the oldest first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        LINE.iter().map(|(name, _, _)| *name)
    }

    /// The model called `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        let mut features = 0;
        for (known, adds, signature) in LINE {
            for feature in adds {
                features |= 1 << *feature as u8;
            }
            if known == name {
                return Some(Self {
                    name: known,
                    features,
                    signature,
                });
            }
        }
        None
    }

    /// Whether the model has `feature`.
    pub fn has(&self, feature: Feature) -> bool {
        self.features >> feature as u8 & 1 != 0
    }

    /// Family, model and stepping, as CPUID leaf 1 EAX and as EDX after RESET.
    pub fn signature(&self) -> u32 {
        self.signature
    }

    /// Which processor the signature is of.
    pub(crate) fn generation(&self) -> Generation {
        match self.signature & !0xF {
            0x0680 => Generation::P6,
            0x06F0 => Generation::Core,
            0x1_06A0 => Generation::Nehalem,
            0x2_06C0 => Generation::Westmere,
            _ => Generation::P5,
        }
    }

    /// What a microcode update is called that is loaded, 0 for none: for the newer models those of their
    /// originals that brought IA32_SPEC_CTRL.
    pub(crate) fn microcode_revision(&self) -> u32 {
        match self.generation() {
            Generation::Nehalem => 0x1D,
            Generation::Westmere => 0x1F,
            _ => 0,
        }
    }

    /// MAXPHYADDR.
    pub fn physical_address_bits(&self) -> u32 {
        if self.has(LongMode) {
            40
        } else if self.has(Pse36) {
            36
        } else {
            32
        }
    }

    /// Whether page-directory-pointer entries may map 1 GiB.
    pub fn has_1g_pages(&self) -> bool {
        self.has(Page1g)
    }

    fn word(&self, word: Word) -> u32 {
        BITS.iter()
            .filter(|(feature, place, _)| *place == word && self.has(*feature))
            .fold(0, |value, (_, _, bit)| value | 1 << bit)
    }

    fn max_basic_leaf(&self) -> u32 {
        if self.has(Xsave) {
            0xD
        } else if self.has(Sse3) {
            7
        } else if self.has(LongMode) {
            4
        } else if self.has(Sse) {
            2
        } else {
            1
        }
    }

    fn max_extended_leaf(&self) -> u32 {
        if self.has(LongMode) { 0x8000_0008 } else { 0 }
    }

    /// EAX, EBX, ECX and EDX of a leaf. A leaf that there is not gives the data of the highest basic
    /// one. Some bits follow the state of `cpu`.
    pub fn cpuid(&self, leaf: u32, subleaf: u32, cpu: &Cpu) -> [u32; 4] {
        let extended = leaf >= 0x8000_0000 && leaf <= self.max_extended_leaf();
        let leaf = if extended || leaf <= self.max_basic_leaf() {
            leaf
        } else {
            self.max_basic_leaf()
        };
        const LINE: u32 = crate::cpu::Monitor::LINE_BYTES as u32;
        match leaf {
            0 => {
                let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
                [
                    self.max_basic_leaf(),
                    word(b"Genu"),
                    word(b"ntel"),
                    word(b"ineI"),
                ]
            }
            1 => self.features_leaf(cpu),
            // 4 KiB and large-page TLBs; caches: the Pentium III's 16 + 16 + 256 KiB, or leaf 4's.
            2 if !self.has(LongMode) => [0x0302_0101, 0, 0, 0x0C04_0882],
            2 => [0x0000_0001, 0, 0, 0x002C_307D],
            4 => cache_leaf(subleaf),
            // Lines of 64 bytes; interrupts can end MWAIT while IF holds them off; no hint is told apart.
            5 if self.has(Monitor) => [LINE, LINE, 3, 0],
            6 => [self.word(Word::A6), 0, 0, 0],
            7 if subleaf == 0 => {
                let words = [Word::B7, Word::C7, Word::D7].map(|word| self.word(word));
                let last_subleaf = if self.has(BhiCtrl) { 2 } else { 0 };
                [last_subleaf, words[0], words[1], words[2]]
            }
            7 if subleaf == 2 => [0, 0, 0, self.word(Word::D7_2)],
            0xB if self.has(X2Apic) => topology_leaf(subleaf, cpu.apic.id().into()),
            0xD => self.xsave_leaf(subleaf),
            0x8000_0000 => [self.max_extended_leaf(), 0, 0, 0],
            0x8000_0001 => {
                let mut edx = self.word(Word::D8);
                // SYSCALL exists in 64-bit mode only, and shows only there.
                if cpu.mode() != crate::cpu::Mode::Long {
                    edx &= !(1 << 11);
                }
                [0, 0, self.word(Word::C8), edx]
            }
            0x8000_0002..=0x8000_0004 => self.brand(leaf - 0x8000_0002),
            // L2: 256 KiB, 8-way, lines of 64 bytes.
            0x8000_0006 => [0, 0, 0x0100_6040, 0],
            // The time-stamp counter runs at a constant rate.
            0x8000_0007 => [0, 0, 0, 1 << 8],
            0x8000_0008 => [self.physical_address_bits() | 48 << 8, 0, 0, 0],
            _ => [0; 4],
        }
    }

    fn features_leaf(&self, cpu: &Cpu) -> [u32; 4] {
        let mut ecx = self.word(Word::C1);
        if cpu.cr4 & control::CR4_OSXSAVE != 0 {
            ecx |= 1 << 27;
        }
        // CLFLUSH lines of 64 bytes, one logical processor.
        let mut ebx = if self.has(Clflush) {
            8 << 8 | 1 << 16
        } else {
            0
        };
        if cpu.msr.misc_enable & MISC_ENABLE_MONITOR == 0 {
            ecx &= !(1 << 3);
        }
        let mut edx = self.word(Word::D1);
        if self.has(Apic) {
            ebx |= u32::from(cpu.apic.id()) << 24;
            // It shows only while IA32_APIC_BASE has it enabled.
            if cpu.msr.apic_base & crate::apic::adapter::base::ENABLE == 0 {
                edx &= !(1 << 9);
            }
        }
        [self.signature, ebx, ecx, edx]
    }

    fn xsave_leaf(&self, subleaf: u32) -> [u32; 4] {
        match subleaf {
            0 => [
                crate::ops::system::XCR0_KNOWN as u32,
                XSAVE_BYTES,
                XSAVE_BYTES,
                0,
            ],
            1 => {
                let mut eax = self.word(Word::AD);
                let mut compacted_bytes = 0;
                if self.has(Xsavec) {
                    // XGETBV with ECX = 1 comes with it.
                    eax |= 1 << 2;
                    compacted_bytes = XSAVE_BYTES;
                }
                [eax, compacted_bytes, 0, 0]
            }
            _ => [0; 4],
        }
    }

    fn brand(&self, part: u32) -> [u32; 4] {
        let mut text = [0u8; 48];
        let name = format!("Glassbox Virtual CPU {}", self.name);
        let len = name.len().min(47);
        text[..len].copy_from_slice(&name.as_bytes()[..len]);
        let at = part as usize * 16;
        std::array::from_fn(|n| {
            let at = at + n * 4;
            u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]])
        })
    }
}

/// Leaf 4: L1 data and instruction 32 KiB 8-way, L2 256 KiB 8-way, all with lines of 64 bytes.
fn cache_leaf(subleaf: u32) -> [u32; 4] {
    let (kind, level, sets) = match subleaf {
        0 => (1, 1, 64),
        1 => (2, 1, 64),
        2 => (3, 2, 512),
        _ => return [0; 4],
    };
    // Self-initializing.
    let eax = kind | level << 5 | 1 << 8;
    let ebx = 63 | 7 << 22;
    [eax, ebx, sets - 1, 0]
}

/// Leaf Bh: a package has one core, a core one logical processor, and the x2APIC ID is the package's number.
fn topology_leaf(subleaf: u32, id: u32) -> [u32; 4] {
    // SMT, core.
    let level = match subleaf {
        0 | 1 => (subleaf + 1) << 8,
        _ => 0,
    };
    let processors = u32::from(level != 0);
    [0, processors, level | subleaf & 0xFF, id]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_has_what_the_one_before_it_has() {
        let mut before = 0u128;
        for name in CpuModel::names() {
            let model = CpuModel::by_name(name).expect("listed");
            assert_eq!(model.features & before, before, "{name}");
            before = model.features;
        }
    }

    #[test]
    fn vendor_and_brand_read_as_text() {
        let model = CpuModel::by_name("max").expect("listed");
        let cpu = Cpu::new();
        let [_, b, c, d] = model.cpuid(0, 0, &cpu);
        let vendor: Vec<u8> = [b, d, c].iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(vendor, b"GenuineIntel");
        let brand: Vec<u8> = (0x8000_0002..=0x8000_0004)
            .flat_map(|leaf| model.cpuid(leaf, 0, &cpu))
            .flat_map(u32::to_le_bytes)
            .collect();
        assert!(brand.starts_with(b"Glassbox Virtual CPU max\0"));
    }

    #[test]
    fn a_leaf_beyond_the_last_gives_the_last() {
        let model = CpuModel::by_name("pentium").expect("listed");
        let cpu = Cpu::new();
        assert_eq!(model.cpuid(0x8000_0000, 0, &cpu), model.cpuid(1, 0, &cpu));
        assert_eq!(model.cpuid(1, 0, &cpu)[3], 0x0080_01BF);
    }

    #[test]
    fn no_feature_bit_is_used_twice() {
        for (n, (_, word, bit)) in BITS.iter().enumerate() {
            assert!(!BITS[..n].iter().any(|(_, w, b)| w == word && b == bit));
        }
    }
}
