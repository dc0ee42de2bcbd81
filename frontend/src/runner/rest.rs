//! How a machine sleeps that nobody wants anything of.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Session, Shown};
use crate::typing::Typist;

/// How long a machine that rests sleeps beyond its timers, in nanoseconds.
pub(super) const SLACK_NS: u64 = 200_000_000;
/// For so long it must have had little to do, and nobody may have wanted anything of it.
const RESTS_AFTER: Duration = Duration::from_secs(2);

/// Whether a machine rests: it had little to do lately, nobody looks at it and nothing came from
/// outside. Such a one need not wake for each of its timers, which a guest may have hundreds of a
/// second.
pub(super) struct Rest {
    since: Instant,
    slept: Duration,
    is_calm: bool,
    disturbed: Instant,
}

impl Rest {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            slept: Duration::ZERO,
            is_calm: false,
            disturbed: now,
        }
    }

    pub(super) fn slept(&mut self, begun: Instant, duration: Duration) {
        self.slept += duration;
        let all = begun + duration - self.since;
        if all >= RESTS_AFTER / 2 {
            self.is_calm = self.slept >= all * 4 / 5;
            (self.since, self.slept) = (begun + duration, Duration::ZERO);
        }
    }

    pub(super) fn disturbed(&mut self) {
        self.disturbed = Instant::now();
    }

    pub(super) fn is_deep(&self, session: &Session, typist: &Typist) -> bool {
        let is_watched = |shown: &Arc<Shown>| shown.watchers.load(Ordering::Relaxed) > 0;
        self.is_calm
            && self.disturbed.elapsed() >= RESTS_AFTER
            && !session.shown.as_ref().is_some_and(is_watched)
            && !session.link.as_ref().is_some_and(net::Link::owes)
            && session.speakers.is_none()
            && !session.script.wants_screen()
            && typist.is_idle()
            && self.since.elapsed() < RESTS_AFTER
    }
}
