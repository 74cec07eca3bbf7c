//! Reads the journal from a position on and shows that every entry is in the log.
//!
//! The record of a batch contains the signed checkpoint of the tree before it. A batch
//! is therefore returned once the next one, or the head, has shown that the log signed
//! a tree with exactly these entries. The first record of a segment has the edge of the
//! tree, so nothing before it is read.

use std::fmt;
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, CheckpointError, VerifyingKey};
use crate::journal::{ArchivedBatch, Header, JournalError, Segments, Step};
use crate::storage::Storage;
use crate::tree::Edge;

/// Why a journal does not match the log.
#[derive(Debug)]
pub enum ReplayError {
    /// The journal is damaged, or has a gap.
    Journal(JournalError),
    /// A checkpoint in it does not verify.
    Checkpoint(CheckpointError),
    /// The entries do not lead to a signed root.
    Root {
        /// Size of the tree that the checkpoint is of.
        size: u64,
    },
    /// The journal ends before the head.
    Short {
        /// Entries that were found.
        found: u64,
        /// Size of the head.
        required: u64,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => error.fmt(f),
            Self::Checkpoint(error) => write!(f, "checkpoint in the journal: {error}"),
            Self::Root { size } => write!(f, "the first {size} entries do not lead to the root that was signed"),
            Self::Short { found, required } => write!(f, "the journal ends after {found} entries, required {required}"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<JournalError> for ReplayError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl ReplayError {
    /// The check that fails, as a stable dotted id.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Journal(JournalError::Storage(_)) => "log.storage",
            Self::Journal(JournalError::Foreign { .. }) => "log.journal.foreign",
            Self::Journal(JournalError::Gap { .. }) => "log.journal.gap",
            Self::Journal(_) => "log.journal.damaged",
            Self::Checkpoint(_) => "log.checkpoint",
            Self::Root { .. } => "log.root",
            Self::Short { .. } => "log.rollback",
        }
    }
}

/// Verified batches of a journal up to a head.
pub struct Replay {
    segments: Segments<'static>,
    key: VerifyingKey,
    head: Checkpoint,
    /// The tree of everything that was read.
    edge: Option<Edge>,
    /// Read, but not yet shown to be signed.
    waiting: Option<ArchivedBatch>,
}

impl Replay {
    /// Reads from the segment that holds `entry`; the first batch may start before the
    /// entry. Records beyond the head are ignored.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn open(
        storage: Arc<dyn Storage>,
        entry: u64,
        key: VerifyingKey,
        head: Checkpoint,
    ) -> Result<Self, ReplayError> {
        Ok(Self { segments: Segments::from(storage, entry, None)?, key, head, edge: None, waiting: None })
    }

    /// The next batch; `None` once the head is reached.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn next_batch(&mut self) -> Result<Option<ArchivedBatch>, ReplayError> {
        loop {
            let size = self.edge.as_ref().map_or(0, Edge::size);
            if self.edge.is_some() && size == self.head.size() {
                if self.edge.as_ref().is_some_and(|edge| edge.root() != *self.head.root()) {
                    return Err(ReplayError::Root { size });
                }
                return Ok(self.waiting.take());
            }
            let Some(batch) = self.read_batch()? else {
                return Err(ReplayError::Short { found: size, required: self.head.size() });
            };
            // The checkpoint of this record is of what was read before it.
            let edge = self.edge.get_or_insert_default();
            if batch.first != edge.size() {
                return Err(JournalError::Gap { found: batch.first, required: edge.size() }.into());
            }
            check(batch.checkpoint.as_deref(), &self.key, edge)?;
            batch.entries.iter().for_each(|entry| edge.push(entry.leaf, |_, _, _| ()));
            if let Some(shown) = self.waiting.replace(batch) {
                return Ok(Some(shown));
            }
        }
    }

    fn read_batch(&mut self) -> Result<Option<ArchivedBatch>, ReplayError> {
        loop {
            let header = match self.segments.next()? {
                None => return Ok(None),
                Some(Step::Batch(batch)) => return Ok(Some(batch)),
                Some(Step::Segment(header)) => header,
            };
            let edge = signed_edge(&header, &self.key)?;
            let known = self.edge.get_or_insert_with(|| edge.clone());
            if *known != edge {
                return Err(JournalError::Gap { found: edge.size(), required: known.size() }.into());
            }
        }
    }
}

/// The edge from which a segment continues, as this log signed it.
pub(crate) fn signed_edge(header: &Header, key: &VerifyingKey) -> Result<Edge, ReplayError> {
    let edge = Edge::read(header.first, &header.edge).ok_or(ReplayError::Root { size: header.first })?;
    check(header.checkpoint.as_deref(), key, &edge)?;
    Ok(edge)
}

/// Checks that a checkpoint in the journal is by this log and of this tree.
pub(crate) fn check(note: Option<&str>, key: &VerifyingKey, edge: &Edge) -> Result<(), ReplayError> {
    let size = edge.size();
    let Some(note) = note else {
        return if size == 0 { Ok(()) } else { Err(ReplayError::Root { size }) };
    };
    let checkpoint = Checkpoint::verify(note, key).map_err(ReplayError::Checkpoint)?;
    let same = checkpoint.size() == size && *checkpoint.root() == edge.root();
    if same { Ok(()) } else { Err(ReplayError::Root { size }) }
}
