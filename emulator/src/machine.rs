//! The machine: a bus, its processors, and the loop that shares virtual time between them.

use std::ops::ControlFlow;

use platform::{
    BlockBackend, Bus, DeviceId, Frame, Input, Key, MachineRequest, MessageQueue, Motion,
    NoSuchDrive, Output, PhysAddr, Place, TextScreen,
};
use sha2::{Digest, Sha256};
use x86::Vcpu;
use x86::code::CodeCache;
use x86::cpuid::CpuModel;
use x86::flags::bits;

use crate::journal::{Event, Journal, Stamped};

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The limit was reached; or the guest kept the host busy for long without running instructions:
    /// it waits while timers fire that do not wake it, or resets over and over. Just go on.
    Budget,
    /// Every processor waits for an interrupt, and time must come from outside: the caller sleeps and
    /// calls [`Machine::idle`]. With `None` no timer is armed, so that only input can go on.
    ///
    /// With [`Pacing::Deterministic`] only the latter is ever returned.
    Idle {
        /// The virtual time of the next timer.
        until_ns: Option<u64>,
    },
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked for a reset, and [`MachineConfig::stop_at_reset`] is set.
    Reset,
    /// The guest wrote this value to the debug-exit port.
    DebugExit(u32),
    /// A processor met an exception on the way into its double-fault handler.
    TripleFault,
    /// Every processor halted with interrupts off.
    HaltedForEver,
}

/// Where a run ends at the latest: both count from power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Instructions retired.
    pub retired: u64,
    /// Virtual time.
    pub now_ns: u64,
}

/// How a run may pass over a wait of all processors: see [`Machine::run_past_idle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leap {
    /// The caller looks at the machine at multiples of this virtual time.
    pub step_ns: u64,
    /// One of them, at which it looks in any case.
    pub most_ns: u64,
}

/// What virtual time follows while all processors are halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// It jumps to the next timer.
    Deterministic,
    /// It waits: see [`Exit::Idle`].
    Realtime,
}

/// What the loader puts into RAM before the firmware runs, and again after each reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Preload {
    /// Where.
    pub addr: u64,
    /// What.
    pub bytes: Vec<u8>,
    /// How many zeros follow.
    pub zeros: u64,
}

/// What a machine is made of, beside its bus.
pub struct MachineConfig {
    /// The processor model.
    pub model: CpuModel,
    /// How many processors.
    pub cpus: usize,
    /// The device that takes keys and the mouse's movement.
    pub keyboard: DeviceId,
    /// Others that take keys or places of the pointer while the guest has switched them on; the
    /// preferred ones are first.
    pub inputs: Vec<DeviceId>,
    /// The serial ports, COM1 first.
    pub serial: Vec<DeviceId>,
    /// The device that renders frames.
    pub display: DeviceId,
    /// The device that the case's power button is wired to.
    pub power: DeviceId,
    /// Images of a kernel that is booted directly.
    pub preloads: Vec<Preload>,
    /// What time follows.
    pub pacing: Pacing,
    /// Whether a reset ends the run.
    pub stop_at_reset: bool,
}

/// Instructions that a processor runs before the next one has its turn.
const QUANTUM: u64 = 20_000;

/// How long a call to run goes on while nothing is retired: each timer that fires while all processors
/// wait takes one, each reset takes [`RESET_COSTS`].
const PATIENCE: u32 = 100_000;
const RESET_COSTS: u32 = 1000;

/// Which processor runs, and how long. State like any other: where a run is cut must make no difference to it.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Turn {
    /// The processor whose turn it is.
    pub(crate) cpu: usize,
    /// The count of retired instructions at which the turn ends.
    ends: u64,
    /// How many processors in a row had nothing to do.
    halted: usize,
}

impl Turn {
    /// The first processor's, from `retired` on.
    fn first(retired: u64) -> Self {
        Self {
            cpu: 0,
            ends: retired.saturating_add(QUANTUM),
            halted: 0,
        }
    }
}

/// A whole machine.
pub struct Machine {
    /// `None` only while a processor holds it for a slice.
    pub(crate) bus: Option<Box<Bus>>,
    pub(crate) cpus: Vec<Vcpu>,
    /// The decoded code, lent to the processor that runs.
    pub(crate) code: Box<CodeCache>,
    pub(crate) turn: Turn,
    pub(crate) config: MachineConfig,
    pub(crate) journal: Journal,
}

impl Machine {
    /// A machine after power-on, with its preloads in RAM.
    pub fn new(mut bus: Box<Bus>, config: MachineConfig) -> Self {
        let count = u8::try_from(config.cpus).expect("a machine has a few processors");
        bus.messages = MessageQueue::new(count);
        if config.pacing == Pacing::Deterministic {
            bus.charge_accesses();
        }
        let processor = |number| {
            let mut cpu = Vcpu::new(config.model.clone());
            cpu.set_number(number);
            cpu
        };
        let cpus = (0..count).map(processor).collect();
        let mut machine = Self {
            bus: Some(bus),
            cpus,
            code: Box::new(CodeCache::new()),
            turn: Turn::first(0),
            config,
            journal: Journal::default(),
        };
        machine.load_preloads();
        machine
    }

    /// Keeps a journal from now on, of at most so many bytes of memory.
    pub fn keep_journal(&mut self, most_bytes: usize) {
        self.journal = Journal::of(most_bytes);
    }

    /// The bus: memory, devices, clock.
    pub fn bus(&self) -> &Bus {
        self.bus
            .as_ref()
            .expect("the bus is here between two slices")
    }

    /// The bus, to change it.
    pub fn bus_mut(&mut self) -> &mut Bus {
        self.bus
            .as_mut()
            .expect("the bus is here between two slices")
    }

    /// The processors.
    pub fn cpus(&self) -> &[Vcpu] {
        &self.cpus
    }

    /// Instructions retired since power-on, over all processors.
    pub fn retired(&self) -> u64 {
        self.bus().clock.retired()
    }

    /// Virtual time since power-on.
    pub fn now_ns(&self) -> u64 {
        self.bus().clock.now_ns()
    }

    /// What came in from outside so far.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    // ---- running -------------------------------------------------------------------------------

    /// Runs `budget` instructions, or until something else ends the run.
    pub fn run(&mut self, budget: u64) -> Exit {
        let retired = self.retired().saturating_add(budget);
        self.run_until(Limit {
            retired,
            now_ns: u64::MAX,
        })
    }

    /// Runs up to `limit`, or until something else ends the run.
    ///
    /// The same calls give the same run, to the instruction; where the limits lie makes no difference.
    pub fn run_until(&mut self, limit: Limit) -> Exit {
        self.run_past_idle(limit, None)
    }

    /// Runs as [`run_until`](Self::run_until) does, but does not stop where the caller would see nothing new: where all
    /// processors wait beyond the limit's time, and devices have handed out nothing, the limit
    /// moves to the first multiple of `leap`'s step that does not lie before the next timer.
    pub fn run_past_idle(&mut self, mut limit: Limit, leap: Option<Leap>) -> Exit {
        let mut patience = PATIENCE;
        loop {
            let bus = self.bus_mut();
            bus.run_due_events();
            if bus.request.is_some() {
                // Somebody pressed a button, or a timer's device asked: processors that sleep would not look.
                if let Some(exit) = self.serve_request() {
                    return exit;
                }
                patience = patience.saturating_sub(RESET_COSTS);
                continue;
            }
            if bus.memory.has_code_writes() {
                self.visit(Vcpu::drain_code_writes);
            }
            let clock = &self.bus().clock;
            let (retired, now_ns) = (clock.retired(), clock.now_ns());
            let reached = retired >= limit.retired || now_ns >= limit.now_ns || patience == 0;
            if reached {
                return Exit::Budget;
            }
            if self.turn.halted >= self.cpus.len() {
                self.turn.halted = 0;
                patience = patience.saturating_sub(1);
                if let Some(exit) = self.wait(&mut limit.now_ns, leap) {
                    return exit;
                }
                continue;
            }
            match self.slice(limit) {
                x86::Exit::Budget => {
                    self.turn.halted = 0;
                    if self.retired() >= self.turn.ends {
                        self.pass_turn();
                    }
                }
                x86::Exit::Yield => {
                    self.turn.halted = 0;
                    self.pass_turn();
                }
                x86::Exit::Halted => {
                    if self.retired() != retired {
                        // It had something to do first.
                        self.turn.halted = 0;
                    }
                    self.turn.halted += 1;
                    self.pass_turn();
                }
                x86::Exit::Shutdown => return Exit::TripleFault,
                x86::Exit::Request => {
                    if let Some(exit) = self.serve_request() {
                        return exit;
                    }
                    self.turn.halted = 0;
                    patience = patience.saturating_sub(RESET_COSTS);
                }
            }
        }
    }

    /// The next processor has its turn.
    fn pass_turn(&mut self) {
        if self.cpus.len() == 1 {
            // No turn ends: when one would have ended must not tell one run from another.
            return;
        }
        self.turn.cpu = (self.turn.cpu + 1) % self.cpus.len();
        self.turn.ends = self.retired().saturating_add(QUANTUM);
    }

    /// Runs the processor whose turn it is up to the next timer, or the end of its turn.
    fn slice(&mut self, limit: Limit) -> x86::Exit {
        let ends = if self.cpus.len() > 1 {
            limit.retired.min(self.turn.ends)
        } else {
            limit.retired
        };
        // The processor itself ends its slice at the next timer.
        self.visit(|cpu| cpu.run_until(ends, limit.now_ns))
    }

    /// Lends the bus and the code to the processor whose turn it is. Then wakes those that monitor what was written.
    fn visit<R>(&mut self, act: impl FnOnce(&mut Vcpu) -> R) -> R {
        let bus = self.bus.take().expect("the bus is here between two slices");
        let cpu = &mut self.cpus[self.turn.cpu];
        cpu.attach_shared(bus, &mut self.code);
        let result = act(cpu);
        log::trace!(target: "machine", "processor {} at {:x}", self.turn.cpu, cpu.cpu.regs[x86::Reg::RIP]);
        let mut bus = cpu.detach_shared(&mut self.code);
        if self.code.wakes_anybody() {
            for cpu in &mut self.cpus {
                cpu.attach_shared(bus, &mut self.code);
                bus = cpu.detach_shared(&mut self.code);
            }
            self.turn.halted = 0;
        }
        self.bus = Some(bus);
        result
    }

    /// Nobody has anything to do: moves time on, or says that the machine waits for the outside.
    fn wait(&mut self, limit_ns: &mut u64, leap: Option<Leap>) -> Option<Exit> {
        let dead = |cpu: &Vcpu| {
            cpu.cpu.rflags & bits::IF == 0
                && !cpu.cpu.monitor.waits
                && (!cpu.cpu.nmi_pending || cpu.cpu.nmi_blocked)
        };
        if self.cpus.iter().all(dead) {
            return Some(Exit::HaltedForEver);
        }
        let pacing = self.config.pacing;
        let now_ns = self.now_ns();
        let next_ns = self.next_timer_ns();
        let bus = self.bus_mut();
        match (next_ns, pacing) {
            (Some(deadline_ns), _) if deadline_ns <= now_ns => None,
            (Some(deadline_ns), Pacing::Deterministic) => {
                if let Some(leap) = leap
                    && bus.outputs.is_empty()
                {
                    let next_ns = deadline_ns.min(leap.most_ns);
                    *limit_ns = next_ns.next_multiple_of(leap.step_ns).max(*limit_ns);
                }
                bus.clock.skip_to(deadline_ns.min(*limit_ns));
                None
            }
            (until_ns, _) => Some(Exit::Idle { until_ns }),
        }
    }

    /// The virtual time at which the next timer fires, of devices or of a local APIC.
    pub fn next_timer_ns(&mut self) -> Option<u64> {
        let now_ns = self.now_ns();
        let cpus = self.cpus.iter();
        let next_of_apics = cpus
            .filter_map(|cpu| cpu.next_apic_deadline_ns(now_ns))
            .min();
        let next_of_devices = self.bus_mut().events.next_deadline_ns();
        next_of_devices.into_iter().chain(next_of_apics).min()
    }

    fn serve_request(&mut self) -> Option<Exit> {
        match self.bus_mut().request.take()? {
            MachineRequest::PowerOff => Some(Exit::PowerOff),
            MachineRequest::DebugExit(value) => Some(Exit::DebugExit(value)),
            MachineRequest::Reset if self.config.stop_at_reset => Some(Exit::Reset),
            MachineRequest::Reset => {
                self.reset();
                None
            }
        }
    }

    /// Has frequent code compiled from now on. A run is the same with and without.
    pub fn set_recompiler(&mut self, recompiler: Box<dyn x86::Recompiler>) {
        self.code.set_recompiler(recompiler);
    }

    /// Has code compiled that was run `uses` times, 1 at least, instead of as often as measured to be best: for tests.
    pub fn compile_after(&mut self, uses: u32) {
        self.code.compile_after(uses);
    }

    /// Instructions retired by host code, how many of those were calls of an interpreter's handler,
    /// blocks compiled, and bytes of host code at present.
    pub fn host_figures(&self) -> [u64; 4] {
        let (blocks, bytes) = self.code.host_figures();
        let cpus = self.cpus.iter().map(x86::Vcpu::host_figures);
        let (retired, calls) = cpus.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        [retired, calls, blocks, bytes as u64]
    }

    /// The reset button: processors and devices start anew; RAM keeps its content, but for the preloads.
    pub fn reset(&mut self) {
        log::debug!(target: "machine", "reset after {} instructions", self.retired());
        let bus = self.bus_mut();
        bus.request = None;
        bus.reset();
        for cpu in &mut self.cpus {
            cpu.reset();
        }
        // The processors have forgotten it.
        let memory = &mut self.bus.as_mut().expect("the bus is here").memory;
        self.code.clear(memory);
        self.turn = Turn::first(self.retired());
        self.load_preloads();
    }

    fn load_preloads(&mut self) {
        let zeros = [0u8; 4096];
        let memory = &mut self
            .bus
            .as_mut()
            .expect("the bus is here between two slices")
            .memory;
        for preload in &self.config.preloads {
            memory.write(PhysAddr(preload.addr), &preload.bytes);
            let mut at = preload.addr + preload.bytes.len() as u64;
            let end = at + preload.zeros;
            while at < end {
                let len = (end - at).min(zeros.len() as u64);
                memory.write(PhysAddr(at), &zeros[..len as usize]);
                at += len;
            }
        }
    }

    // ---- from outside --------------------------------------------------------------------------

    /// Something comes to the device with this instance name; one that the machine lacks does not hear of it.
    pub fn input(&mut self, device: &str, input: Input) {
        self.apply(Event::Input {
            device: device.into(),
            input,
        });
    }

    /// A key of the keyboard goes down or up.
    pub fn input_key(&mut self, key: Key, pressed: bool) {
        let input = Input::Key { key, pressed };
        let keyboard = self.listener(&input).unwrap_or(self.config.keyboard);
        let keyboard = self.bus().name_of(keyboard).to_owned();
        self.input(&keyboard, input);
    }

    /// The device that the guest has switched on for inputs of this kind, beside the PS/2 controller.
    fn listener(&self, input: &Input) -> Option<DeviceId> {
        let bus = self.bus();
        let mut inputs = self.config.inputs.iter().copied();
        inputs.find(|&device| bus.listens(device, input))
    }

    /// Whether the guest has switched on a pointer that takes [`input_place`](Self::input_place).
    pub fn has_pointer(&self) -> bool {
        self.listener(&Input::Pointer(Place::default())).is_some()
    }

    /// The pointer is at a place, or one of its buttons changes; where there is none, nobody hears of it.
    pub fn input_place(&mut self, place: Place) {
        let input = Input::Pointer(place);
        if let Some(pointer) = self.listener(&input) {
            let pointer = self.bus().name_of(pointer).to_owned();
            self.input(&pointer, input);
        }
    }

    /// Width and height of the display's picture, in dots.
    pub fn screen_size(&mut self) -> (usize, usize) {
        let frame = self.render().unwrap_or_default();
        (frame.width, frame.height)
    }

    /// Bytes arrive at serial port `port` (0 = COM1); a port that the machine lacks ignores them.
    pub fn input_serial(&mut self, port: u8, bytes: Vec<u8>) {
        if let Some(&device) = self.config.serial.get(usize::from(port)) {
            let name = self.bus().name_of(device).to_owned();
            self.input(&name, Input::Serial { port, bytes });
        }
    }

    /// The mouse moves, or one of its buttons does.
    pub fn input_mouse(&mut self, motion: Motion) {
        let mouse = self.bus().name_of(self.config.keyboard).to_owned();
        self.input(&mouse, motion.into());
    }

    /// Somebody presses the power button: what that does is the guest's affair.
    pub fn press_power(&mut self) {
        let power = self.bus().name_of(self.config.power).to_owned();
        self.input(&power, Input::PowerButton);
    }

    /// Somebody presses the reset button; with [`MachineConfig::stop_at_reset`] that ends the run.
    pub fn press_reset(&mut self) {
        self.apply(Event::Reset);
    }

    /// Somebody puts `medium` into drive `unit` of the device with this instance name, or takes out what is in there.
    ///
    /// # Errors
    /// The machine has no such drive; nothing has happened.
    pub fn change_medium(
        &mut self,
        device: &str,
        unit: u8,
        medium: Option<Box<dyn BlockBackend>>,
    ) -> Result<(), NoSuchDrive> {
        let (retired, now_ns) = (self.retired(), self.now_ns());
        let inserted = medium.is_some();
        let bus = self.bus_mut();
        let id = bus.device_named(device).ok_or(NoSuchDrive)?;
        bus.change_medium(id, unit.into(), medium)?;
        self.journal.record(retired, now_ns, || Event::Medium {
            device: device.into(),
            unit,
            inserted,
        });
        Ok(())
    }

    /// `ns` of virtual time pass while every processor waits: after [`Exit::Idle`].
    pub fn idle(&mut self, ns: u64) {
        self.apply(Event::Idle { ns });
    }

    /// From now on `ns_den` instructions take `ns_num` nanoseconds.
    pub fn set_ratio(&mut self, ns_num: u64, ns_den: u64) {
        if self.bus().clock.ratio() != (ns_num, ns_den) {
            self.apply(Event::Ratio { ns_num, ns_den });
        }
    }

    /// Does what a journal entry of another run says, at the place that it says. A medium that was
    /// put in then is not in the journal: the drive is empty until the caller does it again, by
    /// [`change_medium`](Self::change_medium).
    ///
    /// Returns why the run ended, when it ended before that place.
    pub fn replay(&mut self, entry: &Stamped) -> Option<Exit> {
        let limit = Limit {
            retired: entry.retired,
            now_ns: entry.now_ns,
        };
        // Of the two limits one alone is reached, while the other is a little ahead.
        while self.retired() < limit.retired || self.now_ns() < limit.now_ns {
            let limit = Limit {
                retired: if self.retired() < limit.retired {
                    limit.retired
                } else {
                    u64::MAX
                },
                now_ns: if self.now_ns() < limit.now_ns {
                    limit.now_ns
                } else {
                    u64::MAX
                },
            };
            match self.run_until(limit) {
                Exit::Budget => {}
                Exit::Idle { .. }
                    if self.retired() == entry.retired && self.now_ns() == entry.now_ns => {}
                exit => return Some(exit),
            }
        }
        self.apply(entry.event.clone());
        None
    }

    fn apply(&mut self, event: Event) {
        let (retired, now_ns) = (self.retired(), self.now_ns());
        self.journal.record(retired, now_ns, || event.clone());
        match event {
            Event::Input { device, input } => {
                let bus = self.bus_mut();
                if let Some(device) = bus.device_named(&device) {
                    bus.input(device, &input);
                }
            }
            Event::Reset if self.config.stop_at_reset => {
                self.bus_mut().request.get_or_insert(MachineRequest::Reset);
            }
            Event::Reset => self.reset(),
            Event::Idle { ns } => {
                let clock = &mut self.bus_mut().clock;
                clock.skip_to(clock.now_ns().saturating_add(ns));
            }
            Event::Ratio { ns_num, ns_den } => self.bus_mut().clock.set_ratio(ns_num, ns_den),
            Event::Medium { device, unit, .. } => {
                let bus = self.bus_mut();
                if let Some(device) = bus.device_named(&device) {
                    // A machine without the drive heard of nothing then, either.
                    let _ = bus.change_medium(device, unit.into(), None);
                }
            }
        }
    }

    /// Whether the guest has taken every key: what comes before it has may be lost.
    pub fn takes_keys(&self) -> bool {
        let (key, pressed) = (Key::Escape, true);
        let input = Input::Key { key, pressed };
        let keyboard = self.listener(&input).unwrap_or(self.config.keyboard);
        self.bus().takes_input(keyboard, &input)
    }

    /// Whether the guest has taken all that the mouse did, or does not look: what comes before it has is added to that.
    pub fn takes_motion(&self) -> bool {
        let place = Input::Pointer(Place::default());
        match self.listener(&place) {
            Some(pointer) => self.bus().takes_input(pointer, &place),
            None => {
                let motion = Motion::default().into();
                self.bus().takes_input(self.config.keyboard, &motion)
            }
        }
    }

    /// Whether the guest has taken all bytes of serial port `port`: what comes before it has waits.
    pub fn takes_serial(&self, port: u8) -> bool {
        let device = self.config.serial.get(usize::from(port));
        let nothing = Input::Serial {
            port,
            bytes: Vec::new(),
        };
        device.is_none_or(|&device| self.bus().takes_input(device, &nothing))
    }

    /// Whether the network card with this instance name takes a frame now: what comes before it does is lost.
    pub fn takes_frame(&self, card: &str) -> bool {
        let device = self.bus().device_named(card);
        let frame = Input::Frame(Vec::new());
        device.is_none_or(|device| self.bus().takes_input(device, &frame))
    }

    // ---- to the outside ------------------------------------------------------------------------

    /// Takes what the devices handed out since it was last taken.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.bus_mut().outputs)
    }

    /// What the display shows now; `None` while it shows nothing.
    pub fn render(&mut self) -> Option<Frame> {
        let display = self.config.display;
        let bus = self.bus_mut();
        bus.input(display, &Input::Render);
        bus.frame.take()
    }

    /// As [`render`](Self::render), but `None` also while the picture is as it was when it was last asked for this way.
    pub fn render_changed(&mut self) -> Option<Frame> {
        let display = self.config.display;
        let bus = self.bus_mut();
        bus.input(display, &Input::RenderChanged);
        bus.frame.take()
    }

    /// The characters on the display now; `None` unless it is in a text mode.
    pub fn read_text(&mut self) -> Option<TextScreen> {
        let display = self.config.display;
        let bus = self.bus_mut();
        bus.input(display, &Input::ReadText);
        bus.frame.take()?.text
    }

    /// SHA-256 over all that is saved: the components of [`state`](Self::state), and all of RAM;
    /// but for the ROMs and what is loaded at a reset, which no run changes.
    ///
    /// Only architecture counts: not how far a processor has put off to compute flags, what its TLB
    /// holds, or where a run was cut.
    pub fn state_hash(&mut self) -> [u8; 32] {
        let hash = self.state_hash_while(|| true);
        hash.expect("nothing has broken it off")
    }

    /// [`state_hash`](Self::state_hash), which takes a second for a GiB of RAM, or `None` as soon as `go_on` says no.
    pub fn state_hash_while(&mut self, mut go_on: impl FnMut() -> bool) -> Option<[u8; 32]> {
        let mut hasher = Sha256::new();
        for component in self.state().components {
            if component.is_image() {
                continue;
            }
            let bytes = postcard::to_stdvec(&component);
            hasher.update(bytes.expect("encoding into memory has no failure of its own"));
        }
        let visited = self.bus().memory.visit_ram_while(|chunk| {
            if !go_on() {
                return ControlFlow::Break(());
            }
            hasher.update(chunk);
            ControlFlow::Continue(())
        });
        visited.is_continue().then(|| hasher.finalize().into())
    }
}

#[cfg(test)]
pub(crate) mod tests;
