//! Runs a machine from power-on to the end: slices, limits, script, and the edges to the host.

mod rest;
mod verbs;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};
use devices::boards::pc::NETWORK_CARD;
use emulator::{Exit, Leap, Limit, Machine, Pacing};
use platform::{BlockBackend, Frame, Input, Output, Said};
use rest::{Rest, SLACK_NS};
use spec::{Change, Drives};

use crate::control::{Events, Request};
use crate::guard::Guard;
use crate::hostio::{Loss, Port, Wires};
use crate::managed::Managed;
use crate::outlet::{self, Unwritten};
use crate::pacer::Pacer;
use crate::report::{Cause, End, Outcome};
use crate::script::Script;
use crate::sound::Speakers;
use crate::throttle::Throttle;
use crate::typing::{Layout, Piece, Typist};

/// What somebody does to the machine at the next slice border.
pub type Command = Box<dyn FnOnce(&mut Machine) + Send>;

/// What comes from the host.
pub enum Control {
    /// A key of the window, the mouse, a button of the case.
    Do(Command),
    /// A key of the terminal, which tells of no release.
    Type(Piece),
    /// What the control interface asks for.
    Ask(Request),
    /// The run is to end.
    Stop(Stop),
}

impl Control {
    /// A command.
    pub fn command(command: impl FnOnce(&mut Machine) + Send + 'static) -> Self {
        Self::Do(Box::new(command))
    }
}

/// Why the host ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The user closed the window or left.
    Closed,
    /// Ctrl-C or a signal.
    Interrupted,
}

/// The latest frame, and how many were before it.
#[derive(Debug, Default)]
struct Latest {
    number: u64,
    frame: Arc<Frame>,
}

/// What displays see of the machine, any number of them: the latest frame, and how fast it is.
#[derive(Debug, Default)]
pub struct Shown {
    latest: Mutex<Latest>,
    kips: AtomicU64,
    ended: AtomicBool,
    has_pointer: AtomicBool,
    watchers: AtomicUsize,
    last_words: Mutex<Option<String>>,
}

impl Shown {
    /// The latest frame, unless it is the one with the number `seen`, which is 0 for who has seen
    /// none; notes its number there.
    pub fn frame_after(&self, seen: &mut u64) -> Option<Arc<Frame>> {
        let latest = self.lock();
        (std::mem::replace(seen, latest.number) != latest.number).then(|| Arc::clone(&latest.frame))
    }

    /// Million instructions a second, lately.
    pub fn mips(&self) -> f64 {
        self.kips.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// Whether the guest has switched on a pointer that is told places rather than movements.
    pub fn has_pointer(&self) -> bool {
        self.has_pointer.load(Ordering::Relaxed)
    }

    /// Somebody looks at it from now on, or does so no more: without anybody there are no pictures.
    pub fn watched(&self, is_there: bool) {
        match is_there {
            true => self.watchers.fetch_add(1, Ordering::Relaxed),
            false => self.watchers.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Whether the run is over.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Says that the run is over; with `last_words`, the last screen is to stay with them until the user leaves.
    pub fn set_ended(&self, last_words: Option<String>) {
        if last_words.is_some() {
            *self
                .last_words
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = last_words;
        }
        self.ended.store(true, Ordering::Release);
    }

    /// What is to stand with the last screen until the user leaves, once the run is over.
    pub fn last_words(&self) -> Option<String> {
        let words = self
            .last_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        words.clone()
    }

    fn show(&self, frame: Frame) {
        let frame = Arc::new(frame);
        let mut latest = self.lock();
        latest.number += 1;
        latest.frame = frame;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a run ends at the latest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Instructions.
    pub instructions: Option<u64>,
}

/// All that a run has beside its machine.
pub struct Session {
    /// Limits.
    pub limits: Limits,
    /// `--until` and `--send`.
    pub script: Script,
    /// The keyboard that the guest takes its own for.
    pub keyboard: &'static Layout,
    /// Serial ports and the debug console.
    pub wires: Wires,
    /// What plays the machine's sound.
    pub speakers: Option<Speakers>,
    /// From the host.
    pub control: Receiver<Control>,
    /// Standard input, for serial port `stdin_port`: read no faster than the guest takes it.
    pub stdin: Receiver<Vec<u8>>,
    /// The port.
    pub stdin_port: u8,
    /// The network behind the card.
    pub link: Option<net::Link>,
    /// Ends the process where the run does not end by itself.
    pub guard: Guard,
    /// Whether anything may come from the host but a stop.
    pub interactive: bool,
    /// To the display, if there is one.
    pub shown: Option<Arc<Shown>>,
    /// What virtual time follows.
    pub pacing: Pacing,
    /// Whether somebody will read the hash of the whole state.
    pub hash_state: bool,
    /// The machine's drives, whose media the script may change.
    pub drives: Drives,
    /// Who hears of what happens by the control interface.
    pub events: Option<Arc<Events>>,
    /// The machine, where it is one of the manager's.
    pub managed: Option<Managed>,
    /// The machine is to stand still at first.
    pub paused: bool,
}

/// Slices end at multiples of this virtual time: there the script is looked at.
const SLICE_NS: u64 = 1_000_000;
/// A machine that waits is left alone for this virtual time at most: a signal or the timeout may end the run.
const LONGEST_NS: u64 = 1_000_000_000;
/// How often the script looks at the screen, in virtual time.
const SCREEN_NS: u64 = 20_000_000;
/// How often a display gets a frame.
const FRAME: Duration = Duration::from_millis(16);
/// A machine that waits in real time is looked at after this virtual time at the latest: its cursor blinks.
const GLANCE_NS: u64 = 50_000_000;
/// How often speed is measured.
const SPEED: Duration = Duration::from_millis(500);
/// How often limits are looked at while the run waits for a reader.
const LOOK: Duration = Duration::from_millis(10);
/// How long readers have for what is left once the run is interrupted or timed out.
const GRACE: Duration = Duration::from_millis(100);
/// A run with nothing but a limit of instructions must get there: a reader that takes nothing for so long is left.
const STALLED: Duration = Duration::from_secs(5);

/// How often disks are told that they may write what they keep back.
const DISKS_IDLE: Duration = Duration::from_secs(1);
/// How much the control interface may write to a serial port ahead of the guest, in bytes.
const MOST_SERIAL_IN: usize = 64 << 10;
/// How much of it is handed in at once.
const SERIAL_PIECE: usize = 16;

/// A run on its way.
struct Run {
    machine: Machine,
    session: Session,
    typist: Typist,
    started: Instant,
    next_screen_ns: u64,
    next_frame: Instant,
    /// The machine has run since the display was last given what changed.
    unseen: bool,
    speed_mark: (Instant, u64),
    pacer: Option<Pacer>,
    /// What the firmware said of the drives when nothing booted.
    not_bootable: Option<u8>,
    /// Output that was lost.
    lost: Vec<Unwritten>,
    /// The machine stands still until somebody lets it go on.
    paused: bool,
    throttle: Throttle,
    rest: Rest,
    /// What the control interface wrote to serial ports, and the guest has not taken.
    serial_in: BTreeMap<u8, VecDeque<u8>>,
    /// Bytes of the network that went into the machine and came out of it.
    net_bytes: (u64, u64),
    /// When disks are next told that they may write what they keep back.
    next_idle: Instant,
    /// When a signal or the user asked for the end: what is left to do has a moment from there, all in all.
    stopped: Option<Instant>,
}

/// Runs `machine` to its end, and gives it back with its drives and its place at the manager's.
pub fn run(machine: Machine, session: Session) -> (Outcome, Machine, Drives, Option<Managed>) {
    let started = Instant::now();
    let pacer = (session.pacing == Pacing::Realtime).then(|| Pacer::new(started, machine.now_ns()));
    let mut run = Run {
        machine,
        typist: Typist::new(session.keyboard),
        session,
        started,
        next_screen_ns: 0,
        next_frame: started,
        unseen: true,
        speed_mark: (started, 0),
        pacer,
        not_bootable: None,
        lost: Vec::new(),
        paused: false,
        throttle: Throttle::default(),
        rest: Rest::new(started),
        serial_in: BTreeMap::new(),
        net_bytes: (0, 0),
        next_idle: started,
        stopped: None,
    };
    run.paused = run.session.paused;
    let limit = run
        .session
        .managed
        .as_ref()
        .and_then(|managed| managed.cpu_limit);
    run.throttle.set(limit);
    let end = loop {
        if let Some(end) = run.slice() {
            break end;
        }
    };
    run.drain();
    run.end_sound();
    let end = run.finish_output(end);
    run.close_sound();
    // What comes now takes as long as RAM is large.
    run.session.guard.run_is_over();
    let wall_ns = started.elapsed().as_nanos() as u64;
    let mut outcome = run.outcome(end, wall_ns);
    if let Some(shown) = &run.session.shown {
        outcome
            .frame
            .clone()
            .into_iter()
            .for_each(|f| shown.show(f));
    }
    outcome.report.wall_ns = wall_ns.max(1);
    (
        outcome,
        run.machine,
        run.session.drives,
        run.session.managed,
    )
}

impl Run {
    fn slice(&mut self) -> Option<End> {
        while let Ok(control) = self.session.control.try_recv() {
            if let Some(end) = self.control(control) {
                return Some(end);
            }
        }
        if self.paused {
            return self.stand_still();
        }
        if let Some(end) = self.hold_back() {
            return Some(end);
        }
        if let Some(end) = self.wait_for_readers() {
            return Some(end);
        }
        self.hand_in_serial();
        self.take_stdin();
        self.take_frames();
        for change in self.typist.pump(&mut self.machine) {
            self.change_medium(&change);
        }
        let before = (self.machine.retired(), self.machine.now_ns());
        let exit = self.run_to_border();
        self.drain();
        if let Some(end) = self.wait_for_network(before) {
            return Some(end);
        }
        if self.session.script.wants_screen() && self.machine.now_ns() >= self.next_screen_ns {
            self.next_screen_ns = self.machine.now_ns() + SCREEN_NS;
            let text = self.machine.read_text();
            self.session.script.screen(text.as_ref());
        }
        if self.session.script.check(&mut self.typist) {
            return Some(end(Cause::Until));
        }
        self.show();
        self.ended(exit)
    }

    /// Waits where the run has used more of the host's processors than it may, and lets disks write
    /// what they keep back.
    fn hold_back(&mut self) -> Option<End> {
        let now = Instant::now();
        if now >= self.next_idle {
            self.next_idle = now + DISKS_IDLE;
            for (name, disk) in &mut self.session.drives.handles {
                if let Err(error) = disk.idle() {
                    log::error!(target: "disk", "{name}: cannot be written: {error}");
                }
            }
        }
        let wait = self.throttle.wait();
        self.sleep(wait)
    }

    /// Hands in what the control interface wrote to serial ports, as fast as the guest takes it.
    fn hand_in_serial(&mut self) {
        self.serial_in.retain(|&port, waiting| {
            if self.machine.takes_serial(port) {
                let most = waiting.len().min(SERIAL_PIECE);
                let bytes: Vec<u8> = waiting.drain(..most).collect();
                self.machine.input_serial(port, bytes);
            }
            !waiting.is_empty()
        });
    }

    /// Changes what is in a drive. Where that cannot be done any more the guest goes on without.
    fn change_medium(&mut self, change: &Change) {
        if let Err(error) = self.session.drives.change(&mut self.machine, change) {
            outlet::say(&format!(
                "glassbox: --send: {error:#}; the drive is left as it is"
            ));
        }
    }

    /// Runs to the next slice border, past those at which nothing can have happened, as the machine only waits.
    fn run_to_border(&mut self) -> Exit {
        let now_ns = self.machine.now_ns();
        let limit = Limit {
            retired: self.session.limits.instructions.unwrap_or(u64::MAX),
            now_ns: (now_ns / SLICE_NS + 1) * SLICE_NS,
        };
        let Some(pacer) = &mut self.pacer else {
            let owed = self.session.link.as_ref().is_some_and(net::Link::owes);
            let look_ns = if !self.typist.is_idle() || owed {
                0
            } else if self.session.script.wants_screen() {
                self.next_screen_ns.next_multiple_of(SLICE_NS)
            } else {
                limit.now_ns.saturating_add(LONGEST_NS)
            };
            let leap = Leap {
                step_ns: SLICE_NS,
                most_ns: look_ns,
            };
            return self.machine.run_past_idle(limit, Some(leap));
        };
        pacer.run(&mut self.machine, limit)
    }

    /// What an exit means for the run; `None` goes on.
    fn ended(&mut self, exit: Exit) -> Option<End> {
        match exit {
            Exit::Budget => {}
            Exit::PowerOff => return Some(end(Cause::PowerOff)),
            Exit::Reset => return Some(end(Cause::Reset)),
            Exit::TripleFault => return Some(end(Cause::TripleFault)),
            Exit::HaltedForEver => return Some(end(Cause::Halted)),
            Exit::DebugExit(value) => {
                return Some(End {
                    cause: Cause::DebugExit,
                    value,
                });
            }
            Exit::Idle { until_ns } => {
                if let Some(end) = self.idle(until_ns) {
                    return Some(end);
                }
            }
        }
        if let Some(end) = self.nothing_boots() {
            return Some(end);
        }
        let limits = &self.session.limits;
        if limits
            .instructions
            .is_some_and(|most| self.machine.retired() >= most)
        {
            return Some(end(Cause::InstructionLimit));
        }
        if self.is_timed_out() {
            return Some(end(Cause::Timeout));
        }
        None
    }

    /// Says once that nothing boots, where no display shows it, and ends the run if nobody can do
    /// anything about it.
    fn nothing_boots(&mut self) -> Option<End> {
        let drives = self.not_bootable.take()?;
        if self.session.shown.is_some() {
            return None;
        }
        // A script may wait for just this screen, and press a key.
        let goes_on = self.session.script.wants_screen();
        let words = not_bootable_in_words(drives);
        let then = match (goes_on, self.session.limits.timeout) {
            (false, _) => String::new(),
            (true, None) => "; the firmware waits for a key".to_owned(),
            (true, Some(timeout)) => format!(
                "; the firmware waits for a key, up to the timeout of {} s",
                timeout.as_secs_f64()
            ),
        };
        outlet::say(&format!("glassbox: {words}{then}"));
        (!goes_on).then_some(End {
            cause: Cause::NotBootable,
            value: 0,
        })
    }

    /// The processors wait for an interrupt; so does the host.
    fn idle(&mut self, until_ns: Option<u64>) -> Option<End> {
        let now_ns = self.machine.now_ns();
        let Some(pacer) = &mut self.pacer else {
            // No timer is armed: only the outside can go on. Nobody takes what waits to be typed any more.
            if !self.typist.is_idle() && !self.typist.waits_for_guest(&self.machine) {
                self.machine.idle(SLICE_NS);
                return None;
            }
            if !self.session.interactive {
                return Some(end(Cause::Halted));
            }
            let end = self.sleep(Duration::from_millis(10));
            self.machine.idle(SLICE_NS);
            return end;
        };
        let target_ns = until_ns.unwrap_or(u64::MAX);
        if self.rest.is_deep(&self.session, &self.typist) && pacer.until(target_ns) > Duration::ZERO
        {
            // Nobody notices when: it goes through its timers then, one by one.
            let wait = pacer.until(now_ns + SLACK_NS);
            let end = self.sleep_well(wait);
            let wall_ns = self.pacer.as_ref()?.wall_ns();
            self.machine.idle(wall_ns.clamp(now_ns, target_ns) - now_ns);
            return end;
        }
        // Keys that are being typed wait for the next slice border, what was drawn for the next frame.
        let most_ns = if !self.typist.is_idle() {
            SLICE_NS
        } else if self.unseen || self.session.script.wants_screen() {
            15_000_000
        } else {
            GLANCE_NS
        };
        let target_ns = target_ns.min(now_ns + most_ns);
        let wait = pacer.until(target_ns);
        let end = self.sleep_well(wait);
        let wall_ns = self.pacer.as_ref()?.wall_ns();
        let reached_ns = wall_ns.clamp(now_ns, target_ns);
        self.machine.idle(reached_ns - now_ns);
        end
    }

    /// Sleeps as [`sleep`](Self::sleep) does, and notes for how long.
    fn sleep_well(&mut self, duration: Duration) -> Option<End> {
        let begun = Instant::now();
        let end = self.sleep(duration);
        self.rest.slept(begun, begun.elapsed());
        end
    }

    /// Sleeps, but for what comes from the host.
    fn sleep(&mut self, duration: Duration) -> Option<End> {
        if duration.is_zero() {
            return None;
        }
        let nothing = never();
        let frames = match &self.session.link {
            Some(link) if self.machine.takes_frame(NETWORK_CARD) => link.frames(),
            _ => &nothing,
        };
        let stdin = match self.takes_stdin() {
            true => &self.session.stdin,
            false => &nothing,
        };
        select! {
            recv(self.session.control) -> control => match control {
                Ok(control) => return self.control(control),
                Err(_) => std::thread::sleep(duration),
            },
            recv(stdin) -> bytes => self.type_stdin(bytes.ok()),
            recv(frames) -> frame => self.take_frame(frame.ok()),
            default(duration) => {}
        }
        None
    }

    fn takes_stdin(&self) -> bool {
        self.machine.takes_serial(self.session.stdin_port)
    }

    /// Hands on what came from standard input, once the guest has taken what came before.
    fn take_stdin(&mut self) {
        if self.takes_stdin()
            && let Ok(bytes) = self.session.stdin.try_recv()
        {
            self.type_stdin(Some(bytes));
        }
    }

    fn type_stdin(&mut self, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => self.machine.input_serial(self.session.stdin_port, bytes),
            // Its end: a channel without a sender would never let the machine sleep.
            None => self.session.stdin = never(),
        }
    }

    /// Hands the network card what came for it, as far as it takes that.
    fn take_frames(&mut self) {
        while let Some(link) = &self.session.link
            && self.machine.takes_frame(NETWORK_CARD)
            && let Ok(frame) = link.frames().try_recv()
        {
            self.take_frame(Some(frame));
        }
        if let Some(link) = &self.session.link {
            link.took();
        }
    }

    fn take_frame(&mut self, frame: Option<Vec<u8>>) {
        match frame {
            Some(frame) => {
                self.rest.disturbed();
                self.net_bytes.0 += frame.len() as u64;
                self.machine.input(NETWORK_CARD, Input::Frame(frame));
            }
            // The network has ended, and said why.
            None => self.session.link = None,
        }
    }

    /// A deterministic machine that has waited while somebody on the network owes it an answer has done so too fast:
    /// gives that as much of the host's time. `before` is when the slice began: instructions and virtual time.
    fn wait_for_network(&mut self, before: (u64, u64)) -> Option<End> {
        let link = self.session.link.as_ref()?;
        if self.pacer.is_some() || !link.owes() {
            return None;
        }
        let (ns, instructions) = self.machine.bus().clock.ratio();
        let busy_ns = (self.machine.retired() - before.0) * ns / instructions.max(1);
        let waited_ns = (self.machine.now_ns() - before.1).saturating_sub(busy_ns);
        self.sleep(Duration::from_nanos(waited_ns.min(SLICE_NS)))
    }

    fn is_timed_out(&self) -> bool {
        let timeout = self.session.limits.timeout;
        timeout.is_some_and(|most| self.started.elapsed() >= most)
    }

    /// The guest stands still while a reader is far behind: what it says is neither lost nor piled up. Limits and
    /// signals end a run here as anywhere.
    fn wait_for_readers(&mut self) -> Option<End> {
        loop {
            if let Some(end) = self.take_losses() {
                return Some(end);
            }
            if !self.session.wires.are_full() {
                return None;
            }
            if let Some(end) = self.wait_for_progress() {
                return Some(end);
            }
            if self.is_timed_out() {
                return Some(end(Cause::Timeout));
            }
            self.leave_stalled_readers();
        }
    }

    /// Once the run is over: waits until all that the guest said is read, or there is a reason to wait no longer.
    fn finish_output(&mut self, mut end: End) -> End {
        let mut since = None;
        loop {
            if let Some(lost) = self.take_losses() {
                end = lost;
            }
            if self.session.wires.are_drained() {
                return end;
            }
            if since.is_none() && self.is_timed_out() {
                end.cause = Cause::Timeout;
            }
            match end.cause {
                Cause::Timeout | Cause::Interrupted | Cause::Closed | Cause::OutputFailed => {
                    let since = since.get_or_insert_with(Instant::now);
                    if self.stopped.unwrap_or(*since).elapsed() >= GRACE {
                        let given_up = self.session.wires.give_up(Duration::ZERO);
                        self.give_up(given_up);
                    }
                }
                _ => self.leave_stalled_readers(),
            }
            if let Some(stopped) = self.wait_for_progress() {
                end = stopped;
            }
        }
    }

    /// Sleeps until a reader took something, or the host has a command.
    fn wait_for_progress(&mut self) -> Option<End> {
        select! {
            recv(self.session.control) -> control => match control {
                Ok(control) => return self.control(control),
                Err(_) => std::thread::sleep(LOOK),
            },
            recv(self.session.wires.progress()) -> _ => {}
            default(LOOK) => {}
        }
        None
    }

    /// A timeout bounds the wait for a reader; a limit of instructions alone would not be reached.
    fn leave_stalled_readers(&mut self) {
        let limits = &self.session.limits;
        if limits.instructions.is_some() && limits.timeout.is_none() {
            let given_up = self.session.wires.give_up(STALLED);
            self.give_up(given_up);
        }
    }

    fn give_up(&mut self, lost: Vec<Unwritten>) {
        for error in lost {
            outlet::say(&format!("glassbox: {error}"));
            self.lost.push(error);
        }
    }

    /// Says what output was lost. That on standard output ends the run, as it does any program's; without a file the
    /// guest goes on, as it may have disks to look after.
    fn take_losses(&mut self) -> Option<End> {
        let mut over = None;
        while let Some(Loss { error, stdout }) = self.session.wires.take_loss() {
            let cause = match error {
                Unwritten::Closed => Cause::Closed,
                _ => Cause::OutputFailed,
            };
            if cause == Cause::OutputFailed {
                let then = match stdout {
                    true => "",
                    false => "; the guest goes on without",
                };
                outlet::say(&format!("glassbox: {error}{then}"));
            }
            if stdout {
                over = Some(end(cause));
            }
            self.lost.push(error);
        }
        over
    }

    /// What the run leaves. Whoever wants it to end does not wait for the hash of all of RAM.
    fn outcome(&mut self, end: End, wall_ns: u64) -> Outcome {
        let session = &self.session;
        let mut stopped = self.stopped;
        let in_time = || {
            if has_stop(&session.control) {
                stopped.get_or_insert_with(Instant::now);
            }
            stopped.is_none_or(|at| at.elapsed() < GRACE)
        };
        let hash = match session.hash_state {
            true => self.machine.state_hash_while(in_time),
            false => None,
        };
        let lost = std::mem::take(&mut self.lost);
        Outcome::new(&mut self.machine, &session.script, end, wall_ns, hash, lost)
    }

    fn control(&mut self, control: Control) -> Option<End> {
        match control {
            Control::Do(command) => {
                self.rest.disturbed();
                command(&mut self.machine);
            }
            Control::Type(piece) => {
                self.rest.disturbed();
                self.typist.type_keys(&[piece]);
            }
            Control::Ask(request) => return self.answer(request),
            Control::Stop(stop) => {
                self.stopped.get_or_insert_with(Instant::now);
                return Some(end(match stop {
                    Stop::Closed => Cause::Closed,
                    Stop::Interrupted => Cause::Interrupted,
                }));
            }
        }
        None
    }

    /// Hands on what the guest said.
    fn drain(&mut self) {
        let outputs = self.machine.take_outputs();
        if !outputs.is_empty() {
            self.hand_on(outputs);
        }
        if let Some(speakers) = &mut self.session.speakers {
            let bytes = speakers.advance(self.machine.now_ns());
            self.session.wires.send_sound(&bytes);
        }
    }

    /// What the speakers have not played yet.
    fn end_sound(&mut self) {
        if let Some(speakers) = &mut self.session.speakers {
            let bytes = speakers.finish();
            self.session.wires.send_sound(&bytes);
            self.session.wires.flush();
        }
    }

    /// The sound's file is written: its header gets the length.
    fn close_sound(&mut self) {
        let wav = self.session.speakers.as_ref().and_then(Speakers::wav);
        if let Some((Err(error), wav)) = wav.map(|wav| (wav.finish(), wav)) {
            outlet::say(&format!(
                "glassbox: {}: expected to put its length into the header, found: {error}; players may find the file \
                 too long",
                wav.name()
            ));
        }
    }

    fn hand_on(&mut self, outputs: Vec<Output>) {
        let mut sent = false;
        for output in outputs {
            match output.what {
                Said::Bytes(bytes) => {
                    if let Some(port) = Port::of(self.machine.bus().name_of(output.device)) {
                        self.session.wires.send(port, &bytes);
                        if let (Some(events), Port::Serial(port)) = (&self.session.events, port) {
                            events.serial(port, &bytes);
                        }
                        self.session.script.said(port, &bytes);
                    }
                }
                Said::NotBootable(drives) => self.not_bootable = Some(drives),
                Said::Frame(frame) => {
                    if let Some(link) = &self.session.link {
                        self.net_bytes.1 += frame.len() as u64;
                        link.send(frame);
                        sent = true;
                    }
                }
                Said::LargeFrame(frame) => {
                    if let Some(link) = &self.session.link {
                        self.net_bytes.1 += frame.len() as u64;
                        link.send_large(frame);
                        sent = true;
                    }
                }
                Said::Sound(sound) => {
                    if let Some(speakers) = &mut self.session.speakers {
                        speakers.add(output.device, &sound);
                    }
                }
                Said::PostCode(code) => log::debug!(target: "post", "{code:#04x}"),
            }
        }
        self.session.wires.flush();
        if let Some(link) = self.session.link.as_ref().filter(|_| sent) {
            link.flush();
        }
    }

    /// Hands a frame to the display, when one is due.
    fn show(&mut self) {
        let Some(shown) = &self.session.shown else {
            return;
        };
        let now = Instant::now();
        let is_watched = shown.watchers.load(Ordering::Relaxed) > 0;
        self.unseen = is_watched && now < self.next_frame;
        if is_watched && !self.unseen {
            self.next_frame = now + FRAME;
            let has_pointer = self.machine.has_pointer();
            shown.has_pointer.store(has_pointer, Ordering::Relaxed);
            // The display keeps what it was given: most of the time nothing has changed.
            if let Some(frame) = self.machine.render_changed() {
                shown.show(frame);
            }
        }
        let (since, retired) = self.speed_mark;
        let elapsed = now - since;
        if elapsed >= SPEED {
            let done = self.machine.retired() - retired;
            let kips = u128::from(done) * 1_000_000 / elapsed.as_nanos().max(1);
            shown.kips.store(kips as u64, Ordering::Relaxed);
            self.speed_mark = (now, self.machine.retired());
        }
    }
}

/// What [`Said::NotBootable`] means, and what to do.
fn not_bootable_in_words(drives: u8) -> String {
    let names = ["the floppy", "the hard disk", "the CD-ROM"];
    let whys: Vec<_> = names
        .into_iter()
        .enumerate()
        .filter_map(|(n, name)| match drives >> (2 * n) & 3 {
            1 => Some(format!("{name}'s first sector cannot be read")),
            2 if n == 2 => Some(format!(
                "{name} has no boot record that this firmware starts"
            )),
            2 => Some(format!(
                "{name}'s first sector is not a boot sector (no 55 AA at its end)"
            )),
            3 => Some(format!("what {name} booted gave up")),
            _ => None,
        })
        .collect();
    let why = match whys.is_empty() {
        true => "no drive of the boot order (--boot) is in the machine".to_owned(),
        false => whys.join(", "),
    };
    format!("nothing to boot: {why}; give it an image with a system on it")
}

/// Whether somebody wants an end; what else waits there is for a machine that does not run any more.
fn has_stop(control: &Receiver<Control>) -> bool {
    control
        .try_iter()
        .any(|control| matches!(control, Control::Stop(_)))
}

fn end(cause: Cause) -> End {
    End { cause, value: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_display_sees_each_frame_once_whatever_the_others_do() {
        let frame = |mode: &str| Frame {
            mode: mode.into(),
            ..Frame::default()
        };
        let shown = Shown::default();
        let (mut one, mut two) = (0, 0);
        let look = |seen: &mut u64| shown.frame_after(seen).map(|frame| frame.mode.clone());
        assert_eq!(look(&mut one), None, "there is none yet");
        shown.show(frame("first"));
        assert_eq!(look(&mut one).as_deref(), Some("first"));
        assert_eq!(look(&mut one), None);
        assert_eq!(look(&mut two).as_deref(), Some("first"));
        shown.show(frame("second"));
        shown.show(frame("third"));
        assert_eq!(look(&mut two).as_deref(), Some("third"), "the latest wins");
        assert_eq!(look(&mut one).as_deref(), Some("third"));
        let mut late = 0;
        assert_eq!(look(&mut late).as_deref(), Some("third"));
    }
}
