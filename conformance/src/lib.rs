//! Proofs of the processor against hardware.
//!
//! [`moo`] reads files of hardware-captured test vectors, [`vectors`] runs them.

pub mod moo;
pub mod vectors;
