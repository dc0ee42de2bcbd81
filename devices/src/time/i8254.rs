//! Intel 8254 programmable interval timer, with system control port B.
//!
//! Datasheets: Intel 8254 (231164); Intel 82371SB PIIX3 (290550) for port 61.
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`I8254::PORTS`] | 40-42 | counters 0 to 2 |
//! | | 43 | control word, counter latch, read-back |
//! | [`I8254::PORT_B`] | 61 | 0 gate of counter 2, 1 speaker data, 4 refresh toggle, 5 OUT2 |
//!
//! The three inputs CLK run at 105/88 MHz. Nothing happens at a tick: counts and outputs are computed
//! from virtual time when somebody looks, and one timer waits for the next change of OUT0, which is IRQ 0.
//!
//! Not modelled: what an illegal count of 1 does in modes 2 and 3 (OUT stays high), the counting of an
//! unprogrammed counter, and counter 1 as the source of the refresh toggle, which runs by itself here.

use log::{log, trace};
use platform::{Device, DeviceCtx, Input, IrqLine, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "i8254";
const TIMER_OUT0: u32 = 0;

/// A tick is 88000/105 ns.
const NS_PER_21_TICKS: u64 = 17_600;
/// Refresh requests come every 18 ticks, about 15 µs.
const REFRESH_TICKS: u64 = 18;

fn tick_at(now_ns: u64) -> u64 {
    // The product of the whole would need 128 bits.
    now_ns / NS_PER_21_TICKS * 21 + now_ns % NS_PER_21_TICKS * 21 / NS_PER_21_TICKS
}

/// The first nanosecond that belongs to `tick`.
fn ns_of(tick: u64) -> u64 {
    let whole = (tick / 21).checked_mul(NS_PER_21_TICKS);
    let rest = (tick % 21 * NS_PER_21_TICKS).div_ceil(21);
    whole
        .and_then(|whole| whole.checked_add(rest))
        .unwrap_or(u64::MAX)
}

/// Which bytes of a count a port access means: the RW field of the control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Access {
    Low,
    High,
    Both,
}

/// One counter. `remaining` is the counting element's value at tick `base`; it runs below zero when a
/// one-shot mode has passed its terminal count.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counter {
    access: Access,
    /// Bits 5 to 0 of the control word, which the status shows as they were written.
    programmed: u8,
    mode: u8,
    bcd: bool,
    gate: bool,
    /// The count register, as written.
    reload: u16,
    has_count: bool,
    null_count: bool,
    first_byte: Option<u8>,
    second_read: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
    /// A count was loaded since the control word.
    armed: bool,
    running: bool,
    base: u64,
    remaining: i64,
    /// The tick of the CLK pulse that moves the count register into the counting element.
    load_at: Option<u64>,
    /// Mode 3: which half of the wave.
    high_half: bool,
    /// Modes 2 and 3: the count of the present period.
    period: u32,
}

impl Counter {
    fn new(gate: bool) -> Self {
        Self {
            access: Access::Both,
            programmed: 0x30,
            mode: 0,
            bcd: false,
            gate,
            reload: 0,
            has_count: false,
            null_count: true,
            first_byte: None,
            second_read: false,
            latched_count: None,
            latched_status: None,
            armed: false,
            running: false,
            base: 0,
            remaining: 0,
            load_at: None,
            high_half: true,
            period: 0,
        }
    }

    fn modulus(&self) -> i64 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    /// The count that the count register stands for: 0 is the largest one.
    fn full_count(&self) -> u32 {
        let value = if self.bcd {
            let digit = |n: u32| u32::from(self.reload >> (4 * n) & 15);
            (digit(0) + 10 * digit(1) + 100 * digit(2) + 1000 * digit(3)) % 10_000
        } else {
            self.reload.into()
        };
        if value == 0 {
            self.modulus() as u32
        } else {
            value
        }
    }

    fn elapsed(&self, tick: u64) -> i64 {
        if self.running {
            i64::try_from(tick.saturating_sub(self.base)).unwrap_or(i64::MAX / 2)
        } else {
            0
        }
    }

    fn periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// Ticks in the present half of mode 3, or in the present period of mode 2.
    fn stretch(&self) -> u32 {
        match (self.mode, self.high_half) {
            (3, true) => self.period.div_ceil(2),
            (3, false) => self.period / 2,
            _ => self.period,
        }
    }

    /// Brings the counter to `tick`. Returns whether OUT rose on the way.
    fn sync(&mut self, tick: u64) -> bool {
        let mut rose = false;
        if let Some(at) = self.load_at
            && at <= tick
        {
            rose |= self.run_periods(at);
            self.load(at);
        }
        rose | self.run_periods(tick)
    }

    /// Modes 2 and 3: starts the periods that begin until `tick`.
    fn run_periods(&mut self, tick: u64) -> bool {
        let mut rose = false;
        while self.periodic() && self.running && self.period >= 2 {
            let stretch = u64::from(self.stretch());
            if tick.saturating_sub(self.base) < stretch {
                break;
            }
            self.base += stretch;
            self.high_half = self.mode == 2 || !self.high_half;
            rose |= self.high_half;
            // A new count comes into use at the end of a period, or of a half of mode 3.
            if self.null_count && self.first_byte.is_none() {
                self.null_count = false;
                self.period = self.full_count();
            } else if self.high_half {
                let whole = u64::from(self.period);
                self.base += (tick - self.base) / whole * whole;
            }
            self.remaining = self.period.into();
        }
        rose
    }

    fn load(&mut self, at: u64) {
        self.load_at = None;
        self.null_count = false;
        self.period = self.full_count();
        self.remaining = self.period.into();
        self.base = at;
        self.high_half = true;
        self.armed = true;
        self.running = matches!(self.mode, 1 | 5) || self.gate;
    }

    fn freeze(&mut self, tick: u64) {
        self.remaining -= self.elapsed(tick);
        self.base = tick;
        self.running = false;
    }

    /// The tick at which [`sync`](Self::sync) has something to do next.
    fn next_step(&self) -> u64 {
        let load = self.load_at.unwrap_or(u64::MAX);
        if self.periodic() && self.running && self.period >= 2 {
            load.min(self.base.saturating_add(self.stretch().into()))
        } else {
            load
        }
    }

    /// The level of OUT at `tick`, which the counter has been brought to.
    fn out(&self, tick: u64) -> bool {
        let left = self.remaining - self.elapsed(tick);
        match self.mode {
            0 => self.armed && left <= 0,
            1 => !self.armed || left <= 0,
            2 => !(self.armed && self.running && self.period >= 2 && left == 1),
            3 => !(self.armed && self.running) || self.high_half,
            _ => !(self.armed && left == 0),
        }
    }

    /// The tick after `tick` at which OUT may change next.
    fn next_change(&self, tick: u64) -> Option<u64> {
        if self.load_at.is_some() {
            return self.load_at;
        }
        if !self.armed || !self.running {
            return None;
        }
        let after = |ticks: i64| {
            u64::try_from(ticks)
                .ok()
                .map(|t| self.base.saturating_add(t))
        };
        let change = match self.mode {
            0 | 1 => after(self.remaining),
            2 if self.period < 2 => None,
            2 => after(self.remaining - 1)
                .filter(|&at| at > tick)
                .or_else(|| after(self.remaining)),
            3 if self.period < 2 => None,
            3 => after(self.stretch().into()),
            _ => after(self.remaining)
                .filter(|&at| at > tick)
                .or_else(|| after(self.remaining + 1)),
        };
        change.filter(|&at| at > tick)
    }

    /// The counting element as a program reads it.
    fn count(&self, tick: u64) -> u16 {
        let elapsed = self.elapsed(tick);
        let left = if self.mode == 3 {
            (self.remaining & !1) - 2 * elapsed
        } else {
            self.remaining - elapsed
        };
        let value = left.rem_euclid(self.modulus()) as u16;
        if self.bcd {
            (value % 10)
                | ((value / 10 % 10) << 4)
                | (value / 100 % 10) << 8
                | (value / 1000 % 10) << 12
        } else {
            value
        }
    }

    fn status(&self, tick: u64) -> u8 {
        u8::from(self.out(tick)) << 7 | u8::from(self.null_count) << 6 | self.programmed
    }

    fn control(&mut self, tick: u64, value: u8) {
        self.freeze(tick);
        self.programmed = value & 0x3F;
        self.access = match value >> 4 & 3 {
            1 => Access::Low,
            2 => Access::High,
            _ => Access::Both,
        };
        // Modes 6 and 7 are 2 and 3: the top bit is "don't care" for them.
        self.mode = match value >> 1 & 7 {
            mode @ 6..=7 => mode - 4,
            mode => mode,
        };
        self.bcd = value & 1 != 0;
        self.armed = false;
        self.has_count = false;
        self.null_count = true;
        self.load_at = None;
        self.first_byte = None;
        self.second_read = false;
        self.latched_count = None;
        self.latched_status = None;
    }

    fn write(&mut self, tick: u64, value: u8) {
        let count = match (self.access, self.first_byte.take()) {
            (Access::Low, _) => value.into(),
            (Access::High, _) => u16::from(value) << 8,
            (Access::Both, Some(low)) => u16::from_le_bytes([low, value]),
            (Access::Both, None) => {
                self.first_byte = Some(value);
                if self.mode == 0 {
                    // The first byte stops the count and lowers OUT at once.
                    self.freeze(tick);
                    self.armed = false;
                    self.load_at = None;
                }
                return;
            }
        };
        self.reload = count;
        self.has_count = true;
        self.null_count = true;
        match self.mode {
            0 | 4 => self.load_at = Some(tick + 1),
            2 | 3 if !self.armed => self.load_at = self.load_at.or(Some(tick + 1)),
            _ => {}
        }
    }

    fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self
            .latched_count
            .unwrap_or_else(|| self.count(tick))
            .to_le_bytes();
        match self.access {
            Access::Low => {
                self.latched_count = None;
                low
            }
            Access::High => {
                self.latched_count = None;
                high
            }
            Access::Both if self.second_read => {
                self.second_read = false;
                self.latched_count = None;
                high
            }
            Access::Both => {
                self.second_read = true;
                low
            }
        }
    }

    /// A latch command is ignored while an earlier latched count is unread.
    fn latch_count(&mut self, tick: u64) {
        self.latched_count = self.latched_count.or_else(|| Some(self.count(tick)));
    }

    fn latch_status(&mut self, tick: u64) {
        self.latched_status = self.latched_status.or_else(|| Some(self.status(tick)));
    }

    fn set_gate(&mut self, tick: u64, gate: bool) {
        if gate == self.gate {
            return;
        }
        self.gate = gate;
        match self.mode {
            0 | 4 if !gate => self.freeze(tick),
            0 | 4 => {
                self.base = tick;
                self.running = self.armed;
            }
            1 | 5 if gate && self.has_count => self.load_at = Some(tick + 1),
            2 | 3 if !gate => {
                self.freeze(tick);
                self.load_at = None;
            }
            2 | 3 if self.has_count => self.load_at = Some(tick + 1),
            _ => {}
        }
    }
}

/// All that is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    counters: [Counter; 3],
    /// Bits 3-0 of port 61, as written.
    port_b: u8,
    /// The level that IRQ 0 was last driven to.
    irq: bool,
}

/// The timer of a PC/AT.
#[derive(Clone, Debug)]
pub struct I8254 {
    state: State,
    /// Before this tick no counter and no wire changes by itself; 0 where that is not known.
    quiet_until: u64,
    /// While this wire is high, IRQ 0 is another's.
    replaced: Option<IrqLine>,
}

impl I8254 {
    /// Region: the timer's four ports.
    pub const PORTS: u8 = 0;
    /// Region: system control port B.
    pub const PORT_B: u8 = 1;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] =
        &[(Self::PORTS, 0x40, 4, 1), (Self::PORT_B, 0x61, 1, 1)];

    const VERSION: u32 = 2;
    const IRQ: IrqLine = IrqLine::isa(0);

    /// A timer that no one has programmed.
    pub fn new() -> Self {
        let counters = [Counter::new(true), Counter::new(true), Counter::new(false)];
        Self {
            state: State {
                counters,
                port_b: 0,
                irq: false,
            },
            quiet_until: 0,
            replaced: None,
        }
    }

    /// Leaves IRQ 0 to another while wire `line`, which is connected to this device, is high.
    pub fn replaced_by(mut self, line: IrqLine) -> Self {
        self.replaced = Some(line);
        self
    }

    fn set_irq(&self, ctx: &mut DeviceCtx<'_>, level: bool) {
        let mine = self.replaced.is_none_or(|line| !ctx.line(line));
        ctx.set_line(Self::IRQ, level && mine);
    }

    /// Brings every counter to `tick`, and IRQ 0 with it.
    fn sync(&mut self, ctx: &mut DeviceCtx<'_>, tick: u64) {
        if tick < self.quiet_until {
            return;
        }
        let [timer, refresh, speaker] = &mut self.state.counters;
        let rose = timer.sync(tick);
        refresh.sync(tick);
        speaker.sync(tick);
        if rose && self.state.irq {
            // A low phase went by between two looks; its rising edge still counts.
            self.set_irq(ctx, false);
            self.set_irq(ctx, true);
        }
        self.drive(ctx, tick);
    }

    fn drive(&mut self, ctx: &mut DeviceCtx<'_>, tick: u64) {
        let timer = &self.state.counters[0];
        self.state.irq = timer.out(tick);
        self.set_irq(ctx, self.state.irq);
        let change = timer.next_change(tick);
        match change {
            Some(change) => ctx.schedule(TIMER_OUT0, ns_of(change)),
            None => ctx.cancel(TIMER_OUT0),
        }
        let steps = self.state.counters.iter().map(Counter::next_step);
        self.quiet_until = steps.fold(change.unwrap_or(u64::MAX), u64::min);
    }

    fn write_control(&mut self, tick: u64, value: u8) {
        let select = value >> 6;
        // Programs that wait latch the counter over and over: such a command sets nothing.
        let level = match select == 3 || value & 0x30 == 0 {
            true => log::Level::Trace,
            false => log::Level::Debug,
        };
        log!(target: TARGET, level, "control word {value:02x}");
        if select == 3 {
            for (n, counter) in self.state.counters.iter_mut().enumerate() {
                if value >> (n + 1) & 1 != 0 {
                    if value & 0x20 == 0 {
                        counter.latch_count(tick);
                    }
                    if value & 0x10 == 0 {
                        counter.latch_status(tick);
                    }
                }
            }
        } else {
            let counter = &mut self.state.counters[usize::from(select)];
            if value & 0x30 == 0 {
                counter.latch_count(tick);
            } else {
                counter.control(tick, value);
            }
        }
    }

    fn read_port_b(&self, tick: u64) -> u8 {
        let refresh = ((tick / REFRESH_TICKS) & 1) as u8;
        let out2 = u8::from(self.state.counters[2].out(tick));
        self.state.port_b | refresh << 4 | out2 << 5
    }
}

impl Default for I8254 {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for I8254 {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8) -> u64 {
        let tick = tick_at(ctx.now_ns());
        self.sync(ctx, tick);
        let value = match (region, offset) {
            (Self::PORTS, 0..3) => self.state.counters[offset as usize].read(tick),
            (Self::PORT_B, _) => self.read_port_b(tick),
            _ => 0xFF,
        };
        trace!(target: TARGET, "read {region}:{offset} = {value:02x}");
        value.into()
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8, value: u64) {
        let tick = tick_at(ctx.now_ns());
        let value = value as u8;
        trace!(target: TARGET, "write {region}:{offset} = {value:02x}");
        self.sync(ctx, tick);
        match (region, offset) {
            (Self::PORTS, 0..3) => self.state.counters[offset as usize].write(tick, value),
            (Self::PORTS, 3) => self.write_control(tick, value),
            (Self::PORT_B, _) => {
                let gate = value & 1 != 0;
                self.state.port_b = value & 0x0F;
                if gate == self.state.counters[2].gate {
                    return;
                }
                self.state.counters[2].set_gate(tick, gate);
            }
            _ => {}
        }
        self.drive(ctx, tick);
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, _timer: u32) {
        let tick = tick_at(ctx.now_ns());
        self.quiet_until = 0;
        self.sync(ctx, tick);
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Line { line, .. } = *input
            && Some(line) == self.replaced
        {
            self.set_irq(ctx, self.state.irq);
        }
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        *self = Self {
            replaced: self.replaced,
            ..Self::new()
        };
        ctx.cancel(TIMER_OUT0);
        ctx.set_line(Self::IRQ, false);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.state = state.decode(Self::VERSION)?;
        self.quiet_until = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::{advance, bus_with_regions};
    use platform::{Bus, StateError};

    platform::device_contract!(
        contract,
        I8254::new(),
        [(I8254::PORTS, 4, 1), (I8254::PORT_B, 1, 1)]
    );

    #[test]
    fn ticks_and_nanoseconds_are_exact_over_the_whole_range() {
        for n in 0..64 {
            for value in [1u64 << n, (1 << n) + 17, (1 << n) - 1, u64::MAX >> n] {
                let wide = u128::from(value);
                assert_eq!(u128::from(tick_at(value)), wide * 105 / 88_000);
                let ns = u64::try_from((wide * 88_000).div_ceil(105)).unwrap_or(u64::MAX);
                assert_eq!(ns_of(value), ns);
            }
        }
    }

    #[test]
    fn looking_often_and_looking_seldom_end_in_the_same_state() {
        let run = |often: bool| {
            let mut bus = pit();
            // Mode 2 on counter 0, mode 3 on the others, with short periods; the speaker's gate opens later.
            for (control, counter) in [(0x34, 0x40), (0x76, 0x41), (0xB6, 0x42)] {
                bus.pio_write(0x43, 1, control);
                bus.pio_write(counter, 1, 37);
                bus.pio_write(counter, 1, 0);
            }
            let mut seen = Vec::new();
            for round in 0u32..400 {
                if round % 64 == 0 {
                    bus.pio_write(0x61, 1, (round / 64) & 1);
                }
                for _ in 0..100 {
                    advance(&mut bus, 131);
                    if often {
                        bus.pio_read(0x61, 1);
                        bus.pio_write(0x61, 1, (round / 64) & 1);
                    }
                }
                bus.pio_write(0x43, 1, 0xCE);
                for counter in 0x40..0x43 {
                    seen.extend([0; 3].map(|_| bus.pio_read(counter, 1)));
                }
            }
            let (_, pit) = bus.devices().next().unwrap();
            (seen, pit.save(), bus.events.next_deadline_ns())
        };
        assert!(run(true) == run(false));
    }

    fn pit() -> Bus {
        bus_with_regions(Box::new(I8254::new()), I8254::MAP)
    }

    /// Moves on to the first instant of the tick that is `ticks` further.
    fn tick(bus: &mut Bus, ticks: u64) {
        let target = tick_at(bus.clock.now_ns()) + ticks;
        let ns = ns_of(target) - bus.clock.now_ns();
        advance(bus, ns);
        assert_eq!(tick_at(bus.clock.now_ns()), target);
    }

    fn program(bus: &mut Bus, counter: u16, mode: u32, count: u32) {
        bus.pio_write(0x43, 1, u32::from(counter) << 6 | 0x30 | mode << 1);
        bus.pio_write(0x40 + counter, 1, count & 0xFF);
        bus.pio_write(0x40 + counter, 1, count >> 8);
    }

    fn count(bus: &mut Bus, counter: u16) -> u32 {
        bus.pio_write(0x43, 1, u32::from(counter) << 6);
        let low = bus.pio_read(0x40 + counter, 1);
        low | bus.pio_read(0x40 + counter, 1) << 8
    }

    fn status(bus: &mut Bus, counter: u16) -> u32 {
        bus.pio_write(0x43, 1, 0xE0 | 2 << counter);
        bus.pio_read(0x40 + counter, 1)
    }

    fn out(bus: &mut Bus, counter: u16) -> bool {
        status(bus, counter) & 0x80 != 0
    }

    /// OUT of a counter at each of the next `ticks` ticks, as a string of 0 and 1.
    fn wave(bus: &mut Bus, counter: u16, ticks: u64) -> String {
        let mut wave = String::new();
        for _ in 0..ticks {
            wave.push(if out(bus, counter) { '1' } else { '0' });
            tick(bus, 1);
        }
        wave
    }

    fn gate2(bus: &mut Bus, gate: bool) {
        bus.pio_write(0x61, 1, gate.into());
    }

    /// Counts rising edges of IRQ 0.
    struct Edges(u32);

    impl Device for Edges {
        fn name(&self) -> &'static str {
            "edges"
        }
        fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8) -> u64 {
            self.0.into()
        }
        fn write(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, _: u64) {
            self.0 = 0;
        }
        fn on_input(&mut self, _: &mut DeviceCtx<'_>, input: &Input) {
            if let Input::Line { level: true, .. } = input {
                self.0 += 1;
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

    fn with_edge_counter(bus: &mut Bus) {
        let edges = bus.add(Box::new(Edges(0)));
        bus.map_ports(edges, 0, 0x80, 1, 1);
        bus.connect(IrqLine::isa(0), edges);
    }

    #[test]
    fn a_second_has_1193181_ticks_and_ns_of_is_the_inverse() {
        assert_eq!(tick_at(1_000_000_000), 1_193_181);
        for tick in [0, 1, 2, 104, 105, 106, 1_193_181, u64::from(u32::MAX)] {
            assert_eq!(tick_at(ns_of(tick)), tick);
            assert!(tick == 0 || tick_at(ns_of(tick) - 1) == tick - 1);
        }
    }

    #[test]
    fn mode_0_goes_high_one_tick_more_than_the_count_after_the_write() {
        let mut bus = pit();
        program(&mut bus, 0, 0, 4);
        assert_eq!(wave(&mut bus, 0, 8), "00000111");
        program(&mut bus, 0, 0, 3);
        assert_eq!(wave(&mut bus, 0, 5), "00001");
    }

    #[test]
    fn mode_0_counts_on_below_zero_and_its_first_byte_stops_it() {
        let mut bus = pit();
        program(&mut bus, 0, 0, 2);
        tick(&mut bus, 4);
        assert_eq!(count(&mut bus, 0), 0xFFFF);
        bus.pio_write(0x40, 1, 5);
        assert!(!out(&mut bus, 0));
        let stopped = count(&mut bus, 0);
        tick(&mut bus, 9);
        assert_eq!(count(&mut bus, 0), stopped);
        bus.pio_write(0x40, 1, 0);
        tick(&mut bus, 1);
        assert_eq!(count(&mut bus, 0), 5);
    }

    #[test]
    fn mode_0_gate_holds_the_count_and_not_the_output() {
        let mut bus = pit();
        gate2(&mut bus, true);
        program(&mut bus, 2, 0, 10);
        tick(&mut bus, 5);
        assert_eq!(count(&mut bus, 2), 6);
        gate2(&mut bus, false);
        tick(&mut bus, 50);
        assert_eq!(count(&mut bus, 2), 6);
        gate2(&mut bus, true);
        tick(&mut bus, 5);
        assert!(!out(&mut bus, 2));
        tick(&mut bus, 1);
        assert!(out(&mut bus, 2));
        assert_eq!(bus.pio_read(0x61, 1) & 0x20, 0x20);
    }

    #[test]
    fn mode_1_is_low_for_the_count_after_each_trigger() {
        let mut bus = pit();
        program(&mut bus, 2, 1, 3);
        assert_eq!(wave(&mut bus, 2, 3), "111");
        gate2(&mut bus, true);
        assert_eq!(wave(&mut bus, 2, 6), "100011");
        gate2(&mut bus, false);
        gate2(&mut bus, true);
        tick(&mut bus, 2);
        gate2(&mut bus, false);
        gate2(&mut bus, true);
        assert_eq!(wave(&mut bus, 2, 6), "000011", "a trigger starts over");
    }

    #[test]
    fn mode_2_is_low_for_the_last_tick_of_each_period() {
        let mut bus = pit();
        program(&mut bus, 0, 2, 3);
        assert_eq!(wave(&mut bus, 0, 10), "1110110110");
        let counts: Vec<_> = (0..4)
            .map(|_| {
                let count = count(&mut bus, 0);
                tick(&mut bus, 1);
                count
            })
            .collect();
        assert_eq!(counts, [3, 2, 1, 3]);
    }

    #[test]
    fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
        let mut bus = pit();
        program(&mut bus, 0, 2, 5);
        tick(&mut bus, 2);
        bus.pio_write(0x40, 1, 2);
        bus.pio_write(0x40, 1, 0);
        assert_eq!(status(&mut bus, 0) & 0x40, 0x40, "null count until then");
        assert_eq!(wave(&mut bus, 0, 8), "11101010");
        assert_eq!(status(&mut bus, 0) & 0x40, 0);
    }

    #[test]
    fn mode_2_gate_forces_the_output_high_and_reloads() {
        let mut bus = pit();
        gate2(&mut bus, true);
        program(&mut bus, 2, 2, 3);
        tick(&mut bus, 3);
        assert!(!out(&mut bus, 2));
        gate2(&mut bus, false);
        assert!(out(&mut bus, 2));
        tick(&mut bus, 7);
        gate2(&mut bus, true);
        assert_eq!(wave(&mut bus, 2, 5), "11101");
    }

    #[test]
    fn mode_3_is_a_square_wave_and_odd_counts_are_longer_high() {
        let mut bus = pit();
        program(&mut bus, 0, 3, 4);
        assert_eq!(wave(&mut bus, 0, 10), "1110011001");
        program(&mut bus, 0, 3, 5);
        assert_eq!(wave(&mut bus, 0, 11), "11110011100");
        program(&mut bus, 0, 3, 6);
        tick(&mut bus, 1);
        let counts: Vec<_> = (0..6)
            .map(|_| {
                let count = count(&mut bus, 0);
                tick(&mut bus, 1);
                count
            })
            .collect();
        assert_eq!(counts, [6, 4, 2, 6, 4, 2]);
    }

    #[test]
    fn mode_4_strobes_once() {
        let mut bus = pit();
        program(&mut bus, 0, 4, 2);
        assert_eq!(wave(&mut bus, 0, 7), "1110111");
    }

    #[test]
    fn mode_5_strobes_after_a_trigger() {
        let mut bus = pit();
        program(&mut bus, 2, 5, 2);
        assert_eq!(wave(&mut bus, 2, 3), "111");
        gate2(&mut bus, true);
        assert_eq!(wave(&mut bus, 2, 6), "111011");
    }

    #[test]
    fn bcd_counts_in_decimal() {
        let mut bus = pit();
        bus.pio_write(0x43, 1, 0x35);
        bus.pio_write(0x40, 1, 0x00);
        bus.pio_write(0x40, 1, 0x10);
        tick(&mut bus, 2);
        assert_eq!(count(&mut bus, 0), 0x0999);
        bus.pio_write(0x43, 1, 0x31);
        bus.pio_write(0x40, 1, 0);
        bus.pio_write(0x40, 1, 0);
        tick(&mut bus, 3);
        assert_eq!(count(&mut bus, 0), 0x9998, "0 stands for 10000");
    }

    #[test]
    fn a_latched_count_stays_until_it_is_read() {
        let mut bus = pit();
        program(&mut bus, 0, 2, 0x1234);
        tick(&mut bus, 1);
        bus.pio_write(0x43, 1, 0x00);
        tick(&mut bus, 7);
        bus.pio_write(0x43, 1, 0x00);
        assert_eq!(bus.pio_read(0x40, 1), 0x34);
        tick(&mut bus, 7);
        assert_eq!(bus.pio_read(0x40, 1), 0x12);
        assert_eq!(bus.pio_read(0x40, 1), 0x34 - 14);
    }

    #[test]
    fn read_back_latches_status_before_count() {
        let mut bus = pit();
        program(&mut bus, 1, 2, 9);
        tick(&mut bus, 2);
        bus.pio_write(0x43, 1, 0xC4);
        assert_eq!(bus.pio_read(0x41, 1), 0xB4);
        assert_eq!(bus.pio_read(0x41, 1), 8);
        assert_eq!(bus.pio_read(0x41, 1), 0);
    }

    #[test]
    fn the_status_shows_the_control_word_as_written() {
        let mut bus = pit();
        for (control, mode) in [(0xBC, 2), (0xBE, 3)] {
            bus.pio_write(0x43, 1, control);
            bus.pio_write(0x43, 1, 0xE8);
            // OUT is high, and no count is loaded.
            assert_eq!(bus.pio_read(0x42, 1), 0xC0 | control & 0x3F, "mode {mode}");
        }
    }

    #[test]
    fn single_byte_accesses_mean_the_byte_that_the_control_word_names() {
        let mut bus = pit();
        bus.pio_write(0x43, 1, 0x64);
        bus.pio_write(0x41, 1, 2);
        tick(&mut bus, 1);
        assert_eq!(bus.pio_read(0x41, 1), 2);
        assert_eq!(count(&mut bus, 1) & 0xFF00, 0x0200);
        bus.pio_write(0x43, 1, 0x54);
        bus.pio_write(0x41, 1, 7);
        tick(&mut bus, 2);
        assert_eq!(bus.pio_read(0x41, 1), 6);
        assert_eq!(bus.pio_read(0x41, 1), 6);
    }

    #[test]
    fn irq_0_rises_once_a_period_at_the_exact_nanosecond() {
        for mode in [2, 3] {
            let mut bus = pit();
            with_edge_counter(&mut bus);
            program(&mut bus, 0, mode, 11932);
            bus.pio_write(0x80, 1, 0);
            advance(&mut bus, ns_of(1 + 11932) - 1);
            assert_eq!(bus.pio_read(0x80, 1), 0, "mode {mode}");
            advance(&mut bus, 1);
            assert_eq!(bus.pio_read(0x80, 1), 1, "mode {mode}");
            advance(&mut bus, 1_000_000_000);
            assert_eq!(bus.pio_read(0x80, 1), 100, "mode {mode}");
        }
    }

    #[test]
    fn mode_0_interrupts_once() {
        let mut bus = pit();
        with_edge_counter(&mut bus);
        program(&mut bus, 0, 0, 1000);
        advance(&mut bus, ns_of(1001) - 1);
        assert_eq!(bus.pio_read(0x80, 1), 0);
        advance(&mut bus, 1_000_000_000);
        assert_eq!(bus.pio_read(0x80, 1), 1);
    }

    #[test]
    fn a_machine_that_looks_late_still_hears_an_edge() {
        let mut bus = pit();
        with_edge_counter(&mut bus);
        program(&mut bus, 0, 2, 1000);
        tick(&mut bus, 1);
        bus.pio_write(0x80, 1, 0);
        bus.clock.skip_to(ns_of(5500));
        bus.run_due_events();
        assert_eq!(bus.pio_read(0x80, 1), 1);
    }

    #[test]
    fn few_events_are_made() {
        let mut bus = pit();
        program(&mut bus, 1, 2, 18);
        program(&mut bus, 2, 3, 100);
        assert_eq!(bus.events.next_deadline_ns(), None, "only OUT0 is wired");
        program(&mut bus, 0, 0, 0);
        tick(&mut bus, 1);
        assert_eq!(bus.events.next_deadline_ns(), Some(ns_of(0x1_0001)));
    }

    #[test]
    fn port_61_toggles_with_every_refresh() {
        let mut bus = pit();
        bus.pio_write(0x61, 1, 0xFE);
        assert_eq!(bus.pio_read(0x61, 1) & 0xCF, 0x0E);
        let first = bus.pio_read(0x61, 1) & 0x10;
        tick(&mut bus, 18);
        assert_ne!(bus.pio_read(0x61, 1) & 0x10, first);
    }
}
