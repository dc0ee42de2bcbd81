//! Machines that are saved and restored at random instants: the run must not show it; and states that somebody tampered
//! with: they are refused, or do no harm.

use emulator::{Exit, Limit, Machine, MachineState};
use platform::testkit::Rng;
use platform::{Input, Key, PhysAddr};

use crate::machines::{Parts, any_model, tiny_bios};
use crate::program::Program;
use crate::seeds::for_each_seed;

/// What a run shows to the outside.
#[derive(PartialEq, Eq)]
struct Seen {
    hash: [u8; 32],
    outputs: Vec<platform::Output>,
    screen: Option<platform::Frame>,
    end: Option<Exit>,
}

/// Takes all of a machine into another one that is built alike.
fn moved(machine: &mut Machine, make: &dyn Fn() -> Machine) -> Machine {
    let state = machine.state();
    let mut other = make();
    // Whatever it did before must not matter.
    other.run(1000);
    other.input_key(Key::B, true);
    other
        .set_state(&state)
        .unwrap_or_else(|error| panic!("a state just taken is refused: {error}"));
    let mut at = 0;
    let mut pieces = Vec::new();
    machine
        .bus()
        .memory
        .visit_ram(|piece| pieces.push(piece.to_vec()));
    for piece in pieces {
        other.bus_mut().memory.set_ram(at, &piece);
        at += piece.len() as u64;
    }
    other
}

/// Runs a machine in pieces, with the same inputs each time; `moves`: through a new machine at each border.
fn run(make: &dyn Fn() -> Machine, seed: u64, pieces: u64, moves: bool) -> Seen {
    let mut rng = Rng::new(seed ^ 0x5A5E);
    let mut machine = make();
    let mut outputs = Vec::new();
    let mut end = None;
    for _ in 0..pieces {
        let limit = Limit {
            retired: machine.retired() + 1 + rng.below(40_000),
            now_ns: machine.now_ns() + 1 + rng.below(30_000_000),
        };
        let exit = machine.run_until(limit);
        outputs.extend(machine.take_outputs());
        match exit {
            Exit::Budget | Exit::DebugExit(_) => {}
            Exit::Idle { .. } => machine.idle(1 + rng.below(10_000_000)),
            exit => {
                end = Some(exit);
                break;
            }
        }
        if moves {
            machine = moved(&mut machine, make);
        }
        match rng.below(8) {
            0 => machine.input_key(Key::A, rng.below(2) == 0),
            1 => machine.input_serial(rng.below(5) as u8, vec![rng.next_u64() as u8; 20]),
            2 => {
                let input = Input::Mouse {
                    dx: 5,
                    dy: -3,
                    dz: 0,
                    buttons: 1,
                };
                machine.input("i8042", input);
            }
            3 => drop(machine.render()),
            _ => {}
        }
    }
    Seen {
        hash: machine.state_hash(),
        outputs,
        screen: machine.render(),
        end,
    }
}

fn equal(make: &dyn Fn() -> Machine, seed: u64, pieces: u64) {
    let (straight, restored) = (
        run(make, seed, pieces, false),
        run(make, seed, pieces, true),
    );
    assert_eq!(straight.end, restored.end);
    assert!(straight.outputs == restored.outputs, "other output");
    assert!(straight.screen == restored.screen, "another screen");
    assert_eq!(straight.hash, restored.hash);
}

fn program(seed: u64, cpus: usize) -> impl Fn() -> Machine {
    move || {
        let mut rng = Rng::new((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        rng.next_u64();
        let program = Program::any(&mut rng);
        let mut parts = Parts::new(program.bios);
        parts.preloads = program.preloads;
        parts.model = any_model(&mut rng);
        parts.cpus = cpus;
        parts.build()
    }
}

#[test]
fn a_random_program_does_not_notice_save_and_restore() {
    for_each_seed("saves of random programs", 60, |seed| {
        equal(&program(seed, 1), seed, 12);
    });
}

/// With two and four processors.
#[test]
fn random_programs_of_several_processors_do_not_notice_save_and_restore() {
    for_each_seed("saves of several processors", 20, |seed| {
        for cpus in [2, 4] {
            equal(&program(seed, cpus), seed, 8);
        }
    });
}

/// Real-mode code that keeps every device busy: interval timer, clock, keyboard, serial port in loopback, disk by DMA,
/// floppy, display, DMA controller, PCI, and everything that sounds.
fn busy(cpus: usize) -> Machine {
    let code = include_bytes!("busy.bin");
    let mut parts = Parts::new(tiny_bios(code));
    parts.vga_bios = firmware::vga_bios().to_vec();
    parts.cpus = cpus;
    parts.build()
}

/// Which source of sound an output is of.
fn stream(output: platform::Output) -> Option<(platform::DeviceId, u8)> {
    match output.what {
        platform::Said::Sound(sound) => Some((output.device, sound.stream)),
        _ => None,
    }
}

#[test]
fn a_machine_with_every_device_busy_does_not_notice_save_and_restore() {
    for cpus in [1, 2, 4] {
        // All of them work.
        let mut machine = busy(cpus);
        machine.run(1_000_000);
        let numbers = machine.bus().memory.read_array::<1>(PhysAddr(0x530));
        assert_eq!(usize::from(numbers[0]), cpus, "processors have started");
        let interrupts = machine.bus().memory.read_array::<4>(PhysAddr(0x520));
        assert!(u32::from_le_bytes(interrupts) > 10, "interrupts are served");
        let mut streams: Vec<_> = machine
            .take_outputs()
            .into_iter()
            .filter_map(stream)
            .collect();
        streams.sort_unstable();
        streams.dedup();
        assert_eq!(
            streams.len(),
            4,
            "speaker, two of the Sound Blaster, AC'97: {streams:?}"
        );
    }
    for_each_seed("saves of a busy machine", 6, |seed| {
        let cpus = [1, 2, 4][seed as usize % 3];
        equal(&move || busy(cpus), seed, 50);
    });
}

/// Bytes changed anywhere in a state: it is refused, with the machine as it was, or it runs without harm.
#[test]
fn a_state_that_was_tampered_with_does_no_harm() {
    for_each_seed("states tampered with", 100, |seed| {
        let mut rng = Rng::new(seed + 77);
        let make = program(seed % 10, 1 + (seed % 2) as usize);
        let mut machine = make();
        machine.run(1 + rng.below(50_000));
        let mut state: MachineState = machine.state();
        for _ in 0..1 + rng.below(4) {
            let which = rng.below(state.components.len() as u64) as usize;
            let component = &mut state.components[which];
            let bytes = &mut component.state.bytes;
            if bytes.is_empty() {
                continue;
            }
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(4) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes[at] ^= 1 << rng.below(8),
                2 => bytes.truncate(at),
                _ => bytes[at] = 0xFF,
            }
        }
        let mut other = make();
        let before = other.state_hash();
        match other.set_state(&state) {
            Ok(()) => {
                other.run_until(Limit {
                    retired: other.retired().saturating_add(20_000),
                    now_ns: other.now_ns().saturating_add(5_000_000),
                });
                other.render();
            }
            Err(_) => assert_eq!(other.state_hash(), before, "a refused state left traces"),
        }
    });
}

#[test]
fn a_state_of_another_machine_is_refused_in_words() {
    let refused = |change: fn(&mut Parts)| {
        let make = |change: Option<fn(&mut Parts)>| {
            let mut parts = Parts::new(tiny_bios(&[0xEB, 0xFE]));
            if let Some(change) = change {
                change(&mut parts);
            }
            parts.build()
        };
        let state = make(Some(change)).state();
        make(None).set_state(&state).unwrap_err().to_string()
    };
    assert!(refused(|parts| parts.model = "i486").contains("processor model"));
    assert!(refused(|parts| parts.cpus = 2).contains("cpu1"));
    assert!(refused(|parts| parts.memory_bytes = 4 << 20).contains("size of RAM"));
}

/// A machine that an earlier build saved into the folder beside this file. `GLASSBOX_BLESS=1` makes the save of a new
/// format; what is there already stays, as its machines are to be restored for ever.
#[test]
fn an_old_save_still_restores() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/saved-1");
    let small = || {
        let mut parts = Parts::new(tiny_bios(include_bytes!("busy.bin")));
        parts.memory_bytes = 1 << 20;
        parts.cpus = 2;
        parts.build()
    };
    if std::env::var_os("GLASSBOX_BLESS").is_some() && !folder.exists() {
        let mut machine = small();
        machine.run(1_000_000);
        machine.take_outputs();
        emulator::saved::save(&folder, &mut machine, "busy".into(), &mut []).unwrap();
    }
    let saved = emulator::saved::Saved::open(&folder).unwrap();
    saved.verify_ram().unwrap();
    let mut machine = small();
    saved.restore(&mut machine).unwrap();
    assert_eq!(machine.retired(), 1_000_000);
    // It counts, its timers fire and its disk turns.
    let count = |machine: &Machine, at: u64| {
        u32::from_le_bytes(machine.bus().memory.read_array::<4>(PhysAddr(at)))
    };
    let before = [0x510, 0x520].map(|at| count(&machine, at));
    assert!(before.iter().all(|&count| count > 0), "{before:?}");
    machine.run(1_000_000);
    let after = [0x510, 0x520].map(|at| count(&machine, at));
    assert!(
        after[0] > before[0] && after[1] > before[1],
        "{before:?} {after:?}"
    );
}
