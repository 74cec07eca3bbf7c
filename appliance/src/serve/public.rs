//! The plain, read-only listener: checkpoint, hash tiles, keys, status list,
//! metrics, health.

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use portcullis_firmware_policy::{Reader, remedy};
use portcullis_wire::hex::hex;
use portcullis_wire::rfc3339;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::connection::next_stream;
use super::reply::{MOVES, caching, status, typed};
use super::{GRACE, PATIENCE};
use crate::authority::Authority;
use crate::clock;
use crate::instance::log_folder;
use crate::signer::Stopped;

/// Largest number of reader connections at once.
const MAX_READERS: usize = 256;

type Shared = State<Arc<Authority>>;

fn routes(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/signed-root", get(signed_root))
        .route("/tile/{*path}", get(tile))
        .route("/keys", get(keys))
        .route("/v1/status/0", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .with_state(authority)
}

/// Serves readers until the daemon stops.
pub(crate) async fn listen_public(
    authority: Arc<Authority>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let service = routes(authority);
    let slots = Arc::new(Semaphore::new(MAX_READERS));
    let graceful = GracefulShutdown::new();
    while let Some(stream) = next_stream(&listener, &mut stop).await {
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let service = TowerToHyperService::new(service.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            drop(connection.await);
            drop(slot);
        });
    }
    drop(listener);
    drop(timeout(GRACE, graceful.shutdown()).await);
    Ok(())
}

async fn checkpoint(State(authority): Shared) -> Response {
    file(&authority, "checkpoint", "text/plain; charset=utf-8").await
}

async fn signed_root(State(authority): Shared) -> Response {
    file(&authority, "signed-root", "application/cbor").await
}

/// Hash tiles only: entries name chips and nodes, so they need an auditor's
/// authorisation.
async fn tile(State(authority): Shared, Path(path): Path<String>) -> Response {
    let level = path.split('/').next().unwrap_or_default();
    let is_hash_tile = !level.is_empty() && level.chars().all(|c| c.is_ascii_digit());
    let is_plain =
        path.split('/').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'))
            && !path.contains("..");
    if is_hash_tile && is_plain {
        file(&authority, &format!("tile/{path}"), "application/octet-stream").await
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

async fn file(authority: &Authority, path: &str, media_type: &'static str) -> Response {
    match tokio::fs::read(log_folder(&authority.config).join(path)).await {
        Ok(bytes) => {
            let mut response = typed(StatusCode::OK, media_type, bytes);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching(path)));
            response
        }
        // Not cached: a partial tile is replaced by the full one, and a missing tile may
        // appear later.
        Err(_) => (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, MOVES)]).into_response(),
    }
}

async fn keys(State(authority): Shared) -> Response {
    let signed = authority.endorsement();
    let keys = &signed.endorsement;
    let body = serde_json::json!({
        "schema": "portcullis/keys/1",
        "origin": keys.origin(),
        "checkpoint_key": keys.checkpoint_key.to_string(),
        "receipt_key": hex(keys.receipt_key.public()),
        "permit_key": hex(&keys.permit_key.to_cose()),
        "endorsement": hex(&signed.bytes),
    });
    typed(StatusCode::OK, "application/json", body.to_string().into_bytes())
}

async fn metrics(State(authority): Shared) -> Response {
    typed(StatusCode::OK, "application/openmetrics-text; version=1.0.0", authority.metrics.text().into_bytes())
}

/// Ready, or the reason why not: permanent, or until the cause is gone. The authority
/// is not ready while gates would refuse its permits. Without witnesses, only nodes
/// that have seen more of the log can detect a rolled-back disk: the response states
/// that window.
async fn ready(State(authority): Shared) -> Response {
    let stopped = authority.withheld(clock::now());
    let (status, state) = match &stopped {
        None => (StatusCode::OK, "serving"),
        Some(Stopped { for_good: false, .. }) => (StatusCode::SERVICE_UNAVAILABLE, "waiting"),
        Some(Stopped { for_good: true, .. }) => (StatusCode::SERVICE_UNAVAILABLE, "tripped"),
    };
    let bundle = authority.bundle();
    let witnesses = bundle.policy().witnesses.as_ref().map_or_else(
        || "none: a rollback shows only to nodes that have seen a later checkpoint".to_owned(),
        |witnesses| format!("{} of {}", witnesses.quorum.threshold, witnesses.quorum.keys.len()),
    );
    let body = serde_json::json!({
        "schema": "portcullis/ready/1",
        "state": state,
        "check": stopped.as_ref().map(|stopped| &stopped.check),
        "why": stopped.as_ref().map(|stopped| &stopped.why),
        "remedy": stopped.as_ref().map(|stopped| remedy(&stopped.check, Reader::Operator)),
        "live_permits": authority.live_permits(),
        "log_size": authority.head().map_or(0, |head| head.size()),
        "bundle_version": bundle.policy().version,
        "bundle_expires": rfc3339(bundle.policy().valid.until),
        "endorsement_expires": rfc3339(authority.endorsement().endorsement.expires),
        "witnesses": witnesses,
        "witnessed": authority.witnessed().map(rfc3339),
    });
    typed(status, "application/json", body.to_string().into_bytes())
}
