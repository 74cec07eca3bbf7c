//! Serving: listeners, connections, routes.

mod auditors;
mod connection;
mod nodes;
mod public;
mod reply;

pub(crate) use connection::listen_nodes;
pub(crate) use public::listen_public;

use std::time::Duration;

/// Longest time from one request to the next on a connection, headers included:
/// a gate renews at half of its lease.
pub(crate) const IDLE: Duration = Duration::from_secs(75);
/// Longest time for a handshake or a request's body.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Most connections at once.
pub(crate) const MAX_CONNECTIONS: usize = 4096;
/// Largest request body, in bytes: a request with its evidence, or a bundle.
pub(crate) const MAX_BODY: usize = portcullis_firmware_policy::MAX_LENGTH;
/// How long connections may finish after the daemon was told to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
