//! The entropy device (virtio §5.4): one queue, whose buffers it fills with random bytes.
//!
//! The bytes come from a generator whose state is saved, into which the virtual time of each request goes: equal runs
//! get equal bytes, and who knows the machine's state can tell them.

use platform::{SavedState, StateError, StateView};
use serde::{Deserialize, Serialize};

use super::pci::{Job, Kind, Served, VirtioDevice, VirtioPci};
use super::queue::Broken;
use crate::pci::PciDevice;

/// The most bytes that one request gets, which may be fewer than it asks for.
const MOST_BYTES: u64 = 4096;

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Generator {
    seed: u64,
    state: u64,
}

impl Generator {
    fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

/// The device.
pub struct VirtioEntropy {
    generator: Generator,
}

impl VirtioEntropy {
    const VERSION: u32 = 1;

    const KIND: Kind = Kind {
        id: 4,
        transitional: Some(5),
        class: 0x00_FF_00,
        queues: &[8],
    };

    /// The PCI device; `seed` is what its first bytes come from.
    pub fn device(seed: u64) -> PciDevice<VirtioPci<Self>> {
        let device = Self {
            generator: Generator::new(seed),
        };
        VirtioPci::device(Self::KIND, device)
    }
}

impl VirtioDevice for VirtioEntropy {
    fn name(&self) -> &'static str {
        "virtio-rng"
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self, _: u64) -> Vec<u8> {
        Vec::new()
    }

    fn serve(&mut self, job: Job<'_, '_, '_>) -> Result<Served, Broken> {
        let len = job.chain.writable_len().min(MOST_BYTES);
        if len == 0 {
            return Err(Broken("a request for random bytes without room for any"));
        }
        let now_ns = job.ctx.now_ns();
        self.generator.state ^= now_ns.rotate_left(32);
        let words = (0..len.div_ceil(8)).map(|_| self.generator.next().to_le_bytes());
        let mut bytes = words.collect::<Vec<_>>().concat();
        bytes.truncate(len as usize);
        job.chain.write(job.ctx, 0, &bytes);
        Ok(Served::Done(len as u32))
    }

    // After a driver's reset the bytes are others than before, as the time is.
    fn reset(&mut self) {
        self.generator = Generator::new(self.generator.seed);
    }

    fn state(&self) -> StateView<'_> {
        StateView::of(Self::VERSION, &self.generator)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.generator = state.decode(Self::VERSION)?;
        Ok(())
    }
}
