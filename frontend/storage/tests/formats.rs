//! VDI, VHD and VMDK images against a plain copy, and against QEMU's own program where it is installed.

use std::path::Path;
use std::process::Command;

use platform::block::SECTOR_BYTES;
use platform::{BlockBackend, MemoryDisk};
use storage::{Access, Format, Medium, Opener, Request, disk};

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn open(path: &Path, access: Access) -> Result<Box<dyn BlockBackend>, storage::Error> {
    let request = Request {
        option: "--disk",
        medium: Medium::Disk,
        access,
        format: None,
        backing: false,
    };
    Opener::default()
        .open(path, &request)
        .map(|image| image.backend)
}

fn content(path: &Path) -> Vec<u8> {
    let mut disk = open(path, Access::ReadOnly).unwrap();
    let mut bytes = vec![0; disk.sectors() as usize * SECTOR_BYTES];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

/// Runs qemu-img; `None` where it is not installed.
fn qemu_img(arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new("qemu-img").args(arguments).output() {
        Ok(out) => {
            let said = [out.stdout, out.stderr].concat();
            Some((
                out.status.success(),
                String::from_utf8_lossy(&said).into_owned(),
            ))
        }
        Err(error) => {
            eprintln!("skipped: qemu-img (package qemu-utils): {error}");
            None
        }
    }
}

/// That QEMU reads the image as the copy, and finds nothing wrong with it.
fn compare(path: &Path, name: &str, copy: &MemoryDisk) {
    let raw = path.with_extension("raw");
    std::fs::write(&raw, copy.bytes()).unwrap();
    let (path, raw) = (path.to_str().unwrap(), raw.to_str().unwrap());
    let Some((same, said)) = qemu_img(&["compare", "-f", name, "-F", "raw", path, raw]) else {
        return;
    };
    assert!(same, "{name}: {said}");
    if let Some((good, said)) = qemu_img(&["check", "-f", name, path]) {
        assert!(
            good || said.contains("does not support checks"),
            "{name}: {said}"
        );
    }
}

/// Random reads, writes and flushes of an image, against a copy of what it was.
fn play(path: &Path, copy: &mut MemoryDisk, seed: u64) {
    let mut random = Random(seed);
    let mut image = open(path, Access::Write).unwrap();
    assert_eq!(image.sectors(), copy.sectors());
    let sectors = copy.sectors();
    for _ in 0..200 {
        let lba = random.below(sectors);
        let count = 1 + random.below(5000.min(sectors - lba));
        let mut bytes = vec![random.below(3) as u8; count as usize * SECTOR_BYTES];
        match random.below(8) {
            0..4 => {
                image.write(lba, &bytes).unwrap();
                copy.write(lba, &bytes).unwrap();
            }
            4..7 => {
                image.read(lba, &mut bytes).unwrap();
                let at = lba as usize * SECTOR_BYTES;
                assert!(bytes == copy.bytes()[at..at + bytes.len()], "at {lba}");
            }
            _ => image.flush().unwrap(),
        }
    }
    drop(image);
    assert!(content(path) == copy.bytes());
}

const FORMATS: [(Format, &str, &str); 3] = [
    (Format::Vdi, "vdi", "x.vdi"),
    (Format::Vhd, "vpc", "x.vhd"),
    (Format::Vmdk, "vmdk", "x.vmdk"),
];

#[test]
fn images_of_ours_are_like_a_copy_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    for (format, name, file) in FORMATS {
        let path = folder.path().join(file);
        let size = 17 << 20;
        disk::create(&path, size, format, None).unwrap();
        assert_eq!(disk::info(&path).unwrap().virtual_bytes, size);
        assert_eq!(disk::info(&path).unwrap().format, format);
        let mut copy = MemoryDisk::new(vec![0; size as usize]);
        compare(&path, name, &copy);
        for seed in 0..3 {
            play(&path, &mut copy, seed);
            compare(&path, name, &copy);
        }
        // To and fro.
        let other = folder.path().join(format!("{file}.qcow2"));
        disk::convert(&path, &other, Format::Qcow2, &mut |_, _| {}).unwrap();
        assert!(content(&other) == copy.bytes());
        let again = folder.path().join(format!("again-{file}"));
        disk::convert(&other, &again, format, &mut |_, _| {}).unwrap();
        assert!(content(&again) == copy.bytes());
        compare(&again, name, &copy);
        assert!(
            disk::create(&path, size, format, None).is_err(),
            "it is there already"
        );
    }
}

#[test]
fn images_of_qemus_are_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bytes: Vec<u8> = (0..12 << 20)
        .map(|at: usize| {
            if (at / 70_000).is_multiple_of(3) {
                0
            } else {
                (at / 512) as u8
            }
        })
        .collect();
    std::fs::write(at("x.img"), &bytes).unwrap();
    for (number, (name, options, writes)) in [
        ("vdi", "static=off", true),
        ("vdi", "static=on", true),
        ("vpc", "subformat=dynamic,force_size=on", true),
        ("vpc", "subformat=fixed,force_size=on", true),
        ("vmdk", "subformat=monolithicSparse", true),
        ("vmdk", "subformat=monolithicFlat", true),
        ("vmdk", "subformat=twoGbMaxExtentFlat", true),
        ("vmdk", "subformat=twoGbMaxExtentSparse", true),
        ("vmdk", "subformat=streamOptimized", false),
    ]
    .into_iter()
    .enumerate()
    {
        let ending = if name == "vpc" { "vhd" } else { name };
        let path = at(&format!("{number}.{ending}"));
        let (source, target) = (at("x.img"), path.to_str().unwrap().to_owned());
        let arguments = [
            "convert",
            "-f",
            "raw",
            "-O",
            name,
            "-o",
            options,
            source.to_str().unwrap(),
            &target,
        ];
        let Some((made, said)) = qemu_img(&arguments) else {
            return;
        };
        assert!(made, "{said}");
        assert!(content(&path) == bytes, "{name} {options}");
        if !writes {
            let said = open(&path, Access::Write)
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(said.contains("readonly"), "{said}");
            continue;
        }
        let mut copy = MemoryDisk::new(bytes.clone());
        play(&path, &mut copy, number as u64);
        compare(&path, name, &copy);
    }
}

#[test]
fn a_descriptor_names_files_beside_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.vmdk");
    for name in ["/etc/passwd", "../x", "a/b"] {
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\nRW 8 FLAT \"{name}\" 0\n"
        );
        std::fs::write(&path, text.replace('\n', "\r\n")).unwrap();
        let said = open(&path, Access::ReadOnly)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(said.contains("another folder"), "{said}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        std::fs::write(&path, "# Disk DescriptorFile\nRW 1 FLAT \"link\" 0\n").unwrap();
        let said = open(&path, Access::ReadOnly)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(said.contains("is a link"), "{said}");
    }
}

/// Damaged images: an answer or a refusal, no panic, and bounded memory. `GLASSBOX_FUZZ_SECONDS` sets how long.
#[test]
fn damaged_images_are_refused_or_read() {
    let seconds: u64 =
        std::env::var("GLASSBOX_FUZZ_SECONDS").map_or(3, |text| text.parse().unwrap());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let folder = tempfile::tempdir().unwrap();
    let mut good = Vec::new();
    for (format, _, file) in FORMATS {
        let path = folder.path().join(file);
        disk::create(&path, 3 << 20, format, None).unwrap();
        let mut image = open(&path, Access::Write).unwrap();
        image.write(5, &[0x33; 2048]).unwrap();
        drop(image);
        good.push((path.clone(), std::fs::read(&path).unwrap()));
    }
    let mut random = Random(11);
    while std::time::Instant::now() < until {
        let (path, bytes) = &good[random.below(3) as usize];
        let mut bytes = bytes.clone();
        for _ in 0..1 + random.below(6) {
            // Half of it in the header and the first tables.
            let most = if random.below(2) == 0 {
                600
            } else {
                bytes.len().min(16 << 10) as u64
            };
            let at = random.below(most) as usize;
            bytes[at] = match random.below(4) {
                0 => 0,
                1 => 0xFF,
                2 => bytes[at] ^ 1 << random.below(8),
                _ => random.below(256) as u8,
            };
        }
        if random.below(8) == 0 {
            let len = random.below(bytes.len() as u64) as usize;
            bytes.truncate(len);
        }
        std::fs::write(path, &bytes).unwrap();
        let _ = disk::info(path);
        for access in [Access::ReadOnly, Access::Write] {
            let Ok(mut image) = open(path, access) else {
                continue;
            };
            let sectors = image.sectors();
            let mut buf = vec![1; 64 << 10];
            for _ in 0..8 {
                let lba = random.below(sectors.max(1));
                let len = (1 + random.below(128)).min(sectors.saturating_sub(lba)) as usize * 512;
                let _ = image.read(lba, &mut buf[..len]);
                if access == Access::Write {
                    let _ = image.write(lba, &buf[..len]);
                }
            }
        }
    }
}
