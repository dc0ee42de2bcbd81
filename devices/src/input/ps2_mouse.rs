//! A PS/2 mouse of three buttons, with the wheel of the Microsoft IntelliMouse, as seen from its connector.
//!
//! Sources: IBM PS/2 Hardware Interface Technical Reference, "Mouse"; Microsoft, "IntelliMouse PS/2 protocol".
//!
//! It has no ports: the controller hands it command bytes ([`Ps2Mouse::receive`]) and fetches what it sends
//! ([`Ps2Mouse::send`]). Stream, remote and wrap mode, samples at the rate that the program sets, in virtual
//! time, and all commands. A packet:
//!
//! | byte | bits |
//! |---|---|
//! | 1 | 7-6 overflow Y, X; 5-4 sign Y, X; 3 one; 2-0 middle, right, left button |
//! | 2, 3 | movement to the right and away from the user, each with its sign a 9-bit number |
//! | 4 | the wheel, -8 to 7, towards the user; only under ID 3 |
//!
//! What does not fit into a packet is lost, and said so by its overflow bit. The resolution is kept and told
//! but not applied, as movement comes in counts. Not modelled: the five buttons of ID 4.

use std::collections::VecDeque;

use log::debug;
use serde::{Deserialize, Serialize};

const TARGET: &str = "ps2_mouse";

const ACK: u8 = 0xFA;
const RESEND: u8 = 0xFE;
const ERROR: u8 = 0xFC;
const BAT_OK: u8 = 0xAA;
const READ_DATA: u8 = 0xEB;
const RESET_WRAP: u8 = 0xEC;
const RESET: u8 = 0xFF;

const ID_PLAIN: u8 = 0x00;
const ID_WHEEL: u8 = 0x03;
/// The sample rates that, set in this order, turn the wheel on.
const WHEEL_KNOCK: [u8; 3] = [200, 100, 80];

const BUTTONS: u8 = 0x07;
const PACKET_ONE: u8 = 0x08;
const PACKET_X_SIGN: u8 = 0x10;
const PACKET_X_OVERFLOW: u8 = 0x40;

/// The self-test takes a third of a second on hardware. No program relies on that, so it is short here.
const BAT_NS: u64 = 5_000_000;
/// A program that never reads what it echoes in wrap mode loses the rest.
const MOST_ECHOES: usize = 16;

/// What a program can set, and what F6 sets back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Settings {
    /// Samples a second.
    rate: u8,
    /// 0 to 3: 1, 2, 4 or 8 counts a millimetre.
    resolution: u8,
    /// Scaling 2:1.
    double: bool,
    /// Only sends a packet when asked by EB.
    remote: bool,
    /// Sends packets by itself in stream mode.
    reporting: bool,
}

impl Settings {
    const DEFAULT: Self = Self {
        rate: 100,
        resolution: 2,
        double: false,
        remote: false,
        reporting: false,
    };
}

/// The mouse.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ps2Mouse {
    /// What is to be sent of answers and packets.
    fifo: VecDeque<u8>,
    /// What FE sends again: the last packet, or the last answer without the acknowledgement before it.
    last: Vec<u8>,
    settings: Settings,
    /// Echoes what it receives.
    wrap: bool,
    /// E8 or F3, whose argument is awaited.
    awaiting: Option<u8>,
    /// The last byte was not understood.
    failed: bool,
    id: u8,
    /// The last three sample rates.
    rates: [u8; 3],
    x: i32,
    y: i32,
    z: i32,
    buttons: u8,
    /// Buttons that went down since the last packet: a short click is not lost between two samples.
    clicked: u8,
    /// The buttons of the last packet.
    reported: u8,
    /// When the next sample may be sent.
    sample_ns: u64,
    /// When the self-test ends.
    bat_ns: Option<u64>,
}

impl Ps2Mouse {
    /// A mouse that has passed its power-on self-test.
    pub fn new() -> Self {
        Self {
            fifo: VecDeque::new(),
            last: vec![BAT_OK, ID_PLAIN],
            settings: Settings::DEFAULT,
            wrap: false,
            awaiting: None,
            failed: false,
            id: ID_PLAIN,
            rates: [0; 3],
            x: 0,
            y: 0,
            z: 0,
            buttons: 0,
            clicked: 0,
            reported: 0,
            sample_ns: 0,
            bat_ns: None,
        }
    }

    /// Whether there is something to send.
    pub fn has_byte(&self) -> bool {
        !self.fifo.is_empty()
    }

    /// Whether all that happened so far is in packets that were fetched, or is ignored: what
    /// happens now gets a packet of its own.
    pub fn takes_motion(&self) -> bool {
        !self.is_streaming() || self.fifo.is_empty() && !self.has_changed()
    }

    /// Sends the next byte.
    pub fn send(&mut self, now_ns: u64) -> Option<u8> {
        let byte = self.fifo.pop_front();
        self.sample(now_ns);
        byte
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_event_ns(&self) -> Option<u64> {
        let sample = self.sample_waits().then_some(self.sample_ns);
        sample.into_iter().chain(self.bat_ns).min()
    }

    /// Ends the self-test and sends a sample, if it is time.
    pub fn on_timer(&mut self, now_ns: u64) {
        if self.bat_ns.is_some_and(|at| at <= now_ns) {
            self.bat_ns = None;
            self.answer(&[BAT_OK, self.id]);
        }
        self.sample(now_ns);
    }

    /// The mouse moves by counts to the right, away from the user and, its wheel, towards the user, and has
    /// `buttons` down (bit 0 left, 1 right, 2 middle).
    pub fn motion(&mut self, now_ns: u64, [dx, dy, dz]: [i32; 3], buttons: u8) {
        let buttons = buttons & BUTTONS;
        self.clicked |= buttons & !self.buttons;
        self.buttons = buttons;
        self.x = self.x.saturating_add(dx);
        self.y = self.y.saturating_add(dy);
        if self.id == ID_WHEEL {
            self.z = self.z.saturating_add(dz);
        }
        self.sample(now_ns);
    }

    /// A byte arrives from the controller.
    pub fn receive(&mut self, now_ns: u64, byte: u8) {
        if self.wrap && byte != RESET && byte != RESET_WRAP {
            if self.fifo.len() < MOST_ECHOES {
                self.fifo.push_back(byte);
            }
            return;
        }
        // A program that speaks gives up what it has not read, and a byte above all arguments is a new command.
        self.fifo.clear();
        if byte != RESEND && byte != READ_DATA {
            self.clear_movement();
        }
        let understood = match self.awaiting.take() {
            Some(command) if byte < 0xE0 => self.argument(command, byte),
            _ => self.command(now_ns, byte),
        };
        if !understood {
            debug!(target: TARGET, "not understood: {byte:02x}");
            self.answer(&[if self.failed { ERROR } else { RESEND }]);
        }
        self.failed = !understood;
        self.sample(now_ns);
    }

    fn command(&mut self, now_ns: u64, command: u8) -> bool {
        debug!(target: TARGET, "command {command:02x}");
        match command {
            0xE6 => self.settings.double = false,
            0xE7 => self.settings.double = true,
            0xE8 | 0xF3 => self.awaiting = Some(command),
            0xE9 => {
                let Settings {
                    rate, resolution, ..
                } = self.settings;
                self.acknowledge(&[self.status(), resolution, rate]);
                return true;
            }
            0xEA => self.settings.remote = false,
            READ_DATA => {
                let packet = self.packet(false);
                self.acknowledge(&packet);
                return true;
            }
            RESET_WRAP => self.wrap = false,
            0xEE => self.wrap = true,
            0xF0 => self.settings.remote = true,
            0xF2 => {
                self.acknowledge(&[self.id]);
                return true;
            }
            0xF4 => self.settings.reporting = true,
            0xF5 => self.settings.reporting = false,
            0xF6 => self.settings = Settings::DEFAULT,
            RESEND => {
                self.fifo.extend(&self.last);
                return true;
            }
            RESET => {
                *self = Self {
                    buttons: self.buttons,
                    sample_ns: self.sample_ns,
                    bat_ns: Some(now_ns.saturating_add(BAT_NS)),
                    ..Self::new()
                };
            }
            _ => return false,
        }
        self.answer(&[ACK]);
        true
    }

    /// An argument that does not fit may be given once more.
    fn argument(&mut self, command: u8, byte: u8) -> bool {
        match (command, byte) {
            (0xE8, 0..=3) => self.settings.resolution = byte,
            (0xF3, 10 | 20 | 40 | 60 | 80 | 100 | 200) => {
                self.settings.rate = byte;
                self.rates = [self.rates[1], self.rates[2], byte];
                if self.rates == WHEEL_KNOCK {
                    self.id = ID_WHEEL;
                }
            }
            _ => {
                self.awaiting = (!self.failed).then_some(command);
                return false;
            }
        }
        self.answer(&[ACK]);
        true
    }

    /// Bits 6 remote mode, 5 reporting, 4 scaling 2:1, and the buttons, not in the order of a packet.
    fn status(&self) -> u8 {
        let [left, right, middle] = [0, 1, 2].map(|bit| self.buttons >> bit & 1);
        u8::from(self.settings.remote) << 6
            | u8::from(self.settings.reporting) << 5
            | u8::from(self.settings.double) << 4
            | left << 2
            | middle << 1
            | right
    }

    fn acknowledge(&mut self, answer: &[u8]) {
        self.fifo.push_back(ACK);
        self.answer(answer);
    }

    fn answer(&mut self, answer: &[u8]) {
        self.fifo.extend(answer);
        self.last = answer.to_vec();
    }

    /// Whether stream mode has a packet to send as soon as the sample rate lets it.
    fn sample_waits(&self) -> bool {
        self.is_streaming()
            && self.has_changed()
            && self.fifo.is_empty()
            && self.awaiting.is_none()
            && self.bat_ns.is_none()
    }

    fn is_streaming(&self) -> bool {
        self.settings.reporting && !self.settings.remote && !self.wrap
    }

    fn has_changed(&self) -> bool {
        (self.x, self.y, self.z) != (0, 0, 0) || self.buttons | self.clicked != self.reported
    }

    fn sample(&mut self, now_ns: u64) {
        if self.sample_waits() && self.sample_ns <= now_ns {
            let packet = self.packet(self.settings.double);
            self.answer(&packet);
            let period_ns = 1_000_000_000 / u64::from(self.settings.rate);
            self.sample_ns = now_ns.saturating_add(period_ns);
        }
    }

    /// A packet of all that happened since the last one.
    fn packet(&mut self, double: bool) -> Vec<u8> {
        let scale = if double {
            scale_2_to_1
        } else {
            |counts: i32| counts
        };
        let mut packet = vec![PACKET_ONE | self.buttons | self.clicked, 0, 0];
        for (axis, counts) in [self.x, self.y].into_iter().enumerate() {
            let counts = scale(counts);
            let fitting = counts.clamp(-256, 255);
            packet[0] |= (u8::from(fitting < 0) * PACKET_X_SIGN) << axis;
            packet[0] |= (u8::from(fitting != counts) * PACKET_X_OVERFLOW) << axis;
            packet[1 + axis] = fitting as u8;
        }
        if self.id == ID_WHEEL {
            packet.push(self.z.clamp(-8, 7) as u8);
        }
        self.reported = self.buttons | self.clicked;
        self.clicked = 0;
        self.clear_movement();
        packet
    }

    fn clear_movement(&mut self) {
        (self.x, self.y, self.z) = (0, 0, 0);
    }
}

impl Default for Ps2Mouse {
    fn default() -> Self {
        Self::new()
    }
}

/// The table of E7: small movements stay exact.
fn scale_2_to_1(counts: i32) -> i32 {
    let scaled = match counts.saturating_abs() {
        few @ (0 | 1) => few,
        2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        many => many.saturating_mul(2),
    };
    scaled * counts.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn sent(mouse: &mut Ps2Mouse, now_ns: u64) -> Vec<u8> {
        std::iter::from_fn(|| mouse.send(now_ns)).collect()
    }

    /// What the last of these bytes is answered with.
    fn command(mouse: &mut Ps2Mouse, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for &byte in bytes {
            mouse.receive(0, byte);
            answer = sent(mouse, 0);
        }
        answer
    }

    fn streaming() -> Ps2Mouse {
        let mut mouse = Ps2Mouse::new();
        assert_eq!(command(&mut mouse, &[0xF4]), [ACK]);
        mouse
    }

    fn knock(mouse: &mut Ps2Mouse) {
        command(mouse, &[0xF3, 200, 0xF3, 100, 0xF3, 80]);
    }

    #[test]
    fn reset_acknowledges_and_then_reports_the_self_test_and_id_0() {
        let mut mouse = Ps2Mouse::new();
        knock(&mut mouse);
        assert_eq!(command(&mut mouse, &[0xF4, 0xFF]), [ACK]);
        mouse.motion(0, [1, 0, 0], 0);
        assert_eq!(mouse.next_event_ns(), Some(BAT_NS));
        mouse.on_timer(BAT_NS);
        assert_eq!(sent(&mut mouse, BAT_NS), [BAT_OK, 0x00]);
        assert_eq!(mouse.next_event_ns(), None, "reporting is off");
        assert_eq!(command(&mut mouse, &[0xF2]), [ACK, 0x00]);
    }

    #[test]
    fn the_knock_turns_the_wheel_on_and_the_id_to_3() {
        let mut mouse = Ps2Mouse::new();
        assert_eq!(command(&mut mouse, &[0xF2]), [ACK, 0x00]);
        command(&mut mouse, &[0xF3, 200, 0xF3, 200, 0xF3, 80]);
        assert_eq!(command(&mut mouse, &[0xF2]), [ACK, 0x00]);
        knock(&mut mouse);
        assert_eq!(command(&mut mouse, &[0xF2]), [ACK, 0x03]);
        mouse.motion(0, [1, 2, -1], 0);
        assert_eq!(command(&mut mouse, &[0xF6, 0xF2]), [ACK, 0x03]);
        command(&mut mouse, &[0xF4]);
        mouse.motion(0, [1, 2, -1], 0);
        assert_eq!(sent(&mut mouse, 0), [0x08, 1, 2, 0xFF]);
        mouse.motion(10 * MS, [0, 0, 100], 0);
        assert_eq!(sent(&mut mouse, 10 * MS), [0x08, 0, 0, 7]);
    }

    #[test]
    fn a_plain_mouse_has_no_wheel() {
        let mut mouse = streaming();
        mouse.motion(0, [0, 0, 1], 0);
        assert_eq!(sent(&mut mouse, 0), []);
    }

    #[test]
    fn status_tells_the_settings_and_f6_sets_them_back() {
        let mut mouse = Ps2Mouse::new();
        assert_eq!(command(&mut mouse, &[0xE9]), [ACK, 0x00, 2, 100]);
        command(&mut mouse, &[0xE7, 0xE8, 3, 0xF3, 40, 0xF4]);
        mouse.motion(0, [0; 3], 0b001);
        assert_eq!(command(&mut mouse, &[0xE9]), [ACK, 0x34, 3, 40]);
        mouse.motion(0, [0; 3], 0b110);
        assert_eq!(command(&mut mouse, &[0xE6, 0xF0, 0xE9]), [ACK, 0x63, 3, 40]);
        assert_eq!(command(&mut mouse, &[0xF6, 0xE9]), [ACK, 0x03, 2, 100]);
    }

    #[test]
    fn signs_and_overflow_are_in_the_first_byte() {
        let mut mouse = streaming();
        let mut packet_of = |at: u64, dx, dy| {
            mouse.motion(at, [dx, dy, 0], 0b101);
            sent(&mut mouse, at)
        };
        assert_eq!(packet_of(0, 1, -1), [0x2D, 0x01, 0xFF]);
        assert_eq!(packet_of(10 * MS, 255, -256), [0x2D, 0xFF, 0x00]);
        assert_eq!(packet_of(20 * MS, 256, -257), [0xED, 0xFF, 0x00]);
        let packet = packet_of(30 * MS, i32::MIN, i32::MAX);
        assert_eq!(packet, [0xDD, 0x00, 0xFF]);
    }

    #[test]
    fn the_next_motion_is_taken_once_the_last_ones_packet_is_fetched() {
        let mut mouse = Ps2Mouse::new();
        mouse.motion(0, [1, 0, 0], 0);
        assert!(mouse.takes_motion(), "nobody is told of any");
        let mut mouse = streaming();
        assert!(mouse.takes_motion());
        mouse.motion(0, [1, 0, 0], 0);
        assert!(!mouse.takes_motion());
        sent(&mut mouse, 0);
        assert!(mouse.takes_motion());
        mouse.motion(0, [1, 0, 0], 0);
        assert!(!mouse.takes_motion(), "its sample is not due");
        mouse.on_timer(10 * MS);
        assert!(!mouse.takes_motion());
        sent(&mut mouse, 10 * MS);
        assert!(mouse.takes_motion());
    }

    #[test]
    fn movement_adds_up_until_the_next_sample() {
        let mut mouse = streaming();
        mouse.motion(0, [1, 1, 0], 0);
        mouse.motion(0, [1, 1, 0], 0);
        assert_eq!(sent(&mut mouse, 0), [0x08, 1, 1]);
        assert_eq!(mouse.next_event_ns(), Some(10 * MS), "100 samples a second");
        mouse.motion(MS, [5, 0, 0], 0);
        mouse.on_timer(10 * MS);
        assert_eq!(sent(&mut mouse, 10 * MS), [0x08, 6, 1]);
        assert_eq!(mouse.next_event_ns(), None);
    }

    #[test]
    fn a_click_between_two_samples_is_reported_down_and_up() {
        let mut mouse = streaming();
        mouse.motion(0, [1, 0, 0], 0);
        mouse.motion(0, [0; 3], 1);
        mouse.motion(0, [0; 3], 0);
        assert_eq!(sent(&mut mouse, 0), [0x08, 1, 0]);
        mouse.on_timer(10 * MS);
        assert_eq!(sent(&mut mouse, 10 * MS), [0x09, 0, 0]);
        mouse.on_timer(20 * MS);
        assert_eq!(sent(&mut mouse, 20 * MS), [0x08, 0, 0]);
        assert_eq!(mouse.next_event_ns(), None);
    }

    #[test]
    fn scaling_2_to_1_is_for_stream_mode_only() {
        let mut mouse = streaming();
        command(&mut mouse, &[0xE7]);
        for (n, (counts, scaled)) in [(1, 1u8), (2, 1), (3, 3), (4, 6), (5, 9), (6, 12)]
            .into_iter()
            .enumerate()
        {
            let at = n as u64 * 10 * MS;
            mouse.motion(at, [counts, -counts, 0], 0);
            let packet = [0x28, scaled, scaled.wrapping_neg()];
            assert_eq!(sent(&mut mouse, at), packet, "{counts}");
        }
        command(&mut mouse, &[0xF0]);
        mouse.motion(0, [4, 0, 0], 0);
        assert_eq!(command(&mut mouse, &[0xEB]), [ACK, 0x08, 4, 0]);
    }

    #[test]
    fn remote_mode_sends_only_what_is_asked_for() {
        let mut mouse = streaming();
        command(&mut mouse, &[0xF0]);
        mouse.motion(0, [3, -4, 0], 2);
        assert_eq!(mouse.next_event_ns(), None);
        assert_eq!(sent(&mut mouse, 0), []);
        assert_eq!(command(&mut mouse, &[0xEB]), [ACK, 0x2A, 3, 0xFC]);
        assert_eq!(command(&mut mouse, &[0xEB]), [ACK, 0x0A, 0, 0]);
        assert_eq!(command(&mut mouse, &[0xEA]), [ACK]);
        mouse.motion(0, [1, 0, 0], 2);
        assert_eq!(sent(&mut mouse, 0), [0x0A, 1, 0]);
    }

    #[test]
    fn wrap_mode_echoes_all_but_its_end_and_reset() {
        let mut mouse = streaming();
        assert_eq!(command(&mut mouse, &[0xEE]), [ACK]);
        mouse.motion(0, [1, 0, 0], 0);
        for byte in [0x00, 0xE9, 0xEE, 0xF2, 0xFE] {
            assert_eq!(command(&mut mouse, &[byte]), [byte]);
        }
        assert_eq!(command(&mut mouse, &[0xEC, 0xF2]), [ACK, 0x00]);
        assert_eq!(command(&mut mouse, &[0xEE, 0xFF]), [ACK]);
        assert_eq!(mouse.next_event_ns(), Some(BAT_NS));
    }

    #[test]
    fn resend_repeats_the_last_packet_or_answer() {
        let mut mouse = streaming();
        mouse.motion(0, [1, 2, 0], 0);
        assert_eq!(mouse.send(0), Some(0x08));
        assert_eq!(command(&mut mouse, &[0xFE]), [0x08, 1, 2]);
        assert_eq!(command(&mut mouse, &[0xE9]), [ACK, 0x20, 2, 100]);
        assert_eq!(command(&mut mouse, &[0xFE]), [0x20, 2, 100]);
        assert_eq!(command(&mut mouse, &[0xE6, 0xFE]), [ACK]);
    }

    #[test]
    fn what_is_not_understood_is_asked_for_again_and_then_an_error() {
        let mut mouse = Ps2Mouse::new();
        assert_eq!(command(&mut mouse, &[0x11]), [RESEND]);
        assert_eq!(command(&mut mouse, &[0xE1]), [ERROR]);
        assert_eq!(command(&mut mouse, &[0xF3, 1]), [RESEND]);
        assert_eq!(command(&mut mouse, &[200]), [ACK]);
        assert_eq!(command(&mut mouse, &[0xE8, 4]), [RESEND]);
        assert_eq!(command(&mut mouse, &[4]), [ERROR]);
        assert_eq!(command(&mut mouse, &[0xE8, 0xE9]), [ACK, 0x00, 2, 200]);
    }

    #[test]
    fn a_command_drops_the_packet_that_was_not_read() {
        let mut mouse = streaming();
        mouse.motion(0, [1, 2, 0], 0);
        assert_eq!(mouse.send(0), Some(0x08));
        assert_eq!(command(&mut mouse, &[0xF5]), [ACK]);
        mouse.motion(10 * MS, [1, 2, 0], 0);
        assert_eq!(sent(&mut mouse, 10 * MS), []);
    }
}
