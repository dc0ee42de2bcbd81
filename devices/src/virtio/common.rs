//! The registers that drivers negotiate and place queues by: the common configuration structure (virtio §4.1.4.3) and
//! the legacy ports (virtio §4.1.4.10).
//!
//! | legacy port | what |
//! |---|---|
//! | 0, 4 | features offered, accepted (bits 0-31) |
//! | 8 | the page of the selected queue |
//! | C, E | size of the queue; which one is selected |
//! | 10 | notification |
//! | 12, 13 | device status; ISR status |
//! | 14, 16 | with MSI-X on: vectors of the configuration and of the queue |
//! | 14 or 18 | the device's own configuration |

use super::pci::{FEATURES_OK, VirtioDevice, VirtioPci};
use super::queue::NO_VECTOR;
use crate::pci::PciCtx;

impl<D: VirtioDevice + 'static> VirtioPci<D> {
    /// A vector as it reads back: one that is not there is none.
    fn vector(&self, value: u64) -> u16 {
        let count = self.kind.queues.len() as u64 + 1;
        if value < count {
            value as u16
        } else {
            NO_VECTOR
        }
    }

    // ---- version 1 -------------------------------------------------------------------------------

    /// All registers but the device's own, none of which minds being read.
    fn common(&mut self) -> [u8; 0x38] {
        let offered = half(self.offered(), self.state.offered_select);
        let state = &mut self.state;
        let accepted = half(state.accepted, state.accepted_select);
        let number = state.queue_select;
        let queues = state.queues.len() as u16;
        let queue = state.queue().cloned();
        let mut bytes = [0; 0x38];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0x00, &state.offered_select.to_le_bytes());
        put(0x04, &offered.to_le_bytes());
        put(0x08, &state.accepted_select.to_le_bytes());
        put(0x0C, &accepted.to_le_bytes());
        put(0x10, &state.config_vector.to_le_bytes());
        put(0x12, &queues.to_le_bytes());
        put(0x14, &[state.status, state.generation]);
        put(0x16, &number.to_le_bytes());
        // A queue that is not there has size 0.
        put(0x1A, &NO_VECTOR.to_le_bytes());
        if let Some(queue) = queue {
            put(0x18, &queue.size.to_le_bytes());
            put(0x1A, &queue.vector.to_le_bytes());
            put(0x1C, &u16::from(queue.enabled).to_le_bytes());
            put(0x1E, &number.to_le_bytes());
            put(0x20, &queue.descriptors.to_le_bytes());
            put(0x28, &queue.available.to_le_bytes());
            put(0x30, &queue.used.to_le_bytes());
        }
        bytes
    }

    pub(super) fn read_common(&mut self, offset: u64, size: u8) -> u64 {
        let bytes = self.common();
        (0..u64::from(size)).fold(0, |value, n| {
            let byte = bytes.get((offset + n) as usize).copied();
            value | u64::from(byte.unwrap_or(0)) << (8 * n)
        })
    }

    /// Each register takes writes of its own size; those of 64 bits in halves, too.
    pub(super) fn write_common(
        &mut self,
        ctx: &mut PciCtx<'_, '_>,
        offset: u64,
        size: u8,
        value: u64,
    ) {
        let vector = self.vector(value);
        let most = self.kind.queues;
        let state = &mut self.state;
        match (offset, size) {
            (0x00, 4) => state.offered_select = value as u32,
            (0x08, 4) => state.accepted_select = value as u32,
            (0x0C, 4) if state.status & FEATURES_OK == 0 => match state.accepted_select {
                0 => state.accepted = state.accepted & !0xFFFF_FFFF | value,
                1 => state.accepted = state.accepted & 0xFFFF_FFFF | value << 32,
                _ => {}
            },
            (0x10, 2) => state.config_vector = vector,
            (0x14, 1) => self.write_status(ctx, value as u8),
            (0x16, 2) => state.queue_select = value as u16,
            _ => {
                let number = usize::from(state.queue_select);
                let Some(queue) = state.queue() else {
                    return;
                };
                match (offset, size) {
                    (0x1A, 2) => queue.vector = vector,
                    // A queue in use stays where it is.
                    _ if queue.enabled => {}
                    (0x18, 2) if value.is_power_of_two() && value <= most[number].into() => {
                        queue.size = value as u16;
                    }
                    (0x1C, 2) if value == 1 => queue.enabled = true,
                    (0x20..0x28, 4 | 8) => put(&mut queue.descriptors, offset, size, value),
                    (0x28..0x30, 4 | 8) => put(&mut queue.available, offset, size, value),
                    (0x30..0x38, 4 | 8) => put(&mut queue.used, offset, size, value),
                    _ => {}
                }
            }
        }
    }

    // ---- legacy ----------------------------------------------------------------------------------

    /// Where the device's own configuration begins.
    fn own_port(ctx: &PciCtx<'_, '_>) -> u64 {
        if ctx.config.msix_is_on() { 0x18 } else { 0x14 }
    }

    pub(super) fn read_legacy(&mut self, ctx: &mut PciCtx<'_, '_>, offset: u64, size: u8) -> u64 {
        let own = Self::own_port(ctx);
        if offset >= own {
            return self.read_own(offset - own, size);
        }
        let offered = self.offered_legacy();
        let state = &mut self.state;
        let (selected, status, config_vector) =
            (state.queue_select, state.status, state.config_vector);
        let accepted = state.accepted as u32;
        let queue = state.queue().map(|queue| &*queue);
        match offset {
            0x00..0x04 => u64::from(offered) >> (8 * offset),
            0x04..0x08 => u64::from(accepted) >> (8 * (offset - 4)),
            0x08 => queue
                .filter(|queue| queue.enabled)
                .map_or(0, |queue| queue.descriptors >> 12),
            0x0C => queue.map_or(0, |queue| queue.size.into()),
            0x0E => selected.into(),
            // Both at once, too.
            0x12 if size == 1 => status.into(),
            0x12 => u64::from(status) | u64::from(self.take_isr(ctx)) << 8,
            0x13 => self.take_isr(ctx).into(),
            0x14 => config_vector.into(),
            0x16 => queue.map_or(NO_VECTOR, |queue| queue.vector).into(),
            _ => 0,
        }
    }

    pub(super) fn write_legacy(
        &mut self,
        ctx: &mut PciCtx<'_, '_>,
        offset: u64,
        size: u8,
        value: u64,
    ) {
        let own = Self::own_port(ctx);
        if offset >= own {
            return self.write_own(offset - own, size, value);
        }
        let vector = self.vector(value);
        let offered = self.offered_legacy();
        let state = &mut self.state;
        match (offset, size) {
            (0x04, 4) if state.status & FEATURES_OK == 0 => {
                state.accepted = u64::from(value as u32 & offered);
            }
            (0x08, 4) if value == 0 => self.write_status(ctx, 0),
            (0x08, 4) => {
                if let Some(queue) = state.queue() {
                    queue.place_legacy(value as u32);
                }
            }
            (0x0E, 2) => state.queue_select = value as u16,
            (0x10, 2) => self.notify(ctx, value as usize),
            (0x12, 1) => self.write_status(ctx, value as u8),
            (0x14, 2) => state.config_vector = vector,
            (0x16, 2) => {
                if let Some(queue) = state.queue() {
                    queue.vector = vector;
                }
            }
            _ => {}
        }
    }
}

/// The half of 64 features that is selected.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

/// Writes a register of 64 bits, or the half of it at `offset`.
fn put(register: &mut u64, offset: u64, size: u8, value: u64) {
    *register = match (offset % 8, size) {
        (0, 8) => value,
        (0, _) => *register & !0xFFFF_FFFF | value & 0xFFFF_FFFF,
        (4, 4) => *register & 0xFFFF_FFFF | value << 32,
        _ => *register,
    };
}
