//! The network card (virtio §5.1): a queue to receive, one to send, and one for commands.
//!
//! Beside ordinary frames it takes and gives TCP segments of up to 64 KiB, where the driver wants
//! that: an [`Output`] says so with each frame ([`Said::LargeFrame`]), and who answers may then
//! send such ones. Checksums are whole on the wire: what the driver leaves out is computed here,
//! and what it is ready to leave unchecked is checked here.
//!
//! What comes waits in the card, within bounds, until the driver has buffers for it. Not modelled: several pairs of
//! queues, VLAN filters, announcements, hash reports and TCP over IPv6.
//!
//! [`Output`]: platform::Output

use std::collections::VecDeque;

use log::debug;
use platform::{Input, Said, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

use super::pci::{Job, Kind, Served, VERSION_1, VirtioDevice, VirtioPci};
use super::queue::Broken;
use crate::net::checksum::{self, Ipv4};
use crate::net::{BROADCAST, Mac};
use crate::pci::PciDevice;

const TARGET: &str = "virtio-net";

/// Features (virtio §5.1.3).
const CSUM: u64 = 1 << 0;
const GUEST_CSUM: u64 = 1 << 1;
const MTU: u64 = 1 << 3;
const HAS_MAC: u64 = 1 << 5;
const GUEST_TSO4: u64 = 1 << 7;
const HOST_TSO4: u64 = 1 << 11;
const MRG_RXBUF: u64 = 1 << 15;
const STATUS: u64 = 1 << 16;
const CTRL_VQ: u64 = 1 << 17;
const CTRL_RX: u64 = 1 << 18;
const CTRL_RX_EXTRA: u64 = 1 << 20;
const CTRL_MAC_ADDR: u64 = 1 << 23;

/// The queues.
const RECEIVE: usize = 0;
const SEND: usize = 1;

/// The header before each frame (virtio §5.1.6); legacy drivers know the last field with MRG_RXBUF alone.
const HEADER_BYTES: usize = 12;
const SHORT_HEADER_BYTES: usize = 10;
const NUM_BUFFERS: usize = 10;
/// Its flags.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
/// Its kinds of large segments.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_ECN: u8 = 0x80;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// The largest packet of an ordinary frame.
const PACKET: u16 = 1500;
/// The longest ordinary frame, with a VLAN tag, and the longest that carries a large segment.
const LONGEST: usize = ETHERNET + 4 + PACKET as usize;
const LONGEST_LARGE: usize = ETHERNET + 65535;
/// From so many bytes on that wait for buffers no more frames are taken.
const MOST_WAITING: usize = 256 << 10;
/// Addresses of each kind that are told apart; with more of them all frames of the kind are taken.
const MOST_ADDRESSES: usize = 64;

/// Commands (virtio §5.1.6.5): their class, and the answers.
const CLASS_RX: u8 = 0;
const CLASS_MAC: u8 = 1;
const MAC_TABLE: u8 = 0;
const MAC_ADDRESS: u8 = 1;
const OK: u8 = 0;
const ERROR: u8 = 1;

/// Which frames the driver wants beside its own (virtio §5.1.6.5.1), by the number of the command.
const PROMISCUOUS: u8 = 0;
const ALL_MULTICAST: u8 = 1;
const ALL_UNICAST: u8 = 2;
const NO_MULTICAST: u8 = 3;
const NO_UNICAST: u8 = 4;
const NO_BROADCAST: u8 = 5;

/// Addresses of one kind that frames are taken for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Table {
    addresses: Vec<Mac>,
    /// There are more than that.
    overflows: bool,
}

impl Table {
    fn has(&self, address: &Mac) -> bool {
        self.overflows || self.addresses.contains(address)
    }
}

/// What is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    mac: Mac,
    /// A bit for each command of the class RX.
    modes: u8,
    unicast: Table,
    multicast: Table,
    /// Frames that wait for buffers, with their header.
    waiting: VecDeque<Vec<u8>>,
}

impl State {
    fn new(mac: Mac) -> Self {
        Self {
            mac,
            // Drivers that choose nothing see all.
            modes: 1 << PROMISCUOUS,
            unicast: Table::default(),
            multicast: Table::default(),
            waiting: VecDeque::new(),
        }
    }

    fn has_mode(&self, mode: u8) -> bool {
        self.modes >> mode & 1 != 0
    }

    fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }

    fn is_sound(&self) -> bool {
        let tables = [&self.unicast, &self.multicast];
        let lens = HEADER_BYTES + ETHERNET..=HEADER_BYTES + LONGEST_LARGE;
        self.waiting_bytes() < MOST_WAITING + HEADER_BYTES + LONGEST_LARGE
            && self.waiting.iter().all(|frame| lens.contains(&frame.len()))
            && tables
                .iter()
                .all(|table| table.addresses.len() <= MOST_ADDRESSES)
    }

    /// Whether a frame to this address is for the guest.
    fn accepts(&self, to: &Mac) -> bool {
        if self.has_mode(PROMISCUOUS) {
            return true;
        }
        if *to == BROADCAST {
            return !self.has_mode(NO_BROADCAST);
        }
        match to[0] & 1 {
            1 => {
                !self.has_mode(NO_MULTICAST)
                    && (self.has_mode(ALL_MULTICAST) || self.multicast.has(to))
            }
            _ => {
                !self.has_mode(NO_UNICAST)
                    && (self.has_mode(ALL_UNICAST) || *to == self.mac || self.unicast.has(to))
            }
        }
    }
}

/// The device.
pub struct VirtioNet {
    mac: Mac,
    state: State,
}

/// Bytes of the header that the driver and the device have agreed on.
fn header_bytes(features: u64) -> usize {
    match features & (VERSION_1 | MRG_RXBUF) {
        0 => SHORT_HEADER_BYTES,
        _ => HEADER_BYTES,
    }
}

/// Whether the driver takes segments of up to 64 KiB.
fn takes_large(features: u64) -> bool {
    const NEEDED: u64 = GUEST_CSUM | GUEST_TSO4;
    features & NEEDED == NEEDED
}

/// The header of a frame that came, before which it has to stand; the frame's checksum is then as
/// the header says. `None` for a frame that the driver is not ready for.
fn receive_header(features: u64, frame: &mut [u8]) -> Option<[u8; HEADER_BYTES]> {
    let mut header = [0; HEADER_BYTES];
    header[NUM_BUFFERS] = 1;
    let packet = Ipv4::parse(frame, ETHERNET).filter(Ipv4::has_checksum);
    if frame.len() <= LONGEST {
        if features & GUEST_CSUM != 0 && packet.is_some_and(|packet| packet.payload_is_right()) {
            header[0] = DATA_VALID;
        }
        return Some(header);
    }
    let packet = packet.filter(|packet| packet.protocol == Ipv4::TCP)?;
    let at = ETHERNET + packet.header.len();
    let tcp = usize::from(packet.payload[12] >> 4) * 4;
    if !takes_large(features) || !(20..packet.payload.len()).contains(&tcp) {
        return None;
    }
    // Whoever cuts it into pieces computes the checksum of each, and begins with this.
    let pseudo = checksum::sum(packet.pseudo(), &[]);
    let segment = PACKET - packet.header.len() as u16 - tcp as u16;
    frame[at + 16..at + 18].copy_from_slice(&pseudo.to_be_bytes());
    header[..2].copy_from_slice(&[NEEDS_CSUM, GSO_TCPV4]);
    header[2..4].copy_from_slice(&((at + tcp) as u16).to_le_bytes());
    header[4..6].copy_from_slice(&segment.to_le_bytes());
    header[6..8].copy_from_slice(&(at as u16).to_le_bytes());
    header[8..10].copy_from_slice(&16u16.to_le_bytes());
    Some(header)
}

/// Completes a frame of the driver by what its header leaves to the device. Returns whether it is one to send.
fn complete(features: u64, header: &[u8; SHORT_HEADER_BYTES], frame: &mut [u8]) -> bool {
    let [flags, gso, _, _, _, _, s0, s1, o0, o1] = *header;
    let is_large = match gso & !GSO_ECN {
        GSO_NONE => false,
        GSO_TCPV4 if features & HOST_TSO4 != 0 => true,
        _ => return false,
    };
    if frame.len() < ETHERNET || is_large && Ipv4::parse(frame, ETHERNET).is_none() {
        return false;
    }
    if flags & NEEDS_CSUM == 0 || features & CSUM == 0 {
        return !is_large;
    }
    let start = usize::from(u16::from_le_bytes([s0, s1]));
    let at = start + usize::from(u16::from_le_bytes([o0, o1]));
    if start > frame.len() || at + 2 > frame.len() {
        return false;
    }
    let checksum = match !checksum::sum(0, &frame[start..]) {
        // To UDP 0 is none, and to TCP both are the same.
        0 => 0xFFFF,
        checksum => checksum,
    };
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

impl VirtioNet {
    const VERSION: u32 = 1;

    const KIND: Kind = Kind {
        id: 1,
        transitional: Some(0),
        class: 0x02_00_00,
        queues: &[256, 256, 64],
    };

    /// The PCI device of a card with this address, and what is in its expansion ROM: nothing, or a
    /// multiple of 512 bytes.
    pub fn device(mac: Mac, rom: Vec<u8>) -> PciDevice<VirtioPci<Self>> {
        let device = Self {
            mac,
            state: State::new(mac),
        };
        VirtioPci::device(Self::KIND, device).with_rom(rom)
    }

    // ---- receiving -------------------------------------------------------------------------------

    fn frame_came(&mut self, features: u64, frame: &[u8]) {
        let Some(to) = frame.first_chunk::<6>() else {
            return;
        };
        let fits = (ETHERNET..=LONGEST_LARGE).contains(&frame.len());
        if !fits || !self.state.accepts(to) || self.state.waiting_bytes() >= MOST_WAITING {
            return debug!(target: TARGET, "a frame of {} bytes is not taken", frame.len());
        }
        let mut stored = [&[0; HEADER_BYTES], frame].concat();
        let (header, copy) = stored.split_at_mut(HEADER_BYTES);
        if let Some(made) = receive_header(features, copy) {
            header.copy_from_slice(&made);
            self.state.waiting.push_back(stored);
        }
    }

    /// Gives the driver the frame that has waited longest.
    fn receive(&mut self, job: &mut Job<'_, '_, '_>) -> Result<Served, Broken> {
        let Some(frame) = self.state.waiting.front_mut() else {
            return Ok(Served::Unused);
        };
        let header = header_bytes(job.features);
        let len = header + frame.len() - HEADER_BYTES;
        let room = job.chain.writable_len();
        if room < header as u64 {
            return Err(Broken("a buffer for frames without room for a header"));
        }
        let mut chains = Vec::new();
        let mut rest = (len as u64).saturating_sub(room);
        while rest > 0 && job.features & MRG_RXBUF != 0 {
            let Some(chain) = job.ahead(chains.len() as u16 + 1)? else {
                if !job.is_full() {
                    return Ok(Served::TooFew);
                }
                break;
            };
            if chain.writable_len() == 0 {
                return Err(Broken("a buffer for frames that cannot be written"));
            }
            rest = rest.saturating_sub(chain.writable_len());
            chains.push(chain);
        }
        if rest > 0 {
            debug!(target: TARGET, "a frame of {len} bytes fits into no buffers that there can be");
            self.state.waiting.pop_front();
            return Ok(Served::Unused);
        }
        let buffers = chains.len() as u16 + 1;
        frame[NUM_BUFFERS..HEADER_BYTES].copy_from_slice(&buffers.to_le_bytes());
        // The first buffer has the header, as long as it is, and the frame's begin.
        let (head, body) = frame.split_at(HEADER_BYTES);
        job.chain.write(job.ctx, 0, &head[..header]);
        job.chain.write(job.ctx, header as u64, body);
        let mut written = vec![room.min(len as u64) as u32];
        let mut at = (room as usize).min(len) - header;
        for chain in &chains {
            let piece = (body.len() - at).min(chain.writable_len() as usize);
            chain.write(job.ctx, 0, &body[at..at + piece]);
            written.push(piece as u32);
            at += piece;
        }
        self.state.waiting.pop_front();
        Ok(Served::Merged(written))
    }

    // ---- sending ---------------------------------------------------------------------------------

    fn send(&mut self, job: &mut Job<'_, '_, '_>) -> Result<Served, Broken> {
        let header_bytes = header_bytes(job.features) as u64;
        let Some(len) = job.chain.readable_len().checked_sub(header_bytes) else {
            return Err(Broken("a frame without a header"));
        };
        if len > LONGEST_LARGE as u64 {
            debug!(target: TARGET, "a frame of {len} bytes is not sent");
            return Ok(Served::Done(0));
        }
        let mut header = [0; SHORT_HEADER_BYTES];
        job.chain.read(job.ctx, 0, &mut header);
        let mut frame = vec![0; len as usize];
        job.chain.read(job.ctx, header_bytes, &mut frame);
        if complete(job.features, &header, &mut frame) {
            job.ctx.output(match takes_large(job.features) {
                true => Said::LargeFrame(frame),
                false => Said::Frame(frame),
            });
        }
        Ok(Served::Done(0))
    }

    // ---- commands --------------------------------------------------------------------------------

    fn command(&mut self, job: &mut Job<'_, '_, '_>) -> Result<Served, Broken> {
        let room = job.chain.writable_len();
        let len = job.chain.readable_len();
        if len < 2 || room == 0 {
            return Err(Broken("a command without a class or room for its answer"));
        }
        // More than the largest table that is kept needs is looked at by its lengths only.
        const MOST_BYTES: usize = 2 + 2 * (4 + 6 * MOST_ADDRESSES);
        let mut bytes = [0; MOST_BYTES];
        let bytes = &mut bytes[..MOST_BYTES.min(len as usize)];
        job.chain.read(job.ctx, 0, bytes);
        let [class, command, data @ ..] = &*bytes else {
            return Err(Broken("a command without a class"));
        };
        let answer = match (*class, *command, data) {
            (CLASS_RX, mode @ PROMISCUOUS..=NO_BROADCAST, &[value]) => {
                self.state.modes = self.state.modes & !(1 << mode) | u8::from(value != 0) << mode;
                OK
            }
            (CLASS_MAC, MAC_ADDRESS, &[a, b, c, d, e, f]) => {
                self.state.mac = [a, b, c, d, e, f];
                OK
            }
            (CLASS_MAC, MAC_TABLE, _) => match Self::tables(job, len) {
                Some([unicast, multicast]) => {
                    self.state.unicast = unicast;
                    self.state.multicast = multicast;
                    OK
                }
                None => ERROR,
            },
            _ => ERROR,
        };
        job.chain.write(job.ctx, 0, &[answer]);
        Ok(Served::Done(1))
    }

    /// The tables of a command of `len` bytes that sets both.
    fn tables(job: &Job<'_, '_, '_>, len: u64) -> Option<[Table; 2]> {
        let mut at = 2;
        let mut tables = [Table::default(), Table::default()];
        for table in &mut tables {
            let mut count = [0; 4];
            if len < at + 4 {
                return None;
            }
            job.chain.read(job.ctx, at, &mut count);
            let count = u64::from(u32::from_le_bytes(count));
            if len < at + 4 + 6 * count {
                return None;
            }
            table.overflows = count > MOST_ADDRESSES as u64;
            if !table.overflows {
                let mut bytes = vec![0; 6 * count as usize];
                job.chain.read(job.ctx, at + 4, &mut bytes);
                table.addresses = bytes.as_chunks().0.to_vec();
            }
            at += 4 + 6 * count;
        }
        Some(tables)
    }
}

impl VirtioDevice for VirtioNet {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn features(&self) -> u64 {
        let offloads = CSUM | GUEST_CSUM | GUEST_TSO4 | HOST_TSO4 | MRG_RXBUF;
        let commands = CTRL_VQ | CTRL_RX | CTRL_RX_EXTRA | CTRL_MAC_ADDR;
        MTU | HAS_MAC | STATUS | offloads | commands
    }

    fn config(&self, _: u64) -> Vec<u8> {
        let mut bytes = self.state.mac.to_vec();
        // The link is up, there is one pair of queues, and so long are packets.
        for word in [1, 1, PACKET] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    fn write_config(&mut self, offset: u64, value: u8) {
        // As legacy drivers set the address.
        if let Some(byte) = self.state.mac.get_mut(offset as usize) {
            *byte = value;
        }
    }

    fn on_input(&mut self, features: u64, input: &Input) {
        if let Input::Frame(frame) = input {
            self.frame_came(features, frame);
        }
    }

    fn takes_input(&self, input: &Input) -> bool {
        !matches!(input, Input::Frame(_)) || self.state.waiting_bytes() < MOST_WAITING
    }

    fn wants(&self, queue: usize) -> bool {
        queue != RECEIVE || !self.state.waiting.is_empty()
    }

    fn serve(&mut self, mut job: Job<'_, '_, '_>) -> Result<Served, Broken> {
        match job.queue {
            RECEIVE => self.receive(&mut job),
            SEND => self.send(&mut job),
            _ => self.command(&mut job),
        }
    }

    fn reset(&mut self) {
        self.state = State::new(self.mac);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let saved: State = state.decode(Self::VERSION)?;
        if !saved.is_sound() {
            return Err(StateError::Unsound(
                "frames or addresses of no network card",
            ));
        }
        self.state = saved;
        Ok(())
    }
}
