//! An operator: a phase, an envelope and a waveform.

use serde::{Deserialize, Serialize};

use super::tables::{KEY_SCALE, LOG_SINE, MULTIPLES, amplitude, steps};

/// The attenuation of silence, in 0.1875 dB.
pub(super) const SILENT: u16 = 511;
/// An attenuation that is silence, in 256ths of an octave.
const NOTHING: u32 = 0x1000;
/// At this rate the attack takes no time.
const AT_ONCE: u32 = 60;

/// Where an envelope is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    #[default]
    Off,
    Attack,
    Decay,
    Sustain,
    Release,
}

/// What moves while an operator sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Operator {
    /// Of 2^19.
    phase: u32,
    /// The envelope's attenuation.
    level: u16,
    stage: Stage,
    /// Who holds the key: bit 0 the channel, bit 1 the rhythm.
    keys: u8,
    /// The last two samples, the latest one first.
    pub(super) out: [i16; 2],
}

/// What registers say about an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    multiple: u32,
    tremolo: bool,
    vibrato: bool,
    /// The envelope stays at its sustain level while the key is down.
    holds: bool,
    /// Total level and key scaling.
    level: u16,
    attack: u32,
    decay: u32,
    release: u32,
    sustain: u16,
    waveform: u8,
    number: u32,
    block: u32,
}

/// What all operators share at a sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    /// The number of the sample.
    pub(super) sample: u64,
    /// What tremolo takes off.
    pub(super) tremolo: u16,
    /// Where vibrato is, of 8, and whether it is deep.
    pub(super) vibrato: (u32, bool),
}

impl Settings {
    /// Of registers 20h, 40h, 60h, 80h and E0h of the operator, the frequency number and the block
    /// of its channel; `split` is register 08h's NTS, `waveforms` a mask of those that there are.
    pub(super) fn new(
        registers: [u8; 5],
        number: u32,
        block: u32,
        split: bool,
        waveforms: u8,
    ) -> Self {
        let [how, level, attack_decay, sustain_release, waveform] = registers;
        let key = block << 1 | number >> (if split { 8 } else { 9 }) & 1;
        let offset = if how & 0x10 != 0 { key } else { key >> 2 };
        let rate = |rate: u8| match u32::from(rate) {
            0 => 0,
            rate => (4 * rate + offset).min(63),
        };
        let scale = (KEY_SCALE[number as usize >> 6 & 15] << 2) - ((8 - block as i32) << 5);
        let scale = scale.max(0) as u16 >> [15, 1, 2, 0][usize::from(level >> 6)];
        Self {
            multiple: MULTIPLES[usize::from(how & 15)],
            tremolo: how & 0x80 != 0,
            vibrato: how & 0x40 != 0,
            holds: how & 0x20 != 0,
            level: (u16::from(level & 0x3F) << 2) + scale,
            attack: rate(attack_decay >> 4),
            decay: rate(attack_decay & 15),
            release: rate(sustain_release & 15),
            sustain: match u16::from(sustain_release >> 4) {
                15 => 31 << 4,
                level => level << 4,
            },
            waveform: waveform & waveforms,
            number,
            block,
        }
    }
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            phase: 0,
            level: SILENT,
            stage: Stage::Off,
            keys: 0,
            out: [0; 2],
        }
    }
}

impl Operator {
    /// Nothing is heard of it, now or later, unless a key goes down.
    pub(super) fn is_silent(&self, settings: &Settings) -> bool {
        let waits = self.stage == Stage::Attack && settings.attack == 0;
        self.stage == Stage::Off || waits && self.level >= SILENT
    }

    /// Key `key` (1 or 2) goes down or up.
    pub(super) fn key(&mut self, key: u8, down: bool, settings: &Settings) {
        let before = self.keys;
        self.keys = if down { before | key } else { before & !key };
        if before == 0 && self.keys != 0 {
            self.phase = 0;
            self.stage = Stage::Attack;
            if settings.attack >= AT_ONCE {
                self.level = 0;
                self.stage = Stage::Decay;
            }
        } else if before != 0 && self.keys == 0 && self.stage != Stage::Off {
            self.stage = Stage::Release;
        }
    }

    /// The phase, of 1024.
    pub(super) fn phase(&self) -> u32 {
        self.phase >> 9
    }

    /// Moves phase and envelope on by a sample.
    pub(super) fn advance(&mut self, settings: &Settings, shared: &Shared) {
        let mut number = settings.number as i32;
        if settings.vibrato {
            let (position, deep) = shared.vibrato;
            let range = number >> 7 & 7;
            let range = match position & 3 {
                0 => 0,
                2 => range,
                _ => range >> 1,
            };
            let range = range >> u32::from(!deep);
            number += if position & 4 != 0 { -range } else { range };
        }
        let frequency = (number as u32) << settings.block >> 1;
        self.phase = self
            .phase
            .wrapping_add((frequency * settings.multiple) >> 1)
            & 0x7_FFFF;
        self.move_envelope(settings, shared.sample);
    }

    fn move_envelope(&mut self, settings: &Settings, sample: u64) {
        let level = i32::from(self.level);
        let fall = |rate| (level + steps(rate, sample)).min(SILENT.into()) as u16;
        match self.stage {
            Stage::Off => {}
            Stage::Attack => {
                let moved = (level + ((!level * steps(settings.attack, sample)) >> 3)).max(0);
                self.level = moved as u16;
                if moved == 0 {
                    self.stage = Stage::Decay;
                }
            }
            Stage::Decay => {
                self.level = fall(settings.decay);
                if self.level >= settings.sustain {
                    self.stage = Stage::Sustain;
                }
            }
            Stage::Sustain if settings.holds => {}
            Stage::Sustain | Stage::Release => {
                self.level = fall(settings.release);
                if self.level >= SILENT {
                    self.stage = Stage::Off;
                }
            }
        }
    }

    /// The sample at `phase`, of 1024, with what modulates it added in.
    pub(super) fn sound(&mut self, settings: &Settings, shared: &Shared, phase: u32) -> i32 {
        let tremolo = if settings.tremolo { shared.tremolo } else { 0 };
        let level = (self.level + settings.level + tremolo).min(SILENT);
        let sample = match self.stage {
            Stage::Off => 0,
            _ => wave(settings.waveform, phase, u32::from(level) << 3),
        };
        self.out = [sample as i16, self.out[0]];
        sample
    }
}

/// A waveform at a phase of 1024, with an attenuation in 256ths of an octave.
fn wave(waveform: u8, phase: u32, level: u32) -> i32 {
    let quarter = |phase: u32| {
        let phase = if phase & 0x100 != 0 { !phase } else { phase };
        u32::from(LOG_SINE[phase as usize & 0xFF])
    };
    let (second_half, second_quarter) = (phase & 0x200 != 0, phase & 0x100 != 0);
    let (sine, negative) = match waveform {
        0 => (quarter(phase), second_half),
        1 if second_half => (NOTHING, false),
        1 | 2 => (quarter(phase), false),
        3 if second_quarter => (NOTHING, false),
        3 => (quarter(phase), false),
        4 | 5 if second_half => (NOTHING, false),
        4 | 5 => (quarter(phase << 1), waveform == 4 && second_quarter),
        6 => (0, second_half),
        _ => {
            let ramp = if second_half { !phase } else { phase };
            ((ramp & 0x1FF) << 3, second_half)
        }
    };
    let value = amplitude(sine + level);
    // The chip turns the bits round.
    if negative { !value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(waveform: u8) -> Vec<i32> {
        (0..1024).map(|phase| wave(waveform, phase, 0)).collect()
    }

    #[test]
    fn waveforms_are_those_of_the_data_sheet() {
        let sine = shape(0);
        for (n, &value) in sine.iter().enumerate() {
            let ideal = 4084.0 * ((n as f64 + 0.5) * std::f64::consts::PI / 512.0).sin();
            assert!((ideal - f64::from(value)).abs() < 8.0, "{n}: {value}");
        }
        let half: Vec<i32> = sine.iter().map(|&value| value.max(0)).collect();
        assert_eq!(shape(1), half);
        let whole: Vec<i32> = (0..1024).map(|n| sine[n & 511]).collect();
        assert_eq!(shape(2), whole);
        let quarters: Vec<i32> = (0..1024)
            .map(|n| if n & 256 == 0 { sine[n & 511] } else { 0 })
            .collect();
        assert_eq!(shape(3), quarters);
        let double: Vec<i32> = (0..1024)
            .map(|n| if n < 512 { sine[2 * n] } else { 0 })
            .collect();
        assert_eq!(shape(4), double);
        let camel: Vec<i32> = (0..1024)
            .map(|n| if n < 512 { sine[(2 * n) & 511] } else { 0 })
            .collect();
        assert_eq!(shape(5), camel);
        let square: Vec<i32> = (0..1024)
            .map(|n| if n < 512 { 4084 } else { !4084 })
            .collect();
        assert_eq!(shape(6), square);
        let ramp = shape(7);
        assert_eq!((ramp[0], ramp[1023], ramp[512]), (4084, !4084, !0));
        assert!(ramp[..512].windows(2).all(|two| two[0] >= two[1]));
    }

    #[test]
    fn an_attenuation_of_6_db_halves() {
        assert_eq!(wave(6, 0, 32 << 3), 2042);
        assert_eq!(wave(6, 0, u32::from(SILENT) << 3), 0);
    }
}
