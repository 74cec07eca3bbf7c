//! Permits and denials: each is decided, signed and logged before it is answered.

use std::sync::Arc;

use portcullis_attest::evidence::Evidence;
use portcullis_firmware_policy::{Decision, Facts, SeenState, decide};
use portcullis_lineage::Blob;
use portcullis_permit::{Checkpoint, PermitError, ReceivedRequest, TransparentPermit};

use super::{Answered, Authority, Failure, Session};
use crate::clock;
use crate::metrics::ByCheck;
use crate::signer::Stopped;

impl Authority {
    /// Decides on a request: the decision is in the log before it is answered.
    pub(crate) async fn decide(&self, body: &[u8], session: Session) -> Result<Answered, Failure> {
        let now = clock::now();
        if let Some(stopped) = self.withheld(now) {
            return Err(stopped.into());
        }
        let received = ReceivedRequest::verify(body).map_err(Failure::Malformed)?;
        let bundle = self.bundle();
        if let Err(expired) = bundle.check_time(now) {
            self.trip(expired.check(), &expired.to_string()).await;
            return Err(Stopped::tripped(expired.check(), expired.to_string()).into());
        }
        let (seen, seen_size) = self.judge_seen(received.request().seen.as_deref());
        let boot = *self.boot.get().ok_or_else(|| Failure::Internal("no boot entry".into()))?;
        let (facts_bytes, decision) = {
            let mut ledger = self.ledger();
            let until = now.saturating_add(bundle.policy().lease_seconds);
            let parent = ledger.parent(received.request().parent, bundle.policy().clock(now));
            let status = ledger.reserve_index(now, until).ok_or(Failure::OverBudget)?;
            let revocations = Arc::clone(ledger.revocations());
            drop(ledger);
            let reserved = status.clone();
            let facts = Facts {
                time: now,
                issuer: self.origin(),
                boot,
                statement: session.statement,
                nonce: session.nonce,
                channel: session.channel,
                activation: session.activation,
                seen,
                parent,
                revocations: &revocations,
                status,
            };
            let decision = decide(&received, &facts, &bundle);
            if matches!(decision, Decision::Denied(_)) {
                self.ledger().release_index(&reserved);
            }
            (facts.encode(&received), decision)
        };
        let answered = self.issue(&received, decision, facts_bytes, seen_size).await;
        if seen == SeenState::Contradicted {
            self.trip_on_fork(received.request().seen.as_deref()).await;
        }
        answered
    }

    /// Signs a decision, appends it, and answers with the receipt.
    async fn issue(
        &self,
        received: &ReceivedRequest,
        decision: Decision,
        facts: Vec<u8>,
        seen: Option<u64>,
    ) -> Result<Answered, Failure> {
        let signing = |error: PermitError| Failure::Internal(error.to_string());
        let mut archive: Vec<Blob> =
            vec![received.encoded().to_vec().into(), evidence_blob(received.evidence()), facts.into()];
        match decision {
            Decision::Authorized { permit, result } => {
                let signed = permit.sign(&*self.signer.key()?).map_err(signing)?;
                archive.push(result.bytes().to_vec().into());
                for warning in result.warnings() {
                    let check = warning.check.clone();
                    self.metrics.warnings.get_or_create(&ByCheck { check }).inc();
                }
                let committed = self.append(signed.clone(), archive, seen).await?;
                self.metrics.permits.inc();
                let witnessed = self.vouched.for_tree(self.writer.view(), committed.checkpoint().size());
                let receipts = committed.receipts().map_err(|error| Failure::Internal(error.to_string()))?;
                TransparentPermit::attach(&signed, receipts, witnessed.as_ref()).map(Answered::Permit).map_err(signing)
            }
            Decision::Denied(denial) => {
                let check = denial.refusals.first().map_or_else(String::new, |r| r.check.clone());
                let archived: usize = archive.iter().map(|blob| blob.bytes().len()).sum();
                if denial.is_of_stranger() && !self.strangers.may_be_logged(archived) {
                    return self.count_denial(check, denial.time).await;
                }
                let signed = denial.sign(&*self.signer.key()?).map_err(signing)?;
                let committed = self.append(signed.clone(), archive, seen).await?;
                self.metrics.denials.get_or_create(&ByCheck { check }).inc();
                let receipts = committed.receipts().map_err(|error| Failure::Internal(error.to_string()))?;
                TransparentPermit::attach(&signed, receipts, None).map(Answered::Denial).map_err(signing)
            }
        }
    }

    /// Whether the log extends the checkpoint that a node has stored.
    fn judge_seen(&self, note: Option<&str>) -> (SeenState, Option<u64>) {
        let Some(note) = note else { return (SeenState::None, None) };
        match Checkpoint::unverified(note) {
            Some((size, root))
                if self.writer.view().with_tree(|tree| tree.root_at(size)).is_ok_and(|own| own == root) =>
            {
                (SeenState::Extended, Some(size))
            }
            _ => (SeenState::Contradicted, None),
        }
    }

    /// A contradiction trips the authority only with proof: the note carries our own
    /// signature.
    async fn trip_on_fork(&self, note: Option<&str>) {
        let key = &self.endorsement().endorsement.checkpoint_key;
        if let Some(Ok(checkpoint)) = note.map(|note| Checkpoint::verify(note, key)) {
            self.trip("log.fork", &format!("a node has our checkpoint of size {}", checkpoint.size())).await;
        }
    }
}

/// Evidence for the archive: parts that repeat in every evidence of a machine are
/// stored once.
fn evidence_blob(evidence: &[u8]) -> Blob {
    let recurring = Evidence::parse(evidence).map(|evidence| evidence.recurring()).unwrap_or_default();
    Blob::with_shared(evidence.to_vec(), recurring)
}
