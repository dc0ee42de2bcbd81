//! The display adapter: an IBM VGA (IBM PS/2 Hardware Interface Technical Reference, Video
//! Subsystem, 1992) with the Bochs display interface and 16 MiB of memory, as QEMU's `-vga std` has
//! them together (docs/specs/standard-vga.rst).
//!
//! | ports | region | what |
//! |---|---|---|
//! | 1CE-1D0 | [`PORTS_1CE`] | Bochs display interface: index, data (1CF or 1D0), 16 bits each |
//! | 3B4-3B5, 3BA | [`PORTS_3B4`], [`PORT_3BA`] | CRT controller, input status 1; miscellaneous bit 0 = 0 |
//! | 3C0, 3C1 | [`PORTS_3C0`] | attribute controller: index and data in turn; data read |
//! | 3C2 | | miscellaneous output (write), input status 0 (read) |
//! | 3C3 | | video subsystem enable |
//! | 3C4-3C5 | | sequencer |
//! | 3C6-3C9 | | DAC: mask, read index / state, write index, data |
//! | 3CA, 3CC | | feature control, miscellaneous output (reads) |
//! | 3CE-3CF | | graphics controller |
//! | 3D4-3D5, 3DA | [`PORTS_3D4`], [`PORT_3DA`] | as 3B4-3B5, 3BA, while bit 0 is 1 |
//! | A0000-BFFFF | [`APERTURE`] | video memory, where graphics register 6 puts it, or a bank of 64 KiB |
//!
//! [`REGISTERS`] is the same once more, for those who know no ports: 4096 bytes with the monitor's
//! EDID at 0, ports 3C0-3DF at 400h, the Bochs registers at 500h, 16 bits each, and at 604h the
//! byte order of pixels.
//!
//! The memory is the board's [`MEMORY`]: processors reach it as they reach RAM, where the [PCI
//! function](pci) puts it, and what they write there is found by its pages. `registers` and `dispi`
//! are the register files, `memory` the way through the aperture, `timing` the raster, and `render`
//! and `linear` turn all of it into a [`Frame`](platform::Frame) on [`Input::Render`], at the
//! guest's own resolution: a row of text is shown dot by dot, a doubled scan line of a graphics
//! mode once.
//!
//! Not modelled: the vertical interrupt, the overscan border, the DAC comparator behind input
//! status 0 (it reports a colour monitor), the diagnostic bits of input status 1, horizontal skews,
//! counting by two and by four, the odd/even page bit, and changes of registers within a frame.

mod dispi;
pub mod edid;
mod linear;
mod memory;
pub mod pci;
mod registers;
mod render;
mod timing;

use platform::{
    Bus, Device, DeviceCtx, DeviceId, DeviceRam, Frame, Input, PhysAddr, SavedState, StateError,
    StateView,
};
use serde::{Deserialize, Serialize};

use dispi::Dispi;
use memory::{Aperture, PAGE_BYTES, Planes, VGA_BYTES};
use registers::Registers;
use render::Scene;
use timing::Timing;

/// Region of ports 3B4-3B5.
pub const PORTS_3B4: u8 = 0;
/// Region of port 3BA.
pub const PORT_3BA: u8 = 1;
/// Region of ports 3C0-3CF.
pub const PORTS_3C0: u8 = 2;
/// Region of ports 3D4-3D5.
pub const PORTS_3D4: u8 = 3;
/// Region of port 3DA.
pub const PORT_3DA: u8 = 4;
/// Region of the 128 KiB of physical addresses from A0000.
pub const APERTURE: u8 = 5;
/// Region of ports 1CE-1D0.
pub const PORTS_1CE: u8 = 6;
/// Region of the registers in memory.
pub const REGISTERS: u8 = 7;

/// The board's memory that is this adapter's.
pub const MEMORY: DeviceRam = DeviceRam(0);
/// Its size: a picture of 2560x1600 with 32 bits a pixel fits.
pub const MEMORY_BYTES: usize = 16 << 20;
/// Bytes of [`REGISTERS`].
pub const REGISTERS_BYTES: u64 = 4096;

/// First port and number of ports of each port region of the VGA.
const PORT_RANGES: [(u16, u16); 5] = [(0x3B4, 2), (0x3BA, 1), (0x3C0, 16), (0x3D4, 2), (0x3DA, 1)];
/// Index, data, and data where words are even.
const DISPI_PORTS: (u16, u16) = (0x1CE, 3);

const STATE_VERSION: u32 = 2;

const EDID: [u8; edid::BYTES] = edid::block();

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    registers: Registers,
    aperture: Aperture,
    dispi: Dispi,
    /// Pixels of several bytes have their highest one first.
    big_endian: bool,
    /// The VGA's 256 KiB as version 1 had them, until they can be put into [`MEMORY`].
    planes: Option<Vec<u8>>,
}

/// What version 1 was.
#[derive(Deserialize)]
struct State1 {
    registers: Registers,
    planes: Vec<u8>,
    latch: u32,
}

impl State1 {
    fn migrate(saved: &SavedState) -> Result<State, StateError> {
        let old: Self = saved.decode(1)?;
        Ok(State {
            registers: old.registers,
            aperture: Aperture::with_latch(old.latch),
            dispi: Dispi::new(),
            big_endian: false,
            planes: Some(old.planes),
        })
    }
}

/// The display adapter.
#[derive(Clone, Debug)]
pub struct Vga {
    state: State,
    kept: Kept,
}

/// What is known of the picture that a display keeps. Not state: it tells of the onlooker.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// The blinking phase that was handed out last, until something may have changed the picture.
    phase: Option<u64>,
    /// Pictures by phase, while nothing changes but that: they come again and again.
    frames: Vec<(u64, Frame)>,
    /// The last picture of packed pixels, until a register may have changed it as a whole.
    packed: Option<Frame>,
}

impl Kept {
    /// The picture may have changed.
    #[inline]
    fn forget(&mut self) {
        self.packed = None;
        if self.phase.take().is_some() {
            self.frames.clear();
        }
    }

    /// The picture of `phase`, unless it is the one that was handed out last.
    fn change(&mut self, phase: u64, render: impl FnOnce() -> Frame) -> Option<Frame> {
        let before = self.phase.replace(phase);
        if before == Some(phase) {
            return None;
        }
        if let Some((_, frame)) = self.frames.iter().find(|(known, _)| *known == phase) {
            return Some(frame.clone());
        }
        let frame = render();
        // One that follows a change may be followed by the next one.
        if before.is_some() {
            self.frames.push((phase, frame.clone()));
        }
        Some(frame)
    }
}

/// Maps the adapter's ports and its aperture.
pub fn map(bus: &mut Bus, id: DeviceId) {
    for (region, (base, len)) in (0..).zip(PORT_RANGES) {
        bus.map_ports(id, region, base, len, 1);
    }
    let (base, len) = DISPI_PORTS;
    bus.map_ports(id, PORTS_1CE, base, len, 2);
    bus.map_mmio(id, APERTURE, PhysAddr(0xA_0000), 0x2_0000);
}

impl Default for Vga {
    fn default() -> Self {
        Self::new()
    }
}

impl Vga {
    /// An adapter after reset: it shows nothing until a video BIOS has programmed it.
    pub fn new() -> Self {
        let state = State {
            registers: Registers::new(),
            aperture: Aperture::default(),
            dispi: Dispi::new(),
            big_endian: false,
            planes: None,
        };
        let mut vga = Self {
            state,
            kept: Kept::default(),
        };
        vga.state.derive();
        vga
    }

    fn port(region: u8, offset: u64) -> Option<u16> {
        let (base, len) = PORT_RANGES.get(usize::from(region))?;
        u16::try_from(offset)
            .ok()
            .filter(|offset| offset < len)
            .map(|offset| base + offset)
    }

    fn write_port(&mut self, port: u16, value: u8) {
        // An index shows nothing by itself.
        if !matches!(port, 0x3B4 | 0x3C4 | 0x3CE | 0x3D4) {
            self.kept.forget();
        }
        self.state.registers.write(port, value);
        if matches!(port, 0x3C2 | 0x3C3 | 0x3C5 | 0x3CF) {
            self.state.derive();
        }
    }

    fn write_dispi(&mut self, ctx: &mut DeviceCtx<'_>, index: u16, value: u16) {
        let before = self.state.dispi.clone();
        let clear = self.state.dispi.write(index, value, MEMORY_BYTES);
        let banks_alone = before.surface() == self.state.dispi.surface()
            && before.wide_dac() == self.state.dispi.wide_dac();
        if !banks_alone {
            self.kept.forget();
        }
        self.state.derive();
        let clear = clear.min(ctx.ram(MEMORY).len());
        ctx.ram(MEMORY)[..clear].fill(0);
        ctx.wrote_ram(MEMORY, 0..clear);
    }

    fn read_registers(&mut self, now_ns: u64, offset: u64, size: u8) -> u64 {
        let size = u64::from(size.min(8));
        (0..size).fold(0, |value, n| {
            let at = offset.wrapping_add(n);
            let byte = match at {
                0..0x80 => EDID[at as usize],
                0x80..0x400 => 0,
                0x400..0x420 => self.state.read_port(0x3C0 + (at - 0x400) as u16, now_ns),
                0x500..0x516 => {
                    let index = (at - 0x500) as u16 / 2;
                    self.state.dispi.read(index, MEMORY_BYTES).to_le_bytes()[(at & 1) as usize]
                }
                0x600..0x604 => EXTENDED_BYTES.to_le_bytes()[(at & 3) as usize],
                0x604..0x608 => match self.state.big_endian {
                    true => BIG_ENDIAN.to_le_bytes()[(at & 3) as usize],
                    false => LITTLE_ENDIAN.to_le_bytes()[(at & 3) as usize],
                },
                _ => 0xFF,
            };
            value | u64::from(byte) << (8 * n)
        })
    }

    fn write_registers(&mut self, ctx: &mut DeviceCtx<'_>, offset: u64, size: u8, value: u64) {
        match offset {
            0x400..0x420 => {
                for n in 0..u64::from(size.min(8)) {
                    let port = 0x3C0 + (offset - 0x400 + n) as u16;
                    if port < 0x3E0 {
                        self.write_port(port, (value >> (8 * n)) as u8);
                    }
                }
            }
            // A register is written as a whole.
            0x500..0x516 if size >= 2 => {
                for n in 0..u64::from(size.min(8) / 2) {
                    let index = (offset - 0x500) / 2 + n;
                    self.write_dispi(ctx, index as u16, (value >> (16 * n)) as u16);
                }
            }
            0x604 if size == 4 => {
                let order = match value as u32 {
                    BIG_ENDIAN => true,
                    LITTLE_ENDIAN => false,
                    _ => return,
                };
                if std::mem::replace(&mut self.state.big_endian, order) != order {
                    self.kept.forget();
                }
            }
            _ => {}
        }
    }

    /// Puts what a saved machine of an earlier version had in its planes into memory.
    #[inline]
    fn settle_planes(&mut self, ctx: &mut DeviceCtx<'_>) {
        if let Some(planes) = self.state.planes.take() {
            let memory = ctx.ram(MEMORY);
            let len = planes.len().min(memory.len());
            memory[..len].copy_from_slice(&planes[..len]);
            ctx.wrote_ram(MEMORY, 0..len);
        }
    }

    /// The picture, unless it is as it was when it was last asked for this way.
    fn change(&mut self, ctx: &mut DeviceCtx<'_>) -> Option<Frame> {
        let dirty = ctx.take_dirty(MEMORY);
        let now_ns = ctx.now_ns();
        let Self { state, kept } = self;
        let scene = state.scene(ctx);
        if let Some(painter) = scene.packed() {
            if let Some(frame) = &mut kept.packed {
                let any = painter.repaint(&dirty, &mut frame.pixels);
                return any.then(|| frame.clone());
            }
            let frame = painter.frame();
            kept.packed = Some(frame.clone());
            return Some(frame);
        }
        let reached = if state.dispi.enabled() {
            u64::MAX
        } else {
            (VGA_BYTES / PAGE_BYTES) as u64
        };
        if dirty.iter().any(|&page| page < reached) {
            kept.forget();
        }
        let phase = scene.phase(now_ns);
        kept.change(phase, || scene.render(now_ns))
    }
}

/// What the register at 600h says: how many bytes of registers there are.
const EXTENDED_BYTES: u32 = 8;
/// What the register at 604h says.
const BIG_ENDIAN: u32 = 0xBEBE_BEBE;
const LITTLE_ENDIAN: u32 = 0x1E1E_1E1E;

impl State {
    /// What follows from registers. To be called when they may have changed.
    fn derive(&mut self) {
        self.registers.wide_dac = self.dispi.wide_dac();
        self.aperture.classify(&self.registers, &self.dispi);
    }

    fn read_port(&mut self, port: u16, now_ns: u64) -> u8 {
        let dispi = &self.dispi;
        let timing = |registers: &Registers| match dispi.surface() {
            Some(surface) => Timing::linear(surface.width, surface.height),
            None => registers.timing(),
        };
        self.registers.read(port, now_ns, timing)
    }

    fn scene<'a>(&'a self, ctx: &'a mut DeviceCtx<'_>) -> Scene<'a> {
        Scene {
            registers: &self.registers,
            dispi: &self.dispi,
            memory: match &self.planes {
                Some(planes) => planes,
                None => ctx.ram(MEMORY),
            },
            big_endian: self.big_endian,
        }
    }
}

impl Device for Vga {
    fn name(&self) -> &'static str {
        "vga"
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8) -> u64 {
        self.settle_planes(ctx);
        let now_ns = ctx.now_ns();
        match region {
            APERTURE => {
                let planes = Planes::new(ctx.ram(MEMORY));
                let State {
                    registers,
                    aperture,
                    ..
                } = &mut self.state;
                aperture.read(registers, &planes, offset, size)
            }
            REGISTERS => self.read_registers(now_ns, offset, size),
            PORTS_1CE => match offset {
                0 => self.state.dispi.index().into(),
                _ => {
                    let index = self.state.dispi.index();
                    self.state.dispi.read(index, MEMORY_BYTES).into()
                }
            },
            _ => match Self::port(region, offset) {
                Some(port) => self.state.read_port(port, now_ns).into(),
                None => 0xFF,
            },
        }
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64) {
        self.settle_planes(ctx);
        match region {
            APERTURE => {
                let mut planes = Planes::new(ctx.ram(MEMORY));
                let State {
                    registers,
                    aperture,
                    ..
                } = &mut self.state;
                aperture.write(registers, &mut planes, offset, size, value);
                if let Some(written) = planes.written() {
                    ctx.wrote_ram(MEMORY, written);
                }
            }
            REGISTERS => self.write_registers(ctx, offset, size, value),
            PORTS_1CE => match offset {
                0 => self.state.dispi.select(value as u16),
                _ => {
                    let index = self.state.dispi.index();
                    self.write_dispi(ctx, index, value as u16);
                }
            },
            _ => {
                if let Some(port) = Self::port(region, offset) {
                    self.write_port(port, value as u8);
                }
            }
        }
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        let now_ns = ctx.now_ns();
        let frame = match input {
            Input::Render => Some(self.state.scene(ctx).render(now_ns)),
            Input::RenderChanged => self.change(ctx),
            Input::ReadText => Some(self.state.scene(ctx).read_text(now_ns)),
            _ => None,
        };
        if let Some(frame) = frame {
            ctx.present(frame);
        }
    }

    /// Memory keeps its content.
    fn reset(&mut self, ctx: &mut DeviceCtx<'_>) {
        self.settle_planes(ctx);
        *self = Self::new();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(STATE_VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let restored: State = state.decode_or_migrate(STATE_VERSION, &[(1, State1::migrate)])?;
        if restored
            .planes
            .as_ref()
            .is_some_and(|planes| planes.len() != VGA_BYTES)
        {
            return Err(StateError::Unsound("video memory of another size"));
        }
        if !restored.dispi.is_sound(MEMORY_BYTES) {
            return Err(StateError::Unsound("a picture beyond video memory"));
        }
        self.state = restored;
        self.kept = Kept::default();
        self.state.derive();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
