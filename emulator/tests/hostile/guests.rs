//! Whole machines with random guests.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use emulator::Pacing;
use platform::testkit::Rng;

use crate::machines::{Parts, any_model, drive, tiny_bios};
use crate::program::Program;
use crate::seeds::for_each_seed;

fn rng(seed: u64, stream: u64) -> Rng {
    let mut rng = Rng::new((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream << 32);
    rng.next_u64();
    rng
}

fn noise(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| rng.next_u64() as u8).collect()
}

/// Random bytes where a BIOS leaves a boot sector, in a machine of one of the models.
#[test]
fn random_boot_sectors() {
    for_each_seed("random boot sectors", 2000, |seed| {
        let mut rng = rng(seed, 1);
        // XOR AX, AX; MOV SS, AX; MOV SP, 7C00; STI; JMP 0:7C00
        let bios = tiny_bios(&[
            0x31, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x7C, 0xFB, 0xEA, 0x00, 0x7C, 0x00, 0x00,
        ]);
        let mut parts = Parts::new(bios);
        parts.model = any_model(&mut rng);
        let vectors = [0x00, 0xFF, 0x00, 0xF0].repeat(256);
        parts.preloads = vec![
            emulator::Preload {
                addr: 0,
                bytes: vectors,
                zeros: 0,
            },
            emulator::Preload {
                addr: 0x7C00,
                bytes: noise(&mut rng, 512),
                zeros: 0,
            },
        ];
        drive(&mut parts.build(), &mut rng, 100_000);
    });
}

/// The same on a disk, which the built-in BIOS boots.
#[test]
fn random_boot_sectors_behind_the_bios() {
    for_each_seed("random boot sectors behind the BIOS", 24, |seed| {
        let mut rng = rng(seed, 2);
        let mut parts = Parts::new(firmware::bios().to_vec());
        parts.vga_bios = firmware::vga_bios().to_vec();
        let mut sector = noise(&mut rng, 512);
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        parts.disk[..512].copy_from_slice(&sector);
        let mut machine = parts.build();
        machine.run_until(emulator::Limit {
            retired: 3_000_000,
            now_ns: 3_000_000_000,
        });
        drive(&mut machine, &mut rng, 200_000);
    });
}

/// Whole instructions in every mode, with nearly good tables.
#[test]
fn random_programs() {
    for_each_seed("random programs", 2000, |seed| {
        let mut rng = rng(seed, 3);
        let program = Program::any(&mut rng);
        let mut parts = Parts::new(program.bios);
        parts.preloads = program.preloads;
        parts.model = any_model(&mut rng);
        parts.cpus = 1 + rng.below(8).saturating_sub(5) as usize;
        if rng.below(4) == 0 {
            parts.pacing = Pacing::Realtime;
        }
        drive(&mut parts.build(), &mut rng, 100_000);
    });
}

/// What a hostile guest does is the same in each run, and by whichever engine.
#[test]
fn random_programs_are_deterministic() {
    let by_both = AtomicU64::new(0);
    for_each_seed("determinism of random programs", 60, |seed| {
        let run = |compile_after: Option<u32>| {
            let mut rng = rng(seed, 3);
            let program = Program::any(&mut rng);
            let mut parts = Parts::new(program.bios);
            parts.preloads = program.preloads;
            let mut machine = parts.build();
            if let (Some(uses), Ok(recompiler)) = (compile_after, jit::recompiler()) {
                machine.set_recompiler(recompiler);
                machine.compile_after(uses);
            }
            let retired = drive(&mut machine, &mut rng, 50_000);
            by_both.fetch_add(machine.host_figures()[0], Relaxed);
            (retired, machine.now_ns(), machine.state_hash())
        };
        let plain = run(None);
        assert!(plain == run(None), "twice the same");
        assert!(plain == run(Some(1)), "all of it compiled");
        assert!(plain == run(Some(3)), "compiled while it runs");
    });
    println!("{} instructions in host code", by_both.load(Relaxed));
}
