//! Decoded code: blocks, found by physical address.
//!
//! | file | what |
//! |---|---|
//! | `mod` | [`Block`], and the links between blocks |
//! | `cache` | [`CodeCache`]: all blocks of a machine, their links, their end |
//! | `arena` | the host's memory for them |
//! | `page` | where in a page the code is, to the byte |
//! | `jumps` | each processor's memory of where linear addresses lead |
//! | `build` | making a block from bytes, and what a processor does with the cache |
//!
//! A block is keyed by the physical address of its first byte and the part of the mode that decoding
//! depends on. It ends at a branch, at a page's end, at an instruction that can change the mode, or
//! at [`MAX_INSNS`]. An instruction that crosses a page makes a block of its own, which remembers
//! both pages.
//!
//! **Ownership.** A machine has one cache, lent to the processor that runs, with the bus. So what one
//! processor or a bus master writes is seen by all, and code is decoded once. A dropped block's memory is
//! reused and not freed: a stale pointer in a jump table can be followed to its changed serial.
//!
//! **Links.** A block remembers up to two successors in its own page, whatever linear address that page
//! has, so that no page-table change invalidates a link. Each block knows who links to it, and a drop cuts
//! those links: a link that stands is good without a look.
//!
//! **Writes.** Guest memory has a bit for each 64 bytes that hold decoded code. A page with such a bit is never
//! written directly by the TLB's fast path; the next path looks at the bits, and only a write to a granule
//! with code comes to [`CodeCache::written`], which looks at the bytes. So data and a stack may share a page
//! with code.
//!
//! **Cutting.** [`CodeCache::cut`] ends the running block behind one of its instructions and keeps it; a drop of the
//! running block does the same and lets it go when no block runs.

mod arena;
mod build;
mod cache;
mod jumps;
mod page;

pub(crate) use arena::Insns;
pub use cache::CodeCache;
pub(crate) use jumps::JumpTable;

use std::ops::RangeInclusive;

use platform::GRANULE_BYTES;

use crate::insn::Insn;
use crate::recompiler::Heat;

/// The most instructions in a block.
pub const MAX_INSNS: usize = 48;

/// A decoded block. What entering it needs stands in its first cache line, what leaving it needs in the second.
#[repr(C, align(64))]
pub(crate) struct Block {
    /// A number of its own; 0 once the block is dropped.
    pub serial: u64,
    /// The instructions, and behind them a `fall_through` where the last one does not set the
    /// instruction pointer.
    pub insns: Insns,
    /// Where its first byte is.
    pub phys: u64,
    /// Instructions without the `fall_through`.
    pub count: u32,
    /// The part of the mode that it was decoded for: see `Vcpu::update_mode`.
    pub key: u32,
    /// Code bytes.
    pub bytes: u16,
    /// Whether the block that follows may be remembered in `links`.
    pub linkable: bool,
    /// The bytes go on in `second_page`.
    pub crosses: bool,
    /// Successors within the same page.
    links: [Link; 2],
    /// The links that lead here: a block and the number of its link.
    incoming: Vec<(*mut Block, u8)>,
    /// The second page, for an instruction that crosses.
    pub second_page: Option<u64>,
    /// The recompiler's.
    pub heat: Heat,
}

/// A remembered successor, with what of it is needed to run it: what stands here need not be fetched from there.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Link {
    /// How far the successor lies from the block's first byte. The block's place in its page decides
    /// with it whether the successor lies in the same page, whatever linear address that page has.
    distance: u64,
    pub block: *mut Block,
    /// Its first instruction.
    pub first: *const Insn,
    /// How many instructions it has.
    pub count: u32,
}

const NO_LINK: Link = Link {
    // No two canonical addresses are so far apart.
    distance: 1 << 63,
    block: std::ptr::null_mut(),
    first: std::ptr::null(),
    count: 0,
};

impl Block {
    /// A block without instructions.
    fn new(phys: u64, key: u32) -> Self {
        Self {
            insns: Insns::NONE,
            count: 0,
            bytes: 0,
            linkable: true,
            crosses: false,
            serial: 0,
            links: [NO_LINK; 2],
            incoming: Vec::new(),
            phys,
            second_page: None,
            key,
            heat: Heat::default(),
        }
    }

    /// A link to `block`.
    ///
    /// # Safety
    /// `block` is live.
    pub unsafe fn link_to(block: *mut Self, distance: u64) -> Link {
        // SAFETY: by the caller.
        let (first, count) = unsafe { ((*block).insns.as_ptr(), (*block).count) };
        Link {
            distance,
            block,
            first,
            count,
        }
    }

    /// The remembered successor at `distance` from the block's first byte.
    #[inline(always)]
    pub fn linked(&self, distance: u64) -> Option<&Link> {
        self.links.iter().find(|link| link.distance == distance)
    }

    /// Whether one of `len` bytes at `phys` is the block's.
    fn overlaps(&self, phys: u64, len: u64) -> bool {
        let meets = |start: u64, size: u64| phys < start + size && start < phys + len;
        self.spans().any(|(start, size)| meets(start, size))
    }

    /// Where its bytes are: address and length, a page each. Both may be in the same page.
    fn spans(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let bytes = u64::from(self.bytes);
        let first_len = bytes.min(4096 - (self.phys & 0xFFF));
        let second = self.second_page.map(|page| (page, bytes - first_len));
        std::iter::once((self.phys, first_len)).chain(second)
    }

    /// What it takes of the host's memory, about, in bytes.
    fn footprint(&self) -> usize {
        // The map and the page's lists take about another hundred.
        size_of::<Self>() + self.insns.len() * size_of::<Insn>() + 100
    }
}

/// The numbers of the granules that `len` bytes at offset `first` of a page touch.
fn granule_numbers(first: u64, len: u64) -> RangeInclusive<usize> {
    let last = first + len.max(1) - 1;
    (first / GRANULE_BYTES) as usize..=(last / GRANULE_BYTES) as usize
}
