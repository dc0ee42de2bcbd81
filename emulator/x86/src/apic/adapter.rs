//! The local APIC's place in the processor: its page, its pins, its messages, its timer.

use platform::{DeliveryMode, InterruptMessage, IrqLine};

use super::{ApicMode, Effect, LocalApic, Now, Signal};
use crate::cpu::{Cpu, Reg, Segment, SegmentRegister, control};
use crate::cpuid::Feature;
use crate::flags::bits;
use crate::vcpu::{Vcpu, attention};

/// Bits of IA32_APIC_BASE.
pub(crate) mod base {
    /// This is the bootstrap processor.
    pub const BSP: u64 = 1 << 8;
    /// x2APIC mode.
    pub const EXTD: u64 = 1 << 10;
    /// Global enable.
    pub const ENABLE: u64 = 1 << 11;
}

const PAGE: u64 = 0xFFF;

/// The offset that the register behind an MSR has in the page.
fn register_of(msr: u32) -> u16 {
    ((msr & 0xFF) << 4) as u16
}

impl Vcpu {
    /// Makes this processor number `number` of its machine, which is its APIC ID and its place at
    /// `Bus::messages`. Number 0 is the bootstrap processor; the others wait for a start-up message.
    pub fn set_number(&mut self, number: u8) {
        self.number = number;
        self.reset();
    }

    /// The virtual time at which the local APIC's timer fires next. A machine whose processors are all
    /// halted goes on at the earliest of these and of the bus's timers.
    pub fn next_apic_deadline_ns(&self, now_ns: u64) -> Option<u64> {
        if !self.has_apic() {
            return None;
        }
        self.cpu.apic.deadline_ns(self.now(now_ns))
    }

    /// The APIC, the state after a reset of processor `number`.
    pub(crate) fn reset_apic(cpu: &mut Cpu, number: u8) {
        let bootstrap = number == 0;
        cpu.apic = LocalApic::new(number, bootstrap);
        if !bootstrap {
            cpu.msr.apic_base &= !base::BSP;
            cpu.wait_for_startup = true;
        }
    }

    /// Whether there is a local APIC between the processor and its pins.
    #[inline]
    fn has_apic(&self) -> bool {
        self.model.has(Feature::Apic) && self.cpu.msr.apic_base & base::ENABLE != 0
    }

    /// Whether the APIC is in x2APIC mode.
    #[inline]
    fn is_x2apic(&self) -> bool {
        self.cpu.msr.apic_base & base::EXTD != 0
    }

    fn now(&self, ns: u64) -> Now {
        Now {
            ns,
            tsc: ns.wrapping_add(self.cpu.msr.tsc_offset),
        }
    }

    fn now_at(&mut self, number: u16) -> Now {
        self.look_at_devices();
        let ns = self.bus_at(number).clock.now_ns();
        self.now(ns)
    }

    // ---- registers -----------------------------------------------------------------------------

    /// Whether physical address `phys`, where there is no memory, is one of the local APIC's.
    pub(crate) fn is_apic_address(&self, phys: u64) -> bool {
        self.has_apic() && (phys ^ self.cpu.msr.apic_base) & !PAGE == 0 && !self.is_x2apic()
    }

    /// Reads from the APIC's page. Each register is the first four of its sixteen bytes.
    pub(crate) fn load_apic(&mut self, number: u16, phys: u64, size: u8) -> u64 {
        let now = self.now_at(number);
        let within = phys & 15;
        if within >= 4 {
            return 0;
        }
        let value = self.cpu.apic.read((phys & PAGE & !15) as u16, now);
        u64::from(value) >> (within * 8) & (!0 >> (64 - u32::from(size) * 8))
    }

    /// Writes to the APIC's page: only whole registers can be written (§11.4.1).
    pub(crate) fn store_apic(&mut self, number: u16, phys: u64, size: u8, value: u64) {
        let now = self.now_at(number);
        if size != 4 || phys & 15 != 0 {
            log::debug!(target: "apic", "write of {size} bytes at {phys:x} ignored");
            return;
        }
        log::trace!(target: "apic", "{:03x} = {value:08x}", phys & PAGE);
        let effect = self.cpu.apic.write((phys & PAGE) as u16, value as u32, now);
        self.act(number, effect);
    }

    /// Reads register `msr` (800h to 8FFh) of an APIC in x2APIC mode; `None` where that is #GP(0).
    pub(crate) fn read_x2apic(&mut self, number: u16, msr: u32) -> Option<u64> {
        if !self.has_apic() || !self.is_x2apic() {
            return None;
        }
        let now = self.now_at(number);
        self.cpu.apic.read_x2apic(register_of(msr), now)
    }

    /// Writes it, likewise.
    pub(crate) fn write_x2apic(&mut self, number: u16, msr: u32, value: u64) -> Option<()> {
        if !self.has_apic() || !self.is_x2apic() {
            return None;
        }
        let now = self.now_at(number);
        log::trace!(target: "apic", "MSR {msr:03x} = {value:x}");
        let effect = self.cpu.apic.write_x2apic(register_of(msr), value, now)?;
        self.act(number, effect);
        Some(())
    }

    /// Does what a write to a register asked for, and looks at the timer.
    fn act(&mut self, number: u16, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::EndOfInterrupt(vector) => self.bus().end_of_interrupt(vector),
            Effect::Send {
                message,
                to_self,
                to_others,
            } => self.send_message(message, to_self, to_others),
        }
        // No other device of the bus arms a timer at a store, and port I/O ends its block.
        self.look_at_timers();
        self.cut_block_at_slice_end(number);
    }

    fn send_message(&mut self, message: InterruptMessage, to_self: bool, to_others: bool) {
        let from = self.number;
        let mode = self.mode();
        if to_self && self.cpu.apic.is_addressed_by(mode, &message) {
            if message.mode == DeliveryMode::Init {
                // Not in the middle of an instruction: it comes back with the other messages.
                self.bus().messages.send(message);
                return;
            }
            let signal = self.cpu.apic.accept(&message);
            self.heed(signal);
            if message.mode == DeliveryMode::LowestPriority {
                return;
            }
        }
        if to_others {
            self.bus().messages.send_from(from, message);
            // Whoever sends waits for what the others do about it.
            self.give_up_turn();
        }
    }

    /// How the APIC understands destinations.
    fn mode(&self) -> ApicMode {
        if self.is_x2apic() {
            ApicMode::X2Apic
        } else {
            ApicMode::XApic
        }
    }

    /// Whether IA32_APIC_BASE may change from `before` to `after` (SDM vol. 3A §11.12.5): x2APIC mode is entered from
    /// the xAPIC's and left by switching the APIC off.
    pub(crate) fn is_legal_apic_base(before: u64, after: u64) -> bool {
        let state = |value: u64| (value & base::ENABLE != 0, value & base::EXTD != 0);
        match (state(before), state(after)) {
            (_, (false, true)) => false,
            ((false, _), (true, extended)) => !extended,
            ((true, true), (true, false)) => false,
            _ => true,
        }
    }

    /// IA32_APIC_BASE has been written.
    pub(crate) fn apic_base_changed(&mut self, before: u64) {
        let after = self.cpu.msr.apic_base;
        if before & !after & base::ENABLE != 0 {
            self.cpu.apic.reset(before & base::BSP != 0);
        }
        if (before ^ after) & base::EXTD != 0 {
            self.cpu.apic.take_initial_id(self.number);
        }
    }

    /// Writes IA32_TSC_DEADLINE.
    pub(crate) fn write_tsc_deadline(&mut self, number: u16, deadline: u64) {
        let now = self.now_at(number);
        self.cpu.apic.set_tsc_deadline(deadline, now);
    }

    /// Reads IA32_TSC_DEADLINE: 0 once it has fired.
    pub(crate) fn read_tsc_deadline(&mut self, number: u16) -> u64 {
        let now = self.now_at(number);
        self.cpu.apic.fire_if_due(now);
        self.cpu.apic.tsc_deadline()
    }

    // ---- interrupts ----------------------------------------------------------------------------

    /// Fires the timer if it is due, and ends the slice at the next deadline of a timer, of devices or of
    /// the APIC.
    pub(crate) fn look_at_timers(&mut self) {
        let now = self.bus().clock.now_ns();
        let now = self.now(now);
        let mut apic_deadline_ns = None;
        if self.has_apic() {
            self.cpu.apic.fire_if_due(now);
            apic_deadline_ns = self.cpu.apic.deadline_ns(now);
        }
        let device_deadline_ns = self.bus().events.next_deadline_ns();
        let timers = apic_deadline_ns.into_iter().chain(device_deadline_ns);
        self.due_ns = timers.min().unwrap_or(u64::MAX).min(self.until_ns);
        self.find_due();
        self.slice_end = self.slice_end.min(self.due);
    }

    /// Takes the messages that have arrived and samples the INTR and NMI pins.
    pub(crate) fn look_at_pins(&mut self) {
        if self.cpu.smm.init_pending && !self.cpu.smm.active {
            self.cpu.smm.init_pending = false;
            self.init();
        }
        let lines = &self.bus().lines;
        let levels = [lines.level(IrqLine::INTR), lines.level(IrqLine::NMI)];
        let rose = [0, 1].map(|pin| self.cpu.apic.set_pin(pin, levels[pin]));
        if !self.has_apic() {
            self.heed(rose[1].then_some(Signal::Nmi));
            return;
        }
        for pin in [0, 1] {
            if rose[pin] {
                let signal = self.cpu.apic.pin_rose(pin);
                self.heed(signal);
            }
        }
        let number = self.number;
        while let Some(message) = self.next_message(number) {
            let signal = self.cpu.apic.accept(&message);
            self.heed(signal);
        }
    }

    fn next_message(&mut self, number: u8) -> Option<InterruptMessage> {
        let mode = self.mode();
        let Self { bus, cpu, .. } = self;
        let bus = bus
            .as_mut()
            .expect("instructions run only while the bus is attached");
        bus.messages
            .receive(number, |message| cpu.apic.is_addressed_by(mode, message))
    }

    fn heed(&mut self, signal: Option<Signal>) {
        match signal {
            None => {}
            Some(Signal::Nmi) => {
                self.cpu.nmi_pending = true;
                self.attention |= attention::INTERRUPT;
            }
            Some(Signal::Smi) => {
                self.cpu.smm.pending = true;
                self.attention |= attention::INTERRUPT;
            }
            // Held back until RSM.
            Some(Signal::Init) if self.cpu.smm.active => self.cpu.smm.init_pending = true,
            Some(Signal::Init) => self.init(),
            Some(Signal::StartUp(page)) if self.cpu.wait_for_startup => {
                self.cpu.wait_for_startup = false;
                let cs = Segment {
                    selector: u16::from(page) << 8,
                    base: u64::from(page) << 12,
                    ..self.cpu.segs[SegmentRegister::CS]
                };
                self.set_segment(SegmentRegister::CS, cs);
                self.cpu.regs[Reg::RIP] = 0;
                self.update_mode();
            }
            Some(Signal::StartUp(_)) => {}
        }
    }

    /// INIT: like RESET, but memory types, x87, vector and opmask registers, PKRU and the model-specific registers
    /// stay (SDM vol. 3A table 10-1). The bootstrap processor goes on at the reset vector, another one waits.
    fn init(&mut self) {
        self.wake();
        let old = std::mem::take(&mut self.cpu);
        self.cpu.regs[Reg::RDX] = u64::from(self.model.signature());
        self.cpu.x87 = old.x87;
        self.cpu.vectors = old.vectors;
        self.cpu.opmask = old.opmask;
        self.cpu.pkru = old.pkru;
        self.cpu.mxcsr = old.mxcsr;
        self.cpu.xcr0 = old.xcr0;
        self.cpu.msr = old.msr;
        let kept = control::CR0_CD | control::CR0_NW;
        self.cpu.cr0 = (self.cpu.cr0 & !kept) | (old.cr0 & kept);
        self.cpu.apic = old.apic;
        self.cpu.smm = old.smm;
        let bootstrap = self.cpu.msr.apic_base & base::BSP != 0;
        self.cpu.apic.reset(bootstrap);
        self.cpu.wait_for_startup = !bootstrap;
        self.tlb.switch_to(0);
        self.flush_tlb();
        self.update_mode();
    }

    /// Whether a maskable interrupt waits, whatever IF says.
    #[inline]
    pub(crate) fn interrupt_waits(&mut self) -> bool {
        let intr = self.bus().intr();
        if !self.has_apic() {
            return intr;
        }
        let apic = &self.cpu.apic;
        apic.deliverable().is_some() || apic.wants_extint() || intr && apic.passes_extint()
    }

    /// Takes the interrupt that waits: the APIC's own, or else the 8259A's. The bus's clock is right.
    pub(crate) fn acknowledge_interrupt(&mut self) -> u8 {
        let now = self.bus().clock.now_ns();
        let now = self.now(now);
        if self.has_apic() {
            if self.cpu.apic.deliverable().is_some() {
                return self.cpu.apic.acknowledge(now);
            }
            self.cpu.apic.take_extint();
        }
        self.bus().acknowledge_interrupt()
    }

    /// A load or store made the APIC do something, which may have made an interrupt deliverable: then the running block
    /// ends behind it, wherever a slice would have ended.
    pub(crate) fn after_apic_access(&mut self, number: u16) {
        if self.attention & attention::YIELD != 0 || self.wants_interruption() {
            self.cut_block(number);
        }
    }

    /// Whether an interrupt or an NMI may have to be taken before the next instruction. An NMI does not ask for
    /// IF, and of a message or an edge nobody knows what it is before it is taken.
    pub(crate) fn wants_interruption(&mut self) -> bool {
        let processor = self.number;
        let lines = &self.bus().lines;
        let levels = [lines.level(IrqLine::INTR), lines.level(IrqLine::NMI)];
        (0..2).any(|pin| self.cpu.apic.has_risen(pin, levels[pin]))
            || self.cpu.nmi_pending && !self.cpu.nmi_blocked
            || self.smi_waits()
            || self.bus().messages.has_for(processor)
            || self.cpu.rflags & bits::IF != 0 && self.interrupt_waits()
    }
}
