//! What a suite says about its tests beside them: `metadata.json` (once called `8088.json`) or an
//! opcode table in CSV, and `revocation_list.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Flag masks by opcode, and the hashes of revoked tests.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// The processor's name, for files that do not say it themselves.
    pub cpu: Option<String>,
    masks: BTreeMap<String, u32>,
    revoked: BTreeSet<String>,
}

impl Metadata {
    /// Reads what lies in `folder` or the one above it, where the suites keep part of it; a missing
    /// file is an empty one.
    ///
    /// # Errors
    /// A file that cannot be understood.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut metadata = Self::default();
        for folder in [folder.parent(), Some(folder)].into_iter().flatten() {
            for name in ["8088.json", "metadata.json"] {
                let path = folder.join(name);
                if let Ok(text) = std::fs::read_to_string(&path) {
                    metadata
                        .add_json(&text)
                        .with_context(|| format!("{} is no metadata of a suite", path.display()))?;
                }
            }
            let path = folder.join("80386.csv");
            if let Ok(text) = std::fs::read_to_string(&path) {
                metadata
                    .add_csv(&text)
                    .with_context(|| format!("{} is no opcode table", path.display()))?;
            }
            if let Ok(text) = std::fs::read_to_string(folder.join("revocation_list.txt")) {
                metadata.add_revocations(&text);
            }
        }
        Ok(metadata)
    }

    /// Adds the masks of a `metadata.json`.
    ///
    /// # Errors
    /// It is no JSON, or has no table of opcodes.
    pub fn add_json(&mut self, text: &str) -> Result<()> {
        let json: serde_json::Value = serde_json::from_str(text).context("it is no JSON")?;
        let Some(opcodes) = json["opcodes"].as_object() else {
            bail!("it has no table of opcodes");
        };
        if let Some(cpu) = json["cpu"].as_str() {
            self.cpu = Some(cpu.to_owned());
        }
        for (name, entry) in opcodes {
            if let Some(groups) = entry["reg"].as_object() {
                for (reg, entry) in groups {
                    self.note(format!("{name}.{reg}"), entry);
                }
            }
            self.note(name.clone(), entry);
        }
        Ok(())
    }

    fn note(&mut self, opcode: String, entry: &serde_json::Value) {
        if let Some(mask) = entry["flags-mask"].as_u64() {
            self.masks.insert(opcode.to_uppercase(), mask as u32);
        }
    }

    /// Adds the masks of an opcode table: columns `op`, `ex` and `f_umask`.
    ///
    /// # Errors
    /// A column is missing, or a mask is no hexadecimal number.
    pub fn add_csv(&mut self, text: &str) -> Result<()> {
        let mut lines = text.lines();
        let header = cells(lines.next().unwrap_or_default());
        let column = |name: &str| {
            let found = header.iter().position(|cell| cell.trim() == name);
            found.with_context(|| format!("it has no column {name:?}"))
        };
        let (op, ex, mask) = (column("op")?, column("ex")?, column("f_umask")?);
        for line in lines {
            let cells = cells(line);
            let cell = |n: usize| cells.get(n).map_or("", |cell| cell.trim());
            if cell(op).is_empty() || cell(mask).is_empty() {
                continue;
            }
            let digits = cell(mask).trim_start_matches("0x").trim_start_matches("0X");
            let bits = u32::from_str_radix(digits, 16)
                .with_context(|| format!("its mask of {} is {:?}", cell(op), cell(mask)))?;
            let key = match cell(ex) {
                "" => cell(op).to_uppercase(),
                ex => format!("{}.{ex}", cell(op).to_uppercase()),
            };
            // The table gives the low half of EFLAGS.
            self.masks.insert(key, bits | 0xFFFF_0000);
        }
        Ok(())
    }

    /// Adds hashes, one a line, `#` before a comment.
    pub fn add_revocations(&mut self, text: &str) {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        self.revoked.extend(lines.map(str::to_lowercase));
    }

    /// Whether the suite has taken a test back.
    pub fn is_revoked(&self, hash: &str) -> bool {
        self.revoked.contains(hash)
    }

    /// The FLAGS bits that the suite has compared for a file, named by its opcode with or without
    /// the prefixes 66 and 67.
    pub fn mask(&self, opcode: &str) -> u32 {
        let mut opcode = opcode;
        while opcode.len() >= 4
            && (opcode.starts_with("66") || opcode.starts_with("67"))
            && !opcode[2..].starts_with('.')
        {
            opcode = &opcode[2..];
        }
        self.masks
            .get(&opcode.to_uppercase())
            .copied()
            .unwrap_or(!0)
    }
}

/// The cells of a CSV line, which may be quoted.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells
                .last_mut()
                .expect("there is one from the start")
                .push(c),
        }
    }
    cells
}
