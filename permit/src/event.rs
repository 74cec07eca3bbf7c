//! Events: typed, signed, numbered. A gap or a missed heartbeat makes a gate
//! fetch the status list, so a suppressed event delays nothing for long.

use portcullis_wire::{Error, Fields, decode, encode, map};

use crate::error::PermitError;
use crate::key::{PublicKey, SigningKey};
use crate::statement::{self, Kind};

const MAX_EVENT: usize = 4096;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Nothing: the stream is alive.
    Heartbeat,
    /// The status list changed.
    Status,
    /// A bundle took effect.
    Policy,
    /// The authority stopped signing.
    Trip,
}

impl EventKind {
    const ALL: [Self; 4] = [Self::Heartbeat, Self::Status, Self::Policy, Self::Trip];

    const fn number(self) -> u64 {
        match self {
            Self::Heartbeat => 0,
            Self::Status => 1,
            Self::Policy => 2,
            Self::Trip => 3,
        }
    }

    /// The name in the event stream.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Status => "status",
            Self::Policy => "policy",
            Self::Trip => "trip",
        }
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Number; each event has the next one.
    pub sequence: u64,
    /// Unix seconds.
    pub time: u64,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// Signs the event.
    ///
    /// # Errors
    /// [`PermitError::Signing`].
    pub fn sign(&self, key: &SigningKey, issuer: &str) -> Result<Vec<u8>, PermitError> {
        let payload = map([(1, self.sequence.into()), (2, self.time.into()), (3, self.kind.number().into())]);
        statement::sign(Kind::Event, key, issuer, self.kind.name(), &encode(&payload))
    }

    /// Verifies a signed event.
    ///
    /// # Errors
    /// [`PermitError`].
    pub fn verify(bytes: &[u8], key: &PublicKey) -> Result<Self, PermitError> {
        let statement = statement::verify(bytes, Kind::Event, key)?;
        let mut fields = Fields::of(decode(statement.payload(), MAX_EVENT)?)?;
        let (sequence, time, number) = (fields.uint(1)?, fields.uint(2)?, fields.uint(3)?);
        fields.finish()?;
        let kind = EventKind::ALL.into_iter().find(|kind| kind.number() == number).ok_or(Error::WrongType(3))?;
        Ok(Self { sequence, time, kind })
    }
}
