use platform::testkit::Rng;

use super::register::*;
use super::*;

fn at(ns: u64) -> Now {
    Now { ns, tsc: ns }
}

/// Enabled by software, at time 0.
fn apic() -> LocalApic {
    let mut apic = LocalApic::new(0, true);
    apic.write(SVR, 0x1FF, at(0));
    apic
}

fn message(mode: DeliveryMode, vector: u8, level: bool) -> InterruptMessage {
    InterruptMessage {
        destination: 0,
        logical: false,
        mode,
        vector,
        level,
    }
}

fn request(apic: &mut LocalApic, vector: u8) {
    apic.accept(&message(DeliveryMode::Fixed, vector, false));
}

#[test]
fn out_of_reset_it_is_disabled_and_lets_the_8259a_through() {
    let mut apic = LocalApic::new(3, true);
    assert_eq!(apic.read(ID, at(0)), 0x0300_0000);
    assert_eq!(apic.read(self::register::VERSION, at(0)), 0x0005_0014);
    assert_eq!(apic.read(SVR, at(0)), 0xFF);
    assert_eq!(apic.read(DFR, at(0)), 0xFFFF_FFFF);
    assert_eq!(apic.read(LVT_TIMER, at(0)), 0x1_0000);
    assert!(apic.passes_extint());
    assert!(!LocalApic::new(1, false).passes_extint());
    request(&mut apic, 0x40);
    assert_eq!(apic.deliverable(), None, "disabled");
}

#[test]
fn software_disable_masks_the_vector_table() {
    let mut apic = apic();
    apic.write(LVT_TIMER, 0x40, at(0));
    apic.write(SVR, 0xFF, at(0));
    assert_eq!(apic.read(LVT_TIMER, at(0)), 0x1_0040);
    assert!(!apic.passes_extint());
    apic.write(LVT_TIMER, 0x41, at(0));
    assert_eq!(apic.read(LVT_TIMER, at(0)), 0x1_0041);
}

#[test]
fn a_one_shot_fires_once_at_its_time() {
    let mut apic = apic();
    apic.write(LVT_TIMER, 0x40, at(0));
    apic.write(DIVIDE, 0b0011, at(0));
    apic.write(INITIAL_COUNT, 1000, at(100));
    assert_eq!(apic.deadline_ns(at(100)), Some(16_100));
    assert_eq!(apic.read(CURRENT_COUNT, at(100)), 1000);
    assert_eq!(apic.read(CURRENT_COUNT, at(116)), 999);
    assert_eq!(apic.read(CURRENT_COUNT, at(117)), 999);
    apic.fire_if_due(at(16_099));
    assert_eq!(apic.deliverable(), None);
    apic.fire_if_due(at(16_100));
    assert_eq!(apic.deliverable(), Some(0x40));
    assert_eq!(apic.acknowledge(at(16_100)), 0x40);
    assert_eq!(apic.deadline_ns(at(16_100)), None);
    assert_eq!(apic.read(CURRENT_COUNT, at(20_000)), 0);
    assert_eq!(apic.read(INITIAL_COUNT, at(20_000)), 1000);
}

#[test]
fn a_periodic_timer_keeps_its_phase() {
    let mut apic = apic();
    apic.write(LVT_TIMER, 0x2_0040, at(0));
    apic.write(DIVIDE, 0b1011, at(0));
    apic.write(INITIAL_COUNT, 1000, at(0));
    for period in 1..=5 {
        let due = period * 1000;
        assert_eq!(apic.deadline_ns(at(due - 1)), Some(due));
        // A little late each time.
        apic.fire_if_due(at(due + 7));
        assert_eq!(apic.acknowledge(at(due + 7)), 0x40);
        apic.write(EOI, 0, at(due + 8));
        assert_eq!(apic.read(CURRENT_COUNT, at(due + 8)), 992);
    }
}

#[test]
fn periods_nobody_looked_at_fall_together() {
    let mut apic = apic();
    apic.write(LVT_TIMER, 0x2_0040, at(0));
    apic.write(DIVIDE, 0b1011, at(0));
    apic.write(INITIAL_COUNT, 10, at(0));
    apic.fire_if_due(at(10));
    assert_eq!(
        apic.deadline_ns(at(10)),
        None,
        "the request waits already: another changes nothing"
    );
    assert_eq!(apic.acknowledge(at(55)), 0x40);
    assert_eq!(apic.deadline_ns(at(55)), Some(60));
}

#[test]
fn a_masked_timer_counts_but_does_not_interrupt() {
    let mut apic = apic();
    apic.write(DIVIDE, 0b1011, at(0));
    apic.write(INITIAL_COUNT, 100, at(0));
    assert_eq!(apic.deadline_ns(at(0)), None);
    assert_eq!(apic.read(CURRENT_COUNT, at(40)), 60);
    apic.write(LVT_TIMER, 0x40, at(150));
    assert_eq!(apic.deliverable(), None, "that time has passed");
}

#[test]
fn a_new_divider_counts_on_from_the_present_count() {
    let mut apic = apic();
    apic.write(DIVIDE, 0b1011, at(0));
    apic.write(LVT_TIMER, 0x40, at(0));
    apic.write(INITIAL_COUNT, 100, at(0));
    apic.write(DIVIDE, 0b0000, at(50));
    assert_eq!(apic.read(CURRENT_COUNT, at(50)), 50);
    assert_eq!(apic.deadline_ns(at(50)), Some(150));
}

#[test]
fn tsc_deadline_fires_when_the_counter_reaches_it() {
    let mut apic = apic();
    let now = |ns| Now { ns, tsc: ns + 5000 };
    apic.set_tsc_deadline(9000, now(0));
    assert_eq!(apic.tsc_deadline(), 0, "not in this mode");
    apic.write(LVT_TIMER, 0x4_0040, now(0));
    apic.write(INITIAL_COUNT, 10, now(0));
    assert_eq!(apic.deadline_ns(now(0)), None, "the count is ignored");
    apic.set_tsc_deadline(9000, now(1000));
    assert_eq!(apic.deadline_ns(now(1000)), Some(4000));
    apic.fire_if_due(now(3999));
    assert_eq!(apic.deliverable(), None);
    apic.fire_if_due(now(4000));
    assert_eq!((apic.deliverable(), apic.tsc_deadline()), (Some(0x40), 0));
    apic.acknowledge(now(4000));
    apic.set_tsc_deadline(10, now(5000));
    apic.fire_if_due(now(5000));
    assert_eq!(apic.deliverable(), None, "0x40 is still in service");
    apic.write(EOI, 0, now(5000));
    assert_eq!(apic.deliverable(), Some(0x40), "the past is due at once");
    apic.acknowledge(now(5000));
    apic.set_tsc_deadline(90_000, now(6000));
    apic.write(LVT_TIMER, 0x40, now(6000));
    assert_eq!(apic.deadline_ns(now(6000)), None, "another mode disarms");
}

#[test]
fn higher_classes_nest_and_eoi_ends_the_highest() {
    let mut apic = apic();
    for vector in [0x41, 0x4F, 0x52] {
        request(&mut apic, vector);
    }
    assert_eq!(apic.acknowledge(at(0)), 0x52);
    assert_eq!(apic.deliverable(), None, "class 4 waits for class 5");
    request(&mut apic, 0x5F);
    assert_eq!(apic.deliverable(), None, "and so does class 5");
    request(&mut apic, 0x61);
    assert_eq!(apic.acknowledge(at(0)), 0x61);
    assert_eq!(apic.read(PPR, at(0)), 0x60);
    apic.write(EOI, 0, at(0));
    assert_eq!(apic.read(PPR, at(0)), 0x50);
    apic.write(EOI, 0, at(0));
    assert_eq!(apic.acknowledge(at(0)), 0x5F);
    apic.write(EOI, 0, at(0));
    assert_eq!(apic.acknowledge(at(0)), 0x4F, "the higher of one class");
    apic.write(EOI, 0, at(0));
    assert_eq!(apic.acknowledge(at(0)), 0x41);
    apic.write(EOI, 0, at(0));
    assert_eq!(apic.write(EOI, 0, at(0)), Effect::None);
    assert_eq!(apic.deliverable(), None);
}

#[test]
fn tpr_holds_back_its_class_and_those_below() {
    let mut apic = apic();
    request(&mut apic, 0x4F);
    apic.write(TPR, 0x40, at(0));
    assert_eq!(apic.deliverable(), None);
    assert_eq!(apic.read(IRR + 0x20, at(0)), 0x8000);
    assert_eq!(apic.read(PPR, at(0)), 0x40);
    apic.write(TPR, 0x3F, at(0));
    assert_eq!(apic.deliverable(), Some(0x4F));
}

#[test]
fn an_interrupt_withdrawn_by_tpr_becomes_the_spurious_vector() {
    let mut apic = apic();
    request(&mut apic, 0x30);
    apic.set_tpr(0xFF);
    assert_eq!(apic.acknowledge(at(0)), 0xFF);
    assert_eq!(apic.read(ISR + 0x70, at(0)), 0, "not in service");
    apic.set_tpr(0);
    assert_eq!(apic.acknowledge(at(0)), 0x30, "still requested");
}

#[test]
fn eoi_of_a_level_is_announced() {
    let mut apic = apic();
    apic.accept(&message(DeliveryMode::Fixed, 0x39, true));
    assert_eq!(apic.read(TMR + 0x10, at(0)), 1 << 0x19);
    apic.acknowledge(at(0));
    let effect = apic.write(EOI, 0, at(0));
    assert_eq!(effect, Effect::EndOfInterrupt(0x39));
    request(&mut apic, 0x39);
    apic.acknowledge(at(0));
    assert_eq!(apic.write(EOI, 0, at(0)), Effect::None, "an edge is not");
}

#[test]
fn destinations_are_physical_flat_or_clustered() {
    let mut apic = LocalApic::new(2, false);
    let to = |destination, logical| InterruptMessage {
        destination,
        logical,
        ..message(DeliveryMode::Fixed, 0x40, false)
    };
    assert!(apic.is_addressed_by(ApicMode::XApic, &to(2, false)));
    assert!(apic.is_addressed_by(ApicMode::XApic, &to(0xFF, false)));
    assert!(!apic.is_addressed_by(ApicMode::XApic, &to(3, false)));
    apic.write(LDR, 0x1200_0000, at(0));
    assert!(apic.is_addressed_by(ApicMode::XApic, &to(0x02, true)));
    assert!(!apic.is_addressed_by(ApicMode::XApic, &to(0x21, true)));
    apic.write(DFR, 0, at(0));
    assert!(apic.is_addressed_by(ApicMode::XApic, &to(0x13, true)));
    assert!(apic.is_addressed_by(ApicMode::XApic, &to(0xF2, true)));
    assert!(!apic.is_addressed_by(ApicMode::XApic, &to(0x22, true)));
    assert!(!apic.is_addressed_by(ApicMode::XApic, &to(0x11, true)));
}

#[test]
fn in_x2apic_mode_destinations_have_32_bits() {
    let mut apic = LocalApic::new(0, false);
    apic.take_initial_id(0x25);
    let to = |destination, logical| {
        let message = InterruptMessage {
            destination,
            logical,
            ..message(DeliveryMode::Fixed, 0x40, false)
        };
        apic.is_addressed_by(ApicMode::X2Apic, &message)
    };
    assert!(to(0x25, false) && to(!0, false) && to(!0, true));
    assert!(!to(0xFF, false) && !to(0x125, false));
    assert!(to(0x2_0020, true) && to(0x2_FFFF, true));
    assert!(!to(0x2_0010, true) && !to(0x1_0020, true));
}

#[test]
fn in_x2apic_mode_registers_are_msrs_and_reserved_bits_are_faults() {
    let mut apic = LocalApic::new(3, true);
    let now = at(0);
    assert_eq!(apic.read_x2apic(ID, now), Some(3));
    assert_eq!(apic.read_x2apic(LDR, now), Some(1 << 3));
    assert_eq!(
        apic.read_x2apic(super::register::VERSION, now),
        Some(0x5_0014)
    );
    for offset in [APR, EOI, RRD, DFR, ICR_HIGH, SELF_IPI, 0x2F0, 0x3A0, 0x400] {
        assert_eq!(apic.read_x2apic(offset, now), None, "read {offset:x}");
    }
    for offset in [
        ID,
        PPR,
        LDR,
        DFR,
        ISR,
        TMR,
        IRR,
        ICR_HIGH,
        CURRENT_COUNT,
        0x2F0,
    ] {
        assert_eq!(apic.write_x2apic(offset, 0, now), None, "write {offset:x}");
    }
    for (offset, value) in [
        (TPR, 0x100),
        (EOI, 1),
        (ESR, 1),
        (SVR, 0x400),
        (ICR_LOW, 0x1000),
        (ICR_LOW, 0x2_0000),
        (LVT_TIMER, 0x100),
        (DIVIDE, 4),
        (SELF_IPI, 0x100),
        (TPR, 1 << 32),
        (INITIAL_COUNT, 1 << 32),
    ] {
        assert_eq!(apic.write_x2apic(offset, value, now), None, "{offset:x}");
    }
    assert_eq!(apic.write_x2apic(SVR, 0x1FF, now), Some(Effect::None));
    assert_eq!(apic.read_x2apic(SVR, now), Some(0x1FF));
    // Delivery status and remote IRR are there to be read.
    assert!(apic.write_x2apic(LVT_LINT0, 0x5_700, now).is_some());
    assert_eq!(apic.read_x2apic(LVT_LINT0, now), Some(0x700));
}

#[test]
fn in_x2apic_mode_the_command_register_is_one() {
    let mut apic = LocalApic::new(0, true);
    apic.write(SVR, 0x1FF, at(0));
    let value = 0x0001_0004_0000_0840;
    let Some(Effect::Send {
        message, to_self, ..
    }) = apic.write_x2apic(ICR_LOW, value, at(0))
    else {
        panic!("nothing is sent");
    };
    assert_eq!((message.destination, message.logical), (0x1_0004, true));
    assert!(to_self);
    assert_eq!(apic.read_x2apic(ICR_LOW, at(0)), Some(value));
    let Some(Effect::Send {
        message,
        to_self,
        to_others,
    }) = apic.write_x2apic(SELF_IPI, 0x51, at(0))
    else {
        panic!("nothing is sent");
    };
    assert_eq!((message.vector, message.mode), (0x51, DeliveryMode::Fixed));
    assert!(to_self && !to_others);
    assert_eq!(apic.read_x2apic(ICR_LOW, at(0)), Some(value), "not by this");
    assert_eq!(apic.write_x2apic(SELF_IPI, 5, at(0)), Some(Effect::None));
    apic.write_x2apic(ESR, 0, at(0));
    assert_eq!(apic.read_x2apic(ESR, at(0)), Some(0x20));
}

#[test]
fn the_command_register_sends_by_destination_and_shorthand() {
    let mut apic = apic();
    apic.write(ICR_HIGH, 0x0500_0000, at(0));
    let effect = apic.write(ICR_LOW, 0x0000_4840, at(0));
    let expected = InterruptMessage {
        destination: 5,
        logical: true,
        mode: DeliveryMode::Fixed,
        vector: 0x40,
        level: false,
    };
    assert_eq!(
        effect,
        Effect::Send {
            message: expected,
            to_self: true,
            to_others: true
        }
    );
    for (low, wanted) in [
        (0x4_0040, (true, false)),
        (0x8_0040, (true, true)),
        (0xC_0040, (false, true)),
    ] {
        let Effect::Send {
            message,
            to_self,
            to_others,
        } = apic.write(ICR_LOW, low, at(0))
        else {
            panic!("nothing is sent for {low:x}");
        };
        assert_eq!((to_self, to_others), wanted);
        assert_eq!((message.destination, message.logical), (!0, false));
    }
    assert_eq!(apic.write(ICR_LOW, 0x0000_8500, at(0)), Effect::None);
}

#[test]
fn errors_show_once_the_register_is_written() {
    let mut apic = apic();
    apic.write(LVT_ERROR, 0xFE, at(0));
    assert_eq!(apic.write(ICR_LOW, 0x4_000F, at(0)), Effect::None);
    assert_eq!(apic.deliverable(), Some(0xFE));
    request(&mut apic, 0x0F);
    apic.read(0x3F0, at(0));
    assert_eq!(apic.read(ESR, at(0)), 0);
    apic.write(ESR, 0, at(0));
    assert_eq!(apic.read(ESR, at(0)), 0xE0);
    apic.write(ESR, 0, at(0));
    assert_eq!(apic.read(ESR, at(0)), 0);
}

#[test]
fn pins_do_what_their_entries_say() {
    let mut apic = apic();
    assert!(apic.set_pin(1, true));
    assert!(!apic.set_pin(1, true));
    assert_eq!(apic.pin_rose(1), Some(Signal::Nmi));
    apic.write(LVT_LINT1, 0x1_0400, at(0));
    assert_eq!(apic.pin_rose(1), None);
    assert_eq!(apic.pin_rose(0), None, "ExtINT is no edge");
    apic.write(LVT_LINT0, 0x31, at(0));
    assert!(!apic.passes_extint());
    assert_eq!(apic.pin_rose(0), None);
    assert_eq!(apic.deliverable(), Some(0x31));
}

#[test]
fn nmi_init_and_start_up_reach_a_disabled_apic() {
    let mut apic = LocalApic::new(0, true);
    let mut signal = |mode| apic.accept(&message(mode, 0x12, false));
    assert_eq!(signal(DeliveryMode::Nmi), Some(Signal::Nmi));
    assert_eq!(signal(DeliveryMode::Init), Some(Signal::Init));
    assert_eq!(signal(DeliveryMode::StartUp), Some(Signal::StartUp(0x12)));
    assert_eq!(signal(DeliveryMode::Smi), Some(Signal::Smi));
    assert_eq!(signal(DeliveryMode::ExtInt), None);
    assert!(!apic.wants_extint());
}

#[test]
fn no_register_value_or_time_panics() {
    let mut rng = Rng::new(0x5EED_0300);
    let mut apic = LocalApic::new(0, true);
    let mut ns = 0u64;
    for round in 0..200_000 {
        let offset = (rng.below(0x100) * 16) as u16;
        let value = (rng.next_u64() >> rng.below(64)) as u32;
        let now = Now {
            ns,
            tsc: ns.wrapping_add(rng.next_u64() >> rng.below(64)),
        };
        match rng.below(8) {
            0..3 => {
                apic.write(offset, value, now);
            }
            3 => {
                apic.write(SVR, value | 0x100, now);
            }
            4 => {
                apic.read(offset, now);
            }
            5 => {
                apic.fire_if_due(now);
                apic.acknowledge(now);
            }
            6 => apic.set_tsc_deadline(rng.next_u64() >> rng.below(64), now),
            _ => {
                let mode = DeliveryMode::from_bits(value as u8).unwrap_or(DeliveryMode::Fixed);
                apic.accept(&message(mode, (value >> 8) as u8, value >> 16 & 1 != 0));
            }
        }
        ns = match round % 50_000 {
            49_999 => u64::MAX - rng.below(1 << 40),
            25_000 => 0,
            _ => ns.saturating_add(rng.next_u64() >> rng.below(64) >> 16),
        };
    }
}
