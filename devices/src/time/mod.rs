//! Timers and clocks.

pub mod i8254;
pub mod mc146818;

pub use i8254::I8254;
pub use mc146818::Mc146818;
