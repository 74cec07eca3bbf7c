//! The authority's event stream, as seen by a gate.
//!
//! An event only makes the gate check the status list sooner. A lost, forged or late
//! event has no effect beyond the limit that the lease sets.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use http_body_util::BodyExt;
use hyper::Method;
use portcullis_permit::{Event, EventKind, PublicKey};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::http::PATIENCE;
use crate::line::Line;
use crate::refusal::ClientError;

/// A missed heartbeat; the authority sends one every two seconds.
const SILENCE: Duration = Duration::from_secs(5);
/// Time before a lost stream is opened again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest line of the stream, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// The gate's reaction to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Check the status list: something changed, was missed, or is unknown.
    Look,
    /// The authority states that it stopped signing.
    Tripped,
}

/// Follows the stream over a separate session until the receiver is closed.
pub(crate) async fn follow(line: Arc<Line>, signals: mpsc::Sender<Signal>) {
    loop {
        // Whatever ended the stream, events may have been missed.
        drop(read_stream(&line, &signals).await);
        if signals.send(Signal::Look).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read_stream(line: &Line, signals: &mpsc::Sender<Signal>) -> Result<(), ClientError> {
    let mut session = line.open(PATIENCE).await?;
    let key = session.authority().endorsement().permit_key.clone();
    let mut body = session.connection().send(Method::GET, "/v1/events", Vec::new()).await?.into_body();
    let (mut pending, mut last) = (Vec::new(), None);
    let lease = Duration::from_secs(line.trust().bundle.policy().lease_seconds);
    // After a lease, the stream is opened again, and the authority attests itself again.
    while session.age() < lease {
        let frame =
            timeout(SILENCE, body.frame()).await.map_err(|_| ClientError::Unreachable("missed heartbeat".into()))?;
        let Some(Ok(frame)) = frame else { return Err(ClientError::Unreachable("the stream ended".into())) };
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let text: Vec<u8> = pending.drain(..=end).collect();
            let signal = judge(&text, &key, &mut last)?;
            line.heard();
            if let Some(signal) = signal {
                signals.send(signal).await.map_err(|_| ClientError::Unreachable("nobody listens".into()))?;
            }
        }
        if pending.len() > MAX_LINE {
            return Err(ClientError::Unreachable("a line without end".into()));
        }
    }
    Ok(())
}

/// Interprets a line of the stream. Only signed events count; a gap in their numbers
/// means that an event was missed.
fn judge(line: &[u8], key: &PublicKey, last: &mut Option<u64>) -> Result<Option<Signal>, ClientError> {
    let text = String::from_utf8_lossy(line);
    let Some(data) = text.trim_end().strip_prefix("data: ") else { return Ok(None) };
    let signed = BASE64.decode(data.as_bytes()).map_err(|_| ClientError::Unreachable("no event".into()))?;
    let event = Event::verify(&signed, key)?;
    let expected = last.and_then(|last: u64| last.checked_add(1));
    let gap = expected.is_some_and(|expected| expected != event.sequence);
    *last = Some(event.sequence);
    Ok(match event.kind {
        EventKind::Trip => Some(Signal::Tripped),
        EventKind::Status | EventKind::Policy => Some(Signal::Look),
        EventKind::Heartbeat if gap => Some(Signal::Look),
        EventKind::Heartbeat => None,
    })
}
