//! From a block's plan to host code.
//!
//! | host | what |
//! |---|---|
//! | RSP | the [`Frame`] |
//! | RBP | the present bank of TLB entries |
//! | RAX, RCX, RDX | scratch; an operand in memory is `[rax + rcx]` |
//! | the others | general registers of the guest: see [`HOST`]; those that have no place are in the frame |
//!
//! **Flags.** The guest's arithmetic flags are in the host's own, or in [`Frame::flags`], or in both; what is where is
//! known at each place of a block, and between blocks they are in the frame. Looking up a TLB entry either leaves the
//! host's flags alone, or needs them nowhere.

use std::mem::offset_of;

use iced_x86::{Encoder, Instruction, Mnemonic, OpKind, Register};
use x86::Insn;
use x86::insn::flag;
use x86::recompiler::{BlockView, Frame, JUMPS, Jump, layout};

use crate::asm::reg::{
    R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP,
};
use crate::asm::{Aim, Asm, Cond, Host, Mem, at, indexed};
use crate::plan::{self, Kind, Step};

/// Where each general register of the guest is; `None`: in the frame.
pub const HOST: [Option<Host>; 16] = [
    Some(RBX), // RAX
    Some(RSI), // RCX
    Some(RDI), // RDX
    Some(R8),  // RBX
    Some(R9),  // RSP
    Some(R10), // RBP
    Some(R11), // RSI
    Some(R14), // RDI
    Some(R15), // R8
    None,      // R9
    None,      // R10
    None,      // R11
    Some(R12), // R12
    Some(R13), // R13
    None,      // R14
    None,      // R15
];

const GUEST_RAX: usize = 0;
const GUEST_RCX: usize = 1;
const GUEST_RDX: usize = 2;
const GUEST_RSP: usize = 4;
const GUEST_RBP: usize = 5;

/// The host register of a guest register that has one.
const fn host(guest: usize) -> Host {
    match HOST[guest] {
        Some(host) => host,
        None => panic!("this register has no place in the host"),
    }
}

macro_rules! frame {
    ($field:ident) => {
        at(RSP, offset_of!(Frame, $field) as i32)
    };
}

mod templates;

/// Where a register is in the frame.
pub const fn slot(guest: usize) -> Mem {
    at(RSP, (offset_of!(Frame, regs) + 8 * guest) as i32)
}

/// Routines that all blocks use, by their offsets in the buffer.
#[derive(Clone, Copy, Default)]
pub struct Common {
    /// Calls an instruction's handler: RAX the block's identity, EDX the offset of the instruction.
    /// Returns behind the call.
    pub slow: usize,
    /// Calls the handlers of an instruction and all behind it, and leaves.
    pub finish: usize,
    /// Leaves: EAX a link's number plus 1 or 0, ECX the distance from the page's start at which to go on.
    pub exit: usize,
    /// The same, RAX being the instruction pointer.
    pub exit_at: usize,
    /// Gets the vector registers into the host's own. All scratch registers are lost.
    pub fetch_vectors: usize,
}

/// A jump that may be aimed at another block.
pub struct Site {
    /// Where its displacement is.
    pub at: u32,
    /// What it leads to without a link.
    pub stub: u32,
}

/// What translating gives beside the code.
pub struct Translated {
    pub sites: Vec<Site>,
    /// Where the block leads when it must not be entered.
    pub gone: u32,
}

/// Jumps to a slow path, and what that has to do.
struct Slow {
    aims: Vec<Aim>,
    insn: usize,
    /// The flags are in the host's only.
    save: bool,
    /// The code behind wants them there.
    restore: bool,
    /// Where it goes on; `None` behind the block's last instruction.
    resume: Option<usize>,
    /// The code there wants the vector registers.
    vectors: bool,
}

/// A place where the vector registers turned out to be elsewhere, and are fetched.
struct Fetch {
    aim: Aim,
    insn: usize,
    save: bool,
    restore: bool,
    resume: usize,
}

pub struct Translator<'a> {
    asm: &'a mut Asm,
    encoder: &'a mut Encoder,
    block: &'a BlockView<'a>,
    common: Common,
    long: bool,
    /// Offset of the block in its page.
    base: i64,
    first_link: u32,
    /// The guest's flags are in the host's; in the frame.
    in_host: bool,
    in_frame: bool,
    slow: Vec<Slow>,
    fetches: Vec<Fetch>,
    /// The vector registers are in the host's own for certain.
    vectors: bool,
    /// Of the instruction at hand.
    aims: Vec<Aim>,
    saves: bool,
    exits: Vec<(Aim, i64)>,
    sites: Vec<Site>,
    failed: bool,
}

impl<'a> Translator<'a> {
    pub fn new(
        asm: &'a mut Asm,
        encoder: &'a mut Encoder,
        block: &'a BlockView<'a>,
        common: Common,
        first_link: u32,
    ) -> Self {
        Self {
            asm,
            encoder,
            block,
            common,
            long: block.key & 3 == 2,
            base: (block.phys & 0xFFF) as i64,
            first_link,
            in_host: false,
            in_frame: true,
            slow: Vec::new(),
            fetches: Vec::new(),
            vectors: false,
            aims: Vec::new(),
            saves: false,
            exits: Vec::new(),
            sites: Vec::new(),
            failed: false,
        }
    }

    /// Translates the block; `None` where there is nothing to gain.
    pub fn translate(mut self) -> Option<Translated> {
        let steps = plan::plan(
            self.block.code,
            self.block.insns,
            self.long,
            self.block.counts,
        );
        // A call costs more than a step of the interpreter.
        let calls = steps.iter().filter(|step| step.kind == Kind::Call);
        if calls.count() * 2 > steps.len() {
            return None;
        }
        // sub qword [rsp], count: as long as a jump, which is put here when the block is gone.
        self.asm
            .bytes(&[0x48, 0x83, 0x2C, 0x24, self.block.insns.len() as u8]);
        let out = self.asm.jcc_ahead(Cond::S);
        let last = steps.len() - 1;
        for (n, step) in steps.iter().enumerate() {
            if n == last && self.block.branches {
                self.last(n, step);
            } else {
                self.one(n, step);
            }
        }
        if !self.block.branches {
            self.save_flags();
            let next = self.base + self.block.code.len() as i64;
            self.go_on(None, next, None);
        }
        self.vector_paths();
        let tail = self.slow_paths();
        if let Some(aims) = tail {
            for aim in aims {
                self.asm.aim(aim);
            }
            self.asm.load(RAX, frame!(next_ip));
            let misses = self.find_jump();
            self.enter_jump();
            for miss in misses {
                self.asm.aim(miss);
            }
            self.asm.jmp(self.common.exit_at);
        }
        for (aim, offset) in std::mem::take(&mut self.exits) {
            let stub = self.asm.here();
            self.asm.aim(aim);
            self.sites.push(Site {
                at: self.asm.place(aim) as u32,
                stub: stub as u32,
            });
            let number = self.first_link + self.sites.len() as u32;
            self.asm.constant(RAX, number.into());
            self.asm.constant(RCX, offset as u64);
            self.asm.jmp(self.common.exit);
        }
        // There is not enough left: what was taken off is given back.
        self.asm.aim(out);
        self.asm
            .bytes(&[0x48, 0x83, 0x04, 0x24, self.block.insns.len() as u8]);
        let gone = self.asm.here();
        self.asm.constant(RAX, 0);
        self.asm.constant(RCX, self.base as u64);
        self.asm.jmp(self.common.exit);
        (!self.failed).then_some(Translated {
            sites: self.sites,
            gone: gone as u32,
        })
    }

    fn insn(&self, n: usize) -> &'a Insn {
        &self.block.insns[n]
    }

    // ---- flags ---------------------------------------------------------------------------------

    /// The flags are in the frame behind this. RAX is lost where they were not.
    fn save_flags(&mut self) {
        if self.in_host && !self.in_frame {
            self.emit_save();
            self.in_frame = true;
        }
    }

    fn emit_save(&mut self) {
        // lahf; seto al; mov [rsp + flags], ax
        self.asm.bytes(&[0x9F, 0x0F, 0x90, 0xC0]);
        self.store_saved();
    }

    /// Stores AX as the saved flags.
    fn store_saved(&mut self) {
        self.asm.bytes(&[0x66]);
        self.asm.rm(false, &[0x89], RAX, frame!(flags));
    }

    fn emit_restore(&mut self) {
        self.asm.rm(false, &[0x0F, 0xB7], RAX, frame!(flags));
        // add al, 7Fh: overflows if OF was set; sahf.
        self.asm.bytes(&[0x04, 0x7F, 0x9E]);
    }

    /// The flags are in the host's behind this. RAX may be lost.
    fn want_flags(&mut self) {
        if !self.in_host {
            self.emit_restore();
            self.in_host = true;
        }
    }

    /// The flags in the frame hold; the host's are lost.
    fn only_in_frame(&mut self) {
        self.in_host = false;
        self.in_frame = true;
    }

    /// The instruction at hand has set the host's flags.
    fn only_in_host(&mut self) {
        self.in_host = true;
        self.in_frame = false;
    }

    /// Nobody will ask for the flags before they are set anew.
    fn nowhere(&mut self) {
        self.in_host = false;
        self.in_frame = false;
    }

    // ---- memory --------------------------------------------------------------------------------

    /// Puts the linear address of the memory operand into RAX. Leaves the flags.
    fn address(&mut self, insn: &Insn) {
        let wide = insn.addr_mask == !0;
        let disp = if wide {
            i32::try_from(insn.disp as i64).ok()
        } else {
            Some(insn.disp as u32 as i32)
        };
        let part = |this: &mut Self, guest: u8, scratch: Host| match HOST[usize::from(guest)] {
            Some(host) => host,
            None => {
                this.asm.load(scratch, slot(guest.into()));
                scratch
            }
        };
        const ZERO: u8 = x86::Reg::ZERO as u8;
        const RIP: u8 = x86::Reg::RIP as u8;
        match (insn.base, insn.index, disp) {
            (RIP, ZERO, _) => {
                // Relative to the block's start.
                let Ok(disp) = i32::try_from(self.base + insn.disp as i64) else {
                    self.failed = true;
                    return;
                };
                self.asm.load(RAX, frame!(page_ip));
                self.asm.lea(wide, RAX, at(RAX, disp));
            }
            (ZERO, ZERO, _) => {
                let value = if wide {
                    insn.disp
                } else {
                    insn.disp & 0xFFFF_FFFF
                };
                self.asm.constant(RAX, value);
            }
            (base, ZERO, Some(disp)) if base < 16 => {
                let base = part(self, base, RAX);
                self.asm.lea(wide, RAX, at(base, disp));
            }
            (ZERO, index, Some(disp)) if index < 16 => {
                let index = part(self, index, RCX);
                let place = Mem {
                    base: None,
                    index: Some((index, insn.scale)),
                    disp,
                };
                self.asm.lea(wide, RAX, place);
            }
            (base, index, Some(disp)) if base < 16 && index < 16 => {
                let base = part(self, base, RAX);
                let index = part(self, index, RCX);
                self.asm
                    .lea(wide, RAX, indexed(base, index, insn.scale, disp));
            }
            _ => self.failed = true,
        }
    }

    /// The same, with the segment's base.
    fn linear(&mut self, insn: &Insn) {
        self.address(insn);
        let seg = usize::from(insn.seg);
        if seg != x86::SegmentRegister::FLAT {
            if insn.has(flag::SEG_CHECK) {
                // FS or GS: movzx ecx, byte barred.
                let barred = offset_of!(Frame, barred) + seg - x86::SegmentRegister::FS;
                self.asm
                    .rm(false, &[0x0F, 0xB6], RCX, at(RSP, barred as i32));
                self.slow_unless_zero();
            }
            self.asm.load(RCX, frame!(vcpu));
            let base = at(RCX, (layout::SEG_BASE + 8 * seg) as i32);
            self.asm.load(RCX, base);
            self.asm.lea(self.long, RAX, indexed(RAX, RCX, 0, 0));
        }
    }

    /// Takes the slow path unless RCX is 0. Leaves the flags.
    fn slow_unless_zero(&mut self) {
        let zero = self.asm.jrcxz_ahead();
        let aim = self.asm.jmp_ahead();
        self.aims.push(aim);
        self.asm.aim_short(zero);
        self.saves |= self.in_host && !self.in_frame;
    }

    /// Finds where `size` bytes at the linear address in RAX are: `[rax + rcx]` behind this, where the slow path was
    /// not taken. RDX is lost.
    fn probe(&mut self, step: &Step, size: u64, write: bool) {
        let tag = layout::TLB_FIELDS[usize::from(write)] as i32;
        let addend = layout::TLB_FIELDS[2] as i32;
        if self.in_host
            && !self.in_frame
            && !step.reads
            && !step.read_after
            && step.accesses_after > 1
        {
            // Several such accesses: saved once, all of them are cheaper. A slow path that was
            // taken before this saves the same.
            self.asm.mov(RDX, RAX);
            self.save_flags();
            self.asm.mov(RAX, RDX);
        }
        let keep = self.in_host && (!self.in_frame || step.reads || step.read_after);
        if keep {
            self.asm.pext(RDX, RAX, frame!(index_mask));
            self.asm.lea(
                true,
                RDX,
                Mem {
                    base: None,
                    index: Some((RDX, 3)),
                    disp: 0,
                },
            );
            self.asm.load(RCX, indexed(RBP, RDX, 2, tag));
            // not rcx; then rcx + rax + size is the last byte's distance from the tag.
            self.asm.bytes(&[0x48, 0xF7, 0xD1]);
            self.asm.lea(true, RCX, indexed(RCX, RAX, 0, size as i32));
            self.asm.pext(RCX, RCX, frame!(high_mask));
            self.slow_unless_zero();
            self.asm.load(RCX, indexed(RBP, RDX, 2, addend));
        } else {
            self.in_host = false;
            self.asm.mov32(RCX, RAX);
            self.asm.shift(false, 5, RCX, 7);
            self.asm
                .alu(false, 4, RCX, (layout::TLB_SIZE as i32 - 1) << 5);
            if size > 1 {
                self.asm.lea(true, RDX, at(RAX, size as i32 - 1));
            } else {
                self.asm.mov(RDX, RAX);
            }
            self.asm.alu(true, 4, RDX, -4096);
            self.asm.rm(true, &[0x3B], RDX, indexed(RBP, RCX, 0, tag));
            let aim = self.asm.jcc_ahead(Cond::NE);
            self.aims.push(aim);
            self.asm.load(RCX, indexed(RBP, RCX, 0, addend));
        }
    }

    /// What must hold before an instruction with a slow path begins.
    fn begin(&mut self, step: &Step) {
        debug_assert!(self.aims.is_empty());
        self.saves = false;
        if step.reads {
            self.want_flags();
        }
    }

    /// The instruction is done: its slow path comes back here.
    fn done(&mut self, n: usize) {
        if !self.aims.is_empty() {
            self.slow.push(Slow {
                aims: std::mem::take(&mut self.aims),
                insn: n,
                save: self.saves,
                restore: self.in_host,
                resume: Some(self.asm.here()),
                vectors: self.vectors,
            });
        }
    }

    /// Calls the handler of instruction `n`.
    fn emit_call(&mut self, n: usize) {
        self.asm.constant(RAX, self.block.identity as u64);
        self.asm.constant(RDX, (n * layout::INSN) as u64);
        self.asm.call(self.common.slow);
    }

    /// Fetches the vector registers, where they may be used; else the rest of the block is the interpreter's.
    fn vector_paths(&mut self) {
        for fetch in std::mem::take(&mut self.fetches) {
            self.asm.aim(fetch.aim);
            if fetch.save {
                self.emit_save();
            }
            self.asm.rm(false, &[0x8B], RCX, frame!(vectors_barred));
            let free = self.asm.jrcxz_ahead();
            self.asm.constant(RAX, self.block.identity as u64);
            self.asm.constant(RDX, (fetch.insn * layout::INSN) as u64);
            self.asm.call(self.common.finish);
            self.asm.aim_short(free);
            self.asm.call(self.common.fetch_vectors);
            if fetch.restore {
                self.emit_restore();
            }
            self.asm.jmp(fetch.resume);
        }
    }

    /// The slow paths. Gives the jumps of those that go on behind the block's last instruction.
    fn slow_paths(&mut self) -> Option<Vec<Aim>> {
        let mut tail: Option<Vec<Aim>> = None;
        let paths = std::mem::take(&mut self.slow);
        for path in paths {
            for aim in path.aims {
                self.asm.aim(aim);
            }
            if path.save {
                self.emit_save();
            }
            self.emit_call(path.insn);
            if path.vectors {
                // What was there a moment ago may be again: the handler has left everything as it
                // was, or host code has left.
                self.asm.call(self.common.fetch_vectors);
            }
            if path.restore {
                self.emit_restore();
            }
            match path.resume {
                Some(resume) => self.asm.jmp(resume),
                None => {
                    let aim = self.asm.jmp_ahead();
                    tail.get_or_insert_default().push(aim);
                }
            }
        }
        tail
    }

    // ---- registers -----------------------------------------------------------------------------

    /// A host register that holds guest register `guest`: its own, or `scratch` with a copy.
    fn get(&mut self, guest: usize, scratch: Host) -> Host {
        match HOST[guest] {
            Some(host) => host,
            None => {
                self.asm.load(scratch, slot(guest));
                scratch
            }
        }
    }

    /// Where guest register `guest` is to be put together: its own host register, or `scratch`.
    fn target(&self, guest: usize, scratch: Host) -> Host {
        HOST[guest].unwrap_or(scratch)
    }

    /// Stores what [`target`](Self::target) gave, if it was a scratch register.
    fn put(&mut self, guest: usize, from: Host) {
        if HOST[guest].is_none() {
            self.asm.store(slot(guest), from);
        }
    }

    /// Loads or moves a value of `wide` bits from guest register `guest`.
    fn copy(&mut self, wide: bool, to: Host, guest: usize) {
        let from = self.get(guest, to);
        if wide {
            self.asm.mov(to, from);
        } else {
            self.asm.mov32(to, from);
        }
    }

    // ---- branches ------------------------------------------------------------------------------

    /// Looks up the instruction pointer in RAX: behind this RCX is its entry. Gives the jumps to be
    /// taken where there is none.
    fn find_jump(&mut self) -> Vec<Aim> {
        self.asm.mov32(RCX, RAX);
        self.asm.shift(false, 5, RCX, 12);
        self.asm.rr(false, &[0x33], RCX, RAX);
        self.asm.alu(false, 4, RCX, JUMPS as i32 - 1);
        self.asm.shift(false, 4, RCX, 5);
        self.asm.rm(true, &[0x03], RCX, frame!(jumps));
        self.asm
            .rm(true, &[0x3B], RAX, at(RCX, offset_of!(Jump, ip) as i32));
        let other = self.asm.jcc_ahead(Cond::NE);
        self.asm.load(RDX, at(RCX, offset_of!(Jump, tag) as i32));
        let tags = offset_of!(Frame, tags) as i32;
        self.asm.rm(true, &[0x3B], RDX, at(RSP, tags));
        let found = self.asm.jcc_ahead(Cond::E);
        self.asm.rm(true, &[0x3B], RDX, at(RSP, tags + 8));
        let stale = self.asm.jcc_ahead(Cond::NE);
        self.asm.aim(found);
        vec![other, stale]
    }

    /// Goes to the entry that [`find_jump`](Self::find_jump) found.
    fn enter_jump(&mut self) {
        self.asm.alu(true, 4, RAX, -4096);
        self.asm.store(frame!(page_ip), RAX);
        // jmp [rcx + host]
        self.asm
            .rm(false, &[0xFF], 4, at(RCX, offset_of!(Jump, host) as i32));
    }

    /// Puts the instruction pointer `offset` bytes from the page's start into RAX.
    fn pointer(&mut self, to: Host, offset: i64) {
        let Ok(offset) = i32::try_from(offset) else {
            self.failed = true;
            return;
        };
        self.asm.load(to, frame!(page_ip));
        self.asm.lea(self.long, to, at(to, offset));
    }

    /// Whether a jump to `offset` from the page's start stays in it.
    fn is_near(&self, offset: i64) -> bool {
        (0..4096).contains(&offset) && !self.block.crosses
    }

    /// Goes to `offset` from the page's start, under a condition or always; the flags are in the frame. Where there
    /// is no host code the slow path of instruction `n` is taken, or host code leaves.
    fn go_on(&mut self, cond: Option<Cond>, offset: i64, n: Option<usize>) {
        if self.is_near(offset) {
            let aim = match cond {
                Some(cond) => self.asm.jcc_ahead(cond),
                None => self.asm.jmp_ahead(),
            };
            self.exits.push((aim, offset));
            return;
        }
        let over = cond.map(|cond| self.asm.jcc_ahead(Cond(cond.0 ^ 1)));
        self.pointer(RAX, offset);
        let misses = self.find_jump();
        self.enter_jump();
        match n {
            Some(n) => self.slow.push(Slow {
                aims: misses,
                insn: n,
                save: false,
                restore: false,
                resume: None,
                vectors: false,
            }),
            None => {
                for miss in misses {
                    self.asm.aim(miss);
                }
                self.asm.jmp(self.common.exit_at);
            }
        }
        if let Some(over) = over {
            self.asm.aim(over);
        }
    }

    /// Offset of a near branch's target from the page's start.
    fn destination(&self, insn: &Insn) -> i64 {
        let relative = if self.long {
            insn.imm as i64
        } else {
            i64::from(insn.imm as u32 as i32)
        };
        self.base + relative
    }

    /// The last instruction of a block, which branches.
    fn last(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let next = self.base + i64::from(insn.end);
        if step.kind != Kind::JumpIf {
            self.save_flags();
            self.in_host = false;
        }
        match step.kind {
            Kind::JumpIf => {
                self.want_flags();
                self.save_flags();
                let cond = Cond(insn.imm2 as u8 & 15);
                let to = self.destination(insn);
                self.go_on(Some(cond), to, Some(n));
                self.go_on(None, next, Some(n));
            }
            Kind::Jump => {
                let to = self.destination(insn);
                self.go_on(None, to, Some(n));
            }
            Kind::JumpTo => {
                self.branch_target(n, step);
                let misses = self.find_jump();
                self.aims.extend(misses);
                self.enter_jump();
            }
            Kind::Return => {
                self.asm.lea(self.long, RAX, at(host(GUEST_RSP), 0));
                self.probe(step, self.word(), false);
                self.load_word(RAX);
                let misses = self.find_jump();
                self.aims.extend(misses);
                let drops = if step.iced.op_count() > 0 {
                    (insn.imm & 0xFFFF) as i32
                } else {
                    0
                };
                self.move_sp(self.word() as i32 + drops);
                self.enter_jump();
            }
            Kind::CallNear => {
                let to = self.destination(insn);
                let near = self.is_near(to);
                if !near {
                    self.pointer(RAX, to);
                    self.find_callee();
                }
                self.push_return(step, next);
                if near {
                    self.go_on(None, to, Some(n));
                } else {
                    self.enter_callee();
                }
            }
            Kind::CallTo => {
                self.branch_target(n, step);
                self.find_callee();
                self.push_return(step, next);
                self.enter_callee();
            }
            _ => {
                self.emit_call(n);
                self.asm.load(RAX, frame!(next_ip));
                let misses = self.find_jump();
                self.enter_jump();
                for miss in misses {
                    self.asm.aim(miss);
                }
                self.asm.jmp(self.common.exit_at);
            }
        }
        if !self.aims.is_empty() {
            self.slow.push(Slow {
                aims: std::mem::take(&mut self.aims),
                insn: n,
                save: false,
                restore: false,
                resume: None,
                vectors: false,
            });
        }
    }

    /// Puts the target of an indirect branch into RAX.
    fn branch_target(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        if step.memory != 0 {
            self.linear(insn);
            self.probe(step, self.word(), false);
            self.load_word(RAX);
        } else {
            self.copy(self.long, RAX, insn.r[0].into());
        }
    }

    /// Looks up a call's target, in RAX, before anything is pushed.
    fn find_callee(&mut self) {
        let misses = self.find_jump();
        self.aims.extend(misses);
        self.asm.load(RDX, at(RCX, offset_of!(Jump, host) as i32));
        self.asm.store(frame!(scratch), RDX);
        self.asm.alu(true, 4, RAX, -4096);
        self.asm.store(frame!(next_ip), RAX);
    }

    fn push_return(&mut self, step: &Step, next: i64) {
        self.push_address();
        self.probe(step, self.word(), true);
        self.pointer(RDX, next);
        self.store_word(RDX);
        self.move_sp(-(self.word() as i32));
    }

    fn enter_callee(&mut self) {
        self.asm.load(RAX, frame!(next_ip));
        self.asm.store(frame!(page_ip), RAX);
        // jmp [rsp + scratch]
        self.asm.rm(false, &[0xFF], 4, frame!(scratch));
    }
}

/// Bits 8 to 15 of a host register that has them by themselves.
fn high_byte(number: Host) -> Option<Register> {
    match number {
        RAX => Some(Register::AH),
        RCX => Some(Register::CH),
        RDX => Some(Register::DH),
        RBX => Some(Register::BH),
        _ => None,
    }
}

/// The host register `number` as one of `size` bytes.
fn register(number: Host, size: usize) -> Register {
    use Register::*;
    const BYTES: [Register; 16] = [
        AL, CL, DL, BL, SPL, BPL, SIL, DIL, R8L, R9L, R10L, R11L, R12L, R13L, R14L, R15L,
    ];
    const WORDS: [Register; 16] = [
        AX, CX, DX, BX, SP, BP, SI, DI, R8W, R9W, R10W, R11W, R12W, R13W, R14W, R15W,
    ];
    const DOUBLES: [Register; 16] = [
        EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, R8D, R9D, R10D, R11D, R12D, R13D, R14D, R15D,
    ];
    const QUADS: [Register; 16] = [
        Register::RAX,
        Register::RCX,
        Register::RDX,
        Register::RBX,
        Register::RSP,
        Register::RBP,
        Register::RSI,
        Register::RDI,
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
        Register::R12,
        Register::R13,
        Register::R14,
        Register::R15,
    ];
    let table = match size {
        1 => BYTES,
        2 => WORDS,
        4 => DOUBLES,
        _ => QUADS,
    };
    table[usize::from(number & 15)]
}
