//! The x87: what its instructions share.
//!
//! SDM vol. 1 chapter 8; the instructions stand in `x87_load`, `x87_arith`, `x87_compare`, `x87_trans` and `x87_env`.
//! The arithmetic itself is in [`softfloat`](crate::softfloat).
//!
//! Every instruction first calls [`wait`] (or, if it is one of the FN- forms, [`available`]), then accesses memory,
//! then calls [`note`], and only then changes registers, so that a memory fault leaves the x87 as it was.
//!
//! Exceptions are deferred: an unmasked one sets ES and B, and the next waiting instruction reports it (SDM vol. 1
//! §8.7). With CR0.NE = 0 the report is the FERR# wire, which the board turns into IRQ 13. The processor would then
//! wait in front of the waiting instruction until the interrupt comes, or until IGNNE# lets it go on; here it goes on
//! when no interrupt can be taken, which also covers handlers that write port F0 before FNCLEX.

use iced_x86::Mnemonic;
use platform::IrqLine;

use crate::cpu::{SegmentRegister, X87, control};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::{Insn, NO_OPERAND};
use crate::softfloat::{Context, F80, F80Class, flag};
use crate::table::Row;
use crate::vcpu::{Vcpu, attention};

/// Bits of the status word (SDM vol. 1 figure 8-4).
pub(super) mod status {
    /// Stack fault.
    pub const SF: u16 = 1 << 6;
    /// Error summary.
    pub const ES: u16 = 1 << 7;
    pub const C0: u16 = 1 << 8;
    pub const C1: u16 = 1 << 9;
    pub const C2: u16 = 1 << 10;
    pub const TOP: u16 = 7 << 11;
    pub const C3: u16 = 1 << 14;
    /// Busy, a copy of ES since the 387.
    pub const B: u16 = 1 << 15;
    /// C0, C2 and C3.
    pub const CONDITION: u16 = C0 | C2 | C3;
}

use status::{B, C1, ES, SF, TOP};

/// A tag of an empty register; the other three values all count as in use.
const EMPTY: u16 = 3;

impl X87 {
    /// The number of the physical register that is ST(0).
    #[inline(always)]
    pub fn top(&self) -> usize {
        usize::from(self.status >> 11 & 7)
    }

    #[inline(always)]
    fn physical(&self, i: u8) -> usize {
        (self.top() + usize::from(i)) & 7
    }

    /// Whether ST(i) is empty; ST(7) is where a push goes.
    #[inline(always)]
    pub fn is_empty(&self, i: u8) -> bool {
        self.tag >> (2 * self.physical(i)) & EMPTY == EMPTY
    }

    /// ST(i).
    #[inline(always)]
    pub fn get(&self, i: u8) -> F80 {
        let (sig, sign_exp) = self.st[self.physical(i)];
        F80 { sig, sign_exp }
    }

    /// Writes ST(i), which is then in use.
    #[inline(always)]
    pub fn set(&mut self, i: u8, value: F80) {
        let n = self.physical(i);
        self.st[n] = (value.sig, value.sign_exp);
        self.tag &= !(EMPTY << (2 * n));
    }

    /// Marks ST(i) as empty.
    #[inline(always)]
    pub fn free(&mut self, i: u8) {
        self.tag |= EMPTY << (2 * self.physical(i));
    }

    /// Adds to TOP.
    #[inline(always)]
    pub fn rotate(&mut self, by: u16) {
        self.status = self.status & !TOP | self.status.wrapping_add(by << 11) & TOP;
    }

    /// Pushes a value.
    #[inline(always)]
    pub fn push(&mut self, value: F80) {
        self.rotate(7);
        self.set(0, value);
    }

    /// Frees ST(0) and moves TOP up.
    #[inline(always)]
    pub fn pop(&mut self) {
        self.free(0);
        self.rotate(1);
    }

    /// The tag word as FNSTENV shows it: 0 valid, 1 zero, 2 special, 3 empty.
    pub fn tag_word(&self) -> u16 {
        (0..8).fold(0, |word, n| {
            let (sig, sign_exp) = self.st[n];
            let tag = match (F80 { sig, sign_exp }).classify() {
                _ if self.tag >> (2 * n) & EMPTY == EMPTY => EMPTY,
                F80Class::Normal => 0,
                F80Class::Zero => 1,
                _ => 2,
            };
            word | tag << (2 * n)
        })
    }

    /// One bit a physical register, set where it is in use: FXSAVE's tag byte.
    pub fn abridged_tag(&self) -> u8 {
        (0..8).fold(0, |byte, n| {
            byte | u8::from(self.tag >> (2 * n) & EMPTY != EMPTY) << n
        })
    }

    /// Sets the tags from FXSAVE's tag byte.
    pub fn set_abridged_tag(&mut self, byte: u8) {
        self.tag = (0..8).fold(0, |word, n| {
            if byte >> n & 1 == 0 {
                word | EMPTY << (2 * n)
            } else {
                word
            }
        });
    }
}

/// #NM unless the x87 may be used.
#[inline(always)]
pub(super) fn available(v: &Vcpu) -> Result<(), Exception> {
    if v.cpu.cr0 & (control::CR0_EM | control::CR0_TS) != 0 {
        return Err(Exception::DeviceNotAvailable);
    }
    Ok(())
}

/// What a waiting instruction begins with: #NM, then the report of an exception that is pending.
#[inline(always)]
pub(super) fn wait(v: &mut Vcpu) -> Result<(), Exception> {
    available(v)?;
    if v.cpu.x87.status & ES != 0 {
        report(v)?;
    }
    Ok(())
}

/// Reports the pending exception by #MF or, with CR0.NE = 0, lets the interrupt in that FERR# caused.
#[cold]
pub(super) fn report(v: &mut Vcpu) -> Result<(), Exception> {
    if v.cpu.cr0 & control::CR0_NE != 0 {
        return Err(Exception::X87);
    }
    // High already, but for an exception from before NE was cleared.
    set_ferr(v, 0, true);
    let interruptible = v.cpu.rflags & bits::IF != 0 && v.cpu.shadow == 0;
    if interruptible && v.bus().intr() {
        v.attention |= attention::INTERRUPT;
        return Err(Exception::Retry);
    }
    Ok(())
}

/// Drives FERR#.
#[cold]
fn set_ferr(v: &mut Vcpu, number: u16, level: bool) {
    if v.bus().lines.level(IrqLine::FERR) != level {
        v.access_bus(number, |bus| bus.drive(IrqLine::FERR, level));
    }
}

/// Records the instruction, and its memory operand if it has one, in FOP, FIP, FCS, FDP and FDS.
#[inline(always)]
pub(super) fn note(v: &mut Vcpu, insn: &Insn) {
    let ip = v.insn_ip(insn);
    let cs = v.cpu.segs[SegmentRegister::CS].selector;
    v.cpu.x87.opcode = insn.imm2 & 0x7FF;
    v.cpu.x87.instruction = (ip, cs);
    if insn.mem_op != NO_OPERAND {
        let selector = v.cpu.segs[usize::from(insn.seg_written & 7)].selector;
        v.cpu.x87.operand = (v.effective_address(insn), selector);
    }
}

/// Adds exception flags (with SF as bit 6) to the status word, sets C1, and makes unmasked ones pending.
#[inline(always)]
pub(super) fn signal(v: &mut Vcpu, insn: &Insn, flags: u8, c1: bool) {
    let x87 = &mut v.cpu.x87;
    x87.status = x87.status & !C1 | u16::from(flags) | if c1 { C1 } else { 0 };
    if flags & !(x87.control as u8) & flag::ALL != 0 {
        x87.status |= ES | B;
        if v.cpu.cr0 & control::CR0_NE == 0 {
            set_ferr(v, insn.number, true);
        }
    }
}

/// Adds what an operation raised.
#[inline(always)]
pub(super) fn settle(v: &mut Vcpu, insn: &Insn, ctx: &Context) {
    signal(v, insn, ctx.flags, ctx.c1);
}

/// Raises a stack fault and says whether it is masked, so that the default NaN is to be delivered.
#[cold]
pub(super) fn stack_fault(v: &mut Vcpu, insn: &Insn, overflow: bool) -> bool {
    signal(v, insn, flag::IE | SF as u8, overflow);
    v.cpu.x87.control as u8 & flag::IE != 0
}

/// Recomputes ES and B after the control or the status word was loaded.
pub(super) fn update_summary(v: &mut Vcpu, insn: &Insn) {
    let x87 = &mut v.cpu.x87;
    let pending = x87.status & !x87.control & u16::from(flag::ALL) != 0;
    x87.status = x87.status & !(ES | B) | if pending { ES | B } else { 0 };
    set_ferr(v, insn.number, pending && v.cpu.cr0 & control::CR0_NE == 0);
}

/// What every MMX instruction begins with: #UD for CR0.EM, #NM for CR0.TS, then a pending x87 exception.
///
/// SDM vol. 3A §12.5.1 and table 12-1.
pub(crate) fn check_mmx(v: &mut Vcpu) -> Result<(), Exception> {
    if v.cpu.cr0 & control::CR0_EM != 0 {
        return Err(Exception::InvalidOpcode);
    }
    wait(v)
}

/// What every MMX instruction but EMMS does once its last fault is behind it: TOP becomes 0 and all registers are in
/// use (SDM vol. 3A §12.2). An MMX register that is written also gets an exponent of ones.
#[inline(always)]
pub(crate) fn enter_mmx(v: &mut Vcpu) {
    v.cpu.x87.status &= !TOP;
    v.cpu.x87.tag = 0;
}

/// EMMS: all registers are empty.
fn emms(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    check_mmx(v)?;
    v.cpu.x87.status &= !TOP;
    v.cpu.x87.tag = 0xFFFF;
    Ok(())
}

/// Rows.
pub const ROWS: &[Row] = &[Row::plain(Mnemonic::Emms, emms).needs(Feature::Mmx)];

/// The context of an arithmetic instruction.
#[inline(always)]
pub(super) fn context(v: &Vcpu) -> Context {
    Context::from_x87_control(v.cpu.x87.control)
}
