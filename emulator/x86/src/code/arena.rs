//! Where blocks and their instructions are: in mappings of the host's large pages. A busy guest's
//! code is met in no order, so that with small pages the host's own TLB would miss at every other
//! block.

use platform::HostMemory;

use crate::insn::Insn;

/// Bytes in the first mapping, for small guests, and in each further one.
const FIRST_BYTES: usize = 256 << 10;
const CHUNK_BYTES: usize = 4 << 20;

/// Room for values of one type, given out and never given back to the host but as a whole.
pub(super) struct Arena<T> {
    chunks: Vec<HostMemory>,
    bytes: usize,
    /// Values that the last chunk still has room for, and where.
    left: usize,
    next: *mut T,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            bytes: 0,
            left: 0,
            next: std::ptr::null_mut(),
        }
    }
}

impl<T> Arena<T> {
    /// Room for `count` values one behind the other, zeroed, as long as the arena lives.
    pub fn take(&mut self, count: usize) -> *mut T {
        if count > self.left {
            let bytes = if self.chunks.is_empty() {
                FIRST_BYTES
            } else {
                CHUNK_BYTES
            };
            debug_assert!(count * size_of::<T>() <= bytes && align_of::<T>() <= 4096);
            let chunk = HostMemory::new(bytes);
            self.left = bytes / size_of::<T>();
            self.next = chunk.as_mut_ptr().cast();
            self.chunks.push(chunk);
            self.bytes += bytes;
        }
        let taken = self.next;
        self.left -= count;
        // SAFETY: `left` values have room from `next` on, and `count` is not more.
        self.next = unsafe { taken.add(count) };
        taken
    }

    /// Gives all back. Nothing may point into it any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The instructions of a block, in the cache's memory: they stay where they are until the block is freed.
pub(crate) struct Insns {
    first: *mut Insn,
    len: u32,
}

impl Insns {
    /// None.
    pub const NONE: Self = Self {
        first: std::ptr::null_mut(),
        len: 0,
    };

    /// The first one.
    #[inline(always)]
    pub fn as_ptr(&self) -> *const Insn {
        self.first
    }

    /// The first one, to change it.
    #[inline(always)]
    pub fn as_mut_ptr(&self) -> *mut Insn {
        self.first
    }

    /// How many.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

/// Room for the instructions of blocks.
#[derive(Default)]
pub(super) struct InsnArena {
    arena: Arena<Insn>,
    /// Room that was given back, by the number of instructions.
    free: Vec<Vec<*mut Insn>>,
}

impl InsnArena {
    /// Keeps a copy of `insns`.
    pub fn keep(&mut self, insns: &[Insn]) -> Insns {
        let len = insns.len();
        let first = match self.free.get_mut(len).and_then(Vec::pop) {
            Some(first) => first,
            None => self.arena.take(len),
        };
        // SAFETY: there is room for `len` instructions, which nobody else uses.
        unsafe { first.copy_from_nonoverlapping(insns.as_ptr(), len) };
        Insns {
            first,
            len: len as u32,
        }
    }

    /// Takes the room of `insns` back.
    pub fn give_back(&mut self, insns: Insns) {
        let len = insns.len();
        if len >= self.free.len() {
            self.free.resize(len + 1, Vec::new());
        }
        self.free[len].push(insns.first);
    }

    /// What it has of the host's memory, in bytes: also room that was given back, of sizes that nobody wants.
    pub fn bytes(&self) -> usize {
        self.arena.bytes
    }

    /// Gives all back to the host.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.free.clear();
    }
}
