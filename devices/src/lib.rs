//! One chip a file, and the board that joins them.
#![forbid(unsafe_code)]

pub mod dma;
pub mod floppy;
pub mod ide;
pub mod vga;
