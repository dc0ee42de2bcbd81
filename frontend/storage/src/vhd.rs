//! VHD, Virtual PC's format (Microsoft's Virtual Hard Disk Image Format Specification 1.0): fixed and dynamic.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::blocks::{Blocks, Found, Table};
use crate::bytes::{be32, be64, damaged, read_at, write_at};

/// Bytes of the footer, which stands at the end; dynamic disks have a copy at the start.
const FOOTER: usize = 512;
const COOKIE: &[u8] = b"conectix";
/// Disk types.
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
/// An entry of the table: no block.
const FREE: u32 = 0xFFFF_FFFF;
/// The most entries of the table: 2 TiB of the usual blocks, with room.
const MOST_BLOCKS: u32 = 2 << 20;
/// The block's size in new images.
const BLOCK: u64 = 2 << 20;

/// What the footer says.
struct Footer {
    bytes: [u8; FOOTER],
    size: u64,
    kind: u32,
    header: u64,
}

fn footer(file: &File, len: u64) -> io::Result<Footer> {
    let mut bytes = [0; FOOTER];
    read_at(file, len.saturating_sub(FOOTER as u64), &mut bytes)?;
    if &bytes[..8] != COOKIE {
        // An image that was not closed well has the copy.
        read_at(file, 0, &mut bytes)?;
    }
    if &bytes[..8] != COOKIE {
        return Err(damaged("it is no VHD image"));
    }
    let footer = Footer {
        size: be64(&bytes, 48),
        kind: be32(&bytes, 60),
        header: be64(&bytes, 16),
        bytes,
    };
    if footer.size == 0 || footer.size > 1 << 45 {
        return Err(damaged(format!("a disk of {} bytes", footer.size)));
    }
    Ok(footer)
}

/// Bytes on the disk.
pub(crate) fn size(file: &File) -> io::Result<u64> {
    Ok(footer(file, file.metadata()?.len())?.size / 512 * 512)
}

/// Whether the disk's sectors are the file's first bytes.
pub(crate) fn is_fixed(file: &File) -> io::Result<bool> {
    let len = file.metadata()?.len();
    let footer = footer(file, len)?;
    match footer.kind {
        FIXED if footer.size + FOOTER as u64 <= len => Ok(true),
        FIXED => Err(damaged("its file is shorter than its disk")),
        DYNAMIC => Ok(false),
        DIFFERENCING => Err(damaged(
            "it lies over another image, which is not supported",
        )),
        kind => Err(damaged(format!(
            "a kind of disk that is not known ({kind})"
        ))),
    }
}

/// The table of a dynamic disk.
pub(crate) struct Vhd {
    footer: [u8; FOOTER],
    table_offset: u64,
    block: u64,
    bitmap: u64,
    table: Vec<u32>,
    /// The block whose bitmap was read last, and that.
    known: Option<(u64, Vec<u8>)>,
    /// Where the footer is.
    end: u64,
}

/// Opens the dynamic disk in `file`.
pub(crate) fn open(file: File, path: PathBuf, writable: bool) -> io::Result<Blocks<Vhd>> {
    let len = file.metadata()?.len();
    let footer = footer(&file, len)?;
    let mut header = [0; 1024];
    read_at(&file, footer.header, &mut header)?;
    if &header[..8] != b"cxsparse" {
        return Err(damaged("its header is not where it should be"));
    }
    let (table_offset, entries, block) = (
        be64(&header, 16),
        be32(&header, 28),
        u64::from(be32(&header, 32)),
    );
    if !block.is_power_of_two() || !(4096..=64 << 20).contains(&block) {
        return Err(damaged(format!("blocks of {block} bytes")));
    }
    if entries > MOST_BLOCKS || u64::from(entries) * block < footer.size || table_offset >= len {
        return Err(damaged(format!(
            "{entries} blocks for {} bytes",
            footer.size
        )));
    }
    let mut bytes = vec![0; entries as usize * 4];
    read_at(&file, table_offset, &mut bytes)?;
    let bitmap = (block / 512 / 8).next_multiple_of(512);
    let table: Vec<u32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|entry| u32::from_be_bytes(*entry))
        .collect();
    // The footer, or where it would be if the image had been closed well.
    let last = table.iter().filter(|entry| **entry != FREE).max();
    let used = last.map_or(0, |sector| u64::from(*sector) * 512 + bitmap + block);
    let end = len
        .saturating_sub(FOOTER as u64)
        .max(used)
        .next_multiple_of(512);
    Ok(Blocks {
        size: footer.size / 512 * 512,
        table: Vhd {
            footer: footer.bytes,
            table_offset,
            block,
            bitmap,
            table,
            known: None,
            end,
        },
        file,
        path,
        writable,
        unpacked: None,
    })
}

impl Vhd {
    fn bits(&mut self, file: &File, number: u64) -> io::Result<&mut Vec<u8>> {
        if self
            .known
            .as_ref()
            .is_none_or(|(known, _)| *known != number)
        {
            let mut bits = vec![0; self.bitmap as usize];
            read_at(
                file,
                u64::from(self.table[number as usize]) * 512,
                &mut bits,
            )?;
            self.known = Some((number, bits));
        }
        match &mut self.known {
            Some((_, bits)) => Ok(bits),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Table for Vhd {
    fn block_bytes(&self) -> u64 {
        self.block
    }

    fn find(&mut self, _: &File, number: u64) -> io::Result<Found> {
        match self.table.get(number as usize) {
            None | Some(&FREE) => Ok(Found::Zeros),
            Some(&sector) => match u64::from(sector) * 512 + self.bitmap < self.end {
                true => Ok(Found::At(u64::from(sector) * 512 + self.bitmap)),
                false => Err(damaged("a block lies behind the file's end")),
            },
        }
    }

    fn has_sector(&mut self, file: &File, number: u64, sector: u64) -> io::Result<bool> {
        let bits = self.bits(file, number)?;
        Ok(bits[(sector / 8) as usize] & 0x80 >> (sector % 8) != 0)
    }

    fn wrote(&mut self, file: &File, number: u64, first: u64, count: u64) -> io::Result<()> {
        let bits = self.bits(file, number)?;
        let mut changed = false;
        for sector in first..first + count {
            let (byte, bit) = (&mut bits[(sector / 8) as usize], 0x80 >> (sector % 8));
            changed |= *byte & bit == 0;
            *byte |= bit;
        }
        if changed {
            let bits = bits.clone();
            write_at(file, u64::from(self.table[number as usize]) * 512, &bits)?;
        }
        Ok(())
    }

    fn place(&mut self, file: &File, number: u64, content: &[u8]) -> io::Result<()> {
        let start = self.end;
        let sector = u32::try_from(start / 512).map_err(|_| io::ErrorKind::StorageFull)?;
        let end = start + self.bitmap + self.block;
        // The footer first: the file ends in one at each moment, but for while the block takes the
        // place of the old one, when the copy at the start holds.
        write_at(file, end, &self.footer)?;
        let bits = vec![0xFF; self.bitmap as usize];
        write_at(file, start, &bits)?;
        write_at(file, start + self.bitmap, content)?;
        write_at(file, self.table_offset + 4 * number, &sector.to_be_bytes())?;
        self.table[number as usize] = sector;
        self.known = Some((number, bits));
        self.end = end;
        Ok(())
    }
}

/// Cylinders, heads and sectors in a track (the specification's appendix).
fn geometry(sectors: u64) -> [u8; 4] {
    let total = sectors.min(65_535 * 16 * 255);
    let (per_track, heads, both);
    if total >= 65_535 * 16 * 63 {
        (per_track, heads, both) = (255, 16, total / 255);
    } else {
        let mut track = 17;
        let mut cylinders = total / track;
        let mut found = cylinders.div_ceil(1024).max(4);
        if cylinders >= found * 1024 || found > 16 {
            (track, found) = (31, 16);
            cylinders = total / track;
        }
        if cylinders >= found * 1024 {
            (track, found) = (63, 16);
            cylinders = total / track;
        }
        (per_track, heads, both) = (track, found, cylinders);
    }
    let cylinders = (both / heads) as u16;
    let [high, low] = cylinders.to_be_bytes();
    [high, low, heads as u8, per_track as u8]
}

/// The one's complement of the sum of all bytes.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
    (!sum).to_be_bytes()
}

/// Writes an empty dynamic disk.
pub(crate) fn write_new(file: &File, size: u64) -> io::Result<()> {
    let entries = size.div_ceil(BLOCK);
    if size > 2040 << 30 {
        return Err(damaged(
            "expected a disk of at most 2040 GiB, as VHD can hold",
        ));
    }
    let mut footer = [0; FOOTER];
    let mut put = |at: usize, bytes: &[u8]| footer[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, COOKIE);
    put(8, &2u32.to_be_bytes());
    put(12, &0x0001_0000u32.to_be_bytes());
    put(16, &(FOOTER as u64).to_be_bytes());
    // Who made it: of those whose size is the one that it says, rather than its geometry's.
    put(28, b"win ");
    put(32, &0x0001_0000u32.to_be_bytes());
    put(36, b"Wi2k");
    put(40, &size.to_be_bytes());
    put(48, &size.to_be_bytes());
    put(56, &geometry(size / 512));
    put(60, &DYNAMIC.to_be_bytes());
    put(68, &crate::bytes::identity());
    let sum = checksum(&footer);
    footer[64..68].copy_from_slice(&sum);
    let mut header = [0; 1024];
    header[..8].copy_from_slice(b"cxsparse");
    header[8..16].fill(0xFF);
    header[16..24].copy_from_slice(&1536u64.to_be_bytes());
    header[24..28].copy_from_slice(&0x0001_0000u32.to_be_bytes());
    header[28..32].copy_from_slice(&(entries as u32).to_be_bytes());
    header[32..36].copy_from_slice(&(BLOCK as u32).to_be_bytes());
    let sum = checksum(&header);
    header[36..40].copy_from_slice(&sum);
    let table = vec![0xFF; (entries as usize * 4).next_multiple_of(512)];
    write_at(file, 0, &footer)?;
    write_at(file, 512, &header)?;
    write_at(file, 1536, &table)?;
    write_at(file, 1536 + table.len() as u64, &footer)?;
    file.sync_all()
}
