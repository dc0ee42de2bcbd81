//! Runs hardware-captured vectors on the interpreter and compares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use iced_x86::{Decoder, DecoderOptions, OpKind, Register};
use platform::{Bus, Clock, DeviceId, GuestMemory, IrqLine, PhysAddr};
use x86::cpu::{Reg, SegmentRegister};
use x86::cpuid::CpuModel;
use x86::{Segment, Vcpu};

use crate::moo::{self, REGS16, REGS32, State, Test};

/// FLAGS bits that a 16-bit test loads and compares.
const FLAGS16: u32 = 0x0FD5;

/// The counts of one file.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The file's stem: the opcode.
    pub opcode: String,
    /// Tests whose result was the hardware's.
    pub passed: u32,
    /// Tests that differed.
    pub failed: u32,
    /// Tests that were left out, by reason.
    pub excluded: BTreeMap<&'static str, u32>,
    /// The first difference.
    pub first: Option<String>,
}

/// Flag masks by opcode, from a suite's `metadata.json`, and the hashes of revoked tests.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    masks: BTreeMap<String, u32>,
    revoked: Vec<String>,
}

impl Metadata {
    /// Reads `metadata.json` and `revocation_list.txt` from `folder`; a missing file is an empty one.
    ///
    /// # Errors
    /// A file that cannot be understood.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut metadata = Self::default();
        let path = folder.join("metadata.json");
        if let Ok(text) = std::fs::read_to_string(&path) {
            let json: serde_json::Value = serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON", path.display()))?;
            let Some(opcodes) = json["opcodes"].as_object() else {
                bail!("{} has no table of opcodes", path.display());
            };
            for (name, entry) in opcodes {
                if let Some(groups) = entry["reg"].as_object() {
                    for (reg, entry) in groups {
                        metadata.note(format!("{name}.{reg}"), entry);
                    }
                }
                metadata.note(name.clone(), entry);
            }
        }
        if let Ok(text) = std::fs::read_to_string(folder.join("revocation_list.txt")) {
            let lines = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'));
            metadata.revoked = lines.map(str::to_lowercase).collect();
        }
        Ok(metadata)
    }

    fn note(&mut self, opcode: String, entry: &serde_json::Value) {
        if let Some(mask) = entry["flags-mask"].as_u64() {
            self.masks.insert(opcode, mask as u32);
        }
    }

    fn mask(&self, opcode: &str) -> u32 {
        // The published table lacks the mask that D0/C1 forms of the same operations have.
        let missing = if opcode == "C0.2" || opcode == "C0.3" {
            !0x0800
        } else {
            !0
        };
        self.masks.get(opcode).copied().unwrap_or(!0) & missing
    }
}

/// All vector files in `path`, sorted; or `path` itself.
///
/// # Errors
/// The folder cannot be read, or holds none.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let is_vector = |path: &PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        name.ends_with(".moo") || name.ends_with(".moo.gz")
    };
    let entries = std::fs::read_dir(path)
        .with_context(|| format!("cannot read the folder {}", path.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_vector)
        .collect();
    if files.is_empty() {
        bail!(
            "{} holds no .MOO or .MOO.gz file; give the folder of a test suite",
            path.display()
        );
    }
    files.sort();
    Ok(files)
}

/// A bare processor with 17 MiB of RAM and no device.
pub struct Bench {
    vcpu: Vcpu,
}

impl Bench {
    /// A bench for the processor model `model`.
    ///
    /// # Errors
    /// The host refuses memory.
    pub fn new(model: CpuModel) -> Result<Self> {
        let memory = GuestMemory::new(17 << 20)?.without_hole();
        let mut bus = Bus::new(memory, Clock::new(1, 1));
        bus.lines.set(DeviceId(0), IrqLine::A20, true);
        let mut vcpu = Vcpu::new(model);
        vcpu.attach(Box::new(bus));
        Ok(Self { vcpu })
    }

    /// Runs all tests of a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn run_file(&mut self, path: &Path, metadata: &Metadata) -> Result<Outcome> {
        let suite = moo::read(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let opcode = name.split(".MOO").next().unwrap_or_default().to_owned();
        let mask = metadata.mask(&opcode);
        let mut outcome = Outcome {
            opcode,
            ..Outcome::default()
        };
        for test in &suite.tests {
            if metadata.revoked.contains(&test.hash) {
                *outcome.excluded.entry("revoked by the suite").or_default() += 1;
                continue;
            }
            if let Some(reason) = differs_by_design(&suite.cpu, test) {
                *outcome.excluded.entry(reason).or_default() += 1;
                continue;
            }
            match self.run_test(test, mask) {
                Ok(()) => outcome.passed += 1,
                Err(difference) => {
                    outcome.failed += 1;
                    outcome.first.get_or_insert_with(|| {
                        let bytes: Vec<String> =
                            test.bytes.iter().map(|b| format!("{b:02x}")).collect();
                        format!("test {} [{}]: {difference}", test.index, bytes.join(" "))
                    });
                }
            }
        }
        Ok(outcome)
    }

    fn run_test(&mut self, test: &Test, mask: u32) -> Result<(), String> {
        self.load(&test.initial);
        let start = self.vcpu.bus().clock.retired();
        // Enough for any REP of a 16-bit counter and the HLT behind it.
        let exit = self.vcpu.run(start + 200_000);
        if exit != x86::Exit::Halted {
            return Err(format!(
                "did not reach HLT: {exit:?} at {:x}",
                self.vcpu.cpu.regs[Reg::RIP]
            ));
        }
        self.compare(test, mask)
    }

    fn load(&mut self, state: &State) {
        let vcpu = &mut self.vcpu;
        vcpu.reset();
        for n in 0..16 {
            vcpu.cpu.regs[n] = 0;
        }
        for &(addr, byte) in &state.ram {
            vcpu.bus().memory.write(PhysAddr(addr.into()), &[byte]);
        }
        for &(n, value) in &state.regs {
            let name = if state.wide { REGS32[n] } else { REGS16[n] };
            self.set_register(name, value);
        }
        self.vcpu.update_mode();
    }

    fn set_register(&mut self, name: &str, value: u32) {
        let vcpu = &mut self.vcpu;
        if let Some(seg) = segment_number(name) {
            let segment = Segment {
                selector: value as u16,
                base: u64::from(value) << 4,
                ..vcpu.cpu.segs[seg]
            };
            vcpu.set_segment(seg, segment);
        } else if let Some(reg) = general_number(name) {
            vcpu.cpu.regs[reg] = value.into();
        } else {
            match name {
                "ip" | "eip" => vcpu.cpu.regs[Reg::RIP] = value.into(),
                "flags" => vcpu.write_rflags(u64::from(value & FLAGS16 | 2), !0),
                "eflags" => vcpu.write_rflags(u64::from(value & 0x0024_7FD5 | 2), !0),
                "dr6" => vcpu.cpu.dr[6] = value.into(),
                // CR0, CR3 and DR7 stay as after RESET: the captures run in real mode without breakpoints.
                _ => {}
            }
        }
    }

    fn register(&self, name: &str) -> u32 {
        let cpu = &self.vcpu.cpu;
        if let Some(seg) = segment_number(name) {
            return cpu.segs[seg].selector.into();
        }
        if let Some(reg) = general_number(name) {
            return cpu.regs[reg] as u32;
        }
        match name {
            "ip" | "eip" => cpu.regs[Reg::RIP] as u32,
            _ => cpu.rflags() as u32,
        }
    }

    fn compare(&mut self, test: &Test, mask: u32) -> Result<(), String> {
        let wide = test.initial.wide;
        let names: &[&str] = if wide { &REGS32 } else { &REGS16 };
        let mut wrong = Vec::new();
        for &(n, before) in &test.initial.regs {
            let name = names[n];
            if matches!(name, "cr0" | "cr3" | "dr6" | "dr7") {
                continue;
            }
            let expected = test
                .last
                .regs
                .iter()
                .find(|(last, _)| *last == n)
                .map_or(before, |&(_, value)| value);
            let compared = match name {
                "flags" => mask & FLAGS16,
                "eflags" => mask & 0x0000_0FD5,
                _ if wide => !0,
                _ => 0xFFFF,
            };
            let found = self.register(name);
            if (found ^ expected) & compared != 0 {
                wrong.push(format!(
                    "{name} is {:x}, hardware has {:x}",
                    found & compared,
                    expected & compared
                ));
            }
        }
        for &(addr, byte) in &test.last.ram {
            let [found] = self
                .vcpu
                .bus()
                .memory
                .read_array::<1>(PhysAddr(addr.into()));
            let compared = match pushed_flags(test) {
                // The FLAGS word that an exception pushed has undefined bits as the register has.
                Some(flags) if addr == flags => mask & FLAGS16,
                Some(flags) if addr == flags + 1 => (mask & FLAGS16) >> 8,
                _ => 0xFF,
            } as u8;
            if (found ^ byte) & compared != 0 {
                wrong.push(format!(
                    "[{addr:x}] is {found:02x}, hardware has {byte:02x}"
                ));
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("; "))
        }
    }
}

/// Where the test's exception pushed FLAGS. The suites give the address of the bus cycle, which is even; a stack at an
/// odd address has the word one higher.
fn pushed_flags(test: &Test) -> Option<u32> {
    let (_, address) = test.exception?;
    let stack_pointer = |state: &State| {
        let names: &[&str] = if state.wide { &REGS32 } else { &REGS16 };
        let mut regs = state.regs.iter();
        regs.find(|(n, _)| matches!(names[*n], "sp" | "esp"))
            .map(|&(_, value)| value)
    };
    let sp = stack_pointer(&test.last).or_else(|| stack_pointer(&test.initial))?;
    Some(address | sp & 1)
}

fn segment_number(name: &str) -> Option<usize> {
    Some(match name {
        "es" => SegmentRegister::ES,
        "cs" => SegmentRegister::CS,
        "ss" => SegmentRegister::SS,
        "ds" => SegmentRegister::DS,
        "fs" => SegmentRegister::FS,
        "gs" => SegmentRegister::GS,
        _ => return None,
    })
}

fn general_number(name: &str) -> Option<usize> {
    Some(match name.trim_start_matches('e') {
        "ax" => Reg::RAX,
        "cx" => Reg::RCX,
        "dx" => Reg::RDX,
        "bx" => Reg::RBX,
        "sp" => Reg::RSP,
        "bp" => Reg::RBP,
        "si" => Reg::RSI,
        "di" => Reg::RDI,
        _ => return None,
    })
}

/// Why a test is left out: what the captured processor does is not what this one should do.
fn differs_by_design(cpu: &str, test: &Test) -> Option<&'static str> {
    let prefixes = test
        .bytes
        .iter()
        .take_while(|b| matches!(b, 0x26 | 0x2E | 0x36 | 0x3E | 0xF0 | 0xF2 | 0xF3));
    if prefixes.clone().any(|&b| b == 0xF0) {
        return Some("LOCK: later processors raise #UD where this one does not");
    }
    if cpu != "C286" {
        return None;
    }
    let (vector, _) = test.exception?;
    let iced = Decoder::new(16, &test.bytes, DecoderOptions::NONE).decode();
    let is_new = |n| matches!(iced.op_register(n), Register::FS | Register::GS);
    let uses_memory = (0..iced.op_count()).any(|n| iced.op_kind(n) == OpKind::Memory);
    let moved = |name: &str| {
        let changed = test.last.regs.iter().map(|(n, _)| REGS16[*n]);
        changed.into_iter().any(|register| register == name)
    };
    match vector {
        6 if is_new(0) || is_new(1) => Some("FS and GS, which the 80286 does not have"),
        13 if test.bytes.len() > 10 => Some("longer than the 80286's 10 bytes"),
        13 if uses_memory && iced.memory_segment() == Register::SS
            || iced.is_stack_instruction() && !uses_memory =>
        {
            // SDM vol. 2, "Real-Address Mode Exceptions": #SS if an operand is outside the SS segment limit.
            Some("beyond the stack segment the 80286 in real mode raises 13, later processors 12")
        }
        13 if iced.is_string_instruction() && (moved("si") || moved("di")) => {
            // SDM vol. 3A §6.6: a fault leaves the state as before the instruction.
            Some(
                "the 80286 has moved SI and DI when a string instruction faults; later ones restart it",
            )
        }
        _ => None,
    }
}
