//! Compares the clocks of one machine: how far each runs ahead of `CLOCK_BOOTTIME` or
//! behind it.
//!
//! No two oscillators have the same rate, so the difference between two clocks grows
//! without limit, however good they are. Only the rate is bounded: within each span,
//! the clocks may differ by the tolerance of the bundle plus the difference that the
//! rate allows for the span. Two spans are checked: since the last look, and since the
//! beginning. A jump shows in the first span, many small jumps in the second.

use std::time::Duration;

use portcullis_attest::tpm::attest::ClockInfo;
use portcullis_wire::rfc3339;

/// NTP corrects the rate of Linux' clocks by 500 parts per million at most
/// (`MAXFREQ`, adjtimex(2)), and its steps are within the tolerance.
pub(super) const WALL_RATE: u32 = 500;
/// A TPM's clock may go 15 % too fast or too slow (TPM 2.0 Library, reference
/// code, `PlatformClock.h`: "The clock tolerance is +/-15%").
pub(super) const TPM_RATE: u32 = 150_000;

/// A reading of a clock, together with `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug)]
struct Reading {
    shown: Duration,
    boot: Duration,
}

/// One clock under watch.
pub(super) struct Watched {
    name: &'static str,
    /// Largest error of its rate, parts per million.
    rate: u32,
    first: Reading,
    last: Reading,
}

impl Watched {
    pub(super) const fn new(name: &'static str, rate: u32, shown: Duration, boot: Duration) -> Self {
        let reading = Reading { shown, boot };
        Self { name, rate, first: reading, last: reading }
    }

    /// Takes the next reading, made at `boot` or up to `uncertain` before. Returns why it
    /// contradicts the earlier ones.
    pub(super) fn look(&mut self, shown: Duration, boot: Duration, uncertain: Duration, skew: u64) -> Option<String> {
        let now = Reading { shown, boot };
        let floor = Duration::from_secs(skew).saturating_add(uncertain);
        let contradiction =
            [self.last, self.first].into_iter().find_map(|earlier| self.contradicts(earlier, now, floor));
        self.last = now;
        contradiction
    }

    fn contradicts(&self, earlier: Reading, now: Reading, floor: Duration) -> Option<String> {
        let span = now.boot.saturating_sub(earlier.boot);
        let expected = earlier.shown.saturating_add(span);
        let (off, which) = match now.shown.checked_sub(expected) {
            Some(ahead) => (ahead, "ahead"),
            None => (expected.saturating_sub(now.shown), "behind"),
        };
        let allowed = floor.saturating_add(span.mul_f64(f64::from(self.rate) / 1e6));
        (off > allowed).then(|| {
            let seconds = |time: Duration| time.as_secs_f64();
            format!(
                "the {} is {:.1} s {which} after {:.1} s of the boot clock, at most {:.1} s are allowed",
                self.name,
                seconds(off),
                seconds(span),
                seconds(allowed)
            )
        })
    }
}

/// The wall clock and the clock of the TPM.
pub(super) struct Clocks {
    wall: Watched,
    /// With the boot counters of the TPM at the first reading.
    tpm: Option<(Watched, (u32, u32))>,
}

impl Clocks {
    pub(super) const fn new(wall: Duration, boot: Duration) -> Self {
        Self { wall: Watched::new("wall clock", WALL_RATE, wall, boot), tpm: None }
    }

    /// Why the wall clock contradicts `CLOCK_BOOTTIME`.
    pub(super) fn look_at_wall(&mut self, wall: Duration, boot: Duration, skew: u64) -> Option<String> {
        let why = self.wall.look(wall, boot, Duration::ZERO, skew)?;
        Some(format!("{why}; it shows {}", rfc3339(wall.as_secs())))
    }

    /// Why the clock of the TPM contradicts `CLOCK_BOOTTIME`, according to a quote that was
    /// made between two times. After a reset or a restart of the TPM, for example when the
    /// machine has slept, the watch of its clock starts again: the clock may have stood
    /// still meanwhile (TPM 2.0 Part 1, "Clock").
    pub(super) fn look_at_tpm(
        &mut self,
        clock: &ClockInfo,
        (asked, answered): (Duration, Duration),
        skew: u64,
    ) -> Option<String> {
        let (shown, boots) = (Duration::from_millis(clock.clock), (clock.reset_count, clock.restart_count));
        match &mut self.tpm {
            Some((watched, same)) if *same == boots => {
                watched.look(shown, answered, answered.saturating_sub(asked), skew)
            }
            _ => {
                self.tpm = Some((Watched::new("clock of the TPM", TPM_RATE, shown, answered), boots));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEW: u64 = 5;

    fn seconds(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    /// Number of readings after which a clock of rate `rate`, read every `every` seconds,
    /// contradicts the boot clock.
    fn trips_after(name: &'static str, allowed: u32, rate: f64, every: f64, looks: u32) -> Option<f64> {
        let mut watched = Watched::new(name, allowed, seconds(1e6), Duration::ZERO);
        (1..=looks)
            .map(|n| f64::from(n) * every)
            .find(|boot| watched.look(seconds(1e6 + boot * rate), seconds(*boot), Duration::ZERO, SKEW).is_some())
    }

    /// A TPM 15 % off for a month, one 100 ppm off for a year, and NTP that corrects by 500
    /// ppm: an accumulated difference alone never trips.
    #[test]
    fn clocks_within_their_rates_never_contradict_each_other() {
        let month = 30 * 86_400 / 30;
        assert_eq!(trips_after("clock of the TPM", TPM_RATE, 1.149, 30.0, month), None);
        assert_eq!(trips_after("clock of the TPM", TPM_RATE, 0.851, 30.0, month), None);
        assert_eq!(trips_after("clock of the TPM", TPM_RATE, 1.0001, 300.0, 105_000), None);
        assert_eq!(trips_after("wall clock", WALL_RATE, 1.0005, 60.0, 50_000), None);
        assert_eq!(trips_after("wall clock", WALL_RATE, 0.9995, 60.0, 50_000), None);
        // A higher rate trips once the difference exceeds the tolerance.
        assert!(trips_after("clock of the TPM", TPM_RATE, 1.5, 30.0, 100).is_some());
        assert!(trips_after("wall clock", WALL_RATE, 1.01, 60.0, 100).is_some());
    }

    /// THREATS 15: a jump in either direction is detected however long the watch has
    /// lasted; an NTP step within the tolerance is no jump.
    #[test]
    fn threat_15_clocks_that_jump_contradict_each_other() {
        for at in [10.0, 86_400.0 * 365.0] {
            for jump in [6.0, 3_600.0, 86_400.0 * 365.0] {
                for sign in [1.0, -1.0] {
                    let mut wall = Watched::new("wall clock", WALL_RATE, seconds(1e9), Duration::ZERO);
                    assert_eq!(wall.look(seconds(1e9 + at), seconds(at), Duration::ZERO, SKEW), None);
                    let later = seconds(1e9 + at + 1.0 + sign * jump);
                    let why = wall.look(later, seconds(at + 1.0), Duration::ZERO, SKEW);
                    assert!(why.is_some(), "{jump} at {at}");
                }
            }
        }
        let mut wall = Watched::new("wall clock", WALL_RATE, seconds(1e9), Duration::ZERO);
        for n in 1..100 {
            let (boot, step) = (f64::from(n), if n < 50 { 0.0 } else { 4.9 });
            assert_eq!(wall.look(seconds(1e9 + boot + step), seconds(boot), Duration::ZERO, SKEW), None);
        }
        // Steps that are each within the tolerance, but too many of them.
        let walks = (1..100).find(|n| {
            let boot = f64::from(100 + n);
            wall.look(seconds(1e9 + boot + 4.9 + 4.0 * f64::from(*n)), seconds(boot), Duration::ZERO, SKEW).is_some()
        });
        assert_eq!(walks, Some(1));
        let why = wall.look(seconds(2e9), seconds(300.0), Duration::ZERO, SKEW).unwrap();
        assert!(why.starts_with("the wall clock is 999") && why.contains("ahead after"), "{why}");
    }

    /// The machine slept: the TPM was restarted, and its clock stood still.
    #[test]
    fn a_restarted_tpm_is_watched_from_there_on() {
        let info = |clock, restart_count| ClockInfo { clock, reset_count: 1, restart_count, safe: true };
        let mut clocks = Clocks::new(seconds(1e9), Duration::ZERO);
        let at = |n: f64| (seconds(n), seconds(n));
        assert_eq!(clocks.look_at_tpm(&info(1_000, 0), at(1.0), SKEW), None);
        assert_eq!(clocks.look_at_tpm(&info(31_000, 0), at(31.0), SKEW), None);
        assert_eq!(clocks.look_at_tpm(&info(32_000, 1), at(40_000.0), SKEW), None, "slept for hours");
        assert_eq!(clocks.look_at_tpm(&info(62_000, 1), at(40_030.0), SKEW), None);
        assert!(clocks.look_at_tpm(&info(3_662_000, 1), at(40_060.0), SKEW).is_some(), "an hour in half a minute");
        // A TPM that took ten seconds to answer may have read its clock at any time in
        // between.
        let mut slow = Clocks::new(seconds(1e9), Duration::ZERO);
        assert_eq!(slow.look_at_tpm(&info(0, 0), at(0.0), SKEW), None);
        assert_eq!(slow.look_at_tpm(&info(30_000, 0), (seconds(30.0), seconds(44.0)), SKEW), None);
    }
}
