//! Makes virtual time follow the wall clock.
//!
//! A busy machine runs in short pieces. Within one, time runs at the fastest pace of late, so that
//! it does not get ahead of the wall; at its end, time is brought up to the wall, timer by timer,
//! so that the guest sees each of them. A guest that gets ahead all the same, as its pace rose,
//! sees time nearly stand still until the wall has caught up. So time is never slept off while a
//! processor has work, and what a guest measures is right whatever it runs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use emulator::{Exit, Limit, Machine};

/// A lag beyond this is given up: the host slept, or is too busy to catch up.
const GIVE_UP_NS: u64 = 500_000_000;
/// The ratio is a fraction with this denominator.
const DENOMINATOR: u64 = 1024;
/// How long a piece should take the host.
const PIECE_NS: f64 = 100_000.0;
/// Instructions in a piece. So many at the slowest pace, of port accesses, take the host some
/// milliseconds; iterations of REP, which count as instructions, may take it a microsecond.
const PIECE: std::ops::RangeInclusive<u64> = 300..=16_000;
/// Host time after which the caller looks around.
const BORDER_NS: u64 = 1_000_000;
/// Instructions that a guest gets for each timer that time is moved up to: an interrupt's handler.
const HANDLER: u64 = 1000;
/// Timers that are moved up to at one end of a piece.
const MOST_TIMERS: usize = 64;
/// How many pieces are "of late".
const LATELY: usize = 16;

/// A clock of the host that never goes back.
pub trait HostClock {
    /// Nanoseconds since some moment.
    fn now_ns(&self) -> u64;
}

impl HostClock for Instant {
    fn now_ns(&self) -> u64 {
        self.elapsed().as_nanos() as u64
    }
}

/// What is paced.
pub trait Paced {
    /// Instructions retired.
    fn retired(&self) -> u64;
    /// Virtual time.
    fn now_ns(&self) -> u64;
    /// When the next timer fires.
    fn next_timer_ns(&mut self) -> Option<u64>;
    /// See [`Machine::run_until`].
    fn run_until(&mut self, limit: Limit) -> Exit;
    /// See [`Machine::set_ratio`].
    fn set_ratio(&mut self, ns_num: u64, ns_den: u64);
    /// Lets virtual time pass.
    fn pass(&mut self, ns: u64);
}

impl Paced for Machine {
    fn retired(&self) -> u64 {
        Machine::retired(self)
    }
    fn now_ns(&self) -> u64 {
        Machine::now_ns(self)
    }
    fn next_timer_ns(&mut self) -> Option<u64> {
        Machine::next_timer_ns(self)
    }
    fn run_until(&mut self, limit: Limit) -> Exit {
        Machine::run_until(self, limit)
    }
    fn set_ratio(&mut self, ns_num: u64, ns_den: u64) {
        Machine::set_ratio(self, ns_num, ns_den);
    }
    fn pass(&mut self, ns: u64) {
        self.idle(ns);
    }
}

/// Compares virtual time with the wall clock, so that a busy guest sees time pass as its user does.
#[derive(Debug)]
pub struct Pacer<C = Instant> {
    clock: C,
    /// What the wall shows less than the clock: what passed before the start, and what was given up.
    lost_ns: u64,
    /// Host nanoseconds an instruction in the last pieces.
    paces: VecDeque<f64>,
}

impl<C: HostClock> Pacer<C> {
    /// A pacer for a machine whose virtual time is `now_ns` at this moment.
    pub fn new(clock: C, now_ns: u64) -> Self {
        let lost_ns = clock.now_ns().wrapping_sub(now_ns);
        Self {
            clock,
            lost_ns,
            paces: VecDeque::new(),
        }
    }

    /// The virtual time that the wall clock asks for.
    pub fn wall_ns(&self) -> u64 {
        // A machine that was restored may be older than the clock.
        self.clock.now_ns().wrapping_sub(self.lost_ns)
    }

    /// How long it is until the wall clock asks for `virtual_ns`.
    pub fn until(&self, virtual_ns: u64) -> Duration {
        Duration::from_nanos(virtual_ns.saturating_sub(self.wall_ns()))
    }

    /// Runs a busy machine up to `limit`, or for about a millisecond of the host's time, or until
    /// something else ends the run.
    pub fn run(&mut self, machine: &mut impl Paced, limit: Limit) -> Exit {
        let begun_ns = self.clock.now_ns();
        loop {
            let (retired, now_ns) = (machine.retired(), machine.now_ns());
            machine.set_ratio(self.ratio(now_ns), DENOMINATOR);
            let piece = Limit {
                retired: limit.retired.min(retired + self.piece()),
                now_ns: limit.now_ns.min(now_ns + 2 * PIECE_NS as u64),
            };
            let before_ns = self.clock.now_ns();
            let exit = machine.run_until(piece);
            let took_ns = self.clock.now_ns() - before_ns;
            self.note(machine.retired() - retired, took_ns);
            if exit != Exit::Budget {
                return exit;
            }
            let exit = self.catch_up(machine, limit.retired);
            let over = machine.retired() >= limit.retired || machine.now_ns() >= limit.now_ns;
            if exit != Exit::Budget || over || self.clock.now_ns() - begun_ns >= BORDER_NS {
                return exit;
            }
        }
    }

    /// Brings time up to the wall, timer by timer.
    fn catch_up(&mut self, machine: &mut impl Paced, most_retired: u64) -> Exit {
        let lag_ns = self.wall_ns().saturating_sub(machine.now_ns());
        if lag_ns > GIVE_UP_NS {
            self.lost_ns = self.lost_ns.wrapping_add(lag_ns);
            return Exit::Budget;
        }
        for _ in 0..MOST_TIMERS {
            let (now_ns, wall_ns) = (machine.now_ns(), self.wall_ns());
            if now_ns >= wall_ns {
                break;
            }
            match machine.next_timer_ns() {
                Some(timer_ns) if timer_ns < wall_ns => {
                    machine.pass(timer_ns.saturating_sub(now_ns));
                    let exit = machine.run_until(Limit {
                        retired: most_retired.min(machine.retired() + HANDLER),
                        now_ns: wall_ns,
                    });
                    if exit != Exit::Budget || machine.retired() >= most_retired {
                        return exit;
                    }
                }
                _ => {
                    machine.pass(wall_ns - now_ns);
                    break;
                }
            }
        }
        Exit::Budget
    }

    /// A piece of `retired` instructions took the host `ns`.
    fn note(&mut self, retired: u64, ns: u64) {
        if retired < *PIECE.start() / 2 {
            return;
        }
        if self.paces.len() == LATELY {
            self.paces.pop_front();
        }
        self.paces.push_back(ns as f64 / retired as f64);
    }

    /// Instructions of the next piece, by the pace of the last one.
    fn piece(&self) -> u64 {
        let pace = self.paces.back().copied().unwrap_or(100.0);
        let piece = (PIECE_NS / pace.max(0.001)) as u64;
        piece.clamp(*PIECE.start(), *PIECE.end())
    }

    /// The ratio's numerator: a little below the fastest pace of late; a fraction of that while time is ahead.
    fn ratio(&self, now_ns: u64) -> u64 {
        let fastest = self.paces.iter().copied().reduce(f64::min).unwrap_or(2.0);
        let part = if now_ns > self.wall_ns() {
            1.0 / 16.0
        } else {
            0.97
        };
        ((fastest * part * DENOMINATOR as f64) as u64).clamp(1, DENOMINATOR * 1000)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use platform::Clock;
    use platform::testkit::Rng;

    use super::*;

    /// A host clock that stands still unless somebody moves it.
    #[derive(Clone, Default)]
    struct Simulated(Rc<Cell<f64>>);

    impl HostClock for Simulated {
        fn now_ns(&self) -> u64 {
            self.0.get() as u64
        }
    }

    /// A guest that never waits, with a timer of 1 kHz. What an instruction costs the host changes all the time.
    struct Busy {
        host: Simulated,
        clock: Clock,
        rng: Rng,
        /// Host nanoseconds of an instruction, and the count at which the next kind of work begins.
        cost: f64,
        changes_at: u64,
        next_tick_ns: u64,
        ticks: u64,
    }

    /// Iterations of REP, loops in registers, memory, TLB misses, device calls.
    const COSTS: [f64; 7] = [0.05, 2.0, 3.0, 14.0, 44.0, 100.0, 250.0];
    const TICK_NS: u64 = 1_000_000;

    impl Busy {
        fn new(host: Simulated, seed: u64) -> Self {
            Self {
                host,
                clock: Clock::new(2, 1),
                rng: Rng::new(seed),
                cost: 3.0,
                changes_at: 0,
                next_tick_ns: TICK_NS,
                ticks: 0,
            }
        }

        /// Runs so many instructions, whatever they are.
        fn work(&mut self, mut count: u64) {
            while count > 0 {
                let retired = self.clock.retired();
                if retired >= self.changes_at {
                    self.cost = COSTS[self.rng.below(COSTS.len() as u64) as usize];
                    // Some milliseconds of the host, now and then half a second.
                    let most = if self.rng.below(20) == 0 { 5e8 } else { 2e7 };
                    let lasts_ns = 1e5 + self.rng.below(most as u64) as f64;
                    self.changes_at = retired + 1 + (lasts_ns / self.cost) as u64;
                }
                let some = count.min(self.changes_at - retired);
                self.clock.set_retired(retired + some);
                self.host.0.set(self.host.0.get() + self.cost * some as f64);
                count -= some;
            }
        }
    }

    impl Paced for Busy {
        fn retired(&self) -> u64 {
            self.clock.retired()
        }
        fn now_ns(&self) -> u64 {
            self.clock.now_ns()
        }
        fn next_timer_ns(&mut self) -> Option<u64> {
            Some(self.next_tick_ns)
        }
        fn run_until(&mut self, limit: Limit) -> Exit {
            while self.clock.retired() < limit.retired && self.clock.now_ns() < limit.now_ns {
                if self.clock.now_ns() >= self.next_tick_ns {
                    // As of an interval timer whose interrupt still waits, the ticks of a jump are one.
                    let missed = (self.clock.now_ns() - self.next_tick_ns) / TICK_NS;
                    self.next_tick_ns += (missed + 1) * TICK_NS;
                    self.ticks += 1;
                    self.work(100);
                    continue;
                }
                let until_ns = limit.now_ns.min(self.next_tick_ns);
                let most = self.clock.instructions_until(until_ns);
                self.work(most.min(limit.retired - self.clock.retired()));
            }
            // What a call costs.
            self.host.0.set(self.host.0.get() + 200.0);
            Exit::Budget
        }
        fn set_ratio(&mut self, ns_num: u64, ns_den: u64) {
            self.clock.set_ratio(ns_num, ns_den);
        }
        fn pass(&mut self, ns: u64) {
            self.clock.skip_to(self.clock.now_ns() + ns);
        }
    }

    const FOR_EVER: Limit = Limit {
        retired: u64::MAX,
        now_ns: u64::MAX,
    };

    #[test]
    fn a_busy_guest_sees_the_walls_time_whatever_it_runs() {
        for seed in 0..8 {
            let host = Simulated::default();
            host.0.set(5e9);
            let mut guest = Busy::new(host.clone(), seed);
            let mut pacer = Pacer::new(host.clone(), 0);
            let start_ns = host.now_ns();
            // Wall, virtual time and ticks, over ten seconds.
            let mut seen = vec![(0u64, 0u64, 0u64)];
            while host.now_ns() - start_ns < 10_000_000_000 {
                assert_eq!(pacer.run(&mut guest, FOR_EVER), Exit::Budget);
                let wall_ns = host.now_ns() - start_ns;
                let apart_ns = guest.now_ns().abs_diff(wall_ns);
                assert!(apart_ns < 1_000_000, "{apart_ns} ns apart at {wall_ns}");
                seen.push((wall_ns, guest.now_ns(), guest.ticks));
            }
            // Whatever 100 ms are looked at, what the guest's clock and its ticks say is right within 5 %.
            let mut end = 0;
            for &(wall_ns, virtual_ns, ticks) in &seen {
                while end < seen.len() && seen[end].0 - wall_ns < 100_000_000 {
                    end += 1;
                }
                let Some(&(end_wall_ns, end_virtual_ns, end_ticks)) = seen.get(end) else {
                    break;
                };
                let passed = (end_wall_ns - wall_ns) as f64;
                let by_clock = (end_virtual_ns - virtual_ns) as f64;
                let by_ticks = (end_ticks - ticks) as f64 * TICK_NS as f64;
                assert!((by_clock / passed - 1.0).abs() < 0.05, "{by_clock}");
                assert!((by_ticks / passed - 1.0).abs() < 0.05, "{by_ticks} ticks");
            }
        }
    }

    #[test]
    fn within_a_call_time_is_never_far_from_the_wall() {
        // Looked at after each piece, at the worst place: before time is brought up.
        struct Watched(Busy, u64, u64);
        impl Paced for Watched {
            fn retired(&self) -> u64 {
                self.0.retired()
            }
            fn now_ns(&self) -> u64 {
                self.0.now_ns()
            }
            fn next_timer_ns(&mut self) -> Option<u64> {
                self.0.next_timer_ns()
            }
            fn run_until(&mut self, limit: Limit) -> Exit {
                let exit = self.0.run_until(limit);
                let wall_ns = self.0.host.now_ns();
                let (now_ns, (behind, ahead)) = (self.now_ns(), (&mut self.1, &mut self.2));
                *behind = wall_ns.saturating_sub(now_ns).max(*behind);
                *ahead = now_ns.saturating_sub(wall_ns).max(*ahead);
                exit
            }
            fn set_ratio(&mut self, ns_num: u64, ns_den: u64) {
                self.0.set_ratio(ns_num, ns_den);
            }
            fn pass(&mut self, ns: u64) {
                self.0.pass(ns);
            }
        }
        let host = Simulated::default();
        let mut guest = Watched(Busy::new(host.clone(), 99), 0, 0);
        let mut pacer = Pacer::new(host.clone(), 0);
        while host.now_ns() < 10_000_000_000 {
            pacer.run(&mut guest, FOR_EVER);
        }
        let Watched(_, behind_ns, ahead_ns) = guest;
        assert!(behind_ns < 5_000_000, "{behind_ns} ns behind");
        assert!(ahead_ns < 1_000_000, "{ahead_ns} ns ahead");
    }

    #[test]
    fn a_host_that_slept_is_not_caught_up_with() {
        let host = Simulated::default();
        let mut guest = Busy::new(host.clone(), 1);
        let mut pacer = Pacer::new(host.clone(), 0);
        pacer.run(&mut guest, FOR_EVER);
        host.0.set(host.0.get() + 3600e9);
        let before_ns = guest.now_ns();
        pacer.run(&mut guest, FOR_EVER);
        assert!(guest.now_ns() - before_ns < 10_000_000);
    }

    #[test]
    fn a_restored_machine_goes_on_at_its_own_time() {
        let host = Simulated::default();
        let pacer = Pacer::new(host.clone(), 77_000_000_000);
        assert_eq!(pacer.wall_ns(), 77_000_000_000);
        host.0.set(1e6);
        assert_eq!(pacer.wall_ns(), 77_001_000_000);
        assert_eq!(pacer.until(77_002_000_000), Duration::from_millis(1));
    }
}
