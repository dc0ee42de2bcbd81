//! The x86 processor: state, decoder, semantics, MMU, block cache and interpreter.

pub mod softfloat;
