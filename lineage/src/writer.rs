//! Group commit: entries that are submitted at the same time share a sync and a
//! signature.
//!
//! ```text
//! gathering -> intake -> commit, answer
//!                                `--> publisher
//! ```
//!
//! Writers that were answered together tend to submit again together, so a batch waits
//! for as many entries as the one before it had, for two milliseconds at most.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use crate::gathering::{Gathering, Reply};
use crate::log::{Log, LogError, NewEntry};
use crate::publisher::Publisher;
use crate::steps::Steps;
use crate::view::{Committed, View};

/// The log takes no more entries: a write failed, or it was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The check that failed, as a stable dotted id.
    pub check: &'static str,
    /// The reason, safe to show.
    pub reason: String,
}

impl From<&LogError> for Stopped {
    fn from(error: &LogError) -> Self {
        Self { check: error.check(), reason: error.to_string() }
    }
}

/// The outcome for one entry.
pub type Outcome = Result<Committed, Stopped>;

/// A handle to the threads that write the log. Dropping every handle closes it.
#[derive(Clone)]
pub struct Writer {
    open: Arc<Open>,
    view: View,
}

/// The log is open while this exists.
struct Open(Arc<Gathering>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// State of the log's first thread; dropping it tells every waiting writer.
struct Taking(Arc<Gathering>);

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Writer {
    /// Starts the log's threads and the publisher's. The returned handle belongs to the
    /// thread that ends last.
    ///
    /// # Errors
    /// The system's error if no thread can be started.
    pub fn start(log: Log, publisher: Publisher) -> io::Result<(Self, JoinHandle<()>)> {
        let open = Open(Arc::default());
        let taking = Taking(Arc::clone(&open.0));
        let (view, stop) = (log.view(), log.stop());
        let Log { intake, committer, showing } = log;
        let steps = Arc::new(Steps::new(committer, showing, stop));
        // The channel has no buffer: the first thread hands a batch over directly.
        let (prepared, to_commit) = sync_channel(0);
        let commits = Arc::clone(&steps);
        let start = |name: &str| thread::Builder::new().name(name.into());
        let publishing = start("log-publish").spawn(move || publisher.run())?;
        let committing = start("log-commit").spawn(move || commits.commit_all(to_commit))?;
        let thread = start("log-intake").spawn(move || {
            steps.take_in(intake, &taking.0, prepared);
            // Each thread ends when the one before it has ended.
            drop(committing.join());
            drop(steps);
            drop(publishing.join());
        })?;
        Ok((Self { open: Arc::new(open), view }, thread))
    }

    /// Submits an entry; a thread of the log calls `reply` once the entry is durable or the
    /// log has stopped.
    pub fn append(&self, entry: NewEntry, reply: impl FnOnce(Outcome) + Send + 'static) {
        self.open.0.put(entry, Reply::new(reply));
    }

    /// Heads and proofs.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Commits what is queued, publishes it, and ends the threads.
    pub fn close(&self) {
        self.open.0.close();
    }
}
