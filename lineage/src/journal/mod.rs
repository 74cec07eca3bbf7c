//! The journal: segments of records. A batch is one record, present as a whole or not
//! at all.
//!
//! ```text
//! journal/<first entry, 20 digits>   = header record, batch record, ...
//! record = magic | length of body, u32 big-endian | sum | MAC | body
//! header ("PCH2") = det-CBOR [ first, checkpoint of that size / null, [edge tile, ...] ]
//! batch  ("PCB3") = det-CBOR [ first, checkpoint of that size / null,
//!                              [[ statement, [ blob, ... ] ], ...] ]
//! blob   = [ part, ... ]    part = bytes | [ SHA-256, length, 0 shared / 1 pruned ]
//! ```
//!
//! The sum of a header is SHA-256 over its body. The sum of a batch is the same with
//! the leaf hash of every statement in place of the statement: the tree needs that hash
//! as well, so no byte is hashed twice.
//!
//! The MAC is HMAC-SHA256 over magic and sum, under a key derived from the log's keys,
//! so nobody else can append entries to a closed log. Auditors do not have that key;
//! they verify the signed checkpoints instead: each record has the one of the tree
//! before it.
//!
//! A crash while a record is written leaves a short tail, or one whose digest does not
//! match. Nobody was answered for it, so it is cut off. Damage anywhere before the tail
//! is not repaired: the log does not open.

mod items;
mod reader;
mod record;

use std::fmt;
use std::io;

pub use reader::ArchiveReader;
pub(crate) use reader::{Mac, SegmentReader, Segments, Step};
pub(crate) use record::Header;
pub use record::{ArchivedBatch, ArchivedEntry, Part, StoredBlob};

/// Why a journal was refused.
#[derive(Debug)]
pub enum JournalError {
    /// A record is damaged: bit rot, or an edit.
    Damaged {
        /// First entry of the segment.
        segment: u64,
        /// Offset of the record in bytes.
        offset: u64,
    },
    /// A record that this log did not write.
    Foreign {
        /// First entry of the segment.
        segment: u64,
        /// Offset of the record in bytes.
        offset: u64,
    },
    /// A segment does not follow on the one before it.
    Gap {
        /// Entry at which the next segment starts.
        found: u64,
        /// Entry at which it must start.
        required: u64,
    },
    /// It cannot be read.
    Storage(io::Error),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { segment, offset } => write!(f, "journal is damaged: segment {segment}, byte {offset}"),
            Self::Foreign { segment, offset } => {
                write!(f, "journal has a record that this log did not write: segment {segment}, byte {offset}")
            }
            Self::Gap { found, required } => write!(f, "journal goes on at entry {found}, required {required}"),
            Self::Storage(error) => write!(f, "journal: {error}"),
        }
    }
}

impl std::error::Error for JournalError {}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error)
    }
}
