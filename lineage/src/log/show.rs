//! The last step of a batch: it is shown to readers and writers.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::commit::Sealed;
use crate::publisher::Fresh;
use crate::view::{Committed, View};

/// Called with every entry that became durable, with its position, in order.
pub(super) type Observer = Box<dyn FnMut(u64, &[u8]) + Send>;

/// Shows batches, one after the other: first to views of the head, then to the
/// observer, to readers, and last to the waiting writers.
pub(crate) struct Showing {
    pub(super) view: View,
    pub(super) observer: Observer,
    pub(super) outbox: Sender<Fresh>,
}

impl Showing {
    /// Shows a batch to all but its writers, who are answered afterwards.
    pub(crate) fn show(&mut self, Sealed { first, statements, seen, head }: Sealed) -> Vec<Committed> {
        self.view.show(&head);
        (first..).zip(&statements).for_each(|(index, statement)| (self.observer)(index, statement));
        // Without a publisher there are no readers.
        let _unread = self.outbox.send(Fresh { entries: statements, head: Arc::clone(&head) });
        let committed = (first..).zip(seen).map(|(index, seen)| Committed { index, seen, head: Arc::clone(&head) });
        committed.collect()
    }
}
