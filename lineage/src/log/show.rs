//! The last step of a batch: what is durable and signed is shown.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::commit::Sealed;
use crate::publisher::Fresh;
use crate::view::{Committed, View};

/// Gets every entry that became durable, with its position, in order.
pub(super) type Observer = Box<dyn FnMut(u64, &[u8]) + Send>;

/// Where batches are shown, one after the other: to those who look at heads, to
/// whoever follows the log, to readers, and last to those who are answered.
pub(crate) struct Showing {
    pub(super) view: View,
    pub(super) observer: Observer,
    pub(super) outbox: Sender<Fresh>,
}

impl Showing {
    /// Shows a batch; what is left is to answer those whose entries it has.
    pub(crate) fn show(&mut self, Sealed { first, statements, seen, head }: Sealed) -> Vec<Committed> {
        self.view.show(&head);
        (first..).zip(&statements).for_each(|(index, statement)| (self.observer)(index, statement));
        // Without a publisher nobody reads.
        let _unread = self.outbox.send(Fresh { entries: statements, head: Arc::clone(&head) });
        let committed = (first..).zip(seen).map(|(index, seen)| Committed { index, seen, head: Arc::clone(&head) });
        committed.collect()
    }
}
