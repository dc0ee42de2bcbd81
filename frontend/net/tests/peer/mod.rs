//! A guest's end of the network: frames, and an IP stack that makes some.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use net::{Config, Link};
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{AnySocket, tcp, udp};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// What is waited for at most: nothing here takes as long, but on a host that is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Wire {
    pub link: Link,
    pub inbox: VecDeque<Vec<u8>>,
    /// The card takes TCP segments of up to 64 KiB, and the largest frame that came.
    pub takes_large: bool,
    pub largest: usize,
}

pub struct Rx(Vec<u8>);
pub struct Tx<'a>(&'a Wire);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        match self.0.takes_large {
            true => self.0.link.send_large(frame),
            false => self.0.link.send(frame),
        }
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.inbox.pop_front()?;
        self.largest = self.largest.max(frame.len());
        Some((Rx(frame), Tx(self)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Tx<'_>> {
        Some(Tx(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

pub struct Peer {
    pub wire: Wire,
    pub interface: Interface,
    pub sockets: SocketSet<'static>,
    started: Instant,
    next_port: u16,
}

impl Peer {
    /// A guest with the address 10.0.2.15.
    pub fn new(config: Config) -> Self {
        let mut peer = Self::without_address(config);
        peer.set_address();
        peer
    }

    pub fn without_address(config: Config) -> Self {
        let mut wire = Wire {
            link: net::start(config).expect("a network"),
            inbox: VecDeque::new(),
            takes_large: false,
            largest: 0,
        };
        let config = iface::Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC)));
        Self {
            interface: Interface::new(config, &mut wire, SmolInstant::ZERO),
            wire,
            sockets: SocketSet::new(Vec::new()),
            started: Instant::now(),
            next_port: 40000,
        }
    }

    pub fn set_address(&mut self) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(net::GUEST.into(), 24)).unwrap();
        });
        let routes = self.interface.routes_mut();
        routes.add_default_ipv4_route(net::GATEWAY).unwrap();
    }

    fn now(&self) -> SmolInstant {
        SmolInstant::from_micros(self.started.elapsed().as_micros() as i64)
    }

    /// Lets the stack run once, and waits a moment for a frame if there was none.
    pub fn step(&mut self) {
        let now = self.now();
        let frames = self.wire.link.frames().try_iter();
        self.wire.inbox.extend(frames.take(256));
        self.wire.link.took();
        if self.wire.inbox.is_empty()
            && let Ok(frame) = self
                .wire
                .link
                .frames()
                .recv_timeout(Duration::from_micros(300))
        {
            self.wire.inbox.push_back(frame);
        }
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        self.wire.link.flush();
    }

    /// Runs until `found` finds something.
    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(result) = found(self) {
                return result;
            }
            assert!(started.elapsed() < PATIENCE, "no {what}");
            self.step();
        }
    }

    pub fn socket<T: AnySocket<'static>>(&mut self, handle: SocketHandle) -> &mut T {
        self.sockets.get_mut(handle)
    }

    pub fn tcp_socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65535]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        self.sockets.add(socket)
    }

    /// Begins a connection.
    pub fn connect(&mut self, to: Ipv4Addr, port: u16) -> SocketHandle {
        let handle = self.tcp_socket();
        self.next_port += 1;
        let context = self.interface.context();
        let socket: &mut tcp::Socket = self.sockets.get_mut(handle);
        socket.connect(context, (to, port), self.next_port).unwrap();
        handle
    }

    pub fn udp_socket(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 65536]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    /// Sends a datagram and waits for what comes back: its sender's address and port, and what it
    /// says.
    pub fn ask(
        &mut self,
        handle: SocketHandle,
        to: (Ipv4Addr, u16),
        question: &[u8],
    ) -> (Ipv4Addr, u16, Vec<u8>) {
        let socket: &mut udp::Socket = self.socket(handle);
        socket.send_slice(question, to).unwrap();
        self.hear(handle)
    }

    pub fn hear(&mut self, handle: SocketHandle) -> (Ipv4Addr, u16, Vec<u8>) {
        self.until("answer", |peer| {
            let socket: &mut udp::Socket = peer.socket(handle);
            let (bytes, from) = socket.recv().ok()?;
            let smoltcp::wire::IpAddress::Ipv4(address) = from.endpoint.addr;
            Some((address, from.endpoint.port, bytes.to_vec()))
        })
    }

    /// Sends all of `bytes`, and then closes if it is to.
    pub fn send_all(&mut self, handle: SocketHandle, bytes: &[u8], close: bool) {
        let mut rest = bytes;
        self.until("room to send", |peer| {
            let socket: &mut tcp::Socket = peer.socket(handle);
            if socket.can_send() {
                let sent = socket.send_slice(rest).unwrap();
                rest = &rest[sent..];
            }
            rest.is_empty().then_some(())
        });
        if close {
            self.socket::<tcp::Socket>(handle).close();
        }
    }

    /// Takes what comes until the other end closes.
    pub fn read_to_end(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut all = Vec::new();
        self.until("end", |peer| {
            let socket: &mut tcp::Socket = peer.socket(handle);
            while socket.can_recv() {
                socket
                    .recv(|bytes| {
                        all.extend_from_slice(bytes);
                        (bytes.len(), ())
                    })
                    .unwrap();
            }
            use tcp::State::{Listen, SynReceived, SynSent};
            let begun = !matches!(socket.state(), Listen | SynSent | SynReceived);
            (begun && !socket.may_recv()).then_some(())
        });
        all
    }
}
