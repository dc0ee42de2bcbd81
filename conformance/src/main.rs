//! `conformance`: proofs of the processor, from the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use conformance::vectors::{Bench, Metadata, Outcome, files};
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
    /// Runs files or folders of hardware-captured vectors (MOO format, .MOO or .MOO.gz)
    Vectors {
        /// Files, or folders of a suite with its metadata.json
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Prints only the opcodes that differ, and the totals
        #[arg(short, long)]
        quiet: bool,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let Command::Vectors { paths, quiet } = &arguments.command;
    let model = CpuModel::by_name("max").expect("the model `max` always exists");
    let mut total = Outcome::default();
    for path in paths {
        let folder = if path.is_dir() {
            path.as_path()
        } else {
            path.parent().unwrap_or(path)
        };
        let metadata = Metadata::read(folder)?;
        let mut bench = Bench::new(model.clone())?;
        for file in files(path)? {
            let outcome = bench.run_file(&file, &metadata)?;
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
            for (reason, count) in outcome.excluded {
                *total.excluded.entry(reason).or_default() += count;
            }
        }
    }
    for (reason, count) in &total.excluded {
        println!("excluded {count}: {reason}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0)
}
