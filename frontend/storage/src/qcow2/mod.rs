//! qcow2, QEMU's format (its docs/interop/qcow2.txt): versions 2 and 3, read and written.
//!
//! | file | what |
//! |---|---|
//! | `header.rs` | the header, its extensions, internal snapshots |
//! | `refcounts.rs` | which clusters are in use |
//!
//! What is written where, and when: a new cluster is counted as used on the disk before anything points to it
//! (`refcounts.rs`); its content is there before an L2 entry points to it. So that this costs no wait for each cluster,
//! the entries of clusters that replace others are kept for up to a second ([`SETTLES`]), or until a flush; meanwhile
//! the image is what it was before, whatever ends the process or the host. Where nothing is replaced the entry is
//! written at once.
//!
//! An image is not trusted: every offset is checked against the file, tables are bounded, and a cluster that is
//! compressed unpacks to one cluster at most.

mod header;
mod refcounts;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use platform::BlockBackend;
use platform::block::SECTOR_BYTES;

use crate::Error;
use crate::bytes::{be32, damaged, read_at, write_at};
use crate::raw::start_of;

pub use header::{Backing, InternalSnapshot};
use header::{Header, LONG};
use refcounts::Refcounts;

/// L2 entries: the cluster is pointed to from here alone; it is compressed.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// It reads as zeros (version 3).
const ZERO: u64 = 1;
/// Where an entry has its offset.
const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;

/// How long an entry that replaces another waits for more of them.
const SETTLES: Duration = Duration::from_secs(1);
/// How many wait at most.
const MOST_WAITING: usize = 4096;
/// The most L2 tables in memory, in bytes.
const MOST_CACHED: usize = 16 << 20;

/// A qcow2 image in a file.
pub struct Qcow2 {
    file: File,
    path: PathBuf,
    header: Header,
    /// Bytes in the file when it was opened, in whole clusters, and what was added since.
    end: u64,
    l1: Vec<u64>,
    /// L2 tables by their offset.
    tables: BTreeMap<u64, Vec<u64>>,
    /// What is written to; none: it is only read.
    writes: Option<Refcounts>,
    /// L2 entries that are not on the disk yet, by their place in the file.
    waiting: BTreeMap<u64, u64>,
    since: Option<Instant>,
    /// Clusters that entries which wait point to no more.
    released: Vec<u64>,
    backing: Option<Box<dyn BlockBackend>>,
    /// The cluster that was unpacked last, and its entry.
    unpacked: Option<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for Qcow2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qcow2")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Where a cluster's content is.
enum Found {
    /// Nowhere: it is the backing file's.
    Nowhere,
    Zeros,
    /// At this offset of the file.
    At(u64),
    /// Compressed; the entry.
    Packed(u64),
}

impl Qcow2 {
    /// The image in `file`, over `backing`, which the header names.
    ///
    /// # Errors
    /// It is damaged, or has features that are not known.
    pub fn open(
        file: File,
        path: PathBuf,
        writable: bool,
        backing: Option<Box<dyn BlockBackend>>,
    ) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let header = Header::read(&file, len)?;
        if writable && header.corrupt {
            return Err(damaged(
                "it is marked as damaged; check it with: qemu-img check",
            ));
        }
        if writable && header.dirty {
            return Err(damaged(
                "it was not closed well; repair it with: qemu-img check -r all",
            ));
        }
        if !header.size.is_multiple_of(SECTOR_BYTES as u64) && writable {
            return Err(damaged("it has no whole number of sectors"));
        }
        let mut bytes = vec![0; header.l1_entries as usize * 8];
        read_at(&file, header.l1_offset, &mut bytes)?;
        let l1 = (0..header.l1_entries as usize)
            .map(|at| refcounts::entry(&bytes, at))
            .collect();
        let writes = match writable {
            true => Some(Refcounts::read(&file, &header, len)?),
            false => None,
        };
        Ok(Self {
            file,
            path,
            end: len.next_multiple_of(1 << header.cluster_bits),
            header,
            l1,
            tables: BTreeMap::new(),
            writes,
            waiting: BTreeMap::new(),
            since: None,
            released: Vec::new(),
            backing,
            unpacked: None,
        })
    }

    fn cluster(&self) -> u64 {
        1 << self.header.cluster_bits
    }

    fn per_table(&self) -> u64 {
        self.cluster() / 8
    }

    /// Whether a cluster at `offset` lies in the file.
    fn check(&self, offset: u64) -> io::Result<u64> {
        match offset.is_multiple_of(self.cluster()) && offset != 0 && offset < self.end {
            true => Ok(offset),
            false => Err(damaged(format!(
                "{}: a cluster lies outside of the file",
                self.path.display()
            ))),
        }
    }

    /// Where the L2 table of the cluster `number` is; 0: there is none.
    fn table_offset(&self, number: u64) -> io::Result<u64> {
        let entry = self
            .l1
            .get((number / self.per_table()) as usize)
            .copied()
            .unwrap_or(0);
        match entry & OFFSET {
            0 => Ok(0),
            offset => self.check(offset),
        }
    }

    fn table(&mut self, offset: u64) -> io::Result<&mut Vec<u64>> {
        if !self.tables.contains_key(&offset) {
            if (self.tables.len() + 1) << self.header.cluster_bits > MOST_CACHED {
                self.settle()?;
                self.tables.clear();
            }
            let mut bytes = vec![0; self.cluster() as usize];
            read_at(&self.file, offset, &mut bytes)?;
            let table = (0..bytes.len() / 8)
                .map(|at| refcounts::entry(&bytes, at))
                .collect();
            self.tables.insert(offset, table);
        }
        self.tables
            .get_mut(&offset)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The L2 entry of the cluster `number`.
    fn entry(&mut self, number: u64) -> io::Result<u64> {
        let offset = self.table_offset(number)?;
        if offset == 0 {
            return Ok(0);
        }
        let at = (number % self.per_table()) as usize;
        Ok(self.table(offset)?[at])
    }

    fn find(&mut self, number: u64) -> io::Result<Found> {
        let entry = self.entry(number)?;
        self.found(entry)
    }

    fn found(&self, entry: u64) -> io::Result<Found> {
        if entry & COMPRESSED != 0 {
            return Ok(Found::Packed(entry & !COPIED));
        }
        if entry & ZERO != 0 && self.header.version >= 3 {
            return Ok(Found::Zeros);
        }
        match entry & OFFSET {
            0 => Ok(Found::Nowhere),
            offset => Ok(Found::At(self.check(offset)?)),
        }
    }

    /// Where a compressed cluster is in the file, in bytes: offset and length.
    fn packed_at(&self, entry: u64) -> (u64, u64) {
        let shift = 62 - (self.header.cluster_bits - 8);
        let offset = entry & ((1 << shift) - 1);
        let sectors = (entry & !COMPRESSED & !COPIED) >> shift;
        (offset, (sectors + 1) * 512 - offset % 512)
    }

    /// Unpacks a compressed cluster ("Compressed Clusters Descriptor").
    fn unpack(&mut self, entry: u64) -> io::Result<&[u8]> {
        if self
            .unpacked
            .as_ref()
            .is_none_or(|(known, _)| *known != entry)
        {
            let (offset, len) = self.packed_at(entry);
            if offset >= self.end || len > 2 * self.cluster() + 512 {
                return Err(damaged(format!(
                    "{}: a compressed cluster lies outside of the file",
                    self.path.display()
                )));
            }
            let mut packed = vec![0; len as usize];
            read_at(&self.file, offset, &mut packed)?;
            let mut cluster = Vec::new();
            let unpacked = flate2::read::DeflateDecoder::new(&packed[..]);
            unpacked
                .take(self.cluster())
                .read_to_end(&mut cluster)
                .map_err(|error| {
                    damaged(format!(
                        "{}: a compressed cluster cannot be unpacked: {error}",
                        self.path.display()
                    ))
                })?;
            cluster.resize(self.cluster() as usize, 0);
            self.unpacked = Some((entry, cluster));
        }
        Ok(self.unpacked.as_ref().map_or(&[], |(_, cluster)| cluster))
    }

    /// Reads from the cluster `number` on, from a byte in it.
    fn read_part(&mut self, number: u64, from: u64, buf: &mut [u8]) -> io::Result<()> {
        match self.find(number)? {
            Found::Nowhere => self.read_backing((number << self.header.cluster_bits) + from, buf),
            Found::Zeros => {
                buf.fill(0);
                Ok(())
            }
            Found::At(offset) => read_at(&self.file, offset + from, buf),
            Found::Packed(entry) => {
                let cluster = self.unpack(entry)?;
                buf.copy_from_slice(&cluster[from as usize..from as usize + buf.len()]);
                Ok(())
            }
        }
    }

    /// What lies below; beyond its end are zeros.
    fn read_backing(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let Some(backing) = &mut self.backing else {
            buf.fill(0);
            return Ok(());
        };
        let lba = offset / SECTOR_BYTES as u64;
        let there = backing
            .sectors()
            .saturating_sub(lba)
            .saturating_mul(SECTOR_BYTES as u64);
        let there = there.min(buf.len() as u64) as usize;
        buf[there..].fill(0);
        match there {
            0 => Ok(()),
            _ => backing.read(lba, &mut buf[..there]),
        }
    }

    /// Splits a range of the disk at clusters: number, first byte in it, length.
    fn pieces(&self, start: u64, len: usize) -> impl Iterator<Item = (u64, u64, usize)> + use<> {
        let (bits, cluster) = (self.header.cluster_bits, self.cluster());
        let mut done = 0;
        std::iter::from_fn(move || {
            if done == len {
                return None;
            }
            let at = start + done as u64;
            let from = at % cluster;
            let piece = (len - done).min((cluster - from) as usize);
            done += piece;
            Some((at >> bits, from, piece))
        })
    }

    /// The refcounts, and the file that they are in.
    fn writing(&mut self) -> io::Result<(&mut Refcounts, &File)> {
        match &mut self.writes {
            Some(writes) => Ok((writes, &self.file)),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn allocate(&mut self) -> io::Result<u64> {
        let (refcounts, file) = self.writing()?;
        let offset = refcounts.allocate(file)?;
        let cluster = self.cluster();
        self.end = self.end.max(offset + cluster);
        Ok(offset)
    }

    /// The L2 table of the cluster `number`, which may be written to: made where there is none, copied where a snapshot
    /// has it too.
    fn own_table(&mut self, number: u64) -> io::Result<u64> {
        let at = (number / self.per_table()) as usize;
        let old = *self.l1.get(at).ok_or(io::ErrorKind::InvalidInput)?;
        let old_offset = self.table_offset(number)?;
        if old & COPIED != 0 && old_offset != 0 {
            return Ok(old_offset);
        }
        let mut bytes = vec![0; self.cluster() as usize];
        if old_offset != 0 {
            // A snapshot has the clusters too: they must not be written to in place.
            self.settle()?;
            read_at(&self.file, old_offset, &mut bytes)?;
            for entry in bytes.as_chunks_mut::<8>().0 {
                entry[0] &= 0x7F;
            }
        }
        let offset = self.allocate()?;
        write_at(&self.file, offset, &bytes)?;
        self.file.sync_data()?;
        let entry = offset | COPIED;
        write_at(
            &self.file,
            self.header.l1_offset + 8 * at as u64,
            &entry.to_be_bytes(),
        )?;
        self.l1[at] = entry;
        self.tables.remove(&old_offset);
        if old_offset != 0 {
            // Counted down only once nothing on the disk can point there.
            self.file.sync_data()?;
            let (refcounts, file) = self.writing()?;
            refcounts.release(file, old_offset)?;
        }
        Ok(offset)
    }

    /// Has the entry of the cluster `number` point elsewhere. `at_once`: there was nothing that could be lost.
    fn point(&mut self, number: u64, entry: u64, at_once: bool) -> io::Result<()> {
        let table = self.own_table(number)?;
        let at = number % self.per_table();
        let old = std::mem::replace(&mut self.table(table)?[at as usize], entry);
        let place = table + 8 * at;
        if at_once && !self.waiting.contains_key(&place) {
            write_at(&self.file, place, &entry.to_be_bytes())?;
        } else {
            self.waiting.insert(place, entry);
            self.since.get_or_insert_with(Instant::now);
        }
        match self.found(old) {
            Ok(Found::Packed(old)) => {
                let (offset, len) = self.packed_at(old);
                let (first, last) = (offset / self.cluster(), (offset + len - 1) / self.cluster());
                for cluster in first..=last.min(first + 2) {
                    self.released.push(cluster * self.cluster());
                }
            }
            Ok(Found::At(offset)) if offset != entry & OFFSET => self.released.push(offset),
            // A cluster that reads as zeros may keep its place.
            Ok(Found::Zeros) if old & OFFSET != 0 && old & OFFSET != entry & OFFSET => {
                let offset = self.check(old & OFFSET)?;
                self.released.push(offset);
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes into the cluster `number`, from a byte in it.
    fn write_part(&mut self, number: u64, from: u64, buf: &[u8]) -> io::Result<()> {
        let entry = self.entry(number)?;
        let found = self.found(entry)?;
        if let Found::At(offset) = found
            && entry & COPIED != 0
            && self.l1_is_own(number)
        {
            return write_at(&self.file, offset + from, buf);
        }
        let cluster = self.cluster() as usize;
        let offset = self.allocate()?;
        let is_new = matches!(found, Found::Nowhere) && self.backing.is_none();
        if buf.len() == cluster {
            write_at(&self.file, offset, buf)?;
        } else {
            let mut whole = vec![0; cluster];
            // The last cluster may go beyond the disk's end.
            self.read_part(number, 0, &mut whole)?;
            whole[from as usize..from as usize + buf.len()].copy_from_slice(buf);
            write_at(&self.file, offset, &whole)?;
        }
        self.point(number, offset | COPIED, is_new)?;
        self.settle_in_time()
    }

    fn l1_is_own(&self, number: u64) -> bool {
        let entry = self.l1.get((number / self.per_table()) as usize);
        entry.is_some_and(|entry| entry & COPIED != 0)
    }

    fn settle_in_time(&mut self) -> io::Result<()> {
        let late = self.since.is_some_and(|since| since.elapsed() >= SETTLES);
        match late || self.waiting.len() >= MOST_WAITING {
            true => self.settle(),
            false => Ok(()),
        }
    }

    /// Writes the entries that wait, once the content that they point to is on the disk.
    fn settle(&mut self) -> io::Result<()> {
        self.since = None;
        if !self.waiting.is_empty() {
            self.file.sync_data()?;
            let waiting = std::mem::take(&mut self.waiting);
            let mut entries = waiting.into_iter().peekable();
            while let Some((place, entry)) = entries.next() {
                let mut run = entry.to_be_bytes().to_vec();
                while let Some((_, entry)) =
                    entries.next_if(|(next, _)| *next == place + run.len() as u64)
                {
                    run.extend(entry.to_be_bytes());
                }
                write_at(&self.file, place, &run)?;
            }
        }
        if !self.released.is_empty() {
            // Nothing on the disk points there any more: only then may it be used anew.
            self.file.sync_data()?;
            for offset in std::mem::take(&mut self.released) {
                let (refcounts, file) = self.writing()?;
                refcounts.release(file, offset)?;
            }
        }
        Ok(())
    }

    /// Bytes on the disk.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// Makes the disk as large as `bytes`; what is cut off is lost.
    ///
    /// # Errors
    /// A host failure; the image is as before then.
    pub fn resize(&mut self, bytes: u64) -> io::Result<()> {
        self.settle()?;
        let per_entry = self.cluster() * self.per_table();
        let entries = bytes.div_ceil(per_entry);
        if entries * 8 > 32 << 20 || bytes > 1 << 56 {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "its clusters are too small for that size; convert it to a new image",
            ));
        }
        if bytes < self.header.size {
            // What is cut off must not come back when the disk grows again.
            let first = bytes.div_ceil(self.cluster());
            for number in first..self.header.size.div_ceil(self.cluster()) {
                if self.table_offset(number)? != 0 && self.entry(number)? != 0 {
                    self.point(number, 0, false)?;
                }
            }
            self.settle()?;
        }
        if entries > self.l1.len() as u64 {
            let clusters = (entries * 8).div_ceil(self.cluster());
            let (refcounts, file) = self.writing()?;
            let offset = refcounts.allocate_run(file, clusters)?;
            let old = (
                self.header.l1_offset,
                (self.l1.len() as u64 * 8).div_ceil(self.cluster()),
            );
            self.l1.resize(entries as usize, 0);
            let mut table: Vec<u8> = self
                .l1
                .iter()
                .flat_map(|entry| entry.to_be_bytes())
                .collect();
            table.resize((clusters * self.cluster()) as usize, 0);
            write_at(&self.file, offset, &table)?;
            self.end = self.end.max(offset + clusters * self.cluster());
            self.file.sync_data()?;
            let mut place = (entries as u32).to_be_bytes().to_vec();
            place.extend(offset.to_be_bytes());
            write_at(&self.file, 36, &place)?;
            self.file.sync_data()?;
            self.header.l1_offset = offset;
            self.header.l1_entries = entries as u32;
            for cluster in 0..old.1 {
                let at = old.0 + cluster * self.cluster();
                let (refcounts, file) = self.writing()?;
                refcounts.release(file, at)?;
            }
        }
        write_at(&self.file, 24, &bytes.to_be_bytes())?;
        self.file.sync_data()?;
        self.header.size = bytes;
        Ok(())
    }

    /// The next sectors from `lba` on that this image has itself, and does not leave to what it lies over: the first
    /// one and how many. `None`: there are no more.
    ///
    /// # Errors
    /// A host failure, or the image is damaged.
    pub fn next_own(&mut self, lba: u64) -> io::Result<Option<(u64, u64)>> {
        let per_cluster = self.cluster() / SECTOR_BYTES as u64;
        let clusters = self.header.size.div_ceil(self.cluster());
        let mut number = lba / per_cluster;
        while number < clusters {
            if self.table_offset(number)? == 0 {
                number = (number / self.per_table() + 1) * self.per_table();
                continue;
            }
            if !matches!(self.find(number)?, Found::Nowhere) {
                let first = (number * per_cluster).max(lba);
                let end = ((number + 1) * per_cluster).min(self.sectors());
                return Ok((first < end).then_some((first, end - first)));
            }
            number += 1;
        }
        Ok(None)
    }
}

impl BlockBackend for Qcow2 {
    fn sectors(&self) -> u64 {
        self.header.size / SECTOR_BYTES as u64
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = start_of(self.sectors(), lba, buf.len())?;
        let mut done = 0;
        for (number, from, len) in self.pieces(start, buf.len()) {
            self.read_part(number, from, &mut buf[done..done + len])?;
            done += len;
        }
        Ok(())
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        self.writing()?;
        let start = start_of(self.sectors(), lba, buf.len())?;
        let mut done = 0;
        for (number, from, len) in self.pieces(start, buf.len()) {
            self.write_part(number, from, &buf[done..done + len])?;
            done += len;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.writes.is_none() {
            return Ok(());
        }
        self.settle()?;
        self.file.sync_data()
    }

    fn idle(&mut self) -> io::Result<()> {
        self.settle_in_time()
    }

    fn read_only(&self) -> bool {
        self.writes.is_none()
    }

    /// Whole clusters read as zeros then, and their room is the host's again.
    fn discard(&mut self, lba: u64, sectors: u64) -> io::Result<()> {
        self.writing()?;
        let end = lba
            .checked_add(sectors)
            .filter(|end| *end <= self.sectors());
        let end = end.ok_or(io::ErrorKind::InvalidInput)? * SECTOR_BYTES as u64;
        let cluster = self.cluster();
        let first = (lba * SECTOR_BYTES as u64).div_ceil(cluster);
        // The disk's last cluster may be less than a whole one.
        let last = match end == self.header.size {
            true => end.div_ceil(cluster),
            false => end / cluster,
        };
        let mut number = first;
        while number < last {
            if self.table_offset(number)? == 0 && self.backing.is_none() {
                number = (number / self.per_table() + 1) * self.per_table();
                continue;
            }
            let entry = self.entry(number)?;
            let empty = match (&self.backing, self.header.version) {
                (None, _) => 0,
                (Some(_), 3) => ZERO,
                // Version 2 cannot say that it reads as zeros.
                _ => entry,
            };
            if entry != empty && (entry != 0 || empty != 0) {
                self.point(number, empty, false)?;
            }
            number += 1;
        }
        self.settle_in_time()
    }

    /// Length and time of the last change, of the whole chain.
    fn generation(&mut self) -> io::Result<String> {
        self.settle()?;
        let metadata = self.file.metadata()?;
        let changed = metadata.modified().ok();
        let since = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let own = format!(
            "{} bytes, {} ns",
            metadata.len(),
            since.unwrap_or_default().as_nanos()
        );
        match &mut self.backing {
            Some(backing) => Ok(format!("{own}, over {}", backing.generation()?)),
            None => Ok(own),
        }
    }
}

impl Drop for Qcow2 {
    fn drop(&mut self) {
        let closed = self.flush().and_then(|()| match &mut self.writes {
            Some(writes) => writes.close(&self.file),
            None => Ok(()),
        });
        if let Err(error) = closed {
            log::error!(target: "disk", "{}: cannot be closed: {error}", self.path.display());
        }
    }
}

/// What a new image is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes on the disk.
    pub size: u64,
    /// What it lies over.
    pub backing: Option<Backing>,
    /// The size of its clusters: 2 to this power, 9 to 21.
    pub cluster_bits: u32,
}

/// Makes the image `path`, which must not be there yet.
///
/// # Errors
/// It is there, or the host refuses: nothing is left then.
pub fn create(path: &Path, options: &Options) -> Result<(), Error> {
    let failed = |reason: io::Error| Error::Unwritten {
        path: path.to_owned(),
        reason,
    };
    let mut image = std::fs::OpenOptions::new();
    let file = image
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    let made = write_new(&file, options);
    if made.is_err() {
        let _ = std::fs::remove_file(path);
    }
    made.map_err(failed)
}

/// Writes header, refcounts and an empty L1 table.
pub(crate) fn write_new(file: &File, options: &Options) -> io::Result<()> {
    let bits = options.cluster_bits;
    if !(9..=21).contains(&bits) {
        return Err(damaged(format!(
            "expected clusters of 2^9 to 2^21 bytes, found 2^{bits}"
        )));
    }
    let cluster = 1u64 << bits;
    let size = options.size.next_multiple_of(SECTOR_BYTES as u64);
    let l1_entries = size.div_ceil(cluster * (cluster / 8)).max(1);
    if l1_entries * 8 > 32 << 20 {
        return Err(damaged(
            "expected a disk that clusters of this size can hold",
        ));
    }
    let l1_clusters = (l1_entries * 8).div_ceil(cluster);
    // Room for what the disk's content, its tables and their counts may take, twice over.
    let covered = refcounts::covered(bits);
    let most = (size / cluster + size / cluster / (cluster / 8) + l1_clusters + 64) * 2;
    let table_clusters = (most.div_ceil(covered) * 8)
        .div_ceil(cluster)
        .min((8 << 20) / cluster)
        .max(1);
    let used = 1 + table_clusters + 1 + l1_clusters;
    if used > covered {
        return Err(damaged("expected larger clusters for a disk of this size"));
    }
    let header = Header {
        version: 3,
        backing: options.backing.clone(),
        cluster_bits: bits,
        size,
        l1_entries: l1_entries as u32,
        l1_offset: (1 + table_clusters + 1) * cluster,
        refcount_offset: cluster,
        refcount_clusters: table_clusters as u32,
        refcount_order: 4,
        snapshots: 0,
        snapshots_offset: 0,
        dirty: false,
        corrupt: false,
    };
    let block = (1 + table_clusters) * cluster;
    file.set_len(used * cluster)?;
    write_at(file, cluster, &block.to_be_bytes())?;
    write_at(file, block, &refcounts::first_block(bits, used))?;
    write_at(file, 0, &header::first_cluster(&header)?)?;
    file.sync_all()
}

/// Has the image `path` lie over another file, or over none: in one step. Its content does not change if both hold the
/// same.
///
/// # Errors
/// It is no qcow2 image of version 3 as this module writes them, or the host refuses.
pub fn rebase(path: &Path, backing: Option<Backing>) -> Result<(), Error> {
    let failed = |reason: io::Error| Error::Unwritten {
        path: path.to_owned(),
        reason,
    };
    let change = || -> io::Result<()> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)?;
        let header = Header::read(&file, file.metadata()?.len())?;
        let mut start = [0; LONG];
        read_at(&file, 0, &mut start)?;
        if header.version != 3 || be32(&start, 100) != LONG as u32 {
            return Err(damaged("expected an image that Glassbox made"));
        }
        let first = header::first_cluster(&Header { backing, ..header })?;
        // One write, so that whoever looks finds the old name or the new one.
        let used = first
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        let used = used.max(LONG + 8 + header::MOST_NAME).min(first.len());
        write_at(&file, 0, &first[..used])?;
        file.sync_data()
    };
    change().map_err(failed)
}

/// What is known of an image without its content.
pub(crate) struct Look {
    pub size: u64,
    pub backing: Option<Backing>,
    pub snapshots: Vec<InternalSnapshot>,
    pub cluster_bytes: u64,
}

/// Looks at the header of the image in `file`.
pub(crate) fn look(file: &File) -> io::Result<Look> {
    let len = file.metadata()?.len();
    let header = Header::read(file, len)?;
    Ok(Look {
        size: header.size,
        snapshots: header::snapshots(file, &header, len)?,
        cluster_bytes: 1 << header.cluster_bits,
        backing: header.backing,
    })
}
