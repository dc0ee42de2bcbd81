//! A CD-ROM drive as the master of the primary channel.

use platform::PhysAddr;

use super::super::bus_master::STATUS_INTERRUPT;
use super::*;

platform::device_contract!(
    contract,
    PiixIde::device([
        Some(Attached::Cdrom(Some(disc(40)))),
        Some(Attached::Cdrom(None)),
        Some(Attached::Disk(disk())),
        None
    ]),
    [(8, 8, 4), (9, 1, 1), (4, 16, 4), (10, 8, 4), (11, 1, 1)],
    survives_reset
);

const BLOCK: usize = 2048;
const SECTORS: u32 = 40;
const NOT_READY: (u8, u8, u8) = (2, 0x3A, 1);

/// A disc of so many sectors and a half; each begins with its number.
fn disc(sectors: usize) -> Box<dyn BlockBackend> {
    let mut bytes = vec![0x11; sectors * BLOCK];
    for (n, sector) in bytes.chunks_exact_mut(BLOCK).enumerate() {
        sector[..4].copy_from_slice(&(n as u32).to_le_bytes());
    }
    Box::new(MemoryDisk::new(bytes))
}

/// A disc, whose power-on the host has heard of.
fn bus() -> Bus {
    let mut bus = bus_with([Some(Attached::Cdrom(Some(disc(SECTORS as usize)))), None]);
    assert_eq!(sense(&mut bus), (6, 0x29, 0));
    bus
}

/// Writes the registers and PACKET, with `limit` and `features`.
fn announce(bus: &mut Bus, limit: u16, features: u8) {
    let [low, high] = limit.to_le_bytes();
    for (register, value) in [(6, 0xA0), (1, features), (4, low), (5, high), (7, 0xA0)] {
        outb(bus, BASE + register, value);
    }
}

fn send(bus: &mut Bus, packet: &[u8]) {
    let mut bytes = packet.to_vec();
    bytes.resize(12, 0);
    for pair in bytes.as_chunks::<2>().0 {
        bus.pio_write(BASE, 2, u16::from_le_bytes(*pair).into());
    }
}

fn byte_count(bus: &mut Bus) -> usize {
    usize::from(inb(bus, BASE + 4)) | usize::from(inb(bus, BASE + 5)) << 8
}

/// Sends a packet by PIO and takes all that comes: the pieces, and the last status.
fn packet_in_pieces(bus: &mut Bus, packet: &[u8], limit: u16) -> (Vec<Vec<u8>>, u8) {
    announce(bus, limit, 0);
    assert_eq!(
        inb(bus, ALTERNATE),
        READY | STATUS_DRQ,
        "no wait, no interrupt"
    );
    assert!(!irq(bus));
    assert_eq!(inb(bus, BASE + 2), 1, "it wants a command");
    send(bus, packet);
    let mut pieces = Vec::new();
    loop {
        assert_eq!(inb(bus, ALTERNATE), STATUS_BSY);
        let status = wait(bus);
        assert!(irq(bus));
        inb(bus, STATUS);
        assert!(!irq(bus));
        if status & STATUS_DRQ == 0 {
            assert_eq!(inb(bus, BASE + 2), 3, "the end");
            return (pieces, status);
        }
        assert_eq!(status, READY | STATUS_DRQ);
        assert_eq!(inb(bus, BASE + 2), 2, "data for the host");
        let bytes = byte_count(bus);
        let words = (0..bytes.div_ceil(2)).map(|_| bus.pio_read(BASE, 2) as u16);
        let mut piece: Vec<u8> = words.flat_map(u16::to_le_bytes).collect();
        piece.truncate(bytes);
        pieces.push(piece);
    }
}

/// Sends a packet that must end well, and returns its data.
fn packet(bus: &mut Bus, packet: &[u8]) -> Vec<u8> {
    let (pieces, status) = packet_in_pieces(bus, packet, 0xFFFE);
    assert_eq!(
        status,
        READY,
        "{packet:02x?}: error {:02x}",
        inb(bus, BASE + 1)
    );
    pieces.concat()
}

/// The sense data.
fn sense(bus: &mut Bus) -> (u8, u8, u8) {
    let data = packet(bus, &[0x03, 0, 0, 0, 18]);
    assert_eq!((data.len(), data[0], data[7]), (18, 0x70, 10));
    (data[2], data[12], data[13])
}

/// Sends a packet that must fail, and returns its sense data.
fn refused(bus: &mut Bus, packet: &[u8]) -> (u8, u8, u8) {
    let (pieces, status) = packet_in_pieces(bus, packet, 0xFFFE);
    assert_eq!(status, READY | STATUS_ERR, "{packet:02x?}");
    assert!(pieces.is_empty());
    let error = inb(bus, BASE + 1);
    let sense = sense(bus);
    assert_eq!(error >> 4, sense.0);
    sense
}

fn read_10(lba: u32, count: u16) -> Vec<u8> {
    let mut packet = vec![0x28, 0];
    packet.extend(lba.to_be_bytes());
    packet.push(0);
    packet.extend(count.to_be_bytes());
    packet
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[test]
fn a_packet_device_is_told_by_its_signature_and_identification() {
    let mut bus = bus();
    let signature = [1, 1, 1, 0x14, 0xEB, 0xA0];
    outb(&mut bus, ALTERNATE, 0x04);
    outb(&mut bus, ALTERNATE, 0x00);
    assert_eq!(wait(&mut bus), 0, "not ready before its first command");
    let registers: Vec<u8> = (1..7).map(|n| inb(&mut bus, BASE + n)).collect();
    assert_eq!(registers, signature);
    // IDENTIFY DEVICE and READ SECTORS show it too.
    for code in [0xEC, 0x20] {
        assert_eq!(command(&mut bus, code, 9, 9), STATUS_DRDY | STATUS_ERR);
        assert!(irq(&bus));
        let registers: Vec<u8> = (1..6).map(|n| inb(&mut bus, BASE + n)).collect();
        assert_eq!(registers, [ERROR_ABRT, 1, 1, 0x14, 0xEB]);
        inb(&mut bus, STATUS);
    }
    assert_eq!(command(&mut bus, 0xA1, 0, 0), READY | STATUS_DRQ);
    assert!(irq(&bus));
    inb(&mut bus, STATUS);
    let sector = read_sector(&mut bus);
    assert_eq!(inb(&mut bus, STATUS), READY);
    assert!(!irq(&bus));
    let words = words(&sector);
    let model: Vec<u8> = words[27..47].iter().flat_map(|w| w.to_be_bytes()).collect();
    assert_eq!(&model[..18], b"GLASSBOX CD-ROM   ");
    assert_eq!(
        (words[0], words[49] & 0x0100, words[63]),
        (0x85C0, 0x0100, 0x0407)
    );
    assert_eq!(
        sector.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
        0
    );
    for code in [0x00, 0x30, 0xC8, 0xE7, 0xFF] {
        assert_eq!(command(&mut bus, code, 1, 0), READY | STATUS_ERR);
        assert_eq!(inb(&mut bus, BASE + 1), ERROR_ABRT);
    }
    assert_eq!(command(&mut bus, 0xE5, 0, 0), READY);
}

#[test]
fn device_reset_ends_what_the_drive_is_at_without_interrupt() {
    let mut bus = bus();
    announce(&mut bus, 0xFFFE, 0);
    send(&mut bus, &read_10(0, 1));
    assert_eq!(inb(&mut bus, ALTERNATE), STATUS_BSY);
    outb(&mut bus, STATUS, 0x08);
    assert_eq!(inb(&mut bus, STATUS), 0);
    assert_eq!(
        (inb(&mut bus, BASE + 4), inb(&mut bus, BASE + 5)),
        (0x14, 0xEB)
    );
    assert_eq!(wait(&mut bus), 0, "nothing comes after it");
    assert!(!irq(&bus));
    packet(&mut bus, &[0x00]);
}

#[test]
fn sectors_come_in_pieces_of_the_hosts_size() {
    let mut bus = bus();
    let whole = {
        let mut bytes = Vec::new();
        for n in 3..6u32 {
            bytes.extend(n.to_le_bytes());
            bytes.resize(bytes.len() + BLOCK - 4, 0x11);
        }
        bytes
    };
    for (limit, sizes) in [
        (0xFFFE, vec![3 * BLOCK]),
        (0x0000, vec![3 * BLOCK]),
        (0xFFFF, vec![3 * BLOCK]),
        (2048, vec![2048; 3]),
        (2049, vec![2048; 3]),
        (4096, vec![4096, 2048]),
        (2047, vec![2046, 2, 2046, 2, 2046, 2]),
    ] {
        let (pieces, status) = packet_in_pieces(&mut bus, &read_10(3, 3), limit);
        assert_eq!(status, READY);
        let found: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(found, sizes, "{limit}");
        assert_eq!(pieces.concat(), whole, "{limit}");
    }
    // Of odd data the last piece may be odd; a limit of one byte has no piece.
    let (pieces, _) = packet_in_pieces(&mut bus, &[0x12, 0, 0, 0, 7], 5);
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [4, 3]);
    let (pieces, status) = packet_in_pieces(&mut bus, &[0x12, 0, 0, 0, 7], 1);
    assert_eq!((pieces.len(), status), (0, READY | STATUS_ERR));
    assert_eq!(sense(&mut bus), (5, 0x24, 0));
}

#[test]
fn dma_brings_what_pio_brings() {
    let mut bus = bus();
    for (packet, bytes) in [
        (read_10(0, 40), 40 * BLOCK),
        (vec![0xA8, 0, 0, 0, 0, 2, 0, 0, 0, 3], 3 * BLOCK),
        (vec![0x12, 0, 0, 0, 36], 36),
    ] {
        let (pieces, _) = packet_in_pieces(&mut bus, &packet, 0xFFFE);
        for n in 0..2 {
            let entry = (0x2_0000 + n * 0x1_0000) | (u64::from(n == 1) << 63);
            bus.memory
                .write(PhysAddr(0x1000 + 8 * n), &entry.to_le_bytes());
        }
        bus.pio_write(MASTER + 4, 4, 0x1000);
        outb(&mut bus, MASTER + 2, 0x06);
        outb(&mut bus, MASTER, 0x08);
        announce(&mut bus, 0, 1);
        send(&mut bus, &packet);
        assert_eq!(wait(&mut bus), READY | STATUS_DRQ);
        assert!(!irq(&bus));
        outb(&mut bus, MASTER, 0x09);
        assert_eq!(wait(&mut bus), READY);
        assert!(irq(&bus));
        assert_eq!(
            inb(&mut bus, MASTER + 2) & STATUS_INTERRUPT,
            STATUS_INTERRUPT
        );
        assert_eq!(inb(&mut bus, BASE + 2), 3);
        inb(&mut bus, STATUS);
        outb(&mut bus, MASTER, 0);
        let mut memory = vec![0; bytes];
        bus.memory.read(PhysAddr(0x2_0000), &mut memory);
        assert_eq!(memory, pieces.concat());
    }
}

#[test]
fn a_disc_has_its_size_and_its_contents() {
    let mut bus = bus();
    let capacity = packet(&mut bus, &[0x25]);
    assert_eq!(
        (u32_at(&capacity, 0), u32_at(&capacity, 4)),
        (SECTORS - 1, 2048)
    );
    let toc = packet(&mut bus, &[0x43, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(toc[..12], [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
    assert_eq!(toc[12..], [0, 0x14, 0xAA, 0, 0, 0, 0, 40]);
    let toc = packet(&mut bus, &[0x43, 2, 0, 0, 0, 0, 0xAA, 1, 0]);
    assert_eq!(toc, [0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 2, 40]);
    let sessions = packet(&mut bus, &[0x43, 0, 1, 0, 0, 0, 0, 1, 0]);
    assert_eq!(sessions, [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
    // The format where SFF-8020i had it; all entries of the lead-in.
    assert_eq!(
        packet(&mut bus, &[0x43, 0, 0, 0, 0, 0, 0, 1, 0, 0x40]),
        sessions
    );
    let full = packet(&mut bus, &[0x43, 2, 2, 0, 0, 0, 0, 1, 0]);
    assert_eq!((full.len(), full[1]), (4 + 4 * 11, 46));
    assert_eq!(
        full[4 + 2 * 11..][..11],
        [1, 0x14, 0, 0xA2, 0, 0, 0, 0, 0, 2, 40]
    );
    assert_eq!(
        refused(&mut bus, &[0x43, 0, 0, 0, 0, 0, 2, 1, 0]),
        (5, 0x24, 0)
    );
    assert_eq!(
        refused(&mut bus, &[0x43, 0, 5, 0, 0, 0, 0, 1, 0]),
        (5, 0x24, 0)
    );
    let disc = packet(&mut bus, &[0x51, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!((disc.len(), disc[1], disc[2]), (34, 32, 0x0E));
    let track = packet(&mut bus, &[0x52, 1, 0, 0, 0, 1, 0, 1, 0]);
    assert_eq!((track.len(), u32_at(&track, 24)), (36, SECTORS));
    // A CD has no DVD's structure.
    assert_eq!(
        refused(&mut bus, &[0xAD, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
        (5, 0x30, 2)
    );
}

#[test]
fn an_image_that_ends_within_a_sector_goes_on_with_zeros() {
    let image = MemoryDisk::new(vec![0x22; 5 * BLOCK + 512]);
    let mut bus = bus_with([Some(Attached::Cdrom(Some(Box::new(image)))), None]);
    sense(&mut bus);
    assert_eq!(u32_at(&packet(&mut bus, &[0x25]), 0), 5);
    let data = packet(&mut bus, &read_10(4, 2));
    assert!(data[..BLOCK + 512].iter().all(|&byte| byte == 0x22));
    assert!(data[BLOCK + 512..].iter().all(|&byte| byte == 0));
}

#[test]
fn what_is_not_there_is_refused_with_its_sense() {
    let mut bus = bus();
    for packet in [read_10(SECTORS, 1), read_10(SECTORS - 1, 2), read_10(!0, 2)] {
        assert_eq!(refused(&mut bus, &packet), (5, 0x21, 0));
    }
    assert_eq!(refused(&mut bus, &[0x2A]), (5, 0x20, 0), "WRITE(10)");
    assert_eq!(
        inb(&mut bus, BASE + 1),
        0,
        "the sense was taken without error"
    );
    refused(&mut bus, &[0x2A]);
    assert_eq!(sense(&mut bus), (0, 0, 0), "and is gone");
    assert_eq!(
        refused(&mut bus, &[0x4A, 0, 0, 0, 0x10, 0, 0, 0, 8]),
        (5, 0x24, 0)
    );
    assert!(packet(&mut bus, &read_10(0, 0)).is_empty());

    let mut bus = bus_of([None, None]);
    assert_eq!(inb(&mut bus, STATUS), 0x7F);
    let mut bus = bus_with([
        Some(Attached::Cdrom(Some(Box::new(BadDisk { read_only: true })))),
        None,
    ]);
    sense(&mut bus);
    packet(&mut bus, &read_10(24, 1));
    assert_eq!(refused(&mut bus, &read_10(25, 1)), (3, 0x11, 0));
}

#[test]
fn a_change_of_discs_is_an_attention_and_an_event() {
    let mut bus = bus();
    let events = |bus: &mut Bus| packet(bus, &[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8])[4..6].to_vec();
    let ready = [0x00];
    let id = {
        let (id, _) = bus.devices().next().unwrap();
        id
    };
    packet(&mut bus, &ready);
    assert_eq!(events(&mut bus), [0, 2]);
    bus.change_medium(id, 0, None).unwrap();
    assert_eq!(refused(&mut bus, &ready), (2, 0x3A, 2), "the tray is open");
    assert_eq!(events(&mut bus), [3, 1]);
    assert_eq!(events(&mut bus), [0, 1]);
    bus.change_medium(id, 0, Some(disc(7))).unwrap();
    assert_eq!(events(&mut bus), [2, 2]);
    packet(&mut bus, &[0x12, 0, 0, 0, 36]);
    assert_eq!(refused(&mut bus, &ready), (6, 0x28, 0));
    packet(&mut bus, &ready);
    assert_eq!(u32_at(&packet(&mut bus, &[0x25]), 0), 6);
    // REQUEST SENSE takes an attention that nobody has met.
    bus.change_medium(id, 0, Some(disc(8))).unwrap();
    assert_eq!(sense(&mut bus), (6, 0x28, 0));
    packet(&mut bus, &ready);
    assert!(bus.change_medium(id, 1, None).is_err(), "there is no drive");
}

#[test]
fn the_guest_opens_closes_and_locks_the_tray() {
    let mut bus = bus();
    let (eject, load) = ([0x1B, 0, 0, 0, 2], [0x1B, 0, 0, 0, 3]);
    packet(&mut bus, &[0x1E, 0, 0, 0, 1]);
    assert_eq!(refused(&mut bus, &eject), (5, 0x53, 2));
    packet(&mut bus, &[0x1E, 0, 0, 0, 0]);
    packet(&mut bus, &eject);
    assert_eq!(refused(&mut bus, &read_10(0, 1)), (2, 0x3A, 2));
    assert_eq!(
        packet(&mut bus, &[0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8])[1],
        0x10
    );
    assert_eq!(
        packet(&mut bus, &[0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 64])[2],
        0x71
    );
    // A reset leaves it open, so that the next boot is from elsewhere.
    bus.reset();
    configure(&mut bus, 0x20, u32::from(MASTER) | 1);
    assert_eq!(sense(&mut bus), (6, 0x29, 0));
    assert_eq!(refused(&mut bus, &[0x00]), (2, 0x3A, 2));
    packet(&mut bus, &load);
    assert_eq!(refused(&mut bus, &[0x00]), (6, 0x28, 0));
    assert_eq!(number(&packet(&mut bus, &read_10(9, 1))), 9);

    let mut bus = bus_with([Some(Attached::Cdrom(None)), None]);
    sense(&mut bus);
    assert_eq!(refused(&mut bus, &[0x00]), NOT_READY);
    packet(&mut bus, &eject);
    packet(&mut bus, &load);
    assert_eq!(refused(&mut bus, &read_10(0, 1)), NOT_READY);
}

#[test]
fn pages_can_be_read_and_some_set() {
    let mut bus = bus();
    let page = |bus: &mut Bus, page: u8| packet(bus, &[0x5A, 0, page, 0, 0, 0, 0, 1, 0]);
    let capabilities = page(&mut bus, 0x2A);
    assert_eq!(usize::from(capabilities[1]) + 2, capabilities.len());
    assert_eq!(
        (capabilities[2], capabilities[8], capabilities[9]),
        (0x01, 0x2A, 20)
    );
    let short = packet(&mut bus, &[0x1A, 0, 0x2A, 0, 255]);
    assert_eq!(short[4..], capabilities[8..]);
    assert_eq!(usize::from(short[0]) + 1, short.len());
    let all = page(&mut bus, 0x3F);
    assert_eq!(all.len(), 8 + 12 + 8 + 16 + 12 + 22);
    assert_eq!(
        refused(&mut bus, &[0x5A, 0, 0x05, 0, 0, 0, 0, 1, 0]),
        (5, 0x24, 0)
    );
    assert_eq!(
        refused(&mut bus, &[0x5A, 0, 0xC1, 0, 0, 0, 0, 1, 0]),
        (5, 0x39, 0)
    );
    assert_eq!(
        page(&mut bus, 0x41)[10..],
        [0xFF; 10],
        "all of it can change"
    );

    let select = |bus: &mut Bus, data: &[u8], limit: u16| {
        announce(bus, limit, 0);
        let [high, low] = (data.len() as u16).to_be_bytes();
        send(bus, &[0x55, 0x10, 0, 0, 0, 0, 0, high, low]);
        let mut rest = data;
        let mut status = wait(bus);
        while status & STATUS_DRQ != 0 {
            assert_eq!(inb(bus, BASE + 2), 0, "data from the host");
            assert!(irq(bus));
            let (piece, after) = rest.split_at(byte_count(bus));
            for pair in piece.chunks(2) {
                let high = pair.get(1).copied().unwrap_or(0);
                bus.pio_write(BASE, 2, u16::from_le_bytes([pair[0], high]).into());
            }
            rest = after;
            status = wait(bus);
        }
        inb(bus, STATUS);
        status
    };
    let mut data = vec![0; 8];
    data.extend([0x01, 10, 0x20, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    for limit in [0xFFFE, 6] {
        assert_eq!(select(&mut bus, &data, limit), READY);
        assert_eq!(page(&mut bus, 0x01)[8..12], [0x01, 10, 0x20, 9]);
    }
    assert_eq!(page(&mut bus, 0x81)[10..12], [0, 5], "as at first");
    assert_eq!(select(&mut bus, &[0; 3], 0xFFFE), READY | STATUS_ERR);
    assert_eq!(sense(&mut bus), (5, 0x1A, 0));
    data[8] = 0x33;
    assert_eq!(select(&mut bus, &data, 0xFFFE), READY | STATUS_ERR);
    assert_eq!(sense(&mut bus), (5, 0x26, 0));
}

#[test]
fn configuration_names_the_profile_of_the_disc() {
    let mut bus = bus();
    let all = packet(&mut bus, &[0x46, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(u32_at(&all, 0) as usize + 4, all.len());
    assert_eq!(all[6..8], [0, 8], "a CD-ROM");
    let one = packet(&mut bus, &[0x46, 2, 0, 3, 0, 0, 0, 1, 0]);
    assert_eq!(one[8..], [0, 3, 3, 4, 0x29, 0, 0, 0]);
    let cut = packet(&mut bus, &[0x46, 0, 0, 0, 0, 0, 0, 0, 8]);
    assert_eq!(cut, all[..8]);
    let id = bus.devices().next().unwrap().0;
    bus.change_medium(id, 0, None).unwrap();
    let none = packet(&mut bus, &[0x46, 1, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(none[6..8], [0, 0]);
}

#[test]
fn read_cd_brings_the_parts_of_a_sector() {
    let mut bus = bus();
    let read_cd = |parts: u8| vec![0xBE, 0, 0, 0, 0, 5, 0, 0, 2, parts, 0, 0];
    assert_eq!(
        packet(&mut bus, &read_cd(0x10)),
        packet(&mut bus, &read_10(5, 2))
    );
    let raw = packet(&mut bus, &read_cd(0xF8));
    assert_eq!(raw.len(), 2 * 2352);
    assert_eq!(raw[12..16], [0x00, 0x02, 0x05, 0x01]);
    assert_eq!(number(&raw[2352 + 16..]), 6);
    assert_eq!(packet(&mut bus, &read_cd(0x20)).len(), 8);
    assert!(packet(&mut bus, &read_cd(0x00)).is_empty());
    let by_time = [0xB9, 0, 0, 0, 2, 5, 0, 2, 7, 0xF8];
    assert_eq!(packet(&mut bus, &by_time), raw);
    let mut audio = read_cd(0x10);
    audio[1] = 0x04;
    assert_eq!(refused(&mut bus, &audio), (5, 0x64, 0));
    audio[1] = 0;
    audio[10] = 1;
    assert_eq!(refused(&mut bus, &audio), (5, 0x24, 0));
}

#[test]
fn a_transfer_goes_on_after_save_and_restore() {
    let mut bus = bus();
    announce(&mut bus, 2048, 0);
    send(&mut bus, &read_10(4, 2));
    wait(&mut bus);
    for _ in 0..100 {
        bus.pio_read(BASE, 2);
    }
    let saved = bus.devices().next().unwrap().1.save();
    let mut other = bus_with([Some(Attached::Cdrom(Some(disc(40)))), None]);
    let (_, device) = other.devices().next().unwrap();
    device.restore(&saved).unwrap();
    assert_eq!(device.save(), saved);
    for _ in 100..1024 {
        other.pio_read(BASE, 2);
    }
    assert_eq!(wait(&mut other), READY | STATUS_DRQ);
    assert_eq!(other.pio_read(BASE, 4), 5);
    let mut disks = device_of([Some(disk()), None]);
    assert!(disks.restore(&saved).is_err(), "a state of other drives");
}

#[test]
fn random_packets_never_panic_and_state_survives_a_round_trip() {
    let drives = || {
        [
            Some(Attached::Cdrom(Some(disc(SECTORS as usize)))),
            Some(Attached::Cdrom(Some(
                Box::new(BadDisk { read_only: true }) as _
            ))),
        ]
    };
    let mut bus = bus_with(drives());
    let mut rng = Rng::new(5);
    let codes = [
        0x00, 0x03, 0x12, 0x15, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2B, 0x42, 0x43, 0x46, 0x4A, 0x51,
        0x52, 0x55, 0x5A, 0x5C, 0xA8, 0xAD, 0xB9, 0xBD, 0xBE,
    ];
    for round in 0..20_000 {
        let by_dma = rng.below(2) as u8;
        let limit = rng.next_u64() as u16 >> rng.below(16);
        outb(&mut bus, BASE + 6, (rng.below(2) as u8) << 4);
        let [low, high] = limit.to_le_bytes();
        for (register, value) in [(1, by_dma), (4, low), (5, high), (7, 0xA0)] {
            outb(&mut bus, BASE + register, value);
        }
        let mut bytes = rng.next_u64().to_le_bytes().to_vec();
        bytes.extend((rng.next_u64() as u32).to_le_bytes());
        if rng.below(4) != 0 {
            bytes[2..5].fill(0);
            bytes[6..8].fill(0);
        }
        bytes[0] = match rng.below(8) {
            0 => bytes[0],
            _ => codes[rng.below(codes.len() as u64) as usize],
        };
        for chunk in bytes.chunks(2) {
            bus.pio_write(BASE, 2, u16::from_le_bytes([chunk[0], chunk[1]]).into());
        }
        bus.pio_write(MASTER + 4, 4, rng.next_u64() as u32 & 0xF_FFFC);
        for _ in 0..rng.below(6) {
            wait(&mut bus);
            match rng.below(5) {
                0 => outb(&mut bus, MASTER, 0x01 | (rng.below(2) as u8) << 3),
                1 => (0..rng.below(1100)).for_each(|_| _ = bus.pio_read(BASE, 4)),
                2 => (0..rng.below(1100)).for_each(|_| bus.pio_write(BASE, 4, 0x0A01_0010)),
                3 => outb(&mut bus, MASTER, 0x00),
                _ => _ = inb(&mut bus, STATUS),
            }
        }
        if rng.below(64) == 0 {
            outb(&mut bus, STATUS, rng.next_u64() as u8);
        }
        if round % 500 == 0 {
            let saved = bus.devices().next().unwrap().1.save();
            let mut other = bus_with(drives());
            let (_, device) = other.devices().next().unwrap();
            device.restore(&saved).unwrap();
            assert_eq!(device.save(), saved);
        }
    }
}
