//! The window.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use crossbeam_channel::Sender;
use minifb::{InputCallback, Key as WindowKey, Scale, ScaleMode, Window, WindowOptions};
use platform::{Frame, Key};

use crate::runner::{Control, Shown, Stop};

const WIDTH: usize = 960;
const HEIGHT: usize = 720;

/// Collects the keys of the window between two looks at it.
struct Keys(Arc<Mutex<Vec<(WindowKey, bool)>>>);

impl InputCallback for Keys {
    fn add_char(&mut self, _: u32) {}

    fn set_key_state(&mut self, key: WindowKey, pressed: bool) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.push((key, pressed));
    }
}

/// Shows the machine in a window until it ends or the window is closed.
///
/// # Errors
/// The window system refuses; the message says what to do.
pub fn show(title: &str, shown: &Shown, control: &Sender<Control>) -> Result<()> {
    let options = WindowOptions {
        resize: true,
        scale: Scale::X1,
        scale_mode: ScaleMode::UpperLeft,
        ..WindowOptions::default()
    };
    let mut window = Window::new(&caption(title, 0.0), WIDTH, HEIGHT, options).map_err(|error| {
        anyhow!("--display window: the window system refused: {error}; use --display terminal or none")
    })?;
    window.set_target_fps(60);
    let events = Arc::new(Mutex::new(Vec::new()));
    window.set_input_callback(Box::new(Keys(Arc::clone(&events))));
    let mut painter = Painter::default();
    let mut keyboard = Keyboard::default();
    let mut captioned = Instant::now();
    let mut active = false;
    while !shown.has_ended() {
        if !window.is_open() {
            let _ = control.send(Control::Stop(Stop::Closed));
            return Ok(());
        }
        if let Some(frame) = shown.take_frame() {
            painter.frame = frame;
            painter.painted = (0, 0);
        }
        let (width, height) = window.get_size();
        painter.paint(width, height);
        window.update_with_buffer(&painter.pixels, painter.painted.0, painter.painted.1)?;
        let taken = std::mem::take(&mut *events.lock().unwrap_or_else(PoisonError::into_inner));
        for (key, pressed) in taken {
            if keyboard.key(key, pressed, control) {
                let _ = control.send(Control::Stop(Stop::Closed));
                return Ok(());
            }
        }
        // Only when the focus goes: a display server without a window manager never gives it.
        if std::mem::replace(&mut active, window.is_active()) && !active {
            keyboard.release_all(control);
        }
        if captioned.elapsed() > Duration::from_secs(1) {
            captioned = Instant::now();
            window.set_title(&caption(title, shown.mips()));
        }
    }
    Ok(())
}

fn caption(title: &str, mips: f64) -> String {
    format!("{title} - Glassbox - {mips:.0} MIPS - Ctrl+Alt+Q leaves")
}

/// Which keys are down, as the guest was told.
#[derive(Default)]
struct Keyboard {
    down: Vec<Key>,
}

impl Keyboard {
    /// Hands a key on; returns whether it was the one that leaves.
    fn key(&mut self, key: WindowKey, pressed: bool, control: &Sender<Control>) -> bool {
        let Some(key) = guest_key(key) else {
            return false;
        };
        let down = |keys: &[Key]| keys.iter().any(|key| self.down.contains(key));
        if pressed
            && key == Key::Q
            && down(&[Key::ControlLeft, Key::ControlRight])
            && down(&[Key::AltLeft, Key::AltRight])
        {
            return true;
        }
        if pressed && !self.down.contains(&key) {
            self.down.push(key);
        } else if !pressed {
            self.down.retain(|&other| other != key);
        }
        let _ = control.send(Control::Key(key, pressed));
        false
    }

    /// A window that lost the focus hears of no release.
    fn release_all(&mut self, control: &Sender<Control>) {
        for key in self.down.drain(..) {
            let _ = control.send(Control::Key(key, false));
        }
    }
}

/// Scales frames to the window.
#[derive(Default)]
struct Painter {
    frame: Frame,
    pixels: Vec<u32>,
    /// The size that `pixels` was painted for; 0 when it must be painted anew.
    painted: (usize, usize),
}

impl Painter {
    fn paint(&mut self, width: usize, height: usize) {
        let (width, height) = (width.max(1), height.max(1));
        if self.painted == (width, height) {
            return;
        }
        self.painted = (width, height);
        self.pixels.clear();
        self.pixels.resize(width * height, 0);
        let frame = &self.frame;
        if frame.width == 0 || frame.height == 0 || frame.pixels.len() < frame.width * frame.height
        {
            return;
        }
        let (shown_width, shown_height) = fit(frame, width, height);
        let (left, top) = ((width - shown_width) / 2, (height - shown_height) / 2);
        let columns = steps(frame.width, shown_width);
        let rows = steps(frame.height, shown_height);
        for (y, &(row, next_row, down)) in rows.iter().enumerate() {
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
    }
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
            frame: frame(2, 1, vec![0xFF_0000, 0x00_00FF]),
            ..Painter::default()
        };
        painter.paint(8, 6);
        assert_eq!(
            (painter.pixels[0], painter.pixels[7]),
            (0xFF_0000, 0x00_00FF)
        );
        for (width, height) in [(0, 0), (1, 1), (3, 1000), (1000, 3)] {
            painter.paint(width, height);
            assert_eq!(painter.pixels.len(), width.max(1) * height.max(1));
        }
    }

    #[test]
    fn ctrl_alt_q_leaves_and_lost_focus_releases() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let mut keyboard = Keyboard::default();
        assert!(!keyboard.key(WindowKey::Q, true, &sender));
        assert!(!keyboard.key(WindowKey::LeftCtrl, true, &sender));
        assert!(!keyboard.key(WindowKey::LeftAlt, true, &sender));
        assert!(keyboard.key(WindowKey::Q, true, &sender));
        assert_eq!(receiver.try_iter().count(), 3);
        keyboard.release_all(&sender);
        assert_eq!(receiver.try_iter().count(), 3);
    }
}
