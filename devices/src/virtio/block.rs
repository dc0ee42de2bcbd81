//! The block device (virtio §5.2): one queue of requests for sectors of 512 bytes.
//!
//! A request of any length is served a megabyte at a time. What is beyond the disk's end, or not whole sectors, fails
//! as a whole, with nothing moved.

use std::io;

use log::warn;
use platform::block::SECTOR_BYTES;
use platform::{BlockBackend, SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

use super::pci::{Job, Kind, Served, VirtioDevice, VirtioPci};
use super::queue::Broken;
use crate::pci::PciDevice;

const TARGET: &str = "virtio-blk";
const SECTOR: u64 = SECTOR_BYTES as u64;

/// The queue's size.
const QUEUE: u16 = 256;
/// How many buffers a request has at most beside header and status, as drivers are told.
const MOST_SEGMENTS: u32 = QUEUE as u32 - 2;
/// What is moved in one piece.
const PIECE_BYTES: u64 = 1 << 20;

/// Features (virtio §5.2.3).
const SEG_MAX: u64 = 1 << 2;
const GEOMETRY: u64 = 1 << 4;
const READ_ONLY: u64 = 1 << 5;
const BLK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const TOPOLOGY: u64 = 1 << 10;
const CONFIG_WCE: u64 = 1 << 11;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

/// The register of the configuration that can be written: 1 for a write-back cache.
const WRITEBACK: u64 = 32;

/// Requests (virtio §5.2.6).
const HEADER_BYTES: u64 = 16;
const IN: u32 = 0;
const OUT: u32 = 1;
const DO_FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DO_DISCARD: u32 = 11;
const DO_WRITE_ZEROES: u32 = 13;
/// The bytes of an identification.
const ID_BYTES: usize = 20;

/// A range to discard or to fill with zeros: sector, count, flags.
const RANGE_BYTES: u64 = 16;
/// How many sectors it has at most: 2 GiB.
const MOST_RANGE_SECTORS: u32 = 1 << 22;
/// Flag of such a range: the room may be given back.
const UNMAP: u32 = 1;

const STATUS_OK: u8 = 0;
const STATUS_ERROR: u8 = 1;
const STATUS_UNSUPPORTED: u8 = 2;

/// A request that ends with this status.
struct Failed(u8);

/// What is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The driver wants a write-back cache, as the configuration has it.
    writeback: bool,
}

impl State {
    fn new() -> Self {
        Self { writeback: true }
    }
}

/// The device.
pub struct VirtioBlock {
    disk: Box<dyn BlockBackend>,
    id: String,
    buffer: Vec<u8>,
    state: State,
}

impl VirtioBlock {
    const VERSION: u32 = 1;

    const KIND: Kind = Kind {
        id: 2,
        transitional: Some(1),
        class: 0x01_00_00,
        queues: &[QUEUE],
    };

    /// The PCI device of a disk that is identified by `id`, of which 20 bytes count.
    pub fn device(disk: Box<dyn BlockBackend>, id: String) -> PciDevice<VirtioPci<Self>> {
        let device = Self {
            disk,
            id,
            buffer: Vec::new(),
            state: State::new(),
        };
        VirtioPci::device(Self::KIND, device)
    }

    /// Whether what is written must be durable before the driver hears of it (virtio §5.2.5.2).
    fn writes_through(&self, features: u64) -> bool {
        if features & CONFIG_WCE != 0 {
            !self.state.writeback
        } else {
            features & FLUSH == 0
        }
    }

    /// Whether `bytes` from `sector` on are whole sectors of the disk.
    fn check(&self, sector: u64, bytes: u64) -> Result<(), Failed> {
        let end = sector.checked_add(bytes / SECTOR);
        match end {
            Some(end) if bytes.is_multiple_of(SECTOR) && end <= self.disk.sectors() => Ok(()),
            _ => Err(Failed(STATUS_ERROR)),
        }
    }

    fn check_writable(&self) -> Result<(), Failed> {
        match self.disk.read_only() {
            true => Err(Failed(STATUS_ERROR)),
            false => Ok(()),
        }
    }

    /// The next piece of `bytes` of which some are done: where it begins and how long it is.
    fn piece(progress: u64, bytes: u64) -> (u64, u64) {
        // The guest may have changed the request since the last one.
        let from = progress.min(bytes) / SECTOR * SECTOR;
        (from, (bytes - from).min(PIECE_BYTES))
    }

    /// Makes what was written durable, if the driver counts on that.
    fn after_write(&mut self, features: u64) -> Result<(), Failed> {
        if self.writes_through(features) {
            told(self.disk.flush(), "flush", 0)?;
        }
        Ok(())
    }

    /// Serves the request, or a piece of it.
    fn request(
        &mut self,
        job: &mut Job<'_, '_, '_>,
        kind: u32,
        sector: u64,
    ) -> Result<Step, Failed> {
        let room = job.chain.writable_len() - 1;
        let given = job.chain.readable_len() - HEADER_BYTES;
        match kind {
            IN => {
                self.check(sector, room)?;
                let (from, len) = Self::piece(job.progress, room);
                let lba = sector + from / SECTOR;
                self.buffer.resize(len as usize, 0);
                told(self.disk.read(lba, &mut self.buffer), "read", lba)?;
                job.chain.write(job.ctx, from, &self.buffer);
                Ok(Step::to(from + len, room))
            }
            OUT => {
                self.check_writable()?;
                self.check(sector, given)?;
                let (from, len) = Self::piece(job.progress, given);
                let lba = sector + from / SECTOR;
                self.buffer.resize(len as usize, 0);
                job.chain
                    .read(job.ctx, HEADER_BYTES + from, &mut self.buffer);
                told(self.disk.write(lba, &self.buffer), "write", lba)?;
                let step = Step::to(from + len, given);
                if let Step::End = step {
                    self.after_write(job.features)?;
                }
                Ok(step)
            }
            DO_FLUSH => {
                told(self.disk.flush(), "flush", 0)?;
                Ok(Step::End)
            }
            GET_ID => {
                let mut id = [0; ID_BYTES];
                let len = self.id.len().min(ID_BYTES);
                id[..len].copy_from_slice(&self.id.as_bytes()[..len]);
                let most = room.min(ID_BYTES as u64) as usize;
                job.chain.write(job.ctx, 0, &id[..most]);
                Ok(Step::End)
            }
            DO_DISCARD | DO_WRITE_ZEROES => self.range(job, kind, given),
            _ => Err(Failed(STATUS_UNSUPPORTED)),
        }
    }

    /// Discards a range, or fills it with zeros.
    fn range(&mut self, job: &mut Job<'_, '_, '_>, kind: u32, given: u64) -> Result<Step, Failed> {
        self.check_writable()?;
        if given != RANGE_BYTES {
            return Err(Failed(STATUS_ERROR));
        }
        let mut bytes = [0; RANGE_BYTES as usize];
        job.chain.read(job.ctx, HEADER_BYTES, &mut bytes);
        let [at @ .., c0, c1, c2, c3, f0, f1, f2, f3] = bytes;
        let sector = u64::from_le_bytes(at);
        let count = u32::from_le_bytes([c0, c1, c2, c3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        let known = if kind == DO_WRITE_ZEROES { UNMAP } else { 0 };
        if flags & !known != 0 {
            return Err(Failed(STATUS_UNSUPPORTED));
        }
        if count > MOST_RANGE_SECTORS {
            return Err(Failed(STATUS_ERROR));
        }
        let len = u64::from(count) * SECTOR;
        self.check(sector, len)?;
        if kind == DO_DISCARD {
            told(self.disk.discard(sector, count.into()), "discard", sector)?;
            return Ok(Step::End);
        }
        let (from, piece) = Self::piece(job.progress, len);
        let lba = sector + from / SECTOR;
        self.buffer.clear();
        self.buffer.resize(piece as usize, 0);
        told(self.disk.write(lba, &self.buffer), "write", lba)?;
        let step = Step::to(from + piece, len);
        if let Step::End = step {
            self.after_write(job.features)?;
        }
        Ok(step)
    }
}

/// How far a request is served.
enum Step {
    More(u64),
    End,
}

impl Step {
    fn to(done: u64, of: u64) -> Self {
        if done < of {
            Self::More(done)
        } else {
            Self::End
        }
    }
}

/// A failure of the host is one of the medium to the guest.
fn told(result: io::Result<()>, what: &str, lba: u64) -> Result<(), Failed> {
    result.map_err(|error| {
        warn!(target: TARGET, "cannot {what} at sector {lba}: {error}");
        Failed(STATUS_ERROR)
    })
}

impl VirtioDevice for VirtioBlock {
    fn name(&self) -> &'static str {
        TARGET
    }

    fn features(&self) -> u64 {
        let writable = match self.disk.read_only() {
            true => READ_ONLY,
            false => DISCARD | WRITE_ZEROES,
        };
        SEG_MAX | GEOMETRY | BLK_SIZE | FLUSH | TOPOLOGY | CONFIG_WCE | writable
    }

    fn config(&self, features: u64) -> Vec<u8> {
        let sectors = self.disk.sectors();
        let usual = (sectors / (16 * 63)).clamp(1, 16383) as u16;
        let [cylinders, heads, track] = self.disk.geometry().unwrap_or([usual, 16, 63]);
        // Without CONFIG_WCE the byte tells how it is.
        let writeback = !self.writes_through(features);
        let range = if self.disk.read_only() {
            [0; 3]
        } else {
            [MOST_RANGE_SECTORS, 1, 1]
        };
        let mut bytes = sectors.to_le_bytes().to_vec();
        bytes.extend(0u32.to_le_bytes()); // size_max: not offered
        bytes.extend(MOST_SEGMENTS.to_le_bytes());
        bytes.extend(cylinders.to_le_bytes());
        bytes.extend([heads as u8, track as u8]);
        bytes.extend((SECTOR as u32).to_le_bytes());
        // Topology: a physical block is one of 512 bytes, aligned, best moved by 4096.
        bytes.extend([0, 0, 8, 0, 0, 0, 0, 0]);
        // A cache that can be chosen, and one queue.
        bytes.extend([u8::from(writeback), 0, 1, 0]);
        bytes.extend(range.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(range[..2].iter().flat_map(|value| value.to_le_bytes()));
        // Zeros are written, not unmapped.
        bytes.extend([0; 4]);
        bytes
    }

    fn write_config(&mut self, offset: u64, value: u8) {
        if offset == WRITEBACK {
            self.state.writeback = value & 1 != 0;
        }
    }

    fn serve(&mut self, mut job: Job<'_, '_, '_>) -> Result<Served, Broken> {
        let room = job.chain.writable_len();
        if job.chain.readable_len() < HEADER_BYTES || room == 0 {
            return Err(Broken("a request without header or room for its status"));
        }
        let mut header = [0; HEADER_BYTES as usize];
        job.chain.read(job.ctx, 0, &mut header);
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
        let kind = u32::from_le_bytes([k0, k1, k2, k3]);
        let (status, written) = match self.request(&mut job, kind, u64::from_le_bytes(sector)) {
            Ok(Step::More(progress)) => return Ok(Served::More(progress)),
            Ok(Step::End) => (STATUS_OK, room),
            Err(Failed(status)) => (status, 1),
        };
        job.chain.write(job.ctx, room - 1, &[status]);
        Ok(Served::Done(written.try_into().unwrap_or(u32::MAX)))
    }

    fn reset(&mut self) {
        self.state = State::new();
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.state = state.decode(Self::VERSION)?;
        Ok(())
    }
}
