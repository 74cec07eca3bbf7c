//! The second step of a batch: it is written to the journal, synced, and only
//! then signed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::LogError;
use super::intake::Prepared;
use super::stop::Stop;
use crate::journal::{ArchivedBatch, Header};
use crate::keys::Keys;
use crate::storage::Storage;
use crate::tree::Tree;
use crate::view::Head;

/// Entries after which the journal goes on in another segment, however small
/// they are.
const SEGMENT_ENTRIES: u64 = 1 << 17;
/// Bytes for a record that are kept for the next one: memory that comes new from
/// the system costs more than what is written there.
const RECORD: usize = 1024 * 1024;

/// A batch that was written to the journal, and is not durable before a sync.
struct Written {
    batch: ArchivedBatch,
    seen: Vec<Option<u64>>,
}

/// A batch that is durable: nothing else is ever signed.
struct Durable(Written);

/// A batch that is durable under a signed head.
pub(crate) struct Sealed {
    pub(super) first: u64,
    pub(super) statements: Vec<Vec<u8>>,
    pub(super) seen: Vec<Option<u64>>,
    pub(super) head: Arc<Head>,
}

/// Where batches become durable, one after the other.
pub(crate) struct Committer {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) keys: Keys,
    /// The tree of what was written: between two batches, of what is durable.
    pub(super) tree: Tree,
    /// The head of the last batch; none before the first.
    pub(super) head: Option<Arc<Head>>,
    pub(super) newest: Segment,
    pub(super) record: Vec<u8>,
    /// Set once somebody wants the newest segment closed.
    pub(super) closing: Arc<AtomicBool>,
    pub(super) stop: Stop,
}

/// The newest segment of the journal.
pub(super) struct Segment {
    /// Its first entry.
    pub(super) first: u64,
    /// Its length in bytes, and the one after which another begins.
    pub(super) length: u64,
    pub(super) largest: u64,
}

impl Segment {
    const fn is_full(&self, size: u64) -> bool {
        self.length >= self.largest || size.saturating_sub(self.first) >= SEGMENT_ENTRIES
    }
}

impl Written {
    fn sync(self, storage: &dyn Storage) -> io::Result<Durable> {
        storage.sync().map(|()| Durable(self))
    }
}

impl Committer {
    /// Makes a batch durable, and signs the tree with it. Whatever fails leaves
    /// the state of the disk unknown: nothing else is written after it.
    pub(crate) fn commit(&mut self, prepared: Prepared) -> Result<Sealed, LogError> {
        self.stop.check()?;
        self.write_and_seal(prepared).inspect_err(|_| self.stop.set())
    }

    fn write_and_seal(&mut self, prepared: Prepared) -> Result<Sealed, LogError> {
        let written = self.write(prepared)?;
        // In memory alone, while the disk is at work.
        written.batch.entries.iter().for_each(|entry| self.tree.push(entry.leaf));
        let durable = written.sync(&*self.storage)?;
        self.seal(durable)
    }

    fn write(&mut self, Prepared { entries, seen }: Prepared) -> Result<Written, LogError> {
        let first = self.tree.size();
        let checkpoint = self.head.as_ref().map(|head| head.checkpoint.note().to_owned());
        self.next_segment(first, checkpoint.as_deref())?;
        let batch = ArchivedBatch { first, checkpoint, entries };
        self.keys.mac.batch(&batch, &mut self.record);
        self.storage.append(&self.record)?;
        self.newest.length = self.newest.length.saturating_add(self.record.len() as u64);
        self.record.clear();
        self.record.shrink_to(RECORD);
        Ok(Written { batch, seen })
    }

    /// Begins another segment where the newest is full, or somebody wants it
    /// closed and it has entries.
    fn next_segment(&mut self, first: u64, checkpoint: Option<&str>) -> Result<(), LogError> {
        if self.newest.is_full(first) || first > self.newest.first && self.closing.swap(false, Ordering::Relaxed) {
            let edge = self.tree.edge().rows();
            let header = self.keys.mac.header(&Header { first, checkpoint: checkpoint.map(Into::into), edge });
            self.storage.put_segment(first, &header)?;
            self.newest = Segment { first, length: header.len() as u64, ..self.newest };
        }
        Ok(())
    }

    fn seal(&mut self, Durable(Written { batch, seen }): Durable) -> Result<Sealed, LogError> {
        let head = Arc::new(self.keys.sign(self.tree.snapshot())?);
        self.head = Some(Arc::clone(&head));
        let statements = batch.entries.into_iter().map(|entry| entry.statement).collect();
        Ok(Sealed { first: batch.first, statements, seen, head })
    }
}
