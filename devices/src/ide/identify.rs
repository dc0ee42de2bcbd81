//! What drives say of themselves: IDENTIFY DEVICE data (ATA/ATAPI-6 §8.15) with the CHS translation
//! of disks, and IDENTIFY PACKET DEVICE data (§8.16).

use platform::BlockBackend;
use platform::block::SECTOR_BYTES;
use serde::{Deserialize, Serialize};

use super::drive::{MAX_DMA_MODE, MAX_MULTIPLE, MOST_TRIM_SECTORS};

const MODEL: &str = "GLASSBOX HARDDISK";
const CD_MODEL: &str = "GLASSBOX CD-ROM";
const FIRMWARE: &str = "1.0";

/// Cylinders, heads and sectors in a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    pub(super) heads: u16,
    pub(super) sectors: u16,
}

impl Geometry {
    /// The usual translation: 16 heads of 63 sectors, up to 16383 cylinders.
    pub(super) fn default_of(sectors: u64) -> Self {
        Self {
            cylinders: (sectors / (16 * 63)).clamp(1, 16383) as u16,
            heads: 16,
            sectors: 63,
        }
    }

    /// The translation after power-on, as the disk has it or else by its size.
    pub(super) fn native(disk: &dyn BlockBackend) -> Self {
        match disk.geometry() {
            Some([cylinders, heads @ 1..=16, sectors @ 1..=255]) if cylinders > 0 => Self {
                cylinders,
                heads,
                sectors,
            },
            _ => Self::default_of(disk.sectors()),
        }
    }

    /// The translation with other heads and sectors, if there is one.
    pub(super) fn translated(total: u64, heads: u16, sectors: u16) -> Option<Self> {
        let cylinder_sectors = u64::from(heads) * u64::from(sectors);
        let cylinders = total.checked_div(cylinder_sectors)?.clamp(1, 0xFFFF) as u16;
        Some(Self {
            cylinders,
            heads,
            sectors,
        })
    }

    pub(super) fn is_sound(&self) -> bool {
        self.heads > 0 && self.sectors > 0
    }

    /// The logical block at a place, if heads and sectors exist.
    pub(super) fn lba(&self, cylinder: u64, head: u64, sector: u64) -> Option<u64> {
        let (heads, sectors) = (u64::from(self.heads), u64::from(self.sectors));
        (head < heads && (1..=sectors).contains(&sector))
            .then(|| (cylinder * heads + head) * sectors + sector - 1)
    }

    /// Cylinder, head and sector of a logical block.
    pub(super) fn chs(&self, lba: u64) -> (u16, u16, u16) {
        let (heads, sectors) = (u64::from(self.heads), u64::from(self.sectors));
        let track = lba / sectors;
        (
            (track / heads) as u16,
            (track % heads) as u16,
            (lba % sectors) as u16 + 1,
        )
    }
}

/// What the words are made of.
pub(super) struct Facts<'a> {
    pub(super) sectors: u64,
    pub(super) native: Geometry,
    pub(super) serial: &'a str,
    pub(super) current: Geometry,
    pub(super) multiple: u8,
    pub(super) dma_mode: u8,
    pub(super) write_cache: bool,
    pub(super) look_ahead: bool,
}

/// The 512 bytes of IDENTIFY DEVICE.
pub(super) fn block(facts: &Facts<'_>) -> Vec<u8> {
    let mut words = [0u16; 256];
    let native = facts.native;
    words[0] = 0x0040; // A fixed ATA device.
    words[1] = native.cylinders;
    words[3] = native.heads;
    words[6] = native.sectors;
    put_text(&mut words[10..20], facts.serial);
    words[20] = 3; // Buffer type and size, retired but read by old drivers.
    words[21] = u16::from(MAX_MULTIPLE);
    words[22] = 4;
    put_text(&mut words[23..27], FIRMWARE);
    put_text(&mut words[27..47], MODEL);
    words[47] = 0x8000 | u16::from(MAX_MULTIPLE);
    words[48] = 1; // 32-bit data port.
    words[49] = 0x0F00; // IORDY, IORDY can be disabled, LBA, DMA.
    words[50] = 0x4000;
    words[51] = 0x0200; // PIO mode 2 by timing, before word 64 existed.
    words[53] = 0x0003; // Words 54-58 and 64-70 are valid; 88 is not: no Ultra DMA.
    words[54] = facts.current.cylinders;
    words[55] = facts.current.heads;
    words[56] = facts.current.sectors;
    let Geometry {
        cylinders,
        heads,
        sectors,
    } = facts.current;
    let capacity = u64::from(cylinders) * u64::from(heads) * u64::from(sectors);
    put_number(&mut words[57..59], capacity.min(facts.sectors));
    if facts.multiple > 0 {
        words[59] = 0x0100 | u16::from(facts.multiple);
    }
    put_number(&mut words[60..62], facts.sectors.min(0x0FFF_FFFF));
    // Multiword DMA: the modes up to the fastest, and the one selected.
    words[63] = (0x0100 << facts.dma_mode) | ((2 << MAX_DMA_MODE) - 1);
    words[64] = 0x0003; // PIO modes 3 and 4.
    words[65] = 120; // Shortest and recommended multiword DMA cycle in nanoseconds.
    words[66] = 120;
    words[67] = 120; // Shortest PIO cycle in nanoseconds, without and with IORDY.
    words[68] = 120;
    words[80] = 0x00FE; // ATA-1 to ATA/ATAPI-7, as systems look for TRIM from there on.
    // Supported commands: NOP, look-ahead, write cache, power management; FLUSH CACHE (EXT), 48 bits.
    words[82] = 0x4068;
    words[83] = 0x7400;
    words[84] = 0x4000;
    words[85] = 0x4008;
    if facts.write_cache {
        words[85] |= 0x0020;
    }
    if facts.look_ahead {
        words[85] |= 0x0040;
    }
    words[86] = 0x3400;
    words[87] = 0x4000;
    words[93] = 0x6001; // Hardware reset result: an 80-conductor cable.
    put_number(&mut words[100..104], facts.sectors.min((1 << 48) - 1));
    words[105] = MOST_TRIM_SECTORS;
    words[169] = 0x0001; // TRIM.
    sealed(words)
}

/// The 512 bytes of IDENTIFY PACKET DEVICE.
pub(super) fn packet_block(serial: &str, dma_mode: u8) -> Vec<u8> {
    let mut words = [0u16; 256];
    // A removable CD-ROM device that takes packets of 12 bytes, within 50 us and without an interrupt.
    words[0] = 0x85C0;
    put_text(&mut words[10..20], serial);
    put_text(&mut words[23..27], FIRMWARE);
    put_text(&mut words[27..47], CD_MODEL);
    words[48] = 1; // 32-bit data port.
    words[49] = 0x0F00; // IORDY, IORDY can be disabled, LBA, DMA.
    words[50] = 0x4000;
    words[51] = 0x0200;
    words[53] = 0x0002; // Words 64-70 are valid; 88 is not: no Ultra DMA.
    words[63] = (0x0100 << dma_mode) | ((2 << MAX_DMA_MODE) - 1);
    words[64] = 0x0003;
    words[65..69].fill(120);
    words[80] = 0x007E;
    // Supported and enabled: NOP, DEVICE RESET, PACKET, power management.
    words[82] = 0x4218;
    words[83] = 0x4000;
    words[84] = 0x4000;
    words[85] = 0x4218;
    words[87] = 0x4000;
    words[93] = 0x6001;
    words[125] = 0xFFFE; // What a byte count limit of 0 stands for.
    sealed(words)
}

/// The words with their checksum.
fn sealed(mut words: [u16; 256]) -> Vec<u8> {
    words[255] = 0x00A5;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[SECTOR_BYTES - 1] = sum.wrapping_neg();
    bytes
}

/// Text, padded with blanks, the first character in the high byte of a word.
fn put_text(words: &mut [u16], text: &str) {
    let mut bytes = text.bytes().chain(std::iter::repeat(b' '));
    for word in words {
        let mut next = || bytes.next().unwrap_or(b' ');
        *word = u16::from_be_bytes([next(), next()]);
    }
}

/// A number, the least significant word first.
fn put_number(words: &mut [u16], number: u64) {
    for (n, word) in words.iter_mut().enumerate() {
        *word = (number >> (16 * n)) as u16;
    }
}
