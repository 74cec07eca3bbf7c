//! The clocks of this machine: read here and nowhere else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The latest time that was given out, Unix seconds.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// Now, Unix seconds, for whatever is recorded. It never goes back: where somebody
/// sets the wall clock back by a little, as NTP does, time stands still until the
/// clock has caught up. Where it is set back by more, the watch trips.
#[must_use]
pub(crate) fn now() -> u64 {
    let shown = wall().as_secs();
    LATEST.fetch_max(shown, Ordering::Relaxed).max(shown)
}

/// From here on, [`now`] is no earlier than this. For the time of the newest entry
/// of the log, once [`crate::watch::check_clock`] has compared it with the clock.
pub(crate) fn continue_from(newest: u64) {
    LATEST.fetch_max(newest, Ordering::Relaxed);
}

/// What the wall clock shows, since 1970. A clock before 1970 reads as zero, where
/// nothing is valid.
#[expect(clippy::disallowed_methods, reason = "the adapter through which the daemon reads time")]
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `CLOCK_BOOTTIME`: nobody sets it, and it goes on while the machine sleeps.
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
