//! Ranges of ports and of physical addresses that move while the machine runs, as PCI base address registers have them.

/// A range of ports that the board declared movable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortWindow(pub u8);

/// A range of physical addresses that the board declared movable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryWindow(pub u8);

/// Where each window is at present. Part of a machine's state, as its wires are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    ports: Vec<Option<u16>>,
    memory: Vec<Option<u64>>,
}

impl Windows {
    /// Declares one more window of ports, which is nowhere yet.
    pub(crate) fn add_ports(&mut self) -> PortWindow {
        self.ports.push(None);
        PortWindow(u8::try_from(self.ports.len() - 1).expect("a board has few windows"))
    }

    /// Declares one more window of addresses, which is nowhere yet.
    pub(crate) fn add_memory(&mut self) -> MemoryWindow {
        self.memory.push(None);
        MemoryWindow(u8::try_from(self.memory.len() - 1).expect("a board has few windows"))
    }

    /// Puts `window` at `base`, or nowhere. Ignores a window that the board has not.
    pub fn set_ports(&mut self, window: PortWindow, base: Option<u16>) {
        if let Some(at) = self.ports.get_mut(usize::from(window.0)) {
            *at = base;
        }
    }

    /// Puts `window` at `base`, or nowhere. Ignores a window that the board has not.
    pub fn set_memory(&mut self, window: MemoryWindow, base: Option<u64>) {
        if let Some(at) = self.memory.get_mut(usize::from(window.0)) {
            *at = base;
        }
    }

    /// The first port of the window, if it is anywhere.
    pub fn port_base(&self, window: PortWindow) -> Option<u16> {
        *self.ports.get(usize::from(window.0))?
    }

    /// The first address of the window, if it is anywhere.
    pub fn memory_base(&self, window: MemoryWindow) -> Option<u64> {
        *self.memory.get(usize::from(window.0))?
    }
}
