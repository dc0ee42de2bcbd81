//! `glassbox info`: what this build has.

use anyhow::Result;
use devices::boards::pc::{self, PcConfig, SoundCards};

use crate::{app, display, outlet};

/// Prints it.
///
/// # Errors
/// The host refuses memory for a machine to look at, or nobody reads what is printed.
pub fn print() -> Result<()> {
    let mut config = PcConfig::new(1 << 20);
    config.ns_per_instruction = spec::build::DEFAULT_RATIO;
    config.sound = Some(SoundCards {
        sb16: true,
        ac97: true,
    });
    let mut board = pc::build(config)?;
    let mut names: Vec<&str> = board
        .bus
        .devices()
        .map(|(_, device)| device.name())
        .collect();
    names.sort_unstable();
    names.dedup();
    let (engines, recompilers) = app::engines();
    let rows = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("CPU models", spec::build::cpu_models().join(", ")),
        ("engines", engines.to_owned()),
        ("recompilers", recompilers.to_owned()),
        ("displays", display::names().join(", ")),
        ("devices", names.join(", ")),
        (
            "networks",
            format!("user, with {}", spec::CardModel::names().join(", ")),
        ),
        (
            "sound",
            format!(
                "{}, with {}",
                crate::sound::places().join(", "),
                spec::SoundModel::names().join(", ")
            ),
        ),
        (
            "boots",
            "disk, CD-ROM, floppy, network card's ROM, bzImage, multiboot 1, multiboot 2, PVH ELF, \
             boot sector"
                .to_owned(),
        ),
        (
            "firmware",
            "the built-in BIOS; SeaBIOS, OVMF and the like from a file".to_owned(),
        ),
        (
            "inputs",
            "PS/2 keyboard and mouse, VMware's pointer, virtio keyboard and tablet".to_owned(),
        ),
        ("drives", "IDE disk, ATAPI CD-ROM, floppy, virtio disk".to_owned()),
        ("not there", "USB".to_owned()),
    ];
    let lines = rows.map(|(name, value)| format!("{name:<12} {value}\n"));
    outlet::print(&lines.concat())?;
    Ok(())
}
