//! Intel 8042 keyboard controller with the program of a PS/2, the keyboard at its first port and the mouse at its
//! auxiliary port.
//!
//! Sources: IBM PS/2 Hardware Interface Technical Reference, "Keyboard/Auxiliary Device Controller";
//! Intel 8242 data sheet (290394).
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`I8042::DATA`] | 60 | output buffer (read), input buffer with A2 = 0 (write) |
//! | [`I8042::COMMAND`] | 64 | status (read), input buffer with A2 = 1 (write) |
//!
//! IRQ 1 and IRQ 12 follow OBF. The controller's own answers are there at once; a byte from a device
//! takes [`BYTE_NS`], also after the one before it was read. The output port drives reset, and the A20
//! latch, which is in [`PortA`]: reading the port tells the level of A20, whoever set it.
//!
//! Both devices share the one output buffer. While it is full, or a port is off, the controller holds that
//! device's clock, and the device keeps its bytes; where both wait, the keyboard goes first. Status bit 5 tells
//! whose byte it is. Translation is for the keyboard's only.
//!
//! Not modelled: IBF (a write is taken in at once), parity errors, the password commands (A5, A6) and
//! the diagnostic dump (AC).

use std::collections::VecDeque;

use log::{debug, trace};
use platform::{
    Device, DeviceCtx, Input, IrqLine, MachineRequest, SavedState, StateError, StateView,
};
use serde::{Deserialize, Serialize};

use super::keymap::translate;
use super::ps2_keyboard::Ps2Keyboard;
use super::ps2_mouse::Ps2Mouse;
use crate::power::A20Gates;

const TARGET: &str = "i8042";
const TIMER_BYTE: u32 = 0;
const TIMER_KEYBOARD: u32 = 1;
const TIMER_MOUSE: u32 = 2;

/// From a device's first clock to OBF. Eleven bits take 0.7 to 1.1 ms on hardware; a quarter of that
/// is slow enough for every program.
pub const BYTE_NS: u64 = 250_000;

const STATUS_OBF: u8 = 0x01;
const STATUS_SYS: u8 = 0x04;
const STATUS_A2: u8 = 0x08;
const STATUS_UNLOCKED: u8 = 0x10;
const STATUS_AUX_OBF: u8 = 0x20;

const CB_KEYBOARD_IRQ: u8 = 0x01;
const CB_AUX_IRQ: u8 = 0x02;
const CB_SYS: u8 = 0x04;
const CB_KEYBOARD_OFF: u8 = 0x10;
const CB_AUX_OFF: u8 = 0x20;
const CB_TRANSLATE: u8 = 0x40;

const OUT_NO_RESET: u8 = 0x01;
const OUT_A20: u8 = 0x02;
/// Bits 2 and 3 are not driven by anything here; 6 and 7 are the keyboard's clock and data.
const OUT_ONES: u8 = 0xCC;
const OUT_IRQ1: u8 = 0x10;
const OUT_IRQ12: u8 = 0x20;

const BREAK_PREFIX: u8 = 0xF0;

/// A byte on its way into the output buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reply {
    byte: u8,
    aux: bool,
}

/// All that is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    keyboard: Ps2Keyboard,
    mouse: Ps2Mouse,
    /// The controller's RAM; byte 0 is the command byte.
    ram: [u8; 32],
    output: Reply,
    obf: bool,
    last_was_command: bool,
    /// The command that takes the next byte written to port 60.
    awaiting: Option<u8>,
    replies: VecDeque<Reply>,
    /// Translation has seen F0 and marks the next code as released.
    breaking: bool,
    /// A device's byte is under way.
    transferring: bool,
    /// The wires to the A20 latch; not saved, as the board has them.
    #[serde(skip)]
    gates: Option<A20Gates>,
}

impl State {
    fn new(gates: A20Gates) -> Self {
        let mut ram = [0; 32];
        ram[0] = CB_TRANSLATE | CB_KEYBOARD_OFF | CB_AUX_OFF;
        Self {
            keyboard: Ps2Keyboard::new(),
            mouse: Ps2Mouse::new(),
            ram,
            output: Reply {
                byte: 0,
                aux: false,
            },
            obf: false,
            last_was_command: false,
            awaiting: None,
            replies: VecDeque::new(),
            breaking: false,
            transferring: false,
            gates: Some(gates),
        }
    }

    fn command_byte(&self) -> u8 {
        self.ram[0]
    }

    fn status(&self) -> u8 {
        let mut status = STATUS_UNLOCKED;
        if self.obf {
            status |= STATUS_OBF;
            if self.output.aux {
                status |= STATUS_AUX_OBF;
            }
        }
        if self.command_byte() & CB_SYS != 0 {
            status |= STATUS_SYS;
        }
        if self.last_was_command {
            status |= STATUS_A2;
        }
        status
    }

    fn irq1(&self) -> bool {
        self.obf && !self.output.aux && self.command_byte() & CB_KEYBOARD_IRQ != 0
    }

    fn irq12(&self) -> bool {
        self.obf && self.output.aux && self.command_byte() & CB_AUX_IRQ != 0
    }

    fn reply(&mut self, byte: u8) {
        self.reply_as(Reply { byte, aux: false });
    }

    fn reply_as(&mut self, reply: Reply) {
        // A controller has one output buffer: a program that never reads loses old answers.
        if self.replies.len() >= 16 {
            self.replies.pop_front();
        }
        self.replies.push_back(reply);
    }

    /// Moves the controller's own answer into the output buffer, if that is free.
    fn fill(&mut self) {
        if !self.obf
            && let Some(reply) = self.replies.pop_front()
        {
            self.output = reply;
            self.obf = true;
        }
    }

    fn keyboard_byte_waits(&self) -> bool {
        self.command_byte() & CB_KEYBOARD_OFF == 0 && self.keyboard.has_byte()
    }

    fn mouse_byte_waits(&self) -> bool {
        self.command_byte() & CB_AUX_OFF == 0 && self.mouse.has_byte()
    }

    /// The next byte of a device; `None` if none waits or if it was only a prefix.
    fn next_device_byte(&mut self, now_ns: u64) -> Option<Reply> {
        if self.keyboard_byte_waits() {
            let byte = self.next_keyboard_byte()?;
            Some(Reply { byte, aux: false })
        } else if self.mouse_byte_waits() {
            let byte = self.mouse.send(now_ns)?;
            Some(Reply { byte, aux: true })
        } else {
            None
        }
    }

    /// The keyboard's next byte, translated; `None` if it was only a prefix.
    fn next_keyboard_byte(&mut self) -> Option<u8> {
        let byte = self.keyboard.send()?;
        if self.command_byte() & CB_TRANSLATE == 0 {
            Some(byte)
        } else if byte == BREAK_PREFIX {
            self.breaking = true;
            None
        } else if byte < 0x85 {
            Some(translate(byte) | u8::from(std::mem::take(&mut self.breaking)) << 7)
        } else {
            Some(byte)
        }
    }

    fn send_to_keyboard(&mut self, now_ns: u64, byte: u8) {
        // Sending to the keyboard enables its interface.
        self.ram[0] &= !CB_KEYBOARD_OFF;
        self.keyboard.receive(now_ns, byte);
    }

    fn send_to_mouse(&mut self, now_ns: u64, byte: u8) {
        // As for the keyboard.
        self.ram[0] &= !CB_AUX_OFF;
        self.mouse.receive(now_ns, byte);
    }

    fn read_output_port(&self, ctx: &DeviceCtx<'_>) -> u8 {
        let mut port = OUT_NO_RESET | OUT_ONES;
        if ctx.line(IrqLine::A20) {
            port |= OUT_A20;
        }
        if self.irq1() {
            port |= OUT_IRQ1;
        }
        if self.irq12() {
            port |= OUT_IRQ12;
        }
        port
    }

    fn write_output_port(&self, ctx: &mut DeviceCtx<'_>, value: u8) {
        set_a20(ctx, self.gates, value & OUT_A20 != 0);
        if value & OUT_NO_RESET == 0 {
            debug!(target: TARGET, "reset through the output port");
            ctx.request(MachineRequest::Reset);
        }
    }

    fn command(&mut self, ctx: &mut DeviceCtx<'_>, command: u8) {
        debug!(target: TARGET, "command {command:02x}");
        self.awaiting = None;
        match command {
            0x20..=0x3F => self.reply(self.ram[usize::from(command & 0x1F)]),
            0x60..=0x7F | 0xD1..=0xD4 => self.awaiting = Some(command),
            // No password is installed.
            0xA4 => self.reply(0xF1),
            0xA7 => self.ram[0] |= CB_AUX_OFF,
            0xA8 => self.ram[0] &= !CB_AUX_OFF,
            // The lines of both ports are neither stuck low nor high.
            0xA9 | 0xAB => self.reply(0x00),
            0xAA => {
                self.obf = false;
                self.replies.clear();
                self.breaking = false;
                self.ram[0] |= CB_SYS;
                self.reply(0x55);
            }
            0xAD => self.ram[0] |= CB_KEYBOARD_OFF,
            0xAE => self.ram[0] &= !CB_KEYBOARD_OFF,
            // Input port: keyboard not locked, colour display, no jumper, RAM fitted.
            0xC0 => self.reply(0xB0),
            0xD0 => self.reply(self.read_output_port(ctx)),
            0xDD => set_a20(ctx, self.gates, false),
            0xDF => set_a20(ctx, self.gates, true),
            // Test inputs: both clocks are high.
            0xE0 => self.reply(0x03),
            0xF0..=0xFF => {
                if command & OUT_NO_RESET == 0 {
                    debug!(target: TARGET, "reset pulse");
                    ctx.request(MachineRequest::Reset);
                }
            }
            _ => debug!(target: TARGET, "unknown command {command:02x}"),
        }
    }

    fn data(&mut self, ctx: &mut DeviceCtx<'_>, value: u8) {
        match self.awaiting.take() {
            None => self.send_to_keyboard(ctx.now_ns(), value),
            Some(command @ 0x60..=0x7F) => self.ram[usize::from(command & 0x1F)] = value,
            Some(0xD1) => self.write_output_port(ctx, value),
            Some(command @ (0xD2 | 0xD3)) => self.reply_as(Reply {
                byte: value,
                aux: command == 0xD3,
            }),
            Some(_) => self.send_to_mouse(ctx.now_ns(), value),
        }
    }
}

/// A pulse to the A20 latch: also a value that it has already counts as written last.
fn set_a20(ctx: &mut DeviceCtx<'_>, gates: Option<A20Gates>, on: bool) {
    let Some(gates) = gates else {
        return;
    };
    let wire = if on { gates.on } else { gates.off };
    ctx.set_line(wire, true);
    ctx.set_line(wire, false);
}

/// The controller, its keyboard and its mouse.
#[derive(Clone, Debug)]
pub struct I8042 {
    state: State,
}

impl I8042 {
    /// Region: port 60.
    pub const DATA: u8 = 0;
    /// Region: port 64.
    pub const COMMAND: u8 = 1;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] =
        &[(Self::DATA, 0x60, 1, 1), (Self::COMMAND, 0x64, 1, 1)];

    const VERSION: u32 = 3;

    /// A controller before its self-test, with a keyboard and a mouse.
    pub fn new(gates: A20Gates) -> Self {
        Self {
            state: State::new(gates),
        }
    }

    /// Fills the output buffer, drives the wires, and arms the timers.
    fn settle(&mut self, ctx: &mut DeviceCtx<'_>) {
        let state = &mut self.state;
        state.fill();
        ctx.set_line(IrqLine::isa(1), state.irq1());
        ctx.set_line(IrqLine::isa(12), state.irq12());
        let waits = state.keyboard_byte_waits() || state.mouse_byte_waits();
        if !state.transferring && !state.obf && waits {
            state.transferring = true;
            ctx.schedule(TIMER_BYTE, ctx.now_ns().saturating_add(BYTE_NS));
        }
        for (timer, deadline) in [
            (TIMER_KEYBOARD, state.keyboard.next_event_ns()),
            (TIMER_MOUSE, state.mouse.next_event_ns()),
        ] {
            match deadline {
                Some(deadline_ns) => ctx.schedule(timer, deadline_ns),
                None => ctx.cancel(timer),
            }
        }
    }
}

impl Device for I8042 {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, _offset: u64, _size: u8) -> u64 {
        match region {
            Self::DATA => {
                // An empty buffer still holds the byte that was read last.
                let byte = self.state.output.byte;
                trace!(target: TARGET, "read data {byte:02x}");
                if self.state.obf {
                    self.state.obf = false;
                    // The wires fall before the next byte raises them: each byte is an edge.
                    ctx.set_line(IrqLine::isa(1), false);
                    ctx.set_line(IrqLine::isa(12), false);
                    self.settle(ctx);
                }
                byte.into()
            }
            Self::COMMAND => self.state.status().into(),
            _ => 0xFF,
        }
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, _offset: u64, _size: u8, value: u64) {
        let value = value as u8;
        trace!(target: TARGET, "write {region} = {value:02x}");
        match region {
            Self::DATA => {
                self.state.last_was_command = false;
                self.state.data(ctx, value);
            }
            Self::COMMAND => {
                self.state.last_was_command = true;
                self.state.command(ctx, value);
            }
            _ => return,
        }
        self.settle(ctx);
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, timer: u32) {
        let state = &mut self.state;
        match timer {
            TIMER_BYTE => {
                state.transferring = false;
                // What has come meanwhile keeps the device waiting; a disabled one holds its byte.
                if !state.obf
                    && let Some(reply) = state.next_device_byte(ctx.now_ns())
                {
                    state.output = reply;
                    state.obf = true;
                }
            }
            TIMER_KEYBOARD => state.keyboard.on_timer(ctx.now_ns()),
            TIMER_MOUSE => state.mouse.on_timer(ctx.now_ns()),
            _ => {}
        }
        self.settle(ctx);
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        let now_ns = ctx.now_ns();
        match *input {
            Input::Key { key, pressed } => self.state.keyboard.key(now_ns, key, pressed),
            Input::Mouse {
                dx,
                dy,
                dz,
                buttons,
            } => self.state.mouse.motion(now_ns, [dx, dy, dz], buttons),
            _ => return,
        }
        self.settle(ctx);
    }

    fn takes_input(&self, input: &Input) -> bool {
        let state = &self.state;
        if matches!(input, Input::Mouse { .. }) {
            return state.mouse.takes_motion();
        }
        state.keyboard.takes_keys() && !state.obf && !state.transferring
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        if let Some(gates) = self.state.gates {
            *self = Self::new(gates);
        }
        ctx.cancel(TIMER_BYTE);
        self.settle(ctx);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let gates = self.state.gates;
        self.state = state.decode(Self::VERSION)?;
        self.state.gates = gates;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
