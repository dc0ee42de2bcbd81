use std::io;

use platform::block::SECTOR_BYTES;
use platform::testkit::Rng;
use platform::{Clock, GuestMemory, MemoryDisk, PhysAddr};

use super::*;
use crate::dma::{I8237, i8237};

platform::device_contract!(
    contract,
    I82077::new([Some(diskette()), None]),
    [(MAIN, 6, 1), (DIRECTORY, 1, 1)]
);

const FDC: DeviceId = DeviceId(1);
const BUFFER: u64 = 0x1_0000;

/// A 1.44M diskette: the first byte of each sector is its number plus 1, the second its track.
fn diskette() -> Box<dyn BlockBackend> {
    let mut bytes = vec![0xE5; 2880 * SECTOR_BYTES];
    for (n, sector) in bytes.chunks_exact_mut(SECTOR_BYTES).enumerate() {
        sector[0] = (n % 18) as u8 + 1;
        sector[1] = (n / 18) as u8;
    }
    Box::new(MemoryDisk::new(bytes))
}

/// A diskette that cannot be written, and whose sector 5 cannot be read.
struct Bad;

impl BlockBackend for Bad {
    fn sectors(&self) -> u64 {
        2880
    }
    fn read(&mut self, lba: u64, _: &mut [u8]) -> io::Result<()> {
        if lba == 5 {
            return Err(io::Error::other("scratch"));
        }
        Ok(())
    }
    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::Error::other("tab"))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn read_only(&self) -> bool {
        true
    }
}

fn bus_of(disks: [Option<Box<dyn BlockBackend>>; 2]) -> Bus {
    let mut bus = Bus::new(GuestMemory::new(1 << 20).unwrap(), Clock::new(1, 1));
    let dma = bus.add(Box::new(I8237::new()));
    i8237::map(&mut bus, dma);
    let fdc = bus.add(Box::new(I82077::new(disks)));
    assert_eq!(fdc, FDC);
    map(&mut bus, fdc);
    bus
}

/// A controller out of reset, with the motor of drive 0 on, at 500 kbit/s.
fn bus() -> Bus {
    ready(bus_of([Some(diskette()), None]))
}

fn ready(mut bus: Bus) -> Bus {
    outb(&mut bus, 0x3F2, 0x1C);
    wait(&mut bus);
    for _ in 0..4 {
        command(&mut bus, &[0x08]);
    }
    outb(&mut bus, 0x3F7, 0);
    bus
}

fn inb(bus: &mut Bus, port: u16) -> u8 {
    bus.pio_read(port, 1) as u8
}

fn outb(bus: &mut Bus, port: u16, value: u8) {
    bus.pio_write(port, 1, value.into());
}

fn wait(bus: &mut Bus) {
    while let Some(deadline_ns) = bus.events.next_deadline_ns() {
        bus.clock.skip_to(deadline_ns);
        bus.run_due_events();
    }
}

fn irq(bus: &Bus) -> bool {
    bus.lines.level(IRQ)
}

fn send(bus: &mut Bus, bytes: &[u8]) {
    for byte in bytes {
        assert_eq!(
            inb(bus, 0x3F4) & 0xC0,
            0x80,
            "ready for a byte of {bytes:x?}"
        );
        outb(bus, 0x3F5, *byte);
    }
}

/// Gives a command, waits, and reads its result.
fn command(bus: &mut Bus, bytes: &[u8]) -> Vec<u8> {
    send(bus, bytes);
    wait(bus);
    let mut result = Vec::new();
    while inb(bus, 0x3F4) & 0xD0 == 0xD0 {
        result.push(inb(bus, 0x3F5));
    }
    result
}

fn program_dma(bus: &mut Bus, mode: u8, count: u16) {
    outb(bus, 0x0C, 0);
    outb(bus, 0x0B, mode | 2);
    for byte in [0, 0] {
        outb(bus, 0x04, byte);
    }
    for byte in (count - 1).to_le_bytes() {
        outb(bus, 0x05, byte);
    }
    outb(bus, 0x81, (BUFFER >> 16) as u8);
    outb(bus, 0x0A, 2);
}

/// Byte `offset` of sector `n` in the DMA buffer.
fn buffer(bus: &Bus, n: u64, offset: u64) -> u8 {
    bus.memory
        .read_array::<1>(PhysAddr(BUFFER + n * 512 + offset))[0]
}

#[test]
fn leaving_reset_interrupts_and_is_sensed_four_times() {
    let mut bus = bus_of([None, None]);
    assert_eq!(inb(&mut bus, 0x3F4), 0);
    outb(&mut bus, 0x3F2, 0x0C);
    assert_eq!(inb(&mut bus, 0x3F4), 0);
    wait(&mut bus);
    assert!(irq(&bus));
    assert_eq!(inb(&mut bus, 0x3F4), 0x80);
    for drive in 0..4 {
        assert_eq!(command(&mut bus, &[0x08]), [0xC0 | drive, 0]);
        assert!(!irq(&bus));
    }
    assert_eq!(command(&mut bus, &[0x08]), [0x80]);
}

#[test]
fn the_dma_gate_holds_the_interrupt_back() {
    let mut bus = bus_of([None, None]);
    outb(&mut bus, 0x3F2, 0x04);
    wait(&mut bus);
    assert!(!irq(&bus));
    outb(&mut bus, 0x3F2, 0x0C);
    assert!(irq(&bus));
}

#[test]
fn a_dsr_reset_ends_by_itself_and_lock_keeps_the_configuration() {
    let mut bus = bus();
    command(&mut bus, &[0x13, 0, 0x57, 3]);
    assert_eq!(command(&mut bus, &[0x94]), [0x10]);
    outb(&mut bus, 0x3F4, 0x80);
    wait(&mut bus);
    assert_eq!(inb(&mut bus, 0x3F4), 0x80);
    assert!(!irq(&bus), "polling is disabled");
    let registers = command(&mut bus, &[0x0E]);
    assert_eq!(registers[7..], [0x80, 0x57, 3]);
    assert_eq!(command(&mut bus, &[0x14]), [0x00]);
    outb(&mut bus, 0x3F4, 0x80);
    wait(&mut bus);
    assert!(irq(&bus));
    assert_eq!(command(&mut bus, &[0x0E])[8], 0x20);
}

#[test]
fn the_controller_identifies_itself_and_refuses_unknown_commands() {
    let mut bus = bus();
    assert_eq!(command(&mut bus, &[0x10]), [0x90]);
    for code in [0x00, 0x01, 0x18, 0x51, 0xFF] {
        assert_eq!(command(&mut bus, &[code]), [0x80], "{code:x}");
    }
    assert_eq!(command(&mut bus, &[0x03, 0xAF, 0x02]), []);
    assert_eq!(command(&mut bus, &[0x12, 0x84]), []);
    let registers = command(&mut bus, &[0x0E]);
    assert_eq!(registers.len(), 10);
    assert_eq!(registers[4..6], [0xAF, 0x02]);
    assert_eq!(registers[7], 0x04);
}

#[test]
fn seek_and_recalibrate_interrupt_and_clear_the_change_line() {
    let mut bus = bus();
    assert_eq!(inb(&mut bus, 0x3F7), 0x80);
    send(&mut bus, &[0x0F, 0, 10]);
    assert_eq!(
        inb(&mut bus, 0x3F4),
        0x81,
        "drive 0 is busy, the controller is not"
    );
    assert!(!irq(&bus));
    wait(&mut bus);
    assert!(irq(&bus));
    assert_eq!(command(&mut bus, &[0x08]), [0x20, 10]);
    assert!(!irq(&bus));
    assert_eq!(inb(&mut bus, 0x3F7), 0);
    assert_eq!(command(&mut bus, &[0x04, 0]), [0x28]);
    command(&mut bus, &[0x07, 0]);
    assert_eq!(command(&mut bus, &[0x08]), [0x20, 0]);
    assert_eq!(command(&mut bus, &[0x04, 4]), [0x3C]);
    command(&mut bus, &[0x07, 1]);
    assert_eq!(
        command(&mut bus, &[0x08]),
        [0x71, 0],
        "no drive, no track 0"
    );
}

#[test]
fn another_diskette_sets_the_change_line_until_a_step_and_an_empty_drive_holds_it() {
    let mut bus = bus();
    let recalibrate = |bus: &mut Bus| {
        command(bus, &[0x07, 0]);
        assert_eq!(command(bus, &[0x08]), [0x20, 0]);
    };
    recalibrate(&mut bus);
    assert_eq!(inb(&mut bus, 0x3F7), 0);
    bus.change_medium(FDC, 0, None).unwrap();
    recalibrate(&mut bus);
    assert_eq!(inb(&mut bus, 0x3F7), 0x80, "a step does not help");
    let read = [0xE6, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF];
    program_dma(&mut bus, 0x44, 512);
    assert_eq!(command(&mut bus, &read)[..2], [0x40, 0x01]);
    let other = MemoryDisk::new(vec![0xD7; 1_474_560]);
    bus.change_medium(FDC, 0, Some(Box::new(other))).unwrap();
    assert_eq!(inb(&mut bus, 0x3F7), 0x80, "not seen yet");
    recalibrate(&mut bus);
    assert_eq!(inb(&mut bus, 0x3F7), 0);
    program_dma(&mut bus, 0x44, 512);
    assert_eq!(command(&mut bus, &read)[0], 0);
    assert_eq!(buffer(&bus, 0, 0), 0xD7);
    let none = MemoryDisk::new(vec![0; 1_474_560]);
    assert_eq!(
        bus.change_medium(FDC, 1, Some(Box::new(none))),
        Err(NoSuchDrive)
    );
    assert_eq!(
        bus.change_medium(DeviceId(0), 0, None),
        Err(NoSuchDrive),
        "the DMA controller"
    );
}

#[test]
fn read_data_ends_well_at_terminal_count() {
    let mut bus = bus();
    program_dma(&mut bus, 0x44, 1024);
    send(&mut bus, &[0xE6, 0, 0, 0, 3, 2, 18, 0x1B, 0xFF]);
    assert_eq!(inb(&mut bus, 0x3F4), 0x10);
    wait(&mut bus);
    assert!(irq(&bus));
    assert_eq!(inb(&mut bus, 0x3F4), 0xD0);
    let result: Vec<u8> = (0..7).map(|_| inb(&mut bus, 0x3F5)).collect();
    assert_eq!(result, [0, 0, 0, 0, 0, 5, 2]);
    assert!(!irq(&bus));
    assert_eq!(inb(&mut bus, 0x3F4), 0x80);
    assert_eq!((buffer(&bus, 0, 0), buffer(&bus, 1, 0)), (3, 4));
    assert_eq!(buffer(&bus, 2, 0), 0);
}

#[test]
fn without_terminal_count_the_end_of_the_cylinder_is_an_error() {
    let mut bus = bus();
    program_dma(&mut bus, 0x44, 4096);
    let result = command(&mut bus, &[0x66, 0, 0, 0, 17, 2, 18, 0x1B, 0xFF]);
    assert_eq!(result, [0x40, 0x80, 0, 1, 0, 1, 2]);
    assert_eq!((buffer(&bus, 0, 0), buffer(&bus, 1, 0)), (17, 18));
}

#[test]
fn multi_track_goes_on_with_head_1() {
    let mut bus = bus();
    command(&mut bus, &[0x0F, 0, 2]);
    command(&mut bus, &[0x08]);
    program_dma(&mut bus, 0x44, 36 * 512);
    let result = command(&mut bus, &[0xE6, 0, 2, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(result, [4, 0, 0, 3, 0, 1, 2]);
    assert_eq!((buffer(&bus, 0, 1), buffer(&bus, 35, 1)), (4, 5));
    assert_eq!(buffer(&bus, 35, 0), 18);
}

#[test]
fn the_head_must_be_on_the_cylinder_unless_seeks_are_implied() {
    let mut bus = bus();
    let read = [0xE6, 0, 7, 0, 1, 2, 18, 0x1B, 0xFF];
    program_dma(&mut bus, 0x44, 512);
    assert_eq!(command(&mut bus, &read)[..3], [0x40, 0x04, 0x10]);
    command(&mut bus, &[0x13, 0, 0x60, 0]);
    assert_eq!(command(&mut bus, &read)[..3], [0x20, 0, 0]);
    assert_eq!(buffer(&bus, 0, 1), 14);
}

#[test]
fn written_data_is_read_back_and_a_cut_sector_is_filled_with_zeros() {
    let mut bus = bus();
    bus.memory.write(PhysAddr(BUFFER), &[0xAA; 700]);
    program_dma(&mut bus, 0x48, 700);
    let result = command(&mut bus, &[0xC5, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(result, [0, 0, 0, 0, 0, 3, 2]);
    program_dma(&mut bus, 0x44, 1024);
    command(&mut bus, &[0xE6, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(buffer(&bus, 1, 187), 0xAA);
    assert_eq!((buffer(&bus, 1, 188), buffer(&bus, 1, 511)), (0, 0));
}

#[test]
fn a_masked_dma_channel_is_an_overrun() {
    let mut bus = bus();
    outb(&mut bus, 0x0A, 6);
    let result = command(&mut bus, &[0xE6, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(result[..2], [0x40, 0x10]);
}

#[test]
fn errors_of_the_diskette_are_reported() {
    let mut bus = ready(bus_of([Some(Box::new(Bad)), None]));
    program_dma(&mut bus, 0x44, 4096);
    let result = command(&mut bus, &[0xE6, 0, 0, 0, 5, 2, 18, 0x1B, 0xFF]);
    assert_eq!(result, [0x40, 0x20, 0x20, 0, 0, 6, 2]);
    let result = command(&mut bus, &[0xE6, 0, 0, 0, 6, 2, 18, 0x1B, 0xFF]);
    assert_eq!(result[..3], [0x40, 0x20, 0x20]);
    let result = command(&mut bus, &[0xC5, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(result[..2], [0x40, 0x02]);
    assert_eq!(command(&mut bus, &[0x04, 0])[0] & 0x40, 0x40);
    // No such sector, no diskette, motor off, another rate.
    let read = |drive: u8, sector: u8| [0xE6, drive, 0, 0, sector, 2, 18, 0x1B, 0xFF];
    assert_eq!(command(&mut bus, &read(0, 19))[..2], [0x40, 0x04]);
    assert_eq!(command(&mut bus, &read(1, 1))[..2], [0x41, 0x01]);
    outb(&mut bus, 0x3F7, 2);
    assert_eq!(command(&mut bus, &read(0, 1))[..2], [0x40, 0x01]);
    outb(&mut bus, 0x3F7, 0);
    outb(&mut bus, 0x3F2, 0x0C);
    assert_eq!(command(&mut bus, &[0x4A, 0])[..2], [0x40, 0x01]);
}

#[test]
fn read_id_finds_the_sector_that_comes_by() {
    let mut bus = bus();
    command(&mut bus, &[0x0F, 0, 3]);
    command(&mut bus, &[0x08]);
    let mut seen = Vec::new();
    for _ in 0..18 {
        let result = command(&mut bus, &[0x4A, 4]);
        assert_eq!(result[..5], [4, 0, 0, 3, 1]);
        seen.push(result[5]);
        let now_ns = bus.clock.now_ns();
        bus.clock.skip_to(now_ns + TURN / 18 - EXECUTE_NS);
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=18).collect::<Vec<u8>>());
}

/// One turn of the disk, in nanoseconds.
const TURN: u64 = 200_000_000;

#[test]
fn format_fills_the_sectors_it_is_given() {
    let mut bus = bus();
    let ids: Vec<u8> = (1..=18).flat_map(|sector| [0, 1, sector, 2]).collect();
    bus.memory.write(PhysAddr(BUFFER), &ids);
    program_dma(&mut bus, 0x48, 72);
    let result = command(&mut bus, &[0x4D, 4, 2, 18, 0x54, 0xF6]);
    assert_eq!(result[..3], [4, 0, 0]);
    program_dma(&mut bus, 0x44, 18 * 512);
    command(&mut bus, &[0x66, 4, 0, 1, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!((buffer(&bus, 0, 0), buffer(&bus, 17, 511)), (0xF6, 0xF6));
}

#[test]
fn verify_moves_no_data_and_ends_well_at_the_end_of_the_track() {
    let mut bus = bus();
    let result = command(&mut bus, &[0x56, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(result, [0, 0, 0, 1, 0, 1, 2]);
    let result = command(&mut bus, &[0x56, 0x80, 0, 0, 1, 2, 18, 0x1B, 4]);
    assert_eq!(result, [0, 0, 0, 0, 0, 5, 2]);
    let result = command(&mut bus, &[0x56, 0, 0, 0, 1, 2, 20, 0x1B, 0xFF]);
    assert_eq!(result[..2], [0x40, 0x04]);
}

#[test]
fn without_dma_data_goes_through_the_fifo() {
    let mut bus = bus();
    command(&mut bus, &[0x03, 0xAF, 0x03]);
    send(&mut bus, &[0x45, 0, 0, 0, 4, 2, 4, 0x1B, 0xFF]);
    wait(&mut bus);
    assert!(irq(&bus));
    for _ in 0..512 {
        assert_eq!(inb(&mut bus, 0x3F4), 0xB0);
        outb(&mut bus, 0x3F5, 0x77);
    }
    assert!(irq(&bus));
    assert_eq!(inb(&mut bus, 0x3F4), 0xD0);
    let result: Vec<u8> = (0..7).map(|_| inb(&mut bus, 0x3F5)).collect();
    assert_eq!(result, [0x40, 0x80, 0, 1, 0, 1, 2]);
    assert!(!irq(&bus));
    send(&mut bus, &[0x66, 0, 0, 0, 4, 2, 4, 0x1B, 0xFF]);
    wait(&mut bus);
    for _ in 0..512 {
        assert_eq!(inb(&mut bus, 0x3F4), 0xF0);
        assert_eq!(inb(&mut bus, 0x3F5), 0x77);
    }
    assert_eq!(inb(&mut bus, 0x3F4), 0xD0);
}

#[test]
fn random_accesses_never_panic_and_state_survives_a_round_trip() {
    let disks = || [Some(diskette()), Some(Box::new(Bad) as _)];
    let mut bus = bus_of(disks());
    let mut rng = Rng::new(5);
    let mut next = || rng.next_u64() >> 31;
    for round in 0..100_000 {
        match next() % 16 {
            0..3 => drop(inb(&mut bus, 0x3F0 + next() as u16 % 8)),
            3 => bus.pio_write(0x3F0 + next() as u16 % 8, 1 << (next() % 3), next() as u32),
            4 => outb(&mut bus, 0x3F2, 0x3C | next() as u8 & 1),
            5 if next() % 4 == 0 => program_dma(&mut bus, 0x40 | next() as u8 & 0x3C, 5000),
            6 => outb(&mut bus, 0x3F7, next() as u8 & 2),
            7..10 => {
                let code = [
                    0xE6, 0x66, 0xC5, 0x45, 0x56, 0x4D, 0x4A, 0x42, 0x0F, 0x07, 0x08, 0x6C,
                ];
                outb(&mut bus, 0x3F5, code[next() as usize % code.len()]);
                let drive = next() as u8 & 5;
                for byte in [drive, 0, drive >> 2, next() as u8 % 20, 2, 18, 0, 0] {
                    outb(&mut bus, 0x3F5, byte);
                }
            }
            10 => outb(&mut bus, 0x3F5, next() as u8),
            11 => {
                for _ in 0..next() % 1000 {
                    inb(&mut bus, 0x3F5);
                }
            }
            _ => wait(&mut bus),
        }
        if round % 1000 == 0 {
            let (_, fdc) = bus.devices().nth(1).unwrap();
            let saved = fdc.save();
            let mut other = I82077::new(disks());
            other.restore(&saved).unwrap();
            assert_eq!(other.save(), saved);
        }
    }
    bus.reset();
    let (_, fdc) = bus.devices().nth(1).unwrap();
    assert_eq!(fdc.save(), I82077::new(disks()).save());
    assert!(!irq(&bus));
}
