//! `run --save` and `run --restore`, as a user meets them.

mod common;

use std::path::Path;
use std::process::Output;

use common::{boot_image, json, said};

fn glassbox(args: &[&str]) -> Output {
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

/// A boot sector that counts at 0:8000 and writes the count to the second sector of its disk, over and over.
fn writer() -> Vec<u8> {
    let code = [
        0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, // xor ax, ax; mov ds, ax; mov es, ax
        0xFF, 0x06, 0x00, 0x80, // again: inc word [8000h]
        0xB8, 0x01, 0x03, // mov ax, 0301h
        0xBB, 0x00, 0x80, // mov bx, 8000h
        0xB9, 0x02, 0x00, // mov cx, 2
        0xBA, 0x80, 0x00, // mov dx, 80h
        0xCD, 0x13, // int 13h
        0xEB, 0xEC, // jmp again
    ];
    boot_image(&code, 64 * 512)
}

#[test]
fn a_saved_machine_goes_on_with_its_disks() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    for ephemeral in [false, true] {
        let make = |name: &str| {
            std::fs::write(folder.path().join(name), writer()).unwrap();
            let mut machine = vec![
                String::from("--disk"),
                at(name),
                "--boot".into(),
                "disk".into(),
            ];
            if ephemeral {
                machine.push("--ephemeral".into());
            }
            machine
        };
        let run = |machine: &[String], more: &[&str]| {
            let machine: Vec<&str> = machine.iter().map(String::as_str).collect();
            let output = glassbox(&[&machine[..], more].concat());
            assert_eq!(output.status.code(), Some(124), "{}", said(&output));
        };
        let (one, two) = (at("one.json"), at("two.json"));
        run(
            &make("straight.img"),
            &["--max-instructions", "6000000", "--report", &one],
        );
        run(
            &make("cut.img"),
            &["--max-instructions", "4000000", "--save", &at("state")],
        );
        let restore = [String::from("--restore"), at("state")];
        run(
            &restore,
            &["--max-instructions", "6000000", "--report", &two],
        );
        let [one, two] = ["one.json", "two.json"].map(|name| json(&folder.path().join(name), ""));
        for field in ["instructions", "state_sha256", "cpus"] {
            assert_eq!(one[field], two[field], "{field}");
        }
        let image = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(image("straight.img"), image("cut.img"));
        assert_eq!(
            image("cut.img") == writer(),
            ephemeral,
            "what was written went to the disk"
        );

        // The disk has gone on; the saved machine would find another one than it left.
        if !ephemeral {
            let output = glassbox(&["--restore", &at("state"), "--max-instructions", "1"]);
            assert_eq!(output.status.code(), Some(2));
            assert!(said(&output).contains("disk0"), "{}", said(&output));
            assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
        }
    }
}

#[test]
fn what_cannot_be_restored_or_saved_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    std::fs::write(folder.path().join("disk.img"), writer()).unwrap();
    let machine = ["--disk", &at("disk.img"), "--boot", "disk", "--ephemeral"];
    let save = ["--max-instructions", "3000000", "--save", &at("state")];
    assert_eq!(
        glassbox(&[&machine[..], &save[..]].concat()).status.code(),
        Some(124)
    );
    let refused = |args: &[&str], status: i32, word: &str| {
        let output = glassbox(args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(word), "{said}");
        let own: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("error"))
            .collect();
        assert_eq!(own.len(), 1, "{said}");
    };
    refused(&["--restore", &at("none")], 2, "saved machine");
    refused(
        &["--restore", &at("state"), "--memory", "1G"],
        2,
        "--memory",
    );
    let state = std::fs::read_dir(folder.path().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| text(path).contains("state-"))
        .unwrap();
    let whole = std::fs::read(&state).unwrap();
    let mut bytes = whole.clone();
    bytes[100] ^= 1;
    std::fs::write(&state, &bytes).unwrap();
    refused(&["--restore", &at("state")], 2, "other bytes");
    std::fs::write(&state, &whole).unwrap();
    // A folder that holds something else, and one that cannot be made.
    std::fs::create_dir(folder.path().join("thesis")).unwrap();
    std::fs::write(folder.path().join("thesis/chapter.txt"), "mine").unwrap();
    let elsewhere = ["--max-instructions", "1000", "--save", &at("thesis")];
    refused(&[&machine[..], &elsewhere[..]].concat(), 2, "other files");
    let nowhere = ["--max-instructions", "1000", "--save", "/dev/null/state"];
    refused(&[&machine[..], &nowhere[..]].concat(), 2, "--save");
    // Nothing that a run writes goes into a save, or over another output.
    let inside = at("state/manifest.json");
    let report = ["--restore", &at("state"), "--report", &inside];
    refused(&report, 2, "--restore");
    let twice = at("one.json");
    let outputs = ["--report", &twice, "--screenshot", &twice];
    refused(&[&machine[..], &outputs[..]].concat(), 2, "--report");
    let again = ["--restore", &at("state"), "--max-instructions", "3100000"];
    assert_eq!(
        glassbox(&again).status.code(),
        Some(124),
        "it is whole still"
    );
}

/// Killed at any moment, a save leaves the one before whole.
#[cfg(unix)]
#[test]
fn a_save_that_is_killed_leaves_the_earlier_one_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    std::fs::write(folder.path().join("disk.img"), writer()).unwrap();
    let first = [
        "--disk",
        &at("disk.img"),
        "--boot",
        "disk",
        "--ephemeral",
        "-m",
        "64M",
    ];
    let save = ["--max-instructions", "3000000", "--save", &at("state")];
    assert_eq!(
        glassbox(&[&first[..], &save[..]].concat()).status.code(),
        Some(124)
    );
    for delay_ms in [20, 60, 100, 140, 180, 220, 300] {
        let mut child = common::glassbox()
            .args(["run", "--restore", &at("state"), "--display", "none"])
            .args(["--max-instructions", "3500000", "--save", &at("state")])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let again = ["--restore", &at("state"), "--max-instructions", "3600000"];
        let output = glassbox(&again);
        assert_eq!(output.status.code(), Some(124), "{}", said(&output));
    }
}
