//! Tells images apart by their content.

use super::header::{FaultyHeader, find_faulty};
use super::{elf, multiboot1, multiboot2, u16_at, u32_at};

/// How many of an image's first bytes [`identify`] looks at.
pub const HEAD_BYTES: usize = 0x9000;

/// The sizes of PC floppy disks, 160 KiB to 2.88 MiB, in bytes.
pub const FLOPPY_SIZES: [u64; 8] = [
    163_840, 184_320, 327_680, 368_640, 737_280, 1_228_800, 1_474_560, 2_949_120,
];

/// How a kernel is to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// Linux boot protocol.
    Linux,
    /// Multiboot, first version.
    Multiboot1,
    /// Multiboot 2.
    Multiboot2,
    /// An ELF file with a PVH note.
    Pvh,
}

impl KernelKind {
    /// Its name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "Linux kernel (bzImage)",
            Self::Multiboot1 => "multiboot kernel",
            Self::Multiboot2 => "multiboot 2 kernel",
            Self::Pvh => "PVH kernel",
        }
    }
}

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// A hard disk with a boot sector.
    Disk,
    /// An ISO 9660 CD-ROM.
    CdRom,
    /// A floppy disk.
    Floppy,
    /// Less than a sector of code for 7C00h, without the signature.
    BootSector,
    /// A kernel.
    Kernel(KernelKind),
}

/// Why an image is none of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It has no bytes.
    #[error("the file is empty: expected a bootable image; check how it was made")]
    Empty,
    /// It ends too early.
    #[error("truncated {what}: expected {expected} bytes, found {found}; get the file again")]
    Truncated {
        /// What it looks like.
        what: &'static str,
        /// How long that should be.
        expected: u64,
        /// How long it is.
        found: u64,
    },
    /// An ELF file without any of the entry protocols.
    #[error(
        "an ELF file without a multiboot header or PVH note: expected a kernel; link one of them \
         in, or make a disk image of it"
    )]
    PlainElf,
    /// A multiboot header that does not count.
    #[error("{0}")]
    Header(FaultyHeader),
    /// Nothing that this machine boots.
    #[error(
        "not a bootable image: expected a disk image with a boot sector (55 AA), an ISO or floppy \
         image, a bzImage, a multiboot or PVH kernel, or a flat boot sector; attach a data disk \
         with --disk"
    )]
    Unknown,
}

/// Says what the image of `len` bytes is that starts with `head`.
///
/// `head` holds the first [`HEAD_BYTES`], or all of a shorter image; an ELF file should be there whole, as
/// a PVH note may be anywhere in it.
///
/// # Errors
/// It is empty, cut off, or nothing that boots.
pub fn identify(head: &[u8], len: u64) -> Result<Image, ImageError> {
    if len == 0 {
        return Err(ImageError::Empty);
    }
    if head.starts_with(b"\x7FELF") {
        return identify_elf(head);
    }
    let signed = u16_at(head, 0x1FE) == Some(0xAA55);
    if head.get(0x202..0x206) == Some(b"HdrS") && signed {
        return Ok(Image::Kernel(KernelKind::Linux));
    }
    if head.get(0x8001..0x8006) == Some(b"CD001") {
        return identify_iso(head, len);
    }
    if FLOPPY_SIZES.contains(&len) {
        return Ok(Image::Floppy);
    }
    if signed {
        return Ok(Image::Disk);
    }
    if multiboot2::find_header(head).is_some() {
        return Ok(Image::Kernel(KernelKind::Multiboot2));
    }
    if multiboot1::find_header(head).is_some() {
        return Ok(Image::Kernel(KernelKind::Multiboot1));
    }
    let whole = head.get(..len as usize);
    match whole {
        Some(code) if len <= 510 && !is_text(code) => Ok(Image::BootSector),
        _ => Err(find_faulty(head).map_or(ImageError::Unknown, ImageError::Header)),
    }
}

fn identify_elf(file: &[u8]) -> Result<Image, ImageError> {
    if multiboot2::find_header(file).is_some() {
        Ok(Image::Kernel(KernelKind::Multiboot2))
    } else if multiboot1::find_header(file).is_some() {
        Ok(Image::Kernel(KernelKind::Multiboot1))
    } else if elf::has_pvh_note(file) {
        Ok(Image::Kernel(KernelKind::Pvh))
    } else {
        Err(find_faulty(file).map_or(ImageError::PlainElf, ImageError::Header))
    }
}

/// ECMA-119 §8.4: the primary volume descriptor's space size says how long the image is.
fn identify_iso(head: &[u8], len: u64) -> Result<Image, ImageError> {
    let blocks = u32_at(head, 0x8050).unwrap_or(0);
    let block_bytes = u16_at(head, 0x8080).unwrap_or(2048);
    let expected = u64::from(blocks) * u64::from(block_bytes);
    // Some writers leave out the 150 blocks of padding that others add.
    if len + 150 * 2048 < expected {
        return Err(ImageError::Truncated {
            what: "ISO image",
            expected,
            found: len,
        });
    }
    Ok(Image::CdRom)
}

/// Code has bytes that no text has; a README is not a boot sector.
fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
        || std::str::from_utf8(bytes).is_ok_and(|text| {
            text.chars()
                .all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
        })
}
