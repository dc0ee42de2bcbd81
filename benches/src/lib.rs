//! What the benches share: guests of a few instructions, and whole machines.

use std::path::{Path, PathBuf};

use devices::boards::pc::{self, PcConfig};
use emulator::boot::{self, KernelKind, KernelSetup, Module};
use emulator::{Exit, Machine, MachineConfig, Pacing};
use firmware::KernelEntry;
use platform::{Bus, Clock, GuestMemory, MemoryDisk, PhysAddr, Said};
use x86::cpu::{Reg, Segment, SegmentRegister, control};
use x86::cpuid::CpuModel;
use x86::{Cpu, Vcpu};

/// Where [`Guest`] puts its code.
pub const CODE: u64 = 0x1000;
/// Two areas of a mebibyte for data.
pub const DATA: [u64; 2] = [0x10_0000, 0x20_0000];
const TABLES: u64 = 0x40_0000;
const MIB: u64 = 1 << 20;

/// A processor in flat 32-bit mode with code that never ends.
pub struct Guest {
    /// The processor, its bus attached.
    pub vcpu: Vcpu,
    retired: u64,
}

impl Guest {
    /// `code` at [`CODE`], on a bus without devices.
    pub fn new(code: &[u8]) -> Self {
        let memory = GuestMemory::new(64 * MIB).expect("the host has 64 MiB");
        Self::on(Box::new(Bus::new(memory, Clock::new(1, 1))), code)
    }

    /// `code` on the PC's board.
    pub fn with_devices(code: &[u8]) -> Self {
        let board = pc::build(PcConfig {
            bios: firmware::bios().to_vec(),
            ..PcConfig::new(64 * MIB)
        });
        Self::on(Box::new(board.expect("the board can be built").bus), code)
    }

    fn on(mut bus: Box<Bus>, code: &[u8]) -> Self {
        bus.memory.write(PhysAddr(CODE), code);
        let mut vcpu = Vcpu::new(CpuModel::by_name("max").expect("the model exists"));
        let data = Segment::P | Segment::S | Segment::TYPE_WRITABLE | Segment::DB | Segment::G;
        for seg in 0..6 {
            let code = if seg == SegmentRegister::CS {
                Segment::TYPE_CODE
            } else {
                0
            };
            let segment = Segment {
                selector: 8,
                base: 0,
                limit: !0,
                attributes: data | code,
            };
            vcpu.set_segment(seg, segment);
        }
        let cpu: &mut Cpu = &mut vcpu.cpu;
        cpu.cr0 |= control::CR0_PE;
        cpu.cr4 |= control::CR4_OSFXSR;
        cpu.regs[Reg::RIP] = CODE;
        cpu.regs[Reg::RSP] = 0x3F_0000;
        cpu.regs[Reg::RSI] = DATA[0];
        cpu.regs[Reg::RDI] = DATA[1];
        vcpu.update_mode();
        let retired = bus.clock.retired();
        vcpu.attach(bus);
        Self { vcpu, retired }
    }

    /// Turns paging on: every page of the 64 MiB maps to itself.
    pub fn with_paging(mut self) -> Self {
        let memory = &mut self.vcpu.bus().memory;
        for table in 0..16 {
            let at = TABLES + 0x1000 * (1 + table);
            memory.write(PhysAddr(TABLES + 4 * table), &(at as u32 | 7).to_le_bytes());
            for page in 0..1024 {
                let entry = (table << 22 | page << 12) as u32 | 7;
                memory.write(PhysAddr(at + 4 * page), &entry.to_le_bytes());
            }
        }
        self.vcpu.cpu.cr3 = TABLES;
        self.vcpu.cpu.cr0 |= control::CR0_PG;
        self.vcpu.flush_tlb();
        self.vcpu.update_mode();
        self
    }

    /// Runs `instructions`.
    pub fn run(&mut self, instructions: u64) {
        self.retired += instructions;
        self.vcpu.run(self.retired);
    }

    /// Starts again at [`CODE`], with all decoded code forgotten: a bus master writes it anew.
    pub fn rewrite(&mut self, code: &[u8]) {
        self.vcpu.bus().memory.write(PhysAddr(CODE), code);
        self.vcpu.cpu.regs[Reg::RIP] = CODE;
    }
}

/// A machine that boots what `disk` or `kernel` says.
fn machine(disk: Option<Vec<u8>>, kernel: Option<KernelSetup>, memory_bytes: u64) -> Machine {
    let description = firmware::Board {
        cpus: 1,
        ram_bytes: memory_bytes,
        pci: true,
        ..firmware::Board::default()
    };
    let tables = firmware::tables(&description);
    let mut config = PcConfig {
        bios: firmware::bios_for(&description),
        vga_bios: firmware::vga_bios().to_vec(),
        disks: disk
            .into_iter()
            .map(|bytes| Some(Box::new(MemoryDisk::new(bytes)) as _))
            .collect(),
        ns_per_instruction: (2, 1),
        ..PcConfig::new(memory_bytes)
    };
    let mut preloads = Vec::new();
    if let Some(mut setup) = kernel {
        setup.ram_bytes = memory_bytes;
        setup.rsdp = tables
            .get(..36)
            .map(|rsdp| (u64::from(firmware::TABLES_BASE), rsdp.to_vec()));
        let loaded = boot::load(KernelKind::Linux, &setup).expect("the kernel fits");
        let boot::Entry::Real(entry) = loaded.entry else {
            unreachable!("Linux starts in real mode");
        };
        let rom = firmware::kernel_rom(&KernelEntry {
            eip: u32::from(entry.cs) << 16 | u32::from(entry.ip),
            esp: entry.sp.into(),
            real_segment: entry.segment,
            ..KernelEntry::default()
        });
        config
            .option_roms
            .push((PhysAddr(firmware::KERNEL_ROM_BASE.into()), rom));
        preloads = loaded.preloads;
    }
    config.tables = tables;
    let board = pc::build(config).expect("the board can be built");
    Machine::new(
        Box::new(board.bus),
        MachineConfig {
            model: CpuModel::by_name("max").expect("the model exists"),
            cpus: 1,
            keyboard: board.keyboard,
            inputs: board.inputs.clone(),
            serial: board.serial.to_vec(),
            display: board.display,
            power: board.power,
            preloads,
            pacing: Pacing::Deterministic,
            stop_at_reset: true,
        },
    )
}

/// Boots the tour and returns the instructions that it took to its welcome screen.
pub fn boot_tour() -> u64 {
    let image = include_bytes!("../../test-roms/tour/tour.img");
    let mut machine = machine(Some(image.to_vec()), None, 64 * MIB);
    // From here on the welcome screen stands, and waits for a key.
    machine.run(WELCOME);
    machine.retired()
}

/// Instructions after which the tour's welcome screen is complete.
const WELCOME: u64 = 40_000_000;

/// Debian's i386 kernel and initial RAM disk, where the recipe of `test-roms/guests` has put them.
pub fn debian() -> Option<[PathBuf; 2]> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cache = std::env::var_os("GLASSBOX_CACHE").map_or(root.join(".cache"), PathBuf::from);
    let files = ["vmlinuz", "initrd.gz"].map(|name| cache.join("guests/i386").join(name));
    files.iter().all(|file| file.is_file()).then_some(files)
}

/// Boots Debian up to the shell and returns the instructions that it took.
pub fn boot_debian(files: &[PathBuf; 2]) -> u64 {
    let [kernel, initrd] = files
        .each_ref()
        .map(|file| std::fs::read(file).expect("it can be read"));
    let setup = KernelSetup {
        kernel,
        modules: vec![Module {
            bytes: initrd,
            text: String::new(),
        }],
        command_line: "console=ttyS0,115200 glassbox.run=true".into(),
        ..KernelSetup::default()
    };
    let mut machine = machine(None, Some(setup), 256 * MIB);
    let mut serial = Vec::new();
    loop {
        let exit = machine.run(5_000_000);
        for output in machine.take_outputs() {
            if let Said::Bytes(bytes) = output.what
                && machine.bus().name_of(output.device) == "com1"
            {
                serial.extend(bytes);
            }
        }
        let text = String::from_utf8_lossy(&serial);
        if text.contains("glassbox.run: begin") {
            return machine.retired();
        }
        let last = text.lines().last().unwrap_or_default().to_owned();
        assert_eq!(exit, Exit::Budget, "the guest's last words: {last}");
        assert!(machine.retired() < 30_000_000_000, "no shell: {last}");
    }
}

/// Short runs, so that all benches together take a minute or two.
pub fn criterion() -> criterion::Criterion {
    criterion::Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_millis(1000))
        .sample_size(10)
        .configure_from_args()
}
