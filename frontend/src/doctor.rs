//! `glassbox doctor`: what this host offers, what will be slow, and why.

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::manage::print::{bytes, table, text};

/// Less free memory than this is little, in bytes.
const LITTLE_MEMORY: u64 = 1 << 30;
/// Less room on the disk than this is little, in bytes.
const LITTLE_ROOM: u64 = 5 << 30;

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// It works, with less.
    Less,
    /// It is not there.
    Missing,
}

/// Something that a host offers, or not.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// What that means, and what to do.
    advice: String,
}

fn finding(
    what: &'static str,
    good: bool,
    otherwise: Verdict,
    found: impl Into<String>,
    advice: &str,
) -> Finding {
    Finding {
        what,
        verdict: if good { Verdict::Good } else { otherwise },
        found: found.into(),
        advice: if good {
            String::new()
        } else {
            advice.to_owned()
        },
    }
}

/// Prints what is found.
///
/// # Errors
/// Standard output is closed.
pub fn run(as_json: bool) -> Result<u8> {
    let findings = look();
    if as_json {
        text(&format!(
            "{}\n",
            serde_json::to_string_pretty(&json!(findings))?
        ))?;
        return Ok(0);
    }
    let rows = findings.iter().map(|finding| {
        let verdict = match finding.verdict {
            Verdict::Good => "good",
            Verdict::Less => "less",
            Verdict::Missing => "missing",
        };
        vec![
            finding.what.to_owned(),
            verdict.to_owned(),
            finding.found.clone(),
        ]
    });
    text(&table(&rows.collect::<Vec<_>>()))?;
    let advised = findings.iter().filter(|finding| !finding.advice.is_empty());
    let advice: String = advised
        .map(|finding| format!("{}: {}\n", finding.what, finding.advice))
        .collect();
    match advice.is_empty() {
        true => text("\nthis host has all that Glassbox can use\n")?,
        false => text(&format!("\n{advice}"))?,
    }
    Ok(0)
}

fn look() -> Vec<Finding> {
    let mut found = Vec::new();
    let system = format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH);
    let is_tried = system == "linux on x86_64";
    found.push(finding(
        "host",
        is_tried,
        Verdict::Less,
        system,
        "Linux on x86-64 is where everything is tested",
    ));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    found.push(finding(
        "processors",
        cores > 1,
        Verdict::Less,
        format!("{cores}"),
        "a machine runs on one of them; a second one is for its network, its screen and other machines",
    ));
    let (engines, why) = crate::app::engines();
    let recompiles = engines.starts_with("recompiler");
    found.push(finding(
        "recompiler",
        recompiles,
        Verdict::Less,
        if recompiles { "yes" } else { why },
        "the interpreter runs everything, 3 to 20 times slower; the recompiler is for Linux hosts of x86-64 with BMI2",
    ));
    if let Some(memory) = host::memory::available_bytes() {
        found.push(finding(
            "free memory",
            memory >= LITTLE_MEMORY,
            Verdict::Less,
            bytes(memory),
            "a machine takes what it has been given, and about 150M more when it is busy; give it less with -m",
        ));
    }
    if let Ok(home) = manager::Home::from_environment() {
        let place = format!("{}", home.root().display());
        if let Some(room) = host::files::free_bytes(home.root()) {
            let words = format!("{} in {place}", bytes(room));
            let advice =
                "images and snapshots need room; set GLASSBOX_HOME to a folder on a larger disk";
            found.push(finding(
                "room for machines",
                room >= LITTLE_ROOM,
                Verdict::Less,
                words,
                advice,
            ));
        }
    }
    let held = host::sandbox::offered();
    let words = match (held.files, held.calls) {
        (true, true) => "files and system calls",
        (true, false) => "files",
        (false, true) => "system calls",
        (false, false) => "none",
    };
    found.push(finding(
        "confinement",
        held.files && held.calls,
        if held.files || held.calls { Verdict::Less } else { Verdict::Missing },
        words,
        "a guest that broke out of its machine would have your rights; Linux 5.13 and later can prevent that",
    ));
    let display = crate::display::Host::detect();
    found.push(finding(
        "window",
        display.graphical,
        Verdict::Missing,
        if display.graphical {
            "yes"
        } else {
            "no display"
        },
        "screens are shown in the terminal, by --vnc, or by `glassbox serve`",
    ));
    let hears = crate::sound::HAS_LOUDSPEAKERS;
    found.push(finding(
        "sound",
        hears,
        Verdict::Missing,
        if hears {
            "by PulseAudio or PipeWire, where one runs"
        } else {
            "not in this build"
        },
        "--sound wav:FILE records what a machine plays",
    ));
    let ssh = ["ssh", "ssh-keygen"].iter().all(|program| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|folder| {
            folder.join(program).is_file() || folder.join(program).with_extension("exe").is_file()
        })
    });
    found.push(finding(
        "ssh",
        ssh,
        Verdict::Missing,
        if ssh { "yes" } else { "no" },
        "`glassbox ssh` and keys for new machines need OpenSSH's client",
    ));
    if let Some(files) = host::files::most_open() {
        found.push(finding(
            "open files",
            files >= 512,
            Verdict::Less,
            files.to_string(),
            "each machine and each layer of a disk is some of them: ulimit -n 4096",
        ));
    }
    found
}
