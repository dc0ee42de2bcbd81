//! MSI-X: a table of messages and their pending bits, in memory that a base address register places.
//!
//! Source: PCI Local Bus Specification 3.0 §6.8.2, §6.8.3.

use platform::InterruptMessage;

use super::config_space::message;

/// Message control, second byte: MSI-X is on.
pub(super) const ENABLE: u8 = 0x80;
/// Message control, second byte: all vectors are masked.
pub(super) const FUNCTION_MASK: u8 = 0x40;

/// Bytes of an entry: address, its upper half, data, control.
const ENTRY_BYTES: u64 = 16;
/// The fourth word of an entry: its vector is masked.
const MASKED: u32 = 1;
/// The pending bits of all vectors.
const PENDING_BYTES: u64 = 8;

/// Where a function's vectors are, and what software wrote there.
#[derive(Clone, Debug)]
pub(super) struct Msix {
    /// The register of the capability.
    pub(super) at: u8,
    /// The number of the base address register.
    pub(super) bar: u8,
    table: u64,
    pending_at: u64,
    entries: Vec<[u32; 4]>,
    pending: u64,
}

impl Msix {
    /// The most vectors.
    pub(super) const MOST: u16 = 64;

    pub(super) fn new(at: u8, bar: u8, vectors: u16, table: u64, pending_at: u64) -> Self {
        assert!((1..=Self::MOST).contains(&vectors), "a bit a vector");
        Self {
            at,
            bar,
            table,
            pending_at,
            entries: vec![[0, 0, 0, MASKED]; vectors.into()],
            pending: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        self.entries.fill([0, 0, 0, MASKED]);
        self.pending = 0;
    }

    /// Whether the table or the pending bits lie at `offset`.
    pub(super) fn has(&self, offset: u64) -> bool {
        let table = self.table..self.table + ENTRY_BYTES * self.entries.len() as u64;
        let pending = self.pending_at..self.pending_at + PENDING_BYTES;
        table.contains(&offset) || pending.contains(&offset)
    }

    /// The byte at `offset`: the specification leaves other sizes than 4 and 8 open, and all of them work here.
    pub(super) fn read(&self, offset: u64) -> u8 {
        if let Some(at) = offset.checked_sub(self.table)
            && let Some(entry) = self.entries.get((at / ENTRY_BYTES) as usize)
        {
            return entry[(at % ENTRY_BYTES / 4) as usize].to_le_bytes()[(at % 4) as usize];
        }
        match offset.checked_sub(self.pending_at) {
            Some(at @ 0..PENDING_BYTES) => self.pending.to_le_bytes()[at as usize],
            _ => 0,
        }
    }

    /// Software writes the byte at `offset`; pending bits cannot be written.
    pub(super) fn write(&mut self, offset: u64, value: u8) {
        if let Some(at) = offset.checked_sub(self.table)
            && let Some(entry) = self.entries.get_mut((at / ENTRY_BYTES) as usize)
        {
            let word = &mut entry[(at % ENTRY_BYTES / 4) as usize];
            let mut bytes = word.to_le_bytes();
            bytes[(at % 4) as usize] = value;
            *word = u32::from_le_bytes(bytes);
            // All other bits of the control word are reserved.
            entry[3] &= MASKED;
        }
    }

    /// Notes that `vector` has something to say. Nobody hears of one that the function has not.
    pub(super) fn pend(&mut self, vector: u16) {
        if usize::from(vector) < self.entries.len() {
            self.pending |= 1 << vector;
        }
    }

    /// Takes the message of a vector that is pending and not masked.
    pub(super) fn take(&mut self) -> Option<InterruptMessage> {
        while self.pending != 0 {
            let ready = (0..self.entries.len())
                .find(|&n| self.pending >> n & 1 != 0 && self.entries[n][3] & MASKED == 0)?;
            self.pending &= !(1 << ready);
            let [address, upper, data, _] = self.entries[ready];
            // A write elsewhere than to the local APICs interrupts nobody.
            if upper == 0
                && let Some(message) = message(address, data)
            {
                return Some(message);
            }
        }
        None
    }

    /// What is saved: the pending bits, then the entries.
    pub(super) fn save(&self) -> Vec<u8> {
        let words = self.entries.iter().flatten();
        let mut bytes = self.pending.to_le_bytes().to_vec();
        bytes.extend(words.flat_map(|word| word.to_le_bytes()));
        bytes
    }

    pub(super) fn saved_len(&self) -> usize {
        8 + ENTRY_BYTES as usize * self.entries.len()
    }

    /// Takes over what [`save`](Self::save) wrote, of [`saved_len`](Self::saved_len) bytes.
    pub(super) fn restore(&mut self, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks::<4>();
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        let mut next = || words.next().unwrap_or(0);
        self.pending = u64::from(next()) | u64::from(next()) << 32;
        self.pending &= !0 >> (64 - self.entries.len());
        for word in self.entries.iter_mut().flatten() {
            *word = next();
        }
    }
}
