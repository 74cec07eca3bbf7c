//! A recurring request of the gate to its authority. It runs as a separate task, at
//! most one at a time, so that nothing waits for it.

use std::fmt;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::refusal::{ClientError, aside};

/// Bounds of the pause before a retry, and of the time limit for an attempt.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
const PATIENCE: (Duration, Duration) = (Duration::from_millis(1500), crate::http::PATIENCE);

/// A request that is due at a time, or in progress.
pub(super) struct Errand<T> {
    name: &'static str,
    /// `CLOCK_BOOTTIME`.
    due: Duration,
    task: Option<JoinHandle<Result<T, ClientError>>>,
    /// Requested again while in progress: the answer may be older than the reason for the
    /// new request.
    again: bool,
    /// Why the last attempt failed; `None` if it did not.
    trouble: Option<String>,
}

impl<T: Send + 'static> Errand<T> {
    pub(super) const fn due_at(due: Duration, name: &'static str) -> Self {
        Self { name, due, task: None, again: false, trouble: None }
    }

    /// Makes the request due at once; if one is in progress, another follows.
    pub(super) const fn hurry(&mut self) {
        self.due = Duration::ZERO;
        self.again = self.task.is_some();
    }

    /// When the gate must wake up for it.
    pub(super) const fn wakes(&self) -> Duration {
        if self.task.is_some() { Duration::MAX } else { self.due }
    }

    /// Starts the request if it is due. `left` is the time within which it must succeed.
    pub(super) fn start_if_due<F>(&mut self, now: Duration, left: Duration, ask: impl FnOnce(Duration) -> F)
    where
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        if self.wakes() <= now {
            let patience = left.checked_div(2).unwrap_or_default().clamp(PATIENCE.0, PATIENCE.1);
            self.task = Some(tokio::spawn(ask(patience)));
        }
    }

    /// The outcome; pending forever if no request is in progress.
    pub(super) async fn outcome(&mut self) -> Result<T, ClientError> {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let outcome = task.await;
        self.task = None;
        outcome.unwrap_or_else(|stopped| Err(ClientError::Own(stopped.into())))
    }

    /// Records success; the request is due again at this time.
    pub(super) fn succeeded(&mut self, due: Duration) {
        self.plan(due);
        if self.trouble.take().is_some() {
            aside(format!("{}: done again", self.name));
        }
    }

    /// Records a failure that may pass. The request is retried soon; the reason is printed
    /// once.
    pub(super) fn failed(&mut self, now: Duration, left: Duration, why: &impl fmt::Display) {
        let pause = left.checked_div(10).unwrap_or_default().clamp(PAUSE.0, PAUSE.1);
        self.plan(now.saturating_add(pause));
        let why = why.to_string();
        if self.trouble.as_ref() != Some(&why) {
            let seconds = left.as_secs();
            aside(format!("warning: {} failed, and is tried again for {seconds} s: {why}", self.name));
        }
        self.trouble = Some(why);
    }

    fn plan(&mut self, due: Duration) {
        self.due = if std::mem::take(&mut self.again) { Duration::ZERO } else { due };
    }

    /// Why the request did not succeed, for the end of a message.
    pub(super) fn reason(&self) -> String {
        match (&self.trouble, &self.task) {
            (Some(why), _) => format!("; {} failed last because: {why}", self.name),
            (None, Some(_)) => format!("; {} was still under way", self.name),
            (None, None) => String::new(),
        }
    }
}

impl<T> Drop for Errand<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test]
    async fn what_is_asked_for_meanwhile_is_done_once_more() {
        let mut errand = Errand::due_at(seconds(10), "a look");
        errand.start_if_due(seconds(9), seconds(5), |_| async { Ok(1) });
        assert_eq!(errand.wakes(), seconds(10), "not due yet");
        errand.start_if_due(seconds(10), seconds(5), |_| async { Ok(2) });
        errand.hurry();
        errand.start_if_due(seconds(10), seconds(5), |_| async { Ok(3) });
        assert_eq!(errand.outcome().await.unwrap(), 2, "at most one at a time");
        errand.succeeded(seconds(20));
        assert_eq!(errand.wakes(), Duration::ZERO, "the answer may be older than what was asked for");
    }

    #[tokio::test]
    async fn failures_are_tried_again_soon_and_keep_their_reason() {
        let mut errand: Errand<u8> = Errand::due_at(seconds(0), "the renewal of the permit");
        errand.failed(seconds(100), seconds(30), &"/state: full");
        assert_eq!(errand.wakes(), seconds(103));
        assert_eq!(errand.reason(), "; the renewal of the permit failed last because: /state: full");
        errand.failed(seconds(103), seconds(600), &"/state: full");
        assert_eq!(errand.wakes(), seconds(108), "at most five seconds later");
        errand.succeeded(seconds(200));
        assert_eq!(errand.reason(), "");
    }
}
