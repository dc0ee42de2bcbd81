//! Made-up kernels of each kind, whole and cut off.

use super::*;

const RAM: u64 = 64 << 20;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn bz_image(version: u16) -> Vec<u8> {
    let mut file = vec![0; 2 * 512 + 160];
    file[0x1F1] = 1;
    put(&mut file, 0x1F4, &10u32.to_le_bytes());
    put(&mut file, 0x1FE, &[0x55, 0xAA, 0xEB, 0x66]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &version.to_le_bytes());
    file[0x211] = 1;
    put(&mut file, 0x22C, &0x7FFF_FFFFu32.to_le_bytes());
    file[0x234] = 1;
    put(&mut file, 0x238, &100u32.to_le_bytes());
    put(&mut file, 0x258, &0x100_0000u64.to_le_bytes());
    put(&mut file, 0x260, &0x80_0000u32.to_le_bytes());
    file[1024..].fill(0x90);
    file
}

/// An ELF file with one segment of 0x200 bytes (0x300 in memory) at 1 MiB, whose file bytes are `body`.
fn elf(wide: bool, body: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 0x400];
    let header = if wide { 64 } else { 52 };
    put(&mut file, 0, b"\x7FELF");
    put(&mut file, 4, &[1 + u8::from(wide), 1, 1]);
    put(&mut file, 16, &2u16.to_le_bytes());
    put(&mut file, 18, &(if wide { 62u16 } else { 3 }).to_le_bytes());
    put(&mut file, 20, &1u32.to_le_bytes());
    if wide {
        put(&mut file, 24, &0xFFFF_8000_0010_0020u64.to_le_bytes());
        put(&mut file, 32, &64u64.to_le_bytes());
        put(&mut file, 52, &[64, 0, 56, 0, 1, 0]);
        put(&mut file, header, &1u32.to_le_bytes());
        for (n, value) in [0x200, 0xFFFF_8000_0010_0000, 0x10_0000, 0x200, 0x300, 0]
            .into_iter()
            .enumerate()
        {
            let value: u64 = value;
            put(&mut file, header + 8 + 8 * n, &value.to_le_bytes());
        }
    } else {
        put(&mut file, 24, &0xC010_0020u32.to_le_bytes());
        put(&mut file, 28, &52u32.to_le_bytes());
        put(&mut file, 40, &[52, 0, 32, 0, 1, 0]);
        for (n, value) in [1, 0x200, 0xC010_0000, 0x10_0000, 0x200, 0x300]
            .into_iter()
            .enumerate()
        {
            let value: u32 = value;
            put(&mut file, header + 4 * n, &value.to_le_bytes());
        }
    }
    put(&mut file, 0x200, body);
    file
}

fn multiboot1_header(flags: u32) -> Vec<u8> {
    let magic = 0x1BAD_B002u32;
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    [magic, flags, checksum]
        .iter()
        .flat_map(|field| field.to_le_bytes())
        .collect()
}

fn multiboot2_header(tags: &[u8]) -> Vec<u8> {
    let (magic, len) = (0xE852_50D6u32, 16 + tags.len() as u32);
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(len);
    let fields = [magic, 0, len, checksum];
    let mut header: Vec<u8> = fields.iter().flat_map(|f| f.to_le_bytes()).collect();
    header.extend_from_slice(tags);
    header
}

/// A 64-bit ELF file whose only other segment is a PVH note.
fn pvh() -> Vec<u8> {
    let mut file = elf(true, &[0x90; 0x200]);
    file[56] = 2;
    let note = 64 + 56;
    put(&mut file, note, &4u32.to_le_bytes());
    put(&mut file, note + 8, &0x100u64.to_le_bytes());
    put(&mut file, note + 32, &20u64.to_le_bytes());
    put(&mut file, note + 40, &20u64.to_le_bytes());
    put(&mut file, note + 48, &4u64.to_le_bytes());
    for (n, value) in [4u32, 4, 18].into_iter().enumerate() {
        put(&mut file, 0x100 + 4 * n, &value.to_le_bytes());
    }
    put(&mut file, 0x10C, b"Xen\0");
    put(&mut file, 0x110, &0x10_0040u32.to_le_bytes());
    file
}

fn setup(kernel: Vec<u8>) -> KernelSetup {
    KernelSetup {
        kernel,
        modules: vec![Module {
            bytes: vec![7; 5000],
            text: "initrd".into(),
        }],
        command_line: "console=ttyS0".into(),
        ram_bytes: RAM,
        rsdp: Some((0xE_0000, vec![2; 36])),
    }
}

/// RAM as a kernel finds it.
fn memory(loaded: &Loaded, addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for preload in &loaded.preloads {
        for (n, byte) in preload.bytes.iter().enumerate() {
            if let Some(at) = (preload.addr + n as u64).checked_sub(addr)
                && (at as usize) < len
            {
                bytes[at as usize] = *byte;
            }
        }
    }
    bytes
}

fn field(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at).unwrap().into()
}

fn flat(loaded: &Loaded) -> FlatEntry {
    match loaded.entry {
        Entry::Flat(entry) => entry,
        Entry::Real(entry) => panic!("expected protected mode, found {entry:?}"),
    }
}

#[test]
fn a_linux_kernel_finds_its_parameters() {
    let mut setup = setup(bz_image(0x20F));
    setup.command_line += " vga=0x317";
    let loaded = load(KernelKind::Linux, &setup).unwrap();
    let Entry::Real(entry) = loaded.entry else {
        panic!("expected real mode, found {:?}", loaded.entry);
    };
    assert_eq!(
        (entry.cs, entry.segment, entry.sp),
        (0x1020, 0x1000, 0xFFF0)
    );
    let code = memory(&loaded, 0x1_0000, 1024);
    assert_eq!(code[0x210], 0xFF);
    assert_eq!(code[0x211], 0x81);
    assert_eq!(field(&code, 0x224), 0xFE00);
    assert_eq!(u16_at(&code, 0x1FA), Some(0x317));
    let line = memory(&loaded, field(&code, 0x228), 24);
    assert_eq!(&line, b"console=ttyS0 vga=0x317\0");
    assert_eq!(field(&code, 0x218), RAM - 8192);
    assert_eq!(field(&code, 0x21C), 5000);
    assert_eq!(memory(&loaded, RAM - 8192, 1), [7]);
    assert_eq!(memory(&loaded, 0x10_0000, 160), [0x90; 160]);
}

#[test]
fn a_kernel_that_loads_low_lies_below_its_setup_code() {
    let mut file = bz_image(0x202);
    file[0x211] = 0;
    let loaded = load(KernelKind::Linux, &setup(file.clone())).unwrap();
    assert!(matches!(loaded.entry, Entry::Real(entry) if entry.cs == 0x9020 && entry.sp == 0x9FF0));
    assert_eq!(memory(&loaded, 0x1_0000, 160), [0x90; 160]);
    assert_eq!(field(&memory(&loaded, 0x9_0000, 1024), 0x228), 0x9_A000);
    file.resize(0x9_0000, 0x90);
    let refused = load(KernelKind::Linux, &setup(file));
    assert!(matches!(refused, Err(LoadError::TooLarge { .. })));
}

#[test]
fn a_linux_kernel_that_does_not_fit_says_so() {
    let mut small = setup(bz_image(0x20F));
    small.ram_bytes = 8 << 20;
    let error = load(KernelKind::Linux, &small).unwrap_err();
    // It unpacks to 16-24 MiB, and the RAM disk takes two pages.
    assert_eq!(
        error.to_string(),
        "this kernel, with its initial RAM disk, needs at least 25 MiB of RAM, and the machine has 8 MiB; \
         give it more with -m 25M"
    );
    small.ram_bytes = 24 << 20;
    assert_eq!(load(KernelKind::Linux, &small).map(|_| ()), Ok(()));
    small.modules[0].bytes = vec![7; 24 << 20];
    let error = load(KernelKind::Linux, &small).unwrap_err();
    assert!(error.to_string().contains("-m 49M"), "{error}");
    small.ram_bytes = 49 << 20;
    assert_eq!(load(KernelKind::Linux, &small).map(|_| ()), Ok(()));
    let mut long = setup(bz_image(0x20F));
    long.command_line = "x".repeat(101);
    let error = load(KernelKind::Linux, &long).unwrap_err();
    assert_eq!(
        error,
        LoadError::CommandLine {
            limit: 100,
            found: 101
        }
    );
    let old = load(KernelKind::Linux, &setup(bz_image(0x201)));
    assert!(matches!(old, Err(LoadError::Unsupported { .. })));
}

#[test]
fn a_multiboot_kernel_finds_map_modules_and_command_line() {
    for wide in [false, true] {
        let file = elf(wide, &multiboot1_header(7));
        assert_eq!(
            identify(&file, file.len() as u64),
            Ok(Image::Kernel(KernelKind::Multiboot1))
        );
        let loaded = load(KernelKind::Multiboot1, &setup(file)).unwrap();
        assert_eq!(flat(&loaded).eip, 0x10_0020);
        assert_eq!(flat(&loaded).eax, 0x2BAD_B002);
        let info = memory(&loaded, flat(&loaded).ebx.into(), 116);
        assert_eq!(field(&info, 0), 0x124D);
        assert_eq!(field(&info, 4), 639);
        assert_eq!(memory(&loaded, field(&info, 16), 7), b"console");
        let module = memory(&loaded, field(&info, 24), 16);
        assert_eq!(field(&module, 4) - field(&module, 0), 5000);
        assert_eq!(memory(&loaded, field(&module, 0), 1), [7]);
        let map = memory(&loaded, field(&info, 48), 24 * 7);
        assert_eq!(field(&map, 0), 20);
        assert_eq!(field(&map, 3 * 24 + 12), RAM - (1 << 20));
    }
}

#[test]
fn a_flat_multiboot_kernel_loads_by_its_addresses() {
    let mut file = vec![0; 16];
    file.extend(multiboot1_header(1 << 16));
    for addr in [0x20_0010u32, 0x20_0000, 0, 0x20_1000, 0x20_0008] {
        file.extend_from_slice(&addr.to_le_bytes());
    }
    let loaded = load(KernelKind::Multiboot1, &setup(file.clone())).unwrap();
    assert_eq!(flat(&loaded).eip, 0x20_0008);
    assert_eq!(loaded.preloads[0].addr, 0x20_0000);
    assert_eq!(loaded.preloads[0].zeros, 0x1000 - file.len() as u64);
}

#[test]
fn a_multiboot2_kernel_finds_its_tags() {
    let request = [1, 0, 0, 0, 12, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
    let end = [0, 0, 0, 0, 8, 0, 0, 0];
    let file = elf(true, &multiboot2_header(&[&request[..], &end].concat()));
    assert_eq!(
        identify(&file, file.len() as u64),
        Ok(Image::Kernel(KernelKind::Multiboot2))
    );
    let loaded = load(KernelKind::Multiboot2, &setup(file)).unwrap();
    let info = memory(&loaded, flat(&loaded).ebx.into(), 1024);
    let mut kinds = Vec::new();
    let mut at = 8;
    while at < field(&info, 0) as usize {
        kinds.push(field(&info, at));
        at += (field(&info, at + 4) as usize).next_multiple_of(8);
    }
    assert_eq!(kinds, [1, 2, 3, 4, 6, 8, 14, 15, 0]);

    let demand = [1, 0, 0, 0, 12, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0];
    let file = elf(true, &multiboot2_header(&demand));
    let refused = load(KernelKind::Multiboot2, &setup(file));
    assert!(matches!(refused, Err(LoadError::Unsupported { .. })));
}

#[test]
fn modules_lie_right_above_the_kernel() {
    let tags = [0, 0, 0, 0, 8, 0, 0, 0];
    for (kind, file) in [
        (KernelKind::Multiboot1, elf(false, &multiboot1_header(3))),
        (KernelKind::Multiboot2, elf(true, &multiboot2_header(&tags))),
        (KernelKind::Pvh, pvh()),
    ] {
        let loaded = load(kind, &setup(file)).unwrap();
        let module = loaded.preloads.iter().find(|p| p.bytes == [7; 5000]);
        // The kernel takes 300h bytes from 1 MiB on.
        assert_eq!(module.unwrap().addr, 0x10_1000, "{kind:?}");
    }
}

#[test]
fn a_kernel_that_takes_all_low_memory_finds_its_information_above() {
    let mut file = elf(false, &multiboot1_header(3));
    // A second segment, without bytes in the file, from 500h to the EBDA.
    put(&mut file, 44, &[2]);
    for (n, value) in [1u32, 0, 0x500, 0x500, 0, 0x9_F700].into_iter().enumerate() {
        put(&mut file, 84 + 4 * n, &value.to_le_bytes());
    }
    let loaded = load(KernelKind::Multiboot1, &setup(file)).unwrap();
    assert!(flat(&loaded).ebx > 0x10_0300);
    let info = memory(&loaded, flat(&loaded).ebx.into(), 120);
    assert_eq!(memory(&loaded, field(&info, 16), 7), b"console");
    let part = loaded.low_part.unwrap();
    assert_eq!((part.to, part.len), (0x500, 0x7B00));
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_multiboot_kernel_gets_the_screen_that_it_is_told() {
    let load_with = |mode: [u32; 4]| {
        let mut header = multiboot1_header(4);
        header.extend(words(&[0; 5]));
        header.extend(words(&mode));
        let loaded = load(KernelKind::Multiboot1, &setup(elf(false, &header))).unwrap();
        let info = memory(&loaded, flat(&loaded).ebx.into(), 120);
        assert_eq!(field(&info, 0) & 1 << 12, 1 << 12);
        (loaded, info)
    };
    let text = [0xB_8000, 0, 160, 80, 25, 16 | 2 << 8];
    let pixels = [0xA_0000, 0, 320, 320, 200, 8];
    for (mode, screen, note) in [
        ([1, 80, 25, 0], text, false),
        ([0, 0, 0, 0], text, false),
        ([0, 1024, 768, 32], text, true),
        ([0, 320, 200, 8], pixels, false),
    ] {
        let (loaded, info) = load_with(mode);
        let found: Vec<_> = (22..28).map(|n| field(&info, 4 * n)).collect();
        assert_eq!(found, screen, "{mode:?}");
        let graphic = screen == pixels;
        assert_eq!(loaded.video_mode, graphic.then_some(0x13));
        assert_eq!(loaded.palette.is_some(), graphic);
        assert_eq!(loaded.note.is_some(), note);
        if let Some(palette) = loaded.palette {
            assert_eq!(field(&info, 112), u64::from(palette));
            assert_eq!(field(&info, 116), 256);
        }
        if let Some(note) = loaded.note {
            assert!(note.contains("1024x768x32"), "{note}");
        }
    }
}

#[test]
fn a_required_framebuffer_that_is_not_there_is_refused() {
    let tag = |optional: u32, mode: [u32; 3]| {
        let mut tags = words(&[5 | optional << 16, 20]);
        tags.extend(words(&mode));
        tags.extend(words(&[0, 0, 8]));
        load(
            KernelKind::Multiboot2,
            &setup(elf(true, &multiboot2_header(&tags))),
        )
    };
    let refused = tag(0, [1024, 768, 32]).unwrap_err().to_string();
    assert!(
        refused.contains("requires a framebuffer of 1024x768x32"),
        "{refused}"
    );
    assert_eq!(tag(1, [1024, 768, 32]).unwrap().video_mode, None);
    assert_eq!(tag(0, [80, 25, 0]).unwrap().video_mode, None);
    let pixels = tag(0, [320, 200, 8]).unwrap();
    assert_eq!(pixels.video_mode, Some(0x13));
    let palette = pixels.palette.unwrap();
    // The count of colours stands in front of it, behind the tag's 32 bytes.
    let tag = memory(&pixels, u64::from(palette) - 34, 34);
    assert_eq!(&tag[..4], &8u32.to_le_bytes());
    assert_eq!(&tag[8..12], &0xA_0000u32.to_le_bytes());
    assert_eq!(&tag[28..], &[8, 0, 0, 0, 0, 1]);
}

#[test]
fn each_fault_of_a_multiboot_header_has_its_message() {
    let refused = |file: &[u8]| identify(file, file.len() as u64).unwrap_err().to_string();
    let header = multiboot1_header(3);
    let plain = refused(&elf(false, &[0; 0x100]));
    assert!(plain.contains("without a multiboot header"), "{plain}");
    let mut body = vec![0x90; 2];
    body.extend(&header);
    let unaligned = refused(&elf(false, &body));
    assert!(
        unaligned.contains("offset 0x202 is not aligned"),
        "{unaligned}"
    );
    let mut wrong = header.clone();
    wrong[8] ^= 1;
    let wrong = refused(&elf(false, &wrong));
    assert!(
        wrong.contains("wrong checksum: expected 0xe4524ffb, found 0xe4524ffa"),
        "{wrong}"
    );
    let mut late = elf(false, &[0; 0x100]);
    late.resize(9000, 0);
    late.extend(&header);
    let late = refused(&late);
    assert!(
        late.contains("offset 0x2328 comes too late: expected it within the first 8192"),
        "{late}"
    );
    let mut late = elf(true, &[0; 0x100]);
    late.resize(32768, 0);
    late.extend(multiboot2_header(&[0, 0, 0, 0, 8, 0, 0, 0]));
    let late = refused(&late);
    assert!(
        late.starts_with("the multiboot 2 header at offset 0x8000 comes too late"),
        "{late}"
    );
    // A file that is no ELF, and that nothing else recognises.
    let mut flat = vec![0x90; 0x402];
    flat.extend(&header);
    assert!(refused(&flat).contains("not aligned"));
}

#[test]
fn a_pvh_kernel_is_entered_at_its_note() {
    let file = pvh();
    assert_eq!(
        identify(&file, file.len() as u64),
        Ok(Image::Kernel(KernelKind::Pvh))
    );
    let loaded = load(KernelKind::Pvh, &setup(file)).unwrap();
    assert_eq!(flat(&loaded).eip, 0x10_0040);
    let info = memory(&loaded, flat(&loaded).ebx.into(), 56);
    assert_eq!(field(&info, 0), 0x336E_C578);
    assert_eq!(field(&info, 12), 1);
    assert_eq!(field(&info, 32), 0xE_0000);
    assert_eq!(field(&info, 48), 7);
}

#[test]
fn images_are_told_apart() {
    let mut disk = vec![0; 4 << 20];
    put(&mut disk, 510, &[0x55, 0xAA]);
    let kind = |bytes: &[u8], len: u64| identify(&bytes[..bytes.len().min(HEAD_BYTES)], len);
    assert_eq!(kind(&disk, 4 << 20), Ok(Image::Disk));
    assert_eq!(kind(&disk, 1_474_560), Ok(Image::Floppy));
    assert_eq!(kind(&disk[..512], 512), Ok(Image::Disk));
    assert_eq!(kind(&[0xEB, 0xFE], 2), Ok(Image::BootSector));
    assert_eq!(kind(b"hello\n", 6), Err(ImageError::Unknown));
    assert_eq!(kind(&[], 0), Err(ImageError::Empty));
    assert_eq!(kind(&[0; 1000], 1000), Err(ImageError::Unknown));
    put(&mut disk, 0x8001, b"CD001");
    put(&mut disk, 0x8050, &2048u32.to_le_bytes());
    put(&mut disk, 0x8080, &2048u16.to_le_bytes());
    assert_eq!(kind(&disk, 4 << 20), Ok(Image::CdRom));
    assert!(matches!(
        kind(&disk, 1 << 20),
        Err(ImageError::Truncated { .. })
    ));
    let plain = elf(true, &[0; 16]);
    assert_eq!(kind(&plain, 0x400), Err(ImageError::PlainElf));
}

#[test]
fn no_cut_or_flipped_kernel_panics() {
    let tags = [0u8; 8];
    let files = [
        (KernelKind::Linux, bz_image(0x20F)),
        (KernelKind::Multiboot1, elf(false, &multiboot1_header(7))),
        (
            KernelKind::Multiboot1,
            elf(true, &multiboot1_header(1 << 16)),
        ),
        (KernelKind::Multiboot2, elf(true, &multiboot2_header(&tags))),
        (KernelKind::Pvh, pvh()),
    ];
    for (kind, whole) in files {
        for len in 0..whole.len() {
            let cut = whole[..len].to_vec();
            let _ = identify(&cut, len as u64);
            let _ = load(kind, &setup(cut));
        }
        let mut seed = 1u32;
        for at in 0..whole.len() {
            for _ in 0..4 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let mut flipped = whole.clone();
                flipped[at] = (seed >> 24) as u8;
                let _ = identify(&flipped, flipped.len() as u64);
                let _ = load(kind, &setup(flipped));
            }
        }
    }
}
