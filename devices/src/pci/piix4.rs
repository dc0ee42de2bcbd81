//! Function 3 of an Intel 82371AB (PIIX4): power management. It places the registers of
//! [`AcpiPm`](crate::power::AcpiPm), which are a chip of their own.
//!
//! Datasheet: Intel 82371AB PIIX4 (290562), chapter 7.
//!
//! What a BIOS programs is programmed at power-on: PMBASE is 600h and its decoding is on, so that a program that runs
//! without firmware finds power-off and timer where the tables say.
//!
//! DEVACTB.APMC_EN is told to the registers by a wire. Not modelled: the SMBus (it is off, and its base address only
//! keeps its value), what the device monitors do.

use platform::{PortWindow, SavedState, StateError, StateView};

use super::{ConfigSpace, PciCtx, PciDevice, PciFunction};
use crate::power::ApmWires;

const PMBASE: u8 = 0x40;
const DEVACTB: u8 = 0x58;
/// DEVACTB bit 25, in its last byte: a write to the APM control port raises an SMI.
const APMC_EN: u8 = 0x02;
const PMREGMISC: u8 = 0x80;
/// PMREGMISC: the registers at PMBASE answer.
const PMIOSE: u8 = 0x01;

/// The function, as far as it is more than registers.
pub struct PowerManagement {
    registers: PortWindow,
    wires: ApmWires,
}

impl PowerManagement {
    /// The function that places `registers`.
    pub fn device(registers: PortWindow, wires: ApmWires) -> PciDevice<Self> {
        let config = ConfigSpace::new(0x8086, 0x7113, 0x06_80_00, 0x03)
            .with(0x06, &[0x80, 0x02])
            // The SCI goes to IRQ 9 whatever the routing says.
            .with(0x3C, &[9, 1])
            .with(PMBASE, &[0x01, 0x06])
            .with(PMREGMISC, &[PMIOSE])
            .with(0x90, &[0x01])
            .writable(0x04, &[0x01])
            .clearable(0x07, &[0x38])
            .writable(0x3C, &[0xFF])
            .writable(PMBASE, &[0xC0, 0xFF])
            .writable(0x44, &[0xFF; 36])
            .writable(0x6C, &[0xFF; 16])
            .writable(PMREGMISC, &[PMIOSE])
            .writable(0x90, &[0xF0, 0xFF])
            .writable(0xD2, &[0x0F, 0xFF, 0xFF, 0xFF]);
        PciDevice::new(config, Self { registers, wires })
    }
}

impl PciFunction for PowerManagement {
    fn name(&self) -> &'static str {
        "piix4_pm"
    }

    fn on_config(&mut self, ctx: &mut PciCtx<'_, '_>) {
        let on = ctx.config.byte(PMREGMISC) & PMIOSE != 0;
        let base = ctx.config.read(PMBASE, 2) as u16 & 0xFFC0;
        let place = (on && base != 0).then_some(base);
        let registers = self.registers;
        ctx.move_ports(registers, place);
        let enabled = ctx.config.byte(DEVACTB + 3) & APMC_EN != 0;
        ctx.set_line(self.wires.enabled, enabled);
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
    use super::*;
    use crate::pci::{Bdf, PciHost};
    use crate::power::{AcpiPm, Apm};
    use platform::testkit::bus_with_regions;
    use platform::{Bus, DeviceId, IrqLine};

    fn board() -> Bus {
        let mut bus = bus_with_regions(Box::new(PciHost::new()), PciHost::MAP);
        let wires = ApmWires::add(&mut bus);
        let apm = bus.add(Box::new(Apm::new(wires)));
        bus.map_ports(apm, Apm::PORTS, 0xB2, 2, 1);
        let chip = bus.add(Box::new(AcpiPm::new(wires)));
        wires.connect(&mut bus, chip);
        let block = bus.add_port_window(chip, AcpiPm::BLOCK, AcpiPm::BLOCK_LEN, 4);
        PowerManagement::device(block, wires).plug(&mut bus, "piix4", Bdf::new(1, 3));
        bus.reset();
        bus
    }

    fn configure(bus: &mut Bus, register: u32, value: u32) {
        bus.pio_write(0xCF8, 4, 0x8000_0B00 | register);
        bus.pio_write(0xCFC, 4, value);
    }

    #[test]
    fn the_registers_are_at_600_and_follow_pmbase() {
        let mut bus = board();
        assert_eq!(bus.pio_read(0x604, 2), 0x0001);
        configure(&mut bus, 0x40, 0xB001);
        assert_eq!(bus.pio_read(0x604, 2), 0xFFFF);
        assert_eq!(bus.pio_read(0xB004, 2), 0x0001);
        configure(&mut bus, 0x80, 0);
        assert_eq!(bus.pio_read(0xB004, 2), 0xFFFF);
        bus.reset();
        assert_eq!(bus.pio_read(0x604, 2), 0x0001);
        assert_eq!(bus.device_named("piix4"), Some(DeviceId(3)));
    }

    #[test]
    fn an_smi_asks_for_apmc_en_and_smi_en() {
        let mut bus = board();
        let smi = |bus: &mut Bus| {
            bus.pio_write(0xB2, 1, 0x01);
            bus.lines.level(IrqLine::SMI)
        };
        bus.pio_write(0x628, 4, 1);
        assert!(!smi(&mut bus));
        configure(&mut bus, 0x58, 1 << 25);
        assert!(smi(&mut bus));
        bus.reset();
        assert!(!smi(&mut bus));
    }
}
