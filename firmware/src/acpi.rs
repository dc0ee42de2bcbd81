//! ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, DSDT, HPET, and the MADT where there are APICs.
//!
//! ACPI specification 6.4, chapter 5, and IA-PC HPET 1.0a §3.2.4; the registers are those of the board's table in ARCHITECTURE.md. ACPI mode is
//! always on (`SMI_CMD` is 0), the power and sleep buttons are not there, and there are no general-purpose events.

use crate::aml::{
    ARG0, LOCAL0, Resource, and, byte_fields, device, dword_field, eisa_id, give, integer, less,
    method, name, or_into, package, path, pci_config_region, resource_template, scope, store, when,
};
use crate::{Board, TABLES_BASE, TABLES_BYTES, checksum};

const PM1A_EVENT: u16 = 0x600;
const PM1A_CONTROL: u16 = 0x604;
const PM_TIMER: u16 = 0x608;
pub(crate) const SCI: u8 = 9;
const RESET_PORT: u16 = 0xCF9;
const RESET_VALUE: u8 = 0x06;
const CMOS_CENTURY: u8 = 0x32;
const IO_APIC: u32 = 0xFEC0_0000;
const LOCAL_APIC: u32 = 0xFEE0_0000;
const HPET: u32 = 0xFED0_0000;
/// The low half of its capabilities.
const HPET_ID: u32 = 0x8086_A201;

/// The RSDP sits at the start of the window; the tables follow it.
const FIRST_TABLE: usize = 0x40;

/// The tables but for the RSDP, one behind the other, for whatever address they will have.
pub(crate) struct Tables {
    /// Their bytes. Addresses in them are offsets into this, and checksums are 0.
    pub bytes: Vec<u8>,
    /// Where addresses stand, and how many bytes each has.
    pub pointers: Vec<(usize, u8)>,
    /// Where the tables with a header are, whose checksums are missing, and how long each is.
    pub headed: Vec<(usize, usize)>,
    rsdt: u32,
    xsdt: u32,
}

/// Where a table has its checksum.
pub(crate) const CHECKSUM: usize = 9;
/// Which bytes of the RSDP are addresses: of the RSDT and of the XSDT.
pub(crate) const RSDP_POINTERS: [(usize, u8); 2] = [(16, 4), (24, 8)];
/// The RSDP's checksums, and how many bytes each is over.
pub(crate) const RSDP_CHECKSUMS: [(usize, usize); 2] = [(8, 20), (32, 36)];

impl Tables {
    /// The tables of `board`. Their place must be a multiple of 64.
    pub fn new(board: &Board) -> Self {
        let mut tables = Self {
            bytes: Vec::new(),
            pointers: Vec::new(),
            headed: Vec::new(),
            rsdt: 0,
            xsdt: 0,
        };
        let facs = tables.place(&facs(), 64);
        let dsdt = tables.place_headed(&dsdt(board), &[]);
        let pointers = [(36, 4), (40, 4), (132, 8), (140, 8)];
        let mut listed = vec![tables.place_headed(&fadt(facs, dsdt), &pointers)];
        if board.apic {
            listed.push(tables.place_headed(&madt(board), &[]));
        }
        listed.push(tables.place_headed(&hpet(), &[]));
        let list = |width: usize| -> (Vec<u8>, Vec<(usize, u8)>) {
            let bytes = listed
                .iter()
                .flat_map(|&at| u64::from(at).to_le_bytes()[..width].to_vec());
            let pointers = (0..listed.len()).map(|n| (36 + width * n, width as u8));
            (bytes.collect(), pointers.collect())
        };
        let (bytes, pointers) = list(4);
        tables.rsdt = tables.place_headed(&table(b"RSDT", 1, &bytes), &pointers);
        let (bytes, pointers) = list(8);
        tables.xsdt = tables.place_headed(&table(b"XSDT", 1, &bytes), &pointers);
        tables
    }

    /// Puts a table at the next multiple of `align` and gives its offset.
    fn place(&mut self, table: &[u8], align: usize) -> u32 {
        let at = self.bytes.len().next_multiple_of(align);
        self.bytes.resize(at, 0);
        self.bytes.extend(table);
        at as u32
    }

    /// The same for one with a header, which has addresses at `pointers`.
    fn place_headed(&mut self, table: &[u8], pointers: &[(usize, u8)]) -> u32 {
        let at = self.place(table, 16);
        self.headed.push((at as usize, table.len()));
        let absolute = pointers.iter().map(|&(to, len)| (at as usize + to, len));
        self.pointers.extend(absolute);
        at
    }

    /// The RSDP, with offsets in place of addresses and without checksums.
    pub fn rsdp(&self) -> Vec<u8> {
        let mut bytes = b"RSD PTR \0GLSBOX\x02".to_vec();
        bytes.extend(self.rsdt.to_le_bytes());
        bytes.extend(36u32.to_le_bytes());
        bytes.extend(u64::from(self.xsdt).to_le_bytes());
        bytes.extend([0; 4]);
        bytes
    }
}

/// Adds `base` to the numbers at `pointers`.
fn relocate(bytes: &mut [u8], pointers: &[(usize, u8)], base: u32) {
    for &(at, len) in pointers {
        let field = &mut bytes[at..at + usize::from(len)];
        let mut value = [0; 8];
        value[..field.len()].copy_from_slice(field);
        let value = u64::from_le_bytes(value) + u64::from(base);
        field.copy_from_slice(&value.to_le_bytes()[..field.len()]);
    }
}

/// The 64 KiB from E0000 with the ACPI tables from its start; they end well before E8000.
pub fn tables(board: &Board) -> Vec<u8> {
    let mut tables = Tables::new(board);
    let mut rsdp = tables.rsdp();
    let base = TABLES_BASE + FIRST_TABLE as u32;
    relocate(&mut tables.bytes, &tables.pointers, base);
    for (at, len) in tables.headed {
        tables.bytes[at + CHECKSUM] = checksum(&tables.bytes[at..at + len]);
    }
    relocate(&mut rsdp, &RSDP_POINTERS, base);
    for (at, len) in RSDP_CHECKSUMS {
        rsdp[at] = checksum(&rsdp[..len]);
    }
    let mut window = vec![0; TABLES_BYTES];
    window[..rsdp.len()].copy_from_slice(&rsdp);
    let end = FIRST_TABLE + tables.bytes.len();
    assert!(
        end <= 0x8000,
        "the ACPI tables have outgrown their half of the window"
    );
    window[FIRST_TABLE..end].copy_from_slice(&tables.bytes);
    window
}

/// A system description table: the 36-byte header without its checksum, then `body`.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend((36 + body.len() as u32).to_le_bytes());
    bytes.extend([revision, 0]);
    bytes.extend(b"GLSBOX"); // OEM
    bytes.extend(b"GLASSBOX"); // OEM table
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(b"GLBX"); // creator
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(body);
    bytes
}

fn facs() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..4].copy_from_slice(b"FACS");
    bytes[4] = 64;
    bytes[32] = 1; // version
    bytes
}

/// A generic address in I/O space. `access`: 1 byte, 2 word, 3 double word.
fn io_address(bits: u8, access: u8, port: u16) -> Vec<u8> {
    [&[1, bits, 0, access][..], &u64::from(port).to_le_bytes()].concat()
}

/// FADT revision 3, 244 bytes. Offsets in the comments are of the whole table.
fn fadt(facs: u32, dsdt: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(facs.to_le_bytes()); // 36
    body.extend(dsdt.to_le_bytes());
    body.extend([0, 1]); // 44: reserved; desktop
    body.extend(u16::from(SCI).to_le_bytes());
    body.extend(0u32.to_le_bytes()); // 48: SMI_CMD
    body.extend([0; 4]); // 52: ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT
    for port in [PM1A_EVENT, 0, PM1A_CONTROL, 0, 0, PM_TIMER, 0, 0] {
        body.extend(u32::from(port).to_le_bytes()); // 56: PM1a/b event and control, PM2, timer, GPE0/1
    }
    body.extend([4, 2, 0, 4, 0, 0, 0, 0]); // 88: lengths of those; GPE1 base; C-state control
    body.extend(101u16.to_le_bytes()); // 96: no C2
    body.extend(1001u16.to_le_bytes()); // no C3
    body.extend([0; 4]); // 100: flush size and stride: WBINVD works
    body.extend([0, 0]); // 104: duty cycle
    body.extend([0, 0, CMOS_CENTURY]); // 106: no day and month alarm
    body.extend(0x0003u16.to_le_bytes()); // 109: legacy devices, 8042
    body.push(0);
    // 112: WBINVD, C1 on every processor, no fixed power button, no fixed sleep button, no fixed RTC wake, reset
    // register.
    let flags = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10;
    body.extend(u32::to_le_bytes(flags));
    body.extend(io_address(8, 1, RESET_PORT)); // 116
    body.extend([RESET_VALUE, 0, 0, 0]); // 128
    body.extend(u64::from(facs).to_le_bytes()); // 132
    body.extend(u64::from(dsdt).to_le_bytes());
    body.extend(io_address(32, 2, PM1A_EVENT)); // 148
    body.extend([0; 12]);
    body.extend(io_address(16, 2, PM1A_CONTROL)); // 172
    body.extend([0; 24]); // PM1b control, PM2
    body.extend(io_address(32, 3, PM_TIMER)); // 208
    body.extend([0; 24]); // GPE0, GPE1
    debug_assert_eq!(body.len(), 244 - 36);
    table(b"FACP", 3, &body)
}

/// MADT: the APICs. ISA IRQ 0 is wired to input 2, and the SCI and what PCI devices get are level triggered, active
/// high.
fn madt(board: &Board) -> Vec<u8> {
    let mut body = LOCAL_APIC.to_le_bytes().to_vec();
    body.extend(1u32.to_le_bytes()); // two 8259As are there as well
    for cpu in 0..board.cpus {
        body.extend([0, 8, cpu, cpu, 1, 0, 0, 0]);
    }
    body.extend([1, 12, board.io_apic_id(), 0]);
    body.extend(IO_APIC.to_le_bytes());
    body.extend(0u32.to_le_bytes());
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]); // IRQ 0 to input 2, as the bus has it
    for irq in (0..16).filter(|&irq| board.is_level_triggered(irq)) {
        body.extend([2, 10, 0, irq, irq, 0, 0, 0, 0x0D, 0]); // level, active high
    }
    body.extend([4, 6, 0xFF, 0, 0, 1]); // NMI on LINT1 of every processor
    table(b"APIC", 3, &body)
}

/// HPET: where the event timers are. Periods shorter than 1 µs, 100 ticks, interrupt late.
fn hpet() -> Vec<u8> {
    let mut body = HPET_ID.to_le_bytes().to_vec();
    body.extend([0, 0, 0, 0]); // memory
    body.extend(u64::from(HPET).to_le_bytes());
    body.push(0); // the first one
    body.extend(100u16.to_le_bytes());
    body.push(0); // nothing is said about the rest of the page
    table(b"HPET", 1, &body)
}

fn dsdt(board: &Board) -> Vec<u8> {
    let mut devices = Vec::new();
    if board.pci {
        devices.extend(pci_root());
    }
    for entry in isa_devices(board) {
        let mut body = name("_HID", &eisa_id(entry.id));
        if let Some(unique) = entry.unique {
            body.extend(name("_UID", &integer(unique)));
        }
        body.extend(name("_CRS", &resource_template(&entry.resources)));
        devices.extend(device(&entry.name, &body));
    }
    // S5 by SLP_TYP 0.
    let sleep = name("\\_S5", &package(&vec![integer(0); 4]));
    table(b"DSDT", 2, &[sleep, scope("\\_SB", &devices)].concat())
}

/// PCI bus 0 with its windows: the ports that the ISA devices leave, the VGA aperture, and what lies above RAM.
fn pci_root() -> Vec<u8> {
    let windows = resource_template(&[
        Resource::Buses(0, 0xFF),
        Resource::Io(0xCF8, 8),
        Resource::IoWindow(0x0000, 0x0CF7),
        Resource::IoWindow(0x0D00, 0xFFFF),
        Resource::MemoryWindow(true, 0x000A_0000, 0x000B_FFFF),
        Resource::MemoryWindow(false, 0xC000_0000, 0xFEBF_FFFF),
    ]);
    let body = [
        name("_HID", &eisa_id("PNP0A03")),
        name("_CRS", &windows),
        name("_PRT", &interrupt_routes()),
        isa_bridge(),
    ]
    .concat();
    device("PCI0", &body)
}

/// The ISA interrupts that the BIOS leads PIRQA# to PIRQD# to.
const PIRQS: [u8; 4] = [10, 10, 11, 11];

/// The ISA interrupt of pin `pin` (0 is INTA#) of device `device`, as `_PRT` and the links say after the BIOS.
pub(crate) fn interrupt_of(device: u8, pin: u8) -> u8 {
    PIRQS[link_of(device.into(), pin.into())]
}

fn link_of(device: u64, pin: u64) -> usize {
    (device + pin + 3) as usize % LINKS.len()
}

/// The PIIX3's PIRQ registers, in configuration space.
const PIRQ_ROUTE: u8 = 0x60;
const LINKS: [(&str, &str); 4] = [
    ("LNKA", "PRQA"),
    ("LNKB", "PRQB"),
    ("LNKC", "PRQC"),
    ("LNKD", "PRQD"),
];

/// Which link each pin of each device ends at: pin A of device 1 at the first, and so on in turn.
fn interrupt_routes() -> Vec<u8> {
    let route = |device: u64, pin: u64| {
        let (link, _) = LINKS[link_of(device, pin)];
        package(&[
            integer(device << 16 | 0xFFFF),
            integer(pin),
            path(&format!("ISA.{link}")),
            integer(0),
        ])
    };
    // Device 0 is the host bridge.
    let routes: Vec<_> = (1..32)
        .flat_map(|device| (0..4).map(move |pin| route(device, pin)))
        .collect();
    package(&routes)
}

/// Device 1, function 0: the links, each of which leads a PIRQ to an ISA interrupt as its register says.
fn isa_bridge() -> Vec<u8> {
    let mut body = name("_ADR", &integer(0x1_0000));
    body.extend(pci_config_region("PIRQ", PIRQ_ROUTE, 4));
    body.extend(byte_fields("PIRQ", &LINKS.map(|(_, register)| register)));
    for (unique, (link, register)) in (0..).zip(LINKS) {
        body.extend(interrupt_link(link, unique, &path(register)));
    }
    device("ISA", &body)
}

fn interrupt_link(link: &str, unique: u64, register: &[u8]) -> Vec<u8> {
    let off = integer(0x80);
    let possible = resource_template(&[Resource::Interrupts([5, 10, 11])]);
    let unknown = resource_template(&[Resource::Interrupts([0; 3])]);
    let number = dword_field(LOCAL0, 5, "IRQN");
    let body = [
        name("_HID", &eisa_id("PNP0C0F")),
        name("_UID", &integer(unique)),
        name("_PRS", &possible),
        method(
            "_STA",
            0,
            &[
                when(&and(register, &off), &give(&integer(0x09))),
                give(&integer(0x0B)),
            ],
        ),
        method("_DIS", 0, &[or_into(register, &off, register)]),
        method(
            "_CRS",
            0,
            &[
                store(&unknown, &[LOCAL0]),
                number,
                when(&less(register, &off), &store(register, &path("IRQN"))),
                give(&[LOCAL0]),
            ],
        ),
        method(
            "_SRS",
            1,
            &[dword_field(ARG0, 5, "IRQN"), store(&path("IRQN"), register)],
        ),
    ]
    .concat();
    device(link, &body)
}

struct IsaDevice {
    name: String,
    id: &'static str,
    unique: Option<u64>,
    resources: Vec<Resource>,
}

fn isa_devices(board: &Board) -> Vec<IsaDevice> {
    use Resource::{Dma, Io, Irq, Memory};
    let plain = |name: &str, id, resources: &[Resource]| IsaDevice {
        name: name.to_owned(),
        id,
        unique: None,
        resources: resources.to_vec(),
    };
    let mut devices = vec![
        plain(
            "PIC",
            "PNP0000",
            &[Io(0x20, 2), Io(0xA0, 2), Io(0x4D0, 2), Irq(2)],
        ),
        plain("TIMR", "PNP0100", &[Io(0x40, 4), Irq(0)]),
        plain(
            "DMAC",
            "PNP0200",
            &[Io(0x00, 16), Io(0x81, 15), Io(0xC0, 32), Dma(4)],
        ),
        plain("RTC", "PNP0B00", &[Io(0x70, 2), Irq(8)]),
        plain("KBD", "PNP0303", &[Io(0x60, 1), Io(0x64, 1), Irq(1)]),
        // The ports are the keyboard's.
        plain("MOU", "PNP0F13", &[Irq(12)]),
        plain("SPKR", "PNP0800", &[Io(0x61, 1)]),
        plain("HPET", "PNP0103", &[Memory(HPET, 0x400)]),
        plain("FPU", "PNP0C04", &[Io(0xF0, 16), Irq(13)]),
        plain(
            "SYSR",
            "PNP0C02",
            // The ACPI registers are the PIIX4 function's.
            &[Io(0x80, 1), Io(0x92, 1), Io(0xB2, 2)],
        ),
    ];
    if board.floppy {
        devices.push(plain(
            "FDC0",
            "PNP0700",
            &[Io(0x3F0, 6), Io(0x3F7, 1), Irq(6), Dma(2)],
        ));
    }
    let ports = [(0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3)];
    for (i, &(port, irq)) in ports.iter().enumerate().take(board.com_ports.into()) {
        devices.push(IsaDevice {
            name: format!("COM{}", i + 1),
            id: "PNP0501",
            unique: Some(i as u64 + 1),
            resources: vec![Io(port, 8), Irq(irq)],
        });
    }
    devices
}
