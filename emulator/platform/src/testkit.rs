//! What every device's tests share.

use crate::bus::Bus;
use crate::clock::Clock;
use crate::device::Device;
use crate::memory::GuestMemory;

/// A bus with 1 MiB of RAM and `device` on ports 0 to 0xFFF as region `region`, for a device's unit tests.
pub fn bus_with(device: Box<dyn Device>, region: u8, width: u8) -> Bus {
    let memory = GuestMemory::new(1 << 20).expect("a host has a megabyte");
    let mut bus = Bus::new(memory, Clock::new(1, 1));
    let id = bus.add(device);
    bus.map_ports(id, region, 0, 0x1000, width);
    bus
}
