//! The meaning of a bundle: domain types, each checked once when it is read.

mod events;
mod floor;
mod index;
mod node;
mod reading;
mod reference;
mod witnesses;

use std::collections::{BTreeMap, BTreeSet};

use portcullis_attest::binding::Role;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::tpm::pcr::Selection;
use portcullis_permit::{Clock, DEFAULT_SKEW, MAX_SKEW};
use portcullis_wire::Digest;

pub use events::AllowedEvent;
pub(crate) use events::NO_PHASE;
pub use floor::{Floor, Floors, TcbKind};
pub use node::{KnownWorkload, Node};
pub(crate) use reference::AllowLists;
pub use reference::{BootRule, ImaRule, Reference, UkiRule};
pub use witnesses::Witnesses;

use crate::document::{self, Document, Requirement};
use crate::finding::Finding;
use crate::nonce;
use index::Index;
use reading::Reading;

/// Seconds in a year, the longest period for a permit with its renewals.
const YEAR: u64 = 366 * 86_400;
/// Seconds of a day.
const DAY: u64 = 86_400;

/// A rule for a field of fixed size. A field is unrestricted only by explicit choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldRule<const N: usize> {
    /// Any value.
    Any,
    /// Exactly this value.
    Exactly([u8; N]),
}

impl<const N: usize> FieldRule<N> {
    /// Whether a value satisfies the rule.
    #[must_use]
    pub fn admits(&self, value: &[u8; N]) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(required) => required == value,
        }
    }

    /// The required value, if there is one.
    #[must_use]
    pub const fn required(&self) -> Option<[u8; N]> {
        match self {
            Self::Any => None,
            Self::Exactly(value) => Some(*value),
        }
    }
}

/// A period of time, Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its start.
    pub from: u64,
    /// Its end, exclusive.
    pub until: u64,
}

impl Span {
    /// Whether a clock is in the period. The tolerance applies to its start; its end is
    /// exact.
    #[must_use]
    pub const fn contains(self, clock: Clock) -> bool {
        clock.has_reached(self.from) && clock.now < self.until
    }
}

/// The content of a bundle, except its Cedar policies and collateral.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the document")]
pub struct Policy {
    pub authority: String,
    pub version: u64,
    pub predecessor: Option<Digest>,
    pub valid: Span,
    pub classes: Vec<EvidenceClass>,
    pub lease_seconds: u64,
    pub status_seconds: u64,
    pub evidence_seconds: u64,
    pub renewal_seconds: u64,
    /// The time by which two clocks may differ.
    pub clock_skew: u64,
    /// Unlimited where absent.
    pub evidence_kept_seconds: Option<u64>,
    /// The witnesses whose cosignatures gates demand; where absent, gates demand no
    /// cosignature.
    pub witnesses: Option<Witnesses>,
    pub distrusted_generations: BTreeSet<Generation>,
    pub distrusted_veks: BTreeSet<Digest>,
    pub distrusted_chips: BTreeSet<[u8; 64]>,
    pub platform: document::Platform,
    pub floors: BTreeMap<Generation, Floors>,
    pub nodes: BTreeMap<String, Node>,
    pub workloads: BTreeMap<Digest, KnownWorkload>,
    /// Names of the auditors that may read the log, by SHA-256 of their keys.
    pub auditors: BTreeMap<Digest, String>,
    references: Vec<Reference>,
    index: Index,
    selections: [Selection; 2],
}

impl Policy {
    /// Reads the policy from a document and its reference values, each with the name of its
    /// file.
    ///
    /// # Errors
    /// Every [`Finding`], without lines.
    pub fn read(
        document: &Document,
        references: &[(String, document::Reference)],
        lists: &BTreeMap<String, portcullis_attest::ima::AllowList>,
    ) -> Result<Self, Vec<Finding>> {
        let mut findings = Vec::new();
        let policy = read(document, references, lists, &mut findings);
        policy.filter(|_| findings.is_empty()).ok_or(findings)
    }

    /// A clock with the tolerance of this policy. `now` is in Unix seconds.
    #[must_use]
    pub const fn clock(&self, now: u64) -> Clock {
        Clock { now, skew: self.clock_skew }
    }

    /// All reference values, in the order of their files.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The reference values of a role that a launch measurement names.
    pub fn by_measurement(&self, role: Role, measurement: &[u8; 48]) -> impl Iterator<Item = &Reference> {
        self.index.by_measurement(role, measurement).filter_map(|at| self.references.get(at))
    }

    /// The reference values of a role that some PCR in `value` matches: the lowest PCR that
    /// they name has one of their allowed values.
    pub fn by_pcr(&self, role: Role, value: impl Fn(u8) -> Option<Digest>) -> impl Iterator<Item = &Reference> {
        self.index.by_pcr(role, value).into_iter().filter_map(|at| self.references.get(at))
    }

    /// The PCRs that a machine in this role must quote: all that its reference values use,
    /// SHA-256 bank, ascending. The challenge is sent before the image of the machine is
    /// known.
    #[must_use]
    pub const fn selection(&self, role: Role) -> &Selection {
        let [authority, node] = &self.selections;
        match role {
            Role::Authority => authority,
            Role::Node => node,
        }
    }
}

/// Whether a required property holds.
#[must_use]
pub(crate) const fn satisfied(requirement: Requirement, holds: bool) -> bool {
    match requirement {
        Requirement::Required => holds,
        Requirement::Optional => true,
    }
}

fn read(
    document: &Document,
    references: &[(String, document::Reference)],
    lists: &AllowLists,
    findings: &mut Vec<Finding>,
) -> Option<Policy> {
    let mut reading = Reading { file: document::FILE, findings };
    let authority = reading.name("authority", &document.authority, false);
    let predecessor = match &document.predecessor {
        Some(text) => reading.hex("predecessor", text).map(Some),
        None => Some(None),
    };
    let (from, until) = (reading.time("not_before", &document.not_before), reading.time("expires", &document.expires));
    // Unreadable values were noted; read the rest too.
    let valid = Span { from: from.unwrap_or(0), until: until.unwrap_or(u64::MAX) };
    if valid.from >= valid.until {
        reading.refuse("expires", "is not after not_before", "give the bundle a time in which it is valid");
    }
    let limits = document.limits;
    let lease_seconds = reading.number("limits.lease_seconds", limits.lease_seconds, 2, 3600);
    let status_seconds = reading.number("limits.status_seconds", limits.status_seconds, 1, limits.lease_seconds);
    let evidence_seconds = reading.number("limits.evidence_seconds", limits.evidence_seconds, 1, nonce::LIFETIME);
    let renewal_seconds = reading.number("limits.renewal_seconds", limits.renewal_seconds, limits.lease_seconds, YEAR);
    let skew = limits.clock_skew_seconds.unwrap_or(DEFAULT_SKEW);
    let clock_skew = reading.number("limits.clock_skew_seconds", skew, 1, MAX_SKEW);
    let kept = limits.evidence_kept_seconds;
    let kept = kept.map(|kept| reading.number("limits.evidence_kept_seconds", kept, DAY, YEAR.saturating_mul(100)));
    let evidence_kept_seconds = kept.flatten();
    let classes: Vec<EvidenceClass> =
        document.classes.iter().filter_map(|word| reading.word("classes", word, &node::CLASSES)).collect();
    if document.classes.is_empty() {
        reading.refuse("classes", "is empty", "name the evidence classes that are admitted, such as \"snp+tpm\"");
    }
    let generations = document.distrust.generations.iter();
    let distrusted_generations =
        generations.filter_map(|word| reading.word("distrust.generations", word, &floor::GENERATIONS)).collect();
    let veks = document.distrust.veks.iter();
    let distrusted_veks = veks.filter_map(|text| reading.hex("distrust.veks", text)).collect();
    let chips = document.distrust.chips.iter();
    let distrusted_chips = chips.filter_map(|text| reading.hex("distrust.chips", text)).collect();
    let witnesses = document.witnesses.as_ref().and_then(|given| witnesses::read(given, &mut reading));
    let floors = floor::read(&document.floors, &mut reading);
    let nodes = node::read_nodes(&document.nodes, &classes, &mut reading);
    let workloads = node::read_workloads(&document.workloads, &mut reading);
    let auditors = read_auditors(&document.auditors, &mut reading);
    let references = read_references(references, valid, lists, findings);
    let needed = |role: Role| {
        let of_role = references.iter().filter(move |r| r.role == role);
        Selection::sha256(of_role.flat_map(Reference::needed_pcrs).collect::<BTreeSet<u8>>())
    };
    Some(Policy {
        authority: authority?,
        version: document.version,
        predecessor: predecessor?,
        valid,
        classes,
        lease_seconds: lease_seconds?,
        status_seconds: status_seconds?,
        evidence_seconds: evidence_seconds?,
        renewal_seconds: renewal_seconds?,
        clock_skew: clock_skew?,
        evidence_kept_seconds,
        witnesses,
        distrusted_generations,
        distrusted_veks,
        distrusted_chips,
        platform: document.platform,
        floors,
        nodes,
        workloads,
        auditors,
        selections: [needed(Role::Authority), needed(Role::Node)],
        index: Index::of(&references),
        references,
    })
}

fn read_auditors(auditors: &[document::Auditor], reading: &mut Reading<'_>) -> BTreeMap<Digest, String> {
    let mut all = BTreeMap::new();
    for (at, auditor) in auditors.iter().enumerate() {
        let (name, key) = (format!("auditor[{at}].name"), format!("auditor[{at}].key"));
        let digest = reading.hex(&key, &auditor.key);
        if let Some((name, digest)) = reading.name(&name, &auditor.name, false).zip(digest) {
            reading.unique(&key, &mut all, digest, name, &auditor.key);
        }
    }
    all
}

fn read_references(
    references: &[(String, document::Reference)],
    valid: Span,
    lists: &AllowLists,
    findings: &mut Vec<Finding>,
) -> Vec<Reference> {
    let (mut all, mut names) = (Vec::new(), BTreeMap::new());
    for (file, reference) in references {
        let mut reading = Reading { file, findings };
        reading.unique("name", &mut names, &reference.name, (), &reference.name);
        all.extend(reference::read(reference, valid, lists, &mut reading));
    }
    all
}
