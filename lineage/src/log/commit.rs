//! The second step of a batch: it is written to the journal, synced, and only
//! then signed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::LogError;
use super::intake::Prepared;
use super::stop::Stop;
use crate::journal::{ArchivedBatch, Header, JournalError};
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
    tree: Arc<Tree>,
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
        let durable = written.sync(&*self.storage)?;
        self.seal(durable)
    }

    fn write(&mut self, Prepared { entries, seen, tree }: Prepared) -> Result<Written, LogError> {
        let (first, checkpoint) = self.before();
        let found = tree.size().saturating_sub(entries.len() as u64);
        if found != first {
            // A batch is missing between this one and the last.
            return Err(JournalError::Gap { found, required: first }.into());
        }
        self.next_segment(first, checkpoint.as_deref())?;
        let batch = ArchivedBatch { first, checkpoint, entries };
        self.keys.mac.batch(&batch, &mut self.record);
        self.storage.append(&self.record)?;
        self.newest.length = self.newest.length.saturating_add(self.record.len() as u64);
        self.record.clear();
        self.record.shrink_to(RECORD);
        Ok(Written { batch, seen, tree })
    }

    /// Size and checkpoint of the tree before the next batch.
    fn before(&self) -> (u64, Option<String>) {
        let checkpoint = self.head.as_ref().map(|head| &head.checkpoint);
        (checkpoint.map_or(0, |head| head.size()), checkpoint.map(|head| head.note().to_owned()))
    }

    /// Begins another segment where the newest is full, or somebody wants it
    /// closed and it has entries.
    fn next_segment(&mut self, first: u64, checkpoint: Option<&str>) -> Result<(), LogError> {
        if self.newest.is_full(first) || first > self.newest.first && self.closing.swap(false, Ordering::Relaxed) {
            let edge = self.head.as_ref().map(|head| head.tree.edge().rows()).unwrap_or_default();
            let header = self.keys.mac.header(&Header { first, checkpoint: checkpoint.map(Into::into), edge });
            self.storage.put_segment(first, &header)?;
            self.newest = Segment { first, length: header.len() as u64, ..self.newest };
        }
        Ok(())
    }

    fn seal(&mut self, Durable(Written { batch, seen, tree }): Durable) -> Result<Sealed, LogError> {
        let head = Arc::new(self.keys.sign(tree)?);
        self.head = Some(Arc::clone(&head));
        let statements = batch.entries.into_iter().map(|entry| entry.statement).collect();
        Ok(Sealed { first: batch.first, statements, seen, head })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::log::{Log, NewEntry};
    use crate::storage::MemoryStorage;

    /// What is signed is the tree of what the journal has, whatever was prepared.
    #[test]
    fn a_batch_that_does_not_follow_is_neither_written_nor_signed() {
        let keys = || Keys::from_seeds("log.test/commit", &[1; 32], &[2; 32]).unwrap();
        let disk = MemoryStorage::new();
        let (mut log, _publisher) = Log::open(Arc::new(disk.clone()), keys()).unwrap();
        let batch = |n: u8| vec![NewEntry { statement: vec![n], ..NewEntry::default() }];
        log.append(batch(0)).unwrap();
        let before = disk.image();
        let [_missing, second] = [1, 2].map(|n| log.intake.prepare(batch(n)).unwrap());
        assert_eq!(log.committer.commit(second).map(|_| ()).unwrap_err().check(), "log.journal.gap");
        assert!(matches!(log.append(batch(3)), Err(LogError::Stopped)));
        let journal = |disk: &MemoryStorage| {
            let mut bytes = Vec::new();
            disk.open_segment(0).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(journal(&disk), journal(&before));
    }
}
