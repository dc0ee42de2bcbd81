//! The thread: waits, and hands each packet and each event to the part that it is for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Registry, Token, Waker};

use crate::dhcp::{self, Dhcp};
use crate::forward::Forwards;
use crate::icmp::{self, Pings};
use crate::lan::{Lan, is_guest, is_ours};
use crate::tcp::{self, Tcp};
use crate::tftp::Tftp;
use crate::udp::Datagrams;
use crate::wire::{self, Arp, Frame, Ip, Udp};
use crate::{Config, Error, Forward, GATEWAY, NAME_SERVER, Sent, Shared};

const WAKER: Token = Token(0);
/// Frames of the guest that are looked at before anything else has its turn.
const MOST_FRAMES: usize = 256;
/// The largest datagram that a socket of the host hands out.
const DATAGRAM: usize = 65536;

/// Numbers for sockets, never one twice.
pub struct Tokens(usize);

impl Tokens {
    pub fn next(&mut self) -> Token {
        self.0 += 1;
        Token(self.0)
    }
}

/// Whose a socket is.
#[derive(Clone, Copy, Debug)]
pub enum Owner {
    Tcp(tcp::Key),
    Udp(SocketAddrV4),
    Ping(icmp::Key),
    Forward(usize),
}

/// What may be reached, and where it is.
pub struct Outside {
    host_loopback: bool,
    pub restrict: bool,
    resolvers: Vec<SocketAddr>,
    pub bootfile: Option<String>,
}

impl Outside {
    /// Where the host finds what the guest calls `to`; `None` for what the guest may not reach.
    pub fn route(&self, to: SocketAddrV4) -> Option<SocketAddr> {
        let ip = *to.ip();
        if self.restrict {
            return None;
        }
        if ip == GATEWAY {
            let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
            return self
                .host_loopback
                .then(|| SocketAddr::new(loopback, to.port()));
        }
        if ip == NAME_SERVER {
            return (to.port() == 53).then(|| self.resolver(0)).flatten();
        }
        let [a, b, c, _] = ip.octets();
        let nowhere = a == 0
            || a >= 224
            || ip.is_loopback()
            || [a, b, c] == [10, 0, 2]
            || ip.is_unspecified();
        (!nowhere).then_some(SocketAddr::V4(to))
    }

    /// The resolver for somebody's query number `query`.
    pub fn resolver(&self, query: usize) -> Option<SocketAddr> {
        let count = self.resolvers.len().max(1);
        self.resolvers.get(query % count).copied()
    }
}

/// What each part needs of the others.
pub struct Env<'a> {
    pub lan: &'a mut Lan,
    pub registry: &'a Registry,
    pub owners: &'a mut HashMap<Token, Owner>,
    pub tokens: &'a mut Tokens,
    pub outside: &'a Outside,
    pub now: Instant,
}

/// The thread's whole state.
pub struct Engine {
    poll: Poll,
    waker: Arc<Waker>,
    guest: Receiver<Sent>,
    shared: Arc<Shared>,
    common: Common,
    tcp: Tcp,
    datagrams: Datagrams,
    pings: Pings,
    forwards: Forwards,
    made: Vec<Forward>,
    dhcp: Dhcp,
    tftp: Tftp,
    buf: Vec<u8>,
}

struct Common {
    lan: Lan,
    owners: HashMap<Token, Owner>,
    tokens: Tokens,
    outside: Outside,
}

impl Common {
    fn env<'a>(&'a mut self, registry: &'a Registry, now: Instant) -> Env<'a> {
        Env {
            lan: &mut self.lan,
            registry,
            owners: &mut self.owners,
            tokens: &mut self.tokens,
            outside: &self.outside,
            now,
        }
    }
}

impl Engine {
    pub fn new(
        config: Config,
        guest: Receiver<Sent>,
        machine: Sender<Vec<u8>>,
        shared: Arc<Shared>,
    ) -> Result<Self, Error> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let tftp = Tftp::new(config.tftp.as_deref())?;
        let mut common = Common {
            lan: Lan::new(config.mac, machine),
            owners: HashMap::new(),
            tokens: Tokens(WAKER.0),
            outside: Outside {
                host_loopback: config.host_loopback,
                restrict: config.restrict,
                // Sockets for datagrams are of IPv4.
                resolvers: config
                    .resolvers
                    .into_iter()
                    .filter(SocketAddr::is_ipv4)
                    .collect(),
                bootfile: config.bootfile,
            },
        };
        let Common { owners, tokens, .. } = &mut common;
        let (forwards, made) = Forwards::listen(&config.forwards, poll.registry(), tokens, owners)?;
        let tcp = Tcp::new(&mut common.lan, Instant::now());
        Ok(Self {
            poll,
            waker,
            guest,
            shared,
            common,
            tcp,
            datagrams: Datagrams::default(),
            pings: Pings::default(),
            forwards,
            made,
            dhcp: Dhcp::default(),
            tftp,
            buf: vec![0; DATAGRAM],
        })
    }

    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    pub fn forwards(&self) -> Vec<Forward> {
        self.made.clone()
    }

    /// Goes on until it is told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(256);
        while !self.shared.stop.load(Ordering::SeqCst) {
            let timeout = self.timeout();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                log::error!(target: "net", "the network ends, as the host cannot wait: {error}");
                return;
            }
            let now = Instant::now();
            for event in &events {
                let Some(&owner) = self.common.owners.get(&event.token()) else {
                    continue;
                };
                let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                let writable = event.is_writable() || event.is_write_closed() || event.is_error();
                match owner {
                    Owner::Tcp(key) => {
                        let mut env = self.common.env(self.poll.registry(), now);
                        self.tcp.event(&mut env, key, readable, writable);
                    }
                    Owner::Udp(guest) => self.datagrams.event(guest),
                    Owner::Ping(key) => self.pings.event(key),
                    Owner::Forward(number) => self.forwards.event(number),
                }
            }
            let mut looked_at = 0;
            while looked_at < MOST_FRAMES
                && let Ok(frame) = self.guest.try_recv()
            {
                self.frame(&frame, now);
                looked_at += 1;
            }
            self.pump(now);
            let tcp = self.tcp.owed();
            let owed = tcp + self.datagrams.owed(now) + self.pings.owed(now);
            self.shared.owed.store(owed, Ordering::SeqCst);
            self.shared
                .done
                .fetch_add(looked_at as u64, Ordering::SeqCst);
        }
    }

    /// Lets each part do what it can.
    fn pump(&mut self, now: Instant) {
        let mut env = self.common.env(self.poll.registry(), now);
        self.forwards.pump(&mut env, &mut self.tcp, &mut self.buf);
        self.datagrams.pump(&mut env, &mut self.buf);
        self.pings.pump(&mut env, &mut self.buf);
        self.tftp.pump(&mut env);
        self.tcp.pump(&mut env);
        if self.common.lan.flush() {
            // The machine may have taken all of it before it saw the wish: then there is room now.
            self.shared.wants_room.store(true, Ordering::SeqCst);
            self.common.lan.flush();
        }
    }

    /// How long nothing has to be done by itself.
    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        if !self.guest.is_empty() || self.forwards.is_ready() {
            return Some(Duration::ZERO);
        }
        // While the guest takes nothing there is no point in looking at connections again and
        // again.
        let tcp = match self.common.lan.is_full() {
            true => None,
            false => self.tcp.deadline(),
        };
        let deadlines = [
            tcp,
            self.datagrams.deadline(now),
            self.pings.deadline(now),
            self.tftp.deadline(),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        // A wait is in whole milliseconds, and one that ends too early would only be made again.
        let wait = next.saturating_duration_since(now);
        Some(match wait.is_zero() {
            true => wait,
            false => wait + Duration::from_micros(999),
        })
    }

    /// A frame of the guest.
    fn frame(&mut self, sent: &Sent, now: Instant) {
        let Some(frame) = Frame::parse(&sent.bytes) else {
            return;
        };
        match frame.ether_type {
            wire::TYPE_ARP => self.arp(&frame),
            wire::TYPE_IPV4 => self.ip(&frame, sent.takes_large, now),
            _ => {}
        }
    }

    fn arp(&mut self, frame: &Frame<'_>) {
        let Some(arp) = Arp::parse(frame.payload) else {
            return;
        };
        self.common.lan.learn(arp.sender.1, arp.sender.0);
        if arp.request && is_ours(arp.target) {
            let reply = Arp::reply(arp.sender, arp.target);
            self.common.lan.frame(arp.sender.0, wire::TYPE_ARP, &reply);
        }
    }

    fn ip(&mut self, frame: &Frame<'_>, takes_large: bool, now: Instant) {
        let Some(ip) = Ip::parse(frame.payload) else {
            return;
        };
        let lan = &mut self.common.lan;
        lan.learn(ip.source, frame.source);
        if !ip.is_fragment() {
            return self.packet(&ip, takes_large, now);
        }
        if let Some(payload) = lan.assemble(&ip, now) {
            let ends = (ip.source, ip.destination);
            let mut whole = wire::ip_header(ends, ip.protocol, ip.id, 0, payload.len()).to_vec();
            whole.extend(&payload);
            if let Some(ip) = Ip::parse(&whole) {
                self.packet(&ip, takes_large, now);
            }
        }
    }

    /// A whole packet of the guest.
    fn packet(&mut self, ip: &Ip<'_>, takes_large: bool, now: Instant) {
        let mut env = self.common.env(self.poll.registry(), now);
        // Only who asks for an address has none.
        let has_address = is_guest(ip.source);
        let passes = !is_ours(ip.destination) && !ip.destination.is_broadcast();
        if has_address && passes && ip.hops <= 1 {
            return env.lan.time_exceeded(ip);
        }
        match ip.protocol {
            wire::UDP_PROTOCOL => self.udp(ip, now),
            wire::TCP if has_address => self.tcp.packet(&mut env, ip, takes_large),
            wire::ICMP if has_address => self.pings.packet(&mut env, ip),
            _ if has_address && is_ours(ip.destination) => env.lan.unreachable(ip, 2),
            _ => {}
        }
    }

    fn udp(&mut self, ip: &Ip<'_>, now: Instant) {
        let Some(udp) = Udp::parse((ip.source, ip.destination), ip.payload) else {
            return;
        };
        let mut env = self.common.env(self.poll.registry(), now);
        let to_us = ip.destination == GATEWAY || ip.destination.is_broadcast();
        if to_us && udp.destination == dhcp::SERVER {
            return self.dhcp.packet(&mut env, udp.payload);
        }
        if !is_guest(ip.source) {
            return;
        }
        let guest = SocketAddrV4::new(ip.source, udp.source);
        if ip.destination == GATEWAY {
            let port = udp.destination;
            if self.tftp.packet(&mut env, guest, port, udp.payload)
                || self.forwards.answers(guest, &udp, now)
            {
                return;
            }
        }
        if ip.destination.is_multicast() || ip.destination.octets()[3] == 255 {
            return;
        }
        self.datagrams.packet(&mut env, ip, &udp);
    }
}
