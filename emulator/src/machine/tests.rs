//! A machine with a ROM of a few instructions and one device.

use platform::{
    Clock, Device, DeviceCtx, GuestMemory, IrqLine, MachineRequest, Said, SavedState, StateError,
    StateView,
};
use x86::Reg;

use super::*;

const ROM_BYTES: usize = 0x1_0000;

/// A device that counts keys and timer ticks, raises INTR on a key, and asks the machine for things.
#[derive(Default)]
struct Panel {
    keys: u32,
    ticks: u32,
}

impl Device for Panel {
    fn name(&self) -> &'static str {
        "panel"
    }
    /// Region 0: the count of keys. Region 1: an interrupt acknowledge, which lowers INTR.
    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, _: u64, _: u8) -> u64 {
        if region == 1 {
            ctx.set_line(IrqLine::INTR, false);
            return 0x20;
        }
        self.keys.into()
    }
    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, value: u64) {
        match value {
            1 => ctx.request(MachineRequest::PowerOff),
            2 => ctx.request(MachineRequest::Reset),
            3 => ctx.schedule(0, ctx.now_ns() + 1_000_000),
            value => ctx.request(MachineRequest::DebugExit(value as u32)),
        }
    }
    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, _: u32) {
        self.ticks += 1;
        ctx.set_line(IrqLine::INTR, true);
    }
    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::Key { .. } = input {
            self.keys += 1;
            ctx.set_line(IrqLine::INTR, true);
        }
    }
    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        *self = Self::default();
        ctx.set_line(IrqLine::A20, true);
    }
    fn state(&self) -> StateView<'_> {
        StateView::of(1, (self.keys, self.ticks))
    }
    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        (self.keys, self.ticks) = state.decode(1)?;
        Ok(())
    }
}

/// A machine whose reset vector jumps to `code` at F000:0000. Interrupt 20h is at 0000:0600.
pub(crate) fn machine(code: &[u8], pacing: Pacing) -> Machine {
    let mut rom = vec![0xF4; ROM_BYTES];
    rom[..code.len()].copy_from_slice(code);
    rom[0xFFF0..0xFFF5].copy_from_slice(&[0xEA, 0, 0, 0, 0xF0]);
    let mut memory = GuestMemory::new(1 << 20).unwrap();
    memory.add_rom(PhysAddr(0xF_0000), &rom).unwrap();
    memory.add_rom(PhysAddr(0xFFFF_0000), &rom).unwrap();
    let mut bus = Bus::new(memory, Clock::new(2, 1));
    let panel = bus.add(Box::new(Panel::default()));
    bus.map_ports(panel, 0, 0xF4, 1, 1);
    bus.set_interrupt_controller(panel, 1);
    bus.reset();
    let config = MachineConfig {
        model: CpuModel::by_name("max").unwrap(),
        cpus: 1,
        keyboard: panel,
        inputs: Vec::new(),
        serial: vec![panel],
        display: panel,
        power: panel,
        preloads: vec![
            Preload {
                addr: 0x80,
                bytes: vec![0x00, 0x06, 0, 0],
                zeros: 0,
            },
            // INC BX; IRET.
            Preload {
                addr: 0x600,
                bytes: vec![0x43, 0xCF],
                zeros: 5000,
            },
        ],
        pacing,
        stop_at_reset: false,
    };
    Machine::new(Box::new(bus), config)
}

/// STI; INC CX; JMP back to INC CX.
pub(crate) const COUNT: [u8; 4] = [0xFB, 0x41, 0xEB, 0xFD];
/// STI; HLT; JMP back to HLT.
const WAIT: [u8; 4] = [0xFB, 0xF4, 0xEB, 0xFD];

#[test]
fn a_budget_is_kept_to_the_instruction() {
    let mut machine = machine(&COUNT, Pacing::Deterministic);
    for budget in [1, 7, 1000, 12_345] {
        let before = machine.retired();
        assert_eq!(machine.run(budget), Exit::Budget);
        assert_eq!(machine.retired() - before, budget);
    }
}

#[test]
fn where_a_run_is_cut_makes_no_difference() {
    let mut whole = machine(&COUNT, Pacing::Deterministic);
    let mut cut = machine(&COUNT, Pacing::Deterministic);
    assert_eq!(whole.run(100_000), Exit::Budget);
    for _ in 0..1000 {
        assert_eq!(cut.run(100), Exit::Budget);
    }
    assert_eq!(whole.state_hash(), cut.state_hash());
    cut.run(1);
    assert_ne!(whole.state_hash(), cut.state_hash());
}

/// A machine at `code` whose APIC timer interrupts every 3000 ns; the handler ends the interrupt.
fn apic_machine(code: &[u8]) -> Machine {
    use x86::apic::{Now, register};
    let mut machine = machine(code, Pacing::Deterministic);
    // MOV DWORD [FEE000B0], 0; INC BX; IRET.
    let handler = [
        0x66, 0x67, 0xC7, 0x05, 0xB0, 0, 0xE0, 0xFE, 0, 0, 0, 0, 0x43, 0xCF,
    ];
    machine.bus_mut().memory.write(PhysAddr(0x600), &handler);
    let processor = &mut machine.cpus[0];
    let far_reaching = x86::Segment {
        limit: !0,
        ..processor.cpu.segs[x86::SegmentRegister::DS]
    };
    processor.set_segment(x86::SegmentRegister::DS, far_reaching);
    for (offset, value) in [
        (register::SVR, 0x1FF),
        (register::LVT_TIMER, 0x2_0020),
        (register::DIVIDE, 0xB),
        (register::INITIAL_COUNT, 3000),
    ] {
        let start = Now { ns: 0, tsc: 0 };
        processor.cpu.apic.write(offset, value, start);
    }
    machine
}

#[test]
fn where_a_run_is_cut_makes_no_difference_to_the_apic_timer() {
    let mut whole = apic_machine(&COUNT);
    let mut cut = apic_machine(&COUNT);
    assert_eq!(whole.run(20_007), Exit::Budget);
    for _ in 0..2223 {
        assert_eq!(cut.run(9), Exit::Budget);
    }
    assert_eq!(whole.state_hash(), cut.state_hash());
    let interrupts = whole.cpus()[0].cpu.regs[Reg::RBX];
    assert_eq!(interrupts, 20_007 * 2 / 3000);
}

#[test]
fn hlt_skips_to_the_apic_timer() {
    let mut machine = apic_machine(&WAIT);
    let end = Limit {
        retired: u64::MAX,
        now_ns: 300_100,
    };
    assert_eq!(machine.run_until(end), Exit::Budget);
    assert_eq!(machine.cpus()[0].cpu.regs[Reg::RBX], 100);
    assert!(machine.retired() < 1000);
}

#[test]
fn hlt_with_interrupts_off_is_the_end() {
    let mut machine = machine(&[0xFA, 0xF4], Pacing::Deterministic);
    assert_eq!(machine.run(1000), Exit::HaltedForEver);
}

#[test]
fn hlt_skips_to_the_next_timer_and_stops_at_a_limit_in_between() {
    // MOV AL, 3; OUT F4h, AL; and wait.
    let code = [&[0xB0, 3, 0xE6, 0xF4][..], &WAIT].concat();
    let mut machine = machine(&code, Pacing::Deterministic);
    let limit = |now_ns| Limit {
        retired: u64::MAX,
        now_ns,
    };
    assert_eq!(machine.run_until(limit(500_000)), Exit::Budget);
    assert_eq!(machine.now_ns(), 500_000);
    assert_eq!(machine.cpus()[0].cpu.regs[Reg::RBX], 0);
    assert_eq!(
        machine.run_until(limit(1_100_000)),
        Exit::Idle { until_ns: None }
    );
    assert_eq!(machine.cpus()[0].cpu.regs[Reg::RBX], 1);
}

#[test]
fn leaps_over_waits_end_at_the_step_at_which_the_caller_looks() {
    let mut machine = machine(&WAIT, Pacing::Deterministic);
    let bus = machine.bus_mut();
    bus.events.schedule(DeviceId(0), 0, 5_300_000);
    bus.events.schedule(DeviceId(0), 1, 50_000_000);
    let limit = Limit {
        retired: u64::MAX,
        now_ns: 1_000_000,
    };
    let leap = |most_ns| {
        Some(Leap {
            step_ns: 1_000_000,
            most_ns,
        })
    };
    assert_eq!(machine.run_past_idle(limit, leap(3_000_000)), Exit::Budget);
    assert_eq!(machine.now_ns(), 3_000_000, "looked at in any case");
    assert_eq!(machine.cpus()[0].cpu.regs[Reg::RBX], 0);
    assert_eq!(machine.run_past_idle(limit, leap(9_000_000)), Exit::Budget);
    assert_eq!(machine.now_ns(), 3_000_000, "the limit is behind");
    let limit = Limit {
        now_ns: 4_000_000,
        ..limit
    };
    assert_eq!(machine.run_past_idle(limit, leap(9_000_000)), Exit::Budget);
    assert_eq!(machine.cpus()[0].cpu.regs[Reg::RBX], 1);
    assert_eq!(machine.now_ns(), 9_000_000, "from one wait into the next");
}

#[test]
fn no_leap_leaves_behind_what_a_device_handed_out() {
    let mut machine = machine(&WAIT, Pacing::Deterministic);
    let bus = machine.bus_mut();
    bus.events.schedule(DeviceId(0), 0, 5_300_000);
    bus.outputs.push(Output {
        device: DeviceId(0),
        what: Said::PostCode(1),
    });
    let limit = Limit {
        retired: u64::MAX,
        now_ns: 1_000_000,
    };
    let leap = Leap {
        step_ns: 1_000_000,
        most_ns: 9_000_000,
    };
    assert_eq!(machine.run_past_idle(limit, Some(leap)), Exit::Budget);
    assert_eq!(machine.now_ns(), 1_000_000);
}

#[test]
fn with_the_wall_clock_the_caller_waits() {
    let code = [&[0xB0, 3, 0xE6, 0xF4][..], &WAIT].concat();
    let mut machine = machine(&code, Pacing::Realtime);
    let Exit::Idle {
        until_ns: Some(until_ns),
    } = machine.run(1000)
    else {
        panic!("a timer is armed");
    };
    assert!(until_ns >= 1_000_000);
    machine.idle(until_ns - machine.now_ns());
    assert_eq!(machine.run(1000), Exit::Idle { until_ns: None });
    assert_eq!(machine.cpus()[0].cpu.regs[Reg::RBX], 1);
}

#[test]
fn requests_end_the_run() {
    let out = |value| [0xB0, value, 0xE6, 0xF4, 0xF4];
    let run = |code: &[u8]| machine(code, Pacing::Deterministic).run(1000);
    assert_eq!(run(&out(1)), Exit::PowerOff);
    assert_eq!(run(&out(0x10)), Exit::DebugExit(0x10));
    // LIDT of a table with limit 0; INT3.
    let zeros = [&[0x2E, 0x0F, 0x01, 0x1E, 0x07, 0, 0xCC][..], &[0; 6]].concat();
    assert_eq!(run(&zeros), Exit::TripleFault);
}

#[test]
fn a_guest_that_faults_for_ever_comes_to_the_end_of_its_budget() {
    // LIDT of a table of ones in the ROM, whose handlers are nowhere; INT3.
    let code = [0x2E, 0x0F, 0x01, 0x1E, 0x10, 0, 0xCC];
    let mut machine = machine(&code, Pacing::Deterministic);
    assert_eq!(machine.run(1000), Exit::Budget);
}

#[test]
fn a_reset_starts_anew_with_its_preloads() {
    // INC byte [600h]; MOV AL, 2; OUT F4h, AL.
    let code = [0xFE, 0x06, 0x00, 0x06, 0xB0, 2, 0xE6, 0xF4, 0xF4];
    let mut machine = machine(&code, Pacing::Deterministic);
    assert_eq!(machine.run(1000), Exit::Budget);
    let byte = machine.bus().memory.read_array::<1>(PhysAddr(0x600));
    assert!(byte == [0x43] || byte == [0x44], "{byte:x?}");
    machine.config.stop_at_reset = true;
    assert_eq!(machine.run(1000), Exit::Reset);
}

#[test]
fn a_journal_replays_to_the_same_state() {
    let code = [&[0xB0, 3, 0xE6, 0xF4][..], &WAIT].concat();
    let mut first = machine(&code, Pacing::Deterministic);
    first.keep_journal(1 << 20);
    let limit = |now_ns| Limit {
        retired: u64::MAX,
        now_ns,
    };
    first.run_until(limit(300_000));
    first.input_key(Key::A, true);
    first.run_until(limit(600_000));
    first.input_key(Key::A, false);
    first.set_ratio(3, 1);
    first.run_until(limit(2_000_000));
    assert_eq!(first.cpus()[0].cpu.regs[Reg::RBX], 3);

    let mut second = machine(&code, Pacing::Deterministic);
    second.keep_journal(1 << 20);
    for entry in first.journal().entries().expect("it is kept") {
        assert_eq!(second.replay(entry), None);
    }
    second.run_until(limit(2_000_000));
    assert_eq!(first.state_hash(), second.state_hash());
    assert_eq!(first.journal(), second.journal());
}

#[test]
fn a_hash_ignores_how_flags_are_held() {
    // MOV AX, 1; ADD AX, 2 beside MOV AX, 2; ADD AX, 1.
    let run = |a: u8, b: u8| {
        let mut m = machine(
            &[0xB8, a, 0, 0x83, 0xC0, b, 0xEB, 0xFE],
            Pacing::Deterministic,
        );
        m.run(3);
        (
            m.cpus()[0].cpu.regs[0],
            m.cpus()[0].cpu.rflags(),
            m.state_hash(),
        )
    };
    let (one, two) = (run(1, 2), run(2, 1));
    assert_eq!((one.0, one.1), (two.0, two.1));
    assert_eq!(one.2, two.2, "equal architecture, other hash");
}

#[test]
fn probe_changes_nothing() {
    let mut m = machine(&COUNT, Pacing::Deterministic);
    // 32-bit paging: directory at 10000h, table at 11000h, no A bits.
    m.bus_mut()
        .memory
        .write(PhysAddr(0x1_0000), &0x1_1003u32.to_le_bytes());
    m.bus_mut()
        .memory
        .write(PhysAddr(0x1_1014), &0x5003u32.to_le_bytes());
    let bus = m.bus.take().unwrap();
    let v = &mut m.cpus[0];
    v.attach(bus);
    v.cpu.cr0 |= 0x8000_0001;
    v.cpu.cr3 = 0x1_0000;
    let found = v.probe(0x5000);
    let bus = v.detach();
    let entry = |at| u32::from_le_bytes(bus.memory.read_array::<4>(PhysAddr(at)));
    assert_eq!(
        (found, entry(0x1_0000), entry(0x1_1014)),
        (Some(PhysAddr(0x5000)), 0x1_1003, 0x5003)
    );
}

fn two(code: &[u8]) -> Machine {
    let Machine {
        bus, mut config, ..
    } = machine(code, Pacing::Deterministic);
    config.cpus = 2;
    let mut m = Machine::new(bus.unwrap(), config);
    m.cpus[1].cpu.wait_for_startup = false;
    m
}

#[test]
fn where_a_run_is_cut_makes_no_difference_to_two_processors() {
    let (mut whole, mut cut) = (two(&COUNT), two(&COUNT));
    whole.run(100_000);
    for _ in 0..1000 {
        cut.run(100);
    }
    let cx = |m: &Machine| [m.cpus()[0].cpu.regs[1], m.cpus()[1].cpu.regs[1]];
    assert_eq!(cx(&whole), cx(&cut)); // [29999, 19999] and [24999, 24999]
}

#[test]
fn code_that_another_processor_writes_is_seen() {
    // JMP 0000:1000, where INC BX; JMP -3 stands in RAM.
    let mut m = two(&[0xEA, 0x00, 0x10, 0, 0]);
    m.bus_mut()
        .memory
        .write(PhysAddr(0x1000), &[0x43, 0xEB, 0xFD]);
    // The second one: MOV BYTE [1000h], 41h (INC CX); JMP $.
    m.bus_mut().memory.write(
        PhysAddr(0x2000),
        &[0xC6, 0x06, 0x00, 0x10, 0x41, 0xEB, 0xFE],
    );
    let v = &mut m.cpus[1];
    let cs = x86::Segment {
        selector: 0,
        base: 0,
        ..v.cpu.segs[x86::SegmentRegister::CS]
    };
    v.set_segment(x86::SegmentRegister::CS, cs);
    v.cpu.regs[Reg::RIP] = 0x2000;
    v.update_mode();
    m.run(200_000);
    assert_eq!(m.bus().memory.read_array::<1>(PhysAddr(0x1000)), [0x41]);
    let cpu = &m.cpus()[0].cpu;
    assert!(
        cpu.regs[1] > 0,
        "INC CX never ran: bx={} cx={}",
        cpu.regs[3],
        cpu.regs[1]
    ); // 49999, 0
}

/// A machine of `programs.len()` processors, each of which starts at once at its program: at n000h
/// for number n from 1 on.
fn many(programs: &[&[u8]]) -> Machine {
    let Machine {
        bus, mut config, ..
    } = machine(&[0xEA, 0x00, 0x10, 0, 0], Pacing::Deterministic);
    config.cpus = programs.len();
    let mut m = Machine::new(bus.unwrap(), config);
    for (n, program) in programs.iter().enumerate() {
        let at = (n as u64 + 1) * 0x1000;
        m.bus_mut().memory.write(PhysAddr(at), program);
        if n > 0 {
            let v = &mut m.cpus[n];
            v.cpu.wait_for_startup = false;
            let cs = x86::Segment {
                selector: 0,
                base: 0,
                ..v.cpu.segs[x86::SegmentRegister::CS]
            };
            v.set_segment(x86::SegmentRegister::CS, cs);
            v.cpu.regs[Reg::RIP] = at;
            v.update_mode();
        }
    }
    m
}

/// INC WORD [700h]; XOR BYTE [2000h], 2 (INC CX and INC BX in turns); CX = 64, SI = 3000h, DI = 800h, REP MOVSB;
/// 24 times nothing; PAUSE; and again.
const WRITER: [u8; 47] = {
    let mut code = [0x90; 47];
    let head = [
        0xFF, 0x06, 0x00, 0x07, 0x80, 0x36, 0x00, 0x20, 0x02, 0xB9, 64, 0, 0xBE, 0, 0x30, 0xBF, 0,
        8, 0xF3, 0xA4,
    ];
    let mut n = 0;
    while n < head.len() {
        code[n] = head[n];
        n += 1;
    }
    code[43] = 0xF3;
    code[45] = 0xEB;
    code[46] = 0xD1;
    code
};
/// INC CX, which the writer changes to INC BX and back; LOCK INC WORD [740h]; JMP to the first.
const CHANGED: [u8; 8] = [0x41, 0xF0, 0xFF, 0x06, 0x40, 0x07, 0xEB, 0xF8];
/// PAUSE; CMP AX, [700h]; JE back; MOV AX, [700h]; INC DX; JMP back.
const SPINNER: [u8; 14] = [
    0xF3, 0x90, 0x3B, 0x06, 0x00, 0x07, 0x74, 0xF8, 0xA1, 0x00, 0x07, 0x42, 0xEB, 0xF2,
];
/// MOV AX, 700h; XOR CX, CX; XOR DX, DX; MONITOR; MWAIT; INC SI; JMP to the first.
const WAITER: [u8; 16] = [
    0xB8, 0x00, 0x07, 0x31, 0xC9, 0x31, 0xD2, 0x0F, 0x01, 0xC8, 0x0F, 0x01, 0xC9, 0x46, 0xEB, 0xF0,
];

#[test]
fn cut_at_random_places_a_run_of_one_two_or_four_processors_is_the_same() {
    let programs: [&[u8]; 4] = [&WRITER, &CHANGED, &SPINNER, &WAITER];
    let mut rng = platform::testkit::Rng::new(0xC07);
    for count in [1, 2, 4] {
        let (mut whole, mut cut) = (many(&programs[..count]), many(&programs[..count]));
        const TOTAL: u64 = 400_000;
        whole.run(TOTAL);
        while cut.retired() < TOTAL {
            let most = if rng.below(2) == 0 { 9 } else { 9000 };
            let piece = 1 + rng.below(most);
            cut.run(piece.min(TOTAL - cut.retired()));
        }
        assert_eq!(whole.state_hash(), cut.state_hash(), "{count} processors");
        let reg = |cpu: usize, reg: usize| whole.cpus()[cpu].cpu.regs[reg] & 0xFFFF;
        if count > 1 {
            assert!(
                reg(1, Reg::RCX) > 0 && reg(1, Reg::RBX) > 0,
                "what was written is executed"
            );
        }
        if count > 2 {
            assert!(
                reg(2, Reg::RDX) > 10,
                "the spinner sees the count: {}",
                reg(2, Reg::RDX)
            );
            assert!(
                reg(3, Reg::RSI) > 10,
                "the waiter wakes: {}",
                reg(3, Reg::RSI)
            );
        }
    }
}

#[test]
fn a_processor_that_spins_gives_up_its_turn() {
    // PAUSE; CMP BYTE [700h], 0; JNE back; MOV BYTE [700h], 1; INC BX; JMP back. The other one: JE and 0.
    let one = [
        0xF3, 0x90, 0x80, 0x3E, 0x00, 0x07, 0, 0x75, 0xF7, 0xC6, 0x06, 0x00, 0x07, 1, 0x43, 0xEB,
        0xEF,
    ];
    let mut other = one;
    (other[7], other[13]) = (0x74, 0);
    let mut m = many(&[&one, &other]);
    m.run(100_000);
    let rounds = m.cpus()[0].cpu.regs[Reg::RBX];
    // A round takes each of them a few instructions; with whole turns there would be three.
    assert!(rounds > 5000, "{rounds} rounds");
}

#[test]
fn busy_processors_progress_alike() {
    // INC EBX; JMP back.
    let busy: &[u8] = &[0x66, 0x43, 0xEB, 0xFC];
    let mut m = many(&[busy; 4]);
    m.run(4_000_000);
    let rounds: Vec<u64> = m.cpus().iter().map(|v| v.cpu.regs[Reg::RBX]).collect();
    let (least, most) = (rounds.iter().min().unwrap(), rounds.iter().max().unwrap());
    assert!(most - least <= QUANTUM / 2, "{rounds:?}");
}

/// Two processors that wait for timers of their own with the same period, and work a little each time.
#[test]
fn cut_at_random_places_processors_that_halt_run_the_same() {
    use x86::apic::{Now, register};
    // STI; HLT; INC CX; INC WORD [700h]; MOV DX, [700h]; XADD-like mix: ADD SI, DX; JMP to HLT.
    let program = [
        0xFB, 0xF4, 0x41, 0xFF, 0x06, 0x00, 0x07, 0x8B, 0x16, 0x00, 0x07, 0x01, 0xD6, 0xEB, 0xF2,
    ];
    let make = || {
        let mut m = many(&[&program, &program]);
        let handler = [
            0x66, 0x67, 0xC7, 0x05, 0xB0, 0, 0xE0, 0xFE, 0, 0, 0, 0, 0x43, 0xCF,
        ];
        m.bus_mut().memory.write(PhysAddr(0x600), &handler);
        let mut sp = 0x8000;
        for v in &mut m.cpus {
            let ds = x86::Segment {
                limit: !0,
                ..v.cpu.segs[x86::SegmentRegister::DS]
            };
            v.set_segment(x86::SegmentRegister::DS, ds);
            v.cpu.regs[Reg::RSP] = sp;
            sp += 0x100;
            for (offset, value) in [
                (register::SVR, 0x1FF),
                (register::LVT_TIMER, 0x2_0020),
                (register::DIVIDE, 0xB),
                (register::INITIAL_COUNT, 3000),
            ] {
                v.cpu.apic.write(offset, value, Now { ns: 0, tsc: 0 });
            }
        }
        m
    };
    let mut rng = platform::testkit::Rng::new(7);
    let (mut whole, mut cut) = (make(), make());
    whole.run(5003);
    while cut.retired() < 5003 {
        let piece = 1 + rng.below(9);
        cut.run(piece.min(5003 - cut.retired()));
    }
    let see = |m: &Machine| {
        let of = |n: usize| [1, 2, 3, 6].map(|r| m.cpus()[n].cpu.regs[r] & 0xFFFF);
        (m.now_ns(), m.turn.cpu, m.turn.halted, of(0), of(1))
    };
    assert_eq!(see(&whole), see(&cut));
    assert_eq!(whole.state_hash(), cut.state_hash());
}

#[test]
fn the_reset_button_ends_a_run_that_a_reset_is_to_end_also_while_all_sleep() {
    // STI; HLT; JMP to the HLT.
    let mut machine = machine(&[0xFB, 0xF4, 0xEB, 0xFD], Pacing::Deterministic);
    machine.config.stop_at_reset = true;
    assert_eq!(machine.run(1000), Exit::Idle { until_ns: None });
    machine.press_reset();
    assert_eq!(machine.run(1000), Exit::Reset);
    machine.config.stop_at_reset = false;
    machine.press_reset();
    assert_eq!(
        machine.cpus()[0].cpu.regs[Reg::RIP],
        0xFFF0,
        "it starts anew"
    );
}

#[test]
fn a_drive_that_the_machine_lacks_is_refused_and_the_journal_does_not_hear_of_it() {
    let mut machine = machine(&[0xF4], Pacing::Deterministic);
    machine.keep_journal(1 << 20);
    for device in ["panel", "nobody"] {
        assert_eq!(machine.change_medium(device, 0, None), Err(NoSuchDrive));
    }
    assert_eq!(machine.journal().entries(), Some(&[][..]));
}
