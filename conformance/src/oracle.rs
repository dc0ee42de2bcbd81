//! The oracle: random instructions on the interpreter and on the host's processor, and the whole state compared.
//!
//! The interpreter runs each case twice: the instruction by itself, and in the run loop, as a guest's code runs, with
//! cached blocks, fast handlers, single steps and the delivery of the exception that ends the case.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use iced_x86::{Instruction, Mnemonic, OpKind};
use platform::{Bus, Clock, DeviceId, GuestMemory, IrqLine, PhysAddr};
use x86::cpu::{Cpu, Reg, TableRegister, control};
use x86::cpuid::CpuModel;
use x86::flags::{LazyFlags, bits};
use x86::table;
use x86::{Exception, Exit, Segment, SegmentRegister, Vcpu};

use crate::generate::{Catalog, decode};
use crate::native::Native;
use crate::random::Rng;
use crate::state::{
    After, CODE, CODE_BYTES, Case, DATA, DATA_BYTES, Fault, GDT, LDT, MAX_LEN, Mode, READ_ONLY,
    REGION, SLOT, SLOT_ENTRY, SLOTS, State, WINDOWS, descriptor, fx, image_fields, little_endian,
    read_only_byte,
};
use crate::undefined;

/// RFLAGS bits that are compared: all that user mode can see, but for RF, which a fault's saved image sets.
const RFLAGS: u64 = bits::ARITH | bits::TF | bits::DF | bits::IOPL | bits::NT | bits::AC | bits::ID;
/// What 32 and 16-bit code finds in the upper halves of its registers, of which it must see nothing.
const HIDDEN: u64 = 0x5EC7_0DD5 << 32;
/// Where the interpreter's region lies in its physical memory; the same offsets.
const PHYS: u64 = 0x10_0000;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const PT: u64 = 0x4000;
const SYSTEM: u64 = 0x5000;
/// Linear address of the page with GDT, LDT and TSS.
const SYSTEM_LINEAR: u64 = 0xFFFF_8000_0000_0000;
/// In it: the IDT's 32 gates, the LDT, the TSS, the end of the handlers' stack, and the handlers, one HLT a vector.
const IDT_OFFSET: u64 = 0x200;
const LDT_OFFSET: u64 = 0x400;
const TSS_OFFSET: u64 = 0x800;
const STACK_OFFSET: u64 = 0xF00;
const HANDLERS_OFFSET: u64 = 0xF80;
const VECTORS: u64 = 32;
/// Linux's 64-bit kernel code segment.
const KERNEL_CODE: u16 = 0x10;
/// Instructions within which the run loop has to end a case.
const BUDGET: u64 = 10_000;
/// Where Linux's user half ends (TASK_SIZE_MAX).
const USER_END: u64 = 0x7FFF_FFFF_F000;
/// Differing cases that are shown, of one mnemonic and in all.
const SHOWN_EACH: u64 = 2;
const SHOWN: u64 = 60;

/// The interpreter as a place to run cases.
pub struct Interpreter {
    vcpu: Vcpu,
}

impl Interpreter {
    /// A processor at CPL 3 with the region mapped as on the host.
    ///
    /// # Errors
    /// The host refuses memory.
    pub fn new(model: CpuModel) -> Result<Self> {
        let mut memory = GuestMemory::new(2 << 20)?;
        let table = pte(PDPT, 7);
        memory.write(PhysAddr(PML4), &table);
        memory.write(PhysAddr(PML4 + 8 * 256), &table);
        memory.write(PhysAddr(PDPT), &pte(PD, 7));
        memory.write(PhysAddr(PD + 8 * (REGION >> 21)), &pte(PT, 7));
        // The supervisor's page is the first of linear 0 and of SYSTEM_LINEAR; user mode finds nothing at 0 on the
        // host, so it has tables of its own.
        memory.write(PhysAddr(PML4 + 8 * 256), &pte(0x6000, 7));
        memory.write(PhysAddr(0x6000), &pte(0x7000, 7));
        memory.write(PhysAddr(0x7000), &pte(0x8000, 7));
        memory.write(PhysAddr(0x8000), &pte(SYSTEM, 3));
        let no_execute = 1 << 63;
        for (start, len, rights) in [
            (CODE, CODE_BYTES, 0x65),
            (DATA, DATA_BYTES, 0x67 | no_execute),
            (READ_ONLY, 4096, 0x65 | no_execute),
        ] {
            for offset in (start..start + len).step_by(4096) {
                let entry = PT + 8 * ((REGION + offset) >> 12 & 0x1FF);
                memory.write(PhysAddr(entry), &pte(PHYS + offset, rights));
            }
        }
        for (n, descriptor) in GDT.iter().enumerate() {
            memory.write(PhysAddr(SYSTEM + 8 * n as u64), &descriptor.to_le_bytes());
        }
        for (n, entry) in LDT.iter().enumerate() {
            let at = SYSTEM + LDT_OFFSET + 8 * n as u64;
            memory.write(PhysAddr(at), &entry.descriptor().to_le_bytes());
        }
        for vector in 0..VECTORS {
            // An interrupt gate; user mode may use those of INT3 and INTO.
            let handler = SYSTEM_LINEAR + HANDLERS_OFFSET + vector;
            let dpl = if matches!(vector, 3 | 4) { 3 } else { 0 };
            let low = handler & 0xFFFF
                | u64::from(KERNEL_CODE) << 16
                | (0x8E | dpl << 5) << 40
                | (handler & 0xFFFF_0000) << 32;
            let gate = u128::from(low) | u128::from(handler >> 32) << 64;
            let at = SYSTEM + IDT_OFFSET + 16 * vector;
            memory.write(PhysAddr(at), &gate.to_le_bytes());
        }
        let halts = [0xF4; VECTORS as usize];
        memory.write(PhysAddr(SYSTEM + HANDLERS_OFFSET), &halts);
        let stack = SYSTEM_LINEAR + STACK_OFFSET;
        memory.write(PhysAddr(SYSTEM + TSS_OFFSET + 4), &stack.to_le_bytes());
        // The I/O bitmap's offset is beyond the limit of the TSS: user mode has no port.
        memory.write(PhysAddr(SYSTEM + TSS_OFFSET + 0x66), &[0x68, 0]);
        for n in 0..4096 {
            memory.write(PhysAddr(PHYS + READ_ONLY + n), &[read_only_byte(n)]);
        }
        memory.write(PhysAddr(PHYS + CODE), &[0xCC; CODE_BYTES as usize]);
        let mut bus = Bus::new(memory, Clock::new(1, 1));
        bus.lines.set(DeviceId(0), IrqLine::A20, true);
        let mut vcpu = Vcpu::new(model);
        vcpu.attach(Box::new(bus));
        set_up(&mut vcpu);
        Ok(Self { vcpu })
    }

    /// Runs one case. `None` where it comes back to an instruction of its own batch, so that it cannot run natively.
    pub fn run(&mut self, case: &Case, after: &mut After) -> Option<()> {
        self.load(case);
        let start = case.linear();
        let result = self.vcpu.execute_one();
        let mut fault = self.fault(result);
        if self.in_handler() {
            self.leave_handler(after);
            self.save(case, &mut after.state);
            return Some(());
        }
        // A trap after MOV SS would come at the first instruction of INT3's handler.
        let stepped = case.before.rflags & bits::TF != 0 && self.vcpu.cpu.shadow & 2 == 0;
        if result.is_ok() && stepped {
            fault.vector = 1;
        } else if result.is_ok() {
            let rip = self.vcpu.cpu.regs[Reg::RIP];
            let cpu = &self.vcpu.cpu;
            let linear = match cpu.mode() {
                x86::Mode::Long => rip,
                _ => rip.wrapping_add(cpu.segs[SegmentRegister::CS].base) & 0xFFFF_FFFF,
            };
            let in_code = (REGION + CODE..REGION + CODE + CODE_BYTES).contains(&linear);
            let within_slot = linear.wrapping_sub(REGION) % SLOT;
            let code = SLOT_ENTRY..SLOT_ENTRY + MAX_LEN as u64;
            let fell_through = linear == start + u64::from(case.len);
            if in_code && !fell_through && code.contains(&within_slot) {
                return None;
            }
            if !in_code {
                // Nothing there can be executed: the fetch tells.
                let fetch = self.vcpu.execute_one();
                fault = self.fault(fetch);
            }
        }
        let cpu = &self.vcpu.cpu;
        after.fault = fault;
        after.state.rip = cpu.regs[Reg::RIP];
        after.state.rflags = cpu.rflags();
        after.state.regs[Reg::RSP] = cpu.regs[Reg::RSP];
        after.state.segs[SegmentRegister::CS] = cpu.segs[SegmentRegister::CS].selector;
        after.state.segs[SegmentRegister::SS] = cpu.segs[SegmentRegister::SS].selector;
        self.save(case, &mut after.state);
        Some(())
    }

    /// Runs one case as a guest's code runs: from the block cache, by the fast handlers where there are some, to the
    /// handler of the exception by which it ends. Where that is not the same as what [`run`](Self::run) found, says
    /// what differs.
    pub fn run_loop_differences(&mut self, case: &Case, single: &After) -> Vec<String> {
        self.load(case);
        if case.before.rflags & bits::TF != 0 && single.fault.vector == 3 {
            // MOV SS, see above.
            return Vec::new();
        }
        let budget = self.vcpu.bus().clock.retired() + BUDGET;
        let exit = self.vcpu.run(budget);
        if exit != Exit::Halted || !self.in_handler() {
            return vec![format!("the run loop ends with {exit:?}")];
        }
        let mut after = single.clone();
        self.leave_handler(&mut after);
        self.save(case, &mut after.state);
        let (iced, _) = decode(&case.code[..case.len.into()], case);
        let theirs = undefined::own_bits(&iced);
        for (n, own) in theirs.into_iter().enumerate() {
            let reg = &mut after.state.regs[n];
            *reg = *reg & !own | single.state.regs[n] & own;
        }
        let mut found = everything(&after, single);
        if !found.is_empty() {
            found.insert(0, "the run loop differs from the single instruction".into());
        } else if single.fault.vector == 3
            && single.state.rflags & bits::TF == 0
            && single.state.rip == case.before.rip + u64::from(case.len)
            && single.state.segs[SegmentRegister::CS] == case.before.segs[SegmentRegister::CS]
        {
            found.extend(self.jump_difference(case, single));
        }
        found
    }

    /// Runs a case that goes on to the next instruction once more, with a conditional jump there
    /// instead of INT3, in the same block: what the jump makes of flags that are still lazy.
    fn jump_difference(&mut self, case: &Case, single: &After) -> Option<String> {
        /// How far the jump goes.
        const DISTANCE: u8 = 3;
        self.load(case);
        let condition = (self.vcpu.cpu.rflags >> 2 ^ case.before.regs[Reg::RDX]) as u8 & 15;
        let next = PHYS + case.linear() - REGION + u64::from(case.len);
        let jump = [0x70 | condition, DISTANCE];
        self.vcpu.bus().memory.write(PhysAddr(next), &jump);
        let budget = self.vcpu.bus().clock.retired() + BUDGET;
        self.vcpu.run(budget);
        let mut after = single.clone();
        self.leave_handler(&mut after);
        self.leave_slot(case);
        let taken = holds(condition, single.state.rflags);
        let distance = jump.len() as u64 + if taken { DISTANCE.into() } else { 0 };
        let rip = single.state.rip.wrapping_add(distance);
        (after.fault.vector != 3 || after.state.rip != rip).then(|| {
            format!(
                "J{condition:X} behind it, of rflags {:x}, ends at {:x} and not {rip:x}",
                single.state.rflags, after.state.rip
            )
        })
    }

    /// Whether an exception has been delivered.
    fn in_handler(&self) -> bool {
        self.vcpu.cpu.cpl == 0
    }

    /// Reads the frame that the delivery of an exception has pushed.
    fn leave_handler(&mut self, after: &mut After) {
        let cpu = &self.vcpu.cpu;
        let cr2 = cpu.cr2;
        let handler = cpu.regs[Reg::RIP] - SYSTEM_LINEAR - HANDLERS_OFFSET;
        // Of the run loop's handler the HLT has been executed.
        let vector = handler as u8 - u8::from(cpu.halted);
        let mut at = cpu.regs[Reg::RSP] - SYSTEM_LINEAR + SYSTEM;
        let memory = &self.vcpu.bus().memory;
        let mut pop = || {
            at += 8;
            u64::from_le_bytes(memory.read_array(PhysAddr(at - 8)))
        };
        after.fault = Fault {
            vector,
            error: if matches!(vector, 8 | 10..=14 | 17) {
                pop() as u32
            } else {
                0
            },
            cr2: if vector == 14 { cr2 } else { 0 },
        };
        let state = &mut after.state;
        state.rip = pop().wrapping_sub(u64::from(vector == 3));
        state.segs[SegmentRegister::CS] = pop() as u16;
        state.rflags = pop();
        state.regs[Reg::RSP] = pop();
        state.segs[SegmentRegister::SS] = pop() as u16;
    }

    fn fault(&self, result: Result<(), Exception>) -> Fault {
        match result {
            Ok(()) => Fault {
                vector: 3,
                ..Fault::default()
            },
            Err(exception) => Fault {
                vector: exception.vector(),
                error: exception.error_code().unwrap_or(0).into(),
                cr2: if exception.vector() == 14 {
                    self.vcpu.cpu.cr2
                } else {
                    0
                },
            },
        }
    }

    fn load(&mut self, case: &Case) {
        let state = &case.before;
        let vcpu = &mut self.vcpu;
        for (n, &selector) in state.segs.iter().enumerate() {
            let mut segment = segment(selector);
            if case.mode == Mode::Bits64 && n >= SegmentRegister::FS {
                segment.base = state.bases[n - SegmentRegister::FS];
            }
            vcpu.set_segment(n, segment);
        }
        vcpu.set_cpl(3);
        let cpu = &mut vcpu.cpu;
        cpu.halted = false;
        cpu.shadow = 0;
        cpu.pending_debug = 0;
        cpu.regs[..16].copy_from_slice(&state.regs);
        if case.mode != Mode::Bits64 {
            for reg in &mut cpu.regs[..16] {
                *reg |= HIDDEN;
            }
        }
        cpu.regs[Reg::RIP] = state.rip;
        cpu.lazy = LazyFlags::EXPLICIT;
        cpu.rflags = state.rflags;
        cpu.cr2 = 0;
        load_image(cpu, state);
        let memory = &mut vcpu.bus().memory;
        memory.write(PhysAddr(PHYS + DATA), &[0; DATA_BYTES as usize]);
        let mut start = 0;
        for (offset, len) in WINDOWS {
            memory.write(PhysAddr(PHYS + offset), &state.data[start..start + len]);
            start += len;
        }
        let mut code = [0xCC; MAX_LEN + 1];
        code[..case.len.into()].copy_from_slice(&case.code[..case.len.into()]);
        memory.write(PhysAddr(PHYS + case.linear() - REGION), &code);
        vcpu.update_mode();
    }

    /// What an exception's frame does not hold.
    fn save(&mut self, case: &Case, state: &mut State) {
        let cpu = &self.vcpu.cpu;
        for n in (0..16).filter(|&n| n != Reg::RSP) {
            state.regs[n] = cpu.regs[n];
        }
        if case.mode != Mode::Bits64 {
            for reg in &mut state.regs {
                *reg &= 0xFFFF_FFFF;
            }
        }
        for n in (0..6).filter(|&n| n != SegmentRegister::CS && n != SegmentRegister::SS) {
            state.segs[n] = cpu.segs[n].selector;
        }
        state.bases = [cpu.segs[4].base, cpu.segs[5].base];
        save_image(cpu, state);
        let memory = &self.vcpu.bus().memory;
        let mut start = 0;
        for (offset, len) in WINDOWS {
            memory.read(PhysAddr(PHYS + offset), &mut state.data[start..start + len]);
            start += len;
        }
        self.leave_slot(case);
    }

    /// Leaves no instruction behind: a branch may have ended in another slot.
    fn leave_slot(&mut self, case: &Case) {
        // A jump behind the instruction has two bytes.
        let clean = [0xCC; MAX_LEN + 2];
        let at = PHYS + case.linear() - REGION;
        self.vcpu.bus().memory.write(PhysAddr(at), &clean);
    }
}

fn pte(phys: u64, rights: u64) -> [u8; 8] {
    (phys | rights | 0x20).to_le_bytes()
}

/// Whether condition `code` of Jcc (SDM vol. 2D, table B-10) holds.
fn holds(code: u8, rflags: u64) -> bool {
    let set = |flags: u64| rflags & flags != 0;
    let less = set(bits::SF) != set(bits::OF);
    let holds = match code >> 1 {
        0 => set(bits::OF),
        1 => set(bits::CF),
        2 => set(bits::ZF),
        3 => set(bits::CF | bits::ZF),
        4 => set(bits::SF),
        5 => set(bits::PF),
        6 => less,
        _ => less || set(bits::ZF),
    };
    holds != (code & 1 != 0)
}

/// Long mode as Linux runs it.
fn set_up(vcpu: &mut Vcpu) {
    let cpu = &mut vcpu.cpu;
    cpu.cr0 = control::CR0_PE
        | control::CR0_MP
        | control::CR0_ET
        | control::CR0_NE
        | control::CR0_WP
        | control::CR0_AM
        | control::CR0_PG;
    cpu.cr3 = PML4;
    cpu.cr4 = control::CR4_DE
        | control::CR4_PSE
        | control::CR4_PAE
        | control::CR4_PGE
        | control::CR4_OSFXSR
        | control::CR4_OSXMMEXCPT
        | control::CR4_UMIP
        | control::CR4_FSGSBASE
        | control::CR4_OSXSAVE
        | control::CR4_SMEP
        | control::CR4_SMAP;
    cpu.efer = control::EFER_SCE | control::EFER_LME | control::EFER_LMA | control::EFER_NXE;
    cpu.xcr0 = 3;
    cpu.gdtr = TableRegister {
        base: SYSTEM_LINEAR,
        limit: (8 * GDT.len() - 1) as u16,
    };
    cpu.idtr = TableRegister {
        base: SYSTEM_LINEAR + IDT_OFFSET,
        limit: 16 * VECTORS as u16 - 1,
    };
    let system = |selector: u16, offset: u64, limit: u32, kind: u16| Segment {
        selector,
        base: SYSTEM_LINEAR + offset,
        limit,
        attributes: Segment::P | kind,
    };
    vcpu.set_segment(
        SegmentRegister::LDTR,
        system(0x50, LDT_OFFSET, (8 * LDT.len() - 1) as u32, 2),
    );
    vcpu.set_segment(SegmentRegister::TR, system(0x40, TSS_OFFSET, 0x67, 11));
    vcpu.set_cpl(3);
    vcpu.update_mode();
}

/// A segment register that was loaded with `selector`.
fn segment(selector: u16) -> Segment {
    if selector & !3 == 0 {
        return Segment {
            selector,
            ..Segment::default()
        };
    }
    let descriptor = descriptor(selector);
    let limit = (descriptor & 0xFFFF | descriptor >> 32 & 0xF_0000) as u32;
    let attributes = (descriptor >> 40) as u16 & 0xF0FF;
    Segment {
        selector,
        base: descriptor >> 16 & 0xFF_FFFF | descriptor >> 32 & 0xFF00_0000,
        limit: if attributes & Segment::G != 0 {
            limit << 12 | 0xFFF
        } else {
            limit
        },
        attributes,
    }
}

fn load_image(cpu: &mut Cpu, state: &State) {
    let x87 = &mut cpu.x87;
    x87.control = state.get16(fx::CONTROL);
    x87.status = state.get16(fx::STATUS);
    x87.set_abridged_tag(state.fx[fx::TAG]);
    x87.opcode = state.get16(fx::OPCODE);
    x87.instruction = (state.get64(fx::INSTRUCTION), 0);
    x87.operand = (state.get64(fx::OPERAND), 0);
    let top = usize::from(x87.status >> 11 & 7);
    for n in 0..8 {
        x87.st[(top + n) & 7] = state.st(n);
    }
    cpu.mxcsr = state.get32(fx::MXCSR);
    for n in 0..16 {
        cpu.set_xmm(n, state.xmm(n));
    }
}

fn save_image(cpu: &Cpu, state: &mut State) {
    let x87 = &cpu.x87;
    state.put16(fx::CONTROL, x87.control);
    state.put16(fx::STATUS, x87.status);
    state.put16(fx::TAG, x87.abridged_tag().into());
    state.put16(fx::OPCODE, x87.opcode);
    state.put64(fx::INSTRUCTION, x87.instruction.0);
    state.put64(fx::OPERAND, x87.operand.0);
    let top = usize::from(x87.status >> 11 & 7);
    for n in 0..8 {
        state.put_st(n, x87.st[(top + n) & 7]);
    }
    state.put32(fx::MXCSR, cpu.mxcsr);
    for n in 0..16 {
        state.put_xmm(n, cpu.xmm(n));
    }
}

// ---- comparing ---------------------------------------------------------------------------------

/// The count of a shift or rotate as the processor masks it; 0 for others.
fn shift_count(iced: &Instruction, before: &State) -> u32 {
    use Mnemonic::{Rcl, Rcr, Rol, Ror, Sal, Sar, Shl, Shld, Shr, Shrd};
    if !matches!(
        iced.mnemonic(),
        Rcl | Rcr | Rol | Ror | Sal | Sar | Shl | Shld | Shr | Shrd
    ) {
        return 0;
    }
    let last = iced.op_count() - 1;
    let count = match iced.op_kind(last) {
        OpKind::Register => before.regs[Reg::RCX] as u32,
        _ => iced.immediate(last) as u32,
    };
    let mask = if undefined::operand_bits(iced) == 64 {
        0x3F
    } else {
        0x1F
    };
    count & mask
}

/// What differs, in words; empty if nothing does that may not.
pub fn differences(case: &Case, ours: &After, host: &After) -> Vec<String> {
    let (iced, _) = decode(&case.code[..case.len.into()], case);
    let mut found = Vec::new();
    if undefined::excuse(&iced, case, ours, host).is_some() {
        return found;
    }
    let mut note = |name: &str, ours: u128, host: u128| {
        if ours != host {
            found.push(format!("{name} is {ours:x}, the host has {host:x}"));
        }
    };
    note("vector", ours.fault.vector.into(), host.fault.vector.into());
    if ours.fault.vector == host.fault.vector {
        // Linux hides from a signal handler whether anything above the user's half is mapped.
        let hidden = u32::from(ours.fault.cr2 >= USER_END);
        if ours.fault.vector != 14 || !undefined::fault_address(&iced) {
            note(
                "error code",
                (ours.fault.error | hidden).into(),
                (host.fault.error | hidden).into(),
            );
            note("cr2", ours.fault.cr2.into(), host.fault.cr2.into());
        }
    }
    let (a, b) = (&ours.state, &host.state);
    note("rip", a.rip.into(), b.rip.into());
    let mut flags = RFLAGS;
    let count = shift_count(&iced, &case.before);
    // By INT3, or by the trap of TF.
    let completed = matches!(ours.fault.vector, 1 | 3) && ours.fault.vector == host.fault.vector;
    if completed {
        flags &= !undefined::flags(&iced, count);
    }
    note(
        "rflags",
        (a.rflags & flags).into(),
        (b.rflags & flags).into(),
    );
    let free = completed && undefined::result(&iced, count);
    if !free && !undefined::registers(&iced, ours) {
        // A far transfer out of 64-bit code leaves the upper halves undefined (SDM vol. 1 §3.4.1.1); whether the old
        // or the new code's stack width counts for what it adds to the stack pointer, the manual does not say.
        let left = a.segs[1] != case.before.segs[1];
        let mask = if left { 0xFFFF_FFFF } else { !0 };
        let own = undefined::own_bits(&iced);
        for n in (0..16).filter(|&n| !(left && n == Reg::RSP)) {
            let name = crate::state::REGS[n];
            let mask = if completed { mask & !own[n] } else { mask };
            note(name, (a.regs[n] & mask).into(), (b.regs[n] & mask).into());
        }
    }
    for n in 0..6 {
        // The kernel's return to user mode makes any null selector 0 (SDM vol. 2A, IRET).
        let visible = |selector: u16| if selector & !3 == 0 { 0 } else { selector };
        let (a, b) = (visible(a.segs[n]), visible(b.segs[n]));
        note(crate::state::SEGS[n], a.into(), b.into());
    }
    if case.mode == Mode::Bits64 && a.segs[4..] == case.before.segs[4..] {
        note("fsbase", a.bases[0].into(), b.bases[0].into());
        note("gsbase", a.bases[1].into(), b.bases[1].into());
    }
    for &(ref name, at, len) in image_fields() {
        let (x, y) = (&a.fx[at..at + len], &b.fx[at..at + len]);
        if x != y && !undefined::image_field(&iced, name, ours, host) {
            note(name, little_endian(x), little_endian(y));
        }
    }
    if a.data != b.data && !free {
        let ignored = undefined::memory(&iced, case, ours.fault.vector != 3);
        let mut start = 0;
        for (at, len) in WINDOWS {
            for i in 0..len {
                let offset = at + i as u64;
                if a.data[start + i] != b.data[start + i]
                    && !ignored.iter().any(|range| range.contains(&offset))
                {
                    note(
                        &format!("[{offset:x}]"),
                        a.data[start + i].into(),
                        b.data[start + i].into(),
                    );
                }
            }
            start += len;
        }
    }
    found
}

/// All that differs between two ways of the interpreter.
fn everything(loops: &After, single: &After) -> Vec<String> {
    let (a, b) = (&loops.state, &single.state);
    if loops.fault == single.fault
        && a.regs == b.regs
        && a.rip == b.rip
        && (a.rflags ^ b.rflags) & RFLAGS == 0
        && a.segs == b.segs
        && a.bases == b.bases
        && a.fx[..fx::END] == b.fx[..fx::END]
        && a.data == b.data
    {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut note = |name: &str, a: u128, b: u128| {
        if a != b {
            found.push(format!("{name} is {a:x}, of the single instruction {b:x}"));
        }
    };
    let (a, b) = (&loops.state, &single.state);
    note(
        "vector",
        loops.fault.vector.into(),
        single.fault.vector.into(),
    );
    note(
        "error code",
        loops.fault.error.into(),
        single.fault.error.into(),
    );
    note("cr2", loops.fault.cr2.into(), single.fault.cr2.into());
    note("rip", a.rip.into(), b.rip.into());
    note(
        "rflags",
        (a.rflags & RFLAGS).into(),
        (b.rflags & RFLAGS).into(),
    );
    for (n, name) in crate::state::REGS.iter().enumerate() {
        note(name, a.regs[n].into(), b.regs[n].into());
    }
    for (n, name) in crate::state::SEGS.iter().enumerate() {
        note(name, a.segs[n].into(), b.segs[n].into());
    }
    for &(ref name, at, len) in image_fields() {
        note(
            name,
            little_endian(&a.fx[at..at + len]),
            little_endian(&b.fx[at..at + len]),
        );
    }
    if a.data != b.data {
        found.push("memory differs".into());
    }
    found
}

/// Whether nothing differs at all but what a fault or FXSAVE makes of flags and pointers: a quick look before the
/// thorough one.
fn same(ours: &After, host: &After) -> bool {
    let (a, b) = (&ours.state, &host.state);
    ours.fault == host.fault
        && a.regs == b.regs
        && a.rip == b.rip
        && (a.rflags ^ b.rflags) & RFLAGS == 0
        && a.segs == b.segs
        && a.bases == b.bases
        && a.fx[..fx::OPCODE] == b.fx[..fx::OPCODE]
        && a.get16(fx::STATUS) & 1 << 7 == 0
        && a.get32(fx::MXCSR) == b.get32(fx::MXCSR)
        && a.fx[fx::ST..fx::END] == b.fx[fx::ST..fx::END]
        && a.data == b.data
}

// ---- running -----------------------------------------------------------------------------------

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the random numbers start.
    pub seed: u64,
    /// How many cases.
    pub cases: u64,
    /// Only these mnemonics, unless empty.
    pub mnemonics: Vec<String>,
    /// The modes.
    pub modes: Vec<Mode>,
}

/// The counts of one mnemonic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Cases that ran on both.
    pub cases: u64,
    /// Of them, those that raised an exception.
    pub faults: u64,
    /// Those that differed.
    pub differences: u64,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By mnemonic.
    pub counts: BTreeMap<Mnemonic, Count>,
    /// Some differing cases, each with its replay line.
    pub shown: Vec<String>,
    /// Cases in which the host may differ from the manual, and did, by reason. They count as passed.
    pub excused: BTreeMap<&'static str, u64>,
    /// Modes that the host does not have.
    pub absent: Vec<Mode>,
}

impl Report {
    /// Cases without and with a difference.
    pub fn totals(&self) -> (u64, u64) {
        let sum = |of: fn(&Count) -> u64| self.counts.values().map(of).sum::<u64>();
        let failed = sum(|count| count.differences);
        (sum(|count| count.cases) - failed, failed)
    }
}

/// Instructions that are not run, and why.
pub fn left_out() -> impl Iterator<Item = (Mnemonic, &'static str)> {
    table::rows().filter_map(|row| {
        let reason = undefined::excluded(row.mnemonic)?;
        Some((row.mnemonic, reason))
    })
}

/// The model whose instructions are run: `max` has them all.
pub fn model() -> CpuModel {
    CpuModel::by_name("max").expect("the model `max` always exists")
}

/// Both sides.
pub struct Oracle {
    interpreter: Interpreter,
    native: Native,
    model: CpuModel,
}

impl Oracle {
    /// Sets both sides up.
    ///
    /// # Errors
    /// The host is none that can be asked.
    pub fn new() -> Result<Self> {
        let native = Native::new()?;
        let model = model();
        Ok(Self {
            interpreter: Interpreter::new(model.clone())?,
            native,
            model,
        })
    }

    /// From now on the run loop, whose results are compared with the single instruction's, has each
    /// block compiled at its first use.
    ///
    /// # Errors
    /// There is no recompiler for this host.
    pub fn recompile(&mut self) -> Result<()> {
        let recompiler = jit::recompiler().map_err(|why| anyhow::anyhow!(why))?;
        let code = self.interpreter.vcpu.code_mut();
        code.set_recompiler(recompiler);
        code.compile_after(1);
        Ok(())
    }

    /// Instructions that the run loop has retired in host code, and blocks compiled.
    pub fn host_figures(&mut self) -> (u64, u64) {
        let retired = self.interpreter.vcpu.host_figures().0;
        (retired, self.interpreter.vcpu.code_mut().host_figures().0)
    }

    /// Whether the host is one of those whose differences from the SDM are listed.
    pub fn host_is_known(&self) -> bool {
        self.native.is_amd()
    }

    /// Runs random cases.
    ///
    /// # Errors
    /// No mode or mnemonic is left to run.
    pub fn run(&mut self, options: &Options) -> Result<Report> {
        let mut report = Report::default();
        let mut catalogs = Vec::new();
        for &mode in &options.modes {
            if !self.native.has(mode) {
                report.absent.push(mode);
                continue;
            }
            let catalog = Catalog::new(mode, &self.model, &options.mnemonics, options.seed);
            if catalog.mnemonics().next().is_some() {
                catalogs.push(catalog);
            }
        }
        if catalogs.is_empty() {
            bail!("there is no instruction to run; see --mode and --mnemonic");
        }
        let mut rng = Rng::new(options.seed);
        let blank = After {
            state: State::quiet(Mode::Bits64),
            fault: Fault::default(),
        };
        let mut ours = vec![blank.clone(); SLOTS];
        let mut host = vec![blank; SLOTS];
        let mut cases = Vec::with_capacity(SLOTS);
        let mut names = Vec::with_capacity(SLOTS);
        let mut alike = Vec::with_capacity(SLOTS);
        let mut done = 0;
        while done < options.cases {
            for catalog in &catalogs {
                cases.clear();
                names.clear();
                alike.clear();
                while cases.len() < SLOTS {
                    let slot = cases.len();
                    let (case, iced) = catalog.case(&mut rng, slot);
                    if self.interpreter.run(&case, &mut ours[slot]).is_some() {
                        if let Some(reason) = undefined::endless(&iced, &case, &ours[slot]) {
                            *report.excused.entry(reason).or_default() += 1;
                            continue;
                        }
                        let other = self.interpreter.run_loop_differences(&case, &ours[slot]);
                        alike.push(other.is_empty());
                        cases.push(case);
                        names.push(iced.mnemonic());
                    }
                }
                self.native.run(&cases, &mut host);
                for (n, case) in cases.iter().enumerate() {
                    let after = (&ours[n], &host[n], alike[n]);
                    self.judge(case, names[n], after, &mut report);
                }
                done += cases.len() as u64;
            }
        }
        Ok(report)
    }

    fn judge(
        &mut self,
        case: &Case,
        mnemonic: Mnemonic,
        (ours, host, alike): (&After, &After, bool),
        report: &mut Report,
    ) {
        let count = report.counts.entry(mnemonic).or_default();
        count.cases += 1;
        count.faults += u64::from(host.fault.vector != 3);
        let shown = report.shown.len() as u64;
        if alike && same(ours, host) {
            return;
        }
        let (iced, _) = decode(&case.code[..case.len.into()], case);
        if alike && let Some(reason) = undefined::excuse(&iced, case, ours, host) {
            *report.excused.entry(reason).or_default() += 1;
            return;
        }
        if alike && differences(case, ours, host).is_empty() {
            return;
        }
        // On the host the batch's other instructions can be read: alone, a case has the code that the interpreter saw.
        if self.compare(case).is_none_or(|found| found.is_empty()) {
            return;
        }
        count.differences += 1;
        if count.differences <= SHOWN_EACH && shown < SHOWN {
            let small = self.shrink(case);
            report.shown.push(self.describe(&small));
        }
    }

    /// What a case does on both sides.
    ///
    /// # Errors
    /// The host does not have the mode.
    pub fn replay(&mut self, case: &Case) -> Result<(bool, String)> {
        if !self.native.has(case.mode) {
            bail!("this kernel has no LDT for {}-bit code", case.mode.bits());
        }
        Ok((
            self.compare(case).is_some_and(|found| found.is_empty()),
            self.describe(case),
        ))
    }

    fn compare(&mut self, case: &Case) -> Option<Vec<String>> {
        let blank = After {
            state: case.before.clone(),
            fault: Fault::default(),
        };
        let (mut ours, mut host) = (blank.clone(), blank);
        self.interpreter.run(case, &mut ours)?;
        self.native
            .run(std::slice::from_ref(case), std::slice::from_mut(&mut host));
        let mut found = differences(case, &ours, &host);
        found.extend(self.interpreter.run_loop_differences(case, &ours));
        Some(found)
    }

    fn describe(&mut self, case: &Case) -> String {
        let (iced, _) = decode(&case.code[..case.len.into()], case);
        let found = self
            .compare(case)
            .map_or("it comes back to itself".into(), |found| found.join("; "));
        format!("{case}\n    {:?}: {found}", iced.code())
    }

    /// Makes everything of the state quiet that the difference does not need.
    fn shrink(&mut self, case: &Case) -> Case {
        let quiet = State::quiet(case.mode);
        let mut small = case.clone();
        self.attempt(&mut small, |state| state.data.fill(0));
        self.attempt(&mut small, |state| state.fx = quiet.fx);
        self.attempt(&mut small, |state| state.regs = [0; 16]);
        self.attempt(&mut small, |state| state.rip = quiet.rip);
        self.attempt(&mut small, |state| state.rflags = quiet.rflags);
        for bit in 0..22 {
            self.attempt(&mut small, |state| state.rflags &= !(1 << bit) | 0x202);
        }
        for n in 0..16 {
            self.attempt(&mut small, |state| state.regs[n] = 0);
        }
        for n in 0..2 {
            self.attempt(&mut small, |state| state.bases[n] = 0);
        }
        for &(_, at, len) in image_fields() {
            self.attempt(&mut small, |state| {
                state.fx[at..at + len].copy_from_slice(&quiet.fx[at..at + len]);
            });
        }
        for block in 0..small.before.data.len() / 16 {
            self.attempt(&mut small, |state| state.data[16 * block..][..16].fill(0));
        }
        small
    }

    fn attempt(&mut self, small: &mut Case, change: impl FnOnce(&mut State)) {
        let mut smaller = small.clone();
        change(&mut smaller.before);
        if smaller.before != small.before
            && self
                .compare(&smaller)
                .is_some_and(|found| !found.is_empty())
        {
            *small = smaller;
        }
    }
}
