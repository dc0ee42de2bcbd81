//! Damaged kernels: the loaders refuse them or load something, and neither panic nor ask for more
//! memory than the machine has.

use emulator::Preload;
use emulator::boot::{self, Image, KernelKind, KernelSetup, MemoryKind, Module};
use platform::testkit::Rng;

use crate::seeds::for_each_seed;

const RAM: u64 = 64 << 20;
const KINDS: [KernelKind; 4] = [
    KernelKind::Linux,
    KernelKind::Multiboot1,
    KernelKind::Multiboot2,
    KernelKind::Pvh,
];

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn bz_image() -> Vec<u8> {
    let mut file = vec![0x90; 2 * 512 + 4096];
    file[..1024].fill(0);
    file[0x1F1] = 1;
    put(&mut file, 0x1F4, &256u32.to_le_bytes());
    put(&mut file, 0x1FE, &[0x55, 0xAA, 0xEB, 0x66]);
    put(&mut file, 0x202, b"HdrS\x0F\x02");
    file[0x211] = 1;
    put(&mut file, 0x22C, &0x7FFF_FFFFu32.to_le_bytes());
    file[0x234] = 1;
    put(&mut file, 0x238, &2047u32.to_le_bytes());
    put(&mut file, 0x258, &0x100_0000u64.to_le_bytes());
    put(&mut file, 0x260, &0x80_0000u32.to_le_bytes());
    file
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An ELF file with two segments, a symbol and a string table, a PVH note and both multiboot headers.
fn elf(wide: bool) -> Vec<u8> {
    let mut file = vec![0u8; 0x2000];
    let address = |value: u64| -> Vec<u8> {
        let bytes = value.to_le_bytes();
        bytes[..if wide { 8 } else { 4 }].to_vec()
    };
    let mut header = b"\x7FELF".to_vec();
    header.extend([1 + u8::from(wide), 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    header.extend(if wide { [2, 0, 62, 0] } else { [2, 0, 3, 0] });
    header.extend(words(&[1]));
    for value in [0x10_0020, 0x100, 0x1800] {
        header.extend(address(value));
    }
    header.extend(words(&[0]));
    let sizes: [u16; 6] = match wide {
        true => [64, 56, 3, 64, 3, 2],
        false => [52, 32, 3, 40, 3, 2],
    };
    header.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
    put(&mut file, 0, &header);
    let segments = [
        (1u32, 0x400u64, 0x10_0000u64, 0x800u64, 0x1000u64),
        (1, 0xC00, 0x20_0000, 0x400, 0x400),
        (4, 0x1400, 0x30_0000, 0x20, 0x20),
    ];
    for (n, (kind, offset, at, in_file, in_memory)) in segments.into_iter().enumerate() {
        let mut entry = words(&[kind]);
        if wide {
            entry.extend(words(&[7]));
        }
        for value in [offset, at, at, in_file, in_memory] {
            entry.extend(address(value));
        }
        if !wide {
            entry.extend(words(&[7]));
        }
        entry.extend(address(4));
        put(&mut file, 0x100 + n * usize::from(sizes[1]), &entry);
    }
    for (n, (kind, offset, bytes)) in [(0u32, 0u64, 0u64), (2, 0x1500, 0x60), (3, 0x1600, 0x40)]
        .into_iter()
        .enumerate()
    {
        let mut entry = words(&[0, kind]);
        for value in [0, 0, offset, bytes] {
            entry.extend(address(value));
        }
        put(&mut file, 0x1800 + n * usize::from(sizes[3]), &entry);
    }
    put(&mut file, 0x1400, &words(&[4, 4, 18]));
    put(&mut file, 0x140C, b"Xen\0");
    put(&mut file, 0x1410, &words(&[0x10_0000]));
    let magic = 0x1BAD_B002u32;
    let header = [magic, 3, 0u32.wrapping_sub(magic + 3)];
    put(&mut file, 0x400, &words(&header));
    let magic = 0xE852_50D6u32;
    let tags = words(&[1, 16, 4, 6, 0, 8]);
    let bytes = 16 + tags.len() as u32;
    let header = [
        magic,
        0,
        bytes,
        0u32.wrapping_sub(magic.wrapping_add(bytes)),
    ];
    put(&mut file, 0x480, &words(&header));
    put(&mut file, 0x490, &tags);
    file
}

/// A multiboot 1 kernel that is no ELF file: its header says where it loads.
fn flat() -> Vec<u8> {
    let mut file = vec![0u8; 0x800];
    let (magic, flags) = (0x1BAD_B002u32, 0x1_0003u32);
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    let places = [0x10_0040, 0x10_0000, 0x10_07C0, 0x10_2000, 0x10_0080];
    put(&mut file, 0x40, &words(&[magic, flags, checksum]));
    put(&mut file, 0x4C, &words(&places));
    file
}

fn damage(rng: &mut Rng, file: &mut Vec<u8>) {
    // Headers are where the numbers are: most hits go there.
    let hot = [
        0x1F0..0x270,
        0..0x40,
        0x100..0x1B0,
        0x400..0x4C0,
        0x1400..0x1420,
        0x1800..0x18C0,
    ];
    for _ in 0..rng.below(6) {
        let range = hot[rng.below(hot.len() as u64) as usize].clone();
        let at = match rng.below(4) {
            0 => rng.below(file.len() as u64) as usize,
            _ => range.start + rng.below(range.len() as u64) as usize,
        };
        let values = [0, 1, 0x7F, 0x80, 0xFF, rng.next_u64() as u8];
        let len = 1 << rng.below(4);
        let value = values[rng.below(6) as usize];
        for byte in file.iter_mut().skip(at).take(len) {
            *byte = match value {
                1 => *byte ^ 1 << (rng.next_u64() & 7),
                value => value,
            };
        }
    }
    if rng.below(3) == 0 {
        let len = rng.below(file.len() as u64 + 1);
        file.truncate(len as usize);
    }
}

/// Multiboot headers carry a checksum, which a damaged one rarely keeps.
fn mend(file: &mut [u8]) {
    for (at, fields) in [(0x400, 2), (0x40, 2), (0x480, 3)] {
        if let Some(header) = file.get_mut(at..at + 4 * (fields + 1)) {
            let (fields, checksum) = header.split_at_mut(4 * fields);
            let sum = fields.as_chunks::<4>().0.iter();
            let sum = sum.fold(0u32, |sum, word| {
                sum.wrapping_add(u32::from_le_bytes(*word))
            });
            checksum.copy_from_slice(&0u32.wrapping_sub(sum).to_le_bytes());
        }
    }
}

fn check(kind: KernelKind, kernel: Vec<u8>, ram_bytes: u64) -> bool {
    let module = Module {
        bytes: vec![1; 5000],
        text: "module".into(),
    };
    let setup = KernelSetup {
        kernel,
        modules: vec![module; 2],
        command_line: "console=ttyS0".into(),
        ram_bytes,
        rsdp: Some((0xE_0000, vec![2; 36])),
    };
    let Ok(loaded) = boot::load(kind, &setup) else {
        return false;
    };
    let held: u64 = loaded.preloads.iter().map(|p| p.bytes.len() as u64).sum();
    assert!(
        held <= ram_bytes,
        "{held} bytes for a machine of {ram_bytes}"
    );
    // RAM beyond the hole below 4 GiB has addresses beyond its size. The RSDP lies in the BIOS's range.
    let rsdp = 0xE_0000..=1 << 20;
    let ram = boot::memory_map(ram_bytes);
    let ram = ram.iter().filter(|range| range.kind == MemoryKind::Ram);
    let homes: Vec<_> = ram.map(|range| range.start..=range.end()).collect();
    for Preload { addr, bytes, zeros } in &loaded.preloads {
        let end = addr.checked_add(bytes.len() as u64 + zeros).unwrap();
        assert!(
            homes
                .iter()
                .chain([&rsdp])
                .any(|home| home.contains(addr) && home.contains(&end)),
            "{addr:#x}..{end:#x} is no RAM of {ram_bytes:#x}"
        );
    }
    true
}

#[test]
fn whole_kernels_load() {
    assert!(check(KernelKind::Linux, bz_image(), RAM));
    for wide in [false, true] {
        for kind in [
            KernelKind::Multiboot1,
            KernelKind::Multiboot2,
            KernelKind::Pvh,
        ] {
            assert!(check(kind, elf(wide), RAM), "{kind:?} {wide}");
        }
    }
    assert!(check(KernelKind::Multiboot1, flat(), RAM));
}

#[test]
fn damaged_kernels_are_refused_or_loaded() {
    for_each_seed("damaged kernels", 40_000, |seed| {
        let mut rng = Rng::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut file = match rng.below(4) {
            0 => bz_image(),
            1 => elf(false),
            2 => elf(true),
            _ => flat(),
        };
        damage(&mut rng, &mut file);
        if rng.below(2) == 0 {
            mend(&mut file);
        }
        let len = match rng.below(4) {
            0 => rng.next_u64() >> rng.below(64),
            _ => file.len() as u64,
        };
        let _ = boot::identify(&file[..file.len().min(boot::HEAD_BYTES)], len);
        let named = match boot::identify(&file, file.len() as u64) {
            Ok(Image::Kernel(kind)) => kind,
            _ => KINDS[rng.below(4) as usize],
        };
        let ram_bytes = [1 << 20, 2 << 20, RAM, 1 << 30, 5 << 30][rng.below(5) as usize];
        check(named, file, ram_bytes);
    });
}

#[test]
fn every_truncation_is_refused_or_loaded() {
    for (kind, whole) in [
        (KernelKind::Linux, bz_image()),
        (KernelKind::Multiboot1, elf(false)),
        (KernelKind::Multiboot2, elf(true)),
        (KernelKind::Pvh, elf(true)),
        (KernelKind::Pvh, elf(false)),
        (KernelKind::Multiboot1, flat()),
    ] {
        for len in 0..whole.len() {
            let _ = boot::identify(&whole[..len], len as u64);
            check(kind, whole[..len].to_vec(), RAM);
        }
    }
}

/// Tables that all point at the same bytes would multiply a small file.
#[test]
fn a_small_file_does_not_become_a_large_one() {
    let mut file = elf(true);
    let (programs, sections) = (0x2000, 0x2000 + 5000 * 56);
    file.resize(sections + 5000 * 64 + (1 << 20), 0);
    let body = (file.len() - (1 << 20)) as u64;
    for n in 0..5000 {
        let mut segment = words(&[1, 7]);
        for value in [body, 0x10_0000, 0x10_0000, 1 << 20, 1 << 20, 4] {
            segment.extend(u64::to_le_bytes(value));
        }
        put(&mut file, programs + n * 56, &segment);
        let mut section = words(&[0, 3]);
        for value in [0, 0, body, 1 + 0x100 * (n as u64 % 2)] {
            section.extend(u64::to_le_bytes(value));
        }
        put(&mut file, sections + n * 64, &section);
    }
    let headers = |file: &mut Vec<u8>, programs: u64, count: u16| {
        put(file, 32, &programs.to_le_bytes());
        put(file, 56, &count.to_le_bytes());
    };
    let mut many_sections = file.clone();
    put(&mut many_sections, 40, &(sections as u64).to_le_bytes());
    put(&mut many_sections, 60, &5000u16.to_le_bytes());
    check(KernelKind::Multiboot2, many_sections, RAM);
    let mut many_segments = file;
    headers(&mut many_segments, programs as u64, 5000);
    assert!(!check(KernelKind::Multiboot2, many_segments, RAM));
}
