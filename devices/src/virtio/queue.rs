//! The split virtqueue (virtio §2.7).

use platform::PhysAddr;
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use crate::pci::PciCtx;

/// Features of the ring itself.
pub(super) const RING_INDIRECT_DESC: u64 = 1 << 28;
pub(super) const RING_EVENT_IDX: u64 = 1 << 29;

/// Available ring, flags: the driver does not want interrupts.
const NO_INTERRUPT: u16 = 1;

/// No vector.
pub(super) const NO_VECTOR: u16 = 0xFFFF;

/// What the driver did that it must not do: the device needs a reset.
#[derive(Debug)]
pub struct Broken(pub &'static str);

/// One queue, with what is saved of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue {
    pub(super) size: u16,
    pub(super) enabled: bool,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    pub(super) vector: u16,
    /// The driver notified; chains may wait.
    pub(super) notified: bool,
    /// How much is done of the chain that is served, as its device counts.
    pub(super) progress: u64,
    /// Where the available ring is read, and the used ring written: the indices that the rings have.
    next: u16,
    used_next: u16,
    /// The used index when the driver was last told, or not told.
    considered: u16,
}

impl Queue {
    pub(super) fn new(size: u16) -> Self {
        Self {
            size,
            enabled: false,
            descriptors: 0,
            available: 0,
            used: 0,
            vector: NO_VECTOR,
            notified: false,
            progress: 0,
            next: 0,
            used_next: 0,
            considered: 0,
        }
    }

    /// Lays the rings out as the legacy interface has them, from page `page` on (virtio §2.7.2).
    pub(super) fn place_legacy(&mut self, page: u32) {
        let size = u64::from(self.size);
        self.descriptors = u64::from(page) << 12;
        self.available = self.descriptors + 16 * size;
        self.used = (self.available + 6 + 2 * size).next_multiple_of(4096);
        self.enabled = true;
    }

    /// Whether a queue of at most `most` descriptors can be as this one.
    pub(super) fn is_sound(&self, most: u16) -> bool {
        self.size.is_power_of_two() && self.size <= most
    }

    /// How many chains the driver offers.
    pub(super) fn offered(&self, ctx: &PciCtx<'_, '_>) -> u16 {
        read(ctx, self.available.wrapping_add(2)).wrapping_sub(self.next)
    }

    /// Where the next chain begins.
    pub(super) fn head(&self, ctx: &PciCtx<'_, '_>) -> u16 {
        self.head_at(ctx, 0)
    }

    fn head_at(&self, ctx: &PciCtx<'_, '_>, nth: u16) -> u16 {
        let slot = u64::from(self.next.wrapping_add(nth) % self.size);
        read(ctx, self.available.wrapping_add(4 + 2 * slot))
    }

    /// The next chain that the driver offers; it stays there until [`finish`](Self::finish).
    pub(super) fn peek(
        &self,
        ctx: &PciCtx<'_, '_>,
        features: u64,
    ) -> Result<Option<Chain>, Broken> {
        self.peek_at(ctx, features, 0)
    }

    /// The `nth` of the chains that the driver offers, from 0 on.
    pub(super) fn peek_at(
        &self,
        ctx: &PciCtx<'_, '_>,
        features: u64,
        nth: u16,
    ) -> Result<Option<Chain>, Broken> {
        match self.offered(ctx) {
            waiting if waiting > self.size => {
                return Err(Broken("more chains than the queue has descriptors"));
            }
            waiting if waiting <= nth => return Ok(None),
            _ => {}
        }
        let head = self.head_at(ctx, nth);
        let may_be_indirect = features & RING_INDIRECT_DESC != 0;
        Chain::walk(ctx, self.descriptors, self.size, head, may_be_indirect).map(Some)
    }

    /// Hands the chain back, in which the device wrote `written` bytes.
    pub(super) fn finish(&mut self, ctx: &mut PciCtx<'_, '_>, head: u16, written: u32) {
        let slot = u64::from(self.used_next % self.size);
        let mut element = [0; 8];
        element[..2].copy_from_slice(&head.to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        let at = self.used.wrapping_add(4 + 8 * slot);
        ctx.dma_write(PhysAddr(at), &element);
        self.next = self.next.wrapping_add(1);
        self.used_next = self.used_next.wrapping_add(1);
        self.progress = 0;
        write(ctx, self.used.wrapping_add(2), self.used_next);
    }

    /// What there is of chains is not enough: asks for a notification of the next one.
    pub(super) fn rest(&mut self, ctx: &mut PciCtx<'_, '_>, features: u64) {
        self.notified = false;
        if features & RING_EVENT_IDX != 0 {
            let at = 4 + 8 * u64::from(self.size);
            let known = self.next.wrapping_add(self.offered(ctx));
            write(ctx, self.used.wrapping_add(at), known);
        }
    }

    /// Whether the driver wants to be told of what was handed back since this was last asked (virtio §2.7.7).
    pub(super) fn take_wish(&mut self, ctx: &PciCtx<'_, '_>, features: u64) -> bool {
        let before = std::mem::replace(&mut self.considered, self.used_next);
        let new = self.used_next.wrapping_sub(before);
        if new == 0 {
            return false;
        }
        if features & RING_EVENT_IDX == 0 {
            return read(ctx, self.available) & NO_INTERRUPT == 0;
        }
        let at = 4 + 2 * u64::from(self.size);
        let event = read(ctx, self.available.wrapping_add(at));
        self.used_next.wrapping_sub(event).wrapping_sub(1) < new
    }
}

fn read(ctx: &PciCtx<'_, '_>, at: u64) -> u16 {
    let mut bytes = [0; 2];
    ctx.dma_read(PhysAddr(at), &mut bytes);
    u16::from_le_bytes(bytes)
}

fn write(ctx: &mut PciCtx<'_, '_>, at: u64, value: u16) {
    ctx.dma_write(PhysAddr(at), &value.to_le_bytes());
}
