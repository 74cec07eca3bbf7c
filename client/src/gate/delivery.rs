//! Which signals of the gate the program has already.
//!
//! A key of the terminal, `kill -- -GROUP`, and a service manager that ends a
//! unit reach the gate, init and the program alike; passing such a signal on
//! would deliver it twice. What a `kill` sends to the gate reaches the gate alone.
//! Nothing in a signal tells one from the other, but init stands beside the
//! program: what init got as well, the program has.
//!
//! The kernel takes back a stop that waits when a `CONT` comes, and the reverse:
//! what was taken back from init needs no passing on either.

use std::time::{Duration, Instant};

use super::signals::{CONT, STOPS};

/// How long a signal may be on its way to init after the gate told of it: those
/// who send to one process after another take that long.
const ON_ITS_WAY: Duration = Duration::from_millis(30);
/// How long the gate may take to tell of a signal that init got, too.
const TELLING: Duration = Duration::from_secs(1);

/// Pairs what init got with what the gate tells of.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Got by init, not told of by the gate: the number, and until when to wait.
    got: Vec<(i32, Instant)>,
    /// Told of by the gate, not got by init: the number, and when to pass it on.
    told: Vec<(i32, Instant)>,
}

impl Delivery {
    /// Init got a signal.
    pub(super) fn got(&mut self, number: i32, now: Instant) {
        self.told.retain(|(told, _)| !undoes(number, *told));
        if !take(&mut self.told, number) {
            self.got.push((number, later(now, TELLING)));
        }
    }

    /// The gate tells of a signal.
    pub(super) fn told(&mut self, number: i32, now: Instant) {
        self.got.retain(|(_, until)| now < *until);
        let undone = self.got.iter().any(|(got, _)| undoes(*got, number));
        if !take(&mut self.got, number) && !undone {
            self.told.push((number, later(now, ON_ITS_WAY)));
        }
    }

    /// The signals that went to the gate alone, in the order in which they came.
    pub(super) fn due(&mut self, now: Instant) -> Vec<i32> {
        let (due, told): (Vec<_>, Vec<_>) = self.told.iter().partition(|(_, at)| *at <= now);
        self.told = told;
        due.into_iter().map(|(number, _)| number).collect()
    }

    /// How long until there is something to pass on.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.told.iter().map(|(_, at)| at.saturating_duration_since(now)).min()
    }
}

/// Whether the kernel takes back one signal that waits when another comes.
fn undoes(one: i32, other: i32) -> bool {
    one == CONT && STOPS.contains(&other) || STOPS.contains(&one) && other == CONT
}

/// Takes the oldest entry of a signal out of a list.
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

    /// A job that is stopped and continued before init has read of either.
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
