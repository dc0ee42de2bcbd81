//! What the instructions do, a family a file.
//!
//! To add an instruction: write its function, `fn name(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception>`,
//! and a [`Row`] in the `ROWS` of its family. The frequent ones are generic over
//! [`Emit`](crate::Emit), [`Width`](crate::Width) and their operands instead, and their row has the
//! [`Handler`](crate::table::Handler) that `generic!` makes (see `choice`).
//!
//! Rules for a function:
//! - It commits nothing before its last fault is behind it: memory writes come before register and
//!   flag writes, and checks before both.
//! - It reads operands with `v.read::<W>(insn, n)` or, when it knows the form, with `v.get`,
//!   `v.load_operand(insn, v.effective_address(insn))`.
//! - Only a row that [`branches`](Row::branches) may set the instruction pointer, and always does;
//!   one that changes CR0, CR4, EFER, CPL, a segment register, TF, IF, VM or AC
//!   calls `v.update_mode()` and has a row that ends the block.
//! - Device time is exact only at the end of a block: port I/O, RDTSC and the like end it.

mod aes;
pub(crate) mod alu;
mod bcd;
mod bits;
mod bmi;
pub(crate) mod branch;
mod descriptors;
mod far;
mod flags;
pub(crate) mod form;
pub mod interrupt;
mod io;
mod iret;
mod misc;
pub(crate) mod mov;
mod msr;
mod msr_model;
pub(crate) mod muldiv;
mod packed;
mod segments;
pub(crate) mod shift;
pub(crate) mod sse_float;
mod sse_move;
mod sse_text;
pub(crate) mod stack;
mod string;
mod syscall;
pub(crate) mod system;
pub(crate) mod task;
mod vector;
pub(crate) mod x87;
mod x87_arith;
mod x87_compare;
mod x87_env;
mod x87_load;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod x87_oracle;
#[cfg(test)]
mod x87_tests;
mod x87_trans;
mod xsave;

use iced_x86::Instruction;

use crate::insn::ExecFn;
use crate::table::{Family, Handler, Native, Row};

/// All families.
pub(crate) const FAMILIES: &[Family] = &[
    family(aes::ROWS, Native::Reencode),
    family(alu::ROWS, Native::Reencode),
    family(bcd::ROWS, Native::Call),
    family(bits::ROWS, Native::Reencode),
    family(bmi::ROWS, Native::Reencode),
    family(branch::CONDITIONAL_ROWS, Native::Reencode),
    family(branch::ROWS, Native::Reencode),
    family(descriptors::ROWS, Native::Call),
    family(far::ROWS, Native::Call),
    family(flags::ROWS, Native::Call),
    family(interrupt::ROWS, Native::Call),
    family(io::ROWS, Native::Call),
    family(iret::ROWS, Native::Call),
    family(misc::ROWS, Native::Reencode),
    family(mov::CONDITIONAL_ROWS, Native::Reencode),
    family(mov::ROWS, Native::Reencode),
    family(msr::ROWS, Native::Call),
    family(muldiv::ROWS, Native::Mend),
    family(packed::ALIAS_ROWS, Native::Reencode),
    family(packed::IMMEDIATE_ROWS, Native::Reencode),
    family(packed::ROWS, Native::Reencode),
    family(packed::SHIFT_ROWS, Native::Reencode),
    family(segments::ROWS, Native::Call),
    family(shift::ROWS, Native::Mend),
    family(sse_float::ARITHMETIC_ROWS, Native::Reencode),
    family(sse_float::ROWS, Native::Reencode),
    family(sse_move::ROWS, Native::Reencode),
    family(sse_text::ROWS, Native::Reencode),
    family(stack::ROWS, Native::Reencode),
    family(string::CMPS_ROWS, Native::Call),
    family(string::LODS_ROWS, Native::Call),
    family(string::MOVS_ROWS, Native::Call),
    family(string::SCAS_ROWS, Native::Call),
    family(string::STOS_ROWS, Native::Call),
    family(syscall::ROWS, Native::Call),
    family(system::ROWS, Native::Call),
    family(crate::smm::ROWS, Native::Call),
    family(x87::ROWS, Native::Call),
    family(x87_arith::ROWS, Native::Reencode),
    family(x87_compare::ROWS, Native::Reencode),
    family(x87_env::ROWS, Native::Call),
    family(x87_load::ROWS, Native::Reencode),
    family(x87_trans::ROWS, Native::Call),
    family(xsave::ROWS, Native::Call),
];

const fn family(rows: &'static [Row], native: Native) -> Family {
    Family { rows, native }
}

/// MOV to and from segment, control and debug registers.
fn choose_special_mov(iced: &Instruction) -> Option<ExecFn> {
    segments::choose_mov(iced).or_else(|| system::choose_mov(iced))
}

/// PUSH and POP of segment registers.
fn choose_special_stack(iced: &Instruction) -> Option<ExecFn> {
    segments::choose_stack(iced)
}

/// Far JMP and CALL, which share their mnemonics with the near ones.
fn choose_far(iced: &Instruction) -> Option<ExecFn> {
    far::choose(iced)
}

/// The SSE2 MOVSD, which shares its mnemonic with the string instruction.
fn choose_sse_movsd(iced: &Instruction) -> Option<Handler> {
    sse_move::choose_movsd(iced)
}

/// The SSE2 CMPSD, likewise.
fn choose_sse_cmpsd(_iced: &Instruction) -> Option<ExecFn> {
    Some(sse_float::compare_scalar::<crate::softfloat::F64>)
}
