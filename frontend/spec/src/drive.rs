//! What `--disk` says of a hard disk: `FILE[,bus=ide|virtio][,format=raw][,readonly][,chs=C/H/S]`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use host::files::name_from_bytes;
use serde::{Deserialize, Serialize};
use storage::Format;

/// The options of a disk, for messages.
const KNOWN: &str =
    "bus=ide|virtio, format=raw|qcow2|vdi|vmdk|vhd, backing=on, chs=C/H/S and readonly";

/// What a hard disk is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// The board's IDE channels.
    #[default]
    Ide,
    /// A PCI device of its own.
    Virtio,
}

impl DiskBus {
    fn is_ide(&self) -> bool {
        *self == Self::Ide
    }
}

/// A hard disk as the command line has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// Its image.
    pub path: PathBuf,
    /// How the guest reaches it.
    #[serde(default, skip_serializing_if = "DiskBus::is_ide")]
    pub bus: DiskBus,
    /// What the user says that the image is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Whether the image that it lies over may be read, whatever that is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backing: bool,
    /// Whether the guest's writes are refused.
    #[serde(default, rename = "readonly")]
    pub read_only: bool,
    /// Cylinders, heads and sectors in a track that it says it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chs: Option<[u16; 3]>,
}

impl DiskSpec {
    /// Reads an option's value. Two commas stand for one that belongs to the file's name, as in QEMU.
    ///
    /// # Errors
    /// An option that no disk has, or a value that this build lacks.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let mut fields = fields(text).into_iter();
        let mut disk = Self {
            path: fields.next().unwrap_or_default().into(),
            bus: DiskBus::Ide,
            format: None,
            backing: false,
            read_only: false,
            chs: None,
        };
        let option = text.display();
        if disk.path.as_os_str().is_empty() {
            bail!("--disk {option}: expected a file's name, found none; such as --disk disk.img");
        }
        let mut named = Vec::new();
        for field in fields {
            let field = field.to_string_lossy();
            let (name, value) = field.split_once('=').unwrap_or((&field, ""));
            once(&mut named, name.as_bytes())
                .map_err(|name| anyhow!("--disk {option}: expected {name} once, found it twice"))?;
            match (name, value) {
                ("readonly", "" | "on") => disk.read_only = true,
                ("readonly", "off") => disk.read_only = false,
                ("format", "raw") => disk.format = Some(Format::Raw),
                ("format", "qcow2") => disk.format = Some(Format::Qcow2),
                ("format", "vdi") => disk.format = Some(Format::Vdi),
                ("format", "vmdk") => disk.format = Some(Format::Vmdk),
                ("format", "vhd") => disk.format = Some(Format::Vhd),
                ("format", other) => bail!(
                    "--disk {option}: expected format=raw, qcow2, vdi, vmdk or vhd, found `{other}`; convert other formats with \
                     qemu-img convert -O qcow2"
                ),
                ("backing", "on") => disk.backing = true,
                ("backing", "off") => disk.backing = false,
                ("chs", geometry) => match parse_chs(geometry) {
                    Some(chs) => disk.chs = Some(chs),
                    None => bail!(
                        "--disk {option}: expected chs=C/H/S with up to 65535 cylinders, 16 heads and 255 sectors, \
                         such as chs=306/4/17, found `{geometry}`"
                    ),
                },
                ("bus", "ide") => disk.bus = DiskBus::Ide,
                ("bus", "virtio") => disk.bus = DiskBus::Virtio,
                ("bus", other) => bail!(
                    "--disk {option}: expected bus=ide or bus=virtio, found `{other}`; leave it out for ide"
                ),
                _ => bail!(
                    "--disk {option}: expected {KNOWN} behind the file's name, found `{field}`; a comma \
                     that belongs to the name is written twice"
                ),
            }
        }
        Ok(disk)
    }
}

/// Cylinders, heads and sectors in a track, as an ATA disk can have them.
fn parse_chs(text: &str) -> Option<[u16; 3]> {
    let numbers: Vec<u16> = text
        .split('/')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let chs: [u16; 3] = numbers.try_into().ok()?;
    matches!(chs, [1..=65535, 1..=16, 1..=255]).then_some(chs)
}

/// Notes that an option was named; what it is called, if it was before.
pub(crate) fn once(named: &mut Vec<Vec<u8>>, name: &[u8]) -> std::result::Result<(), String> {
    if named.iter().any(|before| before == name) {
        return Err(String::from_utf8_lossy(name).into_owned());
    }
    named.push(name.to_vec());
    Ok(())
}

/// Splits at single commas; of two, one stays.
pub(crate) fn fields(text: &OsStr) -> Vec<OsString> {
    let mut fields = vec![Vec::new()];
    let mut bytes = text.as_encoded_bytes().iter().peekable();
    while let Some(&byte) = bytes.next() {
        if byte == b',' && bytes.next_if_eq(&&b',').is_none() {
            fields.push(Vec::new());
        } else if let Some(field) = fields.last_mut() {
            field.push(byte);
        }
    }
    fields.into_iter().map(name_from_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DiskSpec> {
        DiskSpec::parse(text.as_ref())
    }

    #[test]
    fn options_follow_the_name() {
        let disk = parse("a/b.img,readonly,bus=ide,format=raw").unwrap();
        assert_eq!(disk.path, PathBuf::from("a/b.img"));
        assert_eq!(disk.format, Some(Format::Raw));
        assert!(disk.read_only);
        assert_eq!(parse("a,chs=306/4/17").unwrap().chs, Some([306, 4, 17]));
        let plain = parse("b=c.img").unwrap();
        assert_eq!(plain.path, PathBuf::from("b=c.img"));
        assert_eq!((plain.format, plain.read_only), (None, false));
        assert_eq!(plain.bus, DiskBus::Ide);
        assert_eq!(parse("a,bus=virtio").unwrap().bus, DiskBus::Virtio);
    }

    #[test]
    fn a_comma_in_a_name_is_doubled() {
        for (text, name) in [
            ("a,,b.img", "a,b.img"),
            (",,", ","),
            ("a,,,,b", "a,,b"),
            ("a,,,readonly", "a,"),
        ] {
            assert_eq!(parse(text).unwrap().path, PathBuf::from(name), "{text}");
        }
        assert!(parse("a,,,readonly").unwrap().read_only);
    }

    #[test]
    fn what_no_disk_has_is_refused_with_what_it_has() {
        for (text, word) in [
            ("a,b.img", "written twice"),
            ("a,", "readonly"),
            (
                "a,cache=none",
                "bus=ide|virtio, format=raw|qcow2|vdi|vmdk|vhd, backing=on",
            ),
            ("a,chs=0/4/17", "chs=306/4/17"),
            ("a,chs=306/17/17", "16 heads"),
            ("a,chs=306/4", "chs=C/H/S"),
            ("a,format=qed", "qemu-img"),
            ("a,bus=scsi", "bus=virtio"),
            ("a,bus=ide,bus=virtio", "bus once"),
            ("a,readonly=maybe", "readonly=maybe"),
            ("", "file's name"),
            (",readonly", "file's name"),
        ] {
            let said = parse(text).unwrap_err().to_string();
            assert!(said.contains(word), "{text}: {said}");
        }
    }
}
