//! The terminal in raw mode, and back.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::style::ResetColor;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::threads;

/// How long a terminal may take to go back to its own screen.
const PATIENCE: Duration = Duration::from_millis(100);

// A process has one terminal.
static RAW: AtomicBool = AtomicBool::new(false);
static ALTERNATE: AtomicBool = AtomicBool::new(false);

/// The terminal in raw mode, for as long as this lives.
pub struct RawTerminal;

impl RawTerminal {
    /// Switches to raw mode; `alternate`: on a screen of its own.
    ///
    /// # Errors
    /// A host failure.
    pub fn enter(alternate: bool) -> io::Result<Self> {
        enable_raw_mode()?;
        RAW.store(true, Ordering::SeqCst);
        let raw = Self;
        if alternate {
            execute!(io::stdout(), EnterAlternateScreen, Hide)?;
            ALTERNATE.store(true, Ordering::SeqCst);
        }
        Ok(raw)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was: on every way out, panics and signals among them.
pub fn restore() {
    if RAW.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
    }
    if ALTERNATE.swap(false, Ordering::SeqCst) {
        // A terminal that is stopped, with a painter stuck in it, keeps nobody here.
        let begun = Instant::now();
        let leave = || {
            let _ = execute!(io::stdout(), ResetColor, LeaveAlternateScreen, Show);
        };
        threads::unless(leave, || begun.elapsed() > PATIENCE);
    }
}
