//! Keyboard and tablet (virtio §5.8): events as Linux has them, a queue of them, and one for what the driver says, of
//! which nothing is shown. A configuration tells what they can.
//!
//! The numbers of events and keys are those of Linux (include/uapi/linux/input-event-codes.h), to which virtio refers.

use std::collections::VecDeque;

use platform::{Input, Key, Place, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

use super::pci::{Job, Kind, Served, VirtioDevice, VirtioPci};
use super::queue::Broken;
use crate::input::keymap::{self, Set2};
use crate::pci::PciDevice;

const EVENTS: usize = 0;

/// Configuration (virtio §5.8.4): what is selected, and where the answer lies.
const SELECT: u64 = 0;
const SUBSELECT: u64 = 1;
const ANSWER: usize = 8;
const ANSWER_BYTES: usize = 128;
const ID_NAME: u8 = 0x01;
const ID_SERIAL: u8 = 0x02;
const ID_DEVIDS: u8 = 0x03;
const EV_BITS: u8 = 0x11;
const ABS_INFO: u8 = 0x12;

/// Kinds of events.
const EV_SYN: u16 = 0x00;
const EV_KEY: u16 = 0x01;
const EV_REL: u16 = 0x02;
const EV_ABS: u16 = 0x03;
const EV_LED: u16 = 0x11;
const EV_REP: u16 = 0x14;
const REL_WHEEL: u16 = 0x08;
const ABS_X: u16 = 0x00;
const ABS_Y: u16 = 0x01;
/// The left button; the right one and the middle one follow.
const BTN_LEFT: u16 = 0x110;
/// The largest position.
const MOST: u32 = 0xFFFF;

/// Bytes of an event, and how many wait at most: beyond the first number only keys that go up.
const EVENT_BYTES: u32 = 8;
const MOST_WAITING: usize = 256;
const MOST_RELEASES: usize = 512;

/// Which one a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Keyboard,
    Tablet,
}

/// Kind, code and value.
type Event = (u16, u16, u32);

/// What is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    select: u8,
    subselect: u8,
    /// What the driver was told last.
    place: (u16, u16, u8),
    waiting: VecDeque<Event>,
}

/// The device.
pub struct VirtioInput {
    what: What,
    state: State,
}

/// Linux's number of a key.
fn code_of(key: Key) -> u16 {
    match keymap::codes(key).0 {
        // They are those of scan code set 1, ...
        Set2::Plain(code) => keymap::translate(code).into(),
        Set2::PrintScreen => 99,
        Set2::Pause => 119,
        // ... but for the keys that the first PCs had not.
        Set2::Extended(code) => match code {
            0x5A => 96,
            0x14 => 97,
            0x4A => 98,
            0x11 => 100,
            0x6C => 102,
            0x75 => 103,
            0x7D => 104,
            0x6B => 105,
            0x74 => 106,
            0x69 => 107,
            0x72 => 108,
            0x7A => 109,
            0x70 => 110,
            0x71 => 111,
            0x1F => 125,
            0x27 => 126,
            _ => 127,
        },
    }
}

impl VirtioInput {
    const VERSION: u32 = 1;

    const KEYBOARD: Kind = Kind {
        id: 18,
        transitional: None,
        class: 0x09_00_00,
        queues: &[64, 64],
    };
    const TABLET: Kind = Kind {
        class: 0x09_80_00,
        ..Self::KEYBOARD
    };

    /// The PCI device of a keyboard.
    pub fn keyboard() -> PciDevice<VirtioPci<Self>> {
        VirtioPci::device(Self::KEYBOARD, Self::new(What::Keyboard))
    }

    /// The PCI device of a tablet: a pointer that tells where it is, with three buttons and a wheel.
    pub fn tablet() -> PciDevice<VirtioPci<Self>> {
        VirtioPci::device(Self::TABLET, Self::new(What::Tablet))
    }

    fn new(what: What) -> Self {
        let state = State::default();
        Self { what, state }
    }

    /// The numbers of events of one kind that there are.
    fn codes(&self, kind: u16) -> Vec<u16> {
        match (self.what, kind) {
            // All that `code_of` gives.
            (What::Keyboard, EV_KEY) => [1..84, 86..89, 96..101, 102..112, 119..120, 125..128]
                .into_iter()
                .flatten()
                .collect(),
            // It repeats by the guest's own means, and has three lights.
            (What::Keyboard, EV_REP) => vec![0, 1],
            (What::Keyboard, EV_LED) => vec![0, 1, 2],
            (What::Tablet, EV_KEY) => (BTN_LEFT..BTN_LEFT + 3).collect(),
            (What::Tablet, EV_REL) => vec![REL_WHEEL],
            (What::Tablet, EV_ABS) => vec![ABS_X, ABS_Y],
            _ => Vec::new(),
        }
    }

    /// What the configuration says of what is selected.
    fn answer(&self) -> Vec<u8> {
        let is_tablet = self.what == What::Tablet;
        let name = if is_tablet {
            "Glassbox tablet"
        } else {
            "Glassbox keyboard"
        };
        match (self.state.select, self.state.subselect) {
            (ID_NAME, 0) => name.into(),
            (ID_SERIAL, 0) => b"0".to_vec(),
            // On the bus "virtual", with the numbers that such devices have at QEMU.
            (ID_DEVIDS, 0) => [0x06, 0x0627, if is_tablet { 3 } else { 1 }, 1u16]
                .into_iter()
                .flat_map(u16::to_le_bytes)
                .collect(),
            (EV_BITS, kind) => {
                let mut bits = Vec::new();
                for code in self.codes(kind.into()) {
                    let at = usize::from(code / 8);
                    bits.resize(bits.len().max(at + 1), 0);
                    bits[at] |= 1u8 << (code % 8);
                }
                bits
            }
            // Smallest and largest value, noise, a flat middle and the resolution.
            (ABS_INFO, axis) if is_tablet && u16::from(axis) <= ABS_Y => [0, MOST, 0, 0, 0]
                .into_iter()
                .flat_map(u32::to_le_bytes)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Events that belong together; the last one says so.
    fn tell(&mut self, events: &[Event], most: usize) -> bool {
        let fits = self.state.waiting.len() + events.len() < most;
        if fits && !events.is_empty() {
            self.state.waiting.extend(events);
            self.state.waiting.push_back((EV_SYN, 0, 0));
        }
        fits
    }

    fn point(&mut self, place: Place) {
        let (x, y, buttons) = self.state.place;
        let mut events = Vec::new();
        if place.x != x {
            events.push((EV_ABS, ABS_X, place.x.into()));
        }
        if place.y != y {
            events.push((EV_ABS, ABS_Y, place.y.into()));
        }
        for bit in 0..3 {
            let [before, now] = [buttons, place.buttons].map(|buttons| buttons >> bit & 1);
            if before != now {
                events.push((EV_KEY, BTN_LEFT + bit, now.into()));
            }
        }
        if place.dz != 0 {
            events.push((EV_REL, REL_WHEEL, place.dz.wrapping_neg() as u32));
        }
        // What is left out is told with the next place.
        if self.tell(&events, MOST_WAITING) {
            self.state.place = (place.x, place.y, place.buttons);
        }
    }
}

impl VirtioDevice for VirtioInput {
    fn name(&self) -> &'static str {
        match self.what {
            What::Keyboard => "virtio-keyboard",
            What::Tablet => "virtio-tablet",
        }
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self, _: u64) -> Vec<u8> {
        let answer = self.answer();
        let mut bytes = vec![0; ANSWER + ANSWER_BYTES];
        bytes[..3].copy_from_slice(&[self.state.select, self.state.subselect, answer.len() as u8]);
        bytes[ANSWER..ANSWER + answer.len()].copy_from_slice(&answer);
        bytes
    }

    fn write_config(&mut self, offset: u64, value: u8) {
        match offset {
            SELECT => self.state.select = value,
            SUBSELECT => self.state.subselect = value,
            _ => {}
        }
    }

    fn on_input(&mut self, _: u64, input: &Input) {
        match *input {
            Input::Key { key, pressed } if self.what == What::Keyboard => {
                let most = if pressed { MOST_WAITING } else { MOST_RELEASES };
                self.tell(&[(EV_KEY, code_of(key), pressed.into())], most);
            }
            Input::Pointer(place) if self.what == What::Tablet => self.point(place),
            _ => {}
        }
    }

    fn takes_input(&self, _: &Input) -> bool {
        self.state.waiting.is_empty()
    }

    fn listens(&self, input: &Input) -> bool {
        match self.what {
            What::Keyboard => matches!(input, Input::Key { .. }),
            What::Tablet => matches!(input, Input::Pointer(_)),
        }
    }

    fn wants(&self, queue: usize) -> bool {
        queue != EVENTS || !self.state.waiting.is_empty()
    }

    fn serve(&mut self, job: Job<'_, '_, '_>) -> Result<Served, Broken> {
        if job.queue != EVENTS {
            return Ok(Served::Done(0));
        }
        if job.chain.writable_len() < EVENT_BYTES.into() {
            return Err(Broken("a buffer without room for an event"));
        }
        let Some((kind, code, value)) = self.state.waiting.pop_front() else {
            return Ok(Served::Unused);
        };
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(code.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        job.chain.write(job.ctx, 0, &bytes);
        Ok(Served::Done(EVENT_BYTES))
    }

    fn reset(&mut self) {
        self.state = State::default();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let saved: State = state.decode(Self::VERSION)?;
        if saved.waiting.len() > MOST_RELEASES + 1 {
            return Err(StateError::Unsound("more events than wait"));
        }
        self.state = saved;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use platform::testkit::advance;

    use super::super::testkit::*;
    use super::*;

    platform::device_contract!(
        keyboard_contract,
        VirtioInput::keyboard(),
        [
            (platform::CONFIGURATION, 256, 4),
            (1, 4096, 8),
            (4, 0x4000, 8)
        ]
    );
    platform::device_contract!(
        tablet_contract,
        VirtioInput::tablet(),
        [
            (platform::CONFIGURATION, 256, 4),
            (1, 4096, 8),
            (4, 0x4000, 8)
        ]
    );

    /// What the configuration says of `select` and `subselect`.
    fn asked(board: &mut Board, select: u8, subselect: u8) -> Vec<u8> {
        board.write(0x2000, 1, select.into());
        board.write(0x2001, 1, subselect.into());
        let len = board.read(0x2002, 1);
        (0..len).map(|n| board.read(0x2008 + n, 1) as u8).collect()
    }

    /// Offers a buffer for an event each, and tells which events are in those that came back.
    fn events(board: &mut Board, offered: u16) -> Vec<Event> {
        let first = board.used();
        for number in 0..offered {
            let at = DATA + 8 * u64::from(number);
            board.descriptor(number.into(), at, 8, WRITE, 0);
            board.offer(number);
        }
        board.serve();
        let word = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
        (first..board.used())
            .map(|nth| {
                let used = board.bytes(USED + 4 + 8 * u64::from(nth % 64), 8);
                assert_eq!(used[4..], [8, 0, 0, 0]);
                let bytes = board.bytes(DATA + 8 * u64::from(used[0]), 8);
                let value = u32::from_le_bytes(bytes[4..].try_into().unwrap());
                (word(&bytes), word(&bytes[2..]), value)
            })
            .collect()
    }

    fn comes(board: &mut Board, input: Input) {
        board.bus.input(board.device, &input);
        advance(&mut board.bus, 1_000_000);
    }

    fn key(key: Key, pressed: bool) -> Input {
        Input::Key { key, pressed }
    }

    #[test]
    fn drivers_of_version_1_alone_find_them_and_what_they_can() {
        let mut board = Board::new(VirtioInput::keyboard());
        assert_eq!(board.config_read(0x00), 0x1052_1AF4);
        assert_eq!(board.config_read(0x08), 0x0900_0001);
        assert_eq!(board.config_read(0x10), 0, "no legacy ports");
        assert_eq!(asked(&mut board, ID_NAME, 0), b"Glassbox keyboard");
        let keys = asked(&mut board, EV_BITS, EV_KEY as u8);
        let has = |code: u16| keys[usize::from(code / 8)] >> (code % 8) & 1 != 0;
        // KEY_ESC, KEY_A, KEY_F12, KEY_UP, KEY_PAUSE, KEY_COMPOSE.
        assert!([1, 30, 88, 103, 119, 127].into_iter().all(has));
        assert!(![0, 84, 120].into_iter().any(has));
        assert_eq!(asked(&mut board, EV_BITS, EV_ABS as u8), []);
        assert_eq!(asked(&mut board, 0x77, 0), []);
        let mut board = Board::new(VirtioInput::tablet());
        assert_eq!(board.config_read(0x08), 0x0980_0001);
        assert_eq!(asked(&mut board, EV_BITS, EV_ABS as u8), [3]);
        assert_eq!(asked(&mut board, EV_BITS, EV_REL as u8), [0, 1]);
        assert_eq!(asked(&mut board, EV_BITS, EV_KEY as u8)[0x22], 7);
        assert_eq!(
            asked(&mut board, ABS_INFO, 1)[..8],
            [0, 0, 0, 0, 0xFF, 0xFF, 0, 0]
        );
    }

    #[test]
    fn keys_come_as_events_once_a_driver_is_there() {
        let mut board = Board::new(VirtioInput::keyboard());
        let input = key(Key::A, true);
        assert!(!board.bus.listens(board.device, &input));
        comes(&mut board, input.clone());
        board.start(0);
        assert!(board.bus.listens(board.device, &input));
        comes(&mut board, key(Key::ArrowUp, true));
        comes(&mut board, key(Key::ArrowUp, false));
        assert!(!board.bus.takes_input(board.device, &input));
        assert_eq!(
            events(&mut board, 8),
            [(1, 103, 1), (0, 0, 0), (1, 103, 0), (0, 0, 0)]
        );
        assert!(board.bus.takes_input(board.device, &input));
    }

    #[test]
    fn the_tablet_tells_what_has_changed() {
        let mut board = Board::new(VirtioInput::tablet());
        board.start(0);
        for (x, y, dz, buttons) in [(5, 0, 0, 0), (5, 0xFFFF, 1, 0b110), (5, 0xFFFF, 0, 0)] {
            comes(&mut board, Input::Pointer(Place { x, y, dz, buttons }));
        }
        assert_eq!(
            events(&mut board, 16),
            [
                (EV_ABS, ABS_X, 5),
                (EV_SYN, 0, 0),
                (EV_ABS, ABS_Y, 0xFFFF),
                (EV_KEY, 0x111, 1),
                (EV_KEY, 0x112, 1),
                (EV_REL, REL_WHEEL, !0),
                (EV_SYN, 0, 0),
                (EV_KEY, 0x111, 0),
                (EV_KEY, 0x112, 0),
                (EV_SYN, 0, 0),
            ]
        );
    }

    #[test]
    fn what_nobody_reads_is_bounded_and_no_key_stays_down() {
        let mut board = Board::new(VirtioInput::keyboard());
        board.start(0);
        for _ in 0..1000 {
            comes(&mut board, key(Key::A, true));
        }
        comes(&mut board, key(Key::A, false));
        let mut all = Vec::new();
        for _ in 0..10 {
            all.extend(events(&mut board, 64));
        }
        assert!(all.len() < 300, "{}", all.len());
        assert_eq!(all[all.len() - 2..], [(1, 30, 0), (0, 0, 0)]);
        // And a buffer that is too short is the driver's mistake.
        board.start(0);
        comes(&mut board, key(Key::A, true));
        board.descriptor(0, DATA, 7, WRITE, 0);
        board.offer(0);
        board.serve();
        assert_eq!(board.status() & 0x40, 0x40);
    }
}
