//! Chained handlers: how the instructions of a block run one behind the other without a loop.
//!
//! A handler here ends by calling the next instruction's, a tail call in an optimised build; the last
//! instruction of a block returns. They run whole blocks only: single steps and the end of a slice use
//! the full handlers. What stops a chain is noted in `Vcpu::stopped`.
//!
//! A chained handler may decline: it returns [`Exception::Declined`], with nothing changed, and the run loop executes
//! the instruction by its full handler, [`Insn::exec`], and goes on behind it.

use iced_x86::{Instruction, OpKind};

use crate::choice::{
    Addresses, Bare, Changes, Combines, Extends, Generic, Reads, ReadsVector, Semantics,
};
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::Condition;
use crate::flat;
use crate::insn::{ExecFn, Insn};
use crate::ops::form::{Addressed, Source, Target, VectorSource};
use crate::segmented::{self, SegmentedPair};
use crate::table::{self, Ends};
use crate::tier::Tier;
use crate::vcpu::Vcpu;
use crate::width::Width;

type Done = Result<(), Exception>;

/// The instruction behind `insn`.
///
/// # Safety
/// `insn` is not the last one of its block.
#[inline(always)]
pub(crate) unsafe fn next(insn: &Insn) -> &Insn {
    // SAFETY: the instructions of a block lie one behind the other, and the caller vouches for a next one.
    unsafe { &*std::ptr::from_ref(insn).add(1) }
}

#[cold]
#[inline(never)]
pub(crate) fn stop(v: &mut Vcpu, insn: &Insn, exception: Exception) -> Done {
    v.stopped = insn;
    Err(exception)
}

/// What a chained handler does before it goes on.
pub(crate) trait Step {
    /// It sets the instruction pointer: the chain ends with it.
    const BRANCHES: bool;
    /// Executes the instruction.
    fn step(v: &mut Vcpu, insn: &Insn) -> Done;
}

/// The handler of `S`.
pub(crate) fn chained<S: Step>(v: &mut Vcpu, insn: &Insn) -> Done {
    if let Err(exception) = S::step(v, insn) {
        return stop(v, insn, exception);
    }
    if S::BRANCHES {
        return Ok(());
    }
    // SAFETY: only what branches ends a block (`choose` looks); where no branch does, a `fall_through` is behind it.
    let next = unsafe { next(insn) };
    (next.fast)(v, next)
}

/// For an instruction without a handler of its own here.
fn plain(v: &mut Vcpu, insn: &Insn) -> Done {
    if let Err(exception) = v.execute(insn) {
        return stop(v, insn, exception);
    }
    // SAFETY: as in `chained`.
    let next = unsafe { next(insn) };
    (next.fast)(v, next)
}

/// The same for the last one of a block.
pub(crate) fn last(v: &mut Vcpu, insn: &Insn) -> Done {
    match v.execute(insn) {
        Ok(()) => Ok(()),
        Err(exception) => stop(v, insn, exception),
    }
}

/// Stands in for the rest of a block that was dropped while it ran.
pub(crate) fn retry(v: &mut Vcpu, insn: &Insn) -> Done {
    stop(v, insn, Exception::Retry)
}

/// The handler of an instruction that has its full one only.
pub(crate) fn of_full(ends: Ends) -> ExecFn {
    match ends {
        Ends::Branch => last,
        Ends::No | Ends::After => plain,
    }
}

// ---- functions with all holes filled -----------------------------------------------------------

/// A semantic function of which only the tier is open. The constants are those of [`Semantics`].
pub(crate) trait Filled {
    const BRANCHES: bool;
    const PAIRS: u16;
    fn call<E: Emit>(e: &mut E, insn: &Insn) -> Done;
}

macro_rules! filled {
    ($($name:ident<$f:ident: $kind:ident $(<$n:ident>)? $(, $hole:ident: $bound:ident)*>;)*) => {
        $(
            pub(crate) struct $name<$f $(, const $n: usize)? $(, $hole)*>(std::marker::PhantomData<($f, $($hole,)*)>);
            impl<$f: $kind $(<$n>)? $(, const $n: usize)? $(, $hole: $bound)*> Filled for $name<$f $(, $n)? $(, $hole)*> {
                const BRANCHES: bool = <$f as Semantics>::BRANCHES;
                const PAIRS: u16 = <$f as Semantics>::PAIRS;
                #[inline(always)]
                fn call<E: Emit>(e: &mut E, insn: &Insn) -> Done {
                    $f::call::<E $(, $hole)*>(e, insn)
                }
            }
        )*
    };
}

filled! {
    Bared<F: Bare, W: Width>;
    Extending<F: Extends, W: Width, X: Width, S: Source>;
    Changing<F: Changes, W: Width, T: Target>;
    Combining<F: Combines, W: Width, T: Target, S: Source>;
    Addressing<F: Addresses, W: Width, A: Addressed>;
    ReadingVector<F: ReadsVector, S: VectorSource>;
}

pub(crate) struct Reading<F, W, S, const N: usize>(std::marker::PhantomData<(F, W, S)>);
impl<F: Reads<N>, W: Width, S: Source, const N: usize> Filled for Reading<F, W, S, N> {
    const BRANCHES: bool = F::BRANCHES;
    const PAIRS: u16 = F::PAIRS;
    #[inline(always)]
    fn call<E: Emit>(e: &mut E, insn: &Insn) -> Done {
        F::call::<E, W, S>(e, insn)
    }
}

/// A filled function on a tier.
pub(crate) struct OnTier<F, T>(std::marker::PhantomData<(F, T)>);
impl<F: Filled, T: Tier> Step for OnTier<F, T> {
    const BRANCHES: bool = F::BRANCHES;
    #[inline(always)]
    fn step(v: &mut Vcpu, insn: &Insn) -> Done {
        F::call(T::of(v), insn)
    }
}

// ---- the choice --------------------------------------------------------------------------------

/// The handler for `insn` in a mode given by the block's key.
pub(crate) fn choose(
    generic: Option<&Generic>,
    iced: &Instruction,
    insn: &Insn,
    ends: Ends,
    mode_key: u32,
) -> ExecFn {
    let Some(generic) = generic else {
        return of_full(ends);
    };
    assert!(
        generic.branches == (ends == Ends::Branch),
        "{:?}: the function and its row must agree on who sets the instruction pointer",
        iced.mnemonic()
    );
    let chosen = match mode_key & 7 {
        // Flat 32-bit, and 64-bit mode.
        5 => flat::of::<false>(iced, insn).and_then(|flat| (generic.flat32)(iced, &flat)),
        2 => flat::of::<true>(iced, insn).and_then(|flat| (generic.flat64)(iced, &flat)),
        _ => None,
    };
    chosen
        .or_else(|| (generic.segmented)(iced, &segmented::of(insn)?))
        .unwrap_or(of_full(ends))
}

/// Whether a block-ending instruction has fixed targets: a relative jump or call, or a string
/// instruction that may repeat.
pub(crate) fn is_direct(iced: &Instruction) -> bool {
    matches!(
        iced.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    ) || iced.is_string_instruction()
}

/// The handler that executes `compare` together with `jump` behind it, the last two of a block, if there is one.
pub(crate) fn choose_pair(
    compare: &Instruction,
    insn: &Insn,
    jump: &Instruction,
    mode_key: u32,
) -> Option<ExecFn> {
    let condition = jump_condition(jump, mode_key)?;
    let (_, generic) = table::row(compare.mnemonic())?.handler.resolve(compare)?;
    let generic = generic?;
    match mode_key & 7 {
        5 => (generic.pair32)(compare, &flat::pair_of(compare, insn, condition)?),
        2 => (generic.pair64)(compare, &flat::pair_of(compare, insn, condition)?),
        0 => {
            segmented::of(insn)?;
            (generic.pair16)(compare, &SegmentedPair)
        }
        _ => None,
    }
}

/// The condition of a near Jcc of the mode's own width.
fn jump_condition(iced: &Instruction, mode_key: u32) -> Option<Condition> {
    let native = match mode_key & 3 {
        0 => OpKind::NearBranch16,
        1 => OpKind::NearBranch32,
        _ => OpKind::NearBranch64,
    };
    if !iced.is_jcc_short_or_near() || iced.op0_kind() != native {
        return None;
    }
    table::row(iced.mnemonic())?.condition
}
