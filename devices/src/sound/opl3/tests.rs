use super::*;

/// A chip that time passes for.
struct Bench {
    chip: Opl3,
    now_ns: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            chip: Opl3::new(),
            now_ns: 0,
        }
    }

    fn write(&mut self, register: u16, value: u8) {
        let port = u64::from(register >> 8) * 2;
        self.chip.write(self.now_ns, port, register as u8);
        self.chip.write(self.now_ns, port + 1, value);
    }

    fn status(&mut self) -> u8 {
        self.chip.read(self.now_ns, 0)
    }

    /// An operator of a sine, as loud as can be, held.
    fn plain(&mut self, operator: u16) {
        self.write(operator + 0x20, 0x21);
        self.write(operator + 0x40, 0x00);
        self.write(operator + 0x60, 0xF0);
        self.write(operator + 0x80, 0x0F);
    }

    fn silent(&mut self, operator: u16) {
        self.plain(operator);
        self.write(operator + 0x40, 0x3F);
        self.write(operator + 0x60, 0x00);
    }

    fn key(&mut self, channel: u16, number: u16, block: u8) {
        self.write(0xA0 + channel, number as u8);
        self.write(0xB0 + channel, 0x20 | block << 2 | (number >> 8) as u8);
    }

    fn hear(&mut self, ns: u64) -> Vec<[i16; 2]> {
        let end_ns = self.now_ns + ns;
        let mut frames = Vec::new();
        while self.chip.is_sounding() && self.chip.next_ns() < end_ns {
            self.now_ns = self.chip.next_ns();
            frames.extend(self.chip.take(self.now_ns, 0).unwrap().frames);
        }
        self.now_ns = end_ns;
        if let Some(sound) = self.chip.take(end_ns, 0) {
            frames.extend(sound.frames);
        }
        frames
    }
}

/// How strong `hertz` is in the left channel: the amplitude of a sine of that pitch (Goertzel).
fn strength(frames: &[[i16; 2]], hertz: f64) -> f64 {
    let rate = CLOCK_HZ as f64 / CLOCKS as f64;
    let turn = 2.0 * (2.0 * std::f64::consts::PI * hertz / rate).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for frame in frames {
        (one, two) = (f64::from(frame[0]) + turn * one - two, one);
    }
    (one * one + two * two - turn * one * two).sqrt() * 2.0 / frames.len() as f64
}

fn peak(frames: &[[i16; 2]]) -> i16 {
    frames
        .iter()
        .map(|frame| frame[0].saturating_abs())
        .max()
        .unwrap_or(0)
}

#[test]
fn the_usual_way_to_find_a_chip_works() {
    let mut bench = Bench::new();
    bench.write(4, 0x60);
    bench.write(4, 0x80);
    assert_eq!(bench.status() & 0xE0, 0);
    bench.write(2, 0xFF);
    bench.write(4, 0x21);
    bench.now_ns += 100_000;
    assert_eq!(bench.status() & 0xE0, 0xC0);
    bench.write(4, 0x60);
    bench.write(4, 0x80);
    assert_eq!(
        bench.status(),
        0,
        "the lower bits tell an OPL3 from an OPL2"
    );
}

#[test]
fn a_wait_by_reading_is_long_enough_for_a_machine_that_is_too_fast() {
    let mut bench = Bench::new();
    bench.write(2, 0xFF);
    bench.write(4, 0x21);
    let reads = (0..200).take_while(|_| bench.status() == 0).count();
    assert!((70..100).contains(&reads), "{reads}");
    bench.write(4, 0x80);
    assert_eq!(bench.status(), 0);
}

#[test]
fn timers_go_round_at_their_rates() {
    let mut bench = Bench::new();
    for (register, value, ns) in [(2, 156, 8_046_000), (3, 156, 32_183_000)] {
        bench.write(register, value);
        bench.write(4, register as u8 - 1);
        bench.now_ns += ns - 350_000;
        assert_eq!(bench.status(), 0);
        bench.now_ns += 700_000;
        assert_eq!(bench.status(), if register == 2 { 0xC0 } else { 0xA0 });
        bench.write(4, 0x80);
        assert_eq!(bench.status(), 0);
        bench.now_ns += ns;
        assert_ne!(bench.status(), 0, "it goes on");
        bench.write(4, 0x80);
        bench.write(4, 0);
    }
}

#[test]
fn a_note_has_the_pitch_of_the_data_sheet() {
    // 580 in block 4 is 440 Hz: F = number * 2^block * rate / 2^20.
    let mut bench = Bench::new();
    bench.silent(0);
    bench.plain(3);
    bench.key(0, 580, 4);
    let frames = bench.hear(500_000_000);
    assert!(
        (24_850..=24_860).contains(&frames.len()),
        "{}",
        frames.len()
    );
    let hertz = 580.0 * 16.0 * 49_715.9 / 1_048_576.0;
    assert!(strength(&frames, hertz) > 3_900.0);
    assert!(strength(&frames, hertz * 2.0) < 20.0);
    assert!((4_050..=4_090).contains(&peak(&frames)));
}

#[test]
fn a_key_that_is_let_go_fades_and_then_nothing_sounds() {
    let mut bench = Bench::new();
    bench.silent(0);
    bench.plain(3);
    bench.write(0x83, 0x07);
    bench.key(0, 580, 4);
    bench.hear(10_000_000);
    bench.write(0xB0, 0x11);
    let frames = bench.hear(20_000_000);
    assert!(peak(&frames[..200]) > peak(&frames[600..]));
    bench.hear(10_000_000_000);
    assert!(!bench.chip.is_sounding());
    // What waits in silence for a key has no timer either.
    bench.write(0x63, 0x00);
    bench.write(0xB0, 0x31);
    assert!(!bench.chip.is_sounding());
}

#[test]
fn an_attack_takes_its_time() {
    // From the data sheet: rate 4 rises from 0 to 100 % in 176 ms, and decays by 96 dB in 2.45 s,
    // at a key scaling of 2.
    let mut bench = Bench::new();
    bench.silent(0);
    bench.plain(3);
    bench.write(0x63, 0x40);
    bench.key(0, 580, 4);
    let frames = bench.hear(700_000_000);
    let full = frames.iter().position(|frame| frame[0] > 4_000).unwrap();
    let ms = full as f64 * 1000.0 / 49_716.0;
    assert!((100.0..400.0).contains(&ms), "{ms} ms");
}

#[test]
fn modulation_makes_overtones_and_addition_none() {
    let hertz = 580.0 * 16.0 * 49_715.9 / 1_048_576.0;
    let overtone = |how: u8| {
        let mut bench = Bench::new();
        bench.plain(0);
        bench.write(0x40, 0x10);
        bench.plain(3);
        bench.write(0xC0, how);
        bench.key(0, 580, 4);
        let frames = bench.hear(200_000_000);
        strength(&frames, 2.0 * hertz)
    };
    assert!(overtone(0) > 500.0, "{}", overtone(0));
    assert!(overtone(1) < 50.0, "{}", overtone(1));
    assert!(overtone(0x0F) > 100.0, "feedback: {}", overtone(0x0F));
}

#[test]
fn four_operators_are_one_voice_in_its_four_ways() {
    let mut seen = Vec::new();
    for how in 0..4 {
        let mut bench = Bench::new();
        bench.write(0x105, 1);
        bench.write(0x104, 1);
        for operator in [0, 3, 8, 11] {
            bench.plain(operator);
            bench.write(operator + 0x40, 0x0C);
        }
        bench.write(0x2B, 0x22);
        bench.write(0xC0, 0x30 | how & 1);
        bench.write(0xC3, 0x30 | how >> 1);
        bench.key(0, 580, 4);
        // The second channel's own key and pitch mean nothing.
        bench.write(0xB3, 0x00);
        let frames = bench.hear(100_000_000);
        assert!(peak(&frames) > 500, "{how}");
        assert!(!seen.contains(&frames), "{how}");
        seen.push(frames);
    }
}

#[test]
fn channels_go_left_and_right_in_an_opl3_only() {
    let mut bench = Bench::new();
    bench.silent(0);
    bench.plain(3);
    bench.write(0xC0, 0x10);
    bench.key(0, 580, 4);
    let both = bench.hear(10_000_000);
    assert!(both.iter().all(|frame| frame[0] == frame[1]));
    bench.write(0x105, 1);
    let left = bench.hear(10_000_000);
    assert!(peak(&left) > 3000 && left.iter().all(|frame| frame[1] == 0));
}

#[test]
fn the_rhythm_has_five_voices() {
    for bit in 0..5 {
        let mut bench = Bench::new();
        for operator in [0x10, 0x11, 0x12, 0x13, 0x14, 0x15] {
            bench.plain(operator);
            bench.write(operator + 0x80, 0x06);
        }
        for channel in 6..9 {
            bench.write(0xA0 + channel, 0x57);
            bench.write(0xB0 + channel, 0x09);
        }
        bench.write(0xBD, 0x20);
        assert!(!bench.chip.is_sounding());
        bench.write(0xBD, 0x20 | 1 << bit);
        assert!(peak(&bench.hear(50_000_000)) > 3_000, "drum {bit}");
        bench.write(0xBD, 0x20);
        bench.hear(5_000_000_000);
        assert!(!bench.chip.is_sounding(), "drum {bit}");
    }
}

#[test]
fn tremolo_and_vibrato_move_loudness_and_pitch() {
    let mut bench = Bench::new();
    bench.silent(0);
    bench.plain(3);
    bench.write(0x23, 0xA1);
    bench.write(0xBD, 0x80);
    bench.key(0, 580, 4);
    let frames = bench.hear(300_000_000);
    let parts: Vec<i16> = frames.chunks(500).map(peak).collect();
    let (most, least) = (parts.iter().max().unwrap(), parts.iter().min().unwrap());
    // 4.8 dB.
    let ratio = f64::from(*most) / f64::from(*least);
    assert!((1.6..1.8).contains(&ratio), "{ratio}");
    let mut bench = Bench::new();
    bench.silent(0);
    bench.plain(3);
    bench.write(0x23, 0x61);
    bench.write(0xBD, 0x40);
    bench.key(0, 580, 4);
    let frames = bench.hear(500_000_000);
    let hertz = 580.0 * 16.0 * 49_715.9 / 1_048_576.0;
    let strength = strength(&frames, hertz);
    assert!(strength < 4_000.0, "{strength}");
}

#[test]
fn random_programs_make_no_difference_to_how_they_are_watched_and_none_panics() {
    let run = |step_ns: u64| {
        let mut rng = platform::testkit::Rng::new(0x0991_3812);
        let mut bench = Bench::new();
        let mut frames = Vec::new();
        for _ in 0..3000 {
            let register = rng.below(512) as u16;
            bench.write(register, rng.next_u64() as u8);
            let until = bench.now_ns + 60_000;
            while bench.now_ns < until {
                frames.extend(bench.hear(step_ns));
            }
        }
        (frames, bench.chip.state)
    };
    let (one, two) = (run(60_000), run(20_000));
    assert!(one.0 == two.0 && one.1 == two.1);
}
