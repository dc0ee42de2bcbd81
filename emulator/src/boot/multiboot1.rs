//! Multiboot, version 0.6.96.

use super::elf::{self, Sections};
use super::error::LoadError;
use super::layout::Layout;
use super::memory_map::memory_map;
use super::video::{Screen, Wish};
use super::{Entry, FlatEntry, KernelSetup, Loaded, u32_at};

const WHAT: &str = "multiboot kernel";
pub(super) const MAGIC: u32 = 0x1BAD_B002;
const LOADED_MAGIC: u32 = 0x2BAD_B002;
/// The header lies within this many bytes (§3.1).
pub(super) const SEARCH_BYTES: usize = 8192;

const WANTS_VIDEO: u32 = 1 << 2;
/// The header's `mode_type` of text; 0 is a linear framebuffer.
const TEXT_MODE: u32 = 1;
const HAS_ADDRESSES: u32 = 1 << 16;
/// Page-aligned modules, memory information, video: flags that this loader honours.
const KNOWN: u32 = 0b111;

/// Name under which the loader presents itself.
pub(super) const LOADER_NAME: &str = "Glassbox";

/// The offset of the multiboot header, if one with a good checksum is there.
pub(super) fn find_header(file: &[u8]) -> Option<usize> {
    let end = file.len().min(SEARCH_BYTES);
    (0..end.saturating_sub(11)).step_by(4).find(|&at| {
        let field = |n: usize| u32_at(file, at + 4 * n).unwrap_or(0);
        field(0) == MAGIC && field(0).wrapping_add(field(1)).wrapping_add(field(2)) == 0
    })
}

pub(super) fn load(setup: &KernelSetup) -> Result<Loaded, LoadError> {
    let file = &setup.kernel;
    let Some(at) = find_header(file) else {
        return Err(LoadError::Damaged {
            what: WHAT,
            why: "its multiboot header is missing".into(),
        });
    };
    let flags = u32_at(file, at + 4).unwrap_or(0);
    if flags & 0xFFFF & !KNOWN != 0 {
        return Err(LoadError::Unsupported {
            what: WHAT,
            why: format!(
                "its header demands unknown features (flags {:#x})",
                flags & 0xFFFF & !KNOWN
            ),
        });
    }
    let (screen, note) = screen(file, at, flags)?;
    let mut layout = Layout::new(setup.ram_bytes);
    let (entry, sections) = if flags & HAS_ADDRESSES != 0 {
        (load_flat(file, at, &mut layout)?, Sections::default())
    } else {
        let kernel = elf::load(file, &mut layout)?;
        (kernel.entry, kernel.sections)
    };
    let eip = u32::try_from(entry).map_err(|_| LoadError::Damaged {
        what: WHAT,
        why: format!("its entry point {entry:#x} is above 4 GiB"),
    })?;
    let (info, palette) = information(setup, screen, &sections, &mut layout)?;
    let (preloads, low_part) = layout.finish()?;
    Ok(Loaded {
        preloads,
        low_part,
        video_mode: screen.and_then(Screen::bios_mode),
        palette,
        note,
        entry: Entry::Flat(FlatEntry {
            eip,
            eax: LOADED_MAGIC,
            ebx: info,
        }),
    })
}

/// The screen that the header asks for (§3.1.4), and what to tell the user. The mode is what the
/// kernel would like: a loader may give it another, as long as the information says which.
fn screen(
    file: &[u8],
    header: usize,
    flags: u32,
) -> Result<(Option<Screen>, Option<String>), LoadError> {
    if flags & WANTS_VIDEO == 0 {
        return Ok((None, None));
    }
    let field = |n: usize| {
        u32_at(file, header + 32 + 4 * n).ok_or(LoadError::Truncated {
            what: WHAT,
            expected: header as u64 + 48,
            found: file.len() as u64,
        })
    };
    if field(0)? == TEXT_MODE {
        return Ok((Some(Screen::Text), None));
    }
    let wish = Wish {
        width: field(1)?,
        height: field(2)?,
        depth: field(3)?,
    };
    Ok(match Screen::of(wish) {
        Some(screen) => (Some(screen), None),
        None => (Some(Screen::Text), Some(wish.note())),
    })
}

/// Loads by the addresses in the header (§3.1.3), for kernels that are not ELF.
fn load_flat(file: &[u8], header: usize, layout: &mut Layout) -> Result<u64, LoadError> {
    let field = |n: usize| {
        u32_at(file, header + 12 + 4 * n).ok_or(LoadError::Truncated {
            what: WHAT,
            expected: header as u64 + 32,
            found: file.len() as u64,
        })
    };
    let (header_addr, load_addr, load_end) = (field(0)?, field(1)?, field(2)?);
    let (bss_end, entry) = (field(3)?, field(4)?);
    place_flat(
        file,
        WHAT,
        header,
        [header_addr, load_addr, load_end, bss_end],
        layout,
    )?;
    Ok(entry.into())
}

/// Places a flat kernel; the addresses are those of header, load start, load end and BSS end. A load end
/// of 0 stands for the file's end, a BSS end of 0 for none.
pub(super) fn place_flat(
    file: &[u8],
    what: &'static str,
    header: usize,
    [header_addr, load_addr, load_end, bss_end]: [u32; 4],
    layout: &mut Layout,
) -> Result<(), LoadError> {
    let damaged = |why: &str| LoadError::Damaged {
        what,
        why: why.into(),
    };
    let before = header_addr
        .checked_sub(load_addr)
        .ok_or_else(|| damaged("its header lies before its load address"))?;
    let offset = header
        .checked_sub(before as usize)
        .ok_or_else(|| damaged("its load address lies before the file's start"))?;
    let len = match load_end {
        0 => file.len() - offset,
        end => end
            .checked_sub(load_addr)
            .ok_or_else(|| damaged("its load end lies before its load address"))?
            as usize,
    };
    let bytes = file
        .get(offset..offset.saturating_add(len))
        .ok_or(LoadError::Truncated {
            what,
            expected: offset as u64 + len as u64,
            found: file.len() as u64,
        })?;
    let zeros = u64::from(bss_end).saturating_sub(u64::from(load_addr) + len as u64);
    layout.place_at(load_addr.into(), bytes.to_vec(), zeros)
}

/// Places modules and the information structure (§3.3); returns the latter's address, and the
/// palette's.
fn information(
    setup: &KernelSetup,
    screen: Option<Screen>,
    sections: &Sections,
    layout: &mut Layout,
) -> Result<(u32, Option<u32>), LoadError> {
    let map = memory_map(setup.ram_bytes);
    let mut flags = 1 << 0 | 1 << 2 | 1 << 6 | 1 << 9;
    let mut info = [0u32; 30];
    info[1] = (map[0].len / 1024) as u32;
    info[2] = (map[3].len / 1024) as u32;
    info[4] = place_text(&setup.command_line, layout)?;
    if !setup.modules.is_empty() {
        flags |= 1 << 3;
        let mut table = Vec::new();
        for module in &setup.modules {
            let start = layout.place_above("a module", module.bytes.clone(), 4096)? as u32;
            let text = place_text(&module.text, layout)?;
            for field in [start, start + module.bytes.len() as u32, text, 0] {
                table.extend_from_slice(&field.to_le_bytes());
            }
        }
        info[5] = setup.modules.len() as u32;
        info[6] = layout.place_low("the list of modules", table)? as u32;
    }
    if sections.count > 0 {
        flags |= 1 << 5;
        info[7] = sections.count;
        info[8] = sections.entry_bytes;
        info[9] = layout.place_low("the section headers", sections.table.clone())? as u32;
        info[10] = sections.string_index;
    }
    let mut table = Vec::new();
    for range in &map {
        table.extend_from_slice(&20u32.to_le_bytes());
        table.extend_from_slice(&range.start.to_le_bytes());
        table.extend_from_slice(&range.len.to_le_bytes());
        table.extend_from_slice(&range.kind_number().to_le_bytes());
    }
    info[11] = table.len() as u32;
    info[12] = layout.place_low("the memory map", table)? as u32;
    info[16] = place_text(LOADER_NAME, layout)?;
    let mut palette = None;
    if let Some(screen) = screen {
        flags |= 1 << 12;
        info[22..28].copy_from_slice(&screen.framebuffer());
        if screen.colours() > 0 {
            let colours = vec![0; 3 * usize::from(screen.colours())];
            // Where the specification's multiboot.h has these, and GRUB: its text has them two
            // bytes earlier.
            info[28] = layout.place_low("the palette", colours)? as u32;
            info[29] = screen.colours().into();
            palette = Some(info[28]);
        }
    }
    info[0] = flags;
    let bytes = info.iter().flat_map(|field| field.to_le_bytes()).collect();
    let info = layout.place_low("the boot information", bytes)? as u32;
    Ok((info, palette))
}

pub(super) fn place_text(text: &str, layout: &mut Layout) -> Result<u32, LoadError> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    Ok(layout.place_low("a command line", bytes)? as u32)
}
