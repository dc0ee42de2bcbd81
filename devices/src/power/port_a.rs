//! System control port A of a PS/2: fast A20 gate and fast reset.
//!
//! Source: IBM PS/2 Model 80 Technical Reference; Intel 82371SB PIIX3 (290550), "Port 92".
//!
//! | region | port | what |
//! |---|---|---|
//! | [`PortA::PORT`] | 92 | bit 0 rising: reset; bit 1: A20; the other bits keep what is written |
//!
//! The gate is one latch, here. The keyboard controller's output port sets it through the wires
//! of [`A20Gates`], so that whoever wrote last decides: the documents let the
//! two gates be OR-ed, but programs that know one of them switch off what the BIOS switched on by the
//! other. A reset lets A20 through.
//!
//! Not modelled: the security lock (bit 3) and the disk light (bits 6 and 7).

use log::debug;
use platform::{
    Bus, Device, DeviceCtx, DeviceId, Input, IrqLine, MachineRequest, SavedState, StateError,
    StateView,
};

const TARGET: &str = "port_a";
const FAST_RESET: u8 = 0x01;
const A20: u8 = 0x02;

/// The port.
#[derive(Clone, Debug)]
pub struct PortA {
    value: u8,
    gates: A20Gates,
}

/// The wires by which others set and clear the A20 latch, by pulses.
#[derive(Clone, Copy, Debug)]
pub struct A20Gates {
    /// A pulse lets A20 through.
    pub on: IrqLine,
    /// A pulse holds it low.
    pub off: IrqLine,
}

impl A20Gates {
    /// Adds them to a board.
    pub fn add(bus: &mut Bus) -> Self {
        Self {
            on: bus.add_wire("a20-on"),
            off: bus.add_wire("a20-off"),
        }
    }

    /// Leads them to `device`.
    pub fn connect(self, bus: &mut Bus, device: DeviceId) {
        bus.connect(self.on, device);
        bus.connect(self.off, device);
    }
}

impl PortA {
    /// Region: the port.
    pub const PORT: u8 = 0;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[(Self::PORT, 0x92, 1, 1)];

    const VERSION: u32 = 1;

    /// The port after power-on: A20 is let through.
    pub fn new(gates: A20Gates) -> Self {
        Self { value: A20, gates }
    }

    fn settle(&self, ctx: &mut DeviceCtx<'_>) {
        ctx.set_line(IrqLine::A20, self.value & A20 != 0);
    }
}

impl Device for PortA {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8) -> u64 {
        self.value.into()
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, value: u64) {
        let value = value as u8;
        let rising = value & !self.value;
        self.value = value;
        self.settle(ctx);
        if rising & FAST_RESET != 0 {
            debug!(target: TARGET, "fast reset");
            ctx.request(MachineRequest::Reset);
        }
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        let Input::Line { line, level: true } = *input else {
            return;
        };
        if line == self.gates.on {
            self.value |= A20;
        } else if line == self.gates.off {
            self.value &= !A20;
        } else {
            return;
        }
        self.settle(ctx);
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.value = A20;
        self.settle(ctx);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, self.value)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.value = state.decode(Self::VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::bus_with_regions;

    const GATES: A20Gates = A20Gates {
        on: IrqLine(40),
        off: IrqLine(41),
    };

    platform::device_contract!(contract, PortA::new(GATES), [(PortA::PORT, 1, 1)]);

    #[test]
    fn bit_1_drives_a20_and_bit_0_resets_once_as_it_rises() {
        let mut bus = bus_with_regions(Box::new(PortA::new(GATES)), PortA::MAP);
        bus.pio_write(0x92, 1, 0x02);
        assert!(bus.lines.level(IrqLine::A20));
        assert_eq!(bus.pio_read(0x92, 1), 0x02);
        bus.pio_write(0x92, 1, 0x01);
        assert!(!bus.lines.level(IrqLine::A20));
        assert_eq!(bus.request.take(), Some(MachineRequest::Reset));
        bus.pio_write(0x92, 1, 0x03);
        assert_eq!(bus.request, None);
    }
}
