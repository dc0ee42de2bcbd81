//! DHCP (RFC 2131, options RFC 2132) and BOOTP (RFC 951): hands out 10.0.2.15 and on.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::engine::Env;
use crate::wire::{self, EVERYBODY, Mac};
use crate::{GATEWAY, GUEST, NAME_SERVER};

/// The server's port and the client's.
pub const SERVER: u16 = 67;
const CLIENT: u16 = 68;

/// Addresses that are handed out: each card has its own.
const MOST_LEASES: usize = 16;
/// How long one is the client's, in seconds.
const LEASE_S: u32 = 86400;

const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Bytes before the options.
const FIXED: usize = 240;
/// The least size of a message (RFC 951 §3).
const LEAST: usize = 300;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

/// The server.
#[derive(Default)]
pub struct Dhcp {
    /// Who has 10.0.2.15, 10.0.2.16, ...
    leases: Vec<Mac>,
}

/// What matters of a message.
struct Asked {
    mac: Mac,
    kind: Option<u8>,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    client: Ipv4Addr,
    broadcast: bool,
}

impl Asked {
    fn parse(message: &[u8]) -> Option<Self> {
        let fixed = message.get(..FIXED)?;
        (fixed[..3] == [1, 1, 6] && fixed[236..] == MAGIC).then_some(())?;
        let address = |bytes: &[u8]| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?));
        let mut asked = Self {
            mac: fixed[28..34].try_into().ok()?,
            kind: None,
            requested: None,
            server: None,
            client: address(&fixed[12..16])?,
            broadcast: fixed[10] & 0x80 != 0,
        };
        let mut options = &message[FIXED..];
        loop {
            match *options {
                [0, ..] => options = &options[1..],
                [] | [255, ..] | [_] => return Some(asked),
                [code, len, ..] => {
                    let Some(value) = options.get(2..2 + usize::from(len)) else {
                        return Some(asked);
                    };
                    match (code, value) {
                        (53, &[kind]) => asked.kind = Some(kind),
                        (50, value) => asked.requested = address(value),
                        (54, value) => asked.server = address(value),
                        _ => {}
                    }
                    options = &options[2 + usize::from(len)..];
                }
            }
        }
    }
}

impl Dhcp {
    /// A message to the server; `source` is the hardware address it came from.
    pub fn packet(&mut self, env: &mut Env<'_>, message: &[u8]) {
        let Some(asked) = Asked::parse(message) else {
            return;
        };
        if asked.server.is_some_and(|server| server != GATEWAY) {
            return;
        }
        let Some(lease) = self.lease(asked.mac) else {
            return;
        };
        let kind = match asked.kind {
            // BOOTP knows no kinds.
            None => None,
            Some(DISCOVER) => Some(OFFER),
            Some(REQUEST) => {
                let wanted = asked.requested.unwrap_or(asked.client);
                let ours = wanted == lease || wanted.is_unspecified();
                Some(if ours { ACK } else { NAK })
            }
            Some(INFORM) => Some(ACK),
            // An address stays with its card: nobody else is there to have it.
            Some(DECLINE | RELEASE) | Some(_) => return,
        };
        let informs = asked.kind == Some(INFORM);
        let yours = match kind {
            Some(NAK) => Ipv4Addr::UNSPECIFIED,
            _ if informs => Ipv4Addr::UNSPECIFIED,
            _ => lease,
        };
        if yours == lease {
            env.lan.learn(lease, asked.mac);
        }
        let reply = answer(env, message, kind, yours, informs);
        // Who has no address yet cannot be told by one (RFC 2131 §4.1).
        let (mac, to) = match asked.client.is_unspecified() || kind == Some(NAK) {
            true if asked.broadcast || kind == Some(NAK) => (EVERYBODY, Ipv4Addr::BROADCAST),
            true => (asked.mac, Ipv4Addr::BROADCAST),
            false => (asked.mac, asked.client),
        };
        let from = SocketAddrV4::new(GATEWAY, SERVER);
        let datagram = wire::udp(from, SocketAddrV4::new(to, CLIENT), &reply);
        env.lan
            .send_to(mac, GATEWAY, to, wire::UDP_PROTOCOL, &datagram);
    }

    fn lease(&mut self, mac: Mac) -> Option<Ipv4Addr> {
        let known = self.leases.iter().position(|lease| *lease == mac);
        let number = known.or_else(|| {
            (self.leases.len() < MOST_LEASES).then(|| {
                self.leases.push(mac);
                self.leases.len() - 1
            })
        })?;
        let [a, b, c, d] = GUEST.octets();
        Some(Ipv4Addr::new(a, b, c, d + number as u8))
    }
}

/// The answer to `message`.
fn answer(
    env: &Env<'_>,
    message: &[u8],
    kind: Option<u8>,
    yours: Ipv4Addr,
    informs: bool,
) -> Vec<u8> {
    let mut reply = vec![0; FIXED];
    reply[..4].copy_from_slice(&[2, 1, 6, 0]);
    // Transaction, and flags, and the address that the client has.
    reply[4..8].copy_from_slice(&message[4..8]);
    reply[10..12].copy_from_slice(&message[10..12]);
    reply[28..44].copy_from_slice(&message[28..44]);
    reply[236..].copy_from_slice(&MAGIC);
    let mut option = |code: u8, value: &[u8]| {
        let len = value.len().min(255);
        reply.extend([code, len as u8]);
        reply.extend(&value[..len]);
    };
    if let Some(kind) = kind {
        option(53, &[kind]);
        option(54, &GATEWAY.octets());
    }
    if kind != Some(NAK) {
        option(1, &[255, 255, 255, 0]);
        option(28, &[10, 0, 2, 255]);
        if !env.outside.restrict {
            option(3, &GATEWAY.octets());
            option(6, &NAME_SERVER.octets());
        }
        if kind.is_some() && !informs {
            option(51, &LEASE_S.to_be_bytes());
        }
        if let Some(bootfile) = env.outside.bootfile.as_deref() {
            option(66, GATEWAY.to_string().as_bytes());
            option(67, bootfile.as_bytes());
        }
    }
    reply.push(255);
    reply.resize(reply.len().max(LEAST), 0);
    if kind != Some(NAK) {
        reply[16..20].copy_from_slice(&yours.octets());
        reply[20..24].copy_from_slice(&GATEWAY.octets());
        if informs {
            reply[12..16].copy_from_slice(&message[12..16]);
        }
        if let Some(bootfile) = env.outside.bootfile.as_deref() {
            let name = &bootfile.as_bytes()[..bootfile.len().min(127)];
            reply[108..108 + name.len()].copy_from_slice(name);
        }
    }
    reply
}
