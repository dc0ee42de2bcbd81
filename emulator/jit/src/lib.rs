//! The recompiler: blocks of the guest's code as code of an x86-64 host.
//!
//! | file | what |
//! |---|---|
//! | `lib` | [`Jit`]: the buffer, links between blocks, the way in and out |
//! | `plan` | which template an instruction has, and who looks at the flags |
//! | `block` | the templates |
//! | `asm` | a small assembler |
//!
//! A guest instruction becomes the same instruction, with its registers renamed and its memory operand found by the
//! TLB. What has no template, and every slow path, is the interpreter's handler, called in place: see
//! [`x86::recompiler`], whose contract this fulfils.
//!
//! **Why a guest cannot break out.** Emitted code stores to three places only: the frame, by constant offsets from
//! RSP; guest memory, by an address that a TLB entry gave for that access's page, checked to its last byte; and
//! its own stack, by calls of depth one. It jumps to code of live blocks, whose addresses come from this crate alone.
//! No immediate, register or length of the guest's gets into an address without that check.

#[cfg(target_arch = "x86_64")]
mod asm;
#[cfg(target_arch = "x86_64")]
mod block;
#[cfg(target_arch = "x86_64")]
mod plan;
#[cfg(target_arch = "x86_64")]
mod x64;

#[cfg(target_arch = "x86_64")]
pub use x64::Jit;

/// A recompiler, if this host can have one: x86-64 with BMI2, and memory for code. Else why not.
///
/// # Errors
/// One line for the user.
pub fn recompiler() -> Result<Box<dyn x86::Recompiler>, &'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        Jit::new().map(|jit| Box::new(jit) as _)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Err("the recompiler is for x86-64 hosts")
    }
}
