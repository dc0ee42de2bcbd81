//! How a processor died: the exceptions that led to a shutdown, in words.
//!
//! Beside the architectural state, and no part of it: what is noted here changes nothing that a guest can see. An
//! exception costs a few stores, an instruction nothing.

use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, Mnemonic, NasmFormatter, OpKind, Register,
};

use crate::cpu::{Mode, Segment, SegmentRegister};
use crate::ops::interrupt::Event;
use crate::vcpu::Vcpu;

/// Bytes of the longest instruction.
const LONGEST: usize = 15;

/// In place of a vector, where no exception led to the shutdown.
const SHUTDOWN: u8 = 0xFF;

/// What a table of descriptors and an error code's bits are called (SDM vol. 3A §6.13).
const ERROR_IDT: u16 = 2;
const ERROR_LDT: u16 = 4;

/// An exception, or an interrupt that could not be delivered, on the way to a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its vector.
    pub vector: u8,
    /// Its error code, for the vectors that have one.
    pub error_code: Option<u16>,
    /// Selector of the code segment that it struck.
    pub cs: u16,
    /// The instruction pointer that it struck.
    pub rip: u64,
    /// The address that a #PF is about; CR2 itself tells of the last one only.
    pub cr2: Option<u64>,
    /// The instruction there, in NASM's words.
    pub instruction: String,
    /// What it means.
    pub why: String,
}

impl Step {
    /// The exception's mnemonic, such as `#PF`; an interrupt's number.
    pub fn name(&self) -> String {
        name(self.vector)
    }
}

/// An event and where it struck.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    event: Event,
    cs: u16,
    rip: u64,
    /// Linear address of `rip`, and the address space that it is in.
    linear: u64,
    cr3: u64,
    cr2: u64,
    cpl: u8,
    mode: Mode,
}

/// What a processor remembers of its exceptions.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The exception delivered last; of those whose handler met the next one at its first instruction, the first.
    root: Option<Note>,
    /// Linear address of the handler that was entered last.
    handler: u64,
    /// How many handlers met an exception at their first instruction since `root`.
    repeats: u64,
    /// How the processor died; empty while it lives.
    steps: Vec<Step>,
}

impl Vcpu {
    /// How the processor died, from the first exception to the last; empty unless it has shut down.
    pub fn death(&self) -> &[Step] {
        &self.faults.steps
    }

    /// What `event` strikes now, before its handler is entered.
    pub(crate) fn note(&self, event: Event) -> Note {
        Note {
            event,
            cs: self.cpu.segs[SegmentRegister::CS].selector,
            rip: self.cpu.regs[crate::cpu::Reg::RIP],
            linear: self.fetch_linear(),
            cr3: self.cpu.cr3,
            cr2: self.cpu.cr2,
            cpl: self.cpu.cpl,
            mode: self.cpu.mode(),
        }
    }

    /// The handler of `note` has been entered.
    pub(crate) fn note_delivery(&mut self, note: Note) {
        if self.faults.root.is_some() && note.linear == self.faults.handler {
            self.faults.repeats += 1;
        } else {
            self.faults.root = Some(note);
            self.faults.repeats = 0;
        }
        self.faults.handler = self.fetch_linear();
    }

    /// The processor shuts down because of `chain`, each of which came up in the delivery of the one before it.
    #[cold]
    pub(crate) fn note_shutdown(&mut self, chain: &[Note]) {
        let mut steps = Vec::new();
        let repeats = self.faults.repeats;
        let first = chain.first().map(|first| first.linear);
        if let Some(root) = self
            .faults
            .root
            .filter(|_| first == Some(self.faults.handler))
        {
            let mut step = self.step_of(&root, None, false);
            step.why += match repeats {
                0 => "; its handler's first instruction met the next exception".to_owned(),
                _ => format!("; then {repeats} handlers met another at their first instruction"),
            }
            .as_str();
            steps.push(step);
        }
        let mut before = None;
        for note in chain {
            steps.push(self.step_of(note, before, true));
            before = Some(note.event.vector());
        }
        self.faults.steps = steps;
    }

    /// The processor shuts down in RSM, because of `why`.
    #[cold]
    pub(crate) fn note_failed_resume(&mut self, why: &str) {
        let note = self.note(Event::Nmi);
        let instruction = self.instruction_at(&note);
        self.faults.steps = vec![Step {
            vector: SHUTDOWN,
            error_code: None,
            cs: note.cs,
            rip: note.rip,
            cr2: None,
            instruction: instruction.map_or_else(|| "(not readable)".to_owned(), print),
            why: format!("the state that was saved for system management mode cannot be: {why}"),
        }];
    }

    fn step_of(&self, note: &Note, before: Option<u8>, registers: bool) -> Step {
        let instruction = self.instruction_at(note);
        let reason = self.reason(note, instruction.as_ref().filter(|_| registers));
        let vector = note.event.vector();
        let why = match before {
            Some(_) if vector == 8 => "neither of the two before it could be handled".to_owned(),
            Some(before) => format!(
                "the handler of {} cannot be entered: {reason}",
                name(before)
            ),
            None => reason,
        };
        Step {
            vector,
            error_code: note.event.error_code(),
            cs: note.cs,
            rip: note.rip,
            cr2: (vector == 14).then_some(note.cr2),
            instruction: instruction.map_or_else(|| "(not readable)".to_owned(), print),
            why,
        }
    }

    fn instruction_at(&self, note: &Note) -> Option<Instruction> {
        let mut bytes = [0; LONGEST];
        let there = match note.cr3 == self.cpu.cr3 {
            true => self.peek_linear(note.linear, &mut bytes),
            false => 0,
        };
        let code = &self.cpu.segs[SegmentRegister::CS];
        let bitness = match note.mode {
            Mode::Long => 64,
            Mode::Compatibility | Mode::Protected if code.attributes & Segment::DB != 0 => 32,
            _ => 16,
        };
        let mut decoder =
            Decoder::with_ip(bitness, &bytes[..there], note.rip, DecoderOptions::NONE);
        (there > 0).then(|| decoder.decode())
    }

    /// What an exception means; `instruction` is the one that it struck, if the registers are still as it found them.
    fn reason(&self, note: &Note, instruction: Option<&Instruction>) -> String {
        let error = note.event.error_code().unwrap_or_default();
        match note.event {
            Event::External(_) => return "an interrupt of a device".to_owned(),
            Event::Nmi => return "a non-maskable interrupt".to_owned(),
            _ => {}
        }
        match note.event.vector() {
            0 => "a division by zero, or a quotient too large for its register".to_owned(),
            1 => "a debug trap".to_owned(),
            6 => "no instruction, or none of this processor model (--cpu)".to_owned(),
            7 => "x87 or SSE while CR0.EM or CR0.TS is set".to_owned(),
            14 => page_fault(error, note.cr2),
            10..=13 if error & ERROR_IDT != 0 => self.gate_reason(error, note),
            vector @ 10..=13 if error & !3 != 0 => self.selector_reason(vector, error),
            13 if let Some(reason) = instruction.and_then(|i| self.protection_reason(i, note)) => {
                reason
            }
            12 if let Some(reason) = instruction.and_then(|i| self.operand_reason(i, note)) => {
                reason
            }
            10 => "the task state segment is not valid".to_owned(),
            12 => "the stack pointer lies beyond the stack segment".to_owned(),
            13 => {
                "a segment's limit or rights, a null selector, or an address that is not canonical"
                    .to_owned()
            }
            16 => "an x87 exception that the control word does not mask".to_owned(),
            17 => "an unaligned access while CR0.AM and EFLAGS.AC are set".to_owned(),
            19 => "an SSE exception that MXCSR does not mask".to_owned(),
            vector => format!("vector {vector}"),
        }
    }

    /// An error code that names a gate of the IDT.
    fn gate_reason(&self, error: u16, note: &Note) -> String {
        let gate = u64::from(error >> 3);
        let size = match note.mode {
            Mode::Real => 4,
            Mode::Long | Mode::Compatibility => 16,
            _ => 8,
        };
        let table = &self.cpu.idtr;
        let of = format!("entry {gate:#x} of the IDT at {:#x}", table.base);
        if gate * size + size - 1 > table.limit.into() {
            return format!("{of} lies beyond its limit {:#x}", table.limit);
        }
        let mut bytes = [0; 8];
        if self.peek_linear(table.base.wrapping_add(gate * size), &mut bytes) < 8 {
            return format!("{of} cannot be read");
        }
        if bytes == [0; 8] {
            return format!("{of} is empty");
        }
        match (note.event.vector(), bytes[5] & 0x80) {
            (11, _) | (_, 0) => format!("{of} is not present"),
            _ if bytes[5] & 0x1F < 5 || bytes[5] & 0x10 != 0 => {
                format!("{of} is no interrupt, trap or task gate")
            }
            _ => format!(
                "{of} does not let CPL {} in, or is of the wrong type",
                note.cpl
            ),
        }
    }

    /// An error code that names a segment's selector.
    fn selector_reason(&self, vector: u8, error: u16) -> String {
        let (table, base, limit) = match error & ERROR_LDT {
            0 => ("GDT", self.cpu.gdtr.base, u32::from(self.cpu.gdtr.limit)),
            _ => {
                let ldt = &self.cpu.segs[SegmentRegister::LDTR];
                ("LDT", ldt.base, ldt.limit)
            }
        };
        let of = format!("selector {:#06x} in the {table} at {base:#x}", error & !3);
        if u32::from(error | 7) > limit {
            return format!("{of} lies beyond its limit {limit:#x}");
        }
        match vector {
            11 => format!("{of} is not present"),
            _ => format!("{of} does not fit what it is used for: its type, DPL or limit"),
        }
    }

    /// #GP(0), seen from the instruction.
    fn protection_reason(&self, instruction: &Instruction, note: &Note) -> Option<String> {
        let flat_out = |what: &str| Some(format!("{what} at CPL {}", note.cpl));
        match instruction.mnemonic() {
            _ if instruction.is_privileged() && note.cpl != 0 => {
                flat_out("a privileged instruction")
            }
            Mnemonic::Rdmsr | Mnemonic::Wrmsr => Some(format!(
                "MSR {:#x} is none of this processor model (--cpu), or does not take the value",
                self.cpu.regs[crate::cpu::Reg::RCX] as u32
            )),
            Mnemonic::In
            | Mnemonic::Out
            | Mnemonic::Insb
            | Mnemonic::Insw
            | Mnemonic::Insd
            | Mnemonic::Outsb
            | Mnemonic::Outsw
            | Mnemonic::Outsd
                if note.cpl > self.cpu.iopl() || note.mode == Mode::Virtual8086 =>
            {
                flat_out("a port that neither IOPL nor the TSS allows,")
            }
            Mnemonic::Cli | Mnemonic::Sti if note.cpl > self.cpu.iopl() => {
                flat_out("an instruction that IOPL does not allow,")
            }
            _ => self.operand_reason(instruction, note),
        }
    }

    /// #GP(0) and #SS(0): where the instruction's operand in memory lies.
    fn operand_reason(&self, instruction: &Instruction, note: &Note) -> Option<String> {
        let operand =
            (0..instruction.op_count()).find(|&n| instruction.op_kind(n) == OpKind::Memory)?;
        if matches!(instruction.mnemonic(), Mnemonic::Lea | Mnemonic::Nop) {
            return None;
        }
        let offset =
            instruction.virtual_address(operand, 0, |register, _, _| self.value_of(register))?;
        if note.mode == Mode::Long {
            let canonical = (offset as i64) << 16 >> 16 == offset as i64;
            return match canonical {
                false => Some(format!("the address {offset:#x} is not canonical")),
                true if instruction.memory_size().size() >= 16 && !offset.is_multiple_of(16) => {
                    Some(format!("the address {offset:#x} is not aligned"))
                }
                true => None,
            };
        }
        let number = instruction.memory_segment().number();
        let segment = self.cpu.segs.get(number).filter(|_| number < 6)?;
        let register = format!("{:?}", instruction.memory_segment());
        if note.mode != Mode::Real && segment.selector & !3 == 0 && note.mode != Mode::Virtual8086 {
            return Some(format!("{register} holds the null selector"));
        }
        let last = offset.wrapping_add(instruction.memory_size().size().max(1) as u64 - 1);
        let beyond = last > segment.limit.into();
        beyond.then(|| {
            format!(
                "offset {offset:#x} lies beyond {register}'s limit {:#x}",
                segment.limit
            )
        })
    }

    /// A register for the computation of an address; segments count as flat, so that it gives the offset.
    fn value_of(&self, register: Register) -> Option<u64> {
        if register.is_segment_register() {
            let number = register.number();
            let long = self.cpu.mode() == Mode::Long;
            return Some(if long && number >= 4 {
                self.cpu.segs[number].base
            } else {
                0
            });
        }
        if !register.is_gpr() {
            return None;
        }
        let value = self.cpu.regs[register.full_register().number()];
        Some(match register.size() {
            2 => value & 0xFFFF,
            4 => value & 0xFFFF_FFFF,
            _ => value,
        })
    }
}

/// The error code of a #PF (SDM vol. 3A §4.7).
fn page_fault(error: u16, address: u64) -> String {
    let who = if error & 4 != 0 { "user" } else { "supervisor" };
    let what = match error & 0x12 {
        0 => "read",
        2 => "write",
        _ => "instruction fetch",
    };
    let why = match error & 9 {
        0 => "where no page is present",
        1 => "which the page does not allow",
        _ => "through a page table entry with reserved bits set",
    };
    format!("a {who} {what} at {address:#x}, {why}")
}

/// The mnemonic of an exception's vector (SDM vol. 3A table 6-1).
pub(crate) fn name(vector: u8) -> String {
    const NAMES: [&str; 20] = [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "", "#TS", "#NP", "#SS",
        "#GP", "#PF", "", "#MF", "#AC", "#MC", "#XM",
    ];
    match NAMES.get(usize::from(vector)) {
        None if vector == SHUTDOWN => "shutdown".to_owned(),
        Some(&name) if !name.is_empty() => name.to_owned(),
        _ => format!("interrupt {vector:#x}"),
    }
}

fn print(instruction: Instruction) -> String {
    let mut text = String::new();
    let mut formatter = NasmFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    options.set_branch_leading_zeros(false);
    formatter.format(&instruction, &mut text);
    text
}
