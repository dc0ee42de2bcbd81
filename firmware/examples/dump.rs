//! Writes the firmware as image files, to try it in another emulator: `cargo run -p firmware --example dump -- DIR`.
//!
//! `system.rom` is E0000-FFFFF (tables and BIOS) for `-bios`; `vgabios.rom` goes to C0000; `kernel.rom` to CA000.
//! Further arguments are the RAM in MiB and the kernel's EIP and ESI in hexadecimal.

use std::error::Error;
use std::path::PathBuf;

use firmware::{Board, KernelEntry, bios_for, kernel_rom, tables, vga_bios};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(
        arguments
            .first()
            .ok_or("usage: dump DIRECTORY [RAM-MIB [EIP ESI]]")?,
    );
    let ram_mib = arguments
        .get(1)
        .map_or(Ok(128), |text| text.parse::<u64>())?;
    let hex = |i: usize| {
        arguments
            .get(i)
            .map_or(Ok(0), |text| u32::from_str_radix(text, 16))
    };
    let board = Board {
        ram_bytes: ram_mib << 20,
        ..Board::default()
    };
    let entry = KernelEntry {
        eip: hex(2)?,
        esi: hex(3)?,
        ..KernelEntry::default()
    };
    std::fs::create_dir_all(&folder)?;
    std::fs::write(
        folder.join("system.rom"),
        [tables(&board), bios_for(&board)].concat(),
    )?;
    std::fs::write(folder.join("vgabios.rom"), vga_bios())?;
    std::fs::write(folder.join("kernel.rom"), kernel_rom(&entry))?;
    Ok(())
}
