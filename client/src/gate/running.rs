//! The state of a gate while its program runs, and its reaction to the authority's
//! answers.
//!
//! The program is killed when the lease or the last good status list ends. Both are
//! renewed long before, with retries. Only a signed statement of the authority kills it
//! earlier.

use std::sync::Arc;
use std::time::Duration;

use portcullis_permit::{PermitId, SigningKey, VerifiedPermit, Workload};

use super::errand::Errand;
use crate::devices::Devices;
use crate::line::{Granted, Line};
use crate::refusal::ClientError;
use crate::session::Ask;

/// Parameters of the gate's requests.
pub(super) struct Asker {
    pub(super) line: Arc<Line>,
    pub(super) key: Arc<SigningKey>,
    pub(super) devices: Devices,
    pub(super) workload: Workload,
}

impl Asker {
    pub(super) async fn permit(&self, parent: Option<PermitId>, patience: Duration) -> Result<Granted, ClientError> {
        let ask = Ask { key: &self.key, workload: &self.workload, parent };
        self.line.permit(&self.devices, ask, patience).await
    }

    pub(super) async fn status(&self, permit: &VerifiedPermit, patience: Duration) -> Result<Duration, ClientError> {
        self.line.status(&permit.permit().status, patience).await
    }
}

/// Why the gate stops the program.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) check: String,
    pub(super) why: String,
}

impl Stop {
    fn because(check: &str, why: String) -> Self {
        Self { check: check.to_owned(), why }
    }

    /// A decision of the authority.
    fn decided(error: &ClientError) -> Self {
        Self::because(error.first_check().unwrap_or("lease.renewal"), error.to_string())
    }
}

/// A program's permit and its pending requests. Times are `CLOCK_BOOTTIME`.
pub(super) struct Running {
    pub(super) permit: Arc<VerifiedPermit>,
    pub(super) first: PermitId,
    pub(super) renewals: u64,
    /// When the lease ends.
    pub(super) deadline: Duration,
    /// When the last good status list ends.
    status_until: Duration,
    pub(super) renewal: Errand<Granted>,
    pub(super) look: Errand<Duration>,
}

impl Running {
    pub(super) fn new(granted: Granted, status_until: Duration, now: Duration) -> Self {
        let first = granted.permit.permit().id;
        let (permit, deadline) = (Arc::new(granted.permit), granted.deadline);
        Self {
            renewal: Errand::due_at(half_life(&permit, deadline), "the renewal of the permit"),
            look: Errand::due_at(next_look(now, status_until), "the look at the permit's status"),
            permit,
            first,
            renewals: 0,
            deadline,
            status_until,
        }
    }

    /// When the gate must act next.
    pub(super) fn wakes(&self) -> Duration {
        self.renewal.wakes().min(self.look.wakes()).min(self.deadline).min(self.status_until)
    }

    /// Starts the requests that are due.
    pub(super) fn start_errands(&mut self, asker: &Arc<Asker>, now: Duration) {
        let (lease, status) = (self.deadline.saturating_sub(now), self.status_until.saturating_sub(now));
        self.renewal.start_if_due(now, lease, |patience| {
            let (asker, parent) = (Arc::clone(asker), self.permit.permit().id);
            async move { asker.permit(Some(parent), patience).await }
        });
        self.look.start_if_due(now, status, |patience| {
            let (asker, permit) = (Arc::clone(asker), Arc::clone(&self.permit));
            async move { asker.status(&permit, patience).await }
        });
    }

    /// Whether the lease or the status list has ended. If both have, the lease is the
    /// stated reason.
    pub(super) fn lapsed(&self, now: Duration) -> Option<Stop> {
        if now >= self.deadline {
            let reason = self.renewal.reason();
            return Some(Stop::because("lease.expired", format!("the lease ended without a renewal{reason}")));
        }
        if now >= self.status_until {
            let why = format!("the last status list of the permit ended without another{}", self.look.reason());
            return Some(Stop::because("permit.status.expired", why));
        }
        None
    }

    /// Handles the answer to a renewal. `extend` moves the deadline that init enforces.
    pub(super) fn renewed(
        &mut self,
        outcome: Result<Granted, ClientError>,
        now: Duration,
        extend: impl FnOnce(Duration) -> std::io::Result<()>,
    ) -> Result<(), Stop> {
        let granted = outcome.and_then(|granted| {
            let extended = extend(granted.deadline);
            extended.map_err(|error| ClientError::Own(anyhow::anyhow!("init takes no orders: {error}")))?;
            Ok(granted)
        });
        match granted {
            Ok(granted) => {
                (self.permit, self.deadline) = (Arc::new(granted.permit), granted.deadline);
                self.renewals = self.renewals.saturating_add(1);
                self.renewal.succeeded(half_life(&self.permit, self.deadline));
                // The new permit has a separate status.
                self.look.hurry();
                Ok(())
            }
            Err(error) if error.is_final() => Err(Stop::decided(&error)),
            Err(error) => {
                self.renewal.failed(now, self.deadline.saturating_sub(now), &error);
                Ok(())
            }
        }
    }

    /// Handles the answer to a status check.
    pub(super) fn looked(&mut self, outcome: Result<Duration, ClientError>, now: Duration) -> Result<(), Stop> {
        match outcome {
            Ok(until) => {
                self.status_until = until;
                self.look.succeeded(next_look(now, until));
                Ok(())
            }
            Err(error) if error.is_final() => Err(Stop::decided(&error)),
            Err(error) => {
                self.look.failed(now, self.status_until.saturating_sub(now), &error);
                Ok(())
            }
        }
    }
}

/// A permit is renewed from the middle of its lease.
fn half_life(permit: &VerifiedPermit, deadline: Duration) -> Duration {
    let granted = Duration::from_secs(permit.granted_seconds());
    deadline.saturating_sub(granted.checked_div(2).unwrap_or_default())
}

/// A status list is replaced after a third of its validity, so that the authority may
/// be unreachable for the rest of it.
fn next_look(now: Duration, until: Duration) -> Duration {
    now.saturating_add(until.saturating_sub(now).checked_div(3).unwrap_or_default())
}
