//! Group commit: one thread owns the log and commits what has gathered.
//!
//! While a batch is being synced, the next one gathers. Those who were answered
//! together tend to ask again together: a batch waits for as many as the one
//! before it had, for two milliseconds at most.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::log::{Committed, Hashed, Log, NewEntry, View};
use crate::log_error::LogError;
use crate::publisher::Publisher;

/// Most entries in a batch, and most bytes of what they archive: readers hold
/// one batch in memory.
const MAX_BATCH: usize = 512;
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long a batch gathers, at most: a sync costs about as much, whatever it
/// syncs, so those who were answered together are waited for.
const WINDOW: Duration = Duration::from_millis(2);
/// Entries by which readers may lag; then the log waits for the publisher.
const MAX_LAG: u64 = 1 << 18;

/// The log takes no more entries: a write failed, or it was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The check that failed, as a stable dotted id.
    pub check: &'static str,
    /// Why, safe to show.
    pub reason: String,
}

/// What became of one entry.
pub type Outcome = Result<Committed, Stopped>;

type Reply = Box<dyn FnOnce(Outcome) + Send>;

enum Job {
    Append(Hashed, Reply),
    Close,
}

/// A handle to the thread that writes the log. Dropping every handle closes it.
#[derive(Clone)]
pub struct Writer {
    jobs: Sender<Job>,
    view: View,
}

impl Writer {
    /// Starts the log's thread and the publisher's.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(log: Log, publisher: Publisher) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = channel();
        let view = log.view();
        let publishing = thread::Builder::new().name("publisher".into()).spawn(move || publisher.run())?;
        let thread = thread::Builder::new().name("lineage".into()).spawn(move || {
            run(log, &queue);
            // The log is gone, so the publisher comes to its end.
            drop(publishing.join());
        })?;
        Ok((Self { jobs, view }, thread))
    }

    /// Hands in an entry; `reply` is called from the log's thread once it is
    /// durable, or once it is certain that it never will be.
    pub fn append(&self, entry: NewEntry, reply: impl FnOnce(Outcome) + Send + 'static) {
        // Hashed by whoever asks: the log's thread is one for all.
        if let Err(refused) = self.jobs.send(Job::Append(Hashed::of(entry), Box::new(reply)))
            && let Job::Append(_, reply) = refused.0
        {
            reply(Err(Stopped { check: LogError::Stopped.check(), reason: LogError::Stopped.to_string() }));
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

fn run(mut log: Log, queue: &Receiver<Job>) {
    let mut expected = 1;
    while let Ok(first) = queue.recv() {
        let mut batch = Gathering::default();
        let mut open = batch.take(first);
        let deadline = Instant::now().checked_add(WINDOW);
        while open && !batch.is_full() {
            let job = match queue.try_recv() {
                Ok(job) => job,
                Err(_) if batch.entries.len() >= expected => break,
                Err(_) => {
                    let left = deadline.and_then(|deadline| deadline.checked_duration_since(Instant::now()));
                    match left.and_then(|left| queue.recv_timeout(left).ok()) {
                        Some(job) => job,
                        None => break,
                    }
                }
            };
            open = batch.take(job);
        }
        expected = batch.entries.len();
        batch.commit(&mut log);
        if !open {
            break;
        }
        while log.unpublished() > MAX_LAG {
            thread::sleep(WINDOW);
        }
    }
}

/// A batch that is still growing.
#[derive(Default)]
struct Gathering {
    entries: Vec<Hashed>,
    replies: Vec<Reply>,
    bytes: usize,
}

impl Gathering {
    /// `false` where the log shall close.
    fn take(&mut self, job: Job) -> bool {
        let Job::Append(entry, reply) = job else { return false };
        self.bytes = self.bytes.saturating_add(entry.length());
        self.entries.push(entry);
        self.replies.push(reply);
        true
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= MAX_BATCH || self.bytes >= MAX_BYTES
    }

    fn commit(self, log: &mut Log) {
        if self.entries.is_empty() {
            return;
        }
        match log.commit(self.entries) {
            Ok(committed) => self.replies.into_iter().zip(committed).for_each(|(reply, entry)| reply(Ok(entry))),
            Err(error) => {
                let stopped = Stopped { check: error.check(), reason: error.to_string() };
                self.replies.into_iter().for_each(|reply| reply(Err(stopped.clone())));
            }
        }
    }
}
