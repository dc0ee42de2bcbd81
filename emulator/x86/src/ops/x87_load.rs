//! x87 loads and stores: FLD and the constants, FILD, FBLD, FST, FIST, FISTTP, FBSTP, FXCH,
//! FCMOVcc, FFREE. SDM vol. 2A.

use iced_x86::{Instruction, MemorySize, Mnemonic};

use super::x87::{context, note, settle, signal, stack_fault, wait};
use super::x87_arith::{Source, load_source};
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::flags::Condition;
use crate::insn::{ExecFn, Insn};
use crate::softfloat::{Context, F32, F64, F80, Rounding, flag};
use crate::table::Row;
use crate::vcpu::Vcpu;
use crate::width::{D, Q, W16, Width};

/// Pushes a value that loading may have raised flags for. Only unmasked IE stops a load.
#[inline(always)]
fn push(v: &mut Vcpu, insn: &Insn, value: F80, ctx: &Context) {
    settle(v, insn, ctx);
    if ctx.unmasked() & flag::IE == 0 {
        v.cpu.x87.push(value);
    }
}

/// Whether there is room for a push. If not, raises stack overflow, which when masked pushes the default NaN.
#[inline(always)]
fn room(v: &mut Vcpu, insn: &Insn) -> bool {
    let room = v.cpu.x87.is_empty(7);
    if !room && stack_fault(v, insn, true) {
        v.cpu.x87.push(F80::DEFAULT_NAN);
    }
    room
}

/// What FLD and FILD load from memory.
trait Loadable: Source {
    fn widen(self, ctx: &mut Context) -> F80;
}

impl Loadable for F32 {
    #[inline(always)]
    fn widen(self, ctx: &mut Context) -> F80 {
        self.to_f80(ctx)
    }
}

impl Loadable for F64 {
    #[inline(always)]
    fn widen(self, ctx: &mut Context) -> F80 {
        self.to_f80(ctx)
    }
}

impl Loadable for i16 {
    #[inline(always)]
    fn widen(self, _: &mut Context) -> F80 {
        F80::from_i64(self.into())
    }
}

impl Loadable for i32 {
    #[inline(always)]
    fn widen(self, _: &mut Context) -> F80 {
        F80::from_i64(self.into())
    }
}

impl Source for i64 {
    type Width = Q;
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        bits as i64
    }
}

impl Loadable for i64 {
    #[inline(always)]
    fn widen(self, _: &mut Context) -> F80 {
        F80::from_i64(self)
    }
}

/// FLD m32fp, m64fp; FILD.
fn load<S: Loadable>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    let source: S = load_source(v, insn)?;
    note(v, insn);
    if room(v, insn) {
        let mut ctx = context(v);
        let value = source.widen(&mut ctx);
        push(v, insn, value, &ctx);
    }
    Ok(())
}

/// Ten bytes from the memory operand.
fn load_ten(v: &mut Vcpu, insn: &Insn) -> Result<[u8; 10], Exception> {
    let offset = v.effective_address(insn);
    let lin = v.operand_linear(insn, offset, 10, false)?;
    let low = v.load_linear::<Q>(insn, lin)?;
    let high = v.load_linear::<W16>(insn, lin.wrapping_add(8) & v.linear_mask())?;
    Ok(F80::new(high as u16, low).to_bytes())
}

/// Ten bytes to the memory operand; all or nothing.
fn store_ten(v: &mut Vcpu, insn: &Insn, bytes: [u8; 10]) -> Result<(), Exception> {
    let F80 { sig, sign_exp } = F80::from_bytes(bytes);
    let offset = v.effective_address(insn);
    let lin = v.operand_linear(insn, offset, 10, true)?;
    if lin & 0xFFF > 0x1000 - 10 {
        v.touch(insn.seg_written, lin, 10, true)?;
    }
    v.store_linear::<Q>(insn, lin, sig)?;
    v.store_linear::<W16>(insn, lin.wrapping_add(8) & v.linear_mask(), sign_exp.into())
}

/// FLD m80fp, and FBLD when `DECIMAL`.
fn load_extended<const DECIMAL: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    let bytes = load_ten(v, insn)?;
    note(v, insn);
    if room(v, insn) {
        let value = if DECIMAL {
            F80::from_bcd(bytes)
        } else {
            F80::from_bytes(bytes)
        };
        push(v, insn, value, &Context::default());
    }
    Ok(())
}

/// FLD ST(i).
fn fld_register(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    if v.cpu.x87.is_empty(insn.r[0]) {
        if stack_fault(v, insn, false) {
            v.cpu.x87.push(F80::DEFAULT_NAN);
        }
    } else if room(v, insn) {
        let value = v.cpu.x87.get(insn.r[0]);
        push(v, insn, value, &Context::default());
    }
    Ok(())
}

fn choose_fld(insn: &Instruction) -> Option<ExecFn> {
    Some(match insn.memory_size() {
        MemorySize::Float32 => load::<F32>,
        MemorySize::Float64 => load::<F64>,
        MemorySize::Float80 => load_extended::<false>,
        _ => fld_register,
    })
}

fn choose_fild(insn: &Instruction) -> Option<ExecFn> {
    Some(match insn.memory_size() {
        MemorySize::Int16 => load::<i16>,
        MemorySize::Int32 => load::<i32>,
        _ => load::<i64>,
    })
}

/// The constants of FLD1 and its kin: exponent, significand truncated, and whether nearest is one more.
/// Without exception PE, they are rounded by rounding control (SDM vol. 1 §8.3.4).
const CONSTANTS: [(u16, u64, bool, bool); 7] = [
    (0x3FFF, 0x8000_0000_0000_0000, false, true),
    (0x4000, 0xD49A_784B_CD1B_8AFE, false, false),
    (0x3FFF, 0xB8AA_3B29_5C17_F0BB, true, false),
    (0x4000, 0xC90F_DAA2_2168_C234, true, false),
    (0x3FFD, 0x9A20_9A84_FBCF_F798, true, false),
    (0x3FFE, 0xB172_17F7_D1CF_79AB, true, false),
    (0, 0, false, true),
];

/// FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ by `N`.
fn load_constant<const N: usize>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    if room(v, insn) {
        let (exponent, truncated, nearest_up, exact) = CONSTANTS[N];
        let up = match context(v).rounding {
            _ if exact => false,
            Rounding::Nearest => nearest_up,
            Rounding::Up => true,
            Rounding::Down | Rounding::Zero => false,
        };
        push(
            v,
            insn,
            F80::new(exponent, truncated + u64::from(up)),
            &Context::default(),
        );
    }
    Ok(())
}

/// What FST, FIST and FISTTP store, as bits.
trait Store {
    type Width: Width;
    /// What is stored for an empty register.
    const INDEFINITE: u64;
    /// Unmasked exceptions that keep the value from being stored.
    const STOPPED_BY: u8;
    fn convert(value: F80, ctx: &mut Context) -> u64;
}

struct Single;
struct Double;
struct Int16<const TRUNCATE: bool>;
struct Int32<const TRUNCATE: bool>;
struct Int64<const TRUNCATE: bool>;

impl Store for Single {
    type Width = D;
    const INDEFINITE: u64 = F32::DEFAULT_NAN.0 as u64;
    const STOPPED_BY: u8 = flag::IE | flag::OE | flag::UE;
    fn convert(value: F80, ctx: &mut Context) -> u64 {
        value.to_f32(ctx).0.into()
    }
}

impl Store for Double {
    type Width = Q;
    const INDEFINITE: u64 = F64::DEFAULT_NAN.0;
    const STOPPED_BY: u8 = flag::IE | flag::OE | flag::UE;
    fn convert(value: F80, ctx: &mut Context) -> u64 {
        value.to_f64(ctx).0
    }
}

macro_rules! integer_store {
    ($name:ident, $width:ty, $indefinite:expr, $method:ident) => {
        impl<const TRUNCATE: bool> Store for $name<TRUNCATE> {
            type Width = $width;
            const INDEFINITE: u64 = $indefinite as u64;
            const STOPPED_BY: u8 = flag::IE;
            fn convert(value: F80, ctx: &mut Context) -> u64 {
                let rounding = if TRUNCATE {
                    Rounding::Zero
                } else {
                    ctx.rounding
                };
                value.$method(rounding, ctx) as u64
            }
        }
    };
}

integer_store!(Int16, W16, i16::MIN, to_i16);
integer_store!(Int32, D, i32::MIN, to_i32);
integer_store!(Int64, Q, i64::MIN, to_i64);

/// What a store that an unmasked exception stops still does: fault, if its target cannot be written. Processors
/// translate the address before they look at the value.
fn touch_target(v: &mut Vcpu, insn: &Insn, size: u64) -> Result<(), Exception> {
    let offset = v.effective_address(insn);
    let lin = v.operand_linear(insn, offset, size, true)?;
    v.touch_for_update(insn.seg_written, lin, size)
}

/// FST, FIST and FISTTP to memory. Memory is written before the registers change.
fn store<S: Store, const POP: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    let offset = v.effective_address(insn);
    let mut ctx = context(v);
    let empty = v.cpu.x87.is_empty(0);
    let bits = if empty {
        ctx.flags = flag::IE;
        S::INDEFINITE
    } else {
        S::convert(v.cpu.x87.get(0), &mut ctx)
    };
    let done = ctx.unmasked() & S::STOPPED_BY == 0;
    if done {
        v.store_operand::<S::Width>(insn, offset, bits)?;
    } else {
        touch_target(v, insn, S::Width::BYTES)?;
    }
    note(v, insn);
    finish_store::<POP>(v, insn, empty, done, &ctx);
    Ok(())
}

/// FSTP m80fp, and FBSTP when `DECIMAL`.
fn store_extended<const DECIMAL: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    let mut ctx = context(v);
    let empty = v.cpu.x87.is_empty(0);
    // Converting a NaN gives the decimal indefinite.
    let value = if empty {
        F80::DEFAULT_NAN
    } else {
        v.cpu.x87.get(0)
    };
    let bytes = if DECIMAL {
        value.to_bcd(&mut ctx)
    } else {
        value.to_bytes()
    };
    if empty {
        ctx.flags = flag::IE;
    }
    let done = ctx.unmasked() & flag::IE == 0;
    if done {
        store_ten(v, insn, bytes)?;
    } else {
        touch_target(v, insn, 10)?;
    }
    note(v, insn);
    finish_store::<true>(v, insn, empty, done, &ctx);
    Ok(())
}

#[inline(always)]
fn finish_store<const POP: bool>(
    v: &mut Vcpu,
    insn: &Insn,
    empty: bool,
    done: bool,
    ctx: &Context,
) {
    if empty {
        stack_fault(v, insn, false);
    } else {
        settle(v, insn, ctx);
    }
    if POP && done {
        v.cpu.x87.pop();
    }
}

/// FST ST(i), FSTP ST(i).
fn store_register<const POP: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    let value = if v.cpu.x87.is_empty(0) {
        if !stack_fault(v, insn, false) {
            return Ok(());
        }
        F80::DEFAULT_NAN
    } else {
        signal(v, insn, 0, false);
        v.cpu.x87.get(0)
    };
    v.cpu.x87.set(insn.r[0], value);
    if POP {
        v.cpu.x87.pop();
    }
    Ok(())
}

/// FSTPNCE, an alias of FSTP ST(i) that does not complain of an empty ST(0): it then just pops.
fn fstpnce(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    signal(v, insn, 0, false);
    if !v.cpu.x87.is_empty(0) {
        let value = v.cpu.x87.get(0);
        v.cpu.x87.set(insn.r[0], value);
    }
    v.cpu.x87.pop();
    Ok(())
}

fn choose_fst<const POP: bool>(insn: &Instruction) -> Option<ExecFn> {
    Some(match insn.memory_size() {
        MemorySize::Float32 => store::<Single, POP>,
        MemorySize::Float64 => store::<Double, POP>,
        MemorySize::Float80 => store_extended::<false>,
        _ => store_register::<POP>,
    })
}

fn choose_fist<const TRUNCATE: bool, const POP: bool>(insn: &Instruction) -> Option<ExecFn> {
    Some(match insn.memory_size() {
        MemorySize::Int16 => store::<Int16<TRUNCATE>, POP>,
        MemorySize::Int32 => store::<Int32<TRUNCATE>, POP>,
        _ => store::<Int64<TRUNCATE>, POP>,
    })
}

/// FXCH. With stack underflow masked, what is empty takes part as the default NaN.
fn fxch(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    let i = insn.r[1];
    if v.cpu.x87.is_empty(0) || v.cpu.x87.is_empty(i) {
        if !stack_fault(v, insn, false) {
            return Ok(());
        }
        for n in [0, i] {
            if v.cpu.x87.is_empty(n) {
                v.cpu.x87.set(n, F80::DEFAULT_NAN);
            }
        }
    } else {
        signal(v, insn, 0, false);
    }
    let (a, b) = (v.cpu.x87.get(0), v.cpu.x87.get(i));
    v.cpu.x87.set(0, b);
    v.cpu.x87.set(i, a);
    Ok(())
}

/// FCMOVcc by the number of the condition.
fn fcmov<const CONDITION: usize>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    if v.cpu.x87.is_empty(0) || v.cpu.x87.is_empty(insn.r[1]) {
        if stack_fault(v, insn, false) {
            v.cpu.x87.set(0, F80::DEFAULT_NAN);
        }
    } else if Condition::ALL[CONDITION].holds(&v.cpu.lazy, v.cpu.rflags) {
        let value = v.cpu.x87.get(insn.r[1]);
        v.cpu.x87.set(0, value);
    }
    Ok(())
}

/// FFREE, and FFREEP when `POP`.
fn ffree<const POP: bool>(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    signal(v, insn, 0, false);
    v.cpu.x87.free(insn.r[0]);
    if POP {
        v.cpu.x87.pop();
    }
    Ok(())
}

const fn plain(mnemonic: Mnemonic, exec: ExecFn) -> Row {
    Row::plain(mnemonic, exec).needs(Feature::X87)
}

const fn forms(mnemonic: Mnemonic, choose: fn(&Instruction) -> Option<ExecFn>) -> Row {
    Row::choose(mnemonic, choose).needs(Feature::X87)
}

/// Rows.
pub const ROWS: &[Row] = &[
    forms(Mnemonic::Fld, choose_fld),
    forms(Mnemonic::Fild, choose_fild),
    plain(Mnemonic::Fbld, load_extended::<true>),
    plain(Mnemonic::Fld1, load_constant::<0>),
    plain(Mnemonic::Fldl2t, load_constant::<1>),
    plain(Mnemonic::Fldl2e, load_constant::<2>),
    plain(Mnemonic::Fldpi, load_constant::<3>),
    plain(Mnemonic::Fldlg2, load_constant::<4>),
    plain(Mnemonic::Fldln2, load_constant::<5>),
    plain(Mnemonic::Fldz, load_constant::<6>),
    forms(Mnemonic::Fst, choose_fst::<false>),
    forms(Mnemonic::Fstp, choose_fst::<true>),
    plain(Mnemonic::Fstpnce, fstpnce),
    forms(Mnemonic::Fist, choose_fist::<false, false>),
    forms(Mnemonic::Fistp, choose_fist::<false, true>),
    forms(Mnemonic::Fisttp, choose_fist::<true, true>).needs(Feature::Sse3),
    plain(Mnemonic::Fbstp, store_extended::<true>),
    plain(Mnemonic::Fxch, fxch),
    plain(Mnemonic::Fcmovb, fcmov::<{ Condition::B as usize }>).needs(Feature::Cmov),
    plain(Mnemonic::Fcmove, fcmov::<{ Condition::E as usize }>).needs(Feature::Cmov),
    plain(Mnemonic::Fcmovbe, fcmov::<{ Condition::Be as usize }>).needs(Feature::Cmov),
    plain(Mnemonic::Fcmovu, fcmov::<{ Condition::P as usize }>).needs(Feature::Cmov),
    plain(Mnemonic::Fcmovnb, fcmov::<{ Condition::Ae as usize }>).needs(Feature::Cmov),
    plain(Mnemonic::Fcmovne, fcmov::<{ Condition::Ne as usize }>).needs(Feature::Cmov),
    plain(Mnemonic::Fcmovnbe, fcmov::<{ Condition::A as usize }>).needs(Feature::Cmov),
    plain(Mnemonic::Fcmovnu, fcmov::<{ Condition::Np as usize }>).needs(Feature::Cmov),
    plain(Mnemonic::Ffree, ffree::<false>),
    plain(Mnemonic::Ffreep, ffree::<true>),
];
