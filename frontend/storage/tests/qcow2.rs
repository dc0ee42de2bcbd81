//! qcow2 images against a plain copy, and against QEMU's own program where it is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use platform::block::SECTOR_BYTES;
use platform::{BlockBackend, MemoryDisk};
use storage::qcow2::{self, Backing, Options};
use storage::{Access, Below, Format, Medium, Opener, Request, disk};

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
    let folder = path.parent().unwrap();
    let mut opener = Opener::with_below(Below::Within(folder.into()));
    opener.open(path, &request).map(|image| image.backend)
}

/// Runs qemu-img; `None` where it is not installed.
fn qemu_img(arguments: &[&str], path: &Path) -> Option<(bool, String)> {
    match Command::new("qemu-img").args(arguments).arg(path).output() {
        Ok(out) => {
            let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
            Some((out.status.success(), said))
        }
        Err(error) => {
            eprintln!("skipped: qemu-img (package qemu-utils): {error}");
            None
        }
    }
}

/// That QEMU finds nothing wrong with the image; `leaks`: but clusters that nothing points to.
fn check(path: &Path, leaks: bool) {
    if let Some((_, said)) = qemu_img(&["check", "-f", "qcow2"], path) {
        let good = said.contains("No errors were found")
            || leaks && !said.contains("ERROR") && said.contains("leaked");
        assert!(good, "{}: {said}", path.display());
    }
}

fn content(disk: &mut dyn BlockBackend) -> Vec<u8> {
    let mut bytes = vec![0; disk.sectors() as usize * SECTOR_BYTES];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

/// Random reads, writes, discards and flushes of an image, against a copy of what it was.
fn play(path: &Path, copy: &mut MemoryDisk, random: &mut Random, rounds: usize) {
    let mut image = open(path, Access::Write).unwrap();
    assert_eq!(image.sectors(), copy.sectors());
    let sectors = copy.sectors();
    for _ in 0..rounds {
        let lba = random.below(sectors);
        let count = 1 + random.below(300.min(sectors - lba));
        let mut bytes = vec![random.below(256) as u8; count as usize * SECTOR_BYTES];
        match random.below(16) {
            0..8 => {
                image.write(lba, &bytes).unwrap();
                copy.write(lba, &bytes).unwrap();
            }
            8..13 => {
                image.read(lba, &mut bytes).unwrap();
                let at = lba as usize * SECTOR_BYTES;
                assert!(bytes == copy.bytes()[at..at + bytes.len()], "at {lba}");
            }
            13 => image.flush().unwrap(),
            _ => {
                image.discard(lba, count).unwrap();
                // What is discarded reads as zeros or as before, by whole clusters.
                image.read(lba, &mut bytes).unwrap();
                for (sector, bytes) in (lba..).zip(bytes.chunks(SECTOR_BYTES)) {
                    let at = sector as usize * SECTOR_BYTES;
                    let zeros = bytes.iter().all(|&byte| byte == 0);
                    assert!(zeros || *bytes == copy.bytes()[at..at + SECTOR_BYTES]);
                    copy.write(sector, bytes).unwrap();
                }
            }
        }
    }
    assert!(content(&mut *image) == copy.bytes());
}

fn make(path: &Path, size: u64, backing: Option<(&str, Format)>, cluster_bits: u32) {
    let backing = backing.map(|(path, format)| Backing {
        path: path.into(),
        format,
    });
    qcow2::create(
        path,
        &Options {
            size,
            backing,
            cluster_bits,
        },
    )
    .unwrap();
}

#[test]
fn an_image_of_every_cluster_size_is_like_a_copy_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    for bits in [9, 12, 16, 21] {
        let path = folder.path().join(format!("{bits}.qcow2"));
        // With small clusters a table has little room: a disk of more than one table all the same.
        let size = if bits == 9 { 1 << 20 } else { 9 << 20 } + 512;
        make(&path, size, None, bits);
        check(&path, false);
        let mut copy = MemoryDisk::new(vec![0; size as usize]);
        let mut random = Random(u64::from(bits));
        for _ in 0..3 {
            play(&path, &mut copy, &mut random, 150);
            check(&path, false);
        }
        let mut image = open(&path, Access::ReadOnly).unwrap();
        assert!(content(&mut *image) == copy.bytes());
        assert!(image.write(0, &[0; 512]).is_err());
    }
}

#[test]
fn a_chain_of_images_is_like_a_copy_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut random = Random(7);
    let base: Vec<u8> = (0..5 << 20).map(|at: usize| (at / 700) as u8).collect();
    std::fs::write(at("base.img"), &base).unwrap();
    make(&at("a.qcow2"), 6 << 20, Some(("base.img", Format::Raw)), 16);
    let mut copy = base.clone();
    copy.resize(6 << 20, 0);
    let mut copy = MemoryDisk::new(copy);
    play(&at("a.qcow2"), &mut copy, &mut random, 200);
    let a = copy.bytes().to_vec();
    make(
        &at("b.qcow2"),
        6 << 20,
        Some(("a.qcow2", Format::Qcow2)),
        12,
    );
    make(
        &at("c.qcow2"),
        6 << 20,
        Some(("b.qcow2", Format::Qcow2)),
        16,
    );
    play(&at("c.qcow2"), &mut copy, &mut random, 200);
    for name in ["a.qcow2", "b.qcow2", "c.qcow2"] {
        check(&at(name), false);
    }
    assert!(std::fs::read(at("base.img")).unwrap() == base);
    assert!(content(&mut *open(&at("a.qcow2"), Access::ReadOnly).unwrap()) == a);
    // Nobody else writes to what somebody's image lies over.
    let _held = open(&at("c.qcow2"), Access::Write).unwrap();
    assert!(open(&at("b.qcow2"), Access::Write).is_err());
    drop(_held);
    // One image of all, as QEMU and this reads it.
    disk::convert(&at("c.qcow2"), &at("d.img"), Format::Raw, &mut |_, _| {}).unwrap();
    assert!(std::fs::read(at("d.img")).unwrap() == copy.bytes());
    if let Some((same, said)) =
        qemu_img(&["compare", at("c.qcow2").to_str().unwrap()], &at("d.img"))
    {
        assert!(same, "{said}");
    }
    // The upper one goes into the lower one, which then is what both were.
    disk::commit(&at("c.qcow2")).unwrap();
    check(&at("b.qcow2"), false);
    assert!(content(&mut *open(&at("b.qcow2"), Access::ReadOnly).unwrap()) == copy.bytes());
    assert!(content(&mut *open(&at("c.qcow2"), Access::ReadOnly).unwrap()) == copy.bytes());
    let backing = Backing {
        path: "base.img".into(),
        format: Format::Raw,
    };
    make(
        &at("e.qcow2"),
        6 << 20,
        Some(("b.qcow2", Format::Qcow2)),
        16,
    );
    qcow2::rebase(&at("e.qcow2"), Some(backing.clone())).unwrap();
    assert_eq!(disk::info(&at("e.qcow2")).unwrap().backing, Some(backing));
    check(&at("e.qcow2"), false);
}

#[test]
fn what_an_image_lies_over_is_opened_only_where_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let secret = other.path().join("secret");
    std::fs::write(&secret, [0x55; 4096]).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    for name in [secret.to_str().unwrap(), "link", "../nothing"] {
        let path = folder.path().join("evil.qcow2");
        make(&path, 4096, Some((name, Format::Raw)), 16);
        let said = open(&path, Access::ReadOnly)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(said.contains(name) && said.contains("backing=on"), "{said}");
        std::fs::remove_file(&path).unwrap();
    }
    // An image over itself.
    let path = folder.path().join("self.qcow2");
    make(&path, 4096, Some(("self.qcow2", Format::Qcow2)), 16);
    assert!(open(&path, Access::Write).is_err());
    assert!(open(&path, Access::ReadOnly).is_err());
}

/// Images as QEMU makes them, with what this does not write.
#[test]
fn qemus_images_are_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bytes: Vec<u8> = (0..3 << 20)
        .map(|at: usize| (at / 512 * 7 / 5) as u8)
        .collect();
    std::fs::write(at("x.img"), &bytes).unwrap();
    for (number, options) in [
        vec!["-o", "compat=0.10"],
        vec!["-o", "compat=1.1,cluster_size=4k,refcount_bits=1"],
        vec!["-o", "compat=1.1,refcount_bits=64,lazy_refcounts=on"],
        vec!["-c"],
    ]
    .into_iter()
    .enumerate()
    {
        let path = at(&format!("{number}.qcow2"));
        let source = at("x.img");
        let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2"];
        arguments.extend(options);
        arguments.push(source.to_str().unwrap());
        let Some((made, said)) = qemu_img(&arguments, &path) else {
            return;
        };
        assert!(made, "{said}");
        let mut copy = MemoryDisk::new(bytes.clone());
        assert!(content(&mut *open(&path, Access::ReadOnly).unwrap()) == bytes);
        play(&path, &mut copy, &mut Random(number as u64), 100);
        check(&path, false);
        if number == 1 {
            // A count of one bit has no room for a snapshot's.
            continue;
        }
        // With a snapshot within, what it holds stays.
        let (made, said) = qemu_img(&["snapshot", "-c", "one"], &path).unwrap();
        assert!(made, "{said}");
        assert_eq!(disk::info(&path).unwrap().snapshots[0].name, "one");
        let before = copy.bytes().to_vec();
        play(&path, &mut copy, &mut Random(9), 100);
        check(&path, false);
        qemu_img(&["snapshot", "-a", "one"], &path).unwrap();
        assert!(content(&mut *open(&path, Access::ReadOnly).unwrap()) == before);
    }
}

#[test]
fn a_disk_grows_and_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.qcow2");
    make(&path, 1 << 20, None, 12);
    let mut image = open(&path, Access::Write).unwrap();
    image.write(0, &[0x11; 1 << 20]).unwrap();
    drop(image);
    // More than one cluster of L1 entries.
    for (bytes, kept) in [
        (3u64 << 30, 1u64 << 20),
        (512 << 10, 512 << 10),
        (1 << 20, 512 << 10),
    ] {
        disk::resize(&path, bytes).unwrap();
        check(&path, false);
        let mut image = open(&path, Access::Write).unwrap();
        assert_eq!(image.sectors() * 512, bytes);
        let mut first = vec![0; 1 << 20];
        let there = bytes.min(1 << 20) as usize;
        image.read(0, &mut first[..there]).unwrap();
        assert!(first[..kept as usize].iter().all(|&byte| byte == 0x11));
        assert!(first[kept as usize..there].iter().all(|&byte| byte == 0));
        let last = bytes / 512 - 1;
        image.write(last, &[0x22; 512]).unwrap();
        image
            .write(last, &vec![if last * 512 < kept { 0x11 } else { 0 }; 512])
            .unwrap();
    }
}

fn hammer() -> Option<PathBuf> {
    std::env::var_os("GLASSBOX_HAMMER").map(PathBuf::from)
}

/// Not a test: what the next one starts and kills. Each sector gets its round's number; each flush is noted beside.
#[test]
fn hammered() {
    let Some(path) = hammer() else { return };
    let seed: u64 = std::env::var("GLASSBOX_SEED").unwrap().parse().unwrap();
    let mut random = Random(seed);
    let mut image = open(&path, Access::Write).unwrap();
    let sectors = image.sectors();
    let mut wrote = Vec::new();
    loop {
        for _ in 0..1 + random.below(20) {
            let lba = random.below(sectors);
            let count = 1 + random.below(200.min(sectors - lba));
            image
                .write(lba, &vec![seed as u8; count as usize * 512])
                .unwrap();
            wrote.push((lba, count));
        }
        image.flush().unwrap();
        let noted: String = wrote
            .drain(..)
            .map(|(lba, count)| format!("{lba} {count}\n"))
            .collect();
        let note = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path.with_extension("note"));
        std::io::Write::write_all(&mut note.unwrap(), noted.as_bytes()).unwrap();
    }
}

/// `GLASSBOX_KILLS` sets how often; 1000 take some minutes.
#[test]
fn kill_9_while_it_is_written_loses_nothing_that_was_flushed() {
    let kills: u64 = std::env::var("GLASSBOX_KILLS").map_or(20, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.qcow2");
    std::fs::write(folder.path().join("base.img"), vec![0xFE; 8 << 20]).unwrap();
    make(&path, 8 << 20, Some(("base.img", Format::Raw)), 16);
    let mut random = Random(1);
    // The round that wrote each sector last and flushed it.
    let mut sectors = vec![0xFEu8; 16 << 10];
    for round in 1..=kills {
        let seed = round % 200 + 1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hammered", "--nocapture"])
            .env("GLASSBOX_HAMMER", &path)
            .env("GLASSBOX_SEED", seed.to_string())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30 + random.below(60)));
        child.kill().unwrap();
        child.wait().unwrap();
        let note = path.with_extension("note");
        let noted = std::fs::read_to_string(&note).unwrap_or_default();
        let _ = std::fs::remove_file(&note);
        let mut flushed = vec![false; sectors.len()];
        for line in noted.lines() {
            let (lba, count) = line.split_once(' ').unwrap();
            let (lba, count): (usize, usize) = (lba.parse().unwrap(), count.parse().unwrap());
            flushed[lba..lba + count].fill(true);
        }
        if round % 10 == 0 || kills <= 20 {
            check(&path, true);
        }
        let bytes = content(&mut *open(&path, Access::ReadOnly).unwrap());
        for (number, sector) in bytes.chunks(512).enumerate() {
            let value = sector[0];
            assert!(
                sector.iter().all(|&byte| byte == value),
                "round {round}: sector {number} is torn"
            );
            // What was not flushed may be there or not.
            let known = value == seed as u8 || !flushed[number] && value == sectors[number];
            assert!(
                known,
                "round {round}: sector {number} is {value:#x}, was {:#x}",
                sectors[number]
            );
            sectors[number] = value;
        }
    }
}

/// Damaged images: an answer or a refusal, no panic, and bounded memory. `GLASSBOX_FUZZ_SECONDS` sets how long.
#[test]
fn damaged_images_are_refused_or_read() {
    let seconds: u64 =
        std::env::var("GLASSBOX_FUZZ_SECONDS").map_or(3, |text| text.parse().unwrap());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.qcow2");
    make(&path, 1 << 20, None, 9);
    let mut image = open(&path, Access::Write).unwrap();
    for lba in [0, 100, 2000] {
        image.write(lba, &[0x33; 2048]).unwrap();
    }
    drop(image);
    let good = std::fs::read(&path).unwrap();
    let mut random = Random(3);
    while std::time::Instant::now() < until {
        let mut bytes = good.clone();
        for _ in 0..1 + random.below(6) {
            // Half of it in the header, the rest in tables.
            let most = if random.below(2) == 0 {
                112
            } else {
                bytes.len() as u64
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
            bytes.truncate(random.below(good.len() as u64) as usize);
        }
        bytes[..4].copy_from_slice(b"QFI\xFB");
        std::fs::write(&path, &bytes).unwrap();
        let _ = disk::info(&path);
        for access in [Access::ReadOnly, Access::Write] {
            let Ok(mut image) = open(&path, access) else {
                continue;
            };
            let sectors = image.sectors();
            let mut buf = vec![0; 64 << 10];
            for _ in 0..20 {
                let lba = random.below(sectors.max(1));
                let len = (1 + random.below(128)).min(sectors.saturating_sub(lba)) as usize * 512;
                let _ = image.read(lba, &mut buf[..len]);
                if access == Access::Write {
                    let _ = image.write(lba, &buf[..len]);
                    let _ = image.discard(lba, len as u64 / 512);
                }
            }
            // A hostile size must not make files that large.
            let len = std::fs::metadata(&path).unwrap().len();
            assert!(len < 64 << 20, "{len}");
        }
    }
}
