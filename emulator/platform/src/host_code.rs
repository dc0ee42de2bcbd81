//! Memory for code that the program makes, where the host has such: on Linux.

/// Two views of the same memory: one to write code, one to run it. Neither is both.
pub struct HostCodeMemory {
    #[cfg(target_os = "linux")]
    write: memmap2::MmapRaw,
    #[cfg(target_os = "linux")]
    run: memmap2::MmapRaw,
    #[cfg(not(target_os = "linux"))]
    never: std::convert::Infallible,
}

// SAFETY: it owns its mappings.
unsafe impl Send for HostCodeMemory {}

impl HostCodeMemory {
    /// `bytes` of it; the host gives pages as they are written. `None` where the host has no such memory or forbids it.
    #[cfg(target_os = "linux")]
    pub fn new(bytes: usize) -> Option<Self> {
        use rustix::fs::{MemfdFlags, memfd_create};
        let file = memfd_create("glassbox-code", MemfdFlags::CLOEXEC).ok()?;
        let file = std::fs::File::from(file);
        file.set_len(bytes as u64).ok()?;
        let mut options = memmap2::MmapOptions::new();
        options.len(bytes);
        // SAFETY: nobody else has the file, which has no name and is as long as the mappings.
        let (write, run) = unsafe { (options.map_mut(&file).ok()?, options.map_exec(&file).ok()?) };
        Some(Self {
            write: write.into(),
            run: run.into(),
        })
    }

    /// Not on this host.
    #[cfg(not(target_os = "linux"))]
    pub fn new(_: usize) -> Option<Self> {
        None
    }

    /// How many bytes.
    #[cfg(target_os = "linux")]
    pub fn len(&self) -> usize {
        self.write.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address at which the code runs.
    #[cfg(target_os = "linux")]
    pub fn address(&self) -> usize {
        self.run.as_ptr().expose_provenance()
    }

    /// Writes code `at` bytes from the start.
    ///
    /// # Panics
    /// When that goes beyond the end.
    #[cfg(target_os = "linux")]
    pub fn write(&mut self, at: usize, code: &[u8]) {
        assert!(at + code.len() <= self.len(), "code goes into its memory");
        // SAFETY: the range lies in the mapping, which only this writes to.
        unsafe {
            let to = self.write.as_mut_ptr().add(at);
            to.copy_from_nonoverlapping(code.as_ptr(), code.len());
        }
    }

    /// Gives the pages back to the host; what they held is lost.
    #[cfg(target_os = "linux")]
    pub fn clear(&mut self) {
        // A private view is unaffected by removal; where the host cannot, the pages simply stay.
        // SAFETY: the range is the whole mapping, and nobody relies on its content.
        let _ = unsafe {
            rustix::mm::madvise(
                self.write.as_mut_ptr().cast(),
                self.write.len(),
                rustix::mm::Advice::LinuxRemove,
            )
        };
    }

    /// Not on this host.
    #[cfg(not(target_os = "linux"))]
    #[allow(missing_docs)]
    pub fn len(&self) -> usize {
        match self.never {}
    }

    /// Not on this host.
    #[cfg(not(target_os = "linux"))]
    #[allow(missing_docs)]
    pub fn address(&self) -> usize {
        match self.never {}
    }

    /// Not on this host.
    #[cfg(not(target_os = "linux"))]
    #[allow(missing_docs)]
    pub fn write(&mut self, _: usize, _: &[u8]) {
        match self.never {}
    }

    /// Not on this host.
    #[cfg(not(target_os = "linux"))]
    #[allow(missing_docs)]
    pub fn clear(&mut self) {
        match self.never {}
    }
}
