//! Realtek RTL8139C: Fast Ethernet on PCI, with a driver in every system since the late nineties.
//!
//! Datasheet: RTL8139C(L). Base address 0 is its 256 ports, base address 1 the same registers in
//! memory.
//!
//! The link is always up at 100 Mbit/s, full duplex; sending takes as long as on such a wire. Not
//! modelled: wake-up, early receive and transmit interrupts, flow control, CardBus, and the
//! descriptors of the later RTL8139C+, whose identification (revision 20h) the card does not have.

use platform::{Input, PhysAddr, Said, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

use super::microwire::{Microwire, WORDS};
use super::{BROADCAST, FCS, Mac, SHORTEST, checksum};
use crate::pci::{Bar, ConfigSpace, PciCtx, PciDevice, PciFunction};

const TARGET: &str = "rtl8139";

const TIMER_SEND: u32 = 0;
const TIMER_COUNT: u32 = 1;

/// Registers (datasheet chapter 5).
const IDR: u8 = 0x00;
const MAR: u8 = 0x08;
const TSD: u8 = 0x10;
const TSAD: u8 = 0x20;
const RBSTART: u8 = 0x30;
const CR: u8 = 0x37;
const CAPR: u8 = 0x38;
const CBR: u8 = 0x3A;
const IMR: u8 = 0x3C;
const ISR: u8 = 0x3E;
const TCR: u8 = 0x40;
const RCR: u8 = 0x44;
const TCTR: u8 = 0x48;
const MPC: u8 = 0x4C;
const CR9346: u8 = 0x50;
const CONFIG0: u8 = 0x51;
const CONFIG1: u8 = 0x52;
const TIMER_INT: u8 = 0x54;
const MSR: u8 = 0x58;
const CONFIG3: u8 = 0x59;
const CONFIG4: u8 = 0x5A;
const TSAD_STATUS: u8 = 0x60;
const BMCR: u8 = 0x62;
const BMSR: u8 = 0x64;
const ANAR: u8 = 0x66;
const ANLPAR: u8 = 0x68;
const ANER: u8 = 0x6A;

/// CR.
const EMPTY: u8 = 1 << 0;
const SENDS: u8 = 1 << 2;
const RECEIVES: u8 = 1 << 3;
const RESET: u8 = 1 << 4;

/// ISR and IMR.
const RECEIVED: u16 = 1 << 0;
const SENT: u16 = 1 << 2;
const SEND_FAILED: u16 = 1 << 3;
const OVERFLOW: u16 = 1 << 4;
const TIMED_OUT: u16 = 1 << 14;

/// TSD.
const SIZE: u32 = 0x1FFF;
const OWN: u32 = 1 << 13;
const SENT_WELL: u32 = 1 << 15;
const ABORTED: u32 = 1 << 30;

/// TCR: loopback, and what says RTL8139C.
const LOOPBACK: u32 = 3 << 17;
const VERSION_C: u32 = 0x7400_0000;

/// RCR.
const ALL: u32 = 1 << 0;
const OWN_ADDRESS: u32 = 1 << 1;
const MULTICASTS: u32 = 1 << 2;
const BROADCASTS: u32 = 1 << 3;
const NO_WRAP: u32 = 1 << 7;

/// The longest frame that is sent (datasheet §5.2), and that is received, with its checksum.
const LONGEST_SENT: usize = 1792;
const LONGEST: usize = 1526;
/// A byte on the wire, and a tick of the counter of 33 MHz, three of which are 90 ns.
const BYTE_NS: u64 = 80;
const TICKS_NS: (u64, u64) = (3, 90);

/// Everything that is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    address: Mac,
    multicast: [u8; 8],
    status: [u32; 4],
    buffers: [u32; 4],
    /// The descriptor that is sent next, and whether one is on the wire.
    next: u8,
    on_wire: bool,
    ring: u32,
    command: u8,
    /// Where the driver has read to, less 16, and where the card writes.
    read_at: u16,
    write_at: u16,
    mask: u16,
    causes: u16,
    send_config: u32,
    receive_config: u32,
    counter_start_ns: u64,
    counter_limit: u32,
    missed: u32,
    unlocked: u8,
    eeprom: Microwire,
    config: [u8; 6],
    basic_mode: u16,
    advertised: u16,
}

impl State {
    fn new(mac: Mac) -> Self {
        Self {
            address: mac,
            multicast: [0; 8],
            status: [OWN; 4],
            buffers: [0; 4],
            next: 0,
            on_wire: false,
            ring: 0,
            command: EMPTY,
            read_at: 0xFFF0,
            write_at: 0,
            mask: 0,
            causes: 0,
            send_config: 0,
            receive_config: 0,
            counter_start_ns: 0,
            counter_limit: 0,
            missed: 0,
            unlocked: 0,
            eeprom: Microwire::default(),
            // Mapped in ports and memory, the driver is there.
            config: [0, 0x0C, 0, 0, 0, 0],
            basic_mode: 0x3100,
            advertised: 0x05E1,
        }
    }

    fn ring_bytes(&self) -> u32 {
        8192 << (self.receive_config >> 11 & 3)
    }

    /// How many bytes of the ring the driver has not read.
    fn unread(&self) -> u32 {
        let read = u32::from(self.read_at.wrapping_add(16));
        u32::from(self.write_at).wrapping_sub(read) % self.ring_bytes()
    }

    fn receives(&self) -> bool {
        self.command & RECEIVES != 0
    }

    /// Whether a frame of so many bytes fits; the ring is never filled to its end, as that would
    /// look empty.
    fn has_room(&self, bytes: usize) -> bool {
        self.unread() + (bytes as u32 + 4).next_multiple_of(4) < self.ring_bytes()
    }
}

/// What is in the EEPROM of a card with this address.
fn words(mac: Mac) -> [u16; WORDS] {
    let mut words = [0; WORDS];
    words[..7].copy_from_slice(&[0x8129, 0x10EC, 0x8139, 0x1100, 0x1AF4, 0x4020, 0xE512]);
    for (word, pair) in words[7..].iter_mut().zip(mac.as_chunks::<2>().0) {
        *word = u16::from_le_bytes(*pair);
    }
    words
}

/// The card.
pub struct Rtl8139 {
    mac: Mac,
    state: State,
}

impl Rtl8139 {
    const VERSION: u32 = 1;

    /// A card with this address, and what is in its expansion ROM: nothing, or a multiple of 512
    /// bytes.
    pub fn device(mac: Mac, rom: Vec<u8>) -> PciDevice<Self> {
        let registers = Bar::Memory {
            len: 0x1000,
            wide: false,
            prefetchable: false,
        };
        let config = ConfigSpace::new(0x10EC, 0x8139, 0x02_00_00, 0x10)
            .subsystem(0x1AF4, 0x1100)
            .with(0x3E, &[0x20, 0x40])
            .writable(0x0D, &[0xFF])
            .bar(0, Bar::Ports(256))
            .bar(1, registers)
            .bus_master()
            .interrupt_pin(1);
        let state = State::new(mac);
        PciDevice::new(config, Self { mac, state }).with_rom(rom)
    }

    fn drive(&self, ctx: &mut PciCtx<'_, '_>) {
        ctx.set_interrupt(self.state.causes & self.state.mask != 0);
    }

    fn cause(&mut self, ctx: &mut PciCtx<'_, '_>, causes: u16) {
        self.state.causes |= causes;
        self.drive(ctx);
    }

    // ---- registers
    // -------------------------------------------------------------------------------

    /// The register of four bytes at `at`, of which a part may be asked for.
    fn read_dword(&self, ctx: &PciCtx<'_, '_>, at: u8) -> u32 {
        let state = &self.state;
        let bytes = |bytes: &[u8]| {
            let byte = |n: usize| u32::from(bytes.get(n).copied().unwrap_or(0)) << (8 * n);
            byte(0) | byte(1) | byte(2) | byte(3)
        };
        let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        let number = usize::from(at >> 2 & 3);
        match at {
            IDR => bytes(&state.address[..4]),
            0x04 => bytes(&state.address[4..]),
            MAR => bytes(&state.multicast[..4]),
            0x0C => bytes(&state.multicast[4..]),
            TSD..0x20 => state.status[number],
            TSAD..0x30 => state.buffers[number],
            RBSTART => state.ring,
            0x34 => u32::from(self.command()) << 24,
            CAPR => pair(state.read_at, state.write_at),
            IMR => pair(state.mask, state.causes),
            TCR => state.send_config & 0x0307_07F0 | VERSION_C,
            RCR => state.receive_config,
            TCTR => self.ticks(ctx.now_ns()),
            MPC => state.missed,
            CR9346 => {
                let out = state.eeprom.out(&words(self.mac));
                let [config0, config1, ..] = state.config;
                bytes(&[state.unlocked | u8::from(out), config0, config1, 0])
            }
            TIMER_INT => state.counter_limit,
            // MSR: the link is up, at 100 Mbit/s.
            MSR => bytes(&[0x10, state.config[3], state.config[4], 0]),
            // MULINT, RERID.
            0x5C => 0x10 << 16,
            TSAD_STATUS => pair(self.summary(), state.basic_mode),
            BMSR => pair(0x782D, state.advertised),
            // What the other end can do, and that it negotiates.
            ANLPAR => pair(0x45E1, 0x0001),
            _ => 0,
        }
    }

    fn command(&self) -> u8 {
        let empty = if self.state.unread() == 0 { EMPTY } else { 0 };
        self.state.command & !EMPTY | empty
    }

    /// Of each descriptor whether it is the driver's, and whether its frame was sent or not.
    fn summary(&self) -> u16 {
        (0..4).fold(0, |summary, n| {
            let status = self.state.status[n];
            let bit = |mask: u32, at: usize| u16::from(status & mask != 0) << (at + n);
            summary | bit(OWN, 0) | bit(ABORTED, 4) | bit(SENT_WELL, 12)
        })
    }

    fn ticks(&self, now_ns: u64) -> u32 {
        let (ticks, ns) = TICKS_NS;
        ((now_ns - self.state.counter_start_ns.min(now_ns)) * ticks / ns) as u32
    }

    fn count_to_limit(&mut self, ctx: &mut PciCtx<'_, '_>) {
        let (ticks, ns) = TICKS_NS;
        match self.state.counter_limit {
            0 => ctx.cancel(TIMER_COUNT),
            limit => {
                let after_ns = u64::from(limit) * ns / ticks + 1;
                let at_ns = self.state.counter_start_ns + after_ns;
                ctx.schedule(TIMER_COUNT, at_ns.max(ctx.now_ns() + 1));
            }
        }
    }

    fn write_byte(&mut self, ctx: &mut PciCtx<'_, '_>, at: u8, value: u8) {
        let unlocked = self.state.unlocked & 0xC0 == 0xC0;
        let state = &mut self.state;
        match at {
            // Locked like the configuration (datasheet §5.9), but in fact drivers write it as it
            // is.
            IDR..0x06 => state.address[usize::from(at)] = value,
            MAR..0x10 => state.multicast[usize::from(at - MAR)] = value,
            CR => {
                if value & RESET != 0 {
                    return self.restart(ctx);
                }
                if value & SENDS == 0 {
                    state.status = state.status.map(|status| status | OWN);
                    (state.next, state.on_wire) = (0, false);
                    ctx.cancel(TIMER_SEND);
                }
                let begins = value & RECEIVES != 0 && state.command & RECEIVES == 0;
                state.command = value & (SENDS | RECEIVES);
                if begins {
                    (state.read_at, state.write_at) = (0xFFF0, 0);
                }
            }
            CR9346 => {
                state.unlocked = value & 0xCE;
                // Only as EEPROM the wires lead there.
                let select = value & 0xC8 == 0x88;
                state.eeprom.drive(select, value & 4 != 0, value & 2 != 0);
            }
            CONFIG0..=CONFIG1 if unlocked => state.config[usize::from(at - CONFIG0)] = value,
            CONFIG3..=CONFIG4 if unlocked => state.config[usize::from(at - CONFIG3) + 3] = value,
            _ => {}
        }
    }

    fn write_word(&mut self, ctx: &mut PciCtx<'_, '_>, at: u8, value: u16) {
        match at {
            CAPR => self.state.read_at = value,
            IMR => {
                self.state.mask = value & 0xE07F;
                self.drive(ctx);
            }
            ISR => {
                self.state.causes &= !value;
                self.drive(ctx);
            }
            BMCR => {
                // Negotiation is over as soon as it begins.
                self.state.basic_mode = value & 0x3100;
                if value & 0x8000 != 0 {
                    self.state.basic_mode = 0x3100;
                }
            }
            ANAR => self.state.advertised = value & 0x3FFF,
            // Read only, of which a write must not be taken for two of bytes.
            CBR | BMSR | ANLPAR | ANER => {}
            _ => {
                let [low, high] = value.to_le_bytes();
                self.write_byte(ctx, at, low);
                self.write_byte(ctx, at.wrapping_add(1), high);
            }
        }
    }

    fn write_dword(&mut self, ctx: &mut PciCtx<'_, '_>, at: u8, value: u32) {
        let state = &mut self.state;
        match at {
            TSD..0x20 => {
                let number = usize::from(at >> 2 & 3);
                // While the card has it, it is the card's.
                if state.status[number] & OWN != 0 && state.command & SENDS != 0 {
                    state.status[number] = value & 0x003F_1FFF;
                    self.send(ctx);
                }
            }
            TSAD..0x30 => state.buffers[usize::from(at >> 2 & 3)] = value,
            RBSTART => state.ring = value,
            TCR => state.send_config = value,
            RCR => state.receive_config = value & 0x0FFF_FFFF,
            TCTR => {
                state.counter_start_ns = ctx.now_ns();
                self.count_to_limit(ctx);
            }
            MPC => state.missed = 0,
            TIMER_INT => {
                state.counter_limit = value;
                self.count_to_limit(ctx);
            }
            _ => {
                self.write_word(ctx, at, value as u16);
                self.write_word(ctx, at.wrapping_add(2), (value >> 16) as u16);
            }
        }
    }

    fn restart(&mut self, ctx: &mut PciCtx<'_, '_>) {
        // Address and multicast table stay (datasheet §5.8).
        self.state = State {
            address: self.state.address,
            multicast: self.state.multicast,
            config: self.state.config,
            unlocked: self.state.unlocked,
            ..State::new(self.mac)
        };
        ctx.cancel(TIMER_SEND);
        ctx.cancel(TIMER_COUNT);
        self.drive(ctx);
    }

    // ---- frames
    // ----------------------------------------------------------------------------------

    /// Puts the next descriptor's frame on the wire, if the wire is free.
    fn send(&mut self, ctx: &mut PciCtx<'_, '_>) {
        let number = usize::from(self.state.next & 3);
        let status = self.state.status[number];
        if self.state.on_wire || status & OWN != 0 {
            return;
        }
        let len = (status & SIZE) as usize;
        self.state.on_wire = true;
        if (14..=LONGEST_SENT).contains(&len) {
            let mut frame = vec![0; len];
            ctx.dma_read(PhysAddr(self.state.buffers[number].into()), &mut frame);
            if self.state.send_config & LOOPBACK == LOOPBACK {
                self.receive(ctx, &frame);
            } else {
                ctx.output(Said::Frame(frame));
            }
        }
        let bytes = len.clamp(SHORTEST, LONGEST_SENT);
        ctx.schedule(TIMER_SEND, ctx.now_ns() + bytes as u64 * BYTE_NS);
    }

    /// The frame on the wire has been sent.
    fn sent(&mut self, ctx: &mut PciCtx<'_, '_>) {
        if !std::mem::take(&mut self.state.on_wire) {
            return;
        }
        let number = usize::from(self.state.next & 3);
        self.state.next = (self.state.next + 1) & 3;
        let status = &mut self.state.status[number];
        let fits = (14..=LONGEST_SENT).contains(&((*status & SIZE) as usize));
        *status |= OWN | if fits { SENT_WELL } else { ABORTED };
        self.cause(ctx, if fits { SENT } else { SEND_FAILED });
        self.send(ctx);
    }

    /// What of the status in a frame's head says why it was taken; `None` if it is not for this
    /// card.
    fn filter(&self, frame: &[u8]) -> Option<u16> {
        let config = self.state.receive_config;
        let to = frame.first_chunk::<6>()?;
        let (kind, accepted) = if *to == BROADCAST {
            (1 << 13, config & BROADCASTS != 0)
        } else if to[0] & 1 != 0 {
            let hash = checksum::crc32_high_first(to) >> 26;
            let chosen = self.state.multicast[(hash >> 3) as usize] >> (hash & 7) & 1 != 0;
            (1 << 15, config & MULTICASTS != 0 && chosen)
        } else {
            let ours = *to == self.state.address;
            (u16::from(ours) << 14, ours && config & OWN_ADDRESS != 0)
        };
        (accepted || config & ALL != 0).then_some(kind)
    }

    fn receive(&mut self, ctx: &mut PciCtx<'_, '_>, frame: &[u8]) {
        let bytes = frame.len().max(SHORTEST) + FCS;
        if !self.state.receives() || frame.len() < 14 || bytes > LONGEST {
            return;
        }
        let Some(kind) = self.filter(frame) else {
            return;
        };
        if !self.state.has_room(bytes) {
            self.state.missed = (self.state.missed + 1) & 0x00FF_FFFF;
            return self.cause(ctx, OVERFLOW);
        }
        let mut stored = (kind | 1).to_le_bytes().to_vec();
        stored.extend((bytes as u16).to_le_bytes());
        stored.extend(frame);
        stored.resize(4 + bytes - FCS, 0);
        let fcs = checksum::crc32(&stored[4..]);
        stored.extend(fcs.to_le_bytes());
        let ring_bytes = self.state.ring_bytes() as usize;
        let at = usize::from(self.state.write_at) % ring_bytes;
        let base = u64::from(self.state.ring);
        // At the ring's end it goes on at the start, or just on, as the driver chose.
        let goes_on = self.state.receive_config & NO_WRAP != 0 && ring_bytes < 65536;
        let first = match goes_on {
            true => stored.len(),
            false => stored.len().min(ring_bytes - at),
        };
        ctx.dma_write(PhysAddr(base + at as u64), &stored[..first]);
        ctx.dma_write(PhysAddr(base), &stored[first..]);
        let end = (at + stored.len()).next_multiple_of(4) % ring_bytes;
        self.state.write_at = end as u16;
        self.cause(ctx, RECEIVED);
    }
}

impl PciFunction for Rtl8139 {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut PciCtx<'_, '_>, _: u8, offset: u64, _: u8) -> u64 {
        let Ok(at) = u8::try_from(offset) else {
            return 0;
        };
        let low = u64::from(self.read_dword(ctx, at & 0xFC));
        let next = (at & 0xFC).wrapping_add(4);
        let high = u64::from(self.read_dword(ctx, next));
        (high << 32 | low) >> (8 * (at & 3))
    }

    fn write(&mut self, ctx: &mut PciCtx<'_, '_>, _: u8, offset: u64, size: u8, value: u64) {
        let Ok(at) = u8::try_from(offset) else {
            return;
        };
        match size {
            1 => self.write_byte(ctx, at, value as u8),
            2 => self.write_word(ctx, at, value as u16),
            4 => self.write_dword(ctx, at, value as u32),
            _ => {
                self.write_dword(ctx, at, value as u32);
                self.write_dword(ctx, at.wrapping_add(4), (value >> 32) as u32);
            }
        }
    }

    fn on_timer(&mut self, ctx: &mut PciCtx<'_, '_>, timer: u32) {
        match timer {
            TIMER_SEND => self.sent(ctx),
            TIMER_COUNT => self.cause(ctx, TIMED_OUT),
            _ => {}
        }
    }

    fn on_input(&mut self, ctx: &mut PciCtx<'_, '_>, input: &Input) {
        if let Input::Frame(frame) = input {
            self.receive(ctx, frame);
        }
    }

    fn takes_input(&self, input: &Input) -> bool {
        !matches!(input, Input::Frame(_)) || !self.state.receives() || self.state.has_room(LONGEST)
    }

    fn reset(&mut self, ctx: &mut PciCtx<'_, '_>) {
        self.restart(ctx);
        self.state = State::new(self.mac);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.state = state.decode(Self::VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use platform::testkit::{Rng, advance};
    use platform::{Bus, Clock, DeviceId, GuestMemory, IrqLine};

    use super::*;
    use crate::pci::config_space::ROM;
    use crate::pci::{Bdf, PciHost, add_pirqs, pirq_of};

    const ADDRESS: Mac = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
    const PORTS: u16 = 0xC200;
    const RING: u64 = 0x2_0000;

    platform::device_contract!(
        contract,
        Rtl8139::device(ADDRESS, vec![0x55; 512]),
        [
            (platform::CONFIGURATION, 256, 4),
            (0, 256, 4),
            (1, 4096, 8),
            (ROM, 4096, 4)
        ]
    );

    struct Board {
        bus: Bus,
        pin: IrqLine,
        card: DeviceId,
    }

    impl Board {
        fn new() -> Self {
            let memory = GuestMemory::new(1 << 20).unwrap();
            let mut bus = Bus::new(memory, Clock::new(1, 1));
            let host = bus.add(Box::new(PciHost::new()));
            for &(region, base, len, width) in PciHost::MAP {
                bus.map_ports(host, region, base, len, width);
            }
            let pin = pirq_of(add_pirqs(&mut bus), 3, 1);
            let card = Rtl8139::device(ADDRESS, Vec::new()).with_pin(pin).plug(
                &mut bus,
                "net0",
                Bdf::new(3, 0),
            );
            bus.reset();
            for (register, value) in [(0x10, u32::from(PORTS)), (0x04, 5)] {
                bus.pio_write(0xCF8, 4, 0x8000_1800 | register);
                bus.pio_write(0xCFC, 4, value);
            }
            Self { bus, pin, card }
        }

        fn read(&mut self, at: u8, size: u8) -> u32 {
            self.bus.pio_read(PORTS + u16::from(at), size)
        }

        fn write(&mut self, at: u8, size: u8, value: u32) {
            self.bus.pio_write(PORTS + u16::from(at), size, value);
        }

        /// A ring of 8 KiB, for what is sent to the card and to all.
        fn start(&mut self) {
            self.write(RBSTART, 4, RING as u32);
            self.write(CR, 1, (SENDS | RECEIVES).into());
            self.write(RCR, 4, OWN_ADDRESS | BROADCASTS);
            self.write(IMR, 2, u32::from(RECEIVED | SENT | OVERFLOW | TIMED_OUT));
        }

        fn arrive(&mut self, to: Mac, len: usize) -> Vec<u8> {
            let mut frame = to.to_vec();
            frame.extend((6..len).map(|n| n as u8));
            self.bus.input(self.card, &Input::Frame(frame.clone()));
            frame
        }

        fn interrupts(&self) -> bool {
            self.bus.lines.level(self.pin)
        }

        fn sent(&mut self) -> Vec<Said> {
            self.bus
                .outputs
                .drain(..)
                .map(|output| output.what)
                .collect()
        }
    }

    #[test]
    fn the_address_is_in_the_eeprom_and_in_its_register() {
        let mut board = Board::new();
        let mut read = |address: u32| {
            let mut bit = |data: u32| {
                for clock in [0, 4] {
                    board.write(CR9346, 1, 0x88 | clock | data << 1);
                }
                board.read(CR9346, 1) & 1
            };
            (0..9).rev().for_each(|n| {
                bit((0b110 << 6 | address) >> n & 1);
            });
            let word = (0..16).fold(0, |word, _| word << 1 | bit(0));
            board.write(CR9346, 1, 0);
            word
        };
        assert_eq!(read(0), 0x8129);
        assert_eq!([read(7), read(8), read(9)], [0x5452, 0x1200, 0x5634]);
        assert_eq!(board.read(IDR, 4), 0x1200_5452);
        assert_eq!(board.read(TCR, 4) & 0x7CC0_0000, VERSION_C);
        assert_eq!(board.read(BMSR, 2) & 0x24, 0x24);
    }

    #[test]
    fn four_descriptors_are_sent_in_turn() {
        let mut board = Board::new();
        board.start();
        for n in 0..4u8 {
            let at = 0x1_0000 + 2048 * u32::from(n);
            board.bus.memory.write(PhysAddr(at.into()), &[n; 100]);
            board.write(TSAD + 4 * n, 4, at);
            board.write(TSD + 4 * n, 4, 100);
        }
        assert_eq!(board.sent(), [Said::Frame(vec![0; 100])]);
        assert_eq!(board.read(TSD, 4) & OWN, 0);
        advance(&mut board.bus, 100 * BYTE_NS);
        assert_eq!(board.read(TSD, 4), 100 | OWN | SENT_WELL);
        assert!(board.interrupts());
        board.write(ISR, 2, SENT.into());
        assert!(!board.interrupts());
        advance(&mut board.bus, 300 * BYTE_NS);
        let rest = [1, 2, 3].map(|n| Said::Frame(vec![n; 100]));
        assert_eq!(board.sent(), rest);
        assert_eq!(board.read(TSAD_STATUS, 2), 0xF00F);
        board.write(TSD, 4, 1793);
        advance(&mut board.bus, 1_000_000);
        assert_eq!(board.read(TSD, 4) & ABORTED, ABORTED);
        assert!(board.sent().is_empty());
    }

    #[test]
    fn received_frames_lie_in_the_ring_one_behind_the_other() {
        let mut board = Board::new();
        board.start();
        let mut at = 0usize;
        for round in 0..30 {
            assert_eq!(board.read(CR, 1) & 1, 1, "empty");
            let frame = board.arrive(ADDRESS, 1001);
            assert_eq!(board.read(CR, 1) & 1, 0);
            assert!(board.interrupts());
            let stored: Vec<u8> = (0..1009)
                .map(|n| {
                    let byte = PhysAddr(RING + ((at + n) % 8192) as u64);
                    board.bus.memory.read_array::<1>(byte)[0]
                })
                .collect();
            assert_eq!(stored[..4], [0x01, 0x40, 0xED, 0x03], "round {round}");
            assert_eq!(stored[4..1005], frame);
            assert_eq!(stored[1005..], checksum::crc32(&frame).to_le_bytes());
            at = (at + 1009).next_multiple_of(4) % 8192;
            assert_eq!(board.read(CBR, 2) as usize, at);
            board.write(CAPR, 2, (at as u32).wrapping_sub(16) & 0xFFFF);
            board.write(ISR, 2, 0xFFFF);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_and_strangers_are_not_heard() {
        let mut board = Board::new();
        board.start();
        board.arrive([2, 0, 0, 0, 0, 9], 100);
        board.arrive([1, 0, 0x5E, 0, 0, 1], 100);
        assert_eq!(board.read(CBR, 2), 0);
        let nothing = Input::Frame(Vec::new());
        while board.bus.takes_input(board.card, &nothing) {
            board.arrive(BROADCAST, 1514);
        }
        assert_eq!(board.read(CBR, 2), 5 * 1524);
        board.arrive(ADDRESS, 1000);
        assert_eq!(board.read(ISR, 2) as u16 & OVERFLOW, OVERFLOW);
        assert_eq!(board.read(MPC, 4), 1);
    }

    #[test]
    fn the_counter_interrupts_at_its_limit() {
        let mut board = Board::new();
        board.start();
        board.write(TCTR, 4, 0);
        board.write(TIMER_INT, 4, 33_000);
        advance(&mut board.bus, 980_000);
        assert!(!board.interrupts());
        advance(&mut board.bus, 20_000);
        assert!(board.interrupts());
    }

    #[test]
    fn rings_anywhere_are_survived() {
        let mut rng = Rng::new(3);
        let mut board = Board::new();
        for _ in 0..3000 {
            let place = [0, 0xFFFF0, 0xFFFF_FFFF, 0xFEC0_0000, 0x2_0000][rng.below(5) as usize];
            board.write(RBSTART, 4, place);
            board.write(TSAD + 4 * rng.below(4) as u8, 4, place);
            board.write(CR, 1, (SENDS | RECEIVES).into());
            board.write(RCR, 4, rng.next_u64() as u32 | ALL);
            board.write(CAPR, 2, rng.next_u64() as u32 & 0xFFFF);
            board.write(TSD + 4 * rng.below(4) as u8, 4, rng.next_u64() as u32);
            let len = rng.below(4000) as usize;
            board.arrive(BROADCAST, len.max(6));
            advance(&mut board.bus, rng.below(100_000));
            assert!(board.sent().len() <= 4);
        }
    }
}
