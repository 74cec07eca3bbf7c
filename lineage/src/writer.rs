//! Group commit: one thread owns the log and commits what has gathered.
//!
//! While a batch is being synced, the next one gathers. Those who were answered
//! together tend to ask again together: a batch waits for as many as the one
//! before it had, for two milliseconds at most.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::gathering::{Gathering, Reply, WINDOW};
use crate::log::{Hashed, Log, NewEntry};
use crate::log_error::LogError;
use crate::publisher::Publisher;
use crate::view::{Committed, View};

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

impl From<&LogError> for Stopped {
    fn from(error: &LogError) -> Self {
        Self { check: error.check(), reason: error.to_string() }
    }
}

/// What became of one entry.
pub type Outcome = Result<Committed, Stopped>;

/// A handle to the thread that writes the log. Dropping every handle closes it.
#[derive(Clone)]
pub struct Writer {
    open: Arc<Open>,
    view: View,
}

/// The log is open for as long as somebody has this.
struct Open(Arc<Gathering>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the log's thread has: however it ends, nobody waits for it in vain.
struct Taking(Arc<Gathering>);

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Writer {
    /// Starts the log's thread and the publisher's.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(log: Log, publisher: Publisher) -> io::Result<(Self, JoinHandle<()>)> {
        let open = Open(Arc::default());
        let taking = Taking(Arc::clone(&open.0));
        let view = log.view();
        let publishing = thread::Builder::new().name("publisher".into()).spawn(move || publisher.run())?;
        let thread = thread::Builder::new().name("lineage".into()).spawn(move || {
            run(log, &taking);
            // The log is gone, so the publisher comes to its end.
            drop(publishing.join());
        })?;
        Ok((Self { open: Arc::new(open), view }, thread))
    }

    /// Hands in an entry; `reply` is called from the log's thread once it is
    /// durable, or once it is certain that it never will be.
    pub fn append(&self, entry: NewEntry, reply: impl FnOnce(Outcome) + Send + 'static) {
        // Hashed by whoever asks: the log's thread is one for all.
        if let Err(reply) = self.open.0.put(Hashed::of(entry), Box::new(reply)) {
            reply(Err((&LogError::Stopped).into()));
        }
    }

    /// Heads and proofs.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Commits what is queued, publishes it and ends the thread.
    pub fn close(&self) {
        self.open.0.close();
    }
}

fn run(mut log: Log, Taking(gathering): &Taking) {
    let mut expected = 1;
    while let Some(batch) = gathering.next(expected) {
        expected = batch.len();
        let (entries, replies) = batch.into_iter().unzip();
        commit(&mut log, entries, replies);
        while log.unpublished() > MAX_LAG {
            thread::sleep(WINDOW);
        }
    }
}

fn commit(log: &mut Log, entries: Vec<Hashed>, replies: Vec<Reply>) {
    match log.commit(entries) {
        Ok(committed) => replies.into_iter().zip(committed).for_each(|(reply, entry)| reply(Ok(entry))),
        Err(error) => replies.into_iter().for_each(|reply| reply(Err((&error).into()))),
    }
}
