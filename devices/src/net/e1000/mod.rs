//! Intel 82540EM, a gigabit Ethernet controller on PCI: the card that QEMU and VirtualBox users
//! know as `e1000`.
//!
//! Manual: Intel, PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual
//! (317453), cited as SDM. Base address 0 is 128 KiB of registers, base address 1 is ports through
//! which they are reached too (SDM §13.2.2), and the expansion ROM holds what boots by network,
//! where there is one.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | registers, interrupts, statistics |
//! | `eeprom.rs` | the EEPROM, read by its wires or by EERD |
//! | `phy.rs` | the PHY behind MDIC |
//! | `transmit.rs` | the ring of descriptors to send, with checksums, segmentation and VLAN tags |
//! | `receive.rs` | filters, the packet buffer, the ring of descriptors to fill |
//!
//! The link is always up at 1 Gbit/s, full duplex, and nothing is lost on it. Sending takes virtual
//! time as on such a wire, so that what a guest may say at once is bounded.
//!
//! Not modelled: flash, wake-up, the management pass-through, flow control, the packet buffer's
//! memory window.

mod eeprom;
mod phy;
mod receive;
mod transmit;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use log::{debug, trace};
use platform::{Input, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

use crate::net::Mac;
use crate::pci::{Bar, ConfigSpace, PciCtx, PciDevice, PciFunction};

use eeprom::Eeprom;
use phy::Phy;
use transmit::Transmitter;

const TARGET: &str = "e1000";

/// Timers.
const TIMER_TRANSMIT: u32 = 0;
const TIMER_THROTTLE: u32 = 1;
const TIMER_SENT: u32 = 2;
const TIMER_RECEIVED: u32 = 3;

/// Registers (SDM table 13-2).
const CTRL: u32 = 0x0000;
const CTRL_DUPLICATE: u32 = 0x0004;
const STATUS: u32 = 0x0008;
const EECD: u32 = 0x0010;
const EERD: u32 = 0x0014;
const MDIC: u32 = 0x0020;
const VET: u32 = 0x0038;
const ICR: u32 = 0x00C0;
const ITR: u32 = 0x00C4;
const ICS: u32 = 0x00C8;
const IMS: u32 = 0x00D0;
const IMC: u32 = 0x00D8;
const RCTL: u32 = 0x0100;
const TCTL: u32 = 0x0400;
const PBA: u32 = 0x1000;
const RDBAL: u32 = 0x2800;
const RDBAH: u32 = 0x2804;
const RDLEN: u32 = 0x2808;
const RDH: u32 = 0x2810;
const RDT: u32 = 0x2818;
const RDTR: u32 = 0x2820;
const RADV: u32 = 0x282C;
const TDBAL: u32 = 0x3800;
const TDBAH: u32 = 0x3804;
const TDLEN: u32 = 0x3808;
const TDH: u32 = 0x3810;
const TDT: u32 = 0x3818;
const TIDV: u32 = 0x3820;
const TADV: u32 = 0x382C;
const STATISTICS: u32 = 0x4000;
const STATISTICS_END: u32 = 0x4100;
const RXCSUM: u32 = 0x5000;
const MTA: u32 = 0x5200;
const RAL: u32 = 0x5400;
const VFTA: u32 = 0x5600;

/// Registers that keep what is written and have no effect here: flow control, LEDs, wake-up,
/// thresholds.
const INERT: [u32; 31] = [
    0x0018, 0x0028, 0x002C, 0x0030, 0x0170, 0x0178, 0x0410, 0x0458, 0x0E00, 0x1000, 0x2160, 0x2168,
    0x2410, 0x2418, 0x2420, 0x2428, 0x2430, 0x2828, 0x2C00, 0x3000, 0x3410, 0x3418, 0x3420, 0x3428,
    0x3430, 0x3828, 0x3830, 0x5800, 0x5808, 0x5820, 0x5838,
];

/// CTRL.
const CTRL_SET_LINK_UP: u32 = 1 << 6;
const CTRL_RESET: u32 = 1 << 26;
const CTRL_VLAN: u32 = 1 << 30;
const CTRL_PHY_RESET: u32 = 1 << 31;
/// Full duplex, and 1 Gbit/s.
const CTRL_POWER_ON: u32 = 0x0000_0201;

/// STATUS: full duplex, link up, 1 Gbit/s by the PHY and as detected.
const STATUS_UP: u32 = 0x0000_0283;

/// Causes of interrupts (SDM table 13-62).
const SENT: u32 = 1 << 0;
const QUEUE_EMPTY: u32 = 1 << 1;
const LINK_CHANGED: u32 = 1 << 2;
const FEW_DESCRIPTORS: u32 = 1 << 4;
const OVERRUN: u32 = 1 << 6;
const RECEIVED: u32 = 1 << 7;
const MDIO_DONE: u32 = 1 << 9;
const CAUSES: u32 = 0x0001_FFFF;

/// RAH: the address is valid.
const ADDRESS_VALID: u32 = 1 << 31;

/// Units of ITR, and of the delays of interrupts, in nanoseconds (SDM §13.4.18, §13.4.30).
const ITR_UNIT_NS: u64 = 256;
const DELAY_UNIT_NS: u64 = 1024;

/// Statistics by their registers.
const CRCERRS_MPC: u32 = 0x4010;
const SIZES_RECEIVED: u32 = 0x405C;
const GPRC: u32 = 0x4074;
const BPRC: u32 = 0x4078;
const MPRC: u32 = 0x407C;
const GPTC: u32 = 0x4080;
const GORC: u32 = 0x4088;
const GOTC: u32 = 0x4090;
const RNBC: u32 = 0x40A0;
const ROC: u32 = 0x40AC;
const TOR: u32 = 0x40C0;
const TOT: u32 = 0x40C8;
const TPR: u32 = 0x40D0;
const TPT: u32 = 0x40D4;
const SIZES_SENT: u32 = 0x40D8;
const MPTC: u32 = 0x40F0;
const BPTC: u32 = 0x40F4;
const TSCTC: u32 = 0x40F8;

/// A ring of descriptors of 16 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ring {
    base: u64,
    /// In bytes, a multiple of 128.
    len: u32,
    head: u32,
    tail: u32,
}

impl Ring {
    fn count(&self) -> u32 {
        self.len / 16
    }

    /// Whether head and tail lie within; otherwise nothing moves.
    fn is_sound(&self) -> bool {
        self.head < self.count() && self.tail < self.count()
    }

    /// How many descriptors are the card's.
    fn ours(&self) -> u32 {
        let count = self.count();
        match self.is_sound() {
            true => (self.tail + count - self.head) % count,
            false => 0,
        }
    }

    /// The address of the descriptor at the head.
    fn at_head(&self) -> u64 {
        self.base.wrapping_add(u64::from(self.head) * 16)
    }

    fn advance(&mut self) {
        self.head = (self.head + 1) % self.count().max(1);
    }
}

/// Everything that is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    ctrl: u32,
    vlan_type: u32,
    causes: u32,
    mask: u32,
    throttle: u32,
    /// Before this time no interrupt is signalled.
    throttled_until_ns: u64,
    /// The level of the interrupt.
    signalled: bool,
    receive_control: u32,
    receive_checksum: u32,
    receive_delay: u32,
    receive_absolute_delay: u32,
    /// An interrupt for received packets waits, until this time at the latest.
    receive_delayed_until_ns: Option<u64>,
    receive: Ring,
    /// Frames in the packet buffer.
    buffer: VecDeque<Vec<u8>>,
    transmit_control: u32,
    transmit_delay: u32,
    transmit_absolute_delay: u32,
    transmit_delayed_until_ns: Option<u64>,
    transmit: Ring,
    transmitter: Transmitter,
    multicast: Vec<u32>,
    vlans: Vec<u32>,
    addresses: [u32; 32],
    statistics: Vec<u32>,
    inert: BTreeMap<u32, u32>,
    eeprom: Eeprom,
    phy: Phy,
    mdic: u32,
    /// The register that the ports stand for.
    port_address: u32,
}

impl State {
    fn new(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac;
        let mut addresses = [0; 32];
        // It comes from the EEPROM after each reset.
        addresses[0] = u32::from_le_bytes([a, b, c, d]);
        addresses[1] = u32::from(u16::from_le_bytes([e, f])) | ADDRESS_VALID;
        Self {
            ctrl: CTRL_POWER_ON,
            vlan_type: 0x8100,
            causes: 0,
            mask: 0,
            throttle: 0,
            throttled_until_ns: 0,
            signalled: false,
            receive_control: 0,
            receive_checksum: 0,
            receive_delay: 0,
            receive_absolute_delay: 0,
            receive_delayed_until_ns: None,
            receive: Ring::default(),
            buffer: VecDeque::new(),
            transmit_control: 0,
            transmit_delay: 0,
            transmit_absolute_delay: 0,
            transmit_delayed_until_ns: None,
            transmit: Ring::default(),
            transmitter: Transmitter::default(),
            multicast: vec![0; 128],
            vlans: vec![0; 128],
            addresses,
            statistics: vec![0; 64],
            // 48 KiB to receive, 16 to transmit.
            inert: BTreeMap::from([(PBA, 0x0010_0030)]),
            eeprom: Eeprom::default(),
            phy: Phy::default(),
            mdic: 0,
            port_address: 0,
        }
    }

    /// Adds to a statistics register of 32 bits, which stays at its most.
    fn count(&mut self, register: u32, by: u32) {
        if let Some(value) = self.statistics.get_mut(index(register, STATISTICS)) {
            *value = value.saturating_add(by);
        }
    }

    /// Adds to one of 64 bits.
    fn count_bytes(&mut self, register: u32, by: usize) {
        let at = index(register, STATISTICS);
        let value = u64::from(self.statistics[at]) | u64::from(self.statistics[at + 1]) << 32;
        let value = value.wrapping_add(by as u64);
        self.statistics[at] = value as u32;
        self.statistics[at + 1] = (value >> 32) as u32;
    }
}

/// The place of a register in its table.
fn index(register: u32, table: u32) -> usize {
    ((register - table) / 4) as usize
}

/// The statistics register of frames of this size (with checksum), of six in a row from `first` on.
fn size_class(first: u32, len: usize) -> u32 {
    let class = [64, 127, 255, 511, 1023].partition_point(|&most| most < len);
    first + 4 * class as u32
}

/// The card.
pub struct E1000 {
    mac: Mac,
    state: State,
}

impl E1000 {
    const VERSION: u32 = 1;

    /// A card with this address, and what is in its expansion ROM: nothing, or a multiple of 512
    /// bytes.
    pub fn device(mac: Mac, rom: Vec<u8>) -> PciDevice<Self> {
        let registers = Bar::Memory {
            len: 0x2_0000,
            wide: false,
            prefetchable: false,
        };
        let config = ConfigSpace::new(0x8086, 0x100E, 0x02_00_00, 0x03)
            .subsystem(0x1AF4, 0x1100)
            .with(0x3E, &[0xFF, 0x00])
            .writable(0x0C, &[0xFF, 0xF8])
            .writable(0x04, &[0x10])
            .bar(0, registers)
            .bar(1, Bar::Ports(64))
            .bus_master()
            .interrupt_pin(1);
        let state = State::new(mac);
        PciDevice::new(config, Self { mac, state }).with_rom(rom)
    }

    // ---- interrupts
    // ------------------------------------------------------------------------------

    /// Notes causes of an interrupt, and signals it.
    fn cause(&mut self, ctx: &mut PciCtx<'_, '_>, causes: u32) {
        self.state.causes |= causes;
        self.signal(ctx);
    }

    /// Signals an interrupt, or that there is none, no sooner than the throttle allows (SDM
    /// §13.4.18).
    fn signal(&mut self, ctx: &mut PciCtx<'_, '_>) {
        let state = &mut self.state;
        let level = state.causes & state.mask != 0;
        if level && !state.signalled {
            let now_ns = ctx.now_ns();
            if now_ns < state.throttled_until_ns {
                ctx.schedule(TIMER_THROTTLE, state.throttled_until_ns);
                return;
            }
            state.throttled_until_ns = now_ns + u64::from(state.throttle) * ITR_UNIT_NS;
        }
        state.signalled = level;
        ctx.set_interrupt(level);
    }

    /// Puts an interrupt off by `delay` units, by `most` units at most; 0 for no bound.
    fn put_off(
        ctx: &mut PciCtx<'_, '_>,
        timer: u32,
        until: &mut Option<u64>,
        delay: u32,
        most: u32,
    ) {
        let now_ns = ctx.now_ns();
        let at_last = *until.get_or_insert(match most {
            0 => u64::MAX,
            most => now_ns + u64::from(most) * DELAY_UNIT_NS,
        });
        let at_ns = now_ns + u64::from(delay) * DELAY_UNIT_NS;
        ctx.schedule(timer, at_ns.min(at_last));
    }

    // ---- registers
    // -------------------------------------------------------------------------------

    fn read_register(&mut self, ctx: &mut PciCtx<'_, '_>, register: u32) -> u32 {
        let state = &mut self.state;
        match register {
            CTRL | CTRL_DUPLICATE => state.ctrl,
            STATUS => STATUS_UP,
            EECD => state.eeprom.read_wires(&eeprom::words(self.mac)),
            EERD => state.eeprom.eerd,
            MDIC => state.mdic,
            VET => state.vlan_type,
            ICR => {
                let causes = std::mem::take(&mut state.causes);
                self.signal(ctx);
                causes
            }
            ITR => state.throttle,
            IMS => state.mask,
            RCTL => state.receive_control,
            TCTL => state.transmit_control,
            RDBAL => state.receive.base as u32,
            RDBAH => (state.receive.base >> 32) as u32,
            RDLEN => state.receive.len,
            RDH => state.receive.head,
            RDT => state.receive.tail,
            RDTR => state.receive_delay,
            RADV => state.receive_absolute_delay,
            TDBAL => state.transmit.base as u32,
            TDBAH => (state.transmit.base >> 32) as u32,
            TDLEN => state.transmit.len,
            TDH => state.transmit.head,
            TDT => state.transmit.tail,
            TIDV => state.transmit_delay,
            TADV => state.transmit_absolute_delay,
            // Reading clears.
            STATISTICS..STATISTICS_END => {
                std::mem::take(&mut state.statistics[index(register, STATISTICS)])
            }
            RXCSUM => state.receive_checksum,
            MTA..0x5400 => state.multicast[index(register, MTA)],
            RAL..0x5480 => state.addresses[index(register, RAL)],
            VFTA..0x5800 => state.vlans[index(register, VFTA)],
            _ => state.inert.get(&register).copied().unwrap_or(0),
        }
    }

    fn write_register(&mut self, ctx: &mut PciCtx<'_, '_>, register: u32, value: u32) {
        let state = &mut self.state;
        let low = |base: u64| base & !0xFFFF_FFFF | u64::from(value & !0xF);
        let high = |base: u64| base & 0xFFFF_FFFF | u64::from(value) << 32;
        match register {
            CTRL | CTRL_DUPLICATE => self.write_control(ctx, value),
            EECD => state.eeprom.write_wires(value),
            EERD => state.eeprom.start_read(value, &eeprom::words(self.mac)),
            MDIC => self.write_mdic(ctx, value),
            VET => state.vlan_type = value & 0xFFFF,
            ICR => {
                state.causes &= !value;
                self.signal(ctx);
            }
            ITR => state.throttle = value & 0xFFFF,
            ICS => self.cause(ctx, value & CAUSES),
            IMS => {
                state.mask |= value & CAUSES;
                self.signal(ctx);
            }
            IMC => {
                state.mask &= !value;
                self.signal(ctx);
            }
            RCTL => {
                state.receive_control = value & 0x07FF_FFFE;
                self.fill(ctx);
            }
            TCTL => {
                state.transmit_control = value & 0x07FF_FFFA;
                self.transmit(ctx);
            }
            RDBAL => state.receive.base = low(state.receive.base),
            RDBAH => state.receive.base = high(state.receive.base),
            RDLEN => state.receive.len = value & 0x000F_FF80,
            RDH => state.receive.head = value & 0xFFFF,
            RDT => {
                state.receive.tail = value & 0xFFFF;
                self.fill(ctx);
            }
            RDTR => {
                state.receive_delay = value & 0xFFFF;
                if value & FLUSH != 0 {
                    self.received(ctx);
                }
            }
            RADV => state.receive_absolute_delay = value & 0xFFFF,
            TDBAL => state.transmit.base = low(state.transmit.base),
            TDBAH => state.transmit.base = high(state.transmit.base),
            TDLEN => state.transmit.len = value & 0x000F_FF80,
            TDH => state.transmit.head = value & 0xFFFF,
            TDT => {
                state.transmit.tail = value & 0xFFFF;
                self.transmit(ctx);
            }
            TIDV => {
                state.transmit_delay = value & 0xFFFF;
                if value & FLUSH != 0 {
                    self.sent(ctx);
                }
            }
            TADV => state.transmit_absolute_delay = value & 0xFFFF,
            RXCSUM => state.receive_checksum = value & 0x3FF,
            MTA..0x5400 => state.multicast[index(register, MTA)] = value,
            RAL..0x5480 => {
                let half = index(register, RAL);
                // The upper half has two bytes of the address, its kind and whether it is valid.
                let mask = if half.is_multiple_of(2) {
                    !0
                } else {
                    0x8003_FFFF
                };
                state.addresses[half] = value & mask;
            }
            VFTA..0x5800 => state.vlans[index(register, VFTA)] = value,
            _ if INERT.contains(&register) => {
                state.inert.insert(register, value);
            }
            _ => trace!(target: TARGET, "no register at {register:05x}"),
        }
    }

    fn write_control(&mut self, ctx: &mut PciCtx<'_, '_>, value: u32) {
        if value & CTRL_RESET != 0 {
            debug!(target: TARGET, "reset by software");
            // The wire stays busy with what is on it.
            let busy = self.state.transmitter.busy_until_ns;
            self.clear(ctx);
            self.state.transmitter.busy_until_ns = busy;
            return;
        }
        if value & CTRL_PHY_RESET != 0 {
            self.state.phy = Phy::default();
        }
        let linked = value & !self.state.ctrl & CTRL_SET_LINK_UP != 0;
        self.state.ctrl = value & !(CTRL_RESET | CTRL_PHY_RESET);
        if linked || value & CTRL_PHY_RESET != 0 {
            self.cause(ctx, LINK_CHANGED);
        }
    }

    fn write_mdic(&mut self, ctx: &mut PciCtx<'_, '_>, value: u32) {
        const INTERRUPT: u32 = 1 << 29;
        let (result, linked) = self.state.phy.access(value);
        self.state.mdic = result;
        let mut causes = if linked { LINK_CHANGED } else { 0 };
        if value & INTERRUPT != 0 {
            causes |= MDIO_DONE;
        }
        if causes != 0 {
            self.cause(ctx, causes);
        }
    }

    fn clear(&mut self, ctx: &mut PciCtx<'_, '_>) {
        self.state = State::new(self.mac);
        for timer in [TIMER_TRANSMIT, TIMER_THROTTLE, TIMER_SENT, TIMER_RECEIVED] {
            ctx.cancel(timer);
        }
        ctx.set_interrupt(false);
    }
}

/// RDTR and TIDV: signals at once what was put off.
const FLUSH: u32 = 1 << 31;

impl PciFunction for E1000 {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, ctx: &mut PciCtx<'_, '_>, region: u8, offset: u64, size: u8) -> u64 {
        match region {
            0 => {
                let shift = 8 * (offset & 3);
                let register = offset as u32 & 0x1_FFFC;
                let mut value = u64::from(self.read_register(ctx, register));
                if size == 8 {
                    value |= u64::from(self.read_register(ctx, register + 4)) << 32;
                }
                trace!(target: TARGET, "read {register:05x} = {value:x}");
                value >> shift
            }
            1 => match offset & !3 {
                0 => self.state.port_address.into(),
                4 => self
                    .read_register(ctx, self.state.port_address & 0x1_FFFC)
                    .into(),
                _ => 0,
            },
            _ => !0,
        }
    }

    fn write(&mut self, ctx: &mut PciCtx<'_, '_>, region: u8, offset: u64, size: u8, value: u64) {
        match region {
            // Registers are written as a whole (SDM §13.3).
            0 if size >= 4 && offset & 3 == 0 => {
                let register = offset as u32 & 0x1_FFFC;
                trace!(target: TARGET, "write {register:05x} = {value:x}");
                self.write_register(ctx, register, value as u32);
                if size == 8 {
                    self.write_register(ctx, register + 4, (value >> 32) as u32);
                }
            }
            1 if size == 4 => match offset {
                0 => self.state.port_address = value as u32 & 0x000F_FFFF,
                4 => self.write_register(ctx, self.state.port_address & 0x1_FFFC, value as u32),
                _ => {}
            },
            _ => {}
        }
    }

    fn on_timer(&mut self, ctx: &mut PciCtx<'_, '_>, timer: u32) {
        match timer {
            TIMER_TRANSMIT => self.transmit(ctx),
            TIMER_THROTTLE => self.signal(ctx),
            TIMER_SENT => self.sent(ctx),
            TIMER_RECEIVED => self.received(ctx),
            _ => {}
        }
    }

    fn on_input(&mut self, ctx: &mut PciCtx<'_, '_>, input: &Input) {
        if let Input::Frame(frame) = input {
            self.receive(ctx, frame);
        }
    }

    fn takes_input(&self, input: &Input) -> bool {
        !matches!(input, Input::Frame(_)) || self.has_room()
    }

    fn reset(&mut self, ctx: &mut PciCtx<'_, '_>) {
        self.clear(ctx);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let state: State = state.decode(Self::VERSION)?;
        let tables = [&state.multicast, &state.vlans];
        let sound = tables.iter().all(|table| table.len() == 128)
            && state.statistics.len() == 64
            && state.receive.head <= 0xFFFF
            && state.transmit.head <= 0xFFFF
            && receive::is_sound(&state.buffer)
            && state.transmitter.is_sound()
            && state.inert.keys().all(|register| INERT.contains(register));
        if !sound {
            return Err(StateError::Unsound("no state of an 82540EM"));
        }
        self.state = state;
        Ok(())
    }
}
