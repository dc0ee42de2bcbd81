//! Linear to physical, and every memory access of a processor.
//!
//! | file | what |
//! |---|---|
//! | `tlb` | what is remembered, and what each event drops of it |
//! | `walk` | what the page tables say, without an effect on anything |
//! | `mod` | translating: TLB, walk, rights, accessed and dirty bits, faults |
//! | `access` | loads and stores: the TLB's pointers, or the slow path |
//!
//! Intel SDM vol. 3A chapter 4.

mod access;
#[cfg(test)]
mod model;
pub mod tlb;
pub mod walk;

use platform::{Page, PhysAddr};

use crate::cpu::control;
use crate::exception::Exception;
use crate::vcpu::Vcpu;
pub use tlb::{BANK_SLOW, BANK_SUPERVISOR, BANK_SUPERVISOR_AC, BANK_USER, Tlb};
use tlb::{DEVICE, Direct, Leaf, NO_TAG, PAGE_MASK, frame};
use walk::{NoPage, Paging, Walk, pte};

/// Page-fault error code bits (SDM vol. 3A §4.7).
mod pf {
    pub const P: u16 = 1 << 0;
    pub const W: u16 = 1 << 1;
    pub const U: u16 = 1 << 2;
    pub const RSVD: u16 = 1 << 3;
    pub const I: u16 = 1 << 4;
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

impl Vcpu {
    // ---- events --------------------------------------------------------------------------------

    /// Drops all translations, of all address spaces, global ones too.
    pub fn flush_tlb(&mut self) {
        self.tlb.flush_all();
        self.update_fetch_tags();
    }

    /// CR3 has been written: the address space is `pcid` (0 without CR4.PCIDE), whose translations but for the global
    /// ones are dropped unless `keep` (SDM vol. 3A §4.10.4.1).
    pub(crate) fn change_address_space(&mut self, pcid: u16, keep: bool) {
        self.tlb.switch_to(pcid);
        if !keep {
            self.tlb.flush_pcid(pcid);
        }
        self.update_fetch_tags();
    }

    /// INVLPG: drops the translations of one page, global ones too.
    pub fn flush_tlb_page(&mut self, lin: u64) {
        self.tlb.flush_page(lin);
        self.update_fetch_tags();
    }

    /// Does `event` to the TLB, for events that only INVPCID has.
    pub(crate) fn with_tlb(&mut self, event: impl FnOnce(&mut Tlb)) {
        event(&mut self.tlb);
        self.update_fetch_tags();
    }

    /// Recomputes what a remembered jump must agree in, beside the linear address: the mode, and that its page still
    /// leads where it led; by translations that are not global, and by global ones.
    pub(crate) fn update_fetch_tags(&mut self) {
        const GLOBAL: u64 = 1 << 15;
        let key = u64::from(self.fetch_key);
        let [local, global] = self.tlb.generations();
        self.fetch_tags = [local << 16 | key, global << 16 | GLOBAL | key];
    }

    // ---- translating ---------------------------------------------------------------------------

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
        let leaf = self.leaf(bank, lin, access)?;
        let leaf = Leaf(Self::viewed(leaf.0, self.smram_data));
        self.fill(bank, lin, leaf);
        Ok(leaf.phys() | (lin & 0xFFF))
    }

    /// Translates the address of an instruction at the current privilege. Gives the physical address, and whether the
    /// translation is global.
    ///
    /// # Errors
    /// #PF, with CR2 set.
    pub(crate) fn translate_fetch(&mut self, lin: u64) -> Result<(u64, bool), Exception> {
        let bank = if self.cpu.cpl == 3 {
            BANK_USER
        } else {
            BANK_SUPERVISOR
        };
        let leaf = self.leaf(bank, lin, Access::Fetch)?;
        if !leaf.has(Leaf::FETCHED) {
            self.tlb.note_fetch(lin);
        }
        let phys = Self::viewed(leaf.phys() | (lin & 0xFFF), self.smram_code);
        Ok((phys, leaf.has(Leaf::GLOBAL)))
    }

    /// The page of `lin`, where the rights of `bank` allow the access.
    fn leaf(&mut self, bank: usize, lin: u64, access: Access) -> Result<Leaf, Exception> {
        if self.cpu.cr0 & control::CR0_PG == 0 {
            let phys = lin & 0xFFFF_FFFF & PAGE_MASK & self.a20_mask;
            // Only what drops everything ends this.
            let rights = Leaf::WRITE | Leaf::USER | Leaf::DIRTY | Leaf::GLOBAL | Leaf::FETCHED;
            return Ok(Leaf(phys | rights));
        }
        if let Some(leaf) = self.tlb.lookup(lin)
            && self.allows(leaf, access, bank)
            && (access != Access::Write || leaf.has(Leaf::DIRTY))
        {
            return Ok(leaf);
        }
        // Nothing is known, or too little: the tables may say more by now.
        self.walk(bank, lin, access)
    }

    /// Walks the page tables, sets accessed and dirty bits, and remembers what was found.
    ///
    /// The bits are set when all checks are behind. The manual calls for the accessed bit of each
    /// entry that is *used* in a translation (SDM vol. 3A §4.8), and leaves open whether a walk
    /// that ends in a fault has used the upper ones; the 386 and Bochs leave them clear, and the
    /// test suite test386 asks for that.
    #[cold]
    fn walk(&mut self, bank: usize, lin: u64, access: Access) -> Result<Leaf, Exception> {
        self.tlb.walks += 1;
        let paging = Paging::of(&self.cpu, &self.model);
        let number = self.running_number();
        let found = walk::walk(&paging, lin, &mut |addr, size| {
            self.load_phys(number, addr & self.a20_mask, size)
        });
        let user = bank == BANK_USER;
        let checked = match found {
            Ok(walk) if self.allows(walk.leaf, access, bank) => Ok(walk),
            Ok(_) => Err(pf::P),
            Err(NoPage::NotPresent) => Err(0),
            Err(NoPage::Reserved) => Err(pf::P | pf::RSVD),
        };
        let walk = checked.map_err(|error| {
            self.cpu.cr2 = lin;
            Exception::page_fault(error | self.fault_bits(access, user))
        })?;
        let mut leaf = walk.leaf.0;
        self.set_used(&walk, access);
        if access == Access::Write {
            leaf |= Leaf::DIRTY;
        }
        let leaf = Leaf(leaf & (self.a20_mask | !PAGE_MASK));
        self.tlb.insert(lin, leaf, walk.size);
        Ok(leaf)
    }

    /// Sets the accessed bits of the entries used, and the dirty bit of the last one for a write.
    fn set_used(&mut self, walk: &Walk, access: Access) {
        let number = self.running_number();
        for (n, step) in walk.steps[..walk.depth].iter().enumerate() {
            let mut used = step.entry | pte::A;
            if access == Access::Write && n + 1 == walk.depth {
                used |= pte::D;
            }
            if used != step.entry {
                self.store_phys(number, step.addr & self.a20_mask, walk.entry_size, used);
            }
        }
    }

    /// Decides by the combined rights of all levels (SDM vol. 3A §4.6).
    #[inline]
    fn allows(&self, leaf: Leaf, access: Access, bank: usize) -> bool {
        if bank == BANK_USER {
            return leaf.has(Leaf::USER)
                && match access {
                    Access::Read => true,
                    Access::Write => leaf.has(Leaf::WRITE),
                    Access::Fetch => !leaf.has(Leaf::NO_EXECUTE),
                };
        }
        let (cr0, cr4) = (self.cpu.cr0, self.cpu.cr4);
        let smap =
            || leaf.has(Leaf::USER) && cr4 & control::CR4_SMAP != 0 && bank != BANK_SUPERVISOR_AC;
        match access {
            Access::Read => !smap(),
            Access::Write => (leaf.has(Leaf::WRITE) || cr0 & control::CR0_WP == 0) && !smap(),
            Access::Fetch => {
                !leaf.has(Leaf::NO_EXECUTE)
                    && (cr4 & control::CR4_SMEP == 0 || !leaf.has(Leaf::USER))
            }
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

    /// Makes the page directly accessible, if it is memory.
    fn fill(&mut self, bank: usize, lin: u64, leaf: Leaf) {
        let page = lin & PAGE_MASK;
        let writable = leaf.has(Leaf::DIRTY)
            && (self.cpu.cr0 & control::CR0_PG == 0 || self.allows(leaf, Access::Write, bank));
        let memory = &self
            .bus
            .as_ref()
            .expect("memory is accessed only while the bus is attached")
            .memory;
        let mut frame = leaf.phys();
        if leaf.has(Leaf::GLOBAL) {
            frame |= frame::GLOBAL;
        }
        let entry = match memory.page_of_processor(PhysAddr(leaf.phys())) {
            Page::Ram(host) => {
                if writable {
                    frame |= frame::WRITABLE;
                }
                let direct = writable && memory.code_mask_at(host) == 0 && !memory.is_clean(host);
                Direct {
                    read: page,
                    write: if direct { page } else { NO_TAG },
                    addend: (host as u64).wrapping_sub(page),
                    frame,
                }
            }
            Page::Rom(host) => Direct {
                read: page,
                write: NO_TAG,
                addend: (host as u64).wrapping_sub(page),
                frame,
            },
            // Rare, and over as soon as a BIOS has copied itself: each access looks at the map.
            Page::Split { .. } => return,
            Page::None => {
                if writable {
                    frame |= frame::WRITABLE;
                }
                Direct {
                    read: NO_TAG,
                    write: NO_TAG,
                    addend: page | DEVICE,
                    frame,
                }
            }
        };
        self.tlb.fill(bank, lin, entry);
    }

    // ---- page-directory pointers ---------------------------------------------------------------

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
        let number = self.running_number();
        let mut pdpte = [0; 4];
        for (n, entry) in pdpte.iter_mut().enumerate() {
            *entry = self.load_phys(number, (table + 8 * n as u64) & self.a20_mask, 8);
            let reserved = (!self.physical_mask() & !0xFFF) | 0x1E6;
            if *entry & pte::P != 0 && *entry & reserved != 0 {
                return Err(Exception::gp(0));
            }
        }
        self.cpu.pdpte = pdpte;
        Ok(())
    }

    // ---- for onlookers -------------------------------------------------------------------------

    /// Translates as the page tables say, and changes nothing: no TLB, no accessed bit, no device is touched. For
    /// debuggers. `None` where no page is.
    pub fn probe(&self, lin: u64) -> Option<PhysAddr> {
        let memory = &self.bus.as_ref()?.memory;
        if self.cpu.cr0 & control::CR0_PG == 0 {
            return Some(PhysAddr(lin & 0xFFFF_FFFF & self.a20_mask));
        }
        let paging = Paging::of(&self.cpu, &self.model);
        let walk = walk::walk(&paging, lin, &mut |addr, size| {
            let mut bytes = [0; 8];
            let phys = Self::viewed(addr & self.a20_mask, self.smram_data);
            memory.read_as_processor(PhysAddr(phys), &mut bytes[..usize::from(size)]);
            u64::from_le_bytes(bytes)
        });
        walk.ok()
            .map(|walk| PhysAddr(walk.leaf.phys() & self.a20_mask | (lin & 0xFFF)))
    }

    /// Reads memory at a linear address as [`probe`](Self::probe) translates it; returns how many bytes were there.
    pub fn peek_linear(&self, lin: u64, buf: &mut [u8]) -> usize {
        for (i, byte) in buf.iter_mut().enumerate() {
            let Some(phys) = self.probe(lin.wrapping_add(i as u64)) else {
                return i;
            };
            if let Some(bus) = &self.bus {
                let phys = PhysAddr(Self::viewed(phys.0, self.smram_code));
                let byte = std::slice::from_mut(byte);
                bus.memory.read_as_processor(phys, byte);
            }
        }
        buf.len()
    }
}
