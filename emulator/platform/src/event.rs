//! The timers: things that happen at a virtual time.

use crate::bus::DeviceId;

/// Timers of all devices, ordered by (deadline, sequence).
///
/// A device's timer is named by a small number of its own choosing; scheduling it again replaces
/// it. A board has a dozen or two, so a list serves.
#[derive(Clone, Debug, Default)]
pub struct EventQueue {
    /// The armed timers, ordered by device and number.
    armed: Vec<Armed>,
    /// How often a timer was armed.
    sequence: u64,
    /// The armed timer that fires next, if it is known.
    next: Option<Armed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Armed {
    device: DeviceId,
    timer: u32,
    deadline_ns: u64,
    sequence: u64,
}

impl EventQueue {
    /// Arms `timer` of `device` for `deadline_ns`, in place of an earlier deadline. Returns whether it became the next
    /// one to fire by that.
    pub fn schedule(&mut self, device: DeviceId, timer: u32, deadline_ns: u64) -> bool {
        let place = self.place(device, timer);
        // Devices arm the same deadline again with each access; that gives no new place in the order.
        if let Ok(index) = place
            && self.armed[index].deadline_ns == deadline_ns
        {
            return false;
        }
        let next = self.next();
        self.sequence += 1;
        let armed = Armed {
            device,
            timer,
            deadline_ns,
            sequence: self.sequence,
        };
        match place {
            Ok(index) => self.armed[index] = armed,
            Err(index) => self.armed.insert(index, armed),
        }
        let first = next.is_none_or(|next| deadline_ns < next.deadline_ns);
        if first {
            self.next = Some(armed);
        } else {
            self.forget(device, timer);
        }
        first
    }

    /// Disarms `timer` of `device`; does nothing when it is not armed.
    pub fn cancel(&mut self, device: DeviceId, timer: u32) {
        if let Ok(index) = self.place(device, timer) {
            self.armed.remove(index);
            self.forget(device, timer);
        }
    }

    /// The next deadline, if any timer is armed.
    #[inline]
    pub fn next_deadline_ns(&mut self) -> Option<u64> {
        Some(self.next()?.deadline_ns)
    }

    /// Takes the next timer that is due at `now_ns`.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<(DeviceId, u32)> {
        let next = self.next().filter(|next| next.deadline_ns <= now_ns)?;
        self.cancel(next.device, next.timer);
        Some((next.device, next.timer))
    }

    /// What is armed, as device, timer and deadline, in the order in which equal deadlines fire:
    /// all that there is to save.
    pub fn armed(&self) -> Vec<(DeviceId, u32, u64)> {
        let mut armed = self.armed.clone();
        armed.sort_by_key(|armed| armed.sequence);
        let parts = |armed: Armed| (armed.device, armed.timer, armed.deadline_ns);
        armed.into_iter().map(parts).collect()
    }

    /// A queue in which that is armed.
    pub fn with_armed(armed: impl IntoIterator<Item = (DeviceId, u32, u64)>) -> Self {
        let mut queue = Self::default();
        for (device, timer, deadline_ns) in armed {
            queue.schedule(device, timer, deadline_ns);
        }
        queue
    }

    fn place(&self, device: DeviceId, timer: u32) -> Result<usize, usize> {
        self.armed
            .binary_search_by_key(&(device, timer), |armed| (armed.device, armed.timer))
    }

    /// The timer that fires next.
    #[inline]
    fn next(&mut self) -> Option<Armed> {
        if self.next.is_none() {
            let order = |armed: &&Armed| (armed.deadline_ns, armed.sequence);
            self.next = self.armed.iter().min_by_key(order).copied();
        }
        self.next
    }

    /// This timer fires no more when it would have: it may not be the next one.
    fn forget(&mut self, device: DeviceId, timer: u32) {
        self.next
            .take_if(|next| (next.device, next.timer) == (device, timer));
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
    fn arming_the_same_deadline_again_changes_nothing() {
        let mut queue = EventQueue::default();
        assert!(queue.schedule(DeviceId(1), 7, 10));
        queue.schedule(DeviceId(2), 7, 10);
        for _ in 0..1000 {
            assert!(!queue.schedule(DeviceId(1), 7, 10));
        }
        assert_eq!(queue.pop_due(10), Some((DeviceId(1), 7)));
        assert_eq!(queue.pop_due(10), Some((DeviceId(2), 7)));
        assert_eq!(queue.pop_due(10), None);
    }

    #[test]
    fn moving_a_far_deadline_costs_no_memory() {
        let mut queue = EventQueue::default();
        for n in 0..10_000 {
            queue.schedule(DeviceId(1), 7, 1_000_000 + n);
        }
        assert_eq!(queue.armed.len(), 1);
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

    #[test]
    fn a_timer_says_whether_it_became_the_next() {
        let mut queue = EventQueue::default();
        assert!(queue.schedule(DeviceId(1), 0, 100), "the only one");
        assert!(!queue.schedule(DeviceId(2), 0, 100), "armed later");
        assert!(queue.schedule(DeviceId(2), 0, 90));
        assert!(!queue.schedule(DeviceId(2), 0, 110));
        assert_eq!(queue.next_deadline_ns(), Some(100));
    }

    #[test]
    fn what_is_saved_does_not_tell_when_it_was_looked_at() {
        let saved = |look: bool| {
            let mut queue = EventQueue::default();
            for (timer, deadline_ns) in [(0, 10), (1, 20), (2, 30), (0, 40), (3, 5), (3, 35)] {
                queue.schedule(DeviceId(1), timer, deadline_ns);
                if look {
                    queue.next_deadline_ns();
                }
            }
            queue.armed()
        };
        assert_eq!(saved(false), saved(true));
        assert_eq!(EventQueue::with_armed(saved(false)).armed(), saved(false));
    }
}
