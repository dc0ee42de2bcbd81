//! x87 control: FNINIT, FNCLEX, FLDCW, FNSTCW, FNSTSW, FNSTENV, FLDENV, FNSAVE, FRSTOR, FWAIT, FXSAVE, FXRSTOR.
//!
//! SDM vol. 2A; the memory images are SDM vol. 1 figures 8-9 to 8-12, FXSAVE's is SDM vol. 2A table 3-43.

use iced_x86::Mnemonic;

use super::x87::{available, report, status, update_summary, wait};
use crate::cpu::{X87, control};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn, flag};
use crate::softfloat::flag as fp;
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::W16;

/// MXCSR's bits that may be set: all sixteen, DAZ included.
pub(super) const MXCSR_MASK: u32 = 0xFFFF;

/// FWAIT.
fn fwait(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    const BOTH: u64 = control::CR0_MP | control::CR0_TS;
    if v.cpu.cr0 & BOTH == BOTH {
        return Err(Exception::DeviceNotAvailable);
    }
    if v.cpu.x87.status & status::ES != 0 {
        report(v)?;
    }
    Ok(())
}

/// FNINIT. The registers keep their contents.
fn fninit(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    available(v)?;
    initialise(v, insn);
    Ok(())
}

fn initialise(v: &mut Vcpu, insn: &Insn) {
    v.cpu.x87 = X87 {
        st: v.cpu.x87.st,
        ..X87::INIT
    };
    update_summary(v, insn);
}

/// FNCLEX.
fn fnclex(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    available(v)?;
    v.cpu.x87.status &= !(u16::from(fp::ALL) | status::SF);
    update_summary(v, insn);
    Ok(())
}

/// FNENI, FNDISI, FNSETPM: meant something to the 8087 and the 287, nothing since.
fn ignored(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    available(v)
}

/// A control word as the register holds it: bit 6 is 1, the reserved ones are 0.
fn control_word(value: u16) -> u16 {
    value & 0x1F3F | 0x40
}

/// FLDCW.
fn fldcw(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    let value = v.read::<W16>(insn, 0)? as u16;
    v.cpu.x87.control = control_word(value);
    update_summary(v, insn);
    Ok(())
}

/// FNSTCW.
fn fnstcw(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    available(v)?;
    let value = v.cpu.x87.control.into();
    v.write::<W16>(insn, 0, value)
}

/// FNSTSW to memory and AX.
fn fnstsw(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    available(v)?;
    let value = v.cpu.x87.status.into();
    v.write::<W16>(insn, 0, value)
}

/// The bytes of the environment: by operand size and by whether there are segment descriptors.
fn environment_size(insn: &Insn) -> usize {
    if insn.attr_size == 2 { 14 } else { 28 }
}

/// Writes the environment to `image`, which has 14 or 28 bytes.
fn store_environment(x87: &X87, descriptors: bool, image: &mut [u8]) {
    let (ip, cs) = x87.instruction;
    let (dp, ds) = x87.operand;
    let (ip, dp) = (ip as u32, dp as u32);
    let opcode = u32::from(x87.opcode & 0x7FF);
    let linear = |selector: u16, offset: u32| (u32::from(selector) << 4).wrapping_add(offset);
    let (lip, ldp) = (linear(cs, ip), linear(ds, dp));
    let wide = image.len() == 28;
    let pointers = match (descriptors, wide) {
        (true, _) => [
            ip,
            u32::from(cs) | opcode << 16,
            dp,
            u32::from(ds) | 0xFFFF_0000,
        ],
        (false, true) => [
            lip | 0xFFFF_0000,
            lip >> 16 << 12 | opcode,
            ldp | 0xFFFF_0000,
            ldp >> 16 << 12,
        ],
        (false, false) => [lip, lip >> 16 << 12 | opcode, ldp, ldp >> 16 << 12],
    };
    let words = [x87.control, x87.status, x87.tag_word()].map(|word| u32::from(word) | 0xFFFF_0000);
    for (i, value) in words.into_iter().chain(pointers).enumerate() {
        if wide {
            image[4 * i..][..4].copy_from_slice(&value.to_le_bytes());
        } else {
            image[2 * i..][..2].copy_from_slice(&(value as u16).to_le_bytes());
        }
    }
}

/// Loads the environment from `image`.
fn load_environment(x87: &mut X87, descriptors: bool, image: &[u8]) {
    let wide = image.len() == 28;
    let field = |i: usize| {
        if wide {
            u32::from_le_bytes(image[4 * i..][..4].try_into().expect("four bytes"))
        } else {
            u16::from_le_bytes(image[2 * i..][..2].try_into().expect("two bytes")).into()
        }
    };
    x87.control = control_word(field(0) as u16);
    x87.status = field(1) as u16;
    x87.tag = field(2) as u16;
    if descriptors {
        x87.instruction = (field(3).into(), field(4) as u16);
        x87.operand = (field(5).into(), field(6) as u16);
        if wide {
            x87.opcode = (field(4) >> 16) as u16 & 0x7FF;
        }
    } else {
        let linear = |low: u32, high: u32| u64::from(low & 0xFFFF | (high >> 12) << 16);
        x87.instruction = (linear(field(3), field(4)), 0);
        x87.operand = (linear(field(5), field(6)), 0);
        x87.opcode = field(4) as u16 & 0x7FF;
    }
}

/// FNSTENV. All exceptions are masked afterwards.
fn fnstenv(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    available(v)?;
    let mut image = [0; 28];
    let image = &mut image[..environment_size(insn)];
    store_environment(&v.cpu.x87, v.cpu.uses_descriptors(), image);
    let offset = v.effective_address(insn);
    v.store_bytes(insn, offset, image)?;
    v.cpu.x87.control |= u16::from(fp::ALL);
    update_summary(v, insn);
    Ok(())
}

/// FLDENV.
fn fldenv(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    let mut image = [0; 28];
    let image = &mut image[..environment_size(insn)];
    let offset = v.effective_address(insn);
    v.load_bytes(insn, offset, image)?;
    let descriptors = v.cpu.uses_descriptors();
    load_environment(&mut v.cpu.x87, descriptors, image);
    update_summary(v, insn);
    Ok(())
}

/// FNSAVE: environment, ST(0) to ST(7), then as FNINIT.
fn fnsave(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    available(v)?;
    let size = environment_size(insn);
    let mut image = [0; 108];
    store_environment(&v.cpu.x87, v.cpu.uses_descriptors(), &mut image[..size]);
    for i in 0..8 {
        let at = size + 10 * usize::from(i);
        image[at..at + 10].copy_from_slice(&v.cpu.x87.get(i).to_bytes());
    }
    let offset = v.effective_address(insn);
    v.store_bytes(insn, offset, &image[..size + 80])?;
    initialise(v, insn);
    Ok(())
}

/// FRSTOR.
fn frstor(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    let size = environment_size(insn);
    let mut image = [0; 108];
    let offset = v.effective_address(insn);
    v.load_bytes(insn, offset, &mut image[..size + 80])?;
    let descriptors = v.cpu.uses_descriptors();
    load_environment(&mut v.cpu.x87, descriptors, &image[..size]);
    set_registers(&mut v.cpu.x87, &image[size..], 10);
    update_summary(v, insn);
    Ok(())
}

/// Loads ST(0) to ST(7) from an image with one every `stride` bytes; the tags stay.
fn set_registers(x87: &mut X87, image: &[u8], stride: usize) {
    for i in 0..8 {
        let bytes = &image[stride * i..];
        let sig = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let sign_exp = u16::from_le_bytes(bytes[8..10].try_into().expect("two bytes"));
        x87.st[(x87.top() + i) & 7] = (sig, sign_exp);
    }
}

/// Writes the x87 part of FXSAVE's image: bytes 0 to 23 and 32 to 159. `wide` is the form with REX.W.
pub(super) fn put_legacy_x87(x87: &X87, wide: bool, image: &mut [u8]) {
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &x87.control.to_le_bytes());
    put(2, &x87.status.to_le_bytes());
    put(4, &[x87.abridged_tag(), 0]);
    put(6, &x87.opcode.to_le_bytes());
    for (at, (offset, selector)) in [(8, x87.instruction), (16, x87.operand)] {
        if wide {
            put(at, &offset.to_le_bytes());
        } else {
            put(at, &(offset as u32).to_le_bytes());
            put(at + 4, &u32::from(selector).to_le_bytes());
        }
    }
    for i in 0..8 {
        let at = 32 + 16 * usize::from(i);
        put(at, &x87.get(i).to_bytes());
        put(at + 10, &[0; 6]);
    }
}

/// Loads the x87 part of FXSAVE's image; the caller calls [`update_summary`].
pub(super) fn restore_legacy_x87(x87: &mut X87, image: &[u8], wide: bool) {
    let word = |at: usize| u16::from_le_bytes(image[at..at + 2].try_into().expect("two bytes"));
    let pointer = |at: usize| {
        if wide {
            (
                u64::from_le_bytes(image[at..at + 8].try_into().expect("eight bytes")),
                0,
            )
        } else {
            let offset = u32::from_le_bytes(image[at..at + 4].try_into().expect("four bytes"));
            (offset.into(), word(at + 4))
        }
    };
    x87.control = control_word(word(0));
    x87.status = word(2);
    x87.set_abridged_tag(image[4]);
    x87.opcode = word(6) & 0x7FF;
    x87.instruction = pointer(8);
    x87.operand = pointer(16);
    set_registers(x87, &image[32..160], 16);
}

/// How many XMM registers the mode has.
fn xmm_count(insn: &Insn) -> usize {
    if insn.has(flag::LONG) { 16 } else { 8 }
}

/// The linear address of a 512-byte area, which must be aligned.
fn area(v: &mut Vcpu, insn: &Insn, write: bool) -> Result<u64, Exception> {
    available(v)?;
    let offset = v.effective_address(insn);
    let lin = v.operand_linear(insn, offset, 512, write)?;
    if lin & 15 != 0 {
        return Err(Exception::gp(0));
    }
    Ok(offset)
}

/// FXSAVE, and FXSAVE64 when `WIDE`. Without CR4.OSFXSR the XMM registers are left out.
fn fxsave<const WIDE: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let offset = area(v, insn, true)?;
    // The last 96 bytes belong to software: what is there stays.
    let mut image = [0; 416];
    put_legacy_x87(&v.cpu.x87, WIDE, &mut image);
    image[24..28].copy_from_slice(&v.cpu.mxcsr.to_le_bytes());
    image[28..32].copy_from_slice(&MXCSR_MASK.to_le_bytes());
    let mut end = 160;
    if v.cpu.cr4 & control::CR4_OSFXSR != 0 {
        for n in 0..xmm_count(insn) {
            image[end..end + 16].copy_from_slice(&v.cpu.xmm(n).to_le_bytes());
            end += 16;
        }
    }
    v.store_bytes(insn, offset, &image[..end])
}

/// FXRSTOR, and FXRSTOR64 when `WIDE`.
fn fxrstor<const WIDE: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let offset = area(v, insn, false)?;
    let mut image = [0; 512];
    v.load_bytes(insn, offset, &mut image)?;
    if v.cpu.cr4 & control::CR4_OSFXSR != 0 {
        let mxcsr = u32::from_le_bytes(image[24..28].try_into().expect("four bytes"));
        if mxcsr & !MXCSR_MASK != 0 {
            return Err(Exception::gp(0));
        }
        v.cpu.mxcsr = mxcsr;
        let registers = image[160..].chunks_exact(16);
        for (n, bytes) in registers.take(xmm_count(insn)).enumerate() {
            v.cpu.set_xmm(
                n,
                u128::from_le_bytes(bytes.try_into().expect("sixteen bytes")),
            );
        }
    }
    restore_legacy_x87(&mut v.cpu.x87, &image, WIDE);
    update_summary(v, insn);
    Ok(())
}

const fn plain(mnemonic: Mnemonic, exec: ExecFn) -> Row {
    Row::plain(mnemonic, exec).needs(Feature::X87)
}

/// Rows.
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Wait, fwait),
    plain(Mnemonic::Fninit, fninit),
    plain(Mnemonic::Fnclex, fnclex),
    plain(Mnemonic::Fneni, ignored),
    plain(Mnemonic::Fndisi, ignored),
    plain(Mnemonic::Fnsetpm, ignored),
    plain(Mnemonic::Fldcw, fldcw),
    plain(Mnemonic::Fnstcw, fnstcw),
    plain(Mnemonic::Fnstsw, fnstsw),
    plain(Mnemonic::Fnstenv, fnstenv),
    plain(Mnemonic::Fldenv, fldenv),
    plain(Mnemonic::Fnsave, fnsave),
    plain(Mnemonic::Frstor, frstor),
    plain(Mnemonic::Fxsave, fxsave::<false>).needs(Feature::Fxsr),
    plain(Mnemonic::Fxsave64, fxsave::<true>).needs(Feature::Fxsr),
    plain(Mnemonic::Fxrstor, fxrstor::<false>).needs(Feature::Fxsr),
    plain(Mnemonic::Fxrstor64, fxrstor::<true>).needs(Feature::Fxsr),
];
