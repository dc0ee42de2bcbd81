//! Drives whose media are changed while the machine runs.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use emulator::Machine;
use platform::BlockBackend;
use storage::{Access, Medium, Opener, Request, Shared};

use crate::build::ide_places;
use crate::media::{NO_MEDIUM, open_medium};
use crate::{DiskBus, DriveKind, MachineSpec, Media};

/// A drive, as users name it: `cdrom`, `cdrom2`, `floppy`, `floppy2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveName {
    kind: DriveKind,
    /// Counted from 0.
    number: usize,
}

impl DriveName {
    /// Reads a name; `None` if no drive with media to change could be called so.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let kind = match &text[..text.len() - digits.len()] {
            "cdrom" => DriveKind::Cdrom,
            "floppy" => DriveKind::Floppy,
            _ => return None,
        };
        let number = match digits {
            "" => 1,
            // `cdrom1` is `cdrom`.
            _ => digits
                .parse()
                .ok()
                .filter(|number| (1..=4).contains(number))?,
        };
        Some(Self {
            kind,
            number: number - 1,
        })
    }
}

impl DriveName {
    /// Whether it is a floppy drive; else it is a CD-ROM drive.
    pub fn is_floppy(self) -> bool {
        self.kind == DriveKind::Floppy
    }

    /// Which one of its kind, counted from 0.
    pub fn number(self) -> usize {
        self.number
    }
}

impl std::fmt::Display for DriveName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            DriveKind::Floppy => "floppy",
            _ => "cdrom",
        };
        match self.number {
            0 => write!(f, "{kind}"),
            number => write!(f, "{kind}{}", number + 1),
        }
    }
}

/// What is done with a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub drive: DriveName,
    /// The image that is put in, in place of what is there; `None`: the drive is emptied.
    pub medium: Option<PathBuf>,
}

/// What a machine is made of while it runs: its description, open disks, and files.
pub struct Drives {
    /// The machine as it is now.
    pub spec: MachineSpec,
    /// A handle of each disk, by name.
    pub handles: Vec<(String, Shared)>,
    opener: Opener,
    disks: usize,
    cdroms: usize,
    floppies: usize,
}

impl Drives {
    /// Takes over what `media`, opened for `spec`, has beside what goes into the machine.
    pub fn new(spec: MachineSpec, media: &mut Media) -> Self {
        Self {
            spec,
            handles: std::mem::take(&mut media.handles),
            opener: std::mem::take(&mut media.opener),
            disks: media.disks.len(),
            cdroms: media.cdroms.len(),
            floppies: media.floppies.len(),
        }
    }

    /// Which option names the file at `path` as an image of this machine, by whatever name.
    pub fn option_of(&self, path: &Path) -> Option<&str> {
        self.opener.option_of(path)
    }

    /// Whether a change could be made now.
    ///
    /// # Errors
    /// The machine has no such drive, or the image cannot be used.
    pub fn check(&self, change: &Change) -> Result<()> {
        self.place(change.drive)?;
        match &change.medium {
            // A file of the machine itself may be free by then.
            Some(path) if self.opener.option_of(path).is_none() => {
                let mut opener = Opener::default();
                self.open(path, change.drive, &mut opener).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Makes a change.
    ///
    /// # Errors
    /// As for [`check`](Self::check); the drive is then as before.
    pub fn change(&mut self, machine: &mut Machine, change: &Change) -> Result<()> {
        let DriveName { kind, number } = change.drive;
        let (device, unit) = self.place(change.drive)?;
        let name = format!(
            "{}{number}",
            if kind == DriveKind::Floppy {
                "floppy"
            } else {
                "cdrom"
            }
        );
        let before = self.path(change.drive);
        if before.is_some() && change.medium == before {
            // It is locked for as long as it is in there.
            let drive = change.drive;
            self.change(
                machine,
                &Change {
                    drive,
                    medium: None,
                },
            )?;
        }
        let mut opener = std::mem::take(&mut self.opener);
        // What comes out is no longer the machine's, though it may be put in once more.
        let gone = self
            .path(change.drive)
            .and_then(|path| opener.release(&path));
        let opened = match &change.medium {
            Some(path) => self.open(path, change.drive, &mut opener).map(Some),
            None => Ok(None),
        };
        if opened.is_err()
            && let Some(gone) = gone
        {
            opener.take_back(gone);
        }
        self.opener = opener;
        let shared = opened?.map(Shared::new);
        let medium = shared
            .clone()
            .map(|shared| Box::new(shared) as Box<dyn BlockBackend>);
        machine
            .change_medium(device, unit, medium)
            .map_err(|_| anyhow!("{}: expected a drive that this machine has", change.drive))?;
        self.handles.retain(|(known, _)| *known != name);
        if let Some(shared) = shared {
            // In the order in which a machine of this description opens them.
            let rank = |name: &str| {
                ["disk", "floppy", "cdrom"]
                    .iter()
                    .position(|kind| name.starts_with(kind))
            };
            let key = |name: &str| (rank(name), name.to_owned());
            let at = self
                .handles
                .iter()
                .position(|(known, _)| key(known) > key(&name));
            let at = at.unwrap_or(self.handles.len());
            self.handles.insert(at, (name, shared));
        }
        let list = match kind {
            DriveKind::Floppy => &mut self.spec.floppy,
            _ => &mut self.spec.cdrom,
        };
        // A floppy disk that was made of a bare boot sector stands as the image.
        let taken_from_image = list.len() <= number;
        if taken_from_image {
            self.spec.image = None;
        }
        list.resize(list.len().max(number + 1), NO_MEDIUM.into());
        list[number] = change.medium.clone().unwrap_or_else(|| NO_MEDIUM.into());
        Ok(())
    }

    /// Puts the image `to` in place of `from`, which is one of the hard disks, or the flash memory, and has the same
    /// content: the guest notices nothing.
    ///
    /// # Errors
    /// The image cannot be opened; the disk is then as before.
    pub fn replace_disk(&mut self, from: &Path, to: &Path) -> Result<()> {
        let (name, request) = self.disk_at(from)?;
        let handle = self.handles.iter_mut().find(|(known, _)| *known == name);
        let Some((_, shared)) = handle else {
            bail!("{}: expected a disk of this machine", from.display());
        };
        shared.flush()?;
        // Whoever reads the frozen image from now on must not find it locked.
        let nothing = || Box::new(platform::MemoryDisk::default());
        drop(shared.replace(nothing()));
        let gone = self.opener.release(from);
        drop(gone);
        let opened = self.opener.open(to, &request);
        let (opened, path) = match opened {
            Ok(image) => (Ok(()), (image.backend, to)),
            Err(error) => (
                Err(error),
                (self.opener.open(from, &request)?.backend, from),
            ),
        };
        let (backend, path) = path;
        drop(shared.replace(backend));
        for disk in self.spec.disk.iter_mut().filter(|disk| disk.path == from) {
            disk.path = path.to_owned();
        }
        if self.spec.uefi_vars.as_deref() == Some(from) {
            self.spec.uefi_vars = Some(path.to_owned());
        }
        Ok(opened?)
    }

    /// The handle's name of the hard disk or flash memory whose image is at `path`, and how it is opened.
    fn disk_at(&self, path: &Path) -> Result<(String, Request<'static>)> {
        let request = Request {
            option: "--disk",
            medium: Medium::Disk,
            access: Access::Write,
            format: None,
            backing: false,
        };
        let (mut ide, mut virtio) = (0, 0);
        for disk in &self.spec.disk {
            let (kind, number) = match disk.bus {
                DiskBus::Ide => ("disk", &mut ide),
                DiskBus::Virtio => ("virtio", &mut virtio),
            };
            if disk.path == path {
                let access = match disk.read_only {
                    true => Access::ReadOnly,
                    false => Access::Write,
                };
                return Ok((format!("{kind}{number}"), Request { access, ..request }));
            }
            *number += 1;
        }
        if self.spec.uefi_vars.as_deref() == Some(path) {
            let medium = Medium::Flash;
            return Ok(("flash".into(), Request { medium, ..request }));
        }
        bail!("{}: expected a disk of this machine", path.display())
    }

    fn open(
        &self,
        path: &Path,
        drive: DriveName,
        opener: &mut Opener,
    ) -> Result<Box<dyn BlockBackend>> {
        let option = format!("<insert {drive}>");
        open_medium(self.spec.ephemeral, path, &option, drive.kind, opener)
    }

    /// What is in a drive.
    fn path(&self, drive: DriveName) -> Option<PathBuf> {
        let list = match drive.kind {
            DriveKind::Floppy => &self.spec.floppy,
            _ => &self.spec.cdrom,
        };
        let path = list.get(drive.number)?;
        (path.as_os_str() != NO_MEDIUM).then(|| path.clone())
    }

    /// The device that has a drive, and which of its units that is.
    fn place(&self, drive: DriveName) -> Result<(&'static str, u8)> {
        let (count, option) = match drive.kind {
            DriveKind::Floppy => (self.floppies, "--floppy"),
            _ => (self.cdroms, "--cdrom"),
        };
        if drive.number >= count {
            bail!(
                "{drive}: expected a drive that this machine has, found {count} of that kind; add {option} FILE, or \
                 {option} none for an empty drive"
            );
        }
        if drive.kind == DriveKind::Floppy {
            return Ok(("i82077", drive.number as u8));
        }
        let places = ide_places(self.disks, self.cdroms)?.cdroms;
        Ok(("ide", places[drive.number] as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_have_names() {
        for (text, name) in [
            ("cdrom", "cdrom"),
            ("cdrom1", "cdrom"),
            ("floppy2", "floppy2"),
        ] {
            assert_eq!(DriveName::parse(text).unwrap().to_string(), name);
        }
        for text in ["", "disk", "cdrom0", "cdrom5", "floppyx", "cdrom-1", "2"] {
            assert_eq!(DriveName::parse(text), None, "{text}");
        }
    }
}
