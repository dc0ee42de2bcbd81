//! The floppy disk drives and their controller.

pub mod i82077;
mod media;

pub use i82077::I82077;
pub use media::drive_type;
