//! The CT1745 mixer chip: volumes, and the card's interrupt and DMA channels.
//!
//! Source: Creative, Sound Blaster Series Hardware Programming Guide, chapter 4.
//!
//! Volumes have five bits, 2 dB each, and the chip leaves reset with most at -14 dB. What is heard
//! is louder by the 14 dB that the master volume takes then, and never louder than a sample is:
//! nobody turns up the amplifier behind this card. Tone, gain control and the inputs are kept and
//! do nothing.

use serde::{Deserialize, Serialize};

const RESET: u8 = 0x00;
const OUTPUT_GAIN: usize = 0x41;
const SPEAKER: u8 = 0x3B;
pub(super) const MASTER: usize = 0x30;
pub(super) const VOICE: usize = 0x32;
pub(super) const MIDI: usize = 0x34;
const INTERRUPT_SETUP: u8 = 0x80;
const DMA_SETUP: u8 = 0x81;
const INTERRUPT_STATUS: u8 = 0x82;

/// Amplitudes 2 dB apart from 0 dB down, of 65536.
const AMPLITUDES: [i32; 32] = [
    65536, 52057, 41350, 32846, 26090, 20724, 16462, 13076, 10387, 8250, 6554, 5206, 4135, 3285,
    2609, 2072, 1646, 1308, 1039, 825, 655, 521, 414, 328, 261, 207, 165, 131, 104, 83, 66, 52,
];
/// Steps of 2 dB by which everything is louder.
const LOUDER: i32 = 7;

/// Registers of the Sound Blaster Pro, and the pairs whose upper four bits they are.
const OLD: [(u8, usize); 5] = [
    (0x04, 0x32),
    (0x22, 0x30),
    (0x26, 0x34),
    (0x28, 0x36),
    (0x2E, 0x38),
];

/// The chip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mixer {
    index: u8,
    /// Registers 30h to 47h.
    registers: Vec<u8>,
    /// Register 80h: the interrupt, a bit each for 9, 5, 7 and 10.
    interrupt: u8,
    /// Register 81h: the DMA channels, a bit each.
    dma: u8,
}

impl Mixer {
    /// The chip after power-on: interrupt 5, DMA channels 1 and 5.
    pub(super) fn new() -> Self {
        let mut mixer = Self {
            index: 0,
            registers: vec![0; 24],
            interrupt: 0x02,
            dma: 0x22,
        };
        mixer.reset_volumes();
        mixer
    }

    fn reset_volumes(&mut self) {
        self.registers.fill(0);
        for (register, value) in [
            (0x30, 0xC0),
            (0x31, 0xC0),
            (0x32, 0xC0),
            (0x33, 0xC0),
            (0x34, 0xC0),
            (0x35, 0xC0),
            (0x3C, 0x1F),
            (0x3D, 0x15),
            (0x3E, 0x0B),
            (0x44, 0x80),
            (0x45, 0x80),
            (0x46, 0x80),
            (0x47, 0x80),
        ] {
            self.registers[register - 0x30] = value;
        }
    }

    pub(super) fn set_index(&mut self, index: u8) {
        self.index = index;
    }

    pub(super) fn index(&self) -> u8 {
        self.index
    }

    /// Reads the indexed register; `status` is what register 82h shows.
    pub(super) fn read(&self, status: u8) -> u8 {
        match self.index {
            // The upper bits of these two read as ones (by Linux's driver, which masks them).
            INTERRUPT_SETUP => self.interrupt | 0xF0,
            DMA_SETUP => self.dma,
            INTERRUPT_STATUS => status,
            0x0A => self.value(0x3A) >> 5,
            index @ 0x30..0x48 => self.value(index.into()),
            index => OLD
                .iter()
                .find(|(old, _)| *old == index)
                .map_or(0xFF, |&(_, pair)| {
                    self.value(pair) & 0xF0 | self.value(pair + 1) >> 4
                }),
        }
    }

    pub(super) fn write(&mut self, value: u8) {
        match self.index {
            RESET => self.reset_volumes(),
            INTERRUPT_SETUP => self.interrupt = value & 0x0F,
            DMA_SETUP => self.dma = value & 0xEB,
            0x0A => self.registers[0x3A - 0x30] = value << 5,
            index @ 0x30..0x48 => {
                let bits = match index {
                    0x3C => 0x1F,
                    0x3D | 0x3E => 0x7F,
                    0x43 => 0x01,
                    SPEAKER | 0x3F..=0x42 => 0xC0,
                    0x44..=0x47 => 0xF0,
                    _ => 0xF8,
                };
                self.registers[usize::from(index) - 0x30] = value & bits;
            }
            index => {
                if let Some(&(_, pair)) = OLD.iter().find(|(old, _)| *old == index) {
                    // The lowest of the five bits comes up, so that 15 of 15 is 31 of 31.
                    self.registers[pair - 0x30] = value & 0xF0 | 0x08;
                    self.registers[pair + 1 - 0x30] = value << 4 | 0x08;
                }
            }
        }
    }

    fn value(&self, register: usize) -> u8 {
        self.registers.get(register - 0x30).copied().unwrap_or(0)
    }

    /// How loud a source is that has its volume at `volume`, left and right, of 65536.
    pub(super) fn gains(&self, volume: usize) -> [i32; 2] {
        [0, 1].map(|side| {
            let steps = |register: usize| 31 - i32::from(self.value(register + side) >> 3);
            let quieter = steps(MASTER) + steps(volume);
            let gain = 3 * i32::from(self.value(OUTPUT_GAIN + side) >> 6);
            // 0 of 31 is as quiet as the chip can, which is silence to people.
            if steps(MASTER) == 31 || steps(volume) == 31 {
                return 0;
            }
            let steps = (quieter - gain - LOUDER).max(0) as usize;
            AMPLITUDES.get(steps).copied().unwrap_or(0)
        })
    }

    /// The ISA interrupt, if one is chosen.
    pub(super) fn irq(&self) -> Option<u8> {
        [9, 5, 7, 10]
            .into_iter()
            .enumerate()
            .find(|(bit, _)| self.interrupt >> bit & 1 != 0)
            .map(|(_, irq)| irq)
    }

    /// The channel for bytes.
    pub(super) fn dma8(&self) -> Option<u8> {
        [0, 1, 3].into_iter().find(|bit| self.dma >> bit & 1 != 0)
    }

    /// The channel for words: one of the second controller, else that for bytes.
    pub(super) fn dma16(&self) -> Option<u8> {
        let wide = [5, 6, 7].into_iter().find(|bit| self.dma >> bit & 1 != 0);
        wide.or(self.dma8())
    }
}

/// `sample` at `gain` of 65536.
pub(super) fn at(gain: i32, sample: i16) -> i16 {
    ((i64::from(sample) * i64::from(gain)) >> 16) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(mixer: &mut Mixer, index: u8, value: u8) {
        mixer.set_index(index);
        mixer.write(value);
    }

    fn read(mixer: &mut Mixer, index: u8) -> u8 {
        mixer.set_index(index);
        mixer.read(0)
    }

    #[test]
    fn old_registers_are_the_upper_bits_of_the_new_ones() {
        let mut mixer = Mixer::new();
        assert_eq!(read(&mut mixer, 0x22), 0xCC);
        write(&mut mixer, 0x04, 0xF3);
        assert_eq!(
            (read(&mut mixer, 0x32), read(&mut mixer, 0x33)),
            (0xF8, 0x38)
        );
        assert_eq!(read(&mut mixer, 0x04), 0xF3);
    }

    #[test]
    fn volumes_are_steps_of_2_db_and_0_is_silent() {
        let mut mixer = Mixer::new();
        let usual = mixer.gains(VOICE)[0];
        assert_eq!(usual, AMPLITUDES[7]);
        write(&mut mixer, 0x32, 0xB8);
        assert_eq!(mixer.gains(VOICE), [AMPLITUDES[8], usual]);
        write(&mut mixer, 0x33, 0);
        assert_eq!(mixer.gains(VOICE)[1], 0);
        for register in [0x30, 0x31, 0x32, 0x33] {
            write(&mut mixer, register, 0xFF);
        }
        assert_eq!(mixer.gains(VOICE), [65536; 2]);
        write(&mut mixer, 0, 0);
        assert_eq!(mixer.gains(VOICE), [usual; 2]);
    }

    #[test]
    fn interrupt_and_dma_channels_are_chosen_and_outlive_a_reset_of_the_chip() {
        let mut mixer = Mixer::new();
        assert_eq!(
            (mixer.irq(), mixer.dma8(), mixer.dma16()),
            (Some(5), Some(1), Some(5))
        );
        write(&mut mixer, 0x80, 0x04);
        write(&mut mixer, 0x81, 0x08);
        write(&mut mixer, 0x00, 0);
        assert_eq!(
            (mixer.irq(), mixer.dma8(), mixer.dma16()),
            (Some(7), Some(3), Some(3))
        );
        write(&mut mixer, 0x80, 0);
        assert_eq!(mixer.irq(), None);
    }
}
