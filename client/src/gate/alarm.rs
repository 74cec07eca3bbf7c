//! A timer that continues while the machine sleeps. Leases are counted by
//! `CLOCK_BOOTTIME`, unlike the runtime's own timers.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::readable;

/// An alarm.
pub(super) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self(readable(timer)?))
    }

    /// Waits until this time, `CLOCK_BOOTTIME`.
    pub(super) async fn at(&self, time: Duration) {
        let set = |timer: &OwnedFd| set_alarm(timer, time);
        if set(self.0.get_ref()).is_err() || self.0.async_io(Interest::READABLE, rang).await.is_err() {
            // The caller reads its clock again; the pause keeps it from spinning.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Sets a timer to a time, `CLOCK_BOOTTIME`; a time in the past fires at once.
pub(super) fn set_alarm(timer: &OwnedFd, time: Duration) -> io::Result<()> {
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A time of zero would disarm the timer.
    let time = Timespec::try_from(time.max(Duration::from_nanos(1))).map_err(io::Error::other)?;
    let alarm = Itimerspec { it_interval: never, it_value: time };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &alarm)?;
    Ok(())
}

fn rang(timer: &OwnedFd) -> io::Result<()> {
    let mut expirations = [0; 8];
    rustix::io::read(timer, &mut expirations)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::boot_time;

    #[tokio::test]
    async fn it_rings_at_its_time_and_again_when_set_again() {
        let alarm = Alarm::new().unwrap();
        for wait in [0, 30, 10] {
            let time = boot_time() + Duration::from_millis(wait);
            alarm.at(time).await;
            assert!(boot_time() >= time);
        }
        let early = tokio::time::timeout(Duration::from_millis(20), alarm.at(boot_time() + Duration::from_secs(60)));
        assert!(early.await.is_err(), "not before its time");
    }
}
