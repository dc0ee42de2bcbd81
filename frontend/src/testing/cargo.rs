//! The machine of `glassbox test --cargo`: Cargo runs `PROGRAM KERNEL`, so that options of
//! `glassbox run` come by other ways.
//!
//! | from | for example |
//! |---|---|
//! | `[package.metadata.glassbox]` of the crate under test | `memory = "1G"` |
//! | the environment variable `GLASSBOX_OPTIONS`, which goes first | `-m 1G --cpu i386` |
//!
//! Cargo says in `CARGO_MANIFEST_DIR` where that crate is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::{CommandFactory, FromArgMatches, Parser};

use super::expect;
use crate::cli::RunArgs;

/// The environment variable with options.
const VARIABLE: &str = "GLASSBOX_OPTIONS";

/// The options that the crate under test and the environment give.
///
/// # Errors
/// One that `glassbox run` does not have, or that Cargo gives itself; the message says where it stands.
pub fn options() -> Result<RunArgs> {
    let mut arguments = Vec::new();
    if let Some(folder) = std::env::var_os("CARGO_MANIFEST_DIR") {
        let manifest = PathBuf::from(folder).join("Cargo.toml");
        let source = format!("{}: [package.metadata.glassbox]", manifest.display());
        let given = of_manifest(&manifest)?;
        // By itself first, so that a mistake is laid where it is.
        parse(&given).with_context(|| source)?;
        arguments = given;
    }
    if let Ok(text) = std::env::var(VARIABLE) {
        let given = split(&text)
            .ok_or_else(|| anyhow!("{VARIABLE}='{text}': expected a closing quote; add it"))?;
        parse(&given).with_context(|| VARIABLE)?;
        arguments.extend(given);
    }
    parse(&arguments)
}

/// The options in the manifest of a crate; none where there is no such file: Cargo is not the one who calls.
fn of_manifest(path: &Path) -> Result<Vec<String>> {
    let Ok(text) = std::fs::read_to_string(path) else {
        return Ok(Vec::new());
    };
    let manifest: toml::Table = toml::from_str(&text)
        .with_context(|| format!("{}: expected a manifest of Cargo", path.display()))?;
    let table = ["package", "metadata", "glassbox"];
    let mut value = Some(&toml::Value::Table(manifest)).cloned();
    for name in table {
        value = value.and_then(|value| value.get(name).cloned());
    }
    match value {
        None => Ok(Vec::new()),
        Some(toml::Value::Table(options)) => Ok(expect::arguments(&options, &[])),
        Some(_) => bail!(
            "{}: package.metadata.glassbox: expected a table with options of `glassbox run`, such as memory = \"1G\"",
            path.display()
        ),
    }
}

/// Reads options; the last one of a kind counts.
fn parse(arguments: &[String]) -> Result<RunArgs> {
    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        run: RunArgs,
    }
    let command = Only::command().args_override_self(true);
    let all = std::iter::once("glassbox").chain(arguments.iter().map(String::as_str));
    let matches = command.try_get_matches_from(all).map_err(|error| {
        // The first line says what is wrong; the others are about the command line.
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        anyhow!(
            "{}; `glassbox run --help` lists the options",
            line.trim_start_matches("error: ")
        )
    })?;
    let run = Only::from_arg_matches(&matches)?.run;
    if let Some(image) = &run.image {
        bail!(
            "`{}`: expected options only, as Cargo names the kernel",
            image.display()
        );
    }
    Ok(run)
}

/// Splits text at blanks, but for those in single or double quotes; `None` where a quote does not end.
fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_at_blanks_outside_of_quotes() {
        assert_eq!(split("").unwrap(), Vec::<String>::new());
        assert_eq!(
            split(" -m 1G\t--cpu i386 ").unwrap(),
            ["-m", "1G", "--cpu", "i386"]
        );
        assert_eq!(
            split("--append 'a \"b\"' --x=\"c d\"e ''").unwrap(),
            ["--append", "a \"b\"", "--x=c de", ""]
        );
        assert_eq!(split("a 'b"), None);
    }

    #[test]
    fn the_last_option_counts_and_mistakes_are_named() {
        let parse = |text: &str| parse(&split(text).unwrap());
        assert_eq!(parse("--memory=16M -m 1G").unwrap().memory, 1 << 30);
        assert_eq!(
            parse("--serial none --serial stdio").unwrap().serial,
            ["none", "stdio"]
        );
        let error = parse("--frobnicate").unwrap_err().to_string();
        assert!(
            error.contains("--frobnicate") && !error.contains('\n'),
            "{error}"
        );
        assert!(
            parse("kernel")
                .unwrap_err()
                .to_string()
                .contains("options only")
        );
    }

    #[test]
    fn a_manifest_gives_options() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Cargo.toml");
        assert!(of_manifest(&path).unwrap().is_empty());
        std::fs::write(&path, "[package]\nname = \"x\"\n").unwrap();
        assert!(of_manifest(&path).unwrap().is_empty());
        std::fs::write(
            &path,
            "[package.metadata.glassbox]\nmemory = \"1G\"\ntimeout = 5\n",
        )
        .unwrap();
        assert_eq!(of_manifest(&path).unwrap(), ["--memory=1G", "--timeout=5"]);
        std::fs::write(&path, "[package.metadata]\nglassbox = 1\n").unwrap();
        assert!(of_manifest(&path).is_err());
    }
}
