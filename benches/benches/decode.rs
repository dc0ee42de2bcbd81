//! Decoding: instructions a second that are met for the first time, each decoded and then executed once.

use benches::Guest;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A compiler's mix of thirteen instructions in 40 bytes, without branches.
const MIX: [u8; 40] = [
    0x55, // push ebp
    0x89, 0xE5, // mov ebp, esp
    0x8B, 0x45, 0x08, // mov eax, [ebp+8]
    0x8B, 0x54, 0x8E, 0x10, // mov edx, [esi+ecx*4+16]
    0x01, 0xD0, // add eax, edx
    0x81, 0xE2, 0xFF, 0x0F, 0x00, 0x00, // and edx, 0FFFh
    0x0F, 0xB6, 0xC0, // movzx eax, al
    0x8D, 0x5C, 0x90, 0x03, // lea ebx, [eax+edx*4+3]
    0x89, 0x5F, 0x04, // mov [edi+4], ebx
    0xC1, 0xE3, 0x05, // shl ebx, 5
    0x39, 0xD8, // cmp eax, ebx
    0x0F, 0x94, 0xC0, // sete al
    0x66, 0x90, // nop
    0x5D, 0x90, // pop ebp; nop
];
const MIX_INSTRUCTIONS: u64 = 15;
const COPIES: u64 = 1000;

fn decode(c: &mut Criterion) {
    let mut code: Vec<u8> = MIX.repeat(COPIES as usize);
    code.extend([0xEB, 0xFE]);
    let mut guest = Guest::new(&code);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(MIX_INSTRUCTIONS * COPIES));
    group.bench_function("once", |b| {
        b.iter(|| {
            guest.rewrite(&code);
            guest.run(MIX_INSTRUCTIONS * COPIES);
        });
    });
    group.bench_function("known", |b| {
        b.iter(|| {
            guest.vcpu.cpu.regs[x86::Reg::RIP] = benches::CODE;
            guest.run(MIX_INSTRUCTIONS * COPIES);
        });
    });
}

criterion_group! {
    name = group;
    config = benches::criterion();
    targets = decode
}
criterion_main!(group);
