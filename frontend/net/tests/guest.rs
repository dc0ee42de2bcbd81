//! The network as a guest sees it: against an IP stack, on the host's loopback alone.

mod peer;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use net::{Config, GATEWAY, GUEST, NAME_SERVER};
use peer::Peer;
use smoltcp::socket::{dhcpv4, icmp, tcp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr};

fn config() -> Config {
    Config {
        mac: peer::MAC,
        ..Config::default()
    }
}

/// Some bytes that are not all alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n ^ n >> 8 ^ n >> 16) as u8).collect()
}

/// A server on loopback that does `serve` with each connection.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::sync::Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = std::sync::Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    port
}

#[test]
fn dhcp_gives_address_gateway_and_name_server() {
    let mut peer = Peer::without_address(config());
    let handle = peer.sockets.add(dhcpv4::Socket::new());
    let lease = peer.until("lease", |peer| {
        match peer.socket::<dhcpv4::Socket>(handle).poll()? {
            dhcpv4::Event::Configured(config) => {
                Some((config.address, config.router, config.dns_servers.to_vec()))
            }
            dhcpv4::Event::Deconfigured => None,
        }
    });
    assert_eq!(lease.0.address(), GUEST);
    assert_eq!(lease.0.prefix_len(), 24);
    assert_eq!(lease.1, Some(GATEWAY));
    assert_eq!(lease.2, [NAME_SERVER]);
}

#[test]
fn the_gateway_answers_pings() {
    let mut peer = Peer::new(config());
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(7)).unwrap();
    let handle = peer.sockets.add(socket);
    for (number, to) in [GATEWAY, NAME_SERVER].into_iter().enumerate() {
        let data = pattern(1000);
        let echo = Icmpv4Repr::EchoRequest {
            ident: 7,
            seq_no: number as u16,
            data: &data,
        };
        let socket: &mut icmp::Socket = peer.socket(handle);
        let mut room = socket.send(echo.buffer_len(), to.into()).unwrap();
        let mut packet = Icmpv4Packet::new_unchecked(&mut room);
        echo.emit(&mut packet, &Default::default());
        let reply = peer.until("reply", |peer| {
            let socket: &mut icmp::Socket = peer.socket(handle);
            let (bytes, from) = socket.recv().ok()?;
            assert_eq!(from, to.into());
            Some(bytes.to_vec())
        });
        assert_eq!((reply[0], reply.len()), (0, 1008));
        assert_eq!(reply[8..], data);
    }
}

#[test]
fn a_connection_carries_bytes_both_ways_and_each_way_ends_by_itself() {
    let sent = pattern(3_000_000);
    let wanted = sent.clone();
    let port = server(move |mut stream| {
        // All that the guest says, before a word is said: the guest's end is seen, and ours is open
        // still.
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, wanted);
        stream.write_all(&heard[..2_000_000]).unwrap();
    });
    let mut peer = Peer::new(config());
    let handle = peer.connect(GATEWAY, port);
    peer.send_all(handle, &sent, true);
    assert_eq!(peer.read_to_end(handle), sent[..2_000_000]);
    peer.until("end of the connection", |peer| {
        let state = peer.socket::<tcp::Socket>(handle).state();
        matches!(state, tcp::State::TimeWait | tcp::State::Closed).then_some(())
    });
}

#[test]
fn a_card_that_takes_large_segments_gets_some_and_another_none() {
    let sent = pattern(3_000_000);
    let wanted = sent.clone();
    let port = server(move |mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, wanted);
        stream.write_all(&heard).unwrap();
    });
    for takes_large in [false, true] {
        let mut peer = Peer::new(config());
        peer.wire.takes_large = takes_large;
        let handle = peer.connect(GATEWAY, port);
        peer.send_all(handle, &sent, true);
        assert_eq!(peer.read_to_end(handle), sent);
        let largest = peer.wire.largest;
        match takes_large {
            true => assert!(largest > 10_000, "{largest}"),
            false => assert!(largest <= 1514, "{largest}"),
        }
    }
}

#[test]
fn the_host_may_end_its_way_first() {
    let port = server(|mut stream| {
        stream.write_all(b"a line").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_eq!(heard.len(), 100_000);
        // Who hears of that sees that all of it arrived.
        stream.set_nodelay(true).unwrap();
    });
    let mut peer = Peer::new(config());
    let handle = peer.connect(GATEWAY, port);
    assert_eq!(peer.read_to_end(handle), b"a line");
    peer.send_all(handle, &pattern(100_000), true);
    peer.until("end of the connection", |peer| {
        let state = peer.socket::<tcp::Socket>(handle).state();
        (state == tcp::State::Closed).then_some(())
    });
}

#[test]
fn a_slow_guest_holds_the_server_back_and_a_slow_server_the_guest() {
    let (tell, told) = std::sync::mpsc::channel();
    let port = server(move |mut stream| {
        stream.set_nonblocking(true).unwrap();
        let block = pattern(65536);
        let mut sent = 0usize;
        let mut quiet = 0;
        // Until nothing was taken for a while.
        while quiet < 50 {
            match stream.write(&block) {
                Ok(count) => (sent, quiet) = (sent + count, 0),
                Err(_) => {
                    quiet += 1;
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
        tell.send(sent).unwrap();
    });
    let mut peer = Peer::new(config());
    let handle = peer.connect(GATEWAY, port);
    let sent = peer.until("server that is held back", |_| told.try_recv().ok());
    // The buffers of two sockets of the host, of the connection and of the guest: far from all that
    // could be sent.
    assert!(sent < 16 << 20, "{sent} bytes");
    assert!(sent > 65536);
    let socket: &mut tcp::Socket = peer.socket(handle);
    assert_eq!(socket.recv_queue(), 65535);
    assert_eq!(peer.read_to_end(handle).len(), sent);
}

#[test]
fn a_refusal_and_a_reset_reach_the_guest() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut peer = Peer::new(config());
    let refused = peer.connect(GATEWAY, port);
    let ended = |peer: &mut Peer, handle| {
        peer.until("reset", |peer| {
            let state = peer.socket::<tcp::Socket>(handle).state();
            (state == tcp::State::Closed).then_some(())
        });
    };
    ended(&mut peer, refused);
    let port = server(|mut stream| {
        let mut one = [0];
        stream.read_exact(&mut one).unwrap();
        // With something unread, the host says reset and not end.
    });
    let broken = peer.connect(GATEWAY, port);
    peer.send_all(broken, &pattern(100), false);
    ended(&mut peer, broken);
}

#[test]
fn a_reset_of_the_guest_reaches_the_host() {
    let (tell, told) = std::sync::mpsc::channel();
    let port = server(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        let mut heard = Vec::new();
        tell.send(stream.read_to_end(&mut heard)).unwrap();
    });
    let mut peer = Peer::new(config());
    let handle = peer.connect(GATEWAY, port);
    peer.until("greeting", |peer| {
        peer.socket::<tcp::Socket>(handle).can_recv().then_some(())
    });
    peer.socket::<tcp::Socket>(handle).abort();
    let end = peer.until("word of the server", |_| told.try_recv().ok());
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn two_hundred_connections_at_once() {
    let port = server(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        stream.write_all(&heard).unwrap();
    });
    let mut peer = Peer::new(config());
    let handles: Vec<_> = (0..200).map(|_| peer.connect(GATEWAY, port)).collect();
    peer.until("200 connections", |peer| {
        let open = |&handle: &_| peer.socket::<tcp::Socket>(handle).may_send();
        handles.iter().all(open).then_some(())
    });
    for (number, &handle) in handles.iter().enumerate() {
        peer.send_all(handle, &pattern(1000 + number), true);
    }
    for (number, &handle) in handles.iter().enumerate() {
        assert_eq!(peer.read_to_end(handle), pattern(1000 + number));
    }
}

#[test]
fn datagrams_go_out_and_answers_come_back_from_whom_they_were_sent_to() {
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let mut peer = Peer::new(config());
    let handle = peer.udp_socket(5000);
    let echo = thread::spawn(move || {
        let mut buf = [0; 2000];
        let (len, from) = host.recv_from(&mut buf).unwrap();
        // The guest has not asked this one.
        other.send_to(b"unasked", from).unwrap();
        host.send_to(&buf[..len], from).unwrap();
    });
    let answer = peer.ask(handle, (GATEWAY, port), b"are you there?");
    assert_eq!(answer, (GATEWAY, port, b"are you there?".to_vec()));
    echo.join().unwrap();
}

#[test]
fn queries_for_names_go_to_the_resolvers_in_turn() {
    let (silent, resolver) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let resolvers = [&silent, &resolver].map(|socket| socket.local_addr().unwrap());
    let mut peer = Peer::new(Config {
        resolvers: resolvers.to_vec(),
        host_loopback: false,
        ..config()
    });
    thread::spawn(move || {
        let mut buf = [0; 512];
        let (len, from) = resolver.recv_from(&mut buf).unwrap();
        resolver.send_to(&buf[..len], from).unwrap();
    });
    let handle = peer.udp_socket(5000);
    let socket: &mut smoltcp::socket::udp::Socket = peer.socket(handle);
    socket.send_slice(b"query", (NAME_SERVER, 53)).unwrap();
    let answer = peer.ask(handle, (NAME_SERVER, 53), b"query");
    assert_eq!(answer, (NAME_SERVER, 53, b"query".to_vec()));
}

#[test]
fn forwarded_ports_lead_into_the_guest() {
    let forwards = ["tcp:0-80", "udp:0-81"].map(|text| text.parse().unwrap());
    let mut peer = Peer::new(Config {
        forwards: forwards.to_vec(),
        restrict: true,
        ..config()
    });
    let [tcp_at, udp_at] = [0, 1].map(|n| SocketAddr::V4(peer.wire.link.forwards()[n].host));
    assert!(tcp_at.ip().is_loopback());

    let handle = peer.tcp_socket();
    peer.socket::<tcp::Socket>(handle).listen(80).unwrap();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(tcp_at).unwrap();
        stream.write_all(&pattern(200_000)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        heard
    });
    peer.until("connection", |peer| {
        peer.socket::<tcp::Socket>(handle).is_active().then_some(())
    });
    assert_eq!(peer.read_to_end(handle), pattern(200_000));
    peer.send_all(handle, &pattern(100_000), true);
    peer.until("end of the client", |_| client.is_finished().then_some(()));
    assert_eq!(client.join().unwrap(), pattern(100_000));

    let handle = peer.udp_socket(81);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"knock", udp_at).unwrap();
    let (address, port, said) = peer.hear(handle);
    assert_eq!((address, said.as_slice()), (GATEWAY, &b"knock"[..]));
    let socket: &mut smoltcp::socket::udp::Socket = peer.socket(handle);
    socket
        .send_slice(b"who is there?", (address, port))
        .unwrap();
    client.set_nonblocking(true).unwrap();
    let mut buf = [0; 100];
    let len = peer.until("answer", |_| client.recv(&mut buf).ok());
    assert_eq!(&buf[..len], b"who is there?");
}

#[test]
fn a_port_in_the_guest_that_nobody_listens_at_resets_the_client() {
    let mut peer = Peer::new(Config {
        forwards: vec!["tcp:0-80".parse().unwrap()],
        ..config()
    });
    let at = SocketAddr::V4(peer.wire.link.forwards()[0].host);
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut buf = [0; 1];
    let error = peer.until("reset", |_| match stream.read(&mut buf) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        other => Some(other.unwrap_err()),
    });
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_port_in_use_is_told_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let forward = format!("tcp:{port}-80").parse().unwrap();
    let error = net::start(Config {
        forwards: vec![forward],
        ..config()
    });
    let said = error.err().unwrap().to_string();
    assert!(said.contains(&format!("port {port} in use")), "{said}");
    assert!(said.contains("choose another one"), "{said}");
    assert_eq!(said.lines().count(), 1);
}

#[test]
fn what_is_switched_off_cannot_be_reached() {
    let port = server(|_| panic!("somebody connected"));
    let no_loopback = Config {
        host_loopback: false,
        ..config()
    };
    let restricted = Config {
        restrict: true,
        ..config()
    };
    for config in [no_loopback, restricted] {
        let mut peer = Peer::new(config);
        // The host's loopback by its own address is nobody's business in any case.
        for to in [GATEWAY, Ipv4Addr::new(127, 0, 0, 1)] {
            let Some(handle) = (to != Ipv4Addr::LOCALHOST).then(|| peer.connect(to, port)) else {
                continue;
            };
            peer.until("reset", |peer| {
                let state = peer.socket::<tcp::Socket>(handle).state();
                (state == tcp::State::Closed).then_some(())
            });
        }
    }
}

#[test]
fn tftp_serves_the_folder_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("served");
    std::fs::create_dir(&root).unwrap();
    let file = pattern(10_000);
    std::fs::write(root.join("boot.bin"), &file).unwrap();
    std::fs::write(root.join("even.bin"), &file[..1024]).unwrap();
    std::fs::write(folder.path().join("secret"), b"x").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
    let mut peer = Peer::new(Config {
        tftp: Some(root),
        ..config()
    });
    let handle = peer.udp_socket(5000);
    let request = |name: &str, options: &[&str]| {
        let words = [name, "octet"].into_iter().chain(options.iter().copied());
        let mut request = vec![0, 1];
        for word in words {
            request.extend(word.bytes());
            request.push(0);
        }
        request
    };
    let fetch = |peer: &mut Peer, name: &str, options: &[&str], block_bytes: usize| {
        let (address, port, mut said) = peer.ask(handle, (GATEWAY, 69), &request(name, options));
        assert_eq!(address, GATEWAY);
        assert_ne!(port, 69);
        let offered = said[..2] == [0, 6];
        let options = said.clone();
        if offered {
            said = peer.ask(handle, (GATEWAY, port), &[0, 4, 0, 0]).2;
        }
        let mut all: Vec<u8> = Vec::new();
        for block in 1u16.. {
            let [high, low] = block.to_be_bytes();
            assert_eq!(said[..4], [0, 3, high, low]);
            all.extend(&said[4..]);
            let acknowledge = [0, 4, high, low];
            if said.len() < 4 + block_bytes {
                let socket: &mut smoltcp::socket::udp::Socket = peer.socket(handle);
                socket.send_slice(&acknowledge, (GATEWAY, port)).unwrap();
                break;
            }
            said = peer.ask(handle, (GATEWAY, port), &acknowledge).2;
        }
        (all, options)
    };
    assert_eq!(fetch(&mut peer, "boot.bin", &[], 512).0, file);
    assert_eq!(fetch(&mut peer, "/even.bin", &[], 512).0, file[..1024]);
    let wanted = ["blksize", "1400", "tsize", "0", "windowsize", "4"];
    let (all, options) = fetch(&mut peer, "boot.bin", &wanted, 1400);
    assert_eq!(all, file);
    assert_eq!(options[2..], *b"blksize\x001400\x00tsize\x0010000\x00");
    for name in ["missing", "../secret", "link", "/", "a/../../secret", ".."] {
        let (_, _, said) = peer.ask(handle, (GATEWAY, 69), &request(name, &[]));
        assert_eq!(said[..2], [0, 5], "{name}");
    }
    let (_, _, said) = peer.ask(handle, (GATEWAY, 69), b"\x00\x02new\x00octet\x00");
    assert_eq!(said[..4], [0, 5, 0, 2], "nothing is written");
}

#[test]
fn large_datagrams_go_in_fragments() {
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let peer = Peer::new(config());
    let question = pattern(20_000);
    for frame in fragments(port, &question) {
        peer.wire.link.send(frame);
    }
    peer.wire.link.flush();
    let mut buf = vec![0; 65536];
    let (len, from) = host.recv_from(&mut buf).unwrap();
    assert_eq!(buf[..len], question);
    host.send_to(&question[..5000], from).unwrap();
    let mut answer = 0;
    for _ in 0..4 {
        let frame = peer.wire.link.frames().recv().unwrap();
        answer += frame.len() - 34;
    }
    assert_eq!(answer, 5008);
}

/// A datagram from 10.0.2.15:5000 to the gateway's `port`, as frames.
fn fragments(port: u16, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut datagram = vec![0x13, 0x88];
    datagram.extend(port.to_be_bytes());
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let pieces = datagram.chunks(1480);
    let count = pieces.len();
    let frame = |(n, piece): (usize, &[u8])| {
        let mut frame = vec![0xFF; 6];
        frame.extend(peer::MAC);
        frame.extend([8, 0]);
        let fragment = (u16::from(n + 1 < count) << 13) | (n * 185) as u16;
        let mut header = vec![0x45, 0];
        header.extend(((20 + piece.len()) as u16).to_be_bytes());
        header.extend([0, 1]);
        header.extend(fragment.to_be_bytes());
        header.extend([64, 17, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
        let words = header
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        let checksum = !(((sum >> 16) + (sum & 0xFFFF)) as u16);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(header);
        frame.extend(piece);
        frame
    };
    pieces.enumerate().map(frame).collect()
}

/// Numbers that are the same in every run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

#[test]
fn frames_of_every_length_and_torn_ones_are_survived() {
    let mut peer = Peer::new(Config {
        // The host's loopback is not to get what is made here.
        host_loopback: false,
        tftp: Some(std::env::temp_dir()),
        ..config()
    });
    let mut rng = Rng(1);
    let whole = fragments(69, &pattern(1400)).remove(0);
    for len in 0..whole.len() {
        peer.wire.link.send(whole[..len].to_vec());
        peer.wire.link.send(pattern(len));
    }
    for round in 0..20_000 {
        let mut frame = whole.clone();
        frame.truncate(14 + (rng.next() % 1400) as usize);
        // Addresses of the guest's network alone, so that nothing leaves; everything else is
        // changed.
        let protocol = [1, 6, 17, 17, 17, rng.next() as u8][round % 6];
        if let Some(at) = frame.get_mut(23) {
            *at = protocol;
        }
        let ports = [67, 68, 69, 53, 20000, rng.next() as u16];
        for at in [34, 36] {
            let port = ports[(rng.next() % 6) as usize].to_be_bytes();
            frame
                .get_mut(at..at + 2)
                .into_iter()
                .for_each(|to| to.copy_from_slice(&port));
        }
        for _ in 0..rng.next() % 8 {
            let at = (rng.next() % frame.len() as u64) as usize;
            if !(26..34).contains(&at) {
                frame[at] = rng.next() as u8;
            }
        }
        if round % 5 == 0 {
            frame[12..14].copy_from_slice(&[8, 6]);
        } else if frame.len() >= 34 && round % 3 != 0 {
            let total = (frame.len() - 14) as u16;
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            frame[24..26].fill(0);
            let words = frame[14..34]
                .chunks(2)
                .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
            let mut sum: u32 = words.sum();
            sum = (sum >> 16) + (sum & 0xFFFF);
            let checksum = !((sum + (sum >> 16)) as u16);
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        }
        peer.wire.link.send(frame);
        if round % 64 == 0 {
            peer.wire.link.frames().try_iter().for_each(drop);
            peer.wire.link.took();
        }
    }
    // It goes on as if nothing had been.
    let handle = peer.sockets.add(dhcpv4::Socket::new());
    peer.until("lease", |peer| {
        let event = peer.socket::<dhcpv4::Socket>(handle).poll();
        event.map(drop)
    });
}

#[test]
fn a_flood_of_connections_is_bounded() {
    let port = server(|mut stream| {
        let _ = stream.read(&mut [0]);
    });
    let mut peer = Peer::new(config());
    let handles: Vec<_> = (0..600).map(|_| peer.connect(GATEWAY, port)).collect();
    let (mut open, mut refused) = (0, 0);
    peer.until("answers to all", |peer| {
        let states = handles
            .iter()
            .map(|&handle| peer.sockets.get::<tcp::Socket>(handle).state());
        let states: Vec<_> = states.collect();
        open = states
            .iter()
            .filter(|&&state| state == tcp::State::Established)
            .count();
        refused = states
            .iter()
            .filter(|&&state| state == tcp::State::Closed)
            .count();
        (open + refused == 600).then_some(())
    });
    assert_eq!(open, 512);
}
