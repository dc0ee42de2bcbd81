//! The interpreter: guest instructions a second, by what the guest does. Throughput is in instructions.

use benches::Guest;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Instructions in an iteration.
const BATCH: u64 = 100_000;

/// Loops without end, in flat 32-bit mode: see `benches::Guest` for the registers.
#[rustfmt::skip]
const LOOPS: &[(&str, &[u8])] = &[
    ("integer", &[
        0x01, 0xD8,                         // l: add eax, ebx
        0x31, 0xC2,                         //    xor edx, eax
        0xC1, 0xEA, 0x03,                   //    shr edx, 3
        0x8D, 0x74, 0x90, 0x03,             //    lea esi, [eax+edx*4+3]
        0x29, 0xF7,                         //    sub edi, esi
        0x43,                               //    inc ebx
        0x49,                               //    dec ecx
        0x75, 0xEF,                         //    jnz l
        0xEB, 0xED,                         //    jmp l
    ]),
    ("copy-mov", &[
        0x8B, 0x04, 0x8E,                   // l: mov eax, [esi+ecx*4]
        0x89, 0x04, 0x8F,                   //    mov [edi+ecx*4], eax
        0x41,                               //    inc ecx
        0x81, 0xE1, 0xFF, 0x3F, 0x00, 0x00, //    and ecx, 3FFFh
        0xEB, 0xF1,                         //    jmp l
    ]),
    ("copy-movups", &[
        0x0F, 0x10, 0x04, 0x0E,             // l: movups xmm0, [esi+ecx]
        0x0F, 0x11, 0x04, 0x0F,             //    movups [edi+ecx], xmm0
        0x83, 0xC1, 0x10,                   //    add ecx, 16
        0x81, 0xE1, 0xF0, 0xFF, 0x00, 0x00, //    and ecx, 0FFF0h
        0xEB, 0xED,                         //    jmp l
    ]),
    ("copy-rep-movsd", &[
        0xBE, 0x00, 0x00, 0x10, 0x00,       // l: mov esi, 100000h
        0xBF, 0x00, 0x00, 0x20, 0x00,       //    mov edi, 200000h
        0xB9, 0x00, 0x40, 0x00, 0x00,       //    mov ecx, 4000h
        0xF3, 0xA5,                         //    rep movsd
        0xEB, 0xED,                         //    jmp l
    ]),
    ("calls", &[
        0xE8, 0x07, 0x00, 0x00, 0x00,       // l: call f
        0xE8, 0x02, 0x00, 0x00, 0x00,       //    call f
        0xEB, 0xF4,                         //    jmp l
        0x55,                               // f: push ebp
        0x89, 0xE5,                         //    mov ebp, esp
        0x5D,                               //    pop ebp
        0xC3,                               //    ret
    ]),
    ("branches-unpredictable", &[
        0x69, 0xC0, 0x0D, 0x66, 0x19, 0x00, // l: imul eax, eax, 1664525
        0x05, 0x5F, 0xF3, 0x6E, 0x3C,       //    add eax, 1013904223
        0xA9, 0x00, 0x00, 0x00, 0x40,       //    test eax, 40000000h
        0x74, 0x01,                         //    jz a
        0x43,                               //    inc ebx
        0xA9, 0x00, 0x00, 0x00, 0x20,       // a: test eax, 20000000h
        0x75, 0x01,                         //    jnz b
        0x42,                               //    inc edx
        0xEB, 0xE3,                         // b: jmp l
    ]),
    ("sse2-double", &[
        0x66, 0x0F, 0x58, 0xC1,             // l: addpd xmm0, xmm1
        0x66, 0x0F, 0x59, 0xD1,             //    mulpd xmm2, xmm1
        0xF2, 0x0F, 0x59, 0xD9,             //    mulsd xmm3, xmm1
        0xF2, 0x0F, 0x58, 0xE3,             //    addsd xmm4, xmm3
        0xEB, 0xEE,                         //    jmp l
    ]),
    ("self-modifying", &[
        0xFE, 0x05, 0x07, 0x10, 0x00, 0x00, // l: inc byte [l2+1]
        0xB0, 0x00,                         // l2: mov al, 0
        0xEB, 0xF6,                         //    jmp l
    ]),
    ("data-beside-code", &[
        0xFF, 0x05, 0x00, 0x18, 0x00, 0x00, // l: inc dword [1800h]
        0x49,                               //    dec ecx
        0xEB, 0xF7,                         //    jmp l
    ]),
];

fn loops(c: &mut Criterion) {
    let mut group = c.benchmark_group("interpreter");
    group.throughput(Throughput::Elements(BATCH));
    for (name, code) in LOOPS {
        let mut guest = Guest::new(code);
        for register in 0..5 {
            let ones = u128::from(1.0f64.to_bits()) * (1 << 64 | 1);
            guest.vcpu.cpu.set_xmm(register, ones);
        }
        group.bench_function(*name, |b| b.iter(|| guest.run(BATCH)));
    }
}

/// Reads one doubleword a page, round and round `pages` pages.
fn walk(pages: u32) -> Vec<u8> {
    let mut code = vec![0x8B, 0x06]; // l: mov eax, [esi]
    code.extend([0x81, 0xC6, 0x00, 0x10, 0x00, 0x00]); // add esi, 1000h
    code.extend([0x81, 0xE6]); // and esi, ...
    code.extend(((pages - 1) << 12).to_le_bytes());
    code.extend([0xEB, 0xF0]); // jmp l
    code
}

fn tlb(c: &mut Criterion) {
    let mut group = c.benchmark_group("tlb");
    group.throughput(Throughput::Elements(BATCH));
    for (name, pages) in [("hit", 256), ("miss", 8192)] {
        let mut guest = Guest::new(&walk(pages)).with_paging();
        group.bench_function(name, |b| b.iter(|| guest.run(BATCH)));
    }
}

fn ports(c: &mut Criterion) {
    let mut group = c.benchmark_group("ports");
    group.throughput(Throughput::Elements(BATCH));
    // l: in al, 61h; jmp l. And: l: out 80h, al; jmp l.
    for (name, code) in [
        ("in", [0xE4, 0x61, 0xEB, 0xFC]),
        ("out", [0xE6, 0x80, 0xEB, 0xFC]),
    ] {
        let mut guest = Guest::with_devices(&code);
        group.bench_function(name, |b| {
            b.iter(|| {
                guest.run(BATCH);
                guest.vcpu.bus().outputs.clear();
            });
        });
    }
}

/// What lies at a page of guest-physical addresses.
fn map(c: &mut Criterion) {
    use platform::{DeviceRam, GuestMemory, Page, PhysAddr};
    let mut group = c.benchmark_group("map");
    let mut memory = GuestMemory::with_device_ram(64 << 20, &[16 << 20]).expect("a host has that");
    memory
        .add_rom(PhysAddr(0xF_0000), &[0; 0x1_0000])
        .expect("a host has that");
    memory.place(DeviceRam(0), Some(0xE000_0000));
    for (name, addr) in [
        ("low", 0x5000),
        ("rom", 0xF_1000),
        ("ram", 0x200_0000),
        ("device-ram", 0xE012_3000),
        ("nothing", 0xFEC0_0000),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| memory.page(std::hint::black_box(PhysAddr(addr))) != Page::None)
        });
    }
}

criterion_group! {
    name = group;
    config = benches::criterion();
    targets = loops, tlb, ports, map
}
criterion_main!(group);
