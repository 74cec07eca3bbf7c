//! Signals to the gate, one by one, in the kernel's order.

use std::io;
use std::os::fd::OwnedFd;

use portcullis_sys::signals::{self, Received, Set};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::readable;

/// Signals below the real-time ones that are not passed on: `KILL` and `STOP` cannot be
/// caught; `CHLD` concerns the gate's own child; the others are faults of the gate
/// itself.
const NOT_FORWARDED: [i32; 9] = [9, 19, 17, 4, 5, 7, 8, 11, 31];
/// `TSTP`, `TTIN`, `TTOU`: they stop a process without a handler.
pub(super) const STOPS: [i32; 3] = [20, 21, 22];
/// Continues a stopped process.
pub(super) const CONT: i32 = 18;
/// `CHLD`, `CONT`, `URG`, `WINCH`: they do not end a process without a handler.
const HARMLESS: [i32; 4] = [17, CONT, 23, 28];
/// `XCPU`, `XFSZ`: sent by the kernel, they concern the gate's own limits.
const OF_LIMITS: [i32; 2] = [24, 25];

/// Every signal that the gate passes on to the program.
pub(super) fn forwarded() -> impl Iterator<Item = i32> {
    (1..=31).filter(|number| !NOT_FORWARDED.contains(number)).chain(signals::real_time())
}

/// Signals to the gate. They are blocked from now on, in this thread and in the threads
/// that it starts.
pub(super) struct Signals(AsyncFd<OwnedFd>);

/// Blocked signals, before a runtime exists that can wait for them.
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
    /// The next signal for the program.
    pub(super) async fn next(&self) -> i32 {
        loop {
            let Ok(received) = self.0.async_io(Interest::READABLE, |fd| signals::next(fd)).await else {
                // A signal descriptor returns nothing but signals.
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

/// Whether a signal ends a process without a handler.
fn ends(number: i32) -> bool {
    !STOPS.contains(&number) && !HARMLESS.contains(&number)
}

/// Stops the gate together with its program, so that a shell sees the job stop. The
/// lease continues to run.
pub(super) fn stop_if_told(number: i32) {
    if STOPS.contains(&number) {
        // On an error the gate does not stop, and continues to supervise the program.
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
