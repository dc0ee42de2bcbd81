//! A mouse that moves reaches a program through the BIOS: IRQ 12, INT 74h and the handler of INT
//! 15h/C207h.

mod common;

use devices::boards::pc::PcConfig;
use emulator::{Exit, Limit, Machine};
use platform::{DeviceId, Input, MemoryDisk, Said};

/// MOV AX, C205h; MOV BH, 3; INT 15h; PUSH CS; POP ES; MOV BX, 7C1Fh; MOV AX, C207h; INT 15h; MOV
/// AX, C200h; MOV BH, 1; INT 15h; MOV AL, AH; OUT E9h, AL; HLT; JMP to the HLT. Then the handler:
/// it writes status, X and Y to port E9h, from [BP+12], [BP+10] and [BP+8] after PUSH BP; MOV BP,
/// SP.
#[rustfmt::skip]
const PROGRAM: [u8; 0x33] = [
    0xB8, 0x05, 0xC2, 0xB7, 0x03, 0xCD, 0x15, 0x0E, 0x07, 0xBB, 0x1F, 0x7C, 0xB8, 0x07, 0xC2, 0xCD, 0x15,
    0xB8, 0x00, 0xC2, 0xB7, 0x01, 0xCD, 0x15, 0x88, 0xE0, 0xE6, 0xE9, 0xF4, 0xEB, 0xFD,
    0x55, 0x89, 0xE5, 0x8A, 0x46, 0x0C, 0xE6, 0xE9, 0x8A, 0x46, 0x0A, 0xE6, 0xE9, 0x8A, 0x46, 0x08, 0xE6, 0xE9,
    0x5D, 0xCB,
];

fn machine() -> (Machine, DeviceId) {
    let mut disk = vec![0; 4 * 512];
    disk[..PROGRAM.len()].copy_from_slice(&PROGRAM);
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    common::machine_on(PcConfig {
        disks: vec![Some(Box::new(MemoryDisk::new(disk)))],
        bios: firmware::bios().to_vec(),
        vga_bios: firmware::vga_bios().to_vec(),
        ns_per_instruction: (2, 1),
        ..PcConfig::new(2 << 20)
    })
}

/// What the program writes to port E9h within `ms` milliseconds.
fn said(machine: &mut Machine, ms: u64) -> Vec<u8> {
    let limit = Limit {
        retired: u64::MAX,
        now_ns: machine.now_ns() + ms * 1_000_000,
    };
    assert_eq!(machine.run_until(limit), Exit::Budget);
    let outputs = machine.take_outputs().into_iter();
    outputs
        .filter_map(|output| match output.what {
            Said::Bytes(bytes) => Some(bytes),
            _ => None,
        })
        .flatten()
        .collect()
}

#[test]
fn a_handler_gets_status_x_and_y_of_each_packet() {
    let (mut machine, mouse) = machine();
    assert_eq!(said(&mut machine, 3000), [0], "C200h succeeds");
    let mut moves = |dx, dy, buttons| {
        let input = Input::Mouse {
            dx,
            dy,
            dz: 0,
            buttons,
        };
        machine.bus_mut().input(mouse, &input);
        said(&mut machine, 100)
    };
    assert_eq!(moves(5, 0, 0), [0x08, 5, 0]);
    assert_eq!(moves(-1, 2, 1), [0x19, 0xFF, 2]);
    assert_eq!(moves(0, 0, 0), [0x08, 0, 0]);
}
