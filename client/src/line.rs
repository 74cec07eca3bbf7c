//! A gate's connection to its authority.
//!
//! ```text
//! ask   the stored session, with a short time limit   a broken one is dropped
//!       or a new one: the authority attests itself again
//!       a permit also on another new one, if that breaks
//! ```
//!
//! Concurrent requests do not wait for each other: a request that finds no stored
//! session opens a new one. The last session that answered is stored.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_permit::{Execution, SigningKey, Status, StatusReference, VerifiedPermit};

use crate::clock;
use crate::config::{Config, Trust};
use crate::devices::Devices;
use crate::refusal::ClientError;
use crate::session::{Ask, Session};

/// Time limit for a step on a stored session: the connection may have been lost without
/// notice, and a new one takes little time.
const KEPT_PATIENCE: Duration = Duration::from_secs(2);

/// The connection to the authority.
pub(crate) struct Line {
    config: Config,
    inner: Mutex<Inner>,
}

struct Inner {
    trust: Trust,
    kept: Option<Session>,
    /// `CLOCK_BOOTTIME` of the last answer.
    heard: Duration,
}

/// A permit, with the end of its lease.
pub(crate) struct Granted {
    pub(crate) permit: VerifiedPermit,
    /// `CLOCK_BOOTTIME`; the lease starts when the permit is requested.
    pub(crate) deadline: Duration,
}

impl Line {
    pub(crate) fn new(config: Config, trust: Trust) -> Self {
        let inner = Inner { trust, kept: None, heard: clock::boot_time() };
        Self { config, inner: Mutex::new(inner) }
    }

    /// The current trust anchors of this node.
    pub(crate) fn trust(&self) -> Trust {
        self.inner().trust.clone()
    }

    /// Records a sign of life of the authority.
    pub(crate) fn heard(&self) {
        self.inner().heard = clock::boot_time();
    }

    /// Time since the authority's last sign of life.
    pub(crate) fn silence(&self) -> Duration {
        clock::boot_time().saturating_sub(self.inner().heard)
    }

    /// Opens a session with the bundle in force.
    pub(crate) async fn open(&self, patience: Duration) -> Result<Session, ClientError> {
        let mut trust = self.trust();
        let mut session = Session::open_within(patience, &self.config, &trust).await?;
        session.update(&mut trust).await?;
        let mut inner = self.inner();
        inner.heard = clock::boot_time();
        if trust.bundle.policy().version > inner.trust.bundle.policy().version {
            inner.trust = trust;
        }
        Ok(session)
    }

    /// Requests a permit for the current state of this machine.
    pub(crate) async fn permit(
        &self,
        devices: &Devices,
        ask: Ask<'_>,
        patience: Duration,
    ) -> Result<Granted, ClientError> {
        if let Some(mut session) = self.take(patience) {
            session.forget_nonce();
            match self.permit_on(&mut session, devices, ask, patience).await {
                Err(error) if error.is_of_session() => {}
                outcome => return self.keep(session, outcome),
            }
        }
        let mut session = self.open(patience).await?;
        let mut outcome = self.permit_on(&mut session, devices, ask, patience).await;
        if outcome.as_ref().is_err_and(ClientError::is_of_session) {
            session = self.open(patience).await?;
            outcome = self.permit_on(&mut session, devices, ask, patience).await;
        }
        self.keep(session, outcome)
    }

    async fn permit_on(
        &self,
        session: &mut Session,
        devices: &Devices,
        ask: Ask<'_>,
        patience: Duration,
    ) -> Result<Granted, ClientError> {
        let sent = clock::boot_time();
        session.challenge().await?;
        // The authority answers, so evidence and decision may take longer.
        session.set_patience(patience.saturating_mul(2));
        let permit = session.permit(devices, ask, &self.trust()).await?;
        let deadline = sent.saturating_add(Duration::from_secs(permit.granted_seconds()));
        Ok(Granted { permit, deadline })
    }

    /// Whether a permit is valid, and until when (`CLOCK_BOOTTIME`) the answer holds,
    /// counted from the time of the request.
    pub(crate) async fn status(
        &self,
        reference: &StatusReference,
        patience: Duration,
    ) -> Result<Duration, ClientError> {
        if let Some(mut session) = self.take(patience) {
            match status_on(&mut session, reference).await {
                Err(error) if error.is_of_session() => {}
                outcome => return self.keep(session, outcome),
            }
        }
        let mut session = self.open(patience).await?;
        let outcome = status_on(&mut session, reference).await;
        self.keep(session, outcome)
    }

    /// Reports an execution. If the answer is lost, the report is sent again, and is then
    /// in the log twice.
    pub(crate) async fn report(
        &self,
        execution: &Execution,
        key: &SigningKey,
        patience: Duration,
    ) -> Result<(), ClientError> {
        if let Some(mut session) = self.take(patience) {
            match session.report(execution, key).await {
                Err(error) if error.is_of_session() => {}
                outcome => return self.keep(session, outcome),
            }
        }
        let mut session = self.open(patience).await?;
        let outcome = session.report(execution, key).await;
        self.keep(session, outcome)
    }

    /// The stored session, if it is usable: open, and the authority attested itself within
    /// the last lease.
    fn take(&self, patience: Duration) -> Option<Session> {
        let mut inner = self.inner();
        let lease = Duration::from_secs(inner.trust.bundle.policy().lease_seconds);
        let mut session = inner.kept.take().filter(|kept| !kept.is_closed() && kept.age() < lease)?;
        session.set_patience(patience.min(KEPT_PATIENCE));
        Some(session)
    }

    /// Stores a session that answered, whatever the answer.
    fn keep<T>(&self, session: Session, outcome: Result<T, ClientError>) -> Result<T, ClientError> {
        if matches!(outcome, Ok(_) | Err(ClientError::Denied(_))) {
            let mut inner = self.inner();
            inner.heard = clock::boot_time();
            inner.kept = Some(session);
        }
        outcome
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn status_on(session: &mut Session, reference: &StatusReference) -> Result<Duration, ClientError> {
    let sent = clock::boot_time();
    match session.status(reference).await? {
        (Status::Valid, seconds) => Ok(sent.saturating_add(Duration::from_secs(seconds))),
        (status, _) => Err(ClientError::withdrawn(status)),
    }
}
