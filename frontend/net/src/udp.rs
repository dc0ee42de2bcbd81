//! UDP: each port of the guest from which something leaves has a socket of the host.
//!
//! What comes to that socket reaches the guest if the guest has sent something to that address
//! before.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use log::debug;
use mio::net::UdpSocket;
use mio::{Interest, Token};

use crate::engine::{Env, Owner};
use crate::wire::{Ip, Udp};

const TARGET: &str = "net";

/// Ports of the guest at a time.
const MOST_FLOWS: usize = 256;
/// Addresses that one port has sent to of late.
const MOST_PEERS: usize = 32;
/// How long after the last datagram a port stays open (RFC 4787 §4.3); after a query for a name:
/// shorter.
const IDLE: Duration = Duration::from_secs(120);
const QUERY_IDLE: Duration = Duration::from_secs(15);
/// For how long an answer is waited for.
const OWED: Duration = Duration::from_secs(5);
/// Datagrams that one look at a socket takes.
const MOST_AT_ONCE: usize = 64;
/// The largest datagram.
const MOST_BYTES: usize = 65507;
const DNS: u16 = 53;

/// Whom the guest has sent something.
struct Peer {
    /// As the guest sees it, and where it is.
    seen: SocketAddrV4,
    real: SocketAddr,
    asked: Instant,
    owes: bool,
}

struct Flow {
    socket: UdpSocket,
    token: Token,
    peers: Vec<Peer>,
    active: Instant,
    readable: bool,
    /// How many queries for names it has sent: an unanswered one goes to the next resolver.
    queries: usize,
}

/// All ports of the guest.
#[derive(Default)]
pub struct Datagrams {
    flows: HashMap<SocketAddrV4, Flow>,
}

impl Datagrams {
    /// A datagram of the guest, to the outside.
    pub fn packet(&mut self, env: &mut Env<'_>, ip: &Ip<'_>, udp: &Udp<'_>) {
        let guest = SocketAddrV4::new(ip.source, udp.source);
        let seen = SocketAddrV4::new(ip.destination, udp.destination);
        if env.outside.route(seen).is_none() {
            let prohibited = env.outside.restrict;
            return env.lan.unreachable(ip, if prohibited { 13 } else { 3 });
        }
        if !self.flows.contains_key(&guest) && !self.open(env, guest) {
            return;
        }
        let Some(flow) = self.flows.get_mut(&guest) else {
            return;
        };
        let is_query = seen == SocketAddrV4::new(crate::NAME_SERVER, DNS);
        let real = match is_query {
            true => env.outside.resolver(flow.queries),
            false => env.outside.route(seen),
        };
        let Some(real) = real else {
            return;
        };
        flow.queries += usize::from(is_query);
        flow.active = env.now;
        let known = flow
            .peers
            .iter_mut()
            .find(|peer| peer.real == real && peer.seen == seen);
        match known {
            Some(peer) => (peer.asked, peer.owes) = (env.now, true),
            None => {
                if flow.peers.len() >= MOST_PEERS {
                    flow.peers.remove(0);
                }
                flow.peers.push(Peer {
                    seen,
                    real,
                    asked: env.now,
                    owes: true,
                });
            }
        }
        // As on any network, what cannot be sent is lost.
        if let Err(error) = flow.socket.send_to(udp.payload, real) {
            debug!(target: TARGET, "a datagram to {real}: {error}");
        }
    }

    fn open(&mut self, env: &mut Env<'_>, guest: SocketAddrV4) -> bool {
        if self.flows.len() >= MOST_FLOWS {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.active);
            if let Some((&oldest, _)) = oldest {
                self.remove(env, oldest);
            }
        }
        let token = env.tokens.next();
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let opened = UdpSocket::bind(any).and_then(|mut socket| {
            env.registry
                .register(&mut socket, token, Interest::READABLE)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                env.owners.insert(token, Owner::Udp(guest));
                let flow = Flow {
                    socket,
                    token,
                    peers: Vec::new(),
                    active: env.now,
                    readable: false,
                    queries: 0,
                };
                self.flows.insert(guest, flow);
                true
            }
            Err(error) => {
                debug!(target: TARGET, "a socket for datagrams: {error}");
                false
            }
        }
    }

    /// Something came to the socket of the guest's port.
    pub fn event(&mut self, guest: SocketAddrV4) {
        if let Some(flow) = self.flows.get_mut(&guest) {
            flow.readable = true;
        }
    }

    /// Hands on what has come, and closes what was idle for long.
    pub fn pump(&mut self, env: &mut Env<'_>, buf: &mut [u8]) {
        for (&guest, flow) in &mut self.flows {
            for _ in 0..MOST_AT_ONCE {
                if !flow.readable {
                    break;
                }
                match flow.socket.recv_from(buf) {
                    Ok((len, from)) if len <= MOST_BYTES => {
                        let peer = flow.peers.iter_mut().rev().find(|peer| peer.real == from);
                        if let Some(peer) = peer {
                            peer.owes = false;
                            flow.active = env.now;
                            env.lan.udp(peer.seen, guest, &buf[..len]);
                        }
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    // An error of an earlier datagram is told here too: then there may be more.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                    Err(_) => flow.readable = false,
                }
            }
        }
        let idle: Vec<_> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.active + flow.patience() <= env.now)
            .map(|(&guest, _)| guest)
            .collect();
        for guest in idle {
            self.remove(env, guest);
        }
    }

    /// When something is to be done without an event.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let of = |flow: &Flow| match flow.readable {
            true => now,
            false => flow.active + flow.patience(),
        };
        self.flows.values().map(of).min()
    }

    /// How many answers are waited for.
    pub fn owed(&self, now: Instant) -> usize {
        let peers = self.flows.values().flat_map(|flow| &flow.peers);
        peers
            .filter(|peer| peer.owes && now.duration_since(peer.asked) < OWED)
            .count()
    }

    fn remove(&mut self, env: &mut Env<'_>, guest: SocketAddrV4) {
        if let Some(mut flow) = self.flows.remove(&guest) {
            env.owners.remove(&flow.token);
            // It is closed in a moment anyway.
            let _ = env.registry.deregister(&mut flow.socket);
        }
    }
}

impl Flow {
    fn patience(&self) -> Duration {
        let queries = self.peers.iter().all(|peer| peer.seen.port() == DNS);
        if queries { QUERY_IDLE } else { IDLE }
    }
}
