//! The way from a gate to its authority.
//!
//! ```text
//! ask   the kept session, with little patience     a broken one is dropped
//!       else a new one: the authority proves itself again
//!       a permit also on another new one, if that breaks
//! ```
//!
//! Asks at the same time do not wait for each other: the one that finds no kept
//! session opens its own. The last one that answered is kept.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_permit::{Execution, SigningKey, Status, StatusReference, VerifiedPermit};

use crate::clock;
use crate::config::{Config, Trust};
use crate::devices::Devices;
use crate::refusal::ClientError;
use crate::session::{Ask, Session};

/// How long a step on a kept session is waited for: it may have been cut without
/// a word, and a new one takes little time.
const KEPT_PATIENCE: Duration = Duration::from_secs(2);

/// The way to the authority.
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
    /// `CLOCK_BOOTTIME`; the lease runs from the moment at which it was asked for.
    pub(crate) deadline: Duration,
}

impl Line {
    pub(crate) fn new(config: Config, trust: Trust) -> Self {
        let inner = Inner { trust, kept: None, heard: clock::boot_time() };
        Self { config, inner: Mutex::new(inner) }
    }

    /// What this node trusts by now.
    pub(crate) fn trust(&self) -> Trust {
        self.inner().trust.clone()
    }

    /// The authority gave a sign of life.
    pub(crate) fn heard(&self) {
        self.inner().heard = clock::boot_time();
    }

    /// For how long the authority has given no sign of life.
    pub(crate) fn silence(&self) -> Duration {
        clock::boot_time().saturating_sub(self.inner().heard)
    }

    /// A new session, with the bundle that is in force.
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

    /// A permit for this machine as it is now.
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
        // It answers: evidence and decision may take longer.
        session.set_patience(patience.saturating_mul(2));
        let permit = session.permit(devices, ask, &self.trust()).await?;
        let deadline = sent.saturating_add(Duration::from_secs(permit.granted_seconds()));
        Ok(Granted { permit, deadline })
    }

    /// Whether a permit is valid, and until when (`CLOCK_BOOTTIME`) the answer
    /// holds, counted from the moment at which it was asked for.
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

    /// Reports an execution. One whose answer got lost is reported twice, and then
    /// stands twice in the log.
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

    /// The kept session, if it is of use: open, and the authority has proven itself
    /// within the last lease.
    fn take(&self, patience: Duration) -> Option<Session> {
        let mut inner = self.inner();
        let lease = Duration::from_secs(inner.trust.bundle.policy().lease_seconds);
        let mut session = inner.kept.take().filter(|kept| !kept.is_closed() && kept.age() < lease)?;
        session.set_patience(patience.min(KEPT_PATIENCE));
        Some(session)
    }

    /// Keeps a session that gave an answer, whatever it was.
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
