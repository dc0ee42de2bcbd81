//! What is in a machine's CD-ROM and floppy drives.

use std::path::{Path, PathBuf};

use serde_json::json;
use spec::DriveName;

use crate::error::{Code, Error, OfFile, Result};
use crate::layers;
use crate::machine::{Machine, State};

impl Machine {
    /// Puts an image into a drive, or takes out what is there, now and from now on.
    ///
    /// # Errors
    /// It has no such drive, or the image cannot be used.
    pub fn change_medium(&self, drive: DriveName, file: Option<&Path>) -> Result<()> {
        let _working = self.work("insert")?;
        self.finish_restore()?;
        let mut config = self.config()?;
        let whole = file.map(crate::config::whole);
        if let Some(path) = &whole {
            storage::look(path).map_err(|error| {
                Error::new(
                    Code::NotFound,
                    error.to_string(),
                    "expected an image to put into the drive",
                )
            })?;
        }
        let list = match drive.is_floppy() {
            true => &mut config.machine.floppy,
            false => &mut config.machine.cdrom,
        };
        let number = drive.number();
        let Some(place) = list.get_mut(number) else {
            return Err(Error::new(
                Code::NotFound,
                format!("{drive}: {} has no such drive", self.name()),
                "give it one while it is off: an empty drive is `none` in its machine.toml",
            ));
        };
        *place = whole.clone().unwrap_or_else(|| PathBuf::from("none"));
        match self.state() {
            State::Running | State::Paused => {
                let name = drive.to_string();
                match &whole {
                    // The process may use files of the machine's folder alone: the image gets a name there.
                    Some(path) => {
                        let folder = self.folder().join("media");
                        host::files::private_folder(&folder).of(&folder, "cannot be made")?;
                        let here = folder.join(format!("{name}-{}", crate::random::hex::<4>()));
                        layers::link(path, &here)?;
                        let put = self.call("insert", json!({ "drive": name, "path": here }));
                        // It is open, and needs no name any more.
                        let _ = std::fs::remove_file(&here);
                        put?
                    }
                    None => self.call("eject", json!({ "drive": name }))?,
                };
            }
            State::Saved => {
                return Err(Error::new(
                    Code::WrongState,
                    format!(
                        "{}: expected a machine that runs or is off, found it saved",
                        self.name()
                    ),
                    format!("start it first: `glassbox start {}`", self.name()),
                ));
            }
            State::Stopped | State::Crashed => {}
        }
        self.replace_machine(&config)?;
        let what = whole.map_or("nothing".into(), |path| path.display().to_string());
        self.note("medium changed", &format!("{drive}: {what}"));
        Ok(())
    }
}
