//! `/v1/log`: the whole log, for auditors whose keys the bundle names.
//!
//! Entries name chips and nodes, and the archive holds their evidence. Both help an
//! attacker, so only auditors may read them. Hash tiles and checkpoints are public, on
//! the plain listener.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use portcullis_lineage::{FileStorage, Storage};
use tower_http::services::ServeDir;

use super::connection::Connection;
use super::reply::{caching, refused, typed};
use crate::authority::{Authority, Failure};
use crate::instance::log_folder;

/// Files and folders of a log; other files there are private to the authority.
const PARTS: [&str; 6] = ["checkpoint", "signed-root", "witnessed", "tile", "journal", "archive"];

type Shared = State<Arc<Authority>>;

pub(crate) fn routes(authority: Arc<Authority>) -> Router<Arc<Authority>> {
    let files = ServeDir::new(log_folder(&authority.config)).append_index_html_on_directories(false);
    Router::new()
        .route("/v1/log/segments", get(segments))
        .nest_service("/v1/log", files)
        .route_layer(middleware::from_fn_with_state(authority, for_auditors))
}

/// Admits clients with enrolled keys to the files of the log.
async fn for_auditors(
    State(authority): Shared,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
    next: Next,
) -> Response {
    let bundle = authority.bundle();
    let Some(auditor) = bundle.policy().auditors.get(&connection.channel.peer_key) else {
        return refused("auditor.key", "no auditor of the active bundle has the key of this connection");
    };
    let path = request.uri().path().strip_prefix("/v1/log/").unwrap_or_default().to_owned();
    let part = path.split('/').next().unwrap_or_default();
    if part == "segments" {
        tracing::info!(auditor, "the log is read");
    } else if !PARTS.contains(&part) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut response = next.run(request).await;
    let caching = if response.status().is_success() { caching(&path) } else { "no-cache" };
    // Private, so that shared caches do not store it.
    if let Ok(value) = HeaderValue::from_str(&caching.replace("public", "private")) {
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    response
}

/// The segments of the journal, one per line: first entry and current length in bytes.
async fn segments(State(authority): Shared) -> Response {
    let folder = log_folder(&authority.config);
    let list = || -> std::io::Result<String> {
        let mut lines = String::new();
        for first in FileStorage::reader(&folder).segments()? {
            let name = format!("{first:020}");
            let length = std::fs::metadata(folder.join("journal").join(&name))?.len();
            lines.push_str(&format!("{name} {length}\n"));
        }
        Ok(lines)
    };
    match list() {
        Ok(lines) => typed(StatusCode::OK, "text/plain; charset=utf-8", lines),
        Err(error) => Failure::Internal(format!("journal: {error}")).into_response(),
    }
}
