//! Packed integers: MMX, SSE2, SSSE3, SSE4.1, SSE4.2 arithmetic. SDM vol. 2A and 2B.
//!
//! One operation serves both register files: it works on 8 bytes (MMX, in the low half of a `u128`)
//! or 16 (XMM).

use iced_x86::{Instruction, Mnemonic};

use super::vector::{Operation, choose_mmx_or_xmm, choose_shift, choose_with_immediate};
use crate::cpuid::Feature;
use crate::table::Row;

/// Applies `f` to each lane of `a` and `b`, of `N` bytes in all.
macro_rules! lanes {
    ($int:ty, $a:expr, $b:expr, $f:expr) => {{
        const STEP: usize = size_of::<$int>();
        let (a, b) = (u128::to_le_bytes($a), u128::to_le_bytes($b));
        let mut result = [0u8; 16];
        let f: fn($int, $int) -> $int = $f;
        for i in 0..16 / STEP {
            let at = i * STEP..(i + 1) * STEP;
            let mut x = [0; STEP];
            let mut y = [0; STEP];
            x.copy_from_slice(&a[at.clone()]);
            y.copy_from_slice(&b[at.clone()]);
            result[at].copy_from_slice(
                &f(<$int>::from_le_bytes(x), <$int>::from_le_bytes(y)).to_le_bytes(),
            );
        }
        u128::from_le_bytes(result)
    }};
}

/// Declares lane-wise operations.
macro_rules! lane_operations {
    ($($name:ident $int:ty, $f:expr;)*) => {
        $(
            pub(crate) struct $name;
            impl Operation for $name {
                const NAME: &str = stringify!($name);
                #[inline(always)]
                fn apply<const N: usize>(a: u128, b: u128) -> u128 {
                    lanes!($int, a, b, $f)
                }
            }
        )*
    };
}

/// Declares operations over all bytes; the lane count is `N` over the lane's size.
macro_rules! operations {
    ($($name:ident |$a:ident, $b:ident, $n:ident| $body:expr;)*) => {
        $(
            pub(crate) struct $name;
            impl Operation for $name {
                const NAME: &str = stringify!($name);
                #[inline(always)]
                fn apply<const $n: usize>($a: u128, $b: u128) -> u128 {
                    $body
                }
            }
        )*
    };
}

fn flag_lane<T: From<bool>>(set: bool) -> T {
    T::from(set)
}

lane_operations! {
    Paddb u8, u8::wrapping_add;
    Paddw u16, u16::wrapping_add;
    Paddd u32, u32::wrapping_add;
    Paddq u64, u64::wrapping_add;
    Psubb u8, u8::wrapping_sub;
    Psubw u16, u16::wrapping_sub;
    Psubd u32, u32::wrapping_sub;
    Psubq u64, u64::wrapping_sub;
    Paddsb i8, i8::saturating_add;
    Paddsw i16, i16::saturating_add;
    Paddusb u8, u8::saturating_add;
    Paddusw u16, u16::saturating_add;
    Psubsb i8, i8::saturating_sub;
    Psubsw i16, i16::saturating_sub;
    Psubusb u8, u8::saturating_sub;
    Psubusw u16, u16::saturating_sub;
    Pmullw u16, u16::wrapping_mul;
    Pmulld u32, u32::wrapping_mul;
    Pmulhw i16, |a, b| ((i32::from(a) * i32::from(b)) >> 16) as i16;
    Pmulhuw u16, |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16;
    Pmulhrsw i16, |a, b| ((((i32::from(a) * i32::from(b)) >> 14) + 1) >> 1) as i16;
    Pmuludq u64, |a, b| (a & 0xFFFF_FFFF) * (b & 0xFFFF_FFFF);
    Pmuldq i64, |a, b| i64::from(a as i32) * i64::from(b as i32);
    Pavgb u8, |a, b| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8;
    Pavgw u16, |a, b| ((u32::from(a) + u32::from(b) + 1) >> 1) as u16;
    Pminub u8, |a, b| a.min(b);
    Pmaxub u8, |a, b| a.max(b);
    Pminsw i16, |a, b| a.min(b);
    Pmaxsw i16, |a, b| a.max(b);
    Pminsb i8, |a, b| a.min(b);
    Pmaxsb i8, |a, b| a.max(b);
    Pminuw u16, |a, b| a.min(b);
    Pmaxuw u16, |a, b| a.max(b);
    Pminsd i32, |a, b| a.min(b);
    Pmaxsd i32, |a, b| a.max(b);
    Pminud u32, |a, b| a.min(b);
    Pmaxud u32, |a, b| a.max(b);
    Pand u128, |a, b| a & b;
    Pandn u128, |a, b| !a & b;
    Por u128, |a, b| a | b;
    Pxor u128, |a, b| a ^ b;
    Pcmpeqb u8, |a, b| flag_lane::<u8>(a == b).wrapping_neg();
    Pcmpeqw u16, |a, b| flag_lane::<u16>(a == b).wrapping_neg();
    Pcmpeqd u32, |a, b| flag_lane::<u32>(a == b).wrapping_neg();
    Pcmpeqq u64, |a, b| flag_lane::<u64>(a == b).wrapping_neg();
    Pcmpgtb i8, |a, b| flag_lane::<i8>(a > b).wrapping_neg();
    Pcmpgtw i16, |a, b| flag_lane::<i16>(a > b).wrapping_neg();
    Pcmpgtd i32, |a, b| flag_lane::<i32>(a > b).wrapping_neg();
    Pcmpgtq i64, |a, b| flag_lane::<i64>(a > b).wrapping_neg();
    Psignb i8, |a, b| sign(a.into(), b.into()) as i8;
    Psignw i16, |a, b| sign(a.into(), b.into()) as i16;
    Psignd i32, |a, b| sign(a.into(), b.into()) as i32;
    Pabsb i8, |_, b| b.wrapping_abs();
    Pabsw i16, |_, b| b.wrapping_abs();
    Pabsd i32, |_, b| b.wrapping_abs();
    Pmaddwd u32, |a, b| dot_words(a, b);
    Pmaddubsw u16, |a, b| dot_bytes(a, b);
}

fn sign(a: i64, b: i64) -> i64 {
    a * b.signum()
}

/// Two signed words of each operand: the sum of the products. It overflows for all four -32768 only.
fn dot_words(a: u32, b: u32) -> u32 {
    let product = |shift: u32| i32::from((a >> shift) as i16) * i32::from((b >> shift) as i16);
    product(0).wrapping_add(product(16)) as u32
}

/// Unsigned bytes of the first times signed bytes of the second, added with saturation.
fn dot_bytes(a: u16, b: u16) -> u16 {
    let product = |shift: u32| i32::from((a >> shift) as u8) * i32::from((b >> shift) as i8);
    (product(0) + product(8)).clamp(-0x8000, 0x7FFF) as u16
}

/// The lane `i` of `size` bits.
#[inline(always)]
pub(crate) fn lane(value: u128, i: usize, size: usize) -> u64 {
    let mask = if size == 64 { !0 } else { (1u64 << size) - 1 };
    (value >> (i * size)) as u64 & mask
}

/// Builds a vector from `count` lanes of `size` bits.
#[inline(always)]
pub(crate) fn build(count: usize, size: usize, mut f: impl FnMut(usize) -> u64) -> u128 {
    let mask = if size == 64 { !0 } else { (1u64 << size) - 1 };
    (0..count).fold(0, |value, i| value | u128::from(f(i) & mask) << (i * size))
}

/// A lane, sign-extended.
#[inline(always)]
fn signed(value: u128, i: usize, size: usize) -> i64 {
    (lane(value, i, size) << (64 - size)) as i64 >> (64 - size)
}

/// Interleaves the low or high lanes of `size` bits.
#[inline(always)]
fn unpack<const N: usize>(a: u128, b: u128, size: usize, high: bool) -> u128 {
    let count = N * 8 / size;
    let first = if high { count / 2 } else { 0 };
    build(count, size, |i| {
        lane(if i & 1 == 0 { a } else { b }, first + i / 2, size)
    })
}

/// Narrows the signed lanes of `size` bits of `a`, then `b`, clamping.
#[inline(always)]
fn pack<const N: usize>(a: u128, b: u128, size: usize, min: i64, max: i64) -> u128 {
    let half = N * 8 / size;
    build(2 * half, size / 2, |i| {
        let value = if i < half {
            signed(a, i, size)
        } else {
            signed(b, i - half, size)
        };
        value.clamp(min, max) as u64
    })
}

/// Adds or subtracts neighbours: the pairs of `a`, then those of `b`.
#[inline(always)]
fn horizontal<const N: usize>(a: u128, b: u128, size: usize, f: fn(i64, i64) -> i64) -> u128 {
    let count = N * 8 / size;
    build(count, size, |i| {
        let source = if i < count / 2 { a } else { b };
        let pair = 2 * (i % (count / 2));
        f(signed(source, pair, size), signed(source, pair + 1, size)) as u64
    })
}

fn saturate_word(value: i64) -> i64 {
    value.clamp(-0x8000, 0x7FFF)
}

/// A shift of each lane by the low 64 bits of the count; `fill` decides about the bits shifted in.
#[inline(always)]
fn shift_lanes<const N: usize>(
    a: u128,
    count: u128,
    size: usize,
    f: fn(i64, u64, u32) -> u64,
) -> u128 {
    let count = (count as u64).min(size as u64) as u32;
    build(N * 8 / size, size, |i| {
        f(signed(a, i, size), lane(a, i, size), count)
    })
}

fn left(_: i64, value: u64, count: u32) -> u64 {
    value.checked_shl(count).unwrap_or(0)
}

fn right(_: i64, value: u64, count: u32) -> u64 {
    value.checked_shr(count).unwrap_or(0)
}

fn right_signed(value: i64, _: u64, count: u32) -> u64 {
    (value >> count.min(63)) as u64
}

fn sum_of_differences(a: u64, b: u64) -> u64 {
    (0..8)
        .map(|i| u64::from(((a >> (8 * i)) as u8).abs_diff((b >> (8 * i)) as u8)))
        .sum()
}

operations! {
    Punpcklbw |a, b, N| unpack::<N>(a, b, 8, false);
    Punpcklwd |a, b, N| unpack::<N>(a, b, 16, false);
    Punpckldq |a, b, N| unpack::<N>(a, b, 32, false);
    Punpcklqdq |a, b, N| unpack::<N>(a, b, 64, false);
    Punpckhbw |a, b, N| unpack::<N>(a, b, 8, true);
    Punpckhwd |a, b, N| unpack::<N>(a, b, 16, true);
    Punpckhdq |a, b, N| unpack::<N>(a, b, 32, true);
    Punpckhqdq |a, b, N| unpack::<N>(a, b, 64, true);
    Packsswb |a, b, N| pack::<N>(a, b, 16, -0x80, 0x7F);
    Packssdw |a, b, N| pack::<N>(a, b, 32, -0x8000, 0x7FFF);
    Packuswb |a, b, N| pack::<N>(a, b, 16, 0, 0xFF);
    Packusdw |a, b, N| pack::<N>(a, b, 32, 0, 0xFFFF);
    Phaddw |a, b, N| horizontal::<N>(a, b, 16, |x, y| x + y);
    Phaddd |a, b, N| horizontal::<N>(a, b, 32, |x, y| x + y);
    Phaddsw |a, b, N| horizontal::<N>(a, b, 16, |x, y| saturate_word(x + y));
    Phsubw |a, b, N| horizontal::<N>(a, b, 16, |x, y| x - y);
    Phsubd |a, b, N| horizontal::<N>(a, b, 32, |x, y| x - y);
    Phsubsw |a, b, N| horizontal::<N>(a, b, 16, |x, y| saturate_word(x - y));
    Psllw |a, b, N| shift_lanes::<N>(a, b, 16, left);
    Pslld |a, b, N| shift_lanes::<N>(a, b, 32, left);
    Psllq |a, b, N| shift_lanes::<N>(a, b, 64, left);
    Psrlw |a, b, N| shift_lanes::<N>(a, b, 16, right);
    Psrld |a, b, N| shift_lanes::<N>(a, b, 32, right);
    Psrlq |a, b, N| shift_lanes::<N>(a, b, 64, right);
    Psraw |a, b, N| shift_lanes::<N>(a, b, 16, right_signed);
    Psrad |a, b, N| shift_lanes::<N>(a, b, 32, right_signed);
    Pslldq |a, b, N| if b as u64 >= N as u64 { 0 } else { a << (8 * b as u32) };
    Psrldq |a, b, N| if b as u64 >= N as u64 { 0 } else { a >> (8 * b as u32) };
    Psadbw |a, b, N| build(N / 8, 64, |i| sum_of_differences(lane(a, i, 64), lane(b, i, 64)));
    Pshufb |a, b, N| build(N, 8, |i| {
        let index = lane(b, i, 8);
        if index & 0x80 != 0 { 0 } else { lane(a, index as usize & (N - 1), 8) }
    });
    Phminposuw |_a, b, N| {
        let (value, index) = (0..N / 2).map(|i| (lane(b, i, 16), i as u64)).min().unwrap_or_default();
        u128::from(index << 16 | value)
    };
}

macro_rules! rows {
    ($choose:ident: $($name:ident)*) => {
        &[$(Row::by_form(Mnemonic::$name, |iced| $choose::<$name>(iced)).needs(Feature::Mmx)),*]
    };
}

pub(crate) const ROWS: &[Row] = rows! {
    choose_mmx_or_xmm:
    Paddb Paddw Paddd Paddq Psubb Psubw Psubd Psubq Paddsb Paddsw Paddusb Paddusw Psubsb Psubsw Psubusb Psubusw
    Pmullw Pmulld Pmulhw Pmulhuw Pmulhrsw Pmuludq Pmuldq Pavgb Pavgw Pminub Pmaxub Pminsw Pmaxsw Pminsb Pmaxsb
    Pminuw Pmaxuw Pminsd Pmaxsd Pminud Pmaxud Pand Pandn Por Pxor Pcmpeqb Pcmpeqw Pcmpeqd Pcmpeqq Pcmpgtb Pcmpgtw
    Pcmpgtd Pcmpgtq Psignb Psignw Psignd Pabsb Pabsw Pabsd Pmaddwd Pmaddubsw
    Punpcklbw Punpcklwd Punpckldq Punpcklqdq Punpckhbw Punpckhwd Punpckhdq Punpckhqdq
    Packsswb Packssdw Packuswb Packusdw Phaddw Phaddd Phaddsw Phsubw Phsubd Phsubsw
    Psadbw Pshufb Phminposuw
};

pub(crate) const SHIFT_ROWS: &[Row] = rows! {
    choose_shift: Psllw Pslld Psllq Psrlw Psrld Psrlq Psraw Psrad Pslldq Psrldq
};

/// Operations with an immediate as a third operand.
pub(crate) trait ImmediateOperation {
    /// Computes the result from the target, the source and the immediate.
    fn apply<const N: usize>(a: u128, b: u128, imm: u8) -> u128;
}

macro_rules! immediate_operations {
    ($($name:ident |$a:ident, $b:ident, $imm:ident, $n:ident| $body:expr;)*) => {
        $(
            pub(crate) struct $name;
            impl ImmediateOperation for $name {
                #[inline(always)]
                fn apply<const $n: usize>($a: u128, $b: u128, $imm: u8) -> u128 {
                    $body
                }
            }
        )*
        pub(crate) const IMMEDIATE_ROWS: &[Row] = &[
            $(Row::choose(Mnemonic::$name, |iced: &Instruction| choose_with_immediate::<$name>(iced)).needs(Feature::Mmx)),*
        ];
    };
}

/// Picks lane `imm >> 2i & 3` of four for each of four.
fn shuffle4(value: u128, size: usize, first: usize, imm: u8) -> impl Fn(usize) -> u64 {
    move |i| lane(value, first + usize::from(imm >> (2 * i) & 3), size)
}

/// Takes lane `i` from `b` where bit `i` of `imm` is set.
fn blend(a: u128, b: u128, count: usize, size: usize, imm: u8) -> u128 {
    build(count, size, |i| {
        lane(if imm >> i & 1 != 0 { b } else { a }, i, size)
    })
}

immediate_operations! {
    Pshufw |_a, b, imm, N| build(N / 2, 16, shuffle4(b, 16, 0, imm));
    Pshufd |_a, b, imm, N| build(N / 4, 32, shuffle4(b, 32, 0, imm));
    Pshuflw |_a, b, imm, N| build(N / 4, 16, shuffle4(b, 16, 0, imm)) | b >> 64 << 64;
    Pshufhw |_a, b, imm, N| build(N / 4, 16, shuffle4(b, 16, 4, imm)) << 64 | b & u128::from(u64::MAX);
    Palignr |a, b, imm, N| {
        let at = |i: usize| if i < N { lane(b, i, 8) } else if i < 2 * N { lane(a, i - N, 8) } else { 0 };
        build(N, 8, |i| at(i + usize::from(imm)))
    };
    Pblendw |a, b, imm, N| blend(a, b, N / 2, 16, imm);
    Blendps |a, b, imm, N| blend(a, b, N / 4, 32, imm);
    Blendpd |a, b, imm, N| blend(a, b, N / 8, 64, imm);
    Shufps |a, b, imm, N| build(N / 4, 32, |i| {
        lane(if i < 2 { a } else { b }, usize::from(imm >> (2 * i) & 3), 32)
    });
    Shufpd |a, b, imm, N| build(N / 8, 64, |i| lane(if i == 0 { a } else { b }, usize::from(imm >> i & 1), 64));
    Mpsadbw |a, b, imm, N| {
        let (from_a, from_b) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
        build(N / 2, 16, |i| {
            (0..4).map(|j| lane(a, from_a + i + j, 8).abs_diff(lane(b, from_b + j, 8))).sum()
        })
    };
    Pclmulqdq |a, b, imm, _N| {
        let x = lane(a, usize::from(imm & 1), 64);
        let y = u128::from(lane(b, usize::from(imm >> 4 & 1), 64));
        (0..64).filter(|i| x >> i & 1 != 0).fold(0, |sum, i| sum ^ y << i)
    };
}

macro_rules! alias_rows {
    ($($mnemonic:ident $operation:ident $feature:ident),* $(,)?) => {
        &[$(
            Row::by_form(Mnemonic::$mnemonic, |iced| choose_mmx_or_xmm::<$operation>(iced)).needs(Feature::$feature)
        ),*]
    };
}

/// The bitwise and unpacking instructions under their floating-point names: the same bits move.
pub(crate) const ALIAS_ROWS: &[Row] = alias_rows! {
    Andps Pand Sse, Andnps Pandn Sse, Orps Por Sse, Xorps Pxor Sse,
    Andpd Pand Sse2, Andnpd Pandn Sse2, Orpd Por Sse2, Xorpd Pxor Sse2,
    Unpcklps Punpckldq Sse, Unpckhps Punpckhdq Sse, Unpcklpd Punpcklqdq Sse2, Unpckhpd Punpckhqdq Sse2,
};
