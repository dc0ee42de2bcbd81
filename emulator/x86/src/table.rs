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

/// Rows by mnemonic. A mnemonic that names instructions of two register files (MMX and XMM) may have
/// two rows, which choose their forms; the one of the earlier family is asked first.
fn table() -> &'static [[Option<Row>; 2]] {
    static TABLE: OnceLock<Vec<[Option<Row>; 2]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec![[None; 2]; Mnemonic::values().len()];
        for row in rows() {
            let [first, second]: &mut [Option<Row>; 2] = &mut table[row.mnemonic as usize];
            let slot = match first {
                None => first,
                Some(Row {
                    handler: Handler::Choose(_),
                    ..
                }) if second.is_none() => second,
                Some(_) => panic!("{:?} has too many rows", row.mnemonic),
            };
            *slot = Some(*row);
        }
        table
    })
}

/// The row of `mnemonic`, if there is one.
pub fn row(mnemonic: Mnemonic) -> Option<&'static Row> {
    table()[mnemonic as usize][0].as_ref()
}

/// The row that serves `insn`, with the function for its form.
pub fn find(insn: &Instruction) -> Option<(&'static Row, ExecFn)> {
    table()[insn.mnemonic() as usize]
        .iter()
        .flatten()
        .find_map(|row| {
            let exec = match row.handler {
                Handler::Plain(exec) => exec,
                Handler::Choose(choose) => choose(insn)?,
            };
            Some((row, exec))
        })
}

/// All rows, for listings and for tests that cover every instruction.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    ops::FAMILIES.iter().flat_map(|family| family.iter())
}
