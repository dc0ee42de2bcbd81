//! MONITOR and MWAIT (SDM vol. 3A §9.10.3; vol. 2B).

mod common;

use common::flat32;
use platform::PhysAddr;
use x86::cpu::Reg;
use x86::{Exit, Vcpu};

const LINE: u32 = 0x2040;
const MONITOR: &[u8] = &[0x0F, 0x01, 0xC8];
const MWAIT: &[u8] = &[0x0F, 0x01, 0xC9];
const NOPS: &[u8] = &[0x90; 64];

/// Runs the pieces with EAX at a line, and tells whether they wait.
fn waits(pieces: &[&[u8]]) -> (bool, Vcpu) {
    let mut vcpu = flat32(&pieces.concat());
    vcpu.cpu.regs[Reg::RAX] = u64::from(LINE) + 8;
    let exit = vcpu.run(30);
    (exit == Exit::Halted, vcpu)
}

/// mov byte [at], 0
fn store(at: u32) -> [u8; 7] {
    let [a, b, c, d] = at.to_le_bytes();
    [0xC6, 0x05, a, b, c, d, 0]
}

#[test]
fn without_an_armed_line_mwait_goes_on() {
    assert!(!waits(&[MWAIT, NOPS]).0);
}

#[test]
fn a_store_to_the_line_wakes_even_with_the_value_that_was_there() {
    for (at, goes_on) in [
        (LINE - 1, false),
        (LINE, true),
        (LINE + 63, true),
        (LINE + 64, false),
    ] {
        let (waits, _) = waits(&[MONITOR, &store(at), MWAIT, NOPS]);
        assert_eq!(waits, !goes_on, "{at:x}");
    }
}

#[test]
fn a_store_beside_the_line_keeps_the_watch() {
    // Each store to a page that holds no code lets go of it.
    let beside = store(LINE + 64);
    assert!(!waits(&[MONITOR, &beside, &beside, &store(LINE), MWAIT, NOPS]).0);
}

#[test]
fn a_bus_master_wakes() {
    let (waits, mut vcpu) = waits(&[MONITOR, MWAIT, NOPS]);
    assert!(waits);
    assert_eq!(vcpu.run(60), Exit::Halted);
    vcpu.bus()
        .memory
        .write(PhysAddr(u64::from(LINE) + 64), &[1]);
    assert_eq!(vcpu.run(60), Exit::Halted);
    vcpu.bus()
        .memory
        .write(PhysAddr(u64::from(LINE) - 2), &[1; 3]);
    assert_eq!(vcpu.run(60), Exit::Budget);
}

#[test]
fn a_line_is_armed_for_one_wait() {
    let (waits, mut vcpu) = waits(&[MONITOR, MWAIT, MWAIT, NOPS]);
    assert!(waits);
    vcpu.bus().memory.write(PhysAddr(LINE.into()), &[1]);
    assert_eq!(vcpu.run(60), Exit::Budget);
}
