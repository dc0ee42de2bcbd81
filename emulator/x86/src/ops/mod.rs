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

pub mod descriptors;
pub mod far;
pub mod flags;
pub mod interrupt;
pub mod io;
pub mod iret;
pub mod msr;
pub mod segments;
pub mod syscall;
pub mod system;
pub mod task;

use iced_x86::{Instruction, Mnemonic, Register};

use crate::table::Row;

/// All families.
pub const FAMILIES: &[&[Row]] = &[
    descriptors::ROWS,
    far::ROWS,
    flags::ROWS,
    interrupt::ROWS,
    io::ROWS,
    iret::ROWS,
    msr::ROWS,
    segments::ROWS,
    syscall::ROWS,
    system::ROWS,
];

/// Whether an instruction is a MOV or POP into a segment, control or debug register: such a form ends
/// its block, though other forms of its mnemonic do not.
pub(crate) fn loads_special(iced: &Instruction) -> bool {
    let register = iced.op0_register();
    matches!(iced.mnemonic(), Mnemonic::Mov | Mnemonic::Pop)
        && (register.is_segment_register()
            || (Register::CR0..=Register::CR15).contains(&register)
            || (Register::DR0..=Register::DR15).contains(&register))
}
