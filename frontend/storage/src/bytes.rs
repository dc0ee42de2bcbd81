//! Files by offset, and numbers in their headers.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Reads all of `buf` from `offset` on; what lies behind the file's end reads as zeros.
pub(crate) fn read_at(mut file: &File, offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    while !buf.is_empty() {
        match file.read(buf) {
            Ok(0) => {
                buf.fill(0);
                return Ok(());
            }
            Ok(read) => buf = &mut buf[read..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `buf` at `offset`.
pub(crate) fn write_at(mut file: &File, offset: u64, buf: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(buf)
}

/// The big-endian number of 32 bits at `at`.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(number)
}

/// The big-endian number of 64 bits at `at`.
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(number)
}

/// The little-endian number of 32 bits at `at`.
pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    be32(bytes, at).swap_bytes()
}

/// The little-endian number of 64 bits at `at`.
pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    be64(bytes, at).swap_bytes()
}

/// What is said of an image that is not as its format has it.
pub(crate) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// An identity that no other image has (RFC 9562, 5.4).
pub(crate) fn identity() -> [u8; 16] {
    use std::hash::{BuildHasher, Hasher};
    let mut identity = [0; 16];
    for half in identity.chunks_mut(8) {
        // Each state is seeded by the host's random numbers.
        let number = std::collections::hash_map::RandomState::new()
            .build_hasher()
            .finish();
        half.copy_from_slice(&number.to_le_bytes());
    }
    identity[6] = identity[6] & 0x0F | 0x40;
    identity[8] = identity[8] & 0x3F | 0x80;
    identity
}
