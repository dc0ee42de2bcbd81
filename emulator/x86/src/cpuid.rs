//! CPU models: which features a processor has, and what CPUID says of them.

/// A CPUID feature that makes instructions exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[rustfmt::skip]
#[repr(u8)]
pub enum Feature {
    /// Every model has it.
    Base,
    I486, Cpuid, X87, Tsc, Msr, Cx8, Sep, Cmov, Mmx, Fxsr, Sse, Sse2, Clflush, Sse3, Pclmulqdq, Monitor,
    Ssse3, Cx16, Sse41, Sse42, Movbe, Popcnt, Aes, Xsave, Xsaveopt, Xsavec, Rdrand, Rdseed, LahfLm, Lzcnt, Bmi1, Prefetchw,
    Syscall, LongMode, Rdtscp, FsGsBase, Smap, Invpcid, Pse, Pae, Pge, Pse36, Vme, De, Nx, Page1g, Smep,
    Umip, Pcid, Mce, Mtrr, Pat, Apic, Adx, Clflushopt, Erms,
}

/// A processor model.
#[derive(Clone, Debug)]
pub struct CpuModel {
    /// Its name on the command line.
    pub name: &'static str,
    features: u128,
}

impl CpuModel {
    /// The model called `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        (name == "max").then_some(Self {
            name: "max",
            features: !0,
        })
    }

    /// Whether the model has `feature`.
    pub fn has(&self, feature: Feature) -> bool {
        self.features >> feature as u8 & 1 != 0
    }

    /// Family, model and stepping, as CPUID leaf 1 EAX and as EDX after RESET.
    pub fn signature(&self) -> u32 {
        0x0000_0661
    }

    /// MAXPHYADDR.
    pub fn physical_address_bits(&self) -> u32 {
        40
    }

    /// Whether page-directory-pointer entries may map 1 GiB.
    pub fn has_1g_pages(&self) -> bool {
        self.has(Feature::Page1g)
    }
}
