//! The local APIC at work in the processor.

mod common;

use common::flat32;
use platform::{
    DeliveryMode, Device, DeviceCtx, Input, InterruptMessage, IrqLine, PhysAddr, SavedState,
    StateError,
};
use x86::cpu::Reg;
use x86::flags::bits;
use x86::{Exit, Segment, Vcpu};

const APIC: u32 = 0xFEE0_0000;
const HANDLERS: u32 = 0x4000;
const LOG: u64 = 0x8000;

/// Answers interrupt acknowledge cycles with 08h, and notes the ends of interrupts in RAM. Port 20h drives
/// INTR and NMI and sends a message; port 30h is a clock.
struct Board;

/// Region of the clock.
const TIME: u8 = 1;

impl Device for Board {
    fn name(&self) -> &'static str {
        "board"
    }
    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, _: u64, _: u8) -> u64 {
        if region == TIME {
            return ctx.now_ns();
        }
        ctx.set_line(IrqLine::INTR, false);
        8
    }
    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, value: u64) {
        ctx.set_line(IrqLine::INTR, value & 1 != 0);
        ctx.set_line(IrqLine::NMI, value & 2 != 0);
        if value & 4 != 0 {
            ctx.interrupt_message(InterruptMessage {
                destination: 0,
                logical: false,
                mode: DeliveryMode::Fixed,
                vector: 0x50,
                level: false,
            });
        }
    }
    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::EndOfInterrupt { vector } = input {
            ctx.dma_write(PhysAddr(0x9000), &[*vector]);
        }
    }
    fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
    fn state(&self) -> platform::StateView<'_> {
        platform::StateView::of(1, ())
    }
    fn restore(&mut self, _: &SavedState) -> Result<(), StateError> {
        Ok(())
    }
}

/// A processor at `code`; handler n writes n behind the last byte of a log and halts with IF = 0.
fn machine(code: &[u8]) -> Vcpu {
    let mut vcpu = flat32(code);
    let code_segment = Segment::P | Segment::S | Segment::TYPE_CODE | Segment::TYPE_READABLE;
    let flat = u64::from(code_segment | Segment::DB | Segment::G);
    let descriptor = 0xFFFFu64 | (flat & 0xFF) << 40 | 0xF << 48 | (flat >> 12) << 52;
    let bus = vcpu.bus();
    bus.memory
        .write(PhysAddr(0x2008), &descriptor.to_le_bytes());
    for vector in 0..256u32 {
        let at = HANDLERS + vector * 16;
        let gate = u64::from(at & 0xFFFF) | 8 << 16 | 0x8E00 << 32;
        bus.memory.write(
            PhysAddr(0x3000 + u64::from(vector) * 8),
            &gate.to_le_bytes(),
        );
        // mov byte [ebx], n; inc ebx; hlt; iret
        let code = [0xC6, 0x03, vector as u8, 0x43, 0xF4, 0xCF];
        bus.memory.write(PhysAddr(at.into()), &code);
    }
    let board = bus.add(Box::new(Board));
    bus.map_ports(board, 0, 0x20, 1, 1);
    bus.map_ports(board, TIME, 0x30, 2, 2);
    bus.set_interrupt_controller(board, 0);
    bus.set_io_apic(board);
    vcpu.cpu.gdtr.base = 0x2000;
    vcpu.cpu.gdtr.limit = 0xF;
    vcpu.cpu.idtr.base = 0x3000;
    vcpu.cpu.idtr.limit = 0x7FF;
    vcpu.cpu.regs[Reg::RBX] = LOG;
    vcpu.cpu.regs[Reg::RSP] = 0x7000;
    vcpu
}

fn log(vcpu: &mut Vcpu) -> Vec<u8> {
    let mut bytes = vec![0; (vcpu.cpu.regs[Reg::RBX] - LOG) as usize];
    vcpu.bus().memory.read(PhysAddr(LOG), &mut bytes);
    bytes
}

/// mov dword [APIC + register], value
fn poke(register: u32, value: u32) -> Vec<u8> {
    let mut code = vec![0xC7, 0x05];
    code.extend((APIC + register).to_le_bytes());
    code.extend(value.to_le_bytes());
    code
}

fn program(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

const STI: u8 = 0xFB;
const HLT: u8 = 0xF4;
const NOP: u8 = 0x90;

#[test]
fn the_timer_ends_the_slice_and_interrupts_at_its_instruction() {
    let mut vcpu = machine(&program(&[
        poke(0xF0, 0x1FF),
        poke(0x3E0, 0xB),
        poke(0x320, 0x40),
        poke(0x380, 100),
        vec![STI],
        vec![NOP; 300],
    ]));
    // The fourth instruction starts the count at 3 ns, and each takes one.
    let exit = vcpu.run(1000);
    assert_eq!((exit, vcpu.bus().clock.retired()), (Exit::Budget, 103));
    assert_eq!(log(&mut vcpu), []);
    assert_eq!(vcpu.run(104), Exit::Budget);
    assert_eq!(vcpu.cpu.regs[Reg::RIP], u64::from(HANDLERS) + 0x403);
    let mut pushed = [0; 4];
    let stack = vcpu.cpu.regs[Reg::RSP];
    vcpu.bus().memory.read(PhysAddr(stack), &mut pushed);
    assert_eq!(u32::from_le_bytes(pushed), 0x1000 + 41 + 98);
}

#[test]
fn a_halted_processor_names_its_deadline_and_wakes() {
    let mut vcpu = machine(&program(&[
        poke(0xF0, 0x1FF),
        poke(0x3E0, 0xB),
        poke(0x320, 0x2_0040),
        poke(0x380, 50_000),
        vec![STI, HLT],
    ]));
    assert_eq!(vcpu.run(1000), Exit::Halted);
    let now_ns = vcpu.bus().clock.now_ns();
    assert_eq!(vcpu.next_apic_deadline_ns(now_ns), Some(50_003));
    vcpu.bus().clock.skip_to(50_003);
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(log(&mut vcpu), [0x40]);
    let now_ns = vcpu.bus().clock.now_ns();
    assert_eq!(vcpu.next_apic_deadline_ns(now_ns), Some(100_003));
}

#[test]
fn the_8259a_comes_through_until_lint0_is_masked() {
    let code = [STI, HLT];
    let mut vcpu = machine(&code);
    vcpu.bus().pio_write(0x20, 1, 1);
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(log(&mut vcpu), [8]);

    let mut vcpu = machine(&program(&[
        poke(0xF0, 0x1FF),
        poke(0x350, 0x1_0700),
        code.to_vec(),
    ]));
    vcpu.bus().pio_write(0x20, 1, 1);
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(log(&mut vcpu), []);
    assert_eq!(vcpu.cpu.regs[Reg::RIP], 0x1000 + 22);
}

#[test]
fn a_globally_disabled_apic_is_not_there() {
    // mov ecx, 1Bh; xor edx, edx; mov eax, FEE00000; wrmsr
    let mut code = vec![
        0xB9, 0x1B, 0, 0, 0, 0x31, 0xD2, 0xB8, 0, 0, 0xE0, 0xFE, 0x0F, 0x30,
    ];
    // mov esi, [FEE00030]; mov eax, 1; push ebx; cpuid; pop ebx; sti; hlt
    code.extend([0x8B, 0x35, 0x30, 0, 0xE0, 0xFE, 0xB8, 1, 0, 0, 0]);
    code.extend([0x53, 0x0F, 0xA2, 0x5B, STI, HLT]);
    let mut vcpu = machine(&code);
    vcpu.bus().pio_write(0x20, 1, 1);
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(vcpu.cpu.regs[Reg::RSI], 0xFFFF_FFFF);
    assert_eq!(vcpu.cpu.regs[Reg::RDX] & 1 << 9, 0);
    assert_eq!(log(&mut vcpu), [8]);
}

#[test]
fn the_nmi_pin_goes_through_lint1_and_ignores_if() {
    let mut vcpu = machine(&[0xFA, HLT]);
    vcpu.bus().pio_write(0x20, 1, 2);
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(log(&mut vcpu), [2]);
}

#[test]
fn messages_wait_for_if_and_the_end_of_a_level_is_broadcast() {
    let mut vcpu = machine(&program(&[
        poke(0xF0, 0x1FF),
        vec![NOP; 4],
        vec![STI, HLT],
        poke(0xB0, 0),
        vec![HLT],
    ]));
    vcpu.run(1);
    let message = |vector| InterruptMessage {
        destination: 0xFF,
        logical: false,
        mode: DeliveryMode::Fixed,
        vector,
        level: true,
    };
    vcpu.bus().messages.send(message(0x39));
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(log(&mut vcpu), [0x39]);
    // Out of the handler, over the first HLT, to the EOI.
    vcpu.cpu.halted = false;
    assert_eq!(vcpu.run(1000), Exit::Halted);
    let mut served = [0];
    vcpu.bus().memory.read(PhysAddr(0x9000), &mut served);
    assert_eq!(served, [0x39]);
}

#[test]
fn an_interrupt_to_itself_comes_before_the_next_instruction() {
    for limit in [1000, 5] {
        let mut vcpu = machine(&program(&[
            poke(0xF0, 0x1FF),
            vec![STI, NOP],
            poke(0x300, 0x4_0050),
            vec![0x41; 20], // inc ecx
            vec![HLT],
        ]));
        vcpu.cpu.regs[Reg::RCX] = 0;
        let mut exit = Exit::Budget;
        while exit == Exit::Budget {
            let until = vcpu_retired(&mut vcpu) + limit;
            exit = vcpu.run(until);
        }
        assert_eq!(log(&mut vcpu), [0x50]);
        assert_eq!(vcpu.cpu.regs[Reg::RCX], 0, "slices of {limit}");
    }
}

#[test]
fn an_nmi_to_itself_comes_before_the_next_instruction_whatever_if_says() {
    for (limit, flag) in [(1000, STI), (5, STI), (1000, NOP), (5, NOP)] {
        let mut vcpu = machine(&program(&[
            poke(0xF0, 0x1FF),
            vec![flag, NOP],
            poke(0x300, 0x400),
            vec![0x41; 20], // inc ecx
            vec![HLT],
        ]));
        vcpu.cpu.regs[Reg::RCX] = 0;
        let mut exit = Exit::Budget;
        while exit == Exit::Budget {
            let until = vcpu_retired(&mut vcpu) + limit;
            exit = vcpu.run(until);
        }
        assert_eq!(log(&mut vcpu), [2]);
        assert_eq!(vcpu.cpu.regs[Reg::RCX], 0, "slices of {limit}");
    }
}

#[test]
fn a_count_that_ends_within_its_own_block_interrupts_at_its_instruction() {
    for limit in [1000, 5, 1] {
        let mut vcpu = machine(&program(&[
            poke(0xF0, 0x1FF),
            poke(0x3E0, 0xB),
            poke(0x320, 0x40),
            vec![STI, NOP],
            poke(0x380, 4),
            vec![0x41; 20], // inc ecx
            vec![HLT],
        ]));
        vcpu.cpu.regs[Reg::RCX] = 0;
        let mut exit = Exit::Budget;
        while exit == Exit::Budget {
            let until = vcpu_retired(&mut vcpu) + limit;
            exit = vcpu.run(until);
        }
        assert_eq!(log(&mut vcpu), [0x40]);
        assert_eq!(vcpu.cpu.regs[Reg::RCX], 3, "slices of {limit}");
    }
}

fn vcpu_retired(vcpu: &mut Vcpu) -> u64 {
    vcpu.bus().clock.retired()
}

#[test]
fn cr8_is_the_upper_half_of_the_task_priority() {
    let mut vcpu = machine(&program(&[poke(0x80, 0x5F), vec![HLT]]));
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(vcpu.cpu.apic.tpr(), 0x5F);
}

#[test]
fn another_processor_waits_for_init_and_start_up() {
    let mut vcpu = machine(&[NOP]);
    vcpu.set_number(1);
    vcpu.bus().messages = platform::MessageQueue::new(2);
    assert_eq!(vcpu.run(1000), Exit::Halted);
    let send = |vcpu: &mut Vcpu, mode| {
        let message = InterruptMessage {
            destination: 1,
            logical: false,
            mode,
            vector: 0x05,
            level: false,
        };
        vcpu.bus().messages.send(message);
    };
    send(&mut vcpu, DeliveryMode::Init);
    assert_eq!(vcpu.run(1000), Exit::Halted);
    vcpu.bus().memory.write(PhysAddr(0x5000), &[0x41, HLT]); // inc cx
    send(&mut vcpu, DeliveryMode::StartUp);
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(vcpu.cpu.regs[Reg::RCX], 1);
    assert_eq!(vcpu.cpu.regs[Reg::RIP], 2);
    assert_eq!(vcpu.cpu.rflags & bits::IF, 0);
}

#[test]
fn no_access_to_the_page_panics() {
    let mut rng = platform::testkit::Rng::new(0x5EED_0400);
    for _ in 0..300 {
        let mut code = Vec::new();
        for _ in 0..8 {
            let at = APIC + rng.below(0xFF0) as u32;
            let value = rng.next_u64() as u32;
            let prefix: &[u8] = match rng.below(4) {
                0 => &[0xC6, 0x05],       // mov byte [], imm8
                1 => &[0x66, 0xC7, 0x05], // mov word [], imm16
                2 => &[0x8B, 0x0D],       // mov ecx, []
                _ => &[0xC7, 0x05],       // mov dword [], imm32
            };
            code.extend(prefix);
            code.extend(at.to_le_bytes());
            let immediate = match prefix {
                [0xC6, ..] => 1,
                [0x66, ..] => 2,
                [0x8B, ..] => 0,
                _ => 4,
            };
            code.extend(&value.to_le_bytes()[..immediate]);
        }
        code.extend([STI, HLT]);
        let mut vcpu = machine(&code);
        for _ in 0..4 {
            let until = vcpu_retired(&mut vcpu) + 100;
            vcpu.run(until);
        }
    }
}

#[test]
fn an_interrupt_that_if_holds_off_ends_mwait_when_ecx_asks_for_it() {
    // MONITOR, then the board asks for an interrupt, then MWAIT.
    for (extensions, waits) in [(0, true), (1, false)] {
        let mut vcpu = machine(&program(&[
            poke(0xF0, 0x1FF),
            poke(0x350, 0x700),
            vec![0xB8, 0, 0x50, 0, 0, 0x31, 0xC9, 0x0F, 0x01, 0xC8],
            vec![0xB9, extensions, 0, 0, 0, 0xB0, 1, 0xE6, 0x20],
            vec![0x0F, 0x01, 0xC9],
            vec![NOP; 50],
        ]));
        let exit = vcpu.run(20);
        assert_eq!(exit == Exit::Halted, waits, "ECX = {extensions}");
        assert_eq!(log(&mut vcpu), []);
        vcpu.cpu.rflags |= bits::IF;
        vcpu.run(40);
        assert_eq!(log(&mut vcpu), [8], "ECX = {extensions}");
    }
}

#[test]
fn an_interrupt_of_the_apic_is_taken_between_two_iterations_of_rep_outs() {
    // rep outsb, whose second byte sends a message or raises the NMI.
    for (byte, vector) in [(4, 0x50), (2, 2)] {
        let mut vcpu = machine(&program(&[
            poke(0xF0, 0x1FF),
            poke(0x360, 0x400),
            vec![STI, NOP, 0xF3, 0x6E, NOP],
        ]));
        vcpu.bus().memory.write(PhysAddr(0x5001), &[byte]);
        vcpu.cpu.regs[Reg::RSI] = 0x5000;
        vcpu.cpu.regs[Reg::RCX] = 100;
        vcpu.cpu.regs[Reg::RDX] = 0x20;
        vcpu.run(40);
        assert_eq!(log(&mut vcpu), [vector]);
        assert_eq!(vcpu.cpu.regs[Reg::RCX], 98);
        let mut pushed = [0; 4];
        let stack = vcpu.cpu.regs[Reg::RSP];
        vcpu.bus().memory.read(PhysAddr(stack), &mut pushed);
        assert_eq!(u32::from_le_bytes(pushed), 0x1000 + 20 + 2, "on the REP");
    }
}

#[test]
fn time_goes_on_in_a_rep_ins_of_any_length() {
    let mut vcpu = machine(&[0xF3, 0x66, 0x6D, HLT]);
    vcpu.cpu.regs[Reg::RDI] = 0x1_0000;
    vcpu.cpu.regs[Reg::RCX] = 140_000;
    vcpu.cpu.regs[Reg::RDX] = 0x30;
    assert_eq!(vcpu.run(1_000_000), Exit::Halted);
    assert_eq!(vcpu.bus().clock.retired(), 140_001);
    for n in 0..140_000 {
        let at = PhysAddr(0x1_0000 + 2 * n);
        let read = u16::from_le_bytes(vcpu.bus().memory.read_array(at));
        assert_eq!(read, n as u16, "iteration {n}");
    }
}

/// mov ecx, register; mov eax, low; mov edx, high; wrmsr
fn wrmsr(register: u32, value: u64) -> Vec<u8> {
    let mut code = vec![0xB9];
    code.extend(register.to_le_bytes());
    code.push(0xB8);
    code.extend((value as u32).to_le_bytes());
    code.push(0xBA);
    code.extend(((value >> 32) as u32).to_le_bytes());
    code.extend([0x0F, 0x30]);
    code
}

const GP: u8 = 13;
const APIC_BASE: u32 = 0x1B;
const OFF: u64 = 0xFEE0_0100;
const XAPIC: u64 = 0xFEE0_0900;
const X2APIC: u64 = 0xFEE0_0D00;

#[test]
fn x2apic_mode_is_entered_from_the_other_one_and_left_by_switching_off() {
    for (states, wanted) in [
        (&[X2APIC][..], &[][..]),
        (&[X2APIC, OFF, XAPIC, X2APIC], &[]),
        (&[X2APIC, X2APIC], &[]),
        (&[X2APIC, XAPIC], &[GP]),
        (&[OFF, X2APIC], &[GP]),
        (&[OFF | 0x400], &[GP]),
        (&[X2APIC, OFF | 0x400], &[GP]),
    ] {
        let parts: Vec<_> = states
            .iter()
            .map(|&state| wrmsr(APIC_BASE, state))
            .collect();
        let mut vcpu = machine(&program(&[program(&parts), vec![HLT]]));
        assert_eq!(vcpu.run(1000), Exit::Halted);
        assert_eq!(log(&mut vcpu), wanted, "{states:x?}");
        if wanted.is_empty() {
            assert_eq!(vcpu.cpu.msr.apic_base, *states.last().unwrap());
        }
    }
}

#[test]
fn in_x2apic_mode_a_self_ipi_interrupts_and_the_page_is_gone() {
    let code = program(&[
        wrmsr(APIC_BASE, X2APIC),
        wrmsr(0x80F, 0x1FF),
        poke(0x80, 0xF0), // nobody is there: else this would hold the interrupt back
        vec![STI],
        wrmsr(0x83F, 0x60),
        vec![NOP, HLT],
    ]);
    let mut vcpu = machine(&code);
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(log(&mut vcpu), [0x60]);
    assert_eq!(vcpu.cpu.apic.tpr(), 0);
}

#[test]
fn the_registers_of_x2apic_mode_are_not_there_outside_of_it() {
    let mut vcpu = machine(&program(&[wrmsr(0x808, 0), vec![HLT]]));
    assert_eq!(vcpu.run(1000), Exit::Halted);
    assert_eq!(log(&mut vcpu), [GP]);
}

#[test]
fn leaf_b_has_the_x2apic_id() {
    let vcpu = machine(&[HLT]);
    let leaf = |subleaf| vcpu.model.cpuid(0xB, subleaf, &vcpu.cpu);
    assert_eq!(leaf(0), [0, 1, 0x100, 0]);
    assert_eq!(leaf(1), [0, 1, 0x201, 0]);
    assert_eq!(leaf(2), [0, 0, 2, 0]);
    assert_ne!(vcpu.model.cpuid(1, 0, &vcpu.cpu)[2] & 1 << 21, 0);
}
