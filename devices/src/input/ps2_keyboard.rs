//! The IBM 101/102-key PS/2 keyboard, as seen from its connector.
//!
//! Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard (101- and 102-Key)".
//!
//! It has no ports: the controller hands it command bytes ([`Ps2Keyboard::receive`]) and fetches what
//! it sends ([`Ps2Keyboard::send`]). Scan code sets 1, 2 (the default) and 3, typematic repeat in virtual
//! time, the 16-byte buffer with its overrun code, and all commands. Answers to commands go ahead of
//! scan codes.
//!
//! Not modelled: the shift codes around the cursor keys that depend on Num Lock and Shift, and repeats
//! while the buffer holds unsent codes (a stopped program would find an overrun on real hardware).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use log::{debug, warn};
use platform::Key;
use serde::{Deserialize, Serialize};

use super::keymap::{Set2, codes, translate};

const TARGET: &str = "ps2_keyboard";

const ACK: u8 = 0xFA;
const RESEND: u8 = 0xFE;
const BAT_OK: u8 = 0xAA;
const FIFO_BYTES: usize = 16;
/// The self-test takes half a second on hardware. No program relies on that, so it is short here.
const BAT_NS: u64 = 5_000_000;
const MS: u64 = 1_000_000;

/// What a key does in set 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum KeyMode {
    Typematic,
    MakeBreak,
    Make,
}

/// The keyboard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ps2Keyboard {
    /// Answers to commands.
    answers: VecDeque<u8>,
    /// Scan codes.
    fifo: VecDeque<u8>,
    overrun: bool,
    last_sent: u8,
    /// The command whose argument is awaited.
    awaiting: Option<u8>,
    scanning: bool,
    set: u8,
    leds: u8,
    typematic: u8,
    /// Set 3: a mode for all keys, and for single codes.
    all_keys: Option<KeyMode>,
    single_keys: BTreeMap<u8, KeyMode>,
    held: BTreeSet<Key>,
    /// The key that repeats, and when.
    repeat: Option<(Key, u64)>,
    /// When the self-test ends.
    bat_ns: Option<u64>,
}

impl Ps2Keyboard {
    /// A keyboard that has passed its power-on self-test.
    pub fn new() -> Self {
        Self {
            answers: VecDeque::new(),
            fifo: VecDeque::new(),
            overrun: false,
            last_sent: 0,
            awaiting: None,
            scanning: true,
            set: 2,
            leds: 0,
            typematic: 0x2B,
            all_keys: None,
            single_keys: BTreeMap::new(),
            held: BTreeSet::new(),
            repeat: None,
            bat_ns: None,
        }
    }

    /// Bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// Whether a key is neither ignored nor behind something that is not sent yet.
    pub fn takes_keys(&self) -> bool {
        self.scanning && self.bat_ns.is_none() && !self.has_byte()
    }

    /// Whether there is something to send.
    pub fn has_byte(&self) -> bool {
        !self.answers.is_empty() || !self.fifo.is_empty()
    }

    /// Sends the next byte.
    pub fn send(&mut self) -> Option<u8> {
        let byte = self.answers.pop_front().or_else(|| {
            let byte = self.fifo.pop_front();
            self.overrun &= !self.fifo.is_empty();
            byte
        })?;
        if byte != RESEND {
            self.last_sent = byte;
        }
        Some(byte)
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_event_ns(&self) -> Option<u64> {
        let repeat = self.repeat.map(|(_, at)| at);
        repeat.into_iter().chain(self.bat_ns).min()
    }

    /// Ends the self-test and repeats the held key, if it is time.
    pub fn on_timer(&mut self, now_ns: u64) {
        if self.bat_ns.is_some_and(|at| at <= now_ns) {
            self.bat_ns = None;
            self.answers.push_back(BAT_OK);
        }
        if let Some((key, at)) = self.repeat
            && at <= now_ns
        {
            if self.fifo.is_empty() {
                self.push_codes(key, true);
            }
            self.repeat = Some((key, now_ns + self.repeat_period_ns()));
        }
    }

    /// A key goes down or up.
    pub fn key(&mut self, now_ns: u64, key: Key, pressed: bool) {
        let changed = if pressed {
            self.held.insert(key)
        } else {
            self.held.remove(&key)
        };
        if self
            .repeat
            .is_some_and(|(repeating, _)| pressed || repeating == key)
        {
            self.repeat = None;
        }
        // What the host repeats is not a second stroke: the keyboard repeats by itself.
        if !changed || !self.scanning || self.bat_ns.is_some() {
            return;
        }
        self.push_codes(key, pressed);
        if pressed && self.mode(key) == KeyMode::Typematic {
            self.repeat = Some((key, now_ns + self.repeat_delay_ns()));
        }
    }

    /// A byte arrives from the controller.
    pub fn receive(&mut self, now_ns: u64, byte: u8) {
        // Nobody fetches the answers: the host has started over.
        if self.answers.len() >= FIFO_BYTES {
            self.answers.clear();
        }
        // A byte with bit 7 set in place of an argument is a new command.
        match self.awaiting.take() {
            Some(command) if byte < 0x80 || (command >= 0xFB && byte < 0xED) => {
                self.argument(command, byte);
            }
            _ => self.command(now_ns, byte),
        }
    }

    fn command(&mut self, now_ns: u64, command: u8) {
        debug!(target: TARGET, "command {command:02x}");
        match command {
            0xED | 0xF0 | 0xF3 => {
                self.awaiting = Some(command);
                self.answers.push_back(ACK);
            }
            0xEE => self.answers.push_back(0xEE),
            0xF2 => self.answers.extend([ACK, 0xAB, 0x83]),
            0xF4 => {
                self.clear();
                self.scanning = true;
                self.answers.push_back(ACK);
            }
            0xF5 | 0xF6 => {
                self.defaults();
                self.scanning = command == 0xF6;
                self.answers.push_back(ACK);
            }
            0xF7..=0xFA => {
                self.single_keys.clear();
                self.all_keys = Some(match command {
                    0xF8 => KeyMode::MakeBreak,
                    0xF9 => KeyMode::Make,
                    _ => KeyMode::Typematic,
                });
                self.answers.push_back(ACK);
            }
            0xFB..=0xFD => {
                self.scanning = false;
                self.awaiting = Some(command);
                self.answers.push_back(ACK);
            }
            0xFE => self.answers.push_back(self.last_sent),
            0xFF => {
                self.defaults();
                self.scanning = true;
                self.leds = 0;
                self.answers.clear();
                self.answers.push_back(ACK);
                self.bat_ns = Some(now_ns.saturating_add(BAT_NS));
            }
            _ => {
                debug!(target: TARGET, "unknown command {command:02x}");
                self.answers.push_back(RESEND);
            }
        }
    }

    fn argument(&mut self, command: u8, byte: u8) {
        match command {
            0xED => self.leds = byte & 7,
            0xF3 => self.typematic = byte,
            0xF0 if byte == 0 => {
                self.answers.extend([ACK, self.set]);
                return;
            }
            0xF0 if byte <= 3 => {
                self.clear();
                self.set = byte;
            }
            0xFB..=0xFD => {
                let mode = match command {
                    0xFB => KeyMode::Typematic,
                    0xFC => KeyMode::MakeBreak,
                    _ => KeyMode::Make,
                };
                self.single_keys.insert(byte, mode);
                // More codes may follow, until the next command.
                self.awaiting = Some(command);
            }
            _ => {
                self.awaiting = Some(command);
                self.answers.push_back(RESEND);
                return;
            }
        }
        self.answers.push_back(ACK);
    }

    /// Drops unsent scan codes and the repeating key.
    fn clear(&mut self) {
        self.fifo.clear();
        self.overrun = false;
        self.repeat = None;
    }

    /// Sets power-on defaults.
    fn defaults(&mut self) {
        self.clear();
        self.set = 2;
        self.typematic = 0x2B;
        self.all_keys = None;
        self.single_keys.clear();
    }

    fn repeat_delay_ns(&self) -> u64 {
        250 * MS * (1 + u64::from(self.typematic >> 5 & 3))
    }

    /// (8 + A) * 2^B / 240 s, where A is bits 2-0 and B bits 4-3 of the rate.
    fn repeat_period_ns(&self) -> u64 {
        let a = 8 + u64::from(self.typematic & 7);
        (a << (self.typematic >> 3 & 3)) * 1_000_000_000 / 240
    }

    /// How a key behaves; only in set 3 can a program change it.
    fn mode(&self, key: Key) -> KeyMode {
        if self.set != 3 {
            return match key {
                Key::Pause => KeyMode::Make,
                _ => KeyMode::Typematic,
            };
        }
        let (_, code) = codes(key);
        self.single_keys
            .get(&code)
            .copied()
            .or(self.all_keys)
            .unwrap_or(match code {
                0x11 | 0x12 | 0x14 | 0x19 | 0x59 => KeyMode::MakeBreak,
                0x07
                | 0x08
                | 0x0F
                | 0x17
                | 0x1F
                | 0x27
                | 0x2F
                | 0x37
                | 0x39
                | 0x3F
                | 0x47
                | 0x4F
                | 0x56
                | 0x57
                | 0x58
                | 0x5E
                | 0x5F
                | 0x62
                | 0x65
                | 0x67
                | 0x69
                | 0x6B
                | 0x6C
                | 0x6D
                | 0x6E
                | 0x6F
                | 0x70..=0x77
                | 0x79
                | 0x7A
                | 0x7D
                | 0x7E
                | 0x84
                | 0x8B..=0x8D => KeyMode::Make,
                _ => KeyMode::Typematic,
            })
    }

    fn push_codes(&mut self, key: Key, pressed: bool) {
        let (set2, set3) = codes(key);
        if self.set == 3 {
            if pressed {
                self.push(&[set3]);
            } else if self.mode(key) == KeyMode::MakeBreak || self.all_keys_break() {
                self.push(&[0xF0, set3]);
            }
            return;
        }
        match (set2, pressed) {
            (Set2::Plain(code), _) => self.push_key(false, code, pressed),
            (Set2::Extended(code), _) => self.push_key(true, code, pressed),
            (Set2::Pause, true) if self.holds(Key::ControlLeft, Key::ControlRight) => {
                self.push_key(true, 0x7E, true);
                self.push_key(true, 0x7E, false);
            }
            (Set2::Pause, true) if self.set == 1 => {
                self.push(&[0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5]);
            }
            (Set2::Pause, true) => self.push(&[0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77]),
            (Set2::Pause, false) => {}
            (Set2::PrintScreen, _) if self.holds(Key::AltLeft, Key::AltRight) => {
                self.push_key(false, 0x84, pressed);
            }
            (Set2::PrintScreen, _)
                if self.holds(Key::ControlLeft, Key::ControlRight)
                    || self.holds(Key::ShiftLeft, Key::ShiftRight) =>
            {
                self.push_key(true, 0x7C, pressed);
            }
            (Set2::PrintScreen, true) => {
                self.push_key(true, 0x12, true);
                self.push_key(true, 0x7C, true);
            }
            (Set2::PrintScreen, false) => {
                self.push_key(true, 0x7C, false);
                self.push_key(true, 0x12, false);
            }
        }
    }

    /// F7 and FA name all keys typematic; of the two only FA lets them send break codes, and that is
    /// what drivers of set 3 use.
    fn all_keys_break(&self) -> bool {
        self.all_keys == Some(KeyMode::Typematic)
    }

    fn holds(&self, left: Key, right: Key) -> bool {
        self.held.contains(&left) || self.held.contains(&right)
    }

    fn push_key(&mut self, extended: bool, code: u8, pressed: bool) {
        let mut bytes = Vec::with_capacity(3);
        if extended {
            bytes.push(0xE0);
        }
        match (self.set, pressed) {
            (1, true) => bytes.push(translate(code)),
            (1, false) => bytes.push(translate(code) | 0x80),
            (_, true) => bytes.push(code),
            (_, false) => bytes.extend([0xF0, code]),
        }
        self.push(&bytes);
    }

    /// Puts a whole sequence into the buffer, or the overrun code in its place.
    fn push(&mut self, bytes: &[u8]) {
        if self.fifo.len() + bytes.len() <= FIFO_BYTES && !self.overrun {
            self.fifo.extend(bytes);
        } else if !self.overrun {
            warn!(target: TARGET, "buffer overrun: keys are lost");
            self.overrun = true;
            self.fifo.push_back(if self.set == 1 { 0xFF } else { 0x00 });
        }
    }
}

impl Default for Ps2Keyboard {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(keyboard: &mut Ps2Keyboard) -> Vec<u8> {
        std::iter::from_fn(|| keyboard.send()).collect()
    }

    fn command(keyboard: &mut Ps2Keyboard, bytes: &[u8]) -> Vec<u8> {
        for &byte in bytes {
            keyboard.receive(0, byte);
        }
        sent(keyboard)
    }

    fn stroke(keyboard: &mut Ps2Keyboard, key: Key) -> Vec<u8> {
        keyboard.key(0, key, true);
        keyboard.key(0, key, false);
        sent(keyboard)
    }

    #[test]
    fn reset_acknowledges_and_then_reports_the_self_test() {
        let mut keyboard = Ps2Keyboard::new();
        assert_eq!(command(&mut keyboard, &[0xFF]), [ACK]);
        let at = keyboard.next_event_ns().unwrap();
        keyboard.on_timer(at);
        assert_eq!(sent(&mut keyboard), [BAT_OK]);
        assert_eq!(keyboard.next_event_ns(), None);
    }

    #[test]
    fn echo_identify_and_unknown_commands_answer() {
        let mut keyboard = Ps2Keyboard::new();
        assert_eq!(command(&mut keyboard, &[0xEE]), [0xEE]);
        assert_eq!(command(&mut keyboard, &[0xF2]), [ACK, 0xAB, 0x83]);
        assert_eq!(command(&mut keyboard, &[0x11]), [RESEND]);
        assert_eq!(command(&mut keyboard, &[0xFE]), [0x83]);
    }

    #[test]
    fn leds_take_an_argument_and_a_command_in_its_place_cancels() {
        let mut keyboard = Ps2Keyboard::new();
        assert_eq!(command(&mut keyboard, &[0xED, 0x05]), [ACK, ACK]);
        assert_eq!(keyboard.leds(), 5);
        assert_eq!(command(&mut keyboard, &[0xED, 0xEE]), [ACK, 0xEE]);
        assert_eq!(keyboard.leds(), 5);
    }

    #[test]
    fn the_three_scan_code_sets_differ() {
        let mut keyboard = Ps2Keyboard::new();
        assert_eq!(command(&mut keyboard, &[0xF0, 0x00]), [ACK, ACK, 2]);
        assert_eq!(stroke(&mut keyboard, Key::Escape), [0x76, 0xF0, 0x76]);
        assert_eq!(
            stroke(&mut keyboard, Key::ArrowUp),
            [0xE0, 0x75, 0xE0, 0xF0, 0x75]
        );
        assert_eq!(command(&mut keyboard, &[0xF0, 0x01]), [ACK, ACK]);
        assert_eq!(stroke(&mut keyboard, Key::Escape), [0x01, 0x81]);
        assert_eq!(
            stroke(&mut keyboard, Key::ArrowUp),
            [0xE0, 0x48, 0xE0, 0xC8]
        );
        assert_eq!(command(&mut keyboard, &[0xF0, 0x03]), [ACK, ACK]);
        assert_eq!(stroke(&mut keyboard, Key::A), [0x1C]);
        assert_eq!(stroke(&mut keyboard, Key::ShiftLeft), [0x12, 0xF0, 0x12]);
        assert_eq!(command(&mut keyboard, &[0xFC, 0x1C]), [ACK, ACK]);
        assert_eq!(command(&mut keyboard, &[0xF4]), [ACK]);
        assert_eq!(stroke(&mut keyboard, Key::A), [0x1C, 0xF0, 0x1C]);
        assert_eq!(command(&mut keyboard, &[0xF0, 0x07]), [ACK, RESEND]);
    }

    #[test]
    fn pause_and_print_screen_have_their_own_sequences() {
        let mut keyboard = Ps2Keyboard::new();
        assert_eq!(
            stroke(&mut keyboard, Key::Pause),
            [0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77]
        );
        assert_eq!(
            stroke(&mut keyboard, Key::PrintScreen),
            [0xE0, 0x12, 0xE0, 0x7C, 0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12]
        );
        keyboard.key(0, Key::ControlLeft, true);
        sent(&mut keyboard);
        assert_eq!(
            stroke(&mut keyboard, Key::Pause),
            [0xE0, 0x7E, 0xE0, 0xF0, 0x7E]
        );
        assert_eq!(
            stroke(&mut keyboard, Key::PrintScreen),
            [0xE0, 0x7C, 0xE0, 0xF0, 0x7C]
        );
        keyboard.key(0, Key::ControlLeft, false);
        keyboard.key(0, Key::AltRight, true);
        sent(&mut keyboard);
        assert_eq!(stroke(&mut keyboard, Key::PrintScreen), [0x84, 0xF0, 0x84]);
    }

    #[test]
    fn a_held_key_repeats_after_the_delay_at_the_rate() {
        let mut keyboard = Ps2Keyboard::new();
        command(&mut keyboard, &[0xF3, 0x00]);
        keyboard.key(0, Key::A, true);
        assert_eq!(sent(&mut keyboard), [0x1C]);
        assert_eq!(keyboard.next_event_ns(), Some(250 * MS));
        keyboard.on_timer(250 * MS);
        assert_eq!(sent(&mut keyboard), [0x1C]);
        assert_eq!(keyboard.next_event_ns(), Some(250 * MS + 33_333_333));
        keyboard.key(260 * MS, Key::A, true);
        assert_eq!(sent(&mut keyboard), [], "a host's repeat is no stroke");
        keyboard.key(260 * MS, Key::A, false);
        assert_eq!(sent(&mut keyboard), [0xF0, 0x1C]);
        assert_eq!(keyboard.next_event_ns(), None);
    }

    #[test]
    fn the_default_rate_is_500_ms_and_10_9_a_second() {
        let keyboard = Ps2Keyboard::new();
        assert_eq!(keyboard.repeat_delay_ns(), 500 * MS);
        assert_eq!(keyboard.repeat_period_ns() / MS, 91);
    }

    #[test]
    fn sixteen_bytes_fit_and_then_one_overrun_code_follows() {
        let mut keyboard = Ps2Keyboard::new();
        for key in [Key::A, Key::B, Key::C, Key::D, Key::E, Key::F, Key::G] {
            keyboard.key(0, key, true);
            keyboard.key(0, key, false);
        }
        let bytes = sent(&mut keyboard);
        assert_eq!(bytes.len(), 17);
        assert_eq!(bytes[15..], [0x2B, 0x00]);
        assert_eq!(stroke(&mut keyboard, Key::A), [0x1C, 0xF0, 0x1C]);
    }

    #[test]
    fn disabled_scanning_sends_nothing() {
        let mut keyboard = Ps2Keyboard::new();
        assert_eq!(command(&mut keyboard, &[0xF5]), [ACK]);
        assert_eq!(stroke(&mut keyboard, Key::A), []);
        assert_eq!(command(&mut keyboard, &[0xF4]), [ACK]);
        assert_eq!(stroke(&mut keyboard, Key::A), [0x1C, 0xF0, 0x1C]);
    }
}
