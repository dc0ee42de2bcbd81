//! Intel 82801AA AC'97 audio controller, with a SigmaTel STAC9700 codec: the card that QEMU users
//! know as `AC97`.
//!
//! Sources: Intel 82801AA I/O Controller Hub datasheet (290655), chapter 13; Intel, Audio Codec '97
//! 2.1.
//!
//! | region | what |
//! |---|---|
//! | base address 0, 256 ports | the codec's mixer registers, of 16 bits |
//! | base address 1, 64 ports | 00 PCM in, 10 PCM out, 20 microphone |
//! | | 2C global control, 30 global status, 34 semaphore |
//!
//! A channel goes through a list of 32 buffers. How far it is follows from virtual time when
//! somebody looks; a timer waits for the end of its buffer. Whatever a list says, a channel halts
//! at the last valid buffer, which only software moves on, so that no list keeps it busy.
//!
//! Not modelled: recording gives silence; modems, a second codec, tone and power states, which are
//! kept and do nothing.

use log::debug;
use platform::{PhysAddr, Said, SavedState, Sound, StateError, StateView};
use serde::{Deserialize, Serialize};

use crate::pci::{Bar, ConfigSpace, PciCtx, PciDevice, PciFunction};

const TARGET: &str = "ac97";

/// Base addresses.
const MIXER: u8 = 0;
const MASTER: u8 = 1;

/// Mixer registers, by the number of their word: half of that in the manual.
const WORDS: usize = 64;
const RESET: usize = 0;
const MASTER_VOLUME: usize = 1;
const PCM_VOLUME: usize = 12;
const POWER: usize = 19;
const EXTENDED: usize = 21;
const DAC_RATE: usize = 22;
const LAST_RATE: usize = 26;
const MUTE: u16 = 0x8000;
/// Variable rates, in register 2Ah.
const VARIABLE: u16 = 0x0001;
const USUAL_RATE: u16 = 48_000;

/// Power-on values of the mixer's registers.
const POWER_ON: [(u8, u16); 23] = [
    (0x02, 0x8000),
    (0x04, 0x8000),
    (0x06, 0x8000),
    (0x0C, 0x8008),
    (0x0E, 0x8008),
    (0x10, 0x8808),
    (0x12, 0x8808),
    (0x14, 0x8808),
    (0x16, 0x8808),
    (0x18, 0x8808),
    (0x1C, 0x8000),
    (0x1E, 0x8000),
    (0x26, 0x000F),
    // Variable rates for PCM and for the microphone.
    (0x28, 0x0809),
    (0x2A, 0x0009),
    (0x2C, USUAL_RATE),
    (0x2E, USUAL_RATE),
    (0x30, USUAL_RATE),
    (0x32, USUAL_RATE),
    (0x34, USUAL_RATE),
    (0x0A, 0x0000),
    (0x7C, 0x8384),
    (0x7E, 0x7600),
];

/// Amplitudes 1.5 dB apart, from 12 dB on down, of 65536.
const AMPLITUDES: [i32; 64] = [
    260904, 219523, 184706, 155410, 130762, 110022, 92572, 77890, 65536, 55142, 46396, 39037,
    32846, 27636, 23253, 19565, 16462, 13851, 11654, 9806, 8250, 6942, 5841, 4915, 4135, 3479,
    2927, 2463, 2072, 1744, 1467, 1234, 1039, 874, 735, 619, 521, 438, 369, 310, 261, 220, 185,
    155, 131, 110, 93, 78, 66, 55, 46, 39, 33, 28, 23, 20, 16, 14, 12, 10, 8, 7, 6, 5,
];

/// A channel's status.
const HALTED: u8 = 0x01;
const AT_LAST: u8 = 0x02;
const LAST_DONE: u8 = 0x04;
const BUFFER_DONE: u8 = 0x08;
const OVERRUN: u8 = 0x10;
/// A channel's control.
const RUN: u8 = 0x01;
const CLEAR: u8 = 0x02;
const LAST_INTERRUPTS: u8 = 0x04;
const BUFFER_INTERRUPTS: u8 = 0x10;
/// A buffer's flag: interrupt on completion.
const INTERRUPTS: u32 = 1 << 31;

const CHANNELS: usize = 3;
const PCM_OUT: usize = 1;
const GLOBAL_CONTROL: u64 = 0x2C;
const GLOBAL_STATUS: u64 = 0x30;
const SEMAPHORE: u64 = 0x34;
/// Global control: the codec is not in reset; a warm reset, which ends at once.
const COLD: u32 = 0x02;
const WARM: u32 = 0x04;
/// Global status: the codec is ready.
const READY: u32 = 0x100;
/// Global status: interrupts of the channels.
const CAUSES: [u32; CHANNELS] = [0x20, 0x40, 0x80];

/// A channel of the bus master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Channel {
    base: u32,
    current: u8,
    last: u8,
    status: u8,
    /// Samples left in the current buffer.
    left: u16,
    prefetched: u8,
    control: u8,
    /// A buffer was fetched: running goes on in it.
    fetched: bool,
    address: u32,
    flags: u32,
    /// Since when samples have moved at this rate, and how many.
    since_ns: u64,
    moved: u64,
    /// The left sample of a frame whose right one is in the next buffer.
    half: Option<i16>,
}

/// All that is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    mixer: Vec<u16>,
    channels: [Channel; CHANNELS],
    global_control: u32,
    semaphore: bool,
}

/// The controller and its codec.
#[derive(Clone, Debug)]
pub struct Ac97 {
    state: State,
}

impl Channel {
    fn is_moving(&self) -> bool {
        self.control & RUN != 0 && self.status & HALTED == 0
    }

    fn interrupts(&self) -> bool {
        self.status & LAST_DONE != 0 && self.control & LAST_INTERRUPTS != 0
            || self.status & BUFFER_DONE != 0 && self.control & BUFFER_INTERRUPTS != 0
    }

    /// Takes up the next buffer of the list.
    fn fetch(&mut self, ctx: &PciCtx<'_, '_>) {
        self.current = self.prefetched;
        self.prefetched = (self.current + 1) & 31;
        let mut descriptor = [0; 8];
        let at = u64::from(self.base) + u64::from(self.current) * 8;
        ctx.dma_read(PhysAddr(at), &mut descriptor);
        let [a, b, c, d, e, f, g, h] = descriptor;
        self.address = u32::from_le_bytes([a, b, c, d]) & !1;
        self.flags = u32::from_le_bytes([e, f, g, h]);
        self.left = self.flags as u16;
        self.fetched = true;
    }

    /// The current buffer is done: goes on to the next one, or halts.
    fn finish_buffer(&mut self, ctx: &PciCtx<'_, '_>) {
        if self.flags & INTERRUPTS != 0 {
            self.status |= BUFFER_DONE;
        }
        if self.current == self.last {
            self.status |= LAST_DONE | AT_LAST | HALTED;
            self.fetched = false;
        } else {
            self.fetch(ctx);
        }
    }

    /// Starts, or goes on, at `now_ns`.
    fn start(&mut self, ctx: &PciCtx<'_, '_>) {
        self.status &= !(HALTED | AT_LAST);
        self.since_ns = ctx.now_ns();
        self.moved = 0;
        if !self.fetched {
            self.fetch(ctx);
        }
    }
}

impl State {
    fn new() -> Self {
        let mut state = Self {
            mixer: vec![0; WORDS],
            channels: Default::default(),
            global_control: 0,
            semaphore: false,
        };
        state.reset_mixer();
        for channel in &mut state.channels {
            channel.status = HALTED;
        }
        state
    }

    fn reset_mixer(&mut self) {
        self.mixer.fill(0);
        for (register, value) in POWER_ON {
            self.mixer[usize::from(register) / 2] = value;
        }
    }

    /// Frames a second of a channel.
    fn rate(&self, channel: usize) -> u64 {
        let register = [0x32, 0x2C, 0x34][channel] / 2;
        u64::from(self.mixer[register]).clamp(4000, 48_000)
    }

    /// How loud PCM is, left and right.
    fn gains(&self) -> [i32; 2] {
        let (master, pcm) = (self.mixer[MASTER_VOLUME], self.mixer[PCM_VOLUME]);
        if (master | pcm) & MUTE != 0 {
            return [0; 2];
        }
        [8, 0].map(|shift| {
            let steps = |register: u16| usize::from(register >> shift & 0x1F);
            AMPLITUDES[(steps(master) + steps(pcm)).min(63)]
        })
    }

    /// When sample `number` of a channel's is due.
    fn due_ns(&self, channel: usize, number: u64) -> u64 {
        let ns = u128::from(number) * 1_000_000_000 / u128::from(2 * self.rate(channel));
        self.channels[channel].since_ns.saturating_add(ns as u64)
    }
}

/// `sample` at `gain` of 65536.
fn at(gain: i32, sample: i16) -> i16 {
    let value = (i64::from(sample) * i64::from(gain)) >> 16;
    value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

impl Ac97 {
    const VERSION: u32 = 1;

    /// The controller, as a device of the bus.
    pub fn device() -> PciDevice<Self> {
        let config = ConfigSpace::new(0x8086, 0x2415, 0x04_01_00, 0x01)
            .subsystem(0x1AF4, 0x1100)
            .with(0x06, &[0x80, 0x02])
            .bar(MIXER, Bar::Ports(256))
            .bar(MASTER, Bar::Ports(64))
            .bus_master()
            .interrupt_pin(1);
        let state = State::new();
        PciDevice::new(config, Self { state })
    }

    /// Moves what is due of a channel's samples.
    fn run(&mut self, ctx: &mut PciCtx<'_, '_>, number: usize) {
        let now_ns = ctx.now_ns();
        let rate = self.state.rate(number);
        let gains = self.state.gains();
        let channel = &mut self.state.channels[number];
        if !channel.is_moving() {
            return;
        }
        let passed = u128::from(now_ns.saturating_sub(channel.since_ns));
        // Whole frames, as a codec takes them.
        let due = (passed * u128::from(rate) / 1_000_000_000) as u64 * 2;
        let start_ns = self.state.due_ns(number, self.state.channels[number].moved);
        let channel = &mut self.state.channels[number];
        let mut frames = Vec::new();
        while channel.is_moving() && (channel.moved < due || channel.left == 0) {
            if channel.left == 0 {
                channel.finish_buffer(ctx);
                continue;
            }
            let count = (due - channel.moved).min(channel.left.into()) as usize;
            let mut bytes = vec![0; 2 * count];
            let address = PhysAddr(channel.address.into());
            if number == PCM_OUT {
                ctx.dma_read(address, &mut bytes);
                for sample in bytes.chunks_exact(2) {
                    let sample = i16::from_le_bytes([sample[0], sample[1]]);
                    match channel.half.take() {
                        Some(left) => frames.push([at(gains[0], left), at(gains[1], sample)]),
                        None => channel.half = Some(sample),
                    }
                }
            } else {
                ctx.dma_write(address, &bytes);
            }
            channel.address = channel.address.wrapping_add(2 * count as u32);
            channel.left -= count as u16;
            channel.moved += count as u64;
        }
        if channel.status & HALTED != 0 {
            channel.half = None;
        }
        if !frames.is_empty() {
            ctx.output(Said::Sound(Sound {
                stream: 0,
                start_ns,
                rate_millihertz: rate * 1000,
                frames,
            }));
        }
    }

    /// Moves what is due of all channels.
    fn run_all(&mut self, ctx: &mut PciCtx<'_, '_>) {
        (0..CHANNELS).for_each(|number| self.run(ctx, number));
    }

    /// Drives the interrupt, and waits for the end of a buffer, or until a piece of sound is as
    /// long as it may be.
    fn settle(&mut self, ctx: &mut PciCtx<'_, '_>) {
        let interrupts = self.state.channels.iter().any(Channel::interrupts);
        ctx.set_interrupt(interrupts);
        for number in 0..CHANNELS {
            let channel = &self.state.channels[number];
            if !channel.is_moving() {
                ctx.cancel(number as u32);
                continue;
            }
            // The frame in which the buffer's last sample is.
            let end = (channel.moved + u64::from(channel.left)).next_multiple_of(2);
            let end_ns = self.state.due_ns(number, end).saturating_add(1);
            let most_ns = ctx.now_ns().saturating_add(Sound::MOST_NS);
            ctx.schedule(number as u32, end_ns.min(most_ns));
        }
    }

    fn read_mixer(&mut self, offset: u64) -> u16 {
        self.state.semaphore = false;
        self.state.mixer[offset as usize / 2 % WORDS]
    }

    fn write_mixer(&mut self, offset: u64, value: u16) {
        self.state.semaphore = false;
        let word = offset as usize / 2 % WORDS;
        debug!(target: TARGET, "mixer {:02x} = {value:04x}", 2 * word);
        // Of six bits there are five: a volume with the sixth is the lowest one.
        let steps = |value: u16| match value & 0x20 {
            0 => value & 0x1F,
            _ => 0x1F,
        };
        let pair = value & MUTE | steps(value >> 8) << 8 | steps(value);
        let mixer = &mut self.state.mixer;
        match word {
            RESET => self.state.reset_mixer(),
            MASTER_VOLUME | 2 => mixer[word] = pair,
            3 => mixer[word] = value & MUTE | steps(value),
            5 => mixer[word] = value & 0x801E,
            6 => mixer[word] = value & 0x801F,
            7 => mixer[word] = value & 0x805F,
            8..=12 => mixer[word] = value & 0x9F1F,
            13 => mixer[word] = value & 0x0707,
            14 => mixer[word] = value & 0x8F0F,
            15 => mixer[word] = value & 0x800F,
            16 => mixer[word] = value & 0xA380,
            17 => mixer[word] = value & 0x000F,
            POWER => mixer[word] = value & 0xFF00 | 0x000F,
            EXTENDED => {
                mixer[word] = value & 0x0009;
                if value & VARIABLE == 0 {
                    mixer[DAC_RATE..LAST_RATE].fill(USUAL_RATE);
                }
            }
            DAC_RATE..=LAST_RATE => {
                let bit = if word == LAST_RATE { 0x0008 } else { VARIABLE };
                if mixer[EXTENDED] & bit != 0 {
                    mixer[word] = value.clamp(4000, USUAL_RATE);
                }
            }
            _ => {}
        }
    }

    fn read_byte(&mut self, offset: u64) -> u8 {
        let part = |value: u32, first: u64| (value >> (8 * (offset - first))) as u8;
        let channel = &self.state.channels[offset as usize / 16 % CHANNELS];
        match offset {
            GLOBAL_CONTROL..GLOBAL_STATUS => part(self.state.global_control, GLOBAL_CONTROL),
            GLOBAL_STATUS..SEMAPHORE => {
                let channels = self.state.channels.iter().zip(CAUSES);
                let status = channels
                    .filter(|(channel, _)| channel.interrupts())
                    .fold(READY, |status, (_, cause)| status | cause);
                part(status, GLOBAL_STATUS)
            }
            SEMAPHORE => u8::from(std::mem::replace(&mut self.state.semaphore, true)),
            0x35.. => 0,
            _ => match offset & 15 {
                byte @ 0..=3 => (channel.base >> (8 * byte)) as u8,
                4 => channel.current,
                5 => channel.last,
                6 => channel.status,
                8 => channel.left as u8,
                9 => (channel.left >> 8) as u8,
                10 => channel.prefetched,
                11 => channel.control,
                _ => 0,
            },
        }
    }

    fn write_byte(&mut self, ctx: &mut PciCtx<'_, '_>, offset: u64, value: u8) {
        if let GLOBAL_CONTROL..GLOBAL_STATUS = offset {
            let shift = 8 * (offset - GLOBAL_CONTROL);
            let control = self.state.global_control & !(0xFF << shift);
            let control = (control | u32::from(value) << shift) & 0x3F;
            if control & COLD == 0 {
                self.state.reset_mixer();
            }
            self.state.global_control = control & !WARM;
            return;
        }
        if offset >= GLOBAL_CONTROL {
            return;
        }
        let channel = &mut self.state.channels[offset as usize / 16 % CHANNELS];
        match offset & 15 {
            byte @ 0..=3 => {
                let shift = 8 * byte;
                let base = channel.base & !(0xFF << shift) | u32::from(value) << shift;
                channel.base = base & !7;
            }
            5 => {
                channel.last = value & 31;
                if channel.control & RUN != 0 && channel.status & AT_LAST != 0 {
                    channel.start(ctx);
                }
            }
            6 => channel.status &= !(value & (LAST_DONE | BUFFER_DONE | OVERRUN)),
            11 if value & CLEAR != 0 => {
                // The interrupt enables stay (by the datasheet), and nothing can be running.
                *channel = Channel {
                    status: HALTED,
                    control: value & 0x1C,
                    ..Channel::default()
                };
            }
            11 => {
                let ran = channel.control & RUN != 0;
                channel.control = value & 0x1D;
                match (ran, value & RUN != 0) {
                    (false, true) => channel.start(ctx),
                    (true, false) => channel.status |= HALTED,
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

impl PciFunction for Ac97 {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut PciCtx<'_, '_>, region: u8, offset: u64, size: u8) -> u64 {
        self.run_all(ctx);
        let value = match region {
            MIXER if offset < 256 => {
                let word = u64::from(self.read_mixer(offset)) >> (8 * (offset & 1));
                match size {
                    4 => word | u64::from(self.read_mixer(offset.wrapping_add(2))) << 16,
                    _ => word,
                }
            }
            MASTER if offset < 64 => (0..u64::from(size.min(4))).fold(0, |value, n| {
                value | u64::from(self.read_byte(offset + n)) << (8 * n)
            }),
            _ => !0,
        };
        self.settle(ctx);
        value
    }

    fn write(&mut self, ctx: &mut PciCtx<'_, '_>, region: u8, offset: u64, size: u8, value: u64) {
        self.run_all(ctx);
        match region {
            MIXER if offset < 256 && size >= 2 => {
                let before = [0, 1, 2].map(|channel| self.state.rate(channel));
                self.write_mixer(offset, value as u16);
                if size == 4 {
                    self.write_mixer(offset + 2, (value >> 16) as u16);
                }
                for (number, rate) in before.into_iter().enumerate() {
                    if self.state.rate(number) != rate {
                        let channel = &mut self.state.channels[number];
                        channel.since_ns = ctx.now_ns();
                        channel.moved = 0;
                    }
                }
            }
            MASTER if offset < 64 => {
                for n in 0..u64::from(size.min(4)) {
                    self.write_byte(ctx, offset + n, (value >> (8 * n)) as u8);
                }
            }
            _ => {}
        }
        self.settle(ctx);
    }

    fn on_timer(&mut self, ctx: &mut PciCtx<'_, '_>, _timer: u32) {
        self.run_all(ctx);
        self.settle(ctx);
    }

    fn reset(&mut self, ctx: &mut PciCtx<'_, '_>) {
        for channel in 0..CHANNELS {
            ctx.cancel(channel as u32);
        }
        self.state = State::new();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let state: State = state.decode(Self::VERSION)?;
        if state.mixer.len() != WORDS {
            return Err(StateError::Unsound("no AC'97 codec has so many registers"));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
