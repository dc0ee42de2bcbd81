//! Loads and stores: the one place that decides between the TLB's pointers and the slow path.

use platform::{Page, PhysAddr, granules};

use super::tlb::{Direct, ENTRIES, PAGE_MASK, frame};
use super::{Access, BANK_SUPERVISOR};
use crate::cpu::control;
use crate::exception::Exception;
use crate::flags::bits;
use crate::vcpu::{Vcpu, attention, is_canonical, segment_fault};
use crate::width::Width;

impl Vcpu {
    // ---- fast accesses -------------------------------------------------------------------------

    #[inline(always)]
    fn entry(&self, lin: u64) -> &Direct {
        let index = (lin >> 12) as usize & (ENTRIES - 1);
        // SAFETY: `tlb_entries` is the address of a bank of `ENTRIES` entries in `tlb`, a box that lives as
        // long as this processor and is never replaced; nothing writes to it meanwhile.
        unsafe { &*std::ptr::with_exposed_provenance::<Direct>(self.tlb_entries).add(index) }
    }

    /// Where `W::BYTES` bytes at `lin` can be read directly at the current privilege.
    #[inline(always)]
    pub(crate) fn direct_read<W: Width>(&self, lin: u64) -> Option<*const u8> {
        self.entry(lin).read_pointer(lin, W::BYTES)
    }

    /// Where `W::BYTES` bytes at `lin` can be written directly at the current privilege.
    #[inline(always)]
    pub(crate) fn direct_write<W: Width>(&self, lin: u64) -> Option<*mut u8> {
        self.entry(lin).write_pointer(lin, W::BYTES)
    }

    /// Where `size` (1 to 4096) bytes at `lin` can be read directly at the current privilege.
    #[inline(always)]
    pub(crate) fn direct_read_sized(&self, lin: u64, size: u64) -> Option<*const u8> {
        self.entry(lin).read_pointer(lin, size)
    }

    /// Where `size` (1 to 4096) bytes at `lin` can be written directly at the current privilege.
    #[inline(always)]
    pub(crate) fn direct_write_sized(&self, lin: u64, size: u64) -> Option<*mut u8> {
        self.entry(lin).write_pointer(lin, size)
    }

    /// Where `size` bytes at `lin` can be written although code is in the same page, of which no byte is there,
    /// or although the page was clean.
    #[inline(never)]
    pub(crate) fn write_beside_code(&mut self, lin: u64, size: u64) -> Option<*mut u8> {
        let entry = *self.entry(lin);
        if entry.frame & frame::WRITABLE == 0
            || lin.wrapping_add(size - 1) & PAGE_MASK != entry.read
        {
            return None;
        }
        let host = lin.wrapping_add(entry.addend) as *mut u8;
        let memory = &mut self.bus().memory;
        memory.note_write(host);
        let mask = memory.code_mask_at(host);
        if mask & granules(lin & 0xFFF, size) != 0 {
            let phys = entry.frame & PAGE_MASK | lin & 0xFFF;
            return (!self.code.is_watched(phys, size)).then_some(host);
        }
        if mask == 0 && entry.write != entry.read {
            // The page holds no code any more, or it was clean.
            let bank = self.tlb_bank;
            self.tlb.direct(bank, lin).write = entry.read;
        }
        Some(host)
    }

    /// Loads from a linear address at the current privilege, for instruction `number` of its block; `seg` is the
    /// segment whose fault a non-canonical address raises.
    ///
    /// # Errors
    /// #PF, #AC, #GP(0) or #SS(0) when not canonical.
    #[inline(always)]
    pub(crate) fn load_at<W: Width>(
        &mut self,
        number: u16,
        seg: u8,
        lin: u64,
    ) -> Result<u64, Exception> {
        match self.direct_read::<W>(lin) {
            // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM or ROM.
            Some(ptr) => Ok(unsafe { W::load(ptr) }),
            None => self.load_slow(number, seg, lin, W::BYTES as u8),
        }
    }

    /// Stores to a linear address at the current privilege, likewise.
    ///
    /// # Errors
    /// #PF, #AC, #GP(0) or #SS(0) when not canonical.
    #[inline(always)]
    pub(crate) fn store_at<W: Width>(
        &mut self,
        number: u16,
        seg: u8,
        lin: u64,
        value: u64,
    ) -> Result<(), Exception> {
        match self.direct_write::<W>(lin) {
            Some(ptr) => {
                // SAFETY: the TLB gives a pointer to `W::BYTES` bytes of guest RAM.
                unsafe { W::store(ptr, value) };
                Ok(())
            }
            None => self.store_slow(number, seg, lin, W::BYTES as u8, value),
        }
    }

    // ---- spans -----------------------------------------------------------------------------------

    /// Where `bytes` bytes from `low` on can be read, all in the page of `lin`, where the first
    /// access is to be: its page is translated if need be. `None` where there is no memory, or
    /// where the access would fault.
    pub(crate) fn readable_span(
        &mut self,
        seg: u8,
        lin: u64,
        low: u64,
        bytes: u64,
    ) -> Option<*const u8> {
        if let Some(ptr) = self.direct_read_sized(low, bytes) {
            return Some(ptr);
        }
        if self.entry(low).device_address(low, bytes, false).is_some() {
            return None;
        }
        self.touch(seg, lin, 1, false).ok()?;
        self.direct_read_sized(low, bytes)
    }

    /// Where they can be written, likewise: not where decoded code is among them either.
    pub(crate) fn writable_span(
        &mut self,
        seg: u8,
        lin: u64,
        low: u64,
        bytes: u64,
    ) -> Option<*mut u8> {
        if let Some(ptr) = self.direct_write_sized(low, bytes) {
            return Some(ptr);
        }
        let entry = self.entry(low);
        if entry.device_address(low, bytes, true).is_some() {
            return None;
        }
        if entry.frame & frame::WRITABLE == 0 || entry.read != low & PAGE_MASK {
            self.touch(seg, lin, 1, true).ok()?;
            if let Some(ptr) = self.direct_write_sized(low, bytes) {
                return Some(ptr);
            }
        }
        self.write_beside_code(low, bytes)
    }

    /// The physical address of `bytes` bytes at `low`, in a page that [`readable_span`](Self::readable_span) or
    /// [`writable_span`](Self::writable_span) has found to be no memory, where the access is allowed.
    pub(crate) fn device_span(&self, low: u64, bytes: u64, write: bool) -> Option<u64> {
        self.entry(low).device_address(low, bytes, write)
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
        if let Some(ptr) = self.write_beside_code(lin, size.into()) {
            let bytes = value.to_le_bytes();
            // SAFETY: the pointer is good for `size` bytes of guest RAM, and `size` is at most 8.
            unsafe { ptr.copy_from_nonoverlapping(bytes.as_ptr(), size.into()) };
            return Ok(());
        }
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

    /// Checks as for a store, and fills the TLB, for an instruction that reads the place first.
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
        let number = self.running_number();
        self.load_banked(
            BANK_SUPERVISOR,
            number,
            lin & self.sys_mask(),
            W::BYTES as u8,
        )
    }

    /// Stores at a linear address with supervisor rights whatever the CPL.
    ///
    /// # Errors
    /// #PF.
    pub fn sys_store<W: Width>(&mut self, lin: u64, value: u64) -> Result<(), Exception> {
        let number = self.running_number();
        self.store_banked(
            BANK_SUPERVISOR,
            number,
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
        if let Some(ptr) = self.tlb.read_pointer_sized(bank, lin, size.into()) {
            let mut bytes = [0; 8];
            // SAFETY: the TLB gives a pointer to `size` bytes of guest RAM or ROM, and `size` is at most 8.
            unsafe { ptr.copy_to_nonoverlapping(bytes.as_mut_ptr(), size.into()) };
            return Ok(u64::from_le_bytes(bytes));
        }
        let entry = self.tlb.direct(bank, lin);
        if let Some(phys) = entry.device_address(lin, size.into(), false) {
            return Ok(self.load_device(number, phys, size));
        }
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
        if let Some(ptr) = self.tlb.write_pointer_sized(bank, lin, size.into()) {
            let bytes = value.to_le_bytes();
            // SAFETY: the TLB gives a pointer to `size` bytes of guest RAM, and `size` is at most 8.
            unsafe { ptr.copy_from_nonoverlapping(bytes.as_ptr(), size.into()) };
            return Ok(());
        }
        let entry = self.tlb.direct(bank, lin);
        if let Some(phys) = entry.device_address(lin, size.into(), true) {
            self.store_device(number, phys, size, value);
            return Ok(());
        }
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
        let phys = Self::viewed(phys, self.smram_data);
        let memory = &self.bus().memory;
        let within = (phys & 0xFFF) as usize;
        let page = match memory.page_of_processor(PhysAddr(phys)) {
            Page::Ram(page) => page.cast_const(),
            Page::Rom(page) => page,
            Page::Split { rom, .. } if !rom.is_null() => rom,
            Page::Split { .. } | Page::None => return self.load_device(number, phys, size),
        };
        let mut bytes = [0u8; 8];
        // SAFETY: the page is 4096 bytes long and the caller keeps `within + size` inside it.
        unsafe {
            page.add(within)
                .copy_to_nonoverlapping(bytes.as_mut_ptr(), size.into())
        };
        u64::from_le_bytes(bytes)
    }

    /// Loads from a device, or from where nothing is.
    pub(crate) fn load_device(&mut self, number: u16, phys: u64, size: u8) -> u64 {
        if self.is_apic_address(phys) {
            let value = self.load_apic(number, phys, size);
            self.after_apic_access(number);
            return value;
        }
        let (value, active) = self.access_bus(number, |bus| {
            if size.is_power_of_two() {
                bus.mmio_read(PhysAddr(phys), size)
            } else {
                (0..size)
                    .map(|i| bus.mmio_read(PhysAddr(phys + u64::from(i)), 1) << (8 * i))
                    .sum()
            }
        });
        self.after_device_access(number, active);
        value
    }

    /// The running block ends behind an access after which something is to be looked at, or by
    /// which something became due within the block: wherever a slice would have ended.
    fn after_device_access(&mut self, number: u16, active: bool) {
        if active {
            self.cut_block(number);
        } else {
            self.cut_block_at_slice_end(number);
        }
    }

    /// Stores to a device, or to where nothing is.
    pub(crate) fn store_device(&mut self, number: u16, phys: u64, size: u8, value: u64) {
        if self.is_apic_address(phys) {
            self.store_apic(number, phys, size, value);
            self.after_apic_access(number);
            return;
        }
        let ((), active) =
            self.access_bus(number, |bus| bus.mmio_write(PhysAddr(phys), size, value));
        self.after_device_access(number, active);
    }

    /// Stores to physical memory or a device; `size` bytes within one page. Drops decoded code that
    /// it overwrites.
    pub(crate) fn store_phys(&mut self, number: u16, phys: u64, size: u8, value: u64) {
        let phys = Self::viewed(phys, self.smram_data);
        let memory = &mut self.bus().memory;
        let within = (phys & 0xFFF) as usize;
        match memory.page_of_processor(PhysAddr(phys)) {
            Page::Ram(page) | Page::Split { ram: page, .. } => {
                memory.note_write(page);
                let near_code =
                    memory.code_mask(PhysAddr(phys)) & granules(phys & 0xFFF, size.into()) != 0;
                let bytes = value.to_le_bytes();
                let mut before = bytes;
                // SAFETY: the page is 4096 bytes long and the caller keeps `within + size` inside it.
                unsafe {
                    let place = page.add(within);
                    if near_code {
                        place.copy_to_nonoverlapping(before.as_mut_ptr(), size.into());
                    }
                    place.copy_from_nonoverlapping(bytes.as_ptr(), size.into());
                }
                if near_code {
                    self.code_written(phys, size.into(), before == bytes, Some(number));
                }
            }
            Page::Rom(_) => {}
            Page::None => self.store_device(number, phys, size, value),
        }
    }
}
