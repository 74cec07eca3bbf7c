//! Failures that are currently unexplained and may pass.
//!
//! A busy TPM, a full disk or a failed read is no sign of an attack and usually passes.
//! The authority retries for a while. Then it signs nothing until the failure has
//! passed. If the failure lasts too long, the authority trips.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::signer::Stopped;

/// How long something may fail before the authority signs nothing.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How long something may fail before the authority trips.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

/// Current failures, by check id.
#[derive(Debug, Default)]
pub(crate) struct Doubts(Mutex<BTreeMap<&'static str, Doubt>>);

#[derive(Debug)]
struct Doubt {
    /// `CLOCK_BOOTTIME` of the first failure.
    since: Duration,
    why: String,
}

impl Doubts {
    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, Doubt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a failure at a time (`CLOCK_BOOTTIME`). Returns whether it has lasted so
    /// long that the authority must trip.
    pub(crate) fn failed(&self, check: &'static str, why: &str, now: Duration) -> bool {
        let mut all = self.all();
        let doubt = all.entry(check).or_insert_with(|| {
            tracing::warn!(check, why, "this failed and is tried again");
            Doubt { since: now, why: String::new() }
        });
        why.clone_into(&mut doubt.why);
        now.saturating_sub(doubt.since) >= LONGEST
    }

    /// Records that a check works again.
    pub(crate) fn settled(&self, check: &str) {
        if self.all().remove(check).is_some() {
            tracing::info!(check, "this works again");
        }
    }

    /// Why nothing is signed at a time (`CLOCK_BOOTTIME`); `None` if the authority signs.
    pub(crate) fn present(&self, now: Duration) -> Option<Stopped> {
        let all = self.all();
        let (check, doubt) = all.iter().find(|(_, doubt)| now.saturating_sub(doubt.since) >= GRACE)?;
        let seconds = now.saturating_sub(doubt.since).as_secs();
        Some(Stopped::for_now(check, format!("{} (for {seconds} s; signing goes on once this works again)", doubt.why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_first_tried_again_then_doubted_then_too_much() {
        let doubts = Doubts::default();
        let at = Duration::from_secs;
        assert!(!doubts.failed("watch.device", "busy", at(100)));
        assert_eq!(doubts.present(at(104)), None, "a passing error");
        let stopped = doubts.present(at(105)).unwrap();
        assert_eq!((stopped.check.as_str(), stopped.for_good), ("watch.device", false));
        assert!(stopped.why.starts_with("busy (for 5 s;"), "{}", stopped.why);
        assert!(!doubts.failed("watch.device", "busy", at(699)));
        assert!(doubts.failed("watch.device", "busy", at(700)));
        doubts.settled("watch.device");
        assert_eq!(doubts.present(at(800)), None);
        // The time starts again, and a success of one check does not affect the others.
        assert!(!doubts.failed("watch.device", "busy", at(900)));
        assert!(!doubts.failed("watch.disk", "full", at(900)));
        doubts.settled("watch.device");
        assert_eq!(doubts.present(at(905)).unwrap().check, "watch.disk");
    }
}
