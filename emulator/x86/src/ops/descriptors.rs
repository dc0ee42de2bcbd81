//! Descriptor-table registers and what looks at descriptors: LGDT, LLDT, LTR, LAR, VERR, ARPL and kin
//! (SDM vol. 2).

use iced_x86::{Code, Mnemonic};

use crate::cpu::{SegmentRegister, TableRegister};
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::Insn;
use crate::segment::{Descriptor, RPL, is_null};
use crate::table::Row;
use crate::vcpu::{Vcpu, is_canonical};
use crate::width::{D, Q, W16};

/// The rows.
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Lgdt, load_table).privileged(),
    Row::plain(Mnemonic::Lidt, load_table).privileged(),
    Row::plain(Mnemonic::Sgdt, store_table),
    Row::plain(Mnemonic::Sidt, store_table),
    Row::plain(Mnemonic::Lldt, lldt),
    Row::plain(Mnemonic::Ltr, ltr),
    Row::plain(Mnemonic::Sldt, store_selector),
    Row::plain(Mnemonic::Str, store_selector),
    Row::plain(Mnemonic::Verr, verify),
    Row::plain(Mnemonic::Verw, verify),
    Row::plain(Mnemonic::Lar, lar),
    Row::plain(Mnemonic::Lsl, lsl),
    Row::plain(Mnemonic::Arpl, arpl),
];

/// LGDT, LIDT.
fn load_table(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let at = v.effective_address(insn);
    let mut image = [0; 10];
    let long = matches!(insn.iced_code(), Code::Lgdt_m1664 | Code::Lidt_m1664);
    let len = if long { 10 } else { 6 };
    v.load_bytes(insn, at, &mut image[..len])?;
    let limit = u16::from_le_bytes([image[0], image[1]]);
    let mut base = (2..len)
        .rev()
        .fold(0, |base, n| base << 8 | u64::from(image[n]));
    if matches!(insn.iced_code(), Code::Lgdt_m1632_16 | Code::Lidt_m1632_16) {
        base &= 0xFF_FFFF;
    }
    if !is_canonical(base) {
        return Err(Exception::gp(0));
    }
    let table = TableRegister { base, limit };
    if insn.iced_code().mnemonic() == Mnemonic::Lgdt {
        v.cpu.gdtr = table;
    } else {
        v.cpu.idtr = table;
    }
    Ok(())
}

/// SGDT, SIDT: with 16-bit operands too the base is stored whole, as all processors since the 386 do.
fn store_table(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    v.check_umip()?;
    let table = if insn.iced_code().mnemonic() == Mnemonic::Sgdt {
        v.cpu.gdtr
    } else {
        v.cpu.idtr
    };
    let mut image = [0; 10];
    image[..2].copy_from_slice(&table.limit.to_le_bytes());
    image[2..].copy_from_slice(&table.base.to_le_bytes());
    let long = matches!(insn.iced_code(), Code::Sgdt_m1664 | Code::Sidt_m1664);
    let at = v.effective_address(insn);
    v.store_bytes(insn, at, &image[..if long { 10 } else { 6 }])
}

fn needs_descriptors(v: &Vcpu) -> Result<(), Exception> {
    if v.cpu.uses_descriptors() {
        Ok(())
    } else {
        Err(Exception::InvalidOpcode)
    }
}

fn lldt(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    needs_descriptors(v)?;
    if v.cpu.cpl != 0 {
        return Err(Exception::gp(0));
    }
    let selector = v.read::<W16>(insn, 0)? as u16;
    v.load_ldtr(selector)
}

fn ltr(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    needs_descriptors(v)?;
    if v.cpu.cpl != 0 {
        return Err(Exception::gp(0));
    }
    let selector = v.read::<W16>(insn, 0)? as u16;
    v.load_tr(selector)
}

/// SLDT, STR.
fn store_selector(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    needs_descriptors(v)?;
    v.check_umip()?;
    let seg = if insn.iced_code().mnemonic() == Mnemonic::Sldt {
        SegmentRegister::LDTR
    } else {
        SegmentRegister::TR
    };
    let selector = v.cpu.segs[seg].selector;
    v.store_system_word(insn, selector.into())
}

fn set_zf(v: &mut Vcpu, on: bool) {
    v.cpu.materialize_flags();
    v.cpu.rflags = (v.cpu.rflags & !bits::ZF) | if on { bits::ZF } else { 0 };
}

/// The descriptor of a selector that LAR and its kin may see: in its table, and for all but
/// conforming code within reach of CPL and RPL.
fn visible(v: &mut Vcpu, selector: u16) -> Result<Option<Descriptor>, Exception> {
    if is_null(selector) {
        return Ok(None);
    }
    let (cpl, rpl) = (v.cpu.cpl, (selector & RPL) as u8);
    Ok(v.find_descriptor(selector)?
        .filter(|d| d.is_conforming() || d.dpl() >= cpl && d.dpl() >= rpl))
}

/// VERR, VERW.
fn verify(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    needs_descriptors(v)?;
    let selector = v.read::<W16>(insn, 0)? as u16;
    let for_write = insn.iced_code().mnemonic() == Mnemonic::Verw;
    let ok = visible(v, selector)?.is_some_and(|d| {
        if for_write {
            d.is_writable_data()
        } else {
            d.is_readable()
        }
    });
    set_zf(v, ok);
    Ok(())
}

/// System descriptor types that LAR accepts outside and in long mode, as bits.
const LAR_TYPES: [u16; 2] = [0x1A3E, 0x1A04];
/// Those that LSL accepts.
const LSL_TYPES: [u16; 2] = [0x0A0E, 0x0A04];

fn accepted(v: &Vcpu, descriptor: &Descriptor, types: [u16; 2]) -> bool {
    let types = types[usize::from(v.cpu.long_mode())];
    descriptor.is_segment() || types >> descriptor.kind() & 1 != 0
}

fn write_result(v: &mut Vcpu, insn: &Insn, value: u64) {
    match insn.iced_code() {
        Code::Lar_r16_rm16 | Code::Lsl_r16_rm16 => v.set::<W16>(insn.r[0], value),
        Code::Lar_r32_r32m16 | Code::Lsl_r32_r32m16 => v.set::<D>(insn.r[0], value),
        _ => v.set::<Q>(insn.r[0], value),
    }
}

fn lar(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    needs_descriptors(v)?;
    let selector = v.read::<W16>(insn, 1)? as u16;
    let found = visible(v, selector)?.filter(|d| accepted(v, d, LAR_TYPES));
    if let Some(descriptor) = found {
        write_result(v, insn, descriptor.low >> 32 & 0x00FF_FF00);
    }
    set_zf(v, found.is_some());
    Ok(())
}

fn lsl(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    needs_descriptors(v)?;
    let selector = v.read::<W16>(insn, 1)? as u16;
    let found = visible(v, selector)?.filter(|d| accepted(v, d, LSL_TYPES));
    if let Some(descriptor) = found {
        write_result(v, insn, descriptor.limit().into());
    }
    set_zf(v, found.is_some());
    Ok(())
}

/// ARPL: raises the RPL of a selector to that of another. Always writes, so that a page that cannot be
/// written faults either way.
fn arpl(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    needs_descriptors(v)?;
    let selector = v.read::<W16>(insn, 0)?;
    let rpl = v.get::<W16>(insn.r[1]) & 3;
    let raise = selector & 3 < rpl;
    if raise {
        // Otherwise nothing is written, so that a selector in read-only memory can be checked.
        v.write::<W16>(insn, 0, (selector & !3) | rpl)?;
    }
    set_zf(v, raise);
    Ok(())
}
