//! SSE operations with unmasked exceptions: which flags MXCSR shows when SIGFPE arrives.

use std::arch::global_asm;
use std::sync::Once;

use super::cases;
use super::rng::Rng;
use crate::softfloat::{Context, F32, F64, Relation, Rounding};

// The kernel returns from a handler through this; libc would otherwise provide it.
global_asm!("glassbox_test_sigreturn:", "mov eax, 15", "syscall");

unsafe extern "C" {
    fn glassbox_test_sigreturn();
}

/// `struct sigaction` as the kernel takes it.
#[repr(C)]
struct SigAction {
    handler: unsafe extern "C" fn(i32, *const u8, *mut u64),
    flags: u64,
    restorer: unsafe extern "C" fn(),
    mask: u64,
}

/// Continues at the address in R11 with R10 = 1. The instruction's flags stay in the saved MXCSR.
unsafe extern "C" fn on_sigfpe(_: i32, _: *const u8, ucontext: *mut u64) {
    // SAFETY: the kernel passes a ucontext, whose general registers start 40 bytes in, in the order
    // R8, R9, R10, R11, ..., RIP as the seventeenth.
    unsafe {
        let gregs = ucontext.add(5);
        *gregs.add(2) = 1;
        *gregs.add(16) = *gregs.add(3);
    }
}

fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        const SIGFPE: u64 = 8;
        const SA_SIGINFO_RESTORER_NODEFER: u64 = 0x4 | 0x0400_0000 | 0x4000_0000;
        let action = SigAction {
            handler: on_sigfpe,
            flags: SA_SIGINFO_RESTORER_NODEFER,
            restorer: glassbox_test_sigreturn,
            mask: 0,
        };
        let result: i64;
        // SAFETY: rt_sigaction reads `action`; the handler only changes the interrupted test code's registers.
        unsafe {
            std::arch::asm!(
                "syscall",
                inout("rax") 13i64 => result, in("rdi") SIGFPE, in("rsi") &action, in("rdx") 0, in("r10") 8,
                out("rcx") _, out("r11") _,
            );
        }
        assert_eq!(result, 0, "rt_sigaction");
    });
}

/// Runs `$op` over xmm0 and xmm1: the flags and whether it trapped.
macro_rules! trapping {
    ($op:literal, $a:expr, $b:expr, $mxcsr:expr) => {{
        let (a, b, mxcsr): (u64, u64, u32) = ($a, $b, $mxcsr);
        let mut after: u32 = 0;
        let trapped: u64;
        // SAFETY: registers and local memory only; a trap continues at label 2 by the handler.
        unsafe {
            std::arch::asm!(
                "movq xmm0, {a}",
                "movq xmm1, {b}",
                "lea r11, [rip + 2f]",
                "xor r10d, r10d",
                "ldmxcsr dword ptr [{mxcsr}]",
                $op,
                "2:",
                "stmxcsr dword ptr [{after}]",
                "ldmxcsr dword ptr [{default}]",
                a = in(reg) a, b = in(reg) b, mxcsr = in(reg) &mxcsr, after = in(reg) &mut after,
                default = in(reg) &super::native::DEFAULT_MXCSR,
                out("xmm0") _, out("xmm1") _, out("rax") _, out("r10") trapped, out("r11") _,
            );
        }
        (after as u8 & 0x3F, trapped != 0)
    }};
}

macro_rules! flags_match {
    ($name:ident, $pair:ident, $op:literal, $ours:expr) => {
        #[test]
        fn $name() {
            install_handler();
            let mut rng = Rng::new(30);
            for _ in 0..cases(5_000) {
                let (a, b) = rng.$pair();
                let modes = (rng.below(4) as u32) << 13
                    | (rng.below(2) as u32) << 6
                    | (rng.below(2) as u32) << 15;
                let mxcsr = modes | (rng.below(64) as u32) << 7;
                let mut ctx = Context::from_mxcsr(mxcsr);
                let compute: fn(_, _, &mut Context) = $ours;
                compute(a, b, &mut ctx);
                let native = trapping!($op, a.0.into(), b.0.into(), mxcsr);
                assert!(
                    (ctx.flags, ctx.unmasked() != 0) == native,
                    "{} {a:x?} {b:x?} mxcsr {mxcsr:04x}: ours {:02x}, native {native:x?}",
                    $op,
                    ctx.flags
                );
            }
        }
    };
}

flags_match!(addss, f32_pair, "addss xmm0, xmm1", |a: F32, b: F32, c| _ =
    a.add(b, c));
flags_match!(mulss, f32_pair, "mulss xmm0, xmm1", |a: F32, b: F32, c| _ =
    a.mul(b, c));
flags_match!(divsd, f64_pair, "divsd xmm0, xmm1", |a: F64, b: F64, c| _ =
    a.div(b, c));
flags_match!(
    sqrtsd,
    f64_pair,
    "sqrtsd xmm0, xmm1",
    |_: F64, b: F64, c| _ = b.sqrt(c)
);
flags_match!(
    cvtsd2ss,
    f64_pair,
    "cvtsd2ss xmm0, xmm1",
    |_: F64, b: F64, c| _ = b.to_f32(c)
);
flags_match!(
    cvtss2sd,
    f32_pair,
    "cvtss2sd xmm0, xmm1",
    |_: F32, b: F32, c| _ = b.to_f64(c)
);
flags_match!(
    cvttss2si,
    f32_pair,
    "cvttss2si eax, xmm1",
    |_: F32, b: F32, c| _ = b.to_i32(Rounding::Zero, c)
);
flags_match!(
    comisd,
    f64_pair,
    "comisd xmm0, xmm1",
    |a: F64, b: F64, c| {
        let _: Relation = a.compare_signalling(b, c);
    }
);
