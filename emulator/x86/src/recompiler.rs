//! The seam for a recompiler: what the run loop knows of one, so that it can be left out.
//!
//! **Contract.** A [`Recompiler`] is given blocks that have run [`HOT`] times and may give host code for them, a
//! [`HostEntry`]. Whoever enters it stands at the block's first instruction, with `Vcpu::current` set, no attention
//! wanted, and at least the block's count of instructions left in the slice. Host code does what the block's handlers
//! would do, in order, and then one of two things:
//!
//! - It returns 0: every instruction has been executed, and the instruction pointer is set.
//! - It returns what [`execute`] returned, at once, or [`stop_at`] an instruction with
//!   [`Exception::Declined`]'s word: that instruction has changed nothing, and the interpreter goes on from it.
//!
//! The counts of retired instructions, exceptions and interrupts are the run loop's, for every tier
//! alike: a fault is an instruction retired, iterations of REP go to `extra_retired`, and both
//! leave by the same door.
//!
//! After a call of [`execute`] host code looks whether the block lives: [`is_cut`]. If it does not, the code
//! behind that instruction must not run; it stops at the next instruction with [`Exception::Retry`]'s word.

use crate::chain;
use crate::code::{Block, CodeCache};
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn};
use crate::vcpu::Vcpu;

/// A block is offered to the recompiler when it has been entered so often.
pub const HOT: u32 = 16;

/// Host code of a block: takes the processor and the block's first instruction, returns 0 or an exception's word.
///
/// # Safety
/// By the contract of this module: the processor runs the block that the code was made for.
pub type HostEntry = unsafe extern "C" fn(*mut Vcpu, *const Insn) -> u32;

/// What a recompiler sees of a block.
#[derive(Clone, Copy)]
pub struct BlockView<'a> {
    /// Where its first byte is.
    pub phys: u64,
    /// The part of the mode that it was decoded for: bits 0 and 1 the code size (16, 32, 64 bits), bit 2 flat segments.
    pub key: u32,
    /// Its bytes.
    pub code: &'a [u8],
    /// Its instructions. They stay where they are until [`Recompiler::drop_block`].
    pub insns: &'a [Insn],
    /// Whether the last one sets the instruction pointer. If not, one more stands behind it that does.
    pub branches: bool,
}

/// A recompiler.
pub trait Recompiler: Send {
    /// Makes host code of a block, or leaves it to the interpreter.
    fn compile(&mut self, block: BlockView<'_>) -> Option<HostEntry>;

    /// The code at `entry` will not be entered any more, because the block's bytes were written or for want of room. It
    /// may be running: its memory is reused at the next [`compile`](Self::compile) at the earliest.
    fn drop_block(&mut self, entry: HostEntry);

    /// No code will be entered any more, and none runs: a reset.
    fn drop_all(&mut self);
}

/// What of a block belongs to the recompiler.
#[derive(Default)]
pub(crate) struct Heat {
    uses: u32,
    entry: Option<HostEntry>,
    /// The first instruction's own handler, while another stands in its place.
    own: Option<ExecFn>,
}

impl Heat {
    /// The host code, if there is some: its block is dropped.
    pub fn take_entry(&mut self) -> Option<HostEntry> {
        self.entry.take()
    }
}

impl CodeCache {
    /// Puts a recompiler in. Not while a block runs.
    pub fn set_recompiler(&mut self, recompiler: Box<dyn Recompiler>) {
        self.recompiler = Some(recompiler);
    }

    /// Has the uses of a new block counted, if there is somebody to compile it.
    pub(crate) fn watch_heat(&self, block: &mut Block) {
        if self.recompiler.is_some() {
            // SAFETY: a block has a first instruction, and this one does not run yet.
            let first = unsafe { &mut *block.insns.as_mut_ptr() };
            block.heat.own = Some(first.fast);
            first.fast = warm;
        }
    }
}

/// Stands before the first instruction of a block whose uses are counted.
fn warm(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    // SAFETY: the block that runs is live, and only its first instruction has this handler.
    let block = unsafe { &mut *v.current };
    let own = block.heat.own.unwrap_or(chain::last);
    block.heat.uses += 1;
    if block.heat.uses < HOT {
        return own(v, insn);
    }
    let mut code = [0; 4096];
    let count = block.count as usize;
    let code = v.copy_code(
        block.phys,
        block.second_page,
        &mut code[..block.bytes.into()],
    );
    let view = BlockView {
        phys: block.phys,
        key: block.key,
        code,
        // SAFETY: a block's instructions stay where they are while it is live.
        insns: unsafe { std::slice::from_raw_parts(block.insns.as_ptr(), count) },
        branches: block.insns.len() == count,
    };
    let compiled = v.code.recompiler.as_mut().and_then(|r| r.compile(view));
    block.heat.entry = compiled;
    let handler = if compiled.is_some() { enter } else { own };
    // Through a raw pointer, as `insn` is that very instruction.
    // SAFETY: a block has a first instruction, and nobody looks at its handler now.
    unsafe { (*block.insns.as_mut_ptr()).fast = handler };
    handler(v, insn)
}

/// Stands before the first instruction of a block with host code.
fn enter(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    // SAFETY: the block that runs is live.
    let Some(entry) = (unsafe { (*v.current).heat.entry }) else {
        unreachable!("a block with this handler has host code");
    };
    // SAFETY: by the contract of this module the entry is code for the block that runs.
    let word = unsafe { entry(v, insn) };
    Exception::from_word(word).map_or(Ok(()), Err)
}

// ---- for host code -----------------------------------------------------------------------------

/// Executes `insn` by its full handler. Returns 0, or the word with which host code returns at once.
///
/// # Safety
/// Both pointers are those of the running block: see the module's contract.
pub unsafe extern "C" fn execute(v: *mut Vcpu, insn: *const Insn) -> u32 {
    // SAFETY: by the caller.
    let (v, insn) = unsafe { (&mut *v, &*insn) };
    match v.execute(insn) {
        Ok(()) => 0,
        // SAFETY: `v` and `insn` are as above.
        Err(exception) => unsafe { stop_at(v, insn, exception.to_word()) },
    }
}

/// Notes that host code stops at `insn`, which has changed nothing, for the reason `word`, and returns that.
///
/// # Safety
/// As for [`execute`].
pub unsafe extern "C" fn stop_at(v: *mut Vcpu, insn: *const Insn, word: u32) -> u32 {
    // SAFETY: by the caller.
    unsafe { (*v).stopped = insn };
    word
}

/// Whether the block that runs ends behind `insn`, because it was cut or dropped there.
///
/// # Safety
/// As for [`execute`]; `insn` is not the last instruction of its block.
pub unsafe extern "C" fn is_cut(insn: *const Insn) -> bool {
    // SAFETY: by the caller there is a next instruction.
    let next = unsafe { &*insn.add(1) };
    std::ptr::fn_addr_eq(next.fast, chain::retry as ExecFn)
}

/// Where things are, for emitted code. Offsets are from the [`Vcpu`], in bytes.
pub mod layout {
    use std::mem::offset_of;

    use crate::cpu::Cpu;
    use crate::flags::LazyFlags;
    use crate::insn::Insn;
    use crate::mmu::tlb::{Direct, ENTRIES};
    use crate::vcpu::Vcpu;

    /// The host address of the present bank of TLB entries, 8 bytes.
    pub const TLB_ENTRIES: usize = offset_of!(Vcpu, tlb_entries);
    /// Instructions retired before the running block, 8 bytes.
    pub const RETIRED: usize = offset_of!(Vcpu, retired);
    /// The count at which the slice ends, 8 bytes.
    pub const SLICE_END: usize = offset_of!(Vcpu, slice_end);
    /// Iterations of REP to be added, 8 bytes.
    pub const EXTRA_RETIRED: usize = offset_of!(Vcpu, extra_retired);
    /// The running block, 8 bytes.
    pub const CURRENT: usize = offset_of!(Vcpu, current);
    /// The instruction at which a chain stopped, 8 bytes.
    pub const STOPPED: usize = offset_of!(Vcpu, stopped);
    /// Not 0: the run loop wants to look around, 4 bytes.
    pub const ATTENTION: usize = offset_of!(Vcpu, attention);
    /// The general registers, 8 bytes each.
    pub const REGS: usize = offset_of!(Vcpu, cpu) + offset_of!(Cpu, regs);
    /// The lazy flags: operation (4 bytes), operands and result (8 bytes each).
    pub const LAZY: usize = offset_of!(Vcpu, cpu) + offset_of!(Cpu, lazy);
    /// RFLAGS, 8 bytes.
    pub const RFLAGS: usize = offset_of!(Vcpu, cpu) + offset_of!(Cpu, rflags);
    /// The segment bases, 8 bytes each.
    pub const SEG_BASE: usize = offset_of!(Vcpu, cpu) + offset_of!(Cpu, seg_base);
    /// The vector registers, 64 bytes each.
    pub const VECTORS: usize = offset_of!(Vcpu, cpu) + offset_of!(Cpu, vectors);
    /// MXCSR, 4 bytes.
    pub const MXCSR: usize = offset_of!(Vcpu, cpu) + offset_of!(Cpu, mxcsr);
    /// TLB entries in a bank, the index being the page's number.
    pub const TLB_SIZE: usize = ENTRIES;
    /// Bytes in a TLB entry.
    pub const TLB_ENTRY: usize = size_of::<Direct>();
    /// Within a TLB entry: the tags for reading and writing, the addend, the frame.
    pub const TLB_FIELDS: [usize; 4] = [
        offset_of!(Direct, read),
        offset_of!(Direct, write),
        offset_of!(Direct, addend),
        offset_of!(Direct, frame),
    ];
    /// Within the lazy flags: operation, operands, result.
    pub const LAZY_FIELDS: [usize; 4] = [
        offset_of!(LazyFlags, op),
        offset_of!(LazyFlags, a),
        offset_of!(LazyFlags, b),
        offset_of!(LazyFlags, result),
    ];
    /// Bytes in an instruction.
    pub const INSN: usize = size_of::<Insn>();
}

#[cfg(test)]
mod tests {
    use super::layout::*;
    use super::*;

    #[test]
    fn what_emitted_code_touches_most_is_together() {
        let hot = [
            TLB_ENTRIES,
            RETIRED,
            SLICE_END,
            EXTRA_RETIRED,
            CURRENT,
            STOPPED,
            ATTENTION,
        ];
        for near in hot {
            assert!(near - TLB_ENTRIES < 64, "{near}: in the same cache line");
        }
        assert_eq!(TLB_ENTRIES % 64, 0);
        assert_eq!(REGS, 0);
        const { assert!(LAZY < 512 && RFLAGS < 512 && SEG_BASE < 512) };
    }

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!((LAZY, RFLAGS, SEG_BASE), (256, 288, 296));
        assert_eq!(VECTORS % 64, 0);
        assert_eq!(
            (TLB_SIZE, TLB_ENTRY, TLB_FIELDS),
            (1024, 32, [0, 8, 16, 24])
        );
        assert_eq!(LAZY_FIELDS, [0, 8, 16, 24]);
        assert_eq!(INSN, 64);
        assert_eq!(size_of::<Result<(), Exception>>(), 4);
        assert_eq!(size_of::<crate::flags::FlagOp>(), 4);
    }

    #[test]
    fn words_are_exceptions_and_0_is_none() {
        for exception in [
            Exception::Retry,
            Exception::Declined,
            Exception::gp(8),
            Exception::X87,
        ] {
            assert_eq!(Exception::from_word(exception.to_word()), Some(exception));
        }
        assert_eq!(Exception::from_word(0), None);
    }
}
