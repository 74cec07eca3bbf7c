//! Pid 1 of the program's namespace. It holds its own deadline: a gate that is
//! frozen or dead cannot let a lease run over. When it ends, the kernel kills
//! everything in the namespace.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use portcullis_sys::process::{Program as Execution, execute};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open, wait};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::control::{Event, Order};
use super::program::Program;

/// How often orphans are reaped that ended while nothing else happened.
const REAP_EVERY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Runs in the child. The result is its exit code, which nobody looks at: what
/// happened goes through the socket.
pub(super) fn main(control: &OwnedFd, program: &Program, uid: u32, gid: u32) -> i32 {
    match supervise(control, program, uid, gid) {
        Ok(event) => {
            tell(control, event);
            0
        }
        Err(error) => {
            let errno = error.raw_os_error().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
            tell(control, Event::Failed(errno));
            125
        }
    }
}

fn tell(control: &OwnedFd, event: Event) {
    // If the gate is gone there is nobody to tell, and this process ends anyway.
    let _told = send(control, &event.encode(), SendFlags::NOSIGNAL);
}

fn supervise(control: &OwnedFd, program: &Program, uid: u32, gid: u32) -> io::Result<Event> {
    // Without a first order the gate got no permit: nothing ever runs.
    let Some(Order::Start(deadline)) = receive(control)? else { return Ok(Event::Exited(0)) };
    private_proc()?;
    hide_sources_of_evidence()?;
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?;
    set_deadline(&timer, deadline)?;
    let pid = execute(&Execution {
        executable: program.executable(),
        arguments: program.arguments().to_vec(),
        environment: program.environment().to_vec(),
        uid,
        gid,
    })?;
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("no pid"))?;
    let child = pidfd_open(pid, PidfdFlags::empty())?;
    tell(control, Event::Started);
    loop {
        let [orders, expired, _ended] = wait_for([control.as_fd(), timer.as_fd(), child.as_fd()])?;
        if let Some(event) = reap(pid)? {
            return Ok(event);
        }
        if expired {
            return Ok(Event::Expired);
        }
        if orders {
            match receive(control)? {
                Some(Order::Extend(deadline)) => set_deadline(&timer, deadline)?,
                Some(Order::Signal(number)) => pass_on(pid, number),
                // The gate is gone, or speaks nonsense: so does the program go.
                Some(Order::Start(_)) | None => return Ok(Event::Expired),
            }
        }
    }
}

/// The program sees its own namespace in /proc, not the gate's.
fn private_proc() -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)?;
    Ok(())
}

/// Devices and folders with which evidence of this machine can be made.
const SOURCES: [&str; 6] =
    ["/dev/tpm0", "/dev/tpmrm0", "/dev/sev-guest", "/dev/tdx_guest", "/sys/kernel/config", "/sys/kernel/security"];

/// In the program's mounts, devices cannot be opened and folders are empty,
/// whatever their permissions say: the gate alone speaks for this machine.
fn hide_sources_of_evidence() -> io::Result<()> {
    for path in SOURCES {
        let Ok(found) = std::fs::metadata(path) else { continue };
        let locked = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        if found.is_dir() {
            mount("none", path, "tmpfs", locked, c"size=0,mode=000")?;
        } else {
            mount_bind(path, path)?;
            mount_remount(path, MountFlags::BIND | locked, c"")?;
        }
    }
    Ok(())
}

fn set_deadline(timer: &OwnedFd, nanoseconds: u64) -> io::Result<()> {
    const SECOND: u64 = 1_000_000_000;
    let value = Timespec {
        tv_sec: i64::try_from(nanoseconds / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanoseconds % SECOND).unwrap_or(0),
    };
    let once = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval: once, it_value: value })?;
    Ok(())
}

fn wait_for<const N: usize>(descriptors: [std::os::fd::BorrowedFd<'_>; N]) -> io::Result<[bool; N]> {
    let mut waiting = descriptors.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        match poll(&mut waiting, Some(&REAP_EVERY)) {
            Ok(_) => return Ok(waiting.map(|fd| !fd.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One order; `None` once the gate has closed its end.
fn receive(control: &OwnedFd) -> io::Result<Option<Order>> {
    let mut buffer = [0; 9];
    let (length, _) = recv(control, &mut buffer, RecvFlags::empty())?;
    Ok(buffer.get(..length).and_then(Order::decode))
}

fn pass_on(pid: Pid, number: u64) {
    let signal = match number {
        1 => Signal::HUP,
        2 => Signal::INT,
        10 => Signal::USR1,
        12 => Signal::USR2,
        _ => Signal::TERM,
    };
    // An error means that the program has ended, which the loop sees next.
    let _sent = kill_process(pid, signal);
}

/// Reaps what has ended, orphans included; returns how the program ended, once
/// it has.
fn reap(main: Pid) -> io::Result<Option<Event>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == main => return Ok(Some(outcome(status))),
            Ok(Some(_)) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn outcome(status: WaitStatus) -> Event {
    let number = |n: i32| u64::try_from(n).unwrap_or(0);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Event::Exited(number(code)),
        (None, Some(signal)) => Event::Signalled(number(signal)),
        (None, None) => Event::Failed(0),
    }
}
