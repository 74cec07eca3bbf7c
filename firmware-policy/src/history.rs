//! Past decisions, read from a log and its archive: their inputs, and whether deciding
//! again gives the same result.
//!
//! The archive is not trusted. Its bytes are used only after their digests match those
//! in the signed statement.

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
/// Revocation states that a decision may still refer to. A decision is made seconds,
/// not hours, before its log entry is written.
const STATES: usize = 64;

/// Why a past decision cannot be examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryError {
    /// Not a statement, or not one of its kind.
    Malformed(String),
    /// The archive lacks a part.
    Missing(&'static str),
    /// A part in the archive differs from the one that the statement names.
    Other(&'static str),
    /// The decision used a revocation state that the log does not show before it.
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

/// One decision with its inputs.
#[derive(Clone, Debug)]
pub struct PastDecision {
    /// Name of the node, as given in its request.
    pub node: String,
    /// Whether it was permitted.
    pub permitted: bool,
    /// Id of the permit, or the id that the permit would have had.
    pub id: PermitId,
    /// SHA-256 of the active bundle.
    pub bundle: Digest,
    /// SHA-256 of the evidence, as the statement says.
    pub evidence_digest: Digest,
    /// The encoded request.
    pub request: Vec<u8>,
    /// The evidence.
    pub evidence: Vec<u8>,
    /// The facts recorded with request and evidence.
    pub facts: RecordedFacts,
    /// The revocations at that time.
    pub revocations: Arc<Revocations>,
    /// The signed bytes: protected header and payload.
    pub signed: (Vec<u8>, Vec<u8>),
}

/// The revocation state at each place of a log that is being read.
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
    /// Takes the next entry. For a decision, `blobs` reads its parts from the archive in
    /// this order: request, evidence, facts and, for a permit, the attestation result.
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
        // Accept only parts that the signed statement names.
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

/// The result of deciding again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The same bytes.
    Same,
    /// Other bytes: the first check that failed, `None` for a permit.
    Other(Option<String>),
}

impl PastDecision {
    /// Decides again, under the bundle of that time, as the authority with this key would
    /// have signed it.
    ///
    /// # Errors
    /// [`HistoryError`]: the bundle or the evidence differs, or the request's signature
    /// does not verify.
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
        // This digest is not taken from the statement: the decision hashed the evidence
        // itself.
        if evidence != self.evidence_digest {
            return Err(other);
        }
        Ok(if again == self.signed { Replayed::Same } else { Replayed::Other(check) })
    }
}

/// The content of a decision's statement.
struct Decided {
    node: String,
    permitted: bool,
    id: PermitId,
    bundle: Digest,
    evidence: Digest,
    facts: Digest,
    /// SHA-256 of the attestation result; present for a permit.
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
