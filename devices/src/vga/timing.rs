//! The raster: where the beam is at a time, from the CRT controller's registers and the dot clock.

/// Timing of one frame, in dots and scan lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    dot_hz: u64,
    /// Dots in a character.
    pub(super) char_dots: usize,
    /// Characters shown in a line.
    pub(super) columns: usize,
    /// Scan lines shown.
    pub(super) lines: usize,
    /// Scan lines that the vertical counter's steps take: 1, or 2 when it is clocked at half rate.
    pub(super) lines_per_count: usize,
    line_dots: u64,
    shown_dots: u64,
    frame_lines: u64,
    retrace: (u64, u64),
    running: bool,
}

impl Timing {
    pub(super) fn new(misc: u8, clocking: u8, crtc: &[u8; 25]) -> Self {
        let char_dots = if clocking & 1 != 0 { 8 } else { 9 };
        let dot_hz = match misc >> 2 & 3 {
            0 => 25_175_000,
            _ => 28_322_000,
        };
        // Bit `low` of the overflow register is bit 8 of a vertical value, bit `high` is bit 9.
        let vertical = |register: usize, low: u8, high: u8| {
            u64::from(crtc[register])
                | u64::from(crtc[7] >> low & 1) << 8
                | u64::from(crtc[7] >> high & 1) << 9
        };
        let per_count = if crtc[0x17] & 0x04 != 0 { 2 } else { 1 };
        let columns = u64::from(crtc[1]) + 1;
        let retrace_start = vertical(0x10, 2, 7);
        let retrace_lines = match (u64::from(crtc[0x11]).wrapping_sub(retrace_start)) & 0x0F {
            0 => 16,
            lines => lines,
        };
        Self {
            dot_hz: if clocking & 0x08 != 0 {
                dot_hz / 2
            } else {
                dot_hz
            },
            char_dots: char_dots as usize,
            columns: columns as usize,
            lines: ((vertical(0x12, 1, 6) + 1) * per_count) as usize,
            lines_per_count: per_count as usize,
            line_dots: (u64::from(crtc[0]) + 5) * char_dots,
            shown_dots: columns * char_dots,
            frame_lines: (vertical(0x06, 0, 5) + 2) * per_count,
            retrace: (
                retrace_start * per_count,
                (retrace_start + retrace_lines) * per_count,
            ),
            running: crtc[0x17] & 0x80 != 0,
        }
    }

    /// The raster of a picture of the Bochs display interface, which has no registers for it: 60
    /// frames a second, with the retrace behind the last line.
    pub(super) fn linear(width: usize, height: usize) -> Self {
        const BLANK_LINES: u64 = 32;
        let line_dots = width as u64 * 5 / 4;
        let frame_lines = height as u64 + BLANK_LINES;
        Self {
            dot_hz: line_dots * frame_lines * 60,
            char_dots: 8,
            columns: width / 8,
            lines: height,
            lines_per_count: 1,
            line_dots,
            shown_dots: width as u64,
            frame_lines,
            retrace: (height as u64, frame_lines),
            running: true,
        }
    }

    /// Which frame since power-on is being shown, if the raster had never changed.
    pub(super) fn frame_number(&self, now_ns: u64) -> u64 {
        self.dots(now_ns) / (self.line_dots * self.frame_lines)
    }

    /// Input status 1: bit 0 outside of the picture, bit 3 in the vertical retrace.
    pub(super) fn input_status_1(&self, now_ns: u64) -> u8 {
        if !self.running {
            return 0x01;
        }
        let dot = self.dots(now_ns) % (self.line_dots * self.frame_lines);
        let (line, column) = (dot / self.line_dots, dot % self.line_dots);
        let blank = line >= self.lines as u64 || column >= self.shown_dots;
        let retrace = (self.retrace.0..self.retrace.1).contains(&line);
        u8::from(blank || retrace) | u8::from(retrace) << 3
    }

    fn dots(&self, now_ns: u64) -> u64 {
        const SECOND_NS: u64 = 1_000_000_000;
        // The product of the whole would need 128 bits.
        now_ns / SECOND_NS * self.dot_hz + now_ns % SECOND_NS * self.dot_hz / SECOND_NS
    }
}
