//! The seam for a recompiler: what the run loop knows of one, so that it can be left out.
//!
//! **Contract.** A [`Recompiler`] is given blocks that have run [`HOT`] times and may give host code for them. The run
//! loop enters that through the recompiler's own [`Trampoline`], with a [`Frame`] in which the processor's registers
//! stand, and host code runs block after block, by links of its own and by the jumps that the frame remembers,
//! until a block is not there, or may not run: its count of instructions is taken off [`Frame::left`] at its head,
//! and where that is below zero, host code leaves.
//!
//! What host code has no template for, and what a template cannot finish, an instruction's own full handler does,
//! within the running block: host code calls [`call`], which hands the processor over, and gives it back, or says
//! that host code has to leave, with the state where it belongs. So faults, devices, code pages and
//! all that is rare are those of the interpreter, and so are the counts of retired instructions: a
//! block of host code is a block of the interpreter, and where one ends and what is looked at there
//! is the same for both.
//!
//! Emitted code touches the frame, the processor at the offsets of [`layout`], and guest memory by the addresses that
//! TLB entries give, within the page that they are for.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::chain;
use crate::code::{Block, CodeCache};
use crate::cpu::{Reg, SegmentRegister, control};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::flags::bits;
use crate::flags::{FlagOp, LazyFlags};
use crate::insn::{ExecFn, Insn};
use crate::vcpu::{Vcpu, attention};

/// A block is offered to the recompiler when it has been entered so often.
pub const HOT: u32 = 16;

/// Where host code begins: an offset into the recompiler's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostCode(pub u32);

/// Enters host code: takes the frame and where to begin, gives why it left: [`LEFT`], or the number
/// of an [`Exit`]'s link and 1 in the bit above.
///
/// # Safety
/// The frame is set up for a live block, whose host code that is.
pub type Trampoline = unsafe extern "C" fn(*mut Frame, usize) -> u64;

/// What a trampoline gives when the state is in the processor already: [`call`] said so.
pub const LEFT: u64 = 0;
/// What it gives when the state is in the frame; or'ed with the number of the link that would have gone on, plus 1.
pub const STATE_IN_FRAME: u64 = 1 << 32;

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
    /// Its bytes go on in another page.
    pub crosses: bool,
    /// Whether the processor has TZCNT and LZCNT, whose bytes are BSF and BSR without them.
    pub counts: [bool; 2],
    /// What [`call`] wants to know of it.
    pub identity: usize,
}

/// What became of a block.
pub enum Compiled {
    /// Host code.
    Code(HostCode),
    /// It stays with the interpreter.
    Never,
    /// There is no room left: everything is to be dropped, when no block runs.
    Full,
}

/// A recompiler.
pub trait Recompiler: Send {
    /// Makes host code of a block. No host code runs.
    fn compile(&mut self, block: BlockView<'_>) -> Compiled;

    /// The way into host code, and where its buffer begins.
    fn trampoline(&self) -> (Trampoline, usize);

    /// From now on link `number`, which host code left by, leads to `to`, if that begins in the same page
    /// and is of the same mode.
    fn link(&mut self, number: u32, to: HostCode);

    /// The code will not be entered any more, because the block's bytes were written or for want of
    /// room. It may be running.
    fn drop_block(&mut self, code: HostCode);

    /// No code will be entered any more, and none runs.
    fn drop_all(&mut self);

    /// Blocks compiled so far, and bytes of host code at present.
    fn figures(&self) -> (u64, usize);
}

/// What of a block belongs to the recompiler.
#[derive(Default)]
pub(crate) struct Heat {
    uses: u32,
    code: Option<HostCode>,
    /// The first instruction's own handler, while another stands in its place.
    own: Option<ExecFn>,
}

impl Heat {
    /// Whether there is host code.
    pub fn is_compiled(&self) -> bool {
        self.code.is_some()
    }

    /// The host code, if there is some: its block is dropped.
    pub fn take_code(&mut self) -> Option<HostCode> {
        self.code.take()
    }
}

// ---- the frame ---------------------------------------------------------------------------------

/// What host code has at its stack pointer.
#[repr(C, align(64))]
pub struct Frame {
    /// Instructions that may still be retired before the slice ends; those of the running block are taken off. With
    /// [`BIAS`] taken off too, the next block does not run.
    pub left: i64,
    /// The page of the running block, as its code addresses it.
    pub page_ip: u64,
    /// The arithmetic flags where host code does not have them in the host's own: OF in the low byte, above it what
    /// LAHF gives.
    pub flags: u64,
    /// The processor.
    pub vcpu: *mut Vcpu,
    /// What an entry of `jumps` must agree in: one of these.
    pub tags: [u64; 2],
    /// [`JUMPS`] entries.
    pub jumps: *mut Jump,
    /// The bits of an address that are the index of its TLB entry, for PEXT.
    pub index_mask: u64,
    /// The bits of an address above its page, for PEXT.
    pub high_mask: u64,
    /// The present bank of TLB entries.
    pub tlb: usize,
    /// The host's own stack pointer, for calls.
    pub host_sp: u64,
    /// Where execution goes on: after [`call`] of a branch, and when host code leaves.
    pub next_ip: u64,
    /// Host code's own.
    pub scratch: u64,
    /// The count of retired instructions at which `left` is 0.
    pub end: u64,
    /// Calls of [`call`].
    pub calls: u64,
    /// 0 while the vector registers and MXCSR are in the host's own, else 1.
    pub vectors_away: u32,
    /// 0 where instructions on vector registers may run in host code: no exception of theirs can come.
    pub vectors_barred: u32,
    /// MXCSR of the host's own code.
    pub host_mxcsr: u32,
    /// For FS and GS: 0 where an access needs no check of the segment.
    pub barred: [u8; 2],
    /// The bits of an address that are 0 where it is aligned for vectors, for PEXT.
    pub vector_mask: u64,
    /// The address of the recompiler's buffer.
    pub code: usize,
    /// The panic with which host code was left.
    panic: Option<Box<Box<dyn Any + Send>>>,
    /// Room.
    spare: [u64; 4],
    /// The general registers, but for those that host code has in the host's own.
    pub regs: [u64; 16],
}

/// Code that was compiled and rewritten so often stays with the interpreter.
const RESTLESS: u8 = 4;
/// Addresses that are remembered for that.
const MOST_REWRITTEN: usize = 4096;
/// What is taken off [`Frame::left`] where something is to be looked at behind the running block.
pub const BIAS: i64 = 1 << 62;
/// A slice is at most so long.
const LONGEST: u64 = 1 << 60;
/// The exception masks of MXCSR.
const MASKED: u32 = 0x1F80;
/// Entries of [`Frame::jumps`]; a power of two.
pub const JUMPS: usize = 16384;

/// Where an instruction pointer leads, at the place that [`jump_slot`] says.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub struct Jump {
    /// The instruction pointer.
    pub ip: u64,
    /// One of [`Frame::tags`], where that is still so.
    pub tag: u64,
    /// The address of host code.
    pub host: usize,
}

const NO_JUMP: Jump = Jump {
    ip: !0,
    tag: 0,
    host: 0,
};

/// The index among [`Frame::jumps`] of an instruction pointer.
pub fn jump_slot(ip: u64) -> usize {
    (ip ^ ip >> 12) as usize & (JUMPS - 1)
}

/// A processor's part of host code: the stack on which that runs, with the frame at its upper end.
#[repr(C)]
pub(crate) struct HostState {
    stack: [u64; 8192],
    frame: Frame,
    jumps: Vec<Jump>,
    /// The link by which host code left, and where to.
    wanted: Option<(u32, u64)>,
    /// `CodeCache::host_epoch` of what stands in `jumps`.
    epoch: u64,
    /// Instructions retired by host code.
    retired: u64,
}

impl HostState {
    fn new() -> Box<Self> {
        Box::new(Self {
            stack: [0; 8192],
            frame: Frame {
                left: 0,
                page_ip: 0,
                flags: 0,
                vcpu: std::ptr::null_mut(),
                tags: [0; 2],
                jumps: std::ptr::null_mut(),
                index_mask: (layout::TLB_SIZE as u64 - 1) << 12,
                high_mask: !0xFFF,
                tlb: 0,
                host_sp: 0,
                next_ip: 0,
                scratch: 0,
                end: 0,
                calls: 0,
                vectors_away: 1,
                vectors_barred: 1,
                host_mxcsr: 0x1F80,
                barred: [1; 2],
                vector_mask: 15,
                code: 0,
                panic: None,
                spare: [0; 4],
                regs: [0; 16],
            },
            jumps: vec![NO_JUMP; JUMPS],
            wanted: None,
            epoch: 0,
            retired: 0,
        })
    }
}

impl Vcpu {
    /// Instructions retired by host code so far, and how many of those an interpreter's handler was called for.
    pub fn host_figures(&self) -> (u64, u64) {
        self.host
            .as_ref()
            .map_or((0, 0), |host| (host.retired, host.frame.calls))
    }

    /// Takes registers and flags over from the frame.
    fn take_over(&mut self, frame: &Frame) {
        self.cpu.regs[..16].copy_from_slice(&frame.regs);
        let saved = frame.flags;
        let flags = saved >> 8 & (bits::ARITH & 0xFF) | (saved & 1) << 11;
        self.cpu.lazy = LazyFlags::EXPLICIT;
        self.cpu.rflags = self.cpu.rflags & !bits::ARITH | flags;
    }

    /// Hands registers, flags and what else may have changed to the frame.
    fn hand_over(&mut self, frame: &mut Frame) {
        frame.regs.copy_from_slice(&self.cpu.regs[..16]);
        let flags = if self.cpu.lazy.op == FlagOp::Explicit {
            self.cpu.rflags
        } else {
            self.cpu.lazy.evaluate(self.cpu.rflags)
        };
        frame.flags = (flags & (bits::ARITH & 0xFF) | bits::FIXED) << 8 | flags >> 11 & 1;
        frame.tlb = self.tlb_entries;
        frame.tags = self.fetch_tags;
        let cpu = &self.cpu;
        let vectors = cpu.cr0 & (control::CR0_EM | control::CR0_TS) == 0
            && cpu.cr4 & control::CR4_OSFXSR != 0
            && cpu.mxcsr & MASKED == MASKED;
        frame.vectors_barred = u32::from(!vectors);
        if self.mode_key & 3 != 2 {
            let wide = |seg: usize| cpu.segs[seg].is_wide(false);
            frame.barred =
                [SegmentRegister::FS, SegmentRegister::GS].map(|seg| u8::from(!wide(seg)));
        }
    }

    /// Notes how many instructions may still be retired, of which `count` are the running block's.
    fn set_left(&mut self, frame: &mut Frame, count: u32) {
        frame.end = self.slice_end.min(self.retired.saturating_add(LONGEST));
        frame.left = frame.end.wrapping_sub(self.retired + u64::from(count)) as i64;
        if self.attention != 0 {
            frame.left -= BIAS;
        }
    }
}

impl Frame {
    /// The count of retired instructions that `left` stands for.
    fn retired(&self) -> u64 {
        let left = if self.left < -(BIAS / 2) {
            self.left + BIAS
        } else {
            self.left
        };
        self.end.wrapping_sub(left as u64)
    }
}

// ---- the run loop's side -----------------------------------------------------------------------

impl CodeCache {
    /// Puts a recompiler in. Not while a block runs.
    pub fn set_recompiler(&mut self, recompiler: Box<dyn Recompiler>) {
        self.recompiler = Some(recompiler);
    }

    /// Offers blocks to the recompiler when they have been entered `uses` times, at least once, and
    /// however often they are rewritten: for tests.
    pub fn compile_after(&mut self, uses: u32) {
        self.hot = uses.max(1);
        self.patient = true;
    }

    /// Blocks compiled so far, and bytes of host code at present.
    pub fn host_figures(&self) -> (u64, usize) {
        self.recompiler.as_ref().map_or((0, 0), |r| r.figures())
    }

    /// Notes that the code at `phys` was compiled and then rewritten.
    pub(crate) fn note_rewritten(&mut self, phys: u64) {
        if self.rewritten.len() >= MOST_REWRITTEN {
            self.rewritten.clear();
        }
        let times = self.rewritten.entry(phys).or_default();
        *times = times.saturating_add(1);
    }

    /// Whether the code at `phys` is rewritten so often that compiling it is lost work.
    fn is_restless(&self, phys: u64) -> bool {
        let times = self.rewritten.get(&phys);
        !self.patient && times.is_some_and(|&times| times >= RESTLESS)
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

impl Block {
    /// Its host code is gone: its uses are counted again.
    pub(crate) fn cool_down(&mut self) {
        if self.heat.code.take().is_some() {
            self.heat.uses = 0;
            // SAFETY: a live block has a first instruction, and none runs.
            unsafe { (*self.insns.as_mut_ptr()).fast = warm };
        }
    }
}

/// Stands before the first instruction of a block whose uses are counted.
fn warm(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    // SAFETY: the block that runs is live, and only its first instruction has this handler.
    let block = unsafe { &mut *v.current };
    let own = block.heat.own.unwrap_or(chain::last);
    block.heat.uses += 1;
    if block.heat.uses < v.code.hot {
        return own(v, insn);
    }
    if v.code.is_restless(block.phys) {
        // SAFETY: a block has a first instruction, and nobody looks at its handler now.
        unsafe { (*block.insns.as_mut_ptr()).fast = own };
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
        crosses: block.crosses,
        counts: [Feature::Bmi1, Feature::Lzcnt].map(|feature| v.model.has(feature)),
        identity: v.current.expose_provenance(),
    };
    let compiled = match v.code.recompiler.as_mut() {
        Some(recompiler) => recompiler.compile(view),
        None => Compiled::Never,
    };
    let handler = match compiled {
        Compiled::Code(code) => {
            block.heat.code = Some(code);
            enter
        }
        Compiled::Never => own,
        Compiled::Full => {
            block.heat.uses = 0;
            v.code.host_full = true;
            v.attention |= attention::GRAVEYARD;
            return own(v, insn);
        }
    };
    // Through a raw pointer, as `insn` is that very instruction.
    // SAFETY: a block has a first instruction, and nobody looks at its handler now.
    unsafe { (*block.insns.as_mut_ptr()).fast = handler };
    handler(v, insn)
}

/// Stands before the first instruction of a block with host code: runs that, and what follows, with all accounts.
fn enter(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    // SAFETY: the block that runs is live.
    let Some(code) = (unsafe { (*v.current).heat.code }) else {
        unreachable!("a block with this handler has host code");
    };
    let ip = v.cpu.regs[Reg::RIP];
    let mut host = v.host.take().unwrap_or_else(HostState::new);
    let Some(recompiler) = v.code.recompiler.as_mut() else {
        unreachable!("there is no host code without a recompiler");
    };
    let (trampoline, base) = recompiler.trampoline();
    let epoch = v.code.host_epoch;
    if host.epoch != epoch {
        host.epoch = epoch;
        host.jumps.fill(NO_JUMP);
        host.wanted = None;
    }
    if let Some((number, to)) = host.wanted.take()
        && to == ip
    {
        recompiler.link(number, code);
    }
    let address = base + code.0 as usize;
    if let Some(tag) = v.jumps.tag(ip) {
        host.jumps[jump_slot(ip)] = Jump {
            ip,
            tag,
            host: address,
        };
    }
    let before = v.retired;
    v.set_left(&mut host.frame, 0);
    v.hand_over(&mut host.frame);
    host.frame.page_ip = ip & !0xFFF;
    host.frame.code = base;
    host.frame.jumps = host.jumps.as_mut_ptr();
    let host = Box::into_raw(host);
    // From here on the processor is reached by this pointer alone, as `call` does too.
    let vcpu: *mut Vcpu = v;
    // SAFETY: the frame is that of the block that runs, by the contract of this module; `call`,
    // which it may call, takes processor and frame by the same raw pointers, and nobody holds a
    // reference to either meanwhile. The box is taken back once host code has left.
    let (v, host, how) = unsafe {
        (*host).frame.vcpu = vcpu;
        let how = trampoline(&raw mut (*host).frame, address);
        (&mut *vcpu, Box::from_raw(host), how)
    };
    let mut host = host;
    if let Some(panic) = host.frame.panic.take() {
        resume_unwind(*panic);
    }
    if how != LEFT {
        v.take_over(&host.frame);
        v.retired = host.frame.retired();
        let next = host.frame.next_ip & v.ip_mask;
        v.set_ip(next);
        let link = (how & (STATE_IN_FRAME - 1)) as u32;
        host.wanted = link.checked_sub(1).map(|number| (number, next));
    }
    host.retired += v.retired - before;
    v.host = Some(host);
    v.current = std::ptr::null_mut();
    Err(Exception::Left)
}

// ---- for host code -----------------------------------------------------------------------------

/// What [`call`] says: go on behind the instruction; if it was the block's last and branches, at
/// [`Frame::next_ip`].
pub const GO_ON: u64 = 0;
/// What [`call`] says: leave, with [`LEFT`].
pub const LEAVE: u64 = 1;

/// Executes the instruction `offset` bytes from the first of the block `identity` (see
/// [`BlockView::identity`]) by its full handler. All general registers and the flags are in the
/// frame, and are again when it returns [`GO_ON`].
///
/// # Safety
/// By host code only, for the block that runs.
pub unsafe extern "C" fn call(frame: *mut Frame, identity: usize, offset: usize) -> u64 {
    // SAFETY: by the caller: nobody else holds a reference to the frame or to its processor.
    let (frame, v) = unsafe { (&mut *frame, &mut *(*frame).vcpu) };
    // Nothing unwinds through host code: `enter` goes on with it.
    let called = catch_unwind(AssertUnwindSafe(|| call_one(v, frame, identity, offset)));
    called.unwrap_or_else(|panic| leave_with(frame, panic))
}

fn leave_with(frame: &mut Frame, panic: Box<dyn Any + Send>) -> u64 {
    frame.panic = Some(Box::new(panic));
    LEAVE
}

fn call_one(v: &mut Vcpu, frame: &mut Frame, identity: usize, offset: usize) -> u64 {
    let block = std::ptr::with_exposed_provenance_mut::<Block>(identity);
    // SAFETY: the block that runs is live or dropped, but not freed, and its instructions stay.
    let (insn, count, last) = unsafe {
        let block = &*block;
        let insn = block.insns.as_ptr().byte_add(offset);
        let last = block.insns.len() == block.count as usize
            && u32::from((*insn).number) + 1 == block.count;
        (&*insn, block.count, last)
    };
    v.resume_block(frame, block);
    if let Err(exception) = v.execute(insn) {
        v.leave_block(insn, exception);
        return LEAVE;
    }
    if last {
        v.retired += u64::from(count) + std::mem::take(&mut v.extra_retired);
        if v.attention != 0 {
            return LEAVE;
        }
        if v.retired >= v.slice_end || !v.find_host_code(frame) {
            return LEAVE;
        }
        v.set_left(frame, 0);
        frame.next_ip = v.cpu.regs[Reg::RIP];
    } else {
        if is_cut(insn) {
            // SAFETY: an instruction follows, as this one is not the last.
            v.leave_block(
                unsafe { &*std::ptr::from_ref(insn).add(1) },
                Exception::Retry,
            );
            return LEAVE;
        }
        v.set_left(frame, count);
    }
    v.hand_over(frame);
    GO_ON
}

/// Executes the instruction `offset` bytes from the first of the block and those behind it by their full handlers, and
/// says [`LEAVE`].
///
/// # Safety
/// As for [`call`].
pub unsafe extern "C" fn finish(frame: *mut Frame, identity: usize, offset: usize) -> u64 {
    // SAFETY: by the caller, as in `call`.
    let (frame, v) = unsafe { (&mut *frame, &mut *(*frame).vcpu) };
    let called = catch_unwind(AssertUnwindSafe(|| call_rest(v, frame, identity, offset)));
    called.unwrap_or_else(|panic| leave_with(frame, panic))
}

fn call_rest(v: &mut Vcpu, frame: &mut Frame, identity: usize, offset: usize) -> u64 {
    let block = std::ptr::with_exposed_provenance_mut::<Block>(identity);
    // SAFETY: as in `call`; the instructions are read one by one, as a handler may replace those behind its own.
    let (first, count, branches) = unsafe {
        let block = &*block;
        let branches = block.insns.len() == block.count as usize;
        (block.insns.as_ptr(), block.count as usize, branches)
    };
    v.resume_block(frame, block);
    for n in offset / size_of::<Insn>()..count {
        // SAFETY: `n` is less than the count.
        let insn = unsafe { &*first.add(n) };
        if let Err(exception) = v.execute(insn) {
            v.leave_block(insn, exception);
            return LEAVE;
        }
        if n + 1 < count && is_cut(insn) {
            // SAFETY: it is not the last.
            v.leave_block(unsafe { &*first.add(n + 1) }, Exception::Retry);
            return LEAVE;
        }
        if n + 1 == count && !branches {
            let ip = v.next_ip(insn);
            v.set_ip(ip);
        }
    }
    v.retired += count as u64 + std::mem::take(&mut v.extra_retired);
    LEAVE
}

impl Vcpu {
    /// Finds the block at the instruction pointer, as the run loop would do next, and notes its
    /// host code where host code looks for it. Returns whether there is some. A fault is left to
    /// the run loop, which will meet it again.
    fn find_host_code(&mut self, frame: &mut Frame) -> bool {
        let Ok(block) = self.find_block() else {
            return false;
        };
        let ip = self.cpu.regs[Reg::RIP];
        // SAFETY: the block was found just now.
        let code = unsafe { (*block).heat.code };
        let (Some(code), Some(tag)) = (code, self.jumps.tag(ip)) else {
            return false;
        };
        // SAFETY: the list is not touched by others while host code runs, and the slot is in it.
        unsafe {
            *frame.jumps.add(jump_slot(ip)) = Jump {
                ip,
                tag,
                host: frame.code + code.0 as usize,
            };
        }
        true
    }

    /// Takes over within `block`, as its handlers expect to be called.
    fn resume_block(&mut self, frame: &mut Frame, block: *mut Block) {
        // SAFETY: the block that runs is live or dropped, but not freed.
        let (count, key, phys) = unsafe { ((*block).count, (*block).key, (*block).phys) };
        frame.calls += 1;
        self.take_over(frame);
        self.retired = frame.retired() - u64::from(count);
        let mask = if key & 3 == 2 { !0 } else { 0xFFFF_FFFF };
        self.set_ip((frame.page_ip | phys & 0xFFF) & mask);
        self.current = block;
    }
}

/// Whether the block that runs ends behind `insn`, which is not its last, because it was cut or dropped there.
fn is_cut(insn: &Insn) -> bool {
    // SAFETY: by the caller there is a next instruction, or what stands behind the last one.
    let next = unsafe { &*std::ptr::from_ref(insn).add(1) };
    std::ptr::fn_addr_eq(next.fast, chain::retry as ExecFn)
}

/// Where things are, for emitted code. Offsets are from the [`Vcpu`], in bytes.
pub mod layout {
    use std::mem::offset_of;

    use crate::cpu::Cpu;
    use crate::insn::Insn;
    use crate::mmu::tlb::{Direct, ENTRIES};
    use crate::vcpu::Vcpu;

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
    /// Within a TLB entry: the tags for reading and writing, the addend.
    pub const TLB_FIELDS: [usize; 3] = [
        offset_of!(Direct, read),
        offset_of!(Direct, write),
        offset_of!(Direct, addend),
    ];
    /// Bytes in an instruction.
    pub const INSN: usize = size_of::<Insn>();
}

#[cfg(test)]
mod tests {
    use super::layout::*;
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!(SEG_BASE, 296);
        assert_eq!(VECTORS % 64, 0);
        assert_eq!((TLB_SIZE, TLB_ENTRY, TLB_FIELDS), (1024, 32, [0, 8, 16]));
        assert_eq!(INSN, 64);
        assert_eq!(offset_of!(Frame, left), 0);
        assert_eq!(offset_of!(Frame, regs), 192);
        assert_eq!(size_of::<Jump>(), 32);
        assert_eq!(offset_of!(HostState, frame) % 64, 0);
    }

    #[test]
    fn flags_go_to_the_frame_and_back() {
        let mut v = Vcpu::new(crate::cpuid::CpuModel::by_name("max").expect("the model is there"));
        let mut state = HostState::new();
        for flags in 0..0x1000_u64 {
            let flags = flags & bits::ARITH | bits::FIXED;
            v.cpu.rflags = flags;
            v.hand_over(&mut state.frame);
            v.cpu.rflags = bits::FIXED;
            v.take_over(&state.frame);
            assert_eq!(v.cpu.rflags, flags);
        }
    }

    #[test]
    fn what_is_left_tells_the_count_with_the_bias_too() {
        let mut v = Vcpu::new(crate::cpuid::CpuModel::by_name("max").expect("the model is there"));
        let mut state = HostState::new();
        for (end, attention) in [(1000, 0), (90, 1), (u64::MAX, 0), (u64::MAX, 3)] {
            (v.retired, v.slice_end, v.attention) = (100, end, attention);
            v.set_left(&mut state.frame, 7);
            assert_eq!(state.frame.retired(), 107);
            assert_eq!(state.frame.left < 0, attention != 0 || end < 107);
        }
    }
}
