//! The Linux/x86 boot protocol: the kernel's Documentation/arch/x86/boot.rst.
//!
//! Kernels are entered at their real-mode entry point, as boot loaders on a disk do: their own setup code asks the BIOS
//! for the memory map and the display, and other programs in this format (memory testers, network boot loaders) have no
//! other entry.

use platform::memory::LOW_RAM_END;

use super::error::LoadError;
use super::layout::Layout;
use super::{Entry, KernelSetup, Loaded, RealEntry, u16_at, u32_at, u64_at};

const WHAT: &str = "Linux kernel (bzImage)";

/// Offsets within the setup header.
mod hdr {
    pub const SETUP_SECTS: usize = 0x1F1;
    pub const SYSSIZE: usize = 0x1F4;
    pub const VID_MODE: usize = 0x1FA;
    pub const VERSION: usize = 0x206;
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const LOADFLAGS: usize = 0x211;
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

const LOADED_HIGH: u8 = 1 << 0;
const CAN_USE_HEAP: u8 = 1 << 7;
/// A loader without a number of its own.
const UNKNOWN_LOADER: u8 = 0xFF;

/// Where the parts of a kernel go.
struct Places {
    /// The setup code, with its heap and stack behind it up to the command line.
    setup: u64,
    command_line: u64,
    /// The kernel proper.
    body: u64,
}

/// A bzImage's kernel lies above 1 MiB.
const HIGH: Places = Places {
    setup: 0x1_0000,
    command_line: 0x2_0000,
    body: 0x10_0000,
};

/// A zImage's lies below its setup code.
const LOW: Places = Places {
    setup: 0x9_0000,
    command_line: 0x9_A000,
    body: 0x1_0000,
};

pub(super) fn load(setup: &KernelSetup) -> Result<Loaded, LoadError> {
    let file = &setup.kernel;
    let truncated = |expected: u64| LoadError::Truncated {
        what: WHAT,
        expected,
        found: file.len() as u64,
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
    let high = file[hdr::LOADFLAGS] & LOADED_HIGH != 0;
    let places = if high { &HIGH } else { &LOW };
    let body = file[setup_bytes..].to_vec();
    if version >= 0x204 {
        let paragraphs = u32_at(file, hdr::SYSSIZE).unwrap_or(0);
        let expected = u64::from(paragraphs) * 16;
        // The last paragraph may be cut short by the file's end.
        if (body.len() as u64) + 16 <= expected {
            return Err(truncated(setup_bytes as u64 + expected));
        }
    }

    let mut layout = Layout::new(setup.ram_bytes);
    let mut room = (places.body, body.len() as u64);
    if !high && places.body + room.1 > places.setup {
        return Err(LoadError::TooLarge {
            what: "the kernel (zImage)",
            bytes: room.1,
        });
    }
    let body_end = places.body + room.1;
    if version >= 0x20A {
        room = unpacking_room(file);
    }
    let end = body_end.max(room.0.saturating_add(room.1));
    layout
        .place_at(places.body, body, 0)
        .and_then(|()| match room.1 {
            _ if version < 0x20A => Ok(()),
            0 => Ok(()),
            len => layout.reserve(room.0, len),
        })
        .map_err(|error| too_little(setup, end, error))?;
    log::debug!(target: "boot", "kernel at {:#x}, unpacks to {room:#x?}", places.body);

    let (ramdisk, ramdisk_bytes) = place_ramdisk(setup, version, &mut layout)
        .map_err(|error| too_little(setup, end, error))?;
    let mut code = file[..setup_bytes].to_vec();
    code[hdr::TYPE_OF_LOADER] = UNKNOWN_LOADER;
    code[hdr::LOADFLAGS] |= CAN_USE_HEAP;
    let stack = (places.command_line - places.setup) as u16;
    // 64 KiB, the whole segment, wrap to 0; the protocol takes 200h off the heap's end for the stack.
    put16(&mut code, hdr::HEAP_END_PTR, stack.wrapping_sub(0x200));
    put16(&mut code, hdr::VID_MODE, video_mode(&setup.command_line));
    put32(&mut code, hdr::CMD_LINE_PTR, places.command_line as u32);
    put32(&mut code, hdr::RAMDISK_IMAGE, ramdisk as u32);
    put32(&mut code, hdr::RAMDISK_SIZE, ramdisk_bytes as u32);
    layout.place_at(places.command_line, command_line(setup, version)?, 0)?;
    layout.place_at(places.setup, code, 0)?;

    let (preloads, _) = layout.finish()?;
    let segment = (places.setup >> 4) as u16;
    Ok(Loaded {
        preloads,
        entry: Entry::Real(RealEntry {
            cs: segment + 0x20,
            ip: 0,
            segment,
            sp: stack.wrapping_sub(0x10),
        }),
        ..Loaded::default()
    })
}

/// `error`, or how much RAM would do for a kernel that takes the memory up to `end`, and for its
/// RAM disk.
fn too_little(setup: &KernelSetup, end: u64, error: LoadError) -> LoadError {
    let ramdisk: u64 = setup
        .modules
        .iter()
        .map(|module| (module.bytes.len() as u64).next_multiple_of(4))
        .sum();
    let what = match ramdisk {
        0 => "this kernel",
        _ => "this kernel, with its initial RAM disk,",
    };
    let needed = end
        .saturating_add(4095 + ramdisk.next_multiple_of(4096))
        .checked_next_multiple_of(1 << 20);
    match needed {
        Some(needed) if needed <= LOW_RAM_END && setup.ram_bytes < needed => {
            LoadError::TooLittleRam {
                what,
                needed,
                ram: setup.ram_bytes,
            }
        }
        _ => error,
    }
}

/// What the loader makes of `vga=` (boot.rst, "Special Command Line Options").
fn video_mode(command_line: &str) -> u16 {
    let last = command_line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("vga="))
        .next_back();
    match last {
        None | Some("normal") => 0xFFFF,
        Some("ext") => 0xFFFE,
        Some("ask") => 0xFFFD,
        Some(number) => match number.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16).unwrap_or(0xFFFF),
            None => number.parse().unwrap_or(0xFFFF),
        },
    }
}

/// Start and size of where the kernel unpacks itself, from protocol 2.10 on: nothing of ours may lie there.
fn unpacking_room(file: &[u8]) -> (u64, u64) {
    let init_bytes = u64::from(u32_at(file, hdr::INIT_SIZE).unwrap_or(0));
    let preferred = u64_at(file, hdr::PREF_ADDRESS).unwrap_or(0);
    let relocatable = file.get(hdr::RELOCATABLE).is_some_and(|&r| r != 0);
    let start = if relocatable {
        preferred.max(HIGH.body)
    } else {
        preferred
    };
    (start, init_bytes)
}

/// The command line with its end.
fn command_line(setup: &KernelSetup, version: u16) -> Result<Vec<u8>, LoadError> {
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
    Ok(text)
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

fn put16(page: &mut [u8], at: usize, value: u16) {
    page[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put32(page: &mut [u8], at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
