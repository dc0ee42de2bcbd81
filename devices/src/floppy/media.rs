//! A diskette: its geometry, guessed from the size of its image, and its sectors.

use std::io;

use platform::BlockBackend;
use platform::block::SECTOR_BYTES;

/// Data rate codes as the controller's registers have them, one bit each.
const RATE_500K: u8 = 1 << 0;
const RATE_300K: u8 = 1 << 1;
const RATE_250K: u8 = 1 << 2;
const RATE_1M: u8 = 1 << 3;

/// Sectors of an image, cylinders, heads, sectors in a track, rates at which it can be read. A 1.2M drive
/// spins faster and reads double density at 300 kbit/s.
const FORMATS: [(u64, u8, u8, u8, u8); 12] = [
    (320, 40, 1, 8, RATE_250K | RATE_300K),
    (360, 40, 1, 9, RATE_250K | RATE_300K),
    (640, 40, 2, 8, RATE_250K | RATE_300K),
    (720, 40, 2, 9, RATE_250K | RATE_300K),
    (1440, 80, 2, 9, RATE_250K | RATE_300K),
    (1640, 82, 2, 10, RATE_250K | RATE_300K),
    (2400, 80, 2, 15, RATE_500K),
    (2880, 80, 2, 18, RATE_500K),
    (3200, 80, 2, 20, RATE_500K),
    (3360, 80, 2, 21, RATE_500K),
    (3444, 82, 2, 21, RATE_500K),
    (5760, 80, 2, 36, RATE_1M),
];

/// A diskette in a drive.
pub(super) struct Media {
    disk: Box<dyn BlockBackend>,
    pub(super) cylinders: u8,
    pub(super) heads: u8,
    /// Sectors in a track.
    pub(super) sectors: u8,
    rates: u8,
}

/// Cylinders, heads, sectors in a track and rates of an image of `total` sectors.
fn format_of(total: u64) -> (u8, u8, u8, u8) {
    match FORMATS.iter().find(|format| format.0 == total) {
        Some(&(_, cylinders, heads, sectors, rates)) => (cylinders, heads, sectors, rates),
        // A boot sector or a truncated image lies at the start of an ordinary diskette.
        None if total < 2880 => (80, 2, 18, RATE_500K),
        None => {
            let sectors = total.div_ceil(160).min(63) as u8;
            let rates = if sectors > 21 { RATE_1M } else { RATE_500K };
            (80, 2, sectors, rates)
        }
    }
}

/// The number under which CMOS and BIOS know the drive that takes an image of `total` sectors: 1 = 360K,
/// 2 = 1.2M, 3 = 720K, 4 = 1.44M, 5 = 2.88M.
pub fn drive_type(total: u64) -> u8 {
    match format_of(total) {
        (..=40, ..) => 1,
        (_, _, ..=10, _) => 3,
        (_, _, 15, _) => 2,
        (_, _, _, RATE_1M) => 5,
        _ => 4,
    }
}

impl Media {
    pub(super) fn new(disk: Box<dyn BlockBackend>) -> Self {
        let (cylinders, heads, sectors, rates) = format_of(disk.sectors());
        Self {
            disk,
            cylinders,
            heads,
            sectors,
            rates,
        }
    }

    pub(super) fn readable_at(&self, rate: u8) -> bool {
        self.rates >> (rate & 3) & 1 != 0
    }

    pub(super) fn write_protected(&self) -> bool {
        self.disk.read_only()
    }

    /// The place in the image of a sector that the geometry has.
    pub(super) fn lba(&self, cylinder: u8, head: u8, sector: u8) -> Option<u64> {
        let exists =
            cylinder < self.cylinders && head < self.heads && (1..=self.sectors).contains(&sector);
        let track = u64::from(cylinder) * u64::from(self.heads) + u64::from(head);
        exists.then(|| track * u64::from(self.sectors) + u64::from(sector) - 1)
    }

    /// Appends a sector to `data`. What the image is too short for reads as zeros.
    pub(super) fn read(&mut self, lba: u64, data: &mut Vec<u8>) -> io::Result<()> {
        let start = data.len();
        data.resize(start + SECTOR_BYTES, 0);
        if lba >= self.disk.sectors() {
            return Ok(());
        }
        self.disk
            .read(lba, &mut data[start..])
            .inspect_err(|_| data.truncate(start))
    }

    pub(super) fn write(&mut self, lba: u64, sector: &[u8]) -> io::Result<()> {
        self.disk.write(lba, sector)
    }
}

#[cfg(test)]
mod tests {
    use platform::MemoryDisk;

    use super::*;

    #[test]
    fn the_image_size_gives_the_geometry() {
        for (kib, cylinders, heads, sectors, rate, drive) in [
            (360, 40, 2, 9, 2, 1),
            (720, 80, 2, 9, 2, 3),
            (1200, 80, 2, 15, 0, 2),
            (1440, 80, 2, 18, 0, 4),
            (1680, 80, 2, 21, 0, 4),
            (2880, 80, 2, 36, 3, 5),
            (10, 80, 2, 18, 0, 4),
            (1500, 80, 2, 19, 0, 4),
        ] {
            assert_eq!(drive_type(kib as u64 * 2), drive, "{kib} KiB");
            let media = Media::new(Box::new(MemoryDisk::new(vec![0; kib << 10])));
            let geometry = (media.cylinders, media.heads, media.sectors);
            assert_eq!(geometry, (cylinders, heads, sectors), "{kib} KiB");
            assert!(media.readable_at(rate), "{kib} KiB");
            assert_eq!(media.readable_at(0), rate == 0, "{kib} KiB");
        }
    }
}
