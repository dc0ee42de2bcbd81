use platform::testkit::advance;
use platform::{BlockBackend, MemoryDisk, PhysAddr, SavedState};

use super::testkit::*;
use super::*;

platform::device_contract!(
    block_contract,
    VirtioBlock::device(disk(64), "serial".to_owned()),
    [
        (platform::CONFIGURATION, 256, 4),
        (0, 128, 4),
        (1, 4096, 8),
        (4, 0x4000, 8)
    ]
);

platform::device_contract!(
    entropy_contract,
    VirtioEntropy::device(7),
    [
        (platform::CONFIGURATION, 256, 4),
        (0, 32, 4),
        (1, 4096, 8),
        (4, 0x4000, 8)
    ]
);

/// A medium that refuses everything.
struct Broken(u64);

impl BlockBackend for Broken {
    fn sectors(&self) -> u64 {
        self.0
    }

    fn read(&mut self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Other.into())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Other.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Other.into())
    }

    fn read_only(&self) -> bool {
        self.0 == 1
    }
}

const FLUSH: u32 = 1 << 9;
const INDIRECT_FEATURE: u32 = 1 << 28;
const EVENT_INDEX: u32 = 1 << 29;

#[test]
fn drivers_find_it_by_its_identifiers_and_capabilities() {
    let mut board = Board::block(64);
    assert_eq!(board.config_read(0x00), 0x1001_1AF4);
    assert_eq!(board.config_read(0x2C), 0x0002_1AF4);
    assert_eq!(board.config_read(0x08), 0x0100_0000);
    for (nth, kind, bar, offset) in [
        (0, 1, 4, 0),
        (1, 3, 4, 0x1000),
        (2, 4, 4, 0x2000),
        (3, 2, 4, 0x3000),
    ] {
        let at = board.capability(0x09, nth);
        assert_eq!(board.config_read(at) >> 24, kind);
        assert_eq!(board.config_read(at + 4) & 0xFF, bar);
        assert_eq!(board.config_read(at + 8), offset);
    }
    let notify = board.capability(0x09, 3);
    assert_eq!(board.config_read(notify + 16), 4, "the multiplier");
    let mut entropy = Board::new(VirtioEntropy::device(1));
    assert_eq!(entropy.config_read(0x00), 0x1005_1AF4);
    assert_eq!(entropy.config_read(0x2C), 0x0004_1AF4);
}

#[test]
fn the_access_capability_reaches_the_structures_by_configuration_cycles() {
    let mut board = Board::block(64);
    let at = board.capability(0x09, 4);
    let reach = |board: &mut Board, offset: u32, len: u32| {
        board.config_write(at + 4, 4);
        board.config_write(at + 8, offset);
        board.config_write(at + 12, len);
    };
    reach(&mut board, 0x14, 1);
    board.config_write(at + 16, 0x01);
    assert_eq!(board.status(), 1);
    assert_eq!(board.config_read(at + 16) & 0xFF, 1);
    reach(&mut board, 0x2000, 4);
    assert_eq!(board.config_read(at + 16), 64, "the capacity");
    reach(&mut board, 0x2001, 4);
    board.config_write(at + 16, 0);
    reach(&mut board, 0xFFFF_FFFC, 4);
    board.config_write(at + 16, 0);
    assert_eq!(board.status(), 1, "what is unsound does nothing");
}

#[test]
fn features_are_negotiated() {
    let mut board = Board::block(64);
    board.write(0x00, 4, 1);
    assert_eq!(board.read(0x04, 4), 1, "VERSION_1");
    board.write(0x00, 4, 2);
    assert_eq!(board.read(0x04, 4), 0);
    // Without VERSION_1, or with what is not offered, FEATURES_OK does not stay.
    for halves in [[0, 0], [1 << 31, 1], [0, 3]] {
        board.write(0x14, 1, 0);
        for (select, half) in (0..).zip(halves) {
            board.write(0x08, 4, select);
            board.write(0x0C, 4, half);
        }
        board.write(0x14, 1, 0x0B);
        assert_eq!(board.status(), 0x03);
    }
    board.start(FLUSH);
    board.write(0x08, 4, 0);
    board.write(0x0C, 4, 0);
    assert_eq!(board.read(0x0C, 4), FLUSH.into(), "they are settled");
}

#[test]
fn queues_have_sizes_and_places_of_the_drivers() {
    let mut board = Board::block(64);
    assert_eq!(board.read(0x12, 2), 1);
    assert_eq!(board.read(0x18, 2), 256);
    for (size, kept) in [(3, 256), (512, 256), (0, 256), (16, 16)] {
        board.write(0x18, 2, size);
        assert_eq!(board.read(0x18, 2), kept, "{size}");
    }
    board.write(0x24, 4, 0x12);
    board.write(0x20, 4, 0x3456_0000);
    assert_eq!(board.read(0x20, 8), 0x12_3456_0000);
    board.write(0x1C, 2, 1);
    board.write(0x18, 2, 8);
    board.write(0x20, 4, 0);
    assert_eq!(board.read(0x18, 2), 16, "in use it stays");
    assert_eq!(board.read(0x20, 4), 0x3456_0000);
    board.write(0x16, 2, 1);
    assert_eq!(board.read(0x18, 2), 0, "there is no other queue");
    board.write(0x14, 1, 0);
    assert_eq!((board.read(0x18, 2), board.read(0x1C, 2)), (256, 0));
}

#[test]
fn sectors_are_read_written_and_flushed() {
    let mut board = Board::block(64);
    board.start(FLUSH);
    assert_eq!(board.request(0, 3, DATA, 1024), Some(0));
    let expected: Vec<u8> = (3 * 512..5 * 512).map(|at| (at / 512 + at) as u8).collect();
    assert_eq!(board.bytes(DATA, 1024), expected);
    assert_eq!(
        u32::from_le_bytes(board.bus.memory.read_array(PhysAddr(USED + 8))),
        1025
    );
    assert_eq!(board.request(1, 62, DATA, 1024), Some(0));
    assert_eq!(board.request(4, 0, 0, 0), Some(0));
    assert_eq!(board.request(0, 62, DATA + 0x1000, 1024), Some(0));
    assert_eq!(board.bytes(DATA + 0x1000, 1024), expected);
    assert!(board.bus.lines.level(board.pin));
    assert_eq!(board.read(0x1000, 1), 1, "ISR status");
    assert!(!board.bus.lines.level(board.pin));
    assert_eq!(board.read(0x1000, 1), 0);
}

#[test]
fn what_is_beyond_the_end_or_no_sector_fails() {
    let mut board = Board::block(64);
    board.start(0);
    for (kind, sector, len) in [
        (0, 64, 512),
        (0, 63, 1024),
        (0, u64::MAX, 512),
        (0, u64::MAX - 1, 1024),
        (1, 64, 512),
        (0, 0, 511),
        (1, 0, 513),
    ] {
        assert_eq!(
            board.request(kind, sector, DATA, len),
            Some(1),
            "{kind} {sector} {len}"
        );
    }
    assert_eq!(board.request(99, 0, DATA, 512), Some(2));
    assert_eq!(board.request(8, 0, DATA, 20), Some(0));
    assert_eq!(&board.bytes(DATA, 8), b"serial\0\0");
}

#[test]
fn zeros_are_written_and_ranges_discarded() {
    let mut board = Board::block(64);
    board.start(0);
    let range = |board: &mut Board, sector: u64, count: u32, flags: u32| {
        let mut bytes = sector.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        board.put(DATA, &bytes);
    };
    range(&mut board, 10, 2, 1);
    assert_eq!(board.request(13, 0, DATA, 16), Some(0));
    assert_eq!(board.request(0, 9, DATA + 0x1000, 2048), Some(0));
    let bytes = board.bytes(DATA + 0x1000, 2048);
    assert!(bytes[512..1536].iter().all(|&byte| byte == 0));
    assert!(bytes[0] != 0 && bytes[1537] != 0);
    assert_eq!(board.request(11, 0, DATA, 16), Some(2), "flags of discard");
    range(&mut board, 10, 2, 0);
    assert_eq!(board.request(11, 0, DATA, 16), Some(0));
    range(&mut board, 63, 2, 0);
    assert_eq!(board.request(11, 0, DATA, 16), Some(1));
    assert_eq!(board.request(13, 0, DATA, 16), Some(1));
    assert_eq!(board.request(13, 0, DATA, 15), Some(1));
}

#[test]
fn a_medium_that_fails_or_is_read_only_says_so() {
    let mut board = Board::new(VirtioBlock::device(Box::new(Broken(8)), String::new()));
    board.start(0);
    assert_eq!(board.request(0, 0, DATA, 512), Some(1));
    assert_eq!(board.request(1, 0, DATA, 512), Some(1));
    assert_eq!(board.request(4, 0, 0, 0), Some(1));
    let mut board = Board::new(VirtioBlock::device(Box::new(Broken(1)), String::new()));
    board.write(0x00, 4, 0);
    let features = board.read(0x04, 4);
    assert!(features & 1 << 5 != 0 && features & 1 << 13 == 0);
}

#[test]
fn the_configuration_tells_the_disk_and_counts_its_changes() {
    let mut board = Board::block(20_000);
    for (offset, size, value) in [
        (0, 4, 20_000),
        (12, 4, 254),
        (16, 2, 19),
        (18, 1, 16),
        (19, 1, 63),
        (20, 4, 512),
        (34, 2, 1),
        (36, 4, 1 << 22),
        (40, 4, 1),
        (60, 4, 0),
    ] {
        assert_eq!(board.read(0x2000 + offset, size), value, "at {offset}");
    }
    board.start(1 << 11);
    let generation = board.read(0x15, 1);
    assert_eq!(board.read(0x2020, 1), 1, "write-back");
    board.write(0x2020, 1, 0);
    assert_eq!(board.read(0x2020, 1), 0);
    assert_eq!(board.read(0x15, 1), generation + 1);
}

#[test]
fn a_legacy_driver_reads_a_sector_by_ports() {
    let mut board = Board::block(64);
    let port = |offset: u16| PORTS + offset;
    assert_eq!(board.bus.pio_read(port(0x14), 4), 64, "the capacity");
    let offered = board.bus.pio_read(port(0), 4);
    assert!(offered & 1 << 27 != 0 && offered & FLUSH != 0);
    for status in [0, 1, 3] {
        board.bus.pio_write(port(0x12), 1, status);
    }
    board.bus.pio_write(port(4), 4, 1 << 31 | FLUSH);
    assert_eq!(board.bus.pio_read(port(4), 4), FLUSH);
    board.bus.pio_write(port(0xE), 2, 0);
    assert_eq!(board.bus.pio_read(port(0xC), 2), 256);
    board.bus.pio_write(port(8), 4, 0x40);
    assert_eq!(board.bus.pio_read(port(8), 4), 0x40);
    board.bus.pio_write(port(0x12), 1, 7);
    // 256 descriptors, then the available ring; the used ring on a page of its own.
    let (descriptors, available, used) = (0x4_0000u64, 0x4_1000, 0x4_2000);
    board.put(0x1_8000, &[0; 17]);
    board.descriptor_in(descriptors, 0, 0x1_8000, 16, NEXT, 1);
    board.descriptor_in(descriptors, 1, DATA, 512, NEXT | WRITE, 2);
    board.descriptor_in(descriptors, 2, 0x1_8010, 1, WRITE, 0);
    board.put(available, &[0, 0, 1, 0, 0, 0]);
    board.bus.pio_write(port(0x10), 2, 0);
    advance(&mut board.bus, 1_000_000);
    assert_eq!(board.word(used + 2), 1);
    assert_eq!(&board.bytes(DATA, 4), &[0, 1, 2, 3]);
    assert!(board.bus.lines.level(board.pin));
    assert_eq!(board.bus.pio_read(port(0x13), 1), 1);
    assert!(!board.bus.lines.level(board.pin));
    board.bus.pio_write(port(0x12), 1, 0);
    assert_eq!(board.bus.pio_read(port(8), 4), 0);
}

#[test]
fn drivers_say_when_they_want_interrupts() {
    let mut board = Board::block(64);
    board.start(0);
    board.put(AVAILABLE, &[1, 0]);
    board.request(0, 0, DATA, 512);
    assert_eq!(board.read(0x1000, 1), 0, "NO_INTERRUPT");

    board.start(EVENT_INDEX);
    let event = AVAILABLE + 4 + 2 * 256;
    board.put(event, &2u16.to_le_bytes());
    for (n, told) in [(1, 0), (2, 0), (3, 1), (4, 0)] {
        board.request(0, 0, DATA, 512);
        assert_eq!(board.read(0x1000, 1), told, "the {n}th");
        assert_eq!(
            board.word(USED + 4 + 8 * 256),
            n,
            "it asks for the next one"
        );
    }
}

#[test]
fn vectors_have_messages_masks_and_pending_bits() {
    let mut board = Board::block(64);
    let msix = board.capability(0x11, 0);
    assert_eq!(board.config_read(msix) >> 16, 1, "two vectors");
    board.start(0);
    for (vector, number) in [(0u64, 0x40), (1, 0x41)] {
        let entry = VECTORS + 16 * vector;
        board.bus.mmio_write(PhysAddr(entry), 8, 0xFEE0_0000);
        board.bus.mmio_write(PhysAddr(entry + 8), 4, number);
        assert_eq!(board.bus.mmio_read(PhysAddr(entry + 12), 4), 1, "masked");
    }
    board.write(0x1A, 2, 2);
    assert_eq!(board.read(0x1A, 2), 0xFFFF, "there is no such vector");
    board.write(0x1A, 2, 1);
    assert_eq!(board.read(0x1A, 2), 1);
    let received = |board: &mut Board| {
        let message = board.bus.messages.receive(0, |_| true);
        message.map(|message| message.vector)
    };
    let pending = |board: &mut Board| board.bus.mmio_read(PhysAddr(VECTORS + 0x800), 8);
    board.config_write(msix, 0x8000_0000);

    board.request(0, 0, DATA, 512);
    assert!(!board.bus.lines.level(board.pin), "the pin is silent");
    assert_eq!(
        (received(&mut board), pending(&mut board)),
        (None, 2),
        "masked"
    );
    board.bus.mmio_write(PhysAddr(VECTORS + 16 + 12), 4, 0);
    assert_eq!((received(&mut board), pending(&mut board)), (Some(0x41), 0));
    board.request(0, 0, DATA, 512);
    assert_eq!(received(&mut board), Some(0x41));
    assert_eq!(board.read(0x1000, 1), 0, "ISR status stays 0");

    // The mask of all, and the right to master the bus.
    board.config_write(msix, 0xC000_0000);
    board.request(0, 0, DATA, 512);
    assert_eq!((received(&mut board), pending(&mut board)), (None, 2));
    board.config_write(0x04, 0x0003);
    board.config_write(msix, 0x8000_0000);
    assert_eq!((received(&mut board), pending(&mut board)), (None, 2));
    board.config_write(0x04, 0x0007);
    assert_eq!((received(&mut board), pending(&mut board)), (Some(0x41), 0));
}

#[test]
fn nothing_is_served_before_the_driver_is_ready_and_may_let_the_device_master_the_bus() {
    let mut board = Board::block(64);
    board.start(0);
    board.write(0x14, 1, 0xB);
    assert_eq!(board.request(0, 0, DATA, 512), None);
    board.write(0x14, 1, 0xF);
    advance(&mut board.bus, 1_000_000);
    assert_eq!(board.used(), 1);
    board.config_write(0x04, 0x0003);
    assert_eq!(board.request(0, 0, DATA, 512), None);
    board.config_write(0x04, 0x0007);
    advance(&mut board.bus, 1_000_000);
    assert_eq!(board.used(), 2);
}

#[test]
fn indirect_tables_serve_where_they_are_negotiated() {
    for features in [INDIRECT_FEATURE, 0] {
        let mut board = Board::block(64);
        board.start(features);
        board.put(0x1_8000, &[0; 17]);
        let table = 0x3_0000;
        board.descriptor_in(table, 0, 0x1_8000, 16, NEXT, 1);
        board.descriptor_in(table, 1, DATA, 512, NEXT | WRITE, 2);
        board.descriptor_in(table, 2, 0x1_8010, 1, WRITE, 0);
        board.descriptor(0, table, 48, INDIRECT, 0);
        board.offer(0);
        board.serve();
        let works = features != 0;
        assert_eq!(board.used() == 1, works);
        assert_eq!(board.status() & 0x40 == 0, works);
    }
}

#[test]
fn a_long_request_is_served_in_pieces_and_goes_on_after_a_restore() {
    let sectors = 6 << 11;
    let mut board = Board::block(sectors);
    board.start(INDIRECT_FEATURE);
    board.put(0x1_8000, &[0; 17]);
    // One MiB of memory, six times.
    let table = 0x3_0000;
    board.descriptor_in(table, 0, 0x1_8000, 16, NEXT, 1);
    for n in 1..7 {
        board.descriptor_in(table, n, 0x10_0000, 1 << 20, NEXT | WRITE, n as u16 + 1);
    }
    board.descriptor_in(table, 7, 0x1_8010, 1, WRITE, 0);
    board.descriptor(0, table, 128, INDIRECT, 0);
    board.offer(0);
    board.notify();
    advance(&mut board.bus, 1_500_000);
    assert_eq!(board.used(), 0, "not at once");
    let devices: Vec<SavedState> = board.bus.devices().map(|(_, d)| d.save()).collect();
    let state = board.bus.state();
    let memory = board.bytes(0, 4 << 20);
    let mut other = Board::block(sectors);
    other.bus.set_state(state).unwrap();
    for ((_, device), state) in other.bus.devices().zip(&devices) {
        device.restore(state).unwrap();
    }
    other.put(0, &memory);
    advance(&mut board.bus, 10_000_000);
    advance(&mut other.bus, 10_000_000);
    for mut board in [board, other] {
        assert_eq!((board.used(), board.status()), (1, 0xF));
        let expected: Vec<u8> = (5 << 20..6 << 20)
            .map(|at: usize| (at / 512 + at) as u8)
            .collect();
        assert!(board.bytes(0x10_0000, 1 << 20) == expected);
    }
}

#[test]
fn random_bytes_come_from_the_seed_and_the_time() {
    let draw = |seed, ns| {
        let mut board = Board::new(VirtioEntropy::device(seed));
        advance(&mut board.bus, ns);
        board.start(0);
        board.descriptor(0, DATA, 64, WRITE, 0);
        board.offer(0);
        board.serve();
        assert_eq!(board.word(USED + 8), 64);
        board.bytes(DATA, 64)
    };
    let bytes = draw(1, 0);
    assert!(bytes.iter().filter(|&&byte| byte != 0).count() > 32);
    assert_eq!(bytes, draw(1, 0));
    assert_ne!(bytes, draw(2, 0));
    assert_ne!(bytes, draw(1, 1000));
}

#[test]
fn a_disk_without_sectors_is_survived() {
    let mut board = Board::new(VirtioBlock::device(
        Box::new(MemoryDisk::default()),
        String::new(),
    ));
    board.start(0);
    assert_eq!(board.request(0, 0, DATA, 512), Some(1));
}
