//! The wall clock: read here and nowhere else.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, Unix seconds. A clock before 1970 reads as zero, where nothing is valid.
#[expect(clippy::disallowed_methods, reason = "the adapter through which the daemon reads time")]
#[must_use]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
