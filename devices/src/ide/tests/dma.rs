//! Transfers by the bus master.

use platform::PhysAddr;
use platform::testkit::advance;

use super::super::bus_master::{STATUS_ACTIVE, STATUS_INTERRUPT};
use super::*;

const TABLE: u32 = 0x1000;
const END: u32 = 1 << 31;
const START: u8 = 0x01;
const TO_MEMORY: u8 = 0x08;

/// Writes the table: address and length with its end bit.
fn set_table(bus: &mut Bus, entries: &[(u32, u32)]) {
    for (n, (address, control)) in entries.iter().enumerate() {
        let at = PhysAddr(u64::from(TABLE) + 8 * n as u64);
        let entry = u64::from(*control) << 32 | u64::from(*address);
        bus.memory.write(at, &entry.to_le_bytes());
    }
    bus.pio_write(MASTER + 4, 4, TABLE);
}

/// Gives the command, starts the bus master and waits; the status of drive and bus master then.
fn dma(bus: &mut Bus, code: u8, count: u8, lba: u32) -> (u8, u8) {
    let direction = if matches!(code, 0xC8 | 0xC9) {
        TO_MEMORY
    } else {
        0
    };
    outb(bus, MASTER, direction);
    outb(bus, MASTER + 2, 0x06);
    let waiting = command(bus, code, count, lba);
    outb(bus, MASTER, direction | START);
    if waiting & STATUS_DRQ != 0 {
        assert!(!irq(bus), "the transfer takes its time");
    }
    (wait(bus), inb(bus, MASTER + 2))
}

fn stop(bus: &mut Bus) {
    outb(bus, MASTER, 0);
}

fn memory(bus: &Bus, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bus.memory.read(PhysAddr(at), &mut bytes);
    bytes
}

/// The numbers at the heads of the sectors in memory from `at` on.
fn numbers(bus: &Bus, at: u64, sectors: usize) -> Vec<u32> {
    let bytes = memory(bus, at, sectors * SECTOR_BYTES);
    bytes.chunks(SECTOR_BYTES).map(number).collect()
}

#[test]
fn read_dma_scatters_sectors_and_interrupts_once() {
    let mut bus = bus();
    set_table(
        &mut bus,
        &[
            (0x2_0000, 700),
            (0x3_0000, 2),
            (0x4_0000, END | (40 * 512 - 702)),
        ],
    );
    let ended = dma(&mut bus, 0xC8, 40, 100);
    assert_eq!(ended, (READY, STATUS_INTERRUPT));
    assert!(irq(&bus));
    let mut read = memory(&bus, 0x2_0000, 700);
    read.extend(memory(&bus, 0x3_0000, 2));
    read.extend(memory(&bus, 0x4_0000, 40 * 512 - 702));
    let heads: Vec<u32> = read.chunks(SECTOR_BYTES).map(number).collect();
    assert_eq!(heads, (100..140).collect::<Vec<u32>>());
    assert_eq!(memory(&bus, 0x2_0000 + 700, 4), [0; 4], "no byte too many");
    assert_eq!(inb(&mut bus, BASE + 3), 139);
    inb(&mut bus, STATUS);
    assert!(!irq(&bus));
    outb(&mut bus, MASTER + 2, STATUS_INTERRUPT);
    assert_eq!(inb(&mut bus, MASTER + 2), 0);
}

#[test]
fn write_dma_gathers_sectors() {
    let mut bus = bus();
    for n in 0..20 {
        let at = PhysAddr(0x2_0000 + 512 * n);
        bus.memory.write(at, &(5000 + n as u32).to_le_bytes());
    }
    set_table(&mut bus, &[(0x2_0000, 1000), (0x2_0000 + 1000, END | 9240)]);
    assert_eq!(dma(&mut bus, 0xCA, 20, 50), (READY, STATUS_INTERRUPT));
    stop(&mut bus);
    for n in [0, 19] {
        command(&mut bus, 0x20, 1, 50 + n);
        assert_eq!(number(&read_sector(&mut bus)), 5000 + n);
    }
    command(&mut bus, 0x20, 1, 70);
    assert_eq!(number(&read_sector(&mut bus)), 70);
}

#[test]
fn a_length_of_0_is_64_kib() {
    let mut bus = bus();
    set_table(&mut bus, &[(0x2_0000, 0), (0x3_0000, END)]);
    assert_eq!(dma(&mut bus, 0xC8, 0, 0), (READY, STATUS_INTERRUPT));
    let expected: Vec<u32> = (0..256).collect();
    assert_eq!(numbers(&bus, 0x2_0000, 256), expected);
}

#[test]
fn extended_dma_commands_take_48_bits() {
    let mut bus = bus();
    for code in [0x25, 0x35] {
        set_table(&mut bus, &[(0x2_0000, 0), (0x3_0000, 0), (0x4_0000, END)]);
        for (register, high, low) in [(2, 1, 0x40), (3, 0, 0xCD), (4, 0, 1), (5, 0, 0)] {
            outb(&mut bus, BASE + register, high);
            outb(&mut bus, BASE + register, low);
        }
        outb(&mut bus, BASE + 6, 0xE0);
        outb(&mut bus, STATUS, code);
        outb(
            &mut bus,
            MASTER,
            START | if code == 0x25 { TO_MEMORY } else { 0 },
        );
        assert_eq!(wait(&mut bus), READY, "{code:x}");
        assert_eq!(numbers(&bus, 0x2_0000, 320)[319], 0x1CD + 319);
        stop(&mut bus);
    }
}

#[test]
fn a_table_longer_than_the_transfer_leaves_the_bus_master_active() {
    let mut bus = bus();
    set_table(&mut bus, &[(0x2_0000, 1024), (0x3_0000, END | 512)]);
    let ended = dma(&mut bus, 0xC8, 1, 7);
    assert_eq!(ended, (READY, STATUS_INTERRUPT | STATUS_ACTIVE));
    stop(&mut bus);
    assert_eq!(inb(&mut bus, MASTER + 2), STATUS_INTERRUPT);
}

#[test]
fn a_short_table_leaves_the_drive_waiting_without_interrupt() {
    let mut bus = bus();
    set_table(&mut bus, &[(0x2_0000, END | 700)]);
    assert_eq!(dma(&mut bus, 0xC8, 2, 7), (READY | STATUS_DRQ, 0));
    assert!(!irq(&bus));
    assert_eq!(numbers(&bus, 0x2_0000, 2), [7, 8]);
    // Another table goes on where the drive is.
    stop(&mut bus);
    set_table(&mut bus, &[(0x3_0000, END | 324)]);
    outb(&mut bus, MASTER, TO_MEMORY | START);
    assert_eq!(wait(&mut bus), READY);
    assert!(irq(&bus));
}

#[test]
fn what_a_short_table_leaves_of_a_sector_is_not_stored() {
    let mut bus = bus();
    set_table(&mut bus, &[(0x2_0000, END | 100)]);
    assert_eq!(dma(&mut bus, 0xCA, 1, 7), (READY | STATUS_DRQ, 0));
    outb(&mut bus, ALTERNATE, 0x04);
    outb(&mut bus, ALTERNATE, 0x00);
    assert_eq!(wait(&mut bus), READY);
    command(&mut bus, 0x20, 1, 7);
    assert_eq!(number(&read_sector(&mut bus)), 7);
}

#[test]
fn a_table_without_end_moves_no_more_than_the_transfer() {
    let mut bus = bus();
    // The table fills its memory with regions of two bytes, and lies within the last of them.
    let entries: Vec<(u32, u32)> = (0..2000).map(|_| (0x8_0000, 2)).collect();
    set_table(&mut bus, &entries);
    let ended = dma(&mut bus, 0xC8, 4, 7);
    assert_eq!(ended, (READY, STATUS_INTERRUPT | STATUS_ACTIVE));
    stop(&mut bus);
    // Open bus is an entry that ends the table.
    bus.pio_write(MASTER + 4, 4, 0xFFFF_FFFC);
    assert_eq!(dma(&mut bus, 0xC8, 0, 7), (READY | STATUS_DRQ, 0));
}

#[test]
fn a_stop_in_the_middle_ends_the_transfer_and_the_drive_can_be_reset() {
    let mut bus = bus();
    set_table(&mut bus, &[(0x2_0000, END)]);
    command(&mut bus, 0xC8, 100, 0);
    outb(&mut bus, MASTER, TO_MEMORY | START);
    assert_eq!(inb(&mut bus, MASTER + 2), STATUS_ACTIVE);
    advance(&mut bus, BLOCK_NS + 1);
    stop(&mut bus);
    assert_eq!(inb(&mut bus, MASTER + 2), 0);
    assert_eq!(wait(&mut bus), READY | STATUS_DRQ);
    let heads = numbers(&bus, 0x2_0000, 20);
    assert_eq!((heads[15], heads[16]), (15, 0));
    outb(&mut bus, ALTERNATE, 0x04);
    outb(&mut bus, ALTERNATE, 0x00);
    assert_eq!(wait(&mut bus), READY);
    assert_eq!(dma(&mut bus, 0xC8, 1, 9).0, READY);
    assert_eq!(numbers(&bus, 0x2_0000, 1), [9]);
}

#[test]
fn nothing_moves_in_the_other_direction_or_without_leave_of_the_pci_function() {
    let mut bus = bus();
    set_table(&mut bus, &[(0x2_0000, END | 512)]);
    let_master(&mut bus, false);
    let waiting = (READY | STATUS_DRQ, STATUS_ACTIVE);
    assert_eq!(dma(&mut bus, 0xC8, 1, 9), waiting);
    let_master(&mut bus, true);
    assert_eq!(wait(&mut bus), READY);
    assert_eq!(numbers(&bus, 0x2_0000, 1), [9]);
    stop(&mut bus);
    command(&mut bus, 0xC8, 1, 9);
    outb(&mut bus, MASTER, START);
    assert_eq!(wait(&mut bus), READY | STATUS_DRQ);
}

#[test]
fn host_errors_end_dma_with_the_address_of_the_sector() {
    let mut bus = bus_of([Some(Box::new(BadDisk { read_only: false })), None]);
    set_table(&mut bus, &[(0x2_0000, END)]);
    let active = STATUS_INTERRUPT | STATUS_ACTIVE;
    assert_eq!(dma(&mut bus, 0xC8, 64, 75), (READY | STATUS_ERR, active));
    assert_eq!(inb(&mut bus, BASE + 1), ERROR_UNC);
    assert_eq!(inb(&mut bus, BASE + 3), 100);
    inb(&mut bus, STATUS);
    stop(&mut bus);
    let faulty = READY | STATUS_ERR | STATUS_DF;
    assert_eq!(dma(&mut bus, 0xCA, 3, 5), (faulty, active));
    assert_eq!(inb(&mut bus, BASE + 3), 5);
    inb(&mut bus, STATUS);
    stop(&mut bus);
    assert_eq!(dma(&mut bus, 0xC8, 1, 200).0, READY | STATUS_ERR);
    assert_eq!(inb(&mut bus, BASE + 1), ERROR_IDNF);

    let mut bus = bus_of([Some(Box::new(BadDisk { read_only: true })), None]);
    assert_eq!(command(&mut bus, 0xCA, 1, 5), READY | STATUS_ERR);
    assert_eq!(inb(&mut bus, BASE + 1), ERROR_ABRT);
}

#[test]
fn set_features_selects_the_multiword_mode() {
    let mut bus = bus();
    outb(&mut bus, BASE + 1, 0x03);
    assert_eq!(command(&mut bus, 0xEF, 0x21, 0), READY);
    assert_eq!(command(&mut bus, 0xEF, 0x23, 0), READY | STATUS_ERR);
    command(&mut bus, 0xEC, 0, 0);
    assert_eq!(words(&read_sector(&mut bus))[63], 0x0207);
}

#[test]
fn the_registers_keep_what_the_interface_defines() {
    let mut bus = bus();
    bus.pio_write(MASTER, 4, 0xFFFF_FFFE);
    assert_eq!(bus.pio_read(MASTER, 4), 0x0060_0008);
    bus.pio_write(MASTER + 4, 4, 0xFFFF_FFFF);
    assert_eq!(bus.pio_read(MASTER + 4, 4), 0xFFFF_FFFC);
    outb(&mut bus, MASTER + 5, 0x12);
    assert_eq!(bus.pio_read(MASTER + 4, 4), 0xFFFF_12FC);
    assert_eq!(
        bus.pio_read(MASTER + 16, 1),
        0xFF,
        "16 ports of two channels"
    );
}

#[test]
fn dma_goes_on_after_save_and_restore() {
    let mut bus = bus();
    set_table(
        &mut bus,
        &[(0x2_0000, 9000), (0x6_0000, END | (64 * 512 - 9000))],
    );
    command(&mut bus, 0xC8, 64, 0);
    outb(&mut bus, MASTER, TO_MEMORY | START);
    advance(&mut bus, 2 * BLOCK_NS + 1);
    let (_, device) = bus.devices().next().unwrap();
    let saved = device.save();
    *device = Box::new(device_of([Some(disk()), None]));
    device.restore(&saved).unwrap();
    assert_eq!(device.save(), saved);
    assert_eq!(wait(&mut bus), READY);
    let last = 0x6_0000 + 63 * 512 - 9000;
    assert_eq!(numbers(&bus, last, 1), [63]);
}

/// A disk that notes what of it is given up.
struct Trimmed(std::sync::Arc<std::sync::Mutex<Vec<(u64, u64)>>>);

impl BlockBackend for Trimmed {
    fn sectors(&self) -> u64 {
        1 << 33
    }
    fn read(&mut self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Ok(())
    }
    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&mut self, lba: u64, sectors: u64) -> io::Result<()> {
        self.0.lock().unwrap().push((lba, sectors));
        Ok(())
    }
}

#[test]
fn data_set_management_gives_ranges_up() {
    let given_up = std::sync::Arc::default();
    let disk = Trimmed(std::sync::Arc::clone(&given_up));
    let mut bus = bus_of([Some(Box::new(disk)), None]);
    command(&mut bus, 0xEC, 0, 0);
    let words = words(&read_sector(&mut bus));
    assert_eq!((words[80] & 0x80, words[105], words[169]), (0x80, 8, 1));
    let trim = |bus: &mut Bus, feature: u8, sectors: u8, entries: &[u64]| {
        let mut list = [0; 512];
        for (place, entry) in list.chunks_mut(8).zip(entries) {
            place.copy_from_slice(&entry.to_le_bytes());
        }
        bus.memory.write(PhysAddr(0x2_0000), &list);
        set_table(bus, &[(0x2_0000, END | 4096)]);
        outb(bus, MASTER, 0);
        outb(bus, BASE + 1, feature);
        outb(bus, BASE + 2, 0);
        let waiting = command(bus, 0x06, sectors, 0);
        outb(bus, MASTER, START);
        if waiting & STATUS_DRQ != 0 {
            assert!(!irq(bus));
        }
        wait(bus)
    };
    let entries = [5 | 7 << 48, 0, 1 << 32 | 0xFFFF << 48];
    assert_eq!(trim(&mut bus, 1, 1, &entries), READY);
    assert_eq!(*given_up.lock().unwrap(), [(5, 7), (1 << 32, 0xFFFF)]);
    // Nothing of a list with a range past the end is done.
    let beyond = [1 | 1 << 48, ((1 << 33) - 1) | 2 << 48];
    assert_eq!(trim(&mut bus, 1, 1, &beyond), READY | STATUS_ERR);
    assert_eq!(inb(&mut bus, BASE + 1), ERROR_IDNF);
    for (feature, sectors) in [(0, 1), (1, 0), (1, 9)] {
        assert_eq!(
            trim(&mut bus, feature, sectors, &entries),
            READY | STATUS_ERR
        );
        assert_eq!(inb(&mut bus, BASE + 1), ERROR_ABRT);
    }
    assert_eq!(given_up.lock().unwrap().len(), 2);
}
