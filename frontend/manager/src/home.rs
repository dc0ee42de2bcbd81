//! Where machines live: `$GLASSBOX_HOME`, else the platform's folder for data.
//!
//! ```text
//! machines/NAME/machine.toml     what the user decided
//! machines/NAME/tree.json        snapshots, and which files are the disks now
//! machines/NAME/disks/           layers: images that lie over each other
//! machines/NAME/snapshots/NAME/  a snapshot's description, and its memory if it has one
//! machines/NAME/run.json         while it runs, or crashed: since when, and by which process
//! machines/NAME/{lock,running}   who works on it; whether it runs
//! machines/NAME/{control,vnc}    sockets, while it runs
//! machines/NAME/{log.jsonl,serial.log,run.log}
//! images/                        what `create --from` fetched, by content
//! trash/                         what is being deleted
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, OfFile, Result};
use crate::machine::Machine;

/// The most characters in a machine's or snapshot's name.
const MOST_NAME: usize = 63;

/// The folder with all machines of a user.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The one that the environment names.
    ///
    /// # Errors
    /// It names none, and the platform has none.
    pub fn from_environment() -> Result<Self> {
        let named = std::env::var_os("GLASSBOX_HOME").filter(|path| !path.is_empty());
        let root = match named {
            Some(path) => PathBuf::from(path),
            None => host::files::data_folder()
                .map(|folder| folder.join("glassbox"))
                .ok_or_else(|| {
                    Error::invalid(
                        "expected a folder for machines, found no home folder of the user",
                        "set GLASSBOX_HOME to one",
                    )
                })?,
        };
        Ok(Self::at(root))
    }

    /// The one at `root`, which need not be there yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let root = std::path::absolute(&root).unwrap_or(root);
        Self { root }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where machines are.
    pub fn machines_folder(&self) -> PathBuf {
        self.root.join("machines")
    }

    /// Where fetched images are.
    pub fn images_folder(&self) -> PathBuf {
        self.root.join("images")
    }

    /// All machines, by name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn machines(&self) -> Result<Vec<Machine>> {
        let folder = self.machines_folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::host(&folder, "cannot be read", error)),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| check_name("a machine", name).is_ok())
            .collect();
        names.sort();
        let machines = names.into_iter();
        let machines = machines.map(|name| Machine::new(self.clone(), name));
        Ok(machines.filter(Machine::exists).collect())
    }

    /// The machine `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn machine(&self, name: &str) -> Result<Machine> {
        check_name("a machine", name)?;
        let machine = Machine::new(self.clone(), name.into());
        if machine.exists() {
            return Ok(machine);
        }
        let names = self.machines()?;
        let close = names
            .iter()
            .map(|machine| (distance(machine.name(), name), machine.name()))
            .min()
            .filter(|(distance, _)| *distance <= 2);
        let hint = match close {
            Some((_, close)) => format!("did you mean {close}?"),
            None if names.is_empty() => {
                "there are none yet; `glassbox create NAME` makes one".into()
            }
            None => "`glassbox list` shows all".into(),
        };
        Err(Error::new(
            Code::MachineNotFound,
            format!("{name}: there is no machine of that name"),
            hint,
        ))
    }

    /// The machine `name`, which must not be there yet.
    ///
    /// # Errors
    /// It is no name, or in use.
    pub fn free_name(&self, name: &str) -> Result<Machine> {
        check_name("a machine", name)?;
        let machine = Machine::new(self.clone(), name.into());
        if machine.folder().exists() && machine.exists() {
            return Err(Error::new(
                Code::NameInUse,
                format!("{name}: there is a machine of that name"),
                format!("choose another, or delete it: `glassbox delete {name}`"),
            ));
        }
        Ok(machine)
    }

    /// Makes the folders that everything else expects.
    pub(crate) fn prepare(&self) -> Result<()> {
        for folder in [
            self.machines_folder(),
            self.images_folder(),
            self.root.join("trash"),
        ] {
            host::files::private_folder(&folder).of(&folder, "cannot be made")?;
        }
        Ok(())
    }

    /// Takes what is at `path` away in one step, and deletes it then.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let trash = self.root.join("trash");
        host::files::private_folder(&trash).of(&trash, "cannot be made")?;
        let place = tempfile::Builder::new()
            .prefix("gone-")
            .tempdir_in(&trash)
            .of(&trash, "cannot be written")?;
        let name = path.file_name().unwrap_or_default();
        match fs::rename(path, place.path().join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::host(path, "cannot be deleted", error)),
        }
        // What cannot be deleted now is out of the way, and is swept another time.
        if let Err(error) = place.close() {
            log::warn!(target: "manager", "{}: cannot be emptied: {error}", trash.display());
        }
        Ok(())
    }

    /// Deletes what earlier deletions left, as when their process was killed.
    pub(crate) fn sweep_trash(&self) {
        let entries = fs::read_dir(self.root.join("trash"));
        for entry in entries.into_iter().flatten().flatten() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether `name` can be `what`'s: letters, digits, `.`, `_` and `-`, a letter or digit first. So it stays in its
/// folder, and needs no quotes anywhere.
///
/// # Errors
/// It cannot.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let first = name.chars().next();
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = first.is_some_and(|c| c.is_ascii_alphanumeric())
        && name.chars().all(rest)
        && name.len() <= MOST_NAME;
    if good {
        return Ok(());
    }
    let shown: String = name.chars().take(MOST_NAME + 1).collect();
    Err(Error::invalid(
        format!("{shown:?}: expected {what}'s name"),
        format!("use up to {MOST_NAME} letters, digits, `.`, `_` and `-`, a letter or digit first"),
    ))
}

/// How many letters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let change = before + usize::from(a != *b);
            before = row[j + 1];
            row[j + 1] = change.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for good in ["web", "a", "Debian-12.1_x", "0day", &"n".repeat(63)] {
            assert!(check_name("a machine", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "../x",
            "a b",
            "-x",
            "ü",
            "a\0",
            "a\n",
            &"n".repeat(64),
        ] {
            let error = check_name("a machine", bad).unwrap_err();
            assert_eq!(error.code, Code::Invalid, "{bad:?}");
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_misspelt_name_is_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        assert!(home.machines().unwrap().is_empty());
        let missing = home.machine("web").unwrap_err();
        assert!(missing.hint.contains("glassbox create"), "{missing}");
        let web = home.machines_folder().join("web");
        fs::create_dir_all(&web).unwrap();
        fs::write(web.join("machine.toml"), "").unwrap();
        let close = home.machine("wbe").unwrap_err();
        assert_eq!(close.code, Code::MachineNotFound);
        assert!(close.hint.contains("web"), "{close}");
        assert_eq!(home.free_name("web").unwrap_err().code, Code::NameInUse);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
