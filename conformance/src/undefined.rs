//! What a comparison leaves out, and why: what the manual leaves undefined, which the rows of `x86::table` say, and
//! instructions or results in which the host may rightly differ.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register};
use x86::flags::bits::CF;
use x86::table;
use x86::undefined::Undefined;
pub use x86::undefined::operand_bits;

use crate::state::{After, Case, MAX_LEN, Mode, REGION, descriptor, fx};

/// AMD's bit 17 of MXCSR.
const MISALIGNED_SSE: u32 = 1 << 17;

/// Why an instruction is not generated.
pub fn excluded(mnemonic: Mnemonic) -> Option<&'static str> {
    use Mnemonic::{Int1, Sgdt, Sidt, Sldt, Smsw, Str, Syscall, Sysenter, Sysexit, Sysexitq};
    Some(match mnemonic {
        Syscall => "enters the host's kernel",
        Int1 => "a hypervisor that intercepts #DB hands it on as a fault",
        Sysenter | Sysexit | Sysexitq => {
            "AMD has none in long mode (AMD64 APM vol. 2, \"SYSENTER and SYSEXIT\"); Intel's SYSENTER enters the kernel"
        }
        Sgdt | Sidt | Sldt | Smsw | Str => "Linux sets CR4.UMIP and emulates them",
        _ => return None,
    })
}

/// Bits of the general registers in which a completed instruction puts what each machine has of its own.
pub fn own_bits(iced: &Instruction) -> [u64; 16] {
    use Mnemonic::{Cpuid, Rdpid, Rdrand, Rdseed, Rdtsc, Rdtscp, Xgetbv};
    const LOW: u64 = 0xFFFF_FFFF;
    let mut bits = [0; 16];
    match iced.mnemonic() {
        Rdtsc => [bits[0], bits[2]] = [LOW; 2],
        Rdtscp => [bits[0], bits[1], bits[2]] = [LOW; 3],
        Cpuid => bits[..4].fill(LOW),
        // The host's XCR0 has AVX.
        Xgetbv => bits[0] = LOW,
        Rdpid => bits[iced.op0_register().number()] = LOW,
        Rdrand | Rdseed => {
            let register = iced.op0_register();
            bits[register.full_register().number()] = match register.size() {
                2 => 0xFFFF,
                4 => LOW,
                _ => !0,
            };
        }
        _ => {}
    }
    bits
}

/// Why a case cannot be run on the host, by what the interpreter made of it.
pub fn endless(iced: &Instruction, case: &Case, ours: &After) -> Option<&'static str> {
    let beyond = ours.fault.vector == 14 && ours.fault.cr2 >> 32 != 0;
    // With the new code's stack width, below 0 is beyond 4 GiB. So is all of a 16-bit stack: IRET to one leaves the
    // upper half of RSP as it was in the kernel (Linux's espfix64).
    let small = case.stack_mask() == 0xFFFF || case.before.regs[4] & 0xFFFF_FFFF < 16;
    let below_zero = small && changes_width(iced, case);
    (case.mode != Mode::Bits64 && (beyond || below_zero)).then_some(
        "not run: a #PF of 32-bit code beyond 4 GiB, which Linux takes for erratum 100 of the Opteron and repeats for ever",
    )
}

/// Whether a far CALL goes from 64-bit to other code, or back.
fn changes_width(iced: &Instruction, case: &Case) -> bool {
    let selector = match iced.op0_kind() {
        OpKind::FarBranch16 | OpKind::FarBranch32 => iced.far_branch_selector(),
        OpKind::Memory => {
            let size = match iced.memory_size() {
                MemorySize::SegPtr16 => 2,
                MemorySize::SegPtr32 => 4,
                MemorySize::SegPtr64 => 8,
                _ => return false,
            };
            let at = target(iced, case).wrapping_add(size);
            u16::from_le_bytes([case.before.peek(at), case.before.peek(at.wrapping_add(1))])
        }
        _ => return false,
    };
    let descriptor = descriptor(selector);
    let long_code = descriptor >> 53 & 1 != 0 && descriptor >> 43 & 3 == 3;
    iced.mnemonic() == Mnemonic::Call && long_code != (case.mode == Mode::Bits64)
}

/// Offset in the region of the memory operand.
fn target(iced: &Instruction, case: &Case) -> u64 {
    let address = iced.virtual_address(0, 0, |register, _, _| {
        Some(if register.is_segment_register() {
            case.segment_base(register)
        } else {
            case.before.regs[register.full_register().number()]
        })
    });
    let mask = match case.mode {
        Mode::Bits64 => !0,
        _ => 0xFFFF_FFFF,
    };
    (address.unwrap_or_default() & mask).wrapping_sub(REGION)
}

/// Whether the case is 15 bytes of a VEX encoding behind prefixes that make it #UD (SDM vol. 2A §2.3.2 to §2.3.4).
fn vex_behind_prefixes(case: &Case) -> bool {
    let code = &case.code[..case.len.into()];
    let rex = |byte: u8| case.mode == Mode::Bits64 && byte & 0xF0 == 0x40;
    let opcode = code
        .iter()
        .take_while(|&&byte| is_prefix(byte) || rex(byte))
        .count();
    let forbids = |&byte: &u8| matches!(byte, 0x66 | 0xF0 | 0xF2 | 0xF3) || rex(byte);
    code.len() == MAX_LEN
        && matches!(code.get(opcode), Some(0xC4 | 0xC5))
        && code[..opcode].iter().any(forbids)
}

/// Whether the opcode is defined by itself, and has no prefix that might make it another one.
fn defined_without_prefixes(case: &Case) -> bool {
    let code = &case.code[..case.len.into()];
    let rex = |byte: u8| case.mode == Mode::Bits64 && byte & 0xF0 == 0x40;
    let opcode = code
        .iter()
        .take_while(|&&byte| is_prefix(byte) || rex(byte))
        .count();
    let mut bytes = [0; MAX_LEN];
    bytes[..code.len() - opcode].copy_from_slice(&code[opcode..]);
    let selects = |byte: &u8| matches!(byte, 0x66 | 0xF0 | 0xF2 | 0xF3);
    let plain = Decoder::new(case.mode.bits(), &bytes, DecoderOptions::NONE).decode();
    let ud = matches!(plain.mnemonic(), Mnemonic::Ud0 | Mnemonic::Ud1);
    opcode == code.len() || !plain.is_invalid() && !ud && !code[..opcode].iter().any(selects)
}

/// What `iced` leaves undefined by its row. `count` is the masked shift count.
fn left(iced: &Instruction, count: u32) -> Undefined {
    table::row(iced.mnemonic()).map_or(Undefined::default(), |row| row.undefined(iced, count))
}

/// RFLAGS bits that are not to be compared. `count` is the masked shift count.
pub fn flags(iced: &Instruction, count: u32) -> u64 {
    left(iced, count).flags
        | match iced.mnemonic() {
            // There may be no number at the moment.
            Mnemonic::Rdrand | Mnemonic::Rdseed => CF,
            _ => 0,
        }
}

/// Whether the destination itself is undefined.
pub fn result(iced: &Instruction, count: u32) -> bool {
    left(iced, count).result
}

/// Why a case is not run: encodings in which the host differs by its documentation, or that mean nothing.
pub fn unsuitable(iced: &Instruction, mode: Mode, bytes: &[u8]) -> bool {
    use Mnemonic::{
        Call, Int, Jmp, Lfs, Lgs, Loope, Loopne, Lss, Mov, Movsxd, Reservednop, Ret, Sysret,
        Sysretq,
    };
    let rex = |byte: u8| mode == Mode::Bits64 && byte & 0xF0 == 0x40;
    let prefixes = || {
        bytes
            .iter()
            .take_while(move |&&byte| is_prefix(byte) || rex(byte))
    };
    let near = iced.is_jcc_short_or_near()
        || iced.is_jcx_short()
        || iced.is_loop()
        || iced.is_loopcc()
        || iced.mnemonic() == Ret
        || matches!(iced.mnemonic(), Call | Jmp)
            && !matches!(
                iced.memory_size(),
                MemorySize::SegPtr16 | MemorySize::SegPtr32 | MemorySize::SegPtr64
            );
    match iced.mnemonic() {
        // 80h enters the host's kernel.
        Int => iced.immediate8() == 0x80,
        // Outside 64-bit mode Intel has none, AMD has (AMD64 APM vol. 3, "SYSRET").
        Sysret | Sysretq => mode != Mode::Bits64,
        // AMD's processors let a REP prefix decide the condition of LOOPcc; SDM vol. 2A §2.1.1 calls that reserved.
        Loope | Loopne if prefixes().any(|&byte| matches!(byte, 0xF2 | 0xF3)) => true,
        // AMD truncates the target of a near branch with an operand size prefix in 64-bit mode, Intel ignores the
        // prefix (SDM vol. 2A, "CALL"; AMD64 APM vol. 3, "Near Branches in 64-Bit Mode").
        _ if near && mode == Mode::Bits64 && prefixes().any(|&byte| byte == 0x66) => true,
        // AMD has no m16:64 pointers (AMD64 APM vol. 3, "LFS", "JMP (Far)").
        Call | Jmp if iced.memory_size() == MemorySize::SegPtr64 => true,
        Lss | Lfs | Lgs => iced.op0_register().is_gpr64(),
        // AMD reads 32 bits, Intel 16 (SDM vol. 2B, "MOVSXD").
        Movsxd => iced.op0_register().is_gpr16(),
        // 0F 0D with a register is #UD on AMD (AMD64 APM vol. 3, "PREFETCH"), a NOP on Intel.
        Reservednop => format!("{:?}", iced.code()).ends_with("0F0D"),
        // Whether #GP for the CPL or #UD for DR4 with CR4.DE comes first, no manual says.
        // LOCK makes CR0 CR8 on AMD (AMD64 APM vol. 3, "MOV CRn").
        Mov => {
            let registers = [iced.op0_register(), iced.op1_register()];
            let any = |of: fn(Register) -> bool| registers.into_iter().any(of);
            any(|register| matches!(register, Register::DR4 | Register::DR5))
                || any(Register::is_cr) && prefixes().any(|&byte| byte == 0xF0)
        }
        _ => false,
    }
}

/// Whether a byte is a legacy prefix.
pub fn is_prefix(byte: u8) -> bool {
    matches!(
        byte,
        0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3
    )
}

/// Why a case that differs is no difference.
pub fn excuse(iced: &Instruction, case: &Case, ours: &After, host: &After) -> Option<&'static str> {
    use Mnemonic::{
        Call, Cmpsb, Cmpsd, Cmpsq, Cmpsw, Cvtpi2ps, Fxrstor, Fxrstor64, Fxsave, Fxsave64, Insb,
        Insd, Insw, Iret, Iretd, Iretq, Maskmovdqu, Maskmovq, Outsb, Outsd, Outsw, Pop, Push, Retf,
        Verw,
    };
    let (a, b) = (ours.fault.vector, host.fault.vector);
    let either = |x: u8, y: u8| (a, b) == (x, y) || (a, b) == (y, x);
    let completed = |vector: u8| matches!(vector, 1 | 3);
    let memory_fault = |vector: u8| matches!(vector, 12..=14 | 17);
    // iced gives XSAVE's area no size.
    let wide = has_memory(iced) && !(1..10).contains(&iced.memory_size().size());
    let wraps = !(0x1000..0xFFFF_F000).contains(&(ours.fault.cr2 & 0xFFFF_FFFF));
    match iced.mnemonic() {
        _ if case.mode == Mode::Bits32 && (either(17, 13) || either(17, 12)) => Some(
            "an access across 4 GiB may or may not violate a limit of 4 GiB (SDM vol. 3A §5.3)",
        ),
        _ if case.mode == Mode::Bits32 && wraps && (either(14, 13) || either(14, 12)) => Some(
            "an access across 4 GiB may or may not violate a limit of 4 GiB (SDM vol. 3A §5.3)",
        ),
        _ if wide && (a == 17 || b == 17) => Some(
            "#AC for more than 8 bytes depends on the implementation (SDM vol. 3A §6.15, vol. 1 §11.4.1.3)",
        ),
        _ if wide && (either(12, 14) || either(13, 14)) => {
            Some("a long operand beyond the segment's limit: a page of it may fault first")
        }
        Call if a == 13 && matches!(b, 12 | 14 | 17) => {
            Some("SDM vol. 2A checks the target of CALL before it pushes, AMD pushes first")
        }
        Cvtpi2ps if iced.op1_kind() == OpKind::Memory && a == 16 => {
            Some("CVTPI2PS from memory is no x87 instruction to AMD (AMD64 APM vol. 4)")
        }
        _ if wide && either(12, 13) => {
            Some("a misaligned operand beyond the stack segment: either exception may come first")
        }
        Maskmovq | Maskmovdqu if a != b => Some(
            "whether bytes that the mask leaves out count for faults, the implementation decides (SDM vol. 2A, MASKMOVQ)",
        ),
        Iret | Iretd | Iretq | Retf if a == 13 && matches!(b, 12 | 14 | 17) => Some(
            "AMD reads the outer stack pointer behind the frame of RETF and IRET before it looks at the selector",
        ),
        Call if changes_width(iced, case) => Some(
            "AMD pushes what a far CALL between 64-bit and 32-bit code leaves with the new code's stack width (AMD64 APM vol. 3, CALL (Far)), the SDM with the old code's",
        ),
        Verw if a == 6 && iced.has_lock_prefix() => {
            Some("VERW of memory may have a LOCK prefix on this processor, against SDM and APM")
        }
        Iret | Iretd | Iretq
            if case.mode == Mode::Bits64
                && matches!(a, 11..=13)
                && (b, host.fault.error) == (13, 0) =>
        {
            Some("AMD's IRET looks at the new RIP before the new SS, which the SDM leaves open")
        }
        mnemonic
            if either(6, 13)
                && (mnemonic == Mnemonic::INVALID && !defined_without_prefixes(case)
                    || vex_behind_prefixes(case)) =>
        {
            Some(
                "an undefined opcode of more than 15 bytes: #UD and #GP are of one priority (SDM vol. 3A §6.9)",
            )
        }
        _ if host.state.get32(fx::MXCSR) & MISALIGNED_SSE != 0 => {
            Some("AMD's MXCSR has a bit for misaligned SSE (AMD64 APM vol. 1 §4.2.2)")
        }
        Cmpsb | Cmpsw | Cmpsd | Cmpsq if a != b && memory_fault(a) && memory_fault(b) => {
            Some("which operand of CMPS is looked at first, the manual does not say")
        }
        Fxsave | Fxsave64 | Fxrstor | Fxrstor64
            if completed(a) && b == 14 || a == 14 && completed(b) =>
        {
            Some("the last 96 bytes of an FXSAVE area, which are not used, may fault or not")
        }
        Insb | Insw | Insd | Outsb | Outsw | Outsd if completed(a) && b == 13 => Some(
            "AMD checks the I/O permission of REP INS and OUTS with a count of 0; the SDM's REP does nothing then",
        ),
        _ if case.mode == Mode::Bits64
            && (a, b) == (14, 13)
            && matches!(iced.memory_segment(), Register::FS | Register::GS) =>
        {
            Some("AMD also wants the offset in FS or GS canonical, the SDM only the sum")
        }
        Push if iced.op0_register().is_segment_register() && a != b && (b == 14 || b == 17) => {
            Some("AMD writes all 32 bits of a pushed selector's slot, Intel 16 (SDM vol. 2B, PUSH)")
        }
        Pop if iced.op0_register().is_segment_register() && a != b && matches!(b, 12 | 14 | 17) => {
            Some("AMD reads all 32 bits of a popped selector's slot, Intel 16 (SDM vol. 2B, PUSH)")
        }
        _ => None,
    }
}

fn has_memory(iced: &Instruction) -> bool {
    (0..iced.op_count()).any(|n| iced.op_kind(n) == OpKind::Memory)
}

/// Whether the general registers are not to be compared.
pub fn registers(iced: &Instruction, ours: &After) -> bool {
    // AMD's POPA has loaded some of them when a later one faults; done again, it loads them again.
    matches!(iced.mnemonic(), Mnemonic::Popa | Mnemonic::Popad) && ours.fault.vector != 3
}

/// Whether a field of the FXSAVE image is not to be compared.
pub fn image_field(iced: &Instruction, name: &str, ours: &After, host: &After) -> bool {
    use Mnemonic::{
        Cvtpd2pi, Cvtpi2pd, Cvtpi2ps, Cvtps2pi, Cvttpd2pi, Cvttps2pi, Fcomi, Fcomip, Fldenv,
        Frstor, Fucomi, Fucomip, Maskmovq,
    };
    const ES: u16 = 1 << 7;
    const C1: u16 = 1 << 9;
    let (a, b) = (&ours.state, &host.state);
    let status = a.get16(fx::STATUS) ^ b.get16(fx::STATUS);
    let x87 = matches!(name.as_bytes(), [b'f', ..] | [b's', b't', ..]);
    match (iced.mnemonic(), name) {
        // AMD's FXSAVE and XSAVE store zeros while no exception is pending (AMD64 APM vol. 4, FXSAVE), and that is how
        // the kernel gets them.
        (_, "fip" | "fdp" | "fop") if a.get16(fx::STATUS) & b.get16(fx::STATUS) & ES == 0 => true,
        // For the same reason a case that another process interrupts loses the pointer that it began with.
        (_, "fdp") if b.get64(fx::OPERAND) == 0 => !has_memory(iced),
        // The 16-bit forms hold no opcode.
        (Fldenv | Frstor, "fop") => {
            matches!(iced.memory_size().size(), 14 | 94)
        }
        // SDM vol. 2A has C1 cleared; AMD leaves it (AMD64 APM vol. 5).
        (Fcomi | Fcomip | Fucomi | Fucomip, "fsw") => status == C1,
        // SDM vol. 2A has the transition to MMX state in all forms; AMD not with a memory operand.
        (Cvtpi2ps, _) if x87 && iced.op1_kind() == OpKind::Memory => true,
        // What of the transition an unmasked exception leaves, the manual does not say.
        (Cvtpd2pi | Cvtps2pi | Cvttpd2pi | Cvttps2pi | Cvtpi2ps | Cvtpi2pd, _)
            if x87 && ours.fault.vector == 19 =>
        {
            true
        }
        (Maskmovq, _) if x87 => ours.fault.vector != 3,
        // Transcendentals: within a unit of the last place, and C1 tells of that place.
        (mnemonic, "fsw") if transcendental(mnemonic) => status & !C1 == 0,
        (mnemonic, _) if transcendental(mnemonic) && name.starts_with("st") => {
            let n = name[2..].parse().unwrap_or(0);
            neighbours(a.st(n), b.st(n))
        }
        (mnemonic, _) if approximate(mnemonic) && name.starts_with("xmm") => {
            let n = name[3..].parse().unwrap_or(0);
            close(a.xmm(n), b.xmm(n))
        }
        _ => false,
    }
}

/// Whether the address of a #PF is not to be compared.
pub fn fault_address(iced: &Instruction) -> bool {
    use Mnemonic::{
        Cmpsb, Cmpsd, Cmpsq, Cmpsw, Fldenv, Fnsave, Fnstenv, Frstor, Fxrstor, Fxrstor64, Fxsave,
        Fxsave64, Iret, Iretd, Iretq, Maskmovdqu, Maskmovq, Retf, Xrstor, Xrstor64, Xsave, Xsave64,
        Xsavec, Xsavec64, Xsaveopt, Xsaveopt64,
    };
    match iced.mnemonic() {
        // Which end of a long operand a processor looks at first, is its own affair.
        Fldenv | Fnsave | Fnstenv | Frstor | Fxrstor | Fxrstor64 | Fxsave | Fxsave64 | Xrstor
        | Xrstor64 | Xsave | Xsave64 | Xsavec | Xsavec64 | Xsaveopt | Xsaveopt64 => true,
        Maskmovq | Maskmovdqu => true,
        // And so is which of two operands, or of the words on the stack.
        Cmpsb | Cmpsw | Cmpsd | Cmpsq | Iret | Iretd | Iretq | Retf => true,
        _ => false,
    }
}

/// Up to three ranges of offsets in the region.
pub type Ranges = [Range<u64>; 3];

/// Bytes of memory that are not to be compared.
pub fn memory(iced: &Instruction, case: &Case, faulted: bool) -> Ranges {
    use Mnemonic::{
        Call, Fnsave, Fnstenv, Fxsave, Fxsave64, Push, Xsave, Xsave64, Xsavec, Xsavec64, Xsaveopt,
        Xsaveopt64,
    };
    let before = &case.before;
    let stack_top = (before.regs[4] & case.stack_mask())
        .wrapping_add(case.segment_base(Register::SS))
        .wrapping_sub(REGION);
    let bytes = |from: u64, to: u64| {
        let start = target(iced, case);
        start.wrapping_add(from)..start.wrapping_add(to)
    };
    match iced.mnemonic() {
        // Opcode and pointers, as above; MXCSR_MASK, in which AMD has a bit for misaligned SSE.
        Fxsave | Fxsave64 => [bytes(6, 24), bytes(28, 32), 0..0],
        // And which components are in their initial state, a processor may track as it likes (SDM vol. 1 §13.6).
        Xsave | Xsave64 | Xsavec | Xsavec64 | Xsaveopt | Xsaveopt64 => {
            [bytes(6, 24), bytes(28, 32), bytes(512, 513)]
        }
        Fnstenv | Fnsave if matches!(iced.memory_size().size(), 14 | 94) => {
            [bytes(6, 14), 0..0, 0..0]
        }
        Fnstenv | Fnsave => [bytes(12, 28), 0..0, 0..0],
        // AMD writes the upper half of a 32-bit slot, Intel not (SDM vol. 2B, PUSH).
        Push if iced.op0_register().is_segment_register() => {
            [stack_top.wrapping_sub(2)..stack_top, 0..0, 0..0]
        }
        // AMD has pushed the return address when it finds the target beyond the limit; SDM vol. 2A looks first.
        Call if faulted => [stack_top.wrapping_sub(16)..stack_top, 0..0, 0..0],
        _ => [0..0, 0..0, 0..0],
    }
}

/// RCPPS and its like, whose relative error may be up to 1.5 * 2^-12 (SDM vol. 2B).
fn approximate(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Rcpps | Mnemonic::Rcpss | Mnemonic::Rsqrtps | Mnemonic::Rsqrtss
    )
}

fn transcendental(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{F2xm1, Fcos, Fpatan, Fptan, Fsin, Fsincos, Fyl2x, Fyl2xp1};
    matches!(
        mnemonic,
        F2xm1 | Fcos | Fpatan | Fptan | Fsin | Fsincos | Fyl2x | Fyl2xp1
    )
}

/// Whether two extended-precision numbers are the same or next to each other.
fn neighbours(a: (u64, u16), b: (u64, u16)) -> bool {
    let key = |(significand, exponent): (u64, u16)| {
        i128::from(exponent) << 63 | i128::from(significand & !(1 << 63))
    };
    a == b || a.1 & 0x7FFF != 0x7FFF && (key(a) - key(b)).abs() <= 1
}

fn close(ours: u128, host: u128) -> bool {
    (0..4).all(|lane| {
        let (ours, host) = ((ours >> (32 * lane)) as u32, (host >> (32 * lane)) as u32);
        let (a, b) = (
            f64::from(f32::from_bits(ours)),
            f64::from(f32::from_bits(host)),
        );
        // About 2^-126, the implementation decides whether a result is tiny, hence 0 (SDM vol. 2B, RCPPS).
        let tiny = ours ^ host <= 0x0080_0C00 && (a == 0.0 || b == 0.0);
        // Both are off by that much at most.
        ours == host || tiny || (a - b).abs() <= b.abs() * 3.0 / 4096.0
    })
}
