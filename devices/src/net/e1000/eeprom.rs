//! The EEPROM of 64 words, by the four wires of EECD or by EERD (SDM §5, §13.4.3, §13.4.4).
//!
//! On the wires it is a 93C46 in its 16-bit organisation: a start bit, two bits of operation, six of
//! address. It is only read; what is written to it is ignored.

use serde::{Deserialize, Serialize};

use crate::net::Mac;

/// Words of the EEPROM.
pub const WORDS: usize = 64;
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

/// Start, operation and address.
const COMMAND_BITS: u8 = 9;
const OPERATION_READ: u16 = 0b10;

/// What the wires and EERD have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eeprom {
    wires: u32,
    /// The bits of the command so far.
    command: u16,
    bits: u8,
    /// The word that is read, and which of its bits is on the wire.
    address: u16,
    out: Option<u8>,
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
        let request = self.wires & REQUEST;
        // Nobody else wants it: who asks is granted.
        let grant = if request != 0 { GRANT } else { 0 };
        let out = match self.out {
            Some(bit @ 0..16) => words[usize::from(self.address) % WORDS] >> bit & 1 != 0,
            Some(_) => false,
            // Not driven, and so high: ready, for who waits for the end of a write.
            None => true,
        };
        let out = if out { DATA_OUT } else { 0 };
        self.wires & (CLOCK | SELECT | DATA_IN | REQUEST) | grant | out | PRESENT
    }

    /// EECD is written: wires change.
    pub fn write_wires(&mut self, value: u32) {
        let rising = value & !self.wires;
        self.wires = value & (CLOCK | SELECT | DATA_IN | REQUEST);
        if value & SELECT == 0 {
            self.bits = 0;
            self.command = 0;
            self.out = None;
            return;
        }
        if rising & CLOCK != 0 {
            self.clock(value & DATA_IN != 0);
        }
    }

    fn clock(&mut self, data: bool) {
        match self.out {
            // Another word follows without a command.
            Some(0) => {
                self.address = (self.address + 1) % WORDS as u16;
                self.out = Some(15);
            }
            Some(bit) => self.out = Some(bit - 1),
            // Before the start bit nothing counts.
            None if self.bits == 0 && !data => {}
            None if self.bits < COMMAND_BITS => {
                self.command = self.command << 1 | u16::from(data);
                self.bits += 1;
                if self.bits == COMMAND_BITS && self.command >> 6 & 3 == OPERATION_READ {
                    self.address = self.command & 0x3F;
                    // A zero goes before the word.
                    self.out = Some(16);
                }
            }
            None => {}
        }
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
