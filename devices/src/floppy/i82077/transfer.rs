//! The commands that look at the disk: reading, writing, verifying, formatting, and their result phase.

use platform::block::SECTOR_BYTES;
use platform::{DeviceCtx, DmaDirection, Input};
use serde::{Deserialize, Serialize};

use super::{
    CONFIGURE_IMPLIED_SEEK, DOR_DMA_GATE, I82077, Media, Phase, ST0_ABNORMAL, ST0_SEEK_END,
};

const DMA_CHANNEL: u8 = 2;
const ST1_END_OF_CYLINDER: u8 = 0x80;
const ST1_DATA_ERROR: u8 = 0x20;
const ST1_OVERRUN: u8 = 0x10;
const ST1_NO_DATA: u8 = 0x04;
const ST1_NOT_WRITABLE: u8 = 0x02;
const ST1_MISSING_MARK: u8 = 0x01;
const ST2_CONTROL_MARK: u8 = 0x40;
const ST2_DATA_ERROR: u8 = 0x20;
const ST2_WRONG_CYLINDER: u8 = 0x10;
const ST2_BAD_CYLINDER: u8 = 0x02;
/// One turn of the disk at 300 per minute.
const TURN_NS: u64 = 200_000_000;

/// Sectors of a cylinder that a command goes over, and how its walk ends without terminal count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Transfer {
    pub(super) drive: u8,
    /// Cylinder, head, sector and size code that the host gave.
    id: [u8; 4],
    /// Head and number of each sector, in order.
    sectors: Vec<(u8, u8)>,
    multi_track: bool,
    end_of_track: u8,
    end: Ending,
}

/// Status registers 1 and 2 of a command that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ending {
    st1: u8,
    st2: u8,
}

const fn ending(st1: u8, st2: u8) -> Ending {
    Ending { st1, st2 }
}

impl I82077 {
    /// The execution phase of the commands that look at the disk.
    pub(super) fn execute(&mut self, ctx: &mut DeviceCtx<'_>) {
        let code = self.parameter(0);
        let outcome = match code & 0x1F {
            0x0A => self.read_id(ctx.now_ns()),
            0x0D => self.start_format(ctx),
            _ => self.start_transfer(ctx, code),
        };
        if let Err(end) = outcome {
            let id = match code & 0x1F {
                0x0A | 0x0D => [0; 4],
                _ => [2, 3, 4, 5].map(|n| self.parameter(n)),
            };
            self.end(Some(end), self.parameter(1) >> 2 & 1, id);
        }
    }

    /// Ends a command with its seven result bytes.
    fn end(&mut self, failure: Option<Ending>, head: u8, id: [u8; 4]) {
        let seek = if self.state.configure & CONFIGURE_IMPLIED_SEEK != 0 {
            ST0_SEEK_END
        } else {
            0
        };
        let mut st0 = seek | head << 2 | self.parameter(1) & 3;
        if failure.is_some_and(|end| end != ending(0, ST2_CONTROL_MARK)) {
            st0 |= ST0_ABNORMAL;
        }
        let Ending { st1, st2 } = failure.unwrap_or(ending(0, 0));
        let [c, h, r, n] = id;
        self.result(&[st0, st1, st2, c, h, r, n], true);
    }

    /// The diskette in the addressed drive, when it turns and can be read at the data rate.
    fn turning(&mut self) -> Result<&mut Media, Ending> {
        let drive = self.parameter(1) & 3;
        let mfm = self.parameter(0) & 0x40 != 0;
        let rate = self.state.rate;
        if !mfm || !self.state.motor_on(drive) {
            return Err(ending(ST1_MISSING_MARK, 0));
        }
        self.media
            .get_mut(usize::from(drive))
            .and_then(Option::as_mut)
            .filter(|media| media.readable_at(rate))
            .ok_or(ending(ST1_MISSING_MARK, 0))
    }

    fn read_id(&mut self, now_ns: u64) -> Result<(), Ending> {
        let select = self.parameter(1);
        let (drive, head) = (usize::from(select & 3), select >> 2 & 1);
        let track = self.state.tracks[drive];
        let media = self.turning()?;
        if head >= media.heads || track >= media.cylinders {
            return Err(ending(ST1_MISSING_MARK, 0));
        }
        // Whichever sector comes next under the head.
        let sector = now_ns % TURN_NS * u64::from(media.sectors) / TURN_NS;
        self.end(None, head, [track, head, sector as u8 + 1, 2]);
        Ok(())
    }

    /// Finds the sectors that a command goes over, and starts to move their data.
    fn start_transfer(&mut self, ctx: &mut DeviceCtx<'_>, code: u8) -> Result<(), Ending> {
        let transfer = self.walk(code)?;
        let operation = code & 0x1F;
        let writes = matches!(operation, 0x05 | 0x09);
        if writes && self.turning()?.write_protected() {
            return Err(ending(ST1_NOT_WRITABLE, 0));
        }
        if transfer.sectors.is_empty() {
            return Err(transfer.end);
        }
        if writes {
            let length = transfer.sectors.len() * SECTOR_BYTES;
            self.state.transfer = Some(transfer);
            self.take_from_host(ctx, length);
            return Ok(());
        }
        let (transfer, data) = self.fetch(transfer);
        if data.is_empty() {
            return Err(transfer.end);
        }
        if operation == 0x16 {
            return self.end_verify(&transfer);
        }
        self.state.transfer = Some(transfer);
        self.give_to_host(ctx, data);
        Ok(())
    }

    /// The sectors from the command's first to its end of track, as far as the track has them.
    fn walk(&mut self, code: u8) -> Result<Transfer, Ending> {
        let select = self.parameter(1);
        let [cylinder, id_head, record, size, end_of_track] =
            [2, 3, 4, 5, 6].map(|n| self.parameter(n));
        let drive = select & 3;
        self.state.end_of_track = end_of_track;
        if self.state.configure & CONFIGURE_IMPLIED_SEEK != 0 {
            self.step_to(drive.into(), cylinder);
        }
        let track = self.state.tracks[usize::from(drive)];
        let media = self.turning()?;
        let mut head = select >> 2 & 1;
        if head >= media.heads || track >= media.cylinders {
            return Err(ending(ST1_MISSING_MARK, 0));
        }
        if cylinder != track {
            let also = if cylinder == 0xFF {
                ST2_BAD_CYLINDER
            } else {
                0
            };
            return Err(ending(ST1_NO_DATA, ST2_WRONG_CYLINDER | also));
        }
        if id_head != head || size != 2 {
            return Err(ending(ST1_NO_DATA, 0));
        }

        let multi_track = code & 0x80 != 0;
        let read_track = code & 0x1F == 0x02;
        // READ TRACK starts at the index hole, whatever sector the host names.
        let mut sector = if read_track { 1 } else { record };
        let counted = code & 0x1F == 0x16 && select & 0x80 != 0;
        let most = if counted {
            usize::from(self.parameter(8))
        } else {
            usize::MAX
        };
        let deleted = code & 0x1F == 0x0C;
        let media = self.turning()?;
        let mut sectors = Vec::new();
        let mut end = ending(ST1_END_OF_CYLINDER, 0);
        while sectors.len() < most {
            if media.lba(track, head, sector).is_none() {
                end = ending(ST1_NO_DATA, 0);
                break;
            }
            sectors.push((head, sector));
            if deleted {
                // The marks on the disk are not deleted ones: the command stops after the first.
                end = ending(0, ST2_CONTROL_MARK);
                break;
            }
            if sector != end_of_track {
                sector = sector.wrapping_add(1);
            } else if multi_track && head == 0 {
                (head, sector) = (1, 1);
            } else {
                break;
            }
        }
        Ok(Transfer {
            drive,
            id: [cylinder, id_head, record, size],
            sectors,
            multi_track,
            end_of_track,
            end,
        })
    }

    /// Reads the sectors of a walk, which ends early at one that the host cannot read.
    fn fetch(&mut self, mut transfer: Transfer) -> (Transfer, Vec<u8>) {
        let mut data = Vec::with_capacity(transfer.sectors.len() * SECTOR_BYTES);
        let track = self.state.tracks[usize::from(transfer.drive)];
        for n in 0..transfer.sectors.len() {
            let (head, sector) = transfer.sectors[n];
            let Some(Some(media)) = self.media.get_mut(usize::from(transfer.drive)) else {
                break;
            };
            let Some(lba) = media.lba(track, head, sector) else {
                break;
            };
            if let Err(error) = media.read(lba, &mut data) {
                self.complain("read", lba, &error);
                transfer.sectors.truncate(n);
                transfer.end = ending(ST1_DATA_ERROR, ST2_DATA_ERROR);
                break;
            }
        }
        (transfer, data)
    }

    fn end_verify(&mut self, transfer: &Transfer) -> Result<(), Ending> {
        let done = transfer.sectors.len();
        // With a sector count, or up to the end of the track: both are the good ending.
        let failure = Some(transfer.end).filter(|end| end.st1 & !ST1_END_OF_CYLINDER != 0);
        let (head, id) = self.next_id(transfer, done);
        self.end(failure, head, id);
        Ok(())
    }

    fn give_to_host(&mut self, ctx: &mut DeviceCtx<'_>, data: Vec<u8>) {
        if self.state.non_dma() {
            self.state.fifo = data;
            self.state.position = 0;
            self.state.phase = Phase::ToHost;
            self.state.irq = true;
        } else {
            self.request_dma(ctx, DmaDirection::ToMemory, data, 0);
        }
    }

    fn take_from_host(&mut self, ctx: &mut DeviceCtx<'_>, length: usize) {
        if self.state.non_dma() {
            self.state.fifo = vec![0; length];
            self.state.position = 0;
            self.state.phase = Phase::FromHost;
            self.state.irq = true;
        } else {
            self.request_dma(ctx, DmaDirection::FromMemory, Vec::new(), length as u32);
        }
    }

    fn request_dma(
        &mut self,
        ctx: &mut DeviceCtx<'_>,
        direction: DmaDirection,
        data: Vec<u8>,
        length: u32,
    ) {
        if self.state.dor & DOR_DMA_GATE == 0 {
            // DRQ does not leave the chip.
            self.transferred(&[], 0, false);
            return;
        }
        let from = ctx.id();
        ctx.isa_dma(Input::DmaRequest {
            from,
            channel: DMA_CHANNEL,
            direction,
            data,
            length,
        });
    }

    /// The host has taken or given (`data`) so many bytes.
    pub(super) fn transferred(&mut self, data: &[u8], moved: usize, terminal_count: bool) {
        if self.parameter(0) & 0x1F == 0x0D {
            self.format(data);
            return;
        }
        let Some(transfer) = self.state.transfer.take() else {
            return;
        };
        let mut done = moved.div_ceil(SECTOR_BYTES).min(transfer.sectors.len());
        let mut failure = None;
        if moved == 0 && !terminal_count {
            failure = Some(ending(ST1_OVERRUN, 0));
        } else if !terminal_count || transfer.end.st1 == 0 {
            failure = Some(transfer.end);
        }
        if matches!(self.parameter(0) & 0x1F, 0x05 | 0x09)
            && let Err((stored, end)) = self.store(&transfer, data)
        {
            done = stored;
            failure = Some(end);
        }
        let (head, id) = self.next_id(&transfer, done);
        self.end(failure, head, id);
    }

    /// Writes whole sectors; what is missing of the last one is zeros, as the controller pads it.
    fn store(&mut self, transfer: &Transfer, data: &[u8]) -> Result<(), (usize, Ending)> {
        let track = self.state.tracks[usize::from(transfer.drive)];
        for (n, (bytes, &(head, sector))) in
            data.chunks(SECTOR_BYTES).zip(&transfer.sectors).enumerate()
        {
            let mut padded = [0; SECTOR_BYTES];
            padded[..bytes.len()].copy_from_slice(bytes);
            self.store_sector((track, head, sector), &padded)
                .map_err(|end| (n, end))?;
        }
        Ok(())
    }

    fn store_sector(&mut self, at: (u8, u8, u8), bytes: &[u8]) -> Result<(), Ending> {
        let media = self.turning()?;
        let lba = media.lba(at.0, at.1, at.2).ok_or(ending(ST1_NO_DATA, 0))?;
        media.write(lba, bytes).map_err(|error| {
            self.complain("write", lba, &error);
            ending(ST1_DATA_ERROR, ST2_DATA_ERROR)
        })
    }

    /// Head and sector ID that a command leaves after `done` sectors (datasheet table 6-5).
    fn next_id(&self, transfer: &Transfer, done: usize) -> (u8, [u8; 4]) {
        let [cylinder, _, _, size] = transfer.id;
        let Some(&(head, sector)) = done
            .checked_sub(1)
            .and_then(|last| transfer.sectors.get(last))
        else {
            return (self.parameter(1) >> 2 & 1, transfer.id);
        };
        let next = if sector != transfer.end_of_track {
            [cylinder, head, sector.wrapping_add(1), size]
        } else if !transfer.multi_track {
            [cylinder.wrapping_add(1), head, 1, size]
        } else if head == 0 {
            [cylinder, 1, 1, size]
        } else {
            [cylinder.wrapping_add(1), 0, 1, size]
        };
        (head, next)
    }

    fn start_format(&mut self, ctx: &mut DeviceCtx<'_>) -> Result<(), Ending> {
        self.state.end_of_track = self.parameter(3);
        if self.turning()?.write_protected() {
            return Err(ending(ST1_NOT_WRITABLE, 0));
        }
        let length = usize::from(self.parameter(3)) * 4;
        if length == 0 {
            return Err(ending(ST1_NO_DATA, 0));
        }
        self.take_from_host(ctx, length);
        Ok(())
    }

    /// Fills the sectors whose IDs the host gave. The geometry stays: other IDs are lost.
    fn format(&mut self, ids: &[u8]) {
        let head = self.parameter(1) >> 2 & 1;
        let track = self.state.tracks[usize::from(self.parameter(1) & 3)];
        let filler = [self.parameter(5); SECTOR_BYTES];
        let mut failure = None;
        let mut last = [0; 4];
        if ids.len() < usize::from(self.parameter(3)) * 4 {
            failure = Some(ending(ST1_OVERRUN, 0));
        }
        for id in ids.as_chunks::<4>().0 {
            last = *id;
            if let Err(end) = self.store_sector((track, head, id[2]), &filler)
                && end.st1 & ST1_NO_DATA == 0
            {
                failure = Some(end);
                break;
            }
        }
        self.end(failure, head, last);
    }
}
