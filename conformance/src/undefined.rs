//! What a comparison leaves out, and why: flags that the manual leaves undefined, and instructions or results in which
//! the host may rightly differ.
//!
//! The source of every flag mask is "Flags Affected" in the instruction's page of Intel SDM vol. 2, where nothing else
//! is said.

use std::ops::Range;

use iced_x86::{Instruction, Mnemonic};
use x86::flags::bits::{AF, ARITH, CF, OF, PF, SF, ZF};

use crate::state::{Case, State, fx};

/// Why an instruction is not generated.
pub fn excluded(mnemonic: Mnemonic) -> Option<&'static str> {
    use Mnemonic::{
        Cpuid, Int1, Int3, Into, Iret, Iretd, Iretq, Monitor, Mwait, Rdpmc, Rdpid, Rdrand, Rdseed,
        Rdtsc, Rdtscp, Retf, Sgdt, Sidt, Sldt, Smsw, Str, Syscall, Sysenter, Sysexit, Sysexitq,
        Sysret, Sysretq, Xgetbv,
    };
    Some(match mnemonic {
        Int1 | Int3 | Into => "a case ends by it",
        Syscall | Sysenter => "enters the host's kernel",
        Sysexit | Sysexitq | Sysret | Sysretq => "AMD has no SYSEXIT in long mode, and #GP and #UD of SYSRET in another order",
        Iret | Iretd | Iretq | Retf => "leaves the code segment",
        Rdtsc | Rdtscp | Rdpmc | Rdpid => "reads what each machine has of its own",
        Rdrand | Rdseed => "gives random numbers",
        Cpuid | Xgetbv => "tells the processors apart",
        Sgdt | Sidt | Sldt | Smsw | Str => "Linux sets CR4.UMIP and emulates them",
        Monitor | Mwait => "AMD's HWCR decides whether user mode has them",
        _ => return None,
    })
}

/// RFLAGS bits that `iced` leaves undefined. `count` is the masked shift count, `zero` whether the source of a bit scan
/// is zero.
pub fn flags(iced: &Instruction, count: u32) -> u64 {
    use Mnemonic::{
        Aaa, Aad, Aam, Aas, And, Andn, Blsi, Blsmsk, Blsr, Bsf, Bsr, Bt, Btc, Btr, Bts, Bzhi, Daa,
        Das, Div, Idiv, Imul, Lzcnt, Mul, Or, Rcl, Rcr, Rol, Ror, Sal, Sar, Shl, Shld, Shr, Shrd,
        Test, Tzcnt, Xor,
    };
    let width = operand_bits(iced);
    match iced.mnemonic() {
        And | Or | Xor | Test => AF,
        Andn | Blsi | Blsmsk | Blsr | Bzhi => AF | PF,
        Shl | Sal | Shr | Sar if count == 0 => 0,
        Shl | Sal | Shr if count >= width => AF | CF | if count == 1 { 0 } else { OF },
        Shl | Sal | Shr | Sar => AF | if count == 1 { 0 } else { OF },
        Rol | Ror | Rcl | Rcr if count > 1 => OF,
        Shld | Shrd if count > width => ARITH,
        Shld | Shrd if count == 0 => 0,
        Shld | Shrd => AF | if count == 1 { 0 } else { OF },
        Mul | Imul => SF | ZF | AF | PF,
        Div | Idiv => ARITH,
        Bsf | Bsr => CF | OF | SF | AF | PF,
        Bt | Bts | Btr | Btc => OF | SF | AF | PF,
        Lzcnt | Tzcnt => OF | SF | PF | AF,
        Aaa | Aas => OF | SF | ZF | PF,
        Aad | Aam => OF | AF | CF,
        Daa | Das => OF,
        _ => 0,
    }
}

/// Whether the destination itself is undefined: SHLD and SHRD by more than the operand's width (SDM vol. 2B).
pub fn result(iced: &Instruction, count: u32) -> bool {
    matches!(iced.mnemonic(), Mnemonic::Shld | Mnemonic::Shrd) && count > operand_bits(iced)
}

/// Whether a field of the FXSAVE image is not to be compared.
pub fn image_field(iced: &Instruction, name: &str, _case: &Case, ours: &State, host: &State) -> bool {
    const ES: u16 = 1 << 7;
    match name {
        // AMD's FXSAVE and XSAVE store zeros while no exception is pending (AMD64 APM vol. 4, FXSAVE), and that is how
        // the kernel gets them.
        "fop" | "fip" | "fdp" => {
            ours.get16(fx::STATUS) & host.get16(fx::STATUS) & ES == 0
        }
        _ if name.starts_with("xmm") && approximate(iced) => {
            let n = name[3..].parse().unwrap_or(0);
            close(ours.xmm(n), host.xmm(n))
        }
        _ => false,
    }
}

/// Bytes of memory that are not to be compared, as offsets in the region.
pub fn memory(_iced: &Instruction, _case: &Case) -> Vec<Range<u64>> {
    Vec::new()
}

/// Width of the destination in bits.
pub fn operand_bits(iced: &Instruction) -> u32 {
    let size = if iced.op_kind(0) == iced_x86::OpKind::Register {
        iced.op0_register().size()
    } else {
        iced.memory_size().size()
    };
    size as u32 * 8
}

/// RCPPS and its like, whose relative error may be up to 1.5 * 2^-12 (SDM vol. 2B).
fn approximate(iced: &Instruction) -> bool {
    matches!(
        iced.mnemonic(),
        Mnemonic::Rcpps | Mnemonic::Rcpss | Mnemonic::Rsqrtps | Mnemonic::Rsqrtss
    )
}

fn close(ours: u128, host: u128) -> bool {
    (0..4).all(|lane| {
        let (ours, host) = ((ours >> (32 * lane)) as u32, (host >> (32 * lane)) as u32);
        let (a, b) = (f64::from(f32::from_bits(ours)), f64::from(f32::from_bits(host)));
        // Both are off by that much at most.
        ours == host || (a - b).abs() <= b.abs() * 3.0 / 4096.0
    })
}
