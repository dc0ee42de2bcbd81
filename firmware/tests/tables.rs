//! The tables are found and read the way a guest does it.

use std::path::Path;
use std::process::Command;

use firmware::{Board, TABLES_BASE, bios_for, tables};

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

fn boards() -> Vec<Board> {
    vec![
        Board::default(),
        Board {
            pci: true,
            apic: true,
            cpus: 4,
            ram_bytes: 6 << 30,
            ..Board::default()
        },
        Board {
            floppy: false,
            com_ports: 0,
            ..Board::default()
        },
        Board {
            apic: true,
            cpus: 255,
            ..Board::default()
        },
    ]
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The table at a physical address in the window.
fn table(window: &[u8], address: u32) -> &[u8] {
    let at = (address - TABLES_BASE) as usize;
    &window[at..at + u32_at(window, at + 4) as usize]
}

fn listed(window: &[u8]) -> Vec<&[u8]> {
    let rsdp = window
        .chunks(16)
        .position(|chunk| chunk.starts_with(b"RSD PTR "))
        .expect("an RSDP")
        * 16;
    assert_eq!(sum(&window[rsdp..rsdp + 20]), 0);
    assert_eq!(sum(&window[rsdp..rsdp + 36]), 0);
    let rsdt = table(window, u32_at(window, rsdp + 16));
    let xsdt = table(window, u32_at(window, rsdp + 24));
    assert_eq!(sum(xsdt), 0);
    assert_eq!(sum(rsdt), 0);
    assert_eq!((rsdt.len() - 36) * 2, xsdt.len() - 36);
    rsdt[36..]
        .chunks(4)
        .map(|entry| table(window, u32_at(entry, 0)))
        .collect()
}

#[test]
fn every_acpi_table_is_found_and_sums_to_zero() {
    for board in boards() {
        let window = tables(&board);
        let found = listed(&window);
        let fadt = found[0];
        assert_eq!((&fadt[..4], fadt.len()), (&b"FACP"[..], 244));
        let facs = u32_at(fadt, 36);
        assert_eq!(facs % 64, 0);
        assert_eq!(&table(&window, facs)[..4], b"FACS");
        assert_eq!(sum(table(&window, u32_at(fadt, 40))), 0);
        assert!(found.iter().all(|table| sum(table) == 0));
        assert_eq!(
            found.iter().any(|table| table.starts_with(b"APIC")),
            board.apic
        );
    }
}

#[test]
fn smbios_and_mp_entry_points_lead_into_the_window() {
    for board in boards() {
        let (bios, window) = (bios_for(&board), tables(&board));
        let entry = bios
            .chunks(16)
            .position(|chunk| chunk.starts_with(b"_SM_"))
            .expect("an SMBIOS entry point")
            * 16;
        assert_eq!(sum(&bios[entry..entry + 31]), 0);
        assert_eq!(sum(&bios[entry + 16..entry + 31]), 0);
        let at = (u32_at(&bios, entry + 24) - TABLES_BASE) as usize;
        assert_eq!(window[at], 0, "type 0 comes first");
        let pointer = bios.chunks(16).position(|chunk| chunk.starts_with(b"_MP_"));
        assert_eq!(pointer.is_some(), board.apic);
        if let Some(pointer) = pointer {
            assert_eq!(sum(&bios[pointer * 16..pointer * 16 + 16]), 0);
            let at = (u32_at(&bios, pointer * 16 + 4) - TABLES_BASE) as usize;
            let length = usize::from(u16::from_le_bytes([window[at + 4], window[at + 5]]));
            assert_eq!(sum(&window[at..at + length]), 0);
        }
    }
}

#[test]
fn madt_and_mp_table_give_the_io_apic_one_id_that_no_processor_has() {
    for (cpus, id) in [(1, 1), (4, 4), (15, 15), (16, 0)] {
        let board = Board {
            apic: true,
            cpus,
            ..Board::default()
        };
        let window = tables(&board);
        let madt = listed(&window)
            .into_iter()
            .find(|table| table.starts_with(b"APIC"))
            .expect("a MADT");
        let in_madt = madt
            .windows(12)
            .find(|entry| entry.starts_with(&[1, 12]) && u32_at(entry, 4) == 0xFEC0_0000)
            .expect("an I/O APIC");
        let mp = window
            .windows(8)
            .rfind(|entry| entry[0] == 2 && u32_at(entry, 4) == 0xFEC0_0000)
            .expect("an I/O APIC");
        assert_eq!((in_madt[2], mp[1]), (id, id), "{cpus} processors");
    }
}

/// The MP table says of each pin of each PCI device what the BIOS programs the PIIX3's links to; pin A of device 1 is led
/// to the first one.
#[test]
fn mp_table_has_the_interrupts_of_pci_devices() {
    for board in boards().iter().filter(|board| board.apic) {
        let window = tables(board);
        let at = window
            .windows(4)
            .rposition(|bytes| bytes == b"PCMP")
            .expect("an MP table");
        let (mut offset, mut pins) = (at + 44, Vec::new());
        let mut buses = Vec::new();
        for _ in 0..u16::from_le_bytes([window[at + 34], window[at + 35]]) {
            let entry = &window[offset..];
            match entry[0] {
                1 => buses.push((entry[1], entry[2..8].to_vec())),
                3 if entry[4] == 0 && board.pci => {
                    pins.push((entry[5], entry[7]));
                    assert_eq!((entry[2], entry[6]), (0x0D, board.cpus));
                }
                _ => {}
            }
            offset += if entry[0] == 0 { 20 } else { 8 };
        }
        let length = usize::from(u16::from_le_bytes([window[at + 4], window[at + 5]]));
        assert_eq!(offset, at + length);
        if board.pci {
            assert_eq!(buses, [(0, b"PCI   ".to_vec()), (1, b"ISA   ".to_vec())]);
            let routed = |device: usize, pin| [11, 10, 10, 11][(device + pin) % 4];
            let all = (1..32).flat_map(|device| (0..4).map(move |pin| (device, pin)));
            let wanted = all.map(|(device, pin)| ((device << 2 | pin) as u8, routed(device, pin)));
            assert_eq!(pins, wanted.collect::<Vec<_>>());
        }
    }
}

#[test]
fn iasl_disassembles_and_compiles_the_dsdt_without_a_warning() {
    if Command::new("iasl").arg("-v").output().is_err() {
        println!("skipped: iasl is not installed");
        return;
    }
    for (i, board) in boards().iter().enumerate() {
        let window = tables(board);
        let fadt = listed(&window)[0];
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dsdt{i}"));
        std::fs::create_dir_all(&folder).expect("a folder for the tables");
        std::fs::write(folder.join("dsdt.aml"), table(&window, u32_at(fadt, 40))).expect("write");
        std::fs::write(folder.join("facp.aml"), fadt).expect("write");
        let hpet = listed(&window)
            .into_iter()
            .find(|table| table.starts_with(b"HPET"));
        std::fs::write(folder.join("hpet.aml"), hpet.expect("a HPET")).expect("write");
        for arguments in [
            &["-d", "dsdt.aml"][..],
            &["-d", "facp.aml"],
            &["-d", "hpet.aml"],
            &["-we", "dsdt.dsl"],
            &["-we", "facp.dsl"],
            &["-we", "hpet.dsl"],
        ] {
            let run = Command::new("iasl")
                .args(arguments)
                .current_dir(&folder)
                .output()
                .expect("iasl runs");
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&run.stdout),
                String::from_utf8_lossy(&run.stderr)
            );
            assert!(
                run.status.success(),
                "iasl {arguments:?} for {board:?}:\n{text}"
            );
        }
    }
}
