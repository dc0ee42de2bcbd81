//! Expectations: TOML beside an image, or in comments at the head of its source.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::report::Cause;

/// Options that the test runner gives itself: each test is headless and leaves its disks alone.
const GIVEN: [&str; 5] = ["timeout", "ephemeral", "display", "report", "screenshot"];

/// How a ROM is run, and what it is to do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The image, where it has another name than the expectation.
    pub image: Option<PathBuf>,
    /// Options of `glassbox run`, by their long names.
    #[serde(default)]
    pub run: toml::Table,
    /// What is expected.
    #[serde(default)]
    pub expect: Expect,
}

/// What is expected of a run. Everything that is given must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// The value that the guest writes to the debug-exit port.
    pub debug_exit: Option<u32>,
    /// The exit status of `glassbox run`.
    pub exit_status: Option<i32>,
    /// Why the run ends.
    pub cause: Option<Cause>,
    /// Regexes, each of which matches on some serial port.
    #[serde(default)]
    pub serial: Patterns,
    /// Regexes on the debug console.
    #[serde(default)]
    pub debugcon: Patterns,
    /// Regexes on the text screen at the end.
    #[serde(default)]
    pub screen: Patterns,
    /// The picture at the end, as the report has it.
    pub screen_sha256: Option<String>,
    /// A PNG with the picture at the end, beside the expectation.
    pub screenshot: Option<PathBuf>,
    /// Registers of the first processor at the end.
    #[serde(default)]
    pub registers: BTreeMap<String, Number>,
}

/// One regex or several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Patterns(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Patterns {
    fn from(patterns: OneOrMany) -> Self {
        Self(match patterns {
            OneOrMany::One(pattern) => vec![pattern],
            OneOrMany::Many(patterns) => patterns,
        })
    }
}

/// A register's value: a number, or a string for what TOML's numbers cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Number(pub u128);

impl TryFrom<toml::Value> for Number {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let number = match &value {
            toml::Value::Integer(number) => u128::try_from(*number).ok(),
            toml::Value::String(text) => parse_number(text),
            _ => None,
        };
        number.map(Self).ok_or_else(|| {
            format!("{value}: expected a register's value, such as 16 or \"0xFFFF0000\"")
        })
    }
}

/// Parses decimal digits, or hexadecimal ones after 0x; underscores are let pass.
pub fn parse_number(text: &str) -> Option<u128> {
    let text = text.trim().replace('_', "").to_ascii_lowercase();
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Expectation {
    /// Reads an expectation.
    ///
    /// # Errors
    /// A sentence that says where it is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| text[..span.start].lines().count().max(1));
            let line = line.map_or(String::new(), |line| format!("line {line}: "));
            format!("its expectation is not valid: {line}{}", error.message())
        })
    }

    /// The time limit that it sets, in seconds.
    pub fn timeout(&self) -> Option<f64> {
        match self.run.get("timeout")? {
            toml::Value::Integer(seconds) => Some(*seconds as f64),
            toml::Value::Float(seconds) => Some(*seconds),
            toml::Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Its options as arguments of `glassbox run`, but for those that every test is given.
    pub fn arguments(&self) -> Vec<String> {
        arguments(&self.run, &GIVEN)
    }
}

/// Options by their long names as arguments of `glassbox run`, but for those that are `given`.
pub fn arguments(options: &toml::Table, given: &[&str]) -> Vec<String> {
    let mut arguments = Vec::new();
    for (name, value) in options {
        if given.contains(&name.as_str()) {
            continue;
        }
        let values = match value {
            toml::Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            match value {
                toml::Value::Boolean(true) => arguments.push(format!("--{name}")),
                toml::Value::Boolean(false) => {}
                toml::Value::String(text) => arguments.push(format!("--{name}={text}")),
                value => arguments.push(format!("--{name}={value}")),
            }
        }
    }
    arguments
}

/// The expectation in the comments at the head of a source, or `None` when it has none.
pub fn from_source(source: &str) -> Option<String> {
    let mut text = String::new();
    let mut found = false;
    for line in source.lines() {
        let line = line.trim();
        let comment = [";", "//", "#"]
            .iter()
            .find_map(|mark| line.strip_prefix(mark));
        let Some(comment) = comment else {
            if line.is_empty() {
                continue;
            }
            break;
        };
        let comment = comment.trim_start_matches([';', '/', '#']).trim_start();
        if let Some(toml) = comment.strip_prefix("glassbox:") {
            found = true;
            text.push_str(toml.strip_prefix(' ').unwrap_or(toml));
            text.push('\n');
        }
    }
    found.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_read_and_becomes_arguments() {
        let text = r#"
            [run]
            memory = "16M"
            max-instructions = 1000
            no-reboot = true
            ephemeral = true
            send = ["a=>b", "c=>d"]
            timeout = 2.5
            [expect]
            debug-exit = 0x10
            cause = "debug-exit"
            serial = "OK"
            [expect.registers]
            rax = "0xFFFF_FFFF_FFFF_FFFF"
            rbx = 5
        "#;
        let expectation = Expectation::parse(text).unwrap();
        assert_eq!(expectation.timeout(), Some(2.5));
        assert_eq!(
            expectation.arguments(),
            [
                "--max-instructions=1000",
                "--memory=16M",
                "--no-reboot",
                "--send=a=>b",
                "--send=c=>d"
            ]
        );
        let expect = expectation.expect;
        assert_eq!(expect.debug_exit, Some(16));
        assert_eq!(expect.cause, Some(Cause::DebugExit));
        assert_eq!(expect.serial.0, ["OK"]);
        assert_eq!(expect.registers["rax"], Number(u64::MAX.into()));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = Expectation::parse("[expect]\ndebug-exti = 1\n").unwrap_err();
        assert!(error.contains("debug-exti"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        assert!(Expectation::parse("[expect]\ncause = \"x\"\n").is_err());
        assert!(Expectation::parse("[expect.registers]\nrax = \"y\"\n").is_err());
    }

    #[test]
    fn a_source_carries_its_expectation_in_comments() {
        let source =
            "; A ROM.\n; glassbox: [expect]\n;glassbox: debug-exit = 1\nbits 16\n; glassbox: x\n";
        assert_eq!(from_source(source).unwrap(), "[expect]\ndebug-exit = 1\n");
        assert_eq!(from_source("bits 16\n; glassbox: x\n"), None);
    }
}
