//! Serving: listeners, connections, routes.

mod auditors;
mod connection;
mod nodes;
mod public;
mod reply;

pub(crate) use connection::listen_nodes;
pub(crate) use public::listen_public;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Longest time between requests on a connection, headers included: a gate renews after
/// half of its lease.
pub(crate) const IDLE: Duration = Duration::from_secs(75);
/// Longest time for a handshake or a request body.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Largest number of connections at once.
pub(crate) const MAX_CONNECTIONS: usize = 4096;
/// File descriptors that are reserved for the log, the devices and readers. Without
/// them, appends to the log or reads of the TPM would fail.
const RESERVED: u64 = 384;

/// Whether enough file descriptors remain for another connection of a node.
pub(crate) fn leaves_descriptors(connections: usize) -> bool {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (connections as u64) < limit.saturating_sub(RESERVED)
}

/// Raises the soft limit of file descriptors to the hard limit: services start with
/// 1,024, for programs that use select(2).
pub(crate) fn take_descriptors() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// Largest request body, in bytes: a request with its evidence, or a bundle.
pub(crate) const MAX_BODY: usize = portcullis_firmware_policy::MAX_LENGTH;
/// Pause after a connection could not be accepted.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// How long connections may continue after the daemon was asked to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
