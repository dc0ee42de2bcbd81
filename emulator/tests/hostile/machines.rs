//! Whole machines for hostile guests, and what the outside does to them meanwhile.

use devices::boards::pc::{self, CardModel, NETWORK_CARD, NetworkCard, PcConfig, SoundCards};
use emulator::{Exit, Limit, Machine, MachineConfig, Pacing, Preload};
use platform::testkit::Rng;
use platform::{BlockBackend, Input, Key, MemoryDisk, Place};
use x86::cpuid::CpuModel;

/// What a machine has: small, so that thousands are made in seconds.
pub struct Parts {
    pub model: &'static str,
    pub cpus: usize,
    pub memory_bytes: u64,
    /// The last 64 KiB below 4 GiB and below 1 MiB.
    pub bios: Vec<u8>,
    pub vga_bios: Vec<u8>,
    pub preloads: Vec<Preload>,
    pub disk: Vec<u8>,
    pub pacing: Pacing,
}

impl Parts {
    pub fn new(bios: Vec<u8>) -> Self {
        Self {
            model: "max",
            cpus: 1,
            memory_bytes: 2 << 20,
            bios,
            vga_bios: Vec::new(),
            preloads: Vec::new(),
            disk: vec![0x5A; 64 * 512],
            pacing: Pacing::Deterministic,
        }
    }

    pub fn build(self) -> Machine {
        let disk = |bytes: Vec<u8>| -> Option<Box<dyn BlockBackend>> {
            Some(Box::new(MemoryDisk::new(bytes)))
        };
        let config = PcConfig {
            disks: vec![disk(self.disk), None, disk(vec![0xA5; 5 * 512])],
            floppies: vec![disk(vec![0xF0; 1_474_560])],
            virtio_disks: disk(vec![0xC3; 40 * 512]).into_iter().collect(),
            entropy: true,
            vmmouse: true,
            virtio_input: true,
            network: Some(NetworkCard {
                model: CardModel::Virtio,
                mac: [2, 0, 0, 0, 0, 1],
                rom: Vec::new(),
            }),
            sound: Some(SoundCards {
                sb16: true,
                ac97: true,
            }),
            bios: self.bios,
            vga_bios: self.vga_bios,
            ns_per_instruction: (2, 1),
            ..PcConfig::new(self.memory_bytes)
        };
        let board = pc::build(config).expect("the parts fit");
        let config = MachineConfig {
            model: CpuModel::by_name(self.model).expect("the model is in the list"),
            cpus: self.cpus,
            keyboard: board.keyboard,
            inputs: board.inputs.clone(),
            serial: board.serial.to_vec(),
            display: board.display,
            power: board.power,
            preloads: self.preloads,
            pacing: self.pacing,
            stop_at_reset: false,
        };
        Machine::new(Box::new(board.bus), config)
    }
}

/// Any processor model: half of the time the one with all features.
pub fn any_model(rng: &mut Rng) -> &'static str {
    let names: Vec<_> = CpuModel::names().collect();
    match rng.below(2) {
        0 => "max",
        _ => names[rng.below(names.len() as u64) as usize],
    }
}

/// Runs `machine` for about `instructions`, while somebody types, and looks at the screen. Returns how
/// many were run.
pub fn drive(machine: &mut Machine, rng: &mut Rng, instructions: u64) -> u64 {
    let end = machine.retired() + instructions;
    // A machine that only waits retires nothing.
    for _ in 0..200 {
        let limit = Limit {
            retired: end.min(machine.retired() + 1 + rng.below(instructions / 4)),
            now_ns: machine.now_ns() + 1 + rng.below(30_000_000),
        };
        match machine.run_until(limit) {
            Exit::Budget | Exit::DebugExit(_) => {}
            Exit::Idle { .. } => machine.idle(1 + rng.below(10_000_000)),
            Exit::Reset | Exit::PowerOff | Exit::TripleFault | Exit::HaltedForEver => break,
        }
        if machine.retired() >= end {
            break;
        }
        match rng.below(8) {
            0 => machine.input_key(Key::A, rng.below(2) == 0),
            1 => machine.input_serial(rng.below(5) as u8, vec![rng.next_u64() as u8; 20]),
            2 => drop(machine.render()),
            3 => {
                let frame = vec![0xFF; rng.below(1600) as usize];
                machine.input(NETWORK_CARD, Input::Frame(frame));
            }
            4 => machine.input_place(Place {
                x: rng.below(0x1_0000) as u16,
                ..Place::default()
            }),
            _ => {}
        }
        machine.take_outputs();
    }
    machine.render();
    machine.take_outputs();
    machine.retired()
}

/// A BIOS that runs `code` at the reset vector in real mode, and IRET at F000:FF00.
pub fn tiny_bios(code: &[u8]) -> Vec<u8> {
    let mut bios = vec![0xF4; 0x1_0000];
    bios[..code.len()].copy_from_slice(code);
    bios[0xFF00] = 0xCF;
    // JMP F000:0000
    bios[0xFFF0..0xFFF5].copy_from_slice(&[0xEA, 0, 0, 0, 0xF0]);
    bios
}
