//! Control, debug and model-specific registers, CPUID, and system calls.

use x86::cpu::{Reg, SegmentRegister, control};

use crate::harness::{CODE, Machine, STACK, sel};

const GP: u64 = 13;
const UD: u64 = 6;

#[test]
fn cr0_refuses_paging_without_protection_and_nw_without_cd() {
    // mov cr0, eax
    for value in [control::CR0_PG, control::CR0_PE | control::CR0_NW] {
        let mut m = Machine::new(&[0x0F, 0x22, 0xC0]);
        m.v.cpu.regs[Reg::RAX] = value;
        m.expect_fault(GP, Some(0));
    }
}

#[test]
fn reserved_bits_of_cr4_and_absent_registers_fault() {
    // mov cr4, eax
    let mut m = Machine::with_model("pentium", &[0x0F, 0x22, 0xE0]);
    m.v.cpu.regs[Reg::RAX] = control::CR4_PAE;
    m.expect_fault(GP, Some(0));
    let mut m = Machine::with_model("i386", &[0x0F, 0x22, 0xE0]);
    m.expect_fault(UD, None);
    // mov eax, cr0 at CPL 3
    let mut m = Machine::user(&[0x0F, 0x20, 0xC0]);
    m.expect_fault(GP, Some(0));
}

#[test]
fn wbnoinvd_is_wbinvd_to_a_processor_that_does_not_know_it() {
    // wbnoinvd; hlt
    let code = [0xF3, 0x0F, 0x09, 0xF4];
    let mut m = Machine::new(&code);
    m.run();
    assert_eq!(m.ip(), CODE + 4);
    Machine::user(&code).expect_fault(GP, Some(0));
    Machine::with_model("i386", &code).expect_fault(UD, None);
}

#[test]
fn lmsw_cannot_leave_protected_mode() {
    // mov ax, 8; lmsw ax; smsw ax; hlt
    let mut m = Machine::new(&[0x66, 0xB8, 8, 0, 0x0F, 0x01, 0xF0, 0x0F, 0x01, 0xE0, 0xF4]);
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RAX] & 0xF, 9);
}

#[test]
fn umip_hides_the_tables_from_cpl3() {
    // sgdt [1200h]; hlt
    let code = [0x0F, 0x01, 0x05, 0x00, 0x12, 0, 0, 0xF4];
    let mut m = Machine::user(&code);
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), CODE as u32 + 7);
    assert_eq!(m.peek16(0x1200), 19 * 8 - 1);
    let mut m = Machine::user(&code);
    m.v.cpu.cr4 |= control::CR4_UMIP;
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), CODE as u32);
}

#[test]
fn unknown_msr_faults_and_known_ones_keep_their_value() {
    // rdmsr
    let mut m = Machine::new(&[0x0F, 0x32]);
    m.v.cpu.regs[Reg::RCX] = 0x1234_5678;
    m.expect_fault(GP, Some(0));
    // wrmsr; rdmsr; hlt
    let mut m = Machine::new(&[0x0F, 0x30, 0x31, 0xC0, 0x0F, 0x32, 0xF4]);
    m.v.cpu.regs[Reg::RCX] = 0x277;
    m.v.cpu.regs[Reg::RAX] = 0x0007_0106;
    m.v.cpu.regs[Reg::RDX] = 0x0007_0406;
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RAX], 0x0007_0106);
    let mut m = Machine::new(&[0x0F, 0x30]);
    m.v.cpu.regs[Reg::RCX] = 0x277;
    m.v.cpu.regs[Reg::RAX] = 2;
    m.expect_fault(GP, Some(0));
}

/// RDMSR on a model; `None` for #GP(0).
fn rdmsr(model: &str, register: u32) -> Option<u64> {
    let mut m = Machine::with_model(model, &[0x0F, 0x32, 0xF4]);
    m.v.cpu.regs[Reg::RCX] = register.into();
    m.run();
    let value = m.v.cpu.regs[Reg::RDX] << 32 | m.v.cpu.regs[Reg::RAX];
    m.vector().is_none().then_some(value)
}

/// WRMSR, then RDMSR into ESI and EDI; `None` for #GP(0) of either.
fn wrmsr(model: &str, register: u32, value: u64) -> Option<u64> {
    let mut m = Machine::with_model(model, &[0x0F, 0x30, 0x0F, 0x32, 0xF4]);
    m.v.cpu.regs[Reg::RCX] = register.into();
    m.v.cpu.regs[Reg::RAX] = value & 0xFFFF_FFFF;
    m.v.cpu.regs[Reg::RDX] = value >> 32;
    m.run();
    let value = m.v.cpu.regs[Reg::RDX] << 32 | m.v.cpu.regs[Reg::RAX];
    m.vector().is_none().then_some(value)
}

#[test]
fn newer_models_say_that_nothing_speculates() {
    const ARCH_CAPABILITIES: u32 = 0x10A;
    const SPEC_CTRL: u32 = 0x48;
    const PRED_CMD: u32 = 0x49;
    for model in ["x86-64-v2", "max"] {
        // mov eax, 7; xor ecx, ecx; cpuid; hlt
        let code = [0xB8, 7, 0, 0, 0, 0x31, 0xC9, 0x0F, 0xA2, 0xF4];
        let mut m = Machine::with_model(model, &code);
        m.run();
        // IBRS and IBPB, STIBP, IA32_ARCH_CAPABILITIES, SSBD.
        assert_eq!(m.v.cpu.regs[Reg::RDX], 0xAC00_0000, "{model}");
        assert_eq!(m.v.cpu.regs[Reg::RAX], 2, "{model}");
        // mov eax, 7; mov ecx, 2; cpuid; hlt: BHI_CTRL.
        let code = [0xB8, 7, 0, 0, 0, 0xB9, 2, 0, 0, 0, 0x0F, 0xA2, 0xF4];
        let mut m = Machine::with_model(model, &code);
        m.run();
        assert_eq!(m.v.cpu.regs[Reg::RDX], 1 << 4, "{model}");
        let capabilities = rdmsr(model, ARCH_CAPABILITIES).expect("announced");
        // RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, the three of
        // MMIO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO and ITS_NO; neither RSBA (2) nor RRSBA (19).
        assert_eq!(capabilities, 0x4000_0000_0D10_E17B, "{model}");
        assert_eq!(wrmsr(model, ARCH_CAPABILITIES, capabilities), None);
        assert_eq!(rdmsr(model, SPEC_CTRL), Some(0));
        assert_eq!(wrmsr(model, SPEC_CTRL, 0x407), Some(0x407));
        assert_eq!(wrmsr(model, SPEC_CTRL, 8), None);
        assert_eq!(rdmsr(model, PRED_CMD), None);
        // wrmsr; hlt
        for (value, legal) in [(0, true), (1, true), (2, false)] {
            let mut m = Machine::with_model(model, &[0x0F, 0x30, 0xF4]);
            m.v.cpu.regs[Reg::RCX] = PRED_CMD.into();
            m.v.cpu.regs[Reg::RAX] = value;
            m.v.cpu.regs[Reg::RDX] = 0;
            m.run();
            assert_eq!(m.vector().is_none(), legal, "{value}");
        }
    }
    for model in ["pentium", "pentium3", "x86-64"] {
        for register in [SPEC_CTRL, ARCH_CAPABILITIES] {
            assert_eq!(rdmsr(model, register), None, "{model}");
        }
        assert_eq!(wrmsr(model, PRED_CMD, 1), None, "{model}");
    }
}

/// (Register, its value after a reset), for each model that has it.
#[rustfmt::skip]
const OF_MODEL: &[(&[&str], u32, u64)] = &[
    (&["pentium"], 0x11, 0),
    (&["pentium3", "x86-64", "x86-64-v2", "max"], 0x17, 0),
    (&["pentium3", "x86-64", "x86-64-v2", "max"], 0xC1, 0),
    (&["pentium3", "x86-64", "x86-64-v2", "max"], 0x11E, 0x101),
    (&["pentium3"], 0x119, 0),
    (&["pentium3"], 0x1DB, 0),
    (&["x86-64", "x86-64-v2", "max"], 0x3A, 1),
    (&["x86-64", "x86-64-v2", "max"], 0x19A, 0),
    (&["x86-64", "x86-64-v2", "max"], 0x19B, 0),
    (&["x86-64", "x86-64-v2", "max"], 0x19C, 0x883C_0000),
    (&["x86-64"], 0xCD, 5),
    (&["x86-64-v2", "max"], 0x34, 0),
    (&["x86-64-v2", "max"], 0x35, 0x1_0001),
    (&["x86-64-v2", "max"], 0xC4, 0),
    (&["x86-64-v2", "max"], 0xCE, 0x0800_0000_0800),
    (&["x86-64-v2", "max"], 0xE2, 0),
    (&["x86-64-v2", "max"], 0x194, 0x800),
    (&["x86-64-v2", "max"], 0x1A2, 0x64_0000),
    (&["x86-64-v2", "max"], 0x1AA, 0),
    (&["x86-64-v2", "max"], 0x1FC, 0),
    (&["x86-64-v2", "max"], 0x68F, 0),
    (&["max"], 0x1A7, 0),
    // Not announced: MPERF, the energy bias, a machine-check bank, fixed counters, VMX.
    (&[], 0xE7, 0),
    (&[], 0x1B0, 0),
    (&[], 0x400, 0),
    (&[], 0x309, 0),
    (&[], 0x480, 0),
];

#[test]
fn a_model_has_the_registers_of_the_processor_that_it_announces() {
    for model in ["pentium", "pentium3", "x86-64", "x86-64-v2", "max"] {
        for (models, register, value) in OF_MODEL {
            let expected = models.contains(&model).then_some(*value);
            assert_eq!(rdmsr(model, *register), expected, "{register:x} of {model}");
        }
    }
    // The clocks, each in its generation's form: 10 x 100 MHz and 8 x 125 MHz, as the counter runs.
    assert_eq!(rdmsr("pentium3", 0x2A), Some(0x0AC8_0000));
    assert_eq!(rdmsr("x86-64", 0x2A), Some(10 << 22));
    assert_eq!(rdmsr("x86-64", 0x198), Some(10 << 40 | 10 << 8));
    assert_eq!(rdmsr("max", 0x198), Some(8));
    assert_eq!(rdmsr("x86-64-v2", 0x1AD), Some(0x0808_0808));
    assert_eq!(rdmsr("max", 0x1AD), Some(0x0808_0808_0808));
}

#[test]
fn a_models_registers_keep_what_may_be_written() {
    for (register, value, expected) in [
        (0x194, 0x1_0900, Some(0x1_0900)),
        (0x199, 7, Some(7)),
        (0x19A, 0x1C, Some(0x1C)),
        (0x19C, 0, Some(0x883C_0000)),
        (0x1FC, 2, Some(2)),
        // Reserved bits, and read-only registers.
        (0x19A, 0x20, None),
        (0x194, 1 << 32, None),
        (0xCE, 0x0800_0000_0800, None),
        (0x198, 8, None),
        (0x3A, 5, None),
    ] {
        assert_eq!(wrmsr("max", register, value), expected, "{register:x}");
    }
    assert_eq!(wrmsr("x86-64", 0x194, 0), None);
}

#[test]
fn cpuid_loads_the_revision_of_the_microcode() {
    for (model, revision) in [("pentium3", 0), ("x86-64-v2", 0x1D), ("max", 0x1F)] {
        // mov ecx, 8Bh; xor eax, eax; cdq; wrmsr; mov al, 1; cpuid; mov ecx, 8Bh; rdmsr; hlt
        let code = [
            0xB9, 0x8B, 0, 0, 0, 0x31, 0xC0, 0x99, 0x0F, 0x30, 0xB0, 1, 0x0F, 0xA2, 0xB9, 0x8B, 0,
            0, 0, 0x0F, 0x32, 0xF4,
        ];
        let mut m = Machine::with_model(model, &code);
        m.run();
        assert_eq!(m.v.cpu.regs[Reg::RAX], 0, "{model}");
        assert_eq!(m.v.cpu.regs[Reg::RDX], revision, "{model}");
    }
}

#[test]
fn cpuid_reports_family_and_features() {
    // mov eax, 1; cpuid; hlt
    let mut m = Machine::with_model("pentium3", &[0xB8, 1, 0, 0, 0, 0x0F, 0xA2, 0xF4]);
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RAX], 0x686);
    assert_eq!(m.v.cpu.regs[Reg::RDX] & 1 << 25, 1 << 25);
    assert_eq!(m.v.cpu.regs[Reg::RDX] & 1 << 26, 0);
    let mut m = Machine::with_model("i386", &[0x0F, 0xA2]);
    m.expect_fault(UD, None);
}

#[test]
fn time_stamp_counts_virtual_nanoseconds() {
    // rdtsc; mov ecx, eax; rdtsc; hlt
    let mut m = Machine::new(&[0x0F, 0x31, 0x89, 0xC1, 0x0F, 0x31, 0xF4]);
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RAX] - m.v.cpu.regs[Reg::RCX], 2);
    let mut m = Machine::user(&[0x0F, 0x31]);
    m.v.cpu.cr4 |= control::CR4_TSD;
    m.expect_fault(GP, Some(0));
}

#[test]
fn sysenter_and_sysexit_switch_with_flat_segments() {
    // sysenter; at 1300h: sysexit to 1100h, where hlt raises #GP
    let mut m = Machine::user(&[0x0F, 0x34]);
    m.v.cpu.msr.sysenter_cs = sel::CODE0.into();
    m.v.cpu.msr.sysenter_esp = 0x6800;
    m.v.cpu.msr.sysenter_eip = 0x1300;
    m.poke8(0x1300, 0x0F);
    m.poke8(0x1301, 0x35);
    m.poke8(0x1100, 0xF4);
    m.v.cpu.regs[Reg::RDX] = 0x1100;
    m.v.cpu.regs[Reg::RCX] = STACK - 0x100;
    m.expect_fault(GP, Some(0));
    assert_eq!(m.stack(1), 0x1100);
    assert_eq!(m.stack(2), sel::CODE3.into());
    assert_eq!(m.stack(4), STACK as u32 - 0x100);
    assert_eq!(m.stack(5), sel::DATA3.into());
    let mut m = Machine::user(&[0x0F, 0x34]);
    m.expect_fault(GP, Some(0));
}

#[test]
fn lldt_and_ltr_check_their_descriptors() {
    // lldt ax; ltr ax
    for (opcode, selector, vector, error) in [
        (0xD0, 0x0C, GP, 0x0C),
        (0xD0, sel::DATA0, GP, sel::DATA0),
        (0xD8, 0, GP, 0),
        (0xD8, sel::TSS_A, GP, sel::TSS_A),
        (0xD8, sel::LDT, GP, sel::LDT),
    ] {
        let mut m = Machine::new(&[0x0F, 0x00, opcode]);
        m.v.cpu.regs[Reg::RAX] = selector.into();
        m.expect_fault(vector, Some(error.into()));
    }
    // ltr ax; hlt
    let mut m = Machine::new(&[0x0F, 0x00, 0xD8, 0xF4]);
    m.v.cpu.regs[Reg::RAX] = sel::TSS_B.into();
    m.run();
    assert_eq!(m.selector(SegmentRegister::TR), sel::TSS_B);
    assert_eq!(m.v.cpu.segs[SegmentRegister::TR].attributes & 0xF, 0xB);
}

#[test]
fn rep_outs_and_ins_advance_their_registers() {
    // rep outsb; hlt, then rep insw; hlt
    let mut m = Machine::new(&[0xF3, 0x6E, 0xF4]);
    m.v.cpu.regs[Reg::RCX] = 5;
    m.v.cpu.regs[Reg::RSI] = 0x1200;
    m.v.cpu.regs[Reg::RDX] = 0x80;
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RCX], 0);
    assert_eq!(m.v.cpu.regs[Reg::RSI], 0x1205);
    assert_eq!(m.v.bus().clock.retired(), 6);
    let mut m = Machine::new(&[0xF3, 0x66, 0x6D, 0xF4]);
    m.v.cpu.regs[Reg::RCX] = 3;
    m.v.cpu.regs[Reg::RDI] = 0x1200;
    m.v.cpu.regs[Reg::RDX] = 0x80;
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RDI], 0x1206);
    assert_eq!(m.peek32(0x1202), 0xFFFF_FFFF);
}

#[test]
fn hints_of_later_processors_do_nothing_from_the_p6_on() {
    let hints: [&[u8]; 6] = [
        &[0x0F, 0x0D, 0x08],       // prefetchw [eax]
        &[0x0F, 0x18, 0x38],       // prefetchit0 [eax]
        &[0x0F, 0x1A, 0xC7],       // of MPX
        &[0x0F, 0x1C, 0x00],       // cldemote [eax]
        &[0xF3, 0x0F, 0x1E, 0xCE], // rdsspd esi
        &[0xF3, 0x0F, 0x1E, 0xFB], // endbr32
    ];
    for hint in hints {
        let code = [hint, &[0xF4]].concat();
        let mut m = Machine::new(&code);
        m.v.cpu.regs[Reg::RSI] = 0x1234;
        m.run();
        assert_eq!(m.v.cpu.regs[Reg::RSI], 0x1234);
        assert_eq!(
            m.v.cpu.regs[Reg::RIP],
            u64::from(CODE as u32) + code.len() as u64
        );
        Machine::with_model("pentium", &code).expect_fault(UD, None);
    }
}

#[test]
fn xsaves_and_xrstors_take_the_compacted_format_at_cpl0() {
    const AREA: u64 = 0x9000;
    // xsaves [esi]; pxor xmm0, xmm0; xrstors [esi]; hlt
    let code = [
        0x0F, 0xC7, 0x2E, 0x66, 0x0F, 0xEF, 0xC0, 0x0F, 0xC7, 0x1E, 0xF4,
    ];
    let prepare = |m: &mut Machine| {
        m.v.cpu.cr4 |= control::CR4_OSFXSR | control::CR4_OSXSAVE;
        m.v.cpu.xcr0 = 3;
        m.v.cpu.set_xmm(0, 0x1234);
        m.v.cpu.regs[Reg::RSI] = AREA;
        m.v.cpu.regs[Reg::RAX] = 2;
        m.v.update_mode();
    };
    let mut m = Machine::new(&code);
    prepare(&mut m);
    m.run();
    assert_eq!(m.v.cpu.xmm(0), 0x1234);
    // XSTATE_BV and XCOMP_BV.
    assert_eq!(m.peek64(AREA + 512), 2);
    assert_eq!(m.peek64(AREA + 520), 1 << 63 | 2);

    let mut m = Machine::user(&code);
    prepare(&mut m);
    m.expect_fault(GP, Some(0));
    // An area of XSAVE.
    let mut m = Machine::new(&code[7..]);
    prepare(&mut m);
    m.expect_fault(GP, Some(0));
    // wrmsr: IA32_XSS has no bits.
    let mut m = Machine::new(&[0x0F, 0x30]);
    prepare(&mut m);
    m.v.cpu.regs[Reg::RCX] = 0xDA0;
    m.expect_fault(GP, Some(0));
}

#[test]
fn ia32_misc_enable_hides_monitor() {
    // mov ecx, 1A0h; rdmsr; and eax, ~40000h; wrmsr; mov eax, 1; cpuid; xor ecx, ecx; monitor
    let code = [
        0xB9, 0xA0, 1, 0, 0, 0x0F, 0x32, 0x25, 0xFF, 0xFF, 0xFB, 0xFF, 0x0F, 0x30, 0xB8, 1, 0, 0,
        0, 0x0F, 0xA2, 0x89, 0xCF, 0x31, 0xC9, 0x0F, 0x01, 0xC8,
    ];
    let mut m = Machine::new(&code);
    m.expect_fault(UD, None);
    assert_eq!(m.v.cpu.regs[Reg::RDI] & 1 << 3, 0);
    // mov eax, 1; cpuid; mov edi, ecx; hlt
    let mut m = Machine::new(&[&code[14..23], &[0xF4]].concat());
    m.run();
    assert_ne!(m.v.cpu.regs[Reg::RDI] & 1 << 3, 0);
}
