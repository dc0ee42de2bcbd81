//! What came into a machine from outside, and when.

use platform::Key;
use serde::{Deserialize, Serialize};

/// One thing that came from outside of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A key went down or up.
    Key {
        /// Which key.
        key: Key,
        /// Down.
        pressed: bool,
    },
    /// Bytes arrived at a serial port.
    Serial {
        /// Which port, 0 = COM1.
        port: u8,
        /// What arrived.
        bytes: Vec<u8>,
    },
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

/// All external input of a run, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    entries: Vec<Stamped>,
    #[serde(skip)]
    off: bool,
}

impl Journal {
    /// A journal that keeps nothing: a machine that follows the wall adds thousands of entries a second.
    pub fn off() -> Self {
        Self {
            entries: Vec::new(),
            off: true,
        }
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[Stamped] {
        &self.entries
    }

    pub(crate) fn record(&mut self, retired: u64, now_ns: u64, event: Event) {
        if !self.off {
            self.entries.push(Stamped {
                retired,
                now_ns,
                event,
            });
        }
    }
}
