//! The firmware configuration device: how many processors and how much memory there are.
//!
//! Source: QEMU, docs/specs/fw_cfg.rst ("QEMU Firmware Configuration Device").
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`FwCfg::PORTS`] | 510 | write, 16 bits: selects an item and starts at its first byte |
//! | | 511 | read, 8 bits: the next byte of the item; 0 behind its end |
//!
//! | item | what |
//! |---|---|
//! | 0000 | the signature "QEMU" |
//! | 0001 | features: 1, the traditional interface only |
//! | 0003 | RAM in bytes, 64 bits |
//! | 0005, 000F | processors that there are and that there may be, 16 bits each |
//! | 0019 | the directory of files: none |
//! | 8002 | 1: IRQ 0 is input 2 of the I/O APIC |
//! | BF00-BF3F | Glassbox's own, a notice by its BIOS: nothing boots. Bits 0-5 are those of [`Said::NotBootable`] |
//!
//! Not modelled: the DMA interface, writing, and the other items, which read as zeros, so "none" and "no".

use log::debug;
use platform::{Device, DeviceCtx, Said, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "fw_cfg";

/// Item numbers.
mod item {
    pub const SIGNATURE: u16 = 0x0000;
    pub const FEATURES: u16 = 0x0001;
    pub const RAM_BYTES: u16 = 0x0003;
    pub const CPUS: u16 = 0x0005;
    pub const MOST_CPUS: u16 = 0x000F;
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
    pub const NOT_BOOTABLE: u16 = 0xBF00;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    item: u16,
    offset: u32,
}

/// The device.
#[derive(Clone, Debug)]
pub struct FwCfg {
    ram_bytes: u64,
    cpus: u16,
    state: State,
}

impl FwCfg {
    /// Region: both ports, as the selector is written to both at once.
    pub const PORTS: u8 = 0;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[(Self::PORTS, 0x510, 2, 2)];

    const VERSION: u32 = 1;

    /// The device of a machine with so much RAM and so many processors.
    pub fn new(ram_bytes: u64, cpus: u16) -> Self {
        Self {
            ram_bytes,
            cpus,
            state: State::default(),
        }
    }

    fn next_byte(&mut self) -> u8 {
        let mut bytes = [0; 8];
        let value = match self.state.item {
            item::SIGNATURE => u32::from_le_bytes(*b"QEMU").into(),
            item::FEATURES | item::IRQ0_OVERRIDE => 1,
            item::RAM_BYTES => self.ram_bytes,
            item::CPUS | item::MOST_CPUS => self.cpus.into(),
            _ => 0,
        };
        bytes.copy_from_slice(&value.to_le_bytes());
        let byte = bytes.get(self.state.offset as usize).copied();
        self.state.offset = self.state.offset.saturating_add(1);
        byte.unwrap_or(0)
    }
}

impl Device for FwCfg {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, region: u8, offset: u64, _: u8) -> u64 {
        match (region, offset) {
            (Self::PORTS, 1) => self.next_byte().into(),
            _ => 0,
        }
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64) {
        if (region, offset, size) == (Self::PORTS, 0, 2) {
            debug!(target: TARGET, "item {value:04x}");
            self.state = State {
                item: value as u16,
                offset: 0,
            };
            if self.state.item & 0xFFC0 == item::NOT_BOOTABLE {
                ctx.output(Said::NotBootable(value as u8 & 0x3F));
            }
        }
    }

    fn reset(&mut self, _: &mut DeviceCtx<'_>) {
        self.state = State::default();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.state = state.decode(Self::VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::bus_with_regions;
    use platform::{Bus, DeviceId, Output};

    const RAM_BYTES: u64 = 0x1_2345_6000;

    platform::device_contract!(contract, FwCfg::new(RAM_BYTES, 3), [(FwCfg::PORTS, 2, 2)]);

    fn item(bus: &mut Bus, number: u16, bytes: usize) -> Vec<u8> {
        bus.pio_write(0x510, 2, number.into());
        (0..bytes).map(|_| bus.pio_read(0x511, 1) as u8).collect()
    }

    #[test]
    fn items_read_byte_by_byte_and_then_as_zeros() {
        let mut bus = bus_with_regions(Box::new(FwCfg::new(RAM_BYTES, 3)), FwCfg::MAP);
        assert_eq!(item(&mut bus, 0, 6), b"QEMU\0\0");
        assert_eq!(item(&mut bus, 1, 4), [1, 0, 0, 0]);
        assert_eq!(item(&mut bus, 3, 8), RAM_BYTES.to_le_bytes());
        assert_eq!(item(&mut bus, 5, 2), [3, 0]);
        assert_eq!(item(&mut bus, 0x0F, 2), [3, 0]);
        assert_eq!(item(&mut bus, 0x19, 4), [0; 4]);
        assert_eq!(item(&mut bus, 0x8002, 1), [1]);
    }

    #[test]
    fn the_bios_tells_that_nothing_boots() {
        let mut bus = bus_with_regions(Box::new(FwCfg::new(RAM_BYTES, 3)), FwCfg::MAP);
        bus.pio_write(0x510, 2, 0xBF40);
        assert_eq!(bus.outputs, []);
        bus.pio_write(0x510, 2, 0xBF08);
        let said = Output {
            device: DeviceId(0),
            what: Said::NotBootable(0x08),
        };
        assert_eq!(bus.outputs, [said]);
    }

    #[test]
    fn selecting_starts_anew() {
        let mut bus = bus_with_regions(Box::new(FwCfg::new(RAM_BYTES, 3)), FwCfg::MAP);
        assert_eq!(item(&mut bus, 0, 2), b"QE");
        assert_eq!(bus.pio_read(0x511, 1), u32::from(b'M'));
        assert_eq!(item(&mut bus, 0, 2), b"QE");
    }
}
