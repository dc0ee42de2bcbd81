//! Compares what a ROM did with what was expected.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::expect::{Expect, Expectation, Number, Patterns, parse_number};
use crate::script;

/// How many of the last lines of a channel a failure shows.
const LAST_LINES: usize = 12;

/// What a ROM's run left.
pub struct Evidence {
    /// The exit status, unless a signal killed it.
    pub status: Option<i32>,
    /// The report, if it came that far.
    pub report: Option<Value>,
    /// The picture.
    pub screenshot: PathBuf,
    /// What was said on standard error.
    pub errors: String,
}

/// How a ROM fared.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The ROM.
    pub name: String,
    /// What was otherwise than expected; several lines each.
    pub failures: Vec<String>,
    /// Instructions that it ran.
    pub instructions: u64,
    /// Wall time.
    pub seconds: f64,
}

impl Verdict {
    /// Whether all was as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// The differences, and how many instructions ran.
pub fn judge(expectation: &Expectation, folder: &Path, evidence: &Evidence) -> (Vec<String>, u64) {
    let Some(report) = &evidence.report else {
        let status = evidence
            .status
            .map_or("a signal".to_owned(), |status| format!("status {status}"));
        let said = evidence.errors.trim();
        return (vec![format!("it could not run ({status}): {said}")], 0);
    };
    let expect = &expectation.expect;
    let mut failures = Vec::new();
    judge_end(expect, evidence.status, report, &mut failures);
    let serial: Vec<&str> = report["serial"]
        .as_array()
        .map(|ports| ports.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let debugcon = report["debugcon"].as_str().unwrap_or_default();
    let screen = screen_text(report);
    judge_text("serial", &expect.serial, &serial, &mut failures);
    judge_text("debugcon", &expect.debugcon, &[debugcon], &mut failures);
    judge_text("screen", &expect.screen, &[&screen], &mut failures);
    judge_registers(expect, report, &mut failures);
    judge_picture(expect, folder, evidence, report, &mut failures);
    if !failures.is_empty() {
        for (name, text) in [("debugcon", debugcon), ("serial", &serial.join(""))] {
            if !text.trim().is_empty() {
                failures.push(format!("last lines of {name}:\n{}", last_lines(text)));
            }
        }
        if !screen.trim().is_empty() {
            failures.push(format!("the screen:\n{}", indent(screen.trim_end())));
        }
    }
    (failures, report["instructions"].as_u64().unwrap_or(0))
}

fn judge_end(expect: &Expect, status: Option<i32>, report: &Value, failures: &mut Vec<String>) {
    let end = &report["end"];
    let cause = end["cause"].as_str().unwrap_or_default();
    let found_end = match cause {
        "debug-exit" => format!("debug-exit {:#x}", end["value"].as_u64().unwrap_or(0)),
        cause => cause.to_owned(),
    };
    if let Some(value) = expect.debug_exit
        && (cause != "debug-exit" || end["value"].as_u64() != Some(value.into()))
    {
        failures.push(difference(
            "end",
            &format!("debug-exit {value:#x}"),
            &found_end,
        ));
    }
    if let Some(expected) = expect.exit_status
        && status != Some(expected)
    {
        let found = status.map_or("none".into(), |status| status.to_string());
        failures.push(difference("exit status", &expected.to_string(), &found));
    }
    if let Some(expected) = expect.cause {
        let expected = serde_json::to_value(expected).unwrap_or_default();
        if end["cause"] != expected {
            let expected = expected.as_str().unwrap_or_default();
            failures.push(difference("end", expected, &found_end));
        }
    }
    let unsaid =
        expect.debug_exit.is_none() && expect.exit_status.is_none() && expect.cause.is_none();
    let good = matches!(cause, "poweroff" | "until" | "halted" | "reset")
        || cause == "debug-exit" && end["value"].as_u64() == Some(0x10);
    if unsaid && !good {
        let expected = "poweroff, until, halted or debug-exit 0x10";
        failures.push(difference("end", expected, &found_end));
    }
}

fn judge_text(name: &str, patterns: &Patterns, texts: &[&str], failures: &mut Vec<String>) {
    for pattern in &patterns.0 {
        match script::compile(name, pattern) {
            Err(error) => failures.push(error.to_string()),
            Ok(regex) => {
                if !texts.iter().any(|text| regex.is_match(text.as_bytes())) {
                    let found = match texts.iter().all(|text| text.trim().is_empty()) {
                        true => "nothing at all",
                        false => "no match; see below",
                    };
                    failures.push(difference(name, &format!("/{pattern}/"), found));
                }
            }
        }
    }
}

fn judge_registers(expect: &Expect, report: &Value, failures: &mut Vec<String>) {
    for (name, Number(expected)) in &expect.registers {
        match register(&report["cpus"][0], name) {
            Some(found) if found == *expected => {}
            Some(found) => failures.push(difference(
                name,
                &format!("{expected:#x}"),
                &format!("{found:#x}"),
            )),
            None => failures.push(format!("{name}: there is no such register in the report")),
        }
    }
}

/// A register by name: as in the report, or `eax`, `ax`, `al`, `cs` (its selector), `cs.base`, `xmm3`, `st0`.
fn register(cpu: &Value, name: &str) -> Option<u128> {
    let name = name.to_ascii_lowercase();
    let number = |value: &Value| value.as_str().and_then(parse_number);
    if let Some(value) = cpu.get(&name) {
        return number(value).or_else(|| number(&value["selector"]));
    }
    if let Some((outer, inner)) = name.split_once('.') {
        return number(cpu.get(outer)?.get(inner)?);
    }
    for list in ["xmm", "mm"] {
        if let Some(index) = name
            .strip_prefix(list)
            .and_then(|n| n.parse::<usize>().ok())
        {
            return number(cpu.get(list)?.get(index)?);
        }
    }
    if let Some(index) = name
        .strip_prefix("st")
        .and_then(|n| n.parse::<usize>().ok())
    {
        return number(cpu.get("x87")?.get("st")?.get(index)?);
    }
    let wide = |base: &str| number(cpu.get(base)?);
    if let Some(base) = name.strip_prefix('e') {
        return Some(wide(&format!("r{base}"))? & 0xFFFF_FFFF);
    }
    match name.as_bytes() {
        [_, b'x'] | [b's' | b'd', b'i'] | [b's' | b'b', b'p'] => {
            Some(wide(&format!("r{name}"))? & 0xFFFF)
        }
        [letter, b'l'] => Some(wide(&format!("r{}x", *letter as char))? & 0xFF),
        [letter, b'h'] => Some(wide(&format!("r{}x", *letter as char))? >> 8 & 0xFF),
        _ => None,
    }
}

fn judge_picture(
    expect: &Expect,
    folder: &Path,
    evidence: &Evidence,
    report: &Value,
    failures: &mut Vec<String>,
) {
    if let Some(expected) = &expect.screen_sha256 {
        let found = report["screen"]["sha256"].as_str().unwrap_or_default();
        if !found.eq_ignore_ascii_case(expected) {
            failures.push(difference("screen-sha256", expected, found));
        }
    }
    if let Some(expected) = &expect.screenshot {
        let path = folder.join(expected);
        match (read_png(&path), read_png(&evidence.screenshot)) {
            (Ok(expected), Ok(found)) => failures.extend(compare_pictures(&expected, &found)),
            (Err(error), _) => failures.push(format!("{}: {error}", path.display())),
            (_, Err(error)) => failures.push(format!("the screenshot: {error}")),
        }
    }
}

/// A picture: its size, and red, green and blue of each pixel.
struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

fn read_png(path: &Path) -> Result<Picture, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("expected a PNG picture: {error}");
    let file = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
    let mut decoder = png::Decoder::new(std::io::BufReader::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| unreadable(&error))?;
    let bytes = reader.output_buffer_size();
    let mut pixels = vec![0; bytes.ok_or("expected a smaller picture")?];
    let info = reader
        .next_frame(&mut pixels)
        .map_err(|error| unreadable(&error))?;
    pixels.truncate(info.buffer_size());
    let rgb = match info.color_type {
        png::ColorType::Rgb => pixels,
        png::ColorType::Rgba => pixels.chunks(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        png::ColorType::Grayscale => pixels.iter().flat_map(|&p| [p, p, p]).collect(),
        png::ColorType::GrayscaleAlpha => {
            pixels.chunks(2).flat_map(|p| [p[0], p[0], p[0]]).collect()
        }
        png::ColorType::Indexed => return Err("expected a picture without a palette".into()),
    };
    Ok(Picture {
        width: info.width,
        height: info.height,
        rgb,
    })
}

fn compare_pictures(expected: &Picture, found: &Picture) -> Option<String> {
    let size = |picture: &Picture| format!("{}x{} pixels", picture.width, picture.height);
    if (expected.width, expected.height) != (found.width, found.height) {
        return Some(difference("screenshot", &size(expected), &size(found)));
    }
    let pixels = || expected.rgb.chunks(3).zip(found.rgb.chunks(3));
    let different = pixels().filter(|(a, b)| a != b).count();
    let (first, (a, b)) = pixels().enumerate().find(|(_, (a, b))| a != b)?;
    let (x, y) = (first as u32 % expected.width, first as u32 / expected.width);
    let color = |pixel: &[u8]| format!("#{:02x}{:02x}{:02x}", pixel[0], pixel[1], pixel[2]);
    Some(difference(
        &format!("screenshot ({different} pixels differ), first at {x},{y}"),
        &color(a),
        &color(b),
    ))
}

fn screen_text(report: &Value) -> String {
    let rows = report["screen"]["text"].as_array();
    let rows = rows.into_iter().flatten().filter_map(Value::as_str);
    rows.collect::<Vec<_>>().join("\n")
}

fn difference(name: &str, expected: &str, found: &str) -> String {
    format!("{name}\n  expected  {expected}\n  actual    {found}")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    indent(&lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"))
}

fn indent(text: &str) -> String {
    let lines = text.lines().map(|line| format!("  | {}", line.trim_end()));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn evidence(report: Value, status: i32) -> Evidence {
        Evidence {
            status: Some(status),
            report: Some(report),
            screenshot: PathBuf::new(),
            errors: String::new(),
        }
    }

    fn failures(toml: &str, report: Value, status: i32) -> Vec<String> {
        let expectation = Expectation::parse(toml).unwrap();
        judge(&expectation, Path::new("."), &evidence(report, status)).0
    }

    fn report() -> Value {
        json!({
            "end": {"cause": "debug-exit", "value": 16},
            "instructions": 5,
            "cpus": [{"rax": "0x1122334455667788", "cs": {"selector": "0x0010", "base": "0x0"},
                      "xmm": ["0x7"], "x87": {"st": ["0x3fff8000000000000000"]}}],
            "serial": ["hello\r\nOK\r\n", ""], "debugcon": "",
            "screen": {"text": ["top", "", "end"], "sha256": "ab"},
        })
    }

    #[test]
    fn what_is_as_expected_passes() {
        let toml = r#"
            [expect]
            debug-exit = 16
            exit-status = 33
            serial = ["^OK$", "hello"]
            screen = "top\n\nend"
            screen-sha256 = "AB"
            [expect.registers]
            rax = "0x1122334455667788"
            eax = 0x55667788
            ax = 0x7788
            ah = 0x77
            al = 0x88
            cs = 0x10
            "cs.base" = 0
            xmm0 = 7
            st0 = "0x3fff8000000000000000"
        "#;
        assert_eq!(failures(toml, report(), 33), Vec::<String>::new());
    }

    #[test]
    fn differences_say_what_was_expected_and_what_was_found() {
        let found = failures("[expect]\ndebug-exit = 17\nserial = 'NO'\n", report(), 33);
        assert!(found[0].contains("expected  debug-exit 0x11"), "{found:?}");
        assert!(found[0].contains("actual    debug-exit 0x10"), "{found:?}");
        assert!(found[1].contains("/NO/"));
        assert!(found[2].contains("| OK"));
        let found = failures("[expect.registers]\nrax = 1\nrzz = 1\n", report(), 33);
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn an_end_that_nobody_asked_for_fails() {
        let mut report = report();
        report["end"] = json!({"cause": "timeout", "value": 0});
        assert_eq!(
            failures("[expect]\nserial = 'OK'\n", report.clone(), 124).len(),
            3
        );
        assert!(failures("[expect]\ncause = 'timeout'\n", report, 124).is_empty());
    }
}
