//! Intel 82371SB (PIIX3): the PCI to ISA bridge with its interrupt router, and the IDE function.
//!
//! Datasheet: Intel 82371FB/82371SB PIIX/PIIX3 (290550).
//!
//! The bridge routes the wires PIRQA# to PIRQD# by its registers 60-63; its other registers keep their
//! values without effect. The IDE function stands for the two channels at their ISA ports (compatibility
//! mode) and places their bus-master registers: the primary's eight ports at its base address 4 and the
//! secondary's after them, while the command register enables I/O. Its timing registers keep their values
//! without effect, and the ISA ports answer whatever they say.

use platform::{DeviceCtx, IrqLine, PortWindow};

use super::config_space::{ConfigSpace, PciFunction};
use super::{BUS_MASTER_ON, pirq};

const PIRQ_ROUTE: u8 = 0x60;
const ROUTE_OFF: u8 = 0x80;
/// The ISA interrupts that a PIRQ may go to: 3-7, 9-12, 14, 15.
const ROUTABLE: u16 = 0xDEF8;

/// Function 0: the ISA bridge.
pub struct IsaBridge {
    config: ConfigSpace,
}

impl IsaBridge {
    /// The bridge after power-on: no PIRQ is routed.
    pub fn new() -> Self {
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
        Self { config }
    }

    /// The ISA interrupt of a PIRQ.
    fn route(&self, n: u8) -> Option<u8> {
        let register = self.config.byte(PIRQ_ROUTE + n);
        let irq = register & 0x0F;
        (register & ROUTE_OFF == 0 && ROUTABLE >> irq & 1 != 0).then_some(irq)
    }
}

impl Default for IsaBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl PciFunction for IsaBridge {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn update(&mut self, ctx: &mut DeviceCtx<'_>) {
        let asserted = (0..4)
            .filter(|&n| ctx.line(pirq(n)))
            .filter_map(|n| self.route(n))
            .fold(0u16, |irqs, irq| irqs | 1 << irq);
        for irq in (0..16).filter(|irq| ROUTABLE >> irq & 1 != 0) {
            ctx.set_line(IrqLine::isa(irq), asserted >> irq & 1 != 0);
        }
    }
}

const COMMAND: u8 = 0x04;
const COMMAND_IO: u8 = 0x01;
const COMMAND_MASTER: u8 = 0x04;
/// BMIBA, base address 4.
const BASE_ADDRESS: u8 = 0x20;

/// Function 1: IDE in compatibility mode, with bus mastering.
pub struct Ide {
    config: ConfigSpace,
    bus_master: [PortWindow; 2],
}

impl Ide {
    /// The function after power-on. `bus_master` are the bus-master registers of the primary and the
    /// secondary channel, eight ports each.
    ///
    /// There is no firmware that assigns resources, so what a BIOS would do is done: the base address is
    /// C000h, and I/O and bus mastering are enabled.
    pub fn new(bus_master: [PortWindow; 2]) -> Self {
        let config = ConfigSpace::new(0x8086, 0x7010, 0x01_01_80, 0x00)
            .with(COMMAND, &[COMMAND_IO | COMMAND_MASTER, 0x00, 0x80, 0x02])
            .with(BASE_ADDRESS, &[0x01, 0xC0])
            // IDETIM, with both channels' decode on, and SIDETIM.
            .with(0x40, &[0x00, 0x80, 0x00, 0x80])
            .writable(COMMAND, &[COMMAND_IO | COMMAND_MASTER])
            .clearable(0x07, &[0x38])
            .writable(0x0D, &[0xF0])
            .writable(BASE_ADDRESS, &[0xF0, 0xFF])
            .writable(0x40, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        Self { config, bus_master }
    }
}

impl PciFunction for Ide {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn update(&mut self, ctx: &mut DeviceCtx<'_>) {
        let command = self.config.byte(COMMAND);
        let [low, high] = [0, 1].map(|n| self.config.byte(BASE_ADDRESS + n));
        let base = u16::from_le_bytes([low & 0xF0, high]);
        let base = (command & COMMAND_IO != 0 && base != 0).then_some(base);
        let [primary, secondary] = self.bus_master;
        ctx.move_ports(primary, base);
        ctx.move_ports(secondary, base.map(|base| base + 8));
        ctx.set_line(BUS_MASTER_ON, command & COMMAND_MASTER != 0);
    }
}
