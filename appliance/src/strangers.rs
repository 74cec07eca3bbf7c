//! Strangers can cause denials faster than a disk should fill. A budget of their
//! denials is logged one by one, with evidence. Denials beyond the budget are counted,
//! and the counts are logged together. Each answer waits for its log entry.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use portcullis_permit::DenialCountRecord;
use tokio::sync::oneshot;

/// Denials that may be logged at once, and the refill per second.
const DENIALS: Rate = Rate { burst: 256.0, each_second: 0.1 };
/// Bytes that may be archived with them: at most a third of a gigabyte a day.
const BYTES: Rate = Rate { burst: 32.0 * 1024.0 * 1024.0, each_second: 4096.0 };
/// Largest number of checks that are counted by name; strangers cannot add others.
const MAX_CHECKS: usize = 256;

struct Rate {
    burst: f64,
    each_second: f64,
}

/// The budget, and the counts beyond it.
pub(crate) struct Strangers(Mutex<State>);

struct State {
    refilled: Instant,
    denials: f64,
    bytes: f64,
    counted: Option<DenialCountRecord>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self(Mutex::new(State {
            refilled: Instant::now(),
            denials: DENIALS.burst,
            bytes: BYTES.burst,
            counted: None,
            waiting: Vec::new(),
        }))
    }
}

impl Strangers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one denial that archives `bytes` bytes out of the budget.
    pub(crate) fn may_be_logged(&self, bytes: usize) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let seconds = now.duration_since(state.refilled).as_secs_f64();
        state.refilled = now;
        state.denials = seconds.mul_add(DENIALS.each_second, state.denials).min(DENIALS.burst);
        state.bytes = seconds.mul_add(BYTES.each_second, state.bytes).min(BYTES.burst);
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        if state.denials < 1.0 || state.bytes < bytes {
            return false;
        }
        state.denials -= 1.0;
        state.bytes -= bytes;
        true
    }

    /// Counts a denial. The receiver is notified once the count is in the log.
    pub(crate) fn count(&self, check: String, time: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        let record = state.counted.get_or_insert_with(|| DenialCountRecord {
            since: time,
            until: time,
            counts: BTreeMap::new(),
        });
        record.since = record.since.min(time);
        record.until = record.until.max(time);
        let known = record.counts.contains_key(&check) || record.counts.len() < MAX_CHECKS;
        let count = record.counts.entry(if known { check } else { "denial.more".into() }).or_insert(0);
        *count = count.saturating_add(1);
        state.waiting.push(sender);
        receiver
    }

    /// The counts since the last call, and the requests that wait for them.
    pub(crate) fn take(&self) -> Option<(DenialCountRecord, Vec<oneshot::Sender<()>>)> {
        let mut state = self.state();
        let record = state.counted.take()?;
        Some((record, std::mem::take(&mut state.waiting)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_budget_all_are_counted() {
        let strangers = Strangers::default();
        let logged = (0..1000).filter(|_| strangers.may_be_logged(1000)).count();
        assert!((256..260).contains(&logged), "{logged}");
        assert!(!Strangers::default().may_be_logged(64 << 20));
        let waiting: Vec<_> = (0..700).map(|n| strangers.count(format!("check.{}", n % 300), 10 + n)).collect();
        let (record, senders) = strangers.take().unwrap();
        assert_eq!((record.total(), record.since, record.until), (700, 10, 709));
        assert_eq!((record.counts.len(), senders.len(), waiting.len()), (257, 700, 700));
        assert!(strangers.take().is_none());
    }
}
