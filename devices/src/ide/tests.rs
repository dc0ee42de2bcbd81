use std::io;

use platform::block::SECTOR_BYTES;
use platform::testkit::Rng;
use platform::{Bus, Clock, Device, GuestMemory, MemoryDisk};

mod cdrom;
mod dma;

use super::drive::{
    ERROR_ABRT, ERROR_IDNF, ERROR_UNC, STATUS_BSY, STATUS_DF, STATUS_DRDY, STATUS_DRQ, STATUS_DSC,
    STATUS_ERR,
};
use super::piix::PiixIde;
use super::*;
use crate::pci::{Bdf, PciDevice, PciHost};

platform::device_contract!(
    contract,
    PiixIde::device([disk(), disk(), disk(), disk()].map(|disk| Some(Attached::Disk(disk)))),
    [(8, 8, 4), (9, 1, 1), (4, 16, 4), (10, 8, 4), (11, 1, 1)]
);

platform::device_contract!(
    contract_of_empty_channels,
    PiixIde::device([None, None, None, None]),
    [(8, 8, 4), (9, 1, 1), (4, 16, 4), (10, 8, 4), (11, 1, 1)]
);

const BASE: u16 = 0x1F0;
const STATUS: u16 = BASE + 7;
const ALTERNATE: u16 = 0x3F6;
/// Where the tests have the bus-master registers.
const MASTER: u16 = 0xC000;
const IRQ: IrqLine = IrqLine::isa(14);
const READY: u8 = STATUS_DRDY | STATUS_DSC;

/// A disk of 2000 sectors; each begins with its number.
fn disk() -> Box<dyn BlockBackend> {
    let mut bytes = vec![0; 2000 * SECTOR_BYTES];
    for (n, sector) in bytes.chunks_exact_mut(SECTOR_BYTES).enumerate() {
        sector[..4].copy_from_slice(&(n as u32).to_le_bytes());
    }
    Box::new(MemoryDisk::new(bytes))
}

/// A disk whose sector 100 cannot be read, and that cannot be written; or that refuses writes outright.
struct BadDisk {
    read_only: bool,
}

impl BlockBackend for BadDisk {
    fn sectors(&self) -> u64 {
        200
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let last = lba + (buf.len() / SECTOR_BYTES) as u64;
        if (lba..last).contains(&100) {
            return Err(io::Error::other("scratch"));
        }
        Ok(())
    }
    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::Error::other("full"))
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::Error::other("gone"))
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
}

fn device_of([first, second]: [Option<Box<dyn BlockBackend>>; 2]) -> PciDevice<PiixIde> {
    let [first, second] = [first, second].map(|disk| disk.map(Attached::Disk));
    PiixIde::device([first, second, None, None])
}

fn bus_of(disks: [Option<Box<dyn BlockBackend>>; 2]) -> Bus {
    bus_with(disks.map(|disk| disk.map(Attached::Disk)))
}

fn bus_with([first, second]: [Option<Attached>; 2]) -> Bus {
    let mut bus = Bus::new(GuestMemory::new(1 << 20).unwrap(), Clock::new(1, 1));
    PiixIde::plug(&mut bus, [first, second, None, None], Bdf::new(1, 1));
    let host = bus.add(Box::new(PciHost::new()));
    for &(region, base, len, width) in PciHost::MAP {
        bus.map_ports(host, region, base, len, width);
    }
    bus.reset();
    configure(&mut bus, 0x20, u32::from(MASTER) | 1);
    bus
}

/// Writes a register of the function's configuration space.
fn configure(bus: &mut Bus, register: u32, value: u32) {
    bus.pio_write(0xCF8, 4, 0x8000_0900 | register);
    bus.pio_write(0xCFC, 4, value);
}

/// Lets the function on to the bus, or not.
fn let_master(bus: &mut Bus, may_master: bool) {
    configure(bus, 0x04, if may_master { 5 } else { 1 });
}

fn bus() -> Bus {
    bus_of([Some(disk()), None])
}

fn inb(bus: &mut Bus, port: u16) -> u8 {
    bus.pio_read(port, 1) as u8
}

fn outb(bus: &mut Bus, port: u16, value: u8) {
    bus.pio_write(port, 1, value.into());
}

/// Lets the drive finish what it is busy with; the alternate status then.
fn wait(bus: &mut Bus) -> u8 {
    while let Some(deadline_ns) = bus.events.next_deadline_ns() {
        bus.clock.skip_to(deadline_ns);
        bus.run_due_events();
    }
    inb(bus, ALTERNATE)
}

/// Gives a 28-bit LBA command to device 0 and waits.
fn command(bus: &mut Bus, command: u8, count: u8, lba: u32) -> u8 {
    let [low, mid, high, top] = lba.to_le_bytes();
    for (register, value) in [(6, 0xE0 | top), (2, count), (3, low), (4, mid), (5, high)] {
        outb(bus, BASE + register, value);
    }
    outb(bus, STATUS, command);
    wait(bus)
}

fn read_sector(bus: &mut Bus) -> Vec<u8> {
    (0..SECTOR_BYTES / 2)
        .flat_map(|_| (bus.pio_read(BASE, 2) as u16).to_le_bytes())
        .collect()
}

fn write_sector(bus: &mut Bus, byte: u8) {
    for _ in 0..SECTOR_BYTES / 4 {
        bus.pio_write(BASE, 4, u32::from_le_bytes([byte; 4]));
    }
}

/// The number at the head of a sector.
fn number(sector: &[u8]) -> u32 {
    u32::from_le_bytes([sector[0], sector[1], sector[2], sector[3]])
}

fn words(sector: &[u8]) -> Vec<u16> {
    let pairs = sector.as_chunks::<2>().0;
    pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
}

fn irq(bus: &Bus) -> bool {
    bus.lines.level(IRQ)
}

#[test]
fn identify_describes_the_disk() {
    let mut bus = bus();
    assert_eq!(command(&mut bus, 0xEC, 0, 0), READY | STATUS_DRQ);
    assert!(irq(&bus));
    assert_eq!(inb(&mut bus, STATUS), READY | STATUS_DRQ);
    assert!(!irq(&bus), "reading the status acknowledges");
    let sector = read_sector(&mut bus);
    let words = words(&sector);
    let model: Vec<u8> = words[27..47].iter().flat_map(|w| w.to_be_bytes()).collect();
    assert_eq!(&model[..20], b"GLASSBOX HARDDISK   ");
    assert_eq!((words[1], words[3], words[6]), (1, 16, 63));
    assert_eq!((words[60], words[61]), (2000, 0));
    assert_eq!(words[100..104], [2000, 0, 0, 0]);
    assert_eq!(words[83] & 0x0400, 0x0400);
    assert_eq!(words[49] & 0x0300, 0x0300, "LBA and DMA");
    assert_eq!((words[53] & 7, words[63], words[88]), (3, 0x0407, 0));
    let sum = sector.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    assert_eq!(sum, 0);
    assert_eq!(inb(&mut bus, STATUS), READY);
}

#[test]
fn read_sectors_interrupts_for_each_sector() {
    let mut bus = bus();
    let mut status = command(&mut bus, 0x20, 3, 1000);
    for n in 1000..1003 {
        assert_eq!(status, READY | STATUS_DRQ);
        assert!(irq(&bus));
        inb(&mut bus, STATUS);
        assert!(!irq(&bus));
        assert_eq!(number(&read_sector(&mut bus)), n);
        assert_eq!(inb(&mut bus, ALTERNATE) & STATUS_BSY != 0, n < 1002);
        status = wait(&mut bus);
    }
    assert_eq!(status, READY);
    assert!(!irq(&bus), "there is no interrupt after the last block");
    assert_eq!(inb(&mut bus, BASE + 3), (1002 & 0xFF) as u8);
    assert_eq!(inb(&mut bus, BASE + 2), 0);
}

#[test]
fn a_count_of_0_is_256_sectors() {
    let mut bus = bus();
    command(&mut bus, 0x20, 0, 0);
    for n in 0..256 {
        assert_eq!(number(&read_sector(&mut bus)), n);
        wait(&mut bus);
    }
    assert_eq!(inb(&mut bus, STATUS), READY);
}

#[test]
fn written_sectors_reach_the_disk_whole() {
    let mut bus = bus();
    assert_eq!(command(&mut bus, 0x30, 2, 7), READY | STATUS_DRQ);
    assert!(!irq(&bus), "the first block is asked for without interrupt");
    write_sector(&mut bus, 0x5A);
    assert_eq!(inb(&mut bus, ALTERNATE), STATUS_BSY);
    assert_eq!(wait(&mut bus), READY | STATUS_DRQ);
    assert!(irq(&bus));
    inb(&mut bus, STATUS);
    for _ in 0..100 {
        bus.pio_write(BASE, 2, 0xFFFF);
    }
    // The host gives up within the second sector: nothing of it is stored.
    outb(&mut bus, ALTERNATE, 0x04);
    outb(&mut bus, ALTERNATE, 0x00);
    assert_eq!(wait(&mut bus), READY);
    command(&mut bus, 0x20, 2, 7);
    assert_eq!(read_sector(&mut bus), [0x5A; SECTOR_BYTES]);
    wait(&mut bus);
    assert_eq!(number(&read_sector(&mut bus)), 8);
}

#[test]
fn a_write_takes_its_first_block_right_behind_the_command() {
    // WRITE SECTORS and, with blocks of two sectors, WRITE MULTIPLE: no status is read, no time passes.
    for (code, block) in [(0x30, 1), (0xC5, 2)] {
        let mut bus = bus();
        command(&mut bus, 0xC6, 2, 0);
        inb(&mut bus, STATUS);
        for (register, value) in [(6, 0xE0), (2, 2 * block), (3, 7), (4, 0), (5, 0), (7, code)] {
            outb(&mut bus, BASE + register, value);
        }
        for _ in 0..block {
            assert!(!irq(&bus));
            write_sector(&mut bus, 0x11);
        }
        // Later blocks: BSY, then DRQ with an interrupt.
        assert_eq!(inb(&mut bus, ALTERNATE), STATUS_BSY);
        write_sector(&mut bus, 0x99);
        assert_eq!(wait(&mut bus), READY | STATUS_DRQ);
        assert!(irq(&bus));
        inb(&mut bus, STATUS);
        for _ in 0..block {
            write_sector(&mut bus, 0x22);
        }
        assert_eq!(wait(&mut bus), READY);
        assert!(irq(&bus));
        command(&mut bus, 0x20, 2 * block, 7);
        for n in 0..2 * block {
            let byte = if n < block { 0x11 } else { 0x22 };
            assert_eq!(read_sector(&mut bus), [byte; SECTOR_BYTES]);
            wait(&mut bus);
        }
    }
}

#[test]
fn a_write_that_cannot_begin_is_refused_after_a_while() {
    let mut bus = bus();
    for (register, value) in [(6, 0xE0), (2, 1), (3, 0xD0), (4, 7), (5, 0), (7, 0x30)] {
        outb(&mut bus, BASE + register, value);
    }
    assert_eq!(inb(&mut bus, ALTERNATE), STATUS_BSY);
    assert!(!irq(&bus));
    write_sector(&mut bus, 1);
    assert_eq!(wait(&mut bus), READY | STATUS_ERR);
    assert_eq!(inb(&mut bus, BASE + 1), ERROR_IDNF);
    assert!(irq(&bus));
}

#[test]
fn the_last_block_of_a_write_interrupts_when_it_is_stored() {
    let mut bus = bus();
    command(&mut bus, 0x30, 1, 7);
    write_sector(&mut bus, 1);
    assert!(!irq(&bus));
    assert_eq!(wait(&mut bus), READY);
    assert!(irq(&bus));
}

#[test]
fn read_and_write_multiple_move_blocks() {
    let mut bus = bus();
    assert_eq!(command(&mut bus, 0xC4, 8, 0), READY | STATUS_ERR);
    assert_eq!(inb(&mut bus, BASE + 1), ERROR_ABRT);
    assert_eq!(command(&mut bus, 0xC6, 3, 0), READY | STATUS_ERR);
    assert_eq!(command(&mut bus, 0xC6, 4, 0), READY);
    command(&mut bus, 0xC5, 6, 50);
    for byte in 1..=4 {
        assert!(!irq(&bus));
        write_sector(&mut bus, byte);
    }
    assert_eq!(wait(&mut bus), READY | STATUS_DRQ);
    inb(&mut bus, STATUS);
    for byte in 5..=6 {
        write_sector(&mut bus, byte);
    }
    assert_eq!(wait(&mut bus), READY);
    command(&mut bus, 0xC4, 6, 50);
    for byte in 1..=6 {
        assert_eq!(read_sector(&mut bus), [byte; SECTOR_BYTES]);
        let busy = inb(&mut bus, ALTERNATE) & STATUS_BSY != 0;
        assert_eq!(busy, byte == 4, "a block is four sectors");
        wait(&mut bus);
    }
}

#[test]
fn extended_commands_take_48_bits() {
    let mut bus = bus();
    outb(&mut bus, BASE + 6, 0xE0);
    for (register, high, low) in [(2, 0, 2), (3, 0, 0xCD), (4, 0, 7), (5, 0, 0)] {
        outb(&mut bus, BASE + register, high);
        outb(&mut bus, BASE + register, low);
    }
    outb(&mut bus, STATUS, 0x24);
    assert_eq!(wait(&mut bus), READY | STATUS_DRQ);
    assert_eq!(number(&read_sector(&mut bus)), 0x7CD);
    wait(&mut bus);
    assert_eq!(number(&read_sector(&mut bus)), 0x7CE);
    // The high bytes show through HOB, until a register is written.
    outb(&mut bus, BASE + 4, 0xAA);
    outb(&mut bus, BASE + 4, 0x55);
    outb(&mut bus, ALTERNATE, 0x80);
    assert_eq!(inb(&mut bus, BASE + 4), 0xAA);
    outb(&mut bus, BASE + 2, 0);
    assert_eq!(inb(&mut bus, BASE + 4), 0x55);
    // An address that only its high bytes put past the end.
    outb(&mut bus, BASE + 3, 1);
    outb(&mut bus, BASE + 3, 0);
    outb(&mut bus, STATUS, 0x24);
    assert_eq!(wait(&mut bus), READY | STATUS_ERR);
    assert_eq!(inb(&mut bus, BASE + 1), ERROR_IDNF);
}

#[test]
fn read_native_max_tells_the_last_sector() {
    let mut bus = bus();
    assert_eq!(command(&mut bus, 0xF8, 0, 0), READY);
    let bytes = [3, 4, 5].map(|register| u32::from(inb(&mut bus, BASE + register)));
    assert_eq!(bytes[2] << 16 | bytes[1] << 8 | bytes[0], 1999);
}

#[test]
fn chs_follows_initialize_device_parameters() {
    let mut bus = bus();
    outb(&mut bus, BASE + 6, 0xA3); // 4 heads
    outb(&mut bus, BASE + 2, 10);
    outb(&mut bus, STATUS, 0x91);
    assert_eq!(wait(&mut bus), READY);
    let read = |bus: &mut Bus, cylinder: u8, head: u8, sector: u8| {
        for (register, value) in [
            (6, 0xA0 | head),
            (5, 0),
            (4, cylinder),
            (3, sector),
            (2, 1),
            (7, 0x20),
        ] {
            outb(bus, BASE + register, value);
        }
        wait(bus)
    };
    assert_eq!(read(&mut bus, 3, 2, 5), READY | STATUS_DRQ);
    assert_eq!(number(&read_sector(&mut bus)), (3 * 4 + 2) * 10 + 4);
    for (head, sector) in [(4, 1), (0, 0), (0, 11)] {
        assert_eq!(read(&mut bus, 0, head, sector), READY | STATUS_ERR);
        assert_eq!(inb(&mut bus, BASE + 1), ERROR_IDNF);
    }
    // A transfer leaves the address of its last sector.
    read(&mut bus, 3, 3, 10);
    read_sector(&mut bus);
    assert_eq!(inb(&mut bus, BASE + 3), 10);
    assert_eq!(inb(&mut bus, BASE + 6), 0xA3);
}

/// A disk of 306 cylinders, 4 heads and 17 sectors, as an old one.
struct OldDisk;

impl BlockBackend for OldDisk {
    fn sectors(&self) -> u64 {
        306 * 4 * 17
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        buf[..4].copy_from_slice(&(lba as u32).to_le_bytes());
        Ok(())
    }
    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn geometry(&self) -> Option<[u16; 3]> {
        Some([306, 4, 17])
    }
}

#[test]
fn a_disk_has_the_geometry_that_it_says() {
    let mut bus = bus_of([Some(Box::new(OldDisk)), None]);
    command(&mut bus, 0xEC, 0, 0);
    let words = words(&read_sector(&mut bus));
    assert_eq!((words[1], words[3], words[6]), (306, 4, 17));
    assert_eq!(words[54..57], [306, 4, 17]);
    assert_eq!((words[57], words[58], words[60]), (20808, 0, 20808));
    for (register, value) in [(6, 0xA3), (5, 1), (4, 0x31), (3, 17), (2, 1), (7, 0x20)] {
        outb(&mut bus, BASE + register, value);
    }
    assert_eq!(wait(&mut bus), READY | STATUS_DRQ);
    assert_eq!(number(&read_sector(&mut bus)), 20807, "the last sector");
}

#[test]
fn sectors_past_the_end_are_not_found() {
    let mut bus = bus();
    for code in [0x20, 0x30, 0x40, 0x70] {
        let status = command(&mut bus, code, 1, 2000);
        assert_eq!(status, READY | STATUS_ERR, "{code:x}");
        assert_eq!(inb(&mut bus, BASE + 1), ERROR_IDNF);
        assert!(irq(&bus));
    }
    assert_eq!(command(&mut bus, 0x40, 0, 1000), READY);
    assert_eq!(command(&mut bus, 0x40, 0, 1900), READY | STATUS_ERR);
    assert_eq!(inb(&mut bus, BASE + 3), (2000 & 0xFF) as u8);
}

#[test]
fn host_errors_are_the_guests_disk_errors() {
    let mut bus = bus_of([Some(Box::new(BadDisk { read_only: false })), None]);
    command(&mut bus, 0x20, 2, 99);
    read_sector(&mut bus);
    assert_eq!(wait(&mut bus), READY | STATUS_ERR);
    assert_eq!(inb(&mut bus, BASE + 1), ERROR_UNC);
    assert_eq!(inb(&mut bus, BASE + 3), 100);
    command(&mut bus, 0x30, 1, 5);
    write_sector(&mut bus, 0);
    assert_eq!(wait(&mut bus), READY | STATUS_ERR | STATUS_DF);
    assert_eq!(inb(&mut bus, BASE + 3), 5);
    assert_eq!(command(&mut bus, 0xE7, 0, 0), READY | STATUS_ERR);

    let mut bus = bus_of([Some(Box::new(BadDisk { read_only: true })), None]);
    assert_eq!(command(&mut bus, 0x30, 1, 5), READY | STATUS_ERR);
    assert_eq!(inb(&mut bus, BASE + 1), ERROR_ABRT);
}

#[test]
fn commands_without_data_end_ready_and_unknown_ones_abort() {
    let mut bus = bus();
    for code in [0x10, 0x91, 0xC6, 0xE0, 0xE1, 0xE2, 0xE3, 0xE6, 0xE7, 0xEA] {
        assert_eq!(command(&mut bus, code, 4, 0), READY, "{code:x}");
        assert!(irq(&bus));
    }
    for code in [0x00, 0x08, 0xA0, 0xA1, 0xB0, 0x26, 0xC7, 0xCC, 0xFF] {
        assert_eq!(
            command(&mut bus, code, 1, 0),
            READY | STATUS_ERR,
            "{code:x}"
        );
        assert_eq!(inb(&mut bus, BASE + 1), ERROR_ABRT);
    }
    assert_eq!(command(&mut bus, 0xE5, 0, 0), READY);
    assert_eq!(inb(&mut bus, BASE + 2), 0x00, "standby");
    outb(&mut bus, BASE + 1, 0x03);
    assert_eq!(command(&mut bus, 0xEF, 0x0C, 0), READY);
    assert_eq!(command(&mut bus, 0xEF, 0x45, 0), READY | STATUS_ERR);
    outb(&mut bus, BASE + 1, 0x82);
    assert_eq!(command(&mut bus, 0xEF, 0, 0), READY);
    command(&mut bus, 0xEC, 0, 0);
    assert_eq!(words(&read_sector(&mut bus))[85] & 0x20, 0);
}

#[test]
fn nien_holds_the_interrupt_back() {
    let mut bus = bus();
    outb(&mut bus, ALTERNATE, 0x02);
    command(&mut bus, 0xEC, 0, 0);
    assert!(!irq(&bus));
    outb(&mut bus, ALTERNATE, 0x00);
    assert!(irq(&bus));
}

#[test]
fn a_software_reset_leaves_the_signature() {
    let mut bus = bus();
    command(&mut bus, 0x20, 1, 77);
    outb(&mut bus, ALTERNATE, 0x04);
    assert_eq!(inb(&mut bus, ALTERNATE), STATUS_BSY);
    assert!(!irq(&bus));
    outb(&mut bus, ALTERNATE, 0x00);
    assert_eq!(inb(&mut bus, ALTERNATE), STATUS_BSY);
    assert_eq!(wait(&mut bus), READY);
    let registers: Vec<u8> = (1..7).map(|n| inb(&mut bus, BASE + n)).collect();
    assert_eq!(registers, [1, 1, 1, 0, 0, 0xA0]);
    assert!(!irq(&bus));
}

#[test]
fn the_diagnostic_runs_on_both_devices_and_selects_device_0() {
    let mut bus = bus_of([Some(disk()), Some(disk())]);
    outb(&mut bus, BASE + 6, 0xB0);
    outb(&mut bus, BASE + 4, 0x99);
    outb(&mut bus, STATUS, 0x90);
    assert_eq!(wait(&mut bus), READY);
    assert!(irq(&bus));
    assert_eq!(inb(&mut bus, BASE + 4), 0);
    assert_eq!(inb(&mut bus, STATUS), READY);
    outb(&mut bus, BASE + 6, 0xB0);
    assert!(!irq(&bus));
    assert_eq!(inb(&mut bus, BASE + 4), 0);
}

#[test]
fn an_absent_device_1_reads_status_0_and_ignores_commands() {
    let mut bus = bus();
    outb(&mut bus, BASE + 6, 0xB0);
    assert_eq!(inb(&mut bus, STATUS), 0);
    assert_eq!(inb(&mut bus, ALTERNATE), 0);
    outb(&mut bus, STATUS, 0xEC);
    assert_eq!(wait(&mut bus), 0);
    assert!(!irq(&bus));
    outb(&mut bus, BASE + 6, 0xA0);
    assert_eq!(inb(&mut bus, STATUS), READY);
}

#[test]
fn an_empty_channel_floats_and_is_not_busy() {
    let mut bus = bus_of([None, None]);
    for device in [0xA0, 0xB0] {
        outb(&mut bus, BASE + 6, device);
        outb(&mut bus, BASE + 2, 0x55);
        assert_eq!(inb(&mut bus, BASE + 2), 0x7F);
        assert_eq!(inb(&mut bus, STATUS), 0x7F);
    }
}

#[test]
fn two_drives_keep_their_own_data() {
    let mut bus = bus_of([
        Some(disk()),
        Some(Box::new(MemoryDisk::new(vec![9; 51200]))),
    ]);
    for (device, expected) in [(0xE0, 3), (0xF0, 0x0909_0909)] {
        for (register, value) in [(6, device), (2, 1), (3, 3), (4, 0), (5, 0), (7, 0x20)] {
            outb(&mut bus, BASE + register, value);
        }
        assert_eq!(wait(&mut bus), READY | STATUS_DRQ);
        assert_eq!(number(&read_sector(&mut bus)), expected);
    }
}

#[test]
fn a_transfer_goes_on_after_save_and_restore() {
    let mut bus = bus();
    command(&mut bus, 0x20, 2, 10);
    for _ in 0..100 {
        bus.pio_read(BASE, 2);
    }
    let (_, device) = bus.devices().next().unwrap();
    let saved = device.save();
    let mut other = bus_of([Some(disk()), None]);
    let (_, device) = other.devices().next().unwrap();
    device.restore(&saved).unwrap();
    assert_eq!(device.save(), saved);
    for _ in 0..156 {
        other.pio_read(BASE, 2);
    }
    assert_eq!(wait(&mut other), READY | STATUS_DRQ);
    assert_eq!(number(&read_sector(&mut other)), 11);
    let mut none = device_of([None, None]);
    assert!(none.restore(&saved).is_err(), "a state of other drives");
}

#[test]
fn random_accesses_never_panic_and_state_survives_a_round_trip() {
    let drives = || {
        [
            Some(disk()),
            Some(Box::new(BadDisk { read_only: false }) as _),
        ]
    };
    let mut bus = bus_of(drives());
    let mut rng = Rng::new(3);
    let mut next = || rng.next_u64() >> 31;
    let codes = [
        0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0x40, 0x90, 0x91, 0xC4, 0xC5, 0xC6, 0xC8,
        0xCA, 0xEC, 0xEF,
    ];
    for round in 0..100_000 {
        let port = match next() % 16 {
            0 => ALTERNATE,
            1..5 => MASTER + next() as u16 % 8,
            _ => BASE + next() as u16 % 8,
        };
        let size = 1 << (next() % 3);
        match next() % 16 {
            0..4 => drop(bus.pio_read(port, size)),
            4..7 => bus.pio_write(port, size, next() as u32 & 0x0F0F_F9FF),
            7 => outb(&mut bus, STATUS, codes[next() as usize % codes.len()]),
            8 => {
                for _ in 0..next() % 400 {
                    bus.pio_read(BASE, 4);
                }
            }
            9 => (0..next() % 400).for_each(|_| bus.pio_write(BASE, 4, 7)),
            10 => outb(&mut bus, BASE + 5, 0),
            _ => {
                let now_ns = bus.clock.now_ns();
                bus.clock.skip_to(now_ns + 1_500);
                bus.run_due_events();
            }
        }
        if round % 1000 == 0 {
            let (_, ide) = bus.devices().next().unwrap();
            let saved = ide.save();
            let mut other = device_of(drives());
            other.restore(&saved).unwrap();
            assert_eq!(other.save(), saved);
        }
    }
    bus.reset();
    let (_, ide) = bus.devices().next().unwrap();
    let after = ide.save();
    let mut fresh = bus_of(drives());
    fresh.reset();
    let (_, ide) = fresh.devices().next().unwrap();
    assert_eq!(after, ide.save());
    assert!(!irq(&bus));
}
