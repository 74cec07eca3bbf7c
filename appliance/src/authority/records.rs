//! Log entries about the authority itself, and the only function that appends to the
//! log.

use anyhow::{Context, Result};
use portcullis_lineage::{Blob, Committed, NewEntry, put_number};
use portcullis_permit::{
    BootRecord, EventKind, Execution, Kind, RetentionRecord, SnapshotRecord, TripRecord, statement,
};
use portcullis_wire::sha256;
use tokio::sync::oneshot;

use super::{Answered, Authority, Failure};
use crate::clock;
use crate::instance::Refused;
use crate::metrics::ByCheck;
use crate::recover;
use crate::signer::Stopped;

impl Authority {
    /// Hands an entry to the log and waits until it is durable. A log that
    /// cannot be written trips the authority.
    pub(super) async fn append(
        &self,
        statement: Vec<u8>,
        blobs: Vec<Blob>,
        seen: Option<u64>,
    ) -> Result<Committed, Failure> {
        let (reply, outcome) = oneshot::channel();
        self.writer.append(NewEntry { statement, blobs, seen }, move |done| drop(reply.send(done)));
        match outcome.await {
            Ok(Ok(committed)) => {
                self.metrics.log_size.set(committed.checkpoint().size());
                // The entry is in the log, but the answer is withheld while another start may
                // run.
                self.fenced().map_or(Ok(committed), |stopped| Err(stopped.into()))
            }
            Ok(Err(stopped)) => Err(self.trip_silently(stopped.check, &stopped.reason)),
            Err(_) => Err(self.trip_silently("log.storage", "the log's thread ended")),
        }
    }

    /// Signs an entry of this authority's log.
    pub(super) fn sign(&self, kind: Kind, subject: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let signed = statement::sign(kind, &*self.signer.key()?, self.origin(), subject, payload);
        signed.map_err(|error| Failure::Internal(error.to_string()))
    }

    /// Trips without a trip entry, because the log is unavailable.
    pub(crate) fn trip_silently(&self, check: &str, why: &str) -> Failure {
        let tripped = Stopped::tripped(check, why);
        drop(self.signer.trip(tripped.clone()));
        self.metrics.tripped.set(1);
        tracing::error!(check, why, "tripped");
        Failure::Stopped(tripped)
    }

    /// Stops signing permanently. The trip entry is the last signature.
    pub(crate) async fn trip(&self, check: &str, why: &str) {
        let Some(key) = self.signer.trip(Stopped::tripped(check, why)) else { return };
        self.metrics.tripped.set(1);
        tracing::error!(check, why, "tripped");
        self.events.send(EventKind::Trip, &key, self.origin());
        let payload = TripRecord { time: clock::now(), check: check.into(), why: why.into() }.encode();
        if let Ok(entry) = statement::sign(Kind::Trip, &key, self.origin(), check, &payload) {
            // The trip holds even if the log fails as well.
            drop(self.append(entry, Vec::new(), None).await);
        }
    }

    /// Logs a gate's report about a permit that it holds.
    pub(crate) async fn record_execution(&self, report: &[u8]) -> Result<(), Failure> {
        let (execution, gate) = Execution::verify(report).map_err(Failure::Malformed)?;
        if self.ledger().confirmation(&execution.permit) != Some(*gate.thumbprint()) {
            let why = format!("permit {} is not one of this gate", execution.permit);
            return Err(Failure::Refused(Refused::new("execution.permit", why)));
        }
        let subject = execution.permit.to_string();
        let entry = self.sign(Kind::ExecutionRecord, &subject, report)?;
        self.append(entry, Vec::new(), None).await.map(|_| ())
    }

    /// Writes the boot entry: the running image, its bundle and its attestation. Every
    /// decision of this process names the entry.
    pub(crate) async fn log_boot(&self, result: &[u8], evidence: Vec<u8>) -> Result<()> {
        let (bundle, endorsement) = (self.bundle(), self.endorsement());
        let record = BootRecord {
            time: clock::now(),
            version: bundle.policy().version,
            bundle: *bundle.digest(),
            result: sha256(&[result]),
            evidence: sha256(&[&evidence]),
            endorsement: sha256(&[&endorsement.bytes]),
            software: env!("CARGO_PKG_VERSION").into(),
        };
        let key = self.signer.key().map_err(|stopped| anyhow::anyhow!("{}: {}", stopped.check, stopped.why))?;
        let entry = statement::sign(Kind::Boot, &key, self.origin(), "boot", &record.encode())?;
        let digest = sha256(&[&entry]);
        let archive = vec![
            result.to_vec().into(),
            evidence.into(),
            Blob::recurring(bundle.bytes().to_vec()),
            Blob::recurring(endorsement.bytes.clone()),
        ];
        let logged = self.append(entry, archive, None).await;
        logged.map_err(|failure| anyhow::anyhow!("{failure:?}")).context("boot entry")?;
        self.boot.set(digest).map_err(|_| anyhow::anyhow!("a second boot entry"))
    }

    /// Logs a snapshot of the ledger, so that a start need not read the whole log.
    pub(crate) async fn log_snapshot(&self) -> Result<(), Failure> {
        let (entries, state) = self.ledger().snapshot();
        let record = SnapshotRecord { time: clock::now(), entries, state: sha256(&[&state]) };
        let entry = self.sign(Kind::Snapshot, "snapshot", &record.encode())?;
        let logged = self.append(entry, vec![state.into()], None).await?;
        // Only a hint: if it is missing or old, the next start reads more entries.
        let hint = put_number(&*self.storage, recover::HINT, logged.index());
        hint.map_err(|error| Failure::Internal(error.to_string()))
    }

    /// Logs which evidence is removed from the archive, before it is removed.
    pub(crate) async fn log_retention(&self, record: &RetentionRecord) -> Result<(), Failure> {
        let entry = self.sign(Kind::Retention, "retention", &record.encode())?;
        self.append(entry, Vec::new(), None).await.map(|_| ())
    }

    /// Whether a new snapshot is due.
    pub(crate) fn snapshot_is_due(&self) -> bool {
        self.ledger().snapshot_is_due()
    }

    /// Denies a stranger without a separate log entry. The answer waits until the count is
    /// in the log.
    pub(super) async fn count_denial(&self, check: String, time: u64) -> Result<Answered, Failure> {
        let counted = self.strangers.count(check, time);
        match counted.await {
            Ok(()) => Err(Failure::Counted),
            Err(_) => Err(self.signer.tripped().map_or_else(|| Failure::Internal("not counted".into()), Failure::from)),
        }
    }

    /// Logs how many strangers were denied since the last time.
    pub(crate) async fn log_denial_counts(&self) -> Result<(), Failure> {
        // Checked first: counts that are taken while nothing can be signed would be lost.
        self.signer.key()?;
        let Some((record, waiting)) = self.strangers.take() else { return Ok(()) };
        let entry = self.sign(Kind::DenialCount, "denial-count", &record.encode())?;
        self.append(entry, Vec::new(), None).await?;
        for (check, count) in record.counts {
            self.metrics.denials.get_or_create(&ByCheck { check }).inc_by(count);
        }
        for waiting in waiting {
            // An error means that the client has disconnected.
            let _gone = waiting.send(());
        }
        Ok(())
    }
}
