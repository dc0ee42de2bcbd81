//! A limit of what a run takes of the host's processors.
//!
//! The process may use so much time of a processor a second of wall time; what it has used too much it waits for. The
//! time of all its threads counts, as the host tells it: where that is shared by others, nobody waits twice.

use std::time::{Duration, Instant};

/// What a run that waited may use at once.
const SPARE: Duration = Duration::from_millis(20);
/// Less than this is not waited for.
const LEAST: Duration = Duration::from_millis(2);

/// Holds a run to a share of a processor.
#[derive(Debug, Default)]
pub struct Throttle {
    /// Per cent of a processor.
    limit: Option<u32>,
    since: Option<(Instant, Duration)>,
    /// What may still be used, in nanoseconds; below 0: what was used too much.
    balance_ns: i64,
}

impl Throttle {
    /// A limit from now on, in per cent of a processor.
    pub fn set(&mut self, limit: Option<u32>) {
        *self = Self {
            limit,
            ..Self::default()
        };
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let Some(limit) = self.limit else {
            return Duration::ZERO;
        };
        match host::processes::own_cpu_time() {
            Some(used) => self.wait_at(limit, Instant::now(), used),
            None => Duration::ZERO,
        }
    }

    /// How long to wait at this time, when so much of a processor has been used.
    fn wait_at(&mut self, limit: u32, now: Instant, used: Duration) -> Duration {
        let (since, used_then) = *self.since.get_or_insert((now, used));
        self.since = Some((now, used));
        let earned = (now - since).as_nanos() as i64 * i64::from(limit) / 100;
        let spent = used.saturating_sub(used_then).as_nanos() as i64;
        self.balance_ns = (self.balance_ns + earned - spent).min(SPARE.as_nanos() as i64);
        let owed = (-self.balance_ns).max(0) as u64;
        let wait = Duration::from_nanos(owed * 100 / u64::from(limit.max(1)));
        match wait < LEAST {
            true => Duration::ZERO,
            false => wait.min(Duration::from_millis(500)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_never_stops_has_its_share() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let (mut now, mut used) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..10_000 {
            let wait = throttle.wait_at(30, start + now, used);
            // It runs for a millisecond, of which others take a half.
            now += wait + Duration::from_millis(2);
            used += Duration::from_millis(1);
        }
        let share = used.as_secs_f64() / now.as_secs_f64();
        assert!((0.29..0.31).contains(&share), "{share}");
    }
}
