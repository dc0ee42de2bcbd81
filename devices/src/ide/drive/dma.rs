//! The drive's side of DMA: it loads and stores blocks, which the bus master empties and fills.

use platform::block::SECTOR_BYTES;

use super::{
    DATA_SET_MANAGEMENT, Drive, ERROR_ABRT, ERROR_IDNF, ERROR_UNC, Failure, MOST_TRIM_SECTORS,
    Phase, Transfer,
};

/// Sectors that a DMA transfer moves at a time.
const DMA_BLOCK: u8 = 16;

impl Drive {
    pub(super) fn start_dma_read(&mut self, extended: bool) -> Result<(), Failure> {
        self.start_transfer(extended, DMA_BLOCK)?;
        self.load_dma_block()
    }

    fn load_dma_block(&mut self) -> Result<(), Failure> {
        let mut lba = self.size_block()?;
        while let Err(error) = self.disk.read(lba, &mut self.state.buffer) {
            if self.state.buffer.len() == SECTOR_BYTES {
                return Err(self.host_failure("read", lba, &error, ERROR_UNC));
            }
            lba = self.go_by_sectors()?;
        }
        self.request_data(Phase::DmaIn, false);
        Ok(())
    }

    pub(super) fn dma_block_read(&mut self) -> Result<(), Failure> {
        if self.advance() {
            return self.load_dma_block();
        }
        self.finish(0);
        Ok(())
    }

    pub(super) fn start_dma_write(&mut self, extended: bool) -> Result<(), Failure> {
        if self.disk.read_only() {
            return Err(Failure(ERROR_ABRT));
        }
        self.start_transfer(extended, DMA_BLOCK)?;
        self.size_block()?;
        self.request_data(Phase::DmaOut, false);
        Ok(())
    }

    /// DATA SET MANAGEMENT: takes the list of ranges.
    pub(super) fn start_trim(&mut self) -> Result<(), Failure> {
        let sectors = u16::from_le_bytes(self.state.count);
        let is_trim = self.state.features[0] & 0x01 != 0;
        if !is_trim || self.disk.read_only() || !(1..=MOST_TRIM_SECTORS).contains(&sectors) {
            return Err(Failure(ERROR_ABRT));
        }
        self.state.transfer = Transfer {
            lba: 0,
            remaining: sectors.into(),
            block: sectors.into(),
            extended: true,
        };
        self.state.position = 0;
        self.state.buffer.clear();
        let bytes = usize::from(sectors) * SECTOR_BYTES;
        self.state.buffer.resize(bytes, 0);
        self.request_data(Phase::DmaOut, false);
        Ok(())
    }

    /// Gives up the ranges of the list: 48 bits of address and 16 of length each (ACS-2 §7.10.3).
    fn trim(&mut self) -> Result<(), Failure> {
        let entries = self.state.buffer.as_chunks::<8>().0.iter();
        let entries = entries.map(|entry| u64::from_le_bytes(*entry));
        let ranges: Vec<(u64, u64)> = entries
            .map(|entry| (entry & 0xFFFF_FFFF_FFFF, entry >> 48))
            .filter(|(_, sectors)| *sectors > 0)
            .collect();
        if ranges
            .iter()
            .any(|(lba, sectors)| lba + sectors > self.disk.sectors())
        {
            return Err(Failure(ERROR_IDNF));
        }
        for (lba, sectors) in ranges {
            if let Err(error) = self.disk.discard(lba, sectors) {
                return Err(self.host_failure("discard", lba, &error, ERROR_ABRT));
            }
        }
        self.finish(0);
        Ok(())
    }

    pub(super) fn dma_block_written(&mut self) -> Result<(), Failure> {
        if self.state.command == DATA_SET_MANAGEMENT {
            return self.trim();
        }
        let mut lba = self.state.transfer.lba;
        if self.disk.write(lba, &self.state.buffer).is_err() {
            // Once more, to tell the sector that cannot be stored from those before it.
            for sector in self.state.buffer.chunks(SECTOR_BYTES) {
                if let Err(error) = self.disk.write(lba, sector) {
                    return Err(self.host_failure("write", lba, &error, ERROR_ABRT));
                }
                lba += 1;
            }
        }
        if self.advance() {
            self.size_block()?;
            self.request_data(Phase::DmaOut, false);
        } else {
            self.finish(0);
        }
        Ok(())
    }

    /// Makes the blocks of this transfer single sectors, so that a failure has its address.
    fn go_by_sectors(&mut self) -> Result<u64, Failure> {
        self.state.transfer.block = 1;
        self.size_block()
    }
}
