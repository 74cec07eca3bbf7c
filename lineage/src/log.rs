//! The log: opening, recovering, and committing batches.
//!
//! The order of a commit, and what a crash after each step leaves:
//!
//! | step | after a crash here |
//! |---|---|
//! | shared parts of blobs are put into the archive, durably | files that nothing refers to: `fsck` names them |
//! | the record is appended to the journal | a torn record, or one that nobody was answered for: cut off, or kept |
//! | the journal is synced | the batch is there; nobody was answered |
//! | checkpoint and root are signed, in memory | the same: the signature is deterministic, a start makes it again |
//! | askers are answered with receipts | the batch is there |
//! | bundles, tiles, checkpoint are published | they are written again from the journal |
//!
//! Nothing is signed that is not durable, so no fault of a disk makes two
//! checkpoints of one size; and one sync a batch is enough, because the record
//! of a batch has the signed checkpoint of the tree *before* it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use portcullis_wire::{Digest, merkle};

use crate::MAX_ENTRY;
use crate::archive::{Archive, Blob};
use crate::checkpoint::Checkpoint;
use crate::journal::{ArchivedBatch, ArchivedEntry, Header, JournalError, Segments, Step};
use crate::keys::Keys;
use crate::log_error::LogError;
use crate::prune::Pruner;
use crate::publisher::{CHECKPOINT, Fresh, Publisher, mark};
use crate::replay::{check, signed_edge};
use crate::storage::Storage;
use crate::tree::{Tree, TreeError};
use crate::view::{Committed, View};

/// Bytes after which the journal goes on in another segment: what a start reads
/// at most, and what a prune works on.
const SEGMENT: u64 = 64 * 1024 * 1024;
/// Entries after which it does, however small they are.
const SEGMENT_ENTRIES: u64 = 1 << 17;

/// Bytes for a record that are kept for the next one: memory that comes new from
/// the system costs more than what is written there.
const RECORD: usize = 1024 * 1024;

/// A statement on its way into the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEntry {
    /// The signed statement, without unprotected headers.
    pub statement: Vec<u8>,
    /// What the statement refers to by digest, to be archived with it.
    pub blobs: Vec<Blob>,
    /// Size of the largest tree that the asker has seen, for a consistency receipt.
    pub seen: Option<u64>,
}

/// A statement with its leaf hash.
pub(crate) struct Hashed {
    entry: NewEntry,
    leaf: Digest,
}

impl Hashed {
    pub(crate) fn of(entry: NewEntry) -> Self {
        Self { leaf: merkle::leaf_hash(&entry.statement), entry }
    }

    /// Bytes of the statement and of what it archives.
    pub(crate) fn length(&self) -> usize {
        let archived: usize = self.entry.blobs.iter().map(|blob| blob.bytes().len()).sum();
        archived.saturating_add(self.entry.statement.len())
    }
}

/// A batch that was written to the journal, and is not durable before a sync.
struct Written {
    batch: ArchivedBatch,
    seen: Vec<Option<u64>>,
}

/// A batch that is durable: nothing else is ever signed.
struct Durable(Written);

impl Written {
    fn sync(self, storage: &dyn Storage) -> io::Result<Durable> {
        storage.sync().map(|()| Durable(self))
    }
}

/// A log open for writing.
pub struct Log {
    storage: Arc<dyn Storage>,
    keys: Keys,
    archive: Archive,
    tree: Tree,
    view: View,
    record: Vec<u8>,
    outbox: Sender<Fresh>,
    published: Arc<AtomicU64>,
    /// Length of the newest segment in bytes, its first entry, and how long the
    /// largest may be.
    segment: u64,
    first: u64,
    largest: u64,
    /// Whether somebody asked for a new segment.
    closing: Arc<AtomicBool>,
    observer: Observer,
    stopped: bool,
}

/// Gets every entry that became durable, with its position, in order.
type Observer = Box<dyn FnMut(u64, &[u8]) + Send>;

impl Log {
    /// Opens a log, recovering it from its journal: a torn last record is cut
    /// off, everything else must be sound. Readers' files are written again from
    /// where they were last durable. The time this takes depends on the size of
    /// a segment, not on that of the log.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(storage: Arc<dyn Storage>, keys: Keys) -> Result<(Self, Publisher), LogError> {
        Self::open_with(storage, keys, SEGMENT)
    }

    /// As [`Log::open`], with another size of segments in bytes.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open_with(storage: Arc<dyn Storage>, keys: Keys, largest: u64) -> Result<(Self, Publisher), LogError> {
        if storage.segments()?.is_empty() {
            storage.put_segment(0, &keys.mac.header(&Header { first: 0, checkpoint: None, edge: Vec::new() }))?;
        }
        let durable = mark(&*storage)?;
        let mut tree = Tree::default();
        let (outbox, inbox) = channel();
        let published = Arc::new(AtomicU64::new(0));
        let mut publisher = Publisher::new(Arc::clone(&storage), inbox, Arc::clone(&published), durable);

        let mut segments = Segments::from(Arc::clone(&storage), durable, Some(&keys.mac))?;
        let mut first = None;
        while let Some(step) = segments.next()? {
            let batch = match step {
                Step::Batch(batch) => batch,
                Step::Segment(header) => {
                    let edge = signed_edge(&header, &keys.origin)?;
                    if first.is_none() {
                        tree = Tree::of(edge, Arc::clone(&storage));
                    } else if edge != *tree.edge() {
                        return Err(JournalError::Gap { found: header.first, required: tree.size() }.into());
                    }
                    first = Some(header.first);
                    continue;
                }
            };
            if batch.first != tree.size() {
                return Err(JournalError::Gap { found: batch.first, required: tree.size() }.into());
            }
            check(batch.checkpoint.as_deref(), &keys.origin, tree.edge())?;
            batch.entries.iter().for_each(|entry| tree.push(entry.leaf));
            let entries = batch.entries.into_iter().map(|entry| entry.statement);
            let skip = usize::try_from(durable.saturating_sub(batch.first)).unwrap_or(usize::MAX);
            publisher.recover(entries.skip(skip).collect(), &tree)?;
        }
        let (segment, first) = (segments.last(), first.unwrap_or(0));
        keys.check_published(&*storage, &tree, durable)?;
        // What is torn goes; where nothing is, this costs one sync.
        storage.truncate(segment)?;
        let head = if tree.size() > 0 { Some(Arc::new(keys.sign(tree.snapshot())?)) } else { None };
        publisher.recovered(head.clone());
        publisher.publish()?;
        let archive = Archive::new(Arc::clone(&storage));
        let view = View::of(head.as_deref());
        let observer: Observer = Box::new(|_, _| ());
        let log = Self {
            storage,
            keys,
            archive,
            tree,
            view,
            record: Vec::new(),
            outbox,
            published,
            segment,
            first,
            largest,
            closing: Arc::default(),
            observer,
            stopped: false,
        };
        Ok((log, publisher))
    }

    /// What takes evidence out that has had its time.
    #[must_use]
    pub fn pruner(&self) -> Pruner {
        Pruner::new(Arc::clone(&self.storage), Arc::clone(&self.keys.mac), Arc::clone(&self.closing))
    }

    /// Calls `observer` with every entry from now on, in order, once it is
    /// durable and before anybody is answered for it: state that follows from
    /// the log is kept in one place, whether it is read or written.
    pub fn observe(&mut self, observer: impl FnMut(u64, &[u8]) + Send + 'static) {
        self.observer = Box::new(observer);
    }

    /// Commits a batch: durable as a whole when this returns, with one sync and
    /// one receipt signature.
    ///
    /// # Errors
    /// [`LogError`]; after a storage error every later call is [`LogError::Stopped`].
    pub fn append(&mut self, batch: Vec<NewEntry>) -> Result<Vec<Committed>, LogError> {
        self.commit(batch.into_iter().map(Hashed::of).collect())
    }

    /// As [`Log::append`], of entries that were hashed before.
    pub(crate) fn commit(&mut self, batch: Vec<Hashed>) -> Result<Vec<Committed>, LogError> {
        let written = self.write(batch)?;
        let durable = written.sync(&*self.storage)?;
        self.seal(durable)
    }

    /// Archives a batch and writes it to the journal. Nothing else is written
    /// before it is synced and sealed: whatever fails until then leaves the state
    /// of the disk unknown.
    fn write(&mut self, batch: Vec<Hashed>) -> Result<Written, LogError> {
        if self.stopped {
            return Err(LogError::Stopped);
        }
        let length = |it: &Hashed| it.entry.statement.len();
        let bad = |length: &usize| *length == 0 || *length > MAX_ENTRY;
        if let Some(length) = batch.iter().map(length).find(bad) {
            return Err(LogError::Entry(length));
        }
        if batch.is_empty() {
            return Err(LogError::Entry(0));
        }
        self.stopped = true;
        let first = self.tree.size();
        let checkpoint = self.head().map(|head| head.note().to_owned());
        self.next_segment(first, checkpoint.as_deref())?;
        let (mut entries, mut seen) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Hashed { entry, leaf } in batch {
            let blobs = entry.blobs.into_iter().map(|blob| self.archive.store(blob)).collect::<io::Result<_>>()?;
            entries.push(ArchivedEntry { statement: entry.statement, blobs, leaf });
            seen.push(entry.seen);
        }
        let batch = ArchivedBatch { first, checkpoint, entries };
        self.keys.mac.batch(&batch, &mut self.record);
        self.storage.append(&self.record)?;
        self.segment = self.segment.saturating_add(self.record.len() as u64);
        self.record.clear();
        self.record.shrink_to(RECORD);
        Ok(Written { batch, seen })
    }

    /// Begins another segment where the newest is long enough.
    fn next_segment(&mut self, first: u64, checkpoint: Option<&str>) -> Result<(), LogError> {
        let long = self.segment >= self.largest || first.saturating_sub(self.first) >= SEGMENT_ENTRIES;
        if long || first > self.first && self.closing.swap(false, Ordering::Relaxed) {
            let edge = self.tree.edge().rows();
            let header = self.keys.mac.header(&Header { first, checkpoint: checkpoint.map(Into::into), edge });
            self.storage.put_segment(first, &header)?;
            (self.segment, self.first) = (header.len() as u64, first);
        }
        Ok(())
    }

    /// Signs the tree with a batch that has become durable, and shows it.
    fn seal(&mut self, Durable(written): Durable) -> Result<Vec<Committed>, LogError> {
        let Written { batch: ArchivedBatch { first, entries, .. }, seen } = written;
        entries.iter().for_each(|entry| self.tree.push(entry.leaf));
        let head = Arc::new(self.keys.sign(self.tree.snapshot())?);
        self.view.show(&head);
        self.stopped = false;
        let entries: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.statement).collect();
        (first..).zip(&entries).for_each(|(index, entry)| (self.observer)(index, entry));
        // Without a publisher nobody reads.
        let _unread = self.outbox.send(Fresh { entries, head: Arc::clone(&head) });
        let committed = (first..).zip(seen).map(|(index, seen)| Committed { index, seen, head: Arc::clone(&head) });
        Ok(committed.collect())
    }

    /// Entries that are not on the disk in full bundles yet.
    pub(crate) fn unpublished(&self) -> u64 {
        self.tree.size().saturating_sub(self.published.load(Ordering::Relaxed))
    }

    /// The latest checkpoint; `None` before the first entry.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Checkpoint>> {
        self.view.head()
    }

    /// A view for other threads.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The public keys.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }
}

impl Keys {
    /// The journal has what readers were shown: the tree extends the published
    /// checkpoint, and reaches up to where files were durable.
    fn check_published(&self, storage: &dyn Storage, tree: &Tree, durable: u64) -> Result<(), LogError> {
        let found = tree.size();
        if durable > found {
            return Err(LogError::Rollback { found, required: durable });
        }
        let note = storage.get(CHECKPOINT)?.and_then(|note| String::from_utf8(note).ok());
        // A file that is not ours says nothing; it is written again.
        let Some(Ok(shown)) = note.map(|note| Checkpoint::verify(&note, &self.origin)) else { return Ok(()) };
        match tree.root_at(shown.size()) {
            Ok(root) if root == *shown.root() => Ok(()),
            Ok(_) => Err(LogError::Fork { size: shown.size() }),
            Err(TreeError::Beyond) => Err(LogError::Rollback { found, required: shown.size() }),
            Err(error) => Err(LogError::Tree(error)),
        }
    }
}
