//! Ends a run whatever blocks.
//!
//! A signal and the timeout end a run at its next slice border, in an orderly way. Yet a border may
//! not come: an image on a host that does not answer, standard error in a pipe that nobody reads.
//! So a thread that waits for nobody keeps the time, and ends the process where the run does not
//! end by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::outlet;
use crate::report::{Cause, End};
use crate::runner::{Control, Stop};

/// How long a run that is to end may take to its next slice border, on a busy host.
const BORDER: Duration = Duration::from_secs(2);
/// How long it may take from there to the end of the process once a signal came: disks are flushed,
/// a report is written.
const FINISH: Duration = Duration::from_secs(10);
/// How long after a signal a report waits for a reader, and how long in any case.
const READER: Duration = Duration::from_millis(100);
const LEAST: Duration = Duration::from_millis(20);
/// The same after a timeout, and with a limit of instructions only: see the runner.
const TIMED_OUT_READER: Duration = Duration::from_secs(1);
const STALLED_READER: Duration = Duration::from_secs(5);
/// How often the time is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The signals and the timeout of a run.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    started: Instant,
    timeout: Option<Duration>,
    /// When the first signal came.
    interrupted: Mutex<Option<Instant>>,
    /// Who runs the machine, once it is there.
    control: Mutex<Option<Sender<Control>>>,
    over: AtomicBool,
}

impl Guard {
    /// Takes over the signals, and watches the timeout.
    pub fn start(timeout: Option<Duration>) -> Self {
        let guard = Self(Arc::new(Watched {
            started: Instant::now(),
            timeout,
            interrupted: Mutex::new(None),
            control: Mutex::new(None),
            over: AtomicBool::new(false),
        }));
        let watched = Arc::clone(&guard.0);
        if let Err(error) = host::signals::on_interrupt(move || watched.signal()) {
            log::warn!(target: "glassbox", "signals are not handled: {error}");
        }
        let watched = Arc::clone(&guard.0);
        let watch = move || {
            loop {
                std::thread::sleep(LOOK);
                if let Some(cause) = watched.overdue() {
                    leave(cause);
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().spawn(watch) {
            log::warn!(target: "glassbox", "no thread to watch the timeout: {error}");
        }
        guard
    }

    /// From now on a signal goes to the machine first.
    pub fn tell(&self, control: &Sender<Control>) {
        *lock(&self.0.control) = Some(control.clone());
    }

    /// The machine has stopped, by itself or not.
    pub fn run_is_over(&self) {
        self.0.over.store(true, Ordering::Release);
    }

    /// Says when to give up a reader of a report or a screenshot.
    pub fn patience(&self, instructions_limited: bool) -> impl FnMut() -> bool {
        let (watched, begun) = (Arc::clone(&self.0), Instant::now());
        move || {
            let waited = begun.elapsed();
            let timed_out = watched.timed_out_for().is_some();
            let interrupted = watched.interrupted();
            interrupted.is_some_and(|at| at.elapsed() >= READER) && waited >= LEAST
                || timed_out && waited >= TIMED_OUT_READER
                || instructions_limited && watched.timeout.is_none() && waited >= STALLED_READER
        }
    }
}

impl Watched {
    /// The first signal ends the run, with its report; the second ends the process, and so does the first one where no
    /// machine runs yet.
    fn signal(&self) {
        let again = lock(&self.interrupted).replace(Instant::now()).is_some();
        match &*lock(&self.control) {
            Some(control) if !again => {
                let _ = control.send(Control::Stop(Stop::Interrupted));
            }
            _ => leave(Cause::Interrupted),
        }
    }

    fn interrupted(&self) -> Option<Instant> {
        *lock(&self.interrupted)
    }

    fn timed_out_for(&self) -> Option<Duration> {
        self.started.elapsed().checked_sub(self.timeout?)
    }

    /// Why the process should have ended by itself by now.
    fn overdue(&self) -> Option<Cause> {
        let over = self.over.load(Ordering::Acquire);
        let most = if over { FINISH } else { BORDER };
        if self.interrupted().is_some_and(|at| at.elapsed() >= most) {
            Some(Cause::Interrupted)
        } else if !over && self.timed_out_for().is_some_and(|late| late >= BORDER) {
            Some(Cause::Timeout)
        } else {
            None
        }
    }
}

/// Ends the process where it stands.
fn leave(cause: Cause) -> ! {
    host::terminal::restore();
    outlet::say(match cause {
        Cause::Timeout => "glassbox: timeout; the host did not let the run end in order",
        _ => "glassbox: interrupted",
    });
    std::process::exit(End { cause, value: 0 }.status().into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(timeout: Option<Duration>, ago: Duration) -> Watched {
        Watched {
            started: Instant::now().checked_sub(ago).unwrap(),
            timeout,
            interrupted: Mutex::new(None),
            control: Mutex::new(None),
            over: AtomicBool::new(false),
        }
    }

    #[test]
    fn a_run_that_does_not_end_is_overdue() {
        let second = Duration::from_secs(1);
        assert_eq!(watched(None, BORDER).overdue(), None);
        assert_eq!(watched(Some(second), BORDER).overdue(), None);
        let late = watched(Some(second), BORDER + second);
        assert_eq!(late.overdue(), Some(Cause::Timeout));
        late.over.store(true, Ordering::Release);
        assert_eq!(
            late.overdue(),
            None,
            "its end may take longer: a hash, a report"
        );
        *lock(&late.interrupted) = Instant::now().checked_sub(BORDER);
        assert_eq!(late.overdue(), None);
        *lock(&late.interrupted) = Instant::now().checked_sub(FINISH);
        assert_eq!(late.overdue(), Some(Cause::Interrupted));
    }
}
