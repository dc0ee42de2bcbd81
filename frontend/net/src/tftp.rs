//! TFTP (RFC 1350) with options (RFC 2347), block size (RFC 2348), timeout and size (RFC 2349):
//! reads only.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddrV4;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use log::debug;

use crate::engine::Env;
use crate::{Error, GATEWAY};

const TARGET: &str = "net";

/// The port of requests.
pub const PORT: u16 = 69;
/// The first port from which files are sent, and how many there are: each transfer has its own.
const FIRST_PORT: u16 = 20000;
/// Transfers at a time.
const MOST_TRANSFERS: usize = 64;
/// How often a block is sent again.
const TRIES: u32 = 6;
/// The largest block (RFC 2348 allows 65464, which must be taken apart into fragments).
const MOST_BLOCK: usize = 1468;
const BLOCK: usize = 512;

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

const NOT_FOUND: u16 = 1;
const NO_ACCESS: u16 = 2;
const ILLEGAL: u16 = 4;
const UNKNOWN: u16 = 5;

struct Transfer {
    port: u16,
    file: File,
    block_bytes: usize,
    /// The block that was sent last, counted from 1; 0 is the list of options.
    block: u64,
    packet: Vec<u8>,
    /// It was shorter than a block.
    last: bool,
    timeout: Duration,
    sent: Instant,
    tries: u32,
}

/// The server.
pub struct Tftp {
    /// The folder, without links in its own path.
    root: Option<PathBuf>,
    transfers: HashMap<SocketAddrV4, Transfer>,
    next_port: u16,
}

impl Tftp {
    /// A server of the files in `root`; of none without.
    ///
    /// # Errors
    /// It is no folder.
    pub fn new(root: Option<&Path>) -> Result<Self, Error> {
        let whole = |root: &Path| match root.canonicalize() {
            Ok(whole) if whole.is_dir() => Ok(whole),
            Ok(_) => Err("a file".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let root = root.map(|root| {
            whole(root).map_err(|found| Error::Tftp {
                path: root.display().to_string(),
                found,
            })
        });
        Ok(Self {
            root: root.transpose()?,
            transfers: HashMap::new(),
            next_port: FIRST_PORT,
        })
    }

    /// Whether anything is served.
    pub fn is_on(&self) -> bool {
        self.root.is_some()
    }

    /// A datagram to the server's port, or to one of a transfer. Returns whether it is ours.
    pub fn packet(
        &mut self,
        env: &mut Env<'_>,
        guest: SocketAddrV4,
        port: u16,
        message: &[u8],
    ) -> bool {
        if port == PORT && self.is_on() {
            self.request(env, guest, message);
            return true;
        }
        let ours = self.transfers.get(&guest).is_some_and(|t| t.port == port);
        if ours {
            self.answered(env, guest, message);
        }
        ours
    }

    fn request(&mut self, env: &mut Env<'_>, guest: SocketAddrV4, message: &[u8]) {
        let refuse = |env: &mut Env<'_>, code, why: &str| {
            env.lan
                .udp(SocketAddrV4::new(GATEWAY, PORT), guest, &error(code, why));
        };
        let Some((&[a, b], rest)) = message.split_first_chunk() else {
            return;
        };
        match u16::from_be_bytes([a, b]) {
            READ => {}
            WRITE => return refuse(env, NO_ACCESS, "files are only read here"),
            ERROR => return,
            _ => return refuse(env, ILLEGAL, "a request is expected here"),
        }
        let mut words = rest.split(|&byte| byte == 0);
        let (Some(name), Some(mode)) = (words.next(), words.next()) else {
            return refuse(env, ILLEGAL, "a request without a name or a mode");
        };
        if mode.eq_ignore_ascii_case(b"mail") {
            return refuse(env, ILLEGAL, "mail is not taken here");
        }
        let name = String::from_utf8_lossy(name);
        let file = match self.open(&name) {
            Ok(file) => file,
            Err((code, why)) => {
                debug!(target: TARGET, "tftp {name}: {why}");
                return refuse(env, code, why);
            }
        };
        let Ok(size) = file.metadata().map(|metadata| metadata.len()) else {
            return refuse(env, NOT_FOUND, "the file cannot be read");
        };
        if self.transfers.len() >= MOST_TRANSFERS && !self.transfers.contains_key(&guest) {
            return refuse(env, 0, "too many transfers");
        }
        debug!(target: TARGET, "tftp {name}: {size} bytes to {guest}");
        let mut transfer = Transfer {
            port: self.next_port,
            file,
            block_bytes: BLOCK,
            block: 0,
            packet: OPTIONS.to_be_bytes().to_vec(),
            last: false,
            timeout: Duration::from_secs(1),
            sent: env.now,
            tries: 0,
        };
        self.next_port = match self.next_port {
            port if port >= FIRST_PORT + 9999 => FIRST_PORT,
            port => port + 1,
        };
        while let (Some(option), Some(value)) = (words.next(), words.next()) {
            transfer.take_option(option, value, size);
        }
        if transfer.packet.len() == 2 {
            transfer.next_block();
        }
        transfer.send(env, guest);
        self.transfers.insert(guest, transfer);
    }

    /// Opens a file in the folder, and nothing else: no name leads out of it, by dots or by links.
    fn open(&self, name: &str) -> Result<File, (u16, &'static str)> {
        let missing = (NOT_FOUND, "there is no such file");
        let root = self.root.as_ref().ok_or(missing)?;
        let name = name.replace('\\', "/");
        let relative = Path::new(name.trim_start_matches('/'));
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err((NO_ACCESS, "the name leads out of the folder"));
        }
        let whole = root.join(relative).canonicalize().map_err(|_| missing)?;
        if !whole.starts_with(root) {
            return Err((NO_ACCESS, "the name leads out of the folder"));
        }
        // A FIFO would keep everybody waiting.
        if !whole.is_file() {
            return Err((NOT_FOUND, "this is no file"));
        }
        File::open(&whole).map_err(|_| (NO_ACCESS, "the file cannot be read"))
    }

    fn answered(&mut self, env: &mut Env<'_>, guest: SocketAddrV4, message: &[u8]) {
        let Some(transfer) = self.transfers.get_mut(&guest) else {
            return;
        };
        let &[a, b, c, d, ..] = message else {
            return;
        };
        match u16::from_be_bytes([a, b]) {
            ACK => {}
            ERROR => {
                self.transfers.remove(&guest);
                return;
            }
            _ => {
                let from = SocketAddrV4::new(GATEWAY, transfer.port);
                return env.lan.udp(
                    from,
                    guest,
                    &error(UNKNOWN, "an acknowledgement is expected"),
                );
            }
        }
        // Of a block that was acknowledged before, nothing is sent again: else each would be sent
        // twice for ever.
        if u16::from_be_bytes([c, d]) != transfer.block as u16 {
            return;
        }
        if transfer.last {
            self.transfers.remove(&guest);
            return;
        }
        transfer.next_block();
        transfer.send(env, guest);
    }

    /// Sends again what was not acknowledged.
    pub fn pump(&mut self, env: &mut Env<'_>) {
        self.transfers.retain(|&guest, transfer| {
            if transfer.sent + transfer.timeout > env.now {
                return true;
            }
            transfer.tries += 1;
            if transfer.tries < TRIES {
                let tries = transfer.tries;
                transfer.send(env, guest);
                transfer.tries = tries;
            }
            transfer.tries < TRIES
        });
    }

    /// When something is to be sent again.
    pub fn deadline(&self) -> Option<Instant> {
        let transfers = self.transfers.values();
        transfers
            .map(|transfer| transfer.sent + transfer.timeout)
            .min()
    }
}

impl Transfer {
    fn take_option(&mut self, option: &[u8], value: &[u8], size: u64) {
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|value| value.parse::<u64>().ok());
        let Some(number) = number else {
            return;
        };
        let granted = if option.eq_ignore_ascii_case(b"blksize") && number >= 8 {
            self.block_bytes = number.min(MOST_BLOCK as u64) as usize;
            self.block_bytes as u64
        } else if option.eq_ignore_ascii_case(b"timeout") && (1..=255).contains(&number) {
            self.timeout = Duration::from_secs(number);
            number
        } else if option.eq_ignore_ascii_case(b"tsize") {
            size
        } else {
            return;
        };
        self.packet.extend(option.to_ascii_lowercase());
        self.packet.push(0);
        self.packet.extend(granted.to_string().bytes());
        self.packet.push(0);
    }

    fn next_block(&mut self) {
        let start = self.block * self.block_bytes as u64;
        self.block += 1;
        self.packet.clear();
        self.packet.extend(DATA.to_be_bytes());
        self.packet.extend((self.block as u16).to_be_bytes());
        let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| {
            let mut part = (&mut self.file).take(self.block_bytes as u64);
            part.read_to_end(&mut self.packet)
        });
        match read {
            Ok(count) => self.last = count < self.block_bytes,
            Err(_) => {
                self.packet = error(0, "the file cannot be read any more");
                self.last = true;
            }
        }
    }

    fn send(&mut self, env: &mut Env<'_>, guest: SocketAddrV4) {
        self.sent = env.now;
        self.tries = 0;
        let from = SocketAddrV4::new(GATEWAY, self.port);
        env.lan.udp(from, guest, &self.packet);
    }
}

fn error(code: u16, why: &str) -> Vec<u8> {
    let mut message = ERROR.to_be_bytes().to_vec();
    message.extend(code.to_be_bytes());
    message.extend(why.bytes());
    message.push(0);
    message
}
