//! Hardware task switches.

use x86::cpu::{Reg, SegmentRegister, control};

use crate::harness::{
    CODE, GDT, IDT, Machine, STACK, TSS_16, TSS_A, TSS_B, call, descriptor, gate, jmp, sel,
};

const GP: u64 = 13;
const NP: u64 = 11;
const TS: u64 = 10;
const NT: u64 = 1 << 14;

/// Fills TSS B: code at 1200h, stack at 7800h, everything flat at CPL 0.
fn fill_b(m: &mut Machine) {
    m.poke32(TSS_B + 0x20, 0x1200);
    m.poke32(TSS_B + 0x24, 2);
    for n in 0..8 {
        m.poke32(TSS_B + 0x28 + 4 * n, 0xB0 + n as u32);
    }
    m.poke32(TSS_B + 0x38, 0x7800);
    for (n, selector) in [sel::DATA0, sel::CODE0, sel::DATA0, sel::DATA0, 0, 0]
        .into_iter()
        .enumerate()
    {
        m.poke32(TSS_B + 0x48 + 4 * n as u64, selector.into());
    }
    m.poke32(TSS_B + 0x60, sel::LDT.into());
    m.poke8(0x1200, 0xF4);
}

fn access(m: &mut Machine, selector: u16) -> u8 {
    m.peek8(GDT + u64::from(selector & !7) + 5)
}

#[test]
fn jump_to_a_tss_saves_one_task_and_loads_the_other() {
    let mut m = Machine::new(&jmp(sel::TSS_B, 0));
    fill_b(&mut m);
    m.v.cpu.regs[Reg::RDI] = 0x1234_5678;
    m.run();
    assert_eq!(m.ip(), 0x1201);
    assert_eq!(m.v.cpu.regs[Reg::RAX], 0xB0);
    assert_eq!(m.v.cpu.regs[Reg::RSP], 0x7800);
    assert_eq!(m.peek32(TSS_A + 0x20), CODE as u32 + 7);
    assert_eq!(m.peek32(TSS_A + 0x44), 0x1234_5678);
    assert_eq!(m.peek16(TSS_A + 0x4C), sel::CODE0);
    assert_eq!(access(&mut m, sel::TSS_A), 0x89);
    assert_eq!(access(&mut m, sel::TSS_B), 0x8B);
    assert_eq!(m.selector(SegmentRegister::TR), sel::TSS_B);
    assert_eq!(m.v.cpu.cr0 & control::CR0_TS, control::CR0_TS);
    assert_eq!(m.v.cpu.rflags & NT, 0);
    assert!(!m.v.cpu.segs[SegmentRegister::FS].present());
}

#[test]
fn call_nests_and_iret_returns() {
    // call tss; inc eax; hlt. Task B: iretd.
    let mut code = call(sel::TASK_GATE, 0);
    code.extend([0x40, 0xF4]);
    let mut m = Machine::new(&code);
    fill_b(&mut m);
    m.poke8(0x1200, 0xCF);
    m.v.cpu.regs[Reg::RAX] = 6;
    m.run();
    assert_eq!(m.ip(), CODE + 9);
    assert_eq!(m.v.cpu.regs[Reg::RAX], 7);
    assert_eq!(m.peek16(TSS_B), sel::TSS_A);
    assert_eq!(access(&mut m, sel::TSS_A), 0x8B);
    assert_eq!(access(&mut m, sel::TSS_B), 0x89);
    // NT is cleared in what the task that returned saved.
    assert_eq!(u64::from(m.peek32(TSS_B + 0x24)) & NT, 0);
    assert_eq!(m.v.cpu.rflags & NT, 0);
}

#[test]
fn a_16_bit_tss_holds_words() {
    let mut m = Machine::new(&jmp(sel::TSS_16, 0));
    for (at, value) in [(0x0E, 0x1200), (0x10, 2), (0x12, 0xAAAA), (0x1A, 0x7800)] {
        m.poke32(TSS_16 + at, value);
    }
    for (n, selector) in [sel::DATA0, sel::CODE0, sel::DATA0, sel::DATA0]
        .into_iter()
        .enumerate()
    {
        m.poke32(TSS_16 + 0x22 + 2 * n as u64, selector.into());
    }
    m.poke8(0x1200, 0xF4);
    m.v.cpu.regs[Reg::RAX] = 0x1234_5678;
    m.v.cpu.rflags |= 1 << 18;
    m.run();
    assert_eq!(m.ip(), 0x1201);
    // Upper halves: ones in the general registers, zeros in EIP and EFLAGS; FS and GS are null.
    assert_eq!(m.v.cpu.regs[Reg::RAX], 0xFFFF_AAAA);
    assert_eq!(m.v.cpu.regs[Reg::RSP], 0xFFFF_7800);
    for reg in [Reg::RCX, Reg::RDX, Reg::RBX, Reg::RBP, Reg::RSI, Reg::RDI] {
        assert_eq!(m.v.cpu.regs[reg], 0xFFFF_0000);
    }
    assert_eq!(m.v.cpu.rflags >> 16, 0);
    for seg in [SegmentRegister::FS, SegmentRegister::GS] {
        assert_eq!(m.selector(seg), 0);
        assert!(!m.v.cpu.segs[seg].present());
    }
}

#[test]
fn an_exception_through_a_task_gate_pushes_its_error_code_there() {
    // mov ds, ax with a selector beyond the table
    let mut m = Machine::new(&[0x8E, 0xD8]);
    fill_b(&mut m);
    m.v.cpu.regs[Reg::RAX] = sel::BEYOND.into();
    m.poke64(IDT + 13 * 8, gate(sel::TSS_B, 0, 0x85, 0));
    m.run();
    assert_eq!(m.ip(), 0x1201);
    assert_eq!(m.v.cpu.regs[Reg::RSP], 0x77FC);
    assert_eq!(m.stack(0), sel::BEYOND.into());
    assert_eq!(m.v.cpu.rflags & NT, NT);
    assert_eq!(m.peek32(TSS_A + 0x20), CODE as u32);
    assert_eq!(m.peek32(TSS_A + 0x24), 2 | 1 << 16);
}

#[test]
fn faults_of_the_old_task_change_nothing() {
    for (selector, access_byte, limit, vector, error) in [
        (sel::TSS_B, 0x8B, 0x1FF, GP, sel::TSS_B),
        (sel::TSS_B, 0x09, 0x1FF, NP, sel::TSS_B),
        (sel::TSS_B, 0x89, 0x66, TS, sel::TSS_B),
        (sel::TASK_GATE, 0x8B, 0x1FF, GP, sel::TSS_B),
        (sel::TASK_GATE, 0x09, 0x1FF, NP, sel::TSS_B),
    ] {
        let mut m = Machine::new(&jmp(selector, 0));
        fill_b(&mut m);
        let entry = crate::harness::descriptor(TSS_B, limit, access_byte);
        m.poke64(GDT + u64::from(sel::TSS_B), entry);
        m.expect_fault(vector, Some(error.into()));
        assert_eq!(m.stack(1), CODE as u32);
        assert_eq!(m.selector(SegmentRegister::TR), sel::TSS_A);
        assert_eq!(m.peek32(TSS_A + 0x20), 0);
    }
}

#[test]
fn faults_of_the_new_task_are_raised_in_it() {
    // (offset in the TSS, value, vector, error)
    for (at, value, vector, error) in [
        (0x60, sel::BEYOND, TS, sel::BEYOND),
        (0x54, sel::BEYOND, TS, sel::BEYOND),
        (0x54, sel::ABSENT, NP, sel::ABSENT),
        (0x4C, sel::DATA0, TS, sel::DATA0),
    ] {
        let mut m = Machine::new(&jmp(sel::TSS_B, 0));
        fill_b(&mut m);
        m.poke32(TSS_B + at, value.into());
        // The handler's own task: the new one may have no stack yet.
        m.poke64(IDT + 8 * vector, gate(sel::TSS_16, 0, 0x85, 0));
        for (at, value) in [(0x0E, 0x1300), (0x10, 2), (0x1A, 0x7000)] {
            m.poke32(TSS_16 + at, value);
        }
        // Its stack is one of 64 KiB, as the upper half of ESP is not 0.
        m.poke64(GDT + 0x88, descriptor(0, 0xFFFF, 0x0092));
        for (n, selector) in [sel::DATA0, sel::CODE0, 0x88, sel::DATA0]
            .into_iter()
            .enumerate()
        {
            m.poke32(TSS_16 + 0x22 + 2 * n as u64, selector.into());
        }
        m.poke32(TSS_16 + 0x2A, 0);
        m.poke8(0x1300, 0xF4);
        m.run();
        assert_eq!(m.ip(), 0x1301, "{at:x}");
        let sp = m.v.cpu.regs[Reg::RSP] & 0xFFFF;
        assert_eq!(m.peek16(sp), error, "{at:x}");
        // The fault is the new task's: that is the one that was left, at its first instruction.
        assert_eq!(m.peek16(TSS_16), sel::TSS_B);
        assert_eq!(m.peek32(TSS_B + 0x20), 0x1200);
    }
}

#[test]
fn a_fault_of_a_new_task_finds_its_stack_and_comes_in_the_manuals_order() {
    // (offsets in the TSS and values, vector, error): SDM vol. 3A table 7-1
    for (fields, vector, error) in [
        // The handler is on the new task's stack, though it was the LDT that failed.
        (vec![(0x60, sel::BEYOND)], TS, sel::BEYOND),
        (
            vec![(0x60, sel::BEYOND), (0x4C, sel::DATA0)],
            TS,
            sel::BEYOND,
        ),
        (
            vec![(0x4C, sel::DATA0), (0x54, sel::BEYOND)],
            TS,
            sel::DATA0,
        ),
        (
            vec![(0x54, sel::ABSENT), (0x48, sel::BEYOND)],
            NP,
            sel::ABSENT,
        ),
    ] {
        let mut m = Machine::new(&jmp(sel::TSS_B, 0));
        fill_b(&mut m);
        for (at, value) in fields {
            m.poke32(TSS_B + at, value.into());
        }
        m.expect_fault(vector, Some(error.into()));
        assert_eq!(m.v.cpu.regs[Reg::RSP], 0x7800 - 16);
        assert_eq!(m.stack(1), 0x1200);
    }
}

#[test]
fn a_task_that_returns_to_itself_goes_on_from_what_it_has_just_saved() {
    // iretd; hlt
    let mut m = Machine::new(&[0xCF, 0xF4]);
    m.v.cpu.rflags |= NT;
    m.v.cpu.regs[Reg::RBX] = 0x5A5A;
    m.poke32(TSS_A, sel::TSS_A.into());
    m.run();
    assert_eq!(m.ip(), CODE + 2);
    assert_eq!(m.v.cpu.regs[Reg::RBX], 0x5A5A);
    assert_eq!(m.v.cpu.rflags & NT, 0);
    assert_eq!(access(&mut m, sel::TSS_A), 0x89);
}

#[test]
fn the_trap_bit_raises_a_debug_trap_before_the_first_instruction() {
    let mut m = Machine::new(&jmp(sel::TSS_B, 0));
    fill_b(&mut m);
    m.poke32(TSS_B + 0x64, 1);
    m.expect_fault(1, None);
    assert_eq!(m.stack(0), 0x1200);
    assert_eq!(m.v.cpu.dr[6] & 1 << 15, 1 << 15);
}

#[test]
fn iret_with_nt_and_a_bad_link_raises_ts() {
    let mut m = Machine::new(&[0xCF]);
    m.v.cpu.rflags |= NT;
    m.poke32(TSS_A, sel::TSS_B.into());
    m.expect_fault(TS, Some(sel::TSS_B.into()));
    assert_eq!(m.v.cpu.regs[Reg::RSP], STACK - 16);
}
