//! Turns registers and video memory into a picture, by the way of the CRT controller's counters.

use platform::{Frame, TextScreen};

use super::dispi::{Dispi, Surface};
use super::linear::Painter;
use super::memory::PLANE_BYTES;
use super::registers::Registers;
use super::timing::Timing;

/// Offsets in plane 2 of the eight character generators that sequencer register 3 selects from.
const FONTS: [usize; 8] = [
    0x0000, 0x4000, 0x8000, 0xC000, 0x2000, 0x6000, 0xA000, 0xE000,
];
/// The bit of the frame's number that the cursor blinks by; characters do at half that rate.
const CURSOR_FRAMES: u64 = 8;
const CHARACTER_FRAMES: u64 = 16;
/// Bytes that plane 2 keeps for each character.
const GLYPH_BYTES: usize = 32;

/// All that a picture is made of.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) registers: &'a Registers,
    pub(super) dispi: &'a Dispi,
    pub(super) memory: &'a [u8],
    /// Of packed pixels.
    pub(super) big_endian: bool,
}

impl<'a> Scene<'a> {
    /// The picture at `now_ns`.
    pub(super) fn render(&self, now_ns: u64) -> Frame {
        let Some(surface) = self.dispi.surface() else {
            let screen = Screen::new(self.registers, self.memory, now_ns);
            return if !self.registers.screen_on() {
                screen.blank()
            } else if self.registers.graphics[6] & 1 == 0 {
                screen.text()
            } else {
                screen.graphics()
            };
        };
        if !self.registers.lit() {
            blank(surface.width, surface.height)
        } else if surface.bits == 4 {
            planar(self.registers, &surface, self.memory)
        } else {
            self.painter(surface).frame()
        }
    }

    /// For a picture of packed pixels, which can be painted in part.
    pub(super) fn packed(&self) -> Option<Painter<'a>> {
        let surface = self.dispi.surface()?;
        (surface.bits != 4 && self.registers.lit()).then(|| self.painter(surface))
    }

    fn painter(&self, surface: Surface) -> Painter<'a> {
        Painter::new(self.registers, surface, self.memory, self.big_endian)
    }

    /// What of `now_ns` the picture depends on: how far the cursor and blinking characters are.
    pub(super) fn phase(&self, now_ns: u64) -> u64 {
        let registers = self.registers;
        if self.dispi.enabled() || !registers.screen_on() {
            return 0;
        }
        let phase = registers.timing().frame_number(now_ns) & (CURSOR_FRAMES | CHARACTER_FRAMES);
        let text = registers.graphics[6] & 1 == 0;
        let cursor = if text && cursor_shown(registers) {
            CURSOR_FRAMES
        } else {
            0
        };
        // Which characters blink is not looked for: where some may, each change of theirs is drawn.
        let characters = if blinks(registers) && (text || registers.graphics[5] & 0x40 == 0) {
            CHARACTER_FRAMES
        } else {
            0
        };
        phase & (cursor | characters)
    }

    /// The characters on the screen at `now_ns`, in a frame without pixels.
    pub(super) fn read_text(&self, now_ns: u64) -> Frame {
        let registers = self.registers;
        let is_text =
            !self.dispi.enabled() && registers.screen_on() && registers.graphics[6] & 1 == 0;
        Frame {
            text: is_text.then(|| Screen::new(registers, self.memory, now_ns).cells()),
            ..Frame::default()
        }
    }
}

fn blank(width: usize, height: usize) -> Frame {
    Frame {
        width,
        height,
        pixels: vec![0; width * height],
        mode: "blank".to_owned(),
        text: None,
    }
}

/// A picture of the Bochs display interface with four bits a pixel, a plane each.
fn planar(registers: &Registers, surface: &Surface, memory: &[u8]) -> Frame {
    let (words, _) = memory.as_chunks::<4>();
    let painter = GraphicsPainter::Planar(colours(registers));
    let mut pixels = vec![0; surface.width * surface.height];
    for (row, dots) in pixels.chunks_exact_mut(surface.width).enumerate() {
        let first = (surface.start + row * surface.pitch) / 4;
        for (column, dots) in dots.chunks_mut(8).enumerate() {
            let word = words.get(first + column).copied().unwrap_or_default();
            painter.paint(u32::from_le_bytes(word), dots);
        }
    }
    Frame {
        width: surface.width,
        height: surface.height,
        pixels,
        mode: format!("graphics {}x{}x16", surface.width, surface.height),
        text: None,
    }
}

/// The colours of the sixteen attributes.
fn colours(registers: &Registers) -> [u32; 16] {
    let attribute = &registers.attribute;
    std::array::from_fn(|index| {
        let index = index & usize::from(attribute[0x12] & 0x0F);
        palette_colour(registers, index)
    })
}

/// The colour of palette register `index`.
fn palette_colour(registers: &Registers, index: usize) -> u32 {
    let attribute = &registers.attribute;
    let mut entry = attribute[index & 0xF];
    if attribute[0x10] & 0x80 != 0 {
        entry = entry & 0x0F | (attribute[0x14] & 0x03) << 4;
    }
    registers.colour(entry & 0x3F | (attribute[0x14] & 0x0C) << 4)
}

/// Whether there is a cursor, blinked out or not.
fn cursor_shown(registers: &Registers) -> bool {
    let crtc = &registers.crtc;
    let start = crtc[0x0A] & 0x1F;
    crtc[0x0A] & 0x20 == 0 && start <= crtc[0x0B] & 0x1F && start <= crtc[9] & 0x1F
}

/// Whether bit 7 of an attribute makes the character blink.
fn blinks(registers: &Registers) -> bool {
    registers.attribute[0x10] & 0x08 != 0
}

/// What the CRT controller's counters hold at the start of a scan line.
#[derive(Clone, Copy)]
struct ScanLine {
    /// Memory address counter.
    address: u32,
    /// Row scan counter: the line within the character.
    row: u8,
    /// Dots by which the line is shifted left.
    pan: usize,
}

struct Screen<'a> {
    registers: &'a Registers,
    words: &'a [[u8; 4]],
    timing: Timing,
    lines: Vec<ScanLine>,
    frame_number: u64,
}

/// Runs the counters down the screen.
fn scan_lines(registers: &Registers, timing: &Timing) -> Vec<ScanLine> {
    let crtc = &registers.crtc;
    let doubled = crtc[9] & 0x80 != 0;
    let last_row = crtc[9] & 0x1F;
    let pitch = u32::from(crtc[0x13]) * 2;
    let split_after = usize::from(crtc[0x18])
        | usize::from(crtc[7] & 0x10) << 4
        | usize::from(crtc[9] & 0x40) << 3;
    let split_after = split_after * timing.lines_per_count + (timing.lines_per_count - 1);

    let byte_pan = u32::from(crtc[8] >> 5 & 3);
    let mut base = u32::from(crtc[0x0C]) << 8 | u32::from(crtc[0x0D]);
    base += byte_pan;
    let mut pan = pixel_pan(registers, timing.char_dots);
    let mut row = crtc[8] & 0x1F;
    let mut second = false;

    let mut lines = Vec::with_capacity(timing.lines);
    for line in 0..timing.lines {
        lines.push(ScanLine {
            address: base,
            row,
            pan,
        });
        if line == split_after {
            base = byte_pan;
            row = 0;
            second = false;
            if registers.attribute[0x10] & 0x20 != 0 {
                base = 0;
                pan = 0;
            }
            continue;
        }
        second = !second;
        if doubled && second {
            continue;
        }
        if row == last_row {
            row = 0;
            base = base.wrapping_add(pitch);
        } else {
            row = (row + 1) & 0x1F;
        }
    }
    lines
}

/// How many dots the attribute controller shifts the picture to the left.
fn pixel_pan(registers: &Registers, char_dots: usize) -> usize {
    let pan = usize::from(registers.attribute[0x13]);
    if registers.graphics[5] & 0x40 != 0 {
        (pan & 7) / 2
    } else if char_dots == 9 && registers.graphics[6] & 1 == 0 {
        // With nine dots, 8 is no shift at all and 0 is one dot.
        if pan >= 8 { 0 } else { pan + 1 }
    } else if pan >= 8 {
        0
    } else {
        pan
    }
}

impl<'a> Screen<'a> {
    fn new(registers: &'a Registers, memory: &'a [u8], now_ns: u64) -> Self {
        let timing = registers.timing();
        Self {
            registers,
            words: memory.as_chunks::<4>().0,
            lines: scan_lines(registers, &timing),
            frame_number: timing.frame_number(now_ns),
            timing,
        }
    }

    /// The address in the planes that the CRT controller puts out.
    fn address(&self, counter: u32, row: u8) -> usize {
        let crtc = &self.registers.crtc;
        let mode = crtc[0x17];
        let mut address = if crtc[0x14] & 0x40 != 0 {
            counter << 2 | counter >> 14 & 3
        } else if mode & 0x40 == 0 {
            let top = if mode & 0x20 != 0 { 15 } else { 13 };
            counter << 1 | counter >> top & 1
        } else {
            counter
        };
        // The 6845's interlaced banks: lines of a character come from different quarters of memory.
        if mode & 1 == 0 {
            address = address & !0x2000 | u32::from(row & 1) << 13;
        }
        if mode & 2 == 0 {
            address = address & !0x4000 | u32::from(row >> 1 & 1) << 14;
        }
        address as usize & (PLANE_BYTES - 1)
    }

    /// The four planes `column` characters from the start of `line`.
    fn fetch(&self, line: &ScanLine, column: usize) -> u32 {
        self.word(self.address(line.address.wrapping_add(column as u32), line.row))
    }

    /// The four planes at an address.
    fn word(&self, address: usize) -> u32 {
        let word = self.words.get(address & (PLANE_BYTES - 1));
        word.map_or(0, |&word| u32::from_le_bytes(word))
    }

    fn colours(&self) -> [u32; 16] {
        colours(self.registers)
    }

    /// The colours of a graphics mode: with blinking, bit 3 of the attribute changes all the time,
    /// whether its plane is enabled or not. The palette of mode 0Fh relies on that.
    fn blinking_colours(&self) -> [u32; 16] {
        if !blinks(self.registers) || self.frame_number & CHARACTER_FRAMES == 0 {
            return self.colours();
        }
        let enabled = usize::from(self.registers.attribute[0x12] & 0x0F);
        std::array::from_fn(|index| palette_colour(self.registers, index & enabled ^ 8))
    }

    fn blank(&self) -> Frame {
        if self.timing.lines < 100 {
            blank(720, 400)
        } else {
            blank(
                self.timing.columns * self.timing.char_dots,
                self.timing.lines,
            )
        }
    }

    fn text(&self) -> Frame {
        let dots = self.timing.char_dots;
        let columns = self.timing.columns;
        let (width, height) = (columns * dots, self.lines.len());
        let painter = TextPainter::new(self);
        let mut pixels = Vec::with_capacity(width * height);
        let mut row = vec![0; (columns + 1) * dots];
        let mut cells: Vec<Cell> = Vec::with_capacity(columns + 1);
        let mut shown = None;
        // Lines of a character show the same cells, unless the row scan counter reaches the
        // address.
        let banks = match self.registers.crtc[0x17] & 3 {
            3 => 0,
            _ => 3,
        };
        for line in &self.lines {
            let place = (line.address, line.row & banks);
            if shown.replace(place) != Some(place) {
                cells.clear();
                cells.extend((0..=columns).map(|column| painter.cell(line, column)));
            }
            for (cell, dots) in cells.iter().zip(row.chunks_exact_mut(dots)) {
                painter.paint(cell, line.row, dots);
            }
            pixels.extend_from_slice(&row[line.pan.min(dots)..][..width]);
        }
        let text = self.cells();
        Frame {
            width,
            height,
            pixels,
            mode: format!("text {}x{}", text.columns, text.rows),
            text: Some(text),
        }
    }

    /// The characters on the screen, a row for each whole character height.
    fn cells(&self) -> TextScreen {
        let crtc = &self.registers.crtc;
        let repeat = if crtc[9] & 0x80 != 0 { 2 } else { 1 };
        let char_lines = (usize::from(crtc[9] & 0x1F) + 1) * repeat;
        let rows = (self.lines.len() / char_lines).max(1);
        let mut screen = TextScreen {
            columns: self.timing.columns,
            rows,
            palette: self.colours(),
            bright_backgrounds: !blinks(self.registers),
            ..TextScreen::default()
        };
        for (row, line) in self.lines.iter().step_by(char_lines).take(rows).enumerate() {
            for column in 0..screen.columns {
                let word = self.fetch(line, column);
                screen.cells.push((word as u8, (word >> 8) as u8));
            }
            let cursor = self.cursor_address().wrapping_sub(line.address) & 0xFFFF;
            if cursor_shown(self.registers)
                && (cursor as usize) < screen.columns
                && screen.cursor.is_none()
            {
                screen.cursor = Some((cursor as usize, row));
            }
        }
        screen
    }

    fn cursor_address(&self) -> u32 {
        let crtc = &self.registers.crtc;
        u32::from(crtc[0x0E]) << 8 | u32::from(crtc[0x0F])
    }

    fn graphics(&self) -> Frame {
        let crtc = &self.registers.crtc;
        let doubled = if crtc[9] & 0x80 != 0 { 2 } else { 1 };
        // Lines of a character show the same memory, unless the row scan counter reaches the
        // address.
        let same_memory = match crtc[0x17] & 3 {
            3 => usize::from(crtc[9] & 0x1F) + 1,
            1 => 2,
            _ => 1,
        };
        let repeat = doubled * same_memory * self.timing.lines_per_count;
        let chunky = self.registers.graphics[5] & 0x40 != 0;
        let dots = if chunky { 4 } else { 8 };
        let width = self.timing.columns * dots;
        let height = (self.lines.len() / repeat).max(1);

        let mut pixels = Vec::with_capacity(width * height);
        let mut row = vec![0; width + dots];
        let painter = GraphicsPainter::new(self);
        for line in self.lines.iter().step_by(repeat).take(height) {
            for (column, dots) in row.chunks_exact_mut(dots).enumerate() {
                painter.paint(self.fetch(line, column), dots);
            }
            pixels.extend_from_slice(&row[line.pan.min(dots)..][..width]);
        }
        let colours = if chunky {
            256
        } else {
            1 << (self.registers.attribute[0x12] & 0x0F).count_ones()
        };
        Frame {
            width,
            height,
            pixels,
            mode: format!("graphics {width}x{height}x{colours}"),
            text: None,
        }
    }
}

struct TextPainter<'a> {
    screen: &'a Screen<'a>,
    colours: [u32; 16],
    /// Offsets in plane 2 of the fonts for attribute bit 3 clear and set.
    fonts: [usize; 2],
    blink: bool,
    blinked_out: bool,
    /// Address of the cursor, and its lines; `None` in the dark half of its blinking.
    cursor: Option<(u32, std::ops::RangeInclusive<u8>)>,
    underline: u8,
    extend: bool,
}

impl<'a> TextPainter<'a> {
    fn new(screen: &'a Screen<'a>) -> Self {
        let Registers {
            sequencer,
            crtc,
            attribute,
            ..
        } = screen.registers;
        let map = sequencer[3];
        let font = |low: u8, high: u8| FONTS[usize::from(map >> low & 3 | (map >> high & 1) << 2)];
        let cursor_lit = screen.frame_number & CURSOR_FRAMES == 0;
        Self {
            screen,
            colours: screen.colours(),
            fonts: [font(0, 4), font(2, 5)],
            blink: blinks(screen.registers),
            blinked_out: screen.frame_number & CHARACTER_FRAMES != 0,
            cursor: (cursor_lit && cursor_shown(screen.registers)).then(|| {
                let lines = crtc[0x0A] & 0x1F..=crtc[0x0B] & 0x1F;
                (screen.cursor_address(), lines)
            }),
            underline: crtc[0x14] & 0x1F,
            extend: attribute[0x10] & 0x04 != 0,
        }
    }

    /// The cell in `column`.
    fn cell(&self, line: &ScanLine, column: usize) -> Cell {
        let word = self.screen.fetch(line, column);
        let (code, attribute) = (word as u8, (word >> 8) as u8);
        let font = self.fonts[usize::from(attribute >> 3 & 1)];
        let background = attribute >> 4 & if self.blink { 7 } else { 0xF };
        let here = line.address.wrapping_add(column as u32) & 0xFFFF;
        let cursor = self.cursor.as_ref();
        Cell {
            glyph: font + usize::from(code) * GLYPH_BYTES,
            // The ninth dot repeats the eighth for the line drawing characters only.
            ninth: u16::from(self.extend && (0xC0..=0xDF).contains(&code)),
            hidden: self.blink && attribute & 0x80 != 0 && self.blinked_out,
            underlined: attribute & 0x77 == 0x01,
            cursor: cursor.is_some_and(|(address, _)| here == *address),
            colours: [background, attribute & 0x0F].map(|n| self.colours[usize::from(n)]),
        }
    }

    /// Paints scan line `row` of a cell.
    fn paint(&self, cell: &Cell, row: u8, dots: &mut [u32]) {
        let glyph = cell.glyph + usize::from(row);
        let byte = u16::from((self.screen.word(glyph) >> 16) as u8);
        let mut pattern = byte << 1 | byte & cell.ninth;
        if cell.hidden {
            pattern = 0;
        }
        if cell.underlined && row == self.underline {
            pattern = !0;
        }
        if cell.cursor
            && self
                .cursor
                .as_ref()
                .is_some_and(|(_, rows)| rows.contains(&row))
        {
            pattern = !0;
        }
        let [background, foreground] = cell.colours;
        let differ = background ^ foreground;
        for (n, dot) in dots.iter_mut().enumerate() {
            let lit = u32::from(pattern >> (8 - n.min(8)) & 1);
            *dot = background ^ differ & lit.wrapping_neg();
        }
    }
}

/// A character of the screen, as all of its scan lines show it.
struct Cell {
    /// Offset of its first scan line in plane 2.
    glyph: usize,
    /// 1 where the ninth dot is as the eighth.
    ninth: u16,
    /// Blinked out.
    hidden: bool,
    underlined: bool,
    cursor: bool,
    /// Background and foreground.
    colours: [u32; 2],
}

enum GraphicsPainter {
    /// Each plane is a pixel.
    Chunky(Box<[u32; 256]>),
    /// Planes 0 and 2 hold two bits each of four pixels, planes 1 and 3 of the next four.
    Interleaved([u32; 16]),
    /// Each plane is a bit of eight pixels.
    Planar([u32; 16]),
}

impl GraphicsPainter {
    fn new(screen: &Screen<'_>) -> Self {
        let mode = screen.registers.graphics[5];
        if mode & 0x40 != 0 {
            let registers = screen.registers;
            Self::Chunky(Box::new(std::array::from_fn(|n| registers.colour(n as u8))))
        } else if mode & 0x20 != 0 {
            Self::Interleaved(screen.blinking_colours())
        } else {
            Self::Planar(screen.blinking_colours())
        }
    }

    fn paint(&self, word: u32, dots: &mut [u32]) {
        let planes = word.to_le_bytes();
        for (n, dot) in dots.iter_mut().enumerate() {
            *dot = match self {
                Self::Chunky(colours) => colours[usize::from(planes[n & 3])],
                Self::Interleaved(colours) => {
                    let shift = 6 - 2 * (n & 3);
                    let low = planes[n >> 2 & 1] >> shift & 3;
                    let high = planes[n >> 2 & 1 | 2] >> shift & 3;
                    colours[usize::from(low | high << 2)]
                }
                Self::Planar(colours) => {
                    let shift = 7 - (n & 7);
                    let index = planes
                        .iter()
                        .rev()
                        .fold(0, |index, plane| index << 1 | plane >> shift & 1);
                    colours[usize::from(index)]
                }
            };
        }
    }
}
