//! The guest's network: who is where, frames that wait for the guest, packets in fragments.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};

use crate::wire::{self, ETHERNET, EVERYBODY, IPV4, Ip, MTU, Mac, TYPE_IPV4};

/// Frames that wait for the guest beyond the queue: while there are so many, TCP keeps its own
/// back, ...
const FULL: usize = 64;
/// ... and beyond so many any other is lost.
const MOST_WAITING: usize = 512;
/// Addresses of which it is known where they are.
const MOST_NEIGHBOURS: usize = 64;
/// Packets in fragments that wait for the rest, and how long.
const MOST_PARTIAL: usize = 16;
const PARTIAL: Duration = Duration::from_secs(10);
/// The largest payload of an IP packet.
const MOST_PAYLOAD: usize = 65535 - IPV4;

/// A packet of which fragments came.
struct Partial {
    since: Instant,
    bytes: Vec<u8>,
    /// Which units of eight bytes have come.
    have: Vec<bool>,
    /// How long the whole is, once the last fragment has come.
    len: Option<usize>,
}

/// Sender, receiver, protocol and number of a packet in fragments.
type PacketKey = (Ipv4Addr, Ipv4Addr, u8, u16);

/// The guest's network.
pub struct Lan {
    machine: Sender<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
    neighbours: HashMap<Ipv4Addr, Mac>,
    card: Mac,
    next_id: u16,
    partial: HashMap<PacketKey, Partial>,
}

impl Lan {
    pub fn new(card: Mac, machine: Sender<Vec<u8>>) -> Self {
        Self {
            machine,
            waiting: VecDeque::new(),
            neighbours: HashMap::new(),
            card,
            next_id: 1,
            partial: HashMap::new(),
        }
    }

    /// Somebody with this address was heard.
    pub fn learn(&mut self, address: Ipv4Addr, mac: Mac) {
        let known =
            self.neighbours.len() < MOST_NEIGHBOURS || self.neighbours.contains_key(&address);
        if mac[0] & 1 == 0 && is_guest(address) && known {
            self.neighbours.insert(address, mac);
        }
    }

    fn mac_of(&self, address: Ipv4Addr) -> Mac {
        match self.neighbours.get(&address) {
            Some(&mac) => mac,
            None if address.octets()[3] == 255 => EVERYBODY,
            None => self.card,
        }
    }

    /// Whether those who can wait should.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= FULL
    }

    /// Hands on what waits. Returns whether something still waits for the machine.
    pub fn flush(&mut self) -> bool {
        while let Some(frame) = self.waiting.pop_front() {
            match self.machine.try_send(frame) {
                Ok(()) => {}
                Err(TrySendError::Full(frame)) => {
                    self.waiting.push_front(frame);
                    return true;
                }
                // The machine is gone; the thread is about to hear of it.
                Err(TrySendError::Disconnected(_)) => self.waiting.clear(),
            }
        }
        false
    }

    /// Sends a frame to the guest.
    pub fn frame(&mut self, to: Mac, ether_type: u16, payload: &[u8]) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(wire::frame(to, ether_type, payload));
        }
    }

    /// Sends a whole IP packet to the guest, which stands behind the room for a frame's header.
    pub fn packet(&mut self, mut frame: Vec<u8>) {
        let destination = frame.get(ETHERNET + 16..).and_then(<[u8]>::first_chunk);
        if let Some(&destination) = destination.filter(|_| self.waiting.len() < MOST_WAITING) {
            let to: [u8; 4] = destination;
            let header = wire::ethernet_header(self.mac_of(to.into()), TYPE_IPV4);
            frame[..ETHERNET].copy_from_slice(&header);
            self.waiting.push_back(frame);
        }
    }

    /// Sends a payload from and to these addresses, in fragments if it must be.
    pub fn send(&mut self, from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) {
        let mac = self.mac_of(to);
        self.send_to(mac, from, to, protocol, payload);
    }

    /// As [`send`](Self::send), to a hardware address.
    pub fn send_to(
        &mut self,
        mac: Mac,
        from: Ipv4Addr,
        to: Ipv4Addr,
        protocol: u8,
        payload: &[u8],
    ) {
        if payload.len() > MOST_PAYLOAD {
            return;
        }
        const PIECE: usize = (MTU - IPV4) / 8 * 8;
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let mut at = 0;
        loop {
            let rest = payload.len() - at;
            let more = rest > MTU - IPV4;
            let piece = &payload[at..at + if more { PIECE } else { rest }];
            let fragment = u16::from(more) << 13 | (at / 8) as u16;
            let header = wire::ip_header((from, to), protocol, id, fragment, piece.len());
            let mut packet = Vec::with_capacity(IPV4 + piece.len());
            packet.extend(header);
            packet.extend(piece);
            self.frame(mac, TYPE_IPV4, &packet);
            if !more {
                return;
            }
            at += piece.len();
        }
    }

    /// Sends a datagram to the guest.
    pub fn udp(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        let datagram = wire::udp(from, to, payload);
        self.send(*from.ip(), *to.ip(), wire::UDP_PROTOCOL, &datagram);
    }

    /// Tells the guest that a packet of its own did not get there: ICMP's "destination unreachable"
    /// with this code (RFC 792; 13, prohibited, RFC 1812).
    pub fn unreachable(&mut self, packet: &Ip<'_>, code: u8) {
        self.problem(packet, 3, code);
    }

    /// Tells the guest that a packet of its own may go no further: who traces a route sees the
    /// gateway.
    pub fn time_exceeded(&mut self, packet: &Ip<'_>) {
        self.problem(packet, 11, 0);
    }

    fn problem(&mut self, packet: &Ip<'_>, kind: u8, code: u8) {
        // Of what goes to many nobody is told.
        if packet.offset != 0
            || packet.destination.is_multicast()
            || packet.destination.is_broadcast()
        {
            return;
        }
        let header = packet.whole.len() - packet.payload.len();
        let quoted = &packet.whole[..packet.whole.len().min(header + 8)];
        let message = wire::icmp(kind, code, [0; 4], quoted);
        self.send(crate::GATEWAY, packet.source, wire::ICMP, &message);
    }

    /// Takes a fragment. Returns the payload of the whole packet once it is there.
    pub fn assemble(&mut self, packet: &Ip<'_>, now: Instant) -> Option<Vec<u8>> {
        let key = (
            packet.source,
            packet.destination,
            packet.protocol,
            packet.id,
        );
        self.partial
            .retain(|_, partial| now.duration_since(partial.since) < PARTIAL);
        if self.partial.len() >= MOST_PARTIAL && !self.partial.contains_key(&key) {
            return None;
        }
        let end = packet.offset + packet.payload.len();
        let torn = packet.more && !packet.payload.len().is_multiple_of(8);
        if torn || end > MOST_PAYLOAD || packet.payload.is_empty() {
            return None;
        }
        let partial = self.partial.entry(key).or_insert_with(|| Partial {
            since: now,
            bytes: Vec::new(),
            have: Vec::new(),
            len: None,
        });
        if partial.bytes.len() < end {
            partial.bytes.resize(end, 0);
            partial.have.resize(end.div_ceil(8), false);
        }
        partial.bytes[packet.offset..end].copy_from_slice(packet.payload);
        partial.have[packet.offset / 8..end.div_ceil(8)].fill(true);
        if !packet.more {
            partial.len = Some(end);
        }
        let len = partial.len?;
        let whole = partial.have.iter().all(|&have| have) && len <= partial.bytes.len();
        if !whole {
            return None;
        }
        let mut partial = self.partial.remove(&key)?;
        partial.bytes.truncate(len);
        Some(partial.bytes)
    }
}

/// Whether an address of the network may be a guest's.
pub fn is_guest(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    [a, b, c] == [10, 0, 2] && (4..255).contains(&d)
}

/// Whether an address is one of ours.
pub fn is_ours(address: Ipv4Addr) -> bool {
    address == crate::GATEWAY || address == crate::NAME_SERVER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    fn lan() -> (Lan, crossbeam_channel::Receiver<Vec<u8>>) {
        let (machine, frames) = unbounded();
        (Lan::new([2, 0, 0, 0, 0, 1], machine), frames)
    }

    #[test]
    fn a_large_packet_leaves_in_fragments_that_make_the_whole_again_in_any_order() {
        let (mut lan, frames) = lan();
        let payload: Vec<u8> = (0..9001u32).map(|n| (n * 7) as u8).collect();
        lan.send(crate::GATEWAY, crate::GUEST, 17, &payload);
        assert!(!lan.flush());
        let mut frames: Vec<_> = frames.try_iter().collect();
        assert_eq!(frames.len(), 7);
        assert!(frames.iter().all(|frame| frame.len() <= 1514));
        frames.reverse();
        let now = Instant::now();
        let mut whole = None;
        for frame in &frames {
            assert!(whole.is_none());
            whole = lan.assemble(&Ip::parse(&frame[14..]).unwrap(), now);
        }
        assert_eq!(whole.unwrap(), payload);
    }

    #[test]
    fn fragments_that_nobody_completes_are_bounded() {
        let (mut lan, _frames) = lan();
        let now = Instant::now();
        for id in 0..1000 {
            let mut packet =
                wire::ip_header((crate::GUEST, crate::GATEWAY), 17, id, 0x2000, 8).to_vec();
            packet.extend([0; 8]);
            assert!(lan.assemble(&Ip::parse(&packet).unwrap(), now).is_none());
        }
        assert_eq!(lan.partial.len(), MOST_PARTIAL);
        // The last possible fragment reaches beyond the largest packet.
        let mut packet =
            wire::ip_header((crate::GUEST, crate::GATEWAY), 17, 0, 0x1FFF, 80).to_vec();
        packet.extend([0; 80]);
        assert!(lan.assemble(&Ip::parse(&packet).unwrap(), now).is_none());
    }
}
