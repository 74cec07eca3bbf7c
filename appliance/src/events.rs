//! The event stream: typed, signed, numbered events.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::BASE64;
use portcullis_permit::{Event, EventKind, SigningKey};
use tokio::sync::broadcast;

use crate::clock;

/// Time between heartbeats.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);
/// Events by which a slow reader may lag; beyond that it sees a gap.
const BACKLOG: usize = 64;

/// One event as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) kind: EventKind,
    pub(crate) text: String,
}

pub(crate) struct Events {
    sequence: Mutex<u64>,
    /// `None` after the daemon stops: then every stream ends.
    sender: Mutex<Option<broadcast::Sender<Sent>>>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { sequence: Mutex::new(0), sender: Mutex::new(Some(broadcast::channel(BACKLOG).0)) }
    }

    /// Subscribes to all later events; `None` after the daemon stops.
    pub(crate) fn subscribe(&self) -> Option<broadcast::Receiver<Sent>> {
        self.sender().as_ref().map(broadcast::Sender::subscribe)
    }

    /// Ends every stream after its reader has received all earlier events.
    pub(crate) fn close(&self) {
        self.sender().take();
    }

    fn sender(&self) -> MutexGuard<'_, Option<broadcast::Sender<Sent>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs and sends the next event. Without a reader, only its number is used up.
    pub(crate) fn send(&self, kind: EventKind, key: &SigningKey, origin: &str) {
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        *sequence = sequence.saturating_add(1);
        let event = Event { sequence: *sequence, time: clock::now(), kind };
        if let (Ok(signed), Some(sender)) = (event.sign(key, origin), self.sender().as_ref()) {
            drop(sender.send(Sent { kind, text: BASE64.encode(&signed) }));
        }
    }
}
