//! What is typed into a guest, and done with its mouse and the buttons of its case: the syntax of `--send`.

mod layout;

use std::collections::VecDeque;

use emulator::Machine;
use platform::{Key, Motion, PhysAddr, Place};
use spec::{Change, DriveName};

use crate::outlet;
pub use layout::{LAYOUTS, Layout};

/// One stroke: a key with what is held down meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// The key.
    pub key: Key,
    /// Shift is held.
    pub shift: bool,
    /// Ctrl is held.
    pub ctrl: bool,
    /// Alt is held.
    pub alt: bool,
    /// AltGr is held, which is the right Alt key.
    pub altgr: bool,
}

impl Stroke {
    /// The key alone.
    pub fn plain(key: Key) -> Self {
        Self {
            key,
            shift: false,
            ctrl: false,
            alt: false,
            altgr: false,
        }
    }

    /// What `other` holds is held, too.
    fn holding(self, other: Self) -> Self {
        Self {
            key: self.key,
            shift: self.shift | other.shift,
            ctrl: self.ctrl | other.ctrl,
            alt: self.alt | other.alt,
            altgr: self.altgr | other.altgr,
        }
    }
}

/// A part of a text to be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A character.
    Char(char),
    /// A key by name, such as `<f1>` or `<ctrl-alt-delete>`.
    Key(Stroke),
    /// The key of a character with what is held, such as `<ctrl-c>`; which key that is the keyboard tells.
    Chord(char, Stroke),
    /// The mouse, a button of the case or a drive, such as `<click left>`, `<power>` or `<eject cdrom>`.
    Act(Act),
}

/// What can be done beside typing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// `<power>`: the power button.
    Power,
    /// `<reset>`: the reset button.
    Reset,
    /// `<mouse DX DY>`: moves the mouse by so many counts to the right and, as on a screen, down; by so many dots where
    /// the guest has a pointer that tells its place.
    Move(i32, i32),
    /// `<mouse-to X Y>`: puts such a pointer on this dot of the screen, from its upper left corner.
    MoveTo(u16, u16),
    /// `<mouse-down BUTTON>`: presses a button of the mouse, a bit of [`Motion::buttons`].
    Press(u8),
    /// `<mouse-up BUTTON>`: lets it go.
    Release(u8),
    /// `<click BUTTON>`: both.
    Click(u8),
    /// `<wheel N>`: turns the wheel by so many notches, down on a screen.
    Wheel(i32),
    /// `<insert DRIVE FILE>` puts a medium into a drive, `<eject DRIVE>` takes it out.
    Change(Change),
}

/// Parses the text of `--send`: `\n` Enter, `\r`, `\t`, `\e` Escape, `\\`, `\xNN`, `<f1>`, `<ctrl-c>`,
/// `<enter>`, `<lt>` for `<`, and what [`Act`] lists. A `<` that starts none of these stands for itself.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let (char, after) = parse_escape(rest)?;
                pieces.push(Piece::Char(char));
                rest = after;
            }
            '<' => match rest
                .split_once('>')
                .filter(|(name, _)| looks_like_name(name) || looks_like_act(name))
            {
                Some((name, after)) => {
                    let lower = name.to_ascii_lowercase();
                    pieces.push(match lower.as_str() {
                        _ if is_change(&lower) => Piece::Act(parse_change(name)?),
                        "lt" => Piece::Char('<'),
                        "gt" => Piece::Char('>'),
                        name => match parse_act(name) {
                            Some(act) => Piece::Act(act?),
                            None => parse_stroke(name)?,
                        },
                    });
                    rest = after;
                }
                None => pieces.push(Piece::Char('<')),
            },
            c => pieces.push(Piece::Char(c)),
        }
    }
    Ok(pieces)
}

fn looks_like_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 24
        && name
            .chars()
            .all(|c| c.is_ascii_graphic() && c != '<' && c != '>')
}

/// A number or a button of the mouse behind the name tells `<mouse 10 -5>` from a text such as `<in >out`; and the name
/// alone will do where it is the right one.
fn looks_like_act(text: &str) -> bool {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default().to_ascii_lowercase();
    let arguments: Vec<_> = words.collect();
    let is_name = |c: char| c.is_ascii_alphabetic() || c == '-';
    let is_number = |word: &&str| word.parse::<i64>().is_ok();
    let known = !arguments.is_empty() && ACTS_WITH_ARGUMENTS.contains(&name.as_str());
    let alike = match arguments[..] {
        [button] => button_by_name(button).is_some(),
        [_, _] => arguments.iter().all(is_number),
        _ => false,
    };
    known || alike && !name.is_empty() && name.chars().all(is_name)
}

const ACTS_WITH_ARGUMENTS: [&str; 8] = [
    "mouse",
    "mouse-to",
    "mouse-down",
    "mouse-up",
    "click",
    "wheel",
    "insert",
    "eject",
];

/// Whether a text in lower case has to do with a drive; `<insert>` alone is a key.
fn is_change(text: &str) -> bool {
    text.starts_with("insert ") || text.starts_with("eject ") || text == "eject"
}

/// Parses `insert cdrom FILE`, whose name may have blanks, and `eject cdrom`.
fn parse_change(text: &str) -> Result<Act, String> {
    let (act, rest) = text.split_once(' ').unwrap_or((text, ""));
    let is_insert = act.eq_ignore_ascii_case("insert");
    let (drive, file) = match rest.split_once(' ') {
        Some((drive, file)) if is_insert => (drive, Some(file.trim())),
        _ => (rest, None),
    };
    let medium = file.filter(|file| !file.is_empty()).map(Into::into);
    match DriveName::parse(&drive.to_ascii_lowercase()) {
        Some(drive) if medium.is_some() == is_insert => Ok(Act::Change(Change { drive, medium })),
        _ => Err(format!(
            "found <{text}>; expected <insert DRIVE FILE> or <eject DRIVE> with cdrom, cdrom2, floppy or floppy2; or \
             <lt> for <"
        )),
    }
}

/// The farthest that the mouse goes at a time: that takes a guest seconds.
const MOST_COUNTS: i32 = 10_000;
/// The most notches of the wheel at a time.
const MOST_NOTCHES: i32 = 100;

/// Parses `mouse 10 -5`, `click left`, `power`; `None` for what has no such name.
fn parse_act(text: &str) -> Option<Result<Act, String>> {
    let mut words = text.split(' ');
    let name = words.next()?;
    let arguments: Vec<_> = words.collect();
    let number = |word: &str, most: i32| -> Option<i32> {
        word.parse().ok().filter(|n: &i32| n.abs() <= most)
    };
    let button = |act: fn(u8) -> Act| match arguments[..] {
        [name] => button_by_name(name).map(act),
        _ => None,
    };
    let act = match (name, &arguments[..]) {
        ("power", []) => Some(Act::Power),
        ("reset", []) => Some(Act::Reset),
        ("mouse", &[dx, dy]) => {
            let (dx, dy) = (number(dx, MOST_COUNTS), number(dy, MOST_COUNTS));
            dx.zip(dy).map(|(dx, dy)| Act::Move(dx, dy))
        }
        ("mouse-to", &[x, y]) => {
            let dot = |word: &str| word.parse().ok();
            dot(x).zip(dot(y)).map(|(x, y)| Act::MoveTo(x, y))
        }
        ("wheel", &[notches]) => number(notches, MOST_NOTCHES).map(Act::Wheel),
        ("mouse-down", _) => button(Act::Press),
        ("mouse-up", _) => button(Act::Release),
        ("click", _) => button(Act::Click),
        ("mouse" | "mouse-to" | "wheel", _) => None,
        (_, []) => return None,
        _ => {
            return Some(Err(format!(
                "unknown <{text}>; expected <mouse DX DY>, <mouse-to X Y>, <mouse-down BUTTON>, <mouse-up BUTTON>, <click BUTTON>, \
                 <wheel N>, <insert DRIVE FILE> or <eject DRIVE>, or <lt> for <"
            )));
        }
    };
    let expected = match name {
        "mouse" => {
            "<mouse DX DY>, whole numbers of at most 10000, such as <mouse 10 -5> (right and up)"
        }
        "mouse-to" => "<mouse-to X Y>, a dot of the screen, such as <mouse-to 100 50>",
        "wheel" => "<wheel N>, a whole number of at most 100, such as <wheel -1> (up)",
        "mouse-down" => "<mouse-down BUTTON> with left, right or middle",
        "mouse-up" => "<mouse-up BUTTON> with left, right or middle",
        _ => "<click BUTTON> with left, right or middle",
    };
    Some(act.ok_or_else(|| format!("found <{text}>; expected {expected}; or <lt> for <")))
}

/// The bit of [`Motion::buttons`] of a button.
fn button_by_name(name: &str) -> Option<u8> {
    Some(match name.to_ascii_lowercase().as_str() {
        "left" => 1,
        "right" => 2,
        "middle" => 4,
        _ => return None,
    })
}

fn parse_escape(rest: &str) -> Result<(char, &str), String> {
    let c = rest
        .chars()
        .next()
        .ok_or("a \\ at the end; expected \\n, \\e or \\\\")?;
    let after = &rest[c.len_utf8()..];
    let char = match c {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'e' => '\x1B',
        'b' => '\x08',
        '0' => '\0',
        '\\' => '\\',
        'x' => {
            let code = after
                .get(..2)
                .and_then(|hex| u8::from_str_radix(hex, 16).ok());
            let code = code.ok_or("\\x without two hexadecimal digits, such as \\x03")?;
            return Ok((code.into(), &after[2..]));
        }
        other => {
            return Err(format!(
                "unknown \\{other}; expected one of \\n \\r \\t \\e \\b \\0 \\xNN \\\\"
            ));
        }
    };
    Ok((char, after))
}

/// Parses `ctrl-alt-delete`, `shift-f1`, `enter`, `a`.
fn parse_stroke(name: &str) -> Result<Piece, String> {
    let mut stroke = Stroke::plain(Key::Escape);
    let mut rest = name;
    while let Some((modifier, after)) = rest.split_once('-').filter(|(_, after)| !after.is_empty())
    {
        match modifier {
            "ctrl" | "control" | "c" => stroke.ctrl = true,
            "alt" | "a" | "m" => stroke.alt = true,
            "shift" | "s" => stroke.shift = true,
            "altgr" => stroke.altgr = true,
            _ => break,
        }
        rest = after;
    }
    let mut chars = rest.chars();
    if let (Some(c), None) = (chars.next(), chars.next()) {
        return Ok(Piece::Chord(c, stroke));
    }
    stroke.key = key_by_name(rest).ok_or_else(|| {
        format!(
            "unknown key <{name}>; expected one such as <enter>, <f1>, <ctrl-c>, <power>, <reset>, <mouse 10 -5>, \
             <click left>, or <lt> for <"
        )
    })?;
    Ok(Piece::Key(stroke))
}

fn key_by_name(name: &str) -> Option<Key> {
    Some(match name {
        "enter" | "return" | "ret" | "cr" => Key::Enter,
        "esc" | "escape" => Key::Escape,
        "tab" => Key::Tab,
        "space" | "spc" => Key::Space,
        "backspace" | "bs" => Key::Backspace,
        "insert" | "ins" => Key::Insert,
        "delete" | "del" => Key::Delete,
        "home" => Key::Home,
        "end" => Key::End,
        "pageup" | "pgup" => Key::PageUp,
        "pagedown" | "pgdn" => Key::PageDown,
        "up" => Key::ArrowUp,
        "down" => Key::ArrowDown,
        "left" => Key::ArrowLeft,
        "right" => Key::ArrowRight,
        "f1" => Key::F1,
        "f2" => Key::F2,
        "f3" => Key::F3,
        "f4" => Key::F4,
        "f5" => Key::F5,
        "f6" => Key::F6,
        "f7" => Key::F7,
        "f8" => Key::F8,
        "f9" => Key::F9,
        "f10" => Key::F10,
        "f11" => Key::F11,
        "f12" => Key::F12,
        "capslock" => Key::CapsLock,
        "numlock" => Key::NumLock,
        "scrolllock" => Key::ScrollLock,
        "pause" => Key::Pause,
        "printscreen" | "print" => Key::PrintScreen,
        "menu" => Key::ContextMenu,
        "win" | "meta" | "super" => Key::MetaLeft,
        "ctrl" | "control" => Key::ControlLeft,
        "alt" => Key::AltLeft,
        "altgr" => Key::AltRight,
        "shift" => Key::ShiftLeft,
        _ => return None,
    })
}

/// What a terminal sends for a piece: serial lines carry bytes, not keys.
pub fn serial_bytes(piece: &Piece) -> Vec<u8> {
    match piece {
        // A terminal's Enter key sends CR; a guest's line discipline makes it a newline.
        Piece::Char('\n') => vec![b'\r'],
        // `\xNN` stands for that byte, not for its UTF-8 form.
        Piece::Char(c) if (*c as u32) < 0x100 => vec![*c as u8],
        Piece::Char(c) => c.to_string().into_bytes(),
        Piece::Key(stroke) => stroke_bytes(*stroke),
        Piece::Chord(c, held) => {
            let mut bytes = serial_bytes(&Piece::Char(match (held.ctrl, held.shift) {
                (true, _) if c.is_ascii() => (*c as u8 & 0x1F).into(),
                (_, true) => c.to_ascii_uppercase(),
                _ => *c,
            }));
            if held.alt {
                bytes.insert(0, 0x1B);
            }
            bytes
        }
        Piece::Act(_) => Vec::new(),
    }
}

fn stroke_bytes(stroke: Stroke) -> Vec<u8> {
    let sequence: &[u8] = match stroke.key {
        Key::Enter => b"\r",
        Key::Tab => b"\t",
        Key::Escape => b"\x1B",
        Key::Backspace => b"\x7F",
        Key::Space if stroke.ctrl => b"\0",
        Key::Space => b" ",
        Key::ArrowUp => b"\x1B[A",
        Key::ArrowDown => b"\x1B[B",
        Key::ArrowRight => b"\x1B[C",
        Key::ArrowLeft => b"\x1B[D",
        Key::Home => b"\x1B[H",
        Key::End => b"\x1B[F",
        Key::Insert => b"\x1B[2~",
        Key::Delete => b"\x1B[3~",
        Key::PageUp => b"\x1B[5~",
        Key::PageDown => b"\x1B[6~",
        Key::F1 => b"\x1BOP",
        Key::F2 => b"\x1BOQ",
        Key::F3 => b"\x1BOR",
        Key::F4 => b"\x1BOS",
        Key::F5 => b"\x1B[15~",
        Key::F6 => b"\x1B[17~",
        Key::F7 => b"\x1B[18~",
        Key::F8 => b"\x1B[19~",
        Key::F9 => b"\x1B[20~",
        Key::F10 => b"\x1B[21~",
        Key::F11 => b"\x1B[23~",
        Key::F12 => b"\x1B[24~",
        _ => b"",
    };
    sequence.to_vec()
}

/// How long a key that was asked for by name is held, and how long it is between two: a guest may
/// ask every now and then which keys are down. The keys of a text are nothing to ask for; they go
/// as fast as the guest takes them.
const HOLD_NS: u64 = 8_000_000;
/// Virtual time between two bytes on a serial line: that of 19200 baud, which any driver keeps up with.
const BYTE_STEP_NS: u64 = 520_000;

/// How long a button that was clicked stays down, and up: a guest may ask for the buttons only now
/// and then, and a double click takes half a second at most.
const CLICK_NS: u64 = 40_000_000;
/// What a packet of the mouse holds on each axis, doubled by its scaling as well.
const PACKET_COUNTS: u32 = 127;
/// A guest that leaves the mouse's packets alone for so long gets what comes next all the same, added to them.
const UNMOVED_NS: u64 = 1_000_000_000;

/// What waits to be typed and done, and is handed to the machine as fast as the guest takes it, at
/// slice borders. Keys and bytes have a queue each: a guest that leaves one alone still gets the
/// other.
#[derive(Debug)]
pub struct Typist {
    layout: &'static Layout,
    keys: Queue,
    serial: Queue,
    host: Host,
    /// The buttons of the mouse that are down once all is done.
    buttons: u8,
}

/// What is known of the guest's side of the keyboard and of the pointer.
#[derive(Debug, Default)]
struct Host {
    bios: BiosBuffer,
    /// The dot of the screen that the pointer was put on last.
    at: Option<(usize, usize)>,
}

impl Host {
    /// Moves the mouse, or the pointer in its place.
    fn move_by(&mut self, machine: &mut Machine, motion: Motion) {
        if !machine.has_pointer() {
            return machine.input_mouse(motion);
        }
        let (width, height) = machine.screen_size();
        // Where nobody knows better, it is in the middle.
        let (x, y) = self.at.unwrap_or((width / 2, height / 2));
        let moved = |from: usize, by: i32| from.saturating_add_signed(by as isize);
        let to = (moved(x, motion.dx), moved(y, -motion.dy));
        self.place(machine, to, (width, height), motion);
    }

    /// Puts the pointer on a dot, with the wheel and the buttons of `motion`.
    fn place(
        &mut self,
        machine: &mut Machine,
        (x, y): (usize, usize),
        (width, height): (usize, usize),
        motion: Motion,
    ) {
        let (x, y) = (x.min(width.max(1) - 1), y.min(height.max(1) - 1));
        self.at = Some((x, y));
        machine.input_place(Place {
            x: share_of(x, width),
            y: share_of(y, height),
            dz: motion.dz,
            buttons: motion.buttons,
        });
    }
}

/// Where a dot is of so many in a row, from 0 to 65535.
pub fn share_of(dot: usize, dots: usize) -> u16 {
    let last = dots.saturating_sub(1).max(1);
    ((dot * 0xFFFF + last / 2) / last).min(0xFFFF) as u16
}

/// Steps that are taken one after the other.
#[derive(Debug, Default)]
struct Queue {
    steps: VecDeque<Step>,
    next_ns: u64,
}

/// Something that is handed over in one piece, and the virtual time before the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    what: What,
    then_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A key goes down or up.
    Key {
        key: Key,
        pressed: bool,
        /// A stroke begins. Once it has, it ends whether or not the guest takes it: a key that stays down repeats.
        first: bool,
    },
    /// A byte for a serial port.
    Byte { port: u8, byte: u8 },
    /// A packet of the mouse.
    Motion(Motion),
    /// A dot of the screen, with the buttons that are down.
    Place { x: u16, y: u16, buttons: u8 },
    /// The power button.
    Power,
    /// The reset button.
    Reset,
    /// A medium goes in or out.
    Change(Change),
}

impl Typist {
    /// Who types on a keyboard of this kind, as the guest takes it for.
    pub fn new(layout: &'static Layout) -> Self {
        Self {
            layout,
            keys: Queue::default(),
            serial: Queue::default(),
            host: Host::default(),
            buttons: 0,
        }
    }

    /// Types on the keyboard. Characters that it lacks are left out, which is said.
    pub fn type_keys(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            match piece {
                Piece::Char(c) => {
                    let strokes = self.strokes(*c);
                    strokes.into_iter().for_each(|stroke| self.push(stroke, 0));
                }
                Piece::Key(stroke) => self.stroke(*stroke),
                Piece::Chord(c, held) => {
                    for stroke in self.strokes(*c) {
                        self.stroke(stroke.holding(*held));
                    }
                }
                Piece::Act(act) => {
                    let steps = self.steps_of(act);
                    self.keys.steps.extend(steps);
                }
            }
        }
    }

    fn strokes(&self, c: char) -> Vec<Stroke> {
        let strokes = self.layout.strokes(c);
        if strokes.is_empty() {
            outlet::say(&format!(
                "glassbox: {c:?} is not typed: expected a character of the keyboard `{}`, which has no key for it; see \
                 --keyboard",
                self.layout.name()
            ));
        }
        strokes
    }

    /// Presses and releases a key with its modifiers.
    fn stroke(&mut self, stroke: Stroke) {
        self.push(stroke, HOLD_NS);
    }

    fn push(&mut self, stroke: Stroke, then_ns: u64) {
        let modifiers = [
            (stroke.ctrl, Key::ControlLeft),
            (stroke.alt, Key::AltLeft),
            (stroke.altgr, Key::AltRight),
            (stroke.shift, Key::ShiftLeft),
        ];
        let held = || modifiers.iter().filter(|(held, _)| *held);
        let down = held().map(|&(_, key)| (key, true));
        let up = held().rev().map(|&(_, key)| (key, false));
        let changes = down.chain([(stroke.key, true), (stroke.key, false)]);
        let mut first = true;
        for (key, pressed) in changes.chain(up) {
            let first = std::mem::take(&mut first);
            let what = What::Key {
                key,
                pressed,
                first,
            };
            self.keys.steps.push_back(Step { what, then_ns });
        }
    }

    /// Sends to a serial port.
    pub fn type_serial(&mut self, port: u8, pieces: &[Piece]) {
        for piece in pieces {
            if let Piece::Act(act) = piece {
                let steps = self.steps_of(act);
                self.serial.steps.extend(steps);
            }
            let bytes = serial_bytes(piece).into_iter();
            self.serial.steps.extend(bytes.map(|byte| Step {
                what: What::Byte { port, byte },
                then_ns: BYTE_STEP_NS,
            }));
        }
    }

    /// The steps of what is done with the mouse or the case.
    fn steps_of(&mut self, act: &Act) -> Vec<Step> {
        let step = |what, then_ns| Step { what, then_ns };
        match *act {
            Act::Change(ref change) => vec![step(What::Change(change.clone()), HOLD_NS)],
            Act::Power => vec![step(What::Power, HOLD_NS)],
            Act::Reset => vec![step(What::Reset, HOLD_NS)],
            Act::Press(button) => {
                self.buttons |= button;
                vec![step(self.motion(Motion::default()), CLICK_NS)]
            }
            Act::Release(button) => {
                self.buttons &= !button;
                vec![step(self.motion(Motion::default()), CLICK_NS)]
            }
            Act::Click(button) => {
                let mut steps = self.steps_of(&Act::Press(button));
                steps.extend(self.steps_of(&Act::Release(button)));
                steps
            }
            Act::Move(right, down) => {
                let motions = packets(right, down).map(|(right, down)| Motion {
                    dx: right,
                    dy: -down,
                    ..Motion::default()
                });
                motions.map(|motion| step(self.motion(motion), 0)).collect()
            }
            Act::MoveTo(x, y) => {
                let buttons = self.buttons;
                vec![step(What::Place { x, y, buttons }, 0)]
            }
            Act::Wheel(notches) => {
                // A notch a packet, as a hand turns it: some drivers look at the direction only.
                let motion = Motion {
                    dz: notches.signum(),
                    ..Motion::default()
                };
                let one = step(self.motion(motion), 0);
                vec![one; notches.unsigned_abs() as usize]
            }
        }
    }

    fn motion(&self, motion: Motion) -> What {
        What::Motion(Motion {
            buttons: self.buttons,
            ..motion
        })
    }

    /// Whether everything was handed over.
    pub fn is_idle(&self) -> bool {
        self.keys.steps.is_empty() && self.serial.steps.is_empty()
    }

    /// Whether nothing can be handed over before the guest has taken what it has, however much time passes.
    pub fn waits_for_guest(&self, machine: &Machine) -> bool {
        let buffered = || Bios::of(machine).is_full() && !self.host.bios.is_unused;
        let comes = |queue: &Queue| {
            queue.steps.front().is_some_and(|step| match step.what {
                What::Key { first, .. } => !first || machine.takes_keys() && !buffered(),
                What::Byte { port, .. } => machine.takes_serial(port),
                What::Motion(_) | What::Place { .. } => true,
                What::Power | What::Reset | What::Change(_) => true,
            })
        };
        !comes(&self.keys) && !comes(&self.serial)
    }

    /// Hands over what is due, but for changes of media, which it returns.
    pub fn pump(&mut self, machine: &mut Machine) -> Vec<Change> {
        let mut changes = self.keys.pump(&mut self.host, machine);
        changes.extend(self.serial.pump(&mut self.host, machine));
        changes
    }
}

impl Queue {
    fn pump(&mut self, host: &mut Host, machine: &mut Machine) -> Vec<Change> {
        let mut changes = Vec::new();
        let now_ns = machine.now_ns();
        while now_ns >= self.next_ns
            && let Some(step) = self.steps.front()
            && self.is_taken(&step.what, &mut host.bios, machine)
            && let Some(step) = self.steps.pop_front()
        {
            match step.what {
                What::Key { key, pressed, .. } => machine.input_key(key, pressed),
                What::Byte { port, byte } => machine.input_serial(port, vec![byte]),
                What::Motion(motion) => host.move_by(machine, motion),
                What::Place { x, y, buttons } if machine.has_pointer() => {
                    let motion = Motion {
                        buttons,
                        ..Motion::default()
                    };
                    let size = machine.screen_size();
                    host.place(machine, (x.into(), y.into()), size, motion);
                }
                What::Place { x, y, .. } => outlet::say(&format!(
                    "glassbox: <mouse-to {x} {y}> is left out: expected a guest that has switched on a pointer that \
                     tells its place, found none; use <mouse DX DY>, or see --input"
                )),
                What::Power => machine.press_power(),
                What::Reset => machine.press_reset(),
                What::Change(change) => changes.push(change),
            }
            self.next_ns = now_ns + step.then_ns;
        }
        changes
    }

    /// Whether a step gets through to the guest.
    fn is_taken(&self, what: &What, bios: &mut BiosBuffer, machine: &Machine) -> bool {
        match *what {
            What::Key { first, .. } => {
                !first
                    || machine.takes_keys() && bios.has_room(&Bios::of(machine), machine.now_ns())
            }
            What::Byte { port, .. } => machine.takes_serial(port),
            What::Place { .. } if !machine.has_pointer() => {
                machine.now_ns() >= self.next_ns + UNMOVED_NS
            }
            What::Motion(_) | What::Place { .. } => {
                machine.takes_motion() || machine.now_ns() >= self.next_ns + UNMOVED_NS
            }
            What::Power | What::Reset | What::Change(_) => true,
        }
    }
}

/// Splits a movement into equal ones that fit into a packet each, along a straight line.
fn packets(right: i32, down: i32) -> impl Iterator<Item = (i32, i32)> {
    let most = right.unsigned_abs().max(down.unsigned_abs());
    let count = most.div_ceil(PACKET_COUNTS) as i32;
    let part = move |all: i32, n: i32| all * (n + 1) / count - all * n / count;
    (0..count).map(move |n| (part(right, n), part(down, n)))
}

/// The BIOS's keyboard buffer as it is now.
///
/// IBM PC technical reference, BIOS data area: 40:1Ah and 40:1Ch are where the next key is read and written, 40:80h and
/// 40:82h are the buffer's start and end. A key is a word, and one of them stays free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bios {
    head: u16,
    tail: u16,
    start: u16,
    end: u16,
    /// A system of its own runs, which may or may not call the BIOS.
    protected: bool,
}

const CR0_PE: u64 = 1;
const RFLAGS_VM: u64 = 1 << 17;

impl Bios {
    fn of(machine: &Machine) -> Self {
        let word = |addr| u16::from_le_bytes(machine.bus().memory.read_array(PhysAddr(addr)));
        let protected = machine
            .cpus()
            .first()
            .is_some_and(|vcpu| vcpu.cpu.cr0 & CR0_PE != 0 && vcpu.cpu.rflags & RFLAGS_VM == 0);
        // The first PCs have no words for start and end.
        let (start, end) = match (word(0x480), word(0x482)) {
            (0, _) => (0x1E, 0x3E),
            bounds => bounds,
        };
        Self {
            head: word(0x41A),
            tail: word(0x41C),
            start,
            end,
            protected,
        }
    }

    /// Whether a key more could get lost; no, where there is no such buffer.
    fn is_full(&self) -> bool {
        let Self {
            head,
            tail,
            start,
            end,
            ..
        } = *self;
        let within = |at: u16| (start..end).contains(&at) && (at - start).is_multiple_of(2);
        if end < start || !(end - start).is_multiple_of(2) || !within(head) || !within(tail) {
            return false;
        }
        let size = (end - start) / 2;
        let used = (tail + (end - start) - head) % (end - start) / 2;
        // One more may be on its way: taken from the controller, and not yet in the buffer.
        used + 2 >= size
    }
}

/// Knows when the BIOS's keyboard buffer, which drops what comes when it is full, has room for a key.
#[derive(Debug, Default)]
struct BiosBuffer {
    seen: Bios,
    /// Since when it is as it was seen.
    since_ns: u64,
    /// Somebody has read a key from it.
    has_reader: bool,
    /// Full for long without a reader: it is not what this guest reads keys from.
    is_unused: bool,
}

/// A full buffer that no key was ever read from is unused after so long. With a reader it is waited for, always.
const UNREAD_NS: u64 = 30_000_000_000;
/// The same for one below a system that runs in protected mode, and need not have a BIOS any more.
const PROTECTED_UNREAD_NS: u64 = 5_000_000_000;

impl BiosBuffer {
    fn has_room(&mut self, now: &Bios, now_ns: u64) -> bool {
        if *now != self.seen {
            let read = now.head != self.seen.head && self.seen != Bios::default();
            self.has_reader |= read || now.head != now.start;
            self.is_unused &= !read;
            self.seen = *now;
            self.since_ns = now_ns;
        }
        if !now.is_full() || self.is_unused {
            return true;
        }
        let unchanged_ns = now_ns - self.since_ns;
        self.is_unused = match (now.protected, self.has_reader) {
            (true, _) => unchanged_ns >= PROTECTED_UNREAD_NS,
            (false, true) => false,
            (false, false) => unchanged_ns >= UNREAD_NS,
        };
        self.is_unused
    }
}

#[cfg(test)]
mod tests;
