//! `glassbox run`: from options to an exit status.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use crossbeam_channel::{Receiver, Sender, unbounded};
use emulator::Pacing;
use emulator::saved::Saved;
use spec::sound::SoundTo;
use spec::{Drives, MachineSpec, Media, SoundSpec, build, media};
use storage::Below;

use crate::cli::{ClockChoice, DisplayChoice, EngineChoice, RunArgs};
use crate::control::{self, Events};
use crate::display::remote::RemoteSpec;
use crate::display::{self, Display, Host};
use crate::guard::Guard;
use crate::hostio::{self, Place, Wires};
use crate::managed::Managed;
use crate::outlet::{self, Unwritten};
use crate::report::{self, Cause, End, Outcome};
use crate::runner::{self, Control, Limits, Session, Shown, Stop};
use crate::script::Script;
use crate::sound::{Speakers, Wav};
use crate::typing::{LAYOUTS, Layout};

/// A timeout beyond this, a century, is none.
const MOST_SECONDS: f64 = 3.2e9;

/// The options, checked: what could be refused has been.
struct Plan {
    args: RunArgs,
    keyboard: &'static Layout,
    serial: Vec<Place>,
    debugcon: Place,
    limits: Limits,
    script: Script,
    /// A serial port or the debug console has standard output.
    stdio: bool,
    display: Display,
    pacing: Pacing,
    /// Where sound goes; none: nowhere.
    sound: Option<SoundTo>,
    /// What sounds in a new machine.
    sound_spec: Option<SoundSpec>,
    /// Where the control interface listens.
    control: Option<std::path::PathBuf>,
    /// Where clients of the remote framebuffer protocol connect.
    remote: Option<RemoteSpec>,
}

impl Plan {
    /// Chooses what virtual time follows, once it is known what shows the screen.
    fn settle_pacing(&mut self, networked: bool) {
        self.pacing = match self.args.clock {
            Some(ClockChoice::Realtime) => Pacing::Realtime,
            Some(ClockChoice::Deterministic) => Pacing::Deterministic,
            // What is at the other end of a network has clocks of its own, as has who holds the controls.
            None if networked
                || self.control.is_some()
                || self.remote.is_some()
                || self.serial.iter().any(Place::is_socket) =>
            {
                Pacing::Realtime
            }
            // A person at a serial terminal is as slow as one at a window.
            None if self.display != Display::None || self.stdio && Host::detect().terminal => {
                Pacing::Realtime
            }
            None => Pacing::Deterministic,
        };
    }

    /// Whether the last screen of a guest that died stays until a key comes: not where a script or a limit shows that
    /// nobody may be there to press one.
    fn stays(&self) -> bool {
        let args = &self.args;
        args.until.is_none()
            && args.send.is_empty()
            && args.timeout.is_none()
            && args.max_instructions.is_none()
    }
}

/// What the machine is made of, and the state in which it starts where that was saved.
struct MadeOf {
    spec: MachineSpec,
    media: Media,
    drives: Drives,
    saved: Option<Saved>,
}

impl MadeOf {
    /// Opens the images that the options, or a saved machine, name.
    fn open(
        args: &RunArgs,
        managed: Option<&Managed>,
        sound: Option<SoundSpec>,
        is_heard: bool,
    ) -> Result<Self> {
        if let Some(managed) = managed {
            return Self::open_managed(managed);
        }
        if let Some(dir) = &args.restore {
            let (saved, spec, mut media) = spec::saved::open(dir)?.into_parts();
            if is_heard && args.sound.is_some() && spec.sound.is_none() {
                bail!(
                    "--sound: expected a machine that was saved with something that sounds, found one without in {}; \
                     leave it out",
                    dir.display()
                );
            }
            let drives = Drives::new(spec.clone(), &mut media);
            return Ok(Self {
                spec,
                media,
                drives,
                saved: Some(saved),
            });
        }
        let mut spec = args.spec()?;
        spec.sound = sound;
        Self::open_new(spec, Below::Refused)
    }

    fn open_managed(managed: &Managed) -> Result<Self> {
        let Some(dir) = &managed.resume else {
            return Self::open_new(managed.spec.clone(), managed.below());
        };
        let restored = spec::saved::open_with(dir, &managed.spec, managed.below())?;
        let (saved, spec, mut media) = restored.into_parts();
        let drives = Drives::new(spec.clone(), &mut media);
        Ok(Self {
            spec,
            media,
            drives,
            saved: Some(saved),
        })
    }

    fn open_new(spec: MachineSpec, below: Below) -> Result<Self> {
        build::cpu_model(&spec.cpu)?;
        let mut media = media::open(&spec, below)?;
        for note in &media.notes {
            outlet::say(&format!("glassbox: {note}"));
        }
        let spec = media.settle(spec);
        let drives = Drives::new(spec.clone(), &mut media);
        Ok(Self {
            spec,
            media,
            drives,
            saved: None,
        })
    }
}

/// What comes to a machine from the host.
struct FromHost {
    events: Option<Arc<Events>>,
    managed: Option<Managed>,
    control: Receiver<Control>,
    stdin: Receiver<Vec<u8>>,
    link: Option<net::Link>,
    guard: Guard,
}

/// Runs one machine and returns the exit status.
///
/// # Errors
/// Bad usage or unreadable input: no file was changed then.
pub fn run(args: RunArgs) -> Result<u8> {
    let managed = args.machine.as_deref().map(Managed::take).transpose()?;
    if let Some(managed) = &managed {
        // Before there is another thread, and before an image is open.
        managed.keep_files();
    }
    let args = match &managed {
        Some(managed) => managed.options(args),
        None => args,
    };
    let mut plan = check(args)?;
    let guard = Guard::start(plan.limits.timeout);
    let made_of = MadeOf::open(
        &plan.args,
        managed.as_ref(),
        plan.sound_spec.clone(),
        plan.sound.is_some(),
    )?;
    check_outputs(&plan.args, plan.sound.as_ref(), &made_of.drives)?;
    for change in plan.script.changes() {
        let checked = made_of.drives.check(change);
        checked.map_err(|error| anyhow!("--send: {error:#}"))?;
    }
    let title = made_of.media.title.clone();
    #[cfg(feature = "window")]
    let window = open_window(&mut plan, &title)?;
    refuse_unseen_tour(&plan)?;
    plan.settle_pacing(made_of.spec.net.is_some());
    let link = made_of.spec.net.as_ref().map(start_network).transpose()?;
    let args = plan.args.clone();
    let stdio_port = plan.serial.iter().position(|place| *place == Place::Stdio);
    let (display, signals) = (plan.display, unbounded());
    let stays = plan.stays();
    guard.tell(&signals.0);
    let (stdin_sender, stdin) = hostio::stdin_queue();

    let has_sockets = plan.serial.iter().any(Place::is_socket);
    let events = (plan.control.is_some() || has_sockets).then(|| Arc::new(Events::default()));
    let mut _serial = Vec::new();
    for (port, place) in plan.serial.iter().enumerate() {
        if let Some(events) = &events {
            _serial.extend(control::serial::serve(
                place, port as u8, &signals.0, events,
            )?);
        }
    }
    if let (Some(events), Some(managed)) = (&events, &managed) {
        managed.log_serial(events)?;
    }
    let _socket = match (&plan.control, &events) {
        (Some(path), Some(events)) => {
            let runner = signals.0.clone();
            Some(control::serve(
                "--control",
                path,
                runner,
                Arc::clone(events),
            )?)
        }
        _ => None,
    };
    let remote = plan.remote.clone();
    let shown = (display != Display::None || remote.is_some()).then(|| Arc::new(Shown::default()));
    let _screen = match (&remote, &shown) {
        (Some(spec), Some(shown)) => {
            display::remote::serve(spec, &title, shown, &signals.0, plan.keyboard)?
        }
        _ => None,
    };
    if let Some(shown) = shown.as_ref().filter(|_| display != Display::None) {
        shown.watched(true);
    }
    if let Some(managed) = &managed {
        managed.keep_calls();
    }
    let (ready_sender, ready) = unbounded();
    let machine = {
        let host = FromHost {
            events,
            managed,
            control: signals.1.clone(),
            stdin,
            link,
            guard: guard.clone(),
        };
        let (shown, guard) = (shown.clone(), guard.clone());
        std::thread::Builder::new()
            .name("machine".into())
            .spawn(move || {
                let ending = Ending(shown.clone());
                let outcome = run_machine(plan, made_of, host, shown, &ready_sender);
                guard.run_is_over();
                if let Ok(outcome) = &outcome {
                    ending.tell(last_words(outcome).filter(|_| stays));
                }
                outcome
            })?
    };
    // A machine that cannot be built drops its sender; what it says comes below.
    let built = ready.recv().is_ok();
    let _terminal = match stdio_port.filter(|_| built) {
        Some(port) => hostio::read_stdin(port as u8, stdin_sender, signals.0.clone())?,
        None => None,
    };
    let shown_well = match &shown {
        Some(shown) if built => match display {
            #[cfg(feature = "window")]
            Display::Window => match window {
                Some(window) => {
                    display::window::show(window, &title, shown, &signals.0, &signals.1)
                }
                None => Ok(()),
            },
            Display::Terminal => display::terminal::show(&title, shown, &signals.0, &signals.1),
            Display::None => Ok(()),
        },
        _ => Ok(()),
    };
    if shown_well.is_err() {
        let _ = signals.0.send(Control::Stop(Stop::Closed));
    }
    let outcome = machine.join();
    drop(_terminal);
    host::terminal::restore();
    shown_well?;
    let outcome = match outcome {
        Ok(outcome) => outcome?,
        // The panic hook has told what happened.
        Err(_) => return Ok(101),
    };
    finish(&args, &outcome, &guard)
}

/// Checks all options that need no image.
fn check(args: RunArgs) -> Result<Plan> {
    if let Some(address) = &args.gdb {
        bail!(
            "--gdb {address}: the debugger port is not yet available in this build; leave it out"
        );
    }
    let serial = args.serial.iter();
    let serial: Vec<Place> = serial
        .map(|text| Place::parse("--serial", text))
        .collect::<Result<_>>()?;
    if serial.len() > 4 {
        bail!("--serial: expected at most four ports, COM1 to COM4; leave some out");
    }
    if serial
        .iter()
        .filter(|&place| *place == Place::Stdio)
        .count()
        > 1
    {
        bail!("--serial stdio: expected it once; lead the other ports to file:PATH");
    }
    let debugcon = match &args.debugcon {
        Some(text) => Place::parse("--debugcon", text)?,
        None => Place::None,
    };
    for (option, path) in [
        ("--report", &args.report),
        ("--screenshot", &args.screenshot),
    ] {
        if let Some(path) = path {
            hostio::check_output(option, path)?;
        }
    }
    let timeout = match args.timeout {
        Some(seconds) if seconds.is_nan() || seconds <= 0.0 => {
            bail!("--timeout {seconds}: expected a number of seconds above 0")
        }
        Some(seconds) if seconds < MOST_SECONDS => Some(Duration::from_secs_f64(seconds)),
        _ => None,
    };
    let keyboard = Layout::named(&args.keyboard).with_context(|| {
        let names = LAYOUTS.iter().map(Layout::name).collect::<Vec<_>>();
        format!(
            "--keyboard {}: expected one of {}, found another; this is what --send and a terminal type on",
            args.keyboard,
            names.join(", ")
        )
    })?;
    let script = Script::new(args.until.as_deref(), &args.send)?;
    let stdio = debugcon == Place::Stdio || serial.contains(&Place::Stdio);
    let choice = args.display.unwrap_or(DisplayChoice::Auto);
    let display = display::choose(choice, Host::detect(), stdio)?;
    let (sound, sound_spec) = choose_sound(&args, display)?;
    let remote = args.vnc.as_deref().map(RemoteSpec::parse).transpose()?;
    let control = args.control.as_deref();
    let control = control.map(|text| control::parse_place("--control", text));
    let control = control.transpose()?;
    let limits = Limits {
        timeout,
        instructions: args.max_instructions,
    };
    Ok(Plan {
        args,
        keyboard,
        serial,
        debugcon,
        limits,
        script,
        stdio,
        display,
        pacing: Pacing::Deterministic,
        sound,
        sound_spec,
        control,
        remote,
    })
}

/// Where sound goes, and what there is to sound.
fn choose_sound(args: &RunArgs, display: Display) -> Result<(Option<SoundTo>, Option<SoundSpec>)> {
    let auto = std::ffi::OsString::from("auto");
    let text = args.sound.as_ref().unwrap_or(&auto);
    let Some((to, spec, named)) = spec::sound::parse(text)? else {
        return Ok((None, None));
    };
    if named && args.restore.is_some() {
        bail!(
            "--sound {}: expected no model, as --restore brings the machine's own; leave model= out",
            text.display()
        );
    }
    match &to {
        SoundTo::Wav(path) => hostio::check_output("--sound", path)?,
        // Nobody is there to hear it.
        SoundTo::Auto if display == Display::None || !crate::sound::HAS_LOUDSPEAKERS => {
            return Ok((None, None));
        }
        SoundTo::Auto => {}
    }
    Ok((Some(to), Some(spec)))
}

/// Opens what sound goes to; `asked`: an option named it.
fn open_sound(
    to: Option<&SoundTo>,
    asked: bool,
    wires: &mut Wires,
    goes_on: bool,
    now_ns: u64,
) -> Result<Option<Speakers>> {
    Ok(match to {
        Some(SoundTo::Wav(path)) => {
            let (wav, first) = Wav::new(path, goes_on);
            wires.open_sound(path, wav.goes_on())?;
            wires.send_sound(&first);
            Some(Speakers::to_file(wav, now_ns))
        }
        Some(SoundTo::Auto) => Some(Speakers::to_host(now_ns, |error| {
            let line = format!(
                "--sound auto: expected a sound server, PulseAudio or PipeWire, found none: {error}; nobody hears this \
                 run"
            );
            match asked {
                true => outlet::say(&format!("glassbox: {line}")),
                false => log::info!(target: "sound", "{line}"),
            }
        })),
        None => None,
    })
}

/// Opens the window, where that is the display. Where it cannot be had and was not asked for, says why, and what takes
/// its place.
#[cfg(feature = "window")]
fn open_window(plan: &mut Plan, title: &str) -> Result<Option<display::window::Window>> {
    let host = Host::detect();
    let chosen = plan
        .args
        .display
        .is_some_and(|choice| choice != DisplayChoice::Auto);
    let why = if plan.display == Display::Window {
        match display::window::open(title) {
            Ok(window) => return Ok(Some(window)),
            Err(why) if chosen => {
                bail!("--display window: {why}; use --display terminal or none")
            }
            Err(why) => why,
        }
    } else if host.only_wayland && !chosen {
        display::ONLY_WAYLAND.to_owned()
    } else {
        return Ok(None);
    };
    plan.display = display::without_window(host, plan.stdio);
    let instead = match plan.display {
        Display::None => "this run has no display",
        _ => "the screen is shown in this terminal",
    };
    outlet::say(&format!("glassbox: no window: {why}; {instead}"));
    Ok(None)
}

/// The tour is for people: it never ends by itself.
fn refuse_unseen_tour(plan: &Plan) -> Result<()> {
    let args = &plan.args;
    let chosen = args
        .display
        .is_some_and(|choice| choice != DisplayChoice::Auto);
    let named = args.image.is_some() || args.kernel.is_some() || !args.cdrom.is_empty();
    let is_tour = !named && args.disk.is_empty() && args.floppy.is_empty();
    if !is_tour || plan.display != Display::None || chosen || plan.stdio {
        return Ok(());
    }
    if args.timeout.is_some() || args.max_instructions.is_some() || args.until.is_some() {
        return Ok(());
    }
    bail!(
        "the tour, seven screens about what a virtual machine does, needs somebody to see it: found no display and \
         no terminal on standard input and output; start `glassbox` in a terminal, or make a picture of it with \
         `glassbox run --timeout 5 --screenshot tour.png`, or name an image: `glassbox run IMAGE`"
    )
}

/// What the run writes must not go to one of its images.
fn check_outputs(args: &RunArgs, sound: Option<&SoundTo>, drives: &Drives) -> Result<()> {
    let file = |text: &str| text.strip_prefix("file:").map(std::path::PathBuf::from);
    let named = [
        ("--report", &args.report),
        ("--screenshot", &args.screenshot),
    ];
    let named = named
        .into_iter()
        .filter_map(|(option, path)| Some((option, path.clone()?)));
    let serial = args
        .serial
        .iter()
        .filter_map(|text| Some(("--serial", file(text)?)));
    let debugcon = args
        .debugcon
        .iter()
        .filter_map(|text| Some(("--debugcon", file(text)?)));
    let wav = sound.and_then(|to| match to {
        SoundTo::Wav(path) => Some(("--sound", path.clone())),
        SoundTo::Auto => None,
    });
    let folders = [("--save", &args.save), ("--restore", &args.restore)];
    let mut outputs: Vec<(&str, std::path::PathBuf)> = Vec::new();
    for (option, path) in named.chain(serial).chain(debugcon).chain(wav) {
        let refuse = |found: &str| {
            bail!(
                "{option} {}: expected a file to write to, found {found}; choose another name",
                path.display()
            )
        };
        if let Some(first) = drives.option_of(&path) {
            refuse(&format!("the image that {first} names"))?;
        }
        let whole = whole_path(&path);
        for (folder_option, folder) in &folders {
            if let Some(folder) = folder
                && whole.starts_with(whole_path(folder))
            {
                refuse(&format!("the folder of {folder_option}"))?;
            }
        }
        // Devices and FIFOs may well take more than one stream.
        let is_file = std::fs::metadata(&path).map_or(true, |metadata| metadata.is_file());
        if let Some((first, _)) = outputs.iter().find(|(_, known)| *known == whole)
            && is_file
        {
            refuse(&format!("what {first} writes to"))?;
        }
        outputs.push((option, whole));
    }
    if let (Some(save), true) = (&args.save, args.restore != args.save) {
        emulator::saved::check(save).map_err(|error| anyhow!("--save {error}"))?;
    }
    Ok(())
}

/// A path without links, of a file that need not be there yet.
fn whole_path(path: &Path) -> std::path::PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Starts the network behind the card, and says which ports lead into it where the host chose them.
fn start_network(spec: &spec::NetSpec) -> Result<net::Link> {
    let config = net::Config {
        resolvers: host::sockets::resolvers(),
        ..spec.config()?
    };
    let wanted = config.forwards.clone();
    let link = net::start(config).map_err(|error| anyhow::anyhow!("--net {error}"))?;
    for (wanted, made) in wanted.iter().zip(link.forwards()) {
        if wanted.host.port() == 0 {
            outlet::say(&format!("glassbox: hostfwd={made}"));
        }
    }
    Ok(link)
}

/// Gives the machine a recompiler where one is wanted and there.
fn choose_engine(choice: Option<EngineChoice>, machine: &mut emulator::Machine) -> Result<()> {
    if choice == Some(EngineChoice::Interpreter) {
        return Ok(());
    }
    match recompiler() {
        Ok(recompiler) => machine.set_recompiler(recompiler),
        #[cfg(feature = "recompiler")]
        Err(why) if choice == Some(EngineChoice::Recompiler) => {
            bail!("--engine recompiler: {why}; leave it out, and the interpreter runs the machine");
        }
        Err(why) => log::info!(target: "engine", "the interpreter alone: {why}"),
    }
    Ok(())
}

#[cfg(feature = "recompiler")]
fn recompiler() -> Result<Box<dyn x86::Recompiler>, &'static str> {
    jit::recompiler()
}

#[cfg(not(feature = "recompiler"))]
fn recompiler() -> Result<Box<dyn x86::Recompiler>, &'static str> {
    Err("this build has no recompiler")
}

/// Which engines this build has on this host, and what holds the recompiler off.
pub fn engines() -> (&'static str, &'static str) {
    match recompiler() {
        Ok(_) => ("recompiler (auto), interpreter", "x86-64"),
        Err(why) => ("interpreter", why),
    }
}

/// Builds and runs the machine; on a thread of its own.
fn run_machine(
    plan: Plan,
    made_of: MadeOf,
    host: FromHost,
    shown: Option<Arc<Shown>>,
    ready: &Sender<()>,
) -> Result<Outcome> {
    let MadeOf {
        spec,
        media,
        drives,
        saved,
    } = made_of;
    let rtc_start = match (spec.rtc, plan.pacing) {
        (Some(date), _) => date,
        (None, Pacing::Deterministic) => build::DETERMINISTIC_DATE,
        (None, Pacing::Realtime) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(build::DETERMINISTIC_DATE, |now| now.as_secs() as i64),
    };
    let no_reboot = plan.args.no_reboot;
    let restored = saved.is_some();
    let mut machine = build::build(&spec, media, plan.pacing, rtc_start, no_reboot, restored)?;
    choose_engine(plan.args.engine, &mut machine)?;
    if let Some(saved) = saved {
        saved.restore(&mut machine)?;
    }
    if let Some(managed) = &host.managed {
        managed.used_up()?;
    }
    let mut wires = Wires::open(&plan.serial, &plan.debugcon, restored)?;
    let speakers = open_sound(
        plan.sound.as_ref(),
        plan.args.sound.is_some(),
        &mut wires,
        restored,
        machine.now_ns(),
    )?;
    let stdio_port = plan.serial.iter().position(|place| *place == Place::Stdio);
    let _ = ready.send(());
    if let Some(managed) = &host.managed {
        managed.say_ready();
    }
    let session = Session {
        limits: plan.limits,
        script: plan.script,
        keyboard: plan.keyboard,
        wires,
        speakers,
        control: host.control,
        stdin: host.stdin,
        stdin_port: stdio_port.unwrap_or_default() as u8,
        interactive: shown.is_some()
            || stdio_port.is_some()
            || host.link.is_some()
            || host.events.is_some(),
        link: host.link,
        guard: host.guard,
        shown,
        pacing: plan.pacing,
        hash_state: plan.args.report.is_some(),
        drives,
        events: host.events,
        managed: host.managed,
        paused: plan.args.paused,
    };
    let (mut outcome, mut machine, mut drives, managed) = runner::run(machine, session);
    if let Some(dir) = &plan.args.save {
        let picture = report::to_png(outcome.frame.as_ref()).ok();
        let end = outcome.report.end.cause.name();
        let picture = picture.as_deref();
        let (spec, disks) = (&drives.spec, &mut drives.handles);
        let saved = spec::saved::save(dir, &mut machine, spec, disks, picture, &end);
        outcome.unsaved = saved.err().map(|error| format!("--save {error:#}"));
    }
    // Its disks are closed before it counts as off.
    drop((machine, drives));
    if let Some(mut managed) = managed {
        managed.ended();
    }
    Ok(outcome)
}

/// Tells the display that the run is over: also when it panics.
struct Ending(Option<Arc<Shown>>);

impl Ending {
    fn tell(&self, last_words: Option<String>) {
        if let Some(shown) = &self.0 {
            shown.set_ended(last_words);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.tell(None);
    }
}

/// Writes what was asked for, and says why a run did not end well.
fn finish(args: &RunArgs, outcome: &Outcome, guard: &Guard) -> Result<u8> {
    let end = outcome.report.end;
    if let Some(words) = describe(end, args, outcome) {
        outlet::say(&format!("glassbox: {words}"));
    }
    let mut status = outcome.status();
    if let Some(error) = &outcome.unsaved {
        outlet::say(&format!("error: {error}"));
        status = 1;
    }
    let mut write = |option: &str, path: &Path, bytes: Vec<u8>| {
        let name = format!("{option} {}", path.display());
        let patience = guard.patience(args.max_instructions.is_some());
        if let Err(error) = outlet::write_file(&name, path, bytes, patience) {
            outlet::say(&format!("error: {error}"));
            if let Unwritten::Failed { .. } = error {
                status = error.status();
            }
        }
    };
    if let Some(path) = &args.screenshot {
        write(
            "--screenshot",
            path,
            report::to_png(outcome.frame.as_ref())?,
        );
    }
    if let Some(path) = &args.report {
        write("--report", path, report::to_json(&outcome.report)?);
    }
    Ok(status)
}

fn describe(end: End, args: &RunArgs, outcome: &Outcome) -> Option<String> {
    match end.cause {
        Cause::TripleFault | Cause::Halted => Some(describe_death(outcome)),
        Cause::Timeout if !outcome.lost.is_empty() => Some(format!(
            "timeout: what the guest said was not read within {} s",
            args.timeout.unwrap_or_default()
        )),
        Cause::Timeout => Some(format!(
            "timeout: the guest still ran after {} s",
            args.timeout.unwrap_or_default()
        )),
        Cause::InstructionLimit => Some("the instruction limit is reached".into()),
        Cause::Interrupted => Some("interrupted".into()),
        _ => None,
    }
}

/// What is to stand with the last screen of a guest that died.
fn last_words(outcome: &Outcome) -> Option<String> {
    let report = &outcome.report;
    let death = report.death.as_ref()?;
    let mut words = format!("The guest died: {}", report.last_words());
    if let Some(first) = death.exceptions.first() {
        words = format!("{words}, {}", first.reason());
    }
    Some(words + ".")
}

/// How the guest died, and what led to it: a line each.
fn describe_death(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let mut lines = vec![format!("the guest died: {}", report.last_words())];
    let exceptions = report.death.iter().flat_map(|death| &death.exceptions);
    let mut before = None;
    for exception in exceptions {
        let order = if before.is_none() { "first" } else { "then" };
        lines.push(format!("  {order} {}", exception.line(before)));
        before = Some(exception);
    }
    lines.join("\n")
}

/// An error as one line: what failed, and the reasons below it.
pub fn one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The panic hook: the terminal is put back before anything is said.
pub fn install_panic_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        host::terminal::restore();
        outlet::say("glassbox: a defect of Glassbox, please report it:");
        before(info);
    }));
}
