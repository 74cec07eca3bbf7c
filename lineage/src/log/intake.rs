//! The first step of a batch: its statements are hashed, and the blobs they name are
//! archived.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::LogError;
use super::stop::Stop;
use crate::MAX_ENTRY;
use crate::archive::{Archive, Blob};
use crate::journal::ArchivedEntry;

/// A statement on its way into the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEntry {
    /// The signed statement, without unprotected headers.
    pub statement: Vec<u8>,
    /// The blobs that the statement names by digest, to be archived with it.
    pub blobs: Vec<Blob>,
    /// Size of the largest tree that the requester has seen, for a consistency receipt.
    pub seen: Option<u64>,
}

impl NewEntry {
    /// Bytes of the statement and of what it archives.
    pub(crate) fn length(&self) -> usize {
        let archived: usize = self.blobs.iter().map(|blob| blob.bytes().len()).sum();
        archived.saturating_add(self.statement.len())
    }
}

/// A batch that is ready for the journal.
pub(crate) struct Prepared {
    pub(super) entries: Vec<ArchivedEntry>,
    pub(super) seen: Vec<Option<u64>>,
}

/// Prepares batches, one after the other.
pub(crate) struct Intake {
    archive: Archive,
    /// Entries of the log, including prepared ones.
    size: u64,
    /// Entries on the disk in full bundles.
    published: Arc<AtomicU64>,
    stop: Stop,
}

impl Intake {
    pub(super) const fn new(archive: Archive, size: u64, published: Arc<AtomicU64>, stop: Stop) -> Self {
        Self { archive, size, published, stop }
    }

    /// Prepares a batch.
    pub(crate) fn prepare(&mut self, batch: Vec<NewEntry>) -> Result<Prepared, LogError> {
        self.stop.check()?;
        let bad = |length: &usize| *length == 0 || *length > MAX_ENTRY;
        if let Some(length) = batch.iter().map(|entry| entry.statement.len()).find(bad) {
            return Err(LogError::Entry(length));
        }
        if batch.is_empty() {
            return Err(LogError::Entry(0));
        }
        let (mut entries, mut seen) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for NewEntry { statement, blobs, seen: largest } in batch {
            let blobs = blobs.into_iter().map(|blob| self.archive.store(blob));
            let blobs = blobs.collect::<io::Result<_>>().inspect_err(|_| self.stop.set())?;
            entries.push(ArchivedEntry::new(statement, blobs));
            seen.push(largest);
        }
        self.size = self.size.saturating_add(entries.len() as u64);
        Ok(Prepared { entries, seen })
    }

    /// Number of entries by which the published files lag. A stopped log waits for nobody.
    pub(crate) fn lag(&self) -> u64 {
        let published = self.published.load(Ordering::Relaxed);
        if self.stop.is_set() { 0 } else { self.size.saturating_sub(published) }
    }
}
