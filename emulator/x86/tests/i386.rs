//! The model `i386` in real mode: what hardware-captured vectors of an 80386 ask of it.

use platform::{Bus, Clock, GuestMemory, PhysAddr};
use x86::cpu::{Reg, SegmentRegister};
use x86::cpuid::CpuModel;
use x86::{Exit, Segment, Vcpu};

const CODE_SEGMENT: u16 = 0x1000;
const DATA_SEGMENT: u16 = 0x2000;
const STACK_SEGMENT: u16 = 0x3000;
const HANDLERS: u16 = 0x0F00;

struct Machine(Vcpu);

impl Machine {
    /// `code` at CS:`ip`; vector n goes to 0F00:n, and a HLT waits at each.
    fn at(ip: u16, code: &[u8]) -> Self {
        let mut memory = GuestMemory::new(2 << 20).unwrap();
        for vector in 0..0x100u32 {
            let entry = u32::from(HANDLERS) << 16 | vector;
            memory.write(PhysAddr(u64::from(vector) * 4), &entry.to_le_bytes());
            memory.write(
                PhysAddr(u64::from(HANDLERS) * 16 + u64::from(vector)),
                &[0xF4],
            );
        }
        let mut vcpu = Vcpu::new(CpuModel::by_name("i386").unwrap());
        vcpu.attach(Box::new(Bus::new(memory, Clock::new(1, 1))));
        for (seg, selector) in [
            (SegmentRegister::CS, CODE_SEGMENT),
            (SegmentRegister::DS, DATA_SEGMENT),
            (SegmentRegister::SS, STACK_SEGMENT),
        ] {
            let segment = Segment {
                selector,
                base: u64::from(selector) * 16,
                ..vcpu.cpu.segs[seg]
            };
            vcpu.set_segment(seg, segment);
        }
        vcpu.update_mode();
        let mut machine = Self(vcpu);
        for (n, byte) in code.iter().enumerate() {
            machine.poke(CODE_SEGMENT, ip.into(), n, &[*byte]);
        }
        machine.set(Reg::RIP, ip.into());
        machine.set(Reg::RSP, 0x800);
        machine
    }

    fn new(code: &[u8]) -> Self {
        let mut code = code.to_vec();
        code.push(0xF4);
        Self::at(0x100, &code)
    }

    fn poke(&mut self, segment: u16, offset: usize, n: usize, bytes: &[u8]) {
        let addr = PhysAddr(u64::from(segment) * 16 + (offset + n) as u64);
        self.0.bus().memory.write(addr, bytes);
    }

    fn word(&mut self, segment: u16, offset: u16) -> u16 {
        let addr = PhysAddr(u64::from(segment) * 16 + u64::from(offset));
        u16::from_le_bytes(self.0.bus().memory.read_array::<2>(addr))
    }

    fn set(&mut self, reg: usize, value: u64) {
        self.0.cpu.regs[reg] = value;
    }

    fn get(&self, reg: usize) -> u64 {
        self.0.cpu.regs[reg]
    }

    /// Runs to the next HLT; gives the vector whose handler that is.
    fn run(&mut self) -> Option<u8> {
        assert_eq!(self.0.run(1_000_000), Exit::Halted);
        let handler = self.0.cpu.segs[SegmentRegister::CS].selector == HANDLERS;
        handler.then(|| (self.get(Reg::RIP) - 1) as u8)
    }

    fn flags(&self) -> u64 {
        self.0.cpu.rflags()
    }
}

fn vector(code: &[u8]) -> Option<u8> {
    Machine::new(code).run()
}

#[test]
fn eip_runs_past_64_kib_and_meets_the_limit() {
    let mut m = Machine::at(0xFFFF, &[0xF4]);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RIP), 0x1_0000);
    // NOP instead: the fetch behind it faults, and 16 bits of EIP are pushed.
    let mut m = Machine::at(0xFFFF, &[0x90]);
    assert_eq!(m.run(), Some(13));
    assert_eq!(m.word(STACK_SEGMENT, 0x7FA), 0);
}

#[test]
fn an_instruction_across_the_limit_does_not_begin() {
    // inc ax; mov bx, 1234h across FFFFh
    let mut m = Machine::at(0xFFFD, &[0x40, 0xBB, 0x34, 0x12, 0xF4]);
    assert_eq!(m.run(), Some(13));
    assert_eq!((m.get(Reg::RAX), m.get(Reg::RBX)), (1, 0));
    assert_eq!(m.word(STACK_SEGMENT, 0x7FA), 0xFFFE);
}

#[test]
fn a_branch_cuts_its_target_to_the_operand_size() {
    // jmp short +10h from FFF8h: 000Ah
    let mut m = Machine::at(0xFFF8, &[0xEB, 0x10]);
    m.poke(CODE_SEGMENT, 0x0A, 0, &[0xF4]);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RIP), 0x0B);
    // With a 32-bit operand size the target is beyond the limit.
    let mut m = Machine::at(0xFFF0, &[0x66, 0xEB, 0x7F]);
    assert_eq!(m.run(), Some(13));
    assert_eq!(m.word(STACK_SEGMENT, 0x7FA), 0xFFF0);
}

#[test]
fn words_at_the_limit_fault_by_their_segment() {
    // mov ax, [FFFFh]
    assert_eq!(vector(&[0xA1, 0xFF, 0xFF]), Some(13));
    // mov al, [FFFFh]
    assert_eq!(vector(&[0xA0, 0xFF, 0xFF]), None);
    // mov eax, [FFFDh]
    assert_eq!(vector(&[0x66, 0xA1, 0xFD, 0xFF]), Some(13));
    // mov ax, [bp - 1]
    assert_eq!(vector(&[0x8B, 0x46, 0xFF]), Some(12));
    // mov ax, ds:[bp - 1]
    assert_eq!(vector(&[0x3E, 0x8B, 0x46, 0xFF]), Some(13));
    // les ax, [FFFDh]
    assert_eq!(vector(&[0xC4, 0x06, 0xFD, 0xFF]), Some(13));
    // mov al, [eax + 10000h]
    assert_eq!(vector(&[0x67, 0x8A, 0x80, 0, 0, 1, 0]), Some(13));
}

#[test]
fn the_stack_wraps_only_between_words() {
    // push ax at SP = 0
    let mut m = Machine::new(&[0x50]);
    m.set(Reg::RSP, 0);
    m.set(Reg::RAX, 0xABCD);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RSP), 0xFFFE);
    assert_eq!(m.word(STACK_SEGMENT, 0xFFFE), 0xABCD);
    // pop ax at SP = FFFFh
    let mut m = Machine::new(&[0x58]);
    m.set(Reg::RSP, 0xFFFF);
    assert_eq!(m.run(), Some(12));
    assert_eq!(m.get(Reg::RSP), 0xFFF9);
    // pusha at SP = 9: the fifth word would lie at FFFFh
    let mut m = Machine::new(&[0x60]);
    m.set(Reg::RSP, 9);
    assert_eq!(m.run(), Some(12));
    assert_eq!(m.get(Reg::RSP), 3);
}

#[test]
fn a_shutdown_when_the_frame_does_not_fit() {
    let mut m = Machine::new(&[0x58]);
    // The fault's own frame would have a word at FFFFh, and so would each one after it.
    m.set(Reg::RSP, 1);
    m.poke(CODE_SEGMENT, 0x100, 0, &[0x0F, 0x0B]);
    assert_eq!(m.0.run(1_000_000), Exit::Shutdown);
}

#[test]
fn popad_takes_the_upper_half_of_esp() {
    let mut m = Machine::new(&[0x66, 0x61]);
    for n in 0..8 {
        let value = (0x1111_0000u32 * (n as u32 + 1)) | 0xBEEF;
        m.poke(STACK_SEGMENT, 0x800, 4 * n, &value.to_le_bytes());
    }
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RDI), 0x1111_BEEF);
    assert_eq!(m.get(Reg::RSP), 0x4444_0820);
    assert_eq!(m.get(Reg::RAX), 0x8888_BEEF);
}

#[test]
fn a_scale_without_index_scales_the_base() {
    // lea eax, [ebx + 5] with SIB 01 100 011 (base EBX, no index, scale 2)
    let mut m = Machine::new(&[0x67, 0x66, 0x8D, 0x44, 0x63, 0x05]);
    m.set(Reg::RBX, 0x1000);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RAX), 0x2005);
    // Scale 1 is as written.
    let mut m = Machine::new(&[0x67, 0x66, 0x8D, 0x44, 0x23, 0x05]);
    m.set(Reg::RBX, 0x1000);
    m.run();
    assert_eq!(m.get(Reg::RAX), 0x1005);
    // No base either: lea eax, [12345h]
    let mut m = Machine::new(&[0x67, 0x66, 0x8D, 0x04, 0x65, 0x45, 0x23, 0x01, 0x00]);
    m.run();
    assert_eq!(m.get(Reg::RAX), 0x1_2345);
}

#[test]
fn undefined_opcodes_and_forms() {
    let codes: &[&[u8]] = &[
        &[0x63, 0xC0],             // arpl
        &[0x0F, 0x00, 0xC0],       // sldt
        &[0x0F, 0x00, 0xD0],       // lldt
        &[0x0F, 0x00, 0xE0],       // verr
        &[0x0F, 0x02, 0xC0],       // lar
        &[0x0F, 0x03, 0xC0],       // lsl
        &[0x0F, 0x04],             // nothing
        &[0x0F, 0x0B],             // ud2
        &[0x0F, 0x08],             // invd, of the i486
        &[0x0F, 0xA2],             // cpuid
        &[0x0F, 0xC8],             // bswap, of the i486
        &[0x0F, 0xB0, 0xC0],       // cmpxchg, of the i486
        &[0x0F, 0x31],             // rdtsc
        &[0x0F, 0x44, 0xC0],       // cmovz
        &[0x0F, 0xBA, 0xC0, 0x00], // group 8 /0
        &[0x0F, 0xFF],             // nothing
        &[0x8E, 0xC8],             // mov cs, ax
        &[0x8E, 0xF0],             // mov ?, ax
        &[0x8C, 0xF8],             // mov ax, ?
        &[0x8D, 0xC0],             // lea ax, ax
        &[0xC4, 0xC0],             // les ax, ax
        &[0xC5, 0xC0],             // lds ax, ax
        &[0x62, 0xC0],             // bound ax, ax
        &[0x0F, 0xB2, 0xC0],       // lss ax, ax
        &[0x8F, 0xC8],             // pop /1
        &[0xC6, 0xC8, 0x00],       // mov /1
        &[0xC7, 0xF8, 0x00, 0x00], // mov /7
        &[0xFE, 0xD0],             // group 4 /2
        &[0xFF, 0xF8],             // group 5 /7
        &[0xFF, 0xD8],             // call far ax
        &[0xFF, 0xE8],             // jmp far ax
        &[0xF0, 0x90],             // lock nop
        &[0xF0, 0x01, 0xC0],       // lock add ax, ax
        &[0xF0, 0x8B, 0x07],       // lock mov ax, [bx]
        &[0xF0, 0x39, 0x07],       // lock cmp [bx], ax
        &[0xF0, 0x0F, 0xA3, 0x07], // lock bt [bx], ax
    ];
    for code in codes {
        assert_eq!(vector(code), Some(6), "{code:02x?}");
    }
}

#[test]
fn aliases_that_the_manual_does_not_list() {
    // 82 /0: add bl, 5
    let mut m = Machine::new(&[0x82, 0xC3, 0x05]);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RBX), 5);
    // F6 /1: test bl, 80h
    let mut m = Machine::new(&[0xF6, 0xCB, 0x80]);
    m.set(Reg::RBX, 0x80);
    assert_eq!(m.run(), None);
    assert_eq!(m.flags() & 0xC0, 0x80);
    // D0 /6 and C1 /6: shl
    let mut m = Machine::new(&[0xD0, 0xF3, 0xC1, 0xF3, 0x04]);
    m.set(Reg::RBX, 3);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RBX), 0x60);
    // D6: salc
    let mut m = Machine::new(&[0xF9, 0xD6]);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RAX), 0xFF);
    // F1: int1
    let mut m = Machine::new(&[0xF1]);
    assert_eq!(m.run(), Some(1));
    assert_eq!(m.word(STACK_SEGMENT, 0x7FA), 0x101);
}

#[test]
fn lock_is_taken_where_it_means_something() {
    assert_eq!(vector(&[0xF0, 0x01, 0x07]), None); // lock add [bx], ax
    assert_eq!(vector(&[0xF0, 0x82, 0x07, 0x01]), None); // by its alias
    assert_eq!(vector(&[0xF0, 0x87, 0x07]), None); // lock xchg [bx], ax
    assert_eq!(vector(&[0xF0, 0x0F, 0xBA, 0x2F, 0x01]), None); // lock bts word [bx], 1
    assert_eq!(vector(&[0x3E, 0xF0, 0x26, 0xF6, 0x17]), None); // lock not byte es:[bx]
}

#[test]
fn an_instruction_has_at_most_15_bytes() {
    let mut code = vec![0x3E; 14];
    code.push(0x40);
    assert_eq!(vector(&code), None);
    code.insert(0, 0x3E);
    assert_eq!(vector(&code), Some(13));
}

#[test]
fn a_divide_error_returns_to_the_instruction() {
    for code in [
        &[0x3E, 0xF6, 0xF3][..], // div bl
        &[0xF7, 0xFB],           // idiv bx
        &[0x66, 0xF7, 0xF3],     // div ebx
        &[0xD4, 0x00],           // aam 0
    ] {
        let mut m = Machine::new(code);
        assert_eq!(m.run(), Some(0), "{code:02x?}");
        assert_eq!(m.word(STACK_SEGMENT, 0x7FA), 0x100);
    }
    // idiv bl: -80h fits since the 80286.
    let mut m = Machine::new(&[0xF6, 0xFB]);
    m.set(Reg::RAX, 0xFF80);
    m.set(Reg::RBX, 1);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RAX), 0x80);
}

#[test]
fn shifts_count_to_31() {
    // shl eax, cl; shr bx, cl
    let mut m = Machine::new(&[0x66, 0xD3, 0xE0, 0xD3, 0xEB]);
    m.set(Reg::RCX, 0x21);
    m.set(Reg::RAX, 0x8000_0001);
    m.set(Reg::RBX, 0x8001);
    assert_eq!(m.run(), None);
    assert_eq!((m.get(Reg::RAX), m.get(Reg::RBX)), (2, 0x4000));
    // rcl bl, 9 is the identity; rol by 8 sets CF from bit 0
    let mut m = Machine::new(&[0xC0, 0xD3, 0x09, 0xC0, 0xC3, 0x08]);
    m.set(Reg::RBX, 0x5B);
    m.run();
    assert_eq!(m.get(Reg::RBX), 0x5B);
    assert_eq!(m.flags() & 1, 1);
}

#[test]
fn bit_instructions() {
    // bsf eax, ebx with a zero source leaves eax
    let mut m = Machine::new(&[0x66, 0x0F, 0xBC, 0xC3]);
    m.set(Reg::RAX, 0x1234_5678);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RAX), 0x1234_5678);
    assert_ne!(m.flags() & 0x40, 0);
    // bts [bx], ax with ax = -1: the last bit of the word before
    let mut m = Machine::new(&[0x0F, 0xAB, 0x07]);
    m.set(Reg::RBX, 0x40);
    m.set(Reg::RAX, 0xFFFF);
    assert_eq!(m.run(), None);
    assert_eq!(m.word(DATA_SEGMENT, 0x3E), 0x8000);
    // btc word [bx], 17: the immediate stays within the word
    let mut m = Machine::new(&[0x0F, 0xBA, 0x3F, 0x11]);
    m.set(Reg::RBX, 0x40);
    assert_eq!(m.run(), None);
    assert_eq!(m.word(DATA_SEGMENT, 0x40), 2);
    // shld eax, ebx, 4
    let mut m = Machine::new(&[0x66, 0x0F, 0xA4, 0xD8, 0x04]);
    m.set(Reg::RAX, 0x1234_5678);
    m.set(Reg::RBX, 0xA000_0000);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RAX), 0x2345_678A);
}

#[test]
fn shld_beyond_16_bits_takes_the_second_operand_again() {
    // shld ax, bx, 20; shrd cx, bx, 20
    let mut m = Machine::new(&[0x0F, 0xA4, 0xD8, 0x14, 0x0F, 0xAC, 0xD9, 0x14]);
    m.set(Reg::RAX, 0x1111);
    m.set(Reg::RBX, 0xA5F3);
    m.set(Reg::RCX, 0x2222);
    assert_eq!(m.run(), None);
    assert_eq!((m.get(Reg::RAX), m.get(Reg::RCX)), (0x5F3A, 0x3A5F));
}

#[test]
fn flags_that_the_386_has() {
    // popfd with all ones, but without TF: IOPL and NT stay, nothing above them
    let mut m = Machine::new(&[0x66, 0x9D, 0x66, 0x9C]);
    m.poke(STACK_SEGMENT, 0x800, 0, &0xFFFE_FEFFu32.to_le_bytes());
    assert_eq!(m.run(), None);
    assert_eq!(m.word(STACK_SEGMENT, 0x800), 0x7ED7);
    assert_eq!(m.word(STACK_SEGMENT, 0x802), 0);
    // An exception pushes 16 bits, with IOPL and NT.
    let mut m = Machine::new(&[0x9D, 0x0F, 0x0B]);
    m.poke(STACK_SEGMENT, 0x800, 0, &0xFEFFu16.to_le_bytes());
    assert_eq!(m.run(), Some(6));
    assert_eq!(m.word(STACK_SEGMENT, 0x800), 0x7ED7);
    assert_eq!(m.get(Reg::RSP), 0x7FC);
}

#[test]
fn a_pushed_selector_leaves_half_of_its_doubleword() {
    // push fs with 66; pop gs with 66
    let mut m = Machine::new(&[0x66, 0x0F, 0xA0, 0x66, 0x0F, 0xA9]);
    m.poke(STACK_SEGMENT, 0x7FC, 0, &[0xAA; 4]);
    let fs = SegmentRegister::FS;
    m.0.cpu.segs[fs].selector = 0x1234;
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RSP), 0x800);
    assert_eq!(m.word(STACK_SEGMENT, 0x7FC), 0x1234);
    assert_eq!(m.word(STACK_SEGMENT, 0x7FE), 0xAAAA);
    assert_eq!(m.0.cpu.segs[SegmentRegister::GS].selector, 0x1234);
    // mov eax, fs clears the upper half
    let mut m = Machine::new(&[0x66, 0x8C, 0xE0]);
    m.set(Reg::RAX, 0xFFFF_FFFF);
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RAX), 0);
}

#[test]
fn frames_and_bounds() {
    // enter 10h, 2; leave
    let mut m = Machine::new(&[0xC8, 0x10, 0x00, 0x02]);
    m.set(Reg::RBP, 0x900);
    m.poke(STACK_SEGMENT, 0x8FE, 0, &[0x34, 0x12]);
    assert_eq!(m.run(), None);
    assert_eq!((m.get(Reg::RBP), m.get(Reg::RSP)), (0x7FE, 0x7EA));
    assert_eq!(m.word(STACK_SEGMENT, 0x7FC), 0x1234);
    assert_eq!(m.word(STACK_SEGMENT, 0x7FA), 0x7FE);
    // leave with bp = FFFFh
    let mut m = Machine::new(&[0xC9]);
    m.set(Reg::RBP, 0xFFFF);
    assert_eq!(m.run(), Some(12));
    assert_eq!((m.get(Reg::RBP), m.get(Reg::RSP)), (0xFFFF, 0x7FA));
    // bound ax, [bx]: 1 is not in -2..=0
    let mut m = Machine::new(&[0x62, 0x07]);
    m.poke(DATA_SEGMENT, 0, 0, &[0xFE, 0xFF, 0x00, 0x00]);
    m.set(Reg::RAX, 1);
    assert_eq!(m.run(), Some(5));
    assert_eq!(m.word(STACK_SEGMENT, 0x7FA), 0x100);
}

#[test]
fn control_registers_in_real_mode() {
    // mov eax, cr0; mov ebx, dr7; clts; lgdt [bx]; smsw cx
    let code = [
        0x0F, 0x20, 0xC0, 0x0F, 0x21, 0xFB, 0x0F, 0x06, 0x0F, 0x01, 0xE1,
    ];
    let mut m = Machine::new(&code);
    m.0.cpu.cr0 |= 8;
    assert_eq!(m.run(), None);
    assert_eq!(m.get(Reg::RAX) & 9, 8);
    assert_eq!(m.get(Reg::RBX), 0x400);
    assert_eq!(m.get(Reg::RCX) & 9, 0);
    // CR1 and CR4 do not exist on an i386.
    assert_eq!(vector(&[0x0F, 0x20, 0xC8]), Some(6));
    assert_eq!(vector(&[0x0F, 0x20, 0xE0]), Some(6));
}
