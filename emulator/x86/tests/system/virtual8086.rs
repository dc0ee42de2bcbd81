//! Virtual-8086 mode: events, IOPL, VME, port permissions.

use x86::cpu::{Reg, SegmentRegister, control};

use crate::harness::{CODE, INNER_STACK, Machine, STACK, TSS_A};

const GP: u64 = 13;
const VM: u64 = 1 << 17;
const IF: u64 = 1 << 9;
const VIF: u64 = 1 << 19;
const VIP: u64 = 1 << 20;

#[test]
fn iret_enters_virtual8086_mode_and_a_fault_leaves_it() {
    // iretd into 0100:0000, where HLT raises #GP
    let mut m = Machine::new(&[0xCF]);
    m.poke8(0x1000, 0xCF);
    for (n, value) in [
        0x10, 0x100, 0x2_3002, 0x80, 0x700, 0x111, 0x222, 0x333, 0x444,
    ]
    .into_iter()
    .enumerate()
    {
        m.poke32(STACK + 4 * n as u64, value);
    }
    m.poke8(0x1010, 0xF4);
    m.expect_fault(GP, Some(0));
    assert_eq!(m.v.cpu.regs[Reg::RSP], INNER_STACK - 40);
    let frame: Vec<u32> = (1..10).map(|n| m.stack(n)).collect();
    assert_eq!(
        frame,
        [
            0x10, 0x100, 0x3_3002, 0x80, 0x700, 0x111, 0x222, 0x333, 0x444
        ]
    );
    assert_eq!(m.v.cpu.rflags & VM, 0);
    assert_eq!(m.selector(SegmentRegister::DS), 0);
    assert_eq!(m.v.cpu.cpl, 0);
}

#[test]
fn int_n_needs_iopl_3() {
    let mut m = Machine::virtual8086(&[0xCD, 0x20], 0);
    m.expect_fault(GP, Some(0));
    // INT3 does not.
    let mut m = Machine::virtual8086(&[0xCC], 0);
    m.poke8(crate::harness::IDT + 3 * 8 + 5, 0xEE);
    m.run();
    assert_eq!(m.vector(), Some(3));
    assert_eq!(m.stack(0), 1);
}

#[test]
fn vme_redirects_int_n_to_the_vector_table() {
    for iopl in [0, 3] {
        // int 20h at 0100:0000; the handler at 0110:0000 is HLT, which raises #GP
        let mut m = Machine::virtual8086(&[0xCD, 0x20], iopl);
        m.v.cpu.cr4 |= control::CR4_VME;
        m.v.cpu.rflags |= if iopl == 3 { IF } else { VIF };
        m.poke32(0x20 * 4, 0x0110_0004);
        m.poke8(0x1104, 0xF4);
        m.expect_fault(GP, Some(0));
        assert_eq!(m.stack(1), 4);
        assert_eq!(m.stack(2), 0x110);
        assert_eq!(m.stack(4), 0x100 - 6);
        let flags = u64::from(m.stack(3));
        assert_eq!(flags & (IF | VIF), 0);
        // The image has IF as the program sees it and IOPL 3.
        assert_eq!(m.peek16(0x7000 + 0x100 - 2), 0x3202);
        assert_eq!(m.peek16(0x7000 + 0x100 - 6), 2);
    }
}

#[test]
fn a_set_redirection_bit_goes_to_the_monitor() {
    let mut m = Machine::virtual8086(&[0xCD, 0x20], 0);
    m.v.cpu.cr4 |= control::CR4_VME;
    m.poke8(TSS_A + 0x80 - 32 + 4, 1);
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(2), 0x100);
}

#[test]
fn cli_sti_pushf_and_popf_follow_iopl_and_vme() {
    for code in [[0xFA, 0xF4], [0xFB, 0xF4], [0x9C, 0xF4], [0x9D, 0xF4]] {
        let mut m = Machine::virtual8086(&code, 0);
        m.expect_fault(GP, Some(0));
        assert_eq!(m.stack(1), 0);
    }
    // sti; pushf; cli; hlt
    let mut m = Machine::virtual8086(&[0xFB, 0x9C, 0xFA, 0xF4], 0);
    m.v.cpu.cr4 |= control::CR4_VME;
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), 3);
    assert_eq!(m.peek16(0x70FE), 0x3202);
    assert_eq!(u64::from(m.stack(3)) & (IF | VIF), 0);
    // STI with VIP pending
    let mut m = Machine::virtual8086(&[0xFB], 0);
    m.v.cpu.cr4 |= control::CR4_VME;
    m.v.cpu.rflags |= VIP;
    m.expect_fault(GP, Some(0));
}

#[test]
fn ports_go_by_the_bitmap_even_with_iopl_3() {
    // in al, 40h; in al, 41h
    let mut m = Machine::virtual8086(&[0xE4, 0x40, 0xE4, 0x41], 3);
    m.poke8(TSS_A + 0x80 + 8, 0x02);
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), 2);
    // A word at 40h meets the bit of 41h.
    let mut m = Machine::virtual8086(&[0xE5, 0x40], 3);
    m.poke8(TSS_A + 0x80 + 8, 0x02);
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), 0);
}

#[test]
fn the_bitmap_ends_with_the_tss() {
    // in al, dx at CPL 3 with IOPL 0
    for (port, allowed) in [(0xBE7, true), (0xBE8 + 0x20, false)] {
        let mut m = Machine::user(&[0xEC, 0xF4]);
        m.v.cpu.regs[Reg::RDX] = port;
        m.expect_fault(GP, Some(0));
        assert_eq!(m.stack(1), CODE as u32 + u32::from(allowed), "{port:x}");
    }
}
