//! Random programs which get past their first instruction: mostly whole instructions, in every mode,
//! with descriptor tables and page tables that are nearly right.

use emulator::Preload;
use platform::testkit::Rng;

use crate::machines::tiny_bios;

const CODE: u64 = 0x7C00;
const CODE_BYTES: u64 = 0x1800;
const GDT: u64 = 0x800;
const IDT: u64 = 0x1000;
const TSS: u64 = 0x2000;
const PAGES: u64 = 0x1_0000;
/// Where an SMI enters.
const SMM_HANDLER: u64 = 0x3_8000;
/// An IRET in the tiny BIOS.
const IRET_STUB: u64 = 0xF_FF00;

/// How a program starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Real,
    Protected { paging: Paging, user: bool },
    Virtual8086,
    Long { user: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    Off,
    Legacy,
    Pae,
}

impl Mode {
    fn any(rng: &mut Rng) -> Self {
        let user = rng.below(2) == 0;
        let paging = [Paging::Off, Paging::Legacy, Paging::Pae][rng.below(3) as usize];
        match rng.below(8) {
            0..2 => Self::Real,
            2..4 => Self::Protected { paging, user },
            4 => Self::Virtual8086,
            _ => Self::Long { user },
        }
    }

    fn paging(self) -> bool {
        match self {
            Self::Protected { paging, .. } => paging != Paging::Off,
            Self::Long { .. } => true,
            Self::Real | Self::Virtual8086 => false,
        }
    }
}

/// A program, the tables around it, and a BIOS which starts it.
pub struct Program {
    pub bios: Vec<u8>,
    pub preloads: Vec<Preload>,
}

impl Program {
    pub fn any(rng: &mut Rng) -> Self {
        // Numbers of their own, so that a seed gives the program that it gave before.
        let mut others = rng.clone();
        let with_smm = others.below(2) == 0;
        let mode = Mode::any(rng);
        let mut code = code(rng, mode);
        if with_smm {
            // OUT B2, AL
            code.splice(0..0, [0xE6, 0xB2]);
        }
        let mut preloads = vec![
            preload(CODE, code),
            preload(SMM_HANDLER, smm_handler(&mut others)),
            preload(TSS, task_states(rng)),
            preload(GDT, descriptors(rng)),
        ];
        if mode != Mode::Real {
            preloads.push(preload(0x500, pseudo_descriptor(0x100, GDT)));
            preloads.push(preload(0x508, pseudo_descriptor(0xFFF, IDT)));
            preloads.push(preload(IDT, gates(rng, mode)));
        } else {
            preloads.push(preload(0, vectors(rng)));
        }
        if mode.paging() {
            preloads.push(preload(PAGES, page_tables(rng, mode)));
        }
        Self {
            bios: {
                let prologue = if with_smm {
                    smm_is_on(&mut others)
                } else {
                    Vec::new()
                };
                tiny_bios(&start(rng, mode, prologue))
            },
            preloads,
        }
    }
}

/// Lets the APM control port raise SMIs, and shows SMRAM in one way or another.
fn smm_is_on(rng: &mut Rng) -> Vec<u8> {
    let mut code = Vec::new();
    let smram = [0x02, 0x0A, 0x4A, 0x2A, 0x1A][rng.below(5) as usize];
    for (port, value) in [
        (0xCF8u16, 0x8000_0B58u32),
        (0xCFC, 1 << 25),
        (0x628, 1),
        (0xCF8, 0x8000_0070),
        (0xCFC, smram << 16),
    ] {
        // MOV EAX, value; MOV DX, port; OUT DX, EAX
        code.extend([0x66, 0xB8]);
        code.extend(value.to_le_bytes());
        code.push(0xBA);
        code.extend(port.to_le_bytes());
        code.extend([0x66, 0xEF]);
    }
    code
}

/// What an SMI enters: it changes what was saved, does something and returns, again and again.
fn smm_handler(rng: &mut Rng) -> Vec<u8> {
    let mut writer = Writer {
        rng,
        bytes: Vec::new(),
        wide: false,
    };
    for _ in 0..32 {
        for _ in 0..writer.rng.below(3) {
            // MOV byte [CS:offset], value
            let [low, high] = (0xFE00 + writer.rng.below(0x200) as u16).to_le_bytes();
            let value = writer.rng.next_u64() as u8;
            writer.put(&[0x2E, 0xC6, 0x06, low, high, value]);
        }
        for _ in 0..writer.rng.below(3) {
            writer.instruction();
        }
        writer.put(&[0x0F, 0xAA]);
    }
    writer.bytes
}

fn preload(addr: u64, bytes: Vec<u8>) -> Preload {
    Preload {
        addr,
        bytes,
        zeros: 0,
    }
}

fn pseudo_descriptor(limit: u16, base: u64) -> Vec<u8> {
    let mut bytes = limit.to_le_bytes().to_vec();
    bytes.extend((base as u32).to_le_bytes());
    bytes
}

/// The way from the reset vector through `code` into `mode`.
fn start(rng: &mut Rng, mode: Mode, mut code: Vec<u8>) -> Vec<u8> {
    // CLI; XOR AX, AX; MOV DS, ES, SS, AX; MOV SP, 7C00
    code.extend([
        0xFA, 0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x7C,
    ]);
    if mode == Mode::Real {
        // STI; JMP 0:7C00
        code.extend([0xFB, 0xEA, 0x00, 0x7C, 0x00, 0x00]);
        return code;
    }
    // LGDT [500]; LIDT [508]
    code.extend([0x0F, 0x01, 0x16, 0x00, 0x05, 0x0F, 0x01, 0x1E, 0x08, 0x05]);
    let mut mov_eax = |value: u32, then: &[u8]| {
        code.extend([0x66, 0xB8]);
        code.extend(value.to_le_bytes());
        code.extend(then);
    };
    let long = matches!(mode, Mode::Long { .. });
    let pae = long
        || matches!(
            mode,
            Mode::Protected {
                paging: Paging::Pae,
                ..
            }
        );
    let mut cr4 = if pae { 0x20 } else { 0x10 };
    cr4 |= [
        0,
        0x600,
        0x80,
        0x68F,
        0x30_0000,
        rng.next_u64() as u32 & 0x7FF,
    ][rng.below(6) as usize];
    mov_eax(cr4, &[0x0F, 0x22, 0xE0]);
    mov_eax(PAGES as u32, &[0x0F, 0x22, 0xD8]);
    if pae {
        // MOV ECX, EFER; XOR EDX, EDX; WRMSR
        let efer = [0x000, 0x800, 0x801][rng.below(3) as usize] | if long { 0x100 } else { 0 };
        mov_eax(
            efer,
            &[
                0x66, 0xB9, 0x80, 0x00, 0x00, 0xC0, 0x66, 0x31, 0xD2, 0x0F, 0x30,
            ],
        );
    }
    let mut cr0 = 0x11 | [0, 0x20, 0x1_0000, 0x4_0022, 0x08][rng.below(5) as usize];
    if mode.paging() {
        cr0 |= 0x8000_0000;
    }
    mov_eax(cr0, &[0x0F, 0x22, 0xC0]);
    // JMP 8:flat or 28:flat, which is in the BIOS at 1 MiB.
    let flat = 0xF_0000 + code.len() as u32 + 8;
    code.extend([0x66, 0xEA]);
    code.extend(flat.to_le_bytes());
    code.extend(if long { [0x28, 0] } else { [8, 0] });
    // MOV EAX, 10; MOV DS, ES, SS, FS, GS, EAX; MOV ESP, 7C00; MOV EAX, 38; LTR AX
    code.extend([0xB8, 0x10, 0, 0, 0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0]);
    code.extend([0x8E, 0xE0, 0x8E, 0xE8, 0xBC, 0x00, 0x7C, 0, 0, 0xB8, 0x38]);
    code.extend([0, 0, 0, 0x0F, 0x00, 0xD8]);
    let mut push = |value: u32| {
        code.push(0x68);
        code.extend(value.to_le_bytes());
    };
    let flags = [0x202, 0x3202, 0x302, 0x7ED7][rng.below(4) as usize];
    match mode {
        Mode::Virtual8086 => {
            for segment in [0, 0xB800, 0x0800, 0x0700, 0x0100] {
                push(segment);
            }
            for value in [0xFFF0, flags | 0x2_0000, 0, CODE as u32] {
                push(value);
            }
            code.push(0xCF);
        }
        Mode::Protected { user: true, .. } | Mode::Long { user: true } => {
            push(0x23);
            push(0x6C00);
            push(flags);
            push(if long { 0x33 } else { 0x1B });
            push(CODE as u32);
            code.extend(if long { [0x48, 0xCF] } else { [0xCF, 0x90] });
        }
        _ => {
            // STI; MOV EAX, 7C00; JMP RAX
            code.extend([0xFB, 0xB8, 0x00, 0x7C, 0, 0, 0xFF, 0xE0]);
        }
    }
    code
}

/// Interrupt vectors of real mode.
fn vectors(rng: &mut Rng) -> Vec<u8> {
    (0..256)
        .flat_map(|_| {
            match rng.below(4) {
                0 => (CODE + rng.below(CODE_BYTES)) as u32,
                1 if rng.below(8) == 0 => rng.next_u64() as u32,
                _ => 0xF000_FF00,
            }
            .to_le_bytes()
        })
        .collect()
}

fn segment(base: u64, limit: u64, access: u64, flags: u64) -> u64 {
    (limit & 0xFFFF)
        | (base & 0xFF_FFFF) << 16
        | access << 40
        | (limit >> 16 & 0xF) << 48
        | flags << 52
        | (base >> 24 & 0xFF) << 56
}

fn descriptors(rng: &mut Rng) -> Vec<u8> {
    let mut table = vec![
        0,
        segment(0, 0xF_FFFF, 0x9B, 0xC),
        segment(0, 0xF_FFFF, 0x93, 0xC),
        segment(0, 0xF_FFFF, 0xFB, 0xC),
        segment(0, 0xF_FFFF, 0xF3, 0xC),
        segment(0, 0xF_FFFF, 0x9B, 0xA),
        segment(0, 0xF_FFFF, 0xFB, 0xA),
        segment(TSS, 0x1FF, 0x89, 0),
        0,
        segment(GDT, 0xFF, 0x82, 0),
        segment(0, 0xFFFF, 0x9B, 0),
        segment(0, 0xFFFF, 0x93, 0),
        gate(8, CODE + rng.below(CODE_BYTES), 0xEC),
        0,
        gate(0x78, 0, 0xE5),
        segment(TSS + 0x200, 0x67, 0x89, 0),
        segment(TSS + 0x400, 0x2B, 0x81, 0),
        // Grows down.
        segment(0, 0x1000, 0x97, 0xC),
        segment(0xA_0000, 0x1_FFFF, 0xF3, 0x4),
    ];
    while table.len() < 32 {
        table.push(match rng.below(3) {
            0 => rng.next_u64(),
            _ => segment(
                rng.next_u64() >> rng.below(64),
                rng.next_u64(),
                0x80 | rng.below(128),
                rng.below(16),
            ),
        });
    }
    for _ in 0..rng.below(3) {
        table[1 + rng.below(31) as usize] ^= 1 << rng.below(64);
    }
    table.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

fn gate(selector: u64, offset: u64, access: u64) -> u64 {
    (offset & 0xFFFF) | selector << 16 | access << 40 | (offset >> 16 & 0xFFFF) << 48
}

fn gates(rng: &mut Rng, mode: Mode) -> Vec<u8> {
    let long = matches!(mode, Mode::Long { .. });
    let mut table = Vec::new();
    for _ in 0..if long { 256 } else { 512 } {
        let offset = match rng.below(3) {
            0 => CODE + rng.below(CODE_BYTES),
            1 => 0xF_0000 + rng.below(0x1_0000),
            _ => IRET_STUB,
        };
        let access = [0x8E, 0x8F, 0xEE, 0xEF, 0xE6, 0x85, 0x0E][rng.below(7) as usize];
        let selector = match rng.below(16) {
            0 => rng.below(0x110),
            _ if access == 0x85 => 0x78,
            _ if long => 0x28,
            _ => 8,
        };
        let mut entry = gate(selector, offset, access);
        if rng.below(32) == 0 {
            entry ^= 1 << rng.below(64);
        }
        table.extend(entry.to_le_bytes());
        if long {
            let high = if rng.below(64) == 0 {
                rng.next_u64()
            } else {
                0
            };
            table.extend(high.to_le_bytes());
            // Stack switches by the IST.
            let at = table.len() - 16 + 4;
            table[at] = rng.below(10) as u8;
        }
    }
    table.truncate(0x1000);
    table
}

/// Task states: 386 and long mode share the first place, then a 386's, then a 286's.
fn task_states(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0u8; 0x600];
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    // ESP0 and SS0; in long mode RSP0.
    put(4, 0x6000);
    put(8, if rng.below(2) == 0 { 0x10 } else { 0 });
    for at in (0x24..0x60).step_by(8) {
        put(at, 0x5000 + rng.below(0x1000) as u32);
    }
    put(0x64, 0x68 << 16);
    let task = 0x200;
    for at in (0x1C..0x64).step_by(4) {
        put(task + at, rng.next_u64() as u32 >> rng.below(32));
    }
    put(task + 0x1C, PAGES as u32);
    put(task + 0x20, CODE as u32);
    for (at, selector) in [(0x48, 0x10), (0x4C, 8), (0x50, 0x10), (0x54, 0x10)] {
        put(task + at, selector);
    }
    for byte in &mut bytes[0x68..0x1E8] {
        *byte = [0, 0, 0xFF][rng.below(3) as usize];
    }
    bytes
}

/// The first 2 MiB one to one, what is above them anywhere; now and then a bit is wrong.
fn page_tables(rng: &mut Rng, mode: Mode) -> Vec<u8> {
    let narrow = matches!(
        mode,
        Mode::Protected {
            paging: Paging::Legacy,
            ..
        }
    );
    let long = matches!(mode, Mode::Long { .. });
    let levels: u64 = match (narrow, long) {
        (true, _) => 2,
        (_, true) => 4,
        _ => 3,
    };
    let entries = if narrow { 1024 } else { 512 };
    let wild = rng.below(3) * 20;
    let mut bytes = Vec::new();
    for level in 0..levels {
        for n in 0..entries {
            let last = level == levels - 1;
            let rights = 7 | (rng.below(0x20) << 3 & if last { 0x78 } else { 0x18 });
            // The PDPT of PAE has no rights, and a reserved bit in it stops the start.
            let rights = if !narrow && !long && level == 0 {
                1
            } else {
                rights
            };
            let mut entry = match (last, n) {
                (true, _) => n << 12 | rights,
                (false, 0) => (PAGES + (level + 1) * 4096) | rights,
                (false, _) if rng.below(4) == 0 => {
                    let places = [0, 0xFEC0_0000, 0xFEE0_0000, 0xC000_0000, 0x1_0000_0000];
                    places[rng.below(5) as usize] | 0x87
                }
                (false, _) => 0,
            };
            // The way to the program itself stays whole.
            let needed = if last { (7..10).contains(&n) } else { n == 0 };
            if rng.below(1000) < wild && !needed {
                entry ^= 1 << rng.below(if narrow { 32 } else { 64 });
            }
            let entry = entry.to_le_bytes();
            bytes.extend(&entry[..if narrow { 4 } else { 8 }]);
        }
    }
    bytes
}

/// A program of random instructions.
fn code(rng: &mut Rng, mode: Mode) -> Vec<u8> {
    let mut writer = Writer {
        rng,
        bytes: Vec::new(),
        wide: !matches!(mode, Mode::Real | Mode::Virtual8086),
    };
    for register in 0..8 {
        if register != 4 {
            writer.load_register(register);
        }
    }
    while writer.bytes.len() < CODE_BYTES as usize - 32 {
        writer.instruction();
    }
    writer.bytes
}

/// Ports where something is, by first port and number.
pub const PORTS: [(u16, u64); 25] = [
    (0x00, 0x10),
    (0x20, 2),
    (0x40, 4),
    (0x60, 5),
    (0x70, 2),
    (0x80, 0x20),
    (0xA0, 2),
    (0xB2, 2),
    (0xC0, 0x20),
    (0xE9, 1),
    (0xF0, 8),
    (0x170, 8),
    (0x1F0, 8),
    (0x220, 0x10),
    (0x2E8, 8),
    (0x330, 2),
    (0x376, 1),
    (0x388, 4),
    (0x3B0, 0x30),
    (0x3E8, 0x18),
    (0x4D0, 2),
    (0x600, 0x40),
    (0x8900, 1),
    (0xB004, 2),
    (0xCF8, 8),
];

pub fn any_port(rng: &mut Rng) -> u16 {
    if rng.below(8) == 0 {
        return rng.next_u64() as u16;
    }
    let (first, count) = PORTS[rng.below(PORTS.len() as u64) as usize];
    first + rng.below(count) as u16
}

struct Writer<'a> {
    rng: &'a mut Rng,
    bytes: Vec<u8>,
    /// Operands and addresses have 32 bits by default.
    wide: bool,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn random(&mut self, count: usize) {
        for _ in 0..count {
            self.bytes.push(self.rng.next_u64() as u8);
        }
    }

    fn pick(&mut self, bytes: &[u8]) -> u8 {
        bytes[self.rng.below(bytes.len() as u64) as usize]
    }

    fn immediate(&mut self, value: u32) {
        let len = if self.wide { 4 } else { 2 };
        self.bytes.extend_from_slice(&value.to_le_bytes()[..len]);
    }

    /// A value that means something to somebody.
    fn value(&mut self) -> u32 {
        match self.rng.below(12) {
            0 => 0,
            1 => 0xFFFF_FFFF,
            2 => 0x7FFF_FFFF,
            3 => 0x8000_0000,
            4 => 0xA_0000 + self.rng.below(0x2_0000) as u32,
            5 => any_port(self.rng).into(),
            6 => 0xFEC0_0000 + self.rng.below(0x40) as u32,
            7 => 0xFEE0_0000 + self.rng.below(0x400) as u32,
            8 => (self.rng.below(0x20) * 8 + self.rng.below(4)) as u32,
            9 => self.rng.below(0x20_0000) as u32,
            10 => 0x1_0000 + self.rng.below(0x4000) as u32,
            _ => self.rng.next_u64() as u32 >> self.rng.below(32),
        }
    }

    fn load_register(&mut self, register: u8) {
        let value = self.value();
        self.put(&[0xB8 | register]);
        self.immediate(value);
    }

    fn instruction(&mut self) {
        match self.rng.below(32) {
            0..10 => self.any_opcode(),
            10..12 => self.random(3),
            12..15 => {
                let register = self.pick(&[0, 1, 2, 3, 5, 6, 7]);
                self.load_register(register);
            }
            15 => self.control_register(),
            16 => self.model_specific(),
            17 => self.far_transfer(),
            18..21 => self.port(),
            21..23 => self.string(),
            23 => self.tables(),
            24 => self.jump(),
            25 => self.flags(),
            26 => {
                let vector = self.rng.below(256) as u8;
                self.put(&[0xCD, vector]);
            }
            27 => {
                // x87 and its state in memory.
                let opcode = 0xD8 | self.pick(&[0, 1, 2, 3, 4, 5, 6, 7]);
                self.put(&[opcode]);
                self.operand();
            }
            28 => {
                // FXSAVE, FXRSTOR, LDMXCSR, STMXCSR, XSAVE, XRSTOR, CLFLUSH.
                self.put(&[0x0F, 0xAE]);
                self.operand();
            }
            29 => self.store_into_code(),
            30 => {
                let register = self.rng.below(8) as u8;
                // MOV DRn, EAX; MOV EAX, DRn.
                let opcode = self.pick(&[0x21, 0x23, 0x23]);
                self.put(&[0x0F, opcode, 0xC0 | register << 3]);
            }
            _ => {
                let prefixed = self.pick(&[0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x36, 0x64, 0x48]);
                self.put(&[prefixed]);
                self.any_opcode();
            }
        }
    }

    /// ModRM with all that belongs to it, in 32-bit addressing; other sizes take it for something else.
    fn operand(&mut self) {
        let modrm = self.rng.next_u64() as u8;
        self.put(&[modrm]);
        let (mode, rm) = (modrm >> 6, modrm & 7);
        if mode != 3 && rm == 4 && self.wide {
            self.random(1);
        }
        match (mode, rm) {
            (0, 5 | 6) | (2, _) => {
                let value = self.value();
                self.immediate(value);
            }
            (1, _) => self.random(1),
            _ => {}
        }
    }

    fn any_opcode(&mut self) {
        for _ in 0..self.rng.below(3) {
            let prefix = self.pick(&[0x66, 0x67, 0xF2, 0xF3, 0xF0, 0x26, 0x3E, 0x65, 0x41, 0x48]);
            self.put(&[prefix]);
        }
        match self.rng.below(4) {
            0 => {}
            1 => self.put(&[0x0F, 0x38]),
            2 => self.put(&[0x0F, 0x3A]),
            _ => self.put(&[0x0F]),
        }
        self.random(1);
        self.operand();
        let immediates = [0, 0, 1, 4][self.rng.below(4) as usize];
        self.random(immediates);
    }

    fn control_register(&mut self) {
        let register = self.pick(&[0, 0, 2, 3, 4, 4, 8]);
        // MOV EAX, CRn; change a bit; MOV CRn, EAX.
        let bit = match register {
            0 => self.pick(&[0, 1, 2, 3, 5, 16, 18, 29, 30, 31]),
            _ => self.rng.below(22) as u8,
        };
        self.put(&[0x0F, 0x20, 0xC0 | register << 3]);
        if !self.wide {
            self.put(&[0x66]);
        }
        // BTC EAX, bit.
        self.put(&[0x0F, 0xBA, 0xF8, bit]);
        self.put(&[0x0F, 0x22, 0xC0 | register << 3]);
    }

    fn model_specific(&mut self) {
        let numbers: [u32; 16] = [
            0xC000_0080,
            0xC000_0081,
            0xC000_0082,
            0xC000_0084,
            0xC000_0100,
            0xC000_0101,
            0xC000_0102,
            0xC000_0103,
            0x10,
            0x1B,
            0x174,
            0x175,
            0x176,
            0x277,
            0x2FF,
            0x200,
        ];
        let mut number = numbers[self.rng.below(16) as usize];
        if self.rng.below(4) == 0 {
            number = self.rng.below(0x1000) as u32;
        }
        if !self.wide {
            self.put(&[0x66]);
        }
        self.put(&[0xB9]);
        self.put(&number.to_le_bytes());
        // RDMSR; BTC EAX, n; WRMSR; or SYSCALL and its kin.
        let bit = self.rng.below(16) as u8;
        self.put(&[0x0F, 0x32, 0x0F, 0xBA, 0xF8, bit, 0x0F, 0x30]);
        let kin = self.pick(&[0x05, 0x07, 0x34, 0x35, 0x31, 0xA2, 0x0B, 0x09]);
        self.put(&[0x0F, kin]);
    }

    fn far_transfer(&mut self) {
        let selector = (self.rng.below(0x20) * 8 + self.rng.below(4) % 4) as u32;
        let target = (CODE + self.rng.below(CODE_BYTES)) as u32;
        match self.rng.below(5) {
            0 => {
                let opcode = self.pick(&[0x9A, 0xEA]);
                self.put(&[opcode]);
                self.immediate(target);
                self.put(&(selector as u16).to_le_bytes());
            }
            1 => {
                // A frame for IRET, of five parts.
                for value in [0x10, 0x7000, 0x202, selector, target] {
                    self.put(&[0x68]);
                    self.immediate(value);
                }
                self.put(&[0xCF]);
            }
            2 => {
                for value in [selector, target] {
                    self.put(&[0x68]);
                    self.immediate(value);
                }
                let opcode = self.pick(&[0xCB, 0xCF]);
                self.put(&[opcode]);
            }
            3 => {
                // MOV EAX, selector; MOV segment, EAX.
                self.put(&[0xB8]);
                self.immediate(selector);
                let segment = self.pick(&[0, 1, 2, 3, 4, 5]);
                self.put(&[0x8E, 0xC0 | segment << 3]);
            }
            _ => {
                // MOV EAX, selector; SLDT, STR, LLDT, LTR, VERR, VERW, LAR, LSL.
                self.put(&[0xB8]);
                self.immediate(selector);
                let group = self.pick(&[0, 1, 2, 3, 4, 5]);
                let opcode = self.pick(&[0x00, 0x02, 0x03]);
                self.put(&[0x0F, opcode, 0xC0 | group << 3]);
            }
        }
    }

    fn port(&mut self) {
        let port = any_port(self.rng);
        // MOV EDX, port; MOV EAX, value; OUT and IN.
        self.put(&[0xBA]);
        self.immediate(port.into());
        if self.rng.below(2) == 0 {
            self.load_register(0);
        } else {
            let value = self.rng.next_u64() as u8;
            self.put(&[0xB0, value]);
        }
        match self.rng.below(4) {
            0 => {
                self.load_register(1);
                let opcode = self.pick(&[0x6C, 0x6D, 0x6E, 0x6F]);
                self.put(&[0xF3, opcode]);
            }
            _ => {
                let opcode = self.pick(&[0xEC, 0xED, 0xEE, 0xEE, 0xEE, 0xEF]);
                self.put(&[opcode]);
            }
        }
    }

    fn string(&mut self) {
        for register in [1, 6, 7] {
            self.load_register(register);
        }
        for _ in 0..self.rng.below(3) {
            let prefix = self.pick(&[0xF3, 0xF2, 0x66, 0x67, 0x48, 0xFD, 0x64]);
            self.put(&[prefix]);
        }
        let opcode = self.pick(&[0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF]);
        self.put(&[opcode]);
    }

    fn tables(&mut self) {
        // SGDT, SIDT, LGDT, LIDT, SMSW, INVLPG, and those that have no memory operand.
        let mode = self.pick(&[0x05, 0x06, 0xC0]);
        let group = self.pick(&[0, 1, 2, 3, 4, 6, 7]);
        let rm = if mode == 0xC0 {
            self.rng.below(8) as u8
        } else {
            0
        };
        self.put(&[0x0F, 0x01, mode | group << 3 | rm]);
        if mode != 0xC0 {
            let places = [0x500, 0x508, 0x800, 0x1000, self.value()];
            let place = places[self.rng.below(5) as usize];
            self.immediate(place);
        }
    }

    fn jump(&mut self) {
        let condition = self.rng.below(16) as u8;
        let opcode = self.pick(&[0xEB, 0xE0, 0xE1, 0xE2, 0xE3, 0xE8, 0x70 | condition]);
        self.put(&[opcode]);
        self.random(1);
    }

    fn flags(&mut self) {
        let one = self.pick(&[
            0xFA, 0xFB, 0xFB, 0xF4, 0x9C, 0x9D, 0xFC, 0xFD, 0xCC, 0xCE, 0xF1,
        ]);
        if one == 0x9D {
            let value = self.rng.next_u64() as u32 & 0x7F_7FFF;
            self.put(&[0x68]);
            self.immediate(value);
        }
        self.put(&[one]);
    }

    /// MOV byte or dword [place in the code], immediate.
    fn store_into_code(&mut self) {
        let place = (CODE + self.rng.below(CODE_BYTES)) as u32;
        if self.wide {
            self.put(&[0xC6, 0x05]);
        } else {
            self.put(&[0xC6, 0x06]);
        }
        self.immediate(place);
        self.random(1);
    }
}
