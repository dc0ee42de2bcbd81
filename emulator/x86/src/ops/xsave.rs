//! XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS and XGETBV, for the state components x87 (bit 0) and SSE (bit 1).
//! There are no supervisor components: IA32_XSS stays 0.
//!
//! SDM vol. 1 chapter 13. The legacy area is FXSAVE's, with the header of 64 bytes behind it; both components lie in
//! the legacy area, so that the compacted format differs in the header only. XSAVEOPT leaves out components in their
//! initial configuration; the other optimisation that it may make, to leave out what has not changed, is not made.

use iced_x86::Mnemonic;

use super::x87::update_summary;
use super::x87_env::{MXCSR_MASK, put_legacy_x87, restore_legacy_x87};
use crate::cpu::{Reg, X87, control};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::insn::{Insn, flag};
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::D;

const X87_STATE: u64 = 1 << 0;
const SSE_STATE: u64 = 1 << 1;
const COMPACTED: u64 = 1 << 63;
const MXCSR_INITIAL: u32 = 0x1F80;

/// Legacy area and header.
const AREA: usize = 576;

/// Which of the save instructions; XSAVES is like XSAVEC.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Optimised,
    Compacted,
}

/// Checks that the instruction may run; gives the offset of the area and the requested components.
fn begin(v: &mut Vcpu, insn: &Insn, write: bool) -> Result<(u64, u64), Exception> {
    if v.cpu.cr4 & control::CR4_OSXSAVE == 0 {
        return Err(Exception::InvalidOpcode);
    }
    if v.cpu.cr0 & control::CR0_TS != 0 {
        return Err(Exception::DeviceNotAvailable);
    }
    let offset = v.effective_address(insn);
    let lin = v.operand_linear(insn, offset, AREA as u64, write)?;
    if lin & 63 != 0 {
        return Err(Exception::gp(0));
    }
    v.touch(insn.seg_written, lin, AREA as u64, write)?;
    let mask = v.get::<D>(Reg::RDX as u8) << 32 | v.get::<D>(Reg::RAX as u8);
    Ok((offset, mask & v.cpu.xcr0))
}

fn quadword(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(image[at..at + 8].try_into().expect("eight bytes"))
}

fn xmm_count(insn: &Insn) -> usize {
    if insn.has(flag::LONG) { 16 } else { 8 }
}

/// XINUSE: the components that are not in their initial configuration.
fn in_use(v: &Vcpu) -> u64 {
    let x87 = &v.cpu.x87;
    let initial = x87.control == X87::INIT.control
        && x87.status == 0
        && x87.abridged_tag() == 0
        && x87.opcode == 0
        && x87.instruction == (0, 0)
        && x87.operand == (0, 0)
        && x87.st == X87::INIT.st;
    let sse = (0..16).any(|n| v.cpu.xmm(n) != 0);
    (u64::from(!initial) * X87_STATE) | (u64::from(sse) * SSE_STATE)
}

fn save(v: &mut Vcpu, insn: &Insn, form: Form, wide: bool) -> Result<(), Exception> {
    let (offset, requested) = begin(v, insn, true)?;
    let mut image = [0; AREA];
    v.load_bytes(insn, offset, &mut image)?;
    let mut used = in_use(v);
    if form == Form::Compacted && v.cpu.mxcsr != MXCSR_INITIAL {
        used |= SSE_STATE;
    }
    let saved = if form == Form::Plain {
        requested
    } else {
        requested & used
    };
    if saved & X87_STATE != 0 {
        put_legacy_x87(&v.cpu.x87, wide, &mut image);
    }
    let mxcsr = if form == Form::Compacted {
        saved
    } else {
        requested
    };
    if mxcsr & SSE_STATE != 0 {
        image[24..28].copy_from_slice(&v.cpu.mxcsr.to_le_bytes());
        image[28..32].copy_from_slice(&MXCSR_MASK.to_le_bytes());
    }
    if saved & SSE_STATE != 0 {
        let registers = image[160..].chunks_exact_mut(16);
        for (n, bytes) in registers.take(xmm_count(insn)).enumerate() {
            bytes.copy_from_slice(&v.cpu.xmm(n).to_le_bytes());
        }
    }
    let header = if form == Form::Compacted {
        image[520..528].copy_from_slice(&(requested | COMPACTED).to_le_bytes());
        requested & used
    } else {
        quadword(&image, 512) & !requested | requested & used
    };
    image[512..520].copy_from_slice(&header.to_le_bytes());
    v.store_bytes(insn, offset, &image)
}

/// XSAVE, XSAVE64.
fn xsave<const WIDE: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    save(v, insn, Form::Plain, WIDE)
}

/// XSAVEOPT, XSAVEOPT64.
fn xsaveopt<const WIDE: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    save(v, insn, Form::Optimised, WIDE)
}

/// XSAVEC, XSAVEC64.
fn xsavec<const WIDE: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    save(v, insn, Form::Compacted, WIDE)
}

/// XSAVES, XSAVES64.
fn xsaves<const WIDE: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    supervisor(v)?;
    save(v, insn, Form::Compacted, WIDE)
}

/// The check that XSAVES and XRSTORS add.
fn supervisor(v: &Vcpu) -> Result<(), Exception> {
    if v.cpu.cr4 & control::CR4_OSXSAVE == 0 {
        return Err(Exception::InvalidOpcode);
    }
    if v.cpu.cpl != 0 {
        return Err(Exception::gp(0));
    }
    Ok(())
}

/// XRSTOR, XRSTOR64.
fn xrstor<const WIDE: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    restore(v, insn, false, WIDE)
}

/// XRSTORS, XRSTORS64: takes the compacted format alone.
fn xrstors<const WIDE: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    supervisor(v)?;
    restore(v, insn, true, WIDE)
}

/// What is requested and not in the area gets its initial configuration.
fn restore(v: &mut Vcpu, insn: &Insn, compacted_only: bool, wide: bool) -> Result<(), Exception> {
    let (offset, requested) = begin(v, insn, false)?;
    let mut image = [0; AREA];
    v.load_bytes(insn, offset, &mut image)?;
    let (present, layout) = (quadword(&image, 512), quadword(&image, 520));
    let compacted = layout & COMPACTED != 0;
    let valid = if compacted {
        let listed = layout & !COMPACTED;
        v.model.has(Feature::Xsavec)
            && listed & !v.cpu.xcr0 == 0
            && present & !listed == 0
            && image[528..].iter().all(|&byte| byte == 0)
    } else {
        !compacted_only
            && present & !v.cpu.xcr0 == 0
            && image[520..536].iter().all(|&byte| byte == 0)
    };
    let mxcsr = if compacted && present & SSE_STATE == 0 {
        MXCSR_INITIAL
    } else {
        quadword(&image, 24) as u32
    };
    if !valid || requested & SSE_STATE != 0 && mxcsr & !MXCSR_MASK != 0 {
        return Err(Exception::gp(0));
    }
    if requested & SSE_STATE != 0 {
        v.cpu.mxcsr = mxcsr;
        let registers = image[160..].chunks_exact(16);
        for (n, bytes) in registers.take(xmm_count(insn)).enumerate() {
            let value = u128::from_le_bytes(bytes.try_into().expect("sixteen bytes"));
            v.cpu
                .set_xmm(n, if present & SSE_STATE != 0 { value } else { 0 });
        }
    }
    if requested & X87_STATE != 0 {
        if present & X87_STATE != 0 {
            restore_legacy_x87(&mut v.cpu.x87, &image, wide);
        } else {
            v.cpu.x87 = X87::INIT;
        }
        update_summary(v, insn);
    }
    Ok(())
}

/// XGETBV: XCR0 or, for ECX = 1 where XSAVEC exists, those of its components that are in use.
fn xgetbv(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    if v.cpu.cr4 & control::CR4_OSXSAVE == 0 {
        return Err(Exception::InvalidOpcode);
    }
    let value = match v.get::<D>(Reg::RCX as u8) {
        0 => v.cpu.xcr0,
        1 if v.model.has(Feature::Xsavec) => v.cpu.xcr0 & in_use(v),
        _ => return Err(Exception::gp(0)),
    };
    v.set::<D>(Reg::RAX as u8, value & 0xFFFF_FFFF);
    v.set::<D>(Reg::RDX as u8, value >> 32);
    Ok(())
}

/// Rows.
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Xsave, xsave::<false>).needs(Feature::Xsave),
    Row::plain(Mnemonic::Xsave64, xsave::<true>).needs(Feature::Xsave),
    Row::plain(Mnemonic::Xsaveopt, xsaveopt::<false>).needs(Feature::Xsaveopt),
    Row::plain(Mnemonic::Xsaveopt64, xsaveopt::<true>).needs(Feature::Xsaveopt),
    Row::plain(Mnemonic::Xsavec, xsavec::<false>).needs(Feature::Xsavec),
    Row::plain(Mnemonic::Xsavec64, xsavec::<true>).needs(Feature::Xsavec),
    Row::plain(Mnemonic::Xsaves, xsaves::<false>).needs(Feature::Xsaves),
    Row::plain(Mnemonic::Xsaves64, xsaves::<true>).needs(Feature::Xsaves),
    Row::plain(Mnemonic::Xrstors, xrstors::<false>).needs(Feature::Xsaves),
    Row::plain(Mnemonic::Xrstors64, xrstors::<true>).needs(Feature::Xsaves),
    Row::plain(Mnemonic::Xrstor, xrstor::<false>).needs(Feature::Xsave),
    Row::plain(Mnemonic::Xrstor64, xrstor::<true>).needs(Feature::Xsave),
    Row::plain(Mnemonic::Xgetbv, xgetbv).needs(Feature::Xsave),
];
