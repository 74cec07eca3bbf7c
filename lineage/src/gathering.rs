//! Entries gather here for the next batch. The log's thread is woken once for a whole
//! batch: waking it for each entry would cost more than processing the entry.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log::{LogError, NewEntry};
use crate::writer::Outcome;

/// Most entries in a batch, and most bytes of what they archive: readers hold
/// one batch in memory.
const MAX_BATCH: usize = 512;
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Longest time for which a batch gathers. A sync costs about the same for any number
/// of entries, so the batch waits for the writers that were answered together.
pub(crate) const WINDOW: Duration = Duration::from_millis(2);

/// A writer that waits for an entry. It is told the outcome exactly once.
pub(crate) struct Reply(Option<Box<dyn FnOnce(Outcome) + Send>>);

impl Reply {
    pub(crate) fn new(reply: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self(Some(Box::new(reply)))
    }

    pub(crate) fn tell(mut self, outcome: Outcome) {
        if let Some(reply) = self.0.take() {
            reply(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err((&LogError::Stopped).into()));
        }
    }
}

/// Entries that wait for a batch.
#[derive(Default)]
pub(crate) struct Gathering {
    waiting: Mutex<Waiting>,
    enough: Condvar,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<(NewEntry, Reply)>,
    bytes: usize,
    /// The number of entries for which the log's thread waits; `None` while it works.
    wanted: Option<usize>,
    closed: bool,
}

impl Waiting {
    fn has(&self, count: usize) -> bool {
        self.closed || self.bytes >= MAX_BYTES || self.entries.len() >= count.min(MAX_BATCH)
    }

    /// Takes as many entries as fit, in order of arrival.
    fn batch(&mut self) -> Vec<(NewEntry, Reply)> {
        let (mut batch, mut bytes) = (Vec::with_capacity(self.entries.len().min(MAX_BATCH)), 0_usize);
        while batch.len() < MAX_BATCH
            && bytes < MAX_BYTES
            && let Some((entry, reply)) = self.entries.pop_front()
        {
            bytes = bytes.saturating_add(entry.length());
            batch.push((entry, reply));
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        batch
    }
}

impl Gathering {
    /// Hands in an entry, unless the log was closed.
    pub(crate) fn put(&self, entry: NewEntry, reply: Reply) {
        let length = entry.length();
        let mut waiting = self.lock();
        if waiting.closed {
            // A reply may submit another entry, so replies are called without the lock.
            drop(waiting);
            drop(reply);
            return;
        }
        waiting.bytes = waiting.bytes.saturating_add(length);
        waiting.entries.push_back((entry, reply));
        self.wake(waiting);
    }

    /// No more entries are accepted.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        self.wake(waiting);
    }

    /// The log has stopped: every waiting writer is told.
    pub(crate) fn end(&self) {
        self.close();
        let left = std::mem::take(&mut self.lock().entries);
        drop(left);
    }

    /// The next batch: what has gathered once there are `expected` entries or the window is
    /// over. `None` once the log is closed and nothing is left.
    pub(crate) fn next(&self, expected: usize) -> Option<Vec<(NewEntry, Reply)>> {
        let mut waiting = self.lock();
        while !waiting.has(1) {
            waiting.wanted = Some(1);
            waiting = self.enough.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if !waiting.has(expected) {
            waiting.wanted = Some(expected);
            let gathered = self.enough.wait_timeout_while(waiting, WINDOW, |waiting| !waiting.has(expected));
            waiting = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.wanted = None;
        let batch = waiting.batch();
        (!batch.is_empty()).then_some(batch)
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        if waiting.wanted.is_some_and(|wanted| waiting.has(wanted)) {
            waiting.wanted = None;
            drop(waiting);
            self.enough.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use super::*;

    /// Whether an entry was accepted, not refused at once.
    fn put(gathering: &Gathering, archived: usize) -> bool {
        let blobs = vec![vec![0; archived].into()];
        let entry = NewEntry { statement: vec![1], blobs, seen: None };
        let (answer, told) = std::sync::mpsc::channel();
        gathering.put(entry, Reply::new(move |_| answer.send(()).unwrap_or_default()));
        told.try_recv().is_err()
    }

    #[test]
    fn a_batch_has_its_bounds() {
        let gathering = Gathering::default();
        assert!((0..MAX_BATCH + 1).all(|_| put(&gathering, 0)));
        assert_eq!(gathering.next(1).map(|batch| batch.len()), Some(MAX_BATCH));
        assert_eq!(gathering.next(1).map(|batch| batch.len()), Some(1));
        // Half of the bytes each: the third must wait.
        assert!((0..3).all(|_| put(&gathering, MAX_BYTES / 2)));
        assert_eq!(gathering.next(3).map(|batch| batch.len()), Some(2));
        assert_eq!(gathering.next(1).map(|batch| batch.len()), Some(1));
    }

    #[test]
    fn nobody_waits_beyond_the_window_for_others() {
        let gathering = Gathering::default();
        assert!(put(&gathering, 0));
        let asked = Instant::now();
        assert_eq!(gathering.next(MAX_BATCH).map(|batch| batch.len()), Some(1));
        assert!(asked.elapsed() >= WINDOW);
    }

    #[test]
    fn what_was_handed_in_before_the_end_is_taken_and_nothing_after_it() {
        let gathering = Arc::new(Gathering::default());
        let taking = Arc::clone(&gathering);
        let thread = thread::spawn(move || {
            // Dropping a reply tells the writer that the entry was refused, so it is kept here.
            let mut taken = Vec::new();
            while let Some(batch) = taking.next(MAX_BATCH) {
                taken.extend(batch);
            }
            taken.len()
        });
        assert!((0..2000).all(|_| put(&gathering, 0)));
        gathering.close();
        assert!(!put(&gathering, 0));
        assert_eq!(thread.join().unwrap(), 2000);
    }

    #[test]
    fn who_waits_when_the_thread_ends_is_told() {
        let gathering = Gathering::default();
        let (answer, told) = std::sync::mpsc::channel();
        let reply = move |outcome: Outcome| answer.send(outcome.map(|_| ()).unwrap_err().check).unwrap();
        gathering.put(NewEntry::default(), Reply::new(reply));
        assert!(told.try_recv().is_err());
        gathering.end();
        assert_eq!(told.try_recv(), Ok("log.storage"));
        assert!(!put(&gathering, 0));
    }
}
