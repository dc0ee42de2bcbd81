//! Multiboot 2, version 2.0.

use super::elf::{self, Sections};
use super::error::LoadError;
use super::layout::Layout;
use super::memory_map::memory_map;
use super::multiboot1::{LOADER_NAME, place_flat};
use super::video::{Screen, Wish};
use super::{Entry, FlatEntry, KernelSetup, Loaded, u16_at, u32_at};

const WHAT: &str = "multiboot 2 kernel";
pub(super) const MAGIC: u32 = 0xE852_50D6;
const LOADED_MAGIC: u32 = 0x36D7_6289;
/// The header lies within this many bytes (§3.1).
pub(super) const SEARCH_BYTES: usize = 32768;

/// Types of the tags in the header (§3.1.3 on).
mod wanted {
    pub const END: u16 = 0;
    pub const INFORMATION: u16 = 1;
    pub const ADDRESSES: u16 = 2;
    pub const ENTRY: u16 = 3;
    pub const CONSOLE: u16 = 4;
    pub const FRAMEBUFFER: u16 = 5;
    pub const MODULE_ALIGN: u16 = 6;
    pub const RELOCATABLE: u16 = 10;
}

/// Types of the tags in the boot information (§3.6).
mod told {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const LOADER_NAME: u32 = 2;
    pub const MODULE: u32 = 3;
    pub const MEMORY: u32 = 4;
    pub const MEMORY_MAP: u32 = 6;
    pub const FRAMEBUFFER: u32 = 8;
    pub const ELF_SECTIONS: u32 = 9;
    pub const ACPI_OLD: u32 = 14;
    pub const ACPI_NEW: u32 = 15;
    /// What a header may demand: the above, and tags that this machine has nothing to put into
    /// and the specification lets a loader leave out.
    pub const KNOWN: [u32; 11] = [1, 2, 3, 4, 5, 6, 8, 9, 14, 15, 21];
}

/// What the header's tags say.
#[derive(Default)]
struct Header {
    addresses: Option<[u32; 4]>,
    entry: Option<u32>,
    screen: Screen,
}

/// The offset of the multiboot 2 header, if one with a good checksum is there.
pub(super) fn find_header(file: &[u8]) -> Option<usize> {
    let end = file.len().min(SEARCH_BYTES);
    (0..end.saturating_sub(15)).step_by(8).find(|&at| {
        let field = |n: usize| u32_at(file, at + 4 * n).unwrap_or(0);
        field(0) == MAGIC && (0..4).fold(0u32, |sum, n| sum.wrapping_add(field(n))) == 0
    })
}

pub(super) fn load(setup: &KernelSetup) -> Result<Loaded, LoadError> {
    let file = &setup.kernel;
    let at = find_header(file).ok_or_else(|| damaged("its multiboot 2 header is missing"))?;
    let header = parse_header(file, at)?;
    let mut layout = Layout::new(setup.ram_bytes);
    let (entry, sections) = match (header.addresses, header.entry) {
        (Some(addresses), Some(entry)) => {
            place_flat(file, WHAT, at, addresses, &mut layout)?;
            (u64::from(entry), Sections::default())
        }
        (Some(_), None) => return Err(damaged("it has load addresses but no entry address")),
        (None, entry) => {
            let kernel = elf::load(file, &mut layout)?;
            (entry.map_or(kernel.entry, u64::from), kernel.sections)
        }
    };
    let eip = u32::try_from(entry)
        .map_err(|_| damaged(&format!("its entry point {entry:#x} is above 4 GiB")))?;
    let (info, palette) = information(setup, header.screen, &sections, &mut layout)?;
    let (preloads, low_part) = layout.finish()?;
    Ok(Loaded {
        preloads,
        low_part,
        video_mode: header.screen.bios_mode(),
        palette,
        entry: Entry::Flat(FlatEntry {
            eip,
            eax: LOADED_MAGIC,
            ebx: info,
        }),
        ..Loaded::default()
    })
}

fn damaged(why: &str) -> LoadError {
    LoadError::Damaged {
        what: WHAT,
        why: why.into(),
    }
}

fn unsupported(why: String) -> LoadError {
    LoadError::Unsupported { what: WHAT, why }
}

fn parse_header(file: &[u8], start: usize) -> Result<Header, LoadError> {
    let field = |at: usize| {
        u32_at(file, at).ok_or(LoadError::Truncated {
            what: WHAT,
            expected: at as u64 + 4,
            found: file.len() as u64,
        })
    };
    if field(start + 4)? != 0 {
        return Err(unsupported("it is for another architecture".into()));
    }
    let end = start.saturating_add(field(start + 8)? as usize);
    let mut header = Header::default();
    let mut at = start + 16;
    while at < end {
        let kind = u16_at(file, at).ok_or_else(|| damaged("its header's tags have no end"))?;
        let optional = u16_at(file, at + 2).unwrap_or(0) & 1 != 0;
        let bytes = field(at + 4)? as usize;
        if bytes < 8 {
            return Err(damaged("a tag of its header has no length"));
        }
        match kind {
            wanted::END => break,
            wanted::INFORMATION => {
                for n in 0..(bytes - 8) / 4 {
                    let tag = field(at + 8 + 4 * n)?;
                    if !optional && !told::KNOWN.contains(&tag) {
                        return Err(unsupported(format!("it demands boot information {tag}")));
                    }
                }
            }
            wanted::ADDRESSES => {
                header.addresses = Some([
                    field(at + 8)?,
                    field(at + 12)?,
                    field(at + 16)?,
                    field(at + 20)?,
                ]);
            }
            wanted::ENTRY => header.entry = Some(field(at + 8)?),
            wanted::FRAMEBUFFER => {
                let wish = Wish {
                    width: field(at + 8)?,
                    height: field(at + 12)?,
                    depth: field(at + 16)?,
                };
                header.screen = match wish.depth {
                    // Text: width and height are in characters.
                    0 => Screen::Text,
                    _ => match Screen::of(wish) {
                        None if !optional => return Err(wish.refusal(WHAT)),
                        screen => screen.unwrap_or_default(),
                    },
                };
            }
            wanted::CONSOLE | wanted::MODULE_ALIGN | wanted::RELOCATABLE => {}
            // EFI entries are alternatives, for machines with EFI.
            7..=9 => {}
            _ if optional => {}
            _ => return Err(unsupported(format!("it demands header tag {kind}"))),
        }
        at = at.saturating_add(bytes.next_multiple_of(8));
    }
    Ok(header)
}

/// Places modules and the boot information (§3.6); returns the latter's address, and the palette's.
fn information(
    setup: &KernelSetup,
    screen: Screen,
    sections: &Sections,
    layout: &mut Layout,
) -> Result<(u32, Option<u32>), LoadError> {
    let map = memory_map(setup.ram_bytes);
    let mut info = vec![0; 8];
    push_tag(
        &mut info,
        told::COMMAND_LINE,
        &[],
        &text(&setup.command_line),
    );
    push_tag(&mut info, told::LOADER_NAME, &[], &text(LOADER_NAME));
    for module in &setup.modules {
        let start = layout.place_above("a module", module.bytes.clone(), 4096)? as u32;
        let end = start + module.bytes.len() as u32;
        push_tag(&mut info, told::MODULE, &[start, end], &text(&module.text));
    }
    let lower = (map[0].len / 1024) as u32;
    let upper = (map[3].len / 1024) as u32;
    push_tag(&mut info, told::MEMORY, &[lower, upper], &[]);
    let mut entries = Vec::new();
    for range in &map {
        entries.extend_from_slice(&range.start.to_le_bytes());
        entries.extend_from_slice(&range.len.to_le_bytes());
        entries.extend_from_slice(&range.kind_number().to_le_bytes());
        entries.extend_from_slice(&[0; 4]);
    }
    push_tag(&mut info, told::MEMORY_MAP, &[24, 0], &entries);
    let mut palette_offset = None;
    let mut colours = Vec::new();
    if screen.colours() > 0 {
        // The count has 16 bits in the specification's multiboot2.h and in GRUB, 32 in its text.
        colours = screen.colours().to_le_bytes().to_vec();
        palette_offset = Some((info.len() + 32 + colours.len()) as u32);
        colours.resize(colours.len() + 3 * usize::from(screen.colours()), 0);
    }
    push_tag(
        &mut info,
        told::FRAMEBUFFER,
        &screen.framebuffer(),
        &colours,
    );
    if sections.count > 0 {
        let fields = [sections.count, sections.entry_bytes, sections.string_index];
        push_tag(&mut info, told::ELF_SECTIONS, &fields, &sections.table);
    }
    if let Some((_, rsdp)) = &setup.rsdp
        && rsdp.len() >= 20
    {
        push_tag(&mut info, told::ACPI_OLD, &[], &rsdp[..20]);
        if rsdp[15] >= 2 {
            push_tag(&mut info, told::ACPI_NEW, &[], rsdp);
        }
    }
    push_tag(&mut info, told::END, &[], &[]);
    let total = info.len() as u32;
    info[..4].copy_from_slice(&total.to_le_bytes());
    let info = layout.place_low("the boot information", info)? as u32;
    Ok((info, palette_offset.map(|offset| info + offset)))
}

fn push_tag(info: &mut Vec<u8>, kind: u32, fields: &[u32], bytes: &[u8]) {
    let size = 8 + 4 * fields.len() + bytes.len();
    info.extend_from_slice(&kind.to_le_bytes());
    info.extend_from_slice(&(size as u32).to_le_bytes());
    for field in fields {
        info.extend_from_slice(&field.to_le_bytes());
    }
    info.extend_from_slice(bytes);
    info.resize(info.len().next_multiple_of(8), 0);
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
