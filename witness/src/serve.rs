//! The listener.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use portcullis_cli::say;
use portcullis_lineage::{AddCheckpoint, Cosigner, MAX_REQUEST, VerifyingKey, WitnessRefusal, witness};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::state::State;

/// Maximum number of simultaneous connections.
const MAX_CONNECTIONS: usize = 64;
/// Time limit of a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Delay before the next connection is accepted, after an error.
const PAUSE: Duration = Duration::from_millis(100);

struct Witness {
    cosigner: Cosigner,
    logs: HashMap<String, Log>,
    state: State,
}

struct Log {
    key: VerifyingKey,
    /// One request at a time: the stored and the cosigned checkpoint must be the same.
    turn: Mutex<()>,
}

/// Serves until a signal stops it.
pub(crate) async fn serve(config: &Config) -> Result<()> {
    let keys = config.log_keys()?;
    let state = State::open(&config.state).with_context(|| config.state.display().to_string())?;
    for key in &keys {
        state.last(key).with_context(|| format!("what is remembered of {}", key.origin()))?;
    }
    let logs = keys.into_iter().map(|key| (key.origin().to_owned(), Log { key, turn: Mutex::default() })).collect();
    let witness = Arc::new(Witness { cosigner: config.cosigner()?, logs, state });
    let listener = TcpListener::bind(config.listen).await.with_context(|| config.listen.to_string())?;
    say!("{} listens on {}", witness.cosigner.public(), listener.local_addr()?);
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let graceful = GracefulShutdown::new();
    tokio::select! {
        () = listen(witness, &listener, &graceful) => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    drop(listener);
    // Requests in progress are answered.
    drop(tokio::time::timeout(PATIENCE, graceful.shutdown()).await);
    Ok(())
}

/// Accepts connections in an endless loop.
async fn listen(witness: Arc<Witness>, listener: &TcpListener, graceful: &GracefulShutdown) {
    let routes = Router::new()
        .route("/", get(name))
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(witness);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("portcullis-witness: no connection can be accepted: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let service = TowerToHyperService::new(routes.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            drop(tokio::time::timeout(PATIENCE, connection).await);
            drop(slot);
        });
    }
}

async fn name(Shared(witness): Shared<Arc<Witness>>) -> String {
    format!("{}\n", witness.cosigner.public())
}

async fn add_checkpoint(Shared(witness): Shared<Arc<Witness>>, body: Bytes) -> Response {
    // The call waits for the disk.
    let answered = tokio::task::spawn_blocking(move || witness.add(&body)).await;
    match answered {
        Ok(Ok(Ok(line))) => (StatusCode::OK, line).into_response(),
        Ok(Ok(Err(refusal))) => refused(&refusal),
        Ok(Err(error)) => {
            eprintln!("portcullis-witness: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the witness cannot remember\n").into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refused(refusal: &WitnessRefusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match refusal {
        WitnessRefusal::Conflict { size } => {
            (status, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
        }
        other => (status, format!("{other}\n")).into_response(),
    }
}

impl Witness {
    fn add(&self, body: &[u8]) -> io::Result<Result<String, WitnessRefusal>> {
        let request = std::str::from_utf8(body).ok().and_then(AddCheckpoint::decode);
        let Some(request) = request else { return Ok(Err(WitnessRefusal::Malformed)) };
        let Some(Log { key, turn }) = request.origin().and_then(|origin| self.logs.get(origin)) else {
            return Ok(Err(WitnessRefusal::UnknownLog));
        };
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.state.last(key)?.map(|last| (last.size(), *last.root()));
        let checkpoint = match witness(&request, key, last) {
            Ok(checkpoint) => checkpoint,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if last.is_none_or(|(size, _)| size < checkpoint.size()) {
            self.state.remember(key, &checkpoint)?;
        }
        Ok(Ok(self.cosigner.cosign(&checkpoint, now())))
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the witness reads the clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
