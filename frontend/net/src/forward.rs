//! Ports of the host that lead into the guest.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use log::debug;
use mio::net::{TcpListener, UdpSocket};
use mio::{Interest, Registry, Token};

use crate::engine::{Env, Owner, Tokens};
use crate::tcp::{self, Tcp};
use crate::wire::Udp;
use crate::{Error, Forward, Protocol};

const TARGET: &str = "net";

/// Senders to one forwarded UDP port at a time, and how long one is remembered.
const MOST_PEERS: usize = 256;
const IDLE: Duration = Duration::from_secs(120);
/// Connections or datagrams that one look at a port takes.
const MOST_AT_ONCE: usize = 64;
/// The first of the gateway's ports that datagrams into the guest come from.
const FIRST_PORT: u16 = 32768;

enum Socket {
    Tcp(TcpListener),
    Udp {
        socket: UdpSocket,
        /// By the gateway's port that stands for the sender.
        peers: HashMap<u16, (SocketAddr, Instant)>,
        next_port: u16,
    },
}

struct Port {
    socket: Socket,
    guest: SocketAddrV4,
    readable: bool,
}

/// All forwarded ports.
#[derive(Default)]
pub struct Forwards {
    ports: Vec<Port>,
}

impl Forwards {
    /// Listens. Returns it with where each port really is.
    ///
    /// # Errors
    /// A port that is not free or not allowed, or an address that the guest cannot have.
    pub fn listen(
        wanted: &[Forward],
        registry: &Registry,
        tokens: &mut Tokens,
        owners: &mut HashMap<Token, Owner>,
    ) -> Result<(Self, Vec<Forward>), Error> {
        let mut forwards = Self::default();
        let mut made = Vec::new();
        for (number, forward) in wanted.iter().enumerate() {
            let token = tokens.next();
            let refuse = |why: String| Error::Forward(format!("hostfwd={forward}: {why}"));
            if !tcp::may_offer(*forward.guest.ip()) || forward.guest.port() == 0 {
                return Err(refuse(format!(
                    "expected a port of an address from 10.0.2.4 to 10.0.2.254, found {}; \
                     leave the address out for 10.0.2.15",
                    forward.guest
                )));
            }
            let (socket, host) = open(forward, registry, token)
                .map_err(|error| refuse(in_users_words(&error, forward)))?;
            owners.insert(token, Owner::Forward(number));
            forwards.ports.push(Port {
                socket,
                guest: forward.guest,
                readable: true,
            });
            made.push(Forward { host, ..*forward });
        }
        Ok((forwards, made))
    }

    /// Something came to a port.
    pub fn event(&mut self, number: usize) {
        if let Some(port) = self.ports.get_mut(number) {
            port.readable = true;
        }
    }

    /// Hands on what has come.
    pub fn pump(&mut self, env: &mut Env<'_>, connections: &mut Tcp, buf: &mut [u8]) {
        for port in &mut self.ports {
            for _ in 0..MOST_AT_ONCE {
                if !port.readable {
                    break;
                }
                match &mut port.socket {
                    Socket::Tcp(listener) => match listener.accept() {
                        Ok((stream, _)) => connections.offer(env, stream, port.guest),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => {
                            port.readable = false;
                            if error.kind() != ErrorKind::WouldBlock {
                                debug!(target: TARGET, "a forwarded port: {error}");
                            }
                        }
                    },
                    Socket::Udp {
                        socket,
                        peers,
                        next_port,
                    } => match socket.recv_from(buf) {
                        Ok((len, from)) => {
                            let number = peer_port(peers, next_port, from, env.now);
                            let seen = SocketAddrV4::new(crate::GATEWAY, number);
                            env.lan.udp(seen, port.guest, &buf[..len]);
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                        Err(_) => port.readable = false,
                    },
                }
            }
        }
    }

    /// Whether there is more than the last look took.
    pub fn is_ready(&self) -> bool {
        self.ports.iter().any(|port| port.readable)
    }

    /// Takes a datagram of the guest that answers one which came through a forwarded port.
    pub fn answers(&mut self, from: SocketAddrV4, udp: &Udp<'_>, now: Instant) -> bool {
        for port in &mut self.ports {
            if let Socket::Udp { socket, peers, .. } = &mut port.socket
                && port.guest == from
                && let Some((peer, last)) = peers.get_mut(&udp.destination)
            {
                *last = now;
                // As on any network, what cannot be sent is lost.
                let _ = socket.send_to(udp.payload, *peer);
                return true;
            }
        }
        false
    }
}

/// The gateway's port that stands for a sender.
fn peer_port(
    peers: &mut HashMap<u16, (SocketAddr, Instant)>,
    next_port: &mut u16,
    from: SocketAddr,
    now: Instant,
) -> u16 {
    if let Some((&number, peer)) = peers.iter_mut().find(|(_, (peer, _))| *peer == from) {
        peer.1 = now;
        return number;
    }
    peers.retain(|_, (_, last)| now.duration_since(*last) < IDLE);
    if peers.len() >= MOST_PEERS {
        let oldest = peers.iter().min_by_key(|(_, (_, last))| *last);
        if let Some((&oldest, _)) = oldest {
            peers.remove(&oldest);
        }
    }
    // There are far more numbers than peers.
    while peers.contains_key(next_port) {
        *next_port = next_port.checked_add(1).unwrap_or(FIRST_PORT);
    }
    let number = *next_port;
    *next_port = next_port.checked_add(1).unwrap_or(FIRST_PORT);
    peers.insert(number, (from, now));
    number
}

fn open(
    forward: &Forward,
    registry: &Registry,
    token: Token,
) -> std::io::Result<(Socket, SocketAddrV4)> {
    let at = SocketAddr::V4(forward.host);
    let v4 = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => forward.host,
    };
    match forward.protocol {
        Protocol::Tcp => {
            let mut listener = TcpListener::bind(at)?;
            registry.register(&mut listener, token, Interest::READABLE)?;
            let host = v4(listener.local_addr()?);
            Ok((Socket::Tcp(listener), host))
        }
        Protocol::Udp => {
            let mut socket = UdpSocket::bind(at)?;
            registry.register(&mut socket, token, Interest::READABLE)?;
            let host = v4(socket.local_addr()?);
            let socket = Socket::Udp {
                socket,
                peers: HashMap::new(),
                next_port: FIRST_PORT,
            };
            Ok((socket, host))
        }
    }
}

fn in_users_words(error: &std::io::Error, forward: &Forward) -> String {
    let port = forward.host.port();
    match error.kind() {
        ErrorKind::AddrInUse => {
            let holder = host::sockets::holder(forward.protocol == Protocol::Tcp, port);
            let holder = holder.map_or_else(String::new, |holder| format!(" by {holder}"));
            format!("expected a free port, found port {port} in use{holder}; choose another one")
        }
        ErrorKind::PermissionDenied => format!(
            "expected a port that users may have, found that the host refuses port {port}; choose one from 1024 on"
        ),
        ErrorKind::AddrNotAvailable => format!(
            "expected an address of this host, found {}; leave it out for loopback, or give 0.0.0.0 for all",
            forward.host.ip()
        ),
        _ => format!("expected a port to listen at, found: {error}; choose another one"),
    }
}

/// What a forwarded port looks like, for messages.
const FORM: &str = "expected tcp|udp:[HOST:]PORT-[GUEST:]PORT, such as tcp:2222-22";

impl std::str::FromStr for Forward {
    type Err = String;

    /// Reads `tcp|udp:[HOST:]PORT-[GUEST:]PORT`, with loopback where no HOST and 10.0.2.15 where no
    /// GUEST stands.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |found: &str| format!("{FORM}, found `{found}`");
        let (protocol, rest) = text.split_once(':').ok_or_else(|| refuse(text))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(refuse(other)),
        };
        let (host, guest) = rest.split_once('-').ok_or_else(|| refuse(rest))?;
        let end = |text: &str, default: Ipv4Addr| -> Result<SocketAddrV4, String> {
            let (address, port) = text.rsplit_once(':').unwrap_or(("", text));
            let address = match address {
                "" => default,
                address => address.parse().map_err(|_| refuse(text))?,
            };
            let port = port.parse().map_err(|_| refuse(text))?;
            Ok(SocketAddrV4::new(address, port))
        };
        Ok(Self {
            protocol,
            host: end(host, Ipv4Addr::LOCALHOST)?,
            guest: end(guest, crate::GUEST)?,
        })
    }
}

impl std::fmt::Display for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol}:{}-{}", self.host, self.guest)
    }
}
