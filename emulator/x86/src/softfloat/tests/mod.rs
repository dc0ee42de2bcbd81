//! Tests. On an x86-64 host the host's own processor is the oracle, bit for bit and flag for flag.
//!
//! `GLASSBOX_ORACLE_CASES` sets how many operand tuples each operation is tried with.

mod rng;

#[cfg(target_arch = "x86_64")]
mod native;
#[cfg(target_arch = "x86_64")]
mod reference;
#[cfg(target_arch = "x86_64")]
mod sse_oracle;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod sse_unmasked;
#[cfg(target_arch = "x86_64")]
mod trans_oracle;
#[cfg(target_arch = "x86_64")]
mod x87_oracle;

/// How many operand tuples an oracle test tries; `default` keeps the whole suite within seconds.
#[cfg(target_arch = "x86_64")]
fn cases(default: u64) -> u64 {
    std::env::var("GLASSBOX_ORACLE_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
