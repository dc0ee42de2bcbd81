//! Runs hardware-captured vectors on the interpreter and compares.
//!
//! The 80286's and 80386's tests run through the block cache until their HLT. The older processors' tests have none:
//! one instruction runs, a REP to its end, and an exception is delivered. Ports read FFh.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use platform::{Bus, Clock, DeviceId, GuestMemory, IrqLine, PhysAddr};
use x86::cpu::{Reg, SegmentRegister};
use x86::cpuid::CpuModel;
use x86::{Segment, Vcpu};

use crate::deviations::{self, Allowance, Family, Memory, Subject};
use crate::metadata::Metadata;
use crate::moo::{self, State, Suite, Test};

/// FLAGS bits that a test of a processor before the 80386 loads and compares. In real mode the 80286 holds IOPL and NT
/// at 0 (80286 PRM §3.1), the 8086 has ones there.
const FLAGS16: u32 = 0x0FD5;
/// EFLAGS bits that a test of the 80386 loads and compares; of the others the captures show ones.
const FLAGS32: u32 = 0x7FD5;
/// CR0's MP, EM and TS, which CLTS and WAIT are about.
const CR0: u32 = 0b1110;

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
    /// Tests of which a part was not compared, by reason. They count among the passed or failed too.
    pub partial: BTreeMap<&'static str, u32>,
    /// The first difference.
    pub first: Option<String>,
}

/// All vector files in `path` and the folders below it, sorted; or `path` itself.
///
/// # Errors
/// A folder cannot be read, or there is no file.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        // Whatever its name is.
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    collect(path, &mut files)?;
    if files.is_empty() {
        bail!(
            "{} holds no .MOO or .json file of vectors, also not with .gz; give the folder of a test suite",
            path.display()
        );
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read the folder {}", folder.display()))?
            .path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if opcode(&path).is_some() {
            files.push(path);
        }
    }
    Ok(())
}

/// The opcode that a vector file's name begins with: `80.4` of `80.4.MOO.gz`. `None` for any other file.
fn opcode(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_uppercase();
    let name = name.strip_suffix(".GZ").unwrap_or(&name);
    let stem = name.strip_suffix(".MOO").or(name.strip_suffix(".JSON"))?;
    // A suite's metadata may be called by the processor, 8088.json.
    let digits = stem.split('.').next().unwrap_or_default();
    let extended = ["0F", "66", "67"].iter().any(|p| digits.starts_with(p));
    let is_opcode =
        digits.chars().all(|c| c.is_ascii_hexdigit()) && (digits.len() == 2 || extended);
    is_opcode.then(|| stem.to_owned())
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
    /// The file cannot be read, or nothing tells which processor it is of.
    pub fn run_file(&mut self, path: &Path, metadata: &Metadata) -> Result<Outcome> {
        let suite = moo::read(path)?;
        let opcode = opcode(path).unwrap_or_default();
        let id = match suite.cpu.as_str() {
            "" => metadata.cpu.as_deref().unwrap_or_default(),
            id => id,
        };
        let Some(family) = Family::by_id(id) else {
            bail!(
                "{} is of processor {id:?}; known are 8088, 8086, V20, V30, 186, 286 and 386 (JSON files need the suite's metadata.json beside them)",
                path.display()
            );
        };
        Ok(self.run_suite(&suite, family, opcode, metadata))
    }

    /// Runs all tests of a suite's file.
    pub fn run_suite(
        &mut self,
        suite: &Suite,
        family: Family,
        opcode: String,
        metadata: &Metadata,
    ) -> Outcome {
        let mask = metadata.mask(&opcode);
        let mut outcome = Outcome {
            opcode,
            ..Outcome::default()
        };
        let wire = !family.wraps_at_1_mib();
        self.vcpu.bus().lines.set(DeviceId(0), IrqLine::A20, wire);
        for test in &suite.tests {
            let mut exclude =
                |reason: &'static str| *outcome.excluded.entry(reason).or_default() += 1;
            if suite.mode != 0 {
                exclude(deviations::NOT_REAL_MODE);
                continue;
            }
            if metadata.is_revoked(&test.hash) {
                exclude("revoked by the suite");
                continue;
            }
            let subject = Subject::new(test);
            let allowance = match deviations::allow(family, &subject) {
                Ok(allowance) => allowance,
                Err(reason) => {
                    exclude(reason);
                    continue;
                }
            };
            let result = self.run_test(family, test, allowance, &subject, suite, mask);
            let difference = match result {
                Ok(allowance) => {
                    outcome.passed += 1;
                    for reason in allowance.reasons {
                        *outcome.partial.entry(reason).or_default() += 1;
                    }
                    continue;
                }
                Err(difference) => difference,
            };
            let raised = self.raised(test);
            if let Some(reason) = deviations::excuse(family, &subject, raised) {
                exclude(reason);
                continue;
            }
            outcome.failed += 1;
            outcome.first.get_or_insert_with(|| {
                let bytes: Vec<String> = test.bytes.iter().map(|b| format!("{b:02x}")).collect();
                format!("test {} [{}]: {difference}", test.index, bytes.join(" "))
            });
        }
        outcome
    }

    fn run_test(
        &mut self,
        family: Family,
        test: &Test,
        mut allowance: Allowance,
        subject: &Subject<'_>,
        suite: &Suite,
        mask: u32,
    ) -> Result<Allowance, String> {
        self.load(&test.initial);
        self.adapt(test, subject, &allowance);
        if family.halts() && !allowance.prefetched {
            let start = self.vcpu.bus().clock.retired();
            // Enough for any REP of a 16-bit counter and the HLT behind it.
            let exit = self.vcpu.run(start + 200_000);
            if exit != x86::Exit::Halted {
                return Err(format!(
                    "did not reach HLT: {exit:?} at {:x}",
                    self.vcpu.cpu.regs[Reg::RIP]
                ));
            }
        } else {
            if let Some(vector) = self.execute_one() {
                deviations::allow_raised(family, subject, vector, &mut allowance);
            }
            if family.halts() {
                // The HLT that was prefetched.
                self.vcpu.cpu.regs[Reg::RIP] += 1;
            }
        }
        let mask = mask & !subject.undefined_flags();
        self.compare(test, suite, mask, &allowance)?;
        Ok(allowance)
    }

    /// Runs one instruction and delivers what it raises.
    fn execute_one(&mut self) -> Option<u8> {
        // Lets the processor see the A20 wire.
        let retired = self.vcpu.bus().clock.retired();
        self.vcpu.run(retired);
        let exception = self.vcpu.execute_one().err()?;
        self.vcpu.deliver_exception(exception);
        Some(exception.vector())
    }

    /// What the test's instruction raises.
    fn raised(&mut self, test: &Test) -> Option<u8> {
        self.load(&test.initial);
        self.execute_one()
    }

    /// Changes memory as the allowance has it.
    fn adapt(&mut self, test: &Test, subject: &Subject<'_>, allowance: &Allowance) {
        let memory = &mut self.vcpu.bus().memory;
        if let Some(prefix) = allowance.instead_of_lock {
            let [cs, ip] = ["cs", "ip"].map(|name| test.initial.get(name).unwrap_or(0));
            for n in subject.locks() {
                let addr = PhysAddr(u64::from((cs << 4) + ip) + n as u64);
                memory.write(addr, &[prefix]);
            }
        }
        if let Some((vector, like)) = allowance.same_handler {
            let handler = memory.read_array::<4>(PhysAddr(u64::from(like) * 4));
            memory.write(PhysAddr(u64::from(vector) * 4), &handler);
        }
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
            self.set_register(state.names()[n], value);
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
                "eflags" => vcpu.write_rflags(u64::from(value & FLAGS32 | 2), !0),
                "cr0" => {
                    vcpu.cpu.cr0 = vcpu.cpu.cr0 & !u64::from(CR0) | u64::from(value & CR0);
                }
                // CR3, DR6 and DR7 stay as after RESET: the captures run in real mode without breakpoints.
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
            "cr0" => cpu.cr0 as u32,
            _ => cpu.rflags() as u32,
        }
    }

    /// Where we have the byte that the captured processor has at `addr`.
    fn ours(&self, addr: u32, allowance: &Allowance) -> u32 {
        if allowance.stack_above == 0 {
            return addr;
        }
        let base = u32::from(self.vcpu.cpu.segs[SegmentRegister::SS].selector) << 4;
        let offset = addr.wrapping_sub(base).wrapping_sub(allowance.stack_above);
        base + (offset & 0xFFFF)
    }

    fn compare(
        &mut self,
        test: &Test,
        suite: &Suite,
        mask: u32,
        allowance: &Allowance,
    ) -> Result<(), String> {
        let wide = test.initial.wide;
        let names = test.initial.names();
        let mut wrong = Vec::new();
        for &(n, before) in &test.initial.regs {
            let name = names[n];
            let mut compared = match name {
                "cr3" | "dr6" | "dr7" => continue,
                "cr0" => CR0,
                "flags" => mask & FLAGS16,
                "eflags" => mask & FLAGS32,
                _ if !wide || segment_number(name).is_some() => 0xFFFF,
                _ => !0,
            };
            for (_, bits) in [&suite.masks, &test.last.masks]
                .into_iter()
                .flatten()
                .filter(|(masked, _)| *masked == n)
            {
                compared &= bits;
            }
            for (left_out, bits) in &allowance.registers {
                if name == *left_out || wide && name.strip_prefix('e') == Some(left_out) {
                    compared &= !bits;
                }
            }
            let mut last = test.last.regs.iter();
            let expected = last
                .find(|(last, _)| *last == n)
                .map_or(before, |&(_, value)| value);
            let mut found = self.register(name);
            if name == "sp" {
                found = found.wrapping_add(allowance.stack_above) & 0xFFFF;
            }
            if (found ^ expected) & compared != 0 {
                wrong.push(format!(
                    "{name} is {:x}, hardware has {:x}",
                    found & compared,
                    expected & compared
                ));
            }
        }
        let flags = pushed_flags(test);
        let flags_mask = mask & if wide { FLAGS32 } else { FLAGS16 };
        for &(addr, byte) in &test.last.ram {
            let in_frame =
                flags.is_some_and(|flags| (flags.wrapping_sub(4)..flags + 2).contains(&addr));
            let all =
                allowance.memory == Memory::All || allowance.memory == Memory::Frame && in_frame;
            let mut compared: u8 = if all { 0xFF } else { 0 };
            // The FLAGS word that an exception pushed has undefined bits as the register has.
            if Some(addr) == flags {
                compared &= flags_mask as u8;
            } else if Some(addr) == flags.map(|flags| flags + 1) {
                compared &= (flags_mask >> 8) as u8;
            }
            for &(at, bits) in &allowance.bytes {
                if addr == at {
                    compared &= !bits;
                }
            }
            let ours = self.ours(addr, allowance);
            let memory = &self.vcpu.bus().memory;
            let [found] = memory.read_array::<1>(PhysAddr(ours.into()));
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
    let sp = test.last.get("sp").or_else(|| test.initial.get("sp"))?;
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
