//! `conformance`: proofs of the processor, from the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use conformance::metadata::Metadata;
use conformance::oracle::{Options, Oracle, left_out};
use conformance::state::Mode;
use conformance::vectors::{Bench, Outcome, files};
use x86::cpuid::CpuModel;

/// Proofs of Glassbox's processor against hardware.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs files or folders of hardware-captured vectors (.MOO or .json, also with .gz)
    Vectors {
        /// Files, or folders of a suite with its metadata.json or 80386.csv
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Prints only the opcodes that differ, and the totals
        #[arg(short, long)]
        quiet: bool,
    },
    /// Runs random instructions on the interpreter and on this host's own processor, and compares
    /// (x86-64 Linux; elsewhere exit status 77)
    Oracle {
        /// Where the random numbers start: the same seed gives the same cases
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many cases to run
        #[arg(long, default_value_t = 1_000_000)]
        cases: u64,
        /// Runs only this instruction (iced's name, as `--table` prints it); may be repeated
        #[arg(long = "mnemonic", value_name = "NAME")]
        mnemonics: Vec<String>,
        /// Runs only 64-, 32- or 16-bit code; may be repeated
        #[arg(long = "mode", value_name = "64|32|16")]
        modes: Vec<String>,
        /// Runs one case again, as a difference was printed
        #[arg(long, value_name = "LINE")]
        replay: Option<String>,
        /// Prints cases and differences of each mnemonic
        #[arg(long)]
        table: bool,
        /// What the run loop has, whose results are compared as well
        #[arg(long, value_name = "interpreter|recompiler", default_value = "interpreter", value_parser = ["interpreter", "recompiler"])]
        engine: String,
    },
}

/// What automake and Meson take for "skipped".
const SKIPPED: u8 = 77;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Oracle { .. } = arguments.command
        && let Err(error) = Oracle::new()
    {
        eprintln!("not available: {error:#}");
        return ExitCode::from(SKIPPED);
    }
    if let Command::Oracle { engine, .. } = &arguments.command
        && engine == "recompiler"
        && let Err(why) = jit::recompiler()
    {
        eprintln!("not available: {why}");
        return ExitCode::from(SKIPPED);
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    match &arguments.command {
        Command::Vectors { paths, quiet } => run_vectors(paths, *quiet),
        Command::Oracle {
            replay: Some(line),
            engine,
            ..
        } => {
            let (same, text) = oracle(engine)?.replay(&line.parse()?)?;
            println!("{text}");
            println!("{} passed, {} failed", u8::from(same), u8::from(!same));
            Ok(same)
        }
        Command::Oracle {
            seed,
            cases,
            mnemonics,
            modes,
            table,
            engine,
            ..
        } => {
            let modes = if modes.is_empty() {
                Mode::ALL.to_vec()
            } else {
                let parsed: Result<Vec<Mode>> = modes.iter().map(|m| Mode::from_bits(m)).collect();
                parsed?
            };
            let options = Options {
                seed: *seed,
                cases: *cases,
                mnemonics: mnemonics.clone(),
                modes,
            };
            run_oracle(&options, *table, engine)
        }
    }
}

/// Both sides, with that engine.
fn oracle(engine: &str) -> Result<Oracle> {
    let mut oracle = Oracle::new()?;
    if engine == "recompiler" {
        oracle.recompile()?;
    }
    Ok(oracle)
}

fn run_oracle(options: &Options, table: bool, engine: &str) -> Result<bool> {
    let mut oracle = oracle(engine)?;
    if !oracle.host_is_known() {
        println!(
            "note: this host is not AMD's; what it alone does differently counts as a difference"
        );
    }
    let report = oracle.run(options)?;
    for line in &report.shown {
        println!("{line}");
    }
    if table {
        println!(
            "{:16} {:>10} {:>10} {:>11}",
            "mnemonic", "cases", "faults", "differences"
        );
        for (mnemonic, count) in &report.counts {
            let name = format!("{mnemonic:?}");
            println!(
                "{name:16} {:10} {:10} {:11}",
                count.cases, count.faults, count.differences
            );
        }
    }
    if table {
        for (mnemonic, reason) in left_out() {
            println!("left out: {mnemonic:?}: {reason}");
        }
    }
    for (reason, count) in &report.excused {
        println!("excused {count}: {reason}");
    }
    for mode in &report.absent {
        println!(
            "not available: {}-bit code, for which this kernel has no LDT",
            mode.bits()
        );
    }
    let (retired, blocks) = oracle.host_figures();
    if blocks > 0 {
        println!("{retired} instructions in host code, {blocks} blocks compiled");
    }
    let (passed, failed) = report.totals();
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn run_vectors(paths: &[PathBuf], quiet: bool) -> Result<bool> {
    let model = CpuModel::by_name("i386").expect("the model `i386` always exists");
    let mut bench = Bench::new(model)?;
    let mut total = Outcome::default();
    let mut folder = None;
    let mut unreadable = 0;
    let mut metadata = Metadata::default();
    for path in paths {
        for file in files(path)? {
            if file.parent() != folder.as_deref() {
                folder = file.parent().map(PathBuf::from);
                metadata = Metadata::read(folder.as_deref().unwrap_or(Path::new(".")))?;
            }
            let outcome = match bench.run_file(&file, &metadata) {
                Ok(outcome) => outcome,
                Err(error) => {
                    println!("error: {error:#}");
                    unreadable += 1;
                    continue;
                }
            };
            if !quiet || outcome.failed > 0 {
                let excluded: u32 = outcome.excluded.values().sum();
                println!(
                    "{:8} {:6} passed {:6} differ {:6} excluded",
                    outcome.opcode, outcome.passed, outcome.failed, excluded
                );
            }
            if let Some(first) = &outcome.first {
                println!("         {first}");
            }
            total.passed += outcome.passed;
            total.failed += outcome.failed;
            for (sum, counts) in [
                (&mut total.excluded, outcome.excluded),
                (&mut total.partial, outcome.partial),
            ] {
                for (reason, count) in counts {
                    *sum.entry(reason).or_default() += count;
                }
            }
        }
    }
    for (reason, count) in &total.partial {
        println!("in part {count}: {reason}");
    }
    for (reason, count) in &total.excluded {
        println!("excluded {count}: {reason}");
    }
    if unreadable > 0 {
        println!("{unreadable} files could not be run");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0 && unreadable == 0)
}
