//! Timers and clocks.

pub mod i8254;

pub use i8254::I8254;
