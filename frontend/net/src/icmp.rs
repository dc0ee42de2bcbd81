//! Ping: the gateway and the name server answer by themselves, others by a socket of the host for
//! pings, where the host lets its users have one (Linux: `net.ipv4.ping_group_range`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use log::debug;
use mio::net::UdpSocket;
use mio::{Interest, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::engine::{Env, Owner};
use crate::lan::is_ours;
use crate::wire::{self, Ip};

const TARGET: &str = "net";

const ECHO_REPLY: u8 = 0;
const ECHO: u8 = 8;
/// "Communication administratively prohibited" (RFC 1812 §5.2.7.1).
const PROHIBITED: u8 = 13;

/// Programs that ping at a time.
const MOST_FLOWS: usize = 64;
const IDLE: Duration = Duration::from_secs(60);
/// For how long an answer is waited for.
const OWED: Duration = Duration::from_secs(5);
const MOST_AT_ONCE: usize = 64;

/// Who pings: the guest and the identifier of its echo requests.
pub type Key = (Ipv4Addr, u16);

struct Flow {
    socket: UdpSocket,
    token: Token,
    /// The last one that was asked, as the guest sees it, and whether it has answered.
    seen: Ipv4Addr,
    real: IpAddr,
    active: Instant,
    owes: bool,
    readable: bool,
}

/// All who ping.
#[derive(Default)]
pub struct Pings {
    flows: HashMap<Key, Flow>,
}

impl Pings {
    /// An ICMP message of the guest.
    pub fn packet(&mut self, env: &mut Env<'_>, ip: &Ip<'_>) {
        let Some((&[kind, code, _, _, a, b, _, _], payload)) = ip.payload.split_first_chunk()
        else {
            return;
        };
        if (kind, code) != (ECHO, 0) || wire::sum(0, ip.payload) != 0xFFFF {
            return;
        }
        if is_ours(ip.destination) {
            let rest: [u8; 4] = [a, b, ip.payload[6], ip.payload[7]];
            let reply = wire::icmp(ECHO_REPLY, 0, rest, payload);
            return env.lan.send(ip.destination, ip.source, wire::ICMP, &reply);
        }
        let to = std::net::SocketAddrV4::new(ip.destination, 0);
        let Some(address) = env.outside.route(to) else {
            return env
                .lan
                .unreachable(ip, if env.outside.restrict { PROHIBITED } else { 1 });
        };
        let key = (ip.source, u16::from_be_bytes([a, b]));
        if !self.flows.contains_key(&key)
            && let Err(error) = self.open(env, key)
        {
            debug!(target: TARGET, "a socket for pings: {error}");
            return env.lan.unreachable(ip, PROHIBITED);
        }
        if let Some(flow) = self.flows.get_mut(&key) {
            (flow.seen, flow.real) = (ip.destination, address.ip());
            (flow.active, flow.owes) = (env.now, true);
            if let Err(error) = flow.socket.send_to(ip.payload, address) {
                debug!(target: TARGET, "a ping to {address}: {error}");
                env.lan.unreachable(ip, 1);
            }
        }
    }

    fn open(&mut self, env: &mut Env<'_>, key: Key) -> std::io::Result<()> {
        if self.flows.len() >= MOST_FLOWS {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.active);
            if let Some((&oldest, _)) = oldest {
                self.remove(env, oldest);
            }
        }
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        let mut socket = UdpSocket::from_std(socket.into());
        let token = env.tokens.next();
        env.registry
            .register(&mut socket, token, Interest::READABLE)?;
        env.owners.insert(token, Owner::Ping(key));
        let flow = Flow {
            socket,
            token,
            seen: Ipv4Addr::UNSPECIFIED,
            real: Ipv4Addr::UNSPECIFIED.into(),
            active: env.now,
            owes: false,
            readable: false,
        };
        self.flows.insert(key, flow);
        Ok(())
    }

    /// An answer came.
    pub fn event(&mut self, key: Key) {
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.readable = true;
        }
    }

    /// Hands on what has come, and closes what was idle for long.
    pub fn pump(&mut self, env: &mut Env<'_>, buf: &mut [u8]) {
        for (&(guest, id), flow) in &mut self.flows {
            for _ in 0..MOST_AT_ONCE {
                if !flow.readable {
                    break;
                }
                let Ok((len, from)) = flow.socket.recv_from(buf) else {
                    flow.readable = false;
                    break;
                };
                flow.owes = false;
                if let Some(reply) = answer(&buf[..len], from, flow.real, id) {
                    env.lan.send(flow.seen, guest, wire::ICMP, &reply);
                }
            }
        }
        let idle: Vec<_> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.active + IDLE <= env.now)
            .map(|(&key, _)| key)
            .collect();
        for key in idle {
            self.remove(env, key);
        }
    }

    /// When something is to be done without an event.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let of = |flow: &Flow| match flow.readable {
            true => now,
            false => flow.active + IDLE,
        };
        self.flows.values().map(of).min()
    }

    /// How many answers are waited for.
    pub fn owed(&self, now: Instant) -> usize {
        let flows = self.flows.values();
        flows
            .filter(|flow| flow.owes && now.duration_since(flow.active) < OWED)
            .count()
    }

    fn remove(&mut self, env: &mut Env<'_>, key: Key) {
        if let Some(mut flow) = self.flows.remove(&key) {
            env.owners.remove(&flow.token);
            // It is closed in a moment anyway.
            let _ = env.registry.deregister(&mut flow.socket);
        }
    }
}

/// The answer as the guest's program expects it, under its own identifier.
fn answer(bytes: &[u8], from: SocketAddr, asked: IpAddr, id: u16) -> Option<Vec<u8>> {
    // Some hosts hand out the IP header too.
    let message = match bytes.first()? >> 4 {
        4 => Ip::parse(bytes).map(|ip| ip.payload)?,
        _ => bytes,
    };
    let (&[kind, _, _, _, _, _, c, d], payload) = message.split_first_chunk()?;
    (kind == ECHO_REPLY && from.ip() == asked).then_some(())?;
    let [a, b] = id.to_be_bytes();
    Some(wire::icmp(ECHO_REPLY, 0, [a, b, c, d], payload))
}
