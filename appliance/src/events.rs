//! The event stream: typed, signed, numbered.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use data_encoding::BASE64;
use portcullis_permit::{Event, EventKind, SigningKey};
use tokio::sync::broadcast;

use crate::clock;

/// Time between heartbeats.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);
/// Events that a slow reader may lag behind; beyond that it sees a gap.
const BACKLOG: usize = 64;

/// One event as it stands in the stream.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) kind: EventKind,
    pub(crate) text: String,
}

pub(crate) struct Events {
    sequence: Mutex<u64>,
    sender: broadcast::Sender<Sent>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { sequence: Mutex::new(0), sender: broadcast::channel(BACKLOG).0 }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Sent> {
        self.sender.subscribe()
    }

    /// Signs and sends the next event. Without a reader it is only counted.
    pub(crate) fn send(&self, kind: EventKind, key: &SigningKey, origin: &str) {
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        *sequence = sequence.saturating_add(1);
        let event = Event { sequence: *sequence, time: clock::now(), kind };
        if let Ok(signed) = event.sign(key, origin) {
            drop(self.sender.send(Sent { kind, text: BASE64.encode(&signed) }));
        }
    }
}
