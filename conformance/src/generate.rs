//! Random cases: every form of every instruction, and states in which they do something.

use std::collections::BTreeMap;

use iced_x86::{ConstantOffsets, Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic};
use x86::cpuid::CpuModel;
use x86::table;

use crate::random::Rng;
use crate::state::{
    Case, DATA, DATA_SELECTORS, MAX_LEN, Mode, REGION, SLOT, STACK_SELECTORS, State, WINDOW_BYTES,
    fx,
};
use crate::steering::{RAX, RDX, Steering};
use crate::undefined;

/// One way to encode a form: what stands before the ModR/M byte.
#[derive(Clone, Debug)]
struct Template {
    prefixes: &'static [u8],
    rex_w: bool,
    opcode: Vec<u8>,
    /// ModR/M bytes with a memory operand (mod is not 3), and with none. Where the instruction has no ModR/M byte,
    /// all of both.
    memory: Vec<u8>,
    register: Vec<u8>,
}

/// A form of an instruction, by iced's name.
#[derive(Clone, Debug)]
struct Form {
    templates: Vec<Template>,
}

/// Everything that a mode has.
pub struct Catalog {
    mode: Mode,
    mnemonics: Vec<(Mnemonic, Vec<Form>)>,
    pools: Vec<[u8; WINDOW_BYTES]>,
}

const PREFIXES: [&[u8]; 7] = [
    &[],
    &[0x66],
    &[0xF2],
    &[0xF3],
    &[0x66, 0xF2],
    &[0x66, 0xF3],
    &[0x67],
];

const ANY_PREFIX: [u8; 11] = [
    0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3, 0xF0,
];

const POOLS: usize = 32;

/// One-, two- and three-byte opcodes; prefixes are none.
fn opcodes(mode: Mode) -> Vec<Vec<u8>> {
    let prefix = |byte: u8| {
        matches!(
            byte,
            0x0F | 0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3
        ) || mode == Mode::Bits64 && byte & 0xF0 == 0x40
    };
    let one = (0..=255)
        .filter(|&byte| !prefix(byte))
        .map(|byte| vec![byte]);
    let two = (0..=255).map(|byte| vec![0x0F, byte]);
    let three = [0x38, 0x3A]
        .into_iter()
        .flat_map(|map| (0..=255).map(move |byte| vec![0x0F, map, byte]));
    one.chain(two).chain(three).chain(vex()).collect()
}

/// The VEX encodings of the maps that have instructions on general registers; `vary_vex` changes their registers.
fn vex() -> impl Iterator<Item = Vec<u8>> {
    [(2, 0xF2..=0xF7), (3, 0xF0..=0xF0)]
        .into_iter()
        .flat_map(|(map, opcodes)| opcodes.map(move |opcode| (map, opcode)))
        .flat_map(|(map, opcode)| {
            // W, vvvv (none, and register 0) and the implied prefix.
            [0x78, 0xF8].into_iter().flat_map(move |control| {
                (0..4).flat_map(move |prefix| {
                    [0x00, 0x78]
                        .map(|none| vec![VEX, 0xE0 | map, (control ^ none) | prefix, opcode])
                })
            })
        })
}

/// The first byte of a three-byte VEX prefix.
const VEX: u8 = 0xC4;

/// Other registers for a VEX encoding: R, X, B where the mode has them, and vvvv where the instruction uses it.
fn vary_vex(random: u64, mode: Mode, opcode: &[u8]) -> Vec<u8> {
    let mut bytes = opcode.to_vec();
    if mode == Mode::Bits64 {
        bytes[1] ^= (random as u8 & 7) << 5;
    }
    if bytes[2] & 0x78 != 0x78 {
        bytes[2] = bytes[2] & !0x78 | (random >> 3) as u8 & 0x78;
        if mode != Mode::Bits64 {
            bytes[2] |= 0x40;
        }
    }
    bytes
}

/// Whether our table has the instruction and a case of it makes sense.
fn accepted(iced: &Instruction, model: &CpuModel) -> bool {
    if iced.is_invalid() {
        return false;
    }
    let Some(row) = table::row(iced.mnemonic()).filter(|row| model.has(row.feature)) else {
        return false;
    };
    row.handler.resolve(iced).is_some() && in_family(iced)
}

/// The instructions that are undefined for ever, which need no row.
fn is_ud(iced: &Instruction) -> bool {
    matches!(
        iced.mnemonic(),
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2
    )
}

/// Whether the instruction may run at all.
fn in_family(iced: &Instruction) -> bool {
    undefined::excluded(iced.mnemonic()).is_none()
}

pub(crate) fn is_far(iced: &Instruction) -> bool {
    iced.is_jmp_far()
        || iced.is_jmp_far_indirect()
        || iced.is_call_far()
        || iced.is_call_far_indirect()
        || iced.mnemonic() == Mnemonic::Retf
}

impl Catalog {
    /// Finds out what `mode` has; only what `only` names, unless it is empty.
    pub fn new(mode: Mode, model: &CpuModel, only: &[String], seed: u64) -> Self {
        let mut forms: BTreeMap<(u16, u16), (Mnemonic, Form)> = BTreeMap::new();
        for opcode in opcodes(mode) {
            for prefixes in PREFIXES {
                let map = opcode.len();
                if map == 1 && prefixes.len() > 1
                    || map > 1 && prefixes == [0x67]
                    || map == 4 && !prefixes.is_empty()
                {
                    continue;
                }
                for rex_w in [false, true] {
                    if rex_w && (mode != Mode::Bits64 || map == 4) {
                        continue;
                    }
                    add_templates(&mut forms, mode, model, prefixes, rex_w, &opcode);
                }
            }
        }
        let mut mnemonics: Vec<(Mnemonic, Vec<Form>)> = Vec::new();
        for (mnemonic, form) in forms.into_values() {
            let name = format!("{mnemonic:?}");
            if !only.is_empty() && !only.iter().any(|wanted| wanted.eq_ignore_ascii_case(&name)) {
                continue;
            }
            match mnemonics.last_mut() {
                Some((last, forms)) if *last == mnemonic => forms.push(form),
                _ => mnemonics.push((mnemonic, vec![form])),
            }
        }
        Self {
            mode,
            mnemonics,
            pools: pools(seed),
        }
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The mnemonics that it has.
    pub fn mnemonics(&self) -> impl Iterator<Item = Mnemonic> {
        self.mnemonics.iter().map(|(mnemonic, _)| *mnemonic)
    }

    /// A random case in code slot `slot`, and its instruction.
    pub fn case(&self, rng: &mut Rng, slot: usize) -> (Case, Instruction) {
        loop {
            if let Some(made) = self.try_case(rng, slot) {
                return made;
            }
        }
    }

    fn try_case(&self, rng: &mut Rng, slot: usize) -> Option<(Case, Instruction)> {
        let (_, forms) = &self.mnemonics[rng.below(self.mnemonics.len() as u64) as usize];
        let form = &forms[rng.below(forms.len() as u64) as usize];
        let template = &form.templates[rng.below(form.templates.len() as u64) as usize];
        let mut bytes = [0u8; 2 * MAX_LEN + 8];
        let len = encode(rng, template, self.mode, &mut bytes);
        let mut case = Case {
            mode: self.mode,
            code: [0; MAX_LEN],
            len: 0,
            before: self.state(rng, slot),
        };
        for byte in &mut bytes[len..] {
            *byte = rng.bits() as u8;
        }
        let (iced, offsets) = decode(&bytes[..MAX_LEN], &case);
        if !self.makes_sense(&iced, &bytes) {
            return None;
        }
        case.len = iced.len() as u8;
        let code_len = usize::from(case.len);
        case.code[..code_len].copy_from_slice(&bytes[..code_len]);
        Steering {
            rng,
            case: &mut case,
            iced: &iced,
            offsets,
        }
        .steer();
        let (iced, _) = decode(&case.code[..code_len], &case);
        if iced.len() != code_len || !self.makes_sense(&iced, &case.code) {
            return None;
        }
        let regs = &case.before.regs;
        if extended_state(iced.mnemonic()) && (regs[RAX] & !3 | regs[RDX]) & 0xFFFF_FFFF != 0 {
            // RAX was needed for the address. The host has more components than x87 and SSE.
            return None;
        }
        if self.mode != Mode::Bits64 {
            for reg in &mut case.before.regs {
                *reg &= 0xFFFF_FFFF;
            }
            case.before.regs[8..].fill(0);
            case.before.fx[fx::XMM + 128..fx::END].fill(0);
        }
        Some((case, iced))
    }

    fn makes_sense(&self, iced: &Instruction, bytes: &[u8]) -> bool {
        if iced.is_invalid() {
            let bytes = &bytes[..MAX_LEN];
            let mut decoder = Decoder::new(self.mode.bits(), bytes, DecoderOptions::NONE);
            let _ = decoder.decode();
            return decoder.last_error() == DecoderError::NoMoreBytes
                || never_valid(bytes, self.mode);
        }
        is_ud(iced)
            || table::row(iced.mnemonic()).is_some()
                && in_family(iced)
                && !undefined::unsuitable(iced, self.mode, &bytes[..iced.len()])
    }

    fn state(&self, rng: &mut Rng, slot: usize) -> State {
        let mut state = State::quiet(self.mode);
        state.rip += SLOT * slot as u64;
        state.data = self.pools[rng.below(POOLS as u64) as usize];
        for reg in &mut state.regs {
            *reg = rng.integer();
        }
        let random = rng.bits();
        state.rflags |= random & 0x8D5;
        if random >> 12 & 3 == 0 {
            state.rflags |= 0x400;
        }
        if random >> 16 & 31 == 0 {
            state.rflags |= 1 << 18;
        }
        if random >> 56 & 31 == 0 {
            state.rflags |= 1 << 8;
        }
        if random >> 61 == 0 {
            for n in [0, 3, 4, 5] {
                if rng.one_in(2) {
                    state.segs[n] = rng.pick(&DATA_SELECTORS);
                }
            }
        }
        if self.mode != Mode::Bits64 && rng.one_in(8) {
            state.segs[2] = rng.pick(&STACK_SELECTORS);
        }
        let mut mxcsr = 0x1F80 | (random >> 32) as u32 & 0x6000;
        if random >> 20 & 3 == 0 {
            mxcsr |= (random >> 32) as u32 & 0x8040;
        }
        match random >> 22 & 7 {
            0 => mxcsr = (random >> 32) as u32 & 0xFFFF,
            1 => mxcsr |= (random >> 32) as u32 & 0x3F,
            _ => {}
        }
        state.put32(fx::MXCSR, mxcsr);
        self.x87_state(rng, &mut state);
        for n in 0..16 {
            let value = if n > 0 && rng.one_in(8) {
                state.xmm(n - 1)
            } else {
                rng.vector()
            };
            state.put_xmm(n, value);
        }
        if self.mode == Mode::Bits64 {
            for base in &mut state.bases {
                let random = rng.bits();
                *base = match random & 3 {
                    0 => 0,
                    1 => REGION + DATA,
                    2 => random >> 18,
                    _ => (random >> 40).wrapping_neg(),
                };
            }
        }
        state
    }

    fn x87_state(&self, rng: &mut Rng, state: &mut State) {
        let random = rng.bits();
        let mut control = 0x7F | (random >> 8) as u16 & 0x0F00;
        if random & 3 != 0 {
            control |= 0x0300;
        }
        if random >> 2 & 3 == 0 {
            control = control & !0x3F | (random >> 20) as u16 & 0x3F;
        }
        let mut status = (random >> 32) as u16 & 0x7F00;
        if random >> 4 & 3 == 0 {
            status |= (random >> 32) as u16 & 0x7F;
            if random >> 6 & 7 != 0 {
                status &= control | 0xFFC0;
            }
        }
        if status & !control & 0x3F != 0 {
            status |= 0x8080;
        }
        let tags = match random >> 50 & 7 {
            0 => (random >> 56) as u16,
            1 => 0,
            2 => (random >> 56 | random >> 48) as u16,
            _ => 0xFF,
        };
        state.put16(fx::CONTROL, control);
        state.put16(fx::STATUS, status);
        state.put16(fx::TAG, tags & 0xFF);
        state.put16(fx::OPCODE, (random >> 24) as u16 & 0x7FF);
        state.put64(fx::INSTRUCTION, u64::from(rng.bits() as u32));
        state.put64(fx::OPERAND, u64::from(rng.bits() as u32));
        for n in 0..8 {
            let value = if n > 0 && rng.one_in(6) {
                state.st(n - 1)
            } else if n > 0 && rng.one_in(3) {
                rng.relate80(state.st(0))
            } else if rng.one_in(12) {
                // An MMX register's look.
                (rng.integer(), 0xFFFF)
            } else {
                rng.float80()
            };
            state.put_st(n, value);
        }
    }
}

/// Whether EDX:EAX says which components of the state the instruction is about.
pub(crate) fn extended_state(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{Xrstor, Xrstor64, Xsave, Xsave64, Xsavec, Xsavec64, Xsaveopt, Xsaveopt64};
    matches!(
        mnemonic,
        Xrstor | Xrstor64 | Xsave | Xsave64 | Xsavec | Xsavec64 | Xsaveopt | Xsaveopt64
    )
}

/// Decodes at the case's instruction pointer. What is invalid only for its operands or its LOCK prefix keeps its name;
/// of anything else that is invalid, all of the bytes count as its length.
pub fn decode(bytes: &[u8], case: &Case) -> (Instruction, ConstantOffsets) {
    let bits = case.mode.bits();
    let mut last = DecoderOptions::NONE;
    loop {
        let mut decoder = Decoder::with_ip(bits, bytes, case.before.rip, last);
        let mut iced = decoder.decode();
        let offsets = decoder.get_constant_offsets(&iced);
        if iced.is_invalid() && last == DecoderOptions::NONE {
            last = DecoderOptions::NO_INVALID_CHECK;
            continue;
        }
        if iced.is_invalid() {
            iced.set_len(bytes.len());
        }
        return (iced, offsets);
    }
}

/// Whether no processor of any make has an instruction of these bytes.
fn never_valid(bytes: &[u8], mode: Mode) -> bool {
    const MAKES: u32 = DecoderOptions::NO_INVALID_CHECK
        | DecoderOptions::AMD
        | DecoderOptions::FORCE_RESERVED_NOP
        | DecoderOptions::KNC;
    [DecoderOptions::NONE, MAKES, EARLIER]
        .iter()
        .all(|&options| {
            let mut decoder = Decoder::new(mode.bits(), bytes, options);
            decoder.decode().is_invalid()
                && decoder.last_error() == DecoderError::InvalidInstruction
        })
}

/// What processors had once, or have besides.
const EARLIER: u32 = DecoderOptions::UMOV
    | DecoderOptions::XBTS
    | DecoderOptions::CMPXCHG486A
    | DecoderOptions::OLD_FPU
    | DecoderOptions::PCOMMIT
    | DecoderOptions::LOADALL286
    | DecoderOptions::LOADALL386
    | DecoderOptions::CL1INVMB
    | DecoderOptions::MOV_TR
    | DecoderOptions::JMPE
    | DecoderOptions::UDBG
    | DecoderOptions::CYRIX
    | DecoderOptions::CYRIX_DMI
    | DecoderOptions::ALTINST;

fn add_templates(
    forms: &mut BTreeMap<(u16, u16), (Mnemonic, Form)>,
    mode: Mode,
    model: &CpuModel,
    prefixes: &'static [u8],
    rex_w: bool,
    opcode: &[u8],
) {
    let mut bytes = [0u8; MAX_LEN];
    let mut at = 0;
    for &byte in prefixes {
        bytes[at] = byte;
        at += 1;
    }
    if rex_w {
        bytes[at] = 0x48;
        at += 1;
    }
    bytes[at..at + opcode.len()].copy_from_slice(opcode);
    at += opcode.len();
    let mut found: BTreeMap<(u16, u16), (Mnemonic, Template)> = BTreeMap::new();
    for modrm in 0..=255 {
        bytes[at] = modrm;
        let iced = Decoder::new(mode.bits(), &bytes, DecoderOptions::NONE).decode();
        let undefined = is_ud(&iced) || iced.is_invalid() && never_valid(&bytes, mode);
        if !undefined && !accepted(&iced, model) {
            continue;
        }
        let key = (iced.mnemonic() as u16, iced.code() as u16);
        // Undefined opcodes are one form a map.
        let key = if undefined {
            (key.0, opcode.len() as u16)
        } else {
            key
        };
        let (_, template) = found.entry(key).or_insert_with(|| {
            let template = Template {
                prefixes,
                rex_w,
                opcode: opcode.to_vec(),
                memory: Vec::new(),
                register: Vec::new(),
            };
            (iced.mnemonic(), template)
        });
        if modrm < 0xC0 {
            template.memory.push(modrm);
        } else {
            template.register.push(modrm);
        }
    }
    for (key, (mnemonic, template)) in found {
        let (_, form) = forms.entry(key).or_insert_with(|| {
            let form = Form {
                templates: Vec::new(),
            };
            (mnemonic, form)
        });
        form.templates.push(template);
    }
}

/// Contents for the data windows.
fn pools(seed: u64) -> Vec<[u8; WINDOW_BYTES]> {
    let mut rng = Rng::new(seed ^ 0x0DA7_A000);
    (0..POOLS)
        .map(|n| {
            let mut pool = [0; WINDOW_BYTES];
            let constant = rng.bits() as u8;
            for chunk in pool.chunks_exact_mut(16) {
                let value = match n % 4 {
                    0 => u128::from_le_bytes([constant; 16]),
                    _ => rng.vector(),
                };
                chunk.copy_from_slice(&value.to_le_bytes());
            }
            pool
        })
        .collect()
}

/// Writes prefixes, opcode and ModR/M byte; returns the length.
fn encode(rng: &mut Rng, template: &Template, mode: Mode, bytes: &mut [u8]) -> usize {
    let mut at = 0;
    let mut put = |byte: u8| {
        bytes[at] = byte;
        at += 1;
    };
    let extra = rng.bits();
    if extra >> 59 == 0 {
        // Any number of any prefixes, up to more than an instruction may have. A REX prefix among them means nothing.
        let most = if extra >> 58 & 1 == 0 {
            3
        } else {
            MAX_LEN as u64 - 1
        };
        for _ in 0..rng.below(most + 1) {
            let rex = mode == Mode::Bits64 && rng.one_in(4);
            put(match rng.bits() {
                random if rex => 0x40 | random as u8 & 15,
                random => ANY_PREFIX[(random >> 32) as usize % ANY_PREFIX.len()],
            });
        }
    }
    if extra & 7 == 0 {
        put([0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x64, 0x65][(extra >> 8 & 7) as usize]);
    }
    if extra >> 3 & 7 == 0 {
        put(0x67);
    }
    if extra >> 11 & 63 == 0 {
        put([0x66, 0xF2, 0xF3, 0xF0][(extra >> 17 & 3) as usize]);
    } else if extra >> 11 & 15 == 1 {
        put(0xF0);
    }
    for &byte in template.prefixes {
        put(byte);
    }
    let is_vex = template.opcode.len() == 4;
    if mode == Mode::Bits64 && !is_vex {
        let rex = 0x40 | u8::from(template.rex_w) << 3 | (extra >> 20) as u8 & 7;
        if template.rex_w || extra >> 24 & 1 != 0 {
            put(rex);
        }
    }
    let opcode = if is_vex {
        vary_vex(extra >> 32, mode, &template.opcode)
    } else {
        template.opcode.clone()
    };
    for byte in opcode {
        put(byte);
    }
    let memory =
        template.register.is_empty() || !template.memory.is_empty() && extra >> 25 & 1 == 0;
    let modrm = if memory {
        rng.pick(&template.memory)
    } else {
        rng.pick(&template.register)
    };
    put(modrm);
    at
}
