//! Whole x87 instructions against the host's: registers, tags, status, memory and flags after one random instruction
//! from a random state. `GLASSBOX_ORACLE_CASES` sets how many.
//!
//! Pointers (FIP, FDP, FOP) are not compared: the host's depend on its make.

use platform::PhysAddr;

use super::x87_tests::{execute, flat_vcpu};
use crate::cpu::{Reg, X87};
use crate::flags::bits;
use crate::softfloat::F80;
use crate::softfloat::tests::rng::Rng;
use crate::softfloat::tests::x87_cases;

/// Where the memory operand lies in the guest.
const SCRATCH: u64 = 0x2000;
const SCRATCH_BYTES: usize = 128;

/// A page in which the host runs generated code.
pub(super) struct HostCode(*mut u8);

/// What the host runs: state image, memory operand, image afterwards, RAX, flags; gives the flags.
type HostFn = extern "sysv64" fn(*const u8, *mut u8, *mut u8, *mut u64, u64) -> u64;

impl HostCode {
    pub(super) fn new() -> Self {
        let page: *mut u8;
        // SAFETY: mmap of one anonymous page, readable, writable and executable.
        unsafe {
            std::arch::asm!(
                "syscall",
                inout("rax") 9u64 => page, in("rdi") 0, in("rsi") 4096, in("rdx") 7, in("r10") 0x22,
                in("r8") -1i64, in("r9") 0, out("rcx") _, out("r11") _,
            );
        }
        assert!((page as i64) > 0, "mmap");
        Self(page)
    }

    /// Runs `insn`, whose memory operand is [RSI], between FRSTOR and FNSAVE.
    fn run(
        &self,
        insn: &[u8],
        before: &[u8; 108],
        memory: &mut [u8],
        rax: &mut u64,
        flags: u64,
    ) -> ([u8; 108], u64) {
        let mut code = vec![0x48, 0x8B, 0x01]; // mov rax, [rcx]
        code.extend([0xDD, 0x27]); // frstor [rdi]
        code.extend([0x41, 0x50, 0x9D]); // push r8; popfq
        code.extend(insn);
        code.extend([0x9C]); // pushfq
        code.extend([0x48, 0x89, 0x01]); // mov [rcx], rax
        code.extend([0xDD, 0x32]); // fnsave [rdx]
        code.extend([0x58, 0xC3]); // pop rax; ret
        let mut after = [0; 108];
        // SAFETY: the page holds the code above, which follows the calling convention; the instruction under test
        // accesses x87 registers, RAX, flags and at most `SCRATCH_BYTES` at `memory`.
        let flags = unsafe {
            self.0.copy_from_nonoverlapping(code.as_ptr(), code.len());
            let function: HostFn = std::mem::transmute(self.0);
            function(
                before.as_ptr(),
                memory.as_mut_ptr(),
                after.as_mut_ptr(),
                rax,
                flags,
            )
        };
        (after, flags)
    }
}

/// Random contents: operands that suit each other, some registers empty, exceptions only where masked.
fn random_state(rng: &mut Rng) -> [u8; 108] {
    let mut image = [0; 108];
    let masks = if rng.below(3) == 0 {
        rng.below(64) as u16
    } else {
        0x3F
    };
    let control =
        masks | [3, 3, 3, 2, 0][rng.below(5) as usize] << 8 | (rng.below(4) as u16) << 10 | 0x40;
    let sticky = rng.below(128) as u16 & masks & if masks & 1 == 0 { !0x40 } else { !0 };
    let status = sticky | (rng.next() as u16 & 0x7F00);
    let tags = (0..8).fold(0u16, |tags, n| {
        tags | if rng.below(4) == 0 { 3 << (2 * n) } else { 0 }
    });
    image[0..2].copy_from_slice(&control.to_le_bytes());
    image[4..6].copy_from_slice(&status.to_le_bytes());
    image[8..10].copy_from_slice(&tags.to_le_bytes());
    let mut last = rng.f80();
    for i in 0..8 {
        let value = match rng.below(4) {
            0 => rng.f80_near(last),
            1 => F80::from_i64(rng.int()),
            _ => rng.f80(),
        };
        last = value;
        image[28 + 10 * i..][..10].copy_from_slice(&value.to_bytes());
    }
    image
}

fn random_memory(rng: &mut Rng) -> [u8; SCRATCH_BYTES] {
    let mut memory = [0; SCRATCH_BYTES];
    match rng.below(4) {
        0 => memory[..4].copy_from_slice(&rng.f32().0.to_le_bytes()),
        1 => memory[..8].copy_from_slice(&rng.f64().0.to_le_bytes()),
        2 => memory[..10].copy_from_slice(&rng.f80().to_bytes()),
        _ => memory[..108].copy_from_slice(&random_state(rng)),
    }
    memory
}

fn word(image: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([image[at], image[at + 1]])
}

fn load(x87: &mut X87, image: &[u8; 108]) {
    *x87 = X87 {
        control: word(image, 0),
        status: word(image, 4),
        tag: word(image, 8),
        ..X87::INIT
    };
    for i in 0..8 {
        let value = F80::from_bytes(image[28 + 10 * i..][..10].try_into().unwrap());
        let n = (x87.top() + i) & 7;
        x87.st[n] = (value.sig, value.sign_exp);
    }
}

fn registers(image: &[u8; 108]) -> [F80; 8] {
    std::array::from_fn(|i| F80::from_bytes(image[28 + 10 * i..][..10].try_into().unwrap()))
}

/// Transcendentals may differ from the host's by a unit in the last place.
fn close(a: F80, b: F80) -> bool {
    let key = |v: F80| i128::from(v.sign_exp) << 63 | i128::from(v.sig & !(1 << 63));
    a == b || (key(a) - key(b)).abs() <= 1
}

#[test]
fn single_instructions_match_the_host() {
    let host = HostCode::new();
    let mut v = flat_vcpu();
    let mut rng = Rng::new(60);
    let mut failures = std::collections::BTreeMap::<String, (u64, String)>::new();
    for _ in 0..x87_cases(300_000) {
        let escape = 0xD8 | rng.below(8) as u8;
        let modrm = if rng.below(3) == 0 {
            (rng.below(8) << 3 | 6) as u8
        } else {
            0xC0 | rng.below(64) as u8
        };
        let emms = rng.below(1000) == 0;
        let insn = if emms { [0x0F, 0x77] } else { [escape, modrm] };
        let iced = iced_x86::Decoder::with_ip(32, &insn, 0, 0).decode();
        if iced.is_invalid() {
            continue;
        }
        let name = format!("{:?}", iced.code());
        let (before, memory) = (random_state(&mut rng), random_memory(&mut rng));
        let (rax, flags) = (rng.next(), (rng.below(2) * 0x8D5) | 2);

        let mut host_memory = memory;
        let mut host_rax = rax;
        let (after, host_flags) = host.run(&insn, &before, &mut host_memory, &mut host_rax, flags);

        load(&mut v.cpu.x87, &before);
        v.cpu.regs[Reg::RAX] = rax;
        v.cpu.regs[Reg::RSI] = SCRATCH;
        v.cpu.rflags = flags;
        v.cpu.lazy = crate::flags::LazyFlags::EXPLICIT;
        v.bus().memory.write(PhysAddr(SCRATCH), &memory);
        assert_eq!(execute(&mut v, &insn), Ok(()), "{name}");
        let mut our_memory = [0; SCRATCH_BYTES];
        v.bus().memory.read(PhysAddr(SCRATCH), &mut our_memory);

        let trans = matches!(
            (escape, modrm),
            (0xD9, 0xF0..=0xF3 | 0xF9 | 0xFB | 0xFE | 0xFF)
        );
        let x87 = &v.cpu.x87;
        // C1 of a transcendental depends on its last digit; FCOMI clears C1 by the manual, not on the host.
        let mask = if trans || name.contains("comi") {
            !0x0200
        } else {
            !0
        };
        let environment = name.contains("env") || name.contains("save");
        if environment {
            // The host's pointers, and the reserved halves of what FLDENV and FRSTOR loaded.
            for at in 12..28 {
                host_memory[at] = 0;
                our_memory[at] = 0;
            }
        }
        let ours: [F80; 8] = std::array::from_fn(|i| x87.get(i as u8));
        let theirs = registers(&after);
        let same = (x87.control, x87.status & mask, x87.tag_word())
            == (word(&after, 0), word(&after, 4) & mask, word(&after, 8))
            && ours
                .iter()
                .zip(&theirs)
                .all(|(&a, &b)| if trans { close(a, b) } else { a == b })
            && our_memory == host_memory
            && v.cpu.regs[Reg::RAX] == host_rax
            && (v.cpu.rflags ^ host_flags) & bits::ARITH == 0;
        if !same {
            let entry = failures.entry(name).or_insert_with(|| {
                let _st = registers(&before);
                let st: Vec<_> = (0..8)
                    .filter(|&i| ours[i] != theirs[i])
                    .map(|i| format!("\n  st{i} ours {:x?} host {:x?}", ours[i], theirs[i]))
                    .collect();
                let detail = format!(
                    "{:x?}\n  before {:04x} {:04x} {:04x} flags {flags:x} memory {:x?}\n  ours {:04x} {:04x} {:04x} {:x} {:x?}\n  host {:04x} {:04x} {:04x} {:x} {:x?}{}",
                    &registers(&before)[..2], word(&before, 0), word(&before, 4), word(&before, 8), &memory[..10],
                    x87.control, x87.status, x87.tag_word(), v.cpu.rflags, &our_memory[..10],
                    word(&after, 0), word(&after, 4), word(&after, 8), host_flags, &host_memory[..10], st.join(""),
                );
                (0, detail)
            });
            entry.0 += 1;
        }
    }
    for (name, (count, detail)) in &failures {
        println!("{name}: {count} failures, first:\n{detail}\n");
    }
    assert!(
        failures.is_empty(),
        "{:?}",
        failures.keys().collect::<Vec<_>>()
    );
}
