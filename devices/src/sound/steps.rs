//! A voltage that moves in steps at any time, as sound: a loudspeaker behind a flip-flop, or a
//! converter that a program writes to when it likes.
//!
//! Each frame is the mean of the voltage over its time (a box filter), so that what switches faster
//! than frames pass is heard by how long it was on: pulse width modulation. A capacitor keeps a
//! voltage that does not move from the listener, with a time constant of 256 frames (a corner of 30
//! Hz).

use platform::Sound;
use serde::{Deserialize, Serialize};

/// Frames a second.
pub const RATE: u64 = 48_000;
/// A frame's time, in thirds of a nanosecond.
const FRAME: u64 = 62_500;
/// The voltage is kept with so many binary places.
const PLACES: u32 = 16;
/// The capacitor moves by this part of the difference a frame.
const COUPLING: u32 = 8;

/// The voltage over time, from when it last moved until it has been silent for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// Whether anything sounds; else nothing below but `voltage` and `capacitor` means anything.
    sounding: bool,
    /// The voltage since `reached`.
    voltage: i16,
    /// Up to when the voltage is known, in thirds of a nanosecond.
    reached: u64,
    /// The sum of voltage and time in the frame that `reached` is in.
    partial: i64,
    /// The voltage over the capacitor.
    capacitor: i64,
    /// When the frames that wait to be handed out start, as a number of frames.
    first: u64,
    frames: Vec<i16>,
    /// Whether the voltage moved since frames were last handed out.
    moved: bool,
}

impl Steps {
    /// Whether [`take`](Self::take) must be called at [`next_ns`](Self::next_ns).
    pub fn is_sounding(&self) -> bool {
        self.sounding
    }

    /// The voltage now.
    pub fn voltage(&self) -> i16 {
        self.voltage
    }

    /// From `now_ns` on the voltage is this. Times must not go back.
    pub fn set(&mut self, now_ns: u64, voltage: i16) {
        if voltage == self.voltage {
            return;
        }
        self.wake(now_ns);
        self.run(now_ns);
        self.voltage = voltage;
        self.moved = true;
    }

    /// Starts to sound, if only with silence: the voltage may move soon.
    pub fn wake(&mut self, now_ns: u64) {
        if self.sounding {
            return;
        }
        let now = now_ns.saturating_mul(3);
        self.sounding = true;
        self.reached = now;
        self.first = now / FRAME;
        self.partial = i64::from(self.voltage) * (now % FRAME) as i64;
        self.frames.clear();
        self.moved = true;
    }

    /// When the frames so far are to be handed out.
    pub fn next_ns(&self) -> u64 {
        let per_piece = Sound::MOST_NS * RATE / 1_000_000_000;
        ((self.first / per_piece + 1) * per_piece * FRAME).div_ceil(3)
    }

    /// The frames up to `now_ns`. Afterwards it sounds no more where the voltage has not moved
    /// since the last call, the capacitor has followed it, and it will not move by itself.
    pub fn take(&mut self, now_ns: u64, may_move: bool, stream: u8) -> Option<Sound> {
        if !self.sounding {
            return None;
        }
        self.run(now_ns);
        let start = self.first;
        let frames = std::mem::take(&mut self.frames);
        self.first += frames.len() as u64;
        let moved = std::mem::take(&mut self.moved);
        let left = (i64::from(self.voltage) << PLACES) - self.capacitor;
        if !moved && !may_move && left.unsigned_abs() < 1 << PLACES {
            self.sounding = false;
            self.capacitor = i64::from(self.voltage) << PLACES;
        }
        Some(Sound {
            stream,
            start_ns: (start * FRAME).div_ceil(3),
            rate_millihertz: RATE * 1000,
            frames: frames.into_iter().map(|sample| [sample; 2]).collect(),
        })
    }

    /// The voltage stays as it is until `now_ns`.
    fn run(&mut self, now_ns: u64) {
        let now = now_ns.saturating_mul(3);
        // Whoever is called late makes a longer piece, but none of any length.
        let most = self.reached.saturating_add(Sound::MOST_NS * 3 * 8);
        let now = now.min(most);
        while self.reached < now {
            let end = (self.reached / FRAME + 1) * FRAME;
            let until = end.min(now);
            self.partial += i64::from(self.voltage) * (until - self.reached) as i64;
            self.reached = until;
            if until == end {
                let mean = (std::mem::take(&mut self.partial) << PLACES) / FRAME as i64;
                let heard = mean - self.capacitor;
                self.capacitor += heard >> COUPLING;
                let sample = heard >> PLACES;
                let range = i64::from(i16::MIN)..=i64::from(i16::MAX);
                self.frames
                    .push(sample.clamp(*range.start(), *range.end()) as i16);
            }
        }
        if now == most {
            // It was forgotten: what came between is lost, and it starts anew.
            let now = now_ns.saturating_mul(3);
            self.first = (now / FRAME).saturating_sub(self.frames.len() as u64);
            self.partial = i64::from(self.voltage) * (now % FRAME) as i64;
            self.reached = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(steps: &mut Steps, mut now_ns: u64, end_ns: u64) -> Vec<i16> {
        let mut frames = Vec::new();
        while steps.is_sounding() && now_ns < end_ns {
            now_ns = steps.next_ns();
            let piece = steps.take(now_ns, false, 0).unwrap();
            frames.extend(piece.frames.iter().map(|frame| frame[0]));
        }
        frames
    }

    #[test]
    fn a_step_decays_and_then_nothing_sounds() {
        let mut steps = Steps::default();
        assert!(!steps.is_sounding());
        steps.set(1_000_000, 8000);
        let frames = all(&mut steps, 1_000_000, 1_000_000_000);
        assert!(!steps.is_sounding(), "{} frames", frames.len());
        assert!(frames[0] > 7900 && frames.len() < 48 * 100);
        assert!(frames.last().unwrap().abs() <= 1);
    }

    #[test]
    fn a_frame_is_the_mean_over_its_time() {
        let mut steps = Steps::default();
        // Frame 0 ends at 20833 1/3 ns; a quarter of it is on.
        steps.set(5_000, 4000);
        steps.set(5_000 + 5_208, 0);
        let frames = all(&mut steps, 5_000, 30_000_000);
        assert!((998..=1000).contains(&frames[0]), "{}", frames[0]);
        assert!((-5..=0).contains(&frames[1]), "{}", frames[1]);
    }

    #[test]
    fn pieces_follow_each_other_whenever_they_are_asked_for() {
        let mut steps = Steps::default();
        steps.set(123_456, 100);
        let mut expected = None;
        for round in 0..20u64 {
            let now_ns = 123_456 + round * 3_333_333;
            steps.set(now_ns, (round as i16 % 2) * 1000);
            let piece = steps.take(now_ns, true, 0).unwrap();
            let start = piece.start_ns * 48_000 / 1_000_000_000;
            assert_eq!(*expected.get_or_insert(start), start);
            expected = Some(start + piece.frames.len() as u64);
        }
    }
}
