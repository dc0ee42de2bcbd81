//! A protected-mode machine: tables, a TSS for each purpose, and a handler for each vector that halts.

use platform::{Bus, Clock, GuestMemory, PhysAddr};
use x86::cpu::{Reg, SegmentRegister, TableRegister, control};
use x86::cpuid::CpuModel;
use x86::{Exit, Segment, Vcpu};

pub const CODE: u64 = 0x1000;
pub const GDT: u64 = 0x2000;
pub const IDT: u64 = 0x2800;
pub const TSS_A: u64 = 0x3000;
pub const TSS_B: u64 = 0x3200;
pub const TSS_16: u64 = 0x3400;
pub const LDT: u64 = 0x3600;
pub const HANDLERS: u64 = 0x8000;
pub const INNER_STACK: u64 = 0x6000;
pub const STACK: u64 = 0x7000;

/// Selectors.
pub mod sel {
    pub const CODE0: u16 = 0x08;
    pub const DATA0: u16 = 0x10;
    pub const CODE3: u16 = 0x1B;
    pub const DATA3: u16 = 0x23;
    pub const CONFORMING: u16 = 0x28;
    pub const ABSENT: u16 = 0x30;
    pub const TSS_A: u16 = 0x38;
    pub const TSS_B: u16 = 0x40;
    pub const TSS_16: u16 = 0x48;
    pub const LDT: u16 = 0x50;
    pub const CALL_GATE: u16 = 0x58;
    pub const TASK_GATE: u16 = 0x60;
    pub const LONG0: u16 = 0x68;
    pub const DATA_LONG3: u16 = 0x70;
    pub const LONG3: u16 = 0x78;
    pub const TSS_LONG: u16 = 0x80;
    pub const SMALL: u16 = 0x90;
    pub const BEYOND: u16 = 0x400;
}

pub struct Machine {
    pub v: Vcpu,
}

/// A segment or system descriptor.
pub fn descriptor(base: u64, limit: u64, attributes: u64) -> u64 {
    limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | (attributes & 0xF0FF) << 40
        | (limit >> 16 & 0xF) << 48
        | (base >> 24 & 0xFF) << 56
}

/// A gate; `kind` is the access byte.
pub fn gate(selector: u16, offset: u64, kind: u64, count: u64) -> u64 {
    offset & 0xFFFF
        | u64::from(selector) << 16
        | count << 32
        | kind << 40
        | (offset >> 16 & 0xFFFF) << 48
}

impl Machine {
    /// Flat 32-bit protected mode at CPL 0, with `code` at [`CODE`].
    pub fn new(code: &[u8]) -> Self {
        Self::with_model("max", code)
    }

    pub fn with_model(model: &str, code: &[u8]) -> Self {
        let mut memory = GuestMemory::new(4 << 20).unwrap();
        memory.write(PhysAddr(CODE), code);
        let mut v = Vcpu::new(CpuModel::by_name(model).unwrap());
        v.attach(Box::new(Bus::new(memory, Clock::new(1, 1))));
        let mut m = Self { v };
        let gdt = [
            0,
            descriptor(0, 0xFFFFF, 0xC09A),
            descriptor(0, 0xFFFFF, 0xC092),
            descriptor(0, 0xFFFFF, 0xC0FA),
            descriptor(0, 0xFFFFF, 0xC0F2),
            descriptor(0, 0xFFFFF, 0xC09E),
            descriptor(0, 0xFFFFF, 0xC012),
            descriptor(TSS_A, 0x1FF, 0x0089),
            descriptor(TSS_B, 0x1FF, 0x0089),
            descriptor(TSS_16, 0x2B, 0x0081),
            descriptor(LDT, 0x0F, 0x0082),
            gate(sel::CODE0, HANDLERS + 0x800, 0xEC, 2),
            gate(sel::TSS_B, 0, 0xE5, 0),
            descriptor(0, 0xFFFFF, 0xA09A),
            descriptor(0, 0xFFFFF, 0xC0F2),
            descriptor(0, 0xFFFFF, 0xA0FA),
            descriptor(TSS_A, 0x1FF, 0x0089),
            0,
            descriptor(0, 0xFFF, 0x4092),
        ];
        for (n, entry) in gdt.into_iter().enumerate() {
            m.poke64(GDT + 8 * n as u64, entry);
        }
        m.poke64(LDT + 8, descriptor(0, 0xFFFFF, 0xC0F2));
        for vector in 0..64 {
            let target = HANDLERS + 16 * vector;
            m.poke64(IDT + 8 * vector, gate(sel::CODE0, target, 0x8E, 0));
            m.poke8(target, 0xF4);
        }
        m.poke8(HANDLERS + 0x800, 0xF4);
        // SS0:ESP0, and an I/O bitmap that begins at 80h.
        m.poke32(TSS_A + 4, INNER_STACK as u32);
        m.poke32(TSS_A + 8, sel::DATA0.into());
        m.poke32(TSS_A + 0x64, 0x80 << 16);
        let cpu = &mut m.v.cpu;
        cpu.gdtr = TableRegister {
            base: GDT,
            limit: 19 * 8 - 1,
        };
        cpu.idtr = TableRegister {
            base: IDT,
            limit: 64 * 8 - 1,
        };
        cpu.cr0 |= control::CR0_PE;
        m.set_levels(sel::CODE0, sel::DATA0);
        m.set_seg(SegmentRegister::TR, sel::TSS_A, TSS_A, 0x1FF, 0x8B);
        m.poke8(GDT + u64::from(sel::TSS_A) + 5, 0x8B);
        m.set_seg(SegmentRegister::LDTR, sel::LDT, LDT, 0x0F, 0x82);
        m.v.cpu.regs[Reg::RSP] = STACK;
        m.v.cpu.regs[Reg::RIP] = CODE;
        m
    }

    /// The same at CPL 3.
    pub fn user(code: &[u8]) -> Self {
        let mut m = Self::new(code);
        m.set_levels(sel::CODE3, sel::DATA3);
        m
    }

    /// 64-bit mode with identity-mapped 2 MiB pages, at CPL 0 or 3.
    pub fn long(code: &[u8], cpl: u8) -> Self {
        let mut m = Self::new(code);
        m.poke64(0x4_0000, 0x4_1007);
        m.poke64(0x4_1000, 0x4_2007);
        m.poke64(0x4_2000, 0x4_3007);
        m.poke64(0x4_2008, 0x20_0087);
        for page in 0..512 {
            m.poke64(0x4_3000 + 8 * page, page << 12 | 7);
        }
        for vector in 0..32 {
            let target = HANDLERS + 16 * vector;
            m.poke64(IDT + 16 * vector, gate(sel::LONG0, target, 0x8E, 0));
            m.poke64(IDT + 16 * vector + 8, 0);
        }
        // RSP0, IST1.
        m.poke64(TSS_A + 4, INNER_STACK);
        m.poke64(TSS_A + 0x24, 0x5000);
        m.v.cpu.cr4 = control::CR4_PAE;
        m.v.cpu.cr3 = 0x4_0000;
        m.v.cpu.efer = control::EFER_LME | control::EFER_SCE;
        m.v.write_cr0(m.v.cpu.cr0 | control::CR0_PG).unwrap();
        m.set_seg(SegmentRegister::TR, sel::TSS_LONG, TSS_A, 0x1FF, 0x8B);
        if cpl == 3 {
            m.set_seg(SegmentRegister::CS, sel::LONG3 | 3, 0, !0, 0xA0FB);
            m.set_seg(SegmentRegister::SS, sel::DATA_LONG3 | 3, 0, !0, 0xC0F3);
        } else {
            m.set_seg(SegmentRegister::CS, sel::LONG0, 0, !0, 0xA09B);
            m.set_seg(SegmentRegister::SS, sel::DATA0, 0, !0, 0xC093);
        }
        m.v.set_cpl(cpl);
        m.v.update_mode();
        m
    }

    /// Virtual-8086 mode at 0100:0000 with the stack at 0700:0100.
    pub fn virtual8086(code: &[u8], iopl: u64) -> Self {
        let mut m = Self::new(code);
        for (seg, selector) in [
            (1, 0x100),
            (2, 0x700),
            (0, 0x111),
            (3, 0x222),
            (4, 0x333),
            (5, 0x444),
        ] {
            m.set_seg(seg, selector, u64::from(selector) << 4, 0xFFFF, 0xF3);
        }
        m.v.set_cpl(3);
        m.v.cpu.rflags = 2 | 1 << 17 | iopl << 12;
        m.v.cpu.regs[Reg::RSP] = 0x100;
        m.v.cpu.regs[Reg::RIP] = 0;
        m.v.update_mode();
        m
    }

    pub fn set_levels(&mut self, code: u16, data: u16) {
        let dpl = (code & 3) << 5;
        self.set_seg(SegmentRegister::CS, code, 0, !0, 0xC09B | dpl);
        for seg in [0, 2, 3, 4, 5] {
            self.set_seg(seg, data, 0, !0, 0xC093 | dpl);
        }
        self.v.set_cpl(code as u8 & 3);
        self.v.update_mode();
    }

    pub fn set_seg(&mut self, seg: usize, selector: u16, base: u64, limit: u32, attributes: u16) {
        self.v.set_segment(
            seg,
            Segment {
                selector,
                base,
                limit,
                attributes,
            },
        );
    }

    /// Runs until a handler, or the code itself, halts.
    pub fn run(&mut self) {
        let until = self.v.bus().clock.retired() + 200;
        let exit = self.v.run(until);
        assert_eq!(exit, Exit::Halted, "at {:x}", self.ip());
    }

    /// Runs to the handler of `vector` and checks the error code on its stack.
    pub fn expect_fault(&mut self, vector: u64, error: Option<u32>) {
        self.run();
        assert_eq!(self.vector(), Some(vector));
        if let Some(error) = error {
            assert_eq!(self.stack(0), error, "error code {:x}", self.stack(0));
        }
    }

    /// The vector whose handler halted.
    pub fn vector(&self) -> Option<u64> {
        let at = self.ip().wrapping_sub(HANDLERS + 1);
        (at < 0x400 && at.is_multiple_of(16)).then_some(at / 16)
    }

    pub fn ip(&self) -> u64 {
        self.v.cpu.regs[Reg::RIP]
    }

    pub fn selector(&self, seg: usize) -> u16 {
        self.v.cpu.segs[seg].selector
    }

    /// Doubleword `n` from the top of the stack.
    pub fn stack(&mut self, n: u64) -> u32 {
        let base = self.v.cpu.seg_base[SegmentRegister::SS];
        self.peek32(base + self.v.cpu.regs[Reg::RSP] + 4 * n)
    }

    pub fn poke64(&mut self, at: u64, value: u64) {
        self.v
            .bus()
            .memory
            .write(PhysAddr(at), &value.to_le_bytes());
    }
    pub fn poke32(&mut self, at: u64, value: u32) {
        self.v
            .bus()
            .memory
            .write(PhysAddr(at), &value.to_le_bytes());
    }
    pub fn poke8(&mut self, at: u64, value: u8) {
        self.v.bus().memory.write(PhysAddr(at), &[value]);
    }
    pub fn peek64(&mut self, at: u64) -> u64 {
        u64::from_le_bytes(self.v.bus().memory.read_array(PhysAddr(at)))
    }
    pub fn peek32(&mut self, at: u64) -> u32 {
        u32::from_le_bytes(self.v.bus().memory.read_array(PhysAddr(at)))
    }
    pub fn peek16(&mut self, at: u64) -> u16 {
        u16::from_le_bytes(self.v.bus().memory.read_array(PhysAddr(at)))
    }
    pub fn peek8(&mut self, at: u64) -> u8 {
        self.v.bus().memory.read_array::<1>(PhysAddr(at))[0]
    }
}

/// JMP ptr16:32.
pub fn jmp(selector: u16, offset: u32) -> Vec<u8> {
    far(0xEA, selector, offset)
}

/// CALL ptr16:32.
pub fn call(selector: u16, offset: u32) -> Vec<u8> {
    far(0x9A, selector, offset)
}

fn far(opcode: u8, selector: u16, offset: u32) -> Vec<u8> {
    let mut code = vec![opcode];
    code.extend(offset.to_le_bytes());
    code.extend(selector.to_le_bytes());
    code
}
