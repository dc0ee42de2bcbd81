//! Reset, power and debug ports.

pub mod acpi_pm;
pub mod apm;
pub mod debug_port;
pub mod port_a;

pub use acpi_pm::AcpiPm;
pub use apm::{Apm, ApmWires};
pub use debug_port::DebugPort;
pub use port_a::{A20Gates, PortA};
