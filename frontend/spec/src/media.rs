//! Opens the images that the command line names.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use devices::boards::pc::MOST_VIRTIO_DISKS;
use emulator::boot::{self, Image, KernelKind, KernelSetup, Module};
use platform::{BlockBackend, MemoryDisk};
use storage::{Access, Below, Format, Kind, Medium, Opener, Purpose, Request, Shared, floppy};

use crate::{BootKind, DiskBus, DriveKind, MachineSpec};

/// The tour that starts without an image.
static TOUR: &[u8] = include_bytes!("../../../test-roms/tour/tour.img");

const _: () = assert!(storage::HEAD_BYTES >= boot::HEAD_BYTES);

/// What stands for an empty drive.
pub(crate) const NO_MEDIUM: &str = "none";

/// Kernels and initial RAM disks are read whole; beyond this it is some other file.
const MOST_KERNEL_BYTES: u64 = 2 << 30;

/// An image that is looked at as a whole: an ELF file, or a bare boot sector.
const WHOLE_IMAGE: Purpose = Purpose {
    option: "IMAGE",
    wanted: "a raw disk, floppy or ISO image, or a kernel",
    most: MOST_KERNEL_BYTES,
    takes: |kind| kind == Kind::Sectors,
};

const KERNEL: Purpose = Purpose {
    option: "--kernel",
    wanted: "a kernel (bzImage, multiboot 1 or 2, or PVH ELF)",
    ..WHOLE_IMAGE
};

/// Linux unpacks an initial RAM disk itself; a virtual disk is none.
const INITRD: Purpose = Purpose {
    option: "--initrd",
    wanted: "an initial RAM disk",
    most: MOST_KERNEL_BYTES,
    takes: |kind| kind != Kind::Container,
};

/// A module may be anything that its kernel understands.
const MODULE: Purpose = Purpose {
    wanted: "a module",
    takes: |_| true,
    ..INITRD
};

/// What is put into the machine's drives, and what it boots.
#[derive(Default)]
pub struct Media {
    /// Hard disks.
    pub disks: Vec<Box<dyn BlockBackend>>,
    /// Disks on virtio.
    pub virtio_disks: Vec<Box<dyn BlockBackend>>,
    /// What hard disks say of their cylinders, heads and sectors, where a user says so.
    geometries: Vec<Option<[u16; 3]>>,
    virtio_geometries: Vec<Option<[u16; 3]>>,
    /// Floppy drives, and what is in them.
    pub floppies: Vec<Option<Box<dyn BlockBackend>>>,
    /// CD-ROM drives, and what is in them.
    pub cdroms: Vec<Option<Box<dyn BlockBackend>>>,
    /// Flash memory.
    pub flash: Option<Box<dyn BlockBackend>>,
    /// A kernel to boot directly.
    pub kernel: Option<(KernelKind, KernelSetup)>,
    /// What to boot first when `--boot` says nothing.
    pub boot_first: Option<DriveKind>,
    /// The guest's name, for the window.
    pub title: String,
    /// What is booted first is a bare boot sector, which was made a floppy disk.
    pub bare: bool,
    /// What the user should know of the images, though they can be used.
    pub notes: Vec<String>,
    /// A handle of each disk, floppy and CD-ROM, by name.
    pub handles: Vec<(String, Shared)>,
    /// What opened them: it knows which files are images.
    pub opener: Opener,
}

/// Opens all images, without changing any; those that they lie over where `below` allows it.
///
/// # Errors
/// An image that cannot be read or booted, or may not be written; the message names it.
pub fn open(spec: &MachineSpec, below: Below) -> Result<Media> {
    open_some(spec, below, true)
}

/// Opens the images of drives alone: of a machine whose kernel is in RAM already.
///
/// # Errors
/// As for [`open`].
pub fn open_drives(spec: &MachineSpec, below: Below) -> Result<Media> {
    open_some(spec, below, false)
}

fn open_some(spec: &MachineSpec, below: Below, with_kernel: bool) -> Result<Media> {
    let mut media = Media::default();
    let mut opener = Opener::with_below(below);
    if let Some(path) = &spec.image {
        if spec.kernel.is_some() {
            bail!(
                "{}: both an image and --kernel; leave one out, or attach the image with --disk",
                path.display()
            );
        }
        open_image(spec, path, &mut opener, &mut media)?;
    }
    for disk in &spec.disk {
        let request = Request {
            option: "--disk",
            medium: Medium::Disk,
            access: if disk.read_only {
                Access::ReadOnly
            } else {
                access(spec)
            },
            format: disk.format,
            backing: disk.backing,
        };
        let image = opener.open(&disk.path, &request)?;
        if let Some([cylinders, heads, sectors]) = disk.chs {
            let most = image.backend.sectors();
            let asked = u64::from(cylinders) * u64::from(heads) * u64::from(sectors);
            if asked > most {
                bail!(
                    "--disk {}: expected at most the {most} sectors that the image has, found \
                     chs={cylinders}/{heads}/{sectors}, which are {asked}; leave it out, or make the image longer",
                    disk.path.display()
                );
            }
        }
        match disk.bus {
            DiskBus::Ide => {
                media.geometries.resize(media.disks.len(), None);
                media.geometries.push(disk.chs);
                media.disks.push(image.backend);
            }
            DiskBus::Virtio => {
                media.virtio_geometries.push(disk.chs);
                media.virtio_disks.push(image.backend);
            }
        }
    }
    if media.virtio_disks.len() > MOST_VIRTIO_DISKS {
        bail!(
            "{} disks with bus=virtio: expected at most {MOST_VIRTIO_DISKS}; leave some out",
            media.virtio_disks.len()
        );
    }
    for path in &spec.floppy {
        if path.as_os_str() == NO_MEDIUM {
            media.floppies.push(None);
            continue;
        }
        open_drive(
            spec,
            path,
            "--floppy",
            DriveKind::Floppy,
            &mut opener,
            &mut media,
        )?;
    }
    if media.floppies.len() > 2 {
        bail!("--floppy: expected at most two floppy disks; leave some out");
    }
    for path in &spec.cdrom {
        if path.as_os_str() == NO_MEDIUM {
            media.cdroms.push(None);
            continue;
        }
        let kind = DriveKind::Cdrom;
        open_drive(spec, path, "--cdrom", kind, &mut opener, &mut media)?;
    }
    if media.disks.len() + media.cdroms.len() > 4 {
        bail!(
            "{} hard disks and {} CD-ROM drives: expected at most 4 in all; leave some out",
            media.disks.len(),
            media.cdroms.len()
        );
    }
    for (at, kind) in spec.boot.iter().enumerate() {
        if spec.boot[..at].contains(kind) {
            bail!("--boot: expected each kind once, found one twice; leave it out");
        }
    }
    if let Some(path) = &spec.uefi_vars {
        if spec.firmware == "builtin" {
            bail!(
                "--uefi-vars: the built-in BIOS keeps no variables; add --firmware with OVMF's code, or leave it out"
            );
        }
        let request = Request {
            option: "--uefi-vars",
            medium: Medium::Flash,
            access: access(spec),
            format: None,
            backing: false,
        };
        media.flash = Some(opener.open(path, &request)?.backend);
    }
    if let Some(path) = &spec.kernel
        && with_kernel
    {
        open_kernel(spec, path, &mut media)?;
    }
    if with_kernel && media.kernel.is_none() && (spec.initrd.is_some() || spec.append.is_some()) {
        bail!("--initrd and --append: expected a kernel to hand them to; add --kernel FILE");
    }
    let no_disk = media.disks.is_empty() && media.virtio_disks.is_empty();
    let nothing = no_disk && media.floppies.is_empty() && media.cdroms.is_empty();
    if media.kernel.is_some() && spec.firmware != "builtin" {
        bail!(
            "--firmware {}: a kernel is booted directly by the built-in BIOS alone; leave --firmware out, or boot from a \
             disk or CD-ROM",
            spec.firmware
        );
    }
    let by_network = spec.net.as_ref().is_some_and(|net| net.rom.is_some());
    if spec.boot.contains(&BootKind::Network) && !by_network {
        bail!(
            "--boot network: expected a network card with a boot ROM; add --net user,rom=FILE, such as iPXE's"
        );
    }
    if nothing && media.kernel.is_none() && spec.kernel.is_none() && !by_network {
        media.disks.push(Box::new(MemoryDisk::new(TOUR.to_vec())));
        media.title = "the tour".into();
    }
    if media.title.is_empty() {
        let disk = spec.disk.first().map(|disk| &disk.path);
        let named = [spec.kernel.as_ref(), spec.image.as_ref(), disk];
        let others = [spec.cdrom.first(), spec.floppy.first()];
        let path = named.into_iter().chain(others).flatten().next();
        media.title = path.map(|path| file_name(path)).unwrap_or_default();
    }
    media.opener = opener;
    media.share();
    Ok(media)
}

impl Media {
    /// The spec with a kernel, CD-ROM or floppy where it is named as the image that is told apart by its content.
    pub fn settle(&self, mut spec: MachineSpec) -> MachineSpec {
        if self.kernel.is_some() && spec.kernel.is_none() {
            spec.kernel = spec.image.take();
        }
        let place = match self.boot_first {
            Some(DriveKind::Cdrom) => Some(&mut spec.cdrom),
            // A bare boot sector is no image that could be opened as a floppy disk.
            Some(DriveKind::Floppy) if !self.bare => Some(&mut spec.floppy),
            _ => None,
        };
        if let Some(place) = place {
            place.splice(0..0, spec.image.take());
            spec.image_as = None;
        }
        spec
    }

    /// Takes a handle of each disk for whoever saves the machine.
    fn share(&mut self) {
        let mut handles = Vec::new();
        // Disks come first.
        self.geometries.resize(self.disks.len(), None);
        self.geometries.append(&mut self.virtio_geometries);
        let mut geometries = std::mem::take(&mut self.geometries).into_iter();
        let mut share = |name: String, backend: &mut Box<dyn BlockBackend>| {
            let nothing: Box<dyn BlockBackend> = Box::new(MemoryDisk::default());
            let geometry = geometries.next().flatten();
            let shared = Shared::new(std::mem::replace(backend, nothing)).with_geometry(geometry);
            handles.push((name, shared.clone()));
            *backend = Box::new(shared);
        };
        for (number, disk) in self.disks.iter_mut().enumerate() {
            share(format!("disk{number}"), disk);
        }
        for (number, disk) in self.virtio_disks.iter_mut().enumerate() {
            share(format!("virtio{number}"), disk);
        }
        for (number, floppy) in self.floppies.iter_mut().enumerate() {
            if let Some(floppy) = floppy {
                share(format!("floppy{number}"), floppy);
            }
        }
        for (number, disc) in self.cdroms.iter_mut().enumerate() {
            if let Some(disc) = disc {
                share(format!("cdrom{number}"), disc);
            }
        }
        if let Some(flash) = &mut self.flash {
            share("flash".to_owned(), flash);
        }
        self.handles = handles;
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn access(spec: &MachineSpec) -> Access {
    if spec.ephemeral {
        Access::Ephemeral
    } else {
        Access::Write
    }
}

/// Opens the image that is told apart by its content.
fn open_image(
    spec: &MachineSpec,
    path: &Path,
    opener: &mut Opener,
    media: &mut Media,
) -> Result<()> {
    let kind = match spec.image_as {
        Some(kind) => kind,
        None => match identify(path)? {
            Image::Disk => DriveKind::Disk,
            Image::CdRom => DriveKind::Cdrom,
            Image::Floppy => DriveKind::Floppy,
            Image::Kernel(_) => return open_kernel(spec, path, media),
            Image::BootSector => {
                let mut disk = storage::read_whole(path, &WHOLE_IMAGE)?;
                disk.resize(512, 0);
                disk[510..].copy_from_slice(&[0x55, 0xAA]);
                disk.resize(floppy::medium_bytes(&disk, 512) as usize, 0);
                media.floppies.push(Some(Box::new(MemoryDisk::new(disk))));
                media.boot_first = Some(DriveKind::Floppy);
                media.bare = true;
                return Ok(());
            }
        },
    };
    open_drive(spec, path, "IMAGE", kind, opener, media)?;
    media.boot_first = Some(kind);
    Ok(())
}

fn identify(path: &Path) -> Result<Image> {
    let content = storage::look(path)?;
    if content.format.is_disk() && !content.format.is_sectors() {
        return Ok(Image::Disk);
    }
    if !content.format.is_sectors() || content.format == Format::Luks {
        return Err(storage::Error::Foreign {
            path: path.to_owned(),
            option: WHOLE_IMAGE.option.to_owned(),
            wanted: WHOLE_IMAGE.wanted,
            found: content.format,
            is_disk: true,
        }
        .into());
    }
    let (mut head, len) = (content.head, content.len);
    if head.starts_with(b"\x7FELF") {
        head = storage::read_whole(path, &WHOLE_IMAGE)?;
    }
    match boot::identify(&head, len) {
        Ok(Image::Disk) if floppy::is_floppy(&head, len) => Ok(Image::Floppy),
        image => image.map_err(|error| anyhow!("{}: {error}", path.display())),
    }
}

/// Puts an image into a drive of its own.
fn open_drive(
    spec: &MachineSpec,
    path: &Path,
    option: &str,
    kind: DriveKind,
    opener: &mut Opener,
    media: &mut Media,
) -> Result<()> {
    let backend = open_medium(spec.ephemeral, path, option, kind, opener)?;
    match kind {
        DriveKind::Disk => media.disks.push(backend),
        DriveKind::Floppy => media.floppies.push(Some(backend)),
        DriveKind::Cdrom => media.cdroms.push(Some(backend)),
    }
    Ok(())
}

/// Opens what goes into a drive of that kind.
pub(crate) fn open_medium(
    ephemeral: bool,
    path: &Path,
    option: &str,
    kind: DriveKind,
    opener: &mut Opener,
) -> Result<Box<dyn BlockBackend>> {
    let writes = if ephemeral {
        Access::Ephemeral
    } else {
        Access::Write
    };
    let (medium, access) = match kind {
        DriveKind::Disk => (Medium::Disk, writes),
        DriveKind::Floppy => (Medium::Floppy, writes),
        DriveKind::Cdrom => (Medium::CdRom, Access::ReadOnly),
    };
    let request = Request {
        option,
        medium,
        access,
        format: None,
        backing: false,
    };
    let image = opener.open(path, &request)?;
    if kind == DriveKind::Cdrom {
        check_disc(path, &image.head, image.len)?;
    }
    Ok(image.backend)
}

/// Whether a file is a disc's image: one with a volume descriptor of ISO 9660, High Sierra or UDF.
fn check_disc(path: &Path, head: &[u8], len: u64) -> Result<()> {
    let at = |place: usize, name: &[u8]| head.get(place..place + name.len()) == Some(name);
    let is_iso = at(0x8001, b"CD001");
    if !is_iso && !at(0x8009, b"CDROM") && !at(0x8001, b"BEA01") {
        bail!(
            "{}: expected an ISO 9660 image, found none; attach other images with --disk",
            path.display()
        );
    }
    if is_iso {
        boot::identify(head, len).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Reads a kernel with what goes along with it.
fn open_kernel(spec: &MachineSpec, path: &Path, media: &mut Media) -> Result<()> {
    let name = path.display();
    let kernel = storage::read_whole(path, &KERNEL)?;
    let kind = match boot::identify(&kernel, kernel.len() as u64) {
        Ok(Image::Kernel(kind)) => kind,
        Ok(_) | Err(boot::ImageError::Unknown) => bail!(
            "{name}: expected a kernel (bzImage, multiboot 1 or 2, or PVH ELF), found none; \
             boot disk images without --kernel"
        ),
        Err(error) => bail!("{name}: {error}"),
    };
    let modules = match &spec.initrd {
        Some(text) => read_modules(kind, text)?,
        None => Vec::new(),
    };
    let append = spec.append.clone().unwrap_or_default();
    let setup = KernelSetup {
        kernel,
        modules,
        command_line: match kind {
            // Its kernels skip their own file's name, which GRUB Legacy and QEMU put first.
            KernelKind::Multiboot1 => format!("{name} {append}").trim_end().to_owned(),
            _ => append,
        },
        ram_bytes: spec.memory,
        rsdp: None,
    };
    // Loaded once more with the machine; here for the message, which names the file.
    let loaded = boot::load(kind, &setup).map_err(|error| anyhow!("{name}: {error}"))?;
    if let Some(note) = loaded.note {
        media.notes.push(format!("{name}: {note}"));
    }
    media.kernel = Some((kind, setup));
    Ok(())
}

/// Reads `--initrd`: one file for Linux; for the others `FILE [TEXT],FILE [TEXT]` as QEMU has it. A
/// module's text begins with its file's name, as QEMU and GRUB Legacy have it.
fn read_modules(kind: KernelKind, text: &str) -> Result<Vec<Module>> {
    let whole = Path::new(text);
    if kind == KernelKind::Linux || whole.exists() {
        return Ok(vec![Module {
            bytes: read_module(
                whole,
                if kind == KernelKind::Linux {
                    &INITRD
                } else {
                    &MODULE
                },
            )?,
            text: text.to_owned(),
        }]);
    }
    let modules = text.split(',').map(|part| {
        let file = part.trim().split(' ').next().unwrap_or_default();
        Ok(Module {
            bytes: read_module(file.as_ref(), &MODULE)?,
            text: part.trim().to_owned(),
        })
    });
    modules.collect()
}

fn read_module(path: &Path, purpose: &Purpose) -> Result<Vec<u8>> {
    let bytes = storage::read_whole(path, purpose)?;
    if bytes.is_empty() {
        bail!(
            "{}: expected an initial RAM disk or module, found an empty file; check how it was made",
            path.display()
        );
    }
    Ok(bytes)
}
