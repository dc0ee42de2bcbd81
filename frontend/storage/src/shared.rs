//! A disk that its machine and whoever saves the machine both hold.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use platform::BlockBackend;

/// One of the holders.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Box<dyn BlockBackend>>>, Option<[u16; 3]>);

impl Shared {
    /// The first holder of `backend`.
    pub fn new(backend: Box<dyn BlockBackend>) -> Self {
        let geometry = backend.geometry();
        Self(Arc::new(Mutex::new(backend)), geometry)
    }

    /// The same with so many cylinders, heads and sectors in a track.
    pub fn with_geometry(mut self, geometry: Option<[u16; 3]>) -> Self {
        self.1 = geometry.or(self.1);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn BlockBackend>> {
        // A panic between two sectors leaves a disk with whole sectors.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockBackend for Shared {
    fn sectors(&self) -> u64 {
        self.lock().sectors()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        self.lock().read(lba, buf)
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        self.lock().write(lba, buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().flush()
    }

    fn read_only(&self) -> bool {
        self.lock().read_only()
    }

    fn discard(&mut self, lba: u64, sectors: u64) -> io::Result<()> {
        self.lock().discard(lba, sectors)
    }

    fn geometry(&self) -> Option<[u16; 3]> {
        self.1
    }

    fn save_kept(&mut self, out: &mut dyn io::Write) -> io::Result<()> {
        self.lock().save_kept(out)
    }

    fn load_kept(&mut self, input: &mut dyn io::Read) -> io::Result<()> {
        self.lock().load_kept(input)
    }

    fn generation(&mut self) -> io::Result<String> {
        self.lock().generation()
    }
}
