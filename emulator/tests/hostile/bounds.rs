//! What a guest cannot do is to keep the host busy without an end: a call to run returns at its budget.
//!
//! The limits are far above what a case takes on an idle host, and far below for ever.

use std::time::{Duration, Instant};

use emulator::{Exit, Machine, Preload};

use crate::machines::{Parts, tiny_bios};

const BUDGET: u64 = 1_000_000;
const MOST: Duration = Duration::from_secs(30);
const CODE: u64 = 0x8000;

fn preload(addr: u64, bytes: Vec<u8>) -> Preload {
    Preload {
        addr,
        bytes,
        zeros: 0,
    }
}

/// A machine in real mode with `code` at 0:8000, interrupts off and all vectors at an IRET.
fn real(code: &[u8]) -> Machine {
    // CLI; XOR AX, AX; MOV DS, ES, SS, AX; MOV SP, 7C00; JMP 0:8000
    let mut parts = Parts::new(tiny_bios(&[
        0xFA, 0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x7C, 0xEA, 0x00, 0x80,
        0x00, 0x00,
    ]));
    parts.preloads = vec![
        preload(0, [0x00, 0xFF, 0x00, 0xF0].repeat(256)),
        preload(CODE, code.to_vec()),
    ];
    parts.build()
}

/// A machine in flat 32-bit protected mode with `code` at 8000, and no interrupt table.
fn flat(code: &[u8], more: Vec<Preload>) -> Machine {
    // LGDT CS:[40]; MOV EAX, CR0; OR AL, 1; MOV CR0, EAX; JMP 8:000F0020
    let mut bios = vec![
        0xFA, 0x2E, 0x66, 0x0F, 0x01, 0x16, 0x40, 0x00, 0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22,
        0xC0, 0x66, 0xEA, 0x20, 0x00, 0x0F, 0x00, 0x08, 0x00,
    ];
    bios.resize(0x20, 0x90);
    // MOV EAX, 10; MOV DS, ES, SS, AX; MOV ESP, 7C00; MOV EAX, 8000; JMP EAX
    bios.extend([
        0xB8, 0x10, 0, 0, 0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x7C, 0, 0, 0xB8,
        0x00, 0x80, 0, 0, 0xFF, 0xE0,
    ]);
    bios.resize(0x40, 0x90);
    bios.extend([0x17, 0, 0x48, 0, 0x0F, 0, 0, 0]);
    for entry in [0u64, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF] {
        bios.extend(entry.to_le_bytes());
    }
    let mut parts = Parts::new(tiny_bios(&bios));
    parts.preloads = more;
    parts.preloads.push(preload(CODE, code.to_vec()));
    parts.build()
}

/// Runs up to the budget, and says how it ended.
fn run(what: &str, mut machine: Machine) -> (Exit, Machine) {
    let started = Instant::now();
    let exit = machine.run(BUDGET);
    let took = started.elapsed();
    println!("{what}: {} instructions in {took:?}", machine.retired());
    assert!(took < MOST, "{what}: {took:?}");
    assert!(machine.retired() <= BUDGET + 1, "{what}");
    (exit, machine)
}

fn uses_up(what: &str, machine: Machine) {
    let (exit, machine) = run(what, machine);
    assert_eq!(exit, Exit::Budget, "{what}");
    assert!(machine.retired() >= BUDGET, "{what}");
}

#[test]
fn repeats_with_huge_counts_stop_at_the_budget() {
    for (name, string) in [
        ("rep movsb", &[0xF3, 0xA4][..]),
        ("rep movsd", &[0xF3, 0xA5]),
        ("rep stosd", &[0xF3, 0xAB]),
        ("rep lodsb", &[0xF3, 0xAC]),
        ("rep insb", &[0xF3, 0x6C]),
        ("rep insd", &[0xF3, 0x6D]),
        ("rep outsb", &[0xF3, 0x6E]),
        ("rep outsd", &[0xF3, 0x6F]),
        ("repne scasb", &[0xF2, 0xAE]),
        ("repe cmpsd", &[0xF3, 0xA7]),
    ] {
        for (place, at) in [
            ("RAM", 0x10_0000u32),
            ("VGA", 0xA_0000),
            ("nothing", 0x4000_0000),
        ] {
            for port in [0x1F0u16, 0x3C9, 0xE9, 0x40, 0xCFC] {
                // MOV ECX, -1; MOV ESI, at; MOV EDI, at; MOV EDX, port; MOV EAX, 12345678
                let mut code = vec![0xB9, 0xFF, 0xFF, 0xFF, 0xFF, 0xBE];
                code.extend(at.to_le_bytes());
                code.push(0xBF);
                code.extend(at.to_le_bytes());
                code.push(0xBA);
                code.extend(u32::from(port).to_le_bytes());
                code.extend([0xB8, 0x78, 0x56, 0x34, 0x12]);
                code.extend(string);
                // Again, should it end.
                code.extend([0xEB, 0xE1 - string.len() as u8 + 2]);
                uses_up(&format!("{name} {place} {port:x}"), flat(&code, Vec::new()));
                if !matches!(string[1], 0x6C..=0x6F) {
                    break;
                }
            }
        }
    }
}

#[test]
fn halting_between_the_fastest_timers_goes_on() {
    // Both controllers with automatic EOI, IRQ 0, 2 and 8 open; channel 0 in mode 2 with a count of
    // 2; the RTC's periodic interrupt at 8192 Hz; STI; HLT; JMP HLT.
    let mut code = Vec::new();
    for (port, value) in [
        (0x20u8, 0x11u8),
        (0x21, 0x08),
        (0x21, 0x04),
        (0x21, 0x03),
        (0xA0, 0x11),
        (0xA1, 0x70),
        (0xA1, 0x02),
        (0xA1, 0x03),
        (0x21, 0xFA),
        (0xA1, 0xFE),
        (0x43, 0x34),
        (0x40, 0x02),
        (0x40, 0x00),
        (0x70, 0x0A),
        (0x71, 0x23),
        (0x70, 0x0B),
        (0x71, 0x42),
    ] {
        code.extend([0xB0, value, 0xE6, port]);
    }
    let loop_at = code.len() as u8;
    code.extend([0xFB, 0xF4, 0xEB, 0xFC]);
    assert!(loop_at > 0);
    let (exit, machine) = run("fast timers", real(&code));
    assert_eq!(exit, Exit::Budget);
    assert!(machine.retired() > 1000);

    // The same, but nothing gets through to wake the processor.
    let masked = code.len();
    let mut all_masked = code[..masked - 4].to_vec();
    all_masked.extend([0xB0, 0xFF, 0xE6, 0x21, 0xFB, 0xF4, 0xEB, 0xFC]);
    let (exit, machine) = run("masked timers", real(&all_masked));
    assert_eq!(exit, Exit::Budget);
    assert!(machine.retired() < 1000);
}

#[test]
fn a_line_that_stays_high_goes_on() {
    // Automatic EOI, all lines level-triggered; the UART's THRE interrupt stays on IRQ 4; the
    // handlers of all vectors turn interrupts on again at once, on a stack that wraps around.
    // MOV AX, 1000; MOV SS, AX
    let mut code = vec![0xB8, 0x00, 0x10, 0x8E, 0xD0];
    for (port, value) in [
        (0x20u16, 0x11u8),
        (0x21, 0x20),
        (0x21, 0x04),
        (0x21, 0x03),
        (0x4D0, 0xF8),
        (0x21, 0x00),
        (0x3FC, 0x08),
        (0x3F9, 0x02),
    ] {
        code.extend([0xBA, port as u8, (port >> 8) as u8, 0xB0, value, 0xEE]);
    }
    code.extend([0xFB, 0x90, 0xEB, 0xFC]);
    let mut machine = real(&code);
    // STI; NOP; JMP $-1: never returns, and each interrupt nests.
    machine
        .bus_mut()
        .memory
        .write(platform::PhysAddr(0x9000), &[0xFB, 0x90, 0xEB, 0xFC]);
    machine
        .bus_mut()
        .memory
        .write(platform::PhysAddr(0), &[0x00, 0x90, 0, 0].repeat(256));
    uses_up("interrupt storm", machine);
}

#[test]
fn exceptions_that_raise_each_other_go_on() {
    // Each vector leads to an undefined instruction.
    let mut machine = real(&[0xB8, 0x00, 0x10, 0x8E, 0xD0, 0x0F, 0x0B]);
    machine
        .bus_mut()
        .memory
        .write(platform::PhysAddr(0), &[0x05, 0x80, 0, 0].repeat(256));
    uses_up("#UD in the handler of #UD", machine);
    // Each vector leads to an address that cannot be fetched: FFFF:FFFF at the end of the segment.
    let mut machine = real(&[0xB8, 0x00, 0x10, 0x8E, 0xD0, 0xCD, 0x21]);
    machine
        .bus_mut()
        .memory
        .write(platform::PhysAddr(0), &[0xFF, 0xFF, 0xFF, 0xFF].repeat(256));
    uses_up("handlers at the segment's end", machine);
    // No interrupt table at all.
    let (exit, _) = run("no table", flat(&[0x0F, 0x0B], Vec::new()));
    assert_eq!(exit, Exit::TripleFault);
}

#[test]
fn a_guest_that_resets_itself_for_ever_returns() {
    for (name, code) in [
        (
            "reset by the keyboard controller",
            [0xB0, 0xFE, 0xE6, 0x64, 0xEB, 0xFE],
        ),
        ("fast reset", [0xB0, 0x01, 0xE6, 0x92, 0xEB, 0xFE]),
    ] {
        let (exit, _) = run(name, real(&code));
        assert_eq!(exit, Exit::Budget);
    }
}

#[test]
fn code_that_rewrites_a_page_full_of_code_goes_on() {
    // A page of one-byte instructions which is entered at each of its bytes, so that it holds 4096
    // overlapping blocks; each call is followed by a write between two of them.
    // MOV EBX, 100000; L: CALL EBX; MOV BYTE [EBX], 40; INC EBX; AND EBX, 100FFF; JMP L
    let code = [
        0xBB, 0, 0, 0x10, 0, 0xFF, 0xD3, 0xC6, 0x03, 0x40, 0x43, 0x81, 0xE3, 0xFF, 0x0F, 0x10, 0,
        0xEB, 0xF2,
    ];
    let mut page = vec![0x40; 4096];
    page.push(0xC3);
    uses_up(
        "self-modifying storm",
        flat(&code, vec![preload(0x10_0000, page)]),
    );
}

#[test]
fn drive_commands_with_absurd_counts_go_on() {
    for command in [0x24u8, 0x29, 0x34, 0x39, 0x42, 0x20, 0xC4, 0x30] {
        // 65536 sectors, by 48-bit registers; then the data port as fast as it goes, and again.
        let mut code = Vec::new();
        for (port, value) in [
            (0x1F6u16, 0xE0u8),
            (0x1F2, 0),
            (0x1F2, 0),
            (0x1F3, 0),
            (0x1F4, 0),
            (0x1F5, 0),
            (0x1F7, command),
        ] {
            code.extend([0xBA, port as u8, (port >> 8) as u8, 0xB0, value, 0xEE]);
        }
        let transfer = if matches!(command, 0x34 | 0x39 | 0x30) {
            0x6F
        } else {
            0x6D
        };
        // MOV DX, 1F0; XOR DI, DI; XOR SI, SI; MOV CX, 1000; REP INSW or OUTSW; LOOP; JMP start
        code.extend([
            0xBA, 0xF0, 0x01, 0x31, 0xFF, 0x31, 0xF6, 0xB9, 0x00, 0x10, 0xF3, transfer,
        ]);
        let back = (code.len() + 2) as u8;
        code.extend([0xEB, 0u8.wrapping_sub(back)]);
        // The data would overwrite the program and its vectors.
        let mut with_segment = vec![0xB8, 0x00, 0x10, 0x8E, 0xC0];
        with_segment.extend(code);
        uses_up(&format!("IDE {command:02x}"), real(&with_segment));
    }
}
