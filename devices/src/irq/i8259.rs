//! Intel 8259A programmable interrupt controllers, the pair of a PC/AT with the PIIX edge/level registers.
//!
//! Datasheets: Intel 8259A/8259A-2 (231468), 82371SB PIIX3 (290550) for ELCR.
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`I8259::MASTER`] | 20-21 | ICW1, OCW2, OCW3 (0); ICW2-4, OCW1 (1) |
//! | [`I8259::SLAVE`] | A0-A1 | the same, cascaded into IR2 of the master |
//! | [`I8259::ELCR`] | 4D0-4D1 | 1 = the input is level sensitive |
//! | [`I8259::INTA`] | - | a read is an interrupt acknowledge cycle and returns the vector |
//!
//! Not modelled: the MCS-80 mode (a CALL instruction on INTA) and buffered mode's pin. ICW1's LTIM is
//! ignored in favour of ELCR, as on the PIIX. Both chips must be cascaded (ICW1.SNGL only skips ICW3).

use log::{debug, trace, warn};
use platform::{Device, DeviceCtx, Input, IrqLine, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "i8259";
const CASCADE: u8 = 2;

/// Which initialisation command word the data port expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Expect {
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A. IRR, ISR and IMR are the datasheet's; bit n is input IRn.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Chip {
    irr: u8,
    isr: u8,
    imr: u8,
    elcr: u8,
    /// The levels of the inputs.
    inputs: u8,
    vector_base: u8,
    /// The input with the highest priority: 0 until rotated.
    first: u8,
    icw1: u8,
    icw4: u8,
    expect: Expect,
    read_isr: bool,
    poll: bool,
    special_mask: bool,
    rotate_on_aeoi: bool,
    is_master: bool,
}

const ICW1: u8 = 0x10;
const ICW1_IC4: u8 = 0x01;
const ICW1_SNGL: u8 = 0x02;
const ICW4_8086: u8 = 0x01;
const ICW4_AEOI: u8 = 0x02;
const ICW4_SFNM: u8 = 0x10;
const OCW3: u8 = 0x08;

impl Chip {
    fn new(is_master: bool) -> Self {
        Self {
            irr: 0,
            isr: 0,
            imr: 0xFF,
            elcr: 0,
            inputs: 0,
            vector_base: 0,
            first: 0,
            icw1: 0,
            icw4: 0,
            expect: Expect::Mask,
            read_isr: false,
            poll: false,
            special_mask: false,
            rotate_on_aeoi: false,
            is_master,
        }
    }

    /// An input changed. In edge mode a request must stay high until it is acknowledged, so a
    /// falling input takes its request back.
    fn set_input(&mut self, input: u8, level: bool) {
        let bit = 1 << (input & 7);
        if !level {
            self.inputs &= !bit;
            self.irr &= !bit;
        } else {
            if self.inputs & bit == 0 || self.elcr & bit != 0 {
                self.irr |= bit;
            }
            self.inputs |= bit;
        }
    }

    /// The place of `input` in the present order, 0 = served first.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.first) & 7
    }

    /// The bit with the best rank.
    fn best(&self, bits: u8) -> Option<u8> {
        (0..8)
            .map(|rank| self.first.wrapping_add(rank) & 7)
            .find(|input| bits >> input & 1 != 0)
    }

    /// The request that INT is raised for.
    fn pending(&self) -> Option<u8> {
        let candidate = self.best(self.irr & !self.imr)?;
        let mut blocking = self.isr;
        if self.special_mask {
            blocking &= !self.imr;
        }
        if self.is_master && self.icw4 & ICW4_SFNM != 0 {
            blocking &= !(1 << CASCADE);
        }
        match self.best(blocking) {
            Some(served) if self.rank(served) <= self.rank(candidate) => None,
            _ => Some(candidate),
        }
    }

    /// Acknowledges `input`: it goes from IRR to ISR, or straight out with automatic EOI.
    fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if self.icw4 & ICW4_AEOI == 0 {
            self.isr |= bit;
        } else if self.rotate_on_aeoi {
            self.first = (input + 1) & 7;
        }
    }

    fn end_of_interrupt(&mut self, specific: Option<u8>) -> Option<u8> {
        // A non-specific EOI does not see levels that the special mask mode has masked.
        let seen = if self.special_mask {
            self.isr & !self.imr
        } else {
            self.isr
        };
        let input = specific.or_else(|| self.best(seen))?;
        self.isr &= !(1 << input);
        Some(input)
    }

    fn write_command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            debug!(target: TARGET, "ICW1 {value:02x}");
            self.icw1 = value;
            self.irr = self.inputs & self.elcr;
            self.isr = 0;
            self.imr = 0;
            self.first = 0;
            self.icw4 = 0;
            self.special_mask = false;
            self.read_isr = false;
            self.poll = false;
            self.rotate_on_aeoi = false;
            self.expect = Expect::Icw2;
        } else if value & OCW3 != 0 {
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
            self.poll = value & 0x04 != 0;
            if value & 0x02 != 0 {
                self.read_isr = value & 0x01 != 0;
            }
        } else {
            let input = value & 7;
            match value >> 5 {
                0b000 => self.rotate_on_aeoi = false,
                0b100 => self.rotate_on_aeoi = true,
                0b001 => {
                    self.end_of_interrupt(None);
                }
                0b011 => {
                    self.end_of_interrupt(Some(input));
                }
                0b101 => {
                    if let Some(served) = self.end_of_interrupt(None) {
                        self.first = (served + 1) & 7;
                    }
                }
                0b111 => {
                    self.end_of_interrupt(Some(input));
                    self.first = (input + 1) & 7;
                }
                0b110 => self.first = (input + 1) & 7,
                _ => {}
            }
        }
    }

    fn write_data(&mut self, value: u8) {
        let after_icw3 = if self.icw1 & ICW1_IC4 != 0 {
            Expect::Icw4
        } else {
            Expect::Mask
        };
        match self.expect {
            Expect::Mask => self.imr = value,
            Expect::Icw2 => {
                self.vector_base = value & 0xF8;
                self.expect = if self.icw1 & ICW1_SNGL == 0 {
                    Expect::Icw3
                } else {
                    after_icw3
                };
            }
            Expect::Icw3 => {
                let wired = if self.is_master {
                    1 << CASCADE
                } else {
                    CASCADE
                };
                if value != wired {
                    warn!(target: TARGET, "ICW3 {value:02x}, but the board is wired for {wired:02x}");
                }
                self.expect = after_icw3;
            }
            Expect::Icw4 => {
                if value & ICW4_8086 == 0 {
                    warn!(target: TARGET, "ICW4 {value:02x} asks for MCS-80 mode");
                }
                self.icw4 = value;
                self.expect = Expect::Mask;
            }
        }
    }
}

/// All that is saved: the two chips.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    master: Chip,
    slave: Chip,
}

/// The interrupt controllers of a PC/AT.
#[derive(Clone, Debug)]
pub struct I8259 {
    state: State,
}

impl I8259 {
    /// Region: the master's two ports.
    pub const MASTER: u8 = 0;
    /// Region: the slave's two ports.
    pub const SLAVE: u8 = 1;
    /// Region: the two edge/level control registers.
    pub const ELCR: u8 = 2;
    /// Region: interrupt acknowledge.
    pub const INTA: u8 = 3;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[
        (Self::MASTER, 0x20, 2, 1),
        (Self::SLAVE, 0xA0, 2, 1),
        (Self::ELCR, 0x4D0, 2, 1),
    ];

    const VERSION: u32 = 1;
    /// IRQ 0, 1, 2, 8 and 13 are always edge triggered.
    const ELCR_WRITABLE: [u8; 2] = [0xF8, 0xDE];

    /// An uninitialised pair, everything masked.
    pub fn new() -> Self {
        Self {
            state: State {
                master: Chip::new(true),
                slave: Chip::new(false),
            },
        }
    }

    /// Carries the slave's INT to the master and the master's to the processor.
    fn settle(&mut self, ctx: &mut DeviceCtx<'_>) {
        let State { master, slave } = &mut self.state;
        master.set_input(CASCADE, slave.pending().is_some());
        ctx.set_line(IrqLine::INTR, master.pending().is_some());
    }

    /// An INTA cycle. Without a request, IR7 of the chip in question answers, and no ISR bit is set.
    fn acknowledge(&mut self) -> u8 {
        let State { master, slave } = &mut self.state;
        let Some(input) = master.pending() else {
            debug!(target: TARGET, "spurious IRQ 7");
            return master.vector_base | 7;
        };
        master.acknowledge(input);
        if input != CASCADE {
            return master.vector_base | input;
        }
        let vector = match slave.pending() {
            Some(input) => {
                slave.acknowledge(input);
                slave.vector_base | input
            }
            None => {
                debug!(target: TARGET, "spurious IRQ 15");
                slave.vector_base | 7
            }
        };
        // INT falls with the second INTA pulse, so another request makes a new edge on IR2.
        master.set_input(CASCADE, false);
        vector
    }

    /// The poll command: like INTA, but for one chip only and through its data lines.
    fn poll(chip: &mut Chip) -> u8 {
        chip.poll = false;
        match chip.pending() {
            Some(input) => {
                chip.acknowledge(input);
                0x80 | input
            }
            None => 0,
        }
    }

    fn read_chip(chip: &mut Chip, offset: u64) -> u8 {
        if chip.poll {
            Self::poll(chip)
        } else if offset & 1 != 0 {
            chip.imr
        } else if chip.read_isr {
            chip.isr
        } else {
            chip.irr
        }
    }

    fn write_elcr(&mut self, offset: u64, value: u8) {
        let State { master, slave } = &mut self.state;
        let (chip, writable) = match offset & 1 {
            0 => (master, Self::ELCR_WRITABLE[0]),
            _ => (slave, Self::ELCR_WRITABLE[1]),
        };
        let before = chip.elcr;
        chip.elcr = value & writable;
        // An input that becomes level sensitive requests by its level from now on.
        chip.irr |= chip.inputs & chip.elcr & !before;
    }
}

impl Default for I8259 {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for I8259 {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8) -> u64 {
        let value = match region {
            Self::MASTER => Self::read_chip(&mut self.state.master, offset),
            Self::SLAVE => Self::read_chip(&mut self.state.slave, offset),
            Self::ELCR if offset & 1 == 0 => self.state.master.elcr,
            Self::ELCR => self.state.slave.elcr,
            Self::INTA => self.acknowledge(),
            _ => 0xFF,
        };
        self.settle(ctx);
        trace!(target: TARGET, "read {region}:{offset} = {value:02x}");
        value.into()
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _size: u8, value: u64) {
        let value = value as u8;
        trace!(target: TARGET, "write {region}:{offset} = {value:02x}");
        match (region, offset & 1) {
            (Self::MASTER, 0) => self.state.master.write_command(value),
            (Self::MASTER, _) => self.state.master.write_data(value),
            (Self::SLAVE, 0) => self.state.slave.write_command(value),
            (Self::SLAVE, _) => self.state.slave.write_data(value),
            (Self::ELCR, _) => self.write_elcr(offset, value),
            _ => {}
        }
        self.settle(ctx);
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Line { line, level } = *input {
            match line.0 {
                // IRQ 2 of the ISA bus does not exist: the pin belongs to the slave.
                CASCADE => {}
                n @ 0..8 => self.state.master.set_input(n, level),
                n @ 8..16 => self.state.slave.set_input(n - 8, level),
                _ => return,
            }
            self.settle(ctx);
        }
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        *self = Self::new();
        // The inputs are other devices' outputs: a reset of this chip does not change them.
        for n in (0..16).filter(|&n| n != CASCADE) {
            if ctx.line(IrqLine::isa(n)) {
                let State { master, slave } = &mut self.state;
                let chip = if n < 8 { master } else { slave };
                chip.inputs |= 1 << (n & 7);
            }
        }
        self.settle(ctx);
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
    use platform::{Bus, DeviceId};

    platform::device_contract!(
        contract,
        I8259::new(),
        [
            (I8259::MASTER, 2, 1),
            (I8259::SLAVE, 2, 1),
            (I8259::ELCR, 2, 1),
            (I8259::INTA, 1, 1)
        ]
    );

    const WIRES: DeviceId = DeviceId(63);

    /// A pair initialised as a PC's BIOS does, with vectors 08 and 70, nothing masked.
    fn pic() -> Bus {
        let mut bus = bus_with_regions(Box::new(I8259::new()), I8259::MAP);
        bus.set_interrupt_controller(DeviceId(0), I8259::INTA);
        for n in 0..16 {
            bus.connect(IrqLine::isa(n), DeviceId(0));
        }
        init(&mut bus, 0x01);
        bus
    }

    fn init(bus: &mut Bus, icw4: u32) {
        for (port, icw) in [
            (0x20, [0x11, 0x08, 0x04, icw4]),
            (0xA0, [0x11, 0x70, 0x02, icw4]),
        ] {
            bus.pio_write(port, 1, icw[0]);
            for value in &icw[1..] {
                bus.pio_write(port + 1, 1, *value);
            }
            bus.pio_write(port + 1, 1, 0);
        }
    }

    /// Drives an interrupt line from outside and lets the bus settle by reading a mask register.
    fn drive(bus: &mut Bus, n: u8, level: bool) {
        bus.lines.set(WIRES, IrqLine::isa(n), level);
        bus.pio_read(0x4D0, 1);
    }

    fn pulse(bus: &mut Bus, n: u8) {
        drive(bus, n, false);
        drive(bus, n, true);
    }

    fn irr(bus: &mut Bus, base: u16) -> u32 {
        bus.pio_write(base, 1, 0x0A);
        bus.pio_read(base, 1)
    }

    fn isr(bus: &mut Bus, base: u16) -> u32 {
        bus.pio_write(base, 1, 0x0B);
        bus.pio_read(base, 1)
    }

    #[test]
    fn the_lower_number_is_served_first_and_blocks_the_higher_until_eoi() {
        let mut bus = pic();
        pulse(&mut bus, 4);
        pulse(&mut bus, 1);
        assert!(bus.intr());
        assert_eq!(bus.acknowledge_interrupt(), 0x09);
        assert!(!bus.intr());
        bus.pio_write(0x20, 1, 0x20);
        assert!(bus.intr());
        assert_eq!(bus.acknowledge_interrupt(), 0x0C);
        pulse(&mut bus, 0);
        assert!(bus.intr(), "a better priority interrupts a service");
    }

    #[test]
    fn the_slave_answers_through_input_2_of_the_master() {
        let mut bus = pic();
        pulse(&mut bus, 14);
        assert_eq!(bus.acknowledge_interrupt(), 0x76);
        assert_eq!(isr(&mut bus, 0x20), 0x04);
        assert_eq!(isr(&mut bus, 0xA0), 0x40);
        pulse(&mut bus, 15);
        assert!(!bus.intr());
        bus.pio_write(0xA0, 1, 0x20);
        assert!(!bus.intr(), "the master still has its input 2 in service");
        bus.pio_write(0x20, 1, 0x20);
        assert_eq!(bus.acknowledge_interrupt(), 0x77);
    }

    #[test]
    fn an_edge_is_one_request_and_a_level_repeats() {
        let mut bus = pic();
        drive(&mut bus, 5, true);
        assert_eq!(bus.acknowledge_interrupt(), 0x0D);
        bus.pio_write(0x20, 1, 0x20);
        assert!(!bus.intr(), "the edge was used up");
        bus.pio_write(0x4D0, 1, 0x20);
        assert!(bus.intr(), "now the level counts");
        bus.acknowledge_interrupt();
        bus.pio_write(0x20, 1, 0x20);
        assert!(bus.intr());
        drive(&mut bus, 5, false);
        assert!(!bus.intr());
    }

    #[test]
    fn a_request_that_goes_away_is_spurious_and_sets_no_isr_bit() {
        let mut bus = pic();
        pulse(&mut bus, 3);
        drive(&mut bus, 3, false);
        assert!(!bus.intr());
        assert_eq!(bus.acknowledge_interrupt(), 0x0F);
        assert_eq!(isr(&mut bus, 0x20), 0);
    }

    #[test]
    fn a_mask_that_hides_the_slaves_request_withdraws_it_from_the_master() {
        let mut bus = pic();
        pulse(&mut bus, 10);
        assert_eq!(irr(&mut bus, 0x20), 0x04);
        bus.pio_write(0xA1, 1, 0xFF);
        assert!(!bus.intr());
        assert_eq!(irr(&mut bus, 0x20), 0x00);
    }

    #[test]
    fn elcr_keeps_the_timer_the_keyboard_and_the_clock_on_edges() {
        let mut bus = pic();
        bus.pio_write(0x4D0, 2, 0xFFFF);
        assert_eq!(bus.pio_read(0x4D0, 2), 0xDEF8);
    }

    #[test]
    fn icw1_clears_mask_requests_and_services() {
        let mut bus = pic();
        pulse(&mut bus, 1);
        bus.acknowledge_interrupt();
        pulse(&mut bus, 3);
        bus.pio_write(0x21, 1, 0xAA);
        init(&mut bus, 0x01);
        assert_eq!(bus.pio_read(0x21, 1), 0);
        assert_eq!((irr(&mut bus, 0x20), isr(&mut bus, 0x20)), (0, 0));
        assert!(!bus.intr(), "a high input needs a new edge");
    }

    #[test]
    fn rotation_makes_the_served_input_the_last() {
        let mut bus = pic();
        pulse(&mut bus, 4);
        bus.acknowledge_interrupt();
        bus.pio_write(0x20, 1, 0xA0);
        pulse(&mut bus, 4);
        pulse(&mut bus, 5);
        assert_eq!(bus.acknowledge_interrupt(), 0x0D, "5 is first now");
        bus.pio_write(0x20, 1, 0xE5);
        bus.pio_write(0x20, 1, 0xC7);
        pulse(&mut bus, 0);
        assert_eq!(bus.acknowledge_interrupt(), 0x08, "set priority restores 0");
    }

    #[test]
    fn automatic_eoi_leaves_no_service_and_can_rotate() {
        let mut bus = pic();
        init(&mut bus, 0x03);
        pulse(&mut bus, 1);
        pulse(&mut bus, 2);
        pulse(&mut bus, 3);
        bus.pio_write(0x20, 1, 0x80);
        assert_eq!(bus.acknowledge_interrupt(), 0x09);
        assert_eq!(isr(&mut bus, 0x20), 0);
        pulse(&mut bus, 1);
        assert_eq!(bus.acknowledge_interrupt(), 0x0B, "1 rotated behind 3");
    }

    #[test]
    fn automatic_eoi_serves_two_requests_of_the_slave() {
        let mut bus = pic();
        init(&mut bus, 0x03);
        pulse(&mut bus, 9);
        pulse(&mut bus, 12);
        assert_eq!(bus.acknowledge_interrupt(), 0x71);
        assert!(bus.intr());
        assert_eq!(bus.acknowledge_interrupt(), 0x74);
        assert!(!bus.intr());
    }

    #[test]
    fn special_mask_mode_lets_lower_priorities_through() {
        let mut bus = pic();
        pulse(&mut bus, 1);
        bus.acknowledge_interrupt();
        pulse(&mut bus, 6);
        assert!(!bus.intr());
        bus.pio_write(0x21, 1, 0x02);
        bus.pio_write(0x20, 1, 0x68);
        assert_eq!(bus.acknowledge_interrupt(), 0x0E);
        bus.pio_write(0x20, 1, 0x20);
        assert_eq!(
            isr(&mut bus, 0x20),
            0x02,
            "a non-specific EOI passes over what is masked"
        );
        bus.pio_write(0x20, 1, 0x61);
        assert_eq!(isr(&mut bus, 0x20), 0);
    }

    #[test]
    fn special_fully_nested_mode_lets_the_slave_interrupt_itself() {
        let mut bus = pic();
        init(&mut bus, 0x11);
        pulse(&mut bus, 12);
        bus.acknowledge_interrupt();
        pulse(&mut bus, 8);
        assert!(bus.intr());
        assert_eq!(bus.acknowledge_interrupt(), 0x70);
    }

    #[test]
    fn poll_acknowledges_and_names_the_input() {
        let mut bus = pic();
        bus.pio_write(0x20, 1, 0x0C);
        assert_eq!(bus.pio_read(0x20, 1), 0x00);
        pulse(&mut bus, 6);
        bus.pio_write(0x20, 1, 0x0C);
        assert_eq!(bus.pio_read(0x20, 1), 0x86);
        assert_eq!(isr(&mut bus, 0x20), 0x40);
    }

    #[test]
    fn a_reset_masks_everything_and_lowers_intr() {
        let mut bus = pic();
        pulse(&mut bus, 1);
        assert!(bus.intr());
        bus.reset();
        assert!(!bus.intr());
        assert_eq!(bus.pio_read(0x21, 1), 0xFF);
    }
}
