//! Many machines.
//!
//! [`Home`] is the folder with all of them, [`Machine`] one of them. A machine that runs is a process of its own, which
//! this crate starts and then reaches by its control socket, so that whoever uses the crate, a command or the console,
//! may end at any time. What state a machine is in follows from locks and files; nothing keeps it apart.
//!
//! | file | what |
//! |---|---|
//! | `home.rs` | the folder, names |
//! | `machine.rs` | a machine's folder and state, who works on it |
//! | `config.rs` | `machine.toml` |
//! | `tree.rs`, `layers.rs`, `snapshots.rs` | snapshots, and the files that disks are made of |
//! | `process.rs` | start, stop and what else the process is told |
//! | `catalogue.rs`, `download.rs` | systems to start from, fetched and verified |
//! | `images.rs` | images that machines start from |
//! | `media.rs` | what is in the drives |
//! | `order.rs` | what somebody wants, and where that comes from |
//! | `create.rs`, `seed.rs`, `iso.rs` | new machines, copies, changes of the hardware |
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod config;
pub mod create;
pub mod download;
pub mod error;
pub mod home;
pub mod images;
mod iso;
pub mod layers;
pub mod machine;
pub mod media;
pub mod order;
pub mod process;
pub mod random;
pub mod seed;
pub mod snapshots;
pub mod tree;

pub use error::{Code, Error, Result};
pub use home::Home;
pub use machine::{Machine, State, Summary};
