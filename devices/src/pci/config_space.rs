//! The 256 bytes of configuration space of a PCI function: identifiers, base address registers, capabilities.
//!
//! Source: PCI Local Bus Specification 3.0, chapter 6 (base address registers §6.2.5, MSI §6.8, MSI-X §6.8.2).

use platform::{DeliveryMode, InterruptMessage};

use super::msix::{self, Msix};

/// The size of a function's configuration space.
pub const BYTES: usize = 256;

/// Command register.
pub const COMMAND: u8 = 0x04;
/// Command: answers in I/O space.
pub const COMMAND_IO: u8 = 0x01;
/// Command: answers in memory space.
pub const COMMAND_MEMORY: u8 = 0x02;
/// Command: may master the bus.
pub const COMMAND_MASTER: u8 = 0x04;
/// Command, second byte: holds its interrupt pin back.
pub const COMMAND_INTX_OFF: u8 = 0x04;

const STATUS: u8 = 0x06;
const STATUS_INTERRUPT: u8 = 0x08;
const STATUS_CAPABILITIES: u8 = 0x10;
const BAR0: u8 = 0x10;
const ROM_BAR: u8 = 0x30;
const ROM_ENABLE: u8 = 0x01;
const CAPABILITIES: u8 = 0x34;
const INTERRUPT_LINE: u8 = 0x3C;
const INTERRUPT_PIN: u8 = 0x3D;
const FIRST_CAPABILITY: u8 = 0x40;

const MSI: u8 = 0x05;
const MSI_ENABLE: u8 = 0x01;
const MSI_64_BIT: u8 = 0x80;
const MSIX: u8 = 0x11;

/// How many base address registers there are; the expansion ROM's counts as one more.
pub const BARS: usize = 6;
/// The expansion ROM's number among the base address registers.
pub const ROM: u8 = 6;

/// What a base address register places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Ports: a power of two from 4 on.
    Ports(u16),
    /// Memory: a power of two from 4096 on.
    Memory {
        /// Its size in bytes.
        len: u64,
        /// It may lie above 4 GiB; the register after this one has the upper half.
        wide: bool,
        /// Reads have no effect.
        prefetchable: bool,
    },
}

/// Configuration registers, with the bits that software may change.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; BYTES],
    writable: [u8; BYTES],
    clearable: [u8; BYTES],
    power_on: [u8; BYTES],
    bars: [Option<Bar>; BARS],
    rom_len: u32,
    /// Where the next capability goes, and which register points to the last one.
    next_capability: u8,
    last_link: u8,
    msi: Option<u8>,
    msix: Option<Msix>,
    /// A register that software can lock, and the bit that does.
    lock: Option<(u8, u8)>,
}

impl ConfigSpace {
    /// The space of a function with these identifiers; nothing in it can be written yet.
    /// `class` is base class, sub-class and programming interface, as in `0x06_01_00`.
    pub fn new(vendor: u16, device: u16, class: u32, revision: u8) -> Self {
        let space = Self {
            bytes: [0; BYTES],
            writable: [0; BYTES],
            clearable: [0; BYTES],
            power_on: [0; BYTES],
            bars: [None; BARS],
            rom_len: 0,
            next_capability: FIRST_CAPABILITY,
            last_link: CAPABILITIES,
            msi: None,
            msix: None,
            lock: None,
        };
        space
            .with(0x00, &vendor.to_le_bytes())
            .with(0x02, &device.to_le_bytes())
            .with(0x08, &[revision])
            .with(0x09, &class.to_le_bytes()[..3])
    }

    /// Gives registers their power-on values.
    pub fn with(mut self, offset: u8, values: &[u8]) -> Self {
        let start = usize::from(offset);
        self.bytes[start..start + values.len()].copy_from_slice(values);
        self.power_on = self.bytes;
        self
    }

    /// Lets software write the bits that are set in `masks`.
    pub fn writable(mut self, offset: u8, masks: &[u8]) -> Self {
        let start = usize::from(offset);
        self.writable[start..start + masks.len()].copy_from_slice(masks);
        self
    }

    /// Lets software clear the bits that are set in `masks` by writing ones.
    pub fn clearable(mut self, offset: u8, masks: &[u8]) -> Self {
        let start = usize::from(offset);
        self.clearable[start..start + masks.len()].copy_from_slice(masks);
        self
    }

    /// Once the bit `mask` of the register byte at `offset` is set, software cannot change that byte until a reset.
    pub fn locked_by(mut self, offset: u8, mask: u8) -> Self {
        self.lock = Some((offset, mask));
        self
    }

    /// Names the subsystem.
    pub fn subsystem(self, vendor: u16, id: u16) -> Self {
        self.with(0x2C, &vendor.to_le_bytes())
            .with(0x2E, &id.to_le_bytes())
    }

    /// Gives base address register `number` (0 to 5) something to place, and lets software switch its decoding on.
    pub fn bar(mut self, number: u8, bar: Bar) -> Self {
        let at = BAR0 + 4 * number;
        self.bars[usize::from(number)] = Some(bar);
        let (kind, mask, command) = match bar {
            Bar::Ports(len) => {
                assert!(
                    len.is_power_of_two() && len >= 4,
                    "a size that a register can say"
                );
                // All 32 bits, as the specification has it: there are no ports beyond FFFF.
                (0x01, !u64::from(len - 1), COMMAND_IO)
            }
            Bar::Memory {
                len,
                wide,
                prefetchable,
            } => {
                assert!(len.is_power_of_two() && len >= 4096, "whole pages");
                let kind = u8::from(wide) << 2 | u8::from(prefetchable) << 3;
                (kind, !(len - 1), COMMAND_MEMORY)
            }
        };
        let bytes = mask.to_le_bytes();
        let width = match bar {
            Bar::Memory { wide: true, .. } => 8,
            _ => 4,
        };
        self.writable[usize::from(COMMAND)] |= command;
        self.writable(at, &bytes[..width]).with(at, &[kind])
    }

    /// Gives the expansion ROM's register `len` bytes to place, a power of two from 4096 on.
    pub fn rom(mut self, len: u32) -> Self {
        assert!(len.is_power_of_two() && len >= 4096, "whole pages");
        self.rom_len = len;
        let mask = !(len - 1) | u32::from(ROM_ENABLE);
        self.writable[usize::from(COMMAND)] |= COMMAND_MEMORY;
        self.writable(ROM_BAR, &mask.to_le_bytes())
    }

    /// Gives the function an interrupt pin: 1 is INTA#.
    pub fn interrupt_pin(mut self, pin: u8) -> Self {
        self.writable[usize::from(COMMAND) + 1] |= COMMAND_INTX_OFF;
        self.writable(INTERRUPT_LINE, &[0xFF])
            .with(INTERRUPT_PIN, &[pin])
    }

    /// Lets software switch bus mastering on.
    pub fn bus_master(mut self) -> Self {
        self.writable[usize::from(COMMAND)] |= COMMAND_MASTER;
        self
    }

    /// Adds a capability with this identifier and these bytes behind its two first ones, of which
    /// software may write the bits of `writable`. Returns it with the register where the capability
    /// is.
    pub fn capability(mut self, id: u8, body: &[u8], writable: &[u8]) -> (Self, u8) {
        let at = self.next_capability;
        let len = (2 + body.len()).next_multiple_of(4) as u8;
        self.next_capability = at + len;
        let link = std::mem::replace(&mut self.last_link, at + 1);
        let status = self.bytes[usize::from(STATUS)] | STATUS_CAPABILITIES;
        let space = self
            .with(STATUS, &[status])
            .with(link, &[at])
            .with(at, &[id, 0])
            .with(at + 2, body)
            .writable(at + 2, writable);
        (space, at)
    }

    /// Adds message signalled interrupts: one message, with an address of 64 bits.
    pub fn msi(self) -> Self {
        let mut body = [0; 12];
        body[0] = MSI_64_BIT;
        let mut writable = [0; 12];
        writable[0] = MSI_ENABLE;
        writable[2..6].copy_from_slice(&[0xFC, 0xFF, 0xFF, 0xFF]);
        writable[6..12].fill(0xFF);
        let (mut space, at) = self.capability(MSI, &body, &writable);
        space.msi = Some(at);
        space
    }

    /// Adds MSI-X: `vectors` (1 to 64) messages, in a table at `table` of what base address register `bar` places, with
    /// their pending bits at `pending`; offsets are multiples of 8.
    pub fn msix(self, vectors: u16, bar: u8, table: u32, pending: u32) -> Self {
        let is_quadword = |offset: u32| offset.is_multiple_of(8);
        assert!(
            is_quadword(table) && is_quadword(pending),
            "as software accesses it"
        );
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(vectors - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(table | u32::from(bar)).to_le_bytes());
        body[6..].copy_from_slice(&(pending | u32::from(bar)).to_le_bytes());
        let writable = [0, msix::ENABLE | msix::FUNCTION_MASK];
        let (mut space, at) = self.capability(MSIX, &body, &writable);
        let vectors = Msix::new(at, bar, vectors, table.into(), pending.into());
        space.msix = Some(vectors);
        space
    }

    /// What each base address register places.
    pub fn bars(&self) -> [Option<Bar>; BARS] {
        self.bars
    }

    /// The size of the expansion ROM, 0 for none.
    pub fn rom_len(&self) -> u32 {
        self.rom_len
    }

    /// The interrupt pin: 1 is INTA#, 0 none.
    pub fn pin(&self) -> u8 {
        self.byte(INTERRUPT_PIN)
    }

    /// Where what a register places (0 to 5, or [`ROM`]) is at present: nowhere while its decoding is off, or before
    /// software gave it an address.
    pub fn base(&self, number: u8) -> Option<u64> {
        let command = self.byte(COMMAND);
        if number == ROM {
            let register = self.dword(ROM_BAR);
            let on = register & u32::from(ROM_ENABLE) != 0 && command & COMMAND_MEMORY != 0;
            let base = register & !0x7FF;
            return (on && base != 0 && self.rom_len != 0).then_some(base.into());
        }
        let at = BAR0 + 4 * number;
        let (base, enable) = match (*self.bars.get(usize::from(number))?)? {
            Bar::Ports(_) => {
                let base = self.dword(at) & !3;
                if base > 0xFFFF {
                    return None;
                }
                (base.into(), COMMAND_IO)
            }
            Bar::Memory { wide: false, .. } => {
                (u64::from(self.dword(at) & 0xFFFF_FFF0), COMMAND_MEMORY)
            }
            Bar::Memory { wide: true, .. } => {
                let low = u64::from(self.dword(at) & 0xFFFF_FFF0);
                (low | u64::from(self.dword(at + 4)) << 32, COMMAND_MEMORY)
            }
        };
        (command & enable != 0 && base != 0).then_some(base)
    }

    /// Whether the function may master the bus.
    pub fn may_master(&self) -> bool {
        self.byte(COMMAND) & COMMAND_MASTER != 0
    }

    /// Shows the level of the function's interrupt in the status register. Returns the level that its pin has by that.
    pub fn show_interrupt(&mut self, level: bool) -> bool {
        let status = self.byte(STATUS) & !STATUS_INTERRUPT;
        let shown = if level { STATUS_INTERRUPT } else { 0 };
        self.set(STATUS, status | shown);
        let pin_is_on = self.byte(COMMAND + 1) & COMMAND_INTX_OFF == 0;
        level && pin_is_on && self.message().is_none() && !self.msix_is_on()
    }

    /// The message that stands for the function's interrupt, when software has switched messages
    /// on. It is sent as a write by a bus master: see [`may_master`](Self::may_master).
    pub fn message(&self) -> Option<InterruptMessage> {
        let at = self.msi?;
        if self.byte(at + 2) & MSI_ENABLE == 0 {
            return None;
        }
        message(self.dword(at + 4), self.dword(at + 12))
    }

    /// Whether software has switched MSI-X on: the pin and the other kind of message are silent then.
    pub fn msix_is_on(&self) -> bool {
        let on = |msix: &Msix| self.byte(msix.at + 3) & msix::ENABLE != 0;
        self.msix.as_ref().is_some_and(on)
    }

    /// Notes that MSI-X vector `vector` has something to say; [`take_message`](Self::take_message) tells when it may.
    pub(super) fn pend(&mut self, vector: u16) {
        if let Some(msix) = &mut self.msix {
            msix.pend(vector);
        }
    }

    /// Takes a pending message of MSI-X, when nothing holds it back: neither a mask nor that the function may not
    /// master the bus.
    pub(super) fn take_message(&mut self) -> Option<InterruptMessage> {
        let masked = |msix: &Msix| self.byte(msix.at + 3) & msix::FUNCTION_MASK != 0;
        if !self.msix_is_on() || !self.may_master() || self.msix.as_ref().is_some_and(masked) {
            return None;
        }
        self.msix.as_mut()?.take()
    }

    /// The table or the pending bits of MSI-X, if they lie at `offset` of what register `bar` places.
    pub(super) fn msix_at(&mut self, bar: u8, offset: u64) -> Option<&mut Msix> {
        let here = |msix: &&mut Msix| msix.bar == bar && msix.has(offset);
        self.msix.as_mut().filter(here)
    }

    /// One register byte.
    pub fn byte(&self, offset: u8) -> u8 {
        self.bytes[usize::from(offset)]
    }

    fn dword(&self, offset: u8) -> u32 {
        let bytes = [0, 1, 2, 3].map(|n| self.byte(offset.wrapping_add(n)));
        u32::from_le_bytes(bytes)
    }

    /// `size` (1 to 4) register bytes.
    pub fn read(&self, offset: u8, size: u8) -> u64 {
        (0..size.min(4)).fold(0, |value, n| {
            value | u64::from(self.byte(offset.wrapping_add(n))) << (8 * n)
        })
    }

    /// Changes a register from the function's side, past the masks.
    pub fn set(&mut self, offset: u8, value: u8) {
        self.bytes[usize::from(offset)] = value;
    }

    /// A write by software to one register byte.
    pub fn write(&mut self, offset: u8, value: u8) {
        let at = usize::from(offset);
        if let Some((register, mask)) = self.lock
            && register == offset
            && self.bytes[at] & mask != 0
        {
            return;
        }
        let kept = self.bytes[at] & !self.writable[at] & !(value & self.clearable[at]);
        self.bytes[at] = kept | value & self.writable[at];
    }

    /// Returns to the power-on values.
    pub fn reset(&mut self) {
        self.bytes = self.power_on;
        if let Some(msix) = &mut self.msix {
            msix.reset();
        }
    }

    /// All registers.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All registers, and behind them what MSI-X has, for saving.
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        bytes.extend(self.msix.iter().flat_map(Msix::save));
        bytes
    }

    /// Takes saved registers over. Returns whether they can be those of this function: what
    /// software cannot change, and the function does not, is as it must be; nothing is changed if
    /// not.
    pub fn restore(&mut self, bytes: &[u8]) -> bool {
        let vectors = self.msix.as_ref().map_or(0, Msix::saved_len);
        let is_ours = bytes.len() == BYTES + vectors && bytes[..4] == self.power_on[..4];
        if is_ours {
            let (registers, vectors) = bytes.split_at(BYTES);
            self.bytes.copy_from_slice(registers);
            if let Some(msix) = &mut self.msix {
                msix.restore(vectors);
            }
        }
        is_ours
    }
}

/// The interrupt message that a write of `data` to `address` is (Intel SDM vol. 3A §11.11); `None` where no local APIC
/// listens.
pub fn message(address: u32, data: u32) -> Option<InterruptMessage> {
    if address >> 20 != 0xFEE {
        return None;
    }
    Some(InterruptMessage {
        destination: (address >> 12) as u8 as u32,
        logical: address & 4 != 0,
        mode: DeliveryMode::from_bits((data >> 8) as u8)?,
        vector: data as u8,
        level: data >> 15 & 1 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(space: &mut ConfigSpace, offset: u8, value: u32) {
        for (n, byte) in (0..).zip(value.to_le_bytes()) {
            space.write(offset + n, byte);
        }
    }

    #[test]
    fn software_changes_only_what_the_masks_allow() {
        let mut space = ConfigSpace::new(0x8086, 0x1237, 0x06_00_00, 2)
            .with(0x06, &[0x80, 0x22])
            .writable(0x04, &[0x40])
            .clearable(0x07, &[0x20]);
        for offset in 0..=255 {
            space.write(offset, 0xFF);
        }
        assert_eq!(space.bytes()[..4], [0x86, 0x80, 0x37, 0x12]);
        assert_eq!(space.bytes()[4..8], [0x40, 0x00, 0x80, 0x02]);
        assert_eq!(space.bytes()[8..12], [0x02, 0x00, 0x00, 0x06]);
        space.reset();
        assert_eq!(space.bytes()[4..8], [0x00, 0x00, 0x80, 0x22]);
    }

    #[test]
    fn base_address_registers_tell_their_size_and_decode_when_enabled() {
        let memory = |wide| Bar::Memory {
            len: 0x10_0000,
            wide,
            prefetchable: wide,
        };
        let mut space = ConfigSpace::new(0x1234, 0x11E8, 0x00_FF_00, 0)
            .bar(0, memory(false))
            .bar(1, Bar::Ports(32))
            .bar(2, memory(true))
            .rom(0x8000);
        for (register, size) in [
            (0x10, 0xFFF0_0000),
            (0x14, 0xFFFF_FFE1),
            (0x18, 0xFFF0_000C),
            (0x1C, 0xFFFF_FFFF),
            (0x20, 0),
            (0x30, 0xFFFF_8001),
        ] {
            write(&mut space, register, 0xFFFF_FFFF);
            assert_eq!(space.read(register, 4), size, "register {register:x}");
        }
        write(&mut space, 0x10, 0xFE00_0000);
        write(&mut space, 0x14, 0xC001);
        write(&mut space, 0x18, 0x0010_0000);
        write(&mut space, 0x1C, 0x8);
        write(&mut space, 0x30, 0xFD00_0001);
        assert_eq!([0, 1, 2, ROM].map(|n| space.base(n)), [None; 4]);
        write(&mut space, 0x04, 0x0003);
        assert_eq!(
            [0, 1, 2, ROM].map(|n| space.base(n)),
            [
                Some(0xFE00_0000),
                Some(0xC000),
                Some(0x8_0010_0000),
                Some(0xFD00_0000)
            ]
        );
    }

    #[test]
    fn capabilities_are_a_list_and_msi_takes_the_pins_place() {
        let (space, first) = ConfigSpace::new(0x1234, 0x11E8, 0x00_FF_00, 0)
            .interrupt_pin(1)
            .capability(0x09, &[8, 1, 2, 3, 4], &[]);
        let mut space = space.msi();
        assert_eq!(space.byte(0x34), first);
        let second = space.byte(first + 1);
        assert_eq!((space.byte(second), space.byte(second + 1)), (MSI, 0));
        assert!(space.byte(0x06) & STATUS_CAPABILITIES != 0);
        assert!(space.show_interrupt(true));
        write(&mut space, second + 4, 0xFEE0_1000);
        write(&mut space, second + 12, 0x0041);
        space.write(second + 2, MSI_ENABLE);
        let message = space.message().expect("messages are on");
        assert_eq!((message.destination, message.vector), (1, 0x41));
        assert!(!space.show_interrupt(true), "the pin is silent");
        assert_eq!(message_of(0xFEC0_0000, 0x41), None);
    }

    #[test]
    fn msix_sends_what_no_mask_holds_back() {
        let space = ConfigSpace::new(0x1234, 0x11E8, 0x00_FF_00, 0).bus_master();
        let mut space = space.interrupt_pin(1).msix(3, 1, 0, 0x800);
        let at = space.byte(0x34);
        assert_eq!(space.read(at, 4), 0x0002_0011);
        assert_eq!((space.read(at + 4, 4), space.read(at + 8, 4)), (1, 0x801));
        for vector in 0..3 {
            let table = space.msix_at(1, 0).expect("the table");
            for (n, byte) in (0..).zip([0, 0, 0xE0, 0xFE, 0, 0, 0, 0, 0x30 + vector, 0, 0, 0, 0]) {
                table.write(16 * u64::from(vector) + n, byte);
            }
        }
        assert!(space.msix_at(0, 0).is_none() && space.msix_at(1, 0x808).is_none());
        for vector in [2, 1, 3, 0xFFFF] {
            space.pend(vector);
        }
        assert_eq!(space.take_message(), None, "it is off");
        space.write(at + 3, msix::ENABLE);
        assert_eq!(space.take_message(), None, "no bus master");
        space.write(COMMAND, COMMAND_MASTER);
        space.write(at + 3, msix::ENABLE | msix::FUNCTION_MASK);
        assert_eq!(space.take_message(), None, "all are masked");
        assert!(!space.show_interrupt(true), "the pin is silent");
        space.write(at + 3, msix::ENABLE);
        let mut copy = space.clone();
        copy.reset();
        assert!(copy.restore(&space.save()));
        for mut space in [space, copy] {
            let vectors = [space.take_message(), space.take_message()];
            let vectors = vectors.map(|message| message.map(|message| message.vector));
            assert_eq!(vectors, [Some(0x31), Some(0x32)]);
            assert_eq!(space.take_message(), None);
        }
    }

    fn message_of(address: u32, data: u32) -> Option<InterruptMessage> {
        message(address, data)
    }
}
