//! How the gate reaches the init of the program's namespace, and how signals to
//! the gate reach the program.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::sync::Arc;

use portcullis_sys::process::Child;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal as Kill, pidfd_send_signal};
use tokio::net::UnixDatagram;
use tokio::signal::unix::{SignalKind, signal};

use super::cgroup::Cgroup;
use super::control::{Event, Order};

/// How long the kernel may take to kill a namespace before the gate gives up waiting.
const KILL_PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Init and the ways to reach it.
pub(super) struct Init {
    pidfd: Arc<OwnedFd>,
    control: UnixDatagram,
    cgroup: Option<Cgroup>,
}

impl Init {
    pub(super) fn new(child: Child, control: OwnedFd) -> anyhow::Result<Self> {
        let control = StdDatagram::from(control);
        control.set_nonblocking(true)?;
        let cgroup = Cgroup::hold(child.pid);
        Ok(Self { pidfd: Arc::new(child.pidfd), control: UnixDatagram::from_std(control)?, cgroup })
    }

    pub(super) async fn order(&self, order: Order) -> std::io::Result<()> {
        self.control.send(&order.encode()).await.map(|_| ())
    }

    /// The next event; silence means that init is gone, and all with it.
    pub(super) async fn event(&self) -> Event {
        let mut buffer = [0; 9];
        let length = self.control.recv(&mut buffer).await.unwrap_or(0);
        buffer.get(..length).and_then(Event::decode).unwrap_or(Event::Failed(0))
    }

    /// Kills init, and with it the namespace; `true` once all of it is dead.
    pub(super) async fn kill(&self) -> bool {
        // An error means that it is dead already, which the wait below sees.
        let _sent = pidfd_send_signal(&self.pidfd, Kill::KILL);
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        let pidfd = Arc::clone(&self.pidfd);
        // A pidfd becomes readable once its process, and so the namespace, is dead.
        tokio::task::spawn_blocking(move || {
            let mut waiting = [PollFd::new(&*pidfd, PollFlags::IN)];
            poll(&mut waiting, Some(&KILL_PATIENCE)).is_ok_and(|ready| ready == 1)
        })
        .await
        .unwrap_or(false)
    }
}

/// Signals that are passed on to the program.
pub(super) struct Forwarded {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
    usr1: tokio::signal::unix::Signal,
    usr2: tokio::signal::unix::Signal,
}

impl Forwarded {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    pub(super) async fn next(&mut self) -> u64 {
        tokio::select! {
            _ = self.term.recv() => 15,
            _ = self.int.recv() => 2,
            _ = self.hup.recv() => 1,
            _ = self.usr1.recv() => 10,
            _ = self.usr2.recv() => 12,
        }
    }
}
