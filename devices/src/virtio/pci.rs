//! A virtio device as a PCI function (virtio §4.1), of the transitional kind.
//!
//! Base address 0: the legacy ports. Base address 1: MSI-X. Base address 4: the structures of version 1, which a
//! capability each points to, at these offsets:
//!
//! | offset | what |
//! |---|---|
//! | 0000 | common configuration |
//! | 1000 | ISR status: a read clears it |
//! | 2000 | the device's own configuration |
//! | 3000 | notification, four bytes a queue |

use log::{debug, warn};
use platform::{Input, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::queue::{Broken, NO_VECTOR, Queue, RING_EVENT_IDX, RING_INDIRECT_DESC};
use crate::pci::{Bar, ConfigSpace, PciCtx, PciDevice, PciFunction};

/// Red Hat's, under which all virtio devices are.
const VENDOR: u16 = 0x1AF4;
/// The first identifier of transitional devices, and what is added to the number of a kind for the others'.
const TRANSITIONAL: u16 = 0x1000;
const MODERN_ID: u16 = 0x1040;

/// The regions.
pub(super) const LEGACY: u8 = 0;
const VECTORS: u8 = 1;
pub(super) const MODERN: u8 = 4;

/// What base address 4 places.
const MODERN_BYTES: u64 = 0x4000;
const COMMON: u64 = 0x0000;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const NOTIFY_STEP: u64 = 4;
const COMMON_BYTES: u32 = 0x38;

/// Capabilities (virtio §4.1.4).
const VENDOR_CAPABILITY: u8 = 0x09;
const CAP_COMMON: u8 = 1;
const CAP_NOTIFY: u8 = 2;
const CAP_ISR: u8 = 3;
const CAP_DEVICE: u8 = 4;
const CAP_ACCESS: u8 = 5;

/// Features of all devices (virtio §6).
pub(super) const VERSION_1: u64 = 1 << 32;
const ANY_LAYOUT: u64 = 1 << 27;

/// Device status (virtio §2.1).
pub(super) const DRIVER_OK: u8 = 0x04;
pub(super) const FEATURES_OK: u8 = 0x08;
pub(super) const NEEDS_RESET: u8 = 0x40;

/// ISR status.
pub(super) const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

/// The one timer: chains are served.
const TIMER_SERVE: u32 = 0;
/// How long after a notification.
const LATENCY_NS: u64 = 5_000;
/// How much is served at once, about: chains, and bytes.
const MOST_CHAINS: u32 = 64;
const MOST_BYTES: u64 = 1 << 20;
/// How many bytes a nanosecond are served beyond that.
const BYTES_A_NS: u64 = 2;

/// What a device is.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Virtio's number for it, which is the subsystem's too.
    pub id: u16,
    /// What is added to 1000h for the transitional device's identifier; none for a device that drivers of the legacy
    /// interface do not know.
    pub transitional: Option<u16>,
    /// PCI class, as in `0x01_00_00`.
    pub class: u32,
    /// The sizes of its queues, powers of two up to 256.
    pub queues: &'static [u16],
}

/// A chain that is served.
pub struct Job<'j, 'a, 'b> {
    /// What the function may touch.
    pub ctx: &'j mut PciCtx<'a, 'b>,
    /// The chain.
    pub chain: &'j Chain,
    /// The number of its queue.
    pub queue: usize,
    /// What the last call for this chain said by [`Served::More`], 0 at first. The driver may have
    /// changed the chain since.
    pub progress: u64,
    /// The features that the driver accepted.
    pub features: u64,
    rings: &'j Queue,
}

impl Job<'_, '_, '_> {
    /// The `nth` chain behind [`chain`](Self::chain), from 1 on, if the driver offers so many.
    ///
    /// # Errors
    /// The chain is none.
    pub fn ahead(&self, nth: u16) -> Result<Option<Chain>, Broken> {
        self.rings.peek_at(self.ctx, self.features, nth)
    }

    /// Whether the driver cannot offer more chains than it does.
    pub fn is_full(&self) -> bool {
        self.rings.offered(self.ctx) >= self.rings.size
    }
}

/// How far a chain is served.
#[derive(Clone, Debug)]
pub enum Served {
    /// To its end; so many bytes of it were written.
    Done(u32),
    /// So far: the device is called again for it, after a while.
    More(u64),
    /// To its end, together with those behind it that it was too short without: the bytes that were written of each.
    Merged(Vec<u32>),
    /// Not at all, as what it was for is gone.
    Unused,
    /// Not at all, until the driver offers more of them.
    TooFew,
}

/// What makes a device of one kind.
pub trait VirtioDevice: Send {
    /// The chip's name, also its log target.
    fn name(&self) -> &'static str;

    /// The features that it offers, of those that are its kind's own.
    fn features(&self) -> u64;

    /// Its configuration structure, with these features accepted.
    fn config(&self, features: u64) -> Vec<u8>;

    /// The driver writes the byte at `offset` of that structure.
    fn write_config(&mut self, _offset: u64, _value: u8) {}

    /// Something arrived. Is not called while the driver is not ready.
    fn on_input(&mut self, _features: u64, _input: &Input) {}

    /// Whether the driver has taken what came from outside before.
    fn takes_input(&self, _input: &Input) -> bool {
        true
    }

    /// Whether inputs of this kind come to this device while its driver is ready.
    fn listens(&self, _input: &Input) -> bool {
        false
    }

    /// Whether there is something to do with the chains of this queue. Those to which nothing has happened yet are
    /// kept where they are.
    fn wants(&self, _queue: usize) -> bool {
        true
    }

    /// Serves one chain, or a piece of it of about a megabyte at most.
    ///
    /// # Errors
    /// The driver did what it must not do.
    fn serve(&mut self, job: Job<'_, '_, '_>) -> Result<Served, Broken>;

    /// A reset, of the device alone or of the whole machine.
    fn reset(&mut self);

    /// The device's own state.
    fn state(&self) -> StateView<'_>;

    /// Takes over a saved state.
    ///
    /// # Errors
    /// The state is of another version or damaged; the device is then as before.
    fn restore(&mut self, state: &SavedState) -> Result<(), StateError>;
}

/// What is saved beside the device's own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) status: u8,
    pub(super) isr: u8,
    pub(super) generation: u8,
    pub(super) offered_select: u32,
    pub(super) accepted_select: u32,
    pub(super) accepted: u64,
    pub(super) config_vector: u16,
    pub(super) queue_select: u16,
    /// The timer is armed.
    pub(super) waits: bool,
    pub(super) queues: Vec<Queue>,
}

impl State {
    fn new(kind: Kind) -> Self {
        Self {
            status: 0,
            isr: 0,
            generation: 0,
            offered_select: 0,
            accepted_select: 0,
            accepted: 0,
            config_vector: NO_VECTOR,
            queue_select: 0,
            waits: false,
            queues: kind.queues.iter().map(|&size| Queue::new(size)).collect(),
        }
    }

    /// The queue that is selected.
    pub(super) fn queue(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(usize::from(self.queue_select))
    }
}

/// A device with the PCI function that it is reached by.
pub struct VirtioPci<D> {
    pub(super) kind: Kind,
    pub(super) device: D,
    pub(super) state: State,
    /// Where the capability is that reaches the structures by configuration cycles.
    access: u8,
}

impl<D: VirtioDevice + 'static> VirtioPci<D> {
    const VERSION: u32 = 1;

    /// The PCI device.
    pub fn device(kind: Kind, device: D) -> PciDevice<Self> {
        let memory = |len, wide| Bar::Memory {
            len,
            wide,
            prefetchable: wide,
        };
        let own_bytes = device.config(!0).len() as u32;
        // The legacy registers, with those of MSI-X.
        let ports = (0x18 + own_bytes as u16).next_power_of_two();
        let structure = |kind: u8, offset: u64, len: u32| {
            let mut body = vec![16, kind, MODERN, 0, 0, 0];
            body.extend((offset as u32).to_le_bytes());
            body.extend(len.to_le_bytes());
            body
        };
        let queues = kind.queues.len() as u32;
        let mut notify = structure(CAP_NOTIFY, NOTIFY, NOTIFY_STEP as u32 * queues);
        notify[0] = 20;
        notify.extend((NOTIFY_STEP as u32).to_le_bytes());
        let mut access = structure(CAP_ACCESS, 0, 0);
        access[..3].copy_from_slice(&[20, CAP_ACCESS, 0]);
        access.extend([0; 4]);
        let mut config = match kind.transitional {
            Some(number) => ConfigSpace::new(VENDOR, TRANSITIONAL + number, kind.class, 0)
                .subsystem(VENDOR, kind.id)
                .bar(LEGACY, Bar::Ports(ports)),
            // Revision 1 and a subsystem beyond those of transitional ones (virtio §4.1.2.1).
            None => ConfigSpace::new(VENDOR, MODERN_ID + kind.id, kind.class, 1)
                .subsystem(VENDOR, MODERN_ID + kind.id),
        };
        config = config
            .bar(VECTORS, memory(0x1000, false))
            .bar(MODERN, memory(MODERN_BYTES, true))
            .bus_master()
            .interrupt_pin(1)
            // One for each queue, and one for the configuration.
            .msix(queues as u16 + 1, VECTORS, 0, 0x800);
        for body in [
            structure(CAP_COMMON, COMMON, COMMON_BYTES),
            structure(CAP_ISR, ISR, 1),
            structure(CAP_DEVICE, DEVICE, own_bytes.max(4)),
            notify,
        ] {
            (config, _) = config.capability(VENDOR_CAPABILITY, &body, &[]);
        }
        let mut writable = [0; 18];
        writable[2] = 0xFF;
        writable[6..].fill(0xFF);
        let (config, access) = config.capability(VENDOR_CAPABILITY, &access, &writable);
        let function = Self {
            kind,
            state: State::new(kind),
            device,
            access,
        };
        PciDevice::new(config, function)
    }

    /// What is offered to drivers of version 1.
    pub(super) fn offered(&self) -> u64 {
        self.device.features() | VERSION_1 | RING_INDIRECT_DESC | RING_EVENT_IDX
    }

    /// What is offered to others.
    pub(super) fn offered_legacy(&self) -> u32 {
        (self.offered() | ANY_LAYOUT) as u32
    }

    // ---- status ----------------------------------------------------------------------------------

    pub(super) fn write_status(&mut self, ctx: &mut PciCtx<'_, '_>, value: u8) {
        if value == 0 {
            return self.start_over(ctx);
        }
        let mut status = value & !NEEDS_RESET | self.state.status & NEEDS_RESET;
        let is_new = status & FEATURES_OK != 0 && self.state.status & FEATURES_OK == 0;
        let is_known = self.state.accepted & !self.offered() == 0;
        if is_new && !(is_known && self.state.accepted & VERSION_1 != 0) {
            status &= !FEATURES_OK;
        }
        self.state.status = status;
        // What waited for DRIVER_OK.
        self.wake(ctx);
    }

    fn start_over(&mut self, ctx: &mut PciCtx<'_, '_>) {
        self.state = State::new(self.kind);
        self.device.reset();
        ctx.cancel(TIMER_SERVE);
        ctx.set_interrupt(false);
    }

    /// The driver did what it must not do (virtio §2.1.2).
    fn give_up(&mut self, ctx: &mut PciCtx<'_, '_>, why: &Broken) {
        warn!(target: self.device.name(), "the driver made {}: it must reset the device", why.0);
        self.state.status |= NEEDS_RESET;
        for queue in &mut self.state.queues {
            queue.notified = false;
        }
        if self.state.status & DRIVER_OK != 0 {
            self.state.isr |= ISR_CONFIG;
            ctx.signal(self.state.config_vector);
        }
    }

    /// A read of ISR status.
    pub(super) fn take_isr(&mut self, ctx: &mut PciCtx<'_, '_>) -> u8 {
        let isr = std::mem::take(&mut self.state.isr);
        ctx.set_interrupt(false);
        isr
    }

    // ---- queues ----------------------------------------------------------------------------------

    pub(super) fn notify(&mut self, ctx: &mut PciCtx<'_, '_>, queue: usize) {
        if let Some(queue) = self.state.queues.get_mut(queue) {
            queue.notified |= queue.enabled;
            self.wake(ctx);
        }
    }

    /// Whether the driver has begun to use its queues.
    fn is_ready(&self) -> bool {
        let state = &self.state;
        let is_modern = state.accepted & VERSION_1 != 0;
        // Legacy drivers use their queues before they say that they are ready.
        (!is_modern || state.status & DRIVER_OK != 0) && state.status & NEEDS_RESET == 0
    }

    /// Whether there is something to do.
    fn has_work(&self) -> bool {
        let mut queues = self.state.queues.iter().enumerate();
        queues.any(|(number, queue)| queue.notified && self.device.wants(number))
    }

    /// Arms the timer if there is something to do.
    fn wake(&mut self, ctx: &mut PciCtx<'_, '_>) {
        let works = self.is_ready() && ctx.config.may_master();
        if works && !self.state.waits && self.has_work() {
            self.state.waits = true;
            ctx.schedule(TIMER_SERVE, ctx.now_ns() + LATENCY_NS);
        }
    }

    /// Serves chains of all queues. Returns how many bytes were moved, about.
    fn serve(&mut self, ctx: &mut PciCtx<'_, '_>) -> Result<u64, Broken> {
        let features = self.state.accepted;
        let (mut chains, mut bytes) = (0, 0);
        for (number, queue) in self.state.queues.iter_mut().enumerate() {
            while queue.notified
                && self.device.wants(number)
                && chains < MOST_CHAINS
                && bytes < MOST_BYTES
            {
                let Some(chain) = queue.peek(ctx, features)? else {
                    queue.rest(ctx, features);
                    break;
                };
                let served = self.device.serve(Job {
                    ctx: &mut *ctx,
                    chain: &chain,
                    queue: number,
                    progress: queue.progress,
                    features,
                    rings: queue,
                })?;
                chains += 1;
                match served {
                    Served::Done(written) => {
                        bytes += (chain.readable_len() + chain.writable_len()).min(MOST_BYTES);
                        queue.finish(ctx, chain.head, written);
                    }
                    Served::Merged(written) => {
                        for written in written {
                            bytes += u64::from(written);
                            let head = queue.head(ctx);
                            queue.finish(ctx, head, written);
                        }
                    }
                    Served::Unused => {}
                    Served::TooFew => queue.rest(ctx, features),
                    Served::More(progress) => {
                        bytes += MOST_BYTES;
                        queue.progress = progress;
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// Tells the driver of what was handed back.
    fn tell(&mut self, ctx: &mut PciCtx<'_, '_>) {
        let features = self.state.accepted;
        for queue in &mut self.state.queues {
            if queue.take_wish(ctx, features) {
                if !ctx.config.msix_is_on() {
                    self.state.isr |= ISR_QUEUE;
                }
                ctx.signal(queue.vector);
            }
        }
    }

    // ---- regions ---------------------------------------------------------------------------------

    /// `size` bytes at `offset` of the device's own configuration.
    pub(super) fn read_own(&self, offset: u64, size: u8) -> u64 {
        let bytes = self.device.config(self.state.accepted);
        let byte = |n| {
            let at = usize::try_from(offset + n).ok()?;
            bytes.get(at).copied()
        };
        (0..size.into()).fold(0, |value, n| {
            value | u64::from(byte(n).unwrap_or(0)) << (8 * n)
        })
    }

    pub(super) fn write_own(&mut self, offset: u64, size: u8, value: u64) {
        let before = self.device.config(self.state.accepted);
        for n in 0..u64::from(size) {
            self.device
                .write_config(offset + n, (value >> (8 * n)) as u8);
        }
        if self.device.config(self.state.accepted) != before {
            self.state.generation = self.state.generation.wrapping_add(1);
        }
    }

    fn read_modern(&mut self, ctx: &mut PciCtx<'_, '_>, offset: u64, size: u8) -> u64 {
        match offset {
            COMMON..ISR => self.read_common(offset, size),
            ISR => self.take_isr(ctx).into(),
            DEVICE..NOTIFY => self.read_own(offset - DEVICE, size),
            _ => 0,
        }
    }

    fn write_modern(&mut self, ctx: &mut PciCtx<'_, '_>, offset: u64, size: u8, value: u64) {
        match offset {
            COMMON..ISR => self.write_common(ctx, offset, size, value),
            DEVICE..NOTIFY => self.write_own(offset - DEVICE, size, value),
            NOTIFY..MODERN_BYTES => self.notify(ctx, ((offset - NOTIFY) / NOTIFY_STEP) as usize),
            _ => {}
        }
    }

    /// What the access capability points to, if a configuration cycle of `size` bytes from `register` on meets its
    /// data (virtio §4.1.4.9).
    fn accessed(&self, ctx: &PciCtx<'_, '_>, register: u8, size: u8) -> Option<(u64, u8)> {
        let data = self.access + 16;
        let meets = register < data + 4 && register.checked_add(size)? > data;
        let dword = |at: u8| ctx.config.read(at, 4);
        let (offset, len) = (dword(self.access + 8), dword(self.access + 12));
        let is_sound = matches!(len, 1 | 2 | 4) && offset % len == 0 && offset < MODERN_BYTES;
        let is_ours = ctx.config.byte(self.access + 4) == MODERN;
        (meets && is_sound && is_ours).then_some((offset, len as u8))
    }
}

impl<D: VirtioDevice + 'static> PciFunction for VirtioPci<D> {
    fn name(&self) -> &'static str {
        self.device.name()
    }

    fn read(&mut self, ctx: &mut PciCtx<'_, '_>, region: u8, offset: u64, size: u8) -> u64 {
        match region {
            LEGACY => self.read_legacy(ctx, offset, size),
            MODERN => self.read_modern(ctx, offset, size),
            _ => 0,
        }
    }

    fn write(&mut self, ctx: &mut PciCtx<'_, '_>, region: u8, offset: u64, size: u8, value: u64) {
        match region {
            LEGACY => self.write_legacy(ctx, offset, size, value),
            MODERN => self.write_modern(ctx, offset, size, value),
            _ => {}
        }
    }

    fn on_timer(&mut self, ctx: &mut PciCtx<'_, '_>, _: u32) {
        self.state.waits = false;
        // It may no longer master the bus.
        if !ctx.config.may_master() {
            return;
        }
        let served = self.serve(ctx);
        self.tell(ctx);
        match served {
            Ok(bytes) => {
                debug!(target: self.device.name(), "served {bytes} bytes");
                if self.has_work() {
                    self.state.waits = true;
                    let ns = LATENCY_NS + bytes / BYTES_A_NS;
                    ctx.schedule(TIMER_SERVE, ctx.now_ns() + ns);
                }
            }
            Err(why) => self.give_up(ctx, &why),
        }
    }

    fn on_input(&mut self, ctx: &mut PciCtx<'_, '_>, input: &Input) {
        if self.is_ready() {
            self.device.on_input(self.state.accepted, input);
            self.wake(ctx);
        }
    }

    fn takes_input(&self, input: &Input) -> bool {
        !self.is_ready() || self.device.takes_input(input)
    }

    fn listens(&self, input: &Input) -> bool {
        // A driver that has not chosen version 1 yet has not even begun.
        self.state.status & DRIVER_OK != 0 && self.is_ready() && self.device.listens(input)
    }

    fn before_config_read(&mut self, ctx: &mut PciCtx<'_, '_>, offset: u8, size: u8) {
        if let Some((at, len)) = self.accessed(ctx, offset, size) {
            let value = self.read_modern(ctx, at, len) as u32;
            for (n, byte) in (0..len).zip(value.to_le_bytes()) {
                ctx.config.set(self.access + 16 + n, byte);
            }
        }
    }

    fn after_config_write(&mut self, ctx: &mut PciCtx<'_, '_>, offset: u8, size: u8) {
        if let Some((at, len)) = self.accessed(ctx, offset, size) {
            let value = ctx.config.read(self.access + 16, len);
            self.write_modern(ctx, at, len, value);
        }
    }

    fn on_config(&mut self, ctx: &mut PciCtx<'_, '_>) {
        // What waited for the right to master the bus.
        self.wake(ctx);
    }

    fn reset(&mut self, ctx: &mut PciCtx<'_, '_>) {
        self.start_over(ctx);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, (&self.state, self.device.state()))
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let (saved, part) = state.decode_with_part::<State>(Self::VERSION)?;
        let sizes = self.kind.queues;
        let mut queues = saved.queues.iter().zip(sizes);
        if saved.queues.len() != sizes.len() || !queues.all(|(queue, &most)| queue.is_sound(most)) {
            return Err(StateError::Unsound("the queues of another device"));
        }
        self.device.restore(&part)?;
        self.state = saved;
        Ok(())
    }
}
