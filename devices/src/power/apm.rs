//! The APM control and status latch of a PIIX.
//!
//! Datasheet: Intel 82371SB PIIX3 (290550), "APM registers".
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`Apm::PORTS`] | B2-B3 | control and status: each reads back what was written |
//!
//! A write to B2 is told to [`AcpiPm`](super::AcpiPm), which makes an SMI of it.

use platform::{Bus, Device, DeviceCtx, DeviceId, IrqLine, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

/// The latch.
#[derive(Clone, Debug)]
pub struct Apm {
    registers: Registers,
    wires: ApmWires,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Registers {
    registers: [u8; 2],
}

/// The wires between the parts of a PIIX4 that make an SMI of a write to B2.
#[derive(Clone, Copy, Debug)]
pub struct ApmWires {
    /// A pulse is such a write.
    pub written: IrqLine,
    /// DEVACTB.APMC_EN: it is to be an SMI.
    pub enabled: IrqLine,
}

impl ApmWires {
    /// Adds them to a board.
    pub fn add(bus: &mut Bus) -> Self {
        Self {
            written: bus.add_wire("apmc"),
            enabled: bus.add_wire("apmc-en"),
        }
    }

    /// Leads them, and what tells that an SMI was taken, to `power`, the registers that make the SMI.
    pub fn connect(self, bus: &mut Bus, power: DeviceId) {
        bus.connect(self.written, power);
        bus.connect(IrqLine::SMIACT, power);
    }
}

impl Apm {
    /// Region: the two ports.
    pub const PORTS: u8 = 0;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[(Self::PORTS, 0xB2, 2, 1)];

    const VERSION: u32 = 1;

    /// A latch of zeros.
    pub fn new(wires: ApmWires) -> Self {
        Self {
            registers: Registers::default(),
            wires,
        }
    }
}

impl Device for Apm {
    fn name(&self) -> &'static str {
        "apm"
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, _: u8) -> u64 {
        self.registers.registers[(offset & 1) as usize].into()
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, offset: u64, _: u8, value: u64) {
        self.registers.registers[(offset & 1) as usize] = value as u8;
        if offset & 1 == 0 {
            ctx.set_line(self.wires.written, true);
            ctx.set_line(self.wires.written, false);
        }
    }

    fn reset(&mut self, _: &mut DeviceCtx<'_>) {
        self.registers = Registers::default();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.registers)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.registers = state.decode(Self::VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::bus_with_regions;

    const WIRES: ApmWires = ApmWires {
        written: IrqLine(40),
        enabled: IrqLine(41),
    };

    platform::device_contract!(contract, Apm::new(WIRES), [(Apm::PORTS, 2, 1)]);

    #[test]
    fn both_registers_keep_their_bytes() {
        let mut bus = bus_with_regions(Box::new(Apm::new(WIRES)), Apm::MAP);
        bus.pio_write(0xB2, 2, 0xBEEF);
        assert_eq!(bus.pio_read(0xB2, 2), 0xBEEF);
    }
}
