use platform::testkit::advance;
use platform::{Bus, Clock, GuestMemory, PhysAddr, Said, Sound};

use super::*;
use crate::dma::{self, I8237};

platform::device_contract!(
    contract,
    Sb16::new(),
    [(Sb16::BASE, 12, 1), (Sb16::MPU, 2, 1)]
);

/// Counts the rises of a wire, and shows its level.
#[derive(Default)]
struct Wire(u32, bool);

impl Device for Wire {
    fn name(&self) -> &'static str {
        "wire"
    }
    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, _: u8) -> u64 {
        [self.0.into(), self.1.into()][offset as usize]
    }
    fn write(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, _: u64) {}
    fn on_input(&mut self, _: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Line { level, .. } = *input {
            self.0 += u32::from(level);
            self.1 = level;
        }
    }
    fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
    fn state(&self) -> StateView<'_> {
        StateView::of(1, ())
    }
    fn restore(&mut self, _: &SavedState) -> Result<(), StateError> {
        Ok(())
    }
}

/// A card, a DMA controller, and interrupt 5 at ports 80 (rises) and 81 (level).
fn bus() -> Bus {
    let mut bus = Bus::new(GuestMemory::new(1 << 20).unwrap(), Clock::new(1, 1));
    let dma = bus.add(Box::new(I8237::new()));
    dma::i8237::map(&mut bus, dma);
    let card = bus.add(Box::new(Sb16::new()));
    for &(region, base, len, width) in Sb16::MAP {
        bus.map_ports(card, region, base, len, width);
    }
    let wire = bus.add(Box::<Wire>::default());
    bus.map_ports(wire, 0, 0x1F0, 2, 1);
    bus.connect(IrqLine::isa(5), wire);
    bus.reset();
    bus
}

fn rises(bus: &mut Bus) -> u32 {
    bus.pio_read(0x1F0, 1)
}

fn level(bus: &mut Bus) -> u32 {
    bus.pio_read(0x1F1, 1)
}

fn command(bus: &mut Bus, bytes: &[u8]) {
    for &byte in bytes {
        assert_eq!(bus.pio_read(0x22C, 1) & 0x80, 0);
        bus.pio_write(0x22C, 1, byte.into());
    }
}

fn answer(bus: &mut Bus) -> Option<u32> {
    (bus.pio_read(0x22E, 1) & 0x80 != 0).then(|| bus.pio_read(0x22A, 1))
}

fn reset(bus: &mut Bus) {
    bus.pio_write(0x226, 1, 1);
    advance(bus, 3000);
    bus.pio_write(0x226, 1, 0);
    assert_eq!(answer(bus), Some(0xAA));
    assert_eq!(answer(bus), None);
}

fn mixer(bus: &mut Bus, index: u8, value: u8) {
    bus.pio_write(0x224, 1, index.into());
    bus.pio_write(0x225, 1, value.into());
}

fn mixer_read(bus: &mut Bus, index: u8) -> u32 {
    bus.pio_write(0x224, 1, index.into());
    bus.pio_read(0x225, 1)
}

/// Full volume: samples are heard as they are.
fn loud(bus: &mut Bus) {
    for index in 0x30..0x34 {
        mixer(bus, index, 0xF8);
    }
}

/// Programs channel 1 or 5 to read `units` bytes or words from 20000h on.
fn program(bus: &mut Bus, channel: u16, auto: bool, units: u16) {
    let (base, step, page, address) = match channel {
        1 => (0, 1, 0x83, 0),
        _ => (0xC0, 2, 0x8B, 0),
    };
    let mode = if auto { 0x58 } else { 0x48 };
    bus.pio_write(base + 0xA * step, 1, 5);
    bus.pio_write(base + 0xC * step, 1, 0);
    bus.pio_write(base + 0xB * step, 1, mode | 1);
    for byte in u16::to_le_bytes(address) {
        bus.pio_write(base + 2 * step, 1, byte.into());
    }
    for byte in (units - 1).to_le_bytes() {
        bus.pio_write(base + 3 * step, 1, byte.into());
    }
    bus.pio_write(page, 1, 2);
    bus.pio_write(base + 0xA * step, 1, 1);
}

fn heard(bus: &mut Bus) -> Vec<Sound> {
    let outputs = std::mem::take(&mut bus.outputs).into_iter();
    let sounds = outputs.filter_map(|output| match output.what {
        Said::Sound(sound) => Some(sound),
        _ => None,
    });
    sounds.collect()
}

fn frames(sounds: &[Sound]) -> Vec<[i16; 2]> {
    sounds
        .iter()
        .flat_map(|sound| sound.frames.clone())
        .collect()
}

#[test]
fn drivers_find_the_card() {
    let mut bus = bus();
    reset(&mut bus);
    command(&mut bus, &[0xE1]);
    assert_eq!((answer(&mut bus), answer(&mut bus)), (Some(4), Some(5)));
    command(&mut bus, &[0xE0, 0xA5]);
    assert_eq!(answer(&mut bus), Some(0x5A));
    command(&mut bus, &[0xE4, 0x37, 0xE8]);
    assert_eq!(answer(&mut bus), Some(0x37));
    command(&mut bus, &[0xE3]);
    let text: Vec<u8> = std::iter::from_fn(|| answer(&mut bus))
        .map(|byte| byte as u8)
        .collect();
    assert!(text.starts_with(b"COPYRIGHT (C) CREATIVE"));
    command(&mut bus, &[0xD1, 0xD8]);
    assert_eq!(answer(&mut bus), Some(0xFF));
    command(&mut bus, &[0xD3, 0xD8]);
    assert_eq!(answer(&mut bus), Some(0));
}

#[test]
fn an_interrupt_that_is_asked_for_stays_until_its_port_is_read() {
    let mut bus = bus();
    for (code, port, bit) in [(0xF2, 0x22E, 1), (0xF3, 0x22F, 2)] {
        command(&mut bus, &[code]);
        assert_eq!(level(&mut bus), 1);
        assert_eq!(mixer_read(&mut bus, 0x82) & 7, bit);
        let other = 0x22E + 0x22F - port;
        bus.pio_read(other, 1);
        assert_eq!(level(&mut bus), 1, "the other port");
        bus.pio_read(port, 1);
        assert_eq!((level(&mut bus), mixer_read(&mut bus, 0x82) & 7), (0, 0));
    }
    command(&mut bus, &[0xF2]);
    mixer(&mut bus, 0x80, 4);
    assert_eq!(level(&mut bus), 0, "another interrupt is chosen");
    mixer(&mut bus, 0x80, 2);
    assert_eq!(level(&mut bus), 1);
    reset(&mut bus);
    assert_eq!(level(&mut bus), 0);
}

#[test]
fn a_block_of_bytes_ends_at_its_time() {
    let mut bus = bus();
    loud(&mut bus);
    let samples: Vec<u8> = (0..1000).map(|n| n as u8).collect();
    bus.memory.write(PhysAddr(0x2_0000), &samples);
    program(&mut bus, 1, false, 1000);
    // 10 kHz: 256 - 100.
    command(&mut bus, &[0x40, 156, 0x14, 0xE7, 0x03]);
    advance(&mut bus, 99_999_999);
    assert_eq!(rises(&mut bus), 0);
    advance(&mut bus, 1);
    assert_eq!(rises(&mut bus), 1);
    assert_eq!(
        bus.pio_read(0x08, 1) & 2,
        2,
        "the DMA controller's terminal count"
    );
    let sounds = heard(&mut bus);
    assert!(
        sounds
            .iter()
            .all(|sound| sound.rate_millihertz == 10_000_000)
    );
    let end = sounds
        .last()
        .map(|sound| sound.start_ns + sound.frames.len() as u64 * 100_000);
    assert_eq!((sounds[0].start_ns, end), (0, Some(100_000_000)));
    let frames = frames(&sounds);
    assert_eq!(frames.len(), 1000);
    for (frame, byte) in frames.iter().zip(samples) {
        assert_eq!(*frame, [(i16::from(byte) - 128) << 8; 2]);
    }
    assert_eq!(bus.events.next_deadline_ns(), None);
}

#[test]
fn words_go_round_and_round_until_auto_initialisation_is_left() {
    let mut bus = bus();
    loud(&mut bus);
    let samples: Vec<u8> = (0..200i16).flat_map(|n| (n * 100).to_le_bytes()).collect();
    bus.memory.write(PhysAddr(0x4_0000), &samples);
    program(&mut bus, 5, true, 200);
    bus.pio_write(0x8B, 1, 4);
    // Stereo, signed, 20 kHz, an interrupt every 100 words: 2.5 ms.
    command(&mut bus, &[0x41, 0x4E, 0x20, 0xB6, 0x30, 99, 0]);
    for n in 1..=10 {
        advance(&mut bus, 2_500_000);
        assert_eq!(rises(&mut bus), n);
        assert_eq!(mixer_read(&mut bus, 0x82) & 7, 2);
        bus.pio_read(0x22F, 1);
    }
    let all = frames(&heard(&mut bus));
    assert_eq!(all.len(), 500);
    for (n, frame) in all.iter().enumerate() {
        let left = (n % 100) as i16 * 200;
        assert_eq!(*frame, [left, left + 100]);
    }
    command(&mut bus, &[0xD9]);
    advance(&mut bus, 10_000_000);
    assert_eq!(rises(&mut bus), 11, "the block is played to its end");
    assert_eq!(bus.events.next_deadline_ns(), None);
}

#[test]
fn a_pause_keeps_the_place_in_the_block() {
    let mut bus = bus();
    program(&mut bus, 1, true, 400);
    // 8-bit mono, 8 kHz, blocks of 400: 50 ms.
    command(&mut bus, &[0x41, 0x1F, 0x40, 0xC6, 0x00, 0x8F, 0x01]);
    advance(&mut bus, 20_000_000);
    command(&mut bus, &[0xD0]);
    assert_eq!(bus.events.next_deadline_ns(), None);
    advance(&mut bus, 1_000_000_000);
    assert_eq!(rises(&mut bus), 0);
    command(&mut bus, &[0xD4]);
    advance(&mut bus, 29_999_999);
    assert_eq!(rises(&mut bus), 0);
    advance(&mut bus, 1);
    assert_eq!(rises(&mut bus), 1);
}

#[test]
fn a_masked_channel_holds_the_card_up() {
    let mut bus = bus();
    command(&mut bus, &[0x40, 156, 0x14, 99, 0]);
    advance(&mut bus, 100_000_000);
    assert_eq!(rises(&mut bus), 0);
    program(&mut bus, 1, false, 100);
    advance(&mut bus, 11_000_000);
    assert_eq!(rises(&mut bus), 1);
}

#[test]
fn recording_gives_silence_and_ends_like_playing() {
    let mut bus = bus();
    program(&mut bus, 1, false, 64);
    // The same channel, from the device to memory.
    bus.pio_write(0x0B, 1, 0x45);
    command(&mut bus, &[0x40, 156, 0x24, 63, 0]);
    advance(&mut bus, 6_400_000);
    assert_eq!(rises(&mut bus), 1);
    let mut bytes = [0; 65];
    bus.memory.read(PhysAddr(0x2_0000), &mut bytes);
    assert_eq!((bytes[0], bytes[63], bytes[64]), (0x80, 0x80, 0));
}

#[test]
fn adpcm_has_more_samples_than_bytes() {
    let mut bus = bus();
    bus.memory.write(PhysAddr(0x2_0000), &[0x80; 50]);
    program(&mut bus, 1, false, 50);
    command(&mut bus, &[0x40, 156, 0x75, 49, 0]);
    advance(&mut bus, 9_999_999);
    assert_eq!(rises(&mut bus), 0);
    advance(&mut bus, 1);
    assert_eq!(rises(&mut bus), 1);
    assert_eq!(frames(&heard(&mut bus)).len(), 100);
}

#[test]
fn single_bytes_sound_when_they_are_written() {
    let mut bus = bus();
    for n in 0..800 {
        let sample = if n / 4 % 2 == 0 { 0xC0 } else { 0x40 };
        command(&mut bus, &[0x10, sample]);
        advance(&mut bus, 125_000);
    }
    let frames = frames(&heard(&mut bus));
    let rises = frames
        .windows(2)
        .filter(|two| two[0][0] < 0 && two[1][0] >= 0);
    assert!((95..=101).contains(&rises.count()), "1 kHz for 100 ms");
    advance(&mut bus, 1_000_000_000);
    assert_eq!(bus.events.next_deadline_ns(), None);
}

#[test]
fn silence_takes_its_time_and_interrupts() {
    let mut bus = bus();
    command(&mut bus, &[0x40, 156, 0x80, 0xE7, 0x03]);
    advance(&mut bus, 99_999_999);
    assert_eq!(rises(&mut bus), 0);
    advance(&mut bus, 1);
    assert_eq!(rises(&mut bus), 1);
}

#[test]
fn the_mpu_401_acknowledges_commands_and_takes_midi() {
    let mut bus = bus();
    assert_eq!(bus.pio_read(0x331, 1) & 0xC0, 0x80);
    for code in [0xFF, 0x3F] {
        bus.pio_write(0x331, 1, code);
        assert_eq!(bus.pio_read(0x331, 1) & 0xC0, 0);
        assert_eq!(bus.pio_read(0x330, 1), 0xFE);
    }
    bus.pio_write(0x330, 1, 0x90);
    assert_eq!(bus.pio_read(0x331, 1) & 0xC0, 0x80);
}

#[test]
fn where_the_bus_is_looked_at_makes_no_difference() {
    let run = |step_ns: u64| {
        let mut bus = bus();
        let samples: Vec<u8> = (0..4000).map(|n| (n * 7) as u8).collect();
        bus.memory.write(PhysAddr(0x2_0000), &samples);
        program(&mut bus, 1, true, 333);
        command(&mut bus, &[0x41, 0x2B, 0x11, 0xC6, 0x20, 0x8F, 0x01]);
        let mut passed = 0;
        while passed < 60_000_000 {
            advance(&mut bus, step_ns);
            passed += step_ns;
        }
        (heard(&mut bus), rises(&mut bus))
    };
    assert!(run(60_000_000) == run(100_000));
}

#[test]
fn notes_are_as_loud_as_the_mixer_says_and_end() {
    let mut bus = bus();
    let write = |bus: &mut Bus, register: u8, value: u8| {
        // By either of the two places.
        let port = if register & 1 == 0 { 0x388 } else { 0x228 };
        bus.pio_write(port, 1, register.into());
        bus.pio_write(port + 1, 1, value.into());
    };
    for (register, value) in [
        (0x40, 0x3F),
        (0x23, 0x21),
        (0x63, 0xF0),
        (0x83, 0x0F),
        (0xA0, 0x44),
        (0xB0, 0x32),
    ] {
        write(&mut bus, register, value);
    }
    advance(&mut bus, 50_000_000);
    let loudest = |sounds: &[Sound]| frames(sounds).iter().map(|frame| frame[0]).max();
    // 14 dB below what the chip says.
    assert!(matches!(loudest(&heard(&mut bus)), Some(800..830)));
    for index in [0x30, 0x31, 0x34, 0x35] {
        mixer(&mut bus, index, 0xF8);
    }
    advance(&mut bus, 50_000_000);
    let sounds = heard(&mut bus);
    assert!(matches!(loudest(&sounds), Some(4000..4100)));
    assert!(
        sounds
            .iter()
            .all(|sound| sound.stream == FM && sound.frames.len() <= 498)
    );
    write(&mut bus, 0xB0, 0x12);
    advance(&mut bus, 100_000_000);
    assert_eq!(bus.events.next_deadline_ns(), None);
}
