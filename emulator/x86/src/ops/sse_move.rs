//! SSE moves, shuffles without arithmetic, inserts and extracts. SDM vol. 2A and 2B.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::form::{Addressed, Source, Target, VectorSource};
use super::packed::{build, lane};
use super::vector::{is_mmx, mm, read_mm, read_scalar, read_xmm, set_mm};
use super::x87::{check_mmx, enter_mmx};
use crate::choice::{fixed, generic, width};
use crate::cpu::Reg;
use crate::cpuid::Feature;
use crate::emit::Emit;
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn};
use crate::table::{Handler, Native, Row};
use crate::vcpu::Vcpu;
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

pub(crate) const ROWS: &[Row] = &[
    Row::by_form(Mnemonic::Movups, choose_whole::<false>).needs(Feature::Sse),
    Row::by_form(Mnemonic::Movupd, choose_whole::<false>).needs(Feature::Sse2),
    Row::by_form(Mnemonic::Movdqu, choose_whole::<false>).needs(Feature::Sse2),
    Row::by_form(Mnemonic::Lddqu, choose_whole::<false>).needs(Feature::Sse3),
    Row::by_form(Mnemonic::Movaps, choose_whole::<true>).needs(Feature::Sse),
    Row::by_form(Mnemonic::Movapd, choose_whole::<true>).needs(Feature::Sse2),
    Row::by_form(Mnemonic::Movdqa, choose_whole::<true>).needs(Feature::Sse2),
    Row::by_form(Mnemonic::Movntps, choose_whole::<true>).needs(Feature::Sse),
    Row::by_form(Mnemonic::Movntpd, choose_whole::<true>).needs(Feature::Sse2),
    Row::by_form(Mnemonic::Movntdq, choose_whole::<true>).needs(Feature::Sse2),
    Row::by_form(Mnemonic::Movntdqa, choose_whole::<true>).needs(Feature::Sse41),
    Row::new(Mnemonic::Movss, generic!(Bare move_scalar { fixed!(32); })).needs(Feature::Sse),
    Row::new(Mnemonic::Movlps, generic!(Bare move_low { fixed!(64); })).needs(Feature::Sse),
    Row::new(Mnemonic::Movlpd, generic!(Bare move_low { fixed!(64); })).needs(Feature::Sse2),
    Row::new(Mnemonic::Movhps, generic!(Bare move_high { fixed!(64); })).needs(Feature::Sse),
    Row::new(Mnemonic::Movhpd, generic!(Bare move_high { fixed!(64); })).needs(Feature::Sse2),
    Row::plain(Mnemonic::Movhlps, |v, insn| {
        two_registers(v, insn, |a, b| a >> 64 << 64 | b >> 64)
    })
    .needs(Feature::Sse),
    Row::plain(Mnemonic::Movlhps, |v, insn| {
        two_registers(v, insn, |a, b| u128::from(a as u64) | b << 64)
    })
    .needs(Feature::Sse),
    Row::plain(Mnemonic::Movnti, movnti).needs(Feature::Sse2),
    Row::choose(Mnemonic::Movntq, |_| Some(movntq as ExecFn)).needs(Feature::Mmx),
    Row::by_form(Mnemonic::Movd, choose_movd).needs(Feature::Mmx),
    Row::by_form(Mnemonic::Movq, choose_movq).needs(Feature::Mmx),
    Row::plain(Mnemonic::Movq2dq, movq2dq).needs(Feature::Sse2),
    Row::plain(Mnemonic::Movdq2q, movdq2q).needs(Feature::Sse2),
    Row::plain(Mnemonic::Movmskps, |v, insn| move_mask(v, insn, 4, 32)).needs(Feature::Sse),
    Row::plain(Mnemonic::Movmskpd, |v, insn| move_mask(v, insn, 2, 64)).needs(Feature::Sse2),
    Row::choose(Mnemonic::Pmovmskb, |iced| {
        Some(if is_mmx(iced, 1) {
            pmovmskb_mm as ExecFn
        } else {
            |v, insn| move_mask(v, insn, 16, 8)
        })
    })
    .needs(Feature::Mmx),
    Row::plain(Mnemonic::Maskmovq, maskmovq)
        .native(Native::Call)
        .needs(Feature::Mmx),
    Row::plain(Mnemonic::Maskmovdqu, maskmovdqu)
        .native(Native::Call)
        .needs(Feature::Sse2),
    Row::plain(Mnemonic::Movddup, movddup).needs(Feature::Sse3),
    Row::plain(Mnemonic::Movshdup, |v, insn| duplicate(v, insn, 1)).needs(Feature::Sse3),
    Row::plain(Mnemonic::Movsldup, |v, insn| duplicate(v, insn, 0)).needs(Feature::Sse3),
    Row::choose(Mnemonic::Pinsrw, |iced| {
        Some(if is_mmx(iced, 0) {
            pinsrw_mm as ExecFn
        } else {
            |v, insn| insert::<W16>(v, insn)
        })
    })
    .needs(Feature::Mmx),
    Row::plain(Mnemonic::Pinsrb, insert::<B>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pinsrd, insert::<D>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pinsrq, insert::<Q>).needs(Feature::Sse41),
    Row::choose(Mnemonic::Pextrw, |iced| {
        Some(if is_mmx(iced, 1) {
            pextrw_mm as ExecFn
        } else {
            |v, insn| extract::<W16>(v, insn)
        })
    })
    .needs(Feature::Mmx),
    Row::plain(Mnemonic::Pextrb, extract::<B>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pextrd, extract::<D>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pextrq, extract::<Q>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Extractps, extract::<D>).needs(Feature::Sse41),
    Row::plain(Mnemonic::Insertps, insertps).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovsxbw, |v, insn| extend(v, insn, 8, 16, true)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovsxbd, |v, insn| extend(v, insn, 8, 32, true)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovsxbq, |v, insn| extend(v, insn, 8, 64, true)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovsxwd, |v, insn| extend(v, insn, 16, 32, true)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovsxwq, |v, insn| extend(v, insn, 16, 64, true)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovsxdq, |v, insn| extend(v, insn, 32, 64, true)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovzxbw, |v, insn| extend(v, insn, 8, 16, false)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovzxbd, |v, insn| extend(v, insn, 8, 32, false)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovzxbq, |v, insn| extend(v, insn, 8, 64, false)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovzxwd, |v, insn| extend(v, insn, 16, 32, false)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovzxwq, |v, insn| extend(v, insn, 16, 64, false)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pmovzxdq, |v, insn| extend(v, insn, 32, 64, false)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Pblendvb, |v, insn| blend_by_sign(v, insn, 16, 8)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Blendvps, |v, insn| blend_by_sign(v, insn, 4, 32)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Blendvpd, |v, insn| blend_by_sign(v, insn, 2, 64)).needs(Feature::Sse41),
    Row::plain(Mnemonic::Ptest, ptest).needs(Feature::Sse41),
    Row::plain(Mnemonic::Ldmxcsr, ldmxcsr)
        .native(Native::Call)
        .needs(Feature::Sse),
    Row::plain(Mnemonic::Stmxcsr, stmxcsr)
        .native(Native::Call)
        .needs(Feature::Sse),
];

/// MOVUPS, MOVAPS and all that move 128 bits to a register.
fn load<E: Emit, S: VectorSource, const ALIGNED: bool>(e: &mut E, insn: &Insn) -> Done {
    e.check_sse()?;
    let value = S::read_vector(e, insn, ALIGNED)?;
    e.set_xmm(insn.r[0], value);
    Ok(())
}

/// The same to memory.
#[allow(clippy::extra_unused_type_parameters)] // as every function that `generic!` names
fn store<E: Emit, W: Width, A: Addressed, const ALIGNED: bool>(e: &mut E, insn: &Insn) -> Done {
    e.check_sse()?;
    let address = A::address(e, insn);
    let value = e.xmm(insn.r[1]);
    e.store_vector(insn, address, value, ALIGNED)
}

/// What `Semantics` asks of them: the address has any width, and 32 bits exist in all modes.
macro_rules! frequent {
    () => {
        const FREQUENT: u8 = width::D;
    };
}

fn choose_whole<const ALIGNED: bool>(iced: &Instruction) -> Option<Handler> {
    Some(match (iced.op_kind(0) == OpKind::Memory, ALIGNED) {
        (true, false) => generic!(Addresses store::<false> { fixed!(32); frequent!(); }),
        (true, true) => generic!(Addresses store::<true> { fixed!(32); frequent!(); }),
        (false, false) => generic!(ReadsVector load::<false> { frequent!(); }),
        (false, true) => generic!(ReadsVector load::<true> { frequent!(); }),
    })
}

/// MOVSS and MOVSD: a load clears the bits above, a register move keeps them.
fn move_scalar<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    e.check_sse()?;
    if insn.is_mem(1) {
        let address = e.address(insn);
        let value = e.load::<W>(insn, address)?;
        let value = e.vector_from(value);
        e.set_xmm(insn.r[0], value);
        return Ok(());
    }
    let value = e.xmm(insn.r[1]);
    let value = e.vector_low::<W>(value);
    if insn.is_mem(0) {
        let address = e.address(insn);
        return e.store::<W>(insn, address, value);
    }
    let old = e.xmm(insn.r[0]);
    let value = e.vector_insert::<W>(old, value);
    e.set_xmm(insn.r[0], value);
    Ok(())
}

/// The SSE2 MOVSD.
pub(crate) fn choose_movsd(_: &Instruction) -> Option<Handler> {
    Some(generic!(Bare move_scalar { fixed!(64); }))
}

/// MOVQ between XMM registers or memory: a register target's high half is cleared.
fn move_quad<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    e.check_sse()?;
    let value = if insn.is_mem(1) {
        let address = e.address(insn);
        e.load::<W>(insn, address)?
    } else {
        let value = e.xmm(insn.r[1]);
        e.vector_low::<W>(value)
    };
    if insn.is_mem(0) {
        let address = e.address(insn);
        return e.store::<W>(insn, address, value);
    }
    let value = e.vector_from(value);
    e.set_xmm(insn.r[0], value);
    Ok(())
}

/// MOVLPS, MOVLPD with memory: the other half stays.
fn move_low<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    e.check_sse()?;
    let address = e.address(insn);
    if insn.is_mem(0) {
        let value = e.xmm(insn.r[1]);
        let value = e.vector_low::<W>(value);
        return e.store::<W>(insn, address, value);
    }
    let value = e.load::<W>(insn, address)?;
    let old = e.xmm(insn.r[0]);
    let value = e.vector_insert::<W>(old, value);
    e.set_xmm(insn.r[0], value);
    Ok(())
}

/// MOVHPS, MOVHPD.
fn move_high<E: Emit, W: Width>(e: &mut E, insn: &Insn) -> Done {
    e.check_sse()?;
    let address = e.address(insn);
    if insn.is_mem(0) {
        let value = e.xmm(insn.r[1]);
        let value = e.vector_high(value);
        return e.store::<W>(insn, address, value);
    }
    let value = e.load::<W>(insn, address)?;
    let old = e.xmm(insn.r[0]);
    let value = e.vector_insert_high(old, value);
    e.set_xmm(insn.r[0], value);
    Ok(())
}

fn two_registers(v: &mut Vcpu, insn: &Insn, f: fn(u128, u128) -> u128) -> Done {
    v.check_sse()?;
    let (a, b) = (v.xmm(insn.r[0]), v.xmm(insn.r[1]));
    v.set_xmm(insn.r[0], f(a, b));
    Ok(())
}

/// MOVNTI: a store of a general register; needs no SSE state.
fn movnti(v: &mut Vcpu, insn: &Insn) -> Done {
    let offset = v.effective_address(insn);
    if insn.op_size == 8 {
        let value = v.get::<Q>(insn.r[1]);
        v.store_operand::<Q>(insn, offset, value)
    } else {
        let value = v.get::<D>(insn.r[1]);
        v.store_operand::<D>(insn, offset, value)
    }
}

fn movntq(v: &mut Vcpu, insn: &Insn) -> Done {
    check_mmx(v)?;
    let offset = v.effective_address(insn);
    let value = mm(v, insn.r[1]);
    v.store_operand::<Q>(insn, offset, value)?;
    enter_mmx(v);
    Ok(())
}

/// MOVD and MOVQ between MMX registers and general registers or memory.
fn to_mm<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    check_mmx(v)?;
    let value = v.read::<W>(insn, 1)?;
    enter_mmx(v);
    set_mm(v, insn.r[0], value);
    Ok(())
}

fn from_mm<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    check_mmx(v)?;
    let value = mm(v, insn.r[1]);
    v.write::<W>(insn, 0, W::zext(value))?;
    enter_mmx(v);
    Ok(())
}

fn to_xmm<E: Emit, W: Width, S: Source>(e: &mut E, insn: &Insn) -> Done {
    e.check_sse()?;
    let value = S::read::<E, W>(e, insn)?;
    let value = e.vector_from(value);
    e.set_xmm(insn.r[0], value);
    Ok(())
}

fn from_xmm<E: Emit, W: Width, T: Target>(e: &mut E, insn: &Insn) -> Done {
    e.check_sse()?;
    let value = e.xmm(insn.r[1]);
    let value = e.vector_low::<W>(value);
    T::write::<E, W>(e, insn, value)
}

fn choose_movd(iced: &Instruction) -> Option<Handler> {
    Some(match iced.code() {
        Code::Movd_mm_rm32 => Handler::Plain(to_mm::<D>),
        Code::Movd_rm32_mm => Handler::Plain(from_mm::<D>),
        Code::Movd_xmm_rm32 => generic!(Reads<1> to_xmm { fixed!(32); }),
        Code::Movd_rm32_xmm => generic!(Changes from_xmm { fixed!(32); }),
        _ => return None,
    })
}

fn choose_movq(iced: &Instruction) -> Option<Handler> {
    Some(match iced.code() {
        Code::Movq_mm_rm64 => Handler::Plain(to_mm::<Q>),
        Code::Movq_rm64_mm => Handler::Plain(from_mm::<Q>),
        Code::Movq_xmm_rm64 => generic!(Reads<1> to_xmm { fixed!(64); }),
        Code::Movq_rm64_xmm => generic!(Changes from_xmm { fixed!(64); }),
        Code::Movq_mm_mmm64 => Handler::Plain(|v, insn| {
            check_mmx(v)?;
            let value = read_mm(v, insn, 1)?;
            enter_mmx(v);
            set_mm(v, insn.r[0], value);
            Ok(())
        }),
        Code::Movq_mmm64_mm => Handler::Plain(|v, insn| {
            check_mmx(v)?;
            let value = mm(v, insn.r[1]);
            if insn.is_mem(0) {
                let offset = v.effective_address(insn);
                v.store_operand::<Q>(insn, offset, value)?;
                enter_mmx(v);
            } else {
                enter_mmx(v);
                set_mm(v, insn.r[0], value);
            }
            Ok(())
        }),
        Code::Movq_xmm_xmmm64 | Code::Movq_xmmm64_xmm => {
            generic!(Bare move_quad { fixed!(64); })
        }
        _ => return None,
    })
}

/// MOVQ2DQ: #NM and #MF as for MMX besides the SSE checks.
fn movq2dq(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    check_mmx(v)?;
    let value = mm(v, insn.r[1]);
    enter_mmx(v);
    v.set_xmm(insn.r[0], value.into());
    Ok(())
}

fn movdq2q(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    check_mmx(v)?;
    let value = v.xmm(insn.r[1]) as u64;
    enter_mmx(v);
    set_mm(v, insn.r[0], value);
    Ok(())
}

/// The sign bits of `count` lanes to a general register.
fn move_mask(v: &mut Vcpu, insn: &Insn, count: usize, size: usize) -> Done {
    v.check_sse()?;
    let value = v.xmm(insn.r[1]);
    let mask = (0..count).fold(0, |mask, i| {
        mask | (lane(value, i, size) >> (size - 1)) << i
    });
    v.set::<D>(insn.r[0], mask);
    Ok(())
}

fn pmovmskb_mm(v: &mut Vcpu, insn: &Insn) -> Done {
    check_mmx(v)?;
    let value = u128::from(mm(v, insn.r[1]));
    enter_mmx(v);
    let mask = (0..8).fold(0, |mask, i| mask | (lane(value, i, 8) >> 7) << i);
    v.set::<D>(insn.r[0], mask);
    Ok(())
}

/// MASKMOVQ, MASKMOVDQU: stores the bytes of operand 1 that operand 2's sign bits select at DS:(E/R)DI.
fn masked_store(v: &mut Vcpu, insn: &Insn, bytes: u128, mask: u128, count: u64) -> Done {
    let base = v.cpu.regs[Reg::RDI];
    // All selected bytes are checked before any is written.
    for write in [false, true] {
        for i in 0..count {
            if lane(mask, i as usize, 8) & 0x80 != 0 {
                let offset = base.wrapping_add(i) & insn.addr_mask;
                if write {
                    v.store_operand::<B>(insn, offset, lane(bytes, i as usize, 8))?;
                } else {
                    let lin = v.operand_linear(insn, offset, 1, true)?;
                    v.touch(insn.seg_written, lin, 1, true)?;
                }
            }
        }
    }
    Ok(())
}

fn maskmovq(v: &mut Vcpu, insn: &Insn) -> Done {
    check_mmx(v)?;
    let (bytes, mask) = (mm(v, insn.r[1]), mm(v, insn.r[2]));
    masked_store(v, insn, bytes.into(), mask.into(), 8)?;
    enter_mmx(v);
    Ok(())
}

fn maskmovdqu(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let (bytes, mask) = (v.xmm(insn.r[1]), v.xmm(insn.r[2]));
    masked_store(v, insn, bytes, mask, 16)
}

fn movddup(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let value = u128::from(read_scalar::<Q>(v, insn, 1)?);
    v.set_xmm(insn.r[0], value | value << 64);
    Ok(())
}

/// MOVSHDUP, MOVSLDUP: the odd or even lanes, twice each.
fn duplicate(v: &mut Vcpu, insn: &Insn, odd: usize) -> Done {
    v.check_sse()?;
    let value = read_xmm(v, insn, 1, true)?;
    v.set_xmm(insn.r[0], build(4, 32, |i| lane(value, (i & 2) + odd, 32)));
    Ok(())
}

/// PINSRB/W/D/Q.
fn insert<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let value = if insn.is_mem(1) {
        v.read::<W>(insn, 1)?
    } else {
        W::zext(v.get::<Q>(insn.r[1] & 15))
    };
    let shift = (insn.imm as u32 * W::BITS) & 127;
    let old = v.xmm(insn.r[0]);
    v.set_xmm(
        insn.r[0],
        (old & !(u128::from(W::MASK) << shift)) | u128::from(value) << shift,
    );
    Ok(())
}

fn pinsrw_mm(v: &mut Vcpu, insn: &Insn) -> Done {
    check_mmx(v)?;
    let value = if insn.is_mem(1) {
        v.read::<W16>(insn, 1)?
    } else {
        v.get::<W16>(insn.r[1])
    };
    let shift = (insn.imm & 3) * 16;
    let old = mm(v, insn.r[0]);
    enter_mmx(v);
    set_mm(v, insn.r[0], (old & !(0xFFFF << shift)) | value << shift);
    Ok(())
}

/// PEXTRB/W/D/Q, EXTRACTPS: a register target is written whole, zero-extended.
fn extract<W: Width>(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let shift = (insn.imm as u32 * W::BITS) & 127;
    let value = W::zext((v.xmm(insn.r[1]) >> shift) as u64);
    if insn.is_mem(0) {
        let offset = v.effective_address(insn);
        return v.store_operand::<W>(insn, offset, value);
    }
    v.set::<Q>(insn.r[0], value);
    Ok(())
}

fn pextrw_mm(v: &mut Vcpu, insn: &Insn) -> Done {
    check_mmx(v)?;
    let value = mm(v, insn.r[1]) >> ((insn.imm & 3) * 16) & 0xFFFF;
    enter_mmx(v);
    v.set::<Q>(insn.r[0], value);
    Ok(())
}

/// INSERTPS: a lane of the source (lane 0 of memory) to a lane of the target, then lanes to zero.
fn insertps(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let imm = insn.imm as u8;
    let value = if insn.is_mem(1) {
        let offset = v.effective_address(insn);
        v.load_operand::<D>(insn, offset)?
    } else {
        lane(v.xmm(insn.r[1]), usize::from(imm >> 6), 32)
    };
    let old = v.xmm(insn.r[0]);
    let to = usize::from(imm >> 4 & 3);
    v.set_xmm(
        insn.r[0],
        build(4, 32, |i| match i {
            _ if imm >> i & 1 != 0 => 0,
            i if i == to => value,
            i => lane(old, i, 32),
        }),
    );
    Ok(())
}

/// PMOVSX and PMOVZX: lanes of `from` bits to lanes of `to` bits; memory is as short as needed.
fn extend(v: &mut Vcpu, insn: &Insn, from: usize, to: usize, signed: bool) -> Done {
    v.check_sse()?;
    let count = 128 / to;
    let source = if insn.is_mem(1) {
        let offset = v.effective_address(insn);
        match count * from {
            16 => v.load_operand::<W16>(insn, offset)?,
            32 => v.load_operand::<D>(insn, offset)?,
            _ => v.load_operand::<Q>(insn, offset)?,
        }
        .into()
    } else {
        v.xmm(insn.r[1])
    };
    let result = build(count, to, |i| {
        let value = lane(source, i, from);
        if signed {
            ((value << (64 - from)) as i64 >> (64 - from)) as u64
        } else {
            value
        }
    });
    v.set_xmm(insn.r[0], result);
    Ok(())
}

/// PBLENDVB, BLENDVPS, BLENDVPD: XMM0's sign bits choose.
fn blend_by_sign(v: &mut Vcpu, insn: &Insn, count: usize, size: usize) -> Done {
    v.check_sse()?;
    let b = read_xmm(v, insn, 1, true)?;
    let (a, mask) = (v.xmm(insn.r[0]), v.xmm(0));
    let result = build(count, size, |i| {
        lane(
            if lane(mask, i, size) >> (size - 1) != 0 {
                b
            } else {
                a
            },
            i,
            size,
        )
    });
    v.set_xmm(insn.r[0], result);
    Ok(())
}

/// PTEST: ZF and CF by the masked bits; the others are cleared.
fn ptest(v: &mut Vcpu, insn: &Insn) -> Done {
    use crate::flags::bits::{ARITH, CF, ZF};
    v.check_sse()?;
    let b = read_xmm(v, insn, 1, true)?;
    let a = v.xmm(insn.r[0]);
    v.cpu.materialize_flags();
    let flags = if a & b == 0 { ZF } else { 0 } | if !a & b == 0 { CF } else { 0 };
    v.cpu.rflags = (v.cpu.rflags & !ARITH) | flags;
    Ok(())
}

/// LDMXCSR: #GP(0) for a reserved bit.
fn ldmxcsr(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let value = v.read::<D>(insn, 0)? as u32;
    if value & 0xFFFF_0000 != 0 {
        return Err(Exception::gp(0));
    }
    v.cpu.mxcsr = value;
    Ok(())
}

fn stmxcsr(v: &mut Vcpu, insn: &Insn) -> Done {
    v.check_sse()?;
    let value = v.cpu.mxcsr.into();
    v.write::<D>(insn, 0, value)
}
