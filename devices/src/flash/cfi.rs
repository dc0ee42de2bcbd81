//! Flash memory with Intel's command set, where UEFI firmware keeps its variables.
//!
//! Sources: JEDEC JESD68 (Common Flash Interface) and JEP137 (command set 0001h); Intel 28F320J3 datasheet (290667) for
//! commands and status bits.
//!
//! | region | addresses | what |
//! |---|---|---|
//! | [`CfiFlash::ARRAY`] | as long as the flash | content, or status, or what it says of itself; a write is a command |
//!
//! The bus is 8 bits wide; a wider access is one for each byte. Programming and erasing take no time.
//! Programming clears bits, and only erasing a block of 4 KiB sets them. Changes reach the backend,
//! where there is one, as soon as software reads the array again, or at the latest with the next
//! command.
//!
//! As QEMU's flash, and by that OVMF knows it: clearing the status clears the ready bit too, until the
//! next operation is done.
//!
//! Not modelled: locks of blocks (all are unlocked), suspending, the protection register.

use log::{debug, warn};
use platform::block::SECTOR_BYTES;
use platform::{BlockBackend, Device, DeviceCtx, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "flash";

/// Status bits.
mod status {
    pub const READY: u8 = 0x80;
    /// Both together: a wrong sequence of commands.
    pub const ERASE_ERROR: u8 = 0x20;
    pub const PROGRAM_ERROR: u8 = 0x10;
}

/// Intel, 28F640J3.
const MANUFACTURER: u8 = 0x89;
const DEVICE: u8 = 0x17;

/// How many bytes the write buffer holds.
const BUFFER_BYTES: usize = 32;

/// What a read shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Shows {
    #[default]
    Array,
    Status,
    Identifier,
    Query,
}

/// What the next write is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Expects {
    #[default]
    Command,
    /// The byte to program.
    Byte,
    /// The confirmation of an erasure.
    EraseConfirm,
    /// What to do with a block's lock.
    Lock,
    /// How many bytes come for the buffer, less one.
    Count,
    /// So many bytes more, after those that came, with their addresses.
    Buffer(usize, Vec<(u32, u8)>),
    /// The confirmation of what is in the buffer.
    BufferConfirm(Vec<(u32, u8)>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Registers {
    shows: Shows,
    expects: Expects,
    status: u8,
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            shows: Shows::Array,
            expects: Expects::Command,
            status: status::READY,
        }
    }
}

/// What a flash memory holds, and what keeps it.
pub struct FlashImage {
    /// Whole blocks.
    pub content: Vec<u8>,
    /// Has the same content, and gets what is changed.
    pub backend: Option<Box<dyn BlockBackend>>,
}

/// The chip.
pub struct CfiFlash {
    registers: Registers,
    content: Vec<u8>,
    backend: Option<Box<dyn BlockBackend>>,
    /// The sectors that the backend does not have yet.
    changed: std::collections::BTreeSet<usize>,
}

impl CfiFlash {
    /// Region: the whole of it.
    pub const ARRAY: u8 = 0;
    /// What is erased together.
    pub const BLOCK_BYTES: usize = 4096;

    const VERSION: u32 = 1;

    /// The flash after power-on.
    pub fn new(image: FlashImage) -> Self {
        let FlashImage { content, backend } = image;
        assert!(
            content.len().is_multiple_of(Self::BLOCK_BYTES),
            "whole blocks"
        );
        Self {
            registers: Registers::default(),
            content,
            backend,
            changed: Default::default(),
        }
    }

    fn set(&mut self, at: usize, value: u8) {
        if self.content[at] != value {
            self.content[at] = value;
            self.changed.insert(at / SECTOR_BYTES);
        }
    }

    /// Programs a byte: bits can only be cleared.
    fn program(&mut self, at: usize, value: u8) {
        if at < self.content.len() {
            self.set(at, self.content[at] & value);
        }
    }

    fn erase(&mut self, at: usize) {
        debug!(target: TARGET, "erases the block of {at:#x}");
        let start = at / Self::BLOCK_BYTES * Self::BLOCK_BYTES;
        for byte in start..start + Self::BLOCK_BYTES {
            self.set(byte, 0xFF);
        }
    }

    /// Hands what was changed to the backend.
    fn settle(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        let Some(backend) = &mut self.backend else {
            return;
        };
        for &sector in &changed {
            let start = sector * SECTOR_BYTES;
            let bytes = &self.content[start..start + SECTOR_BYTES];
            if let Err(error) = backend.write(sector as u64, bytes) {
                warn!(target: TARGET, "sector {sector} cannot be kept: {error}");
                self.registers.status |= status::PROGRAM_ERROR;
            }
        }
        if !changed.is_empty()
            && let Err(error) = backend.flush()
        {
            warn!(target: TARGET, "{error}");
        }
    }

    fn wrong_sequence(&mut self) {
        self.registers.status |= status::ERASE_ERROR | status::PROGRAM_ERROR;
    }

    fn command(&mut self, command: u8) {
        self.settle();
        let (shows, expects) = match command {
            0x10 | 0x40 => (Shows::Status, Expects::Byte),
            0x20 => (Shows::Status, Expects::EraseConfirm),
            0x50 => {
                self.registers.status = 0;
                (self.registers.shows, Expects::Command)
            }
            0x60 => (Shows::Status, Expects::Lock),
            0x70 => (Shows::Status, Expects::Command),
            0x90 => (Shows::Identifier, Expects::Command),
            0x98 => (Shows::Query, Expects::Command),
            0xE8 => (Shows::Status, Expects::Count),
            0xFF | 0xF0 => (Shows::Array, Expects::Command),
            _ => {
                debug!(target: TARGET, "no command {command:02x}");
                (Shows::Array, Expects::Command)
            }
        };
        self.registers.shows = shows;
        self.registers.expects = expects;
    }

    fn write_byte(&mut self, at: usize, value: u8) {
        let expected = std::mem::take(&mut self.registers.expects);
        if expected != Expects::Command {
            self.registers.status |= status::READY;
        }
        match expected {
            Expects::Command => self.command(value),
            Expects::Byte => self.program(at, value),
            Expects::EraseConfirm if value == 0xD0 => self.erase(at),
            Expects::EraseConfirm => self.wrong_sequence(),
            Expects::Lock if matches!(value, 0x01 | 0x2F | 0xD0) => {}
            Expects::Lock => self.wrong_sequence(),
            Expects::Count if usize::from(value) < BUFFER_BYTES => {
                self.registers.expects = Expects::Buffer(usize::from(value) + 1, Vec::new());
            }
            Expects::Count => self.wrong_sequence(),
            Expects::Buffer(left, mut bytes) => {
                bytes.push((at as u32, value));
                self.registers.expects = match left {
                    0 | 1 => Expects::BufferConfirm(bytes),
                    _ => Expects::Buffer(left - 1, bytes),
                };
            }
            Expects::BufferConfirm(bytes) if value == 0xD0 => {
                for (at, value) in bytes {
                    self.program(at as usize, value);
                }
            }
            Expects::BufferConfirm(_) => self.wrong_sequence(),
        }
    }

    fn read_byte(&self, at: usize) -> u8 {
        match self.registers.shows {
            Shows::Array => self.content.get(at).copied().unwrap_or(0xFF),
            Shows::Status => self.registers.status,
            Shows::Identifier => match at % Self::BLOCK_BYTES {
                0 => MANUFACTURER,
                1 => DEVICE,
                _ => 0,
            },
            Shows::Query => self.query(at % Self::BLOCK_BYTES),
        }
    }

    /// The CFI query structure (JESD68 §2.2): "QRY", the command set, voltages and times, geometry.
    fn query(&self, at: usize) -> u8 {
        let blocks = (self.content.len() / Self::BLOCK_BYTES).max(1) as u16 - 1;
        let block_units = (Self::BLOCK_BYTES / 256) as u16;
        let size = self.content.len().max(1).next_power_of_two();
        let head = *b"QRY\x01\x00\x31\x00\x00\x00\x00\x00";
        let times = [0x45, 0x55, 0x00, 0x00, 7, 7, 10, 0, 4, 4, 4, 0];
        let geometry = [
            size.ilog2() as u8,
            0,
            0,
            BUFFER_BYTES.ilog2() as u8,
            0,
            1,
            blocks as u8,
            (blocks >> 8) as u8,
            block_units as u8,
            (block_units >> 8) as u8,
        ];
        let extended = *b"PRI10\x00\x00\x00\x00\x00";
        let parts: [(usize, &[u8]); 4] = [
            (0x10, &head),
            (0x1B, &times),
            (0x27, &geometry),
            (0x31, &extended),
        ];
        let byte_of = |(start, bytes): &(usize, &[u8])| {
            let offset = at.checked_sub(*start)?;
            bytes.get(offset).copied()
        };
        match at {
            0 => MANUFACTURER,
            1 => DEVICE,
            _ => parts.iter().find_map(byte_of).unwrap_or(0),
        }
    }
}

impl Device for CfiFlash {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8) -> u64 {
        let bytes = 0..usize::from(size.min(8));
        bytes.fold(0, |value, n| {
            let byte = self.read_byte((offset as usize).wrapping_add(n));
            value | u64::from(byte) << (8 * n)
        })
    }

    fn write(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8, value: u64) {
        for n in 0..usize::from(size.min(8)) {
            let at = (offset as usize).wrapping_add(n);
            if at < self.content.len() {
                self.write_byte(at, (value >> (8 * n)) as u8);
            }
        }
        if self.registers.expects == Expects::Command && self.registers.shows == Shows::Array {
            self.settle();
        }
    }

    fn reset(&mut self, _: &mut DeviceCtx<'_>) {
        self.settle();
        self.registers = Registers::default();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, (&self.registers, &self.content))
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let (registers, content) = state.decode::<(Registers, Vec<u8>)>(Self::VERSION)?;
        if content.len() != self.content.len() {
            return Err(StateError::Unsound("a flash memory of another size"));
        }
        for (at, value) in content.into_iter().enumerate() {
            self.set(at, value);
        }
        self.registers = registers;
        self.settle();
        Ok(())
    }
}

impl Drop for CfiFlash {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::bus_with_regions;
    use platform::{Bus, DeviceId, MemoryDisk, PhysAddr};

    const BASE: u64 = 0xFFC0_0000;
    const LEN: usize = 2 * CfiFlash::BLOCK_BYTES;

    platform::device_contract!(
        contract,
        chip(None),
        [(CfiFlash::ARRAY, LEN as u64, 8)],
        survives_reset
    );

    fn chip(backend: Option<Box<dyn BlockBackend>>) -> CfiFlash {
        let content = vec![0xFF; LEN];
        CfiFlash::new(FlashImage { content, backend })
    }

    fn flash(backend: Option<Box<dyn BlockBackend>>) -> Bus {
        let mut bus = bus_with_regions(Box::new(chip(backend)), &[]);
        bus.map_mmio(DeviceId(0), CfiFlash::ARRAY, PhysAddr(BASE), LEN as u64);
        bus
    }

    fn write(bus: &mut Bus, at: u64, bytes: &[u8]) {
        for &byte in bytes {
            bus.mmio_write(PhysAddr(BASE + at), 1, byte.into());
        }
    }

    fn read(bus: &mut Bus, at: u64) -> u8 {
        bus.mmio_read(PhysAddr(BASE + at), 1) as u8
    }

    #[test]
    fn programming_clears_bits_and_erasing_sets_a_block() {
        let mut bus = flash(None);
        write(&mut bus, 0x10, &[0x40, 0x5A]);
        assert_eq!(read(&mut bus, 0x10), 0x80, "the status");
        write(&mut bus, 0x10, &[0x10, 0xF0, 0xFF]);
        assert_eq!(read(&mut bus, 0x10), 0x50);
        write(&mut bus, 0x1010, &[0x40, 0x00, 0xFF]);
        write(&mut bus, 0x20, &[0x20, 0xD0, 0xFF]);
        assert_eq!((read(&mut bus, 0x10), read(&mut bus, 0x1010)), (0xFF, 0));
        assert_eq!(bus.mmio_read(PhysAddr(BASE + 0x100F), 4), 0xFFFF_00FF);
    }

    #[test]
    fn a_wrong_sequence_shows_in_the_status_until_it_is_cleared() {
        let mut bus = flash(None);
        write(&mut bus, 0, &[0x20, 0x00]);
        assert_eq!(read(&mut bus, 0), 0xB0);
        write(&mut bus, 0, &[0x50, 0x70]);
        assert_eq!(read(&mut bus, 0), 0);
        write(&mut bus, 0, &[0x20, 0xD0]);
        assert_eq!(read(&mut bus, 0), 0x80);
    }

    #[test]
    fn the_buffer_is_programmed_when_it_is_confirmed() {
        let mut bus = flash(None);
        write(&mut bus, 0, &[0xE8, 1]);
        write(&mut bus, 4, &[0x11]);
        write(&mut bus, 5, &[0x22]);
        write(&mut bus, 0, &[0xD0, 0xFF]);
        assert_eq!(bus.mmio_read(PhysAddr(BASE + 4), 2), 0x2211);
        write(&mut bus, 0, &[0xE8, 200]);
        assert_eq!(read(&mut bus, 0) & 0x30, 0x30, "more than it holds");
    }

    #[test]
    fn it_says_what_it_is() {
        let mut bus = flash(None);
        write(&mut bus, 0, &[0x90]);
        assert_eq!((read(&mut bus, 0), read(&mut bus, 1)), (0x89, 0x17));
        write(&mut bus, 0, &[0x98]);
        let query: Vec<u8> = (0x10..0x15).map(|at| read(&mut bus, at)).collect();
        assert_eq!(query, *b"QRY\x01\x00");
        assert_eq!((read(&mut bus, 0x2D), read(&mut bus, 0x2F)), (1, 16));
    }

    #[test]
    fn changes_reach_the_backend() {
        let disk = MemoryDisk::new(vec![0xFF; LEN]);
        let mut chip = chip(Some(Box::new(disk)));
        for byte in [0x40, 0x12, 0xFF] {
            chip.write_byte(0x207, byte);
        }
        chip.settle();
        let backend = chip.backend.as_mut().expect("it was given one");
        let mut sector = [0; SECTOR_BYTES];
        backend.read(1, &mut sector).expect("the sector is there");
        assert_eq!(sector[7], 0x12);
    }
}
