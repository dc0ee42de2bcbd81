//! Lists for people, and for scripts.

use std::collections::BTreeMap;

use manager::tree::Snapshot;
use manager::{Code, Error, Home, Machine, Result};
use serde_json::{Value, json};

/// Writes to standard output.
pub fn text(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Error::new(Code::Host, format!("standard output: {error}"), ""))
}

/// A size in words, such as `1.5G`.
pub fn bytes(bytes: u64) -> String {
    let units = ["", "K", "M", "G", "T"];
    let mut unit = 0;
    let mut size = bytes as f64;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    match size < 10.0 && unit > 0 && size.fract() > 0.05 {
        true => format!("{size:.1}{}", units[unit]),
        false => format!("{size:.0}{}", units[unit]),
    }
}

/// How long ago a time in Unix seconds is.
pub fn ago(since: u64) -> String {
    let seconds = manager::machine::now().saturating_sub(since);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Columns as wide as what is in them; the last is left as it is.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(
                ' ',
                width + 2 - cell.chars().count().min(*width),
            ));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `glassbox list`.
pub fn list(home: &Home, as_json: bool) -> Result<()> {
    let machines = home.machines()?;
    let summaries: Vec<_> = machines.iter().map(Machine::summary).collect();
    if as_json {
        return super::json_line(&json!(summaries));
    }
    if summaries.is_empty() {
        return text("there are no machines yet; `glassbox create NAME` makes one\n");
    }
    let head = [
        "NAME", "STATE", "CPUS", "MEMORY", "ON DISK", "UP", "PORTS", "NOTE",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    for machine in summaries {
        let ports = machine
            .ports
            .iter()
            .map(|port| format!("{}->{}", port.host, port.guest));
        rows.push(vec![
            machine.name,
            machine.state.name().into(),
            machine.cpus.to_string(),
            bytes(machine.memory_bytes),
            bytes(machine.disk_bytes),
            machine.since.map_or("-".into(), ago),
            Some(ports.collect::<Vec<_>>().join(" "))
                .filter(|ports| !ports.is_empty())
                .unwrap_or("-".into()),
            machine.error.unwrap_or(machine.note),
        ]);
    }
    text(&table(&rows))
}

/// `glassbox show`.
pub fn show(machine: &Machine, as_json: bool) -> Result<()> {
    let all = machine.show()?;
    if as_json {
        return super::json_line(&all);
    }
    let hardware = &all["machine"];
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![name.into(), value]);
        }
    };
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    row("name", string(&all["name"]));
    row("state", string(&all["state"]));
    row("note", string(&all["note"]));
    row("folder", string(&all["folder"]));
    if let (Some(pid), Some(since)) = (all["pid"].as_u64(), all["since"].as_u64()) {
        row("process", format!("{pid}, for {}", ago(since)));
    }
    row(
        "processors",
        format!("{} ({})", all["cpus"], string(&hardware["cpu"])),
    );
    if let Some(limit) = all["cpu_limit"].as_u64() {
        row("limit", format!("{limit} % of a core"));
    }
    row("memory", bytes(all["memory_bytes"].as_u64().unwrap_or(0)));
    for disk in all["disks"].as_array().into_iter().flatten() {
        row(
            &string(&disk["name"]),
            bytes(disk["bytes"].as_u64().unwrap_or(0)),
        );
    }
    row("on disk", bytes(all["disk_bytes"].as_u64().unwrap_or(0)));
    for port in all["ports"].as_array().into_iter().flatten() {
        row(
            "port",
            format!(
                "{} leads to {} ({})",
                port["host"],
                port["guest"],
                string(&port["protocol"])
            ),
        );
    }
    if let Some(words) = all["ssh"].as_array() {
        let words = words.iter().map(|word| word.as_str().unwrap_or_default());
        row("ssh", words.collect::<Vec<_>>().join(" "));
    }
    row("snapshot", string(&all["snapshot"]));
    let mut out = table(&rows);
    let lines = |value: &Value| -> Vec<String> {
        let lines = value.as_array().into_iter().flatten();
        lines
            .map(|line| printable(line.as_str().unwrap_or_default()))
            .collect()
    };
    for (title, lines) in [
        ("screen", lines(&all["screen"]["text"])),
        ("serial", lines(&all["serial"])),
    ] {
        let end = lines.iter().rposition(|line| !line.trim().is_empty());
        if let Some(end) = end {
            out.push_str(&format!("\n{title}:\n"));
            for line in &lines[..=end] {
                out.push_str(&format!("  {}\n", line.trim_end()));
            }
        }
    }
    text(&out)
}

/// What a guest said, without what would command the terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::new();
    let mut escape = false;
    for c in text.chars() {
        match c {
            '\u{1b}' => escape = true,
            // The end of a control sequence (ECMA-48, 5.4).
            _ if escape => escape = !c.is_ascii_alphabetic(),
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// `glassbox catalogue`.
pub fn catalogue(home: &Home, as_json: bool) -> Result<()> {
    let fetched = home.fetched();
    let entries = home.catalogue()?;
    let is_here = |url: &str| fetched.iter().any(|fetched| fetched.url == url);
    if as_json {
        let list = entries.iter().map(|entry| {
            let mut value = serde_json::to_value(entry).unwrap_or_default();
            value["cached"] = json!(is_here(&entry.url));
            value
        });
        return super::json_line(&list.collect());
    }
    let mut rows = vec![["NAME", "WHAT", "HERE", "FROM"].map(String::from).to_vec()];
    for entry in entries {
        let here = if is_here(&entry.url) { "yes" } else { "-" };
        rows.push(vec![entry.name, entry.title, here.into(), entry.url]);
    }
    text(&table(&rows))
}

/// `glassbox snapshot list`.
pub fn snapshots(machine: &Machine, as_json: bool) -> Result<()> {
    let tree = machine.tree()?;
    if as_json {
        let list = tree.snapshots.iter().map(|(name, snapshot)| {
            json!({
                "name": name,
                "parent": snapshot.parent,
                "created": snapshot.created,
                "note": snapshot.note,
                "memory": snapshot.memory,
                "current": tree.parent.as_ref() == Some(name),
            })
        });
        return super::json_line(&list.collect());
    }
    if tree.snapshots.is_empty() {
        let name = machine.name();
        return text(&format!(
            "{name} has no snapshots yet; `glassbox snapshot create {name}` makes one\n"
        ));
    }
    let mut rows = vec![
        ["SNAPSHOT", "AGE", "MEMORY", "NOTE"]
            .map(String::from)
            .to_vec(),
    ];
    branch(&tree.snapshots, None, tree.parent.as_deref(), 0, &mut rows);
    text(&table(&rows))
}

/// Those that lie over `parent`, each with its own below it.
fn branch(
    all: &BTreeMap<String, Snapshot>,
    parent: Option<&str>,
    here: Option<&str>,
    depth: usize,
    rows: &mut Vec<Vec<String>>,
) {
    let mut children: Vec<_> = all
        .iter()
        .filter(|(_, snapshot)| snapshot.parent.as_deref() == parent)
        .collect();
    children.sort_by_key(|(_, snapshot)| snapshot.created);
    for (name, snapshot) in children {
        let mark = if here == Some(name.as_str()) {
            " *"
        } else {
            ""
        };
        rows.push(vec![
            format!("{}{name}{mark}", "  ".repeat(depth)),
            ago(snapshot.created),
            if snapshot.memory { "yes" } else { "-" }.into(),
            snapshot.note.clone(),
        ]);
        branch(all, Some(name), here, depth + 1, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_tables_are_readable() {
        assert_eq!(bytes(512), "512");
        assert_eq!(bytes(64 << 20), "64M");
        assert_eq!(bytes(1536 << 20), "1.5G");
        let rows = [
            vec!["a".into(), "long".into(), "x".into()],
            vec!["bbb".into(), "c".into(), "".into()],
        ];
        assert_eq!(table(&rows), "a    long  x\nbbb  c\n");
    }

    #[test]
    fn a_guest_does_not_command_the_terminal() {
        assert_eq!(
            printable("\u{1b}[31mred\u{1b}[0m\u{7} ok\u{9b}2J"),
            "red ok2J"
        );
    }
}
