//! A saved machine: a folder that holds all of it.
//!
//! | file | what |
//! |---|---|
//! | `manifest.json` | format, the machine's make and components, the other files' checksums |
//! | `state-N` | the components' state ([`MachineState`]) |
//! | `ram-N` | RAM as it is, page by page; pages of zeros are holes |
//! | others | what the front end adds: the disks' own memory, a picture of the screen |
//!
//! A save into a folder that has one already writes new files beside the old ones and then puts the
//! new manifest in place of the old one, in one step; only then the old files go. So whatever ends
//! a save in the midst, the earlier one is whole. A published file is never written again: machines
//! may have its RAM mapped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::machine::Machine;
use crate::state::{MachineState, RestoreError};

/// The format that this build writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The grain of RAM's checksums.
const CHUNK_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;
/// How many pieces of RAM are compared before a restore.
const CHECKED_CHUNKS: usize = 6;
const MANIFEST: &str = "manifest.json";
const LOCK: &str = "lock";
/// A manifest beyond this is none: 512 GiB of RAM have 256 thousand checksums.
const MOST_MANIFEST_BYTES: u64 = 64 << 20;
const MOST_STATE_BYTES: u64 = 4 << 30;

/// Why a machine cannot be saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The host's refusal.
    #[error("{path}: {doing}: {error}")]
    Host {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the host said. The message has it, so it is no further source.
        error: io::Error,
    },
    /// Another save into the same folder is on its way.
    #[error("{0}: expected a folder that nobody else saves into; another machine does just now")]
    Busy(PathBuf),
    /// A folder with something else in it.
    #[error(
        "{0}: expected a new folder or one that holds a saved machine, found other files; name another folder"
    )]
    Foreign(PathBuf),
    /// Not a saved machine, or a damaged one.
    #[error("{path}: expected a saved machine, found {found}; nothing was changed")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A format of a newer build.
    #[error("{path}: saved in format {found}, this build reads up to {FORMAT}; use a newer build")]
    Format {
        /// The manifest.
        path: PathBuf,
        /// The format that it says.
        found: u32,
    },
    /// The machine refuses the state.
    #[error("{path}: cannot be restored here: {error}")]
    Restore {
        /// The folder.
        path: PathBuf,
        /// Why. The message has it, so it is no further source.
        error: RestoreError,
    },
}

/// One of the files beside the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileEntry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// RAM's file, with a checksum for each 2 MiB; none for zeros.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RamEntry {
    name: String,
    bytes: u64,
    chunk_bytes: u64,
    sha256: Vec<Option<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ComponentEntry {
    instance: String,
    kind: String,
    version: u32,
}

/// What a saved machine says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// Instructions retired since power-on.
    pub retired: u64,
    /// Virtual time since power-on.
    pub virtual_ns: u64,
    /// What the machine is made of, as whoever built it describes it.
    pub machine: serde_json::Value,
    components: Vec<ComponentEntry>,
    state: FileEntry,
    ram: RamEntry,
    /// The files that the front end added, by the names under which it asks for them.
    extra: Vec<(String, FileEntry)>,
    /// SHA-256 of the manifest without it, as compact JSON.
    seal: String,
}

impl Manifest {
    fn sum(&self) -> String {
        let unsealed = Self {
            seal: String::new(),
            ..self.clone()
        };
        let bytes = serde_json::to_vec(&unsealed).expect("a manifest is plain data");
        hex(&Sha256::digest(&bytes))
    }
}

/// Something that the front end adds to a save, by name.
pub type Extra<'a> = (&'a str, &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>);

/// Saves `machine` into the folder `dir`, which is made if need be; `description` is for whoever restores it.
///
/// # Errors
/// The host's refusal, or a folder that holds something else. What was saved there before is whole then.
pub fn save(
    dir: &Path,
    machine: &mut Machine,
    description: serde_json::Value,
    extra: &mut [Extra<'_>],
) -> Result<(), SaveError> {
    let host = |path: &Path, doing| {
        let path = path.to_owned();
        move |error| SaveError::Host { path, doing, error }
    };
    fs::create_dir_all(dir).map_err(host(dir, "the folder cannot be made"))?;
    let entries = list(dir).map_err(host(dir, "the folder cannot be read"))?;
    if !entries.iter().all(|name| is_ours(name)) {
        return Err(SaveError::Foreign(dir.to_owned()));
    }
    let lock_path = dir.join(LOCK);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(host(&lock_path, "cannot be made"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(SaveError::Busy(dir.to_owned())),
        Err(fs::TryLockError::Error(error)) => {
            log::warn!(target: "machine", "{}: cannot be locked: {error}", lock_path.display());
        }
    }
    let number = 1 + entries
        .iter()
        .filter_map(|name| number_of(name))
        .max()
        .unwrap_or(0);
    let mut new = NewFiles {
        dir,
        names: Vec::new(),
        keep: false,
    };

    let state = machine.state();
    let bytes =
        postcard::to_stdvec(&state).expect("encoding into memory has no failure of its own");
    let state_entry = new.write(&format!("state-{number}"), |file| file.write_all(&bytes))?;
    let ram = new.write_ram(&format!("ram-{number}"), machine)?;
    let mut extra_entries = Vec::new();
    for (index, (name, write)) in extra.iter_mut().enumerate() {
        let entry = new.write(&format!("extra{index}-{number}"), |file| write(file))?;
        extra_entries.push((String::from(*name), entry));
    }
    let mut manifest = Manifest {
        format: FORMAT,
        retired: machine.retired(),
        virtual_ns: machine.now_ns(),
        machine: description,
        components: state
            .components
            .iter()
            .map(|component| ComponentEntry {
                instance: component.instance.clone(),
                kind: component.kind.clone(),
                version: component.state.version,
            })
            .collect(),
        state: state_entry,
        ram,
        extra: extra_entries,
        seal: String::new(),
    };
    manifest.seal = manifest.sum();
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
    let draft = format!("{MANIFEST}-{number}");
    new.write(&draft, |file| file.write_all(&text))?;
    let path = dir.join(MANIFEST);
    fs::rename(dir.join(&draft), &path).map_err(host(&path, "cannot be put in place"))?;
    sync_dir(dir);
    new.keep = true;
    for name in entries {
        if number_of(&name).is_some() {
            // The earlier save, or what is left of one that was interrupted. A host that cannot,
            // now, leaves it to the next.
            let _ = fs::remove_file(dir.join(name));
        }
    }
    machine.journal.clear();
    Ok(())
}

/// Looks whether a machine can be saved into the folder `dir`, before it runs: the folder is made if need be.
///
/// # Errors
/// As for [`save`].
pub fn check(dir: &Path) -> Result<(), SaveError> {
    let host = |path: &Path, doing, error| SaveError::Host {
        path: path.to_owned(),
        doing,
        error,
    };
    fs::create_dir_all(dir).map_err(|error| host(dir, "the folder cannot be made", error))?;
    let entries = list(dir).map_err(|error| host(dir, "the folder cannot be read", error))?;
    if !entries.iter().all(|name| is_ours(name)) {
        return Err(SaveError::Foreign(dir.to_owned()));
    }
    let lock = dir.join(LOCK);
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock);
    opened.map_err(|error| host(&lock, "cannot be made", error))?;
    Ok(())
}

/// Files that go again unless all of them come to stand.
struct NewFiles<'a> {
    dir: &'a Path,
    names: Vec<String>,
    keep: bool,
}

impl Drop for NewFiles<'_> {
    fn drop(&mut self) {
        if !self.keep {
            for name in &self.names {
                let _ = fs::remove_file(self.dir.join(name));
            }
        }
    }
}

impl NewFiles<'_> {
    fn create(&mut self, name: &str) -> Result<(File, PathBuf), SaveError> {
        let path = self.dir.join(name);
        self.names.push(name.into());
        match File::create_new(&path) {
            Ok(file) => Ok((file, path)),
            Err(error) => Err(SaveError::Host {
                path,
                doing: "cannot be made",
                error,
            }),
        }
    }

    fn write(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<FileEntry, SaveError> {
        let (file, path) = self.create(name)?;
        let mut out = Hashing {
            file: io::BufWriter::with_capacity(1 << 20, file),
            hasher: Sha256::new(),
            bytes: 0,
        };
        write(&mut out)
            .and_then(|()| out.file.flush())
            .and_then(|()| out.file.get_ref().sync_all())
            .map_err(|error| SaveError::Host {
                path,
                doing: "cannot be written",
                error,
            })?;
        Ok(FileEntry {
            name: name.into(),
            bytes: out.bytes,
            sha256: hex(&out.hasher.finalize()),
        })
    }

    fn write_ram(&mut self, name: &str, machine: &Machine) -> Result<RamEntry, SaveError> {
        let (mut file, path) = self.create(name)?;
        let memory = &machine.bus().memory;
        let bytes = memory.mapped_bytes();
        let mut sums = Vec::new();
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let (mut done, mut result) = (0u64, Ok(()));
        memory.visit_ram(|part| {
            chunk.extend_from_slice(part);
            if (chunk.len() < CHUNK_BYTES && done + (chunk.len() as u64) < bytes) || result.is_err()
            {
                return;
            }
            let zeros = is_zero(&chunk);
            sums.push((!zeros).then(|| hex(&Sha256::digest(&chunk))));
            if !zeros {
                result = write_pages(&mut file, done, &chunk);
            }
            done += chunk.len() as u64;
            chunk.clear();
        });
        result
            .and_then(|()| file.set_len(bytes))
            .and_then(|()| file.sync_all())
            .map_err(|error| SaveError::Host {
                path,
                doing: "cannot be written",
                error,
            })?;
        Ok(RamEntry {
            name: name.into(),
            bytes,
            chunk_bytes: CHUNK_BYTES as u64,
            sha256: sums,
        })
    }
}

/// Writes the pages of `chunk` that are not zero, each run of them with one call.
fn write_pages(file: &mut File, at: u64, chunk: &[u8]) -> io::Result<()> {
    let mut start = 0;
    while start < chunk.len() {
        let page_of = |at: usize| &chunk[at..(at + PAGE_BYTES).min(chunk.len())];
        let mut end = start;
        while end < chunk.len() && !is_zero(page_of(end)) {
            end += page_of(end).len();
        }
        if end > start {
            file.seek(SeekFrom::Start(at + start as u64))?;
            file.write_all(&chunk[start..end])?;
        }
        start = end;
        while start < chunk.len() && is_zero(page_of(start)) {
            start += page_of(start).len();
        }
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}

struct Hashing {
    file: io::BufWriter<File>,
    hasher: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write_all(buf)?;
        self.hasher.update(buf);
        self.bytes += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a rename last, where the host can.
fn sync_dir(dir: &Path) {
    if let Ok(dir) = File::open(dir) {
        let _ = dir.sync_all();
    }
}

fn list(dir: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// The number in the name of one of a save's files.
fn number_of(name: &str) -> Option<u64> {
    let (kind, number) = name.rsplit_once('-')?;
    let known = matches!(kind, "state" | "ram" | MANIFEST)
        || kind
            .strip_prefix("extra")
            .is_some_and(|n| n.parse::<u32>().is_ok());
    known.then(|| number.parse().ok()).flatten()
}

fn is_ours(name: &str) -> bool {
    matches!(name, MANIFEST | LOCK) || number_of(name).is_some()
}

/// A saved machine, looked at: manifest and state are sound.
pub struct Saved {
    dir: PathBuf,
    manifest: Manifest,
    state: MachineState,
}

impl Saved {
    /// Opens the saved machine in the folder `dir` and checks its manifest and state.
    ///
    /// # Errors
    /// There is none, or a damaged one.
    pub fn open(dir: &Path) -> Result<Self, SaveError> {
        let path = dir.join(MANIFEST);
        let text = read_file(&path, MOST_MANIFEST_BYTES)?;
        let damaged = |path: &Path, found: String| SaveError::Damaged {
            path: path.to_owned(),
            found,
        };
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = serde_json::from_slice(&text)
            .map_err(|error| damaged(&path, format!("no manifest ({error})")))?;
        if version.format > FORMAT {
            return Err(SaveError::Format {
                path,
                found: version.format,
            });
        }
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| damaged(&path, format!("a damaged manifest ({error})")))?;
        if manifest.seal != manifest.sum() {
            return Err(damaged(&path, "a manifest that was changed".into()));
        }
        let mut saved = Self {
            dir: dir.to_owned(),
            manifest,
            state: MachineState {
                components: Vec::new(),
            },
        };
        let bytes = saved.read(&saved.manifest.state)?;
        let path = saved.path(&saved.manifest.state.name)?;
        saved.state = postcard::from_bytes(&bytes)
            .map_err(|error| damaged(&path, format!("a damaged state ({error})")))?;
        let described = saved.manifest.components.iter();
        let agrees = described
            .zip(&saved.state.components)
            .all(|(entry, component)| {
                entry.instance == component.instance
                    && entry.kind == component.kind
                    && entry.version == component.state.version
            });
        if !agrees || saved.manifest.components.len() != saved.state.components.len() {
            return Err(damaged(&path, "the state of another manifest".into()));
        }
        let ram = saved.path(&saved.manifest.ram.name)?;
        let len = fs::metadata(&ram).map(|file| if file.is_file() { file.len() } else { 0 });
        if !len
            .as_ref()
            .is_ok_and(|&len| len == saved.manifest.ram.bytes)
        {
            let found = match len {
                Ok(len) => format!("{len} bytes of {}", saved.manifest.ram.bytes),
                Err(error) => error.to_string(),
            };
            return Err(damaged(&ram, found));
        }
        saved.check_some_ram()?;
        Ok(saved)
    }

    /// Compares the checksums of a few pieces of RAM: another save's file is not taken for this
    /// one's. All of it is read by [`verify_ram`](Self::verify_ram) alone, as a restore must not
    /// take the time to read it.
    fn check_some_ram(&self) -> Result<(), SaveError> {
        let ram = &self.manifest.ram;
        let chunks = ram.bytes.div_ceil(CHUNK_BYTES as u64);
        if ram.chunk_bytes != CHUNK_BYTES as u64 || ram.sha256.len() as u64 != chunks {
            return Err(SaveError::Damaged {
                path: self.dir.join(MANIFEST),
                found: "checksums of other RAM".into(),
            });
        }
        let written: Vec<usize> = (0..ram.sha256.len())
            .filter(|&number| ram.sha256[number].is_some())
            .collect();
        let step = written.len().div_ceil(CHECKED_CHUNKS).max(1);
        let last = written.last().copied();
        let mut some: Vec<usize> = written.into_iter().step_by(step).chain(last).collect();
        some.dedup();
        self.verify_chunks(some)
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The content of a file that the front end added.
    ///
    /// # Errors
    /// It is damaged.
    pub fn extra(&self, name: &str) -> Result<Option<Vec<u8>>, SaveError> {
        let entry = self.manifest.extra.iter().find(|(known, _)| known == name);
        entry.map(|(_, entry)| self.read(entry)).transpose()
    }

    /// Puts the state into `machine`, which was built as the manifest describes, and maps the RAM: that costs the same
    /// whatever its size.
    ///
    /// # Errors
    /// The machine refuses it, and is as before; or the host refuses, and it is to be thrown away.
    pub fn restore(&self, machine: &mut Machine) -> Result<(), SaveError> {
        machine
            .set_state(&self.state)
            .map_err(|error| SaveError::Restore {
                path: self.dir.clone(),
                error,
            })?;
        let path = self.path(&self.manifest.ram.name)?;
        let host = |error| SaveError::Host {
            path: path.clone(),
            doing: "cannot be mapped",
            error,
        };
        let file = File::open(&path).map_err(host)?;
        let mapped = machine.bus_mut().memory.map_ram(&file);
        mapped.map_err(|error| host(io::Error::other(error)))
    }

    /// Reads all of RAM's file and compares its checksums.
    ///
    /// # Errors
    /// The first 2 MiB that differ.
    pub fn verify_ram(&self) -> Result<(), SaveError> {
        self.verify_chunks(0..self.manifest.ram.sha256.len())
    }

    fn verify_chunks(&self, numbers: impl IntoIterator<Item = usize>) -> Result<(), SaveError> {
        let ram = &self.manifest.ram;
        let path = self.path(&ram.name)?;
        let host = |error| SaveError::Host {
            path: path.clone(),
            doing: "cannot be read",
            error,
        };
        let mut file = File::open(&path).map_err(host)?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        for number in numbers {
            let at = number as u64 * CHUNK_BYTES as u64;
            chunk.clear();
            file.seek(SeekFrom::Start(at)).map_err(host)?;
            let piece = (&mut file).take(CHUNK_BYTES as u64);
            { piece }.read_to_end(&mut chunk).map_err(host)?;
            let same = match &ram.sha256[number] {
                Some(sum) => *sum == hex(&Sha256::digest(&chunk)),
                None => is_zero(&chunk),
            };
            if !same {
                return Err(SaveError::Damaged {
                    path,
                    found: format!("other bytes than were saved at {at:#x}"),
                });
            }
        }
        Ok(())
    }

    /// The path of one of its files, which lies in the folder whatever a manifest says.
    fn path(&self, name: &str) -> Result<PathBuf, SaveError> {
        if number_of(name).is_none() || name.contains(['/', '\\']) {
            return Err(SaveError::Damaged {
                path: self.dir.join(MANIFEST),
                found: format!("the name of a file that no save has: {name}"),
            });
        }
        Ok(self.dir.join(name))
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, SaveError> {
        let path = self.path(&entry.name)?;
        let bytes = read_file(&path, entry.bytes.min(MOST_STATE_BYTES))?;
        if bytes.len() as u64 != entry.bytes || hex(&Sha256::digest(&bytes)) != entry.sha256 {
            return Err(SaveError::Damaged {
                path,
                found: "other bytes than were saved".into(),
            });
        }
        Ok(bytes)
    }
}

fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, SaveError> {
    // Opening anything but a file may wait for ever, and reading it too.
    if let Ok(metadata) = fs::metadata(path)
        && (!metadata.is_file() || metadata.len() > most)
    {
        return Err(SaveError::Damaged {
            path: path.to_owned(),
            found: if metadata.is_file() {
                format!("{} bytes, more than a save has there", metadata.len())
            } else {
                "something that is no file".into()
            },
        });
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SaveError::Damaged {
            path: path.to_owned(),
            found: "no such file".into(),
        }),
        Err(error) => Err(SaveError::Host {
            path: path.to_owned(),
            doing: "cannot be read",
            error,
        }),
    }
}

#[cfg(test)]
mod tests;
