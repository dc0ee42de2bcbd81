//! Data movement: MOV, MOVZX, MOVSX, LEA, XCHG, BSWAP, MOVBE, CMOVcc, SETcc, XLAT, sign extensions. SDM vol. 2A and 2B.

use iced_x86::{Instruction, Mnemonic, OpKind, Register as IcedRegister};

use super::form::{self, Memory, Register, Source, Target, by_width, two_operands};
use crate::cpu::Reg;
use crate::cpuid::Feature;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::Condition;
use crate::insn::{ExecFn, Insn};
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

macro_rules! conditional {
    ($($condition:ident $cmov:ident $set:ident)*) => {
        &[
            $(
                Row::choose(Mnemonic::$cmov, |iced| cmov(iced, Condition::$condition)).needs(Feature::Cmov),
                Row::choose(Mnemonic::$set, |iced| set(iced, Condition::$condition)).needs(Feature::Base),
            )*
        ]
    };
}

pub(crate) const CONDITIONAL_ROWS: &[Row] = conditional! {
    O Cmovo Seto No Cmovno Setno B Cmovb Setb Ae Cmovae Setae E Cmove Sete Ne Cmovne Setne
    Be Cmovbe Setbe A Cmova Seta S Cmovs Sets Ns Cmovns Setns P Cmovp Setp Np Cmovnp Setnp
    L Cmovl Setl Ge Cmovge Setge Le Cmovle Setle G Cmovg Setg
};

pub(crate) const ROWS: &[Row] = &[
    Row::choose(Mnemonic::Mov, choose_mov),
    Row::choose(Mnemonic::Movzx, |iced| extend(iced, false)),
    Row::choose(Mnemonic::Movsx, |iced| extend(iced, true)),
    Row::choose(Mnemonic::Movsxd, |iced| extend(iced, true)),
    Row::choose(Mnemonic::Lea, by_width!(lea, 0)),
    Row::choose(Mnemonic::Xchg, choose_xchg),
    Row::choose(Mnemonic::Bswap, by_width!(bswap, 0)).needs(Feature::I486),
    Row::choose(Mnemonic::Movbe, two_operands!(movbe)).needs(Feature::Movbe),
    Row::plain(Mnemonic::Xlatb, xlat),
    Row::plain(Mnemonic::Cbw, |v, _| widen::<B, W16>(v)),
    Row::plain(Mnemonic::Cwde, |v, _| widen::<W16, D>(v)),
    Row::plain(Mnemonic::Cdqe, |v, _| widen::<D, Q>(v)),
    Row::plain(Mnemonic::Cwd, |v, _| spread::<W16>(v)),
    Row::plain(Mnemonic::Cdq, |v, _| spread::<D>(v)),
    Row::plain(Mnemonic::Cqo, |v, _| spread::<Q>(v)),
];

/// MOV.
pub(crate) fn mov<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let value = S::read::<E, W>(e, insn)?;
    T::write::<E, W>(e, insn, value)
}

fn choose_mov(iced: &Instruction) -> Option<ExecFn> {
    let special = |register: IcedRegister| {
        register.is_segment_register() || register.is_cr() || register.is_dr() || register.is_tr()
    };
    let operands = (0..2).filter(|&n| iced.op_kind(n) == OpKind::Register);
    for n in operands {
        if special(iced.op_register(n)) {
            return super::choose_special_mov(iced);
        }
    }
    let choose: fn(&Instruction) -> Option<ExecFn> = two_operands!(mov);
    choose(iced)
}

/// MOVZX, MOVSX, MOVSXD: source width `S` to target width `W`.
pub(crate) fn movzx<E: Emit, W: Width, S: Width, O: Source>(e: &mut E, insn: &Insn) -> Done {
    let value = O::read::<E, S>(e, insn)?;
    e.set_reg::<W>(insn.r[0], value);
    Ok(())
}

pub(crate) fn movsx<E: Emit, W: Width, S: Width, O: Source>(e: &mut E, insn: &Insn) -> Done {
    let value = O::read::<E, S>(e, insn)?;
    let value = e.sext::<S>(value);
    e.set_reg::<W>(insn.r[0], value);
    Ok(())
}

fn extend(iced: &Instruction, signed: bool) -> Option<ExecFn> {
    macro_rules! forms {
        ($w:ty, $s:ty) => {
            match (signed, iced.op_kind(1) == OpKind::Memory) {
                (false, false) => movzx::<Vcpu, $w, $s, Register<1>> as ExecFn,
                (false, true) => movzx::<Vcpu, $w, $s, Memory>,
                (true, false) => movsx::<Vcpu, $w, $s, Register<1>>,
                (true, true) => movsx::<Vcpu, $w, $s, Memory>,
            }
        };
    }
    Some(match (form::width(iced, 0), form::width(iced, 1)) {
        (16, 8) => forms!(W16, B),
        (32, 8) => forms!(D, B),
        (64, 8) => forms!(Q, B),
        (16, 16) => forms!(W16, W16),
        (32, 16) => forms!(D, W16),
        (64, 16) => forms!(Q, W16),
        (16, 32) => forms!(W16, D),
        (32, 32) => forms!(D, D),
        (64, 32) => forms!(Q, D),
        _ => return None,
    })
}

/// LEA: the offset, without any check.
fn lea<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    lea_generic::<Vcpu, W>(v, insn)
}

pub(crate) fn lea_generic<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    let address = e.address(insn);
    e.set_reg::<W>(insn.r[0], address);
    Ok(())
}

/// XCHG.
fn xchg<E: Emit, W: Width, T: Target, S: Target>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    T::finish::<E, W>(e, insn, hold, b);
    S::write::<E, W>(e, insn, a)
}

fn choose_xchg(iced: &Instruction) -> Option<ExecFn> {
    macro_rules! forms {
        ($w:ty) => {
            match form::form(iced)? {
                form::Form::RR => xchg::<Vcpu, $w, Register<0>, Register<1>> as ExecFn,
                form::Form::MR => xchg::<Vcpu, $w, Memory, Register<1>>,
                form::Form::RM => xchg::<Vcpu, $w, Memory, Register<0>>,
                _ => return None,
            }
        };
    }
    Some(match form::width(iced, 0) {
        8 => forms!(B),
        16 => forms!(W16),
        32 => forms!(D),
        _ => forms!(Q),
    })
}

/// BSWAP. Of a 16-bit register the manual leaves the result undefined; processors give zero.
fn bswap<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let value = v.reg::<W>(insn.r[0]);
    let swapped = if W::BITS == 16 {
        0
    } else {
        v.byte_swap::<W>(value)
    };
    v.set_reg::<W>(insn.r[0], swapped);
    Ok(())
}

/// MOVBE.
fn movbe<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let value = S::read::<E, W>(e, insn)?;
    let value = e.byte_swap::<W>(value);
    T::write::<E, W>(e, insn, value)
}

/// CMOVcc: the source is read, and the upper half of a 32-bit target cleared, whatever the condition.
pub(crate) fn cmovcc<E: Emit, W: Width, S: Source, const CC: usize>(
    e: &mut E,
    insn: &Insn,
) -> Done {
    let new = S::read::<E, W>(e, insn)?;
    let old = e.reg::<W>(insn.r[0]);
    let cond = e.condition(Condition::ALL[CC]);
    let value = e.select(cond, new, old);
    e.set_reg::<W>(insn.r[0], value);
    Ok(())
}

/// SETcc.
pub(crate) fn setcc<E: Emit, T: Target, const CC: usize>(e: &mut E, insn: &Insn) -> Done {
    let cond = e.condition(Condition::ALL[CC]);
    let value = e.from_cond(cond);
    T::write::<E, B>(e, insn, value)
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

fn cmov(iced: &Instruction, condition: Condition) -> Option<ExecFn> {
    macro_rules! forms {
        ($w:ty, $cc:ident) => {
            if iced.op_kind(1) == OpKind::Memory {
                cmovcc::<Vcpu, $w, Memory, $cc> as ExecFn
            } else {
                cmovcc::<Vcpu, $w, Register<1>, $cc>
            }
        };
    }
    Some(by_condition!(condition, CC => match form::width(iced, 0) {
        16 => forms!(W16, CC),
        32 => forms!(D, CC),
        _ => forms!(Q, CC),
    }))
}

fn set(iced: &Instruction, condition: Condition) -> Option<ExecFn> {
    Some(
        by_condition!(condition, CC => if iced.op_kind(0) == OpKind::Memory {
            setcc::<Vcpu, Memory, CC> as ExecFn
        } else {
            setcc::<Vcpu, Register<0>, CC>
        }),
    )
}

/// XLAT: AL from the table at (E/R)BX, indexed by AL.
fn xlat(v: &mut Vcpu, insn: &Insn) -> Done {
    let offset = v
        .get::<Q>(Reg::RBX as u8)
        .wrapping_add(v.get::<B>(Reg::RAX as u8))
        & insn.addr_mask;
    let value = v.load_operand::<B>(insn, offset)?;
    v.set::<B>(Reg::RAX as u8, value);
    Ok(())
}

/// CBW, CWDE, CDQE.
fn widen<S: Width, W: Width>(v: &mut Vcpu) -> Done {
    let value = S::sext(v.get::<S>(Reg::RAX as u8));
    v.set::<W>(Reg::RAX as u8, value);
    Ok(())
}

/// CWD, CDQ, CQO.
fn spread<W: Width>(v: &mut Vcpu) -> Done {
    let negative = v.get::<W>(Reg::RAX as u8) & W::SIGN != 0;
    v.set::<W>(Reg::RDX as u8, if negative { !0 } else { 0 });
    Ok(())
}
