//! A saved machine with its disks: what [`emulator::saved`] does not know.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use emulator::Machine;
use emulator::saved::{self, Extra, Saved};
use platform::BlockBackend;
use serde::{Deserialize, Serialize};
use storage::{Below, Shared};

use crate::{MachineSpec, Media, media};

/// What stands in a manifest beside the machine's own part.
#[derive(Serialize, Deserialize)]
struct Description {
    spec: MachineSpec,
    /// Each disk by name, and how it was when the machine was saved.
    disks: Vec<(String, String)>,
    /// Why its run ended.
    end: String,
}

/// Saves `machine`, which was built from `spec` with these disks, into the folder `dir`; `end` says
/// why its run ended, as a report does.
///
/// # Errors
/// The host's refusal; what was saved there before is whole then.
pub fn save(
    dir: &Path,
    machine: &mut Machine,
    spec: &MachineSpec,
    disks: &mut [(String, Shared)],
    picture: Option<&[u8]>,
    end: &str,
) -> Result<()> {
    let mut generations = Vec::new();
    for (name, disk) in disks.iter_mut() {
        disk.flush()
            .with_context(|| format!("{}: {name} cannot be flushed", dir.display()))?;
        generations.push((name.clone(), disk.generation()?));
    }
    let description = Description {
        spec: with_whole_paths(spec)?,
        disks: generations,
        end: end.into(),
    };
    let description = serde_json::to_value(&description).map_err(|error| {
        anyhow!(
            "--save {}: expected images whose names are Unicode ({error}); rename them",
            dir.display()
        )
    })?;
    type Writer<'a> = Box<dyn FnMut(&mut dyn io::Write) -> io::Result<()> + 'a>;
    let mut writers: Vec<(&str, Writer<'_>)> = Vec::new();
    for (name, disk) in disks {
        writers.push((name, Box::new(move |out| disk.save_kept(out))));
    }
    if let Some(picture) = picture {
        writers.push(("screen.png", Box::new(|out| out.write_all(picture))));
    }
    let mut extra: Vec<Extra<'_>> = writers
        .iter_mut()
        .map(|(name, write)| (*name, &mut **write as _))
        .collect();
    saved::save(dir, machine, description, &mut extra)?;
    Ok(())
}

/// A saved machine whose disks are open and as it left them.
pub struct Restored {
    saved: Saved,
    /// What it is made of.
    pub spec: MachineSpec,
    /// Its disks.
    pub media: Media,
}

/// Looks at the saved machine in the folder `dir` and opens its disks.
///
/// # Errors
/// There is none, it is damaged, or a disk is not as it was; nothing is changed then.
pub fn open(dir: &Path) -> Result<Restored> {
    open_as(dir, None, Below::Refused)
}

/// The same of a machine whose disks are others by now: those of `spec`, whose content whoever asks answers for.
///
/// # Errors
/// As for [`open`], but for how the disks are.
pub fn open_with(dir: &Path, spec: &MachineSpec, below: Below) -> Result<Restored> {
    open_as(dir, Some(spec), below)
}

fn open_as(dir: &Path, instead: Option<&MachineSpec>, below: Below) -> Result<Restored> {
    let saved = Saved::open(dir)?;
    let description = saved.manifest().machine.clone();
    let description: Description = serde_json::from_value(description).with_context(|| {
        format!(
            "{}: expected a machine that this build can describe",
            dir.display()
        )
    })?;
    if matches!(
        description.end.as_str(),
        "poweroff" | "triple-fault" | "halted"
    ) {
        bail!(
            "{}: expected a machine that can go on, found one whose run had ended: {}; start its \
             images anew",
            dir.display(),
            description.end
        );
    }
    let mut spec = description.spec;
    if let Some(instead) = instead {
        spec.disk.clone_from(&instead.disk);
        spec.uefi_vars.clone_from(&instead.uefi_vars);
        spec.cdrom.clone_from(&instead.cdrom);
        spec.floppy.clone_from(&instead.floppy);
        // Ports of the host are no part of the guest.
        if let (Some(net), Some(instead)) = (&mut spec.net, &instead.net) {
            net.hostfwd.clone_from(&instead.hostfwd);
            net.restrict = instead.restrict;
            net.host_loopback = instead.host_loopback;
        }
    }
    // The kernel is in the saved state, whatever became of its file.
    let mut media = media::open_drives(&spec, below)?;
    let names = |list: &[(String, String)]| -> Vec<String> {
        list.iter().map(|(name, _)| name.clone()).collect()
    };
    let found: Vec<String> = media.handles.iter().map(|(name, _)| name.clone()).collect();
    if found != names(&description.disks) {
        bail!(
            "{}: expected the drives {}, found {}",
            dir.display(),
            names(&description.disks).join(", "),
            found.join(", ")
        );
    }
    for ((name, disk), (_, generation)) in media.handles.iter_mut().zip(&description.disks) {
        let now = disk.generation()?;
        let is_answered_for = instead.is_some() && !name.starts_with("cdrom");
        if now != *generation && !is_answered_for {
            bail!(
                "{}: expected {name} as the machine left it ({generation}), found it changed ({now}); \
                 put the image back as it was",
                dir.display()
            );
        }
        if let Some(kept) = saved.extra(name)? {
            disk.load_kept(&mut &kept[..]).with_context(|| {
                format!("{}: what {name} kept cannot be restored", dir.display())
            })?;
        }
    }
    Ok(Restored { saved, spec, media })
}

impl Restored {
    /// Its parts: the saved state, which [`Saved::restore`] puts into the machine that was built
    /// from the spec, as if its firmware were the built-in one and there were no kernel; what it is
    /// made of; and its disks.
    pub fn into_parts(self) -> (Saved, MachineSpec, Media) {
        (self.saved, self.spec, self.media)
    }
}

/// The same with paths that do not depend on where the process runs.
fn with_whole_paths(spec: &MachineSpec) -> io::Result<MachineSpec> {
    let mut spec = spec.clone();
    let disks = spec.disk.iter_mut().map(|disk| &mut disk.path);
    let others = [&mut spec.image, &mut spec.kernel, &mut spec.vga_rom];
    let others = others.into_iter().flatten();
    let removable = spec.cdrom.iter_mut().chain(&mut spec.floppy);
    let removable = removable.filter(|path| path.as_os_str() != media::NO_MEDIUM);
    for path in disks.chain(others).chain(removable) {
        *path = std::path::absolute(&*path)?;
    }
    Ok(spec)
}
