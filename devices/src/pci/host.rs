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

use std::collections::BTreeMap;

use log::{debug, trace};
use platform::{Device, DeviceCtx, Input, MachineRequest, SavedState, StateError};
use serde::{Deserialize, Serialize};

use super::config_space::PciFunction;

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

/// The registers of the mechanism itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Registers {
    address: u32,
    reset_control: u8,
}

/// The host bridge's configuration ports, with the functions behind them.
#[derive(Default)]
pub struct PciHost {
    registers: Registers,
    functions: BTreeMap<Bdf, Box<dyn PciFunction>>,
}

impl PciHost {
    /// Region: CF8 to CFF.
    pub const PORTS: u8 = 0;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[(Self::PORTS, 0xCF8, 8, 4)];

    const VERSION: u32 = 1;

    /// A bus without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a function at `device`.`function`.
    pub fn insert(&mut self, device: u8, function: u8, what: impl PciFunction + 'static) {
        assert!(
            device < 32 && function < 8,
            "no such place as {device}.{function}"
        );
        let before = self
            .functions
            .insert(Bdf { device, function }, Box::new(what));
        assert!(
            before.is_none(),
            "two functions at {device}.{function} of the PCI bus"
        );
    }

    /// What the address register selects.
    fn selected(&mut self) -> Option<&mut Box<dyn PciFunction>> {
        let address = self.registers.address;
        if address & ENABLE == 0 || address >> 16 & 0xFF != 0 {
            return None;
        }
        self.functions.get_mut(&Bdf {
            device: (address >> 11 & 31) as u8,
            function: (address >> 8 & 7) as u8,
        })
    }

    fn register(&self, offset: u64) -> u8 {
        (self.registers.address & 0xFC) as u8 | (offset & 3) as u8
    }

    fn read_data(&mut self, offset: u64, size: u8) -> u64 {
        let first = self.register(offset);
        let Some(function) = self.selected() else {
            return !0;
        };
        (0..size.min(4)).fold(0, |value, n| {
            let byte = function.config().byte(first.wrapping_add(n));
            value | u64::from(byte) << (8 * n)
        })
    }

    fn write_data(&mut self, ctx: &mut DeviceCtx<'_>, offset: u64, size: u8, value: u64) {
        let first = self.register(offset);
        let address = self.registers.address;
        let Some(function) = self.selected() else {
            return;
        };
        debug!(target: TARGET, "write {address:08x}+{} = {value:x}", offset & 3);
        for n in 0..size.min(4) {
            let byte = (value >> (8 * n)) as u8;
            function.config_mut().write(first.wrapping_add(n), byte);
        }
        function.update(ctx);
    }

    fn write_reset_control(&mut self, ctx: &mut DeviceCtx<'_>, value: u8) {
        let rising = value & !self.registers.reset_control;
        self.registers.reset_control = value & (HARD_RESET | RESET_CPU);
        if rising & RESET_CPU != 0 {
            debug!(target: TARGET, "reset through CF9 = {value:02x}");
            ctx.request(MachineRequest::Reset);
        }
    }

    fn update_all(&mut self, ctx: &mut DeviceCtx<'_>) {
        for function in self.functions.values_mut() {
            function.update(ctx);
        }
    }
}

impl Device for PciHost {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8) -> u64 {
        let value = match (offset, size) {
            (ADDRESS, 4) => self.registers.address.into(),
            (RESET_CONTROL, 1) => self.registers.reset_control.into(),
            (4.., _) => self.read_data(offset, size),
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

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Line { .. } = input {
            self.update_all(ctx);
        }
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.registers = Registers::default();
        for function in self.functions.values_mut() {
            function.config_mut().reset();
        }
        self.update_all(ctx);
    }

    fn save(&self) -> SavedState {
        let spaces: Vec<&[u8]> = self
            .functions
            .values()
            .map(|function| function.config().bytes())
            .collect();
        SavedState::encode(Self::VERSION, &(&self.registers, spaces))
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let (registers, spaces): (Registers, Vec<Vec<u8>>) = state.decode(Self::VERSION)?;
        self.registers = registers;
        for (function, bytes) in self.functions.values_mut().zip(spaces) {
            function.config_mut().restore(&bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::{i440fx, piix3, pirq};
    use platform::testkit::bus_with_regions;
    use platform::{Bus, DeviceId, IrqLine, PortWindow};

    fn board() -> PciHost {
        let mut host = PciHost::new();
        host.insert(0, 0, i440fx::host_bridge());
        host.insert(1, 0, piix3::IsaBridge::new());
        host.insert(1, 1, piix3::Ide::new([PortWindow(0), PortWindow(1)]));
        host
    }

    platform::device_contract!(contract, board(), [(PciHost::PORTS, 8, 4)]);

    fn pci() -> Bus {
        let mut bus = bus_with_regions(Box::new(board()), PciHost::MAP);
        for n in 0..4 {
            bus.connect(pirq(n), DeviceId(0));
        }
        bus
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
        assert_eq!(bus.pio_read(0xCFC, 4), 0xFFF1, "16 ports of I/O");
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
        let mut bus = pci();
        let card = DeviceId(40);
        bus.lines.set(card, pirq(2), true);
        read(&mut bus, 1, 0, 0x60);
        bus.pio_write(0xCFE, 1, 0x0B);
        assert!(bus.lines.level(IrqLine::isa(11)));
        bus.pio_write(0xCFE, 1, 0x0A);
        assert!(!bus.lines.level(IrqLine::isa(11)));
        assert!(bus.lines.level(IrqLine::isa(10)));
        bus.pio_write(0xCFC, 1, 0x0A);
        bus.lines.set(card, pirq(0), true);
        bus.lines.set(card, pirq(2), false);
        bus.pio_read(0xCFC, 1);
        assert!(bus.lines.level(IrqLine::isa(10)), "shared by PIRQA#");
        bus.lines.set(card, pirq(0), false);
        bus.pio_read(0xCFC, 1);
        assert!(!bus.lines.level(IrqLine::isa(10)));
    }
}
