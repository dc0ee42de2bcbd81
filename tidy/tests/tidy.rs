//! What the tree keeps to, and neither the compiler nor a lint checks.
//!
//! Only files that git tracks, or would add, are looked at. Nothing of the emulator is compiled for it:
//! `cargo test -p tidy` takes a second. Each fault is a line that names the place and says what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A file longer than this says in its module doc why it is.
const LONG_FILE_LINES: usize = 1000;
/// What the module doc of a longer file has in it.
const LONG_FILE_WORDS: &str = "1,000 lines";
/// No comment is wider. Ones that are written anew are wrapped at 100.
const COMMENT_COLUMNS: usize = 120;

/// Images that are not assembled from a source beside them, and what they are made of instead.
const OTHER_BINARIES: [(&str, &str); 3] = [
    ("firmware/vgabios/font8x8.bin", "firmware/vgabios/mkfont.py"),
    (
        "firmware/vgabios/font8x14.bin",
        "firmware/vgabios/mkfont.py",
    ),
    (
        "firmware/vgabios/font8x16.bin",
        "firmware/vgabios/mkfont.py",
    ),
];

/// A tracked file.
struct Source {
    path: String,
    /// `None` if it is no text.
    text: Option<String>,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Each line with its number.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = self.text.as_deref().unwrap_or_default();
        text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The tracked files; none, with a word about it, where there is no git or no repository.
fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others"])
            .arg("--exclude-standard")
            .current_dir(root())
            .output();
        let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
            eprintln!("skipped: no git, or no repository, that lists the tracked files");
            return Vec::new();
        };
        let names = String::from_utf8(listed.stdout).unwrap();
        let read = |path: &str| {
            // A file that was deleted and not yet committed is listed, and is no matter.
            let bytes = std::fs::read(root().join(path)).ok()?;
            Some(Source {
                path: path.to_owned(),
                text: String::from_utf8(bytes).ok(),
            })
        };
        names.split_terminator('\0').filter_map(read).collect()
    })
}

fn rust() -> impl Iterator<Item = &'static Source> {
    sources().iter().filter(|source| source.is_rust())
}

/// Fails with all faults at once.
fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Whether `word` stands in `text` with nothing before it that belongs to a name.
fn has_word(text: &str, word: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.match_indices(word)
        .any(|(at, _)| at == 0 || !is_name(text.as_bytes()[at - 1]))
}

#[test]
fn long_files_say_why() {
    let mut faults = Vec::new();
    for source in rust() {
        let count = source.lines().count();
        let doc = source.lines().filter(|(_, line)| line.starts_with("//!"));
        let mut doc = doc.map(|(_, line)| line);
        if count > LONG_FILE_LINES && !doc.any(|line| line.contains(LONG_FILE_WORDS)) {
            faults.push(format!(
                "{}:1: {count} lines; split it, or say in its module doc why it is past \
                 {LONG_FILE_WORDS}",
                source.path
            ));
        }
    }
    report(&faults);
}

#[test]
fn comments_are_wrapped() {
    let mut faults = Vec::new();
    for source in rust() {
        for (number, line) in source.lines() {
            let columns = line.chars().count();
            if columns > COMMENT_COLUMNS && line.trim_start().starts_with("//") {
                faults.push(format!(
                    "{}:{number}: a comment of {columns} columns; wrap it at 100",
                    source.path
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn no_leftovers_of_work() {
    // In pieces, so that this file has none of them.
    let rust_only = [
        (
            concat!("#[ig", "nore"),
            "a test that is not run proves nothing; mend it or delete it",
        ),
        (concat!("db", "g!("), "take it out"),
        (concat!("to", "do!("), "write what is missing"),
        (concat!("unimple", "mented!("), "write what is missing"),
        (
            concat!("BOARD", "0 +"),
            "give the wire a name in `platform::line` or on the board",
        ),
        (
            concat!("BOARD", "0.0 +"),
            "give the wire a name in `platform::line` or on the board",
        ),
    ];
    let anywhere = [
        (concat!("/wo", "rk/"), "a path of one machine; take it out"),
        (concat!("/tmp", "/wt"), "a path of one machine; take it out"),
        (concat!("/ho", "me/"), "a path of one machine; take it out"),
        (concat!("/ro", "ot/"), "a path of one machine; take it out"),
        (
            concat!("regi", "stry+http"),
            "only crates.io's index is named; build without a mirror's lock file",
        ),
    ];
    let index = concat!("regi", "stry+https://github.com/rust-lang/crates.io-index");
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            let line = line.replace(index, "");
            for (word, advice) in anywhere {
                if has_word(&line, word) {
                    faults.push(format!("{}:{number}: `{word}`: {advice}", source.path));
                }
            }
            for (word, advice) in rust_only {
                if source.is_rust() && has_word(&line, word) {
                    faults.push(format!("{}:{number}: `{word}`: {advice}", source.path));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn host_systems_differ_in_one_place() {
    // Guest memory's large pages, and what compares with one kind of host's processor.
    let may = [
        "frontend/host/",
        "emulator/platform/src/host_code.rs",
        "emulator/platform/src/memory.rs",
        "emulator/x86/src/softfloat/tests/",
        "emulator/x86/src/ops/mod.rs",
        "conformance/",
    ];
    let words = [
        "cfg(unix)",
        "cfg(not(unix))",
        "cfg(windows)",
        "std::os::",
        "target_os =",
        "libc::",
    ];
    let mut faults = Vec::new();
    // Tests may be for one kind of host.
    let sources = rust().filter(|source| source.path.contains("/src/"));
    for source in sources.filter(|source| !may.iter().any(|place| source.path.starts_with(place))) {
        for (number, line) in source.lines() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                faults.push(format!(
                    "{}:{number}: `{word}`: the crate `host` is where host systems differ; ask it, \
                     and give it an answer for the others",
                    source.path
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn images_have_their_source_beside_them() {
    let paths: Vec<&str> = sources()
        .iter()
        .map(|source| source.path.as_str())
        .collect();
    let mut faults = Vec::new();
    for path in &paths {
        let Some(stem) = ["bin", "img", "rom"]
            .iter()
            .find_map(|end| path.strip_suffix(end)?.strip_suffix('.'))
        else {
            continue;
        };
        let made_of = match OTHER_BINARIES.iter().find(|(image, _)| image == path) {
            Some((_, source)) => (*source).to_owned(),
            None => format!("{stem}.asm"),
        };
        if !paths.contains(&made_of.as_str()) {
            faults.push(format!(
                "{path}:1: no {made_of}; add the source, or say in OTHER_BINARIES of tidy what \
                 it is made of"
            ));
        }
    }
    report(&faults);
}

/// A crate of the workspace: its folder with a slash behind it, and its manifest.
struct Manifest {
    folder: String,
    toml: toml::Table,
    text: &'static str,
}

impl Manifest {
    /// The names of what it depends on, however it does.
    fn dependencies(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let targets = self.toml.get("target").and_then(|found| found.as_table());
        let per_target = targets.into_iter().flat_map(|table| table.values());
        let tables = per_target.filter_map(|value| value.as_table());
        for table in tables.chain([&self.toml]) {
            for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let found = table.get(kind).and_then(|found| found.as_table());
                names.extend(found.into_iter().flat_map(|table| table.keys()));
            }
        }
        names.into_iter().map(String::as_str).collect()
    }

    /// Where the line that starts with `name` is.
    fn place(&self, name: &str) -> String {
        let starts = |line: &str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
        };
        let at = self.text.lines().position(starts).unwrap_or_default();
        format!("{}Cargo.toml:{}", self.folder, at + 1)
    }
}

fn manifests() -> Vec<Manifest> {
    let manifest = |source: &'static Source| {
        let folder = source.path.strip_suffix("Cargo.toml")?;
        let text = source.text.as_deref()?;
        Some(Manifest {
            folder: folder.to_owned(),
            toml: text.parse().unwrap(),
            text,
        })
    };
    sources().iter().filter_map(manifest).collect()
}

#[test]
fn dependencies_are_used() {
    let manifests = manifests();
    let mut faults = Vec::new();
    // The Rust files of each crate, by its folder: the longest that a path starts with.
    let mut files: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in rust() {
        let folders = manifests.iter().map(|manifest| manifest.folder.as_str());
        let owners = folders.filter(|folder| source.path.starts_with(folder));
        if let Some(owner) = owners.max_by_key(|folder| folder.len()) {
            files.entry(owner).or_default().push(source);
        }
    }
    for manifest in &manifests {
        for name in manifest.dependencies() {
            let word = name.replace('-', "_");
            let uses = [
                format!("{word}::"),
                format!("use {word};"),
                format!("use {word} as"),
            ];
            let sources = files.get(manifest.folder.as_str());
            let mut texts = sources
                .into_iter()
                .flatten()
                .filter_map(|source| source.text.as_deref());
            if !texts.any(|text| uses.iter().any(|word| has_word(text, word))) {
                faults.push(format!(
                    "{}: no file of this crate uses `{name}`; take the line out",
                    manifest.place(name)
                ));
            }
        }
    }
    let workspace = manifests.iter().filter_map(|manifest| {
        let table = manifest.toml.get("workspace")?.get("dependencies")?;
        Some((manifest, table.as_table()?))
    });
    for (root, table) in workspace {
        for name in table.keys() {
            let depends = |manifest: &Manifest| manifest.dependencies().contains(&name.as_str());
            if !manifests.iter().any(depends) {
                faults.push(format!(
                    "{}: no crate depends on `{name}`; take the line out",
                    root.place(name)
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn options_are_read() {
    const CLI: &str = "frontend/src/cli.rs";
    let mut faults = Vec::new();
    let Some(cli) = sources().iter().find(|source| source.path == CLI) else {
        assert!(
            sources().is_empty(),
            "{CLI}: expected the options there; tell tidy where they are"
        );
        return;
    };
    let mut inside = false;
    let mut seen = 0;
    for (number, line) in cli.lines() {
        inside |= line.starts_with("pub struct ") && line.ends_with("Args {");
        inside &= line != "}";
        let field = line
            .strip_prefix("    pub ")
            .and_then(|rest| rest.split_once(':'));
        let Some((field, _)) = field.filter(|_| inside) else {
            continue;
        };
        seen += 1;
        let read = format!(".{field}");
        let reads = |source: &Source| {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'(';
            let text = source.text.as_deref().unwrap_or_default();
            text.match_indices(&read).any(|(at, found)| {
                let next = text.as_bytes().get(at + found.len());
                !next.copied().is_some_and(is_name)
            })
        };
        let outside = |source: &&Source| {
            source.path.starts_with("frontend/")
                && source.path.contains("/src/")
                && source.path != CLI
        };
        if !rust().filter(outside).any(reads) {
            faults.push(format!(
                "{CLI}:{number}: nothing outside of {CLI} reads `{field}`; act on the option, or \
                 take it out"
            ));
        }
    }
    assert!(
        seen > 20,
        "{CLI}: expected the options' structures, found {seen} fields"
    );
    report(&faults);
}
