//! Port ranges that move while the machine runs, as PCI base address registers have them.

use serde::{Deserialize, Serialize};

/// A range of ports that the board declared movable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortWindow(pub u8);

/// Where each window is at present. Part of a machine's state, as its wires are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortWindows {
    bases: Vec<Option<u16>>,
}

impl PortWindows {
    /// Declares one more window, which is nowhere yet.
    pub(crate) fn add(&mut self) -> PortWindow {
        self.bases.push(None);
        PortWindow(u8::try_from(self.bases.len() - 1).expect("a board has few port windows"))
    }

    /// Puts `window` at `base`, or nowhere. Ignores a window that the board has not.
    pub fn set(&mut self, window: PortWindow, base: Option<u16>) {
        if let Some(at) = self.bases.get_mut(usize::from(window.0)) {
            *at = base;
        }
    }

    /// The first port of the window, if it is anywhere.
    pub fn base(&self, window: PortWindow) -> Option<u16> {
        *self.bases.get(usize::from(window.0))?
    }
}
