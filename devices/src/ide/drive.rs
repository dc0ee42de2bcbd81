//! One hard disk: its task file, its commands and its data transfers.

mod dma;

use std::io;

use platform::block::SECTOR_BYTES;
use platform::{BlockBackend, DmaDirection};
use serde::{Deserialize, Serialize};

use super::identify::{self, Geometry};
use super::{Unit, UnitState};

pub(super) const STATUS_BSY: u8 = 0x80;
pub(super) const STATUS_DRDY: u8 = 0x40;
pub(super) const STATUS_DF: u8 = 0x20;
pub(super) const STATUS_DSC: u8 = 0x10;
pub(super) const STATUS_DRQ: u8 = 0x08;
pub(super) const STATUS_ERR: u8 = 0x01;

/// Uncorrectable data.
pub(super) const ERROR_UNC: u8 = 0x40;
/// No such sector.
pub(super) const ERROR_IDNF: u8 = 0x10;
/// The command cannot be done.
pub(super) const ERROR_ABRT: u8 = 0x04;

const DEVICE_LBA: u8 = 0x40;

/// Most sectors that SET MULTIPLE MODE accepts for a block.
pub(super) const MAX_MULTIPLE: u8 = 16;

/// The fastest multiword DMA mode.
pub(super) const MAX_DMA_MODE: u8 = 2;

/// Takes a list of ranges that are not needed any more: TRIM.
const DATA_SET_MANAGEMENT: u8 = 0x06;
/// The most sectors of such a list.
pub(super) const MOST_TRIM_SECTORS: u16 = 8;

/// A register with its previous content, the high order byte of 48-bit commands.
type Register = [u8; 2];

/// What the drive waits for, or is about to do when its timer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Idle,
    /// In software reset.
    Reset,
    /// Busy: then runs the last command.
    Command,
    /// Busy: then fetches the next block for the host.
    ReadBlock,
    /// Busy: then stores the block that the host has filled.
    WriteBlock,
    /// The host empties the buffer.
    DataIn,
    /// The host fills the buffer.
    DataOut,
    /// The bus master empties the buffer.
    DmaIn,
    /// The bus master fills the buffer.
    DmaOut,
    /// Busy: then ends the command with what the error register says.
    Refusal,
}

/// The sectors that a command still has to move.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Transfer {
    lba: u64,
    remaining: u32,
    /// Sectors in a block of data, between two interrupts.
    block: u32,
    extended: bool,
}

/// All of a drive that is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DriveState {
    status: u8,
    error: u8,
    features: Register,
    count: Register,
    lba: [Register; 3],
    device: u8,
    irq: bool,
    phase: Phase,
    command: u8,
    transfer: Transfer,
    buffer: Vec<u8>,
    position: u32,
    multiple: u8,
    /// The multiword DMA mode that SET FEATURES has selected.
    dma_mode: u8,
    geometry: Geometry,
    write_cache: bool,
    look_ahead: bool,
    /// What CHECK POWER MODE reports.
    power: u8,
}

impl DriveState {
    fn new(native: Geometry) -> Self {
        let mut state = Self {
            status: 0,
            error: 0,
            features: [0; 2],
            count: [0; 2],
            lba: [[0; 2]; 3],
            device: 0,
            irq: false,
            phase: Phase::Idle,
            command: 0,
            transfer: Transfer::default(),
            buffer: Vec::new(),
            position: 0,
            multiple: 0,
            dma_mode: MAX_DMA_MODE,
            geometry: native,
            write_cache: true,
            look_ahead: true,
            power: 0xFF,
        };
        state.sign();
        state
    }

    /// Whether a decoded state is one that a drive can have.
    pub(super) fn is_sound(&self) -> bool {
        self.position as usize <= self.buffer.len()
            && self.buffer.len() <= usize::from(MAX_MULTIPLE) * SECTOR_BYTES
            && self.buffer.len().is_multiple_of(SECTOR_BYTES)
            && self.dma_mode <= MAX_DMA_MODE
            && self.geometry.is_sound()
            && self.transfer.lba < 1 << 48
            && self.transfer.remaining <= 0x1_0000
            && self.transfer.block <= MAX_MULTIPLE.into()
            && !(self.phase == Phase::WriteBlock && self.transfer.remaining == 0)
            && !(matches!(self.phase, Phase::DmaIn | Phase::DmaOut)
                && (self.buffer.is_empty() || self.transfer.remaining == 0))
    }

    /// The registers after a reset or a diagnostic: the signature of a disk that passed.
    fn sign(&mut self) {
        self.error = 0x01;
        self.count = [1, 0];
        self.lba = [[1, 0], [0; 2], [0; 2]];
        self.device = 0;
        self.phase = Phase::Idle;
        self.status = STATUS_DRDY | STATUS_DSC;
    }
}

/// WRITE SECTORS and WRITE MULTIPLE, with 28 and 48 bits.
fn is_pio_write(command: u8) -> bool {
    matches!(command, 0x30 | 0x31 | 0x34 | 0x39 | 0xC5)
}

/// Why a command ended without success: the error register.
struct Failure(u8);

/// A hard disk.
pub(super) struct Drive {
    disk: Box<dyn BlockBackend>,
    serial: String,
    state: DriveState,
    /// Host trouble is logged once.
    complained: bool,
}

impl Drive {
    pub(super) fn new(disk: Box<dyn BlockBackend>, serial: String) -> Self {
        let state = DriveState::new(Geometry::native(&*disk));
        Self {
            disk,
            serial,
            state,
            complained: false,
        }
    }
}

impl Unit for Drive {
    fn state(&self) -> UnitState {
        UnitState::Disk(self.state.clone())
    }

    fn accepts(&self, state: &UnitState) -> bool {
        matches!(state, UnitState::Disk(state) if state.is_sound())
    }

    fn set_state(&mut self, state: UnitState) {
        if let UnitState::Disk(state) = state {
            self.state = state;
        }
    }

    fn power_on(&mut self) {
        self.state = DriveState::new(Geometry::native(&*self.disk));
    }

    fn enter_reset(&mut self) {
        self.state.phase = Phase::Reset;
        self.state.status = STATUS_BSY;
        self.state.irq = false;
        self.state.device = 0;
    }

    fn leave_reset(&mut self) {
        self.state.sign();
    }

    fn status(&self) -> u8 {
        self.state.status
    }

    fn interrupting(&self) -> bool {
        self.state.irq
    }

    fn acknowledge(&mut self) {
        self.state.irq = false;
    }

    fn last_command(&self) -> u8 {
        self.state.command
    }

    fn read_register(&self, register: u8, previous: bool) -> u8 {
        let state = &self.state;
        let side = usize::from(previous);
        match register {
            1 => state.error,
            2 => state.count[side],
            3..=5 => state.lba[usize::from(register) - 3][side],
            6 => state.device | 0xA0,
            _ => 0xFF,
        }
    }

    /// Writes register 1 to 6. Each remembers what it held before, for the 48-bit commands.
    fn write_register(&mut self, register: u8, value: u8) {
        let state = &mut self.state;
        if state.status & STATUS_BSY != 0 {
            return;
        }
        let push = |register: &mut Register| *register = [value, register[0]];
        match register {
            1 => push(&mut state.features),
            2 => push(&mut state.count),
            3..=5 => push(&mut state.lba[usize::from(register) - 3]),
            6 => state.device = value,
            _ => {}
        }
    }

    fn start(&mut self, command: u8) -> bool {
        let state = &mut self.state;
        if state.status & STATUS_BSY != 0 {
            return false;
        }
        log::debug!(
            target: "ide",
            "command {command:02x} count {:02x?} lba {:02x?} device {:02x}",
            state.count, state.lba, state.device
        );
        state.command = command;
        state.phase = Phase::Command;
        state.status = STATUS_BSY;
        state.irq = false;
        if !is_pio_write(command) {
            return true;
        }
        // A drive has room for the first block of a write, so it need not keep the host waiting (ATA/ATAPI-6
        // §9.6), and there are drivers that write the data right behind the command.
        state.error = 0;
        if let Err(Failure(error)) = self.execute(command) {
            self.state.error = error;
            self.state.phase = Phase::Refusal;
            return true;
        }
        false
    }

    fn proceed(&mut self) {
        let result = match self.state.phase {
            Phase::Command => {
                self.state.error = 0;
                self.execute(self.state.command)
            }
            Phase::ReadBlock => self.load_block(),
            Phase::WriteBlock => self.store_block(),
            Phase::Refusal => Err(Failure(self.state.error)),
            // Of these the host, or the bus master, decides when they go on.
            Phase::Idle | Phase::Reset => return,
            Phase::DataIn | Phase::DataOut | Phase::DmaIn | Phase::DmaOut => return,
        };
        self.conclude(result);
    }

    fn read_data(&mut self, size: u8) -> (u64, bool) {
        let state = &mut self.state;
        if state.phase != Phase::DataIn {
            return (!0, false);
        }
        let rest = &state.buffer[state.position as usize..];
        let taken = rest.len().min(usize::from(size).min(8));
        let mut bytes = [0; 8];
        bytes[..taken].copy_from_slice(&rest[..taken]);
        state.position += taken as u32;
        let block_ended = state.position as usize == state.buffer.len() && self.block_read();
        (u64::from_le_bytes(bytes), block_ended)
    }

    fn write_data(&mut self, size: u8, value: u64) -> bool {
        let state = &mut self.state;
        if state.phase != Phase::DataOut {
            return false;
        }
        let rest = &mut state.buffer[state.position as usize..];
        let taken = rest.len().min(usize::from(size).min(8));
        rest[..taken].copy_from_slice(&value.to_le_bytes()[..taken]);
        state.position += taken as u32;
        let filled = state.position as usize == state.buffer.len();
        if filled {
            state.phase = Phase::WriteBlock;
            state.status = STATUS_BSY;
        }
        filled
    }

    fn dma_request(&self) -> Option<DmaDirection> {
        match self.state.phase {
            Phase::DmaIn => Some(DmaDirection::ToMemory),
            Phase::DmaOut => Some(DmaDirection::FromMemory),
            _ => None,
        }
    }

    fn dma_buffer(&mut self) -> &mut [u8] {
        let from = self.state.position as usize;
        &mut self.state.buffer[from..]
    }

    fn dma_moved(&mut self, bytes: usize) {
        self.state.position += bytes as u32;
        if self.state.position as usize == self.state.buffer.len() {
            let result = match self.state.phase {
                Phase::DmaIn => self.dma_block_read(),
                _ => self.dma_block_written(),
            };
            self.conclude(result);
        }
    }
}

impl Drive {
    /// Ends the command if it has failed.
    fn conclude(&mut self, result: Result<(), Failure>) {
        if let Err(Failure(error)) = result {
            let storing = matches!(self.state.phase, Phase::WriteBlock | Phase::DmaOut);
            let fault = storing && error & ERROR_ABRT != 0;
            self.state.error = error;
            self.finish(STATUS_ERR | if fault { STATUS_DF } else { 0 });
        }
    }

    fn execute(&mut self, command: u8) -> Result<(), Failure> {
        match command {
            DATA_SET_MANAGEMENT => return self.start_trim(),
            0x10..=0x1F => self.finish(0), // RECALIBRATE
            0x20 | 0x21 => return self.start_read(false, 1),
            0x24 => return self.start_read(true, 1),
            0x25 => return self.start_dma_read(true),
            0x27 => return self.read_native_max(true),
            0x29 => return self.start_read(true, self.state.multiple),
            0x30 | 0x31 => return self.start_write(false, 1),
            0x34 => return self.start_write(true, 1),
            0x35 => return self.start_dma_write(true),
            0x39 => return self.start_write(true, self.state.multiple),
            0x40 | 0x41 => return self.verify(false),
            0x42 => return self.verify(true),
            0x70..=0x7F => return self.seek(),
            0x90 => {
                self.state.sign();
                self.state.irq = true;
            }
            0x91 => return self.initialize_device_parameters(),
            0x94 | 0xE0 | 0x96 | 0xE2 | 0x99 | 0xE6 => self.set_power(0x00), // STANDBY, SLEEP
            0x95 | 0xE1 | 0x97 | 0xE3 => self.set_power(0x80),               // IDLE
            0x98 | 0xE5 => {
                self.state.count[0] = self.state.power;
                self.finish(0);
            }
            0xC4 => return self.start_read(false, self.state.multiple),
            0xC5 => return self.start_write(false, self.state.multiple),
            0xC6 => return self.set_multiple_mode(),
            0xC8 | 0xC9 => return self.start_dma_read(false),
            0xCA | 0xCB => return self.start_dma_write(false),
            0xE7 | 0xEA => return self.flush(),
            0xEC => self.identify(),
            0xEF => return self.set_features(),
            0xF8 => return self.read_native_max(false),
            // NOP is defined to abort; DEVICE RESET, PACKET and IDENTIFY PACKET DEVICE tell the host
            // that this is no packet device; queued DMA, SMART and the rest are not offered.
            _ => return Err(Failure(ERROR_ABRT)),
        }
        Ok(())
    }

    /// Ends a command, with `also` in the status.
    fn finish(&mut self, also: u8) {
        self.state.phase = Phase::Idle;
        self.state.status = STATUS_DRDY | STATUS_DSC | also;
        self.state.irq = true;
    }

    /// Asks the host for data, or offers it.
    fn request_data(&mut self, phase: Phase, irq: bool) {
        self.state.phase = phase;
        self.state.position = 0;
        self.state.status = STATUS_DRDY | STATUS_DSC | STATUS_DRQ;
        self.state.irq = irq;
    }

    fn identify(&mut self) {
        let state = &mut self.state;
        state.buffer = identify::block(&identify::Facts {
            sectors: self.disk.sectors(),
            native: Geometry::native(&*self.disk),
            serial: &self.serial,
            current: state.geometry,
            multiple: state.multiple,
            dma_mode: state.dma_mode,
            write_cache: state.write_cache,
            look_ahead: state.look_ahead,
        });
        state.transfer = Transfer::default();
        self.request_data(Phase::DataIn, true);
    }

    /// The sector that the task file addresses.
    fn address(&self, extended: bool) -> Result<u64, Failure> {
        let state = &self.state;
        let [low, mid, high] = state.lba.map(|register| u64::from(register[0]));
        let lba = high << 16 | mid << 8 | low;
        if extended {
            let [low, mid, high] = state.lba.map(|register| u64::from(register[1]));
            Ok(high << 40 | mid << 32 | low << 24 | lba)
        } else if state.device & DEVICE_LBA != 0 {
            Ok(u64::from(state.device & 0x0F) << 24 | lba)
        } else {
            state
                .geometry
                .lba(high << 8 | mid, u64::from(state.device & 0x0F), low)
                .ok_or(Failure(ERROR_IDNF))
        }
    }

    /// Puts a sector's address into the task file, as a command leaves it.
    fn set_address(&mut self, extended: bool, lba: u64) {
        let state = &mut self.state;
        let low = lba.to_le_bytes();
        if extended {
            state.lba = [[low[0], low[3]], [low[1], low[4]], [low[2], low[5]]];
        } else if state.device & DEVICE_LBA != 0 {
            for (register, byte) in state.lba.iter_mut().zip(low) {
                register[0] = byte;
            }
            state.device = state.device & 0xF0 | low[3] & 0x0F;
        } else {
            let (cylinder, head, sector) = state.geometry.chs(lba);
            let [low, high, ..] = cylinder.to_le_bytes();
            state.lba[0][0] = sector as u8;
            state.lba[1][0] = low;
            state.lba[2][0] = high;
            state.device = state.device & 0xF0 | head as u8 & 0x0F;
        }
    }

    /// Reads address and count of a transfer from the task file.
    fn start_transfer(&mut self, extended: bool, block: u8) -> Result<(), Failure> {
        if block == 0 {
            // READ and WRITE MULTIPLE before SET MULTIPLE MODE.
            return Err(Failure(ERROR_ABRT));
        }
        let count = self.state.count;
        let remaining = match (extended, u16::from_le_bytes(count)) {
            (true, 0) => 0x1_0000,
            (true, count) => count.into(),
            (false, _) if count[0] == 0 => 0x100,
            (false, _) => count[0].into(),
        };
        self.state.power = 0xFF;
        self.state.transfer = Transfer {
            lba: self.address(extended)?,
            remaining,
            block: block.into(),
            extended,
        };
        Ok(())
    }

    /// Makes the buffer as long as the next block, whose sectors must all exist.
    fn size_block(&mut self) -> Result<u64, Failure> {
        let Transfer {
            lba,
            remaining,
            block,
            extended,
        } = self.state.transfer;
        let sectors = block.min(remaining);
        if lba + u64::from(sectors) > self.disk.sectors() {
            self.set_address(extended, lba.max(self.disk.sectors()));
            return Err(Failure(ERROR_IDNF));
        }
        self.state.position = 0;
        self.state.buffer.clear();
        self.state.buffer.resize(sectors as usize * SECTOR_BYTES, 0);
        Ok(lba)
    }

    /// Counts the block in the buffer as done; whether more are to follow.
    fn advance(&mut self) -> bool {
        let sectors = (self.state.buffer.len() / SECTOR_BYTES) as u32;
        let transfer = &mut self.state.transfer;
        transfer.lba += u64::from(sectors);
        transfer.remaining = transfer.remaining.saturating_sub(sectors);
        let Transfer {
            lba,
            remaining,
            extended,
            ..
        } = *transfer;
        self.set_address(extended, lba.saturating_sub(1));
        let [low, high, ..] = remaining.to_le_bytes();
        self.state.count[0] = low;
        if extended {
            self.state.count[1] = high;
        }
        remaining > 0
    }

    fn start_read(&mut self, extended: bool, block: u8) -> Result<(), Failure> {
        self.start_transfer(extended, block)?;
        self.load_block()
    }

    fn load_block(&mut self) -> Result<(), Failure> {
        let lba = self.size_block()?;
        if let Err(error) = self.disk.read(lba, &mut self.state.buffer) {
            return Err(self.host_failure("read", lba, &error, ERROR_UNC));
        }
        self.request_data(Phase::DataIn, true);
        Ok(())
    }

    /// The host has emptied the buffer; whether the drive is now busy with the next block.
    fn block_read(&mut self) -> bool {
        let more = self.state.transfer.remaining > 0 && self.advance();
        self.state.phase = if more { Phase::ReadBlock } else { Phase::Idle };
        self.state.status = if more {
            STATUS_BSY
        } else {
            STATUS_DRDY | STATUS_DSC
        };
        more
    }

    fn start_write(&mut self, extended: bool, block: u8) -> Result<(), Failure> {
        if self.disk.read_only() {
            return Err(Failure(ERROR_ABRT));
        }
        self.start_transfer(extended, block)?;
        self.size_block()?;
        // The first block is asked for without an interrupt.
        self.request_data(Phase::DataOut, false);
        Ok(())
    }

    fn store_block(&mut self) -> Result<(), Failure> {
        let lba = self.state.transfer.lba;
        if let Err(error) = self.disk.write(lba, &self.state.buffer) {
            return Err(self.host_failure("write", lba, &error, ERROR_ABRT));
        }
        if self.advance() {
            self.size_block()?;
            self.request_data(Phase::DataOut, true);
        } else {
            self.finish(0);
        }
        Ok(())
    }

    /// Host trouble at a sector, as the guest is to see it.
    fn host_failure(&mut self, what: &str, lba: u64, why: &io::Error, error: u8) -> Failure {
        self.complain(what, lba, why);
        self.set_address(self.state.transfer.extended, lba);
        Failure(error)
    }

    fn verify(&mut self, extended: bool) -> Result<(), Failure> {
        self.start_transfer(extended, MAX_MULTIPLE)?;
        loop {
            let lba = self.size_block()?;
            if let Err(error) = self.disk.read(lba, &mut self.state.buffer) {
                return Err(self.host_failure("read", lba, &error, ERROR_UNC));
            }
            if !self.advance() {
                self.finish(0);
                return Ok(());
            }
        }
    }

    fn seek(&mut self) -> Result<(), Failure> {
        if self.address(false)? >= self.disk.sectors() {
            return Err(Failure(ERROR_IDNF));
        }
        self.finish(0);
        Ok(())
    }

    fn initialize_device_parameters(&mut self) -> Result<(), Failure> {
        let heads = u16::from(self.state.device & 0x0F) + 1;
        let sectors = u16::from(self.state.count[0]);
        self.state.geometry =
            Geometry::translated(self.disk.sectors(), heads, sectors).ok_or(Failure(ERROR_ABRT))?;
        self.finish(0);
        Ok(())
    }

    fn set_multiple_mode(&mut self) -> Result<(), Failure> {
        let sectors = self.state.count[0];
        if sectors > MAX_MULTIPLE || sectors != 0 && !sectors.is_power_of_two() {
            return Err(Failure(ERROR_ABRT));
        }
        self.state.multiple = sectors;
        self.finish(0);
        Ok(())
    }

    fn set_features(&mut self) -> Result<(), Failure> {
        match self.state.features[0] {
            0x02 => self.state.write_cache = true,
            0x82 => {
                self.state.write_cache = false;
                return self.flush();
            }
            0x55 => self.state.look_ahead = false,
            0xAA => self.state.look_ahead = true,
            // Transfer mode: PIO default, and PIO with flow control up to mode 4.
            0x03 if matches!(self.state.count[0], 0x00 | 0x01 | 0x08..=0x0C) => {}
            // Multiword DMA.
            0x03 if matches!(self.state.count[0], 0x20..=0x22) => {
                self.state.dma_mode = self.state.count[0] & 7;
            }
            // Reverting to power-on defaults at a software reset, or not.
            0x66 | 0xCC => {}
            _ => return Err(Failure(ERROR_ABRT)),
        }
        self.finish(0);
        Ok(())
    }

    fn set_power(&mut self, power: u8) {
        self.state.power = power;
        self.finish(0);
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if let Err(error) = self.disk.flush() {
            self.complain("flush", 0, &error);
            return Err(Failure(ERROR_ABRT));
        }
        self.finish(0);
        Ok(())
    }

    fn read_native_max(&mut self, extended: bool) -> Result<(), Failure> {
        let last = self.disk.sectors().saturating_sub(1);
        if !extended && self.state.device & DEVICE_LBA == 0 {
            return Err(Failure(ERROR_ABRT));
        }
        self.set_address(
            extended,
            if extended {
                last
            } else {
                last.min(0x0FFF_FFFE)
            },
        );
        self.finish(0);
        Ok(())
    }

    fn complain(&mut self, what: &str, lba: u64, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            log::error!(
                target: "ide",
                "the host cannot {what} disk {} at sector {lba}: {error}; the guest sees disk errors",
                self.serial
            );
        }
    }
}
