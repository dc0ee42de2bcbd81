//! Routes port I/O and MMIO to the devices, and settles the wires between them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::block::BlockBackend;
use crate::clock::Clock;
use crate::device::{Device, DeviceCtx, NoSuchDrive};
use crate::event::EventQueue;
use crate::frame::Frame;
use crate::input::Input;
use crate::line::{IrqLine, IrqLines};
use crate::memory::{GuestMemory, MapWithoutSmram, MemoryMap, PhysAddr};
use crate::message::{MessageQueue, QueueOfBytes};

use crate::state::{SavedState, StateError};
use crate::window::{MemoryWindow, PortWindow, Windows};

/// A device's place on the bus: the order in which the board added it. What outlives a run names devices by their
/// instance names instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeviceId(pub u8);

impl DeviceId {
    /// What drives a wire on behalf of the processors.
    pub const PROCESSOR: Self = Self(63);
}

/// What the bus itself has to save: time, wires, timers, messages under way and where the movable ranges are.
///
/// Wires and devices go by their names, so that a board to which something was added reads it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusState {
    clock: Clock,
    /// The wires that are high, and who holds them.
    wires: Vec<(String, Vec<String>)>,
    /// Device, timer and deadline, in the order in which equal deadlines fire.
    timers: Vec<(String, u32, u64)>,
    messages: MessageQueue,
    /// Device, region and base of each movable range.
    port_windows: Vec<Place<u16>>,
    memory_windows: Vec<Place<u64>>,
    memory_map: MemoryMap,
}

/// Device and region of a movable range, and where it is.
type Place<T> = (String, u8, Option<T>);

impl BusState {
    /// Version of the layout.
    pub const VERSION: u32 = 3;

    /// Reads a state of this version or of an older one.
    ///
    /// # Errors
    /// A version that nobody reads, or damaged bytes.
    pub fn read(state: &SavedState) -> Result<Self, StateError> {
        state.decode_or_migrate(Self::VERSION, &[(1, Self::from_1), (2, Self::from_2)])
    }

    /// Version 1 left out the ranges that were nowhere. One that it does not name stays where a
    /// reset puts it, as it may belong to a device that came later.
    fn from_1(state: &SavedState) -> Result<Self, StateError> {
        type Old<T> = Vec<(String, u8, T)>;
        fn now<T>(old: Old<T>) -> Vec<Place<T>> {
            let places = old.into_iter();
            let somewhere = places.map(|(device, region, base)| (device, region, Some(base)));
            somewhere.collect()
        }
        let state = state.decode::<Older<Old<u16>, Old<u64>>>(1)?;
        Ok(Self::from_older(state, now, now))
    }

    /// Version 2 knew destinations of 8 bits, and no memory of system management mode.
    fn from_2(state: &SavedState) -> Result<Self, StateError> {
        let state = state.decode::<Older<Vec<Place<u16>>, Vec<Place<u64>>>>(2)?;
        Ok(Self::from_older(state, |ports| ports, |memory| memory))
    }

    fn from_older<P, M>(
        older: Older<P, M>,
        ports: fn(P) -> Vec<Place<u16>>,
        memory: fn(M) -> Vec<Place<u64>>,
    ) -> Self {
        let (clock, (wires, timers, messages, port_windows, memory_windows), map) = older;
        Self {
            clock,
            wires,
            timers,
            messages: messages.into(),
            port_windows: ports(port_windows),
            memory_windows: memory(memory_windows),
            memory_map: map.into(),
        }
    }
}

/// What versions 1 and 2 wrote: a tuple reads what the struct wrote, field by field.
type Older<P, M> = (
    Clock,
    (
        Vec<(String, Vec<String>)>,
        Vec<(String, u32, u64)>,
        QueueOfBytes,
        P,
        M,
    ),
    MapWithoutSmram,
);

/// What a device may ask of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineRequest {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest wrote this value to the debug-exit port.
    DebugExit(u32),
}

/// Something that a device handed to the outside. Which port it stands for, the device's instance name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Who.
    pub device: DeviceId,
    /// What.
    pub what: Said,
}

/// What a device hands to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Bytes in the order in which they left, as those of a serial port or the debug console.
    Bytes(Vec<u8>),
    /// A POST code was written to port 80h.
    PostCode(u8),
    /// The firmware found nothing to boot. Two bits say why of each drive, bits 0-1 of the floppy,
    /// 2-3 of the hard disk, 4-5 of the CD-ROM: 0 not tried, 1 unreadable, 2 nothing on it to boot,
    /// 3 what was booted gave up.
    NotBootable(u8),
    /// A network card sends a frame, without its checksum.
    Frame(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
struct Range {
    device: DeviceId,
    region: u8,
    base: u64,
    len: u64,
    width: u8,
}

/// Virtual nanoseconds of an access on an ISA bus: eight clocks of 8.33 MHz.
pub const ISA_NS: u16 = 1000;
/// Virtual nanoseconds of an access on a PCI bus: three or four clocks of 33 MHz.
pub const PCI_NS: u16 = 100;

/// The bus: owns guest memory, the devices, their wires and their timers.
pub struct Bus {
    /// RAM and ROM.
    pub memory: GuestMemory,
    /// Virtual time.
    pub clock: Clock,
    /// The timers of all devices.
    pub events: EventQueue,
    /// The wires.
    pub lines: IrqLines,
    /// The interrupt messages on their way to the local APICs; part of what a snapshot holds.
    pub messages: MessageQueue,
    /// Where the movable ranges are.
    pub windows: Windows,
    /// What devices handed out since it was last taken.
    pub outputs: Vec<Output>,
    /// What a device asked of the machine.
    pub request: Option<MachineRequest>,
    /// The latest frame presented.
    pub frame: Option<Frame>,
    /// Something happened that the processor must look at: see [`take_activity`](Self::take_activity).
    activity: bool,
    /// Virtual time that accesses took since it was last taken.
    cost_ns: u64,
    /// What an access to each device's ports, and to its memory, takes; all zero where accesses take no time.
    costs: Vec<[u16; 2]>,
    /// The same where nobody answers.
    unclaimed_costs: [u16; 2],
    /// What an access takes where it is not [`ISA_NS`].
    costs_of: BTreeMap<DeviceId, [u16; 2]>,
    /// A place is empty while its device is called.
    devices: Vec<Option<Box<dyn Device>>>,
    /// The devices' instance names, and those of the wires.
    names: Vec<String>,
    wire_names: Vec<String>,
    ports: Vec<u8>,
    port_ranges: Vec<Range>,
    /// The movable ranges; `windows` has their bases.
    port_window_ranges: Vec<Range>,
    memory_window_ranges: Vec<Range>,
    /// The functions on the expansion bus, by their places.
    functions: BTreeMap<u16, DeviceId>,
    /// Ordered by base: a board has few, and the display's is the first.
    mmio: Vec<Range>,
    sinks: Vec<Vec<DeviceId>>,
    interrupt_controller: Option<(DeviceId, u8)>,
    io_apic: Option<DeviceId>,
    dma_controller: Option<DeviceId>,
    mail: Vec<(DeviceId, Input)>,
}

impl Bus {
    /// A bus with memory and no device.
    pub fn new(memory: GuestMemory, clock: Clock) -> Self {
        Self {
            memory,
            clock,
            events: EventQueue::default(),
            lines: IrqLines::default(),
            messages: MessageQueue::new(1),
            windows: Windows::default(),
            outputs: Vec::new(),
            request: None,
            frame: None,
            activity: false,
            cost_ns: 0,
            costs: vec![[0; 2]; 64],
            unclaimed_costs: [0; 2],
            costs_of: BTreeMap::new(),
            devices: Vec::new(),
            names: Vec::new(),
            wire_names: IrqLine::names(),
            ports: vec![0; 0x1_0000],
            port_ranges: Vec::new(),
            port_window_ranges: Vec::new(),
            memory_window_ranges: Vec::new(),
            functions: BTreeMap::new(),
            mmio: Vec::new(),
            sinks: vec![Vec::new(); IrqLine::COUNT],
            interrupt_controller: None,
            io_apic: None,
            dma_controller: None,
            mail: Vec::new(),
        }
    }

    /// Adds a device under its chip's name.
    pub fn add(&mut self, device: Box<dyn Device>) -> DeviceId {
        let name = device.name();
        self.add_named(name, device)
    }

    /// Adds a device under an instance name of the board's choice, such as `com2`.
    pub fn add_named(&mut self, name: &str, device: Box<dyn Device>) -> DeviceId {
        let id = self.devices.len() as u8;
        assert!(
            id < DeviceId::PROCESSOR.0,
            "a wire counts at most 64 holders"
        );
        assert!(
            self.device_named(name).is_none(),
            "two devices are called {name}"
        );
        self.devices.push(Some(device));
        self.names.push(name.into());
        DeviceId(id)
    }

    /// The number that the device added next gets.
    pub fn next_device(&self) -> DeviceId {
        DeviceId(self.devices.len() as u8)
    }

    /// The device with this instance name.
    pub fn device_named(&self, name: &str) -> Option<DeviceId> {
        let place = self.names.iter().position(|known| known == name)?;
        Some(DeviceId(place as u8))
    }

    /// A device's instance name.
    pub fn name_of(&self, id: DeviceId) -> &str {
        match self.names.get(usize::from(id.0)) {
            Some(name) => name,
            None => "cpu",
        }
    }

    /// Adds a wire of the board's own.
    pub fn add_wire(&mut self, name: &str) -> IrqLine {
        assert!(
            self.wire_names.iter().all(|known| known != name),
            "two wires are called {name}"
        );
        assert!(
            self.wire_names.len() < IrqLine::COUNT,
            "a board has {} wires",
            IrqLine::COUNT
        );
        self.wire_names.push(name.into());
        IrqLine(self.wire_names.len() as u8 - 1)
    }

    /// Maps `len` ports from `base` on to `region` of `device`, which takes accesses of up to `width` bytes.
    /// Wider and straddling accesses are split.
    pub fn map_ports(&mut self, device: DeviceId, region: u8, base: u16, len: u16, width: u8) {
        self.port_ranges.push(Range {
            device,
            region,
            base: base.into(),
            len: len.into(),
            width,
        });
        let index =
            u8::try_from(self.port_ranges.len()).expect("a board has fewer than 256 port ranges");
        for port in base..=base + (len - 1) {
            assert!(
                self.ports[usize::from(port)] == 0,
                "port {port:#x} is mapped twice"
            );
            self.ports[usize::from(port)] = index;
        }
    }

    /// Declares `len` ports of `region` of `device` that a device will place with [`DeviceCtx::move_ports`].
    /// What [`map_ports`](Self::map_ports) has mapped lies over them, and an earlier window over a later one.
    pub fn add_port_window(
        &mut self,
        device: DeviceId,
        region: u8,
        len: u16,
        width: u8,
    ) -> PortWindow {
        self.port_window_ranges.push(Range {
            device,
            region,
            base: 0,
            len: len.into(),
            width,
        });
        self.windows.add_ports()
    }

    /// Maps `len` bytes of physical addresses from `base` on (whole pages) to `region` of `device`.
    pub fn map_mmio(&mut self, device: DeviceId, region: u8, base: PhysAddr, len: u64) {
        let place = self.mmio.partition_point(|range| range.base < base.0);
        self.mmio.insert(
            place,
            Range {
                device,
                region,
                base: base.0,
                len,
                width: 8,
            },
        );
        let apart = |pair: &[Range]| pair[1].base - pair[0].base >= pair[0].len;
        assert!(
            self.mmio.windows(2).all(apart),
            "physical address {:#x} is mapped twice",
            base.0
        );
    }

    /// Declares `len` bytes of physical addresses of `region` of `device` that a device will place with
    /// [`DeviceCtx::move_memory`]. RAM, ROM and what [`map_mmio`](Self::map_mmio) has mapped lie over them.
    pub fn add_memory_window(&mut self, device: DeviceId, region: u8, len: u64) -> MemoryWindow {
        self.memory_window_ranges.push(Range {
            device,
            region,
            base: 0,
            len,
            width: 8,
        });
        self.windows.add_memory()
    }

    /// Puts `device` at a place of the expansion bus: configuration cycles reach it there, as region
    /// [`CONFIGURATION`](crate::device::CONFIGURATION).
    pub fn plug(&mut self, place: u16, device: DeviceId) {
        let before = self.functions.insert(place, device);
        assert!(before.is_none(), "place {place:#x} is taken");
    }

    /// The devices on the expansion bus, by place.
    pub fn functions(&self) -> impl Iterator<Item = (u16, DeviceId)> {
        self.functions.iter().map(|(&place, &id)| (place, id))
    }

    /// Tells `device` of every change of `line`.
    pub fn connect(&mut self, line: IrqLine, device: DeviceId) {
        self.sinks[usize::from(line.0)].push(device);
    }

    /// Names the device whose `region` answers interrupt acknowledge cycles: a read of one byte is the vector.
    pub fn set_interrupt_controller(&mut self, device: DeviceId, region: u8) {
        self.interrupt_controller = Some((device, region));
    }

    /// Names the device that is told of [`Input::EndOfInterrupt`].
    pub fn set_io_apic(&mut self, device: DeviceId) {
        self.io_apic = Some(device);
    }

    /// Names the device that serves [`Input::DmaRequest`].
    pub fn set_dma_controller(&mut self, device: DeviceId) {
        self.dma_controller = Some(device);
    }

    /// Reads `size` (1, 2, 4) bytes from a port. Nobody there reads as ones.
    pub fn pio_read(&mut self, port: u16, size: u8) -> u32 {
        let mut value = 0u64;
        let mut done = 0;
        let mut unclaimed = false;
        while done < size {
            let at = port.wrapping_add(done.into());
            let (part, part_size) = match self.port_range(at) {
                Some(range) => {
                    let part_size = split(&range, u64::from(at), size - done);
                    let offset = u64::from(at) - range.base;
                    self.cost_ns += u64::from(self.costs[usize::from(range.device.0 & 63)][0]);
                    let part = self.call(range.device, |device, ctx| {
                        device.read(ctx, range.region, offset, part_size)
                    });
                    (part.unwrap_or(!0), part_size)
                }
                None => {
                    unclaimed = true;
                    (0xFF, 1)
                }
            };
            value |= (part & mask(part_size)) << (done * 8);
            done += part_size;
        }
        if unclaimed {
            self.cost_ns += u64::from(self.unclaimed_costs[0]);
        }
        value as u32
    }

    /// Writes `size` (1, 2, 4) bytes to a port. Nobody there ignores it.
    pub fn pio_write(&mut self, port: u16, size: u8, value: u32) {
        let mut done = 0;
        let mut unclaimed = false;
        while done < size {
            let at = port.wrapping_add(done.into());
            let rest = u64::from(value) >> (done * 8);
            done += match self.port_range(at) {
                Some(range) => {
                    let part_size = split(&range, u64::from(at), size - done);
                    let offset = u64::from(at) - range.base;
                    self.cost_ns += u64::from(self.costs[usize::from(range.device.0 & 63)][0]);
                    self.call(range.device, |device, ctx| {
                        device.write(ctx, range.region, offset, part_size, rest & mask(part_size));
                    });
                    part_size
                }
                None => {
                    unclaimed = true;
                    1
                }
            };
        }
        if unclaimed {
            self.cost_ns += u64::from(self.unclaimed_costs[0]);
        }
    }

    /// Reads `size` (1, 2, 4, 8) bytes of physical memory that is not RAM or ROM.
    pub fn mmio_read(&mut self, addr: PhysAddr, size: u8) -> u64 {
        let Some(range) = self.mmio_range(addr) else {
            self.cost_ns += u64::from(self.unclaimed_costs[1]);
            return mask(size);
        };
        self.cost_ns += u64::from(self.costs[usize::from(range.device.0 & 63)][1]);
        if addr.0 + u64::from(size) > range.base + range.len {
            return mask(size);
        }
        let read = self.call(range.device, |device, ctx| {
            device.read(ctx, range.region, addr.0 - range.base, size)
        });
        read.unwrap_or(!0) & mask(size)
    }

    /// Writes `size` (1, 2, 4, 8) bytes of physical memory that is not RAM or ROM.
    pub fn mmio_write(&mut self, addr: PhysAddr, size: u8, value: u64) {
        let Some(range) = self.mmio_range(addr) else {
            self.cost_ns += u64::from(self.unclaimed_costs[1]);
            return;
        };
        self.cost_ns += u64::from(self.costs[usize::from(range.device.0 & 63)][1]);
        if addr.0 + u64::from(size) <= range.base + range.len {
            let offset = addr.0 - range.base;
            self.call(range.device, |device, ctx| {
                device.write(ctx, range.region, offset, size, value & mask(size))
            });
        }
    }

    /// Whether the interrupt controller asserts the processor's INTR pin.
    #[inline]
    pub fn intr(&self) -> bool {
        self.lines.level(IrqLine::INTR)
    }

    /// Whether something happened, since this was last asked, that the processor must look at before it goes on: a wire
    /// changed, a timer fires earlier than any other, a message to it was sent, a request made, or decoded code was
    /// written over. Most accesses to devices do nothing of the kind.
    #[inline]
    pub fn take_activity(&mut self) -> bool {
        std::mem::take(&mut self.activity)
    }

    /// Virtual time in nanoseconds that accesses took since this was last asked. A processor lets it pass.
    #[inline]
    pub fn take_cost_ns(&mut self) -> u64 {
        std::mem::take(&mut self.cost_ns)
    }

    /// From now on accesses take fixed virtual time: [`ISA_NS`] at ISA devices and where nobody
    /// answers, [`PCI_NS`] at those for which [`set_cost`](Self::set_cost) says so. A wait that
    /// polls a device then takes about as many polls as elsewhere.
    pub fn charge_accesses(&mut self) {
        for id in 0..self.devices.len() {
            self.costs[id] = match self.costs_of.get(&DeviceId(id as u8)) {
                Some(&costs) => costs,
                None => [ISA_NS; 2],
            };
        }
        self.unclaimed_costs = [ISA_NS, PCI_NS];
    }

    /// Says what nanoseconds of virtual time an access to the ports and to the memory of `device`
    /// takes, where accesses take any.
    pub fn set_cost(&mut self, device: DeviceId, ports_ns: u16, memory_ns: u16) {
        self.costs_of.insert(device, [ports_ns, memory_ns]);
    }

    /// An interrupt acknowledge cycle: the vector to serve.
    pub fn acknowledge_interrupt(&mut self) -> u8 {
        let Some((controller, region)) = self.interrupt_controller else {
            return 0xFF;
        };
        self.call(controller, |device, ctx| device.read(ctx, region, 0, 1))
            .unwrap_or(0xFF) as u8
    }

    /// A processor has served a level-triggered interrupt: the I/O APIC looks at its input again.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        if let Some(io_apic) = self.io_apic {
            self.input(io_apic, &Input::EndOfInterrupt { vector });
        }
    }

    /// Fires every timer that is due.
    pub fn run_due_events(&mut self) {
        let now_ns = self.clock.now_ns();
        while let Some((device, timer)) = self.events.pop_due(now_ns) {
            self.call(device, |device, ctx| device.on_timer(ctx, timer));
        }
    }

    /// Drives a wire on behalf of the processor, which is no device and has the last number.
    pub fn drive(&mut self, line: IrqLine, level: bool) {
        self.activity |= self.lines.set(DeviceId::PROCESSOR, line, level);
        self.settle();
    }

    /// Hands `input` to `device`.
    pub fn input(&mut self, device: DeviceId, input: &Input) {
        self.call(device, |device, ctx| device.on_input(ctx, input));
    }

    /// Changes what is in drive `unit` of `device`: see [`Device::change_medium`].
    ///
    /// # Errors
    /// There is no such drive.
    pub fn change_medium(
        &mut self,
        device: DeviceId,
        unit: usize,
        medium: Option<Box<dyn BlockBackend>>,
    ) -> Result<(), NoSuchDrive> {
        self.call(device, |device, ctx| {
            device.change_medium(ctx, unit, medium)
        })
        .unwrap_or(Err(NoSuchDrive))
    }

    /// Whether the guest is ready for an input of this kind: see [`Device::takes_input`].
    pub fn takes_input(&self, device: DeviceId, input: &Input) -> bool {
        let device = self.devices.get(usize::from(device.0));
        device.is_none_or(|device| {
            device
                .as_ref()
                .is_none_or(|device| device.takes_input(input))
        })
    }

    /// Pulls the reset wire of every device.
    pub fn reset(&mut self) {
        self.messages.clear();
        for index in 0..self.devices.len() {
            self.call(DeviceId(index as u8), |device, ctx| device.reset(ctx));
        }
    }

    /// The devices with their numbers, for saving, restoring and listing.
    pub fn devices(&mut self) -> impl Iterator<Item = (DeviceId, &mut Box<dyn Device>)> {
        let numbered = (0u8..).map(DeviceId).zip(&mut self.devices);
        numbered.filter_map(|(id, device)| Some((id, device.as_mut()?)))
    }

    /// What the bus itself has to save.
    pub fn state(&self) -> BusState {
        let holders = |bits: u64| {
            let held = (0..64).filter(|n| bits >> n & 1 != 0);
            held.map(|n| self.name_of(DeviceId(n)).to_owned()).collect()
        };
        let high = self.wire_names.iter().zip(&self.lines.holders);
        let timers = self.events.armed().into_iter();
        let named = |range: &Range| (self.name_of(range.device).to_owned(), range.region);
        let ports = (0u8..).map(PortWindow).zip(&self.port_window_ranges);
        let memory = (0u8..).map(MemoryWindow).zip(&self.memory_window_ranges);
        BusState {
            clock: self.clock.clone(),
            wires: high
                .filter(|&(_, &bits)| bits != 0)
                .map(|(name, &bits)| (name.clone(), holders(bits)))
                .collect(),
            timers: timers
                .map(|(id, timer, at_ns)| (self.name_of(id).to_owned(), timer, at_ns))
                .collect(),
            messages: self.messages.clone(),
            port_windows: ports
                .map(|(window, range)| {
                    let (device, region) = named(range);
                    (device, region, self.windows.port_base(window))
                })
                .collect(),
            memory_windows: memory
                .map(|(window, range)| {
                    let (device, region) = named(range);
                    (device, region, self.windows.memory_base(window))
                })
                .collect(),
            memory_map: self.memory.map(),
        }
    }

    /// Takes over what [`state`](Self::state) gave. Tells no device of it.
    ///
    /// # Errors
    /// It names what this board has not, or is of another number of processors; nothing is changed then.
    pub fn set_state(&mut self, state: BusState) -> Result<(), StateError> {
        let device = |name: &str| match name {
            "cpu" => Ok(DeviceId::PROCESSOR),
            name => {
                let id = self.device_named(name);
                id.ok_or(StateError::Unsound("a device that this board lacks"))
            }
        };
        if !state.clock.is_sound() {
            return Err(StateError::Unsound("a clock that stands still"));
        }
        if state.messages.processors() != self.messages.processors() {
            return Err(StateError::Unsound("another number of processors"));
        }
        let mut lines = IrqLines::default();
        for (wire, holders) in &state.wires {
            let known = self.wire_names.iter().position(|name| name == wire);
            let known = known.ok_or(StateError::Unsound("a wire that this board lacks"))?;
            for holder in holders {
                lines.holders[known] |= 1 << (device(holder)?.0 & 63);
            }
        }
        let mut timers = Vec::new();
        for (name, timer, at_ns) in &state.timers {
            timers.push((device(name)?, *timer, *at_ns));
        }
        let place = |ranges: &[Range], name: &str, region: u8| {
            let id = device(name)?;
            let known = ranges
                .iter()
                .position(|range| (range.device, range.region) == (id, region));
            let place = known.ok_or(StateError::Unsound("a window that this board lacks"))?;
            Ok::<_, StateError>(place as u8)
        };
        let mut windows = self.windows.clone();
        for (name, region, base) in &state.port_windows {
            let window = place(&self.port_window_ranges, name, *region)?;
            windows.set_ports(PortWindow(window), *base);
        }
        for (name, region, base) in &state.memory_windows {
            let window = place(&self.memory_window_ranges, name, *region)?;
            windows.set_memory(MemoryWindow(window), *base);
        }
        self.memory.set_map(&state.memory_map)?;
        self.clock = state.clock;
        self.lines = lines;
        self.events = EventQueue::with_armed(timers);
        self.messages = state.messages;
        self.windows = windows;
        self.outputs.clear();
        self.request = None;
        self.frame = None;
        self.mail.clear();
        self.activity = true;
        Ok(())
    }

    fn port_range(&self, port: u16) -> Option<Range> {
        match self.ports[usize::from(port)] {
            0 => self.window_range(port.into()),
            index => Some(self.port_ranges[usize::from(index) - 1]),
        }
    }

    fn window_range(&self, port: u64) -> Option<Range> {
        let mut windows = (0u8..).map(PortWindow).zip(&self.port_window_ranges);
        windows.find_map(|(window, range)| {
            let base = u64::from(self.windows.port_base(window)?);
            (base..base + range.len)
                .contains(&port)
                .then_some(Range { base, ..*range })
        })
    }

    #[inline]
    fn mmio_range(&self, addr: PhysAddr) -> Option<Range> {
        let holds = |range: &&Range| addr.0.wrapping_sub(range.base) < range.len;
        let fixed = self.mmio.iter().find(holds).copied();
        fixed.or_else(|| self.memory_window_range(addr))
    }

    fn memory_window_range(&self, addr: PhysAddr) -> Option<Range> {
        let mut windows = (0u8..).map(MemoryWindow).zip(&self.memory_window_ranges);
        windows.find_map(|(window, range)| {
            let base = self.windows.memory_base(window)?;
            (addr.0.wrapping_sub(base) < range.len).then_some(Range { base, ..*range })
        })
    }

    /// Calls a device and then settles: delivers wires and mail until nothing changes any more.
    #[inline]
    pub(crate) fn call<R>(
        &mut self,
        id: DeviceId,
        f: impl FnOnce(&mut dyn Device, &mut DeviceCtx<'_>) -> R,
    ) -> Option<R> {
        let result = self.call_one(id, f);
        if !self.lines.changes.is_empty() || !self.mail.is_empty() {
            self.settle();
        }
        result
    }

    #[cold]
    fn settle(&mut self) {
        loop {
            while let Some((line, level)) = self.lines.changes.pop_front() {
                for index in 0..self.sinks[usize::from(line.0)].len() {
                    let sink = self.sinks[usize::from(line.0)][index];
                    self.call_one(sink, |device, ctx| {
                        device.on_input(ctx, &Input::Line { line, level })
                    });
                }
            }
            if self.mail.is_empty() {
                return;
            }
            let (to, input) = self.mail.remove(0);
            self.call_one(to, |device, ctx| device.on_input(ctx, &input));
        }
    }

    #[inline]
    fn call_one<R>(
        &mut self,
        id: DeviceId,
        f: impl FnOnce(&mut dyn Device, &mut DeviceCtx<'_>) -> R,
    ) -> Option<R> {
        let mut device = self.devices.get_mut(usize::from(id.0))?.take()?;
        let mut ctx = DeviceCtx {
            id,
            clock: &self.clock,
            activity: &mut self.activity,
            events: &mut self.events,
            lines: &mut self.lines,
            messages: &mut self.messages,
            memory: &mut self.memory,
            windows: &mut self.windows,
            mail: &mut self.mail,
            outputs: &mut self.outputs,
            request: &mut self.request,
            frame: &mut self.frame,
            dma_controller: self.dma_controller,
            devices: &mut self.devices,
            functions: &self.functions,
        };
        let result = f(device.as_mut(), &mut ctx);
        self.devices[usize::from(id.0)] = Some(device);
        Some(result)
    }
}

/// How many of the `want` bytes at `at` one access to `range` may take: a power of two, aligned to itself.
fn split(range: &Range, at: u64, want: u8) -> u8 {
    let room = (range.base + range.len - at).min(u64::from(want)) as u8;
    let mut size = range.width.min(4);
    while size > room {
        size /= 2;
    }
    size.max(1)
}

fn mask(size: u8) -> u64 {
    if size >= 8 { !0 } else { (1 << (size * 8)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{SavedState, StateError, StateView};

    /// A write to this region is where the window goes, 0 for nowhere.
    const MOVE: u8 = 1;

    struct Latch {
        bytes: [u8; 4],
        heard: Vec<bool>,
    }

    impl Device for Latch {
        fn name(&self) -> &'static str {
            "latch"
        }
        fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8) -> u64 {
            (0..u64::from(size))
                .map(|i| u64::from(self.bytes[(offset + i) as usize % 4]) << (8 * i))
                .sum()
        }
        fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _: u8, value: u64) {
            if region == MOVE {
                let base = u16::try_from(value).ok().filter(|&base| base != 0);
                ctx.move_ports(PortWindow(0), base);
                return;
            }
            self.bytes[offset as usize % 4] = value as u8;
            ctx.set_line(IrqLine::isa(3), value & 1 != 0);
        }
        fn on_input(&mut self, _: &mut DeviceCtx<'_>, input: &Input) {
            if let Input::Line { level, .. } = input {
                self.heard.push(*level);
            }
        }
        fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
        fn state(&self) -> StateView<'_> {
            StateView::of(1, (self.bytes, &self.heard))
        }
        fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
            (self.bytes, self.heard) = state.decode(1)?;
            Ok(())
        }
    }

    fn bus() -> Bus {
        let mut bus = Bus::new(GuestMemory::new(1 << 20).unwrap(), Clock::new(1, 1));
        let latch = bus.add(Box::new(Latch {
            bytes: [1, 2, 3, 4],
            heard: Vec::new(),
        }));
        bus.map_ports(latch, 0, 0x10, 4, 1);
        bus.map_ports(latch, MOVE, 0x20, 4, 4);
        bus.add_port_window(latch, 0, 4, 2);
        bus.connect(IrqLine::isa(3), latch);
        bus
    }

    #[test]
    fn a_wide_access_is_split_and_open_ports_read_ones() {
        let mut bus = bus();
        assert_eq!(bus.pio_read(0x10, 4), 0x0403_0201);
        assert_eq!(bus.pio_read(0x12, 4), 0xFFFF_0403);
        assert_eq!(bus.pio_read(0xFFFF, 2), 0x01FF | 0xFF00);
    }

    #[test]
    fn a_window_is_where_the_device_has_moved_it_and_below_fixed_ports() {
        let mut bus = bus();
        assert_eq!(bus.pio_read(0x100, 4), 0xFFFF_FFFF, "nowhere at first");
        bus.pio_write(0x20, 4, 0x100);
        assert_eq!(bus.pio_read(0x100, 4), 0x0403_0201);
        assert_eq!(bus.pio_read(0xFE, 4), 0x0201_FFFF);
        bus.pio_write(0x20, 4, 0xFFFE);
        assert_eq!(bus.pio_read(0x100, 4), 0xFFFF_FFFF);
        assert_eq!(bus.pio_read(0xFFFE, 2), 0x0201);
        bus.pio_write(0x20, 4, 0x12);
        assert_eq!(bus.pio_read(0x12, 1), 0x03, "the fixed port");
        assert_eq!(bus.pio_read(0x14, 1), 0x03, "the window's third");
        bus.pio_write(0x20, 4, 0);
        assert_eq!(bus.pio_read(0x14, 1), 0xFF);
    }

    #[test]
    fn an_access_without_effect_is_no_activity() {
        let mut bus = bus();
        bus.pio_read(0x10, 4);
        bus.pio_write(0x10, 1, 2);
        assert!(!bus.take_activity(), "the wire is low already");
        bus.pio_write(0x10, 1, 1);
        assert!(bus.take_activity());
        assert!(!bus.take_activity(), "taken");
        bus.pio_write(0x10, 1, 3);
        assert!(!bus.take_activity(), "the wire is high already");
        bus.pio_write(0x10, 1, 0);
        assert!(bus.take_activity());
    }

    #[test]
    fn what_a_device_asks_for_is_activity() {
        let mut bus = bus();
        let mut does = |act: fn(&mut DeviceCtx<'_>)| {
            bus.call(DeviceId(0), |_, ctx| act(ctx));
            bus.take_activity()
        };
        assert!(does(|ctx| ctx.schedule(0, 100)));
        assert!(
            !does(|ctx| ctx.schedule(1, 200)),
            "an earlier one is awaited"
        );
        assert!(does(|ctx| ctx.schedule(1, 50)));
        assert!(!does(|ctx| ctx.cancel(1)));
        assert!(does(|ctx| ctx.request(MachineRequest::Reset)));
        assert!(!does(|ctx| ctx.dma_write(PhysAddr(0x1000), &[1])));
        assert!(!does(|ctx| ctx.output_byte(1)));
        bus.memory.set_code_mask(PhysAddr(0x1000), 1);
        bus.call(DeviceId(0), |_, ctx| ctx.dma_write(PhysAddr(0x1000), &[1]));
        assert!(bus.take_activity());
    }

    #[test]
    #[should_panic(expected = "mapped twice")]
    fn devices_do_not_overlap() {
        let mut bus = bus();
        bus.map_mmio(DeviceId(0), 0, PhysAddr(0xA_0000), 0x2_0000);
        bus.map_mmio(DeviceId(0), 0, PhysAddr(0xB_F000), 0x1000);
    }

    #[test]
    fn a_wire_is_heard_after_the_call_that_changed_it() {
        let mut bus = bus();
        bus.pio_write(0x10, 1, 1);
        bus.pio_write(0x10, 1, 1);
        bus.pio_write(0x10, 1, 0);
        let (_, latch) = bus.devices().next().unwrap();
        let (_, heard): ([u8; 4], Vec<bool>) = latch.save().decode(1).unwrap();
        assert_eq!(heard, vec![true, false]);
    }
}
