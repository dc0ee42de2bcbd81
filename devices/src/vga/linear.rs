//! Pictures of packed pixels, as the Bochs display interface has them.

use platform::Frame;

use super::dispi::Surface;
use super::memory::PAGE_BYTES;
use super::registers::Registers;

/// How pixels become colours.
pub(super) struct Painter<'a> {
    surface: Surface,
    memory: &'a [u8],
    /// The palette, of 8 bits a pixel.
    colours: Box<[u32; 256]>,
    big_endian: bool,
}

impl<'a> Painter<'a> {
    /// For a surface of 8 or more bits a pixel.
    pub(super) fn new(
        registers: &Registers,
        surface: Surface,
        memory: &'a [u8],
        big_endian: bool,
    ) -> Self {
        Self {
            surface,
            memory,
            colours: Box::new(std::array::from_fn(|n| registers.colour(n as u8))),
            big_endian,
        }
    }

    /// The whole picture.
    pub(super) fn frame(&self) -> Frame {
        let Surface { width, height, .. } = self.surface;
        let mut frame = Frame {
            width,
            height,
            pixels: vec![0; width * height],
            mode: match self.surface.bits {
                8 => format!("graphics {width}x{height}x256"),
                bits => format!("graphics {width}x{height}, {bits} bits"),
            },
            text: None,
        };
        for row in 0..height {
            self.row(row, &mut frame.pixels);
        }
        frame
    }

    /// Paints the rows that lie in these pages of memory into a picture; says whether there are
    /// any.
    pub(super) fn repaint(&self, pages: &[u64], pixels: &mut [u32]) -> bool {
        let Surface {
            start,
            pitch,
            height,
            ..
        } = self.surface;
        let mut next = 0;
        let mut any = false;
        for &page in pages {
            let first = page as usize * PAGE_BYTES;
            let Some(last) = (first + PAGE_BYTES - 1).checked_sub(start) else {
                continue;
            };
            let from = (first.saturating_sub(start) / pitch).max(next);
            // Rows are painted once, though pages share them.
            for row in from..(last / pitch + 1).min(height) {
                self.row(row, pixels);
                any = true;
                next = row + 1;
            }
        }
        any
    }

    fn row(&self, row: usize, pixels: &mut [u32]) {
        let surface = &self.surface;
        let start = surface.start + row * surface.pitch;
        let len = surface.width * surface.pixel_bytes();
        let Some(bytes) = self.memory.get(start..start + len) else {
            return;
        };
        let Some(dots) = pixels.get_mut(row * surface.width..(row + 1) * surface.width) else {
            return;
        };
        match surface.bits {
            8 => each::<1>(bytes, dots, |[index]| self.colours[usize::from(index)]),
            15 => each::<2>(bytes, dots, |pair| {
                let pixel = u32::from(self.word(pair));
                five(pixel >> 10) << 16 | five(pixel >> 5) << 8 | five(pixel)
            }),
            16 => each::<2>(bytes, dots, |pair| {
                let pixel = u32::from(self.word(pair));
                let green = pixel >> 5 & 0x3F;
                five(pixel >> 11) << 16 | (green << 2 | green >> 4) << 8 | five(pixel)
            }),
            24 if self.big_endian => {
                each::<3>(bytes, dots, |[r, g, b]| u32::from_le_bytes([b, g, r, 0]));
            }
            24 => each::<3>(bytes, dots, |[b, g, r]| u32::from_le_bytes([b, g, r, 0])),
            _ if self.big_endian => {
                each::<4>(bytes, dots, |quad| u32::from_be_bytes(quad) & 0xFF_FFFF)
            }
            _ => each::<4>(bytes, dots, |quad| u32::from_le_bytes(quad) & 0xFF_FFFF),
        }
    }

    fn word(&self, pair: [u8; 2]) -> u16 {
        match self.big_endian {
            true => u16::from_be_bytes(pair),
            false => u16::from_le_bytes(pair),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], dots: &mut [u32], colour: impl Fn([u8; N]) -> u32) {
    let (pixels, _) = bytes.as_chunks::<N>();
    for (dot, &pixel) in dots.iter_mut().zip(pixels) {
        *dot = colour(pixel);
    }
}

/// Eight bits from the lowest five.
fn five(bits: u32) -> u32 {
    let bits = bits & 0x1F;
    bits << 3 | bits >> 2
}
