//! Criterion benches and the side-by-side comparison with peers.
