//! Near branches: JMP, Jcc, CALL, RET, LOOP, JCXZ. SDM vol. 2A and 2B.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::form::Source;
use crate::choice::{Bare, Generic, IsBare, Semantics, generic, width};
use crate::cpu::Reg;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::Condition;
use crate::insn::{ExecFn, Insn};
use crate::table::{Handler, Row};
use crate::vcpu::Vcpu;
use crate::width::{D, Q, W16, Width};

type Done = Result<(), Exception>;

/// What `Semantics` asks of a branch to a fixed target, and of one through a register or memory.
macro_rules! near_branch {
    () => {
        const BRANCHES: bool = true;
        const NATIVE: bool = true;
        const WIDTHS: u8 = width::WORDS;
        const FREQUENT: u8 = width::D | width::Q;
        fn bits(iced: &Instruction) -> usize {
            near_bits(iced)
        }
    };
}
macro_rules! near_branch_indirect {
    () => {
        const BRANCHES: bool = true;
        const NATIVE: bool = true;
        const WIDTHS: u8 = width::WORDS;
        const FREQUENT: u8 = width::D | width::Q;
    };
}

/// How a function finds its condition.
pub(crate) trait Test {
    /// The condition of `insn`.
    fn of(insn: &Insn) -> Condition;
}

/// The condition by its number.
pub(crate) struct Fixed<const CC: usize>;
impl<const CC: usize> Test for Fixed<CC> {
    #[inline(always)]
    fn of(_: &Insn) -> Condition {
        Condition::ALL[CC]
    }
}

/// The condition as the decoder has noted it: for functions that are not worth sixteen.
pub(crate) struct InInsn;
impl Test for InInsn {
    #[inline(always)]
    fn of(insn: &Insn) -> Condition {
        Condition::ALL[usize::from(insn.imm2 & 15)]
    }
}

/// Makes a `match` over the sixteen conditions, with the condition as a constant.
macro_rules! by_condition {
    ($condition:expr, $cc:ident => $body:expr) => {
        by_condition!(@ $condition, $cc, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $condition:expr, $cc:ident, $body:expr, $($n:literal)*) => {
        match $condition as usize {
            $($n => { const $cc: usize = $n; $body })*
            _ => unreachable!("there are sixteen conditions"),
        }
    };
}
pub(crate) use by_condition;

/// Jcc, with the condition as `C` finds it.
struct Jcc<C>(std::marker::PhantomData<C>);
impl<C: Test> Semantics for Jcc<C> {
    near_branch!();
}
impl<C: Test> Bare for Jcc<C> {
    #[inline(always)]
    fn call<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
        jump_if::<E, W, C>(e, insn)
    }
}

macro_rules! jumps {
    ($($condition:ident $mnemonic:ident)*) => {
        &[$(
            Row::new(Mnemonic::$mnemonic, Handler::Generic(const { &Generic::split::<
                IsBare<Jcc<InInsn>>,
                IsBare<Jcc<Fixed<{ Condition::$condition as usize }>>>,
            >() }))
            .if_holds(Condition::$condition)
            .branches()
        ),*]
    };
}

pub(crate) const CONDITIONAL_ROWS: &[Row] = jumps! {
    O Jo No Jno B Jb Ae Jae E Je Ne Jne Be Jbe A Ja S Js Ns Jns P Jp Np Jnp L Jl Ge Jge Le Jle G Jg
};

pub(crate) const ROWS: &[Row] = &[
    Row::by_form(Mnemonic::Jmp, choose_jmp).branches(),
    Row::by_form(Mnemonic::Call, choose_call).branches(),
    Row::new(
        Mnemonic::Ret,
        generic!(Bare ret {
            const BRANCHES: bool = true;
            const NATIVE: bool = true;
            const WIDTHS: u8 = width::WORDS;
            const FREQUENT: u8 = width::D | width::Q;
            fn bits(iced: &Instruction) -> usize {
                match iced.code() {
                    Code::Retnw | Code::Retnw_imm16 => 16,
                    Code::Retnd | Code::Retnd_imm16 => 32,
                    _ => 64,
                }
            }
        }),
    )
    .branches(),
    Row::choose(Mnemonic::Loop, |iced| counted(iced, Counted::Loop)).branches(),
    Row::choose(Mnemonic::Loope, |iced| counted(iced, Counted::Loope)).branches(),
    Row::choose(Mnemonic::Loopne, |iced| counted(iced, Counted::Loopne)).branches(),
    Row::choose(Mnemonic::Jcxz, |iced| counted(iced, Counted::Jcxz)).branches(),
    Row::choose(Mnemonic::Jecxz, |iced| counted(iced, Counted::Jcxz)).branches(),
    Row::choose(Mnemonic::Jrcxz, |iced| counted(iced, Counted::Jcxz)).branches(),
];

/// Chooses by the operand size of a near branch.
macro_rules! by_branch {
    ($iced:expr, $w:ident => $body:expr) => {
        match near_bits($iced) {
            16 => {
                type $w = W16;
                $body
            }
            32 => {
                type $w = D;
                $body
            }
            64 => {
                type $w = Q;
                $body
            }
            _ => return None,
        }
    };
}

/// The operand size of a near branch to a fixed target; 0 for another operand.
fn near_bits(iced: &Instruction) -> usize {
    match iced.op_kind(0) {
        OpKind::NearBranch16 => 16,
        OpKind::NearBranch32 => 32,
        OpKind::NearBranch64 => 64,
        _ => 0,
    }
}

/// Jcc.
pub(crate) fn jump_if<E: Emit, W: Width, C: Test>(e: &mut E, insn: &Insn) -> Done {
    let cond = e.condition(C::of(insn));
    e.branch::<W>(insn, cond)
}

/// JMP rel.
fn jmp<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    let target = e.near_target::<W>(insn);
    e.jump::<W>(target)
}

/// JMP r/m.
fn jmp_indirect<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let target = S::read::<E, W>(e, insn)?;
    e.jump::<W>(target)
}

/// CALL rel.
fn call<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    let target = e.near_target::<W>(insn);
    call_to::<E, W>(e, insn, target)
}

/// CALL r/m.
fn call_indirect<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let target = S::read::<E, W>(e, insn)?;
    call_to::<E, W>(e, insn, target)
}

/// The target is checked before anything is pushed.
#[inline(always)]
fn call_to<E: Emit, W: Width>(e: &mut E, insn: &Insn, target: E::Val) -> Done {
    e.check_target(target)?;
    let next = e.next_ip(insn);
    let next = e.zext::<W>(next);
    e.push::<W>(insn, next)?;
    e.set_ip(target);
    Ok(())
}

/// RET, with the bytes to drop as the immediate (0 without).
fn ret<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    let target = e.peek::<W>(insn, 0)?;
    e.jump::<W>(target)?;
    e.drop_stack(W::BYTES + insn.imm);
    Ok(())
}

fn choose_jmp(iced: &Instruction) -> Option<Handler> {
    if is_far(iced) {
        return super::choose_far(iced).map(Handler::Plain);
    }
    Some(match near_bits(iced) {
        0 => generic!(Reads<0> jmp_indirect { near_branch_indirect!(); }),
        _ => generic!(Bare jmp { near_branch!(); }),
    })
}

fn choose_call(iced: &Instruction) -> Option<Handler> {
    if is_far(iced) {
        return super::choose_far(iced).map(Handler::Plain);
    }
    Some(match near_bits(iced) {
        0 => generic!(Reads<0> call_indirect { near_branch_indirect!(); }),
        _ => generic!(Bare call { near_branch!(); }),
    })
}

fn is_far(iced: &Instruction) -> bool {
    use Code::{Call_m1616, Call_m1632, Call_m1664, Jmp_m1616, Jmp_m1632, Jmp_m1664};
    matches!(iced.op_kind(0), OpKind::FarBranch16 | OpKind::FarBranch32)
        || matches!(
            iced.code(),
            Call_m1616 | Call_m1632 | Call_m1664 | Jmp_m1616 | Jmp_m1632 | Jmp_m1664
        )
}

#[derive(Clone, Copy)]
enum Counted {
    Loop,
    Loope,
    Loopne,
    Jcxz,
}

/// LOOP: the counter is as wide as the address size `C`.
fn count_down<W: Width, C: Width, const KIND: u8>(v: &mut Vcpu, insn: &Insn) -> Done {
    let count = C::zext(v.get::<C>(Reg::RCX as u8).wrapping_sub(1));
    let zero = v.condition(Condition::E);
    let taken = count != 0
        && match KIND {
            0 => true,
            1 => zero,
            _ => !zero,
        };
    if taken {
        let target = v.near_target::<W>(insn);
        v.check_target(target)?;
    }
    v.set::<C>(Reg::RCX as u8, count);
    v.branch::<W>(insn, taken)
}

/// JCXZ, JECXZ, JRCXZ.
fn jump_if_zero<W: Width, C: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let zero = v.get::<C>(Reg::RCX as u8) == 0;
    v.branch::<W>(insn, zero)
}

fn counted(iced: &Instruction, kind: Counted) -> Option<ExecFn> {
    macro_rules! forms {
        ($w:ty, $c:ty) => {
            match kind {
                Counted::Loop => count_down::<$w, $c, 0> as ExecFn,
                Counted::Loope => count_down::<$w, $c, 1>,
                Counted::Loopne => count_down::<$w, $c, 2>,
                Counted::Jcxz => jump_if_zero::<$w, $c>,
            }
        };
    }
    use Code::*;
    let counter = match iced.code() {
        Loop_rel8_16_CX | Loop_rel8_32_CX | Loope_rel8_16_CX | Loope_rel8_32_CX
        | Loopne_rel8_16_CX | Loopne_rel8_32_CX | Jcxz_rel8_16 | Jcxz_rel8_32 => 16,
        Loop_rel8_16_ECX | Loop_rel8_32_ECX | Loop_rel8_64_ECX | Loope_rel8_16_ECX
        | Loope_rel8_32_ECX | Loope_rel8_64_ECX | Loopne_rel8_16_ECX | Loopne_rel8_32_ECX
        | Loopne_rel8_64_ECX | Jecxz_rel8_16 | Jecxz_rel8_32 | Jecxz_rel8_64 => 32,
        _ => 64,
    };
    Some(by_branch!(iced, W => match counter {
        16 => forms!(W, W16),
        32 => forms!(W, D),
        _ => forms!(W, Q),
    }))
}
