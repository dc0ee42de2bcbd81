//! QEMU's `pc-testdev`, which unit tests of processors and interrupt controllers drive.
//!
//! Source: QEMU, hw/misc/pc-testdev.c, whose head is its description.
//!
//! | region | where | what |
//! |---|---|---|
//! | [`TestDevice::LATCH`] | ports E0-E3 | keeps what is written |
//! | [`TestDevice::FLUSH`] | ports E4-E7 | unmaps a page of guest memory from its host: nothing to be done here |
//! | [`TestDevice::LINES`] | ports 2000-200F | port 2000 + n drives the wire of IRQ n with bit 0 |
//! | [`TestDevice::MEMORY`] | FF000000-FF00FFFF | 64 KiB behind the bus: RAM by device accesses |
//!
//! Not modelled: the I/O APIC's inputs 16-23, which have no wires here, and the byte port E8.

use platform::{
    Bus, Device, DeviceCtx, DeviceId, IrqLine, PhysAddr, SavedState, StateError, StateView,
};
use serde::{Deserialize, Serialize};

const TARGET: &str = "test_device";
const MEMORY_BASE: PhysAddr = PhysAddr(0xFF00_0000);
const MEMORY_BYTES: usize = 64 << 10;
const WIRES: u8 = 16;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    latch: u32,
    lines: u16,
    /// Empty until the first write.
    memory: Vec<u8>,
}

/// The device.
#[derive(Clone, Debug, Default)]
pub struct TestDevice {
    state: State,
}

/// Maps `device` at its address.
pub fn map(bus: &mut Bus, device: DeviceId) {
    bus.map_mmio(device, TestDevice::MEMORY, MEMORY_BASE, MEMORY_BYTES as u64);
}

impl TestDevice {
    /// Region: the latch.
    pub const LATCH: u8 = 0;
    /// Region: the flush port.
    pub const FLUSH: u8 = 1;
    /// Region: the interrupt wires.
    pub const LINES: u8 = 2;
    /// Region: the memory.
    pub const MEMORY: u8 = 3;

    /// Where a PC has its ports: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[
        (Self::LATCH, 0xE0, 4, 4),
        (Self::FLUSH, 0xE4, 4, 4),
        (Self::LINES, 0x2000, WIRES as u16, 1),
    ];

    const VERSION: u32 = 1;

    /// A device whose latch and memory hold zeros, and which drives no wire.
    pub fn new() -> Self {
        Self::default()
    }

    /// The place of `size` bytes of memory at `offset`; none beyond the end.
    fn memory_range(offset: u64, size: u8) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(size.into())?;
        (end <= MEMORY_BYTES).then_some(start..end)
    }
}

impl Device for TestDevice {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8) -> u64 {
        match region {
            Self::LATCH => u64::from(self.state.latch) >> (8 * (offset & 3)),
            Self::MEMORY => {
                let mut bytes = [0; 8];
                if let Some(range) = Self::memory_range(offset, size)
                    && let Some(found) = self.state.memory.get(range)
                {
                    bytes[..found.len()].copy_from_slice(found);
                }
                u64::from_le_bytes(bytes)
            }
            _ => 0,
        }
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64) {
        match region {
            Self::LATCH => {
                let mut bytes = self.state.latch.to_le_bytes();
                let new = value.to_le_bytes();
                let from = (offset & 3) as usize;
                for (byte, new) in bytes[from..].iter_mut().zip(&new[..size.into()]) {
                    *byte = *new;
                }
                self.state.latch = u32::from_le_bytes(bytes);
            }
            Self::LINES if offset < WIRES.into() => {
                let level = value & 1 != 0;
                let bit = 1 << offset;
                self.state.lines = self.state.lines & !bit | if level { bit } else { 0 };
                ctx.set_line(IrqLine::isa(offset as u8), level);
            }
            Self::MEMORY => {
                if let Some(range) = Self::memory_range(offset, size) {
                    self.state.memory.resize(MEMORY_BYTES, 0);
                    self.state.memory[range].copy_from_slice(&value.to_le_bytes()[..size.into()]);
                }
            }
            _ => {}
        }
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        for n in 0..WIRES {
            ctx.set_line(IrqLine::isa(n), false);
        }
        self.state = State::default();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
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

    platform::device_contract!(
        contract,
        TestDevice::new(),
        [
            (TestDevice::LATCH, 4, 4),
            (TestDevice::FLUSH, 4, 4),
            (TestDevice::LINES, 16, 1),
            (TestDevice::MEMORY, MEMORY_BYTES as u64, 8)
        ]
    );

    fn bus() -> Bus {
        let mut bus = bus_with_regions(Box::new(TestDevice::new()), TestDevice::MAP);
        let (device, _) = bus.devices().next().expect("the device");
        map(&mut bus, device);
        bus
    }

    #[test]
    fn the_latch_keeps_bytes_words_and_doublewords() {
        let mut bus = bus();
        bus.pio_write(0xE0, 4, 0x1234_5678);
        assert_eq!(bus.pio_read(0xE0, 1), 0x78);
        assert_eq!(bus.pio_read(0xE2, 2), 0x1234);
        bus.pio_write(0xE1, 1, 0xAB);
        assert_eq!(bus.pio_read(0xE0, 4), 0x1234_AB78);
    }

    #[test]
    fn a_line_port_drives_its_wire() {
        let mut bus = bus();
        bus.pio_write(0x200E, 1, 1);
        assert!(bus.lines.level(IrqLine::isa(14)));
        assert!(!bus.lines.level(IrqLine::isa(15)));
        bus.pio_write(0x200E, 1, 0);
        assert!(!bus.lines.level(IrqLine::isa(14)));
    }

    #[test]
    fn the_memory_keeps_what_is_written() {
        let mut bus = bus();
        assert_eq!(bus.mmio_read(PhysAddr(0xFF00_FFF8), 8), 0);
        bus.mmio_write(PhysAddr(0xFF00_FFF9), 4, 0x1122_3344);
        assert_eq!(bus.mmio_read(PhysAddr(0xFF00_FFF8), 8), 0x11_2233_4400);
    }
}
