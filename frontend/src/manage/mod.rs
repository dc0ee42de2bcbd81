//! Many machines from the command line: what is said, and to whom. What is done is in the crate `manager`.

pub mod args;
mod console;
pub mod print;
#[cfg(feature = "console")]
mod serve;
mod watch;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use manager::create::Attach;
use manager::order::Order;
use manager::process::{Start, Stopped};
use manager::{Code, Error, Home, Machine, Result, State, seed};
use serde_json::json;
use spec::{DiskBus, DiskSpec, DriveName, MachineSpec, NetSpec};

use args::{Command, CreateArgs, SnapshotCommand};

/// Runs a command, and returns the exit status.
pub fn run(command: Command) -> u8 {
    match dispatch(command) {
        Ok(status) => status,
        Err(error) => {
            crate::outlet::say(&format!("error: {error}"));
            error.code.status()
        }
    }
}

fn dispatch(command: Command) -> Result<u8> {
    let home = Home::from_environment()?;
    match command {
        Command::Create(args) => create(&home, &args)?,
        Command::List { json } => print::list(&home, json)?,
        Command::Start {
            names,
            paused,
            force,
        } => {
            let how = Start {
                paused,
                force,
                program: None,
            };
            return each(&home, &names, |machine| {
                let was = machine.state();
                machine.start(&how)?;
                match was {
                    State::Running | State::Paused => {
                        say(&format!("{} runs already", machine.name()))
                    }
                    _ => say_started(machine),
                }
            });
        }
        Command::Stop { names, force, wait } => {
            let wait = Duration::from_secs(wait);
            return each(&home, &names, |machine| {
                match machine.stop(force, wait)? {
                    Stopped::Already => say(&format!("{} is off already", machine.name())),
                    Stopped::ShutDown => say(&format!("{} shut down", machine.name())),
                    Stopped::CutOff => say(&format!("{} is cut off", machine.name())),
                }
            });
        }
        Command::Reset { name } => home.machine(&name)?.reset()?,
        Command::Pause { name } => home.machine(&name)?.pause()?,
        Command::Resume { name } => home.machine(&name)?.resume(&Start::default())?,
        Command::Suspend { name } => home.machine(&name)?.suspend()?,
        Command::Show { name, json } => print::show(&home.machine(&name)?, json)?,
        Command::Set { name, settings } => set(&home.machine(&name)?, &settings)?,
        Command::Console { name } => console::run(&home.machine(&name)?)?,
        Command::Ssh { name, command } => return ssh(&home.machine(&name)?, &command),
        Command::Type { name, text } => home.machine(&name)?.type_text(&text)?,
        Command::Screenshot { name, file } => home.machine(&name)?.screenshot(&file)?,
        Command::Snapshot(command) => snapshot(&home, command)?,
        Command::Clone {
            name,
            new,
            linked,
            count,
        } => {
            let machine = home.machine(&name)?;
            let names: Vec<String> = match count {
                None => vec![new],
                Some(count) => (1..=count)
                    .map(|number| format!("{new}-{number}"))
                    .collect(),
            };
            // All or nothing, as far as can be seen before.
            for name in &names {
                home.free_name(name)?;
            }
            for name in names {
                let made = machine.clone_to(&name, linked)?;
                say_made(&made)?;
            }
        }
        Command::Delete { names, yes, force } => {
            let machines = names.iter().map(|name| home.machine(name));
            let machines = machines.collect::<Result<Vec<_>>>()?;
            if !yes && !confirm(&names)? {
                return Ok(1);
            }
            for machine in machines {
                machine.delete(force)?;
                say(&format!("{} is deleted", machine.name()))?;
            }
        }
        Command::Logs { name, follow } => watch::logs(&home.machine(&name)?, follow)?,
        Command::Top { once } => watch::top(&home, once)?,
        Command::Attach { name, disk } => {
            let machine = home.machine(&name)?;
            let attach = match disk.to_str().and_then(size) {
                Some(bytes) => Attach::New {
                    bytes,
                    bus: DiskBus::Ide,
                },
                None => Attach::File(parse_disk(&disk)?),
            };
            let name = machine.attach(&attach)?;
            say(&format!("{} has the disk {name}", machine.name()))?;
        }
        Command::Catalogue { json } => print::catalogue(&home, json)?,
        #[cfg(feature = "console")]
        Command::Serve(args) => serve::run(&home, &args)?,
        Command::Detach { name, disk } => home.machine(&name)?.detach(&disk)?,
        Command::Insert { name, drive, file } => {
            home.machine(&name)?
                .change_medium(drive_name(&drive)?, Some(&file))?;
        }
        Command::Eject { name, drive } => {
            home.machine(&name)?
                .change_medium(drive_name(&drive)?, None)?;
        }
    }
    Ok(0)
}

/// Does something with each of several machines, whatever became of the ones before; the status is the worst.
fn each(home: &Home, names: &[String], act: impl Fn(&Machine) -> Result<()>) -> Result<u8> {
    let mut status = 0;
    for name in names {
        if let Err(error) = home.machine(name).and_then(|machine| act(&machine)) {
            crate::outlet::say(&format!("error: {error}"));
            status = status.max(error.code.status());
        }
    }
    Ok(status)
}

/// Prints a line on standard output.
fn say(line: &str) -> Result<()> {
    print::text(&format!("{line}\n"))
}

fn size(text: &str) -> Option<u64> {
    spec::size::parse_size(text)
        .ok()
        .filter(|_| text.ends_with(|c: char| "KMGTkmgt".contains(c)))
}

fn parse_disk(text: &std::ffi::OsStr) -> Result<DiskSpec> {
    DiskSpec::parse(text).map_err(|error| Error::invalid(format!("{error:#}"), ""))
}

fn drive_name(text: &str) -> Result<DriveName> {
    DriveName::parse(text).ok_or_else(|| {
        Error::invalid(
            format!("{text}: expected a drive: cdrom, cdrom2, floppy or floppy2"),
            "hard disks are attached and detached while the machine is off",
        )
    })
}

fn create(home: &Home, args: &CreateArgs) -> Result<()> {
    home.free_name(&args.name)?;
    let whole = |path: &PathBuf| match path.as_os_str() == "none" {
        true => path.clone(),
        false => manager::config::whole(path),
    };
    let net =
        NetSpec::parse(&args.net).map_err(|error| Error::invalid(format!("{error:#}"), ""))?;
    let net = net.map(|mut net| {
        // A managed machine sees the host's own services only if somebody says so.
        net.host_loopback &= args.net.to_string_lossy().contains("host-loopback");
        net
    });
    let firmware = match args.firmware.as_str() {
        "builtin" => "builtin".to_owned(),
        file => whole(&file.into()).display().to_string(),
    };
    let mut spec = MachineSpec {
        cpus: args.cpus,
        cpu: args.cpu.clone(),
        firmware,
        uefi_vars: args.uefi_vars.as_ref().map(whole),
        cdrom: args.cdrom.iter().map(whole).collect(),
        floppy: args.floppy.iter().map(whole).collect(),
        boot: args.boot.iter().map(|&kind| kind.into()).collect(),
        input: args.input.into(),
        kernel: args.kernel.as_ref().map(whole),
        initrd: args
            .initrd
            .as_ref()
            .map(|path| whole(&path.into()).display().to_string()),
        append: args.append.clone(),
        net,
        ..MachineSpec::default()
    };
    let mut sizes = Vec::new();
    for disk in &args.disk {
        match disk.to_str().and_then(size) {
            Some(bytes) => sizes.push(bytes),
            None => {
                let mut disk = parse_disk(disk)?;
                disk.path = manager::config::whole(&disk.path);
                storage::look(&disk.path).map_err(|error| {
                    Error::new(
                        Code::NotFound,
                        format!("--disk {error}"),
                        "a size, such as 20G, makes a new one",
                    )
                })?;
                spec.disk.push(disk);
            }
        }
    }
    let mut keys = Vec::new();
    for file in &args.ssh_key {
        keys.push(seed::read_line(file, "a public key")?);
    }
    let password = args.password_file.as_ref();
    let user_data = args.user_data.as_ref();
    let order = Order {
        name: args.name.clone(),
        from: args.from.clone(),
        spec,
        memory: args.memory,
        sizes,
        note: args.note.clone(),
        cpu_limit: args.cpu_limit,
        autostart: args.autostart,
        user: args.user.clone(),
        keys,
        password: password
            .map(|file| seed::read_line(file, "a password"))
            .transpose()?,
        user_data: user_data
            .map(|file| seed::read_user_data(file))
            .transpose()?,
        uploads_only: false,
    };
    let live = std::io::stderr().is_terminal();
    let mut shown = String::new();
    let mut watch = |progress: &manager::download::Progress| {
        let all = progress
            .total
            .map_or(String::new(), |all| format!(" of {}", print::bytes(all)));
        let line = format!("{}: {}{all}", progress.what, print::bytes(progress.done));
        if live && line != shown {
            eprint!("\r{line}   ");
            shown = line;
        }
        true
    };
    let ordered = home.order(order, &mut watch);
    if live && !shown.is_empty() {
        eprintln!();
    }
    let (machine, notes) = ordered?;
    for note in notes {
        crate::outlet::say(&format!("glassbox: {note}"));
    }
    if !args.start {
        return say_made(&machine);
    }
    machine.start(&Start::default())?;
    say_started(&machine)
}

fn say_made(machine: &Machine) -> Result<()> {
    let name = machine.name();
    say(&format!("{name} is made; start it: glassbox start {name}"))
}

fn say_started(machine: &Machine) -> Result<()> {
    let name = machine.name();
    let config = machine.config()?;
    let mut ways = vec![format!("glassbox console {name}")];
    if let Some(port) = config.ssh_port() {
        ways.push(format!("glassbox ssh {name} (port {port})"));
    }
    say(&format!("{name} runs: {}", ways.join(", ")))
}

fn set(machine: &Machine, settings: &[String]) -> Result<()> {
    let pairs = settings.iter().map(|setting| {
        let pair = setting.split_once('=');
        let pair = pair.map(|(key, value)| (key.to_owned(), value.to_owned()));
        pair.ok_or_else(|| {
            Error::invalid(
                format!("{setting}: expected KEY=VALUE"),
                format!("keys are {}", manager::config::KEYS),
            )
        })
    });
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    for change in machine.set(&pairs)? {
        let when = match change.at_once {
            true => "now",
            false => "at the next start",
        };
        say(&format!("{}={}: {when}", change.key, change.value))?;
    }
    Ok(())
}

fn snapshot(home: &Home, command: SnapshotCommand) -> Result<()> {
    match command {
        SnapshotCommand::Create {
            name,
            snapshot,
            note,
        } => {
            let made = home.machine(&name)?.snapshot(snapshot.as_deref(), &note)?;
            say(&format!("{name}: snapshot {made} is made"))
        }
        SnapshotCommand::List { name, json } => print::snapshots(&home.machine(&name)?, json),
        SnapshotCommand::Restore {
            name,
            snapshot,
            paused,
        } => {
            let how = Start {
                paused,
                ..Start::default()
            };
            let state = home.machine(&name)?.restore(&snapshot, &how)?;
            say(&format!("{name} is as at {snapshot}: {}", state.name()))
        }
        SnapshotCommand::Delete { name, snapshot } => {
            home.machine(&name)?.delete_snapshot(&snapshot)?;
            say(&format!("{name}: snapshot {snapshot} is deleted"))
        }
    }
}

fn ssh(machine: &Machine, command: &[String]) -> Result<u8> {
    let config = machine.config()?;
    let words = machine.ssh_command(&config).ok_or_else(|| {
        Error::new(
            Code::WrongState,
            format!(
                "{}: no port of this host leads to its port 22",
                machine.name()
            ),
            format!(
                "give it one: `glassbox set {} net=user,hostfwd=tcp:2222-22`",
                machine.name()
            ),
        )
    })?;
    if !machine.is_live() {
        return Err(Error::new(
            Code::WrongState,
            format!(
                "{}: expected a machine that runs, found it {}",
                machine.name(),
                machine.state().name()
            ),
            format!("start it: `glassbox start {}`", machine.name()),
        ));
    }
    let status = std::process::Command::new(&words[0])
        .args(&words[1..])
        .args(command)
        .status()
        .map_err(|error| {
            Error::new(
                Code::Host,
                format!("ssh: cannot be started: {error}"),
                format!(
                    "install an SSH client, or use another: {}",
                    words[1..].join(" ")
                ),
            )
        })?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(255))
}

/// Asks at the terminal; who has none must say --yes.
fn confirm(names: &[String]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::invalid(
            format!(
                "{}: expected somebody to ask before they are deleted, found no terminal",
                names.join(" ")
            ),
            "add --yes",
        ));
    }
    eprint!(
        "delete {} with disks and snapshots? [y/N] ",
        names.join(", ")
    );
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// An answer for scripts.
fn json_line(value: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| json!(null).to_string());
    say(&text)
}
