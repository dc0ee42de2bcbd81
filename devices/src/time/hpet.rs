//! High precision event timers: a counter of 64 bits and three comparators.
//!
//! Specification: IA-PC HPET 1.0a (Intel, 2004).
//!
//! | region | offset | what |
//! |---|---|---|
//! | [`Hpet::REGISTERS`] | 000 | capabilities: 3 timers, 64 bits, legacy replacement, a tick of 10 ns |
//! | | 010 | configuration: 0 run, 1 legacy replacement |
//! | | 020 | interrupt status of level-triggered timers, cleared by writing ones |
//! | | 0F0 | main counter; it can be written while it stands |
//! | | 100 + 20n | timer n: configuration and capabilities |
//! | | 108 + 20n | its comparator |
//!
//! Registers can be accessed by 32 and by 64 bits, and read by less. The counter is computed from virtual time when
//! somebody looks, and one timer of the bus waits for each comparator that can do something.
//!
//! Every timer can be periodic and has 64 bits. By itself it can only be routed to input 2 of the I/O APIC, which is ISA
//! interrupt 0; with legacy replacement timer 0 is ISA interrupt 0, timer 1 is 8, and what has these otherwise is silent
//! ([`replacement`](Hpet::new)). A match that is not looked at for so long that the next one has come counts once, and
//! periods below a microsecond interrupt once a microsecond.
//!
//! Not modelled: interrupts as messages (the capability says so).

use log::trace;
use platform::{
    Bus, Device, DeviceCtx, DeviceId, IrqLine, PhysAddr, SavedState, StateError, StateView,
};
use serde::{Deserialize, Serialize};

const TARGET: &str = "hpet";

const BASE: PhysAddr = PhysAddr(0xFED0_0000);
const TIMERS: usize = 3;
/// A tick, 100 MHz.
const TICK_NS: u64 = 10;
const TICK_FS: u64 = TICK_NS * 1_000_000;
/// Interrupts of one timer are at least so far apart.
const LEAST_NS: u64 = 1_000;

/// Revision 1, vendor, 64-bit counter, legacy replacement.
const CAPABILITIES: u64 = TICK_FS << 32 | 0x8086_A001 | (TIMERS as u64 - 1) << 8;

const ENABLE: u64 = 1 << 0;
const LEGACY: u64 = 1 << 1;

/// Bits of a timer's configuration.
mod timer {
    pub const LEVEL: u64 = 1 << 1;
    pub const INTERRUPT: u64 = 1 << 2;
    pub const PERIODIC: u64 = 1 << 3;
    pub const CAN_BE_PERIODIC: u64 = 1 << 4;
    pub const HAS_64_BITS: u64 = 1 << 5;
    pub const SET_VALUE: u64 = 1 << 6;
    pub const MODE_32: u64 = 1 << 8;
    pub const ROUTE_SHIFT: u32 = 9;
    pub const ROUTE: u64 = 0x1F << ROUTE_SHIFT;
    /// What software can write beside the route.
    pub const WRITABLE: u64 = LEVEL | INTERRUPT | PERIODIC | SET_VALUE | MODE_32;
    /// What the comparators are routed to: inputs of the I/O APIC, a bit each.
    pub const ROUTES: u64 = 1 << 2;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Timer {
    /// The bits that software can write.
    config: u64,
    comparator: u64,
    /// What a periodic timer adds to the comparator at each match.
    period: u64,
}

impl Timer {
    fn has(&self, bit: u64) -> bool {
        self.config & bit != 0
    }

    /// The bits that are compared.
    fn width(&self) -> u64 {
        if self.has(timer::MODE_32) {
            0xFFFF_FFFF
        } else {
            !0
        }
    }

    /// Ticks from a counter of `now` to the next match behind it; 0 stands for all that the width has.
    fn distance(&self, now: u64) -> u64 {
        self.comparator.wrapping_sub(now) & self.width()
    }

    /// Lets the counter go on from `from`, which was looked at, to `to`. Returns whether it met the comparator.
    fn pass(&mut self, from: u64, to: u64) -> bool {
        let elapsed = to.wrapping_sub(from);
        let first = match self.distance(from) {
            0 => self.width(),
            distance => distance - 1,
        };
        if first >= elapsed {
            return false;
        }
        if self.has(timer::PERIODIC) && self.period != 0 {
            let periods = (elapsed - 1 - first) / self.period + 1;
            let ahead = periods.wrapping_mul(self.period);
            self.comparator = self.comparator.wrapping_add(ahead) & self.width();
        }
        true
    }

    /// Whether a match shows: as an interrupt, or in the status register.
    fn shows(&self) -> bool {
        self.has(timer::INTERRUPT) || self.has(timer::LEVEL)
    }

    fn read_config(&self) -> u64 {
        let fixed = timer::CAN_BE_PERIODIC | timer::HAS_64_BITS | timer::ROUTES << 32;
        self.config & !timer::SET_VALUE | fixed
    }

    fn write_config(&mut self, value: u64) {
        let route = (value & timer::ROUTE) >> timer::ROUTE_SHIFT;
        // A route that is not there is not taken, so that software reads another one.
        let route = match timer::ROUTES >> route & 1 {
            0 => self.config & timer::ROUTE,
            _ => route << timer::ROUTE_SHIFT,
        };
        self.config = value & timer::WRITABLE | route;
        self.comparator &= self.width();
        self.period &= self.width();
    }

    /// The first write after SET_VALUE was set is the next match as well as the period.
    fn write_comparator(&mut self, value: u64) {
        let value = value & self.width();
        if !self.has(timer::PERIODIC) || self.has(timer::SET_VALUE) {
            self.comparator = value;
        }
        if self.has(timer::PERIODIC) {
            self.period = value;
        }
        self.config &= !timer::SET_VALUE;
    }
}

/// The registers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Registers {
    config: u64,
    status: u32,
    /// The counter while it stands; while it runs, what is added to the ticks since power-on.
    counter: u64,
    /// The counter when the comparators were last looked at.
    seen: u64,
    timers: [Timer; TIMERS],
}

impl Registers {
    fn counter_at(&self, now_ns: u64) -> u64 {
        if self.config & ENABLE != 0 {
            (now_ns / TICK_NS).wrapping_add(self.counter)
        } else {
            self.counter
        }
    }
}

/// The timers of a board.
#[derive(Clone, Debug)]
pub struct Hpet {
    registers: Registers,
    replacement: IrqLine,
}

/// Maps `device` at its address.
pub fn map(bus: &mut Bus, device: DeviceId) {
    bus.map_mmio(device, Hpet::REGISTERS, BASE, 0x1000);
}

impl Hpet {
    /// Region: the registers.
    pub const REGISTERS: u8 = 0;
    const VERSION: u32 = 1;

    /// Timers that stand. While wire `replacement` is high, they are the source of ISA interrupts 0 and 8, and the 8254
    /// and the clock are not.
    pub fn new(replacement: IrqLine) -> Self {
        Self {
            registers: Registers::default(),
            replacement,
        }
    }

    /// Where timer `number` interrupts.
    fn line(&self, number: usize) -> IrqLine {
        // The only route there is.
        match (self.registers.config & LEGACY != 0, number) {
            (true, 1) => IrqLine::isa(8),
            _ => IrqLine::isa(0),
        }
    }

    /// Whether timer `number` has a place to interrupt at.
    fn is_routed(&self, number: usize) -> bool {
        let route = (self.registers.timers[number].config & timer::ROUTE) >> timer::ROUTE_SHIFT;
        let replaces = self.registers.config & LEGACY != 0 && number < 2;
        replaces || timer::ROUTES >> route & 1 != 0
    }

    /// Brings the comparators up to date.
    fn sync(&mut self, ctx: &mut DeviceCtx<'_>) {
        if self.registers.config & ENABLE == 0 {
            return;
        }
        let to = self.registers.counter_at(ctx.now_ns());
        let from = std::mem::replace(&mut self.registers.seen, to);
        for number in 0..TIMERS {
            if self.registers.timers[number].pass(from, to) {
                self.fire(ctx, number);
            }
        }
    }

    fn fire(&mut self, ctx: &mut DeviceCtx<'_>, number: usize) {
        let timer = self.registers.timers[number];
        if timer.has(timer::LEVEL) {
            self.registers.status |= 1 << number;
        } else if timer.has(timer::INTERRUPT) && self.is_routed(number) {
            let line = self.line(number);
            ctx.set_line(line, true);
            self.drive_line(ctx, line);
        }
    }

    /// Drives `line` as the level-triggered timers on it say.
    fn drive_line(&self, ctx: &mut DeviceCtx<'_>, line: IrqLine) {
        let registers = &self.registers;
        let asserts = |&number: &usize| {
            registers.config & ENABLE != 0
                && registers.status >> number & 1 != 0
                && registers.timers[number].has(timer::INTERRUPT)
                && self.is_routed(number)
                && self.line(number) == line
        };
        ctx.set_line(line, (0..TIMERS).any(|number| asserts(&number)));
    }

    /// Drives all wires, and waits for the next matches.
    fn drive(&mut self, ctx: &mut DeviceCtx<'_>) {
        ctx.set_line(self.replacement, self.registers.config & LEGACY != 0);
        for line in [IrqLine::isa(0), IrqLine::isa(8)] {
            self.drive_line(ctx, line);
        }
        for number in 0..TIMERS {
            match self.deadline_ns(ctx.now_ns(), number) {
                Some(deadline_ns) => ctx.schedule(number as u32, deadline_ns),
                None => ctx.cancel(number as u32),
            }
        }
    }

    /// When timer `number` matches next, if that shows.
    fn deadline_ns(&self, now_ns: u64, number: usize) -> Option<u64> {
        let timer = &self.registers.timers[number];
        if self.registers.config & ENABLE == 0 || !timer.shows() {
            return None;
        }
        // The comparators are as of now.
        let distance = match timer.distance(self.registers.seen) {
            0 => timer.width().checked_add(1)?,
            distance => distance,
        };
        let tick = (now_ns / TICK_NS).checked_add(distance)?;
        let deadline_ns = tick.checked_mul(TICK_NS)?;
        let brief = timer.has(timer::PERIODIC) && timer.period < LEAST_NS / TICK_NS;
        Some(if brief {
            deadline_ns.max(now_ns.saturating_add(LEAST_NS))
        } else {
            deadline_ns
        })
    }

    /// A register of 64 bits.
    fn register(&self, offset: u64, now_ns: u64) -> u64 {
        let registers = &self.registers;
        match offset & !7 {
            0x000 => CAPABILITIES,
            0x010 => registers.config,
            0x020 => registers.status.into(),
            0x0F0 => registers.counter_at(now_ns),
            0x100.. => {
                let timer = registers.timers.get((offset as usize - 0x100) / 0x20);
                timer.map_or(0, |timer| match offset & 0x18 {
                    0x00 => timer.read_config(),
                    0x08 => timer.comparator,
                    _ => 0,
                })
            }
            _ => 0,
        }
    }

    fn write_register(&mut self, ctx: &mut DeviceCtx<'_>, offset: u64, value: u64, mask: u64) {
        let merge = |old: u64| old & !mask | value & mask;
        let now_ns = ctx.now_ns();
        let registers = &mut self.registers;
        match offset & !7 {
            0x010 => {
                let counter = registers.counter_at(now_ns);
                registers.config = merge(registers.config) & (ENABLE | LEGACY);
                registers.counter = counter;
                if registers.config & ENABLE != 0 {
                    registers.counter = counter.wrapping_sub(now_ns / TICK_NS);
                    registers.seen = counter;
                }
            }
            0x020 => registers.status &= !((value & mask) as u32),
            0x0F0 if registers.config & ENABLE == 0 => {
                registers.counter = merge(registers.counter);
            }
            0x100.. => {
                let number = (offset as usize - 0x100) / 0x20;
                let Some(timer) = registers.timers.get_mut(number) else {
                    return;
                };
                match offset & 0x18 {
                    0x00 => {
                        timer.write_config(merge(timer.config));
                        if !timer.has(timer::LEVEL) {
                            registers.status &= !(1 << number);
                        }
                    }
                    0x08 => {
                        let only_period =
                            timer.has(timer::PERIODIC) && !timer.has(timer::SET_VALUE);
                        let old = match only_period {
                            true => timer.period,
                            false => timer.comparator,
                        };
                        timer.write_comparator(merge(old));
                        let now = timer.distance(registers.seen) == 0 && !only_period;
                        if now && registers.config & ENABLE != 0 {
                            self.fire(ctx, number);
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

impl Device for Hpet {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8) -> u64 {
        if offset != 0x0F0 {
            self.sync(ctx);
        }
        let mut value = self.register(offset, ctx.now_ns()) >> ((offset & 7) * 8);
        if (offset & 7) + u64::from(size) > 8 {
            // An access that is not aligned to a register goes on in the next one.
            let room = 8 - (offset & 7);
            let rest = self.register(offset + room, ctx.now_ns());
            value |= rest << (room * 8);
        }
        trace!(target: TARGET, "read {offset:03x} ({size}) = {value:x}");
        value
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8, value: u64) {
        trace!(target: TARGET, "write {offset:03x} ({size}) = {value:x}");
        if !matches!(size, 4 | 8) || offset & u64::from(size - 1) != 0 {
            // Only whole registers, or halves of one, can be written (§2.3.3).
            return;
        }
        self.sync(ctx);
        let shift = (offset & 7) * 8;
        let mask = (!0u64 >> (64 - u32::from(size) * 8)) << shift;
        self.write_register(ctx, offset, value << shift, mask);
        self.drive(ctx);
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, _timer: u32) {
        self.sync(ctx);
        self.drive(ctx);
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.registers = Registers::default();
        self.drive(ctx);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.registers)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.registers = state.decode(Self::VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::Input;
    use platform::testkit::{advance, bus_with_regions};

    const REPLACEMENT: IrqLine = IrqLine(40);

    platform::device_contract!(
        contract,
        Hpet::new(REPLACEMENT),
        [(Hpet::REGISTERS, 0x400, 8)]
    );

    /// Counts rising edges of ISA interrupts 0 and 8.
    struct Edges([u32; 2]);

    impl Device for Edges {
        fn name(&self) -> &'static str {
            "edges"
        }
        fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8) -> u64 {
            0
        }
        fn write(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, _: u64) {}
        fn on_input(&mut self, _: &mut DeviceCtx<'_>, input: &Input) {
            if let Input::Line { line, level: true } = input {
                self.0[usize::from(*line == IrqLine::isa(8))] += 1;
            }
        }
        fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
        fn state(&self) -> StateView<'_> {
            StateView::of(1, self.0)
        }
        fn restore(&mut self, _: &SavedState) -> Result<(), StateError> {
            Ok(())
        }
    }

    fn board() -> Bus {
        let mut bus = bus_with_regions(Box::new(Hpet::new(REPLACEMENT)), &[]);
        map(&mut bus, DeviceId(0));
        let edges = bus.add(Box::new(Edges([0; 2])));
        bus.connect(IrqLine::isa(0), edges);
        bus.connect(IrqLine::isa(8), edges);
        bus
    }

    fn edges(bus: &mut Bus) -> [u32; 2] {
        let (_, edges) = bus.devices().nth(1).unwrap();
        edges.save().decode(1).unwrap()
    }

    fn read(bus: &mut Bus, offset: u64) -> u64 {
        bus.mmio_read(PhysAddr(BASE.0 + offset), 8)
    }

    fn write(bus: &mut Bus, offset: u64, value: u64) {
        bus.mmio_write(PhysAddr(BASE.0 + offset), 8, value);
    }

    #[test]
    fn the_capabilities_say_three_timers_of_64_bits_and_ticks_of_10_ns() {
        let mut bus = board();
        assert_eq!(read(&mut bus, 0x000), 0x0098_9680_8086_A201);
        assert_eq!(bus.mmio_read(PhysAddr(BASE.0 + 4), 4), 10_000_000);
        for offset in [0x100, 0x120, 0x140] {
            assert_eq!(read(&mut bus, offset), 0x0000_0004_0000_0030);
        }
        assert_eq!(read(&mut bus, 0x160), 0);
    }

    #[test]
    fn the_counter_runs_while_it_is_enabled_and_is_written_while_not() {
        let mut bus = board();
        advance(&mut bus, 1000);
        assert_eq!(read(&mut bus, 0x0F0), 0);
        write(&mut bus, 0x0F0, 0xFFFF_FFFF);
        write(&mut bus, 0x010, ENABLE);
        advance(&mut bus, 1000);
        assert_eq!(read(&mut bus, 0x0F0), 0x1_0000_0063);
        assert_eq!(bus.mmio_read(PhysAddr(BASE.0 + 0x0F4), 4), 1);
        write(&mut bus, 0x0F0, 5);
        assert_eq!(read(&mut bus, 0x0F0), 0x1_0000_0063);
        write(&mut bus, 0x010, 0);
        advance(&mut bus, 1000);
        assert_eq!(read(&mut bus, 0x0F0), 0x1_0000_0063);
        bus.mmio_write(PhysAddr(BASE.0 + 0x0F4), 4, 7);
        assert_eq!(read(&mut bus, 0x0F0), 0x7_0000_0063);
    }

    #[test]
    fn legacy_replacement_takes_interrupts_0_and_8() {
        let mut bus = board();
        for (timer, at) in [(0x100, 50), (0x120, 70), (0x140, 90)] {
            write(&mut bus, timer, timer::INTERRUPT);
            write(&mut bus, timer + 8, at);
        }
        assert!(!bus.lines.level(REPLACEMENT));
        write(&mut bus, 0x010, ENABLE | LEGACY);
        assert!(bus.lines.level(REPLACEMENT));
        advance(&mut bus, 499);
        assert_eq!(edges(&mut bus), [0, 0]);
        advance(&mut bus, 1);
        assert_eq!(edges(&mut bus), [1, 0]);
        advance(&mut bus, 200);
        assert_eq!(edges(&mut bus), [1, 1]);
        advance(&mut bus, 1000);
        assert_eq!(edges(&mut bus), [1, 1], "timer 2 has no route");
        write(&mut bus, 0x140, timer::INTERRUPT | 2 << timer::ROUTE_SHIFT);
        write(&mut bus, 0x148, 200);
        advance(&mut bus, 1000);
        assert_eq!(edges(&mut bus), [2, 1]);
    }

    #[test]
    fn a_route_that_is_not_there_is_not_taken() {
        let mut bus = board();
        write(&mut bus, 0x100, 20 << timer::ROUTE_SHIFT);
        assert_eq!(read(&mut bus, 0x100) & timer::ROUTE, 0);
        write(&mut bus, 0x100, 2 << timer::ROUTE_SHIFT);
        assert_eq!(
            read(&mut bus, 0x100) & timer::ROUTE,
            2 << timer::ROUTE_SHIFT
        );
    }

    #[test]
    fn a_periodic_timer_adds_its_period() {
        let mut bus = board();
        write(&mut bus, 0x010, ENABLE | LEGACY);
        let config = timer::INTERRUPT | timer::PERIODIC | timer::SET_VALUE;
        write(&mut bus, 0x100, config);
        write(&mut bus, 0x108, 1000);
        assert_eq!(read(&mut bus, 0x100) & timer::SET_VALUE, 0);
        write(&mut bus, 0x108, 300);
        assert_eq!(read(&mut bus, 0x108), 1000, "that was the period");
        advance(&mut bus, 10_000);
        assert_eq!(edges(&mut bus), [1, 0]);
        assert_eq!(read(&mut bus, 0x108), 1300);
        advance(&mut bus, 30_000);
        assert_eq!(edges(&mut bus), [11, 0]);
    }

    #[test]
    fn in_32_bits_a_match_comes_again_at_each_wrap() {
        let mut bus = board();
        write(&mut bus, 0x010, ENABLE | LEGACY);
        write(&mut bus, 0x100, timer::INTERRUPT | timer::MODE_32);
        write(&mut bus, 0x108, 0x5_0000_0010);
        assert_eq!(read(&mut bus, 0x108), 0x10);
        advance(&mut bus, 160);
        assert_eq!(edges(&mut bus), [1, 0]);
        advance(&mut bus, (10 << 32) - 1);
        assert_eq!(edges(&mut bus), [1, 0]);
        advance(&mut bus, 1);
        assert_eq!(edges(&mut bus), [2, 0]);
    }

    #[test]
    fn a_level_stays_until_its_status_is_cleared() {
        let mut bus = board();
        write(&mut bus, 0x010, ENABLE | LEGACY);
        write(&mut bus, 0x100, timer::INTERRUPT | timer::LEVEL);
        write(&mut bus, 0x108, 100);
        advance(&mut bus, 2000);
        assert!(bus.lines.level(IrqLine::isa(0)));
        assert_eq!(read(&mut bus, 0x020), 1);
        write(&mut bus, 0x020, 2);
        assert!(bus.lines.level(IrqLine::isa(0)));
        write(&mut bus, 0x020, 1);
        assert!(!bus.lines.level(IrqLine::isa(0)));
        // The status tells of a timer that may not interrupt, too.
        write(&mut bus, 0x100, timer::LEVEL);
        write(&mut bus, 0x108, 300);
        advance(&mut bus, 2000);
        assert_eq!(read(&mut bus, 0x020), 1);
        assert!(!bus.lines.level(IrqLine::isa(0)));
    }

    #[test]
    fn a_match_that_is_past_waits_and_one_of_now_fires() {
        let mut bus = board();
        write(&mut bus, 0x010, ENABLE | LEGACY);
        advance(&mut bus, 1000);
        write(&mut bus, 0x100, timer::INTERRUPT);
        write(&mut bus, 0x108, 50);
        advance(&mut bus, 1_000_000);
        assert_eq!(edges(&mut bus), [0, 0]);
        let now = read(&mut bus, 0x0F0);
        write(&mut bus, 0x108, now);
        assert_eq!(edges(&mut bus), [1, 0]);
    }

    #[test]
    fn the_shortest_period_does_not_flood() {
        let mut bus = board();
        write(&mut bus, 0x010, ENABLE | LEGACY);
        let config = timer::INTERRUPT | timer::PERIODIC | timer::SET_VALUE;
        write(&mut bus, 0x100, config);
        write(&mut bus, 0x108, 1);
        advance(&mut bus, 100_000);
        assert_eq!(edges(&mut bus), [100, 0]);
        write(&mut bus, 0x100, config);
        write(&mut bus, 0x108, 0);
        advance(&mut bus, 100_000);
        assert!(edges(&mut bus)[0] <= 101, "no period, no match");
    }
}
