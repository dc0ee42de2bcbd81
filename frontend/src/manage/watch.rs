//! What goes on with what there is: logs, and the load of all machines.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use manager::{Home, Machine, Result};
use serde_json::{Value, json};

use super::print::{ago, bytes, printable, table, text};

/// How often it is looked at what is new.
const LOOK: Duration = Duration::from_millis(250);
/// How often `glassbox top` measures.
const MEASURE: Duration = Duration::from_secs(2);

fn note_line(note: &Value) -> String {
    let string = |key: &str| note[key].as_str().unwrap_or_default().to_owned();
    let at = note["time"].as_u64().unwrap_or(0);
    let detail = string("detail");
    let detail = if detail.is_empty() {
        detail
    } else {
        format!(": {detail}")
    };
    let line = format!(
        "{} ago  {}{detail}  ({})",
        ago(at),
        string("did"),
        string("by")
    );
    printable(&line) + "\n"
}

/// `glassbox logs`.
pub fn logs(machine: &Machine, follow: bool) -> Result<()> {
    let notes = machine.notes();
    for note in &notes {
        text(&note_line(note))?;
    }
    let serial = machine.serial_tail(u64::MAX);
    let shown: String = String::from_utf8_lossy(&serial)
        .split_inclusive('\n')
        .map(|line| {
            let end = if line.ends_with('\n') { "\n" } else { "" };
            printable(line) + end
        })
        .collect();
    if !shown.is_empty() {
        text("\nserial port:\n")?;
        text(&shown)?;
    }
    if !follow {
        return Ok(());
    }
    let mut known = notes.len();
    let mut at =
        std::fs::metadata(machine.folder().join("serial.log")).map_or(0, |file| file.len());
    while machine.exists() {
        std::thread::sleep(LOOK);
        let notes = machine.notes();
        for note in notes.iter().skip(known) {
            text(&note_line(note))?;
        }
        known = notes.len();
        let len =
            std::fs::metadata(machine.folder().join("serial.log")).map_or(0, |file| file.len());
        if len < at {
            // It was begun anew.
            at = 0;
        }
        if len > at {
            let new = machine.serial_tail(len - at);
            let new = String::from_utf8_lossy(&new).into_owned();
            let lines = new.split_inclusive('\n').map(|line| {
                let end = if line.ends_with('\n') { "\n" } else { "" };
                printable(line) + end
            });
            text(&lines.collect::<String>())?;
            at = len;
        }
    }
    Ok(())
}

/// What was measured of a machine last.
struct Mark {
    at: Instant,
    cpu_seconds: f64,
    instructions: u64,
}

/// `glassbox top`.
pub fn top(home: &Home, once: bool) -> Result<()> {
    let mut marks: HashMap<String, Mark> = HashMap::new();
    let live = std::io::stdout().is_terminal() && !once;
    let mut first = true;
    loop {
        let head = [
            "NAME",
            "STATE",
            "HOST CPU",
            "LIMIT",
            "MIPS",
            "MEMORY",
            "HELD",
            "DISK R/W",
            "NET IN/OUT",
            "UP",
        ];
        let mut rows = vec![head.map(String::from).to_vec()];
        for machine in home.machines()? {
            let Some(run) = machine.run().filter(|_| machine.is_live()) else {
                continue;
            };
            let Ok(config) = machine.config() else {
                continue;
            };
            let state = machine.state();
            let stats = machine.call("stats", json!({})).unwrap_or_default();
            let mark = Mark {
                at: Instant::now(),
                cpu_seconds: host::processes::cpu_seconds(run.pid).unwrap_or(0.0),
                instructions: stats["instructions"].as_u64().unwrap_or(0),
            };
            let (load, mips) = match marks.get(machine.name()) {
                Some(before) => {
                    let seconds = (mark.at - before.at).as_secs_f64().max(1e-3);
                    let load = (mark.cpu_seconds - before.cpu_seconds) / seconds * 100.0;
                    let done = mark.instructions.saturating_sub(before.instructions) as f64;
                    (
                        format!("{load:.0} %"),
                        format!("{:.0}", done / seconds / 1e6),
                    )
                }
                None => ("-".into(), "-".into()),
            };
            let pair = |one: &str, two: &str| {
                let of = |key: &str| bytes(stats[key].as_u64().unwrap_or(0));
                format!("{}/{}", of(one), of(two))
            };
            rows.push(vec![
                machine.name().into(),
                state.name().into(),
                load,
                config
                    .cpu_limit
                    .map_or("-".into(), |limit| format!("{limit} %")),
                mips,
                bytes(config.machine.memory),
                host::processes::resident_bytes(run.pid).map_or("-".into(), bytes),
                pair("disk_read_bytes", "disk_written_bytes"),
                pair("net_received_bytes", "net_sent_bytes"),
                ago(run.since),
            ]);
            marks.insert(machine.name().to_owned(), mark);
        }
        // The first round has nothing to compare with.
        let measured = !first || rows.len() == 1;
        if measured {
            if live {
                text("\u{1b}[H\u{1b}[2J")?;
            }
            text(&table(&rows))?;
            if once {
                return Ok(());
            }
        }
        std::thread::sleep(if first { LOOK * 2 } else { MEASURE });
        first = false;
    }
}
