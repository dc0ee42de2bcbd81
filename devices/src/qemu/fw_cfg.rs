//! The firmware configuration device: what firmware learns of the machine, numbers and files.
//!
//! Source: QEMU, docs/specs/fw_cfg.rst ("QEMU Firmware Configuration Device").
//!
//! | region | ports | what |
//! |---|---|---|
//! | [`FwCfg::PORTS`] | 510 | write, 16 bits: selects an item and starts at its first byte |
//! | | 511 | read, 8 bits: the next byte of the item; 0 behind its end |
//! | [`FwCfg::DMA`] | 514-517 | upper half of the address of a request, big-endian; reads as "QEMU" |
//! | | 518-51B | lower half; a write carries the request out. Reads as " CFG" |
//!
//! | item | what |
//! |---|---|
//! | 0000 | the signature "QEMU" |
//! | 0001 | features: 3, the traditional interface and DMA |
//! | 0003 | RAM in bytes, 64 bits |
//! | 000E | 1: firmware shows its boot menu, 16 bits |
//! | 0005, 000F | processors that there are and that there may be, 16 bits each |
//! | 0019 | the directory of files |
//! | 0020- | the files, in the directory's order |
//! | 8002 | 1: IRQ 0 is input 2 of the I/O APIC |
//! | BF00-BF3F | Glassbox's own, a notice by its BIOS: nothing boots. Bits 0-5 are those of [`Said::NotBootable`] |
//!
//! A request is three big-endian numbers in guest memory: control (32 bits; its upper half selects
//! an item if bit 3 says so), length (32) and address (64). No item can be written: such a request
//! ends with the error bit.
//!
//! Not modelled: the other items, which read as zeros, so "none" and "no".

use log::{debug, warn};
use platform::{Device, DeviceCtx, PhysAddr, Said, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

const TARGET: &str = "fw_cfg";

/// Item numbers.
mod item {
    pub const SIGNATURE: u16 = 0x0000;
    pub const FEATURES: u16 = 0x0001;
    pub const RAM_BYTES: u16 = 0x0003;
    pub const CPUS: u16 = 0x0005;
    pub const BOOT_MENU: u16 = 0x000E;
    pub const MOST_CPUS: u16 = 0x000F;
    pub const DIRECTORY: u16 = 0x0019;
    pub const FIRST_FILE: u16 = 0x0020;
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
    pub const NOT_BOOTABLE: u16 = 0xBF00;
}

/// What the DMA registers read as.
const DMA_SIGNATURE: u64 = u64::from_be_bytes(*b"QEMU CFG");

/// Bits of a request's control word.
mod control {
    pub const ERROR: u32 = 1 << 0;
    pub const READ: u32 = 1 << 1;
    pub const SKIP: u32 = 1 << 2;
    pub const SELECT: u32 = 1 << 3;
    pub const WRITE: u32 = 1 << 4;
}

/// How much of guest memory a request may fill with the zeros behind an item's end: nobody needs
/// them, and a request takes no time.
const MOST_ZEROS: usize = 1 << 20;

/// A file's name has room for so many bytes, one of them a zero.
const NAME_BYTES: usize = 56;

/// A file: its name, which is at most 55 bytes long, and its content.
pub type File = (String, Vec<u8>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    item: u16,
    offset: u32,
    /// The upper half of the next request's address.
    dma_high: u32,
}

/// The device.
#[derive(Clone, Debug)]
pub struct FwCfg {
    ram_bytes: u64,
    cpus: u16,
    boot_menu: bool,
    files: Vec<File>,
    directory: Vec<u8>,
    state: State,
}

impl FwCfg {
    /// Region: selector and data, as the selector is written to both ports at once.
    pub const PORTS: u8 = 0;
    /// Region: the address of a request.
    pub const DMA: u8 = 1;

    /// Where a PC has it: region, first port, number of ports, widest access.
    pub const MAP: &'static [(u8, u16, u16, u8)] =
        &[(Self::PORTS, 0x510, 2, 2), (Self::DMA, 0x514, 8, 4)];

    const VERSION: u32 = 2;

    /// The device of a machine with so much RAM and so many processors, with these files.
    pub fn new(ram_bytes: u64, cpus: u16, mut files: Vec<File>) -> Self {
        // Readers may look for a name by halves.
        files.sort();
        let mut directory = (files.len() as u32).to_be_bytes().to_vec();
        for (number, (name, content)) in (item::FIRST_FILE..).zip(&files) {
            assert!(
                name.len() < NAME_BYTES,
                "{name}: too long for the directory"
            );
            directory.extend((content.len() as u32).to_be_bytes());
            directory.extend(number.to_be_bytes());
            directory.extend([0, 0]);
            directory.extend(name.as_bytes());
            directory.extend(vec![0; NAME_BYTES - name.len()]);
        }
        Self {
            ram_bytes,
            cpus,
            boot_menu: false,
            files,
            directory,
            state: State::default(),
        }
    }

    /// Asks firmware for its boot menu, or not.
    pub fn with_boot_menu(mut self, boot_menu: bool) -> Self {
        self.boot_menu = boot_menu;
        self
    }

    /// The content of the selected item.
    fn item(&self) -> Vec<u8> {
        match self.state.item {
            item::SIGNATURE => b"QEMU".to_vec(),
            item::FEATURES => 3u32.to_le_bytes().to_vec(),
            item::IRQ0_OVERRIDE => 1u32.to_le_bytes().to_vec(),
            item::RAM_BYTES => self.ram_bytes.to_le_bytes().to_vec(),
            item::BOOT_MENU => u16::from(self.boot_menu).to_le_bytes().to_vec(),
            item::CPUS | item::MOST_CPUS => self.cpus.to_le_bytes().to_vec(),
            _ => Vec::new(),
        }
    }

    /// The next `most` bytes of the selected item, fewer at its end. The offset moves by `most`.
    fn take(&mut self, most: usize) -> Vec<u8> {
        let fixed;
        let content: &[u8] = match self.state.item {
            item::DIRECTORY => &self.directory,
            number => {
                let file = number.checked_sub(item::FIRST_FILE);
                match file.and_then(|n| self.files.get(usize::from(n))) {
                    Some((_, content)) => content,
                    None => {
                        fixed = self.item();
                        &fixed
                    }
                }
            }
        };
        let start = content.len().min(self.state.offset as usize);
        let end = content.len().min(start.saturating_add(most));
        let bytes = content[start..end].to_vec();
        let moved = u32::try_from(most).unwrap_or(u32::MAX);
        self.state.offset = self.state.offset.saturating_add(moved);
        bytes
    }

    fn select(&mut self, ctx: &mut DeviceCtx<'_>, number: u16) {
        debug!(target: TARGET, "item {number:04x}");
        self.state.item = number;
        self.state.offset = 0;
        if number & 0xFFC0 == item::NOT_BOOTABLE {
            ctx.output(Said::NotBootable(number as u8 & 0x3F));
        }
    }

    /// Carries out the request at `at`, and says there how it ended.
    fn dma(&mut self, ctx: &mut DeviceCtx<'_>, at: u64) {
        let mut request = [0; 16];
        ctx.dma_read(PhysAddr(at), &mut request);
        let [a, b, c, d, rest @ ..] = request;
        let control = u32::from_be_bytes([a, b, c, d]);
        let [a, b, c, d, address @ ..] = rest;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let address = u64::from_be_bytes(address);
        if control & control::SELECT != 0 {
            self.select(ctx, (control >> 16) as u16);
        }
        let mut result = 0u32;
        if control & control::READ != 0 {
            let bytes = self.take(length);
            ctx.dma_write(PhysAddr(address), &bytes);
            let zeros = (length - bytes.len()).min(MOST_ZEROS);
            let behind = address.wrapping_add(bytes.len() as u64);
            ctx.dma_write(PhysAddr(behind), &vec![0; zeros]);
        } else if control & control::WRITE != 0 {
            warn!(target: TARGET, "item {:04x} is read-only", self.state.item);
            result = control::ERROR;
        } else if control & control::SKIP != 0 {
            let moved = length as u32;
            self.state.offset = self.state.offset.saturating_add(moved);
        }
        ctx.dma_write(PhysAddr(at), &result.to_be_bytes());
    }

    /// Version 1 had no DMA.
    fn from_1(state: &SavedState) -> Result<State, StateError> {
        let (item, offset) = state.decode(1)?;
        Ok(State {
            item,
            offset,
            dma_high: 0,
        })
    }
}

impl Device for FwCfg {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn read(&mut self, _: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8) -> u64 {
        match (region, offset) {
            (Self::PORTS, 1) => self.take(1).first().copied().unwrap_or(0).into(),
            (Self::DMA, offset) => {
                // The first port has the first byte.
                let bytes = DMA_SIGNATURE.to_be_bytes();
                (0..u64::from(size.min(8))).fold(0, |value, n| {
                    let byte = bytes.get((offset + n) as usize).copied().unwrap_or(0);
                    value | u64::from(byte) << (8 * n)
                })
            }
            _ => 0,
        }
    }

    fn write(&mut self, ctx: &mut DeviceCtx<'_>, region: u8, offset: u64, size: u8, value: u64) {
        match (region, offset, size) {
            (Self::PORTS, 0, 2) => self.select(ctx, value as u16),
            (Self::DMA, 0, 4) => self.state.dma_high = (value as u32).swap_bytes(),
            (Self::DMA, 4, 4) => {
                let low = (value as u32).swap_bytes();
                let high = std::mem::take(&mut self.state.dma_high);
                self.dma(ctx, u64::from(high) << 32 | u64::from(low));
            }
            _ => {}
        }
    }

    fn reset(&mut self, _: &mut DeviceCtx<'_>) {
        self.state = State::default();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.state = state.decode_or_migrate(Self::VERSION, &[(1, Self::from_1)])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::testkit::bus_with_regions;
    use platform::{Bus, DeviceId, Output};

    const RAM_BYTES: u64 = 0x1_2345_6000;

    platform::device_contract!(
        contract,
        device(),
        [(FwCfg::PORTS, 2, 2), (FwCfg::DMA, 8, 4)]
    );

    fn device() -> FwCfg {
        let file = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec());
        let files = vec![file("opt/two", b"second"), file("etc/one", b"first")];
        FwCfg::new(RAM_BYTES, 3, files)
    }

    fn item(bus: &mut Bus, number: u16, bytes: usize) -> Vec<u8> {
        bus.pio_write(0x510, 2, number.into());
        (0..bytes).map(|_| bus.pio_read(0x511, 1) as u8).collect()
    }

    #[test]
    fn items_read_byte_by_byte_and_then_as_zeros() {
        let mut bus = bus_with_regions(Box::new(device()), FwCfg::MAP);
        assert_eq!(item(&mut bus, 0, 6), b"QEMU\0\0");
        assert_eq!(item(&mut bus, 1, 4), [3, 0, 0, 0]);
        assert_eq!(item(&mut bus, 3, 8), RAM_BYTES.to_le_bytes());
        assert_eq!(item(&mut bus, 5, 2), [3, 0]);
        assert_eq!(item(&mut bus, 0x0F, 2), [3, 0]);
        assert_eq!(item(&mut bus, 0x8002, 1), [1]);
    }

    #[test]
    fn the_bios_tells_that_nothing_boots() {
        let mut bus = bus_with_regions(Box::new(device()), FwCfg::MAP);
        bus.pio_write(0x510, 2, 0xBF40);
        assert_eq!(bus.outputs, []);
        bus.pio_write(0x510, 2, 0xBF08);
        let said = Output {
            device: DeviceId(0),
            what: Said::NotBootable(0x08),
        };
        assert_eq!(bus.outputs, [said]);
    }

    #[test]
    fn selecting_starts_anew() {
        let mut bus = bus_with_regions(Box::new(device()), FwCfg::MAP);
        assert_eq!(item(&mut bus, 0, 2), b"QE");
        assert_eq!(bus.pio_read(0x511, 1), u32::from(b'M'));
        assert_eq!(item(&mut bus, 0, 2), b"QE");
    }

    #[test]
    fn the_directory_lists_the_files_by_name() {
        let mut bus = bus_with_regions(Box::new(device()), FwCfg::MAP);
        let directory = item(&mut bus, 0x19, 4 + 2 * 64);
        assert_eq!(directory[..12], [0, 0, 0, 2, 0, 0, 0, 5, 0, 0x20, 0, 0]);
        assert_eq!(directory[12..20], *b"etc/one\0");
        assert_eq!(directory[68..76], [0, 0, 0, 6, 0, 0x21, 0, 0]);
        assert_eq!(directory[76..84], *b"opt/two\0");
        assert_eq!(item(&mut bus, 0x20, 6), b"first\0");
        assert_eq!(item(&mut bus, 0x21, 6), b"second");
    }

    /// Has the request at 1000h carried out; returns its control word.
    fn request(bus: &mut Bus, control: u32, length: u32, address: u64) -> u32 {
        let at = PhysAddr(0x1000);
        bus.memory.write(at, &control.to_be_bytes());
        bus.memory.write(PhysAddr(0x1004), &length.to_be_bytes());
        bus.memory.write(PhysAddr(0x1008), &address.to_be_bytes());
        bus.pio_write(0x514, 4, 0);
        bus.pio_write(0x518, 4, 0x1000u32.swap_bytes());
        let mut word = [0; 4];
        bus.memory.read(at, &mut word);
        u32::from_be_bytes(word)
    }

    #[test]
    fn a_request_copies_an_item_and_zeros_behind_it() {
        let mut bus = bus_with_regions(Box::new(device()), FwCfg::MAP);
        assert_eq!(bus.pio_read(0x514, 4).to_le_bytes(), *b"QEMU");
        assert_eq!(bus.pio_read(0x518, 4).to_le_bytes(), *b" CFG");
        bus.memory.write(PhysAddr(0x2000), &[0xAA; 16]);
        assert_eq!(request(&mut bus, 0x21 << 16 | 0xA, 3, 0x2000), 0);
        assert_eq!(request(&mut bus, 4, 1, 0), 0, "skips");
        assert_eq!(request(&mut bus, 2, 4, 0x2003), 0);
        let mut bytes = [0; 8];
        bus.memory.read(PhysAddr(0x2000), &mut bytes);
        assert_eq!(bytes, *b"secnd\0\0\xAA");
        assert_eq!(request(&mut bus, 0x21 << 16 | 0x18, 4, 0x2000), 1, "writes");
    }

    #[test]
    fn requests_beyond_memory_and_of_any_length_end() {
        let mut bus = bus_with_regions(Box::new(device()), FwCfg::MAP);
        for (length, address) in [(u32::MAX, u64::MAX), (u32::MAX, 0x800), (8, u64::MAX - 3)] {
            request(&mut bus, 0x20 << 16 | 0xA, length, address);
        }
        bus.pio_write(0x514, 4, u32::MAX);
        bus.pio_write(0x518, 4, u32::MAX);
    }
}
