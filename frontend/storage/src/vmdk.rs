//! VMDK, VMware's format (Virtual Disk Format 5.0): sparse in one file, stream optimised (read alone), and flat files
//! that a descriptor lists.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use platform::BlockBackend;
use platform::block::SECTOR_BYTES;

use crate::blocks::{Blocks, Found, Table};
use crate::bytes::{damaged, le32, le64, read_at, write_at};
use crate::raw::start_of;

const MAGIC: &[u8] = b"KDMV";
/// Flags: a second directory, packed grains.
const REDUNDANT: u32 = 1 << 1;
const COMPRESSED: u32 = 1 << 16;
/// The directory is where a footer says.
const AT_END: u64 = u64::MAX;
/// The most bytes in a directory.
const MOST_DIRECTORY: u64 = 16 << 20;
/// Sectors in a grain, and entries in a table, of new images.
const GRAIN: u64 = 128;
const PER_TABLE: u64 = 512;
/// The most tables in memory.
const MOST_TABLES: usize = 4096;
/// The most bytes in a descriptor, and files in it.
const MOST_DESCRIPTOR: u64 = 64 << 10;
const MOST_EXTENTS: usize = 2048;

/// The header of a sparse extent.
struct Header {
    flags: u32,
    capacity: u64,
    grain: u64,
    per_table: u64,
    second: u64,
    first: u64,
    packed: bool,
}

fn header(file: &File) -> io::Result<Header> {
    let mut bytes = [0; 512];
    read_at(file, 0, &mut bytes)?;
    if &bytes[..4] != MAGIC {
        return Err(damaged("it is no sparse VMDK image"));
    }
    if le64(&bytes, 56) == AT_END {
        let len = file.metadata()?.len();
        read_at(file, len.saturating_sub(1024), &mut bytes)?;
        if &bytes[..4] != MAGIC {
            return Err(damaged("its footer is not where it should be"));
        }
    }
    let header = Header {
        flags: le32(&bytes, 8),
        capacity: le64(&bytes, 12),
        grain: le64(&bytes, 20),
        per_table: u64::from(le32(&bytes, 44)),
        second: le64(&bytes, 48),
        first: le64(&bytes, 56),
        packed: bytes[77] != 0,
    };
    if !(1..=3).contains(&le32(&bytes, 4)) {
        return Err(damaged(format!(
            "version {} of VMDK is not known",
            le32(&bytes, 4)
        )));
    }
    if !header.grain.is_power_of_two()
        || !(8..=8192).contains(&header.grain)
        || !(1..=4096).contains(&header.per_table)
    {
        return Err(damaged(format!(
            "grains of {} sectors, tables of {}",
            header.grain, header.per_table
        )));
    }
    if header.capacity == 0 || header.capacity > 1 << 36 {
        return Err(damaged(format!("a disk of {} sectors", header.capacity)));
    }
    Ok(header)
}

/// Bytes on the disk of a sparse image.
pub(crate) fn size(file: &File) -> io::Result<u64> {
    Ok(header(file)?.capacity * SECTOR_BYTES as u64)
}

/// The tables of a sparse extent.
pub(crate) struct Sparse {
    grain: u64,
    per_table: u64,
    /// Where each table is, and its double.
    directory: Vec<u32>,
    double: Option<Vec<u32>>,
    tables: std::collections::BTreeMap<u64, Vec<u32>>,
    packed: bool,
    end: u64,
}

/// Opens the sparse image in `file`.
pub(crate) fn open(file: File, path: PathBuf, writable: bool) -> io::Result<Blocks<Sparse>> {
    let header = header(&file)?;
    let packed = header.packed || header.flags & COMPRESSED != 0;
    if packed && writable {
        return Err(damaged(
            "its grains are packed (stream optimised), so that it can only be read: add ,readonly or convert it",
        ));
    }
    let len = file.metadata()?.len();
    let tables = header.capacity.div_ceil(header.grain * header.per_table);
    if tables * 4 > MOST_DIRECTORY {
        return Err(damaged(format!("{tables} tables")));
    }
    let directory = |sector: u64| -> io::Result<Vec<u32>> {
        let offset = sector.checked_mul(512).filter(|offset| *offset < len);
        let offset = offset.ok_or_else(|| damaged("its directory lies behind the file's end"))?;
        let mut bytes = vec![0; tables as usize * 4];
        read_at(&file, offset, &mut bytes)?;
        Ok(bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|entry| u32::from_le_bytes(*entry))
            .collect())
    };
    let first = directory(header.first)?;
    let double = match header.flags & REDUNDANT != 0 && header.second != 0 {
        true => Some(directory(header.second)?),
        false => None,
    };
    Ok(Blocks {
        size: header.capacity * SECTOR_BYTES as u64,
        table: Sparse {
            grain: header.grain,
            per_table: header.per_table,
            directory: first,
            double,
            tables: std::collections::BTreeMap::new(),
            packed,
            end: len.next_multiple_of(512),
        },
        file,
        path,
        writable,
        unpacked: None,
    })
}

impl Table for Sparse {
    fn block_bytes(&self) -> u64 {
        self.grain * SECTOR_BYTES as u64
    }

    fn find(&mut self, file: &File, number: u64) -> io::Result<Found> {
        let (at, entry) = (number / self.per_table, (number % self.per_table) as usize);
        let Some(&sector) = self
            .directory
            .get(at as usize)
            .filter(|sector| **sector != 0)
        else {
            return Ok(Found::Zeros);
        };
        if !self.tables.contains_key(&at) {
            let offset = u64::from(sector) * 512;
            if offset >= self.end {
                return Err(damaged("a table lies behind the file's end"));
            }
            if self.tables.len() >= MOST_TABLES {
                self.tables.clear();
            }
            let mut bytes = vec![0; self.per_table as usize * 4];
            read_at(file, offset, &mut bytes)?;
            let table = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|entry| u32::from_le_bytes(*entry));
            self.tables.insert(at, table.collect());
        }
        // 1 is a grain that was made zeros.
        let sector = self.tables.get(&at).map_or(0, |table| table[entry]);
        match (sector, u64::from(sector) * 512) {
            (0 | 1, _) => Ok(Found::Zeros),
            (_, offset) if offset >= self.end => Err(damaged("a grain lies behind the file's end")),
            (_, offset) if self.packed => Ok(Found::Packed(offset)),
            (_, offset) => Ok(Found::At(offset)),
        }
    }

    fn unpack(&mut self, file: &File, offset: u64) -> io::Result<Vec<u8>> {
        let mut head = [0; 12];
        read_at(file, offset, &mut head)?;
        let len = u64::from(le32(&head, 8));
        if len > 2 * self.block_bytes() + 4096 {
            return Err(damaged("a packed grain that is too long"));
        }
        let mut packed = vec![0; len as usize];
        read_at(file, offset + 12, &mut packed)?;
        let mut grain = Vec::new();
        let unpacked = flate2::read::ZlibDecoder::new(&packed[..]).take(self.block_bytes());
        { unpacked }
            .read_to_end(&mut grain)
            .map_err(|error| damaged(format!("a grain cannot be unpacked: {error}")))?;
        Ok(grain)
    }

    fn place(&mut self, file: &File, number: u64, content: &[u8]) -> io::Result<()> {
        let (at, entry) = (number / self.per_table, number % self.per_table);
        let sector = |offset: u64| {
            u32::try_from(offset / 512).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))
        };
        let Some(&table) = self
            .directory
            .get(at as usize)
            .filter(|sector| **sector != 0)
        else {
            return Err(damaged("a table that was not made; convert the image"));
        };
        let place = sector(self.end)?;
        write_at(file, self.end, content)?;
        self.end += content.len() as u64;
        let double = self
            .double
            .as_ref()
            .and_then(|double| double.get(at as usize))
            .copied();
        for table in [double.unwrap_or(0), table]
            .into_iter()
            .filter(|table| *table != 0)
        {
            write_at(
                file,
                u64::from(table) * 512 + 4 * entry,
                &place.to_le_bytes(),
            )?;
        }
        if let Some(table) = self.tables.get_mut(&at) {
            table[entry as usize] = place;
        }
        Ok(())
    }
}

/// Writes an empty sparse image called `name`.
pub(crate) fn write_new(file: &File, size: u64, name: &str) -> io::Result<()> {
    let capacity = (size / 512).next_multiple_of(GRAIN);
    if capacity > 1 << 32 {
        return Err(damaged(
            "expected a disk of at most 2 TiB, as VMDK can hold",
        ));
    }
    let tables = capacity.div_ceil(GRAIN * PER_TABLE);
    let directory_sectors = (tables * 4).div_ceil(512);
    let table_sectors = PER_TABLE * 4 / 512;
    let (descriptor_at, descriptor_sectors) = (1, 20);
    let second = descriptor_at + descriptor_sectors;
    let first = second + directory_sectors + tables * table_sectors;
    let overhead = (first + directory_sectors + tables * table_sectors).next_multiple_of(GRAIN);
    let mut head = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, MAGIC);
    put(4, &1u32.to_le_bytes());
    put(8, &(1u32 | REDUNDANT).to_le_bytes());
    for (at, number) in [
        (12, capacity),
        (20, GRAIN),
        (28, descriptor_at),
        (36, descriptor_sectors),
        (48, second),
        (56, first),
        (64, overhead),
    ] {
        put(at, &number.to_le_bytes());
    }
    put(44, &(PER_TABLE as u32).to_le_bytes());
    put(73, b"\n \r\n");
    write_at(file, 0, &head)?;
    let identity = crate::bytes::identity();
    let descriptor = format!(
        "# Disk DescriptorFile\nversion=1\nCID={:02x}{:02x}{:02x}{:02x}\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\n\
         # Extent description\nRW {capacity} SPARSE \"{}\"\n\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n\
         ddb.geometry.cylinders = \"{}\"\nddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\n\
         ddb.adapterType = \"ide\"\n",
        identity[0],
        identity[1],
        identity[2],
        identity[3],
        name.replace('"', "_"),
        (capacity / 16 / 63).min(16_383)
    );
    write_at(file, descriptor_at * 512, descriptor.as_bytes())?;
    for directory in [second, first] {
        let tables_at = directory + directory_sectors;
        let entries = (0..tables)
            .flat_map(|table| ((tables_at + table * table_sectors) as u32).to_le_bytes());
        write_at(file, directory * 512, &entries.collect::<Vec<u8>>())?;
    }
    file.set_len(overhead * 512)?;
    file.sync_all()
}

/// A file that a descriptor lists.
pub(crate) struct Extent {
    pub sectors: u64,
    /// Its name in the descriptor's folder; none: zeros.
    pub name: Option<String>,
    /// Where its first sector is in the file.
    pub at: u64,
    pub sparse: bool,
}

/// The extents of a descriptor's text.
pub(crate) fn extents(text: &str) -> io::Result<Vec<Extent>> {
    let mut extents = Vec::new();
    for line in text.lines().map(str::trim) {
        if line
            .strip_prefix("parentCID=")
            .is_some_and(|parent| !parent.trim().eq_ignore_ascii_case("ffffffff"))
        {
            return Err(damaged(
                "it lies over another image, which is not supported",
            ));
        }
        let mut words = line.split_whitespace();
        let access = words.next().unwrap_or_default();
        if !matches!(access, "RW" | "RDONLY" | "NOACCESS") {
            continue;
        }
        let bad = || damaged(format!("an extent that is not known: {line}"));
        let sectors: u64 = words
            .next()
            .and_then(|word| word.parse().ok())
            .filter(|sectors| *sectors < 1 << 36)
            .ok_or_else(bad)?;
        let kind = words.next().ok_or_else(bad)?;
        let name = line.split('"').nth(1).map(str::to_owned);
        let at = line
            .rsplit('"')
            .next()
            .unwrap_or_default()
            .trim()
            .parse()
            .unwrap_or(0);
        let sparse = match kind {
            "FLAT" | "VMFS" => false,
            "SPARSE" => true,
            "ZERO" => {
                extents.push(Extent {
                    sectors,
                    name: None,
                    at: 0,
                    sparse: false,
                });
                continue;
            }
            _ => return Err(bad()),
        };
        let name = name.ok_or_else(bad)?;
        // What is listed may be anybody's choice: files beside the descriptor, and no others.
        if Path::new(&name)
            .file_name()
            .is_none_or(|file| file != name.as_str())
        {
            return Err(damaged(format!(
                "it names a file in another folder: {name}"
            )));
        }
        extents.push(Extent {
            sectors,
            name: Some(name),
            at,
            sparse,
        });
        if extents.len() > MOST_EXTENTS {
            return Err(damaged("more files than a disk is made of"));
        }
    }
    match extents.is_empty() {
        true => Err(damaged("it lists no extent")),
        false => Ok(extents),
    }
}

/// The descriptor in `file`.
pub(crate) fn descriptor(file: &File) -> io::Result<Vec<Extent>> {
    let mut text = Vec::new();
    let mut handle = file;
    io::Seek::rewind(&mut handle)?;
    handle.take(MOST_DESCRIPTOR).read_to_end(&mut text)?;
    extents(&String::from_utf8_lossy(&text))
}

/// Disks behind each other, as one.
pub(crate) struct Joined {
    /// Each with its sectors; none: zeros.
    pub parts: Vec<(u64, Option<Box<dyn BlockBackend>>)>,
    pub writable: bool,
}

impl Joined {
    /// Goes through the parts that a range meets: the part, the first sector in it, and the bytes' range.
    fn each(
        &mut self,
        lba: u64,
        len: usize,
        mut act: impl FnMut(
            Option<&mut Box<dyn BlockBackend>>,
            u64,
            std::ops::Range<usize>,
        ) -> io::Result<()>,
    ) -> io::Result<()> {
        start_of(self.sectors(), lba, len)?;
        let (mut begin, end) = (0, lba + (len / SECTOR_BYTES) as u64);
        for (sectors, part) in &mut self.parts {
            let (from, to) = (lba.max(begin), end.min(begin + *sectors));
            if from < to {
                let bytes = |at: u64| (at - lba) as usize * SECTOR_BYTES;
                act(part.as_mut(), from - begin, bytes(from)..bytes(to))?;
            }
            begin += *sectors;
        }
        Ok(())
    }
}

impl BlockBackend for Joined {
    fn sectors(&self) -> u64 {
        self.parts.iter().map(|(sectors, _)| sectors).sum()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let len = buf.len();
        self.each(lba, len, |part, at, range| match part {
            Some(part) => part.read(at, &mut buf[range]),
            None => {
                buf[range].fill(0);
                Ok(())
            }
        })
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.each(lba, buf.len(), |part, at, range| match part {
            Some(part) => part.write(at, &buf[range]),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.parts
            .iter_mut()
            .flat_map(|(_, part)| part)
            .try_for_each(|part| part.flush())
    }

    fn read_only(&self) -> bool {
        !self.writable
    }

    fn generation(&mut self) -> io::Result<String> {
        let parts = self.parts.iter_mut().flat_map(|(_, part)| part);
        let generations = parts
            .map(|part| part.generation())
            .collect::<io::Result<Vec<_>>>()?;
        Ok(generations.join("; "))
    }
}
