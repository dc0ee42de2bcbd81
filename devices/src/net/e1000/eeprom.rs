//! The EEPROM of 64 words, by the four wires of EECD or by EERD (SDM §5, §13.4.3, §13.4.4).

use serde::{Deserialize, Serialize};

use crate::net::Mac;
use crate::net::microwire::{Microwire, WORDS};

/// All words together, with the last one, make this (SDM §5.6.35).
const SUM: u16 = 0xBABA;

const CLOCK: u32 = 1 << 0;
const SELECT: u32 = 1 << 1;
const DATA_IN: u32 = 1 << 2;
const DATA_OUT: u32 = 1 << 3;
const REQUEST: u32 = 1 << 6;
const GRANT: u32 = 1 << 7;
const PRESENT: u32 = 1 << 8;

const EERD_START: u32 = 1 << 0;
const EERD_DONE: u32 = 1 << 4;

/// What the wires and EERD have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eeprom {
    wires: u32,
    chip: Microwire,
    pub eerd: u32,
}

/// What is in the EEPROM of a card with this address.
pub fn words(mac: Mac) -> [u16; WORDS] {
    let mut words = [0xFFFF; WORDS];
    for (word, pair) in words.iter_mut().zip(mac.as_chunks::<2>().0) {
        *word = u16::from_le_bytes(*pair);
    }
    words[0x03] = 0x0000;
    // Initialisation control 1: signature, and identifiers are loaded from here.
    words[0x0A] = 0x640A;
    words[0x0B..0x0F].copy_from_slice(&[0x1100, 0x1AF4, 0x100E, 0x8086]);
    // Initialisation control 2: as shipped, with the PHY on.
    words[0x0F] = 0xB280;
    let sum = words[..WORDS - 1]
        .iter()
        .fold(0u16, |sum, word| sum.wrapping_add(*word));
    words[WORDS - 1] = SUM.wrapping_sub(sum);
    words
}

impl Eeprom {
    /// EECD as it is read.
    pub fn read_wires(&self, words: &[u16; WORDS]) -> u32 {
        // Nobody else wants it: who asks is granted.
        let grant = if self.wires & REQUEST != 0 { GRANT } else { 0 };
        let out = if self.chip.out(words) { DATA_OUT } else { 0 };
        self.wires | grant | out | PRESENT
    }

    /// EECD is written: wires change.
    pub fn write_wires(&mut self, value: u32) {
        self.wires = value & (CLOCK | SELECT | DATA_IN | REQUEST);
        let [select, clock, data] = [SELECT, CLOCK, DATA_IN].map(|wire| value & wire != 0);
        self.chip.drive(select, clock, data);
    }

    /// EERD is written: with the start bit, a word is read, which is there at once.
    pub fn start_read(&mut self, value: u32, words: &[u16; WORDS]) {
        self.eerd = value & 0xFF00;
        if value & EERD_START != 0 {
            let word = words.get((value >> 8 & 0xFF) as usize).copied();
            self.eerd |= u32::from(word.unwrap_or(0xFFFF)) << 16 | EERD_DONE;
        }
    }
}
