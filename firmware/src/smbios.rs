//! SMBIOS 2.8: what `dmidecode` shows. Types 0, 1, 3, 4, 16, 17, 19, 32 and 127.
//!
//! DMTF DSP0134 2.8. The entry point lies in the BIOS image, as it is only looked for from F0000 on.

use crate::{Board, checksum};

/// The structures, ready to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structures {
    /// All structures, one after another.
    pub bytes: Vec<u8>,
    count: u16,
    largest: u16,
}

/// The 31-byte entry point for `structures` at the physical address `at`.
pub fn entry_point(structures: &Structures, at: u32) -> Vec<u8> {
    let mut bytes = b"_SM_\0\x1F\x02\x08".to_vec();
    bytes.extend(structures.largest.to_le_bytes());
    bytes.extend([0; 6]); // entry point revision, formatted area
    bytes.extend(b"_DMI_\0");
    bytes.extend((structures.bytes.len() as u16).to_le_bytes());
    bytes.extend(at.to_le_bytes());
    bytes.extend(structures.count.to_le_bytes());
    bytes.push(0x28);
    bytes[21] = checksum(&bytes[16..]);
    bytes[4] = checksum(&bytes);
    bytes
}

/// The structures that describe `board`.
pub fn structures(board: &Board) -> Structures {
    let mut all = Structures {
        bytes: Vec::new(),
        count: 0,
        largest: 0,
    };
    let ram_kib = board.ram_bytes >> 10;

    let mut bios = vec![1, 2];
    bios.extend(0xF000u16.to_le_bytes());
    bios.extend([3, 0]); // release date; 64 KiB
    // Characteristics: ISA, boot from CD, selectable boot, EDD, 5.25" and 3.5" floppy, print screen, 8042, serial, CGA.
    bios.extend(
        (1u64 << 4
            | 1 << 15
            | 1 << 16
            | 1 << 19
            | 1 << 23
            | 1 << 25
            | 1 << 26
            | 1 << 27
            | 1 << 28
            | 1 << 30)
            .to_le_bytes(),
    );
    bios.extend([0x01, 0x08, 0, 1, 0xFF, 0xFF]); // ACPI; virtual machine; release 0.1
    all.add(
        0,
        0x0000,
        &bios,
        &["Glassbox", env!("CARGO_PKG_VERSION"), "11/23/2026"],
    );

    let mut system = vec![1, 2, 3, 0];
    system.extend([0; 16]); // UUID: not set
    system.extend([6, 0, 0]); // woken by the power switch
    all.add(
        1,
        0x0100,
        &system,
        &["Glassbox", "Glassbox PC", env!("CARGO_PKG_VERSION")],
    );

    // Chassis: other; everything safe.
    all.add(
        3,
        0x0300,
        &[1, 0x01, 0, 0, 0, 3, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &["Glassbox"],
    );

    for cpu in 0..u16::from(board.cpus) {
        let mut processor = vec![1, 3, 1, 2]; // socket, central processor, family other, manufacturer
        processor.extend([0; 8]);
        processor.extend([0, 0, 0, 0, 0, 0, 0, 0]); // version, voltage, clocks
        processor.extend([0x41, 0x01]); // populated and enabled; upgrade other
        processor.extend([0xFF; 6]); // no cache information
        processor.extend([0, 0, 0, 1, 1, 1]); // strings; cores, enabled, threads
        processor.extend([0x04, 0x00, 0x01, 0x00]); // 64-bit; family 2
        all.add(4, 0x0400 + cpu, &processor, &["CPU", "Glassbox"]);
    }

    let mut array = vec![0x03, 0x03, 0x03]; // system board, system memory, no error correction
    array.extend(
        u32::try_from(ram_kib)
            .map_or(0x8000_0000, |kib| kib.min(0x8000_0000))
            .to_le_bytes(),
    );
    array.extend([0xFE, 0xFF, 1, 0]);
    array.extend(
        (if ram_kib >= 0x8000_0000 {
            board.ram_bytes
        } else {
            0
        })
        .to_le_bytes(),
    );
    all.add(16, 0x1000, &array, &[]);

    let mib = board.ram_bytes >> 20;
    let mut module = vec![0x00, 0x10, 0xFE, 0xFF, 64, 0, 64, 0];
    module.extend((if mib < 0x7FFF { mib as u16 } else { 0x7FFF }).to_le_bytes());
    module.extend([0x09, 0, 1, 0, 0x07, 0, 0]); // DIMM, not in a set, locator, RAM
    module.extend([0; 6]); // speed, strings
    module.push(0); // attributes
    module.extend((if mib < 0x7FFF { 0 } else { mib as u32 }).to_le_bytes());
    module.extend([0; 8]); // clock, voltages
    all.add(17, 0x1100, &module, &["DIMM 0"]);

    let mut range = Vec::new();
    if let Ok(last) = u32::try_from(ram_kib.saturating_sub(1)) {
        range.extend(0u32.to_le_bytes());
        range.extend(last.to_le_bytes());
        range.extend([0x00, 0x10, 1]);
        range.extend([0; 16]);
    } else {
        range.extend([0xFF; 8]);
        range.extend([0x00, 0x10, 1]);
        range.extend(0u64.to_le_bytes());
        range.extend((board.ram_bytes - 1).to_le_bytes());
    }
    all.add(19, 0x1300, &range, &[]);

    all.add(32, 0x2000, &[0; 7], &[]); // no boot errors
    all.add(127, 0x7F00, &[], &[]);
    all
}

impl Structures {
    fn add(&mut self, kind: u8, handle: u16, body: &[u8], strings: &[&str]) {
        let start = self.bytes.len();
        self.bytes.extend([kind, 4 + body.len() as u8]);
        self.bytes.extend(handle.to_le_bytes());
        self.bytes.extend(body);
        for string in strings {
            self.bytes.extend(string.bytes());
            self.bytes.push(0);
        }
        if strings.is_empty() {
            self.bytes.push(0);
        }
        self.bytes.push(0);
        self.count += 1;
        self.largest = self.largest.max((self.bytes.len() - start) as u16);
    }
}
