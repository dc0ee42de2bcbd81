//! Whole runs of guests of a few bytes each: ends, statuses, reports, scripts and disks.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{LOOP, POWER_OFF, boot_image, ended, glassbox, json, said};
use serde_json::Value;

/// A folder with guests, and a way to run them.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a disk of `sectors` sectors whose boot sector is `code`.
    fn disk(&self, name: &str, code: &[u8], sectors: usize) {
        std::fs::write(self.path(name), boot_image(code, sectors * 512)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = glassbox();
        command
            .current_dir(self.folder.path())
            .args(["run", "--display", "none", "-m", "16M"])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a guest with a report; checks the status.
    fn report(&self, args: &[&str], status: i32) -> Value {
        let mut all = vec!["--report", "report.json"];
        if !args.contains(&"--timeout") {
            all.extend(["--timeout", "60"]);
        }
        all.extend_from_slice(args);
        let output = self.run(&all);
        let (ended, said) = ended(&output);
        assert_eq!(ended, Some(status), "{args:?}: {said}");
        json(&self.path("report.json"), &said)
    }
}

/// MOV AL, value; OUT F4h, AL.
const fn debug_exit(value: u8) -> [u8; 4] {
    [0xB0, value, 0xE6, 0xF4]
}

/// MOV DX, 3F8h; then MOV AL, byte; OUT DX, AL for each byte.
fn say(text: &str) -> Vec<u8> {
    let mut code = vec![0xBA, 0xF8, 0x03];
    text.bytes()
        .for_each(|byte| code.extend([0xB0, byte, 0xEE]));
    code
}

#[test]
fn each_end_has_its_status_and_cause() {
    let bench = Bench::new();
    let end = |code: &[u8], args: &[&str], status: i32, cause: &str| {
        bench.disk("x.img", code, 4);
        let mut all = vec!["x.img"];
        all.extend_from_slice(args);
        let report = bench.report(&all, status);
        assert_eq!(report["end"]["cause"], cause);
        report
    };
    end(&POWER_OFF, &[], 0, "poweroff");
    let report = end(&debug_exit(0x10), &[], 33, "debug-exit");
    assert_eq!(report["end"]["value"], 0x10);
    end(&debug_exit(0), &[], 1, "debug-exit");
    end(&[0xFA, 0xF4], &[], 3, "halted");
    end(
        &[0x0F, 0x01, 0x1E, 0x00, 0x7D, 0xCC],
        &[],
        3,
        "triple-fault",
    );
    end(&LOOP, &["--timeout", "0.2"], 124, "timeout");
    let limit = ["--max-instructions", "5000000"];
    let report = end(&LOOP, &limit, 124, "instruction-limit");
    assert_eq!(report["instructions"], 5_000_000);
    end(
        &[say("ready\n"), LOOP.to_vec()].concat(),
        &["--until", "^ready$"],
        0,
        "until",
    );
    // The keyboard controller's reset line.
    let reset = [0xB0, 0xFE, 0xE6, 0x64, 0xF4];
    end(&reset, &["--no-reboot"], 0, "reset");
    let twice = ["--max-instructions", "20000000"];
    end(&reset, &twice, 124, "instruction-limit");
}

#[test]
fn a_triple_fault_is_told_from_its_first_exception_on() {
    let bench = Bench::new();
    // LIDT with limit 0; MOV AX, [FFFFh] crosses the segment's limit.
    let code = [0x0F, 0x01, 0x1E, 0x80, 0x7D, 0xA1, 0xFF, 0xFF];
    bench.disk("x.img", &code, 4);
    let output = bench.run(&["x.img", "--report", "report.json"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    let report: Value = json(&bench.path("report.json"), "");
    let exceptions = report["death"]["exceptions"].as_array().unwrap();
    let vectors: Vec<_> = exceptions
        .iter()
        .map(|e| e["vector"].as_u64().unwrap())
        .collect();
    assert_eq!(vectors, [13, 13, 8, 13]);
    assert_eq!(exceptions[0]["rip"], "0x0000000000007c05");
    assert_eq!(exceptions[0]["instruction"], "mov ax, [0xffff]");
    let why = exceptions[0]["why"].as_str().unwrap();
    assert!(why.contains("beyond DS's limit 0xffff"), "{why}");
    let last = said.lines().rev().take(5).collect::<Vec<_>>();
    assert!(last[4].contains("the guest died: triple fault"), "{said}");
    assert!(last[3].contains("first #GP"), "{said}");
    assert!(last[3].contains("0000:0x7c05, mov ax, [0xffff]"), "{said}");
    assert!(last[0].contains("then #GP"), "{said}");

    // One that halts has died of no exception, one that powers off has not died.
    bench.disk("x.img", &[0xFA, 0xF4], 4);
    let report = bench.report(&["x.img"], 3);
    assert_eq!(report["death"]["exceptions"], serde_json::json!([]));
    bench.disk("x.img", &POWER_OFF, 4);
    assert!(bench.report(&["x.img"], 0)["death"].is_null());
}

/// Runs the disk in a terminal of 24 rows by `script`, which makes one, where it is installed.
#[cfg(unix)]
fn in_a_terminal(bench: &Bench, more: &str) -> Option<std::process::Child> {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: `script` (util-linux) is not installed");
        return None;
    }
    let program = env!("CARGO_BIN_EXE_glassbox");
    let command = format!("stty rows 24 cols 80; '{program}' run x.img -m 16M {more}");
    // A machine that waits for a key that never comes must not hold up the tests.
    let mut guarded = Command::new("timeout");
    guarded
        .args(["300", "script", "-qec", &command, "/dev/null"])
        .current_dir(bench.folder.path())
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    Some(guarded.spawn().unwrap())
}

#[cfg(unix)]
#[test]
fn the_last_screen_of_a_guest_that_died_stays_until_a_key_comes() {
    use std::io::{Read, Write};
    let bench = Bench::new();
    // INT 10h prints `*`; then CLI, HLT.
    bench.disk("x.img", &[0xB8, b'*', 0x0E, 0xCD, 0x10, 0xFA, 0xF4], 4);
    let Some(mut child) = in_a_terminal(&bench, "") else {
        return;
    };
    let mut said = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    // Only what changed on the terminal is drawn: this is where a row of the guest was.
    let farewell = |said: &[u8]| String::from_utf8_lossy(said).contains("The guest died");
    while !farewell(&said) {
        let mut bytes = [0; 4096];
        let count = stdout.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "it has ended");
        said.extend_from_slice(&bytes[..count]);
    }
    let reader = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
    let mut stdin = child.stdin.take().unwrap();
    // Keys that come at once are those that were under way.
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let _ = stdin.write_all(b" ");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(3));
    reader.join().unwrap().unwrap();

    // Nobody may be there to press a key where there is a limit.
    let mut child = in_a_terminal(&bench, "--timeout 60").unwrap();
    let mut said = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(!farewell(&said));
}

#[cfg(unix)]
#[test]
fn a_terminal_has_keys_for_the_buttons_of_the_case() {
    use std::io::{Read, Write};
    let bench = Bench::new();
    // Says `>` on COM1 each time that it boots, and powers off when the power button's bit is set: see `MOUSE`.
    bench.disk("x.img", &[&say(">")[..], &MOUSE[28..45]].concat(), 4);
    let Some(mut child) = in_a_terminal(&bench, "--serial file:said.txt") else {
        return;
    };
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
    let mut stdin = child.stdin.take().unwrap();
    // Before the terminal is raw, keys do not arrive: they are pressed until they do.
    let mut press_until = |key: &[u8], done: &mut dyn FnMut() -> bool| {
        while !done() {
            let _ = stdin.write_all(key);
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let said = || std::fs::read(bench.path("said.txt")).unwrap_or_default();
    press_until(b"", &mut || said() == b">");
    press_until(b"\x1B\x12", &mut || said().starts_with(b">>"));
    let mut status = None;
    press_until(b"\x1B\x10", &mut || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    reader.join().unwrap().unwrap();
}

#[test]
fn the_report_tells_registers_serial_and_screen() {
    let bench = Bench::new();
    // MOV EAX, 12345678h; MOV DS, AX; INT 10h prints `*`.
    let code = [
        &[0x66, 0xB8, 0x78, 0x56, 0x34, 0x12, 0x8E, 0xD8][..],
        &[0x66, 0x89, 0xC6, 0xB4, 0x0E, 0xB0, b'*', 0xCD, 0x10],
        &say("hi\n"),
        &[0xB0, b'd', 0xE6, 0xE9, 0xFA, 0xF4],
    ]
    .concat();
    bench.disk("x.img", &code, 4);
    let report = bench.report(&["x.img", "--screenshot", "x.png"], 3);
    let cpu = &report["cpus"][0];
    assert_eq!(cpu["rsi"], "0x0000000012345678");
    assert_eq!(cpu["ds"]["selector"], "0x5678");
    assert_eq!(cpu["ds"]["base"], "0x0000000000056780");
    assert_eq!(report["serial"][0], "hi\n");
    assert_eq!(report["debugcon"], "d");
    assert_eq!(report["screen"]["mode"], "text 80x25");
    let rows = report["screen"]["text"].as_array().unwrap();
    assert!(rows.iter().any(|row| row.as_str().unwrap().contains('*')));
    assert_eq!(report["screen"]["sha256"].as_str().unwrap().len(), 64);
    let engine = &report["engine"];
    let by = |tier: &str| engine[tier].as_u64().unwrap();
    let instructions = report["instructions"].as_u64().unwrap();
    assert_eq!(by("interpreter") + by("recompiler"), instructions);
    assert!(report["virtual_ns"].as_u64() > Some(0));
    assert!(report["wall_ns"].as_u64() > Some(0));
    assert!(report["guest_mips"].as_f64() > Some(0.0));
    let png = std::fs::read(bench.path("x.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
}

#[test]
fn two_runs_are_alike_to_the_instruction() {
    let bench = Bench::new();
    bench.disk("x.img", &[say("x"), LOOP.to_vec()].concat(), 4);
    let run = || {
        let mut report = bench.report(&["x.img", "--max-instructions", "7654321"], 124);
        for wall in ["wall_ns", "guest_mips"] {
            report.as_object_mut().unwrap().remove(wall);
        }
        report
    };
    assert_eq!(run(), run());
}

#[test]
fn what_is_sent_reaches_the_place_where_the_text_appeared() {
    let bench = Bench::new();
    // Prints `>` on the screen; then copies keys to COM1.
    let keys = [
        &[0xB4, 0x0E, 0xB0, b'>', 0xCD, 0x10][..],
        &[0xB4, 0x00, 0xCD, 0x16, 0xBA, 0xF8, 0x03, 0xEE, 0xEB, 0xF6],
    ]
    .concat();
    bench.disk("keys.img", &keys, 4);
    let args = [
        "keys.img",
        "--send",
        "^>=>Hi, You!\\n<esc>",
        "--until",
        "\\x1B",
    ];
    let report = bench.report(&args, 0);
    assert_eq!(report["serial"][0], "Hi, You!\r\u{1b}");

    // Says `>` on COM1, then copies what comes there to the debug console.
    let echo = [
        &say(">")[..],
        // MOV DX, 3FDh; IN AL, DX; TEST AL, 1; JZ -5; MOV DX, 3F8h; IN AL, DX; OUT E9h, AL; JMP
        &[0xBA, 0xFD, 0x03, 0xEC, 0xA8, 0x01, 0x74, 0xFB],
        &[0xBA, 0xF8, 0x03, 0xEC, 0xE6, 0xE9, 0xEB, 0xF0],
    ]
    .concat();
    bench.disk("echo.img", &echo, 4);
    let args = ["echo.img", "--send", ">=>a<up>b\\n", "--until", "b\\r"];
    let report = bench.report(&args, 0);
    assert_eq!(report["debugcon"], "a\u{1b}[Ab\r");
}

/// Enables the BIOS's mouse (INT 15h, AX = C205h, C207h, C200h), writes `>` to port E9h, and halts
/// until the power button's bit in port 600h is set; then it powers off. Its handler writes status,
/// X and Y of each packet to port E9h.
#[rustfmt::skip]
const MOUSE: [u8; 0x41] = [
    0xB8, 0x05, 0xC2, 0xB7, 0x03, 0xCD, 0x15, 0x0E, 0x07, 0xBB, 0x2D, 0x7C, 0xB8, 0x07, 0xC2, 0xCD, 0x15,
    0xB8, 0x00, 0xC2, 0xB7, 0x01, 0xCD, 0x15, 0xB0, b'>', 0xE6, 0xE9,
    // HLT; MOV DX, 600h; IN AX, DX; TEST AH, 1; JZ to the HLT; MOV DX, 604h; MOV AX, 2000h; OUT DX, AX.
    0xF4, 0xBA, 0x00, 0x06, 0xED, 0xF6, 0xC4, 0x01, 0x74, 0xF6, 0xBA, 0x04, 0x06, 0xB8, 0x00, 0x20, 0xEF,
    // PUSH BP; MOV BP, SP; MOV AL, [BP+12]; OUT E9h, AL; the same with [BP+10] and [BP+8]; POP BP; RETF.
    0x55, 0x89, 0xE5, 0x8A, 0x46, 0x0C, 0xE6, 0xE9, 0x8A, 0x46, 0x0A, 0xE6, 0xE9, 0x8A, 0x46, 0x08, 0xE6, 0xE9,
    0x5D, 0xCB,
];

#[test]
fn a_script_moves_the_mouse_and_clicks_and_presses_the_power_button() {
    let bench = Bench::new();
    bench.disk("x.img", &MOUSE, 4);
    let send = ">=><mouse 10 -5><mouse 300 0><mouse-down left><mouse -1 2><mouse-up left><click right><power>";
    let args = ["x.img", "--send", send, "--debugcon", "file:said.bin"];
    let report = bench.report(&args, 0);
    assert_eq!(report["end"]["cause"], "poweroff");
    let said = std::fs::read(bench.path("said.bin")).unwrap();
    assert_eq!(said[0], b'>');
    let packets: Vec<_> = said[1..].chunks(3).collect();
    let expected = [
        [0x08, 10, 5],
        [0x08, 100, 0],
        [0x08, 100, 0],
        [0x08, 100, 0],
        [0x09, 0, 0],
        [0x39, 0xFF, 0xFE],
        [0x08, 0, 0],
        [0x0A, 0, 0],
        [0x08, 0, 0],
    ];
    assert_eq!(packets, expected);
}

#[test]
fn the_power_button_raises_the_sci_of_a_guest_that_enabled_it() {
    let bench = Bench::new();
    // The handler of IRQ 9 becomes 0:7C24; IRQ 9 is unmasked, PWRBTN_EN set in port 602h, `>`
    // written to COM1; STI; HLT. The handler powers off if the power button's status is set in port
    // 600h, and hangs if not.
    #[rustfmt::skip]
    let code = [
        0x31, 0xC0, 0x8E, 0xD8, 0xC7, 0x06, 0xC4, 0x01, 0x24, 0x7C, 0xA3, 0xC6, 0x01,
        0xE4, 0xA1, 0x24, 0xFD, 0xE6, 0xA1, 0xBA, 0x02, 0x06, 0xB8, 0x00, 0x01, 0xEF,
        0xB0, b'>', 0xBA, 0xF8, 0x03, 0xEE, 0xFB, 0xF4, 0xEB, 0xFD,
        0xBA, 0x00, 0x06, 0xED, 0xF6, 0xC4, 0x01, 0x74, 0x07, 0xBA, 0x04, 0x06, 0xB8, 0x00, 0x20, 0xEF, 0xEB, 0xFE,
    ];
    bench.disk("x.img", &code, 4);
    let report = bench.report(&["x.img", "--send", ">=><power>"], 0);
    assert_eq!(report["end"]["cause"], "poweroff");
    let limit = ["x.img", "--max-instructions", "20000000"];
    let report = bench.report(&limit, 124);
    assert_eq!(
        report["end"]["cause"], "instruction-limit",
        "nobody pressed it"
    );
}

#[test]
fn the_reset_button_resets_and_ends_a_run_without_reboot() {
    let bench = Bench::new();
    bench.disk("x.img", &[&say(">")[..], &[0xF4, 0xEB, 0xFD]].concat(), 4);
    let send = ["x.img", "--send", ">=><reset>"];
    let report = bench.report(&[&send[..], &["--until", ">>"]].concat(), 0);
    assert_eq!(report["serial"][0], ">>");
    let report = bench.report(&[&send[..], &["--no-reboot"]].concat(), 0);
    assert_eq!(report["end"]["cause"], "reset");
    assert_eq!(report["serial"][0], ">");
}

#[test]
fn a_long_text_arrives_whole_at_a_guest_that_reads_slowly() {
    let bench = Bench::new();
    // Prints `>` on the screen; then copies keys to COM1, and halts forty times after each.
    let code = [
        &[0xB4, 0x0E, 0xB0, b'>', 0xCD, 0x10][..],
        &[0xB4, 0x00, 0xCD, 0x16, 0xBA, 0xF8, 0x03, 0xEE],
        &[0xB9, 40, 0x00, 0xF4, 0xE2, 0xFD, 0xEB, 0xF0],
    ]
    .concat();
    bench.disk("slow.img", &code, 4);
    let text = "The quick brown fox (and 12 others) jumps over 3 Lazy Dogs!";
    let send = format!("^>=>{text}\\n");
    let args = ["slow.img", "--send", &send, "--until", "\\r"];
    let report = bench.report(&args, 0);
    assert_eq!(report["serial"][0], format!("{text}\r"));

    // A guest that reads at once costs no more of its own time than its reading does.
    let quick = [&code[..14], &[0xEB, 0xF6]].concat();
    bench.disk("quick.img", &quick, 4);
    let args = ["quick.img", "--send", &send, "--until", "\\r"];
    let quick = bench.report(&args, 0);
    assert_eq!(quick["serial"][0], report["serial"][0]);
    let args = ["quick.img", "--until", "^>"];
    let booted = bench.report(&args, 0);
    let took_ns = quick["virtual_ns"].as_u64().unwrap() - booted["virtual_ns"].as_u64().unwrap();
    assert!(took_ns < 300_000_000, "{took_ns}");
}

#[test]
fn the_log_tells_exceptions_and_mode_switches_and_no_chip_floods_it() {
    let bench = Bench::new();
    let log = |code: &[u8], filter: &str| {
        bench.disk("x.img", code, 4);
        let mut command = bench.command(&["x.img", "--max-instructions", "5000000"]);
        let output = command.env("RUST_LOG", filter).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    // UD2; its handler returns to it.
    let text = log(&[0x0F, 0x0B], "exception=debug");
    assert!(text.contains("#UD at 0000:0000000000007c00\n"), "{text}");
    // CLI; MOV EAX, CR0; OR AL, 1; MOV CR0, EAX.
    let protected = [0xFA, 0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0];
    let text = log(&[&protected[..], &LOOP].concat(), "mode=debug");
    assert!(text.contains("Protected mode, paging off"), "{text}");
    // IN AL, 40h in a loop.
    let text = log(&[0xE4, 0x40, 0xEB, 0xFC], "trace");
    assert!(text.contains("[i8254: lines are left out"), "{text}");
    assert!(text.lines().count() < 5000, "{}", text.lines().count());
}

#[test]
fn serial_output_goes_where_the_options_say() {
    let bench = Bench::new();
    bench.disk(
        "x.img",
        &[say("out\n"), debug_exit(0x10).to_vec()].concat(),
        4,
    );
    let output = bench.run(&["x.img", "--serial", "stdio"]);
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.status.code(), Some(33));
    bench.run(&["x.img", "--serial", "file:com1.txt"]);
    assert_eq!(std::fs::read(bench.path("com1.txt")).unwrap(), b"out\n");
}

/// MOV AX, 0301h; MOV BX, 7C00h; MOV CX, 2; MOV DX, 80h; INT 13h: the boot sector goes to sector 1.
const WRITE_SECTOR: [u8; 14] = [
    0xB8, 0x01, 0x03, 0xBB, 0x00, 0x7C, 0xB9, 0x02, 0x00, 0xBA, 0x80, 0x00, 0xCD, 0x13,
];

#[test]
fn a_disk_is_written_and_an_ephemeral_one_is_not() {
    let bench = Bench::new();
    let code = [&WRITE_SECTOR[..], &debug_exit(0x10)].concat();
    bench.disk("x.img", &code, 4);
    let before = std::fs::read(bench.path("x.img")).unwrap();
    bench.report(&["x.img", "--ephemeral"], 33);
    assert_eq!(std::fs::read(bench.path("x.img")).unwrap(), before);
    bench.report(&["x.img"], 33);
    let after = std::fs::read(bench.path("x.img")).unwrap();
    assert_eq!(after[512..1024], before[..512]);
    assert_eq!(after.len(), before.len());
}

#[test]
fn a_disk_in_use_is_refused_and_free_again_after_a_kill() {
    let bench = Bench::new();
    bench.disk("x.img", &LOOP, 4);
    let mut first = bench
        .command(&["x.img", "--serial", "file:started"])
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(30);
    while !bench.path("started").exists() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = bench.run(&["x.img"]);
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use"));
    first.kill().unwrap();
    first.wait().unwrap();
    bench.report(&["x.img", "--max-instructions", "1000"], 124);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_run_with_its_report() {
    let bench = Bench::new();
    bench.disk("x.img", &LOOP, 4);
    let args = ["x.img", "--serial", "file:started", "--report", "r.json"];
    let mut child = bench.command(&args).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(30);
    while !bench.path("started").exists() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(10));
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    if !killed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no `kill` program to send the signal with");
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let report: Value = json(&bench.path("r.json"), "");
    assert_eq!(report["end"]["cause"], "interrupted");
}

#[test]
fn a_flat_boot_sector_needs_no_signature() {
    let bench = Bench::new();
    std::fs::write(bench.path("flat.bin"), debug_exit(0x22)).unwrap();
    bench.report(&["flat.bin"], 0x45);
    assert_eq!(
        std::fs::read(bench.path("flat.bin")).unwrap(),
        debug_exit(0x22)
    );
}

#[test]
fn a_floppy_boots_and_image_as_overrules_the_content() {
    let bench = Bench::new();
    // DL is the drive: OUT F4h of it.
    let code = [0x88, 0xD0, 0xE6, 0xF4];
    bench.disk("floppy.img", &code, 2880);
    bench.report(&["floppy.img"], 1);
    bench.disk("disk.img", &code, 8192);
    bench.report(&["disk.img"], 1);
    let value = bench.report(&["disk.img"], 1)["end"]["value"].clone();
    assert_eq!(value, 0x80);
    let value = bench.report(&["floppy.img", "--image-as", "disk"], 1)["end"]["value"].clone();
    assert_eq!(value, 0x80);
    let value = bench.report(&["floppy.img"], 1)["end"]["value"].clone();
    assert_eq!(value, 0);
}

#[test]
fn a_multiboot_kernel_starts_with_its_magic_and_command_line() {
    let bench = Bench::new();
    // At 1 MiB: the header with load addresses; then CMP EAX, 2BADB002h; JNE; MOV ESI, [EBX+16];
    // LODSB and OUT E9h until the zero; OUT F4h.
    let mut kernel: Vec<u8> = Vec::new();
    let (magic, flags) = (0x1BAD_B002u32, 1u32 << 16);
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    for field in [
        magic, flags, checksum, 0x10_0000, 0x10_0000, 0, 0, 0x10_0020,
    ] {
        kernel.extend_from_slice(&field.to_le_bytes());
    }
    kernel.extend([0x3D, 0x02, 0xB0, 0xAD, 0x2B, 0x75, 0x0F, 0x8B, 0x73, 0x10]);
    kernel.extend([0xAC, 0x84, 0xC0, 0x74, 0x04, 0xE6, 0xE9, 0xEB, 0xF7]);
    kernel.extend(debug_exit(0x10));
    kernel.extend([0xF4; 16]);
    std::fs::write(bench.path("kernel"), &kernel).unwrap();
    let args = ["--kernel", "kernel", "--append", "one two"];
    let report = bench.report(&args, 33);
    assert_eq!(report["debugcon"], "kernel one two");
    assert_eq!(bench.report(&["kernel"], 33)["debugcon"], "kernel");
}

/// A multiboot kernel that is no ELF file, at `addr`: its header asks for `mode`, and `code` is its
/// entry.
fn flat_kernel(addr: u32, mode: [u32; 4], code: &[u8]) -> Vec<u8> {
    let (magic, flags) = (0x1BAD_B002u32, 1u32 << 16 | 1 << 2);
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    let places = [magic, flags, checksum, addr, addr, 0, 0, addr + 48];
    let fields = places.iter().chain(&mode);
    let mut kernel: Vec<u8> = fields.flat_map(|field| field.to_le_bytes()).collect();
    kernel.extend_from_slice(code);
    kernel
}

#[test]
fn a_multiboot_kernel_gets_mode_13h_and_its_palette() {
    let bench = Bench::new();
    // MOV ESI, [EBX+112]; MOV EAX, [ESI+45]; SHL EAX, 8; CMP EAX, FFFFFF00h: colour 15 is white.
    // JNE over the good end.
    let code = [
        &[0x8B, 0x73, 0x70, 0x8B, 0x46, 0x2D, 0xC1, 0xE0, 0x08][..],
        &[0x3D, 0x00, 0xFF, 0xFF, 0xFF, 0x75, 0x04],
        &debug_exit(0x10),
        &debug_exit(0x11),
    ]
    .concat();
    let kernel = flat_kernel(0x10_0000, [0, 320, 200, 8], &code);
    std::fs::write(bench.path("kernel"), kernel).unwrap();
    let report = bench.report(&["kernel"], 33);
    assert_eq!(report["screen"]["mode"], "graphics 320x200x256");
    // One that this machine does not have.
    let kernel = flat_kernel(0x10_0000, [0, 1024, 768, 32], &debug_exit(0x10));
    std::fs::write(bench.path("kernel"), kernel).unwrap();
    let output = bench.run(&["kernel"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(33), "{said}");
    assert!(
        said.contains("kernel asks for a framebuffer of 1024x768x32"),
        "{said}"
    );
}

#[test]
fn a_kernel_may_lie_where_post_works() {
    let bench = Bench::new();
    for addr in [0x500, 0x7BF0, 0x7FF0] {
        let kernel = flat_kernel(addr, [1, 0, 0, 0], &debug_exit(0x10));
        std::fs::write(bench.path("kernel"), kernel).unwrap();
        bench.report(&["kernel"], 33);
    }
    let kernel = flat_kernel(0x400, [1, 0, 0, 0], &debug_exit(0x10));
    std::fs::write(bench.path("kernel"), kernel).unwrap();
    let output = bench.run(&["kernel"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("kernel loads at 0x400-0x433, where the interrupt vectors"),
        "{said}"
    );
}

#[test]
fn what_does_not_boot_is_said_and_ends_the_run() {
    let bench = Bench::new();
    std::fs::write(bench.path("empty.img"), vec![0; 64 * 512]).unwrap();
    let said = |args: &[&str], status: i32| {
        let output = bench.run(args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let disk = ["--disk", "empty.img", "--timeout", "60"];
    let words = said(&disk, 3);
    assert!(
        words.contains("hard disk's first sector is not a boot sector"),
        "{words}"
    );
    let report = bench.report(&disk[..2], 3);
    assert_eq!(report["end"]["cause"], "not-bootable");
    let rows = report["screen"]["text"].as_array().unwrap();
    let shown = |text: &str| rows.iter().any(|row| row.as_str().unwrap().contains(text));
    assert!(shown("No bootable device"));
    // INT 18h.
    bench.disk("x.img", &[0xCD, 0x18], 4);
    let words = said(&["x.img", "--timeout", "60"], 3);
    assert!(words.contains("what the floppy booted gave up"), "{words}");
    std::fs::write(bench.path("floppy.img"), vec![0; 1_474_560]).unwrap();
    let words = said(&["floppy.img", "--timeout", "60"], 3);
    assert!(
        words.contains("floppy's first sector is not a boot sector"),
        "{words}"
    );
    // A script may go on from there.
    let until = [
        "floppy.img",
        "--until",
        "No bootable device",
        "--timeout",
        "60",
    ];
    let words = said(&until, 0);
    assert!(
        words.contains("waits for a key, up to the timeout of 60 s"),
        "{words}"
    );
    let other = ["--disk", "empty.img", "--boot", "floppy", "--timeout", "60"];
    let words = said(&other, 3);
    assert!(words.contains("no drive of the boot order"), "{words}");
}

#[test]
fn the_boot_menu_is_asked_for_by_key_or_option() {
    let bench = Bench::new();
    std::fs::write(bench.path("empty.img"), vec![0; 64 * 512]).unwrap();
    bench.disk("good.img", &POWER_OFF, 4);
    let by_key = [
        "--disk",
        "empty.img",
        "--send",
        "F12 for the boot menu=><F12>",
    ];
    let by_key = [&by_key[..], &["--until", "2  hard disk"]].concat();
    assert_eq!(bench.report(&by_key, 0)["end"]["cause"], "until");
    let choice = [
        "--floppy",
        "good.img",
        "--disk",
        "empty.img",
        "--boot",
        "menu",
    ];
    let choice = [&choice[..], &["--send", "1  floppy=>1"]].concat();
    assert_eq!(bench.report(&choice, 0)["end"]["cause"], "poweroff");
}

#[test]
fn the_tour_starts_where_no_image_is_named() {
    let bench = Bench::new();
    let args = ["--until", "Seven things to touch"];
    assert_eq!(bench.report(&args, 0)["end"]["cause"], "until");
}

#[test]
fn the_runner_judges_roms_and_serves_cargo() {
    let bench = Bench::new();
    bench.disk(
        "good.img",
        &[say("fine\n"), debug_exit(0x10).to_vec()].concat(),
        4,
    );
    bench.disk("bad.img", &debug_exit(0x11), 4);
    let expectation =
        "[run]\nmemory = \"16M\"\n[expect]\ndebug-exit = 0x10\nserial = [\"^fine$\"]\n";
    std::fs::write(bench.path("good.toml"), expectation).unwrap();
    std::fs::write(bench.path("bad.toml"), expectation).unwrap();
    let test = |args: &[&str]| {
        glassbox()
            .current_dir(bench.folder.path())
            .arg("test")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let output = test(&[".", "--junit", "j.xml", "--json", "j.json"]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.ends_with("1 passed, 1 failed\n"), "{text}");
    assert!(text.contains("expected  debug-exit 0x10"), "{text}");
    assert!(text.contains("actual    debug-exit 0x11"), "{text}");
    let json: Value = json(&bench.path("j.json"), "");
    assert_eq!(
        (json["passed"].as_u64(), json["failed"].as_u64()),
        (Some(1), Some(1))
    );
    let xml = std::fs::read_to_string(bench.path("j.xml")).unwrap();
    assert!(xml.contains("failures=\"1\""));
    let output = test(&["good.img"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(said(&output).ends_with("1 passed, 0 failed\n"));

    let output = test(&["--cargo", "good.img", "--nocapture"]);
    assert_eq!(
        (output.status.code(), said(&output).as_str()),
        (Some(0), "fine\n")
    );
    assert_eq!(test(&["--cargo", "bad.img"]).status.code(), Some(35));
}

#[test]
fn the_projects_own_roms_pass() {
    let roms = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-roms");
    if !roms.join("cpu").is_dir() {
        eprintln!("skipped: test-roms is not there");
        return;
    }
    let output = glassbox().arg("test").arg(&roms).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
}
