//! PCI configuration mechanism 1, and the reset control register that lies within its ports.
//!
//! Sources: PCI Local Bus Specification 3.0 §3.2.2.3.2; Intel 82371SB PIIX3 (290550) for CF9.
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`PciHost::PORTS`] | CF8-CFB | address; 32-bit accesses only |
//! | | CF9 | reset control, byte accesses: bit 2 rising resets, bit 1 makes it a hard reset |
//! | | CFC-CFF | data |
//!
//! There is one bus, number 0. A function that is not there reads as ones and ignores writes. Soft and
//! hard reset are the same here.

use log::{debug, trace};
use platform::{Device, DeviceCtx, MachineRequest, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "pci";

const ADDRESS: u64 = 0;
const RESET_CONTROL: u64 = 1;
const ENABLE: u32 = 1 << 31;
const HARD_RESET: u8 = 0x02;
const RESET_CPU: u8 = 0x04;

/// A function's place on bus 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bdf {
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl Bdf {
    /// Function `function` (0 to 7) of device `device` (0 to 31).
    pub const fn new(device: u8, function: u8) -> Self {
        assert!(device < 32 && function < 8, "no such place on a bus");
        Self { device, function }
    }

    /// As [`Bus::plug`](platform::Bus::plug) has it.
    pub fn place(self) -> u16 {
        u16::from(self.device) << 3 | u16::from(self.function)
    }
}

/// The registers of the mechanism itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Registers {
    address: u32,
    reset_control: u8,
}

/// The host bridge's configuration ports. The functions behind them are devices of their own: see
/// [`PciDevice`](super::PciDevice).
#[derive(Default)]
pub struct PciHost {
    registers: Registers,
}

impl PciHost {
    /// Region: CF8 to CFF.
    pub const PORTS: u8 = 0;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[(Self::PORTS, 0xCF8, 8, 4)];

    const VERSION: u32 = 2;

    /// The ports after power-on.
    pub fn new() -> Self {
        Self::default()
    }

    /// The place on the bus that the address register selects.
    fn selected(&self) -> Option<u16> {
        let address = self.registers.address;
        (address & ENABLE != 0).then_some((address >> 8) as u16)
    }

    fn register(&self, offset: u64) -> u64 {
        u64::from(self.registers.address & 0xFC) | offset & 3
    }

    fn read_data(&mut self, ctx: &mut DeviceCtx<'_>, offset: u64, size: u8) -> u64 {
        let register = self.register(offset);
        let place = self.selected();
        place
            .and_then(|place| ctx.config_read(place, register, size))
            .unwrap_or(!0)
    }

    fn write_data(&mut self, ctx: &mut DeviceCtx<'_>, offset: u64, size: u8, value: u64) {
        let register = self.register(offset);
        if let Some(place) = self.selected() {
            debug!(target: TARGET, "write {place:04x}:{register:02x} = {value:x}");
            ctx.config_write(place, register, size, value);
        }
    }

    fn write_reset_control(&mut self, ctx: &mut DeviceCtx<'_>, value: u8) {
        let rising = value & !self.registers.reset_control;
        self.registers.reset_control = value & (HARD_RESET | RESET_CPU);
        if rising & RESET_CPU != 0 {
            debug!(target: TARGET, "reset through CF9 = {value:02x}");
            ctx.request(MachineRequest::Reset);
        }
    }
}

impl Device for PciHost {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8) -> u64 {
        let value = match (offset, size) {
            (ADDRESS, 4) => self.registers.address.into(),
            (RESET_CONTROL, 1) => self.registers.reset_control.into(),
            (4.., _) => self.read_data(ctx, offset, size),
            _ => !0,
        };
        trace!(target: TARGET, "read {offset} ({size}) = {value:x}");
        value
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8, value: u64) {
        match (offset, size) {
            // The reserved bits and the two lowest read as zero.
            (ADDRESS, 4) => self.registers.address = value as u32 & 0x80FF_FFFC,
            (RESET_CONTROL, 1) => self.write_reset_control(ctx, value as u8),
            (4.., _) => self.write_data(ctx, offset, size, value),
            _ => {}
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
    use crate::ide::piix::PiixIde;
    use crate::pci::{add_pirqs, i440fx, piix3};
    use platform::{Bus, Clock, DeviceId, GuestMemory, IrqLine};

    platform::device_contract!(contract, PciHost::new(), [(PciHost::PORTS, 8, 4)]);
    platform::device_contract!(
        contract_of_the_host_bridge,
        i440fx::host_bridge(),
        [(platform::CONFIGURATION, 256, 4)]
    );
    platform::device_contract!(
        contract_of_the_isa_bridge,
        piix3::IsaBridge::device([40, 41, 42, 43].map(IrqLine)),
        [(platform::CONFIGURATION, 256, 4)]
    );

    fn pci_with_pirqs() -> (Bus, [IrqLine; 4]) {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let mut bus = Bus::new(memory, Clock::new(1, 1));
        let host = bus.add(Box::new(PciHost::new()));
        for &(region, base, len, width) in PciHost::MAP {
            bus.map_ports(host, region, base, len, width);
        }
        let pirqs = add_pirqs(&mut bus);
        i440fx::host_bridge().plug(&mut bus, "i440fx", Bdf::new(0, 0));
        let bridge = piix3::IsaBridge::device(pirqs).plug(&mut bus, "piix3", Bdf::new(1, 0));
        for pirq in pirqs {
            bus.connect(pirq, bridge);
        }
        PiixIde::plug(&mut bus, [None, None, None, None], Bdf::new(1, 1));
        bus.reset();
        (bus, pirqs)
    }

    fn pci() -> Bus {
        pci_with_pirqs().0
    }

    fn read(bus: &mut Bus, device: u32, function: u32, register: u32) -> u32 {
        bus.pio_write(0xCF8, 4, ENABLE | device << 11 | function << 8 | register);
        bus.pio_read(0xCFC, 4)
    }

    #[test]
    fn the_chipset_is_found_and_the_rest_is_absent() {
        let mut bus = pci();
        assert_eq!(read(&mut bus, 0, 0, 0), 0x1237_8086);
        assert_eq!(read(&mut bus, 1, 0, 0), 0x7000_8086);
        assert_eq!(read(&mut bus, 1, 1, 0), 0x7010_8086);
        assert_eq!(read(&mut bus, 1, 0, 0x0C) >> 16 & 0xFF, 0x80);
        assert_eq!(read(&mut bus, 1, 2, 0), !0);
        assert_eq!(read(&mut bus, 2, 0, 0), !0);
        bus.pio_write(0xCF8, 4, ENABLE | 1 << 16);
        assert_eq!(bus.pio_read(0xCFC, 4), !0, "bus 1");
        bus.pio_write(0xCF8, 4, 0);
        assert_eq!(bus.pio_read(0xCFC, 4), !0, "not enabled");
    }

    #[test]
    fn the_address_register_takes_32_bits_at_once_only() {
        let mut bus = pci();
        bus.pio_write(0xCF8, 4, 0xFFFF_FFFF);
        assert_eq!(bus.pio_read(0xCF8, 4), 0x80FF_FFFC);
        bus.pio_write(0xCF8, 1, 0x00);
        bus.pio_write(0xCF8, 2, 0x0000);
        assert_eq!(bus.pio_read(0xCF8, 4), 0x80FF_FFFC);
    }

    #[test]
    fn data_is_addressed_by_bytes_and_words() {
        let mut bus = pci();
        read(&mut bus, 1, 1, 0x08);
        assert_eq!(bus.pio_read(0xCFE, 2), 0x0101);
        assert_eq!(bus.pio_read(0xCFF, 1), 0x01);
        read(&mut bus, 1, 0, 0x60);
        bus.pio_write(0xCFD, 1, 0xFB);
        assert_eq!(bus.pio_read(0xCFC, 4), 0x8080_8B80);
    }

    #[test]
    fn the_ide_function_has_base_address_4_only() {
        let mut bus = pci();
        assert_eq!(read(&mut bus, 1, 1, 0x20), 0xC001);
        bus.pio_write(0xCFC, 4, 0xFFFF_FFFF);
        assert_eq!(bus.pio_read(0xCFC, 4), 0xFFFF_FFF1, "16 ports of I/O");
        for register in [0x10, 0x14, 0x18, 0x1C, 0x24, 0x30] {
            read(&mut bus, 1, 1, register);
            bus.pio_write(0xCFC, 4, 0xFFFF_FFFF);
            assert_eq!(bus.pio_read(0xCFC, 4), 0, "register {register:x}");
        }
    }

    #[test]
    fn cf9_resets_as_bit_2_rises() {
        let mut bus = pci();
        bus.pio_write(0xCF9, 1, 0x02);
        assert_eq!(bus.request, None);
        assert_eq!(bus.pio_read(0xCF9, 1), 0x02);
        bus.pio_write(0xCF9, 1, 0x06);
        assert_eq!(bus.request.take(), Some(MachineRequest::Reset));
        bus.pio_write(0xCF9, 1, 0x06);
        assert_eq!(bus.request, None);
    }

    #[test]
    fn a_pirq_reaches_the_isa_interrupt_that_its_register_names() {
        let (mut bus, pirqs) = pci_with_pirqs();
        let card = DeviceId(40);
        bus.lines.set(card, pirqs[2], true);
        read(&mut bus, 1, 0, 0x60);
        bus.pio_write(0xCFE, 1, 0x0B);
        assert!(bus.lines.level(IrqLine::isa(11)));
        bus.pio_write(0xCFE, 1, 0x0A);
        assert!(!bus.lines.level(IrqLine::isa(11)));
        assert!(bus.lines.level(IrqLine::isa(10)));
        bus.pio_write(0xCFC, 1, 0x0A);
        bus.lines.set(card, pirqs[0], true);
        bus.lines.set(card, pirqs[2], false);
        bus.pio_read(0xCFC, 1);
        assert!(bus.lines.level(IrqLine::isa(10)), "shared by PIRQA#");
        bus.lines.set(card, pirqs[0], false);
        bus.pio_read(0xCFC, 1);
        assert!(!bus.lines.level(IrqLine::isa(10)));
    }
}
