//! The buffer with its blocks and their links, and the way into host code and out of it.

use std::collections::HashMap;
use std::mem::offset_of;

use iced_x86::Encoder;
use platform::HostCodeMemory;
use x86::recompiler::{
    BlockView, Compiled, Frame, HostCode, Recompiler, STATE_IN_FRAME, Trampoline, call, finish,
    layout,
};

use crate::asm::reg::{R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RSI, RSP};
use crate::asm::{Asm, Cond, Mem, at};
use crate::block::{Common, HOST, Translator, slot};

/// The buffer's size; the host gives pages as they are used.
const BYTES: usize = 96 << 20;
/// A block never has more code than this.
const MOST: usize = 64 << 10;

/// A place from which one block leads to another.
struct Link {
    at: u32,
    stub: u32,
    /// Page and mode of its block; the block's start.
    page: (u64, u32),
    from: u32,
    /// Where it leads, if not to its stub.
    to: Option<u32>,
}

struct Block {
    page: (u64, u32),
    crosses: bool,
    gone: u32,
    /// Links of its own.
    first_link: u32,
    links: u32,
    /// Links that lead here.
    incoming: Vec<u32>,
}

/// Blocks of guest code as host code.
pub struct Jit {
    memory: HostCodeMemory,
    used: usize,
    start: usize,
    enter: usize,
    common: Common,
    blocks: HashMap<u32, Block>,
    links: Vec<Link>,
    compiled: u64,
    scratch: Vec<u8>,
    encoder: Encoder,
}

const VECTORS_AWAY: i32 = offset_of!(Frame, vectors_away) as i32;
const HOST_MXCSR: i32 = offset_of!(Frame, host_mxcsr) as i32;

/// A guest's vector register in the processor at `vcpu`.
fn vector(vcpu: u8, number: u8) -> Mem {
    at(vcpu, layout::VECTORS as i32 + 64 * i32::from(number))
}

/// Puts the vector registers back into the processor, if they are in the host's own. The frame is `above` the stack
/// pointer. RCX and the flags are lost.
fn put_vectors(asm: &mut Asm, above: i32) {
    // cmp dword vectors_away, 0
    asm.rm(false, &[0x83], 7, at(RSP, VECTORS_AWAY + above));
    asm.bytes(&[0]);
    let away = asm.jcc_ahead(Cond::NE);
    asm.load(RCX, at(RSP, offset_of!(Frame, vcpu) as i32 + above));
    for n in 0..16 {
        asm.rm(false, &[0x0F, 0x29], n, vector(RCX, n));
    }
    // stmxcsr mxcsr; ldmxcsr host_mxcsr
    asm.rm(false, &[0x0F, 0xAE], 3, at(RCX, layout::MXCSR as i32));
    asm.rm(false, &[0x0F, 0xAE], 2, at(RSP, HOST_MXCSR + above));
    asm.constant(RCX, 1);
    asm.store32(at(RSP, VECTORS_AWAY + above), RCX);
    asm.aim(away);
}

impl Jit {
    /// An empty buffer.
    ///
    /// # Errors
    /// Why this host cannot have one.
    pub fn new() -> Result<Self, &'static str> {
        if !std::is_x86_feature_detected!("bmi2") {
            return Err("the recompiler needs a host processor with BMI2");
        }
        let memory = HostCodeMemory::new(BYTES)
            .ok_or("this host gives no memory for code that a program makes")?;
        let mut jit = Self {
            memory,
            used: 0,
            start: 0,
            enter: 0,
            common: Common::default(),
            blocks: HashMap::new(),
            links: Vec::new(),
            compiled: 0,
            scratch: Vec::new(),
            encoder: Encoder::new(64),
        };
        jit.emit_common();
        Ok(jit)
    }

    /// The way in and out, and the call of a handler: once for all blocks.
    fn emit_common(&mut self) {
        let mut asm = Asm {
            code: Vec::new(),
            origin: 0,
        };
        let host_sp = offset_of!(Frame, host_sp) as i32;
        let tlb = offset_of!(Frame, tlb) as i32;
        let next_ip = offset_of!(Frame, next_ip) as i32;
        let page_ip = offset_of!(Frame, page_ip) as i32;
        let pinned = || {
            HOST.iter()
                .enumerate()
                .filter_map(|(guest, host)| host.map(|host| (slot(guest).disp, host)))
        };
        const SAVED: [u8; 6] = [RBX, RBP, R12, R13, R14, R15];

        // enter(RDI: frame, RSI: where)
        self.enter = asm.here();
        for saved in SAVED {
            asm.rex_push(saved);
        }
        asm.alu(true, 5, RSP, 8);
        asm.store(at(RDI, host_sp), RSP);
        asm.mov(RAX, RSI);
        asm.mov(RSP, RDI);
        for (offset, host) in pinned() {
            asm.load(host, at(RSP, offset));
        }
        asm.load(RBP, at(RSP, tlb));
        // jmp rax
        asm.bytes(&[0xFF, 0xE0]);

        // out: RAX is what the caller gets.
        let out = asm.here();
        asm.load(RSP, at(RSP, host_sp));
        asm.alu(true, 0, RSP, 8);
        for saved in SAVED.iter().rev() {
            asm.rex_pop(*saved);
        }
        asm.bytes(&[0xC3]);

        self.common.exit_at = asm.here();
        asm.store(at(RSP, next_ip), RAX);
        asm.constant(RAX, STATE_IN_FRAME);
        let store = asm.jmp_ahead();
        self.common.exit = asm.here();
        asm.rm(true, &[0x03], RCX, at(RSP, page_ip));
        asm.store(at(RSP, next_ip), RCX);
        asm.constant(RCX, STATE_IN_FRAME);
        // or rax, rcx
        asm.rr(true, &[0x0B], RAX, RCX);
        asm.aim(store);
        put_vectors(&mut asm, 0);
        for (offset, host) in pinned() {
            asm.store(at(RSP, offset), host);
        }
        asm.jmp(out);

        type Helper = unsafe extern "C" fn(*mut Frame, usize, usize) -> u64;
        let mut helper = |helper: Helper| {
            // The return address is below the frame.
            let start = asm.here();
            put_vectors(&mut asm, 8);
            for (offset, host) in pinned() {
                asm.store(at(RSP, offset + 8), host);
            }
            asm.lea(true, RDI, at(RSP, 8));
            asm.mov(RSI, RAX);
            asm.mov(RBX, RSP);
            asm.load(RSP, at(RSP, host_sp + 8));
            asm.constant(RAX, helper as usize as u64);
            // call rax
            asm.bytes(&[0xFF, 0xD0]);
            asm.mov(RSP, RBX);
            // test rax, rax
            asm.rr(true, &[0x85], RAX, RAX);
            let leave = asm.jcc_ahead(Cond::NE);
            for (offset, host) in pinned() {
                asm.load(host, at(RSP, offset + 8));
            }
            asm.load(RBP, at(RSP, tlb + 8));
            asm.bytes(&[0xC3]);
            asm.aim(leave);
            asm.alu(true, 0, RSP, 8);
            asm.constant(RAX, 0);
            asm.jmp(out);
            start
        };
        self.common.slow = helper(call);
        self.common.finish = helper(finish);

        self.common.fetch_vectors = asm.here();
        let (vcpu, away) = (offset_of!(Frame, vcpu) as i32 + 8, VECTORS_AWAY + 8);
        asm.load(RAX, at(RSP, vcpu));
        // stmxcsr host_mxcsr; ldmxcsr mxcsr
        asm.rm(false, &[0x0F, 0xAE], 3, at(RSP, HOST_MXCSR + 8));
        asm.rm(false, &[0x0F, 0xAE], 2, at(RAX, layout::MXCSR as i32));
        for n in 0..16 {
            asm.rm(false, &[0x0F, 0x28], n, vector(RAX, n));
        }
        asm.constant(RCX, 0);
        asm.store32(at(RSP, away), RCX);
        asm.bytes(&[0xC3]);

        self.memory.write(0, &asm.code);
        self.start = asm.code.len().next_multiple_of(64);
        self.used = self.start;
    }

    /// Aims the jump whose displacement is `place` bytes from the start.
    fn aim(&mut self, place: u32, to: u32) {
        let distance = to.wrapping_sub(place + 4);
        self.memory.write(place as usize, &distance.to_le_bytes());
    }

    /// Link `number` leads to its stub again.
    fn unlink(&mut self, number: u32) {
        let link = &mut self.links[number as usize];
        let (at, stub) = (link.at, link.stub);
        if let Some(to) = link.to.take() {
            self.aim(at, stub);
            if let Some(block) = self.blocks.get_mut(&to) {
                block.incoming.retain(|&other| other != number);
            }
        }
    }
}

impl Recompiler for Jit {
    fn compile(&mut self, block: BlockView<'_>) -> Compiled {
        // 64-bit mode, or flat segments of 32 bits.
        if !matches!(block.key & 7, 2 | 5) {
            return Compiled::Never;
        }
        let start = self.used.next_multiple_of(16);
        if start + MOST > self.memory.len() {
            return Compiled::Full;
        }
        let mut asm = Asm {
            code: std::mem::take(&mut self.scratch),
            origin: start,
        };
        asm.code.clear();
        let first_link = self.links.len() as u32;
        let translated =
            Translator::new(&mut asm, &mut self.encoder, &block, self.common, first_link)
                .translate();
        self.scratch = asm.code;
        let Some(translated) = translated.filter(|_| self.scratch.len() <= MOST) else {
            return Compiled::Never;
        };
        self.memory.write(start, &self.scratch);
        self.used = start + self.scratch.len();
        self.compiled += 1;
        let (from, page) = (start as u32, (block.phys >> 12, block.key));
        let links = translated.sites.len() as u32;
        self.links.extend(translated.sites.iter().map(|site| Link {
            at: site.at,
            stub: site.stub,
            page,
            from,
            to: None,
        }));
        self.blocks.insert(
            from,
            Block {
                page,
                crosses: block.crosses,
                gone: translated.gone,
                first_link,
                links,
                incoming: Vec::new(),
            },
        );
        Compiled::Code(HostCode(from))
    }

    fn trampoline(&self) -> (Trampoline, usize) {
        let base = self.memory.address();
        let enter = std::ptr::with_exposed_provenance::<()>(base + self.enter);
        // SAFETY: `emit_common` wrote a function of this type there.
        (
            unsafe { std::mem::transmute::<*const (), Trampoline>(enter) },
            base,
        )
    }

    fn link(&mut self, number: u32, to: HostCode) {
        let Some(link) = self.links.get(number as usize) else {
            return;
        };
        let alive = self.blocks.contains_key(&link.from);
        let (page, at) = (link.page, link.at);
        let fits = |target: &Block| target.page == page && !target.crosses;
        if !alive || !self.blocks.get(&to.0).is_some_and(fits) {
            return;
        }
        self.unlink(number);
        if let Some(target) = self.blocks.get_mut(&to.0) {
            target.incoming.push(number);
        }
        self.links[number as usize].to = Some(to.0);
        self.aim(at, to.0);
    }

    fn drop_block(&mut self, code: HostCode) {
        let Some(block) = self.blocks.remove(&code.0) else {
            return;
        };
        for number in block.incoming {
            self.links[number as usize].to = None;
            let (at, stub) = (
                self.links[number as usize].at,
                self.links[number as usize].stub,
            );
            self.aim(at, stub);
        }
        for number in block.first_link..block.first_link + block.links {
            self.unlink(number);
        }
        // Whoever remembers the block leaves at its head: a jump there, as long as what it replaces.
        let mut jump = [0xE9, 0, 0, 0, 0];
        jump[1..].copy_from_slice(&block.gone.wrapping_sub(code.0 + 5).to_le_bytes());
        self.memory.write(code.0 as usize, &jump);
    }

    fn drop_all(&mut self) {
        log::debug!(target: "jit", "all host code dropped: {} blocks, {} bytes", self.blocks.len(), self.used);
        self.blocks.clear();
        self.links.clear();
        self.memory.clear();
        self.emit_common();
    }

    fn figures(&self) -> (u64, usize) {
        (self.compiled, self.used - self.start)
    }
}
