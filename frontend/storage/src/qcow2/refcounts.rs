//! Which clusters are in use ("Host cluster management").
//!
//! New clusters come from behind the file's end. They are counted as used in batches, which are on the disk before
//! anything points to one of their clusters: so whatever ends the process or the host, what is pointed to is counted,
//! and a few clusters may be counted that nothing points to. The next writer takes those again, as they lie behind the
//! file's end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use super::header::Header;
use crate::bytes::{be64, damaged, read_at, write_at};

/// How many clusters are counted at a time.
const BATCH: u64 = 128;
/// The most refcount blocks in memory, in bytes.
const MOST_CACHED: usize = 8 << 20;

/// The reference counts of an image that is written to.
#[derive(Debug)]
pub(super) struct Refcounts {
    cluster_bits: u32,
    order: u32,
    table_offset: u64,
    table: Vec<u64>,
    blocks: BTreeMap<usize, Vec<u8>>,
    /// The next cluster that was never used.
    next: u64,
    /// The first one that is not counted yet.
    counted: u64,
    /// Clusters that nothing points to any more, on the disk too.
    free: Vec<u64>,
}

impl Refcounts {
    /// Those of an image in a file of `len` bytes.
    pub fn read(file: &File, header: &Header, len: u64) -> io::Result<Self> {
        let bytes = (header.refcount_clusters as usize) << header.cluster_bits;
        let mut table = vec![0; bytes];
        read_at(file, header.refcount_offset, &mut table)?;
        let table = table
            .as_chunks::<8>()
            .0
            .iter()
            .map(|entry| u64::from_be_bytes(*entry));
        let next = len.div_ceil(1 << header.cluster_bits);
        let mut made = Self {
            cluster_bits: header.cluster_bits,
            order: header.refcount_order,
            table_offset: header.refcount_offset,
            table: table.collect(),
            blocks: BTreeMap::new(),
            next,
            counted: next,
            free: Vec::new(),
        };
        for entry in &made.table {
            let offset = entry & !511;
            if offset % made.cluster() != 0 || offset >= len.next_multiple_of(made.cluster()) {
                return Err(damaged("a refcount block lies behind the file's end"));
            }
        }
        // What an earlier writer counted and did not use.
        while made.get(file, made.counted)? == 1 && made.counted - next < 4 * BATCH {
            made.counted += 1;
        }
        Ok(made)
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Counts in a block.
    fn per_block(&self) -> u64 {
        (self.cluster() * 8) >> self.order
    }

    fn block(&mut self, file: &File, number: usize) -> io::Result<Option<&mut Vec<u8>>> {
        let Some(entry) = self
            .table
            .get(number)
            .map(|entry| entry & !511)
            .filter(|at| *at != 0)
        else {
            return Ok(None);
        };
        if !self.blocks.contains_key(&number) {
            if (self.blocks.len() + 1) << self.cluster_bits
                > MOST_CACHED.max(1 << self.cluster_bits)
            {
                self.blocks.clear();
            }
            let mut block = vec![0; 1 << self.cluster_bits];
            read_at(file, entry, &mut block)?;
            self.blocks.insert(number, block);
        }
        Ok(self.blocks.get_mut(&number))
    }

    /// How often the cluster `number` is pointed to.
    pub fn get(&mut self, file: &File, number: u64) -> io::Result<u64> {
        let (per_block, order) = (self.per_block(), self.order);
        let at = (number % per_block) as usize;
        let block = self.block(file, (number / per_block) as usize)?;
        Ok(block.map_or(0, |block| read_count(block, at, order)))
    }

    /// Says how often a cluster is pointed to, on the disk too.
    fn set(&mut self, file: &File, number: u64, count: u64) -> io::Result<()> {
        let (per_block, order) = (self.per_block(), self.order);
        let at = (number % per_block) as usize;
        let block_number = (number / per_block) as usize;
        let offset = self.table.get(block_number).map_or(0, |entry| entry & !511);
        let Some(block) = self.block(file, block_number)? else {
            return Err(damaged("a cluster that is not counted"));
        };
        write_count(block, at, order, count);
        let first = (at << order) / 8;
        let last = (((at + 1) << order) - 1) / 8;
        write_at(file, offset + first as u64, &block[first..=last])
    }

    /// A cluster that is counted as used once, on the disk too. What it holds is open.
    pub fn allocate(&mut self, file: &File) -> io::Result<u64> {
        if let Some(number) = self.free.pop() {
            self.set(file, number, 1)?;
            file.sync_data()?;
            return Ok(number << self.cluster_bits);
        }
        if self.next >= self.counted {
            self.count_more(file, BATCH)?;
        }
        let number = self.next;
        self.next += 1;
        Ok(number << self.cluster_bits)
    }

    /// So many clusters behind each other.
    pub fn allocate_run(&mut self, file: &File, clusters: u64) -> io::Result<u64> {
        if clusters >= self.per_block() {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "its clusters are too small for that size; convert it to a new image",
            ));
        }
        while self.counted - self.next < clusters {
            self.count_more(file, clusters.max(BATCH))?;
        }
        let number = self.next;
        self.next += clusters;
        Ok(number << self.cluster_bits)
    }

    /// Counts `more` clusters behind those that are counted already.
    fn count_more(&mut self, file: &File, more: u64) -> io::Result<()> {
        let per_block = self.per_block();
        let block_number = (self.counted / per_block) as usize;
        if block_number >= self.table.len() {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the image's refcount table is full; convert it to a new image",
            ));
        }
        if self.table[block_number] & !511 == 0 {
            // Its block is the first cluster that it counts. What is left before it is for single clusters.
            let number = self.counted;
            for left in self.next..number {
                self.set(file, left, 0)?;
                self.free.push(left);
            }
            self.next = number;
            let mut block = vec![0; 1 << self.cluster_bits];
            write_count(&mut block, (number % per_block) as usize, self.order, 1);
            let offset = number << self.cluster_bits;
            write_at(file, offset, &block)?;
            file.sync_data()?;
            let entry = self.table_offset + 8 * block_number as u64;
            write_at(file, entry, &offset.to_be_bytes())?;
            self.table[block_number] = offset;
            self.blocks.insert(block_number, block);
            self.counted += 1;
            self.next = self.counted;
        }
        let end = (self.counted + more).min((block_number as u64 + 1) * per_block);
        let (first, order) = (self.counted, self.order);
        let offset = self.table[block_number] & !511;
        let Some(block) = self.block(file, block_number)? else {
            return Err(damaged("a refcount block is not there"));
        };
        if end > first {
            for number in first..end {
                write_count(block, (number % per_block) as usize, order, 1);
            }
            let from = (((first % per_block) as usize) << order) / 8;
            let to = (((((end - 1) % per_block) as usize + 1) << order) - 1) / 8;
            write_at(file, offset + from as u64, &block[from..=to])?;
        }
        self.counted = end;
        file.sync_data()
    }

    /// Something points to the cluster at `offset` once less, on the disk too.
    pub fn release(&mut self, file: &File, offset: u64) -> io::Result<()> {
        let number = offset >> self.cluster_bits;
        match self.get(file, number)? {
            0 => Ok(()),
            1 => {
                self.set(file, number, 0)?;
                host::files::make_hole(file, offset, self.cluster());
                self.free.push(number);
                Ok(())
            }
            count => self.set(file, number, count - 1),
        }
    }

    /// The writer ends: what it counted and did not use is not counted any more.
    pub fn close(&mut self, file: &File) -> io::Result<()> {
        while self.counted > self.next {
            self.counted -= 1;
            self.set(file, self.counted, 0)?;
        }
        Ok(())
    }
}

fn read_count(block: &[u8], at: usize, order: u32) -> u64 {
    match order {
        0..3 => {
            let bits = 1usize << order;
            let per_byte = 8 / bits;
            u64::from(block[at / per_byte]) >> (at % per_byte * bits) & ((1 << bits) - 1)
        }
        _ => {
            let bytes = 1usize << (order - 3);
            let bytes = &block[at * bytes..(at + 1) * bytes];
            bytes
                .iter()
                .fold(0, |count, byte| count << 8 | u64::from(*byte))
        }
    }
}

fn write_count(block: &mut [u8], at: usize, order: u32, count: u64) {
    match order {
        0..3 => {
            let bits = 1usize << order;
            let per_byte = 8 / bits;
            let shift = at % per_byte * bits;
            let mask = (((1u16 << bits) - 1) << shift) as u8;
            let byte = &mut block[at / per_byte];
            *byte = *byte & !mask | (count as u8) << shift & mask;
        }
        _ => {
            let bytes = 1usize << (order - 3);
            block[at * bytes..(at + 1) * bytes].copy_from_slice(&count.to_be_bytes()[8 - bytes..]);
        }
    }
}

/// Counts clusters of a new image as used; `table` is the first block's content.
pub(super) fn first_block(cluster_bits: u32, clusters: u64) -> Vec<u8> {
    let mut block = vec![0; 1 << cluster_bits];
    for number in 0..clusters {
        write_count(&mut block, number as usize, 4, 1);
    }
    block
}

/// How many clusters a block of 16-bit counts covers.
pub(super) fn covered(cluster_bits: u32) -> u64 {
    1 << (cluster_bits - 1)
}

/// The number at an entry of a table in `bytes`.
pub(super) fn entry(bytes: &[u8], at: usize) -> u64 {
    be64(bytes, at * 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_width_are_apart() {
        for order in 0..=6 {
            let mut block = vec![0; 512];
            let count = |at: usize| (at as u64 * 7 + 1) & (u64::MAX >> (64 - (1u32 << order)));
            let all = (512 * 8) >> order;
            for at in 0..all {
                write_count(&mut block, at, order, count(at));
            }
            for at in 0..all {
                assert_eq!(read_count(&block, at, order), count(at), "{order} {at}");
            }
        }
    }
}
