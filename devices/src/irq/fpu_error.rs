//! The PC/AT's coprocessor error latch: FERR# to IRQ 13, cleared through port F0.
//!
//! Source: IBM PC AT Technical Reference; Intel 82371SB PIIX3 (290550), "Coprocessor error register".
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`FpuError::PORTS`] | F0-F1 | write F0: withdraws IRQ 13 (IGNNE# to the CPU); F1: resets a 287, ignored |
//!
//! Not modelled: the IGNNE# pin itself, which would let x87 instructions run while the error is pending.

use log::debug;
use platform::{Device, DeviceCtx, Input, IrqLine, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "fpu_error";

/// The latch between the processor's FERR# pin and the interrupt controller.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FpuError {
    requested: bool,
}

impl FpuError {
    /// Region: the two ports.
    pub const PORTS: u8 = 0;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[(Self::PORTS, 0xF0, 2, 1)];

    const VERSION: u32 = 1;
    const IRQ: IrqLine = IrqLine::isa(13);

    /// A latch without a request.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Device for FpuError {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8) -> u64 {
        !0
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _: u8, _: u64) {
        if region == Self::PORTS && offset == 0 {
            debug!(target: TARGET, "cleared");
            self.requested = false;
            ctx.set_line(Self::IRQ, false);
        }
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Line {
            line: IrqLine::FERR,
            level: true,
        } = input
        {
            debug!(target: TARGET, "FERR# asserted");
            self.requested = true;
            ctx.set_line(Self::IRQ, true);
        }
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.requested = false;
        ctx.set_line(Self::IRQ, false);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, self)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        *self = state.decode(Self::VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::DeviceId;
    use platform::testkit::bus_with_regions;

    platform::device_contract!(contract, FpuError::new(), [(FpuError::PORTS, 2, 1)]);

    #[test]
    fn ferr_raises_irq_13_until_port_f0_is_written() {
        let mut bus = bus_with_regions(Box::new(FpuError::new()), FpuError::MAP);
        bus.connect(IrqLine::FERR, DeviceId(0));
        let cpu = DeviceId(63);
        bus.lines.set(cpu, IrqLine::FERR, true);
        bus.pio_read(0xF0, 1);
        assert!(bus.lines.level(IrqLine::isa(13)));
        bus.lines.set(cpu, IrqLine::FERR, false);
        bus.pio_write(0xF1, 1, 0);
        assert!(bus.lines.level(IrqLine::isa(13)), "the request is latched");
        bus.pio_write(0xF0, 1, 0);
        assert!(!bus.lines.level(IrqLine::isa(13)));
    }
}
