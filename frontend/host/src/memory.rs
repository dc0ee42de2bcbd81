//! The host's memory.

/// The memory that the host could give now, in bytes, where it says so.
pub fn available_bytes() -> Option<u64> {
    // Only Linux has the file: elsewhere the answer is that nothing is known.
    meminfo_available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// MemAvailable of Linux's `/proc/meminfo` (proc_meminfo(5)).
fn meminfo_available(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_as_linux_says_it() {
        let text = "MemTotal:  2048 kB\nMemFree:  4 kB\nMemAvailable:     1024 kB\n";
        assert_eq!(meminfo_available(text), Some(1 << 20));
        assert_eq!(meminfo_available("MemTotal: 2048 kB\n"), None);
        assert_eq!(meminfo_available("MemAvailable: many kB\n"), None);
    }
}
