//! System management mode.

use platform::{Device, DeviceCtx, Input, IrqLine, PhysAddr, SavedState, StateError, StateView};
use x86::cpu::{Reg, SegmentRegister, control};
use x86::{Cpu, Exit};

use crate::harness::{CODE, Machine};

const UD: u64 = 6;
const NMI: u64 = 2;
/// Where the handler starts, and where the map is counted from.
const HANDLER: u64 = 0x3_8000;
const HLT: u8 = 0xF4;
const RSM: [u8; 2] = [0x0F, 0xAA];

/// mov byte [cs:offset], value: in the map, where offsets count from SMBASE.
fn set(offset: u16, value: u8) -> Vec<u8> {
    let [low, high] = offset.to_le_bytes();
    vec![0x2E, 0xC6, 0x06, low, high, value]
}

/// `m` with `handler` before an RSM; an SMI waits.
fn with_handler(mut m: Machine, handler: &[u8]) -> Machine {
    let code = [handler, &RSM].concat();
    m.v.bus().memory.write(PhysAddr(HANDLER), &code);
    m.v.cpu.smm.pending = true;
    m
}

/// Runs on behind the HLT at which it stands.
fn run_on(m: &mut Machine) {
    m.v.cpu.halted = false;
    m.run();
}

fn shown(cpu: &Cpu) -> String {
    format!("{cpu:?}")
}

#[test]
fn rsm_is_undefined_outside_of_the_mode() {
    Machine::new(&RSM).expect_fault(UD, None);
    Machine::user(&RSM).expect_fault(UD, None);
    Machine::long(&RSM, 3).expect_fault(UD, None);
}

#[test]
fn the_handler_starts_in_flat_real_mode() {
    let mut m = with_handler(Machine::long(&[HLT], 0), &[HLT]);
    m.v.cpu.cr0 |= control::CR0_TS;
    m.v.cpu.dr[7] = 0x402;
    m.run();
    let cpu = &m.v.cpu;
    assert!(cpu.smm.active && cpu.nmi_blocked);
    assert_eq!((cpu.cr4, cpu.efer, cpu.dr[7], cpu.cpl), (0, 0, 0x400, 0));
    assert_eq!(cpu.rflags(), 2);
    assert_eq!(m.ip(), 0x8001);
    use control::*;
    assert_eq!(cpu.cr0 & (CR0_PE | CR0_EM | CR0_TS | CR0_PG), 0);
    let code = cpu.segs[SegmentRegister::CS];
    assert_eq!(
        (code.selector, code.base, code.limit),
        (0x3000, 0x3_0000, !0)
    );
    for seg in [0, 2, 3, 4, 5] {
        let data = cpu.segs[seg];
        assert_eq!((data.selector, data.base, data.limit), (0, 0, !0));
    }
    assert_eq!(m.peek32(HANDLER + 0x7EFC), 0x3_0064);
    assert_eq!(m.peek32(HANDLER + 0x7F00), 0x3_0000);
    assert_eq!(m.peek64(HANDLER + 0x7F78), CODE);
    assert_eq!(m.peek64(HANDLER + 0x7ED0) & 0x500, 0x500);
}

#[test]
fn the_map_of_32_bits_is_where_the_p6_has_it() {
    let mut m = with_handler(Machine::with_model("pentium3", &[HLT]), &[HLT]);
    m.v.cpu.regs[Reg::RDI] = 0x1234_5678;
    m.run();
    assert_eq!(m.peek32(HANDLER + 0x7EFC), 0x3_0000);
    assert_eq!(m.peek32(HANDLER + 0x7EF8), 0x3_0000);
    assert_eq!(m.peek32(HANDLER + 0x7FEC), 0x1234_5678);
    assert_eq!(m.peek32(HANDLER + 0x7FF0), CODE as u32);
    assert_eq!(m.peek32(HANDLER + 0x7FAC), 0x08, "CS");
    assert_eq!(m.peek32(HANDLER + 0x7F90), 0xC09B, "its attributes");
    assert_eq!(m.peek32(HANDLER + 0x7FC4), 0x38, "TR");
    assert_eq!(m.peek32(HANDLER + 0x7F64), 0x3000, "its base");
    assert_eq!(m.peek32(HANDLER + 0x7F58), 0x2800, "IDTR");
}

#[test]
fn rsm_restores_the_whole_state_of_every_mode() {
    let mut machines = vec![
        Machine::new(&[]),
        Machine::user(&[]),
        Machine::virtual8086(&[], 3),
        Machine::long(&[], 0),
        Machine::long(&[], 3),
        Machine::with_model("pentium3", &[]),
        Machine::with_model("i486", &[]),
    ];
    let mut real = Machine::new(&[]);
    real.v.write_cr0(0x10).unwrap();
    machines.push(real);
    let mut null = Machine::long(&[], 0);
    null.set_seg(SegmentRegister::SS, 0, 0, 0, 0);
    null.v.update_mode();
    machines.push(null);
    for (number, mut m) in machines.into_iter().enumerate() {
        for reg in 0..16 {
            m.v.cpu.regs[reg] = 0x1111_1111 * reg as u64;
        }
        m.v.cpu.rflags |= 0x8D5;
        m.v.cpu.nmi_blocked = number % 2 == 0;
        let before = shown(&m.v.state());
        // Everything is something else meanwhile: mov esp, 7; hlt.
        let mut m = with_handler(m, &[0x66, 0xBC, 7, 0, 0, 0, HLT]);
        m.run();
        m.v.cpu.halted = false;
        let until = m.v.bus().clock.retired() + 1;
        assert_eq!(m.v.run(until), Exit::Budget);
        assert_eq!(shown(&m.v.state()), before, "machine {number}");
    }
}

#[test]
fn interrupts_of_every_kind_wait_for_the_end() {
    // The handler meets an NMI and another SMI.
    let mut m = with_handler(Machine::new(&[HLT]), &[HLT]);
    m.run();
    m.v.cpu.nmi_pending = true;
    m.v.cpu.smm.pending = true;
    run_on(&mut m);
    assert!(m.v.cpu.smm.active, "the second SMI came before the NMI");
    assert!(m.v.cpu.nmi_pending && !m.v.cpu.smm.pending);
    run_on(&mut m);
    assert!(!m.v.cpu.smm.active);
    assert_eq!(m.vector(), Some(NMI));
    assert_eq!(m.stack(0), CODE as u32);
}

#[test]
fn an_iret_in_the_handler_lets_nmis_in() {
    let mut m = with_handler(Machine::new(&[HLT]), &[HLT]);
    m.run();
    m.v.cpu.nmi_pending = true;
    // In real mode vector 2 is at 8: the handler is a HLT at 0:600. push cs... is not needed: iret to 3000:8010.
    m.poke32(2 * 4, 0x600);
    m.v.cpu.idtr.base = 0;
    m.v.cpu.idtr.limit = 0x3FF;
    m.poke8(0x600, HLT);
    m.poke32(0x5000, 0x3000_8010);
    m.poke32(0x5004, 2);
    m.v.bus().memory.write(PhysAddr(HANDLER + 1), &[0xCF]);
    m.poke8(HANDLER + 0x10, HLT);
    m.v.cpu.regs[Reg::RSP] = 0x5000;
    run_on(&mut m);
    assert!(m.v.cpu.smm.active);
    assert_eq!(m.ip(), 0x601);
}

#[test]
fn init_waits_for_the_end_and_smbase_stays() {
    let mut m = with_handler(Machine::new(&[HLT]), &[]);
    // The map's SMBASE becomes 40000.
    m.v.bus().memory.write(
        PhysAddr(HANDLER),
        &[&set(0xFF02, 4)[..], &[HLT], &RSM].concat(),
    );
    m.run();
    m.v.cpu.smm.init_pending = true;
    m.v.cpu.halted = false;
    let until = m.v.bus().clock.retired() + 1;
    m.v.run(until);
    m.v.run(until);
    assert!(!m.v.cpu.smm.active && !m.v.cpu.smm.init_pending);
    assert_eq!(m.v.cpu.segs[SegmentRegister::CS].base, 0xFFFF_0000);
    assert_eq!(m.v.cpu.smm.base, 0x4_0000);
}

#[test]
fn smbase_moves() {
    let mut m = with_handler(Machine::new(&[0x90, HLT]), &set(0xFF02, 5));
    m.run();
    assert_eq!(m.v.cpu.smm.base, 0x5_0000);
    m.v.cpu.smm.pending = true;
    m.poke8(0x5_8000, HLT);
    run_on(&mut m);
    assert_eq!(m.v.cpu.segs[SegmentRegister::CS].base, 0x5_0000);
    assert_eq!(m.ip(), 0x8001);
}

#[test]
fn a_halt_goes_on_or_ends_as_the_handler_says() {
    // hlt; inc eax; hlt
    for (model, flag, eax) in [
        ("max", set(0xFEC9, 0), 1),
        ("pentium3", set(0xFF02, 0), 1),
        ("max", vec![], 0),
        ("pentium3", vec![], 0),
    ] {
        let mut m = Machine::with_model(model, &[HLT, 0x40, HLT]);
        m.run();
        let mut m = with_handler(m, &flag);
        m.run();
        assert!(!m.v.cpu.smm.active);
        assert_eq!(m.v.cpu.regs[Reg::RAX], eax, "{model} {flag:x?}");
    }
}

#[test]
fn a_state_that_cannot_be_shuts_the_processor_down() {
    for (handler, why) in [
        (set(0xFF4B, 0xFF), "CR4"),
        (set(0xFF5B, 0x80), "CR0"),
        (set(0xFED1, 0x80), "EFER"),
    ] {
        let mut m = with_handler(Machine::new(&[HLT]), &handler);
        let wrong_paging = why == "CR0";
        if wrong_paging {
            m.v.write_cr0(0x10).unwrap();
        }
        assert_eq!(m.v.run(100), Exit::Shutdown);
        let step = &m.v.death()[0];
        assert!(step.why.contains(why), "{}", step.why);
        assert_eq!(
            (step.name().as_str(), step.instruction.as_str()),
            ("shutdown", "rsm")
        );
    }
    let mut m = with_handler(Machine::with_model("pentium", &[HLT]), &set(0xFEF9, 1));
    assert_eq!(m.v.run(100), Exit::Shutdown);
    let mut m = with_handler(Machine::with_model("pentium3", &[HLT]), &set(0xFEF9, 1));
    m.run();
    assert_eq!(m.v.cpu.smm.base, 0x3_0100);
}

/// Port 20h counts accesses; the first one is an SMI. Read, it gives the count.
#[derive(Default)]
struct Trap {
    bytes: Vec<u8>,
}

impl Device for Trap {
    fn name(&self) -> &'static str {
        "trap"
    }
    fn read(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8) -> u64 {
        self.write(ctx, 0, 0, 1, 0);
        self.bytes.len() as u64
    }
    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, value: u64) {
        self.bytes.push(value as u8);
        ctx.set_line(IrqLine::SMI, self.bytes.len() == 1);
    }
    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Line { level: true, .. } = input {
            ctx.set_line(IrqLine::SMI, false);
        }
    }
    fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
    fn state(&self) -> StateView<'_> {
        StateView::of(1, &self.bytes)
    }
    fn restore(&mut self, _: &SavedState) -> Result<(), StateError> {
        Ok(())
    }
}

fn with_trap(code: &[u8], handler: &[u8]) -> Machine {
    let mut m = with_handler(Machine::new(code), handler);
    m.v.cpu.smm.pending = false;
    let bus = m.v.bus();
    let trap = bus.add(Box::new(Trap::default()));
    bus.map_ports(trap, 0, 0x20, 1, 1);
    bus.connect(IrqLine::SMIACT, trap);
    m
}

fn accesses(m: &mut Machine) -> Vec<u8> {
    let (_, trap) = m.v.bus().devices().next().unwrap();
    trap.save().decode(1).unwrap()
}

#[test]
fn an_io_instruction_starts_anew_where_the_handler_says_so() {
    // in al, 20h; hlt
    let code = [0xE4, 0x20, HLT];
    let mut m = with_trap(&code, &[]);
    m.run();
    assert_eq!((m.v.cpu.regs[Reg::RAX], accesses(&mut m).len()), (1, 1));
    assert_eq!(m.peek32(HANDLER + 0x7EC0), 0x0020_0013, "what it was");
    let mut m = with_trap(&code, &set(0xFEC8, 0xFF));
    m.run();
    assert_eq!((m.v.cpu.regs[Reg::RAX], accesses(&mut m).len()), (2, 2));
}

#[test]
fn a_string_instruction_starts_anew_with_its_counters() {
    // rep outsb; hlt
    let mut m = with_trap(&[0xF3, 0x6E, HLT], &set(0xFEC8, 0xFF));
    m.poke32(0x9000, 0x0403_0201);
    m.v.cpu.regs[Reg::RCX] = 3;
    m.v.cpu.regs[Reg::RDX] = 0x20;
    m.v.cpu.regs[Reg::RSI] = 0x9000;
    m.run();
    assert_eq!(accesses(&mut m), [1, 1, 2, 3]);
    assert_eq!(m.v.cpu.regs[Reg::RCX], 0);
    assert_eq!(m.peek32(HANDLER + 0x7EC0), 0x0020_001E);
}

#[test]
fn the_io_instruction_is_part_of_the_state() {
    let mut m = with_trap(&[0xE4, 0x20, HLT], &set(0xFEC8, 0xFF));
    let until = m.v.bus().clock.retired() + 1;
    assert_eq!(m.v.run(until), Exit::Budget);
    let bus = m.v.detach();
    let state = m.v.state();
    assert!(state.smm.io.is_some());
    m.v.reset();
    m.v.set_state(state).unwrap();
    m.v.attach(bus);
    m.run();
    assert_eq!(m.v.cpu.regs[Reg::RAX], 2);
}

#[test]
fn a_state_of_before_the_mode_is_read() {
    let cpu = Cpu::new();
    let mut bytes = SavedState::encode(2, &cpu).bytes;
    let smm = SavedState::encode(2, &cpu.smm).bytes;
    bytes.truncate(bytes.len() - smm.len());
    let old = SavedState { version: 1, bytes };
    assert_eq!(shown(&Cpu::read(&old).unwrap()), shown(&cpu));
}
