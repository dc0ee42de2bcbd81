//! What firmware other than the built-in finds in the firmware configuration device: the same description of the board
//! that the built-in one has in its ROM.
//!
//! Source: QEMU, docs/specs/fw_cfg.rst, and the files that its `pc` machine hands out: `etc/e820`, `etc/acpi/tables`,
//! `etc/acpi/rsdp` and `etc/table-loader` (ACPI tables and a list of what to do with them), `etc/smbios/smbios-tables`
//! and `etc/smbios/smbios-anchor`.

use crate::acpi::{self, Tables};
use crate::{Board, smbios};

/// Where RAM goes on above the space of PCI devices.
const ABOVE: u64 = 1 << 32;
const MOST_BELOW: u64 = 0xC000_0000;
const RAM: u32 = 1;

const TABLES: &str = "etc/acpi/tables";
const RSDP: &str = "etc/acpi/rsdp";

/// Name and content of each file.
pub fn files(board: &Board) -> Vec<(String, Vec<u8>)> {
    let structures = smbios::structures(board);
    let tables = Tables::new(board);
    [
        ("etc/e820", memory_map(board)),
        ("etc/table-loader", loader(&tables)),
        (RSDP, tables.rsdp()),
        (TABLES, tables.bytes),
        // Firmware puts the structures' address and the checksums into the entry point.
        (
            "etc/smbios/smbios-anchor",
            smbios::entry_point(&structures, 0),
        ),
        ("etc/smbios/smbios-tables", structures.bytes),
    ]
    .map(|(name, content)| (name.to_owned(), content))
    .into()
}

/// RAM: address and length (64 bits) and kind (32 bits) of each range.
fn memory_map(board: &Board) -> Vec<u8> {
    let below = board.ram_bytes.min(MOST_BELOW);
    let ranges = [(0, below), (ABOVE, board.ram_bytes - below)];
    let mut bytes = Vec::new();
    for (base, len) in ranges.into_iter().filter(|&(_, len)| len != 0) {
        bytes.extend(base.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(RAM.to_le_bytes());
    }
    bytes
}

/// An entry of the loader's list: a command and its arguments, 128 bytes in all.
fn entry(command: u32, arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = command.to_le_bytes().to_vec();
    for argument in arguments {
        bytes.extend(*argument);
    }
    bytes.resize(128, 0);
    bytes
}

fn file(name: &str) -> [u8; 56] {
    let mut bytes = [0; 56];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// What firmware does: put both files into memory, make addresses of offsets, and then make the checksums.
fn loader(tables: &Tables) -> Vec<u8> {
    let allocate =
        |name: &str, align: u32, zone: u8| entry(1, &[&file(name), &align.to_le_bytes(), &[zone]]);
    let point = |name: &str, (at, len): (usize, u8)| {
        let at = (at as u32).to_le_bytes();
        entry(2, &[&file(name), &file(TABLES), &at, &[len]])
    };
    let checksum = |name: &str, at: usize, start: usize, len: usize| {
        let [at, start, len] = [at, start, len].map(|number| (number as u32).to_le_bytes());
        entry(3, &[&file(name), &at, &start, &len])
    };
    let mut list = vec![
        allocate(TABLES, 64, 1), // anywhere below 4 GiB
        allocate(RSDP, 16, 2),   // in F0000-FFFFF
    ];
    list.extend(
        tables
            .pointers
            .iter()
            .map(|&pointer| point(TABLES, pointer)),
    );
    list.extend(acpi::RSDP_POINTERS.map(|pointer| point(RSDP, pointer)));
    for &(at, len) in &tables.headed {
        list.push(checksum(TABLES, at + acpi::CHECKSUM, at, len));
    }
    list.extend(acpi::RSDP_CHECKSUMS.map(|(at, len)| checksum(RSDP, at, 0, len)));
    list.concat()
}
