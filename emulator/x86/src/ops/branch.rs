//! Near branches: JMP, Jcc, CALL, RET, LOOP, JCXZ. SDM vol. 2A and 2B.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::form::{self, Memory, Register, Source};
use super::mov::by_condition;
use crate::cpu::Reg;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::Condition;
use crate::insn::{ExecFn, Insn};
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::{D, Q, W16, Width};

type Done = Result<(), Exception>;

macro_rules! jumps {
    ($($condition:ident $mnemonic:ident)*) => {
        &[$(Row::choose(Mnemonic::$mnemonic, |iced| jcc(iced, Condition::$condition)).branches()),*]
    };
}

pub(crate) const CONDITIONAL_ROWS: &[Row] = jumps! {
    O Jo No Jno B Jb Ae Jae E Je Ne Jne Be Jbe A Ja S Js Ns Jns P Jp Np Jnp L Jl Ge Jge Le Jle G Jg
};

pub(crate) const ROWS: &[Row] = &[
    Row::choose(Mnemonic::Jmp, choose_jmp).branches(),
    Row::choose(Mnemonic::Call, choose_call).branches(),
    Row::choose(Mnemonic::Ret, choose_ret).branches(),
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
        match $iced.op_kind(0) {
            OpKind::NearBranch16 => {
                type $w = W16;
                $body
            }
            OpKind::NearBranch32 => {
                type $w = D;
                $body
            }
            OpKind::NearBranch64 => {
                type $w = Q;
                $body
            }
            _ => return None,
        }
    };
}

/// Jcc.
pub(crate) fn jump_if<E: Emit, W: Width, const CC: usize>(e: &mut E, insn: &Insn) -> Done {
    let cond = e.condition(Condition::ALL[CC]);
    e.branch::<W>(insn, cond)
}

fn jcc(iced: &Instruction, condition: Condition) -> Option<ExecFn> {
    Some(by_condition!(condition, CC => by_branch!(iced, W => jump_if::<Vcpu, W, CC> as ExecFn)))
}

/// JMP rel.
pub(crate) fn jmp<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    e.jump_near::<W>(insn)
}

/// JMP r/m.
pub(crate) fn jmp_indirect<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let target = S::read::<E, W>(e, insn)?;
    e.jump::<W>(insn, target)
}

/// CALL rel.
fn call(v: &mut Vcpu, insn: &Insn, target: u64, push: fn(&mut Vcpu, &Insn) -> Done) -> Done {
    v.check_target(target)?;
    push(v, insn)?;
    v.set_ip(target);
    Ok(())
}

fn push_return<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let address = v.return_address::<W>(insn);
    v.push::<W>(insn, address)
}

fn call_near<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let target = v.near_target::<W>(insn);
    call(v, insn, target, push_return::<W>)
}

fn call_indirect<W: Width, S: Source>(v: &mut Vcpu, insn: &Insn) -> Done {
    let target = S::read::<Vcpu, W>(v, insn)?;
    call(v, insn, target, push_return::<W>)
}

/// RET, with the bytes to drop as the immediate (0 without).
pub(crate) fn ret<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    let target = e.peek::<W>(insn, 0)?;
    e.jump::<W>(insn, target)?;
    e.drop_stack(W::BYTES + insn.imm);
    Ok(())
}

fn choose_jmp(iced: &Instruction) -> Option<ExecFn> {
    match iced.op_kind(0) {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            Some(by_branch!(iced, W => jmp::<Vcpu, W> as ExecFn))
        }
        OpKind::FarBranch16 | OpKind::FarBranch32 => super::choose_far(iced),
        OpKind::Memory if is_far(iced) => super::choose_far(iced),
        kind => Some(match (form::width(iced, 0), kind == OpKind::Memory) {
            (16, false) => jmp_indirect::<Vcpu, W16, Register<0>> as ExecFn,
            (32, false) => jmp_indirect::<Vcpu, D, Register<0>>,
            (_, false) => jmp_indirect::<Vcpu, Q, Register<0>>,
            (16, true) => jmp_indirect::<Vcpu, W16, Memory>,
            (32, true) => jmp_indirect::<Vcpu, D, Memory>,
            (_, true) => jmp_indirect::<Vcpu, Q, Memory>,
        }),
    }
}

fn choose_call(iced: &Instruction) -> Option<ExecFn> {
    match iced.op_kind(0) {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            Some(by_branch!(iced, W => call_near::<W> as ExecFn))
        }
        OpKind::FarBranch16 | OpKind::FarBranch32 => super::choose_far(iced),
        OpKind::Memory if is_far(iced) => super::choose_far(iced),
        kind => Some(match (form::width(iced, 0), kind == OpKind::Memory) {
            (16, false) => call_indirect::<W16, Register<0>> as ExecFn,
            (32, false) => call_indirect::<D, Register<0>>,
            (_, false) => call_indirect::<Q, Register<0>>,
            (16, true) => call_indirect::<W16, Memory>,
            (32, true) => call_indirect::<D, Memory>,
            (_, true) => call_indirect::<Q, Memory>,
        }),
    }
}

fn is_far(iced: &Instruction) -> bool {
    use Code::{Call_m1616, Call_m1632, Call_m1664, Jmp_m1616, Jmp_m1632, Jmp_m1664};
    matches!(
        iced.code(),
        Call_m1616 | Call_m1632 | Call_m1664 | Jmp_m1616 | Jmp_m1632 | Jmp_m1664
    )
}

fn choose_ret(iced: &Instruction) -> Option<ExecFn> {
    Some(match iced.code() {
        Code::Retnw | Code::Retnw_imm16 => ret::<Vcpu, W16> as ExecFn,
        Code::Retnd | Code::Retnd_imm16 => ret::<Vcpu, D>,
        _ => ret::<Vcpu, Q>,
    })
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
        v.check_target(v.near_target::<W>(insn))?;
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
