//! Linear to physical: the TLB, the page walk, and every memory access that the fast path declines.
//!
//! Intel SDM vol. 3A chapter 4. The TLB is direct-mapped, one bank for each kind of access right; a
//! bank's entry holds a tag for reading and one for writing, so that one comparison decides
//! presence, right, page crossing and "this page is RAM". Everything else takes the slow path here.

use platform::{Page, PhysAddr};

use crate::cpu::control;
use crate::exception::Exception;
use crate::flags::bits;
use crate::vcpu::{Vcpu, attention, is_canonical, segment_fault};
use crate::width::Width;

/// Supervisor accesses, SMAP enforced.
pub const BANK_SUPERVISOR: usize = 0;
/// User accesses.
pub const BANK_USER: usize = 1;
/// Supervisor accesses with RFLAGS.AC set under CR4.SMAP.
pub const BANK_SUPERVISOR_AC: usize = 2;
/// Never filled: all accesses take the slow path (alignment checks, data breakpoints).
pub const BANK_SLOW: usize = 3;

const ENTRIES: usize = 1024;
const BANKS: usize = 4;
const PAGE_MASK: u64 = !0xFFF;
const NO_TAG: u64 = !0;

/// Page-fault error code bits (SDM vol. 3A §4.7).
mod pf {
    pub const P: u16 = 1 << 0;
    pub const W: u16 = 1 << 1;
    pub const U: u16 = 1 << 2;
    pub const RSVD: u16 = 1 << 3;
    pub const I: u16 = 1 << 4;
}

/// Page-table entry bits.
mod pte {
    pub const P: u64 = 1 << 0;
    pub const W: u64 = 1 << 1;
    pub const U: u64 = 1 << 2;
    pub const A: u64 = 1 << 5;
    pub const D: u64 = 1 << 6;
    pub const PS: u64 = 1 << 7;
    pub const G: u64 = 1 << 8;
    pub const NX: u64 = 1 << 63;
}

/// What an access wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read data.
    Read,
    /// Write data.
    Write,
    /// Fetch an instruction.
    Fetch,
}

/// A data translation that the fast path can use. Fixed layout, for a recompiler's inline lookup.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Entry {
    /// The page's linear address if it may be read directly, else [`NO_TAG`].
    read: u64,
    /// The page's linear address if it may be written directly, else [`NO_TAG`].
    write: u64,
    /// Host address minus linear address.
    addend: u64,
    unused: u64,
}

/// A translation with its rights, for the slow path.
#[derive(Clone, Copy)]
struct Translation {
    tag: u64,
    phys: u64,
    /// Reading, writing (dirty bit set already), global.
    read: bool,
    write: bool,
    global: bool,
}

const EMPTY: Entry = Entry {
    read: NO_TAG,
    write: NO_TAG,
    addend: 0,
    unused: 0,
};
const NO_TRANSLATION: Translation = Translation {
    tag: NO_TAG,
    phys: 0,
    read: false,
    write: false,
    global: false,
};

/// The translation look-aside buffer.
pub struct Tlb {
    fast: [Entry; ENTRIES * BANKS],
    slow: [Translation; ENTRIES * BANKS],
    /// Instruction translations, by (page, user).
    fetch: [Translation; ENTRIES],
    used: [bool; BANKS + 1],
    /// One bit for each hashed 4 MiB region that a large page may map: what INVLPG must drop whole.
    large: u64,
    /// Counts flushes; whoever caches by linear address compares it.
    pub(crate) generation: u32,
}

impl Tlb {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self {
            fast: [EMPTY; ENTRIES * BANKS],
            slow: [NO_TRANSLATION; ENTRIES * BANKS],
            fetch: [NO_TRANSLATION; ENTRIES],
            used: [false; BANKS + 1],
            large: 0,
            generation: 1,
        })
    }

    #[inline(always)]
    fn slot(bank: usize, lin: u64) -> usize {
        (bank % BANKS) * ENTRIES + ((lin >> 12) as usize & (ENTRIES - 1))
    }

    /// Where `W::BYTES` bytes at `lin` can be read directly.
    #[inline(always)]
    pub fn read_pointer<W: Width>(&self, bank: usize, lin: u64) -> Option<*const u8> {
        self.read_pointer_sized(bank, lin, W::BYTES)
    }

    /// Where `size` (at most 4096) bytes at `lin` can be read directly.
    #[inline(always)]
    pub fn read_pointer_sized(&self, bank: usize, lin: u64, size: u64) -> Option<*const u8> {
        let entry = &self.fast[Self::slot(bank, lin)];
        // An access that crosses into the next page ends in a page that this entry is not for.
        if lin.wrapping_add(size - 1) & PAGE_MASK == entry.read {
            Some(lin.wrapping_add(entry.addend) as *const u8)
        } else {
            None
        }
    }

    /// Where `W::BYTES` bytes at `lin` can be written directly.
    #[inline(always)]
    pub fn write_pointer<W: Width>(&self, bank: usize, lin: u64) -> Option<*mut u8> {
        self.write_pointer_sized(bank, lin, W::BYTES)
    }

    /// Where `size` (at most 4096) bytes at `lin` can be written directly.
    #[inline(always)]
    pub fn write_pointer_sized(&self, bank: usize, lin: u64, size: u64) -> Option<*mut u8> {
        let entry = &self.fast[Self::slot(bank, lin)];
        if lin.wrapping_add(size - 1) & PAGE_MASK == entry.write {
            Some(lin.wrapping_add(entry.addend) as *mut u8)
        } else {
            None
        }
    }

    /// The host address of a bank's entries, for [`Vcpu::direct_read`].
    pub(crate) fn entries_of(&self, bank: usize) -> usize {
        self.fast[(bank % BANKS) * ENTRIES..]
            .as_ptr()
            .expose_provenance()
    }

    fn flush(&mut self, globals: bool) {
        if globals {
            self.large = 0;
        }
        self.generation = self.generation.wrapping_add(1);
        for bank in 0..BANKS {
            if !std::mem::take(&mut self.used[bank]) {
                continue;
            }
            let range = bank * ENTRIES..(bank + 1) * ENTRIES;
            if globals {
                self.fast[range.clone()].fill(EMPTY);
                self.slow[range].fill(NO_TRANSLATION);
            } else {
                for slot in range {
                    if self.slow[slot].global {
                        self.used[bank] = true;
                    } else {
                        self.fast[slot] = EMPTY;
                        self.slow[slot] = NO_TRANSLATION;
                    }
                }
            }
        }
        if std::mem::take(&mut self.used[BANKS]) {
            self.fetch.fill(NO_TRANSLATION);
        }
    }

    fn note_size(&mut self, page: u64, size: u64) {
        if size > 4 << 20 {
            self.large = !0;
        } else if size > 4096 {
            self.large |= large_bit(page);
        }
    }

    fn flush_page(&mut self, lin: u64) {
        self.generation = self.generation.wrapping_add(1);
        for bank in 0..BANKS {
            let slot = Self::slot(bank, lin);
            self.fast[slot] = EMPTY;
            self.slow[slot] = NO_TRANSLATION;
        }
        self.fetch[Self::slot(0, lin)] = NO_TRANSLATION;
    }

    /// Takes the direct right to write away from every linear page that maps physical page `phys`.
    pub(crate) fn protect(&mut self, phys: u64) {
        for (fast, slow) in self.fast.iter_mut().zip(&self.slow) {
            if slow.tag != NO_TAG && slow.phys == phys {
                fast.write = NO_TAG;
            }
        }
    }
}

fn large_bit(lin: u64) -> u64 {
    1 << ((lin >> 22).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58)
}

/// The result of a page walk.
struct Walk {
    phys: u64,
    write: bool,
    user: bool,
    global: bool,
    no_execute: bool,
    dirty: bool,
    /// Bytes in the page that was found.
    size: u64,
}

impl Vcpu {
    #[inline(always)]
    fn entry(&self, lin: u64) -> &Entry {
        let index = (lin >> 12) as usize & (ENTRIES - 1);
        // SAFETY: `tlb_entries` is the address of a bank of `ENTRIES` entries in `tlb`, a box that lives as
        // long as this processor and is never replaced; nothing writes to it meanwhile.
        unsafe { &*std::ptr::with_exposed_provenance::<Entry>(self.tlb_entries).add(index) }
    }

    /// Where `W::BYTES` bytes at `lin` can be read directly at the current privilege.
    #[inline(always)]
    pub(crate) fn direct_read<W: Width>(&self, lin: u64) -> Option<*const u8> {
        let entry = self.entry(lin);
        // An access that crosses into the next page ends in a page that this entry is not for.
        (lin.wrapping_add(W::BYTES - 1) & PAGE_MASK == entry.read)
            .then(|| lin.wrapping_add(entry.addend) as *const u8)
    }

    /// Where `W::BYTES` bytes at `lin` can be written directly at the current privilege.
    #[inline(always)]
    pub(crate) fn direct_write<W: Width>(&self, lin: u64) -> Option<*mut u8> {
        let entry = self.entry(lin);
        (lin.wrapping_add(W::BYTES - 1) & PAGE_MASK == entry.write)
            .then(|| lin.wrapping_add(entry.addend) as *mut u8)
    }

    /// Drops all translations; the global ones too if `globals`.
    pub fn flush_tlb(&mut self, globals: bool) {
        self.tlb.flush(globals);
    }

    /// INVLPG: drops the translations of one page, global ones too.
    pub fn flush_tlb_page(&mut self, lin: u64) {
        // A large page may be held as many small entries. The manual lets more be dropped than asked for.
        if self.tlb.large & large_bit(lin) != 0 {
            self.flush_tlb(true);
        } else {
            self.tlb.flush_page(lin);
        }
    }

    // ---- slow accesses -------------------------------------------------------------------------

    /// A load that the TLB's fast path declined. `number` is the instruction's in its block, `seg` the
    /// segment whose fault a non-canonical address raises.
    #[cold]
    pub(crate) fn load_slow(
        &mut self,
        number: u16,
        seg: u8,
        lin: u64,
        size: u8,
    ) -> Result<u64, Exception> {
        self.check_linear(lin, size.into(), seg)?;
        self.check_data_breakpoints(lin, size.into(), false);
        let bank = self.data_bank();
        self.load_banked(bank, number, lin, size)
    }

    /// A store that the TLB's fast path declined.
    #[cold]
    pub(crate) fn store_slow(
        &mut self,
        number: u16,
        seg: u8,
        lin: u64,
        size: u8,
        value: u64,
    ) -> Result<(), Exception> {
        self.check_linear(lin, size.into(), seg)?;
        self.check_data_breakpoints(lin, size.into(), true);
        let bank = self.data_bank();
        self.store_banked(bank, number, lin, size, value)
    }

    /// Checks that `size` bytes at `lin` can be accessed, filling the TLB and setting A and D bits.
    ///
    /// # Errors
    /// #PF, #AC, #GP or #SS.
    pub fn touch(&mut self, seg: u8, lin: u64, size: u64, write: bool) -> Result<(), Exception> {
        if size == 0 {
            return Ok(());
        }
        self.check_linear(lin, 1, seg)?;
        let last = lin.wrapping_add(size - 1) & self.linear_mask();
        self.check_linear(last, 1, seg)?;
        let access = if write { Access::Write } else { Access::Read };
        let bank = self.data_bank();
        self.translate(bank, lin, access)?;
        let mut page = (lin & PAGE_MASK).wrapping_add(4096) & self.linear_mask();
        while page != ((last & PAGE_MASK).wrapping_add(4096) & self.linear_mask()) {
            self.translate(bank, page, access)?;
            page = page.wrapping_add(4096) & self.linear_mask();
        }
        Ok(())
    }

    /// Translates for read-modify-write and tells where the place can be written directly, if it can.
    ///
    /// # Errors
    /// As for a store.
    pub(crate) fn touch_for_update(
        &mut self,
        seg: u8,
        lin: u64,
        size: u64,
    ) -> Result<(), Exception> {
        self.check_linear(lin, size, seg)?;
        self.touch(seg, lin, size, true)
    }

    /// Loads at a linear address as the processor itself does for descriptor tables and the TSS:
    /// with supervisor rights whatever the CPL.
    ///
    /// # Errors
    /// #PF.
    pub fn sys_load<W: Width>(&mut self, lin: u64) -> Result<u64, Exception> {
        self.load_banked(BANK_SUPERVISOR, 0, lin & self.sys_mask(), W::BYTES as u8)
    }

    /// Stores at a linear address with supervisor rights whatever the CPL.
    ///
    /// # Errors
    /// #PF.
    pub fn sys_store<W: Width>(&mut self, lin: u64, value: u64) -> Result<(), Exception> {
        self.store_banked(
            BANK_SUPERVISOR,
            0,
            lin & self.sys_mask(),
            W::BYTES as u8,
            value,
        )
    }

    /// Checks that the processor itself may access `size` bytes at `lin`, for a task switch.
    ///
    /// # Errors
    /// #PF.
    pub fn sys_touch(&mut self, lin: u64, size: u64, write: bool) -> Result<(), Exception> {
        let access = if write { Access::Write } else { Access::Read };
        let mut at = lin;
        loop {
            self.translate(BANK_SUPERVISOR, at & self.sys_mask(), access)?;
            at = (at & PAGE_MASK).wrapping_add(4096);
            if at >= lin + size {
                return Ok(());
            }
        }
    }

    fn sys_mask(&self) -> u64 {
        if self.cpu.long_mode() {
            !0
        } else {
            0xFFFF_FFFF
        }
    }

    fn check_linear(&self, lin: u64, size: u64, seg: u8) -> Result<(), Exception> {
        let long = self.mode_key & 3 == 2;
        if long && !(is_canonical(lin) && is_canonical(lin.wrapping_add(size - 1))) {
            return Err(segment_fault(seg.into()));
        }
        if size > 1
            && lin & (size.next_power_of_two().min(8) - 1) != 0
            && self.cpu.cpl == 3
            && self.cpu.cr0 & control::CR0_AM != 0
            && self.cpu.rflags & bits::AC != 0
        {
            return Err(Exception::AlignmentCheck);
        }
        Ok(())
    }

    /// Notes which armed data breakpoints an access meets; #DB is raised after the instruction
    /// (SDM vol. 3B §17.3.1.2).
    fn check_data_breakpoints(&mut self, lin: u64, size: u64, write: bool) {
        let dr7 = self.cpu.dr[7];
        if dr7 & 0xFF == 0 {
            return;
        }
        for n in 0..4 {
            let kind = dr7 >> (16 + 4 * n) & 3;
            let len = [1, 2, 8, 4][(dr7 >> (18 + 4 * n) & 3) as usize];
            if kind == 3 || kind == 1 && write {
                let start = self.cpu.dr[n] & !(len - 1);
                if lin < start + len && start < lin + size {
                    self.cpu.pending_debug |= 1 << n;
                    if dr7 >> (2 * n) & 3 != 0 {
                        self.attention |= attention::STEP;
                    }
                }
            }
        }
    }

    pub(crate) fn load_banked(
        &mut self,
        bank: usize,
        number: u16,
        lin: u64,
        size: u8,
    ) -> Result<u64, Exception> {
        if (lin & 0xFFF) + u64::from(size) > 4096 {
            let second = (lin & PAGE_MASK).wrapping_add(4096) & self.linear_mask_of(bank);
            let first_len = (4096 - (lin & 0xFFF)) as u8;
            let low_phys = self.translate(bank, lin, Access::Read)?;
            let high_phys = self.translate(bank, second, Access::Read)?;
            let mut value = 0;
            for i in 0..size {
                let phys = if i < first_len {
                    low_phys + u64::from(i)
                } else {
                    high_phys + u64::from(i - first_len)
                };
                value |= self.load_phys(number, phys, 1) << (8 * i);
            }
            return Ok(value);
        }
        let phys = self.translate(bank, lin, Access::Read)?;
        Ok(self.load_phys(number, phys, size))
    }

    pub(crate) fn store_banked(
        &mut self,
        bank: usize,
        number: u16,
        lin: u64,
        size: u8,
        value: u64,
    ) -> Result<(), Exception> {
        if (lin & 0xFFF) + u64::from(size) > 4096 {
            // Both pages are translated before either is written (SDM vol. 3A §11.7 leaves the order
            // free; software relies on nothing being written when the second page faults).
            let second = (lin & PAGE_MASK).wrapping_add(4096) & self.linear_mask_of(bank);
            let first_len = (4096 - (lin & 0xFFF)) as u8;
            let low_phys = self.translate(bank, lin, Access::Write)?;
            let high_phys = self.translate(bank, second, Access::Write)?;
            for i in 0..size {
                let phys = if i < first_len {
                    low_phys + u64::from(i)
                } else {
                    high_phys + u64::from(i - first_len)
                };
                self.store_phys(number, phys, 1, value >> (8 * i) & 0xFF);
            }
            return Ok(());
        }
        let phys = self.translate(bank, lin, Access::Write)?;
        self.store_phys(number, phys, size, value);
        Ok(())
    }

    fn linear_mask_of(&self, bank: usize) -> u64 {
        if bank == BANK_SUPERVISOR {
            self.sys_mask()
        } else {
            self.linear_mask()
        }
    }

    /// Loads from physical memory or a device; `size` bytes within one page.
    pub(crate) fn load_phys(&mut self, number: u16, phys: u64, size: u8) -> u64 {
        let memory = &self.bus().memory;
        let within = (phys & 0xFFF) as usize;
        let page = match memory.page(PhysAddr(phys)) {
            Page::Ram(page) => page.cast_const(),
            Page::Rom(page) => page,
            Page::None => return self.load_device(number, phys, size),
        };
        let mut bytes = [0u8; 8];
        // SAFETY: the page is 4096 bytes long and the caller keeps `within + size` inside it.
        unsafe {
            page.add(within)
                .copy_to_nonoverlapping(bytes.as_mut_ptr(), size.into())
        };
        u64::from_le_bytes(bytes)
    }

    fn load_device(&mut self, number: u16, phys: u64, size: u8) -> u64 {
        let value = if self.is_apic_address(phys) {
            self.load_apic(number, phys, size)
        } else if size.is_power_of_two() {
            self.bus_at(number).mmio_read(PhysAddr(phys), size)
        } else {
            let bus = self.bus_at(number);
            (0..size)
                .map(|i| bus.mmio_read(PhysAddr(phys + u64::from(i)), 1) << (8 * i))
                .sum()
        };
        self.after_device_access(number);
        value
    }

    fn store_device(&mut self, number: u16, phys: u64, size: u8, value: u64) {
        if self.is_apic_address(phys) {
            self.store_apic(number, phys, size, value);
        } else {
            self.bus_at(number).mmio_write(PhysAddr(phys), size, value);
        }
        self.after_device_access(number);
    }

    /// Stores to physical memory or a device; `size` bytes within one page. Drops decoded code that
    /// it overwrites.
    pub(crate) fn store_phys(&mut self, number: u16, phys: u64, size: u8, value: u64) {
        let memory = &self.bus().memory;
        let within = (phys & 0xFFF) as usize;
        match memory.page(PhysAddr(phys)) {
            Page::Ram(page) => {
                let is_code = memory.is_code_page(PhysAddr(phys));
                let bytes = value.to_le_bytes();
                // SAFETY: the page is 4096 bytes long and the caller keeps `within + size` inside it.
                unsafe {
                    page.add(within)
                        .copy_from_nonoverlapping(bytes.as_ptr(), size.into())
                };
                if is_code {
                    self.code_written(phys, size.into(), Some(number));
                }
            }
            Page::Rom(_) => {}
            Page::None => self.store_device(number, phys, size, value),
        }
    }

    // ---- translation ---------------------------------------------------------------------------

    /// Translates a linear address with the rights of `bank`, filling the TLB.
    ///
    /// # Errors
    /// #PF, with CR2 set.
    pub(crate) fn translate(
        &mut self,
        bank: usize,
        lin: u64,
        access: Access,
    ) -> Result<u64, Exception> {
        debug_assert!(bank != BANK_SLOW);
        let slot = Tlb::slot(bank, lin);
        let page = lin & PAGE_MASK;
        let known = &self.tlb.slow[slot];
        if known.tag == page
            && (if access == Access::Write {
                known.write
            } else {
                known.read
            })
        {
            return Ok(known.phys | (lin & 0xFFF));
        }
        let walk = self.walk(lin, access, bank)?;
        self.check_rights(&walk, lin, access, bank)?;
        if self.cpu.cr0 & control::CR0_PG != 0 {
            // The walk may have been for reading; whether writing is allowed as well is known now.
            let may_write =
                walk.dirty && self.check_rights_quiet(&walk, Access::Write, bank).is_ok();
            self.fill(bank, page, &walk, may_write);
        } else {
            self.fill(bank, page, &walk, true);
        }
        Ok(walk.phys | (lin & 0xFFF))
    }

    fn fill(&mut self, bank: usize, page: u64, walk: &Walk, may_write: bool) {
        let slot = Tlb::slot(bank, page);
        let memory = &self
            .bus
            .as_ref()
            .expect("memory is accessed only while the bus is attached")
            .memory;
        let (read, write, host) = match memory.page(PhysAddr(walk.phys)) {
            Page::Ram(host) => (
                true,
                may_write && !memory.is_code_page(PhysAddr(walk.phys)),
                host as u64,
            ),
            Page::Rom(host) => (true, false, host as u64),
            Page::None => (false, false, 0),
        };
        self.tlb.note_size(page, walk.size);
        self.tlb.used[bank] = true;
        self.tlb.slow[slot] = Translation {
            tag: page,
            phys: walk.phys,
            read: true,
            write: may_write,
            global: walk.global,
        };
        self.tlb.fast[slot] = Entry {
            read: if read { page } else { NO_TAG },
            write: if write { page } else { NO_TAG },
            addend: host.wrapping_sub(page),
            unused: 0,
        };
    }

    /// Translates the address of an instruction at the current privilege.
    ///
    /// # Errors
    /// #PF, with CR2 set.
    pub(crate) fn translate_fetch(&mut self, lin: u64) -> Result<u64, Exception> {
        let user = self.cpu.cpl == 3;
        let slot = Tlb::slot(0, lin);
        let page = lin & PAGE_MASK;
        let tag = page | u64::from(user);
        if self.tlb.fetch[slot].tag == tag {
            return Ok(self.tlb.fetch[slot].phys | (lin & 0xFFF));
        }
        let bank = if user { BANK_USER } else { BANK_SUPERVISOR };
        let walk = self.walk(lin, Access::Fetch, bank)?;
        self.check_rights(&walk, lin, Access::Fetch, bank)?;
        self.tlb.note_size(page, walk.size);
        self.tlb.used[BANKS] = true;
        self.tlb.fetch[slot] = Translation {
            tag,
            phys: walk.phys,
            read: true,
            write: false,
            global: walk.global,
        };
        Ok(walk.phys | (lin & 0xFFF))
    }

    fn check_rights(
        &mut self,
        walk: &Walk,
        lin: u64,
        access: Access,
        bank: usize,
    ) -> Result<(), Exception> {
        self.check_rights_quiet(walk, access, bank)
            .map_err(|error| {
                self.cpu.cr2 = lin;
                Exception::page_fault(error)
            })
    }

    /// Decides by the combined rights of all levels (SDM vol. 3A §4.6).
    fn check_rights_quiet(&self, walk: &Walk, access: Access, bank: usize) -> Result<(), u16> {
        if self.cpu.cr0 & control::CR0_PG == 0 {
            return Ok(());
        }
        let user = bank == BANK_USER;
        let cr4 = self.cpu.cr4;
        let allowed = if user {
            walk.user
                && match access {
                    Access::Read => true,
                    Access::Write => walk.write,
                    Access::Fetch => !walk.no_execute,
                }
        } else {
            let smap = cr4 & control::CR4_SMAP != 0 && walk.user && bank != BANK_SUPERVISOR_AC;
            match access {
                Access::Read => !smap,
                Access::Write => !smap && (walk.write || self.cpu.cr0 & control::CR0_WP == 0),
                Access::Fetch => !walk.no_execute && (cr4 & control::CR4_SMEP == 0 || !walk.user),
            }
        };
        if allowed {
            Ok(())
        } else {
            Err(pf::P | self.fault_bits(access, user))
        }
    }

    fn fault_bits(&self, access: Access, user: bool) -> u16 {
        let mut error = if user { pf::U } else { 0 };
        match access {
            Access::Write => error |= pf::W,
            Access::Fetch => {
                // The I bit exists only where a fetch can be forbidden as such.
                let nx =
                    self.cpu.efer & control::EFER_NXE != 0 && self.cpu.cr4 & control::CR4_PAE != 0;
                if nx || self.cpu.cr4 & control::CR4_SMEP != 0 {
                    error |= pf::I;
                }
            }
            Access::Read => {}
        }
        error
    }

    /// Walks the page tables for `lin`, setting A bits, and the D bit when the access is a write that
    /// the rights allow.
    ///
    /// Intel SDM vol. 3A §4.3 (32-bit), §4.4 (PAE), §4.5 (4-level).
    ///
    /// # Errors
    /// #PF for a not-present entry or a reserved bit, with CR2 set.
    fn walk(&mut self, lin: u64, access: Access, bank: usize) -> Result<Walk, Exception> {
        if self.cpu.cr0 & control::CR0_PG == 0 {
            let phys = lin & 0xFFFF_FFFF & PAGE_MASK & self.a20_mask;
            return Ok(Walk {
                phys,
                write: true,
                user: true,
                global: false,
                no_execute: false,
                dirty: true,
                size: 4096,
            });
        }
        let walked = if self.cpu.cr4 & control::CR4_PAE == 0 {
            self.walk_32(lin, access, bank)
        } else {
            self.walk_pae(lin, access, bank)
        };
        walked.map_err(|error| {
            self.cpu.cr2 = lin;
            Exception::page_fault(error | self.fault_bits(access, bank == BANK_USER))
        })
    }

    fn walk_32(&mut self, lin: u64, access: Access, bank: usize) -> Result<Walk, u16> {
        let pde_addr = (self.cpu.cr3 & 0xFFFF_F000) | (lin >> 22 & 0x3FF) << 2;
        let pde = self.load_table(pde_addr, 4);
        if pde & pte::P == 0 {
            return Err(0);
        }
        if pde & pte::PS != 0 && self.cpu.cr4 & control::CR4_PSE != 0 {
            // PSE-36: bits 20-13 give physical address bits 39-32, bit 21 is reserved.
            if pde & 1 << 21 != 0 || (pde >> 13 & 0xFF) << 32 & !self.physical_mask() != 0 {
                return Err(pf::P | pf::RSVD);
            }
            let base = (pde & 0xFFC0_0000) | (pde >> 13 & 0xFF) << 32;
            let mut walk = self.leaf(
                pde,
                base | (lin & 0x3F_F000),
                4 << 20,
                pde & pte::W != 0,
                pde & pte::U != 0,
                false,
            );
            self.set_accessed(pde_addr, pde, 4, &mut walk, access, bank);
            return Ok(walk);
        }
        let pte_addr = (pde & 0xFFFF_F000) | (lin >> 12 & 0x3FF) << 2;
        if pde & pte::A == 0 {
            self.store_table(pde_addr, 4, pde | pte::A);
        }
        let entry = self.load_table(pte_addr, 4);
        if entry & pte::P == 0 {
            return Err(0);
        }
        let both = pde & entry;
        let mut walk = self.leaf(
            entry,
            entry & 0xFFFF_F000,
            4096,
            both & pte::W != 0,
            both & pte::U != 0,
            false,
        );
        self.set_accessed(pte_addr, entry, 4, &mut walk, access, bank);
        Ok(walk)
    }

    fn walk_pae(&mut self, lin: u64, access: Access, bank: usize) -> Result<Walk, u16> {
        let nxe = self.cpu.efer & control::EFER_NXE != 0;
        let long = self.cpu.long_mode();
        let mut reserved = !self.physical_mask() & 0x000F_FFFF_FFFF_F000;
        if !nxe {
            reserved |= pte::NX;
        }
        if !long {
            // Legacy PAE entries have no software-available high bits.
            reserved |= 0x7FF0_0000_0000_0000;
        }
        let (mut write, mut user_ok, mut no_execute) = (true, true, false);
        let mut table;
        let mut level;
        if long {
            table = self.cpu.cr3 & 0x000F_FFFF_FFFF_F000;
            level = 4;
        } else {
            let pdpte = self.cpu.pdpte[(lin >> 30 & 3) as usize];
            if pdpte & pte::P == 0 {
                return Err(0);
            }
            table = pdpte & 0x000F_FFFF_FFFF_F000;
            level = 2;
        }
        loop {
            let shift = 12 + 9 * (level - 1);
            let addr = table | (lin >> shift & 0x1FF) << 3;
            let entry = self.load_table(addr, 8);
            if entry & pte::P == 0 {
                return Err(0);
            }
            let large = level > 1 && entry & pte::PS != 0;
            let mut bad = entry & reserved;
            if large {
                let low_bits = (1u64 << shift) - 1;
                // Address bits below the page's size are reserved, but for PAT at bit 12.
                bad |= entry & low_bits & 0x000F_FFFF_FFFF_E000;
                if level == 4 || level == 3 && !self.model.has_1g_pages() {
                    bad |= pte::PS;
                }
            }
            if bad != 0 {
                return Err(pf::P | pf::RSVD);
            }
            write &= entry & pte::W != 0;
            user_ok &= entry & pte::U != 0;
            no_execute |= nxe && entry & pte::NX != 0;
            if level == 1 || large {
                let low_bits = (1u64 << shift) - 1;
                let base = entry & 0x000F_FFFF_FFFF_F000 & !low_bits;
                let mut walk = self.leaf(
                    entry,
                    base | (lin & low_bits & PAGE_MASK),
                    low_bits + 1,
                    write,
                    user_ok,
                    no_execute,
                );
                self.set_accessed(addr, entry, 8, &mut walk, access, bank);
                return Ok(walk);
            }
            if entry & pte::A == 0 {
                self.store_table(addr, 8, entry | pte::A);
            }
            table = entry & 0x000F_FFFF_FFFF_F000;
            level -= 1;
        }
    }

    fn leaf(
        &self,
        entry: u64,
        phys: u64,
        size: u64,
        write: bool,
        user: bool,
        no_execute: bool,
    ) -> Walk {
        Walk {
            phys: phys & self.a20_mask,
            write,
            user,
            global: entry & pte::G != 0 && self.cpu.cr4 & control::CR4_PGE != 0,
            no_execute,
            dirty: entry & pte::D != 0,
            size,
        }
    }

    /// Sets A, and D for a write, in a leaf entry; not when the rights forbid the access.
    fn set_accessed(
        &mut self,
        addr: u64,
        entry: u64,
        size: u8,
        walk: &mut Walk,
        access: Access,
        bank: usize,
    ) {
        if self.check_rights_quiet(walk, access, bank).is_err() {
            return;
        }
        let mut updated = entry | pte::A;
        if access == Access::Write {
            updated |= pte::D;
            walk.dirty = true;
        }
        if updated != entry {
            self.store_table(addr, size, updated);
        }
    }

    fn load_table(&mut self, addr: u64, size: u8) -> u64 {
        self.load_phys(0, addr & self.a20_mask, size)
    }

    fn store_table(&mut self, addr: u64, size: u8, value: u64) {
        self.store_phys(0, addr & self.a20_mask, size, value);
    }

    /// The physical addresses that the model has: MAXPHYADDR bits.
    pub(crate) fn physical_mask(&self) -> u64 {
        (1 << self.model.physical_address_bits()) - 1
    }

    /// Loads the four PAE page-directory pointers from CR3 (SDM vol. 3A §4.4.1).
    ///
    /// # Errors
    /// #GP(0) when a present one has a reserved bit set; nothing is changed then.
    pub fn load_pdptes(&mut self, cr3: u64) -> Result<(), Exception> {
        let table = cr3 & 0xFFFF_FFE0;
        let mut pdpte = [0; 4];
        for (n, entry) in pdpte.iter_mut().enumerate() {
            *entry = self.load_table(table + 8 * n as u64, 8);
            let reserved = (!self.physical_mask() & !0xFFF) | 0x1E6;
            if *entry & pte::P != 0 && *entry & reserved != 0 {
                return Err(Exception::gp(0));
            }
        }
        self.cpu.pdpte = pdpte;
        Ok(())
    }

    /// Translates without faulting or setting A and D bits: for debuggers and for fetching ahead.
    pub fn probe(&mut self, lin: u64) -> Option<PhysAddr> {
        let cr2 = self.cpu.cr2;
        let walk = self.walk_without_effects(lin);
        self.cpu.cr2 = cr2;
        walk.map(|walk| PhysAddr(walk.phys | (lin & 0xFFF)))
    }

    fn walk_without_effects(&mut self, lin: u64) -> Option<Walk> {
        // Forbidding the access keeps `set_accessed` from writing; the upper levels' A bits are
        // already set wherever a processor has walked, and setting one early is allowed (§4.8).
        self.walk(lin, Access::Read, BANK_SUPERVISOR).ok()
    }
}
