//! The x86 processor: state, decoder, semantics, MMU, block cache, interpreter.
//!
//! Start at [`Vcpu`], which is one processor with its TLB; [`Vcpu::run`] executes blocks of decoded
//! instructions ([`Insn`]). What an instruction does stands in [`ops`]; which instructions there are
//! stands in [`table`].

pub mod apic;
mod chain;
mod choice;
pub mod code;
pub mod cpu;
pub mod cpuid;
pub mod death;
pub mod decode;
pub mod emit;
pub mod exception;
pub mod flags;
mod flat;
mod frame;
pub mod insn;
mod interp;
pub mod mmu;
pub mod ops;
#[cfg(test)]
mod print;
pub mod recompiler;
pub mod run;
pub mod segment;
mod segmented;
pub mod smm;
pub mod softfloat;
mod step;
pub mod table;
mod tier;
pub mod undefined;
pub mod vcpu;
pub mod width;

pub use cpu::{Cpu, Mode, Reg, Segment, SegmentRegister, Vector};
pub use emit::Emit;
pub use exception::Exception;
pub use insn::{ExecFn, Insn};
pub use recompiler::Recompiler;
pub use run::Exit;
pub use vcpu::Vcpu;
pub use width::{B, D, Q, W16, Width};
