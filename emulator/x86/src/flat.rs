//! The tier for the two modes in which guests spend their time: flat 32-bit and 64-bit. The semantics are the same
//! functions; only what is below them differs.
//!
//! [`Flat`] reaches memory by the TLB's direct pointers and by nothing else. Where that does not do (a
//! miss, a device, a page with code, a breakpoint, an address that is not canonical) the handler
//! declines: it returns [`Exception::Declined`], with nothing changed. So a handler has no slow path, and needs no
//! frame.

use iced_x86::{Instruction, OpKind};

use crate::chain::{
    Addressing, Bared, Changing, Combining, Extending, Filled, OnTier, Reading, ReadingVector,
    chained, next, stop,
};
use crate::choice::{
    Addresses, Bare, Changes, Combines, Extends, Reads, ReadsVector, Visitor, width,
};
use crate::cpu::{Reg, SegmentRegister};
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::Condition;
use crate::insn::{ExecFn, Insn};
use crate::ops::branch::{self, by_condition};
use crate::ops::form::{self, Addressed, Form, Immediate, Memory, Register};
use crate::segmented::check_vector;
use crate::tier::Tier;
use crate::vcpu::{Vcpu, is_canonical};
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

/// The processor in 64-bit mode (`LONG`) or flat 32-bit mode; memory operands have no segment base.
#[repr(transparent)]
pub(crate) struct Flat<const LONG: bool>(Vcpu);

impl<const LONG: bool> Flat<LONG> {
    /// An address or an instruction pointer, truncated to the mode's width.
    #[inline(always)]
    fn wrap(address: u64) -> u64 {
        if LONG { address } else { address & 0xFFFF_FFFF }
    }

    #[inline(always)]
    fn readable<W: Width>(&self, lin: u64) -> Result<*const u8, Exception> {
        self.0
            .direct_read::<W>(lin)
            .ok_or(const { Exception::Declined })
    }

    #[inline(always)]
    fn writable<W: Width>(&self, lin: u64) -> Result<*mut u8, Exception> {
        self.0
            .direct_write::<W>(lin)
            .ok_or(const { Exception::Declined })
    }

    #[inline(always)]
    fn set_sp(&mut self, sp: u64) {
        self.0.cpu.regs[Reg::RSP] = if LONG { sp } else { sp & 0xFFFF_FFFF };
    }
}

impl<const LONG: bool> Tier for Flat<LONG> {
    type Place = *mut u8;

    #[inline(always)]
    fn of(v: &mut Vcpu) -> &mut Self {
        // SAFETY: `Flat` is a transparent wrapper.
        unsafe { &mut *std::ptr::from_mut(v).cast::<Self>() }
    }

    #[inline(always)]
    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.0
    }

    #[inline(always)]
    fn address(&mut self, insn: &Insn) -> u64 {
        let base = self.0.cpu.regs[usize::from(insn.base & 0x1F)];
        let index = self.0.cpu.regs[usize::from(insn.index & 0x1F)];
        Self::wrap(
            base.wrapping_add(index << (insn.scale & 3))
                .wrapping_add(insn.disp),
        )
    }

    #[inline(always)]
    fn load<W: Width>(&mut self, _: &Insn, lin: u64) -> Result<u64, Exception> {
        let ptr = self.readable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM or ROM.
        Ok(unsafe { W::load(ptr) })
    }

    #[inline(always)]
    fn store<W: Width>(&mut self, _: &Insn, lin: u64, value: u64) -> Result<(), Exception> {
        let ptr = self.writable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM.
        unsafe { W::store(ptr, value) };
        Ok(())
    }

    #[inline(always)]
    fn load_for_update<W: Width>(
        &mut self,
        _: &Insn,
        lin: u64,
    ) -> Result<(u64, *mut u8), Exception> {
        let ptr = self.writable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM.
        Ok((unsafe { W::load(ptr) }, ptr))
    }

    #[inline(always)]
    fn store_update<W: Width>(&mut self, _insn: &Insn, place: *mut u8, value: u64) {
        // SAFETY: the pointer was taken from the TLB in this instruction; nothing has changed a mapping since.
        unsafe { W::store(place, value) };
    }

    #[inline(always)]
    fn push<W: Width>(&mut self, _insn: &Insn, value: u64) -> Result<(), Exception> {
        let sp = Self::wrap(self.0.cpu.regs[Reg::RSP].wrapping_sub(W::BYTES));
        let ptr = self.writable::<W>(sp)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM.
        unsafe { W::store(ptr, value) };
        self.set_sp(sp);
        Ok(())
    }

    #[inline(always)]
    fn peek<W: Width>(&mut self, _insn: &Insn, depth: u64) -> Result<u64, Exception> {
        let sp = Self::wrap(self.0.cpu.regs[Reg::RSP].wrapping_add(depth));
        let ptr = self.readable::<W>(sp)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM or ROM.
        Ok(unsafe { W::load(ptr) })
    }

    #[inline(always)]
    fn drop_stack(&mut self, bytes: u64) {
        let sp = self.0.cpu.regs[Reg::RSP].wrapping_add(bytes);
        self.set_sp(sp);
    }

    #[inline(always)]
    fn next_ip(&mut self, insn: &Insn) -> u64 {
        Self::wrap(self.0.cpu.regs[Reg::RIP].wrapping_add(u64::from(insn.end)))
    }

    #[inline(always)]
    fn check_target(&mut self, target: u64) -> Result<(), Exception> {
        // The flat code segment ends at 4 GiB: every 32-bit target lies in it.
        if LONG && !is_canonical(target) {
            return Err(Exception::gp(0));
        }
        Ok(())
    }

    #[inline(always)]
    fn load_vector(&mut self, _: &Insn, lin: u64, aligned: bool) -> Result<u128, Exception> {
        check_vector(lin, aligned)?;
        let ptr = self.readable::<B>(lin)?;
        // SAFETY: the TLB gives a pointer into a page of guest RAM or ROM, which has 16 bytes from there on.
        Ok(unsafe { ptr.cast::<u128>().read_unaligned() })
    }

    #[inline(always)]
    fn store_vector(
        &mut self,
        _: &Insn,
        lin: u64,
        value: u128,
        aligned: bool,
    ) -> Result<(), Exception> {
        check_vector(lin, aligned)?;
        let ptr = self.writable::<B>(lin)?;
        // SAFETY: the TLB gives a pointer into a page of guest RAM, which has 16 bytes from there on.
        unsafe { ptr.cast::<u128>().write_unaligned(value) };
        Ok(())
    }
}

/// A memory operand with a base register or none, and no index.
struct Based<const LONG: bool>;

impl<const LONG: bool> Addressed for Based<LONG> {
    #[inline(always)]
    fn address<E: Emit>(e: &mut E, insn: &Insn) -> E::Val {
        let disp = e.constant(insn.disp);
        let base = e.reg::<Q>(insn.base);
        if LONG {
            e.add::<Q>(base, disp)
        } else {
            e.add::<D>(base, disp)
        }
    }
}

// ---- the choice --------------------------------------------------------------------------------

/// How the memory operand is addressed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Address {
    /// There is none.
    None,
    Based,
    Indexed,
}

/// Where an instruction's operands are: makes the chained handlers for the forms that are frequent.
pub(crate) struct FlatForms<const LONG: bool> {
    form: Option<Form>,
    address: Address,
}

/// `None` for an instruction with a memory operand that [`Flat`] does not reach.
pub(crate) fn of<const LONG: bool>(iced: &Instruction, insn: &Insn) -> Option<FlatForms<LONG>> {
    Some(FlatForms {
        form: form::form(iced),
        address: address(iced, insn, if LONG { !0 } else { 0xFFFF_FFFF })?,
    })
}

/// `None` for a memory operand that [`Flat`] does not reach.
fn address(iced: &Instruction, insn: &Insn, mask: u64) -> Option<Address> {
    if !(0..iced.op_count()).any(|n| iced.op_kind(n) == OpKind::Memory) {
        return Some(Address::None);
    }
    let no_address =
        iced.memory_base() == iced_x86::Register::None && insn.index == Reg::ZERO as u8;
    if insn.addr_mask != mask && !no_address {
        return None;
    }
    match usize::from(insn.seg) {
        SegmentRegister::FLAT if insn.index == Reg::ZERO as u8 => Some(Address::Based),
        SegmentRegister::FLAT => Some(Address::Indexed),
        _ => None,
    }
}

fn take<F: Filled, const LONG: bool>() -> Option<ExecFn> {
    Some(chained::<OnTier<F, Flat<LONG>>>)
}

/// Makes the `match` over the ways to address memory, with the operand's type as `$m`.
macro_rules! addressed {
    ($self:ident, $m:ident => $filled:ty) => {
        match $self.address {
            Address::Based => {
                type $m<const L: bool> = Based<L>;
                take::<$filled, LONG>()
            }
            Address::Indexed => {
                type $m<const L: bool> = Memory;
                take::<$filled, LONG>()
            }
            Address::None => None,
        }
    };
}

/// Makes the `match` over the widths at which a function is frequent in the mode.
///
/// The guards are constants, so that nothing is compiled for the others.
macro_rules! frequent {
    ($f:ident, $bits:expr, $w:ident => $body:expr) => {
        match $bits {
            8 if const { $f::FREQUENT & width::B != 0 } => {
                type $w = B;
                $body
            }
            16 if const { $f::FREQUENT & width::W16 != 0 } => {
                type $w = W16;
                $body
            }
            32 if const { !($f::NATIVE && LONG) && $f::FREQUENT & width::D != 0 } => {
                type $w = D;
                $body
            }
            64 if const { LONG && $f::FREQUENT & width::Q != 0 } => {
                type $w = Q;
                $body
            }
            _ => None,
        }
    };
}

impl<const LONG: bool> Visitor for FlatForms<LONG> {
    type Out = ExecFn;

    fn bare<F: Bare>(&self, bits: usize) -> Option<ExecFn> {
        frequent!(F, bits, W => take::<Bared<F, W>, LONG>())
    }

    fn reads<F: Reads<N>, const N: usize>(&self, bits: usize) -> Option<ExecFn> {
        let kind = match (self.form?, N) {
            (Form::R, 0) | (Form::RR, 1) => Form::R,
            (Form::M, 0) | (Form::RM, 1) => Form::M,
            (Form::I, 0) => Form::I,
            _ => return None,
        };
        frequent!(F, bits, W => match kind {
            Form::R => take::<Reading<F, W, Register<N>, N>, LONG>(),
            Form::M if const { F::MEMORY } => addressed!(self, M => Reading<F, W, M<LONG>, N>),
            Form::I if const { N == 0 } => take::<Reading<F, W, Immediate, N>, LONG>(),
            _ => None,
        })
    }

    fn changes<F: Changes>(&self, bits: usize) -> Option<ExecFn> {
        frequent!(F, bits, W => match self.address {
            Address::None => take::<Changing<F, W, Register<0>>, LONG>(),
            _ if const { F::MEMORY } => addressed!(self, M => Changing<F, W, M<LONG>>),
            _ => None,
        })
    }

    fn combines<F: Combines>(&self, bits: usize) -> Option<ExecFn> {
        frequent!(F, bits, W => match self.form? {
            Form::RR => take::<Combining<F, W, Register<0>, Register<1>>, LONG>(),
            Form::RI => take::<Combining<F, W, Register<0>, Immediate>, LONG>(),
            _ if const { !F::MEMORY } => None,
            Form::RM => addressed!(self, M => Combining<F, W, Register<0>, M<LONG>>),
            Form::MR => addressed!(self, M => Combining<F, W, M<LONG>, Register<1>>),
            Form::MI => addressed!(self, M => Combining<F, W, M<LONG>, Immediate>),
            _ => None,
        })
    }

    fn extends<F: Extends>(&self, to: usize, from: usize) -> Option<ExecFn> {
        macro_rules! from {
            ($x:ty) => {
                frequent!(F, to, W => match self.address {
                    Address::None => take::<Extending<F, W, $x, Register<1>>, LONG>(),
                    _ => addressed!(self, M => Extending<F, W, $x, M<LONG>>),
                })
            };
        }
        match from {
            8 => from!(B),
            16 => from!(W16),
            32 if const { LONG } => from!(D),
            _ => None,
        }
    }

    fn addresses<F: Addresses>(&self, bits: usize) -> Option<ExecFn> {
        frequent!(F, bits, W => addressed!(self, M => Addressing<F, W, M<LONG>>))
    }

    fn reads_vector<F: ReadsVector>(&self) -> Option<ExecFn> {
        if const { F::FREQUENT == 0 } {
            return None;
        }
        match self.address {
            Address::None => take::<ReadingVector<F, Register<1>>, LONG>(),
            _ => addressed!(self, M => ReadingVector<F, M<LONG>>),
        }
    }
}

// ---- pairs -------------------------------------------------------------------------------------

/// A comparison and the conditional jump behind it, the last two instructions of a block.
///
/// Each keeps its place in the block, so that faults, counts and single steps see two instructions.
fn pair<F: Filled, const LONG: bool, const CC: usize>(v: &mut Vcpu, insn: &Insn) -> Done {
    let flat = Flat::<LONG>::of(v);
    if let Err(exception) = F::call(flat, insn) {
        return stop(v, insn, exception);
    }
    // SAFETY: a pair is chosen only where the jump follows.
    let jump = unsafe { next(insn) };
    let flat = Flat::<LONG>::of(v);
    let jumped = if LONG {
        branch::jump_if::<_, Q, branch::Fixed<CC>>(flat, jump)
    } else {
        branch::jump_if::<_, D, branch::Fixed<CC>>(flat, jump)
    };
    match jumped {
        Ok(()) => Ok(()),
        Err(exception) => stop(v, jump, exception),
    }
}

/// A comparison with a conditional jump behind it: makes their common handler.
pub(crate) struct FlatPair<const LONG: bool> {
    operands: FlatForms<LONG>,
    condition: Condition,
}

/// `None` where there is none.
pub(crate) fn pair_of<const LONG: bool>(
    compare: &Instruction,
    insn: &Insn,
    condition: Condition,
) -> Option<FlatPair<LONG>> {
    Some(FlatPair {
        operands: of(compare, insn)?,
        condition,
    })
}

impl<const LONG: bool> FlatPair<LONG> {
    fn take<F: Filled>(&self) -> Option<ExecFn> {
        by_condition!(self.condition, CC => if const { F::PAIRS >> CC & 1 != 0 } {
            Some(pair::<F, LONG, CC>)
        } else {
            None
        })
    }
}

impl<const LONG: bool> Visitor for FlatPair<LONG> {
    type Out = ExecFn;

    fn combines<F: Combines>(&self, bits: usize) -> Option<ExecFn> {
        macro_rules! forms {
            ($w:ty) => {
                match (self.operands.form?, self.operands.address) {
                    (Form::RR, _) => self.take::<Combining<F, $w, Register<0>, Register<1>>>(),
                    (Form::RI, _) => self.take::<Combining<F, $w, Register<0>, Immediate>>(),
                    (Form::RM, Address::Based) => {
                        self.take::<Combining<F, $w, Register<0>, Based<LONG>>>()
                    }
                    (Form::MR, Address::Based) => {
                        self.take::<Combining<F, $w, Based<LONG>, Register<1>>>()
                    }
                    (Form::MI, Address::Based) => {
                        self.take::<Combining<F, $w, Based<LONG>, Immediate>>()
                    }
                    _ => None,
                }
            };
        }
        match bits {
            8 if const { F::PAIRS != 0 } => forms!(B),
            32 if const { F::PAIRS != 0 } => forms!(D),
            64 if const { LONG && F::PAIRS != 0 } => forms!(Q),
            _ => None,
        }
    }
}
