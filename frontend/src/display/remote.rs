//! `--vnc`: the screen for clients of the remote framebuffer protocol, any number of them.

use std::io::{BufReader, BufWriter};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use crossbeam_channel::Sender;
use host::local::{self, Stream};
use platform::{Frame, Key, Motion, Place};
use vnc::Guest;

use crate::control::Socket;
use crate::outlet;
use crate::runner::{Control, Shown};
use crate::typing::{Layout, share_of};

/// The most clients at once.
const MOST_CLIENTS: usize = 32;
/// How long a client has to take a piece of a picture.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Port(SocketAddr),
    Socket(PathBuf),
}

/// `--vnc`'s value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSpec {
    at: At,
    password: Option<String>,
}

impl RemoteSpec {
    /// Reads `[HOST:]PORT|unix:PATH[,password-file=FILE]`.
    ///
    /// # Errors
    /// It is none of the forms, or the file cannot be read.
    pub fn parse(text: &std::ffi::OsStr) -> Result<Self> {
        let bytes = text.as_encoded_bytes();
        let mark = b",password-file=";
        let cut = bytes.windows(mark.len()).position(|part| part == mark);
        let (place, file) = match cut {
            Some(at) => (&bytes[..at], Some(&bytes[at + mark.len()..])),
            None => (bytes, None),
        };
        let password = file.map(|file| {
            let path = PathBuf::from(host::files::name_from_bytes(file.to_vec()));
            let content = std::fs::read_to_string(&path);
            let content =
                content.with_context(|| format!("--vnc: {}: cannot be read", path.display()))?;
            let line = content.lines().next().unwrap_or_default().trim().to_owned();
            match line.is_empty() {
                true => bail!(
                    "--vnc: {}: expected a password in its first line, found none",
                    path.display()
                ),
                false => Ok(line),
            }
        });
        let refuse = || {
            anyhow!(
                "--vnc {}: expected [HOST:]PORT or unix:PATH, such as 5900 or unix:screen.sock",
                text.display()
            )
        };
        let at = match place.strip_prefix(b"unix:") {
            Some(path) if !path.is_empty() => {
                At::Socket(host::files::name_from_bytes(path.to_vec()).into())
            }
            Some(_) => return Err(refuse()),
            None => {
                let place = std::str::from_utf8(place).map_err(|_| refuse())?;
                let (host, port) = place.rsplit_once(':').unwrap_or(("127.0.0.1", place));
                let host = match host.trim_matches(['[', ']']) {
                    "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    host => host.parse().map_err(|_| refuse())?,
                };
                At::Port(SocketAddr::new(host, port.parse().map_err(|_| refuse())?))
            }
        };
        Ok(Self {
            at,
            password: password.transpose()?,
        })
    }
}

/// A machine's screen for one server.
struct Screen {
    title: String,
    shown: Arc<Shown>,
    control: Sender<Control>,
    keyboard: &'static Layout,
}

impl Screen {
    fn command(&self, command: impl FnOnce(&mut emulator::Machine) + Send + 'static) {
        let _ = self.control.send(Control::command(command));
    }
}

impl Guest for Screen {
    fn name(&self) -> String {
        self.title.clone()
    }

    fn frame_after(&self, seen: &mut u64) -> Option<Arc<Frame>> {
        self.shown.frame_after(seen)
    }

    fn has_ended(&self) -> bool {
        self.shown.has_ended()
    }

    fn key(&self, key: Key, pressed: bool) {
        self.command(move |machine| machine.input_key(key, pressed));
    }

    fn character(&self, character: char, pressed: bool) {
        // What is held the client says itself.
        if let [stroke] = self.keyboard.strokes(character)[..] {
            self.key(stroke.key, pressed);
        }
    }

    fn has_pointer(&self) -> bool {
        self.shown.has_pointer()
    }

    fn point(&self, (x, y): (u16, u16), (width, height): (usize, usize), buttons: u8, wheel: i32) {
        let dot = |at: u16, dots: usize| share_of(usize::from(at).min(dots.max(1) - 1), dots);
        let place = Place {
            x: dot(x, width),
            y: dot(y, height),
            dz: wheel,
            buttons,
        };
        self.command(move |machine| machine.input_place(place));
    }

    fn motion(&self, (dx, dy): (i32, i32), buttons: u8, wheel: i32) {
        let motion = Motion {
            dx,
            dy: -dy,
            dz: wheel,
            buttons,
        };
        self.command(move |machine| machine.input_mouse(motion));
    }

    fn watched(&self, is_there: bool) {
        self.shown.watched(is_there);
    }
}

/// Serves clients for as long as the process lives; a socket's name goes with what this returns.
///
/// # Errors
/// The place is not free.
pub fn serve(
    spec: &RemoteSpec,
    title: &str,
    shown: &Arc<Shown>,
    control: &Sender<Control>,
    keyboard: &'static Layout,
) -> Result<Option<Socket>> {
    let screen = Screen {
        title: title.to_owned(),
        shown: Arc::clone(shown),
        control: control.clone(),
        keyboard,
    };
    let guest: Arc<dyn Guest> = Arc::new(screen);
    let password = spec.password.clone();
    let clients = Arc::new(AtomicUsize::new(0));
    let join = move |client: Client| {
        if clients.fetch_add(1, Ordering::Relaxed) >= MOST_CLIENTS {
            clients.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (guest, password) = (Arc::clone(&guest), password.clone());
        let left = Arc::clone(&clients);
        let spawned = std::thread::Builder::new()
            .name("vnc".into())
            .spawn(move || {
                if let Err(error) = client.serve(&guest, password.as_deref()) {
                    log::debug!(target: "vnc", "a client left: {error}");
                }
                left.fetch_sub(1, Ordering::Relaxed);
            });
        if spawned.is_err() {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    };
    let pause = || std::thread::sleep(Duration::from_millis(100));
    match &spec.at {
        At::Socket(path) => {
            let listener = crate::control::listen("--vnc", path)?;
            std::thread::Builder::new()
                .name("vnc".into())
                .spawn(move || {
                    loop {
                        match local::accept(&listener) {
                            Ok(stream) => join(Client::Local(stream)),
                            Err(_) => pause(),
                        }
                    }
                })?;
            Ok(Some(Socket::new(path.clone())))
        }
        At::Port(address) => {
            let listener = TcpListener::bind(address).map_err(|error| {
                anyhow!(
                    "--vnc {address}: expected a port that is free, found: {error}; choose another"
                )
            })?;
            if !address.ip().is_loopback() && spec.password.is_none() {
                outlet::say(&format!(
                    "glassbox: --vnc {address}: whoever reaches this port sees and uses the machine; add \
                     ,password-file=FILE, or leave HOST out"
                ));
            }
            if address.port() == 0 {
                outlet::say(&format!("glassbox: vnc={}", listener.local_addr()?));
            }
            std::thread::Builder::new()
                .name("vnc".into())
                .spawn(move || {
                    loop {
                        match listener.accept() {
                            Ok((stream, _)) => join(Client::Tcp(stream)),
                            Err(_) => pause(),
                        }
                    }
                })?;
            Ok(None)
        }
    }
}

/// A client's stream.
enum Client {
    Local(Stream),
    Tcp(TcpStream),
}

impl Client {
    fn serve(self, guest: &Arc<dyn Guest>, password: Option<&str>) -> std::io::Result<()> {
        let challenge = manager::random::bytes();
        match self {
            Self::Local(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                let (writer, end) = (stream.try_clone()?, stream.try_clone()?);
                let hang_up = move || drop(end.shutdown(Shutdown::Both));
                vnc::serve(
                    BufReader::new(stream),
                    BufWriter::new(writer),
                    hang_up,
                    guest,
                    password,
                    challenge,
                )
            }
            Self::Tcp(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                let (writer, end) = (stream.try_clone()?, stream.try_clone()?);
                let hang_up = move || drop(end.shutdown(Shutdown::Both));
                vnc::serve(
                    BufReader::new(stream),
                    BufWriter::new(writer),
                    hang_up,
                    guest,
                    password,
                    challenge,
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let at = |text: &str| RemoteSpec::parse(text.as_ref()).map(|spec| spec.at).ok();
        let port = |text: &str| Some(At::Port(text.parse().unwrap()));
        assert_eq!(at("5900"), port("127.0.0.1:5900"));
        assert_eq!(at("0.0.0.0:5901"), port("0.0.0.0:5901"));
        assert_eq!(at("[::1]:5901"), port("[::1]:5901"));
        assert_eq!(at("unix:a b"), Some(At::Socket("a b".into())));
        for wrong in [
            "",
            "x",
            "unix:",
            "host:",
            "1.2.3:5900",
            "70000",
            "5900,password-file=/nowhere",
        ] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
