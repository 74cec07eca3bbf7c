//! Why a log does not open or cannot be written any more.

use std::fmt;
use std::io;

use portcullis_wire::Error;

use crate::MAX_ENTRY;
use crate::replay::ReplayError;
use crate::tree::TreeError;

/// Why the log does not open or cannot be written any more.
#[derive(Debug)]
pub enum LogError {
    /// The storage failed. After a failed write it is unknown what is durable, so the log
    /// stops for good in this process.
    Storage(io::Error),
    /// The journal is not this log's: damaged, foreign, or of another tree.
    Replay(ReplayError),
    /// Readers have seen a larger tree: the journal is not the newest.
    Rollback {
        /// Size of the journal's tree.
        found: u64,
        /// Size that was published.
        required: u64,
    },
    /// Readers have seen another tree of this size.
    Fork {
        /// Size of the tree.
        size: u64,
    },
    /// An entry longer than [`MAX_ENTRY`] bytes, or an empty batch.
    Entry(usize),
    /// Making a receipt failed.
    Receipt(Error),
    /// A proof cannot be made: tiles are missing or were altered.
    Tree(TreeError),
    /// An earlier write failed.
    Stopped,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => write!(f, "log storage failed: {error}"),
            Self::Replay(error) => error.fmt(f),
            Self::Rollback { found, required } => {
                write!(f, "the journal has {found} entries, required {required} as published: it was rolled back")
            }
            Self::Fork { size } => write!(f, "another tree of size {size} was published: the journal is a fork"),
            Self::Entry(length) => write!(f, "entry of {length} bytes, 1 to {MAX_ENTRY} allowed"),
            Self::Receipt(error) => write!(f, "receipt: {error}"),
            Self::Tree(error) => write!(f, "proof: {error}"),
            Self::Stopped => f.write_str("the log stopped after a failed write"),
        }
    }
}

impl std::error::Error for LogError {}

impl LogError {
    /// The check that fails, as a stable dotted id.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Storage(_) | Self::Stopped => "log.storage",
            Self::Replay(error) => error.check(),
            Self::Rollback { .. } => "log.rollback",
            Self::Fork { .. } => "log.fork",
            Self::Entry(_) => "log.entry",
            Self::Receipt(_) | Self::Tree(_) => "log.tiles",
        }
    }
}

impl<E: Into<ReplayError>> From<E> for LogError {
    fn from(error: E) -> Self {
        Self::Replay(error.into())
    }
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error)
    }
}
