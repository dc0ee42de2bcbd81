//! National Semiconductor PC16550D, a serial port with FIFOs.
//!
//! Datasheet: National Semiconductor PC16550D (1995).
//!
//! | region | port | read | write |
//! |---|---|---|---|
//! | [`Uart16550::PORTS`] | 0 | RBR, or DLL while DLAB | THR, or DLL |
//! | | 1 | IER, or DLM | IER, or DLM |
//! | | 2 | IIR | FCR |
//! | | 3, 4 | LCR, MCR | the same |
//! | | 5, 6 | LSR, MSR | - |
//! | | 7 | SCR | SCR |
//!
//! A character takes its programmed time, but at most [`FASTEST_CHARACTER_NS`] (10 bits at 921600 baud):
//! a kernel that boots over a serial console would otherwise wait for most of its virtual time. What is
//! written to THR leaves the machine at once, in order and with all eight bits, whatever the
//! line format and also if the transmit FIFO is full; only THRE and TEMT take time. Received bytes wait in
//! a queue on the host's side and enter the receiver, a character time apart, as it has room: they
//! overrun in loopback only.
//!
//! The other end is a terminal that is always ready: CTS, DSR and DCD are on, RI is off. OUT2 of MCR
//! gates the interrupt, in loopback too, once it has been set: the gate is the PC adapter's and not the
//! chip's, there are adapters without it, and systems that never set OUT2 still expect interrupts.
//! Not modelled: parity, stick parity and framing errors from the line, and the one-character delay
//! of THRE after a write to an empty FIFO.

use std::collections::VecDeque;

use log::{debug, trace};
use platform::{Device, DeviceCtx, Input, IrqLine, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "uart16550";
const TIMER_TRANSMIT: u32 = 0;
const TIMER_RECEIVE: u32 = 1;
const TIMER_TIMEOUT: u32 = 2;

/// The longest that a character takes.
pub const FASTEST_CHARACTER_NS: u64 = 10_850;
/// The baud generator's input, 16 times the highest rate.
const CLOCK_HZ: u64 = 1_843_200;
const FIFO_BYTES: usize = 16;

const IER_RECEIVED: u8 = 0x01;
const IER_THRE: u8 = 0x02;
const IER_LINE: u8 = 0x04;
const IER_MODEM: u8 = 0x08;

const IIR_NONE: u8 = 0x01;
const IIR_MODEM: u8 = 0x00;
const IIR_THRE: u8 = 0x02;
const IIR_RECEIVED: u8 = 0x04;
const IIR_LINE: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0C;
const IIR_FIFOS: u8 = 0xC0;

const FCR_ENABLE: u8 = 0x01;
const FCR_CLEAR_RECEIVER: u8 = 0x02;
const FCR_CLEAR_TRANSMITTER: u8 = 0x04;

const LCR_BREAK: u8 = 0x40;
const LCR_DLAB: u8 = 0x80;

const MCR_DTR: u8 = 0x01;
const MCR_RTS: u8 = 0x02;
const MCR_OUT1: u8 = 0x04;
const MCR_OUT2: u8 = 0x08;
const MCR_LOOP: u8 = 0x10;

const LSR_DR: u8 = 0x01;
const LSR_OE: u8 = 0x02;
const LSR_FE: u8 = 0x08;
const LSR_BI: u8 = 0x10;
const LSR_THRE: u8 = 0x20;
const LSR_TEMT: u8 = 0x40;
const LSR_FIFO_ERROR: u8 = 0x80;
/// OE, PE, FE and BI.
const LSR_ERRORS: u8 = 0x1E;

const MSR_CTS: u8 = 0x10;
const MSR_DSR: u8 = 0x20;
const MSR_RI: u8 = 0x40;
const MSR_DCD: u8 = 0x80;

/// All that is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    ier: u8,
    lcr: u8,
    mcr: u8,
    scr: u8,
    fcr: u8,
    divisor: u16,
    /// OE, which belongs to no character.
    overrun: bool,
    /// Received characters with their PE, FE and BI.
    receiver: VecDeque<(u8, u8)>,
    /// The character that RBR shows when nothing is received.
    last_received: u8,
    timed_out: bool,
    /// Characters that wait for the shift register. Only loopback needs their values.
    transmitter: VecDeque<u8>,
    /// What the shift register holds.
    shifting: Option<u8>,
    /// The transmitter has become empty since IIR last said so.
    thre_pending: bool,
    /// MSR bits 3-0, which reading clears.
    msr_deltas: u8,
    /// OUT2 has been set since the reset.
    gated: bool,
    /// What the host has sent and the receiver has not taken yet.
    host: VecDeque<u8>,
    /// The next character from the host is on the line.
    receiving: bool,
}

impl State {
    fn new() -> Self {
        Self {
            ier: 0,
            lcr: 0,
            mcr: 0,
            scr: 0,
            fcr: 0,
            divisor: 12,
            overrun: false,
            receiver: VecDeque::new(),
            last_received: 0,
            timed_out: false,
            transmitter: VecDeque::new(),
            shifting: None,
            thre_pending: false,
            msr_deltas: 0,
            gated: false,
            host: VecDeque::new(),
            receiving: false,
        }
    }

    fn fifos(&self) -> bool {
        self.fcr & FCR_ENABLE != 0
    }

    fn depth(&self) -> usize {
        if self.fifos() { FIFO_BYTES } else { 1 }
    }

    fn trigger_level(&self) -> usize {
        match (self.fifos(), self.fcr >> 6) {
            (false, _) | (_, 0) => 1,
            (_, 1) => 4,
            (_, 2) => 8,
            _ => 14,
        }
    }

    fn looped(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    fn word_mask(&self) -> u8 {
        0xFF >> (3 - (self.lcr & 3))
    }

    /// Start bit, 5 to 8 data bits, parity, stop bit.
    fn character_ns(&self) -> u64 {
        let bits = 7
            + u64::from(self.lcr & 3)
            + u64::from(self.lcr >> 2 & 1)
            + u64::from(self.lcr >> 3 & 1);
        let programmed_ns = bits * 16 * u64::from(self.divisor) * 1_000_000_000 / CLOCK_HZ;
        match programmed_ns {
            0 => FASTEST_CHARACTER_NS,
            ns => ns.min(FASTEST_CHARACTER_NS),
        }
    }

    fn lsr(&self) -> u8 {
        let mut lsr = 0;
        if let Some((_, errors)) = self.receiver.front() {
            lsr |= LSR_DR | errors;
        }
        if self.overrun {
            lsr |= LSR_OE;
        }
        if self.transmitter.is_empty() {
            lsr |= LSR_THRE;
            if self.shifting.is_none() {
                lsr |= LSR_TEMT;
            }
        }
        if self.fifos() && self.receiver.iter().any(|&(_, errors)| errors != 0) {
            lsr |= LSR_FIFO_ERROR;
        }
        lsr
    }

    /// Reading LSR clears its error bits.
    fn read_lsr(&mut self) -> u8 {
        let lsr = self.lsr();
        self.overrun = false;
        if let Some((_, errors)) = self.receiver.front_mut() {
            *errors = 0;
        }
        lsr
    }

    fn modem_inputs(&self) -> u8 {
        if !self.looped() {
            return MSR_CTS | MSR_DSR | MSR_DCD;
        }
        let wire = |output: u8, input: u8| if self.mcr & output != 0 { input } else { 0 };
        wire(MCR_RTS, MSR_CTS)
            | wire(MCR_DTR, MSR_DSR)
            | wire(MCR_OUT1, MSR_RI)
            | wire(MCR_OUT2, MSR_DCD)
    }

    fn write_mcr(&mut self, value: u8) {
        let before = self.modem_inputs();
        self.mcr = value & 0x1F;
        self.gated |= value & MCR_OUT2 != 0;
        let after = self.modem_inputs();
        let changed = before ^ after;
        // DCTS, DDSR and DDCD tell of any change, TERI of the ring's end only.
        self.msr_deltas |= changed >> 4 & 0b1011;
        if changed & MSR_RI != 0 && after & MSR_RI == 0 {
            self.msr_deltas |= 0b0100;
        }
    }

    /// The interrupt with the highest priority.
    fn iir(&self) -> u8 {
        let lsr = self.lsr();
        if self.ier & IER_LINE != 0 && lsr & LSR_ERRORS != 0 {
            IIR_LINE
        } else if self.ier & IER_RECEIVED != 0 && self.receiver.len() >= self.trigger_level() {
            IIR_RECEIVED
        } else if self.ier & IER_RECEIVED != 0 && self.timed_out {
            IIR_TIMEOUT
        } else if self.ier & IER_THRE != 0 && self.thre_pending {
            IIR_THRE
        } else if self.ier & IER_MODEM != 0 && self.msr_deltas != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }

    fn clear_receiver(&mut self) {
        self.receiver.clear();
        self.timed_out = false;
    }

    fn clear_transmitter(&mut self) {
        if !self.transmitter.is_empty() {
            self.transmitter.clear();
            self.thre_pending = true;
        }
    }

    fn write_fcr(&mut self, value: u8) {
        if (value ^ self.fcr) & FCR_ENABLE != 0 {
            self.clear_receiver();
            self.clear_transmitter();
        }
        if value & FCR_ENABLE == 0 {
            // The other bits need FCR0 set to be programmed.
            self.fcr = 0;
            return;
        }
        if value & FCR_CLEAR_RECEIVER != 0 {
            self.clear_receiver();
        }
        if value & FCR_CLEAR_TRANSMITTER != 0 {
            self.clear_transmitter();
        }
        self.fcr = value & !(FCR_CLEAR_RECEIVER | FCR_CLEAR_TRANSMITTER);
    }

    /// A character arrives; without room it is lost, or with FIFOs off takes the place of the last.
    fn receive(&mut self, byte: u8, errors: u8) {
        if self.receiver.len() >= self.depth() {
            self.overrun = true;
            if !self.fifos() {
                self.receiver.clear();
                self.receiver.push_back((byte, errors));
            }
            return;
        }
        self.receiver.push_back((byte, errors));
    }
}

/// A serial port.
#[derive(Clone, Debug)]
pub struct Uart16550 {
    port: u8,
    irq: IrqLine,
    state: State,
}

impl Uart16550 {
    /// Region: the eight ports.
    pub const PORTS: u8 = 0;

    const VERSION: u32 = 2;

    /// Serial port number `port` (0 = COM1), whose interrupt is `irq`.
    pub fn new(port: u8, irq: IrqLine) -> Self {
        Self {
            port,
            irq,
            state: State::new(),
        }
    }

    fn drive(&mut self, ctx: &mut DeviceCtx<'_>) {
        let passes = !self.state.gated || self.state.mcr & MCR_OUT2 != 0;
        ctx.set_line(self.irq, passes && self.state.iir() != IIR_NONE);
    }

    fn after(&self, ctx: &DeviceCtx<'_>, characters: u64) -> u64 {
        ctx.now_ns()
            .saturating_add(self.state.character_ns() * characters)
    }

    /// The character time-out starts again with each character that comes or is read.
    fn restart_timeout(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.state.timed_out = false;
        if self.state.fifos() && !self.state.receiver.is_empty() {
            let deadline_ns = self.after(ctx, 4);
            ctx.schedule(TIMER_TIMEOUT, deadline_ns);
        } else {
            ctx.cancel(TIMER_TIMEOUT);
        }
    }

    /// Puts the host's next character on the line, if the receiver will have room for it.
    fn start_receiving(&mut self, ctx: &mut DeviceCtx<'_>) {
        let state = &mut self.state;
        let room = state.receiver.len() < state.depth();
        if room && !state.receiving && !state.looped() && !state.host.is_empty() {
            state.receiving = true;
            let deadline_ns = self.after(ctx, 1);
            ctx.schedule(TIMER_RECEIVE, deadline_ns);
        }
    }

    fn write_thr(&mut self, ctx: &mut DeviceCtx<'_>, byte: u8) {
        if !self.state.looped() {
            ctx.output_byte(byte);
        }
        let state = &mut self.state;
        state.thre_pending = false;
        if state.transmitter.len() >= state.depth() {
            debug!(target: TARGET, "COM{}: transmitter overrun", self.port + 1);
            state.transmitter.pop_back();
        }
        state.transmitter.push_back(byte);
        if state.shifting.is_none() {
            self.shift(ctx);
        }
    }

    /// Moves the next character into the shift register.
    fn shift(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.state.shifting = self.state.transmitter.pop_front();
        if self.state.shifting.is_some() {
            self.state.thre_pending |= self.state.transmitter.is_empty();
            let deadline_ns = self.after(ctx, 1);
            ctx.schedule(TIMER_TRANSMIT, deadline_ns);
        }
    }

    fn read_rbr(&mut self, ctx: &mut DeviceCtx<'_>) -> u8 {
        if let Some((byte, _)) = self.state.receiver.pop_front() {
            self.state.last_received = byte;
        }
        self.restart_timeout(ctx);
        self.start_receiving(ctx);
        self.state.last_received
    }

    fn read_register(&mut self, ctx: &mut DeviceCtx<'_>, offset: u64) -> u8 {
        let state = &mut self.state;
        let dlab = state.lcr & LCR_DLAB != 0;
        match offset & 7 {
            0 if dlab => state.divisor as u8,
            1 if dlab => (state.divisor >> 8) as u8,
            0 => self.read_rbr(ctx),
            1 => state.ier,
            2 => {
                let iir = state.iir();
                if iir == IIR_THRE {
                    state.thre_pending = false;
                }
                iir | if state.fifos() { IIR_FIFOS } else { 0 }
            }
            3 => state.lcr,
            4 => state.mcr,
            5 => state.read_lsr(),
            6 => state.modem_inputs() | std::mem::take(&mut state.msr_deltas),
            _ => state.scr,
        }
    }

    fn write_register(&mut self, ctx: &mut DeviceCtx<'_>, offset: u64, value: u8) {
        let state = &mut self.state;
        let dlab = state.lcr & LCR_DLAB != 0;
        match offset & 7 {
            0 if dlab => state.divisor = state.divisor & 0xFF00 | u16::from(value),
            1 if dlab => state.divisor = state.divisor & 0x00FF | u16::from(value) << 8,
            0 => self.write_thr(ctx, value),
            1 => {
                let enabled = value & !state.ier;
                state.ier = value & 0x0F;
                // Drivers expect THRE when ETBEI goes from 0 to 1, though the data sheet is silent.
                if enabled & IER_THRE != 0 && state.transmitter.is_empty() {
                    state.thre_pending = true;
                }
            }
            2 => {
                state.write_fcr(value);
                self.restart_timeout(ctx);
                self.start_receiving(ctx);
            }
            3 => {
                let begins = value & !state.lcr & LCR_BREAK != 0;
                state.lcr = value;
                if begins && state.looped() {
                    // A break is received as a null character with a framing error.
                    state.receive(0, LSR_BI | LSR_FE);
                    self.restart_timeout(ctx);
                }
            }
            4 => {
                debug!(target: TARGET, "COM{}: MCR {value:02x}", self.port + 1);
                state.write_mcr(value);
                self.start_receiving(ctx);
            }
            7 => state.scr = value,
            // LSR and MSR are for reading; writing them is for factory tests.
            _ => {}
        }
    }
}

impl Device for Uart16550 {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, _region: u8, offset: u64, _size: u8) -> u64 {
        let value = self.read_register(ctx, offset);
        trace!(target: TARGET, "COM{}: read {offset} = {value:02x}", self.port + 1);
        self.drive(ctx);
        value.into()
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _region: u8, offset: u64, _size: u8, value: u64) {
        let value = value as u8;
        trace!(target: TARGET, "COM{}: write {offset} = {value:02x}", self.port + 1);
        self.write_register(ctx, offset, value);
        self.drive(ctx);
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, timer: u32) {
        match timer {
            TIMER_TRANSMIT => {
                let sent = self.state.shifting.take();
                if let Some(byte) = sent
                    && self.state.looped()
                {
                    let byte = byte & self.state.word_mask();
                    self.state.receive(byte, 0);
                    self.restart_timeout(ctx);
                }
                self.shift(ctx);
            }
            TIMER_RECEIVE => {
                self.state.receiving = false;
                // The FIFOs may have been switched off since; the character then waits for its turn.
                if self.state.receiver.len() < self.state.depth()
                    && !self.state.looped()
                    && let Some(byte) = self.state.host.pop_front()
                {
                    self.state.receive(byte, 0);
                    self.restart_timeout(ctx);
                }
                self.start_receiving(ctx);
            }
            TIMER_TIMEOUT => self.state.timed_out = !self.state.receiver.is_empty(),
            _ => {}
        }
        self.drive(ctx);
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Serial { port, bytes } = input
            && *port == self.port
        {
            self.state.host.extend(bytes);
            self.start_receiving(ctx);
        }
    }

    fn takes_input(&self, _: &Input) -> bool {
        self.state.host.is_empty()
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.state = State::new();
        for timer in [TIMER_TRANSMIT, TIMER_RECEIVE, TIMER_TIMEOUT] {
            ctx.cancel(timer);
        }
        self.drive(ctx);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.state = state.decode(Self::VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::{advance, bus_with_regions};
    use platform::{Bus, DeviceId, Output, Said};

    platform::device_contract!(
        contract,
        Uart16550::new(0, IrqLine::isa(4)),
        [(Uart16550::PORTS, 8, 1)]
    );

    const CHARACTER_NS: u64 = FASTEST_CHARACTER_NS;

    fn uart() -> Bus {
        bus_with_regions(
            Box::new(Uart16550::new(0, IrqLine::isa(4))),
            &[(Uart16550::PORTS, 0, 8, 1)],
        )
    }

    /// 8N1, FIFOs with the given trigger bits, OUT2 on.
    fn fifo_uart(trigger: u32) -> Bus {
        let mut bus = uart();
        bus.pio_write(3, 1, 0x03);
        bus.pio_write(2, 1, trigger << 6 | 0x01);
        bus.pio_write(4, 1, 0x0B);
        bus
    }

    fn iir(bus: &mut Bus) -> u8 {
        bus.pio_read(2, 1) as u8
    }

    fn lsr(bus: &mut Bus) -> u8 {
        bus.pio_read(5, 1) as u8
    }

    fn irq(bus: &Bus) -> bool {
        bus.lines.level(IrqLine::isa(4))
    }

    fn host_sends(bus: &mut Bus, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        bus.input(DeviceId(0), &Input::Serial { port: 0, bytes });
    }

    #[test]
    fn registers_have_their_reset_values() {
        let mut bus = uart();
        let values: Vec<_> = (1..8).map(|port| bus.pio_read(port, 1)).collect();
        assert_eq!(values, [0, 0x01, 0, 0, 0x60, 0xB0, 0]);
    }

    #[test]
    fn the_divisor_hides_behind_dlab_and_scratch_keeps_its_byte() {
        let mut bus = uart();
        bus.pio_write(3, 1, 0x83);
        bus.pio_write(0, 1, 0x34);
        bus.pio_write(1, 1, 0x12);
        assert_eq!((bus.pio_read(0, 1), bus.pio_read(1, 1)), (0x34, 0x12));
        bus.pio_write(3, 1, 0x03);
        assert_eq!((bus.pio_read(0, 1), bus.pio_read(1, 1)), (0, 0));
        bus.pio_write(7, 1, 0xA5);
        assert_eq!(bus.pio_read(7, 1), 0xA5);
        bus.pio_write(1, 1, 0xFF);
        assert_eq!(bus.pio_read(1, 1), 0x0F);
    }

    #[test]
    fn bytes_leave_in_order_and_at_once() {
        let mut bus = uart();
        for byte in *b"hello" {
            bus.pio_write(0, 1, byte.into());
        }
        let said = Output {
            device: DeviceId(0),
            what: Said::Bytes(b"hello".to_vec()),
        };
        assert_eq!(bus.outputs, [said]);
    }

    #[test]
    fn thre_and_temt_take_a_character_each() {
        let mut bus = uart();
        bus.pio_write(0, 1, 0x41);
        assert_eq!(lsr(&mut bus), LSR_THRE, "straight into the shift register");
        bus.pio_write(0, 1, 0x42);
        assert_eq!(lsr(&mut bus), 0);
        advance(&mut bus, CHARACTER_NS);
        assert_eq!(lsr(&mut bus), LSR_THRE);
        advance(&mut bus, CHARACTER_NS);
        assert_eq!(lsr(&mut bus), LSR_THRE | LSR_TEMT);
    }

    #[test]
    fn enabling_the_thre_interrupt_raises_it_and_reading_iir_clears_it() {
        let mut bus = fifo_uart(0);
        assert_eq!(iir(&mut bus), 0xC1);
        bus.pio_write(1, 1, 0x02);
        assert!(irq(&bus));
        assert_eq!(iir(&mut bus), 0xC2);
        assert!(!irq(&bus));
        assert_eq!(iir(&mut bus), 0xC1);
        bus.pio_write(1, 1, 0x00);
        bus.pio_write(1, 1, 0x02);
        assert_eq!(iir(&mut bus), 0xC2, "again with each enabling");
    }

    #[test]
    fn the_thre_interrupt_comes_when_the_fifo_has_emptied() {
        let mut bus = fifo_uart(0);
        bus.pio_write(1, 1, 0x02);
        for byte in 0..16 {
            bus.pio_write(0, 1, byte);
        }
        assert!(!irq(&bus));
        advance(&mut bus, 14 * CHARACTER_NS);
        assert!(!irq(&bus));
        advance(&mut bus, CHARACTER_NS);
        assert!(irq(&bus));
        assert_eq!(iir(&mut bus), 0xC2);
    }

    #[test]
    fn out2_gates_the_interrupt_once_it_has_been_set() {
        // As xv6 has it: interrupts enabled, MCR never touched.
        let mut bus = uart();
        bus.pio_write(1, 1, 0x01);
        host_sends(&mut bus, b"x");
        advance(&mut bus, CHARACTER_NS);
        assert!(irq(&bus));
        bus.pio_write(4, 1, 0x03);
        assert!(irq(&bus), "OUT2 is off, and never was on");
        let mut bus = fifo_uart(0);
        bus.pio_write(1, 1, 0x02);
        bus.pio_write(4, 1, 0x03);
        assert!(!irq(&bus));
        bus.pio_write(4, 1, 0x0B);
        assert!(irq(&bus));
    }

    #[test]
    fn received_bytes_interrupt_at_the_trigger_level() {
        for (trigger, level) in [(0, 1), (1, 4), (2, 8), (3, 14)] {
            let mut bus = fifo_uart(trigger);
            bus.pio_write(1, 1, 0x01);
            host_sends(&mut bus, &[7; 20]);
            advance(&mut bus, CHARACTER_NS * level - 1);
            assert!(!irq(&bus), "before level {level}");
            advance(&mut bus, 1);
            assert!(irq(&bus), "at level {level}");
            assert_eq!(iir(&mut bus), 0xC4);
            bus.pio_read(0, 1);
            assert!(!irq(&bus), "below level {level}");
        }
    }

    #[test]
    fn a_character_time_out_tells_of_bytes_below_the_trigger_level() {
        let mut bus = fifo_uart(2);
        bus.pio_write(1, 1, 0x01);
        host_sends(&mut bus, &[1, 2]);
        advance(&mut bus, CHARACTER_NS * 6 - 1);
        assert_eq!(iir(&mut bus), 0xC1);
        advance(&mut bus, 1);
        assert_eq!(iir(&mut bus), 0xCC);
        assert_eq!(bus.pio_read(0, 1), 1);
        assert_eq!(iir(&mut bus), 0xC1, "reading starts the time anew");
        advance(&mut bus, CHARACTER_NS * 4);
        assert_eq!(iir(&mut bus), 0xCC);
        assert_eq!(bus.pio_read(0, 1), 2);
        assert_eq!(bus.events.next_deadline_ns(), None);
    }

    #[test]
    fn the_host_waits_for_room_and_nothing_is_lost() {
        for fifos in [0, 1] {
            let mut bus = uart();
            bus.pio_write(2, 1, fifos);
            let sent: Vec<u8> = (0..100).collect();
            host_sends(&mut bus, &sent);
            let mut got = Vec::new();
            for _ in 0..300 {
                advance(&mut bus, CHARACTER_NS * 3 / 2);
                if got.len() % 7 == 0 {
                    advance(&mut bus, CHARACTER_NS * 40);
                }
                let status = lsr(&mut bus);
                assert_eq!(status & LSR_ERRORS, 0);
                if status & LSR_DR != 0 {
                    got.push(bus.pio_read(0, 1) as u8);
                }
            }
            assert_eq!(got, sent);
        }
    }

    #[test]
    fn loopback_returns_characters_and_modem_lines() {
        let mut bus = fifo_uart(0);
        bus.pio_read(6, 1);
        bus.pio_write(4, 1, 0x1A);
        assert_eq!(bus.pio_read(6, 1), 0x90 | 0x02, "DSR went off");
        bus.pio_write(0, 1, 0x5A);
        advance(&mut bus, CHARACTER_NS);
        assert_eq!(bus.pio_read(0, 1), 0x5A);
        assert!(bus.outputs.is_empty());
        bus.pio_write(4, 1, 0x14);
        assert_eq!(bus.pio_read(6, 1), 0x40 | 0x09);
        bus.pio_write(4, 1, 0x10);
        assert_eq!(bus.pio_read(6, 1), 0x04, "TERI at the ring's end");
        assert_eq!(bus.pio_read(6, 1), 0x00);
    }

    #[test]
    fn loopback_overruns_and_line_status_has_the_highest_priority() {
        let mut bus = fifo_uart(0);
        bus.pio_write(4, 1, 0x18);
        bus.pio_write(1, 1, 0x0F);
        for byte in 0..17 {
            bus.pio_write(0, 1, byte);
            advance(&mut bus, CHARACTER_NS);
        }
        assert_eq!(iir(&mut bus), 0xC6);
        assert_eq!(lsr(&mut bus) & LSR_ERRORS, LSR_OE);
        assert_eq!(lsr(&mut bus) & LSR_ERRORS, 0);
        assert_eq!(iir(&mut bus), 0xC4);
        let got: Vec<_> = (0..16).map(|_| bus.pio_read(0, 1)).collect();
        assert_eq!(got, (0..16).collect::<Vec<_>>(), "the late one is lost");
    }

    #[test]
    fn a_break_in_loopback_is_a_null_character_with_errors() {
        let mut bus = fifo_uart(0);
        bus.pio_write(4, 1, 0x10);
        bus.pio_write(3, 1, 0x43);
        assert_eq!(lsr(&mut bus), 0xE0 | LSR_DR | LSR_BI | LSR_FE);
        assert_eq!(lsr(&mut bus), 0x60 | LSR_DR);
        assert_eq!(bus.pio_read(0, 1), 0);
    }

    #[test]
    fn switching_the_fifos_empties_them() {
        let mut bus = fifo_uart(0);
        host_sends(&mut bus, &[1, 2, 3]);
        advance(&mut bus, CHARACTER_NS * 3);
        bus.pio_write(2, 1, 0x00);
        assert_eq!(lsr(&mut bus), 0x60);
        assert_eq!(iir(&mut bus), 0x01);
    }

    #[test]
    fn more_bytes_are_taken_once_the_receiver_has_the_last() {
        let mut bus = uart();
        let takes = |bus: &Bus| {
            let (port, bytes) = (0, Vec::new());
            bus.takes_input(DeviceId(0), &Input::Serial { port, bytes })
        };
        assert!(takes(&bus));
        host_sends(&mut bus, &[1, 2]);
        assert!(!takes(&bus));
        advance(&mut bus, CHARACTER_NS * 4);
        assert!(!takes(&bus), "without a FIFO it holds one");
        assert_eq!(bus.pio_read(0, 1), 1);
        advance(&mut bus, CHARACTER_NS * 4);
        assert!(takes(&bus));
        assert_eq!(bus.pio_read(0, 1), 2);
    }

    #[test]
    fn another_ports_bytes_are_not_taken() {
        let mut bus = uart();
        let bytes = vec![1];
        bus.input(DeviceId(0), &Input::Serial { port: 1, bytes });
        advance(&mut bus, CHARACTER_NS * 2);
        assert_eq!(lsr(&mut bus), 0x60);
    }
}
