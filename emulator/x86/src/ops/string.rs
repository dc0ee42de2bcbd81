//! Strings: MOVS, CMPS, SCAS, STOS, LODS, with REP, REPE, REPNE. SDM vol. 2A and 2B.
//!
//! Each iteration counts as a retired instruction, so that timers stay exact inside a long REP. The
//! instruction stops at the end of the slice with the instruction pointer on itself, and a fault in
//! the middle leaves the registers as after the last whole iteration.

use iced_x86::{Instruction, Mnemonic};

use crate::cpu::{Reg, SegmentRegister};
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::{Condition, FlagOp, bits};
use crate::insn::{ExecFn, Insn, flag};
use crate::table::{Handler, Row};
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

const SI: u8 = Reg::RSI as u8;
const DI: u8 = Reg::RDI as u8;
const CX: u8 = Reg::RCX as u8;
const A: u8 = Reg::RAX as u8;

macro_rules! widths {
    ($op:ident $($mnemonic:ident $w:ty),*) => {
        &[$(Row::choose(Mnemonic::$mnemonic, |_| Some(string::<$w, $op> as ExecFn)).branches_when(repeats)),*]
    };
}

pub(crate) const MOVS_ROWS: &[Row] = &[
    Row::plain(Mnemonic::Movsb, string::<B, Movs>).branches_when(repeats),
    Row::plain(Mnemonic::Movsw, string::<W16, Movs>).branches_when(repeats),
    // MOVSD shares its mnemonic with the SSE2 move.
    Row::by_form(Mnemonic::Movsd, choose_movsd).branches_when(repeats),
    Row::plain(Mnemonic::Movsq, string::<Q, Movs>).branches_when(repeats),
];
pub(crate) const CMPS_ROWS: &[Row] = &[
    Row::plain(Mnemonic::Cmpsb, string::<B, Cmps>).branches_when(repeats),
    Row::plain(Mnemonic::Cmpsw, string::<W16, Cmps>).branches_when(repeats),
    Row::choose(Mnemonic::Cmpsd, choose_cmpsd).branches_when(repeats),
    Row::plain(Mnemonic::Cmpsq, string::<Q, Cmps>).branches_when(repeats),
];
pub(crate) const STOS_ROWS: &[Row] = widths!(Stos Stosb B, Stosw W16, Stosd D, Stosq Q);
pub(crate) const LODS_ROWS: &[Row] = widths!(Lods Lodsb B, Lodsw W16, Lodsd D, Lodsq Q);
pub(crate) const SCAS_ROWS: &[Row] = widths!(Scas Scasb B, Scasw W16, Scasd D, Scasq Q);

/// With REP the instruction may end with the instruction pointer on itself.
fn repeats(iced: &Instruction) -> bool {
    iced.is_string_instruction() && (iced.has_rep_prefix() || iced.has_repne_prefix())
}

fn choose_movsd(iced: &Instruction) -> Option<Handler> {
    if iced.is_string_instruction() {
        Some(Handler::Plain(string::<D, Movs>))
    } else {
        super::choose_sse_movsd(iced)
    }
}

fn choose_cmpsd(iced: &Instruction) -> Option<ExecFn> {
    if iced.is_string_instruction() {
        Some(string::<D, Cmps>)
    } else {
        super::choose_sse_cmpsd(iced)
    }
}

/// What one iteration does.
trait StringOp {
    /// REPE and REPNE look at ZF.
    const COMPARES: bool = false;
    /// Does one element. Registers change only when it succeeds.
    fn step<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done;
    /// Does up to `count` elements at once where nothing but RAM is involved; returns how many.
    fn bulk<W: Width>(_: &mut Vcpu, _: &Insn, _count: u64) -> u64 {
        0
    }
}

/// A register masked to the address size.
#[inline(always)]
fn pointer(v: &Vcpu, insn: &Insn, reg: u8) -> u64 {
    v.cpu.regs[usize::from(reg)] & insn.addr_mask
}

/// Adds to a register within the address size; a 32-bit address size clears the upper half.
#[inline(always)]
fn advance(v: &mut Vcpu, insn: &Insn, reg: u8, by: u64) {
    let old = v.cpu.regs[usize::from(reg)];
    let new = old.wrapping_add(by) & insn.addr_mask;
    v.cpu.regs[usize::from(reg)] = if insn.addr_mask == 0xFFFF {
        (old & !0xFFFF) | new
    } else {
        new
    };
}

#[inline(always)]
fn stride<W: Width>(v: &Vcpu) -> u64 {
    if v.cpu.rflags & bits::DF == 0 {
        W::BYTES
    } else {
        W::BYTES.wrapping_neg()
    }
}

/// The linear address of an element at ES:(E/R)DI.
#[inline(always)]
fn destination<W: Width>(v: &mut Vcpu, insn: &Insn, write: bool) -> Result<u64, Exception> {
    let offset = pointer(v, insn, DI);
    if v.mode_key & 6 != 0 {
        // 64-bit mode, or flat segments.
        return Ok(offset);
    }
    v.checked_linear(SegmentRegister::ES, offset, W::BYTES, write)
}

/// Elements of `W` from `lin` on that lie in its page, at most `count`.
fn within_page<W: Width>(lin: u64, count: u64) -> u64 {
    ((4096 - (lin & 0xFFF)) / W::BYTES).min(count)
}

struct Movs;
impl StringOp for Movs {
    #[inline(always)]
    fn step<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
        let from = pointer(v, insn, SI);
        let value = v.load_operand::<W>(insn, from)?;
        let to = destination::<W>(v, insn, true)?;
        store_element::<W>(v, insn, to, value)?;
        let stride = stride::<W>(v);
        advance(v, insn, SI, stride);
        advance(v, insn, DI, stride);
        Ok(())
    }

    fn bulk<W: Width>(v: &mut Vcpu, insn: &Insn, count: u64) -> u64 {
        if !simple(v, insn) {
            return 0;
        }
        let from = v.cpu.seg_base[usize::from(insn.seg)].wrapping_add(pointer(v, insn, SI));
        let to = pointer(v, insn, DI);
        let count = within_page::<W>(from, within_page::<W>(to, count));
        let bytes = count * W::BYTES;
        if count < 2 {
            return 0;
        }
        let source = v.direct_read_sized(from, bytes);
        let target = match v.direct_write_sized(to, bytes) {
            None => v.write_beside_code(to, bytes),
            target => target,
        };
        let (Some(source), Some(target)) = (source, target) else {
            return 0;
        };
        let distance = (target as usize).wrapping_sub(source as usize);
        if distance < bytes as usize && distance != 0 {
            // Forward over an overlap: later elements read what earlier ones wrote.
            return 0;
        }
        // SAFETY: both pointers are good for `bytes` bytes by the TLB; `copy` allows overlap.
        unsafe { std::ptr::copy(source, target, bytes as usize) };
        advance(v, insn, SI, bytes);
        advance(v, insn, DI, bytes);
        count
    }
}

/// Whether an element can be moved without segment checks, forwards, and without address wrap-around.
fn simple(v: &Vcpu, insn: &Insn) -> bool {
    v.mode_key & 6 != 0
        && !insn.has(flag::SEG_CHECK)
        && v.cpu.rflags & bits::DF == 0
        && insn.addr_mask > 0xFFFF
        && v.cpu.rflags & bits::TF == 0
}

#[inline(always)]
fn store_element<W: Width>(v: &mut Vcpu, insn: &Insn, lin: u64, value: u64) -> Done {
    v.store_at::<W>(insn.number, SegmentRegister::ES as u8, lin, value)
}

#[inline(always)]
fn load_element<W: Width>(v: &mut Vcpu, insn: &Insn, lin: u64) -> Result<u64, Exception> {
    v.load_at::<W>(insn.number, SegmentRegister::ES as u8, lin)
}

struct Stos;
impl StringOp for Stos {
    #[inline(always)]
    fn step<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
        let to = destination::<W>(v, insn, true)?;
        let value = v.get::<W>(A);
        store_element::<W>(v, insn, to, value)?;
        let stride = stride::<W>(v);
        advance(v, insn, DI, stride);
        Ok(())
    }

    fn bulk<W: Width>(v: &mut Vcpu, insn: &Insn, count: u64) -> u64 {
        if v.mode_key & 6 == 0
            || v.cpu.rflags & (bits::DF | bits::TF) != 0
            || insn.addr_mask <= 0xFFFF
        {
            return 0;
        }
        let to = pointer(v, insn, DI);
        let count = within_page::<W>(to, count);
        if count < 2 {
            return 0;
        }
        let bytes = count * W::BYTES;
        let target = match v.direct_write_sized(to, bytes) {
            None => v.write_beside_code(to, bytes),
            target => target,
        };
        let Some(target) = target else { return 0 };
        let value = v.get::<W>(A);
        for n in 0..count {
            // SAFETY: the pointer is good for `count` elements by the TLB.
            unsafe { W::store(target.add((n * W::BYTES) as usize), value) };
        }
        advance(v, insn, DI, count * W::BYTES);
        count
    }
}

struct Lods;
impl StringOp for Lods {
    #[inline(always)]
    fn step<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
        let from = pointer(v, insn, SI);
        let value = v.load_operand::<W>(insn, from)?;
        v.set::<W>(A, value);
        let stride = stride::<W>(v);
        advance(v, insn, SI, stride);
        Ok(())
    }
}

struct Scas;
impl StringOp for Scas {
    const COMPARES: bool = true;
    #[inline(always)]
    fn step<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
        let at = destination::<W>(v, insn, false)?;
        let b = load_element::<W>(v, insn, at)?;
        let a = v.get::<W>(A);
        v.set_flags::<W>(FlagOp::Sub, a, b, a.wrapping_sub(b));
        let stride = stride::<W>(v);
        advance(v, insn, DI, stride);
        Ok(())
    }
}

struct Cmps;
impl StringOp for Cmps {
    const COMPARES: bool = true;
    #[inline(always)]
    fn step<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
        let from = pointer(v, insn, SI);
        let a = v.load_operand::<W>(insn, from)?;
        let at = destination::<W>(v, insn, false)?;
        let b = load_element::<W>(v, insn, at)?;
        v.set_flags::<W>(FlagOp::Sub, a, b, a.wrapping_sub(b));
        let stride = stride::<W>(v);
        advance(v, insn, SI, stride);
        advance(v, insn, DI, stride);
        Ok(())
    }
}

fn string<W: Width, O: StringOp>(v: &mut Vcpu, insn: &Insn) -> Done {
    if !insn.has(flag::REP | flag::REPNE) {
        return O::step::<W>(v, insn);
    }
    let mut left = v.cpu.regs[usize::from(CX)] & insn.addr_mask;
    if left == 0 {
        // A 32-bit address size clears the upper half of the registers even without an iteration only
        // for RCX (hardware); nothing else changes.
        v.fall_through(insn);
        return Ok(());
    }
    let mut budget = v
        .slice_end
        .saturating_sub(v.retired + u64::from(insn.number))
        .max(1);
    // With TF or a breakpoint armed there is a trap after every iteration (SDM vol. 3B §17.3.1.4).
    if v.attention & crate::vcpu::attention::STEP != 0 {
        budget = 1;
    }
    let mut done = 0;
    loop {
        let bulk = O::bulk::<W>(v, insn, left.min(budget - done));
        let stepped = if bulk > 0 {
            bulk
        } else {
            if let Err(exception) = O::step::<W>(v, insn) {
                v.extra_retired += done;
                return Err(exception);
            }
            1
        };
        done += stepped;
        left -= stepped;
        advance(v, insn, CX, stepped.wrapping_neg());
        let stop = O::COMPARES && v.condition(Condition::E) != insn.has(flag::REP);
        if left == 0 || stop {
            v.fall_through(insn);
            break;
        }
        if done >= budget || v.attention & !crate::vcpu::attention::STEP != 0 {
            v.stop_repeat(insn, done);
            break;
        }
    }
    v.extra_retired += done - 1;
    Ok(())
}
