//! `glassbox serve`.

use manager::process::Start;
use manager::{Home, Result, State};

use super::args::ServeArgs;

/// Serves the console until the process is told to end, and starts the machines that start by themselves.
pub fn run(home: &Home, args: &ServeArgs) -> Result<()> {
    if !args.listen.ip().is_loopback() {
        crate::outlet::say(&format!(
            "glassbox: --listen {}: what goes to and fro is not encrypted: put something before it that speaks TLS, or \
             reach it by an SSH tunnel",
            args.listen
        ));
    }
    for machine in home.machines()? {
        let wants = machine.config().is_ok_and(|config| config.autostart);
        if wants
            && matches!(
                machine.state(),
                State::Stopped | State::Crashed | State::Saved
            )
        {
            match machine.start(&Start::default()) {
                Ok(_) => super::say(&format!("{} is started", machine.name()))?,
                Err(error) => crate::outlet::say(&format!("glassbox: {error}")),
            }
        }
    }
    let options = console::Options {
        listen: args.listen,
        token_file: args.token_file.clone(),
        hosts: args.host.clone(),
    };
    console::serve(home, &options, |address| {
        let _ = super::say(address);
    })
}
