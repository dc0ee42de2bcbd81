//! A decoded instruction, as the interpreter executes it.

use crate::exception::Exception;
use crate::vcpu::Vcpu;

/// What executes an instruction.
///
/// Returning an error leaves all state as at the instruction's start, but for what the manual says
/// (REP progress, a trap after completion).
pub type ExecFn = fn(&mut Vcpu, &Insn) -> Result<(), Exception>;

/// "This operand is no memory operand", and "there is none".
pub const NO_OPERAND: u8 = 0xFF;

/// Properties of a decoded instruction, bits of [`Insn::flags`].
pub mod flag {
    /// The memory operand's segment must be checked (limit, rights) and has a base.
    pub const SEG_CHECK: u8 = 1 << 0;
    /// The stack segment must be checked and has a base.
    pub const STACK_CHECK: u8 = 1 << 1;
    /// LOCK prefix.
    pub const LOCK: u8 = 1 << 2;
    /// F3 prefix (REP, REPE).
    pub const REP: u8 = 1 << 3;
    /// F2 prefix (REPNE).
    pub const REPNE: u8 = 1 << 4;
    /// Decoded in 64-bit mode.
    pub const LONG: u8 = 1 << 5;
}

/// One decoded instruction: a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Insn {
    /// Its handler when a whole block runs: executes it, by [`exec`](Self::exec) or a quicker way, and
    /// goes on with the instruction behind it (see `chain`).
    pub fast: ExecFn,
    /// Its full handler, which executes it and returns.
    pub exec: ExecFn,
    /// The immediate, sign-extended as the instruction uses it; for near branches, the target
    /// relative to the block's start.
    pub imm: u64,
    /// The displacement, sign-extended; for RIP-relative operands, relative to the block's start.
    pub disp: u64,
    /// What the effective address is masked with: the address size.
    pub addr_mask: u64,
    /// Register numbers of operands 0 to 3 ([`NO_OPERAND`] where an operand is no register). 8-bit
    /// registers AH..BH are 0x20 + (0..3); segment registers are numbered ES CS SS DS FS GS.
    pub r: [u8; 4],
    /// Base register of the memory operand: 0 to 15, `Reg::ZERO`, or `Reg::RIP`.
    pub base: u8,
    /// Index register of the memory operand: 0 to 15 or `Reg::ZERO`.
    pub index: u8,
    /// Shift of the index register, 0 to 3.
    pub scale: u8,
    /// Segment of the memory operand: a `SegmentRegister` number, or `SegmentRegister::FLAT`.
    pub seg: u8,
    /// Length in bytes, 1 to 15.
    pub len: u8,
    /// Operand size in bytes: of the memory operand, or of operand 0 where there is none.
    pub op_size: u8,
    /// Which operand is the memory operand, or [`NO_OPERAND`].
    pub mem_op: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Offset of the following instruction from the block's start.
    pub end: u16,
    /// Number within the block.
    pub number: u16,
    /// The `iced_x86::Code`, for the rare functions that serve several forms.
    pub code: u16,
    /// The second immediate (ENTER), the opcode as FOP shows it (x87), the condition (Jcc and its like), 0 otherwise.
    pub imm2: u16,
    /// The segment override or default segment as written, for instructions that care in 64-bit mode.
    pub seg_written: u8,
    /// Effective operand size attribute in bytes by mode and prefixes: 2, 4 or 8 (stack and far transfers).
    pub attr_size: u8,
}

impl Insn {
    /// Whether operand `n` is the memory operand.
    #[inline(always)]
    pub fn is_mem(&self, n: u8) -> bool {
        self.mem_op == n
    }

    /// Whether one of `bits` of [`flag`] is set.
    #[inline(always)]
    pub fn has(&self, bits: u8) -> bool {
        self.flags & bits != 0
    }

    /// The `iced_x86::Code` of the instruction.
    pub fn iced_code(&self) -> iced_x86::Code {
        iced_x86::Code::try_from(usize::from(self.code)).unwrap_or_default()
    }

    /// Offset of this instruction from the block's start.
    #[inline(always)]
    pub fn start(&self) -> u16 {
        self.end - u16::from(self.len)
    }
}
