//! Interrupt messages: what I/O APICs and local APICs tell each other without a wire.

use serde::{Deserialize, Serialize};

/// What a message makes the local APIC do that accepts it; the values are those of the redirection
/// table and of the interrupt command register (Intel SDM vol. 3A §11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum DeliveryMode {
    /// Deliver the vector to every processor addressed.
    Fixed = 0,
    /// Deliver the vector to one of the processors addressed.
    LowestPriority = 1,
    Smi = 2,
    Nmi = 4,
    Init = 5,
    /// Start a processor that waits after INIT; the vector is the page it starts at.
    StartUp = 6,
    /// Ask the 8259A for the vector.
    ExtInt = 7,
}

impl DeliveryMode {
    /// The mode that the three bits `value` stand for; 3 is reserved.
    pub fn from_bits(value: u8) -> Option<Self> {
        Some(match value & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => return None,
        })
    }
}

/// One message to the local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptMessage {
    /// Who shall take it: an APIC ID ([`EVERYBODY`](Self::EVERYBODY) or, of a sender with 8 bits for it, FFh is
    /// everybody), or a logical destination.
    pub destination: u32,
    /// `destination` is logical: each local APIC matches it with its own LDR and DFR.
    pub logical: bool,
    /// What it asks for.
    pub mode: DeliveryMode,
    /// The vector.
    pub vector: u8,
    /// Level triggered: the end of its service is announced by [`Bus::end_of_interrupt`](crate::Bus::end_of_interrupt).
    pub level: bool,
}

impl InterruptMessage {
    /// The destination that every local APIC matches.
    pub const EVERYBODY: u32 = !0;
}

/// A message as it was saved when destinations had 8 bits.
type MessageWithByte = (u8, bool, DeliveryMode, u8, bool);
/// The queue of those.
pub(crate) type QueueOfBytes = (u8, Vec<(MessageWithByte, u64)>);

impl From<QueueOfBytes> for MessageQueue {
    fn from((processors, waiting): QueueOfBytes) -> Self {
        let now =
            |((destination, logical, mode, vector, level), unseen): (MessageWithByte, u64)| {
                let message = InterruptMessage {
                    destination: destination.into(),
                    logical,
                    mode,
                    vector,
                    level,
                };
                (message, unseen)
            };
        Self {
            processors,
            waiting: waiting.into_iter().map(now).collect(),
        }
    }
}

/// The messages under way, in the order they were sent.
///
/// Every processor sees every message, as on the APIC bus, and decides by itself whether it is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageQueue {
    processors: u8,
    waiting: Vec<(InterruptMessage, u64)>,
}

impl MessageQueue {
    /// A queue that `processors` listen to, 1 to 64.
    pub fn new(processors: u8) -> Self {
        assert!((1..=64).contains(&processors), "a bit a processor");
        Self {
            processors,
            waiting: Vec::new(),
        }
    }

    /// How many processors listen.
    #[inline]
    pub fn processors(&self) -> u8 {
        self.processors
    }

    /// Sends a message to all processors.
    pub fn send(&mut self, message: InterruptMessage) {
        let everybody = !0u64 >> (64 - u32::from(self.processors));
        self.waiting.push((message, everybody));
    }

    /// Sends a message to all processors but number `from`, which has seen it.
    pub fn send_from(&mut self, from: u8, message: InterruptMessage) {
        self.send(message);
        self.see(from, |_| false);
    }

    /// Whether a message waits for processor number `processor`.
    #[inline]
    pub fn has_for(&self, processor: u8) -> bool {
        let bit = 1u64 << (processor & 63);
        self.waiting.iter().any(|(_, unseen)| unseen & bit != 0)
    }

    /// Takes the next message that waits for processor number `processor` and whether it is meant,
    /// which `accepts` tells. One for the lowest priority is gone once somebody has accepted it.
    pub fn receive(
        &mut self,
        processor: u8,
        accepts: impl Fn(&InterruptMessage) -> bool,
    ) -> Option<InterruptMessage> {
        while self.has_for(processor) {
            let accepted = self.see(processor, &accepts);
            if accepted.is_some() {
                return accepted;
            }
        }
        None
    }

    /// Drops everything: a reset.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    fn see(
        &mut self,
        processor: u8,
        accepts: impl Fn(&InterruptMessage) -> bool,
    ) -> Option<InterruptMessage> {
        let bit = 1u64 << (processor & 63);
        let index = self.waiting.iter().position(|(_, u)| u & bit != 0)?;
        let (message, unseen) = &mut self.waiting[index];
        let message = *message;
        let accepted = accepts(&message);
        *unseen &= !bit;
        if accepted && message.mode == DeliveryMode::LowestPriority {
            *unseen = 0;
        }
        if *unseen == 0 {
            self.waiting.remove(index);
        }
        accepted.then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(mode: DeliveryMode, vector: u8) -> InterruptMessage {
        InterruptMessage {
            destination: 0xFF,
            logical: false,
            mode,
            vector,
            level: false,
        }
    }

    #[test]
    fn every_processor_sees_a_message_once_and_in_order() {
        let mut queue = MessageQueue::new(2);
        let (first, second) = (
            message(DeliveryMode::Fixed, 0x40),
            message(DeliveryMode::Fixed, 0x41),
        );
        queue.send(first);
        queue.send(second);
        for processor in 0..2 {
            assert_eq!(queue.receive(processor, |_| true), Some(first));
            assert_eq!(queue.receive(processor, |_| true), Some(second));
            assert_eq!(queue.receive(processor, |_| true), None);
        }
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn a_message_not_meant_is_passed_over_and_a_sender_does_not_hear_itself() {
        let mut queue = MessageQueue::new(2);
        queue.send_from(0, message(DeliveryMode::Fixed, 0x40));
        assert!(!queue.has_for(0));
        queue.send(message(DeliveryMode::Fixed, 0x41));
        assert_eq!(
            queue.receive(1, |m| m.vector == 0x41).map(|m| m.vector),
            Some(0x41)
        );
        assert!(!queue.has_for(1));
        let mut alone = MessageQueue::new(1);
        alone.send_from(0, message(DeliveryMode::Fixed, 0x40));
        assert!(alone.waiting.is_empty());
    }

    #[test]
    fn the_lowest_priority_goes_to_one_processor_only() {
        let mut queue = MessageQueue::new(3);
        queue.send(message(DeliveryMode::LowestPriority, 0x40));
        assert_eq!(queue.receive(0, |_| false), None);
        assert!(queue.receive(1, |_| true).is_some());
        assert_eq!(queue.receive(2, |_| true), None);
    }
}
