//! Every CPU model has the instructions of its features, and answers the others with #UD.

use x86::cpu::{Reg, control};
use x86::cpuid::CpuModel;

use crate::harness::Machine;

const UD: u64 = 6;

/// (The first model that has it, name, 32-bit code). ESI points to RAM, ECX is 10h.
#[rustfmt::skip]
const FIRST: &[(&str, &str, &[u8])] = &[
    ("i386", "bsf", &[0x0F, 0xBC, 0xC1]),
    ("i386", "shld", &[0x0F, 0xA4, 0xC1, 3]),
    ("i386", "fsin", &[0xD9, 0xFE]),
    ("i386", "fucompp", &[0xDA, 0xE9]),
    ("i486", "bswap", &[0x0F, 0xC8]),
    ("i486", "xadd", &[0x0F, 0xC1, 0x06]),
    ("i486", "cmpxchg", &[0x0F, 0xB1, 0x06]),
    ("i486", "invlpg", &[0x0F, 0x01, 0x3E]),
    ("i486", "wbinvd", &[0x0F, 0x09]),
    ("i486", "cpuid", &[0x0F, 0xA2]),
    ("pentium", "rdtsc", &[0x0F, 0x31]),
    ("pentium", "rdmsr", &[0x0F, 0x32]),
    ("pentium", "cmpxchg8b", &[0x0F, 0xC7, 0x0E]),
    ("pentium", "emms", &[0x0F, 0x77]),
    ("pentium", "paddd mm", &[0x0F, 0xFE, 0xC0]),
    ("pentium3", "cmovz", &[0x0F, 0x44, 0xC0]),
    ("pentium3", "fcmovb", &[0xDA, 0xC0]),
    ("pentium3", "fxsave", &[0x0F, 0xAE, 0x06]),
    ("pentium3", "nop", &[0x0F, 0x1F, 0xC0]),
    ("pentium3", "prefetcht0", &[0x0F, 0x18, 0x0E]),
    ("pentium3", "movaps", &[0x0F, 0x28, 0xC0]),
    ("pentium3", "pavgb mm", &[0x0F, 0xE0, 0xC0]),
    ("pentium3", "pminub mm", &[0x0F, 0xDA, 0xC0]),
    ("pentium3", "pmovmskb mm", &[0x0F, 0xD7, 0xC0]),
    ("pentium3", "pinsrw mm", &[0x0F, 0xC4, 0xC0, 1]),
    ("pentium3", "movntq", &[0x0F, 0xE7, 0x06]),
    ("pentium3", "pshufw", &[0x0F, 0x70, 0xC0, 0]),
    ("pentium3", "sfence", &[0x0F, 0xAE, 0xF8]),
    ("pentium3", "ldmxcsr", &[0x0F, 0xAE, 0x16]),
    ("x86-64", "addpd", &[0x66, 0x0F, 0x58, 0xC0]),
    ("x86-64", "paddq mm", &[0x0F, 0xD4, 0xC0]),
    ("x86-64", "paddd xmm", &[0x66, 0x0F, 0xFE, 0xC0]),
    ("x86-64", "movdqa", &[0x66, 0x0F, 0x6F, 0xC0]),
    ("x86-64", "movd xmm", &[0x66, 0x0F, 0x6E, 0xC0]),
    ("x86-64", "pshufd", &[0x66, 0x0F, 0x70, 0xC0, 0]),
    ("x86-64", "pavgb xmm", &[0x66, 0x0F, 0xE0, 0xC0]),
    ("x86-64", "cvtpi2pd", &[0x66, 0x0F, 0x2A, 0xC0]),
    ("x86-64", "movq2dq", &[0xF3, 0x0F, 0xD6, 0xC0]),
    ("x86-64", "movnti", &[0x0F, 0xC3, 0x06]),
    ("x86-64", "clflush", &[0x0F, 0xAE, 0x3E]),
    ("x86-64", "mfence", &[0x0F, 0xAE, 0xF0]),
    ("x86-64-v2", "addsubps", &[0xF2, 0x0F, 0xD0, 0xC0]),
    ("x86-64-v2", "fisttp", &[0xDB, 0x0E]),
    ("x86-64-v2", "pabsb mm", &[0x0F, 0x38, 0x1C, 0xC0]),
    ("x86-64-v2", "pmulld", &[0x66, 0x0F, 0x38, 0x40, 0xC0]),
    ("x86-64-v2", "pcmpistri", &[0x66, 0x0F, 0x3A, 0x63, 0xC0, 0]),
    ("x86-64-v2", "crc32", &[0xF2, 0x0F, 0x38, 0xF0, 0xC0]),
    ("x86-64-v2", "popcnt", &[0xF3, 0x0F, 0xB8, 0xC0]),
    ("max", "aesenc", &[0x66, 0x0F, 0x38, 0xDC, 0xC0]),
    ("max", "pclmulqdq", &[0x66, 0x0F, 0x3A, 0x44, 0xC0, 0]),
    ("max", "movbe", &[0x0F, 0x38, 0xF0, 0x06]),
    ("max", "xgetbv", &[0x31, 0xC9, 0x0F, 0x01, 0xD0]),
    ("max", "xsave", &[0x0F, 0xAE, 0x26]),
    ("max", "xsaveopt", &[0x0F, 0xAE, 0x36]),
    ("max", "xsavec", &[0x0F, 0xC7, 0x26]),
    ("max", "xsaves", &[0x0F, 0xC7, 0x2E]),
    ("max", "rdrand", &[0x0F, 0xC7, 0xF0]),
    ("max", "rdseed", &[0x0F, 0xC7, 0xF8]),
    ("max", "rdtscp", &[0x0F, 0x01, 0xF9]),
    ("max", "monitor", &[0x31, 0xC9, 0x0F, 0x01, 0xC8]),
    ("max", "mwait", &[0x31, 0xC9, 0x0F, 0x01, 0xC9]),
    ("max", "stac", &[0x0F, 0x01, 0xCB]),
    ("max", "clflushopt", &[0x66, 0x0F, 0xAE, 0x3E]),
    ("max", "andn", &[0xC4, 0xE2, 0x78, 0xF2, 0xC0]),
    ("max", "rorx", &[0xC4, 0xE3, 0x7B, 0xF0, 0xC0, 1]),
    ("max", "adcx", &[0x66, 0x0F, 0x38, 0xF6, 0xC0]),
];

#[test]
fn a_model_has_what_it_says_and_no_more() {
    let order: Vec<&str> = CpuModel::names().collect();
    for (first, name, code) in FIRST {
        let first = order.iter().position(|model| model == first).unwrap();
        for (n, model) in order.iter().enumerate() {
            let mut m = Machine::with_model(model, &[code, &[0xF4][..]].concat());
            m.v.cpu.cr4 |= control::CR4_OSFXSR | control::CR4_OSXSAVE;
            m.v.update_mode();
            m.v.cpu.regs[Reg::RSI] = 0x9000;
            m.v.cpu.regs[Reg::RCX] = 0x10;
            m.run();
            let met = m.vector();
            let expected = (n < first).then_some(UD);
            assert_eq!(met, expected, "{name} on {model}");
        }
    }
}

#[test]
fn lzcnt_and_tzcnt_are_bsr_and_bsf_where_they_lack() {
    for (code, with, without) in [([0xF3, 0x0F, 0xBD], 15, 16), ([0xF3, 0x0F, 0xBC], 16, 16)] {
        for model in ["x86-64-v2", "max"] {
            let mut m = Machine::with_model(model, &[&code[..], &[0xC1, 0xF4]].concat());
            m.v.cpu.regs[Reg::RCX] = 0x1_0000;
            m.run();
            let expected = if model == "max" { with } else { without };
            assert_eq!(m.v.cpu.regs[Reg::RAX], expected, "{code:x?} on {model}");
        }
    }
}
