//! The clocks of a node, read only here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The current time, Unix seconds. A clock before 1970 reads as zero, a time at which
/// nothing is valid.
#[expect(clippy::disallowed_methods, reason = "the adapter through which a node reads time")]
#[must_use]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// `CLOCK_BOOTTIME`: it continues while the machine sleeps, and it cannot be set.
#[must_use]
pub(crate) fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
