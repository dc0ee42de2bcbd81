//! Data movement: MOV, MOVZX, MOVSX, LEA, XCHG, BSWAP, MOVBE, CMOVcc, SETcc, XLAT, sign extensions. SDM vol. 2A and 2B.

use iced_x86::{Instruction, Mnemonic, OpKind, Register as IcedRegister};

use super::branch::{Fixed, InInsn, Test};
use super::form::{Addressed, Source, Target};
use crate::choice::{
    Changes, Generic, IsChanges, IsReads, Reads, Semantics, fixed, generic, width,
};
use crate::cpu::Reg;
use crate::cpuid::Feature;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::Condition;
use crate::insn::Insn;
use crate::table::{Handler, Row};
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

/// CMOVcc, with the condition as `C` finds it.
struct Cmov<C>(std::marker::PhantomData<C>);
impl<C: Test> Semantics for Cmov<C> {
    const WIDTHS: u8 = width::WORDS;
    const FREQUENT: u8 = width::D | width::Q;
    const MEMORY: bool = false;
}
impl<C: Test> Reads<1> for Cmov<C> {
    #[inline(always)]
    fn call<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
        cmovcc::<E, W, S, C>(e, insn)
    }
}

/// SETcc.
struct Set<C>(std::marker::PhantomData<C>);
impl<C: Test> Semantics for Set<C> {
    const WIDTHS: u8 = width::B;
    const FREQUENT: u8 = width::B;
    const MEMORY: bool = false;
}
impl<C: Test> Changes for Set<C> {
    #[inline(always)]
    fn call<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
        setcc::<E, T, C>(e, insn)
    }
}

macro_rules! conditional {
    ($($condition:ident $cmov:ident $set:ident)*) => {
        &[
            $(
                Row::new(Mnemonic::$cmov, Handler::Generic(const { &Generic::split::<
                    IsReads<Cmov<InInsn>, 1>,
                    IsReads<Cmov<Fixed<{ Condition::$condition as usize }>>, 1>,
                >() }))
                .needs(Feature::Cmov)
                .if_holds(Condition::$condition),
                Row::new(Mnemonic::$set, Handler::Generic(const { &Generic::split::<
                    IsChanges<Set<InInsn>>,
                    IsChanges<Set<Fixed<{ Condition::$condition as usize }>>>,
                >() }))
                .if_holds(Condition::$condition),
            )*
        ]
    };
}

pub(crate) const CONDITIONAL_ROWS: &[Row] = conditional! {
    O Cmovo Seto No Cmovno Setno B Cmovb Setb Ae Cmovae Setae E Cmove Sete Ne Cmovne Setne
    Be Cmovbe Setbe A Cmova Seta S Cmovs Sets Ns Cmovns Setns P Cmovp Setp Np Cmovnp Setnp
    L Cmovl Setl Ge Cmovge Setge Le Cmovle Setle G Cmovg Setg
};

/// What `Semantics` asks of those that have words, and are frequent with 32 and 64 bits.
macro_rules! words {
    () => {
        const WIDTHS: u8 = width::WORDS;
        const FREQUENT: u8 = width::D | width::Q;
    };
}

pub(crate) const ROWS: &[Row] = &[
    Row::by_form(Mnemonic::Mov, choose_mov),
    Row::new(Mnemonic::Movzx, generic!(Extends movzx { words!(); })),
    Row::new(Mnemonic::Movsx, generic!(Extends movsx { words!(); })),
    Row::new(Mnemonic::Movsxd, generic!(Extends movsx { words!(); })),
    Row::new(Mnemonic::Lea, generic!(Addresses lea { words!(); })),
    Row::new(Mnemonic::Xchg, generic!(Changes xchg)),
    Row::new(
        Mnemonic::Bswap,
        generic!(Bare bswap { const WIDTHS: u8 = width::WORDS; }),
    )
    .needs(Feature::I486),
    Row::new(
        Mnemonic::Movbe,
        generic!(Combines movbe { const WIDTHS: u8 = width::WORDS; }),
    )
    .needs(Feature::Movbe),
    Row::plain(Mnemonic::Xlatb, xlat),
    Row::new(Mnemonic::Cbw, generic!(Bare widen::<B> { fixed!(16); })),
    Row::new(Mnemonic::Cwde, generic!(Bare widen::<W16> { fixed!(32); })),
    Row::new(Mnemonic::Cdqe, generic!(Bare widen::<D> { fixed!(64); })),
    Row::new(Mnemonic::Cwd, generic!(Bare spread { fixed!(16); })),
    Row::new(Mnemonic::Cdq, generic!(Bare spread { fixed!(32); })),
    Row::new(Mnemonic::Cqo, generic!(Bare spread { fixed!(64); })),
];

/// MOV.
pub(crate) fn mov<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let value = S::read::<E, W>(e, insn)?;
    T::write::<E, W>(e, insn, value)
}

fn choose_mov(iced: &Instruction) -> Option<Handler> {
    let special = |register: IcedRegister| {
        register.is_segment_register() || register.is_cr() || register.is_dr() || register.is_tr()
    };
    let operands = (0..2).filter(|&n| iced.op_kind(n) == OpKind::Register);
    for n in operands {
        if special(iced.op_register(n)) {
            return super::choose_special_mov(iced).map(Handler::Plain);
        }
    }
    Some(generic!(Combines mov { const FREQUENT: u8 = width::ALL; }))
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

/// LEA: the offset, without any check.
fn lea<E: Emit, W: Width, A: Addressed>(e: &mut E, insn: &Insn) -> Done {
    let address = A::address(e, insn);
    e.set_reg::<W>(insn.r[0], address);
    Ok(())
}

/// XCHG: operand 1 is always a register.
fn xchg<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let b = e.reg::<W>(insn.r[1]);
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    T::finish::<E, W>(e, insn, hold, b);
    e.set_reg::<W>(insn.r[1], a);
    Ok(())
}

/// BSWAP. Of a 16-bit register the manual leaves the result undefined; processors give zero.
fn bswap<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    let value = e.reg::<W>(insn.r[0]);
    let swapped = if W::BITS == 16 {
        e.constant(0)
    } else {
        e.byte_swap::<W>(value)
    };
    e.set_reg::<W>(insn.r[0], swapped);
    Ok(())
}

/// MOVBE.
fn movbe<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let value = S::read::<E, W>(e, insn)?;
    let value = e.byte_swap::<W>(value);
    T::write::<E, W>(e, insn, value)
}

/// CMOVcc: the source is read, and the upper half of a 32-bit target cleared, whatever the condition.
fn cmovcc<E: Emit, W: Width, S: Source, C: Test>(e: &mut E, insn: &Insn) -> Done {
    let new = S::read::<E, W>(e, insn)?;
    let old = e.reg::<W>(insn.r[0]);
    let cond = e.condition(C::of(insn));
    let value = e.select(cond, new, old);
    e.set_reg::<W>(insn.r[0], value);
    Ok(())
}

/// SETcc.
fn setcc<E: Emit, T: Target, C: Test>(e: &mut E, insn: &Insn) -> Done {
    let cond = e.condition(C::of(insn));
    let value = e.from_cond(cond);
    T::write::<E, B>(e, insn, value)
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
fn widen<E: Emit, W: Width, S: Width>(e: &mut E, _: &Insn) -> Done {
    let value = e.reg::<S>(Reg::RAX as u8);
    let value = e.sext::<S>(value);
    e.set_reg::<W>(Reg::RAX as u8, value);
    Ok(())
}

/// CWD, CDQ, CQO.
fn spread<E: Emit, W: Width>(e: &mut E, _: &Insn) -> Done {
    let value = e.reg::<W>(Reg::RAX as u8);
    let sign = e.spread_sign::<W>(value);
    e.set_reg::<W>(Reg::RDX as u8, sign);
    Ok(())
}
