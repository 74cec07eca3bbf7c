//! Decisions of the past, out of a log and its archive: what they were made of,
//! and whether they come out again.
//!
//! The bytes come from an archive that anybody may have had in hands. What the
//! signed statement says of their digests is compared before they are used.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use portcullis_permit::{
    Denial, Kind, Permit, PermitError, PermitId, PublicKey, Quorum, ReceivedRequest, Revocation, SuccessionRecord,
    statement,
};
use portcullis_wire::{Digest, Error, Sign1, sha256};

use crate::bundle::VerifiedBundle;
use crate::decide::{Decision, RecordedFacts, decide};
use crate::revocations::Revocations;

/// Largest entry of a log, in bytes (C2SP tlog-tiles).
const MAX_ENTRY: usize = 65_535;
/// States of the revocations that a decision may still refer to: it is made
/// before its entry is written, but seconds before, not hours.
const STATES: usize = 64;

/// Why a decision of the past cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryError {
    /// Not a statement, or not of its kind.
    Malformed(String),
    /// The archive lacks a part.
    Missing(&'static str),
    /// The archive has another part than the statement names.
    Other(&'static str),
    /// It was decided under revocations that the log does not show before it.
    Revocations,
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "not a statement of this log: {why}"),
            Self::Missing(what) => write!(f, "the archive has no {what}"),
            Self::Other(what) => write!(f, "the archive has another {what} than the statement names"),
            Self::Revocations => f.write_str("decided under revocations that the log does not show before it"),
        }
    }
}

impl std::error::Error for HistoryError {}

impl From<Error> for HistoryError {
    fn from(error: Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<PermitError> for HistoryError {
    fn from(error: PermitError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// One decision with what it was made of.
#[derive(Clone, Debug)]
pub struct PastDecision {
    /// Node that asked, as it called itself.
    pub node: String,
    /// Whether it was permitted.
    pub permitted: bool,
    /// Id of the permit, or the one that it would have had.
    pub id: PermitId,
    /// SHA-256 of the bundle that ruled.
    pub bundle: Digest,
    /// SHA-256 of the evidence, as the statement says.
    pub evidence_digest: Digest,
    /// The encoded request.
    pub request: Vec<u8>,
    /// The evidence.
    pub evidence: Vec<u8>,
    /// What was recorded beside them.
    pub facts: RecordedFacts,
    /// What governors had withdrawn.
    pub revocations: Arc<Revocations>,
    /// What was signed: protected header and payload.
    pub signed: (Vec<u8>, Vec<u8>),
}

/// What governors had withdrawn at each place of a log that is being read.
#[derive(Clone, Debug)]
pub struct History {
    states: VecDeque<Arc<Revocations>>,
}

impl Default for History {
    fn default() -> Self {
        Self { states: VecDeque::from([Arc::default()]) }
    }
}

impl History {
    /// Takes the next entry. For a decision, `blobs` gets what the archive has
    /// for it: request, evidence, facts, and of a permit the attestation result,
    /// in this order.
    ///
    /// # Errors
    /// [`HistoryError`], or that of `blobs`.
    pub fn take<E: From<HistoryError>>(
        &mut self,
        entry: &Sign1,
        blobs: impl FnOnce() -> Result<Vec<Vec<u8>>, E>,
    ) -> Result<Option<PastDecision>, E> {
        let payload = entry.payload().unwrap_or_default();
        let decided = match Kind::of(entry) {
            Some(Kind::Permit) => Decided::permit(&Permit::decode(payload).map_err(HistoryError::from)?),
            Some(Kind::Denial) => Decided::denial(&Denial::read(entry).map_err(HistoryError::from)?),
            Some(Kind::Revocation) => {
                self.revoke(payload)?;
                return Ok(None);
            }
            Some(Kind::Rotation | Kind::Recovery) => {
                let record = SuccessionRecord::decode(payload).map_err(HistoryError::from)?;
                self.change(|state| state.inherit(record.inherited.unwrap_or_default()));
                return Ok(None);
            }
            _ => return Ok(None),
        };
        let signed = (entry.protected_bytes().to_vec(), payload.to_vec());
        Ok(self.decision(decided, signed, blobs()?).map(Some)?)
    }

    fn decision(
        &self,
        decided: Decided,
        signed: (Vec<u8>, Vec<u8>),
        blobs: Vec<Vec<u8>>,
    ) -> Result<PastDecision, HistoryError> {
        let mut blobs = blobs.into_iter();
        let mut next = |what| blobs.next().ok_or(HistoryError::Missing(what));
        let (request, evidence, facts) = (next("request")?, next("evidence")?, next("facts")?);
        if PermitId::of_request(&request) != decided.id {
            return Err(HistoryError::Other("request"));
        }
        if sha256(&[&facts]) != decided.facts {
            return Err(HistoryError::Other("record of facts"));
        }
        // Nothing that the signed statement does not name.
        let result = blobs.next();
        if result.is_some_and(|result| decided.result != Some(sha256(&[&result]))) || blobs.next().is_some() {
            return Err(HistoryError::Other("attestation result"));
        }
        let facts = RecordedFacts::decode(&facts)?;
        let state = self.states.iter().rev().find(|state| state.digest() == facts.revocations());
        let revocations = Arc::clone(state.ok_or(HistoryError::Revocations)?);
        let Decided { node, permitted, id, bundle, evidence: evidence_digest, .. } = decided;
        Ok(PastDecision { node, permitted, id, bundle, evidence_digest, request, evidence, facts, revocations, signed })
    }

    fn revoke(&mut self, payload: &[u8]) -> Result<(), HistoryError> {
        let malformed = |error: portcullis_permit::GovernanceError| HistoryError::Malformed(error.to_string());
        let command = Quorum::decode(payload, MAX_ENTRY).map_err(malformed)?;
        let command = Revocation::decode(command.unverified_document()).map_err(malformed)?;
        self.change(|state| state.apply(&command));
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(&mut Revocations)) {
        let mut state = self.states.back().map(|state| Revocations::clone(state)).unwrap_or_default();
        change(&mut state);
        self.states.push_back(Arc::new(state));
        if self.states.len() > STATES {
            self.states.pop_front();
        }
    }
}

/// What a decision came to, made once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The same bytes.
    Same,
    /// Other bytes: the first check that failed, none for a permit.
    Other(Option<String>),
}

impl PastDecision {
    /// Decides again, under the bundle that ruled, as the authority with this key
    /// would have signed it.
    ///
    /// # Errors
    /// [`HistoryError`]: the bundle or the evidence is another, or the request's
    /// signature does not verify.
    pub fn replay(&self, bundle: &VerifiedBundle, key: &PublicKey) -> Result<Replayed, HistoryError> {
        if *bundle.digest() != self.bundle {
            return Err(HistoryError::Other("bundle"));
        }
        let other = HistoryError::Other("evidence");
        let received = match ReceivedRequest::rejoin(self.facts.envelope(), &self.request, &self.evidence) {
            Err(_) if sha256(&[&self.evidence]) != self.evidence_digest => return Err(other),
            received => received?,
        };
        let facts = self.facts.with(&self.revocations).ok_or(HistoryError::Revocations)?;
        let header = |kind, subject: &str| statement::protected(kind, key, facts.issuer, subject);
        let (again, evidence, check) = match decide(&received, &facts, bundle) {
            Decision::Authorized { permit, .. } => {
                ((header(Kind::Permit, &permit.subject), permit.encode()), permit.evidence, None)
            }
            Decision::Denied(denial) => (
                (header(Kind::Denial, &denial.subject), denial.encode()),
                denial.evidence,
                denial.refusals.into_iter().next().map(|refusal| refusal.check),
            ),
        };
        // The decision has hashed the evidence: the digest is its own.
        if evidence != self.evidence_digest {
            return Err(other);
        }
        Ok(if again == self.signed { Replayed::Same } else { Replayed::Other(check) })
    }
}

/// What a statement says of its decision.
struct Decided {
    node: String,
    permitted: bool,
    id: PermitId,
    bundle: Digest,
    evidence: Digest,
    facts: Digest,
    /// SHA-256 of the attestation result, of a permit.
    result: Option<Digest>,
}

impl Decided {
    fn permit(permit: &Permit) -> Self {
        let Permit { subject, id, bundle, evidence, channel, result, .. } = permit;
        Self {
            node: subject.clone(),
            permitted: true,
            id: *id,
            bundle: *bundle,
            evidence: *evidence,
            facts: *channel,
            result: Some(*result),
        }
    }

    fn denial(denial: &Denial) -> Self {
        let Denial { subject, id, bundle, evidence, facts, .. } = denial;
        Self {
            node: subject.clone(),
            permitted: false,
            id: *id,
            bundle: *bundle,
            evidence: *evidence,
            facts: *facts,
            result: None,
        }
    }
}
