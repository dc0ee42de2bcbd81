use platform::testkit::{Rng, advance};
use platform::{Bus, Clock, GuestMemory, IrqLine};

use super::*;
use crate::pci::{Bdf, PciHost, add_pirqs, pirq_of};

platform::device_contract!(
    contract,
    Ac97::device(),
    [
        (MIXER, 256, 4),
        (MASTER, 64, 4),
        (platform::CONFIGURATION, 256, 4)
    ]
);

const SLOT: u8 = 16;
const NAM: u16 = 0xC000;
const NABM: u16 = 0xC100;
const OUT: u16 = NABM + 0x10;
const LIST: u64 = 0x1_0000;
const DATA: u64 = 0x2_0000;

struct Board {
    bus: Bus,
    pin: IrqLine,
}

impl Board {
    fn new() -> Self {
        let mut bus = Bus::new(GuestMemory::new(4 << 20).unwrap(), Clock::new(1, 1));
        let host = bus.add(Box::new(PciHost::new()));
        for &(region, base, len, width) in PciHost::MAP {
            bus.map_ports(host, region, base, len, width);
        }
        let pin = pirq_of(add_pirqs(&mut bus), SLOT, 1);
        Ac97::device()
            .with_pin(pin)
            .plug(&mut bus, "ac97", Bdf::new(SLOT, 0));
        bus.reset();
        let mut board = Self { bus, pin };
        for (register, value) in [(0x10, NAM.into()), (0x14, NABM.into()), (0x04, 5)] {
            board.select(register);
            board.bus.pio_write(0xCFC, 4, value);
        }
        board.bus.pio_write(NABM + 0x2C, 4, COLD);
        board.mixer(0x02, 0x0000);
        board.mixer(0x18, 0x0808);
        board
    }

    fn select(&mut self, register: u8) {
        let address = 0x8000_0000 | u32::from(SLOT) << 11 | u32::from(register);
        self.bus.pio_write(0xCF8, 4, address);
    }

    fn mixer(&mut self, register: u16, value: u32) {
        self.bus.pio_write(NAM + register, 2, value);
    }

    fn mixer_read(&mut self, register: u16) -> u32 {
        self.bus.pio_read(NAM + register, 2)
    }

    /// Puts a buffer of `samples` at `address` into place `place` of the list.
    fn buffer(&mut self, place: u64, address: u64, samples: u16, flags: u32) {
        let mut bytes = (address as u32).to_le_bytes().to_vec();
        bytes.extend((flags | u32::from(samples)).to_le_bytes());
        self.bus.memory.write(PhysAddr(LIST + 8 * place), &bytes);
    }

    fn play(&mut self, last: u8) {
        self.bus.pio_write(OUT, 4, LIST as u32);
        self.bus.pio_write(OUT + 5, 1, last.into());
        self.bus.pio_write(OUT + 11, 1, 0x1D);
    }

    fn status(&mut self) -> u32 {
        self.bus.pio_read(OUT + 6, 2)
    }

    fn interrupt(&mut self) -> bool {
        self.bus.lines.level(self.pin)
    }

    fn heard(&mut self) -> Vec<Sound> {
        let outputs = std::mem::take(&mut self.bus.outputs).into_iter();
        let sounds = outputs.filter_map(|output| match output.what {
            Said::Sound(sound) => Some(sound),
            _ => None,
        });
        sounds.collect()
    }
}

#[test]
fn a_driver_finds_a_codec_that_is_ready_and_has_variable_rates() {
    let mut board = Board::new();
    assert_eq!(board.bus.pio_read(NABM + 0x30, 4) & READY, READY);
    assert_eq!(
        (board.mixer_read(0x7C), board.mixer_read(0x7E)),
        (0x8384, 0x7600)
    );
    // Five bits of volume: the sixth reads back as all of them.
    board.mixer(0x02, 0x3F3F);
    assert_eq!(board.mixer_read(0x02), 0x1F1F);
    board.mixer(0x2C, 22_050);
    assert_eq!(board.mixer_read(0x2C), 22_050);
    board.mixer(0x2A, 0);
    board.mixer(0x2C, 22_050);
    assert_eq!(board.mixer_read(0x2C), 48_000);
    board.mixer(0x00, 0);
    assert_eq!(board.mixer_read(0x02), 0x8000);
    // The semaphore is free after a look at the codec.
    assert_eq!(board.bus.pio_read(NABM + 0x34, 1), 0);
    assert_eq!(board.bus.pio_read(NABM + 0x34, 1), 1);
    board.mixer_read(0x7C);
    assert_eq!(board.bus.pio_read(NABM + 0x34, 1), 0);
}

#[test]
fn buffers_are_played_in_turn_with_interrupts_at_their_time() {
    let mut board = Board::new();
    let samples: Vec<u8> = (0..1920i16).flat_map(|n| (n * 7).to_le_bytes()).collect();
    board.bus.memory.write(PhysAddr(DATA), &samples);
    board.buffer(0, DATA, 960, INTERRUPTS);
    board.buffer(1, DATA + 1920, 960, INTERRUPTS);
    board.play(1);
    // 480 frames at 48 kHz: 10 ms, and a nanosecond for the rounding.
    advance(&mut board.bus, 9_999_000);
    assert_eq!((board.status(), board.interrupt()), (0, false));
    advance(&mut board.bus, 1_001);
    assert_eq!(
        (board.status(), board.interrupt()),
        (u32::from(BUFFER_DONE), true)
    );
    assert_eq!(
        board.bus.pio_read(NABM + 0x30, 4) & CAUSES[PCM_OUT],
        CAUSES[PCM_OUT]
    );
    board.bus.pio_write(OUT + 6, 2, 0x1C);
    assert!(!board.interrupt());
    assert_eq!(board.bus.pio_read(OUT + 4, 1), 1);
    advance(&mut board.bus, 5_000_000);
    assert_eq!(board.bus.pio_read(OUT + 8, 2), 480, "halfway");
    advance(&mut board.bus, 5_000_001);
    let ended = HALTED | AT_LAST | LAST_DONE | BUFFER_DONE;
    assert_eq!(
        (board.status(), board.interrupt()),
        (u32::from(ended), true)
    );
    let sounds = board.heard();
    let frames: Vec<_> = sounds
        .iter()
        .flat_map(|sound| sound.frames.clone())
        .collect();
    assert_eq!(frames.len(), 960);
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(*frame, [2 * n as i16 * 7, (2 * n as i16 + 1) * 7]);
    }
    board.bus.pio_write(OUT + 6, 2, 0x1C);
    advance(&mut board.bus, 1_000_000_000);
    assert_eq!(board.bus.events.next_deadline_ns(), None);
    // A new last buffer: it goes on by itself.
    board.buffer(2, DATA, 96, INTERRUPTS);
    board.bus.pio_write(OUT + 5, 1, 2);
    assert_eq!(board.status(), 0);
    advance(&mut board.bus, 1_000_001);
    assert_eq!(board.status(), u32::from(ended));
}

#[test]
fn volumes_are_steps_of_a_decibel_and_a_half() {
    for (master, pcm, loudness) in [
        (0x0000, 0x0808, 1000),
        (0x0808, 0x0808, 251),
        (0x0000, 0x0000, 3981),
        (0x8000, 0x0808, 0),
        (0x0000, 0x8808, 0),
    ] {
        let mut board = Board::new();
        board.mixer(0x02, master);
        board.mixer(0x18, pcm);
        board.bus.memory.write(PhysAddr(DATA), &[0xE8, 3, 0xE8, 3]);
        board.buffer(0, DATA, 2, 0);
        board.play(0);
        advance(&mut board.bus, 1_000_000);
        assert_eq!(board.heard()[0].frames, [[loudness; 2]]);
    }
}

#[test]
fn a_pause_and_another_rate_keep_the_place() {
    let mut board = Board::new();
    board.buffer(0, DATA, 960, INTERRUPTS);
    board.play(0);
    advance(&mut board.bus, 5_000_000);
    board.bus.pio_write(OUT + 11, 1, 0x1C);
    assert_eq!(board.status(), u32::from(HALTED));
    advance(&mut board.bus, 1_000_000_000);
    assert_eq!(board.bus.pio_read(OUT + 8, 2), 480);
    board.mixer(0x2C, 24_000);
    board.bus.pio_write(OUT + 11, 1, 0x1D);
    advance(&mut board.bus, 9_999_000);
    assert_eq!(board.status(), 0);
    advance(&mut board.bus, 1_100);
    assert_ne!(board.status() & u32::from(LAST_DONE), 0);
    let rates: Vec<_> = board
        .heard()
        .iter()
        .map(|sound| sound.rate_millihertz)
        .collect();
    assert_eq!((rates[0], *rates.last().unwrap()), (48_000_000, 24_000_000));
}

#[test]
fn recording_fills_buffers_with_silence() {
    let mut board = Board::new();
    board.bus.memory.write(PhysAddr(DATA), &[0xAA; 400]);
    board.buffer(0, DATA, 96, INTERRUPTS);
    board.bus.pio_write(NABM, 4, LIST as u32);
    board.bus.pio_write(NABM + 5, 1, 0);
    board.bus.pio_write(NABM + 11, 1, 0x1D);
    advance(&mut board.bus, 2_000_000);
    assert_ne!(board.bus.pio_read(NABM + 6, 2) & u32::from(LAST_DONE), 0);
    let mut bytes = [0xFF; 193];
    board.bus.memory.read(PhysAddr(DATA), &mut bytes);
    assert_eq!((bytes[0], bytes[191], bytes[192]), (0, 0, 0xAA));
}

#[test]
fn no_list_keeps_the_channel_or_the_host_busy() {
    // Empty buffers, a list that is its own buffer, one beyond memory, and a last buffer that
    // moves.
    let mut board = Board::new();
    for place in 0..32 {
        board.buffer(place, DATA, 0, INTERRUPTS);
    }
    board.play(31);
    advance(&mut board.bus, 1);
    assert_ne!(board.status() & u32::from(HALTED), 0);
    assert_eq!(board.heard(), []);
    for list in [LIST, 0xFFFF_FFF8, 0xFEC0_0000, 0x3F_FFF8] {
        let mut board = Board::new();
        for place in 0..32 {
            board.buffer(place, list, 0xFFFF, INTERRUPTS);
        }
        for base in [0, 0x10, 0x20] {
            board.bus.pio_write(NABM + base, 4, list as u32);
            board.bus.pio_write(NABM + base + 11, 1, 0x1D);
        }
        let mut rng = Rng::new(list);
        for _ in 0..100 {
            let last = rng.below(32) as u32;
            board.bus.pio_write(OUT + 5, 1, last);
            advance(&mut board.bus, 10_000_000);
            let sounds = board.heard();
            let frames: usize = sounds.iter().map(|sound| sound.frames.len()).sum();
            let pieces: Vec<_> = sounds
                .iter()
                .map(|sound| (sound.start_ns, sound.frames.len()))
                .collect();
            // What was left of the last 10 ms comes with it.
            assert!(frames <= 962, "{list:x} {pieces:?}");
        }
    }
}

#[test]
fn where_the_bus_is_looked_at_makes_no_difference() {
    let run = |step_ns: u64| {
        let mut board = Board::new();
        let samples: Vec<u8> = (0..9000).map(|n| (n * 13) as u8).collect();
        board.bus.memory.write(PhysAddr(DATA), &samples);
        board.mixer(0x2C, 11_025);
        for place in 0..8 {
            board.buffer(place, DATA + 901 * 2 * (place % 3), 901, INTERRUPTS);
        }
        board.play(7);
        let mut passed = 0;
        let mut frames = Vec::new();
        while passed < 600_000_000 {
            advance(&mut board.bus, step_ns);
            passed += step_ns;
            board.bus.pio_read(OUT + 8, 2);
            frames.extend(board.heard().into_iter().flat_map(|sound| sound.frames));
        }
        frames
    };
    let one = run(60_000_000);
    assert!(one.len() > 3000 && one == run(100_000));
}
