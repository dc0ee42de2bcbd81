//! VMware's absolute pointer, at the backdoor port of its machines, as QEMU's PCs have it too:
//! systems of the last twenty years find it without a driver of their own.
//!
//! Sources: VMware, "Knowledge base: mechanisms to determine if software is running in a VMware
//! virtual machine" for the backdoor; the protocol is that of X.org's vmmouse driver and Linux's.
//!
//! A program puts 564D5868h into EAX, a command into ECX and 5658h into DX, and reads the port by
//! IN EAX, DX; the answer is in EAX and more registers.
//!
//! | command | EBX | answer |
//! |---|---|---|
//! | 0A | | the version: EAX 6, EBX the number that was in EAX |
//! | 27 | words that are wanted | so many words of the queue: EAX, EBX, ECX, EDX |
//! | 28 | | EAX: words in the queue, FFFF0000 while it is off or after a mistake |
//! | 29 | 45414552 | switches it on: the queue holds its version, 3442554A |
//! | 29 | 53424152, 4C455252 | positions, movements |
//! | 29 | F5 | switches it off |
//!
//! What happens is four words in the queue: buttons (20h left, 10h right, 8 middle), where it is or
//! how far it went, and the wheel. The PS/2 mouse then says that something did, as the interrupt is
//! its.
//!
//! Not modelled: the backdoor's other commands.

use std::collections::VecDeque;

use log::{debug, warn};
use platform::{Device, DeviceCtx, DeviceId, Input, Motion, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "vmmouse";

const MAGIC: u32 = 0x564D_5868;
const GET_VERSION: u32 = 10;
const DATA: u32 = 39;
const STATUS: u32 = 40;
const COMMAND: u32 = 41;

const SWITCH_ON: u32 = 0x4541_4552;
const POSITIONS: u32 = 0x5342_4152;
const MOVEMENTS: u32 = 0x4C45_5252;
const SWITCH_OFF: u32 = 0x0000_00F5;

/// The version of the backdoor, and of the mouse.
const BACKDOOR_VERSION: u32 = 6;
const MOUSE_VERSION: u32 = 0x3442_554A;

/// STATUS while it is off, and what else is unknown.
const OFF: u32 = 0xFFFF_0000;
const UNKNOWN: u32 = !0;

/// A packet, and how many words wait at most.
const PACKET: usize = 4;
const MOST_WORDS: usize = 256 * PACKET;
/// The most words that are handed out at once.
const MOST_AT_ONCE: u32 = 4;

/// All that is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    on: bool,
    absolute: bool,
    /// The driver asked for more than there was.
    failed: bool,
    queue: VecDeque<u32>,
}

/// The device.
pub struct VmMouse {
    /// Whose interrupt says that something happened.
    mouse: DeviceId,
    state: State,
}

impl VmMouse {
    /// Region: the port.
    pub const PORTS: u8 = 0;
    /// Where it is.
    pub const PORT: u16 = 0x5658;

    const VERSION: u32 = 1;

    /// A pointer that is off, beside the PS/2 mouse of this device.
    pub fn new(mouse: DeviceId) -> Self {
        let state = State::default();
        Self { mouse, state }
    }

    /// What EAX and the registers behind it are.
    fn answer(&mut self, [magic, argument, command, ..]: [u32; 6]) -> Option<(u32, [u32; 3])> {
        let state = &mut self.state;
        let mut more = [0; 3];
        let value = match command & 0xFFFF {
            _ if magic != MAGIC => return None,
            GET_VERSION => {
                more[0] = MAGIC;
                BACKDOOR_VERSION
            }
            DATA => {
                let fits = (1..=MOST_AT_ONCE).contains(&argument);
                if !fits || argument as usize > state.queue.len() {
                    debug!(target: TARGET, "{argument} words are wanted of {}", state.queue.len());
                    state.failed = true;
                    return None;
                }
                let mut words = state.queue.drain(..argument as usize);
                let value = words.next().unwrap_or(0);
                words.zip(&mut more).for_each(|(word, to)| *to = word);
                value
            }
            STATUS if !state.on || state.failed => OFF,
            STATUS => state.queue.len() as u32,
            COMMAND => {
                self.command(argument);
                return None;
            }
            _ => return None,
        };
        Some((value, more))
    }

    fn command(&mut self, command: u32) {
        debug!(target: TARGET, "command {command:08x}");
        let state = &mut self.state;
        match command {
            SWITCH_ON => {
                *state = State {
                    on: true,
                    ..State::default()
                };
                state.queue.push_back(MOUSE_VERSION);
            }
            POSITIONS | MOVEMENTS => state.absolute = command == POSITIONS,
            SWITCH_OFF => *state = State::default(),
            _ => warn!(target: TARGET, "unknown command {command:08x}"),
        }
    }
}

impl Device for VmMouse {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8) -> u64 {
        !0
    }

    fn write(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, _: u64) {}

    fn exchange(&mut self, _: &mut DeviceCtx<'_>, registers: &mut [u32; 6]) {
        let command = registers[2] & 0xFFFF;
        match self.answer(*registers) {
            Some((value, more)) => {
                registers[0] = value;
                // Of those that are not part of an answer the driver may keep something in them.
                let count = match command {
                    GET_VERSION => 1,
                    DATA => registers[1].saturating_sub(1).min(3) as usize,
                    _ => 0,
                };
                registers[1..1 + count].copy_from_slice(&more[..count]);
            }
            None if registers[0] == MAGIC && command == COMMAND => {}
            None => registers[0] = UNKNOWN,
        }
    }

    fn on_input(&mut self, ctx: &mut DeviceCtx<'_>, input: &Input) {
        let Input::Pointer(place) = input else {
            return;
        };
        let state = &mut self.state;
        if !state.on || !state.absolute || state.queue.len() + PACKET > MOST_WORDS {
            return;
        }
        let [left, right, middle] = [0, 1, 2].map(|bit| u32::from(place.buttons >> bit & 1));
        state.queue.extend([
            left << 5 | right << 4 | middle << 3,
            place.x.into(),
            place.y.into(),
            place.dz as u32,
        ]);
        // Any packet will do: what it says is not looked at.
        let said = Motion {
            dx: 1,
            ..Motion::default()
        };
        ctx.send(self.mouse, said.into());
    }

    fn takes_input(&self, input: &Input) -> bool {
        !matches!(input, Input::Pointer(_)) || self.state.queue.is_empty()
    }

    fn listens(&self, input: &Input) -> bool {
        matches!(input, Input::Pointer(_)) && self.state.on && self.state.absolute
    }

    fn reset(&mut self, _: &mut DeviceCtx<'_>) {
        self.state = State::default();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        let saved: State = state.decode(Self::VERSION)?;
        if saved.queue.len() > MOST_WORDS {
            return Err(StateError::Unsound(
                "more words than the pointer's queue holds",
            ));
        }
        self.state = saved;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use platform::testkit::bus_with;
    use platform::{Bus, Place};

    use super::*;

    platform::device_contract!(contract, VmMouse::new(DeviceId(0)), [(0, 4, 4)]);

    fn board() -> Bus {
        // It stands for the PS/2 mouse as well, which it ignores.
        let mut bus = bus_with(Box::new(VmMouse::new(DeviceId(0))), 0, 4);
        bus.exchange_at(VmMouse::PORT, DeviceId(0));
        bus.reset();
        bus
    }

    fn ask(bus: &mut Bus, command: u32, argument: u32) -> [u32; 6] {
        let mut registers = [MAGIC, argument, command, 0xAAAA_5658, 0x51, 0xD1];
        assert!(bus.exchange(VmMouse::PORT, &mut registers));
        registers
    }

    fn place(x: u16, y: u16, buttons: u8) -> Input {
        let dz = -1;
        Input::Pointer(Place { x, y, dz, buttons })
    }

    #[test]
    fn a_driver_finds_it_and_reads_where_the_pointer_is() {
        let mut bus = board();
        assert_eq!(ask(&mut bus, GET_VERSION, !MAGIC)[..2], [6, MAGIC]);
        assert_eq!(ask(&mut bus, STATUS, 0)[0], 0xFFFF_0000);
        bus.input(DeviceId(0), &place(1, 2, 1));
        ask(&mut bus, COMMAND, SWITCH_ON);
        assert_eq!(ask(&mut bus, STATUS, 0)[0], 1);
        assert_eq!(ask(&mut bus, DATA, 1)[0], MOUSE_VERSION);
        assert!(
            !bus.listens(DeviceId(0), &place(0, 0, 0)),
            "not for positions"
        );
        ask(&mut bus, COMMAND, POSITIONS);
        assert!(bus.listens(DeviceId(0), &place(0, 0, 0)));
        bus.input(DeviceId(0), &place(0x1234, 0xFFFF, 0b101));
        assert!(!bus.takes_input(DeviceId(0), &place(0, 0, 0)));
        assert_eq!(ask(&mut bus, STATUS, 0)[0], 4);
        let said = ask(&mut bus, DATA, 4);
        assert_eq!(said, [0x28, 0x1234, 0xFFFF, !0, 0x51, 0xD1]);
        assert_eq!(ask(&mut bus, STATUS, 0)[0], 0);
        ask(&mut bus, COMMAND, SWITCH_OFF);
        assert!(!bus.listens(DeviceId(0), &place(0, 0, 0)));
    }

    #[test]
    fn a_driver_that_asks_for_too_much_has_to_start_over_and_a_stranger_hears_nothing() {
        let mut bus = board();
        ask(&mut bus, COMMAND, SWITCH_ON);
        for argument in [0, 2, 5, !0] {
            assert_eq!(ask(&mut bus, DATA, argument)[0], !0);
            assert_eq!(ask(&mut bus, STATUS, 0)[0], 0xFFFF_0000);
        }
        ask(&mut bus, COMMAND, SWITCH_ON);
        assert_eq!(ask(&mut bus, STATUS, 0)[0], 1);
        let mut registers = [1, 2, GET_VERSION, 4, 5, 6];
        assert!(bus.exchange(VmMouse::PORT, &mut registers));
        assert_eq!(registers, [!0, 2, GET_VERSION, 4, 5, 6]);
        assert!(!bus.exchange(VmMouse::PORT + 1, &mut registers));
        assert_eq!(ask(&mut bus, 99, 0)[0], !0);
    }

    #[test]
    fn a_queue_that_nobody_reads_does_not_grow() {
        let mut bus = board();
        ask(&mut bus, COMMAND, SWITCH_ON);
        ask(&mut bus, COMMAND, POSITIONS);
        for n in 0..10_000 {
            bus.input(DeviceId(0), &place(n, n, 0));
        }
        assert_eq!(ask(&mut bus, STATUS, 0)[0], 1021);
    }
}
