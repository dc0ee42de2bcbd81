//! A PCI device, one object: its configuration space, and its registers behind that.
//!
//! A chip implements [`PciFunction`]; [`PciDevice`] makes of it a device of the bus, which answers
//! configuration cycles, follows its base address registers with windows of the bus, and leads its
//! interrupt to a pin or a message.

use std::ops::{Deref, DerefMut};

use platform::{
    BlockBackend, Bus, CONFIGURATION, Device, DeviceCtx, DeviceId, DeviceRam, Input, IrqLine,
    MemoryWindow, NoSuchDrive, PCI_NS, PhysAddr, PortWindow, SavedState, StateError, StateView,
};

use super::config_space::{BARS, Bar, ConfigSpace, ROM};
use super::host::Bdf;

/// The chip of a PCI function.
///
/// `region` is the number of the base address register (0 to 5) or, from 8 on, what the chip itself
/// mapped on the bus; otherwise the methods are those of [`Device`].
pub trait PciFunction: Send {
    /// The chip's name, also its log target.
    fn name(&self) -> &'static str;

    /// Reads `size` bytes at `offset`.
    fn read(&mut self, _ctx: &mut PciCtx<'_, '_>, _region: u8, _offset: u64, _size: u8) -> u64 {
        !0
    }

    /// Writes `size` bytes at `offset`.
    fn write(
        &mut self,
        _ctx: &mut PciCtx<'_, '_>,
        _region: u8,
        _offset: u64,
        _size: u8,
        _value: u64,
    ) {
    }

    /// A timer that this function scheduled is due.
    fn on_timer(&mut self, _ctx: &mut PciCtx<'_, '_>, _timer: u32) {}

    /// Something arrived.
    fn on_input(&mut self, _ctx: &mut PciCtx<'_, '_>, _input: &Input) {}

    /// Whether the guest has taken what came from outside before: see [`Device::takes_input`].
    fn takes_input(&self, _input: &Input) -> bool {
        true
    }

    /// Whether the guest has switched it on for inputs of this kind: see [`Device::listens`].
    fn listens(&self, _input: &Input) -> bool {
        false
    }

    /// Configuration registers from `offset` on are about to be read: put into `ctx.config` what they show, where that
    /// is not known before.
    fn before_config_read(&mut self, _ctx: &mut PciCtx<'_, '_>, _offset: u8, _size: u8) {}

    /// Software wrote configuration registers from `offset` on, to which a write is a command.
    /// [`on_config`](Self::on_config) was called before.
    fn after_config_write(&mut self, _ctx: &mut PciCtx<'_, '_>, _offset: u8, _size: u8) {}

    /// Configuration registers were written, or reset: act on those that mean something to the
    /// chip. Base address registers and interrupts are looked after.
    fn on_config(&mut self, _ctx: &mut PciCtx<'_, '_>) {}

    /// Somebody puts a medium into drive `unit`, or takes it out: see [`Device::change_medium`].
    ///
    /// # Errors
    /// There is no such drive; nothing has happened.
    fn change_medium(
        &mut self,
        _ctx: &mut PciCtx<'_, '_>,
        _unit: usize,
        _medium: Option<Box<dyn BlockBackend>>,
    ) -> Result<(), NoSuchDrive> {
        Err(NoSuchDrive)
    }

    /// The reset wire. The configuration space was reset before.
    fn reset(&mut self, ctx: &mut PciCtx<'_, '_>);

    /// The chip's state, without the configuration space.
    fn state(&self) -> StateView<'_>;

    /// Takes over a saved state.
    ///
    /// # Errors
    /// The state is of another version or damaged; the chip is then as before.
    fn restore(&mut self, state: &SavedState) -> Result<(), StateError>;
}

/// What a function may touch while it is called: all that a device may, and its configuration
/// space.
pub struct PciCtx<'a, 'b> {
    ctx: &'a mut DeviceCtx<'b>,
    /// The function's configuration space.
    pub config: &'a mut ConfigSpace,
    interrupt: &'a mut bool,
    pin: Option<IrqLine>,
}

impl<'b> Deref for PciCtx<'_, 'b> {
    type Target = DeviceCtx<'b>;

    fn deref(&self) -> &Self::Target {
        self.ctx
    }
}

impl DerefMut for PciCtx<'_, '_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.ctx
    }
}

impl PciCtx<'_, '_> {
    /// Sets the level of the function's interrupt. It shows at the pin, or its rise sends the
    /// message, as software chose.
    pub fn set_interrupt(&mut self, level: bool) {
        let before = std::mem::replace(self.interrupt, level);
        if level
            && !before
            && self.config.may_master()
            && let Some(message) = self.config.message()
        {
            self.ctx.interrupt_message(message);
        }
        self.drive_pin();
    }

    /// Signals what MSI-X vector `vector` stands for: by its message, at once or when software lets it. Where MSI-X is
    /// off, the function's interrupt rises instead, and falls by [`set_interrupt`](Self::set_interrupt).
    pub fn signal(&mut self, vector: u16) {
        if self.config.msix_is_on() {
            self.config.pend(vector);
            self.send_messages();
        } else {
            self.set_interrupt(true);
        }
    }

    /// Sends the messages of MSI-X that nothing holds back; a vector has one at most.
    fn send_messages(&mut self) {
        while let Some(message) = self.config.take_message() {
            self.ctx.interrupt_message(message);
        }
    }

    fn drive_pin(&mut self) {
        let level = self.config.show_interrupt(*self.interrupt);
        if let Some(pin) = self.pin {
            self.ctx.set_line(pin, level);
        }
    }

    /// Arms this function's timer `timer` for `deadline_ns`, in place of an earlier deadline.
    pub fn schedule(&mut self, timer: u32, deadline_ns: u64) {
        self.ctx.schedule(timer, deadline_ns);
    }

    /// Reads guest memory as a bus master. A function that may not master the bus reads ones.
    pub fn dma_read(&self, addr: PhysAddr, buf: &mut [u8]) {
        if self.config.may_master() {
            self.ctx.dma_read(addr, buf);
        } else {
            buf.fill(0xFF);
        }
    }

    /// Writes guest memory as a bus master. Of a function that may not master the bus nothing is
    /// written.
    pub fn dma_write(&mut self, addr: PhysAddr, buf: &[u8]) {
        if self.config.may_master() {
            self.ctx.dma_write(addr, buf);
        }
    }
}

/// What follows a base address register.
#[derive(Clone, Copy, Debug)]
enum Window {
    Ports(PortWindow),
    Memory(MemoryWindow),
    Ram(DeviceRam),
}

/// A function with its configuration space, as a device of the bus.
pub struct PciDevice<F> {
    config: ConfigSpace,
    function: F,
    windows: [Option<Window>; BARS + 1],
    pin: Option<IrqLine>,
    rom: Vec<u8>,
    /// The level of the function's interrupt.
    interrupt: bool,
}

impl<F: PciFunction + 'static> PciDevice<F> {
    /// A device that is nowhere yet.
    pub fn new(config: ConfigSpace, function: F) -> Self {
        Self {
            config,
            function,
            windows: [None; BARS + 1],
            pin: None,
            rom: Vec::new(),
            interrupt: false,
        }
    }

    /// Gives it an expansion ROM with this in it; nothing is no ROM. Behind its end are ones.
    pub fn with_rom(mut self, rom: Vec<u8>) -> Self {
        if !rom.is_empty() {
            let len = (rom.len() as u32).next_power_of_two().max(0x1000);
            self.config = self.config.rom(len);
        }
        self.rom = rom;
        self
    }

    /// The wire of its interrupt pin.
    pub fn with_pin(mut self, pin: IrqLine) -> Self {
        self.pin = Some(pin);
        self
    }

    /// Base address register `number` places `ram`, which the processors reach without a call of
    /// the device.
    pub fn with_ram(mut self, number: u8, ram: DeviceRam) -> Self {
        self.windows[usize::from(number)] = Some(Window::Ram(ram));
        self
    }

    /// Base address register `number` places `window`, which may be another device's: a chip that
    /// is on the bus by itself as well.
    pub fn with_window(mut self, number: u8, window: MemoryWindow) -> Self {
        self.windows[usize::from(number)] = Some(Window::Memory(window));
        self
    }

    /// Puts the device on the bus under an instance name, at `bdf`.
    pub fn plug(mut self, bus: &mut Bus, name: &str, bdf: Bdf) -> DeviceId {
        // Devices get their numbers in order, and windows name their device.
        let id = bus.next_device();
        let mut windows = self.windows;
        for (number, bar) in (0u8..).zip(self.config.bars()) {
            let window = &mut windows[usize::from(number)];
            *window = match (bar, *window) {
                (None, _) => None,
                (Some(_), Some(known)) => Some(known),
                (Some(Bar::Ports(len)), None) => {
                    Some(Window::Ports(bus.add_port_window(id, number, len, 4)))
                }
                (Some(Bar::Memory { len, .. }), None) => {
                    Some(Window::Memory(bus.add_memory_window(id, number, len)))
                }
            };
        }
        if self.config.rom_len() != 0 {
            let len = self.config.rom_len().into();
            windows[usize::from(ROM)] = Some(Window::Memory(bus.add_memory_window(id, ROM, len)));
        }
        self.windows = windows;
        let added = bus.add_named(name, Box::new(self));
        assert_eq!(id, added, "a device's windows name it");
        bus.plug(bdf.place(), id);
        bus.set_cost(id, PCI_NS, PCI_NS);
        id
    }

    fn with<R>(
        &mut self,
        ctx: &mut DeviceCtx<'_>,
        act: impl FnOnce(&mut F, &mut PciCtx<'_, '_>) -> R,
    ) -> R {
        let mut pci = PciCtx {
            ctx,
            config: &mut self.config,
            interrupt: &mut self.interrupt,
            pin: self.pin,
        };
        act(&mut self.function, &mut pci)
    }

    /// Moves what the base address registers place, and lets the chip act on the others.
    fn follow_config(&mut self, ctx: &mut DeviceCtx<'_>) {
        for (number, window) in (0u8..).zip(self.windows) {
            let base = self.config.base(number);
            match window {
                Some(Window::Ports(window)) => ctx.move_ports(window, base.map(|base| base as u16)),
                Some(Window::Memory(window)) => ctx.move_memory(window, base),
                Some(Window::Ram(ram)) => ctx.move_ram(ram, base),
                None => {}
            }
        }
        self.with(ctx, |function, pci| {
            pci.drive_pin();
            pci.send_messages();
            function.on_config(pci);
        });
    }
}

impl<F: PciFunction + 'static> Device for PciDevice<F> {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8) -> u64 {
        if region == CONFIGURATION {
            let register = offset as u8;
            self.with(ctx, |function, pci| {
                function.before_config_read(pci, register, size)
            });
            return self.config.read(register, size);
        }
        if region == ROM {
            return (0..u64::from(size.min(8))).fold(0, |value, n| {
                let at = usize::try_from(offset.wrapping_add(n)).ok();
                let byte = at.and_then(|at| self.rom.get(at)).copied();
                value | u64::from(byte.unwrap_or(0xFF)) << (8 * n)
            });
        }
        if let Some(msix) = self.config.msix_at(region, offset) {
            return (0..u64::from(size.min(8))).fold(0, |value, n| {
                value | u64::from(msix.read(offset.wrapping_add(n))) << (8 * n)
            });
        }
        self.with(ctx, |function, pci| {
            function.read(pci, region, offset, size)
        })
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64) {
        if region == CONFIGURATION {
            for n in 0..size.min(4) {
                let register = (offset as u8).wrapping_add(n);
                self.config.write(register, (value >> (8 * n)) as u8);
            }
            self.follow_config(ctx);
            self.with(ctx, |function, pci| {
                function.after_config_write(pci, offset as u8, size)
            });
            return;
        }
        if region == ROM {
            return;
        }
        if let Some(msix) = self.config.msix_at(region, offset) {
            for n in 0..u64::from(size.min(8)) {
                msix.write(offset.wrapping_add(n), (value >> (8 * n)) as u8);
            }
            self.with(ctx, |_, pci| pci.send_messages());
            return;
        }
        self.with(ctx, |function, pci| {
            function.write(pci, region, offset, size, value)
        });
    }

    fn on_timer(&mut self, ctx: &mut DeviceCtx<'_>, timer: u32) {
        self.with(ctx, |function, pci| function.on_timer(pci, timer));
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        self.with(ctx, |function, pci| function.on_input(pci, input));
    }

    fn takes_input(&self, input: &Input) -> bool {
        self.function.takes_input(input)
    }

    fn listens(&self, input: &Input) -> bool {
        self.function.listens(input)
    }

    fn change_medium(
        &mut self,
        ctx: &mut DeviceCtx<'_>,
        unit: usize,
        medium: Option<Box<dyn BlockBackend>>,
    ) -> Result<(), NoSuchDrive> {
        self.with(ctx, |function, pci| {
            function.change_medium(pci, unit, medium)
        })
    }

    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.config.reset();
        self.interrupt = false;
        self.with(ctx, |function, pci| function.reset(pci));
        self.follow_config(ctx);
    }

    fn state(&self) -> StateView<'_> {
        let head = (self.config.save(), self.interrupt);
        StateView::of(VERSION, (head, self.function.state()))
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let ((bytes, interrupt), part) = state.decode_with_part::<(Vec<u8>, bool)>(VERSION)?;
        let mut config = self.config.clone();
        if !config.restore(&bytes) {
            return Err(StateError::Unsound(
                "the configuration space of another device",
            ));
        }
        self.function.restore(&part)?;
        self.config = config;
        self.interrupt = interrupt;
        Ok(())
    }
}

/// Version of what stands before the chip's own state.
const VERSION: u32 = 1;

/// A function that is nothing but its registers.
pub struct Registers(pub &'static str);

impl PciFunction for Registers {
    fn name(&self) -> &'static str {
        self.0
    }

    fn reset(&mut self, _: &mut PciCtx<'_, '_>) {}

    fn state(&self) -> StateView<'_> {
        StateView::of(1, ())
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        state.decode(1)
    }
}
