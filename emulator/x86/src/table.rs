//! Which instructions there are: one row a mnemonic. What has no row raises #UD.

use std::sync::OnceLock;

use iced_x86::{Code, CpuidFeature, Instruction, MemorySize, Mnemonic, OpKind, Register};

use crate::choice::{Full, Generic};
use crate::cpuid::Feature;
use crate::flags::Condition;
use crate::insn::ExecFn;
use crate::ops;
use crate::undefined::{self, Leaves, Undefined};

/// How a row finds the function of an instruction.
#[derive(Clone, Copy)]
pub enum Handler {
    /// One function over the processor for all forms and tiers.
    Plain(ExecFn),
    /// The same, but the form decides which; `None` is #UD.
    Choose(fn(&Instruction) -> Option<ExecFn>),
    /// A function over [`Emit`](crate::Emit), of which each tier makes its own handlers.
    Generic(&'static Generic),
    /// The form decides which of these it is; `None` is #UD.
    ByForm(fn(&Instruction) -> Option<Handler>),
}

impl Handler {
    /// What there is for the form of `iced`: the full handler, and where it comes from if that has more.
    pub fn resolve(self, iced: &Instruction) -> Option<(ExecFn, Option<&'static Generic>)> {
        match self {
            Self::Plain(exec) => Some((exec, None)),
            Self::Choose(choose) => Some((choose(iced)?, None)),
            Self::Generic(generic) => Some(((generic.full)(iced, &Full)?, Some(generic))),
            Self::ByForm(choose) => choose(iced)?.resolve(iced),
        }
    }
}

/// What a recompiler for a host of the same architecture may do with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// The host's own does the same, to the bit, once registers, memory and targets are put in place.
    Reencode,
    /// It does but for flags or results that the manual leaves undefined, or faults that the host must not see: what it
    /// leaves there is to be replaced.
    Mend,
    /// The function of its row is called: it touches system state or memory in a complicated way, does not exist in
    /// the host's mode, or its result differs between vendors.
    Call,
}

/// How an instruction ends its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It does not.
    No,
    /// The block ends behind it: it may change the mode, or time must be exact at it.
    After,
    /// It sets the instruction pointer itself, always.
    Branch,
}

/// One mnemonic.
#[derive(Clone, Copy)]
pub struct Row {
    /// The mnemonic.
    pub mnemonic: Mnemonic,
    /// Its function.
    pub handler: Handler,
    /// The feature without which it raises #UD.
    pub feature: Feature,
    /// How it ends its block.
    pub ends: Ends,
    /// Where only some forms end it: which.
    pub ends_when: Option<fn(&Instruction) -> bool>,
    /// #GP(0) unless the CPL is 0.
    pub privileged: bool,
    /// The condition of Jcc, CMOVcc and SETcc.
    pub condition: Option<Condition>,
    /// What a recompiler may do with it, where it is not as its family says.
    native: Option<Native>,
    /// What it leaves undefined.
    leaves: Leaves,
}

impl Row {
    /// A row with one function for all forms, which does not end the block.
    pub const fn plain(mnemonic: Mnemonic, exec: ExecFn) -> Self {
        Self::new(mnemonic, Handler::Plain(exec))
    }

    /// A row whose handler depends on the form.
    pub const fn by_form(mnemonic: Mnemonic, choose: fn(&Instruction) -> Option<Handler>) -> Self {
        Self::new(mnemonic, Handler::ByForm(choose))
    }

    /// A row whose function over the processor depends on the form.
    pub const fn choose(mnemonic: Mnemonic, choose: fn(&Instruction) -> Option<ExecFn>) -> Self {
        Self::new(mnemonic, Handler::Choose(choose))
    }

    /// A row whose handler is `handler`.
    pub const fn new(mnemonic: Mnemonic, handler: Handler) -> Self {
        Self {
            mnemonic,
            handler,
            feature: Feature::Base,
            ends: Ends::No,
            ends_when: None,
            privileged: false,
            condition: None,
            native: None,
            leaves: undefined::nothing,
        }
    }

    /// The feature it needs.
    pub const fn needs(mut self, feature: Feature) -> Self {
        self.feature = feature;
        self
    }

    /// It looks at the flags for this.
    pub const fn if_holds(mut self, condition: Condition) -> Self {
        self.condition = Some(condition);
        self
    }

    /// A recompiler may do this with it, whatever its family says.
    pub const fn native(mut self, native: Native) -> Self {
        self.native = Some(native);
        self
    }

    /// It leaves something undefined, which a recompiler must mend.
    pub const fn leaves(mut self, leaves: Leaves) -> Self {
        self.leaves = leaves;
        self.native(Native::Mend)
    }

    /// The block ends behind it.
    pub const fn ends_block(mut self) -> Self {
        self.ends = Ends::After;
        self
    }

    /// It sets the instruction pointer.
    pub const fn branches(mut self) -> Self {
        self.ends = Ends::Branch;
        self
    }

    /// Forms of which `when` holds set the instruction pointer; the others do not end the block.
    pub const fn branches_when(mut self, when: fn(&Instruction) -> bool) -> Self {
        self.ends = Ends::Branch;
        self.ends_when = Some(when);
        self
    }

    /// How the instruction `iced` ends its block.
    pub fn ends(&self, iced: &Instruction) -> Ends {
        let register = iced.op0_register();
        if register == Register::SS && self.mnemonic != Mnemonic::Push
            || register.is_cr()
            || register.is_dr()
            || register.is_tr()
        {
            // MOV and POP to a register on which the mode may depend. The other segment registers cut their block
            // where they change it.
            return Ends::After;
        }
        match self.ends_when {
            Some(when) if !when(iced) => Ends::No,
            _ => self.ends,
        }
    }

    /// What a recompiler may do with the form `iced`.
    pub fn native_form(&self, iced: &Instruction) -> Native {
        let special = |register: Register| {
            register.is_segment_register()
                || register.is_cr()
                || register.is_dr()
                || register.is_tr()
        };
        let far = matches!(iced.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32)
            || matches!(
                iced.memory_size(),
                MemorySize::SegPtr16 | MemorySize::SegPtr32 | MemorySize::SegPtr64
            );
        if far || special(iced.op0_register()) || special(iced.op1_register()) {
            return Native::Call;
        }
        self.native.unwrap_or(Native::Call)
    }

    /// What the instruction `iced`, with the shift count `count` as the processor masks it, leaves undefined.
    pub fn undefined(&self, iced: &Instruction, count: u32) -> Undefined {
        (self.leaves)(iced, count)
    }

    /// #GP(0) unless the CPL is 0.
    pub const fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }
}

/// The rows of one family, and what a recompiler may do with those that do not say it themselves.
pub(crate) struct Family {
    pub(crate) rows: &'static [Row],
    pub(crate) native: Native,
}

/// The row of `mnemonic`, if there is one.
pub fn row(mnemonic: Mnemonic) -> Option<&'static Row> {
    table()[mnemonic as usize].as_ref()
}

/// All rows, for listings and for tests that cover every instruction.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    table().iter().flatten()
}

/// The rows by mnemonic.
fn table() -> &'static [Option<Row>] {
    static TABLE: OnceLock<Vec<Option<Row>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec![None; Mnemonic::values().len()];
        for family in ops::FAMILIES {
            for row in family.rows {
                let slot: &mut Option<Row> = &mut table[row.mnemonic as usize];
                assert!(slot.is_none(), "{:?} has two rows", row.mnemonic);
                *slot = Some(Row {
                    native: row.native.or(Some(family.native)),
                    ..*row
                });
            }
        }
        table
    })
}

/// The vector extensions that one form of an instruction needs, where they differ by its operands: PADDD came to the
/// XMM registers with SSE2.
pub(crate) fn form_features(code: Code) -> impl Iterator<Item = Feature> {
    code.cpuid_features()
        .iter()
        .map(move |feature| match feature {
            // SDM vol. 1 §11.4.3, though vol. 2 has it as MMX.
            CpuidFeature::MMX if code == Code::Paddq_mm_mmm64 => Feature::Sse2,
            CpuidFeature::MMX => Feature::Mmx,
            CpuidFeature::SSE => Feature::Sse,
            CpuidFeature::SSE2 => Feature::Sse2,
            CpuidFeature::SSE3 => Feature::Sse3,
            CpuidFeature::SSSE3 => Feature::Ssse3,
            CpuidFeature::SSE4_1 => Feature::Sse41,
            CpuidFeature::SSE4_2 => Feature::Sse42,
            CpuidFeature::AES => Feature::Aes,
            CpuidFeature::PCLMULQDQ => Feature::Pclmulqdq,
            _ => Feature::Base,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What x86-64-v2 and the extras of the `max` model consist of.
    fn is_ours(feature: CpuidFeature) -> bool {
        use CpuidFeature::*;
        matches!(
            feature,
            INTEL8086
                | INTEL8086_ONLY
                | INTEL186
                | INTEL286
                | INTEL386
                | INTEL486
                | X64
                | FPU
                | FPU287
                | FPU387
                | CMOV
                | CMPXCHG16B
                | CX8
                | CPUID
                | TSC
                | MSR
                | MMX
                | FXSR
                | SEP
                | SYSCALL
                | SSE
                | SSE2
                | SSE3
                | SSSE3
                | SSE4_1
                | SSE4_2
                | AES
                | PCLMULQDQ
                | POPCNT
                | MOVBE
                | LZCNT
                | BMI1
                | BMI2
                | ADX
                | RDTSCP
                | CLFSH
                | XSAVE
                | XSAVEOPT
                | XSAVEC
                | XSAVES
                | MONITOR
                | PREFETCHW
                | RDRAND
                | RDSEED
                | FSGSBASE
                | SMAP
                | INVPCID
                | MULTIBYTENOP
                | PAUSE
                | CLFLUSHOPT
                | RDPMC
        )
    }

    /// Mnemonics of those features that this machine answers with #UD, and why.
    #[rustfmt::skip]
    const LEFT_OUT: &[(&str, &str)] = &[
        ("Fclex", "WAIT, then FNCLEX"), ("Fdisi", "WAIT, then FNDISI"), ("Feni", "WAIT, then FNENI"),
        ("Finit", "WAIT, then FNINIT"), ("Fsave", "WAIT, then FNSAVE"), ("Fsetpm", "WAIT, then FNSETPM"),
        ("Fstcw", "WAIT, then FNSTCW"), ("Fstenv", "WAIT, then FNSTENV"), ("Fstsw", "WAIT, then FNSTSW"),
        ("Prefetch", "decoded as Reservednop"), ("Prefetchw", "likewise"), ("Prefetchnta", "likewise"),
        ("Prefetcht0", "likewise"), ("Prefetcht1", "likewise"), ("Prefetcht2", "likewise"),
        ("Ud0", "#UD is what it does"), ("Ud1", "likewise"), ("Ud2", "likewise"),
        ("Zero_bytes", "no instruction"), ("INVALID", "no instruction"),
        ("Db", "data"), ("Dw", "data"), ("Dd", "data"), ("Dq", "data"),
    ];

    #[test]
    fn every_instruction_of_the_models_has_a_row() {
        let mut missing: Vec<String> = Code::values()
            .filter(|code| {
                let features = code.cpuid_features();
                !features.is_empty() && features.iter().all(|feature| is_ours(*feature))
            })
            .map(|code| code.mnemonic())
            .filter(|mnemonic| row(*mnemonic).is_none())
            .map(|mnemonic| format!("{mnemonic:?}"))
            .filter(|name| !LEFT_OUT.iter().any(|(left_out, _)| left_out == name))
            .collect();
        missing.sort();
        missing.dedup();
        assert!(missing.is_empty(), "no row: {}", missing.join(" "));
    }

    #[test]
    fn what_leaves_something_undefined_is_not_simply_reencoded() {
        for row in rows() {
            let mut any = false;
            for code in Code::values().filter(|code| code.mnemonic() == row.mnemonic) {
                let mut iced = Instruction::default();
                iced.set_code(code);
                any |= (0..64).any(|count| row.undefined(&iced, count) != Undefined::default());
            }
            assert!(row.native.is_some(), "{:?}: no answer", row.mnemonic);
            if any {
                assert_ne!(row.native, Some(Native::Reencode), "{:?}", row.mnemonic);
            }
        }
    }

    #[test]
    fn what_touches_system_state_is_called() {
        use Mnemonic::{Cli, Cpuid, Hlt, In, Iretq, Lgdt, Popfq, Rcpps, Wrmsr, Xsave};
        for mnemonic in [Cli, Cpuid, Hlt, In, Iretq, Lgdt, Popfq, Rcpps, Wrmsr, Xsave] {
            let row = row(mnemonic).expect("the row is there");
            assert_eq!(row.native, Some(Native::Call), "{mnemonic:?}");
        }
        let mov = row(Mnemonic::Mov).expect("MOV has a row");
        let decode = |bytes: &[u8]| iced_x86::Decoder::new(64, bytes, 0).decode();
        assert_eq!(mov.native_form(&decode(&[0x8B, 0xC1])), Native::Reencode);
        assert_eq!(mov.native_form(&decode(&[0x8E, 0xD9])), Native::Call);
        assert_eq!(mov.native_form(&decode(&[0x0F, 0x22, 0xC0])), Native::Call);
    }

    /// The feature of a model that has what iced calls `feature`.
    fn model_feature(feature: CpuidFeature) -> Feature {
        match feature {
            CpuidFeature::INTEL486 => Feature::I486,
            CpuidFeature::CPUID => Feature::Cpuid,
            CpuidFeature::CMOV => Feature::Cmov,
            CpuidFeature::CX8 => Feature::Cx8,
            CpuidFeature::CMPXCHG16B => Feature::Cx16,
            CpuidFeature::TSC => Feature::Tsc,
            CpuidFeature::MSR => Feature::Msr,
            CpuidFeature::FXSR => Feature::Fxsr,
            CpuidFeature::SEP => Feature::Sep,
            CpuidFeature::SYSCALL => Feature::Syscall,
            CpuidFeature::POPCNT => Feature::Popcnt,
            CpuidFeature::MOVBE => Feature::Movbe,
            CpuidFeature::BMI2 => Feature::Bmi2,
            CpuidFeature::ADX => Feature::Adx,
            CpuidFeature::RDTSCP => Feature::Rdtscp,
            CpuidFeature::CLFSH => Feature::Clflush,
            CpuidFeature::CLFLUSHOPT => Feature::Clflushopt,
            CpuidFeature::XSAVE => Feature::Xsave,
            CpuidFeature::XSAVEOPT => Feature::Xsaveopt,
            CpuidFeature::XSAVEC => Feature::Xsavec,
            CpuidFeature::XSAVES => Feature::Xsaves,
            CpuidFeature::RDRAND => Feature::Rdrand,
            CpuidFeature::RDSEED => Feature::Rdseed,
            CpuidFeature::FSGSBASE => Feature::FsGsBase,
            CpuidFeature::SMAP => Feature::Smap,
            CpuidFeature::INVPCID => Feature::Invpcid,
            CpuidFeature::RDPMC => Feature::Pmc,
            CpuidFeature::MONITOR => Feature::Monitor,
            // MULTIBYTENOP too: its forms are decoded as reserved ones.
            _ => Feature::Base,
        }
    }

    #[test]
    fn every_form_needs_the_features_that_it_came_with() {
        let mut missing = Vec::new();
        for code in Code::values() {
            let Some(row) = row(code.mnemonic()) else {
                continue;
            };
            let needed: Vec<Feature> = form_features(code).chain([row.feature]).collect();
            for feature in code.cpuid_features() {
                let feature = model_feature(*feature);
                if feature != Feature::Base && !needed.contains(&feature) {
                    missing.push(format!("{code:?}: {feature:?}"));
                }
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }
}
