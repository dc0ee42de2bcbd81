//! What the tests of the program share.
// Each test is a program of its own, and uses a part.
#![allow(dead_code)]

pub mod wav;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// MOV DX, 604h; MOV AX, 2000h; OUT DX, AX.
pub const POWER_OFF: [u8; 7] = [0xBA, 0x04, 0x06, 0xB8, 0x00, 0x20, 0xEF];
/// JMP to itself.
pub const LOOP: [u8; 2] = [0xEB, 0xFE];

/// The program under test.
pub fn glassbox() -> Command {
    Command::new(env!("CARGO_BIN_EXE_glassbox"))
}

/// An image of `len` bytes whose boot sector is `code`, with zeros behind it.
pub fn boot_image(code: &[u8], len: usize) -> Vec<u8> {
    let mut image = vec![0; len];
    image[..code.len()].copy_from_slice(code);
    image[510..512].copy_from_slice(&[0x55, 0xAA]);
    image
}

/// The header of a Linux kernel of `len` bytes, which is cut short: what goes along with it is looked at
/// before the rest.
pub fn kernel_header(len: usize) -> Vec<u8> {
    let mut kernel = vec![0; len];
    kernel[0x1F1] = 4;
    kernel[0x1FE..0x202].copy_from_slice(&[0x55, 0xAA, 0xEB, 0x66]);
    kernel[0x202..0x208].copy_from_slice(b"HdrS\x0F\x02");
    kernel[0x211] = 1;
    kernel
}

/// What was said on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Exit status, and what was said on standard error.
pub fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), said(output))
}

/// A report, or another JSON file; `said` tells why there may be none.
pub fn json(path: &Path, said: &str) -> Value {
    let bytes = std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}; said: {said}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}
