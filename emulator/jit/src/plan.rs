//! What is to become of each instruction of a block, and who looks at the flags.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register, RflagsBits};
use x86::Insn;
use x86::insn::flag;
use x86::table::{self, Native};

/// The template of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its full handler is called.
    Call,
    /// Nothing happens.
    Nothing,
    /// The same instruction, registers renamed, memory operand replaced.
    Same,
    /// The same, on vector registers.
    Vector,
    Lea,
    Push,
    Pop,
    Leave,
    /// Shifts and rotates by a constant, the register being operand 0.
    ShiftBy(u8),
    /// Shifts by CL.
    ShiftByCl,
    /// IMUL with two or three operands.
    MultiplyInto,
    /// MUL and IMUL with one operand.
    Multiply,
    Divide,
    /// BSF and BSR.
    Scan,
    /// TZCNT and LZCNT.
    Count,
    /// ANDN, BLSI, BLSMSK, BLSR, BZHI, BEXTR.
    Extract,
    /// MULX.
    MultiplyTwice,
    /// CBW, CWDE, CDQE, CWD, CDQ, CQO.
    Extend,
    CompareExchange,
    Jump,
    JumpIf,
    JumpTo,
    CallNear,
    CallTo,
    Return,
}

/// An instruction with its template.
pub struct Step {
    pub iced: Instruction,
    pub kind: Kind,
    /// It has a memory operand, of so many bytes.
    pub memory: u64,
    /// That is written.
    pub writes_memory: bool,
    /// It looks at the arithmetic flags, or changes some and leaves others.
    pub reads: bool,
    /// It sets all of them.
    pub kills: bool,
    /// Somebody may look at the flags that it leaves.
    pub live_after: bool,
    /// An instruction of the block does, before they are set anew.
    pub read_after: bool,
    /// So many of those that access memory come before the flags are set anew.
    pub accesses_after: u32,
    /// It is the first on vector registers, which may be barred: then the interpreter goes on from it.
    pub fetches: bool,
}

const ARITH: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// The width of operand 0 in bits.
pub fn bits(iced: &Instruction) -> u32 {
    x86::undefined::operand_bits(iced)
}

/// Decodes a block anew and finds a template for each instruction.
pub fn plan(code: &[u8], insns: &[Insn], long: bool, counts: [bool; 2]) -> Vec<Step> {
    let bitness = if long { 64 } else { 32 };
    let mut steps: Vec<Step> = insns
        .iter()
        .map(|insn| {
            let bytes = &code[usize::from(insn.start())..usize::from(insn.end)];
            let mut iced = Instruction::default();
            let options = iced_x86::DecoderOptions::FORCE_RESERVED_NOP;
            iced_x86::Decoder::with_ip(bitness, bytes, insn.start().into(), options)
                .decode_out(&mut iced);
            step(iced, insn, long, counts)
        })
        .collect();
    let mut fetched = false;
    for step in &mut steps {
        step.fetches = step.kind == Kind::Vector && !fetched;
        fetched = step.kind != Kind::Call && (fetched || step.fetches);
    }
    let (mut live, mut read, mut accesses) = (true, false, 0);
    for step in steps.iter_mut().rev() {
        (step.live_after, step.read_after, step.accesses_after) = (live, read, accesses);
        if step.kills {
            (live, read, accesses) = (false, false, 0);
        }
        if step.reads {
            (live, read) = (true, true);
        }
        if step.kind == Kind::Call {
            (live, read, accesses) = (true, false, 0);
        } else if step.may_stop() {
            live = true;
            accesses += 1;
        }
        live |= step.fetches;
    }
    steps
}

impl Step {
    /// A slow path, on which the flags are looked at, may begin before it does anything.
    fn may_stop(&self) -> bool {
        use Kind::*;
        self.memory != 0
            || matches!(
                self.kind,
                Push | Pop | Leave | Divide | JumpTo | CallNear | CallTo | Return | Jump | JumpIf
            )
    }
}

fn step(mut iced: Instruction, insn: &Insn, long: bool, counts: [bool; 2]) -> Step {
    let kind = if insn.code == iced.code() as u16 {
        kind(&iced, insn, long, counts)
    } else {
        // The model lacks it, or the decoder had to look twice.
        Kind::Call
    };
    if matches!(kind, Kind::Same | Kind::ShiftBy(_)) {
        generalize(&mut iced);
    }
    let has_memory = insn.mem_op != x86::insn::NO_OPERAND
        && !matches!(kind, Kind::Call | Kind::Lea | Kind::Nothing);
    let (read, modified) = (iced.rflags_read() & ARITH, iced.rflags_modified() & ARITH);
    // The flags that the manual leaves undefined stay; by a constant count of 0 all do.
    let leaves = matches!(kind, Kind::Divide | Kind::ShiftBy(0));
    let modified = if kind == Kind::Scan { ARITH } else { modified };
    let keeps_some = modified != 0 && modified != ARITH || kind == Kind::Count;
    // By a count of 0 a shift leaves them.
    let reads = kind == Kind::Call
        || kind == Kind::ShiftByCl
        || read != 0
        || keeps_some && kind != Kind::Nothing;
    Step {
        memory: if has_memory {
            u64::from(insn.op_size).max(1)
        } else {
            0
        },
        writes_memory: has_memory && insn.mem_op == 0 && writes_first(iced.mnemonic())
            || has_memory && iced.mnemonic() == Mnemonic::Xchg,
        reads: reads && !leaves,
        kills: modified == ARITH && !reads && !leaves,
        kind,
        iced,
        live_after: true,
        read_after: true,
        accesses_after: 0,
        fetches: false,
    }
}

/// Whether operand 0 is written, of the instructions that become the same.
pub fn writes_first(mnemonic: Mnemonic) -> bool {
    !matches!(
        mnemonic,
        Mnemonic::Cmp
            | Mnemonic::Test
            | Mnemonic::Bt
            | Mnemonic::Push
            | Mnemonic::Mul
            | Mnemonic::Imul
            | Mnemonic::Div
            | Mnemonic::Idiv
            | Mnemonic::Jmp
            | Mnemonic::Call
    )
}

/// Whether AH, CH, DH or BH is among the operands.
pub fn has_high_byte(iced: &Instruction) -> bool {
    (0..iced.op_count()).any(|n| is_high_byte(iced.op_register(n)))
}

/// Whether it is AH, CH, DH or BH.
pub fn is_high_byte(register: Register) -> bool {
    matches!(
        register,
        Register::AH | Register::CH | Register::DH | Register::BH
    )
}

fn kind(iced: &Instruction, insn: &Insn, long: bool, counts: [bool; 2]) -> Kind {
    use Mnemonic as M;
    let Some(row) = table::row(iced.mnemonic()) else {
        return Kind::Call;
    };
    // Their rows are those of the string instructions of the same names.
    let shared = matches!(iced.mnemonic(), M::Movsd | M::Cmpsd) && is_vector(iced);
    if row.native_form(iced) == Native::Call && !shared || row.privileged {
        return Kind::Call;
    }
    let memory = insn.mem_op != x86::insn::NO_OPERAND;
    let checked = insn.has(flag::SEG_CHECK)
        && !matches!(
            usize::from(insn.seg),
            x86::SegmentRegister::FS | x86::SegmentRegister::GS
        );
    if memory && (checked || insn.addr_mask == 0xFFFF) && iced.mnemonic() != M::Nop {
        return Kind::Call;
    }
    if has_high_byte(iced) {
        return match iced.mnemonic() {
            M::Mov
            | M::Movzx
            | M::Movsx
            | M::Add
            | M::Sub
            | M::And
            | M::Or
            | M::Xor
            | M::Cmp
            | M::Test
            | M::Inc
            | M::Dec => Kind::Same,
            _ => Kind::Call,
        };
    }
    if is_vector(iced) {
        return Kind::Vector;
    }
    let width = bits(iced);
    let wide = width == 32 || width == 64;
    let register = iced.op0_kind() == OpKind::Register;
    match iced.mnemonic() {
        M::Nop | M::Endbr32 | M::Endbr64 | M::Reservednop => Kind::Nothing,
        M::Lea if wide && insn.addr_mask != 0xFFFF => Kind::Lea,
        M::Mov
        | M::Movzx
        | M::Movsx
        | M::Movsxd
        | M::Add
        | M::Sub
        | M::Adc
        | M::Sbb
        | M::And
        | M::Or
        | M::Xor
        | M::Cmp
        | M::Test
        | M::Inc
        | M::Dec
        | M::Neg
        | M::Not => Kind::Same,
        M::Xchg | M::Xadd | M::Movnti => Kind::Same,
        M::Bswap if wide => Kind::Same,
        M::Movbe if std::is_x86_feature_detected!("movbe") => Kind::Same,
        // In real mode, flat as it may be, what is encoded with VEX is undefined.
        M::Rorx | M::Shlx | M::Shrx | M::Sarx | M::Pdep | M::Pext if long && !memory => Kind::Same,
        M::Mulx if long => Kind::MultiplyTwice,
        M::Andn | M::Blsi | M::Blsmsk | M::Blsr | M::Bzhi | M::Bextr
            if long && !memory && std::is_x86_feature_detected!("bmi1") =>
        {
            Kind::Extract
        }
        M::Adcx | M::Adox if std::is_x86_feature_detected!("adx") => Kind::Same,
        M::Popcnt if wide && std::is_x86_feature_detected!("popcnt") => Kind::Same,
        M::Crc32 if std::is_x86_feature_detected!("sse4.2") => Kind::Same,
        M::Tzcnt if wide && !counts[0] => Kind::Scan,
        M::Lzcnt if wide && !counts[1] => Kind::Scan,
        M::Tzcnt if wide && std::is_x86_feature_detected!("bmi1") => Kind::Count,
        M::Lzcnt if wide && std::is_x86_feature_detected!("lzcnt") => Kind::Count,
        M::Bt | M::Bts | M::Btr | M::Btc
            if wide && (!memory || iced.op1_kind() != OpKind::Register) =>
        {
            Kind::Same
        }
        _ if row.condition.is_some() && !iced.is_jcc_short_or_near() => Kind::Same,
        M::Push | M::Pop => stack(iced, long),
        M::Leave if long == (iced.code() == Code::Leaveq) && iced.code() != Code::Leavew => {
            Kind::Leave
        }
        M::Rol | M::Ror | M::Shl | M::Sal | M::Shr | M::Sar if wide && register => {
            match iced.op1_kind() {
                OpKind::Register => match iced.mnemonic() {
                    M::Rol | M::Ror => Kind::Call,
                    _ => Kind::ShiftByCl,
                },
                _ => Kind::ShiftBy((insn.imm as u32 & (width - 1)) as u8),
            }
        }
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror
            if register
                && iced.op1_kind() != OpKind::Register
                && (1..width).contains(&(insn.imm as u32 & 31)) =>
        {
            Kind::ShiftBy(insn.imm as u8 & 31)
        }
        M::Imul if wide && iced.op_count() > 1 => Kind::MultiplyInto,
        M::Imul | M::Mul if wide => Kind::Multiply,
        M::Div | M::Idiv if wide => Kind::Divide,
        M::Bsf | M::Bsr if wide => Kind::Scan,
        M::Cbw | M::Cwde | M::Cdqe | M::Cdq | M::Cqo => Kind::Extend,
        M::Cmpxchg if wide && memory => Kind::CompareExchange,
        _ => branch(iced, long),
    }
}

/// Whether it is an instruction on vector registers which the host has, and whose operands all are in registers of
/// its own kind or general ones.
fn is_vector(iced: &Instruction) -> bool {
    use Mnemonic as M;
    let registers = (0..iced.op_count())
        .filter(|&n| iced.op_kind(n) == OpKind::Register)
        .map(|n| iced.op_register(n));
    let (mut vectors, mut others) = (0, 0);
    for register in registers {
        if register.is_xmm() {
            vectors += 1;
        } else if !register.is_gpr32() && !register.is_gpr64() {
            others += 1;
        }
    }
    let implied = matches!(
        iced.mnemonic(),
        M::Maskmovdqu
            | M::Pcmpistri
            | M::Pcmpistrm
            | M::Pcmpestri
            | M::Pcmpestri64
            | M::Pcmpestrm
            | M::Pcmpestrm64
            // Its operand in memory belongs to the x87 state.
            | M::Cvtpi2ps
            | M::Cvtpi2pd
    );
    vectors > 0 && others == 0 && !implied && host_has(iced)
}

/// Whether the host's processor has what the instruction needs.
fn host_has(iced: &Instruction) -> bool {
    use iced_x86::CpuidFeature as F;
    iced.cpuid_features().iter().all(|feature| match feature {
        F::SSE | F::SSE2 => true,
        F::SSE3 => std::is_x86_feature_detected!("sse3"),
        F::SSSE3 => std::is_x86_feature_detected!("ssse3"),
        F::SSE4_1 => std::is_x86_feature_detected!("sse4.1"),
        F::SSE4_2 => std::is_x86_feature_detected!("sse4.2"),
        F::AES => std::is_x86_feature_detected!("aes"),
        F::PCLMULQDQ => std::is_x86_feature_detected!("pclmulqdq"),
        _ => false,
    })
}

/// Whether the memory operand of an instruction on vector registers must be aligned (SDM vol. 1 §11.6.10.1).
pub fn wants_alignment(iced: &Instruction, bytes: u64) -> bool {
    use Mnemonic as M;
    bytes == 16
        && !matches!(
            iced.mnemonic(),
            M::Movups | M::Movupd | M::Movdqu | M::Lddqu
        )
}

fn stack(iced: &Instruction, long: bool) -> Kind {
    use Code::*;
    match (iced.code(), long) {
        (Push_r64 | Push_rm64 | Pushq_imm8 | Pushq_imm32, true)
        | (Push_r32 | Push_rm32 | Pushd_imm8 | Pushd_imm32, false) => Kind::Push,
        (Pop_r64 | Pop_rm64, true) | (Pop_r32 | Pop_rm32, false)
            if iced.op0_kind() == OpKind::Register =>
        {
            Kind::Pop
        }
        _ => Kind::Call,
    }
}

fn branch(iced: &Instruction, long: bool) -> Kind {
    use Code::*;
    let direct = iced.op0_kind()
        == if long {
            OpKind::NearBranch64
        } else {
            OpKind::NearBranch32
        };
    match (iced.code(), long) {
        _ if iced.is_jcc_short_or_near() && direct => Kind::JumpIf,
        (Jmp_rel8_64 | Jmp_rel32_64, true) | (Jmp_rel8_32 | Jmp_rel32_32, false) => Kind::Jump,
        (Call_rel32_64, true) | (Call_rel32_32, false) => Kind::CallNear,
        (Jmp_rm64, true) | (Jmp_rm32, false) => Kind::JumpTo,
        (Call_rm64, true) | (Call_rm32, false) => Kind::CallTo,
        (Retnq | Retnq_imm16, true) | (Retnd | Retnd_imm16, false) => Kind::Return,
        _ => Kind::Call,
    }
}

/// Forms that name a register by themselves become those that can name any, and those that 64-bit code lacks become
/// ones that it has.
fn generalize(iced: &mut Instruction) {
    use Code::*;
    let code = match iced.code() {
        Mov_AL_moffs8 => Mov_r8_rm8,
        Mov_AX_moffs16 => Mov_r16_rm16,
        Mov_EAX_moffs32 => Mov_r32_rm32,
        Mov_RAX_moffs64 => Mov_r64_rm64,
        Mov_moffs8_AL => Mov_rm8_r8,
        Mov_moffs16_AX => Mov_rm16_r16,
        Mov_moffs32_EAX => Mov_rm32_r32,
        Mov_moffs64_RAX => Mov_rm64_r64,
        Inc_r16 => Inc_rm16,
        Inc_r32 => Inc_rm32,
        Dec_r16 => Dec_rm16,
        Dec_r32 => Dec_rm32,
        Xchg_r16_AX => Xchg_rm16_r16,
        Xchg_r32_EAX => Xchg_rm32_r32,
        Xchg_r64_RAX => Xchg_rm64_r64,
        Add_AL_imm8 => Add_rm8_imm8,
        Add_AX_imm16 => Add_rm16_imm16,
        Add_EAX_imm32 => Add_rm32_imm32,
        Add_RAX_imm32 => Add_rm64_imm32,
        Or_AL_imm8 => Or_rm8_imm8,
        Or_AX_imm16 => Or_rm16_imm16,
        Or_EAX_imm32 => Or_rm32_imm32,
        Or_RAX_imm32 => Or_rm64_imm32,
        Adc_AL_imm8 => Adc_rm8_imm8,
        Adc_AX_imm16 => Adc_rm16_imm16,
        Adc_EAX_imm32 => Adc_rm32_imm32,
        Adc_RAX_imm32 => Adc_rm64_imm32,
        Sbb_AL_imm8 => Sbb_rm8_imm8,
        Sbb_AX_imm16 => Sbb_rm16_imm16,
        Sbb_EAX_imm32 => Sbb_rm32_imm32,
        Sbb_RAX_imm32 => Sbb_rm64_imm32,
        And_AL_imm8 => And_rm8_imm8,
        And_AX_imm16 => And_rm16_imm16,
        And_EAX_imm32 => And_rm32_imm32,
        And_RAX_imm32 => And_rm64_imm32,
        Sub_AL_imm8 => Sub_rm8_imm8,
        Sub_AX_imm16 => Sub_rm16_imm16,
        Sub_EAX_imm32 => Sub_rm32_imm32,
        Sub_RAX_imm32 => Sub_rm64_imm32,
        Xor_AL_imm8 => Xor_rm8_imm8,
        Xor_AX_imm16 => Xor_rm16_imm16,
        Xor_EAX_imm32 => Xor_rm32_imm32,
        Xor_RAX_imm32 => Xor_rm64_imm32,
        Cmp_AL_imm8 => Cmp_rm8_imm8,
        Cmp_AX_imm16 => Cmp_rm16_imm16,
        Cmp_EAX_imm32 => Cmp_rm32_imm32,
        Cmp_RAX_imm32 => Cmp_rm64_imm32,
        Test_AL_imm8 => Test_rm8_imm8,
        Test_AX_imm16 => Test_rm16_imm16,
        Test_EAX_imm32 => Test_rm32_imm32,
        Test_RAX_imm32 => Test_rm64_imm32,
        _ => return,
    };
    iced.set_code(code);
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86::cpuid::CpuModel;

    fn planned(code: &[u8]) -> Vec<Step> {
        let model = CpuModel::by_name("max").expect("the model is there");
        let insns = x86::decode::decode_all(code, 2, &model);
        plan(code, &insns, true, [true; 2])
    }

    #[test]
    fn flags_that_nobody_can_see_are_dead() {
        // shl eax, 3; mov ecx, edx; add eax, ebx
        let steps = planned(&[0xC1, 0xE0, 3, 0x89, 0xD1, 0x01, 0xD8]);
        assert!(!steps[0].live_after && steps[2].live_after);
    }

    #[test]
    fn a_fault_shows_flags() {
        // shl eax, 3; mov ecx, [rdx]; add eax, ebx
        assert!(planned(&[0xC1, 0xE0, 3, 0x8B, 0x0A, 0x01, 0xD8])[0].live_after);
        // shl eax, 3; addps xmm0, xmm1; add eax, ebx: #NM or #XM.
        assert!(planned(&[0xC1, 0xE0, 3, 0x0F, 0x58, 0xC1, 0x01, 0xD8])[0].live_after);
        // addps xmm0, xmm1; shl eax, 3; addps xmm0, xmm1; add eax, ebx: by the second no more.
        let code = [
            0x0F, 0x58, 0xC1, 0xC1, 0xE0, 3, 0x0F, 0x58, 0xC1, 0x01, 0xD8,
        ];
        let steps = planned(&code);
        assert!(steps[0].fetches && !steps[2].fetches && !steps[1].live_after);
    }
}
