//! `/v1` for nodes and governors; auditors have a separate module.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http_body_util::BodyExt;
use portcullis_firmware_policy::{ActivateRequest, AttestRequest, AttestResponse, encode_credential};
use portcullis_permit::{AuthorityStatement, Kind};
use portcullis_wire::hex::{hex, unhex_array};
use prometheus_client::metrics::counter::Counter;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use super::auditors;
use super::connection::Connection;
use super::reply::{EXCHANGE, malformed, out_of_order, refused, statement, status, typed};
use super::{MAX_BODY, PATIENCE};
use crate::authority::{Answered, Authority, Failure};
use crate::credential;

/// Next nonce of a connection, in hex.
const NONCE: HeaderName = HeaderName::from_static("portcullis-nonce");

const BUNDLE: &str = "application/vnd.portcullis.bundle";

type Shared = State<Arc<Authority>>;
type OnConnection = Extension<Arc<Connection>>;

pub(crate) fn routes(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/attest", post(attest))
        .route("/v1/nonce", post(nonce))
        .route("/v1/activate", post(activate))
        .route("/v1/permits", post(permits))
        .route("/v1/executions", post(executions))
        .route("/v1/status/0", get(status))
        .route("/v1/events", get(events))
        .route("/v1/policy", get(policy).post(activate_policy))
        .route("/v1/policy/after/{digest}", get(policy_after))
        .route("/v1/revocations", post(revoke))
        .route("/v1/instance", post(activate_instance))
        .merge(auditors::routes(Arc::clone(&authority)))
        .layer(middleware::from_fn(read_in_time))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(authority)
}

/// Reads the whole body before it is processed, with a limit on its size and on the
/// time.
async fn read_in_time(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let limited = http_body_util::Limited::new(body, MAX_BODY);
    match tokio::time::timeout(PATIENCE, limited.collect()).await {
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body took too long").into_response(),
        Ok(Err(_)) => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off").into_response(),
        Ok(Ok(body)) => next.run(Request::from_parts(parts, Body::from(body.to_bytes()))).await,
    }
}

/// Adds the next nonce of the connection to the response header.
fn with_nonce(authority: &Authority, connection: &Connection, mut response: Response) -> Response {
    if let Ok(preimage) = authority.nonce() {
        connection.give(preimage);
        if let Ok(value) = HeaderValue::from_str(&hex(&preimage.nonce())) {
            response.headers_mut().insert(NONCE, value);
        }
    }
    response
}

async fn attest(State(authority): Shared, Extension(connection): OnConnection, body: Bytes) -> Response {
    let request = match AttestRequest::decode(&body) {
        Ok(request) => request,
        Err(error) => return not_understood(&authority, &error.to_string()),
    };
    let answered = authority.attest(&request.nonce, connection.channel, request.seen_size).await;
    match answered.and_then(|answer| Ok((answer, authority.nonce()?))) {
        Err(failure) => failure.into_response(),
        Ok((answer, preimage)) => {
            connection.shown(AuthorityStatement::digest(&answer.statement));
            connection.give(preimage);
            let response = AttestResponse { answer, nonce: preimage.nonce() };
            typed(StatusCode::OK, EXCHANGE, response.encode())
        }
    }
}

/// A fresh nonce for a connection that was idle for a while.
async fn nonce(State(authority): Shared, Extension(connection): OnConnection) -> Response {
    with_nonce(&authority, &connection, StatusCode::NO_CONTENT.into_response())
}

/// Credential activation: issues a credential for two keys, then takes its secret. It
/// is valid on this connection only, and proves nothing alone: the decision compares it
/// with quote and enrolment.
async fn activate(State(authority): Shared, Extension(connection): OnConnection, body: Bytes) -> Response {
    match ActivateRequest::decode(&body) {
        Ok(ActivateRequest::Keys { ek, ak }) => match credential::issue(&ek, &ak) {
            Ok(issued) => {
                connection.asked(issued.activation, issued.secret);
                typed(StatusCode::OK, EXCHANGE, encode_credential(&issued.credential))
            }
            Err(why) => not_understood(&authority, why),
        },
        Ok(ActivateRequest::Secret(secret)) if connection.answered(&secret) => StatusCode::NO_CONTENT.into_response(),
        Ok(ActivateRequest::Secret(_)) => {
            refused("activation.secret", "not the secret of this connection's credential")
        }
        Err(error) => not_understood(&authority, &error.to_string()),
    }
}

fn not_understood(authority: &Authority, why: &str) -> Response {
    authority.metrics.malformed.inc();
    malformed(why)
}

async fn permits(State(authority): Shared, Extension(connection): OnConnection, body: Bytes) -> Response {
    let started = Instant::now();
    let Some(session) = connection.take_session() else {
        return out_of_order("attest the authority on this connection first");
    };
    let response = match authority.decide(&body, session).await {
        Ok(Answered::Permit(permit)) => statement(StatusCode::CREATED, Kind::Permit, permit),
        Ok(Answered::Denial(denial)) => statement(StatusCode::FORBIDDEN, Kind::Denial, denial),
        Err(failure) => {
            match &failure {
                Failure::Malformed(_) => count(&authority.metrics.malformed),
                Failure::OverBudget | Failure::Counted => count(&authority.metrics.over_budget),
                Failure::Stopped(_) | Failure::Refused(_) | Failure::Internal(_) => {}
            }
            failure.into_response()
        }
    };
    authority.metrics.request_seconds.observe(started.elapsed().as_secs_f64());
    with_nonce(&authority, &connection, response)
}

fn count(counter: &Counter) {
    counter.inc();
}

async fn executions(State(authority): Shared, body: Bytes) -> Response {
    match authority.record_execution(&body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => failure.into_response(),
    }
}

/// Server-sent events. A missed event shows as a gap in the numbers. The stream ends
/// when the daemon stops.
async fn events(State(authority): Shared) -> Response {
    let Some(events) = authority.events.subscribe() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let stream = BroadcastStream::new(events).filter_map(Result::ok);
    let stream = stream.map(|sent| Ok::<_, Infallible>(sse::Event::default().event(sent.kind.name()).data(sent.text)));
    Sse::new(stream).into_response()
}

async fn policy(State(authority): Shared) -> Response {
    typed(StatusCode::OK, BUNDLE, authority.bundle().bytes().to_vec())
}

/// A node that missed bundles fetches them one after another.
async fn policy_after(State(authority): Shared, Path(digest): Path<String>) -> Response {
    let Some(digest) = unhex_array(&digest) else { return StatusCode::NOT_FOUND.into_response() };
    // Blocking: it reads files, and the log if a file is damaged.
    let found = tokio::task::spawn_blocking(move || authority.successor(&digest)).await;
    match found.unwrap_or_else(|error| Err(Failure::Internal(error.to_string()))) {
        Ok(Some(bundle)) => typed(StatusCode::OK, BUNDLE, bundle),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn activate_policy(State(authority): Shared, body: Bytes) -> Response {
    match authority.activate_policy(&body).await {
        Ok(version) => (StatusCode::OK, format!("bundle version {version} is active\n")).into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn revoke(State(authority): Shared, body: Bytes) -> Response {
    match authority.revoke(&body).await {
        Ok(done) => (StatusCode::OK, format!("{done}\n")).into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn activate_instance(State(authority): Shared, body: Bytes) -> Response {
    match authority.activate_instance(&body).await {
        Ok(()) => (StatusCode::OK, "endorsement is active\n").into_response(),
        Err(failure) => failure.into_response(),
    }
}
