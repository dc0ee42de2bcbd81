//! PCI: configuration mechanism 1, and the functions of the board's chipset.
//!
//! A function is a [`PciFunction`] around a [`ConfigSpace`]; one more is one more `insert` into
//! [`PciHost`]. Interrupt pins are the board's wires [`pirq`], which the PIIX3 routes to ISA interrupts.

pub mod config_space;
pub mod host;
pub mod i440fx;
pub mod piix3;

pub use config_space::{ConfigSpace, PciFunction};
pub use host::{Bdf, PciHost};

use platform::IrqLine;

/// High while the IDE function may master the bus.
pub const BUS_MASTER_ON: IrqLine = IrqLine(IrqLine::BOARD0.0 + 8);

/// The wire PIRQA# (0) to PIRQD# (3).
pub const fn pirq(n: u8) -> IrqLine {
    assert!(n < 4);
    IrqLine(IrqLine::BOARD0.0 + n)
}
