//! Fetching images: resumed where it was cut, verified before it is used, kept once.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

use crate::config::replace;
use crate::error::{Code, Error, OfFile, Result};
use crate::home::Home;
use crate::layers;

/// How long a server has to answer.
const ANSWERS: Duration = Duration::from_secs(30);
/// The most bytes in a list of checksums.
const MOST_LIST: u64 = 1 << 20;
/// How much is read at a time, in bytes.
const PIECE: usize = 1 << 16;

/// How far something is that takes a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What is being done.
    pub what: String,
    /// Bytes so far.
    pub done: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

/// Is told how far it is; answers whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(&Progress) -> bool;

/// What is known of an image that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// From where.
    pub url: String,
    /// The checksum that its publisher gave.
    pub checksum: Option<String>,
    /// Its file in `images`.
    pub file: String,
}

/// Where an image is to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The image.
    pub url: String,
    /// The publisher's list of checksums.
    pub checksums: Option<String>,
    /// Its checksum.
    pub checksum: Option<String>,
}

impl Source {
    /// Of an URL alone; `#sha256=…` or `#sha512=…` at its end is its checksum.
    pub fn of_url(url: &str) -> Self {
        let (address, checksum) = match url.split_once('#') {
            Some((address, fragment)) => {
                let checksum = fragment
                    .strip_prefix("sha256=")
                    .or(fragment.strip_prefix("sha512="));
                (address, checksum.map(str::to_ascii_lowercase))
            }
            None => (url, None),
        };
        Self {
            url: address.into(),
            checksums: None,
            checksum,
        }
    }
}

fn refuse(url: &str, error: impl std::fmt::Display) -> Error {
    Error::new(
        Code::NotFound,
        format!("{url}: cannot be fetched: {error}"),
        "check the address and this host's network, or name a file",
    )
}

/// What `url` answers, from the byte `from` on where `version` is still what it has.
fn get(url: &str, from: u64, version: &str) -> Result<ureq::http::Response<ureq::Body>> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(ANSWERS))
        .timeout_recv_response(Some(ANSWERS))
        .user_agent(concat!("glassbox/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent.get(url);
    if from > 0 && !version.is_empty() {
        request = request
            .header("Range", format!("bytes={from}-"))
            .header("If-Range", version);
    }
    request.call().map_err(|error| refuse(url, error))
}

/// The checksum of the file called like the end of `url` in a list as `sha256sum`, BSD's `sha256` and single files have
/// it.
fn listed(list: &str, url: &str) -> Option<String> {
    let is_sum = |word: &str| {
        matches!(word.len(), 64 | 128) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let sum = |line: &str| {
        let mut words = line.split_whitespace();
        words.find(|word| is_sum(word)).map(str::to_ascii_lowercase)
    };
    let bare = |word: &str| {
        word.trim_matches(|c| matches!(c, '*' | '(' | ')'))
            .trim_start_matches("./")
            .to_owned()
    };
    // The longest path that a line names which the address ends in.
    let of = |line: &str| {
        let mut words = line.split_whitespace().map(bare);
        words.any(|word| !word.is_empty() && !is_sum(&word) && (url.ends_with(&format!("/{word}"))))
    };
    let mut lines: Vec<&str> = list.lines().filter(|line| of(line)).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
    let found = lines.into_iter().find_map(sum);
    let only = || {
        let mut lines = list.lines().filter(|line| !line.trim().is_empty());
        let line = lines.next()?;
        let is_alone = lines.next().is_none() && line.split_whitespace().count() == 1;
        is_alone.then(|| sum(line)).flatten()
    };
    found.or_else(only)
}

/// A checksum of the kind that a text of its length is.
enum Sum {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Sum {
    fn like(checksum: Option<&str>) -> Self {
        match checksum.map(str::len) {
            Some(128) => Self::Sha512(Sha512::new()),
            _ => Self::Sha256(Sha256::new()),
        }
    }

    fn of_file(mut self, path: &Path) -> Result<String> {
        let mut file = File::open(path).of(path, "cannot be read")?;
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).of(path, "cannot be read")?;
            match &mut self {
                _ if read == 0 => break,
                Self::Sha256(sum) => sum.update(&piece[..read]),
                Self::Sha512(sum) => sum.update(&piece[..read]),
            }
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(match self {
            Self::Sha256(sum) => hex(&sum.finalize()),
            Self::Sha512(sum) => hex(&sum.finalize()),
        })
    }
}

impl Home {
    /// The image of `source`, fetched now unless it is there already. Returns where it is, and whether its publisher's
    /// checksum was compared.
    ///
    /// # Errors
    /// It cannot be fetched, or is not what its publisher says.
    pub fn fetch(&self, source: &Source, watch: Watch<'_>) -> Result<(PathBuf, bool)> {
        self.prepare()?;
        let folder = self.images_folder();
        let key: String = Sha256::digest(source.url.as_bytes())[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let note = folder.join(format!("{key}.json"));
        let known = fs::read_to_string(&note).ok();
        let known: Option<Fetched> = known.and_then(|text| serde_json::from_str(&text).ok());
        let known = known.filter(|known| folder.join(&known.file).is_file());
        let checksum = match (&source.checksum, &source.checksums) {
            (Some(checksum), _) => Some(checksum.clone()),
            (None, None) => None,
            (None, Some(list)) => match read_list(list) {
                Ok(text) => Some(listed(&text, &source.url).ok_or_else(|| {
                    Error::new(
                        Code::Checksum,
                        format!(
                            "{list}: expected the checksum of {}, found none",
                            source.url
                        ),
                        "look for another address of the image",
                    )
                })?),
                // Without a network what was verified before is as good.
                Err(error) => match &known {
                    Some(known) => known.checksum.clone(),
                    None => return Err(error),
                },
            },
        };
        if let Some(known) = &known
            && known.checksum == checksum
        {
            return Ok((folder.join(&known.file), checksum.is_some()));
        }
        let part = folder.join(format!(".part-{key}"));
        let _one = self.only_fetcher(&part)?;
        self.download(&source.url, &part, watch)?;
        let found = Sum::like(checksum.as_deref()).of_file(&part)?;
        if let Some(checksum) = &checksum
            && found != *checksum
        {
            let _ = fs::remove_file(&part);
            return Err(Error::new(
                Code::Checksum,
                format!(
                    "{}: expected the checksum {checksum} that its publisher gives, found {found}",
                    source.url
                ),
                "try again later: the image may just be changing",
            ));
        }
        let format = layers::standalone(&part)?;
        let file = format!("{}.{}", &found[..32], layers::extension(format));
        let target = folder.join(&file);
        let mut permissions = fs::metadata(&part)
            .of(&part, "cannot be read")?
            .permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&part, permissions).of(&part, "cannot be written")?;
        fs::rename(&part, &target).of(&target, "cannot be written")?;
        let _ = fs::remove_file(folder.join(format!(".part-{key}.json")));
        let fetched = Fetched {
            url: source.url.clone(),
            checksum: checksum.clone(),
            file,
        };
        let text = serde_json::to_string_pretty(&fetched).unwrap_or_default();
        replace(&note, &text)?;
        Ok((target, checksum.is_some()))
    }

    /// What has been fetched.
    pub fn fetched(&self) -> Vec<Fetched> {
        let entries = fs::read_dir(self.images_folder())
            .into_iter()
            .flatten()
            .flatten();
        let notes =
            entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "json"));
        let notes = notes.filter_map(|entry| fs::read_to_string(entry.path()).ok());
        notes
            .filter_map(|text| serde_json::from_str(&text).ok())
            .collect()
    }

    /// Two that fetch the same image wait for each other.
    fn only_fetcher(&self, part: &Path) -> Result<File> {
        let path = part.with_extension("lock");
        let file = File::create(&path).of(&path, "cannot be written")?;
        file.lock().of(&path, "cannot be locked")?;
        Ok(file)
    }

    /// Fetches `url` into the file `part`, from where that ends.
    fn download(&self, url: &str, part: &Path, watch: Watch<'_>) -> Result<()> {
        // What the server said the image was when the file was begun.
        let version_path = part.with_extension("json");
        let mut have = fs::metadata(part).map_or(0, |file| file.len());
        let version = fs::read_to_string(&version_path).unwrap_or_default();
        if version.is_empty() {
            have = 0;
        }
        let response = match get(url, have, &version) {
            // It was whole already, or is another by now.
            Err(_) if have > 0 => {
                have = 0;
                get(url, 0, "")?
            }
            response => response?,
        };
        if response.status() != 206 {
            have = 0;
        }
        let header = |name: &str| {
            let value = response.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let version = header("etag")
            .filter(|tag| !tag.starts_with("W/"))
            .or(header("last-modified"));
        let length = header("content-length").and_then(|length| length.parse::<u64>().ok());
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(have == 0)
            .append(have > 0)
            .open(part)
            .of(part, "cannot be written")?;
        replace(&version_path, &version.unwrap_or_default())?;
        let mut progress = Progress {
            what: url.rsplit('/').next().unwrap_or(url).to_owned(),
            done: have,
            total: length.map(|length| length + have),
        };
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read = body.read(&mut piece).map_err(|error| {
                Error::new(
                    Code::Host,
                    format!(
                        "{url}: the connection broke after {} bytes: {error}",
                        progress.done
                    ),
                    "try again: it goes on from there",
                )
            })?;
            if read == 0 {
                break;
            }
            file.write_all(&piece[..read])
                .of(part, "cannot be written")?;
            progress.done += read as u64;
            if !watch(&progress) {
                return Err(Error::new(
                    Code::Host,
                    format!("{url}: interrupted"),
                    "try again: it goes on from there",
                ));
            }
        }
        if progress.total.is_some_and(|total| total != progress.done) {
            return Err(Error::new(
                Code::Host,
                format!(
                    "{url}: expected {} bytes, found {}",
                    progress.total.unwrap_or(0),
                    progress.done
                ),
                "try again: it goes on from there",
            ));
        }
        file.sync_all().of(part, "cannot be written")
    }
}

fn read_list(url: &str) -> Result<String> {
    let response = get(url, 0, "")?;
    let mut text = String::new();
    let read = response
        .into_body()
        .into_reader()
        .take(MOST_LIST)
        .read_to_string(&mut text);
    read.map_err(|error| refuse(url, error))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_checksums_are_read_as_their_programs_write_them() {
        let (a, b) = ("a".repeat(64), "B".repeat(128));
        let url = "https://x.example/pool/netboot/mini.iso";
        for list in [
            format!("{a}  mini.iso\n{b}  other.iso\n"),
            format!("{a} *mini.iso\n"),
            format!(
                "{}  ./gtk/mini.iso\n{a}  ./netboot/mini.iso\n",
                "c".repeat(64)
            ),
            format!("SHA256 (mini.iso) = {a}\n"),
            format!("# mini.iso: 1 byte\nSHA256 (mini.iso) = {a}\n"),
            format!("{a}\n"),
        ] {
            assert_eq!(listed(&list, url).as_deref(), Some(a.as_str()), "{list}");
        }
        let list = format!("{b}  mini.iso\n");
        assert_eq!(listed(&list, url), Some("b".repeat(128)));
        for list in [
            String::new(),
            format!("{a}  not-mini.iso\n"),
            "xyz  mini.iso\n".into(),
        ] {
            assert_eq!(listed(&list, url), None, "{list}");
        }
        let source = Source::of_url(&format!("{url}#sha256={a}"));
        assert_eq!((source.url.as_str(), source.checksum), (url, Some(a)));
    }
}
