//! Tells images apart, and puts kernels into memory.
//!
//! [`identify`] looks at an image's first bytes. [`load`] prepares a kernel of any of the protocols here:
//! it yields what RAM holds before the firmware runs ([`Preload`]) and the registers at the kernel's
//! entry ([`Entry`]); the firmware's kernel ROM enters it once POST is over.
//!
//! The crate `linux-loader` is not used: its bzImage loader is compiled for x86-64 hosts only, and this
//! machine runs on any host.

mod elf;
mod error;
mod header;
mod identify;
mod layout;
mod linux;
mod memory_map;
mod multiboot1;
mod multiboot2;
mod pvh;
mod video;

pub use error::LoadError;
pub use header::FaultyHeader;
pub use identify::{FLOPPY_SIZES, HEAD_BYTES, Image, ImageError, KernelKind, identify};
pub use memory_map::{MemoryKind, MemoryRange, memory_map};

use crate::machine::Preload;

/// The registers at a kernel's entry; interrupts are off, and A20 is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// In 32-bit flat protected mode without paging.
    Flat(FlatEntry),
    /// In real mode.
    Real(RealEntry),
}

impl Default for Entry {
    fn default() -> Self {
        Self::Flat(FlatEntry::default())
    }
}

/// Registers in 32-bit flat protected mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlatEntry {
    /// Where it starts.
    pub eip: u32,
    /// The boot protocol's magic number.
    pub eax: u32,
    /// The boot information.
    pub ebx: u32,
}

/// Registers in real mode; the general ones are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealEntry {
    /// The code segment.
    pub cs: u16,
    /// Where it starts.
    pub ip: u16,
    /// DS, ES, FS, GS and SS.
    pub segment: u16,
    /// The stack pointer.
    pub sp: u16,
}

/// A file for the kernel beside its own: an initial RAM disk, or a multiboot module.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Its content.
    pub bytes: Vec<u8>,
    /// The text that the protocol hands over with it.
    pub text: String,
}

/// What a kernel is booted with.
#[derive(Clone, Debug, Default)]
pub struct KernelSetup {
    /// The kernel's file.
    pub kernel: Vec<u8>,
    /// Initial RAM disk or modules. Linux gets them as one.
    pub modules: Vec<Module>,
    /// The command line.
    pub command_line: String,
    /// Installed RAM.
    pub ram_bytes: u64,
    /// Where the board's ACPI root pointer stands, and its bytes.
    pub rsdp: Option<(u64, Vec<u8>)>,
}

/// A kernel ready to be put into a machine.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What RAM holds.
    pub preloads: Vec<Preload>,
    /// How it starts.
    pub entry: Entry,
    /// A part of the kernel that lies where the firmware works, to be copied at the entry.
    pub low_part: Option<LowPart>,
    /// The BIOS's number of the video mode at the entry; text where there is none.
    pub video_mode: Option<u8>,
    /// Where the kernel finds the palette, 256 colours of red, green and blue bytes, to be filled
    /// in at the entry.
    pub palette: Option<u32>,
    /// What the user should know though the kernel starts.
    pub note: Option<String>,
}

/// Memory to be copied right before the kernel starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowPart {
    /// Where it is kept.
    pub from: u32,
    /// Where it belongs.
    pub to: u32,
    /// Bytes.
    pub len: u32,
}

/// Loads a kernel of `kind`.
///
/// # Errors
/// The image is damaged, asks for what this machine lacks, or does not fit into RAM.
pub fn load(kind: KernelKind, setup: &KernelSetup) -> Result<Loaded, LoadError> {
    match kind {
        KernelKind::Linux => linux::load(setup),
        KernelKind::Multiboot1 => multiboot1::load(setup),
        KernelKind::Multiboot2 => multiboot2::load(setup),
        KernelKind::Pvh => pvh::load(setup),
    }
}

/// Reads a little-endian `u16`, if the bytes are there.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

/// Reads a little-endian `u32`, if the bytes are there.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Reads a little-endian `u64`, if the bytes are there.
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
