//! The machine: processors on a bus, run in slices of virtual time.
//!
//! [`Machine`] schedules the processors, fires the devices' timers and says why a run ended; [`Journal`]
//! keeps what came in from outside, stamped with the instruction count; [`boot`] tells images apart and
//! puts kernels into memory.
//!
//! # Architecture invariant
//! Nothing here reads a wall clock, the environment or randomness, or iterates a hash map: two machines
//! that were built alike and got the same journal have the same [`Machine::state_hash`].
#![forbid(unsafe_code)]

pub mod boot;
pub mod journal;
pub mod machine;
pub mod saved;
pub mod state;

pub use journal::{Event, Journal, Stamped};
pub use machine::{Exit, Leap, Limit, Machine, MachineConfig, Pacing, Preload};
pub use state::{Component, MachineState, RestoreError};
