//! Runs seeded cases on all cores, and says which seed failed.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A case that runs for so long hangs. It takes milliseconds; the rest is for a busy host.
const HANGS_AFTER: Duration = Duration::from_secs(120);
/// After so many failures the picture is clear.
const MOST_FAILURES: usize = 5;

/// Runs `case` for the seeds below `count`, or as the environment says.
pub fn for_each_seed(name: &str, count: u64, case: impl Fn(u64) + Sync) {
    if let Some(seed) = number("GLASSBOX_SEED") {
        return case(seed);
    }
    let soak = number("GLASSBOX_SOAK").map(|minutes| Duration::from_secs(minutes * 60));
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let failures: Mutex<Vec<u64>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let running: Vec<Mutex<Option<(u64, Instant)>>> =
        (0..workers).map(|_| Mutex::default()).collect();
    let work = |slot: &Mutex<Option<(u64, Instant)>>| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let enough = seed >= count && soak.is_none_or(|soak| started.elapsed() > soak);
            if enough || failures.lock().unwrap().len() >= MOST_FAILURES {
                return;
            }
            *slot.lock().unwrap() = Some((seed, Instant::now()));
            if catch_unwind(AssertUnwindSafe(|| case(seed))).is_err() {
                say(&format!("{name}: failed with GLASSBOX_SEED={seed}"));
                failures.lock().unwrap().push(seed);
            }
            *slot.lock().unwrap() = None;
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = running
            .iter()
            .map(|slot| scope.spawn(|| work(slot)))
            .collect();
        let watch = scope.spawn(|| watch(name, &running, &over));
        for worker in workers {
            worker.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        watch.thread().unpark();
    });
    say(&format!(
        "{name}: {} cases in {:.1} s",
        done.into_inner(),
        started.elapsed().as_secs_f64()
    ));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{name}: seeds {failures:?}");
}

/// A thread that hangs cannot be ended: says which seed it is and ends the process.
fn watch(name: &str, running: &[Mutex<Option<(u64, Instant)>>], over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_secs(1));
        for slot in running {
            if let Some((seed, since)) = *slot.lock().unwrap()
                && since.elapsed() > HANGS_AFTER
            {
                say(&format!("{name}: hangs with GLASSBOX_SEED={seed}"));
                std::process::abort();
            }
        }
    }
}

/// Speaks past the test harness, which keeps the output of a test that passes or hangs.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
