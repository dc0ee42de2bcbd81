//! What a file is, and names.

use std::ffi::OsString;
use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

/// What is neither a file with sectors nor a folder, in words: opening or reading it may wait for
/// ever. `None` for files and block devices.
pub fn other_than_file(kind: FileType) -> Option<&'static str> {
    kinds::other_than_file(kind)
}

/// Whether a FIFO (named pipe) is there, whose opening waits for its other end.
pub fn is_fifo(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| kinds::is_fifo(metadata.file_type()))
}

/// A name from bytes that `OsStr::as_encoded_bytes` gave, cut at ASCII characters.
pub fn name_from_bytes(bytes: Vec<u8>) -> OsString {
    kinds::name_from_bytes(bytes)
}

/// Gives the room of a part of a file back, in bytes, where the host can; the part reads as zeros then. Elsewhere
/// nothing happens.
pub fn make_hole(file: &std::fs::File, start: u64, len: u64) {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // A file system without holes keeps what is there.
        let _ = fallocate(file, flags, start, len);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, start, len);
}

/// Where the platform keeps a user's data.
pub fn data_folder() -> Option<PathBuf> {
    let named = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    if cfg!(windows) {
        return named("LOCALAPPDATA");
    }
    if cfg!(target_os = "macos") {
        return named("HOME").map(|home| home.join("Library/Application Support"));
    }
    // XDG Base Directory Specification.
    named("XDG_DATA_HOME").or_else(|| named("HOME").map(|home| home.join(".local/share")))
}

/// Makes a folder that only its owner may enter, and those above it.
///
/// # Errors
/// The host refuses.
pub fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// What a file takes of the disk, in bytes: holes take nothing, where the host says so.
pub fn taken_bytes(metadata: &std::fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        std::os::unix::fs::MetadataExt::blocks(metadata) * 512
    }
    #[cfg(not(unix))]
    metadata.len()
}

/// How many names a file has, where the host says so.
pub fn names(metadata: &std::fs::Metadata) -> Option<u64> {
    #[cfg(unix)]
    {
        Some(std::os::unix::fs::MetadataExt::nlink(metadata))
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        None
    }
}

/// The room that is left on the disk of a folder, or of the first one above it that is there, in bytes, where the host
/// says so.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let there = folder.ancestors().find(|folder| folder.is_dir())?;
        let disk = rustix::fs::statvfs(there).ok()?;
        Some(disk.f_bavail * disk.f_frsize)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        None
    }
}

/// How many files this process may have open, where the host says so.
pub fn most_open() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Has the names in a folder written to the disk, where the host can.
pub fn sync_folder(path: &Path) {
    if cfg!(unix)
        && let Ok(folder) = std::fs::File::open(path)
    {
        let _ = folder.sync_all();
    }
}

#[cfg(unix)]
mod kinds {
    use std::ffi::OsString;
    use std::fs::FileType;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::FileTypeExt;

    pub(super) fn other_than_file(kind: FileType) -> Option<&'static str> {
        if kind.is_fifo() {
            Some("a FIFO (named pipe)")
        } else if kind.is_socket() {
            Some("a socket")
        } else if kind.is_char_device() {
            Some("a character device")
        } else {
            None
        }
    }

    pub(super) fn is_fifo(kind: FileType) -> bool {
        kind.is_fifo()
    }

    pub(super) fn name_from_bytes(bytes: Vec<u8>) -> OsString {
        OsString::from_vec(bytes)
    }
}

#[cfg(not(unix))]
mod kinds {
    use std::ffi::OsString;
    use std::fs::FileType;

    pub(super) fn other_than_file(_: FileType) -> Option<&'static str> {
        None
    }

    pub(super) fn is_fifo(_: FileType) -> bool {
        false
    }

    /// A name that is no Unicode loses what is not: no safe way leads back from its bytes.
    pub(super) fn name_from_bytes(bytes: Vec<u8>) -> OsString {
        String::from_utf8_lossy(&bytes).into_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_no_fifos() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert!(!is_fifo(&file), "nothing is there");
        std::fs::write(&file, b"x").unwrap();
        assert!(!is_fifo(&file) && !is_fifo(folder.path()));
        let kind = std::fs::metadata(&file).unwrap().file_type();
        assert_eq!(other_than_file(kind), None);
    }

    #[test]
    fn a_name_survives_its_bytes() {
        for name in ["disk.img", "Bücher, alt.img", ""] {
            assert_eq!(name_from_bytes(name.as_bytes().to_vec()), *name);
        }
    }
}
