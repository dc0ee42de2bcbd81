//! Motorola MC146818A real-time clock, with 128 bytes of CMOS memory and the NMI mask of a PC/AT.
//!
//! Datasheet: Motorola MC146818A (1984); IBM PC AT Technical Reference for ports and the century byte.
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`Mc146818::PORTS`] | 70 | index (bits 6-0), NMI mask (bit 7); reads as FF |
//! | | 71 | the register or memory byte at the index |
//!
//! 00-09 time and alarm, 0A-0D registers A to D, 32h century, the rest is memory. The date starts from
//! the board's configuration and runs on virtual time. UIP is set for 2228 µs before the second ends
//! (tBUC + tUC); the registers change, and UF and AF are set, as it falls. IRQ 8 is one wire for the
//! periodic, alarm and update interrupts; while no enabled interrupt can come, no timer runs.
//!
//! The time is kept in binary and translated on access, so that switching DM or 24/12 does not
//! garble it as on the chip. Not modelled: SQW, daylight saving (DSE), the divider's 4 and 1 MHz bases.

use log::{debug, trace};
use platform::{Device, DeviceCtx, Input, IrqLine, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "mc146818";
const TIMER: u32 = 0;

const SECOND_NS: u64 = 1_000_000_000;
/// tBUC (244 µs) and tUC (1984 µs).
const UPDATE_NS: u64 = 2_228_000;
const CRYSTAL_HZ: u64 = 32_768;

const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES: u8 = 0x02;
const MINUTES_ALARM: u8 = 0x03;
const HOURS: u8 = 0x04;
const HOURS_ALARM: u8 = 0x05;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REGISTER_A: u8 = 0x0A;
const REGISTER_B: u8 = 0x0B;
const REGISTER_C: u8 = 0x0C;
const REGISTER_D: u8 = 0x0D;
const CENTURY: u8 = 0x32;

const A_UIP: u8 = 0x80;
const A_DV: u8 = 0x70;
const A_DV_32KHZ: u8 = 0x20;
const B_SET: u8 = 0x80;
const B_UIE: u8 = 0x10;
const B_DM: u8 = 0x04;
const B_24H: u8 = 0x02;
/// PIE, AIE and UIE of register B are at the places of PF, AF and UF of register C.
const ENABLES: u8 = 0x70;
const PF: u8 = 0x40;
const AF: u8 = 0x20;
const UF: u8 = 0x10;
const IRQF: u8 = 0x80;
const D_VRT: u8 = 0x80;
const ALARM_DONT_CARE: u8 = 0xC0;

/// Date and time in binary; `weekday` 1 is Sunday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Calendar {
    second: u8,
    minute: u8,
    hour: u8,
    weekday: u8,
    day: u8,
    month: u8,
    year: u8,
    century: u8,
}

impl Calendar {
    fn from_unix(unix: i64) -> Self {
        let days = unix.div_euclid(86_400);
        let rest = unix.rem_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        Self {
            second: (rest % 60) as u8,
            minute: (rest / 60 % 60) as u8,
            hour: (rest / 3600) as u8,
            // 1 January 1970 was a Thursday.
            weekday: ((days + 4).rem_euclid(7) + 1) as u8,
            day,
            month,
            year: year.rem_euclid(100) as u8,
            century: year.div_euclid(100).rem_euclid(100) as u8,
        }
    }

    fn to_unix(&self) -> i64 {
        let year = i64::from(self.century) * 100 + i64::from(self.year);
        days_from_civil(year, self.month.into(), self.day.into()) * 86_400
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }

    /// `seconds` later. The day of the week counts on from whatever it was set to.
    fn later(&self, seconds: u64) -> Self {
        let before = self.to_unix();
        let after = before.saturating_add(seconds.min(1 << 40) as i64);
        let days = after.div_euclid(86_400) - before.div_euclid(86_400);
        Self {
            weekday: ((i64::from(self.weekday) + 6 + days).rem_euclid(7) + 1) as u8,
            ..Self::from_unix(after)
        }
    }
}

/// Days from 1 January 1970 to a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The Gregorian date that is `days` after 1 January 1970.
fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month as u8, day as u8)
}

/// All that is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    index: u8,
    nmi_masked: bool,
    a: u8,
    b: u8,
    /// PF, AF and UF.
    flags: u8,
    time: Calendar,
    /// The virtual time at which the present second began.
    second_ns: u64,
    /// Cycles of the 32768 Hz crystal that PF has been looked at for.
    periodic_seen: u64,
    /// Alarm registers and memory, at their indexes.
    memory: Vec<u8>,
}

impl State {
    fn running(&self) -> bool {
        self.b & B_SET == 0 && self.a & A_DV == A_DV_32KHZ
    }

    fn counting(&self) -> bool {
        self.a & A_DV == A_DV_32KHZ
    }

    fn encode(&self, value: u8) -> u8 {
        if self.b & B_DM != 0 {
            value
        } else {
            ((value / 10) << 4) | (value % 10)
        }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.b & B_DM != 0 {
            value
        } else {
            (value >> 4).wrapping_mul(10).wrapping_add(value & 15)
        }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.b & B_24H != 0 {
            return self.encode(hour);
        }
        // The register holds whatever a guest wrote in 24-hour mode, 255 for example.
        let pm = if hour >= 12 { 0x80 } else { 0 };
        self.encode((hour % 12 + 11) % 12 + 1) | pm
    }

    fn decode_hour(&self, value: u8) -> u8 {
        if self.b & B_24H != 0 {
            return self.decode(value);
        }
        let pm = if value & 0x80 != 0 { 12 } else { 0 };
        self.decode(value & 0x7F) % 12 + pm
    }

    fn byte(&self, index: u8) -> u8 {
        self.memory[usize::from(index & 0x7F)]
    }

    fn alarm_matches(&self, time: &Calendar) -> bool {
        let matches = |index: u8, now: u8| {
            let alarm = self.byte(index);
            alarm & ALARM_DONT_CARE == ALARM_DONT_CARE || alarm == now
        };
        matches(SECONDS_ALARM, self.encode(time.second))
            && matches(MINUTES_ALARM, self.encode(time.minute))
            && matches(HOURS_ALARM, self.encode_hour(time.hour))
    }

    /// Crystal cycles of one period of the periodic interrupt; `None` when it is off.
    fn period_cycles(&self) -> Option<u64> {
        match self.a & 0x0F {
            0 => None,
            // 1 and 2 repeat 8 and 9 with a 32 kHz crystal.
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    /// Brings time and flags to `now_ns`.
    fn sync(&mut self, now_ns: u64) {
        let cycles = cycles_at(now_ns);
        if !self.counting() {
            self.second_ns = now_ns;
            self.periodic_seen = cycles;
            return;
        }
        if let Some(period) = self.period_cycles()
            && cycles / period != self.periodic_seen / period
        {
            self.flags |= PF;
        }
        self.periodic_seen = cycles;
        let seconds = now_ns.saturating_sub(self.second_ns) / SECOND_NS;
        self.second_ns += seconds * SECOND_NS;
        if seconds > 0 && self.running() {
            // An alarm recurs at least daily, so nothing is gained by looking at more than a day.
            let mut time = self.time.later(seconds.saturating_sub(86_400));
            for _ in 0..seconds.min(86_400) {
                time = time.later(1);
                if self.flags & AF == 0 && self.alarm_matches(&time) {
                    self.flags |= AF;
                }
            }
            self.time = time;
            self.flags |= UF;
        }
    }

    fn update_in_progress(&self, now_ns: u64) -> bool {
        self.running() && now_ns.saturating_sub(self.second_ns) >= SECOND_NS - UPDATE_NS
    }

    /// When the next interrupt that is enabled, and not yet flagged, may come.
    fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        let wanted = self.b & ENABLES & !self.flags;
        if wanted == 0 || !self.counting() {
            return None;
        }
        let periodic = self
            .period_cycles()
            .filter(|_| wanted & PF != 0)
            .map(|period| ns_of_cycle((cycles_at(now_ns) / period + 1) * period));
        let second =
            (wanted & (AF | UF) != 0 && self.running()).then_some(self.second_ns + SECOND_NS);
        periodic.into_iter().chain(second).min()
    }
}

fn cycles_at(now_ns: u64) -> u64 {
    (u128::from(now_ns) * u128::from(CRYSTAL_HZ) / u128::from(SECOND_NS)) as u64
}

fn ns_of_cycle(cycle: u64) -> u64 {
    let ns = (u128::from(cycle) * u128::from(SECOND_NS)).div_ceil(u128::from(CRYSTAL_HZ));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// The clock and the CMOS memory.
#[derive(Clone, Debug)]
pub struct Mc146818 {
    state: State,
    /// While this wire is high, IRQ 8 is another's.
    replaced: Option<IrqLine>,
}

impl Mc146818 {
    /// Region: index and data.
    pub const PORTS: u8 = 0;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[(Self::PORTS, 0x70, 2, 1)];

    const VERSION: u32 = 1;
    const IRQ: IrqLine = IrqLine::isa(8);

    /// A clock that shows `start_unix` (seconds since 1970, UTC) at virtual time zero, with the bytes
    /// of `cmos`, pairs of index and value, in its memory.
    pub fn new(start_unix: i64, cmos: &[(u8, u8)]) -> Self {
        let mut memory = vec![0; 128];
        for &(index, value) in cmos {
            memory[usize::from(index & 0x7F)] = value;
        }
        Self {
            state: State {
                index: 0,
                nmi_masked: false,
                a: 0x26,
                b: B_24H,
                flags: 0,
                time: Calendar::from_unix(start_unix),
                second_ns: 0,
                periodic_seen: 0,
                memory,
            },
            replaced: None,
        }
    }

    /// Leaves IRQ 8 to another while wire `line`, which is connected to this device, is high.
    pub fn replaced_by(mut self, line: IrqLine) -> Self {
        self.replaced = Some(line);
        self
    }

    /// Whether bit 7 of port 70 masks the NMI.
    pub fn nmi_masked(&self) -> bool {
        self.state.nmi_masked
    }

    fn drive(&mut self, ctx: &mut DeviceCtx<'_>) {
        let state = &self.state;
        let mine = self.replaced.is_none_or(|line| !ctx.line(line));
        ctx.set_line(Self::IRQ, mine && state.b & state.flags & ENABLES != 0);
        match state.next_event_ns(ctx.now_ns()) {
            Some(deadline_ns) => ctx.schedule(TIMER, deadline_ns),
            None => ctx.cancel(TIMER),
        }
    }

    fn read_register(&mut self, now_ns: u64) -> u8 {
        let state = &mut self.state;
        match state.index {
            SECONDS => state.encode(state.time.second),
            MINUTES => state.encode(state.time.minute),
            HOURS => state.encode_hour(state.time.hour),
            WEEKDAY => state.encode(state.time.weekday),
            DAY => state.encode(state.time.day),
            MONTH => state.encode(state.time.month),
            YEAR => state.encode(state.time.year),
            CENTURY => state.encode(state.time.century),
            REGISTER_A if state.update_in_progress(now_ns) => state.a | A_UIP,
            REGISTER_A => state.a,
            REGISTER_B => state.b,
            REGISTER_C => {
                let requests = state.b & state.flags & ENABLES != 0;
                let value = state.flags | if requests { IRQF } else { 0 };
                state.flags = 0;
                value
            }
            REGISTER_D => D_VRT,
            index => state.byte(index),
        }
    }

    fn write_register(&mut self, now_ns: u64, value: u8) {
        let state = &mut self.state;
        debug!(target: TARGET, "register {:02x} = {value:02x}", state.index);
        match state.index {
            SECONDS => state.time.second = state.decode(value),
            MINUTES => state.time.minute = state.decode(value),
            HOURS => state.time.hour = state.decode_hour(value),
            WEEKDAY => state.time.weekday = state.decode(value),
            DAY => state.time.day = state.decode(value),
            MONTH => state.time.month = state.decode(value),
            YEAR => state.time.year = state.decode(value),
            CENTURY => state.time.century = state.decode(value),
            REGISTER_A => {
                let held = !state.counting();
                state.a = value & !A_UIP;
                if held && state.counting() {
                    // The first update comes half a second after the divider is let go.
                    state.second_ns = now_ns.saturating_sub(SECOND_NS / 2);
                }
            }
            REGISTER_B => {
                state.b = value;
                if value & B_SET != 0 {
                    state.b &= !B_UIE;
                }
            }
            REGISTER_C | REGISTER_D => {}
            index => state.memory[usize::from(index & 0x7F)] = value,
        }
    }
}

impl Device for Mc146818 {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8) -> u64 {
        if region != Self::PORTS || offset != 1 {
            return 0xFF;
        }
        self.state.sync(ctx.now_ns());
        let value = self.read_register(ctx.now_ns());
        trace!(target: TARGET, "read {:02x} = {value:02x}", self.state.index);
        self.drive(ctx);
        value.into()
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8, value: u64) {
        let value = value as u8;
        match (region, offset) {
            (Self::PORTS, 0) => {
                self.state.index = value & 0x7F;
                self.state.nmi_masked = value & 0x80 != 0;
            }
            (Self::PORTS, 1) => {
                self.state.sync(ctx.now_ns());
                self.write_register(ctx.now_ns(), value);
                self.drive(ctx);
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, _timer: u32) {
        self.state.sync(ctx.now_ns());
        self.drive(ctx);
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Line { line, .. } = *input
            && Some(line) == self.replaced
        {
            self.state.sync(ctx.now_ns());
            self.drive(ctx);
        }
    }

    /// RESET clears the interrupt enables and flags; time and memory live on the battery.
    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        if ctx.now_ns() > 0 {
            self.state.sync(ctx.now_ns());
        }
        // ENABLES and SQWE.
        self.state.b &= !(ENABLES | 0x08);
        self.state.flags = 0;
        self.state.index = 0;
        self.state.nmi_masked = false;
        self.drive(ctx);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let mut state: State = state.decode(Self::VERSION)?;
        state.memory.resize(128, 0);
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::Bus;
    use platform::testkit::{advance, bus_with_regions};

    platform::device_contract!(
        contract,
        Mc146818::new(1_700_000_000, &[(0x10, 0x40)]),
        [(Mc146818::PORTS, 2, 1)],
        survives_reset
    );

    /// 2023-11-14 22:13:20 UTC, a Tuesday.
    const START: i64 = 1_700_000_000;

    fn rtc() -> Bus {
        bus_with_regions(
            Box::new(Mc146818::new(START, &[(0x10, 0x40)])),
            Mc146818::MAP,
        )
    }

    fn get(bus: &mut Bus, index: u8) -> u8 {
        bus.pio_write(0x70, 1, index.into());
        bus.pio_read(0x71, 1) as u8
    }

    fn put(bus: &mut Bus, index: u8, value: u8) {
        bus.pio_write(0x70, 1, index.into());
        bus.pio_write(0x71, 1, value.into());
    }

    fn time(bus: &mut Bus) -> [u8; 8] {
        [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS].map(|index| get(bus, index))
    }

    fn irq(bus: &Bus) -> bool {
        bus.lines.level(IrqLine::isa(8))
    }

    #[test]
    fn the_calendar_agrees_with_its_inverse() {
        for unix in [
            0,
            START,
            951_782_399,
            951_782_400,
            4_102_444_799,
            -1,
            68_169_599,
        ] {
            assert_eq!(Calendar::from_unix(unix).to_unix(), unix);
        }
        let leap = Calendar::from_unix(951_782_399).later(1);
        assert_eq!((leap.month, leap.day, leap.weekday), (2, 29, 3));
    }

    #[test]
    fn an_hour_that_is_none_reads_as_one_in_12_hour_mode() {
        let mut bus = rtc();
        put(&mut bus, REGISTER_B, B_SET | B_DM | B_24H);
        put(&mut bus, HOURS, 0xFF);
        assert_eq!(get(&mut bus, HOURS), 0xFF);
        put(&mut bus, REGISTER_B, B_SET | B_DM);
        assert_eq!(get(&mut bus, HOURS), 0x80 | 3);
    }

    #[test]
    fn the_start_date_shows_in_bcd_and_runs_on() {
        let mut bus = rtc();
        assert_eq!(
            time(&mut bus),
            [0x20, 0x23, 0x11, 0x14, 0x03, 0x22, 0x13, 0x20]
        );
        advance(&mut bus, 40 * SECOND_NS);
        assert_eq!(time(&mut bus)[5..], [0x22, 0x14, 0x00]);
        advance(&mut bus, 2 * 3600 * SECOND_NS);
        assert_eq!(
            time(&mut bus),
            [0x20, 0x23, 0x11, 0x15, 0x04, 0x00, 0x14, 0x00]
        );
    }

    #[test]
    fn binary_and_twelve_hour_modes_change_the_format() {
        let mut bus = rtc();
        put(&mut bus, REGISTER_B, B_24H | B_DM);
        assert_eq!(time(&mut bus), [20, 23, 11, 14, 3, 22, 13, 20]);
        put(&mut bus, REGISTER_B, 0);
        assert_eq!(get(&mut bus, HOURS), 0x90, "10 p.m.");
        put(&mut bus, HOURS, 0x12);
        put(&mut bus, REGISTER_B, B_24H);
        assert_eq!(get(&mut bus, HOURS), 0x00, "12 a.m. is midnight");
    }

    #[test]
    fn set_holds_the_time_while_a_program_changes_it() {
        let mut bus = rtc();
        put(&mut bus, REGISTER_B, B_SET | B_24H | B_UIE);
        assert_eq!(get(&mut bus, REGISTER_B), B_SET | B_24H, "SET clears UIE");
        put(&mut bus, DAY, 0x31);
        advance(&mut bus, 5 * SECOND_NS);
        put(&mut bus, MONTH, 0x12);
        put(&mut bus, HOURS, 0x23);
        put(&mut bus, MINUTES, 0x59);
        put(&mut bus, SECONDS, 0x59);
        put(&mut bus, REGISTER_B, B_24H);
        advance(&mut bus, SECOND_NS);
        assert_eq!(
            time(&mut bus)[..],
            [0x20, 0x24, 0x01, 0x01, 0x04, 0x00, 0x00, 0x00]
        );
    }

    #[test]
    fn uip_precedes_the_update_by_2228_us() {
        let mut bus = rtc();
        advance(&mut bus, SECOND_NS - UPDATE_NS - 1);
        assert_eq!(get(&mut bus, REGISTER_A), 0x26);
        advance(&mut bus, 1);
        assert_eq!(get(&mut bus, REGISTER_A), 0xA6);
        assert_eq!(get(&mut bus, REGISTER_C), PF);
        advance(&mut bus, UPDATE_NS);
        assert_eq!(get(&mut bus, REGISTER_A), 0x26);
        assert_eq!(get(&mut bus, SECONDS), 0x21);
        assert_eq!(get(&mut bus, REGISTER_C) & !PF, UF);
    }

    #[test]
    fn the_periodic_interrupt_comes_at_its_rate_and_waits_for_register_c() {
        let mut bus = rtc();
        get(&mut bus, REGISTER_C);
        put(&mut bus, REGISTER_B, B_24H | PF);
        let mut seen = 0;
        let end_ns = bus.clock.now_ns() + SECOND_NS;
        while let Some(next_ns) = bus.events.next_deadline_ns().filter(|&at| at <= end_ns) {
            bus.clock.skip_to(next_ns);
            bus.run_due_events();
            assert!(irq(&bus));
            assert_eq!(
                bus.events.next_deadline_ns(),
                None,
                "masked by its own flag"
            );
            assert_eq!(get(&mut bus, REGISTER_C) & (IRQF | PF), IRQF | PF);
            assert!(!irq(&bus));
            seen += 1;
        }
        assert_eq!(seen, 1024);
    }

    #[test]
    fn the_alarm_matches_with_wildcards() {
        let mut bus = rtc();
        put(&mut bus, HOURS_ALARM, 0xFF);
        put(&mut bus, MINUTES_ALARM, 0x15);
        put(&mut bus, SECONDS_ALARM, 0x02);
        put(&mut bus, REGISTER_B, B_24H | AF);
        advance(&mut bus, 101 * SECOND_NS);
        assert!(!irq(&bus));
        advance(&mut bus, SECOND_NS);
        assert!(irq(&bus));
        assert_eq!(get(&mut bus, REGISTER_C) & (IRQF | AF), IRQF | AF);
    }

    #[test]
    fn a_divider_held_in_reset_starts_half_a_second_before_the_update() {
        let mut bus = rtc();
        put(&mut bus, REGISTER_A, 0x76);
        advance(&mut bus, 10 * SECOND_NS);
        assert_eq!(get(&mut bus, SECONDS), 0x20);
        put(&mut bus, REGISTER_A, 0x26);
        advance(&mut bus, SECOND_NS / 2 - 1);
        assert_eq!(get(&mut bus, SECONDS), 0x20);
        advance(&mut bus, 1);
        assert_eq!(get(&mut bus, SECONDS), 0x21);
    }

    #[test]
    fn reset_keeps_memory_and_time_and_disables_interrupts() {
        let mut bus = rtc();
        put(&mut bus, 0x0F, 0x5A);
        put(&mut bus, REGISTER_B, B_24H | PF);
        advance(&mut bus, 3 * SECOND_NS);
        assert!(irq(&bus));
        bus.reset();
        assert!(!irq(&bus));
        assert_eq!(get(&mut bus, 0x0F), 0x5A);
        assert_eq!(get(&mut bus, 0x10), 0x40);
        assert_eq!(get(&mut bus, SECONDS), 0x23);
        assert_eq!(get(&mut bus, REGISTER_B), B_24H);
    }

    #[test]
    fn register_d_says_that_the_battery_is_good_and_port_70_is_write_only() {
        let mut bus = rtc();
        assert_eq!(get(&mut bus, REGISTER_D), 0x80);
        assert_eq!(bus.pio_read(0x70, 1), 0xFF);
    }
}
