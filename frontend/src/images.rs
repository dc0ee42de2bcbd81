//! Opens the images that the command line names.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use emulator::boot::{self, Image, KernelKind, KernelSetup, Module};
use platform::MemoryDisk;

use crate::board::{Media, read_file};
use crate::cli::{DriveKind, RunArgs};
use crate::disk::{Access, FileDisk};

/// The tour that starts without an image.
static TOUR: &[u8] = include_bytes!("../../test-roms/tour/tour.img");

/// Kernels and initial RAM disks are read whole; beyond this it is some other file.
const MOST_KERNEL_BYTES: u64 = 2 << 30;

/// Opens all images, without changing any.
///
/// # Errors
/// An image that cannot be read or booted, or may not be written; the message names it.
pub fn open(args: &RunArgs) -> Result<Media> {
    let mut media = Media::default();
    if let Some(path) = &args.image {
        if args.kernel.is_some() {
            bail!(
                "{}: both an image and --kernel; leave one out, or attach the image with --disk",
                path.display()
            );
        }
        open_image(args, path, &mut media)?;
    }
    for path in &args.disk {
        media
            .disks
            .push(Box::new(FileDisk::open(path, access(args))?));
    }
    for path in &args.floppy {
        media.floppies.push(Box::new(open_floppy(args, path)?));
    }
    if media.floppies.len() > 2 {
        bail!("--floppy: expected at most two floppy disks; leave some out");
    }
    if let Some(path) = &args.cdrom {
        if media.cdrom.is_some() {
            bail!(
                "{}: the image is a CD-ROM already; leave --cdrom out",
                path.display()
            );
        }
        media.cdrom = Some(Box::new(open_cdrom(path)?));
    }
    if let Some(path) = &args.kernel {
        open_kernel(args, path, &mut media)?;
    }
    if media.kernel.is_none() && (args.initrd.is_some() || args.append.is_some()) {
        bail!("--initrd and --append: expected a kernel to hand them to; add --kernel FILE");
    }
    let nothing = media.disks.is_empty() && media.floppies.is_empty() && media.cdrom.is_none();
    if nothing && media.kernel.is_none() {
        media.disks.push(Box::new(MemoryDisk::new(TOUR.to_vec())));
        media.title = "the tour".into();
    }
    if media.title.is_empty() {
        let named = [args.kernel.as_ref(), args.image.as_ref(), args.disk.first()];
        let others = [args.cdrom.as_ref(), args.floppy.first()];
        let path = named.into_iter().chain(others).flatten().next();
        media.title = path.map(|path| file_name(path)).unwrap_or_default();
    }
    Ok(media)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn access(args: &RunArgs) -> Access {
    if args.ephemeral {
        Access::Ephemeral
    } else {
        Access::Write
    }
}

/// Opens the image that is told apart by its content.
fn open_image(args: &RunArgs, path: &Path, media: &mut Media) -> Result<()> {
    let kind = match args.image_as {
        Some(kind) => kind,
        None => match identify(path)? {
            Image::Disk => DriveKind::Disk,
            Image::CdRom => DriveKind::Cdrom,
            Image::Floppy => DriveKind::Floppy,
            Image::Kernel(_) => return open_kernel(args, path, media),
            Image::BootSector => {
                let mut sector = read_file(path)?;
                sector.resize(512, 0);
                sector[510..].copy_from_slice(&[0x55, 0xAA]);
                media.disks.push(Box::new(MemoryDisk::new(sector)));
                media.boot_first = Some(DriveKind::Disk);
                return Ok(());
            }
        },
    };
    match kind {
        DriveKind::Disk => media
            .disks
            .push(Box::new(FileDisk::open(path, access(args))?)),
        DriveKind::Cdrom => media.cdrom = Some(Box::new(open_cdrom(path)?)),
        DriveKind::Floppy => media.floppies.push(Box::new(open_floppy(args, path)?)),
    }
    media.boot_first = Some(kind);
    Ok(())
}

fn identify(path: &Path) -> Result<Image> {
    let mut file = FileDisk::open(path, Access::ReadOnly)?;
    let len = file.len();
    let mut head = file.head(boot::HEAD_BYTES as u64)?;
    if head.starts_with(b"\x7FELF") {
        head = file.head(MOST_KERNEL_BYTES)?;
    }
    boot::identify(&head, len).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn open_floppy(args: &RunArgs, path: &Path) -> Result<FileDisk> {
    let disk = FileDisk::open(path, access(args))?;
    let most = *boot::FLOPPY_SIZES.last().unwrap_or(&0);
    if disk.len() > most {
        bail!(
            "{}: expected a floppy image of at most {most} bytes, found {} bytes; attach it with --disk",
            path.display(),
            disk.len()
        );
    }
    Ok(disk)
}

fn open_cdrom(path: &Path) -> Result<FileDisk> {
    let mut disk = FileDisk::open(path, Access::ReadOnly)?;
    let len = disk.len();
    let head = disk.head(boot::HEAD_BYTES as u64)?;
    if head.get(0x8001..0x8006) != Some(b"CD001") {
        bail!(
            "{}: expected an ISO 9660 image, found none; attach other images with --disk",
            path.display()
        );
    }
    boot::identify(&head, len).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(disk)
}

/// Reads a kernel with what goes along with it.
fn open_kernel(args: &RunArgs, path: &Path, media: &mut Media) -> Result<()> {
    let name = path.display();
    let kernel = read_file(path)?;
    let kind = match boot::identify(&kernel, kernel.len() as u64) {
        Ok(Image::Kernel(kind)) => kind,
        Ok(_) | Err(boot::ImageError::Unknown) => bail!(
            "{name}: expected a kernel (bzImage, multiboot 1 or 2, or PVH ELF), found none; \
             boot disk images without --kernel"
        ),
        Err(error) => bail!("{name}: {error}"),
    };
    let modules = match &args.initrd {
        Some(text) => read_modules(kind, text)?,
        None => Vec::new(),
    };
    let append = args.append.clone().unwrap_or_default();
    let setup = KernelSetup {
        kernel,
        modules,
        command_line: match kind {
            // Its kernels skip their own file's name, which GRUB Legacy and QEMU put first.
            KernelKind::Multiboot1 => format!("{name} {append}").trim_end().to_owned(),
            _ => append,
        },
        ram_bytes: args.memory,
        rsdp: None,
    };
    // Loaded once more with the machine; here for the message, which names the file.
    boot::load(kind, &setup).map_err(|error| anyhow!("{name}: {error}"))?;
    media.kernel = Some((kind, setup));
    Ok(())
}

/// Reads `--initrd`: one file for Linux; for the others `FILE [TEXT],FILE [TEXT]` as QEMU has it. A module's text begins
/// with its file's name, as QEMU and GRUB Legacy have it.
fn read_modules(kind: KernelKind, text: &str) -> Result<Vec<Module>> {
    let whole = Path::new(text);
    if kind == KernelKind::Linux || whole.exists() {
        return Ok(vec![Module {
            bytes: read_module(whole)?,
            text: text.to_owned(),
        }]);
    }
    let modules = text.split(',').map(|part| {
        let file = part.trim().split(' ').next().unwrap_or_default();
        Ok(Module {
            bytes: read_module(file.as_ref())?,
            text: part.trim().to_owned(),
        })
    });
    modules.collect()
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let bytes = read_file(path)?;
    if bytes.is_empty() {
        bail!(
            "{}: expected an initial RAM disk or module, found an empty file; check how it was made",
            path.display()
        );
    }
    Ok(bytes)
}
