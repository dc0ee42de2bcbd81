//! The VGA's register file: what the ports read and write.

use serde::{Deserialize, Serialize};

use super::timing::Timing;

/// Bits of each sequencer register that exist.
const SEQUENCER_BITS: [u8; 5] = [0x03, 0x3D, 0x0F, 0x3F, 0x0E];
/// Bits of each graphics controller register that exist.
const GRAPHICS_BITS: [u8; 9] = [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF];
/// Bits of each attribute controller register that exist; the sixteen palette registers are the
/// first.
const ATTRIBUTE_BITS: [u8; 21] = [
    0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F,
    0xEF, 0xFF, 0x3F, 0x0F, 0x0F,
];
/// Bits of each CRT controller register that exist.
const CRTC_BITS: [u8; 25] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0x3F, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF,
    0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xEF, 0xFF,
];

/// CRTC 11h: registers 0 to 7 are write protected.
const CRTC_PROTECT: u8 = 0x80;
/// The attribute index's palette address source: 0 hands the palette to the processor and blanks
/// the screen.
const PALETTE_TO_SCREEN: u8 = 0x20;
/// Input status 0: the monitor's comparator answers, as a colour monitor does.
const SWITCH_SENSE: u8 = 0x10;

/// What the DAC's data port does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum DacMode {
    Write,
    Read,
}

/// All registers of the adapter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Registers {
    misc: u8,
    feature: u8,
    enabled: bool,
    sequencer_index: u8,
    pub(super) sequencer: [u8; 5],
    crtc_index: u8,
    pub(super) crtc: [u8; 25],
    graphics_index: u8,
    pub(super) graphics: [u8; 9],
    attribute_index: u8,
    /// The next write to 3C0 is data.
    attribute_data: bool,
    pub(super) attribute: [u8; 21],
    pub(super) dac_mask: u8,
    dac_mode: DacMode,
    dac_read_index: u8,
    dac_write_index: u8,
    dac_component: u8,
    dac_latch: [u8; 3],
    #[serde(with = "fixed")]
    dac: [u8; 768],
    /// The DAC has eight bits a component, not six: the Bochs display interface says so, which
    /// keeps it too.
    #[serde(skip)]
    pub(super) wide_dac: bool,
}

impl Registers {
    pub(super) fn new() -> Self {
        Self {
            misc: 0,
            feature: 0,
            enabled: true,
            sequencer_index: 0,
            sequencer: [0; 5],
            crtc_index: 0,
            crtc: [0; 25],
            graphics_index: 0,
            graphics: [0; 9],
            attribute_index: 0,
            attribute_data: false,
            attribute: [0; 21],
            dac_mask: 0xFF,
            dac_mode: DacMode::Write,
            dac_read_index: 0,
            dac_write_index: 0,
            dac_component: 0,
            dac_latch: [0; 3],
            dac: [0; 768],
            wide_dac: false,
        }
    }

    /// The colour of DAC entry `index`, 0x00RRGGBB.
    pub(super) fn colour(&self, index: u8) -> u32 {
        let entry = usize::from(index & self.dac_mask) * 3;
        self.dac[entry..entry + 3].iter().fold(0, |rgb, &part| {
            let part = match self.wide_dac {
                true => part,
                false => part << 2 | part >> 4 & 3,
            };
            rgb << 8 | u32::from(part)
        })
    }

    /// Whether a picture of the Bochs display interface is shown: the VGA's clocks do not matter to
    /// it.
    pub(super) fn lit(&self) -> bool {
        self.enabled
            && self.sequencer[1] & 0x20 == 0
            && self.attribute_index & PALETTE_TO_SCREEN != 0
    }

    /// Whether the processor reaches video memory.
    pub(super) fn memory_enabled(&self) -> bool {
        self.enabled && self.misc & 0x02 != 0
    }

    /// Whether a picture is shown at all.
    pub(super) fn screen_on(&self) -> bool {
        self.lit() && self.sequencer[0] == 3 && self.crtc[0x17] & 0x80 != 0
    }

    /// The raster that the registers describe.
    pub(super) fn timing(&self) -> Timing {
        Timing::new(self.misc, self.sequencer[1], &self.crtc)
    }

    /// Reads a port; `timing` is the raster of what is shown.
    pub(super) fn read(&mut self, port: u16, now_ns: u64, timing: impl Fn(&Self) -> Timing) -> u8 {
        if !self.answers(port) {
            return 0xFF;
        }
        match port {
            0x3B4 | 0x3D4 => self.crtc_index,
            0x3B5 | 0x3D5 => get(&self.crtc, self.crtc_index),
            0x3BA | 0x3DA => {
                self.attribute_data = false;
                timing(self).input_status_1(now_ns)
            }
            0x3C0 => self.attribute_index,
            0x3C1 => get(&self.attribute, self.attribute_index & 0x1F),
            0x3C2 => SWITCH_SENSE,
            0x3C3 => self.enabled.into(),
            0x3C4 => self.sequencer_index,
            0x3C5 => get(&self.sequencer, self.sequencer_index),
            0x3C6 => self.dac_mask,
            0x3C7 => match self.dac_mode {
                DacMode::Write => 0,
                DacMode::Read => 3,
            },
            0x3C8 => self.dac_write_index,
            0x3C9 => self.read_dac(),
            0x3CA => self.feature,
            0x3CC => self.misc,
            0x3CE => self.graphics_index,
            0x3CF => get(&self.graphics, self.graphics_index),
            _ => 0xFF,
        }
    }

    pub(super) fn write(&mut self, port: u16, value: u8) {
        if !self.answers(port) {
            return;
        }
        match port {
            0x3B4 | 0x3D4 => self.crtc_index = value,
            0x3B5 | 0x3D5 => self.write_crtc(value),
            0x3BA | 0x3DA => self.feature = value & 0x0B,
            0x3C0 => self.write_attribute(value),
            0x3C2 => self.misc = value & 0xEF,
            0x3C3 => self.enabled = value & 1 != 0,
            0x3C4 => self.sequencer_index = value & 0x07,
            0x3C5 => set(
                &mut self.sequencer,
                &SEQUENCER_BITS,
                self.sequencer_index,
                value,
            ),
            0x3C6 => self.dac_mask = value,
            0x3C7 => {
                self.dac_mode = DacMode::Read;
                self.dac_read_index = value;
                self.dac_component = 0;
            }
            0x3C8 => {
                self.dac_mode = DacMode::Write;
                self.dac_write_index = value;
                self.dac_component = 0;
            }
            0x3C9 => self.write_dac(value),
            0x3CE => self.graphics_index = value & 0x0F,
            0x3CF => set(
                &mut self.graphics,
                &GRAPHICS_BITS,
                self.graphics_index,
                value,
            ),
            _ => {}
        }
    }

    /// Whether the adapter answers at `port`: it moves some ports, and hides while it is disabled.
    fn answers(&self, port: u16) -> bool {
        let colour = self.misc & 1 != 0;
        match port {
            0x3C3 => true,
            0x3B0..=0x3BF => self.enabled && !colour,
            0x3D0..=0x3DF => self.enabled && colour,
            _ => self.enabled,
        }
    }

    fn write_crtc(&mut self, value: u8) {
        let protected = self.crtc[0x11] & CRTC_PROTECT != 0;
        if protected && self.crtc_index < 7 {
            return;
        }
        if protected && self.crtc_index == 7 {
            // Bit 8 of the line compare is the one bit that stays open, for split screens.
            self.crtc[7] = self.crtc[7] & !0x10 | value & 0x10;
            return;
        }
        set(&mut self.crtc, &CRTC_BITS, self.crtc_index, value);
    }

    fn write_attribute(&mut self, value: u8) {
        if self.attribute_data {
            let index = self.attribute_index & 0x1F;
            set(&mut self.attribute, &ATTRIBUTE_BITS, index, value);
        } else {
            self.attribute_index = value & 0x3F;
        }
        self.attribute_data = !self.attribute_data;
    }

    fn read_dac(&mut self) -> u8 {
        let component = usize::from(self.dac_component);
        let value = self.dac[usize::from(self.dac_read_index) * 3 + component % 3];
        self.dac_component = (self.dac_component + 1) % 3;
        if self.dac_component == 0 {
            self.dac_read_index = self.dac_read_index.wrapping_add(1);
        }
        value
    }

    /// An entry changes as a whole, with its third component.
    fn write_dac(&mut self, value: u8) {
        self.dac_latch[usize::from(self.dac_component % 3)] =
            if self.wide_dac { value } else { value & 0x3F };
        self.dac_component = (self.dac_component + 1) % 3;
        if self.dac_component == 0 {
            let entry = usize::from(self.dac_write_index) * 3;
            self.dac[entry..entry + 3].copy_from_slice(&self.dac_latch);
            self.dac_write_index = self.dac_write_index.wrapping_add(1);
        }
    }
}

/// A register by its index; what does not exist reads as 0.
fn get(registers: &[u8], index: u8) -> u8 {
    registers.get(usize::from(index)).copied().unwrap_or(0)
}

fn set(registers: &mut [u8], bits: &[u8], index: u8, value: u8) {
    let index = usize::from(index);
    if let (Some(register), Some(bits)) = (registers.get_mut(index), bits.get(index)) {
        *register = value & bits;
    }
}

/// Byte arrays of a fixed length, as serde knows only short ones.
mod fixed {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        <[u8; N]>::try_from(bytes.as_slice()).map_err(D::Error::custom)
    }
}
