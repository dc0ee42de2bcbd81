//! ACPI fixed hardware: power management events and control, the PM timer, and the power-off ports of
//! other emulators.
//!
//! Sources: ACPI specification 6.5 chapter 4.8; Intel 82371AB PIIX4 (290562) for the bits.
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`AcpiPm::BLOCK`] | 00-01 from PMBASE | PM1a status, cleared by writing ones |
//! | | 02-03 | PM1a enable |
//! | | 04-05 | PM1a control: SCI_EN (reads 1), GBL_RLS, SLP_TYP, SLP_EN: type 0 is S5, power off |
//! | | 08-0B | the timer: 24 bits at 3.579545 MHz |
//! | | 18-19 | GLBSTS: APM_STS, BIOS_STS, cleared by writing ones |
//! | | 20-21 | GLBEN: BIOS_EN; the rest keeps its value |
//! | | 28-2B | GLBCTL: SMI_EN, BIOS_RLS; the rest keeps its value |
//! | | else up to 3F | read as zeros |
//! | [`AcpiPm::BOCHS_OFF`] | B004-B005 | power off when 2000h is written |
//! | [`AcpiPm::VIRTUALBOX_OFF`] | 4004-4005 | power off when 3400h is written |
//! | [`AcpiPm::SHUTDOWN`] | 8900 | power off after the bytes "Shutdown" |
//!
//! The PCI function [`piix4`](crate::pci::piix4) has PMBASE. The timer is computed from virtual
//! time. SCI is IRQ 9, a level. RTC_STS follows IRQ 8, which the board connects, and PWRBTN_STS
//! [`Input::PowerButton`]. ACPI is always on, so no SMI has to hand over from a BIOS.
//!
//! An SMI comes of a write to the APM control port while DEVACTB.APMC_EN is set, and of GBL_RLS while BIOS_EN is; of
//! either while SMI_EN is. The wire stays high until the processor has taken it. Not modelled: sleep states but S5,
//! GPEs, other sources of SMIs, and EOS, by which a handler lets the next SMI in: SeaBIOS does not set it, and here RSM
//! lets it in.

use log::{debug, warn};
use platform::{
    Device, DeviceCtx, Input, IrqLine, MachineRequest, SavedState, StateError, StateView,
};
use serde::{Deserialize, Serialize};

use super::ApmWires;

const TARGET: &str = "acpi_pm";
const TIMER_OVERFLOW: u32 = 0;

const TMR: u16 = 1 << 0;
const GBL: u16 = 1 << 5;
const PWRBTN: u16 = 1 << 8;
const SLPBTN: u16 = 1 << 9;
const RTC: u16 = 1 << 10;
/// The events that raise SCI while enabled.
const EVENTS: u16 = TMR | GBL | PWRBTN | SLPBTN | RTC;

const SCI_EN: u16 = 1 << 0;
const GBL_RLS: u16 = 1 << 2;
const SLP_TYP: u16 = 7 << 10;
const SLP_EN: u16 = 1 << 13;

/// GLBSTS.
const APM_STS: u16 = 1 << 5;
const BIOS_STS: u16 = 1 << 0;
/// GLBEN.
const BIOS_EN: u16 = 1 << 1;
/// GLBCTL.
const SMI_EN: u32 = 1 << 0;
const BIOS_RLS: u32 = 1 << 1;

const TIMER_MASK: u64 = 0xFF_FFFF;
/// TMR_STS is set whenever bit 23 changes.
const OVERFLOW_TICKS: u64 = 1 << 23;
/// A tick is 88000/315 ns.
const NS_PER_315_TICKS: u128 = 88_000;

fn tick_at(now_ns: u64) -> u64 {
    (u128::from(now_ns) * 315 / NS_PER_315_TICKS) as u64
}

fn ns_of(tick: u64) -> u64 {
    u64::try_from((u128::from(tick) * NS_PER_315_TICKS).div_ceil(315)).unwrap_or(u64::MAX)
}

/// The registers, and the wires that make SMIs.
#[derive(Clone, Debug)]
pub struct AcpiPm {
    registers: Registers,
    wires: ApmWires,
}

/// The registers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Registers {
    status: u16,
    enable: u16,
    control: u16,
    /// Changes of the timer's bit 23 that TMR_STS has seen.
    overflows_seen: u64,
    /// How much of "Shutdown" has been written.
    shutdown_bytes: u8,
    global_status: u16,
    global_enable: u16,
    global_control: u32,
}

impl Registers {
    const VERSION: u32 = 2;

    /// Version 1 had no global registers.
    fn from_1(state: &SavedState) -> Result<Self, StateError> {
        let (status, enable, control, overflows_seen, shutdown_bytes) = state.decode(1)?;
        Ok(Self {
            status,
            enable,
            control,
            overflows_seen,
            shutdown_bytes,
            ..Self::default()
        })
    }

    /// Sets TMR_STS if the timer has overflowed since last time.
    fn sync(&mut self, now_ns: u64) {
        let overflows = tick_at(now_ns) / OVERFLOW_TICKS;
        if overflows != self.overflows_seen {
            self.overflows_seen = overflows;
            self.status |= TMR;
        }
    }

    /// Status and enable as one 32-bit register, which wider and narrower accesses address by bytes.
    fn event_register(&self) -> u32 {
        u32::from(self.status) | u32::from(self.enable) << 16
    }

    fn write_event(&mut self, value: u32, mask: u32) {
        self.status &= !(value as u16);
        let enable_mask = (mask >> 16) as u16;
        self.enable = self.enable & !enable_mask | (value >> 16) as u16 & enable_mask & EVENTS;
    }
}

impl AcpiPm {
    /// Region: the registers that PMBASE places.
    pub const BLOCK: u8 = 0;
    /// How many ports those take.
    pub const BLOCK_LEN: u16 = 64;
    /// Region: the power-off port of Bochs and old QEMU.
    pub const BOCHS_OFF: u8 = 1;
    /// Region: the power-off port of VirtualBox.
    pub const VIRTUALBOX_OFF: u8 = 2;
    /// Region: the shutdown port of Bochs' BIOS.
    pub const SHUTDOWN: u8 = 3;

    /// Where a PC has the others: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[
        (Self::BOCHS_OFF, 0xB004, 2, 2),
        (Self::VIRTUALBOX_OFF, 0x4004, 2, 2),
        (Self::SHUTDOWN, 0x8900, 1, 1),
    ];

    const SCI: IrqLine = IrqLine::isa(9);

    /// The registers after power-on.
    pub fn new(wires: ApmWires) -> Self {
        Self {
            registers: Registers::default(),
            wires,
        }
    }

    fn drive(&mut self, ctx: &mut DeviceCtx<'_>) {
        let registers = &self.registers;
        ctx.set_line(Self::SCI, registers.status & registers.enable & EVENTS != 0);
        if registers.enable & !registers.status & TMR != 0 {
            ctx.schedule(
                TIMER_OVERFLOW,
                ns_of((registers.overflows_seen + 1) * OVERFLOW_TICKS),
            );
        } else {
            ctx.cancel(TIMER_OVERFLOW);
        }
    }

    fn power_off(ctx: &mut DeviceCtx<'_>, how: &str) {
        debug!(target: TARGET, "power off through {how}");
        ctx.request(MachineRequest::PowerOff);
    }

    fn write_control(&mut self, ctx: &mut DeviceCtx<'_>, value: u16) {
        self.registers.control = value & SLP_TYP;
        if value & GBL_RLS != 0 {
            self.registers.global_status |= BIOS_STS;
            let enabled = self.registers.global_enable & BIOS_EN != 0;
            self.raise_smi(ctx, enabled);
        }
        if value & SLP_EN != 0 {
            match value & SLP_TYP {
                0 => Self::power_off(ctx, "S5"),
                other => warn!(target: TARGET, "sleep type {} is not there", other >> 10),
            }
        }
    }

    fn raise_smi(&self, ctx: &mut DeviceCtx<'_>, enabled: bool) {
        if enabled && self.registers.global_control & SMI_EN != 0 {
            ctx.set_line(IrqLine::SMI, true);
        }
    }

    /// A write to one of the registers behind the timer, which wider and narrower accesses address by bytes.
    fn write_global(&mut self, ctx: &mut DeviceCtx<'_>, offset: u64, value: u32, mask: u32) {
        let registers = &mut self.registers;
        match offset & !3 {
            0x18 => registers.global_status &= !(value as u16),
            0x20 => {
                let mask = mask as u16;
                registers.global_enable = registers.global_enable & !mask | value as u16;
            }
            0x28 => {
                let kept = registers.global_control & !mask;
                registers.global_control = (kept | value) & !BIOS_RLS;
                if value & BIOS_RLS != 0 {
                    registers.status |= GBL;
                    registers.sync(ctx.now_ns());
                    self.drive(ctx);
                }
            }
            _ => {}
        }
    }

    fn write_magic(ctx: &mut DeviceCtx<'_>, offset: u64, size: u8, value: u64, magic: u16) {
        if offset == 0 && size >= 2 && value as u16 == magic {
            Self::power_off(ctx, "another emulator's port");
        }
    }

    fn write_shutdown(&mut self, ctx: &mut DeviceCtx<'_>, byte: u8) {
        const WORD: &[u8] = b"Shutdown";
        self.registers.shutdown_bytes =
            if WORD.get(usize::from(self.registers.shutdown_bytes)) == Some(&byte) {
                self.registers.shutdown_bytes + 1
            } else {
                u8::from(byte == WORD[0])
            };
        if usize::from(self.registers.shutdown_bytes) == WORD.len() {
            self.registers.shutdown_bytes = 0;
            Self::power_off(ctx, "the word \"Shutdown\"");
        }
    }
}

impl Device for AcpiPm {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8) -> u64 {
        let registers = &mut self.registers;
        let register = match (region, offset & !3) {
            (Self::BLOCK, 0x00) => {
                registers.sync(ctx.now_ns());
                let register = registers.event_register();
                self.drive(ctx);
                register.into()
            }
            (Self::BLOCK, 0x04) => (registers.control | SCI_EN).into(),
            (Self::BLOCK, 0x08) => tick_at(ctx.now_ns()) & TIMER_MASK,
            (Self::BLOCK, 0x18) => registers.global_status.into(),
            (Self::BLOCK, 0x20) => registers.global_enable.into(),
            (Self::BLOCK, 0x28) => registers.global_control.into(),
            (Self::BLOCK | Self::BOCHS_OFF | Self::VIRTUALBOX_OFF, _) => 0,
            _ => !0,
        };
        register >> ((offset & 3) * 8)
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64) {
        let shift = (offset & 3) * 8;
        let mask = (!0u64 >> (64 - u32::from(size.clamp(1, 8)) * 8)) << shift;
        let shifted = (value << shift & mask) as u32;
        match (region, offset) {
            (Self::BLOCK, 0..=3) => {
                self.registers.sync(ctx.now_ns());
                self.registers.write_event(shifted, mask as u32);
                self.drive(ctx);
            }
            (Self::BLOCK, 4..=5) => {
                let control = self.registers.control;
                let value = match (offset & 1, size) {
                    (0, 1) => control & 0xFF00 | value as u16 & 0xFF,
                    (0, _) => value as u16,
                    _ => control & 0x00FF | (value as u16) << 8,
                };
                self.write_control(ctx, value);
            }
            (Self::BLOCK, _) => self.write_global(ctx, offset, shifted, mask as u32),
            (Self::BOCHS_OFF, _) => Self::write_magic(ctx, offset, size, value, 0x2000),
            (Self::VIRTUALBOX_OFF, _) => Self::write_magic(ctx, offset, size, value, 0x3400),
            (Self::SHUTDOWN, _) => self.write_shutdown(ctx, value as u8),
            _ => {}
        }
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, _timer: u32) {
        self.registers.sync(ctx.now_ns());
        self.drive(ctx);
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        const IRQ8: IrqLine = IrqLine::isa(8);
        match *input {
            Input::PowerButton => self.registers.status |= PWRBTN,
            Input::Line {
                line: IRQ8,
                level: true,
            } => self.registers.status |= RTC,
            Input::Line { line, level: true } if line == self.wires.written => {
                if ctx.line(self.wires.enabled) {
                    self.registers.global_status |= APM_STS;
                    self.raise_smi(ctx, true);
                }
                return;
            }
            Input::Line {
                line: IrqLine::SMIACT,
                level: true,
            } => {
                ctx.set_line(IrqLine::SMI, false);
                return;
            }
            _ => return,
        }
        self.registers.sync(ctx.now_ns());
        self.drive(ctx);
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.registers = Registers {
            // The timer runs on: what it did before the reset is no event after it.
            overflows_seen: tick_at(ctx.now_ns()) / OVERFLOW_TICKS,
            ..Registers::default()
        };
        ctx.set_line(IrqLine::SMI, false);
        self.drive(ctx);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Registers::VERSION, &self.registers)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.registers = state.decode_or_migrate(Registers::VERSION, &[(1, Registers::from_1)])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::{advance, bus_with_regions};
    use platform::{Bus, DeviceId};

    const WIRES: ApmWires = ApmWires {
        written: IrqLine(40),
        enabled: IrqLine(41),
    };

    platform::device_contract!(
        contract,
        AcpiPm::new(WIRES),
        [
            (AcpiPm::BLOCK, 64, 4),
            (AcpiPm::BOCHS_OFF, 2, 2),
            (AcpiPm::VIRTUALBOX_OFF, 2, 2),
            (AcpiPm::SHUTDOWN, 1, 1)
        ],
        survives_reset
    );

    fn pm() -> Bus {
        let mut bus = bus_with_regions(Box::new(AcpiPm::new(WIRES)), AcpiPm::MAP);
        bus.map_ports(DeviceId(0), AcpiPm::BLOCK, 0x600, AcpiPm::BLOCK_LEN, 4);
        bus.connect(IrqLine::isa(8), DeviceId(0));
        WIRES.connect(&mut bus, DeviceId(0));
        bus
    }

    /// A write to the APM control port.
    fn write_apmc(bus: &mut Bus) {
        bus.drive(WIRES.written, true);
        bus.drive(WIRES.written, false);
    }

    #[test]
    fn a_write_to_the_apm_port_is_an_smi_where_both_enables_are_set() {
        let mut bus = pm();
        let smi = |bus: &Bus| bus.lines.level(IrqLine::SMI);
        bus.pio_write(0x628, 4, 1);
        write_apmc(&mut bus);
        assert!(!smi(&bus));
        assert_eq!(bus.pio_read(0x618, 2), 0);
        bus.drive(WIRES.enabled, true);
        write_apmc(&mut bus);
        assert!(smi(&bus));
        assert_eq!(bus.pio_read(0x618, 2), 0x0020);
        bus.drive(IrqLine::SMIACT, true);
        assert!(!smi(&bus), "it was taken");
        write_apmc(&mut bus);
        bus.drive(IrqLine::SMIACT, false);
        assert!(smi(&bus), "another one waits");
        bus.pio_write(0x618, 1, 0x20);
        assert_eq!(bus.pio_read(0x618, 2), 0);
        bus.drive(IrqLine::SMIACT, true);
        bus.pio_write(0x628, 1, 0);
        write_apmc(&mut bus);
        assert!(!smi(&bus));
        assert_eq!(bus.pio_read(0x618, 1), 0x20, "the status is set anyway");
    }

    #[test]
    fn system_and_bios_call_each_other() {
        let mut bus = pm();
        bus.pio_write(0x604, 2, 0x0004);
        assert_eq!(bus.pio_read(0x618, 2), 0x0001);
        assert!(!bus.lines.level(IrqLine::SMI));
        assert_eq!(bus.pio_read(0x604, 2), 0x0001, "GBL_RLS reads 0");
        bus.pio_write(0x620, 2, 0x0002);
        bus.pio_write(0x628, 4, 0x0001_0001);
        bus.pio_write(0x604, 2, 0x0004);
        assert!(bus.lines.level(IrqLine::SMI));
        bus.pio_write(0x602, 2, GBL.into());
        bus.pio_write(0x628, 1, 0x03);
        assert!(sci(&bus));
        assert_eq!(bus.pio_read(0x628, 4), 0x0001_0001);
        bus.reset();
        assert!(!bus.lines.level(IrqLine::SMI));
        assert_eq!(bus.pio_read(0x628, 4), 0);
    }

    #[test]
    fn a_state_without_global_registers_is_read() {
        let old = SavedState::encode(1, &(TMR, GBL, SLP_TYP, 7u64, 3u8));
        let mut chip = AcpiPm::new(WIRES);
        chip.restore(&old).unwrap();
        assert_eq!(chip.registers.overflows_seen, 7);
        assert_eq!(chip.registers.global_control, 0);
    }

    fn sci(bus: &Bus) -> bool {
        bus.lines.level(IrqLine::isa(9))
    }

    #[test]
    fn the_timer_counts_3_579_545_a_second_in_24_bits() {
        let mut bus = pm();
        advance(&mut bus, 1_000_000_000);
        assert_eq!(bus.pio_read(0x608, 4), 3_579_545);
        advance(&mut bus, 4_000_000_000);
        assert_eq!(bus.pio_read(0x608, 4), 17_897_727 - (1 << 24));
        assert_eq!(bus.pio_read(0x60A, 1), (17_897_727 - (1 << 24)) >> 16);
    }

    #[test]
    fn bit_23_sets_tmr_sts_and_raises_sci_if_enabled() {
        let mut bus = pm();
        let half_ns = ns_of(OVERFLOW_TICKS);
        bus.pio_write(0x602, 2, 0x0001);
        advance(&mut bus, half_ns - 1);
        assert!(!sci(&bus));
        advance(&mut bus, 1);
        assert!(sci(&bus));
        assert_eq!(bus.pio_read(0x600, 2), 0x0001);
        bus.pio_write(0x600, 2, 0x0001);
        assert!(!sci(&bus));
        bus.pio_write(0x602, 2, 0x0000);
        advance(&mut bus, half_ns);
        assert!(!sci(&bus));
        assert_eq!(bus.pio_read(0x600, 4), 0x0001, "the status is set anyway");
        assert_eq!(bus.events.next_deadline_ns(), None);
    }

    #[test]
    fn the_power_button_and_the_clock_raise_sci() {
        let mut bus = pm();
        bus.input(DeviceId(0), &Input::PowerButton);
        assert!(!sci(&bus));
        bus.pio_write(0x602, 2, 0x0500);
        assert!(sci(&bus));
        bus.pio_write(0x601, 1, 0x01);
        assert!(!sci(&bus));
        bus.lines.set(DeviceId(9), IrqLine::isa(8), true);
        bus.pio_read(0x604, 2);
        assert!(sci(&bus));
        assert_eq!(bus.pio_read(0x600, 2), 0x0400);
    }

    #[test]
    fn sleep_type_0_powers_off_and_sci_en_reads_1() {
        let mut bus = pm();
        assert_eq!(bus.pio_read(0x604, 2), 0x0001);
        bus.pio_write(0x604, 2, 0x0000);
        bus.pio_write(0x604, 2, 0x2400);
        assert_eq!(bus.request, None);
        bus.pio_write(0x604, 2, 0x2001);
        assert_eq!(bus.request, Some(MachineRequest::PowerOff));
    }

    #[test]
    fn the_ports_of_other_emulators_power_off() {
        for (port, magic) in [(0xB004, 0x2000), (0x4004, 0x3400)] {
            let mut bus = pm();
            bus.pio_write(port, 2, 0x1234);
            assert_eq!(bus.request, None);
            bus.pio_write(port, 2, magic);
            assert_eq!(bus.request, Some(MachineRequest::PowerOff));
        }
        let mut bus = pm();
        for byte in *b"ShutShutdow" {
            bus.pio_write(0x8900, 1, byte.into());
        }
        assert_eq!(bus.request, None);
        bus.pio_write(0x8900, 1, b'n'.into());
        assert_eq!(bus.request, Some(MachineRequest::PowerOff));
    }
}
