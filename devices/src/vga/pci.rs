//! The adapter's PCI function: identifiers as QEMU's `-vga std` has them, and where memory,
//! registers and ROM lie.
//!
//! | base address | bytes | what |
//! |---|---|---|
//! | 0 | 16 MiB | memory, as [`MEMORY`] |
//! | 2 | 4096 | registers: [`REGISTERS`] of the chip |
//! | ROM | a power of two | the VGA BIOS |
//!
//! The chip itself stands apart, as its old ports and addresses do not move.

use platform::{Bus, DeviceId, SavedState, StateError, StateView};

use super::{MEMORY, MEMORY_BYTES, REGISTERS, REGISTERS_BYTES};
use crate::pci::config_space::{Bar, COMMAND, COMMAND_IO};
use crate::pci::{Bdf, ConfigSpace, PciCtx, PciDevice, PciFunction};

/// The function.
pub struct VgaFunction;

impl VgaFunction {
    /// A function with the content of its expansion ROM, which may be empty for none. Its windows
    /// are nowhere yet.
    pub fn device(rom: &[u8]) -> PciDevice<Self> {
        let config = ConfigSpace::new(0x1234, 0x1111, 0x03_00_00, 2)
            .subsystem(0x1AF4, 0x1100)
            .writable(COMMAND, &[COMMAND_IO])
            .bar(
                0,
                Bar::Memory {
                    len: MEMORY_BYTES as u64,
                    wide: false,
                    prefetchable: true,
                },
            )
            .bar(
                2,
                Bar::Memory {
                    len: REGISTERS_BYTES,
                    wide: false,
                    prefetchable: false,
                },
            );
        PciDevice::new(config, Self).with_rom(rom.to_vec())
    }

    /// Puts the function on the bus, with the registers of the chip `vga` behind base address 2.
    pub fn plug(bus: &mut Bus, vga: DeviceId, rom: &[u8], bdf: Bdf) -> DeviceId {
        let registers = bus.add_memory_window(vga, REGISTERS, REGISTERS_BYTES);
        Self::device(rom)
            .with_ram(0, MEMORY)
            .with_window(2, registers)
            .plug(bus, "vga-pci", bdf)
    }
}

impl PciFunction for VgaFunction {
    fn name(&self) -> &'static str {
        "vga-pci"
    }

    fn reset(&mut self, _: &mut PciCtx<'_, '_>) {}

    fn state(&self) -> StateView<'_> {
        StateView::of(1, ())
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        state.decode(1)
    }
}

#[cfg(test)]
mod tests {
    use platform::CONFIGURATION;

    use crate::pci::config_space::ROM;

    use super::*;

    platform::device_contract!(
        contract,
        VgaFunction::device(&[0x55; 512]).with_ram(0, MEMORY),
        [(CONFIGURATION, 256, 4), (ROM, 4096, 8)]
    );
}
