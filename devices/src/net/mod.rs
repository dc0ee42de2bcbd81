//! Network cards. Frames leave a card as [`Said::Frame`](platform::Said::Frame) and come to it as
//! [`Input::Frame`](platform::Input::Frame), without their checksum.

pub mod checksum;
pub mod e1000;
mod microwire;
pub mod ne2000;
pub mod rtl8139;

pub use e1000::E1000;
pub use ne2000::{Ne2000, Rtl8029};
pub use rtl8139::Rtl8139;

/// A hardware address.
pub type Mac = [u8; 6];

/// Bytes of the shortest frame, without its checksum (IEEE 802.3 §4.4.2).
pub const SHORTEST: usize = 60;
/// Bytes of a frame's checksum.
pub const FCS: usize = 4;

/// Goes to everybody.
pub const BROADCAST: Mac = [0xFF; 6];
