//! What happened in a run: the JSON report, the screenshot, the exit status.

use anyhow::Result;
use emulator::Machine;
use platform::Frame;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x86::cpu::{Reg, Segment, SegmentRegister};
use x86::death::Step;
use x86::{Cpu, Vcpu};

use crate::outlet::Unwritten;
use crate::script::{Script, screen_lines};

/// Why a run ended. The names are those of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The guest switched itself off.
    #[serde(rename = "poweroff")]
    PowerOff,
    /// The guest wrote to the debug-exit port.
    DebugExit,
    /// `--until` matched.
    Until,
    /// `--timeout` is over.
    Timeout,
    /// `--max-instructions` are retired.
    InstructionLimit,
    /// The guest's processor shut down.
    TripleFault,
    /// The guest halted with interrupts off.
    Halted,
    /// The guest reset the machine, with `--no-reboot`.
    Reset,
    /// The firmware found nothing to boot, and nobody can press a key.
    NotBootable,
    /// The user closed the window, or left the terminal.
    Closed,
    /// Ctrl-C or a signal.
    Interrupted,
    /// The host refused what the guest said on standard output.
    OutputFailed,
}

impl Cause {
    /// Its name in the report.
    pub fn name(self) -> String {
        let name = serde_json::to_value(self).ok();
        name.and_then(|name| Some(name.as_str()?.to_owned()))
            .unwrap_or_default()
    }
}

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub cause: Cause,
    /// What the guest wrote to the debug-exit port, else 0.
    pub value: u32,
}

impl End {
    /// The exit status of `glassbox run`.
    pub fn status(self) -> u8 {
        match self.cause {
            Cause::PowerOff | Cause::Until | Cause::Closed | Cause::Reset => 0,
            Cause::DebugExit => (self.value << 1 | 1) as u8,
            Cause::Timeout | Cause::InstructionLimit => 124,
            Cause::TripleFault | Cause::Halted | Cause::NotBootable => 3,
            Cause::Interrupted => 130,
            Cause::OutputFailed => 1,
        }
    }
}

/// A segment register.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    selector: String,
    base: String,
    limit: String,
    attributes: String,
}

impl SegmentReport {
    /// The selector, for messages.
    pub fn selector(&self) -> &str {
        &self.selector
    }

    fn new(segment: &Segment) -> Self {
        Self {
            selector: format!("{:#06x}", segment.selector),
            base: hex(segment.base),
            limit: format!("{:#010x}", segment.limit),
            attributes: format!("{:#06x}", segment.attributes),
        }
    }
}

/// GDTR or IDTR.
#[derive(Clone, Debug, Serialize)]
pub struct TableReport {
    base: String,
    limit: String,
}

/// The x87 state; `st` counts from the top of the stack.
#[derive(Clone, Debug, Serialize)]
pub struct X87Report {
    control: String,
    status: String,
    tag: String,
    st: Vec<String>,
}

/// The registers of one processor.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct CpuReport {
    pub rip: String,
    pub rflags: String,
    pub rax: String,
    pub rbx: String,
    pub rcx: String,
    pub rdx: String,
    pub rsi: String,
    pub rdi: String,
    pub rbp: String,
    pub rsp: String,
    pub r8: String,
    pub r9: String,
    pub r10: String,
    pub r11: String,
    pub r12: String,
    pub r13: String,
    pub r14: String,
    pub r15: String,
    pub es: SegmentReport,
    pub cs: SegmentReport,
    pub ss: SegmentReport,
    pub ds: SegmentReport,
    pub fs: SegmentReport,
    pub gs: SegmentReport,
    pub ldtr: SegmentReport,
    pub tr: SegmentReport,
    pub gdtr: TableReport,
    pub idtr: TableReport,
    pub cr0: String,
    pub cr2: String,
    pub cr3: String,
    pub cr4: String,
    pub efer: String,
    pub cpl: u8,
    pub halted: bool,
    pub mxcsr: String,
    pub x87: X87Report,
    pub mm: Vec<String>,
    pub xmm: Vec<String>,
}

impl CpuReport {
    fn new(vcpu: &Vcpu) -> Self {
        let cpu = &vcpu.cpu;
        let reg = |n: usize| hex(cpu.regs[n]);
        let seg = |n: usize| SegmentReport::new(&cpu.segs[n]);
        let table = |base: u64, limit: u16| TableReport {
            base: hex(base),
            limit: format!("{limit:#06x}"),
        };
        Self {
            rip: reg(Reg::RIP),
            rflags: hex(cpu.rflags()),
            rax: reg(Reg::RAX),
            rbx: reg(Reg::RBX),
            rcx: reg(Reg::RCX),
            rdx: reg(Reg::RDX),
            rsi: reg(Reg::RSI),
            rdi: reg(Reg::RDI),
            rbp: reg(Reg::RBP),
            rsp: reg(Reg::RSP),
            r8: reg(8),
            r9: reg(9),
            r10: reg(10),
            r11: reg(11),
            r12: reg(12),
            r13: reg(13),
            r14: reg(14),
            r15: reg(15),
            es: seg(SegmentRegister::ES),
            cs: seg(SegmentRegister::CS),
            ss: seg(SegmentRegister::SS),
            ds: seg(SegmentRegister::DS),
            fs: seg(SegmentRegister::FS),
            gs: seg(SegmentRegister::GS),
            ldtr: seg(SegmentRegister::LDTR),
            tr: seg(SegmentRegister::TR),
            gdtr: table(cpu.gdtr.base, cpu.gdtr.limit),
            idtr: table(cpu.idtr.base, cpu.idtr.limit),
            cr0: hex(cpu.cr0),
            cr2: hex(cpu.cr2),
            cr3: hex(cpu.cr3),
            cr4: hex(cpu.cr4),
            efer: hex(cpu.efer),
            cpl: cpu.cpl,
            halted: cpu.halted,
            mxcsr: format!("{:#010x}", cpu.mxcsr),
            x87: x87(cpu),
            mm: cpu
                .x87
                .st
                .iter()
                .map(|(mantissa, _)| hex(*mantissa))
                .collect(),
            xmm: (0..16).map(|n| format!("{:#034x}", cpu.xmm(n))).collect(),
        }
    }
}

fn x87(cpu: &Cpu) -> X87Report {
    let x87 = &cpu.x87;
    let top = usize::from(x87.status >> 11 & 7);
    let st = |n: usize| {
        let (mantissa, sign_exponent) = x87.st[(top + n) % 8];
        format!("0x{sign_exponent:04x}{mantissa:016x}")
    };
    X87Report {
        control: format!("{:#06x}", x87.control),
        status: format!("{:#06x}", x87.status),
        tag: format!("{:#06x}", x87.tag_word()),
        st: (0..8).map(st).collect(),
    }
}

fn hex_digest(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A selector and an offset of the report, for messages.
fn place(selector: &str, offset: &str) -> String {
    let selector = selector.trim_start_matches("0x");
    format!("{selector}:{}", short_hex(offset))
}

/// A number of the report without its leading zeros.
fn short_hex(number: &str) -> String {
    let digits = number.trim_start_matches("0x").trim_start_matches('0');
    format!("0x{}", if digits.is_empty() { "0" } else { digits })
}

fn hex(value: u64) -> String {
    format!("{value:#018x}")
}

/// The display at the end.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScreenReport {
    /// A name for the mode.
    pub mode: String,
    /// The rows of a text mode, without the blanks at their ends.
    pub text: Vec<String>,
    /// SHA-256 of the picture: width and height as 32-bit little-endian numbers, then red, green and
    /// blue of each pixel, row by row.
    pub sha256: String,
}

impl ScreenReport {
    fn new(frame: &Frame) -> Self {
        let mut hasher = Sha256::new();
        hasher.update((frame.width as u32).to_le_bytes());
        hasher.update((frame.height as u32).to_le_bytes());
        hasher.update(rgb(frame));
        let digest = hasher.finalize();
        Self {
            mode: frame.mode.clone(),
            text: frame.text.as_ref().map(screen_lines).unwrap_or_default(),
            sha256: hex_digest(&digest),
        }
    }
}

/// How the guest died.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Death {
    /// The exceptions that led to a shutdown, the first one first; none when the guest halted for ever.
    pub exceptions: Vec<ExceptionReport>,
}

/// An exception on the way to a shutdown.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct ExceptionReport {
    #[serde(skip)]
    name: String,
    pub vector: u8,
    pub error_code: Option<u16>,
    pub cs: String,
    pub rip: String,
    /// The address of a page fault: CR2 as it was then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cr2: Option<String>,
    pub instruction: String,
    pub why: String,
}

impl Death {
    /// What a run that ended by `cause` says of it.
    fn of(machine: &Machine, cause: Cause) -> Option<Self> {
        if !matches!(cause, Cause::TripleFault | Cause::Halted) {
            return None;
        }
        let steps = machine.cpus().iter().flat_map(|cpu| cpu.death());
        Some(Self {
            exceptions: steps.map(ExceptionReport::new).collect(),
        })
    }
}

impl ExceptionReport {
    fn new(step: &Step) -> Self {
        Self {
            name: step.name(),
            vector: step.vector,
            error_code: step.error_code,
            cs: format!("{:#06x}", step.cs),
            rip: hex(step.rip),
            cr2: step.cr2.map(hex),
            instruction: step.instruction.clone(),
            why: step.why.clone(),
        }
    }

    /// It, for messages: what, where and at which instruction, unless it struck where `before` did, and why.
    pub fn line(&self, before: Option<&Self>) -> String {
        let mut line = self.name.clone();
        if let Some(code) = self.error_code {
            line += &format!(", error code {code:#x}");
        }
        if let Some(cr2) = &self.cr2 {
            line += &format!(", CR2 {}", short_hex(cr2));
        }
        if before.is_none_or(|before| (&before.cs, &before.rip) != (&self.cs, &self.rip)) {
            line += &format!(", at {}, {}", place(&self.cs, &self.rip), self.instruction);
        }
        format!("{line}: {}", self.why)
    }

    /// It in a few words.
    pub fn short(&self) -> String {
        format!("{} at {}", self.name, place(&self.cs, &self.rip))
    }

    /// The instruction, and what was wrong with it.
    pub fn reason(&self) -> String {
        format!("{}: {}", self.instruction, self.why)
    }
}

/// How much of a guest's output is left out of a report: bytes before those that it has.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cut {
    /// Of COM1 and on.
    pub serial: Vec<u64>,
    /// Of the debug console.
    pub debugcon: u64,
}

/// Which engine did the work.
#[derive(Clone, Debug, Serialize)]
pub struct Engine {
    /// Instructions retired in the interpreter.
    pub interpreter: u64,
    /// Instructions retired in host code.
    pub recompiler: u64,
    /// Of those, how many had an interpreter's handler called for them.
    pub called: u64,
    /// Blocks compiled.
    pub blocks: u64,
    /// Bytes of host code at the end.
    pub bytes: u64,
}

impl Engine {
    fn of(machine: &Machine, instructions: u64) -> Self {
        let [recompiler, called, blocks, bytes] = machine.host_figures();
        Self {
            interpreter: instructions.saturating_sub(recompiler),
            recompiler,
            called,
            blocks,
            bytes,
        }
    }
}

/// What happened in a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Why it ended.
    pub end: End,
    /// Instructions retired, over all processors.
    pub instructions: u64,
    /// Virtual time since power-on.
    pub virtual_ns: u64,
    /// Wall time of the run.
    pub wall_ns: u64,
    /// Million instructions per second of wall time.
    pub guest_mips: f64,
    /// The processors' registers.
    pub cpus: Vec<CpuReport>,
    /// The display.
    pub screen: ScreenReport,
    /// What the guest sent on COM1 and on: the last megabytes.
    pub serial: Vec<String>,
    /// What it wrote to the debug console: the last megabytes.
    pub debugcon: String,
    /// What of it is not in the report.
    pub cut: Cut,
    /// Which engine did the work.
    pub engine: Engine,
    /// How the guest died, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
    /// Output of the guest's that is not where it should be, and why: a sentence each.
    pub lost: Vec<String>,
    /// SHA-256 of the machine's whole state: clock, devices, processors, RAM. Two runs that were
    /// alike to the instruction have the same. Empty when a signal left no time for it.
    pub state_sha256: String,
}

impl Report {
    /// How the guest ended, and where.
    pub fn last_words(&self) -> String {
        let cpu = self.cpus.first();
        let place = cpu.map(|cpu| place(cpu.cs.selector(), &cpu.rip));
        let place = place.unwrap_or_default();
        match self.end.cause {
            Cause::TripleFault => {
                let first = self.death.iter().flat_map(|death| &death.exceptions).next();
                let first = first.map(|first| format!(", which began with {}", first.short()));
                format!("triple fault{}", first.unwrap_or(format!(" at {place}")))
            }
            _ => format!("halted for ever, with interrupts off, at {place}"),
        }
    }
}

/// What a run leaves: the report and the last frame.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub report: Report,
    /// What the display showed.
    pub frame: Option<Frame>,
    /// Output that could not be written.
    pub lost: Vec<Unwritten>,
    /// Why the machine could not be saved.
    pub unsaved: Option<String>,
}

impl Outcome {
    /// Looks at a machine whose run has ended; `state_hash` is the hash of its state, if somebody asked for it.
    pub fn new(
        machine: &mut Machine,
        script: &Script,
        end: End,
        wall_ns: u64,
        state_hash: Option<[u8; 32]>,
        lost: Vec<Unwritten>,
    ) -> Self {
        let frame = machine.render();
        let instructions = machine.retired();
        let report = Report {
            end,
            instructions,
            virtual_ns: machine.now_ns(),
            wall_ns,
            guest_mips: instructions as f64 * 1000.0 / wall_ns.max(1) as f64,
            cpus: machine.cpus().iter().map(CpuReport::new).collect(),
            screen: frame.as_ref().map(ScreenReport::new).unwrap_or_default(),
            serial: script.serial_texts(),
            debugcon: script.debugcon_text(),
            cut: Cut {
                serial: script.serial_cut(),
                debugcon: script.debugcon_cut(),
            },
            engine: Engine::of(machine, instructions),
            death: Death::of(machine, end.cause),
            lost: lost.iter().map(ToString::to_string).collect(),
            state_sha256: state_hash.map_or_else(String::new, |hash| hex_digest(&hash)),
        };
        Self {
            unsaved: None,
            report,
            frame,
            lost,
        }
    }

    /// The exit status of `glassbox run`: what the guest said counts for nothing if it got lost.
    pub fn status(&self) -> u8 {
        let end = self.report.end;
        let failed = |lost: &&Unwritten| !matches!(lost, Unwritten::Unread { .. });
        match self.lost.iter().find(failed) {
            Some(lost) if end.cause != Cause::Interrupted => lost.status(),
            _ => end.status(),
        }
    }
}

/// The report as a file has it.
///
/// # Errors
/// A defect of ours.
pub fn to_json(report: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    Ok(text)
}

/// A frame as PNG; a display that shows nothing is one black pixel.
///
/// # Errors
/// A frame beyond what the format holds.
pub fn to_png(frame: Option<&Frame>) -> Result<Vec<u8>> {
    let blank = Frame {
        width: 1,
        height: 1,
        pixels: vec![0],
        ..Frame::default()
    };
    let frame = frame.unwrap_or(&blank);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, frame.width as u32, frame.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb(frame))?;
    writer.finish()?;
    Ok(file)
}

/// Red, green and blue of each pixel, row by row.
pub fn rgb(frame: &Frame) -> Vec<u8> {
    let pixels = frame.pixels.iter();
    pixels
        .flat_map(|pixel| [(pixel >> 16) as u8, (pixel >> 8) as u8, *pixel as u8])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_those_of_the_interface() {
        let status = |cause, value| End { cause, value }.status();
        assert_eq!(status(Cause::PowerOff, 0), 0);
        assert_eq!(status(Cause::Until, 0), 0);
        assert_eq!(status(Cause::DebugExit, 0x10), 33);
        assert_eq!(status(Cause::DebugExit, 0), 1);
        assert_eq!(status(Cause::Timeout, 0), 124);
        assert_eq!(status(Cause::InstructionLimit, 0), 124);
        assert_eq!(status(Cause::TripleFault, 0), 3);
        assert_eq!(status(Cause::Halted, 0), 3);
        assert_eq!(status(Cause::NotBootable, 0), 3);
    }

    #[test]
    fn causes_have_the_names_of_the_interface() {
        let name = |cause| serde_json::to_value(cause).unwrap();
        for (cause, expected) in [
            (Cause::PowerOff, "poweroff"),
            (Cause::DebugExit, "debug-exit"),
            (Cause::Until, "until"),
            (Cause::Timeout, "timeout"),
            (Cause::InstructionLimit, "instruction-limit"),
            (Cause::TripleFault, "triple-fault"),
            (Cause::Halted, "halted"),
            (Cause::NotBootable, "not-bootable"),
            (Cause::Reset, "reset"),
        ] {
            assert_eq!(name(cause), expected);
        }
    }

    #[test]
    fn a_processor_is_reported_with_all_its_registers() {
        let model = x86::cpuid::CpuModel::by_name("max").unwrap();
        let value = serde_json::to_value(CpuReport::new(&Vcpu::new(model))).unwrap();
        assert_eq!(value["rip"], "0x000000000000fff0");
        assert_eq!(value["cs"]["selector"], "0xf000");
        assert_eq!(value["cs"]["base"], "0x00000000ffff0000");
        assert_eq!(value["x87"]["control"], "0x0040");
        assert_eq!(value["x87"]["st"].as_array().unwrap().len(), 8);
        assert_eq!(value["x87"]["st"][0].as_str().unwrap().len(), 22);
        assert_eq!(value["mm"].as_array().unwrap().len(), 8);
        assert_eq!(value["xmm"][15], format!("0x{}", "0".repeat(32)));
        for name in [
            "rflags", "r15", "gs", "cr0", "cr2", "cr3", "cr4", "efer", "mxcsr",
        ] {
            assert!(!value[name].is_null(), "{name}");
        }
    }
}
