//! The log: opening, recovering, and committing batches.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use aws_lc_rs::signature::Ed25519KeyPair;
use portcullis_wire::{Error, Value, merkle};

use crate::MAX_ENTRY;
use crate::checkpoint::{Checkpoint, CheckpointError, VerifyingKey, public_half};
use crate::journal::{self, JournalError, Record};
use crate::receipt::{ReceiptKey, SignedRoot};
use crate::storage::Storage;
use crate::tiles::Publisher;
use crate::tree::Tree;

/// The two keys of a log.
pub struct Keys {
    origin: VerifyingKey,
    checkpoint: Ed25519KeyPair,
    receipt: Ed25519KeyPair,
}

impl Keys {
    /// Keys from their 32-byte seeds, under the log's origin. The two must differ.
    ///
    /// # Errors
    /// [`CheckpointError::Key`].
    pub fn from_seeds(origin: &str, checkpoint: &[u8; 32], receipt: &[u8; 32]) -> Result<Self, CheckpointError> {
        let pair = |seed: &[u8; 32]| Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| CheckpointError::Key);
        if checkpoint == receipt {
            return Err(CheckpointError::Key);
        }
        let (checkpoint, receipt) = (pair(checkpoint)?, pair(receipt)?);
        Ok(Self { origin: VerifyingKey::new(origin, public_half(&checkpoint))?, checkpoint, receipt })
    }

    /// The public checkpoint key with the origin.
    #[must_use]
    pub const fn checkpoint_key(&self) -> &VerifyingKey {
        &self.origin
    }

    /// The public receipt key.
    #[must_use]
    pub fn receipt_key(&self) -> ReceiptKey {
        ReceiptKey::new(public_half(&self.receipt))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("origin", &self.origin.origin()).finish_non_exhaustive()
    }
}

/// Why the log does not open, or cannot be written any more.
#[derive(Debug)]
pub enum LogError {
    /// The storage failed. After a failed write nobody knows what is durable:
    /// the log stops for good in this process.
    Storage(io::Error),
    /// The journal is damaged.
    Journal(JournalError),
    /// A batch does not follow on the one before it.
    Sequence {
        /// Index at which the batch says to start.
        found: u64,
        /// Size of the tree before it.
        required: u64,
    },
    /// A checkpoint in the journal does not verify.
    Checkpoint(CheckpointError),
    /// A checkpoint in the journal is of another tree.
    Root {
        /// Size of the tree.
        size: u64,
    },
    /// An entry longer than [`MAX_ENTRY`] bytes, or an empty batch.
    Entry(usize),
    /// Making a receipt failed.
    Receipt(Error),
    /// An earlier write failed.
    Stopped,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => write!(f, "log storage failed: {error}"),
            Self::Journal(error) => error.fmt(f),
            Self::Sequence { found, required } => write!(f, "journal continues at entry {found}, required {required}"),
            Self::Checkpoint(error) => write!(f, "checkpoint in the journal: {error}"),
            Self::Root { size } => write!(f, "checkpoint in the journal is of another tree of size {size}"),
            Self::Entry(length) => write!(f, "entry of {length} bytes, 1 to {MAX_ENTRY} allowed"),
            Self::Receipt(error) => write!(f, "receipt: {error}"),
            Self::Stopped => f.write_str("the log stopped after a failed write"),
        }
    }
}

impl std::error::Error for LogError {}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error)
    }
}

/// A statement on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// The signed statement, without unprotected headers.
    pub statement: Vec<u8>,
    /// What the statement refers to by digest, to be archived with it.
    pub blobs: Vec<Vec<u8>>,
    /// Size of the largest tree that the asker has seen, for a consistency receipt.
    pub seen: Option<u64>,
}

/// An entry that is durable under a signed checkpoint.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Position in the log.
    pub index: u64,
    /// Value of header 394; `None` for the first entry of a log, whose tree
    /// RFC 9942 cannot express.
    pub receipts: Option<Value>,
    /// The checkpoint of the batch.
    pub checkpoint: Arc<Checkpoint>,
}

/// A log open for writing.
pub struct Log<S> {
    storage: S,
    keys: Keys,
    tree: Arc<RwLock<Tree>>,
    head: Arc<RwLock<Option<Arc<Checkpoint>>>>,
    publisher: Publisher,
    stopped: bool,
}

impl<S: Storage> Log<S> {
    /// Opens a log, recovering it from its journal: a torn last record is cut
    /// off, everything else must be sound. Then the readers' files are written
    /// again. `visit` sees every entry once, in order: state that follows from
    /// the log is rebuilt there and kept nowhere else.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(mut storage: S, keys: Keys, mut visit: impl FnMut(&[u8])) -> Result<Self, LogError> {
        let bytes = storage.read_journal()?;
        let (records, sound) = journal::read(&bytes).map_err(LogError::Journal)?;
        if sound < bytes.len() {
            storage.truncate_journal(sound as u64)?;
        }
        let (mut tree, mut head, mut publisher) = (Tree::default(), None, Publisher::default());
        for record in records {
            if record.first != tree.size() {
                return Err(LogError::Sequence { found: record.first, required: tree.size() });
            }
            record.entries.iter().for_each(|entry| tree.push(merkle::leaf_hash(entry)));
            let checkpoint = Checkpoint::verify(&record.checkpoint, &keys.origin).map_err(LogError::Checkpoint)?;
            if checkpoint.size() != tree.size() || *checkpoint.root() != tree.root() {
                return Err(LogError::Root { size: tree.size() });
            }
            record.entries.iter().for_each(|entry| visit(entry));
            publisher.queue(record.entries);
            head = Some(Arc::new(checkpoint));
        }
        let mut log = Self {
            storage,
            keys,
            tree: Arc::new(RwLock::new(tree)),
            head: Arc::new(RwLock::new(head)),
            publisher,
            stopped: false,
        };
        log.publish()?;
        Ok(log)
    }

    /// Commits a batch: durable as a whole when this returns, with one sync and
    /// one receipt signature.
    ///
    /// # Errors
    /// [`LogError`]; after a storage error every later call is [`LogError::Stopped`].
    pub fn append(&mut self, batch: Vec<NewEntry>) -> Result<Vec<Committed>, LogError> {
        if self.stopped {
            return Err(LogError::Stopped);
        }
        let bad = |entry: &&NewEntry| entry.statement.is_empty() || entry.statement.len() > MAX_ENTRY;
        if let Some(entry) = batch.iter().find(bad) {
            return Err(LogError::Entry(entry.statement.len()));
        }
        if batch.is_empty() {
            return Err(LogError::Entry(0));
        }
        let first = self.tree().size();
        let mut next = self.tree().frontier();
        batch.iter().for_each(|entry| next.push(merkle::leaf_hash(&entry.statement)));
        let checkpoint = Checkpoint::sign(&self.keys.checkpoint, &self.keys.origin, next.size(), next.root());
        let checkpoint = Arc::new(checkpoint);

        let seen: Vec<Option<u64>> = batch.iter().map(|entry| entry.seen).collect();
        let entries: Vec<Vec<u8>> = batch.iter().map(|entry| entry.statement.clone()).collect();
        let blobs = batch.into_iter().flat_map(|entry| entry.blobs).collect();
        let record = Record { first, entries: entries.clone(), blobs, checkpoint: checkpoint.note().to_owned() };
        self.write(&record.encode())?;

        // From here on the batch is durable; what follows cannot take it back.
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        entries.iter().for_each(|entry| tree.push(merkle::leaf_hash(entry)));
        self.publisher.queue(entries);
        *self.head.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&checkpoint));
        let root =
            SignedRoot::sign(&self.keys.receipt, checkpoint.size(), *checkpoint.root()).map_err(LogError::Receipt)?;
        let committed = (first..).zip(seen).map(|(index, seen)| Committed {
            index,
            receipts: if root.size() > 1 { root.receipts(&tree, index, seen) } else { None },
            checkpoint: Arc::clone(&checkpoint),
        });
        Ok(committed.collect())
    }

    /// One write and one sync. A failure leaves the state of the disk unknown,
    /// so nothing is ever written after it.
    fn write(&mut self, record: &[u8]) -> Result<(), LogError> {
        self.stopped = true;
        self.storage.append_journal(record)?;
        self.storage.sync_journal()?;
        self.stopped = false;
        Ok(())
    }

    /// Writes what readers have not got yet: entries, tiles, then the
    /// checkpoint, so that a checkpoint never promises what cannot be read.
    ///
    /// # Errors
    /// [`LogError::Storage`]. The log itself is not harmed.
    pub fn publish(&mut self) -> Result<(), LogError> {
        let Some(head) = self.head() else { return Ok(()) };
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        self.publisher.publish(&tree, &head, &mut self.storage)?;
        Ok(())
    }

    /// Whether readers lack something.
    #[must_use]
    pub fn has_unpublished(&self) -> bool {
        self.publisher.is_behind()
    }

    /// The latest checkpoint; `None` before the first entry.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Checkpoint>> {
        self.head.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A view for other threads.
    #[must_use]
    pub fn view(&self) -> View {
        View { tree: Arc::clone(&self.tree), head: Arc::clone(&self.head) }
    }

    /// The public keys.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log as other threads see it: heads and proofs, no writing.
#[derive(Clone, Debug)]
pub struct View {
    tree: Arc<RwLock<Tree>>,
    head: Arc<RwLock<Option<Arc<Checkpoint>>>>,
}

impl View {
    /// The latest checkpoint; `None` before the first entry.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Checkpoint>> {
        self.head.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads hashes and proofs.
    pub fn with_tree<T>(&self, read: impl FnOnce(&Tree) -> T) -> T {
        read(&self.tree.read().unwrap_or_else(PoisonError::into_inner))
    }
}
