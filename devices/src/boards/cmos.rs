//! What the board leaves in CMOS memory for its BIOS, laid out as Bochs and QEMU do.
//!
//! | byte | what |
//! |---|---|
//! | 10 | floppy types, drive A in the high nibble |
//! | 12, 19-1A | hard disk types: F and 47, for "the size is in 1B-2C" |
//! | 1B-23, 24-2C | cylinders, write precompensation, control, landing zone, sectors a track of disks C and D |
//! | 14 | equipment: bit 0 floppies, 1 coprocessor, 2 keyboard port, 6-7 number of floppies less one |
//! | 15-16, 17-18, 30-31, 34-35, 5B-5D | memory sizes |
//! | 2E-2F | sum of 10 to 2D, high byte first |
//! | 38, 3D | boot order |
//! | 39 | disk translation, 2 bits a disk: 0 none, 1 LBA |
//!
//! Source: Bochs `iodev/devices.cc` and `iodev/harddrv.cc`; Ralf Brown's CMOS memory map.

use platform::GuestMemory;

use super::pc::BootDevice;
use crate::floppy;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Extended memory is reported up to 63 MiB: 16 bits of KiB hold no more.
const MOST_EXTENDED_KIB: u64 = 63 * KIB;
const HEADS: u8 = 16;
const SECTORS_A_TRACK: u8 = 63;
/// More cylinders than the 10 bits of INT 13h have need translation.
const MOST_BIOS_CYLINDERS: u64 = 1024;

/// What there is to describe.
pub struct Inventory<'a> {
    pub memory: &'a GuestMemory,
    /// Sectors of floppies A and B.
    pub floppies: [Option<u64>; 2],
    /// Sectors of the primary channel's disks.
    pub disks: [Option<u64>; 2],
    pub boot_order: &'a [BootDevice],
}

/// The bytes to store, as pairs of index and value.
pub fn contents(inventory: &Inventory<'_>) -> Vec<(u8, u8)> {
    let mut cmos = Cmos([0; 128]);
    cmos.drives(inventory);
    cmos.memory(inventory.memory);
    cmos.boot_order(inventory.boot_order);
    let sum: u16 = cmos.0[0x10..0x2E].iter().map(|&byte| u16::from(byte)).sum();
    cmos.0[0x2E..0x30].copy_from_slice(&sum.to_be_bytes());
    (0..).zip(cmos.0).skip(0x0E).collect()
}

struct Cmos([u8; 128]);

impl Cmos {
    fn set(&mut self, index: u8, bytes: &[u8]) {
        let start = usize::from(index);
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn drives(&mut self, inventory: &Inventory<'_>) {
        let [a, b] = inventory
            .floppies
            .map(|sectors| sectors.map_or(0, floppy::drive_type));
        self.set(0x10, &[a << 4 | b]);
        let floppies = inventory.floppies.iter().flatten().count() as u8;
        let equipment = match floppies {
            0 => 0x06,
            count => 0x07 | (count - 1) << 6,
        };
        self.set(0x14, &[equipment]);
        for (n, sectors) in (0u8..).zip(inventory.disks) {
            if let Some(sectors) = sectors {
                self.0[0x12] |= 0xF0 >> (4 * n);
                self.set(0x19 + n, &[47]);
                let cylinders = cylinders(sectors);
                let [low, high] = (cylinders as u16).to_le_bytes();
                let control = 0xC0 | u8::from(HEADS > 8) << 3;
                let geometry = [
                    low,
                    high,
                    HEADS,
                    0xFF,
                    0xFF,
                    control,
                    low,
                    high,
                    SECTORS_A_TRACK,
                ];
                self.set(0x1B + 9 * n, &geometry);
                self.0[0x39] |= u8::from(cylinders > MOST_BIOS_CYLINDERS) << (2 * n);
            }
        }
    }

    fn memory(&mut self, memory: &GuestMemory) {
        let low = memory.low_ram_bytes();
        let word = |value: u64| (value.min(0xFFFF) as u16).to_le_bytes();
        self.set(0x15, &word(640));
        let extended = word(((low - MIB) / KIB).min(MOST_EXTENDED_KIB));
        self.set(0x17, &extended);
        self.set(0x30, &extended);
        self.set(0x34, &word(low.saturating_sub(16 * MIB) / (64 * KIB)));
        let high = (memory.ram_bytes() - low) / (64 * KIB);
        self.set(0x5B, &high.to_le_bytes()[..3]);
    }

    fn boot_order(&mut self, order: &[BootDevice]) {
        let code = |place: usize| match order.get(place) {
            None => 0,
            Some(BootDevice::Floppy) => 1,
            Some(BootDevice::Disk) => 2,
            Some(BootDevice::Cdrom) => 3,
            Some(BootDevice::Network) => 4,
        };
        self.set(0x3D, &[code(1) << 4 | code(0)]);
        self.set(0x38, &[code(2) << 4]);
    }
}

fn cylinders(sectors: u64) -> u64 {
    let cylinder = u64::from(HEADS) * u64::from(SECTORS_A_TRACK);
    (sectors / cylinder).min(16_383)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cmos(memory_bytes: u64, floppies: [Option<u64>; 2], disks: [Option<u64>; 2]) -> [u8; 128] {
        let memory = GuestMemory::new(memory_bytes).unwrap();
        let mut cmos = [0; 128];
        for (index, value) in contents(&Inventory {
            memory: &memory,
            floppies,
            disks,
            boot_order: &[BootDevice::Cdrom, BootDevice::Disk, BootDevice::Floppy],
        }) {
            cmos[usize::from(index)] = value;
        }
        cmos
    }

    fn word(cmos: &[u8; 128], index: usize) -> u16 {
        u16::from_le_bytes([cmos[index], cmos[index + 1]])
    }

    #[test]
    fn memory_sizes_are_in_their_units() {
        let small = cmos(8 * MIB, [None; 2], [None; 2]);
        assert_eq!(word(&small, 0x15), 640);
        assert_eq!(word(&small, 0x17), 7 * 1024);
        assert_eq!(word(&small, 0x34), 0);
        let large = cmos(4 << 30, [None; 2], [None; 2]);
        assert_eq!(word(&large, 0x30), 63 * 1024);
        assert_eq!(word(&large, 0x34), ((3072 - 16) * 16) as u16);
        assert_eq!(large[0x5B..0x5E], [0x00, 0x40, 0x00]);
    }

    #[test]
    fn drives_show_in_types_equipment_and_geometry() {
        let none = cmos(MIB, [None; 2], [None; 2]);
        assert_eq!((none[0x10], none[0x12], none[0x14]), (0, 0, 0x06));
        let both = cmos(MIB, [Some(2880), Some(720)], [Some(63 * 16 * 2000), None]);
        assert_eq!((both[0x10], both[0x12], both[0x14]), (0x41, 0xF0, 0x47));
        assert_eq!(both[0x19], 47);
        assert_eq!(word(&both, 0x1B), 2000);
        assert_eq!((both[0x1D], both[0x23], both[0x39]), (16, 63, 1));
    }

    #[test]
    fn the_boot_order_takes_three_nibbles_and_the_sum_covers_10_to_2d() {
        let cmos = cmos(2 * MIB, [Some(2880), None], [None; 2]);
        assert_eq!((cmos[0x3D], cmos[0x38]), (0x23, 0x10));
        let sum: u16 = cmos[0x10..0x2E].iter().map(|&byte| u16::from(byte)).sum();
        assert_eq!([cmos[0x2E], cmos[0x2F]], sum.to_be_bytes());
    }
}
