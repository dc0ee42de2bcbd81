//! VDI, VirtualBox's format (version 1.1): of a fixed size or growing.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::blocks::{Blocks, Found, Table};
use crate::bytes::{damaged, le32, le64, read_at, write_at};

const SIGNATURE: u32 = 0xBEDA_107F;
const VERSION: u32 = 0x0001_0001;
/// Bytes of the header that are looked at.
const HEADER: usize = 0x200;
/// Entries of the table: no block; one that reads as zeros.
const FREE: u32 = 0xFFFF_FFFF;
const ZERO: u32 = 0xFFFF_FFFE;
/// The most entries: 4 TiB of the usual blocks.
const MOST_BLOCKS: u32 = 4 << 20;
/// The block's size in new images.
const BLOCK: u64 = 1 << 20;

/// The table of a VDI image.
pub(crate) struct Vdi {
    map_offset: u64,
    data_offset: u64,
    block: u64,
    extra: u64,
    map: Vec<u32>,
    allocated: u32,
    len: u64,
}

/// What an image says of itself.
pub(crate) fn size(file: &File) -> io::Result<u64> {
    let mut header = [0; HEADER];
    read_at(file, 0, &mut header)?;
    Ok(le64(&header, 0x170))
}

/// Opens the image in `file`.
pub(crate) fn open(file: File, path: PathBuf, writable: bool) -> io::Result<Blocks<Vdi>> {
    let mut header = [0; HEADER];
    read_at(&file, 0, &mut header)?;
    let at = |at: usize| le32(&header, at);
    if at(0x40) != SIGNATURE {
        return Err(damaged("it is no VDI image"));
    }
    if at(0x44) != VERSION {
        return Err(damaged(format!(
            "version {:#x} of VDI is not known",
            at(0x44)
        )));
    }
    match at(0x4C) {
        1 | 2 => {}
        3 | 4 => {
            return Err(damaged(
                "it lies over another image, which is not supported",
            ));
        }
        kind => {
            return Err(damaged(format!(
                "a kind of image that is not known ({kind})"
            )));
        }
    }
    let (size, block, blocks) = (le64(&header, 0x170), u64::from(at(0x178)), at(0x180));
    if at(0x168) != 512 || !block.is_power_of_two() || !(4096..=64 << 20).contains(&block) {
        return Err(damaged(format!(
            "blocks of {block} bytes, sectors of {}",
            at(0x168)
        )));
    }
    if blocks > MOST_BLOCKS || u64::from(blocks) * block < size || at(0x17C) > 1 << 20 {
        return Err(damaged(format!("{blocks} blocks for {size} bytes")));
    }
    let mut bytes = vec![0; blocks as usize * 4];
    read_at(&file, u64::from(at(0x154)), &mut bytes)?;
    let len = file.metadata()?.len();
    let table = Vdi {
        map_offset: at(0x154).into(),
        data_offset: at(0x158).into(),
        block,
        extra: at(0x17C).into(),
        map: bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|entry| u32::from_le_bytes(*entry))
            .collect(),
        allocated: at(0x184),
        len,
    };
    Ok(Blocks {
        file,
        path,
        table,
        size: size / 512 * 512,
        writable,
        unpacked: None,
    })
}

impl Vdi {
    fn offset(&self, index: u32) -> u64 {
        self.data_offset + u64::from(index) * (self.block + self.extra) + self.extra
    }
}

impl Table for Vdi {
    fn block_bytes(&self) -> u64 {
        self.block
    }

    fn find(&mut self, _: &File, number: u64) -> io::Result<Found> {
        match self.map.get(number as usize) {
            None | Some(&(FREE | ZERO)) => Ok(Found::Zeros),
            Some(&index) => {
                let offset = self.offset(index);
                match offset < self.len {
                    true => Ok(Found::At(offset)),
                    false => Err(damaged("a block lies behind the file's end")),
                }
            }
        }
    }

    fn place(&mut self, file: &File, number: u64, content: &[u8]) -> io::Result<()> {
        let index = self.allocated;
        if index >= ZERO || u64::from(index) > self.map.len() as u64 {
            return Err(damaged("more blocks than it has"));
        }
        let offset = self.offset(index);
        write_at(file, offset, content)?;
        // Counted before anything points to it: a second one must not get its place.
        write_at(file, 0x184, &(index + 1).to_le_bytes())?;
        write_at(file, self.map_offset + 4 * number, &index.to_le_bytes())?;
        self.allocated += 1;
        self.map[number as usize] = index;
        self.len = self.len.max(offset + self.block);
        Ok(())
    }
}

/// Writes an empty image that grows.
pub(crate) fn write_new(file: &File, size: u64) -> io::Result<()> {
    let blocks = size.div_ceil(BLOCK);
    if blocks > u64::from(MOST_BLOCKS) {
        return Err(damaged("expected a disk of at most 4 TiB"));
    }
    let map_offset = 0x200u64;
    let data_offset = (map_offset + 4 * blocks).next_multiple_of(512);
    let mut header = vec![0; HEADER];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"<<< Glassbox VM Virtual Disk Image >>>\n");
    for (at, number) in [
        (0x40, SIGNATURE),
        (0x44, VERSION),
        (0x48, 0x190),
        (0x4C, 1),
        (0x154, map_offset as u32),
        (0x158, data_offset as u32),
        (0x168, 512),
        (0x178, BLOCK as u32),
        (0x180, blocks as u32),
    ] {
        put(at, &number.to_le_bytes());
    }
    put(0x170, &size.to_le_bytes());
    // An identity of its own, and one of what it was made as.
    for at in [0x188, 0x198] {
        put(at, &crate::bytes::identity());
    }
    write_at(file, 0, &header)?;
    let mut map = vec![0xFF; 4 * blocks as usize];
    map.resize((data_offset - map_offset) as usize, 0);
    write_at(file, map_offset, &map)?;
    file.sync_all()
}
