//! Sending: the ring of descriptors, legacy ones and the extended ones with checksums, segmentation
//! of TCP and UDP, and VLAN tags (SDM §3.3 to §3.5).

use log::debug;
use platform::{PhysAddr, Said};
use serde::{Deserialize, Serialize};

use super::*;
use crate::net::SHORTEST;
use crate::net::checksum;

/// TCTL.
const ENABLE: u32 = 1 << 1;
const PAD: u32 = 1 << 3;

/// The longest frame without its checksum (SDM §3.3.3): what is longer is not sent.
const LONGEST: usize = 16288;
/// The longest header of segmentation (SDM §3.5.6 has 8 bits for it).
const LONGEST_HEADER: usize = 255;

/// What is done in one go: then the wire is busy for as long as it takes.
const MOST_DESCRIPTORS: u32 = 256;
const MOST_BYTES: usize = 64 << 10;
/// A byte on the wire, and a descriptor on the bus, in nanoseconds.
const BYTE_NS: u64 = 8;
const DESCRIPTOR_NS: u64 = 50;
/// What each frame takes of the wire beside its bytes: preamble, checksum and gap.
const OVERHEAD: usize = 24;

/// The command byte of a descriptor; bit 5 says that it is an extended one.
const END: u8 = 1 << 0;
const INSERT_CHECKSUM: u8 = 1 << 2;
const SEGMENT: u8 = 1 << 2;
const REPORT: u8 = 1 << 3;
const REPORT_SENT: u8 = 1 << 4;
const EXTENDED: u8 = 1 << 5;
const VLAN: u8 = 1 << 6;
const DELAY: u8 = 1 << 7;

/// The command byte of a context.
const CONTEXT_TCP: u8 = 1 << 0;
const CONTEXT_IPV4: u8 = 1 << 1;

/// The type of an extended descriptor: 1 is data.
const DATA: u8 = 1;

const IP_CHECKSUM: u8 = 1 << 0;
const PAYLOAD_CHECKSUM: u8 = 1 << 1;

const DONE: u32 = 1 << 0;

/// Where a checksum begins, where it goes, and where it ends: 0 is the frame's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    start: u8,
    at: u8,
    end: u16,
}

impl Span {
    fn of(word: u32) -> Self {
        Self {
            start: word as u8,
            at: (word >> 8) as u8,
            end: (word >> 16) as u16,
        }
    }

    /// Inserts the checksum; one that does not lie in the frame is left out.
    fn insert(self, frame: &mut [u8]) {
        let end = match usize::from(self.end) {
            0 => frame.len(),
            last => frame.len().min(last + 1),
        };
        let at = usize::from(self.at);
        if let Some(covered) = frame.get(usize::from(self.start)..end) {
            let sum = !checksum::sum(0, covered);
            put(frame, at, sum);
        }
    }
}

/// The context that the extended descriptors after it are to be understood in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Context {
    ip: Span,
    payload: Span,
    command: u8,
    header_bytes: u8,
    segment_bytes: u16,
}

/// The frame that the descriptors so far make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transmitter {
    context: Context,
    frame: Vec<u8>,
    /// It is too long, and will not be sent.
    too_long: bool,
    /// What is to be inserted, as the first extended descriptor says.
    checksums: u8,
    started: bool,
    segments: bool,
    /// The header of a packet that is segmented, which each segment starts with, and what went
    /// before this segment.
    header: Vec<u8>,
    sent_bytes: u32,
    sent_segments: u16,
    /// The wire is busy until then.
    pub busy_until_ns: u64,
}

impl Transmitter {
    /// Whether a restored one can be.
    pub fn is_sound(&self) -> bool {
        self.frame.len() <= LONGEST && self.header.len() <= LONGEST_HEADER
    }

    fn append(&mut self, bytes: &[u8]) {
        self.too_long |= self.frame.len() + bytes.len() > LONGEST;
        if !self.too_long {
            self.frame.extend(bytes);
        }
    }

    fn finish(&mut self) {
        self.frame.clear();
        self.header.clear();
        (self.too_long, self.started, self.segments) = (false, false, false);
        (self.sent_bytes, self.sent_segments) = (0, 0);
    }
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    if let Some(place) = frame.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

fn get(frame: &[u8], at: usize) -> u16 {
    let bytes = frame.get(at..at + 2);
    bytes.map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

impl E1000 {
    /// Sends what the ring has, as far as the wire is free.
    pub(super) fn transmit(&mut self, ctx: &mut PciCtx<'_, '_>) {
        if self.state.transmit_control & ENABLE == 0 || self.state.transmit.ours() == 0 {
            return;
        }
        let now_ns = ctx.now_ns();
        let busy_until_ns = self.state.transmitter.busy_until_ns;
        if now_ns < busy_until_ns {
            ctx.schedule(TIMER_TRANSMIT, busy_until_ns);
            return;
        }
        let (mut descriptors, mut bytes) = (0, 0);
        let mut reports = Reports::default();
        while self.state.transmit.ours() != 0
            && descriptors < MOST_DESCRIPTORS
            && bytes < MOST_BYTES
        {
            bytes += self.descriptor(ctx, &mut reports);
            self.state.transmit.advance();
            descriptors += 1;
        }
        let took_ns = bytes as u64 * BYTE_NS + u64::from(descriptors) * DESCRIPTOR_NS;
        self.state.transmitter.busy_until_ns = now_ns + took_ns;
        let mut causes = 0;
        if self.state.transmit.ours() != 0 {
            ctx.schedule(TIMER_TRANSMIT, now_ns + took_ns);
        } else {
            causes |= QUEUE_EMPTY;
        }
        if reports.at_once {
            causes |= SENT;
        } else if reports.later {
            let state = &mut self.state;
            let (delay, most) = (state.transmit_delay, state.transmit_absolute_delay);
            Self::put_off(
                ctx,
                TIMER_SENT,
                &mut state.transmit_delayed_until_ns,
                delay,
                most,
            );
        }
        self.cause(ctx, causes);
    }

    /// What was put off is over.
    pub(super) fn sent(&mut self, ctx: &mut PciCtx<'_, '_>) {
        ctx.cancel(TIMER_SENT);
        if self.state.transmit_delayed_until_ns.take().is_some() {
            self.cause(ctx, SENT);
        }
    }

    /// Does what the descriptor at the head says. Returns how many bytes that put on the wire.
    fn descriptor(&mut self, ctx: &mut PciCtx<'_, '_>, reports: &mut Reports) -> usize {
        let at = self.state.transmit.at_head();
        let mut bytes = [0; 16];
        ctx.dma_read(PhysAddr(at), &mut bytes);
        let buffer = u64::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ]);
        let lower = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let upper = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let command = (lower >> 24) as u8;
        let wire_bytes = if command & EXTENDED == 0 {
            self.legacy(ctx, buffer, lower, upper)
        } else if (lower >> 20) as u8 & 0x0F == DATA {
            self.data(ctx, buffer, lower, upper)
        } else {
            self.state.transmitter.context = Context {
                ip: Span::of(buffer as u32),
                payload: Span::of((buffer >> 32) as u32),
                command,
                header_bytes: (upper >> 8) as u8,
                segment_bytes: (upper >> 16) as u16,
            };
            0
        };
        if command & (REPORT | REPORT_SENT) != 0 {
            let done = (upper | DONE).to_le_bytes();
            ctx.dma_write(PhysAddr(at.wrapping_add(12)), &done);
            let delayed = command & DELAY != 0 && self.state.transmit_delay != 0;
            reports.later |= delayed;
            reports.at_once |= !delayed;
        }
        wire_bytes
    }

    fn legacy(&mut self, ctx: &mut PciCtx<'_, '_>, buffer: u64, lower: u32, upper: u32) -> usize {
        let command = (lower >> 24) as u8;
        let len = (lower & 0xFFFF) as usize;
        self.fetch(ctx, buffer, len);
        if command & END == 0 {
            return 0;
        }
        let transmitter = &mut self.state.transmitter;
        if command & INSERT_CHECKSUM != 0 {
            let span = Span {
                start: (upper >> 8) as u8,
                at: (lower >> 16) as u8,
                end: 0,
            };
            span.insert(&mut transmitter.frame);
        }
        self.end_frame(ctx, command, upper)
    }

    fn data(&mut self, ctx: &mut PciCtx<'_, '_>, buffer: u64, lower: u32, upper: u32) -> usize {
        let command = (lower >> 24) as u8;
        let len = (lower & 0xF_FFFF) as usize;
        let transmitter = &mut self.state.transmitter;
        if !transmitter.started {
            transmitter.started = true;
            transmitter.checksums = (upper >> 8) as u8;
            // A header of nothing, or segments of nothing, cannot be made.
            let context = &transmitter.context;
            transmitter.segments =
                command & SEGMENT != 0 && context.header_bytes != 0 && context.segment_bytes != 0;
        }
        if transmitter.segments {
            return self.segmented(ctx, (buffer, len), command, upper);
        }
        self.fetch(ctx, buffer, len);
        if command & END == 0 {
            return 0;
        }
        let transmitter = &mut self.state.transmitter;
        let (checksums, context) = (transmitter.checksums, transmitter.context);
        if checksums & PAYLOAD_CHECKSUM != 0 {
            context.payload.insert(&mut transmitter.frame);
        }
        if checksums & IP_CHECKSUM != 0 {
            context.ip.insert(&mut transmitter.frame);
        }
        self.end_frame(ctx, command, upper)
    }

    /// Appends `len` bytes of memory to the frame.
    fn fetch(&mut self, ctx: &PciCtx<'_, '_>, address: u64, len: usize) {
        let transmitter = &mut self.state.transmitter;
        let start = transmitter.frame.len();
        transmitter.too_long |= start + len > LONGEST;
        if !transmitter.too_long {
            transmitter.frame.resize(start + len, 0);
            ctx.dma_read(PhysAddr(address), &mut transmitter.frame[start..]);
        }
    }

    /// A part of a packet that is to be segmented: the header first, then what each segment has a
    /// piece of (SDM §3.5).
    fn segmented(
        &mut self,
        ctx: &mut PciCtx<'_, '_>,
        (mut address, mut len): (u64, usize),
        command: u8,
        upper: u32,
    ) -> usize {
        let mut wire_bytes = 0;
        let mut piece = [0; 4096];
        while len > 0 {
            let transmitter = &mut self.state.transmitter;
            let wanted = transmitter.wanted();
            let count = len.min(wanted).min(piece.len());
            ctx.dma_read(PhysAddr(address), &mut piece[..count]);
            transmitter.take(&piece[..count]);
            address = address.wrapping_add(count as u64);
            len -= count;
            // The last segment waits for the end, as its header differs.
            let more = len > 0 || command & END == 0;
            if self.state.transmitter.is_full() && more {
                wire_bytes += self.segment(ctx, command, upper, false);
            }
        }
        if command & END != 0 {
            if !self.state.transmitter.frame.is_empty() {
                wire_bytes += self.segment(ctx, command, upper, true);
            }
            self.state.transmitter.finish();
        }
        wire_bytes
    }

    /// Sends one segment.
    fn segment(&mut self, ctx: &mut PciCtx<'_, '_>, command: u8, upper: u32, last: bool) -> usize {
        let frame = self.state.transmitter.make_segment(last);
        self.state.count(TSCTC, u32::from(last));
        self.put_on_wire(ctx, frame, command & VLAN != 0, upper)
    }

    /// The frame is whole: sends it.
    fn end_frame(&mut self, ctx: &mut PciCtx<'_, '_>, command: u8, upper: u32) -> usize {
        let transmitter = &mut self.state.transmitter;
        let frame = std::mem::take(&mut transmitter.frame);
        let too_long = transmitter.too_long;
        transmitter.finish();
        if too_long || frame.len() < 14 {
            debug!(target: TARGET, "a frame of {} bytes is not sent", frame.len());
            return frame.len();
        }
        self.put_on_wire(ctx, frame, command & VLAN != 0, upper)
    }

    fn put_on_wire(
        &mut self,
        ctx: &mut PciCtx<'_, '_>,
        mut frame: Vec<u8>,
        tagged: bool,
        upper: u32,
    ) -> usize {
        let state = &mut self.state;
        if tagged && state.ctrl & CTRL_VLAN != 0 && frame.len() >= 12 {
            let tag = (state.vlan_type << 16 | upper >> 16).to_be_bytes();
            frame.splice(12..12, tag);
        }
        if state.transmit_control & PAD != 0 && frame.len() < SHORTEST {
            frame.resize(SHORTEST, 0);
        }
        let len = frame.len() + crate::net::FCS;
        state.count(GPTC, 1);
        state.count(TPT, 1);
        state.count_bytes(GOTC, len);
        state.count_bytes(TOT, len);
        state.count(size_class(SIZES_SENT, len), 1);
        match frame.first_chunk() {
            Some(&crate::net::BROADCAST) => state.count(BPTC, 1),
            Some(&[first, ..]) if first & 1 != 0 => state.count(MPTC, 1),
            _ => {}
        }
        let loops_back = state.receive_control & receive::LOOPBACK != 0 || state.phy.loops_back();
        if loops_back {
            self.receive(ctx, &frame);
        } else {
            ctx.output(Said::Frame(frame));
        }
        len + OVERHEAD
    }
}

impl Transmitter {
    fn header_bytes(&self) -> usize {
        self.context.header_bytes.into()
    }

    /// How many bytes more the header, or the segment, takes: at least one.
    fn wanted(&self) -> usize {
        let header = self.header_bytes();
        match header.checked_sub(self.header.len()) {
            Some(rest @ 1..) => rest,
            // A guest may change the context in between.
            _ => usize::from(self.context.segment_bytes)
                .saturating_sub(self.frame.len())
                .max(1),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.header.len() < self.header_bytes() {
            self.header.extend(bytes);
        } else {
            self.append(bytes);
        }
    }

    fn is_full(&self) -> bool {
        !self.frame.is_empty()
            && (self.too_long || self.frame.len() >= usize::from(self.context.segment_bytes))
    }

    /// The next segment, with its header as SDM §3.5.7 has it: lengths, the IP header's number, the
    /// sequence number, FIN and PSH in the last one alone, and checksums.
    fn make_segment(&mut self, last: bool) -> Vec<u8> {
        let context = self.context;
        let payload_bytes = self.frame.len();
        let mut frame = self.header.clone();
        frame.append(&mut self.frame);
        self.too_long = false;
        let ip = usize::from(context.ip.start);
        let transport = usize::from(context.payload.start);
        if context.command & CONTEXT_IPV4 != 0 {
            let total = frame.len().saturating_sub(ip) as u16;
            put(&mut frame, ip + 2, total);
            let id = get(&frame, ip + 4).wrapping_add(self.sent_segments);
            put(&mut frame, ip + 4, id);
        } else {
            let payload = frame.len().saturating_sub(ip + 40) as u16;
            put(&mut frame, ip + 4, payload);
        }
        let transport_bytes = frame.len().saturating_sub(transport) as u16;
        if context.command & CONTEXT_TCP != 0 {
            let sequence =
                u32::from(get(&frame, transport + 4)) << 16 | u32::from(get(&frame, transport + 6));
            let sequence = sequence.wrapping_add(self.sent_bytes);
            put(&mut frame, transport + 4, (sequence >> 16) as u16);
            put(&mut frame, transport + 6, sequence as u16);
            if let Some(flags) = frame.get_mut(transport + 13)
                && !last
            {
                *flags &= !0x09;
            }
        } else {
            put(&mut frame, transport + 4, transport_bytes);
        }
        if self.checksums & PAYLOAD_CHECKSUM != 0 {
            // Of the pseudo header the driver has summed up all but the length, which is different
            // each time.
            let at = usize::from(context.payload.at);
            let pseudo = u32::from(get(&frame, at)) + u32::from(transport_bytes);
            put(&mut frame, at, checksum::sum(pseudo, &[]));
            context.payload.insert(&mut frame);
        }
        if self.checksums & IP_CHECKSUM != 0 {
            context.ip.insert(&mut frame);
        }
        self.sent_bytes = self.sent_bytes.wrapping_add(payload_bytes as u32);
        self.sent_segments = self.sent_segments.wrapping_add(1);
        frame
    }
}

/// What the guest wants to hear of.
#[derive(Default)]
struct Reports {
    at_once: bool,
    later: bool,
}
