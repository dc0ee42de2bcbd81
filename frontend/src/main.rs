//! `glassbox`: the command line.
#![forbid(unsafe_code)]

mod app;
mod board;
mod cli;
mod cp437;
mod display;
mod drive;
mod hostio;
mod images;
mod info;
mod pacer;
mod report;
mod runner;
mod script;
mod testing;
mod typing;
mod values;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, RunArgs};

fn main() -> ExitCode {
    app::install_panic_hook();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error"))
        .format_timestamp(None)
        .init();
    let arguments = testing::cargo_arguments(std::env::args_os());
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => match cli::without_run(&arguments, &error) {
            Some(hint) => {
                eprintln!("error: {hint}");
                return ExitCode::from(2);
            }
            None => error.exit(),
        },
    };
    let result = match cli.command {
        None => app::run(RunArgs::defaults()),
        Some(Command::Run(args)) => app::run(*args),
        Some(Command::Test(args)) => testing::run(&args),
        Some(Command::Info) => info::print().map(|()| 0),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            hostio::restore_terminal();
            eprintln!("error: {}", app::one_line(&error));
            ExitCode::from(2)
        }
    }
}
