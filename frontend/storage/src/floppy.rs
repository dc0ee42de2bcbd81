//! Which floppy disk an image of any size is on, and where floppies end and hard disks begin.
//!
//! `cat boot.bin kernel.bin > os-image.bin` makes an image of any odd size, and its boot sector reads
//! whole tracks without a look at the file's length. On a floppy disk that works: the medium goes on
//! behind the file's end, with zeros.

use platform::block::SECTOR_BYTES;

/// The sizes of the PC's standard floppy disks, 160 KiB to 2.88 MiB, in bytes.
pub const SIZES: [u64; 8] = [
    163_840, 184_320, 327_680, 368_640, 737_280, 1_228_800, 1_474_560, MOST_BYTES,
];

/// The size of the largest floppy disk, 2.88 MiB, in bytes.
pub const MOST_BYTES: u64 = 2_949_120;

/// The one that everybody means by "a floppy disk", 1.44 MiB, in bytes.
const USUAL_BYTES: u64 = 1_474_560;

/// 80 cylinders of two tracks: disks that hold more than the usual ones have whole such steps (DMF,
/// XDF), or 82 cylinders.
const STEP_BYTES: u64 = 160 * SECTOR_BYTES as u64;
const ODD_FORMATS: [u64; 2] = [1640 * SECTOR_BYTES as u64, 3444 * SECTOR_BYTES as u64];

/// The size of the medium, in bytes, that an image of `len` bytes starts with `head` on.
///
/// One of a floppy disk's very size is that disk. Another one is on the disk that its file system's BIOS
/// parameter block describes, else on one of 1.44 MiB, or of 2.88 MiB if it is longer. Beyond that it is none.
pub fn medium_bytes(head: &[u8], len: u64) -> u64 {
    let is_step = len > USUAL_BYTES && len.is_multiple_of(STEP_BYTES);
    if SIZES.contains(&len) || ODD_FORMATS.contains(&len) || is_step {
        return len;
    }
    let described = Parameters::read(head).map(|parameters| parameters.bytes);
    described
        .filter(|bytes| SIZES.contains(bytes) && *bytes >= len)
        .or_else(|| {
            [USUAL_BYTES, MOST_BYTES]
                .into_iter()
                .find(|&bytes| bytes >= len)
        })
        .unwrap_or(len)
}

/// Whether a bootable image of `len` bytes that starts with `head` is a floppy disk's rather than a hard disk's.
///
/// A hard disk is what is larger than 2.88 MiB, has a partition table, has a file system that says so, or
/// has a boot sector that names drive 80h or asks for the BIOS's extended reads (INT 13h, AH = 41h and
/// 42h), which serve hard disks only. All else is a floppy disk.
pub fn is_floppy(head: &[u8], len: u64) -> bool {
    if SIZES.contains(&len) {
        return true;
    }
    len < MOST_BYTES
        && !has_partitions(head)
        && !asks_for_hard_disk(head)
        && Parameters::read(head).is_none_or(|parameters| parameters.media != HARD_DISK)
}

/// The media descriptor of hard disks.
const HARD_DISK: u8 = 0xF8;

/// What a FAT file system's BIOS parameter block says of its medium.
struct Parameters {
    /// Its size in bytes.
    bytes: u64,
    /// The media descriptor.
    media: u8,
}

impl Parameters {
    /// Code of another kind may stand there, so that all fields must make sense.
    fn read(head: &[u8]) -> Option<Self> {
        let sector: &[u8; SECTOR_BYTES] = head.first_chunk()?;
        let u16_at = |at: usize| u16::from_le_bytes([sector[at], sector[at + 1]]);
        let jumps = sector[0] == 0xE9 || sector[0] == 0xEB && sector[2] == 0x90;
        let clusters = sector[13].is_power_of_two() && matches!(sector[16], 1 | 2);
        let media = sector[21];
        let sensible = jumps
            && usize::from(u16_at(11)) == SECTOR_BYTES
            && clusters
            && (media == 0xF0 || media >= HARD_DISK);
        sensible.then(|| Self {
            bytes: u64::from(u16_at(19)) * SECTOR_BYTES as u64,
            media,
        })
    }
}

/// Four entries that could be partitions, and one of them that is. Code that stands there is none.
fn has_partitions(head: &[u8]) -> bool {
    let Some(table) = head.get(446..510) else {
        return false;
    };
    let (entries, _) = table.as_chunks::<16>();
    let u32_at = |entry: &[u8; 16], at: usize| {
        u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
    };
    let is_used = |entry: &[u8; 16]| entry[4] != 0 && u32_at(entry, 8) > 0 && u32_at(entry, 12) > 0;
    let is_free = |entry: &[u8; 16]| entry[1..] == [0; 15];
    let could_be = |entry: &[u8; 16]| entry[0] & 0x7F == 0 && (is_free(entry) || is_used(entry));
    entries.iter().all(could_be) && entries.iter().any(is_used)
}

/// What a first sector with an `INT 13h` has in it where it is a hard disk's.
const HARD_DISK_CODE: [&[u8]; 7] = [
    b"\xB2\x80",     // MOV DL, 80h
    b"\xBA\x80\x00", // MOV DX, 0080h
    b"\xB4\x41",     // MOV AH, 41h
    b"\xBB\xAA\x55", // MOV BX, 55AAh, which goes with it
    b"\xB8\x00\x41", // MOV AX, 4100h
    b"\xB4\x42",     // MOV AH, 42h
    b"\xB8\x00\x42", // MOV AX, 4200h
];

/// Whether the boot sector's code names the first hard disk, or asks for extended reads.
fn asks_for_hard_disk(head: &[u8]) -> bool {
    let sector = &head[..head.len().min(SECTOR_BYTES - 2)];
    let has = |code: &[u8]| sector.windows(code.len()).any(|window| window == code);
    has(b"\xCD\x13") && HARD_DISK_CODE.into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn boot_sector() -> Vec<u8> {
        let mut sector = vec![0; SECTOR_BYTES];
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector
    }

    /// A boot sector of a FAT file system of `sectors` on a medium of kind `media`.
    fn fat(sectors: u16, media: u8) -> Vec<u8> {
        let mut sector = boot_sector();
        sector[..3].copy_from_slice(&[0xEB, 0x3C, 0x90]);
        sector[11..14].copy_from_slice(&[0, 2, 1]);
        sector[16] = 2;
        sector[19..21].copy_from_slice(&sectors.to_le_bytes());
        sector[21] = media;
        sector
    }

    #[test]
    fn an_image_of_any_size_gets_a_medium() {
        let bare = boot_sector();
        for (len, medium) in [
            (1, 1440 * KIB),
            (512, 1440 * KIB),
            (2500, 1440 * KIB),
            (360 * KIB, 360 * KIB),
            (360 * KIB + 1, 1440 * KIB),
            (820 * KIB, 820 * KIB),
            (1440 * KIB, 1440 * KIB),
            (1440 * KIB + 1, 2880 * KIB),
            (1680 * KIB, 1680 * KIB),
            (1722 * KIB, 1722 * KIB),
            (2880 * KIB, 2880 * KIB),
            (2880 * KIB + 1, 2880 * KIB + 1),
        ] {
            assert_eq!(medium_bytes(&bare, len), medium, "{len}");
        }
        // A file that was cut short still says which disk it is of.
        assert_eq!(medium_bytes(&fat(720, 0xFD), 100 * KIB), 360 * KIB);
        assert_eq!(medium_bytes(&fat(720, 0xFD), 400 * KIB), 1440 * KIB);
        assert_eq!(medium_bytes(&fat(721, 0xFD), 100 * KIB), 1440 * KIB);
    }

    #[test]
    fn small_images_are_floppies_unless_they_say_otherwise() {
        let bare = boot_sector();
        assert!(is_floppy(&bare, 512));
        assert!(is_floppy(&bare, 1_000_001));
        assert!(is_floppy(&bare, 2880 * KIB));
        assert!(!is_floppy(&bare, 2880 * KIB + 512));

        let mut partitioned = bare.clone();
        partitioned[446] = 0x80;
        partitioned[450] = 0x83;
        partitioned[454] = 1;
        partitioned[458] = 100;
        assert!(!is_floppy(&partitioned, 1_000_000));
        // Code where a table would be.
        partitioned[446 + 16] = 0xCD;
        assert!(is_floppy(&partitioned, 1_000_000));

        let mut extended = bare.clone();
        extended[..7].copy_from_slice(b"\xB4\x41\xBB\xAA\x55\xCD\x13");
        assert!(!is_floppy(&extended, 1_000_000));
        assert!(is_floppy(&extended, 1440 * KIB));

        let mut named = bare.clone();
        named[..2].copy_from_slice(b"\xB2\x80");
        assert!(is_floppy(&named, 1_000_000));
        named[2..4].copy_from_slice(b"\xCD\x13");
        assert!(!is_floppy(&named, 1_000_000));

        assert!(!is_floppy(&fat(4000, 0xF8), 2_048_000));
        assert!(is_floppy(&fat(2880, 0xF0), 100 * KIB));
    }
}
