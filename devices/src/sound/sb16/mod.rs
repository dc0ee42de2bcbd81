//! Creative Sound Blaster 16: the DSP 4.05, the CT1745 mixer, a YMF262 and an MPU-401's UART.
//!
//! Source: Creative, Sound Blaster Series Hardware Programming Guide (1993); Roland, MPU-401
//! Technical Reference.
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`Sb16::BASE`] | 220-223, 228-229 | YMF262 ([`opl3`](super::opl3)) |
//! | | 224, 225 | mixer: index, data |
//! | | 226 | reset of the DSP |
//! | | 22A | data from the DSP |
//! | | 22C | command or data to the DSP; reads: bit 7 is 0 when it takes one |
//! | | 22E | bit 7: data waits at 22A; reading acknowledges the interrupt for bytes |
//! | | 22F | reading acknowledges the interrupt for words |
//! | [`Sb16::MPU`] | 330, 331 | MPU-401: data, status and command |
//! | [`Sb16::ADLIB`] | 388-38B | the YMF262, where an AdLib card has its chip |
//!
//! The interrupt is 5, the DMA channels are 1 and 5, until software chooses others in the mixer.
//!
//! Not modelled: recording gives silence; MIDI goes nowhere; the ASP, Plug and Play, the game port
//! and DSP command E2h are not there, and neither is a DSP that is busy.

mod adpcm;
mod dsp;
mod mixer;

#[cfg(test)]
mod tests;

use platform::{Device, DeviceCtx, Input, IrqLine, Said, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

use dsp::Dsp;
use mixer::Mixer;

use super::Opl3;

const TARGET: &str = "sb16";
/// Streams of sound.
const PCM: u8 = 0;
const DIRECT: u8 = 1;
const FM: u8 = 2;

const DIRECT_TIMER: u32 = 2;
const FM_TIMER: u32 = 3;

/// MPU-401 commands, and the answer to them.
const MPU_ACKNOWLEDGE: u8 = 0xFE;

/// All that is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    dsp: Dsp,
    mixer: Mixer,
    opl: Opl3,
    /// The MPU-401 has an acknowledgement to be read.
    mpu_answers: bool,
    /// The ISA interrupt that the card drives now.
    driven: Option<u8>,
}

/// The card.
#[derive(Clone, Debug)]
pub struct Sb16 {
    state: State,
}

impl Default for Sb16 {
    fn default() -> Self {
        Self::new()
    }
}

impl Sb16 {
    /// Region: the card's sixteen ports.
    pub const BASE: u8 = 0;
    /// Region: the MPU-401.
    pub const MPU: u8 = 1;
    /// Region: the YMF262.
    pub const ADLIB: u8 = 2;

    /// Where drivers look for it first: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[
        (Self::BASE, 0x220, 16, 1),
        (Self::MPU, 0x330, 2, 1),
        (Self::ADLIB, 0x388, 4, 1),
    ];

    const VERSION: u32 = 1;

    /// A card after power-on.
    pub fn new() -> Self {
        Self {
            state: State {
                dsp: Dsp::new(),
                mixer: Mixer::new(),
                opl: Opl3::new(),
                mpu_answers: false,
                driven: None,
            },
        }
    }

    /// Register 82h of the mixer: which interrupts are pending.
    fn status(&self) -> u8 {
        let [bytes, words] = self.state.dsp.pending;
        // The upper bits name the chip's revision; drivers mask them.
        0x20 | u8::from(words) << 1 | u8::from(bytes)
    }

    fn drive(&mut self, ctx: &mut DeviceCtx<'_>) {
        let pending = self.state.dsp.pending.contains(&true);
        let irq = self.state.mixer.irq().filter(|_| pending);
        if irq == self.state.driven {
            return;
        }
        if let Some(before) = std::mem::replace(&mut self.state.driven, irq) {
            ctx.set_line(IrqLine::isa(before), false);
        }
        if let Some(irq) = irq {
            ctx.set_line(IrqLine::isa(irq), true);
        }
    }

    fn read_base(&mut self, port: u64) -> u8 {
        let state = &mut self.state;
        match port {
            0x4 => state.mixer.index(),
            0x5 => self.state.mixer.read(self.status()),
            0xA => state.dsp.read(),
            0xC => 0x7F,
            0xE => {
                state.dsp.pending[0] = false;
                u8::from(state.dsp.has_answer()) << 7 | 0x7F
            }
            0xF => {
                state.dsp.pending[1] = false;
                0xFF
            }
            _ => 0xFF,
        }
    }

    fn write_base(&mut self, ctx: &mut DeviceCtx<'_>, port: u64, value: u8) {
        let State { dsp, mixer, .. } = &mut self.state;
        match port {
            0x4 => mixer.set_index(value),
            0x5 => mixer.write(value),
            0x6 => dsp.write_reset(ctx, value),
            0xC => dsp.write(ctx, value),
            _ => {}
        }
    }

    fn write_opl(&mut self, ctx: &mut DeviceCtx<'_>, port: u64, value: u8) {
        let opl = &mut self.state.opl;
        let was_sounding = opl.is_sounding();
        opl.write(ctx.now_ns(), port, value);
        if !was_sounding && opl.is_sounding() {
            ctx.schedule(FM_TIMER, opl.next_ns());
        }
    }

    fn on_fm_timer(&mut self, ctx: &mut DeviceCtx<'_>) {
        let State { mixer, opl, .. } = &mut self.state;
        let gains = mixer.gains(mixer::MIDI);
        if let Some(mut sound) = opl.take(ctx.now_ns(), FM) {
            for frame in &mut sound.frames {
                *frame = [mixer::at(gains[0], frame[0]), mixer::at(gains[1], frame[1])];
            }
            ctx.output(Said::Sound(sound));
        }
        if opl.is_sounding() {
            ctx.schedule(FM_TIMER, opl.next_ns());
        }
    }

    fn read_mpu(&mut self, port: u64) -> u8 {
        let answers = &mut self.state.mpu_answers;
        match port {
            // Bit 7 is 0 when something waits, bit 6 when something is taken.
            1 => 0x3F | u8::from(!*answers) << 7,
            _ if std::mem::take(answers) => MPU_ACKNOWLEDGE,
            _ => 0xFF,
        }
    }
}

/// Which of the sixteen ports are the YMF262's.
fn is_opl(port: u64) -> bool {
    matches!(port, 0..4 | 8 | 9)
}

impl Device for Sb16 {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8) -> u64 {
        let value = match region {
            Self::BASE if is_opl(offset) => self.state.opl.read(ctx.now_ns(), offset & 3),
            Self::BASE => self.read_base(offset),
            Self::ADLIB => self.state.opl.read(ctx.now_ns(), offset),
            Self::MPU => self.read_mpu(offset),
            _ => 0xFF,
        };
        self.drive(ctx);
        value.into()
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8, value: u64) {
        let value = value as u8;
        match (region, offset) {
            (Self::BASE, port) if is_opl(port) => self.write_opl(ctx, port & 3, value),
            (Self::ADLIB, port) => self.write_opl(ctx, port, value),
            (Self::BASE, _) => self.write_base(ctx, offset, value),
            // Commands are acknowledged, data is MIDI.
            (Self::MPU, 1) => self.state.mpu_answers = true,
            _ => {}
        }
        self.drive(ctx);
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, timer: u32) {
        let State { dsp, mixer, .. } = &mut self.state;
        match timer {
            dsp::DMA_TIMER => dsp.on_dma_timer(ctx, mixer),
            dsp::SILENCE_TIMER => dsp.pending[0] = true,
            DIRECT_TIMER => dsp.on_direct_timer(ctx, mixer),
            FM_TIMER => self.on_fm_timer(ctx),
            _ => {}
        }
        self.drive(ctx);
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::DmaDone {
            data, transferred, ..
        } = input
        {
            let State { dsp, mixer, .. } = &mut self.state;
            dsp.on_dma(ctx, mixer, data, *transferred);
            self.drive(ctx);
        }
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        for timer in [dsp::DMA_TIMER, dsp::SILENCE_TIMER, DIRECT_TIMER, FM_TIMER] {
            ctx.cancel(timer);
        }
        if let Some(irq) = self.state.driven {
            ctx.set_line(IrqLine::isa(irq), false);
        }
        *self = Self::new();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.state = state.decode(Self::VERSION)?;
        Ok(())
    }
}
