//! Random cases: every form of every instruction, and states in which they do something.

use std::collections::BTreeMap;

use iced_x86::{
    Code, ConstantOffsets, Decoder, DecoderError, DecoderOptions, Instruction, MemorySize,
    Mnemonic, OpKind, Register,
};
use x86::cpuid::CpuModel;
use x86::table;

use crate::state::{
    Case, DATA, DATA_BYTES, DATA_SELECTORS, GDT, LDT, MAX_LEN, Mode, READ_ONLY, REGION,
    SELECTOR_CODE16, SELECTOR_CODE32, SELECTOR_CODE64, SELECTOR_DATA, SLOT, SLOT_ENTRY,
    STACK_SELECTORS, State, WINDOW_BYTES, WINDOWS, fx,
};
use crate::undefined;

/// Splitmix64: small, seeded, and good enough for choosing.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// An integer that is likely to be at an edge.
    pub fn integer(&mut self) -> u64 {
        let random = self.bits();
        let small = random >> 58;
        match random & 15 {
            0 => 0,
            1 => 1,
            2 => !0,
            3 => 1 << small,
            4 => (1 << small) - 1,
            5 => !(1 << small),
            6 => small,
            7 => small.wrapping_neg(),
            8 => self.pick(&[0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF]),
            9 => self.pick(&[0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000]),
            10 => self.pick(&[i64::MAX as u64, i64::MIN as u64, 0x8080_8080_8080_8080]),
            11 => u64::from(self.bits() as u32),
            12 => self.bits() as i16 as i64 as u64,
            _ => self.bits(),
        }
    }

    /// A number at the border of an integer format, or half-way between two integers.
    fn beside_integer(&mut self) -> f64 {
        let border = self.pick(&[7, 8, 15, 16, 31, 32, 52, 53, 63, 64]);
        let base = match self.below(4) {
            0 => self.below(1000) as f64,
            1 => 1e18,
            _ => (border as f64).exp2(),
        };
        let step = self.pick(&[-1024.0, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]);
        base + step
    }

    /// A number that has to do with `a`, in a format of `exponent` and `fraction` bits: such that a sum cancels or
    /// rounds half-way, or a product or quotient is about the smallest or largest number.
    fn relate(&mut self, a: u64, exponent: u32, fraction: u32) -> u64 {
        let largest = (1 << exponent) - 1;
        let bias = largest >> 1;
        let mask = (1 << fraction) - 1;
        let own = (a >> fraction) as i64 & largest;
        let sign = self.bits() & 1 << (exponent + fraction);
        let near = self.below(8) as i64 - 4;
        let target = match self.below(4) {
            0 => largest - 3 + self.below(5) as i64,
            1 => -(i64::from(fraction)) - 2 + self.below(4) as i64,
            _ => -(self.below(u64::from(fraction) + 2) as i64),
        };
        let other = match self.below(6) {
            0 => return a ^ sign,
            1 => return a.wrapping_add(near as u64) ^ sign,
            2 => own + self.below(2 * u64::from(fraction) + 6) as i64 - i64::from(fraction) - 3,
            3 => target + bias - own,
            4 => own + bias - target,
            _ => own,
        };
        let significand = match self.below(5) {
            0 => 0,
            1 => mask,
            2 => a & mask,
            3 => self.bits() & mask & !(mask >> 3),
            _ => self.bits() & mask,
        };
        sign | (other.clamp(0, largest) as u64) << fraction | significand
    }

    /// The same in extended precision.
    fn relate80(&mut self, (significand, exponent): (u64, u16)) -> (u64, u16) {
        let own = i64::from(exponent & 0x7FFF);
        let sign = self.bits() as u16 & 0x8000;
        let target = match self.below(3) {
            0 => 0x7FFF - 3 + self.below(5) as i64,
            _ => -(self.below(70) as i64),
        };
        let other = match self.below(6) {
            0 => return (significand, exponent ^ sign),
            1 => {
                let near = significand.wrapping_add(self.below(8)).wrapping_sub(4);
                return (near | significand & 1 << 63, exponent ^ sign);
            }
            2 => own + self.below(140) as i64 - 70,
            3 => target + 0x3FFF - own,
            4 => own + 0x3FFF - target,
            _ => own,
        };
        let fraction = match self.below(5) {
            0 => 0,
            1 => !0,
            2 => significand,
            3 => self.bits() << 60,
            _ => self.bits(),
        };
        let other = other.clamp(0, 0x7FFF) as u16;
        let integer = u64::from(other != 0) << 63;
        (fraction & !(1 << 63) | integer, sign | other)
    }

    /// A single-precision number.
    pub fn float32(&mut self) -> u32 {
        let random = self.bits();
        let sign = (random >> 32) as u32 & 1 << 31;
        sign | match random & 15 {
            0 => 0,
            1 => 1 + (random >> 40) as u32 % 3,
            2 => (random >> 40) as u32 & 0x7F_FFFF,
            3 => 0x7F80_0000,
            4 => 0x7FC0_0000 | (random >> 42) as u32,
            5 => 0x7F80_0001 + ((random >> 42) as u32 & 0x3F_FFFE),
            6 => 0x7F7F_FFFF - ((random >> 40) as u32 & 3),
            7 => 0x0080_0000 + ((random >> 40) as u32 & 3),
            8 | 9 => ((random >> 40 & 0xFF) as f32).to_bits(),
            10 => 0x4E80_0000 + ((random >> 40) as u32 & 0x01FF_FFFF),
            11 => 0x3F80_0000 + ((random >> 40) as u32 & 7),
            12 => 0x3F00_0000 | (random >> 40) as u32 & 0x00FF_FFFF,
            13 => (self.beside_integer() as f32).to_bits() & !(1 << 31),
            _ => (random >> 33) as u32 & 0x7FFF_FFFF,
        }
    }

    /// A double-precision number.
    pub fn float64(&mut self) -> u64 {
        let random = self.bits();
        let sign = self.bits() & 1 << 63;
        sign | match random & 15 {
            0 => 0,
            1 => 1 + (random >> 40) % 3,
            2 => random >> 12,
            3 => 0x7FF << 52,
            4 => 0x7FF8 << 48 | random >> 13,
            5 => (0x7FF << 52) + 1 + (random >> 14),
            6 => 0x7FEF_FFFF_FFFF_FFFF - (random >> 62),
            7 => (1 << 52) + (random >> 62),
            8 => ((random >> 40 & 0xFF) as f64).to_bits(),
            9 => f64::from(f32::from_bits(self.float32() & 0x7FFF_FFFF)).to_bits() & !(1 << 63),
            // About the edges of 32-bit and 64-bit integers, and of single precision.
            10 => 0x41D0_0000_0000_0000 + (random >> 10 & 0x003F_FFFF_FFFF_FFFF),
            11 => 0x43C0_0000_0000_0000 + (random >> 10 & 0x003F_FFFF_FFFF_FFFF),
            12 => self.pick(&[0x47E, 0x47F, 0x380, 0x36A, 0x369]) << 52 | random >> 12,
            13 => 0x3FE << 52 | random >> 11,
            14 => self.beside_integer().to_bits() & !(1 << 63),
            _ => random >> 1,
        }
    }

    /// An extended-precision number.
    pub fn float80(&mut self) -> (u64, u16) {
        let random = self.bits();
        let sign = (random >> 48) as u16 & 0x8000;
        let normal = 1 << 63;
        let fraction = match random >> 4 & 3 {
            0 => 0,
            1 => self.bits() & 0xFFFF_FF00_0000_0000,
            2 => self.bits() & 0xFFFF_FFFF_FFFF_F800,
            _ => self.bits(),
        };
        let (significand, exponent) = match random & 15 {
            0 => (0, 0),
            1 => (fraction & !normal, 0),
            2 => (fraction | normal, 0),
            3 => (normal, 0x7FFF),
            4 => (fraction | 3 << 62, 0x7FFF),
            5 => ((fraction | normal) & !(1 << 62) | 1, 0x7FFF),
            6 => (fraction | normal, 0x7FFE - (random >> 40 & 3) as u16),
            7 => (fraction | normal, 1 + (random >> 40 & 3) as u16),
            8 => (fraction & !normal, (random >> 40 & 0x7FFF) as u16),
            9 => (normal, 0x3FFF + (random >> 40 & 7) as u16),
            10 | 11 => (fraction | normal, 0x3FFF - 3 + (random >> 40 & 7) as u16),
            12 => (fraction | normal, 0x3FFF + (random >> 40 & 0x3F) as u16),
            13 => (
                fraction | normal,
                self.pick(&[
                    0x3FFF - 127,
                    0x3FFF + 127,
                    0x3FFF - 1023,
                    0x3FFF + 1023,
                    0x3FFF - 149,
                ]) + (random >> 40 & 3) as u16,
            ),
            _ => (fraction | normal, (random >> 40 & 0x7FFF) as u16),
        };
        (significand, sign | exponent)
    }

    fn float80_bytes(&mut self) -> [u8; 10] {
        let (significand, exponent) = self.float80();
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&significand.to_le_bytes());
        bytes[8..].copy_from_slice(&exponent.to_le_bytes());
        bytes
    }

    /// 128 bits of something.
    fn vector(&mut self) -> u128 {
        let wide = |low: u64, high: u64| u128::from(low) | u128::from(high) << 64;
        match self.below(5) {
            0 => wide(self.integer(), self.integer()),
            1 => wide(self.bits(), self.bits()),
            2 | 3 => {
                let mut lanes = [0u32; 4];
                lanes.fill_with(|| self.float32());
                lanes
                    .iter()
                    .rev()
                    .fold(0, |all, &lane| all << 32 | u128::from(lane))
            }
            _ => wide(self.float64(), self.float64()),
        }
    }
}

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

/// Code segments of each kind.
const CODE_SELECTORS: [u16; 5] = [
    SELECTOR_CODE32,
    SELECTOR_CODE64,
    SELECTOR_CODE16,
    0x2F,
    0x5F,
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

fn is_far(iced: &Instruction) -> bool {
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
fn extended_state(mnemonic: Mnemonic) -> bool {
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
    let mut rng = Rng(seed ^ 0x0DA7_A000);
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

/// Whether the instruction is one of SSE4.2's string comparisons.
fn compares_text(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{Pcmpestri, Pcmpestri64, Pcmpestrm, Pcmpestrm64, Pcmpistri, Pcmpistrm};
    matches!(
        mnemonic,
        Pcmpestri | Pcmpestri64 | Pcmpestrm | Pcmpestrm64 | Pcmpistri | Pcmpistrm
    )
}

/// Bytes or words of a small alphabet, so that some are equal and some end a string.
fn text(rng: &mut Rng) -> u128 {
    let letters = rng.pick(&[2, 3, 5, 40]);
    let first = rng.pick(&[0, 0, 1, 0x7E, 0xFE]);
    let words = rng.one_in(2);
    (0..if words { 8 } else { 16 }).fold(0, |all, n| {
        let letter = u128::from(first + rng.below(letters));
        if words {
            all | (letter & 0xFFFF) << (16 * n)
        } else {
            all | (letter & 0xFF) << (8 * n)
        }
    })
}

/// Makes registers, displacement, immediate and memory such that the instruction has something to do.
struct Steering<'a> {
    rng: &'a mut Rng,
    case: &'a mut Case,
    iced: &'a Instruction,
    offsets: ConstantOffsets,
}

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;

impl Steering<'_> {
    fn steer(&mut self) {
        self.immediate();
        self.values();
        if self.iced.is_stack_instruction() || is_far(self.iced) {
            self.stack();
        }
        for n in 0..self.iced.op_count() {
            self.operand(n);
        }
        self.branch();
    }

    /// Offset in the region of a place for `size` bytes.
    fn place(&mut self, size: u64) -> u64 {
        let align = size.next_power_of_two().clamp(1, 64);
        let (start, len) = (WINDOWS[0].0, WINDOWS[0].1 as u64);
        let room = len - size.min(len);
        match self.rng.below(32) {
            0..=19 => start + (self.rng.below(room + 1) & !(align - 1)),
            20..=23 => start + self.rng.below(room + 1),
            // Across the page border.
            24..=25 => DATA + 0x1000 - self.rng.below(size.min(0x200) + 1),
            // At the end, and across it.
            26..=27 => DATA + DATA_BYTES - size.min(0x200),
            28 => DATA + DATA_BYTES - self.rng.below(size + 8).min(0x200),
            29 => READ_ONLY + (self.rng.below(2048) & !(align - 1)),
            // Nothing, mostly.
            30 => 0x5000 + self.rng.below(0xB000),
            _ => start + (self.rng.below(room + 1) & !(align - 1)),
        }
    }

    fn segment_base(&self, segment: Register) -> u64 {
        self.case.segment_base(segment)
    }

    fn set(&mut self, register: Register, value: u64) {
        let full = register.full_register().number();
        let mask = match register.size() {
            1 => 0xFF,
            2 => 0xFFFF,
            4 => 0xFFFF_FFFF,
            _ => !0,
        };
        let old = &mut self.case.before.regs[full];
        *old = *old & !mask | value & mask;
    }

    fn get(&self, register: Register) -> u64 {
        let value = self.case.before.regs[register.full_register().number()];
        match register.size() {
            1 => value & 0xFF,
            2 => value & 0xFFFF,
            4 => value & 0xFFFF_FFFF,
            _ => value,
        }
    }

    fn operand(&mut self, n: u32) {
        use OpKind::{
            Memory, MemoryESDI, MemoryESEDI, MemoryESRDI, MemorySegDI, MemorySegEDI, MemorySegESI,
            MemorySegRDI, MemorySegRSI, MemorySegSI,
        };
        let (register, segment) = match self.iced.op_kind(n) {
            Memory => return self.memory(),
            MemorySegSI => (Register::SI, self.iced.memory_segment()),
            MemorySegESI => (Register::ESI, self.iced.memory_segment()),
            MemorySegRSI => (Register::RSI, self.iced.memory_segment()),
            MemorySegDI => (Register::DI, self.iced.memory_segment()),
            MemorySegEDI => (Register::EDI, self.iced.memory_segment()),
            MemorySegRDI => (Register::RDI, self.iced.memory_segment()),
            MemoryESDI => (Register::DI, Register::ES),
            MemoryESEDI => (Register::EDI, Register::ES),
            MemoryESRDI => (Register::RDI, Register::ES),
            _ => return,
        };
        let size = self.iced.memory_size().size().max(1) as u64;
        let place = self.place(size);
        let offset = (REGION + place).wrapping_sub(self.segment_base(segment));
        self.set(register, offset);
    }

    fn memory_bytes(&self) -> u64 {
        match self.iced.memory_size() {
            MemorySize::Fxsave_512Byte | MemorySize::Fxsave64_512Byte => 512,
            MemorySize::Xsave | MemorySize::Xsave64 => 576,
            _ => self.iced.memory_size().size().max(1) as u64,
        }
    }

    fn memory(&mut self) {
        if self.rng.one_in(40) {
            return;
        }
        let size = self.memory_bytes();
        let place = self.place(size);
        let iced = self.iced;
        let mut want = (REGION + place).wrapping_sub(self.segment_base(iced.memory_segment()));
        self.content(place, size);
        if matches!(
            iced.mnemonic(),
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
        ) && iced.op_kind(1) == OpKind::Register
        {
            let bits = iced.op1_register().size() as u32 * 8;
            let value = self.get(iced.op1_register());
            let signed = ((value << (64 - bits)) as i64) >> (64 - bits);
            let step = i64::from(bits);
            want = want.wrapping_sub((signed.div_euclid(step) * (step / 8)) as u64);
        }
        let (base, index) = (iced.memory_base(), iced.memory_index());
        let scale = iced.memory_index_scale().trailing_zeros();
        let displacement = iced.memory_displacement64();
        let patchable = self.offsets.has_displacement();
        match (base, index) {
            (Register::None, Register::None) => self.patch_displacement(want),
            (Register::RIP | Register::EIP, _) => {
                let next = self.case.before.rip + u64::from(self.case.len);
                self.patch_displacement(want.wrapping_sub(next));
            }
            (base, Register::None) => {
                if base.full_register() == Register::RSP && self.iced.is_stack_instruction() {
                    let rsp = self.get(base);
                    if patchable {
                        self.patch_displacement(want.wrapping_sub(rsp));
                    }
                } else {
                    self.set(base, want.wrapping_sub(displacement));
                }
            }
            (Register::None, index) => {
                if self.offsets.displacement_size() >= 2 {
                    let value = self.rng.below(0x1000);
                    self.set(index, value);
                    self.patch_displacement(want.wrapping_sub(value << scale));
                } else {
                    self.set(index, want.wrapping_sub(displacement) >> scale);
                }
            }
            (base, index) if base.full_register() == index.full_register() => {
                let sum = want.wrapping_sub(displacement);
                self.set(base, sum / (1 + (1 << scale)));
            }
            (base, index) => {
                if self.rng.one_in(2) {
                    let value = self.rng.below(256).wrapping_sub(128);
                    self.set(index, value);
                }
                let mut value = self.get(index);
                if self.iced.mnemonic() == Mnemonic::Xlatb {
                    value &= 0xFF;
                }
                let rest = want.wrapping_sub(displacement).wrapping_sub(value << scale);
                self.set(base, rest);
            }
        }
    }

    fn patch_displacement(&mut self, value: u64) {
        let (at, size) = (
            self.offsets.displacement_offset(),
            self.offsets.displacement_size(),
        );
        self.case.code[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    /// Fills the memory operand with something that suits it.
    fn content(&mut self, place: u64, size: u64) {
        use MemorySize as M;
        let loads_selector = self.loads_selector();
        // The register operand beside it.
        let first = self.iced.op0_register();
        let own = first.is_xmm().then(|| self.case.before.xmm(first.number()));
        let rng = &mut *self.rng;
        let mut bytes = [0u8; 576];
        let bytes = &mut bytes[..size.min(576) as usize];
        match self.iced.memory_size() {
            M::Float32 | M::Packed64_Float32 | M::Packed128_Float32 => {
                let related = own.filter(|_| rng.one_in(2));
                for (n, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                    let value = match related {
                        Some(own) => {
                            rng.relate((own >> (32 * n)) as u64 & 0xFFFF_FFFF, 8, 23) as u32
                        }
                        None => rng.float32(),
                    };
                    chunk.copy_from_slice(&value.to_le_bytes());
                }
            }
            M::Float64 | M::Packed128_Float64 => {
                let related = own.filter(|_| rng.one_in(2));
                for (n, chunk) in bytes.chunks_exact_mut(8).enumerate() {
                    let value = match related {
                        Some(own) => rng.relate((own >> (64 * n)) as u64, 11, 52),
                        None => rng.float64(),
                    };
                    chunk.copy_from_slice(&value.to_le_bytes());
                }
            }
            M::Float80 => bytes.copy_from_slice(&rng.float80_bytes()),
            M::Bcd => {
                for byte in &mut *bytes {
                    let random = rng.bits();
                    *byte = (random % 10) as u8 | ((random >> 32) as u8 % 10) << 4;
                    if random >> 40 & 63 == 0 {
                        *byte = (random >> 48) as u8;
                    }
                }
            }
            M::FpuEnv14 | M::FpuEnv28 | M::FpuState94 | M::FpuState108 => {
                self.environment(bytes);
            }
            M::Fxsave_512Byte | M::Fxsave64_512Byte | M::Xsave | M::Xsave64 => {
                self.image(bytes);
            }
            M::SegPtr16 | M::SegPtr32 | M::SegPtr64 => {
                for byte in &mut *bytes {
                    *byte = rng.bits() as u8;
                }
                let end = bytes.len();
                let selector = if is_far(self.iced) {
                    let (target, selector) = self.far_target();
                    bytes[..end - 2].copy_from_slice(&target.to_le_bytes()[..end - 2]);
                    selector
                } else {
                    self.selector()
                };
                bytes[end - 2..].copy_from_slice(&selector.to_le_bytes());
            }
            _ if self.iced.mnemonic() == Mnemonic::Ldmxcsr => {
                let random = rng.bits();
                // Bit 17 is AMD's (misaligned SSE mode).
                let mask = if random >> 60 == 0 {
                    !(1 << 17)
                } else {
                    0xFFFF
                };
                bytes.copy_from_slice(&(random as u32 & mask).to_le_bytes());
            }
            _ if loads_selector => {
                let selector = self.selector();
                bytes[..2].copy_from_slice(&selector.to_le_bytes());
            }
            _ => match self.iced.mnemonic() {
                Mnemonic::Bound if rng.one_in(2) => {
                    // Either bound is the index, or next to it.
                    let half = bytes.len() / 2;
                    let index =
                        self.case.before.regs[self.iced.op0_register().full_register().number()];
                    let low = index.wrapping_sub(rng.below(4)).wrapping_add(1);
                    let high = index.wrapping_add(rng.below(4)).wrapping_sub(1);
                    bytes[..half].copy_from_slice(&low.to_le_bytes()[..half]);
                    bytes[half..].copy_from_slice(&high.to_le_bytes()[..half]);
                }
                Mnemonic::Cmpxchg if rng.one_in(2) => {
                    bytes.copy_from_slice(&self.case.before.regs[RAX].to_le_bytes()[..bytes.len()]);
                }
                Mnemonic::Cmpxchg8b | Mnemonic::Cmpxchg16b if rng.one_in(2) => {
                    let half = bytes.len() / 2;
                    let regs = &self.case.before.regs;
                    bytes[..half].copy_from_slice(&regs[RAX].to_le_bytes()[..half]);
                    bytes[half..].copy_from_slice(&regs[RDX].to_le_bytes()[..half]);
                }
                mnemonic if compares_text(mnemonic) && rng.one_in(2) => {
                    bytes.copy_from_slice(&text(rng).to_le_bytes()[..bytes.len()]);
                }
                // The pool's contents will do.
                _ if rng.one_in(2) => return,
                _ => {
                    for chunk in bytes.chunks_mut(8) {
                        chunk.copy_from_slice(&rng.integer().to_le_bytes()[..chunk.len()]);
                    }
                }
            },
        }
        self.case.before.poke(place, bytes);
    }

    /// An x87 environment, or the whole state.
    fn environment(&mut self, bytes: &mut [u8]) {
        for byte in &mut *bytes {
            *byte = self.rng.bits() as u8;
        }
        let step = if bytes.len() == 14 || bytes.len() == 94 {
            2
        } else {
            4
        };
        let random = self.rng.bits();
        let control = (random as u16 & 0x0F00)
            | if random >> 60 < 12 {
                0x7F
            } else {
                (random >> 16) as u16 & 0x3F | 0x40
            };
        bytes[..2].copy_from_slice(&control.to_le_bytes());
        let mut status = (random >> 32) as u16 & 0x7F7F;
        if random >> 56 & 1 == 0 {
            status &= control | 0xFFC0;
        }
        bytes[step..step + 2].copy_from_slice(&status.to_le_bytes());
        if bytes.len() >= 94 {
            let start = bytes.len() - 80;
            for chunk in bytes[start..].chunks_exact_mut(10) {
                chunk.copy_from_slice(&self.rng.float80_bytes());
            }
        }
    }

    /// An FXSAVE image, or an XSAVE area.
    fn image(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.rng.bits().to_le_bytes()[..chunk.len()]);
        }
        let before = self.case.before.clone();
        bytes[..fx::ST].copy_from_slice(&before.fx[..fx::ST]);
        let random = self.rng.bits();
        if random & 1 == 0 {
            let mxcsr = (random >> 32) as u32 & 0xFFFF;
            bytes[fx::MXCSR..fx::MXCSR + 4].copy_from_slice(&mxcsr.to_le_bytes());
        }
        bytes[fx::TAG] = (random >> 8) as u8;
        if random >> 16 & 15 == 0 {
            bytes[fx::MXCSR + 2] = 1;
        }
        if bytes.len() > 512 {
            let header = &mut bytes[512..];
            header.fill(0);
            header[0] = (random >> 20) as u8 & 3;
            if random >> 22 & 31 == 0 {
                header[16 + (random >> 32 & 31) as usize] = (random >> 40) as u8;
            }
        }
    }

    /// A selector whose descriptor both sides know.
    fn selector(&mut self) -> u16 {
        match self.rng.below(16) {
            0 => self.rng.below(4) as u16,
            1..=4 => self
                .rng
                .pick(&[SELECTOR_DATA, SELECTOR_CODE32, SELECTOR_CODE64]),
            // The GDT but for its last entry, of which Linux has one for each processor.
            5..=6 => self.rng.below(8 * (GDT.len() as u64 - 1)) as u16 & !4,
            7..=13 => self.rng.below(8 * LDT.len() as u64) as u16 | 4,
            14 => self.rng.below(0x1000) as u16 | 4,
            _ => 0x100 | self.rng.bits() as u16,
        }
    }

    fn loads_selector(&self) -> bool {
        use Mnemonic::{Arpl, Lar, Lsl, Mov, Pop, Verr, Verw};
        match self.iced.mnemonic() {
            Verr | Verw | Lar | Lsl | Arpl => true,
            Mov | Pop => self.iced.op0_register().is_segment_register(),
            _ => false,
        }
    }

    /// Where a far transfer goes, and what it loads into CS: mostly the code segment that it is in.
    fn far_target(&mut self) -> (u64, u16) {
        let selector = match self.rng.below(8) {
            0 => self.selector(),
            1 => self.rng.pick(&CODE_SELECTORS),
            _ => self.case.mode.selectors()[1],
        };
        let target = self.target();
        let based = selector & 4 != 0 && self.rng.one_in(2);
        (if based { target & 0xFFFF } else { target }, selector)
    }

    fn immediate(&mut self) {
        if matches!(
            self.iced.op0_kind(),
            OpKind::FarBranch16 | OpKind::FarBranch32
        ) {
            let (at, size) = (
                self.offsets.immediate_offset(),
                self.offsets.immediate_size(),
            );
            let (target, selector) = self.far_target();
            self.case.code[at..at + size].copy_from_slice(&target.to_le_bytes()[..size]);
            self.case.code[at + size..at + size + 2].copy_from_slice(&selector.to_le_bytes());
            return;
        }
        let near = matches!(
            self.iced.op0_kind(),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        );
        if near {
            let (at, size) = (
                self.offsets.immediate_offset(),
                self.offsets.immediate_size(),
            );
            if size > 1 && !self.rng.one_in(10) {
                // To the INT3s before the instruction.
                let next = self.case.before.rip + u64::from(self.case.len);
                let target = self.landing();
                let relative = target.wrapping_sub(next);
                self.case.code[at..at + size].copy_from_slice(&relative.to_le_bytes()[..size]);
            }
            return;
        }
        if self.offsets.has_immediate() && self.rng.one_in(2) {
            let (at, size) = (
                self.offsets.immediate_offset(),
                self.offsets.immediate_size(),
            );
            let mut value = self.rng.integer();
            if self.iced.mnemonic() == Mnemonic::Enter {
                value &= 0xFF;
            }
            self.case.code[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }

    /// An instruction pointer with INT3.
    fn landing(&mut self) -> u64 {
        self.case.before.rip - SLOT_ENTRY + 16 + self.rng.below(SLOT_ENTRY - 16)
    }

    /// Operands that random values would not make interesting.
    fn values(&mut self) {
        use Mnemonic::{
            Div, Idiv, Loop, Loope, Loopne, Pcmpestri, Pcmpestri64, Pcmpestrm, Pcmpestrm64,
        };
        let rng = &mut *self.rng;
        let regs = &mut self.case.before.regs;
        match self.iced.mnemonic() {
            Div | Idiv => self.dividend(),
            Loop | Loope | Loopne if rng.one_in(2) => regs[RCX] = rng.below(3),
            Pcmpestri | Pcmpestri64 | Pcmpestrm | Pcmpestrm64 => {
                self.lanes();
                let Self { rng, case, .. } = self;
                let regs = &mut case.before.regs;
                for reg in [RAX, RDX] {
                    if !rng.one_in(4) {
                        regs[reg] = rng.below(40).wrapping_sub(20);
                    }
                }
            }
            mnemonic if extended_state(mnemonic) => {
                regs[RAX] &= !0xFFFF_FFFC;
                regs[RDX] &= !0xFFFF_FFFF;
            }
            Mnemonic::Cmpxchg if rng.one_in(2) && self.iced.op0_kind() == OpKind::Register => {
                let rax = regs[RAX];
                self.set(self.iced.op0_register(), rax);
            }
            _ => self.lanes(),
        }
        if self.iced.is_string_instruction()
            && (self.iced.has_rep_prefix() || self.iced.has_repne_prefix())
        {
            let most = if self.rng.one_in(4) { 300 } else { 20 };
            let count = self.rng.below(most);
            // The count is as wide as the addresses; what lies above it must not count.
            let wide = (0..self.iced.op_count()).any(|n| {
                matches!(
                    self.iced.op_kind(n),
                    OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI
                )
            });
            let narrow = (0..self.iced.op_count()).any(|n| {
                matches!(
                    self.iced.op_kind(n),
                    OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI
                )
            });
            let register = match (wide, narrow) {
                (true, _) => Register::RCX,
                (_, true) => Register::CX,
                _ => Register::ECX,
            };
            self.set(register, count);
        }
        if self.loads_selector() {
            let selector = self.selector().into();
            for n in 0..2 {
                let register = self.iced.op_register(n);
                if self.iced.op_kind(n) == OpKind::Register && register.is_gpr() && n == 1 {
                    self.set(register, selector);
                }
            }
        }
    }

    /// Makes the dividend of a division fit its divisor, mostly; a quotient at an edge.
    fn dividend(&mut self) {
        let rng = &mut *self.rng;
        let regs = &mut self.case.before.regs;
        if self.iced.op0_kind() != OpKind::Register || rng.one_in(3) {
            regs[RDX] = if rng.one_in(2) { 0 } else { !0 };
            if rng.one_in(2) {
                regs[RAX] = rng.bits() & 0xFF;
            }
            return;
        }
        let register = self.iced.op0_register();
        let bits = register.size() as u32 * 8;
        let mask = !0u64 >> (64 - bits);
        let sign_extend = |value: u64| ((value << (64 - bits)) as i64) >> (64 - bits);
        let (quotient, rest) = (rng.integer(), rng.integer());
        let divisor = self.get(register) & mask;
        let dividend = if self.iced.mnemonic() == Mnemonic::Div {
            let quotient = u128::from(quotient & mask);
            u128::from(divisor) * quotient + u128::from(rest) % u128::from(divisor.max(1))
        } else {
            let (divisor, quotient) = (sign_extend(divisor), sign_extend(quotient));
            let product = i128::from(divisor) * i128::from(quotient);
            let rest = u128::from(rest) % u128::from(divisor.unsigned_abs().max(1));
            let away = rest as i128 * if product < 0 { -1 } else { 1 };
            product.wrapping_add(away) as u128
        };
        if bits == 8 {
            self.set(Register::AX, dividend as u64);
            return;
        }
        let keep = |old: u64, new: u64| old & !mask | new & mask;
        let regs = &mut self.case.before.regs;
        regs[RAX] = keep(regs[RAX], dividend as u64);
        regs[RDX] = keep(regs[RDX], (dividend >> bits) as u64);
    }

    /// Numbers or text in XMM registers, as the instruction takes them.
    fn lanes(&mut self) {
        let registers = [self.iced.op0_register(), self.iced.op1_register()];
        if !registers.iter().any(|register| register.is_xmm()) || self.rng.one_in(4) {
            return;
        }
        let mnemonic = self.iced.mnemonic();
        let name = format!("{mnemonic:?}");
        let double = name.ends_with("sd") || name.ends_with("pd");
        let single = name.ends_with("ss") || name.ends_with("ps");
        if !double && !single && !compares_text(mnemonic) {
            return;
        }
        let mut first = 0;
        for (n, register) in registers.into_iter().enumerate() {
            if !register.is_xmm() {
                continue;
            }
            let rng = &mut *self.rng;
            let related = n == 1 && registers[0].is_xmm() && !rng.one_in(3);
            let value = if compares_text(mnemonic) {
                text(rng)
            } else if double {
                (0..2).fold(0, |all, lane| {
                    let bits = match related {
                        true => rng.relate((first >> (64 * lane)) as u64, 11, 52),
                        false => rng.float64(),
                    };
                    all | u128::from(bits) << (64 * lane)
                })
            } else {
                (0..4).fold(0, |all, lane| {
                    let bits = match related {
                        true => rng.relate((first >> (32 * lane)) as u64 & 0xFFFF_FFFF, 8, 23),
                        false => rng.float32().into(),
                    };
                    all | u128::from(bits) << (32 * lane)
                })
            };
            self.case.before.put_xmm(register.number(), value);
            if n == 0 {
                first = value;
            }
        }
    }

    fn stack(&mut self) {
        let place = self.place(32).wrapping_add(16);
        let offset = (REGION + place).wrapping_sub(self.segment_base(Register::SS));
        let (stack, frame) = match self.case.stack_mask() {
            0xFFFF => (Register::SP, Register::BP),
            _ => (Register::RSP, Register::RBP),
        };
        self.set(stack, offset);
        match self.iced.mnemonic() {
            Mnemonic::Leave | Mnemonic::Enter => {
                let place = self.place(32).wrapping_add(16);
                let offset = (REGION + place).wrapping_sub(self.segment_base(Register::SS));
                self.set(frame, offset);
            }
            Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq => {
                let flags = self.rng.bits();
                self.case.before.poke(place, &flags.to_le_bytes());
            }
            Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => {
                let slot = match self.iced.code() {
                    Code::Iretw => 2,
                    Code::Iretd => 4,
                    _ => 8,
                };
                let new_stack = REGION + self.place(32).wrapping_add(16);
                let stack_selector = match self.rng.below(4) {
                    0 => self.selector(),
                    1 => self.rng.pick(&STACK_SELECTORS),
                    _ => SELECTOR_DATA,
                };
                let (target, selector) = self.far_target();
                let frame = [
                    target,
                    u64::from(selector),
                    self.rng.bits(),
                    new_stack,
                    u64::from(stack_selector),
                ];
                for (n, value) in frame.into_iter().enumerate() {
                    let at = place + (slot * n) as u64;
                    self.case.before.poke(at, &value.to_le_bytes()[..slot]);
                }
            }
            Mnemonic::Retf => {
                let slot = match self.iced.code() {
                    Code::Retfw | Code::Retfw_imm16 => 2,
                    Code::Retfd | Code::Retfd_imm16 => 4,
                    _ => 8,
                };
                let (target, selector) = self.far_target();
                let before = &mut self.case.before;
                before.poke(place, &target.to_le_bytes()[..slot]);
                before.poke(place + slot as u64, &selector.to_le_bytes());
            }
            Mnemonic::Ret => {
                let target = self.target();
                self.case.before.poke(place, &target.to_le_bytes());
            }
            Mnemonic::Pop if self.loads_selector() => {
                let selector = self.selector();
                self.case.before.poke(place, &selector.to_le_bytes());
            }
            _ => {}
        }
    }

    fn target(&mut self) -> u64 {
        if self.rng.one_in(10) {
            self.rng.integer()
        } else {
            self.landing()
        }
    }

    /// Indirect branches.
    fn branch(&mut self) {
        let iced = self.iced;
        if !iced.is_jmp_near_indirect() && !iced.is_call_near_indirect() {
            return;
        }
        let target = self.target();
        if iced.op0_kind() == OpKind::Register {
            self.set(iced.op0_register(), target);
        } else {
            let base = self.segment_base(iced.memory_segment());
            let (fresh, _) = decode(&self.case.code[..self.case.len.into()], self.case);
            let linear = fresh
                .virtual_address(0, 0, |register, _, _| {
                    Some(if register.is_segment_register() {
                        base
                    } else {
                        self.get(register)
                    })
                })
                .unwrap_or_default();
            let offset = linear.wrapping_sub(REGION);
            self.case.before.poke(offset, &target.to_le_bytes());
        }
    }
}
