//! Determines which signals to the gate the program has already received.
//!
//! A key of the terminal, `kill -- -GROUP`, and a service manager that stops a unit
//! signal the gate, init and the program alike; to pass such a signal on would deliver
//! it twice. A `kill` of the gate signals the gate alone. A signal does not show which
//! case applies, but init is in the same process group and unit as the program: a
//! signal that init received, the program received too.
//!
//! The kernel discards a pending stop signal when a `CONT` arrives, and the reverse. A
//! signal that was discarded for init need not be passed on either.

use std::time::{Duration, Instant};

use super::signals::{CONT, STOPS};

/// How long a signal may take to reach init after the gate reported it: senders that
/// signal one process after another take that long.
const ON_ITS_WAY: Duration = Duration::from_millis(30);
/// How long the gate may take to report a signal that init received too.
const TELLING: Duration = Duration::from_secs(1);

/// Matches the signals that init received with those that the gate reports.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Received by init, not reported by the gate: the number, and the end of the wait.
    got: Vec<(i32, Instant)>,
    /// Reported by the gate, not received by init: the number, and when to pass it on.
    told: Vec<(i32, Instant)>,
}

impl Delivery {
    /// Init received a signal.
    pub(super) fn got(&mut self, number: i32, now: Instant) {
        self.told.retain(|(told, _)| !undoes(number, *told));
        if !take(&mut self.told, number) {
            self.got.push((number, later(now, TELLING)));
        }
    }

    /// The gate reports a signal.
    pub(super) fn told(&mut self, number: i32, now: Instant) {
        self.got.retain(|(_, until)| now < *until);
        let undone = self.got.iter().any(|(got, _)| undoes(*got, number));
        if !take(&mut self.got, number) && !undone {
            self.told.push((number, later(now, ON_ITS_WAY)));
        }
    }

    /// The signals that only the gate received, in the order of arrival.
    pub(super) fn due(&mut self, now: Instant) -> Vec<i32> {
        let (due, told): (Vec<_>, Vec<_>) = self.told.iter().partition(|(_, at)| *at <= now);
        self.told = told;
        due.into_iter().map(|(number, _)| number).collect()
    }

    /// Time until a signal must be passed on.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.told.iter().map(|(_, at)| at.saturating_duration_since(now)).min()
    }
}

/// Whether the kernel discards one pending signal when another arrives.
fn undoes(one: i32, other: i32) -> bool {
    one == CONT && STOPS.contains(&other) || STOPS.contains(&one) && other == CONT
}

/// Removes the oldest entry of a signal from a list.
fn take(list: &mut Vec<(i32, Instant)>, number: i32) -> bool {
    let place = list.iter().position(|(of, _)| *of == number);
    place.map(|place| list.remove(place)).is_some()
}

fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT: i32 = 2;

    #[test]
    fn what_init_got_too_is_not_passed_on() {
        let (start, mut delivery) = (Instant::now(), Delivery::default());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        delivery.got(INT, at(0));
        delivery.told(INT, at(5));
        delivery.told(INT, at(100));
        delivery.got(INT, at(120));
        assert_eq!(delivery.wait(at(120)), None);
        assert_eq!(delivery.due(at(500)), [] as [i32; 0]);
    }

    #[test]
    fn what_went_to_the_gate_alone_is_passed_on_once() {
        let (start, mut delivery) = (Instant::now(), Delivery::default());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        delivery.told(INT, at(0));
        delivery.told(34, at(1));
        delivery.told(34, at(2));
        assert_eq!(delivery.due(at(29)), [] as [i32; 0]);
        assert_eq!(delivery.wait(at(29)), Some(Duration::from_millis(1)));
        assert_eq!(delivery.due(at(40)), [INT, 34, 34]);
        assert_eq!(delivery.due(at(50)), [] as [i32; 0]);
    }

    /// A job that is stopped and continued before init has read either signal.
    #[test]
    fn a_stop_that_was_taken_back_is_not_passed_on() {
        let now = Instant::now();
        let tstp = 20;
        for told_first in [true, false] {
            let mut delivery = Delivery::default();
            if told_first {
                delivery.told(tstp, now);
                delivery.got(CONT, now);
            } else {
                delivery.got(CONT, now);
                delivery.told(tstp, now);
            }
            delivery.told(CONT, now);
            assert_eq!(delivery.due(now + Duration::from_millis(100)), [] as [i32; 0], "{told_first}");
        }
    }

    #[test]
    fn a_signal_of_long_ago_hides_no_other() {
        let (start, mut delivery) = (Instant::now(), Delivery::default());
        delivery.got(INT, start);
        delivery.told(INT, start + Duration::from_secs(2));
        assert_eq!(delivery.due(start + Duration::from_secs(3)), [INT]);
    }
}
