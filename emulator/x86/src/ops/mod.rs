//! What the instructions do, a family a file.
//!
//! To add an instruction: write its function, `fn name(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception>`,
//! and a [`Row`] in the `ROWS` of its family. The frequent ones are generic over
//! [`Emit`](crate::Emit) and [`Width`](crate::Width) instead and get their row by [`Row::choose`].
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

mod alu;
mod bcd;
mod bits;
mod branch;
pub(crate) mod form;
pub mod interrupt;
mod misc;
mod mov;
mod muldiv;
mod shift;
mod stack;
mod string;

use iced_x86::Instruction;

use crate::insn::ExecFn;
use crate::table::Row;

/// All families.
pub const FAMILIES: &[&[Row]] = &[
    alu::ROWS,
    bcd::ROWS,
    bits::ROWS,
    branch::CONDITIONAL_ROWS,
    branch::ROWS,
    misc::ROWS,
    mov::CONDITIONAL_ROWS,
    mov::ROWS,
    muldiv::ROWS,
    shift::ROWS,
    stack::ROWS,
    string::CMPS_ROWS,
    string::LODS_ROWS,
    string::MOVS_ROWS,
    string::SCAS_ROWS,
    string::STOS_ROWS,
];

/// MOV to and from segment, control and debug registers.
fn choose_special_mov(_iced: &Instruction) -> Option<ExecFn> {
    None
}

/// PUSH and POP of segment registers.
fn choose_special_stack(_iced: &Instruction) -> Option<ExecFn> {
    None
}

/// Far JMP and CALL, which share their mnemonics with the near ones.
fn choose_far(_iced: &Instruction) -> Option<ExecFn> {
    None
}

/// The SSE2 MOVSD, which shares its mnemonic with the string instruction.
fn choose_sse_movsd(_iced: &Instruction) -> Option<ExecFn> {
    None
}

/// The SSE2 CMPSD, likewise.
fn choose_sse_cmpsd(_iced: &Instruction) -> Option<ExecFn> {
    None
}
