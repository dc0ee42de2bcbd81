//! What came into a machine from outside, and when.

use platform::Input;
use serde::{Deserialize, Serialize};

/// One thing that came from outside of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Something came to a device: a key, the mouse, serial bytes, the power button.
    Input {
        /// The device's instance name.
        device: String,
        /// What came.
        input: Input,
    },
    /// Somebody pressed the reset button.
    Reset,
    /// The host slept for the idle processors: so much virtual time passed.
    Idle {
        /// How much, in nanoseconds.
        ns: u64,
    },
    /// The ratio of time to instructions was changed to follow the wall clock.
    Ratio {
        /// Nanoseconds...
        ns_num: u64,
        /// ...per so many instructions.
        ns_den: u64,
    },
    /// The medium of a drive was changed.
    Medium {
        /// The instance name of the device that has the drive.
        device: String,
        /// The drive.
        unit: u8,
        /// Another one is in there now. What is on it the journal does not hold.
        inserted: bool,
    },
}

impl Event {
    /// Bytes of memory that it has beside itself.
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Input { device, input } => match input {
                Input::Serial { bytes, .. } | Input::Frame(bytes) => device.len() + bytes.len(),
                _ => device.len(),
            },
            Self::Medium { device, .. } => device.len(),
            _ => 0,
        }
    }
}

/// An [`Event`] with its place in the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// Instructions retired when it came.
    pub retired: u64,
    /// The virtual time when it came; while the processors idle, only time tells two events apart.
    pub now_ns: u64,
    /// What came.
    pub event: Event,
}

/// All external input of a run, in order, where somebody wants it kept.
///
/// A machine that follows the wall adds thousands of entries a second, so what is kept is bounded:
/// beyond the bound it is given up whole, as a part leads nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    entries: Vec<Stamped>,
    /// How much is kept: bytes of memory, 0 for nothing.
    most_bytes: usize,
    bytes: usize,
    given_up: bool,
}

impl Journal {
    /// A journal that is kept up to so many bytes of memory.
    pub fn of(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            ..Self::default()
        }
    }

    /// The entries, oldest first; `None` if nobody wanted them or they became too many.
    pub fn entries(&self) -> Option<&[Stamped]> {
        (self.most_bytes > 0 && !self.given_up).then_some(&self.entries)
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        *self = Self::of(self.most_bytes);
    }

    /// Notes what `event` makes, if it is wanted.
    pub(crate) fn record(&mut self, retired: u64, now_ns: u64, event: impl FnOnce() -> Event) {
        if self.most_bytes == 0 || self.given_up {
            return;
        }
        let event = event();
        self.bytes += size_of::<Stamped>() + event.heap_bytes();
        if self.bytes > self.most_bytes {
            self.given_up = true;
            self.entries = Vec::new();
            return;
        }
        self.entries.push(Stamped {
            retired,
            now_ns,
            event,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_kept_where_it_is_wanted_and_never_grows_beyond_its_bound() {
        let record = |journal: &mut Journal| journal.record(1, 1, || Event::Idle { ns: 1 });
        let mut unwanted = Journal::default();
        record(&mut unwanted);
        assert_eq!(unwanted.entries(), None);
        let mut journal = Journal::of(100 * size_of::<Stamped>());
        (0..100).for_each(|_| record(&mut journal));
        assert_eq!(journal.entries().map(<[_]>::len), Some(100));
        record(&mut journal);
        assert_eq!(journal.entries(), None);
        journal.clear();
        assert_eq!(journal.entries(), Some(&[][..]));
    }
}
