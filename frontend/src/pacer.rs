//! Makes virtual time follow the wall clock.

use std::time::{Duration, Instant};

use emulator::Machine;

/// Busy time between two changes of the ratio: shorter measures jump about.
const MEASURE: Duration = Duration::from_millis(10);
/// A lag beyond this is given up: the host slept, or is too busy to catch up.
const GIVE_UP_NS: i64 = 500_000_000;
/// A lead below this is not worth a sleep.
const LEAD_NS: i64 = 1_500_000;
/// The ratio is a fraction with this denominator.
const DENOMINATOR: u64 = 1024;

/// Compares virtual time with the wall clock and sets the ratio of instructions to time, so that a
/// busy guest sees time pass as its user does.
#[derive(Debug)]
pub struct Pacer {
    /// Wall time that stands for virtual time 0.
    origin: Instant,
    /// What the wall ran ahead and was given up.
    lost_ns: u64,
    busy: Duration,
    retired: u64,
    /// Smoothed host nanoseconds per instruction.
    ns_per_instruction: Option<f64>,
}

impl Pacer {
    /// A pacer for a machine that is switched on at `origin`.
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            lost_ns: 0,
            busy: Duration::ZERO,
            retired: 0,
            ns_per_instruction: None,
        }
    }

    /// The virtual time that the wall clock asks for.
    pub fn wall_ns(&self) -> u64 {
        (self.origin.elapsed().as_nanos() as u64).saturating_sub(self.lost_ns)
    }

    /// How long it is until the wall clock asks for `virtual_ns`.
    pub fn until(&self, virtual_ns: u64) -> Duration {
        Duration::from_nanos(virtual_ns.saturating_sub(self.wall_ns()))
    }

    /// The machine ran `retired` instructions in `busy` time: adjusts the ratio.
    pub fn ran(&mut self, machine: &mut Machine, retired: u64, busy: Duration) {
        self.busy += busy;
        self.retired += retired;
        if self.busy < MEASURE || self.retired < 1000 {
            return;
        }
        let measured = self.busy.as_nanos() as f64 / self.retired as f64;
        self.busy = Duration::ZERO;
        self.retired = 0;
        let smoothed = match self.ns_per_instruction {
            Some(before) => before * 0.75 + measured * 0.25,
            None => measured,
        };
        self.ns_per_instruction = Some(smoothed);
        let mut lag_ns = self.wall_ns() as i64 - machine.now_ns() as i64;
        if lag_ns > GIVE_UP_NS {
            self.lost_ns += lag_ns as u64;
            lag_ns = 0;
        }
        let ns_num = ratio(smoothed, lag_ns);
        machine.set_ratio(ns_num, DENOMINATOR);
    }

    /// How far virtual time is ahead of the wall: so long the host may sleep.
    pub fn ahead(&mut self, machine: &Machine) -> Duration {
        let lead_ns = machine.now_ns() as i64 - self.wall_ns() as i64;
        if lead_ns < LEAD_NS {
            return Duration::ZERO;
        }
        Duration::from_nanos(lead_ns as u64).min(Duration::from_millis(50))
    }
}

/// The ratio's numerator: the measured pace, up to twice as fast while virtual time lags.
fn ratio(ns_per_instruction: f64, lag_ns: i64) -> u64 {
    let correction = (lag_ns as f64 / 1e8).clamp(-0.5, 1.0);
    let numerator = ns_per_instruction * (1.0 + correction) * DENOMINATOR as f64;
    // Between a 16 GHz and a 1 MHz processor.
    numerator.clamp(DENOMINATOR as f64 / 16.0, DENOMINATOR as f64 * 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_measured_pace_and_makes_good_for_a_lag() {
        assert_eq!(ratio(8.0, 0), 8 * 1024);
        assert_eq!(ratio(8.0, 50_000_000), 12 * 1024);
        assert_eq!(ratio(8.0, i64::MAX), 16 * 1024);
        assert_eq!(ratio(8.0, -100_000_000), 4 * 1024);
        assert_eq!(ratio(1e9, 0), 1000 * 1024);
        assert_eq!(ratio(0.0, 0), 64);
    }
}
