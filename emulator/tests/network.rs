//! What comes for a network card is in the journal, and a replay needs no network.

mod common;

use devices::boards::pc::{CardModel, NETWORK_CARD, NetworkCard, PcConfig};
use emulator::{Exit, Machine};
use platform::testkit::Rng;
use platform::{Input, MemoryDisk};

const ADDRESS: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// A machine that polls the interrupt status of an NE2000 and writes it to port E9h: MOV DX, 307h;
/// again: IN AL, DX; OUT E9h, AL; JMP again. The card listens to everything.
fn machine() -> Machine {
    let program = [0xBA, 0x07, 0x03, 0xEC, 0xE6, 0xE9, 0xEB, 0xFB];
    let mut disk = vec![0; 4 * 512];
    disk[..program.len()].copy_from_slice(&program);
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    let (mut machine, _) = common::machine_on(PcConfig {
        disks: vec![Some(Box::new(MemoryDisk::new(disk)))],
        bios: firmware::bios().to_vec(),
        vga_bios: firmware::vga_bios().to_vec(),
        network: Some(NetworkCard {
            model: CardModel::Ne2kIsa,
            mac: ADDRESS,
            rom: Vec::new(),
        }),
        ns_per_instruction: (2, 1),
        ..PcConfig::new(2 << 20)
    });
    let bus = machine.bus_mut();
    for (register, value) in [
        (0, 0x21),
        (0x0C, 0x1F),
        (1, 0x46),
        (2, 0x80),
        (3, 0x46),
        (0, 0x61),
    ] {
        bus.pio_write(0x300 + register, 1, value);
    }
    for (register, value) in [(7, 0x47), (0, 0x22)] {
        bus.pio_write(0x300 + register, 1, value);
    }
    machine
}

#[test]
fn a_run_with_frames_replays_to_the_bit() {
    let mut rng = Rng::new(1);
    let mut first = machine();
    first.keep_journal(1 << 20);
    for _ in 0..20 {
        assert_eq!(first.run(500_000 + rng.below(100_000)), Exit::Budget);
        let frame = (0..60 + rng.below(1400)).map(|n| n as u8).collect();
        first.input(NETWORK_CARD, Input::Frame(frame));
    }
    let mut second = machine();
    let entries = first.journal().entries().expect("it is kept").to_vec();
    assert_eq!(entries.len(), 20);
    for entry in &entries {
        assert_eq!(second.replay(entry), None);
    }
    assert_eq!(second.state_hash(), first.state_hash());
    assert_eq!(second.take_outputs(), first.take_outputs());
}

#[test]
fn a_saved_card_goes_on() {
    let mut first = machine();
    first.input(NETWORK_CARD, Input::Frame(vec![0xFF; 100]));
    let state = first.state();
    let mut second = machine();
    assert_ne!(second.state_hash(), first.state_hash());
    second.set_state(&state).expect("it is a machine like that");
    assert_eq!(second.state_hash(), first.state_hash());
}
