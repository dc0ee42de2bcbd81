//! The seam for a recompiler, with one that calls each instruction's full handler.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use x86::cpu::Reg;
use x86::exception::Exception;
use x86::recompiler::{BlockView, HOT, HostEntry, Recompiler, execute, is_cut, stop_at};
use x86::{Insn, Vcpu};

/// Executes `N` instructions, the last of which sets the instruction pointer.
unsafe extern "C" fn run<const N: usize>(vcpu: *mut Vcpu, first: *const Insn) -> u32 {
    for n in 0..N {
        // SAFETY: `compile` chose `N` by the block, and the run loop enters it as the contract says.
        unsafe {
            let insn = first.add(n);
            let word = execute(vcpu, insn);
            if word != 0 {
                return word;
            }
            if n + 1 < N && is_cut(insn) {
                return stop_at(vcpu, insn.add(1), Exception::Retry.to_word());
            }
        }
    }
    0
}

#[derive(Default)]
struct Counts {
    compiled: AtomicU32,
    dropped: AtomicU32,
    bytes: Mutex<Vec<Vec<u8>>>,
}

struct Caller(Arc<Counts>);

impl Recompiler for Caller {
    fn compile(&mut self, block: BlockView<'_>) -> Option<HostEntry> {
        let entries: [HostEntry; 8] = [
            run::<1>, run::<2>, run::<3>, run::<4>, run::<5>, run::<6>, run::<7>, run::<8>,
        ];
        let count = block.insns.len() + usize::from(!block.branches);
        let entry = entries.get(count - 1).copied();
        if entry.is_some() {
            self.0.compiled.fetch_add(1, Ordering::Relaxed);
            self.0.bytes.lock().unwrap().push(block.code.to_vec());
        }
        entry
    }
    fn drop_block(&mut self, _: HostEntry) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
    fn drop_all(&mut self) {}
}

/// Runs `code` for `count` instructions, in uneven pieces, with and without the recompiler; both must agree.
fn both(code: &[u8], ecx: u64, count: u64) -> (Vcpu, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let [plain, compiled] = [false, true].map(|compiles| {
        let mut vcpu = common::flat32(code);
        if compiles {
            vcpu.code_mut()
                .set_recompiler(Box::new(Caller(counts.clone())));
        }
        vcpu.cpu.regs[Reg::RCX] = ecx;
        let mut until = 0;
        while until < count {
            until = (until + 1 + until % 97).min(count);
            vcpu.run(until);
        }
        vcpu
    });
    assert_eq!(plain.cpu.regs, compiled.cpu.regs);
    assert_eq!(plain.cpu.rflags(), compiled.cpu.rflags());
    (compiled, counts)
}

#[test]
fn a_hot_block_runs_host_code_and_counts_as_ever() {
    // l: inc eax; dec ecx; jnz l; jmp $
    let code = [0x40, 0x49, 0x75, 0xFC, 0xEB, 0xFE];
    let (vcpu, counts) = both(&code, 1000, 3 * 1000 + 50);
    assert_eq!(vcpu.cpu.regs[Reg::RAX], 1000);
    // The loop, and the jump to itself; what cuts of slices leave over is not hot.
    assert!(counts.compiled.load(Ordering::Relaxed) >= 2);
    assert_eq!(counts.bytes.lock().unwrap()[0], code[..4]);
    let (_, counts) = both(&code, u64::from(HOT) - 2, 3 * u64::from(HOT) - 6);
    assert_eq!(counts.compiled.load(Ordering::Relaxed), 0);
}

#[test]
fn host_code_of_a_block_that_rewrites_itself_is_dropped() {
    // l: add eax, 1 (imm8 at 0x1002); inc byte [0x1002]; dec ecx; jnz l; jmp $: each round another block.
    let code = [
        0x83, 0xC0, 1, 0xFE, 0x05, 0x02, 0x10, 0, 0, 0x49, 0x75, 0xF4, 0xEB, 0xFE,
    ];
    both(&code, 100, 4 * 100);
    // l: test cl, 31; jnz m; inc byte [0x100E + 2]; m: dec ecx; add eax, 1; jnz l: now and then.
    let code = [
        0xF6, 0xC1, 31, 0x75, 6, 0xFE, 0x05, 0x0E, 0x10, 0, 0, 0x49, 0x83, 0xC0, 1, 0x85, 0xC9,
        0x75, 0xED, 0xEB, 0xFE,
    ];
    let (_, counts) = both(&code, 2000, 12_000);
    let dropped = counts.dropped.load(Ordering::Relaxed);
    assert!(dropped > 10, "{dropped}");
}

#[test]
fn a_fault_in_host_code_is_the_instructions_own() {
    // l: dec ecx; mov eax, [ecx * 4]; ud2 when ecx is 0 by way of: jnz l; ud2 (no IDT: triple fault).
    let code = [
        0x49, 0x8B, 0x04, 0x8D, 0, 0, 0, 0, 0x85, 0xC9, 0x75, 0xF4, 0x0F, 0x0B,
    ];
    let (vcpu, _) = both(&code, 100, 1000);
    assert!(vcpu.is_shut_down());
}
