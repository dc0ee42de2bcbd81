//! The bus-master registers of one channel, and their walk through guest memory.
//!
//! Sources: SFF-8038i, Programming Interface for Bus Master IDE Controller 1.0; Intel 82371SB PIIX3 (290550).
//!
//! | offset | what |
//! |---|---|
//! | 0 | command: bit 0 start, bit 3 direction (1 = from the drive to memory) |
//! | 2 | status: bit 0 active, bits 1 error and 2 interrupt (cleared by ones), bits 5 and 6 drive is DMA capable |
//! | 4-7 | physical address of the table of regions (PRD) |
//!
//! A table entry is the region's address, its length in bytes (16 bits, 0 = 64 KiB) and in bit 31 of the second
//! word the end of the table. The lengths are those of the table, however long: a move takes no more than the
//! drive has, and each entry moves two bytes or more, so that a table without an end cannot hold it up.
//!
//! Not modelled: bus errors. What is not RAM reads as ones and ignores writes, as the entries of a table do, so
//! that the error bit is never set. A region that crosses 64 KiB goes on after it.

use platform::{DeviceCtx, DmaDirection, PhysAddr};
use serde::{Deserialize, Serialize};

const COMMAND: u64 = 0;
const STATUS: u64 = 2;
const TABLE: u64 = 4;

const COMMAND_START: u8 = 0x01;
const COMMAND_TO_MEMORY: u8 = 0x08;
pub(super) const STATUS_ACTIVE: u8 = 0x01;
const STATUS_ERROR: u8 = 0x02;
pub(super) const STATUS_INTERRUPT: u8 = 0x04;
const STATUS_CAPABLE: u8 = 0x60;

const END_OF_TABLE: u32 = 1 << 31;

/// The registers, and how far the table is worked off. All of it is saved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct BusMaster {
    command: u8,
    status: u8,
    table: u32,
    next_entry: u32,
    address: u32,
    /// What is left of the current region, at most 64 KiB.
    remaining: u32,
    last_region: bool,
    /// The level of INTRQ, whose rise sets the interrupt bit.
    intrq: bool,
}

impl BusMaster {
    /// Whether a decoded state is one that the registers can have.
    pub(super) fn is_sound(&self) -> bool {
        self.remaining <= 0x1_0000
    }

    pub(super) fn read(&self, offset: u64) -> u8 {
        match offset {
            COMMAND => self.command,
            STATUS => self.status,
            TABLE..8 => self.table.to_le_bytes()[(offset - TABLE) as usize],
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, offset: u64, value: u8) {
        match offset {
            COMMAND => self.write_command(value),
            STATUS => {
                let kept = self.status & !value & (STATUS_ERROR | STATUS_INTERRUPT);
                self.status = self.status & STATUS_ACTIVE | kept | value & STATUS_CAPABLE;
            }
            TABLE..8 => {
                let mut bytes = self.table.to_le_bytes();
                bytes[(offset - TABLE) as usize] = value;
                self.table = u32::from_le_bytes(bytes) & !3;
            }
            _ => {}
        }
    }

    fn write_command(&mut self, value: u8) {
        let rising = value & !self.command & COMMAND_START != 0;
        self.command = value & (COMMAND_START | COMMAND_TO_MEMORY);
        if rising {
            log::debug!(target: "ide", "bus master {value:02x} table {:08x}", self.table);
            self.status |= STATUS_ACTIVE;
            self.next_entry = self.table;
            self.remaining = 0;
            self.last_region = false;
        } else if value & COMMAND_START == 0 {
            // A stopped transfer is given up: a start begins with the table again.
            self.status &= !STATUS_ACTIVE;
        }
    }

    /// Tells of INTRQ; its rise sets the interrupt bit.
    pub(super) fn set_intrq(&mut self, level: bool) {
        if level && !self.intrq {
            self.status |= STATUS_INTERRUPT;
        }
        self.intrq = level;
    }

    /// Whether it would move data in this direction.
    pub(super) fn is_ready(&self, direction: DmaDirection) -> bool {
        let to_memory = self.command & COMMAND_TO_MEMORY != 0;
        self.status & STATUS_ACTIVE != 0 && to_memory == (direction == DmaDirection::ToMemory)
    }

    /// Moves `data` to memory, or fills it from there. Returns how many bytes were moved: fewer than
    /// there are when the table has ended.
    pub(super) fn transfer(
        &mut self,
        ctx: &mut DeviceCtx<'_>,
        direction: DmaDirection,
        data: &mut [u8],
    ) -> usize {
        let mut moved = 0;
        while moved < data.len() && self.status & STATUS_ACTIVE != 0 {
            if self.remaining == 0 {
                self.fetch_entry(ctx);
            }
            let taken = (data.len() - moved).min(self.remaining as usize);
            let part = &mut data[moved..moved + taken];
            let address = PhysAddr(self.address.into());
            match direction {
                DmaDirection::ToMemory => ctx.dma_write(address, part),
                DmaDirection::FromMemory => ctx.dma_read(address, part),
            }
            moved += taken;
            self.address = self.address.wrapping_add(taken as u32);
            self.remaining -= taken as u32;
            if self.remaining == 0 && self.last_region {
                self.status &= !STATUS_ACTIVE;
            }
        }
        moved
    }

    fn fetch_entry(&mut self, ctx: &DeviceCtx<'_>) {
        let mut entry = [0; 8];
        ctx.dma_read(PhysAddr(self.next_entry.into()), &mut entry);
        let [a, b, c, d, e, f, g, h] = entry;
        let control = u32::from_le_bytes([e, f, g, h]);
        self.next_entry = self.next_entry.wrapping_add(8);
        self.address = u32::from_le_bytes([a, b, c, d]) & !1;
        self.remaining = match control & 0xFFFE {
            0 => 0x1_0000,
            bytes => bytes,
        };
        self.last_region = control & END_OF_TABLE != 0;
    }
}
