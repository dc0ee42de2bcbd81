//! The debug console of Bochs and the debug exit of QEMU.
//!
//! Sources: Bochs user manual, `port_e9_hack`; QEMU `isa-debug-exit`.
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`DebugPort::CONSOLE`] | E9 | a write is a byte of text; reads as E9, by which a guest knows it is there |
//! | [`DebugPort::FIRMWARE`] | 402 | the same console, where SeaBIOS and OVMF look for it |
//! | [`DebugPort::EXIT`] | F4-F7 | a write of 1, 2 or 4 bytes ends the run with that value; reads as 0 |

use log::debug;
use platform::{Device, DeviceCtx, MachineRequest, SavedState, StateError, StateView};

const TARGET: &str = "debug_port";

/// Both ports; they keep nothing.
#[derive(Clone, Debug, Default)]
pub struct DebugPort;

impl DebugPort {
    /// Region: the console.
    pub const CONSOLE: u8 = 0;
    /// Region: the exit.
    pub const EXIT: u8 = 1;
    /// Region: the console where firmware looks for it.
    pub const FIRMWARE: u8 = 2;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] = &[
        (Self::CONSOLE, 0xE9, 1, 1),
        (Self::EXIT, 0xF4, 4, 4),
        (Self::FIRMWARE, 0x402, 1, 1),
    ];

    const VERSION: u32 = 1;

    /// The ports.
    pub fn new() -> Self {
        Self
    }
}

impl Device for DebugPort {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, region: u8, _: u64, _: u8) -> u64 {
        match region {
            Self::CONSOLE | Self::FIRMWARE => 0xE9,
            _ => 0,
        }
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, _: u64, _: u8, value: u64) {
        match region {
            Self::CONSOLE | Self::FIRMWARE => ctx.output_byte(value as u8),
            Self::EXIT => {
                debug!(target: TARGET, "exit with {value:#x}");
                ctx.request(MachineRequest::DebugExit(value as u32));
            }
            _ => {}
        }
    }

    fn reset(&mut self, _: &mut DeviceCtx<'_>) {}

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, ())
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        state.decode(Self::VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::bus_with_regions;
    use platform::{Bus, DeviceId, Output, Said};

    platform::device_contract!(
        contract,
        DebugPort::new(),
        [
            (DebugPort::CONSOLE, 1, 1),
            (DebugPort::EXIT, 4, 4),
            (DebugPort::FIRMWARE, 1, 1)
        ]
    );

    fn ports() -> Bus {
        bus_with_regions(Box::new(DebugPort::new()), DebugPort::MAP)
    }

    #[test]
    fn the_console_hands_out_bytes_and_identifies_itself() {
        let mut bus = ports();
        bus.pio_write(0xE9, 1, 0x41);
        let said = Output {
            device: DeviceId(0),
            what: Said::Bytes(vec![0x41]),
        };
        assert_eq!(bus.outputs, [said]);
        assert_eq!(bus.pio_read(0xE9, 1), 0xE9);
    }

    #[test]
    fn an_exit_takes_values_of_any_width() {
        for (size, value) in [(1, 0x31), (2, 0x1234), (4, 0x8765_4321)] {
            let mut bus = ports();
            bus.pio_write(0xF4, size, value);
            assert_eq!(bus.request, Some(MachineRequest::DebugExit(value)));
        }
    }
}
