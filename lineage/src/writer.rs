//! Group commit: one thread owns the log and commits what has gathered.
//!
//! While a batch is being synced, the next one gathers; under load the batches
//! grow by themselves and the disk's latency is shared.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::log::{Committed, Log, LogError, NewEntry, View};
use crate::storage::Storage;

/// Entries in a batch above which the next one gathers.
const BUSY: usize = 4;
/// Most entries in a batch.
const MAX_BATCH: usize = 256;
/// How long a batch gathers once the load is such that batches have company: a
/// sync costs about as much, whatever it syncs.
const GATHER: Duration = Duration::from_millis(2);
/// How long readers may lag behind the log.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// The log takes no more entries: a write failed, or it was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Why, safe to show.
    pub reason: String,
}

/// What became of one entry.
pub type Outcome = Result<Committed, Stopped>;

type Reply = Box<dyn FnOnce(Outcome) + Send>;

enum Job {
    Append(NewEntry, Reply),
    Close,
}

/// A handle to the thread that writes the log. Dropping every handle closes it.
#[derive(Clone)]
pub struct Writer {
    jobs: Sender<Job>,
    view: View,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start<S: Storage + 'static>(log: Log<S>) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = channel();
        let view = log.view();
        let thread = thread::Builder::new().name("lineage".into()).spawn(move || run(log, &queue))?;
        Ok((Self { jobs, view }, thread))
    }

    /// Hands in an entry; `reply` is called from the log's thread once it is
    /// durable, or once it is certain that it never will be.
    pub fn append(&self, entry: NewEntry, reply: impl FnOnce(Outcome) + Send + 'static) {
        if let Err(refused) = self.jobs.send(Job::Append(entry, Box::new(reply)))
            && let Job::Append(_, reply) = refused.0
        {
            reply(Err(Stopped { reason: LogError::Stopped.to_string() }));
        }
    }

    /// Heads and proofs.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Commits what is queued, publishes it and ends the thread.
    pub fn close(&self) {
        // An error means that the thread has ended already.
        let _ended = self.jobs.send(Job::Close);
    }
}

fn run<S: Storage>(mut log: Log<S>, queue: &Receiver<Job>) {
    let mut published = Instant::now();
    let (mut open, mut busy) = (true, false);
    while open {
        let mut batch = Vec::new();
        let mut replies: Vec<Reply> = Vec::new();
        let first = if log.has_unpublished() {
            match queue.recv_timeout(PUBLISH_EVERY) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Job::Close),
            }
        } else {
            Some(queue.recv().unwrap_or(Job::Close))
        };
        if busy && first.is_some() {
            thread::sleep(GATHER);
        }
        let gathered = first.into_iter().chain(std::iter::from_fn(|| queue.try_recv().ok()));
        for job in gathered {
            match job {
                Job::Append(entry, reply) => {
                    batch.push(entry);
                    replies.push(reply);
                }
                Job::Close => open = false,
            }
            if !open || batch.len() >= MAX_BATCH {
                break;
            }
        }
        busy = batch.len() > BUSY;
        if !batch.is_empty() {
            commit(&mut log, batch, replies);
        }
        if log.has_unpublished() && (!open || published.elapsed() >= PUBLISH_EVERY) {
            // Readers lag until the next attempt; the log itself is whole.
            let _lagging = log.publish();
            published = Instant::now();
        }
    }
}

fn commit<S: Storage>(log: &mut Log<S>, batch: Vec<NewEntry>, replies: Vec<Reply>) {
    match log.append(batch) {
        Ok(committed) => replies.into_iter().zip(committed).for_each(|(reply, entry)| reply(Ok(entry))),
        Err(error) => {
            let reason = error.to_string();
            replies.into_iter().for_each(|reply| reply(Err(Stopped { reason: reason.clone() })));
        }
    }
}
