//! Intel 82441FX (440FX) host bridge, as far as configuration software looks.
//!
//! Datasheet: Intel 440FX PCIset (290549).
//!
//! There is no SMRAM but that at A0000-BFFFF: the extended one came with the 440BX. Not modelled: all that is about
//! DRAM's timing.

use platform::{PhysAddr, SavedState, Shadow, Smram, StateError, StateView};

use super::{ConfigSpace, PciCtx, PciDevice, PciFunction};

/// PAM0 to PAM6.
const PAM: u8 = 0x59;
/// System management RAM control.
const SMRAM: u8 = 0x72;
/// It is open to every processor; one may fill it before it is locked.
const D_OPEN: u8 = 1 << 6;
/// It is closed to data accesses, which find what lies over it.
const D_CLS: u8 = 1 << 5;
/// The register keeps its value until a reset, and the memory is not open any more.
const D_LCK: u8 = 1 << 4;
/// There is such memory at all.
const G_SMRAME: u8 = 1 << 3;
/// Its place is A0000-BFFFF: the only value of this field.
const C_BASE_SEG: u8 = 2;

/// Function 0 of device 0.
pub fn host_bridge() -> PciDevice<HostBridge> {
    let config = ConfigSpace::new(0x8086, 0x1237, 0x06_00_00, 0x02)
        .with(0x04, &[0x06, 0x00, 0x80, 0x02])
        // DRAM row boundaries: one row, as if 8 MiB; nobody asks for the rest.
        .with(0x60, &[0x01; 8])
        .with(SMRAM, &[C_BASE_SEG])
        .writable(0x04, &[0x40, 0x01])
        .clearable(0x07, &[0xF9])
        .writable(0x0D, &[0xF8])
        .writable(0x50, &[0xFF; 8])
        .writable(0x58, &[0xFF])
        .writable(0x59, &[0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33])
        .writable(0x60, &[0xFF; 9])
        .writable(0x70, &[0xFF])
        .writable(0x71, &[0x1F])
        .writable(SMRAM, &[D_OPEN | D_CLS | D_LCK | G_SMRAME])
        .locked_by(SMRAM, D_LCK)
        .writable(0x90, &[0xFF])
        .clearable(0x91, &[0x11])
        .writable(0x93, &[0x06]);
    PciDevice::new(config, HostBridge)
}

/// The host bridge: which parts of C0000-FFFFF are RAM, as its PAM registers say.
///
/// PAM0 has F0000-FFFFF in its upper half; PAM1 to PAM6 have 16 KiB a half from C0000 on. Of each
/// half, bit 0 lets reads through to RAM and bit 1 writes (82441FX, 290549, §3.2.18). And who finds RAM at A0000-BFFFF,
/// as the SMRAM register says.
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
        let mut smram = ctx.config.byte(SMRAM);
        if smram & D_LCK != 0 {
            smram &= !D_OPEN;
            ctx.config.set(SMRAM, smram);
        }
        let enabled = smram & G_SMRAME != 0;
        ctx.set_smram(Smram {
            open: enabled && smram & D_OPEN != 0,
            enabled,
            closed_to_data: smram & D_CLS != 0,
        });
    }

    fn reset(&mut self, _: &mut PciCtx<'_, '_>) {}

    fn state(&self) -> StateView<'_> {
        StateView::of(1, ())
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        state.decode(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::{Bdf, PciHost};
    use platform::testkit::bus_with_regions;
    use platform::{Bus, Page};

    fn board() -> Bus {
        let mut bus = bus_with_regions(Box::new(PciHost::new()), PciHost::MAP);
        host_bridge().plug(&mut bus, "i440fx", Bdf::new(0, 0));
        bus.reset();
        bus
    }

    fn set_smram(bus: &mut Bus, value: u8) -> u8 {
        bus.pio_write(0xCF8, 4, 0x8000_0070);
        bus.pio_write(0xCFE, 1, value.into());
        bus.pio_read(0xCFE, 1) as u8
    }

    #[test]
    fn smram_is_open_or_for_system_management_mode_only() {
        let mut bus = board();
        assert_eq!(set_smram(&mut bus, 0x40), 0x42);
        assert_eq!(bus.memory.smram(), Smram::default(), "not enabled");
        assert_eq!(set_smram(&mut bus, 0x4A), 0x4A);
        assert_eq!(bus.memory.smram().shown(false), (true, true));
        assert_eq!(
            bus.memory.page(PhysAddr(0xA_0000)),
            Page::None,
            "bus masters"
        );
        set_smram(&mut bus, 0x0A);
        assert_eq!(bus.memory.smram().shown(false), (false, false));
        assert_eq!(bus.memory.smram().shown(true), (true, true));
        set_smram(&mut bus, 0x2A);
        assert_eq!(bus.memory.smram().shown(true), (false, true), "code only");
    }

    #[test]
    fn smram_stays_locked_and_closed_until_a_reset() {
        let mut bus = board();
        assert_eq!(set_smram(&mut bus, 0x5A), 0x1A, "locking closes it");
        assert_eq!(set_smram(&mut bus, 0x40), 0x1A);
        assert_eq!(bus.memory.smram().shown(false), (false, false));
        assert_eq!(bus.memory.smram().shown(true), (true, true));
        bus.reset();
        assert_eq!(set_smram(&mut bus, 0x48), 0x4A);
    }
}
