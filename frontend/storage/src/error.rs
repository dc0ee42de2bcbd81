//! Why an image is refused: one line each, which names the file, what was expected, what was found and what to do.

use std::io;
use std::path::PathBuf;

use crate::Format;
use crate::advice;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host refuses it.
    #[error("{}: expected a readable file, found: {reason}; check its name and permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the host says.
        reason: io::Error,
    },
    /// The host refuses to write it.
    #[error("{}: cannot be written: {reason}", path.display())]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// What the host says.
        reason: io::Error,
    },
    /// It is not as its format has it, or has what this build lacks.
    #[error(
        "{}: expected {} that can be used, found: {reason}; only if it is a raw disk for all that: --disk \
         {},format=raw", path.display(), format.name(), path.display().to_string().replace(',', ",,")
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it is.
        format: Format,
        /// What is wrong.
        reason: io::Error,
    },
    /// An image lies over another one, which nobody allowed to be opened.
    #[error(
        "{}: expected an image that stands alone, found one that lies over {backing}; if that may be read too, \
         add ,backing=on: --disk {},backing=on", path.display(), path.display().to_string().replace(',', ",,")
    )]
    Backing {
        /// The file.
        path: PathBuf,
        /// What it names.
        backing: String,
    },
    /// Images that lie over each other without an end.
    #[error("{}: expected at most {most} images that lie over each other, found more", path.display())]
    Chain {
        /// The file.
        path: PathBuf,
        /// The limit.
        most: usize,
    },
    /// A directory.
    #[error("{}: expected a file, found a directory; name the file in it", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// Neither file nor block device. Opening or reading it might wait for ever.
    #[error("{}: expected a file, found {found}; copy what it yields to a file and name that", path.display())]
    NoFile {
        /// Its name.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// No bytes.
    #[error("{}: {option} expected {wanted}, found an empty file; check how it was made", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Which option names it.
        option: String,
        /// What belongs there.
        wanted: &'static str,
    },
    /// Too many bytes.
    #[error("{}: {option} expected {wanted} of at most {most} bytes, found {found} bytes; {advice}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Which option names it.
        option: String,
        /// What belongs there.
        wanted: &'static str,
        /// The limit.
        most: u64,
        /// The size.
        found: u64,
        /// What to do.
        advice: &'static str,
    },
    /// Writes would fail.
    #[error(
        "{}: expected a file that may be written, found it read-only; make it writable, or \
         add --ephemeral to keep writes in memory", path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it, and one of the two writes.
    #[error(
        "{}: expected a file that nobody else {}, found it in use by another machine; end \
         that one{}", path.display(),
        if *writes { "uses" } else { "writes to" },
        if *writes { ", or add --ephemeral to both" } else { " first" }
    )]
    InUse {
        /// The file.
        path: PathBuf,
        /// Whether it was to be written.
        writes: bool,
    },
    /// This very machine has it already, perhaps by another name, and one of the two writes.
    #[error(
        "{}: {option} expected another file, found the one that {first} names already ({}); leave one \
         out, or add --ephemeral to keep writes in memory", path.display(), first_path.display()
    )]
    Twice {
        /// The file.
        path: PathBuf,
        /// Which option names it now.
        option: String,
        /// Which option named it first.
        first: String,
        /// How that one called it.
        first_path: PathBuf,
    },
    /// Something that this build cannot use there.
    #[error("{}: {option} expected {wanted}, found {}; {}", path.display(), found.name(), advice::on(*found, path, *is_disk))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Which option names it.
        option: String,
        /// What belongs there.
        wanted: &'static str,
        /// What it is.
        found: Format,
        /// Whether it could be a raw disk all the same, and the user may say so.
        is_disk: bool,
    },
}
