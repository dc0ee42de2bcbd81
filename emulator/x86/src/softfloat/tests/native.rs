//! The host's own x87 and SSE instructions.

use crate::softfloat::F80;

/// The control word after FNINIT: everything masked, extended, nearest.
pub(super) const DEFAULT_FCW: u16 = 0x037F;
pub(super) const DEFAULT_MXCSR: u32 = 0x1F80;

/// What an x87 instruction left behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct X87 {
    /// ST(0) and ST(1) after the instruction.
    pub st: [F80; 2],
    pub fsw: u16,
}

/// Runs `$op` with ST(0), ST(1) and the control word loaded; leaves ST(0), ST(1) and the status word.
macro_rules! x87 {
    ($op:literal, $a:expr, $b:expr, $fcw:expr $(, $name:ident = $value:expr)*) => {{
        let (a, b): (F80, F80) = ($a, $b);
        let (a, b) = (a.to_bytes(), b.to_bytes());
        let fcw: u16 = $fcw;
        let (mut st0, mut st1) = ([0u8; 10], [0u8; 10]);
        let fsw: u16;
        // SAFETY: the operands are ten-byte arrays; FNINIT empties the register stack before and after, and FNCLEX
        // drops every exception before an instruction could deliver it.
        unsafe {
            std::arch::asm!(
                "fninit",
                "fld tbyte ptr [{b}]",
                "fld tbyte ptr [{a}]",
                "fldcw word ptr [{cw}]",
                $op,
                "fnstsw ax",
                "fnclex",
                "fldcw word ptr [{default}]",
                "fstp tbyte ptr [{st0}]",
                "fstp tbyte ptr [{st1}]",
                "fninit",
                a = in(reg) &a, b = in(reg) &b, cw = in(reg) &fcw, default = in(reg) &$crate::softfloat::tests::native::DEFAULT_FCW,
                st0 = in(reg) &mut st0, st1 = in(reg) &mut st1,
                $($name = in(reg) $value,)*
                out("ax") fsw,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            );
        }
        $crate::softfloat::tests::native::X87 { st: [$crate::softfloat::F80::from_bytes(st0), $crate::softfloat::F80::from_bytes(st1)], fsw }
    }};
}
pub(super) use x87;

/// Runs `$op` over xmm0 and xmm1 and gives xmm0 and the flags that MXCSR then holds.
macro_rules! sse {
    ($op:literal, $a:expr, $b:expr, $mxcsr:expr) => {{
        let (a, b, mxcsr): (u64, u64, u32) = ($a, $b, $mxcsr);
        let (mut result, mut after): (u64, u32) = (0, 0);
        // SAFETY: registers and local memory only; MXCSR is restored, and the callers leave exceptions masked.
        unsafe {
            std::arch::asm!(
                "movq xmm0, {a}",
                "movq xmm1, {b}",
                "ldmxcsr dword ptr [{mxcsr}]",
                $op,
                "stmxcsr dword ptr [{after}]",
                "ldmxcsr dword ptr [{default}]",
                "movq {result}, xmm0",
                a = in(reg) a, b = in(reg) b, mxcsr = in(reg) &mxcsr, after = in(reg) &mut after,
                default = in(reg) &$crate::softfloat::tests::native::DEFAULT_MXCSR, result = inout(reg) result,
                out("xmm0") _, out("xmm1") _, out("rax") _,
            );
        }
        (result, after as u8 & 0x3F)
    }};
}
pub(super) use sse;

/// Whether CPUID's vendor is "AuthenticAMD".
pub fn host_is_amd() -> bool {
    let (rbx, ecx, edx): (u64, u32, u32);
    // SAFETY: CPUID changes registers only; RBX, which the compiler may keep for itself, is restored.
    unsafe {
        std::arch::asm!(
            "mov {rbx}, rbx",
            "cpuid",
            "xchg {rbx}, rbx",
            rbx = out(reg) rbx, inout("eax") 0 => _, out("ecx") ecx, out("edx") edx,
        );
    }
    [rbx as u32, edx, ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}
