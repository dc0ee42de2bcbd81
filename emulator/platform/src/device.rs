//! The contract of a device.

use std::collections::BTreeMap;

use crate::block::BlockBackend;
use crate::bus::{DeviceId, MachineRequest, Output, Said};
use crate::clock::Clock;
use crate::event::EventQueue;
use crate::frame::Frame;
use crate::input::Input;
use crate::line::{IrqLine, IrqLines};
use crate::memory::{DeviceRam, GuestMemory, PhysAddr, Shadow, Smram};
use crate::message::{InterruptMessage, MessageQueue};
use crate::state::{SavedState, StateError, StateView};
use crate::window::{MemoryWindow, PortWindow, Windows};

/// The region of configuration cycles, whose offset is the register: see
/// [`Bus::plug`](crate::Bus::plug).
pub const CONFIGURATION: u8 = 0xFF;

/// A chip: a register file that the bus reads and writes.
///
/// `region` is the number under which the board mapped the range (a chip with several ranges tells
/// them apart by it), `offset` counts from the range's start, and `size` is 1, 2, 4 or 8 bytes and
/// never more than the range's declared width. No value of any of them may panic.
pub trait Device: Send {
    /// The chip's name, also its log target.
    fn name(&self) -> &'static str;

    /// Reads `size` bytes at `offset`; the bits above `size` are ignored.
    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8) -> u64;

    /// Writes `size` bytes at `offset`; the bits of `value` above `size` are zero.
    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64);

    /// A timer that this device scheduled is due.
    fn on_timer(&mut self, _ctx: &mut DeviceCtx<'_>, _timer: u32) {}

    /// Something arrived: a wire's level, a key, the mouse, serial bytes, a DMA answer.
    fn on_input(&mut self, _ctx: &mut DeviceCtx<'_>, _input: &Input) {}

    /// Whether the guest has taken all that came from outside of the kind of `input`, which has not
    /// come yet: a key, the mouse's movement or serial bytes. More than that waits in the device,
    /// or is lost.
    fn takes_input(&self, _input: &Input) -> bool {
        true
    }

    /// Somebody puts a medium into drive `unit` in place of what is in there, or takes that out.
    ///
    /// # Errors
    /// The device has no such drive, or none whose medium can be changed; nothing has happened.
    fn change_medium(
        &mut self,
        _ctx: &mut DeviceCtx<'_>,
        _unit: usize,
        _medium: Option<Box<dyn BlockBackend>>,
    ) -> Result<(), NoSuchDrive> {
        Err(NoSuchDrive)
    }

    /// The reset wire. Afterwards the device equals a new one, but for what survives a reset on
    /// hardware.
    fn reset(&mut self, ctx: &mut DeviceCtx<'_>);

    /// The whole state: what is saved, hashed and shown.
    fn state(&self) -> StateView<'_>;

    /// The whole state, written down.
    fn save(&self) -> SavedState {
        self.state().save()
    }

    /// Takes over a saved state. Calls no other device and fires no edge.
    ///
    /// # Errors
    /// The state is of another version or damaged; the device is then as before.
    fn restore(&mut self, state: &SavedState) -> Result<(), StateError>;
}

/// A device has no drive of that number whose medium can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such drive")]
pub struct NoSuchDrive;

/// All that a device may touch while it is called.
pub struct DeviceCtx<'a> {
    pub(crate) id: DeviceId,
    pub(crate) clock: &'a Clock,
    pub(crate) activity: &'a mut bool,
    pub(crate) events: &'a mut EventQueue,
    pub(crate) lines: &'a mut IrqLines,
    pub(crate) messages: &'a mut MessageQueue,
    pub(crate) memory: &'a mut GuestMemory,
    pub(crate) windows: &'a mut Windows,
    pub(crate) mail: &'a mut Vec<(DeviceId, Input)>,
    pub(crate) outputs: &'a mut Vec<Output>,
    pub(crate) request: &'a mut Option<MachineRequest>,
    pub(crate) frame: &'a mut Option<Frame>,
    pub(crate) dma_controller: Option<DeviceId>,
    pub(crate) devices: &'a mut Vec<Option<Box<dyn Device>>>,
    pub(crate) functions: &'a BTreeMap<u16, DeviceId>,
}

impl DeviceCtx<'_> {
    /// The virtual time, in nanoseconds since power-on.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// This device's number; an [`Input::DmaRequest`] carries it as its sender.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Arms this device's timer `timer` for `deadline_ns`, in place of an earlier deadline.
    pub fn schedule(&mut self, timer: u32, deadline_ns: u64) {
        *self.activity |= self.events.schedule(self.id, timer, deadline_ns);
    }

    /// Disarms this device's timer `timer`.
    pub fn cancel(&mut self, timer: u32) {
        self.events.cancel(self.id, timer);
    }

    /// Drives a wire. Those connected to it are told when this call into the device has returned.
    pub fn set_line(&mut self, line: IrqLine, level: bool) {
        *self.activity |= self.lines.set(self.id, line, level);
    }

    /// The level of a wire.
    pub fn line(&self, line: IrqLine) -> bool {
        self.lines.level(line)
    }

    /// Sends an interrupt message to the processors, which look for it before their next
    /// instruction.
    pub fn interrupt_message(&mut self, message: InterruptMessage) {
        self.messages.send(message);
        *self.activity = true;
    }

    /// Moves a range of ports to `base`, or takes it off the bus. The next access meets it there.
    pub fn move_ports(&mut self, window: PortWindow, base: Option<u16>) {
        self.windows.set_ports(window, base);
    }

    /// Moves a range of physical addresses to `base`, or takes it off the bus. The next access
    /// meets it there.
    pub fn move_memory(&mut self, window: MemoryWindow, base: Option<u64>) {
        self.windows.set_memory(window, base);
    }

    /// Moves memory of a device's own to `base` (whole pages), or takes it off the bus. The
    /// processors see that at the next instruction.
    pub fn move_ram(&mut self, ram: DeviceRam, base: Option<u64>) {
        *self.activity |= self.memory.place(ram, base);
    }

    /// The content of a device's own memory. Who writes to it says so by
    /// [`wrote_ram`](Self::wrote_ram).
    pub fn ram(&mut self, ram: DeviceRam) -> &mut [u8] {
        self.memory.device_ram(ram)
    }

    /// Says that the device wrote these bytes of its own memory.
    pub fn wrote_ram(&mut self, ram: DeviceRam, bytes: std::ops::Range<usize>) {
        self.memory.note_device_write(ram, bytes);
        *self.activity |= self.memory.has_code_writes();
    }

    /// Which pages of a device's own memory, counted from its start, were written since this was
    /// last asked; all of them the first time. From then on writes are watched, at no cost to those
    /// that follow the first one of a page.
    pub fn take_dirty(&mut self, ram: DeviceRam) -> Vec<u64> {
        let dirty = self.memory.take_dirty(ram);
        *self.activity |= !dirty.is_empty();
        dirty
    }

    /// Says what lies at the page of `addr`, one of C0000-FFFFF: see [`Shadow`].
    pub fn shadow(&mut self, addr: PhysAddr, shadow: Shadow) {
        *self.activity |= self.memory.shadow(addr, shadow);
    }

    /// Says who finds RAM at A0000-BFFFF: see [`Smram`].
    pub fn set_smram(&mut self, smram: Smram) {
        *self.activity |= self.memory.set_smram(smram);
    }

    /// A configuration cycle that reads at `place` of the expansion bus; `None` if nobody is there.
    pub fn config_read(&mut self, place: u16, register: u64, size: u8) -> Option<u64> {
        self.config_cycle(place, |device, ctx| {
            device.read(ctx, CONFIGURATION, register, size)
        })
    }

    /// A configuration cycle that writes at `place` of the expansion bus.
    pub fn config_write(&mut self, place: u16, register: u64, size: u8, value: u64) {
        self.config_cycle(place, |device, ctx| {
            device.write(ctx, CONFIGURATION, register, size, value)
        });
    }

    /// The one call from device to device: the host bridge passes a cycle on.
    fn config_cycle<R>(
        &mut self,
        place: u16,
        cycle: impl FnOnce(&mut dyn Device, &mut DeviceCtx<'_>) -> R,
    ) -> Option<R> {
        let id = *self.functions.get(&place)?;
        let mut device = self.devices.get_mut(usize::from(id.0))?.take()?;
        let from = std::mem::replace(&mut self.id, id);
        let result = cycle(device.as_mut(), self);
        self.id = from;
        self.devices[usize::from(id.0)] = Some(device);
        Some(result)
    }

    /// Reads guest memory as a bus master; unmapped bytes read as FFh.
    pub fn dma_read(&self, addr: PhysAddr, buf: &mut [u8]) {
        self.memory.read(addr, buf);
    }

    /// Writes guest memory as a bus master; what is not RAM ignores it.
    pub fn dma_write(&mut self, addr: PhysAddr, buf: &[u8]) {
        self.memory.write(addr, buf);
        *self.activity |= self.memory.has_code_writes();
    }

    /// Asks the ISA DMA controller for a transfer; the answer comes as [`Input::DmaDone`].
    pub fn isa_dma(&mut self, request: Input) {
        debug_assert!(matches!(request, Input::DmaRequest { .. }));
        if let Some(controller) = self.dma_controller {
            self.mail.push((controller, request));
        }
    }

    /// Sends `input` to another device, after this call into the device has returned.
    pub fn send(&mut self, to: DeviceId, input: Input) {
        self.mail.push((to, input));
    }

    /// Hands something to the outside.
    pub fn output(&mut self, what: Said) {
        self.outputs.push(Output {
            device: self.id,
            what,
        });
    }

    /// Hands a byte to the outside: a serial port, the debug console.
    pub fn output_byte(&mut self, byte: u8) {
        // A guest that prints says most of it in a row, and an allocation a byte would be its
        // price.
        if let Some(Output {
            device,
            what: Said::Bytes(bytes),
        }) = self.outputs.last_mut()
            && *device == self.id
        {
            bytes.push(byte);
        } else {
            self.output(Said::Bytes(vec![byte]));
        }
    }

    /// Asks the machine for power-off, reset or the end of the run.
    pub fn request(&mut self, request: MachineRequest) {
        // The first request of an instant wins: a guest that powers off cannot be reset as well.
        self.request.get_or_insert(request);
        *self.activity = true;
    }

    /// Shows a frame: the latest one wins.
    pub fn present(&mut self, frame: Frame) {
        *self.frame = Some(frame);
    }
}
