//! Pixels as a client wants them (RFC 6143, 7.4).

/// How a pixel is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PixelFormat {
    bits: u8,
    depth: u8,
    big: bool,
    true_colour: bool,
    /// Red, green, blue: the largest value, and how far to the left it stands.
    parts: [(u16, u8); 3],
}

impl Default for PixelFormat {
    /// 32 bits, 0x00RRGGBB, as pictures have them.
    fn default() -> Self {
        Self {
            bits: 32,
            depth: 24,
            big: false,
            true_colour: true,
            parts: [(255, 16), (255, 8), (255, 0)],
        }
    }
}

impl PixelFormat {
    /// Reads the 16 bytes; `None`: no pixel could be written so.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let max = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let format = Self {
            bits: bytes[0],
            depth: bytes[1],
            big: bytes[2] != 0,
            true_colour: bytes[3] != 0,
            parts: [
                (max(4), bytes[10]),
                (max(6), bytes[11]),
                (max(8), bytes[12]),
            ],
        };
        let fits = |(max, shift): (u16, u8)| u64::from(max) << shift.min(48) < 1 << format.bits;
        let good = matches!(format.bits, 8 | 16 | 32)
            && (!format.true_colour && format.bits == 8 || format.parts.into_iter().all(fits));
        good.then_some(format)
    }

    /// The 16 bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[
            self.bits,
            self.depth,
            self.big.into(),
            self.true_colour.into(),
        ]);
        for (part, (max, shift)) in self.parts.into_iter().enumerate() {
            bytes[4 + 2 * part..6 + 2 * part].copy_from_slice(&max.to_be_bytes());
            bytes[10 + part] = shift;
        }
        bytes
    }

    /// Bytes in a pixel.
    pub fn bytes(self) -> usize {
        usize::from(self.bits / 8)
    }

    /// Bytes in a compressed pixel (7.7.5).
    pub fn short_bytes(self) -> usize {
        let in_three = self
            .parts
            .iter()
            .all(|(max, shift)| u64::from(*max) << shift < 1 << 24);
        match self.bits == 32 && self.true_colour && self.depth <= 24 && in_three {
            true => 3,
            false => self.bytes(),
        }
    }

    fn value(self, pixel: u32) -> u32 {
        if !self.true_colour {
            // Two bits of each colour: without a table that a client was sent, it sees at least shapes.
            let part = |shift: u32, bits: u32| (pixel >> shift & 0xFF) >> (8 - bits);
            return part(16, 3) | part(8, 3) << 3 | part(0, 2) << 6;
        }
        let parts = [16, 8, 0].into_iter().zip(self.parts);
        parts.fold(0, |value, (from, (max, shift))| {
            let part = (pixel >> from & 0xFF) * u32::from(max);
            value | ((part + 127) / 255) << shift
        })
    }

    /// Appends a pixel, 0x00RRGGBB.
    pub fn put(self, pixel: u32, out: &mut Vec<u8>) {
        if self == Self::default() {
            out.extend((pixel & 0xFF_FFFF).to_le_bytes());
            return;
        }
        let value = self.value(pixel);
        match (self.bits, self.big) {
            (8, _) => out.push(value as u8),
            (16, true) => out.extend((value as u16).to_be_bytes()),
            (16, false) => out.extend((value as u16).to_le_bytes()),
            (_, true) => out.extend(value.to_be_bytes()),
            (_, false) => out.extend(value.to_le_bytes()),
        }
    }

    /// Appends a compressed pixel.
    pub fn put_short(self, pixel: u32, out: &mut Vec<u8>) {
        if self.short_bytes() == self.bytes() {
            return self.put(pixel, out);
        }
        let value = self.value(pixel);
        match self.big {
            true => out.extend(&value.to_be_bytes()[1..]),
            false => out.extend(&value.to_le_bytes()[..3]),
        }
    }
}
