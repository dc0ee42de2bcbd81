//! Where in a page the code is: its blocks by granule, and its bytes.

use platform::GRANULE_BYTES;

use super::{Block, granule_numbers};

const GRANULES: usize = (4096 / GRANULE_BYTES) as usize;

/// The blocks of a page, by the granules that their bytes touch, and a bit for each byte of code.
pub(super) struct CodePage {
    granules: [Vec<*mut Block>; GRANULES],
    bytes: [u64; GRANULES],
}

impl Default for CodePage {
    fn default() -> Self {
        Self {
            granules: [const { Vec::new() }; GRANULES],
            bytes: [0; GRANULES],
        }
    }
}

/// The bits in the word of granule `number` for `len` bytes at offset `first` of the page.
fn byte_bits(number: usize, first: u64, len: u64) -> u64 {
    let start = number as u64 * GRANULE_BYTES;
    let from = first.max(start) - start;
    let to = (first + len)
        .min(start + GRANULE_BYTES)
        .saturating_sub(start);
    if from >= to {
        return 0;
    }
    (!0 << from) & (!0 >> (64 - to))
}

impl CodePage {
    /// Notes `len` bytes of `block` at offset `first`.
    pub fn add(&mut self, block: *mut Block, first: u64, len: u64) {
        for number in granule_numbers(first, len) {
            self.granules[number].push(block);
            self.bytes[number] |= byte_bits(number, first, len);
        }
    }

    /// Forgets `len` bytes of `block` at offset `first`.
    ///
    /// # Safety
    /// The blocks of this page are live but for `block`.
    pub unsafe fn remove(&mut self, page: u64, block: *mut Block, first: u64, len: u64) {
        for number in granule_numbers(first, len) {
            let list = &mut self.granules[number];
            if let Some(at) = list.iter().position(|&other| other == block) {
                list.swap_remove(at);
            }
            let mut bits = 0;
            for &other in list.iter() {
                // SAFETY: by the caller.
                for (start, size) in unsafe { &*other }.spans() {
                    if start & !0xFFF == page {
                        bits |= byte_bits(number, start & 0xFFF, size);
                    }
                }
            }
            self.bytes[number] = bits;
        }
    }

    /// Whether one of `len` bytes at offset `first` is code.
    pub fn is_code(&self, first: u64, len: u64) -> bool {
        granule_numbers(first, len)
            .any(|number| self.bytes[number] & byte_bits(number, first, len) != 0)
    }

    /// The blocks of granule `number`.
    pub fn blocks(&self, number: usize) -> &[*mut Block] {
        &self.granules[number]
    }

    /// A bit for each granule with code.
    pub fn mask(&self) -> u64 {
        self.bytes
            .iter()
            .enumerate()
            .fold(0, |mask, (number, &bits)| {
                mask | u64::from(bits != 0) << number
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_granule_are_bits() {
        assert_eq!(byte_bits(0, 0, 1), 1);
        assert_eq!(byte_bits(0, 62, 10), 3 << 62);
        assert_eq!(byte_bits(1, 62, 10), 0xFF);
        assert_eq!(byte_bits(2, 62, 10), 0);
        assert_eq!(byte_bits(5, 0, 4096), !0);
    }
}
