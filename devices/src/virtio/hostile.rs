//! What no driver does: rings and chains of anything, anywhere.

use platform::PhysAddr;
use platform::testkit::{Rng, advance};

use super::testkit::*;

const INDIRECT_FEATURE: u32 = 1 << 28;

/// Whether a chain was refused, or came back.
fn end(board: &mut Board) -> (bool, u16) {
    board.serve();
    (board.status() & 0x40 != 0, board.used())
}

#[test]
fn unsound_chains_need_a_reset() {
    type Make = fn(&mut Board);
    let cases: [(&str, Make); 10] = [
        ("a loop", |board| {
            board.descriptor(0, DATA, 16, NEXT, 1);
            board.descriptor(1, DATA, 16, NEXT, 0);
        }),
        ("itself", |board| board.descriptor(0, DATA, 16, NEXT, 0)),
        ("a descriptor that is not there", |board| {
            board.descriptor(0, DATA, 16, NEXT, 256);
        }),
        ("to read behind to write", |board| {
            board.descriptor(0, DATA, 16, NEXT | WRITE, 1);
            board.descriptor(1, DATA, 16, 0, 0);
        }),
        ("a table in a table", |board| {
            board.descriptor(0, 0x3_0000, 16, INDIRECT, 0);
            board.descriptor_in(0x3_0000, 0, 0x3_0000, 16, INDIRECT, 0);
        }),
        ("a table with a next one", |board| {
            board.descriptor(0, 0x3_0000, 16, INDIRECT | NEXT, 1);
        }),
        ("an empty table", |board| {
            board.descriptor(0, 0x3_0000, 0, INDIRECT, 0);
        }),
        ("a torn table", |board| {
            board.descriptor(0, 0x3_0000, 17, INDIRECT, 0);
        }),
        ("a table of 4 GiB", |board| {
            board.descriptor(0, 0, 0xFFFF_FFF0, INDIRECT, 0);
        }),
        ("no room for a status", |board| {
            board.descriptor(0, DATA, 16, 0, 0);
        }),
    ];
    for (name, make) in cases {
        let mut board = Board::block(64);
        board.start(INDIRECT_FEATURE);
        make(&mut board);
        board.offer(0);
        assert_eq!(end(&mut board), (true, 0), "{name}");
        assert_eq!(board.read(0x1000, 1), 2, "{name}: a configuration change");
        // Until the reset nothing happens; after it all is well.
        assert_eq!(board.request(0, 0, DATA, 512), None, "{name}");
        board.start(0);
        assert_eq!(board.request(0, 0, DATA, 512), Some(0), "{name}");
    }
    let mut board = Board::block(64);
    board.start(0);
    board.put(AVAILABLE + 2, &300u16.to_le_bytes());
    assert_eq!(end(&mut board), (true, 0), "more than the queue holds");
    board.start(0);
    board.offer(256);
    assert_eq!(end(&mut board), (true, 0), "a head that is not there");
}

#[test]
fn buffers_beyond_memory_and_on_devices_are_lost() {
    let mut board = Board::block(64);
    board.start(0);
    for data in [
        0x40_0000,
        MODERN,
        MODERN + 0x3000,
        VECTORS,
        0xFFFF_FFFF_FFFF_FF00,
        0x8000_0000_0000_0000,
    ] {
        assert_eq!(board.request(0, 0, data, 1024), Some(0), "{data:x}");
        assert_eq!(board.request(1, 0, data, 1024), Some(0), "{data:x}");
    }
    assert_eq!(board.status(), 0xF);
}

#[test]
fn a_request_longer_than_the_disk_moves_nothing() {
    let mut board = Board::block(64);
    board.start(INDIRECT_FEATURE);
    let table = 0x3_0000;
    board.put(0x1_8000, &[0; 17]);
    board.descriptor_in(table, 0, 0x1_8000, 16, NEXT, 1);
    for n in 1..1023 {
        board.descriptor_in(table, n, 0x10_0000, 0xFFFF_FE00, NEXT | WRITE, n as u16 + 1);
    }
    board.descriptor_in(table, 1023, 0x1_8010, 1, WRITE, 0);
    board.descriptor(0, table, 1024 * 16, INDIRECT, 0);
    board.offer(0);
    assert_eq!(end(&mut board), (false, 1));
    assert_eq!(board.bytes(0x1_8010, 1), [1]);
}

#[test]
fn a_ring_that_is_full_of_long_requests_goes_at_a_bounded_pace() {
    let mut board = Board::block(2 << 11);
    board.start(0);
    board.put(0x1_8000, &[0; 17]);
    board.descriptor(0, 0x1_8000, 16, NEXT, 1);
    board.descriptor(1, 0x10_0000, 2 << 20, NEXT | WRITE, 2);
    board.descriptor(2, 0x1_8010, 1, WRITE, 0);
    for _ in 0..256 {
        board.offer(0);
    }
    board.notify();
    // Two bytes a nanosecond, and one piece at once.
    advance(&mut board.bus, 10_000_000);
    assert!(board.used() <= 11, "{}", board.used());
    advance(&mut board.bus, 400_000_000);
    assert_eq!(board.used(), 256);
}

#[test]
fn random_rings_end() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut board = Board::block(64);
        let places = [
            DESCRIPTORS,
            AVAILABLE,
            USED,
            0x3F_FFF8,
            MODERN,
            VECTORS,
            u64::MAX - 7,
            0,
        ];
        for _ in 0..20 {
            let features = [0, INDIRECT_FEATURE, 3 << 28][rng.below(3) as usize];
            board.start(features);
            for at in 0..256 {
                let place = places[rng.below(8) as usize].wrapping_add(rng.below(4096));
                let len = (rng.next_u64() as u32) >> rng.below(32);
                let flags = rng.below(8) as u16;
                board.descriptor(at, place, len, flags, rng.below(260) as u16);
            }
            for _ in 0..rng.below(8) {
                let head = rng.below(258) as u16;
                board.offer(head);
            }
            if rng.below(4) == 0 {
                let at = PhysAddr(AVAILABLE + rng.below(600));
                board.bus.memory.write(at, &rng.next_u64().to_le_bytes());
            }
            board.serve();
            if rng.below(4) == 0 {
                board.write(rng.below(0x4000), 4, rng.next_u64() & 0xFFFF_FFFF);
            }
        }
    }
}
