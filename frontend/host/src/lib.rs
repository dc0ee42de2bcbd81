//! Where host systems differ.
//!
//! Everything else is written against the standard library, and asks here for what that does not
//! have in one form for all hosts. What a host lacks has an answer that is right for it: no
//! FIFO, no number, no limit.
//!
//! | file | what | Unix | elsewhere |
//! |---|---|---|---|
//! | `files.rs` | what a file is, names from bytes | by the file's type; any bytes | a file; Unicode |
//! | `displays.rs` | where windows go | to a server that the environment names | to the system |
//! | `local.rs` | sockets between processes | Unix sockets | loopback ports |
//! | `loudspeakers.rs` | what plays sound | Linux: PulseAudio's protocol | none |
//! | `processes.rs` | a process that outlives who started it | sessions and signals | `std`'s |
//! | `memory.rs` | the memory that is free | Linux: `/proc/meminfo` | not known |
//! | `output.rs` | standard output that nobody can block | a copy of its descriptor | `std`'s, with a lock |
//! | `sandbox.rs` | giving up what is not needed | Linux: Landlock and seccomp | nothing happens |
//! | `signals.rs` | Ctrl-C and the like | SIGINT, SIGTERM, SIGHUP | what the `ctrlc` crate has |
//! | `sockets.rs` | name servers, who has a port | `/etc/resolv.conf`; Linux: `/proc` | not known |
//! | `terminal.rs` | raw mode, the screen of its own | by `crossterm` | by `crossterm` |
//! | `threads.rs` | work that must not keep anybody | threads | threads |
//!
//! Guest memory is mapped by `platform`, which has large pages on Linux only; the oracle of
//! `conformance` is for x86-64 Linux.
#![forbid(unsafe_code)]

pub mod displays;
pub mod files;
pub mod local;
pub mod loudspeakers;
pub mod memory;
pub mod output;
pub mod processes;
pub mod sandbox;
pub mod signals;
pub mod sockets;
pub mod terminal;
pub mod threads;
