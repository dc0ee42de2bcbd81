//! Builds the machine that the options describe. All that a machine takes from the host comes in here.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use devices::boards::pc::{
    self, BootDevice, BuildError, CardModel, NetworkCard, PcConfig, SoundCards,
};
use devices::flash::FlashImage;
use emulator::boot::{self, Loaded};
use emulator::{Machine, MachineConfig, Pacing};
use firmware::KernelEntry;
use platform::{BlockBackend, MemoryError, PhysAddr};
use storage::{Kind, Purpose};
use x86::cpuid::{CpuModel, Feature};

use crate::size::format_size;
use crate::{BootKind, DiskBus, MachineSpec, Media, SoundModel};

/// Virtual nanoseconds per instruction until the pace is measured: 500 million instructions a second.
pub const DEFAULT_RATIO: (u64, u64) = (2, 1);

/// 2026-01-01T00:00:00Z: deterministic runs start on this day.
pub const DETERMINISTIC_DATE: i64 = 1_767_225_600;

/// The most processors of a machine.
pub const MOST_CPUS: usize = 16;

/// Where a ROM may start that the loader of kernels adds.
const KERNEL_ROM: PhysAddr = PhysAddr(firmware::KERNEL_ROM_BASE as u64);

/// Names of the CPU models.
pub fn cpu_models() -> Vec<&'static str> {
    CpuModel::names().collect()
}

/// The model called `name`.
///
/// # Errors
/// No such model; the message lists all.
pub fn cpu_model(name: &str) -> Result<CpuModel> {
    CpuModel::by_name(name).with_context(|| {
        format!(
            "--cpu {name}: expected a CPU model; choose one of: {}",
            cpu_models().join(", ")
        )
    })
}

/// Builds the machine; `restored`: for a saved state, which brings its ROMs along.
///
/// # Errors
/// An option that asks for what this machine does not have, or a host failure; nothing was changed then.
pub fn build(
    spec: &MachineSpec,
    mut media: Media,
    pacing: Pacing,
    rtc_start: i64,
    stop_at_reset: bool,
    restored: bool,
) -> Result<Machine> {
    let model = cpu_model(&spec.cpu)?;
    if !(1..=MOST_CPUS).contains(&spec.cpus) {
        bail!("--cpus {}: expected 1 to {MOST_CPUS}", spec.cpus);
    }
    if spec.cpus > 1 && !model.has(Feature::Apic) {
        bail!(
            "--cpus {}: expected 1 with --cpu {}, which has no APIC; take a newer model, such as max",
            spec.cpus,
            spec.cpu
        );
    }
    let description = firmware::Board {
        cpus: spec.cpus as u8,
        ram_bytes: spec.memory,
        floppy: !media.floppies.is_empty(),
        pci: true,
        apic: model.has(Feature::Apic),
        isa_irq_5: sound_cards(spec).is_some_and(|cards| cards.sb16),
        ..firmware::Board::default()
    };
    let tables = firmware::tables(&description);
    let mut bios = match spec.firmware.as_str() {
        "builtin" => firmware::bios_for(&description),
        // What a saved machine has is restored over it; only a flash memory's size must be known.
        path if restored => {
            read_firmware(path.as_ref()).unwrap_or_else(|_| firmware::bios_for(&description))
        }
        path => read_firmware(path.as_ref())?,
    };
    if let Some(path) = spec.uefi_vars.as_ref().filter(|_| !restored)
        && bios.get(40..44) != Some(b"_FVH")
    {
        bail!(
            "--uefi-vars {}: expected UEFI firmware to keep its variables there, such as OVMF_CODE.fd, found another \
             kind in --firmware {}; leave one out",
            path.display(),
            spec.firmware
        );
    }
    // Firmware and variables in one file: without another place they are for this run only.
    let own = bios
        .drain(..variables_len(&bios).unwrap_or(0))
        .collect::<Vec<u8>>();
    let flash = match media.flash.take() {
        Some(mut backend) => Some(FlashImage {
            content: read_variables(spec, &mut *backend)?,
            backend: Some(backend),
        }),
        None if own.is_empty() => None,
        None => Some(FlashImage {
            content: own,
            backend: None,
        }),
    };
    let vga_bios = match &spec.vga_rom {
        Some(path) if !restored => read_option_rom("--vga-rom", path, 64 << 10)?,
        _ => firmware::vga_bios().to_vec(),
    };
    let mut firmware_files = firmware::files(&description);
    firmware_files.push(("bootorder".to_owned(), boot_paths(spec, &media)?));
    let loaded = match &media.kernel {
        Some((kind, setup)) => {
            let mut setup = setup.clone();
            setup.rsdp = rsdp(&tables);
            Some(boot::load(*kind, &setup)?)
        }
        None => None,
    };
    let mut option_roms = Vec::new();
    if let Some(loaded) = &loaded {
        option_roms.push((KERNEL_ROM, kernel_rom(loaded)));
    }
    let boot_order = boot_order(spec, &media);
    let places = ide_places(media.disks.len(), media.cdroms.len())?;
    let mut disks = Vec::new();
    disks.resize_with(4, || None);
    let mut discs = media.cdroms.into_iter();
    let mut cdroms = Vec::new();
    for (disk, place) in media.disks.into_iter().zip(places.disks) {
        disks[place] = Some(disk);
    }
    for place in places.cdroms {
        cdroms.push((place, discs.next().flatten()));
    }
    let empty = media.floppies.iter().enumerate();
    let empty = empty
        .filter(|(_, disk)| disk.is_none())
        .map(|(drive, _)| drive);
    let config = PcConfig {
        memory_bytes: spec.memory,
        cpus: spec.cpus as u16,
        disks,
        // Who has drivers for one of them has one for the other.
        entropy: !media.virtio_disks.is_empty(),
        virtio_disks: media.virtio_disks,
        cdroms,
        empty_floppies: empty.collect(),
        floppies: media.floppies,
        boot_order,
        boot_menu: spec.boot.contains(&BootKind::Menu),
        rtc_start_unix: rtc_start,
        bios,
        flash,
        firmware_files,
        vga_bios,
        tables,
        option_roms,
        network: network_card(spec)?,
        vmmouse: spec.input != crate::InputKind::Ps2,
        virtio_input: spec.input == crate::InputKind::Virtio,
        sound: sound_cards(spec),
        ns_per_instruction: DEFAULT_RATIO,
    };
    let board = pc::build(config).map_err(|error| in_users_words(error, spec.memory))?;
    let machine = Machine::new(
        Box::new(board.bus),
        MachineConfig {
            model,
            cpus: spec.cpus,
            keyboard: board.keyboard,
            inputs: board.inputs.clone(),
            serial: board.serial.to_vec(),
            display: board.display,
            power: board.power,
            preloads: loaded.map(|loaded| loaded.preloads).unwrap_or_default(),
            pacing,
            stop_at_reset,
        },
    );
    Ok(machine)
}

/// How many bytes at the start of `image` are UEFI variables: a firmware volume with the file system
/// `EFI_SYSTEM_NV_DATA_FV_GUID` (UEFI PI specification vol. 3, §3.2.1.1).
fn variables_len(image: &[u8]) -> Option<usize> {
    const NV_DATA: [u8; 16] = [
        0x8D, 0x2B, 0xF1, 0xFF, 0x96, 0x76, 0x8B, 0x4C, 0xA9, 0x85, 0x27, 0x47, 0x07, 0x5B, 0x4F,
        0x50,
    ];
    let is_volume = image.get(16..32) == Some(&NV_DATA) && image.get(40..44) == Some(b"_FVH");
    let len = u64::from_le_bytes(image.get(32..40)?.try_into().ok()?);
    let whole = len != 0 && len.is_multiple_of(4096) && len <= image.len() as u64;
    (is_volume && whole).then_some(len as usize)
}

/// The variables in a file that `--uefi-vars` names.
fn read_variables(spec: &MachineSpec, backend: &mut dyn BlockBackend) -> Result<Vec<u8>> {
    let path = spec.uefi_vars.as_deref().unwrap_or(Path::new("")).display();
    let sectors = backend.sectors();
    let wanted = "expected UEFI variables, such as a copy of OVMF_VARS.fd";
    if sectors == 0 || !sectors.is_multiple_of(8) || sectors > 16 << 11 {
        bail!(
            "--uefi-vars {path}: {wanted}, found {} bytes, which is no multiple of 4K up to 16M",
            sectors * platform::block::SECTOR_BYTES as u64
        );
    }
    let mut bytes = vec![0; sectors as usize * platform::block::SECTOR_BYTES];
    let read = backend.read(0, &mut bytes);
    read.with_context(|| format!("--uefi-vars {path}: cannot be read"))?;
    // Anything else would be written over by the guest, as it formats what it does not know.
    if variables_len(&bytes) != Some(bytes.len()) {
        bail!(
            "--uefi-vars {path}: {wanted}, found a file of another kind; copy the one that came with the firmware"
        );
    }
    Ok(bytes)
}

/// A system BIOS: there must be something at its reset vector, the last 16 bytes.
fn read_firmware(path: &Path) -> Result<Vec<u8>> {
    let bytes = read_rom("--firmware", path, 4 << 10, 16 << 20)?;
    let vector = &bytes[bytes.len() - 16..];
    if vector.iter().all(|byte| *byte == vector[0]) {
        bail!(
            "{}: --firmware expected a system BIOS, found nothing at its reset vector; check the file: it is \
             SeaBIOS's bios.bin, or OVMF.fd, or OVMF_CODE.fd beside --uefi-vars, for example",
            path.display()
        );
    }
    Ok(bytes)
}

/// A ROM of a card: it says so in its first two bytes.
fn read_option_rom(option: &str, path: &Path, most: usize) -> Result<Vec<u8>> {
    let bytes = read_rom(option, path, 512, most)?;
    if !bytes.starts_with(&[0x55, 0xAA]) {
        bail!(
            "{}: {option} expected an expansion ROM, which starts with 55 AA, found another file; check it",
            path.display()
        );
    }
    Ok(bytes)
}

fn kernel_rom(loaded: &Loaded) -> Vec<u8> {
    let copy = loaded
        .low_part
        .map_or([0; 3], |part| [part.from, part.to, part.len]);
    firmware::kernel_rom(&match loaded.entry {
        boot::Entry::Flat(entry) => KernelEntry {
            eip: entry.eip,
            eax: entry.eax,
            ebx: entry.ebx,
            video_mode: loaded.video_mode.unwrap_or(0),
            palette: loaded.palette.unwrap_or(0),
            copy,
            ..KernelEntry::default()
        },
        boot::Entry::Real(entry) => KernelEntry {
            eip: u32::from(entry.cs) << 16 | u32::from(entry.ip),
            esp: entry.sp.into(),
            real_segment: entry.segment,
            ..KernelEntry::default()
        },
    })
}

/// The network card, with what is in its ROM.
fn network_card(spec: &MachineSpec) -> Result<Option<NetworkCard>> {
    let Some(net) = &spec.net else {
        return Ok(None);
    };
    let mut rom = match &net.rom {
        Some(path) => read_option_rom("--net rom", path, 512 << 10)?,
        None => Vec::new(),
    };
    if net.model == crate::CardModel::Virtio {
        name_device(&mut rom, 0x1AF4, 0x1000);
    }
    Ok(Some(NetworkCard {
        model: match net.model {
            crate::CardModel::E1000 => CardModel::E1000,
            crate::CardModel::Virtio => CardModel::Virtio,
            crate::CardModel::Rtl8139 => CardModel::Rtl8139,
            crate::CardModel::Ne2k => CardModel::Ne2kPci,
            crate::CardModel::Ne2kIsa => CardModel::Ne2kIsa,
        },
        mac: net.mac()?,
        rom,
    }))
}

/// Makes an expansion ROM of this vendor's name the device that it is plugged into (PCI Firmware
/// Specification 3.0 §5.1.2): one for virtio names the card of version 1, and other firmware than
/// ours does not run it for the older number.
fn name_device(rom: &mut [u8], vendor: u16, device: u16) {
    /// A byte that the header leaves to the ROM, by which its bytes sum to 0.
    const CHECKSUM: usize = 6;
    let word = |rom: &[u8], at: usize| {
        let bytes = rom.get(at..at + 2)?;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    let Some(data) = word(rom, 0x18).map(usize::from) else {
        return;
    };
    let is_ours = rom.get(data..data + 4) == Some(b"PCIR") && word(rom, data + 4) == Some(vendor);
    let Some(before) = word(rom, data + 6).filter(|_| is_ours) else {
        return;
    };
    let sum = |word: u16| word.to_le_bytes().into_iter().fold(0, u8::wrapping_add);
    rom[data + 6..data + 8].copy_from_slice(&device.to_le_bytes());
    rom[CHECKSUM] = rom[CHECKSUM].wrapping_add(sum(before).wrapping_sub(sum(device)));
}

/// What sounds.
fn sound_cards(spec: &MachineSpec) -> Option<SoundCards> {
    let sound = spec.sound.as_ref()?;
    Some(SoundCards {
        sb16: sound.has(SoundModel::Sb16),
        ac97: sound.has(SoundModel::Ac97),
    })
}

/// Which IDE unit each drive is: 0 and 1 on the primary channel, 2 and 3 on the secondary one.
pub(crate) struct Places {
    pub(crate) disks: Vec<usize>,
    pub(crate) cdroms: Vec<usize>,
}

/// Disks come first, and the first CD-ROM drive is the master of the secondary channel, as with QEMU, unless
/// disks fill all places before it.
pub(crate) fn ide_places(disks: usize, cdroms: usize) -> Result<Places> {
    if disks + cdroms > 4 {
        bail!("{disks} hard disks and {cdroms} CD-ROM drives: expected at most 4 in all");
    }
    let order = if cdroms == 0 {
        [0, 1, 2, 3]
    } else {
        [0, 1, 3, 2]
    };
    let disks = order[..disks].to_vec();
    let free = [2, 3, 1, 0]
        .into_iter()
        .filter(|place| !disks.contains(place));
    let cdroms = free.take(cdroms).collect();
    Ok(Places { disks, cdroms })
}

fn boot_order(spec: &MachineSpec, media: &Media) -> Vec<BootDevice> {
    let device = |kind: BootKind| match kind {
        BootKind::Disk => Some(BootDevice::Disk),
        BootKind::Cdrom => Some(BootDevice::Cdrom),
        BootKind::Floppy => Some(BootDevice::Floppy),
        BootKind::Network => Some(BootDevice::Network),
        BootKind::Menu => None,
    };
    let chosen: Vec<_> = spec.boot.iter().copied().filter_map(device).collect();
    if !chosen.is_empty() {
        return chosen;
    }
    let first = media.boot_first.and_then(|kind| device(kind.into()));
    let mut order: Vec<_> = first.into_iter().collect();
    let rest = [
        BootDevice::Disk,
        BootDevice::Floppy,
        BootDevice::Cdrom,
        BootDevice::Network,
    ];
    for rest in rest {
        if !order.contains(&rest) {
            order.push(rest);
        }
    }
    order
}

/// The boot order as other firmware reads it: a line for each drive, its path in the device tree of Open Firmware
/// (QEMU, `bootorder` in the firmware configuration).
fn boot_paths(spec: &MachineSpec, media: &Media) -> Result<Vec<u8>> {
    let places = ide_places(media.disks.len(), media.cdroms.len())?;
    let on_ide = |places: &[usize]| -> Vec<String> {
        let path = |&place: &usize| {
            let (channel, unit) = (place / 2, place % 2);
            format!("/pci@i0cf8/ide@1,1/drive@{channel}/disk@{unit}")
        };
        places.iter().map(path).collect()
    };
    // Disks as the user names them; an image that is none of `--disk` comes first.
    let mut ide = on_ide(&places.disks).into_iter();
    let mut virtio =
        (pc::FIRST_VIRTIO_SLOT..).map(|slot| format!("/pci@i0cf8/scsi@{slot:x}/disk@0,0"));
    let named_ide = spec.disk.iter().filter(|disk| disk.bus == DiskBus::Ide);
    let others = media.disks.len().saturating_sub(named_ide.count());
    let mut disks: Vec<String> = ide.by_ref().take(others).collect();
    disks.extend(spec.disk.iter().filter_map(|disk| match disk.bus {
        DiskBus::Ide => ide.next(),
        DiskBus::Virtio => virtio.next(),
    }));
    let floppies = 0..media.floppies.len();
    let paths = |device: &BootDevice| match device {
        BootDevice::Disk => disks.clone(),
        BootDevice::Cdrom => on_ide(&places.cdroms),
        BootDevice::Floppy => floppies
            .clone()
            .map(|unit| format!("/pci@i0cf8/isa@1/fdc@03f0/floppy@{unit}"))
            .collect(),
        // The card is device 3 of the bus; on ISA it has no ROM that firmware could find.
        BootDevice::Network => spec
            .net
            .iter()
            .map(|_| "/pci@i0cf8/ethernet@3/ethernet-phy@0".to_owned())
            .collect(),
    };
    let lines: Vec<String> = boot_order(spec, media).iter().flat_map(paths).collect();
    Ok((lines.join("\n") + "\0").into_bytes())
}

/// Memory that the host does not have is the user's to mend: in the units of `-m`, with a size that would do.
fn in_users_words(error: BuildError, memory: u64) -> anyhow::Error {
    let BuildError::Memory(MemoryError::Host { .. }) = error else {
        return error.into();
    };
    let wanted = format_size(memory);
    match host::memory::available_bytes() {
        // A power of two, which leaves the host something.
        Some(free) if free > 2 << 20 && free < memory => anyhow!(
            "-m {wanted}: expected memory that this host can give, found about {} free; try -m {}",
            format_size(free & !((1 << (free.ilog2() - 4)) - 1)),
            format_size(1 << free.ilog2())
        ),
        _ => anyhow!(
            "-m {wanted}: expected memory that this host can give, found less; try -m {}",
            format_size((memory / 2).max(1 << 20) & !0xF_FFFF)
        ),
    }
}

/// Reads a ROM image and checks its size.
fn read_rom(option: &str, path: &Path, unit: usize, most: usize) -> Result<Vec<u8>> {
    let purpose = Purpose {
        option,
        wanted: "a ROM image",
        most: most as u64,
        takes: |kind| kind == Kind::Sectors,
    };
    let bytes = storage::read_whole(path, &purpose)?;
    if bytes.is_empty() || bytes.len() % unit != 0 {
        bail!(
            "{}: {option} expected a ROM image, a multiple of {unit} bytes up to {most}, found {} bytes; \
             check the file",
            path.display(),
            bytes.len()
        );
    }
    Ok(bytes)
}

/// Finds the ACPI root pointer in the tables' window: at a 16-byte boundary, as guests look for it.
fn rsdp(tables: &[u8]) -> Option<(u64, Vec<u8>)> {
    let at = tables
        .chunks(16)
        .position(|chunk| chunk.starts_with(b"RSD PTR "))?
        * 16;
    let revision = *tables.get(at + 15)?;
    let len = if revision >= 2 { 36 } else { 20 };
    let bytes = tables.get(at..at + len)?.to_vec();
    Some((u64::from(firmware::TABLES_BASE) + at as u64, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rom_names_the_device_that_it_is_in_and_sums_to_0_still() {
        let mut rom = vec![0; 512];
        rom[..3].copy_from_slice(&[0x55, 0xAA, 1]);
        rom[0x18] = 0x20;
        rom[0x20..0x28].copy_from_slice(b"PCIR\xF4\x1A\x41\x10");
        let sum = |rom: &[u8]| rom.iter().copied().fold(0, u8::wrapping_add);
        rom[6] = sum(&rom).wrapping_neg();
        let before = rom.clone();
        name_device(&mut rom, 0x8086, 0x100E);
        assert_eq!(rom, before, "another vendor's");
        name_device(&mut rom, 0x1AF4, 0x1000);
        assert_eq!(
            (&rom[0x20..0x28], sum(&rom)),
            (&b"PCIR\xF4\x1A\x00\x10"[..], 0)
        );
        for len in 0..0x30 {
            name_device(&mut before[..len].to_vec(), 0x1AF4, 0x1000);
        }
    }

    #[test]
    fn drives_have_places_of_their_own() {
        let places = |disks, cdroms| {
            let places = ide_places(disks, cdroms).unwrap();
            (places.disks, places.cdroms)
        };
        assert_eq!(places(3, 0), (vec![0, 1, 2], vec![]));
        assert_eq!(places(1, 1), (vec![0], vec![2]));
        assert_eq!(places(3, 1), (vec![0, 1, 3], vec![2]));
        assert_eq!(places(1, 3), (vec![0], vec![2, 3, 1]));
        assert_eq!(places(0, 4), (vec![], vec![2, 3, 1, 0]));
        assert!(ide_places(3, 2).is_err());
    }

    /// Who asks the BIOS and who reads the registers see the same monitor.
    #[test]
    fn the_vga_bios_has_the_monitors_edid() {
        let edid = devices::vga::edid::block();
        let rom = firmware::vga_bios();
        assert!(rom.windows(edid.len()).any(|bytes| bytes == edid));
    }
}
