//! Operands as types.

use iced_x86::{Instruction, OpKind};

use crate::emit::Emit;
use crate::exception::Exception;
use crate::insn::{Insn, NO_OPERAND};
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

/// A source that is a vector: an XMM register, or 128 bits of memory.
pub(crate) trait VectorSource {
    /// Reads it; `aligned`: memory off a 16-byte boundary raises #GP(0).
    fn read_vector<E: Emit>(e: &mut E, insn: &Insn, aligned: bool) -> Result<E::Vector, Exception>;
}

/// A memory operand, whose address can be had by itself.
pub(crate) trait Addressed {
    /// The offset within the segment.
    fn address<E: Emit>(e: &mut E, insn: &Insn) -> E::Val;
}

/// Operand number `N`, wherever it is: looked up when the instruction runs.
pub(crate) struct Any<const N: usize>;
/// Register operand number `N`.
pub(crate) struct Register<const N: usize>;
/// The memory operand.
pub(crate) struct Memory;
/// The immediate.
pub(crate) struct Immediate;

impl<const N: usize> Source for Any<N> {
    #[inline(always)]
    fn read<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<E::Val, Exception> {
        if insn.mem_op == N as u8 {
            Memory::read::<E, W>(e, insn)
        } else if insn.r[N] != NO_OPERAND {
            Register::<N>::read::<E, W>(e, insn)
        } else {
            Immediate::read::<E, W>(e, insn)
        }
    }
}

impl<const N: usize> Target for Any<N> {
    type Hold<E: Emit> = Option<E::Place>;
    #[inline(always)]
    fn begin<E: Emit, W: Width>(
        e: &mut E,
        insn: &Insn,
    ) -> Result<(E::Val, Option<E::Place>), Exception> {
        if insn.mem_op == N as u8 {
            let (value, place) = Memory::begin::<E, W>(e, insn)?;
            Ok((value, Some(place)))
        } else {
            Ok((e.reg::<W>(insn.r[N]), None))
        }
    }
    #[inline(always)]
    fn finish<E: Emit, W: Width>(e: &mut E, insn: &Insn, place: Option<E::Place>, value: E::Val) {
        match place {
            Some(place) => e.store_update::<W>(insn, place, value),
            None => e.set_reg::<W>(insn.r[N], value),
        }
    }
    #[inline(always)]
    fn write<E: Emit, W: Width>(e: &mut E, insn: &Insn, value: E::Val) -> Result<(), Exception> {
        if insn.mem_op == N as u8 {
            Memory::write::<E, W>(e, insn, value)
        } else {
            Register::<N>::write::<E, W>(e, insn, value)
        }
    }
}

impl<const N: usize> VectorSource for Any<N> {
    #[inline(always)]
    fn read_vector<E: Emit>(e: &mut E, insn: &Insn, aligned: bool) -> Result<E::Vector, Exception> {
        if insn.mem_op == N as u8 {
            Memory::read_vector(e, insn, aligned)
        } else {
            Register::<N>::read_vector(e, insn, aligned)
        }
    }
}

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

impl<const N: usize> VectorSource for Register<N> {
    #[inline(always)]
    fn read_vector<E: Emit>(e: &mut E, insn: &Insn, _: bool) -> Result<E::Vector, Exception> {
        Ok(e.xmm(insn.r[N]))
    }
}

impl Addressed for Memory {
    #[inline(always)]
    fn address<E: Emit>(e: &mut E, insn: &Insn) -> E::Val {
        e.address(insn)
    }
}

impl<A: Addressed> Source for A {
    #[inline(always)]
    fn read<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<E::Val, Exception> {
        let address = A::address(e, insn);
        e.load::<W>(insn, address)
    }
}

impl<A: Addressed> Target for A {
    type Hold<E: Emit> = E::Place;
    #[inline(always)]
    fn begin<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<(E::Val, E::Place), Exception> {
        let address = A::address(e, insn);
        e.load_for_update::<W>(insn, address)
    }
    #[inline(always)]
    fn finish<E: Emit, W: Width>(e: &mut E, insn: &Insn, place: E::Place, value: E::Val) {
        e.store_update::<W>(insn, place, value);
    }
    #[inline(always)]
    fn write<E: Emit, W: Width>(e: &mut E, insn: &Insn, value: E::Val) -> Result<(), Exception> {
        let address = A::address(e, insn);
        e.store::<W>(insn, address, value)
    }
}

impl<A: Addressed> VectorSource for A {
    #[inline(always)]
    fn read_vector<E: Emit>(e: &mut E, insn: &Insn, aligned: bool) -> Result<E::Vector, Exception> {
        let address = A::address(e, insn);
        e.load_vector(insn, address, aligned)
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

pub(crate) use by_width;
