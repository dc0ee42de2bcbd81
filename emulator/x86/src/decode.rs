//! From bytes to [`Insn`].

use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction, OpKind, Register};

use crate::chain;
use crate::cpu::{Reg, SegmentRegister};
use crate::cpuid::{CpuModel, Feature};
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn, NO_OPERAND, flag};
use crate::table::{self, Ends, Handler};
use crate::vcpu::Vcpu;

/// The longest instruction (SDM vol. 2A §2.3.11).
pub const MAX_LEN: usize = 15;

/// What the bytes at hand gave.
pub(crate) enum Decoded {
    /// An instruction, and how it ends its block.
    Insn(Insn, Ends),
    /// The instruction goes on behind the bytes at hand.
    Incomplete,
}

/// Decodes one instruction from `bytes`, `offset` bytes into its block, in a mode given by the
/// block's key (see `Vcpu::update_mode`).
pub(crate) fn decode(bytes: &[u8], offset: u16, mode_key: u32, model: &CpuModel) -> Decoded {
    decode_into(&mut Instruction::default(), bytes, offset, mode_key, model)
}

/// The same, and leaves the encoding in `iced`.
pub(crate) fn decode_into(
    iced: &mut Instruction,
    bytes: &[u8],
    offset: u16,
    mode_key: u32,
    model: &CpuModel,
) -> Decoded {
    let bytes = &bytes[..bytes.len().min(MAX_LEN)];
    let bitness = [16, 32, 64][(mode_key & 3) as usize];
    let mut decoder = Decoder::with_ip(
        bitness,
        bytes,
        offset.into(),
        DecoderOptions::FORCE_RESERVED_NOP,
    );
    decoder.decode_out(iced);
    if iced.code() == Code::Pause
        && mode_key & 3 == 2
        && let Some(exchange) = exchange_behind_f3(&bytes[..iced.len()])
    {
        let len = iced.len();
        return decode_into(iced, &exchange[..len], offset, mode_key, model);
    }
    match decoder.last_error() {
        DecoderError::None => {}
        DecoderError::NoMoreBytes if bytes.len() < MAX_LEN => return Decoded::Incomplete,
        DecoderError::NoMoreBytes => return fault(too_long, offset, MAX_LEN as u8),
        _ if bytes.len() == MAX_LEN && exceeds_limit(bytes, bitness) => {
            return fault(too_long, offset, MAX_LEN as u8);
        }
        _ => return fault(undefined, offset, decoder.position() as u8),
    }
    let has_form = table::form_features(iced.code()).all(|feature| model.has(feature));
    let Some(row) = table::row(iced.mnemonic()).filter(|row| has_form && model.has(row.feature))
    else {
        return fault(undefined, offset, iced.len() as u8);
    };
    let Some((exec, generic)) = row.handler.resolve(iced) else {
        return fault(undefined, offset, iced.len() as u8);
    };
    let ends = row.ends(iced);
    let mut insn = convert(iced, exec, bytes, offset, mode_key);
    if insn.scale != 0 && insn.index == Reg::ZERO as u8 && !model.has(Feature::I486) {
        // A SIB byte with a scale but no index: the i386 scales the base (hardware; its manual, 386 PRM table 17-4, has
        // these rows like those without a scale).
        std::mem::swap(&mut insn.index, &mut insn.base);
    }
    if let Some(condition) = row.condition {
        insn.imm2 = condition as u16;
    }
    if row.privileged {
        insn.exec = privileged;
        insn.fast = chain::of_full(ends);
    } else {
        insn.fast = chain::choose(generic, iced, &insn, ends, mode_key);
    }
    Decoded::Insn(insn, ends)
}

/// Decodes `code`, whole instructions, as a block of the mode `mode_key` has them: for a
/// recompiler's tests.
pub fn decode_all(code: &[u8], mode_key: u32, model: &CpuModel) -> Vec<Insn> {
    let mut insns: Vec<Insn> = Vec::new();
    let mut offset = 0;
    while offset < code.len() {
        let Decoded::Insn(mut insn, _) = decode(&code[offset..], offset as u16, mode_key, model)
        else {
            break;
        };
        insn.number = insns.len() as u16;
        offset = insn.end.into();
        insns.push(insn);
    }
    insns
}

/// F3 90 is PAUSE only without REX.B: with it, 90 is XCHG R8, RAX as ever, and F3 means nothing (hardware; SDM vol. 2B,
/// "NOP"). Gives the bytes without F3 if it is so.
fn exchange_behind_f3(bytes: &[u8]) -> Option<[u8; MAX_LEN]> {
    let rex = bytes[bytes.len().checked_sub(2)?];
    if rex & 0xF1 != 0x41 {
        return None;
    }
    let mut plain = [0; MAX_LEN];
    for (to, &from) in plain.iter_mut().zip(bytes) {
        // In its place a segment override, which 64-bit mode ignores.
        *to = if from == 0xF3 { 0x3E } else { from };
    }
    Some(plain)
}

/// Whether the instruction goes on behind its 15th byte, which is #GP, whatever else is wrong with it (SDM vol. 2A
/// §2.3.11).
///
/// iced calls such bytes invalid, like an undefined opcode, but tells what goes on behind 14 bytes. So one byte is left
/// out. There is always one without a meaning: no instruction has more than 12 bytes but for legacy prefixes, hence
/// this one has four, and only four groups of them change what is decoded.
fn exceeds_limit(bytes: &[u8], bitness: u32) -> bool {
    let rex = |byte: u8| bitness == 64 && byte & 0xF0 == 0x40;
    let prefixes = bytes
        .iter()
        .take_while(|&&byte| rex(byte) || is_legacy_prefix(byte))
        .count();
    let meaningless = (0..prefixes).find(|&n| {
        let later = |any: fn(u8) -> bool| bytes[n + 1..prefixes].iter().any(|&byte| any(byte));
        match bytes[n] {
            0x66 => later(|byte| byte == 0x66),
            0x67 => later(|byte| byte == 0x67),
            0xF2 | 0xF3 => later(|byte| matches!(byte, 0xF2 | 0xF3)),
            // A REX prefix counts in front of the opcode only.
            byte if rex(byte) => n + 1 < prefixes,
            _ => true,
        }
    });
    let Some(n) = meaningless else { return false };
    let mut rest = [0; MAX_LEN - 1];
    rest[..n].copy_from_slice(&bytes[..n]);
    rest[n..].copy_from_slice(&bytes[n + 1..]);
    let mut decoder = Decoder::new(bitness, &rest, DecoderOptions::NONE);
    let _ = decoder.decode();
    decoder.last_error() == DecoderError::NoMoreBytes
}

fn fault(exec: ExecFn, offset: u16, len: u8) -> Decoded {
    Decoded::Insn(
        Insn {
            exec,
            len,
            end: offset + u16::from(len),
            ..blank()
        },
        Ends::Branch,
    )
}

/// #UD.
pub(crate) fn undefined(_: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    Err(Exception::InvalidOpcode)
}

fn too_long(_: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    Err(Exception::gp(0))
}

/// Checks the CPL and goes on to the row's own function.
fn privileged(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    if v.cpu.cpl != 0 {
        return Err(Exception::gp(0));
    }
    match table::row(insn.iced_code().mnemonic()).map(|row| row.handler) {
        Some(Handler::Plain(exec)) => exec(v, insn),
        _ => unreachable!("privileged rows have one function for all forms"),
    }
}

/// Ends a block that was cut at its size or page limit.
pub(crate) fn fall_through(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let ip = v.next_ip(insn);
    v.set_ip(ip);
    Ok(())
}

/// Stands in for the rest of a block that was dropped while it ran: see `BlockCache`.
pub(crate) fn retry(_: &mut Vcpu, _: &Insn) -> Result<(), Exception> {
    Err(Exception::Retry)
}

/// An instruction without operands.
pub(crate) fn blank() -> Insn {
    Insn {
        fast: chain::last,
        exec: fall_through,
        imm: 0,
        disp: 0,
        addr_mask: !0,
        r: [NO_OPERAND; 4],
        base: Reg::ZERO as u8,
        index: Reg::ZERO as u8,
        scale: 0,
        seg: SegmentRegister::FLAT as u8,
        len: 0,
        op_size: 0,
        mem_op: NO_OPERAND,
        flags: 0,
        end: 0,
        number: 0,
        code: 0,
        imm2: 0,
        seg_written: SegmentRegister::DS as u8,
        attr_size: 0,
    }
}

fn convert(iced: &Instruction, exec: ExecFn, bytes: &[u8], offset: u16, mode_key: u32) -> Insn {
    let len = iced.len() as u8;
    let mut insn = Insn {
        exec,
        len,
        end: offset + u16::from(len),
        code: iced.code() as u16,
        attr_size: operand_size_attribute(bytes, mode_key),
        ..blank()
    };
    let long = mode_key & 3 == 2;
    let flat = mode_key & 4 != 0;
    for (bit, set) in [
        (flag::LOCK, iced.has_lock_prefix()),
        (flag::REP, iced.has_rep_prefix()),
        (flag::REPNE, iced.has_repne_prefix()),
        (flag::LONG, long),
        (flag::STACK_CHECK, !long && !flat),
    ] {
        if set {
            insn.flags |= bit;
        }
    }
    if let Some(opcode) = x87_opcode(bytes) {
        insn.imm2 = opcode;
    }
    let mut immediates = 0;
    for n in 0..iced.op_count().min(5) {
        match iced.op_kind(n) {
            OpKind::Register => {
                if n < 4 {
                    insn.r[n as usize] = register_number(iced.op_register(n));
                }
                if n == 0 && insn.mem_op == NO_OPERAND {
                    insn.op_size = iced.op_register(0).size() as u8;
                }
            }
            OpKind::Memory => memory_operand(&mut insn, iced, bytes, n, long, flat),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                insn.imm = iced.near_branch_target();
            }
            OpKind::FarBranch16 => {
                insn.imm = iced.far_branch16().into();
                insn.imm2 = iced.far_branch_selector();
            }
            OpKind::FarBranch32 => {
                insn.imm = iced.far_branch32().into();
                insn.imm2 = iced.far_branch_selector();
            }
            OpKind::Immediate8
            | OpKind::Immediate8_2nd
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => {
                if immediates == 0 {
                    insn.imm = iced.immediate(n);
                } else {
                    insn.imm2 = iced.immediate(n) as u16;
                }
                immediates += 1;
            }
            kind => string_operand(&mut insn, iced, n, kind, long, flat),
        }
    }
    insn
}

fn memory_operand(
    insn: &mut Insn,
    iced: &Instruction,
    bytes: &[u8],
    n: u32,
    long: bool,
    flat: bool,
) {
    insn.mem_op = n as u8;
    insn.op_size = iced.memory_size().size() as u8;
    let (base, index) = (iced.memory_base(), iced.memory_index());
    insn.disp = iced.memory_displacement64();
    insn.base = match base {
        Register::None => Reg::ZERO as u8,
        Register::RIP | Register::EIP => Reg::RIP as u8,
        base => register_number(base),
    };
    insn.index = if index == Register::None {
        Reg::ZERO as u8
    } else {
        register_number(index) & 0x1F
    };
    insn.scale = iced.memory_index_scale().trailing_zeros() as u8;
    let address_bytes = match (base, index) {
        (Register::None, Register::None) => match iced.memory_displ_size() {
            2 => 2,
            8 => 8,
            4 if long && !has_address_prefix(bytes) => 8,
            4 => 4,
            _ => 8,
        },
        (Register::None, index) => index.size(),
        (base, _) => base.size(),
    };
    insn.addr_mask = match address_bytes {
        2 => 0xFFFF,
        4 => 0xFFFF_FFFF,
        _ => !0,
    };
    let segment = match iced.memory_segment() {
        segment @ (Register::FS | Register::GS) => segment,
        // 64-bit mode ignores the other overrides; the default still decides between #SS and #GP.
        _ if long => match base.full_register() {
            Register::RSP | Register::RBP => Register::SS,
            _ => Register::DS,
        },
        segment => segment,
    };
    set_segment(insn, segment, long, flat);
}

/// Whether a byte before the opcode is a prefix of the 8086 or the 80386 (SDM vol. 2A §2.1.1).
fn is_legacy_prefix(byte: u8) -> bool {
    matches!(
        byte,
        0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3
    )
}

/// Whether there is an address-size prefix, which nothing else tells of a displacement alone.
fn has_address_prefix(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .take_while(|&&byte| byte & 0xF0 == 0x40 || is_legacy_prefix(byte))
        .any(|&byte| byte == 0x67)
}

/// Strings, XLAT and MASKMOV: the address registers are implied.
fn string_operand(
    insn: &mut Insn,
    iced: &Instruction,
    n: u32,
    kind: OpKind,
    long: bool,
    flat: bool,
) {
    use OpKind::{
        MemoryESDI, MemoryESEDI, MemoryESRDI, MemorySegDI, MemorySegEDI, MemorySegESI, MemorySegSI,
    };
    insn.addr_mask = match kind {
        MemorySegSI | MemorySegDI | MemoryESDI => 0xFFFF,
        MemorySegESI | MemorySegEDI | MemoryESEDI => 0xFFFF_FFFF,
        _ => !0,
    };
    if insn.op_size == 0 || n == 0 {
        insn.op_size = iced.memory_size().size() as u8;
    }
    // The source's segment can be overridden and is the one to note; the destination's is ES.
    if !matches!(kind, MemoryESDI | MemoryESEDI | MemoryESRDI)
        || insn.seg == SegmentRegister::FLAT as u8
    {
        let segment = if matches!(kind, MemoryESDI | MemoryESEDI | MemoryESRDI) {
            Register::ES
        } else {
            iced.memory_segment()
        };
        set_segment(insn, segment, long, flat);
    }
}

fn set_segment(insn: &mut Insn, segment: Register, long: bool, flat: bool) {
    let seg = register_number(segment);
    insn.seg_written = seg;
    let extra = segment == Register::FS || segment == Register::GS;
    if long {
        insn.seg = if extra {
            seg
        } else {
            SegmentRegister::FLAT as u8
        };
    } else if flat && !extra && segment != Register::CS {
        insn.seg = SegmentRegister::FLAT as u8;
    } else {
        insn.seg = seg;
        insn.flags |= flag::SEG_CHECK;
    }
}

/// The operand size attribute in bytes: 2, 4 or 8 (SDM vol. 1 §3.6.1).
fn operand_size_attribute(bytes: &[u8], mode_key: u32) -> u8 {
    let mut operand_prefix = false;
    let mut rex_w = false;
    for &byte in bytes {
        match byte {
            0x66 => {
                operand_prefix = true;
                rex_w = false;
            }
            0x67 | 0x2E | 0x36 | 0x3E | 0x26 | 0x64 | 0x65 | 0xF0 | 0xF2 | 0xF3 => rex_w = false,
            0x40..=0x4F if mode_key & 3 == 2 => rex_w = byte & 8 != 0,
            _ => break,
        }
    }
    match (mode_key & 3, operand_prefix) {
        _ if rex_w => 8,
        (0, false) | (1 | 2, true) => 2,
        _ => 4,
    }
}

/// What FOP shows of an x87 instruction: the low three bits of the escape byte, and the ModR/M byte
/// (SDM vol. 1 §8.1.9). `None` for any other instruction.
fn x87_opcode(bytes: &[u8]) -> Option<u16> {
    let at = bytes
        .iter()
        .position(|&byte| !is_legacy_prefix(byte) && byte & 0xF0 != 0x40)?;
    (bytes[at] & 0xF8 == 0xD8)
        .then(|| u16::from(bytes[at] & 7) << 8 | u16::from(*bytes.get(at + 1).unwrap_or(&0)))
}

/// The number of a register as [`Insn::r`] has it.
fn register_number(register: Register) -> u8 {
    use Register::*;
    match register {
        AH | CH | DH | BH => 0x20 + (register as u8 - AH as u8),
        AL | CL | DL | BL => register as u8 - AL as u8,
        SPL | BPL | SIL | DIL => register as u8 - SPL as u8 + 4,
        R8L | R9L | R10L | R11L | R12L | R13L | R14L | R15L => register as u8 - R8L as u8 + 8,
        ES | CS | SS | DS | FS | GS => register as u8 - ES as u8,
        _ => register.number() as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_behind_15_bytes_is_too_long_and_not_undefined() {
        let with_overrides = |tail: &[u8]| {
            let mut bytes = [0x2E; MAX_LEN];
            bytes[MAX_LEN - tail.len()..].copy_from_slice(tail);
            bytes
        };
        // MOVLPS lacks its ModR/M byte; UD2 is undefined, but whole.
        assert!(exceeds_limit(&with_overrides(&[0x0F, 0x12]), 64));
        assert!(exceeds_limit(&[0x66; MAX_LEN], 32));
        assert!(exceeds_limit(&[0x48; MAX_LEN], 64));
        assert!(!exceeds_limit(&with_overrides(&[0x0F, 0x0B]), 64));
        assert!(!exceeds_limit(&with_overrides(&[0x90]), 16));
    }
}
