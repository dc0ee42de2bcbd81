//! Intel 82441FX (440FX) host bridge, as far as configuration software looks.
//!
//! Datasheet: Intel 440FX PCIset (290549).
//!
//! Not modelled: SMRAM (72), which keeps its value, and all that is about DRAM's timing.

use platform::{PhysAddr, SavedState, Shadow, StateError, StateView};

use super::{ConfigSpace, PciCtx, PciDevice, PciFunction};

/// PAM0 to PAM6.
const PAM: u8 = 0x59;

/// Function 0 of device 0.
pub fn host_bridge() -> PciDevice<HostBridge> {
    let config = ConfigSpace::new(0x8086, 0x1237, 0x06_00_00, 0x02)
        .with(0x04, &[0x06, 0x00, 0x80, 0x02])
        // DRAM row boundaries: one row, as if 8 MiB; nobody asks for the rest.
        .with(0x60, &[0x01; 8])
        .with(0x72, &[0x02])
        .writable(0x04, &[0x40, 0x01])
        .clearable(0x07, &[0xF9])
        .writable(0x0D, &[0xF8])
        .writable(0x50, &[0xFF; 8])
        .writable(0x58, &[0xFF])
        .writable(0x59, &[0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33])
        .writable(0x60, &[0xFF; 9])
        .writable(0x70, &[0xFF])
        .writable(0x71, &[0x1F])
        .writable(0x72, &[0x58])
        .writable(0x90, &[0xFF])
        .clearable(0x91, &[0x11])
        .writable(0x93, &[0x06]);
    PciDevice::new(config, HostBridge)
}

/// The host bridge: which parts of C0000-FFFFF are RAM, as its PAM registers say.
///
/// PAM0 has F0000-FFFFF in its upper half; PAM1 to PAM6 have 16 KiB a half from C0000 on. Of each
/// half, bit 0 lets reads through to RAM and bit 1 writes (82441FX, 290549, §3.2.18).
pub struct HostBridge;

/// What two bits of a PAM register say.
fn shadow(bits: u8) -> Shadow {
    match bits & 3 {
        0 => Shadow::Off,
        1 => Shadow::Read,
        2 => Shadow::Write,
        _ => Shadow::Ram,
    }
}

impl PciFunction for HostBridge {
    fn name(&self) -> &'static str {
        "i440fx"
    }

    fn on_config(&mut self, ctx: &mut PciCtx<'_, '_>) {
        for page in (0xC_0000u64..0x10_0000).step_by(4096) {
            let bits = match page {
                0xF_0000.. => ctx.config.byte(PAM) >> 4,
                _ => {
                    let half = (page - 0xC_0000) / 0x4000;
                    ctx.config.byte(PAM + 1 + (half / 2) as u8) >> (4 * (half % 2))
                }
            };
            ctx.shadow(PhysAddr(page), shadow(bits));
        }
    }

    fn reset(&mut self, _: &mut PciCtx<'_, '_>) {}

    fn state(&self) -> StateView<'_> {
        StateView::of(1, ())
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        state.decode(1)
    }
}
