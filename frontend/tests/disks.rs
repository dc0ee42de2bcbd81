//! What happens to image files: while a guest writes to one (the guest is `test-roms/devices/disk-writes`), when
//! one is of a format that is not supported, is no file, or is named twice, and which drive one gets.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{ended, kernel_header};

const FIRST: usize = 8;
const SECTORS: usize = 64;
const IMAGE: &[u8] = include_bytes!("../../test-roms/devices/disk-writes.img");

/// The guest's image in a folder of its own; it ends after `generations`, or never after 0.
fn image(generations: u16) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let mut bytes = IMAGE.to_vec();
    bytes[506..508].copy_from_slice(&generations.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn glassbox(image: &Path, args: &[&str]) -> Command {
    let mut command = common::glassbox();
    command
        .args(["run", "--display", "none", "--image-as", "disk"])
        .args(["--timeout", "100"])
        .args(args)
        .arg(image)
        .stdin(Stdio::null());
    command
}

/// The generation of each sector; panics when one is torn.
fn generations(path: &Path) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes.len(), IMAGE.len());
    let sector = |n: usize| bytes[n * 512..][..512].as_chunks::<4>().0;
    (FIRST..FIRST + SECTORS)
        .map(|n| {
            let words = sector(n);
            let first = u32::from_le_bytes(words[0]);
            let whole = words.iter().all(|word| *word == words[0]);
            let old = first == 0;
            assert!(
                whole && (old || first & 0xFFFF == n as u32),
                "sector {n} is torn: {words:x?}"
            );
            first >> 16
        })
        .collect()
}

#[test]
fn writes_reach_the_image_unless_ephemeral() {
    let (_folder, path) = image(3);
    let before = std::fs::read(&path).unwrap();
    let output = glassbox(&path, &["--ephemeral"]).output().unwrap();
    assert_eq!(ended(&output).0, Some(33), "{output:?}");
    assert!(std::fs::read(&path).unwrap() == before);

    let output = glassbox(&path, &[]).output().unwrap();
    assert_eq!(ended(&output).0, Some(33), "{output:?}");
    assert_eq!(generations(&path), [3; SECTORS]);
    let after = std::fs::read(&path).unwrap();
    let written = FIRST * 512..(FIRST + SECTORS) * 512;
    assert!(after[..written.start] == before[..written.start]);
    assert!(after[written.end..] == before[written.end..]);
}

/// Ends a machine without its help, also when the test fails.
struct Running(Child);

impl Running {
    fn kill(&mut self) {
        // On Unix this is SIGKILL.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(path: &Path) -> Running {
    let mut command = glassbox(path, &[]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// Waits until the guest has written to the image anew.
fn wait_for_writes(path: &Path, before: &[u8]) {
    let limit = Instant::now() + Duration::from_secs(60);
    while std::fs::read(path).unwrap() == before {
        assert!(Instant::now() < limit, "the guest writes nothing");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_machine_leaves_whole_sectors() {
    let (_folder, path) = image(0);
    let mut seed = 0x9E37_79B9u32;
    for round in 0..10 {
        let before = std::fs::read(&path).unwrap();
        let mut machine = start(&path);
        wait_for_writes(&path, &before);
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        std::thread::sleep(Duration::from_micros(u64::from(seed >> 15)));
        machine.kill();
        let generations = generations(&path);
        assert!(generations[0] > 0, "round {round}");
        assert!(std::fs::read(&path).unwrap()[..FIRST * 512] == before[..FIRST * 512]);
    }
}

#[test]
fn an_image_in_use_is_refused_and_free_again_after_a_kill() {
    let (_folder, path) = image(0);
    let before = std::fs::read(&path).unwrap();
    let mut machine = start(&path);
    wait_for_writes(&path, &before);
    for args in [&[][..], &["--ephemeral"]] {
        let (status, said) = ended(&glassbox(&path, args).output().unwrap());
        assert_eq!(status, Some(2), "{said}");
        assert!(
            said.contains("disk.img") && said.contains("in use"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    machine.kill();
    let (status, said) = ended(
        &glassbox(&path, &["--max-instructions", "1000"])
            .output()
            .unwrap(),
    );
    assert_eq!(status, Some(124), "{said}");
}

/// Root may read everything, so that as root the machine runs as nobody.
#[cfg(unix)]
#[test]
fn an_unreadable_image_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    let (folder, path) = image(3);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o755);
    mode(&path, 0o000);
    let mut command = glassbox(&path, &[]);
    if std::fs::File::open(&path).is_ok() {
        const NOBODY: u32 = 65534;
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("not run: nobody cannot run the program: {error}");
            return;
        }
    };
    let (status, said) = ended(&output);
    assert_eq!(status, Some(2), "{said}");
    assert!(
        said.contains("disk.img") && said.contains("permission"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    mode(&path, 0o600);
    assert_eq!(std::fs::read(&path).unwrap()[FIRST * 512], 0);
}

#[test]
fn more_memory_than_the_host_has_is_no_panic() {
    let (_folder, path) = image(3);
    let before = std::fs::read(&path).unwrap();
    let args = ["--memory", "512G", "--max-instructions", "1000"];
    let (status, said) = ended(&glassbox(&path, &args).output().unwrap());
    // A host that promises memory which it lacks lets it start.
    assert!(matches!(status, Some(2 | 124)), "{status:?} {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    if status == Some(2) {
        assert!(
            said.contains("-m 512G") && said.contains("try -m"),
            "{said}"
        );
        assert!(!said.contains("549755813888"), "{said}");
    }
    assert!(std::fs::read(&path).unwrap() == before);
}

/// Runs `glassbox run` with `args` in `folder`; what blocks is a failure.
fn run_in(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = common::glassbox();
    command
        .args(["run", "--display", "none", "--timeout", "100"])
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = Running(command.spawn().unwrap());
    let limit = Instant::now() + Duration::from_secs(200);
    while running.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < limit, "{args:?} blocks");
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut said = String::new();
    let status = running.0.wait().unwrap().code();
    if let Some(mut stderr) = running.0.stderr.take() {
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    }
    (status, said)
}

/// As `run_in`, for what is refused in a line that has all of `words` in it.
fn refuses(folder: &Path, args: &[&str], words: &[&str]) {
    let (status, said) = run_in(folder, args);
    assert_eq!(status, Some(2), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?}: no `{word}` in: {said}");
    }
}

/// 64 KiB with a boot sector's signature and `content` at `at`.
fn file_with(at: usize, content: &[u8]) -> Vec<u8> {
    let mut file = common::boot_image(&[], 0x1_0000);
    file[at..at + content.len()].copy_from_slice(content);
    file
}

fn tar(name: &[u8]) -> Vec<u8> {
    let mut file = file_with(0, name);
    file[257..262].copy_from_slice(b"ustar");
    let sum: u32 = file[..512].iter().map(|&byte| u32::from(byte)).sum();
    file[148..154].copy_from_slice(format!("{:06o}", sum + 8 * 32).as_bytes());
    file
}

/// A file's name, its bytes, how it is called, and what to do about it.
type Refused = (&'static str, Vec<u8>, &'static str, &'static str);

/// Virtual disks.
fn containers() -> Vec<Refused> {
    let at = file_with;
    let qemu = "qemu-img convert";
    vec![
        ("b.img", at(0, b"QED\0"), "QED", "b.raw"),
        ("c.qcow", at(0, b"QFI\xFB\0\0\0\x01"), "qcow image", qemu),
        ("d.qed", at(0, b"QED\0"), "QED", qemu),
        ("h.vmdk", at(0, b"COWD"), "COWD", qemu),
        ("k.vhdx", at(0, b"vhdxfile"), "VHDX", qemu),
        ("l.hdd", at(0, b"WithouFreSpacExt"), "Parallels", qemu),
        (
            "m.dmg",
            at(0xFE00, b"koly\0\0\0\x04\0\0\x02\0"),
            "DMG",
            qemu,
        ),
        ("n.img", at(0, b"Bochs Virtual HD Image"), "Bochs", qemu),
        (
            "o.cloop",
            at(0, b"#!/bin/sh\n#V2.0 Format"),
            "cloop",
            "extract_compressed_fs",
        ),
        (
            "p.bin",
            at(0, b"\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0"),
            "2352",
            "bchunk",
        ),
    ]
}

/// Compressed files and archives.
fn packed() -> Vec<Refused> {
    let at = file_with;
    vec![
        (
            "a.img.gz",
            at(0, b"\x1F\x8B\x08"),
            "gzip",
            "gzip -dk a.img.gz",
        ),
        (
            "b.img",
            at(0, b"\x1F\x8B\x08"),
            "gzip",
            "gzip -dc < b.img > b.raw",
        ),
        ("c.xz", at(0, b"\xFD7zXZ\0"), "xz", "xz -dk c.xz"),
        (
            "d.zst",
            at(0, b"\x28\xB5\x2F\xFD"),
            "zstd",
            "zstd -dk d.zst",
        ),
        ("e.bz2", at(0, b"BZh91AY&SY"), "bzip2", "bzip2 -dk e.bz2"),
        ("f.lz4", at(0, b"\x04\x22\x4D\x18"), "lz4", "lz4 -dk f.lz4"),
        ("g.lz", at(0, b"LZIP\x01"), "lzip", "lzip -dk g.lz"),
        ("h.zip", at(0, b"PK\x03\x04"), "zip", "unzip h.zip"),
        ("i.7z", at(0, b"7z\xBC\xAF\x27\x1C"), "7z", "7z x i.7z"),
        ("j.rar", at(0, b"Rar!\x1A\x07"), "RAR", "unrar x j.rar"),
        ("k.tar", tar(b"notes.txt"), "tar", "tar -xf k.tar"),
        ("l.ova", tar(b"machine.ovf"), "OVA", "tar -xf l.ova"),
    ]
}

#[test]
fn other_formats_are_refused_by_name_wherever_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("kernel"), kernel_header(700)).unwrap();
    let containers = containers();
    let most = containers.len();
    for (number, (name, bytes, called, advice)) in
        containers.into_iter().chain(packed()).enumerate()
    {
        let path = folder.join(name);
        std::fs::write(&path, &bytes).unwrap();
        let refuses = |args: &[&str], words: &[&str]| {
            let mut all = vec![name, "expected", "found", called, advice];
            all.extend_from_slice(words);
            refuses(folder, args, &all);
        };
        refuses(&[name], &["IMAGE"]);
        refuses(&[name, "--ephemeral"], &["IMAGE"]);
        refuses(&[name, "--image-as", "disk"], &["IMAGE"]);
        refuses(&["--disk", name], &["--disk", "format=raw"]);
        refuses(&["--floppy", name], &["--floppy"]);
        refuses(&["--cdrom", name], &["--cdrom"]);
        refuses(&["--kernel", name], &["--kernel"]);
        refuses(&["--firmware", name], &["--firmware"]);
        refuses(&["--vga-rom", name], &["--vga-rom"]);
        // Linux unpacks what is compressed; a virtual disk is a mistake.
        let initrd = ["--kernel", "kernel", "--initrd", name];
        if number < most {
            refuses(&initrd, &["--initrd"]);
        } else {
            let (_, said) = run_in(folder, &initrd);
            assert!(!said.contains("--initrd"), "{said}");
        }
        assert!(
            std::fs::read(&path).unwrap() == bytes,
            "{name} was written to"
        );
    }
}

#[test]
fn a_raw_disk_that_looks_like_another_format_is_one_if_the_user_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("a,b.img"), file_with(0, b"QFI\xFB\0\0\0\x03")).unwrap();
    let brief = ["--max-instructions", "1000", "--disk"];
    let run = |disk: &str| run_in(folder, &[&brief[..], &[disk]].concat());
    refuses(
        folder,
        &["--disk", "a,,b.img"],
        &["--disk a,,b.img,format=raw"],
    );
    refuses(folder, &["--disk", "a,b.img"], &["`b.img`", "twice"]);
    assert_eq!(run("a,,b.img,format=raw").0, Some(124));
}

#[test]
fn a_read_only_disk_is_never_written_to() {
    let (folder, path) = image(3);
    let before = std::fs::read(&path).unwrap();
    let args = [
        "--max-instructions",
        "3000000",
        "--disk",
        "disk.img,readonly",
    ];
    let (status, said) = run_in(folder.path(), &args);
    assert!(
        matches!(status, Some(status) if status != 33 && status != 2),
        "{status:?} {said}"
    );
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn one_file_named_twice_is_told_from_one_in_use() {
    let (folder, path) = image(3);
    let folder = folder.path();
    std::fs::hard_link(&path, folder.join("hard.img")).unwrap();
    let twice =
        |args: &[&str]| refuses(folder, args, &["names already", "disk.img", "--ephemeral"]);
    twice(&["disk.img", "--image-as", "disk", "--disk", "disk.img"]);
    twice(&["--disk", "disk.img", "--disk", "./disk.img,readonly"]);
    twice(&["--disk", "disk.img", "--disk", "hard.img"]);
    twice(&["--floppy", "disk.img", "--disk", "disk.img"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&path, folder.join("soft.img")).unwrap();
        twice(&["--disk", "disk.img", "--disk", "soft.img"]);
    }
    let harmless = ["--disk", "disk.img", "--disk", "hard.img", "--ephemeral"];
    let (status, said) = run_in(
        folder,
        &[&harmless[..], &["--max-instructions", "1000"]].concat(),
    );
    assert_eq!(status, Some(124), "{said}");
    // Nor does the run write over its own disk.
    for output in [["--report", "hard.img"], ["--serial", "file:disk.img"]] {
        let args = [&["--disk", "disk.img"], &output[..]].concat();
        refuses(folder, &args, &[output[0], "--disk names"]);
    }
    assert_eq!(std::fs::read(&path).unwrap().len(), IMAGE.len());
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    std::fs::write(folder.join("kernel"), kernel_header(700)).unwrap();
    let mut cases = vec![("socket", "a socket"), ("/dev/full", "a character device")];
    match Command::new("mkfifo").arg(folder.join("fifo")).status() {
        Ok(status) if status.success() => cases.push(("fifo", "a FIFO")),
        _ => eprintln!("FIFOs are not tried: there is no mkfifo here"),
    }
    for (name, what) in cases {
        for args in [
            &[name][..],
            &["--disk", name],
            &["--floppy", name],
            &["--cdrom", name],
            &["--kernel", name],
            &["--kernel", "kernel", "--initrd", name],
            &["--firmware", name],
            &["--vga-rom", name],
        ] {
            refuses(folder, args, &[name, "expected a file", what]);
        }
    }
}

/// A boot sector with `code`, and behind it what the file's `len` has room for: 10h.
fn boot_image(code: &[u8], len: usize) -> Vec<u8> {
    let mut image = common::boot_image(code, len);
    image[512..].fill(0x10);
    image
}

/// Ends with status 33 (10h) from a hard disk, with 1 (0) from a floppy disk.
const TELL_DRIVE: [u8; 9] = [
    0x88, 0xD0, // MOV AL, DL
    0xC0, 0xE8, 0x03, // SHR AL, 3
    0xE6, 0xF4, // OUT F4h, AL
    0xFA, 0xF4, // CLI; HLT
];

#[test]
fn a_small_image_is_a_floppy_unless_it_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (floppy, disk) = (Some(1), Some(33));
    let is = |what, image: &[u8], args: &[&str]| {
        std::fs::write(folder.join("os.bin"), image).unwrap();
        let (status, said) = run_in(folder, &[&["os.bin"], args].concat());
        assert_eq!(status, what, "{} bytes {args:?}: {said}", image.len());
    };
    let bare = boot_image(&TELL_DRIVE, 2500);
    is(floppy, &bare, &[]);
    is(floppy, &bare[..512], &[]);
    is(floppy, &TELL_DRIVE, &[]);
    is(disk, &bare, &["--image-as", "disk"]);
    is(disk, &boot_image(&TELL_DRIVE, 5761 * 512), &[]);
    let mut partitioned = bare.clone();
    partitioned[446] = 0x80;
    partitioned[450] = 0x83;
    partitioned[454] = 1;
    partitioned[458] = 4;
    is(disk, &partitioned, &[]);
    let mut extended = bare;
    // Behind what runs: MOV AH, 42h; INT 13h.
    extended[20..24].copy_from_slice(&[0xB4, 0x42, 0xCD, 0x13]);
    is(disk, &extended, &[]);
}

#[test]
fn a_floppy_image_of_any_size_reads_as_zeros_behind_its_end_and_grows_by_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("os-image.bin");
    let read = [
        0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, // DS = ES = SS = 0
        0xBC, 0x00, 0x7C, // MOV SP, 7C00h
        0xB8, 0x10, 0x02, // MOV AX, 0210h: 16 sectors
        0xB9, 0x02, 0x00, // from the second one of the first track
        0xB6, 0x00, 0xBB, 0x00, 0x10, // to 1000h
        0xCD, 0x13, // INT 13h
        0xB0, 0x31, 0x72, 0x09, // MOV AL, 31h; JC out
        0xA0, 0x00, 0x10, // MOV AL, [1000h]: the file's
        0x0A, 0x06, 0x00, 0x2E, // OR AL, [2E00h]: the last sector's
        0x08, 0xD0, // OR AL, DL
        0xE6, 0xF4, 0xFA, 0xF4, // out: OUT F4h, AL
    ];
    for len in [513, 2500, 7680, 1_474_561 - 1 - 512] {
        let mut image = boot_image(&read, len);
        // The sector that is read last is behind the end, or zeros.
        if len > 16 * 512 {
            image[16 * 512..17 * 512].fill(0);
        }
        std::fs::write(&path, &image).unwrap();
        let (status, said) = run_in(folder, &["os-image.bin"]);
        assert_eq!(status, Some(33), "{len} bytes: {said}");
        assert!(std::fs::read(&path).unwrap() == image, "{len} bytes");
    }
    let write = [
        0x31, 0xC0, 0x8E, 0xC0, // ES = 0
        0xB8, 0x01, 0x03, // MOV AX, 0301h: 1 sector
        0xB9, 0x01, 0x01, // the first one of the second cylinder
        0xB6, 0x00, 0xBB, 0x00, 0x7C, // from 7C00h
        0xCD, 0x13, // INT 13h
        0xB0, 0x10, // MOV AL, 10h
        0x73, 0x02, 0xB0, 0x31, // JNC out; MOV AL, 31h
        0xE6, 0xF4, 0xFA, 0xF4, // out: OUT F4h, AL
    ];
    let image = boot_image(&write, 2500);
    std::fs::write(&path, &image).unwrap();
    assert_eq!(run_in(folder, &["os-image.bin", "--ephemeral"]).0, Some(33));
    assert!(std::fs::read(&path).unwrap() == image);
    assert_eq!(run_in(folder, &["os-image.bin"]).0, Some(33));
    let after = std::fs::read(&path).unwrap();
    assert_eq!(after.len(), 1_474_560);
    assert!(after[..2500] == image[..]);
    assert!(after[36 * 512..37 * 512] == image[..512]);
    assert!(after[2500..36 * 512].iter().all(|&byte| byte == 0));
}
