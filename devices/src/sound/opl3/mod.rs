//! Yamaha YMF262 (OPL3): 36 operators of frequency modulation, two timers.
//!
//! Source: Yamaha, YMF262 Application Manual (1991); for what it leaves out, see `tables.rs`.
//!
//! | port | what |
//! |---|---|
//! | 0 | reads: status; writes: the index of a register of bank 0 |
//! | 1 | the register, of whichever bank the index was for |
//! | 2 | the index of a register of bank 1 |
//! | 3 | as 1 |
//!
//! A sample comes every 288 clocks of 14.31818 MHz. Envelopes and vibrato follow the number of the
//! sample since the machine was switched on, so that nothing has to move while nothing sounds.
//!
//! Not modelled: the channels C and D, which no card has, the test register, and the order in which
//! the chip looks at its operators within a sample.

mod operator;
mod tables;

use platform::Sound;
use serde::{Deserialize, Serialize};

use operator::{Operator, Settings, Shared};

/// Samples are so many clocks apart, of a clock of so many Hz.
const CLOCKS: u64 = 288;
const CLOCK_HZ: u64 = 14_318_180;
/// Timer 1 counts every 4 samples, timer 2 every 16.
const TIMER_SAMPLES: [u64; 2] = [4, 16];
/// What a read of the status takes at least, in nanoseconds, on the bus of any card. Programs that
/// look for the chip wait by reading, and a machine whose time follows the wall is faster.
const POLL_NS: u64 = 1000;
const CHANNELS: usize = 18;
/// Operators of channels 7 and 8, which have the rhythm.
const HIGH_HAT: usize = 13;
const SNARE: usize = 16;
const TOM: usize = 14;
const CYMBAL: usize = 17;
/// Tremolo goes up and down in so many steps of 64 samples.
const TREMOLO_STEPS: u64 = 210;

/// The register BDh: depth, rhythm and its keys.
const RHYTHM: u8 = 0x20;

/// One of the two timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Timer {
    /// Since which tick it counts, where it does.
    since: Option<u64>,
    /// How often it had gone round when its flag was last cleared.
    cleared: u64,
    /// How often the status was read since it was started.
    polls: u64,
}

/// All that is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The register that was named last, of 512.
    index: u16,
    registers: Vec<u8>,
    operators: Vec<Operator>,
    noise: u32,
    timers: [Timer; 2],
    /// The number of the next sample, while anything sounds.
    next: u64,
    sounding: bool,
    /// Samples that have not been handed out.
    frames: Vec<[i16; 2]>,
}

/// What registers say about a channel.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    feedback: u8,
    /// The first operator is heard, rather than that it modulates.
    adds: bool,
    left: bool,
    right: bool,
    /// The first or the second channel of one of four operators.
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    First,
    Second,
}

/// The chip.
#[derive(Clone, Debug)]
pub struct Opl3 {
    state: State,
    /// What follows from the registers.
    settings: Vec<Settings>,
    channels: [Channel; CHANNELS],
}

/// The number of a channel's first operator; the second one is three further.
fn operator_of(channel: usize) -> usize {
    channel / 9 * 18 + channel % 9 / 3 * 6 + channel % 3
}

/// The channel of an operator.
fn channel_of(operator: usize) -> usize {
    operator / 18 * 9 + operator % 18 / 6 * 3 + operator % 3
}

/// The sample that `now_ns` is in.
fn sample_at(now_ns: u64) -> u64 {
    (u128::from(now_ns) * u128::from(CLOCK_HZ) / (u128::from(CLOCKS) * 1_000_000_000)) as u64
}

/// When a sample begins.
fn ns_of(sample: u64) -> u64 {
    let clocks = u128::from(sample) * u128::from(CLOCKS) * 1_000_000_000;
    u64::try_from(clocks.div_ceil(u128::from(CLOCK_HZ))).unwrap_or(u64::MAX)
}

impl Default for Opl3 {
    fn default() -> Self {
        Self::new()
    }
}

impl Opl3 {
    /// The chip after reset.
    pub fn new() -> Self {
        let state = State {
            index: 0,
            registers: vec![0; 512],
            operators: vec![Operator::default(); 36],
            noise: 1,
            timers: Default::default(),
            next: 0,
            sounding: false,
            frames: Vec::new(),
        };
        Self::from_state(state)
    }

    fn from_state(state: State) -> Self {
        let mut chip = Self {
            state,
            settings: vec![Settings::default(); 36],
            channels: Default::default(),
        };
        chip.settle();
        chip
    }

    /// Whether samples have to be taken by [`take`](Self::take) at [`next_ns`](Self::next_ns).
    pub fn is_sounding(&self) -> bool {
        self.state.sounding
    }

    /// When samples are to be taken.
    pub fn next_ns(&self) -> u64 {
        // A piece is at most as long as it may be, whoever asked for the last one.
        let most = Sound::MOST_NS * CLOCK_HZ / CLOCKS / 1_000_000_000;
        ns_of(
            self.state
                .next
                .saturating_sub(self.state.frames.len() as u64)
                + most,
        )
    }

    /// Reads port `port` of four.
    pub fn read(&mut self, now_ns: u64, port: u64) -> u8 {
        match port & 3 {
            0 => {
                let running = self.state.timers.iter_mut();
                for timer in running.filter(|timer| timer.since.is_some()) {
                    timer.polls = timer.polls.saturating_add(1);
                }
                self.status(now_ns)
            }
            _ => 0xFF,
        }
    }

    /// Writes port `port` of four.
    pub fn write(&mut self, now_ns: u64, port: u64, value: u8) {
        match port & 3 {
            0 => self.state.index = value.into(),
            // Without NEW only bank 0 is there, and the register with NEW in it.
            2 if self.is_new() || value == 5 => self.state.index = 0x100 | u16::from(value),
            2 => self.state.index = value.into(),
            _ => self.write_register(now_ns, self.state.index, value),
        }
    }

    /// The chip is an OPL3, as software chose.
    fn is_new(&self) -> bool {
        self.state.registers[0x105] & 1 != 0
    }

    fn status(&self, now_ns: u64) -> u8 {
        let mut status = 0;
        for (number, bit) in [(0, 0x40), (1, 0x20)] {
            let timer = &self.state.timers[number];
            let masked = self.state.registers[4] & bit != 0;
            if !masked && self.rounds(now_ns, number) > timer.cleared {
                status |= 0x80 | bit;
            }
        }
        status
    }

    /// How often a timer has gone round since it was started.
    fn rounds(&self, now_ns: u64, number: usize) -> u64 {
        let Timer { since, polls, .. } = self.state.timers[number];
        let Some(since) = since else {
            return 0;
        };
        let polled = sample_at(polls.saturating_mul(POLL_NS)) / TIMER_SAMPLES[number];
        let ticks = (sample_at(now_ns) / TIMER_SAMPLES[number]).saturating_sub(since);
        let ticks = ticks.max(polled);
        ticks / (256 - u64::from(self.state.registers[2 + number]))
    }

    fn write_register(&mut self, now_ns: u64, index: u16, value: u8) {
        self.run(now_ns);
        if index == 4 {
            return self.write_timer_control(now_ns, value);
        }
        self.state.registers[usize::from(index)] = value;
        // Those of timers and tests change no sound.
        if index & 0xFF < 0x20 && !matches!(index, 0x008 | 0x104 | 0x105) {
            return;
        }
        self.settle();
        self.press_keys(now_ns);
    }

    fn write_timer_control(&mut self, now_ns: u64, value: u8) {
        let rounds = [0, 1].map(|number| self.rounds(now_ns, number));
        if value & 0x80 != 0 {
            // Only the flags are cleared.
            let control = self.state.registers[4];
            for (number, timer) in self.state.timers.iter_mut().enumerate() {
                timer.cleared = rounds[number];
                if control >> number & 1 == 0 {
                    *timer = Timer::default();
                }
            }
            return;
        }
        self.state.registers[4] = value;
        for (number, timer) in self.state.timers.iter_mut().enumerate() {
            let runs = value >> number & 1 != 0;
            match (runs, timer.since) {
                (true, None) => {
                    timer.since = Some(sample_at(now_ns) / TIMER_SAMPLES[number]);
                    timer.cleared = 0;
                    timer.polls = 0;
                }
                // A flag that is up stays so.
                (false, Some(_)) if rounds[number] == timer.cleared => *timer = Timer::default(),
                _ => {}
            }
        }
    }

    /// Works out what the registers say.
    fn settle(&mut self) {
        let registers = &self.state.registers;
        let new = registers[0x105] & 1 != 0;
        let split = registers[8] & 0x40 != 0;
        for channel in 0..CHANNELS {
            let (bank, number) = (channel / 9 * 0x100, channel % 9);
            let how = registers[bank + 0xC0 + number];
            let pair = channel / 9 * 3 + number % 3;
            let four = new && number < 6 && registers[0x104] >> pair & 1 != 0;
            self.channels[channel] = Channel {
                feedback: how >> 1 & 7,
                adds: how & 1 != 0,
                left: !new || how & 0x10 != 0,
                right: !new || how & 0x20 != 0,
                part: match (four, number < 3) {
                    (false, _) => None,
                    (true, true) => Some(Part::First),
                    (true, false) => Some(Part::Second),
                },
            };
        }
        for operator in 0..36 {
            let channel = channel_of(operator);
            // The first channel of a pair says what all four operators play.
            let plays = match self.channels[channel].part {
                Some(Part::Second) => channel - 3,
                _ => channel,
            };
            let (bank, number) = (plays / 9 * 0x100, plays % 9);
            let high = registers[bank + 0xB0 + number];
            let tone = u32::from(high & 3) << 8 | u32::from(registers[bank + 0xA0 + number]);
            let at = operator / 18 * 0x100 + operator % 18 / 6 * 8 + operator % 6;
            let own = [0x20, 0x40, 0x60, 0x80, 0xE0].map(|base| registers[at + base]);
            self.settings[operator] = Settings::new(
                own,
                tone,
                u32::from(high >> 2 & 7),
                split,
                if new { 7 } else { 3 },
            );
        }
    }

    /// Presses and releases the keys of all operators as the registers have them.
    fn press_keys(&mut self, now_ns: u64) {
        let State {
            registers,
            operators,
            ..
        } = &mut self.state;
        let rhythm = registers[0xBD];
        let drum = |bit: u8| rhythm & RHYTHM != 0 && rhythm >> bit & 1 != 0;
        let mut press = |operator: usize, key, down| {
            operators[operator].key(key, down, &self.settings[operator]);
        };
        for channel in 0..CHANNELS {
            let holds = match self.channels[channel].part {
                Some(Part::Second) => channel - 3,
                _ => channel,
            };
            let down = registers[holds / 9 * 0x100 + 0xB0 + holds % 9] & 0x20 != 0;
            let first = operator_of(channel);
            press(first, 1, down);
            press(first + 3, 1, down);
        }
        let bass = operator_of(6);
        for (operator, bit) in [
            (bass, 4),
            (bass + 3, 4),
            (SNARE, 3),
            (TOM, 2),
            (CYMBAL, 1),
            (HIGH_HAT, 0),
        ] {
            press(operator, 2, drum(bit));
        }
        if !self.state.sounding && !self.is_silent() {
            self.state.sounding = true;
            self.state.next = sample_at(now_ns);
            self.state.frames.clear();
        }
    }

    fn is_silent(&self) -> bool {
        let operators = self.state.operators.iter().zip(&self.settings);
        operators.fold(true, |silent, (operator, settings)| {
            silent && operator.is_silent(settings)
        })
    }

    /// Makes the samples until `now_ns`.
    fn run(&mut self, now_ns: u64) {
        let end = sample_at(now_ns);
        // Whoever is called late makes a longer piece, but none of any length.
        let most = 8 * (Sound::MOST_NS * CLOCK_HZ / CLOCKS / 1_000_000_000) as usize;
        while self.state.sounding && self.state.next < end {
            if self.state.frames.len() >= most {
                self.state.next = end;
                return;
            }
            let frame = self.sample();
            self.state.frames.push(frame);
            self.state.next += 1;
        }
    }

    /// The samples until `now_ns`, as the stream `stream`. Afterwards it may be that nothing
    /// sounds.
    pub fn take(&mut self, now_ns: u64, stream: u8) -> Option<Sound> {
        if !self.state.sounding {
            return None;
        }
        self.run(now_ns);
        let frames = std::mem::take(&mut self.state.frames);
        self.state.sounding = !self.is_silent();
        Some(Sound {
            stream,
            start_ns: ns_of(self.state.next.saturating_sub(frames.len() as u64)),
            rate_millihertz: CLOCK_HZ * 1000 / CLOCKS,
            frames,
        })
    }

    fn sample(&mut self) -> [i16; 2] {
        let sample = self.state.next;
        let depth = self.state.registers[0xBD];
        let step = sample / 64 % TREMOLO_STEPS;
        let tremolo = step.min(TREMOLO_STEPS - step) as u16;
        let shared = Shared {
            sample,
            tremolo: tremolo >> if depth & 0x80 != 0 { 2 } else { 4 },
            vibrato: ((sample >> 10) as u32 & 7, depth & 0x40 != 0),
        };
        for (operator, settings) in self.state.operators.iter_mut().zip(&self.settings) {
            operator.advance(settings, &shared);
        }
        let noise = self.state.noise;
        self.state.noise = noise >> 1 | ((noise ^ noise >> 14) & 1) << 22;
        let mut sums = [0i32; 2];
        let rhythm = depth & RHYTHM != 0;
        for number in 0..CHANNELS {
            let channel = self.channels[number];
            let value = match (channel.part, number) {
                (Some(Part::Second), _) => continue,
                (Some(Part::First), _) => self.four(number, &shared),
                (None, 6) if rhythm => 2 * self.bass(&shared),
                (None, 7) if rhythm => 2 * self.snare_and_hat(&shared),
                (None, 8) if rhythm => 2 * self.tom_and_cymbal(&shared),
                (None, _) => self.two(number, &shared),
            };
            sums[0] += if channel.left { value } else { 0 };
            sums[1] += if channel.right { value } else { 0 };
        }
        sums.map(|sum| sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16)
    }

    /// The next sample of an operator at its own phase, with `modulation` added.
    fn operator(&mut self, number: usize, shared: &Shared, modulation: i32) -> i32 {
        let operator = &mut self.state.operators[number];
        let phase = operator.phase().wrapping_add(modulation as u32);
        operator.sound(&self.settings[number], shared, phase)
    }

    /// The first operator of a channel, which modulates itself.
    fn first(&mut self, channel: usize, shared: &Shared) -> i32 {
        let number = operator_of(channel);
        let [one, two] = self.state.operators[number].out;
        let back = match self.channels[channel].feedback {
            0 => 0,
            feedback => (i32::from(one) + i32::from(two)) >> (9 - feedback),
        };
        self.operator(number, shared, back)
    }

    /// A channel of two operators.
    fn two(&mut self, channel: usize, shared: &Shared) -> i32 {
        let second = operator_of(channel) + 3;
        if self.state.operators[second].is_silent(&self.settings[second])
            && self.state.operators[second - 3].is_silent(&self.settings[second - 3])
        {
            return 0;
        }
        let first = self.first(channel, shared);
        match self.channels[channel].adds {
            true => first + self.operator(second, shared, 0),
            false => self.operator(second, shared, first),
        }
    }

    /// A channel of four operators, of which this is the first half.
    fn four(&mut self, channel: usize, shared: &Shared) -> i32 {
        let (b, c) = (operator_of(channel) + 3, operator_of(channel + 3));
        let d = c + 3;
        let one = self.first(channel, shared);
        match (self.channels[channel].adds, self.channels[channel + 3].adds) {
            (false, false) => {
                let two = self.operator(b, shared, one);
                let three = self.operator(c, shared, two);
                self.operator(d, shared, three)
            }
            (false, true) => {
                let two = self.operator(b, shared, one);
                let three = self.operator(c, shared, 0);
                two + self.operator(d, shared, three)
            }
            (true, false) => {
                let two = self.operator(b, shared, 0);
                let three = self.operator(c, shared, two);
                one + self.operator(d, shared, three)
            }
            (true, true) => {
                let two = self.operator(b, shared, 0);
                let three = self.operator(c, shared, two);
                one + three + self.operator(d, shared, 0)
            }
        }
    }

    /// The bass drum: its first operator is never heard by itself.
    fn bass(&mut self, shared: &Shared) -> i32 {
        let first = self.first(6, shared);
        let modulation = if self.channels[6].adds { 0 } else { first };
        self.operator(operator_of(6) + 3, shared, modulation)
    }

    /// What high hat and cymbal make of the phases of theirs.
    fn metal(&self) -> u32 {
        let hat = self.state.operators[HIGH_HAT].phase();
        let cymbal = self.state.operators[CYMBAL].phase();
        let bit = |phase: u32, bit: u32| phase >> bit & 1;
        (bit(hat, 2) ^ bit(hat, 7))
            | (bit(hat, 3) ^ bit(cymbal, 5))
            | (bit(cymbal, 3) ^ bit(cymbal, 5))
    }

    fn at_phase(&mut self, number: usize, shared: &Shared, phase: u32) -> i32 {
        self.state.operators[number].sound(&self.settings[number], shared, phase)
    }

    fn snare_and_hat(&mut self, shared: &Shared) -> i32 {
        let (metal, noise) = (self.metal(), self.state.noise & 1);
        let fine = if metal ^ noise != 0 { 0xD0 } else { 0x34 };
        let high = self.state.operators[HIGH_HAT].phase() >> 8 & 1;
        let hat = self.at_phase(HIGH_HAT, shared, metal << 9 | fine);
        hat + self.at_phase(SNARE, shared, high << 9 | (high ^ noise) << 8)
    }

    fn tom_and_cymbal(&mut self, shared: &Shared) -> i32 {
        let cymbal = self.metal() << 9 | 0x80;
        self.operator(TOM, shared, 0) + self.at_phase(CYMBAL, shared, cymbal)
    }
}

impl PartialEq for Opl3 {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl Eq for Opl3 {}

impl Serialize for Opl3 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Opl3 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let state = State::deserialize(deserializer)?;
        if state.registers.len() != 512 || state.operators.len() != 36 || state.index >= 512 {
            return Err(serde::de::Error::custom("no YMF262 has so many registers"));
        }
        Ok(Self::from_state(state))
    }
}

#[cfg(test)]
mod tests;
