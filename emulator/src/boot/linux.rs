//! The Linux/x86 boot protocol: the kernel's Documentation/arch/x86/boot.rst and zero-page.rst.
//!
//! Kernels of 2.02 and later (Linux 2.4.0 on) are entered at their 32-bit entry point, 64-bit ones too:
//! they switch to long mode themselves.

use super::error::LoadError;
use super::layout::Layout;
use super::memory_map::{EBDA, memory_map};
use super::{Entry, KernelSetup, Loaded, u16_at, u32_at, u64_at};

const WHAT: &str = "Linux kernel (bzImage)";

/// Offsets within the setup header, which the file and the zero page share.
mod hdr {
    pub const SETUP_SECTS: usize = 0x1F1;
    pub const SYSSIZE: usize = 0x1F4;
    pub const VID_MODE: usize = 0x1FA;
    pub const JUMP: usize = 0x200;
    pub const VERSION: usize = 0x206;
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const LOADFLAGS: usize = 0x211;
    pub const CODE32_START: usize = 0x214;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21C;
    pub const HEAP_END_PTR: usize = 0x224;
    pub const CMD_LINE_PTR: usize = 0x228;
    pub const INITRD_ADDR_MAX: usize = 0x22C;
    pub const RELOCATABLE: usize = 0x234;
    pub const CMDLINE_SIZE: usize = 0x238;
    pub const PREF_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
}

/// Offsets within the zero page.
mod zero_page {
    pub const EXT_MEM_K: usize = 0x02;
    pub const VIDEO_MODE: usize = 0x06;
    pub const VIDEO_COLUMNS: usize = 0x07;
    pub const VIDEO_EGA_BX: usize = 0x0A;
    pub const VIDEO_LINES: usize = 0x0E;
    pub const VIDEO_IS_VGA: usize = 0x0F;
    pub const VIDEO_POINTS: usize = 0x10;
    pub const ACPI_RSDP: usize = 0x70;
    pub const ALT_MEM_K: usize = 0x1E0;
    pub const E820_ENTRIES: usize = 0x1E8;
    pub const E820_TABLE: usize = 0x2D0;
    pub const BYTES: usize = 4096;
}

const LOADED_HIGH: u8 = 1 << 0;
const CAN_USE_HEAP: u8 = 1 << 7;
const KERNEL_START: u64 = 0x10_0000;

pub(super) fn load(setup: &KernelSetup) -> Result<Loaded, LoadError> {
    let file = &setup.kernel;
    let truncated = |expected: u64| LoadError::Truncated {
        what: WHAT,
        expected,
        found: file.len() as u64,
    };
    let damaged = |why: &str| LoadError::Damaged {
        what: WHAT,
        why: why.into(),
    };
    let version = u16_at(file, hdr::VERSION).ok_or_else(|| truncated(0x1000))?;
    if version < 0x202 {
        return Err(LoadError::Unsupported {
            what: WHAT,
            why: format!(
                "its boot protocol is {}.{:02}, and 2.02 is the first with a command line in \
                 high memory; boot it from a disk",
                version >> 8,
                version & 0xFF
            ),
        });
    }
    let setup_sects = match file[hdr::SETUP_SECTS] {
        0 => 4,
        sects => sects,
    };
    let setup_bytes = (usize::from(setup_sects) + 1) * 512;
    if file.len() <= setup_bytes {
        return Err(truncated(setup_bytes as u64 + 1));
    }
    if file[hdr::LOADFLAGS] & LOADED_HIGH == 0 {
        return Err(LoadError::Unsupported {
            what: WHAT,
            why: "it is a zImage, which loads low; boot it from a disk".into(),
        });
    }
    let mut body = file[setup_bytes..].to_vec();
    if version >= 0x204 {
        let paragraphs = u32_at(file, hdr::SYSSIZE).unwrap_or(0);
        let expected = u64::from(paragraphs) * 16;
        // The last paragraph may be cut short by the file's end.
        if (body.len() as u64) + 16 <= expected {
            return Err(truncated(setup_bytes as u64 + expected));
        }
    }
    let header_end = hdr::JUMP + 2 + usize::from(file[hdr::JUMP + 1]);
    if header_end > setup_bytes || header_end > zero_page::E820_TABLE - 0x40 {
        return Err(damaged("its setup header is longer than the protocol has"));
    }

    let mut layout = Layout::new(setup.ram_bytes);
    let body_bytes = body.len() as u64;
    body.shrink_to_fit();
    layout.place_at(KERNEL_START, body, 0)?;
    let mut room = (KERNEL_START + body_bytes, 0);
    if version >= 0x20A {
        room = unpacking_room(file);
        if room.1 > room.0 {
            layout.reserve(room.0, room.1 - room.0)?;
        }
    }
    log::debug!(target: "boot", "kernel at {KERNEL_START:#x}, unpacks to {room:#x?}");

    let command_line = place_command_line(setup, version, &mut layout)?;
    let (ramdisk, ramdisk_bytes) = place_ramdisk(setup, version, &mut layout)?;

    let mut page = vec![0; zero_page::BYTES];
    page[hdr::SETUP_SECTS..header_end].copy_from_slice(&file[hdr::SETUP_SECTS..header_end]);
    page[hdr::TYPE_OF_LOADER] = 0xFF;
    page[hdr::LOADFLAGS] |= CAN_USE_HEAP;
    put16(&mut page, hdr::VID_MODE, 0xFFFF);
    put16(&mut page, hdr::HEAP_END_PTR, 0xFE00);
    put32(&mut page, hdr::CODE32_START, KERNEL_START as u32);
    put32(&mut page, hdr::CMD_LINE_PTR, command_line as u32);
    put32(&mut page, hdr::RAMDISK_IMAGE, ramdisk as u32);
    put32(&mut page, hdr::RAMDISK_SIZE, ramdisk_bytes as u32);
    fill_machine(&mut page, setup, version);
    let page = layout.place_below("the boot parameters", page, EBDA, 4096)?;

    Ok(Loaded {
        preloads: layout.into_preloads(),
        entry: Entry {
            eip: KERNEL_START as u32,
            esi: page as u32,
            ..Entry::default()
        },
    })
}

/// Where the kernel unpacks itself, from protocol 2.10 on: nothing of ours may lie there.
fn unpacking_room(file: &[u8]) -> (u64, u64) {
    let init_bytes = u64::from(u32_at(file, hdr::INIT_SIZE).unwrap_or(0));
    let preferred = u64_at(file, hdr::PREF_ADDRESS).unwrap_or(0);
    let relocatable = file.get(hdr::RELOCATABLE).is_some_and(|&r| r != 0);
    let start = if relocatable {
        preferred.max(KERNEL_START)
    } else {
        preferred
    };
    (start, start.saturating_add(init_bytes))
}

fn place_command_line(
    setup: &KernelSetup,
    version: u16,
    layout: &mut Layout,
) -> Result<u64, LoadError> {
    let limit = if version >= 0x206 {
        u32_at(&setup.kernel, hdr::CMDLINE_SIZE).unwrap_or(255)
    } else {
        255
    };
    let mut text = setup.command_line.clone().into_bytes();
    if text.len() as u64 > u64::from(limit) {
        return Err(LoadError::CommandLine {
            limit: limit.into(),
            found: text.len() as u64,
        });
    }
    text.push(0);
    layout.place_low("the command line", text)
}

/// Places the initial RAM disks, one after the other as the kernel's own loaders do, as high as may be.
fn place_ramdisk(
    setup: &KernelSetup,
    version: u16,
    layout: &mut Layout,
) -> Result<(u64, u64), LoadError> {
    let mut bytes = Vec::new();
    for module in &setup.modules {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(&module.bytes);
    }
    if bytes.is_empty() {
        return Ok((0, 0));
    }
    let last = if version >= 0x203 {
        u32_at(&setup.kernel, hdr::INITRD_ADDR_MAX).unwrap_or(0x37FF_FFFF)
    } else {
        0x37FF_FFFF
    };
    let len = bytes.len() as u64;
    let addr = layout.place_below("the initial RAM disk", bytes, u64::from(last) + 1, 4096)?;
    Ok((addr, len))
}

/// What the kernel's own real-mode code would have asked the BIOS.
fn fill_machine(page: &mut [u8], setup: &KernelSetup, version: u16) {
    let map = memory_map(setup.ram_bytes);
    let above_1m_k = (map[3].len / 1024).min(u64::from(u32::MAX)) as u32;
    put16(
        page,
        zero_page::EXT_MEM_K,
        above_1m_k.min(u32::from(u16::MAX)) as u16,
    );
    put32(page, zero_page::ALT_MEM_K, above_1m_k);
    page[zero_page::VIDEO_MODE] = 3;
    page[zero_page::VIDEO_COLUMNS] = 80;
    // 256 KiB of display memory: what INT 10h, AH=12h, BL=10h says.
    put16(page, zero_page::VIDEO_EGA_BX, 3);
    page[zero_page::VIDEO_LINES] = 25;
    page[zero_page::VIDEO_IS_VGA] = 1;
    put16(page, zero_page::VIDEO_POINTS, 16);
    page[zero_page::E820_ENTRIES] = map.len() as u8;
    for (index, range) in map.iter().enumerate() {
        let at = zero_page::E820_TABLE + 20 * index;
        page[at..at + 8].copy_from_slice(&range.start.to_le_bytes());
        page[at + 8..at + 16].copy_from_slice(&range.len.to_le_bytes());
        put32(page, at + 16, range.kind_number());
    }
    if let (Some((rsdp, _)), true) = (&setup.rsdp, version >= 0x20E) {
        page[zero_page::ACPI_RSDP..zero_page::ACPI_RSDP + 8].copy_from_slice(&rsdp.to_le_bytes());
    }
}

fn put16(page: &mut [u8], at: usize, value: u16) {
    page[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put32(page: &mut [u8], at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
