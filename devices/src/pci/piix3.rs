//! Intel 82371SB (PIIX3): the PCI to ISA bridge with its interrupt router, and the IDE function.
//!
//! Datasheet: Intel 82371FB/82371SB PIIX/PIIX3 (290550).
//!
//! The bridge routes the wires PIRQA# to PIRQD# by its registers 60-63; its other registers keep their
//! values without effect. The IDE function stands for the two channels at their ISA ports (compatibility
//! mode) and places their bus-master registers: the primary's eight ports at its base address 4 and the
//! secondary's after them, while the command register enables I/O. Its timing registers keep their values
//! without effect, and the ISA ports answer whatever they say.

use platform::{Input, IrqLine, SavedState, StateError, StateView};

use super::{ConfigSpace, PciCtx, PciDevice, PciFunction};

const PIRQ_ROUTE: u8 = 0x60;
const ROUTE_OFF: u8 = 0x80;
/// The ISA interrupts that a PIRQ may go to: 3-7, 9-12, 14, 15.
const ROUTABLE: u16 = 0xDEF8;

/// Function 0: the ISA bridge.
pub struct IsaBridge {
    /// PIRQA# to PIRQD#.
    pirqs: [IrqLine; 4],
}

impl IsaBridge {
    /// The bridge after power-on: no PIRQ is routed.
    pub fn device(pirqs: [IrqLine; 4]) -> PciDevice<Self> {
        let config = ConfigSpace::new(0x8086, 0x7000, 0x06_01_00, 0x00)
            .with(0x04, &[0x07, 0x00, 0x00, 0x02])
            // More functions follow.
            .with(0x0E, &[0x80])
            .with(0x4C, &[0x4D])
            .with(0x4E, &[0x03, 0x00])
            .with(PIRQ_ROUTE, &[ROUTE_OFF; 4])
            .with(0x69, &[0x02])
            .with(0x70, &[ROUTE_OFF])
            .with(0x76, &[0x0C, 0x0C])
            .with(0x78, &[0x02])
            .with(0xA0, &[0x08])
            .with(0xA8, &[0x0F])
            .writable(0x05, &[0x01])
            .clearable(0x07, &[0x78])
            .writable(0x4C, &[0x7F])
            .writable(0x4E, &[0xFF, 0x01])
            .writable(PIRQ_ROUTE, &[0x8F; 4])
            .writable(0x69, &[0xFE])
            .writable(0x6A, &[0xF0, 0x80])
            .writable(0x70, &[0xEF])
            .writable(0x76, &[0x8F, 0x8F])
            .writable(0x78, &[0xFF, 0xFF])
            .writable(0x80, &[0x7F])
            .writable(0x82, &[0x0F])
            .writable(0xA0, &[0x1F])
            .writable(0xA2, &[0xFF, 0x00, 0xFF, 0xFF, 0xFF, 0xE0, 0xFF])
            .clearable(0xAA, &[0xFF, 0x01])
            .writable(0xAC, &[0xFF])
            .writable(0xAE, &[0xFF]);
        PciDevice::new(config, Self { pirqs })
    }

    fn route(&self, ctx: &mut PciCtx<'_, '_>) {
        let irq_of = |register: u8| {
            let irq = register & 0x0F;
            (register & ROUTE_OFF == 0 && ROUTABLE >> irq & 1 != 0).then_some(irq)
        };
        let asserted = (0..)
            .zip(self.pirqs)
            .filter(|&(_, pirq)| ctx.line(pirq))
            .filter_map(|(n, _)| irq_of(ctx.config.byte(PIRQ_ROUTE + n)))
            .fold(0u16, |irqs, irq| irqs | 1 << irq);
        for irq in (0..16).filter(|irq| ROUTABLE >> irq & 1 != 0) {
            ctx.set_line(IrqLine::isa(irq), asserted >> irq & 1 != 0);
        }
    }
}

impl PciFunction for IsaBridge {
    fn name(&self) -> &'static str {
        "piix3"
    }

    fn on_input(&mut self, ctx: &mut PciCtx<'_, '_>, input: &Input) {
        if let Input::Line { .. } = input {
            self.route(ctx);
        }
    }

    fn on_config(&mut self, ctx: &mut PciCtx<'_, '_>) {
        self.route(ctx);
    }

    fn reset(&mut self, _: &mut PciCtx<'_, '_>) {}

    fn state(&self) -> StateView<'_> {
        StateView::of(1, ())
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        state.decode(1)
    }
}
