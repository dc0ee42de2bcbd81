//! Disk images in files.
//!
//! [`Opener::open`] is the one door: it refuses what is no file, looks at the content
//! ([`recognise()`]), refuses by name what is not supported, so that a guest's writes never destroy
//! another program's file, and yields a [`Image`]. A format that is read or written one day is a file
//! of its own beside [`raw`], and a line in [`Format::is_sectors`].
//!
//! | file | what |
//! |---|---|
//! | `recognise.rs` | what a file is, by its first and last bytes |
//! | `advice.rs` | the command that makes something useful of a refused file |
//! | `floppy.rs` | which medium an image of any size is put on, and where floppies end and disks begin |
//! | `raw.rs` | sectors in a file |
//! | `qcow2/` | QEMU's format |
//! | `blocks.rs`, `vdi.rs`, `vhd.rs`, `vmdk.rs` | VirtualBox's, Virtual PC's and VMware's |
//! | `disk.rs` | what is done with images while no machine has them |
//! | `overlay.rs` | writes that leave what they lie over alone |
//! | `open.rs` | opens files and locks them |
//! | `shared.rs` | a disk that its machine and whoever saves the machine hold |
#![forbid(unsafe_code)]

mod advice;
mod blocks;
mod bytes;
pub mod disk;
mod error;
pub mod floppy;
mod open;
pub mod overlay;
pub mod qcow2;
pub mod raw;
mod recognise;
mod shared;
mod vdi;
mod vhd;
mod vmdk;

pub use error::Error;
pub use open::{
    Access, Below, Content, Image, Medium, Opened, Opener, Purpose, Request, look, read_whole,
};
pub use overlay::Overlay;
pub use qcow2::Qcow2;
pub use raw::Raw;
pub use recognise::{Format, HEAD_BYTES, Kind, TAIL_BYTES, recognise};
pub use shared::Shared;
