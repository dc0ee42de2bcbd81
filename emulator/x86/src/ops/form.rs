//! Operand forms as types, and the choice of a handler by form and width.

use iced_x86::{Instruction, OpKind};

use crate::emit::Emit;
use crate::exception::Exception;
use crate::insn::Insn;
use crate::width::Width;

/// An operand that can be read.
pub(crate) trait Source {
    /// Reads it.
    fn read<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<E::Val, Exception>;
}

/// An operand that can be read, changed and written, or only written.
pub(crate) trait Target: Source {
    /// What is kept between reading and writing.
    type Hold<E: Emit>: Copy;
    /// Reads it, checking first that it can be written.
    fn begin<E: Emit, W: Width>(
        e: &mut E,
        insn: &Insn,
    ) -> Result<(E::Val, Self::Hold<E>), Exception>;
    /// Writes it. Cannot fault.
    fn finish<E: Emit, W: Width>(e: &mut E, insn: &Insn, hold: Self::Hold<E>, value: E::Val);
    /// Writes it without having read it.
    fn write<E: Emit, W: Width>(e: &mut E, insn: &Insn, value: E::Val) -> Result<(), Exception>;
}

/// Register operand number `N`.
pub(crate) struct Register<const N: usize>;
/// The memory operand.
pub(crate) struct Memory;
/// The immediate.
pub(crate) struct Immediate;

impl<const N: usize> Source for Register<N> {
    #[inline(always)]
    fn read<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<E::Val, Exception> {
        Ok(e.reg::<W>(insn.r[N]))
    }
}

impl<const N: usize> Target for Register<N> {
    type Hold<E: Emit> = ();
    #[inline(always)]
    fn begin<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<(E::Val, ()), Exception> {
        Ok((e.reg::<W>(insn.r[N]), ()))
    }
    #[inline(always)]
    fn finish<E: Emit, W: Width>(e: &mut E, insn: &Insn, (): (), value: E::Val) {
        e.set_reg::<W>(insn.r[N], value);
    }
    #[inline(always)]
    fn write<E: Emit, W: Width>(e: &mut E, insn: &Insn, value: E::Val) -> Result<(), Exception> {
        e.set_reg::<W>(insn.r[N], value);
        Ok(())
    }
}

impl Source for Memory {
    #[inline(always)]
    fn read<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<E::Val, Exception> {
        let address = e.address(insn);
        e.load::<W>(insn, address)
    }
}

impl Target for Memory {
    type Hold<E: Emit> = E::Place;
    #[inline(always)]
    fn begin<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<(E::Val, E::Place), Exception> {
        let address = e.address(insn);
        e.load_for_update::<W>(insn, address)
    }
    #[inline(always)]
    fn finish<E: Emit, W: Width>(e: &mut E, insn: &Insn, place: E::Place, value: E::Val) {
        e.store_update::<W>(insn, place, value);
    }
    #[inline(always)]
    fn write<E: Emit, W: Width>(e: &mut E, insn: &Insn, value: E::Val) -> Result<(), Exception> {
        let address = e.address(insn);
        e.store::<W>(insn, address, value)
    }
}

impl Source for Immediate {
    #[inline(always)]
    fn read<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<E::Val, Exception> {
        Ok(e.constant(W::zext(insn.imm)))
    }
}

/// Where the first two operands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    R,
    M,
    RR,
    RM,
    MR,
    RI,
    MI,
    I,
}

/// The form of an instruction's first two operands; a second one beyond is not looked at.
pub(crate) fn form(iced: &Instruction) -> Option<Form> {
    let kind = |n: u32| match iced.op_kind(n) {
        OpKind::Register => 'r',
        OpKind::Memory => 'm',
        _ => 'i',
    };
    Some(match iced.op_count() {
        0 => return None,
        1 => match kind(0) {
            'r' => Form::R,
            'm' => Form::M,
            _ => Form::I,
        },
        _ => match (kind(0), kind(1)) {
            ('r', 'r') => Form::RR,
            ('r', 'm') => Form::RM,
            ('m', 'r') => Form::MR,
            ('r', _) => Form::RI,
            ('m', _) => Form::MI,
            _ => return None,
        },
    })
}

/// The width of operand `n`, in bits.
pub(crate) fn width(iced: &Instruction, n: u32) -> usize {
    8 * match iced.op_kind(n) {
        OpKind::Register => iced.op_register(n).size(),
        _ => iced.memory_size().size(),
    }
}

/// Chooses among `f::<Vcpu, W, Target, Source>` by the width and form of two operands.
macro_rules! two_operands {
    ($f:ident) => {
        |iced| {
            use $crate::ops::form::{Form, Immediate, Memory, Register, form, width};
            macro_rules! forms {
                ($w:ty) => {
                    match form(iced)? {
                        Form::RR => {
                            $f::<$crate::Vcpu, $w, Register<0>, Register<1>> as $crate::ExecFn
                        }
                        Form::RM => $f::<$crate::Vcpu, $w, Register<0>, Memory>,
                        Form::MR => $f::<$crate::Vcpu, $w, Memory, Register<1>>,
                        Form::RI => $f::<$crate::Vcpu, $w, Register<0>, Immediate>,
                        Form::MI => $f::<$crate::Vcpu, $w, Memory, Immediate>,
                        _ => return None,
                    }
                };
            }
            Some(match width(iced, 0) {
                8 => forms!($crate::width::B),
                16 => forms!($crate::width::W16),
                32 => forms!($crate::width::D),
                _ => forms!($crate::width::Q),
            })
        }
    };
}

/// Chooses among `f::<Vcpu, W, Target>` by the width and form of the first operand.
macro_rules! one_operand {
    ($f:ident) => {
        |iced| {
            use $crate::ops::form::{Memory, Register, width};
            let memory = iced.op_kind(0) == iced_x86::OpKind::Memory;
            macro_rules! forms {
                ($w:ty) => {
                    if memory {
                        $f::<$crate::Vcpu, $w, Memory> as $crate::ExecFn
                    } else {
                        $f::<$crate::Vcpu, $w, Register<0>>
                    }
                };
            }
            Some(match width(iced, 0) {
                8 => forms!($crate::width::B),
                16 => forms!($crate::width::W16),
                32 => forms!($crate::width::D),
                _ => forms!($crate::width::Q),
            })
        }
    };
}

/// Chooses among `f::<W>`, a plain function over the processor, by the width of operand `$n`.
macro_rules! by_width {
    ($f:ident, $n:expr) => {
        |iced| {
            Some(match $crate::ops::form::width(iced, $n) {
                8 => $f::<$crate::width::B> as $crate::ExecFn,
                16 => $f::<$crate::width::W16>,
                32 => $f::<$crate::width::D>,
                _ => $f::<$crate::width::Q>,
            })
        }
    };
}

pub(crate) use {by_width, one_operand, two_operands};
