//! PCI: configuration mechanism 1, and the functions of the board's chipset.
//!
//! A function is a [`PciFunction`] behind a [`ConfigSpace`]; [`PciDevice::plug`] puts it on the bus. Interrupt pins are
//! the board's wires PIRQA# to PIRQD# ([`pirq_of`]), which the PIIX3 routes to ISA interrupts.

pub mod config_space;
pub mod device;
pub mod host;
pub mod i440fx;
mod msix;
pub mod piix3;
pub mod piix4;

pub use config_space::{Bar, ConfigSpace};
pub use device::{PciCtx, PciDevice, PciFunction, Registers};
pub use host::{Bdf, PciHost};

use platform::{Bus, IrqLine};

/// Adds the wires PIRQA# to PIRQD#.
pub fn add_pirqs(bus: &mut Bus) -> [IrqLine; 4] {
    ["pirqa", "pirqb", "pirqc", "pirqd"].map(|name| bus.add_wire(name))
}

/// The wire that pin `pin` (1 is INTA#) of device `device` is led to, as on boards with an i440FX.
pub fn pirq_of(pirqs: [IrqLine; 4], device: u8, pin: u8) -> IrqLine {
    pirqs[usize::from((device + pin + 2) & 3)]
}

#[cfg(test)]
mod tests;
