//! Runs a machine from power-on to the end: slices, limits, script, and the edges to the host.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use emulator::{Exit, Leap, Limit, Machine, Pacing};
use platform::{Frame, Output};

use crate::hostio::Wires;
use crate::pacer::Pacer;
use crate::report::{Cause, End, Outcome};
use crate::script::Script;
use crate::typing::{Stroke, Typist};

/// What comes from the host.
#[derive(Clone, Debug)]
pub enum Control {
    /// A key of the window.
    #[cfg(feature = "window")]
    Key(platform::Key, bool),
    /// A key of the terminal, which tells of no release.
    Stroke(Stroke),
    /// Bytes for a serial port.
    Serial(u8, Vec<u8>),
    /// The run is to end.
    Stop(Stop),
}

/// Why the host ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The user closed the window or left.
    Closed,
    /// Ctrl-C or a signal.
    Interrupted,
}

/// What the display's thread sees of the machine: the latest frame, and how fast it is.
#[derive(Debug, Default)]
pub struct Shown {
    frame: Mutex<Option<Frame>>,
    kips: AtomicU64,
    ended: AtomicBool,
    last_words: Mutex<Option<String>>,
}

impl Shown {
    /// Takes the latest frame, unless it was taken before.
    pub fn take_frame(&self) -> Option<Frame> {
        self.lock().take()
    }

    /// Million instructions a second, lately.
    pub fn mips(&self) -> f64 {
        self.kips.load(Ordering::Relaxed) as f64 / 1000.0
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
        *self.lock() = Some(frame);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Frame>> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Serial ports and the debug console.
    pub wires: Wires,
    /// From the host.
    pub control: Receiver<Control>,
    /// Whether anything may come from there but a stop.
    pub interactive: bool,
    /// To the display, if there is one.
    pub shown: Option<Arc<Shown>>,
    /// What virtual time follows.
    pub pacing: Pacing,
    /// Whether somebody will read the hash of the whole state.
    pub hash_state: bool,
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
}

/// Runs `machine` to its end.
pub fn run(machine: Machine, session: Session) -> Outcome {
    let started = Instant::now();
    let pacer = (session.pacing == Pacing::Realtime).then(|| Pacer::new(started, machine.now_ns()));
    let mut run = Run {
        machine,
        session,
        typist: Typist::default(),
        started,
        next_screen_ns: 0,
        next_frame: started,
        unseen: true,
        speed_mark: (started, 0),
        pacer,
        not_bootable: None,
    };
    let end = loop {
        if let Some(end) = run.slice() {
            break end;
        }
    };
    run.drain();
    let wall_ns = started.elapsed().as_nanos() as u64;
    let mut outcome = {
        let session = &run.session;
        Outcome::new(
            &mut run.machine,
            &session.script,
            end,
            wall_ns,
            session.hash_state,
        )
    };
    if let Some(shown) = &run.session.shown {
        outcome
            .frame
            .clone()
            .into_iter()
            .for_each(|f| shown.show(f));
    }
    outcome.report.wall_ns = wall_ns.max(1);
    outcome
}

impl Run {
    fn slice(&mut self) -> Option<End> {
        while let Ok(control) = self.session.control.try_recv() {
            if let Some(end) = self.control(control) {
                return Some(end);
            }
        }
        self.typist.pump(&mut self.machine);
        let exit = self.run_to_border();
        self.drain();
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

    /// Runs to the next slice border, past those at which nothing can have happened, as the machine only waits.
    fn run_to_border(&mut self) -> Exit {
        let now_ns = self.machine.now_ns();
        let limit = Limit {
            retired: self.session.limits.instructions.unwrap_or(u64::MAX),
            now_ns: (now_ns / SLICE_NS + 1) * SLICE_NS,
        };
        let Some(pacer) = &mut self.pacer else {
            let look_ns = if !self.typist.is_idle() {
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
        if limits
            .timeout
            .is_some_and(|most| self.started.elapsed() >= most)
        {
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
        match (goes_on, self.session.limits.timeout) {
            (false, _) => eprintln!("glassbox: {words}"),
            (true, None) => eprintln!("glassbox: {words}; the firmware waits for a key"),
            (true, Some(timeout)) => eprintln!(
                "glassbox: {words}; the firmware waits for a key, up to the timeout of {} s",
                timeout.as_secs_f64()
            ),
        }
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
        // Keys that are being typed wait for the next slice border, what was drawn for the next frame.
        let most_ns = if !self.typist.is_idle() {
            SLICE_NS
        } else if self.unseen || self.session.script.wants_screen() {
            15_000_000
        } else {
            GLANCE_NS
        };
        let target_ns = until_ns.unwrap_or(u64::MAX).min(now_ns + most_ns);
        let wait = pacer.until(target_ns);
        let end = self.sleep(wait);
        let wall_ns = self.pacer.as_ref()?.wall_ns();
        let reached_ns = wall_ns.clamp(now_ns, target_ns);
        self.machine.idle(reached_ns - now_ns);
        end
    }

    /// Sleeps, but for what comes from the host.
    fn sleep(&mut self, duration: Duration) -> Option<End> {
        if duration.is_zero() {
            return None;
        }
        match self.session.control.recv_timeout(duration) {
            Ok(control) => self.control(control),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(duration);
                None
            }
        }
    }

    fn control(&mut self, control: Control) -> Option<End> {
        match control {
            #[cfg(feature = "window")]
            Control::Key(key, pressed) => self.machine.input_key(key, pressed),
            Control::Stroke(stroke) => self.typist.stroke(stroke),
            Control::Serial(port, bytes) => self.machine.input_serial(port, bytes),
            Control::Stop(Stop::Closed) => return Some(end(Cause::Closed)),
            Control::Stop(Stop::Interrupted) => return Some(end(Cause::Interrupted)),
        }
        None
    }

    /// Hands on what the guest said.
    fn drain(&mut self) {
        let outputs = self.machine.take_outputs();
        if outputs.is_empty() {
            return;
        }
        for output in outputs {
            match output {
                Output::Serial { port, byte } => {
                    self.session.wires.serial(port, byte);
                    self.session.script.serial(port, byte);
                }
                Output::DebugConsole(byte) => {
                    self.session.wires.debugcon(byte);
                    self.session.script.debugcon(byte);
                }
                Output::NotBootable(drives) => self.not_bootable = Some(drives),
                Output::PostCode(code) => log::debug!(target: "post", "{code:#04x}"),
            }
        }
        self.session.wires.flush();
    }

    /// Hands a frame to the display, when one is due.
    fn show(&mut self) {
        let Some(shown) = &self.session.shown else {
            return;
        };
        let now = Instant::now();
        self.unseen = now < self.next_frame;
        if !self.unseen {
            self.next_frame = now + FRAME;
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

/// What [`Output::NotBootable`] means, and what to do.
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
        true => "no drive was tried; see --boot".to_owned(),
        false => whys.join(", "),
    };
    format!("nothing to boot: {why}; give it an image with a system on it")
}

fn end(cause: Cause) -> End {
    End { cause, value: 0 }
}
