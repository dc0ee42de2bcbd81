//! What `create --from NAME` knows: systems, where they come from, and who says what they must be.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, OfFile, Result};
use crate::home::Home;

/// What comes with the program.
const BUILTIN: &str = include_str!("catalogue.toml");

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A disk with a system on it that asks NoCloud at its first start.
    Cloud,
    /// A disk with a system on it.
    Disk,
    /// A CD-ROM with an installer or live system.
    Installer,
}

/// A system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it is, in a few words.
    pub title: String,
    /// What it is.
    pub kind: Kind,
    /// The image.
    pub url: String,
    /// The publisher's list of checksums, SHA-256 or SHA-512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksums: Option<String>,
    /// Its checksum, where the image never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Who logs in where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How much RAM it wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// How large its disk is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    #[serde(default)]
    image: Vec<Entry>,
}

fn parse(text: &str, path: &Path) -> Result<Vec<Entry>> {
    let catalogue: Catalogue = toml::from_str(text).map_err(|error| {
        Error::invalid(
            format!("{}: {}", path.display(), error.message()),
            "correct the file, or take it away",
        )
    })?;
    Ok(catalogue.image)
}

impl Home {
    /// All entries: the program's own, and those of `catalogue.toml` in the home, which take the place of others of
    /// their name.
    ///
    /// # Errors
    /// That file cannot be used.
    pub fn catalogue(&self) -> Result<Vec<Entry>> {
        let mut entries = parse(BUILTIN, Path::new("catalogue.toml"))?;
        let path = self.root().join("catalogue.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                for entry in parse(&text, &path)? {
                    entries.retain(|other| other.name != entry.name);
                    entries.push(entry);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).of(&path, "cannot be read"),
        }
        Ok(entries)
    }

    /// The entry `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn catalogue_entry(&self, name: &str) -> Result<Entry> {
        let entries = self.catalogue()?;
        let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
        let found = entries.into_iter().find(|entry| entry.name == name);
        found.ok_or_else(|| {
            Error::new(
                Code::NotFound,
                format!("--from {name}: expected a file, an URL or a name of the catalogue, found none of them"),
                format!("the catalogue has {}", names.join(", ")),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_can_be_used_and_extended() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let entries = home.catalogue().unwrap();
        for entry in &entries {
            assert!(entry.url.starts_with("https://"), "{}", entry.name);
            assert!(
                entry.checksums.is_some() || entry.checksum.is_some(),
                "{}",
                entry.name
            );
            for size in [&entry.memory, &entry.disk].into_iter().flatten() {
                assert!(spec::size::parse_size(size).is_ok(), "{}", entry.name);
            }
        }
        let own = format!(
            "[[image]]\nname = \"{}\"\ntitle = \"mine\"\nkind = \"disk\"\nurl = \"http://127.0.0.1/x\"\n",
            entries[0].name
        );
        std::fs::write(folder.path().join("catalogue.toml"), own).unwrap();
        assert_eq!(home.catalogue().unwrap().len(), entries.len());
        assert_eq!(
            home.catalogue_entry(&entries[0].name).unwrap().title,
            "mine"
        );
        assert!(
            home.catalogue_entry("nothing")
                .unwrap_err()
                .hint
                .contains(&entries[1].name)
        );
    }
}
