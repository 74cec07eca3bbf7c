//! The log: opening, recovering, and committing batches.
//!
//! The order of a commit, and what a crash after each step leaves:
//!
//! | step | after a crash here |
//! |---|---|
//! | shared parts of blobs are put into the archive, durably | files that nothing names: `fsck` lists them |
//! | the record is appended to the journal | a torn record, or one for which nobody was answered: cut off, or kept |
//! | the journal is synced | the batch is there; nobody was answered |
//! | checkpoint and root are signed, in memory | the same: the signature is deterministic, and a start makes it again |
//! | writers are answered with receipts | the batch is there |
//! | bundles, tiles, checkpoint are published | they are written again from the journal |
//!
//! Nothing is signed that is not durable, so no disk fault leads to two checkpoints of
//! one size. One sync a batch is enough, because the record of a batch contains the
//! signed checkpoint of the tree *before* it.
//!
//! There are three steps, each with its own state: a batch is prepared ([`Intake`]:
//! hashes, archive), committed ([`Committer`]: journal, tree, sync, signatures) and
//! shown ([`Showing`]: view, observer, readers, answers). Under load a
//! [`crate::Writer`] prepares one batch while another is synced. At most one batch is
//! between the journal and its signature.

mod commit;
mod error;
mod intake;
mod show;
mod stop;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::channel;

pub(crate) use commit::Committer;
use commit::Segment;
pub use error::LogError;
pub use intake::NewEntry;
pub(crate) use intake::{Intake, Prepared};
pub(crate) use show::Showing;
pub(crate) use stop::Stop;

use crate::archive::Archive;
use crate::checkpoint::Checkpoint;
use crate::journal::{Header, JournalError, Segments, Step};
use crate::keys::Keys;
use crate::prune::Pruner;
use crate::publisher::{CHECKPOINT, Publisher, mark};
use crate::replay::{check, signed_edge};
use crate::storage::Storage;
use crate::tree::{Tree, TreeError};
use crate::view::{Committed, View};

/// Number of bytes after which the journal continues in a new segment: the most that a
/// start reads, and the unit of pruning.
const SEGMENT: u64 = 64 * 1024 * 1024;

/// A log open for writing.
pub struct Log {
    pub(crate) intake: Intake,
    pub(crate) committer: Committer,
    pub(crate) showing: Showing,
}

impl Log {
    /// Opens a log and recovers it from its journal: a torn last record is cut off,
    /// everything else must be sound. The published files are written again from where they
    /// were last durable. The time depends on the size of a segment, not on the size of the
    /// log.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(storage: Arc<dyn Storage>, keys: Keys) -> Result<(Self, Publisher), LogError> {
        Self::open_with(storage, keys, SEGMENT)
    }

    /// As [`Log::open`], with another segment size in bytes.
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
        let newest = Segment { first: first.unwrap_or(0), length: segments.last(), largest };
        keys.check_published(&*storage, &tree, durable)?;
        // A torn tail is cut off; if there is none, this costs one sync.
        storage.truncate(newest.length)?;
        let head = if tree.size() > 0 { Some(Arc::new(keys.sign(tree.snapshot())?)) } else { None };
        publisher.recovered(head.clone());
        publisher.publish()?;
        let stop = Stop::default();
        let showing = Showing { view: View::of(head.as_deref()), observer: Box::new(|_, _| ()), outbox };
        let intake = Intake::new(Archive::new(Arc::clone(&storage)), tree.size(), published, stop.clone());
        let (record, closing) = (Vec::new(), Arc::new(AtomicBool::new(false)));
        let committer = Committer { storage, keys, tree, head, newest, record, closing, stop };
        let log = Self { intake, committer, showing };
        Ok((log, publisher))
    }

    /// The pruner, which removes evidence after its retention time.
    #[must_use]
    pub fn pruner(&self) -> Pruner {
        let Committer { storage, keys, closing, .. } = &self.committer;
        Pruner::new(Arc::clone(storage), Arc::clone(&keys.mac), Arc::clone(closing))
    }

    /// Calls `observer` with every new entry, in order, once it is durable and before
    /// anybody is answered for it. State that follows from the log is computed in one
    /// place, whether the log is read or written.
    pub fn observe(&mut self, observer: impl FnMut(u64, &[u8]) + Send + 'static) {
        self.showing.observer = Box::new(observer);
    }

    /// Commits a batch: durable as a whole when this returns, with one sync and
    /// one receipt signature.
    ///
    /// # Errors
    /// [`LogError`]; after a storage error every later call is [`LogError::Stopped`].
    pub fn append(&mut self, batch: Vec<NewEntry>) -> Result<Vec<Committed>, LogError> {
        let prepared = self.intake.prepare(batch)?;
        let sealed = self.committer.commit(prepared)?;
        Ok(self.showing.show(sealed))
    }

    /// Whether the log has stopped, shared with its parts.
    pub(crate) fn stop(&self) -> Stop {
        self.committer.stop.clone()
    }

    /// The latest checkpoint; `None` before the first entry.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Checkpoint>> {
        self.showing.view.head()
    }

    /// A view for other threads.
    #[must_use]
    pub fn view(&self) -> View {
        self.showing.view.clone()
    }

    /// The public keys.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.committer.keys
    }
}

impl Keys {
    /// The journal contains what readers were shown: the tree extends the published
    /// checkpoint and reaches the point where files were durable.
    fn check_published(&self, storage: &dyn Storage, tree: &Tree, durable: u64) -> Result<(), LogError> {
        let found = tree.size();
        if durable > found {
            return Err(LogError::Rollback { found, required: durable });
        }
        let note = storage.get(CHECKPOINT)?.and_then(|note| String::from_utf8(note).ok());
        // A foreign file proves nothing; it is written again.
        let Some(Ok(shown)) = note.map(|note| Checkpoint::verify(&note, &self.origin)) else { return Ok(()) };
        match tree.root_at(shown.size()) {
            Ok(root) if root == *shown.root() => Ok(()),
            Ok(_) => Err(LogError::Fork { size: shown.size() }),
            Err(TreeError::Beyond) => Err(LogError::Rollback { found, required: shown.size() }),
            Err(error) => Err(LogError::Tree(error)),
        }
    }
}
