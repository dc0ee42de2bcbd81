//! A small assembler: the host instructions that templates are made of. What a guest instruction becomes is encoded
//! by iced (`encode`).

/// A host register by its number.
pub type Host = u8;

#[allow(missing_docs)]
pub mod reg {
    use super::Host;
    pub const RAX: Host = 0;
    pub const RCX: Host = 1;
    pub const RDX: Host = 2;
    pub const RBX: Host = 3;
    pub const RSP: Host = 4;
    pub const RBP: Host = 5;
    pub const RSI: Host = 6;
    pub const RDI: Host = 7;
    pub const R8: Host = 8;
    pub const R9: Host = 9;
    pub const R10: Host = 10;
    pub const R11: Host = 11;
    pub const R12: Host = 12;
    pub const R13: Host = 13;
    pub const R14: Host = 14;
    pub const R15: Host = 15;
}

/// A memory operand: base, index and shift, displacement.
#[derive(Clone, Copy)]
pub struct Mem {
    pub base: Option<Host>,
    pub index: Option<(Host, u8)>,
    pub disp: i32,
}

/// `[base + disp]`.
pub const fn at(base: Host, disp: i32) -> Mem {
    Mem {
        base: Some(base),
        index: None,
        disp,
    }
}

/// `[base + index << shift + disp]`.
pub const fn indexed(base: Host, index: Host, shift: u8, disp: i32) -> Mem {
    Mem {
        base: Some(base),
        index: Some((index, shift)),
        disp,
    }
}

/// A condition by the low four bits of its opcode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cond(pub u8);

#[allow(missing_docs)]
impl Cond {
    pub const AE: Self = Self(3);
    pub const E: Self = Self(4);
    pub const NE: Self = Self(5);
    pub const S: Self = Self(8);
}

/// Where a jump that is not aimed yet has its displacement of 32 bits.
#[derive(Clone, Copy)]
#[must_use]
pub struct Aim(usize);

/// Code that is put together, to lie `origin` bytes into the buffer.
pub struct Asm {
    pub code: Vec<u8>,
    pub origin: usize,
}

impl Asm {
    /// Where the next instruction will be, from the buffer's start.
    pub fn here(&self) -> usize {
        self.origin + self.code.len()
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    fn imm32(&mut self, value: i32) {
        self.bytes(&value.to_le_bytes());
    }

    fn rex(&mut self, wide: bool, reg: Host, index: Host, base: Host, force: bool) {
        let rex = 0x40
            | u8::from(wide) << 3
            | (reg >> 3 & 1) << 2
            | (index >> 3 & 1) << 1
            | (base >> 3 & 1);
        if rex != 0x40 || force {
            self.code.push(rex);
        }
    }

    fn modrm_mem(&mut self, reg: Host, mem: Mem) {
        let reg = (reg & 7) << 3;
        let Some(base) = mem.base else {
            // No base: SIB with a displacement of 32 bits.
            let (index, shift) = mem.index.unwrap_or((reg::RSP, 0));
            self.bytes(&[reg | 4, shift << 6 | (index & 7) << 3 | 5]);
            self.imm32(mem.disp);
            return;
        };
        let (kind, short) = match mem.disp {
            0 if base & 7 != 5 => (0, true),
            -128..=127 => (0x40, true),
            _ => (0x80, false),
        };
        match mem.index {
            None if base & 7 != 4 => self.code.push(kind | reg | base & 7),
            None => self.bytes(&[kind | reg | 4, 0x24]),
            Some((index, shift)) => {
                self.bytes(&[kind | reg | 4, shift << 6 | (index & 7) << 3 | base & 7])
            }
        }
        if kind == 0x40 && short {
            self.code.push(mem.disp as u8);
        } else if kind == 0x80 {
            self.imm32(mem.disp);
        }
    }

    /// An instruction with a register and a memory operand.
    pub fn rm(&mut self, wide: bool, opcode: &[u8], reg: Host, mem: Mem) {
        let index = mem.index.map_or(0, |(index, _)| index);
        self.rex(wide, reg, index, mem.base.unwrap_or(0), false);
        self.bytes(opcode);
        self.modrm_mem(reg, mem);
    }

    /// An instruction with two register operands, `rm` being the one that ModR/M calls so.
    pub fn rr(&mut self, wide: bool, opcode: &[u8], reg: Host, rm: Host) {
        self.rex(wide, reg, 0, rm, false);
        self.bytes(opcode);
        self.code.push(0xC0 | (reg & 7) << 3 | rm & 7);
    }

    /// The same where `rm` is a register of 8 bits.
    pub fn rr_byte(&mut self, opcode: &[u8], reg: Host, rm: Host) {
        self.rex(false, reg, 0, rm, rm >= 4);
        self.bytes(opcode);
        self.code.push(0xC0 | (reg & 7) << 3 | rm & 7);
    }

    /// MOV of 64 bits.
    pub fn mov(&mut self, to: Host, from: Host) {
        if to != from {
            self.rr(true, &[0x8B], to, from);
        }
    }

    /// MOV of 32 bits: clears the upper half.
    pub fn mov32(&mut self, to: Host, from: Host) {
        self.rr(false, &[0x8B], to, from);
    }

    pub fn load(&mut self, to: Host, from: Mem) {
        self.rm(true, &[0x8B], to, from);
    }

    pub fn load32(&mut self, to: Host, from: Mem) {
        self.rm(false, &[0x8B], to, from);
    }

    pub fn store(&mut self, to: Mem, from: Host) {
        self.rm(true, &[0x89], from, to);
    }

    pub fn store32(&mut self, to: Mem, from: Host) {
        self.rm(false, &[0x89], from, to);
    }

    /// LEA; of 32 bits it clears the upper half.
    pub fn lea(&mut self, wide: bool, to: Host, of: Mem) {
        self.rm(wide, &[0x8D], to, of);
    }

    /// MOV of a constant, whatever its size. Leaves the flags.
    pub fn constant(&mut self, to: Host, value: u64) {
        if value <= 0xFFFF_FFFF {
            self.rex(false, 0, 0, to, false);
            self.code.push(0xB8 | to & 7);
            self.imm32(value as i32);
        } else if i32::try_from(value as i64).is_ok() {
            self.rex(true, 0, 0, to, false);
            self.bytes(&[0xC7, 0xC0 | to & 7]);
            self.imm32(value as i32);
        } else {
            self.rex(true, 0, 0, to, false);
            self.code.push(0xB8 | to & 7);
            self.bytes(&value.to_le_bytes());
        }
    }

    /// An instruction of the group 81/83 with a register: ADD 0, OR 1, AND 4, SUB 5, XOR 6, CMP 7.
    pub fn alu(&mut self, wide: bool, op: u8, to: Host, value: i32) {
        self.rex(wide, 0, 0, to, false);
        if let Ok(short) = i8::try_from(value) {
            self.bytes(&[0x83, 0xC0 | op << 3 | to & 7, short as u8]);
        } else {
            self.bytes(&[0x81, 0xC0 | op << 3 | to & 7]);
            self.imm32(value);
        }
    }

    /// A shift by a constant: SHL 4, SHR 5, SAR 7.
    pub fn shift(&mut self, wide: bool, op: u8, to: Host, by: u8) {
        self.rex(wide, 0, 0, to, false);
        self.bytes(&[0xC1, 0xC0 | op << 3 | to & 7, by]);
    }

    /// PEXT of 64 bits with the mask in memory. Leaves the flags.
    pub fn pext(&mut self, to: Host, from: Host, mask: Mem) {
        let index = mask.index.map_or(0, |(index, _)| index);
        let base = mask.base.unwrap_or(0);
        let inverted = |high: Host, bit: u8| u8::from(high & 8 == 0) << bit;
        self.bytes(&[
            0xC4,
            inverted(to, 7) | inverted(index, 6) | inverted(base, 5) | 2,
            0x80 | (!from & 15) << 3 | 2,
            0xF5,
        ]);
        self.modrm_mem(to, mask);
    }

    /// PUSH of 64 bits.
    pub fn rex_push(&mut self, from: Host) {
        self.rex(false, 0, 0, from, false);
        self.code.push(0x50 | from & 7);
    }

    /// POP of 64 bits.
    pub fn rex_pop(&mut self, to: Host) {
        self.rex(false, 0, 0, to, false);
        self.code.push(0x58 | to & 7);
    }

    /// A jump of 32 bits to a place that is known.
    pub fn jmp(&mut self, to: usize) {
        let aim = self.jmp_ahead();
        self.aim_at(aim, to);
    }

    /// A jump to be aimed later.
    pub fn jmp_ahead(&mut self) -> Aim {
        self.code.push(0xE9);
        self.imm32(0);
        Aim(self.code.len() - 4)
    }

    /// A conditional jump to be aimed later.
    pub fn jcc_ahead(&mut self, cond: Cond) -> Aim {
        self.bytes(&[0x0F, 0x80 | cond.0]);
        self.imm32(0);
        Aim(self.code.len() - 4)
    }

    /// A call of a place that is known.
    pub fn call(&mut self, to: usize) {
        self.code.push(0xE8);
        self.imm32(0);
        let aim = Aim(self.code.len() - 4);
        self.aim_at(aim, to);
    }

    /// JRCXZ over the next instructions, to be aimed at most 127 bytes later.
    pub fn jrcxz_ahead(&mut self) -> usize {
        self.bytes(&[0xE3, 0]);
        self.code.len()
    }

    /// Aims a JRCXZ here.
    pub fn aim_short(&mut self, from: usize) {
        self.code[from - 1] = (self.code.len() - from) as u8;
    }

    /// Aims a jump here.
    pub fn aim(&mut self, aim: Aim) {
        let here = self.here();
        self.aim_at(aim, here);
    }

    pub fn aim_at(&mut self, aim: Aim, to: usize) {
        let from = self.origin + aim.0 + 4;
        let distance = (to as i64 - from as i64) as i32;
        self.code[aim.0..aim.0 + 4].copy_from_slice(&distance.to_le_bytes());
    }

    /// Where a jump's displacement is, from the buffer's start.
    pub fn place(&self, aim: Aim) -> usize {
        self.origin + aim.0
    }
}
