//! Keyboard, mouse and their controller.

pub mod i8042;
pub(crate) mod keymap;
pub mod ps2_keyboard;
pub mod ps2_mouse;
pub mod vmmouse;

pub use i8042::I8042;
pub use ps2_keyboard::Ps2Keyboard;
pub use ps2_mouse::Ps2Mouse;
pub use vmmouse::VmMouse;
