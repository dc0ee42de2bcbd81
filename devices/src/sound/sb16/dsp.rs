//! The card's digital sound processor, version 4.05: its commands, and the samples that it moves by
//! DMA.
//!
//! Source: Creative, Sound Blaster Series Hardware Programming Guide, chapters 2, 3 and 6.
//!
//! Samples are taken from memory a millisecond's worth at a time, when the last of them has
//! sounded, so that a program that writes just ahead of what the DMA controller says is never too
//! late. A block's interrupt comes at the time of its last sample's end.

use log::debug;
use platform::{DeviceCtx, DmaDirection, Input, Said, Sound};
use serde::{Deserialize, Serialize};

use super::adpcm::{Adpcm, Format};
use super::mixer::{self, Mixer};
use super::{DIRECT, DIRECT_TIMER, PCM, TARGET};
use crate::sound::Steps;

pub(super) const DMA_TIMER: u32 = 0;
pub(super) const SILENCE_TIMER: u32 = 1;

const VERSION: [u8; 2] = [4, 5];
/// What the chip says of itself.
const COPYRIGHT: &[u8] = b"COPYRIGHT (C) CREATIVE TECHNOLOGY LTD, 1992.\0";
/// Bytes that wait to be read at most: the copyright is the longest answer.
const MOST_ANSWERS: usize = 64;
/// Rates that the card has, in Hz.
const RATES: std::ops::RangeInclusive<u64> = 4000..=48_000;
/// How often samples are taken from memory.
const CHUNK_NS: u64 = 1_000_000;

/// The rate of samples as it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Rate {
    /// Command 40h: 256 less the microseconds between two samples, whatever channel they are for.
    TimeConstant(u8),
    /// Commands 41h and 42h: frames a second.
    Hertz(u16),
}

/// What a transfer's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Coding {
    Pcm { stereo: bool, signed: bool },
    Adpcm(Adpcm),
}

/// A transfer by DMA. A unit is a byte, or a word of one with 16 bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Transfer {
    words: bool,
    input: bool,
    auto: bool,
    coding: Coding,
    /// Units of a block.
    block: u32,
    /// Units until the block's end.
    left: u32,
    paused: bool,
    /// Since when, without a break, units have moved, and how many.
    since_ns: u64,
    moved: u64,
    /// What DMA is asked for now.
    asked: u32,
    /// The left sample of a frame whose right one is still to come.
    half: Option<i16>,
}

/// All that is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dsp {
    in_reset: bool,
    answers: std::collections::VecDeque<u8>,
    last_answer: u8,
    /// A command and the parameters that it has so far.
    command: Vec<u8>,
    rate: Rate,
    /// Command 48h, for those that name no length.
    block: u32,
    speaker: bool,
    test: u8,
    transfer: Option<Transfer>,
    direct: Steps,
    /// MIDI takes every byte until a reset.
    midi: bool,
    /// Interrupts that nobody has acknowledged: for bytes or MIDI, and for words.
    pub(super) pending: [bool; 2],
}

impl Dsp {
    pub(super) fn new() -> Self {
        Self {
            in_reset: false,
            answers: Default::default(),
            last_answer: 0xFF,
            command: Vec::new(),
            rate: Rate::Hertz(11_025),
            block: 0x0800,
            speaker: false,
            test: 0,
            transfer: None,
            direct: Steps::default(),
            midi: false,
            pending: [false; 2],
        }
    }

    /// A write to port 2x6: 1 and then 0 resets.
    pub(super) fn write_reset(&mut self, ctx: &mut DeviceCtx<'_>, value: u8) {
        let asserted = value & 1 != 0;
        if std::mem::replace(&mut self.in_reset, asserted) && !asserted {
            self.stop(ctx);
            *self = Self {
                test: self.test,
                direct: std::mem::take(&mut self.direct),
                ..Self::new()
            };
            self.answer(&[0xAA]);
        }
    }

    /// Bytes wait for the host.
    pub(super) fn has_answer(&self) -> bool {
        !self.answers.is_empty()
    }

    pub(super) fn read(&mut self) -> u8 {
        if let Some(byte) = self.answers.pop_front() {
            self.last_answer = byte;
        }
        self.last_answer
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.answers.extend(bytes);
        self.answers.truncate(MOST_ANSWERS);
    }

    /// A command or a parameter.
    pub(super) fn write(&mut self, ctx: &mut DeviceCtx<'_>, value: u8) {
        if self.midi {
            return;
        }
        self.command.push(value);
        let code = self.command[0];
        if self.command.len() > parameters(code) {
            let command = std::mem::take(&mut self.command);
            self.execute(ctx, code, &command[1..]);
        }
    }

    fn execute(&mut self, ctx: &mut DeviceCtx<'_>, code: u8, given: &[u8]) {
        debug!(target: TARGET, "command {code:02x} {given:02x?}");
        let word = |at: usize| u16::from_le_bytes([given[at], given[at + 1]]);
        let length = |at: usize| u32::from(word(at)) + 1;
        let plain = Coding::Pcm {
            stereo: false,
            signed: false,
        };
        let adpcm = |format| Coding::Adpcm(Adpcm::new(format, code & 1 != 0));
        match code {
            0x0F => self.answer(&[0xFF]),
            0x10 => {
                let voltage = (i16::from(given[0]) - 128) << 8;
                let was_sounding = self.direct.is_sounding();
                self.direct.set(ctx.now_ns(), voltage);
                if !was_sounding && self.direct.is_sounding() {
                    ctx.schedule(DIRECT_TIMER, self.direct.next_ns());
                }
            }
            0x14 | 0x15 => self.start(ctx, false, false, false, plain, length(0)),
            0x91 => self.start(ctx, false, false, false, plain, self.block),
            0x1C | 0x90 => self.start(ctx, false, false, true, plain, self.block),
            0x16 | 0x17 => self.start(ctx, false, false, false, adpcm(Format::Bits2), length(0)),
            0x74 | 0x75 => self.start(ctx, false, false, false, adpcm(Format::Bits4), length(0)),
            0x76 | 0x77 => {
                self.start(
                    ctx,
                    false,
                    false,
                    false,
                    adpcm(Format::Bits2and6),
                    length(0),
                );
            }
            0x1F => self.start(ctx, false, false, true, adpcm(Format::Bits2), self.block),
            0x7D => self.start(ctx, false, false, true, adpcm(Format::Bits4), self.block),
            0x7F => self.start(
                ctx,
                false,
                false,
                true,
                adpcm(Format::Bits2and6),
                self.block,
            ),
            // Nothing is plugged in: the middle between the rails.
            0x20 => self.answer(&[0x80]),
            0x24 => self.start(ctx, false, true, false, plain, length(0)),
            0x99 => self.start(ctx, false, true, false, plain, self.block),
            0x2C | 0x98 => self.start(ctx, false, true, true, plain, self.block),
            0x30 | 0x31 | 0x38 => {}
            0x34..=0x37 => self.midi = true,
            0x40 => self.set_rate(ctx, Rate::TimeConstant(given[0])),
            0x41 | 0x42 => {
                self.set_rate(ctx, Rate::Hertz(u16::from_be_bytes([given[0], given[1]])))
            }
            0x45 => self.set_auto(false, true),
            0x47 => self.set_auto(true, true),
            0x48 => self.block = length(0),
            0x80 => {
                let ns = self.unit_ns(1) * u64::from(length(0));
                ctx.schedule(SILENCE_TIMER, ctx.now_ns().saturating_add(ns));
            }
            0xB0..=0xCF => {
                let coding = Coding::Pcm {
                    stereo: given[0] & 0x20 != 0,
                    signed: given[0] & 0x10 != 0,
                };
                let (input, auto) = (code & 8 != 0, code & 4 != 0);
                self.start(ctx, code < 0xC0, input, auto, coding, length(1));
            }
            0xD0 => self.pause(ctx, false, true),
            0xD4 => self.pause(ctx, false, false),
            0xD5 => self.pause(ctx, true, true),
            0xD6 => self.pause(ctx, true, false),
            0xD1 => self.speaker = true,
            0xD3 => self.speaker = false,
            0xD8 => self.answer(&[if self.speaker { 0xFF } else { 0x00 }]),
            0xD9 => self.set_auto(true, false),
            0xDA => self.set_auto(false, false),
            0xE0 => self.answer(&[!given[0]]),
            0xE1 => self.answer(&VERSION),
            0xE3 => self.answer(COPYRIGHT),
            0xE4 => self.test = given[0],
            0xE8 => self.answer(&[self.test]),
            0xF2 => self.pending[0] = true,
            0xF3 => self.pending[1] = true,
            0xF8 => self.answer(&[0]),
            _ => debug!(target: TARGET, "command {code:02x} is not known"),
        }
    }

    fn set_auto(&mut self, words: bool, auto: bool) {
        let transfer = self
            .transfer
            .as_mut()
            .filter(|transfer| transfer.words == words);
        if let Some(transfer) = transfer {
            transfer.auto = auto;
        }
    }

    /// Frames a second, in thousandths, of `channels` channels.
    fn rate_millihertz(&self, channels: u64) -> u64 {
        let rate = match self.rate {
            Rate::TimeConstant(constant) => 1_000_000_000 / (256 - u64::from(constant)) / channels,
            Rate::Hertz(hertz) => u64::from(hertz) * 1000,
        };
        rate.clamp(RATES.start() * 1000, RATES.end() * 1000)
    }

    /// How long a sample is at the rate that is set.
    fn unit_ns(&self, channels: u64) -> u64 {
        1_000_000_000_000 / self.rate_millihertz(channels)
    }

    fn set_rate(&mut self, ctx: &mut DeviceCtx<'_>, rate: Rate) {
        self.rate = rate;
        if let Some(transfer) = &mut self.transfer {
            transfer.since_ns = ctx.now_ns();
            transfer.moved = 0;
            self.schedule(ctx);
        }
    }

    fn start(
        &mut self,
        ctx: &mut DeviceCtx<'_>,
        words: bool,
        input: bool,
        auto: bool,
        coding: Coding,
        block: u32,
    ) {
        self.transfer = Some(Transfer {
            words,
            input,
            auto,
            coding,
            block,
            left: block,
            paused: false,
            since_ns: ctx.now_ns(),
            moved: 0,
            asked: 0,
            half: None,
        });
        self.schedule(ctx);
    }

    fn pause(&mut self, ctx: &mut DeviceCtx<'_>, words: bool, paused: bool) {
        let now_ns = ctx.now_ns();
        let transfer = self
            .transfer
            .as_mut()
            .filter(|transfer| transfer.words == words);
        let Some(transfer) = transfer else {
            return;
        };
        transfer.paused = paused;
        transfer.since_ns = now_ns;
        transfer.moved = 0;
        match paused {
            true => ctx.cancel(DMA_TIMER),
            false => self.schedule(ctx),
        }
    }

    fn stop(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.transfer = None;
        ctx.cancel(DMA_TIMER);
        ctx.cancel(SILENCE_TIMER);
        self.direct.set(ctx.now_ns(), 0);
    }

    /// Units a second, in thousandths, and frames a second.
    fn rates(&self, transfer: &Transfer) -> (u64, u64) {
        match &transfer.coding {
            Coding::Pcm { stereo: true, .. } => {
                let rate = self.rate_millihertz(2);
                (rate * 2, rate)
            }
            Coding::Pcm { .. } => (self.rate_millihertz(1), self.rate_millihertz(1)),
            Coding::Adpcm(adpcm) => {
                let rate = self.rate_millihertz(1);
                (rate / adpcm.format().per_byte(), rate)
            }
        }
    }

    /// How many units come next, and when the last of them has sounded.
    fn next_chunk(&self, transfer: &Transfer) -> (u32, u64) {
        let (units, _) = self.rates(transfer);
        let most = (units * CHUNK_NS / 1_000_000_000_000).max(1) as u32;
        let count = most.min(transfer.left);
        let moved = u128::from(transfer.moved) + u128::from(count);
        let ns = moved * 1_000_000_000_000 / u128::from(units);
        (count, transfer.since_ns.saturating_add(ns as u64))
    }

    fn schedule(&mut self, ctx: &mut DeviceCtx<'_>) {
        if let Some(transfer) = &self.transfer
            && !transfer.paused
        {
            ctx.schedule(DMA_TIMER, self.next_chunk(transfer).1);
        }
    }

    /// The samples of a chunk have sounded: asks for them.
    pub(super) fn on_dma_timer(&mut self, ctx: &mut DeviceCtx<'_>, mixer: &Mixer) {
        let Some(mut transfer) = self.transfer.take() else {
            return;
        };
        transfer.asked = self.next_chunk(&transfer).0;
        self.transfer = Some(transfer);
        self.ask(ctx, mixer);
    }

    fn ask(&mut self, ctx: &mut DeviceCtx<'_>, mixer: &Mixer) {
        let Some(transfer) = &self.transfer else {
            return;
        };
        let channel = if transfer.words {
            mixer.dma16()
        } else {
            mixer.dma8()
        };
        let Some(channel) = channel else {
            return self.stall(ctx);
        };
        let unit = if transfer.words { 2 } else { 1 };
        let length = transfer.asked * unit;
        let silence = |transfer: &Transfer| match (&transfer.coding, transfer.words) {
            (Coding::Pcm { signed: true, .. }, _) => vec![0; length as usize],
            (_, false) => vec![0x80; length as usize],
            (_, true) => [0x00, 0x80].repeat(length as usize / 2),
        };
        let (direction, data) = match transfer.input {
            true => (DmaDirection::ToMemory, silence(transfer)),
            false => (DmaDirection::FromMemory, Vec::new()),
        };
        let from = ctx.id();
        ctx.isa_dma(Input::DmaRequest {
            from,
            channel,
            direction,
            data,
            length,
        });
    }

    /// The DMA controller does not serve the card: it goes on asking, and time does not count.
    fn stall(&mut self, ctx: &mut DeviceCtx<'_>) {
        if let Some(transfer) = &mut self.transfer {
            transfer.since_ns = ctx.now_ns();
            transfer.moved = 0;
            self.schedule(ctx);
        }
    }

    /// The DMA controller's answer.
    pub(super) fn on_dma(
        &mut self,
        ctx: &mut DeviceCtx<'_>,
        mixer: &Mixer,
        data: &[u8],
        transferred: u32,
    ) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        let unit = if transfer.words { 2 } else { 1 };
        let units = (transferred / unit).min(transfer.asked);
        if transfer.paused || transfer.asked == 0 {
            return;
        }
        if units == 0 {
            return self.stall(ctx);
        }
        transfer.asked -= units;
        self.play(ctx, mixer, data, units);
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        transfer.moved += u64::from(units);
        transfer.left = transfer.left.saturating_sub(units);
        if transfer.asked != 0 {
            // The DMA buffer's end lies within the chunk.
            return self.ask(ctx, mixer);
        }
        if transfer.left == 0 {
            self.pending[usize::from(transfer.words)] = true;
            if !transfer.auto {
                self.transfer = None;
                return;
            }
            transfer.left = transfer.block;
        }
        self.schedule(ctx);
    }

    /// Hands out what `units` units sound like, which begin where the transfer is.
    fn play(&mut self, ctx: &mut DeviceCtx<'_>, mixer: &Mixer, data: &[u8], units: u32) {
        let Some(mut transfer) = self.transfer.take() else {
            return;
        };
        if transfer.input {
            self.transfer = Some(transfer);
            return;
        }
        let (unit_rate, rate) = self.rates(&transfer);
        let before = u128::from(transfer.moved) * 1_000_000_000_000 / u128::from(unit_rate);
        let gains = mixer.gains(mixer::VOICE);
        let loud = |left: i16, right: i16| [mixer::at(gains[0], left), mixer::at(gains[1], right)];
        let mut frames = Vec::with_capacity(units as usize);
        let samples = data.chunks_exact(if transfer.words { 2 } else { 1 });
        let half = &mut transfer.half;
        match &mut transfer.coding {
            Coding::Pcm { stereo, signed } => {
                for bytes in samples {
                    let sample = match *bytes {
                        [low, high] => i16::from_le_bytes([low, high]),
                        [byte] => i16::from(byte) << 8,
                        _ => continue,
                    };
                    let sample = if *signed { sample } else { sample ^ i16::MIN };
                    match (*stereo, half.take()) {
                        (false, _) => frames.push(loud(sample, sample)),
                        (true, Some(left)) => frames.push(loud(left, sample)),
                        (true, None) => *half = Some(sample),
                    }
                }
            }
            Coding::Adpcm(adpcm) => {
                for &byte in data {
                    adpcm.decode(byte, |sample| {
                        let sample = (sample << 8) as i16;
                        frames.push(loud(sample, sample));
                    });
                }
            }
        }
        let start_ns = transfer.since_ns.saturating_add(before as u64);
        self.transfer = Some(transfer);
        if !frames.is_empty() {
            ctx.output(Said::Sound(Sound {
                stream: PCM,
                start_ns,
                rate_millihertz: rate,
                frames,
            }));
        }
    }

    /// What single bytes that a program wrote sound like.
    pub(super) fn on_direct_timer(&mut self, ctx: &mut DeviceCtx<'_>, mixer: &Mixer) {
        let gains = mixer.gains(mixer::VOICE);
        if let Some(mut sound) = self.direct.take(ctx.now_ns(), false, DIRECT) {
            for frame in &mut sound.frames {
                *frame = [mixer::at(gains[0], frame[0]), mixer::at(gains[1], frame[1])];
            }
            ctx.output(Said::Sound(sound));
        }
        if self.direct.is_sounding() {
            ctx.schedule(DIRECT_TIMER, self.direct.next_ns());
        }
    }
}

/// How many parameters a command has.
fn parameters(code: u8) -> usize {
    match code {
        0x04 | 0x08 | 0x0F | 0x10 | 0x38 | 0x40 | 0xE0 | 0xE2 | 0xE4 => 1,
        0x05 | 0x0E | 0x14..=0x17 | 0x24 | 0x41 | 0x42 | 0x48 | 0x74..=0x77 | 0x80 => 2,
        0xB0..=0xCF => 3,
        _ => 0,
    }
}
