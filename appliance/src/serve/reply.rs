//! Outcomes as HTTP responses. Every refusal states its reason once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portcullis_firmware_policy::{Reader, remedy};
use portcullis_permit::Kind;

use crate::authority::{Authority, Failure};
use crate::instance::Refused;

/// Media type of our CBOR exchanges.
pub(crate) const EXCHANGE: &str = "application/vnd.portcullis.exchange+cbor";

/// For resources that change.
pub(crate) const MOVES: &str = "no-cache";
/// A full tile and an archived file never change (C2SP tlog-tiles, "Merkle Tree").
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// A partial tile does not change either, but is removed after the full one exists.
const PARTIAL: &str = "public, max-age=300";

/// How long a file of a log may be cached.
pub(crate) fn caching(path: &str) -> &'static str {
    match path.split('/').next() {
        Some("tile") if path.contains(".p/") => PARTIAL,
        Some("tile" | "archive") => FOR_EVER,
        _ => MOVES,
    }
}

/// A body with its media type.
pub(crate) fn typed(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], body.into()).into_response()
}

/// A signed statement.
pub(crate) fn statement(status: StatusCode, kind: Kind, body: impl Into<Body>) -> Response {
    typed(status, kind.media_type(), body)
}

/// The status list: the same for nodes and for readers.
pub(crate) async fn status(State(authority): State<Arc<Authority>>) -> Response {
    match authority.status_list() {
        Ok(list) => statement(StatusCode::OK, Kind::StatusList, list),
        Err(failure) => failure.into_response(),
    }
}

/// A refusal that is not a decision: RFC 9457 problem details.
fn problem(status: StatusCode, check: &str, detail: &str, reader: Reader) -> Response {
    let remedy = remedy(check, reader);
    let body = serde_json::json!({ "title": check, "detail": detail, "remedy": remedy, "status": status.as_u16() });
    typed(status, "application/problem+json", body.to_string().into_bytes())
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Malformed(error) => problem(StatusCode::BAD_REQUEST, error.check(), &error.to_string(), Reader::Node),
            Self::Stopped(stopped) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, &stopped.check, &stopped.why, Reader::Node)
            }
            // Only commands of governors are refused in this way.
            Self::Refused(Refused { check, why }) => problem(StatusCode::FORBIDDEN, &check, &why, Reader::Governor),
            Self::OverBudget => {
                problem(StatusCode::TOO_MANY_REQUESTS, "budget", "every status index is in use", Reader::Node)
            }
            Self::Counted => {
                let denied = "denied, and counted in the log with other strangers";
                problem(StatusCode::TOO_MANY_REQUESTS, "budget.strangers", denied, Reader::Node)
            }
            Self::Internal(why) => {
                tracing::error!(why, "internal failure");
                let failed = "the authority failed; see its log";
                problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", failed, Reader::Node)
            }
        }
    }
}

/// A request that arrived before the exchange that it depends on.
pub(crate) fn out_of_order(detail: &str) -> Response {
    problem(StatusCode::CONFLICT, "exchange.order", detail, Reader::Node)
}

/// A failed step of an exchange.
pub(crate) fn refused(check: &str, detail: &str) -> Response {
    problem(StatusCode::FORBIDDEN, check, detail, Reader::Node)
}

/// A body that is not one of our exchanges.
pub(crate) fn malformed(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "exchange.form", detail, Reader::Node)
}
