//! Where a captured processor is not this project's, and what is left out of a comparison for it.
//!
//! Every rule is a condition on the test (or on what the interpreter raised), a reason that the runner prints with a
//! count, and a source. `VECTORS.md` beside this crate lists them all. A rule leaves out as little as it can: mostly a
//! register or a few bytes, and the test still has to agree in everything else.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use x86::flags::bits::{ARITH, CF};

use crate::moo::Test;
use crate::undefined;

/// Which processor a suite was captured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 8086 and 8088.
    I86,
    /// NEC V20 and V30.
    Nec,
    /// 80186 and 80188.
    I186,
    /// 80286.
    I286,
    /// 80386.
    I386,
}

impl Family {
    /// By the id in a MOO file or the name in a suite's metadata.
    pub fn by_id(id: &str) -> Option<Self> {
        let id = id.trim().to_uppercase();
        Some(match id.trim_start_matches("I").trim_start_matches("80") {
            "88" | "86" => Self::I86,
            "188" | "186" | "C186" | "C188" => Self::I186,
            id if id.starts_with("V20") || id.starts_with("V30") => Self::Nec,
            id if id.starts_with("286") || id.starts_with("C286") => Self::I286,
            id if id.starts_with("386") => Self::I386,
            _ => return None,
        })
    }

    /// Whether each test ends with HLT. The older suites stop behind the instruction.
    pub fn halts(self) -> bool {
        matches!(self, Self::I286 | Self::I386)
    }

    /// Whether addresses wrap around at 1 MiB: 20 address pins.
    pub fn wraps_at_1_mib(self) -> bool {
        !self.halts()
    }

    /// Whether it is one of the processors without faults: offsets wrap around, every byte means something, and the
    /// divide error is an interrupt behind the instruction.
    pub fn before_faults(self) -> bool {
        !self.halts()
    }
}

/// What of memory is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// All that the test lists.
    #[default]
    All,
    /// The frame of the exception.
    Frame,
}

/// What is left out of one test, and how it is run.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    /// Why; empty for a test that is compared whole.
    pub reasons: Vec<&'static str>,
    /// Registers by their 16-bit names, with the bits that are not compared.
    pub registers: Vec<(&'static str, u32)>,
    /// What of memory is compared.
    pub memory: Memory,
    /// Bytes in memory by physical address, with the bits that are not compared.
    pub bytes: Vec<(u32, u8)>,
    /// How far above ours the captured processor's stack pointer is, and with it the exception's frame.
    pub stack_above: u32,
    /// The LOCK prefix is overwritten by this one.
    pub instead_of_lock: Option<u8>,
    /// The first vector gets the second one's handler.
    pub same_handler: Option<(u8, u8)>,
    /// The bytes behind the instruction were prefetched before it wrote to them.
    pub prefetched: bool,
}

impl Allowance {
    fn reason(&mut self, reason: &'static str) {
        self.reasons.push(reason);
    }

    /// Leaves out `bits` of a word whose bytes are at these addresses.
    fn word(&mut self, at: [u32; 2], bits: u16) {
        self.bytes.extend(at.into_iter().zip(bits.to_le_bytes()));
    }
}

/// A test's instruction and what the rules ask about it.
pub struct Subject<'a> {
    test: &'a Test,
    iced: Instruction,
    /// How many bytes it has, as memory has it.
    length: usize,
    /// The opcode and ModR/M bytes behind the prefixes.
    opcode: u8,
    modrm: u8,
    prefixes: &'a [u8],
}

/// The bytes at CS:IP, as far as the test lists them; `None` where they are fewer than it calls the
/// instruction's. A suite may leave displacements out there.
fn code_in_memory(test: &Test) -> Option<Vec<u8>> {
    let [cs, ip] = ["cs", "ip"].map(|name| test.initial.get(name).unwrap_or(0));
    let at = |n: u32| {
        let addr = (cs << 4) + (ip.wrapping_add(n) & 0xFFFF);
        let mut ram = test.initial.ram.iter();
        ram.find(|(listed, _)| *listed == addr)
            .map(|(_, byte)| *byte)
    };
    let code: Vec<u8> = (0..15).map_while(at).collect();
    (code.len() >= test.bytes.len()).then_some(code)
}

/// Why a capture in another mode is not run.
pub const NOT_REAL_MODE: &str =
    "captures outside of real mode, of which no suite says the segments' hidden parts yet";

const NO_COPROCESSOR: &str = "coprocessor escapes: the captures had no coprocessor";

const GENERAL: [&str; 7] = ["ax", "cx", "dx", "bx", "bp", "si", "di"];

impl<'a> Subject<'a> {
    /// Decodes a test's instruction for the rules.
    pub fn new(test: &'a Test) -> Self {
        let options = DecoderOptions::NO_INVALID_CHECK;
        let code = code_in_memory(test).unwrap_or_else(|| test.bytes.clone());
        let iced = Decoder::new(16, &code, options).decode();
        let is_prefix = |byte: &u8| undefined::is_prefix(*byte);
        let n = test.bytes.iter().take_while(|byte| is_prefix(byte)).count();
        let byte = |n: usize| test.bytes.get(n).copied().unwrap_or(0);
        // Members of the groups 8F, C6 and C7 that mean nothing are as long as the one that does.
        let mut member = code;
        if let Some(modrm) = member.get_mut(n + 1)
            && matches!(byte(n), 0x8F | 0xC6 | 0xC7)
        {
            *modrm &= !0x38;
        }
        let length = Decoder::new(16, &member, options).decode().len();
        Self {
            test,
            iced,
            length,
            opcode: byte(n),
            modrm: byte(n + 1),
            prefixes: &test.bytes[..n],
        }
    }

    fn before(&self, name: &str) -> u32 {
        self.test.initial.get(name).unwrap_or(0)
    }

    fn has_prefix(&self, wanted: &[u8]) -> bool {
        self.prefixes.iter().any(|byte| wanted.contains(byte))
    }

    /// Where its LOCK prefixes are.
    pub fn locks(&self) -> impl Iterator<Item = usize> + '_ {
        let prefixes = self.prefixes.iter().enumerate();
        prefixes.filter(|(_, byte)| **byte == 0xF0).map(|(n, _)| n)
    }

    fn uses_memory(&self) -> bool {
        (0..self.iced.op_count()).any(|n| self.iced.op_kind(n) == OpKind::Memory)
    }

    /// Whether SI, with DS or what overrides it, points to an operand.
    fn has_string_source(&self) -> bool {
        (0..self.iced.op_count()).any(|n| self.iced.op_kind(n) == OpKind::MemorySegSI)
    }

    fn is_register(&self) -> bool {
        self.modrm >> 6 == 3
    }

    /// The `reg` field of the ModR/M byte.
    fn reg(&self) -> u8 {
        self.modrm >> 3 & 7
    }

    /// The count of a shift or rotate, before it is masked.
    fn raw_count(&self) -> u32 {
        let n = self.iced.op_count().wrapping_sub(1);
        match self.iced.try_op_kind(n) {
            Ok(OpKind::Immediate8) => self.iced.immediate8().into(),
            Ok(OpKind::Register) if self.iced.op_register(n) == Register::CL => {
                self.before("cx") & 0xFF
            }
            _ => 1,
        }
    }

    /// FLAGS bits that the manual leaves undefined.
    pub fn undefined_flags(&self) -> u32 {
        let divides_by_zero = self.iced.mnemonic() == Mnemonic::Aam && self.iced.immediate8() == 0;
        if divides_by_zero {
            // The division within it has its flags, SDM vol. 2A, DIV: all undefined.
            return ARITH as u32;
        }
        undefined::flags(&self.iced, self.raw_count() & 0x1F) as u32
    }

    fn is_shift(&self) -> bool {
        use Mnemonic::{Rcl, Rcr, Rol, Ror, Sal, Sar, Shl, Shr};
        matches!(
            self.iced.mnemonic(),
            Rol | Ror | Rcl | Rcr | Shl | Sal | Shr | Sar
        )
    }

    /// The physical addresses of the bytes of the word `below` the stack pointer, on a processor before the 80286: both
    /// offset and address wrap around.
    fn stack_word(&self, below: u32) -> [u32; 2] {
        [0, 1].map(|n| {
            let offset = self.before("sp").wrapping_sub(below).wrapping_add(n) & 0xFFFF;
            (self.before("ss") << 4).wrapping_add(offset) & 0xF_FFFF
        })
    }

    /// Whether the processor went to a handler.
    fn was_interrupted(&self) -> bool {
        let next = self.before("ip").wrapping_add(self.test.bytes.len() as u32) & 0xFFFF;
        self.test.last.get("ip").is_some_and(|ip| ip != next)
    }

    fn writes_behind_itself(&self) -> bool {
        let code = self.before("cs") << 4;
        let start = code + (self.before("ip") & 0xFFFF);
        // Up to 15 bytes of instruction, and the queue's 16 (80386 Hardware Reference Manual §2.4).
        let ahead = start..start + self.test.bytes.len() as u32 + 16;
        let mut written = self.test.last.ram.iter();
        written.any(|(addr, _)| ahead.contains(addr))
    }
}

/// How a test is compared, or why it is not run.
///
/// # Errors
/// The reason.
pub fn allow(family: Family, subject: &Subject<'_>) -> Result<Allowance, &'static str> {
    let mut allowance = Allowance::default();
    let test = subject.test;
    match family {
        Family::I86 | Family::Nec | Family::I186 => before_faults(family, subject, &mut allowance)?,
        Family::I286 => i286(subject, &mut allowance)?,
        Family::I386 => i386(subject, &mut allowance)?,
    }
    if family.halts() && test.exception.is_none() && subject.writes_behind_itself() {
        allowance.prefetched = true;
    }
    Ok(allowance)
}

fn i286(subject: &Subject<'_>, allowance: &mut Allowance) -> Result<(), &'static str> {
    let test = subject.test;
    if subject.has_prefix(&[0xF0]) {
        let plain = Decoder::new(16, &test.bytes, DecoderOptions::NONE).decode();
        if plain.code() == Code::INVALID && subject.iced.code() != Code::INVALID {
            // SDM vol. 2A, LOCK; 80286 PRM, LOCK: no instruction is refused.
            allowance
                .reason("LOCK before an instruction that later processors refuse: run without it");
            allowance.instead_of_lock = Some(same_segment(&subject.iced));
        }
    }
    let Some((vector, _)) = test.exception else {
        return Ok(());
    };
    let is_new = |n| matches!(subject.iced.op_register(n), Register::FS | Register::GS);
    let moved = |name: &str| test.last.get(name).is_some();
    match vector {
        6 if is_new(0) || is_new(1) => return Err("FS and GS, which came with the 80386"),
        // 80286 PRM, 6.2: an instruction of more than 10 bytes raises 13.
        13 if subject.length > 10 => {
            return Err("longer than the 80286's 10 bytes; the limit is 15 since the 80386");
        }
        13 if (subject.uses_memory() || subject.has_string_source())
            && subject.iced.memory_segment() == Register::SS
            || subject.iced.is_stack_instruction() && !subject.uses_memory() =>
        {
            // SDM vol. 2, "Real-Address Mode Exceptions": #SS if an operand is outside the SS segment limit.
            allowance.reason("beyond the stack segment the 80286 raises 13 in real mode, later processors 12: the vector is not compared");
            allowance.same_handler = Some((12, 13));
        }
        _ => {}
    }
    if vector == 13 && subject.iced.is_string_instruction() && (moved("si") || moved("di")) {
        // SDM vol. 3A §6.6: a fault leaves the state as before the instruction.
        allowance.reason("the 80286 has moved SI and DI when a string instruction faults, later processors restart it: SI, DI and CX are not compared");
        allowance
            .registers
            .extend([("si", !0), ("di", !0), ("cx", !0)]);
    }
    if vector == 13
        && subject.iced.mnemonic() == Mnemonic::Pop
        && subject.uses_memory()
        && subject.before("sp") != 0xFFFF
    {
        // SDM vol. 3A §6.6: a fault leaves the state as before the instruction.
        allowance.reason("the 80286 has popped when POP cannot store, later processors restart it: SP and the frame are compared as 2 higher");
        allowance.stack_above = 2;
    }
    faulted_midway(Family::I286, subject, allowance);
    Ok(())
}

/// The override prefix that changes nothing.
fn same_segment(iced: &Instruction) -> u8 {
    match iced.memory_segment() {
        Register::ES => 0x26,
        Register::CS => 0x2E,
        Register::SS => 0x36,
        _ => 0x3E,
    }
}

fn i386(subject: &Subject<'_>, allowance: &mut Allowance) -> Result<(), &'static str> {
    use Mnemonic::{In, Insb, Insd, Insw};
    if subject.before("cr0") & 1 != 0 {
        return Err(NOT_REAL_MODE);
    }
    let mnemonic = subject.iced.mnemonic();
    if matches!(mnemonic, In | Insb | Insw | Insd) {
        let immediate = subject.iced.op1_kind() == OpKind::Immediate8;
        let port = if mnemonic == In && immediate {
            subject.iced.immediate8().into()
        } else {
            subject.before("dx") & 0xFFFF
        };
        let size = match mnemonic {
            In => subject.iced.op0_register().size() as u32,
            Insb => 1,
            Insw => 2,
            _ => 4,
        };
        if port < 0x24 && port + size > 0x22 {
            // Intel386 EX User's Manual, chapter 4, "REMAPCFG".
            return Err("ports 22h and 23h, where the 80386EX answers itself (REMAPCFG)");
        }
    }
    faulted_midway(Family::I386, subject, allowance);
    Ok(())
}

/// What an instruction with several accesses to the stack has done before the one that faults. It is restarted.
fn faulted_midway(family: Family, subject: &Subject<'_>, allowance: &mut Allowance) {
    use Mnemonic::{Call, Enter, Popa, Popad, Pusha, Pushad};
    if subject.test.exception.is_none() {
        return;
    }
    match subject.iced.mnemonic() {
        Popa | Popad => {
            allowance.reason("POPA has loaded registers when a later word faults, and loads them again: they are not compared");
            allowance.registers.extend(GENERAL.map(|name| (name, !0)));
        }
        // The 80286 shuts down where a CALL cannot push.
        Call if family == Family::I286 => {}
        Pusha | Pushad | Enter | Call => {
            allowance.reason("what PUSHA, ENTER and CALL have stored below the stack pointer when they fault, is not compared");
            allowance.memory = Memory::Frame;
        }
        _ => {}
    }
}

fn before_faults(
    family: Family,
    subject: &Subject<'_>,
    allowance: &mut Allowance,
) -> Result<(), &'static str> {
    use Mnemonic::{Das, Div, Idiv, Imul, Int, Int3, Into, Mul, Pushf};
    if let Some(reason) = other_opcode(family, subject) {
        return Err(reason);
    }
    let mnemonic = subject.iced.mnemonic();
    let al = subject.before("ax") & 0xFF;
    if subject.is_shift() && subject.raw_count() > 31 {
        // SDM vol. 3B, "Intel 8086 Differences": shift counts.
        return Err("shifts by more than 31, whose count later processors mask to 5 bits");
    }
    if family == Family::I86
        && matches!(mnemonic, Mul | Imul | Div | Idiv)
        && subject.has_prefix(&[0xF2, 0xF3])
    {
        return Err("REP before MUL or DIV, which negates the 8086's result");
    }
    if subject.opcode == 0x37 && al > 0xF9 || subject.opcode == 0x3F && al < 6 {
        // SDM vol. 2A, AAA, AAS: AX is adjusted; 8086 User's Manual: AL and AH each by itself.
        allowance
            .reason("AAA and AAS carry from AL into AH only since the 80286: AH is not compared");
        allowance.registers.push(("ax", 0xFF00));
    }
    if family == Family::I86 && mnemonic == Das && al < 6 && subject.before("flags") & 0x11 == 0x10
    {
        // 8086 Family User's Manual, DAS, against SDM vol. 2A.
        allowance.reason(
            "DAS of less than 6 with AF borrows into CF only in the SDM: CF is not compared",
        );
        allowance.registers.push(("flags", CF as u32));
    }
    if subject.opcode == 0x54
        || subject.opcode == 0xFF && subject.reg() == 6 && subject.modrm == 0xF4
    {
        // SDM vol. 3B, "Intel 8086 Differences": PUSH SP.
        allowance.reason("PUSH SP pushes the old value since the 80286: the word is not compared");
        allowance.word(subject.stack_word(2), 0xFFFF);
    }
    if matches!(mnemonic, Pushf | Int | Int3 | Into) {
        // SDM vol. 3B, "Intel 8086 Differences": bits 12 to 15 of FLAGS.
        allowance.reason(
            "bits 12 to 15 of FLAGS in memory, which an 8086 has set: they are not compared",
        );
        allowance.word(subject.stack_word(2), 0xF000);
    }
    Ok(())
}

/// Why an opcode is another one since the 80186, 80286 or 80386.
fn other_opcode(family: Family, subject: &Subject<'_>) -> Option<&'static str> {
    let reg = subject.reg();
    let is_86 = family == Family::I86;
    let nec = family == Family::Nec;
    let other = match subject.opcode {
        0x0F | 0x63 | 0xF1 => true,
        0x60..=0x62 | 0x68..=0x6F | 0xC8 | 0xC9 => is_86,
        0xC0 | 0xC1 => is_86 || reg == 6,
        0xD6 | 0xF6 | 0xF7 if nec => subject.opcode == 0xD6 || reg == 1,
        0x8C | 0x8E => reg > 3 || subject.opcode == 0x8E && reg == 1,
        0x8F | 0xC6 | 0xC7 => reg != 0,
        0x8D | 0xC4 | 0xC5 => subject.is_register(),
        0xD0..=0xD3 => reg == 6,
        0xFE => reg > 1,
        0xFF => reg == 7 || matches!(reg, 3 | 5) && subject.is_register(),
        _ => false,
    };
    // On the V20 prefixes of its own or for a coprocessor, on the 8086 jumps.
    let prefix = subject.has_prefix(&[0x64, 0x65, 0x66, 0x67]);
    if other || prefix {
        return Some(
            "opcodes that are undefined, or other instructions, on the captured processor",
        );
    }
    matches!(subject.opcode, 0xD8..=0xDF).then_some(NO_COPROCESSOR)
}

/// What is left out in addition when the interpreter raised `vector`: the divide error and #BR of the processors before
/// the 80286 are interrupts behind the instruction.
pub fn allow_raised(family: Family, subject: &Subject<'_>, vector: u8, allowance: &mut Allowance) {
    if family.before_faults() && matches!(vector, 0 | 5) {
        // SDM vol. 3B, "Intel 8086 Differences": the divide error's return address.
        allowance.reason("divide errors return behind the instruction before the 80286: IP in the frame is not compared, nor FLAGS bits 12 to 15");
        // FLAGS in the frame have undefined bits as the register has.
        let flags = 0xF000 | subject.undefined_flags() as u16;
        allowance.word(subject.stack_word(2), flags);
        allowance.word(subject.stack_word(6), 0xFFFF);
    }
}

/// Why a test that differs is none that counts, given the exception that the interpreter raised.
pub fn excuse(family: Family, subject: &Subject<'_>, raised: Option<u8>) -> Option<&'static str> {
    use Mnemonic::{Aad, Aam, Daa, Das, Idiv};
    let mnemonic = subject.iced.mnemonic();
    if undefined::result(&subject.iced, subject.raw_count() & 0x1F) {
        return Some(
            "SHLD and SHRD by more than the operand's width, which have no defined result (SDM vol. 2B)",
        );
    }
    match (family, raised) {
        // 386 PRM and 80286 PRM, IDIV.
        (Family::I286 | Family::I386, Some(0))
            if subject.test.exception.is_none()
                && mnemonic == Idiv
                && undefined::operand_bits(&subject.iced) == 8 =>
        {
            Some(
                "8-bit IDIV whose quotient does not fit, which the captured 80286 and 80386EX let pass at times; the manual has #DE",
            )
        }
        (Family::I286, _) if matches!(subject.opcode, 0xD8..=0xDF) => Some(NO_COPROCESSOR),
        // SDM vol. 3B, "Intel 8086 Differences": wraparound.
        (family, Some(12 | 13)) if family.before_faults() => {
            Some("beyond offset FFFFh, where the 8086 wraps around and later processors fault")
        }
        (family, Some(6)) if family.before_faults() => {
            Some("opcodes that are undefined, or other instructions, on the captured processor")
        }
        // NEC's manual knows CVTBD and CVTDB only with the byte 0Ah.
        (Family::Nec, _) if matches!(mnemonic, Aam | Aad) && subject.iced.immediate8() != 10 => {
            Some("AAM and AAD by another number than 10, which the V20 may ignore")
        }
        // SDM vol. 3B, "Intel 8086 Differences": the largest negative quotient.
        (family, None)
            if family.before_faults() && mnemonic == Idiv && subject.was_interrupted() =>
        {
            Some("IDIV with a quotient of -80h or -8000h, which the 8086 refuses")
        }
        (family, None) if family.before_faults() && matches!(mnemonic, Daa | Das) => {
            let al = subject.before("ax") & 0xFF;
            let adjusted = subject.before("flags") & 0x10 != 0;
            (adjusted && (0x9A..=0x9F).contains(&al)).then_some(
                "DAA and DAS of 9Ah to 9Fh with AF set, where the 8086 compares with 9Fh",
            )
        }
        _ => None,
    }
}
