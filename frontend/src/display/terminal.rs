//! The machine's screen in the terminal.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use crossbeam_channel::Sender;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::queue;
use crossterm::style::{Color, Print, SetBackgroundColor, SetForegroundColor};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use platform::{Frame, Key, TextScreen};

use crate::cp437;
use crate::hostio::RawTerminal;
use crate::runner::{Control, Shown, Stop};
use crate::typing::{Stroke, stroke_of_char};

/// The colours of the text modes as the BIOS sets the palette.
const PALETTE: [u32; 16] = [
    0x00_0000, 0x00_00AA, 0x00_AA00, 0x00_AAAA, 0xAA_0000, 0xAA_00AA, 0xAA_5500, 0xAA_AAAA,
    0x55_5555, 0x55_55FF, 0x55_FF55, 0x55_FFFF, 0xFF_5555, 0xFF_55FF, 0xFF_FF55, 0xFF_FFFF,
];

/// What a cell of the terminal shows: a character and its colours.
type Cell = (char, u32, u32);

/// Shows the machine in the terminal until it ends or the user leaves.
///
/// # Errors
/// The terminal refuses.
pub fn show(title: &str, shown: &Shown, control: &Sender<Control>) -> Result<()> {
    let _raw = RawTerminal::enter(true).context("--display terminal: the terminal refused")?;
    let mut painter = Painter::default();
    let mut frame = Frame::default();
    let mut ticks = 0u32;
    while !shown.has_ended() {
        let fresh = shown.take_frame();
        let changed = fresh.is_some();
        frame = fresh.unwrap_or(frame);
        if changed || ticks.is_multiple_of(30) {
            let line = format!(
                " {title} - {} - {:.0} MIPS - Ctrl-] leaves",
                frame.mode,
                shown.mips()
            );
            // A terminal that has gone away is noticed by the signal that comes with it.
            let _ = painter.paint(&frame, &line, &mut io::stdout().lock());
        }
        ticks = ticks.wrapping_add(1);
        if event::poll(Duration::from_millis(16)).unwrap_or(false) {
            match event::read() {
                Ok(Event::Key(key)) if is_leave(&key) => {
                    let _ = control.send(Control::Stop(Stop::Closed));
                    return Ok(());
                }
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if let Some(stroke) = stroke(&key) {
                        let _ = control.send(Control::Stroke(stroke));
                    }
                }
                Ok(Event::Resize(..)) => painter = Painter::default(),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Ctrl-] arrives as Ctrl-5 from terminals that know only the control characters.
fn is_leave(key: &KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL)
        && matches!(key.code, KeyCode::Char(']') | KeyCode::Char('5'))
}

fn stroke(key: &KeyEvent) -> Option<Stroke> {
    let mut stroke = match key.code {
        KeyCode::Char(c) => stroke_of_char(c)?,
        KeyCode::BackTab => Stroke {
            shift: true,
            ..Stroke::plain(Key::Tab)
        },
        code => Stroke::plain(named_key(code)?),
    };
    stroke.ctrl |= key.modifiers.contains(KeyModifiers::CONTROL);
    stroke.alt |= key.modifiers.contains(KeyModifiers::ALT);
    if !matches!(key.code, KeyCode::Char(_)) {
        stroke.shift |= key.modifiers.contains(KeyModifiers::SHIFT);
    }
    Some(stroke)
}

fn named_key(code: KeyCode) -> Option<Key> {
    const FUNCTION: [Key; 12] = [
        Key::F1,
        Key::F2,
        Key::F3,
        Key::F4,
        Key::F5,
        Key::F6,
        Key::F7,
        Key::F8,
        Key::F9,
        Key::F10,
        Key::F11,
        Key::F12,
    ];
    Some(match code {
        KeyCode::Enter => Key::Enter,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        KeyCode::Esc => Key::Escape,
        KeyCode::Left => Key::ArrowLeft,
        KeyCode::Right => Key::ArrowRight,
        KeyCode::Up => Key::ArrowUp,
        KeyCode::Down => Key::ArrowDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Insert => Key::Insert,
        KeyCode::Delete => Key::Delete,
        KeyCode::Pause => Key::Pause,
        KeyCode::PrintScreen => Key::PrintScreen,
        KeyCode::Menu => Key::ContextMenu,
        KeyCode::F(n) => *FUNCTION.get(usize::from(n).checked_sub(1)?)?,
        _ => return None,
    })
}

/// Draws what changed since the last time.
#[derive(Default)]
struct Painter {
    size: (usize, usize),
    cells: Vec<Cell>,
}

impl Painter {
    fn paint(&mut self, frame: &Frame, line: &str, out: &mut impl Write) -> io::Result<()> {
        let (columns, rows) = crossterm::terminal::size()?;
        let size = (usize::from(columns), usize::from(rows));
        queue!(out, BeginSynchronizedUpdate)?;
        if size != self.size {
            self.size = size;
            self.cells = vec![('\0', 0, 0); size.0 * size.1];
            queue!(out, SetBackgroundColor(Color::Black), Clear(ClearType::All))?;
        }
        let cells = picture(frame, line, size);
        self.draw_changes(&cells, out)?;
        let cursor = frame.text.as_ref().and_then(|text| text.cursor);
        match cursor.filter(|&(column, row)| column < size.0 && row + 1 < size.1) {
            Some((column, row)) => queue!(out, MoveTo(column as u16, row as u16), Show)?,
            None => queue!(out, Hide)?,
        }
        queue!(out, EndSynchronizedUpdate)?;
        self.cells = cells;
        out.flush()
    }

    fn draw_changes(&self, cells: &[Cell], out: &mut impl Write) -> io::Result<()> {
        let mut pen = None;
        let mut at = None;
        for (n, (&cell, &before)) in cells.iter().zip(&self.cells).enumerate() {
            if cell == before {
                continue;
            }
            if at != Some(n) || n % self.size.0 == 0 {
                queue!(
                    out,
                    MoveTo((n % self.size.0) as u16, (n / self.size.0) as u16)
                )?;
            }
            let (c, ink, paper) = cell;
            if pen != Some((ink, paper)) {
                queue!(
                    out,
                    SetForegroundColor(color(ink)),
                    SetBackgroundColor(color(paper))
                )?;
                pen = Some((ink, paper));
            }
            queue!(out, Print(c))?;
            at = Some(n + 1);
        }
        Ok(())
    }
}

fn color(rgb: u32) -> Color {
    Color::Rgb {
        r: (rgb >> 16) as u8,
        g: (rgb >> 8) as u8,
        b: rgb as u8,
    }
}

/// The whole terminal: the screen, cut to size, and a line of ours below.
fn picture(frame: &Frame, line: &str, (columns, rows): (usize, usize)) -> Vec<Cell> {
    let mut cells = vec![(' ', 0, 0); columns * rows];
    let Some(screen_rows) = rows.checked_sub(1) else {
        return cells;
    };
    match &frame.text {
        Some(text) => draw_text(text, &mut cells, columns, screen_rows),
        None => draw_blocks(frame, &mut cells, columns, screen_rows),
    }
    let bar = &mut cells[columns * screen_rows..];
    for (cell, c) in bar
        .iter_mut()
        .zip(line.chars().chain(std::iter::repeat(' ')))
    {
        *cell = (c, 0x00_0000, 0xAA_AAAA);
    }
    cells
}

fn draw_text(text: &TextScreen, cells: &mut [Cell], columns: usize, rows: usize) {
    for (n, row) in text
        .cells
        .chunks(text.columns.max(1))
        .take(rows)
        .enumerate()
    {
        let line = &mut cells[n * columns..(n + 1) * columns];
        for (cell, &(code, attribute)) in line.iter_mut().zip(row) {
            let ink = PALETTE[usize::from(attribute & 0xF)];
            let paper = PALETTE[usize::from(attribute >> 4 & 7)];
            *cell = (cp437::to_char(code), ink, paper);
        }
    }
}

/// Graphics: each cell shows two pixels, one above the other.
fn draw_blocks(frame: &Frame, cells: &mut [Cell], columns: usize, rows: usize) {
    if frame.width == 0 || frame.height == 0 || frame.pixels.len() < frame.width * frame.height {
        return;
    }
    // A cell is about twice as high as wide, so its halves are squares; the picture is 4:3.
    let width = columns.min(rows * 2 * 4 / 3).max(1);
    let height = (width * 3 / 4 / 2).clamp(1, rows.max(1));
    let left = (columns - width) / 2;
    let pixel = |x: usize, y: usize| {
        let (x, y) = (x * frame.width / width, y * frame.height / (height * 2));
        frame.pixels[y * frame.width + x] & 0xFF_FFFF
    };
    for row in 0..height.min(rows) {
        for column in 0..width {
            let cell = &mut cells[row * columns + left + column];
            *cell = ('▀', pixel(column, 2 * row), pixel(column, 2 * row + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_screen_is_drawn_with_colours_and_cut_to_size() {
        let frame = Frame {
            text: Some(TextScreen {
                columns: 2,
                rows: 2,
                cells: vec![(b'A', 0x1E), (0xDB, 0x07), (b'B', 7), (b'C', 7)],
                cursor: None,
            }),
            ..Frame::default()
        };
        let cells = picture(&frame, "bar", (4, 2));
        assert_eq!(cells[0], ('A', 0xFF_FF55, 0x00_00AA));
        assert_eq!(cells[1].0, '█');
        assert_eq!(cells[2], (' ', 0, 0));
        assert_eq!(cells[4].0, 'b');
        for size in [(0, 0), (1, 1), (1, 0), (0, 5), (200, 60)] {
            assert_eq!(picture(&frame, "bar", size).len(), size.0 * size.1);
        }
    }

    #[test]
    fn graphics_are_drawn_in_half_blocks_at_any_size() {
        let frame = Frame {
            width: 2,
            height: 2,
            pixels: vec![1, 2, 3, 4],
            ..Frame::default()
        };
        let cells = picture(&frame, "", (8, 4));
        assert_eq!(cells[0], ('▀', 1, 1));
        assert_eq!(cells[8], ('▀', 1, 3));
        for size in [(0, 0), (1, 1), (1, 2), (3, 1), (200, 60), (5, 60)] {
            assert_eq!(picture(&frame, "", size).len(), size.0 * size.1);
        }
    }

    #[test]
    fn keys_become_strokes() {
        let stroke = |code, modifiers| stroke(&KeyEvent::new(code, modifiers));
        let ctrl_c = stroke(KeyCode::Char('c'), KeyModifiers::CONTROL).unwrap();
        assert_eq!(
            (ctrl_c.key, ctrl_c.ctrl, ctrl_c.shift),
            (Key::C, true, false)
        );
        let alt_f4 = stroke(KeyCode::F(4), KeyModifiers::ALT).unwrap();
        assert_eq!((alt_f4.key, alt_f4.alt), (Key::F4, true));
        let question = stroke(KeyCode::Char('?'), KeyModifiers::NONE).unwrap();
        assert_eq!((question.key, question.shift), (Key::Slash, true));
        assert!(stroke(KeyCode::F(20), KeyModifiers::NONE).is_none());
    }
}
