//! Work that must not keep anybody.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often somebody who waits looks at whether to give up.
const LOOK: Duration = Duration::from_millis(10);

/// Does `work` on a thread of its own, and waits for it until `give_up`.
///
/// `None` if it was given up, or the host has no thread: a thread that was given up goes on until
/// the process ends.
pub fn unless<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    mut give_up: impl FnMut() -> bool,
) -> Option<T> {
    let (sender, done) = channel();
    let worker = std::thread::Builder::new().spawn(move || {
        let _ = sender.send(work());
    });
    worker.ok()?;
    loop {
        match done.recv_timeout(LOOK) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if give_up() => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_waited_for_unless_it_is_given_up() {
        assert_eq!(unless(|| 7, || false), Some(7));
        let (keep, stuck) = channel::<()>();
        assert_eq!(unless(move || stuck.recv(), || true), None);
        drop(keep);
    }
}
