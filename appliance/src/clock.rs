//! The clocks of this machine, read only here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The latest time that was returned, Unix seconds.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// The current time for records, Unix seconds. It never decreases: if the wall clock is
/// set back by a little, as NTP does, the time stands still until the clock has caught
/// up. If it is set back by more, the watch trips.
#[must_use]
pub(crate) fn now() -> u64 {
    let shown = wall().as_secs();
    LATEST.fetch_max(shown, Ordering::Relaxed).max(shown)
}

/// From now on, [`now`] returns no earlier time than this one. Called with the time of
/// the newest log entry, after [`crate::watch::check_clock`] has compared it with the
/// clock.
pub(crate) fn continue_from(newest: u64) {
    LATEST.fetch_max(newest, Ordering::Relaxed);
}

/// The wall clock as a duration since 1970. A clock before 1970 reads as zero, a time
/// at which nothing is valid.
#[expect(clippy::disallowed_methods, reason = "the adapter through which the daemon reads time")]
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `CLOCK_BOOTTIME`: it cannot be set, and it continues while the machine sleeps.
pub(crate) fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_time_stands_still_rather_than_going_back() {
        let before = now();
        continue_from(before.saturating_add(3));
        let after = now();
        assert!(after >= before.saturating_add(3));
        continue_from(before);
        assert!(now() >= after);
    }
}
