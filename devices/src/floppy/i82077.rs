//! Intel 82077AA floppy disk controller (Intel 290166), in PC/AT mode, with up to two drives.
//!
//! | port | region, offset | read | write |
//! |---|---|---|---|
//! | 3F0, 3F1 | [`MAIN`] 0, 1 | not driven in PC/AT mode | |
//! | 3F2 | 2 | digital output (DOR) | DOR: drive, reset, DMA gate, motors |
//! | 3F3 | 3 | tape drive | tape drive |
//! | 3F4 | 4 | main status (MSR) | data rate select (DSR) |
//! | 3F5 | 5 | FIFO | FIFO |
//! | 3F7 | [`DIRECTORY`] 0 | digital input (DIR): disk change | configuration control (CCR): data rate |
//!
//! A transfer moves all that it can at once, by one request to the DMA controller on channel 2, or byte
//! by byte through the FIFO in non-DMA mode. As on hardware it ends well by terminal count only.
//!
//! Not modelled: the time that a real drive takes (moving the head and finding sectors take microseconds),
//! spin-up, the SCAN commands, deleted data marks (written as plain ones), sectors of other sizes than 512
//! bytes, FM, the FIFO's threshold, and polling for ready changes. Where a real
//! controller waits for ever, as with the motor off, the command ends with "missing address mark".

mod transfer;

use platform::{
    BlockBackend, Bus, Device, DeviceCtx, DeviceId, Input, IrqLine, NoSuchDrive, SavedState,
    StateError, StateView,
};
use serde::{Deserialize, Serialize};

use super::media::Media;
use transfer::Transfer;

/// Region of ports 3F0-3F5.
pub const MAIN: u8 = 0;
/// Region of port 3F7.
pub const DIRECTORY: u8 = 1;

const STATE_VERSION: u32 = 1;

const IRQ: IrqLine = IrqLine::isa(6);

const DOR_NOT_RESET: u8 = 0x04;
const DOR_DMA_GATE: u8 = 0x08;

const MSR_RQM: u8 = 0x80;
const MSR_TO_HOST: u8 = 0x40;
const MSR_NON_DMA: u8 = 0x20;
const MSR_BUSY: u8 = 0x10;

const ST0_ABNORMAL: u8 = 0x40;
const ST0_INVALID: u8 = 0x80;
const ST0_READY_CHANGED: u8 = 0xC0;
const ST0_SEEK_END: u8 = 0x20;
const ST0_EQUIPMENT_CHECK: u8 = 0x10;

const CONFIGURE_IMPLIED_SEEK: u8 = 0x40;
const CONFIGURE_NO_FIFO: u8 = 0x20;
const CONFIGURE_NO_POLLING: u8 = 0x10;

/// Timers 0 to 3 are the drives' seeks.
const EXECUTE_TIMER: u32 = 4;
const RESET_TIMER: u32 = 5;

const RESET_NS: u64 = 20_000;
const STEP_NS: u64 = 5_000;
const SETTLE_NS: u64 = 50_000;
const EXECUTE_NS: u64 = 50_000;

/// The innermost track that a drive's head reaches.
const LAST_TRACK: u8 = 84;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Held in reset, or coming out of it.
    Reset,
    /// Takes the bytes of a command.
    Command,
    /// Works on a command, or waits for the DMA controller.
    Execution,
    /// Non-DMA execution: the host empties the FIFO.
    ToHost,
    /// Non-DMA execution: the host fills the FIFO.
    FromHost,
    /// The host reads the result.
    Result,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    dor: u8,
    tape: u8,
    rate: u8,
    phase: Phase,
    irq: bool,
    command: Vec<u8>,
    /// Result bytes, or the data of a non-DMA execution.
    fifo: Vec<u8>,
    position: u32,
    transfer: Option<Transfer>,
    /// Drives whose ready line is to be reported after a reset, a bit each.
    reset_polls: u8,
    /// Status register 0 of drives whose seek has ended and was not sensed yet.
    seek_ends: [Option<u8>; 4],
    /// Drives that are seeking, a bit each.
    seeking: u8,
    /// Where the controller believes the heads to be.
    present_cylinders: [u8; 4],
    /// Where they are.
    tracks: [u8; 4],
    /// Disk change lines: set by a new disk, cleared by a step.
    changed: [bool; 4],
    specify: [u8; 2],
    configure: u8,
    precompensation_track: u8,
    locked: bool,
    perpendicular: u8,
    /// Last sector count or end of track that a command gave; DUMPREG shows it.
    end_of_track: u8,
}

/// The controller with its drives.
pub struct I82077 {
    /// Which drives there are, with a diskette or without.
    drives: [bool; 2],
    media: [Option<Media>; 2],
    state: State,
    /// Host trouble is logged once.
    complained: bool,
}

/// Maps the controller's ports.
pub fn map(bus: &mut Bus, id: DeviceId) {
    bus.map_ports(id, MAIN, 0x3F0, 6, 1);
    bus.map_ports(id, DIRECTORY, 0x3F7, 1, 1);
}

impl State {
    fn new() -> Self {
        Self {
            dor: 0,
            tape: 0,
            rate: 2,
            phase: Phase::Reset,
            irq: false,
            command: Vec::new(),
            fifo: Vec::new(),
            position: 0,
            transfer: None,
            reset_polls: 0,
            seek_ends: [None; 4],
            seeking: 0,
            present_cylinders: [0; 4],
            tracks: [0; 4],
            changed: [true; 4],
            specify: [0; 2],
            configure: CONFIGURE_NO_FIFO,
            precompensation_track: 0,
            locked: false,
            perpendicular: 0,
            end_of_track: 0,
        }
    }

    fn is_sound(&self) -> bool {
        self.position as usize <= self.fifo.len()
            && self.command.len() <= 9
            && (self.command.len() == 9 || self.transfer.is_none())
            && self.tracks.iter().all(|track| *track <= LAST_TRACK)
            && self.transfer.as_ref().is_none_or(|transfer| {
                transfer.drive < 4 && self.fifo.len() >= self.position as usize
            })
    }

    fn seek_ended(&self, drive: usize) -> bool {
        self.seeking >> drive & 1 == 0 && self.seek_ends[drive].is_some()
    }

    /// Whether a seek or a reset has ended that the host has not asked about.
    fn interrupt_unsensed(&self) -> bool {
        self.reset_polls == 0x0F || (0..4).any(|drive| self.seek_ended(drive))
    }

    fn non_dma(&self) -> bool {
        self.specify[1] & 1 != 0
    }

    fn motor_on(&self, drive: u8) -> bool {
        self.dor >> (4 + (drive & 3)) & 1 != 0
    }
}

/// Bytes of a command, by its first one; `None` is no command.
fn command_length(code: u8) -> Option<usize> {
    // MT, MFM and SK are bits of the commands that know them.
    match code {
        0x03 => Some(3),
        0x04 | 0x07 | 0x12 => Some(2),
        0x08 | 0x0E | 0x10 | 0x14 | 0x94 => Some(1),
        0x0F | 0x8F | 0xCF => Some(3),
        0x13 => Some(4),
        _ => match code & 0x1F {
            0x06 | 0x0C | 0x16 => Some(9),
            0x05 | 0x09 if code & 0x20 == 0 => Some(9),
            0x02 if code & 0x80 == 0 => Some(9),
            0x0A if code & 0xA0 == 0 => Some(2),
            0x0D if code & 0xA0 == 0 => Some(6),
            _ => None,
        },
    }
}

impl I82077 {
    /// A controller with a drive for each diskette.
    pub fn new(disks: [Option<Box<dyn BlockBackend>>; 2]) -> Self {
        Self {
            drives: disks.each_ref().map(Option::is_some),
            media: disks.map(|disk| disk.map(Media::new)),
            state: State::new(),
            complained: false,
        }
    }

    /// The same with drives in which nothing is.
    pub fn with_empty_drives(mut self, drives: &[usize]) -> Self {
        for &drive in drives {
            if let Some(there) = self.drives.get_mut(drive) {
                *there = true;
            }
        }
        self
    }

    fn drive_irq(&self, ctx: &mut DeviceCtx<'_>) {
        ctx.set_line(IRQ, self.state.irq && self.state.dor & DOR_DMA_GATE != 0);
    }

    fn main_status(&self) -> u8 {
        let state = &self.state;
        let phase = match state.phase {
            Phase::Reset => return 0,
            Phase::Command if state.command.is_empty() => MSR_RQM,
            Phase::Command => MSR_RQM | MSR_BUSY,
            Phase::Execution => MSR_BUSY,
            Phase::ToHost => MSR_RQM | MSR_TO_HOST | MSR_NON_DMA | MSR_BUSY,
            Phase::FromHost => MSR_RQM | MSR_NON_DMA | MSR_BUSY,
            Phase::Result => MSR_RQM | MSR_TO_HOST | MSR_BUSY,
        };
        phase | state.seeking
    }

    /// The change line of the selected drive.
    fn disk_changed(&self) -> bool {
        let drive = usize::from(self.state.dor & 3);
        // A drive that is empty holds the line, also after a step.
        let empty = !self.media.get(drive).is_some_and(Option::is_some);
        self.has_drive(drive) && (empty || self.state.changed[drive])
    }

    fn has_drive(&self, drive: usize) -> bool {
        self.drives.get(drive).is_some_and(|&there| there)
    }

    fn write_dor(&mut self, ctx: &mut DeviceCtx<'_>, value: u8) {
        let before = std::mem::replace(&mut self.state.dor, value);
        if value & DOR_NOT_RESET == 0 {
            self.enter_reset(ctx);
        } else if before & DOR_NOT_RESET == 0 {
            ctx.schedule(RESET_TIMER, ctx.now_ns() + RESET_NS);
        }
    }

    fn write_dsr(&mut self, ctx: &mut DeviceCtx<'_>, value: u8) {
        self.state.rate = value & 3;
        if value & 0x80 != 0 && self.state.dor & DOR_NOT_RESET != 0 {
            // Software reset: as by the DOR, but it ends by itself.
            self.enter_reset(ctx);
            ctx.schedule(RESET_TIMER, ctx.now_ns() + RESET_NS);
        }
    }

    fn enter_reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        for timer in 0..=RESET_TIMER {
            ctx.cancel(timer);
        }
        let state = &mut self.state;
        state.phase = Phase::Reset;
        state.irq = false;
        state.command.clear();
        state.fifo.clear();
        state.position = 0;
        state.transfer = None;
        state.reset_polls = 0;
        state.seek_ends = [None; 4];
        state.seeking = 0;
        state.perpendicular &= 0x3C;
        if !state.locked {
            state.configure = CONFIGURE_NO_FIFO;
            state.precompensation_track = 0;
        }
    }

    fn leave_reset(&mut self) {
        self.state.phase = Phase::Command;
        if self.state.configure & CONFIGURE_NO_POLLING == 0 {
            self.state.reset_polls = 0x0F;
            self.state.irq = true;
        }
    }

    fn read_fifo(&mut self, ctx: &mut DeviceCtx<'_>) -> u8 {
        let state = &mut self.state;
        if !matches!(state.phase, Phase::ToHost | Phase::Result) {
            return 0xFF;
        }
        let byte = state.fifo.get(state.position as usize).copied();
        state.position += u32::from(byte.is_some());
        let drained = state.position as usize >= state.fifo.len();
        if state.phase == Phase::Result {
            state.irq = state.interrupt_unsensed();
            if drained {
                state.phase = Phase::Command;
                state.command.clear();
            }
        } else if drained {
            // The host sees an edge for the result.
            self.state.irq = false;
            self.drive_irq(ctx);
            let moved = self.state.fifo.len();
            self.transferred(&[], moved, false);
        }
        byte.unwrap_or(0xFF)
    }

    fn write_fifo(&mut self, ctx: &mut DeviceCtx<'_>, value: u8) {
        let state = &mut self.state;
        match state.phase {
            Phase::Command => {
                state.command.push(value);
                match command_length(state.command[0]) {
                    None => self.result(&[ST0_INVALID], false),
                    Some(length) if state.command.len() >= length => self.begin(ctx),
                    Some(_) => {}
                }
            }
            Phase::FromHost => {
                if let Some(byte) = state.fifo.get_mut(state.position as usize) {
                    *byte = value;
                    state.position += 1;
                }
                if state.position as usize >= state.fifo.len() {
                    state.irq = false;
                    self.drive_irq(ctx);
                    let data = std::mem::take(&mut self.state.fifo);
                    self.transferred(&data, data.len(), false);
                }
            }
            Phase::Reset | Phase::Execution | Phase::ToHost | Phase::Result => {}
        }
    }

    /// Byte `index` of the command.
    fn parameter(&self, index: usize) -> u8 {
        self.state.command.get(index).copied().unwrap_or(0)
    }

    /// All bytes of a command have arrived.
    fn begin(&mut self, ctx: &mut DeviceCtx<'_>) {
        log::debug!(target: "i82077", "command {:02x?}", self.state.command);
        let [code, first, second, third] = [0, 1, 2, 3].map(|n| self.parameter(n));
        let drive = usize::from(first & 3);
        let state = &mut self.state;
        match code {
            0x03 => {
                state.specify = [first, second];
                self.idle();
            }
            0x04 => {
                let status = self.drive_status(first);
                self.result(&[status], false);
            }
            0x07 => self.seek(ctx, drive, 0),
            0x08 => self.sense_interrupt(),
            0x0E => self.dump_registers(),
            0x0F => self.seek(ctx, drive, second),
            0x8F => {
                let target = state.present_cylinders[drive].saturating_sub(second);
                self.seek(ctx, drive, target);
            }
            0xCF => {
                let target = state.present_cylinders[drive].saturating_add(second);
                self.seek(ctx, drive, target);
            }
            0x10 => self.result(&[0x90], false), // VERSION: an enhanced controller
            0x12 => {
                // The drive bits change only together with OW, the top bit.
                let drives = if first & 0x80 != 0 {
                    first & 0x3C
                } else {
                    state.perpendicular & 0x3C
                };
                state.perpendicular = drives | first & 3;
                self.idle();
            }
            0x13 => {
                state.configure = second;
                state.precompensation_track = third;
                self.idle();
            }
            0x14 | 0x94 => {
                state.locked = code & 0x80 != 0;
                self.result(&[(code & 0x80) >> 3], false);
            }
            _ => {
                state.phase = Phase::Execution;
                ctx.schedule(EXECUTE_TIMER, ctx.now_ns() + EXECUTE_NS);
            }
        }
    }

    /// A command without result is done.
    fn idle(&mut self) {
        self.state.phase = Phase::Command;
        self.state.command.clear();
    }

    fn result(&mut self, bytes: &[u8], interrupt: bool) {
        let state = &mut self.state;
        state.phase = Phase::Result;
        state.fifo = bytes.to_vec();
        state.position = 0;
        state.transfer = None;
        state.irq |= interrupt;
    }

    /// Status register 3.
    fn drive_status(&self, select: u8) -> u8 {
        let drive = usize::from(select & 3);
        let mut status = 0x28 | select & 7;
        if self.has_drive(drive) && self.state.tracks[drive] == 0 {
            status |= 0x10;
        }
        if let Some(Some(media)) = self.media.get(drive)
            && media.write_protected()
        {
            status |= 0x40;
        }
        status
    }

    fn seek(&mut self, ctx: &mut DeviceCtx<'_>, drive: usize, target: u8) {
        self.state.seeking |= 1 << drive;
        self.state.seek_ends[drive] = None;
        let steps = self.state.present_cylinders[drive].abs_diff(target);
        let delay_ns = SETTLE_NS + u64::from(steps) * STEP_NS;
        if self.parameter(0) == 0x07 {
            self.recalibrate(drive);
        } else {
            self.step_to(drive, target);
            self.state.seek_ends[drive] = Some(ST0_SEEK_END | drive as u8);
        }
        self.idle();
        ctx.schedule(drive as u32, ctx.now_ns() + delay_ns);
    }

    /// Moves a head out to track 0, where the drive's sensor stops it.
    fn recalibrate(&mut self, drive: usize) {
        let mut status = ST0_SEEK_END | drive as u8;
        if self.has_drive(drive) {
            self.state.tracks[drive] = 0;
            // No step is needed from track 0, but BIOSes count on a recalibration to clear the line.
            self.state.changed[drive] = false;
        } else {
            status |= ST0_ABNORMAL | ST0_EQUIPMENT_CHECK;
        }
        self.state.present_cylinders[drive] = 0;
        self.state.seek_ends[drive] = Some(status);
    }

    /// Moves a head by as many tracks as the controller believes to be needed.
    fn step_to(&mut self, drive: usize, target: u8) {
        let state = &mut self.state;
        let from = std::mem::replace(&mut state.present_cylinders[drive], target);
        if from != target {
            let track = i16::from(state.tracks[drive]) + i16::from(target) - i16::from(from);
            state.tracks[drive] = track.clamp(0, LAST_TRACK.into()) as u8;
            state.changed[drive] = false;
        }
    }

    fn sense_interrupt(&mut self) {
        let state = &mut self.state;
        let ended = (0..4).find(|&drive| state.seek_ended(drive));
        let (status, drive) = if state.reset_polls != 0 {
            let drive = state.reset_polls.trailing_zeros() as usize & 3;
            state.reset_polls &= state.reset_polls - 1;
            state.irq = false;
            (ST0_READY_CHANGED | drive as u8, drive)
        } else if let Some(drive) = ended {
            let status = state.seek_ends[drive].take().unwrap_or(ST0_INVALID);
            let more = (0..4)
                .any(|drive| state.seeking >> drive & 1 == 0 && state.seek_ends[drive].is_some());
            state.irq = more;
            (status, drive)
        } else {
            return self.result(&[ST0_INVALID], false);
        };
        let cylinder = state.present_cylinders[drive];
        self.result(&[status, cylinder], false);
    }

    fn dump_registers(&mut self) {
        let state = &self.state;
        let [pcn0, pcn1, pcn2, pcn3] = state.present_cylinders;
        let bytes = [
            pcn0,
            pcn1,
            pcn2,
            pcn3,
            state.specify[0],
            state.specify[1],
            state.end_of_track,
            u8::from(state.locked) << 7 | state.perpendicular & 0x3F,
            state.configure,
            state.precompensation_track,
        ];
        self.result(&bytes, false);
    }

    fn complain(&mut self, what: &str, lba: u64, error: &std::io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            log::error!(
                target: "i82077",
                "the host cannot {what} sector {lba} of a floppy image: {error}; the guest sees disk errors"
            );
        }
    }
}

impl Device for I82077 {
    fn name(&self) -> &'static str {
        "i82077"
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _: u8) -> u64 {
        let value = match (region, offset) {
            (MAIN, 2) => self.state.dor,
            (MAIN, 3) => self.state.tape,
            (MAIN, 4) => self.main_status(),
            (MAIN, 5) => self.read_fifo(ctx),
            (DIRECTORY, 0) => u8::from(self.disk_changed()) << 7,
            _ => 0xFF,
        };
        self.drive_irq(ctx);
        value.into()
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _: u8, value: u64) {
        let value = value as u8;
        match (region, offset) {
            (MAIN, 2) => self.write_dor(ctx, value),
            (MAIN, 3) => self.state.tape = value & 3,
            (MAIN, 4) => self.write_dsr(ctx, value),
            (MAIN, 5) => self.write_fifo(ctx, value),
            (DIRECTORY, 0) => self.state.rate = value & 3,
            _ => {}
        }
        self.drive_irq(ctx);
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, timer: u32) {
        match timer {
            RESET_TIMER => self.leave_reset(),
            EXECUTE_TIMER if self.state.phase == Phase::Execution => self.execute(ctx),
            0..4 => {
                self.state.seeking &= !(1 << timer);
                self.state.irq = true;
            }
            _ => {}
        }
        self.drive_irq(ctx);
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::DmaDone {
            data,
            transferred,
            terminal_count,
            ..
        } = input
            && self.state.phase == Phase::Execution
        {
            self.transferred(data, *transferred as usize, *terminal_count);
            self.drive_irq(ctx);
        }
    }

    fn change_medium(
        &mut self,
        _: &mut DeviceCtx<'_>,
        unit: usize,
        medium: Option<Box<dyn BlockBackend>>,
    ) -> Result<(), NoSuchDrive> {
        if !self.has_drive(unit) {
            return Err(NoSuchDrive);
        }
        log::debug!(target: "i82077", "drive {unit}: {}", if medium.is_some() { "a disk" } else { "empty" });
        self.media[unit] = medium.map(Media::new);
        self.state.changed[unit] = true;
        Ok(())
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        for timer in 0..=RESET_TIMER {
            ctx.cancel(timer);
        }
        self.state = State::new();
        self.drive_irq(ctx);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(STATE_VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let state: State = state.decode(STATE_VERSION)?;
        if !state.is_sound() {
            return Err(StateError::Damaged(serde::de::Error::custom(
                "no controller can be in this state",
            )));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
