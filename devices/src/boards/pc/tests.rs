//! The whole board.

use platform::testkit::{Rng, advance};
use platform::{Input, Key, MachineRequest, MemoryDisk, Said, SavedState};

use super::*;

const FLOPPY_BYTES: usize = 1440 * KIB;

fn config() -> PcConfig {
    PcConfig {
        disks: vec![Some(disk(8 << 20)), None, Some(disk(1 << 20))],
        floppies: vec![Some(disk(FLOPPY_BYTES))],
        rtc_start_unix: 1_700_000_000,
        bios: vec![0xF4; 64 * KIB],
        ..PcConfig::new(4 << 20)
    }
}

fn disk(bytes: usize) -> Box<dyn BlockBackend> {
    Box::new(MemoryDisk::new(vec![0x5A; bytes]))
}

fn pc() -> Pc {
    build(config()).unwrap()
}

fn byte(pc: &Pc, addr: u64) -> u8 {
    let [byte] = pc.bus.memory.read_array::<1>(PhysAddr(addr));
    byte
}

fn states(bus: &mut Bus) -> Vec<SavedState> {
    bus.devices().map(|(_, device)| device.save()).collect()
}

/// Initialises the interrupt controllers with vectors 08 and 70 and lets `irqs` through.
fn init_pic(bus: &mut Bus, irqs: u16) {
    for (port, base, cascade, mask) in [
        (0x20, 0x08, 0x04, !irqs & 0xFF),
        (0xA0, 0x70, 0x02, !irqs >> 8),
    ] {
        bus.pio_write(port, 1, 0x11);
        for value in [base, cascade, 0x01, mask] {
            bus.pio_write(port + 1, 1, value.into());
        }
    }
}

/// The vector of the interrupt that is due within `ns`, which is then ended.
fn interrupt_within(bus: &mut Bus, ns: u64) -> Option<u8> {
    let end_ns = bus.clock.now_ns() + ns;
    while !bus.intr() {
        let Some(next_ns) = bus.events.next_deadline_ns().filter(|&at| at <= end_ns) else {
            bus.clock.skip_to(end_ns);
            return None;
        };
        bus.clock.skip_to(next_ns);
        bus.run_due_events();
    }
    let vector = bus.acknowledge_interrupt();
    if vector >= 0x70 {
        bus.pio_write(0xA0, 1, 0x20);
    }
    bus.pio_write(0x20, 1, 0x20);
    Some(vector)
}

#[test]
fn a_small_bios_lies_at_f0000_and_below_4_gib_with_the_tables_before_it() {
    let mut bios = vec![0x11; 64 * KIB];
    bios[0xFFF0] = 0xEA;
    let pc = build(PcConfig {
        bios,
        tables: vec![0x22; 100],
        vga_bios: vec![0x33; 32 * KIB],
        option_roms: vec![(PhysAddr(0xC_A000), vec![0x44; 512])],
        ..config()
    })
    .unwrap();
    assert_eq!(byte(&pc, 0xF_FFF0), 0xEA);
    assert_eq!(byte(&pc, 0xFFFF_FFF0), 0xEA);
    assert_eq!((byte(&pc, 0xE_0000), byte(&pc, 0xE_0064)), (0x22, 0xFF));
    assert_eq!(byte(&pc, 0xC_7FFF), 0x33);
    assert_eq!(byte(&pc, 0xC_A000), 0x44);
    assert_eq!(byte(&pc, 0xD_0000), 0xFF, "open bus");
}

#[test]
fn of_a_large_bios_the_last_128_kib_lie_below_1_mib() {
    let mut bios = vec![0; 256 * KIB];
    for (n, segment) in bios.chunks_mut(64 * KIB).enumerate() {
        segment.fill(n as u8);
    }
    let pc = build(PcConfig {
        bios,
        tables: vec![0x22; 100],
        ..config()
    })
    .unwrap();
    assert_eq!((byte(&pc, 0xE_0000), byte(&pc, 0xF_0000)), (2, 3));
    assert_eq!((byte(&pc, 0xFFFC_0000), byte(&pc, 0xFFFF_FFFF)), (0, 3));
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let refused = |config| build(config).err().unwrap().to_string();
    let bios = vec![0; 1000];
    assert!(refused(PcConfig { bios, ..config() }).contains("multiple of 4K"));
    let floppies = (0..3).map(|_| None).collect();
    assert!(
        refused(PcConfig {
            floppies,
            ..config()
        })
        .contains("room for 2")
    );
    let option_roms = vec![(PhysAddr(0xD_F000), vec![0; 8192])];
    assert!(
        refused(PcConfig {
            option_roms,
            ..config()
        })
        .contains("0xdf000")
    );
    let ns_per_instruction = (0, 1);
    assert!(
        refused(PcConfig {
            ns_per_instruction,
            ..config()
        })
        .contains("above zero")
    );
    assert!(
        refused(PcConfig {
            memory_bytes: 3,
            ..config()
        })
        .contains("guest memory")
    );
}

#[test]
fn the_timer_interrupts_through_the_controller() {
    let mut pc = pc();
    init_pic(&mut pc.bus, 0x0001);
    pc.bus.pio_write(0x43, 1, 0x34);
    pc.bus.pio_write(0x40, 1, 0xA9);
    pc.bus.pio_write(0x40, 1, 0x04);
    // The control word raised OUT0, and with it the first request.
    assert_eq!(interrupt_within(&mut pc.bus, 0), Some(0x08));
    for _ in 0..10 {
        assert_eq!(interrupt_within(&mut pc.bus, 900_000), None);
        assert_eq!(interrupt_within(&mut pc.bus, 110_000), Some(0x08));
    }
}

#[test]
fn keyboard_clock_and_serial_port_have_their_interrupts() {
    let mut pc = pc();
    init_pic(&mut pc.bus, 0x0116);
    pc.bus.pio_write(0x70, 1, 0x0B);
    pc.bus.pio_write(0x71, 1, 0x12);
    assert_eq!(interrupt_within(&mut pc.bus, 1_000_000_000), Some(0x70));

    pc.bus.pio_write(0x64, 1, 0x60);
    pc.bus.pio_write(0x60, 1, 0x45);
    let key = Key::Enter;
    pc.bus
        .input(pc.keyboard, &Input::Key { key, pressed: true });
    assert_eq!(interrupt_within(&mut pc.bus, 1_000_000), Some(0x09));
    assert_eq!(pc.bus.pio_read(0x60, 1), 0x1C);

    pc.bus.pio_write(0x3FC, 1, 0x08);
    pc.bus.pio_write(0x3F9, 1, 0x01);
    let bytes = vec![b'x'];
    pc.bus
        .input(pc.serial[0], &Input::Serial { port: 0, bytes });
    assert_eq!(interrupt_within(&mut pc.bus, 1_000_000), Some(0x0C));
    assert_eq!(pc.bus.pio_read(0x3F8, 1), u32::from(b'x'));
}

#[test]
fn both_a20_gates_are_one_latch() {
    let mut pc = pc();
    let a20 = |pc: &Pc| pc.bus.lines.level(IrqLine::A20);
    assert!(a20(&pc), "open at power-on");
    pc.bus.pio_write(0x64, 1, 0xDD);
    assert!(!a20(&pc));
    pc.bus.pio_write(0x92, 1, 0x02);
    assert!(a20(&pc));
    pc.bus.pio_write(0x64, 1, 0xDF);
    pc.bus.pio_write(0x92, 1, 0x00);
    assert!(!a20(&pc));
}

#[test]
fn every_way_out_ends_the_run() {
    for (port, size, value, wanted) in [
        (0x64, 1, 0xFE, MachineRequest::Reset),
        (0x92, 1, 0x01, MachineRequest::Reset),
        (0xCF9, 1, 0x06, MachineRequest::Reset),
        (0x604, 2, 0x2000, MachineRequest::PowerOff),
        (0xB004, 2, 0x2000, MachineRequest::PowerOff),
        (0x4004, 2, 0x3400, MachineRequest::PowerOff),
        (0xF4, 1, 0x10, MachineRequest::DebugExit(0x10)),
        (0xF4, 4, 0x1234_5678, MachineRequest::DebugExit(0x1234_5678)),
    ] {
        let mut pc = pc();
        pc.bus.pio_write(port, size, value);
        assert_eq!(pc.bus.request, Some(wanted), "port {port:x}");
    }
}

#[test]
fn consoles_hand_out_what_is_written() {
    let mut pc = pc();
    pc.bus.pio_write(0xE9, 1, 0x41);
    pc.bus.pio_write(0x2F8, 1, 0x42);
    pc.bus.pio_write(0x2F8, 1, 0x44);
    pc.bus.pio_write(0x80, 1, 0x43);
    let outputs = pc.bus.outputs.iter();
    let said: Vec<_> = outputs
        .map(|output| (pc.bus.name_of(output.device), output.what.clone()))
        .collect();
    assert_eq!(
        said,
        [
            ("debug_port", Said::Bytes(vec![0x41])),
            ("com2", Said::Bytes(vec![0x42, 0x44])),
            ("i8237", Said::PostCode(0x43))
        ]
    );
}

#[test]
fn ferr_raises_irq_13() {
    let mut pc = pc();
    init_pic(&mut pc.bus, 0x2004);
    pc.bus.lines.set(DeviceId(63), IrqLine::FERR, true);
    pc.bus.pio_read(0x61, 1);
    assert_eq!(interrupt_within(&mut pc.bus, 0), Some(0x75));
}

#[test]
fn a_sector_of_the_disk_comes_through_its_data_port() {
    let mut pc = pc();
    init_pic(&mut pc.bus, 0x4004);
    for (port, value) in [
        (0x1F6, 0xE0),
        (0x1F2, 1),
        (0x1F3, 7),
        (0x1F4, 0),
        (0x1F5, 0),
    ] {
        pc.bus.pio_write(port, 1, value);
    }
    pc.bus.pio_write(0x1F7, 1, 0x20);
    assert_eq!(interrupt_within(&mut pc.bus, 50_000_000), Some(0x76));
    assert_eq!(pc.bus.pio_read(0x1F7, 1) & 0x89, 0x08);
    for _ in 0..128 {
        assert_eq!(pc.bus.pio_read(0x1F0, 4), 0x5A5A_5A5A);
    }
    assert_eq!(pc.bus.pio_read(0x1F7, 1) & 0x89, 0x00);
}

/// Writes a register of the IDE function.
fn configure_ide(bus: &mut Bus, register: u32, value: u32) {
    bus.pio_write(0xCF8, 4, 0x8000_0900 | register);
    bus.pio_write(0xCFC, 4, value);
}

#[test]
fn bus_master_registers_are_where_base_address_4_says() {
    let mut pc = pc();
    let bus = &mut pc.bus;
    bus.pio_write(0xC00C, 4, 0x1234_5678);
    assert_eq!(bus.pio_read(0xC004, 4), 0, "the primary's own");
    configure_ide(bus, 0x20, 0xD001);
    assert_eq!(bus.pio_read(0xC00C, 4), 0xFFFF_FFFF);
    assert_eq!(bus.pio_read(0xD00C, 4), 0x1234_5678);
    configure_ide(bus, 0x04, 0x0004);
    assert_eq!(bus.pio_read(0xD00C, 4), 0xFFFF_FFFF, "I/O is off");
    configure_ide(bus, 0x04, 0x0005);
    assert_eq!(bus.pio_read(0xD00C, 4), 0x1234_5678);
    bus.reset();
    assert_eq!(bus.pio_read(0xD00C, 4), 0xFFFF_FFFF);
    assert_eq!(bus.pio_read(0xC00C, 4), 0);
}

#[test]
fn a_sector_of_the_second_channels_disk_comes_by_bus_master() {
    let mut pc = pc();
    init_pic(&mut pc.bus, 0x8004);
    let entry = [0x00, 0x20, 0x01, 0x00, 0x00, 0x02, 0x00, 0x80];
    pc.bus.memory.write(PhysAddr(0x1_0000), &entry);
    pc.bus.pio_write(0xC00C, 4, 0x1_0000);
    for (port, value) in [
        (0xC008, 0x08),
        (0x176, 0xE0),
        (0x172, 1),
        (0x173, 7),
        (0x177, 0xC8),
        (0xC008, 0x09),
    ] {
        pc.bus.pio_write(port, 1, value);
    }
    assert_eq!(interrupt_within(&mut pc.bus, 50_000_000), Some(0x77));
    assert_eq!(pc.bus.pio_read(0xC00A, 1), 0x04);
    let sector = pc.bus.memory.read_array::<512>(PhysAddr(0x1_2000));
    assert_eq!(sector, [0x5A; 512]);
}

#[test]
fn a_sector_of_the_floppy_comes_through_dma_channel_2() {
    let mut pc = pc();
    init_pic(&mut pc.bus, 0x0040);
    for (port, value) in [
        (0x0C, 0),
        (0x04, 0x00),
        (0x04, 0x20),
        (0x05, 0xFF),
        (0x05, 0x01),
        (0x81, 0x01),
        (0x0B, 0x46),
        (0x0A, 0x02),
    ] {
        pc.bus.pio_write(port, 1, value);
    }
    pc.bus.pio_write(0x3F2, 1, 0x1C);
    assert_eq!(interrupt_within(&mut pc.bus, 1_000_000_000), Some(0x0E));
    let send = |bus: &mut Bus, bytes: &[u8]| {
        for &byte in bytes {
            for _ in 0..1000 {
                if bus.pio_read(0x3F4, 1) & 0xC0 == 0x80 {
                    break;
                }
                advance(bus, 10_000);
            }
            bus.pio_write(0x3F5, 1, byte.into());
        }
    };
    for _ in 0..4 {
        send(&mut pc.bus, &[0x08]);
        pc.bus.pio_read(0x3F5, 1);
        pc.bus.pio_read(0x3F5, 1);
    }
    pc.bus.pio_write(0x3F7, 1, 0x00);
    send(&mut pc.bus, &[0x03, 0xAF, 0x02]);
    send(&mut pc.bus, &[0x07, 0x00]);
    assert_eq!(interrupt_within(&mut pc.bus, 1_000_000_000), Some(0x0E));
    send(&mut pc.bus, &[0x08]);
    assert_eq!(pc.bus.pio_read(0x3F5, 1), 0x20);
    pc.bus.pio_read(0x3F5, 1);
    send(&mut pc.bus, &[0xE6, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(interrupt_within(&mut pc.bus, 2_000_000_000), Some(0x0E));
    assert_eq!(pc.bus.pio_read(0x3F5, 1) & 0xC0, 0x00);
    let sector = pc.bus.memory.read_array::<512>(PhysAddr(0x1_2000));
    assert_eq!(sector, [0x5A; 512]);
}

#[test]
fn a_second_reset_changes_nothing() {
    let mut pc = pc();
    let first = states(&mut pc.bus);
    pc.bus.reset();
    assert_eq!(states(&mut pc.bus), first);
}

/// Random accesses to all ports while time passes. Returns the state that they lead to.
fn abuse(seed: u64, accesses: usize) -> Vec<SavedState> {
    let mut pc = pc();
    let mut rng = Rng::new(seed);
    // Ports where something is, and now and then any port at all.
    let ports: [(u64, u64); 19] = [
        (0x00, 0x10),
        (0x20, 2),
        (0x40, 4),
        (0x60, 5),
        (0x70, 2),
        (0x80, 0x13),
        (0xA0, 2),
        (0xB2, 2),
        (0xC0, 0x20),
        (0xE9, 1),
        (0xF0, 8),
        (0x170, 8),
        (0x1F0, 8),
        (0x2E8, 0x18),
        (0x376, 0x8A),
        (0x4D0, 2),
        (0x600, 0x0C),
        (0xCF8, 8),
        (0xC000, 16),
    ];
    for n in 0..accesses {
        let (base, len) = ports[rng.below(ports.len() as u64) as usize];
        let port = match rng.below(8) {
            0 => rng.next_u64() as u16,
            _ => (base + rng.below(len)) as u16,
        };
        let size = 1 << rng.below(3);
        match rng.below(2) {
            0 => pc.bus.pio_write(port, size, rng.next_u64() as u32),
            _ => {
                pc.bus.pio_read(port, size);
            }
        }
        match rng.below(64) {
            0 => {
                pc.bus.acknowledge_interrupt();
            }
            1 => {
                let (key, pressed) = (Key::A, rng.below(2) != 0);
                pc.bus.input(pc.keyboard, &Input::Key { key, pressed });
            }
            2 => {
                let (port, bytes) = (rng.below(4) as u8, vec![n as u8; 3]);
                let id = pc.serial[usize::from(port)];
                pc.bus.input(id, &Input::Serial { port, bytes });
            }
            3 => {
                let addr = PhysAddr(0xA_0000 + rng.below(0x2_0000));
                pc.bus.mmio_write(addr, 4, rng.next_u64());
                pc.bus.mmio_read(addr, 2);
            }
            4 if rng.below(50) == 0 => pc.bus.reset(),
            _ => {}
        }
        let ns = rng.below(4000);
        advance(&mut pc.bus, ns);
        pc.bus.run_due_events();
        pc.bus.outputs.clear();
        pc.bus.request = None;
        pc.bus.frame = None;
    }
    states(&mut pc.bus)
}

#[test]
fn random_port_accesses_never_panic_or_hang() {
    abuse(0x600D_5EED, 200_000);
}

#[test]
fn equal_accesses_lead_to_equal_states() {
    assert_eq!(abuse(7, 10_000), abuse(7, 10_000));
}

/// A configuration register of the display.
fn set_display(pc: &mut Pc, register: u32, value: u32) {
    pc.bus.pio_write(0xCF8, 4, 0x8000_1000 | register);
    pc.bus.pio_write(0xCFC, 4, value);
}

#[test]
fn the_display_is_where_its_base_address_registers_say() {
    let mut pc = build(PcConfig {
        vga_bios: vec![0x55, 0xAA, 1],
        ..config()
    })
    .unwrap();
    pc.bus.pio_write(0xCF8, 4, 0x8000_1000);
    assert_eq!(pc.bus.pio_read(0xCFC, 4), 0x1111_1234);
    set_display(&mut pc, 0x10, !0);
    assert_eq!(pc.bus.pio_read(0xCFC, 4), 0xFF00_0008);
    set_display(&mut pc, 0x18, !0);
    assert_eq!(pc.bus.pio_read(0xCFC, 4), 0xFFFF_F000);
    set_display(&mut pc, 0x10, 0xE000_0000);
    set_display(&mut pc, 0x18, 0xFEB0_0000);
    set_display(&mut pc, 0x30, 0xFEB1_0001);
    set_display(&mut pc, 0x04, 2);
    assert_eq!(pc.bus.mmio_read(PhysAddr(0xFEB1_0000), 2), 0xAA55);
    // 640x480 with 32 bits, by the registers in memory; drawn in the linear memory.
    for (register, value) in [(2, 640), (4, 480), (6, 32), (8, 0x41)] {
        pc.bus
            .mmio_write(PhysAddr(0xFEB0_0500 + register), 2, value);
    }
    pc.bus.memory.write(PhysAddr(0xE000_0000), &[3, 2, 1, 0]);
    pc.bus.mmio_write(PhysAddr(0xFEB0_0402), 1, 0x67);
    pc.bus.pio_read(0x3DA, 1);
    pc.bus.pio_write(0x3C0, 1, 0x20);
    pc.bus.input(pc.display, &Input::Render);
    let frame = pc.bus.frame.take().unwrap();
    assert_eq!((frame.width, frame.height), (640, 480));
    assert_eq!(frame.pixels[0], 0x01_0203);
}

#[test]
fn no_programming_of_the_display_ends_the_host() {
    let mut pc = pc();
    let mut rng = Rng::new(0xD15);
    let places = [0xFEB0_0000u64, 0xE000_0000, 0xA_0000, 0xB_8000, 0x10_0000];
    for round in 0..20_000 {
        let size = 1 << rng.below(4);
        let near = places[rng.below(5) as usize] + rng.below(0x700);
        match rng.below(12) {
            0 => {
                let register = [0x04, 0x10, 0x18, 0x30][rng.below(4) as usize];
                let base = places[rng.below(5) as usize] as u32 | rng.below(8) as u32;
                set_display(&mut pc, register, base);
            }
            1 => set_display(&mut pc, 0x04, 7),
            2 | 3 => {
                pc.bus.pio_write(0x1CE, 2, rng.below(12) as u32);
                pc.bus
                    .pio_write(0x1CF, 2, rng.next_u64() as u32 >> rng.below(32));
            }
            4 => pc
                .bus
                .pio_write(0x3C0 + rng.below(32) as u16, 2, rng.next_u64() as u32),
            5 | 6 => drop(pc.bus.mmio_read(PhysAddr(near), size)),
            7 | 8 => pc.bus.mmio_write(PhysAddr(near), size, rng.next_u64()),
            9 => {
                let bytes = rng.next_u64().to_le_bytes();
                pc.bus
                    .memory
                    .write(PhysAddr(near + rng.below(16 << 20)), &bytes);
            }
            _ if round % 16 == 0 => {
                let ways = [Input::Render, Input::RenderChanged, Input::ReadText];
                pc.bus.input(pc.display, &ways[rng.below(3) as usize]);
                let frame = pc.bus.frame.take().unwrap_or_default();
                assert!(frame.pixels.len() <= 2560 * 1600 * 2, "a bounded picture");
            }
            _ => {}
        }
    }
    let saved = states(&mut pc.bus);
    let mut other = self::pc();
    for ((_, device), state) in other.bus.devices().zip(&saved) {
        device.restore(state).unwrap();
    }
    assert!(states(&mut other.bus) == saved);
}
