//! The frequent instructions once more, for the two modes in which guests spend their time: flat
//! 32-bit and 64-bit. The semantics are the same functions; only the [`Emit`] below them differs.
//!
//! [`Fast`] reaches memory by the TLB's direct pointers and by nothing else. Where that does not do (a
//! miss, a device, a page with code, a breakpoint, an address that is not canonical) the handler
//! declines: it returns [`Exception::Declined`], with nothing changed, and the run loop executes the
//! instruction by its full handler, [`Insn::exec`]. So a handler has no slow path, and needs no frame.
//!
//! A handler here ends by calling the next instruction's, a tail call in an optimised build; the last
//! instruction of a block returns. They run whole blocks only: single steps and the end of a slice use
//! the full handlers. A comparison with a conditional jump behind it executes both.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use crate::cpu::{Reg, SegmentRegister};
use crate::emit::{Emit, ShiftOp, VectorOp};
use crate::exception::Exception;
use crate::flags::{Condition, FlagOp};
use crate::insn::{ExecFn, Insn};
use crate::ops::form::{self, Form, Immediate, Memory, Register, Source, Target};
use crate::ops::mov::by_condition;
use crate::ops::{alu, branch, mov, muldiv, shift, stack};
use crate::table::Ends;
use crate::vcpu::{Vcpu, is_canonical};
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

/// The processor in 64-bit mode (`LONG`) or flat 32-bit mode; `SEG`: the memory operand has a segment
/// base, FS or GS.
#[repr(transparent)]
pub(crate) struct Fast<const LONG: bool, const SEG: bool>(Vcpu);

impl<const LONG: bool, const SEG: bool> Fast<LONG, SEG> {
    #[inline(always)]
    fn of(v: &mut Vcpu) -> &mut Self {
        // SAFETY: `Fast` is a transparent wrapper.
        unsafe { &mut *std::ptr::from_mut(v).cast::<Self>() }
    }

    /// An address or an instruction pointer, truncated to the mode's width.
    #[inline(always)]
    fn wrap(address: u64) -> u64 {
        if LONG { address } else { address & 0xFFFF_FFFF }
    }

    #[inline(always)]
    fn linear(&self, insn: &Insn, offset: u64) -> Result<u64, Exception> {
        if !SEG {
            return Ok(offset);
        }
        let seg = insn.seg & 7;
        if !LONG && self.0.wide_segments >> seg & 1 == 0 {
            return Err(Exception::Declined);
        }
        Ok(Self::wrap(
            self.0.cpu.seg_base[usize::from(seg)].wrapping_add(offset),
        ))
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

    /// Declines a call to where no code can be, before anything is pushed.
    #[inline(always)]
    fn check_call(target: u64) -> Done {
        if LONG && !is_canonical(target) {
            return Err(Exception::Declined);
        }
        Ok(())
    }
}

macro_rules! delegate {
    ($(fn $name:ident$(<$($g:ident: $bound:ident),*>)?($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {
        $(
            #[inline(always)]
            fn $name$(<$($g: $bound),*>)?(&mut self, $($arg: $ty),*) $(-> $ret)? {
                <Vcpu as Emit>::$name$(::<$($g),*>)?(&mut self.0, $($arg),*)
            }
        )*
    };
}

impl<const LONG: bool, const SEG: bool> Emit for Fast<LONG, SEG> {
    type Val = u64;
    type Cond = bool;
    type Vector = u128;
    type Place = *mut u8;

    delegate! {
        fn constant(value: u64) -> u64;
        fn reg<W: Width>(n: u8) -> u64;
        fn set_reg<W: Width>(n: u8, value: u64);
        fn add<W: Width>(a: u64, b: u64) -> u64;
        fn sub<W: Width>(a: u64, b: u64) -> u64;
        fn and(a: u64, b: u64) -> u64;
        fn or(a: u64, b: u64) -> u64;
        fn xor(a: u64, b: u64) -> u64;
        fn not<W: Width>(a: u64) -> u64;
        fn sext<W: Width>(a: u64) -> u64;
        fn zext<W: Width>(a: u64) -> u64;
        fn byte_swap<W: Width>(a: u64) -> u64;
        fn mul<W: Width>(a: u64, b: u64) -> u64;
        fn mul_high<W: Width>(a: u64, b: u64) -> u64;
        fn mul_high_signed<W: Width>(a: u64, b: u64) -> u64;
        fn shift<W: Width>(op: ShiftOp, a: u64, count: u64) -> u64;
        fn select(cond: bool, a: u64, b: u64) -> u64;
        fn from_cond(cond: bool) -> u64;
        fn is_zero(a: u64) -> bool;
        fn set_flags<W: Width>(op: FlagOp, a: u64, b: u64, result: u64);
        fn set_flags_keep_carry<W: Width>(op: FlagOp, a: u64, result: u64);
        fn set_flags_mul<W: Width>(result: u64, overflow: bool);
        fn carry() -> u64;
        fn condition(condition: Condition) -> bool;
        fn check_sse() -> Result<(), Exception>;
        fn xmm(n: u8) -> u128;
        fn set_xmm(n: u8, value: u128);
        fn vector<O: VectorOp>(a: u128, b: u128) -> u128;
        fn vector_low<W: Width>(a: u128) -> u64;
        fn vector_from(value: u64) -> u128;
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
    fn load<W: Width>(&mut self, insn: &Insn, offset: u64) -> Result<u64, Exception> {
        let lin = self.linear(insn, offset)?;
        let ptr = self.readable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM or ROM.
        Ok(unsafe { W::load(ptr) })
    }

    #[inline(always)]
    fn store<W: Width>(&mut self, insn: &Insn, offset: u64, value: u64) -> Result<(), Exception> {
        let lin = self.linear(insn, offset)?;
        let ptr = self.writable::<W>(lin)?;
        // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM.
        unsafe { W::store(ptr, value) };
        Ok(())
    }

    #[inline(always)]
    fn load_for_update<W: Width>(
        &mut self,
        insn: &Insn,
        offset: u64,
    ) -> Result<(u64, *mut u8), Exception> {
        let lin = self.linear(insn, offset)?;
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
    fn fall_through(&mut self, insn: &Insn) {
        let rip = &mut self.0.cpu.regs[Reg::RIP];
        *rip = Self::wrap(rip.wrapping_add(u64::from(insn.end)));
    }

    #[inline(always)]
    fn jump<W: Width>(&mut self, _insn: &Insn, target: u64) -> Result<(), Exception> {
        let target = W::zext(target);
        // The flat code segment ends at 4 GiB: every 32-bit target lies in it.
        if LONG && !is_canonical(target) {
            return Err(Exception::gp(0));
        }
        self.0.set_ip(target);
        Ok(())
    }

    #[inline(always)]
    fn jump_near<W: Width>(&mut self, insn: &Insn) -> Result<(), Exception> {
        let target = self.0.near_target::<W>(insn);
        self.jump::<W>(insn, target)
    }

    #[inline(always)]
    fn branch<W: Width>(&mut self, insn: &Insn, cond: bool) -> Result<(), Exception> {
        if cond {
            self.jump_near::<W>(insn)
        } else {
            self.fall_through(insn);
            Ok(())
        }
    }

    #[inline(always)]
    fn return_address<W: Width>(&mut self, insn: &Insn) -> u64 {
        W::zext(self.0.cpu.regs[Reg::RIP].wrapping_add(u64::from(insn.end)))
    }

    #[inline(always)]
    fn load_vector(&mut self, insn: &Insn, offset: u64, aligned: bool) -> Result<u128, Exception> {
        self.0.load_xmm(insn, offset, aligned)
    }

    #[inline(always)]
    fn store_vector(
        &mut self,
        insn: &Insn,
        offset: u64,
        value: u128,
        aligned: bool,
    ) -> Result<(), Exception> {
        self.0.store_xmm(insn, offset, value, aligned)
    }
}

/// A memory operand with a base register or none, and no index.
struct Based<const LONG: bool>;

impl<const LONG: bool> Based<LONG> {
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

impl<const LONG: bool> Source for Based<LONG> {
    #[inline(always)]
    fn read<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<E::Val, Exception> {
        let address = Self::address(e, insn);
        e.load::<W>(insn, address)
    }
}

impl<const LONG: bool> Target for Based<LONG> {
    type Hold<E: Emit> = E::Place;
    #[inline(always)]
    fn begin<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Result<(E::Val, E::Place), Exception> {
        let address = Self::address(e, insn);
        e.load_for_update::<W>(insn, address)
    }
    #[inline(always)]
    fn finish<E: Emit, W: Width>(e: &mut E, insn: &Insn, place: E::Place, value: E::Val) {
        e.store_update::<W>(insn, place, value);
    }
    #[inline(always)]
    fn write<E: Emit, W: Width>(e: &mut E, insn: &Insn, value: E::Val) -> Result<(), Exception> {
        let address = Self::address(e, insn);
        e.store::<W>(insn, address, value)
    }
}

// ---- chaining ----------------------------------------------------------------------------------

/// The instruction behind `insn`.
///
/// # Safety
/// `insn` is not the last one of its block.
#[inline(always)]
unsafe fn next(insn: &Insn) -> &Insn {
    // SAFETY: the instructions of a block lie one behind the other, and the caller vouches for a next one.
    unsafe { &*std::ptr::from_ref(insn).add(1) }
}

#[cold]
#[inline(never)]
fn stop(v: &mut Vcpu, insn: &Insn, exception: Exception) -> Done {
    v.stopped = insn;
    Err(exception)
}

/// The value of a function's own type, which has no bytes.
#[inline(always)]
fn function<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0) };
    // SAFETY: a type without bytes has one value, and a function's type is inhabited.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

fn chained<F: Fn(&mut Vcpu, &Insn) -> Done + Copy>(v: &mut Vcpu, insn: &Insn) -> Done {
    if let Err(exception) = function::<F>()(v, insn) {
        return stop(v, insn, exception);
    }
    // SAFETY: only instructions that do not end their block get this handler; a block whose last
    // instruction is no branch has a `fall_through` behind it.
    let next = unsafe { next(insn) };
    (next.fast)(v, next)
}

fn ended<F: Fn(&mut Vcpu, &Insn) -> Done + Copy>(v: &mut Vcpu, insn: &Insn) -> Done {
    match function::<F>()(v, insn) {
        Ok(()) => Ok(()),
        Err(exception) => stop(v, insn, exception),
    }
}

/// The handler that executes `f` and goes on with the next instruction.
fn chain<F: Fn(&mut Vcpu, &Insn) -> Done + Copy>(_: F) -> ExecFn {
    chained::<F>
}

/// The handler that executes `f` and returns to the run loop.
fn end<F: Fn(&mut Vcpu, &Insn) -> Done + Copy>(_: F) -> ExecFn {
    ended::<F>
}

/// For an instruction without a handler of its own here.
fn plain(v: &mut Vcpu, insn: &Insn) -> Done {
    if let Err(exception) = (insn.exec)(v, insn) {
        return stop(v, insn, exception);
    }
    // SAFETY: as in `chained`.
    let next = unsafe { next(insn) };
    (next.fast)(v, next)
}

/// The same for the last one of a block.
pub(crate) fn last(v: &mut Vcpu, insn: &Insn) -> Done {
    match (insn.exec)(v, insn) {
        Ok(()) => Ok(()),
        Err(exception) => stop(v, insn, exception),
    }
}

/// Stands in for the rest of a block that was dropped while it ran.
pub(crate) fn retry(v: &mut Vcpu, insn: &Insn) -> Done {
    stop(v, insn, Exception::Retry)
}

// ---- the choice --------------------------------------------------------------------------------

/// How the memory operand is addressed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Address {
    /// There is none.
    None,
    Based,
    Indexed,
    Segmented,
}

/// The handler for `insn` in a mode given by the block's key; else by [`of_full`].
pub(crate) fn choose(iced: &Instruction, insn: &Insn, ends: Ends, mode_key: u32) -> ExecFn {
    let chosen = match mode_key & 7 {
        // Flat 32-bit, and 64-bit mode.
        5 => address(iced, insn, 0xFFFF_FFFF).and_then(|a| choose_in::<false>(iced, a)),
        2 => address(iced, insn, !0).and_then(|a| choose_in::<true>(iced, a)),
        _ => None,
    };
    chosen.unwrap_or(of_full(ends))
}

/// The handler of an instruction that has its full one only.
pub(crate) fn of_full(ends: Ends) -> ExecFn {
    match ends {
        Ends::Branch => last,
        Ends::No | Ends::After => plain,
    }
}

/// `None` for a memory operand that [`Fast`] does not reach.
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
        SegmentRegister::FS | SegmentRegister::GS => Some(Address::Segmented),
        _ => None,
    }
}

/// A handler for a semantic function over `Fast`.
macro_rules! over {
    ($how:ident, $long:expr, $seg:expr, $f:expr) => {
        Some($how(|v: &mut Vcpu, insn: &Insn| {
            $f(Fast::<{ $long }, { $seg }>::of(v), insn)
        }))
    };
}

/// Chooses by the way that the memory operand is addressed.
macro_rules! addressed {
    ($how:ident, $long:ident, $a:expr, $m:ident => $f:expr) => {
        match $a {
            Address::Based => {
                type $m<const L: bool> = Based<L>;
                over!($how, $long, false, $f)
            }
            Address::Indexed => {
                type $m<const L: bool> = Memory;
                over!($how, $long, false, $f)
            }
            Address::Segmented => {
                type $m<const L: bool> = Memory;
                over!($how, $long, true, $f)
            }
            Address::None => None,
        }
    };
}

/// Chooses among the forms of two operands.
macro_rules! two {
    ($module:ident::$f:ident, $long:ident, $iced:expr, $a:expr) => {{
        macro_rules! forms {
            ($w:ty) => {
                match form::form($iced)? {
                    Form::RR => over!(chain, $long, false, $module::$f::<_, $w, Register<0>, Register<1>>),
                    Form::RI => over!(chain, $long, false, $module::$f::<_, $w, Register<0>, Immediate>),
                    Form::RM => {
                        addressed!(chain, $long, $a, M => $module::$f::<_, $w, Register<0>, M<$long>>)
                    }
                    Form::MR => {
                        addressed!(chain, $long, $a, M => $module::$f::<_, $w, M<$long>, Register<1>>)
                    }
                    Form::MI => addressed!(chain, $long, $a, M => $module::$f::<_, $w, M<$long>, Immediate>),
                    _ => None,
                }
            };
        }
        match form::width($iced, 0) {
            8 => forms!(B),
            16 => forms!(W16),
            32 => forms!(D),
            64 if $long => forms!(Q),
            _ => None,
        }
    }};
}

/// Chooses among the forms of one operand.
macro_rules! one {
    ($module:ident::$f:ident, $long:ident, $iced:expr, $a:expr) => {{
        macro_rules! forms {
            ($w:ty) => {
                match $a {
                    Address::None => over!(chain, $long, false, $module::$f::<_, $w, Register<0>>),
                    a => addressed!(chain, $long, a, M => $module::$f::<_, $w, M<$long>>),
                }
            };
        }
        match form::width($iced, 0) {
            8 => forms!(B),
            16 => forms!(W16),
            32 => forms!(D),
            64 if $long => forms!(Q),
            _ => None,
        }
    }};
}

fn choose_in<const LONG: bool>(iced: &Instruction, a: Address) -> Option<ExecFn> {
    let general = |n: u32| iced.op_kind(n) != OpKind::Register || iced.op_register(n).is_gpr();
    if !(0..iced.op_count().min(2)).all(general) {
        return None;
    }
    match iced.mnemonic() {
        Mnemonic::Mov => two!(mov::mov, LONG, iced, a),
        Mnemonic::Add => two!(alu::add, LONG, iced, a),
        Mnemonic::Sub => two!(alu::sub, LONG, iced, a),
        Mnemonic::And => two!(alu::and, LONG, iced, a),
        Mnemonic::Or => two!(alu::or, LONG, iced, a),
        Mnemonic::Xor => two!(alu::xor, LONG, iced, a),
        Mnemonic::Adc => two!(alu::adc, LONG, iced, a),
        Mnemonic::Sbb => two!(alu::sbb, LONG, iced, a),
        Mnemonic::Cmp => two!(alu::cmp, LONG, iced, a),
        Mnemonic::Test => two!(alu::test, LONG, iced, a),
        Mnemonic::Inc => one!(alu::inc, LONG, iced, a),
        Mnemonic::Dec => one!(alu::dec, LONG, iced, a),
        Mnemonic::Neg => one!(alu::neg, LONG, iced, a),
        Mnemonic::Not => one!(alu::not, LONG, iced, a),
        Mnemonic::Lea => lea::<LONG>(iced, a),
        Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd => extend::<LONG>(iced, a),
        Mnemonic::Shl | Mnemonic::Sal => shifts::<LONG, 4>(iced),
        Mnemonic::Shr => shifts::<LONG, 5>(iced),
        Mnemonic::Sar => shifts::<LONG, 7>(iced),
        Mnemonic::Rol => shifts::<LONG, 0>(iced),
        Mnemonic::Ror => shifts::<LONG, 1>(iced),
        Mnemonic::Imul => imul::<LONG>(iced, a),
        Mnemonic::Push => push::<LONG>(iced, a),
        Mnemonic::Pop => pop::<LONG>(iced),
        Mnemonic::Jmp | Mnemonic::Call | Mnemonic::Ret => transfer::<LONG>(iced, a),
        _ => conditional::<LONG>(iced, a),
    }
}

fn lea<const LONG: bool>(iced: &Instruction, a: Address) -> Option<ExecFn> {
    fn based<const L: bool, E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
        let address = Based::<L>::address(e, insn);
        e.set_reg::<W>(insn.r[0], address);
        Ok(())
    }
    match (form::width(iced, 0), a) {
        (32, Address::Based) => over!(chain, LONG, false, based::<LONG, _, D>),
        (32, Address::Indexed) => over!(chain, LONG, false, mov::lea_generic::<_, D>),
        (64, Address::Based) => over!(chain, LONG, false, based::<LONG, _, Q>),
        (64, Address::Indexed) => over!(chain, LONG, false, mov::lea_generic::<_, Q>),
        _ => None,
    }
}

fn extend<const LONG: bool>(iced: &Instruction, a: Address) -> Option<ExecFn> {
    let signed = iced.mnemonic() != Mnemonic::Movzx;
    macro_rules! forms {
        ($w:ty, $s:ty) => {
            match (signed, a) {
                (false, Address::None) => {
                    over!(chain, LONG, false, mov::movzx::<_, $w, $s, Register<1>>)
                }
                (true, Address::None) => {
                    over!(chain, LONG, false, mov::movsx::<_, $w, $s, Register<1>>)
                }
                (false, a) => addressed!(chain, LONG, a, M => mov::movzx::<_, $w, $s, M<LONG>>),
                (true, a) => addressed!(chain, LONG, a, M => mov::movsx::<_, $w, $s, M<LONG>>),
            }
        };
    }
    match (form::width(iced, 0), form::width(iced, 1)) {
        (32, 8) => forms!(D, B),
        (32, 16) => forms!(D, W16),
        (64, 8) => forms!(Q, B),
        (64, 16) => forms!(Q, W16),
        (64, 32) => forms!(Q, D),
        _ => None,
    }
}

fn shifts<const LONG: bool, const OP: usize>(iced: &Instruction) -> Option<ExecFn> {
    macro_rules! forms {
        ($w:ty) => {
            if iced.op_kind(1) == OpKind::Register {
                over!(
                    chain,
                    LONG,
                    false,
                    shift::shift::<_, $w, Register<0>, OP, true>
                )
            } else {
                over!(
                    chain,
                    LONG,
                    false,
                    shift::shift::<_, $w, Register<0>, OP, false>
                )
            }
        };
    }
    match (iced.op_kind(0), form::width(iced, 0)) {
        (OpKind::Register, 8) => forms!(B),
        (OpKind::Register, 16) => forms!(W16),
        (OpKind::Register, 32) => forms!(D),
        (OpKind::Register, 64) if LONG => forms!(Q),
        _ => None,
    }
}

fn imul<const LONG: bool>(iced: &Instruction, a: Address) -> Option<ExecFn> {
    macro_rules! forms {
        ($w:ty) => {
            match (a, iced.op_count()) {
                (Address::None, 2) => {
                    over!(chain, LONG, false, muldiv::imul_truncated::<_, $w, Register<1>, false>)
                }
                (Address::None, 3) => {
                    over!(chain, LONG, false, muldiv::imul_truncated::<_, $w, Register<1>, true>)
                }
                (a, 2) => {
                    addressed!(chain, LONG, a, M => muldiv::imul_truncated::<_, $w, M<LONG>, false>)
                }
                _ => None,
            }
        };
    }
    match form::width(iced, 0) {
        32 => forms!(D),
        64 if LONG => forms!(Q),
        _ => None,
    }
}

/// Whether the stack operand is as wide as the mode's stack.
fn native<const LONG: bool>(iced: &Instruction) -> bool {
    let bits = iced.stack_pointer_increment().unsigned_abs() * 8;
    bits == if LONG { 64 } else { 32 }
}

fn push<const LONG: bool>(iced: &Instruction, a: Address) -> Option<ExecFn> {
    if !native::<LONG>(iced) {
        return None;
    }
    macro_rules! forms {
        ($w:ty) => {
            match iced.op_kind(0) {
                OpKind::Register => over!(chain, LONG, false, stack::push::<_, $w, Register<0>>),
                OpKind::Memory => {
                    addressed!(chain, LONG, a, M => stack::push::<_, $w, M<LONG>>)
                }
                _ => over!(chain, LONG, false, stack::push::<_, $w, Immediate>),
            }
        };
    }
    if LONG { forms!(Q) } else { forms!(D) }
}

fn pop<const LONG: bool>(iced: &Instruction) -> Option<ExecFn> {
    if !native::<LONG>(iced) || iced.op_kind(0) != OpKind::Register {
        return None;
    }
    if LONG {
        over!(chain, LONG, false, stack::pop::<_, Q>)
    } else {
        over!(chain, LONG, false, stack::pop::<_, D>)
    }
}

// ---- branches ----------------------------------------------------------------------------------

fn call_near<const LONG: bool, W: Width>(e: &mut Fast<LONG, false>, insn: &Insn) -> Done {
    Fast::<LONG, false>::check_call(e.0.near_target::<W>(insn))?;
    let back = e.return_address::<W>(insn);
    e.push::<W>(insn, back)?;
    e.jump_near::<W>(insn)
}

fn call_indirect<const LONG: bool, const SEG: bool, W: Width, S: Source>(
    e: &mut Fast<LONG, SEG>,
    insn: &Insn,
) -> Done {
    let target = S::read::<_, W>(e, insn)?;
    Fast::<LONG, SEG>::check_call(target)?;
    let back = e.return_address::<W>(insn);
    e.push::<W>(insn, back)?;
    e.jump::<W>(insn, target)
}

fn transfer<const LONG: bool>(iced: &Instruction, a: Address) -> Option<ExecFn> {
    use Code::{
        Call_rel32_32, Call_rel32_64, Call_rm32, Call_rm64, Jmp_rel8_32, Jmp_rel8_64, Jmp_rel32_32,
        Jmp_rel32_64, Jmp_rm32, Jmp_rm64, Retnd, Retnd_imm16, Retnq, Retnq_imm16,
    };
    macro_rules! indirect {
        ($register:expr, $m:ident => $memory:expr) => {
            match a {
                Address::None => over!(end, LONG, false, $register),
                a => addressed!(end, LONG, a, $m => $memory),
            }
        };
    }
    match iced.code() {
        Jmp_rel8_32 | Jmp_rel32_32 if !LONG => over!(end, LONG, false, branch::jmp::<_, D>),
        Jmp_rel8_64 | Jmp_rel32_64 if LONG => over!(end, LONG, false, branch::jmp::<_, Q>),
        Call_rel32_32 if !LONG => over!(end, LONG, false, call_near::<LONG, D>),
        Call_rel32_64 if LONG => over!(end, LONG, false, call_near::<LONG, Q>),
        Retnd | Retnd_imm16 if !LONG => over!(end, LONG, false, branch::ret::<_, D>),
        Retnq | Retnq_imm16 if LONG => over!(end, LONG, false, branch::ret::<_, Q>),
        Jmp_rm32 if !LONG => {
            indirect!(branch::jmp_indirect::<_, D, Register<0>>, M => branch::jmp_indirect::<_, D, M<LONG>>)
        }
        Jmp_rm64 if LONG => {
            indirect!(branch::jmp_indirect::<_, Q, Register<0>>, M => branch::jmp_indirect::<_, Q, M<LONG>>)
        }
        Call_rm32 if !LONG => {
            indirect!(call_indirect::<LONG, _, D, Register<0>>, M => call_indirect::<LONG, _, D, M<LONG>>)
        }
        Call_rm64 if LONG => {
            indirect!(call_indirect::<LONG, _, Q, Register<0>>, M => call_indirect::<LONG, _, Q, M<LONG>>)
        }
        _ => None,
    }
}

/// Whether this is a near Jcc of the mode's own width.
fn is_jump_if<const LONG: bool>(iced: &Instruction) -> bool {
    let kind = if LONG {
        OpKind::NearBranch64
    } else {
        OpKind::NearBranch32
    };
    iced.is_jcc_short_or_near() && iced.op0_kind() == kind
}

fn conditional<const LONG: bool>(iced: &Instruction, a: Address) -> Option<ExecFn> {
    let condition = iced.condition_code() as usize;
    // iced numbers them from 1, by opcode.
    let condition = *Condition::ALL.get(condition.checked_sub(1)?)?;
    if is_jump_if::<LONG>(iced) {
        return by_condition!(condition, CC => if LONG {
            over!(end, LONG, false, branch::jump_if::<_, Q, CC>)
        } else {
            over!(end, LONG, false, branch::jump_if::<_, D, CC>)
        });
    }
    if iced.op_count() == 2 && iced.op0_kind() == OpKind::Register {
        return cmov::<LONG>(iced, condition, a);
    }
    if iced.op_count() == 1 && iced.op0_kind() == OpKind::Register {
        return by_condition!(condition, CC => {
            over!(chain, LONG, false, mov::setcc::<_, Register<0>, CC>)
        });
    }
    None
}

fn cmov<const LONG: bool>(iced: &Instruction, condition: Condition, a: Address) -> Option<ExecFn> {
    macro_rules! forms {
        ($w:ty, $cc:ident) => {
            match a {
                Address::None => {
                    over!(chain, LONG, false, mov::cmovcc::<_, $w, Register<1>, $cc>)
                }
                a => addressed!(chain, LONG, a, M => mov::cmovcc::<_, $w, M<LONG>, $cc>),
            }
        };
    }
    by_condition!(condition, CC => match form::width(iced, 0) {
        32 => forms!(D, CC),
        64 if LONG => forms!(Q, CC),
        _ => None,
    })
}

// ---- pairs -------------------------------------------------------------------------------------

/// A comparison and the conditional jump behind it, the last two instructions of a block.
///
/// Each keeps its place in the block, so that faults, counts and single steps see two instructions.
#[inline(always)]
fn pair<const LONG: bool, W: Width, const CC: usize>(
    v: &mut Vcpu,
    insn: &Insn,
    compare: impl Fn(&mut Fast<LONG, false>, &Insn) -> Done,
) -> Done {
    if let Err(exception) = compare(Fast::of(v), insn) {
        return stop(v, insn, exception);
    }
    // SAFETY: a pair is chosen only where the jump follows.
    let jump = unsafe { next(insn) };
    match branch::jump_if::<_, W, CC>(Fast::<LONG, false>::of(v), jump) {
        Ok(()) => Ok(()),
        Err(exception) => stop(v, jump, exception),
    }
}

/// Whether a block-ending instruction has fixed targets: a relative jump or call, or a string
/// instruction that may repeat.
pub(crate) fn is_direct(iced: &Instruction) -> bool {
    matches!(
        iced.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    ) || iced.is_string_instruction()
}

/// The handler that executes `compare` together with `jump` behind it, if there is one.
pub(crate) fn choose_pair(
    compare: &Instruction,
    insn: &Insn,
    jump: &Instruction,
    mode_key: u32,
) -> Option<ExecFn> {
    match mode_key & 7 {
        5 if is_jump_if::<false>(jump) => {
            let a = address(compare, insn, 0xFFFF_FFFF)?;
            choose_pair_in::<false, D>(compare, jump, a)
        }
        2 if is_jump_if::<true>(jump) => {
            let a = address(compare, insn, !0)?;
            choose_pair_in::<true, Q>(compare, jump, a)
        }
        _ => None,
    }
}

fn choose_pair_in<const LONG: bool, J: Width>(
    compare: &Instruction,
    jump: &Instruction,
    a: Address,
) -> Option<ExecFn> {
    let condition = *Condition::ALL.get((jump.condition_code() as usize).checked_sub(1)?)?;
    macro_rules! handler {
        ($cc:ident, $f:expr) => {
            Some((|v: &mut Vcpu, insn: &Insn| pair::<LONG, J, $cc>(v, insn, $f)) as ExecFn)
        };
    }
    macro_rules! forms {
        ($cc:ident, $f:ident, $w:ty) => {
            match (form::form(compare)?, a) {
                (Form::RR, _) => handler!($cc, alu::$f::<_, $w, Register<0>, Register<1>>),
                (Form::RI, _) => handler!($cc, alu::$f::<_, $w, Register<0>, Immediate>),
                (Form::RM, Address::Based) => {
                    handler!($cc, alu::$f::<_, $w, Register<0>, Based<LONG>>)
                }
                (Form::MR, Address::Based) => {
                    handler!($cc, alu::$f::<_, $w, Based<LONG>, Register<1>>)
                }
                (Form::MI, Address::Based) => {
                    handler!($cc, alu::$f::<_, $w, Based<LONG>, Immediate>)
                }
                _ => None,
            }
        };
    }
    macro_rules! widths {
        ($cc:ident, $f:ident) => {
            match form::width(compare, 0) {
                8 => forms!($cc, $f, B),
                32 => forms!($cc, $f, D),
                64 if LONG => forms!($cc, $f, Q),
                _ => None,
            }
        };
    }
    match compare.mnemonic() {
        Mnemonic::Cmp => by_condition!(condition, CC => widths!(CC, cmp)),
        Mnemonic::Test => by_condition!(condition, CC => widths!(CC, test)),
        _ => None,
    }
}
