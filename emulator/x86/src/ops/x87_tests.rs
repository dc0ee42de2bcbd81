//! What the comparison with the host cannot show: deferred exceptions, pointers, images in every layout, faults.

use platform::{Bus, Clock, GuestMemory, IrqLine, PhysAddr};

use crate::cpu::{Reg, Segment, SegmentRegister, Vector, control};
use crate::cpuid::CpuModel;
use crate::decode::{Decoded, decode};
use crate::exception::Exception;
use crate::softfloat::F80;
use crate::vcpu::Vcpu;

/// A processor in flat 32-bit protected mode, with CR0.NE.
pub(super) fn flat_vcpu() -> Vcpu {
    let mut v = Vcpu::new(CpuModel::by_name("max").unwrap());
    v.attach(Box::new(Bus::new(
        GuestMemory::new(1 << 20).unwrap(),
        Clock::new(1, 1),
    )));
    v.cpu.cr0 |= control::CR0_PE | control::CR0_NE;
    v.cpu.cr4 |= control::CR4_OSFXSR | control::CR4_OSXMMEXCPT | control::CR4_OSXSAVE;
    for seg in 0..6 {
        let code = if seg == SegmentRegister::CS {
            Segment::TYPE_CODE
        } else {
            0
        };
        let attributes =
            Segment::P | Segment::S | Segment::TYPE_WRITABLE | Segment::DB | Segment::G | code;
        v.set_segment(
            seg,
            Segment {
                selector: 8 + 8 * seg as u16,
                base: 0,
                limit: !0,
                attributes,
            },
        );
    }
    v.update_mode();
    fninit(&mut v);
    v
}

fn fninit(v: &mut Vcpu) {
    assert_eq!(execute(v, &[0xDB, 0xE3]), Ok(()));
}

/// Executes one instruction.
pub(super) fn execute(v: &mut Vcpu, bytes: &[u8]) -> Result<(), Exception> {
    let mut padded = bytes.to_vec();
    padded.resize(15, 0x90);
    let Decoded::Insn(insn, _) = decode(&padded, 0, v.mode_key, &v.model) else {
        panic!("fifteen bytes are always enough");
    };
    assert_eq!(usize::from(insn.len), bytes.len());
    (insn.exec)(v, &insn)
}

/// Executes instructions that raise nothing.
fn run(v: &mut Vcpu, program: &[&[u8]]) {
    for bytes in program {
        assert_eq!(execute(v, bytes), Ok(()), "{bytes:02x?}");
    }
}

const FLD1: &[u8] = &[0xD9, 0xE8];
const FLDZ: &[u8] = &[0xD9, 0xEE];
const FDIVP: &[u8] = &[0xDE, 0xF9];
const FNCLEX: &[u8] = &[0xDB, 0xE2];
const FWAIT: &[u8] = &[0x9B];
const ES: u16 = 0x80;

fn divide_by_zero(v: &mut Vcpu) {
    v.cpu.x87.control = 0x037F & !4;
    run(v, &[FLD1, FLDZ, FDIVP]);
    assert_eq!(v.cpu.x87.status & 0x80FF, 0x8084);
}

#[test]
fn an_unmasked_exception_is_reported_by_the_next_waiting_instruction() {
    let mut v = flat_vcpu();
    divide_by_zero(&mut v);
    assert!(!v.cpu.x87.is_empty(1), "an aborted FDIVP does not pop");
    let top = v.cpu.x87.top();
    assert_eq!(execute(&mut v, FLD1), Err(Exception::X87));
    assert_eq!(execute(&mut v, FWAIT), Err(Exception::X87));
    assert_eq!(v.cpu.x87.top(), top);
    run(&mut v, &[&[0xDF, 0xE0], FNCLEX]);
    assert_eq!(
        v.cpu.regs[Reg::RAX] as u16 & ES,
        ES,
        "FNSTSW AX does not wait"
    );
    run(&mut v, &[FWAIT, FLD1]);
}

#[test]
fn fwait_is_an_instruction_of_its_own() {
    let v = flat_vcpu();
    // What assemblers call FSTCW: an exception is reported at the 9B, not at the store.
    let mut bytes = [0x90; 15];
    bytes[..3].copy_from_slice(&[0x9B, 0xD9, 0x3B]);
    let Decoded::Insn(insn, _) = decode(&bytes, 0, v.mode_key, &v.model) else {
        panic!("fifteen bytes are always enough");
    };
    assert_eq!(insn.len, 1);
}

#[test]
fn unmasking_a_sticky_flag_makes_it_pending() {
    let mut v = flat_vcpu();
    run(&mut v, &[FLD1, FLDZ, FDIVP]);
    assert_eq!(v.cpu.x87.status & ES, 0);
    v.bus()
        .memory
        .write(PhysAddr(0x2000), &0x037Bu16.to_le_bytes());
    run(&mut v, &[&[0xD9, 0x2D, 0, 0x20, 0, 0]]);
    assert_eq!(execute(&mut v, FWAIT), Err(Exception::X87));
    v.bus()
        .memory
        .write(PhysAddr(0x2000), &0x037Fu16.to_le_bytes());
    assert_eq!(
        execute(&mut v, &[0xD9, 0x2D, 0, 0x20, 0, 0]),
        Err(Exception::X87),
        "FLDCW waits"
    );
}

#[test]
fn without_ne_the_ferr_wire_follows_the_error_summary() {
    let mut v = flat_vcpu();
    v.cpu.cr0 &= !control::CR0_NE;
    divide_by_zero(&mut v);
    assert!(v.bus().lines.level(IrqLine::FERR));
    assert_eq!(
        execute(&mut v, FWAIT),
        Ok(()),
        "nobody interrupts, as if IGNNE# were asserted"
    );
    run(&mut v, &[FNCLEX]);
    assert!(!v.bus().lines.level(IrqLine::FERR));
    divide_by_zero(&mut v);
    fninit(&mut v);
    assert!(!v.bus().lines.level(IrqLine::FERR));
}

#[test]
fn without_ne_a_waiting_instruction_lets_the_interrupt_in_first() {
    let mut v = flat_vcpu();
    v.cpu.cr0 &= !control::CR0_NE;
    divide_by_zero(&mut v);
    v.bus().drive(IrqLine::INTR, true);
    assert_eq!(execute(&mut v, FWAIT), Ok(()), "interrupts are off");
    v.cpu.rflags |= crate::flags::bits::IF;
    assert_eq!(execute(&mut v, FWAIT), Err(Exception::Retry));
    assert_eq!(execute(&mut v, FNCLEX), Ok(()));
}

#[test]
fn cr0_makes_the_x87_unavailable() {
    let mut v = flat_vcpu();
    let plain = v.cpu.cr0;
    for (bits, x87, wait, emms) in [
        (control::CR0_EM, true, false, Some(Exception::InvalidOpcode)),
        (
            control::CR0_TS,
            true,
            false,
            Some(Exception::DeviceNotAvailable),
        ),
        (
            control::CR0_TS | control::CR0_MP,
            true,
            true,
            Some(Exception::DeviceNotAvailable),
        ),
        (control::CR0_MP, false, false, None),
    ] {
        v.cpu.cr0 = plain | bits;
        let not_available = |yes| {
            if yes {
                Err(Exception::DeviceNotAvailable)
            } else {
                Ok(())
            }
        };
        for bytes in [FLDZ, FNCLEX, &[0xDF, 0xE0]] {
            assert_eq!(execute(&mut v, bytes), not_available(x87));
        }
        assert_eq!(execute(&mut v, FWAIT), not_available(wait));
        assert_eq!(execute(&mut v, &[0x0F, 0x77]), emms.map_or(Ok(()), Err));
    }
}

#[test]
fn pointers_follow_instructions_but_not_control_instructions() {
    let mut v = flat_vcpu();
    v.cpu.regs[Reg::RIP] = 0x0012_3456;
    v.cpu.regs[Reg::RBX] = 0x2000;
    // fld dword ss:[ebx+8]
    run(&mut v, &[&[0x36, 0xD9, 0x43, 0x08]]);
    let x87 = &v.cpu.x87;
    assert_eq!(
        (x87.opcode, x87.instruction, x87.operand),
        (0x143, (0x0012_3456, 16), (0x2008, 24))
    );
    v.cpu.regs[Reg::RIP] = 0x0012_3460;
    run(&mut v, &[FNCLEX, &[0xD9, 0x7B, 0x10]]);
    assert_eq!(v.cpu.x87.instruction, (0x0012_3456, 16));
    run(&mut v, &[FLDZ]);
    let x87 = &v.cpu.x87;
    assert_eq!(
        (x87.opcode, x87.instruction, x87.operand),
        (0x1EE, (0x0012_3460, 16), (0x2008, 24))
    );
}

#[test]
fn a_faulting_memory_operand_leaves_the_x87_alone() {
    let mut v = flat_vcpu();
    run(&mut v, &[FLD1]);
    let mut ds = v.cpu.segs[SegmentRegister::DS];
    ds.limit = 0x1FFF;
    v.set_segment(SegmentRegister::DS, ds);
    v.update_mode();
    let before = format!("{:?}", v.cpu.x87);
    v.cpu.regs[Reg::RBX] = 0x1FFA;
    // fstp tbyte, fstp qword, fadd qword, fld tbyte, fnsave, frstor of [ebx]
    for bytes in [
        [0xDB, 0x3B],
        [0xDD, 0x1B],
        [0xDC, 0x03],
        [0xDB, 0x2B],
        [0xDD, 0x33],
        [0xDD, 0x23],
    ] {
        assert_eq!(
            execute(&mut v, &bytes),
            Err(Exception::gp(0)),
            "{bytes:02x?}"
        );
        assert_eq!(format!("{:?}", v.cpu.x87), before);
    }
}

/// FNSTENV to 2000 with the operand size that `prefix` gives; the image.
fn environment<const N: usize>(v: &mut Vcpu, prefix: &[u8]) -> [u8; N] {
    v.cpu.x87.control = 0x0360;
    v.cpu.x87.status = 0x0801;
    v.cpu.x87.tag = 0xFFFF;
    v.cpu.x87.st[1] = (1 << 63, 0x3FFF);
    v.cpu.x87.st[2] = (0, 0);
    v.cpu.x87.tag &= !(0xF << 2);
    v.cpu.x87.opcode = 0x6D3;
    v.cpu.x87.instruction = (0x1_5678, 0x1111);
    v.cpu.x87.operand = (0x2_9ABC, 0x2222);
    v.cpu.regs[Reg::RBX] = 0x2000;
    v.cpu.regs[Reg::RDI] = 0x2000;
    // [ebx] in 32-bit code; the same ModR/M byte is [bp+di] in 16-bit code.
    v.cpu.regs[Reg::RBP] = 0;
    let mut bytes = prefix.to_vec();
    bytes.extend([0xD9, 0x33]);
    run(v, &[&bytes]);
    assert_eq!(v.cpu.x87.control, 0x037F, "FNSTENV masks everything");
    v.bus().memory.read_array(PhysAddr(0x2000))
}

fn words(image: &[u8]) -> Vec<u16> {
    image
        .chunks(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

fn doublewords(image: &[u8]) -> Vec<u32> {
    image
        .chunks(4)
        .map(|four| u32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

#[test]
fn environments_in_protected_mode() {
    let mut v = flat_vcpu();
    let image = environment::<28>(&mut v, &[]);
    assert_eq!(
        doublewords(&image),
        [
            0xFFFF_0360,
            0xFFFF_0801,
            0xFFFF_FFD3,
            0x1_5678,
            0x06D3_1111,
            0x2_9ABC,
            0xFFFF_2222
        ]
    );
    let image = environment::<14>(&mut v, &[0x66]);
    assert_eq!(
        words(&image),
        [0x0360, 0x0801, 0xFFD3, 0x5678, 0x1111, 0x9ABC, 0x2222]
    );
}

#[test]
fn environments_in_real_mode_hold_linear_addresses() {
    let mut v = flat_vcpu();
    v.cpu.cr0 &= !control::CR0_PE;
    for seg in 0..6 {
        let mut segment = v.cpu.segs[seg];
        segment.attributes &= !(Segment::DB | Segment::G);
        segment.limit = 0xFFFF;
        v.set_segment(seg, segment);
    }
    v.update_mode();
    let image = environment::<14>(&mut v, &[]);
    // 11110 + 15678 = 26788; 22220 + 29ABC = 4BCDC
    assert_eq!(
        words(&image),
        [0x0360, 0x0801, 0xFFD3, 0x6788, 0x26D3, 0xBCDC, 0x4000]
    );
    let image = environment::<28>(&mut v, &[0x66]);
    assert_eq!(
        doublewords(&image),
        [
            0xFFFF_0360,
            0xFFFF_0801,
            0xFFFF_FFD3,
            0xFFFF_6788,
            0x26D3,
            0xFFFF_BCDC,
            0x4000
        ]
    );
    // fldenv
    run(&mut v, &[&[0x66, 0xD9, 0x23]]);
    let x87 = &v.cpu.x87;
    assert_eq!(
        (x87.opcode, x87.instruction, x87.operand),
        (0x6D3, (0x2_6788, 0), (0x4_BCDC, 0))
    );
    assert_eq!((x87.control, x87.status), (0x0360, 0x8881));
}

/// Puts something into every part of the state that FXSAVE and XSAVE save.
fn fill(v: &mut Vcpu) {
    run(v, &[FLD1, FLDZ]);
    v.cpu.x87.opcode = 0x123;
    v.cpu.x87.instruction = (0x1234_5678, 0x11);
    v.cpu.x87.operand = (0x9ABC_DEF0, 0x22);
    v.cpu.mxcsr = 0x1FA0;
    for n in 0..16 {
        v.cpu
            .set_xmm(n, 0x1111_2222_3333_4444_5555_6666_7777_0000 + n as u128);
    }
    v.cpu.regs[Reg::RBX] = 0x2000;
}

#[test]
fn fxrstor_brings_back_what_fxsave_saved() {
    let mut v = flat_vcpu();
    fill(&mut v);
    v.bus().memory.write(PhysAddr(0x2000), &[0xEE; 512]);
    let before = format!("{:?} {:x?}", v.cpu.x87, &v.cpu.vectors[..8]);
    run(&mut v, &[&[0x0F, 0xAE, 0x03]]);
    let image: [u8; 512] = v.bus().memory.read_array(PhysAddr(0x2000));
    assert_eq!(image[..8], [0x7F, 0x03, 0x00, 0x30, 0xC0, 0, 0x23, 0x01]);
    assert_eq!(
        image[8..20],
        [
            0x78, 0x56, 0x34, 0x12, 0x11, 0, 0, 0, 0xF0, 0xDE, 0xBC, 0x9A
        ]
    );
    assert_eq!(image[24..32], [0xA0, 0x1F, 0, 0, 0xFF, 0xFF, 0, 0]);
    assert_eq!(image[48..58], F80::ONE.to_bytes(), "ST(1)");
    assert_eq!(
        image[288..],
        [0xEE; 224],
        "32-bit code saves eight XMM registers"
    );
    v.cpu.vectors = [Vector::ZERO; 32];
    v.cpu.mxcsr = 0x1F80;
    v.cpu.x87.st = [(5, 5); 8];
    fninit(&mut v);
    run(&mut v, &[&[0x0F, 0xAE, 0x0B]]);
    let mut after = v.cpu.x87;
    for n in 0..6 {
        assert_eq!(after.st[n].0, 0);
        after.st[n] = (0, 0);
    }
    assert_eq!(format!("{after:?} {:x?}", &v.cpu.vectors[..8]), before);
    assert_eq!(v.cpu.mxcsr, 0x1FA0);
    v.bus()
        .memory
        .write(PhysAddr(0x2018), &0x1_0000u32.to_le_bytes());
    assert_eq!(
        execute(&mut v, &[0x0F, 0xAE, 0x0B]),
        Err(Exception::gp(0)),
        "a reserved bit of MXCSR"
    );
    v.cpu.regs[Reg::RBX] = 0x2008;
    assert_eq!(
        execute(&mut v, &[0x0F, 0xAE, 0x03]),
        Err(Exception::gp(0)),
        "alignment"
    );
}

#[test]
fn xsave_saves_what_is_requested_and_xrstor_initialises_the_rest() {
    let mut v = flat_vcpu();
    v.cpu.xcr0 = 3;
    fill(&mut v);
    v.bus().memory.write(PhysAddr(0x2000), &[0; 576]);
    (v.cpu.regs[Reg::RAX], v.cpu.regs[Reg::RDX]) = (2, !0);
    run(&mut v, &[&[0x0F, 0xAE, 0x23]]);
    let image: [u8; 576] = v.bus().memory.read_array(PhysAddr(0x2000));
    assert_eq!((image[0], image[512], image[24]), (0, 2, 0xA0), "SSE only");
    assert_eq!(image[160..176], v.cpu.xmm(0).to_le_bytes());
    v.cpu.regs[Reg::RAX] = 3;
    v.cpu.vectors = [Vector([7; 4]); 32];
    run(&mut v, &[&[0x0F, 0xAE, 0x2B]]);
    assert_eq!(v.cpu.x87.tag, 0xFFFF, "x87 is initialised");
    assert_eq!(v.cpu.xmm(1), 0x1111_2222_3333_4444_5555_6666_7777_0001);
    assert_eq!(
        v.cpu.vectors[1].0[1..],
        [7; 3],
        "legacy forms keep the upper part"
    );
    assert_eq!(v.cpu.xmm(8), 7, "32-bit code has eight XMM registers");
    // XSAVEC: compacted, x87 in its initial configuration.
    run(&mut v, &[&[0x0F, 0xC7, 0x23]]);
    let image: [u8; 576] = v.bus().memory.read_array(PhysAddr(0x2000));
    assert_eq!((image[512], image[520], image[527]), (2, 3, 0x80));
    run(&mut v, &[&[0x0F, 0xAE, 0x2B]]);
    v.bus().memory.write(PhysAddr(0x2200), &[4]);
    assert_eq!(
        execute(&mut v, &[0x0F, 0xAE, 0x2B]),
        Err(Exception::gp(0)),
        "a component that XCR0 lacks"
    );
    v.cpu.cr4 &= !control::CR4_OSXSAVE;
    assert_eq!(
        execute(&mut v, &[0x0F, 0xAE, 0x23]),
        Err(Exception::InvalidOpcode)
    );
}

#[test]
fn xgetbv_reads_xcr0_and_what_of_it_is_in_use() {
    let mut v = flat_vcpu();
    v.cpu.xcr0 = 3;
    for (ecx, expected) in [(0, Ok(3)), (1, Ok(0)), (2, Err(Exception::gp(0)))] {
        v.cpu.regs[Reg::RCX] = ecx;
        let result = execute(&mut v, &[0x0F, 0x01, 0xD0]);
        assert_eq!(result.map(|()| v.cpu.regs[Reg::RAX]), expected);
    }
}
