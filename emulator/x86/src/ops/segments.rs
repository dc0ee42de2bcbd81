//! Instructions that move segment registers (SDM vol. 2: MOV, POP, PUSH, LDS and kin, RDFSBASE, SWAPGS).

use iced_x86::{Code, Instruction, Mnemonic, Register};

use crate::cpu::{Mode, Reg, SegmentRegister, control};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn};
use crate::ops::far::{load_pointer, peek};
use crate::table::Row;
use crate::vcpu::{Vcpu, is_canonical, merge_sp};
use crate::width::{D, Q, W16};

/// The rows; MOV, PUSH and POP of segment registers are chosen by [`choose_mov`] and [`choose_stack`].
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::Lds, load_far_pointer),
    Row::plain(Mnemonic::Les, load_far_pointer),
    Row::plain(Mnemonic::Lss, load_far_pointer).ends_block(),
    Row::plain(Mnemonic::Lfs, load_far_pointer),
    Row::plain(Mnemonic::Lgs, load_far_pointer),
    Row::plain(Mnemonic::Rdfsbase, read_base).needs(Feature::FsGsBase),
    Row::plain(Mnemonic::Rdgsbase, read_base).needs(Feature::FsGsBase),
    Row::plain(Mnemonic::Wrfsbase, write_base).needs(Feature::FsGsBase),
    Row::plain(Mnemonic::Wrgsbase, write_base).needs(Feature::FsGsBase),
    Row::plain(Mnemonic::Swapgs, swapgs)
        .needs(Feature::LongMode)
        .privileged(),
];

/// The forms of MOV with a segment register. One that writes SS ends its block.
pub fn choose_mov(iced: &Instruction) -> Option<ExecFn> {
    match iced.code() {
        Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => Some(mov_from),
        Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16 => {
            (iced.op0_register() != Register::CS).then_some(mov_to)
        }
        _ => None,
    }
}

/// PUSH and POP of segment registers; POP SS ends its block.
pub fn choose_stack(iced: &Instruction) -> Option<ExecFn> {
    iced.op0_register()
        .is_segment_register()
        .then_some(if iced.mnemonic() == Mnemonic::Push {
            push as ExecFn
        } else {
            pop
        })
}

/// MOV r/m, Sreg: memory gets 16 bits, a wider register the selector zero-extended.
fn mov_from(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let selector = u64::from(v.cpu.segs[usize::from(insn.r[1])].selector);
    if insn.is_mem(0) {
        return v.write::<W16>(insn, 0, selector);
    }
    match insn.iced_code() {
        Code::Mov_rm16_Sreg => v.set::<W16>(insn.r[0], selector),
        Code::Mov_r32m16_Sreg => v.set::<D>(insn.r[0], selector),
        _ => v.set::<Q>(insn.r[0], selector),
    }
    Ok(())
}

/// MOV Sreg, r/m. After a load of SS, interrupts and debug traps wait for one instruction.
fn mov_to(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let selector = v.read::<W16>(insn, 1)? as u16;
    load(v, insn, insn.r[0].into(), selector, true)
}

/// Loads a segment register. A load of SS ends its block; of the others, one that changes what decoding depends on.
fn load(
    v: &mut Vcpu,
    insn: &Insn,
    seg: usize,
    selector: u16,
    shadow: bool,
) -> Result<(), Exception> {
    let key = v.mode_key;
    v.load_segment(seg, selector)?;
    if v.mode_key != key {
        v.cut_block(insn.number);
    }
    if seg == SegmentRegister::SS && shadow {
        v.cpu.shadow |= 2;
        v.update_mode();
    }
    Ok(())
}

fn stack_size(insn: &Insn) -> u8 {
    match insn.iced_code() {
        Code::Pushq_FS | Code::Pushq_GS | Code::Popq_FS | Code::Popq_GS => 8,
        Code::Pushd_ES
        | Code::Pushd_CS
        | Code::Pushd_SS
        | Code::Pushd_DS
        | Code::Pushd_FS
        | Code::Pushd_GS
        | Code::Popd_ES
        | Code::Popd_SS
        | Code::Popd_DS
        | Code::Popd_FS
        | Code::Popd_GS => 4,
        _ => 2,
    }
}

/// PUSH Sreg. With a 32-bit operand only 16 bits are written, as SDM vol. 2B says of all recent
/// processors; the upper half of the slot keeps what it held.
fn push(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let selector = u64::from(v.cpu.segs[usize::from(insn.r[0])].selector);
    match stack_size(insn) {
        2 => v.push_value::<W16>(selector),
        4 => {
            let sp = v.cpu.regs[Reg::RSP].wrapping_sub(4) & v.sp_mask;
            v.store_seg::<W16>(SegmentRegister::SS, sp, selector)?;
            v.set_sp(sp);
            Ok(())
        }
        _ => v.push_value::<Q>(selector),
    }
}

/// POP Sreg.
fn pop(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let sp = v.cpu.regs[Reg::RSP];
    let mask = v.sp_mask;
    let selector = peek(v, sp, 2)? as u16;
    load(v, insn, insn.r[0].into(), selector, true)?;
    // The stack that was popped decides how wide its pointer is.
    let after = sp.wrapping_add(stack_size(insn).into());
    v.cpu.regs[Reg::RSP] = merge_sp(sp, after, mask);
    Ok(())
}

/// LDS, LES, LSS, LFS, LGS.
fn load_far_pointer(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    use Code::*;
    let size = match insn.iced_code() {
        Les_r16_m1616 | Lds_r16_m1616 | Lss_r16_m1616 | Lfs_r16_m1616 | Lgs_r16_m1616 => 2,
        Lss_r64_m1664 | Lfs_r64_m1664 | Lgs_r64_m1664 => 8,
        _ => 4,
    };
    let seg = match insn.iced_code().mnemonic() {
        Mnemonic::Lds => SegmentRegister::DS,
        Mnemonic::Les => SegmentRegister::ES,
        Mnemonic::Lss => SegmentRegister::SS,
        Mnemonic::Lfs => SegmentRegister::FS,
        _ => SegmentRegister::GS,
    };
    let (selector, offset) = load_pointer(v, insn, size)?;
    load(v, insn, seg, selector, false)?;
    match size {
        2 => v.set::<W16>(insn.r[0], offset),
        4 => v.set::<D>(insn.r[0], offset),
        _ => v.set::<Q>(insn.r[0], offset),
    }
    Ok(())
}

fn base_register(v: &Vcpu, insn: &Insn) -> Result<usize, Exception> {
    if v.cpu.cr4 & control::CR4_FSGSBASE == 0 || v.cpu.mode() != Mode::Long {
        return Err(Exception::InvalidOpcode);
    }
    match insn.iced_code().mnemonic() {
        Mnemonic::Rdfsbase | Mnemonic::Wrfsbase => Ok(SegmentRegister::FS),
        _ => Ok(SegmentRegister::GS),
    }
}

/// RDFSBASE, RDGSBASE.
fn read_base(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let seg = base_register(v, insn)?;
    let base = v.cpu.segs[seg].base;
    if insn.op_size == 8 {
        v.set::<Q>(insn.r[0], base);
    } else {
        v.set::<D>(insn.r[0], base);
    }
    Ok(())
}

/// WRFSBASE, WRGSBASE.
fn write_base(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let seg = base_register(v, insn)?;
    let base = if insn.op_size == 8 {
        v.get::<Q>(insn.r[0])
    } else {
        v.get::<D>(insn.r[0])
    };
    if !is_canonical(base) {
        return Err(Exception::gp(0));
    }
    v.set_segment_base(seg, base);
    Ok(())
}

impl Vcpu {
    /// Writes the base of FS or GS only, as WRFSBASE, SWAPGS and WRMSR do.
    pub(crate) fn set_segment_base(&mut self, seg: usize, base: u64) {
        self.cpu.segs[seg].base = base;
        self.cpu.seg_base[seg] = base;
    }
}

/// SWAPGS: exists in 64-bit mode.
fn swapgs(v: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    let base = v.cpu.segs[SegmentRegister::GS].base;
    v.set_segment_base(SegmentRegister::GS, v.cpu.msr.kernel_gs_base);
    v.cpu.msr.kernel_gs_base = base;
    Ok(())
}
