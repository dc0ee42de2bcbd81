//! Disks on virtio, with the built-in BIOS: the guest is `test-roms/bios/disk`, INT 13h.

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::ended;

const IMAGE: &[u8] = include_bytes!("../../test-roms/bios/disk.img");

/// Images of this guest in a folder of their own.
fn images<const N: usize>() -> (tempfile::TempDir, [PathBuf; N]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = std::array::from_fn(|number| {
        let path = folder.path().join(format!("{number}.img"));
        std::fs::write(&path, IMAGE).unwrap();
        path
    });
    (folder, paths)
}

fn glassbox(disks: &[PathBuf], options: &str) -> Command {
    let mut command = common::glassbox();
    command
        .args(["run", "--display", "none", "--timeout", "100"])
        .args(["-m", "16M", "--debugcon", "stdio"])
        .stdin(Stdio::null());
    for disk in disks {
        command.args(["--disk", &format!("{}{options}", disk.display())]);
    }
    command
}

#[test]
fn the_bios_boots_reads_and_writes_it() {
    let (_folder, [path]) = images();
    let output = glassbox(std::slice::from_ref(&path), ",bus=virtio")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(ended(&output).0, Some(33), "{said}");
    assert!(said.contains(" 0 failed"), "{said}");
    assert!(std::fs::read(&path).unwrap() != IMAGE, "writes reach it");
}

#[test]
fn what_is_written_to_a_read_only_one_fails() {
    let (_folder, [path]) = images();
    let output = glassbox(std::slice::from_ref(&path), ",bus=virtio,readonly")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("FAIL"), "{said}");
    assert!(std::fs::read(&path).unwrap() == IMAGE);
}

#[test]
fn int_13h_says_that_a_disk_is_write_protected() {
    // MOV AX, 0301h; MOV CX, 2; MOV DX, 80h; XOR BX, BX; MOV ES, BX; MOV BX, 7E00h; INT 13h; MOV AL, AH; OUT F4h, AL
    const WRITE: [u8; 21] = [
        0xB8, 0x01, 0x03, 0xB9, 0x02, 0x00, 0xBA, 0x80, 0x00, 0x31, 0xDB, 0x8E, 0xC3, 0xBB, 0x00,
        0x7E, 0xCD, 0x13, 0x88, 0xE0, 0xE6,
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let code = [&WRITE[..], &[0xF4, 0xEB, 0xFE]].concat();
    std::fs::write(&path, common::boot_image(&code, 64 * 512)).unwrap();
    for (options, ah) in [(",bus=virtio,readonly", 0x03), (",bus=virtio", 0x00)] {
        let output = glassbox(std::slice::from_ref(&path), options).output();
        let status = ended(&output.unwrap()).0;
        assert_eq!(status, Some(ah << 1 | 1), "{options}");
    }
}

#[test]
fn more_than_fit_are_refused_in_one_line() {
    let (_folder, paths) = images::<9>();
    let output = glassbox(&paths, ",bus=virtio").output().unwrap();
    let (status, said) = ended(&output);
    assert_eq!(status, Some(2));
    assert!(
        said.contains("at most 8") && said.lines().count() == 1,
        "{said}"
    );
}
