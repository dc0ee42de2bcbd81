//! Chains of descriptors, as the guest makes them (virtio §2.7.5).

use platform::PhysAddr;

use super::queue::Broken;
use crate::pci::PciCtx;

const DESCRIPTOR_BYTES: u64 = 16;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// The most descriptors of an indirect table, four times what a queue holds.
const MOST_INDIRECT: u32 = 1024;

/// One buffer.
type Segment = (u64, u32);

/// The buffers that a driver offers together. Their addresses are anything: what lies beyond memory reads as ones, and
/// writes to it are lost.
#[derive(Debug)]
pub struct Chain {
    pub(super) head: u16,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
}

impl Chain {
    /// Follows the chain from descriptor `head` of the table of `size` at `table`.
    pub(super) fn walk(
        ctx: &PciCtx<'_, '_>,
        table: u64,
        size: u16,
        head: u16,
        may_be_indirect: bool,
    ) -> Result<Self, Broken> {
        let mut chain = Self {
            head,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let (mut table, mut size) = (table, u32::from(size));
        let (mut index, mut seen, mut is_indirect) = (u32::from(head), 0, false);
        loop {
            // More of them than there are is a loop.
            if index >= size || seen == size {
                return Err(Broken("a chain that leaves its table, or a loop"));
            }
            seen += 1;
            let mut bytes = [0; DESCRIPTOR_BYTES as usize];
            let at = table.wrapping_add(DESCRIPTOR_BYTES * u64::from(index));
            ctx.dma_read(PhysAddr(at), &mut bytes);
            let [a, b, c, d, e, f, g, h, len @ .., f0, f1, n0, n1] = bytes;
            let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let len = u32::from_le_bytes(len);
            let flags = u16::from_le_bytes([f0, f1]);
            if flags & INDIRECT != 0 {
                let count = len / DESCRIPTOR_BYTES as u32;
                let is_table = u64::from(len).is_multiple_of(DESCRIPTOR_BYTES)
                    && (1..=MOST_INDIRECT).contains(&count);
                if !may_be_indirect || is_indirect || flags & NEXT != 0 || !is_table {
                    return Err(Broken("an indirect table where none may be"));
                }
                (table, size, index, seen) = (address, count, 0, 0);
                is_indirect = true;
                continue;
            }
            if flags & WRITE != 0 {
                chain.writable.push((address, len));
            } else if chain.writable.is_empty() {
                chain.readable.push((address, len));
            } else {
                return Err(Broken("a buffer to read behind one to write"));
            }
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            index = u16::from_le_bytes([n0, n1]).into();
        }
    }

    /// How many bytes the device may read.
    pub fn readable_len(&self) -> u64 {
        len(&self.readable)
    }

    /// How many bytes the device may write.
    pub fn writable_len(&self) -> u64 {
        len(&self.writable)
    }

    /// Reads from byte `offset` of those that the driver wrote; what is beyond them stays as it is.
    pub fn read(&self, ctx: &PciCtx<'_, '_>, offset: u64, buf: &mut [u8]) {
        let mut done = 0;
        for (address, len) in pieces(&self.readable, offset, buf.len()) {
            ctx.dma_read(PhysAddr(address), &mut buf[done..done + len]);
            done += len;
        }
    }

    /// Writes from byte `offset` of those that are the device's; what is beyond them is dropped.
    pub fn write(&self, ctx: &mut PciCtx<'_, '_>, offset: u64, buf: &[u8]) {
        let mut done = 0;
        for (address, len) in pieces(&self.writable, offset, buf.len()) {
            ctx.dma_write(PhysAddr(address), &buf[done..done + len]);
            done += len;
        }
    }
}

fn len(segments: &[Segment]) -> u64 {
    segments.iter().map(|(_, len)| u64::from(*len)).sum()
}

/// Where `len` bytes from `offset` on lie.
fn pieces(
    segments: &[Segment],
    offset: u64,
    len: usize,
) -> impl Iterator<Item = (u64, usize)> + '_ {
    let (mut skip, mut left) = (offset, len as u64);
    segments.iter().filter_map(move |&(address, len)| {
        let len = u64::from(len);
        let within = skip.min(len);
        skip -= within;
        let take = (len - within).min(left);
        left -= take;
        (take > 0).then_some((address.wrapping_add(within), take as usize))
    })
}
