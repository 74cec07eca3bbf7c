//! Removes evidence from the archive after its retention time. Statements, hashes and
//! checkpoints stay, and so do digest and length of what is removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_wire::sha256;

use crate::journal::{ArchivedEntry, JournalError, Mac, Part, SegmentReader};
use crate::storage::Storage;

/// Removes blobs from segments that are no longer written, while the log runs. Shared
/// files stay, because other blobs refer to them.
#[derive(Clone)]
pub struct Pruner {
    storage: Arc<dyn Storage>,
    mac: Arc<Mac>,
    closing: Arc<AtomicBool>,
}

/// A segment whose entries are all past their retention time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its first entry.
    pub first: u64,
    /// The first entry after it.
    pub next: u64,
}

impl Pruner {
    pub(crate) const fn new(storage: Arc<dyn Storage>, mac: Arc<Mac>, closing: Arc<AtomicBool>) -> Self {
        Self { storage, mac, closing }
    }

    /// The first value that `look` returns for an entry of the newest segment in which it
    /// returns any.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn newest<T>(&self, mut look: impl FnMut(&[u8]) -> Option<T>) -> Result<Option<T>, JournalError> {
        let Some(newest) = self.storage.segments()?.pop() else { return Ok(None) };
        let (mut reader, _) = SegmentReader::open(&*self.storage, newest, true, Some(&self.mac))?;
        while let Some(batch) = reader.next_batch()? {
            if let Some(found) = batch.entries.iter().find_map(|entry| look(&entry.statement)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Makes the next batch begin a new segment, because only closed segments are pruned.
    pub fn close_newest(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// The oldest closed segment from `from` on for all entries of which `kept` is false.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn due(&self, from: u64, mut kept: impl FnMut(&[u8]) -> bool) -> Result<Option<Due>, JournalError> {
        let segments = self.storage.segments()?;
        let mut old = segments.windows(2).filter_map(|pair| match pair {
            [first, next] if *first >= from => Some(Due { first: *first, next: *next }),
            _ => None,
        });
        let Some(due) = old.next() else { return Ok(None) };
        let (mut reader, _) = SegmentReader::open(&*self.storage, due.first, false, Some(&self.mac))?;
        while let Some(batch) = reader.next_batch()? {
            if batch.entries.iter().any(|entry| kept(&entry.statement)) {
                return Ok(None);
            }
        }
        Ok(Some(due))
    }

    /// Removes the blobs of a segment's entries for which `expires` is true, and returns
    /// how many bytes. The segment is replaced as a whole, or not at all.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn prune(&self, due: Due, mut expires: impl FnMut(&[u8]) -> bool) -> Result<u64, JournalError> {
        let (mut reader, header) = SegmentReader::open(&*self.storage, due.first, false, Some(&self.mac))?;
        let (mut segment, mut record) = (self.mac.header(&header), Vec::new());
        let mut taken = 0_u64;
        while let Some(mut batch) = reader.next_batch()? {
            for entry in batch.entries.iter_mut().filter(|entry| expires(&entry.statement)) {
                taken = taken.saturating_add(empty(entry));
            }
            self.mac.batch(&batch, &mut record);
            segment.extend_from_slice(&record);
        }
        if taken > 0 {
            self.storage.put_segment(due.first, &segment)?;
        }
        Ok(taken)
    }
}

fn empty(entry: &mut ArchivedEntry) -> u64 {
    let mut taken = 0_u64;
    for part in entry.blobs.iter_mut().flat_map(|blob| &mut blob.0) {
        if let Part::Here(bytes) = part {
            let length = bytes.len() as u64;
            *part = Part::Pruned { digest: sha256(&[bytes]), length };
            taken = taken.saturating_add(length);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ArchiveError;
    use crate::journal::ArchiveReader;
    use crate::keys::Keys;
    use crate::log::{Log, NewEntry};
    use crate::replay::Replay;
    use crate::storage::MemoryStorage;

    #[test]
    fn a_log_that_hardly_grows_is_pruned_too() {
        let keys = Keys::from_seeds("log.test/prune", &[1; 32], &[2; 32]).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let (mut log, _publisher) = Log::open(Arc::clone(&storage), keys).unwrap();
        let pruner = log.pruner();
        let entry = |n| NewEntry { statement: vec![n], ..NewEntry::default() };
        let newest = || pruner.newest(|entry| (entry != [1]).then(|| entry.to_vec())).unwrap();
        assert_eq!(newest(), None);
        log.append(vec![entry(1), entry(2)]).unwrap();
        log.append(vec![entry(3)]).unwrap();
        assert_eq!(newest(), Some(vec![2]));
        assert_eq!(pruner.due(0, |_| false).unwrap(), None);
        pruner.close_newest();
        log.append(vec![entry(4)]).unwrap();
        log.append(vec![entry(5)]).unwrap();
        assert_eq!(newest(), Some(vec![4]));
        assert_eq!(pruner.due(0, |_| false).unwrap(), Some(Due { first: 0, next: 3 }));
        assert_eq!(storage.segments().unwrap(), [0, 3]);
    }

    #[test]
    fn what_is_pruned_is_gone_and_the_log_is_whole() {
        let keys = || Keys::from_seeds("log.test/prune", &[1; 32], &[2; 32]).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let (mut log, mut publisher) = Log::open_with(Arc::clone(&storage), keys(), 3_000).unwrap();
        for n in 0..20_u8 {
            let entry = NewEntry { statement: vec![n; 9], blobs: vec![vec![n; 400].into()], seen: None };
            log.append(vec![entry.clone(), entry]).unwrap();
        }
        publisher.sync().unwrap();
        let pruner = log.pruner();
        // Entries up to ten are past their time; later ones stay.
        let kept = |statement: &[u8]| statement[0] > 10;
        let (mut from, mut taken) = (0, 0);
        while let Some(due) = pruner.due(from, kept).unwrap() {
            taken += pruner.prune(due, |statement| !kept(statement)).unwrap();
            assert_eq!(pruner.prune(due, |_| true).unwrap(), 0, "nothing is taken twice");
            from = due.next;
        }
        assert!(from > 0 && from <= 22, "{from}");
        assert_eq!(taken, from * 400);

        // The log opens, replays, and names what was removed.
        let head = log.head().unwrap();
        drop((log, publisher));
        let (log, _) = Log::open_with(Arc::clone(&storage), keys(), 3_000).unwrap();
        assert_eq!(log.head().unwrap(), head);
        let key = keys().checkpoint_key().clone();
        let mut replay = Replay::open(Arc::clone(&storage), 0, key, (*head).clone()).unwrap();
        while replay.next_batch().unwrap().is_some() {}
        let mut archive = ArchiveReader::open(storage, 0).unwrap();
        while let Some(batch) = archive.next_batch().unwrap() {
            for (index, entry) in (batch.first..).zip(&batch.entries) {
                match archive.archive().read(&entry.blobs[0]) {
                    Ok(bytes) => assert!(index >= from && bytes.len() == 400, "{index}"),
                    Err(ArchiveError::Pruned(digest)) => {
                        assert!(index < from && digest == sha256(&[&vec![entry.statement[0]; 400]]), "{index}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}
