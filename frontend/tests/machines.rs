//! Machines that stay, by the command line: each test has a home of its own.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A home with its machines, which all end with it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
        command
            .args(arguments)
            .env("GLASSBOX_HOME", self.path())
            .stdin(std::process::Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints, which must do well.
    fn ok(&self, arguments: &[&str]) -> String {
        let out = self.run(arguments);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{arguments:?}: {said}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// What a command that is refused says: one line, with this status.
    fn refused(&self, arguments: &[&str], status: i32) -> String {
        let out = self.run(arguments);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(status), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("error: "), "{said}");
        said
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    fn state(&self, name: &str) -> String {
        let list = self.json(&["list", "--json"]);
        let machines = list.as_array().unwrap();
        let machine = machines.iter().find(|machine| machine["name"] == name);
        machine.map_or("gone".into(), |machine| {
            machine["state"].as_str().unwrap().into()
        })
    }

    fn control(&self, name: &str) -> control::Client {
        let path = self.path().join("machines").join(name).join("control");
        control::Client::connect(&path, Duration::from_secs(10)).unwrap()
    }

    /// Tells the counter something, and waits for what it answers.
    fn tell(&self, name: &str, what: &str, answer: &str) -> String {
        let mut client = self.control(name);
        client
            .call("subscribe", serde_json::json!({ "events": ["serial"] }))
            .unwrap();
        // What it said before is not the answer.
        let mut said = String::new();
        while let Some(event) = client.event(Duration::from_millis(50)).unwrap() {
            said.push_str(&text(&event));
        }
        if what.is_empty() && said.contains(answer) {
            return said;
        }
        let mut said = String::new();
        client
            .call("serial-write", serde_json::json!({ "text": what }))
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while !said.contains(answer) {
            assert!(
                Instant::now() < until,
                "{name} said {said:?}, not {answer:?}"
            );
            if let Some(event) = client.event(Duration::from_millis(100)).unwrap() {
                said.push_str(&text(&event));
            }
        }
        said
    }

    /// What the counter has in memory and on its disk.
    fn counts(&self, name: &str) -> (u32, u32) {
        let said = self.tell(name, "p", "\r\n");
        let number = |mark: &str| {
            let at = said.find(mark).unwrap_or_else(|| panic!("{said:?}")) + mark.len();
            u32::from_str_radix(&said[at..at + 4], 16).unwrap()
        };
        (number("m="), number("d="))
    }

    fn count(&self, name: &str) {
        self.tell(name, "i", ".");
    }

    /// A counter, started.
    fn counter(&self, name: &str) {
        let image = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/counter.img");
        self.ok(&[
            "create", name, "--from", image, "-m", "8M", "--cpu", "i486", "--net", "none",
            "--start",
        ]);
        self.tell(name, "", "counter");
    }
}

fn text(event: &Value) -> String {
    let bytes = event["base64"].as_str().and_then(control::base64::decode);
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

impl Drop for Home {
    fn drop(&mut self) {
        let list = self.run(&["list", "--json"]);
        let list: Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
        for machine in list.as_array().into_iter().flatten() {
            if let Some(name) = machine["name"].as_str() {
                self.run(&["delete", name, "--yes", "--force"]);
            }
        }
    }
}

#[test]
fn a_machine_is_made_used_stopped_and_deleted() {
    let home = Home::new();
    assert!(home.ok(&["list"]).contains("no machines yet"));
    home.counter("one");
    assert_eq!(home.state("one"), "running");
    home.count("one");
    home.count("one");
    assert_eq!(home.counts("one"), (2, 2));
    let shown = home.json(&["show", "one", "--json"]);
    assert_eq!(shown["memory_bytes"], 8 << 20);
    home.ok(&["pause", "one"]);
    assert_eq!(home.state("one"), "paused");
    home.ok(&["resume", "one"]);
    home.ok(&[
        "screenshot",
        "one",
        home.path().join("x.png").to_str().unwrap(),
    ]);
    assert!(
        std::fs::read(home.path().join("x.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    // The disk stays, the memory does not.
    home.ok(&["stop", "one", "--force"]);
    assert_eq!(home.state("one"), "stopped");
    assert!(home.ok(&["stop", "one", "--force"]).contains("already"));
    home.ok(&["start", "one"]);
    home.tell("one", "", "counter");
    assert_eq!(home.counts("one"), (0, 2));
    // A guest that powers off is off.
    home.control("one")
        .call("serial-write", serde_json::json!({ "text": "o" }))
        .unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while home.state("one") != "stopped" {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(home.ok(&["logs", "one"]).contains("counter"));
    home.ok(&["delete", "one", "--yes"]);
    assert_eq!(home.state("one"), "gone");
    // What it started from is kept, and a second machine of it costs nothing.
    assert_eq!(
        std::fs::read_dir(home.path().join("images"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn a_snapshot_brings_memory_and_disk_back_to_one_instant() {
    let home = Home::new();
    home.counter("one");
    home.count("one");
    home.ok(&["snapshot", "create", "one", "a", "--note", "one"]);
    home.count("one");
    home.ok(&["snapshot", "create", "one"]);
    home.count("one");
    assert_eq!(home.counts("one"), (3, 3));
    home.ok(&["snapshot", "restore", "one", "a"]);
    assert_eq!(home.state("one"), "running");
    assert_eq!(home.counts("one"), (1, 1));
    home.count("one");
    home.count("one");
    home.count("one");
    home.ok(&["snapshot", "create", "one", "b"]);
    home.ok(&["snapshot", "restore", "one", "snapshot-1"]);
    assert_eq!(home.counts("one"), (2, 2));
    let list = home.json(&["snapshot", "list", "one", "--json"]);
    let of = |name: &str| {
        list.as_array()
            .unwrap()
            .iter()
            .find(|snapshot| snapshot["name"] == name)
            .unwrap()
    };
    assert_eq!(
        (of("b")["parent"].as_str(), of("a")["parent"].as_str()),
        (Some("a"), None)
    );
    assert_eq!(of("snapshot-1")["current"], true);
    // One in the middle goes; what came after it stays.
    home.ok(&["stop", "one", "--force"]);
    home.ok(&["snapshot", "delete", "one", "a"]);
    home.ok(&["snapshot", "restore", "one", "b"]);
    assert_eq!(home.counts("one"), (4, 4));
    home.ok(&["stop", "one", "--force"]);
    home.ok(&["snapshot", "restore", "one", "snapshot-1"]);
    home.ok(&["stop", "one", "--force"]);
    // Without that branch, what is below has one upper layer: both are one then.
    let layers = || {
        std::fs::read_dir(home.path().join("machines/one/disks"))
            .unwrap()
            .count()
    };
    assert_eq!(layers(), 5);
    home.ok(&["snapshot", "delete", "one", "b"]);
    assert_eq!(layers(), 3);
    home.ok(&["snapshot", "restore", "one", "snapshot-1", "--paused"]);
    assert_eq!(home.state("one"), "paused");
    home.ok(&["resume", "one"]);
    assert_eq!(home.counts("one"), (2, 2));
    // Of a machine that is off, it is the disks alone.
    home.ok(&["stop", "one", "--force"]);
    home.ok(&["snapshot", "create", "one", "off"]);
    home.ok(&["snapshot", "restore", "one", "off"]);
    assert_eq!(home.state("one"), "stopped");
    home.refused(&["snapshot", "restore", "one", "nothing"], 2);
    home.refused(&["snapshot", "create", "one", "off"], 2);
    home.refused(&["snapshot", "create", "one", "../off"], 2);
}

#[test]
fn a_suspended_machine_goes_on_and_copies_go_their_own_ways() {
    let home = Home::new();
    home.counter("one");
    home.count("one");
    home.ok(&["suspend", "one"]);
    assert_eq!(home.state("one"), "saved");
    assert!(
        home.refused(&["set", "one", "memory=16M"], 1)
            .contains("saved")
    );
    home.ok(&["start", "one"]);
    assert_eq!(home.counts("one"), (1, 1));
    // From one that runs.
    home.ok(&["clone", "one", "whole"]);
    home.ok(&["clone", "one", "thin", "--linked", "--count", "2"]);
    home.count("one");
    for name in ["whole", "thin-1"] {
        home.ok(&["start", name]);
        home.tell(name, "", "counter");
        home.count(name);
        assert_eq!(home.counts(name), (1, 2), "{name}");
    }
    assert_eq!(home.counts("one"), (2, 2));
    // What they share stays for as long as one of them is there.
    home.ok(&["delete", "one", "whole", "--yes", "--force"]);
    home.ok(&["start", "thin-2"]);
    home.tell("thin-2", "", "counter");
    assert_eq!(home.counts("thin-2"), (0, 1));
    assert_eq!(home.counts("thin-1"), (1, 2));
}

#[test]
fn kill_9_harms_nobody_else_and_the_machine_starts_again() {
    let home = Home::new();
    home.counter("one");
    home.counter("two");
    home.count("one");
    home.ok(&["snapshot", "create", "one", "a"]);
    home.count("one");
    let pid = home.json(&["show", "one", "--json"])["pid"]
        .as_u64()
        .unwrap();
    // What it wrote was flushed, or is after a second.
    std::thread::sleep(Duration::from_millis(2500));
    host::processes::kill(pid as u32).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while home.state("one") != "crashed" {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    home.count("two");
    assert_eq!(home.counts("two"), (1, 1));
    home.ok(&["start", "one"]);
    home.tell("one", "", "counter");
    assert_eq!(home.counts("one"), (0, 2));
    home.ok(&["snapshot", "restore", "one", "a"]);
    assert_eq!(home.counts("one"), (1, 1));
}

/// A command that is killed in the middle of an operation leaves all as before or all as after.
#[test]
fn a_command_that_is_killed_leaves_a_whole_machine() {
    let home = Home::new();
    home.counter("one");
    home.count("one");
    home.ok(&["stop", "one", "--force"]);
    for round in 0..12u64 {
        let name = format!("s{round}");
        for arguments in [
            vec!["snapshot", "create", "one", &name],
            vec!["snapshot", "restore", "one", "s0"],
            vec!["clone", "one", &name],
            vec!["snapshot", "delete", "one", &name],
        ] {
            if round == 0 && arguments[1] == "delete" {
                continue;
            }
            let mut child = home
                .command(&arguments)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            if round > 0 {
                std::thread::sleep(Duration::from_micros(700 * round));
                let _ = child.kill();
            }
            child.wait().unwrap();
            // It can be read, and its disks are there.
            home.ok(&["snapshot", "list", "one"]);
            home.ok(&["show", "one"]);
        }
    }
    home.ok(&["snapshot", "create", "one", "last"]);
    home.ok(&["start", "one"]);
    home.tell("one", "", "counter");
    assert_eq!(home.counts("one"), (0, 1));
    home.ok(&["snapshot", "restore", "one", "s0"]);
    home.ok(&["start", "one"]);
    home.tell("one", "", "counter");
    assert_eq!(home.counts("one"), (0, 1));
}

#[test]
fn mistakes_are_told_in_a_line() {
    let home = Home::new();
    for (arguments, status, word) in [
        (&["start", "nothing"][..], 2, "create"),
        (&["show", "../etc"], 2, "letters"),
        (&["create", "a/b"], 2, "letters"),
        (&["create", "x", "--from", "/nowhere.img"], 2, "catalogue"),
        (&["create", "x", "--disk", "/nowhere.img"], 2, "nowhere"),
        (&["create", "x", "-m", "1"], 2, "memory"),
        (&["create", "x", "--cpus", "99"], 2, "cpus"),
        (&["delete", "nothing", "--yes"], 2, "nothing"),
    ] {
        let said = home.refused(arguments, status);
        assert!(said.contains(word), "{said}");
    }
    home.ok(&["create", "web", "--disk", "1M", "-m", "8M"]);
    for (arguments, status, word) in [
        (&["create", "web"][..], 2, "delete"),
        (&["start", "wbe"], 2, "web"),
        (&["pause", "web"], 1, "start"),
        (&["ssh", "web"], 1, "start"),
        (&["set", "web", "memory"], 2, "KEY=VALUE"),
        (&["set", "web", "colour=red"], 2, "memory"),
        (&["eject", "web", "disk0"], 2, "cdrom"),
        (&["detach", "web", "disk7"], 2, "disk0"),
        (&["delete", "web"], 2, "--yes"),
    ] {
        let said = home.refused(arguments, status);
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(home.state("web"), "stopped");
    // Each has a port of its own that leads to its SSH server.
    home.ok(&["clone", "web", "web2"]);
    let list = home.json(&["list", "--json"]);
    let port = |number: usize| list[number]["ports"][0]["host"].as_u64().unwrap();
    assert!(port(0) >= 2201 && port(0) != port(1));
    // A port that somebody has is told with who has it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    home.ok(&["set", "web", &format!("net=user,hostfwd=tcp:{port}-22")]);
    let said = home.refused(&["start", "web"], 1);
    assert!(
        said.contains(&port.to_string()) && said.contains("has it"),
        "{said}"
    );
}

/// `glassbox run` with its ports on sockets, steered from outside.
#[test]
fn a_run_is_steered_by_its_sockets() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/counter.img");
    let mut child = Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .args([
            "run",
            image,
            "--ephemeral",
            "--cpu",
            "i486",
            "--display",
            "none",
            "--paused",
            "--control",
        ])
        .arg(format!("unix:{}", at("control").display()))
        .arg("--serial")
        .arg(format!("unix:{}", at("com1").display()))
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let mut client = loop {
        match control::Client::connect(&at("control"), Duration::from_secs(10)) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let status = |client: &mut control::Client| client.call("status", Value::Null).unwrap();
    assert_eq!(
        (
            &status(&mut client)["state"],
            &status(&mut client)["instructions"]
        ),
        (&"paused".into(), &0.into())
    );
    client.call("resume", Value::Null).unwrap();
    let mut serial = host::local::connect(&at("com1")).unwrap();
    let heard = |serial: &mut host::local::Stream, word: &str| {
        let mut said = String::new();
        let mut byte = [0];
        while !said.contains(word) {
            serial.read_exact(&mut byte).unwrap();
            said.push(byte[0] as char);
        }
    };
    heard(&mut serial, "counter");
    serial.write_all(b"iip").unwrap();
    heard(&mut serial, "m=0002 d=0002");
    // A second client of the port hears what was said.
    heard(&mut host::local::connect(&at("com1")).unwrap(), "m=0002");
    // Mistakes are answered, and the connection stays.
    for (verb, arguments) in [
        ("nonsense", Value::Null),
        ("type", Value::Null),
        ("type", serde_json::json!({ "text": "<insert tape x>" })),
        (
            "insert",
            serde_json::json!({ "drive": "cdrom", "path": "/nowhere" }),
        ),
        (
            "serial-write",
            serde_json::json!({ "port": 9, "text": "x" }),
        ),
        ("snapshot", serde_json::json!({ "name": "x" })),
    ] {
        assert!(
            matches!(
                client.call(verb, arguments),
                Err(control::Error::Refused { .. })
            ),
            "{verb}"
        );
    }
    let stats = client.call("stats", Value::Null).unwrap();
    assert_eq!(
        (&stats["disk_written_bytes"], &stats["net_sent_bytes"]),
        (&1024.into(), &0.into())
    );
    client
        .call("set", serde_json::json!({ "cpu-limit": 50 }))
        .unwrap();
    client
        .call("save", serde_json::json!({ "dir": at("saved") }))
        .unwrap();
    assert!(at("saved/manifest.json").exists());
    // What is no JSON is answered too.
    let mut raw = host::local::connect(&at("control")).unwrap();
    raw.write_all(b"nonsense\n[]\n{\"do\":1}\n").unwrap();
    let mut said = String::new();
    while said.matches('\n').count() < 3 {
        let mut byte = [0];
        raw.read_exact(&mut byte).unwrap();
        said.push(byte[0] as char);
    }
    assert_eq!(said.matches("bad-request").count(), 3, "{said}");
    client.call("quit", Value::Null).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!at("control").exists() && !at("com1").exists());
}
