//! Intel 8237A programmable DMA controller (Intel 231466), two of them as in the PC/AT, with the
//! 74LS612 page registers.
//!
//! | ports | region | what |
//! |---|---|---|
//! | 00-07 | [`FIRST`] | current address and count of channels 0-3, low byte first by the flip-flop |
//! | 08 | | status (read), command (write) |
//! | 09, 0A, 0B | | request, single mask bit, mode |
//! | 0C, 0D, 0E | | clear flip-flop, master clear (reads: temporary register), clear mask |
//! | 0F | | all mask bits (reads as in later chip sets) |
//! | 80-8F | [`PAGES`] | page registers; 80 is the POST code latch |
//! | C0-DF | [`SECOND`] | channels 4-7, one register every two ports, addressing words |
//!
//! A device asks by [`Input::DmaRequest`] and is answered at once by [`Input::DmaDone`]: a request stands
//! for DREQ held for as long as the device has data, so single, demand and block mode move the same bytes.
//! A masked or disabled channel answers that nothing was moved.
//!
//! Not modelled: memory-to-memory transfers and software requests (the AT wires neither), bus timing
//! and rotating priority, DREQ/DACK polarity, and that channel 4 must be in cascade mode for 0-3 to work.

use platform::{
    Bus, Device, DeviceCtx, DeviceId, DmaDirection, Input, PhysAddr, Said, SavedState, StateError,
    StateView,
};
use serde::{Deserialize, Serialize};

/// Region of ports 00-0F: channels 0 to 3.
pub const FIRST: u8 = 0;
/// Region of ports C0-DF: channels 4 to 7.
pub const SECOND: u8 = 1;
/// Region of ports 80-8F: page registers.
pub const PAGES: u8 = 2;

const STATE_VERSION: u32 = 1;

const COMMAND_DISABLE: u8 = 0x04;
const MODE_AUTO_INIT: u8 = 0x10;
const MODE_DECREMENT: u8 = 0x20;
const MODE_CASCADE: u8 = 0xC0;

/// Offsets in [`PAGES`] of the page registers of channels 0 to 7.
const PAGE_OF_CHANNEL: [usize; 8] = [0x7, 0x3, 0x1, 0x2, 0xF, 0xB, 0x9, 0xA];

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Channel {
    base_address: u16,
    base_count: u16,
    address: u16,
    count: u16,
    mode: u8,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Controller {
    channels: [Channel; 4],
    command: u8,
    /// Terminal counts reached since the status was last read, a bit a channel.
    reached: u8,
    requests: u8,
    mask: u8,
    /// The next byte of an address or count is the high one.
    high_byte: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    controllers: [Controller; 2],
    pages: [u8; 16],
}

/// The two DMA controllers of a PC/AT and their page registers.
#[derive(Clone, Debug)]
pub struct I8237 {
    state: State,
}

/// What a transfer did.
struct Done {
    data: Vec<u8>,
    transferred: u32,
    terminal_count: bool,
}

/// Maps the controllers' ports and makes the device serve DMA requests.
pub fn map(bus: &mut Bus, id: DeviceId) {
    bus.map_ports(id, FIRST, 0x00, 16, 1);
    bus.map_ports(id, PAGES, 0x80, 16, 1);
    bus.map_ports(id, SECOND, 0xC0, 32, 1);
    bus.set_dma_controller(id);
}

impl Default for I8237 {
    fn default() -> Self {
        Self::new()
    }
}

impl I8237 {
    /// Both controllers after reset: every channel masked.
    pub fn new() -> Self {
        let mut state = State::default();
        for controller in &mut state.controllers {
            controller.master_clear();
        }
        Self { state }
    }

    fn transfer(
        &mut self,
        ctx: &mut DeviceCtx<'_>,
        channel: u8,
        direction: DmaDirection,
        data: &[u8],
        length: u32,
    ) -> Done {
        let nothing = Done {
            data: Vec::new(),
            transferred: 0,
            terminal_count: false,
        };
        let number = usize::from(channel);
        if number > 7 {
            return nothing;
        }
        let unit = if number < 4 { 1 } else { 2 };
        let controller = &mut self.state.controllers[number / 4];
        let index = number % 4;
        let mode = controller.channels[index].mode;
        let matches = match mode >> 2 & 3 {
            0 => true,
            1 => direction == DmaDirection::ToMemory,
            2 => direction == DmaDirection::FromMemory,
            _ => false,
        };
        if controller.mask >> index & 1 != 0
            || controller.command & COMMAND_DISABLE != 0
            || mode & MODE_CASCADE == MODE_CASCADE
            || !matches
        {
            log::debug!(target: "i8237", "request on channel {channel} is not served, mode {mode:#x}");
            return nothing;
        }

        let verify = mode >> 2 & 3 == 0;
        let offered = match direction {
            DmaDirection::ToMemory => data.len(),
            DmaDirection::FromMemory => length as usize,
        };
        let room = usize::from(controller.channels[index].count) + 1;
        let units = (offered / unit).min(room);
        let page = self.state.pages[PAGE_OF_CHANNEL[number]];
        let mut answer = Vec::new();
        if direction == DmaDirection::FromMemory {
            answer = vec![0; units * unit];
        }
        if !verify {
            let runs = runs(&controller.channels[index], page, units, unit);
            let mut done = 0;
            for (addr, len) in runs {
                match direction {
                    DmaDirection::ToMemory => ctx.dma_write(addr, &data[done..done + len]),
                    DmaDirection::FromMemory => ctx.dma_read(addr, &mut answer[done..done + len]),
                }
                done += len;
            }
        }
        Done {
            data: answer,
            transferred: (units * unit) as u32,
            terminal_count: controller.advance(index, units),
        }
    }
}

/// The stretches of ascending addresses that `units` units on `channel` go to, in order.
///
/// The address register has 16 bits and does not carry into the page: 64 KiB wrap for bytes, 128 KiB for words.
fn runs(channel: &Channel, page: u8, units: usize, unit: usize) -> Vec<(PhysAddr, usize)> {
    let physical = |address: u16| {
        PhysAddr(if unit == 1 {
            u64::from(page) << 16 | u64::from(address)
        } else {
            u64::from(page & 0xFE) << 16 | u64::from(address) << 1
        })
    };
    if channel.mode & MODE_DECREMENT != 0 {
        return (0..units)
            .map(|n| (physical(channel.address.wrapping_sub(n as u16)), unit))
            .collect();
    }
    let before_wrap = units.min(0x1_0000 - usize::from(channel.address));
    let mut runs = vec![(physical(channel.address), before_wrap * unit)];
    if units > before_wrap {
        runs.push((physical(0), (units - before_wrap) * unit));
    }
    runs
}

/// Flips the byte pointer; what it was before.
fn toggle(flag: &mut bool) -> bool {
    *flag = !*flag;
    !*flag
}

impl Controller {
    /// The master clear command. Addresses, counts and modes stay.
    fn master_clear(&mut self) {
        self.command = 0;
        self.reached = 0;
        self.requests = 0;
        self.mask = 0x0F;
        self.high_byte = false;
    }

    /// Counts `units` transfers on a channel; whether the terminal count was reached.
    fn advance(&mut self, index: usize, units: usize) -> bool {
        let channel = &mut self.channels[index];
        let reached = units > usize::from(channel.count);
        channel.count = channel.count.wrapping_sub(units as u16);
        channel.address = if channel.mode & MODE_DECREMENT != 0 {
            channel.address.wrapping_sub(units as u16)
        } else {
            channel.address.wrapping_add(units as u16)
        };
        if reached {
            self.reached |= 1 << index;
            self.requests &= !(1 << index);
            if channel.mode & MODE_AUTO_INIT != 0 {
                channel.address = channel.base_address;
                channel.count = channel.base_count;
            } else {
                self.mask |= 1 << index;
            }
        }
        reached
    }

    fn read(&mut self, register: u64) -> u8 {
        match register {
            0..=7 => {
                let channel = &self.channels[register as usize / 2];
                let word = if register & 1 == 0 {
                    channel.address
                } else {
                    channel.count
                };
                let high = toggle(&mut self.high_byte);
                word.to_le_bytes()[usize::from(high)]
            }
            8 => self.requests << 4 | std::mem::take(&mut self.reached),
            0x0D => 0, // The temporary register holds memory-to-memory data only.
            0x0F => 0xF0 | self.mask,
            _ => 0xFF,
        }
    }

    fn write(&mut self, register: u64, value: u8) {
        let bit = 1 << (value & 3);
        match register {
            0..=7 => {
                let channel = &mut self.channels[register as usize / 2];
                let (base, current) = if register & 1 == 0 {
                    (&mut channel.base_address, &mut channel.address)
                } else {
                    (&mut channel.base_count, &mut channel.count)
                };
                let high = toggle(&mut self.high_byte);
                for word in [base, current] {
                    let mut bytes = word.to_le_bytes();
                    bytes[usize::from(high)] = value;
                    *word = u16::from_le_bytes(bytes);
                }
            }
            8 => self.command = value,
            9 if value & 4 != 0 => self.requests |= bit,
            9 => self.requests &= !bit,
            0x0A if value & 4 != 0 => self.mask |= bit,
            0x0A => self.mask &= !bit,
            0x0B => self.channels[usize::from(value & 3)].mode = value & 0xFC,
            0x0C => self.high_byte = false,
            0x0D => self.master_clear(),
            0x0E => self.mask = 0,
            0x0F => self.mask = value & 0x0F,
            _ => {}
        }
    }
}

impl Device for I8237 {
    fn name(&self) -> &'static str {
        "i8237"
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, region: u8, offset: u64, _: u8) -> u64 {
        let value = match region {
            FIRST => self.state.controllers[0].read(offset & 15),
            SECOND => self.state.controllers[1].read(offset >> 1 & 15),
            PAGES => self.state.pages[offset as usize & 15],
            _ => 0xFF,
        };
        value.into()
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, _: u8, value: u64) {
        let value = value as u8;
        match region {
            FIRST => self.state.controllers[0].write(offset & 15, value),
            SECOND => self.state.controllers[1].write(offset >> 1 & 15, value),
            PAGES => {
                self.state.pages[offset as usize & 15] = value;
                if offset & 15 == 0 {
                    ctx.output(Said::PostCode(value));
                }
            }
            _ => {}
        }
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        if let Input::DmaRequest {
            from,
            channel,
            direction,
            data,
            length,
        } = input
        {
            let done = self.transfer(ctx, *channel, *direction, data, *length);
            ctx.send(
                *from,
                Input::DmaDone {
                    channel: *channel,
                    data: done.data,
                    transferred: done.transferred,
                    terminal_count: done.terminal_count,
                },
            );
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use platform::testkit::Rng;
    use platform::{Clock, GuestMemory, Output};

    use super::*;

    /// A device that remembers the answers it got.
    #[derive(Default)]
    struct Probe {
        answers: Vec<Input>,
    }

    impl Device for Probe {
        fn name(&self) -> &'static str {
            "probe"
        }
        fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8) -> u64 {
            0
        }
        fn write(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, _: u64) {}
        fn on_input(&mut self, _: &mut DeviceCtx<'_>, input: &Input) {
            self.answers.push(input.clone());
        }
        fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
        fn state(&self) -> StateView<'_> {
            StateView::of(1, &self.answers)
        }
        fn restore(&mut self, _: &SavedState) -> Result<(), StateError> {
            Ok(())
        }
    }

    platform::device_contract!(
        contract,
        I8237::new(),
        [(FIRST, 16, 1), (SECOND, 32, 1), (PAGES, 16, 1)]
    );

    const DMA: DeviceId = DeviceId(0);
    const PROBE: DeviceId = DeviceId(1);

    fn bus() -> Bus {
        let mut bus = Bus::new(GuestMemory::new(1 << 20).unwrap(), Clock::new(1, 1));
        let id = bus.add(Box::new(I8237::new()));
        map(&mut bus, id);
        bus.add(Box::<Probe>::default());
        bus
    }

    fn request(bus: &mut Bus, channel: u8, direction: DmaDirection, data: &[u8], length: u32) {
        let request = Input::DmaRequest {
            from: PROBE,
            channel,
            direction,
            data: data.to_vec(),
            length,
        };
        bus.input(DMA, &request);
    }

    /// The last answer: bytes, how many were moved, terminal count.
    fn answer(bus: &mut Bus) -> (Vec<u8>, u32, bool) {
        let (_, probe) = bus.devices().nth(1).unwrap();
        let answers: Vec<Input> = probe.save().decode(1).unwrap();
        match answers.last() {
            Some(Input::DmaDone {
                data,
                transferred,
                terminal_count,
                ..
            }) => (data.clone(), *transferred, *terminal_count),
            other => panic!("{other:?}"),
        }
    }

    fn program(bus: &mut Bus, channel: u16, mode: u8, page: (u16, u8), address: u16, count: u16) {
        let (base, step) = if channel < 4 { (0, 1) } else { (0xC0, 2) };
        let local = channel % 4;
        bus.pio_write(base + 0xC * step, 1, 0);
        bus.pio_write(base + 0xB * step, 1, u32::from(mode) | u32::from(local));
        for byte in address.to_le_bytes() {
            bus.pio_write(base + local * 2 * step, 1, byte.into());
        }
        for byte in count.to_le_bytes() {
            bus.pio_write(base + (local * 2 + 1) * step, 1, byte.into());
        }
        bus.pio_write(page.0, 1, page.1.into());
        bus.pio_write(base + 0xA * step, 1, local.into());
    }

    #[test]
    fn a_transfer_ends_at_terminal_count_and_masks_the_channel() {
        let mut bus = bus();
        program(&mut bus, 2, 0x44, (0x81, 0x01), 0x2000, 3);
        request(&mut bus, 2, DmaDirection::ToMemory, &[1, 2, 3, 4, 5, 6], 0);
        assert_eq!(answer(&mut bus), (vec![], 4, true));
        let memory = bus.memory.read_array::<6>(PhysAddr(0x1_2000));
        assert_eq!(memory, [1, 2, 3, 4, 0, 0]);
        assert_eq!(bus.pio_read(0x08, 1), 0x04);
        assert_eq!(
            bus.pio_read(0x08, 1),
            0,
            "reading the status clears the terminal counts"
        );
        assert_eq!(bus.pio_read(0x0F, 1) & 0x0F, 0x0F);
        request(&mut bus, 2, DmaDirection::ToMemory, &[9], 0);
        assert_eq!(answer(&mut bus), (vec![], 0, false));
    }

    #[test]
    fn current_registers_count_and_the_flip_flop_selects_the_byte() {
        let mut bus = bus();
        program(&mut bus, 1, 0x48, (0x83, 0), 0x1234, 0x0FFF);
        bus.memory.write(PhysAddr(0x1234), &[7, 8, 9]);
        request(&mut bus, 1, DmaDirection::FromMemory, &[], 3);
        assert_eq!(answer(&mut bus), (vec![7, 8, 9], 3, false));
        bus.pio_write(0x0C, 1, 0);
        assert_eq!(bus.pio_read(0x02, 1), 0x37);
        assert_eq!(bus.pio_read(0x02, 1), 0x12);
        assert_eq!(bus.pio_read(0x03, 1), 0xFC);
        assert_eq!(bus.pio_read(0x03, 1), 0x0F);
    }

    #[test]
    fn auto_init_reloads_and_stays_unmasked() {
        let mut bus = bus();
        program(&mut bus, 3, 0x54, (0x82, 0), 0x100, 1);
        for round in 0..3 {
            request(&mut bus, 3, DmaDirection::ToMemory, &[round, round], 0);
            assert_eq!(answer(&mut bus).1, 2);
            assert_eq!(bus.memory.read_array::<1>(PhysAddr(0x100)), [round]);
        }
    }

    #[test]
    fn the_address_wraps_within_64_kib_and_decrements() {
        let mut bus = bus();
        program(&mut bus, 0, 0x44, (0x87, 0x02), 0xFFFF, 1);
        request(&mut bus, 0, DmaDirection::ToMemory, &[0xA1, 0xA2], 0);
        assert_eq!(bus.memory.read_array::<1>(PhysAddr(0x2_FFFF)), [0xA1]);
        assert_eq!(bus.memory.read_array::<1>(PhysAddr(0x2_0000)), [0xA2]);
        program(&mut bus, 0, 0x64, (0x87, 0x02), 0x0010, 2);
        request(&mut bus, 0, DmaDirection::ToMemory, &[1, 2, 3], 0);
        let memory = bus.memory.read_array::<3>(PhysAddr(0x2_000E));
        assert_eq!(memory, [3, 2, 1]);
    }

    #[test]
    fn sixteen_bit_channels_address_words() {
        let mut bus = bus();
        program(&mut bus, 5, 0x44, (0x8B, 0x03), 0x1000, 1);
        request(&mut bus, 5, DmaDirection::ToMemory, &[1, 2, 3, 4], 0);
        assert_eq!(answer(&mut bus), (vec![], 4, true));
        let memory = bus.memory.read_array::<4>(PhysAddr(0x2_2000));
        assert_eq!(memory, [1, 2, 3, 4], "page bit 0 is not used");
        assert_eq!(bus.pio_read(0xD0, 1), 0x02);
    }

    #[test]
    fn verify_counts_without_touching_memory_and_the_wrong_direction_moves_nothing() {
        let mut bus = bus();
        program(&mut bus, 2, 0x40, (0x81, 0), 0x500, 1);
        request(&mut bus, 2, DmaDirection::ToMemory, &[1, 2], 0);
        assert_eq!(answer(&mut bus), (vec![], 2, true));
        assert_eq!(bus.memory.read_array::<2>(PhysAddr(0x500)), [0, 0]);
        program(&mut bus, 2, 0x48, (0x81, 0), 0x500, 1);
        request(&mut bus, 2, DmaDirection::ToMemory, &[1, 2], 0);
        assert_eq!(answer(&mut bus).1, 0);
    }

    #[test]
    fn master_clear_masks_and_clear_mask_unmasks() {
        let mut bus = bus();
        bus.pio_write(0x0E, 1, 0);
        assert_eq!(bus.pio_read(0x0F, 1) & 0x0F, 0);
        bus.pio_write(0x0F, 1, 0x05);
        assert_eq!(bus.pio_read(0x0F, 1) & 0x0F, 5);
        bus.pio_write(0x0D, 1, 0);
        assert_eq!(bus.pio_read(0x0F, 1) & 0x0F, 0x0F);
        bus.pio_write(0x08, 1, 0x04);
        program(&mut bus, 2, 0x44, (0x81, 0), 0, 0);
        request(&mut bus, 2, DmaDirection::ToMemory, &[1], 0);
        assert_eq!(answer(&mut bus).1, 0, "the controller is disabled");
    }

    #[test]
    fn port_80_reports_a_post_code() {
        let mut bus = bus();
        bus.pio_write(0x80, 1, 0x42);
        let said = Output {
            device: DeviceId(0),
            what: Said::PostCode(0x42),
        };
        assert_eq!(bus.outputs, [said]);
        assert_eq!(bus.pio_read(0x80, 1), 0x42);
    }

    #[test]
    fn random_accesses_never_panic_and_state_survives_a_round_trip() {
        let mut bus = bus();
        let mut rng = Rng::new(1);
        let mut next = || rng.next_u64() >> 33;
        for _ in 0..30_000 {
            let port = [0, 0x80, 0xC0][next() as usize % 3] + next() as u16 % 32;
            let size = 1 << (next() % 3);
            match next() % 8 {
                0..3 => drop(bus.pio_read(port, size)),
                3..7 => bus.pio_write(port, size, next() as u32),
                _ => {
                    let direction = if next() % 2 == 0 {
                        DmaDirection::ToMemory
                    } else {
                        DmaDirection::FromMemory
                    };
                    let data = vec![next() as u8; next() as usize % 700];
                    request(&mut bus, next() as u8 % 9, direction, &data, next() as u32);
                    let (_, probe) = bus.devices().nth(1).unwrap();
                    *probe = Box::<Probe>::default();
                }
            }
        }
        let (_, dma) = bus.devices().next().unwrap();
        let saved = dma.save();
        let mut other = I8237::new();
        other.restore(&saved).unwrap();
        assert_eq!(other.save(), saved);
        bus.reset();
        let (_, dma) = bus.devices().next().unwrap();
        assert_eq!(dma.save(), I8237::new().save());
    }
}
