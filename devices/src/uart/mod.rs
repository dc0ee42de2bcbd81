//! Serial ports.

pub mod uart16550;

pub use uart16550::Uart16550;
