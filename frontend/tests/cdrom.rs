//! CD-ROMs as a user meets them: which images are discs, what boots, what is refused, changes of media; and real discs
//! and systems from `test-roms/guests/make`, without which those tests say that they were skipped.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{boot_image, json, said};

const BLOCK: usize = 2048;
const BOOT_RECORD: usize = 17 * BLOCK;
const CATALOGUE: usize = 19 * BLOCK;
/// In the catalogue.
const ENTRY: usize = CATALOGUE + 0x20;

fn run(args: &[&str]) -> Output {
    common::glassbox()
        .arg("run")
        .args(args)
        .args(["--display", "none"])
        .output()
        .unwrap()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A small disc, which is one of the project's ROMs.
fn disc() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read(root.join("test-roms/bios/cdrom.img")).unwrap()
}

/// Boots a disc that cannot boot, and returns what was said of it.
fn not_bootable(folder: &Path, disc: &[u8]) -> String {
    let path = folder.join("disc.iso");
    std::fs::write(&path, disc).unwrap();
    let output = run(&[&text(&path), "--timeout", "60"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("nothing to boot: the CD-ROM"), "{said}");
    said
}

#[test]
fn a_disc_boots_as_image_and_as_cdrom() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disc.iso");
    std::fs::write(&path, disc()).unwrap();
    let path = text(&path);
    // The ROM's verdict; where it is not in the first drive it says so.
    for (args, status) in [
        (vec![path.as_str()], 33),
        (vec!["--cdrom", &path], 33),
        (vec![&path, "--image-as", "cdrom"], 33),
        (vec!["--cdrom", "none", "--cdrom", &path], 35),
    ] {
        let output = run(&args);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{args:?}: {}",
            said(&output)
        );
    }
    assert_eq!(
        std::fs::read(&path).unwrap(),
        disc(),
        "nothing was written to it"
    );
}

#[test]
fn damaged_boot_catalogues_end_in_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let with = |changes: &[(usize, &[u8])]| {
        let mut disc = disc();
        for (at, bytes) in changes {
            disc[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        not_bootable(folder.path(), &disc)
    };
    let unreadable = "cannot be read";
    let no_record = "no boot record";
    assert!(with(&[(BOOT_RECORD + 7, b"EL MARIACHI")]).contains(no_record));
    for lba in [!0u32, !15, 1000, 24] {
        assert!(with(&[(BOOT_RECORD + 0x47, &lba.to_le_bytes())]).contains(unreadable));
        assert!(with(&[(ENTRY + 8, &lba.to_le_bytes())]).contains(unreadable));
    }
    // The boot record, or the disc's end, as its own catalogue.
    for lba in [17u32, 23] {
        assert!(with(&[(BOOT_RECORD + 0x47, &lba.to_le_bytes())]).contains(no_record));
    }
    assert!(with(&[(CATALOGUE + 0x1E, &[0, 0])]).contains(no_record));
    assert!(with(&[(ENTRY, &[0])]).contains(no_record));
    for (media, sectors) in [(5, 1u16), (15, 1), (4, 1)] {
        let [low, high] = sectors.to_le_bytes();
        assert!(with(&[(ENTRY + 1, &[media]), (ENTRY + 6, &[low, high])]).contains(no_record));
    }
    // More than there is, and more than there is room for.
    assert!(with(&[(ENTRY + 6, &[0xFF, 0xFF])]).contains(unreadable));
    assert!(with(&[(ENTRY + 2, &[0xFF, 0xFF])]).contains(no_record));
    // For another platform, with sections that have no end.
    let mut section = [0; BLOCK - 0x40];
    for header in section.chunks_mut(32) {
        header[0] = 0x90;
    }
    for count in [0, 1, 0xFFFF_u16] {
        for header in section.chunks_mut(32) {
            header[2..4].copy_from_slice(&count.to_le_bytes());
        }
        assert!(with(&[(CATALOGUE + 1, &[0xEF]), (ENTRY + 0x20, &section)]).contains(no_record));
    }
    // Cut off: within the slack that the padding of some writers has.
    let torn = disc()[..18 * BLOCK + 100].to_vec();
    assert!(not_bootable(folder.path(), &torn).contains(unreadable));
}

#[test]
fn an_entry_behind_those_of_other_platforms_is_booted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disc.iso");
    let mut disc = disc();
    let entry: [u8; 32] = disc[ENTRY..ENTRY + 32].try_into().unwrap();
    disc[CATALOGUE + 1] = 0xEF;
    disc[ENTRY + 0x20..ENTRY + 0x24].copy_from_slice(&[0x90, 0xEF, 1, 0]);
    disc[ENTRY + 0x40] = 0x88;
    disc[ENTRY + 0x60..ENTRY + 0x64].copy_from_slice(&[0x91, 0, 1, 0]);
    disc[ENTRY + 0x80..ENTRY + 0xA0].copy_from_slice(&entry);
    std::fs::write(&path, disc).unwrap();
    let output = run(&[&text(&path), "--timeout", "60", "--until", "42h: read"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn what_no_drive_has_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disc.iso");
    std::fs::write(&path, disc()).unwrap();
    let path = text(&path);
    let insert = format!("x=><insert cdrom {path}>");
    let refuses = |args: &[&str], words: &[&str]| {
        let output = run(args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    };
    let four = ["--cdrom", "none"].repeat(4);
    refuses(
        &[&four[..], &[path.as_str()]].concat(),
        &["CD-ROM drives", "at most 4"],
    );
    refuses(
        &[&path, "--send", "x=><eject floppy>"],
        &["floppy", "--floppy none"],
    );
    refuses(
        &[&path, "--send", "x=><eject cdrom2>"],
        &["cdrom2", "--cdrom none"],
    );
    refuses(
        &["--floppy", "none", "--send", &insert],
        &["cdrom", "--cdrom FILE"],
    );
    refuses(
        &[&path, "--send", "x=><eject disk>"],
        &["<eject disk>", "floppy2"],
    );
    refuses(
        &[&path, "--send", "x=><insert cdrom missing.iso>"],
        &["missing.iso", "readable"],
    );
}

#[test]
fn a_save_names_what_is_in_the_drives() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    for name in ["one.iso", "two.iso"] {
        std::fs::write(at(name), disc()).unwrap();
    }
    let floppy = boot_image(&common::LOOP, 1_474_560);
    for name in ["a.img", "b.img"] {
        std::fs::write(at(name), &floppy).unwrap();
    }
    let state = at("state");
    let mut instructions = 0;
    let mut step = |machine: &[&str], text: &str, drives: &[&str], spec: serde_json::Value| {
        // What the BIOS says stays on the screen; the change is made, and time goes on.
        let send = format!("Glassbox BIOS=>{text}");
        instructions += 40_000_000;
        let most = instructions.to_string();
        let most = [
            "--max-instructions",
            &most,
            "--save",
            &state,
            "--send",
            &send,
        ];
        let output = run(&[machine, &most].concat());
        assert_eq!(output.status.code(), Some(124), "{}", said(&output));
        let manifest = json(&Path::new(&state).join("manifest.json"), "");
        let disks = manifest["machine"]["disks"].as_array().unwrap();
        let names: Vec<&str> = disks.iter().map(|disk| disk[0].as_str().unwrap()).collect();
        assert_eq!(names, drives);
        let found = &manifest["machine"]["spec"];
        assert_eq!(
            [&found["cdrom"], &found["floppy"]],
            [&spec["cdrom"], &spec["floppy"]]
        );
    };
    let first = [&at("a.img"), "--cdrom", &at("one.iso"), "-m", "16M"];
    step(
        &first,
        &format!("<insert cdrom {}>", at("two.iso")),
        &["floppy0", "cdrom0"],
        serde_json::json!({"cdrom": [at("two.iso")], "floppy": [at("a.img")]}),
    );
    step(
        &["--restore", &state],
        &format!("<eject cdrom><insert floppy {}>", at("b.img")),
        &["floppy0"],
        serde_json::json!({"cdrom": ["none"], "floppy": [at("b.img")]}),
    );
    step(
        &["--restore", &state],
        &format!("<eject floppy><insert cdrom {}>", at("one.iso")),
        &["cdrom0"],
        serde_json::json!({"cdrom": [at("one.iso")], "floppy": ["none"]}),
    );
    // What was taken out is free for others.
    let output = run(&[&at("a.img"), "--max-instructions", "1000"]);
    assert_eq!(output.status.code(), Some(124), "{}", said(&output));
}

/// The folder of guest `name`, if it has been made.
fn guest(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cache =
        std::env::var_os("GLASSBOX_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from);
    let folder = cache.join("guests").join(name);
    if folder.join("MANIFEST").exists() {
        return Some(folder);
    }
    eprintln!("skipped: the guest {name} is not there; make it with test-roms/guests/make");
    None
}

#[test]
fn debians_discs_boot_to_their_menus() {
    let Some(folder) = guest("discs") else { return };
    let files = [
        ("grub-rescue-cdrom.iso", "", "GNU GRUB"),
        ("grub-rescue-floppy.img", "floppy", "GNU GRUB"),
        ("grub-rescue-usb.img", "", "GNU GRUB"),
        ("grub-rescue-usb.img", "disk", "GNU GRUB"),
        ("isolinux.iso", "", "Glassbox ISOLINUX[^$]*Memory test"),
        ("hybrid.iso", "", "Glassbox ISOLINUX[^$]*Memory test"),
        ("hybrid.iso", "disk", "Glassbox ISOLINUX[^$]*Memory test"),
        ("grub.iso", "", r"hello from the disc\s+end of the script"),
        ("memtest86+x64.iso", "", "<Enter> to start testing"),
        ("memtest86+ia32.iso", "", "<Enter> to start testing"),
    ];
    for (name, kind, until) in files {
        let path = text(&folder.join(name));
        let mut args = vec![&path, "--ephemeral", "--timeout", "300", "--until", until];
        if !kind.is_empty() {
            args.extend(["--image-as", kind]);
        }
        let output = run(&args);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{name} {kind}: {}",
            said(&output)
        );
    }
}

/// Runs a Linux guest with the disc of files in its drive, types `sends` into it, and returns its serial output.
fn linux(name: &str, append: &str, disc: &Path, sends: &[&str]) -> Option<String> {
    let folder = guest(name)?;
    let report = tempfile::tempdir().unwrap();
    let report = report.path().join("report.json");
    let (kernel, initrd) = (folder.join("vmlinuz"), folder.join("initrd.gz"));
    let append = format!("console=ttyS0,115200 cryptomgr.notests {append}");
    let files = [&*kernel, &*initrd, disc, &*report].map(text);
    let [kernel, initrd, disc, report_text] = &files;
    let mut args = vec!["--kernel", kernel, "--initrd", initrd, "--append", &append];
    args.extend(["--cdrom", disc, "--timeout", "900", "--report", report_text]);
    for send in sends {
        args.extend(["--send", send]);
    }
    let output = run(&args);
    let report = json(&report, &said(&output));
    let serial = report["serial"][0].as_str().unwrap().to_owned();
    assert_eq!(report["end"]["cause"], "poweroff", "{serial}");
    Some(serial)
}

/// The sum of a disc that its maker wrote down.
fn sum(folder: &Path, name: &str) -> String {
    let manifest = std::fs::read_to_string(folder.join("MANIFEST")).unwrap();
    let line = manifest
        .lines()
        .find(|line| line.contains(&format!("sha256 {name} ")));
    line.unwrap().split_whitespace().last().unwrap().to_owned()
}

const READ: &str = "/ # =>dmesg | grep ATAPI; mount -t iso9660 /dev/sr0 /mnt; wc -l /mnt/numbers; sha256sum /dev/sr0; echo read=$?\\n";

#[test]
fn linux_reads_a_disc_by_dma_opens_the_tray_and_sees_another_disc() {
    let Some(discs) = guest("discs") else { return };
    let insert = format!(
        "open=0=><insert cdrom {}>mount -t iso9660 /dev/sr0 /mnt; cat /mnt/other.txt; umount /mnt; echo seen=$?\\n",
        text(&discs.join("other.iso"))
    );
    let sends = [
        READ,
        "read=0=>cd-tray open; umount /mnt; cd-tray open; echo open=$?\\n",
        &insert,
        "seen=0=><eject cdrom>mount -t iso9660 /dev/sr0 /mnt; cd-tray close; echo closed=$?\\n",
        "closed=0=>poweroff -f\\n",
    ];
    let Some(serial) = linux("amd64", "", &discs.join("data.iso"), &sends) else {
        return;
    };
    assert!(serial.contains(&sum(&discs, "data.iso")), "{serial}");
    for word in [
        "ATAPI: GLASSBOX CD-ROM",
        "1200000 /mnt/numbers",
        "the other disc",
        "No medium found",
    ] {
        assert!(serial.contains(word), "{word}: {serial}");
    }
    // The file system is mounted, so the door stays shut.
    assert!(
        serial.contains("ILLEGAL REQUEST asc=0x53 ascq=0x2"),
        "{serial}"
    );
    for word in ["I/O error", "frozen", "BUG:", "Call Trace"] {
        assert!(!serial.contains(word), "{word}: {serial}");
    }
}

#[test]
fn linux_reads_a_disc_by_pio() {
    let Some(discs) = guest("discs") else { return };
    let sends = [READ, "read=0=>poweroff -f\\n"];
    // Bit 0 of the mask lets disks have DMA, so packet devices have none.
    let append = "libata.dma=1";
    let Some(serial) = linux("i386", append, &discs.join("data.iso"), &sends) else {
        return;
    };
    assert!(serial.contains(&sum(&discs, "data.iso")), "{serial}");
    assert!(serial.contains("1200000 /mnt/numbers"), "{serial}");
    assert!(!serial.contains("I/O error"), "{serial}");
}
