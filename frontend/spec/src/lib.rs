//! What a machine is made of, as a file can hold it, and building a machine from that.
//!
//! The command line makes a [`MachineSpec`], and so does whatever else makes machines;
//! [`media::open`] opens the images that it names, without changing any, and [`build::build`] puts
//! the machine together. Nothing here knows displays, scripts or reports: those belong to a run,
//! not to a machine.
#![forbid(unsafe_code)]

pub mod build;
mod drive;
mod drives;
pub mod media;
mod network;
pub mod saved;
pub mod size;
pub mod sound;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use drive::{DiskBus, DiskSpec};
pub use drives::{Change, DriveName, Drives};
pub use media::Media;
pub use network::{CardModel, NetSpec};
pub use sound::{SoundModel, SoundSpec};

/// A kind of drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriveKind {
    /// Hard disk.
    Disk,
    /// CD-ROM.
    Cdrom,
    /// Floppy disk.
    Floppy,
}

/// What to boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootKind {
    /// Hard disk.
    Disk,
    /// CD-ROM.
    Cdrom,
    /// Floppy disk.
    Floppy,
    /// The network card, by its boot ROM.
    Network,
    /// What the user chooses in the firmware's menu.
    Menu,
}

impl From<DriveKind> for BootKind {
    fn from(kind: DriveKind) -> Self {
        match kind {
            DriveKind::Disk => Self::Disk,
            DriveKind::Cdrom => Self::Cdrom,
            DriveKind::Floppy => Self::Floppy,
        }
    }
}

/// What there is beside the PS/2 keyboard and mouse, which every machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputKind {
    /// Nothing.
    Ps2,
    /// VMware's absolute pointer.
    #[default]
    Vmmouse,
    /// That, and virtio's keyboard and tablet.
    Virtio,
}

impl InputKind {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a machine is made of.
///
/// As TOML:
///
/// ```
/// let spec = spec::MachineSpec::from_toml(r#"
///     memory = "512M"
///     cpu = "x86-64-v2"
///     boot = ["disk"]
///
///     [[disk]]
///     path = "disk.img"
///     readonly = true
/// "#).unwrap();
/// assert_eq!(spec.memory, 512 << 20);
/// assert_eq!(spec, spec::MachineSpec::from_toml(&spec.to_toml().unwrap()).unwrap());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct MachineSpec {
    /// RAM, in bytes.
    #[serde(with = "size")]
    pub memory: u64,
    /// How many processors.
    pub cpus: usize,
    /// The processor model.
    pub cpu: String,
    /// The system BIOS: `builtin` or a file.
    pub firmware: String,
    /// A VGA BIOS in place of the built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vga_rom: Option<PathBuf>,
    /// Where UEFI firmware keeps its variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uefi_vars: Option<PathBuf>,
    /// An image that is told apart by its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<PathBuf>,
    /// What kind of drive it goes into, whatever it looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_as: Option<DriveKind>,
    /// CD-ROM images, a drive each; `none` is an empty drive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cdrom: Vec<PathBuf>,
    /// Floppy images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub floppy: Vec<PathBuf>,
    /// What to boot, first to last; empty: what there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boot: Vec<BootKind>,
    /// What is written to disks is gone at the end.
    pub ephemeral: bool,
    /// A kernel that is booted directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    /// Its initial RAM disk, or modules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// Its command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<String>,
    /// The date at power-on in Unix seconds; none: the host's, or a fixed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtc: Option<i64>,
    /// Keyboard and pointer.
    #[serde(skip_serializing_if = "InputKind::is_default")]
    pub input: InputKind,
    /// The network card; none: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<NetSpec>,
    /// What sounds; none: not even the speaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sound: Option<SoundSpec>,
    /// Hard disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disk: Vec<DiskSpec>,
}

impl Default for MachineSpec {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            cpus: 1,
            cpu: "max".into(),
            firmware: "builtin".into(),
            vga_rom: None,
            uefi_vars: None,
            image: None,
            image_as: None,
            cdrom: Vec::new(),
            floppy: Vec::new(),
            boot: Vec::new(),
            ephemeral: false,
            kernel: None,
            initrd: None,
            append: None,
            rtc: None,
            input: InputKind::default(),
            net: None,
            sound: None,
            disk: Vec::new(),
        }
    }
}

impl MachineSpec {
    /// Reads TOML.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Writes TOML.
    ///
    /// # Errors
    /// A path that is not Unicode.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_a_misspelt_key_is_named() {
        assert_eq!(MachineSpec::from_toml("").unwrap(), MachineSpec::default());
        let wrong = MachineSpec::from_toml("memmory = \"1G\"").unwrap_err();
        assert!(wrong.to_string().contains("memmory"));
        let wrong = MachineSpec::from_toml("memory = \"1X\"").unwrap_err();
        assert!(wrong.to_string().contains("such as 256M"));
    }
}
