//! Intel 82093AA I/O APIC: 24 interrupt inputs, each with a message that goes to the local APICs.
//!
//! Datasheet: Intel 82093AA (290566).
//!
//! | region | addresses | what |
//! |---|---|---|
//! | [`IoApic::REGISTERS`] | FEC00000-FEC00FFF | 00: register select; 10: the register selected |
//!
//! | register | what |
//! |---|---|
//! | 0 | APIC ID, bits 27-24 |
//! | 1 | version 11h, last input 23 |
//! | 2 | arbitration ID |
//! | 10-3F | redirection table, two registers an input |
//!
//! The ISA wires go to the inputs of the same number, but IRQ 0 goes to input 2; the 8259A sees the same
//! wires, and the guest masks the controller that it does not use. A wire that is asserted is high here.
//! Nobody drives inputs 0 and 16 to 23. A message is delivered at once, so its delivery status always
//! reads idle. Not modelled: the serial APIC bus with its arbitration.

use log::{debug, trace};
use platform::{
    Bus, DeliveryMode, Device, DeviceCtx, DeviceId, Input, InterruptMessage, IrqLine, PhysAddr,
    SavedState, StateError, StateView,
};
use serde::{Deserialize, Serialize};

const TARGET: &str = "ioapic";
const BASE: PhysAddr = PhysAddr(0xFEC0_0000);
const INPUTS: usize = 24;
/// Where the ISA bus's IRQ 0 arrives.
const TIMER_INPUT: u8 = 2;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const VERSION_REGISTER: u32 = 0x11 | (INPUTS as u32 - 1) << 16;

const LOGICAL: u64 = 1 << 11;
const ACTIVE_LOW: u64 = 1 << 13;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Vector, delivery mode, destination mode, polarity, trigger mode, mask, destination.
const WRITABLE: u64 = 0xFF00_0000_0001_AFFF;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    select: u8,
    id: u32,
    entries: [u64; INPUTS],
    /// The levels of the wires; bit n is input n.
    inputs: u32,
}

/// The I/O APIC.
#[derive(Clone, Debug)]
pub struct IoApic {
    state: State,
}

/// Maps `device` at its address and connects the ISA wires.
pub fn map(bus: &mut Bus, device: DeviceId) {
    bus.map_mmio(device, IoApic::REGISTERS, BASE, 0x1000);
    bus.set_io_apic(device);
    for n in 0..16 {
        bus.connect(IrqLine::isa(n), device);
    }
}

impl IoApic {
    /// Region: the two windows.
    pub const REGISTERS: u8 = 0;
    const VERSION: u32 = 1;

    /// An I/O APIC with all inputs masked and the ID 0, which software sets.
    pub fn new() -> Self {
        Self {
            state: State {
                select: 0,
                id: 0,
                entries: [MASKED; INPUTS],
                inputs: 0,
            },
        }
    }

    /// The input that an ISA wire goes to. IRQ 2 does not exist on the bus.
    fn input_of(line: IrqLine) -> Option<usize> {
        match line.0 {
            0 => Some(TIMER_INPUT.into()),
            n @ (1 | 3..16) => Some(n.into()),
            _ => None,
        }
    }

    /// Whether the wire is where the entry's polarity calls it active.
    fn is_active(&self, input: usize) -> bool {
        let high = self.state.inputs >> input & 1 != 0;
        high != (self.state.entries[input] & ACTIVE_LOW != 0)
    }

    fn set_input(&mut self, ctx: &mut DeviceCtx<'_>, input: usize, level: bool) {
        let was_active = self.is_active(input);
        let bit = 1 << input;
        if level {
            self.state.inputs |= bit;
        } else {
            self.state.inputs &= !bit;
        }
        let entry = self.state.entries[input];
        if entry & LEVEL != 0 {
            self.serve_level(ctx, input);
        } else if !was_active && self.is_active(input) && entry & MASKED == 0 {
            // The datasheet: an edge at a masked input is ignored, not kept.
            self.send(ctx, input);
        }
    }

    /// Sends for a level that is active and not yet being served.
    fn serve_level(&mut self, ctx: &mut DeviceCtx<'_>, input: usize) {
        let entry = self.state.entries[input];
        if entry & (LEVEL | MASKED | REMOTE_IRR) == LEVEL && self.is_active(input) {
            // Only these two modes are answered by an EOI.
            if self.send(ctx, input) {
                self.state.entries[input] |= REMOTE_IRR;
            }
        }
    }

    /// Sends the message of an entry; tells whether an end of interrupt will follow.
    fn send(&self, ctx: &mut DeviceCtx<'_>, input: usize) -> bool {
        let entry = self.state.entries[input];
        let Some(mode) = DeliveryMode::from_bits((entry >> 8) as u8) else {
            return false;
        };
        let has_eoi = matches!(mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
        let message = InterruptMessage {
            destination: (entry >> 56) as u32,
            logical: entry & LOGICAL != 0,
            mode,
            vector: entry as u8,
            level: entry & LEVEL != 0 && has_eoi,
        };
        trace!(target: TARGET, "input {input}: {message:?}");
        ctx.interrupt_message(message);
        has_eoi
    }

    fn end_of_interrupt(&mut self, ctx: &mut DeviceCtx<'_>, vector: u8) {
        for input in 0..INPUTS {
            let entry = &mut self.state.entries[input];
            if *entry & REMOTE_IRR != 0 && *entry as u8 == vector {
                *entry &= !REMOTE_IRR;
                self.serve_level(ctx, input);
            }
        }
    }

    fn read_register(&self) -> u32 {
        match self.state.select {
            0 | 2 => self.state.id,
            1 => VERSION_REGISTER,
            select @ 0x10..0x40 => {
                let entry = self.state.entries[usize::from(select - 0x10) / 2];
                (entry >> (u32::from(select & 1) * 32)) as u32
            }
            _ => 0,
        }
    }

    fn write_register(&mut self, ctx: &mut DeviceCtx<'_>, value: u32) {
        match self.state.select {
            0 => self.state.id = value & 0x0F00_0000,
            select @ 0x10..0x40 => {
                let input = usize::from(select - 0x10) / 2;
                debug!(target: TARGET, "register {select:02x} = {value:08x}");
                let shift = u32::from(select & 1) * 32;
                let mask = WRITABLE & 0xFFFF_FFFF << shift;
                let entry = &mut self.state.entries[input];
                *entry = (*entry & !mask) | (u64::from(value) << shift & mask);
                if *entry & LEVEL == 0 {
                    // Systems make an input edge triggered for a moment to get rid of a remote IRR.
                    *entry &= !REMOTE_IRR;
                }
                self.serve_level(ctx, input);
            }
            _ => {}
        }
    }
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for IoApic {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8) -> u64 {
        match (region, offset) {
            (Self::REGISTERS, SELECT) => self.state.select.into(),
            (Self::REGISTERS, WINDOW) => self.read_register().into(),
            _ => 0,
        }
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64) {
        match (region, offset) {
            (Self::REGISTERS, SELECT) => self.state.select = value as u8,
            // Half a register cannot be written.
            (Self::REGISTERS, WINDOW) if size >= 4 => self.write_register(ctx, value as u32),
            _ => {}
        }
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        match *input {
            Input::Line { line, level } => {
                if let Some(input) = Self::input_of(line) {
                    self.set_input(ctx, input, level);
                }
            }
            Input::EndOfInterrupt { vector } => self.end_of_interrupt(ctx, vector),
            _ => {}
        }
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        *self = Self::new();
        // The inputs are other devices' outputs: a reset of this chip does not change them.
        for n in 0..16 {
            let line = IrqLine::isa(n);
            if let Some(input) = Self::input_of(line)
                && ctx.line(line)
            {
                self.state.inputs |= 1 << input;
            }
        }
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
    use platform::testkit::bus_with_regions;

    platform::device_contract!(contract, IoApic::new(), [(IoApic::REGISTERS, 0x20, 4)]);

    const WIRES: DeviceId = DeviceId(62);

    fn ioapic() -> Bus {
        let mut bus = bus_with_regions(Box::new(IoApic::new()), &[]);
        map(&mut bus, DeviceId(0));
        bus
    }

    fn write(bus: &mut Bus, register: u8, value: u32) {
        bus.mmio_write(BASE, 4, register.into());
        bus.mmio_write(PhysAddr(BASE.0 + WINDOW), 4, value.into());
    }

    fn read(bus: &mut Bus, register: u8) -> u32 {
        bus.mmio_write(BASE, 4, register.into());
        bus.mmio_read(PhysAddr(BASE.0 + WINDOW), 4) as u32
    }

    fn set(bus: &mut Bus, irq: u8, level: bool) {
        bus.lines.set(WIRES, IrqLine::isa(irq), level);
        bus.drive(IrqLine(63), false);
    }

    fn vectors(bus: &mut Bus) -> Vec<u8> {
        let next = || bus.messages.receive(0, |_| true);
        std::iter::from_fn(next).map(|m| m.vector).collect()
    }

    #[test]
    fn identifies_itself_with_24_masked_inputs() {
        let mut bus = ioapic();
        assert_eq!(read(&mut bus, 1), 0x0017_0011);
        for input in 0..24 {
            assert_eq!(read(&mut bus, 0x10 + 2 * input), 0x0001_0000);
        }
        write(&mut bus, 0, 0xFFFF_FFFF);
        assert_eq!(read(&mut bus, 0), 0x0F00_0000);
        assert_eq!(read(&mut bus, 0x50), 0);
    }

    #[test]
    fn an_edge_sends_its_message_once() {
        let mut bus = ioapic();
        write(&mut bus, 0x13, 0x0300_0000);
        write(&mut bus, 0x12, 0x0000_0931);
        set(&mut bus, 1, true);
        let message = bus.messages.receive(0, |_| true);
        let expected = InterruptMessage {
            destination: 3,
            logical: true,
            mode: DeliveryMode::LowestPriority,
            vector: 0x31,
            level: false,
        };
        assert_eq!(message, Some(expected));
        set(&mut bus, 1, true);
        set(&mut bus, 1, false);
        assert!(vectors(&mut bus).is_empty());
        set(&mut bus, 1, true);
        assert_eq!(vectors(&mut bus), [0x31]);
    }

    #[test]
    fn irq_0_arrives_at_input_2() {
        let mut bus = ioapic();
        write(&mut bus, 0x10, 0x20);
        write(&mut bus, 0x14, 0x30);
        set(&mut bus, 0, true);
        assert_eq!(vectors(&mut bus), [0x30]);
    }

    #[test]
    fn an_edge_at_a_masked_input_is_lost_but_a_level_is_not() {
        let mut bus = ioapic();
        write(&mut bus, 0x16, 0x0001_0033);
        write(&mut bus, 0x22, 0x0001_8039);
        set(&mut bus, 3, true);
        set(&mut bus, 9, true);
        assert!(vectors(&mut bus).is_empty());
        write(&mut bus, 0x16, 0x33);
        write(&mut bus, 0x22, 0x8039);
        assert_eq!(vectors(&mut bus), [0x39]);
    }

    #[test]
    fn a_level_is_sent_again_only_after_the_end_of_its_service() {
        let mut bus = ioapic();
        write(&mut bus, 0x22, 0x8039);
        set(&mut bus, 9, true);
        assert_eq!(vectors(&mut bus), [0x39]);
        assert_eq!(read(&mut bus, 0x22), 0xC039, "remote IRR");
        set(&mut bus, 9, false);
        set(&mut bus, 9, true);
        assert!(vectors(&mut bus).is_empty());
        bus.end_of_interrupt(0x40);
        assert!(vectors(&mut bus).is_empty(), "another vector");
        bus.end_of_interrupt(0x39);
        assert_eq!(vectors(&mut bus), [0x39], "the wire is still high");
        set(&mut bus, 9, false);
        bus.end_of_interrupt(0x39);
        assert!(vectors(&mut bus).is_empty());
        assert_eq!(read(&mut bus, 0x22), 0x8039);
    }

    #[test]
    fn an_edge_triggered_moment_clears_the_remote_irr() {
        let mut bus = ioapic();
        write(&mut bus, 0x22, 0x8039);
        set(&mut bus, 9, true);
        write(&mut bus, 0x22, 0x0001_0039);
        write(&mut bus, 0x22, 0x0001_8039);
        assert_eq!(read(&mut bus, 0x22), 0x0001_8039);
        vectors(&mut bus);
        write(&mut bus, 0x22, 0x8039);
        assert_eq!(vectors(&mut bus), [0x39]);
    }

    #[test]
    fn polarity_says_which_level_is_active() {
        let mut bus = ioapic();
        set(&mut bus, 5, true);
        write(&mut bus, 0x1A, 0x0000_A035);
        assert!(vectors(&mut bus).is_empty());
        set(&mut bus, 5, false);
        assert_eq!(vectors(&mut bus), [0x35]);
        write(&mut bus, 0x1E, 0x0000_2037);
        set(&mut bus, 7, true);
        assert!(vectors(&mut bus).is_empty());
        set(&mut bus, 7, false);
        assert_eq!(vectors(&mut bus), [0x37], "the falling edge");
    }
}
