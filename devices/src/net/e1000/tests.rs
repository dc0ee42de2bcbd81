//! The card as its manual has it, driven as a driver does.

use platform::testkit::advance;
use platform::{Bus, Clock, GuestMemory, IrqLine, Output, PhysAddr, Said};

use super::*;
use crate::pci::config_space::ROM;
use crate::pci::{Bdf, PciHost, add_pirqs, pirq_of};

const ADDRESS: Mac = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const REGISTERS: u64 = 0xFEB0_0000;
const PORTS: u16 = 0xC100;

/// Where the tests have the rings and the buffers.
const TX_RING: u64 = 0x1_0000;
const RX_RING: u64 = 0x2_0000;
const TX_DATA: u64 = 0x3_0000;
const RX_DATA: u64 = 0x8_0000;

platform::device_contract!(
    contract,
    E1000::device(ADDRESS, vec![0x55; 512]),
    [
        (platform::CONFIGURATION, 256, 4),
        (0, 0x2_0000, 8),
        (1, 64, 4),
        (ROM, 4096, 4)
    ]
);

pub struct Board {
    pub bus: Bus,
    pin: IrqLine,
    card: platform::DeviceId,
}

impl Board {
    pub fn new() -> Self {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let mut bus = Bus::new(memory, Clock::new(1, 1));
        let host = bus.add(Box::new(PciHost::new()));
        for &(region, base, len, width) in PciHost::MAP {
            bus.map_ports(host, region, base, len, width);
        }
        let pin = pirq_of(add_pirqs(&mut bus), 3, 1);
        let card = E1000::device(ADDRESS, (0..=255).cycle().take(1024).collect())
            .with_pin(pin)
            .plug(&mut bus, "net0", Bdf::new(3, 0));
        bus.reset();
        let mut board = Self { bus, pin, card };
        board.config(0x10, REGISTERS as u32);
        board.config(0x14, PORTS.into());
        board.config(0x30, 0xFEC0_0001);
        board.config(0x04, 0x0007);
        board
    }

    fn config(&mut self, register: u32, value: u32) {
        self.bus.pio_write(0xCF8, 4, 0x8000_1800 | register);
        self.bus.pio_write(0xCFC, 4, value);
    }

    pub fn read(&mut self, register: u32) -> u32 {
        self.bus
            .mmio_read(PhysAddr(REGISTERS + u64::from(register)), 4) as u32
    }

    pub fn write(&mut self, register: u32, value: u32) {
        let at = PhysAddr(REGISTERS + u64::from(register));
        self.bus.mmio_write(at, 4, value.into());
    }

    fn interrupts(&self) -> bool {
        self.bus.lines.level(self.pin)
    }

    /// What was sent since this was last asked.
    pub fn sent(&mut self) -> Vec<Vec<u8>> {
        let outputs = std::mem::take(&mut self.bus.outputs);
        let frame = |output: Output| match output.what {
            Said::Frame(frame) => frame,
            other => panic!("{other:?}"),
        };
        outputs.into_iter().map(frame).collect()
    }

    pub fn arrive(&mut self, frame: &[u8]) {
        self.bus.input(self.card, &Input::Frame(frame.to_vec()));
    }

    fn takes(&self) -> bool {
        self.bus.takes_input(self.card, &Input::Frame(Vec::new()))
    }

    /// Rings of eight descriptors, as a driver makes them; all to receive are the card's.
    fn start(&mut self) {
        for n in 0..8 {
            let at = PhysAddr(RX_RING + 16 * n);
            self.bus
                .memory
                .write(at, &(RX_DATA + 2048 * n).to_le_bytes());
        }
        for (register, value) in [
            (RDBAL, RX_RING as u32),
            (RDLEN, 128),
            (RDT, 7),
            // Enabled, broadcasts, the checksum stripped.
            (RCTL, 1 << 1 | 1 << 15 | 1 << 26),
            (TDBAL, TX_RING as u32),
            (TDLEN, 128),
            (TCTL, 1 << 1 | 1 << 3),
            (IMS, SENT | RECEIVED | LINK_CHANGED),
        ] {
            self.write(register, value);
        }
        self.read(ICR);
    }

    fn tx_descriptor(&mut self, number: u64, words: [u32; 4]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bus
            .memory
            .write(PhysAddr(TX_RING + 16 * number), &bytes);
    }

    fn tx_status(&self, number: u64) -> u8 {
        self.bus
            .memory
            .read_array::<1>(PhysAddr(TX_RING + 16 * number + 12))[0]
    }

    /// Length, status and errors of a received descriptor, and its data.
    fn received(&self, number: u64) -> (u16, u8, u8, Vec<u8>) {
        let memory = &self.bus.memory;
        let bytes = memory.read_array::<16>(PhysAddr(RX_RING + 16 * number));
        let len = u16::from_le_bytes([bytes[8], bytes[9]]);
        let mut data = vec![0; len.into()];
        let address = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        memory.read(PhysAddr(address), &mut data);
        (len, bytes[12], bytes[13], data)
    }
}

/// A frame to the card, with this payload behind the EtherType.
fn frame_of(to: Mac, payload: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([0x52, 0x55, 0x0A, 0, 2, 2, 0x08, 0x00]);
    frame.extend(payload);
    frame
}

#[test]
fn the_address_is_read_from_the_eeprom_by_its_wires_as_drivers_do() {
    let mut board = Board::new();
    const REQUEST: u32 = 1 << 6;
    board.write(EECD, REQUEST);
    assert_eq!(board.read(EECD) >> 7 & 1, 1, "granted");
    let mut words = Vec::new();
    for address in 0..64u32 {
        let bit = |board: &mut Board, data: u32| {
            let wires = REQUEST | 1 << 1 | data << 2;
            board.write(EECD, wires);
            board.write(EECD, wires | 1);
            let out = board.read(EECD) >> 3 & 1;
            board.write(EECD, wires);
            out
        };
        let command = 0b110 << 6 | address;
        for n in (0..9).rev() {
            bit(&mut board, command >> n & 1);
        }
        words.push((0..16).fold(0, |word, _| word << 1 | bit(&mut board, 0)));
        board.write(EECD, REQUEST);
    }
    assert_eq!(words[..3], [0x5452, 0x1200, 0x5634]);
    assert_eq!(words.iter().sum::<u32>() & 0xFFFF, 0xBABA);
    for (address, &word) in words.iter().enumerate() {
        board.write(EERD, (address as u32) << 8 | 1);
        assert_eq!(board.read(EERD) >> 4 & 1, 1);
        assert_eq!(board.read(EERD) >> 16, word, "word {address}");
    }
    assert_eq!(board.read(RAL), 0x1200_5452);
    assert_eq!(board.read(RAL + 4), 0x8000_5634);
}

#[test]
fn the_phy_says_that_the_link_is_up() {
    let mut board = Board::new();
    let mut phy = |operation: u32, register: u32, value: u32| {
        board.write(MDIC, operation << 26 | 1 << 21 | register << 16 | value);
        let mdic = board.read(MDIC);
        assert_eq!(mdic >> 28 & 1, 1);
        mdic
    };
    assert_eq!(phy(2, 2, 0) & 0xFFFF, 0x0141);
    assert_eq!(phy(2, 1, 0) & 0x24, 0x24, "link up, negotiation complete");
    phy(1, 0, 0x1340);
    assert_eq!(phy(2, 0, 0) & 0xFFFF, 0x1140, "to restart clears itself");
    assert_eq!(board.read(ICR) & LINK_CHANGED, LINK_CHANGED);
    board.write(MDIC, 2 << 26 | 2 << 21);
    assert_eq!(board.read(MDIC) >> 30 & 1, 1, "nobody has number 2");
    assert_eq!(board.read(STATUS) & 2, 2);
}

#[test]
fn the_rom_and_the_ports_are_where_they_should_be() {
    let mut board = Board::new();
    assert_eq!(board.bus.mmio_read(PhysAddr(0xFEC0_0004), 4), 0x0706_0504);
    board.bus.pio_write(PORTS, 4, RAL);
    assert_eq!(board.bus.pio_read(PORTS + 4, 4), 0x1200_5452);
    board.bus.pio_write(PORTS, 4, VET);
    board.bus.pio_write(PORTS + 4, 4, 0x88A8);
    assert_eq!(board.read(VET), 0x88A8);
}

#[test]
fn legacy_descriptors_send_what_lies_in_one_or_more_buffers() {
    let mut board = Board::new();
    board.start();
    let frame = frame_of([2, 0, 0, 0, 0, 1], &[7; 100]);
    board.bus.memory.write(PhysAddr(TX_DATA), &frame);
    board.tx_descriptor(0, [TX_DATA as u32, 0, 20, 0]);
    board.tx_descriptor(1, [TX_DATA as u32 + 20, 0, 94 | 0x0B << 24, 0]);
    board.write(TDT, 2);
    assert_eq!(board.sent(), [frame]);
    assert_eq!(board.read(TDH), 2);
    assert_eq!((board.tx_status(0), board.tx_status(1)), (0, 1));
    assert!(board.interrupts());
    assert_eq!(board.read(ICR), SENT | QUEUE_EMPTY);
    assert!(!board.interrupts(), "reading clears");
    assert_eq!(board.read(GPTC), 1);
    assert_eq!(board.read(GPTC), 0, "reading clears");
    assert_eq!(board.read(GOTC), 118);
    // A short one is padded.
    advance(&mut board.bus, 100_000);
    board.tx_descriptor(2, [TX_DATA as u32, 0, 20 | 0x0B << 24, 0]);
    board.write(TDT, 3);
    assert_eq!(board.sent()[0].len(), 60);
}

/// A TCP segment with its IP header, the checksums left to the card: of the pseudo header all but
/// the length is summed up, unless the length is given.
fn tcp_packet(payload: &[u8], length_too: bool) -> Vec<u8> {
    let total = (40 + payload.len()) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
    let mut tcp = vec![
        0x9C, 0x40, 0, 80, 0xFF, 0xFF, 0xFF, 0xF0, 0, 0, 0, 1, 0x50, 0x19, 0xFF, 0xFF,
    ];
    let len = if length_too {
        20 + payload.len() as u32
    } else {
        0
    };
    let pseudo = checksum::sum(6 + len, &ip[12..20]);
    tcp.extend(pseudo.to_be_bytes());
    tcp.extend([0, 0]);
    ip.extend(tcp);
    ip.extend(payload);
    ip
}

fn assert_checksums(frame: &[u8]) {
    let ip = &frame[14..];
    assert_eq!(checksum::sum(0, &ip[..20]), 0xFFFF, "IP");
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    assert_eq!(total, ip.len());
    let pseudo = u32::from(checksum::sum(0, &ip[12..20])) + u32::from(ip[9]) + (total - 20) as u32;
    assert_eq!(checksum::sum(pseudo, &ip[20..]), 0xFFFF, "TCP");
}

/// A context for TCP over IPv4 without options.
fn context(board: &mut Board, number: u64, segment_bytes: u32) {
    let ip = 14 | 24 << 8 | 33 << 16;
    let tcp = 34 | 50 << 8;
    let command = 0x20 | 0x01 | 0x02 | if segment_bytes == 0 { 0 } else { 0x04 };
    board.tx_descriptor(
        number,
        [ip, tcp, command << 24, 54 << 8 | segment_bytes << 16],
    );
}

#[test]
fn extended_descriptors_insert_checksums() {
    let mut board = Board::new();
    board.start();
    let frame = frame_of([2, 0, 0, 0, 0, 1], &tcp_packet(&[9; 101], true));
    board.bus.memory.write(PhysAddr(TX_DATA), &frame);
    context(&mut board, 0, 0);
    // Data: end, checksum of the frame, report.
    let command = frame.len() as u32 | 1 << 20 | 0x2B << 24;
    board.tx_descriptor(1, [TX_DATA as u32, 0, command, 3 << 8]);
    board.write(TDT, 2);
    let sent = board.sent();
    assert_checksums(&sent[0]);
    assert_eq!(sent[0].len(), frame.len());
}

#[test]
fn a_long_packet_is_segmented() {
    let mut board = Board::new();
    board.start();
    let payload: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
    let frame = frame_of([2, 0, 0, 0, 0, 1], &tcp_packet(&payload, false));
    board.bus.memory.write(PhysAddr(TX_DATA), &frame);
    context(&mut board, 0, 1460);
    let data = |len: u32, end: u32| len | 1 << 20 | (0x26 | end) << 24;
    // The header's end and the buffers' ends need not meet.
    board.tx_descriptor(1, [TX_DATA as u32, 0, data(30, 0), 3 << 8]);
    board.tx_descriptor(2, [TX_DATA as u32 + 30, 0, data(2000, 0), 0]);
    board.tx_descriptor(
        3,
        [
            TX_DATA as u32 + 2030,
            0,
            data(frame.len() as u32 - 2030, 9),
            0,
        ],
    );
    board.write(TDT, 4);
    let sent = board.sent();
    assert_eq!(
        sent.iter().map(Vec::len).collect::<Vec<_>>(),
        [1514, 1514, 1514, 674]
    );
    let mut all: Vec<u8> = Vec::new();
    for (n, segment) in sent.iter().enumerate() {
        assert_checksums(segment);
        assert_eq!(
            u16::from_be_bytes([segment[18], segment[19]]),
            0x1234 + n as u16
        );
        let sequence = u32::from_be_bytes(segment[38..42].try_into().unwrap());
        assert_eq!(sequence, 0xFFFF_FFF0u32.wrapping_add(all.len() as u32));
        let flags = if n == 3 { 0x19 } else { 0x10 };
        assert_eq!(segment[47], flags, "FIN and PSH in the last one alone");
        all.extend(&segment[54..]);
    }
    assert_eq!(all, payload);
    assert_eq!(board.read(TSCTC), 1);
}

#[test]
fn sending_takes_as_long_as_on_the_wire() {
    let mut board = Board::new();
    board.start();
    board.write(TDLEN, 4096);
    for n in 0..200 {
        board.tx_descriptor(n, [TX_DATA as u32, 0, 1500 | 0x0B << 24, 0]);
    }
    board.write(TDT, 200);
    let first = board.sent().len();
    assert_eq!(first, 43, "64 KiB, and the wire is busy");
    // 1524 bytes and what goes between frames, at 8 ns a byte.
    advance(&mut board.bus, 200 * 1528 * 8 + 200 * 50);
    assert_eq!(first + board.sent().len(), 200);
    assert_eq!(board.tx_status(199), 1);
}

#[test]
fn a_frame_is_received_with_its_checksums_looked_at() {
    let mut board = Board::new();
    board.start();
    board.write(RXCSUM, 3 << 8);
    let mut frame = frame_of(ADDRESS, &tcp_packet(&[1; 200], true));
    // The sender's own checksums.
    let sum = !checksum::sum(0, &frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let sum = !checksum::sum(0, &frame[34..]);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    assert_checksums(&frame);
    board.arrive(&frame);
    let (len, status, errors, data) = board.received(0);
    assert_eq!((usize::from(len), data), (frame.len(), frame.clone()));
    assert_eq!((status, errors), (0x63, 0));
    assert!(board.interrupts());
    assert_eq!(board.read(ICR), RECEIVED);
    assert_eq!(board.read(RDH), 1);
    frame[60] ^= 1;
    board.arrive(&frame);
    assert_eq!(board.received(1).2, 0x20, "TCP's is wrong");
    // With the frame's checksum, and padded to the shortest frame.
    board.write(RCTL, 1 << 1 | 1 << 15);
    board.arrive(&frame_of(BROADCAST, &[1, 2, 3]));
    let (len, status, _, data) = board.received(2);
    assert_eq!((len, status), (64, 0x07));
    assert_eq!(data[60..], checksum::crc32(&data[..60]).to_le_bytes());
    assert_eq!(board.read(GPRC), 3);
    assert_eq!(board.read(BPRC), 1);
}

use crate::net::{BROADCAST, checksum};

#[test]
fn a_frame_lies_in_as_many_buffers_as_it_needs_and_waits_for_them() {
    let mut board = Board::new();
    board.start();
    // Buffers of 256 bytes, long frames.
    board.write(RCTL, 1 << 1 | 1 << 5 | 3 << 16 | 1 << 26);
    let frame = frame_of(ADDRESS, &[5; 1400]);
    board.arrive(&frame);
    let lens: Vec<_> = (0..6)
        .map(|n| (board.received(n).0, board.received(n).1 & 3))
        .collect();
    assert_eq!(
        lens,
        [(256, 1), (256, 1), (256, 1), (256, 1), (256, 1), (134, 3)]
    );
    // One descriptor is left.
    board.arrive(&frame);
    assert_eq!(board.read(RDH), 6);
    board.write(RDT, 5);
    assert_eq!(board.read(RDH), 4, "it came from the packet buffer");
    // The packet buffer holds 48 KiB, and says when it takes no more.
    let mut count = 0;
    while board.takes() {
        board.arrive(&frame);
        count += 1;
    }
    assert_eq!(count, (48usize << 10).div_ceil(frame.len()));
    board.read(ICR);
    board.arrive(&frame);
    assert_eq!(board.read(ICR) & OVERRUN, OVERRUN);
    assert_eq!(board.read(CRCERRS_MPC), 1);
}

#[test]
fn frames_for_others_are_not_received() {
    let mut board = Board::new();
    board.start();
    let group = [0x01, 0x00, 0x5E, 0x00, 0x00, 0x16];
    let count = |board: &mut Board, to: Mac| {
        board.arrive(&frame_of(to, &[0; 60]));
        board.read(GPRC)
    };
    assert_eq!(count(&mut board, ADDRESS), 1);
    assert_eq!(count(&mut board, [0x52, 0x54, 0, 0x12, 0x34, 0x57]), 0);
    assert_eq!(count(&mut board, group), 0);
    // Bits 47 to 36 of the address, the last two bytes' upper twelve: 160h.
    board.write(MTA + 4 * (0x160 >> 5), 1 << (0x160 & 31));
    assert_eq!(count(&mut board, group), 1);
    assert_eq!(board.received(1).1 & 0x80, 0x80, "not exactly ours");
    board.write(RCTL, 1 << 1 | 1 << 3);
    assert_eq!(count(&mut board, [2, 0, 0, 0, 0, 9]), 1, "promiscuous");
    assert_eq!(count(&mut board, BROADCAST), 0);
    board.write(RCTL, 0);
    assert_eq!(count(&mut board, ADDRESS), 0);
    assert!(board.takes(), "who listens to nothing keeps nobody waiting");
}

#[test]
fn vlan_tags_are_stripped_inserted_and_filtered() {
    let mut board = Board::new();
    board.start();
    board.write(CTRL, board_ctrl() | CTRL_VLAN);
    let mut frame = frame_of(ADDRESS, &[3; 60]);
    let plain = frame.clone();
    frame.splice(12..12, [0x81, 0x00, 0x20, 0x05]);
    board.arrive(&frame);
    let (len, status, _, data) = board.received(0);
    assert_eq!(
        (usize::from(len), status & 8, data),
        (plain.len(), 8, plain.clone())
    );
    let special = board.bus.memory.read_array::<2>(PhysAddr(RX_RING + 14));
    assert_eq!(u16::from_le_bytes(special), 0x2005);
    board.write(RCTL, 1 << 1 | 1 << 18);
    board.arrive(&frame);
    assert_eq!(board.read(RDH), 1, "VLAN 5 is not let in");
    board.write(VFTA, 1 << 5);
    board.arrive(&frame);
    assert_eq!(board.read(RDH), 2);
    board.bus.memory.write(PhysAddr(TX_DATA), &plain);
    board.tx_descriptor(
        0,
        [
            TX_DATA as u32,
            0,
            plain.len() as u32 | 0x4B << 24,
            0x2005 << 16,
        ],
    );
    board.write(TDT, 1);
    assert_eq!(board.sent(), [frame]);
}

fn board_ctrl() -> u32 {
    CTRL_POWER_ON | CTRL_SET_LINK_UP
}

#[test]
fn interrupts_are_throttled_and_put_off() {
    let mut board = Board::new();
    board.start();
    // 100 us.
    board.write(ITR, 391);
    board.write(ICS, LINK_CHANGED);
    assert!(board.interrupts());
    board.read(ICR);
    board.arrive(&frame_of(ADDRESS, &[0; 60]));
    assert!(!board.interrupts());
    advance(&mut board.bus, 99_000);
    assert!(!board.interrupts());
    advance(&mut board.bus, 2_000);
    assert!(board.interrupts());
    board.read(ICR);
    board.write(ITR, 0);
    // After the last frame 10 units of 1.024 us, after the first one 15.
    board.write(RDTR, 10);
    board.write(RADV, 15);
    advance(&mut board.bus, 200_000);
    board.arrive(&frame_of(ADDRESS, &[0; 60]));
    advance(&mut board.bus, 9_000);
    board.arrive(&frame_of(ADDRESS, &[0; 60]));
    advance(&mut board.bus, 6_000);
    assert!(!board.interrupts());
    advance(&mut board.bus, 1_000);
    assert!(board.interrupts());
    board.read(ICR);
    // The mask holds it back, and the cause stays.
    board.write(IMC, !0);
    board.write(ICS, LINK_CHANGED);
    assert!(!board.interrupts());
    board.write(IMS, LINK_CHANGED);
    assert!(board.interrupts());
    board.write(CTRL, CTRL_RESET);
    assert!(!board.interrupts());
    assert_eq!(board.read(CTRL), CTRL_POWER_ON);
    assert_eq!(board.read(IMS), 0);
}

#[test]
fn what_loops_back_does_not_leave() {
    let mut board = Board::new();
    board.start();
    board.write(RCTL, 1 << 1 | 3 << 6 | 1 << 26);
    let frame = frame_of(ADDRESS, &[4; 100]);
    board.bus.memory.write(PhysAddr(TX_DATA), &frame);
    board.tx_descriptor(0, [TX_DATA as u32, 0, frame.len() as u32 | 0x0B << 24, 0]);
    board.write(TDT, 1);
    assert!(board.sent().is_empty());
    assert_eq!(board.received(0).3, frame);
}
