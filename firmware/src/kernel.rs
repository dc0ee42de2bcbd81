//! The option ROM that starts a kernel which the machine has put into RAM.

use crate::checksum;

/// The registers a kernel starts with: in 32-bit flat protected mode, or in real mode.
///
/// In protected mode CS is 10h, the data segments are 18h, and paging is off: Multiboot (EAX =
/// magic, EBX = information) and PVH fit. Either way interrupts are off and A20 is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelEntry {
    /// Where to start; in real mode CS in the upper half and IP in the lower.
    pub eip: u32,
    /// Stack pointer; a kernel that sets its own takes 0.
    pub esp: u32,
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
    /// ESI.
    pub esi: u32,
    /// EDI.
    pub edi: u32,
    /// EBP.
    pub ebp: u32,
    /// DS, ES, FS, GS and SS in real mode; 0 for protected mode.
    pub real_segment: u16,
    /// For protected mode: the video mode to set by INT 10h before the entry; 0 leaves the text
    /// mode of POST.
    pub video_mode: u8,
    /// For protected mode: where the display's 256 colours are to be written, three bytes each; 0
    /// for nowhere.
    pub palette: u32,
    /// For protected mode: bytes to be copied last, from where to where and how many: POST writes
    /// below 8000h, so what a kernel has there is kept elsewhere.
    pub copy: [u32; 3],
}

/// Offset of the parameter block in the ROM: the magic, then the registers in the order of [`KernelEntry`].
const PARAMETERS: usize = 0x20;
const MAGIC: &[u8; 4] = b"GBKE";

/// The 2 KiB option ROM for `entry`, to be mapped at [`KERNEL_ROM_BASE`](crate::KERNEL_ROM_BASE).
///
/// POST writes no RAM from 8000h up to the EBDA (9FC00h) and nothing from 100000h on, so the machine may put the
/// kernel and its parameters there before it starts.
pub fn kernel_rom(entry: &KernelEntry) -> Vec<u8> {
    let mut rom = include_bytes!("../kernelrom/kernelrom.bin").to_vec();
    assert_eq!(
        &rom[PARAMETERS..PARAMETERS + 4],
        MAGIC,
        "kernelrom.bin has its parameter block elsewhere"
    );
    let registers = [
        entry.eip,
        entry.esp,
        entry.eax,
        entry.ebx,
        entry.ecx,
        entry.edx,
        entry.esi,
        entry.edi,
        entry.ebp,
        entry.real_segment.into(),
        entry.video_mode.into(),
        entry.palette,
        entry.copy[0],
        entry.copy[1],
        entry.copy[2],
    ];
    for (i, register) in registers.iter().enumerate() {
        let at = PARAMETERS + 4 + 4 * i;
        rom[at..at + 4].copy_from_slice(&register.to_le_bytes());
    }
    let last = rom.len() - 1;
    rom[last] = 0;
    rom[last] = checksum(&rom);
    rom
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_rom_holds_the_registers_and_sums_to_zero() {
        let rom = kernel_rom(&KernelEntry {
            eip: 0x10_0000,
            esi: 0x9_0000,
            copy: [1, 2, 3],
            ..KernelEntry::default()
        });
        assert_eq!(rom.len(), usize::from(rom[2]) * 512);
        assert_eq!(&rom[0x24..0x28], &0x10_0000u32.to_le_bytes());
        assert_eq!(&rom[0x3C..0x40], &0x9_0000u32.to_le_bytes());
        // The last parameter, before the code of the init routine (PUSH DS).
        assert_eq!(&rom[0x5C..0x61], &[3, 0, 0, 0, 0x1E]);
        assert_eq!(checksum(&rom), 0);
    }
}
