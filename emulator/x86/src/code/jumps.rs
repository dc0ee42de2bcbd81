//! A processor's memory of where linear addresses lead: what a branch that no link serves looks up.

use super::Block;

const ENTRIES: usize = 16384;

/// Half a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Jump {
    lin: u64,
    /// See `Vcpu::fetch_tags`.
    tag: u64,
    block: *mut Block,
    serial: u64,
}

const NO_JUMP: Jump = Jump {
    lin: !0,
    tag: 0,
    block: std::ptr::null_mut(),
    serial: 0,
};

/// Linear addresses with the blocks to which they led.
pub(crate) struct JumpTable {
    entries: Box<[Jump; ENTRIES]>,
}

// SAFETY: the raw pointers are looked at only together with the machine's code cache, which travels
// with the processors.
unsafe impl Send for JumpTable {}

impl JumpTable {
    pub fn new() -> Self {
        Self {
            entries: Box::new([NO_JUMP; ENTRIES]),
        }
    }

    #[inline(always)]
    fn slot(lin: u64) -> usize {
        ((lin ^ lin >> 14) as usize) & (ENTRIES - 1)
    }

    /// The block that `lin` leads to, if one of `tags` says that this is still so.
    #[inline(always)]
    pub fn find(&self, lin: u64, tags: [u64; 2]) -> Option<*mut Block> {
        let entry = &self.entries[Self::slot(lin)];
        if entry.lin != lin || entry.tag != tags[0] && entry.tag != tags[1] {
            return None;
        }
        // SAFETY: `clear` comes before any block that an entry points at is freed; until then a dropped one has
        // another serial.
        (unsafe { (*entry.block).serial } == entry.serial).then_some(entry.block)
    }

    /// The block that `lin` led to when the page tables were last looked at, for the caller to find out whether
    /// it still does.
    #[inline(always)]
    pub fn find_stale(&self, lin: u64) -> Option<*mut Block> {
        let entry = &self.entries[Self::slot(lin)];
        // SAFETY: as in `find`.
        (entry.lin == lin
            && !entry.block.is_null()
            && unsafe { (*entry.block).serial } == entry.serial)
            .then_some(entry.block)
    }

    /// With which tag `lin` is known.
    pub fn tag(&self, lin: u64) -> Option<u64> {
        let entry = &self.entries[Self::slot(lin)];
        (entry.lin == lin).then_some(entry.tag)
    }

    /// From now on `lin` leads to `block`.
    pub fn note(&mut self, lin: u64, tag: u64, block: *mut Block, serial: u64) {
        self.entries[Self::slot(lin)] = Jump {
            lin,
            tag,
            block,
            serial,
        };
    }

    /// Forgets everything. Before the cache frees its blocks.
    pub fn clear(&mut self) {
        self.entries.fill(NO_JUMP);
    }
}
