//! The steps of a batch, and who takes them.
//!
//! Each has a thread: while a batch is synced, the next one gathers and is
//! prepared, and those of the one before are answered. A step takes one batch at
//! a time, in order.
//!
//! A batch of few goes through all steps on the first thread, if no other is
//! under way: waking two more would cost what they do for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

use crate::gathering::{Gathering, Reply, WINDOW};
use crate::log::{Committer, Intake, LogError, Prepared, Sealed, Showing, Stop};
use crate::writer::Outcome;

/// Entries by which readers may lag; then the log waits for the publisher.
const MAX_LAG: u64 = 1 << 18;
/// Entries of a batch that is not worth handing on.
const FEW: usize = 256;

/// Those who wait for a batch.
pub(crate) type Waiting = Vec<Reply>;

fn answer(waiting: Waiting, outcomes: impl IntoIterator<Item = Outcome>) {
    waiting.into_iter().zip(outcomes).for_each(|(reply, outcome)| reply.tell(outcome));
}

fn refuse(waiting: Waiting, error: &LogError) {
    answer(waiting, std::iter::repeat_with(|| Err(error.into())));
}

/// What the steps after the first have.
pub(crate) struct Steps {
    committer: Mutex<Committer>,
    showing: Mutex<Showing>,
    /// Batches that were handed on, and not answered yet.
    under_way: AtomicUsize,
    stop: Stop,
}

impl Steps {
    pub(crate) fn new(committer: Committer, showing: Showing, stop: Stop) -> Self {
        Self { committer: committer.into(), showing: showing.into(), under_way: AtomicUsize::new(0), stop }
    }

    /// Takes batches in until nobody hands in entries any more.
    pub(crate) fn take_in(&self, mut intake: Intake, gathering: &Gathering, next: SyncSender<(Prepared, Waiting)>) {
        let mut expected = 1;
        while let Some(batch) = gathering.next(expected) {
            expected = batch.len();
            let (entries, waiting): (_, Waiting) = batch.into_iter().unzip();
            match intake.prepare(entries) {
                Ok(prepared) if expected <= FEW && self.under_way.load(Ordering::Acquire) == 0 => {
                    self.commit_and_answer(prepared, waiting);
                }
                Ok(prepared) => {
                    self.under_way.fetch_add(1, Ordering::Relaxed);
                    self.hand(&next, prepared, waiting);
                }
                Err(error) => refuse(waiting, &error),
            }
            while intake.lag() > MAX_LAG {
                thread::sleep(WINDOW);
            }
        }
    }

    /// Commits what is handed on.
    pub(crate) fn commit_all(&self, inbox: Receiver<(Prepared, Waiting)>, next: &SyncSender<(Sealed, Waiting)>) {
        for (prepared, waiting) in inbox {
            match self.commit(prepared) {
                Ok(sealed) => self.hand(next, sealed, waiting),
                Err(error) => refuse(waiting, &error),
            }
        }
    }

    /// Answers what is handed on.
    pub(crate) fn answer_all(&self, inbox: Receiver<(Sealed, Waiting)>) {
        for (sealed, waiting) in inbox {
            self.answer(sealed, waiting);
            self.under_way.fetch_sub(1, Ordering::Release);
        }
    }

    fn commit_and_answer(&self, prepared: Prepared, waiting: Waiting) {
        match self.commit(prepared) {
            Ok(sealed) => self.answer(sealed, waiting),
            Err(error) => refuse(waiting, &error),
        }
    }

    fn commit(&self, prepared: Prepared) -> Result<Sealed, LogError> {
        // Whoever had it before broke off in the middle of a batch.
        self.committer.lock().map_err(|_| self.stopped())?.commit(prepared)
    }

    fn answer(&self, sealed: Sealed, waiting: Waiting) {
        match self.showing.lock() {
            Ok(mut showing) => answer(waiting, showing.show(sealed).into_iter().map(Ok)),
            Err(_) => refuse(waiting, &self.stopped()),
        }
    }

    /// Hands a batch on. Where nobody is there any more, the log has stopped, and
    /// those who wait are told as it is dropped.
    fn hand<B>(&self, next: &SyncSender<(B, Waiting)>, batch: B, waiting: Waiting) {
        if next.send((batch, waiting)).is_err() {
            self.stop.set();
        }
    }

    fn stopped(&self) -> LogError {
        self.stop.set();
        LogError::Stopped
    }
}
