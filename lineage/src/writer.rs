//! Group commit: whoever hands in entries shares a sync and a signature with
//! those who do so at the same time.
//!
//! ```text
//! gathering -> intake -> commit, answer
//!                                `--> publisher
//! ```
//!
//! Those who were answered together tend to ask again together: a batch waits
//! for as many as the one before it had, for two milliseconds at most.

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

/// A handle to the threads that write the log. Dropping every handle closes it.
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

/// What the first of the log's threads has: however it ends, nobody waits in vain.
struct Taking(Arc<Gathering>);

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Writer {
    /// Starts the log's threads and the publisher's. The handle is that of the
    /// one which ends last.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(log: Log, publisher: Publisher) -> io::Result<(Self, JoinHandle<()>)> {
        let open = Open(Arc::default());
        let taking = Taking(Arc::clone(&open.0));
        let (view, stop) = (log.view(), log.stop());
        let Log { intake, committer, showing } = log;
        let steps = Arc::new(Steps::new(committer, showing, stop));
        // Nothing waits between the two: who has a batch hands it over.
        let (prepared, to_commit) = sync_channel(0);
        let commits = Arc::clone(&steps);
        let start = |name: &str| thread::Builder::new().name(name.into());
        let publishing = start("log-publish").spawn(move || publisher.run())?;
        let committing = start("log-commit").spawn(move || commits.commit_all(to_commit))?;
        let thread = start("log-intake").spawn(move || {
            steps.take_in(intake, &taking.0, prepared);
            // Each comes to its end once nobody is before it.
            drop(committing.join());
            drop(steps);
            drop(publishing.join());
        })?;
        Ok((Self { open: Arc::new(open), view }, thread))
    }

    /// Hands in an entry; `reply` is called from a thread of the log once the
    /// entry is durable, or once the log has stopped.
    pub fn append(&self, entry: NewEntry, reply: impl FnOnce(Outcome) + Send + 'static) {
        self.open.0.put(entry, Reply::new(reply));
    }

    /// Heads and proofs.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Commits what is queued, publishes it and ends the threads.
    pub fn close(&self) {
        self.open.0.close();
    }
}
