//! Times that one clock gave, compared by another.
//!
//! Two clocks never agree. A bundle says by how many seconds they may differ
//! (`limits.clock_skew_seconds`), and every comparison of two clocks uses that
//! number in the same way: a start counts as reached that many seconds early. An
//! end is exact, unless whoever compares counts the time in another way as well
//! (docs/decisions/0017-clocks.md).

/// Seconds by which two clocks may differ where a bundle says nothing.
pub const DEFAULT_SKEW: u64 = 10;
/// Most seconds that a bundle may allow.
pub const MAX_SKEW: u64 = 60;

/// What a clock shows, and how far the clock that gave the other time may be from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Unix seconds.
    pub now: u64,
    /// Seconds.
    pub skew: u64,
}

impl Clock {
    /// Whether a time that another clock gave has been reached, as far as the
    /// tolerance goes.
    #[must_use]
    pub const fn has_reached(&self, start: u64) -> bool {
        self.now.saturating_add(self.skew) >= start
    }

    /// Whether an end that another clock gave has come on every clock within the
    /// tolerance. Only for whoever counts the time from the beginning, too.
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
