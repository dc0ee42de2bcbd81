//! Checksums that network cards compute: of Ethernet frames, and of the Internet's protocols.

/// The remainders of single bytes, of the polynomial with its bits turned round.
const REMAINDERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = (rest >> 1) ^ (0xEDB8_8320 * (rest & 1));
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// The checksum of a frame (IEEE 802.3 §3.2.9), whose low byte goes first.
pub fn crc32(bytes: &[u8]) -> u32 {
    let rest = bytes.iter().fold(!0u32, |rest, byte| {
        (rest >> 8) ^ REMAINDERS[usize::from(rest as u8 ^ byte)]
    });
    !rest
}

/// The six bits or more that a multicast address is hashed to (82540EM, NE2000 and RTL8139 alike):
/// the remainder, high bit first.
pub fn crc32_high_first(bytes: &[u8]) -> u32 {
    (!crc32(bytes)).reverse_bits()
}

/// The one's complement sum of 16-bit words (RFC 1071), folded; an odd byte at the end counts as a
/// high one.
pub fn sum(start: u32, bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words = words
        .iter()
        .map(|&word| u64::from(u16::from_be_bytes(word)));
    let mut sum = u64::from(start) + words.sum::<u64>();
    if let [last] = rest {
        sum += u64::from(*last) << 8;
    }
    while sum > 0xFFFF {
        sum = (sum >> 16) + (sum & 0xFFFF);
    }
    sum as u16
}

/// A packet of IPv4, as far as checksums ask for it.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    /// Its header, with its options.
    pub header: &'a [u8],
    /// What is behind that.
    pub payload: &'a [u8],
    /// What the payload is.
    pub protocol: u8,
    /// It is a piece of a larger one.
    pub is_fragment: bool,
}

impl<'a> Ipv4<'a> {
    /// TCP's protocol number.
    pub const TCP: u8 = 6;
    const UDP: u8 = 17;

    /// Takes apart what lies at `at` of a frame, behind its type; `None` for another protocol, or what is torn.
    pub fn parse(frame: &'a [u8], at: usize) -> Option<Self> {
        let packet = frame.get(at..)?;
        if frame.get(at - 2..at)? != [0x08, 0x00] || packet.len() < 20 || packet[0] >> 4 != 4 {
            return None;
        }
        let header = usize::from(packet[0] & 0x0F) * 4;
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let packet = packet
            .get(..total)
            .filter(|_| header >= 20 && total >= header)?;
        Some(Self {
            header: &packet[..header],
            payload: &packet[header..],
            protocol: packet[9],
            is_fragment: u16::from_be_bytes([packet[6], packet[7]]) & 0x3FFF != 0,
        })
    }

    /// Whether the header's checksum is right.
    pub fn header_is_right(&self) -> bool {
        sum(0, self.header) == 0xFFFF
    }

    /// Whether the payload has a checksum of TCP or UDP that can be looked at.
    pub fn has_checksum(&self) -> bool {
        let given = match self.protocol {
            Self::TCP => self.payload.get(16..18).is_some(),
            // Of UDP a checksum of 0 is none.
            Self::UDP => self.payload.get(6..8).is_some_and(|sum| sum != [0, 0]),
            _ => false,
        };
        given && !self.is_fragment
    }

    /// The sum over the pseudo header of TCP and UDP.
    pub fn pseudo(&self) -> u32 {
        let addresses = sum(0, &self.header[12..20]);
        u32::from(addresses) + u32::from(self.protocol) + self.payload.len() as u32
    }

    /// Whether the payload's checksum is right.
    pub fn payload_is_right(&self) -> bool {
        sum(self.pseudo(), self.payload) == 0xFFFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_are_those_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        // The example of RFC 1071 §3.
        assert_eq!(
            sum(0, &[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]),
            0xDDF2
        );
        assert_eq!(sum(0xFFFF, &[0x12]), 0x1200);
        // 224.0.0.1, as the DP8390's drivers compute it.
        assert_eq!(crc32_high_first(&[0x01, 0x00, 0x5E, 0, 0, 1]) >> 26, 31);
    }
}
