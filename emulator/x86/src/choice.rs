//! How one semantic function becomes the handlers of all tiers.
//!
//! A row of the list names a function that is generic over [`Emit`], and says by one of the traits here what else it
//! leaves open: a width, operands. A tier is a [`Visitor`], which decides what to make of a function with such holes:
//! the full handlers are one a width and look for the operands when they run, the chained ones (`flat`) know them, the
//! tests print. So the list does not know the tiers, nor they the list.

use iced_x86::Instruction;

use crate::emit::Emit;
use crate::exception::Exception;
use crate::flat::{FlatForms, FlatPair};
use crate::insn::{ExecFn, Insn};
use crate::ops::form::{self, Addressed, Any, Memory, Source, Target, VectorSource};
use crate::segmented::{SegmentedForms, SegmentedPair};
use crate::table::Handler;
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

/// What a tier must know of any semantic function.
pub(crate) trait Semantics {
    /// It sets the instruction pointer, hence ends its block.
    const BRANCHES: bool = false;
    /// Its width is that of the mode's stack pointer or instruction pointer, but for odd prefixes.
    const NATIVE: bool = false;
    /// The widths that it has: a mask of [`width`] bits.
    const WIDTHS: u8 = width::ALL;
    /// The widths at which it is worth chained handlers of its own in the flat modes, one for each
    /// form of its operands.
    const FREQUENT: u8 = 0;
    /// Forms with a memory operand are worth that too.
    const MEMORY: bool = true;
    /// The conditions of jumps with which it makes pairs there, a bit each.
    const PAIRS: u16 = 0;

    /// Its width in bits.
    fn bits(iced: &Instruction) -> usize {
        form::width(iced, 0)
    }
}

/// Masks of widths.
pub(crate) mod width {
    pub const B: u8 = 1;
    pub const W16: u8 = 2;
    pub const D: u8 = 4;
    pub const Q: u8 = 8;
    /// All but bytes.
    pub const WORDS: u8 = W16 | D | Q;
    pub const ALL: u8 = B | WORDS;
}

/// A function without operands that could be here or there.
pub(crate) trait Bare: Semantics {
    fn call<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done;
}

/// A function that reads operand `N`.
pub(crate) trait Reads<const N: usize>: Semantics {
    fn call<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done;
}

/// A function that writes or changes operand 0.
pub(crate) trait Changes: Semantics {
    fn call<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done;
}

/// A function of operands 0 and 1.
pub(crate) trait Combines: Semantics {
    fn call<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done;
}

/// A function that takes operand 1, of another width, to a register.
pub(crate) trait Extends: Semantics {
    fn call<E: Emit, W: Width, F: Width, S: Source>(e: &mut E, insn: &Insn) -> Done;
}

/// A function that takes the address of its memory operand.
pub(crate) trait Addresses: Semantics {
    fn call<E: Emit, W: Width, A: Addressed>(e: &mut E, insn: &Insn) -> Done;
}

/// A function that reads operand 1 as a vector.
pub(crate) trait ReadsVector: Semantics {
    fn call<E: Emit, S: VectorSource>(e: &mut E, insn: &Insn) -> Done;
}

/// A tier, or who else wants to do something with each function. `None`: it has nothing to do with this one.
pub(crate) trait Visitor {
    /// What it makes of a function.
    type Out;
    fn bare<F: Bare>(&self, _bits: usize) -> Option<Self::Out> {
        None
    }
    fn reads<F: Reads<N>, const N: usize>(&self, _bits: usize) -> Option<Self::Out> {
        None
    }
    fn changes<F: Changes>(&self, _bits: usize) -> Option<Self::Out> {
        None
    }
    fn combines<F: Combines>(&self, _bits: usize) -> Option<Self::Out> {
        None
    }
    fn extends<F: Extends>(&self, _to: usize, _from: usize) -> Option<Self::Out> {
        None
    }
    fn addresses<F: Addresses>(&self, _bits: usize) -> Option<Self::Out> {
        None
    }
    fn reads_vector<F: ReadsVector>(&self) -> Option<Self::Out> {
        None
    }
}

/// A semantic function with what its kind of holes is: shows a visitor the right door.
pub(crate) trait Choice {
    const BRANCHES: bool;
    fn choose<V: Visitor>(iced: &Instruction, v: &V) -> Option<V::Out>;
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident$(<$n:ident>)?: $kind:path, |$iced:ident, $v:ident| $visit:expr;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name<F $(, const $n: usize)?>(std::marker::PhantomData<F>);
            impl<F: $kind $(, const $n: usize)?> Choice for $name<F $(, $n)?> {
                const BRANCHES: bool = F::BRANCHES;
                #[inline]
                fn choose<V: Visitor>($iced: &Instruction, $v: &V) -> Option<V::Out> {
                    $visit
                }
            }
        )*
    };
}

choices! {
    /// A [`Bare`] one.
    IsBare: Bare, |iced, v| v.bare::<F>(F::bits(iced));
    /// One that [`Reads`].
    IsReads<N>: Reads<N>, |iced, v| v.reads::<F, N>(F::bits(iced));
    /// One that [`Changes`].
    IsChanges: Changes, |iced, v| v.changes::<F>(F::bits(iced));
    /// One that [`Combines`].
    IsCombines: Combines, |iced, v| v.combines::<F>(F::bits(iced));
    /// One that [`Extends`].
    IsExtends: Extends, |iced, v| v.extends::<F>(F::bits(iced), form::width(iced, 1));
    /// One that [`Addresses`].
    IsAddresses: Addresses, |iced, v| v.addresses::<F>(F::bits(iced));
    /// One that [`ReadsVector`].
    IsReadsVector: ReadsVector, |_iced, v| v.reads_vector::<F>();
}

/// Makes the `match` over the widths that `$f` has; `None` for the others.
///
/// The guards are constants, so that nothing is compiled for a width that there is not.
macro_rules! by_bits {
    ($f:ident, $bits:expr, $w:ident => $body:expr) => {
        match $bits {
            8 if const { $f::WIDTHS & $crate::choice::width::B != 0 } => {
                type $w = B;
                $body
            }
            16 if const { $f::WIDTHS & $crate::choice::width::W16 != 0 } => {
                type $w = W16;
                $body
            }
            32 if const { $f::WIDTHS & $crate::choice::width::D != 0 } => {
                type $w = D;
                $body
            }
            64 if const { $f::WIDTHS & $crate::choice::width::Q != 0 } => {
                type $w = Q;
                $body
            }
            _ => None,
        }
    };
}
pub(crate) use by_bits;

// ---- the full handlers -------------------------------------------------------------------------

/// Makes the full handlers: one a function and width.
pub(crate) struct Full;

impl Visitor for Full {
    type Out = ExecFn;

    fn bare<F: Bare>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => Some(F::call::<Vcpu, W> as ExecFn))
    }

    fn reads<F: Reads<N>, const N: usize>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => Some(F::call::<Vcpu, W, Any<N>> as ExecFn))
    }

    fn changes<F: Changes>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => Some(F::call::<Vcpu, W, Any<0>> as ExecFn))
    }

    fn combines<F: Combines>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => Some(F::call::<Vcpu, W, Any<0>, Any<1>> as ExecFn))
    }

    fn extends<F: Extends>(&self, to: usize, from: usize) -> Option<ExecFn> {
        match from {
            8 => by_bits!(F, to, W => Some(F::call::<Vcpu, W, B, Any<1>> as ExecFn)),
            16 => by_bits!(F, to, W => Some(F::call::<Vcpu, W, W16, Any<1>> as ExecFn)),
            32 => by_bits!(F, to, W => Some(F::call::<Vcpu, W, D, Any<1>> as ExecFn)),
            _ => None,
        }
    }

    fn addresses<F: Addresses>(&self, bits: usize) -> Option<ExecFn> {
        by_bits!(F, bits, W => Some(F::call::<Vcpu, W, Memory> as ExecFn))
    }

    fn reads_vector<F: ReadsVector>(&self) -> Option<ExecFn> {
        Some(F::call::<Vcpu, Any<1>>)
    }
}

// ---- all tiers ---------------------------------------------------------------------------------

/// The choice of a visitor `V` for one function.
pub(crate) type Chooser<V, Out = ExecFn> = fn(&Instruction, &V) -> Option<Out>;

/// What the tiers make of one semantic function.
pub struct Generic {
    pub(crate) branches: bool,
    pub(crate) full: Chooser<Full>,
    pub(crate) flat32: Chooser<FlatForms<false>>,
    pub(crate) flat64: Chooser<FlatForms<true>>,
    pub(crate) segmented: Chooser<SegmentedForms>,
    pub(crate) pair16: Chooser<SegmentedPair>,
    pub(crate) pair32: Chooser<FlatPair<false>>,
    pub(crate) pair64: Chooser<FlatPair<true>>,
    #[cfg(test)]
    pub(crate) print: Chooser<crate::print::Print, String>,
}

impl Generic {
    /// Of one function for all tiers.
    pub(crate) const fn of<C: Choice>() -> Self {
        Self::split::<C, C>()
    }

    /// Of a function, and the same with more fixed for the flat modes.
    pub(crate) const fn split<C: Choice, Flat: Choice>() -> Self {
        Self {
            branches: C::BRANCHES,
            full: C::choose::<Full>,
            flat32: Flat::choose::<FlatForms<false>>,
            flat64: Flat::choose::<FlatForms<true>>,
            segmented: C::choose::<SegmentedForms>,
            pair16: C::choose::<SegmentedPair>,
            pair32: Flat::choose::<FlatPair<false>>,
            pair64: Flat::choose::<FlatPair<true>>,
            #[cfg(test)]
            print: C::choose::<crate::print::Print>,
        }
    }
}

/// In the braces of [`generic`]: the function has one width.
macro_rules! fixed {
    ($bits:literal) => {
        const WIDTHS: u8 = $bits / 8;
        fn bits(_: &iced_x86::Instruction) -> usize {
            $bits
        }
    };
}
pub(crate) use fixed;

/// Names a semantic function as a type, with what [`Semantics`] asks for in braces, and makes its
/// [`Handler`](crate::table::Handler).
macro_rules! generic {
    ($kind:ident$(<$n:literal>)? $f:ident $(::<$($fixed:tt),+>)? $({ $($items:tt)* })?) => {{
        struct Named;
        impl $crate::choice::Semantics for Named { $($($items)*)? }
        $crate::choice::generic!(@call $kind$(<$n>)? $f $(($($fixed),+))?);
        $crate::choice::generic!(@handler $kind$(<$n>)?)
    }};
    (@call Bare $f:ident $(($($fixed:tt),+))?) => {
        impl $crate::choice::Bare for Named {
            #[inline(always)]
            fn call<E: $crate::Emit, W: $crate::Width>(e: &mut E, insn: &$crate::Insn) -> Done {
                $f::<E, W $($(, $fixed)+)?>(e, insn)
            }
        }
    };
    (@call Reads<$n:literal> $f:ident $(($($fixed:tt),+))?) => {
        impl $crate::choice::Reads<$n> for Named {
            #[inline(always)]
            fn call<E: $crate::Emit, W: $crate::Width, S: $crate::ops::form::Source>(
                e: &mut E,
                insn: &$crate::Insn,
            ) -> Done {
                $f::<E, W, S $($(, $fixed)+)?>(e, insn)
            }
        }
    };
    (@call Changes $f:ident $(($($fixed:tt),+))?) => {
        impl $crate::choice::Changes for Named {
            #[inline(always)]
            fn call<E: $crate::Emit, W: $crate::Width, T: $crate::ops::form::Target>(
                e: &mut E,
                insn: &$crate::Insn,
            ) -> Done {
                $f::<E, W, T $($(, $fixed)+)?>(e, insn)
            }
        }
    };
    (@call Combines $f:ident $(($($fixed:tt),+))?) => {
        impl $crate::choice::Combines for Named {
            #[inline(always)]
            fn call<
                E: $crate::Emit,
                W: $crate::Width,
                T: $crate::ops::form::Target,
                S: $crate::ops::form::Source,
            >(
                e: &mut E,
                insn: &$crate::Insn,
            ) -> Done {
                $f::<E, W, T, S $($(, $fixed)+)?>(e, insn)
            }
        }
    };
    (@call Extends $f:ident $(($($fixed:tt),+))?) => {
        impl $crate::choice::Extends for Named {
            #[inline(always)]
            fn call<E: $crate::Emit, W: $crate::Width, F: $crate::Width, S: $crate::ops::form::Source>(
                e: &mut E,
                insn: &$crate::Insn,
            ) -> Done {
                $f::<E, W, F, S $($(, $fixed)+)?>(e, insn)
            }
        }
    };
    (@call Addresses $f:ident $(($($fixed:tt),+))?) => {
        impl $crate::choice::Addresses for Named {
            #[inline(always)]
            fn call<E: $crate::Emit, W: $crate::Width, A: $crate::ops::form::Addressed>(
                e: &mut E,
                insn: &$crate::Insn,
            ) -> Done {
                $f::<E, W, A $($(, $fixed)+)?>(e, insn)
            }
        }
    };
    (@call ReadsVector $f:ident $(($($fixed:tt),+))?) => {
        impl $crate::choice::ReadsVector for Named {
            #[inline(always)]
            fn call<E: $crate::Emit, S: $crate::ops::form::VectorSource>(
                e: &mut E,
                insn: &$crate::Insn,
            ) -> Done {
                $f::<E, S $($(, $fixed)+)?>(e, insn)
            }
        }
    };
    (@handler Bare) => { $crate::choice::handler::<$crate::choice::IsBare<Named>>() };
    (@handler Reads<$n:literal>) => { $crate::choice::handler::<$crate::choice::IsReads<Named, $n>>() };
    (@handler Changes) => { $crate::choice::handler::<$crate::choice::IsChanges<Named>>() };
    (@handler Combines) => { $crate::choice::handler::<$crate::choice::IsCombines<Named>>() };
    (@handler Extends) => { $crate::choice::handler::<$crate::choice::IsExtends<Named>>() };
    (@handler Addresses) => { $crate::choice::handler::<$crate::choice::IsAddresses<Named>>() };
    (@handler ReadsVector) => { $crate::choice::handler::<$crate::choice::IsReadsVector<Named>>() };
}
pub(crate) use generic;

/// The handler of a row with one function for all tiers.
pub(crate) const fn handler<C: Choice>() -> Handler {
    Handler::Generic(const { &Generic::of::<C>() })
}
