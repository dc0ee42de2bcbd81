//! A serial EEPROM of 64 words on four wires: a 93C46 in its 16-bit organisation.
//!
//! A start bit, two bits of operation and six of address are clocked in; a zero and the word's
//! bits, high one first, come out, and the next words after it. It is only read; what is written to
//! it is ignored.

use serde::{Deserialize, Serialize};

/// Words of the EEPROM.
pub const WORDS: usize = 64;

/// Start, operation and address.
const COMMAND_BITS: u8 = 9;
const OPERATION_READ: u16 = 0b10;

/// What the wires have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Microwire {
    clock: bool,
    /// The bits of the command so far.
    command: u16,
    bits: u8,
    /// The word that is read, and which of its bits is on the wire; 16 is the zero before it.
    address: u16,
    out: Option<u8>,
}

impl Microwire {
    /// The wires change: chip select, clock and data to the EEPROM.
    pub fn drive(&mut self, select: bool, clock: bool, data: bool) {
        let rising = clock && !self.clock;
        self.clock = clock;
        if !select {
            self.bits = 0;
            self.command = 0;
            self.out = None;
        } else if rising {
            self.shift(data);
        }
    }

    fn shift(&mut self, data: bool) {
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
                    self.out = Some(16);
                }
            }
            None => {}
        }
    }

    /// The level of the data from the EEPROM, which holds `words`.
    pub fn out(&self, words: &[u16; WORDS]) -> bool {
        match self.out {
            Some(bit @ 0..16) => words[usize::from(self.address) % WORDS] >> bit & 1 != 0,
            Some(_) => false,
            // Not driven, and so high: ready, for who waits for the end of a write.
            None => true,
        }
    }
}
