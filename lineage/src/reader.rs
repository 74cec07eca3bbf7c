//! A log as its published files show it: proofs and receipts without its keys.

use std::fmt;
use std::io;
use std::sync::Arc;

use portcullis_wire::{Error, Value, bstr, decode, encode};

use crate::checkpoint::{Checkpoint, CheckpointError, VerifyingKey};
use crate::receipt::{ReceiptError, ReceiptKey, SignedRoot};
use crate::storage::Storage;
use crate::tiles::{TILE, TILE_HEIGHT, tile_path};
use crate::tree::{Edge, Tree, TreeError};

/// The file with checkpoint and signed root of one tree: det-CBOR
/// `[ checkpoint, COSE_Sign1 ]`.
pub(crate) const SIGNED_ROOT: &str = "signed-root";
const MAX_FILE: usize = 64 * 1024;

/// Why a published log cannot be read.
#[derive(Debug)]
pub enum ReaderError {
    /// A file is missing or cannot be read.
    File {
        /// Path below the log's folder.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The file with the signed root is malformed.
    Malformed(Error),
    /// The checkpoint does not verify.
    Checkpoint(CheckpointError),
    /// The signed root does not verify.
    Root(ReceiptError),
    /// The tiles do not lead to the root.
    Tree(TreeError),
}

impl fmt::Display for ReaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => write!(f, "{path}: {error}"),
            Self::Malformed(error) => write!(f, "{SIGNED_ROOT}: {error}"),
            Self::Checkpoint(error) => error.fmt(f),
            Self::Root(error) => write!(f, "{SIGNED_ROOT}: {error}"),
            Self::Tree(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReaderError {}

impl From<Error> for ReaderError {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

fn read(storage: &dyn Storage, path: String) -> Result<Vec<u8>, ReaderError> {
    match storage.get(&path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(ReaderError::File { path, error: io::ErrorKind::NotFound.into() }),
        Err(error) => Err(ReaderError::File { path, error }),
    }
}

/// The head and the signed object of the file with the signed root.
fn read_root(bytes: &[u8], key: &VerifyingKey) -> Result<(Checkpoint, Vec<u8>), ReaderError> {
    let items = decode(bytes, MAX_FILE)?.into_array().ok();
    let items = items.and_then(|items| <[Value; 2]>::try_from(items).ok());
    let Some([Value::Text(note), Value::Bytes(object)]) = items else {
        return Err(Error::Shape("a checkpoint and a signed root").into());
    };
    Ok((Checkpoint::verify(&note, key).map_err(ReaderError::Checkpoint)?, object))
}

/// The head in a `signed-root` file. It tells a mirror which tiles exist.
///
/// # Errors
/// [`ReaderError`].
pub fn head_of(signed_root: &[u8], key: &VerifyingKey) -> Result<Checkpoint, ReaderError> {
    read_root(signed_root, key).map(|(head, _)| head)
}

/// A published log at one size, verified against its keys.
pub struct LogReader {
    checkpoint: Checkpoint,
    root: SignedRoot,
    tree: Tree,
}

impl LogReader {
    /// Reads the head and the tiles that lead to its root.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn open(
        storage: Arc<dyn Storage>,
        checkpoint_key: &VerifyingKey,
        receipt_key: &ReceiptKey,
    ) -> Result<Self, ReaderError> {
        let signed_root = read(&*storage, SIGNED_ROOT.into())?;
        Self::at(&signed_root, storage, checkpoint_key, receipt_key)
    }

    /// As [`LogReader::open`], at a head that is not the one in the storage.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn at(
        signed_root: &[u8],
        storage: Arc<dyn Storage>,
        checkpoint_key: &VerifyingKey,
        receipt_key: &ReceiptKey,
    ) -> Result<Self, ReaderError> {
        let (checkpoint, object) = read_root(signed_root, checkpoint_key)?;
        let root = SignedRoot::verify(&object, receipt_key, checkpoint.size(), *checkpoint.root());
        let root = root.map_err(ReaderError::Root)?;

        let (mut rows, mut count) = (Vec::new(), checkpoint.size());
        while count > 0 {
            let (level, number, width) = (rows.len().to_string(), count / TILE, count % TILE);
            rows.push(match width {
                0 => Vec::new(),
                _ => read(&*storage, tile_path(&level, number, width)).or_else(|missing| {
                    // A log that has grown has the full tile, which starts with the same
                    // hashes.
                    let mut full = read(&*storage, tile_path(&level, number, TILE)).map_err(|_| missing)?;
                    full.truncate(usize::try_from(width.saturating_mul(32)).unwrap_or(0));
                    Ok::<_, ReaderError>(full)
                })?,
            });
            count >>= TILE_HEIGHT;
        }
        let edge = Edge::read(checkpoint.size(), &rows).filter(|edge| edge.root() == *checkpoint.root());
        let edge = edge.ok_or(ReaderError::Tree(TreeError::Altered))?;
        Ok(Self { checkpoint, root, tree: Tree::of(edge, storage) })
    }

    /// The bytes of the `signed-root` file.
    pub(crate) fn file(checkpoint: &Checkpoint, root: &SignedRoot) -> Vec<u8> {
        encode(&Value::Array(vec![checkpoint.note().into(), bstr(root.bytes())]))
    }

    /// The head.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The tree.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The value of header 394 for an entry.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn receipts(&self, index: u64) -> Result<Value, TreeError> {
        self.root.receipts(&self.tree, index, None)
    }
}
