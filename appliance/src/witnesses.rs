//! Witnesses: every head is sent to the witnesses that the bundle names, and every
//! permit carries the cosignatures of a quorum.
//!
//! One witness that fails, lies or lags stops nothing, because a quorum is enough. If a
//! witness reports that it has seen a larger tree, that is an unproven claim; it only
//! means that this witness does not cosign. If so many do not cosign that the quorum is
//! older than the bundle allows, the authority issues no permit, because gates would
//! refuse it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use portcullis_firmware_policy::policy::Witnesses;
use portcullis_lineage::{AddCheckpoint, View};
use portcullis_permit::{Checkpoint, Clock, WitnessKey, WitnessQuorum, Witnessed};
use portcullis_wire::rfc3339;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock;

/// Longest wait for one witness.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Answers of the witnesses so far.
#[derive(Default)]
pub(crate) struct Vouched(Mutex<State>);

#[derive(Default)]
struct State {
    /// The newest head with a quorum of cosignatures.
    newest: Option<Newest>,
    /// Reasons of the witnesses that did not cosign the last time.
    failed: Vec<String>,
    /// Size of the tree that each witness cosigned last, if known.
    sizes: HashMap<String, u64>,
}

struct Newest {
    checkpoint: Checkpoint,
    /// `CLOCK_BOOTTIME` at which the witnesses were asked: the age of the quorum does not
    /// depend on their clocks.
    asked: Duration,
    /// When the quorum was reached by their clocks, Unix seconds.
    reached: u64,
}

/// The answer of one witness.
enum Answer {
    Cosigned(Checkpoint),
    /// The witness is at another size.
    At(u64),
    Failed(String),
}

impl Vouched {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the newest quorum was reached, Unix seconds.
    pub(crate) fn reached(&self) -> Option<u64> {
        self.state().newest.as_ref().map(|newest| newest.reached)
    }

    /// Why gates would refuse the newest quorum at a time (`CLOCK_BOOTTIME`); `None` if
    /// they accept it. Another bundle may demand witnesses that it lacks.
    pub(crate) fn lag(&self, demanded: &WitnessQuorum, now: Duration) -> Option<String> {
        let state = self.state();
        let newest = state.newest.as_ref().filter(|newest| demanded.reached(&newest.checkpoint).is_some());
        let age = newest.map(|newest| now.saturating_sub(newest.asked).as_secs());
        let found = match age {
            Some(age) if age <= demanded.max_age => return None,
            Some(age) => format!("found a quorum {age} s old"),
            None => "found no quorum".to_owned(),
        };
        let (threshold, of) = (demanded.threshold, demanded.keys.len());
        let required = format!("required {threshold} of {of} witnesses, at most {} s ago", demanded.max_age);
        let failed = state.failed.iter().map(|why| format!("; {why}")).collect::<String>();
        Some(format!("{found}, {required}{failed}"))
    }

    /// The cosignatures for a receipt of a tree of this size.
    pub(crate) fn for_tree(&self, view: &View, size: u64) -> Option<Witnessed> {
        let checkpoint = self.state().newest.as_ref()?.checkpoint.clone();
        let path = view.with_tree(|tree| tree.consistency(checkpoint.size(), size)).ok()?;
        Some(Witnessed { note: checkpoint.note().to_owned(), path })
    }

    /// Sends the head to every witness. Returns the reason of each witness that did not
    /// cosign. A witness whose clock differs from ours by more than the tolerance does not
    /// count, because a gate would not count it.
    pub(crate) async fn ask(
        &self,
        witnesses: &Witnesses,
        head: Arc<Checkpoint>,
        view: &View,
        skew: u64,
    ) -> Vec<String> {
        let (began, asked_at) = (clock::boot_time(), clock::now());
        let keys = witnesses.quorum.keys.iter().zip(&witnesses.addresses);
        let asked = keys.map(|(key, address)| {
            let known = self.state().sizes.get(key.name()).copied().unwrap_or(0);
            tokio::spawn(ask_one(key.clone(), address.clone(), Arc::clone(&head), view.clone(), known))
        });
        let asked: Vec<_> = asked.collect();
        let (mut cosigned, mut failed) = (Checkpoint::clone(&head), Vec::new());
        for (key, asked) in witnesses.quorum.keys.iter().zip(asked) {
            match asked.await {
                Ok(Answer::Cosigned(one)) => {
                    self.state().sizes.insert(key.name().to_owned(), head.size());
                    let shows = key.cosigned(&one).unwrap_or(0);
                    let early = shows.saturating_add(skew) < asked_at;
                    if early || !(Clock { now: clock::now(), skew }).has_reached(shows) {
                        let (shows, asked_at) = (rfc3339(shows), rfc3339(asked_at));
                        let why = format!("its clock shows {shows}, this one {asked_at}, {skew} s are tolerated");
                        failed.push(format!("{}: {why}", key.name()));
                        continue;
                    }
                    match key.attach(&cosigned, one.note()) {
                        Some(more) => cosigned = more,
                        None => failed.push(format!("{}: no place for its cosignature", key.name())),
                    }
                }
                Ok(Answer::At(size)) => {
                    self.state().sizes.insert(key.name().to_owned(), size);
                    failed.push(format!("{}: has seen a tree of {size}, this log has {}", key.name(), head.size()));
                }
                Ok(Answer::Failed(why)) => failed.push(format!("{}: {why}", key.name())),
                Err(_) => failed.push(format!("{}: its task failed", key.name())),
            }
        }
        let mut state = self.state();
        if let Some(reached) = witnesses.quorum.reached(&cosigned) {
            state.newest = Some(Newest { checkpoint: cosigned, asked: began, reached });
        }
        state.failed.clone_from(&failed);
        failed
    }

    /// The newest head with a quorum of cosignatures, for auditors.
    pub(crate) fn note(&self) -> Option<String> {
        self.state().newest.as_ref().map(|newest| newest.checkpoint.note().to_owned())
    }
}

/// Asks a witness, and once more if it is at another size than expected.
async fn ask_one(key: WitnessKey, address: String, head: Arc<Checkpoint>, view: View, known: u64) -> Answer {
    let first = send(&key, &address, &head, &view, known.min(head.size())).await;
    match first {
        Answer::At(size) if size <= head.size() && size != known => send(&key, &address, &head, &view, size).await,
        other => other,
    }
}

async fn send(key: &WitnessKey, address: &str, head: &Checkpoint, view: &View, old: u64) -> Answer {
    let proof = match view.with_tree(|tree| tree.consistency(old, head.size())) {
        Ok(proof) => proof,
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let body = AddCheckpoint { old, proof, note: head.note().to_owned() }.encode();
    match timeout(PATIENCE, post(address, body)).await {
        Err(_) => Answer::Failed("no answer in time".into()),
        Ok(Err(error)) => Answer::Failed(format!("{error:#}")),
        Ok(Ok((StatusCode::OK, answer))) => {
            let cosigned = key.attach(head, &answer);
            cosigned.map_or_else(|| Answer::Failed("not its cosignature".into()), Answer::Cosigned)
        }
        Ok(Ok((StatusCode::CONFLICT, answer))) => {
            let size = answer.trim().parse().ok();
            size.map_or_else(|| Answer::Failed("a conflict without a size".into()), Answer::At)
        }
        Ok(Ok((status, _))) => Answer::Failed(format!("HTTP {status}")),
    }
}

async fn post(address: &str, body: String) -> anyhow::Result<(StatusCode, String)> {
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let path = if path.is_empty() { String::new() } else { format!("/{path}") };
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(async move { drop(connection.await) });
    let request = Request::post(format!("{path}/add-checkpoint")).header("host", host);
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    driver.abort();
    let answer = answer.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&answer).into_owned()))
}
