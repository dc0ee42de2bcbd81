//! Segment loads and far transfers.

use x86::cpu::{Reg, SegmentRegister};

use crate::harness::{CODE, GDT, HANDLERS, INNER_STACK, Machine, STACK, call, jmp, sel};

const GP: u64 = 13;
const NP: u64 = 11;
const TS: u64 = 10;
const SS: u64 = 12;

#[test]
fn far_jump_loads_cs_and_marks_the_descriptor_accessed() {
    let mut m = Machine::new(&jmp(sel::CONFORMING, 0x1100));
    m.poke8(0x1100, 0xF4);
    m.run();
    assert_eq!(m.ip(), 0x1101);
    assert_eq!(m.selector(SegmentRegister::CS), sel::CONFORMING);
    assert_eq!(m.peek8(GDT + u64::from(sel::CONFORMING) + 5), 0x9F);
}

#[test]
fn far_jump_checks_its_descriptor_in_order() {
    for (selector, vector, error) in [
        (0, GP, 0),
        (3, GP, 0),
        (sel::BEYOND, GP, sel::BEYOND),
        (sel::DATA0, GP, sel::DATA0),
        (sel::CODE3, GP, sel::CODE3 & !3),
        (sel::TSS_A, GP, sel::TSS_A),
        (sel::LDT, GP, sel::LDT),
    ] {
        let mut m = Machine::new(&jmp(selector, 0x1100));
        m.expect_fault(vector, Some(error.into()));
        assert_eq!(m.stack(1), CODE as u32, "{selector:x}");
    }
    let mut m = Machine::new(&jmp(sel::CODE0, 0x1100));
    m.poke8(GDT + 8 + 5, 0x1A);
    // The handlers need their code segment.
    m.poke64(GDT + u64::from(sel::CONFORMING), 0x00CF_1A00_0000_FFFF);
    m.poke8(GDT + 8 + 5, 0x9A);
    m.poke8(CODE + 5, sel::CONFORMING as u8);
    m.expect_fault(NP, Some(sel::CONFORMING.into()));
}

#[test]
fn segment_loads_check_type_privilege_and_presence() {
    // mov ds, ax
    for (selector, user, vector, error) in [
        (sel::BEYOND, false, GP, sel::BEYOND),
        (sel::TSS_A, false, GP, sel::TSS_A),
        (sel::DATA0, true, GP, sel::DATA0),
        (sel::DATA0 | 3, false, GP, sel::DATA0),
        (sel::ABSENT, false, NP, sel::ABSENT),
    ] {
        let code = [0x8E, 0xD8];
        let mut m = if user {
            Machine::user(&code)
        } else {
            Machine::new(&code)
        };
        m.v.cpu.regs[Reg::RAX] = selector.into();
        m.expect_fault(vector, Some(error.into()));
    }
    // mov ss, ax
    for (selector, vector, error) in [
        (0, GP, 0),
        (sel::DATA3, GP, sel::DATA3 & !3),
        (sel::CODE0, GP, sel::CODE0),
        (sel::ABSENT, SS, sel::ABSENT),
    ] {
        let mut m = Machine::new(&[0x8E, 0xD0]);
        m.v.cpu.regs[Reg::RAX] = selector.into();
        m.expect_fault(vector, Some(error.into()));
    }
}

#[test]
fn a_null_data_segment_loads_and_faults_when_used() {
    // mov ds, ax; mov al, [0]
    let mut m = Machine::new(&[0x8E, 0xD8, 0xA0, 0, 0, 0, 0]);
    m.v.cpu.regs[Reg::RAX] = 0;
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), CODE as u32 + 2);
}

#[test]
fn a_segment_from_the_ldt_loads() {
    // mov ds, ax; hlt
    let mut m = Machine::new(&[0x8E, 0xD8, 0xF4]);
    m.v.cpu.regs[Reg::RAX] = 0x0F;
    m.run();
    assert_eq!(m.selector(SegmentRegister::DS), 0x0F);
    assert!(m.v.cpu.segs[SegmentRegister::DS].is_flat(false));
}

#[test]
fn push_of_a_segment_writes_16_bits_of_its_slot() {
    // push ds; hlt
    let mut m = Machine::new(&[0x1E, 0xF4]);
    m.poke32(STACK - 4, 0xAAAA_BBBB);
    m.run();
    assert_eq!(m.stack(0), 0xAAAA_0000 | u32::from(sel::DATA0));
}

#[test]
fn call_gate_switches_stacks_and_copies_parameters() {
    // push 11h; push 22h; call gate
    let mut code = vec![0x6A, 0x11, 0x6A, 0x22];
    code.extend(call(sel::CALL_GATE | 3, 0));
    let mut m = Machine::user(&code);
    m.run();
    assert_eq!(m.ip(), HANDLERS + 0x801);
    assert_eq!(m.v.cpu.cpl, 0);
    assert_eq!(m.v.cpu.regs[Reg::RSP], INNER_STACK - 24);
    let frame: Vec<u32> = (0..6).map(|n| m.stack(n)).collect();
    let expected = [
        CODE as u32 + 11,
        sel::CODE3.into(),
        0x22,
        0x11,
        STACK as u32 - 8,
        sel::DATA3.into(),
    ];
    assert_eq!(frame, expected);
}

#[test]
fn call_gate_checks_the_inner_stack() {
    for (ss, vector, error) in [
        (0, TS, 0),
        (sel::DATA3, TS, sel::DATA3 & !3),
        (sel::BEYOND, TS, sel::BEYOND),
        (sel::ABSENT, SS, sel::ABSENT),
    ] {
        let mut m = Machine::user(&call(sel::CALL_GATE | 3, 0));
        m.poke32(crate::harness::TSS_A + 8, ss.into());
        // The handler runs on the same bad stack, so it goes through a conforming segment.
        let at = crate::harness::IDT + 8 * vector;
        let target = HANDLERS + 16 * vector;
        m.poke64(at, crate::harness::gate(sel::CONFORMING, target, 0x8E, 0));
        // HLT needs CPL 0: a jump to itself instead.
        m.poke8(target, 0xEB);
        m.poke8(target + 1, 0xFE);
        m.v.run(20);
        assert_eq!(m.ip(), target, "{ss:x}");
        assert_eq!(m.stack(0), error.into());
        assert_eq!(m.stack(1), CODE as u32);
        assert_eq!(m.v.cpu.cpl, 3);
    }
}

#[test]
fn call_gate_that_does_not_fit_the_inner_stack_raises_ss_with_its_selector() {
    let mut m = Machine::user(&call(sel::CALL_GATE | 3, 0));
    m.poke32(crate::harness::TSS_A + 8, sel::SMALL.into());
    m.poke32(crate::harness::TSS_A + 4, 8);
    let target = HANDLERS + 16 * SS;
    let at = crate::harness::IDT + 8 * SS;
    m.poke64(at, crate::harness::gate(sel::CONFORMING, target, 0x8E, 0));
    m.poke8(target, 0xEB);
    m.poke8(target + 1, 0xFE);
    m.v.run(20);
    assert_eq!(m.ip(), target);
    assert_eq!(m.stack(0), sel::SMALL.into());
}

#[test]
fn far_return_to_an_outer_level_takes_its_stack_and_drops_inner_segments() {
    // retf 8
    let mut m = Machine::new(&[0xCA, 8, 0]);
    for (n, value) in [0x1100, sel::CODE3.into(), 1, 2, 0x7800, sel::DATA3.into()]
        .into_iter()
        .enumerate()
    {
        m.poke32(STACK + 4 * n as u64, value);
    }
    // At 1100h: int 20h, whose gate is for CPL 0 only.
    m.poke8(0x1100, 0xCD);
    m.poke8(0x1101, 0x20);
    m.expect_fault(GP, Some(0x20 * 8 + 2));
    assert_eq!(m.stack(2), sel::CODE3.into());
    assert_eq!(m.stack(4), 0x7808);
    assert_eq!(m.stack(5), sel::DATA3.into());
    assert_eq!(m.selector(SegmentRegister::DS), 0);
    assert!(!m.v.cpu.segs[SegmentRegister::DS].present());
}

#[test]
fn far_return_faults_before_it_changes_anything() {
    for (selector, ss, vector, error) in [
        (0, 0, GP, 0),
        (sel::DATA0, 0, GP, sel::DATA0),
        (sel::CODE3 & !3, 0, GP, sel::CODE3 & !3),
        (sel::CODE3, 0, GP, 0),
        (sel::CODE3, sel::DATA0, GP, sel::DATA0),
    ] {
        let mut m = Machine::new(&[0xCB]);
        m.poke32(STACK, 0x1100);
        m.poke32(STACK + 4, selector.into());
        m.poke32(STACK + 8, 0x7800);
        m.poke32(STACK + 12, ss.into());
        m.expect_fault(vector, Some(error.into()));
        assert_eq!(m.stack(1), CODE as u32);
        assert_eq!(m.v.cpu.regs[Reg::RSP], STACK - 16);
        assert_eq!(m.selector(SegmentRegister::DS), sel::DATA0);
    }
}

#[test]
fn lar_lsl_and_verr_see_what_privilege_allows() {
    // lar ecx, ax; lsl edx, ax; verr ax; setz bl; hlt
    let code = [
        0x0F, 0x02, 0xC8, 0x0F, 0x03, 0xD0, 0x0F, 0x00, 0xE0, 0x0F, 0x94, 0xC3, 0xF4,
    ];
    let mut m = Machine::new(&code);
    m.v.cpu.regs[Reg::RAX] = sel::DATA3.into();
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RCX], 0x00CF_F200);
    assert_eq!(m.v.cpu.regs[Reg::RDX], 0xFFFF_FFFF);
    assert_eq!(m.v.cpu.regs[Reg::RBX], 1);
    let mut m = Machine::new(&code);
    m.v.cpu.regs[Reg::RAX] = u64::from(sel::DATA0 | 3);
    m.v.cpu.regs[Reg::RCX] = 5;
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RCX], 5);
    assert_eq!(m.v.cpu.regs[Reg::RBX], 0);
}

#[test]
fn enter_tries_a_write_of_its_width_at_the_new_top_of_the_stack() {
    // enter size, 0; hlt, on a stack of 64 KiB whose pointer wraps: SDM vol. 2A, ENTER
    for (top, vector) in [(0xFFFCu16, None), (0xFFFD, Some(SS)), (0xFFFF, Some(SS))] {
        let size = (STACK as u16 - 4).wrapping_sub(top).to_le_bytes();
        let mut m = Machine::new(&[0xC8, size[0], size[1], 0, 0xF4]);
        m.set_seg(SegmentRegister::SS, sel::DATA0, 0, 0xFFFF, 0x0093);
        m.v.update_mode();
        m.run();
        assert_eq!(m.vector(), vector, "{top:x}");
    }
}
