//! The machine: scheduling, journal, snapshots.
