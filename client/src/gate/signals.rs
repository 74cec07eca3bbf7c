//! Signals to the gate, one by one, in the order in which the kernel gives them.

use std::io;
use std::os::fd::OwnedFd;

use portcullis_sys::signals::{self, Received, Set};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::readable;

/// Signals below the real-time ones that are not passed on: `KILL` and `STOP` ask
/// nobody; `CHLD` tells of the gate's own child; the rest are the gate's own faults.
const NOT_FORWARDED: [i32; 9] = [9, 19, 17, 4, 5, 7, 8, 11, 31];
/// `TSTP`, `TTIN`, `TTOU`: stop a process that has no handler.
pub(super) const STOPS: [i32; 3] = [20, 21, 22];
/// Continues a process that is stopped.
pub(super) const CONT: i32 = 18;
/// `CHLD`, `CONT`, `URG`, `WINCH`: do not end a process that has no handler.
const HARMLESS: [i32; 4] = [17, CONT, 23, 28];
/// `XCPU`, `XFSZ`: of the kernel, they are about the gate's own limits.
const OF_LIMITS: [i32; 2] = [24, 25];

/// Every signal that a program can be sent by way of the gate.
pub(super) fn forwarded() -> impl Iterator<Item = i32> {
    (1..=31).filter(|number| !NOT_FORWARDED.contains(number)).chain(signals::real_time())
}

/// Signals to the gate. They are blocked from here on, in this thread and in those
/// that it starts.
pub(super) struct Signals(AsyncFd<OwnedFd>);

/// Signals that are blocked, before there is a runtime to wait for them.
pub(super) struct Blocked(OwnedFd);

impl Blocked {
    pub(super) fn now() -> io::Result<Self> {
        let set = Set::of(forwarded())?;
        set.block()?;
        set.descriptor().map(Self)
    }

    pub(super) fn listen(self) -> io::Result<Signals> {
        readable(self.0).map(Signals)
    }
}

impl Signals {
    /// The next signal that is the program's business.
    pub(super) async fn next(&self) -> i32 {
        loop {
            let Ok(received) = self.0.async_io(Interest::READABLE, |fd| signals::next(fd)).await else {
                // Nothing was ever read from a signal descriptor but signals.
                return std::future::pending().await;
            };
            let Received { number, by_kernel } = received;
            if !(by_kernel && OF_LIMITS.contains(&number)) {
                return number;
            }
        }
    }

    /// The next signal that would end a process without a handler.
    pub(super) async fn ending(&self) -> i32 {
        loop {
            let number = self.next().await;
            if !ends(number) {
                stop_if_told(number);
                continue;
            }
            return number;
        }
    }
}

/// Whether a signal ends a process that has no handler.
fn ends(number: i32) -> bool {
    !STOPS.contains(&number) && !HARMLESS.contains(&number)
}

/// A gate stops with its program, so that a shell sees the job stop. Its lease
/// runs on meanwhile.
pub(super) fn stop_if_told(number: i32) {
    if STOPS.contains(&number) {
        // Then it does not stop, and the program is looked after.
        let _stopped = signals::take_default_action(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_signals_that_can_be_held_are_passed_on() {
        let numbers: Vec<i32> = forwarded().collect();
        for (name, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("USR1", 10), ("ALRM", 14), ("TERM", 15)] {
            assert!(numbers.contains(&number), "{name}");
        }
        for (name, number) in [("CONT", 18), ("TSTP", 20), ("WINCH", 28), ("RTMIN", 34), ("RTMAX", 64)] {
            assert!(numbers.contains(&number), "{name}");
        }
        assert!(![9, 19, 17, 11].iter().any(|number| numbers.contains(number)));
        assert!(ends(15) && ends(10) && ends(34) && !ends(20) && !ends(28));
        Set::of(forwarded()).unwrap();
    }
}
