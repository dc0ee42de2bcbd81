//! An [`Emit`] that prints: it keeps the semantic functions honest. One that looked at a value with Rust's own `if`
//! would not compile here, and what each row does to registers, memory and flags, in which order, stands in
//! `print.golden`. `GLASSBOX_BLESS=1` writes it anew.

use std::fmt::Display;

use iced_x86::{Decoder, DecoderOptions, Instruction};

use crate::choice::{
    Addresses, Bare, Changes, Combines, Extends, Generic, Reads, ReadsVector, Visitor, by_bits,
};
use crate::cpuid::CpuModel;
use crate::decode::{Decoded, decode};
use crate::emit::{Emit, FloatOp, ShiftOp, VectorOp};
use crate::exception::Exception;
use crate::flags::{Condition, FlagOp};
use crate::insn::Insn;
use crate::ops::form::{Any, Memory};
use crate::table;
use crate::width::{B, D, Q, W16, Width};

type Done = Result<(), Exception>;

/// What has been printed: a number for each value.
#[derive(Default)]
struct Printer {
    text: Vec<String>,
    values: u32,
}

/// The number of a value. It can be copied and printed, nothing else.
#[derive(Clone, Copy)]
struct Value(u32);

impl Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Printer {
    fn value(&mut self, from: String) -> Value {
        let value = Value(self.values);
        self.values += 1;
        self.text.push(format!("{value} = {from}"));
        value
    }

    fn effect(&mut self, text: String) {
        self.text.push(text);
    }
}

macro_rules! print_values {
    ($($name:ident$(<$w:ident>)?($($arg:ident: $ty:ty),*);)*) => {
        $(
            fn $name$(<$w: Width>)?(&mut self, $($arg: $ty),*) -> Value {
                let arguments: Vec<String> = vec![$($arg.to_string()),*];
                let width: &[u32] = &[$($w::BITS)?];
                let width = width.first().map_or(String::new(), u32::to_string);
                self.value(format!("{}{width}({})", stringify!($name), arguments.join(", ")))
            }
        )*
    };
}

impl Emit for Printer {
    type Val = Value;
    type Cond = Value;
    type Vector = Value;
    type Place = Value;

    print_values! {
        add<W>(a: Value, b: Value);
        sub<W>(a: Value, b: Value);
        and(a: Value, b: Value);
        or(a: Value, b: Value);
        xor(a: Value, b: Value);
        not<W>(a: Value);
        sext<W>(a: Value);
        zext<W>(a: Value);
        byte_swap<W>(a: Value);
        mul<W>(a: Value, b: Value);
        mul_high<W>(a: Value, b: Value);
        mul_high_signed<W>(a: Value, b: Value);
        select(cond: Value, a: Value, b: Value);
        from_cond(cond: Value);
        is_zero(a: Value);
        differ(a: Value, b: Value);
        spread_sign<W>(a: Value);
        carry();
        xmm(n: u8);
        vector_low<W>(a: Value);
        vector_from(value: Value);
        vector_insert<W>(a: Value, low: Value);
        vector_high(a: Value);
        vector_insert_high(a: Value, high: Value);
        bit_mask<W>(index: Value);
        lowest_bit(a: Value);
        highest_bit(a: Value);
    }

    fn constant(&mut self, value: u64) -> Value {
        self.value(format!("{value:#x}"))
    }

    fn reg<W: Width>(&mut self, n: u8) -> Value {
        self.value(format!("r{n}.{}", W::BITS))
    }

    fn set_reg<W: Width>(&mut self, n: u8, value: Value) {
        self.effect(format!("r{n}.{} = {value}", W::BITS));
    }

    fn set_reg_if<W: Width>(&mut self, cond: Value, n: u8, value: Value) {
        self.effect(format!("if {cond} r{n}.{} = {value}", W::BITS));
    }

    fn divide<W: Width>(
        &mut self,
        high: Value,
        low: Value,
        divisor: Value,
    ) -> Result<(Value, Value), Exception> {
        let quotient = self.value(format!("{high}:{low} / {divisor} in {}", W::BITS));
        Ok((quotient, self.value("remainder".into())))
    }

    fn divide_signed<W: Width>(
        &mut self,
        high: Value,
        low: Value,
        divisor: Value,
    ) -> Result<(Value, Value), Exception> {
        let quotient = self.value(format!("{high}:{low} / {divisor} in signed {}", W::BITS));
        Ok((quotient, self.value("remainder".into())))
    }

    fn bit_address<W: Width>(&mut self, _: &Insn, address: Value, index: Value) -> Value {
        self.value(format!("bit_address{}({address}, {index})", W::BITS))
    }

    fn set_carry(&mut self, carry: Value) {
        self.effect(format!("CF = {carry}"));
    }

    fn float<O: FloatOp>(&mut self, a: Value, b: Value) -> Result<Value, Exception> {
        Ok(self.value(format!("{}({a}, {b}) by MXCSR", O::NAME)))
    }

    fn address(&mut self, _: &Insn) -> Value {
        self.value("address".into())
    }

    fn load<W: Width>(&mut self, _: &Insn, offset: Value) -> Result<Value, Exception> {
        Ok(self.value(format!("[{offset}].{}", W::BITS)))
    }

    fn store<W: Width>(&mut self, _: &Insn, offset: Value, value: Value) -> Done {
        self.effect(format!("[{offset}].{} = {value}", W::BITS));
        Ok(())
    }

    fn load_for_update<W: Width>(
        &mut self,
        _: &Insn,
        offset: Value,
    ) -> Result<(Value, Value), Exception> {
        let place = self.value(format!("writable{}({offset})", W::BITS));
        Ok((self.value(format!("[{place}]")), place))
    }

    fn store_update<W: Width>(&mut self, _: &Insn, place: Value, value: Value) {
        self.effect(format!("[{place}].{} = {value}", W::BITS));
    }

    fn push<W: Width>(&mut self, _: &Insn, value: Value) -> Done {
        self.effect(format!("push{} {value}", W::BITS));
        Ok(())
    }

    fn peek<W: Width>(&mut self, _: &Insn, depth: u64) -> Result<Value, Exception> {
        Ok(self.value(format!("[sp + {depth}].{}", W::BITS)))
    }

    fn drop_stack(&mut self, bytes: u64) {
        self.effect(format!("sp += {bytes}"));
    }

    fn shift<W: Width>(&mut self, op: ShiftOp, a: Value, count: Value) -> Value {
        self.value(format!("{op:?}{}({a}, {count}) and flags", W::BITS))
    }

    fn set_flags<W: Width>(&mut self, op: FlagOp, a: Value, b: Value, result: Value) {
        self.effect(format!("flags{} = {op:?}({a}, {b}, {result})", W::BITS));
    }

    fn set_flags_keep_carry<W: Width>(&mut self, op: FlagOp, a: Value, result: Value) {
        self.effect(format!(
            "flags{} but CF = {op:?}({a}, 1, {result})",
            W::BITS
        ));
    }

    fn set_flags_mul<W: Width>(&mut self, result: Value, overflow: Value) {
        self.effect(format!("flags{} = {result}, CF = OF = {overflow}", W::BITS));
    }

    fn condition(&mut self, condition: Condition) -> Value {
        self.value(format!("{condition:?}"))
    }

    fn next_ip(&mut self, _: &Insn) -> Value {
        self.value("next".into())
    }

    fn near_target<W: Width>(&mut self, _: &Insn) -> Value {
        self.value(format!("target{}", W::BITS))
    }

    fn check_target(&mut self, target: Value) -> Done {
        self.effect(format!("check {target}"));
        Ok(())
    }

    fn set_ip(&mut self, target: Value) {
        self.effect(format!("ip = {target}"));
    }

    fn branch<W: Width>(&mut self, _: &Insn, cond: Value) -> Done {
        self.effect(format!("ip = {cond} ? checked target{} : next", W::BITS));
        Ok(())
    }

    fn check_sse(&mut self) -> Done {
        self.effect("check SSE".into());
        Ok(())
    }

    fn set_xmm(&mut self, n: u8, value: Value) {
        self.effect(format!("xmm{n} = {value}"));
    }

    fn load_vector(&mut self, _: &Insn, offset: Value, aligned: bool) -> Result<Value, Exception> {
        let how = if aligned { "aligned" } else { "any" };
        Ok(self.value(format!("[{offset}].128 {how}")))
    }

    fn store_vector(&mut self, _: &Insn, offset: Value, value: Value, aligned: bool) -> Done {
        let how = if aligned { "aligned" } else { "any" };
        self.effect(format!("[{offset}].128 {how} = {value}"));
        Ok(())
    }

    fn vector<O: VectorOp>(&mut self, a: Value, b: Value) -> Value {
        self.value(format!("{}({a}, {b})", O::NAME))
    }
}

/// Prints the functions of a row for one instruction.
pub(crate) struct Print {
    insn: Insn,
}

impl Print {
    fn run(&self, call: fn(&mut Printer, &Insn) -> Done) -> Option<String> {
        let mut printer = Printer::default();
        call(&mut printer, &self.insn).expect("what prints raises nothing");
        Some(printer.text.join("; "))
    }
}

impl Visitor for Print {
    type Out = String;

    fn bare<F: Bare>(&self, bits: usize) -> Option<String> {
        by_bits!(F, bits, W => self.run(F::call::<Printer, W>))
    }

    fn reads<F: Reads<N>, const N: usize>(&self, bits: usize) -> Option<String> {
        by_bits!(F, bits, W => self.run(F::call::<Printer, W, Any<N>>))
    }

    fn changes<F: Changes>(&self, bits: usize) -> Option<String> {
        by_bits!(F, bits, W => self.run(F::call::<Printer, W, Any<0>>))
    }

    fn combines<F: Combines>(&self, bits: usize) -> Option<String> {
        by_bits!(F, bits, W => self.run(F::call::<Printer, W, Any<0>, Any<1>>))
    }

    fn extends<F: Extends>(&self, to: usize, from: usize) -> Option<String> {
        match from {
            8 => by_bits!(F, to, W => self.run(F::call::<Printer, W, B, Any<1>>)),
            16 => by_bits!(F, to, W => self.run(F::call::<Printer, W, W16, Any<1>>)),
            32 => by_bits!(F, to, W => self.run(F::call::<Printer, W, D, Any<1>>)),
            _ => None,
        }
    }

    fn addresses<F: Addresses>(&self, bits: usize) -> Option<String> {
        by_bits!(F, bits, W => self.run(F::call::<Printer, W, Memory>))
    }

    fn reads_vector<F: ReadsVector>(&self) -> Option<String> {
        self.run(F::call::<Printer, Any<1>>)
    }
}

/// An instruction of 64-bit code for each semantic function of each row: the first that there is, with registers if
/// there is one.
fn samples() -> Vec<(&'static Generic, Instruction, Insn)> {
    const PREFIXES: [&[u8]; 5] = [&[], &[0x66], &[0xF2], &[0xF3], &[0x48]];
    const MAPS: [&[u8]; 4] = [&[], &[0x0F], &[0x0F, 0x38], &[0x0F, 0x3A]];
    let model = CpuModel::by_name("max").expect("the largest model");
    let mut samples: Vec<(&Generic, Instruction, Insn)> = Vec::new();
    for (modrm, prefix) in [0xC1, 0x41]
        .into_iter()
        .flat_map(|m| PREFIXES.map(|p| (m, p)))
    {
        for (map, opcode) in MAPS
            .into_iter()
            .flat_map(|map| (0..=255u8).map(move |o| (map, o)))
        {
            for reg in 0..8u8 {
                let bytes = [prefix, map, &[opcode, modrm | reg << 3], &[0x12; 9]].concat();
                let iced = Decoder::new(64, &bytes, DecoderOptions::FORCE_RESERVED_NOP).decode();
                let generic = table::row(iced.mnemonic())
                    .and_then(|row| row.handler.resolve(&iced))
                    .and_then(|(_, generic)| generic);
                let Some(generic) = generic else { continue };
                let known = |(other, sample, _): &(&Generic, Instruction, Insn)| {
                    std::ptr::eq(*other, generic) && sample.mnemonic() == iced.mnemonic()
                };
                if samples.iter().any(known) {
                    continue;
                }
                if let Decoded::Insn(insn, _) = decode(&bytes, 0, 2, &model) {
                    samples.push((generic, iced, insn));
                }
            }
        }
    }
    samples
}

#[test]
fn each_semantic_function_does_what_is_written_down() {
    let mut lines: Vec<String> = samples()
        .into_iter()
        .map(|(generic, iced, insn)| {
            let text = (generic.print)(&iced, &Print { insn }).expect("the row has this form");
            format!("{:?}: {text}\n", iced.code())
        })
        .collect();
    lines.sort();
    let printed = lines.concat();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/print.golden");
    if std::env::var_os("GLASSBOX_BLESS").is_some() {
        std::fs::write(path, &printed).expect("the golden file can be written");
    }
    for (printed, golden) in printed.lines().zip(include_str!("print.golden").lines()) {
        assert_eq!(printed, golden);
    }
    assert_eq!(
        printed.lines().count(),
        include_str!("print.golden").lines().count()
    );
}
