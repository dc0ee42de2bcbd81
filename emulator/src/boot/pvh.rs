//! PVH: Xen's "x86/HVM direct boot ABI", public/arch-x86/hvm/start_info.h.

use super::error::LoadError;
use super::layout::Layout;
use super::memory_map::memory_map;
use super::multiboot1::place_text;
use super::{Entry, FlatEntry, KernelSetup, Loaded, elf};

const MAGIC: u32 = 0x336E_C578;

pub(super) fn load(setup: &KernelSetup) -> Result<Loaded, LoadError> {
    let Some(eip) = elf::pvh_entry(&setup.kernel) else {
        return Err(LoadError::Damaged {
            what: "PVH kernel",
            why: "its PVH note is missing".into(),
        });
    };
    let mut layout = Layout::new(setup.ram_bytes);
    elf::load(&setup.kernel, &mut layout)?;

    let mut modules = Vec::new();
    for module in &setup.modules {
        let start = layout.place_above("a module", module.bytes.clone(), 4096)?;
        let text = place_text(&module.text, &mut layout)?;
        for field in [start, module.bytes.len() as u64, text.into(), 0] {
            modules.extend_from_slice(&field.to_le_bytes());
        }
    }
    let modules = match modules.is_empty() {
        true => 0,
        false => layout.place_low("the list of modules", modules)?,
    };
    let map = memory_map(setup.ram_bytes);
    let mut entries = Vec::new();
    for range in &map {
        entries.extend_from_slice(&range.start.to_le_bytes());
        entries.extend_from_slice(&range.len.to_le_bytes());
        entries.extend_from_slice(&range.kind_number().to_le_bytes());
        entries.extend_from_slice(&[0; 4]);
    }
    let entries = layout.place_low("the memory map", entries)?;
    let command_line = place_text(&setup.command_line, &mut layout)?;
    let rsdp = setup.rsdp.as_ref().map_or(0, |(addr, _)| *addr);

    let mut info = Vec::new();
    for field in [MAGIC, 1, 0, setup.modules.len() as u32] {
        info.extend_from_slice(&field.to_le_bytes());
    }
    for field in [modules, command_line.into(), rsdp, entries] {
        info.extend_from_slice(&field.to_le_bytes());
    }
    for field in [map.len() as u32, 0] {
        info.extend_from_slice(&field.to_le_bytes());
    }
    let info = layout.place_low("the boot information", info)?;
    let (preloads, low_part) = layout.finish()?;
    Ok(Loaded {
        preloads,
        low_part,
        entry: Entry::Flat(FlatEntry {
            eip,
            ebx: info as u32,
            ..FlatEntry::default()
        }),
        ..Loaded::default()
    })
}
