//! Random accesses to all ports and all of the physical address space, while time goes on.

use devices::boards::pc::{self, CardModel, NetworkCard, Pc, PcConfig, SoundCards};
use platform::testkit::{Rng, advance};
use platform::{BlockBackend, Bus, Input, IrqLine, Key, MemoryDisk, PhysAddr};

use crate::program::any_port;
use crate::seeds::for_each_seed;

fn board() -> Pc {
    let disk = |bytes: usize| -> Option<Box<dyn BlockBackend>> {
        Some(Box::new(MemoryDisk::new(vec![0x5A; bytes])))
    };
    pc::build(PcConfig {
        disks: vec![disk(700 * 512), disk(512), disk(63 * 512), None],
        cdroms: vec![(3, disk(30 * 2048 + 512))],
        virtio_disks: disk(5000 * 512).into_iter().chain(disk(512)).collect(),
        entropy: true,
        vmmouse: true,
        virtio_input: true,
        network: Some(NetworkCard {
            model: CardModel::Virtio,
            mac: [2, 0, 0, 0, 0, 1],
            rom: vec![0x55; 512],
        }),
        sound: Some(SoundCards {
            sb16: true,
            ac97: true,
        }),
        floppies: vec![disk(1_474_560), disk(368_640)],
        bios: vec![0xF4; 0x1_0000],
        vga_bios: vec![0x55; 0x8000],
        ..PcConfig::new(4 << 20)
    })
    .expect("the board fits")
}

/// The addresses where something is, and its neighbours.
fn any_address(rng: &mut Rng) -> PhysAddr {
    let places = [
        (0xA_0000, 0x2_0000),
        (0x9_FFF0, 0x20),
        (0xB_FFF0, 0x20),
        (0xC_0000, 0x4_0000),
        (0x3F_FFF0, 0x20),
        (0xBFFF_FFF0, 0x20),
        (0xFEC0_0000, 0x1010),
        (0xFED0_0000, 0x410),
        (0xFEE0_0000, 0x1010),
        (0xFFFF_0000, 0x1_0000),
        (0xFFFF_FFF0, 0x20),
    ];
    PhysAddr(match rng.below(8) {
        0 => rng.next_u64() >> rng.below(64),
        1..5 => 0xA_0000 + rng.below(0x2_0000),
        _ => {
            let (start, len) = places[rng.below(places.len() as u64) as usize];
            start + rng.below(len)
        }
    })
}

fn any_value(rng: &mut Rng) -> u32 {
    match rng.below(4) {
        0 => [0, 1, 0x80, 0xFF, 0xFFFF_FFFF, 0x7FFF_FFFF][rng.below(6) as usize],
        _ => rng.next_u64() as u32,
    }
}

/// What a driver would do, with numbers that it would not use.
fn provoke(pc: &mut Pc, rng: &mut Rng) {
    let bus = &mut pc.bus;
    let byte = |rng: &mut Rng| (rng.next_u64() & 0xFF) as u32;
    match rng.below(12) {
        11 => sound_blaster(bus, rng),
        10 => ac97(bus, rng),
        9 => virtio(bus, rng),
        // A packet for the CD-ROM drive, with any limit and by DMA or not, and what it says.
        8 => {
            let (base, limit) = (0x170, any_value(rng) >> rng.below(17));
            for (register, value) in [
                (6, 0xB0),
                (1, byte(rng) & 1),
                (4, limit & 0xFF),
                (5, limit >> 8 & 0xFF),
                (7, 0xA0),
            ] {
                bus.pio_write(base + register, 1, value);
            }
            let commands = [
                0x00, 0x03, 0x12, 0x15, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2B, 0x42, 0x43, 0x46, 0x4A,
                0x51, 0x52, 0x55, 0x5A, 0xA8, 0xAD, 0xB9, 0xBD, 0xBE,
            ];
            bus.pio_write(base, 2, commands[rng.below(23) as usize]);
            for _ in 1..6 {
                bus.pio_write(base, 2, any_value(rng) >> rng.below(33).min(31));
            }
            bus.pio_write(0xC008, 1, byte(rng) & 9);
            for _ in 0..rng.below(40) {
                advance(bus, rng.below(20_000));
                bus.pio_read(0x376, 1);
                for _ in 0..rng.below(600) {
                    match rng.below(8) {
                        0 => bus.pio_write(base, 4, any_value(rng)),
                        _ => drop(bus.pio_read(base, 4)),
                    }
                }
            }
        }
        // An IDE command with random registers, and its data.
        0 => {
            let base = [0x1F0u16, 0x170][rng.below(2) as usize];
            for register in 1..7 {
                bus.pio_write(base + register, 1, byte(rng));
                bus.pio_write(base + register, 1, byte(rng) >> rng.below(8));
            }
            let commands = [
                0x20, 0x21, 0x24, 0x29, 0x30, 0x34, 0x39, 0x40, 0x91, 0x90, 0xC4, 0xC5, 0xC6, 0xC8,
                0xCA, 0xEC, 0xEF, 0xE7, 0xEA, 0xA1, 0xA0, 0xF8, 0x27, 0x06, 0x08,
            ];
            bus.pio_write(base + 7, 1, commands[rng.below(25) as usize]);
            for _ in 0..rng.below(600) {
                let size = 1 << rng.below(3);
                match rng.below(2) {
                    0 => drop(bus.pio_read(base, size)),
                    _ => bus.pio_write(base, size, any_value(rng)),
                }
                if rng.below(16) == 0 {
                    advance(bus, rng.below(200_000));
                }
            }
        }
        // A DMA channel and a floppy command that uses it.
        1 => {
            bus.pio_write(0x0C, 1, 0);
            for port in [0x04, 0x04, 0x05, 0x05, 0x81] {
                bus.pio_write(port, 1, byte(rng));
            }
            bus.pio_write(0x0B, 1, byte(rng) & 0xFC | 2);
            bus.pio_write(0x0A, 1, 2);
            bus.pio_write(0x3F2, 1, [0x1C, 0x2D, byte(rng)][rng.below(3) as usize]);
            let commands = [
                0x46, 0x45, 0xE6, 0xC5, 0x4D, 0x4A, 0x07, 0x0F, 0x03, 0x08, 0x13, 0x56,
            ];
            bus.pio_write(0x3F5, 1, commands[rng.below(12) as usize]);
            for _ in 0..8 {
                let value = match rng.below(3) {
                    0 => byte(rng),
                    _ => rng.below(20) as u32,
                };
                bus.pio_write(0x3F5, 1, value);
            }
            advance(bus, rng.below(300_000_000));
            for _ in 0..8 {
                bus.pio_read(0x3F5, 1);
            }
        }
        // Timers as fast as they go.
        2 => {
            bus.pio_write(0x43, 1, byte(rng) & 0x3F | 0x30);
            for _ in 0..2 {
                bus.pio_write(0x40 + rng.below(3) as u16, 1, rng.below(3) as u32);
            }
            bus.pio_write(0x70, 1, 0x0A);
            bus.pio_write(0x71, 1, byte(rng));
            bus.pio_write(0x70, 1, 0x0B);
            bus.pio_write(0x71, 1, byte(rng));
            advance(bus, rng.below(3_000_000));
        }
        // The display, in a mode that no BIOS sets.
        3 => {
            for (index, registers) in [(0x3C4, 5), (0x3CE, 9), (0x3D4, 25)] {
                for register in 0..registers {
                    if rng.below(2) == 0 {
                        bus.pio_write(index, 1, register);
                        bus.pio_write(index + 1, 1, byte(rng));
                    }
                }
            }
            bus.pio_read(0x3DA, 1);
            for _ in 0..42 {
                bus.pio_write(0x3C0, 1, byte(rng));
            }
            bus.pio_write(0x3C2, 1, byte(rng) | 1);
            bus.pio_write(0x3C0, 1, 0x20);
            bus.input(pc.display, &Input::Render);
        }
        // Interrupt controllers, initialised anyhow, and acknowledge cycles.
        4 => {
            let base = [0x20u16, 0xA0][rng.below(2) as usize];
            bus.pio_write(base, 1, byte(rng) | 0x10);
            for _ in 0..rng.below(5) {
                bus.pio_write(base + 1, 1, byte(rng));
            }
            for _ in 0..rng.below(10) {
                bus.acknowledge_interrupt();
                bus.pio_write(base, 1, byte(rng) & 0xEF);
            }
        }
        5 => {
            let device = [pc.keyboard, pc.power, pc.display][rng.below(3) as usize];
            let inputs = [
                Input::Key {
                    key: Key::Pause,
                    pressed: true,
                },
                Input::Key {
                    key: Key::A,
                    pressed: rng.below(2) == 0,
                },
                Input::PowerButton,
                Input::Render,
            ];
            bus.input(device, &inputs[rng.below(4) as usize]);
            bus.drive(IrqLine::FERR, rng.below(2) == 0);
        }
        6 => {
            let port = rng.below(4) as u8;
            let bytes = vec![0x55; rng.below(5000) as usize];
            bus.input(pc.serial[usize::from(port)], &Input::Serial { port, bytes });
        }
        _ => bus.reset(),
    }
}

/// A virtio device, brought up almost as a driver does it, with rings of anything at any place.
fn virtio(bus: &mut Bus, rng: &mut Rng) {
    const MODERN: u64 = 0xE000_0000;
    // Network, entropy, two disks, keyboard and tablet.
    let slot = [3, 4, 5, 6, 14, 15][rng.below(6) as usize];
    let function = 0x8000_0000 | slot << 11;
    for (register, value) in [
        (0x10, 0xC100),
        (0x14, 0xE001_0000),
        (0x20, MODERN as u32),
        (0x24, 0),
        (0x40, [0, 0x8000_0000, 0xC000_0000][rng.below(3) as usize]),
        (0x04, 7),
    ] {
        bus.pio_write(0xCF8, 4, function | register);
        bus.pio_write(0xCFC, 4, value);
    }
    let places = [0x20_0000, 0x3F_F000, MODERN, 0xE001_0000, u64::MAX - 63];
    let place = |rng: &mut Rng| places[rng.below(5) as usize] + rng.below(64);
    for at in (0x20_0000..0x20_2000).step_by(16) {
        let mut bytes = place(rng).to_le_bytes().to_vec();
        bytes.extend((any_value(rng) >> rng.below(32)).to_le_bytes());
        bytes.extend([rng.below(8) as u8, 0, rng.below(40) as u8, 0]);
        bus.memory.write(PhysAddr(at), &bytes);
    }
    for (offset, size, value) in [
        (0x14, 1, 0),
        (0x08, 4, 1),
        (0x0C, 4, 1),
        (0x08, 4, 0),
        // With what a network card offers, some of the time.
        (0x0C, 4, [0, 3 << 28, 0x3000_8883][rng.below(3) as usize]),
        (0x14, 1, 0x0B),
        (0x16, 2, rng.below(3)),
        (0x18, 2, 1 << rng.below(9)),
        (0x1A, 2, rng.below(3)),
        (0x20, 8, place(rng)),
        (0x28, 8, place(rng)),
        (0x30, 8, place(rng)),
        (0x1C, 2, 1),
        (0x14, 1, 0x0F),
    ] {
        if rng.below(16) != 0 {
            bus.mmio_write(PhysAddr(MODERN + offset), size, value);
        }
    }
    // As many chains as there seem to be.
    for offered in 0..rng.below(8) as u16 {
        let at = PhysAddr(0x20_0002 + rng.below(64));
        bus.memory.write(at, &offered.to_le_bytes());
        bus.mmio_write(PhysAddr(MODERN + 0x3000 + 4 * rng.below(3)), 2, 0);
        bus.pio_write(0xC110, 2, 0);
        advance(bus, rng.below(1_000_000));
    }
}

/// Any transfer of the Sound Blaster's, at any rate, by DMA channels that go anywhere; and notes.
fn sound_blaster(bus: &mut Bus, rng: &mut Rng) {
    let byte = |rng: &mut Rng| (rng.next_u64() & 0xFF) as u32;
    if rng.below(4) == 0 {
        for value in [1, 0] {
            bus.pio_write(0x226, 1, value);
        }
    }
    for (base, step, page) in [(0, 1, 0x83), (0xC0, 2, 0x8B)] {
        bus.pio_write(base + 0xC * step, 1, 0);
        bus.pio_write(base + 0xB * step, 1, byte(rng) & 0xFC | 1);
        for register in [2, 2, 3, 3] {
            bus.pio_write(base + register * step, 1, byte(rng) >> rng.below(9));
        }
        bus.pio_write(page, 1, byte(rng));
        bus.pio_write(base + 0xA * step, 1, 1 | (rng.below(8) as u32 & 4));
    }
    let commands = [
        0x10, 0x14, 0x16, 0x1C, 0x1F, 0x20, 0x24, 0x2C, 0x38, 0x40, 0x41, 0x45, 0x47, 0x48, 0x74,
        0x75, 0x77, 0x7D, 0x80, 0x90, 0xB0, 0xB6, 0xBE, 0xC0, 0xC6, 0xCE, 0xD0, 0xD4, 0xD5, 0xD6,
        0xD9, 0xDA, 0xE0, 0xE1, 0xE3, 0xF2, 0xF3,
    ];
    for _ in 0..rng.below(12) {
        bus.pio_write(0x22C, 1, commands[rng.below(37) as usize]);
        for _ in 0..rng.below(4) {
            bus.pio_write(0x22C, 1, byte(rng) >> rng.below(9));
        }
        bus.pio_write(0x224, 2, any_value(rng) & 0xFFFF);
        for _ in 0..8 {
            let port = 0x388 + 2 * rng.below(2) as u16;
            bus.pio_write(port, 2, any_value(rng) & 0xFFFF);
        }
        advance(bus, rng.below(20_000_000));
        bus.pio_read(0x22A + rng.below(6) as u16, 1);
    }
}

/// The AC'97 controller with lists and buffers of anything at any place.
fn ac97(bus: &mut Bus, rng: &mut Rng) {
    const BASE: u16 = 0xC400;
    for (register, value) in [(0x10, 0xC300), (0x14, BASE.into()), (0x04, 5)] {
        bus.pio_write(0xCF8, 4, 0x8000_8000 | register);
        bus.pio_write(0xCFC, 4, value);
    }
    bus.pio_write(BASE + 0x2C, 4, any_value(rng));
    let places: [u32; 5] = [0x20_0000, 0x3F_FFF8, 0xE000_0000, 0xFFFF_FFF8, 0];
    for at in (0x20_0000..0x20_0100).step_by(8) {
        let mut bytes = places[rng.below(5) as usize].to_le_bytes().to_vec();
        bytes.extend((any_value(rng) >> rng.below(32)).to_le_bytes());
        bus.memory.write(PhysAddr(at), &bytes);
    }
    for _ in 0..rng.below(12) {
        let channel = BASE + 0x10 * rng.below(3) as u16;
        bus.pio_write(channel, 4, places[rng.below(5) as usize]);
        bus.pio_write(channel + 5, 1, any_value(rng) & 0xFF);
        bus.pio_write(channel + 11, 1, any_value(rng) & 0xFF);
        bus.pio_write(
            0xC300 + (any_value(rng) & 0x7E) as u16,
            2,
            any_value(rng) & 0xFFFF,
        );
        advance(bus, rng.below(20_000_000));
        bus.pio_read(channel + 4, 4);
        bus.pio_write(channel + 6, 2, 0x1C);
    }
}

#[test]
fn random_accesses() {
    for_each_seed("random accesses", 400, |seed| {
        let mut rng = Rng::new((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut pc = board();
        for _ in 0..5000 {
            let size = 1 << rng.below(3);
            match rng.below(64) {
                0..24 => pc
                    .bus
                    .pio_write(any_port(&mut rng), size, any_value(&mut rng)),
                24..40 => drop(pc.bus.pio_read(any_port(&mut rng), size)),
                40..52 => {
                    let value = rng.next_u64();
                    pc.bus
                        .mmio_write(any_address(&mut rng), 1 << rng.below(4), value);
                }
                52..60 => drop(pc.bus.mmio_read(any_address(&mut rng), 1 << rng.below(4))),
                60..63 => {
                    let ns = rng.next_u64() >> (34 + rng.below(30));
                    advance(&mut pc.bus, ns);
                }
                _ => provoke(&mut pc, &mut rng),
            }
            pc.bus.outputs.clear();
            pc.bus.request = None;
        }
        pc.bus.input(pc.display, &Input::Render);
        advance(&mut pc.bus, 100_000_000);
        for (_, device) in pc.bus.devices() {
            let state = device.save();
            let name = device.name();
            device
                .restore(&state)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(device.save(), state, "{name}");
        }
    });
}

/// Every port in every size, read and written with each of a few values.
#[test]
fn every_port_in_every_size() {
    let mut pc = board();
    for value in [0, !0, 0x5555_5555, 0x0101_0101] {
        for port in 0..=u16::MAX {
            for size in [1, 2, 4] {
                pc.bus.pio_read(port, size);
                pc.bus.pio_write(port, size, value);
                pc.bus.pio_read(port, size);
                pc.bus.outputs.clear();
                pc.bus.request = None;
            }
            if port % 64 == 0 {
                advance(&mut pc.bus, 100_000);
            }
        }
        pc.bus.input(pc.display, &Input::Render);
    }
}
