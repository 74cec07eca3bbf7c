//! The transparency log: append-only, Merkle-hashed, signed.
//!
//! ```text
//! statement --append--> durable entry under a signed checkpoint --receipt--> proof
//! ```
//!
//! Files on the disk, and the effect of altering each:
//!
//! | path | what | if it is altered |
//! |---|---|---|
//! | `journal/N` | every batch: entries, what they refer to, the checkpoint before it | the log does not open: digests, MACs, hashes and checkpoints must agree |
//! | `archive/ab/abcd…` | what many entries refer to, by SHA-256 | it is not what its name says |
//! | `checkpoint` | C2SP checkpoint of the published tree | its signature fails, or it is older than one already seen |
//! | `signed-root` | the checkpoint, and the same root under the receipt key | the same |
//! | `tile/L/N` | hash tiles of C2SP tlog-tiles | they no longer lead to the signed root |
//! | `tile/entries/N` | the entries | their hashes no longer match the tiles |
//! | `published` | up to where the files above are durable | the next start takes longer, or does not find a tile |
//!
//! The journal is the log; `checkpoint` and `tile` are a view of it for readers.
//! One batch is one record and one `fdatasync`, after which it is durable as a
//! whole or not there at all.
//!
//! This crate does not look into statements. It does not know what a permit is or who
//! may sign one.

mod archive;
mod checkpoint;
mod cosignature;
mod directory;
mod export;
mod gathering;
mod journal;
mod keys;
mod log;
mod note;
mod prune;
mod publisher;
mod put;
mod reader;
mod receipt;
mod replay;
mod steps;
mod storage;
mod tiles;
mod tree;
mod view;
mod witness;
mod writer;

pub use archive::{Archive, ArchiveError, Blob, shared_path};
pub use checkpoint::{Checkpoint, CheckpointError, VerifyingKey};
pub use cosignature::{Cosigner, WitnessKey};
pub use directory::{DirectoryError, DirectoryWalk, EntryBundle, VerifiedLog, WalkPosition, verify_directory};
pub use export::{BundleReader, BundleWriter, ExportError, bundle_documents};
pub use journal::{ArchiveReader, ArchivedBatch, ArchivedEntry, JournalError, Part, StoredBlob};
pub use keys::Keys;
pub use log::{Log, LogError, NewEntry};
pub use prune::{Due, Pruner};
pub use publisher::Publisher;
pub use reader::{LogReader, ReaderError, head_of};
pub use receipt::{RECEIPTS_LABEL, ReceiptError, ReceiptKey, SignedRoot, VerifiedInclusion, verify_receipts};
pub use replay::{Replay, ReplayError};
pub use storage::{Fault, FileStorage, MemoryStorage, Storage, get_number, put_number};
pub use tiles::{TILE, TilePath, tile_path, tile_paths};
pub use tree::{Tree, TreeError};
pub use view::{Committed, View};
pub use witness::{AddCheckpoint, MAX_REQUEST, WitnessRefusal, witness};
pub use writer::{Outcome, Stopped, Writer};

/// Largest entry in bytes: entry bundles have 16-bit lengths (C2SP tlog-tiles).
pub const MAX_ENTRY: usize = 65_535;
