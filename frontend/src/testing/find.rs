//! Finds test ROMs and their expectations.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::expect::{self, Expectation};

/// What an image's name may end in, the likeliest first.
const IMAGE_ENDINGS: [&str; 13] = [
    "img", "bin", "elf", "iso", "flp", "ima", "raw", "rom", "mb", "mb2", "pvh", "bzimage", "",
];

/// What a source's name may end in.
const SOURCE_ENDINGS: [&str; 6] = ["asm", "s", "S", "nasm", "c", "rs"];

/// A test ROM.
pub struct Rom {
    /// Its path as the user knows it.
    pub name: String,
    /// The folder of its expectation: its options' paths count from there.
    pub folder: PathBuf,
    /// The image, by its whole path; none where its options name a kernel or disks.
    pub image: Option<PathBuf>,
    /// What is expected, or why that cannot be said.
    pub expectation: Result<Expectation, String>,
}

/// The ROMs in `paths`, each once.
///
/// # Errors
/// A path that is not there, or nothing to test in all of them.
pub fn find(paths: &[PathBuf]) -> Result<Vec<Rom>> {
    let mut roms = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = roms.len();
            search(path, &mut roms)?;
            if roms.len() == before {
                bail!(
                    "{}: expected test ROMs with expectations (NAME.toml beside the image, or \
                     `; glassbox:` lines in NAME.asm), found none",
                    path.display()
                );
            }
        } else if path.is_file() {
            roms.push(named(path)?);
        } else {
            bail!(
                "{}: expected a test ROM or a folder of them, found nothing; check the name",
                path.display()
            );
        }
    }
    Ok(roms)
}

/// Searches a folder and those in it.
fn search(folder: &Path, roms: &mut Vec<Rom>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries
        .with_context(|| format!("{}: expected a folder that can be read", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    let mut stems = BTreeSet::new();
    for path in paths {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            search(&path, roms)?;
            continue;
        }
        let is_toml = path.extension().is_some_and(|ending| ending == "toml");
        if (is_toml || is_source(&path))
            && let Some(text) = expectation_text(&path)
            && stems.insert(path.with_extension(""))
        {
            roms.push(rom(&path, &text, None));
        }
    }
    Ok(())
}

fn is_source(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| SOURCE_ENDINGS.contains(&ending))
}

/// The expectation in a file, if it is one or carries one.
fn expectation_text(path: &Path) -> Option<String> {
    // Images that happen to be called NAME.s are no text.
    let text = std::fs::read_to_string(path).ok()?;
    if is_source(path) {
        return expect::from_source(&text);
    }
    let has_table = |name: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.any(|line| line.starts_with(name))
    };
    (has_table("[expect") || has_table("[run]")).then_some(text)
}

/// A ROM that the user named: the image, or its expectation.
fn named(path: &Path) -> Result<Rom> {
    let is_toml = path.extension().is_some_and(|ending| ending == "toml");
    if is_toml || is_source(path) {
        let Some(text) = expectation_text(path) else {
            bail!(
                "{}: expected an expectation with [run] and [expect], found none",
                path.display()
            );
        };
        return Ok(rom(path, &text, None));
    }
    let candidates = std::iter::once("toml").chain(SOURCE_ENDINGS);
    for ending in candidates {
        let beside = path.with_extension(ending);
        if beside.is_file()
            && let Some(text) = expectation_text(&beside)
        {
            return Ok(rom(&beside, &text, Some(path)));
        }
    }
    bail!(
        "{}: expected its expectation beside it, in {} or in `; glassbox:` lines of its source; \
         write one, or use `glassbox run`",
        path.display(),
        path.with_extension("toml").display()
    )
}

fn rom(expectation_path: &Path, text: &str, image: Option<&Path>) -> Rom {
    let folder = match expectation_path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut expectation = Expectation::parse(text);
    let mut name = expectation_path.with_extension("").display().to_string();
    let mut found = image.map(Path::to_owned);
    if let Ok(parsed) = &expectation {
        let names_own = ["kernel", "disk", "cdrom", "floppy"]
            .iter()
            .any(|option| parsed.run.contains_key(*option));
        if let Some(image) = &parsed.image {
            found = Some(folder.join(image));
        } else if found.is_none() && !names_own {
            found = image_beside(expectation_path);
            if found.is_none() {
                expectation = Err(format!(
                    "expected its image beside it, such as {}.img; assemble it, or name it with `image = \"FILE\"`",
                    expectation_path.with_extension("").display()
                ));
            }
        }
    }
    if let Some(image) = &found {
        name = image.display().to_string();
    }
    // The ROM's process has another working folder.
    let image = found.map(|image| std::path::absolute(&image).unwrap_or(image));
    Rom {
        name,
        folder,
        image,
        expectation,
    }
}

fn image_beside(expectation: &Path) -> Option<PathBuf> {
    IMAGE_ENDINGS
        .iter()
        .map(|ending| expectation.with_extension(ending))
        .find(|image| image.is_file() && image != expectation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_for_expectations() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a.toml", "[expect]\ndebug-exit = 1\n");
        write("a.img", "x");
        write("deep/b.asm", "; glassbox: [expect]\nnop\n");
        write("deep/b.bin", "x");
        write("Cargo.toml", "[package]\nname = \"x\"\n");
        write("c.asm", "nop\n");
        write("d.toml", "[expect]\n");
        let roms = find(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = roms
            .iter()
            .map(|rom| rom.name.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(names, ["a.img", "d", "b.bin"]);
        assert!(roms[0].expectation.is_ok());
        assert!(
            roms[1]
                .expectation
                .as_ref()
                .unwrap_err()
                .contains("image beside it")
        );

        let image = find(&[folder.path().join("deep/b.bin")]).unwrap();
        assert!(image[0].expectation.is_ok());
        assert!(find(&[folder.path().join("c.asm")]).is_err());
        assert!(find(&[folder.path().join("none")]).is_err());
    }
}
