//! Crash points of the log: storage that kills its own process at a named
//! moment, as a power cut would.

use std::io;

use portcullis_lineage::Storage;
use rustix::process::{Signal, getpid, kill_process};

/// The named moments.
pub const POINTS: [&str; 6] =
    ["before-append", "mid-append", "before-sync", "after-sync", "before-tiles", "before-checkpoint"];

/// Storage that works until a number of batches was written, then crashes.
pub struct CrashingStorage {
    inner: Box<dyn Storage>,
    point: String,
    batches: u32,
}

impl CrashingStorage {
    /// Crashes at `point` of the batch after `batches` others.
    #[must_use]
    pub fn new(inner: Box<dyn Storage>, point: &str, batches: u32) -> Self {
        Self { inner, point: point.to_owned(), batches }
    }

    fn reach(&self, point: &str) {
        if self.batches == 0 && self.point == point {
            // It does not return: the process is gone.
            let _gone = kill_process(getpid(), Signal::KILL);
        }
    }
}

impl Storage for CrashingStorage {
    fn read_journal(&mut self) -> io::Result<Vec<u8>> {
        self.inner.read_journal()
    }

    fn truncate_journal(&mut self, length: u64) -> io::Result<()> {
        self.inner.truncate_journal(length)
    }

    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reach("before-append");
        if self.batches == 0 && self.point == "mid-append" {
            self.inner.append_journal(&bytes[..bytes.len() / 2])?;
        }
        self.reach("mid-append");
        self.inner.append_journal(bytes)
    }

    fn sync_journal(&mut self) -> io::Result<()> {
        self.reach("before-sync");
        self.inner.sync_journal()?;
        self.reach("after-sync");
        self.batches = self.batches.saturating_sub(1);
        Ok(())
    }

    fn publish(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.reach(if path == "checkpoint" { "before-checkpoint" } else { "before-tiles" });
        self.inner.publish(path, bytes)
    }
}
