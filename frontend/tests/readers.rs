//! Readers of what a run says that are slow, stop reading or go away, full disks, and guests that talk without end.
#![cfg(unix)]

mod common;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{LOOP, POWER_OFF, boot_image, ended, glassbox, json};
use serde_json::Value;

/// Far more than anything here takes, on any host.
const LONG: Duration = Duration::from_secs(100);

/// MOV DX, 3F8h; MOV AL, 'x'; then for ever OUT DX, AL; OUT E9h, AL.
const FLOOD: [u8; 10] = [0xBA, 0xF8, 0x03, 0xB0, b'x', 0xEE, 0xE6, 0xE9, 0xEB, 0xFB];

/// `count` bytes to COM1, each the low byte of what is still to come.
fn say(count: u32) -> Vec<u8> {
    let mut code = vec![0xBA, 0xF8, 0x03, 0x66, 0xB9];
    code.extend(count.to_le_bytes());
    // MOV AL, CL; OUT DX, AL; LOOP by ECX.
    code.extend([0x88, 0xC8, 0xEE, 0x67, 0xE2, 0xFA]);
    code
}

fn said(count: u32) -> Vec<u8> {
    (1..=count).rev().map(|left| left as u8).collect()
}

/// A folder with the guest `x.img` in it.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new(code: &[&[u8]]) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        std::fs::write(bench.path("x.img"), boot_image(&code.concat(), 2048)).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = glassbox();
        command
            .current_dir(self.0.path())
            .args(["run", "x.img", "--display", "none", "-m", "16M"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    /// Runs it with this standard output.
    fn run(&self, args: &[&str], stdout: impl Into<Stdio>) -> Ended {
        let mut command = self.command(args);
        wait(command.stdout(stdout).spawn().unwrap())
    }

    fn report(&self, name: &str) -> Value {
        json(&self.path(name), "")
    }

    /// Makes a FIFO; says so where the host cannot.
    fn fifo(&self, name: &str) -> bool {
        let made = Command::new("mkfifo").arg(self.path(name)).status();
        let made = made.is_ok_and(|status| status.success());
        if !made {
            eprintln!("skipped: no `mkfifo` program");
        }
        made
    }
}

/// How a process ended.
struct Ended {
    status: Option<i32>,
    errors: String,
}

/// Waits for the end, but not for ever; nobody reads standard output meanwhile.
fn wait(mut child: Child) -> Ended {
    let limit = Instant::now() + LONG;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > limit {
            child.kill().unwrap();
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut errors = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut errors).unwrap();
    Ended { status, errors }
}

/// Sends a signal; says so where the host cannot.
fn signal(child: &mut Child, name: &str) -> bool {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    let sent = sent.is_ok_and(|status| status.success());
    if !sent {
        eprintln!("skipped: no `kill` program to send the signal with");
        child.kill().unwrap();
    }
    sent
}

fn dev_full() -> Option<File> {
    let full = File::options().write(true).open("/dev/full").ok();
    if full.is_none() {
        eprintln!("skipped: no /dev/full on this host");
    }
    full
}

/// A pipe without a reader.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_guest_that_talks_for_ever_is_remembered_by_its_last_megabytes() {
    let bench = Bench::new(&[&FLOOD]);
    let args = ["--serial", "none", "--report", "r.json"];
    let limit = ["--max-instructions", "40000000"];
    let ended = bench.run(&[&args[..], &limit].concat(), Stdio::null());
    assert_eq!(ended.status, Some(124), "{}", ended.errors);
    let report = bench.report("r.json");
    for (text, cut) in [
        (&report["serial"][0], &report["cut"]["serial"][0]),
        (&report["debugcon"], &report["cut"]["debugcon"]),
    ] {
        let (kept, cut) = (text.as_str().unwrap().len() as u64, cut.as_u64().unwrap());
        assert!((4 << 20..6 << 20).contains(&kept), "{kept}");
        assert!(kept + cut > 10_000_000, "{kept} and {cut}");
    }
    assert_eq!(report["cut"]["serial"][1], 0);
}

#[test]
fn a_slow_reader_gets_everything() {
    const COUNT: u32 = 4_000_000;
    let bench = Bench::new(&[&say(COUNT), &POWER_OFF]);
    let mut child = bench.spawn(&["--serial", "stdio", "--timeout", "90"]);
    let mut stdout = child.stdout.take().unwrap();
    let mut all = Vec::new();
    for size in [1, 10, 100, 100_000] {
        std::thread::sleep(Duration::from_millis(100));
        let mut part = vec![0; size];
        stdout.read_exact(&mut part).unwrap();
        all.extend(part);
    }
    stdout.read_to_end(&mut all).unwrap();
    let ended = wait(child);
    assert_eq!((ended.status, ended.errors.as_str()), (Some(0), ""));
    assert!(all == said(COUNT), "{} bytes of {COUNT}", all.len());
}

#[test]
fn a_pipe_that_is_closed_ends_the_run_without_a_word() {
    let bench = Bench::new(&[&FLOOD]);
    for args in [
        &["--serial", "stdio"][..],
        &["--debugcon", "stdio", "--report", "r.json"],
    ] {
        let mut child = bench.spawn(args);
        let mut some = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let ended = wait(child);
        assert_eq!((ended.status, ended.errors.as_str()), (Some(141), ""));
    }
    assert_eq!(bench.report("r.json")["end"]["cause"], "closed");
}

#[test]
fn limits_and_signals_end_a_run_whose_output_nobody_reads() {
    let bench = Bench::new(&[&FLOOD]);
    let child = bench.spawn(&["--serial", "stdio", "--timeout", "1"]);
    let ended = wait(child);
    assert_eq!(ended.status, Some(124));
    assert!(ended.errors.contains("standard output"), "{}", ended.errors);

    let limit = ["--serial", "stdio", "--max-instructions", "9000000"];
    let child = bench.spawn(&limit);
    assert_eq!(wait(child).status, Some(124));

    for name in ["-INT", "-TERM", "-HUP"] {
        let mut child = bench.spawn(&["--serial", "stdio", "--serial", "file:started"]);
        let limit = Instant::now() + LONG;
        while !bench.path("started").exists() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(100));
        if signal(&mut child, name) {
            assert_eq!(wait(child).status, Some(130), "{name}");
        }
    }
}

#[test]
fn a_full_disk_is_named_in_one_line() {
    let Some(full) = dev_full() else {
        return;
    };
    let bench = Bench::new(&[&say(10), &LOOP]);
    let ended = bench.run(&["--serial", "stdio", "--timeout", "90"], full);
    assert_eq!(ended.status, Some(1));
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    assert!(ended.errors.contains("standard output"), "{}", ended.errors);

    let bench = Bench::new(&[&say(10), &POWER_OFF]);
    let args = ["--serial", "file:/dev/full", "--report", "r.json"];
    let ended = bench.run(&args, Stdio::null());
    assert_eq!(ended.status, Some(1));
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    assert!(
        ended.errors.contains("--serial file:/dev/full"),
        "{}",
        ended.errors
    );
    let report = bench.report("r.json");
    assert_eq!(report["end"]["cause"], "poweroff");
    assert_eq!(report["lost"].as_array().unwrap().len(), 1);

    for option in ["--report", "--screenshot"] {
        let ended = bench.run(&[option, "/dev/full"], Stdio::null());
        assert_eq!(ended.status, Some(1));
        assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
        assert!(ended.errors.contains(option), "{}", ended.errors);
    }
}

#[test]
fn a_fifo_is_written_once_somebody_reads_it_and_holds_up_nothing() {
    let bench = Bench::new(&[&say(100_000), &POWER_OFF]);
    if !bench.fifo("fifo") {
        return;
    }
    let child = bench.spawn(&["--serial", "file:fifo", "--timeout", "90"]);
    std::thread::sleep(Duration::from_millis(100));
    let read = std::fs::read(bench.path("fifo")).unwrap();
    assert_eq!(wait(child).status, Some(0));
    assert!(read == said(100_000));

    let mut child = bench.spawn(&["--serial", "file:fifo", "--timeout", "90"]);
    std::thread::sleep(Duration::from_millis(300));
    if signal(&mut child, "-TERM") {
        assert_eq!(wait(child).status, Some(130));
    }
    let child = bench.spawn(&["--report", "fifo", "--timeout", "1"]);
    let ended = wait(child);
    assert_eq!(ended.status, Some(0));
    assert!(ended.errors.contains("--report fifo"), "{}", ended.errors);
}

#[test]
fn every_command_bears_a_reader_that_is_gone_and_a_full_disk() {
    let bench = Bench::new(&[&POWER_OFF]);
    std::fs::write(bench.path("x.toml"), "[expect]\ncause = \"poweroff\"\n").unwrap();
    let run = |args: &[&str], stdout: Stdio| {
        let mut command = glassbox();
        command.current_dir(bench.0.path()).args(args);
        command.stdin(Stdio::null()).stdout(stdout);
        ended(&command.output().unwrap())
    };
    for args in [
        &["info"][..],
        &["--help"],
        &["run", "--help"],
        &["--version"],
        &["test", "x.img"],
    ] {
        let (status, errors) = run(args, closed_pipe());
        assert_eq!((status, errors.as_str()), (Some(141), ""), "{args:?}");
        let Some(full) = dev_full() else {
            continue;
        };
        let (status, errors) = run(args, full.into());
        assert_eq!(status, Some(1), "{args:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{args:?}: {errors}");
        assert!(
            errors.starts_with("error: standard output"),
            "{args:?}: {errors}"
        );
    }
    if Path::new("/dev/full").exists() {
        let (status, errors) = run(&["test", "x.img", "--json", "/dev/full"], Stdio::null());
        assert_eq!(status, Some(1));
        assert!(errors.starts_with("error: --json /dev/full"), "{errors}");
    }
}
