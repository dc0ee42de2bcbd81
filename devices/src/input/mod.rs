//! Keyboard, mouse and their controller.

pub mod i8042;
mod keymap;
pub mod ps2_keyboard;
pub mod ps2_mouse;

pub use i8042::I8042;
pub use ps2_keyboard::Ps2Keyboard;
pub use ps2_mouse::Ps2Mouse;
