//! The network card, driven as a driver does.

use platform::testkit::{Rng, advance};
use platform::{Input, Said};

use super::testkit::*;
use super::*;
use crate::net::Mac;
use crate::net::checksum::{self, Ipv4};

const ADDRESS: Mac = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const RECEIVE: usize = 0;
const SEND: usize = 1;
const COMMANDS: usize = 2;

const CSUM: u32 = 1 << 0;
const GUEST_CSUM: u32 = 1 << 1;
const GUEST_TSO4: u32 = 1 << 7;
const HOST_TSO4: u32 = 1 << 11;
const MRG_RXBUF: u32 = 1 << 15;
const CTRL_VQ: u32 = 1 << 17;
const EVENT_INDEX: u32 = 1 << 29;
const OFFLOADS: u32 = CSUM | GUEST_CSUM | GUEST_TSO4 | HOST_TSO4;

platform::device_contract!(
    contract,
    VirtioNet::device(ADDRESS, vec![0x55; 512]),
    [
        (platform::CONFIGURATION, 256, 4),
        (0, 32, 4),
        (1, 4096, 8),
        (4, 0x4000, 8)
    ]
);

/// Where each queue is, and how many chains were offered on it.
struct Ring {
    base: u64,
    offered: u16,
}

struct Card {
    board: Board,
    rings: [Ring; 3],
}

impl Card {
    /// A card whose driver is ready.
    fn new(features: u32) -> Self {
        let mut board = Board::new(VirtioNet::device(ADDRESS, Vec::new()));
        board.negotiate(features);
        let rings = [0, 1, 2].map(|number| {
            let base = 0x10_0000 + 0x1_0000 * number;
            board.write(0x16, 2, number);
            board.write(0x20, 8, base);
            board.write(0x28, 8, base + 0x2000);
            board.write(0x30, 8, base + 0x3000);
            board.write(0x1C, 2, 1);
            Ring { base, offered: 0 }
        });
        board.write(0x14, 1, 0xF);
        Self { board, rings }
    }

    fn descriptor(&mut self, queue: usize, number: u64, at: u64, len: u32, flags: u16, next: u16) {
        let table = self.rings[queue].base;
        self.board
            .descriptor_in(table, number, at, len, flags, next);
    }

    fn offer(&mut self, queue: usize, head: u16) {
        let Ring { base, offered } = &mut self.rings[queue];
        let slot = u64::from(*offered % if queue == COMMANDS { 64 } else { 256 });
        *offered = offered.wrapping_add(1);
        self.board
            .put(*base + 0x2004 + 2 * slot, &head.to_le_bytes());
        self.board.put(*base + 0x2002, &offered.to_le_bytes());
    }

    fn notify(&mut self, queue: usize) {
        self.board.write(0x3000 + 4 * queue as u64, 2, queue as u64);
        advance(&mut self.board.bus, 10_000_000);
    }

    fn used(&self, queue: usize) -> u16 {
        self.board.word(self.rings[queue].base + 0x3002)
    }

    /// Which chain came back as the `nth`, and how many bytes were written to it.
    fn element(&self, queue: usize, nth: u64) -> (u32, u32) {
        let at = self.rings[queue].base + 0x3004 + 8 * nth;
        let bytes = self.board.bytes(at, 8);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }

    fn comes(&mut self, frame: &[u8]) {
        let input = Input::Frame(frame.to_vec());
        self.board.bus.input(self.board.device, &input);
        advance(&mut self.board.bus, 10_000_000);
    }

    fn takes(&self) -> bool {
        let input = Input::Frame(Vec::new());
        self.board.bus.takes_input(self.board.device, &input)
    }

    /// Offers a buffer of `len` bytes for frames as descriptor `number`, and where that is.
    fn buffer(&mut self, number: u64, len: u32) -> u64 {
        let at = 0x20_0000 + 0x1_1000 * number;
        self.descriptor(RECEIVE, number, at, len, WRITE, 0);
        self.offer(RECEIVE, number as u16);
        at
    }

    /// Sends a frame behind this header, in two buffers.
    fn send(&mut self, header: &[u8], frame: &[u8]) -> Vec<Said> {
        let all = [header, frame].concat();
        self.board.put(0x20_0000, &all);
        let rest = all.len() as u32 - 7;
        self.descriptor(SEND, 0, 0x20_0000, 7, NEXT, 1);
        self.descriptor(SEND, 1, 0x20_0007, rest, 0, 0);
        self.offer(SEND, 0);
        self.notify(SEND);
        let outputs = self.board.bus.outputs.drain(..);
        outputs.map(|output| output.what).collect()
    }

    /// The answer to a command.
    fn command(&mut self, bytes: &[u8]) -> u8 {
        self.board.put(0x3F_0000, bytes);
        self.board.put(0x3F_F000, &[0xEE]);
        self.descriptor(COMMANDS, 0, 0x3F_0000, bytes.len() as u32, NEXT, 1);
        self.descriptor(COMMANDS, 1, 0x3F_F000, 1, WRITE, 0);
        self.offer(COMMANDS, 0);
        self.notify(COMMANDS);
        self.board.bytes(0x3F_F000, 1)[0]
    }
}

fn frame(to: Mac, len: usize) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend((6..len).map(|n| n as u8));
    frame
}

/// A TCP packet with so many bytes of payload, and its checksum right.
fn tcp(payload: usize) -> Vec<u8> {
    let total = (40 + payload) as u16;
    let mut frame = ADDRESS.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 2, 2, 10, 0, 2, 15]);
    frame.extend([
        0, 80, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    frame.extend((0..payload).map(|n| (n * 3) as u8));
    let packet = Ipv4::parse(&frame, 14).unwrap();
    let sum = !checksum::sum(packet.pseudo(), packet.payload);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn drivers_find_a_network_card_with_its_address() {
    let mut card = Card::new(0);
    assert_eq!(card.board.config_read(0x00), 0x1000_1AF4);
    assert_eq!(card.board.config_read(0x2C), 0x0001_1AF4);
    assert_eq!(card.board.config_read(0x08), 0x0200_0000);
    for (at, byte) in (0x2000..).zip(ADDRESS) {
        assert_eq!(card.board.read(at, 1), byte.into());
    }
    assert_eq!(card.board.read(0x2006, 2), 1, "the link is up");
    assert_eq!(card.board.read(0x200A, 2), 1500, "the largest packet");
}

#[test]
fn frames_wait_for_buffers_and_come_in_order_behind_a_header() {
    let mut card = Card::new(EVENT_INDEX);
    card.comes(&frame(ADDRESS, 60));
    card.comes(&frame(ADDRESS, 1514));
    assert_eq!(card.used(RECEIVE), 0);
    let first = card.buffer(0, 1526);
    card.notify(RECEIVE);
    assert_eq!(card.used(RECEIVE), 1);
    assert_eq!(card.element(RECEIVE, 0), (0, 72));
    let mut expected = vec![0; 12];
    expected[10] = 1;
    expected.extend(frame(ADDRESS, 60));
    assert_eq!(card.board.bytes(first, 72), expected);
    let second = card.buffer(1, 1526);
    card.notify(RECEIVE);
    assert_eq!(card.element(RECEIVE, 1), (1, 1526));
    assert_eq!(card.board.bytes(second + 12, 1514), frame(ADDRESS, 1514));
    // With buffers there, frames need no notification.
    card.buffer(2, 1526);
    card.notify(RECEIVE);
    card.comes(&frame(ADDRESS, 100));
    assert_eq!(card.element(RECEIVE, 2), (2, 112));
}

#[test]
fn a_driver_of_the_legacy_interface_has_the_short_header() {
    let mut card = Card::new(0);
    let board = &mut card.board;
    let ports = PORTS;
    board.bus.pio_write(ports + 0x12, 1, 0);
    board.bus.pio_write(ports + 0x12, 1, 3);
    board.bus.pio_write(ports + 0x04, 4, 0);
    for queue in [0u32, 1] {
        board.bus.pio_write(ports + 0x0E, 2, queue);
        assert_eq!(board.bus.pio_read(ports + 0x0C, 2), 256);
        board.bus.pio_write(ports + 0x08, 4, 0x100 + 0x10 * queue);
    }
    board.put(0x10_0000, &[0; 0x4000]);
    board.bus.pio_write(ports + 0x12, 1, 7);
    // The rings follow each other: 4096 bytes of descriptors, then what is available, and what is used.
    board.descriptor_in(0x10_0000, 0, 0x20_0000, 1524, WRITE, 0);
    board.put(0x10_1000, &[0, 0, 1, 0, 0, 0]);
    board.bus.pio_write(ports + 0x10, 2, 0);
    let input = Input::Frame(frame(ADDRESS, 60));
    board.bus.input(board.device, &input);
    advance(&mut board.bus, 10_000_000);
    assert_eq!(
        board.bytes(0x10_2000, 12),
        [0, 0, 1, 0, 0, 0, 0, 0, 70, 0, 0, 0]
    );
    assert_eq!(board.bytes(0x20_0000, 10), [0; 10]);
    assert_eq!(board.bytes(0x20_000A, 60), frame(ADDRESS, 60));
}

#[test]
fn a_large_segment_lies_in_as_many_buffers_as_it_needs() {
    let mut card = Card::new(OFFLOADS | MRG_RXBUF | EVENT_INDEX);
    let large = tcp(60_000);
    card.comes(&large);
    let places: Vec<u64> = (0..14).map(|n| card.buffer(n, 4096)).collect();
    card.notify(RECEIVE);
    assert_eq!(card.used(RECEIVE), 0, "not enough of them yet");
    let last = card.buffer(14, 4096);
    card.notify(RECEIVE);
    assert_eq!(card.used(RECEIVE), 15);
    let total = 12 + large.len();
    let mut bytes = Vec::new();
    for (n, at) in places.into_iter().chain([last]).enumerate() {
        let (id, len) = card.element(RECEIVE, n as u64);
        assert_eq!(id, n as u32);
        bytes.extend(card.board.bytes(at, len as usize));
    }
    assert_eq!(bytes.len(), total);
    // An unfinished checksum at 34 + 16, segments of 1460 bytes, 15 buffers.
    assert_eq!(bytes[..12], [1, 1, 54, 0, 0xB4, 0x05, 34, 0, 16, 0, 15, 0]);
    let mut header = [0; 10];
    header.copy_from_slice(&bytes[..10]);
    let sum = !checksum::sum(0, &bytes[12 + 34..]);
    bytes[12 + 50..12 + 52].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(bytes[12..], large, "completed by whoever cuts it");
}

#[test]
fn what_fits_into_no_buffers_is_lost_and_what_comes_behind_it_is_not() {
    let mut card = Card::new(OFFLOADS);
    card.comes(&tcp(60_000));
    card.comes(&frame(ADDRESS, 60));
    card.buffer(0, 1526);
    card.notify(RECEIVE);
    assert_eq!(card.element(RECEIVE, 0), (0, 72));
    // A ring full of small ones cannot grow.
    let mut card = Card::new(OFFLOADS | MRG_RXBUF);
    for number in 0..256 {
        card.descriptor(RECEIVE, number, 0x20_0000, 64, WRITE, 0);
        card.offer(RECEIVE, number as u16);
    }
    card.comes(&tcp(60_000));
    card.comes(&frame(ADDRESS, 40));
    card.notify(RECEIVE);
    assert_eq!(card.used(RECEIVE), 1);
    // And without the driver's word nothing is larger than a packet.
    let mut card = Card::new(MRG_RXBUF);
    card.comes(&tcp(60_000));
    card.buffer(0, 65_000);
    card.buffer(1, 65_000);
    card.notify(RECEIVE);
    assert_eq!(card.used(RECEIVE), 0);
}

#[test]
fn checksums_are_looked_at_for_drivers_that_do_not() {
    let mut card = Card::new(GUEST_CSUM);
    let mut damaged = tcp(100);
    damaged[100] ^= 1;
    for (number, (frame, flags)) in [(tcp(100), 2), (damaged, 0), (frame(ADDRESS, 60), 0)]
        .into_iter()
        .enumerate()
    {
        let at = card.buffer(number as u64, 1526);
        card.notify(RECEIVE);
        card.comes(&frame);
        assert_eq!(card.board.bytes(at, 1), [flags], "frame {number}");
    }
}

#[test]
fn frames_are_sent_with_the_checksum_that_was_left_to_the_card() {
    let mut card = Card::new(0);
    let plain = frame([2, 0, 0, 0, 0, 1], 60);
    assert_eq!(card.send(&[0; 12], &plain), [Said::Frame(plain)]);
    assert_eq!(card.element(SEND, 0), (0, 0));
    let mut card = Card::new(OFFLOADS);
    for payload in [1, 1460, 65_495] {
        let whole = tcp(payload);
        let mut left = whole.clone();
        let packet = Ipv4::parse(&whole, 14).unwrap();
        let pseudo = checksum::sum(packet.pseudo(), &[]);
        left[50..52].copy_from_slice(&pseudo.to_be_bytes());
        let gso = u8::from(payload > 1460);
        let header = [1, gso, 54, 0, 0xB4, 5, 34, 0, 16, 0, 0, 0];
        assert_eq!(card.send(&header, &left), [Said::LargeFrame(whole)]);
    }
}

#[test]
fn torn_frames_are_not_sent() {
    let mut card = Card::new(CSUM | HOST_TSO4);
    let whole = tcp(100);
    for header in [
        // A checksum beyond the frame, of anything, and of kinds of segments that were not agreed on.
        [1, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
        [1, 0, 0, 0, 0, 0, 153, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0, 153, 0, 0, 0],
        [1, 3, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0],
        [1, 4, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0],
    ] {
        assert_eq!(card.send(&header, &whole), [], "{header:?}");
    }
    assert_eq!(card.send(&[0; 12], &[1; 13]), [], "no whole header");
    // Longer than any packet, as a whole and by a loop of its buffers' lengths.
    card.descriptor(SEND, 0, 0x20_0000, 12, NEXT, 1);
    card.descriptor(SEND, 1, 0, u32::MAX, 0, 0);
    card.offer(SEND, 0);
    card.notify(SEND);
    assert!(card.board.bus.outputs.is_empty());
    assert_eq!(card.board.status(), 0xF);
}

#[test]
fn the_driver_chooses_what_it_hears() {
    let mut card = Card::new(CTRL_VQ);
    for number in 0..32 {
        card.descriptor(RECEIVE, number, 0x20_0000, 1526, WRITE, 0);
        card.offer(RECEIVE, number as u16);
    }
    card.notify(RECEIVE);
    let group = [1, 0, 0x5E, 0, 0, 1];
    let other = [2, 0, 0, 0, 0, 9];
    let everybody = [0xFF; 6];
    let heard = |card: &mut Card, to: Mac| {
        let before = card.used(RECEIVE);
        card.comes(&frame(to, 60));
        card.used(RECEIVE) != before
    };
    assert!(heard(&mut card, other), "all, until something is chosen");
    assert_eq!(card.command(&[0, 0, 0]), 0);
    assert!(heard(&mut card, ADDRESS) && heard(&mut card, everybody));
    assert!(!heard(&mut card, other) && !heard(&mut card, group));
    let mut table = vec![1, 0, 1, 0, 0, 0];
    table.extend(other);
    table.extend([1, 0, 0, 0]);
    table.extend(group);
    assert_eq!(card.command(&table), 0);
    assert!(heard(&mut card, other) && heard(&mut card, group));
    assert_eq!(card.command(&[0, 3, 1]), 0);
    assert!(!heard(&mut card, group), "no groups");
    assert_eq!(card.command(&[1, 1, 2, 0, 0, 0, 0, 7]), 0);
    assert!(!heard(&mut card, ADDRESS) && heard(&mut card, [2, 0, 0, 0, 0, 7]));
    assert_eq!(card.board.read(0x2005, 1), 7);
    // What is torn or unknown changes nothing.
    for torn in [
        &table[..11],
        &[1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
        &[0, 0],
        &[0, 6, 1],
        &[1, 1, 1],
        &[9, 9],
    ] {
        assert_eq!(card.command(torn), 1, "{torn:?}");
    }
    assert!(heard(&mut card, other));
    // More addresses than are told apart: all of their kind.
    let mut many = vec![1, 0, 0, 0, 0, 0, 100, 0, 0, 0];
    many.extend([1; 600]);
    assert_eq!(card.command(&many), 0);
    assert_eq!(card.command(&[0, 3, 0]), 0);
    assert!(heard(&mut card, group) && !heard(&mut card, other));
}

#[test]
fn without_buffers_frames_are_held_back_and_memory_does_not_grow() {
    let mut card = Card::new(OFFLOADS | MRG_RXBUF);
    let mut count = 0;
    while card.takes() {
        card.comes(&tcp(60_000));
        count += 1;
    }
    assert_eq!(count, 5);
    card.comes(&tcp(60_000));
    let saved = card.board.bus.devices().map(|(_, device)| device.save());
    let bytes: usize = saved.map(|state| state.bytes.len()).sum();
    assert!(bytes < 400_000, "{bytes}");
    // A driver that starts over gets nothing old, and one that is not there loses what comes.
    card.board.negotiate(0);
    assert!(card.takes());
}

#[test]
fn random_rings_end() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        for _ in 0..10 {
            let features = (rng.next_u64() as u32) & (OFFLOADS | MRG_RXBUF | CTRL_VQ | 3 << 28);
            let mut card = Card::new(features);
            let places = [
                0x10_0000, 0x11_0000, 0x12_0000, 0x20_0000, MODERN, VECTORS, 0, !7,
            ];
            for queue in 0..3 {
                for at in 0..64 {
                    let place = u64::wrapping_add(places[rng.below(8) as usize], rng.below(4096));
                    let len = (rng.next_u64() as u32) >> rng.below(32);
                    let next = rng.below(66) as u16;
                    card.descriptor(queue, at, place, len, rng.below(8) as u16, next);
                }
                for _ in 0..rng.below(8) {
                    card.offer(queue, rng.below(66) as u16);
                }
                card.notify(queue);
                let len = rng.below(66_000) as usize;
                card.comes(&tcp(len.min(65_495)));
                card.comes(&frame(ADDRESS, len.max(6)));
            }
            card.board.bus.outputs.clear();
        }
    }
}
