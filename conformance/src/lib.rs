//! Proofs of the processor against hardware.
//!
//! [`moo`] and [`json`] read files of hardware-captured test vectors, [`metadata`] what lies beside
//! them; [`vectors`] runs them, and [`deviations`] says what is not compared. [`oracle`] runs
//! random instructions ([`generate`], of [`random`] numbers) on the interpreter and on the host's own processor
//! ([`native`]) and compares ([`undefined`] says what not).

pub mod deviations;
pub mod generate;
pub mod json;
pub mod metadata;
pub mod moo;
#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux")),
    path = "native_absent.rs"
)]
pub mod native;
pub mod oracle;
pub mod random;
pub mod state;
pub(crate) mod steering;
pub mod undefined;
pub mod vectors;
