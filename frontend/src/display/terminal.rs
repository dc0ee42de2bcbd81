//! The machine's screen in the terminal.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::queue;
use crossterm::style::{Color, Print, SetBackgroundColor, SetForegroundColor};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use platform::{Frame, Key, TextScreen};

use super::{CaseButton, Farewell, interrupted, wrap};
use crate::cp437;
use crate::hostio::RawTerminal;
use crate::runner::{Control, Shown, Stop};
use crate::typing::{Piece, Stroke};

/// What a cell of the terminal shows: a character and its colours.
type Cell = (char, u32, u32);

/// Shows the machine in the terminal until it ends or the user leaves; a guest that died is shown until a key comes.
///
/// `signals` is what the machine has not taken when it ended.
///
/// # Errors
/// The terminal refuses.
pub fn show(
    title: &str,
    shown: &Shown,
    control: &Sender<Control>,
    signals: &Receiver<Control>,
) -> Result<()> {
    let _raw = RawTerminal::enter(true).context("--display terminal: the terminal refused")?;
    let mut painter = Painter::default();
    let mut frame = Arc::new(Frame::default());
    let mut seen = 0;
    let mut ticks = 0u32;
    let mut farewell: Option<Farewell> = None;
    loop {
        let ends = farewell.is_none() && shown.has_ended();
        if ends {
            let Some(last) = Farewell::of(shown) else {
                return Ok(());
            };
            farewell = Some(last);
        }
        let fresh = shown.frame_after(&mut seen);
        let changed = fresh.is_some() || ends;
        frame = fresh.unwrap_or(frame);
        if changed || ticks.is_multiple_of(30) {
            let line = match &farewell {
                Some(farewell) => farewell.words.clone(),
                None => format!(
                    "{title} - {} - {:.0} MIPS - Ctrl-] leaves",
                    frame.mode,
                    shown.mips()
                ),
            };
            // A terminal that has gone away is noticed by the signal that comes with it.
            let _ = painter.paint(&frame, &line, &mut io::stdout().lock());
        }
        ticks = ticks.wrapping_add(1);
        if farewell.is_some() && interrupted(signals) {
            return Ok(());
        }
        if !event::poll(Duration::from_millis(16)).unwrap_or(false) {
            continue;
        }
        match (event::read(), &farewell) {
            (Ok(Event::Key(key)), Some(farewell))
                if key.kind != KeyEventKind::Release && farewell.takes_keys() =>
            {
                return Ok(());
            }
            (Ok(Event::Key(key)), None) if is_leave(&key) => {
                let _ = control.send(Control::Stop(Stop::Closed));
                return Ok(());
            }
            (Ok(Event::Key(key)), None) if key.kind != KeyEventKind::Release => {
                if let Some(button) = CaseButton::of(&key) {
                    // One that is held repeats.
                    if key.kind == KeyEventKind::Press {
                        let _ = control.send(button.press());
                    }
                } else if let Some(piece) = piece(&key) {
                    let _ = control.send(Control::Type(piece));
                }
            }
            (Ok(Event::Resize(..)), _) => {
                painter = Painter::default();
                ticks = 0;
            }
            _ => {}
        }
    }
}

impl CaseButton {
    /// The button that a key of the terminal stands for.
    fn of(key: &KeyEvent) -> Option<Self> {
        let held = KeyModifiers::CONTROL | KeyModifiers::ALT;
        match key.code {
            KeyCode::Char('p' | 'P') if key.modifiers.contains(held) => Some(Self::Power),
            KeyCode::Char('r' | 'R') if key.modifiers.contains(held) => Some(Self::Reset),
            _ => None,
        }
    }
}

/// Ctrl-] arrives as Ctrl-5 from terminals that know only the control characters.
fn is_leave(key: &KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL)
        && matches!(key.code, KeyCode::Char(']') | KeyCode::Char('5'))
}

fn piece(key: &KeyEvent) -> Option<Piece> {
    let mut stroke = match key.code {
        KeyCode::Char(_) => Stroke::plain(Key::Escape),
        KeyCode::BackTab => Stroke {
            shift: true,
            ..Stroke::plain(Key::Tab)
        },
        code => Stroke::plain(named_key(code)?),
    };
    stroke.ctrl |= key.modifiers.contains(KeyModifiers::CONTROL);
    stroke.alt |= key.modifiers.contains(KeyModifiers::ALT);
    // A character has its Shift in it.
    if let KeyCode::Char(c) = key.code {
        return Some(Piece::Chord(c, stroke));
    }
    stroke.shift |= key.modifiers.contains(KeyModifiers::SHIFT);
    Some(Piece::Key(stroke))
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
    view: View,
}

/// The column and row of a text screen that the terminal's first cell shows: not the first ones where the terminal is
/// smaller than the screen and the cursor is far from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct View {
    left: usize,
    top: usize,
}

impl View {
    /// Moves no farther than it must for `columns` by `rows` cells to have the cursor among them.
    fn follow(self, text: &TextScreen, columns: usize, rows: usize) -> Self {
        let (column, row) = text.cursor.unwrap_or((self.left, self.top));
        let follow = |from: usize, at: usize, shown: usize, all: usize| {
            // With room for nothing the first row counts as shown.
            let from = from.clamp((at + 1).saturating_sub(shown.max(1)), at);
            from.min(all.saturating_sub(shown))
        };
        Self {
            left: follow(self.left, column, columns, text.columns),
            top: follow(self.top, row, rows, text.rows),
        }
    }

    /// What of the screen is shown, where that is not all.
    fn describe(self, text: &TextScreen, columns: usize, rows: usize) -> Option<String> {
        let part = |name: &str, from: usize, shown: usize, all: usize| {
            let last = all.min(from + shown);
            (shown < all).then(|| format!("{name} {}-{last} of {all}", from + 1))
        };
        let rows = part("rows", self.top, rows, text.rows);
        let columns = part("columns", self.left, columns, text.columns);
        let parts: Vec<_> = rows.into_iter().chain(columns).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
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
        let (cells, cursor) = picture(frame, line, size, &mut self.view);
        self.draw_changes(&cells, out)?;
        match cursor {
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

/// The most of the terminal's lines that our words take.
const MOST_WORDS: usize = 4;

/// The whole terminal: of the screen what fits, and below it our words, in as many lines as they
/// need. With the place of the cursor.
fn picture(
    frame: &Frame,
    line: &str,
    (columns, rows): (usize, usize),
    view: &mut View,
) -> (Vec<Cell>, Option<(usize, usize)>) {
    let mut cells = vec![(' ', 0, 0); columns * rows];
    let in_lines = |text: &str| {
        let mut words = wrap(text, columns.saturating_sub(2));
        words.truncate(MOST_WORDS.min(rows));
        words
    };
    let mut words = in_lines(line);
    let mut screen_rows = rows - words.len();
    let mut cursor = None;
    match &frame.text {
        Some(text) => {
            *view = view.follow(text, columns, screen_rows);
            // To say what is cut may take a line more, which cuts more.
            for _ in 0..2 {
                if let Some(part) = view.describe(text, columns, screen_rows) {
                    words = in_lines(&format!("{part} - {line}"));
                    screen_rows = rows - words.len();
                    *view = view.follow(text, columns, screen_rows);
                }
            }
            draw_text(text, &mut cells, columns, screen_rows, *view);
            cursor = text.cursor.and_then(|(column, row)| {
                let (column, row) = (column.checked_sub(view.left)?, row.checked_sub(view.top)?);
                (column < columns && row < screen_rows).then_some((column, row))
            });
        }
        None => draw_blocks(frame, &mut cells, columns, screen_rows),
    }
    let bars = cells[columns * screen_rows..].chunks_mut(columns.max(1));
    for (bar, words) in bars.zip(&words) {
        let chars = format!(" {words}");
        let chars = chars.chars().chain(std::iter::repeat(' '));
        for (cell, c) in bar.iter_mut().zip(chars) {
            *cell = (c, 0x00_0000, 0xAA_AAAA);
        }
    }
    (cells, cursor)
}

fn draw_text(text: &TextScreen, cells: &mut [Cell], columns: usize, rows: usize, view: View) {
    let papers = if text.bright_backgrounds { 0xF } else { 7 };
    let lines = text.cells.chunks(text.columns.max(1)).skip(view.top);
    for (n, row) in lines.take(rows).enumerate() {
        let line = &mut cells[n * columns..(n + 1) * columns];
        for (cell, &(code, attribute)) in line.iter_mut().zip(row.iter().skip(view.left)) {
            let ink = text.palette[usize::from(attribute & 0xF)];
            let paper = text.palette[usize::from(attribute >> 4 & papers)];
            *cell = (cp437::to_char(code), ink, paper);
        }
    }
}

/// Graphics: each cell shows two pixels, one above the other.
fn draw_blocks(frame: &Frame, cells: &mut [Cell], columns: usize, rows: usize) {
    if columns == 0 || rows == 0 {
        return;
    }
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

    fn drawn(frame: &Frame, line: &str, size: (usize, usize)) -> Vec<Cell> {
        picture(frame, line, size, &mut View::default()).0
    }

    #[test]
    fn a_text_screen_is_drawn_in_the_guests_colours_and_cut_to_size() {
        let mut palette = [0; 16];
        palette[0xE] = 0x12_3456;
        palette[1] = 0x65_4321;
        palette[9] = 0x77_7777;
        let mut frame = Frame {
            text: Some(TextScreen {
                columns: 2,
                rows: 2,
                cells: vec![(b'A', 0x9E), (0xDB, 0x07), (b'B', 7), (b'C', 7)],
                palette,
                ..TextScreen::default()
            }),
            ..Frame::default()
        };
        let cells = drawn(&frame, "bar", (6, 3));
        assert_eq!(cells[0], ('A', 0x12_3456, 0x65_4321));
        assert_eq!(cells[1].0, '█');
        assert_eq!(cells[2], (' ', 0, 0));
        assert_eq!(cells[13].0, 'b');
        for size in [(0, 0), (1, 1), (1, 0), (0, 5), (2, 2), (200, 60)] {
            assert_eq!(drawn(&frame, "bar", size).len(), size.0 * size.1);
        }
        frame.text.as_mut().unwrap().bright_backgrounds = true;
        assert_eq!(drawn(&frame, "bar", (6, 3))[0].2, 0x77_7777);
    }

    #[test]
    fn the_row_with_the_cursor_is_shown_and_what_is_cut_is_said() {
        let mut frame = Frame {
            text: Some(TextScreen {
                columns: 80,
                rows: 25,
                cells: (0..80 * 25).map(|n| (b'A' + (n / 80) as u8, 7)).collect(),
                ..TextScreen::default()
            }),
            ..Frame::default()
        };
        let mut view = View::default();
        let mut at = |cursor, view: &mut View| {
            frame.text.as_mut().unwrap().cursor = cursor;
            let (cells, cursor) = picture(&frame, "bar", (80, 24), view);
            let bar: String = cells[80 * 23..].iter().map(|cell| cell.0).collect();
            (cells[0].0, cursor, bar)
        };
        let (first, cursor, bar) = at(Some((3, 0)), &mut view);
        assert_eq!((first, cursor), ('A', Some((3, 0))));
        assert!(bar.contains("rows 1-23 of 25"), "{bar}");
        let (first, cursor, bar) = at(Some((3, 24)), &mut view);
        assert_eq!((first, cursor), ('C', Some((3, 22))));
        assert!(bar.contains("rows 3-25 of 25"), "{bar}");
        // No farther back than the cursor asks for; a hidden one asks for nothing.
        assert_eq!(at(Some((0, 10)), &mut view).0, 'C');
        assert_eq!(at(None, &mut view).0, 'C');
        assert_eq!(at(Some((0, 1)), &mut view).0, 'B');
        // A narrow terminal follows sideways.
        frame.text.as_mut().unwrap().cursor = Some((79, 0));
        let (cells, cursor) = picture(&frame, "bar", (40, 30), &mut view);
        assert_eq!(cursor, Some((39, 0)));
        let bar: String = cells[40 * 29..].iter().map(|cell| cell.0).collect();
        assert!(bar.contains("columns 41-80 of 80"), "{bar}");
        // One that is large enough says nothing.
        let (cells, _) = picture(&frame, "bar", (80, 26), &mut view);
        let bar: String = cells[80 * 25..].iter().map(|cell| cell.0).collect();
        assert_eq!(bar.trim(), "bar");
    }

    #[test]
    fn words_take_the_lines_that_they_need() {
        let frame = Frame {
            text: Some(TextScreen::default()),
            ..Frame::default()
        };
        let cells = drawn(&frame, "the guest died", (12, 4));
        let line =
            |n: usize| -> String { cells[12 * n..12 * n + 12].iter().map(|c| c.0).collect() };
        assert_eq!((line(2).trim(), line(3).trim()), ("the guest", "died"));
        // What is cut is said before them, and none of them is lost.
        let frame = Frame {
            text: Some(TextScreen {
                columns: 20,
                rows: 25,
                cells: vec![(b'A', 7); 500],
                ..TextScreen::default()
            }),
            ..Frame::default()
        };
        let cells = drawn(&frame, "the guest died", (20, 8));
        let said: String = cells
            .iter()
            .map(|cell| cell.0)
            .filter(|&c| c != 'A')
            .collect();
        let said: Vec<_> = said.split_whitespace().collect();
        assert_eq!(said.join(" "), "rows 1-6 of 25 - the guest died");
    }

    #[test]
    fn graphics_are_drawn_in_half_blocks_at_any_size() {
        let frame = Frame {
            width: 2,
            height: 2,
            pixels: vec![1, 2, 3, 4],
            ..Frame::default()
        };
        let cells = drawn(&frame, "", (8, 4));
        assert_eq!(cells[0], ('▀', 1, 1));
        assert_eq!(cells[8], ('▀', 1, 3));
        for size in [(0, 0), (1, 1), (1, 2), (3, 1), (200, 60), (5, 60)] {
            assert_eq!(drawn(&frame, "", size).len(), size.0 * size.1);
        }
    }

    #[test]
    fn keys_become_strokes() {
        let piece = |code, modifiers| piece(&KeyEvent::new(code, modifiers));
        let Some(Piece::Chord('c', held)) = piece(KeyCode::Char('c'), KeyModifiers::CONTROL) else {
            panic!("the key of a character");
        };
        assert_eq!((held.ctrl, held.shift), (true, false));
        let Some(Piece::Key(alt_f4)) = piece(KeyCode::F(4), KeyModifiers::ALT) else {
            panic!("a key");
        };
        assert_eq!((alt_f4.key, alt_f4.alt), (Key::F4, true));
        assert!(piece(KeyCode::F(20), KeyModifiers::NONE).is_none());
    }
}
