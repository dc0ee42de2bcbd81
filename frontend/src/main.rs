//! `glassbox`: the command line.
#![forbid(unsafe_code)]

mod app;
mod cli;
mod control;
mod cp437;
mod disk;
mod display;
mod doctor;
mod guard;
mod hostio;
mod info;
mod logging;
mod manage;
mod managed;
mod outlet;
mod pacer;
mod report;
mod runner;
mod script;
mod sound;
mod testing;
mod throttle;
mod typing;
mod values;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, RunArgs};
use outlet::Unwritten;

fn main() -> ExitCode {
    app::install_panic_hook();
    logging::start();
    let arguments = testing::cargo_arguments(std::env::args_os());
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(words) => match cli::without_run(&arguments, &words) {
            Some(hint) => {
                outlet::say(&format!("error: {hint}"));
                return ExitCode::from(2);
            }
            None => return ExitCode::from(say_usage(&words)),
        },
    };
    let result = match cli.command {
        None => app::run(RunArgs::defaults()),
        Some(Command::Run(args)) => app::run(*args),
        Some(Command::Test(args)) => testing::run(&args),
        Some(Command::Manage(command)) => Ok(manage::run(command)),
        Some(Command::Disk(command)) => disk::run(command),
        Some(Command::Doctor { json }) => doctor::run(json),
        Some(Command::Info) => info::print().map(|()| 0),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            host::terminal::restore();
            ExitCode::from(fail(&error))
        }
    }
}

/// Says what failed, and returns the exit status: that of bad usage, unless it is what the program said that got lost.
fn fail(error: &anyhow::Error) -> u8 {
    let unwritten = error.downcast_ref::<Unwritten>();
    if !matches!(unwritten, Some(Unwritten::Closed)) {
        outlet::say(&format!("error: {}", app::one_line(error)));
    }
    unwritten.map_or(2, Unwritten::status)
}

/// Prints help to standard output, or to standard error what is wrong with the command line.
fn say_usage(words: &clap::Error) -> u8 {
    if words.use_stderr() {
        outlet::say(&cli::in_one_line(&words.to_string()));
        return 2;
    }
    let written = words.print().and_then(|()| io::stdout().flush());
    match outlet::check_stdout(written) {
        Ok(()) => 0,
        Err(error) => fail(&error.into()),
    }
}
