//! Why a file that has a multiboot header somewhere is no multiboot kernel: what boot loaders pass
//! over in silence.

use std::fmt;

use super::{multiboot1, multiboot2, u32_at};

/// A multiboot header that no boot loader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultyHeader {
    /// "multiboot" or "multiboot 2".
    what: &'static str,
    /// Where it is in the file.
    offset: usize,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Unaligned { align: usize },
    Late { limit: usize },
    Checksum { expected: u32, found: u32 },
}

/// What a header looks like.
struct Form {
    what: &'static str,
    magic: u32,
    align: usize,
    /// It lies within this many bytes.
    limit: usize,
    /// How many fields sum to zero; the last one makes them do so.
    fields: usize,
}

const FORMS: [Form; 2] = [
    Form {
        what: "multiboot 2",
        magic: multiboot2::MAGIC,
        align: 8,
        limit: multiboot2::SEARCH_BYTES,
        fields: 4,
    },
    Form {
        what: "multiboot",
        magic: multiboot1::MAGIC,
        align: 4,
        limit: multiboot1::SEARCH_BYTES,
        fields: 3,
    },
];

/// Looks for a header that is faulty in one way. One whose checksum is right was certainly meant as
/// one.
pub(super) fn find_faulty(file: &[u8]) -> Option<FaultyHeader> {
    let candidates = || FORMS.iter().flat_map(|form| form.candidates(file));
    let summed = |header: &FaultyHeader| !matches!(header.fault, Fault::Checksum { .. });
    candidates().find(summed).or_else(|| candidates().next())
}

impl Form {
    fn candidates<'a>(&'a self, file: &'a [u8]) -> impl Iterator<Item = FaultyHeader> + 'a {
        let magic = self.magic.to_le_bytes();
        let starts = file.windows(4).enumerate();
        starts
            .filter(move |(_, bytes)| *bytes == magic)
            .filter_map(|(offset, _)| self.judge(file, offset))
    }

    fn judge(&self, file: &[u8], offset: usize) -> Option<FaultyHeader> {
        let end = file.len().min(self.limit);
        let before = (0..self.fields - 1).try_fold(0u32, |sum, n| {
            Some(sum.wrapping_add(u32_at(file, offset + 4 * n)?))
        })?;
        let expected = before.wrapping_neg();
        let found = u32_at(file, offset + 4 * (self.fields - 1))?;
        let aligned = offset.is_multiple_of(self.align);
        let fault = match (found == expected, aligned) {
            (true, false) => Fault::Unaligned { align: self.align },
            (true, true) if offset + 4 * self.fields > end => Fault::Late { limit: self.limit },
            // The number alone, at an odd place, is an instruction's operand.
            (false, true) if offset < self.limit => Fault::Checksum { expected, found },
            _ => return None,
        };
        Some(FaultyHeader {
            what: self.what,
            offset,
            fault,
        })
    }
}

impl fmt::Display for FaultyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, offset, .. } = self;
        write!(f, "the {what} header at offset {offset:#x} ")?;
        match self.fault {
            Fault::Unaligned { align } => write!(
                f,
                "is not aligned: expected a multiple of {align} bytes; align its section in the file"
            ),
            Fault::Late { limit } => write!(
                f,
                "comes too late: expected it within the first {limit} bytes of the file; have the linker put its \
                 section first"
            ),
            Fault::Checksum { expected, found } => write!(
                f,
                "has a wrong checksum: expected {expected:#010x}, found {found:#010x}; its fields up to the checksum \
                 must sum to 0"
            ),
        }
    }
}
