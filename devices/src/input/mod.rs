//! Keyboard and its controller.

pub mod i8042;
mod keymap;
pub mod ps2_keyboard;

pub use i8042::I8042;
pub use ps2_keyboard::Ps2Keyboard;
