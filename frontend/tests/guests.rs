//! Debian's unmodified kernels, booted headlessly.
//!
//! The guests are made by `test-roms/guests/make`; without them every test here says that it was
//! skipped. A boot is about a billion instructions, so tests that need the same boot share it.

mod common;

use std::path::{Path, PathBuf};

use common::wav::{samples, tones};
use common::{glassbox, json, said};
use serde_json::Value;

/// The folder of guest `name`, if it has been made.
fn guest(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cache =
        std::env::var_os("GLASSBOX_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from);
    let folder = cache.join("guests").join(name);
    if folder.join("vmlinuz").exists() && folder.join("initrd.gz").exists() {
        return Some(folder);
    }
    eprintln!("skipped: the guest {name} is not there; make it with test-roms/guests/make");
    None
}

/// The sum of `/bin/busybox` that the guest's maker wrote down.
fn busybox_sha256(folder: &Path) -> String {
    let manifest = std::fs::read_to_string(folder.join("MANIFEST")).unwrap();
    let line = manifest
        .lines()
        .find(|line| line.contains("sha256 /bin/busybox"))
        .unwrap();
    line.split_whitespace().last().unwrap().to_owned()
}

struct Run {
    status: Option<i32>,
    report: Value,
    stderr: String,
}

impl Run {
    fn serial(&self) -> &str {
        self.report["serial"][0].as_str().unwrap()
    }
}

/// Runs a guest headlessly to its end.
fn run(args: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = glassbox()
        .args([
            "run",
            "-m",
            "256M",
            "--display",
            "none",
            "--ephemeral",
            "--timeout",
            "900",
        ])
        .args(args)
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    let stderr = said(&output);
    Run {
        status: output.status.code(),
        report: json(&report, &stderr),
        stderr,
    }
}

const TYPED: [&str; 6] = [
    "--send",
    "/ # =>sha256sum /bin/busybox\\n",
    "--send",
    "/bin/busybox\\r?\\n/ # =>warnings; echo end of warnings\\n",
    "--send",
    "\\nend of warnings\\r?\\n/ # =>poweroff -f\\n",
];

fn path(folder: &Path, file: &str) -> String {
    folder.join(file).display().to_string()
}

/// Boots by `--kernel`; the ciphers' self-tests are left out, they take most of a boot's time.
fn boot_directly(folder: &Path) -> Run {
    let (kernel, initrd) = (path(folder, "vmlinuz"), path(folder, "initrd.gz"));
    let mut args = vec!["--kernel", &kernel, "--initrd", &initrd];
    args.extend(["--append", "console=ttyS0,115200 cryptomgr.notests"]);
    args.extend(TYPED);
    run(&args)
}

/// What must be true of every session in a guest's shell.
fn check_session(folder: &Path, run: &Run) {
    assert_eq!(run.status, Some(0), "{}\n{}", run.stderr, run.serial());
    assert_eq!(run.report["end"]["cause"], "poweroff");
    assert!(
        run.serial().contains(&busybox_sha256(folder)),
        "another sum:\n{}",
        run.serial()
    );
    for word in [
        "Oops",
        "BUG:",
        "Call Trace",
        "Kernel panic",
        "segfault",
        "Illegal instruction",
    ] {
        assert!(!run.serial().contains(word), "{word}:\n{}", run.serial());
    }
}

/// Two runs give one result, to the instruction.
fn check_direct_boot(name: &str) {
    let Some(folder) = guest(name) else { return };
    let runs = std::thread::scope(|scope| {
        let first = scope.spawn(|| boot_directly(&folder));
        let second = boot_directly(&folder);
        [first.join().unwrap(), second]
    });
    for run in &runs {
        check_session(&folder, run);
    }
    let [first, second] = &runs;
    for field in ["instructions", "virtual_ns", "state_sha256"] {
        assert_eq!(first.report[field], second.report[field], "{field}");
    }
    println!(
        "{name}: {} instructions twice, state {}",
        first.report["instructions"], first.report["state_sha256"]
    );
}

#[test]
fn the_i386_kernel_boots_directly_and_twice_alike() {
    check_direct_boot("i386");
}

#[test]
fn the_amd64_kernel_boots_directly_and_twice_alike() {
    check_direct_boot("amd64");
}

/// Four processors take turns: they cost little, and four busy programs progress alike.
#[test]
fn the_amd64_kernel_boots_on_four_processors() {
    let Some(folder) = guest("amd64") else { return };
    let (kernel, initrd) = (path(&folder, "vmlinuz"), path(&folder, "initrd.gz"));
    let boot = |cpus: &str, session: &[&str]| {
        let mut args = vec!["--cpus", cpus, "--kernel", &kernel, "--initrd", &initrd];
        args.extend(["--append", "console=ttyS0,115200 cryptomgr.notests"]);
        args.extend(session);
        run(&args)
    };
    let off = ["--send", "/ # =>poweroff -f\\n"];
    let count = "n=0; while [ ! -e /stop ]; do n=$((n+1)); done; echo counted $n.";
    let four = format!(
        "/ # =>for i in 1 2 3 4; do ({count}) & done; sleep 1; touch /stop; wait; grep -c ^proc /proc/cpuinfo; poweroff -f\\n"
    );
    let session = ["--send", &four];
    let [one, alike, plain] = std::thread::scope(|scope| {
        let one = scope.spawn(|| boot("1", &off));
        let alike = scope.spawn(|| boot("4", &session));
        let plain = boot("4", &off);
        [one.join().unwrap(), alike.join().unwrap(), plain]
    });
    for run in [&one, &alike, &plain] {
        assert_eq!(run.status, Some(0), "{}\n{}", run.stderr, run.serial());
    }
    let instructions = |run: &Run| run.report["instructions"].as_u64().unwrap();
    let (single, several) = (instructions(&one), instructions(&plain));
    println!("one processor {single} instructions, four {several}");
    assert!(several < single / 2 * 3, "{several} for {single}");
    assert!(alike.serial().contains("\n4\r\n"), "{}", alike.serial());
    let counts: Vec<u64> = alike
        .serial()
        .split("counted ")
        .filter_map(|rest| rest.split('.').next()?.parse().ok())
        .collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    println!("counted {counts:?}");
    assert!(counts.len() == 4 && least * 5 > most * 4, "{counts:?}");
}

/// Two seconds of 440 Hz, by `snd-sb16` and by `snd-intel8x0`.
#[test]
fn linux_plays_a_sine_on_each_card() {
    let Some(folder) = guest("sound") else { return };
    let (kernel, initrd) = (path(&folder, "vmlinuz"), path(&folder, "initrd.gz"));
    let play = |card: &str, line: &str| {
        let output = tempfile::tempdir().unwrap();
        let wav = output.path().join("out.wav");
        let sound = format!("wav:{},model={card}", wav.display());
        let append = format!("console=ttyS0,115200 cryptomgr.notests glassbox.run=\"{line}\"");
        let mut args = vec!["--kernel", &kernel, "--initrd", &initrd];
        args.extend(["--append", &append, "--sound", &sound]);
        let run = run(&args);
        assert_eq!(run.status, Some(0), "{}\n{}", run.stderr, run.serial());
        assert!(run.serial().contains("end, status 0"), "{}", run.serial());
        let tones = tones(&samples(&wav), &[440.0, 220.0, 880.0, 480.0]);
        assert_eq!(tones.len(), 1, "{card}: {tones:?}");
        assert!((1950..=2020).contains(&tones[0].1), "{card}: {tones:?}");
        assert_eq!(tones[0].0, 440, "{card}");
    };
    let volumes = "amixer -q sset Master 31; amixer -q sset PCM";
    let player = "aplay -q -D hw:0 -f S16_LE -c 2 -r 44100 /usr/share/sine.raw";
    std::thread::scope(|scope| {
        let line = format!("modprobe snd-sb16 isapnp=0; {volumes} 31; {player}");
        scope.spawn(move || play("sb16", &line));
        play(
            "ac97",
            &format!("{volumes} 23 unmute; amixer -q sset Master unmute; {player}"),
        );
    });
}

/// Boots by the BIOS, on the least processor that the distribution wants for the guest.
fn check_disk_boot(name: &str, model: &str) {
    let Some(folder) = guest(name) else { return };
    let disk = path(&folder, "disk.img");
    let mut args = vec!["--disk", &disk, "--cpu", model];
    args.extend(TYPED);
    check_session(&folder, &run(&args));
}

#[test]
fn the_i386_disk_boots_through_the_bios_and_syslinux() {
    check_disk_boot("i386", "pentium3");
}

#[test]
fn the_amd64_disk_boots_through_the_bios_and_grub() {
    check_disk_boot("amd64", "x86-64-v2");
}

/// Saved and restored at random instants on its way, a boot is the same to the instruction, to its power-off.
/// `GLASSBOX_SAVES` says how many instants.
fn check_saved_boot(name: &str) {
    let Some(folder) = guest(name) else { return };
    let saves = std::env::var("GLASSBOX_SAVES").ok();
    let saves: u64 = saves.and_then(|text| text.parse().ok()).unwrap_or(6);
    let (kernel, initrd) = (path(&folder, "vmlinuz"), path(&folder, "initrd.gz"));
    let disk = path(&folder, "disk.img");
    let mut machine = vec!["--kernel", &kernel, "--initrd", &initrd, "--disk", &disk];
    machine.extend(["--append", "console=ttyS0,115200 cryptomgr.notests"]);
    machine.extend(["-m", "256M", "--ephemeral"]);
    let typed = ["--send", "/ # =>poweroff -f\\n"];
    let straight = part(&machine, &typed);
    assert_eq!(straight["end"]["cause"], "poweroff");

    // The prompt, and what is typed there, come in the last tenth.
    let end = straight["instructions"].as_u64().unwrap();
    let mut instants: Vec<u64> = Vec::new();
    let mut rng = platform::testkit::Rng::new(end);
    for _ in 0..saves {
        instants.push(1 + rng.below(end / 10 * 7));
    }
    instants.sort_unstable();
    let saved = tempfile::tempdir().unwrap();
    let saved = saved.path().display().to_string();
    let mut serial = String::new();
    let mut from = machine;
    for instant in instants {
        let most = instant.to_string();
        let report = part(&from, &["--max-instructions", &most, "--save", &saved]);
        assert_eq!(report["end"]["cause"], "instruction-limit");
        serial += report["serial"][0].as_str().unwrap();
        from = vec!["--restore", &saved];
    }
    let last = part(&from, &typed);
    serial += last["serial"][0].as_str().unwrap();
    for field in ["instructions", "virtual_ns", "state_sha256", "screen"] {
        assert_eq!(straight[field], last[field], "{field}");
    }
    assert_eq!(straight["serial"][0], serial);
    println!("{name}: the same when saved and restored at {saves} instants");
}

/// Runs a part of a machine's life and returns its report.
fn part(machine: &[&str], more: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = glassbox()
        .arg("run")
        .args(machine)
        .args(more)
        .args(["--display", "none", "--timeout", "900", "--report"])
        .arg(&report)
        .output()
        .unwrap();
    json(&report, &said(&output))
}

#[test]
fn a_boot_of_i386_does_not_notice_save_and_restore() {
    check_saved_boot("i386");
}

#[test]
fn a_boot_of_amd64_does_not_notice_save_and_restore() {
    check_saved_boot("amd64");
}
