//! The transparency log: append-only, Merkle-hashed, signed.
//!
//! ```text
//! statement --append--> durable entry under a signed checkpoint --receipt--> proof
//! ```
//!
//! What is on disk, and what each part is worth to somebody who controls it:
//!
//! | path | what | if it is altered |
//! |---|---|---|
//! | `journal` | every batch: entries, archived evidence, the signed checkpoint | the log does not open: checksums, hashes and the checkpoint must agree |
//! | `checkpoint` | C2SP checkpoint of the published tree | its signature fails, or it is older than one already seen |
//! | `tile/L/N` | hash tiles of C2SP tlog-tiles | they no longer lead to the signed root |
//! | `tile/entries/N` | the entries | their hashes no longer match the tiles |
//!
//! The journal is the log; `checkpoint` and `tile` are a view of it for readers,
//! written again from the journal at every start. One batch is one record and
//! one `fdatasync`, after which it is durable as a whole or not there at all.
//!
//! What this crate does not do: look into statements. It neither knows what a
//! permit is nor who may sign one.

mod checkpoint;
mod directory;
mod journal;
mod log;
mod receipt;
mod storage;
mod tiles;
mod tree;
mod writer;

pub use checkpoint::{Checkpoint, CheckpointError, VerifyingKey};
pub use directory::{DirectoryError, VerifiedLog, verify_directory};
pub use journal::{ArchiveReader, ArchivedBatch, JournalError, archived};
pub use log::{Committed, Keys, Log, LogError, NewEntry, View};
pub use receipt::{RECEIPTS_LABEL, ReceiptError, ReceiptKey, SignedRoot, VerifiedInclusion, verify_receipts};
pub use storage::{FileStorage, Storage};
pub use tree::Tree;
pub use writer::{Outcome, Stopped, Writer};

/// Largest entry in bytes: entry bundles have 16-bit lengths (C2SP tlog-tiles).
pub const MAX_ENTRY: usize = 65_535;
