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
