//! The gate's connection to the init of the program's namespace. Sending an order never
//! waits: an init that does not receive it is frozen, and still has its deadline.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::time::Duration;

use portcullis_sys::process::Child;
use rustix::io::retry_on_intr;
use rustix::net::{SendFlags, send};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::control::{Event, Order};
use super::descriptor::readable;

/// How long the gate waits for the kernel to kill a namespace.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Init and the descriptors to reach it.
pub(super) struct Init {
    pidfd: AsyncFd<OwnedFd>,
    control: UnixDatagram,
}

impl Init {
    pub(super) fn new(child: Child, control: OwnedFd) -> io::Result<Self> {
        let control = StdDatagram::from(control);
        control.set_nonblocking(true)?;
        let pidfd = readable(child.pidfd)?;
        Ok(Self { pidfd, control: UnixDatagram::from_std(control)? })
    }

    /// Sends an order, or fails at once.
    pub(super) fn order(&self, order: Order) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        retry_on_intr(|| send(&self.control, &order.encode(), flags))?;
        Ok(())
    }

    /// The next event; a closed socket means that init has ended, and every process with
    /// it.
    pub(super) async fn event(&self) -> Event {
        let mut buffer = [0; 9];
        let length = self.control.recv(&mut buffer).await.unwrap_or(0);
        Event::decode(buffer.get(..length).unwrap_or_default())
    }

    /// Kills init and so the namespace; `true` once every process in it is dead.
    pub(super) async fn kill(&self) -> bool {
        // An error means that it is dead already; the wait below detects that.
        let _sent = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
        // A pidfd becomes readable once its process, and so the namespace, is dead.
        matches!(timeout(KILL_PATIENCE, self.pidfd.readable()).await, Ok(Ok(_)))
    }
}
