//! Comparison and classification.
//!
//! SDM vol. 2: COMISS, UCOMISS, CMPSS, FCOM, FUCOM, FCOMI, FUCOMI, FTST, FXAM.

use super::parts::{Kind, Operand, Parts};
use super::{Context, F32, F64, F80, flag};

/// How two operands relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The first is less.
    Less,
    /// They are equal; zeros of either sign are.
    Equal,
    /// The first is greater.
    Greater,
    /// An operand is a NaN or, for F80, unsupported.
    Unordered,
}

/// FXAM's classes (SDM vol. 2A, FXAM). An empty register is the caller's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum F80Class {
    /// Unnormal, pseudo-NaN or pseudo-infinity.
    Unsupported,
    /// Quiet or signalling NaN.
    Nan,
    /// Normal finite number.
    Normal,
    /// Infinity.
    Infinity,
    /// Zero.
    Zero,
    /// Denormal or pseudo-denormal.
    Denormal,
}

fn magnitude(a: Parts) -> (Kind, i32, u64) {
    match a.kind {
        Kind::Finite => (a.kind, a.exp, a.sig),
        kind => (kind, 0, 0),
    }
}

#[inline]
fn compare(a: Parts, b: Parts, signal_quiet: bool, ctx: &mut Context) -> Relation {
    let high = a.kind.max(b.kind);
    if high >= Kind::Quiet {
        if signal_quiet || high >= Kind::Signalling {
            ctx.raise(flag::IE);
        }
        return Relation::Unordered;
    }
    if a.denormal || b.denormal {
        ctx.raise(flag::DE);
    }
    if a.kind == Kind::Zero && b.kind == Kind::Zero {
        return Relation::Equal;
    }
    let sign_or = |a: Parts, b: Parts| if a.kind == Kind::Zero { b.sign } else { a.sign };
    // With one zero, the other operand's sign decides; the magnitudes then compare in that sign's sense.
    let negative = sign_or(a, b);
    if a.kind != Kind::Zero && b.kind != Kind::Zero && a.sign != b.sign {
        return if a.sign {
            Relation::Less
        } else {
            Relation::Greater
        };
    }
    match (magnitude(a).cmp(&magnitude(b)), negative) {
        (std::cmp::Ordering::Equal, _) => Relation::Equal,
        (std::cmp::Ordering::Less, false) | (std::cmp::Ordering::Greater, true) => Relation::Less,
        _ => Relation::Greater,
    }
}

macro_rules! narrow_compare {
    ($ty:ty) => {
        impl $ty {
            /// Compares; only a signalling NaN raises IE (UCOMISS, CMPSS with the quiet predicates).
            #[must_use]
            pub fn compare_quiet(self, rhs: Self, ctx: &mut Context) -> Relation {
                compare(self.parts(ctx), rhs.parts(ctx), false, ctx)
            }

            /// Compares; any NaN raises IE (COMISS, CMPSS with LT, LE, NLT and NLE).
            #[must_use]
            pub fn compare_signalling(self, rhs: Self, ctx: &mut Context) -> Relation {
                compare(self.parts(ctx), rhs.parts(ctx), true, ctx)
            }

            /// Whether this is a NaN.
            #[must_use]
            pub fn is_nan(self) -> bool {
                self.parts(&Context::default()).kind >= Kind::Quiet
            }

            /// Whether this is a signalling NaN.
            #[must_use]
            pub fn is_signalling(self) -> bool {
                self.parts(&Context::default()).kind == Kind::Signalling
            }

            /// Whether this is denormal.
            #[must_use]
            pub fn is_denormal(self) -> bool {
                self.parts(&Context::default()).denormal
            }
        }
    };
}

narrow_compare!(F32);
narrow_compare!(F64);

impl F80 {
    /// FUCOM, FUCOMI: only a signalling NaN or an unsupported operand raises IE.
    #[must_use]
    pub fn compare_quiet(a: impl Operand, b: impl Operand, ctx: &mut Context) -> Relation {
        compare(a.parts(ctx), b.parts(ctx), false, ctx)
    }

    /// FCOM, FCOMI, FICOM, FTST: any NaN raises IE.
    #[must_use]
    pub fn compare_signalling(a: impl Operand, b: impl Operand, ctx: &mut Context) -> Relation {
        compare(a.parts(ctx), b.parts(ctx), true, ctx)
    }

    /// FXAM's class, without the sign.
    #[must_use]
    pub fn classify(self) -> F80Class {
        let parts = self.parts(&Context::default());
        match parts.kind {
            Kind::Zero => F80Class::Zero,
            Kind::Finite if parts.denormal => F80Class::Denormal,
            Kind::Finite => F80Class::Normal,
            Kind::Infinity => F80Class::Infinity,
            Kind::Quiet | Kind::Signalling => F80Class::Nan,
            Kind::Unsupported => F80Class::Unsupported,
        }
    }
}
