//! Long mode.

use x86::cpu::{Mode, Reg, SegmentRegister, control};

use crate::harness::{CODE, GDT, HANDLERS, IDT, INNER_STACK, Machine, STACK, TSS_A, gate, sel};

const GP: u64 = 13;
const UD: u64 = 6;
const PF: u64 = 14;

fn quad(m: &mut Machine, n: u64) -> u64 {
    m.peek64(m.v.cpu.regs[Reg::RSP] + 8 * n)
}

#[test]
fn interrupt_from_user_mode_aligns_the_stack_and_nulls_ss() {
    // int 20h needs a gate of DPL 3: vector 3 by int3
    let mut m = Machine::long(&[0xCC], 3);
    m.poke64(IDT + 16 * 3, gate(sel::LONG0, HANDLERS + 0x30, 0xEE, 0));
    m.poke64(TSS_A + 4, INNER_STACK + 5);
    m.run();
    assert_eq!(m.vector(), Some(3));
    assert_eq!(m.v.cpu.regs[Reg::RSP], INNER_STACK - 40);
    assert_eq!(quad(&mut m, 0), CODE + 1);
    assert_eq!(quad(&mut m, 1), u64::from(sel::LONG3 | 3));
    assert_eq!(quad(&mut m, 3), STACK);
    assert_eq!(quad(&mut m, 4), u64::from(sel::DATA_LONG3 | 3));
    assert_eq!(m.selector(SegmentRegister::SS), 0);
}

#[test]
fn interrupt_in_the_kernel_pushes_ss_and_aligns() {
    let mut m = Machine::long(&[0xCC], 0);
    m.v.cpu.regs[Reg::RSP] = STACK + 3;
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RSP], STACK - 40);
    assert_eq!(quad(&mut m, 3), STACK + 3);
    assert_eq!(quad(&mut m, 4), u64::from(sel::DATA0));
}

#[test]
fn a_page_fault_on_the_inner_stack_is_delivered_on_its_own_stack_with_nothing_changed() {
    let mut m = Machine::long(&[0xCC], 3);
    m.poke64(IDT + 16 * 3, gate(sel::LONG0, HANDLERS + 0x30, 0xEE, 0));
    m.poke64(IDT + 16 * PF, gate(sel::LONG0, HANDLERS + 0xE0, 0x8E, 1));
    // Page 9 is not there; the last two pushes of the frame meet it.
    m.poke64(0x4_3000 + 8 * 9, 0);
    m.poke64(TSS_A + 4, 0xA010);
    m.run();
    assert_eq!(m.vector(), Some(PF));
    assert_eq!(m.v.cpu.regs[Reg::RSP], 0x5000 - 48);
    assert_eq!(quad(&mut m, 0), 2);
    assert_eq!(quad(&mut m, 1), CODE);
    assert_eq!(quad(&mut m, 2), u64::from(sel::LONG3 | 3));
    assert_eq!(quad(&mut m, 4), STACK);
    assert_eq!(m.v.cpu.cr2, 0x9FF8);
    assert_eq!(m.peek64(0xA008), 0);
}

#[test]
fn gates_must_be_64_bit_and_go_to_64_bit_code() {
    let mut m = Machine::long(&[0xCC], 0);
    m.poke64(IDT + 16 * 3, gate(sel::CODE0, HANDLERS + 0x30, 0x8E, 0));
    m.run();
    assert_eq!(m.vector(), Some(GP));
    assert_eq!(quad(&mut m, 0), u64::from(sel::CODE0));
    let mut m = Machine::long(&[0xCC], 0);
    m.poke64(IDT + 16 * 3, gate(sel::LONG0, HANDLERS + 0x30, 0x85, 0));
    m.run();
    assert_eq!(m.vector(), Some(GP));
    assert_eq!(quad(&mut m, 0), 3 * 8 + 2);
}

#[test]
fn iretq_returns_to_user_and_to_compatibility_mode() {
    for cs in [sel::LONG3 | 3, sel::CODE3] {
        // iretq; the target is hlt, which raises #GP
        let mut m = Machine::long(&[0x48, 0xCF], 0);
        for (n, value) in [
            0x1100,
            cs.into(),
            0x202,
            0x7800,
            u64::from(sel::DATA_LONG3 | 3),
        ]
        .into_iter()
        .enumerate()
        {
            m.poke64(STACK + 8 * n as u64, value);
        }
        m.poke8(0x1100, 0xF4);
        m.run();
        assert_eq!(m.vector(), Some(GP));
        assert_eq!(quad(&mut m, 0), 0);
        assert_eq!(quad(&mut m, 1), 0x1100);
        assert_eq!(quad(&mut m, 2), cs.into());
        assert_eq!(quad(&mut m, 4), 0x7800);
    }
}

#[test]
fn iretq_to_32_bit_code_leaves_nothing_of_the_kernels_stack_and_null_selectors() {
    // iretq; push eax; hlt (#GP)
    let mut m = Machine::long(&[0x48, 0xCF], 0);
    let top = m.peek64(0x4_0000);
    m.poke64(0x4_0000 + 8 * 511, top);
    let top = m.peek64(0x4_1000);
    m.poke64(0x4_1000 + 8 * 511, top);
    let high = 0xFFFF_FFFF_C000_0000;
    m.v.cpu.regs[Reg::RSP] = high + STACK;
    for (seg, selector) in [
        (SegmentRegister::DS, 0),
        (SegmentRegister::ES, 1),
        (SegmentRegister::FS, 2),
        (SegmentRegister::GS, 3),
    ] {
        m.set_seg(seg, selector, 0, 0, 0);
    }
    m.set_seg(SegmentRegister::GS, 3, 0x1234, 0, 0);
    let frame = [
        0x1100,
        sel::CODE3.into(),
        2,
        0x5_0000_7800,
        u64::from(sel::DATA_LONG3 | 3),
    ];
    for (n, value) in frame.into_iter().enumerate() {
        m.poke64(STACK + 8 * n as u64, value);
    }
    m.poke8(0x1100, 0x50);
    m.poke8(0x1101, 0xF4);
    m.run();
    assert_eq!(m.vector(), Some(GP));
    assert_eq!(quad(&mut m, 1), 0x1101);
    assert_eq!(quad(&mut m, 4), 0x77FC);
    for seg in [
        SegmentRegister::DS,
        SegmentRegister::ES,
        SegmentRegister::FS,
        SegmentRegister::GS,
    ] {
        assert_eq!(m.selector(seg), 0);
    }
    assert_eq!(m.v.cpu.segs[SegmentRegister::GS].base, 0x1234);
}

#[test]
fn iret_with_nt_faults_in_long_mode() {
    let mut m = Machine::long(&[0x48, 0xCF], 0);
    m.v.cpu.rflags |= 1 << 14;
    m.run();
    assert_eq!(m.vector(), Some(GP));
    assert_eq!(quad(&mut m, 0), 0);
}

#[test]
fn syscall_and_sysret_switch_privilege() {
    // syscall; hlt (#GP at CPL 3). Kernel at 1300h: sysretq.
    let mut m = Machine::long(&[0x0F, 0x05, 0xF4], 3);
    m.v.cpu.msr.star = u64::from(sel::LONG0) << 32 | u64::from(sel::DATA_LONG3 - 8) << 48;
    m.v.cpu.msr.lstar = 0x1300;
    m.v.cpu.msr.sfmask = 0x200;
    m.v.cpu.rflags |= 0x200;
    for (n, byte) in [0x48, 0x0F, 0x07].into_iter().enumerate() {
        m.poke8(0x1300 + n as u64, byte);
    }
    m.run();
    assert_eq!(m.vector(), Some(GP));
    assert_eq!(quad(&mut m, 1), CODE + 2);
    assert_eq!(quad(&mut m, 2), u64::from(sel::LONG3 | 3));
    assert_eq!(quad(&mut m, 3) & 0x200, 0x200);
    assert_eq!(m.v.cpu.regs[Reg::RCX], CODE + 2);
    let mut m = Machine::long(&[0x0F, 0x05], 3);
    m.v.cpu.efer &= !control::EFER_SCE;
    m.run();
    assert_eq!(m.vector(), Some(UD));
}

#[test]
fn sysret_traps_at_once_when_it_loads_tf() {
    // syscall; nop. Kernel at 1300h: sysretq. FMASK clears TF, R11 brings it back.
    for stepping in [true, false] {
        let mut m = Machine::long(&[0x0F, 0x05, 0x90, 0xF4], 3);
        m.v.cpu.msr.star = u64::from(sel::LONG0) << 32 | u64::from(sel::DATA_LONG3 - 8) << 48;
        m.v.cpu.msr.lstar = 0x1300;
        m.v.cpu.msr.sfmask = 0x100;
        // or r11, 100h; sysretq
        let or_r11: [u8; 7] = [0x49, 0x81, 0xCB, 0x00, 0x01, 0, 0];
        for (n, byte) in or_r11.into_iter().chain([0x48, 0x0F, 0x07]).enumerate() {
            m.poke8(0x1300 + n as u64, byte);
        }
        if stepping {
            m.v.cpu.rflags |= 0x100;
            m.v.update_mode();
        }
        m.run();
        assert_eq!(m.vector(), Some(1));
        assert_eq!(quad(&mut m, 0), CODE + 2);
        assert_eq!(quad(&mut m, 1), u64::from(sel::LONG3 | 3));
        assert_eq!(quad(&mut m, 2) & 0x100, 0x100);
        assert_eq!(m.v.cpu.dr[6] & 1 << 14, 1 << 14);
    }
}

#[test]
fn sysret_that_clears_tf_does_not_trap() {
    // sysretq with TF = 1 at CPL 0, to a HLT at 1300h.
    let mut m = Machine::long(&[0x48, 0x0F, 0x07], 0);
    m.v.cpu.msr.star = u64::from(sel::LONG0) << 32 | u64::from(sel::DATA_LONG3 - 8) << 48;
    m.v.cpu.regs[Reg::RCX] = 0x1300;
    m.v.cpu.regs[11] = 0x2;
    m.v.cpu.rflags |= 0x100;
    m.v.update_mode();
    m.poke8(0x1300, 0xF4);
    m.run();
    assert_eq!(m.vector(), Some(GP));
    assert_eq!(quad(&mut m, 1), 0x1300);
}

#[test]
fn a_64_bit_call_gate_takes_the_stack_of_the_tss_and_nulls_ss() {
    // call far [1200h]; the operand is m16:32
    let mut m = Machine::long(&[0xFF, 0x1C, 0x25, 0x00, 0x12, 0, 0], 3);
    m.poke32(0x1200, 0);
    m.poke32(0x1204, u32::from(sel::CALL_GATE | 3));
    m.poke64(
        GDT + u64::from(sel::CALL_GATE),
        gate(sel::LONG0, HANDLERS + 0x800, 0xEC, 0),
    );
    m.poke64(GDT + u64::from(sel::CALL_GATE) + 8, 0);
    m.run();
    assert_eq!(m.ip(), HANDLERS + 0x801);
    assert_eq!(m.v.cpu.regs[Reg::RSP], INNER_STACK - 32);
    assert_eq!(quad(&mut m, 0), CODE + 7);
    assert_eq!(quad(&mut m, 1), u64::from(sel::LONG3 | 3));
    assert_eq!(quad(&mut m, 2), STACK);
    assert_eq!(quad(&mut m, 3), u64::from(sel::DATA_LONG3 | 3));
    assert_eq!(m.selector(SegmentRegister::SS), 0);
}

#[test]
fn leaving_and_entering_long_mode_follow_paging() {
    // mov cr0, eax with PG = 0, from 64-bit mode
    let mut m = Machine::long(&[0x0F, 0x22, 0xC0], 0);
    m.v.cpu.regs[Reg::RAX] = m.v.cpu.cr0 & !control::CR0_PG;
    m.run();
    assert_eq!(m.vector(), Some(GP));
    assert_eq!(m.v.cpu.mode(), Mode::Long);
    // Without PAE, LME and PG do not go together.
    let mut m = Machine::new(&[0x0F, 0x22, 0xC0]);
    m.v.cpu.efer |= control::EFER_LME;
    m.v.cpu.regs[Reg::RAX] = m.v.cpu.cr0 | control::CR0_PG;
    m.expect_fault(GP, Some(0));
}

#[test]
fn a_null_ss_loads_in_the_kernel_only() {
    // mov ss, ax; hlt
    let mut m = Machine::long(&[0x8E, 0xD0, 0xF4], 0);
    m.v.cpu.regs[Reg::RAX] = 0;
    m.run();
    assert_eq!(m.ip(), CODE + 3);
    let mut m = Machine::long(&[0x8E, 0xD0, 0xF4], 3);
    m.v.cpu.regs[Reg::RAX] = 3;
    m.run();
    assert_eq!(m.vector(), Some(GP));
    assert_eq!(quad(&mut m, 1), CODE);
}

#[test]
fn fsgsbase_and_swapgs_move_bases() {
    // wrgsbase rax; swapgs; rdgsbase rbx; hlt
    let code = [
        0xF3, 0x48, 0x0F, 0xAE, 0xD8, 0x0F, 0x01, 0xF8, 0xF3, 0x48, 0x0F, 0xAE, 0xCB, 0xF4,
    ];
    let mut m = Machine::long(&code, 0);
    m.v.cpu.cr4 |= control::CR4_FSGSBASE;
    m.v.cpu.msr.kernel_gs_base = 0x1234_5678_9ABC;
    m.v.cpu.regs[Reg::RAX] = 0x1111_2222_3333;
    m.run();
    assert_eq!(m.ip(), CODE + code.len() as u64);
    assert_eq!(m.v.cpu.regs[Reg::RBX], 0x1234_5678_9ABC);
    assert_eq!(m.v.cpu.msr.kernel_gs_base, 0x1111_2222_3333);
}

#[test]
fn far_jumps_switch_between_compatibility_and_64_bit_mode() {
    // 64-bit: jmp far [1200h] to 32-bit code at 1300h; that: jmp 68h:1400h; at 1400h: mov rax, rsp; hlt
    let mut m = Machine::long(&[0xFF, 0x2C, 0x25, 0x00, 0x12, 0, 0], 0);
    m.poke32(0x1200, 0x1300);
    m.poke32(0x1204, sel::CODE0.into());
    for (n, byte) in crate::harness::jmp(sel::LONG0, 0x1400)
        .into_iter()
        .enumerate()
    {
        m.poke8(0x1300 + n as u64, byte);
    }
    for (n, byte) in [0x48, 0x89, 0xE0, 0xF4].into_iter().enumerate() {
        m.poke8(0x1400 + n as u64, byte);
    }
    m.v.cpu.regs[Reg::RSP] = 0x1_0000_7000;
    m.run();
    assert_eq!(m.ip(), 0x1404);
    assert_eq!(m.v.cpu.mode(), Mode::Long);
    assert_eq!(m.v.cpu.regs[Reg::RAX], 0x1_0000_7000);
}

#[test]
fn an_interrupt_from_compatibility_mode_gets_a_64_bit_frame() {
    // ud2 at CPL 3 in 32-bit code
    let mut m = Machine::long(&[0x0F, 0x0B], 3);
    m.set_seg(SegmentRegister::CS, sel::CODE3, 0, !0, 0xC0FB);
    m.v.update_mode();
    m.run();
    assert_eq!(m.vector(), Some(UD));
    assert_eq!(m.v.cpu.regs[Reg::RSP], INNER_STACK - 40);
    assert_eq!(quad(&mut m, 0), CODE);
    assert_eq!(quad(&mut m, 1), sel::CODE3.into());
    assert_eq!(quad(&mut m, 2) & 1 << 16, 1 << 16);
}

#[test]
fn a_non_canonical_stack_of_the_tss_raises_ss() {
    let mut m = Machine::long(&[0x0F, 0x0B], 3);
    m.poke64(TSS_A + 4, 0x8000_0000_0000_0000);
    m.poke64(IDT + 16 * 12, gate(sel::LONG0, HANDLERS + 0xC0, 0x8E, 1));
    m.run();
    assert_eq!(m.vector(), Some(12));
    assert_eq!(quad(&mut m, 0), 1);
    assert_eq!(quad(&mut m, 1), CODE);
}

#[test]
fn lldt_and_ltr_take_16_byte_descriptors() {
    // ltr ax; hlt
    let mut m = Machine::long(&[0x0F, 0x00, 0xD8, 0xF4], 0);
    m.v.cpu.regs[Reg::RAX] = sel::TSS_LONG.into();
    m.poke64(GDT + u64::from(sel::TSS_LONG) + 8, 0xFFFF_8000);
    m.run();
    assert_eq!(
        m.v.cpu.segs[SegmentRegister::TR].base,
        0xFFFF_8000_0000_3000
    );
    assert_eq!(m.peek8(GDT + u64::from(sel::TSS_LONG) + 5), 0x8B);
    // A type in the upper half is refused.
    let mut m = Machine::long(&[0x0F, 0x00, 0xD8, 0xF4], 0);
    m.v.cpu.regs[Reg::RAX] = sel::TSS_LONG.into();
    m.poke64(GDT + u64::from(sel::TSS_LONG) + 8, 1 << 40);
    m.run();
    assert_eq!(m.vector(), Some(GP));
    assert_eq!(quad(&mut m, 0), sel::TSS_LONG.into());
}

#[test]
fn cr3_with_bits_beyond_the_physical_address_faults() {
    // mov cr3, rax
    let mut m = Machine::long(&[0x0F, 0x22, 0xD8], 0);
    m.v.cpu.regs[Reg::RAX] = 1 << 45;
    m.run();
    assert_eq!(m.vector(), Some(GP));
    let mut m = Machine::long(&[0x0F, 0x22, 0xD8], 0);
    m.v.cpu.regs[Reg::RAX] = 1 << 63 | 0x4_0000;
    m.run();
    assert_eq!(m.vector(), Some(GP));
}
