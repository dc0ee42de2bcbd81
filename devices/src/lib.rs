//! One chip a file, and the board that joins them.
#![forbid(unsafe_code)]

pub mod boards;
pub mod dma;
pub mod flash;
pub mod floppy;
pub mod ide;
pub mod input;
pub mod irq;
pub mod net;
pub mod pci;
pub mod power;
pub mod qemu;
pub mod sound;
pub mod time;
pub mod uart;
pub mod vga;
pub mod virtio;
