//! Crash points of the log: storage that kills its own process at a named
//! moment, as a power cut would.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_lineage::Storage;
use rustix::process::{Signal, getpid, kill_process};

/// The named moments, in the order of a commit.
pub const POINTS: [&str; 8] = [
    "before-archive",
    "after-archive",
    "before-append",
    "mid-append",
    "before-sync",
    "after-sync",
    "before-tiles",
    "before-checkpoint",
];

/// Storage that writes a given number of batches, then crashes.
pub struct CrashingStorage {
    inner: Arc<dyn Storage>,
    point: String,
    batches: AtomicU32,
}

impl CrashingStorage {
    /// Crashes at `point` of the batch that follows the first `batches` batches.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>, point: &str, batches: u32) -> Self {
        Self { inner, point: point.to_owned(), batches: AtomicU32::new(batches) }
    }

    fn is_due(&self, point: &str) -> bool {
        self.batches.load(Ordering::Relaxed) == 0 && self.point == point
    }

    fn reach(&self, point: &str) {
        if self.is_due(point) {
            // It does not return: the process is gone.
            let _gone = kill_process(getpid(), Signal::KILL);
        }
    }
}

impl Storage for CrashingStorage {
    fn segments(&self) -> io::Result<Vec<u64>> {
        self.inner.segments()
    }

    fn open_segment(&self, first: u64) -> io::Result<Box<dyn Read + Send>> {
        self.inner.open_segment(first)
    }

    fn put_segment(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.put_segment(first, bytes)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.inner.truncate(length)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.reach("before-append");
        if self.is_due("mid-append") {
            self.inner.append(&bytes[..bytes.len() / 2])?;
        }
        self.reach("mid-append");
        self.inner.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.reach("before-sync");
        self.inner.sync()?;
        self.reach("after-sync");
        let left = self.batches.load(Ordering::Relaxed);
        self.batches.store(left.saturating_sub(1), Ordering::Relaxed);
        Ok(())
    }

    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.get(path)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.reach(if path == "checkpoint" { "before-checkpoint" } else { "before-tiles" });
        self.inner.put(path, bytes)
    }

    fn put_durable(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.reach("before-archive");
        self.inner.put_durable(path, bytes)?;
        self.reach("after-archive");
        Ok(())
    }

    fn sync_files(&self) -> io::Result<()> {
        self.inner.sync_files()
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.inner.list(folder)
    }
}
