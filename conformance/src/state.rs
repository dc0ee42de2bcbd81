//! What a case of the oracle is: one instruction, the state before it, the state after it.
//!
//! The layout of memory is the same on the host and in the interpreter: 64 KiB at [`REGION`], which 16-bit segments
//! cover whole.
//!
//! | offset | what |
//! |---|---|
//! | 1000-4FFF | code: slots of [`SLOT`] bytes, INT3 but for the instruction at [`SLOT_ENTRY`]; not writable |
//! | 8000-9FFF | data, not executable; of it, the bytes of [`WINDOWS`] are part of the state |
//! | C000-CFFF | data that may not be written |
//! | other | nothing |

use std::fmt::Write;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use iced_x86::Register;

/// Linear address of the region.
pub const REGION: u64 = 0x2000_0000;
/// Offsets in the region.
pub const CODE: u64 = 0x1000;
/// Bytes of code pages.
pub const CODE_BYTES: u64 = 0x4000;
/// The data pages.
pub const DATA: u64 = 0x8000;
/// Bytes of data pages.
pub const DATA_BYTES: u64 = 0x2000;
/// The page that may only be read.
pub const READ_ONLY: u64 = 0xC000;
/// Bytes of code around an instruction: no short branch leaves its own slot and the unused part of its neighbours.
pub const SLOT: u64 = 256;
/// Where in its slot the instruction stands.
pub const SLOT_ENTRY: u64 = 112;
/// Cases that fit the code pages at once.
pub const SLOTS: usize = (CODE_BYTES / SLOT) as usize;
/// The longest instruction.
pub const MAX_LEN: usize = 15;
/// The parts of the data area that belong to the state: offset in the region and length. The first spans both pages,
/// the second ends where nothing is mapped.
pub const WINDOWS: [(u64, usize); 2] = [(DATA + 0xE00, 0x400), (DATA + 0x1E00, 0x200)];
/// Bytes in all windows.
pub const WINDOW_BYTES: usize = WINDOWS[0].1 + WINDOWS[1].1;

/// What the bytes of the read-only page are.
pub fn read_only_byte(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// What the CPU decodes an instruction as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// 16-bit code, data and stack segments from the LDT, based at [`REGION`].
    Bits16,
    /// 32-bit code in a flat segment; FS and GS are 64 KiB at [`REGION`].
    Bits32,
    /// 64-bit code.
    Bits64,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bits64, Self::Bits32, Self::Bits16];

    /// 16, 32 or 64.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }

    /// The mode of `bits`.
    ///
    /// # Errors
    /// It is not 16, 32 or 64.
    pub fn from_bits(bits: &str) -> Result<Self> {
        Ok(match bits {
            "16" => Self::Bits16,
            "32" => Self::Bits32,
            "64" => Self::Bits64,
            _ => bail!("there is no {bits}-bit mode: say 16, 32 or 64"),
        })
    }

    /// The base of the code segment.
    pub fn code_base(self) -> u64 {
        if self == Self::Bits16 { REGION } else { 0 }
    }

    /// ES, CS, SS, DS, FS, GS.
    pub fn selectors(self) -> [u16; 6] {
        match self {
            Self::Bits16 => {
                let data = SELECTOR_DATA16;
                [data, SELECTOR_CODE16, data, data, data, data]
            }
            Self::Bits32 => {
                let data = SELECTOR_DATA;
                [
                    data,
                    SELECTOR_CODE32,
                    data,
                    data,
                    SELECTOR_DATA16,
                    SELECTOR_DATA32,
                ]
            }
            Self::Bits64 => {
                let data = SELECTOR_DATA;
                [data, SELECTOR_CODE64, data, data, 0, 0]
            }
        }
    }
}

/// Linux's 32-bit user code segment.
pub const SELECTOR_CODE32: u16 = 0x23;
/// Linux's flat user data segment.
pub const SELECTOR_DATA: u16 = 0x2B;
/// Linux's 64-bit user code segment.
pub const SELECTOR_CODE64: u16 = 0x33;
/// LDT: 16-bit code.
pub const SELECTOR_CODE16: u16 = 0x07;
/// LDT: 16-bit data and stack.
pub const SELECTOR_DATA16: u16 = 0x0F;
/// LDT: 32-bit data.
pub const SELECTOR_DATA32: u16 = 0x17;

/// An LDT entry, in the terms of modify_ldt(2).
#[derive(Clone, Copy, Debug)]
pub struct LdtEntry {
    /// Whether the big flag is set.
    pub big: bool,
    /// 0 data, 1 expand-down data, 2 code, 3 conforming code.
    pub contents: u32,
    /// Data that cannot be written, or code that cannot be read.
    pub restricted: bool,
    /// Whether it is present.
    pub present: bool,
    /// The last byte's offset; of expand-down data, the last one below the segment.
    pub limit: u32,
}

/// The LDT: all with base [`REGION`]. Some limits lie amidst the data.
pub const LDT: [LdtEntry; 12] = {
    const fn entry(big: bool, contents: u32, restricted: bool, limit: u32) -> LdtEntry {
        LdtEntry {
            big,
            contents,
            restricted,
            present: true,
            limit,
        }
    }
    const fn absent(of: LdtEntry) -> LdtEntry {
        LdtEntry {
            present: false,
            ..of
        }
    }
    [
        entry(false, 2, false, 0xFFFF),
        entry(false, 0, false, 0xFFFF),
        entry(true, 0, false, 0xFFFF),
        entry(false, 0, true, 0xFFFF),
        entry(false, 1, false, 0x7FFF),
        entry(true, 2, true, 0xFFFF),
        absent(entry(false, 0, false, 0xFFFF)),
        absent(entry(true, 3, false, 0xFFFF)),
        entry(true, 0, false, 0x9106),
        entry(false, 0, false, 0x90FD),
        entry(true, 1, false, 0x8F04),
        entry(true, 2, false, 0xFFFF),
    ]
};

/// Selectors that DS, ES, FS and GS can hold before a case: null ones, flat data, and of the LDT what is data or can be
/// read.
pub const DATA_SELECTORS: [u16; 11] = [
    0,
    SELECTOR_DATA,
    SELECTOR_CODE32,
    SELECTOR_CODE16,
    SELECTOR_DATA16,
    SELECTOR_DATA32,
    0x1F,
    0x27,
    0x47,
    0x4F,
    0x57,
];
/// Those that SS can hold.
pub const STACK_SELECTORS: [u16; 7] = [
    SELECTOR_DATA,
    SELECTOR_DATA16,
    SELECTOR_DATA32,
    0x27,
    0x47,
    0x4F,
    0x57,
];

/// The descriptor of a selector; 0 where there is none.
pub fn descriptor(selector: u16) -> u64 {
    let n = usize::from(selector >> 3);
    if selector & 4 == 0 {
        GDT.get(n).copied().unwrap_or(0)
    } else {
        LDT.get(n).map_or(0, |entry| entry.descriptor())
    }
}

impl LdtEntry {
    /// The descriptor that Linux makes of it: accessed, DPL 3, AVL set.
    pub fn descriptor(self) -> u64 {
        let kind = u64::from(!self.restricted) << 1 | u64::from(self.contents) << 2 | 1;
        let attributes = kind
            | 1 << 4
            | 3 << 5
            | u64::from(self.present) << 7
            | 1 << 12
            | u64::from(self.big) << 14;
        u64::from(self.limit) & 0xFFFF
            | (REGION & 0xFF_FFFF) << 16
            | attributes << 40
            | (REGION >> 24) << 56
    }
}

/// The GDT that Linux gives a processor, as far as a user can see it. The task's own entries (TLS) are empty; the
/// last one holds the processor's number, so no case may look at it.
pub const GDT: [u64; 16] = [
    0,
    0x00CF_9B00_0000_FFFF,
    0x00AF_9B00_0000_FFFF,
    0x00CF_9300_0000_FFFF,
    0x00CF_FB00_0000_FFFF,
    0x00CF_F300_0000_FFFF,
    0x00AF_FB00_0000_FFFF,
    0,
    0x0000_8B00_0000_206F,
    0,
    0x0000_8200_0000_FFFF,
    0,
    0,
    0,
    0,
    0x0040_F500_0000_0000,
];

/// The registers and memory that an instruction can see or change.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct State {
    /// The image that FXSAVE64 makes.
    pub fx: [u8; 512],
    /// The data windows.
    pub data: [u8; WINDOW_BYTES],
    /// RAX RCX RDX RBX RSP RBP RSI RDI R8-R15.
    pub regs: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// ES CS SS DS FS GS.
    pub segs: [u16; 6],
    /// FS and GS bases; what counts in 64-bit mode.
    pub bases: [u64; 2],
}

/// What an exception told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Its vector; 3 is what a case ends with when its instruction raised nothing.
    pub vector: u8,
    /// Its error code, or 0.
    pub error: u32,
    /// The linear address, for #PF.
    pub cr2: u64,
}

/// One instruction with its state before.
#[derive(Clone)]
pub struct Case {
    /// The mode.
    pub mode: Mode,
    /// The instruction's bytes, and how many of them count.
    pub code: [u8; MAX_LEN],
    /// Length of the code.
    pub len: u8,
    /// The state before.
    pub before: State,
}

/// What became of a case.
#[derive(Clone, PartialEq, Eq)]
pub struct After {
    /// The state after.
    pub state: State,
    /// How it ended.
    pub fault: Fault,
}

/// The vector for "did not end".
pub const HANG: u8 = 0xFF;

/// Offsets in [`State::fx`].
pub mod fx {
    /// Control word.
    pub const CONTROL: usize = 0;
    /// Status word.
    pub const STATUS: usize = 2;
    /// Abridged tag word: a bit set for each register in use.
    pub const TAG: usize = 4;
    /// Opcode.
    pub const OPCODE: usize = 6;
    /// Instruction pointer, 8 bytes.
    pub const INSTRUCTION: usize = 8;
    /// Operand pointer, 8 bytes.
    pub const OPERAND: usize = 16;
    /// MXCSR.
    pub const MXCSR: usize = 24;
    /// ST(0), 16 bytes each.
    pub const ST: usize = 32;
    /// XMM0, 16 bytes each.
    pub const XMM: usize = 160;
    /// Behind XMM15.
    pub const END: usize = 416;
}

impl State {
    /// What a field that a replay line does not name holds.
    pub fn quiet(mode: Mode) -> Self {
        let mut state = Self {
            fx: [0; 512],
            data: [0; WINDOW_BYTES],
            regs: [0; 16],
            rip: REGION + CODE + SLOT_ENTRY - mode.code_base(),
            rflags: 0x202,
            segs: mode.selectors(),
            bases: [0; 2],
        };
        state.put16(fx::CONTROL, 0x037F);
        state.put32(fx::MXCSR, 0x1F80);
        state
    }

    /// A word of the FXSAVE image.
    pub fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.fx[at], self.fx[at + 1]])
    }

    /// A doubleword of it.
    pub fn get32(&self, at: usize) -> u32 {
        u32::from(self.get16(at)) | u32::from(self.get16(at + 2)) << 16
    }

    /// A quadword of it.
    pub fn get64(&self, at: usize) -> u64 {
        u64::from(self.get32(at)) | u64::from(self.get32(at + 4)) << 32
    }

    /// XMM register `n`.
    pub fn xmm(&self, n: usize) -> u128 {
        let at = fx::XMM + 16 * n;
        u128::from(self.get64(at)) | u128::from(self.get64(at + 8)) << 64
    }

    /// ST(`n`): significand, then sign and exponent.
    pub fn st(&self, n: usize) -> (u64, u16) {
        let at = fx::ST + 16 * n;
        (self.get64(at), self.get16(at + 8))
    }

    /// Writes a word of the image.
    pub fn put16(&mut self, at: usize, value: u16) {
        self.fx[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// Writes a doubleword of it.
    pub fn put32(&mut self, at: usize, value: u32) {
        self.fx[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Writes a quadword of it.
    pub fn put64(&mut self, at: usize, value: u64) {
        self.fx[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Writes ST(`n`).
    pub fn put_st(&mut self, n: usize, value: (u64, u16)) {
        self.put64(fx::ST + 16 * n, value.0);
        self.put16(fx::ST + 16 * n + 8, value.1);
    }

    /// Writes XMM register `n`.
    pub fn put_xmm(&mut self, n: usize, value: u128) {
        let at = fx::XMM + 16 * n;
        self.fx[at..at + 16].copy_from_slice(&value.to_le_bytes());
    }

    /// Where a byte of the region lies in [`data`](Self::data).
    pub fn window_index(offset: u64) -> Option<usize> {
        let mut start = 0;
        for (at, len) in WINDOWS {
            if offset >= at && offset < at + len as u64 {
                return Some(start + (offset - at) as usize);
            }
            start += len;
        }
        None
    }

    /// A byte at an offset in the region; 0 outside of what can be read.
    pub fn peek(&self, offset: u64) -> u8 {
        match Self::window_index(offset) {
            Some(index) => self.data[index],
            None if (READ_ONLY..READ_ONLY + 4096).contains(&offset) => {
                read_only_byte(offset - READ_ONLY)
            }
            None => 0,
        }
    }

    /// Writes bytes at an offset in the region; what lies outside the windows is dropped.
    pub fn poke(&mut self, offset: u64, bytes: &[u8]) {
        for (i, &byte) in bytes.iter().enumerate() {
            if let Some(index) = Self::window_index(offset.wrapping_add(i as u64)) {
                self.data[index] = byte;
            }
        }
    }
}

/// Names of [`State::regs`].
pub const REGS: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
/// Names of [`State::segs`].
pub const SEGS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
const BASES: [&str; 2] = ["fsbase", "gsbase"];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Fields of the image by name: offset and length.
fn image_field(name: &str) -> Option<(usize, usize)> {
    let (prefix, number) =
        name.split_at(name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count());
    Some(match (prefix, number.parse::<usize>()) {
        ("fcw", Err(_)) => (fx::CONTROL, 2),
        ("fsw", Err(_)) => (fx::STATUS, 2),
        ("ftw", Err(_)) => (fx::TAG, 1),
        ("fop", Err(_)) => (fx::OPCODE, 2),
        ("fip", Err(_)) => (fx::INSTRUCTION, 8),
        ("fdp", Err(_)) => (fx::OPERAND, 8),
        ("mxcsr", Err(_)) => (fx::MXCSR, 4),
        ("st", Ok(n)) if n < 8 => (fx::ST + 16 * n, 10),
        ("xmm", Ok(n)) if n < 16 => (fx::XMM + 16 * n, 16),
        _ => return None,
    })
}

/// Every field of the image that has a name: name, offset, length.
pub fn image_fields() -> &'static [(String, usize, usize)] {
    static FIELDS: OnceLock<Vec<(String, usize, usize)>> = OnceLock::new();
    FIELDS.get_or_init(|| {
        let plain = ["fcw", "fsw", "ftw", "fop", "fip", "fdp", "mxcsr"].map(String::from);
        let st = (0..8).map(|n| format!("st{n}"));
        let xmm = (0..16).map(|n| format!("xmm{n}"));
        let names = plain.into_iter().chain(st).chain(xmm);
        names
            .filter_map(|name| {
                let (at, len) = image_field(&name)?;
                Some((name, at, len))
            })
            .collect()
    })
}

/// A number of up to 16 bytes.
pub fn little_endian(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u128::from(byte))
}

impl std::fmt::Display for Case {
    /// The replay line: mode, code, and what differs from [`State::quiet`].
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quiet = State::quiet(self.mode);
        let state = &self.before;
        write!(
            f,
            "{} {}",
            self.mode.bits(),
            hex(&self.code[..self.len.into()])
        )?;
        if state.rip != quiet.rip {
            write!(f, " rip={:x}", state.rip)?;
        }
        if state.rflags != quiet.rflags {
            write!(f, " rflags={:x}", state.rflags)?;
        }
        for (name, (value, quiet)) in REGS.iter().zip(state.regs.iter().zip(&quiet.regs)) {
            if value != quiet {
                write!(f, " {name}={value:x}")?;
            }
        }
        for (name, (value, quiet)) in SEGS.iter().zip(state.segs.iter().zip(&quiet.segs)) {
            if value != quiet {
                write!(f, " {name}={value:x}")?;
            }
        }
        for (name, value) in BASES.iter().zip(&state.bases) {
            if *value != 0 {
                write!(f, " {name}={value:x}")?;
            }
        }
        for &(ref name, at, len) in image_fields() {
            if state.fx[at..at + len] != quiet.fx[at..at + len] {
                write!(f, " {name}={:x}", little_endian(&state.fx[at..at + len]))?;
            }
        }
        let mut start = 0;
        for (at, len) in WINDOWS {
            for block in (0..len).step_by(16) {
                let bytes = &state.data[start + block..][..16];
                if bytes.iter().any(|&byte| byte != 0) {
                    write!(f, " {:x}:{}", at + block as u64, hex(bytes))?;
                }
            }
            start += len;
        }
        Ok(())
    }
}

impl std::str::FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let mode = Mode::from_bits(words.next().unwrap_or_default())?;
        let bytes = unhex(
            words
                .next()
                .context("a replay line is: mode, code, registers")?,
        )?;
        if bytes.is_empty() || bytes.len() > MAX_LEN {
            bail!(
                "an instruction has 1 to {MAX_LEN} bytes, not {}",
                bytes.len()
            );
        }
        let mut case = Self {
            mode,
            code: [0; MAX_LEN],
            len: bytes.len() as u8,
            before: State::quiet(mode),
        };
        case.code[..bytes.len()].copy_from_slice(&bytes);
        for word in words {
            case.set(word)
                .with_context(|| format!("cannot understand `{word}` in a replay line"))?;
        }
        Ok(case)
    }
}

impl Case {
    fn set(&mut self, word: &str) -> Result<()> {
        if let Some((offset, bytes)) = word.split_once(':') {
            self.before
                .poke(u64::from_str_radix(offset, 16)?, &unhex(bytes)?);
            return Ok(());
        }
        let (name, text) = word.split_once('=').context("there is no `=`")?;
        let value = u128::from_str_radix(text, 16)?;
        let position = |names: &[&str]| names.iter().position(|known| *known == name);
        if let Some(n) = position(&REGS) {
            self.before.regs[n] = value as u64;
        } else if let Some(n) = position(&SEGS) {
            self.before.segs[n] = value as u16;
        } else if let Some(n) = position(&BASES) {
            self.before.bases[n] = value as u64;
        } else if let Some((at, len)) = image_field(name) {
            self.before.fx[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        } else {
            match name {
                "rip" => self.before.rip = value as u64,
                "rflags" => self.before.rflags = value as u64,
                _ => bail!("there is no register {name}"),
            }
        }
        Ok(())
    }

    /// The base of a segment as the case's own selectors have it.
    pub fn segment_base(&self, segment: Register) -> u64 {
        let selector = match (self.mode, segment) {
            (Mode::Bits64, Register::FS) => return self.before.bases[0],
            (Mode::Bits64, Register::GS) => return self.before.bases[1],
            (Mode::Bits64, _) => return 0,
            _ => self.before.segs[segment.number()],
        };
        let descriptor = descriptor(selector);
        descriptor >> 16 & 0xFF_FFFF | descriptor >> 32 & 0xFF00_0000
    }

    /// What of RSP is the stack pointer.
    pub fn stack_mask(&self) -> u64 {
        let big = descriptor(self.before.segs[2]) >> 54 & 1 != 0;
        match self.mode {
            Mode::Bits64 => !0,
            _ if big => 0xFFFF_FFFF,
            _ => 0xFFFF,
        }
    }

    /// Linear address of the instruction.
    pub fn linear(&self) -> u64 {
        self.before.rip.wrapping_add(self.mode.code_base())
    }
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        bail!("{text} is no even number of hexadecimal digits");
    }
    (0..text.len())
        .step_by(2)
        .map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_line_gives_the_case_back() {
        let mut before = State::quiet(Mode::Bits32);
        before.regs[3] = 0xDEAD_BEEF;
        before.segs[3] = 0;
        before.put_st(2, (1 << 63, 0x3FFF));
        before.put_xmm(7, 1 << 127);
        before.poke(DATA + 0xFFE, &[1, 2, 3, 4]);
        let mut case = Case {
            mode: Mode::Bits32,
            code: [0x90; MAX_LEN],
            len: 3,
            before,
        };
        case.code[3..].fill(0);
        let line = case.to_string();
        let again: Case = line.parse().expect("a line of ours");
        assert_eq!(again.to_string(), line);
        assert!(again.before == case.before && again.code == case.code);
    }
}
