//! The state of a machine as one thing: what is saved, hashed and looked at, but for the content of RAM.
//!
//! Each component goes by its instance name (`com2`, `cpu0`), so that a board to which something
//! was added reads it too. Versions are the components' own, and so are migrations
//! ([`SavedState::decode_or_migrate`]).

use platform::{BusState, DeviceId, PhysAddr, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};
use x86::Cpu;

use crate::machine::{Machine, Preload, Turn};

/// The state of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name on this board.
    pub instance: String,
    /// The chip's name.
    pub kind: String,
    /// Its state.
    pub state: SavedState,
}

impl Component {
    /// Whether it is what stays as it was built, not state.
    pub(crate) fn is_image(&self) -> bool {
        self.instance == IMAGES
    }
}

/// All components, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineState {
    /// The components.
    pub components: Vec<Component>,
}

/// Why a state cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A component that this machine has not, or which is another chip here.
    #[error("{instance} ({kind}): this machine has no such component")]
    Unknown {
        /// Its name on the board that was saved.
        instance: String,
        /// What it was.
        kind: String,
    },
    /// A component that must be there is not.
    #[error("{0}: its state is missing")]
    Missing(String),
    /// A component refuses its state.
    #[error("{instance}: {error}")]
    Component {
        /// Its name.
        instance: String,
        /// What is wrong. The message has it, so it is no further source.
        error: StateError,
    },
}

/// What the machine itself has to save beside its parts.
#[derive(Serialize, Deserialize)]
struct Head {
    model: String,
    cpus: usize,
    ram_bytes: u64,
    turn: Turn,
}

/// What stays as it was built: ROMs, and what is loaded into RAM at each reset.
#[derive(Serialize, Deserialize)]
struct Images {
    roms: Vec<(PhysAddr, Vec<u8>)>,
    preloads: Vec<Preload>,
}

const HEAD: &str = "machine";
const BUS: &str = "bus";
const IMAGES: &str = "images";
const CPU: &str = "cpu";
const VERSION: u32 = 1;

impl Machine {
    /// The state of all components: everything but the content of RAM.
    pub fn state(&mut self) -> MachineState {
        let mut components = Vec::new();
        self.visit_state(|instance, kind, view| {
            components.push(Component {
                instance: instance.into(),
                kind: kind.into(),
                state: view.save(),
            });
        });
        MachineState { components }
    }

    /// Calls `visit` with instance name, chip and state of each component, in a fixed order. The
    /// state serializes with the names of its fields, so this is also how to look into a machine.
    pub fn visit_state(&mut self, mut visit: impl FnMut(&str, &str, StateView<'_>)) {
        let memory = &self.bus().memory;
        let head = Head {
            model: self.config.model.name.into(),
            cpus: self.cpus.len(),
            ram_bytes: memory.ram_bytes(),
            turn: self.turn,
        };
        let images = (memory.roms(), &self.config.preloads);
        visit(HEAD, HEAD, StateView::of(VERSION, &head));
        visit(IMAGES, IMAGES, StateView::of(VERSION, images));
        for (number, vcpu) in self.cpus.iter().enumerate() {
            let name = format!("{CPU}{number}");
            visit(&name, CPU, StateView::of(Cpu::STATE_VERSION, vcpu.state()));
        }
        let bus = self.bus_mut();
        visit(BUS, BUS, StateView::of(BusState::VERSION, bus.state()));
        let names: Vec<(DeviceId, String)> = {
            let ids: Vec<DeviceId> = bus.devices().map(|(id, _)| id).collect();
            ids.into_iter()
                .map(|id| (id, bus.name_of(id).to_owned()))
                .collect()
        };
        for ((_, device), (_, name)) in bus.devices().zip(&names) {
            visit(name, device.name(), device.state());
        }
    }

    /// Takes over a state. RAM is the caller's to bring. Calls no device and fires no edge; what
    /// was decoded, translated or compiled is made anew. A device of this board that the state does
    /// not know of starts as after a reset.
    ///
    /// # Errors
    /// It is of another machine, of versions that this build does not read, or damaged; the machine is then as before.
    pub fn set_state(&mut self, state: &MachineState) -> Result<(), RestoreError> {
        let before = self.state();
        let result = self.try_set_state(state);
        if result.is_err() {
            self.try_set_state(&before)
                .expect("a machine can be in the state in which it was");
        }
        // What came before is not what led here.
        self.journal.clear();
        result
    }

    fn try_set_state(&mut self, state: &MachineState) -> Result<(), RestoreError> {
        let find = |instance: &str| {
            let known = state.components.iter().find(|c| c.instance == instance);
            known.ok_or_else(|| RestoreError::Missing(instance.into()))
        };
        let failed = |instance: &str, error| RestoreError::Component {
            instance: instance.into(),
            error,
        };
        let unsound = |instance: &str, why| failed(instance, StateError::Unsound(why));
        for component in &state.components {
            if !self.has_component(component) {
                return Err(RestoreError::Unknown {
                    instance: component.instance.clone(),
                    kind: component.kind.clone(),
                });
            }
        }
        let decoded = find(HEAD)?.state.decode::<Head>(VERSION);
        let head = decoded.map_err(|error| failed(HEAD, error))?;
        if head.model != self.config.model.name {
            return Err(unsound(HEAD, "another processor model"));
        }
        if head.cpus != self.cpus.len() || head.turn.cpu >= self.cpus.len() {
            return Err(unsound(HEAD, "another number of processors"));
        }
        if head.ram_bytes != self.bus().memory.ram_bytes() {
            return Err(unsound(HEAD, "another size of RAM"));
        }
        let decoded = find(IMAGES)?.state.decode::<Images>(VERSION);
        let images = decoded.map_err(|error| failed(IMAGES, error))?;
        let mut cpus = Vec::new();
        for number in 0..self.cpus.len() {
            let name = format!("{CPU}{number}");
            let decoded = Cpu::read(&find(&name)?.state);
            cpus.push((decoded.map_err(|error| failed(&name, error))?, name));
        }
        let decoded = BusState::read(&find(BUS)?.state);
        let bus_state = decoded.map_err(|error| failed(BUS, error))?;

        let roms = self.bus_mut().memory.set_roms(&images.roms);
        roms.map_err(|_| unsound(IMAGES, "a ROM that has no place"))?;
        self.config.preloads = images.preloads;
        for (vcpu, (cpu, name)) in self.cpus.iter_mut().zip(cpus) {
            vcpu.set_state(cpu).map_err(|why| unsound(&name, why))?;
        }
        let bus = self.bus_mut();
        // Devices that are not in the state are to be as after power-on.
        bus.reset();
        bus.set_state(bus_state)
            .map_err(|error| failed(BUS, error))?;
        for component in &state.components {
            let Some(id) = bus.device_named(&component.instance) else {
                continue;
            };
            let mut devices = bus.devices();
            let (_, device) = devices
                .find(|&(number, _)| number == id)
                .expect("it has just been looked up");
            let restored = device.restore(&component.state);
            restored.map_err(|error| failed(&component.instance, error))?;
        }
        // The processors have forgotten it.
        let memory = &mut self.bus.as_mut().expect("the bus is here").memory;
        self.code.clear(memory);
        self.turn = head.turn;
        Ok(())
    }

    fn has_component(&mut self, component: &Component) -> bool {
        let cpus = self.cpus.len();
        let kind = component.kind.as_str();
        match component.instance.as_str() {
            name @ (HEAD | BUS | IMAGES) => kind == name,
            name if kind == CPU => (0..cpus).any(|number| name == format!("{CPU}{number}")),
            name => {
                let bus = self.bus_mut();
                let id = bus.device_named(name);
                bus.devices()
                    .any(|(number, device)| Some(number) == id && device.name() == kind)
            }
        }
    }
}
