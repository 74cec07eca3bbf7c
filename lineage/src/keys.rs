//! The keys of a log, and what they sign.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use portcullis_wire::sha256;

use crate::checkpoint::{Checkpoint, CheckpointError, VerifyingKey, public_half};
use crate::journal::Mac;
use crate::log::LogError;
use crate::receipt::{ReceiptKey, SignedRoot};
use crate::tree::Tree;
use crate::view::Head;

/// The two keys of a log.
pub struct Keys {
    pub(crate) origin: VerifyingKey,
    checkpoint: Ed25519KeyPair,
    receipt: Ed25519KeyPair,
    pub(crate) mac: Arc<Mac>,
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
        let mac = Arc::new(Mac::new(&sha256(&[b"portcullis/journal/1", checkpoint])));
        let (checkpoint, receipt) = (pair(checkpoint)?, pair(receipt)?);
        Ok(Self { origin: VerifyingKey::new(origin, public_half(&checkpoint))?, checkpoint, receipt, mac })
    }

    /// Signs a tree under both keys.
    pub(crate) fn sign(&self, tree: Arc<Tree>) -> Result<Head, LogError> {
        let (size, root) = (tree.size(), tree.root());
        let checkpoint = Arc::new(Checkpoint::sign(&self.checkpoint, &self.origin, size, root));
        let root = SignedRoot::sign(&self.receipt, size, root).map_err(LogError::Receipt)?;
        Ok(Head { checkpoint, root, tree })
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
