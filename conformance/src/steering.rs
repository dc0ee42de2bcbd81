//! What a random case's registers, displacement, immediate and memory must be for the instruction to do
//! something.

use iced_x86::{Code, ConstantOffsets, Instruction, MemorySize, Mnemonic, OpKind, Register};

use crate::generate::{decode, extended_state, is_far};
use crate::random::Rng;
use crate::state::{
    Case, DATA, DATA_BYTES, GDT, LDT, READ_ONLY, REGION, SELECTOR_CODE16, SELECTOR_CODE32,
    SELECTOR_CODE64, SELECTOR_DATA, SLOT_ENTRY, STACK_SELECTORS, WINDOWS, fx,
};

/// Code segments of each kind.
const CODE_SELECTORS: [u16; 5] = [
    SELECTOR_CODE32,
    SELECTOR_CODE64,
    SELECTOR_CODE16,
    0x2F,
    0x5F,
];

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
pub(crate) struct Steering<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) case: &'a mut Case,
    pub(crate) iced: &'a Instruction,
    pub(crate) offsets: ConstantOffsets,
}

pub(crate) const RAX: usize = 0;
pub(crate) const RCX: usize = 1;
pub(crate) const RDX: usize = 2;

impl Steering<'_> {
    pub(crate) fn steer(&mut self) {
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
