//! Headers: Ethernet II, ARP (RFC 826), IPv4 (RFC 791), UDP (RFC 768) and ICMP (RFC 792).

use std::net::{Ipv4Addr, SocketAddrV4};

/// A hardware address.
pub type Mac = [u8; 6];

/// Goes to everybody.
pub const EVERYBODY: Mac = [0xFF; 6];
/// The gateway's hardware address; the name server has the same.
pub const GATEWAY_MAC: Mac = [0x52, 0x55, 0x0A, 0x00, 0x02, 0x02];

/// The largest IP packet of a frame.
pub const MTU: usize = 1500;
/// The largest IP packet that there is.
pub const LARGEST: usize = 65535;
/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IPV4: usize = 20;
const UDP: usize = 8;

/// EtherTypes.
pub const TYPE_IPV4: u16 = 0x0800;
pub const TYPE_ARP: u16 = 0x0806;

/// IP protocols.
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP_PROTOCOL: u8 = 17;

/// The one's complement sum of 16-bit words (RFC 1071), folded, of which the checksum is the
/// complement.
pub fn sum(start: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words = words
        .iter()
        .map(|&word| u64::from(u16::from_be_bytes(word)));
    let mut sum: u64 = u64::from(start) + words.sum::<u64>();
    if let [last] = rest {
        sum += u64::from(*last) << 8;
    }
    while sum > 0xFFFF {
        sum = (sum >> 16) + (sum & 0xFFFF);
    }
    sum as u32
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

fn mac(bytes: &[u8], at: usize) -> Option<Mac> {
    bytes.get(at..at + 6)?.try_into().ok()
}

/// A frame, taken apart.
pub struct Frame<'a> {
    pub source: Mac,
    pub ether_type: u16,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// `None` for a torn one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            source: mac(bytes, 6)?,
            ether_type: word(bytes, 12)?,
            payload: bytes.get(ETHERNET..)?,
        })
    }
}

/// The Ethernet header of a frame of ours.
pub fn ethernet_header(to: Mac, ether_type: u16) -> [u8; ETHERNET] {
    let mut header = [0; ETHERNET];
    header[..6].copy_from_slice(&to);
    header[6..12].copy_from_slice(&GATEWAY_MAC);
    header[12..].copy_from_slice(&ether_type.to_be_bytes());
    header
}

/// Puts an Ethernet header before `payload`.
pub fn frame(to: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&ethernet_header(to, ether_type), payload].concat()
}

/// An ARP packet about IPv4 addresses.
pub struct Arp {
    pub request: bool,
    pub sender: (Mac, Ipv4Addr),
    pub target: Ipv4Addr,
}

impl Arp {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let kind = bytes.get(..6)?;
        let operation = word(bytes, 6)?;
        (kind == [0, 1, 8, 0, 6, 4] && (1..=2).contains(&operation)).then_some(())?;
        Some(Self {
            request: operation == 1,
            sender: (mac(bytes, 8)?, address(bytes, 14)?),
            target: address(bytes, 24)?,
        })
    }

    /// The answer that `ours` is at [`GATEWAY_MAC`].
    pub fn reply(to: (Mac, Ipv4Addr), ours: Ipv4Addr) -> Vec<u8> {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 2];
        arp.extend(GATEWAY_MAC);
        arp.extend(ours.octets());
        arp.extend(to.0);
        arp.extend(to.1.octets());
        arp
    }
}

/// An IPv4 packet, or a fragment of one.
#[derive(Clone, Copy, Debug)]
pub struct Ip<'a> {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub id: u16,
    /// Where its payload belongs in that of the whole packet, in bytes.
    pub offset: usize,
    /// Other fragments follow.
    pub more: bool,
    pub hops: u8,
    pub payload: &'a [u8],
    /// With its header, without what follows in the frame.
    pub whole: &'a [u8],
}

impl<'a> Ip<'a> {
    /// `None` for what is torn, of another version or has a wrong checksum.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let header = usize::from(first & 0x0F) * 4;
        let total = usize::from(word(bytes, 2)?);
        if first >> 4 != 4 || header < IPV4 || total < header {
            return None;
        }
        let whole = bytes.get(..total)?;
        if sum(0, &whole[..header]) != 0xFFFF {
            return None;
        }
        let fragment = word(bytes, 6)?;
        Some(Self {
            source: address(bytes, 12)?,
            destination: address(bytes, 16)?,
            protocol: bytes[9],
            id: word(bytes, 4)?,
            offset: usize::from(fragment & 0x1FFF) * 8,
            more: fragment & 0x2000 != 0,
            hops: bytes[8],
            payload: &whole[header..],
            whole,
        })
    }

    pub fn is_fragment(&self) -> bool {
        self.more || self.offset != 0
    }
}

/// An IPv4 header for `len` bytes of payload; `fragment` is the word with flags and offset.
pub fn ip_header(
    ends: (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    id: u16,
    fragment: u16,
    len: usize,
) -> [u8; IPV4] {
    let mut header = [0; IPV4];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((IPV4 + len) as u16).to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&ends.0.octets());
    header[16..20].copy_from_slice(&ends.1.octets());
    let checksum = !(sum(0, &header) as u16);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// The start of the sum that covers a pseudo header.
fn pseudo(ends: (Ipv4Addr, Ipv4Addr), protocol: u8, len: usize) -> u32 {
    let addresses = sum(sum(0, &ends.0.octets()), &ends.1.octets());
    addresses + u32::from(protocol) + len as u32
}

/// A UDP datagram.
pub struct Udp<'a> {
    pub source: u16,
    pub destination: u16,
    pub payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// `None` for what is torn or has a wrong checksum.
    pub fn parse(ends: (Ipv4Addr, Ipv4Addr), bytes: &'a [u8]) -> Option<Self> {
        let len = usize::from(word(bytes, 4)?);
        let whole = bytes.get(..len).filter(|_| len >= UDP)?;
        let checked = word(bytes, 6)? == 0 || sum(pseudo(ends, UDP_PROTOCOL, len), whole) == 0xFFFF;
        checked.then_some(Self {
            source: word(bytes, 0)?,
            destination: word(bytes, 2)?,
            payload: &whole[UDP..],
        })
    }
}

/// A UDP datagram with its header.
pub fn udp(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let len = UDP + payload.len();
    let mut datagram = Vec::with_capacity(len);
    datagram.extend(from.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend((len as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let ends = (*from.ip(), *to.ip());
    let checksum = match !(sum(pseudo(ends, UDP_PROTOCOL, len), &datagram) as u16) {
        0 => 0xFFFF,
        checksum => checksum,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

/// An ICMP message of this kind and code, with the second word of its header.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    message.extend(payload);
    let checksum = !(sum(0, &message) as u16);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// Gives a TCP packet that opens a connection another largest segment size (RFC 9293 §3.2, option 2), if it has one.
/// `packet` is a whole IP packet.
pub fn set_segment_size(packet: &mut [u8], size: u16) {
    let Some(ip) = Ip::parse(packet) else {
        return;
    };
    let ends = (ip.source, ip.destination);
    let (at, len) = (ip.whole.len() - ip.payload.len(), ip.payload.len());
    let start = pseudo(ends, TCP, len);
    let Some(segment) = packet.get_mut(at..at + len) else {
        return;
    };
    let header = segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    // Who looks at it later has to find it wrong.
    if len < 20 || header > len || sum(start, segment) != 0xFFFF {
        return;
    }
    let mut option = 20;
    while option + 4 <= header {
        match (segment[option], segment[option + 1]) {
            (0, _) => return,
            (1, _) => option += 1,
            (2, 4) => {
                segment[option + 2..option + 4].copy_from_slice(&size.to_be_bytes());
                segment[16..18].fill(0);
                let checksum = !(sum(start, segment) as u16);
                return segment[16..18].copy_from_slice(&checksum.to_be_bytes());
            }
            (_, len) => option += usize::from(len.max(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (a, b) = (Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 2, 15));
        for len in [0, 1, 2, 7, 1000] {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let datagram = udp(SocketAddrV4::new(a, 7), SocketAddrV4::new(b, 9), &payload);
            let mut packet = ip_header((a, b), UDP_PROTOCOL, 5, 0, datagram.len()).to_vec();
            packet.extend(&datagram);
            packet.extend([0; 9]);
            let ip = Ip::parse(&packet).unwrap();
            assert_eq!((ip.source, ip.destination, ip.id), (a, b, 5));
            let read = Udp::parse((a, b), ip.payload).unwrap();
            assert_eq!((read.source, read.destination), (7, 9));
            assert_eq!(read.payload, payload);
        }
    }

    #[test]
    fn the_segment_size_of_a_new_connection_changes_wherever_the_option_is() {
        let ends = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
        for pad in 0..4 {
            let mut segment = vec![
                0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x70, 2, 1, 1, 0, 0, 0, 0,
            ];
            segment.extend(vec![1; pad]);
            segment.extend([2, 4, 0x05, 0xB4]);
            segment.resize(28, 0);
            let checksum = !(sum(pseudo(ends, TCP, 28), &segment) as u16);
            segment[16..18].copy_from_slice(&checksum.to_be_bytes());
            let mut packet = ip_header(ends, TCP, 1, 0, 28).to_vec();
            packet.extend(&segment);
            let mut torn = packet.clone();
            torn[36] ^= 1;
            let before = torn.clone();
            set_segment_size(&mut torn, 65495);
            assert_eq!(torn, before, "what is damaged stays so");
            set_segment_size(&mut packet, 65495);
            let ip = Ip::parse(&packet).unwrap();
            assert_eq!(sum(pseudo(ends, TCP, 28), ip.payload), 0xFFFF, "{pad}");
            assert_eq!(ip.payload[20 + pad..24 + pad], [2, 4, 0xFF, 0xD7], "{pad}");
            for len in 0..packet.len() {
                set_segment_size(&mut packet[..len].to_vec(), 1);
            }
        }
    }

    #[test]
    fn torn_and_damaged_packets_are_refused() {
        let ends = (Ipv4Addr::new(1, 2, 3, 4), Ipv4Addr::new(5, 6, 7, 8));
        let mut packet = ip_header(ends, UDP_PROTOCOL, 5, 0, 8).to_vec();
        packet.extend([0, 1, 0, 2, 0, 8, 0, 0]);
        for len in 0..packet.len() {
            assert!(Ip::parse(&packet[..len]).is_none(), "{len} bytes");
        }
        assert!(Ip::parse(&packet).is_some());
        for byte in 0..IPV4 {
            let mut damaged = packet.clone();
            damaged[byte] ^= 0x10;
            assert!(Ip::parse(&damaged).is_none(), "byte {byte}");
        }
        assert!(Udp::parse(ends, &[0, 1, 0, 2, 0, 7, 0, 0]).is_none());
        assert!(Udp::parse(ends, &[0, 1, 0, 2, 0, 9, 0, 0]).is_none());
    }
}
