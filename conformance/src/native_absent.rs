//! Stands in for the native oracle where the host is no x86-64 Linux.

use anyhow::{Result, bail};

use crate::state::{After, Case, Mode};

/// What no other host has.
pub enum Native {}

impl Native {
    /// Tells that there is none.
    ///
    /// # Errors
    /// Always.
    pub fn new() -> Result<Self> {
        bail!("the oracle needs a host processor to ask: it runs on x86-64 Linux only")
    }

    /// Whether cases of a mode can run.
    pub fn has(&self, _mode: Mode) -> bool {
        match *self {}
    }

    /// Whether the host is one of AMD's.
    pub fn is_amd(&self) -> bool {
        match *self {}
    }

    /// Zeroes the data pages.
    pub fn clear_data(&mut self) {
        match *self {}
    }

    /// Runs cases.
    pub fn run(&mut self, _cases: &[Case], _results: &mut [After]) {
        match *self {}
    }
}
