//! Standard output, for a thread that may get stuck in writing to it.

use std::io::{self, Write};

/// Standard output without its buffer and its lock, where the host has that: a thread that is stuck
/// in a write must not hold them.
///
/// # Errors
/// Standard output is closed, or there are too many open files.
pub fn unlocked_stdout() -> io::Result<Box<dyn Write>> {
    stdout::unlocked()
}

/// Whether standard output is a file on a disk, so that nobody reads it who could stop. False where
/// the host cannot tell.
pub fn is_stdout_on_disk() -> bool {
    stdout::is_on_disk()
}

#[cfg(unix)]
mod stdout {
    use std::fs::File;
    use std::io::{self, Write};
    use std::os::fd::AsFd;

    pub(super) fn unlocked() -> io::Result<Box<dyn Write>> {
        Ok(Box::new(copy()?))
    }

    pub(super) fn is_on_disk() -> bool {
        let metadata = copy().and_then(|file| file.metadata());
        metadata.is_ok_and(|metadata| metadata.is_file())
    }

    fn copy() -> io::Result<File> {
        let copy = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(File::from(copy))
    }
}

#[cfg(not(unix))]
mod stdout {
    use std::io::{self, Write};

    pub(super) fn unlocked() -> io::Result<Box<dyn Write>> {
        Ok(Box::new(io::stdout()))
    }

    pub(super) fn is_on_disk() -> bool {
        false
    }
}
