//! The JSON format of the public SingleStepTests suites for the 8088, 8086 and V20, and what their tools make of MOO
//! files of the 80286 and 80386.
//!
//! Not read: names, bus cycles, the prefetch queue and effective addresses.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::moo::{self, REGS16, REGS32};

#[derive(Deserialize)]
struct Test {
    #[serde(default)]
    idx: u32,
    bytes: Vec<u8>,
    initial: State,
    #[serde(rename = "final")]
    last: State,
    exception: Option<Exception>,
    #[serde(default)]
    hash: String,
}

#[derive(Deserialize)]
struct State {
    regs: BTreeMap<String, u32>,
    #[serde(default)]
    ram: Vec<(u32, u8)>,
}

#[derive(Deserialize)]
struct Exception {
    number: u8,
    flag_address: u32,
}

/// Reads a list of tests. The file does not name its processor; `Suite::cpu` stays empty unless the registers tell.
///
/// # Errors
/// It is no JSON, or a test lacks a field.
pub fn parse(bytes: &[u8]) -> Result<moo::Suite> {
    let tests: Vec<Test> = serde_json::from_slice(bytes).context("it is no list of tests")?;
    let wide = tests
        .iter()
        .any(|test| test.initial.regs.contains_key("eax"));
    let cpu = if wide { "386E" } else { "" };
    let tests: Result<Vec<moo::Test>> = tests.into_iter().map(|test| convert(test, wide)).collect();
    Ok(moo::Suite {
        cpu: cpu.to_owned(),
        mode: 0,
        tests: tests?,
        masks: Vec::new(),
    })
}

fn convert(test: Test, wide: bool) -> Result<moo::Test> {
    Ok(moo::Test {
        index: test.idx,
        bytes: test.bytes,
        initial: state(test.initial, wide)?,
        last: state(test.last, wide)?,
        exception: test.exception.map(|e| (e.number, e.flag_address)),
        hash: test.hash.to_lowercase(),
    })
}

fn state(state: State, wide: bool) -> Result<moo::State> {
    let names: &[&str] = if wide { &REGS32 } else { &REGS16 };
    let mut regs = Vec::new();
    for (name, value) in state.regs {
        let Some(n) = names.iter().position(|known| *known == name) else {
            bail!("a test has a register {name:?}, which no format knows");
        };
        regs.push((n, value));
    }
    regs.sort_unstable();
    Ok(moo::State {
        regs,
        wide,
        ram: state.ram,
        masks: Vec::new(),
    })
}
