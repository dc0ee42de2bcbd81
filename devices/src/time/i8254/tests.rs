use super::*;
use platform::testkit::{advance, bus_with_regions};
use platform::{Bus, Input, StateError};

platform::device_contract!(
    contract,
    I8254::new(),
    [(I8254::PORTS, 4, 1), (I8254::PORT_B, 1, 1)]
);

#[test]
fn ticks_and_nanoseconds_are_exact_over_the_whole_range() {
    for n in 0..64 {
        for value in [1u64 << n, (1 << n) + 17, (1 << n) - 1, u64::MAX >> n] {
            let wide = u128::from(value);
            assert_eq!(u128::from(tick_at(value)), wide * 105 / 88_000);
            let ns = u64::try_from((wide * 88_000).div_ceil(105)).unwrap_or(u64::MAX);
            assert_eq!(ns_of(value), ns);
        }
    }
}

#[test]
fn looking_often_and_looking_seldom_end_in_the_same_state() {
    let run = |often: bool| {
        let mut bus = pit();
        // Mode 2 on counter 0, mode 3 on the others, with short periods; the speaker's gate opens
        // later.
        for (control, counter) in [(0x34, 0x40), (0x76, 0x41), (0xB6, 0x42)] {
            bus.pio_write(0x43, 1, control);
            bus.pio_write(counter, 1, 37);
            bus.pio_write(counter, 1, 0);
        }
        let mut seen = Vec::new();
        for round in 0u32..400 {
            if round % 64 == 0 {
                bus.pio_write(0x61, 1, (round / 64) & 1);
            }
            for _ in 0..100 {
                advance(&mut bus, 131);
                if often {
                    bus.pio_read(0x61, 1);
                    bus.pio_write(0x61, 1, (round / 64) & 1);
                }
            }
            bus.pio_write(0x43, 1, 0xCE);
            for counter in 0x40..0x43 {
                seen.extend([0; 3].map(|_| bus.pio_read(counter, 1)));
            }
        }
        let (_, pit) = bus.devices().next().unwrap();
        (seen, pit.save(), bus.events.next_deadline_ns())
    };
    assert!(run(true) == run(false));
}

fn pit() -> Bus {
    bus_with_regions(Box::new(I8254::new()), I8254::MAP)
}

/// Moves on to the first instant of the tick that is `ticks` further.
fn tick(bus: &mut Bus, ticks: u64) {
    let target = tick_at(bus.clock.now_ns()) + ticks;
    let ns = ns_of(target) - bus.clock.now_ns();
    advance(bus, ns);
    assert_eq!(tick_at(bus.clock.now_ns()), target);
}

fn program(bus: &mut Bus, counter: u16, mode: u32, count: u32) {
    bus.pio_write(0x43, 1, u32::from(counter) << 6 | 0x30 | mode << 1);
    bus.pio_write(0x40 + counter, 1, count & 0xFF);
    bus.pio_write(0x40 + counter, 1, count >> 8);
}

fn count(bus: &mut Bus, counter: u16) -> u32 {
    bus.pio_write(0x43, 1, u32::from(counter) << 6);
    let low = bus.pio_read(0x40 + counter, 1);
    low | bus.pio_read(0x40 + counter, 1) << 8
}

fn status(bus: &mut Bus, counter: u16) -> u32 {
    bus.pio_write(0x43, 1, 0xE0 | 2 << counter);
    bus.pio_read(0x40 + counter, 1)
}

fn out(bus: &mut Bus, counter: u16) -> bool {
    status(bus, counter) & 0x80 != 0
}

/// OUT of a counter at each of the next `ticks` ticks, as a string of 0 and 1.
fn wave(bus: &mut Bus, counter: u16, ticks: u64) -> String {
    let mut wave = String::new();
    for _ in 0..ticks {
        wave.push(if out(bus, counter) { '1' } else { '0' });
        tick(bus, 1);
    }
    wave
}

fn gate2(bus: &mut Bus, gate: bool) {
    bus.pio_write(0x61, 1, gate.into());
}

/// Counts rising edges of IRQ 0.
struct Edges(u32);

impl Device for Edges {
    fn name(&self) -> &'static str {
        "edges"
    }
    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8) -> u64 {
        self.0.into()
    }
    fn write(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, _: u64) {
        self.0 = 0;
    }
    fn on_input(&mut self, _: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Line { level: true, .. } = input {
            self.0 += 1;
        }
    }
    fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
    fn state(&self) -> StateView<'_> {
        StateView::of(1, self.0)
    }
    fn restore(&mut self, _: &SavedState) -> Result<(), StateError> {
        Ok(())
    }
}

fn with_edge_counter(bus: &mut Bus) {
    let edges = bus.add(Box::new(Edges(0)));
    bus.map_ports(edges, 0, 0x80, 1, 1);
    bus.connect(IrqLine::isa(0), edges);
}

#[test]
fn a_second_has_1193181_ticks_and_ns_of_is_the_inverse() {
    assert_eq!(tick_at(1_000_000_000), 1_193_181);
    for tick in [0, 1, 2, 104, 105, 106, 1_193_181, u64::from(u32::MAX)] {
        assert_eq!(tick_at(ns_of(tick)), tick);
        assert!(tick == 0 || tick_at(ns_of(tick) - 1) == tick - 1);
    }
}

#[test]
fn mode_0_goes_high_one_tick_more_than_the_count_after_the_write() {
    let mut bus = pit();
    program(&mut bus, 0, 0, 4);
    assert_eq!(wave(&mut bus, 0, 8), "00000111");
    program(&mut bus, 0, 0, 3);
    assert_eq!(wave(&mut bus, 0, 5), "00001");
}

#[test]
fn mode_0_counts_on_below_zero_and_its_first_byte_stops_it() {
    let mut bus = pit();
    program(&mut bus, 0, 0, 2);
    tick(&mut bus, 4);
    assert_eq!(count(&mut bus, 0), 0xFFFF);
    bus.pio_write(0x40, 1, 5);
    assert!(!out(&mut bus, 0));
    let stopped = count(&mut bus, 0);
    tick(&mut bus, 9);
    assert_eq!(count(&mut bus, 0), stopped);
    bus.pio_write(0x40, 1, 0);
    tick(&mut bus, 1);
    assert_eq!(count(&mut bus, 0), 5);
}

#[test]
fn mode_0_gate_holds_the_count_and_not_the_output() {
    let mut bus = pit();
    gate2(&mut bus, true);
    program(&mut bus, 2, 0, 10);
    tick(&mut bus, 5);
    assert_eq!(count(&mut bus, 2), 6);
    gate2(&mut bus, false);
    tick(&mut bus, 50);
    assert_eq!(count(&mut bus, 2), 6);
    gate2(&mut bus, true);
    tick(&mut bus, 5);
    assert!(!out(&mut bus, 2));
    tick(&mut bus, 1);
    assert!(out(&mut bus, 2));
    assert_eq!(bus.pio_read(0x61, 1) & 0x20, 0x20);
}

#[test]
fn mode_1_is_low_for_the_count_after_each_trigger() {
    let mut bus = pit();
    program(&mut bus, 2, 1, 3);
    assert_eq!(wave(&mut bus, 2, 3), "111");
    gate2(&mut bus, true);
    assert_eq!(wave(&mut bus, 2, 6), "100011");
    gate2(&mut bus, false);
    gate2(&mut bus, true);
    tick(&mut bus, 2);
    gate2(&mut bus, false);
    gate2(&mut bus, true);
    assert_eq!(wave(&mut bus, 2, 6), "000011", "a trigger starts over");
}

#[test]
fn mode_2_is_low_for_the_last_tick_of_each_period() {
    let mut bus = pit();
    program(&mut bus, 0, 2, 3);
    assert_eq!(wave(&mut bus, 0, 10), "1110110110");
    let counts: Vec<_> = (0..4)
        .map(|_| {
            let count = count(&mut bus, 0);
            tick(&mut bus, 1);
            count
        })
        .collect();
    assert_eq!(counts, [3, 2, 1, 3]);
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
    let mut bus = pit();
    program(&mut bus, 0, 2, 5);
    tick(&mut bus, 2);
    bus.pio_write(0x40, 1, 2);
    bus.pio_write(0x40, 1, 0);
    assert_eq!(status(&mut bus, 0) & 0x40, 0x40, "null count until then");
    assert_eq!(wave(&mut bus, 0, 8), "11101010");
    assert_eq!(status(&mut bus, 0) & 0x40, 0);
}

#[test]
fn mode_2_gate_forces_the_output_high_and_reloads() {
    let mut bus = pit();
    gate2(&mut bus, true);
    program(&mut bus, 2, 2, 3);
    tick(&mut bus, 3);
    assert!(!out(&mut bus, 2));
    gate2(&mut bus, false);
    assert!(out(&mut bus, 2));
    tick(&mut bus, 7);
    gate2(&mut bus, true);
    assert_eq!(wave(&mut bus, 2, 5), "11101");
}

#[test]
fn mode_3_is_a_square_wave_and_odd_counts_are_longer_high() {
    let mut bus = pit();
    program(&mut bus, 0, 3, 4);
    assert_eq!(wave(&mut bus, 0, 10), "1110011001");
    program(&mut bus, 0, 3, 5);
    assert_eq!(wave(&mut bus, 0, 11), "11110011100");
    program(&mut bus, 0, 3, 6);
    tick(&mut bus, 1);
    let counts: Vec<_> = (0..6)
        .map(|_| {
            let count = count(&mut bus, 0);
            tick(&mut bus, 1);
            count
        })
        .collect();
    assert_eq!(counts, [6, 4, 2, 6, 4, 2]);
}

#[test]
fn mode_4_strobes_once() {
    let mut bus = pit();
    program(&mut bus, 0, 4, 2);
    assert_eq!(wave(&mut bus, 0, 7), "1110111");
}

#[test]
fn mode_5_strobes_after_a_trigger() {
    let mut bus = pit();
    program(&mut bus, 2, 5, 2);
    assert_eq!(wave(&mut bus, 2, 3), "111");
    gate2(&mut bus, true);
    assert_eq!(wave(&mut bus, 2, 6), "111011");
}

#[test]
fn bcd_counts_in_decimal() {
    let mut bus = pit();
    bus.pio_write(0x43, 1, 0x35);
    bus.pio_write(0x40, 1, 0x00);
    bus.pio_write(0x40, 1, 0x10);
    tick(&mut bus, 2);
    assert_eq!(count(&mut bus, 0), 0x0999);
    bus.pio_write(0x43, 1, 0x31);
    bus.pio_write(0x40, 1, 0);
    bus.pio_write(0x40, 1, 0);
    tick(&mut bus, 3);
    assert_eq!(count(&mut bus, 0), 0x9998, "0 stands for 10000");
}

#[test]
fn a_latched_count_stays_until_it_is_read() {
    let mut bus = pit();
    program(&mut bus, 0, 2, 0x1234);
    tick(&mut bus, 1);
    bus.pio_write(0x43, 1, 0x00);
    tick(&mut bus, 7);
    bus.pio_write(0x43, 1, 0x00);
    assert_eq!(bus.pio_read(0x40, 1), 0x34);
    tick(&mut bus, 7);
    assert_eq!(bus.pio_read(0x40, 1), 0x12);
    assert_eq!(bus.pio_read(0x40, 1), 0x34 - 14);
}

#[test]
fn read_back_latches_status_before_count() {
    let mut bus = pit();
    program(&mut bus, 1, 2, 9);
    tick(&mut bus, 2);
    bus.pio_write(0x43, 1, 0xC4);
    assert_eq!(bus.pio_read(0x41, 1), 0xB4);
    assert_eq!(bus.pio_read(0x41, 1), 8);
    assert_eq!(bus.pio_read(0x41, 1), 0);
}

#[test]
fn the_status_shows_the_control_word_as_written() {
    let mut bus = pit();
    for (control, mode) in [(0xBC, 2), (0xBE, 3)] {
        bus.pio_write(0x43, 1, control);
        bus.pio_write(0x43, 1, 0xE8);
        // OUT is high, and no count is loaded.
        assert_eq!(bus.pio_read(0x42, 1), 0xC0 | control & 0x3F, "mode {mode}");
    }
}

#[test]
fn single_byte_accesses_mean_the_byte_that_the_control_word_names() {
    let mut bus = pit();
    bus.pio_write(0x43, 1, 0x64);
    bus.pio_write(0x41, 1, 2);
    tick(&mut bus, 1);
    assert_eq!(bus.pio_read(0x41, 1), 2);
    assert_eq!(count(&mut bus, 1) & 0xFF00, 0x0200);
    bus.pio_write(0x43, 1, 0x54);
    bus.pio_write(0x41, 1, 7);
    tick(&mut bus, 2);
    assert_eq!(bus.pio_read(0x41, 1), 6);
    assert_eq!(bus.pio_read(0x41, 1), 6);
}

#[test]
fn irq_0_rises_once_a_period_at_the_exact_nanosecond() {
    for mode in [2, 3] {
        let mut bus = pit();
        with_edge_counter(&mut bus);
        program(&mut bus, 0, mode, 11932);
        bus.pio_write(0x80, 1, 0);
        advance(&mut bus, ns_of(1 + 11932) - 1);
        assert_eq!(bus.pio_read(0x80, 1), 0, "mode {mode}");
        advance(&mut bus, 1);
        assert_eq!(bus.pio_read(0x80, 1), 1, "mode {mode}");
        advance(&mut bus, 1_000_000_000);
        assert_eq!(bus.pio_read(0x80, 1), 100, "mode {mode}");
    }
}

#[test]
fn mode_0_interrupts_once() {
    let mut bus = pit();
    with_edge_counter(&mut bus);
    program(&mut bus, 0, 0, 1000);
    advance(&mut bus, ns_of(1001) - 1);
    assert_eq!(bus.pio_read(0x80, 1), 0);
    advance(&mut bus, 1_000_000_000);
    assert_eq!(bus.pio_read(0x80, 1), 1);
}

#[test]
fn a_machine_that_looks_late_still_hears_an_edge() {
    let mut bus = pit();
    with_edge_counter(&mut bus);
    program(&mut bus, 0, 2, 1000);
    tick(&mut bus, 1);
    bus.pio_write(0x80, 1, 0);
    bus.clock.skip_to(ns_of(5500));
    bus.run_due_events();
    assert_eq!(bus.pio_read(0x80, 1), 1);
}

#[test]
fn few_events_are_made() {
    let mut bus = pit();
    program(&mut bus, 1, 2, 18);
    program(&mut bus, 2, 3, 100);
    assert_eq!(bus.events.next_deadline_ns(), None, "only OUT0 is wired");
    program(&mut bus, 0, 0, 0);
    tick(&mut bus, 1);
    assert_eq!(bus.events.next_deadline_ns(), Some(ns_of(0x1_0001)));
}

#[test]
fn port_61_toggles_with_every_refresh() {
    let mut bus = pit();
    bus.pio_write(0x61, 1, 0xFE);
    assert_eq!(bus.pio_read(0x61, 1) & 0xCF, 0x0E);
    let first = bus.pio_read(0x61, 1) & 0x10;
    tick(&mut bus, 18);
    assert_ne!(bus.pio_read(0x61, 1) & 0x10, first);
}

/// What the speaker says until `ns` from now, each with the time at which it starts.
fn heard(bus: &mut Bus, ns: u64) -> Vec<(u64, Vec<i16>)> {
    advance(bus, ns);
    let pieces = std::mem::take(&mut bus.outputs).into_iter();
    let pieces = pieces.filter_map(|output| match output.what {
        Said::Sound(sound) => Some((
            sound.start_ns,
            sound.frames.iter().map(|frame| frame[0]).collect(),
        )),
        _ => None,
    });
    pieces.collect()
}

fn with_speaker() -> Bus {
    bus_with_regions(Box::new(I8254::new().with_speaker(true)), I8254::MAP)
}

#[test]
fn the_speaker_sounds_as_counter_2_does_and_then_rests() {
    let mut bus = with_speaker();
    program(&mut bus, 2, 3, 1193);
    bus.pio_write(0x61, 1, 3);
    let pieces = heard(&mut bus, 100_000_000);
    assert_eq!(pieces.len(), 10);
    let tone: Vec<i16> = pieces.into_iter().flat_map(|(_, frames)| frames).collect();
    assert!((4799..=4801).contains(&tone.len()));
    let rises = tone
        .windows(2)
        .filter(|two| two[0] < 0 && two[1] >= 0)
        .count();
    assert!((98..=101).contains(&rises), "1000 Hz for 100 ms: {rises}");
    bus.pio_write(0x61, 1, 0);
    assert!(heard(&mut bus, 1_000_000_000).len() < 12);
    assert_eq!(bus.events.next_deadline_ns(), None, "silence has no timer");
    assert_eq!(heard(&mut bus, 1_000_000_000), []);
}

#[test]
fn without_a_speaker_and_with_its_gate_shut_nothing_is_said() {
    let mut silent = pit();
    let mut shut = with_speaker();
    for (bus, port_b) in [(&mut silent, 3), (&mut shut, 1)] {
        program(bus, 2, 3, 1193);
        bus.pio_write(0x61, 1, port_b);
        assert_eq!(bus.events.next_deadline_ns(), None);
        assert_eq!(heard(bus, 100_000_000), []);
    }
}

#[test]
fn bit_1_of_port_61_moves_the_speaker_at_its_instant() {
    let mut bus = with_speaker();
    // OUT2 is high, and a program switches at 4 kHz with a duty of one in five.
    program(&mut bus, 2, 3, 0);
    tick(&mut bus, 1);
    for _ in 0..400 {
        bus.pio_write(0x61, 1, 2);
        advance(&mut bus, 50_000);
        bus.pio_write(0x61, 1, 0);
        advance(&mut bus, 200_000);
    }
    let pieces = heard(&mut bus, 1);
    let tone: Vec<i16> = pieces.into_iter().flat_map(|(_, frames)| frames).collect();
    let tone = &tone[2400..];
    let mean = tone.iter().map(|&sample| i64::from(sample)).sum::<i64>() / tone.len() as i64;
    assert!(mean.abs() < 50, "the capacitor keeps the mean away: {mean}");
    let most = tone.iter().max().unwrap();
    assert!(
        (9_300..9_700).contains(most),
        "four fifths of {LOUDNESS}: {most}"
    );
}

#[test]
fn what_is_too_fast_to_hear_costs_nothing_and_is_heard_as_its_mean() {
    let mut bus = with_speaker();
    program(&mut bus, 2, 3, 2);
    bus.pio_write(0x61, 1, 3);
    let pieces = heard(&mut bus, 1_000_000_000);
    let last = &pieces.last().unwrap().1;
    assert!(last.iter().all(|sample| sample.abs() <= 1), "{last:?}");
    // One shots at 16 kHz whose length is the sample: pulse width modulation.
    let mut bus = with_speaker();
    bus.pio_write(0x61, 1, 3);
    bus.pio_write(0x43, 1, 0x90);
    for n in 0..1600u32 {
        let level = if n / 8 % 2 == 0 { 60 } else { 12 };
        bus.pio_write(0x42, 1, level);
        advance(&mut bus, 62_500);
    }
    let pieces = heard(&mut bus, 1);
    let tone: Vec<i16> = pieces.into_iter().flat_map(|(_, frames)| frames).collect();
    let smooth: Vec<i32> = tone
        .windows(6)
        .map(|six| six.iter().map(|&sample| i32::from(sample)).sum::<i32>() / 6)
        .collect();
    let rises = smooth[480..]
        .windows(2)
        .filter(|two| two[0] < 0 && two[1] >= 0);
    assert!((80..110).contains(&rises.count()), "1 kHz for 90 ms");
}

#[test]
fn a_state_without_a_speaker_is_read() {
    let mut bus = pit();
    program(&mut bus, 2, 3, 1193);
    let (_, pit) = bus.devices().next().unwrap();
    let state: State = pit.save().decode(3).unwrap();
    let old = SavedState::encode(2, &(state.counters, state.port_b, state.irq));
    let mut new = I8254::new();
    new.restore(&old).unwrap();
    assert_eq!(new.save(), pit.save());
}

platform::device_contract!(
    contract_with_speaker,
    I8254::new().with_speaker(true),
    [(I8254::PORTS, 4, 1), (I8254::PORT_B, 1, 1)]
);
