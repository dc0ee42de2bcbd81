//! Loads ELF kernels.
//!
//! System V ABI, "Object Files". Parsing is left to the `object` crate; what is done here is to check
//! each number against the file and the machine.

use object::LittleEndian;
use object::elf::{self as format, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

use super::error::LoadError;
use super::layout::Layout;

const WHAT: &str = "ELF kernel";

/// XEN_ELFNOTE_PHYS32_ENTRY: the PVH entry point.
const PVH_NOTE: u32 = 18;

/// The section headers as multiboot hands them over, with the sections' addresses filled in.
#[derive(Clone, Debug, Default)]
pub(super) struct Sections {
    pub count: u32,
    pub entry_bytes: u32,
    pub string_index: u32,
    pub table: Vec<u8>,
}

/// An ELF kernel in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct ElfKernel {
    /// The physical address of the entry point.
    pub entry: u64,
    pub sections: Sections,
}

fn damaged(why: impl Into<String>) -> LoadError {
    LoadError::Damaged {
        what: WHAT,
        why: why.into(),
    }
}

/// Places an ELF file's segments at their physical addresses.
pub(super) fn load(file: &[u8], layout: &mut Layout) -> Result<ElfKernel, LoadError> {
    if file.get(4) == Some(&format::ELFCLASS64.0) {
        load_class::<FileHeader64<LittleEndian>>(file, layout)
    } else {
        load_class::<FileHeader32<LittleEndian>>(file, layout)
    }
}

fn load_class<H: FileHeader<Endian = LittleEndian>>(
    file: &[u8],
    layout: &mut Layout,
) -> Result<ElfKernel, LoadError> {
    let endian = LittleEndian;
    let header = H::parse(file).map_err(|e| damaged(e.to_string()))?;
    if !header.is_little_endian() {
        return Err(damaged("it is for a big-endian machine"));
    }
    let machine = header.e_machine(endian);
    if machine != format::EM_386 && machine != format::EM_X86_64 {
        return Err(LoadError::Unsupported {
            what: WHAT,
            why: format!("it is for another processor (machine {})", machine.0),
        });
    }
    let segments = header
        .program_headers(endian, file)
        .map_err(|e| damaged(e.to_string()))?;
    let virtual_entry: u64 = header.e_entry(endian).into();
    let mut entry = virtual_entry;
    let mut loaded = 0u64;
    let mut from_file = 0u64;
    let headers_start: u64 = header.e_phoff(endian).into();
    let headers_end = headers_start.saturating_add(std::mem::size_of_val(segments) as u64);
    for segment in segments {
        if segment.p_type(endian) != format::PT_LOAD {
            continue;
        }
        let (offset, file_bytes): (u64, u64) = (
            segment.p_offset(endian).into(),
            segment.p_filesz(endian).into(),
        );
        let memory_bytes: u64 = segment.p_memsz(endian).into();
        let physical: u64 = segment.p_paddr(endian).into();
        let linked: u64 = segment.p_vaddr(endian).into();
        let end = offset.checked_add(file_bytes);
        let Some(end) = end.filter(|&end| end <= file.len() as u64) else {
            return Err(LoadError::Truncated {
                what: WHAT,
                expected: end.unwrap_or(u64::MAX),
                found: file.len() as u64,
            });
        };
        if memory_bytes < file_bytes {
            return Err(damaged("a segment is larger in the file than in memory"));
        }
        if memory_bytes == 0 {
            continue;
        }
        // A small file whose segments all name the same bytes must not become a large kernel.
        from_file += file_bytes;
        if from_file > 2 * file.len() as u64 {
            return Err(damaged("its segments overlap in the file"));
        }
        let bytes = file[offset as usize..end as usize].to_vec();
        let headers = headers_end.saturating_sub(offset).min(file_bytes) as usize;
        layout.place_segment(physical, bytes, memory_bytes - file_bytes, headers)?;
        loaded += memory_bytes;
        if virtual_entry
            .checked_sub(linked)
            .is_some_and(|at| at < memory_bytes)
        {
            entry = virtual_entry - linked + physical;
        }
    }
    if loaded == 0 {
        return Err(damaged("it has no segment to load"));
    }
    let sections = load_sections::<H>(file, header, layout)?;
    Ok(ElfKernel { entry, sections })
}

/// Places symbol and string tables, which no segment holds, and makes the table of section headers
/// that tells where they are: kernels print backtraces with it.
fn load_sections<H: FileHeader<Endian = LittleEndian>>(
    file: &[u8],
    header: &H,
    layout: &mut Layout,
) -> Result<Sections, LoadError> {
    let endian = LittleEndian;
    let (Ok(headers), Ok(string_index)) = (
        header.section_headers(endian, file),
        header.shstrndx(endian, file),
    ) else {
        // Without section headers a kernel still boots.
        return Ok(Sections::default());
    };
    let entry_bytes = std::mem::size_of::<H::SectionHeader>();
    let start: u64 = header.e_shoff(endian).into();
    let wide = header.is_class_64();
    let table = usize::try_from(start)
        .ok()
        .and_then(|start| file.get(start..start.checked_add(std::mem::size_of_val(headers))?));
    let Some(table) = table.filter(|_| !headers.is_empty()) else {
        return Ok(Sections::default());
    };
    let mut table = table.to_vec();
    // All in one piece: a file may have tens of thousands of sections.
    let mut tables = Vec::new();
    let mut places = Vec::new();
    for (index, section) in headers.iter().enumerate() {
        let flags = section.sh_flags(endian);
        let kind = section.sh_type(endian);
        if flags.contains(format::SHF_ALLOC)
            || kind != format::SHT_SYMTAB && kind != format::SHT_STRTAB
        {
            continue;
        }
        let Ok(bytes) = section.data(endian, file) else {
            continue;
        };
        tables.resize(usize::next_multiple_of(tables.len(), 16), 0);
        if tables.len() + bytes.len() > 2 * file.len() {
            // Sections that share their bytes: no compiler makes such symbols.
            return Ok(Sections::default());
        }
        places.push((index, tables.len() as u64));
        tables.extend_from_slice(bytes);
    }
    if !places.is_empty()
        && let Ok(base) = layout.place_above("the symbol table", tables, 16)
    {
        for (index, offset) in places {
            // sh_addr.
            let at = index * entry_bytes + if wide { 16 } else { 12 };
            let addr = base + offset;
            if wide {
                table[at..at + 8].copy_from_slice(&addr.to_le_bytes());
            } else {
                table[at..at + 4].copy_from_slice(&(addr as u32).to_le_bytes());
            }
        }
    }
    Ok(Sections {
        count: headers.len() as u32,
        entry_bytes: entry_bytes as u32,
        string_index,
        table,
    })
}

/// The PVH entry point, if the file has a note of it.
pub(super) fn pvh_entry(file: &[u8]) -> Option<u32> {
    if file.get(4) == Some(&format::ELFCLASS64.0) {
        pvh_entry_class::<FileHeader64<LittleEndian>>(file)
    } else {
        pvh_entry_class::<FileHeader32<LittleEndian>>(file)
    }
}

pub(super) fn has_pvh_note(file: &[u8]) -> bool {
    pvh_entry(file).is_some()
}

fn pvh_entry_class<H: FileHeader<Endian = LittleEndian>>(file: &[u8]) -> Option<u32> {
    let endian = LittleEndian;
    let header = H::parse(file).ok()?;
    if !header.is_little_endian() {
        return None;
    }
    for segment in header.program_headers(endian, file).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, file) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"Xen" && note.n_type(endian).0 == PVH_NOTE {
                return super::u32_at(note.desc(), 0);
            }
        }
    }
    None
}
