//! Intel 8042 keyboard controller with the program of a PS/2, and the keyboard at its first port.
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
//! Nothing is plugged into the auxiliary port: what is sent there (D4) is answered by a time-out, as by
//! hardware, so that a driver finds a port without a mouse. A mouse belongs into `State::send_to_aux`
//! and beside the keyboard in `State::next_device_byte`.
//!
//! Not modelled: IBF (a write is taken in at once), parity errors, the password commands (A5, A6) and
//! the diagnostic dump (AC).

use std::collections::VecDeque;

use log::{debug, trace};
use platform::{Device, DeviceCtx, Input, IrqLine, MachineRequest, SavedState, StateError};
use serde::{Deserialize, Serialize};

use super::keymap::translate;
use super::ps2_keyboard::Ps2Keyboard;
use crate::power::PortA;

const TARGET: &str = "i8042";
const TIMER_BYTE: u32 = 0;
const TIMER_KEYBOARD: u32 = 1;
const TIMER_AUX_TIMEOUT: u32 = 2;

/// From a device's first clock to OBF. Eleven bits take 0.7 to 1.1 ms on hardware; a quarter of that
/// is slow enough for every program.
pub const BYTE_NS: u64 = 250_000;
/// How long the controller waits for a device that does not answer.
const AUX_TIMEOUT_NS: u64 = 2_000_000;

const STATUS_OBF: u8 = 0x01;
const STATUS_SYS: u8 = 0x04;
const STATUS_A2: u8 = 0x08;
const STATUS_UNLOCKED: u8 = 0x10;
const STATUS_AUX_OBF: u8 = 0x20;
const STATUS_TIMEOUT: u8 = 0x40;

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
const RESEND: u8 = 0xFE;

/// A byte on its way into the output buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reply {
    byte: u8,
    aux: bool,
    timeout: bool,
}

/// All that is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    keyboard: Ps2Keyboard,
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
}

impl State {
    fn new() -> Self {
        let mut ram = [0; 32];
        ram[0] = CB_TRANSLATE | CB_KEYBOARD_OFF | CB_AUX_OFF;
        Self {
            keyboard: Ps2Keyboard::new(),
            ram,
            output: Reply {
                byte: 0,
                aux: false,
                timeout: false,
            },
            obf: false,
            last_was_command: false,
            awaiting: None,
            replies: VecDeque::new(),
            breaking: false,
            transferring: false,
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
            if self.output.timeout {
                status |= STATUS_TIMEOUT;
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
        self.reply_as(Reply {
            byte,
            aux: false,
            timeout: false,
        });
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

    fn device_byte_waits(&self) -> bool {
        self.command_byte() & CB_KEYBOARD_OFF == 0 && self.keyboard.has_byte()
    }

    /// The next byte of a device, translated; `None` if it was only a prefix.
    fn next_device_byte(&mut self) -> Option<Reply> {
        let byte = self.keyboard.send()?;
        let byte = if self.command_byte() & CB_TRANSLATE == 0 {
            byte
        } else if byte == BREAK_PREFIX {
            self.breaking = true;
            return None;
        } else if byte < 0x85 {
            translate(byte) | u8::from(std::mem::take(&mut self.breaking)) << 7
        } else {
            byte
        };
        Some(Reply {
            byte,
            aux: false,
            timeout: false,
        })
    }

    fn send_to_keyboard(&mut self, now_ns: u64, byte: u8) {
        // Sending to the keyboard enables its interface.
        self.ram[0] &= !CB_KEYBOARD_OFF;
        self.keyboard.receive(now_ns, byte);
    }

    /// Nothing is there: the controller gives up after a while.
    fn send_to_aux(&mut self, ctx: &mut DeviceCtx<'_>, byte: u8) {
        trace!(target: TARGET, "{byte:02x} to the auxiliary port, where nothing is");
        self.ram[0] &= !CB_AUX_OFF;
        ctx.schedule(
            TIMER_AUX_TIMEOUT,
            ctx.now_ns().saturating_add(AUX_TIMEOUT_NS),
        );
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
        set_a20(ctx, value & OUT_A20 != 0);
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
            0xDD => set_a20(ctx, false),
            0xDF => set_a20(ctx, true),
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
                timeout: false,
            }),
            Some(_) => self.send_to_aux(ctx, value),
        }
    }
}

/// A pulse to the A20 latch: also a value that it has already counts as written last.
fn set_a20(ctx: &mut DeviceCtx<'_>, on: bool) {
    let wire = if on { PortA::A20_ON } else { PortA::A20_OFF };
    ctx.set_line(wire, true);
    ctx.set_line(wire, false);
}

/// The controller and its keyboard.
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

    const VERSION: u32 = 2;

    /// A controller before its self-test, with a keyboard.
    pub fn new() -> Self {
        Self {
            state: State::new(),
        }
    }

    /// Fills the output buffer, drives the wires, and arms the timers.
    fn settle(&mut self, ctx: &mut DeviceCtx<'_>) {
        let state = &mut self.state;
        state.fill();
        ctx.set_line(IrqLine::isa(1), state.irq1());
        ctx.set_line(IrqLine::isa(12), state.irq12());
        if !state.transferring && !state.obf && state.device_byte_waits() {
            state.transferring = true;
            ctx.schedule(TIMER_BYTE, ctx.now_ns().saturating_add(BYTE_NS));
        }
        match state.keyboard.next_event_ns() {
            Some(deadline_ns) => ctx.schedule(TIMER_KEYBOARD, deadline_ns),
            None => ctx.cancel(TIMER_KEYBOARD),
        }
    }
}

impl Default for I8042 {
    fn default() -> Self {
        Self::new()
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
                    && state.device_byte_waits()
                    && let Some(reply) = state.next_device_byte()
                {
                    state.output = reply;
                    state.obf = true;
                }
            }
            TIMER_KEYBOARD => state.keyboard.on_timer(ctx.now_ns()),
            TIMER_AUX_TIMEOUT => state.reply_as(Reply {
                byte: RESEND,
                aux: true,
                timeout: true,
            }),
            _ => {}
        }
        self.settle(ctx);
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Key { key, pressed } = *input {
            self.state.keyboard.key(ctx.now_ns(), key, pressed);
            self.settle(ctx);
        }
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        *self = Self::new();
        ctx.cancel(TIMER_BYTE);
        ctx.cancel(TIMER_AUX_TIMEOUT);
        self.settle(ctx);
    }

    fn save(&self) -> SavedState {
        SavedState::encode(Self::VERSION, &self.state)
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
    use platform::{Bus, DeviceId, Key};

    platform::device_contract!(
        contract,
        I8042::new(),
        [(I8042::DATA, 1, 1), (I8042::COMMAND, 1, 1)]
    );

    fn controller() -> Bus {
        let mut bus = bus_with_regions(Box::new(I8042::new()), I8042::MAP);
        let port_a = bus.add(Box::new(PortA::new()));
        bus.map_ports(port_a, PortA::PORT, 0x92, 1, 1);
        bus.connect(PortA::A20_ON, port_a);
        bus.connect(PortA::A20_OFF, port_a);
        bus.reset();
        bus
    }

    /// A controller as a BIOS leaves it: translating, both interrupts on, keyboard on.
    fn ready() -> Bus {
        let mut bus = controller();
        command(&mut bus, 0x60);
        data(&mut bus, 0x47);
        bus
    }

    fn command(bus: &mut Bus, value: u32) {
        bus.pio_write(0x64, 1, value);
    }

    fn data(bus: &mut Bus, value: u32) {
        bus.pio_write(0x60, 1, value);
    }

    fn status(bus: &mut Bus) -> u8 {
        bus.pio_read(0x64, 1) as u8
    }

    fn read(bus: &mut Bus) -> u8 {
        assert_eq!(status(bus) & STATUS_OBF, STATUS_OBF, "nothing to read");
        bus.pio_read(0x60, 1) as u8
    }

    fn ask(bus: &mut Bus, value: u32) -> u8 {
        command(bus, value);
        read(bus)
    }

    /// All that arrives within 20 ms.
    fn read_all(bus: &mut Bus) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..80 {
            while status(bus) & STATUS_OBF != 0 {
                bytes.push(read(bus));
            }
            advance(bus, BYTE_NS);
        }
        bytes
    }

    fn key(bus: &mut Bus, key: Key, pressed: bool) {
        bus.input(DeviceId(0), &Input::Key { key, pressed });
    }

    fn a20(bus: &Bus) -> bool {
        bus.lines.level(IrqLine::A20)
    }

    #[test]
    fn the_self_test_and_both_interface_tests_pass() {
        let mut bus = controller();
        assert_eq!(status(&mut bus), STATUS_UNLOCKED);
        assert_eq!(ask(&mut bus, 0xAA), 0x55);
        assert_eq!(status(&mut bus), STATUS_UNLOCKED | STATUS_SYS | STATUS_A2);
        assert_eq!(ask(&mut bus, 0xAB), 0x00);
        assert_eq!(ask(&mut bus, 0xA9), 0x00);
        assert_eq!(bus.pio_read(0x60, 1), 0x00, "the last byte stays readable");
    }

    #[test]
    fn the_command_byte_and_the_ram_read_back() {
        let mut bus = controller();
        for n in 0..32 {
            command(&mut bus, 0x60 + n);
            data(&mut bus, 0x40 + n);
        }
        for n in 0..32 {
            assert_eq!(ask(&mut bus, 0x20 + n), 0x40 + n as u8);
        }
        command(&mut bus, 0xA7);
        command(&mut bus, 0xAD);
        assert_eq!(ask(&mut bus, 0x20), 0x70);
        command(&mut bus, 0xA8);
        command(&mut bus, 0xAE);
        assert_eq!(ask(&mut bus, 0x20), 0x40);
    }

    #[test]
    fn keys_arrive_translated_one_interrupt_a_byte() {
        let mut bus = ready();
        key(&mut bus, Key::A, true);
        assert!(!bus.lines.level(IrqLine::isa(1)));
        advance(&mut bus, BYTE_NS);
        assert!(bus.lines.level(IrqLine::isa(1)));
        key(&mut bus, Key::A, false);
        assert_eq!(read(&mut bus), 0x1E);
        assert!(!bus.lines.level(IrqLine::isa(1)));
        advance(&mut bus, 2 * BYTE_NS);
        assert_eq!(read(&mut bus), 0x9E);
    }

    #[test]
    fn extended_keys_pause_and_print_screen_translate_to_set_1() {
        let mut bus = ready();
        for (pressed, bytes) in [(true, [0xE0, 0x48]), (false, [0xE0, 0xC8])] {
            key(&mut bus, Key::ArrowUp, pressed);
            assert_eq!(read_all(&mut bus), bytes);
        }
        key(&mut bus, Key::Pause, true);
        assert_eq!(read_all(&mut bus), [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5]);
        key(&mut bus, Key::PrintScreen, true);
        assert_eq!(read_all(&mut bus), [0xE0, 0x2A, 0xE0, 0x37]);
        key(&mut bus, Key::PrintScreen, false);
        assert_eq!(read_all(&mut bus), [0xE0, 0xB7, 0xE0, 0xAA]);
    }

    #[test]
    fn without_translation_set_2_comes_through() {
        let mut bus = ready();
        command(&mut bus, 0x60);
        data(&mut bus, 0x05);
        key(&mut bus, Key::A, true);
        key(&mut bus, Key::A, false);
        assert_eq!(read_all(&mut bus), [0x1C, 0xF0, 0x1C]);
    }

    #[test]
    fn the_keyboard_answers_commands_and_its_id_is_translated() {
        let mut bus = ready();
        data(&mut bus, 0xF2);
        assert_eq!(read_all(&mut bus), [0xFA, 0xAB, 0x41]);
        data(&mut bus, 0xFF);
        assert_eq!(read_all(&mut bus), [0xFA, 0xAA]);
    }

    #[test]
    fn a_disabled_keyboard_holds_its_bytes_and_a_command_enables_it() {
        let mut bus = ready();
        command(&mut bus, 0xAD);
        key(&mut bus, Key::A, true);
        assert_eq!(read_all(&mut bus), []);
        data(&mut bus, 0xEE);
        assert_eq!(read_all(&mut bus), [0xEE, 0x1E]);
        assert_eq!(ask(&mut bus, 0x20) & CB_KEYBOARD_OFF, 0);
    }

    #[test]
    fn the_output_port_and_its_shortcuts_drive_a20() {
        let mut bus = controller();
        assert!(a20(&bus), "all lines of the port are high after a reset");
        command(&mut bus, 0xD1);
        data(&mut bus, 0xDD);
        assert!(!a20(&bus));
        assert_eq!(ask(&mut bus, 0xD0) & 3, 1);
        command(&mut bus, 0xDF);
        assert!(a20(&bus));
        command(&mut bus, 0xDD);
        assert!(!a20(&bus));
    }

    #[test]
    fn of_both_a20_gates_the_one_written_last_decides() {
        let mut bus = controller();
        bus.pio_write(0x92, 1, 0x02);
        command(&mut bus, 0xDD);
        assert!(!a20(&bus));
        assert_eq!(bus.pio_read(0x92, 1), 0);
        bus.pio_write(0x92, 1, 0x02);
        assert!(a20(&bus));
        assert_eq!(ask(&mut bus, 0xD0) & 3, 3);
        command(&mut bus, 0xDF);
        bus.pio_write(0x92, 1, 0x00);
        assert!(!a20(&bus));
        assert_eq!(ask(&mut bus, 0xD0) & 3, 1);
        // The same value as it wrote before counts as well.
        command(&mut bus, 0xDF);
        assert!(a20(&bus));
    }

    #[test]
    fn pulsing_bit_0_and_writing_it_low_reset_the_machine() {
        for value in 0xF0..=0xFF {
            let mut bus = controller();
            command(&mut bus, value);
            let wanted = (value & 1 == 0).then_some(MachineRequest::Reset);
            assert_eq!(bus.request, wanted, "{value:x}");
        }
        let mut bus = controller();
        command(&mut bus, 0xD1);
        data(&mut bus, 0x02);
        assert_eq!(bus.request, Some(MachineRequest::Reset));
    }

    #[test]
    fn loop_backs_appear_as_the_devices_bytes() {
        let mut bus = ready();
        command(&mut bus, 0xD2);
        data(&mut bus, 0x12);
        assert_eq!(status(&mut bus) & STATUS_AUX_OBF, 0);
        assert!(bus.lines.level(IrqLine::isa(1)));
        assert_eq!(read(&mut bus), 0x12, "not translated");
        command(&mut bus, 0xD3);
        data(&mut bus, 0x5A);
        assert_eq!(status(&mut bus) & STATUS_AUX_OBF, STATUS_AUX_OBF);
        assert!(bus.lines.level(IrqLine::isa(12)));
        assert!(!bus.lines.level(IrqLine::isa(1)));
        assert_eq!(read(&mut bus), 0x5A);
    }

    #[test]
    fn a_mouse_that_is_not_there_times_out() {
        let mut bus = ready();
        command(&mut bus, 0xD4);
        data(&mut bus, 0xFF);
        assert_eq!(status(&mut bus) & STATUS_OBF, 0);
        advance(&mut bus, AUX_TIMEOUT_NS);
        assert_eq!(
            status(&mut bus) & (STATUS_OBF | STATUS_AUX_OBF | STATUS_TIMEOUT),
            STATUS_OBF | STATUS_AUX_OBF | STATUS_TIMEOUT
        );
        assert_eq!(read(&mut bus), 0xFE);
        assert_eq!(status(&mut bus) & STATUS_TIMEOUT, 0);
    }

    #[test]
    fn a_held_key_repeats_in_virtual_time() {
        let mut bus = ready();
        key(&mut bus, Key::A, true);
        advance(&mut bus, 1_000_000);
        read(&mut bus);
        advance(&mut bus, 499_000_000);
        assert_eq!(status(&mut bus) & STATUS_OBF, 0);
        advance(&mut bus, 1_000_000);
        assert_eq!(read(&mut bus), 0x1E);
    }
}
