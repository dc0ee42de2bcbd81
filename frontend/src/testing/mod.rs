//! `glassbox test`: runs test ROMs and says which passed.
//!
//! Each ROM runs as a `glassbox run` of its own, in a process: a defect that one of them meets cannot take
//! the others along. The verdict is read off its report.

mod cargo;
mod expect;
mod find;
mod output;
mod verdict;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::app;
use crate::cli::{DisplayChoice, TestArgs};
use crate::{hostio, outlet};

use find::Rom;
use verdict::{Evidence, Verdict};

/// The status with which a kernel's test passes, as runners for QEMU have it: 10h written to the port.
const CARGO_SUCCESS: u8 = 33;

/// How long a ROM's process may go on after its own time limit.
const GRACE: Duration = Duration::from_secs(20);

/// With `test --cargo`, Cargo appends the test harness's arguments after the kernel: leaves those out.
pub fn cargo_arguments(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let args: Vec<OsString> = args.collect();
    let is_test = args.get(1).is_some_and(|arg| arg == "test");
    let Some(at) = args
        .iter()
        .position(|arg| arg == "--cargo")
        .filter(|_| is_test)
    else {
        return args;
    };
    let is_path = |arg: &OsString| !arg.to_string_lossy().starts_with('-');
    let takes_value = |arg: &OsString| arg == "--timeout" || arg == "-j" || arg == "--jobs";
    let path = (at + 1..args.len()).find(|&n| is_path(&args[n]) && !takes_value(&args[n - 1]));
    let end = path.map_or(args.len(), |path| path + 1);
    args[..end].to_vec()
}

/// Runs the tests and returns the exit status.
///
/// # Errors
/// A path that is not there or holds no test, or an output file that cannot be written.
pub fn run(args: &TestArgs) -> Result<u8> {
    if args.timeout.is_nan() || args.timeout <= 0.0 {
        bail!(
            "--timeout {}: expected a number of seconds above 0",
            args.timeout
        );
    }
    if args.cargo {
        return run_for_cargo(args);
    }
    for (option, path) in [("--junit", &args.junit), ("--json", &args.json)] {
        if let Some(path) = path {
            hostio::check_output(option, path)?;
        }
    }
    let roms = find::find(&args.paths)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores).clamp(1, roms.len().max(1));
    let verdicts = run_all(&roms, jobs, args.timeout)?;
    let passed = verdicts.iter().filter(|verdict| verdict.passed()).count();
    if let Some(path) = &args.junit {
        output::write_junit(path, &verdicts)?;
    }
    if let Some(path) = &args.json {
        output::write_json(path, &verdicts)?;
    }
    let failed = verdicts.len() - passed;
    outlet::print(&format!("{passed} passed, {failed} failed\n"))?;
    Ok(u8::from(failed > 0))
}

fn run_for_cargo(args: &TestArgs) -> Result<u8> {
    let [path] = args.paths.as_slice() else {
        bail!(
            "--cargo: expected one kernel or image, found {}",
            args.paths.len()
        );
    };
    let mut run = cargo::options()?;
    run.image = Some(path.clone());
    run.ephemeral = true;
    run.display.get_or_insert(DisplayChoice::None);
    run.timeout.get_or_insert(args.timeout);
    if run.serial.is_empty() && run.debugcon.as_deref() != Some("stdio") {
        run.serial.push("stdio".into());
    }
    Ok(match app::run(run)? {
        CARGO_SUCCESS => 0,
        status => status,
    })
}

/// Runs all ROMs, `jobs` at a time, and prints their verdicts in order.
fn run_all(roms: &[Rom], jobs: usize, timeout: f64) -> Result<Vec<Verdict>> {
    let program = std::env::current_exe().context("expected to find my own program file")?;
    let scratch = tempfile::tempdir().context("expected a folder for temporary files")?;
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, receiver) = crossbeam_channel::unbounded();
    let mut verdicts: Vec<Option<Verdict>> = roms.iter().map(|_| None).collect();
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..jobs {
            let sender = sender.clone();
            let (program, scratch, next, stop) = (&program, scratch.path(), &next, &stop);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(rom) = roms.get(index) else {
                        return;
                    };
                    let scratch = scratch.join(index.to_string());
                    let verdict = run_one(rom, program, &scratch, timeout, stop);
                    if sender.send((index, verdict)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut printed = 0;
        for (index, verdict) in receiver {
            verdicts[index] = Some(verdict);
            while let Some(Some(verdict)) = verdicts.get(printed) {
                if let Err(error) = outlet::print(&output::line(verdict)) {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error.into());
                }
                printed += 1;
            }
        }
        Ok(())
    })?;
    Ok(verdicts.into_iter().flatten().collect())
}

/// Runs a ROM; `stop` ends it as soon as nobody wants the verdict any more.
fn run_one(rom: &Rom, program: &Path, scratch: &Path, timeout: f64, stop: &AtomicBool) -> Verdict {
    let started = Instant::now();
    let name = rom.name.clone();
    let judged = match &rom.expectation {
        Ok(expectation) => {
            let evidence = gather(rom, expectation, program, scratch, timeout, stop);
            evidence.map(|evidence| verdict::judge(expectation, &rom.folder, &evidence))
        }
        Err(why) => Ok((vec![why.clone()], 0)),
    };
    let (failures, instructions) = judged.unwrap_or_else(|error| (vec![format!("{error:#}")], 0));
    Verdict {
        name,
        failures,
        instructions,
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// Runs a ROM in a process and collects what it leaves.
fn gather(
    rom: &Rom,
    expectation: &expect::Expectation,
    program: &Path,
    scratch: &Path,
    default_timeout: f64,
    stop: &AtomicBool,
) -> Result<Evidence> {
    std::fs::create_dir_all(scratch)?;
    let (report, screenshot) = (scratch.join("report.json"), scratch.join("screen.png"));
    let errors = scratch.join("stderr");
    let timeout = expectation.timeout().unwrap_or(default_timeout);
    let mut command = Command::new(program);
    command
        .current_dir(&rom.folder)
        .arg("run")
        .args(rom.image.as_ref())
        .args(expectation.arguments())
        .args(["--display", "none", "--ephemeral", "--timeout"])
        .arg(timeout.to_string())
        .arg("--report")
        .arg(&report)
        .arg("--screenshot")
        .arg(&screenshot)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&errors)?);
    let mut child = command.spawn()?;
    let limit = Instant::now() + Duration::try_from_secs_f64(timeout).unwrap_or_default() + GRACE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > limit {
            child.kill()?;
            child.wait()?;
            bail!(
                "it went on {} s after its time limit and was killed",
                GRACE.as_secs()
            );
        }
        if stop.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            bail!("stopped");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let report = match std::fs::read(&report) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes)?),
        Err(_) => None,
    };
    Ok(Evidence {
        status: status.code(),
        report,
        screenshot,
        errors: std::fs::read_to_string(&errors).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_extra_arguments_are_left_out() {
        let args = |words: &str| -> Vec<OsString> { words.split(' ').map(Into::into).collect() };
        assert_eq!(
            cargo_arguments(args("glassbox test --cargo kernel --nocapture name").into_iter()),
            args("glassbox test --cargo kernel")
        );
        assert_eq!(
            cargo_arguments(args("glassbox test --cargo --timeout 5 kernel x").into_iter()),
            args("glassbox test --cargo --timeout 5 kernel")
        );
        assert_eq!(
            cargo_arguments(args("glassbox test a b").into_iter()),
            args("glassbox test a b")
        );
    }
}
