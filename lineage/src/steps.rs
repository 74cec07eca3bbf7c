//! The steps of a batch and the threads that run them.
//!
//! One thread prepares batches, another commits and answers. While a batch is synced,
//! the next one gathers and is prepared. Each thread has one batch at a time, in order.
//!
//! A small batch goes through all steps on the first thread if no other is under way:
//! waking the second thread would cost as much as the steps.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

use crate::gathering::{Gathering, Reply, WINDOW};
use crate::log::{Committer, Intake, LogError, Prepared, Showing, Stop};

/// Number of entries by which readers may lag before the log waits for the publisher.
const MAX_LAG: u64 = 1 << 18;
/// Number of entries up to which a batch is not handed to the second thread.
const FEW: usize = 256;

/// The writers that wait for a batch.
pub(crate) type Waiting = Vec<Reply>;

/// The steps that follow once a batch is prepared.
pub(crate) struct Steps {
    last: Mutex<(Committer, Showing)>,
    /// Batches that were handed over and not answered yet.
    under_way: AtomicUsize,
    stop: Stop,
}

impl Steps {
    pub(crate) fn new(committer: Committer, showing: Showing, stop: Stop) -> Self {
        Self { last: (committer, showing).into(), under_way: AtomicUsize::new(0), stop }
    }

    /// Takes batches until the log is closed.
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
                    if next.send((prepared, waiting)).is_err() {
                        // The committing thread is gone. Dropping the batch tells its writers.
                        self.stop.set();
                    }
                }
                Err(error) => refuse(waiting, &error),
            }
            while intake.lag() > MAX_LAG {
                thread::sleep(WINDOW);
            }
        }
    }

    /// Commits batches that are handed over, and answers.
    pub(crate) fn commit_all(&self, inbox: Receiver<(Prepared, Waiting)>) {
        for (prepared, waiting) in inbox {
            self.commit_and_answer(prepared, waiting);
            self.under_way.fetch_sub(1, Ordering::Release);
        }
    }

    fn commit_and_answer(&self, prepared: Prepared, waiting: Waiting) {
        let Ok(mut last) = self.last.lock() else {
            // The thread panicked in the middle of a batch.
            self.stop.set();
            return refuse(waiting, &LogError::Stopped);
        };
        let (committer, showing) = &mut *last;
        match committer.commit(prepared) {
            Ok(sealed) => waiting.into_iter().zip(showing.show(sealed)).for_each(|(reply, done)| reply.tell(Ok(done))),
            Err(error) => refuse(waiting, &error),
        }
    }
}

fn refuse(waiting: Waiting, error: &LogError) {
    waiting.into_iter().for_each(|reply| reply.tell(Err(error.into())));
}
