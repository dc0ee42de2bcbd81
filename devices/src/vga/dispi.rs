//! The Bochs display interface: a few 16-bit registers that switch the adapter to packed pixels of
//! any size.
//!
//! Source: the interface as Bochs (`iodev/display/vga.h`, ids B0C0h to B0C5h) and QEMU
//! (`docs/specs/standard-vga.rst`) have it; where they differ, QEMU's is taken, whose drivers are
//! in use.
//!
//! | index | register |
//! |---|---|
//! | 0 | id |
//! | 1, 2, 3 | width, height, bits a pixel; with GETCAPS the most of each |
//! | 4 | enable |
//! | 5 | bank: which 64 KiB of memory A0000 shows |
//! | 6, 7 | virtual width; virtual height, which follows from it |
//! | 8, 9 | offset of the picture in that, across and down |
//! | A | memory in units of 64 KiB |

use serde::{Deserialize, Serialize};

/// The widest picture, in pixels.
pub const MOST_WIDTH: u16 = 2560;
/// The highest picture, in pixels.
pub const MOST_HEIGHT: u16 = 1600;

const INDEX_ID: u16 = 0;
const INDEX_WIDTH: u16 = 1;
const INDEX_HEIGHT: u16 = 2;
const INDEX_BITS: u16 = 3;
const INDEX_ENABLE: u16 = 4;
const INDEX_BANK: u16 = 5;
const INDEX_VIRTUAL_WIDTH: u16 = 6;
const INDEX_VIRTUAL_HEIGHT: u16 = 7;
const INDEX_X: u16 = 8;
const INDEX_Y: u16 = 9;
const INDEX_MEMORY: u16 = 0xA;

const ENABLED: u16 = 0x01;
const GET_CAPS: u16 = 0x02;
const WIDE_DAC: u16 = 0x20;
const NO_CLEAR: u16 = 0x80;

const FIRST_ID: u16 = 0xB0C0;
const LAST_ID: u16 = 0xB0C5;
const BANK_BYTES: usize = 0x1_0000;
/// A virtual width is bounded by memory alone; this keeps a row's bytes a small number.
const MOST_VIRTUAL_WIDTH: u16 = 0x7FF8;

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dispi {
    index: u16,
    id: u16,
    width: u16,
    height: u16,
    bits: u16,
    enable: u16,
    bank: u16,
    virtual_width: u16,
    x: u16,
    y: u16,
}

/// What the registers say of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Surface {
    pub(super) width: usize,
    pub(super) height: usize,
    /// 4 (in planes), 8, 15, 16, 24 or 32.
    pub(super) bits: u16,
    /// The first byte of the picture in memory.
    pub(super) start: usize,
    /// Bytes from a row to the next.
    pub(super) pitch: usize,
}

impl Surface {
    /// Bytes of a pixel; of 4 bits there are two in a byte, in planes.
    pub(super) fn pixel_bytes(&self) -> usize {
        usize::from(self.bits).div_ceil(8)
    }
}

impl Dispi {
    pub(super) fn new() -> Self {
        Self {
            index: 0,
            id: LAST_ID,
            width: 0,
            height: 0,
            bits: 0,
            enable: 0,
            bank: 0,
            virtual_width: 0,
            x: 0,
            y: 0,
        }
    }

    /// Whether the picture is as these registers say, not the VGA's own.
    pub(super) fn enabled(&self) -> bool {
        self.enable & ENABLED != 0
    }

    /// Whether the DAC has eight bits a component.
    pub(super) fn wide_dac(&self) -> bool {
        self.enable & WIDE_DAC != 0
    }

    /// Where what A0000 shows starts in memory, in bytes (in addresses of a plane, with 4 bits a
    /// pixel).
    pub(super) fn bank_start(&self) -> usize {
        usize::from(self.bank) * BANK_BYTES
    }

    /// The picture, while it is enabled.
    pub(super) fn surface(&self) -> Option<Surface> {
        let pitch = row_bytes(self.virtual_width, self.bits);
        self.enabled().then(|| Surface {
            width: self.width.into(),
            height: self.height.into(),
            bits: self.bits,
            start: usize::from(self.y) * pitch + row_bytes(self.x, self.bits),
            pitch,
        })
    }

    pub(super) fn index(&self) -> u16 {
        self.index
    }

    pub(super) fn select(&mut self, index: u16) {
        self.index = index;
    }

    /// Reads register `index` of an adapter with `memory` bytes.
    pub(super) fn read(&self, index: u16, memory: usize) -> u16 {
        let caps = self.enable & GET_CAPS != 0;
        match index {
            INDEX_ID => self.id,
            INDEX_WIDTH if caps => MOST_WIDTH,
            INDEX_HEIGHT if caps => MOST_HEIGHT,
            INDEX_BITS if caps => 32,
            INDEX_WIDTH => self.width,
            INDEX_HEIGHT => self.height,
            INDEX_BITS => self.bits,
            INDEX_ENABLE => self.enable,
            INDEX_BANK => self.bank,
            INDEX_VIRTUAL_WIDTH => self.virtual_width,
            INDEX_VIRTUAL_HEIGHT if self.enabled() => {
                let rows = memory / row_bytes(self.virtual_width, self.bits).max(1);
                u16::try_from(rows).unwrap_or(u16::MAX)
            }
            INDEX_X => self.x,
            INDEX_Y => self.y,
            INDEX_MEMORY => (memory / BANK_BYTES) as u16,
            _ => 0,
        }
    }

    /// Writes register `index`. Returns how many bytes of memory are to be cleared from its start
    /// on.
    pub(super) fn write(&mut self, index: u16, value: u16, memory: usize) -> usize {
        match index {
            INDEX_ID if (FIRST_ID..=LAST_ID).contains(&value) => self.id = value,
            INDEX_WIDTH => self.width = value,
            INDEX_HEIGHT => self.height = value,
            INDEX_BITS => self.bits = value,
            INDEX_VIRTUAL_WIDTH => self.virtual_width = value,
            INDEX_X => self.x = value,
            INDEX_Y => self.y = value,
            INDEX_BANK => {
                let banks = memory / BANK_BYTES / if self.bits == 4 { 4 } else { 1 };
                self.bank = value & (banks.max(1) - 1) as u16;
            }
            INDEX_ENABLE => return self.set_enable(value, memory),
            _ => {}
        }
        self.mend(memory);
        0
    }

    fn set_enable(&mut self, value: u16, memory: usize) -> usize {
        let begins = value & ENABLED != 0 && !self.enabled();
        self.enable = value;
        if begins {
            self.virtual_width = 0;
            (self.x, self.y) = (0, 0);
        }
        if value & ENABLED == 0 {
            self.bank = 0;
        }
        self.mend(memory);
        match self.surface() {
            Some(surface) if begins && value & NO_CLEAR == 0 => surface.pitch * surface.height,
            _ => 0,
        }
    }

    /// Whether software can have brought the registers into this state.
    pub(super) fn is_sound(&self, memory: usize) -> bool {
        let mut mended = self.clone();
        mended.mend(memory);
        mended == *self
    }

    /// Brings what software asked for within what there is, while the picture is enabled.
    fn mend(&mut self, memory: usize) {
        if !self.enabled() {
            return;
        }
        self.bits = match self.bits {
            4 | 8 | 15 | 16 | 24 | 32 => self.bits,
            _ => 8,
        };
        self.width = (self.width & !7).clamp(8, MOST_WIDTH);
        let widest = MOST_VIRTUAL_WIDTH.max(self.width);
        self.virtual_width = (self.virtual_width & !7).clamp(self.width, widest);
        let pitch = row_bytes(self.virtual_width, self.bits);
        let rows = u16::try_from(memory / pitch).unwrap_or(u16::MAX).max(1);
        self.height = self.height.clamp(1, MOST_HEIGHT).min(rows);
        let height = usize::from(self.height) * pitch;
        let fits = |x: u16, y: u16| {
            let start = usize::from(y) * pitch + row_bytes(x, self.bits);
            start + height <= memory
        };
        if !fits(self.x, self.y) {
            self.y = 0;
            if !fits(self.x, 0) {
                self.x = 0;
            }
        }
        if self.bits == 4 {
            self.bank &= (memory / BANK_BYTES / 4).max(1) as u16 - 1;
        }
    }
}

/// Bytes that `pixels` of a row take in memory.
fn row_bytes(pixels: u16, bits: u16) -> usize {
    let pixels = usize::from(pixels);
    match bits {
        4 => pixels / 2,
        bits => pixels * usize::from(bits).div_ceil(8),
    }
}
