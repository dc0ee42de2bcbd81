//! The MOO format of the public SingleStepTests suites (versions 1.0 and 1.1): chunks of four-byte ids and lengths.
//!
//! Not read: names, bus cycles, the prefetch queue and EA32, none of which a comparison of results needs.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Registers of a 16-bit state, in the order of the `REGS` bitmask.
pub const REGS16: [&str; 14] = [
    "ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di", "ip", "flags",
];

/// Registers of a 32-bit state, in the order of the `RG32` bitmask.
pub const REGS32: [&str; 20] = [
    "cr0", "cr3", "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "cs", "ds", "es", "fs",
    "gs", "ss", "eip", "eflags", "dr6", "dr7",
];

/// Where META has the processor's mode.
const META_MODE: usize = 27;

/// One side of a test.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Register index (in [`REGS16`] or [`REGS32`]) and value.
    pub regs: Vec<(usize, u32)>,
    /// Whether the indices are those of [`REGS32`].
    pub wide: bool,
    /// Physical address and byte.
    pub ram: Vec<(u32, u8)>,
    /// Register index and the bits to compare, of a final state (`RMSK`, `RM32`).
    pub masks: Vec<(usize, u32)>,
}

impl State {
    /// The names that the indices stand for.
    pub fn names(&self) -> &'static [&'static str] {
        if self.wide { &REGS32 } else { &REGS16 }
    }

    /// A register by its 16-bit name, whichever width the state has.
    pub fn get(&self, name: &str) -> Option<u32> {
        let names = self.names();
        let is_it =
            |n: usize| names[n] == name || self.wide && names[n].strip_prefix('e') == Some(name);
        let found = self.regs.iter().find(|(n, _)| is_it(*n));
        found.map(|&(_, value)| value)
    }
}

/// One test.
#[derive(Clone, Debug, Default)]
pub struct Test {
    /// Its number in the file.
    pub index: u32,
    /// The instruction's bytes, for messages.
    pub bytes: Vec<u8>,
    /// The state before.
    pub initial: State,
    /// What differs afterwards.
    pub last: State,
    /// An exception's vector, and the physical address of the FLAGS it pushed.
    pub exception: Option<(u8, u32)>,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

/// A file of tests.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// The processor's id: `8088`, `C286`, `386E` …
    pub cpu: String,
    /// The mode that it was captured in: 0 is real mode.
    pub mode: u8,
    /// Its tests.
    pub tests: Vec<Test>,
    /// Register index and the bits to compare, for all tests.
    pub masks: Vec<(usize, u32)>,
}

/// Reads a file, MOO or JSON by its name, through gzip when that ends in `.gz`.
///
/// # Errors
/// The file cannot be read, or is neither.
pub fn read(path: &Path) -> Result<Suite> {
    let raw = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = if path.extension().is_some_and(|e| e == "gz") {
        let mut bytes = Vec::new();
        flate2::read::MultiGzDecoder::new(&raw[..])
            .read_to_end(&mut bytes)
            .with_context(|| format!("{} is no gzip file", path.display()))?;
        bytes
    } else {
        raw
    };
    let name = path.to_string_lossy().to_lowercase();
    if name.trim_end_matches(".gz").ends_with(".json") {
        return crate::json::parse(&bytes)
            .with_context(|| format!("{} is no JSON file of test vectors", path.display()));
    }
    parse(&bytes).with_context(|| format!("{} is no MOO file of test vectors", path.display()))
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.0.len() {
            bail!("it ends in the middle of a chunk");
        }
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(head)
    }
    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }
    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into()?))
    }
    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into()?))
    }
    fn chunk(&mut self) -> Result<Option<(&'a [u8], Cursor<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let id = self.take(4)?;
        let len = self.u32()? as usize;
        Ok(Some((id, Cursor(self.take(len)?))))
    }
}

/// Reads MOO chunks.
///
/// # Errors
/// A chunk is cut off, or the first one is missing.
pub fn parse(bytes: &[u8]) -> Result<Suite> {
    let mut file = Cursor(bytes);
    let mut suite = Suite::default();
    let mut seen_head = false;
    while let Some((id, mut payload)) = file.chunk()? {
        match id {
            b"MOO " => {
                seen_head = true;
                payload.take(8)?;
                suite.cpu = String::from_utf8_lossy(payload.take(4)?).trim().to_owned();
            }
            b"META" => suite.mode = payload.0.get(META_MODE).copied().unwrap_or(0),
            b"TEST" => suite.tests.push(test(payload)?),
            b"RMSK" => suite.masks = registers16(&mut payload)?,
            b"RM32" => suite.masks = registers32(&mut payload)?,
            _ => {}
        }
    }
    if !seen_head {
        bail!("it has no MOO chunk");
    }
    Ok(suite)
}

fn test(mut payload: Cursor<'_>) -> Result<Test> {
    let mut test = Test {
        index: payload.u32()?,
        ..Test::default()
    };
    while let Some((id, mut chunk)) = payload.chunk()? {
        match id {
            b"BYTS" => {
                let n = chunk.u32()? as usize;
                test.bytes = chunk.take(n)?.to_vec();
            }
            b"INIT" => test.initial = state(chunk)?,
            b"FINA" => test.last = state(chunk)?,
            b"EXCP" => test.exception = Some((chunk.u8()?, chunk.u32()?)),
            b"HASH" => test.hash = chunk.0.iter().map(|b| format!("{b:02x}")).collect(),
            _ => {}
        }
    }
    Ok(test)
}

fn state(mut payload: Cursor<'_>) -> Result<State> {
    let mut state = State::default();
    while let Some((id, mut chunk)) = payload.chunk()? {
        match id {
            b"REGS" => state.regs = registers16(&mut chunk)?,
            b"RG32" => {
                state.wide = true;
                state.regs = registers32(&mut chunk)?;
            }
            b"RMSK" => state.masks = registers16(&mut chunk)?,
            b"RM32" => state.masks = registers32(&mut chunk)?,
            b"RAM " => {
                for _ in 0..chunk.u32()? {
                    state.ram.push((chunk.u32()?, chunk.u8()?));
                }
            }
            _ => {}
        }
    }
    Ok(state)
}

/// A bitmask, and a word for each bit of it.
fn registers16(chunk: &mut Cursor<'_>) -> Result<Vec<(usize, u32)>> {
    let mask = chunk.u16()?;
    (0..REGS16.len())
        .filter(|n| mask >> n & 1 != 0)
        .map(|n| Ok((n, chunk.u16()?.into())))
        .collect()
}

/// A bitmask, and a doubleword for each bit of it.
fn registers32(chunk: &mut Cursor<'_>) -> Result<Vec<(usize, u32)>> {
    let mask = chunk.u32()?;
    (0..REGS32.len())
        .filter(|n| mask >> n & 1 != 0)
        .map(|n| Ok((n, chunk.u32()?)))
        .collect()
}
