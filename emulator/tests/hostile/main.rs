//! Guests that mean harm: no panic and no endless run is reachable from inside of a machine.
//!
//! Everything here is random but seeded, so that each run tests the same. A failure names its seed:
//! `GLASSBOX_SEED=n cargo test -p emulator --test hostile NAME` runs that one alone, and
//! `GLASSBOX_SOAK=minutes` goes on with new seeds for so long in each test.

mod accesses;
mod bounds;
mod guests;
mod kernels;
mod machines;
mod program;
mod saves;
mod seeds;
