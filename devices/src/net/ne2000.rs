//! NE2000: National's DP8390 with 16 KiB of memory and a data port, on the ISA bus and, as
//! Realtek's RTL8029AS, on PCI.
//!
//! Datasheets: DP8390D/NS32490D; RTL8029AS.
//!
//! | offset | what |
//! |---|---|
//! | 00-0F | the DP8390's registers, of the page that bits 6-7 of the command register choose |
//! | 10-17 | data port: a word of the memory that remote DMA is at |
//! | 18-1F | reset, by reading |
//!
//! The card's memory has at 0000-001F the PROM with its address, each byte twice, and at 4000-7FFF
//! RAM for frames. Sending takes as long as at 100 Mbit/s. Not modelled: collisions, the FIFO, and
//! the RTL8029's own page beyond what drivers look at.

use platform::{Device, DeviceCtx, Input, IrqLine, Said, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

use super::{BROADCAST, FCS, Mac, SHORTEST, checksum};
use crate::pci::{Bar, ConfigSpace, PciCtx, PciDevice, PciFunction};

const TARGET: &str = "ne2000";

/// Command register.
const STOP: u8 = 1 << 0;
const SEND: u8 = 1 << 2;
const REMOTE: u8 = 0x18;

/// Interrupt status and mask.
const RECEIVED: u8 = 1 << 0;
const SENT: u8 = 1 << 1;
const OVERFLOW: u8 = 1 << 4;
const REMOTE_DONE: u8 = 1 << 6;
const RESET: u8 = 1 << 7;

/// Receive configuration.
const ACCEPT_BROADCAST: u8 = 1 << 2;
const ACCEPT_MULTICAST: u8 = 1 << 3;
const PROMISCUOUS: u8 = 1 << 4;
const MONITOR: u8 = 1 << 5;

/// Transmit configuration: loopback modes.
const LOOPBACK: u8 = 0x06;

/// Data configuration: the data port is a word wide.
const WORDS: u8 = 1 << 0;

const RAM_START: usize = 0x4000;
const RAM_BYTES: usize = 0x4000;
const PROM_BYTES: u16 = 32;
/// The longest frame, with its checksum and a VLAN tag.
const LONGEST: usize = 1522;
/// A byte on the wire.
const BYTE_NS: u64 = 80;
const TIMER_SENT: u32 = 0;

/// The DP8390 and its memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    command: u8,
    /// First page of the receive ring, and the one behind its last.
    start: u8,
    stop: u8,
    boundary: u8,
    current: u8,
    send_page: u8,
    send_bytes: u16,
    send_status: u8,
    receive_status: u8,
    remote_address: u16,
    remote_bytes: u16,
    receive_config: u8,
    send_config: u8,
    data_config: u8,
    status: u8,
    mask: u8,
    address: Mac,
    multicast: [u8; 8],
    missed: u8,
    ram: Vec<u8>,
}

impl Chip {
    fn new(mac: Mac) -> Self {
        Self {
            command: STOP | 0x20,
            start: 0,
            stop: 0,
            boundary: 0,
            current: 0,
            send_page: 0,
            send_bytes: 0,
            send_status: 0,
            receive_status: 0,
            remote_address: 0,
            remote_bytes: 0,
            receive_config: 0,
            send_config: 0,
            data_config: 0,
            status: RESET,
            mask: 0,
            address: mac,
            multicast: [0; 8],
            missed: 0,
            ram: vec![0; RAM_BYTES],
        }
    }

    fn interrupts(&self) -> bool {
        self.status & self.mask & 0x7F != 0
    }

    fn read_memory(&self, mac: Mac, address: u16) -> u8 {
        if address < PROM_BYTES {
            // Behind the address 'W' says that the card has 16 bits.
            let byte = mac.get(usize::from(address / 2)).copied();
            return byte.unwrap_or(if address >= 28 { 0x57 } else { 0 });
        }
        let at = usize::from(address).checked_sub(RAM_START);
        at.and_then(|at| self.ram.get(at)).copied().unwrap_or(0xFF)
    }

    fn write_memory(&mut self, address: u16, value: u8) {
        let at = usize::from(address).checked_sub(RAM_START);
        if let Some(byte) = at.and_then(|at| self.ram.get_mut(at)) {
            *byte = value;
        }
    }

    /// Remote DMA goes on by a byte; its ring is the receive ring (datasheet §7.3).
    fn advance_remote(&mut self) {
        self.remote_address = self.remote_address.wrapping_add(1);
        if self.remote_address == u16::from(self.stop) << 8 {
            self.remote_address = u16::from(self.start) << 8;
        }
        self.remote_bytes -= 1;
        if self.remote_bytes == 0 {
            self.status |= REMOTE_DONE;
        }
    }

    /// Bytes that an access to the data port moves: a byte, or at least a word, whatever its own
    /// size.
    fn width(&self, size: u8) -> u8 {
        match self.data_config & WORDS {
            0 => 1,
            _ => size.max(2),
        }
    }

    fn read_data(&mut self, mac: Mac, size: u8) -> u32 {
        let size = self.width(size);
        (0..size).fold(0, |value, n| {
            if self.remote_bytes == 0 {
                return value | 0xFF << (8 * n);
            }
            let byte = self.read_memory(mac, self.remote_address);
            self.advance_remote();
            value | u32::from(byte) << (8 * n)
        })
    }

    fn write_data(&mut self, size: u8, value: u32) {
        let size = self.width(size);
        for n in 0..size {
            if self.remote_bytes == 0 {
                return;
            }
            self.write_memory(self.remote_address, (value >> (8 * n)) as u8);
            self.advance_remote();
        }
    }

    fn read(&mut self, register: u8) -> u8 {
        let [remote_low, remote_high] = self.remote_address.to_le_bytes();
        match (self.command >> 6, register) {
            (_, 0) => self.command,
            (0, 0x01) | (0, 0x08) => remote_low,
            (0, 0x02) | (0, 0x09) => remote_high,
            (0, 0x03) => self.boundary,
            (0, 0x04) => self.send_status,
            (0, 0x07) => self.status,
            // "PC": an RTL8029.
            (0, 0x0A) => 0x50,
            (0, 0x0B) => 0x43,
            (0, 0x0C) => self.receive_status,
            (0, 0x0F) => std::mem::take(&mut self.missed),
            (1, 0x01..=0x06) => self.address[usize::from(register - 1)],
            (1, 0x07) => self.current,
            (1, 0x08..=0x0F) => self.multicast[usize::from(register - 8)],
            (2, 0x01) => self.start,
            (2, 0x02) => self.stop,
            (2, 0x04) => self.send_page,
            (2, 0x0C) => self.receive_config | 0xC0,
            (2, 0x0D) => self.send_config | 0xE0,
            (2, 0x0E) => self.data_config | 0x80,
            (2, 0x0F) => self.mask,
            // Full duplex, no boot ROM.
            (3, 0x05) | (3, 0x06) => 0x40,
            _ => 0,
        }
    }

    /// Returns whether a frame is to be sent.
    fn write(&mut self, register: u8, value: u8) -> bool {
        let low = |word: u16| word & 0xFF00 | u16::from(value);
        let high = |word: u16| word & 0x00FF | u16::from(value) << 8;
        match (self.command >> 6, register) {
            (_, 0) => return self.write_command(value),
            (0, 0x01) => self.start = value,
            (0, 0x02) => self.stop = value,
            (0, 0x03) => self.boundary = value,
            (0, 0x04) => self.send_page = value,
            (0, 0x05) => self.send_bytes = low(self.send_bytes),
            (0, 0x06) => self.send_bytes = high(self.send_bytes),
            (0, 0x07) => self.status &= !(value & 0x7F),
            (0, 0x08) => self.remote_address = low(self.remote_address),
            (0, 0x09) => self.remote_address = high(self.remote_address),
            (0, 0x0A) => self.remote_bytes = low(self.remote_bytes),
            (0, 0x0B) => self.remote_bytes = high(self.remote_bytes),
            (0, 0x0C) => self.receive_config = value & 0x3F,
            (0, 0x0D) => self.send_config = value & 0x1F,
            (0, 0x0E) => self.data_config = value & 0x7F,
            (0, 0x0F) => self.mask = value & 0x7F,
            (1, 0x01..=0x06) => self.address[usize::from(register - 1)] = value,
            (1, 0x07) => self.current = value,
            (1, 0x08..=0x0F) => self.multicast[usize::from(register - 8)] = value,
            _ => {}
        }
        false
    }

    fn write_command(&mut self, value: u8) -> bool {
        let sending = self.command & SEND;
        self.command = value | sending;
        if value & STOP != 0 {
            self.status |= RESET;
            self.command &= !SEND;
            return false;
        }
        self.status &= !RESET;
        if value & REMOTE != 0 && self.remote_bytes == 0 {
            self.status |= REMOTE_DONE;
        }
        value & SEND != 0 && sending == 0
    }

    /// The frame that is to be sent; of what does not lie in the card's RAM there is none.
    fn frame(&self) -> Option<Vec<u8>> {
        let start = usize::from(self.send_page) << 8;
        let start = start.checked_sub(RAM_START)?;
        let len = usize::from(self.send_bytes);
        let frame = self.ram.get(start..start + len)?;
        (14..=LONGEST).contains(&len).then(|| frame.to_vec())
    }

    /// Bytes of the receive ring that are free.
    fn room(&self) -> usize {
        let (start, stop) = (usize::from(self.start) << 8, usize::from(self.stop) << 8);
        let (current, boundary) = (
            usize::from(self.current) << 8,
            usize::from(self.boundary) << 8,
        );
        match (stop.checked_sub(start), boundary.checked_sub(current)) {
            (None | Some(0), _) => 0,
            (Some(_), Some(room @ 1..)) => room,
            (Some(all), _) => all.saturating_sub(current - boundary),
        }
    }

    fn listens(&self) -> bool {
        self.command & STOP == 0 && self.receive_config & MONITOR == 0
    }

    fn has_room(&self) -> bool {
        !self.listens() || self.room() > LONGEST + 8 || self.stop <= self.start
    }

    fn accepts(&self, frame: &[u8]) -> bool {
        let config = self.receive_config;
        let Some(to) = frame.first_chunk::<6>() else {
            return false;
        };
        if config & PROMISCUOUS != 0 || *to == self.address {
            return true;
        }
        if *to == BROADCAST {
            return config & ACCEPT_BROADCAST != 0;
        }
        let hash = checksum::crc32_high_first(to) >> 26;
        let chosen = self.multicast[(hash >> 3) as usize] >> (hash & 7) & 1 != 0;
        to[0] & 1 != 0 && config & ACCEPT_MULTICAST != 0 && chosen
    }

    fn receive(&mut self, frame: &[u8]) {
        let bytes = frame.len().max(SHORTEST) + FCS;
        if !self.listens() || frame.len() < 14 || bytes > LONGEST || !self.accepts(frame) {
            return;
        }
        // Its head, of four bytes, tells the next one's page and how many bytes follow.
        let pages = (bytes + 4).div_ceil(256);
        let ring = usize::from(self.stop.saturating_sub(self.start));
        let (room, needed) = (self.room(), pages * 256);
        // A ring that is all free has as much room, and no boundary ahead of it.
        if room < needed || room == needed && ring * 256 != room || ring == 0 {
            self.status |= OVERFLOW;
            self.missed = self.missed.saturating_add(1);
            return;
        }
        let from_start = usize::from(self.current.wrapping_sub(self.start));
        let next = self.start + ((from_start + pages) % ring) as u8;
        let group = if frame[0] & 1 != 0 { 0x20 } else { 0 };
        self.receive_status = 0x01 | group;
        let mut stored = vec![self.receive_status, next, bytes as u8, (bytes >> 8) as u8];
        stored.extend(frame);
        stored.resize(4 + bytes - FCS, 0);
        let fcs = checksum::crc32(&stored[4..]);
        stored.extend(fcs.to_le_bytes());
        let mut at = u16::from(self.current) << 8;
        for byte in stored {
            self.write_memory(at, byte);
            at = at.wrapping_add(1);
            if at == u16::from(self.stop) << 8 {
                at = u16::from(self.start) << 8;
            }
        }
        self.current = next;
        self.status |= RECEIVED;
    }

    fn sent(&mut self) {
        if self.command & SEND != 0 {
            self.command &= !SEND;
            self.send_status = 0x01;
            self.status |= SENT;
        }
    }
}

/// The card, on either bus.
struct Card {
    mac: Mac,
    chip: Chip,
}

impl Card {
    const VERSION: u32 = 1;

    fn new(mac: Mac) -> Self {
        let chip = Chip::new(mac);
        Self { mac, chip }
    }

    fn read(&mut self, offset: u64, size: u8) -> u64 {
        match offset {
            0x00..0x10 => (0..size).fold(0, |value, n| {
                let register = (offset as u8 + n) & 0x0F;
                value | u64::from(self.chip.read(register)) << (8 * n)
            }),
            0x10..0x18 => self.chip.read_data(self.mac, size.min(4)).into(),
            _ => {
                self.restart();
                0
            }
        }
    }

    fn restart(&mut self) {
        let ram = std::mem::take(&mut self.chip.ram);
        self.chip = Chip {
            ram,
            address: self.chip.address,
            ..Chip::new(self.mac)
        };
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, offset: u64, size: u8, value: u64) {
        let mut sends = false;
        match offset {
            0x00..0x10 => {
                for n in 0..size {
                    sends |= self
                        .chip
                        .write((offset as u8 + n) & 0x0F, (value >> (8 * n)) as u8);
                }
            }
            0x10..0x18 => self.chip.write_data(size.min(4), value as u32),
            _ => {}
        }
        if sends {
            let loops = self.chip.send_config & LOOPBACK != 0;
            if let Some(frame) = self.chip.frame().filter(|_| !loops) {
                ctx.output(Said::Frame(frame));
            }
            let bytes = usize::from(self.chip.send_bytes).clamp(SHORTEST, LONGEST);
            ctx.schedule(TIMER_SENT, ctx.now_ns() + bytes as u64 * BYTE_NS);
        }
    }

    fn on_input(&mut self, input: &Input) {
        if let Input::Frame(frame) = input {
            self.chip.receive(frame);
        }
    }

    fn takes_input(&self, input: &Input) -> bool {
        !matches!(input, Input::Frame(_)) || self.chip.has_room()
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.chip = Chip::new(self.mac);
        ctx.cancel(TIMER_SENT);
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let chip: Chip = state.decode(Self::VERSION)?;
        if chip.ram.len() != RAM_BYTES {
            return Err(StateError::Unsound("no memory of an NE2000"));
        }
        self.chip = chip;
        Ok(())
    }
}

/// The card on the ISA bus.
pub struct Ne2000 {
    card: Card,
    irq: IrqLine,
}

impl Ne2000 {
    /// Region: 32 ports.
    pub const PORTS: u8 = 0;
    /// Where PCs have it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[(Self::PORTS, 0x300, 32, 2)];

    /// A card with this address, on this interrupt.
    pub fn new(mac: Mac, irq: IrqLine) -> Self {
        let card = Card::new(mac);
        Self { card, irq }
    }

    fn drive(&self, ctx: &mut DeviceCtx<'_>) {
        ctx.set_line(self.irq, self.card.chip.interrupts());
    }
}

/// The card on PCI: Realtek's RTL8029AS.
pub struct Rtl8029 {
    card: Card,
}

impl Rtl8029 {
    /// A card with this address, and what is in its expansion ROM: nothing, or a multiple of 512
    /// bytes.
    pub fn device(mac: Mac, rom: Vec<u8>) -> PciDevice<Self> {
        let config = ConfigSpace::new(0x10EC, 0x8029, 0x02_00_00, 0x00)
            .subsystem(0x1AF4, 0x1100)
            .bar(0, Bar::Ports(32))
            .interrupt_pin(1);
        let card = Card::new(mac);
        PciDevice::new(config, Self { card }).with_rom(rom)
    }

    fn drive(&self, ctx: &mut PciCtx<'_, '_>) {
        ctx.set_interrupt(self.card.chip.interrupts());
    }
}

/// The two buses differ in how a card drives its interrupt.
macro_rules! on_a_bus {
    ($bus:ident for $card:ty, $name:expr, $ctx:ty) => {
        impl $bus for $card {
            fn name(&self) -> &'static str {
                $name
            }

            fn read(&mut self, ctx: &mut $ctx, _: u8, offset: u64, size: u8) -> u64 {
                let value = self.card.read(offset, size);
                self.drive(ctx);
                value
            }

            fn write(&mut self, ctx: &mut $ctx, _: u8, offset: u64, size: u8, value: u64) {
                self.card.write(ctx, offset, size, value);
                self.drive(ctx);
            }

            fn on_timer(&mut self, ctx: &mut $ctx, _: u32) {
                self.card.chip.sent();
                self.drive(ctx);
            }

            fn on_input(&mut self, ctx: &mut $ctx, input: &Input) {
                self.card.on_input(input);
                self.drive(ctx);
            }

            fn takes_input(&self, input: &Input) -> bool {
                self.card.takes_input(input)
            }

            fn reset(&mut self, ctx: &mut $ctx) {
                self.card.reset(ctx);
                self.drive(ctx);
            }

            fn state(&self) -> StateView<'_> {
                StateView::of(Card::VERSION, &self.card.chip)
            }

            fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
                self.card.restore(state)
            }
        }
    };
}

on_a_bus!(Device for Ne2000, TARGET, DeviceCtx<'_>);
on_a_bus!(PciFunction for Rtl8029, "rtl8029", PciCtx<'_, '_>);

#[cfg(test)]
mod tests {
    use platform::testkit::{advance, bus_with};
    use platform::{Bus, DeviceId};

    use super::*;
    use crate::pci::config_space::ROM;

    const ADDRESS: Mac = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
    const IRQ: IrqLine = IrqLine::isa(9);

    platform::device_contract!(contract, Ne2000::new(ADDRESS, IRQ), [(0, 32, 2)]);
    platform::device_contract!(
        contract_on_pci,
        Rtl8029::device(ADDRESS, vec![0x55; 512]),
        [
            (platform::CONFIGURATION, 256, 4),
            (0, 32, 4),
            (ROM, 4096, 4)
        ]
    );

    fn card() -> Bus {
        let mut bus = bus_with(Box::new(Ne2000::new(ADDRESS, IRQ)), 0, 2);
        bus.reset();
        bus
    }

    fn out(bus: &mut Bus, writes: &[(u16, u32)]) {
        for &(port, value) in writes {
            bus.pio_write(port, 1, value);
        }
    }

    /// Sets remote DMA up: an address, a number of bytes, and a command.
    fn remote(bus: &mut Bus, address: u16, bytes: u16, command: u32) {
        let [address_low, address_high] = address.to_le_bytes().map(u32::from);
        let [low, high] = bytes.to_le_bytes().map(u32::from);
        out(
            bus,
            &[
                (0x0A, low),
                (0x0B, high),
                (0x08, address_low),
                (0x09, address_high),
                (0, command),
            ],
        );
    }

    /// As drivers set it up: pages 46-7F receive, 40-45 send.
    fn started() -> Bus {
        let mut bus = card();
        out(
            &mut bus,
            &[
                (0, 0x21),
                (0x0E, 0x49),
                (0x0C, 0x04),
                (0x0D, 0x00),
                (0x01, 0x46),
                (0x02, 0x80),
                (0x03, 0x46),
                (0x07, 0xFF),
                (0x0F, 0x53),
                (0, 0x61),
            ],
        );
        for (port, byte) in (1..).zip(ADDRESS) {
            bus.pio_write(port, 1, byte.into());
        }
        out(&mut bus, &[(0x07, 0x47), (0, 0x22)]);
        bus
    }

    fn frame(to: Mac, len: usize) -> Vec<u8> {
        let mut frame = to.to_vec();
        frame.extend((6..len).map(|n| n as u8));
        frame
    }

    #[test]
    fn the_prom_has_the_address_twice_and_ram_keeps_what_is_written() {
        let mut bus = card();
        out(&mut bus, &[(0x0E, 0x48)]);
        remote(&mut bus, 0, 32, 0x0A);
        let prom: Vec<u8> = (0..32).map(|_| bus.pio_read(0x10, 1) as u8).collect();
        assert_eq!(prom[..4], [0x52, 0x52, 0x54, 0x54]);
        assert_eq!(prom[28..], [0x57; 4]);
        assert_eq!(bus.pio_read(7, 1) & 0x40, 0x40, "remote DMA is done");
        assert_eq!(bus.pio_read(0x10, 1), 0xFF);
        out(&mut bus, &[(0x0E, 0x49), (7, 0x40)]);
        remote(&mut bus, 0, 32, 0x0A);
        let prom: Vec<u8> = (0..16).map(|_| bus.pio_read(0x10, 1) as u8).collect();
        assert_eq!(prom[..6], ADDRESS, "a byte of each word");
        remote(&mut bus, 0x4100, 4, 0x12);
        bus.pio_write(0x10, 2, 0x1234);
        bus.pio_write(0x10, 2, 0x5678);
        remote(&mut bus, 0x4100, 4, 0x0A);
        assert_eq!(
            [bus.pio_read(0x10, 2), bus.pio_read(0x10, 2)],
            [0x1234, 0x5678]
        );
    }

    #[test]
    fn a_frame_is_sent_from_the_cards_memory() {
        let mut bus = started();
        let sent = frame([2, 0, 0, 0, 0, 1], 60);
        remote(&mut bus, 0x4000, 60, 0x12);
        for pair in sent.chunks(2) {
            bus.pio_write(0x10, 2, u32::from(pair[0]) | u32::from(pair[1]) << 8);
        }
        out(
            &mut bus,
            &[(7, 0x40), (4, 0x40), (5, 60), (6, 0), (0, 0x26)],
        );
        assert_eq!(bus.pio_read(0, 1) & 4, 4, "on its way");
        advance(&mut bus, 60 * BYTE_NS);
        assert_eq!(bus.pio_read(0, 1) & 4, 0);
        assert_eq!(bus.pio_read(4, 1), 1);
        assert!(bus.lines.level(IRQ));
        out(&mut bus, &[(7, 0x02)]);
        assert!(!bus.lines.level(IRQ));
        let outputs: Vec<_> = bus.outputs.drain(..).map(|output| output.what).collect();
        assert_eq!(outputs, [Said::Frame(sent)]);
    }

    #[test]
    fn received_frames_lie_in_the_ring_with_a_head_and_wrap() {
        let mut bus = started();
        let received = frame(ADDRESS, 1000);
        let mut page = 0x47u16;
        for round in 0..40 {
            bus.input(DeviceId(0), &Input::Frame(received.clone()));
            assert!(bus.lines.level(IRQ), "round {round}");
            remote(&mut bus, page << 8, 4 + 1000, 0x0A);
            let words: Vec<u8> = (0..502)
                .flat_map(|_| (bus.pio_read(0x10, 2) as u16).to_le_bytes())
                .collect();
            let next = 0x46 + (page - 0x46 + 4) % 0x3A;
            assert_eq!(words[..4], [0x01, next as u8, 0xEC, 0x03], "round {round}");
            assert_eq!(words[4..], received);
            page = next;
            let boundary = if page == 0x46 { 0x7F } else { page - 1 };
            out(&mut bus, &[(3, boundary.into()), (7, 0xFF)]);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_and_strangers_are_not_heard() {
        let mut bus = started();
        let mine = Input::Frame(frame(ADDRESS, 1514));
        bus.input(DeviceId(0), &Input::Frame(frame([2, 0, 0, 0, 0, 9], 100)));
        bus.input(
            DeviceId(0),
            &Input::Frame(frame([1, 0, 0x5E, 0, 0, 1], 100)),
        );
        assert_eq!(bus.pio_read(7, 1), 0);
        let mut count = 0;
        while bus.takes_input(DeviceId(0), &mine) {
            bus.input(DeviceId(0), &mine);
            count += 1;
        }
        assert_eq!(count, 9, "six pages each, of 57");
        bus.input(DeviceId(0), &mine);
        assert_eq!(bus.pio_read(7, 1) & OVERFLOW as u32, 0x10);
        out(&mut bus, &[(0, 0x21)]);
        assert!(
            bus.takes_input(DeviceId(0), &mine),
            "who listens to nothing keeps nobody waiting"
        );
    }
}
