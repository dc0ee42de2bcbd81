//! Timers and clocks.

pub mod hpet;
pub mod i8254;
pub mod mc146818;

pub use hpet::Hpet;
pub use i8254::I8254;
pub use mc146818::Mc146818;
