//! What no driver does: rings that point anywhere, descriptors of anything, frames of every length.

use platform::PhysAddr;
use platform::testkit::{Rng, advance};

use super::tests::Board;
use super::*;

/// What leaves in a second of a wire of 1 Gbit/s, and what may go at once before that.
const MOST_BYTES_A_SECOND: usize = 125_000_000;

#[test]
fn rings_and_descriptors_of_anything_end_and_stay_bounded() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut board = Board::new();
        // Rings in themselves, in registers, beyond memory, at the end of everything.
        let places = [
            0x1_0000u64,
            0xFFFF0,
            0xFEB0_0000,
            0xFEB0_3800,
            0xFFFF_FFF0,
            0x1_0000_0000,
            0xFFFF_FFFF_FFFF_FFF0,
            0,
        ];
        let place = |rng: &mut Rng| places[rng.below(places.len() as u64) as usize];
        // What they hold: other places, all kinds and lengths.
        for at in (0x1_0000u64..0x1_8000).step_by(16) {
            let address = place(&mut rng).wrapping_add(rng.below(0x1_0000));
            let mut bytes = address.to_le_bytes().to_vec();
            let lower = rng.next_u64() as u32;
            bytes.extend(lower.to_le_bytes());
            bytes.extend((rng.next_u64() as u32).to_le_bytes());
            board.bus.memory.write(PhysAddr(at), &bytes);
        }
        let begun_ns = board.bus.clock.now_ns();
        let mut bytes = 0;
        for _ in 0..200 {
            let (tx, rx) = (place(&mut rng), place(&mut rng));
            for (register, value) in [
                (TDBAL, tx as u32),
                (TDBAH, (tx >> 32) as u32),
                (RDBAL, rx as u32),
                (RDBAH, (rx >> 32) as u32),
                (TDLEN, (rng.next_u64() as u32) >> rng.below(32)),
                (RDLEN, (rng.next_u64() as u32) >> rng.below(32)),
                (TDH, (rng.next_u64() as u32) >> rng.below(32)),
                (RDH, (rng.next_u64() as u32) >> rng.below(32)),
                (RCTL, rng.next_u64() as u32 | 1 << 1),
                (TCTL, rng.next_u64() as u32 | 1 << 1),
                (CTRL, rng.next_u64() as u32),
                (TDT, (rng.next_u64() as u32) >> rng.below(32)),
                (RDT, (rng.next_u64() as u32) >> rng.below(32)),
            ] {
                if rng.below(4) != 0 {
                    board.write(register, value);
                }
            }
            let len = rng.below(20_000) >> rng.below(14);
            board.arrive(&vec![0xFF; len as usize]);
            advance(&mut board.bus, rng.below(1_000_000));
            bytes += board.sent().iter().map(Vec::len).sum::<usize>();
        }
        let took_ns = board.bus.clock.now_ns() - begun_ns;
        let most = (MOST_BYTES_A_SECOND as u64 * took_ns / 1_000_000_000) as usize;
        // What one descriptor may say beyond what is sent at once.
        assert!(bytes <= most + (2 << 20), "{bytes} of {most} bytes");
    }
}

#[test]
fn a_reset_in_a_loop_does_not_make_the_wire_faster() {
    let mut board = Board::new();
    let bytes = 0u32.to_le_bytes();
    board.bus.memory.write(PhysAddr(0x2_0000), &bytes);
    for n in 0..64 {
        let at = PhysAddr(0x1_0000 + 16 * n);
        let command = 16_000u32 | 0x01 << 24;
        board.bus.memory.write(at, &0x3_0000u64.to_le_bytes());
        board
            .bus
            .memory
            .write(PhysAddr(at.0 + 8), &command.to_le_bytes());
    }
    let mut frames = 0;
    for _ in 0..1000 {
        for (register, value) in [
            (CTRL, CTRL_RESET),
            (TDBAL, 0x1_0000),
            (TDLEN, 1024),
            (TCTL, 2),
            (TDT, 63),
        ] {
            board.write(register, value);
        }
        frames += board.sent().len();
    }
    assert!(frames <= 5, "{frames}");
}

#[test]
fn a_header_that_is_longer_than_the_packet_and_segments_of_a_byte_are_survived() {
    let mut board = Board::new();
    let mut rng = Rng::new(7);
    for (register, value) in [(TDBAL, 0x1_0000), (TDLEN, 128), (TCTL, 2)] {
        board.write(register, value);
    }
    let mut tail = 0;
    for _ in 0..2000 {
        let context = [
            rng.next_u64() as u32,
            rng.next_u64() as u32,
            0x20 << 24 | (rng.below(8) as u32) << 24,
            rng.next_u64() as u32 & [!0, 0x0001_FFFF][rng.below(2) as usize],
        ];
        let len = rng.below(3000) as u32;
        let data = [
            0x3_0000,
            0,
            len | 1 << 20 | (0x24 | rng.below(2) as u32) << 24,
            (rng.next_u64() as u32) & 0xFFFF,
        ];
        for words in [context, data] {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            board
                .bus
                .memory
                .write(PhysAddr(0x1_0000 + 16 * tail), &bytes);
            tail = (tail + 1) % 8;
        }
        board.write(TDT, tail as u32);
        advance(&mut board.bus, 10_000_000);
        let longest = board.sent().iter().map(Vec::len).max().unwrap_or(0);
        assert!(longest <= 16288 + 255 + 4);
    }
}

#[test]
fn the_ring_that_holds_its_own_buffers_is_read_and_written_as_memory_is() {
    let mut board = Board::new();
    // Each buffer to receive is the ring itself.
    for n in 0..8 {
        let at = PhysAddr(0x1_0000 + 16 * n);
        board.bus.memory.write(at, &0x1_0000u64.to_le_bytes());
    }
    for (register, value) in [(RDBAL, 0x1_0000), (RDLEN, 128), (RDT, 7), (RCTL, 0x8002)] {
        board.write(register, value);
    }
    for len in 14..1600 {
        board.arrive(&vec![0xFF; len]);
        let tail = board.read(RDT);
        board.write(RDT, (tail + 1) % 8);
    }
    assert!(board.read(RDH) < 8);
}
