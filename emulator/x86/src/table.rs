//! Which instructions there are: one row a mnemonic. What has no row raises #UD.

use std::sync::OnceLock;

use iced_x86::{Instruction, Mnemonic};

use crate::cpuid::Feature;
use crate::insn::ExecFn;
use crate::ops;

/// How a row finds the function of an instruction.
#[derive(Clone, Copy)]
pub enum Handler {
    /// One function for all forms.
    Plain(ExecFn),
    /// The form decides; `None` is #UD.
    Choose(fn(&Instruction) -> Option<ExecFn>),
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
}

impl Row {
    /// A row with one function for all forms, which does not end the block.
    pub const fn plain(mnemonic: Mnemonic, exec: ExecFn) -> Self {
        Self::new(mnemonic, Handler::Plain(exec))
    }

    /// A row whose function depends on the form.
    pub const fn choose(mnemonic: Mnemonic, choose: fn(&Instruction) -> Option<ExecFn>) -> Self {
        Self::new(mnemonic, Handler::Choose(choose))
    }

    const fn new(mnemonic: Mnemonic, handler: Handler) -> Self {
        Self {
            mnemonic,
            handler,
            feature: Feature::Base,
            ends: Ends::No,
            ends_when: None,
            privileged: false,
        }
    }

    /// The feature it needs.
    pub const fn needs(mut self, feature: Feature) -> Self {
        self.feature = feature;
        self
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
        if register.is_segment_register()
            || register.is_cr()
            || register.is_dr()
            || register.is_tr()
        {
            // MOV and POP to a register on which the mode may depend.
            return Ends::After;
        }
        match self.ends_when {
            Some(when) if !when(iced) => Ends::No,
            _ => self.ends,
        }
    }

    /// #GP(0) unless the CPL is 0.
    pub const fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }
}

/// The row of `mnemonic`, if there is one.
pub fn row(mnemonic: Mnemonic) -> Option<&'static Row> {
    static TABLE: OnceLock<Vec<Option<Row>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table = vec![None; Mnemonic::values().len()];
        for row in ops::FAMILIES.iter().flat_map(|family| family.iter()) {
            let slot: &mut Option<Row> = &mut table[row.mnemonic as usize];
            assert!(slot.is_none(), "{:?} has two rows", row.mnemonic);
            *slot = Some(*row);
        }
        table
    });
    table[mnemonic as usize].as_ref()
}

/// All rows, for listings and for tests that cover every instruction.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    ops::FAMILIES.iter().flat_map(|family| family.iter())
}
