//! The APM control and status latch of a PIIX.
//!
//! Datasheet: Intel 82371SB PIIX3 (290550), "APM registers".
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`Apm::PORTS`] | B2-B3 | control and status: each reads back what was written |
//!
//! Not modelled: the SMI# that a write to B2 raises, for the processor has no system management mode.

use platform::{Device, DeviceCtx, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

/// The latch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Apm {
    registers: [u8; 2],
}

impl Apm {
    /// Region: the two ports.
    pub const PORTS: u8 = 0;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[(Self::PORTS, 0xB2, 2, 1)];

    const VERSION: u32 = 1;

    /// A latch of zeros.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Device for Apm {
    fn name(&self) -> &'static str {
        "apm"
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, _: u8) -> u64 {
        self.registers[(offset & 1) as usize].into()
    }

    fn write(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, _: u8, value: u64) {
        self.registers[(offset & 1) as usize] = value as u8;
    }

    fn reset(&mut self, _: &mut DeviceCtx<'_>) {
        *self = Self::new();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, self)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        *self = state.decode(Self::VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::bus_with_regions;

    platform::device_contract!(contract, Apm::new(), [(Apm::PORTS, 2, 1)]);

    #[test]
    fn both_registers_keep_their_bytes() {
        let mut bus = bus_with_regions(Box::new(Apm::new()), Apm::MAP);
        bus.pio_write(0xB2, 2, 0xBEEF);
        assert_eq!(bus.pio_read(0xB2, 2), 0xBEEF);
    }
}
