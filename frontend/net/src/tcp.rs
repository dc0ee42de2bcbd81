//! TCP: each connection of the guest ends here, in a socket of `smoltcp`, and goes on in one of the
//! host.
//!
//! A connection has a socket set of its own, so that a packet costs the same whatever the number of
//! connections. The first packet of a connection waits until the host is connected: only then the
//! guest's is accepted, and a refusal of the other end is a refusal to the guest.
//!
//! Each direction moves bytes only as far as the other side takes them. The buffers here are the
//! windows that each side sees.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4};
use std::time::{Duration, Instant};

use log::debug;
use mio::net::TcpStream;
use mio::{Interest, Token};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint};
use socket2::SockRef;

use crate::engine::{Env, Owner};
use crate::lan::{Lan, is_guest};
use crate::wire::{self, ETHERNET, IPV4, Ip, LARGEST, MTU};

const TARGET: &str = "net";

/// Connections at a time.
const MOST_FLOWS: usize = 512;
/// What the guest has sent and the host has not taken; and the other way.
const FROM_GUEST: usize = 64 << 10;
const TO_GUEST: usize = 128 << 10;
/// Packets of a connection that wait to be looked at: no more come between two looks.
const MOST_INBOX: usize = 256;
/// How long a connection to the guest may take to be accepted.
const ACCEPTED: Duration = Duration::from_secs(30);
/// How long nothing may happen: on an open connection (RFC 5382 §5), and on one of which one end is
/// closed.
const IDLE: Duration = Duration::from_secs(2 * 3600 + 240);
const HALF_CLOSED: Duration = Duration::from_secs(600);
/// From then on an idle connection makes place for a new one.
const MAKES_PLACE: Duration = Duration::from_secs(300);
/// The first of the gateway's ports that connections into the guest come from.
const FIRST_PORT: u16 = 49152;

/// The guest's end and the other one, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    guest: SocketAddrV4,
    other: SocketAddrV4,
}

/// How far a connection is.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The host is about to connect: this is the guest's first packet.
    Connecting(Vec<u8>),
    /// The guest has not accepted a connection yet that came from the host.
    Offered,
    Open,
}

struct Flow {
    stage: Stage,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    inbox: VecDeque<Vec<u8>>,
    host: TcpStream,
    token: Token,
    /// The guest's card takes segments of up to 64 KiB.
    large: bool,
    /// What the host's socket was last known to be ready for.
    readable: bool,
    writable: bool,
    /// The host's end will send no more.
    host_ended: bool,
    /// The guest will send no more, and the host was told.
    guest_ended: bool,
    /// The guest's end closes, or has closed, in good order.
    orderly: bool,
    queued: bool,
    deadline: Option<Instant>,
    active: Instant,
}

/// Our end of the connections: one for ordinary cards, and one for those that take large segments.
struct Ours([Interface; 2]);

impl Ours {
    /// The larger packet is the payload of the largest frame.
    const MTU: [usize; 2] = [MTU, LARGEST];

    /// Looks at a packet that came, and makes those that are due.
    fn poll(
        &mut self,
        large: bool,
        time: SmolInstant,
        inbox: &mut VecDeque<Vec<u8>>,
        lan: &mut Lan,
        last_words: bool,
        sockets: &mut SocketSet<'static>,
    ) {
        let kind = usize::from(large);
        let mut wire = Wire {
            inbox,
            lan,
            last_words,
            mtu: Self::MTU[kind],
        };
        self.0[kind].poll(time, &mut wire, sockets);
    }
}

/// All connections.
pub struct Tcp {
    ours: Ours,
    nobody: SocketSet<'static>,
    flows: HashMap<Key, Flow>,
    ready: VecDeque<Key>,
    started: Instant,
    next_port: u16,
}

/// The packet to be looked at, and the way to the guest.
struct Wire<'a> {
    inbox: &'a mut VecDeque<Vec<u8>>,
    lan: &'a mut Lan,
    /// What is said now must be said, as there is no second time.
    last_words: bool,
    /// The largest packet.
    mtu: usize,
}

struct Packet(Vec<u8>);
struct ToGuest<'a>(&'a mut Lan);

impl RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for ToGuest<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; ETHERNET + len];
        let result = f(&mut frame[ETHERNET..]);
        self.0.packet(frame);
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'a>
        = Packet
    where
        Self: 'a;
    type TxToken<'a>
        = ToGuest<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: SmolInstant) -> Option<(Packet, ToGuest<'_>)> {
        let packet = self.inbox.pop_front()?;
        Some((Packet(packet), ToGuest(self.lan)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<ToGuest<'_>> {
        (self.last_words || !self.lan.is_full()).then_some(ToGuest(self.lan))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

fn endpoint(address: SocketAddrV4) -> IpEndpoint {
    IpEndpoint::new((*address.ip()).into(), address.port())
}

impl Flow {
    fn new(stage: Stage, host: TcpStream, token: Token, now: Instant) -> Self {
        let buffer = |len| SocketBuffer::new(vec![0; len]);
        let mut socket = Socket::new(buffer(FROM_GUEST), buffer(TO_GUEST));
        // What a program of the host sends comes in pieces as it was sent.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self {
            stage,
            sockets,
            socket,
            inbox: VecDeque::new(),
            host,
            token,
            large: false,
            readable: false,
            writable: false,
            host_ended: false,
            guest_ended: false,
            orderly: false,
            queued: false,
            deadline: None,
            active: now,
        }
    }

    fn poll(&mut self, ours: &mut Ours, time: SmolInstant, lan: &mut Lan, last_words: bool) {
        let (inbox, sockets) = (&mut self.inbox, &mut self.sockets);
        ours.poll(self.large, time, inbox, lan, last_words, sockets);
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// Moves bytes as far as both sides go. Returns whether any were.
    ///
    /// # Errors
    /// The host's connection broke.
    fn transfer(&mut self) -> io::Result<bool> {
        let mut moved = false;
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        while self.writable && socket.can_recv() {
            let host = &mut self.host;
            let written = socket.recv(|bytes| match host.write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Ok(0)) => self.writable = false,
                Ok(Ok(_)) => moved = true,
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        let guest_closed = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        self.orderly |= guest_closed;
        let ended = guest_closed || self.orderly && socket.state() == State::Closed;
        if ended && !self.guest_ended && !socket.can_recv() {
            self.guest_ended = true;
            moved = true;
            // An end that is gone already needs no word of it.
            let _ = self.host.shutdown(Shutdown::Write);
        }
        while self.readable && socket.can_send() {
            let host = &mut self.host;
            let read = socket.send(|room| match host.read(room) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    self.readable = false;
                    self.host_ended = true;
                    moved = true;
                    socket.close();
                }
                Ok(Ok(_)) => moved = true,
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        Ok(moved)
    }

    /// How long nothing may happen from now on.
    fn patience(&self) -> Duration {
        match self.stage {
            Stage::Offered => ACCEPTED,
            _ if self.host_ended || self.guest_ended => HALF_CLOSED,
            _ => IDLE,
        }
    }

    /// The other end sees a reset, not an end.
    fn reset_host(&self) {
        // Where it does not work the other end sees an end.
        let _ = SockRef::from(&self.host).set_linger(Some(Duration::ZERO));
    }
}

/// Our end of all connections, with packets of up to `mtu` bytes.
fn interface(lan: &mut Lan, mtu: usize) -> Interface {
    let mut wire = Wire {
        inbox: &mut VecDeque::new(),
        lan,
        last_words: false,
        mtu,
    };
    let mut config = Config::new(HardwareAddress::Ip);
    // From it come the numbers that sequences start with.
    config.random_seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
    let mut interface = Interface::new(config, &mut wire, SmolInstant::ZERO);
    interface.update_ip_addrs(|addresses| {
        // The list holds one at least.
        let _ = addresses.push(IpCidr::new(crate::GATEWAY.into(), 24));
    });
    // Whatever the guest wants to reach is here.
    interface.set_any_ip(true);
    let routed = interface
        .routes_mut()
        .add_default_ipv4_route(crate::GATEWAY);
    assert!(routed.is_ok(), "there is room for one route");
    interface
}

impl Tcp {
    pub fn new(lan: &mut Lan, started: Instant) -> Self {
        Self {
            ours: Ours(Ours::MTU.map(|mtu| interface(lan, mtu))),
            nobody: SocketSet::new(Vec::new()),
            flows: HashMap::new(),
            ready: VecDeque::new(),
            started,
            next_port: FIRST_PORT,
        }
    }

    fn time(&self, now: Instant) -> SmolInstant {
        SmolInstant::from_micros(now.duration_since(self.started).as_micros() as i64)
    }

    fn queue(&mut self, key: Key) {
        if let Some(flow) = self.flows.get_mut(&key)
            && !flow.queued
        {
            flow.queued = true;
            self.ready.push_back(key);
        }
    }

    /// How many connections may still bring something by themselves.
    pub fn owed(&self) -> usize {
        self.flows.values().filter(|flow| !flow.host_ended).count()
    }

    /// Answers a packet of no connection, as RFC 9293 §3.5.2 has it: with a reset, unless it is
    /// one.
    fn refuse(&mut self, env: &mut Env<'_>, packet: &[u8]) {
        let time = self.time(env.now);
        let mut inbox = VecDeque::from([packet.to_vec()]);
        self.ours
            .poll(false, time, &mut inbox, env.lan, true, &mut self.nobody);
    }

    /// A packet of the guest, and whether its card takes segments of up to 64 KiB.
    pub fn packet(&mut self, env: &mut Env<'_>, ip: &Ip<'_>, takes_large: bool) {
        let (Some(&[a, b, c, d]), Some(&flags)) = (ip.payload.first_chunk(), ip.payload.get(13))
        else {
            return;
        };
        let key = Key {
            guest: SocketAddrV4::new(ip.source, u16::from_be_bytes([a, b])),
            other: SocketAddrV4::new(ip.destination, u16::from_be_bytes([c, d])),
        };
        // SYN without ACK and RST begins a connection.
        let begins = flags & 0x16 == 0x02;
        let mut whole = ip.whole.to_vec();
        let opens = flags & 0x06 == 0x02;
        if opens && takes_large {
            // The card takes what it then cuts into segments as large as the guest's end says.
            wire::set_segment_size(&mut whole, (LARGEST - IPV4 - 20) as u16);
        }
        if let Some(flow) = self.flows.get_mut(&key) {
            let over = flow.socket().state() == State::TimeWait;
            if !(begins && over) {
                if flow.stage == Stage::Open || flow.stage == Stage::Offered {
                    flow.large |= opens && takes_large;
                    if flow.inbox.len() < MOST_INBOX {
                        flow.inbox.push_back(whole);
                    }
                    self.queue(key);
                } else if flags & 0x04 != 0 {
                    // The guest does not want it any more.
                    self.remove(env, key);
                }
                return;
            }
            self.remove(env, key);
        }
        if begins {
            self.begin(env, key, ip, whole, takes_large);
        } else {
            self.refuse(env, ip.whole);
        }
    }

    /// Connects to the other end, to look at the guest's packet when it is there.
    fn begin(
        &mut self,
        env: &mut Env<'_>,
        key: Key,
        ip: &Ip<'_>,
        first: Vec<u8>,
        takes_large: bool,
    ) {
        let Some(address) = env.outside.route(key.other) else {
            return self.refuse(env, ip.whole);
        };
        if !self.has_room(env) {
            debug!(target: TARGET, "{} connections: no room for one to {address}", self.flows.len());
            return self.refuse(env, ip.whole);
        }
        let token = env.tokens.next();
        let connected = TcpStream::connect(address).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            env.registry.register(&mut stream, token, interest)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => {
                let mut flow = Flow::new(Stage::Connecting(first), stream, token, env.now);
                flow.large = takes_large;
                env.owners.insert(token, Owner::Tcp(key));
                self.flows.insert(key, flow);
            }
            Err(error) => {
                debug!(target: TARGET, "{address}: {error}");
                self.refuse_as(env, ip, &error);
            }
        }
    }

    /// Tells the guest why the host could not connect.
    fn refuse_as(&mut self, env: &mut Env<'_>, ip: &Ip<'_>, error: &io::Error) {
        match error.kind() {
            ErrorKind::NetworkUnreachable => env.lan.unreachable(ip, 0),
            ErrorKind::HostUnreachable | ErrorKind::TimedOut => env.lan.unreachable(ip, 1),
            _ => self.refuse(env, ip.whole),
        }
    }

    /// Whether one more connection fits, if need be in the place of one that was idle for long.
    fn has_room(&mut self, env: &mut Env<'_>) -> bool {
        if self.flows.len() < MOST_FLOWS {
            return true;
        }
        let idle = self.flows.iter().min_by_key(|(_, flow)| flow.active);
        let Some((&key, flow)) = idle else {
            return false;
        };
        let makes_place = env.now.duration_since(flow.active) >= MAKES_PLACE;
        if makes_place {
            self.abort(env, key);
        }
        makes_place
    }

    /// Somebody connected to a forwarded port: offers that to the guest at `guest`.
    pub fn offer(&mut self, env: &mut Env<'_>, mut stream: TcpStream, guest: SocketAddrV4) {
        if !self.has_room(env) {
            return;
        }
        let Some(key) = self.free_port(guest) else {
            return;
        };
        let token = env.tokens.next();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = env.registry.register(&mut stream, token, interest) {
            debug!(target: TARGET, "a forwarded connection: {error}");
            return;
        }
        // What was sent at once is seen by the first event; without one nothing is there.
        let mut flow = Flow::new(Stage::Offered, stream, token, env.now);
        let (to, from) = (endpoint(key.guest), endpoint(key.other));
        let context = self.ours.0[0].context();
        let connected = flow
            .sockets
            .get_mut::<Socket>(flow.socket)
            .connect(context, to, from);
        if connected.is_err() {
            return;
        }
        env.owners.insert(token, Owner::Tcp(key));
        self.flows.insert(key, flow);
        self.queue(key);
    }

    /// A port of the gateway from which no connection leads to `guest`.
    fn free_port(&mut self, guest: SocketAddrV4) -> Option<Key> {
        (0..=MOST_FLOWS).find_map(|_| {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            let other = SocketAddrV4::new(crate::GATEWAY, port);
            let key = Key { guest, other };
            (!self.flows.contains_key(&key)).then_some(key)
        })
    }

    /// The host's socket of a connection is ready for something.
    pub fn event(&mut self, env: &mut Env<'_>, key: Key, readable: bool, writable: bool) {
        let Some(flow) = self.flows.get_mut(&key) else {
            return;
        };
        flow.readable |= readable && !flow.host_ended;
        flow.writable |= writable;
        if let Stage::Connecting(first) = &mut flow.stage {
            let error = match flow.host.take_error() {
                Ok(None) => match flow.host.peer_addr() {
                    Ok(_) => None,
                    // Not yet: it said that it can be read or written to for another reason.
                    Err(error) if error.kind() == ErrorKind::NotConnected => return,
                    Err(error) => Some(error),
                },
                Ok(Some(error)) | Err(error) => Some(error),
            };
            let first = std::mem::take(first);
            if let Some(error) = error {
                debug!(target: TARGET, "{}: {error}", key.other);
                self.remove(env, key);
                if let Some(ip) = Ip::parse(&first) {
                    self.refuse_as(env, &ip, &error);
                }
                return;
            }
            // Small pieces, such as keys, go on at once.
            let _ = flow.host.set_nodelay(true);
            flow.stage = Stage::Open;
            flow.writable = true;
            flow.active = env.now;
            let listens = flow.socket().listen(endpoint(key.other));
            assert!(listens.is_ok(), "a new socket can listen");
            flow.inbox.push_back(first);
        }
        self.queue(key);
    }

    /// Looks at all connections to which something happened.
    pub fn pump(&mut self, env: &mut Env<'_>) {
        for (&key, flow) in &mut self.flows {
            if !flow.queued && flow.deadline.is_some_and(|deadline| deadline <= env.now) {
                flow.queued = true;
                self.ready.push_back(key);
            }
        }
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else {
                return;
            };
            self.pump_one(env, key);
        }
    }

    fn pump_one(&mut self, env: &mut Env<'_>, key: Key) {
        let time = self.time(env.now);
        let Some(flow) = self.flows.get_mut(&key) else {
            return;
        };
        flow.queued = false;
        let heard = !flow.inbox.is_empty();
        flow.poll(&mut self.ours, time, env.lan, false);
        let state = flow.socket().state();
        if flow.stage == Stage::Offered {
            match state {
                State::SynSent | State::SynReceived => {}
                State::Closed => {
                    flow.reset_host();
                    return self.remove(env, key);
                }
                _ => {
                    flow.stage = Stage::Open;
                    let _ = flow.host.set_nodelay(true);
                }
            }
        }
        let mut moved = false;
        if flow.stage == Stage::Open {
            // What the host sends goes on as room comes, but one connection must not keep the
            // others waiting.
            for _ in 0..4 {
                match flow.transfer() {
                    Ok(false) => break,
                    Ok(true) => {
                        moved = true;
                        flow.poll(&mut self.ours, time, env.lan, false);
                    }
                    Err(error) => {
                        debug!(target: TARGET, "{}: {error}", key.other);
                        return self.abort(env, key);
                    }
                }
            }
        }
        if heard || moved {
            flow.active = env.now;
        }
        let state = flow.socket().state();
        if matches!(state, State::Closed | State::TimeWait) {
            if state == State::Closed && !flow.orderly {
                flow.reset_host();
                return self.remove(env, key);
            }
            if flow.guest_ended {
                return self.remove(env, key);
            }
        }
        let idle = flow.active + flow.patience();
        if idle <= env.now {
            return self.abort(env, key);
        }
        let next = self.ours.0[usize::from(flow.large)].poll_at(time, &flow.sockets);
        let next = next.map(|at| {
            let micros = (at.total_micros() - time.total_micros()).max(0) as u64;
            env.now + Duration::from_micros(micros)
        });
        flow.deadline = Some(next.map_or(idle, |next| next.min(idle)));
    }

    /// When a connection has something to do by itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.flows.values().filter_map(|flow| flow.deadline).min()
    }

    /// Ends a connection on both sides by a reset.
    fn abort(&mut self, env: &mut Env<'_>, key: Key) {
        let time = self.time(env.now);
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.socket().abort();
            flow.inbox.clear();
            flow.poll(&mut self.ours, time, env.lan, true);
            flow.reset_host();
        }
        self.remove(env, key);
    }

    fn remove(&mut self, env: &mut Env<'_>, key: Key) {
        if let Some(mut flow) = self.flows.remove(&key) {
            env.owners.remove(&flow.token);
            // It is closed in a moment anyway.
            let _ = env.registry.deregister(&mut flow.host);
        }
    }
}

/// Whether connections may lead to this address of the guest's network.
pub fn may_offer(guest: Ipv4Addr) -> bool {
    is_guest(guest)
}
