//! IBM VGA (IBM PS/2 Hardware Interface Technical Reference, Video Subsystem, 1992), with 256 KiB of
//! video memory in four planes.
//!
//! | ports | region | what |
//! |---|---|---|
//! | 3B4-3B5, 3BA | [`PORTS_3B4`], [`PORT_3BA`] | CRT controller, input status 1; miscellaneous bit 0 = 0 |
//! | 3C0, 3C1 | [`PORTS_3C0`] | attribute controller: index and data in turn; data read |
//! | 3C2 | | miscellaneous output (write), input status 0 (read) |
//! | 3C3 | | video subsystem enable |
//! | 3C4-3C5 | | sequencer |
//! | 3C6-3C9 | | DAC: mask, read index / state, write index, data |
//! | 3CA, 3CC | | feature control, miscellaneous output (reads) |
//! | 3CE-3CF | | graphics controller |
//! | 3D4-3D5, 3DA | [`PORTS_3D4`], [`PORT_3DA`] | as 3B4-3B5, 3BA, while bit 0 is 1 |
//! | A0000-BFFFF | [`APERTURE`] | video memory, where graphics register 6 puts it |
//!
//! `registers` is the register file, `memory` the way of the processor to the planes, `timing` the raster,
//! and `render` turns all of it into a [`Frame`](platform::Frame) on [`Input::Render`], at the guest's own
//! resolution: a row of text is shown dot by dot, a doubled scan line of a graphics mode once.
//!
//! Not modelled: the vertical interrupt, the overscan border, the DAC comparator behind input status 0 (it
//! reports a colour monitor), the diagnostic bits of input status 1, horizontal skews, counting by two and
//! by four, the odd/even page bit, blinking in graphics modes, and changes of registers within a frame.

mod memory;
mod registers;
mod render;
mod timing;

use platform::{
    Bus, Device, DeviceCtx, DeviceId, Frame, Input, PhysAddr, SavedState, StateError, StateView,
};
use serde::{Deserialize, Serialize};

use memory::VideoMemory;
use registers::Registers;

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

/// First port and number of ports of each port region.
const PORT_RANGES: [(u16, u16); 5] = [(0x3B4, 2), (0x3BA, 1), (0x3C0, 16), (0x3D4, 2), (0x3DA, 1)];

const STATE_VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    registers: Registers,
    memory: VideoMemory,
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
}

impl Kept {
    /// The picture may have changed.
    #[inline]
    fn forget(&mut self) {
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
        let registers = Registers::new();
        let mut memory = VideoMemory::new();
        memory.classify(&registers);
        Self {
            state: State { registers, memory },
            kept: Kept::default(),
        }
    }

    fn port(region: u8, offset: u64) -> Option<u16> {
        let (base, len) = PORT_RANGES.get(usize::from(region))?;
        u16::try_from(offset)
            .ok()
            .filter(|offset| offset < len)
            .map(|offset| base + offset)
    }
}

impl Device for Vga {
    fn name(&self) -> &'static str {
        "vga"
    }

    fn read(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8) -> u64 {
        let State { registers, memory } = &mut self.state;
        if region == APERTURE {
            return memory.read(registers, offset, size);
        }
        match Self::port(region, offset) {
            Some(port) => registers.read(port, ctx.now_ns()).into(),
            None => 0xFF,
        }
    }

    fn write(&mut self, _: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64) {
        self.kept.forget();
        let State { registers, memory } = &mut self.state;
        if region == APERTURE {
            memory.write(registers, offset, size, value);
        } else if let Some(port) = Self::port(region, offset) {
            registers.write(port, value as u8);
            if matches!(port, 0x3C2 | 0x3C3 | 0x3C5 | 0x3CF) {
                memory.classify(registers);
            }
        }
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        let State { registers, memory } = &self.state;
        match input {
            Input::Render => {
                let frame = render::render(registers, memory.words(), ctx.now_ns());
                ctx.present(frame);
            }
            Input::RenderChanged => {
                let phase = render::phase(registers, ctx.now_ns());
                let now_ns = ctx.now_ns();
                let render = || render::render(registers, memory.words(), now_ns);
                if let Some(frame) = self.kept.change(phase, render) {
                    ctx.present(frame);
                }
            }
            Input::ReadText => {
                let frame = render::read_text(registers, memory.words(), ctx.now_ns());
                ctx.present(frame);
            }
            _ => {}
        }
    }

    fn reset(&mut self, _: &mut DeviceCtx<'_>) {
        *self = Self::new();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(STATE_VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.state = state.decode(STATE_VERSION)?;
        self.kept.forget();
        self.state.memory.classify(&self.state.registers);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
