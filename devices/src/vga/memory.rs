//! The processor's way to video memory: aperture, planes, latches, write and read modes.

use serde::{Deserialize, Serialize};

use super::registers::Registers;

/// Addresses in a plane.
pub(super) const PLANE_BYTES: usize = 0x1_0000;

/// How the processor's accesses go, derived from the registers whenever they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Path {
    /// Bytes go to planes 0 and 1 in turn, unchanged: text.
    Text,
    /// Bytes go to the four planes in turn, unchanged: 256 colours.
    Chained,
    /// Anything else: through the whole of the graphics controller.
    #[default]
    General,
}

/// The part of the aperture, in bytes from A0000, that graphics register 6 opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    base: u64,
    len: u64,
}

impl Window {
    fn new(registers: &Registers) -> Self {
        let (base, len) = match registers.graphics[6] >> 2 & 3 {
            _ if !registers.memory_enabled() => (0, 0),
            0 => (0, 0x2_0000),
            1 => (0, 0x1_0000),
            2 => (0x1_0000, 0x8000),
            _ => (0x1_8000, 0x8000),
        };
        Self { base, len }
    }

    /// Where in it `size` bytes at `offset` from A0000 lie, if they do as a whole.
    #[inline]
    fn locate(self, offset: u64, size: u64) -> Option<u32> {
        let at = offset.wrapping_sub(self.base);
        (at < self.len && size <= self.len - at).then_some(at as u32)
    }
}

/// Four planes: byte n of word a is plane n at address a, the shape of the latches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct VideoMemory {
    #[serde(with = "planes")]
    words: Box<[u32; PLANE_BYTES]>,
    latch: u32,
    #[serde(skip)]
    window: Window,
    /// Of a write.
    #[serde(skip)]
    path: Path,
    /// A read gives the bytes of the four planes in turn.
    #[serde(skip)]
    reads_chained: bool,
}

impl VideoMemory {
    pub(super) fn new() -> Self {
        Self {
            words: zeroed(),
            latch: 0,
            window: Window::default(),
            path: Path::General,
            reads_chained: false,
        }
    }

    pub(super) fn words(&self) -> &[u32; PLANE_BYTES] {
        &self.words
    }

    /// Finds the short way that the registers allow. To be called when a register may have changed.
    pub(super) fn classify(&mut self, registers: &Registers) {
        let (sequencer, graphics) = (&registers.sequencer, &registers.graphics);
        let unchanged =
            graphics[5] & 3 == 0 && graphics[3] == 0 && graphics[1] == 0 && graphics[8] == 0xFF;
        let chained = sequencer[4] & 0x08 != 0;
        let odd_even = sequencer[4] & 0x04 == 0 && graphics[6] & 0x02 != 0;
        self.window = Window::new(registers);
        self.reads_chained = chained && graphics[5] & 0x08 == 0;
        self.path = if unchanged && chained && sequencer[2] == 0x0F {
            Path::Chained
        } else if unchanged
            && !chained
            && odd_even
            && sequencer[2] == 0x03
            && graphics[6] & 0x0C != 0
        {
            Path::Text
        } else {
            Path::General
        };
    }

    /// Reads `size` bytes at `offset` from A0000.
    pub(super) fn read(&mut self, registers: &Registers, offset: u64, size: u8) -> u64 {
        let size = u64::from(size.min(8));
        let Some(at) = self.window.locate(offset, size) else {
            return self.read_across_edge(registers, offset, size);
        };
        if self.reads_chained {
            return self.read_chained(at, size);
        }
        (0..size as u32).fold(0, |value, n| {
            value | u64::from(self.read_byte(registers, at + n)) << (8 * n)
        })
    }

    /// Writes `size` bytes at `offset` from A0000.
    pub(super) fn write(&mut self, registers: &Registers, offset: u64, size: u8, value: u64) {
        let size = u64::from(size.min(8));
        let Some(at) = self.window.locate(offset, size) else {
            return self.write_across_edge(registers, offset, size, value);
        };
        match self.path {
            Path::Text => self.write_in_turn::<2>(at, size, value),
            Path::Chained => self.write_in_turn::<4>(at, size, value),
            Path::General => {
                for n in 0..size as u32 {
                    self.write_byte(registers, at + n, (value >> (8 * n)) as u8);
                }
            }
        }
    }

    /// An access that is not as a whole in the window; outside of it bytes read as FFh.
    #[cold]
    fn read_across_edge(&mut self, registers: &Registers, offset: u64, size: u64) -> u64 {
        (0..size).fold(0, |value, n| {
            let byte = match self.window.locate(offset.wrapping_add(n), 1) {
                Some(_) => self.read(registers, offset.wrapping_add(n), 1),
                None => 0xFF,
            };
            value | byte << (8 * n)
        })
    }

    #[cold]
    fn write_across_edge(&mut self, registers: &Registers, offset: u64, size: u64, value: u64) {
        for n in 0..size {
            if self.window.locate(offset.wrapping_add(n), 1).is_some() {
                let byte = value >> (8 * n) & 0xFF;
                self.write(registers, offset.wrapping_add(n), 1, byte);
            }
        }
    }

    /// Bytes that go to the first `PLANES` planes in turn.
    #[inline]
    fn write_in_turn<const PLANES: u32>(&mut self, at: u32, size: u64, value: u64) {
        let (mut at, mut left, mut value) = (at, size as u32, value);
        while left > 0 {
            let plane = at & (PLANES - 1);
            let bytes = left.min(PLANES - plane);
            let mask = !0 >> (32 - 8 * bytes) << (8 * plane);
            let word = &mut self.words[(at & 0xFFFF & !(PLANES - 1)) as usize];
            *word = *word & !mask | (value as u32) << (8 * plane) & mask;
            value >>= 8 * bytes;
            at += bytes;
            left -= bytes;
        }
    }

    #[inline]
    fn read_chained(&mut self, at: u32, size: u64) -> u64 {
        let mut value = 0;
        let mut done = 0;
        while done < size as u32 {
            let plane = (at + done) & 3;
            self.latch = self.words[((at + done) & 0xFFFC) as usize];
            value |= u64::from(self.latch >> (8 * plane)) << (8 * done);
            done += 4 - plane;
        }
        value & (!0 >> (64 - 8 * size))
    }

    fn read_byte(&mut self, registers: &Registers, at: u32) -> u8 {
        let graphics = &registers.graphics;
        let chained = registers.sequencer[4] & 0x08 != 0;
        self.latch = self.words[address(registers, at)];
        if graphics[5] & 0x08 != 0 {
            let differs = (self.latch ^ planes_of(graphics[2])) & planes_of(graphics[7]);
            return !differs
                .to_le_bytes()
                .iter()
                .fold(0, |any, plane| any | plane);
        }
        let plane = if chained {
            at & 3
        } else if graphics[5] & 0x10 != 0 {
            u32::from(graphics[4] & 2) | at & 1
        } else {
            graphics[4].into()
        };
        (self.latch >> (8 * plane)) as u8
    }

    fn write_byte(&mut self, registers: &Registers, at: u32, byte: u8) {
        let graphics = &registers.graphics;
        let latch = self.latch;
        let rotated = byte.rotate_right(u32::from(graphics[3] & 7));
        let bit_mask = splat(graphics[8]);
        let data = match graphics[5] & 3 {
            0 => {
                let enable = planes_of(graphics[1]);
                let data = splat(rotated) & !enable | planes_of(graphics[0]) & enable;
                mix(graphics[3], data, latch, bit_mask)
            }
            1 => latch,
            2 => mix(graphics[3], planes_of(byte), latch, bit_mask),
            _ => {
                let data = planes_of(graphics[0]);
                mix(graphics[3], data, latch, bit_mask & splat(rotated))
            }
        };
        let selected = if registers.sequencer[4] & 0x08 != 0 {
            1 << (at & 3)
        } else if registers.sequencer[4] & 0x04 == 0 {
            5 << (at & 1)
        } else {
            0x0F
        };
        let mask = planes_of(selected & registers.sequencer[2]);
        let word = &mut self.words[address(registers, at)];
        *word = *word & !mask | data & mask;
    }
}

/// The address in the planes of `at` in the window.
fn address(registers: &Registers, at: u32) -> usize {
    let address = if registers.sequencer[4] & 0x08 != 0 {
        at & 0xFFFC
    } else if registers.graphics[6] & 0x02 != 0 {
        // Bit 0 chose the planes; the bit above the planes takes its place.
        at & 0xFFFE | at >> 16 & 1
    } else {
        at
    };
    address as usize & (PLANE_BYTES - 1)
}

/// The logic function of graphics register 3 on data and latches, in the bits of `bit_mask`.
fn mix(function: u8, data: u32, latch: u32, bit_mask: u32) -> u32 {
    let mixed = match function >> 3 & 3 {
        0 => data,
        1 => data & latch,
        2 => data | latch,
        _ => data ^ latch,
    };
    mixed & bit_mask | latch & !bit_mask
}

/// All bits of the planes that `nibble` names.
#[inline]
fn planes_of(nibble: u8) -> u32 {
    const PLANES: [u32; 16] = {
        let mut all = [0; 16];
        let mut nibble = 0;
        while nibble < 16 {
            let spread = nibble & 1 | (nibble & 2) << 7 | (nibble & 4) << 14 | (nibble & 8) << 21;
            all[nibble as usize] = spread * 0xFF;
            nibble += 1;
        }
        all
    };
    PLANES[usize::from(nibble & 15)]
}

/// The same byte in all planes.
fn splat(byte: u8) -> u32 {
    u32::from(byte) * 0x0101_0101
}

fn zeroed() -> Box<[u32; PLANE_BYTES]> {
    vec![0; PLANE_BYTES]
        .try_into()
        .expect("a vector of the array's length")
}

/// Video memory as bytes in a saved state.
mod planes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{PLANE_BYTES, zeroed};

    pub fn serialize<S: Serializer>(
        words: &[u32; PLANE_BYTES],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Box<[u32; PLANE_BYTES]>, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let (quads, rest) = bytes.as_chunks::<4>();
        if quads.len() != PLANE_BYTES || !rest.is_empty() {
            return Err(D::Error::invalid_length(bytes.len(), &"256 KiB"));
        }
        let mut words = zeroed();
        for (word, quad) in words.iter_mut().zip(quads) {
            *word = u32::from_le_bytes(*quad);
        }
        Ok(words)
    }
}
