//! Handlers shared by the vector instructions: how MMX and XMM operands are read and written.

use iced_x86::{Instruction, OpKind};

use super::form::VectorSource;
use super::packed::ImmediateOperation;
use super::x87::{check_mmx, enter_mmx};
use crate::choice::{self, IsReadsVector, ReadsVector, Semantics};
use crate::emit::{Emit, VectorOp};
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn};
use crate::table::Handler;
use crate::vcpu::Vcpu;
use crate::width::{D, Q, Width};

type Done = Result<(), Exception>;

/// An operation on two vectors of `N` bytes, 8 or 16, in the low bytes of a `u128`.
pub(crate) trait Operation {
    /// Its name.
    const NAME: &str;
    /// Computes the result; the bytes above `N` are ignored.
    fn apply<const N: usize>(a: u128, b: u128) -> u128;
}

/// An [`Operation`] on XMM registers, as [`Emit::vector`] takes it.
struct OnXmm<O>(std::marker::PhantomData<O>);

impl<O: Operation> VectorOp for OnXmm<O> {
    const NAME: &str = O::NAME;
    #[inline(always)]
    fn apply(a: u128, b: u128) -> u128 {
        O::apply::<16>(a, b)
    }
}

/// Whether operand `n` is an MMX register.
pub(crate) fn is_mmx(iced: &Instruction, n: u32) -> bool {
    iced.op_kind(n) == OpKind::Register && iced.op_register(n).is_mm()
}

/// The MMX register `n`.
#[inline(always)]
pub(crate) fn mm(v: &Vcpu, n: u8) -> u64 {
    v.cpu.x87.st[usize::from(n & 7)].0
}

/// Writes MMX register `n`: the aliased x87 register's exponent becomes all ones.
#[inline(always)]
pub(crate) fn set_mm(v: &mut Vcpu, n: u8, value: u64) {
    v.cpu.x87.st[usize::from(n & 7)] = (value, 0xFFFF);
}

/// Reads operand `n` as an MMX register, or 64 bits of memory; 32 where the instruction takes no more (PUNPCKLBW and
/// its like, SDM vol. 2B).
pub(crate) fn read_mm(v: &mut Vcpu, insn: &Insn, n: u8) -> Result<u64, Exception> {
    if insn.is_mem(n) {
        let offset = v.effective_address(insn);
        if insn.op_size == 4 {
            v.load_operand::<D>(insn, offset)
        } else {
            v.load_operand::<Q>(insn, offset)
        }
    } else {
        Ok(mm(v, insn.r[usize::from(n)]))
    }
}

/// Reads operand `n` as an XMM register or 128 bits of memory.
#[inline(always)]
pub(crate) fn read_xmm(v: &mut Vcpu, insn: &Insn, n: u8, aligned: bool) -> Result<u128, Exception> {
    if insn.is_mem(n) {
        let offset = v.effective_address(insn);
        v.load_xmm(insn, offset, aligned)
    } else {
        Ok(v.xmm(insn.r[usize::from(n)]))
    }
}

/// Reads the low `W` bits of operand `n`: of an XMM register, or of memory.
#[inline(always)]
pub(crate) fn read_scalar<W: Width>(v: &mut Vcpu, insn: &Insn, n: u8) -> Result<u64, Exception> {
    if insn.is_mem(n) {
        let offset = v.effective_address(insn);
        v.load_operand::<W>(insn, offset)
    } else {
        Ok(W::zext(v.xmm(insn.r[usize::from(n)]) as u64))
    }
}

/// Replaces the low `W` bits of XMM register `n`.
#[inline(always)]
pub(crate) fn set_scalar<W: Width>(v: &mut Vcpu, n: u8, value: u64) {
    let mask = u128::from(W::MASK);
    let old = v.xmm(n);
    v.set_xmm(n, (old & !mask) | u128::from(W::zext(value)));
}

fn on_xmm<E: Emit, S: VectorSource, O: Operation>(e: &mut E, insn: &Insn) -> Done {
    e.check_sse()?;
    let b = S::read_vector(e, insn, true)?;
    let a = e.xmm(insn.r[0]);
    let result = e.vector::<OnXmm<O>>(a, b);
    e.set_xmm(insn.r[0], result);
    Ok(())
}

impl<O: Operation> Semantics for OnXmm<O> {}
impl<O: Operation> ReadsVector for OnXmm<O> {
    #[inline(always)]
    fn call<E: Emit, S: VectorSource>(e: &mut E, insn: &Insn) -> Done {
        on_xmm::<E, S, O>(e, insn)
    }
}

fn on_xmm_by_immediate<O: Operation>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let a = v.xmm(insn.r[0]);
    v.set_xmm(insn.r[0], O::apply::<16>(a, u128::from(insn.imm as u8)));
    Ok(())
}

fn on_mm<O: Operation>(v: &mut Vcpu, insn: &Insn) -> Done {
    check_mmx(v)?;
    let b = if insn.is_mem(1) || insn.r[1] != crate::insn::NO_OPERAND {
        read_mm(v, insn, 1)?
    } else {
        insn.imm & 0xFF
    };
    let a = mm(v, insn.r[0]);
    enter_mmx(v);
    set_mm(v, insn.r[0], O::apply::<8>(a.into(), b.into()) as u64);
    Ok(())
}

/// The handler of an operation by its register file.
pub(crate) fn choose_mmx_or_xmm<O: Operation>(iced: &Instruction) -> Option<Handler> {
    Some(if is_mmx(iced, 0) {
        Handler::Plain(on_mm::<O>)
    } else {
        choice::handler::<IsReadsVector<OnXmm<O>>>()
    })
}

/// The same for a shift, whose count may be an immediate.
pub(crate) fn choose_shift<O: Operation>(iced: &Instruction) -> Option<Handler> {
    let by_immediate = !matches!(iced.op_kind(1), OpKind::Register | OpKind::Memory);
    if by_immediate && !is_mmx(iced, 0) {
        return Some(Handler::Plain(on_xmm_by_immediate::<O>));
    }
    choose_mmx_or_xmm::<O>(iced)
}

fn xmm_with_immediate<O: ImmediateOperation>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let b = read_xmm(v, insn, 1, true)?;
    let a = v.xmm(insn.r[0]);
    v.set_xmm(insn.r[0], O::apply::<16>(a, b, insn.imm as u8));
    Ok(())
}

fn mm_with_immediate<O: ImmediateOperation>(v: &mut Vcpu, insn: &Insn) -> Done {
    check_mmx(v)?;
    let b = read_mm(v, insn, 1)?;
    let a = mm(v, insn.r[0]);
    enter_mmx(v);
    set_mm(
        v,
        insn.r[0],
        O::apply::<8>(a.into(), b.into(), insn.imm as u8) as u64,
    );
    Ok(())
}

/// The handler of an operation with an immediate, by its register file.
pub(crate) fn choose_with_immediate<O: ImmediateOperation>(iced: &Instruction) -> Option<ExecFn> {
    Some(if is_mmx(iced, 0) {
        mm_with_immediate::<O> as ExecFn
    } else {
        xmm_with_immediate::<O>
    })
}
