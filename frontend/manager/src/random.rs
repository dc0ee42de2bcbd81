//! Numbers that nobody can guess.

/// Bytes of the host's.
///
/// # Panics
/// The host has none.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the host has random numbers");
    bytes
}

/// As many bytes in hexadecimal digits.
pub fn hex<const N: usize>() -> String {
    bytes::<N>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
