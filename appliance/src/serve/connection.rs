//! The accept loop for nodes. It is our own, because requests need the exporter and the
//! key of the peer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Extension;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use portcullis_attest::binding::Channel;
use portcullis_channel::{Identity, facts};
use portcullis_firmware_policy::{Activation, NoncePreimage};
use portcullis_wire::Digest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::{GRACE, IDLE, MAX_CONNECTIONS, PATIENCE, PAUSE, leaves_descriptors, nodes};
use crate::authority::{Authority, Session};

/// The state of one connection on the server.
pub(crate) struct Connection {
    /// The session as the authority sees it.
    pub(crate) channel: Channel,
    outstanding: Mutex<Outstanding>,
}

#[derive(Default)]
struct Outstanding {
    nonce: Option<NoncePreimage>,
    statement: Option<Digest>,
    activation: Activating,
}

/// State of a credential activation.
#[derive(Default)]
enum Activating {
    #[default]
    No,
    /// The credential was sent; its secret was not returned yet.
    Asked {
        activation: Activation,
        secret: Zeroizing<[u8; 32]>,
    },
    Done(Activation),
}

impl Connection {
    fn new(channel: Channel) -> Self {
        Self { channel, outstanding: Mutex::default() }
    }

    /// Records the statement that was sent on this connection.
    pub(crate) fn shown(&self, statement: Digest) {
        self.lock().statement = Some(statement);
    }

    /// Issues a nonce. An earlier unused nonce becomes void.
    pub(crate) fn give(&self, nonce: NoncePreimage) {
        self.lock().nonce = Some(nonce);
    }

    /// Records the secret of a credential that is sent. An earlier activation no longer
    /// counts.
    pub(crate) fn asked(&self, activation: Activation, secret: Zeroizing<[u8; 32]>) {
        self.lock().activation = Activating::Asked { activation, secret };
    }

    /// Checks the returned secret; one attempt per credential.
    pub(crate) fn answered(&self, shown: &[u8; 32]) -> bool {
        let mut outstanding = self.lock();
        let Activating::Asked { activation, secret } = std::mem::take(&mut outstanding.activation) else {
            return false;
        };
        let right = verify_slices_are_equal(shown, &*secret).is_ok();
        if right {
            outstanding.activation = Activating::Done(activation);
        }
        right
    }

    fn lock(&self) -> MutexGuard<'_, Outstanding> {
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session facts for a request. The nonce is consumed, whether or not the request
    /// succeeds. `None` if no statement was sent yet.
    pub(crate) fn take_session(&self) -> Option<Session> {
        let mut outstanding = self.lock();
        let statement = outstanding.statement?;
        let activation = match &outstanding.activation {
            Activating::Done(activation) => Some(activation.clone()),
            Activating::No | Activating::Asked { .. } => None,
        };
        Some(Session { channel: self.channel.reversed(), statement, nonce: outstanding.nonce.take(), activation })
    }
}

/// Accepts nodes until the daemon stops.
pub(crate) async fn listen_nodes(
    authority: Arc<Authority>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let identity = Arc::new(Identity::generate()?);
    let acceptor = TlsAcceptor::from(Arc::new(identity.server_config()?));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    while let Some(stream) = next_stream(&listener, &mut stop).await {
        let connections = MAX_CONNECTIONS.saturating_sub(slots.available_permits());
        let slot = Arc::clone(&slots).try_acquire_owned().ok().filter(|_| leaves_descriptors(connections));
        let Some(slot) = slot else {
            authority.metrics.over_budget.inc();
            continue; // dropping the stream closes it
        };
        let (authority, acceptor) = (Arc::clone(&authority), acceptor.clone());
        let (identity, watcher, stop) = (Arc::clone(&identity), graceful.watcher(), stop.clone());
        tokio::spawn(async move {
            if serve(&authority, acceptor, &identity, stream, slot, watcher, stop).await.is_err() {
                authority.metrics.handshakes_failed.inc();
            }
        });
    }
    drop(listener);
    // Streams end at once, requests in progress after their answer. Connections that do
    // not finish in time are cut when the runtime ends.
    drop(timeout(GRACE, graceful.shutdown()).await);
    Ok(())
}

/// The next connection; `None` after the daemon stops. If none can be accepted, for
/// example because all file descriptors are in use, it retries after a pause.
pub(super) async fn next_stream(listener: &TcpListener, stop: &mut watch::Receiver<bool>) -> Option<TcpStream> {
    loop {
        tokio::select! {
            _ = stop.changed() => return None,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => return Some(stream),
                Err(error) => tracing::warn!(%error, "no connection can be accepted"),
            },
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One connection: handshake, channel facts, then requests.
async fn serve(
    authority: &Arc<Authority>,
    acceptor: TlsAcceptor,
    identity: &Identity,
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
    watcher: hyper_util::server::graceful::Watcher,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let tls = tokio::select! {
        tls = timeout(PATIENCE, acceptor.accept(stream)) => tls??,
        // No request was received yet.
        _ = stop.changed() => return Ok(()),
    };
    let session = tls.get_ref().1;
    let channel =
        facts(session, |out, label, context| session.export_keying_material(out, label, context), identity.spki())?;
    let routes = nodes::routes(Arc::clone(authority)).layer(Extension(Arc::new(Connection::new(channel))));

    authority.metrics.connections.inc();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).keep_alive(true);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(16).keep_alive_interval(PATIENCE);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(tls), TowerToHyperService::new(routes));
    // An error here is the peer's fault: it closed, stalled, or did not send HTTP.
    drop(watcher.watch(connection.into_owned()).await);
    authority.metrics.connections.dec();
    Ok(())
}
