//! `--until` and `--send`: regexes over what the guest says, and what to do once they match.
//!
//! Everything here happens at slice borders, which lie at fixed virtual times, so that a scripted run is
//! as deterministic as any other.

use anyhow::{Result, anyhow};
use platform::TextScreen;
use regex::bytes::{Regex, RegexBuilder};
use spec::Change;

use crate::cp437;
use crate::hostio::Port;
use crate::typing::{self, Act, Piece, Typist};

/// How far back of what is new a search over a stream goes: a kernel's log need not be searched again for every byte.
const WINDOW_BYTES: usize = 64 << 10;
/// What is kept of a stream: a guest may talk for days.
const KEPT_BYTES: usize = 4 << 20;
/// Above this much more the start of a stream is cut off: not for every byte, as the rest has to move.
const SLACK_BYTES: usize = 1 << 20;
/// Looks at the screen without a change after which a prompt on it waits for input.
const STILL: u32 = 25;

/// Compiles a regex as the script uses them: `^` and `$` match at lines.
///
/// # Errors
/// The regex is not valid; the message shows where.
pub fn compile(option: &str, pattern: &str) -> Result<Regex> {
    RegexBuilder::new(pattern)
        .multi_line(true)
        .crlf(true)
        .build()
        .map_err(|error| {
            let error = match error {
                regex::Error::Syntax(text) => text
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned(),
                other => other.to_string(),
            };
            anyhow!("{option} '{pattern}': expected a regular expression: {error}; \\ escapes")
        })
}

/// One `--send`.
#[derive(Debug)]
struct Send {
    regex: Regex,
    pieces: Vec<Piece>,
}

/// A stream of bytes from the guest: the last megabytes of it, and from where on the next match
/// counts. Places in it are counted from its first byte, kept or not.
#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    /// How many bytes came before those that are kept.
    cut: u64,
    /// Where the next send may match.
    from: u64,
    /// What has been searched.
    searched: u64,
}

impl Stream {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn end(&self) -> u64 {
        self.cut + self.bytes.len() as u64
    }

    /// Something arrived since it was last searched.
    fn is_fresh(&self) -> bool {
        self.searched < self.end()
    }

    /// Where a search begins that looks at all that is new: an index into what is kept.
    fn window(&self, from: u64) -> usize {
        let start = self.searched.saturating_sub(WINDOW_BYTES as u64);
        (start.max(from).saturating_sub(self.cut) as usize).min(self.bytes.len())
    }

    /// All of it has been searched: what is too old is dropped.
    fn settle(&mut self) {
        self.searched = self.end();
        if self.bytes.len() > KEPT_BYTES + SLACK_BYTES {
            let mut surplus = self.bytes.len() - KEPT_BYTES;
            // Not within a character: a UTF-8 sequence has three such bytes at most.
            let rest = self.bytes[surplus..].iter().take(3);
            surplus += rest.take_while(|&&byte| byte & 0xC0 == 0x80).count();
            self.bytes.drain(..surplus);
            self.cut += surplus as u64;
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A text screen as a string, with the cell that each byte of it came from.
#[derive(Debug, Default)]
struct ScreenText {
    text: Vec<u8>,
    /// The cell of each byte; the line ends count to the cell before.
    cells: Vec<usize>,
}

/// The text of a screen: one line a row, without the blanks at its end.
pub fn screen_lines(screen: &TextScreen) -> Vec<String> {
    let rows = screen.cells.chunks(screen.columns.max(1));
    rows.map(|row| {
        let line: String = row.iter().map(|&(code, _)| cp437::to_char(code)).collect();
        line.trim_end().to_owned()
    })
    .collect()
}

/// The lines of a screen with the blanks in front of the cursor, where a prompt ends.
fn prompt_lines(screen: &TextScreen) -> Option<Vec<String>> {
    let (column, row) = screen.cursor?;
    let mut lines = screen_lines(screen);
    let line = lines.get_mut(row)?;
    let blanks = column.checked_sub(line.chars().count())?;
    line.extend(std::iter::repeat_n(' ', blanks));
    Some(lines)
}

fn screen_text(lines: &[String], columns: usize) -> ScreenText {
    let mut result = ScreenText::default();
    for (row, line) in lines.iter().enumerate() {
        let mut cell = row * columns;
        for c in line.chars() {
            let mut buf = [0; 4];
            let bytes = c.encode_utf8(&mut buf).as_bytes();
            result.text.extend_from_slice(bytes);
            result.cells.extend(std::iter::repeat_n(cell, bytes.len()));
            cell += 1;
        }
        result.text.push(b'\n');
        result.cells.push(cell);
    }
    result
}

/// The screen as it was last seen, and which of its cells changed since the last send matched there.
#[derive(Debug, Default)]
struct Screen {
    seen: TextScreen,
    fresh: Vec<bool>,
    /// A search may find now what it did not find before.
    news: bool,
    /// How often it has been looked at since a character changed.
    still: u32,
}

impl Screen {
    /// Takes in a new picture: finds out how far it scrolled, and what is new in it.
    fn update(&mut self, screen: &TextScreen) {
        self.still = self.still.saturating_add(1);
        self.news = true;
        if *screen == self.seen {
            self.news = self.still == STILL;
            return;
        }
        if self.seen.cells != screen.cells {
            self.still = 0;
        }
        let same_shape = self.seen.columns == screen.columns && self.seen.rows == screen.rows;
        if !same_shape || self.fresh.len() != screen.cells.len() {
            self.fresh = vec![true; screen.cells.len()];
            self.seen = screen.clone();
            return;
        }
        let shift = scrolled_rows(&self.seen, screen) * screen.columns;
        let codes = |screen: &TextScreen, at: usize| screen.cells.get(at).map(|cell| cell.0);
        self.fresh = (0..screen.cells.len())
            .map(|at| {
                let before = at + shift;
                self.fresh.get(before).copied().unwrap_or(true)
                    || codes(&self.seen, before) != codes(screen, at)
            })
            .collect();
        self.seen = screen.clone();
    }

    /// The texts that a regex is looked for in: without the blanks at the ends of lines and, once the screen is still,
    /// with those of the prompt. A serial line that shows the same prompt has spoken by then, and goes first.
    fn texts(&self) -> impl Iterator<Item = ScreenText> {
        let prompt = (self.still >= STILL)
            .then(|| prompt_lines(&self.seen))
            .flatten();
        [Some(screen_lines(&self.seen)), prompt]
            .into_iter()
            .flatten()
            .map(|lines| screen_text(&lines, self.seen.columns))
    }

    /// Whether the regex matches where something is new; what is on the screen then is old.
    fn take_match(&mut self, regex: &Regex) -> bool {
        let matched = self.texts().any(|text| {
            let is_fresh = |mut range: std::ops::Range<usize>| {
                range.any(|at| {
                    text.text[at] != b'\n'
                        && self.fresh.get(text.cells[at]).copied().unwrap_or(false)
                })
            };
            regex
                .find_iter(&text.text)
                .any(|found| is_fresh(found.range()))
        });
        if matched {
            self.fresh.fill(false);
        }
        matched
    }
}

/// By how many rows `now` is `before` scrolled up; 0 when it is not.
///
/// Only rows with text count, and the last ones are allowed to differ: a prompt has been typed at.
fn scrolled_rows(before: &TextScreen, now: &TextScreen) -> usize {
    let row = |screen: &TextScreen, n: usize| -> Vec<u8> {
        let cells = &screen.cells[n * screen.columns..(n + 1) * screen.columns];
        cells.iter().map(|cell| cell.0).collect()
    };
    let is_blank = |row: &[u8]| row.iter().all(|&code| code == b' ' || code == 0);
    let score = |shift: usize| {
        let mut score = 0i32;
        for n in 0..now.rows.saturating_sub(shift) {
            let (old, new) = (row(before, n + shift), row(now, n));
            if !is_blank(&old) {
                score += if old == new { 1 } else { -1 };
            }
        }
        score
    };
    let still = score(0);
    (1..now.rows)
        .map(|shift| (score(shift), shift))
        .filter(|&(score, _)| score > still && score > 0)
        .max_by_key(|&(score, shift)| (score, std::cmp::Reverse(shift)))
        .map_or(0, |(_, shift)| shift)
}

/// The script of a run, with the last megabytes of what the guest said.
#[derive(Debug, Default)]
pub struct Script {
    until: Option<Regex>,
    sends: std::collections::VecDeque<Send>,
    serial: [Stream; 4],
    debugcon: Stream,
    screen: Screen,
    /// The first send is in nothing of what is there.
    searched: bool,
}

impl Script {
    /// Reads the options.
    ///
    /// # Errors
    /// A regex or a text that is not valid; the message names it.
    pub fn new(until: Option<&str>, sends: &[String]) -> Result<Self> {
        let until = until
            .map(|pattern| compile("--until", pattern))
            .transpose()?;
        let sends = sends.iter().map(|send| {
            let (pattern, text) = send.split_once("=>").ok_or_else(|| {
                anyhow!("--send '{send}': expected REGEX=>TEXT, such as 'login: =>root\\n'")
            })?;
            let pieces = typing::parse(text).map_err(|why| anyhow!("--send '{send}': {why}"))?;
            Ok(Send {
                regex: compile("--send", pattern)?,
                pieces,
            })
        });
        Ok(Self {
            until,
            sends: sends.collect::<Result<_>>()?,
            ..Self::default()
        })
    }

    /// The changes of media that it will make.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        let pieces = self.sends.iter().flat_map(|send| &send.pieces);
        pieces.filter_map(|piece| match piece {
            Piece::Act(Act::Change(change)) => Some(change),
            _ => None,
        })
    }

    /// Whether the screen matters still.
    pub fn wants_screen(&self) -> bool {
        self.until.is_some() || !self.sends.is_empty()
    }

    /// The guest said something at `port`.
    pub fn said(&mut self, port: Port, bytes: &[u8]) {
        let stream = match port {
            Port::Serial(number) => self.serial.get_mut(usize::from(number)),
            Port::DebugConsole => Some(&mut self.debugcon),
        };
        if let Some(stream) = stream {
            stream.push(bytes);
            self.searched = false;
        }
    }

    /// The screen as it is now; `None` in graphics modes.
    pub fn screen(&mut self, screen: Option<&TextScreen>) {
        self.screen.update(screen.unwrap_or(&TextScreen::default()));
        self.searched &= !self.screen.news;
    }

    /// The end of what the guest sent on each serial port.
    pub fn serial_texts(&self) -> Vec<String> {
        self.serial.iter().map(Stream::text).collect()
    }

    /// How many bytes each serial port sent before that.
    pub fn serial_cut(&self) -> Vec<u64> {
        self.serial.iter().map(|stream| stream.cut).collect()
    }

    /// The end of what the guest wrote to the debug console.
    pub fn debugcon_text(&self) -> String {
        self.debugcon.text()
    }

    /// How many bytes it wrote there before that.
    pub fn debugcon_cut(&self) -> u64 {
        self.debugcon.cut
    }

    /// Types what is to be typed, and says whether `--until` matches.
    ///
    /// A send waits until the one before is typed, and matches only what came after that one's match.
    pub fn check(&mut self, typist: &mut Typist) -> bool {
        let until = self.check_until();
        if typist.is_idle() && !self.searched {
            self.check_send(typist);
        }
        self.screen.news = false;
        for stream in self.serial.iter_mut().chain([&mut self.debugcon]) {
            stream.settle();
        }
        until
    }

    fn check_until(&self) -> bool {
        let Some(regex) = &self.until else {
            return false;
        };
        let mut streams = self.serial.iter().chain([&self.debugcon]);
        // A search within the stream, not in a part of it: `^` looks at the byte in front.
        let said = streams
            .any(|stream| stream.is_fresh() && regex.is_match_at(&stream.bytes, stream.window(0)));
        said || self.screen.news && self.screen.texts().any(|text| regex.is_match(&text.text))
    }

    fn check_send(&mut self, typist: &mut Typist) {
        let Some(send) = self.sends.front() else {
            return;
        };
        let mut place = None;
        for (port, stream) in (0u8..).zip(&mut self.serial) {
            if let Some(end) = match_end(&send.regex, stream) {
                stream.from = end;
                place = Some(Some(port));
                break;
            }
        }
        if place.is_none()
            && let Some(end) = match_end(&send.regex, &self.debugcon)
        {
            self.debugcon.from = end;
            place = Some(None);
        }
        if place.is_none() && self.screen.take_match(&send.regex) {
            place = Some(None);
        }
        match place {
            Some(Some(port)) => typist.type_serial(port, &send.pieces),
            Some(None) => typist.type_keys(&send.pieces),
            None => {
                self.searched = true;
                return;
            }
        }
        self.sends.pop_front();
    }
}

fn match_end(regex: &Regex, stream: &Stream) -> Option<u64> {
    let found = regex.find_at(&stream.bytes, stream.window(stream.from))?;
    Some(stream.cut + found.end() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::typing::LAYOUTS;

    fn screen(rows: &[&str]) -> TextScreen {
        let columns = 20;
        let mut cells = Vec::new();
        for n in 0..5 {
            let row = format!("{:columns$}", rows.get(n).copied().unwrap_or(""));
            cells.extend(row.bytes().map(|code| (code, 7)));
        }
        TextScreen {
            columns,
            rows: 5,
            cells,
            ..TextScreen::default()
        }
    }

    fn says(script: &mut Script, text: &str) {
        script.said(Port::Serial(0), text.as_bytes());
    }

    #[test]
    fn until_matches_on_every_channel() {
        let script = || Script::new(Some("^do+ne$"), &[]).unwrap();
        let mut typist = Typist::new(&LAYOUTS[0]);
        let mut one = script();
        says(&mut one, "undone\r\ndoo");
        assert!(!one.check(&mut typist));
        says(&mut one, "ne\r\n");
        assert!(one.check(&mut typist));
        let mut two = script();
        two.screen(Some(&screen(&["", "doooone"])));
        assert!(two.check(&mut typist));
        let mut three = script();
        three.said(Port::DebugConsole, b"done");
        assert!(three.check(&mut typist));
    }

    #[test]
    fn a_stream_keeps_its_last_megabytes() {
        let mut script = Script::new(None, &[]).unwrap();
        let mut typist = Typist::new(&LAYOUTS[0]);
        let line = "\u{e4}\u{20ac}".repeat(20_000);
        let mut said = 0;
        for _ in 0..150 {
            says(&mut script, &line);
            said += line.len();
            script.check(&mut typist);
            let kept = script.serial[0].bytes.len();
            assert!(kept <= KEPT_BYTES + SLACK_BYTES, "{kept}");
        }
        assert!(said > 3 * KEPT_BYTES);
        let text = &script.serial_texts()[0];
        assert!(text.len() >= KEPT_BYTES - 3);
        assert_eq!(script.serial_cut()[0] as usize + text.len(), said);
        assert!(!text.contains('\u{fffd}'), "cut within a character");
        assert_eq!(script.serial_cut()[1..], [0; 3]);
        assert_eq!(script.debugcon_cut(), 0);
    }

    #[test]
    fn matches_are_found_across_every_border() {
        let mut typist = Typist::new(&LAYOUTS[0]);
        // In front of more than is searched again, all of it at once.
        let mut script = Script::new(Some("^needle$"), &[]).unwrap();
        says(&mut script, "needle\n");
        says(&mut script, &"x".repeat(2 * WINDOW_BYTES));
        assert!(script.check(&mut typist));
        // Half before and half after what was cut off, searched or not.
        for filler in [0, WINDOW_BYTES, KEPT_BYTES, 2 * KEPT_BYTES + SLACK_BYTES] {
            let mut script = Script::new(Some("^needle$"), &[]).unwrap();
            says(&mut script, &"x".repeat(filler));
            says(&mut script, "\nnee");
            assert!(!script.check(&mut typist));
            says(&mut script, "dle\n");
            assert!(script.check(&mut typist), "{filler}");
        }
        // The middle of a line does not begin one, wherever a search starts.
        for filler in [
            WINDOW_BYTES - 1,
            WINDOW_BYTES,
            WINDOW_BYTES + 1,
            3 * KEPT_BYTES,
        ] {
            let mut script = Script::new(Some("^x{9}"), &["^x{9}=>y".to_owned()]).unwrap();
            for part in [filler, 10, 10] {
                says(&mut script, "-");
                says(&mut script, &"x".repeat(part));
                assert!(!script.check(&mut typist), "{filler}");
            }
            assert!(typist.is_idle(), "{filler}");
        }
    }

    #[test]
    fn sends_match_in_order_and_each_text_once() {
        let sends = ["> =>a\\n".to_owned(), "> =>b\\n".to_owned()];
        let mut script = Script::new(None, &sends).unwrap();
        says(&mut script, "> ");
        let mut typist = Typist::new(&LAYOUTS[0]);
        script.check(&mut typist);
        assert!(!typist.is_idle());
        let mut typist = Typist::new(&LAYOUTS[0]);
        script.check(&mut typist);
        assert!(typist.is_idle(), "the old prompt must not match again");
        says(&mut script, "a\r\n> ");
        script.check(&mut typist);
        assert!(!typist.is_idle());
    }

    #[test]
    fn a_prompt_on_the_screen_matches_again_once_it_is_new() {
        let sends = ["A:>=>dir\\n".to_owned(), "A:>=>ver\\n".to_owned()];
        let mut script = Script::new(None, &sends).unwrap();
        let typed = |script: &mut Script, rows: &[&str]| {
            script.screen(Some(&screen(rows)));
            let mut typist = Typist::new(&LAYOUTS[0]);
            script.check(&mut typist);
            !typist.is_idle()
        };
        assert!(!typed(&mut script, &["1", "2", "3", "booting"]));
        assert!(typed(&mut script, &["1", "2", "3", "booting", "A:>"]));
        assert!(!typed(&mut script, &["1", "2", "3", "booting", "A:>dir"]));
        assert!(!typed(&mut script, &["3", "booting", "A:>dir", "FILE"]));
        assert!(typed(&mut script, &["booting", "A:>dir", "FILE", "A:>"]));
    }

    #[test]
    fn a_prompt_on_the_screen_ends_in_blanks_at_the_cursor() {
        let matches = |pattern: &str, cursor| {
            let mut script = Script::new(Some(pattern), &[format!("{pattern}=>x")]).unwrap();
            let mut now = screen(&["#", "", "login:"]);
            now.cursor = cursor;
            let mut check = || {
                script.screen(Some(&now));
                let mut typist = Typist::new(&LAYOUTS[0]);
                let until = script.check(&mut typist);
                assert_eq!(until, !typist.is_idle());
                until
            };
            let at_once = check();
            let later = !at_once && (0..STILL).any(|_| check());
            (at_once, later)
        };
        assert_eq!(matches("login: ", Some((7, 2))), (false, true));
        assert_eq!(matches("login: $", Some((7, 2))), (false, true));
        assert!(matches("login:$", Some((7, 2))).0);
        assert_eq!(matches("# ", Some((7, 2))), (false, false));
        assert_eq!(matches("login: ", Some((6, 2))), (false, false));
        assert_eq!(matches("login: ", Some((3, 2))), (false, false));
        assert_eq!(matches("login: ", Some((3, 9))), (false, false));
        assert_eq!(matches("login: ", None), (false, false));
    }

    #[test]
    fn bad_options_are_named() {
        let error = Script::new(Some("("), &[]).unwrap_err().to_string();
        assert!(error.starts_with("--until '('"), "{error}");
        assert!(!error.contains('\n'));
        assert!(Script::new(None, &["no arrow".into()]).is_err());
        assert!(Script::new(None, &["a=><nokey>".into()]).is_err());
    }
}
