//! The MP configuration table of the Intel MultiProcessor Specification 1.4, for systems that read no ACPI.

use crate::{Board, acpi, checksum};

const IO_APIC: u32 = 0xFEC0_0000;
const LOCAL_APIC: u32 = 0xFEE0_0000;

/// The 16-byte floating pointer to the table at `table`, a physical address.
pub fn floating_pointer(table: u32) -> Vec<u8> {
    let mut bytes = b"_MP_".to_vec();
    bytes.extend(table.to_le_bytes());
    bytes.extend([1, 4, 0, 0, 0, 0, 0, 0]);
    bytes[10] = checksum(&bytes);
    bytes
}

/// Level, active high.
const LEVEL: u8 = 0x0D;

/// The configuration table: processors, the buses, the I/O APIC and its interrupt inputs. What PCI devices there are is
/// found by asking them, so each place of the bus has its four entries, as in ACPI's `_PRT`.
pub fn configuration_table(board: &Board) -> Vec<u8> {
    let io_apic_id = board.io_apic_id();
    let mut entries = Vec::new();
    for cpu in 0..board.cpus {
        let flags = if cpu == 0 { 3 } else { 1 }; // enabled, bootstrap
        entries.push(
            [
                &[0, cpu, 0x14, flags][..],
                &0x0600u32.to_le_bytes(),
                &0x0201u32.to_le_bytes(),
                &[0; 8],
            ]
            .concat(),
        );
    }
    // A PCI bus has its own number here.
    let isa = u8::from(board.pci);
    if board.pci {
        entries.push(b"\x01\x00PCI   ".to_vec());
    }
    entries.push([&[1, isa][..], b"ISA   "].concat());
    entries.push([&[2, io_apic_id, 0x11, 1][..], &IO_APIC.to_le_bytes()].concat());
    for irq in (0..16u8).filter(|&irq| irq != 2) {
        let input = if irq == 0 { 2 } else { irq };
        let flags = if board.is_level_triggered(irq) {
            LEVEL
        } else {
            0
        };
        entries.push(vec![3, 0, flags, 0, isa, irq, io_apic_id, input]);
    }
    // Device 0 is the host bridge.
    for (device, pin) in (1..32).flat_map(|device| (0..4).map(move |pin| (device, pin))) {
        if board.pci {
            let input = acpi::interrupt_of(device, pin);
            entries.push(vec![
                3,
                0,
                LEVEL,
                0,
                0,
                device << 2 | pin,
                io_apic_id,
                input,
            ]);
        }
    }
    entries.push(vec![4, 3, 0, 0, isa, 0, 0xFF, 0]); // ExtINT on LINT0
    entries.push(vec![4, 1, 0, 0, isa, 0, 0xFF, 1]); // NMI on LINT1
    let body = entries.concat();
    let mut bytes = b"PCMP".to_vec();
    bytes.extend((44 + body.len() as u16).to_le_bytes());
    bytes.extend([4, 0]);
    bytes.extend(b"GLASSBOXPC          ");
    bytes.extend([0; 6]); // OEM table
    bytes.extend((entries.len() as u16).to_le_bytes());
    bytes.extend(LOCAL_APIC.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes[7] = checksum(&bytes);
    bytes
}
