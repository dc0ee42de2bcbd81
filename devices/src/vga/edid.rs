//! What the monitor says of itself.
//!
//! Source: VESA Enhanced EDID Standard, release A, revision 2 (EDID 1.4 structure); timings by VESA
//! CVT with reduced blanking, and by VESA DMT for the established and standard ones.

/// Bytes in a block.
pub const BYTES: usize = 128;

/// A detailed timing: pixel clock in units of 10 kHz, then pixels shown, front porch, width of the
/// pulse and blanking in all, across and down.
struct Detailed {
    clock: u16,
    across: [u16; 4],
    down: [u16; 4],
}

/// What it likes best comes first.
const TIMINGS: [Detailed; 2] = [
    Detailed {
        clock: 7100,
        across: [1280, 48, 32, 160],
        down: [800, 3, 6, 23],
    },
    Detailed {
        clock: 26850,
        across: [2560, 48, 32, 160],
        down: [1600, 3, 6, 46],
    },
];

/// Standard timings: width, then what its height follows from (0: 16:10, 1: 4:3, 2: 5:4, 3: 16:9).
/// All at 60 Hz.
const STANDARD: [(u16, u8); 8] = [
    (1024, 1),
    (1152, 1),
    (1280, 2),
    (1280, 3),
    (1440, 0),
    (1600, 1),
    (1680, 0),
    (1920, 3),
];

/// The block.
pub const fn block() -> [u8; BYTES] {
    let mut edid = [0; BYTES];
    let mut at = 1;
    while at < 7 {
        edid[at] = 0xFF;
        at += 1;
    }
    // Manufacturer GBX, five bits a letter; product 1, serial number 0, made in week 1 of 2026.
    let maker = (b'G' - 64) as u16;
    let maker = maker << 10 | ((b'B' - 64) as u16) << 5 | (b'X' - 64) as u16;
    edid[8] = (maker >> 8) as u8;
    edid[9] = maker as u8;
    edid[10] = 1;
    edid[16] = 1;
    edid[17] = (2026 - 1990) as u8;
    edid[18] = 1;
    edid[19] = 4;
    // Digital, 8 bits a colour; 34 by 21 cm; gamma 2.2; RGB 4:4:4, sRGB, the first timing is what
    // it likes best.
    edid[20] = 0xA0;
    edid[21] = 34;
    edid[22] = 21;
    edid[23] = 120;
    edid[24] = 0x06;
    // The primaries of sRGB.
    let colours = [0xEE, 0x91, 0xA3, 0x54, 0x4C, 0x99, 0x26, 0x0F, 0x50, 0x54];
    at = 0;
    while at < colours.len() {
        edid[25 + at] = colours[at];
        at += 1;
    }
    // 720x400 at 70 Hz, 640x480 and 800x600 at 60 Hz; 1024x768 at 60 Hz.
    edid[35] = 0xA1;
    edid[36] = 0x08;
    at = 0;
    while at < STANDARD.len() {
        edid[38 + 2 * at] = (STANDARD[at].0 / 8 - 31) as u8;
        edid[39 + 2 * at] = STANDARD[at].1 << 6;
        at += 1;
    }
    at = 0;
    while at < TIMINGS.len() {
        edid = put_timing(edid, 54 + 18 * at, &TIMINGS[at]);
        at += 1;
    }
    // The ranges: 50 to 85 Hz down, 30 to 110 kHz across, 280 MHz; then the name.
    let range = [0, 0, 0, 0xFD, 0, 50, 85, 30, 110, 28, 0x01, 0x0A];
    let name = *b"\0\0\0\xFC\0Glassbox\n";
    at = 0;
    while at < 18 {
        edid[90 + at] = if at < range.len() { range[at] } else { b' ' };
        edid[108 + at] = if at < name.len() { name[at] } else { b' ' };
        at += 1;
    }
    let mut sum: u8 = 0;
    at = 0;
    while at < BYTES - 1 {
        sum = sum.wrapping_add(edid[at]);
        at += 1;
    }
    edid[BYTES - 1] = 0u8.wrapping_sub(sum);
    edid
}

const fn put_timing(mut edid: [u8; BYTES], at: usize, timing: &Detailed) -> [u8; BYTES] {
    let [width, front, pulse, blank] = timing.across;
    let [height, above, rows, dark] = timing.down;
    edid[at] = timing.clock as u8;
    edid[at + 1] = (timing.clock >> 8) as u8;
    edid[at + 2] = width as u8;
    edid[at + 3] = blank as u8;
    edid[at + 4] = (width >> 8 << 4 | blank >> 8) as u8;
    edid[at + 5] = height as u8;
    edid[at + 6] = dark as u8;
    edid[at + 7] = (height >> 8 << 4 | dark >> 8) as u8;
    edid[at + 8] = front as u8;
    edid[at + 9] = pulse as u8;
    edid[at + 10] = (above << 4 | rows & 0xF) as u8;
    edid[at + 11] = (front >> 8 << 6 | pulse >> 8 << 4 | above >> 4 << 2 | rows >> 4) as u8;
    // 344 by 215 mm; digital separate synchronisation, positive across.
    edid[at + 12] = (344 & 0xFF) as u8;
    edid[at + 13] = 215;
    edid[at + 14] = (344 >> 8 << 4) as u8;
    edid[at + 17] = 0x1A;
    edid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_sums_to_zero_and_says_its_version_and_best_timing() {
        let edid = block();
        let sum = edid.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum, 0);
        assert_eq!(edid[..8], [0, 255, 255, 255, 255, 255, 255, 0]);
        assert_eq!(edid[18..20], [1, 4]);
        let width = u16::from(edid[56]) | u16::from(edid[58] >> 4) << 8;
        let height = u16::from(edid[59]) | u16::from(edid[61] >> 4) << 8;
        assert_eq!((width, height), (1280, 800));
    }
}
