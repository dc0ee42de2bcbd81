//! A processor with memory and no devices.

use platform::{Bus, Clock, GuestMemory, PhysAddr};
use x86::cpu::{Reg, SegmentRegister};
use x86::cpuid::CpuModel;
use x86::{Segment, Vcpu};

/// A processor in real mode with `code` at 0000:1000, and a megabyte of RAM.
pub fn real_mode(code: &[u8]) -> Vcpu {
    let mut memory = GuestMemory::new(1 << 20).unwrap();
    memory.write(PhysAddr(0x1000), code);
    let mut vcpu = Vcpu::new(CpuModel::by_name("max").unwrap());
    let cs = Segment {
        selector: 0,
        base: 0,
        ..vcpu.cpu.segs[SegmentRegister::CS]
    };
    vcpu.set_segment(SegmentRegister::CS, cs);
    vcpu.cpu.regs[Reg::RIP] = 0x1000;
    vcpu.update_mode();
    vcpu.attach(Box::new(Bus::new(memory, Clock::new(1, 1))));
    vcpu
}

/// The same in a flat 32-bit protected mode.
pub fn flat32(code: &[u8]) -> Vcpu {
    let mut vcpu = real_mode(code);
    vcpu.cpu.cr0 |= x86::cpu::control::CR0_PE;
    let data = Segment::P | Segment::S | Segment::TYPE_WRITABLE | Segment::DB | Segment::G;
    for seg in 0..6 {
        let attributes = if seg == SegmentRegister::CS {
            data | Segment::TYPE_CODE
        } else {
            data
        };
        vcpu.set_segment(
            seg,
            Segment {
                selector: 8,
                base: 0,
                limit: !0,
                attributes,
            },
        );
    }
    vcpu.update_mode();
    vcpu
}
