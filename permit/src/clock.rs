//! Comparison of a time from one clock with another clock.
//!
//! Two clocks never agree. A bundle says by how many seconds they may differ
//! (`limits.clock_skew_seconds`), and every comparison of two clocks uses that number
//! in the same way: a start counts as reached that many seconds early. An end is exact,
//! unless the caller also limits the time in another way
//! (docs/decisions/0017-clocks.md).

/// Seconds by which two clocks may differ if a bundle does not set them.
pub const DEFAULT_SKEW: u64 = 10;
/// Most seconds that a bundle may set.
pub const MAX_SKEW: u64 = 60;

/// A clock's current time, and the tolerance for times from another clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Unix seconds.
    pub now: u64,
    /// Seconds.
    pub skew: u64,
}

impl Clock {
    /// Whether a time from another clock has been reached, within the tolerance.
    #[must_use]
    pub const fn has_reached(&self, start: u64) -> bool {
        self.now.saturating_add(self.skew) >= start
    }

    /// Whether an end from another clock has been reached on every clock within the
    /// tolerance. Only for callers that also count the time from its beginning.
    #[must_use]
    pub const fn is_past_everywhere(&self, end: u64) -> bool {
        self.now >= end.saturating_add(self.skew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_comes_early_and_an_end_late_by_the_tolerance_and_no_more() {
        let at = |now| Clock { now, skew: 5 };
        assert!(at(95).has_reached(100) && !at(94).has_reached(100));
        assert!(!at(104).is_past_everywhere(100) && at(105).is_past_everywhere(100));
        assert!(!at(u64::MAX - 1).is_past_everywhere(u64::MAX));
    }
}
