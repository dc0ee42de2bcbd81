//! Flash memory.

mod cfi;

pub use cfi::{CfiFlash, FlashImage};
