//! The one board: an ISA PC with a PIIX-style chipset. ARCHITECTURE.md holds its memory map, ports and
//! interrupts; this file is those tables as code, a few lines a device.

use platform::{
    BlockBackend, Bus, Clock, Device, DeviceId, GuestMemory, IrqLine, MemoryError, PCI_NS, PhysAddr,
};

use super::cmos::{self, Inventory};
use crate::dma::{self, I8237};
use crate::flash::{CfiFlash, FlashImage};
use crate::floppy::{self, I82077};
use crate::ide::Attached;
use crate::ide::piix::{Drives, PiixIde};
use crate::input::I8042;
use crate::irq::{FpuError, I8259, IoApic, ioapic};
use crate::net::{E1000, Mac, Ne2000, Rtl8029, Rtl8139};
use crate::pci::piix4::PowerManagement;
use crate::pci::{self, Bdf, PciHost, i440fx, piix3};
use crate::power::{A20Gates, AcpiPm, Apm, ApmWires, DebugPort, PortA};
use crate::qemu::{FwCfg, TestDevice, fw_cfg, test_device};
use crate::time::{Hpet, I8254, Mc146818, hpet};
use crate::uart::Uart16550;
use crate::vga::{self, Vga, pci::VgaFunction};
use crate::virtio::{VirtioBlock, VirtioEntropy};

const KIB: usize = 1 << 10;
const VGA_BIOS_BASE: u64 = 0xC_0000;
const OPTION_ROM_END: u64 = 0xE_0000;
const TABLES_BASE: u64 = 0xE_0000;
const BIOS_SEGMENT_BASE: u64 = 0xF_0000;
const FOUR_GIB: u64 = 1 << 32;
/// Below FEC00000 are the interrupt controllers' addresses.
const MOST_BIOS_BYTES: usize = 16 << 20;

/// What an empty floppy drive is for: disks of 1.44 MiB.
const USUAL_FLOPPY_SECTORS: u64 = 2880;

/// Number, first port and interrupt of COM1 to COM4.
const COM_PORTS: [(u8, u16, u8); 4] = [(0, 0x3F8, 4), (1, 0x2F8, 3), (2, 0x3E8, 4), (3, 0x2E8, 3)];

/// A kind of device to boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootDevice {
    /// The first floppy drive.
    Floppy,
    /// The first hard disk.
    Disk,
    /// The first CD-ROM drive.
    Cdrom,
    /// The network card, by its boot ROM.
    Network,
}

/// Where virtio's entropy device is.
const ENTROPY_SLOT: u8 = 4;
/// Where its first disk is; the others follow.
pub const FIRST_VIRTIO_SLOT: u8 = 5;
/// The most virtio disks.
pub const MOST_VIRTIO_DISKS: usize = 8;

/// The instance name of the network card.
pub const NETWORK_CARD: &str = "net0";

/// A network card.
pub struct NetworkCard {
    /// Which one.
    pub model: CardModel,
    /// Its address.
    pub mac: Mac,
    /// What is in its expansion ROM; nothing, or a multiple of 512 bytes.
    pub rom: Vec<u8>,
}

/// A model of network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardModel {
    /// Intel 82540EM, at 00:03.0.
    E1000,
    /// Realtek RTL8139C, at 00:03.0.
    Rtl8139,
    /// Realtek RTL8029AS, an NE2000 at 00:03.0.
    Ne2kPci,
    /// NE2000 on the ISA bus: ports 300 to 31F, interrupt 7 (9 is ACPI's here).
    Ne2kIsa,
}

/// What the board is made of.
pub struct PcConfig {
    /// Installed RAM.
    pub memory_bytes: u64,
    /// How many processors the machine has; the board only tells its firmware.
    pub cpus: u16,
    /// 0 = primary master, 1 = primary slave, 2 = secondary master, 3 = secondary slave.
    pub disks: Vec<Option<Box<dyn BlockBackend>>>,
    /// Disks on virtio, at 00:05.0 and the places behind it.
    pub virtio_disks: Vec<Box<dyn BlockBackend>>,
    /// Whether there is virtio's entropy device.
    pub entropy: bool,
    /// CD-ROM drives: in which of the same places, instead of a disk, and with what in them.
    pub cdroms: Vec<(usize, Option<Box<dyn BlockBackend>>)>,
    /// Drives A and B.
    pub floppies: Vec<Option<Box<dyn BlockBackend>>>,
    /// Which of them are there with nothing in them.
    pub empty_floppies: Vec<usize>,
    /// What the BIOS tries, in order.
    pub boot_order: Vec<BootDevice>,
    /// The date at power-on, in seconds since 1970 UTC.
    pub rtc_start_unix: i64,
    /// The system BIOS: a multiple of 4 KiB from 64 KiB on, which ends at 4 GiB and (its last 128 KiB) at 1 MiB.
    pub bios: Vec<u8>,
    /// Flash memory below the system BIOS.
    pub flash: Option<FlashImage>,
    /// What a BIOS finds in the firmware configuration device.
    pub firmware_files: Vec<fw_cfg::File>,
    /// The VGA BIOS at C0000.
    pub vga_bios: Vec<u8>,
    /// Tables for the window at E0000, when a BIOS of 64 KiB leaves it free.
    pub tables: Vec<u8>,
    /// More ROMs, at whole pages between C8000 and DFFFF.
    pub option_roms: Vec<(PhysAddr, Vec<u8>)>,
    /// The network card.
    pub network: Option<NetworkCard>,
    /// Virtual nanoseconds per retired instruction: numerator and denominator.
    pub ns_per_instruction: (u64, u64),
}

impl PcConfig {
    /// A board with this much RAM and nothing plugged in: no drives, no ROMs, the date 0.
    pub fn new(memory_bytes: u64) -> Self {
        Self {
            memory_bytes,
            cpus: 1,
            disks: Vec::new(),
            virtio_disks: Vec::new(),
            entropy: false,
            cdroms: Vec::new(),
            floppies: Vec::new(),
            empty_floppies: Vec::new(),
            boot_order: vec![BootDevice::Disk, BootDevice::Floppy, BootDevice::Cdrom],
            rtc_start_unix: 0,
            bios: Vec::new(),
            flash: None,
            firmware_files: Vec::new(),
            vga_bios: Vec::new(),
            tables: Vec::new(),
            option_roms: Vec::new(),
            network: None,
            ns_per_instruction: (1, 1),
        }
    }
}

/// Why the board cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A BIOS image of another size.
    #[error("a BIOS image of {0} bytes: expected a multiple of 4K from 64K to 16M")]
    BiosSize(usize),
    /// A ROM that does not lie in its window.
    #[error("a ROM of {bytes} bytes at {base:#x}: expected it at a whole page within {window}")]
    Rom {
        /// Where it should go.
        base: u64,
        /// Its size.
        bytes: usize,
        /// Where such a ROM may lie.
        window: &'static str,
    },
    /// More drives than connectors.
    #[error("{found} {what}: this board has room for {most}")]
    Drives {
        /// What there are too many of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many fit.
        most: usize,
    },
    /// A CD-ROM drive in no place, or in a disk's.
    #[error("a CD-ROM drive at IDE connector {0}: expected one of 0 to 3 that no other drive has")]
    Cdrom(usize),
    /// A clock ratio with a zero.
    #[error("{0}/{1} ns per instruction: expected two numbers above zero")]
    Clock(u64, u64),
}

/// The board, powered on and reset.
pub struct Pc {
    /// Memory, devices, wires and virtual time.
    pub bus: Bus,
    /// Takes [`Input::Key`](platform::Input::Key) and [`Input::Mouse`](platform::Input::Mouse).
    pub keyboard: DeviceId,
    /// COM1 to COM4: each takes [`Input::Serial`](platform::Input::Serial) with its own port number.
    pub serial: [DeviceId; 4],
    /// Takes [`Input::Render`](platform::Input::Render).
    pub display: DeviceId,
    /// Takes [`Input::PowerButton`](platform::Input::PowerButton).
    pub power: DeviceId,
}

/// Builds the board.
///
/// # Errors
/// A size or place that the board does not have, or the host's refusal of memory.
pub fn build(config: PcConfig) -> Result<Pc, BuildError> {
    let (ns, instructions) = config.ns_per_instruction;
    if ns == 0 || instructions == 0 {
        return Err(BuildError::Clock(ns, instructions));
    }
    let disks: [_; 4] = connectors("disks", config.disks)?;
    let floppies = connectors("floppy drives", config.floppies)?;
    if config.virtio_disks.len() > MOST_VIRTIO_DISKS {
        return Err(BuildError::Drives {
            what: "virtio disks",
            found: config.virtio_disks.len(),
            most: MOST_VIRTIO_DISKS,
        });
    }
    if let Some(flash) = &config.flash {
        let bytes = config.bios.len() + flash.content.len();
        if bytes > MOST_BIOS_BYTES || !flash.content.len().is_multiple_of(CfiFlash::BLOCK_BYTES) {
            return Err(BuildError::BiosSize(bytes));
        }
    }
    let display_bytes = vga::MEMORY_BYTES as u64;
    let mut memory = GuestMemory::with_device_ram(config.memory_bytes, &[display_bytes])?;
    place_bios(&mut memory, &config.bios, &config.tables)?;
    place_option_rom(&mut memory, VGA_BIOS_BASE, &config.vga_bios)?;
    for (base, image) in &config.option_roms {
        place_option_rom(&mut memory, base.0, image)?;
    }
    let sectors = |drive: &Option<Box<dyn BlockBackend>>| drive.as_ref().map(|d| d.sectors());
    let cmos = cmos::contents(&Inventory {
        memory: &memory,
        floppies: [0, 1].map(|drive| {
            let empty = config.empty_floppies.contains(&drive);
            sectors(&floppies[drive]).or(empty.then_some(USUAL_FLOPPY_SECTORS))
        }),
        disks: [sectors(&disks[0]), sectors(&disks[1])],
        boot_order: &config.boot_order,
    });
    let mut drives: Drives = disks.map(|disk| disk.map(Attached::Disk));
    for (place, disc) in config.cdroms {
        let drive = drives.get_mut(place).filter(|drive| drive.is_none());
        *drive.ok_or(BuildError::Cdrom(place))? = Some(Attached::Cdrom(disc));
    }

    let mut bus = Bus::new(memory, Clock::new(ns, instructions));
    let a20 = A20Gates::add(&mut bus);
    let pirqs = pci::add_pirqs(&mut bus);
    let pic = add(&mut bus, I8259::new(), I8259::MAP);
    bus.set_interrupt_controller(pic, I8259::INTA);
    let io_apic = bus.add(Box::new(IoApic::new()));
    ioapic::map(&mut bus, io_apic);
    let dma = bus.add(Box::new(I8237::new()));
    dma::i8237::map(&mut bus, dma);
    let hpet_replaces = bus.add_wire("hpet-legacy");
    let timer = I8254::new().replaced_by(hpet_replaces);
    let timer = add(&mut bus, timer, I8254::MAP);
    let clock = Mc146818::new(config.rtc_start_unix, &cmos).replaced_by(hpet_replaces);
    let clock = add(&mut bus, clock, Mc146818::MAP);
    let keyboard = add(&mut bus, I8042::new(a20), I8042::MAP);
    let serial = COM_PORTS.map(|(port, base, irq)| {
        let uart = Uart16550::new(port, IrqLine::isa(irq));
        let id = bus.add_named(&format!("com{}", port + 1), Box::new(uart));
        bus.map_ports(id, Uart16550::PORTS, base, 8, 1);
        id
    });
    let display = bus.add(Box::new(Vga::new()));
    vga::map(&mut bus, display);
    let fdc = I82077::new(floppies).with_empty_drives(&config.empty_floppies);
    let fdc = bus.add(Box::new(fdc));
    floppy::i82077::map(&mut bus, fdc);
    let port_a = add(&mut bus, PortA::new(a20), PortA::MAP);
    let apm_wires = ApmWires::add(&mut bus);
    add(&mut bus, Apm::new(apm_wires), Apm::MAP);
    add(&mut bus, DebugPort::new(), DebugPort::MAP);
    let fw_cfg = FwCfg::new(config.memory_bytes, config.cpus, config.firmware_files);
    add(&mut bus, fw_cfg, FwCfg::MAP);
    if let Some(image) = config.flash {
        let base = FOUR_GIB - (config.bios.len() + image.content.len()) as u64;
        let len = image.content.len() as u64;
        let flash = bus.add(Box::new(CfiFlash::new(image)));
        bus.map_mmio(flash, CfiFlash::ARRAY, PhysAddr(base), len);
    }
    let tester = add(&mut bus, TestDevice::new(), TestDevice::MAP);
    test_device::map(&mut bus, tester);
    let fpu_error = add(&mut bus, FpuError::new(), FpuError::MAP);
    let power = add(&mut bus, AcpiPm::new(apm_wires), AcpiPm::MAP);
    let block = bus.add_port_window(power, AcpiPm::BLOCK, AcpiPm::BLOCK_LEN, 4);
    let host = add(&mut bus, PciHost::new(), PciHost::MAP);
    for chip in [host, io_apic, power] {
        bus.set_cost(chip, PCI_NS, PCI_NS);
    }
    // To programs its memory is memory.
    bus.set_cost(display, PCI_NS, 0);
    i440fx::host_bridge().plug(&mut bus, "i440fx", Bdf::new(0, 0));
    let bridge = piix3::IsaBridge::device(pirqs).plug(&mut bus, "piix3", Bdf::new(1, 0));
    PiixIde::plug(&mut bus, drives, Bdf::new(1, 1));
    PowerManagement::device(block, apm_wires).plug(&mut bus, "piix4", Bdf::new(1, 3));
    VgaFunction::plug(&mut bus, display, &config.vga_bios, Bdf::new(2, 0));

    if let Some(card) = config.network {
        plug_network_card(&mut bus, pirqs, card);
    }
    if config.entropy {
        VirtioEntropy::device(config.rtc_start_unix as u64)
            .with_pin(pci::pirq_of(pirqs, ENTROPY_SLOT, 1))
            .plug(&mut bus, "virtio-rng", Bdf::new(ENTROPY_SLOT, 0));
    }
    for (disk, slot) in config.virtio_disks.into_iter().zip(FIRST_VIRTIO_SLOT..) {
        let number = slot - FIRST_VIRTIO_SLOT;
        VirtioBlock::device(disk, format!("GLASSBOX-V{number}"))
            .with_pin(pci::pirq_of(pirqs, slot, 1))
            .plug(&mut bus, &format!("virtio-blk{number}"), Bdf::new(slot, 0));
    }

    bus.connect(IrqLine::FERR, fpu_error);
    a20.connect(&mut bus, port_a);
    bus.connect(IrqLine::isa(8), power);
    apm_wires.connect(&mut bus, power);
    for pirq in pirqs {
        bus.connect(pirq, bridge);
    }
    for n in 0..16 {
        bus.connect(IrqLine::isa(n), pic);
    }
    let hpet = bus.add(Box::new(Hpet::new(hpet_replaces)));
    hpet::map(&mut bus, hpet);
    bus.set_cost(hpet, PCI_NS, PCI_NS);
    for replaced in [timer, clock] {
        bus.connect(hpet_replaces, replaced);
    }
    // Power-on is a reset: the devices drive their wires for the first time.
    bus.reset();
    Ok(Pc {
        bus,
        keyboard,
        serial,
        display,
        power,
    })
}

/// Adds a device and maps its `(region, first port, number of ports, width)`.
fn add(bus: &mut Bus, device: impl Device + 'static, ports: &[(u8, u16, u16, u8)]) -> DeviceId {
    let id = bus.add(Box::new(device));
    for &(region, base, len, width) in ports {
        bus.map_ports(id, region, base, len, width);
    }
    id
}

/// Puts the network card into its slot.
fn plug_network_card(bus: &mut Bus, pirqs: [IrqLine; 4], card: NetworkCard) {
    const SLOT: u8 = 3;
    let pin = pci::pirq_of(pirqs, SLOT, 1);
    let place = Bdf::new(SLOT, 0);
    match card.model {
        CardModel::E1000 => {
            E1000::device(card.mac, card.rom)
                .with_pin(pin)
                .plug(bus, NETWORK_CARD, place)
        }
        CardModel::Rtl8139 => {
            Rtl8139::device(card.mac, card.rom)
                .with_pin(pin)
                .plug(bus, NETWORK_CARD, place)
        }
        CardModel::Ne2kPci => {
            Rtl8029::device(card.mac, card.rom)
                .with_pin(pin)
                .plug(bus, NETWORK_CARD, place)
        }
        CardModel::Ne2kIsa => {
            let ne2000 = Ne2000::new(card.mac, IrqLine::isa(7));
            let id = bus.add_named(NETWORK_CARD, Box::new(ne2000));
            for &(region, base, len, width) in Ne2000::MAP {
                bus.map_ports(id, region, base, len, width);
            }
            id
        }
    };
}

/// The drives on `N` connectors, of which the last ones may be free.
fn connectors<const N: usize>(
    what: &'static str,
    mut drives: Vec<Option<Box<dyn BlockBackend>>>,
) -> Result<[Option<Box<dyn BlockBackend>>; N], BuildError> {
    let found = drives.len();
    drives.resize_with(found.max(N), || None);
    drives.try_into().map_err(|_| BuildError::Drives {
        what,
        found,
        most: N,
    })
}

/// Places the BIOS below 4 GiB and its end below 1 MiB, where a small one leaves E0000 to the tables.
fn place_bios(memory: &mut GuestMemory, bios: &[u8], tables: &[u8]) -> Result<(), BuildError> {
    let fits = bios.is_empty() || (64 * KIB..=MOST_BIOS_BYTES).contains(&bios.len());
    if !fits || !bios.len().is_multiple_of(4 * KIB) {
        return Err(BuildError::BiosSize(bios.len()));
    }
    if tables.len() > 64 * KIB {
        return Err(BuildError::Rom {
            base: TABLES_BASE,
            bytes: tables.len(),
            window: "E0000-EFFFF",
        });
    }
    if !tables.is_empty() {
        memory.add_rom(PhysAddr(TABLES_BASE), tables)?;
    }
    if bios.is_empty() {
        return Ok(());
    }
    memory.add_rom(PhysAddr(FOUR_GIB - bios.len() as u64), bios)?;
    // A BIOS of 128 KiB or more lies over the tables.
    if bios.len() >= 128 * KIB {
        memory.add_rom(PhysAddr(TABLES_BASE), &bios[bios.len() - 128 * KIB..])?;
    } else {
        memory.add_rom(PhysAddr(BIOS_SEGMENT_BASE), &bios[bios.len() - 64 * KIB..])?;
    }
    Ok(())
}

fn place_option_rom(memory: &mut GuestMemory, base: u64, image: &[u8]) -> Result<(), BuildError> {
    if image.is_empty() {
        return Ok(());
    }
    let window = VGA_BIOS_BASE..OPTION_ROM_END;
    let fits = window.contains(&base) && image.len() as u64 <= OPTION_ROM_END - base;
    if !fits || !base.is_multiple_of(4096) {
        return Err(BuildError::Rom {
            base,
            bytes: image.len(),
            window: "C0000-DFFFF",
        });
    }
    memory.add_rom(PhysAddr(base), image)?;
    Ok(())
}

#[cfg(test)]
mod tests;
