//! Verdicts as lines, JUnit XML and JSON.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::verdict::Verdict;
use crate::{outlet, report};

/// A verdict for the terminal: one line, and the differences below it.
pub fn line(verdict: &Verdict) -> String {
    let word = if verdict.passed() { "ok  " } else { "FAIL" };
    let millions = verdict.instructions as f64 / 1e6;
    let mut text = format!(
        "{word}  {}  ({millions:.1} M instructions, {:.2} s)\n",
        verdict.name, verdict.seconds
    );
    for line in verdict.failures.iter().flat_map(|failure| failure.lines()) {
        let _ = writeln!(text, "      {line}");
    }
    text
}

/// Writes the verdicts as JUnit XML.
///
/// # Errors
/// A host failure.
pub fn write_junit(path: &Path, verdicts: &[Verdict]) -> Result<()> {
    write("--junit", path, junit(verdicts).into_bytes())
}

fn junit(verdicts: &[Verdict]) -> String {
    let failed = verdicts.iter().filter(|verdict| !verdict.passed()).count();
    let seconds: f64 = verdicts.iter().map(|verdict| verdict.seconds).sum();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        text,
        "<testsuites><testsuite name=\"glassbox\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" time=\"{seconds:.3}\">",
        verdicts.len()
    );
    for verdict in verdicts {
        let _ = write!(
            text,
            "<testcase classname=\"glassbox\" name=\"{}\" time=\"{:.3}\"",
            escape(&verdict.name),
            verdict.seconds
        );
        match verdict.failures.first() {
            None => text.push_str("/>\n"),
            Some(first) => {
                let _ = writeln!(
                    text,
                    "><failure message=\"{}\">{}</failure></testcase>",
                    escape(&first.lines().map(str::trim).collect::<Vec<_>>().join(" ")),
                    escape(&verdict.failures.join("\n"))
                );
            }
        }
    }
    text.push_str("</testsuite></testsuites>\n");
    text
}

/// Escapes for XML; characters that XML cannot hold become `?`.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || ('\u{FFFE}'..='\u{FFFF}').contains(&c) => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Writes the verdicts as JSON.
///
/// # Errors
/// A host failure.
pub fn write_json(path: &Path, verdicts: &[Verdict]) -> Result<()> {
    let tests: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "name": verdict.name,
                "passed": verdict.passed(),
                "seconds": verdict.seconds,
                "instructions": verdict.instructions,
                "failures": verdict.failures,
            })
        })
        .collect();
    let passed = verdicts.iter().filter(|verdict| verdict.passed()).count();
    let all = json!({
        "passed": passed,
        "failed": verdicts.len() - passed,
        "tests": tests,
    });
    write("--json", path, report::to_json(&all)?)
}

fn write(option: &str, path: &Path, bytes: Vec<u8>) -> Result<()> {
    let name = format!("{option} {}", path.display());
    Ok(outlet::write_file(&name, path, bytes, || false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_counts_and_escapes() {
        let verdict = |name: &str, failures: &[&str]| Verdict {
            name: name.into(),
            failures: failures.iter().map(|&f| f.into()).collect(),
            instructions: 1,
            seconds: 0.5,
        };
        let text = junit(&[verdict("a", &[]), verdict("b&c", &["x <\x1B> y\n  z"])]);
        assert!(text.contains("tests=\"2\" failures=\"1\""));
        assert!(text.contains("name=\"b&amp;c\""));
        assert!(text.contains("message=\"x &lt;?&gt; y z\""));
    }
}
