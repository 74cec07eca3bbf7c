//! A read-only view of a log: heads, proofs, receipts. All of it comes from a snapshot
//! of the tree, so readers delay nobody.

use std::sync::{Arc, PoisonError, RwLock};

use portcullis_wire::Value;

use crate::checkpoint::Checkpoint;
use crate::receipt::SignedRoot;
use crate::tree::{Tree, TreeError};

/// A tree with both signatures over it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) root: SignedRoot,
    pub(crate) tree: Arc<Tree>,
}

/// An entry that is durable under a signed checkpoint.
#[derive(Clone, Debug)]
pub struct Committed {
    pub(crate) index: u64,
    pub(crate) seen: Option<u64>,
    pub(crate) head: Arc<Head>,
}

impl Committed {
    /// Position in the log.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The checkpoint of the batch.
    #[must_use]
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.head.checkpoint
    }

    /// The value of header 394. The caller's thread makes it, so the log's thread continues
    /// meanwhile.
    ///
    /// # Errors
    /// [`TreeError::Beyond`] for the first entry of a log, whose tree RFC 9942 cannot
    /// express; others if tiles are missing or were altered.
    pub fn receipts(&self) -> Result<Value, TreeError> {
        let Head { root, tree, .. } = &*self.head;
        if root.size() < 2 {
            return Err(TreeError::Beyond);
        }
        root.receipts(tree, self.index, self.seen)
    }
}

/// The log as other threads see it: heads and proofs, no writing. Readers never delay
/// the log.
#[derive(Clone, Debug)]
pub struct View(Arc<RwLock<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    checkpoint: Option<Arc<Checkpoint>>,
    tree: Arc<Tree>,
}

impl View {
    /// A view of a log with its head, or of an empty tree.
    pub(crate) fn of(head: Option<&Head>) -> Self {
        let view = Self(Arc::default());
        head.into_iter().for_each(|head| view.show(head));
        view
    }

    /// The latest checkpoint; `None` before the first entry.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Checkpoint>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).checkpoint.clone()
    }

    /// Reads hashes and proofs.
    pub fn with_tree<T>(&self, read: impl FnOnce(&Tree) -> T) -> T {
        let tree = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).tree);
        read(&tree)
    }

    pub(crate) fn show(&self, head: &Head) {
        let shown = Shown { checkpoint: Some(Arc::clone(&head.checkpoint)), tree: Arc::clone(&head.tree) };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}
