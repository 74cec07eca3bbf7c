//! Decisions out of an authority's journal, in order, with what governors had
//! withdrawn when each was made.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use portcullis_firmware_policy::{RecordedFacts, Revocations};
use portcullis_lineage::{ArchiveReader, ArchivedBatch, MAX_ENTRY};
use portcullis_permit::{Denial, Kind, Permit, PermitId, Quorum, Revocation};
use portcullis_wire::{Digest, Sign1, sha256};

/// States of the revocations that a decision may still refer to: it is made
/// before its entry is written, but seconds before, not hours.
const STATES: usize = 64;

/// One decision with what it was made of.
pub(super) struct Archived {
    pub(super) index: u64,
    pub(super) node: String,
    pub(super) permitted: bool,
    pub(super) request: Vec<u8>,
    pub(super) evidence: Vec<u8>,
    /// What the statement says is its SHA-256.
    pub(super) evidence_digest: Digest,
    pub(super) facts: RecordedFacts,
    pub(super) revocations: Arc<Revocations>,
}

/// An archive that is being read.
pub(super) struct Archive {
    reader: ArchiveReader<BufReader<File>>,
    length: u64,
    states: VecDeque<Arc<Revocations>>,
}

impl Archive {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("journal");
        let file = File::open(&path).with_context(|| format!("{}: the journal of an authority", path.display()))?;
        let length = file.metadata()?.len();
        let none = Arc::new(Revocations::default());
        let states = VecDeque::from([none]);
        Ok(Self { reader: ArchiveReader::new(BufReader::with_capacity(1 << 20, file)), length, states })
    }

    /// Length in bytes.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that were read.
    pub(super) const fn position(&self) -> u64 {
        self.reader.position()
    }

    /// The decisions of the next batch; `None` at the end.
    pub(super) fn next_batch(&mut self) -> Result<Option<Vec<Archived>>> {
        let Some(ArchivedBatch { first, entries, blobs }) = self.reader.next_batch()? else { return Ok(None) };
        let mut decisions = Vec::new();
        let mut blobs = blobs.into_iter();
        for (index, entry) in (first..).zip(&entries) {
            let decision = self.entry(index, entry, &mut blobs);
            decisions.extend(decision.with_context(|| format!("entry {index}"))?);
        }
        Ok(Some(decisions))
    }

    fn entry(
        &mut self,
        index: u64,
        entry: &[u8],
        blobs: &mut impl Iterator<Item = Vec<u8>>,
    ) -> Result<Option<Archived>> {
        let object = Sign1::parse(entry, MAX_ENTRY).context("not a statement")?;
        let payload = object.payload().unwrap_or_default();
        let decided = match Kind::of(&object) {
            Some(Kind::Permit) => Decided::permit(&Permit::decode(payload)?),
            Some(Kind::Denial) => Decided::denial(&Denial::unverified(entry)?),
            kind => {
                // What the authority archives with these.
                let beside = match kind {
                    Some(Kind::Genesis) => 3,
                    Some(Kind::Boot) => 2,
                    Some(Kind::Policy) => 1,
                    _ => 0,
                };
                (0..beside).for_each(|_| drop(blobs.next()));
                if kind == Some(Kind::Revocation) {
                    self.revoke(payload)?;
                }
                return Ok(None);
            }
        };
        self.decision(index, decided, blobs).map(Some)
    }

    /// The blobs of a decision follow on each other in the order in which the
    /// authority archives them; digests in the signed statement say that it is so.
    fn decision(&self, index: u64, decided: Decided, blobs: &mut impl Iterator<Item = Vec<u8>>) -> Result<Archived> {
        let mut next = |what: &str| blobs.next().with_context(|| format!("the archive has no {what}"));
        let (request, evidence, facts) = (next("request")?, next("evidence")?, next("facts")?);
        if decided.permitted {
            next("attestation result")?;
        }
        if PermitId::of_request(&request) != decided.id || sha256(&[&facts]) != decided.facts {
            bail!("the archive has another request than the statement names");
        }
        let facts = RecordedFacts::decode(&facts)?;
        let state = self.states.iter().rev().find(|state| state.digest() == facts.revocations());
        let revocations = state.context("decided under revocations that the log does not show before it")?;
        let revocations = Arc::clone(revocations);
        let Decided { node, permitted, evidence: evidence_digest, .. } = decided;
        Ok(Archived { index, node, permitted, request, evidence, evidence_digest, facts, revocations })
    }

    fn revoke(&mut self, payload: &[u8]) -> Result<()> {
        let command = Quorum::decode(payload, MAX_ENTRY)?;
        let command = Revocation::decode(command.unverified_document())?;
        let mut state = self.states.back().map(|state| Revocations::clone(state)).unwrap_or_default();
        state.apply(&command);
        self.states.push_back(Arc::new(state));
        if self.states.len() > STATES {
            self.states.pop_front();
        }
        Ok(())
    }
}

/// What a statement says of its decision.
struct Decided {
    node: String,
    permitted: bool,
    id: PermitId,
    evidence: Digest,
    facts: Digest,
}

impl Decided {
    fn permit(permit: &Permit) -> Self {
        let Permit { subject, id, evidence, channel, .. } = permit;
        Self { node: subject.clone(), permitted: true, id: *id, evidence: *evidence, facts: *channel }
    }

    fn denial(denial: &Denial) -> Self {
        let Denial { subject, id, evidence, facts, .. } = denial;
        Self { node: subject.clone(), permitted: false, id: *id, evidence: *evidence, facts: *facts }
    }
}
