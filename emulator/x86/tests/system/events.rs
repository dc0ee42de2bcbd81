//! Interrupts, exceptions and IRET of protected and real mode.

use x86::cpu::{Reg, SegmentRegister, control};
use x86::{Exit, Vcpu};

use crate::harness::{CODE, HANDLERS, IDT, INNER_STACK, Machine, STACK, gate, sel};

const GP: u64 = 13;
const NP: u64 = 11;
const IF: u64 = 1 << 9;
const TF: u64 = 1 << 8;
const RF: u32 = 1 << 16;

#[test]
fn software_interrupt_pushes_the_next_instruction_and_clears_if_and_tf() {
    // int 20h
    let mut m = Machine::new(&[0xCD, 0x20]);
    m.v.cpu.rflags |= IF;
    m.run();
    assert_eq!(m.vector(), Some(0x20));
    assert_eq!(m.stack(0), CODE as u32 + 2);
    assert_eq!(m.stack(1), sel::CODE0.into());
    assert_eq!(m.stack(2), 0x202);
    assert_eq!(m.v.cpu.rflags & IF, 0);
}

#[test]
fn trap_gate_leaves_if_set() {
    let mut m = Machine::new(&[0xCD, 0x20]);
    m.poke64(IDT + 0x20 * 8, gate(sel::CODE0, HANDLERS + 0x200, 0x8F, 0));
    m.v.cpu.rflags |= IF;
    m.run();
    assert_eq!(m.v.cpu.rflags & IF, IF);
}

#[test]
fn faults_push_rf_and_an_error_code() {
    // mov ds, ax with a selector beyond the table
    let mut m = Machine::user(&[0x8E, 0xD8]);
    m.v.cpu.regs[Reg::RAX] = sel::BEYOND.into();
    m.expect_fault(GP, Some(sel::BEYOND.into()));
    assert_eq!(m.v.cpu.regs[Reg::RSP], INNER_STACK - 24);
    assert_eq!(m.stack(1), CODE as u32);
    assert_eq!(m.stack(2), sel::CODE3.into());
    assert_eq!(m.stack(3), 2 | RF);
    assert_eq!(m.stack(4), STACK as u32);
    assert_eq!(m.stack(5), sel::DATA3.into());
}

#[test]
fn software_interrupt_beyond_the_table_names_its_vector() {
    let mut m = Machine::new(&[0xCD, 0x80]);
    m.expect_fault(GP, Some(0x80 * 8 + 2));
    assert_eq!(m.stack(1), CODE as u32);
}

#[test]
fn ext_is_set_when_an_exception_cannot_be_delivered() {
    // ud2 through a gate that is not present
    let mut m = Machine::new(&[0x0F, 0x0B]);
    m.poke64(IDT + 6 * 8, gate(sel::CODE0, HANDLERS, 0x0E, 0));
    m.expect_fault(NP, Some(6 * 8 + 3));
    let mut m = Machine::new(&[0x0F, 0x0B]);
    m.poke64(IDT + 6 * 8, gate(0, HANDLERS, 0x8E, 0));
    m.expect_fault(GP, Some(1));
    let mut m = Machine::new(&[0x0F, 0x0B]);
    m.poke64(IDT + 6 * 8, gate(sel::ABSENT, HANDLERS, 0x8E, 0));
    m.expect_fault(GP, Some(u32::from(sel::ABSENT) + 1));
}

#[test]
fn contributory_faults_make_a_double_fault() {
    // #GP whose gate is not present: #NP on the way, so #DF with error code 0.
    let mut m = Machine::new(&[0xCD, 0x80]);
    m.poke64(IDT + 13 * 8, 0);
    m.expect_fault(8, Some(0));
    let mut m = Machine::new(&[0xCD, 0x80]);
    m.poke64(IDT + 13 * 8, 0);
    m.poke64(IDT + 8 * 8, 0);
    assert_eq!(m.v.run(100), Exit::Shutdown);
}

#[test]
fn a_shutdown_tells_of_all_exceptions_that_led_to_it() {
    // mov eax, [rbx+4] where no page is; then no gate for #PF, and a bad one for #DF
    let mut m = Machine::long(&[0x8B, 0x43, 0x04], 0);
    m.v.cpu.regs[Reg::RBX] = 0x70_0000;
    m.v.cpu.idtr.limit = 14 * 16 - 1;
    m.poke64(IDT + 8 * 16, gate(sel::BEYOND, HANDLERS, 0x8E, 0));
    assert_eq!(m.v.run(100), Exit::Shutdown);
    let steps = m.v.death();
    let vectors: Vec<_> = steps
        .iter()
        .map(|step| (step.vector, step.error_code))
        .collect();
    let errors = [Some(0), Some(14 * 8 + 3), Some(0), Some(sel::BEYOND + 1)];
    assert_eq!(
        vectors,
        [14, 13, 8, 13].into_iter().zip(errors).collect::<Vec<_>>()
    );
    assert_eq!((steps[0].rip, steps[0].cs), (CODE, sel::LONG0));
    assert_eq!(steps[0].cr2, Some(0x70_0004));
    assert_eq!(steps[0].instruction, "mov eax, [rbx+4]");
    for (step, words) in steps.iter().zip([
        "a supervisor read at 0x700004, where no page is present",
        "handler of #PF cannot be entered: entry 0xe of the IDT at 0x2800 lies beyond its limit 0xdf",
        "neither",
        "handler of #DF cannot be entered: selector",
    ]) {
        assert!(step.why.contains(words), "{}", step.why);
    }
    m.v.reset();
    assert!(m.v.death().is_empty());
}

#[test]
fn a_shutdown_tells_of_the_exception_whose_handler_met_the_next() {
    // ud2, whose handler is ud2 as well: the stack runs out
    let mut m = Machine::new(&[0x0F, 0x0B]);
    m.poke8(HANDLERS + 0x60, 0x0F);
    m.poke8(HANDLERS + 0x61, 0x0B);
    let mut stack = m.v.cpu.segs[SegmentRegister::SS];
    stack.limit = 0xFFFF;
    m.v.set_segment(SegmentRegister::SS, stack);
    m.v.cpu.regs[Reg::RSP] = 0x800;
    m.v.cpu.idtr.limit = 6 * 8 + 7;
    assert_eq!(m.v.run(1_000_000), Exit::Shutdown);
    let first = &m.v.death()[0];
    assert_eq!((first.vector, first.rip), (6, CODE));
    assert_eq!(first.instruction, "ud2");
    assert!(first.why.contains("handlers met another"), "{}", first.why);
    assert_eq!(m.v.death()[1].vector, 6);
}

#[test]
fn a_16_bit_gate_pushes_words() {
    // ud2, then int3 through a 16-bit gate with a 16-bit offset
    let mut m = Machine::new(&[0xCC]);
    m.poke64(IDT + 3 * 8, gate(sel::CODE0, HANDLERS + 0x30, 0x86, 0));
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RSP], STACK - 6);
    assert_eq!(m.peek16(STACK - 6), CODE as u16 + 1);
    assert_eq!(m.peek16(STACK - 4), sel::CODE0);
}

#[test]
fn iret_returns_to_the_outer_level_and_back() {
    // int 21h; then the handler's iretd; then hlt, which raises #GP at CPL 3
    let mut m = Machine::user(&[0xCD, 0x21, 0xF4]);
    m.poke64(IDT + 0x21 * 8, gate(sel::CODE0, HANDLERS + 0x210, 0xEE, 0));
    m.poke8(HANDLERS + 0x210, 0xCF);
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), CODE as u32 + 2);
    assert_eq!(m.stack(4), STACK as u32);
    assert_eq!(m.stack(5), sel::DATA3.into());
}

#[test]
fn iret_at_cpl3_cannot_change_iopl_or_if() {
    // push 3202h; push cs; push 1100h; iretd
    let mut m = Machine::user(&[0x68, 0x02, 0x32, 0, 0, 0x0E, 0x68, 0x00, 0x11, 0, 0, 0xCF]);
    m.poke8(0x1100, 0xF4);
    // PUSH CS leaves the upper half of its slot.
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), 0x1100);
    assert_eq!(m.stack(3) & 0x3200, 0);
}

#[test]
fn single_step_traps_after_each_instruction_but_not_after_int() {
    // nop; nop
    let mut m = Machine::new(&[0x90, 0x90]);
    m.v.cpu.rflags |= TF;
    m.v.update_mode();
    m.expect_fault(1, None);
    assert_eq!(m.stack(0), CODE as u32 + 1);
    assert_eq!(m.v.cpu.dr[6] & 1 << 14, 1 << 14);
    let mut m = Machine::new(&[0xCD, 0x20]);
    m.v.cpu.rflags |= TF;
    m.v.update_mode();
    m.run();
    assert_eq!(m.vector(), Some(0x20));
}

#[test]
fn mov_ss_holds_off_the_trap_for_one_instruction() {
    // mov ss, ax; nop; nop
    let mut m = Machine::new(&[0x8E, 0xD0, 0x90, 0x90]);
    m.v.cpu.regs[Reg::RAX] = sel::DATA0.into();
    m.v.cpu.rflags |= TF;
    m.v.update_mode();
    m.expect_fault(1, None);
    assert_eq!(m.stack(0), CODE as u32 + 3);
}

#[test]
fn of_two_loads_of_ss_in_a_row_only_the_first_holds_anything_off() {
    // mov ss, ax, or pop ss, twice; nop; nop
    for code in [
        &[0x8E, 0xD0, 0x8E, 0xD0, 0x90, 0x90][..],
        &[0x17, 0x17, 0x90, 0x90],
    ] {
        let between = CODE as u32 + if code[0] == 0x17 { 2 } else { 4 };
        let mut m = Machine::new(code);
        m.poke32(STACK, sel::DATA0.into());
        m.poke32(STACK + 4, sel::DATA0.into());
        m.v.cpu.regs[Reg::RAX] = sel::DATA0.into();
        m.v.cpu.rflags |= TF;
        m.v.update_mode();
        m.expect_fault(1, None);
        assert_eq!(m.stack(0), between);
        // An NMI that came with the first waits for the second only.
        let mut m = Machine::new(code);
        m.poke32(STACK, sel::DATA0.into());
        m.poke32(STACK + 4, sel::DATA0.into());
        m.v.cpu.regs[Reg::RAX] = sel::DATA0.into();
        m.v.run(1);
        m.v.bus().drive(platform::IrqLine::NMI, true);
        m.expect_fault(2, None);
        assert_eq!(m.stack(0), between);
    }
    // STI before MOV SS is no load of SS: sti; mov ss, ax; nop; nop
    let mut m = Machine::new(&[0xFB, 0x8E, 0xD0, 0x90, 0x90]);
    m.v.cpu.regs[Reg::RAX] = sel::DATA0.into();
    m.v.bus().drive(platform::IrqLine::INTR, true);
    m.expect_fault(GP, Some(NO_CONTROLLER));
    assert_eq!(m.stack(1), CODE as u32 + 4);
}

#[test]
fn resume_flag_skips_a_breakpoint_once() {
    // nop at CODE with DR0 on it, then int1's handler returns with RF set.
    let mut m = Machine::new(&[0x90, 0xF4]);
    m.v.cpu.dr[0] = CODE;
    m.v.cpu.dr[7] |= 1;
    m.v.update_mode();
    m.run();
    assert_eq!(m.vector(), Some(1));
    assert_eq!(m.stack(0), CODE as u32);
    let mut m = Machine::new(&[0x90, 0xF4]);
    m.v.cpu.dr[0] = CODE;
    m.v.cpu.dr[7] |= 1;
    m.v.cpu.rflags |= u64::from(RF);
    m.v.update_mode();
    m.run();
    assert_eq!(m.ip(), CODE + 2);
    assert_eq!(m.v.cpu.rflags & u64::from(RF), 0);
}

#[test]
fn general_detect_faults_on_access_to_debug_registers() {
    // mov eax, dr0
    let mut m = Machine::new(&[0x0F, 0x21, 0xC0]);
    m.v.cpu.dr[7] |= 1 << 13;
    m.expect_fault(1, None);
    assert_eq!(m.stack(0), CODE as u32);
    assert_eq!(m.stack(2) & RF, RF);
    assert_eq!(m.v.cpu.dr[6] & 1 << 13, 1 << 13);
    assert_eq!(m.v.cpu.dr[7] & 1 << 13, 0);
}

#[test]
fn bound_and_into_raise_their_exceptions() {
    // bound eax, [1200h]
    let mut m = Machine::new(&[0x62, 0x05, 0x00, 0x12, 0, 0]);
    m.poke32(0x1200, 5);
    m.poke32(0x1204, 9);
    m.v.cpu.regs[Reg::RAX] = 10;
    m.expect_fault(5, None);
    assert_eq!(m.stack(0), CODE as u32);
    // into
    let mut m = Machine::new(&[0xCE]);
    m.v.cpu.rflags |= 1 << 11;
    m.expect_fault(4, None);
    assert_eq!(m.stack(0), CODE as u32 + 1);
}

#[test]
fn a_page_fault_on_the_way_into_a_handler_leaves_the_stack_pointer() {
    // int 20h with the stack in a page that is not present; #PF goes to another task's TSS... here to
    // a double fault, whose handler cannot push either.
    let mut m = Machine::new(&[0xCD, 0x20]);
    // One page directory that maps the first 4 MiB by a table without page 9.
    m.poke32(0x4_0000, 0x4_1003);
    for page in 0..256 {
        let present = u32::from(page != 9);
        m.poke32(0x4_1000 + 4 * u64::from(page), page << 12 | 2 | present);
    }
    m.v.cpu.cr3 = 0x4_0000;
    m.v.write_cr0(m.v.cpu.cr0 | control::CR0_PG).unwrap();
    m.v.cpu.regs[Reg::RSP] = 0xA004;
    // The first push goes to A000h, the others into the page that is not there.
    assert_eq!(m.v.run(100), Exit::Shutdown);
    assert_eq!(m.v.cpu.regs[Reg::RSP], 0xA004);
    assert_eq!(m.v.cpu.cr2 & !0xF, 0x9FF0);
    assert_eq!(m.peek32(0xA000), 0);
}

fn real(code: &[u8]) -> Machine {
    let mut m = Machine::new(code);
    m.v.cpu.cr0 &= !control::CR0_PE;
    for seg in 0..6 {
        m.set_seg(seg, 0, 0, 0xFFFF, 0x93);
    }
    m.v.cpu.idtr = x86::cpu::TableRegister {
        base: 0,
        limit: 0x3FF,
    };
    m.v.update_mode();
    m
}

fn sp(v: &Vcpu) -> u64 {
    v.cpu.regs[Reg::RSP]
}

#[test]
fn real_mode_interrupt_and_return() {
    // int 20h; hlt; the handler at 0080:0004 is an iret.
    let mut m = real(&[0xCD, 0x20, 0xF4]);
    m.poke32(0x20 * 4, 0x0080_0004);
    m.poke8(0x804, 0xCF);
    m.v.cpu.rflags |= IF;
    m.run();
    assert_eq!(m.ip(), CODE + 3);
    assert_eq!(sp(&m.v), STACK);
    assert_eq!(m.peek16(STACK - 6), CODE as u16 + 2);
    assert_eq!(m.peek16(STACK - 2), 0x202);
    assert_eq!(m.v.cpu.rflags & IF, IF);
}

#[test]
fn real_mode_vector_beyond_the_table_raises_gp_without_an_error_code() {
    let mut m = real(&[0xCD, 0x80]);
    m.v.cpu.idtr.limit = 0xFF;
    m.poke32(13 * 4, 0x0080_0004);
    m.poke8(0x804, 0xF4);
    m.run();
    assert_eq!(m.selector(SegmentRegister::CS), 0x80);
    assert_eq!(sp(&m.v), STACK - 6);
    assert_eq!(m.peek16(STACK - 6), CODE as u16);
}

/// No interrupt controller answers, so the vector is FFh, for which there is no gate: #GP with EXT.
const NO_CONTROLLER: u32 = 0xFF * 8 + 3;

#[test]
fn sti_holds_interrupts_off_for_one_instruction() {
    // sti; nop; nop
    let mut m = Machine::new(&[0xFB, 0x90, 0x90]);
    m.v.bus().drive(platform::IrqLine::INTR, true);
    m.expect_fault(GP, Some(NO_CONTROLLER));
    assert_eq!(m.stack(1), CODE as u32 + 2);
    // With IF set already there is nothing to hold off; the interrupt comes first of all.
    let mut m = Machine::new(&[0xFB, 0x90, 0x90]);
    m.v.cpu.rflags |= IF;
    m.v.bus().drive(platform::IrqLine::INTR, true);
    m.expect_fault(GP, Some(NO_CONTROLLER));
    assert_eq!(m.stack(1), CODE as u32);
}

#[test]
fn mov_ss_holds_interrupts_off_and_lss_does_not() {
    // popfd; mov ss, ax; nop
    let mut m = Machine::new(&[0x8E, 0xD0, 0xFB, 0x90, 0x90]);
    m.v.cpu.regs[Reg::RAX] = sel::DATA0.into();
    m.v.bus().drive(platform::IrqLine::INTR, true);
    m.expect_fault(GP, Some(NO_CONTROLLER));
    assert_eq!(m.stack(1), CODE as u32 + 4);
    // lss esp, [1200h]; nop, traced
    let mut m = Machine::new(&[0x0F, 0xB2, 0x25, 0x00, 0x12, 0, 0, 0x90, 0x90]);
    m.poke32(0x1200, STACK as u32);
    m.poke32(0x1204, sel::DATA0.into());
    m.v.cpu.rflags |= TF;
    m.v.update_mode();
    m.expect_fault(1, None);
    assert_eq!(m.stack(0), CODE as u32 + 7);
}

#[test]
fn popf_changes_what_privilege_allows() {
    // push 247F02h with TF clear; popfd; pushfd; hlt
    let code = [0x68, 0x02, 0x7E, 0x24, 0, 0x9D, 0x9C, 0xF4];
    let mut m = Machine::new(&code);
    m.run();
    assert_eq!(m.stack(0), 0x24_7E02);
    let mut m = Machine::user(&code);
    m.expect_fault(GP, Some(0));
    // IF and IOPL stay; AC and ID change.
    assert_eq!(m.stack(3) & !RF, 0x24_4C02);
}

#[test]
fn cli_faults_above_iopl_and_clears_vif_with_pvi() {
    let mut m = Machine::user(&[0xFA, 0xF4]);
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), CODE as u32);
    let mut m = Machine::user(&[0xFA, 0xF4]);
    m.v.cpu.cr4 |= control::CR4_PVI;
    m.v.cpu.rflags |= 1 << 19 | IF;
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), CODE as u32 + 1);
    assert_eq!(m.stack(3) & !RF, 0x202);
}

#[test]
fn an_io_breakpoint_traps_after_the_access() {
    // in al, 40h; nop
    let mut m = Machine::new(&[0xE4, 0x40, 0x90]);
    m.v.cpu.cr4 |= control::CR4_DE;
    m.v.cpu.dr[1] = 0x40;
    m.v.cpu.dr[7] |= 1 << 2 | 2 << 20;
    m.v.update_mode();
    m.expect_fault(1, None);
    assert_eq!(m.stack(0), CODE as u32 + 2);
    assert_eq!(m.v.cpu.dr[6] & 0xF, 2);
}

#[test]
fn a_data_breakpoint_traps_after_the_access() {
    // mov [1200h], eax; nop
    let mut m = Machine::new(&[0xA3, 0x00, 0x12, 0, 0, 0x90]);
    m.v.cpu.dr[0] = 0x1202;
    m.v.cpu.dr[7] |= 1 | 1 << 16;
    m.v.update_mode();
    m.expect_fault(1, None);
    assert_eq!(m.stack(0), CODE as u32 + 5);
    assert_eq!(m.v.cpu.dr[6] & 0xF, 1);
}

#[test]
fn rep_insb_that_faults_keeps_the_progress_it_made() {
    // rep insb across the limit of ES
    let mut m = Machine::new(&[0xF3, 0x6C]);
    m.set_seg(SegmentRegister::ES, sel::SMALL, 0, 0x1203, 0x4093);
    m.v.update_mode();
    m.v.cpu.regs[Reg::RCX] = 9;
    m.v.cpu.regs[Reg::RDI] = 0x1200;
    m.v.cpu.regs[Reg::RDX] = 0x80;
    m.expect_fault(GP, Some(0));
    assert_eq!(m.v.cpu.regs[Reg::RCX], 5);
    assert_eq!(m.v.cpu.regs[Reg::RDI], 0x1204);
    assert_eq!(m.stack(1), CODE as u32);
}
