//! x87 transcendentals: FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1. SDM vol. 2A.

use iced_x86::Mnemonic;

use super::x87::{context, note, settle, stack_fault, status, wait};
use super::x87_arith::pushable;
use crate::cpuid::Feature;
use crate::exception::Exception;
use crate::insn::{ExecFn, Insn};
use crate::softfloat::{Context, F80};
use crate::table::Row;
use crate::vcpu::Vcpu;

use status::C2;

fn begin(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    wait(v)?;
    note(v, insn);
    Ok(())
}

/// A function of ST(0) in place; no result is an argument out of range, which sets C2.
fn in_place(
    v: &mut Vcpu,
    insn: &Insn,
    function: impl FnOnce(F80, &mut Context) -> Option<F80>,
) -> Result<(), Exception> {
    if v.cpu.x87.is_empty(0) {
        if stack_fault(v, insn, false) {
            v.cpu.x87.set(0, F80::DEFAULT_NAN);
        }
        return Ok(());
    }
    let (mut ctx, argument) = (context(v), v.cpu.x87.get(0));
    let value = function(argument, &mut ctx);
    settle(v, insn, &ctx);
    match value {
        None => v.cpu.x87.status |= C2,
        Some(value) if !ctx.aborts() => v.cpu.x87.set(0, value),
        Some(_) => {}
    }
    Ok(())
}

/// FSIN.
fn fsin(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    begin(v, insn)?;
    v.cpu.x87.status &= !C2;
    in_place(v, insn, F80::sin)
}

/// FCOS.
fn fcos(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    begin(v, insn)?;
    v.cpu.x87.status &= !C2;
    in_place(v, insn, F80::cos)
}

/// F2XM1.
fn f2xm1(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    begin(v, insn)?;
    in_place(v, insn, |a, ctx| Some(a.exp2_minus_1(ctx)))
}

/// FSINCOS and FPTAN: the first result replaces ST(0), the second is pushed.
fn pushing(
    v: &mut Vcpu,
    insn: &Insn,
    function: fn(F80, &mut Context) -> Option<(F80, F80)>,
) -> Result<(), Exception> {
    begin(v, insn)?;
    v.cpu.x87.status &= !C2;
    if !pushable(v, insn) {
        return Ok(());
    }
    let mut ctx = context(v);
    let values = function(v.cpu.x87.get(0), &mut ctx);
    settle(v, insn, &ctx);
    match values {
        None => v.cpu.x87.status |= C2,
        Some((replacing, pushed)) if !ctx.aborts() => {
            v.cpu.x87.set(0, replacing);
            v.cpu.x87.push(pushed);
        }
        Some(_) => {}
    }
    Ok(())
}

/// FSINCOS.
fn fsincos(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    pushing(v, insn, F80::sin_cos)
}

/// FPTAN.
fn fptan(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    pushing(v, insn, F80::tan)
}

/// A function of ST(0) and ST(1): the result replaces ST(1), and the stack is popped.
fn popping(
    v: &mut Vcpu,
    insn: &Insn,
    function: fn(F80, F80, &mut Context) -> F80,
) -> Result<(), Exception> {
    begin(v, insn)?;
    let value = if v.cpu.x87.is_empty(0) || v.cpu.x87.is_empty(1) {
        if !stack_fault(v, insn, false) {
            return Ok(());
        }
        F80::DEFAULT_NAN
    } else {
        let mut ctx = context(v);
        let value = function(v.cpu.x87.get(0), v.cpu.x87.get(1), &mut ctx);
        settle(v, insn, &ctx);
        if ctx.aborts() {
            return Ok(());
        }
        value
    };
    v.cpu.x87.set(1, value);
    v.cpu.x87.pop();
    Ok(())
}

/// FPATAN.
fn fpatan(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    popping(v, insn, |x, y, ctx| y.atan2(x, ctx))
}

/// FYL2X.
fn fyl2x(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    popping(v, insn, F80::log2_times)
}

/// FYL2XP1.
fn fyl2xp1(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    popping(v, insn, F80::log2_plus_1_times)
}

const fn plain(mnemonic: Mnemonic, exec: ExecFn) -> Row {
    Row::plain(mnemonic, exec).needs(Feature::X87)
}

/// Rows.
pub const ROWS: &[Row] = &[
    plain(Mnemonic::Fsin, fsin),
    plain(Mnemonic::Fcos, fcos),
    plain(Mnemonic::Fsincos, fsincos),
    plain(Mnemonic::Fptan, fptan),
    plain(Mnemonic::Fpatan, fpatan),
    plain(Mnemonic::F2xm1, f2xm1),
    plain(Mnemonic::Fyl2x, fyl2x),
    plain(Mnemonic::Fyl2xp1, fyl2xp1),
];
