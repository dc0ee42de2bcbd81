//! The 256 bytes of configuration space of a PCI function.
//!
//! Source: PCI Local Bus Specification 3.0, chapter 6.

use platform::DeviceCtx;

/// The size of a function's configuration space.
pub const BYTES: usize = 256;

/// Configuration registers, with the bits that software may change.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; BYTES],
    writable: [u8; BYTES],
    clearable: [u8; BYTES],
    power_on: [u8; BYTES],
}

impl ConfigSpace {
    /// The space of a function with these identifiers; nothing in it can be written yet.
    /// `class` is base class, sub-class and programming interface, as in `0x06_01_00`.
    pub fn new(vendor: u16, device: u16, class: u32, revision: u8) -> Self {
        let space = Self {
            bytes: [0; BYTES],
            writable: [0; BYTES],
            clearable: [0; BYTES],
            power_on: [0; BYTES],
        };
        space
            .with(0x00, &vendor.to_le_bytes())
            .with(0x02, &device.to_le_bytes())
            .with(0x08, &[revision])
            .with(0x09, &class.to_le_bytes()[..3])
    }

    /// Gives registers their power-on values.
    pub fn with(mut self, offset: u8, values: &[u8]) -> Self {
        let start = usize::from(offset);
        self.bytes[start..start + values.len()].copy_from_slice(values);
        self.power_on = self.bytes;
        self
    }

    /// Lets software write the bits that are set in `masks`.
    pub fn writable(mut self, offset: u8, masks: &[u8]) -> Self {
        let start = usize::from(offset);
        self.writable[start..start + masks.len()].copy_from_slice(masks);
        self
    }

    /// Lets software clear the bits that are set in `masks` by writing ones.
    pub fn clearable(mut self, offset: u8, masks: &[u8]) -> Self {
        let start = usize::from(offset);
        self.clearable[start..start + masks.len()].copy_from_slice(masks);
        self
    }

    /// One register byte.
    pub fn byte(&self, offset: u8) -> u8 {
        self.bytes[usize::from(offset)]
    }

    /// Changes a register from the function's side, past the masks.
    pub fn set(&mut self, offset: u8, value: u8) {
        self.bytes[usize::from(offset)] = value;
    }

    /// A write by software.
    pub fn write(&mut self, offset: u8, value: u8) {
        let at = usize::from(offset);
        let kept = self.bytes[at] & !self.writable[at] & !(value & self.clearable[at]);
        self.bytes[at] = kept | value & self.writable[at];
    }

    /// Returns to the power-on values.
    pub fn reset(&mut self) {
        self.bytes = self.power_on;
    }

    /// All registers, for saving.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes saved registers over.
    pub fn restore(&mut self, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().zip(bytes) {
            *to = *from;
        }
    }
}

/// A function of a PCI device, as configuration cycles see it.
pub trait PciFunction: Send {
    /// Its registers.
    fn config(&self) -> &ConfigSpace;

    /// Its registers, for writing.
    fn config_mut(&mut self) -> &mut ConfigSpace;

    /// Registers were written, reset, or a wire that the board connected has changed: act on it.
    fn update(&mut self, _ctx: &mut DeviceCtx<'_>) {}
}

/// A function that is nothing but its registers.
impl PciFunction for ConfigSpace {
    fn config(&self) -> &ConfigSpace {
        self
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_changes_only_what_the_masks_allow() {
        let mut space = ConfigSpace::new(0x8086, 0x1237, 0x06_00_00, 2)
            .with(0x06, &[0x80, 0x22])
            .writable(0x04, &[0x40])
            .clearable(0x07, &[0x20]);
        for offset in 0..=255 {
            space.write(offset, 0xFF);
        }
        assert_eq!(space.bytes()[..4], [0x86, 0x80, 0x37, 0x12]);
        assert_eq!(space.bytes()[4..8], [0x40, 0x00, 0x80, 0x02]);
        assert_eq!(space.bytes()[8..12], [0x02, 0x00, 0x00, 0x06]);
        space.reset();
        assert_eq!(space.bytes()[4..8], [0x00, 0x00, 0x80, 0x22]);
    }
}
