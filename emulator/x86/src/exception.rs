//! Faults, traps and aborts as values.

use std::num::NonZeroU32;

/// An exception that an instruction raised: vector and error code in one word, so that
/// `Result<(), Exception>` travels in a register.
///
/// Intel SDM vol. 3A §6.15. For #PF the linear address is in [`Cpu::cr2`](crate::Cpu), set by
/// whoever raised it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Exception(NonZeroU32);

const PRESENT: u32 = 1 << 31;
const HAS_ERROR: u32 = 1 << 30;
const TRAP: u32 = 1 << 29;
const STOP: u32 = 1 << 28;

#[allow(non_upper_case_globals, missing_docs)]
impl Exception {
    pub const DivideError: Self = Self::bare(0);
    pub const Breakpoint: Self = Self::bare(3);
    pub const Overflow: Self = Self::bare(4);
    pub const BoundRange: Self = Self::bare(5);
    pub const InvalidOpcode: Self = Self::bare(6);
    pub const DeviceNotAvailable: Self = Self::bare(7);
    pub const DoubleFault: Self = Self::with_error(8, 0);
    pub const X87: Self = Self::bare(16);
    pub const AlignmentCheck: Self = Self::with_error(17, 0);
    pub const Simd: Self = Self::bare(19);
    /// Not a guest's exception: the instruction asks the run loop to stop before it, unretired.
    pub const Retry: Self = match NonZeroU32::new(PRESENT | STOP) {
        Some(word) => Self(word),
        None => unreachable!(),
    };

    /// Not a guest's exception: a chained handler leaves the instruction to the full one.
    pub const Declined: Self = match NonZeroU32::new(PRESENT | STOP | 1) {
        Some(word) => Self(word),
        None => unreachable!(),
    };

    /// Not a guest's exception: host code ran, whole blocks, and has kept all accounts itself.
    pub const Left: Self = match NonZeroU32::new(PRESENT | STOP | 2) {
        Some(word) => Self(word),
        None => unreachable!(),
    };

    /// A #DB. `trap` ones are raised after the instruction has completed, faults before it.
    pub const fn debug(trap: bool) -> Self {
        Self::word(1 | if trap { TRAP } else { 0 })
    }

    /// #TS with the selector part of `error`.
    pub const fn invalid_tss(error: u16) -> Self {
        Self::with_error(10, error)
    }

    /// #NP.
    pub const fn not_present(error: u16) -> Self {
        Self::with_error(11, error)
    }

    /// #SS.
    pub const fn stack(error: u16) -> Self {
        Self::with_error(12, error)
    }

    /// #GP.
    pub const fn gp(error: u16) -> Self {
        Self::with_error(13, error)
    }

    /// #PF with the error code of SDM vol. 3A §4.7.
    pub const fn page_fault(error: u16) -> Self {
        Self::with_error(14, error)
    }

    /// An exception without an error code.
    pub const fn bare(vector: u8) -> Self {
        Self::word(vector as u32)
    }

    /// An exception with an error code.
    pub const fn with_error(vector: u8, error: u16) -> Self {
        Self::word(vector as u32 | HAS_ERROR | (error as u32) << 8)
    }

    const fn word(word: u32) -> Self {
        match NonZeroU32::new(word | PRESENT) {
            Some(word) => Self(word),
            None => unreachable!(),
        }
    }

    /// The vector, 0 to 31.
    pub const fn vector(self) -> u8 {
        self.0.get() as u8
    }

    /// The error code, for the vectors that push one.
    pub const fn error_code(self) -> Option<u16> {
        if self.0.get() & HAS_ERROR != 0 {
            Some((self.0.get() >> 8) as u16)
        } else {
            None
        }
    }

    /// Whether it is reported after the instruction rather than before it.
    pub const fn is_trap(self) -> bool {
        self.0.get() & TRAP != 0
    }
}

impl std::fmt::Debug for Exception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.vector())?;
        if let Some(error) = self.error_code() {
            write!(f, "({error:04x})")?;
        }
        Ok(())
    }
}
