//! The steps of a batch, and who takes them.
//!
//! One thread takes entries in, another commits and answers: while a batch is
//! synced, the next one gathers and is prepared. Each has one batch at a time, in
//! order.
//!
//! A batch of few goes through all steps on the first thread, if no other is
//! under way: waking the second one would cost what is done for them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

use crate::gathering::{Gathering, Reply, WINDOW};
use crate::log::{Committer, Intake, LogError, Prepared, Showing, Stop};

/// Entries by which readers may lag; then the log waits for the publisher.
const MAX_LAG: u64 = 1 << 18;
/// Entries of a batch that is not worth handing on.
const FEW: usize = 256;

/// Those who wait for a batch.
pub(crate) type Waiting = Vec<Reply>;

/// What there is to do once a batch has been prepared.
pub(crate) struct Steps {
    last: Mutex<(Committer, Showing)>,
    /// Batches that were handed on, and not answered yet.
    under_way: AtomicUsize,
    stop: Stop,
}

impl Steps {
    pub(crate) fn new(committer: Committer, showing: Showing, stop: Stop) -> Self {
        Self { last: (committer, showing).into(), under_way: AtomicUsize::new(0), stop }
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
                    if next.send((prepared, waiting)).is_err() {
                        // Nobody commits any more. Those who wait are told as it is dropped.
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

    /// Commits what is handed on, and answers.
    pub(crate) fn commit_all(&self, inbox: Receiver<(Prepared, Waiting)>) {
        for (prepared, waiting) in inbox {
            self.commit_and_answer(prepared, waiting);
            self.under_way.fetch_sub(1, Ordering::Release);
        }
    }

    fn commit_and_answer(&self, prepared: Prepared, waiting: Waiting) {
        let Ok(mut last) = self.last.lock() else {
            // Whoever had it before broke off in the middle of a batch.
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
