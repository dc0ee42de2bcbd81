//! Tells what a file is by its first and last bytes.
//!
//! A guest may write what it likes to a raw disk, another format's signature included. So an answer
//! here only ever leads to a refusal, or to a format that the user has named: never to a raw disk
//! being opened as something that points to other files.

/// How many of a file's first bytes [`recognise`] looks at: as far as ISO 9660's volume descriptor,
/// and as far as kernels' headers lie.
pub const HEAD_BYTES: usize = 0x9000;

/// How many of a file's last bytes [`recognise`] looks at: a trailer of VHD or DMG.
pub const TAIL_BYTES: usize = 512;

/// What can be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its bytes are a medium's sectors.
    Sectors,
    /// A disk image with a structure of its own. As raw sectors it is useless, and writes destroy it.
    Container,
    /// One file, compressed.
    Compressed,
    /// Files, packed.
    Archive,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Sectors, or at least nothing that is known.
    Raw,
    /// Sectors that a guest has encrypted with LUKS.
    Luks,
    /// Sectors of a CD-ROM, 2048 bytes each.
    Iso9660,
    /// QEMU's format, version 2 or 3.
    Qcow2,
    /// QEMU's first format of that family.
    Qcow,
    /// QEMU's enhanced disk.
    Qed,
    /// VirtualBox's.
    Vdi,
    /// VMware's in one file.
    Vmdk,
    /// VMware's list of the files that make up a disk.
    VmdkDescriptor,
    /// An ESX server's old sparse disk.
    Cowd,
    /// Virtual PC's, whose footer stands at the end.
    Vhd,
    /// Hyper-V's.
    Vhdx,
    /// Parallels'.
    Parallels,
    /// Apple's.
    Dmg,
    /// Bochs' growing, undoable or volatile disk.
    BochsRedolog,
    /// A compressed loop image.
    Cloop,
    /// A CD-ROM with sectors of 2352 bytes (BIN and CUE).
    RawCd,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
    /// LZ4.
    Lz4,
    /// lzip.
    Lzip,
    /// ZIP.
    Zip,
    /// 7z.
    SevenZip,
    /// RAR.
    Rar,
    /// tar.
    Tar,
    /// A tar of a virtual machine: an OVF description and VMDK disks.
    Ova,
}

impl Format {
    /// Its name for messages, with an article.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "a raw image",
            Self::Luks => "a LUKS-encrypted disk",
            Self::Iso9660 => "an ISO 9660 image",
            Self::Qcow2 => "a qcow2 image",
            Self::Qcow => "a qcow image (version 1)",
            Self::Qed => "a QED image",
            Self::Vdi => "a VDI image (VirtualBox)",
            Self::Vmdk => "a VMDK image (VMware)",
            Self::VmdkDescriptor => "a VMDK descriptor (VMware)",
            Self::Cowd => "a COWD image (VMware ESX)",
            Self::Vhd => "a VHD image (Virtual PC)",
            Self::Vhdx => "a VHDX image (Hyper-V)",
            Self::Parallels => "a Parallels image",
            Self::Dmg => "a DMG image (Apple)",
            Self::BochsRedolog => "a Bochs redolog image",
            Self::Cloop => "a cloop image",
            Self::RawCd => "a CD-ROM image with sectors of 2352 bytes (BIN/CUE)",
            Self::Gzip => "a gzip file",
            Self::Xz => "an xz file",
            Self::Zstd => "a zstd file",
            Self::Bzip2 => "a bzip2 file",
            Self::Lz4 => "an lz4 file",
            Self::Lzip => "an lzip file",
            Self::Zip => "a zip archive",
            Self::SevenZip => "a 7z archive",
            Self::Rar => "a RAR archive",
            Self::Tar => "a tar archive",
            Self::Ova => "an OVA archive",
        }
    }

    /// What can be done with it.
    pub fn kind(self) -> Kind {
        match self {
            Self::Raw | Self::Luks | Self::Iso9660 => Kind::Sectors,
            Self::Gzip | Self::Xz | Self::Zstd | Self::Bzip2 | Self::Lz4 | Self::Lzip => {
                Kind::Compressed
            }
            Self::Zip | Self::SevenZip | Self::Rar | Self::Tar | Self::Ova => Kind::Archive,
            _ => Kind::Container,
        }
    }

    /// Whether its bytes are a medium's.
    pub fn is_sectors(self) -> bool {
        self.kind() == Kind::Sectors
    }

    /// Whether this build can put it into a hard disk's place.
    pub fn is_disk(self) -> bool {
        self.is_sectors()
            || matches!(
                self,
                Self::Qcow2 | Self::Vdi | Self::Vhd | Self::Vmdk | Self::VmdkDescriptor
            )
    }
}

/// Signatures at fixed places: format, offset, bytes. The first that fits decides.
const SIGNATURES: &[(Format, usize, &[u8])] = &[
    (Format::Qcow, 0, b"QFI\xFB\0\0\0\x01"),
    // Versions 2 and 3, and any to come: it is no raw disk either way.
    (Format::Qcow2, 0, b"QFI\xFB"),
    (Format::Qed, 0, b"QED\0"),
    // Behind 64 bytes of text that each program words differently.
    (Format::Vdi, 0x40, b"\x7F\x10\xDA\xBE"),
    (Format::Vmdk, 0, b"KDMV"),
    (Format::Cowd, 0, b"COWD"),
    // Dynamic and differencing ones have a copy of the footer in front.
    (Format::Vhd, 0, b"conectix"),
    (Format::Vhdx, 0, b"vhdxfile"),
    (Format::Parallels, 0, b"WithoutFreeSpace"),
    (Format::Parallels, 0, b"WithouFreSpacExt"),
    (Format::BochsRedolog, 0, b"Bochs Virtual HD Image"),
    (Format::Cloop, 0, b"#!/bin/sh\n#V2.0 Format"),
    (Format::Luks, 0, b"LUKS\xBA\xBE"),
    (
        Format::RawCd,
        0,
        b"\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0",
    ),
    (Format::Iso9660, 0x8001, b"CD001"),
    // RFC 1952: deflate is the only method.
    (Format::Gzip, 0, b"\x1F\x8B\x08"),
    (Format::Xz, 0, b"\xFD7zXZ\0"),
    (Format::Zstd, 0, b"\x28\xB5\x2F\xFD"),
    (Format::Lz4, 0, b"\x04\x22\x4D\x18"),
    (Format::Lz4, 0, b"\x02\x21\x4C\x18"),
    (Format::Lzip, 0, b"LZIP\x01"),
    (Format::Zip, 0, b"PK\x03\x04"),
    (Format::SevenZip, 0, b"7z\xBC\xAF\x27\x1C"),
    (Format::Rar, 0, b"Rar!\x1A\x07"),
];

/// Says what the file of `len` bytes is that starts with `head` and ends with `tail`.
///
/// `head` holds the first [`HEAD_BYTES`] or more, `tail` the last [`TAIL_BYTES`]; of a shorter file
/// each holds all. Nothing but the arguments is looked at. A file of exactly a floppy disk's size is one,
/// even if its first bytes are an archive's: people write archives to bare floppies.
pub fn recognise(head: &[u8], tail: &[u8], len: u64) -> Format {
    let found = by_content(head, tail);
    match found.kind() {
        Kind::Compressed | Kind::Archive if crate::floppy::SIZES.contains(&len) => Format::Raw,
        _ => found,
    }
}

fn by_content(head: &[u8], tail: &[u8]) -> Format {
    for &(format, at, signature) in SIGNATURES {
        if head.get(at..at + signature.len()) == Some(signature) {
            return format;
        }
    }
    if is_bzip2(head) {
        Format::Bzip2
    } else if is_vmdk_descriptor(head) {
        Format::VmdkDescriptor
    } else if is_tar(head) {
        if tar_name(head).ends_with(b".ovf") {
            Format::Ova
        } else {
            Format::Tar
        }
    } else if is_fixed_vhd(tail) {
        Format::Vhd
    } else if is_dmg(tail) {
        Format::Dmg
    } else {
        Format::Raw
    }
}

/// A block's size from 1 to 9, and then the first block's magic number or the end's.
fn is_bzip2(head: &[u8]) -> bool {
    let size = matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', ..]);
    let magic = head.get(4..10);
    size && (magic == Some(b"1AY&SY") || magic == Some(b"\x17\x72\x45\x38\x50\x90"))
}

/// Its first line says so; editors leave byte order marks and blank lines before it.
fn is_vmdk_descriptor(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let text = text.trim_ascii_start();
    let mark = b"# disk descriptorfile";
    text.get(..mark.len())
        .is_some_and(|line| line.eq_ignore_ascii_case(mark))
}

/// POSIX.1 `ustar`: the magic, and a checksum over the header with its own field as blanks.
fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..512) else {
        return false;
    };
    if &header[257..262] != b"ustar" {
        return false;
    }
    let sum = |field: &[u8]| field.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    let expected = sum(&header[..148]) + 8 * u32::from(b' ') + sum(&header[156..]);
    let digits = header[148..156]
        .iter()
        .skip_while(|&&byte| byte == b' ')
        .take_while(|byte| (b'0'..=b'7').contains(byte));
    let found = digits.fold(0u32, |sum, digit| sum << 3 | u32::from(digit - b'0'));
    found == expected
}

/// The first file's name.
fn tar_name(head: &[u8]) -> &[u8] {
    let name = head.get(..100).unwrap_or_default();
    name.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A footer of "Virtual Hard Disk Image Format Specification" 1.0: cookie, and version or checksum. The
/// oldest are a byte shorter.
///
/// The cookie alone would not do: the last sector of a raw disk is the guest's own.
fn is_fixed_vhd(tail: &[u8]) -> bool {
    let is_footer = |footer: &[u8]| {
        let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        let checksum = &footer[64..68];
        let own = checksum
            .iter()
            .fold(0, |value, &byte| value << 8 | u32::from(byte));
        footer.starts_with(b"conectix")
            && (footer[12..16] == [0, 1, 0, 0] || own == !(sum(footer) - sum(checksum)))
    };
    last_sector(tail).is_some_and(|footer| is_footer(footer) || is_footer(&footer[1..]))
}

/// Apple's trailer, version 4, which says how long it is.
fn is_dmg(tail: &[u8]) -> bool {
    last_sector(tail).is_some_and(|trailer| trailer.starts_with(b"koly\0\0\0\x04\0\0\x02\0"))
}

fn last_sector(tail: &[u8]) -> Option<&[u8; TAIL_BYTES]> {
    tail.last_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> Format {
        let head = &bytes[..bytes.len().min(HEAD_BYTES)];
        let tail = &bytes[bytes.len() - bytes.len().min(TAIL_BYTES)..];
        recognise(head, tail, bytes.len() as u64)
    }

    /// A file of 64 KiB with `signature` at `at`.
    fn with(at: usize, signature: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 0x1_0000];
        file[at..at + signature.len()].copy_from_slice(signature);
        file
    }

    fn vhd_footer(size: u64, disk_type: u8) -> [u8; 512] {
        let mut footer = [0; 512];
        footer[..8].copy_from_slice(b"conectix");
        footer[48..56].copy_from_slice(&size.to_be_bytes());
        footer[63] = disk_type;
        let sum: u32 = footer.iter().map(|&byte| u32::from(byte)).sum();
        footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
        footer
    }

    fn tar(name: &[u8]) -> Vec<u8> {
        let mut file = with(0, name);
        file[257..262].copy_from_slice(b"ustar");
        let sum: u32 = file[..512].iter().map(|&byte| u32::from(byte)).sum();
        let text = format!("{:06o}\0 ", sum + 8 * 32);
        file[148..156].copy_from_slice(text.as_bytes());
        file
    }

    #[test]
    fn every_signature_is_known() {
        for &(format, at, signature) in SIGNATURES {
            assert_eq!(kind(&with(at, signature)), format);
        }
        assert_eq!(kind(&with(0, b"QFI\xFB\0\0\0\x03")), Format::Qcow2);
        assert_eq!(kind(&with(0, b"BZh91AY&SY")), Format::Bzip2);
        let descriptor = b"\xEF\xBB\xBF\n# Disk DescriptorFile\nversion=1\n";
        assert_eq!(kind(descriptor), Format::VmdkDescriptor);
        assert_eq!(kind(&tar(b"notes.txt")), Format::Tar);
        assert_eq!(kind(&tar(b"machine.ovf")), Format::Ova);
        assert_eq!(
            kind(&with(0xFE00, b"koly\0\0\0\x04\0\0\x02\0")),
            Format::Dmg
        );
        assert_eq!(kind(&with(0xFE00, &vhd_footer(0xFE00, 2))), Format::Vhd);
        assert_eq!(kind(&with(0xFE00, &vhd_footer(1 << 40, 3))), Format::Vhd);
        // Of another size, or a byte shorter: in doubt a file is not written to, and format=raw says otherwise.
        assert_eq!(kind(&with(0xFE00, &vhd_footer(0x1234, 2))), Format::Vhd);
        let version = b"conectix\0\0\0\0\0\x01\0\0";
        assert_eq!(kind(&with(0xFE00, version)), Format::Vhd);
        assert_eq!(kind(&with(0xFE01, version)), Format::Vhd);
    }

    #[test]
    fn raw_disks_are_not_taken_for_something_else() {
        assert_eq!(kind(b""), Format::Raw);
        assert_eq!(kind(&[0; 512]), Format::Raw);
        // A guest's remains: a bare cookie, a magic without its checksum.
        assert_eq!(kind(&with(0xFE00, b"conectix")), Format::Raw);
        assert_eq!(kind(&with(257, b"ustar")), Format::Raw);
        assert_eq!(kind(&with(0xFE00, b"koly")), Format::Raw);
        assert_eq!(kind(b"BZh9 is a text"), Format::Raw);
        // What a guest encrypts stays its own affair.
        assert!(kind(&with(0, b"LUKS\xBA\xBE")).is_sectors());
        let mut floppy = tar(b"notes.txt");
        floppy.resize(1_474_560, 0);
        assert_eq!(kind(&floppy), Format::Raw);
        floppy[..4].copy_from_slice(b"QFI\xFB");
        assert_eq!(kind(&floppy), Format::Qcow2);
    }

    /// Random bytes behind each signature, cut anywhere: no panic, and a name for whatever it is.
    #[test]
    fn no_bytes_whatsoever_make_recognition_panic() {
        let mut seed = 0x2545_F491_4F6C_DD1Du64;
        let mut next = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..4000 {
            let mut file: Vec<u8> = (0..1024).map(|_| next() as u8).collect();
            let (_, at, signature) = SIGNATURES[round % SIGNATURES.len()];
            if at < 512 && next().is_multiple_of(2) {
                file[at..at + signature.len()].copy_from_slice(signature);
            }
            for (at, text) in [(257, &b"ustar"[..]), (512, b"conectix"), (512, b"koly")] {
                if next().is_multiple_of(4) {
                    file[at..at + text.len()].copy_from_slice(text);
                }
            }
            file.truncate((next() % 1025) as usize);
            let (head, tail) = (next() as usize, next() as usize);
            let head = &file[..head % (file.len() + 1)];
            let tail = &file[tail % (file.len() + 1)..];
            for len in [file.len() as u64, 0, u64::MAX, next()] {
                let format = recognise(head, tail, len);
                assert!(!format.name().is_empty());
                crate::floppy::medium_bytes(head, len);
                crate::floppy::is_floppy(head, len);
            }
        }
    }
}
