//! The queue of things that happen at a virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::{Deserialize, Serialize};

use crate::bus::DeviceId;

/// So many replaced deadlines are kept before they are swept out.
const MOST_STALE: usize = 64;

/// Timers of all devices, ordered by (deadline, sequence).
///
/// A device's timer is named by a small number of its own choosing; scheduling it again replaces it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EventQueue {
    heap: BinaryHeap<Reverse<(u64, u64, DeviceId, u32)>>,
    /// Sequence and deadline of each armed timer.
    armed: BTreeMap<(DeviceId, u32), (u64, u64)>,
    sequence: u64,
}

impl EventQueue {
    /// Arms `timer` of `device` for `deadline_ns`, in place of an earlier deadline.
    pub fn schedule(&mut self, device: DeviceId, timer: u32, deadline_ns: u64) {
        // Devices arm the same deadline again with each access: the heap must not grow by that.
        if let Some((_, armed_ns)) = self.armed.get(&(device, timer))
            && *armed_ns == deadline_ns
        {
            return;
        }
        self.sequence += 1;
        self.armed
            .insert((device, timer), (self.sequence, deadline_ns));
        self.heap
            .push(Reverse((deadline_ns, self.sequence, device, timer)));
        // A guest that keeps moving a far deadline must not fill the host's memory.
        if self.heap.len() > 2 * self.armed.len() + MOST_STALE {
            let armed = &self.armed;
            self.heap
                .retain(|Reverse((deadline_ns, sequence, device, timer))| {
                    armed.get(&(*device, *timer)) == Some(&(*sequence, *deadline_ns))
                });
        }
    }

    /// Disarms `timer` of `device`; does nothing when it is not armed.
    pub fn cancel(&mut self, device: DeviceId, timer: u32) {
        self.armed.remove(&(device, timer));
    }

    /// The next deadline, if any timer is armed.
    pub fn next_deadline_ns(&mut self) -> Option<u64> {
        self.drop_stale();
        self.heap
            .peek()
            .map(|Reverse((deadline_ns, ..))| *deadline_ns)
    }

    /// Takes the next timer that is due at `now_ns`.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<(DeviceId, u32)> {
        self.drop_stale();
        let Reverse((deadline_ns, _, device, timer)) = *self.heap.peek()?;
        if deadline_ns > now_ns {
            return None;
        }
        self.heap.pop();
        self.armed.remove(&(device, timer));
        Some((device, timer))
    }

    fn drop_stale(&mut self) {
        while let Some(Reverse((deadline_ns, sequence, device, timer))) = self.heap.peek() {
            if self.armed.get(&(*device, *timer)) == Some(&(*sequence, *deadline_ns)) {
                break;
            }
            self.heap.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_deadlines_fire_in_the_order_they_were_armed() {
        let mut queue = EventQueue::default();
        queue.schedule(DeviceId(2), 0, 50);
        queue.schedule(DeviceId(1), 0, 50);
        assert_eq!(queue.pop_due(49), None);
        assert_eq!(queue.pop_due(50), Some((DeviceId(2), 0)));
        assert_eq!(queue.pop_due(50), Some((DeviceId(1), 0)));
    }

    #[test]
    fn arming_the_same_deadline_again_costs_nothing() {
        let mut queue = EventQueue::default();
        for _ in 0..1000 {
            queue.schedule(DeviceId(1), 7, 10);
        }
        assert_eq!(queue.heap.len(), 1);
        assert_eq!(queue.pop_due(10), Some((DeviceId(1), 7)));
        assert_eq!(queue.pop_due(10), None);
    }

    #[test]
    fn moving_a_far_deadline_costs_no_memory() {
        let mut queue = EventQueue::default();
        for n in 0..10_000 {
            queue.schedule(DeviceId(1), 7, 1_000_000 + n);
        }
        assert!(queue.heap.len() < 100);
        assert_eq!(queue.next_deadline_ns(), Some(1_009_999));
    }

    #[test]
    fn rescheduling_replaces_and_cancel_disarms() {
        let mut queue = EventQueue::default();
        queue.schedule(DeviceId(1), 7, 10);
        queue.schedule(DeviceId(1), 7, 30);
        assert_eq!(queue.next_deadline_ns(), Some(30));
        queue.cancel(DeviceId(1), 7);
        assert_eq!(queue.next_deadline_ns(), None);
    }
}
