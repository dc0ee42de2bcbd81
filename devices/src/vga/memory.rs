//! The processor's way to video memory through the aperture: planes, latches, write and read modes,
//! banks.
//!
//! Byte 4a + n of memory is plane n at address a, so that planes and linear memory are one. In the
//! VGA's own modes a plane has 64 KiB; in those of the Bochs display interface all of memory is
//! reached, a bank at a time.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::dispi::Dispi;
use super::registers::Registers;

/// Addresses in a plane of the VGA.
pub(super) const PLANE_BYTES: usize = 0x1_0000;
/// Bytes of memory that the VGA's own modes reach.
pub(super) const VGA_BYTES: usize = 4 * PLANE_BYTES;
/// The grain in which memory knows what was written.
pub(super) const PAGE_BYTES: usize = platform::PAGE_BYTES as usize;

/// How the processor's accesses go, derived from the registers whenever they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Path {
    /// Bytes go to planes 0 and 1 in turn, unchanged: text.
    Text,
    /// Bytes go to the four planes in turn, unchanged: 256 colours.
    Chained,
    /// Bytes are bytes of memory.
    Linear,
    /// Anything else: through the whole of the graphics controller.
    #[default]
    General,
}

/// How an address of the aperture chooses planes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Addressing {
    /// Bits 0 and 1 choose the plane.
    chained: bool,
    /// Bit 0 chooses among planes on writes, and on reads.
    odd_even_writes: bool,
    odd_even_reads: bool,
    /// Bit 0 is no part of the address in a plane.
    bit_0_replaced: bool,
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

/// Video memory, while it is accessed: the four planes at an address are a word.
pub(super) struct Planes<'a> {
    words: &'a mut [[u8; 4]],
    written: Range<usize>,
}

impl<'a> Planes<'a> {
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Self {
            words: memory.as_chunks_mut::<4>().0,
            written: Range {
                start: usize::MAX,
                end: 0,
            },
        }
    }

    /// The bytes from the first to the last one that were written.
    pub(super) fn written(&self) -> Option<Range<usize>> {
        let Range { start, end } = self.written;
        (start < end).then(|| start * 4..end * 4)
    }

    #[inline]
    fn get(&self, at: usize) -> u32 {
        self.words
            .get(at)
            .map_or(!0, |&word| u32::from_le_bytes(word))
    }

    /// Writes the bits of `mask`.
    #[inline]
    fn set(&mut self, at: usize, mask: u32, value: u32) {
        if let Some(word) = self.words.get_mut(at) {
            let before = u32::from_le_bytes(*word);
            *word = (before & !mask | value & mask).to_le_bytes();
            self.written.start = self.written.start.min(at);
            self.written.end = self.written.end.max(at + 1);
        }
    }
}

/// What the aperture remembers, and how it is set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Aperture {
    latch: u32,
    #[serde(skip)]
    window: Window,
    /// Of a write.
    #[serde(skip)]
    path: Path,
    /// A read gives the bytes of the four planes in turn.
    #[serde(skip)]
    reads_chained: bool,
    #[serde(skip)]
    addressing: Addressing,
    /// Added to an address in the planes, or in linear memory.
    #[serde(skip)]
    bank_start: usize,
    /// The addresses in the planes that there are.
    #[serde(skip)]
    plane_mask: usize,
}

impl Aperture {
    /// As after a reset, but for this latch.
    pub(super) fn with_latch(latch: u32) -> Self {
        Self {
            latch,
            ..Self::default()
        }
    }

    /// Finds the short way that the registers allow. To be called when a register may have changed.
    pub(super) fn classify(&mut self, registers: &Registers, dispi: &Dispi) {
        let (sequencer, graphics) = (&registers.sequencer, &registers.graphics);
        let unchanged =
            graphics[5] & 3 == 0 && graphics[3] == 0 && graphics[1] == 0 && graphics[8] == 0xFF;
        let chained = sequencer[4] & 0x08 != 0;
        let odd_even = sequencer[4] & 0x04 == 0 && graphics[6] & 0x02 != 0;
        self.bank_start = 0;
        self.plane_mask = PLANE_BYTES - 1;
        if let Some(surface) = dispi.surface() {
            // What is shown at A0000 does not depend on the VGA's own idea of its memory.
            self.window = Window {
                base: 0,
                len: 0x1_0000,
            };
            self.bank_start = dispi.bank_start();
            self.plane_mask = super::MEMORY_BYTES / 4 - 1;
            self.addressing = Addressing::default();
            self.reads_chained = false;
            self.path = match surface.bits {
                4 => Path::General,
                _ => Path::Linear,
            };
            return;
        }
        self.window = Window::new(registers);
        self.addressing = Addressing {
            chained,
            odd_even_writes: sequencer[4] & 0x04 == 0,
            odd_even_reads: graphics[5] & 0x10 != 0,
            bit_0_replaced: graphics[6] & 0x02 != 0,
        };
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
    pub(super) fn read(
        &mut self,
        registers: &Registers,
        planes: &Planes<'_>,
        offset: u64,
        size: u8,
    ) -> u64 {
        let size = u64::from(size.min(8));
        let Some(at) = self.window.locate(offset, size) else {
            return self.read_across_edge(registers, planes, offset, size);
        };
        if self.path == Path::Linear {
            return self.read_linear(planes, at, size);
        }
        if self.reads_chained {
            return self.read_chained(planes, at, size);
        }
        (0..size as u32).fold(0, |value, n| {
            value | u64::from(self.read_byte(registers, planes, at + n)) << (8 * n)
        })
    }

    /// Writes `size` bytes at `offset` from A0000.
    pub(super) fn write(
        &mut self,
        registers: &Registers,
        planes: &mut Planes<'_>,
        offset: u64,
        size: u8,
        value: u64,
    ) {
        let size = u64::from(size.min(8));
        let Some(at) = self.window.locate(offset, size) else {
            return self.write_across_edge(registers, planes, offset, size, value);
        };
        match self.path {
            Path::Text => write_in_turn::<2>(planes, at, size, value, |at| at & 0xFFFE),
            Path::Chained => write_in_turn::<4>(planes, at, size, value, |at| at & 0xFFFC),
            Path::Linear => {
                let start = self.bank_start;
                write_in_turn::<4>(planes, at, size, value, |at| (start + at) / 4);
            }
            Path::General => {
                for n in 0..size as u32 {
                    self.write_byte(registers, planes, at + n, (value >> (8 * n)) as u8);
                }
            }
        }
    }

    /// An access that is not as a whole in the window; outside of it bytes read as FFh.
    #[cold]
    fn read_across_edge(
        &mut self,
        registers: &Registers,
        planes: &Planes<'_>,
        offset: u64,
        size: u64,
    ) -> u64 {
        (0..size).fold(0, |value, n| {
            let at = offset.wrapping_add(n);
            let byte = match self.window.locate(at, 1) {
                Some(_) => self.read(registers, planes, at, 1),
                None => 0xFF,
            };
            value | byte << (8 * n)
        })
    }

    #[cold]
    fn write_across_edge(
        &mut self,
        registers: &Registers,
        planes: &mut Planes<'_>,
        offset: u64,
        size: u64,
        value: u64,
    ) {
        for n in 0..size {
            let at = offset.wrapping_add(n);
            if self.window.locate(at, 1).is_some() {
                self.write(registers, planes, at, 1, value >> (8 * n) & 0xFF);
            }
        }
    }

    fn read_linear(&self, planes: &Planes<'_>, at: u32, size: u64) -> u64 {
        let first = self.bank_start + at as usize;
        let words = [0, 1, 2].map(|n| u128::from(planes.get(first / 4 + n)) << (32 * n));
        let value = (words[0] | words[1] | words[2]) >> (8 * (first % 4));
        value as u64 & (!0 >> (64 - 8 * size))
    }

    #[inline]
    fn read_chained(&mut self, planes: &Planes<'_>, at: u32, size: u64) -> u64 {
        let mut value = 0;
        let mut done = 0;
        while done < size as u32 {
            let plane = (at + done) & 3;
            self.latch = planes.get(((at + done) & 0xFFFC) as usize);
            value |= u64::from(self.latch >> (8 * plane)) << (8 * done);
            done += 4 - plane;
        }
        value & (!0 >> (64 - 8 * size))
    }

    fn read_byte(&mut self, registers: &Registers, planes: &Planes<'_>, at: u32) -> u8 {
        let graphics = &registers.graphics;
        self.latch = planes.get(self.address(at));
        if graphics[5] & 0x08 != 0 {
            let differs = (self.latch ^ planes_of(graphics[2])) & planes_of(graphics[7]);
            return !differs
                .to_le_bytes()
                .iter()
                .fold(0, |any, plane| any | plane);
        }
        let plane = if self.addressing.chained {
            at & 3
        } else if self.addressing.odd_even_reads {
            u32::from(graphics[4] & 2) | at & 1
        } else {
            graphics[4].into()
        };
        (self.latch >> (8 * plane)) as u8
    }

    fn write_byte(&mut self, registers: &Registers, planes: &mut Planes<'_>, at: u32, byte: u8) {
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
        let selected = if self.addressing.chained {
            1 << (at & 3)
        } else if self.addressing.odd_even_writes {
            5 << (at & 1)
        } else {
            0x0F
        };
        let mask = planes_of(selected & registers.sequencer[2]);
        planes.set(self.address(at), mask, data);
    }

    /// The address in the planes of `at` in the window.
    fn address(&self, at: u32) -> usize {
        let address = if self.addressing.chained {
            at & 0xFFFC
        } else if self.addressing.bit_0_replaced {
            // Bit 0 chose the planes; the bit above the planes takes its place.
            at & 0xFFFE | at >> 16 & 1
        } else {
            at
        };
        (self.bank_start + address as usize) & self.plane_mask
    }
}

/// Bytes that go to the first `PLANES` planes in turn, at the word that `index` gives of an
/// address.
#[inline]
fn write_in_turn<const PLANES: u32>(
    planes: &mut Planes<'_>,
    at: u32,
    size: u64,
    value: u64,
    index: impl Fn(usize) -> usize,
) {
    let (mut at, mut left, mut value) = (at, size as u32, value);
    while left > 0 {
        let plane = at & (PLANES - 1);
        let bytes = left.min(PLANES - plane);
        let mask = !0 >> (32 - 8 * bytes) << (8 * plane);
        planes.set(index(at as usize), mask, (value as u32) << (8 * plane));
        value >>= 8 * bytes;
        at += bytes;
        left -= bytes;
    }
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
