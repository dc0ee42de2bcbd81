//! Receiving: which frames are for this card, the packet buffer, and the ring of descriptors (SDM
//! §3.2).

use platform::PhysAddr;

use super::*;
use crate::net::{BROADCAST, FCS, SHORTEST, checksum};

/// RCTL (SDM §13.4.22).
const ENABLE: u32 = 1 << 1;
const UNICAST_PROMISCUOUS: u32 = 1 << 3;
const MULTICAST_PROMISCUOUS: u32 = 1 << 4;
const LONG_FRAMES: u32 = 1 << 5;
pub const LOOPBACK: u32 = 3 << 6;
const BROADCASTS: u32 = 1 << 15;
const VLAN_FILTER: u32 = 1 << 18;
const LARGE_BUFFERS: u32 = 1 << 25;
const STRIP_FCS: u32 = 1 << 26;

/// RXCSUM: checksums of IP, and of TCP and UDP, are looked at.
const CHECK_IP: u32 = 1 << 8;
const CHECK_PAYLOAD: u32 = 1 << 9;

/// Bytes of the longest frames without and with [`LONG_FRAMES`], with their checksum.
const LONGEST: usize = 1522;
const LONGEST_LONG: usize = 16384;
/// What the packet buffer holds of what was received, as PBA has it at power-on.
const BUFFER_BYTES: usize = 48 << 10;

/// Status of a descriptor.
const DONE: u8 = 1 << 0;
const END: u8 = 1 << 1;
const NOT_CHECKED: u8 = 1 << 2;
const VLAN: u8 = 1 << 3;
const PAYLOAD_CHECKED: u8 = 1 << 5;
const IP_CHECKED: u8 = 1 << 6;
const NOT_EXACT: u8 = 1 << 7;
/// Its errors.
const PAYLOAD_WRONG: u8 = 1 << 5;
const IP_WRONG: u8 = 1 << 6;

/// Whether a restored packet buffer can be.
pub fn is_sound(buffer: &VecDeque<Vec<u8>>) -> bool {
    let bytes: usize = buffer.iter().map(Vec::len).sum();
    bytes <= BUFFER_BYTES + LONGEST_LONG && buffer.iter().all(|frame| frame.len() >= SHORTEST)
}

impl E1000 {
    fn receives(&self) -> bool {
        self.state.receive_control & ENABLE != 0
    }

    /// Whether a frame would not be lost now, or is lost whatever the guest does.
    pub(super) fn has_room(&self) -> bool {
        let bytes: usize = self.state.buffer.iter().map(Vec::len).sum();
        !self.receives() || bytes < BUFFER_BYTES
    }

    /// A frame comes from the wire.
    pub(super) fn receive(&mut self, ctx: &mut PciCtx<'_, '_>, frame: &[u8]) {
        if !self.receives() || frame.len() < 14 {
            return;
        }
        let len = frame.len().max(SHORTEST) + FCS;
        let longest = match self.state.receive_control & LONG_FRAMES {
            0 => LONGEST,
            _ => LONGEST_LONG,
        };
        self.state.count(TPR, 1);
        self.state.count_bytes(TOR, len);
        if len > longest {
            return self.state.count(ROC, 1);
        }
        if self.filter(frame).is_none() {
            return;
        }
        if !self.has_room() {
            self.state.count(CRCERRS_MPC, 1);
            return self.cause(ctx, OVERRUN);
        }
        let mut frame = frame.to_vec();
        frame.resize(frame.len().max(SHORTEST), 0);
        self.state.count(GPRC, 1);
        self.state.count_bytes(GORC, len);
        self.state.count(size_class(SIZES_RECEIVED, len), 1);
        match frame.first_chunk() {
            Some(&BROADCAST) => self.state.count(BPRC, 1),
            Some(&[first, ..]) if first & 1 != 0 => self.state.count(MPRC, 1),
            _ => {}
        }
        self.state.buffer.push_back(frame);
        self.fill(ctx);
    }

    /// Whether a frame is for this card (SDM §3.2.1): `Some(true)` if its address is exactly one of
    /// the card's.
    fn filter(&self, frame: &[u8]) -> Option<bool> {
        let control = self.state.receive_control;
        if control & VLAN_FILTER != 0 && self.is_tagged(frame) {
            let vlan = u16::from_be_bytes([frame[14], frame[15]]) & 0xFFF;
            let word = self.state.vlans[usize::from(vlan >> 5)];
            if word >> (vlan & 31) & 1 == 0 {
                return None;
            }
        }
        let to: &Mac = frame.first_chunk()?;
        let [a, b, c, d, e, f] = *to;
        if *to == BROADCAST && control & BROADCASTS != 0 {
            return Some(true);
        }
        let low = u32::from_le_bytes([a, b, c, d]);
        let high = u32::from(u16::from_le_bytes([e, f])) | ADDRESS_VALID;
        let (addresses, _) = self.state.addresses.as_chunks::<2>();
        // The two bits of a high half that say "destination address" have to be clear.
        if addresses.contains(&[low, high]) {
            return Some(true);
        }
        let promiscuous = match a & 1 {
            0 => UNICAST_PROMISCUOUS,
            _ => MULTICAST_PROMISCUOUS,
        };
        if control & promiscuous != 0 {
            return Some(false);
        }
        if a & 1 != 0 {
            // Twelve bits of the two last bytes, from one of four places on (SDM §13.5.1).
            let shift = [4, 3, 2, 0][(control >> 12 & 3) as usize];
            let hash = u16::from_le_bytes([e, f]) >> shift & 0xFFF;
            let word = self.state.multicast[usize::from(hash >> 5)];
            if word >> (hash & 31) & 1 != 0 {
                return Some(false);
            }
        }
        None
    }

    fn is_tagged(&self, frame: &[u8]) -> bool {
        let kind = frame.get(12..16);
        kind.is_some_and(|kind| {
            u32::from(u16::from_be_bytes([kind[0], kind[1]])) == self.state.vlan_type
        })
    }

    /// Bytes of each buffer (SDM table 13-67).
    fn buffer_bytes(&self) -> usize {
        let control = self.state.receive_control;
        match (control >> 16 & 3, control & LARGE_BUFFERS != 0) {
            (0, _) => 2048,
            (size, false) => 2048 >> size,
            (size, true) => 32768 >> size,
        }
    }

    /// Moves frames from the packet buffer to the ring, as far as there are descriptors.
    pub(super) fn fill(&mut self, ctx: &mut PciCtx<'_, '_>) {
        if !self.receives() {
            return;
        }
        let mut received = false;
        let piece_bytes = self.buffer_bytes();
        while let Some(frame) = self.state.buffer.front() {
            let strips = self.state.receive_control & STRIP_FCS != 0;
            let tagged = self.state.ctrl & CTRL_VLAN != 0 && self.is_tagged(frame);
            let len = frame.len() + if strips { 0 } else { FCS } - if tagged { 4 } else { 0 };
            let needed = len.div_ceil(piece_bytes) as u32;
            let count = self.state.receive.count();
            if needed > self.state.receive.ours() {
                // A frame that the ring can never hold would stay for ever.
                if count == 0 || needed < count {
                    break;
                }
                self.state.buffer.pop_front();
                self.state.count(RNBC, 1);
                continue;
            }
            if let Some(frame) = self.state.buffer.pop_front() {
                self.store(ctx, frame, piece_bytes, tagged, strips);
                received = true;
            }
        }
        if !received {
            return;
        }
        let shift = 1 + (self.state.receive_control >> 8 & 3);
        if self.state.receive.ours() <= self.state.receive.count() >> shift {
            self.state.causes |= FEW_DESCRIPTORS;
        }
        match self.state.receive_delay {
            0 => self.cause(ctx, RECEIVED),
            delay => {
                let most = self.state.receive_absolute_delay;
                let until = &mut self.state.receive_delayed_until_ns;
                Self::put_off(ctx, TIMER_RECEIVED, until, delay, most);
                self.signal(ctx);
            }
        }
    }

    /// What was put off is over.
    pub(super) fn received(&mut self, ctx: &mut PciCtx<'_, '_>) {
        ctx.cancel(TIMER_RECEIVED);
        if self.state.receive_delayed_until_ns.take().is_some() {
            self.cause(ctx, RECEIVED);
        }
    }

    /// Writes a frame and its descriptors.
    fn store(
        &mut self,
        ctx: &mut PciCtx<'_, '_>,
        mut frame: Vec<u8>,
        piece_bytes: usize,
        tagged: bool,
        strips: bool,
    ) {
        let fcs = checksum::crc32(&frame);
        let (mut status, errors) = self.check(&frame);
        if self.filter(&frame) == Some(false) {
            status |= NOT_EXACT;
        }
        let mut special = 0;
        if tagged {
            special = u16::from_be_bytes([frame[14], frame[15]]);
            frame.drain(12..16);
            status |= VLAN;
        }
        let start = (self.state.receive_checksum & 0xFF) as usize;
        let packet_checksum = !checksum::sum(0, frame.get(start..).unwrap_or_default());
        if !strips {
            frame.extend(fcs.to_le_bytes());
        }
        let mut pieces = frame.chunks(piece_bytes).peekable();
        while let Some(piece) = pieces.next() {
            let at = self.state.receive.at_head();
            let mut address = [0; 8];
            ctx.dma_read(PhysAddr(at), &mut address);
            ctx.dma_write(PhysAddr(u64::from_le_bytes(address)), piece);
            let last = pieces.peek().is_none();
            let mut done = [0; 8];
            done[..2].copy_from_slice(&(piece.len() as u16).to_le_bytes());
            done[2..4].copy_from_slice(&packet_checksum.to_be_bytes());
            done[4] = if last { status | DONE | END } else { DONE };
            done[5] = if last { errors } else { 0 };
            done[6..8].copy_from_slice(&special.to_le_bytes());
            ctx.dma_write(PhysAddr(at.wrapping_add(8)), &done);
            self.state.receive.advance();
        }
    }

    /// Looks at the checksums of IPv4, and of TCP and UDP in it (SDM §3.2.9): status and errors of
    /// the descriptor.
    fn check(&self, frame: &[u8]) -> (u8, u8) {
        let control = self.state.receive_checksum;
        let skipped = (NOT_CHECKED, 0);
        let ip_at = if self.is_tagged(frame) { 18 } else { 14 };
        let Some(packet) = checksum::Ipv4::parse(frame, ip_at) else {
            return skipped;
        };
        let (mut status, mut errors) = (0, 0);
        if control & CHECK_IP != 0 {
            status |= IP_CHECKED;
            if !packet.header_is_right() {
                errors |= IP_WRONG;
            }
        }
        if control & CHECK_PAYLOAD != 0 && packet.has_checksum() {
            status |= PAYLOAD_CHECKED;
            if !packet.payload_is_right() {
                errors |= PAYLOAD_WRONG;
            }
        }
        match status {
            0 => skipped,
            status => (status, errors),
        }
    }
}
