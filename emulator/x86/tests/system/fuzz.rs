//! No bytes make the processor panic, in any mode, on any model.

use platform::testkit::Rng;
use x86::cpu::Reg;
use x86::cpuid::CpuModel;

use crate::harness::{CODE, Machine};

fn scramble(m: &mut Machine, random: &mut Rng) {
    let mut code = [0u8; 256];
    for byte in &mut code {
        *byte = random.next_u64() as u8;
    }
    // Two-byte opcodes, where the system instructions are, get their share.
    for at in (0..256).step_by(16) {
        if random.next_u64() & 3 == 0 {
            code[at] = 0x0F;
        }
    }
    for (n, byte) in code.into_iter().enumerate() {
        m.poke8(CODE + n as u64, byte);
    }
    for n in 0..16 {
        if n != Reg::RSP {
            m.v.cpu.regs[n] = random.next_u64() >> (random.next_u64() & 63);
        }
    }
}

#[test]
fn random_code_never_panics() {
    let mut random = Rng::new(1);
    for round in 0..3000 {
        let mut m = match round % 6 {
            0 => Machine::new(&[]),
            1 => Machine::user(&[]),
            2 => Machine::long(&[], 0),
            3 => Machine::long(&[], 3),
            4 => Machine::virtual8086(&[], random.next_u64() & 3),
            _ => {
                let names: Vec<_> = CpuModel::names().collect();
                let name = names[random.next_u64() as usize % names.len()];
                Machine::with_model(name, &[])
            }
        };
        scramble(&mut m, &mut random);
        for _ in 0..8 {
            let until = m.v.bus().clock.retired() + 40;
            if m.v.run(until) != x86::Exit::Budget {
                break;
            }
        }
    }
}
