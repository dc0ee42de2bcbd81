//! The IDE function of an Intel 82371SB (PIIX3): two channels at their old ports, with bus mastering.
//!
//! Source: Intel 82371SB PIIX3 (290550).
//!
//! | region | ports | what |
//! |---|---|---|
//! | 8, 9 | 1F0-1F7, 3F6 | command and control block of the primary channel |
//! | 10, 11 | 170-177, 376 | those of the secondary one |
//! | 4 | base address 4 | bus-master registers, eight ports a channel |
//!
//! Not modelled: that IDETIM can switch the old ports off.

use platform::{
    BlockBackend, Bus, DeviceId, IrqLine, NoSuchDrive, SavedState, StateError, StateView,
};

use super::{Attached, BUS_MASTER, COMMAND, CONTROL, ChannelState, DisksState, IdeChannel, TIMERS};
use crate::pci::config_space::{self, Bar, COMMAND_IO, COMMAND_MASTER};
use crate::pci::{Bdf, ConfigSpace, PciCtx, PciDevice, PciFunction};

/// BMIBA.
const BUS_MASTER_BAR: u8 = 4;
/// The first region of what lies at the old ports.
const LEGACY: u8 = 8;

/// The old ports of a channel: region behind [`LEGACY`], first port, number of ports, widest access.
const PORTS: [(u8, u16, u16, u8); 4] = [
    (LEGACY, 0x1F0, 8, 4),
    (LEGACY + 1, 0x3F6, 1, 1),
    (LEGACY + 2, 0x170, 8, 4),
    (LEGACY + 3, 0x376, 1, 1),
];

const STATE_VERSION: u32 = 4;
/// Before there were CD-ROM drives.
const DISKS_VERSION: u32 = 3;

/// The chip.
pub struct PiixIde {
    channels: [IdeChannel; 2],
}

/// Units 0 and 1 are the primary channel's.
pub type Drives = [Option<Attached>; 4];

/// What is saved: the channels, and whether they may master the bus.
type State = ([ChannelState; 2], bool);

impl PiixIde {
    /// The function with these drives.
    ///
    /// What a BIOS assigns is assigned: the base address is C000h, and I/O and bus mastering are enabled.
    pub fn device(drives: Drives) -> PciDevice<Self> {
        let config = ConfigSpace::new(0x8086, 0x7010, 0x01_01_80, 0x00)
            .bar(BUS_MASTER_BAR, Bar::Ports(16))
            .bus_master()
            .with(
                config_space::COMMAND,
                &[COMMAND_IO | COMMAND_MASTER, 0x00, 0x80, 0x02],
            )
            .with(0x20, &[0x01, 0xC0])
            // IDETIM, with both channels' decode on, and SIDETIM.
            .with(0x40, &[0x00, 0x80, 0x00, 0x80])
            .clearable(0x07, &[0x38])
            .writable(0x0D, &[0xF0])
            .writable(0x40, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        let [first, second, third, fourth] = drives;
        let chip = Self {
            channels: [
                IdeChannel::new(IrqLine::isa(14), 0, [first, second]),
                IdeChannel::new(IrqLine::isa(15), TIMERS, [third, fourth]),
            ],
        };
        PciDevice::new(config, chip)
    }

    /// Puts the function on the bus, as function 1 of the bridge's device.
    pub fn plug(bus: &mut Bus, drives: Drives, bdf: Bdf) -> DeviceId {
        let id = Self::device(drives).plug(bus, "ide", bdf);
        for (region, base, len, width) in PORTS {
            bus.map_ports(id, region, base, len, width);
        }
        id
    }
}

/// Channel and its own region and offset of an access.
fn place(region: u8, offset: u64) -> Option<(usize, u8, u64)> {
    match region {
        BUS_MASTER_BAR if offset < 16 => Some((offset as usize / 8, BUS_MASTER, offset % 8)),
        LEGACY.. if region < LEGACY + 4 => {
            let region = region - LEGACY;
            let kind = if region.is_multiple_of(2) {
                COMMAND
            } else {
                CONTROL
            };
            Some((usize::from(region / 2), kind, offset))
        }
        _ => None,
    }
}

impl PciFunction for PiixIde {
    fn name(&self) -> &'static str {
        "ide"
    }

    fn read(&mut self, ctx: &mut PciCtx<'_, '_>, region: u8, offset: u64, size: u8) -> u64 {
        match place(region, offset) {
            Some((channel, region, offset)) => {
                self.channels[channel].read(ctx, region, offset, size)
            }
            None => !0,
        }
    }

    fn write(&mut self, ctx: &mut PciCtx<'_, '_>, region: u8, offset: u64, size: u8, value: u64) {
        if let Some((channel, region, offset)) = place(region, offset) {
            self.channels[channel].write(ctx, region, offset, size, value);
        }
    }

    fn on_timer(&mut self, ctx: &mut PciCtx<'_, '_>, timer: u32) {
        if let Some(channel) = self.channels.get_mut((timer / TIMERS) as usize) {
            channel.on_timer(ctx, timer % TIMERS);
        }
    }

    fn on_config(&mut self, ctx: &mut PciCtx<'_, '_>) {
        let may_master = ctx.config.may_master();
        for channel in &mut self.channels {
            channel.set_may_master(ctx, may_master);
        }
    }

    fn change_medium(
        &mut self,
        _: &mut PciCtx<'_, '_>,
        unit: usize,
        medium: Option<Box<dyn BlockBackend>>,
    ) -> Result<(), NoSuchDrive> {
        let channel = self.channels.get_mut(unit / 2).ok_or(NoSuchDrive)?;
        channel.change_medium(unit % 2, medium)
    }

    fn reset(&mut self, ctx: &mut PciCtx<'_, '_>) {
        for channel in &mut self.channels {
            channel.reset(ctx);
        }
    }

    fn state(&self) -> StateView<'_> {
        let channels = self.channels.each_ref().map(IdeChannel::state);
        let may_master = self.channels[0].may_master;
        StateView::of(STATE_VERSION, (channels, may_master))
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let (channels, may_master): State =
            state.decode_or_migrate(STATE_VERSION, &[(DISKS_VERSION, from_disks)])?;
        for (channel, state) in self.channels.iter().zip(&channels) {
            channel.check_state(state)?;
        }
        for (channel, state) in self.channels.iter_mut().zip(channels) {
            channel.set_state(state);
            channel.may_master = may_master;
        }
        Ok(())
    }
}

/// A state of the version whose drives were all hard disks.
fn from_disks(state: &SavedState) -> Result<State, StateError> {
    let (channels, may_master): ([DisksState; 2], bool) = state.decode(DISKS_VERSION)?;
    Ok((channels.map(ChannelState::from), may_master))
}
