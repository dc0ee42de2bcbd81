//! Integer arithmetic and logic: ADD to XOR, CMP, TEST, INC, DEC, NEG, NOT. SDM vol. 2A and 2B.

use iced_x86::Mnemonic;

use super::form::{Source, Target};

use crate::choice::{generic, width};
use crate::emit::Emit;
use crate::exception::Exception;
use crate::flags::Condition::{self, A, Ae, B, Be, E, G, Ge, L, Le, Ne, Ns, S};
use crate::flags::FlagOp;
use crate::insn::Insn;
use crate::table::Row;
use crate::undefined;
use crate::width::Width;

/// What `Semantics` asks of the frequent ones.
macro_rules! frequent {
    ($widths:expr) => {
        const FREQUENT: u8 = $widths;
    };
}

const DQ: u8 = width::D | width::Q;
const BDQ: u8 = width::B | DQ;

/// The conditions that compilers put behind CMP: all of order and equality, and the sign. And those behind TEST.
const BEHIND_CMP: u16 = conditions(&[B, Ae, E, Ne, Be, A, S, Ns, L, Ge, Le, G]);
const BEHIND_TEST: u16 = conditions(&[E, Ne, S, Ns, Le, G]);

pub(crate) const ROWS: &[Row] = &[
    Row::new(Mnemonic::Add, generic!(Combines add { frequent!(DQ); })),
    Row::new(Mnemonic::Adc, generic!(Combines adc { frequent!(DQ); })),
    Row::new(Mnemonic::Sub, generic!(Combines sub { frequent!(DQ); })),
    Row::new(Mnemonic::Sbb, generic!(Combines sbb { frequent!(DQ); })),
    Row::new(Mnemonic::And, generic!(Combines and { frequent!(DQ); })).leaves(undefined::logic),
    Row::new(Mnemonic::Or, generic!(Combines or { frequent!(DQ); })).leaves(undefined::logic),
    Row::new(Mnemonic::Xor, generic!(Combines xor { frequent!(DQ); })).leaves(undefined::logic),
    Row::new(
        Mnemonic::Cmp,
        generic!(Combines cmp { frequent!(BDQ); const PAIRS: u16 = BEHIND_CMP; }),
    ),
    Row::new(
        Mnemonic::Test,
        generic!(Combines test { frequent!(BDQ); const PAIRS: u16 = BEHIND_TEST; }),
    )
    .leaves(undefined::logic),
    Row::new(Mnemonic::Inc, generic!(Changes inc { frequent!(BDQ); })),
    Row::new(Mnemonic::Dec, generic!(Changes dec { frequent!(DQ); })),
    Row::new(Mnemonic::Neg, generic!(Changes neg)),
    Row::new(Mnemonic::Not, generic!(Changes not)),
];

/// A bit for each.
const fn conditions(list: &[Condition]) -> u16 {
    let (mut bits, mut n) = (0, 0);
    while n < list.len() {
        bits |= 1 << list[n] as u8;
        n += 1;
    }
    bits
}

type Done = Result<(), Exception>;

/// ADD.
pub(crate) fn add<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let sum = e.add::<W>(a, b);
    T::finish::<E, W>(e, insn, hold, sum);
    e.set_flags::<W>(FlagOp::Add, a, b, sum);
    Ok(())
}

/// ADC.
pub(crate) fn adc<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let carry = e.carry();
    let sum = e.add::<W>(a, b);
    let sum = e.add::<W>(sum, carry);
    T::finish::<E, W>(e, insn, hold, sum);
    e.set_flags::<W>(FlagOp::Add, a, b, sum);
    Ok(())
}

/// SUB.
pub(crate) fn sub<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let difference = e.sub::<W>(a, b);
    T::finish::<E, W>(e, insn, hold, difference);
    e.set_flags::<W>(FlagOp::Sub, a, b, difference);
    Ok(())
}

/// SBB.
pub(crate) fn sbb<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let borrow = e.carry();
    let difference = e.sub::<W>(a, b);
    let difference = e.sub::<W>(difference, borrow);
    T::finish::<E, W>(e, insn, hold, difference);
    e.set_flags::<W>(FlagOp::Sub, a, b, difference);
    Ok(())
}

/// CMP.
pub(crate) fn cmp<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let a = T::read::<E, W>(e, insn)?;
    let difference = e.sub::<W>(a, b);
    e.set_flags::<W>(FlagOp::Sub, a, b, difference);
    Ok(())
}

/// TEST.
pub(crate) fn test<E: Emit, W: Width, T: Target, S: Source>(e: &mut E, insn: &Insn) -> Done {
    let b = S::read::<E, W>(e, insn)?;
    let a = T::read::<E, W>(e, insn)?;
    let result = e.and(a, b);
    e.set_flags::<W>(FlagOp::Logic, a, b, result);
    Ok(())
}

macro_rules! logic {
    ($name:ident, $mnemonic:literal) => {
        #[doc = $mnemonic]
        pub(crate) fn $name<E: Emit, W: Width, T: Target, S: Source>(
            e: &mut E,
            insn: &Insn,
        ) -> Done {
            let b = S::read::<E, W>(e, insn)?;
            let (a, hold) = T::begin::<E, W>(e, insn)?;
            let result = e.$name(a, b);
            T::finish::<E, W>(e, insn, hold, result);
            e.set_flags::<W>(FlagOp::Logic, a, b, result);
            Ok(())
        }
    };
}

logic!(and, "AND.");
logic!(or, "OR.");
logic!(xor, "XOR.");

/// INC: CF stays.
pub(crate) fn inc<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let one = e.constant(1);
    let result = e.add::<W>(a, one);
    T::finish::<E, W>(e, insn, hold, result);
    e.set_flags_keep_carry::<W>(FlagOp::Add, a, result);
    Ok(())
}

/// DEC: CF stays.
pub(crate) fn dec<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let one = e.constant(1);
    let result = e.sub::<W>(a, one);
    T::finish::<E, W>(e, insn, hold, result);
    e.set_flags_keep_carry::<W>(FlagOp::Sub, a, result);
    Ok(())
}

/// NEG: 0 minus the operand.
pub(crate) fn neg<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let zero = e.constant(0);
    let result = e.sub::<W>(zero, a);
    T::finish::<E, W>(e, insn, hold, result);
    e.set_flags::<W>(FlagOp::Sub, zero, a, result);
    Ok(())
}

/// NOT: no flags.
pub(crate) fn not<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    let (a, hold) = T::begin::<E, W>(e, insn)?;
    let result = e.not::<W>(a);
    T::finish::<E, W>(e, insn, hold, result);
    Ok(())
}
