//! The local APIC: the processor's own interrupt controller and timer.
//!
//! Intel SDM vol. 3A chapter 11. This is the register file; [`adapter`] ties it to the processor and the bus.
//!
//! | offset | register |
//! |---|---|
//! | 020, 030 | ID, version (14h, 6 LVT entries) |
//! | 080, 090, 0A0 | task, arbitration and processor priority |
//! | 0B0 | end of interrupt |
//! | 0D0, 0E0, 0F0 | logical destination, destination format, spurious vector with software enable |
//! | 100-170, 180-1F0, 200-270 | in service, trigger mode, interrupt request: 256 bits each |
//! | 280 | error status |
//! | 300, 310 | interrupt command |
//! | 320-370 | local vector table: timer, thermal, performance, LINT0, LINT1, error |
//! | 380, 390, 3E0 | timer: initial count, current count, divider |
//!
//! The timer's bus clock is 1 GHz, so a count of 1 with divider 1 is one nanosecond of virtual time; the
//! TSC-deadline mode compares with the time-stamp counter, which runs at the same rate.
//!
//! Out of reset the bootstrap processor's LINT0 is ExtINT and every LINT1 is NMI, both unmasked, as a BIOS
//! leaves them ("virtual wire"). In x2APIC mode (§11.12) the registers are MSRs, 800h and the offset's sixteenth, the ID
//! is the processor's number, the logical ID follows from it, and the interrupt command is one register. Not modelled: the arbitration of lowest-priority messages (the first
//! processor that is addressed takes it), level-triggered LINT pins (they count as edges), the sources of the
//! thermal and performance entries, and focus processors.

pub mod adapter;
#[cfg(test)]
mod tests;

use platform::{DeliveryMode, InterruptMessage};
use serde::{Deserialize, Serialize};

/// Offsets of registers, and what belongs to them.
#[allow(missing_docs)]
pub mod register {
    pub const ID: u16 = 0x020;
    pub const VERSION: u16 = 0x030;
    pub const TPR: u16 = 0x080;
    pub const APR: u16 = 0x090;
    pub const PPR: u16 = 0x0A0;
    pub const EOI: u16 = 0x0B0;
    pub const RRD: u16 = 0x0C0;
    pub const LDR: u16 = 0x0D0;
    pub const DFR: u16 = 0x0E0;
    pub const SVR: u16 = 0x0F0;
    pub const ISR: u16 = 0x100;
    pub const TMR: u16 = 0x180;
    pub const IRR: u16 = 0x200;
    pub const ESR: u16 = 0x280;
    pub const ICR_LOW: u16 = 0x300;
    pub const ICR_HIGH: u16 = 0x310;
    pub const LVT_TIMER: u16 = 0x320;
    pub const LVT_LINT0: u16 = 0x350;
    pub const LVT_LINT1: u16 = 0x360;
    pub const LVT_ERROR: u16 = 0x370;
    pub const INITIAL_COUNT: u16 = 0x380;
    pub const CURRENT_COUNT: u16 = 0x390;
    pub const DIVIDE: u16 = 0x3E0;
    /// Self IPI, in x2APIC mode only.
    pub const SELF_IPI: u16 = 0x3F0;
}

const VERSION: u32 = 0x14 | (LVT_ENTRIES as u32 - 1) << 16;
const LVT_ENTRIES: usize = 6;
const TIMER: usize = 0;
const LINT0: usize = 3;
const ERROR: usize = 5;
/// What software can write of each LVT entry: vector, delivery mode, polarity, trigger mode, mask, timer mode.
const LVT_WRITABLE: [u32; LVT_ENTRIES] = [
    0x0007_00FF,
    0x0001_07FF,
    0x0001_07FF,
    0x0001_A7FF,
    0x0001_A7FF,
    0x0001_00FF,
];
const LVT_MASKED: u32 = 1 << 16;
const LVT_EXTINT: u32 = 0x700;
const LVT_NMI: u32 = 0x400;

const SVR_ENABLE: u32 = 1 << 8;
/// Vector, software enable, focus processor checking.
const SVR_WRITABLE: u32 = 0x3FF;

const ESR_SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
const ESR_RECEIVED_ILLEGAL_VECTOR: u32 = 1 << 6;
const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

const ICR_LOGICAL: u32 = 1 << 11;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_LEVEL: u32 = 1 << 15;
/// The shorthand that stands for the sender.
const ICR_TO_SELF: u32 = 1 << 18;
/// The parts of an LVT entry that are the APIC's own: delivery status and remote IRR.
const LVT_READ_ONLY: u32 = 1 << 12 | 1 << 14;
/// All but the delivery status, which always reads idle.
const ICR_WRITABLE: u32 = 0x000C_CFFF;

/// How an APIC understands destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicMode {
    /// 8 bits; logical ones by its LDR and DFR.
    XApic,
    /// 32 bits; logical ones are a cluster of 16 and a bit in it.
    X2Apic,
}

/// The time: virtual nanoseconds, and what the time-stamp counter shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since power-on.
    pub ns: u64,
    /// The time-stamp counter, which counts nanoseconds from wherever software has set it.
    pub tsc: u64,
}

/// What an interrupt does to the processor beside waiting in the IRR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A system management interrupt.
    Smi,
    /// A non-maskable interrupt.
    Nmi,
    /// INIT: to the reset vector, or to the wait for a start-up message.
    Init,
    /// Start at this page.
    StartUp(u8),
}

/// What a write to a register asks of the world outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The I/O APICs must know that this level-triggered vector has been served.
    EndOfInterrupt(u8),
    /// A message to be sent.
    Send {
        /// What.
        message: InterruptMessage,
        /// To the sender itself, if the destination matches it.
        to_self: bool,
        /// To the others, if the destination matches them.
        to_others: bool,
    },
}

/// 256 bits, one a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8) {
        self.0[usize::from(vector / 32)] |= 1 << (vector % 32);
    }
    fn clear(&mut self, vector: u8) {
        self.0[usize::from(vector / 32)] &= !(1 << (vector % 32));
    }
    fn has(&self, vector: u8) -> bool {
        self.0[usize::from(vector / 32)] >> (vector % 32) & 1 != 0
    }
    fn highest(&self) -> Option<u8> {
        let word = (0..8).rev().find(|&word| self.0[word] != 0)?;
        Some((word * 32) as u8 + 31 - self.0[word].leading_zeros() as u8)
    }
}

/// How the timer counts: bits 18 and 17 of its LVT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
}

/// The local APIC of one processor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalApic {
    id: u8,
    tpr: u8,
    logical_id: u8,
    /// Bits 31 to 28 of the DFR: Fh flat, 0 cluster.
    logical_model: u8,
    svr: u32,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    /// What the ESR shows, and the errors since it was last written.
    esr: u32,
    errors: u32,
    icr: u64,
    lvt: [u32; LVT_ENTRIES],
    initial_count: u32,
    divide: u8,
    /// When the current count reaches zero.
    zero_at_ns: Option<u64>,
    /// IA32_TSC_DEADLINE; 0 = disarmed.
    tsc_deadline: u64,
    /// A message asked for the 8259A's vector.
    extint: bool,
    /// The levels of LINT0 and LINT1.
    pins: [bool; 2],
}

impl LocalApic {
    /// A local APIC after reset.
    pub fn new(id: u8, bootstrap: bool) -> Self {
        let mut lvt = [LVT_MASKED; LVT_ENTRIES];
        if bootstrap {
            lvt[LINT0] = LVT_EXTINT;
        }
        lvt[LINT0 + 1] = LVT_NMI;
        Self {
            id,
            tpr: 0,
            logical_id: 0,
            logical_model: 0xF,
            svr: 0xFF,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            esr: 0,
            errors: 0,
            icr: 0,
            lvt,
            initial_count: 0,
            divide: 0,
            zero_at_ns: None,
            tsc_deadline: 0,
            extint: false,
            pins: [false; 2],
        }
    }

    /// Reset, INIT, or the global enable bit going off: everything but the ID and the pins' levels.
    pub fn reset(&mut self, bootstrap: bool) {
        *self = Self {
            pins: self.pins,
            ..Self::new(self.id, bootstrap)
        };
    }

    /// The mode changes, and the ID is what it was out of reset.
    pub fn take_initial_id(&mut self, id: u8) {
        self.id = id;
    }

    /// The APIC ID.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// The task priority register.
    pub fn tpr(&self) -> u8 {
        self.tpr
    }

    /// Sets the task priority register.
    pub fn set_tpr(&mut self, tpr: u8) {
        self.tpr = tpr;
    }

    // ---- registers -----------------------------------------------------------------------------

    /// Reads the register at `offset`, a multiple of 16.
    pub fn read(&mut self, offset: u16, now: Now) -> u32 {
        use register::*;
        self.advance(now);
        match offset {
            ID => u32::from(self.id) << 24,
            self::register::VERSION => self::VERSION,
            TPR => self.tpr.into(),
            APR => self.arbitration_priority().into(),
            PPR => self.processor_priority().into(),
            EOI | RRD => 0,
            LDR => u32::from(self.logical_id) << 24,
            DFR => u32::from(self.logical_model) << 28 | 0x0FFF_FFFF,
            SVR => self.svr,
            ISR..TMR => self.isr.0[word(offset)],
            TMR..IRR => self.tmr.0[word(offset)],
            IRR..ESR => self.irr.0[word(offset)],
            ESR => self.esr,
            ICR_LOW => self.icr as u32,
            ICR_HIGH => (self.icr >> 32) as u32,
            LVT_TIMER..=LVT_ERROR => self.lvt[usize::from((offset - LVT_TIMER) / 16)],
            INITIAL_COUNT => self.initial_count,
            CURRENT_COUNT => self.current_count(now),
            DIVIDE => self.divide.into(),
            _ => {
                self.error(ESR_ILLEGAL_REGISTER);
                0
            }
        }
    }

    /// Writes the register at `offset`, a multiple of 16.
    pub fn write(&mut self, offset: u16, value: u32, now: Now) -> Effect {
        use register::*;
        self.advance(now);
        match offset {
            ID => self.id = (value >> 24) as u8,
            TPR => self.tpr = value as u8,
            EOI => return self.end_of_interrupt(),
            LDR => self.logical_id = (value >> 24) as u8,
            DFR => self.logical_model = (value >> 28) as u8,
            SVR => {
                self.svr = value & SVR_WRITABLE;
                if value & SVR_ENABLE == 0 {
                    self.lvt.iter_mut().for_each(|entry| *entry |= LVT_MASKED);
                }
            }
            ESR => self.esr = std::mem::take(&mut self.errors),
            ICR_LOW => {
                let low = value & ICR_WRITABLE;
                self.icr = (self.icr & !0xFFFF_FFFF) | u64::from(low);
                return self.command(low, (self.icr >> 56) as u32);
            }
            ICR_HIGH => {
                self.icr = u64::from(value & 0xFF00_0000) << 32 | (self.icr & 0xFFFF_FFFF);
            }
            LVT_TIMER..=LVT_ERROR => self.write_lvt(usize::from((offset - LVT_TIMER) / 16), value),
            INITIAL_COUNT if self.timer_mode() != TimerMode::TscDeadline => {
                self.initial_count = value;
                self.count_from(value, now);
            }
            INITIAL_COUNT => {}
            DIVIDE => {
                let left = self.current_count(now);
                self.divide = value as u8 & 0xB;
                self.count_from(left, now);
            }
            self::register::VERSION | APR | PPR | RRD | CURRENT_COUNT | ISR..ESR => {}
            _ => self.error(ESR_ILLEGAL_REGISTER),
        }
        Effect::None
    }

    /// The logical ID in x2APIC mode: the number of a cluster of 16, and the bit in it.
    fn x2apic_logical_id(&self) -> u32 {
        u32::from(self.id >> 4) << 16 | 1 << (self.id & 15)
    }

    /// Reads the register at `offset` in x2APIC mode; `None` where there is none, or none to be read (table 11-6).
    pub fn read_x2apic(&mut self, offset: u16, now: Now) -> Option<u64> {
        use register::*;
        Some(match offset {
            ID => self.id.into(),
            LDR => self.x2apic_logical_id().into(),
            ICR_LOW => self.icr,
            self::register::VERSION
            | TPR
            | PPR
            | SVR
            | ISR..=ESR
            | LVT_TIMER..=CURRENT_COUNT
            | DIVIDE => self.read(offset, now).into(),
            _ => return None,
        })
    }

    /// Writes the register at `offset` in x2APIC mode; `None` where there is none to be written, and for reserved bits.
    pub fn write_x2apic(&mut self, offset: u16, value: u64, now: Now) -> Option<Effect> {
        use register::*;
        let known = match offset {
            TPR | SELF_IPI => 0xFF,
            EOI | ESR => 0,
            SVR => SVR_WRITABLE.into(),
            ICR_LOW => 0xFFFF_FFFF << 32 | u64::from(ICR_WRITABLE),
            LVT_TIMER..=LVT_ERROR => {
                let entry = usize::from((offset - LVT_TIMER) / 16);
                (LVT_WRITABLE[entry] | LVT_READ_ONLY).into()
            }
            INITIAL_COUNT => 0xFFFF_FFFF,
            DIVIDE => 0xB,
            _ => return None,
        };
        if value & !known != 0 {
            return None;
        }
        Some(match offset {
            ICR_LOW => {
                self.advance(now);
                self.icr = value;
                self.command(value as u32, (value >> 32) as u32)
            }
            SELF_IPI => {
                self.advance(now);
                self.command(value as u32 | ICR_TO_SELF, 0)
            }
            _ => self.write(offset, value as u32, now),
        })
    }

    fn write_lvt(&mut self, entry: usize, value: u32) {
        let before = self.timer_mode();
        self.lvt[entry] = value & LVT_WRITABLE[entry];
        if !self.is_enabled() {
            self.lvt[entry] |= LVT_MASKED;
        }
        let after = self.timer_mode();
        if (before == TimerMode::TscDeadline) != (after == TimerMode::TscDeadline) {
            // Going into or out of the TSC-deadline mode disarms the timer (§11.5.4.1).
            self.zero_at_ns = None;
            self.tsc_deadline = 0;
        }
    }

    /// Whether software has enabled it.
    pub fn is_enabled(&self) -> bool {
        self.svr & SVR_ENABLE != 0
    }

    /// Notes errors and asks for the error interrupt (§11.5.3).
    fn error(&mut self, bits: u32) {
        self.errors |= bits;
        let entry = self.lvt[ERROR];
        if entry & LVT_MASKED == 0 {
            if entry as u8 >= 16 {
                self.request(entry as u8, false);
            } else {
                self.errors |= ESR_RECEIVED_ILLEGAL_VECTOR;
            }
        }
    }

    fn command(&mut self, low: u32, destination: u32) -> Effect {
        let vector = low as u8;
        let mode = match DeliveryMode::from_bits((low >> 8) as u8) {
            None | Some(DeliveryMode::ExtInt) => return Effect::None,
            Some(mode) => mode,
        };
        if is_vectored(mode) && vector < 16 {
            self.error(ESR_SEND_ILLEGAL_VECTOR);
            return Effect::None;
        }
        if mode == DeliveryMode::Init && low & (ICR_ASSERT | ICR_LEVEL) == ICR_LEVEL {
            // INIT level de-assert only synchronizes arbitration IDs, which nobody has any more.
            return Effect::None;
        }
        let shorthand = low >> 18 & 3;
        let message = InterruptMessage {
            destination: if shorthand == 0 {
                destination
            } else {
                InterruptMessage::EVERYBODY
            },
            logical: shorthand == 0 && low & ICR_LOGICAL != 0,
            mode,
            vector,
            level: false,
        };
        Effect::Send {
            message,
            to_self: shorthand != 3,
            to_others: shorthand != 1,
        }
    }

    // ---- messages and pins ---------------------------------------------------------------------

    /// Whether a message is meant for this APIC (§11.6.2, §11.12.10).
    pub fn is_addressed_by(&self, mode: ApicMode, message: &InterruptMessage) -> bool {
        let destination = message.destination;
        if mode == ApicMode::X2Apic {
            return destination == InterruptMessage::EVERYBODY
                || !message.logical && destination == self.id.into()
                || message.logical
                    && destination >> 16 == self.x2apic_logical_id() >> 16
                    && destination & self.x2apic_logical_id() & 0xFFFF != 0;
        }
        if !message.logical {
            // In 8 bits FFh stands for everybody.
            return destination == self.id.into()
                || matches!(destination, 0xFF | InterruptMessage::EVERYBODY);
        }
        match self.logical_model {
            0xF => destination & u32::from(self.logical_id) != 0,
            0 => {
                let cluster = destination >> 4;
                (cluster == u32::from(self.logical_id >> 4) || cluster == 0xF)
                    && destination & u32::from(self.logical_id) & 0xF != 0
            }
            _ => false,
        }
    }

    /// Takes a message that is meant for this APIC. While software has it disabled, it takes INIT, NMI, SMI
    /// and start-up only.
    pub fn accept(&mut self, message: &InterruptMessage) -> Option<Signal> {
        match message.mode {
            DeliveryMode::Nmi => return Some(Signal::Nmi),
            DeliveryMode::Init => return Some(Signal::Init),
            DeliveryMode::StartUp => return Some(Signal::StartUp(message.vector)),
            DeliveryMode::Smi => return Some(Signal::Smi),
            DeliveryMode::Fixed | DeliveryMode::LowestPriority if self.is_enabled() => {
                self.request(message.vector, message.level);
            }
            DeliveryMode::ExtInt if self.is_enabled() => self.extint = true,
            _ => {}
        }
        None
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < 16 {
            self.error(ESR_RECEIVED_ILLEGAL_VECTOR);
            return;
        }
        self.irr.set(vector);
        if level {
            self.tmr.set(vector);
        } else {
            self.tmr.clear(vector);
        }
    }

    /// Notes the level of LINT`pin` (0, 1) and tells whether it has risen. The pins are the processor's INTR
    /// and NMI while the APIC is globally disabled.
    pub fn set_pin(&mut self, pin: usize, level: bool) -> bool {
        let rose = self.has_risen(pin, level);
        self.pins[pin & 1] = level;
        rose
    }

    /// Whether LINT`pin`, now at `level`, has risen since it was last noted.
    pub fn has_risen(&self, pin: usize, level: bool) -> bool {
        level && !self.pins[pin & 1]
    }

    /// LINT`pin` has risen: does what its LVT entry says. ExtINT is not an edge: see
    /// [`passes_extint`](Self::passes_extint).
    pub fn pin_rose(&mut self, pin: usize) -> Option<Signal> {
        let entry = self.lvt[LINT0 + (pin & 1)];
        if entry & LVT_MASKED != 0 {
            return None;
        }
        match DeliveryMode::from_bits((entry >> 8) as u8) {
            Some(DeliveryMode::Fixed) => {
                self.request(entry as u8, false);
                None
            }
            Some(DeliveryMode::Smi) => Some(Signal::Smi),
            Some(DeliveryMode::Nmi) => Some(Signal::Nmi),
            Some(DeliveryMode::Init) => Some(Signal::Init),
            _ => None,
        }
    }

    /// Whether the 8259A's INTR reaches the processor through LINT0.
    #[inline]
    pub fn passes_extint(&self) -> bool {
        self.lvt[LINT0] & (LVT_MASKED | 0x700) == LVT_EXTINT
    }

    /// Whether a message asked for the 8259A's vector.
    #[inline]
    pub fn wants_extint(&self) -> bool {
        self.extint
    }

    /// The 8259A's vector is being taken.
    pub fn take_extint(&mut self) {
        self.extint = false;
    }

    // ---- priority ------------------------------------------------------------------------------

    /// PPR: the higher class of the task and of the vector in service (§11.8.3.1).
    pub fn processor_priority(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0) & 0xF0;
        if self.tpr & 0xF0 >= in_service {
            self.tpr
        } else {
            in_service
        }
    }

    fn arbitration_priority(&self) -> u8 {
        let class = |vectors: &Vectors| vectors.highest().unwrap_or(0) & 0xF0;
        let (requested, in_service) = (class(&self.irr), class(&self.isr));
        if self.tpr & 0xF0 >= requested && self.tpr & 0xF0 > in_service {
            self.tpr
        } else {
            requested.max(in_service).max(self.tpr & 0xF0)
        }
    }

    /// The vector that waits and may interrupt now.
    #[inline]
    pub fn deliverable(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (vector & 0xF0 > self.processor_priority() & 0xF0).then_some(vector)
    }

    /// The processor takes an interrupt: from the IRR to the ISR. When none may interrupt any more, the
    /// spurious vector, which is not in service (§11.9).
    pub fn acknowledge(&mut self, now: Now) -> u8 {
        self.advance(now);
        let Some(vector) = self.deliverable() else {
            return self.svr as u8;
        };
        self.irr.clear(vector);
        self.isr.set(vector);
        vector
    }

    fn end_of_interrupt(&mut self) -> Effect {
        let Some(vector) = self.isr.highest() else {
            return Effect::None;
        };
        self.isr.clear(vector);
        if self.tmr.has(vector) {
            Effect::EndOfInterrupt(vector)
        } else {
            Effect::None
        }
    }

    // ---- timer ---------------------------------------------------------------------------------

    fn timer_mode(&self) -> TimerMode {
        match self.lvt[TIMER] >> 17 & 3 {
            0 => TimerMode::OneShot,
            1 => TimerMode::Periodic,
            _ => TimerMode::TscDeadline,
        }
    }

    /// Nanoseconds a count.
    fn divisor(&self) -> u64 {
        match (self.divide & 3) | self.divide >> 1 & 4 {
            7 => 1,
            code => 2 << code,
        }
    }

    fn count_from(&mut self, count: u32, now: Now) {
        let length_ns = u64::from(count) * self.divisor();
        self.zero_at_ns = (count != 0).then(|| now.ns.saturating_add(length_ns));
    }

    fn current_count(&self, now: Now) -> u32 {
        let left_ns = self.zero_at_ns.map_or(0, |at| at.saturating_sub(now.ns));
        left_ns.div_ceil(self.divisor()) as u32
    }

    /// IA32_TSC_DEADLINE.
    pub fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// Writes IA32_TSC_DEADLINE, which counts only in the mode of that name.
    pub fn set_tsc_deadline(&mut self, deadline: u64, now: Now) {
        self.advance(now);
        if self.timer_mode() == TimerMode::TscDeadline {
            self.tsc_deadline = deadline;
        }
    }

    /// When the timer next changes anything that the processor could see without looking at a count.
    pub fn deadline_ns(&self, now: Now) -> Option<u64> {
        let entry = self.lvt[TIMER];
        if entry & LVT_MASKED != 0 || self.irr.has(entry as u8) {
            return None;
        }
        match self.tsc_deadline {
            0 => self.zero_at_ns,
            deadline => Some(now.ns.saturating_add(deadline.saturating_sub(now.tsc))),
        }
    }

    /// Fires the timer if [`deadline_ns`](Self::deadline_ns) has come; changes nothing otherwise, so that it
    /// makes no difference how often this is called.
    pub fn fire_if_due(&mut self, now: Now) {
        if self.deadline_ns(now).is_some_and(|at| at <= now.ns) {
            self.advance(now);
        }
    }

    /// Brings the timer up to `now`.
    fn advance(&mut self, now: Now) {
        let mut fired = false;
        if let Some(zero_at_ns) = self.zero_at_ns
            && zero_at_ns <= now.ns
        {
            fired = true;
            let period_ns = u64::from(self.initial_count) * self.divisor();
            self.zero_at_ns =
                (self.timer_mode() == TimerMode::Periodic && period_ns != 0).then(|| {
                    // Periods that nobody looked at fall together, as their requests do in the IRR.
                    let periods = (now.ns - zero_at_ns) / period_ns + 1;
                    zero_at_ns.saturating_add(periods.saturating_mul(period_ns))
                });
        }
        if self.tsc_deadline != 0 && self.tsc_deadline <= now.tsc {
            fired = true;
            self.tsc_deadline = 0;
        }
        let entry = self.lvt[TIMER];
        if fired && entry & LVT_MASKED == 0 {
            self.request(entry as u8, false);
        }
    }
}

/// Index of a word of ISR, TMR or IRR, which lie at multiples of 80h.
fn word(offset: u16) -> usize {
    usize::from(offset >> 4 & 7)
}

fn is_vectored(mode: DeliveryMode) -> bool {
    matches!(mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority)
}
