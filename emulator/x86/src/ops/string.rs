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
use crate::mmu::BANK_SLOW;
use crate::table::{Handler, Row};
use crate::vcpu::{Vcpu, attention};
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
    /// Does up to `count` elements, checking and translating but once, and returns how many.
    /// `None`: the next ones must be done one by one.
    fn bulk<W: Width>(_: &mut Vcpu, _: &Insn, _count: u64) -> Option<u64> {
        None
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
    destination_at(v, offset, W::BYTES, write)
}

/// The linear address of `size` bytes at `offset` in ES.
#[inline(always)]
fn destination_at(v: &mut Vcpu, offset: u64, size: u64, write: bool) -> Result<u64, Exception> {
    if v.mode_key & 6 != 0 {
        // 64-bit mode, or flat segments.
        return Ok(offset);
    }
    v.checked_linear(SegmentRegister::ES, offset, size, write)
}

/// How many elements of `W` from the one at `offset` on, whose linear address is `lin`, lie in its
/// page and come before the offset wraps around.
#[inline(always)]
fn span<W: Width>(v: &Vcpu, insn: &Insn, offset: u64, lin: u64) -> u64 {
    let within = lin & 0xFFF;
    if v.cpu.rflags & bits::DF == 0 {
        let room = (insn.addr_mask - offset).saturating_add(1);
        (4096 - within).min(room) / W::BYTES
    } else if within + W::BYTES > 4096 {
        0
    } else {
        within.min(offset) / W::BYTES + 1
    }
}

/// The lowest of the offsets of `count` elements of `W` from `offset` on.
#[inline(always)]
fn lowest<W: Width>(v: &Vcpu, offset: u64, count: u64) -> u64 {
    if v.cpu.rflags & bits::DF == 0 {
        offset
    } else {
        offset - (count - 1) * W::BYTES
    }
}

/// Whether a page may be touched ahead of the element that does: not where each access is to be looked at.
#[inline(always)]
fn bulk_allowed(v: &Vcpu, count: u64) -> bool {
    count > 1 && v.tlb_bank != BANK_SLOW
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

    fn bulk<W: Width>(v: &mut Vcpu, insn: &Insn, count: u64) -> Option<u64> {
        if !bulk_allowed(v, count) {
            return Some(0);
        }
        let (si, di) = (pointer(v, insn, SI), pointer(v, insn, DI));
        let from = v.operand_linear(insn, si, W::BYTES, false).ok()?;
        let to = destination_at(v, di, W::BYTES, true).ok()?;
        let count = count
            .min(span::<W>(v, insn, si, from))
            .min(span::<W>(v, insn, di, to));
        if count < 2 {
            return Some(0);
        }
        let bytes = count * W::BYTES;
        // Within the limits as a whole, or one by one up to where it ends.
        let low = lowest::<W>(v, si, count);
        let low_from = v.operand_linear(insn, low, bytes, false).ok()?;
        let low = lowest::<W>(v, di, count);
        let low_to = destination_at(v, low, bytes, true).ok()?;
        // The second page may drive the first one out of the TLB; where it is in the host's memory stays.
        let source = match v.readable_span(insn.seg_written, from, low_from, bytes) {
            Some(ptr) => Place::Memory(ptr.cast_mut()),
            None => Place::Device(v.device_span(low_from, bytes, false)?),
        };
        let target = match v.writable_span(SegmentRegister::ES as u8, to, low_to, bytes) {
            Some(ptr) => Place::Memory(ptr),
            None => Place::Device(v.device_span(low_to, bytes, true)?),
        };
        let count = if let (Place::Memory(source), Place::Memory(target)) = (source, target) {
            let backwards = v.cpu.rflags & bits::DF != 0;
            // SAFETY: both pointers are good for `bytes` bytes by the TLB.
            unsafe { move_elements::<W>(source, target, count, backwards) };
            count
        } else {
            each_element::<W>(v, count, |v, at| {
                let value = match source {
                    // SAFETY: as above, and `at` is the place of an element.
                    Place::Memory(ptr) => unsafe { W::load(ptr.add(at as usize)) },
                    Place::Device(phys) => v.load_device(insn.number, phys + at, W::BYTES as u8),
                };
                match target {
                    // SAFETY: likewise.
                    Place::Memory(ptr) => unsafe { W::store(ptr.add(at as usize), value) },
                    Place::Device(phys) => {
                        v.store_device(insn.number, phys + at, W::BYTES as u8, value);
                    }
                }
            })
        };
        let stride = stride::<W>(v).wrapping_mul(count);
        advance(v, insn, SI, stride);
        advance(v, insn, DI, stride);
        Some(count)
    }
}

/// Where a span is.
#[derive(Clone, Copy)]
enum Place {
    /// At this address of the host.
    Memory(*mut u8),
    /// At this physical address, where no memory is.
    Device(u64),
}

/// Calls `act` with the place in the span of each of `count` elements, in the order in which REP
/// takes them, until a device asks for attention. Returns how many that were.
#[inline(always)]
fn each_element<W: Width>(v: &mut Vcpu, count: u64, mut act: impl FnMut(&mut Vcpu, u64)) -> u64 {
    let backwards = v.cpu.rflags & bits::DF != 0;
    let mut done = 0;
    while done < count && (done == 0 || v.attention & !attention::STEP == 0) {
        let n = if backwards { count - 1 - done } else { done };
        act(v, n * W::BYTES);
        done += 1;
    }
    done
}

/// Moves `count` elements one after the other, from the lowest on or, `backwards`, from the highest on.
///
/// # Safety
/// Both pointers are good for that many elements.
unsafe fn move_elements<W: Width>(source: *const u8, target: *mut u8, count: u64, backwards: bool) {
    let bytes = (count * W::BYTES) as usize;
    let (from, to) = (source as usize, target as usize);
    let ahead = if backwards {
        from.wrapping_sub(to)
    } else {
        to.wrapping_sub(from)
    };
    if ahead == 0 || ahead >= bytes {
        // No element is read after it was written.
        // SAFETY: by the caller; `copy` allows overlap.
        unsafe { std::ptr::copy(source, target, bytes) };
        return;
    }
    for n in 0..count {
        let n = if backwards { count - 1 - n } else { n };
        let at = (n * W::BYTES) as usize;
        // SAFETY: by the caller, as `n` is below `count`.
        unsafe { W::store(target.add(at), W::load(source.add(at))) };
    }
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

    fn bulk<W: Width>(v: &mut Vcpu, insn: &Insn, count: u64) -> Option<u64> {
        if !bulk_allowed(v, count) {
            return Some(0);
        }
        let di = pointer(v, insn, DI);
        let to = destination_at(v, di, W::BYTES, true).ok()?;
        let count = count.min(span::<W>(v, insn, di, to));
        if count < 2 {
            return Some(0);
        }
        let bytes = count * W::BYTES;
        let low = lowest::<W>(v, di, count);
        let low_to = destination_at(v, low, bytes, true).ok()?;
        let value = v.get::<W>(A);
        let count = match v.writable_span(SegmentRegister::ES as u8, to, low_to, bytes) {
            Some(target) => {
                // SAFETY: the pointer is good for `bytes` bytes by the TLB.
                unsafe { fill_elements::<W>(target, value, count) };
                count
            }
            None => {
                let phys = v.device_span(low_to, bytes, true)?;
                each_element::<W>(v, count, |v, at| {
                    v.store_device(insn.number, phys + at, W::BYTES as u8, value);
                })
            }
        };
        let stride = stride::<W>(v).wrapping_mul(count);
        advance(v, insn, DI, stride);
        Some(count)
    }
}

/// Stores `value` to `count` elements.
///
/// # Safety
/// The pointer is good for that many elements.
unsafe fn fill_elements<W: Width>(target: *mut u8, value: u64, count: u64) {
    let byte = value as u8;
    if W::zext(u64::from(byte) * 0x0101_0101_0101_0101) == value {
        // SAFETY: by the caller.
        unsafe { target.write_bytes(byte, (count * W::BYTES) as usize) };
        return;
    }
    for n in 0..count {
        // SAFETY: by the caller, as `n` is below `count`.
        unsafe { W::store(target.add((n * W::BYTES) as usize), value) };
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

/// Elements done one by one where a span of them could not be done at once: beside code, at a limit.
const RETRY: u32 = 31;

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
    if v.attention & attention::STEP != 0 {
        budget = 1;
    }
    let mut done = 0;
    // How many are to be done one by one before the whole span is tried again.
    let mut singly = 0u32;
    loop {
        let mut bulk = 0;
        if singly > 0 {
            singly -= 1;
        } else {
            match O::bulk::<W>(v, insn, left.min(budget - done)) {
                Some(elements) => bulk = elements,
                None => singly = RETRY,
            }
        }
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
        if done >= budget || v.attention & !attention::STEP != 0 {
            v.stop_repeat(insn, done);
            break;
        }
    }
    v.extra_retired += done - 1;
    Ok(())
}
