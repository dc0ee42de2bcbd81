//! An ATAPI CD-ROM and DVD-ROM drive: its task file, how packets and data move, and its tray.
//!
//! Sources: ATA/ATAPI-6 (T13 1410D) §8.23 and §9.8 (PACKET), SFF-8020i, MMC-3 (T10 1363D). `commands` has the packet
//! commands, `reports` the tables that they answer with, `raw` sectors with all of their 2352 bytes.
//!
//! | register | of a packet command |
//! |---|---|
//! | 1 | features: bit 0 data goes by DMA; read as error: the sense key in bits 7-4 |
//! | 2 | interrupt reason: bit 0 it is the packet or the end, bit 1 it goes to the host |
//! | 4, 5 | the most bytes that the host takes at a time; then how many there are |
//!
//! Data goes by PIO in pieces that the host's limit allows: even ones but for the last, as the limit may be odd.
//! A limit of 0 stands for FFFEh, as the drive says in its identification (word 125).
//!
//! The tray holds a disc, or none, and is open after the guest has ejected it; a disc in an open tray is back with
//! the next load. Whoever changes discs from outside is stronger than a lock: that is the hole for a paper clip.
//! A reset leaves the tray as it is, so that a system that ejects its installation disc starts from its disk.
//!
//! Not modelled: overlapped commands, audio, writing, sub-channels other than Q, the time that a disc takes.

mod commands;
mod raw;
mod reports;

use platform::block::SECTOR_BYTES;
use platform::{BlockBackend, DmaDirection, NoSuchDrive};
use serde::{Deserialize, Serialize};

use super::drive::{
    ERROR_ABRT, MAX_DMA_MODE, STATUS_BSY, STATUS_DRDY, STATUS_DRQ, STATUS_DSC, STATUS_ERR,
};
use super::{Unit, UnitState, identify};
use raw::Form;

/// Bytes of user data in a sector.
pub(super) const BLOCK_BYTES: usize = 2048;
const PACKET_BYTES: usize = 12;

/// Sectors that are read at a time.
const MOST_SECTORS: u32 = 16;
/// What a buffer holds at most: so many raw sectors, or what MODE SELECT can announce.
const MOST_BUFFER_BYTES: usize = 0x1_0000;

const REASON_COMMAND: u8 = 0x01;
const REASON_TO_HOST: u8 = 0x02;

const PACKET: u8 = 0xA0;
const IDENTIFY_PACKET_DEVICE: u8 = 0xA1;
const DEVICE_RESET: u8 = 0x08;

/// What the drive waits for, or is about to do when its timer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Idle,
    /// In software reset.
    Reset,
    /// Busy: then runs the last command, which is not PACKET.
    Command,
    /// The host writes the packet.
    Packet,
    /// Busy: then does what the packet says.
    Execute,
    /// Busy: then goes on with the data, or ends the command.
    Next,
    /// The host empties a piece of the buffer.
    DataIn,
    /// The host fills a piece of the buffer.
    DataOut,
    /// The bus master empties the buffer.
    DmaIn,
    /// The bus master fills the buffer.
    DmaOut,
}

/// Sense data: key, additional code and its qualifier (MMC-3 annex; SPC-3 §4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sense {
    key: u8,
    code: u8,
    qualifier: u8,
}

impl Sense {
    const NONE: Self = Self::new(0, 0, 0);
    const TRAY_CLOSED_EMPTY: Self = Self::new(2, 0x3A, 1);
    const TRAY_OPEN: Self = Self::new(2, 0x3A, 2);
    const UNREADABLE: Self = Self::new(3, 0x11, 0);
    const UNKNOWN_COMMAND: Self = Self::new(5, 0x20, 0);
    const OUT_OF_RANGE: Self = Self::new(5, 0x21, 0);
    const BAD_FIELD: Self = Self::new(5, 0x24, 0);
    const BAD_PARAMETER: Self = Self::new(5, 0x26, 0);
    const BAD_PARAMETER_LENGTH: Self = Self::new(5, 0x1A, 0);
    const OTHER_FORMAT: Self = Self::new(5, 0x30, 2);
    const NOT_SAVED: Self = Self::new(5, 0x39, 0);
    const LOCKED: Self = Self::new(5, 0x53, 2);
    const OTHER_MODE: Self = Self::new(5, 0x64, 0);
    const CHANGED: Self = Self::new(6, 0x28, 0);
    const POWERED_ON: Self = Self::new(6, 0x29, 0);

    const fn new(key: u8, code: u8, qualifier: u8) -> Self {
        Self {
            key,
            code,
            qualifier,
        }
    }

    /// The error register of a command that ends so.
    fn error(self) -> u8 {
        let aborted = if self.key == 5 { ERROR_ABRT } else { 0 };
        self.key << 4 | aborted
    }
}

/// What happened to the disc, for GET EVENT STATUS NOTIFICATION (MMC-3 table 84).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Event {
    None = 0,
    NewMedia = 2,
    MediaRemoval = 3,
}

/// Sectors that a command has still to read.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Transfer {
    lba: u32,
    remaining: u32,
    form: Form,
}

/// All of a drive that is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CdState {
    status: u8,
    error: u8,
    features: u8,
    reason: u8,
    lba_low: u8,
    byte_count: [u8; 2],
    device: u8,
    irq: bool,
    phase: Phase,
    command: u8,
    packet: [u8; PACKET_BYTES],
    /// The host's limit of a piece of data, in bytes.
    limit: u16,
    by_dma: bool,
    transfer: Transfer,
    buffer: Vec<u8>,
    position: u32,
    /// Where the piece ends that the host moves now.
    piece_end: u32,
    dma_mode: u8,
    /// What CHECK POWER MODE reports.
    power: u8,
    sense: Sense,
    /// The unit attention that the next command meets.
    attention: Option<Sense>,
    tray_open: bool,
    locked: bool,
    event: Event,
    /// What MODE SELECT can set: the error recovery page and the audio page, behind their heads.
    recovery: [u8; reports::RECOVERY_BYTES],
    audio: [u8; reports::AUDIO_BYTES],
}

impl CdState {
    fn new(tray_open: bool) -> Self {
        let mut state = Self {
            status: 0,
            error: 0,
            features: 0,
            reason: 0,
            lba_low: 0,
            byte_count: [0; 2],
            device: 0,
            irq: false,
            phase: Phase::Idle,
            command: 0,
            packet: [0; PACKET_BYTES],
            limit: 0,
            by_dma: false,
            transfer: Transfer::default(),
            buffer: Vec::new(),
            position: 0,
            piece_end: 0,
            dma_mode: MAX_DMA_MODE,
            power: 0xFF,
            sense: Sense::NONE,
            attention: Some(Sense::POWERED_ON),
            tray_open,
            locked: false,
            event: Event::None,
            recovery: reports::RECOVERY,
            audio: reports::AUDIO,
        };
        state.sign();
        state
    }

    /// Whether a decoded state is one that a drive can have.
    fn is_sound(&self) -> bool {
        let moves = matches!(
            self.phase,
            Phase::Packet | Phase::DataIn | Phase::DataOut | Phase::DmaIn | Phase::DmaOut
        );
        self.position <= self.piece_end
            && self.piece_end as usize <= self.buffer.len()
            && self.buffer.len() <= MOST_BUFFER_BYTES
            && (!moves || self.position < self.piece_end)
            && (self.phase != Phase::Packet || self.buffer.len() == PACKET_BYTES)
            && self.dma_mode <= MAX_DMA_MODE
            && self
                .transfer
                .lba
                .checked_add(self.transfer.remaining)
                .is_some()
            && self.transfer.form.is_sound()
    }

    /// The registers after a reset or a diagnostic: the signature of a packet device, which is not ready to tell
    /// more before it gets a command.
    fn sign(&mut self) {
        self.error = 0x01;
        self.reason = 0x01;
        self.lba_low = 0x01;
        self.byte_count = [0x14, 0xEB];
        self.device = 0;
        self.phase = Phase::Idle;
        self.status = 0;
        self.give_up();
    }

    /// Forgets what data was on the way.
    fn give_up(&mut self) {
        self.transfer = Transfer::default();
        self.buffer.clear();
        self.position = 0;
        self.piece_end = 0;
    }
}

/// Why a command ended without success.
struct Failure(Sense);

/// A CD-ROM drive.
pub(super) struct CdDrive {
    disc: Option<Box<dyn BlockBackend>>,
    serial: String,
    state: CdState,
    /// Host trouble is logged once.
    complained: bool,
}

impl CdDrive {
    pub(super) fn new(disc: Option<Box<dyn BlockBackend>>, serial: String) -> Self {
        Self {
            disc,
            serial,
            state: CdState::new(false),
            complained: false,
        }
    }

    /// Sectors on the disc that can be read now.
    fn sectors(&self) -> Result<u32, Failure> {
        if self.state.tray_open {
            return Err(Failure(Sense::TRAY_OPEN));
        }
        let disc = self.disc.as_ref();
        let disc = disc.ok_or(Failure(Sense::TRAY_CLOSED_EMPTY))?;
        // An image may end within a sector; what lies behind its end is zeros.
        let sectors = disc.sectors().div_ceil((BLOCK_BYTES / SECTOR_BYTES) as u64);
        Ok(sectors.min(u64::from(u32::MAX - 1)) as u32)
    }

    /// Reads whole sectors of user data.
    fn read_sectors(&mut self, lba: u32, data: &mut [u8]) -> Result<(), Failure> {
        let Some(disc) = &mut self.disc else {
            return Err(Failure(Sense::TRAY_CLOSED_EMPTY));
        };
        let first = u64::from(lba) * (BLOCK_BYTES / SECTOR_BYTES) as u64;
        let there = disc.sectors().saturating_sub(first) as usize;
        let bytes = there.saturating_mul(SECTOR_BYTES).min(data.len());
        let (on_disc, behind) = data.split_at_mut(bytes);
        behind.fill(0);
        if let Err(error) = disc.read(first, on_disc) {
            if !std::mem::replace(&mut self.complained, true) {
                log::error!(
                    target: "ide",
                    "the host cannot read disc {} at sector {lba}: {error}; the guest sees a scratched disc",
                    self.serial
                );
            }
            return Err(Failure(Sense::UNREADABLE));
        }
        Ok(())
    }

    /// Ends a command well.
    fn complete(&mut self) {
        self.state.error = 0;
        self.end(STATUS_DRDY | STATUS_DSC);
    }

    fn end(&mut self, status: u8) {
        self.state.give_up();
        self.state.phase = Phase::Idle;
        self.state.status = status;
        self.state.reason = REASON_COMMAND | REASON_TO_HOST;
        self.state.irq = true;
    }

    /// Ends the command if it has failed.
    fn conclude(&mut self, result: Result<(), Failure>) {
        if let Err(Failure(sense)) = result {
            log::debug!(
                target: "ide",
                "packet {:02x?} ends with sense {:x}/{:02x}/{:02x}",
                self.state.packet, sense.key, sense.code, sense.qualifier
            );
            self.state.sense = sense;
            self.state.error = sense.error();
            self.end(STATUS_DRDY | STATUS_DSC | STATUS_ERR);
        }
    }

    /// Refuses a command that is no packet.
    fn abort(&mut self) {
        self.end(STATUS_DRDY | STATUS_DSC | STATUS_ERR);
        self.state.error = ERROR_ABRT;
    }

    /// Runs a command other than PACKET.
    fn execute(&mut self) {
        let state = &mut self.state;
        state.error = 0;
        match state.command {
            IDENTIFY_PACKET_DEVICE => {
                state.buffer = identify::packet_block(&self.serial, state.dma_mode);
                state.position = 0;
                state.piece_end = state.buffer.len() as u32;
                state.phase = Phase::DataIn;
                state.reason = REASON_TO_HOST;
                state.status = STATUS_DRDY | STATUS_DSC | STATUS_DRQ;
                state.irq = true;
            }
            // EXECUTE DEVICE DIAGNOSTIC.
            0x90 => {
                state.sign();
                state.irq = true;
            }
            // READ SECTORS and IDENTIFY DEVICE tell the host that this is a packet device.
            0x20 | 0x21 | 0xEC => {
                let device = state.device;
                state.sign();
                state.device = device;
                let (reason, error) = (state.reason, ERROR_ABRT);
                self.end(STATUS_DRDY | STATUS_ERR);
                (self.state.reason, self.state.error) = (reason, error);
            }
            0x94 | 0xE0 | 0x96 | 0xE2 | 0x99 | 0xE6 => self.set_power(0x00),
            0x95 | 0xE1 | 0x97 | 0xE3 => self.set_power(0x80),
            0x98 | 0xE5 => {
                let power = state.power;
                self.complete();
                self.state.reason = power;
            }
            0xEF => self.set_features(),
            _ => self.abort(),
        }
    }

    fn set_power(&mut self, power: u8) {
        self.state.power = power;
        self.complete();
    }

    fn set_features(&mut self) {
        let state = &mut self.state;
        match (state.features, state.reason) {
            // Transfer mode: PIO default, and PIO with flow control up to mode 4.
            (0x03, 0x00 | 0x01 | 0x08..=0x0C) => {}
            (0x03, mode @ 0x20..=0x22) => state.dma_mode = mode & 7,
            // Reverting to power-on defaults at a software reset, or not.
            (0x66 | 0xCC, _) => {}
            _ => return self.abort(),
        }
        self.complete();
    }

    /// Hands `bytes` to the host, as far as it has room for `allocated`.
    fn reply(&mut self, mut bytes: Vec<u8>, allocated: usize) -> Result<(), Failure> {
        bytes.truncate(allocated);
        self.state.buffer = bytes;
        self.state.position = 0;
        self.state.piece_end = 0;
        self.go_on()
    }

    /// Hands on what is in the buffer, or what there is to read still; or ends the command.
    fn go_on(&mut self) -> Result<(), Failure> {
        if self.state.position as usize == self.state.buffer.len() {
            if self.state.transfer.remaining == 0 {
                self.complete();
                return Ok(());
            }
            self.load()?;
        }
        if self.state.by_dma {
            self.state.piece_end = self.state.buffer.len() as u32;
            self.state.phase = Phase::DmaIn;
            self.state.reason = REASON_TO_HOST;
            self.state.status = STATUS_DRDY | STATUS_DSC | STATUS_DRQ;
            self.state.irq = false;
            return Ok(());
        }
        self.offer_piece(Phase::DataIn, REASON_TO_HOST)
    }

    /// Reads the next sectors into the buffer.
    fn load(&mut self) -> Result<(), Failure> {
        let Transfer {
            lba,
            remaining,
            form,
        } = self.state.transfer;
        let bytes = form.bytes();
        let fit = match self.state.by_dma {
            true => MOST_SECTORS,
            false => u32::from(self.state.limit) / bytes as u32,
        };
        let count = remaining.min(fit.clamp(1, MOST_SECTORS));
        // The disc may have been taken out meanwhile.
        if self.sectors()? < lba.saturating_add(count) {
            return Err(Failure(Sense::OUT_OF_RANGE));
        }
        let mut data = vec![0; count as usize * BLOCK_BYTES];
        self.read_sectors(lba, &mut data)?;
        self.state.buffer = match form {
            Form::USER_DATA => data,
            _ => {
                let sectors = data.chunks(BLOCK_BYTES).zip(lba..);
                sectors.flat_map(|(data, lba)| form.of(lba, data)).collect()
            }
        };
        self.state.position = 0;
        self.state.piece_end = 0;
        self.state.transfer.lba += count;
        self.state.transfer.remaining -= count;
        Ok(())
    }

    /// Sets up the next piece of the buffer for the host.
    fn offer_piece(&mut self, phase: Phase, reason: u8) -> Result<(), Failure> {
        let state = &mut self.state;
        let rest = state.buffer.len() - state.position as usize;
        let mut bytes = rest.min(state.limit.into());
        if bytes < rest {
            bytes &= !1;
        }
        if bytes == 0 {
            return Err(Failure(Sense::BAD_FIELD));
        }
        state.piece_end = state.position + bytes as u32;
        state.byte_count = (bytes as u16).to_le_bytes();
        state.phase = phase;
        state.reason = reason;
        state.status = STATUS_DRDY | STATUS_DSC | STATUS_DRQ;
        state.irq = true;
        Ok(())
    }

    /// Asks the host for `bytes`.
    fn receive(&mut self, bytes: u16) -> Result<(), Failure> {
        self.state.buffer = vec![0; bytes.into()];
        self.state.position = 0;
        if !self.state.by_dma {
            return self.offer_piece(Phase::DataOut, 0);
        }
        self.state.piece_end = bytes.into();
        self.state.phase = Phase::DmaOut;
        self.state.reason = 0;
        self.state.status = STATUS_DRDY | STATUS_DSC | STATUS_DRQ;
        self.state.irq = false;
        Ok(())
    }

    /// A piece of data was moved.
    fn next(&mut self) -> Result<(), Failure> {
        let takes = commands::takes_data(self.state.packet[0]);
        let filled = self.state.position as usize == self.state.buffer.len();
        match (takes, filled) {
            (true, true) => self.received(),
            (true, false) => self.offer_piece(Phase::DataOut, 0),
            (false, _) => self.go_on(),
        }
    }

    fn open_tray(&mut self) {
        self.state.tray_open = true;
        self.state.locked = false;
        self.state.attention = None;
        self.state.event = Event::MediaRemoval;
    }

    fn close_tray(&mut self) {
        let was_open = std::mem::replace(&mut self.state.tray_open, false);
        if was_open && self.disc.is_some() {
            self.state.attention = Some(Sense::CHANGED);
            self.state.event = Event::NewMedia;
        }
    }
}

impl Unit for CdDrive {
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

    fn read_register(&self, register: u8, _: bool) -> u8 {
        let state = &self.state;
        match register {
            1 => state.error,
            2 => state.reason,
            3 => state.lba_low,
            4 | 5 => state.byte_count[usize::from(register) - 4],
            6 => state.device | 0xA0,
            _ => 0xFF,
        }
    }

    fn write_register(&mut self, register: u8, value: u8) {
        let state = &mut self.state;
        if state.status & (STATUS_BSY | STATUS_DRQ) != 0 && register != 6 {
            return;
        }
        match register {
            1 => state.features = value,
            2 => state.reason = value,
            3 => state.lba_low = value,
            4 | 5 => state.byte_count[usize::from(register) - 4] = value,
            6 if state.status & STATUS_BSY == 0 => state.device = value,
            _ => {}
        }
    }

    fn start(&mut self, command: u8) -> bool {
        let state = &mut self.state;
        if command == DEVICE_RESET {
            // The one command that a busy drive hears. It leaves the device register (ATA/ATAPI-6 §8.7).
            let device = state.device;
            state.command = command;
            state.sign();
            state.device = device & 0x10;
            state.irq = false;
            return false;
        }
        if state.status & STATUS_BSY != 0 {
            return false;
        }
        state.give_up();
        state.command = command;
        state.irq = false;
        if command != PACKET || state.features & 0x02 != 0 {
            log::debug!(target: "ide", "packet device: command {command:02x}");
            state.phase = Phase::Command;
            state.status = STATUS_BSY;
            return true;
        }
        // The packet is asked for at once, without an interrupt, as word 0 of the identification says.
        state.error = 0;
        state.by_dma = state.features & 0x01 != 0;
        state.limit = match u16::from_le_bytes(state.byte_count) {
            0 | 0xFFFF => 0xFFFE,
            limit => limit,
        };
        state.buffer.resize(PACKET_BYTES, 0);
        state.piece_end = PACKET_BYTES as u32;
        state.phase = Phase::Packet;
        state.reason = REASON_COMMAND;
        state.status = STATUS_DRDY | STATUS_DSC | STATUS_DRQ;
        false
    }

    fn proceed(&mut self) {
        let result = match self.state.phase {
            Phase::Command => {
                self.execute();
                Ok(())
            }
            Phase::Execute => self.execute_packet(),
            Phase::Next => self.next(),
            // Of these the host, or the bus master, decides when they go on.
            Phase::Idle | Phase::Reset | Phase::Packet => return,
            Phase::DataIn | Phase::DataOut | Phase::DmaIn | Phase::DmaOut => return,
        };
        self.conclude(result);
    }

    fn read_data(&mut self, size: u8) -> (u64, bool) {
        let state = &mut self.state;
        if state.phase != Phase::DataIn {
            return (!0, false);
        }
        let rest = &state.buffer[state.position as usize..state.piece_end as usize];
        let taken = rest.len().min(usize::from(size).min(8));
        let mut bytes = [0; 8];
        bytes[..taken].copy_from_slice(&rest[..taken]);
        state.position += taken as u32;
        let mut busy = false;
        if state.position == state.piece_end {
            if state.command == IDENTIFY_PACKET_DEVICE {
                state.give_up();
                state.phase = Phase::Idle;
                state.status = STATUS_DRDY | STATUS_DSC;
            } else {
                state.phase = Phase::Next;
                state.status = STATUS_BSY;
                busy = true;
            }
        }
        (u64::from_le_bytes(bytes), busy)
    }

    fn write_data(&mut self, size: u8, value: u64) -> bool {
        let state = &mut self.state;
        if !matches!(state.phase, Phase::Packet | Phase::DataOut) {
            return false;
        }
        let rest = &mut state.buffer[state.position as usize..state.piece_end as usize];
        let taken = rest.len().min(usize::from(size).min(8));
        rest[..taken].copy_from_slice(&value.to_le_bytes()[..taken]);
        state.position += taken as u32;
        if state.position < state.piece_end {
            return false;
        }
        if state.phase == Phase::Packet {
            state.packet.copy_from_slice(&state.buffer);
            state.give_up();
            state.phase = Phase::Execute;
        } else {
            state.phase = Phase::Next;
        }
        state.status = STATUS_BSY;
        true
    }

    fn dma_request(&self) -> Option<DmaDirection> {
        match self.state.phase {
            Phase::DmaIn => Some(DmaDirection::ToMemory),
            Phase::DmaOut => Some(DmaDirection::FromMemory),
            _ => None,
        }
    }

    fn dma_buffer(&mut self) -> &mut [u8] {
        &mut self.state.buffer[self.state.position as usize..]
    }

    fn dma_moved(&mut self, bytes: usize) {
        self.state.position += bytes as u32;
        if self.state.position as usize == self.state.buffer.len() {
            let result = self.next();
            self.conclude(result);
        }
    }

    fn enter_reset(&mut self) {
        self.state.give_up();
        self.state.phase = Phase::Reset;
        self.state.status = STATUS_BSY;
        self.state.irq = false;
        self.state.device = 0;
    }

    fn leave_reset(&mut self) {
        self.state.sign();
    }

    fn power_on(&mut self) {
        self.state = CdState::new(self.state.tray_open);
    }

    fn change_medium(&mut self, medium: Option<Box<dyn BlockBackend>>) -> Result<(), NoSuchDrive> {
        log::debug!(target: "ide", "{}: {}", self.serial, if medium.is_some() { "a disc" } else { "empty" });
        self.open_tray();
        let is_disc = medium.is_some();
        self.disc = medium;
        if is_disc {
            self.close_tray();
        }
        Ok(())
    }

    fn state(&self) -> UnitState {
        UnitState::Cdrom(self.state.clone())
    }

    fn accepts(&self, state: &UnitState) -> bool {
        matches!(state, UnitState::Cdrom(state) if state.is_sound())
    }

    fn set_state(&mut self, state: UnitState) {
        if let UnitState::Cdrom(state) = state {
            self.state = state;
        }
    }
}
