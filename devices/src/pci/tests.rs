//! A PCI device of an afternoon: an adder with a register file, DMA, a timer, an interrupt and
//! memory of its own, made as ARCHITECTURE.md says.

use platform::testkit::advance;
use platform::{Bus, Clock, DeviceRam, GuestMemory, PhysAddr, SavedState, StateError, StateView};

use super::config_space::Bar;
use super::*;

/// Registers of four bytes: 0 identification, 4 argument, 8 start (the sum comes 1 us later), C sum
/// and acknowledge, 10 the physical address to which the sum goes too.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Adder {
    argument: u32,
    sum: u32,
    address: u32,
}

impl PciFunction for Adder {
    fn name(&self) -> &'static str {
        "adder"
    }

    fn read(&mut self, ctx: &mut PciCtx<'_, '_>, region: u8, offset: u64, _: u8) -> u64 {
        match (region, offset) {
            (0 | 1, 0) => 0x0100_00ED,
            (0 | 1, 4) => self.argument.into(),
            (0 | 1, 0xC) => {
                ctx.set_interrupt(false);
                self.sum.into()
            }
            _ => !0,
        }
    }

    fn write(&mut self, ctx: &mut PciCtx<'_, '_>, _: u8, offset: u64, _: u8, value: u64) {
        match offset {
            4 => self.argument = value as u32,
            8 => ctx.schedule(0, ctx.now_ns() + 1000),
            0x10 => self.address = value as u32,
            _ => {}
        }
    }

    fn on_timer(&mut self, ctx: &mut PciCtx<'_, '_>, _: u32) {
        self.sum = self.sum.wrapping_add(self.argument);
        ctx.dma_write(PhysAddr(self.address.into()), &self.sum.to_le_bytes());
        ctx.set_interrupt(true);
    }

    fn reset(&mut self, ctx: &mut PciCtx<'_, '_>) {
        *self = Self::default();
        ctx.cancel(0);
        ctx.set_interrupt(false);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(1, self)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        *self = state.decode(1)?;
        Ok(())
    }
}

fn adder() -> PciDevice<Adder> {
    let memory = Bar::Memory {
        len: 4096,
        wide: false,
        prefetchable: false,
    };
    let frames = Bar::Memory {
        len: 0x4000,
        wide: true,
        prefetchable: true,
    };
    let config = ConfigSpace::new(0x1234, 0x11E8, 0x00_FF_00, 0x10)
        .subsystem(0x1AF4, 0x1100)
        .bar(0, memory)
        .bar(1, Bar::Ports(32))
        .bar(2, frames)
        .bus_master()
        .interrupt_pin(1)
        .msi();
    PciDevice::new(config, Adder::default()).with_ram(2, DeviceRam(0))
}

platform::device_contract!(
    contract,
    adder(),
    [(platform::CONFIGURATION, 256, 4), (0, 4096, 4), (1, 32, 4)]
);

const PLACE: u8 = 4;

fn board() -> (Bus, platform::IrqLine) {
    let memory = GuestMemory::with_device_ram(1 << 20, &[0x4000]).unwrap();
    let mut bus = Bus::new(memory, Clock::new(1, 1));
    let host = bus.add(Box::new(PciHost::new()));
    for &(region, base, len, width) in PciHost::MAP {
        bus.map_ports(host, region, base, len, width);
    }
    let pirqs = add_pirqs(&mut bus);
    let pin = pirq_of(pirqs, PLACE, 1);
    adder()
        .with_pin(pin)
        .plug(&mut bus, "adder", Bdf::new(PLACE, 0));
    bus.reset();
    (bus, pin)
}

fn select(bus: &mut Bus, register: u32) {
    bus.pio_write(0xCF8, 4, 0x8000_0000 | u32::from(PLACE) << 11 | register);
}

fn write(bus: &mut Bus, register: u32, value: u32) {
    select(bus, register);
    bus.pio_write(0xCFC, 4, value);
}

fn read(bus: &mut Bus, register: u32) -> u32 {
    select(bus, register);
    bus.pio_read(0xCFC, 4)
}

/// What a BIOS does.
fn enable(bus: &mut Bus) {
    write(bus, 0x10, 0xFEB0_0000);
    write(bus, 0x14, 0xC100);
    write(bus, 0x18, 0xE000_0000);
    write(bus, 0x1C, 0x0000_0001);
    write(bus, 0x04, 0x0007);
}

const REGISTERS: u64 = 0xFEB0_0000;

#[test]
fn its_registers_are_where_the_base_address_registers_say() {
    let (mut bus, _) = board();
    assert_eq!(read(&mut bus, 0), 0x11E8_1234);
    assert_eq!(
        bus.mmio_read(PhysAddr(REGISTERS), 4),
        0xFFFF_FFFF,
        "not yet"
    );
    enable(&mut bus);
    assert_eq!(bus.mmio_read(PhysAddr(REGISTERS), 4), 0x0100_00ED);
    assert_eq!(bus.pio_read(0xC100, 4), 0x0100_00ED);
    write(&mut bus, 0x10, 0xFEC1_0000);
    assert_eq!(
        bus.mmio_read(PhysAddr(REGISTERS), 4),
        0xFFFF_FFFF,
        "it moved"
    );
    assert_eq!(bus.mmio_read(PhysAddr(0xFEC1_0000), 4), 0x0100_00ED);
    write(&mut bus, 0x04, 0x0000);
    assert_eq!(bus.pio_read(0xC100, 4), 0xFFFF_FFFF, "decoding is off");
}

#[test]
fn it_masters_the_bus_and_interrupts_by_pin_or_by_message() {
    let (mut bus, pin) = board();
    enable(&mut bus);
    let work = |bus: &mut Bus| {
        bus.mmio_write(PhysAddr(REGISTERS + 4), 4, 21);
        bus.mmio_write(PhysAddr(REGISTERS + 0x10), 4, 0x5000);
        bus.mmio_write(PhysAddr(REGISTERS + 8), 4, 1);
        advance(bus, 1000);
    };
    work(&mut bus);
    assert!(bus.lines.level(pin));
    assert_eq!(read(&mut bus, 4) >> 16 & 8, 8, "and the status says so");
    assert_eq!(bus.memory.read_array::<4>(PhysAddr(0x5000)), [21, 0, 0, 0]);
    assert_eq!(bus.mmio_read(PhysAddr(REGISTERS + 0xC), 4), 21);
    assert!(!bus.lines.level(pin));

    let msi = read(&mut bus, 0x34) & 0xFF;
    write(&mut bus, msi + 4, 0xFEE0_0000);
    write(&mut bus, msi + 12, 0x0031);
    write(&mut bus, msi, 0x0001_0000);
    work(&mut bus);
    assert!(!bus.lines.level(pin));
    let message = bus.messages.receive(0, |_| true).expect("a message");
    assert_eq!(message.vector, 0x31);
    assert_eq!(bus.memory.read_array::<4>(PhysAddr(0x5000)), [42, 0, 0, 0]);

    // It may not master the bus: it writes nothing, neither data nor messages.
    write(&mut bus, 0x04, 0x0003);
    bus.mmio_read(PhysAddr(REGISTERS + 0xC), 4);
    work(&mut bus);
    assert!(!bus.lines.level(pin));
    assert!(bus.messages.receive(0, |_| true).is_none());
    assert_eq!(bus.memory.read_array::<4>(PhysAddr(0x5000)), [42, 0, 0, 0]);
}

#[test]
fn its_own_memory_is_reached_as_ram_is_and_all_of_it_is_saved() {
    let (mut bus, _) = board();
    enable(&mut bus);
    bus.memory.write(PhysAddr(0x1_E000_0123), &[0x42]);
    assert_eq!(bus.memory.device_ram(DeviceRam(0))[0x123], 0x42);
    bus.mmio_write(PhysAddr(REGISTERS + 4), 4, 7);
    bus.mmio_write(PhysAddr(REGISTERS + 8), 4, 1);
    let state = bus.state();
    let devices: Vec<SavedState> = bus.devices().map(|(_, device)| device.save()).collect();
    let (mut other, _) = board();
    other.set_state(state.clone()).unwrap();
    for ((_, device), state) in other.devices().zip(&devices) {
        device.restore(state).unwrap();
    }
    assert_eq!(other.state(), state);
    assert!(other.memory.is_ram(PhysAddr(0x1_E000_0000)));
    assert_eq!(other.mmio_read(PhysAddr(REGISTERS + 4), 4), 7);
    advance(&mut other, 1000);
    assert_eq!(other.mmio_read(PhysAddr(REGISTERS + 0xC), 4), 7);
}
