//! A driver of a few lines, for the tests of the devices.

use platform::testkit::advance;
use platform::{Bus, Clock, DeviceId, GuestMemory, IrqLine, MemoryDisk, PhysAddr};

use super::*;
use crate::pci::{Bdf, PciDevice, PciFunction, PciHost, add_pirqs, pirq_of};

pub const SLOT: u8 = 5;
pub const PORTS: u16 = 0xC000;
pub const VECTORS: u64 = 0xFEB0_0000;
pub const MODERN: u64 = 0xE000_0000;

pub const DESCRIPTORS: u64 = 0x1_0000;
pub const AVAILABLE: u64 = 0x1_2000;
pub const USED: u64 = 0x1_3000;
pub const DATA: u64 = 0x2_0000;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// Enough for everything that a bounded device does at once.
const SOON_NS: u64 = 50_000_000;

pub struct Board {
    pub bus: Bus,
    pub device: DeviceId,
    pub pin: IrqLine,
    /// Size of the queue, and how many chains were offered.
    pub size: u16,
    pub offered: u16,
}

pub fn disk(sectors: usize) -> Box<MemoryDisk> {
    let bytes = (0..sectors * 512).map(|at| (at / 512 + at) as u8);
    Box::new(MemoryDisk::new(bytes.collect()))
}

impl Board {
    pub fn block(sectors: usize) -> Self {
        Self::new(VirtioBlock::device(disk(sectors), "serial".to_owned()))
    }

    pub fn new<F: PciFunction + 'static>(device: PciDevice<F>) -> Self {
        let memory = GuestMemory::new(4 << 20).unwrap();
        let mut bus = Bus::new(memory, Clock::new(1, 1));
        let host = bus.add(Box::new(PciHost::new()));
        for &(region, base, len, width) in PciHost::MAP {
            bus.map_ports(host, region, base, len, width);
        }
        let pin = pirq_of(add_pirqs(&mut bus), SLOT, 1);
        let device = device
            .with_pin(pin)
            .plug(&mut bus, "virtio", Bdf::new(SLOT, 0));
        bus.reset();
        let mut board = Self {
            bus,
            device,
            pin,
            size: 0,
            offered: 0,
        };
        board.config_write(0x10, PORTS.into());
        board.config_write(0x14, VECTORS as u32);
        board.config_write(0x20, MODERN as u32);
        board.config_write(0x04, 0x0007);
        board
    }

    fn select(&mut self, register: u8) {
        let address = 0x8000_0000 | u32::from(SLOT) << 11 | u32::from(register);
        self.bus.pio_write(0xCF8, 4, address & !3);
    }

    pub fn config_read(&mut self, register: u8) -> u32 {
        self.select(register);
        self.bus.pio_read(0xCFC, 4)
    }

    pub fn config_write(&mut self, register: u8, value: u32) {
        self.select(register);
        self.bus.pio_write(0xCFC, 4, value);
    }

    /// The register of the `nth` capability (from 0) of this kind.
    pub fn capability(&mut self, id: u8, nth: usize) -> u8 {
        let mut at = self.config_read(0x34) as u8;
        let mut found = Vec::new();
        while at != 0 {
            let head = self.config_read(at);
            if head as u8 == id {
                found.push(at);
            }
            at = (head >> 8) as u8;
        }
        found[nth]
    }

    pub fn read(&mut self, offset: u64, size: u8) -> u64 {
        self.bus.mmio_read(PhysAddr(MODERN + offset), size)
    }

    pub fn write(&mut self, offset: u64, size: u8, value: u64) {
        self.bus.mmio_write(PhysAddr(MODERN + offset), size, value);
    }

    pub fn word(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.bus.memory.read_array(PhysAddr(at)))
    }

    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.bus.memory.write(PhysAddr(at), bytes);
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.bus.memory.read(PhysAddr(at), &mut bytes);
        bytes
    }

    pub fn status(&mut self) -> u8 {
        self.read(0x14, 1) as u8
    }

    /// Agrees with the device on these features beside VERSION_1, as drivers of version 1 do.
    pub fn negotiate(&mut self, features: u32) {
        self.write(0x14, 1, 0);
        self.write(0x14, 1, 1);
        self.write(0x14, 1, 3);
        for (select, half) in [(0, features), (1, 1)] {
            self.write(0x08, 4, select);
            self.write(0x0C, 4, half.into());
        }
        self.write(0x14, 1, 0xB);
        assert_eq!(self.status(), 0xB, "FEATURES_OK stays");
    }

    /// Brings the device up with these features and its first queue.
    pub fn start(&mut self, features: u32) {
        self.negotiate(features);
        self.write(0x16, 2, 0);
        self.size = self.read(0x18, 2) as u16;
        self.write(0x20, 8, DESCRIPTORS);
        self.write(0x28, 8, AVAILABLE);
        self.write(0x30, 4, USED);
        self.write(0x34, 4, 0);
        self.put(AVAILABLE, &[0; 0x800]);
        self.put(USED, &[0; 0x1000]);
        self.write(0x1C, 2, 1);
        self.write(0x14, 1, 0xF);
        self.offered = 0;
    }

    pub fn descriptor(&mut self, number: u64, address: u64, len: u32, flags: u16, next: u16) {
        self.descriptor_in(DESCRIPTORS, number, address, len, flags, next);
    }

    pub fn descriptor_in(
        &mut self,
        table: u64,
        number: u64,
        address: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.put(table + 16 * number, &bytes);
    }

    /// Offers the chain at descriptor `head`, without a notification.
    pub fn offer(&mut self, head: u16) {
        let slot = u64::from(self.offered % self.size);
        self.put(AVAILABLE + 4 + 2 * slot, &head.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
        let offered = self.offered;
        self.put(AVAILABLE + 2, &offered.to_le_bytes());
    }

    pub fn notify(&mut self) {
        self.write(0x3000, 2, 0);
    }

    /// Notifies, and lets the device work.
    pub fn serve(&mut self) {
        self.notify();
        advance(&mut self.bus, SOON_NS);
    }

    /// How many chains came back.
    pub fn used(&self) -> u16 {
        self.word(USED + 2)
    }

    /// A request of the block device, in three buffers: its status, or none if it did not come back.
    pub fn request(&mut self, kind: u32, sector: u64, data: u64, len: u32) -> Option<u8> {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.put(0x1_8000, &header);
        self.put(0x1_8010, &[0xEE]);
        let direction = if matches!(kind, 0 | 8) { WRITE } else { 0 };
        self.descriptor(0, 0x1_8000, 16, NEXT, if len == 0 { 2 } else { 1 });
        self.descriptor(1, data, len, NEXT | direction, 2);
        self.descriptor(2, 0x1_8010, 1, WRITE, 0);
        let before = self.used();
        self.offer(0);
        self.serve();
        let status = self.bytes(0x1_8010, 1)[0];
        (self.used() != before).then_some(status)
    }
}
