//! The stack: PUSH, POP, PUSHA, POPA, ENTER, LEAVE. SDM vol. 2A and 2B.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::form::Source;
use crate::choice::{generic, width};
use crate::cpu::{Reg, SegmentRegister};
use crate::cpuid::Feature;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn};
use crate::table::{Handler, Native, Row};
use crate::vcpu::Vcpu;
use crate::width::{D, Q, W16, Width};

type Done = Result<(), Exception>;

pub(crate) const ROWS: &[Row] = &[
    Row::by_form(Mnemonic::Push, choose_push),
    Row::by_form(Mnemonic::Pop, choose_pop),
    Row::plain(Mnemonic::Pusha, pusha::<W16>).native(Native::Call),
    Row::plain(Mnemonic::Pushad, pusha::<D>).native(Native::Call),
    Row::plain(Mnemonic::Popa, popa::<W16>).native(Native::Call),
    Row::plain(Mnemonic::Popad, popa::<D>).native(Native::Call),
    Row::choose(Mnemonic::Enter, |iced| {
        Some(match iced.code() {
            Code::Enterw_imm16_imm8 => enter::<W16> as ExecFn,
            Code::Enterd_imm16_imm8 => enter::<D>,
            _ => enter::<Q>,
        })
    })
    .native(Native::Call),
    Row::choose(Mnemonic::Leave, |iced| {
        Some(match iced.code() {
            Code::Leavew => leave::<W16> as ExecFn,
            Code::Leaved => leave::<D>,
            _ => leave::<Q>,
        })
    }),
];

/// PUSH. The operand is read before the stack pointer moves, so PUSH ESP pushes the old value.
fn push<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let value = S::read::<E, W>(e, insn)?;
    e.push::<W>(insn, value)
}

/// POP r. The register is written last, so POP ESP leaves the popped value.
fn pop<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    let value = e.peek::<W>(insn, 0)?;
    e.drop_stack(W::BYTES);
    e.set_reg::<W>(insn.r[0], value);
    Ok(())
}

/// POP m. The address is computed with the stack pointer already moved.
fn pop_memory<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let value = v.peek::<W>(insn, 0)?;
    let before = v.cpu.regs[Reg::RSP];
    v.drop_stack(W::BYTES);
    let offset = v.effective_address(insn);
    let stored = v.store_operand::<W>(insn, offset, value);
    if stored.is_err() {
        v.cpu.regs[Reg::RSP] = before;
    }
    stored
}

/// The stack operand's width in bits by the instruction's code.
fn push_width(iced: &Instruction) -> usize {
    use Code::*;
    match iced.code() {
        Push_r16 | Push_rm16 | Push_imm16 | Pushw_imm8 | Pop_r16 | Pop_rm16 => 16,
        Push_r32 | Push_rm32 | Pushd_imm32 | Pushd_imm8 | Pop_r32 | Pop_rm32 => 32,
        _ => 64,
    }
}

/// What `Semantics` asks of PUSH and POP.
macro_rules! on_stack {
    () => {
        const NATIVE: bool = true;
        const FREQUENT: u8 = width::D | width::Q;
        const WIDTHS: u8 = width::WORDS;
        fn bits(iced: &Instruction) -> usize {
            push_width(iced)
        }
    };
}

fn choose_push(iced: &Instruction) -> Option<Handler> {
    if iced.op_register(0).is_segment_register() {
        return super::choose_special_stack(iced).map(Handler::Plain);
    }
    Some(generic!(Reads<0> push { on_stack!(); }))
}

fn choose_pop(iced: &Instruction) -> Option<Handler> {
    if iced.op_register(0).is_segment_register() {
        return super::choose_special_stack(iced).map(Handler::Plain);
    }
    Some(
        match (push_width(iced), iced.op_kind(0) == OpKind::Memory) {
            (_, false) => generic!(Bare pop { on_stack!(); }),
            (16, true) => Handler::Plain(pop_memory::<W16>),
            (32, true) => Handler::Plain(pop_memory::<D>),
            (_, true) => Handler::Plain(pop_memory::<Q>),
        },
    )
}

/// PUSHA, PUSHAD.
fn pusha<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let before = v.cpu.regs[Reg::RSP];
    for n in 0..8 {
        let value = if n == Reg::RSP as u8 {
            W::zext(before)
        } else {
            v.get::<W>(n)
        };
        if let Err(exception) = v.push::<W>(insn, value) {
            v.cpu.regs[Reg::RSP] = before;
            return Err(exception);
        }
    }
    Ok(())
}

/// POPA, POPAD: the stack pointer's image is skipped. On the i386, POPAD from a 16-bit stack takes
/// the upper half of ESP from it (hardware; the manual is silent).
fn popa<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let mut values = [0; 8];
    // EDI comes first: of two pages that both fault, the lower one does.
    for (n, value) in values.iter_mut().enumerate().rev() {
        *value = v.peek::<W>(insn, (7 - n as u64) * W::BYTES)?;
    }
    v.drop_stack(8 * W::BYTES);
    if W::BITS == 32 && v.sp_mask == 0xFFFF && !v.model.has(Feature::I486) {
        let sp = &mut v.cpu.regs[Reg::RSP];
        *sp = *sp & 0xFFFF | values[Reg::RSP] & 0xFFFF_0000;
    }
    for (n, value) in values.into_iter().enumerate() {
        if n != Reg::RSP {
            v.set::<W>(n as u8, value);
        }
    }
    Ok(())
}

/// ENTER.
fn enter<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let (size, level) = (insn.imm & 0xFFFF, insn.imm2 & 31);
    let (old_sp, old_bp) = (v.cpu.regs[Reg::RSP], v.cpu.regs[Reg::RBP]);
    let done = enter_frames::<W>(v, insn, size, level);
    if done.is_err() {
        v.cpu.regs[Reg::RSP] = old_sp;
        v.cpu.regs[Reg::RBP] = old_bp;
    }
    done
}

fn enter_frames<W: Width>(v: &mut Vcpu, insn: &Insn, size: u64, level: u16) -> Done {
    let bp = v.cpu.regs[Reg::RBP];
    v.push::<W>(insn, W::zext(bp))?;
    let frame = v.cpu.regs[Reg::RSP];
    if level > 0 {
        let mut outer = bp;
        for _ in 1..level {
            outer = outer.wrapping_sub(W::BYTES);
            let lin = v.checked_linear(SegmentRegister::SS, outer & v.sp_mask, W::BYTES, false)?;
            let value = v.load_slow(insn.number, SegmentRegister::SS as u8, lin, W::BYTES as u8)?;
            v.push::<W>(insn, value)?;
        }
        v.push::<W>(insn, W::zext(frame))?;
    }
    let sp = v.cpu.regs[Reg::RSP].wrapping_sub(size) & v.sp_mask;
    // The new top of the stack must take a write (SDM vol. 2A): processors try one of the operand's width.
    let lin = v.checked_linear(SegmentRegister::SS, sp, W::BYTES, true)?;
    v.touch_for_update(SegmentRegister::SS as u8, lin, W::BYTES)?;
    v.set_sp(sp);
    v.set::<W>(Reg::RBP as u8, frame);
    Ok(())
}

/// LEAVE.
fn leave<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    let (sp, bp) = (v.cpu.regs[Reg::RSP], v.cpu.regs[Reg::RBP]);
    v.set_sp(bp);
    match v.peek::<W>(insn, 0) {
        Ok(value) => {
            v.drop_stack(W::BYTES);
            v.set::<W>(Reg::RBP as u8, value);
            Ok(())
        }
        Err(exception) => {
            v.cpu.regs[Reg::RSP] = sp;
            Err(exception)
        }
    }
}
