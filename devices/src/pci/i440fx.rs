//! Intel 82441FX (440FX) host bridge, as far as configuration software looks.
//!
//! Datasheet: Intel 440FX PCIset (290549).
//!
//! Not modelled: what the registers do. PAM (59-5F) and SMRAM (72) keep their values, but the map of
//! C0000-FFFFF is fixed: ROM where the board has placed it.

use super::config_space::ConfigSpace;

/// Function 0 of device 0.
pub fn host_bridge() -> ConfigSpace {
    ConfigSpace::new(0x8086, 0x1237, 0x06_00_00, 0x02)
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
        .writable(0x93, &[0x06])
}
