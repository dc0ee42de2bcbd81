//! Base64 (RFC 4648, 4), which carries bytes in JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `bytes` as text.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..piece.len()].copy_from_slice(piece);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            match place <= piece.len() {
                true => text.push(char::from(
                    ALPHABET[(bits >> (18 - 6 * place) & 63) as usize],
                )),
                false => text.push('='),
            }
        }
    }
    text
}

/// The bytes that `text` stands for; `None`: it is no such text.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for piece in text.chunks(4) {
        let mut bits = 0;
        for &letter in piece {
            let value = ALPHABET.iter().position(|&known| known == letter)?;
            bits = bits << 6 | value as u32;
        }
        let missing = 4 - piece.len();
        let whole = (bits << (6 * missing)).to_be_bytes();
        match missing {
            3 => return None,
            _ => bytes.extend(&whole[1..4 - missing]),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfcs_examples() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode("a"), None);
        assert_eq!(decode("a b c"), None);
    }
}
