//! A disk that its machine and whoever saves the machine both hold.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use platform::BlockBackend;

/// One of the holders.
#[derive(Clone)]
pub struct Shared(
    Arc<Mutex<Box<dyn BlockBackend>>>,
    Option<[u16; 3]>,
    Arc<Counts>,
);

/// What has gone through a disk.
#[derive(Debug, Default)]
struct Counts {
    read: AtomicU64,
    written: AtomicU64,
}

impl Shared {
    /// The first holder of `backend`.
    pub fn new(backend: Box<dyn BlockBackend>) -> Self {
        let geometry = backend.geometry();
        Self(Arc::new(Mutex::new(backend)), geometry, Arc::default())
    }

    /// The same with so many cylinders, heads and sectors in a track.
    pub fn with_geometry(mut self, geometry: Option<[u16; 3]>) -> Self {
        self.1 = geometry.or(self.1);
        self
    }

    /// Bytes that were read and written so far.
    pub fn counts(&self) -> (u64, u64) {
        let Counts { read, written } = &*self.2;
        (
            read.load(Ordering::Relaxed),
            written.load(Ordering::Relaxed),
        )
    }

    /// Puts another backend of the same size in its place, for all holders.
    pub fn replace(&self, backend: Box<dyn BlockBackend>) -> Box<dyn BlockBackend> {
        std::mem::replace(&mut *self.lock(), backend)
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
        self.2.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.lock().read(lba, buf)
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        self.2
            .written
            .fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.lock().write(lba, buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().flush()
    }

    fn idle(&mut self) -> io::Result<()> {
        self.lock().idle()
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
