//! REP does spans of memory at once: nothing must tell that from one element at a time.

mod common;

use platform::testkit::Rng;
use platform::{
    Bus, Clock, Device, DeviceCtx, GuestMemory, IrqLine, PhysAddr, SavedState, StateError,
    StateView,
};
use x86::cpu::{Reg, SegmentRegister};
use x86::{Segment, Vcpu};

const DF: u64 = 1 << 10;
const LEN: u64 = 0x2_0000;

/// What a program can tell of a run: registers, and the memory that it wrote.
fn outcome(mut vcpu: Vcpu, count: u64, one_by_one: bool) -> (Vec<u64>, Vec<u8>) {
    let first = if one_by_one { 1 } else { count };
    for until in first..=count {
        vcpu.run(until);
    }
    let mut memory = vec![0; LEN as usize];
    vcpu.bus().memory.read(PhysAddr(0), &mut memory);
    (vcpu.cpu.regs.to_vec(), memory)
}

/// A processor about to execute `code`, with bytes that tell where they are in memory above 8000h.
fn ready(code: &[u8], flat: bool, [si, di, cx]: [u64; 3], backwards: bool) -> Vcpu {
    let mut vcpu = if flat {
        common::flat32(code)
    } else {
        common::real_mode(code)
    };
    let bytes: Vec<u8> = (0..LEN - 0x8000)
        .map(|n: u64| (n ^ n >> 8 ^ n >> 16) as u8)
        .collect();
    vcpu.bus().memory.write(PhysAddr(0x8000), &bytes);
    vcpu.cpu.regs[Reg::RSI] = si;
    vcpu.cpu.regs[Reg::RDI] = di;
    vcpu.cpu.regs[Reg::RCX] = cx;
    vcpu.cpu.regs[Reg::RAX] = 0x1234_5678;
    vcpu.write_rflags(if backwards { DF } else { 0 }, DF);
    vcpu
}

#[test]
fn a_span_is_its_elements_one_by_one() {
    // REP MOVSB, MOVSW, MOVSD, STOSB, STOSW, STOSD, each with a jump to itself behind it.
    let operations = [
        (false, 0xA4u8),
        (false, 0xA5),
        (true, 0xA5),
        (false, 0xAA),
        (false, 0xAB),
        (true, 0xAB),
    ];
    let mut rng = Rng::new(3);
    for flat in [false, true] {
        for (doubles, opcode) in operations {
            for round in 0..60 {
                let mut code = vec![0xF3, opcode, 0xEB, 0xFE];
                if doubles != flat && opcode & 1 != 0 {
                    code.insert(0, 0x66);
                }
                let mut next = |below| rng.next_u64() % below;
                let si = 0x9000 + next(0x3000);
                // A distance from nothing to some pages, either way; near enough to overlap in half of the rounds.
                let distance = next(if round % 2 == 0 { 16 } else { 0x2000 });
                let di = if next(2) == 0 {
                    si + distance
                } else {
                    si - distance
                };
                let cx = 1 + next(if round % 3 == 0 { 9 } else { 900 });
                let backwards = next(2) == 0;
                let start = || ready(&code, flat, [si, di, cx], backwards);
                let context = format!("{opcode:x} {si:x} {di:x} {cx} {backwards}");
                assert!(
                    outcome(start(), cx + 1, false) == outcome(start(), cx + 1, true),
                    "{context}"
                );
            }
        }
    }
}

/// A device that remembers what was done to it, and changes a wire now and then.
#[derive(Default)]
struct Recorder(Vec<(bool, u64, u8, u64)>);

impl Device for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }
    fn read(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8) -> u64 {
        self.0.push((false, offset, size, 0));
        ctx.set_line(IrqLine::isa(3), self.0.len().is_multiple_of(16));
        self.0.len() as u64 * 0x0102_0305
    }
    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8, value: u64) {
        self.0.push((true, offset, size, value));
        ctx.set_line(IrqLine::isa(4), self.0.len().is_multiple_of(32));
    }
    fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
    fn state(&self) -> StateView<'_> {
        StateView::of(1, &self.0)
    }
    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.0 = state.decode(1)?;
        Ok(())
    }
}

#[test]
fn a_device_gets_the_elements_one_by_one() {
    const HERE: u64 = 0xA_0000;
    for (code, width) in [([0xF3u8, 0xA4], 1), ([0xF3, 0xA5], 4), ([0xF3, 0xAB], 4)] {
        for (si, di) in [(0x9000, HERE), (HERE, 0x9000), (HERE, HERE + 0x1800)] {
            for backwards in [false, true] {
                let code = [code[0], code[1], 0xEB, 0xFE];
                let run = |one_by_one| {
                    let mut vcpu = ready(&code, true, [si + 0x800, di + 0x800, 0x300], backwards);
                    let bus = vcpu.bus();
                    let id = bus.add(Box::new(Recorder::default()));
                    bus.map_mmio(id, 0, PhysAddr(HERE), 0x1_0000);
                    let first = if one_by_one { 1 } else { 0x301 };
                    for until in first..=0x301 {
                        vcpu.run(until);
                    }
                    let mut memory = vec![0; 0x3000];
                    vcpu.bus().memory.read(PhysAddr(0x8000), &mut memory);
                    let saved = vcpu.bus().devices().next().unwrap().1.save();
                    let entries: Vec<(bool, u64, u8, u64)> = saved.decode(1).unwrap();
                    (vcpu.cpu.regs.to_vec(), memory, entries)
                };
                let (whole, parts) = (run(false), run(true));
                assert!(whole == parts);
                assert!(whole.2.iter().all(|entry| entry.2 == width));
                let untouched = code[1] == 0xAB && di < HERE;
                assert_eq!(whole.2.is_empty(), untouched);
            }
        }
    }
}

#[test]
fn a_span_ends_where_the_offset_wraps_around() {
    for (code, backwards) in [([0xF3, 0xA4], false), ([0xF3, 0xA5], true)] {
        let code = [code[0], code[1], 0xEB, 0xFE];
        for di in [0xFFF0, 0x10] {
            let start = || {
                let mut vcpu = ready(&code, false, [0x9000, di, 40], backwards);
                let es = Segment {
                    selector: 0x900,
                    base: 0x9000,
                    ..vcpu.cpu.segs[SegmentRegister::ES]
                };
                vcpu.set_segment(SegmentRegister::ES, es);
                vcpu
            };
            let whole = outcome(start(), 41, false);
            assert_eq!(whole.0[Reg::RCX], 0);
            assert!(whole == outcome(start(), 41, true), "{di:x}");
        }
    }
}

#[test]
fn a_span_ends_at_the_limit_of_its_segment() {
    // rep stosb; the fault is a triple one, as there is no IDT.
    let start = || {
        let mut vcpu = ready(&[0xF3, 0xAA], true, [0, 0x9800, 1000], false);
        let es = Segment {
            limit: 0x99FF,
            attributes: vcpu.cpu.segs[SegmentRegister::ES].attributes & !Segment::G,
            ..vcpu.cpu.segs[SegmentRegister::ES]
        };
        vcpu.set_segment(SegmentRegister::ES, es);
        vcpu.update_mode();
        vcpu
    };
    let whole = outcome(start(), 1000, false);
    assert_eq!((whole.0[Reg::RDI], whole.0[Reg::RCX]), (0x9A00, 488));
    assert!(whole == outcome(start(), 1000, true));
}

#[test]
fn pages_that_share_a_place_in_the_tlb_are_copied_at_once() {
    // Pages 4 MiB apart share one.
    let mut vcpu = common::flat32(&[]);
    vcpu.detach();
    let memory = GuestMemory::new(16 << 20).unwrap();
    vcpu.attach(Box::new(Bus::new(memory, Clock::new(1, 1))));
    let code = [0xF3, 0xA4, 0xEB, 0xFE];
    vcpu.bus().memory.write(PhysAddr(0x1000), &code);
    let bytes: Vec<u8> = (0..5000u32).map(|n| (n * 7) as u8).collect();
    vcpu.bus().memory.write(PhysAddr(0x20_0123), &bytes);
    vcpu.cpu.regs[Reg::RSI] = 0x20_0123;
    vcpu.cpu.regs[Reg::RDI] = 0xA0_0123;
    vcpu.cpu.regs[Reg::RCX] = 5000;
    vcpu.run(5000);
    let mut copied = vec![0; 5000];
    vcpu.bus().memory.read(PhysAddr(0xA0_0123), &mut copied);
    assert_eq!(copied, bytes);
    assert_eq!(vcpu.cpu.regs[Reg::RIP], 0x1002);
}
