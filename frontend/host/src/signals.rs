//! What ends a program from outside: Ctrl-C, and on Unix SIGTERM and SIGHUP.

use std::io;

/// Calls `act` on a thread of its own each time such a signal comes, which then does nothing else.
///
/// # Errors
/// The host refuses, or somebody has asked for them already.
pub fn on_interrupt(act: impl FnMut() + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(act).map_err(io::Error::other)
}
