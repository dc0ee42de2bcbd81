//! Sockets between processes of one user on one host, by a name in a folder.
//!
//! On Unix they are Unix sockets that only their owner may use. Elsewhere a loopback port stands for one, and the file
//! of the socket's name says which, with a number that nobody can guess.

use std::io;
use std::path::Path;

pub use kinds::{Listener, Stream};

/// Listens at `path`. What is left there by a process that has ended is replaced.
///
/// # Errors
/// Somebody listens there, or the host refuses.
pub fn listen(path: &Path) -> io::Result<Listener> {
    kinds::listen(path)
}

/// Connects to who listens at `path`.
///
/// # Errors
/// Nobody does, or the host refuses.
pub fn connect(path: &Path) -> io::Result<Stream> {
    kinds::connect(path)
}

/// The next one that connects.
///
/// # Errors
/// The host refuses.
pub fn accept(listener: &Listener) -> io::Result<Stream> {
    kinds::accept(listener)
}

#[cfg(unix)]
mod kinds {
    use std::io;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    pub use std::os::unix::net::{UnixListener as Listener, UnixStream as Stream};
    use std::path::{Path, PathBuf};

    /// As long as a socket's name may be on every Unix.
    const MOST_NAME: usize = 100;

    /// A name for `path` that is short enough; it is good for as long as the file is open.
    fn short(path: &Path) -> io::Result<(PathBuf, Option<std::fs::File>)> {
        if path.as_os_str().len() <= MOST_NAME {
            return Ok((path.to_owned(), None));
        }
        #[cfg(target_os = "linux")]
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            use std::os::fd::AsRawFd;
            let folder = std::fs::File::open(folder)?;
            let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
            return Ok((short, Some(folder)));
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the socket's name is too long",
        ))
    }

    pub(super) fn listen(path: &Path) -> io::Result<Listener> {
        let (short, _folder) = short(path)?;
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something else is there",
                ));
            }
            if Stream::connect(&short).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "somebody listens there",
                ));
            }
            std::fs::remove_file(path)?;
        }
        let listener = Listener::bind(&short)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    pub(super) fn connect(path: &Path) -> io::Result<Stream> {
        let (short, _folder) = short(path)?;
        Stream::connect(short)
    }

    pub(super) fn accept(listener: &Listener) -> io::Result<Stream> {
        Ok(listener.accept()?.0)
    }
}

#[cfg(not(unix))]
mod kinds {
    use std::hash::{BuildHasher, Hasher};
    use std::io::{self, Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::path::Path;

    pub use TcpStream as Stream;

    /// A loopback port, and what who connects must know.
    pub struct Listener {
        port: TcpListener,
        secret: [u8; 16],
    }

    pub(super) fn listen(path: &Path) -> io::Result<Listener> {
        if connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "somebody listens there",
            ));
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut secret = [0; 16];
        for half in secret.chunks_mut(8) {
            // Each state is seeded by the host's random numbers.
            let number = std::collections::hash_map::RandomState::new()
                .build_hasher()
                .finish();
            half.copy_from_slice(&number.to_le_bytes());
        }
        let mut content = port.local_addr()?.port().to_le_bytes().to_vec();
        content.extend(secret);
        std::fs::write(path, content)?;
        Ok(Listener { port, secret })
    }

    pub(super) fn connect(path: &Path) -> io::Result<Stream> {
        let content = std::fs::read(path)?;
        let (port, secret) = content
            .split_first_chunk::<2>()
            .ok_or(io::ErrorKind::InvalidData)?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, u16::from_le_bytes(*port)))?;
        stream.write_all(secret)?;
        Ok(stream)
    }

    pub(super) fn accept(listener: &Listener) -> io::Result<Stream> {
        loop {
            let (mut stream, _) = listener.port.accept()?;
            stream.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
            let mut said = [0; 16];
            if stream.read_exact(&mut said).is_ok() && said == listener.secret {
                stream.set_read_timeout(None)?;
                return Ok(stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_long_name_will_do_and_two_cannot_listen() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("socket");
        let listener = listen(&path).unwrap();
        let server = std::thread::spawn(move || {
            // The first one is the other listener's question whether somebody is there.
            let _asked = accept(&listener).unwrap();
            accept(&listener).unwrap().write_all(b"hello").unwrap();
        });
        assert!(listen(&path).is_err());
        let mut said = String::new();
        connect(&path).unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
        server.join().unwrap();
        // Nobody listens any more.
        drop(listen(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        #[cfg(unix)]
        assert!(listen(&path).is_err());
    }
}
