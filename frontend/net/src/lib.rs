//! User-mode network address translation: the frames of a guest's network card on one side,
//! ordinary sockets of the host on the other. Needs no rights.
//!
//! The guest's network is 10.0.2.0/24 (RFC 1918), as QEMU's users know it:
//!
//! | address | who |
//! |---|---|
//! | 10.0.2.2 | the gateway, which answers pings, serves DHCP and TFTP, and stands for the host's loopback |
//! | 10.0.2.3 | the name server: queries go to the host's resolvers |
//! | 10.0.2.15 and on | the guest, by DHCP |
//!
//! [`start`] starts one thread, whatever the number of connections. It waits in `mio` for sockets
//! and for the machine. TCP is ended here, by `smoltcp`, and begun anew by a socket of the host: a
//! connection of the guest is accepted once the host's is there, so that the guest sees a refusal
//! as one. Bytes wait where they are while the other side takes none: windows close and sockets of
//! the host fill up, and nothing grows here.
//!
//! Everything that the guest sends is looked at byte by byte; what is malformed is dropped. All
//! tables are bounded: see the constants of each part.
//!
//! | file | what |
//! |---|---|
//! | `engine.rs` | the thread: waits, and hands each packet and each event to the part that it is for |
//! | `wire.rs` | headers of Ethernet, ARP, IPv4, UDP and ICMP, and their checksums |
//! | `lan.rs` | the guest's network: who is where, frames that wait for the guest, fragments |
//! | `tcp.rs`, `udp.rs`, `icmp.rs` | connections, datagrams and pings to the outside |
//! | `forward.rs` | ports of the host that lead into the guest |
//! | `dhcp.rs`, `tftp.rs` | what the gateway serves itself |
//!
//! Not there: IPv6, IP options, multicast, and what needs raw sockets. Where the host does not let
//! its users ping, only the gateway and the name server answer pings.
#![forbid(unsafe_code)]

mod dhcp;
mod engine;
mod forward;
mod icmp;
mod lan;
mod tcp;
mod tftp;
mod udp;
mod wire;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;

/// The gateway: the host, as the guest sees it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The first address that DHCP hands out.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Frames that wait between the machine and the thread, each way.
const QUEUE: usize = 256;
/// How long the machine waits for the thread to take a frame before it is lost.
const PATIENCE: Duration = Duration::from_millis(50);

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host that leads into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where the host listens; port 0 is any that is free.
    pub host: SocketAddrV4,
    /// Where that leads.
    pub guest: SocketAddrV4,
}

/// What the network is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address of the guest's card, where frames go that are for nobody who has spoken yet.
    pub mac: [u8; 6],
    /// Whether 10.0.2.2 stands for the host's loopback.
    pub host_loopback: bool,
    /// Whether the guest is kept from everything but forwarded ports, DHCP and TFTP.
    pub restrict: bool,
    /// The folder that TFTP serves.
    pub tftp: Option<PathBuf>,
    /// The file's name that DHCP gives to who boots by network.
    pub bootfile: Option<String>,
    /// Ports of the host that lead into the guest.
    pub forwards: Vec<Forward>,
    /// Where queries for names go.
    pub resolvers: Vec<SocketAddr>,
}

impl Default for Config {
    /// Everything may be reached, nothing is forwarded, and nobody resolves names.
    fn default() -> Self {
        Self {
            mac: [0x52, 0x54, 0x00, 0x12, 0x34, 0x56],
            host_loopback: true,
            restrict: false,
            tftp: None,
            bootfile: None,
            forwards: Vec::new(),
            resolvers: Vec::new(),
        }
    }
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A forwarded port cannot be listened at.
    #[error("{0}")]
    Forward(String),
    /// The folder for TFTP.
    #[error("tftp={path}: expected a folder that can be read, found {found}; name another one")]
    Tftp {
        /// As it was given.
        path: String,
        /// What is there.
        found: String,
    },
    /// The host has no thread or no means to wait.
    #[error(
        "expected a thread and a poll of this host for the network, found: {0}; close some programs"
    )]
    Host(#[from] std::io::Error),
}

/// A frame of the guest.
#[derive(Debug)]
struct Sent {
    bytes: Vec<u8>,
    /// Its card takes TCP segments of up to 64 KiB.
    takes_large: bool,
}

/// What both ends look at.
#[derive(Debug, Default)]
struct Shared {
    /// Frames that the machine has sent, and that the thread has acted on.
    sent: AtomicU64,
    done: AtomicU64,
    /// Sockets from which an answer may come.
    owed: AtomicUsize,
    /// The thread waits for room in the queue to the machine.
    wants_room: AtomicBool,
    stop: AtomicBool,
}

/// The machine's end. Dropping it ends the thread.
#[derive(Debug)]
pub struct Link {
    to_net: Sender<Sent>,
    from_net: Receiver<Vec<u8>>,
    waker: Arc<Waker>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    forwards: Vec<Forward>,
}

/// Starts the network's thread.
///
/// # Errors
/// A forwarded port is not free, the folder for TFTP is none, or the host refuses a thread.
pub fn start(config: Config) -> Result<Link, Error> {
    let (to_net, guest) = bounded(QUEUE);
    let (machine, from_net) = bounded(QUEUE);
    let shared = Arc::new(Shared::default());
    let engine = engine::Engine::new(config, guest, machine, Arc::clone(&shared))?;
    let waker = engine.waker();
    let forwards = engine.forwards();
    let thread = std::thread::Builder::new()
        .name("net".into())
        .spawn(move || engine.run())?;
    Ok(Link {
        to_net,
        from_net,
        waker,
        shared,
        thread: Some(thread),
        forwards,
    })
}

impl Link {
    /// The guest sends a frame, without its checksum. Where the thread is busy for long the frame
    /// is lost, as on a wire. [`flush`](Self::flush) follows after the last one.
    pub fn send(&self, frame: Vec<u8>) {
        self.hand_on(Sent {
            bytes: frame,
            takes_large: false,
        });
    }

    /// As [`send`](Self::send), by a card that takes TCP segments of up to 64 KiB in return, with their checksum but
    /// not cut into packets. This frame may be one.
    pub fn send_large(&self, frame: Vec<u8>) {
        self.hand_on(Sent {
            bytes: frame,
            takes_large: true,
        });
    }

    fn hand_on(&self, frame: Sent) {
        let frame = match self.to_net.try_send(frame) {
            Err(crossbeam_channel::TrySendError::Full(frame)) => {
                self.flush();
                match self.to_net.send_timeout(frame, PATIENCE) {
                    Ok(()) => None,
                    Err(error) => Some(error.into_inner()),
                }
            }
            Err(crossbeam_channel::TrySendError::Disconnected(frame)) => Some(frame),
            Ok(()) => None,
        };
        if frame.is_none() {
            self.shared.sent.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Frames were sent.
    pub fn flush(&self) {
        // A waker that fails is one whose thread has ended; there is nobody to tell.
        let _ = self.waker.wake();
    }

    /// Frames for the guest: who takes some calls [`took`](Self::took).
    pub fn frames(&self) -> &Receiver<Vec<u8>> {
        &self.from_net
    }

    /// Frames were taken, and there may be room for more.
    pub fn took(&self) {
        if self.shared.wants_room.swap(false, Ordering::SeqCst) {
            self.flush();
        }
    }

    /// Whether something may still come by itself: a frame that was not looked at yet, a connection
    /// whose other end is not closed, or an answer to a datagram of late.
    pub fn owes(&self) -> bool {
        let shared = &self.shared;
        shared.done.load(Ordering::SeqCst) != shared.sent.load(Ordering::SeqCst)
            || shared.owed.load(Ordering::SeqCst) > 0
            || !self.from_net.is_empty()
    }

    /// The ports that are forwarded, with those that the host chose.
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.flush();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
