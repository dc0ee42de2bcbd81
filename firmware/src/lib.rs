//! The built-in BIOS and VGA BIOS, and the tables that firmware hands to a guest.
//!
//! | image | where the board maps it | source |
//! |---|---|---|
//! | [`bios`] or [`bios_for`], 64 KiB | F0000 and FFFF0000 | `bios/*.asm` |
//! | [`tables`], 64 KiB | E0000 | [`acpi`], [`smbios`], [`mp`] |
//! | [`vga_bios`], 32 KiB | C0000 | `vgabios/*.asm` |
//! | [`kernel_rom`], 2 KiB | CA000 | `kernelrom/kernelrom.asm` |
//!
//! The assembled images are committed beside their sources; `build.sh` makes them anew, and a test compares them where
//! nasm is installed. Nothing here depends on the host.
//!
//! No handler of system management interrupts is set up: ACPI is always on, and nothing else would call one.

#![forbid(unsafe_code)]

pub mod acpi;
pub mod aml;
mod files;
mod kernel;
pub mod mp;
pub mod smbios;

pub use files::files;
pub use kernel::{KernelEntry, kernel_rom};

/// Physical address of the window that [`tables`] fills.
pub const TABLES_BASE: u32 = 0xE_0000;
/// Size of the window that [`tables`] fills, in bytes.
pub const TABLES_BYTES: usize = 0x1_0000;
/// Physical address at which [`kernel_rom`] must be mapped.
pub const KERNEL_ROM_BASE: u32 = 0xC_A000;

/// Where in the BIOS image the SMBIOS entry point goes.
const SMBIOS_ENTRY: usize = 0xE000;
/// Where in the BIOS image the MP floating pointer goes.
const MP_POINTER: usize = 0xE030;
/// Offset of the SMBIOS structures in the table window.
const SMBIOS_TABLES: u32 = 0x8000;
/// Offset of the MP configuration table in the table window.
const MP_TABLE: u32 = 0xC000;

/// The built-in VGA BIOS's font of 8 by 16 dots: sixteen bytes a character of code page 437, from the top, the leftmost
/// dot in bit 7.
pub const FONT_8X16: &[u8; 4096] = include_bytes!("../vgabios/font8x16.bin");

/// What the tables say about the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Number of processors, 1 to 255.
    pub cpus: u8,
    /// All RAM, in bytes.
    pub ram_bytes: u64,
    /// A floppy controller with a drive is there.
    pub floppy: bool,
    /// Number of serial ports, 0 to 4.
    pub com_ports: u8,
    /// A PCI bus is there.
    pub pci: bool,
    /// Local APICs and an I/O APIC are there: adds the MADT and the MP table.
    pub apic: bool,
}

impl Board {
    /// The I/O APIC's ID, which the BIOS programs from the MP table: the first that no local APIC has, as MP
    /// systems had to keep them apart. It has four bits; where the processors use them all up it is 0, for
    /// only the old APIC bus minds.
    fn io_apic_id(&self) -> u8 {
        if self.cpus < 16 { self.cpus } else { 0 }
    }

    /// Whether the I/O APIC sees this ISA interrupt as a level: the SCI, and those that PCI devices are routed to.
    fn is_level_triggered(&self, irq: u8) -> bool {
        irq == acpi::SCI || self.pci && matches!(irq, 5 | 10 | 11)
    }
}

impl Default for Board {
    fn default() -> Self {
        Self {
            cpus: 1,
            ram_bytes: 128 << 20,
            floppy: true,
            com_ports: 4,
            pci: false,
            apic: false,
        }
    }
}

/// The system BIOS, 64 KiB, without an SMBIOS or MP entry point.
pub fn bios() -> &'static [u8] {
    include_bytes!("../bios/bios.bin")
}

/// The system BIOS, 64 KiB, with the entry points that lead to [`tables`] of the same board.
pub fn bios_for(board: &Board) -> Vec<u8> {
    let mut image = bios().to_vec();
    let structures = smbios::structures(board);
    let entry = smbios::entry_point(&structures, TABLES_BASE + SMBIOS_TABLES);
    image[SMBIOS_ENTRY..SMBIOS_ENTRY + entry.len()].copy_from_slice(&entry);
    if board.apic {
        let pointer = mp::floating_pointer(TABLES_BASE + MP_TABLE);
        image[MP_POINTER..MP_POINTER + pointer.len()].copy_from_slice(&pointer);
    }
    image
}

/// The VGA BIOS, 32 KiB.
pub fn vga_bios() -> &'static [u8] {
    include_bytes!("../vgabios/vgabios.bin")
}

/// The 64 KiB at E0000: ACPI from its start, then SMBIOS structures and the MP table.
pub fn tables(board: &Board) -> Vec<u8> {
    let mut window = acpi::tables(board);
    let structures = smbios::structures(board);
    let at = SMBIOS_TABLES as usize;
    window[at..at + structures.bytes.len()].copy_from_slice(&structures.bytes);
    if board.apic {
        let table = mp::configuration_table(board);
        let at = MP_TABLE as usize;
        window[at..at + table.len()].copy_from_slice(&table);
    }
    window
}

/// The byte that makes `bytes` sum to 0 when it is added.
fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0u8, |sum, &byte| sum.wrapping_add(byte))
        .wrapping_neg()
}
