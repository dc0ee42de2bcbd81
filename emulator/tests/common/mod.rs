//! A machine of the PC's board, for tests that need one as it comes.

use devices::boards::pc::{self, PcConfig};
use emulator::{Machine, MachineConfig, Pacing};
use platform::DeviceId;
use x86::cpuid::CpuModel;

/// A machine on this board, with one processor and the deterministic clock; and its keyboard.
pub fn machine_on(config: PcConfig) -> (Machine, DeviceId) {
    let board = pc::build(config).expect("the parts fit");
    let keyboard = board.keyboard;
    let config = MachineConfig {
        model: CpuModel::by_name("max").expect("the model is in the list"),
        cpus: 1,
        keyboard,
        inputs: Vec::new(),
        serial: board.serial.to_vec(),
        display: board.display,
        power: board.power,
        preloads: Vec::new(),
        pacing: Pacing::Deterministic,
        stop_at_reset: false,
    };
    (Machine::new(Box::new(board.bus), config), keyboard)
}
