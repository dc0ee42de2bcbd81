//! Sizes as users write them.

use serde::{Deserialize, Deserializer, Serializer};

/// Parses a size with an optional K, M, G or T (powers of 1024), into bytes.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let expected = || "expected a number with K, M or G after it, such as 256M".to_owned();
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match trimmed[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let bytes = number
        .checked_mul(1 << shift)
        .ok_or_else(|| "larger than any machine's memory; expected 1M to 512G".to_owned())?;
    if !(1 << 20..=512 << 30).contains(&bytes) {
        return Err("out of range; expected 1M to 512G".to_owned());
    }
    if bytes % 4096 != 0 {
        return Err("not a multiple of 4K; such as 64M".to_owned());
    }
    Ok(bytes)
}

/// A size as [`parse_size`] takes it, in the largest unit in which it is a whole number.
pub fn format_size(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let unit = units
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((shift, name)) => format!("{}{name}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Writes a size as [`format_size`] does.
pub(crate) fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_size(*bytes))
}

/// Reads a size as [`parse_size`] does, or a number of bytes.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Text(String),
        Bytes(u64),
    }
    let text = match Size::deserialize(deserializer)? {
        Size::Text(text) => text,
        Size::Bytes(bytes) => bytes.to_string(),
    };
    parse_size(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_suffixes_and_absurd_ones_are_refused() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("2g"), Ok(2 << 30));
        assert_eq!(parse_size("16384K"), Ok(16 << 20));
        for bad in [
            "",
            "M",
            "-5M",
            "12Q",
            "4",
            "99999999T",
            "1025K",
            "600G",
            "1.5G",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_said_as_they_are_written() {
        for text in ["512G", "1T", "1536M", "64M", "4K", "1025K"] {
            let shift = match text.as_bytes()[text.len() - 1] {
                b'T' => 40,
                b'G' => 30,
                b'M' => 20,
                _ => 10,
            };
            let number: u64 = text[..text.len() - 1].parse().unwrap();
            assert_eq!(format_size(number << shift), text);
        }
        assert_eq!(format_size(1000), "1000");
        assert_eq!(format_size(0), "0");
    }
}
