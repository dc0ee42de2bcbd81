//! Virtio devices on PCI. Of those that there were before version 1 the drivers of the legacy interface find them, too.
//!
//! Source: OASIS Virtual I/O Device (VIRTIO) Version 1.2, cited as virtio.
//!
//! | file | what |
//! |---|---|
//! | `pci.rs` | the PCI function: capabilities, the legacy ports, negotiation, interrupts |
//! | `common.rs` | the common configuration structure and its legacy form |
//! | `queue.rs` | the split virtqueue |
//! | `chain.rs` | chains of descriptors |
//! | `block.rs` | the block device |
//! | `entropy.rs` | the entropy device |
//! | `net.rs` | the network card |
//! | `input.rs` | keyboard and tablet |
//!
//! A device is a [`VirtioDevice`], which serves one chain of buffers at a time, in pieces. A notification only arms a
//! timer: what is served then, within bounds, takes virtual time, so that no ring, however made, holds the host up.
//! What a driver must not do ends in DEVICE_NEEDS_RESET.
//!
//! Not modelled: packed virtqueues, in-order use, notification data, reset of single queues, shared memory.

mod block;
mod chain;
mod common;
mod entropy;
mod input;
mod net;
mod pci;
mod queue;

pub use block::VirtioBlock;
pub use chain::Chain;
pub use entropy::VirtioEntropy;
pub use input::VirtioInput;
pub use net::VirtioNet;
pub use pci::{Job, Kind, Served, VirtioDevice, VirtioPci};
pub use queue::Broken;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod net_tests;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;
