//! Scan codes of the 101/102-key keyboard, and the controller's translation of set 2 into set 1.
//!
//! Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard (101- and 102-Key)".

use platform::Key;

/// What a key sends in sets 1 and 2. Set 1 follows from set 2 by [`SET2_TO_SET1`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set2 {
    /// One byte.
    Plain(u8),
    /// A byte after E0.
    Extended(u8),
    /// E0 12 E0 7C, or another sequence with Alt, Ctrl or Shift.
    PrintScreen,
    /// E1 14 77 E1 F0 14 F0 77 when pressed, nothing when released.
    Pause,
}

/// The codes of a key in set 2 and in set 3.
pub fn codes(key: Key) -> (Set2, u8) {
    use Set2::{Extended, Plain};
    match key {
        Key::A => (Plain(0x1C), 0x1C),
        Key::B => (Plain(0x32), 0x32),
        Key::C => (Plain(0x21), 0x21),
        Key::D => (Plain(0x23), 0x23),
        Key::E => (Plain(0x24), 0x24),
        Key::F => (Plain(0x2B), 0x2B),
        Key::G => (Plain(0x34), 0x34),
        Key::H => (Plain(0x33), 0x33),
        Key::I => (Plain(0x43), 0x43),
        Key::J => (Plain(0x3B), 0x3B),
        Key::K => (Plain(0x42), 0x42),
        Key::L => (Plain(0x4B), 0x4B),
        Key::M => (Plain(0x3A), 0x3A),
        Key::N => (Plain(0x31), 0x31),
        Key::O => (Plain(0x44), 0x44),
        Key::P => (Plain(0x4D), 0x4D),
        Key::Q => (Plain(0x15), 0x15),
        Key::R => (Plain(0x2D), 0x2D),
        Key::S => (Plain(0x1B), 0x1B),
        Key::T => (Plain(0x2C), 0x2C),
        Key::U => (Plain(0x3C), 0x3C),
        Key::V => (Plain(0x2A), 0x2A),
        Key::W => (Plain(0x1D), 0x1D),
        Key::X => (Plain(0x22), 0x22),
        Key::Y => (Plain(0x35), 0x35),
        Key::Z => (Plain(0x1A), 0x1A),
        Key::Digit0 => (Plain(0x45), 0x45),
        Key::Digit1 => (Plain(0x16), 0x16),
        Key::Digit2 => (Plain(0x1E), 0x1E),
        Key::Digit3 => (Plain(0x26), 0x26),
        Key::Digit4 => (Plain(0x25), 0x25),
        Key::Digit5 => (Plain(0x2E), 0x2E),
        Key::Digit6 => (Plain(0x36), 0x36),
        Key::Digit7 => (Plain(0x3D), 0x3D),
        Key::Digit8 => (Plain(0x3E), 0x3E),
        Key::Digit9 => (Plain(0x46), 0x46),
        Key::Escape => (Plain(0x76), 0x08),
        Key::Backquote => (Plain(0x0E), 0x0E),
        Key::Minus => (Plain(0x4E), 0x4E),
        Key::Equal => (Plain(0x55), 0x55),
        Key::Backspace => (Plain(0x66), 0x66),
        Key::Tab => (Plain(0x0D), 0x0D),
        Key::BracketLeft => (Plain(0x54), 0x54),
        Key::BracketRight => (Plain(0x5B), 0x5B),
        Key::Backslash => (Plain(0x5D), 0x5C),
        Key::Enter => (Plain(0x5A), 0x5A),
        Key::CapsLock => (Plain(0x58), 0x14),
        Key::Semicolon => (Plain(0x4C), 0x4C),
        Key::Quote => (Plain(0x52), 0x52),
        Key::ShiftLeft => (Plain(0x12), 0x12),
        Key::IntlBackslash => (Plain(0x61), 0x13),
        Key::Comma => (Plain(0x41), 0x41),
        Key::Period => (Plain(0x49), 0x49),
        Key::Slash => (Plain(0x4A), 0x4A),
        Key::ShiftRight => (Plain(0x59), 0x59),
        Key::ControlLeft => (Plain(0x14), 0x11),
        Key::MetaLeft => (Extended(0x1F), 0x8B),
        Key::AltLeft => (Plain(0x11), 0x19),
        Key::Space => (Plain(0x29), 0x29),
        Key::AltRight => (Extended(0x11), 0x39),
        Key::MetaRight => (Extended(0x27), 0x8C),
        Key::ContextMenu => (Extended(0x2F), 0x8D),
        Key::ControlRight => (Extended(0x14), 0x58),
        Key::F1 => (Plain(0x05), 0x07),
        Key::F2 => (Plain(0x06), 0x0F),
        Key::F3 => (Plain(0x04), 0x17),
        Key::F4 => (Plain(0x0C), 0x1F),
        Key::F5 => (Plain(0x03), 0x27),
        Key::F6 => (Plain(0x0B), 0x2F),
        Key::F7 => (Plain(0x83), 0x37),
        Key::F8 => (Plain(0x0A), 0x3F),
        Key::F9 => (Plain(0x01), 0x47),
        Key::F10 => (Plain(0x09), 0x4F),
        Key::F11 => (Plain(0x78), 0x56),
        Key::F12 => (Plain(0x07), 0x5E),
        Key::PrintScreen => (Set2::PrintScreen, 0x57),
        Key::ScrollLock => (Plain(0x7E), 0x5F),
        Key::Pause => (Set2::Pause, 0x62),
        Key::Insert => (Extended(0x70), 0x67),
        Key::Delete => (Extended(0x71), 0x64),
        Key::Home => (Extended(0x6C), 0x6E),
        Key::End => (Extended(0x69), 0x65),
        Key::PageUp => (Extended(0x7D), 0x6F),
        Key::PageDown => (Extended(0x7A), 0x6D),
        Key::ArrowUp => (Extended(0x75), 0x63),
        Key::ArrowDown => (Extended(0x72), 0x60),
        Key::ArrowLeft => (Extended(0x6B), 0x61),
        Key::ArrowRight => (Extended(0x74), 0x6A),
        Key::NumLock => (Plain(0x77), 0x76),
        Key::NumpadDivide => (Extended(0x4A), 0x77),
        Key::NumpadMultiply => (Plain(0x7C), 0x7E),
        Key::NumpadSubtract => (Plain(0x7B), 0x84),
        Key::NumpadAdd => (Plain(0x79), 0x7C),
        Key::NumpadEnter => (Extended(0x5A), 0x79),
        Key::NumpadDecimal => (Plain(0x71), 0x71),
        Key::Numpad0 => (Plain(0x70), 0x70),
        Key::Numpad1 => (Plain(0x69), 0x69),
        Key::Numpad2 => (Plain(0x72), 0x72),
        Key::Numpad3 => (Plain(0x7A), 0x7A),
        Key::Numpad4 => (Plain(0x6B), 0x6B),
        Key::Numpad5 => (Plain(0x73), 0x73),
        Key::Numpad6 => (Plain(0x74), 0x74),
        Key::Numpad7 => (Plain(0x6C), 0x6C),
        Key::Numpad8 => (Plain(0x75), 0x75),
        Key::Numpad9 => (Plain(0x7D), 0x7D),
    }
}

/// What the 8042 makes of a byte in set 2 when it translates; bytes from 85h on pass as they are.
#[rustfmt::skip]
pub const SET2_TO_SET1: [u8; 0x85] = [
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59,
    0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B,
    0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F,
    0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61,
    0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F,
    0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54,
    0x80, 0x81, 0x82, 0x41, 0x54,
];

/// Translates one byte of set 2.
pub fn translate(byte: u8) -> u8 {
    SET2_TO_SET1.get(usize::from(byte)).copied().unwrap_or(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_1_has_the_codes_that_every_program_knows() {
        for (key, set1) in [
            (Key::Escape, 0x01),
            (Key::Digit1, 0x02),
            (Key::Q, 0x10),
            (Key::Enter, 0x1C),
            (Key::ControlLeft, 0x1D),
            (Key::A, 0x1E),
            (Key::Backquote, 0x29),
            (Key::Backslash, 0x2B),
            (Key::Slash, 0x35),
            (Key::NumpadMultiply, 0x37),
            (Key::Space, 0x39),
            (Key::F1, 0x3B),
            (Key::F7, 0x41),
            (Key::F10, 0x44),
            (Key::NumLock, 0x45),
            (Key::ScrollLock, 0x46),
            (Key::NumpadDecimal, 0x53),
            (Key::IntlBackslash, 0x56),
            (Key::F11, 0x57),
            (Key::F12, 0x58),
        ] {
            let (Set2::Plain(code), _) = codes(key) else {
                panic!("{key:?} has a plain code");
            };
            assert_eq!(translate(code), set1, "{key:?}");
        }
    }
}
