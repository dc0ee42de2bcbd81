//! The command line as a shell sees it: statuses, one-line errors, and files that stay as they are.

mod common;

use std::path::Path;
use std::process::Output;

fn glassbox(folder: &Path, args: &[&str]) -> Output {
    common::glassbox()
        .args(args)
        .current_dir(folder)
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .output()
        .unwrap()
}

/// Runs it, and checks that it fails with status 2 and one line that has all of `words` in it.
fn refuses(folder: &Path, args: &[&str], words: &[&str]) {
    let output = glassbox(folder, args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert!(said.starts_with("error: "), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?}: no `{word}` in: {said}");
    }
    assert!(output.stdout.is_empty(), "{args:?}");
}

/// As `refuses`, for errors that Glassbox words itself, which take one line.
fn refuses_in_a_line(folder: &Path, args: &[&str], words: &[&str]) {
    refuses(folder, args, words);
    let said = String::from_utf8(glassbox(folder, args).stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
}

/// A folder with images of many kinds, all of them refused for some reason.
fn images() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("empty.img", b"");
    write("data.img", &[0; 4096]);
    write("text.txt", b"not an image\n");
    write("disk.img", &common::boot_image(&[], 1 << 20));
    write("cut.bzimage", &common::kernel_header(700));
    let mut iso = vec![0; 0x9000];
    iso[0x8001..0x8006].copy_from_slice(b"CD001");
    iso[0x8050..0x8054].copy_from_slice(&0x10000u32.to_le_bytes());
    iso[0x8080..0x8082].copy_from_slice(&2048u16.to_le_bytes());
    write("cut.iso", &iso);
    let mut elf = vec![0; 64];
    elf[..7].copy_from_slice(b"\x7FELF\x02\x01\x01");
    write("plain.elf", &elf);
    folder
}

#[test]
fn bad_images_are_named_with_what_to_do() {
    let folder = images();
    let folder = folder.path();
    let run = |image: &str, words: &[&str]| {
        let mut all = vec![image];
        all.extend_from_slice(words);
        refuses_in_a_line(folder, &["run", image, "--display", "none"], &all);
    };
    run("missing.img", &["expected a readable file", "check"]);
    run("empty.img", &["empty", "check"]);
    run("data.img", &["not a bootable image", "--disk"]);
    run("text.txt", &["not a bootable image"]);
    run(".", &["directory"]);
    run("cut.bzimage", &["truncated", "get the file again"]);
    run("cut.iso", &["truncated"]);
    run("plain.elf", &["multiboot", "PVH"]);
    let kernel = |file: &str, words: &[&str]| {
        refuses_in_a_line(
            folder,
            &["run", "--kernel", file, "--display", "none"],
            words,
        );
    };
    kernel("disk.img", &["disk.img", "expected a kernel"]);
    kernel("text.txt", &["text.txt", "expected a kernel"]);
    kernel("empty.img", &["empty.img", "empty"]);
    kernel("missing", &["missing", "readable"]);
    refuses_in_a_line(
        folder,
        &["run", "--cdrom", "disk.img", "--display", "none"],
        &["disk.img", "ISO 9660"],
    );
    refuses_in_a_line(
        folder,
        &[
            "run",
            "--floppy",
            "cut.iso",
            "--floppy",
            "missing",
            "--display",
            "none",
        ],
        &["missing"],
    );
}

#[test]
fn bad_options_are_named_with_what_to_do() {
    let folder = images();
    let folder = folder.path();
    let run = |args: &[&str], words: &[&str]| {
        let mut all = vec!["run", "disk.img", "--display", "none"];
        all.extend_from_slice(args);
        refuses_in_a_line(folder, &all, words);
    };
    run(&["--cpu", "z80"], &["--cpu z80", "max"]);
    run(&["--cpus", "17"], &["--cpus 17", "expected 1 to 16"]);
    run(
        &["--cpus", "2", "--cpu", "i486"],
        &["--cpus 2", "--cpu i486", "no APIC"],
    );
    run(&["--until", "("], &["--until", "regular expression"]);
    run(&["--send", "no arrow"], &["--send", "REGEX=>TEXT"]);
    run(&["--send", "a=><nokey>"], &["nokey", "<enter>"]);
    run(&["--send", "a=><mouse 1>"], &["<mouse 1>", "<mouse DX DY>"]);
    run(&["--serial", "tcp:x"], &["--serial tcp:x", "file:PATH"]);
    run(&["--serial", "stdio", "--serial", "stdio"], &["once"]);
    run(&["--gdb", "1234"], &["--gdb", "not yet available"]);
    run(&["--timeout", "0"], &["--timeout", "above 0"]);
    run(&["--timeout", "nan"], &["--timeout", "above 0"]);
    run(
        &["--report", "no/such/folder/r.json"],
        &["--report", "folder"],
    );
    run(&["--screenshot", "."], &["--screenshot", "directory"]);
    run(&["--firmware", "text.txt"], &["text.txt", "--firmware"]);
    run(&["--firmware", "missing.bin"], &["missing.bin"]);
    run(&["--vga-rom", "text.txt"], &["text.txt", "--vga-rom"]);
    // Files that could be mistaken for what is asked for: nothing of them starts, and no guest writes over them.
    std::fs::write(folder.join("zeros.bin"), vec![0; 0x10000]).unwrap();
    let mut code = vec![0x90; 0x20000];
    code[0x1FFF0] = 0xEA;
    std::fs::write(folder.join("code.fd"), code).unwrap();
    run(&["--firmware", "zeros.bin"], &["zeros.bin", "reset vector"]);
    run(&["--vga-rom", "zeros.bin"], &["zeros.bin", "55 AA"]);
    run(&["--net", "user,rom=zeros.bin"], &["zeros.bin", "55 AA"]);
    let foreign = ["--firmware", "code.fd"];
    run(
        &[&foreign[..], &["--uefi-vars", "zeros.bin"]].concat(),
        &["--uefi-vars zeros.bin", "another kind"],
    );
    run(&["--uefi-vars", "zeros.bin"], &["--uefi-vars", "built-in"]);
    run(&["--append", "x"], &["--kernel"]);
    run(&["--kernel", "cut.bzimage"], &["--kernel", "--disk"]);
    run(&["--disk", "disk.img"], &["disk.img", "names already"]);
    refuses_in_a_line(
        folder,
        &["run", "disk.img", "--display", "window"],
        &["--display window", "--display terminal"],
    );
    refuses_in_a_line(
        folder,
        &["run", "disk.img", "--display", "terminal"],
        &["--display terminal", "--display none"],
    );
    for memory in ["0", "1", "12Q", "999999G", "-1", "1025K", ""] {
        let memory = format!("--memory={memory}");
        refuses(folder, &["run", "disk.img", &memory], &["--memory"]);
    }
    refuses(folder, &["run", "--no-such-option"], &["--no-such-option"]);
    refuses(folder, &["frobnicate"], &["frobnicate"]);
}

#[test]
fn a_command_line_without_run_is_answered_with_it() {
    let folder = images();
    let folder = folder.path();
    refuses_in_a_line(
        folder,
        &["--display", "terminal"],
        &["--display is an option", "glassbox run --display terminal"],
    );
    refuses_in_a_line(folder, &["-m", "1G"], &["glassbox run -m 1G"]);
    refuses_in_a_line(
        folder,
        &["disk.img", "--display=none"],
        &["disk.img", "glassbox run disk.img --display=none"],
    );
    refuses_in_a_line(folder, &["--frobnicate"], &["--frobnicate", "see --help"]);
    for (options, words) in [
        (["run", "--boot", "floppy,floppy"], ["--boot", "once"]),
        (["run", "--keyboard", "xx"], ["--keyboard xx", "us, uk, de"]),
        (["run", "--display", "foo"], ["--display", "terminal"]),
    ] {
        refuses_in_a_line(folder, &options, &words);
    }
}

#[test]
fn a_tour_that_nobody_sees_is_refused_with_ways_to_see_it() {
    let folder = images();
    let folder = folder.path();
    for args in [
        &[][..],
        &["run"],
        &["run", "--display", "auto", "-m", "64M"],
    ] {
        let words = ["the tour", "no terminal", "--screenshot"];
        refuses_in_a_line(folder, args, &words);
    }
    let output = glassbox(folder, &["run", "--max-instructions", "1000"]);
    assert_eq!(output.status.code(), Some(124));
}

#[cfg(unix)]
#[test]
fn a_display_that_cannot_be_had_is_named() {
    let folder = images();
    let folder = folder.path();
    let run = |name: &str, value: &str, args: &[&str]| {
        let mut all = vec![
            "run",
            "disk.img",
            "--ephemeral",
            "--max-instructions",
            "1000",
        ];
        all.extend_from_slice(args);
        let mut command = common::glassbox();
        command.args(&all).current_dir(folder);
        command
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .env(name, value);
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    if !glassbox_has_window(folder) {
        eprintln!("skipped: this build has no window");
        return;
    }
    for (name, value, word) in [
        ("DISPLAY", ":987", "DISPLAY=:987"),
        ("WAYLAND_DISPLAY", "wayland-987", "Wayland"),
    ] {
        let (status, said) = run(name, value, &["--display", "window"]);
        assert_eq!(status, Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("error: --display window"), "{said}");
        assert!(
            said.contains(word) && said.contains("--display terminal"),
            "{said}"
        );
        let (status, said) = run(name, value, &[]);
        assert_eq!(status, Some(124), "{said}");
        assert!(said.starts_with("glassbox: no window: "), "{said}");
        assert!(said.contains(word), "{said}");
        let (_, said) = run(name, value, &["--display", "none"]);
        assert!(!said.contains("window"), "{said}");
    }
}

fn glassbox_has_window(folder: &Path) -> bool {
    let output = glassbox(folder, &["info"]);
    String::from_utf8(output.stdout).unwrap().contains("window")
}

#[test]
fn a_refused_run_changes_no_file() {
    let folder = images();
    let path = folder.path();
    std::fs::write(path.join("log"), "old").unwrap();
    let before: Vec<_> = contents(path);
    for args in [
        ["--cpu", "z80"],
        ["--until", "("],
        ["--cpus", "0"],
        ["--disk", "missing.img"],
        ["--firmware", "text.txt"],
    ] {
        let mut all = vec!["run", "disk.img", "--display", "none"];
        all.extend(["--serial", "file:log", "--report", "report.json"]);
        all.extend(args);
        refuses(path, &all, &[]);
    }
    assert_eq!(contents(path), before);
}

fn contents(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[cfg(unix)]
#[test]
fn a_read_only_disk_is_refused_unless_ephemeral() {
    let folder = images();
    let disk = folder.path().join("disk.img");
    let mut permissions = std::fs::metadata(&disk).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&disk, permissions).unwrap();
    refuses_in_a_line(
        folder.path(),
        &["run", "disk.img", "--display", "none"],
        &["disk.img", "read-only", "--ephemeral"],
    );
    let output = glassbox(
        folder.path(),
        &[
            "run",
            "disk.img",
            "--display",
            "none",
            "--ephemeral",
            "--max-instructions",
            "1000",
        ],
    );
    assert_eq!(output.status.code(), Some(124));
}

#[test]
fn help_and_info_say_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["test", "--help"],
        &["info", "--help"],
    ] {
        let output = glassbox(folder.path(), args);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(said.contains("Examples:"), "{args:?}: {said}");
    }
    let output = glassbox(folder.path(), &["info"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for word in ["CPU models", "max", "devices", "displays", "interpreter"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
}

#[test]
fn a_crate_gives_options_to_its_test_machine() {
    let folder = images();
    let manifest = folder.path().join("Cargo.toml");
    let run = |metadata: &str, variable: &str| {
        let package = "[package]\nname = \"kernel\"\n";
        std::fs::write(&manifest, format!("{package}{metadata}")).unwrap();
        let output = common::glassbox()
            .args(["test", "--cargo", "disk.img"])
            .current_dir(folder.path())
            .env("CARGO_MANIFEST_DIR", folder.path())
            .env("GLASSBOX_OPTIONS", variable)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let table = "[package.metadata.glassbox]\n";
    let (status, said) = run(
        &format!("{table}max-instructions = 1000\nmemory = \"16M\"\n"),
        "",
    );
    assert_eq!(status, Some(124), "{said}");
    assert!(said.contains("instruction limit"), "{said}");
    // The variable goes first.
    let more = "--max-instructions 2000 --report 'a report.json'";
    let (status, said) = run(&format!("{table}max-instructions = 1000\n"), more);
    assert_eq!(status, Some(124), "{said}");
    let report = std::fs::read_to_string(folder.path().join("a report.json")).unwrap();
    assert!(report.contains("\"instructions\": 2000"), "{report}");
    for (metadata, variable, words) in [
        ("memroy = 1\n", "", ["Cargo.toml", "--memroy"]),
        ("memory = \"12Q\"\n", "", ["Cargo.toml", "12Q"]),
        ("", "--frobnicate", ["GLASSBOX_OPTIONS", "--frobnicate"]),
        ("", "--append 'x", ["GLASSBOX_OPTIONS", "quote"]),
        ("", "kernel", ["GLASSBOX_OPTIONS", "options only"]),
    ] {
        let (status, said) = run(&format!("{table}{metadata}"), variable);
        assert_eq!(status, Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in words {
            assert!(said.contains(word), "no `{word}` in {said}");
        }
    }
}

#[test]
fn tests_that_are_not_there_are_a_usage_error() {
    let folder = images();
    let path = folder.path();
    refuses(path, &["test"], &["PATH"]);
    refuses_in_a_line(path, &["test", "missing"], &["missing", "check the name"]);
    refuses_in_a_line(path, &["test", "disk.img"], &["disk.img", "disk.toml"]);
    refuses_in_a_line(path, &["test", "."], &["found none"]);
    refuses_in_a_line(
        path,
        &["test", "--cargo", "plain.elf", "--nocapture"],
        &["plain.elf"],
    );
}
