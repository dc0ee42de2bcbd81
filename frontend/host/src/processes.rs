//! Processes that outlive who started them.

use std::io;

/// Makes this process the first of a session of its own: no terminal's end or Ctrl-C reaches it any more. Elsewhere
/// than on Unix nothing happens.
pub fn leave_session() {
    #[cfg(target_os = "linux")]
    {
        // Fails for the first process of a group alone, which is no terminal's either then.
        let _ = rustix::process::setsid();
    }
}

/// Ends the process `pid` at once, whatever it does.
///
/// # Errors
/// There is none, it is somebody else's, or the host has no such call.
pub fn kill(pid: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(kill_process(pid, Signal::KILL)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What tells one start of the host from the next, where the host says so.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// The time that a process has had on the host's processors, in seconds, where the host says so.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

/// The time that this process has had on the host's processors, where the host says so.
pub fn own_cpu_time() -> Option<std::time::Duration> {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(std::time::Duration::new(
            time.tv_sec as u64,
            time.tv_nsec as u32,
        ))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// The host's memory that a process holds, in bytes, where the host says so.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
