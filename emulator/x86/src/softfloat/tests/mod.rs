//! Tests. On an x86-64 host the host's own processor is the oracle, bit for bit and flag for flag.
//!
//! `GLASSBOX_ORACLE_CASES` sets how many operand tuples each operation is tried with. Where the manuals leave x87
//! results open we follow AMD processors, so on hosts of other makes the comparisons of x87 instructions are skipped.

pub(crate) mod rng;

#[cfg(target_arch = "x86_64")]
pub(crate) mod native;
mod reference;
#[cfg(target_arch = "x86_64")]
mod sse_oracle;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod sse_unmasked;
#[cfg(target_arch = "x86_64")]
mod trans_oracle;
#[cfg(target_arch = "x86_64")]
mod x87_oracle;

/// How many operand tuples a test tries; `default` keeps the whole suite within seconds.
fn cases(default: u64) -> u64 {
    std::env::var("GLASSBOX_ORACLE_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// The same for a comparison with the host's x87; none, with a message, where that is not AMD's.
#[cfg(target_arch = "x86_64")]
pub(crate) fn x87_cases(default: u64) -> u64 {
    if native::host_is_amd() {
        return cases(default);
    }
    println!("skipped: the host's processor is not AMD's, whose x87 this is compared with");
    0
}
