//! An ATA channel with up to two drives, hard disks or CD-ROM drives (ATA/ATAPI-6, T13 1410D), with its bus master;
//! `piix` is the PCI function that has two of them.
//!
//! | offset | region | read | write |
//! |---|---|---|---|
//! | 0 | [`COMMAND`] | data, 16 or 32 bits | data |
//! | 1 | | error | features |
//! | 2 | | sector count | sector count |
//! | 3, 4, 5 | | LBA low, mid, high (sector, cylinder low, high) | the same |
//! | 6 | | device | device |
//! | 7 | | status, and acknowledges the interrupt | command |
//! | 0 | [`CONTROL`] | alternate status | device control: SRST, nIEN, HOB |
//! | 0-7 | [`BUS_MASTER`] | command, status, table: see `bus_master` | the same |
//!
//! The channel has the selection, the control register and the interrupt; `drive` has a hard disk's task file and
//! commands, `cdrom` those of a packet device, `identify` what they say of themselves, `bus_master` moves DMA data.
//! To the channel each is a [`Unit`]. A command keeps
//! BSY for a few microseconds of virtual time, then it has its effect; only the first block of a
//! PIO write is asked for at once. An empty channel floats, with DD7 pulled down: it reads 7Fh.
//!
//! A DMA command waits, with DRQ, for a bus master that is started, in the same direction, and let on to the
//! bus by the PCI function; then its sectors move a block at a time.
//!
//! Not modelled: Ultra DMA (a PIIX3 has none), queued commands, security, host protected
//! area, SMART, APM; and SLEEP ends with any command, as standby does.

mod bus_master;
mod cdrom;
mod drive;
mod identify;
pub mod piix;

use platform::{BlockBackend, DeviceCtx, DmaDirection, IrqLine, NoSuchDrive, StateError};
use serde::{Deserialize, Serialize};

use bus_master::BusMaster;
use cdrom::{CdDrive, CdState};
use drive::{Drive, DriveState};

/// Region of the command block: eight ports, of which the first is up to 32 bits wide.
const COMMAND: u8 = 0;
/// Region of the control block: one port.
const CONTROL: u8 = 1;
/// Region of the bus-master registers: eight ports.
const BUS_MASTER: u8 = 2;

const CONTROL_HOB: u8 = 0x80;
const CONTROL_SRST: u8 = 0x04;
const CONTROL_NIEN: u8 = 0x02;

const EXECUTE_DEVICE_DIAGNOSTIC: u8 = 0x90;

/// Virtual time from a command, or a block of data, to its effect.
const COMMAND_NS: u64 = 4_000;
const BLOCK_NS: u64 = 2_000;
/// Virtual time from the end of a software reset to the drives' readiness.
const RESET_NS: u64 = 20_000;

/// Timers 0 and 1 are the drives'.
const RESET_TIMER: u32 = 2;
/// How many timers a channel has.
const TIMERS: u32 = 4;

/// What an empty channel reads as.
const FLOATING: u8 = 0x7F;

/// What is on a cable's connector.
pub enum Attached {
    /// A hard disk.
    Disk(Box<dyn BlockBackend>),
    /// A CD-ROM drive, with what is in it.
    Cdrom(Option<Box<dyn BlockBackend>>),
}

/// A drive, as its channel sees it.
trait Unit: Send {
    /// The status register.
    fn status(&self) -> u8;

    /// Whether it asserts INTRQ.
    fn interrupting(&self) -> bool;

    /// The host has read the status register.
    fn acknowledge(&mut self);

    /// The last command that it took.
    fn last_command(&self) -> u8;

    /// Reads register 1 to 6; `previous`: what it held before, for the 48-bit commands.
    fn read_register(&self, register: u8, previous: bool) -> u8;

    /// Writes register 1 to 6.
    fn write_register(&mut self, register: u8, value: u8);

    /// Takes a command; whether the drive is now busy with it. A transfer under way is given up.
    fn start(&mut self, command: u8) -> bool;

    /// The time of being busy is over.
    fn proceed(&mut self);

    /// Takes up to eight bytes from the buffer; and whether the drive is now busy with the next block.
    fn read_data(&mut self, size: u8) -> (u64, bool);

    /// Puts up to eight bytes into the buffer; whether the drive is now busy with what they are.
    fn write_data(&mut self, size: u8, value: u64) -> bool;

    /// DMARQ: which way data is to go.
    fn dma_request(&self) -> Option<DmaDirection>;

    /// What the bus master has still to move of the current block.
    fn dma_buffer(&mut self) -> &mut [u8];

    /// The bus master has moved `bytes` of the [`dma_buffer`](Self::dma_buffer).
    fn dma_moved(&mut self, bytes: usize);

    /// The software reset begins.
    fn enter_reset(&mut self);

    /// It ends.
    fn leave_reset(&mut self);

    /// The reset wire.
    fn power_on(&mut self);

    /// Somebody changes what is in the drive.
    fn change_medium(&mut self, _medium: Option<Box<dyn BlockBackend>>) -> Result<(), NoSuchDrive> {
        Err(NoSuchDrive)
    }

    /// All of it that is saved.
    fn state(&self) -> UnitState;

    /// Whether a decoded state is one of this drive.
    fn accepts(&self, state: &UnitState) -> bool;

    /// Takes over a state that it [`accepts`](Self::accepts).
    fn set_state(&mut self, state: UnitState);
}

/// The state of a drive.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum UnitState {
    Disk(DriveState),
    Cdrom(CdState),
}

/// One cable: two port ranges, one interrupt, up to two drives.
struct IdeChannel {
    irq: IrqLine,
    /// The first of its timers.
    timers: u32,
    /// The PCI function lets it on to the bus, as it does after a reset.
    may_master: bool,
    drives: [Option<Box<dyn Unit>>; 2],
    control: u8,
    selected: usize,
    bus_master: BusMaster,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ChannelState {
    drives: [Option<UnitState>; 2],
    control: u8,
    selected: u8,
    bus_master: BusMaster,
}

/// The state of a channel as it was when all drives were hard disks.
#[derive(Deserialize)]
struct DisksState {
    drives: [Option<DriveState>; 2],
    control: u8,
    selected: u8,
    bus_master: BusMaster,
}

impl From<DisksState> for ChannelState {
    fn from(state: DisksState) -> Self {
        Self {
            drives: state.drives.map(|drive| drive.map(UnitState::Disk)),
            control: state.control,
            selected: state.selected,
            bus_master: state.bus_master,
        }
    }
}

impl IdeChannel {
    /// A channel with these drives, the first as device 0, and its timers from `timers` on.
    fn new(irq: IrqLine, timers: u32, drives: [Option<Attached>; 2]) -> Self {
        let mut index = 0;
        let drives = drives.map(|attached| {
            let serial = format!("GB{:02}{index:02}", irq.0);
            index += 1;
            attached.map(|attached| -> Box<dyn Unit> {
                match attached {
                    Attached::Disk(disk) => Box::new(Drive::new(disk, serial)),
                    Attached::Cdrom(disc) => Box::new(CdDrive::new(disc, serial)),
                }
            })
        });
        Self {
            irq,
            timers,
            may_master: true,
            drives,
            control: 0,
            selected: 0,
            bus_master: BusMaster::default(),
        }
    }

    fn arm(&self, ctx: &mut DeviceCtx<'_>, timer: u32, delay_ns: u64) {
        ctx.schedule(self.timers + timer, ctx.now_ns() + delay_ns);
    }

    /// The drive whose registers are read: device 0 answers in place of an absent device 1.
    fn responder(&self) -> Option<&dyn Unit> {
        match self.selected {
            1 if self.drives[1].is_some() => self.drives[1].as_deref(),
            _ => self.drives[0].as_deref(),
        }
    }

    fn status(&self) -> u8 {
        match (&self.drives[self.selected], self.responder()) {
            (Some(drive), _) => drive.status(),
            (None, Some(_)) => 0,
            (None, None) => FLOATING,
        }
    }

    fn read_register(&mut self, ctx: &mut DeviceCtx<'_>, register: u64) -> u8 {
        let value = match register & 7 {
            7 => self.status(),
            register => match self.responder() {
                Some(drive) => drive.read_register(register as u8, self.control & CONTROL_HOB != 0),
                None => FLOATING,
            },
        };
        if register & 7 == 7 {
            if let Some(drive) = &mut self.drives[self.selected] {
                drive.acknowledge();
            }
            self.drive_irq(ctx);
        }
        value
    }

    fn write_register(&mut self, ctx: &mut DeviceCtx<'_>, register: u64, value: u8) {
        self.control &= !CONTROL_HOB;
        let register = register as u8 & 7;
        if register == 7 {
            self.command(ctx, value);
            return;
        }
        if register == 6 {
            self.selected = usize::from(value >> 4 & 1);
            self.drive_irq(ctx);
            self.await_dma(ctx);
        }
        for drive in self.drives.iter_mut().flatten() {
            drive.write_register(register, value);
        }
    }

    fn command(&mut self, ctx: &mut DeviceCtx<'_>, command: u8) {
        if self.control & CONTROL_SRST != 0 {
            return;
        }
        if command == EXECUTE_DEVICE_DIAGNOSTIC {
            self.selected = 0;
        }
        for index in 0..2 {
            let addressed = index == self.selected || command == EXECUTE_DEVICE_DIAGNOSTIC;
            let timer = self.timers + index as u32;
            if let Some(drive) = &mut self.drives[index]
                && addressed
            {
                if drive.start(command) {
                    ctx.schedule(timer, ctx.now_ns() + COMMAND_NS);
                } else if drive.status() & drive::STATUS_BSY == 0 {
                    // What was on the way before the command is given up.
                    ctx.cancel(timer);
                }
            }
        }
        self.drive_irq(ctx);
    }

    fn write_control(&mut self, ctx: &mut DeviceCtx<'_>, value: u8) {
        let before = std::mem::replace(
            &mut self.control,
            value & (CONTROL_HOB | CONTROL_SRST | CONTROL_NIEN),
        );
        if value & CONTROL_SRST != 0 {
            for timer in [0, 1, RESET_TIMER] {
                ctx.cancel(self.timers + timer);
            }
            for drive in self.drives.iter_mut().flatten() {
                drive.enter_reset();
            }
            self.selected = 0;
        } else if before & CONTROL_SRST != 0 {
            self.arm(ctx, RESET_TIMER, RESET_NS);
        }
        self.drive_irq(ctx);
    }

    /// INTRQ is the selected drive's, unless the host has disabled it.
    fn drive_irq(&mut self, ctx: &mut DeviceCtx<'_>) {
        let pending = self.drives[self.selected]
            .as_ref()
            .is_some_and(|drive| drive.interrupting());
        let intrq = pending && self.control & CONTROL_NIEN == 0;
        self.bus_master.set_intrq(intrq);
        ctx.set_line(self.irq, intrq);
    }

    /// The selected drive, if it and the bus master are both ready to move data.
    fn dma_ready(&self) -> Option<DmaDirection> {
        let direction = self.drives[self.selected].as_ref()?.dma_request()?;
        let ready = self.bus_master.is_ready(direction) && self.may_master;
        ready.then_some(direction)
    }

    /// Arms the timer of the next block of DMA, if there is one.
    fn await_dma(&self, ctx: &mut DeviceCtx<'_>) {
        if self.dma_ready().is_some() {
            self.arm(ctx, self.selected as u32, BLOCK_NS);
        }
    }

    /// Moves a block of DMA, if that is still possible.
    fn move_block(&mut self, ctx: &mut DeviceCtx<'_>) {
        if let Some(direction) = self.dma_ready()
            && let Some(drive) = &mut self.drives[self.selected]
        {
            let moved = self.bus_master.transfer(ctx, direction, drive.dma_buffer());
            drive.dma_moved(moved);
        }
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8) -> u64 {
        match (region, offset) {
            (COMMAND, 0) => {
                let Some(drive) = &mut self.drives[self.selected] else {
                    return !0;
                };
                let (value, block_ended) = drive.read_data(size);
                if block_ended {
                    self.arm(ctx, self.selected as u32, BLOCK_NS);
                }
                value
            }
            (COMMAND, 1..8) => (0..u64::from(size.min(8))).fold(0, |value, n| {
                let byte = match offset + n {
                    at @ ..8 => self.read_register(ctx, at),
                    _ => 0xFF,
                };
                value | u64::from(byte) << (8 * n)
            }),
            (CONTROL, 0) => self.status().into(),
            (BUS_MASTER, 0..8) => (0..u64::from(size.min(8)).min(8 - offset))
                .fold(0, |value, n| {
                    value | u64::from(self.bus_master.read(offset + n)) << (8 * n)
                }),
            _ => !0,
        }
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64) {
        match (region, offset) {
            (COMMAND, 0) => {
                if let Some(drive) = &mut self.drives[self.selected]
                    && drive.write_data(size, value)
                {
                    self.arm(ctx, self.selected as u32, BLOCK_NS);
                }
            }
            (COMMAND, 1..8) => {
                for n in 0..u64::from(size.min(8)).min(8 - offset) {
                    self.write_register(ctx, offset + n, (value >> (8 * n)) as u8);
                }
            }
            (CONTROL, 0) => self.write_control(ctx, value as u8),
            (BUS_MASTER, 0..8) => {
                for n in 0..u64::from(size.min(8)).min(8 - offset) {
                    self.bus_master.write(offset + n, (value >> (8 * n)) as u8);
                }
                self.await_dma(ctx);
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, timer: u32) {
        if timer == RESET_TIMER {
            for drive in self.drives.iter_mut().flatten() {
                drive.leave_reset();
            }
        } else if let Some(Some(drive)) = self.drives.get_mut(timer as usize) {
            if drive.dma_request().is_some() {
                if timer as usize == self.selected {
                    self.move_block(ctx);
                }
            } else {
                drive.proceed();
                if timer == 1 && drive.last_command() == EXECUTE_DEVICE_DIAGNOSTIC {
                    // Device 0 alone interrupts at the end of the diagnostic.
                    drive.acknowledge();
                }
            }
        }
        self.drive_irq(ctx);
        self.await_dma(ctx);
    }

    /// The PCI function may master the bus, or not any more.
    fn set_may_master(&mut self, ctx: &mut DeviceCtx<'_>, may_master: bool) {
        self.may_master = may_master;
        self.await_dma(ctx);
    }

    /// Somebody changes what is in a drive.
    fn change_medium(
        &mut self,
        drive: usize,
        medium: Option<Box<dyn BlockBackend>>,
    ) -> Result<(), NoSuchDrive> {
        let drive = self.drives.get_mut(drive).and_then(Option::as_mut);
        drive.ok_or(NoSuchDrive)?.change_medium(medium)
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        for timer in [0, 1, RESET_TIMER] {
            ctx.cancel(self.timers + timer);
        }
        for drive in self.drives.iter_mut().flatten() {
            drive.power_on();
        }
        self.control = 0;
        self.selected = 0;
        self.bus_master = BusMaster::default();
        self.drive_irq(ctx);
    }

    fn state(&self) -> ChannelState {
        let [first, second] = &self.drives;
        ChannelState {
            drives: [first, second].map(|drive| drive.as_ref().map(|drive| drive.state())),
            control: self.control,
            selected: self.selected as u8,
            bus_master: self.bus_master.clone(),
        }
    }

    /// Whether a decoded state is one of this channel.
    fn check_state(&self, state: &ChannelState) -> Result<(), StateError> {
        let fits =
            |(drive, state): (&Option<Box<dyn Unit>>, &Option<UnitState>)| match (drive, state) {
                (Some(drive), Some(state)) => drive.accepts(state),
                (None, None) => true,
                _ => false,
            };
        if !self.drives.iter().zip(&state.drives).all(fits) || !state.bus_master.is_sound() {
            return Err(StateError::Unsound("the state is of other drives"));
        }
        Ok(())
    }

    /// Takes over a state that [`check_state`](Self::check_state) has let through.
    fn set_state(&mut self, state: ChannelState) {
        for (drive, state) in self.drives.iter_mut().zip(state.drives) {
            if let (Some(drive), Some(state)) = (drive, state) {
                drive.set_state(state);
            }
        }
        self.control = state.control;
        self.bus_master = state.bus_master;
        self.selected = usize::from(state.selected & 1);
    }
}

#[cfg(test)]
mod tests;
