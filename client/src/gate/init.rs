//! Pid 1 of the program's namespace. It enforces the deadline itself, so a frozen or
//! dead gate cannot extend a lease. When it ends, the kernel kills every process in the
//! namespace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use portcullis_sys::process::{Program as Execution, execute};
use portcullis_sys::signals::{self, Set};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open, wait};
use rustix::time::{TimerfdClockId, TimerfdFlags, Timespec, timerfd_create};

use super::alarm::set_alarm;
use super::control::{Event, Failure, Order, Task};
use super::delivery::Delivery;
use super::program::Program;
use super::signals::forwarded;

/// How often ended orphans are reaped while no other event occurs.
const REAP_EVERY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Runs in the child. The gate ignores the returned exit code: the result is sent
/// through the socket.
pub(super) fn main(control: &OwnedFd, program: &Program, uid: u32, gid: u32) -> i32 {
    match supervise(control, program, uid, gid) {
        Ok(event) => {
            tell(control, event);
            0
        }
        Err(failure) => {
            tell(control, Event::Failed(failure));
            125
        }
    }
}

fn tell(control: &OwnedFd, event: Event) {
    // If the gate has ended, nobody receives the event, and this process ends anyway.
    let _told = retry_on_intr(|| send(control, &event.encode(), SendFlags::NOSIGNAL));
}

/// Adds the failed task to an error.
fn doing<T>(what: Task, outcome: io::Result<T>) -> Result<T, Failure<Task>> {
    outcome.map_err(|error| Failure::of(what, &error))
}

fn supervise(control: &OwnedFd, program: &Program, uid: u32, gid: u32) -> Result<Event, Failure<Task>> {
    let (received, blocked) = doing(Task::Signals, hold_signals())?;
    // Without a first order, the gate got no permit: the program never runs.
    let Some(Order::Start(deadline)) = doing(Task::Orders, receive(control))? else { return Ok(Event::Exited(0)) };
    doing(Task::Proc, private_proc())?;
    doing(Task::Devices, hide_sources_of_evidence())?;
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC);
    let timer = doing(Task::Deadline, timer.map_err(io::Error::from))?;
    doing(Task::Deadline, set_alarm(&timer, Duration::from_nanos(deadline)))?;
    let executed = execute(&Execution {
        executable: program.executable(),
        arguments: program.arguments().to_vec(),
        environment: program.environment().to_vec(),
        uid,
        gid,
        blocked,
    });
    let pid = match executed {
        Ok(pid) => pid,
        Err(not) => return Ok(Event::NotExecuted(Failure::of(not.step, &not.error))),
    };
    tell(control, Event::Started);
    let running = doing(Task::Children, Running::watch(pid))?;
    running.attend(control, &timer, &received)
}

/// Blocks the signals that the gate passes on: a signal that the gate and this process
/// both receive, the program has received too. Returns the descriptor from which they
/// are read, and the set that is blocked when the program starts.
fn hold_signals() -> io::Result<(OwnedFd, Set)> {
    let set = Set::of(forwarded())?;
    let blocked = set.block()?;
    Ok((set.descriptor()?, blocked))
}

/// The executed program.
struct Running {
    pid: i32,
    child: OwnedFd,
    delivery: Delivery,
}

impl Running {
    fn watch(pid: i32) -> io::Result<Self> {
        let child = Pid::from_raw(pid).ok_or_else(|| io::Error::other("no pid"))?;
        let child = pidfd_open(child, PidfdFlags::empty())?;
        Ok(Self { pid, child, delivery: Delivery::default() })
    }

    fn attend(mut self, control: &OwnedFd, timer: &OwnedFd, received: &OwnedFd) -> Result<Event, Failure<Task>> {
        loop {
            let descriptors = [control.as_fd(), timer.as_fd(), received.as_fd(), self.child.as_fd()];
            let wait = doing(Task::Children, wait_for(descriptors, self.delivery.wait(Instant::now())))?;
            let [orders, expired, signals, _ended] = wait;
            if let Some(event) = doing(Task::Children, reap(self.pid))? {
                return Ok(event);
            }
            // Signals that init received are read before the gate's reports.
            while signals && let Ok(signal) = signals::next(received) {
                self.delivery.got(signal.number, Instant::now());
            }
            if orders {
                match doing(Task::Orders, receive(control))? {
                    Some(Order::Extend(deadline)) => {
                        doing(Task::Deadline, set_alarm(timer, Duration::from_nanos(deadline)))?
                    }
                    Some(Order::Signal(number)) => {
                        self.delivery.told(i32::try_from(number).unwrap_or(0), Instant::now());
                    }
                    // The gate has ended or sent an invalid order: end the program too.
                    Some(Order::Start(_)) | None => return Ok(Event::Expired),
                }
            } else if expired {
                // No unread order remains that could have set another deadline.
                return Ok(Event::Expired);
            }
            for number in self.delivery.due(Instant::now()) {
                // An error means that the program has ended, which is handled next.
                let _sent = signals::send(self.pid, number);
            }
        }
    }
}

/// Mounts /proc of the new namespace, so that the program does not see the gate's.
fn private_proc() -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)?;
    Ok(())
}

/// Devices and folders from which evidence of this machine can be made.
const SOURCES: [&str; 6] =
    ["/dev/tpm0", "/dev/tpmrm0", "/dev/sev-guest", "/dev/tdx_guest", "/sys/kernel/config", "/sys/kernel/security"];

/// In the program's mounts, these devices cannot be opened and the folders are empty,
/// whatever their permissions: only the gate attests this machine.
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

/// Which of these descriptors are readable; none once the deadline is reached.
fn wait_for<const N: usize>(descriptors: [BorrowedFd<'_>; N], time: Option<Duration>) -> io::Result<[bool; N]> {
    let mut waiting = descriptors.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let time = time.and_then(|time| Timespec::try_from(time).ok()).map_or(REAP_EVERY, |time| time.min(REAP_EVERY));
    match poll(&mut waiting, Some(&time)) {
        Ok(_) => Ok(waiting.map(|fd| !fd.revents().is_empty())),
        Err(Errno::INTR) => Ok([false; N]),
        Err(error) => Err(error.into()),
    }
}

/// Receives one order; `None` after the gate has closed its end.
fn receive(control: &OwnedFd) -> io::Result<Option<Order>> {
    let mut buffer = [0; 9];
    let (length, _) = retry_on_intr(|| recv(control, &mut buffer, RecvFlags::empty()))?;
    Ok(buffer.get(..length).and_then(Order::decode))
}

/// Reaps ended processes, orphans included; returns how the program ended, once it has.
fn reap(main: i32) -> io::Result<Option<Event>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == main => return Ok(Some(outcome(status))),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn outcome(status: WaitStatus) -> Event {
    let number = |n: i32| u64::try_from(n).unwrap_or(0);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Event::Exited(number(code)),
        (None, Some(signal)) => Event::Signalled(number(signal)),
        (None, None) => Event::Lost,
    }
}
