//! Interrupt controllers and what is wired straight to them.

pub mod fpu_error;
pub mod i8259;
pub mod ioapic;

pub use fpu_error::FpuError;
pub use i8259::I8259;
pub use ioapic::IoApic;
