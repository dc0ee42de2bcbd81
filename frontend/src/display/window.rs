//! The window.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender};
pub use minifb::Window;
use minifb::{
    InputCallback, Key as WindowKey, MouseButton, MouseMode, Scale, ScaleMode, WindowOptions,
};
use platform::{Frame, Key, Motion, Place};

use super::{CaseButton, Farewell, interrupted, wrap};
use crate::runner::{Control, Shown, Stop};

const WIDTH: usize = 960;
const HEIGHT: usize = 720;
/// How long the window may go without its picture: an X server does not keep what another window
/// covered, and minifb does not tell when that happened.
const REFRESH: Duration = Duration::from_millis(500);
/// How often a second the window looks for keys and pictures: while some come, and after a while without.
const BUSY_FPS: usize = 60;
const QUIET_FPS: usize = 25;
/// Pictures that come less often than this are a cursor that blinks.
const MOVING: Duration = Duration::from_millis(60);
/// How long the window stays busy after the last sign of life.
const CALM_DOWN: Duration = Duration::from_secs(1);

/// Collects the keys of the window between two looks at it.
struct Keys(Arc<Mutex<Vec<(WindowKey, bool)>>>);

impl InputCallback for Keys {
    fn add_char(&mut self, _: u32) {}

    fn set_key_state(&mut self, key: WindowKey, pressed: bool) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.push((key, pressed));
    }
}

/// Opens the window, for a machine that is built afterwards.
///
/// # Errors
/// The window system refuses: why, in its words.
pub fn open(title: &str) -> std::result::Result<Window, String> {
    let options = WindowOptions {
        resize: true,
        scale: Scale::X1,
        scale_mode: ScaleMode::UpperLeft,
        ..WindowOptions::default()
    };
    let mut window = Window::new(&caption(title, 0.0, false, true), WIDTH, HEIGHT, options)
        .map_err(|error| {
            let display = std::env::var("DISPLAY").unwrap_or_default();
            format!("the window system refused ({error}) at DISPLAY={display}")
        })?;
    window.set_target_fps(BUSY_FPS);
    Ok(window)
}

/// Shows the machine in a window until it ends or the window is closed; a guest that died is shown until a key comes.
///
/// `signals` is what the machine has not taken when it ended.
///
/// # Errors
/// The window system fails.
pub fn show(
    mut window: Window,
    title: &str,
    shown: &Shown,
    control: &Sender<Control>,
    signals: &Receiver<Control>,
) -> Result<()> {
    let events = Arc::new(Mutex::new(Vec::new()));
    window.set_input_callback(Box::new(Keys(Arc::clone(&events))));
    let mut painter = Painter::default();
    let mut keyboard = Keyboard::default();
    let mut mouse = Mouse::default();
    let mut seen = 0;
    let mut captioned = Instant::now();
    let mut active = false;
    let mut hidden = false;
    let mut farewell: Option<Farewell> = None;
    let mut activity = Activity::new(Instant::now());
    loop {
        if farewell.is_none() && shown.has_ended() {
            let Some(last) = Farewell::of(shown) else {
                return Ok(());
            };
            window.set_title(&format!("{title} - Glassbox - {}", last.words));
            painter.set_words(&last.words);
            farewell = Some(last);
        }
        if !window.is_open() {
            let _ = control.send(Control::Stop(Stop::Closed));
            return Ok(());
        }
        if let Some(frame) = shown.frame_after(&mut seen) {
            painter.set_frame(frame);
            activity.picture(Instant::now());
        }
        window.set_target_fps(activity.fps(Instant::now()));
        let (width, height) = window.get_size();
        if painter.paint(width, height) || painter.shown.elapsed() >= REFRESH {
            painter.shown = Instant::now();
            window.update_with_buffer(&painter.pixels, painter.painted.0, painter.painted.1)?;
        } else {
            window.update();
        }
        let taken = std::mem::take(&mut *events.lock().unwrap_or_else(PoisonError::into_inner));
        if !taken.is_empty() {
            activity.last = Instant::now();
        }
        if let Some(farewell) = &farewell {
            let pressed = taken.iter().any(|&(_, pressed)| pressed);
            if pressed && farewell.takes_keys() || interrupted(signals) {
                return Ok(());
            }
            continue;
        }
        let was_captured = mouse.captured;
        for (key, pressed) in taken {
            match keyboard.key(key, pressed, control) {
                Some(Hotkey::Leave) => {
                    let _ = control.send(Control::Stop(Stop::Closed));
                    return Ok(());
                }
                Some(Hotkey::Case(button)) => {
                    let _ = control.send(button.press());
                }
                // Ctrl and Alt are down in the guest already.
                Some(Hotkey::Attention) => {
                    for pressed in [true, false] {
                        let _ = control.send(key_command(Key::Delete, pressed));
                    }
                }
                Some(Hotkey::Release) => mouse.release(),
                None => {}
            }
        }
        // Only when the focus goes: a display server without a window manager never gives it.
        if std::mem::replace(&mut active, window.is_active()) && !active {
            keyboard.release_all(control);
            mouse.release();
        }
        let pointer = pointer(&window);
        if shown.has_pointer() {
            // It goes where the user's goes, and nobody has to lend it.
            mouse.captured = false;
            let place = painter.place(pointer.at.filter(|_| pointer.inside));
            if let Some(place) = mouse.follow(&pointer, place) {
                activity.last = Instant::now();
                let _ = control.send(Control::command(move |machine| machine.input_place(place)));
            }
        } else if let Some(motion) = mouse.look(&pointer, painter.scale()) {
            activity.last = Instant::now();
            let _ = control.send(Control::command(move |machine| machine.input_mouse(motion)));
        }
        let hides = mouse.captured || shown.has_pointer() && pointer.inside;
        if std::mem::replace(&mut hidden, hides) != hides {
            window.set_cursor_visibility(!hides);
        }
        if captioned.elapsed() > Duration::from_secs(1) || mouse.captured != was_captured {
            captioned = Instant::now();
            let lends = !shown.has_pointer();
            window.set_title(&caption(title, shown.mips(), mouse.captured, lends));
        }
    }
}

/// How much is going on in the window.
struct Activity {
    /// The last sign of life.
    last: Instant,
    /// The last picture.
    pictured: Instant,
}

impl Activity {
    fn new(now: Instant) -> Self {
        Self {
            last: now,
            pictured: now,
        }
    }

    /// A new picture came.
    fn picture(&mut self, now: Instant) {
        if now - std::mem::replace(&mut self.pictured, now) < MOVING {
            self.last = now;
        }
    }

    fn fps(&self, now: Instant) -> usize {
        if now - self.last < CALM_DOWN {
            BUSY_FPS
        } else {
            QUIET_FPS
        }
    }
}

fn caption(title: &str, mips: f64, captured: bool, lends: bool) -> String {
    let mouse = match (captured, lends) {
        (true, _) => ", Ctrl+Alt gives the mouse back",
        (false, true) => ", a click lends the guest the mouse",
        (false, false) => "",
    };
    format!("{title} - Glassbox - {mips:.0} MIPS - Ctrl+Alt+Q leaves{mouse}")
}

/// The host's pointer now.
struct Pointer {
    /// In dots of the window, also beside it.
    at: Option<(f32, f32)>,
    /// It is over the window.
    inside: bool,
    /// Bit 0 left, 1 right, 2 middle.
    buttons: u8,
    /// Notches of the wheel since the last look, towards the user.
    notches: i32,
}

fn pointer(window: &Window) -> Pointer {
    let buttons = [MouseButton::Left, MouseButton::Right, MouseButton::Middle];
    let down = (0..)
        .zip(buttons)
        .filter(|(_, button)| window.get_mouse_down(*button));
    let (_, up) = window.get_scroll_wheel().unwrap_or_default();
    Pointer {
        at: window.get_mouse_pos(MouseMode::Pass),
        inside: window.get_mouse_pos(MouseMode::Discard).is_some(),
        buttons: down.map(|(bit, _)| 1 << bit).sum(),
        notches: -up.round() as i32,
    }
}

/// The most that goes to the guest at a look: what its mouse has room for in a packet, also where
/// it takes one in two looks.
const MOST_COUNTS: f32 = 127.0;

/// Whose the mouse is. The window system lends no window the pointer for itself: where the guest
/// has the mouse, the pointer is hidden, and what it moves, on the window and beside it, is what
/// the guest's moves.
#[derive(Default)]
struct Mouse {
    /// The guest has it.
    captured: bool,
    /// What is down, as the guest was told.
    buttons: u8,
    /// Buttons that were down before the guest got it are not its own until they are let go.
    foreign: u8,
    last: Option<(f32, f32)>,
    /// What the guest's own pointer was told.
    placed: Place,
    /// Dots of the guest's screen that it was not told of yet: the rest of what did not fit, and parts of a dot.
    rest: (f32, f32),
}

impl Mouse {
    /// The user takes it back.
    fn release(&mut self) {
        self.captured = false;
        self.foreign |= self.buttons;
    }

    /// What the guest's own pointer is to be told, where the user's is at `at` of the picture.
    fn follow(&mut self, pointer: &Pointer, at: Option<(u16, u16)>) -> Option<Place> {
        let (x, y) = at.unwrap_or((self.placed.x, self.placed.y));
        // What went down beside the picture is not the guest's, and what goes up anywhere is.
        let mine = if at.is_some() {
            0
        } else {
            pointer.buttons & !self.placed.buttons
        };
        self.foreign = (self.foreign | mine) & pointer.buttons;
        let place = Place {
            x,
            y,
            dz: at.map_or(0, |_| pointer.notches),
            buttons: pointer.buttons & !self.foreign,
        };
        self.buttons = 0;
        let before = std::mem::replace(&mut self.placed, Place { dz: 0, ..place });
        (place != before).then_some(place)
    }

    /// What the guest is to be told; `scale` dots of its screen are one of the window's.
    fn look(&mut self, pointer: &Pointer, scale: (f32, f32)) -> Option<Motion> {
        self.foreign &= pointer.buttons;
        if !self.captured {
            let clicked = pointer.buttons & !self.foreign != 0;
            self.foreign = pointer.buttons;
            self.last = pointer.at;
            self.rest = (0.0, 0.0);
            if clicked && pointer.inside {
                self.captured = true;
            }
            // Nothing stays down in a guest whose mouse is taken away.
            let were = std::mem::take(&mut self.buttons);
            return (were != 0).then(Motion::default);
        }
        let before = self.last.or(pointer.at);
        if let (Some(before), Some(now)) = (before, pointer.at) {
            self.rest.0 += (now.0 - before.0) * scale.0;
            self.rest.1 += (now.1 - before.1) * scale.1;
        }
        self.last = pointer.at;
        let take = |rest: &mut f32| {
            let whole = rest.trunc().clamp(-MOST_COUNTS, MOST_COUNTS);
            *rest -= whole;
            whole as i32
        };
        let motion = Motion {
            dx: take(&mut self.rest.0),
            dy: -take(&mut self.rest.1),
            dz: pointer.notches,
            buttons: pointer.buttons & !self.foreign,
        };
        let changed = std::mem::replace(&mut self.buttons, motion.buttons) != motion.buttons;
        let moved = (motion.dx, motion.dy, motion.dz) != (0, 0, 0);
        (changed || moved).then_some(motion)
    }
}

/// A key, or two, that are the window's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hotkey {
    /// Ctrl+Alt+Q.
    Leave,
    /// Ctrl+Alt+P and Ctrl+Alt+R.
    Case(CaseButton),
    /// Ctrl+Alt+End: Ctrl+Alt+Delete for the guest, as hosts keep that to themselves.
    Attention,
    /// Ctrl+Alt alone.
    Release,
}

/// Which keys are down, as the guest was told.
#[derive(Default)]
struct Keyboard {
    down: Vec<Key>,
    /// The window's own, which the guest is not told of.
    own: Option<Key>,
    /// Ctrl and Alt are down, and no other key came since.
    alone: bool,
}

impl Keyboard {
    /// Hands a key on, or returns what it is to the window.
    fn key(&mut self, key: WindowKey, pressed: bool, control: &Sender<Control>) -> Option<Hotkey> {
        let key = guest_key(key)?;
        if self.own == Some(key) {
            // It repeats while it is held: a button is pressed once.
            self.own = self.own.filter(|_| pressed);
            return None;
        }
        if pressed && self.has_ctrl_and_alt() {
            let hotkey = match key {
                Key::Q => Some(Hotkey::Leave),
                Key::P => Some(Hotkey::Case(CaseButton::Power)),
                Key::R => Some(Hotkey::Case(CaseButton::Reset)),
                Key::End => Some(Hotkey::Attention),
                _ => None,
            };
            if hotkey.is_some() {
                self.own = Some(key);
                self.alone = false;
                return hotkey;
            }
        }
        let had_both = self.has_ctrl_and_alt();
        if pressed && !self.down.contains(&key) {
            self.down.push(key);
            self.alone = !had_both && self.has_ctrl_and_alt();
        } else if !pressed {
            self.down.retain(|&other| other != key);
        }
        let _ = control.send(key_command(key, pressed));
        let released = had_both && !self.has_ctrl_and_alt() && std::mem::take(&mut self.alone);
        released.then_some(Hotkey::Release)
    }

    fn has_ctrl_and_alt(&self) -> bool {
        let down = |keys: &[Key]| keys.iter().any(|key| self.down.contains(key));
        down(&[Key::ControlLeft, Key::ControlRight]) && down(&[Key::AltLeft, Key::AltRight])
    }

    /// A window that lost the focus hears of no release.
    fn release_all(&mut self, control: &Sender<Control>) {
        self.own = None;
        self.alone = false;
        for key in self.down.drain(..) {
            let _ = control.send(key_command(key, false));
        }
    }
}

fn key_command(key: Key, pressed: bool) -> Control {
    Control::command(move |machine| machine.input_key(key, pressed))
}

/// Scales frames to the window.
struct Painter {
    frame: Arc<Frame>,
    pixels: Vec<u32>,
    /// The size that `pixels` was painted for; 0 when all of it must be painted anew.
    painted: (usize, usize),
    /// The rows of `frame` that are not painted yet.
    fresh: Vec<bool>,
    /// When the window was last given `pixels`.
    shown: Instant,
    /// What stands below the picture.
    words: String,
}

impl Default for Painter {
    fn default() -> Self {
        Self {
            frame: Arc::default(),
            pixels: Vec::new(),
            painted: (0, 0),
            fresh: Vec::new(),
            shown: Instant::now(),
            words: String::new(),
        }
    }
}

impl Painter {
    /// Takes a new picture.
    fn set_frame(&mut self, frame: Arc<Frame>) {
        let before = std::mem::replace(&mut self.frame, frame);
        let frame = &self.frame;
        if !is_whole(&before) || (before.width, before.height) != (frame.width, frame.height) {
            self.painted = (0, 0);
            return;
        }
        let rows = before
            .pixels
            .chunks(before.width)
            .zip(frame.pixels.chunks(frame.width));
        let differs = rows.map(|(before, now)| before != now);
        if self.fresh.len() == frame.height {
            // A picture that came before may not have been painted yet.
            self.fresh
                .iter_mut()
                .zip(differs)
                .for_each(|(fresh, differs)| *fresh |= differs);
        } else {
            self.fresh = differs.collect();
        }
    }

    /// How many dots of the guest's screen are one of the window's, across and down.
    fn scale(&self) -> (f32, f32) {
        let (frame, (width, height)) = (&self.frame, self.painted);
        if !is_whole(frame) || width == 0 || height == 0 {
            return (1.0, 1.0);
        }
        let (shown_width, shown_height) = fit(frame, width, height);
        (
            frame.width as f32 / shown_width as f32,
            frame.height as f32 / shown_height as f32,
        )
    }

    /// Where a dot of the window is on the picture, from 0 to 65535; `None` beside it.
    fn place(&self, at: Option<(f32, f32)>) -> Option<(u16, u16)> {
        let (frame, (width, height)) = (&self.frame, self.painted);
        if !is_whole(frame) || width == 0 || height == 0 {
            return None;
        }
        let (shown_width, shown_height) = fit(frame, width, height);
        let (x, y) = at?;
        let share = |at: f32, whole: usize, shown: usize| {
            let from = at - ((whole - shown) / 2) as f32;
            let share = from / (shown.max(2) - 1) as f32;
            (0.0..=1.0)
                .contains(&share)
                .then_some((share * 65535.0) as u16)
        };
        Some((
            share(x, width, shown_width)?,
            share(y, height, shown_height)?,
        ))
    }

    /// Sets what stands below the picture.
    fn set_words(&mut self, words: &str) {
        words.clone_into(&mut self.words);
        self.painted = (0, 0);
    }

    /// Paints what is new for a window of this size; returns whether anything was.
    fn paint(&mut self, width: usize, height: usize) -> bool {
        let (width, height) = (width.max(1), height.max(1));
        let all = self.painted != (width, height);
        if !all && !self.fresh.contains(&true) {
            return false;
        }
        let fresh = std::mem::take(&mut self.fresh);
        let is_fresh = |row: usize| all || fresh.get(row).is_some_and(|&fresh| fresh);
        let mut above = height;
        if all {
            self.painted = (width, height);
            self.pixels.clear();
            self.pixels.resize(width * height, 0);
        }
        if !self.words.is_empty() {
            above = height
                .saturating_sub(draw_words(&self.words, &mut self.pixels, width))
                .max(1);
        }
        let frame = &self.frame;
        if !is_whole(frame) {
            return true;
        }
        let (shown_width, shown_height) = fit(frame, width, above);
        let (left, top) = ((width - shown_width) / 2, (above - shown_height) / 2);
        let columns = steps(frame.width, shown_width);
        let rows = steps(frame.height, shown_height);
        for (y, &(row, next_row, down)) in rows.iter().enumerate() {
            if !is_fresh(row) && !is_fresh(next_row) {
                continue;
            }
            let upper = &frame.pixels[row * frame.width..];
            let lower = &frame.pixels[next_row * frame.width..];
            let start = (top + y) * width + left;
            let line = &mut self.pixels[start..start + shown_width];
            for (pixel, &(column, next, right)) in line.iter_mut().zip(&columns) {
                let above = blend(upper[column], upper[next], right);
                let below = blend(lower[column], lower[next], right);
                *pixel = blend(above, below, down);
            }
        }
        true
    }
}

fn is_whole(frame: &Frame) -> bool {
    frame.width > 0 && frame.height > 0 && frame.pixels.len() >= frame.width * frame.height
}

/// Writes `words` into the lowest lines of the picture, in the VGA's letters; returns how many lines of dots they take.
fn draw_words(words: &str, pixels: &mut [u32], width: usize) -> usize {
    const INK: u32 = 0xFF_FFFF;
    const PAPER: u32 = 0x30_3040;
    const MARGIN: usize = 6;
    let lines = wrap(words, width.saturating_sub(2 * MARGIN) / 8);
    let height = lines.len() * 16 + 2 * MARGIN;
    let Some(start) = pixels.len().checked_sub(height * width) else {
        // The window is too small for them: its caption says them too.
        return 0;
    };
    let bar = &mut pixels[start..];
    bar.fill(PAPER);
    for (n, line) in lines.iter().enumerate() {
        for (column, c) in line.chars().enumerate() {
            let code = u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'?');
            let glyph = &firmware::FONT_8X16[usize::from(code) * 16..][..16];
            for (row, &dots) in glyph.iter().enumerate() {
                let at = (MARGIN + n * 16 + row) * width + MARGIN + column * 8;
                for dot in (0..8).filter(|dot| dots << dot & 0x80 != 0) {
                    bar[at + dot] = INK;
                }
            }
        }
    }
    height
}

/// The largest size in the window with the picture's shape: 4:3, as every VGA mode fills the tube.
fn fit(frame: &Frame, width: usize, height: usize) -> (usize, usize) {
    let (across, up) = if frame.width <= 800 {
        (4, 3)
    } else {
        (frame.width, frame.height)
    };
    if width * up <= height * across {
        (width, (width * up / across).max(1))
    } else {
        ((height * across / up).max(1), height)
    }
}

/// For each of `to` pixels: the two source pixels of `from` that it lies between, and how much of the
/// second, of 256. Only the pixels at a border are mixed, so that letters stay sharp.
fn steps(from: usize, to: usize) -> Vec<(usize, usize, u32)> {
    let scale = to as f32 / from as f32;
    (0..to)
        .map(|n| {
            let at = (n as f32 + 0.5) / scale - 0.5;
            let first = at.floor().max(0.0);
            let between = (at - first).clamp(0.0, 1.0);
            let sharp = ((between - 0.5) * scale.max(1.0) + 0.5).clamp(0.0, 1.0);
            let first = (first as usize).min(from - 1);
            (first, (first + 1).min(from - 1), (sharp * 256.0) as u32)
        })
        .collect()
}

/// Mixes two colours: `part` of 256 of the second.
fn blend(a: u32, b: u32, part: u32) -> u32 {
    if a == b || part == 0 {
        return a;
    }
    let mix = |mask: u32| {
        let (a, b) = (u64::from(a & mask), u64::from(b & mask));
        ((a * u64::from(256 - part) + b * u64::from(part)) >> 8) as u32 & mask
    };
    mix(0xFF_00FF) | mix(0x00_FF00)
}

/// The guest's key at the place of the window system's.
fn guest_key(key: WindowKey) -> Option<Key> {
    use WindowKey as W;
    Some(match key {
        W::A => Key::A,
        W::B => Key::B,
        W::C => Key::C,
        W::D => Key::D,
        W::E => Key::E,
        W::F => Key::F,
        W::G => Key::G,
        W::H => Key::H,
        W::I => Key::I,
        W::J => Key::J,
        W::K => Key::K,
        W::L => Key::L,
        W::M => Key::M,
        W::N => Key::N,
        W::O => Key::O,
        W::P => Key::P,
        W::Q => Key::Q,
        W::R => Key::R,
        W::S => Key::S,
        W::T => Key::T,
        W::U => Key::U,
        W::V => Key::V,
        W::W => Key::W,
        W::X => Key::X,
        W::Y => Key::Y,
        W::Z => Key::Z,
        W::Key0 => Key::Digit0,
        W::Key1 => Key::Digit1,
        W::Key2 => Key::Digit2,
        W::Key3 => Key::Digit3,
        W::Key4 => Key::Digit4,
        W::Key5 => Key::Digit5,
        W::Key6 => Key::Digit6,
        W::Key7 => Key::Digit7,
        W::Key8 => Key::Digit8,
        W::Key9 => Key::Digit9,
        W::F1 => Key::F1,
        W::F2 => Key::F2,
        W::F3 => Key::F3,
        W::F4 => Key::F4,
        W::F5 => Key::F5,
        W::F6 => Key::F6,
        W::F7 => Key::F7,
        W::F8 => Key::F8,
        W::F9 => Key::F9,
        W::F10 => Key::F10,
        W::F11 => Key::F11,
        W::F12 => Key::F12,
        W::Down => Key::ArrowDown,
        W::Left => Key::ArrowLeft,
        W::Right => Key::ArrowRight,
        W::Up => Key::ArrowUp,
        W::Apostrophe => Key::Quote,
        W::Backquote => Key::Backquote,
        W::Backslash => Key::Backslash,
        W::Comma => Key::Comma,
        W::Equal => Key::Equal,
        W::LeftBracket => Key::BracketLeft,
        W::Minus => Key::Minus,
        W::Period => Key::Period,
        W::RightBracket => Key::BracketRight,
        W::Semicolon => Key::Semicolon,
        W::Slash => Key::Slash,
        W::Backspace => Key::Backspace,
        W::Delete => Key::Delete,
        W::End => Key::End,
        W::Enter => Key::Enter,
        W::Escape => Key::Escape,
        W::Home => Key::Home,
        W::Insert => Key::Insert,
        W::Menu => Key::ContextMenu,
        W::PageDown => Key::PageDown,
        W::PageUp => Key::PageUp,
        W::Pause => Key::Pause,
        W::Space => Key::Space,
        W::Tab => Key::Tab,
        W::NumLock => Key::NumLock,
        W::CapsLock => Key::CapsLock,
        W::ScrollLock => Key::ScrollLock,
        W::LeftShift => Key::ShiftLeft,
        W::RightShift => Key::ShiftRight,
        W::LeftCtrl => Key::ControlLeft,
        W::RightCtrl => Key::ControlRight,
        W::LeftAlt => Key::AltLeft,
        W::RightAlt => Key::AltRight,
        W::LeftSuper => Key::MetaLeft,
        W::RightSuper => Key::MetaRight,
        W::NumPad0 => Key::Numpad0,
        W::NumPad1 => Key::Numpad1,
        W::NumPad2 => Key::Numpad2,
        W::NumPad3 => Key::Numpad3,
        W::NumPad4 => Key::Numpad4,
        W::NumPad5 => Key::Numpad5,
        W::NumPad6 => Key::Numpad6,
        W::NumPad7 => Key::Numpad7,
        W::NumPad8 => Key::Numpad8,
        W::NumPad9 => Key::Numpad9,
        W::NumPadDot => Key::NumpadDecimal,
        W::NumPadSlash => Key::NumpadDivide,
        W::NumPadAsterisk => Key::NumpadMultiply,
        W::NumPadMinus => Key::NumpadSubtract,
        W::NumPadPlus => Key::NumpadAdd,
        W::NumPadEnter => Key::NumpadEnter,
        W::F13 | W::F14 | W::F15 | W::Unknown | W::Count => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: usize, height: usize, pixels: Vec<u32>) -> Frame {
        Frame {
            width,
            height,
            pixels,
            ..Frame::default()
        }
    }

    #[test]
    fn a_picture_keeps_the_shape_of_the_tube() {
        let text = frame(720, 400, Vec::new());
        assert_eq!(fit(&text, 960, 720), (960, 720));
        assert_eq!(fit(&text, 2000, 720), (960, 720));
        assert_eq!(fit(&text, 400, 3000), (400, 300));
        let low = frame(320, 200, Vec::new());
        assert_eq!(fit(&low, 640, 480), (640, 480));
        let high = frame(1280, 1024, Vec::new());
        assert_eq!(fit(&high, 1280, 1024), (1280, 1024));
    }

    #[test]
    fn painting_scales_and_survives_any_size() {
        let mut painter = Painter {
            frame: frame(2, 1, vec![0xFF_0000, 0x00_00FF]).into(),
            ..Painter::default()
        };
        painter.paint(8, 6);
        assert_eq!(
            (painter.pixels[0], painter.pixels[7]),
            (0xFF_0000, 0x00_00FF)
        );
        for words in ["", "Press a key to leave."] {
            painter.set_words(words);
            for (width, height) in [(0, 0), (1, 1), (3, 1000), (1000, 3), (20, 40), (40, 20)] {
                painter.paint(width, height);
                assert_eq!(painter.pixels.len(), width.max(1) * height.max(1));
            }
        }
    }

    #[test]
    fn only_what_changed_is_painted_and_in_the_end_all_of_it() {
        let picture = |last: u32| {
            frame(
                8,
                6,
                (0..48).map(|n| if n == 47 { last } else { n }).collect(),
            )
        };
        let mut painter = Painter::default();
        painter.set_frame(picture(1).into());
        assert!(painter.paint(80, 60));
        assert!(!painter.paint(80, 60));
        painter.set_frame(picture(1).into());
        assert!(!painter.paint(80, 60), "the same picture");
        painter.set_frame(picture(2).into());
        assert!(painter.paint(80, 60));
        let mut anew = Painter::default();
        anew.set_frame(picture(2).into());
        anew.paint(80, 60);
        assert_eq!(painter.pixels, anew.pixels);
    }

    #[test]
    fn a_blinking_cursor_lets_the_window_calm_down() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut activity = Activity::new(start);
        (0..20).for_each(|n| activity.picture(at(114 * n)));
        assert_eq!(activity.fps(at(2280)), QUIET_FPS);
        activity.picture(at(2290));
        activity.picture(at(2306));
        assert_eq!(activity.fps(at(2400)), BUSY_FPS);
    }

    #[test]
    fn last_words_stand_below_the_picture() {
        let mut painter = Painter::default();
        painter.set_frame(frame(1, 1, vec![0xFF_0000]).into());
        painter.set_words("Press a key to leave.");
        painter.paint(320, 240);
        assert_eq!(painter.pixels[160], 0xFF_0000);
        assert!(painter.pixels[320 * 220..].contains(&0xFF_FFFF));
        assert!(!painter.pixels[320 * 220..].contains(&0xFF_0000));
    }

    #[test]
    fn ctrl_alt_q_leaves_and_lost_focus_releases() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let mut keyboard = Keyboard::default();
        assert_eq!(keyboard.key(WindowKey::Q, true, &sender), None);
        assert_eq!(keyboard.key(WindowKey::LeftCtrl, true, &sender), None);
        assert_eq!(keyboard.key(WindowKey::LeftAlt, true, &sender), None);
        let leaves = keyboard.key(WindowKey::Q, true, &sender);
        assert_eq!(leaves, Some(Hotkey::Leave));
        assert_eq!(receiver.try_iter().count(), 3);
        keyboard.release_all(&sender);
        assert_eq!(receiver.try_iter().count(), 3);
    }

    #[test]
    fn the_buttons_of_the_case_are_pressed_once_and_ctrl_alt_delete_passes() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let mut keyboard = Keyboard::default();
        let mut key = |key, pressed| keyboard.key(key, pressed, &sender);
        key(WindowKey::LeftCtrl, true);
        key(WindowKey::LeftAlt, true);
        let reset = key(WindowKey::R, true);
        assert_eq!(reset, Some(Hotkey::Case(CaseButton::Reset)));
        assert_eq!(key(WindowKey::R, true), None, "it repeats");
        assert_eq!(key(WindowKey::R, false), None);
        let power = key(WindowKey::P, true);
        assert_eq!(power, Some(Hotkey::Case(CaseButton::Power)));
        key(WindowKey::P, false);
        assert_eq!(receiver.try_iter().count(), 2, "Ctrl and Alt");
        assert_eq!(key(WindowKey::Delete, true), None);
        assert_eq!(key(WindowKey::Delete, false), None);
        let attention = key(WindowKey::End, true);
        assert_eq!(attention, Some(Hotkey::Attention));
        key(WindowKey::End, false);
        assert_eq!(receiver.try_iter().count(), 2, "End is not the guest's");
        assert_eq!(key(WindowKey::LeftAlt, false), None, "not Ctrl+Alt alone");
        assert_eq!(receiver.try_iter().count(), 1);
        key(WindowKey::LeftAlt, true);
        let alone = key(WindowKey::LeftCtrl, false);
        assert_eq!(alone, Some(Hotkey::Release));
    }

    #[test]
    fn a_pointer_of_the_guests_own_follows_over_the_picture() {
        let mut painter = Painter::default();
        painter.set_frame(Arc::new(frame(2, 2, vec![0; 4])));
        painter.paint(800, 300);
        // 400 dots of the window are the picture, 200 beside it each way.
        assert_eq!(painter.place(Some((200.0, 0.0))), Some((0, 0)));
        assert_eq!(painter.place(Some((599.0, 299.0))), Some((65535, 65535)));
        assert_eq!(painter.place(Some((199.0, 5.0))), None);
        let mut mouse = Mouse::default();
        let mut look = |at, buttons, notches| {
            let pointer = Pointer {
                at: None,
                inside: true,
                buttons,
                notches,
            };
            let place = mouse.follow(&pointer, at)?;
            Some((place.x, place.y, place.dz, place.buttons))
        };
        assert_eq!(look(Some((7, 9)), 0, 0), Some((7, 9, 0, 0)));
        assert_eq!(look(Some((7, 9)), 0, 0), None);
        assert_eq!(look(Some((7, 9)), 1, -1), Some((7, 9, -1, 1)));
        assert_eq!(look(None, 1, 5), None, "dragged out");
        assert_eq!(look(None, 0, 0), Some((7, 9, 0, 0)));
        assert_eq!(look(None, 2, 0), None, "pressed elsewhere");
        assert_eq!(look(Some((7, 9)), 2, 0), None);
    }

    #[test]
    fn a_click_lends_the_guest_the_mouse_until_it_is_taken_back() {
        let mut mouse = Mouse::default();
        let look = |mouse: &mut Mouse, x: f32, y: f32, buttons, notches| {
            let pointer = Pointer {
                at: Some((x, y)),
                inside: x >= 0.0,
                buttons,
                notches,
            };
            let motion = mouse.look(&pointer, (0.5, 2.0))?;
            Some((motion.dx, motion.dy, motion.dz, motion.buttons))
        };
        assert_eq!(look(&mut mouse, 5.0, 5.0, 0, 0), None);
        assert_eq!(look(&mut mouse, 9.0, 9.0, 0, 1), None, "the user's");
        assert_eq!(look(&mut mouse, -1.0, 9.0, 1, 0), None, "beside the window");
        assert_eq!(look(&mut mouse, 10.0, 10.0, 1, 0), None, "pulled in");
        assert!(!mouse.captured);
        assert_eq!(look(&mut mouse, 10.0, 10.0, 0, 0), None);
        assert_eq!(
            look(&mut mouse, 10.0, 10.0, 1, 0),
            None,
            "this click is the window's"
        );
        assert!(mouse.captured);
        assert_eq!(look(&mut mouse, 11.0, 10.0, 1, 0), None, "half a dot");
        assert_eq!(look(&mut mouse, 12.0, 9.0, 0, 0), Some((1, 2, 0, 0)));
        assert_eq!(look(&mut mouse, 12.0, 9.0, 3, -1), Some((0, 0, -1, 3)));
        assert_eq!(look(&mut mouse, -8.0, 9.0, 3, 0), Some((-10, 0, 0, 3)));
        // What is too much for a packet goes with the next one.
        assert_eq!(look(&mut mouse, -8.0, 109.0, 3, 0), Some((0, -127, 0, 3)));
        assert_eq!(look(&mut mouse, -8.0, 109.0, 3, 0), Some((0, -73, 0, 3)));
        mouse.release();
        assert_eq!(look(&mut mouse, 0.0, 0.0, 3, 0), Some((0, 0, 0, 0)));
        assert_eq!(look(&mut mouse, 9.0, 9.0, 0, 0), None);
    }
}
