//! The second step of a batch: it is written to the journal, synced, and then signed.

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

/// Number of entries after which the journal continues in a new segment, however small
/// they are.
const SEGMENT_ENTRIES: u64 = 1 << 17;
/// Bytes of a record's buffer that are reused for the next record: fresh memory from
/// the system costs more than filling it.
const RECORD: usize = 1024 * 1024;

/// A batch that was written to the journal and is not durable until the next sync.
struct Written {
    batch: ArchivedBatch,
    seen: Vec<Option<u64>>,
}

/// A durable batch: nothing else is ever signed.
struct Durable(Written);

/// A batch that is durable under a signed head.
pub(crate) struct Sealed {
    pub(super) first: u64,
    pub(super) statements: Vec<Vec<u8>>,
    pub(super) seen: Vec<Option<u64>>,
    pub(super) head: Arc<Head>,
}

/// Makes batches durable, one after the other.
pub(crate) struct Committer {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) keys: Keys,
    /// The tree of everything written; between two batches, of everything durable.
    pub(super) tree: Tree,
    /// The head of the last batch; none before the first.
    pub(super) head: Option<Arc<Head>>,
    pub(super) newest: Segment,
    pub(super) record: Vec<u8>,
    /// Set when the newest segment is to be closed.
    pub(super) closing: Arc<AtomicBool>,
    pub(super) stop: Stop,
}

/// The newest segment of the journal.
pub(super) struct Segment {
    /// Its first entry.
    pub(super) first: u64,
    /// Its length in bytes, and the length after which a new one begins.
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
    /// Makes a batch durable and signs the tree with it. Any failure leaves the state of
    /// the disk unknown, so nothing else is written after it.
    pub(crate) fn commit(&mut self, prepared: Prepared) -> Result<Sealed, LogError> {
        self.stop.check()?;
        self.write_and_seal(prepared).inspect_err(|_| self.stop.set())
    }

    fn write_and_seal(&mut self, prepared: Prepared) -> Result<Sealed, LogError> {
        let written = self.write(prepared)?;
        // In memory only, while the disk works.
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

    /// Begins a new segment if the newest is full, or if it is to be closed and has
    /// entries.
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
